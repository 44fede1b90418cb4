"""Is the new index as quick as the old one, and quick enough?

Beside the old one the searches alone are compared: both arms of an observation, at the same time through the
same pool. What a model takes for a query is the goal's business, with the search: other model, other time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from revec.migrate.evidence import LATENCY, Evidence, quantile
from revec.migrate.gates.base import Case, shadowed
from revec.model.verdict import Outcome, Verdict
from revec.search.arms import Outcome as Came

if TYPE_CHECKING:
    from revec.statistics.guards import RateWatch

MARGIN = 1.10  # times as long
SEARCH_GOAL, WHOLE_GOAL = 0.5, 1.0  # seconds, of the 95th percentile
BLOCK = 100  # pairs; the first ones only say what is slow
ALPHA = 0.05
TIMED = {Came.OK, Came.EMPTY, Came.TIMEOUT}


async def judge(case: Case) -> Verdict:
    seen = await shadowed(case)
    if seen is None:
        return Verdict(LATENCY, Outcome.NOT_CONFIGURED, "no migration reads both indexes")
    rows = [row for row in seen.rows if {row.again_outcome, row.new_outcome} <= TIMED]
    shown = figures(rows)
    if why := seen.doubt or (None if rows else "no pair of arms was timed yet"):
        return Verdict(LATENCY, Outcome.INCONCLUSIVE, why, shown)
    quicker, slower, late = _watched(rows)
    shown |= {"n": len(rows), "discordant": quicker.n, "slow alone": quicker.hits}
    shown |= {f"{goal} capital": round(watch.capital, 3) for goal, watch in late.items()}
    told = _told(shown)
    if slower.enough:
        return Verdict(LATENCY, Outcome.FAILED, f"slower by more than {MARGIN - 1:.0%}: {told}", shown)
    for goal, watch in late.items():
        if watch.above and watch.enough:
            return Verdict(LATENCY, Outcome.FAILED, f"p95 is above its goal of {goal}: {told}", shown)
    lacking = [] if quicker.enough else [f"that it is not slower by {MARGIN - 1:.0%}"]
    lacking += [f"its goal of {goal}" for goal, watch in late.items() if not watch.above and not watch.enough]
    if lacking:
        return Verdict(
            LATENCY, Outcome.INCONCLUSIVE, f"cannot tell yet {' and '.join(lacking)}: {told}", shown
        )
    return Verdict(LATENCY, Outcome.PASSED, told, shown)


def _watched(rows: list[Any]) -> tuple[RateWatch, RateWatch, dict[str, RateWatch]]:
    """Proofs that new is not slower, and that it is; and of each goal that it is kept, or that it is not.

    A threshold is the old arm's percentile in the pairs before, so that no pair has a say in its own bar.
    """
    import numpy as np

    from revec.statistics.guards import EVEN, SLOW, discordant, guard, proof_below

    old = np.array([row.again_search for row in rows], dtype=np.float64)
    new = np.array([row.new_search for row in rows], dtype=np.float64)
    whole = new + np.array([row.new_embed for row in rows], dtype=np.float64)
    quicker, slower = proof_below(EVEN, ALPHA), guard(EVEN, ALPHA, span=len(rows) + 1)
    for begin in range(BLOCK, len(rows), BLOCK):
        threshold = float(np.quantile(old[:begin], 1 - SLOW))
        flags = discordant(old[begin : begin + BLOCK], new[begin : begin + BLOCK], threshold, MARGIN)
        quicker, slower = quicker.after(flags), slower.after(flags)
    late = {}
    for goal, times, most in (("search", new, SEARCH_GOAL), ("embedding and search", whole, WHOLE_GOAL)):
        kept = proof_below(SLOW, ALPHA).after(times > most)
        missed = guard(SLOW, ALPHA, span=len(rows) + 1).after(times > most)
        late[f"{1000 * most:.0f} ms for {goal}"] = missed if missed.enough else kept
    return quicker, slower, late


def figures(rows: list[Any]) -> dict[str, Any]:
    """Milliseconds, of both arms, their embedding apart."""
    found: dict[str, Any] = {}
    for arm in ("again", "new"):
        for part in ("embed", "search"):
            times = [1000 * getattr(row, f"{arm}_{part}") for row in rows]
            for name, share in (("p50", 0.5), ("p95", 0.95)):
                value = quantile(times, share)
                found[f"{arm} {part} {name}"] = None if value is None else round(value, 2)
    return found


def _told(shown: dict[str, Any]) -> str:
    return (
        f"p95 of searches {shown['new search p95']:.1f} ms beside {shown['again search p95']:.1f} ms, "
        f"embedding {shown['new embed p95']:.1f} ms, {shown['n']:,} pairs"
    )


def of(seen: Evidence) -> dict[str, Any]:
    """The same figures of all that was observed."""
    return figures([row for row in seen.rows if {row.again_outcome, row.new_outcome} <= TIMED])
