"""What a load took, beside what its plan said: kept with the move that ends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from revec.model.migration import Migration, State
from revec.postgres import indexes, migrations
from revec.postgres.database import Connection
from revec.postgres.queries import beside
from revec.stores.base import Store
from revec.work.queue import BACKFILL, JIT

SQL = beside(__file__)
STARTED, REALITY = "started", "reality"  # the event that a plan is the evidence of; and the key of what came
TOLERANCE = 0.15
SHORT = 5.0  # seconds: of a load that is planned to take less, the time says nothing
PAUSED = "paused"
LABELS = {"tokens": "tokens", "cost": "cost", "seconds": "time", "bytes_disk": "disk"}


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure. `within`: by TOLERANCE; None where it is not to be compared, and `told` says why."""

    what: str
    planned: float | None
    came: float | None
    within: bool | None
    told: str

    @property
    def difference(self) -> float | None:
        """Of what was planned: 0.1 is a tenth more."""
        if self.planned is None or self.came is None or not self.planned:
            return None
        return self.came / self.planned - 1

    @property
    def facts(self) -> dict[str, Any]:
        difference = self.difference
        return asdict(self) | {"difference": None if difference is None else round(difference, 4)}


async def measured(conn: Connection, store: Store, migration: Migration) -> dict[str, Any]:
    """What the load of a migration took, its index built: asked once, when it is over."""
    assert migration.new_index is not None
    paid = await (
        await conn.execute(SQL.paid, {"migration": migration.id, "lanes": [BACKFILL, JIT]})
    ).fetchone()
    assert paid is not None
    index = await indexes.by_id(conn, migration.new_index)
    began, loaded, paused = None, None, False
    for event in await migrations.events(conn, migration):
        if event.became == State.BACKFILLING:
            began = event.at
        if event.became == State.INDEXING:
            loaded = event.at
        paused = paused or (began is not None and event.became is None and PAUSED in event.why)
    return {
        **paid._asdict(),
        "documents": migration.seen,
        "seconds": (loaded - began).total_seconds() if began and loaded else None,
        "paused": paused,
        "throttled": paid.throttled,
        "bytes_disk": await store.bytes_stored(conn, index),
    }


def planned(moves: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """What the plan of this history said."""
    return next((move["evidence"] for move in moves if move["why"] == STARTED), {})


def compared(moves: Sequence[Mapping[str, Any]]) -> list[Compared]:
    """Of a history whose load is over; nothing before, nor of plans that an older version made."""
    plan = planned(moves)
    came = next((move["evidence"][REALITY] for move in moves if REALITY in move["evidence"]), None)
    if came is None or "tokens" not in plan:
        return []
    grown = _grown(plan["documents"], came["documents"])
    cost = plan["cost_batch"] if plan["patient"] else plan["cost"]
    return [
        _figure("tokens", plan["tokens"], came["tokens"], grown, at_most=plan["tokens_are_a_bound"]),
        _figure("cost", cost, came["cost"], grown, at_most=plan["tokens_are_a_bound"]),
        _figure("seconds", plan["seconds"], came["seconds"], grown or _interrupted(plan, came)),
        _figure("bytes_disk", plan["bytes_disk"], came["bytes_disk"], grown),
    ]


def _figure(
    what: str, planned: float | None, came: float | None, not_comparable: str, *, at_most: bool = False
) -> Compared:
    if planned is None or came is None:
        return Compared(
            what, planned, came, None, "nothing was planned" if planned is None else "not measured"
        )
    if not_comparable:
        return Compared(what, planned, came, None, not_comparable)
    if at_most:
        return Compared(what, planned, came, came <= planned, f"at most {_shown(what, planned)} was planned")
    if not planned:
        return Compared(what, planned, came, not came, "none was planned")
    off = came / planned - 1
    within = abs(off) <= TOLERANCE
    return Compared(what, planned, came, within, f"{off:+.1%} of {_shown(what, planned)} planned")


def _grown(then: int, now: int) -> str:
    if abs(now - then) <= 0.05 * then:
        return ""
    return f"the plan was of {then:,} documents, the load of {now:,}"


def _interrupted(plan: Mapping[str, Any], came: Mapping[str, Any]) -> str:
    if plan["patient"]:
        return "batches come when they come"
    if came["paused"] or came["throttled"]:
        return "it was paused meanwhile" if came["paused"] else "it was throttled"
    return "too short to say" if (plan["seconds"] or 0) < SHORT else ""


def told(facts: Mapping[str, Any]) -> str:
    """A line for a person, of a figure's facts."""
    came = "unknown" if facts["came"] is None else _shown(facts["what"], facts["came"])
    return f"{LABELS[facts['what']]} {came} ({facts['told']})"


def _shown(what: str, figure: float) -> str:
    match what:
        case "cost":
            return f"${figure:,.4f}"
        case "seconds":
            return f"{figure:,.1f} s"
        case "bytes_disk":
            return f"{figure / 2**20:,.1f} MB"
    return f"{figure:,.0f}"
