"""What a guard counts of requests: each a rate with a ceiling, watched at every look by an e-process.

Requests of one second are known by their counts, not in their order: misses are taken before hits, so that
nothing is noticed that the second as a whole does not show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from revec.model.index import Index
from revec.postgres import guards, traffic
from revec.postgres.database import Connection
from revec.postgres.traffic import KEPT, Second

TWICE = 2.0  # times what the old index had is too much
MOST = 0.5  # and no ceiling is higher
ENOUGH = 100  # requests of the old index that say what is usual
SLOWER = 1.5  # times the old index's 95th percentile is slow
SLOWER_BY = 20.0  # milliseconds, at least


@dataclass(frozen=True, slots=True)
class Before:
    """What the old index did lately."""

    requests: int
    errors: int
    timeouts: int
    empties: int
    slow_ms: float | None  # that 95% of its answers stayed below; None: nobody knows

    def rate(self, of: str) -> float | None:
        return getattr(self, of) / self.requests if self.requests >= ENOUGH else None


@dataclass(frozen=True, slots=True)
class Rate:
    name: str
    what: str
    ceiling: float  # or twice what the old index had, where that is more
    hits: Callable[[Second, float], tuple[int, int]]  # and of how many; by the bar in milliseconds
    by_comparison: bool = False  # without knowing the old index's there is nothing to hold it to


def _of(name: str) -> Callable[[Second, float], tuple[int, int]]:
    return lambda second, _: (getattr(second, name), second.requests)


RATES = (
    Rate("errors", "failed", 0.01, _of("errors")),
    Rate("timeouts", "were given up", 0.01, _of("timeouts")),
    Rate("empties", "found nothing", 0.05, _of("empties"), by_comparison=True),
    # Of an index that is as quick as the old one, fewer than one in twenty is above 1.5 times its percentile.
    Rate(
        "latency",
        "were slow",
        0.15,
        lambda second, bar: (sum(ms > bar for ms in second.ms), len(second.ms)),
        by_comparison=True,
    ),
)


async def before(conn: Connection, old: Index, collection_id: int) -> Before:
    """Of the last minutes; its times, where it answered too few, of the quiet times of the collection."""
    last = await traffic.lately(conn, old.id, KEPT)
    ms, n = await traffic.slow(conn, old.id)
    if n < ENOUGH:
        ms = await guards.calm(conn, collection_id)
    return Before(last.requests, last.errors, last.timeouts, last.empties, ms)


def begun(rate: Rate, old: Before | None) -> tuple[dict[str, Any] | None, float | None]:
    """Its watch at the start, and the milliseconds that are slow; None where it cannot be watched yet."""
    from revec.statistics.guards import guard

    if old is None:
        return None, None
    if rate.name == "latency":
        if old.slow_ms is None:
            return None, None
        bar = max(SLOWER * old.slow_ms, old.slow_ms + SLOWER_BY)
        return asdict(guard(rate.ceiling)), bar
    usual = old.rate(rate.name)
    if usual is None and rate.by_comparison:
        return None, None
    return asdict(guard(min(MOST, max(rate.ceiling, TWICE * (usual or 0.0))))), None


def after(rate: Rate, watch: dict[str, Any], bar: float | None, seconds: Sequence[Second]) -> dict[str, Any]:
    """The watch, these seconds later."""
    from revec.statistics.guards import RateWatch

    now = RateWatch(**watch)
    for second in seconds:
        hits, requests = rate.hits(second, bar or 0.0)
        now = now.after([False] * (requests - hits) + [True] * hits)
    return asdict(now)


def why(rate: Rate, watch: dict[str, Any], bar: float | None, name: str) -> str | None:
    """The sentence with value, bound and n; None while it is quiet."""
    if not watch["enough"]:
        return None
    slow = f" (above {bar:.0f} ms)" if bar else ""
    return (
        f"{watch['hits']:,} of {watch['n']:,} requests of {name} {rate.what}{slow}, "
        f"surely more than {watch['ceiling']:.3g} of them (alpha {watch['alpha']:g})"
    )
