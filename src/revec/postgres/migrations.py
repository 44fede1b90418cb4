"""The migration's record. `move` is the only way from one state to another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from revec.model.course import STRAIGHT_ON, Course
from revec.model.errors import Refused
from revec.model.index import Kind
from revec.model.judging import Quality
from revec.model.migration import FINAL, Migration, State, allowed
from revec.model.place import HERE, Place
from revec.model.reading import Mode
from revec.model.space import QueryRecipe, Space
from revec.model.verdict import Figures, Outcome, Verdict
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)
FIGURES = "figures"  # of a verdict, in its evidence
Evidence = Mapping[str, Any]


async def create(
    conn: Connection,
    *,
    collection_id: int,
    old_index: int | None,
    space: Space,
    query: QueryRecipe,
    kind: Kind,
    gates: tuple[str, ...],
    budget: Decimal | None = None,
    patient: bool = False,
    serve_early: bool = False,
    place: Place = HERE,
    judged: Quality | None = None,
    shadow: float | None = None,
    course: Course = STRAIGHT_ON,
    approvals: int = 1,
    guard_dead: str = "alarm",
) -> Migration:
    """A planned migration.

    Raises:
        Refused: another one of this collection is not over.
    """
    parameters = {
        "collection": collection_id,
        "old": old_index,
        "target": space.address,
        "space": space.id,
        "query": Jsonb(query.recipe),
        "kind": kind,
        "gates": list(gates),
        "budget": budget,
        "patient": patient,
        "serve_early": serve_early,
        "store": place.store,
        "place": place.name,
        "judged": None if judged is None else Jsonb(asdict(judged)),
        "shadow": shadow,
        "priority": list(course.priority),
        "tenants": list(course.tenants),
        "until": course.until,
        "approvals": approvals,
        "guard_dead": guard_dead,
    }
    try:
        row = await (await conn.execute(SQL.create, parameters)).fetchone()
    except psycopg.errors.UniqueViolation as error:
        raise Refused(
            "another migration of this collection is under way: "
            "`revec status` shows it, `revec abort` or `revec finish` ends it"
        ) from error
    assert row is not None
    return await by_id(conn, row.id)


async def by_id(conn: Connection, migration_id: int) -> Migration:
    row = await (await conn.execute(SQL.by_id, {"id": migration_id})).fetchone()
    assert row is not None
    return _migration(row)


async def active(conn: Connection, collection_id: int | None = None) -> list[Migration]:
    rows = await conn.execute(SQL.active, {"final": [*map(str, FINAL)], "collection": collection_id})
    return [_migration(row) for row in await rows.fetchall()]


async def latest(conn: Connection, collection_id: int) -> Migration | None:
    row = await (await conn.execute(SQL.latest, {"collection": collection_id})).fetchone()
    return None if row is None else _migration(row)


async def listed(conn: Connection, collection_id: int, limit: int) -> list[Migration]:
    """Of one collection, the newest first."""
    rows = await conn.execute(SQL.listed, {"collection": collection_id, "limit": limit})
    return [_migration(row) for row in await rows.fetchall()]


async def recipe(conn: Connection, migration: Migration) -> tuple[Space, QueryRecipe]:
    row = await (await conn.execute(SQL.recipe, {"id": migration.id})).fetchone()
    assert row is not None
    return Space(**row.recipe), QueryRecipe(**row.query)


async def move(
    conn: Connection,
    seen: Migration,
    to: State,
    *,
    who: str,
    why: str,
    evidence: Evidence | None = None,
) -> None:
    """From the state that the caller saw to another; the history hears of it.

    Raises:
        Refused: the table has no such arrow, or somebody else moved first.
    """
    if not allowed(seen.state, to):
        raise Refused(f"migration {seen.id} is {seen.state} and cannot become {to}")
    row = await (
        await conn.execute(
            SQL.move,
            {
                "id": seen.id,
                "seen": seen.state,
                "to": to,
                "who": who,
                "why": why,
                "evidence": Jsonb(dict(evidence or {})),
            },
        )
    ).fetchone()
    if row is None:
        raise await _moved(conn, seen)


async def stay(
    conn: Connection, seen: Migration, *, who: str, why: str, evidence: Evidence | None = None
) -> None:
    """Something that users notice happened within the state that the caller saw; the row is his to the end.

    Raises:
        Refused: somebody else moved it first.
    """
    asked = {
        "id": seen.id,
        "seen": seen.state,
        "who": who,
        "why": why,
        "evidence": Jsonb(dict(evidence or {})),
    }
    if await (await conn.execute(SQL.stay, asked)).fetchone() is None:
        raise await _moved(conn, seen)


async def _moved(conn: Connection, seen: Migration) -> Refused:
    """Who lost a race is told where the winner left it."""
    now = await (await conn.execute(SQL.now_at, {"id": seen.id})).fetchone()
    assert now is not None
    return Refused(
        f"migration {seen.id} is no longer {seen.state}: somebody else moved it, it is {now.state} at epoch "
        f"{now.epoch}; look again"
    )


async def note(conn: Connection, migration: Migration, evidence: Evidence) -> None:
    """Add to the evidence of the move just made."""
    await conn.execute(SQL.note, {"id": migration.id, "evidence": Jsonb(dict(evidence))})


async def tell(
    conn: Connection, migration: Migration, *, who: str, why: str, evidence: Evidence | None = None
) -> None:
    """Something happened within a state."""
    await conn.execute(
        SQL.tell,
        {"id": migration.id, "who": who, "why": why, "evidence": Jsonb(dict(evidence or {}))},
    )


async def events(conn: Connection, migration: Migration) -> list[Any]:
    return await (await conn.execute(SQL.events, {"id": migration.id})).fetchall()


async def set_new_index(conn: Connection, migration: Migration, index_id: int) -> None:
    await conn.execute(SQL.registered, {"id": migration.id, "index": index_id})


async def pause(conn: Connection, migration: Migration, why: str | None) -> None:
    await conn.execute(SQL.pause, {"id": migration.id, "why": why})


async def stop(conn: Connection, migration: Migration, why: str) -> bool:
    """Pause where its course ends; False where a person paused it, or gave it another end, meanwhile."""
    row = await conn.execute(SQL.stop, {"id": migration.id, "why": why, "until": migration.until})
    return row.rowcount > 0


async def set_until(conn: Connection, migration: Migration, until: float | None) -> None:
    await conn.execute(SQL.until, {"id": migration.id, "until": until})


async def set_tenants(conn: Connection, migration: Migration, tenants: Sequence[str]) -> None:
    """Whose backfill it is from the next page on; none named: everybody's."""
    await conn.execute(SQL.tenants, {"id": migration.id, "tenants": list(tenants)})
    await conn.execute(SQL.turns, {"id": migration.id})


async def set_budget(conn: Connection, migration: Migration, budget: Decimal) -> None:
    await conn.execute(SQL.budget, {"id": migration.id, "budget": budget})


async def latch(conn: Connection, migration: Migration, why: str) -> None:
    """A guard holds it until a person clears that; the first reason stands."""
    await conn.execute(SQL.latch, {"id": migration.id, "why": why})


async def guarded_back(conn: Connection, migration: Migration) -> None:
    await conn.execute(SQL.guarded_back, {"id": migration.id})


async def unhold(conn: Connection, migration: Migration) -> None:
    await conn.execute(SQL.unhold, {"id": migration.id})


async def drop_after(conn: Connection, migration: Migration, wait: timedelta | None) -> None:
    if wait is None:
        await conn.execute(SQL.keep_old, {"id": migration.id})
    else:
        await conn.execute(SQL.drop_at, {"id": migration.id, "seconds": wait.total_seconds()})


async def set_old_model(conn: Connection, migration: Migration, gone: str | None) -> None:
    await conn.execute(SQL.old_model, {"id": migration.id, "why": gone})


async def record(conn: Connection, migration: Migration, verdict: Verdict) -> None:
    if verdict.outcome is Outcome.FAILED:
        await lock(conn, migration)
    await conn.execute(
        SQL.verdict,
        {
            "id": migration.id,
            "gate": verdict.gate,
            "outcome": verdict.outcome,
            "why": verdict.why,
            "evidence": Jsonb(verdict.evidence | {FIGURES: asdict(verdict.figures)}),
        },
    )


async def verdicts(conn: Connection, migration: Migration) -> dict[str, tuple[Verdict, timedelta]]:
    """The standing verdict of each gate, and its age."""
    rows = await (await conn.execute(SQL.verdicts, {"id": migration.id})).fetchall()
    return {row.gate: (_verdict(row), timedelta(seconds=row.age)) for row in rows}


async def looked(conn: Connection, migration: Migration, gate: str) -> tuple[Verdict, timedelta, bool] | None:
    """The last look that was counted, its age, and whether a person cleared what came of it."""
    row = await (await conn.execute(SQL.looked, {"id": migration.id, "gate": gate})).fetchone()
    return None if row is None else (_verdict(row), timedelta(seconds=row.age), row.cleared)


async def undecided_looks(conn: Connection, migration: Migration) -> int:
    row = await (await conn.execute(SQL.undecided_looks, {"id": migration.id})).fetchone()
    assert row is not None
    return int(row.looks)


async def clear(conn: Connection, migration: Migration, gate: str, reason: str) -> bool:
    cleared = await conn.execute(SQL.clear, {"id": migration.id, "gate": gate, "reason": reason})
    return cleared.rowcount > 0


async def lock(conn: Connection, migration: Migration) -> None:
    """What is said of it from here on is said one after the other."""
    await conn.execute(SQL.lock, {"id": migration.id})


async def override(
    conn: Connection, migration: Migration, gate: str, *, reason: str, stood: Outcome | None
) -> None:
    """stood: what the gate says at this moment; None: nothing yet."""
    asked = {"id": migration.id, "gate": gate, "reason": reason, "stood": stood or Outcome.NOT_CONFIGURED}
    await conn.execute(SQL.override, asked)


async def sample_progress(conn: Connection, migration: Migration, done: int) -> None:
    await conn.execute(SQL.sample_progress, {"id": migration.id, "done": done})


async def rate(conn: Connection, migration: Migration) -> float | None:
    """Documents per second of late; None before two samples."""
    row = await (await conn.execute(SQL.rate, {"id": migration.id})).fetchone()
    return None if row is None or row.per_second is None else float(row.per_second)


def _migration(row: Any) -> Migration:
    fields = {name: getattr(row, name) for name in Migration.__dataclass_fields__}
    judged = row.judged and Quality(**row.judged | {"mode": Mode(row.judged["mode"])})
    lists = {name: tuple(fields[name]) for name in ("gates", "priority", "tenants")}
    overridden = {gate: said["reason"] for gate, said in row.overridden.items()}
    told = {"state": State(row.state), "judged": judged, "overridden": overridden}
    return Migration(**fields | lists | told)


def _verdict(row: Any) -> Verdict:
    evidence = dict(row.evidence)
    figures = Figures(**evidence.pop(FIGURES, {}))
    return Verdict(row.gate, Outcome(row.outcome), row.why, evidence, figures, row.at)
