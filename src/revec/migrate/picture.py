"""A migration as a person watches it: how far it is, what comes next, and what they may do, and why not.

Everything here is read, and bounded: the page and the terminal show it again and again.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from revec.migrate.outlook import Limits
from revec.migrate.planning.reality import STARTED
from revec.migrate.status import Status, status
from revec.model.index import Collection
from revec.model.migration import Migration, State
from revec.model.verdict import Outcome, Verdict
from revec.postgres import canaries, indexes, migrations, traffic
from revec.postgres.database import Connection, Database
from revec.postgres.queries import beside
from revec.stores.base import Store

SQL = beside(__file__)
MOST_TENANTS = 12
MOST_EVENTS = 50
LATELY = 600.0  # seconds of requests: as long as they are kept

Standing = Literal["done", "now", "ahead", "skipped"]
PATH = tuple(state for state in State if state is not State.ABORTED)
FILLING = {State.PLANNED, State.CAPTURING, State.BACKFILLING}
HELD_UP = "nothing holds it up: no pause, no guard's hold, no fault"


@dataclass(frozen=True, slots=True)
class Step:
    state: State
    standing: Standing


@dataclass(frozen=True, slots=True)
class Offer:
    """Something that a person may do now, or why not; `effect`: what it does."""

    verb: str
    allowed: bool
    why: str  # not; empty where it may be done
    effect: str


@dataclass(frozen=True, slots=True)
class Answered:
    """What one index answered in the last ten minutes."""

    index: str
    role: str
    requests: int
    errors: int
    timeouts: int
    empties: int
    p95_ms: float | None


@dataclass(frozen=True, slots=True)
class Tenant:
    name: str
    seen: int
    documents: int
    done: bool
    paused: bool
    priority: int


@dataclass(frozen=True, slots=True)
class Told:
    """A line of the history; `command`: what a person would type to do the same."""

    at: datetime
    who: str
    was: str | None
    became: str | None
    why: str
    command: str | None


@dataclass(frozen=True, slots=True)
class Picture:
    status: Status
    migration: Migration | None
    model: str | None = None  # by which queries are embedded for what serves
    steps: list[Step] = field(default_factory=list)
    offers: dict[str, Offer] = field(default_factory=dict)
    unmet: list[Verdict] = field(default_factory=list)  # required gates that have not passed
    eta: tuple[float, float] | None = None  # seconds: at the best and at the worst pace of late
    curve: list[tuple[datetime, int]] = field(default_factory=list)  # documents that were through
    tokens: int = 0
    calls: int = 0
    share: float | None = None  # of the users who see the new index
    coming: list[float] = field(default_factory=list)  # shares that a worker goes through by itself
    answered: list[Answered] = field(default_factory=list)
    tenants: list[Tenant] = field(default_factory=list)  # who lacks most
    tenants_all: int = 0
    tenants_through: int = 0
    events: list[Told] = field(default_factory=list)


async def picture(database: Database, store: Store, collection: Collection, limits: Limits) -> Picture:
    seen = await status(database, store, collection, limits)
    async with database.transaction("worker") as conn:
        migration = await migrations.latest(conn, collection.id)
        route = await indexes.route_of(conn, collection.id)
        serving = await indexes.by_id(conn, route.serving) if route.serving is not None else None
        model = serving.query.address if serving else None
        if migration is None:
            return Picture(seen, None, model)
        events = await _events(conn, migration, collection)
        kept = await canaries.of(conn, migration)
        tokens = await _one(conn, SQL.tokens, migration)
        made = Picture(
            status=seen,
            migration=migration,
            model=model,
            steps=steps(migration, await _visited(conn, migration)),
            offers=offers(seen, migration),
            unmet=unmet(seen, migration),
            eta=await _eta(conn, migration, seen),
            curve=[(row.at, row.done) for row in await _rows(conn, SQL.curve, {"id": migration.id})],
            tokens=tokens.tokens,
            calls=tokens.calls,
            share=route.share if migration.state is State.CANARY else None,
            coming=[*kept.steps] if kept is not None else [],
            answered=await _answered(conn, collection, migration),
            events=events,
        )
        return replace(made, **await _tenants(conn, migration))


def steps(migration: Migration, visited: set[str]) -> list[Step]:
    """Its way, with what it passed over: what it is given up at is the last one then."""
    at = migration.state
    path = [state for state in PATH if state is not State.SHADOWING or migration.shadow is not None]
    if at is State.ABORTED:
        gone = [Step(state, "done") for state in path if state in visited or state is State.PLANNED]
        return [*gone, Step(State.ABORTED, "now")]
    here = path.index(at)
    found: list[Step] = []
    for place, state in enumerate(path):
        standing: Standing = "ahead" if place > here else "now" if place == here else "done"
        if standing == "done" and state is not State.PLANNED and state not in visited:
            standing = "skipped"
        found.append(Step(state, standing))
    return found


def unmet(seen: Status, migration: Migration) -> list[Verdict]:
    return [
        gate for gate in seen.gates if gate.gate in migration.required and gate.outcome is not Outcome.PASSED
    ]


def offers(seen: Status, migration: Migration) -> dict[str, Offer]:
    """Every verb, in the order of a migration; each says what it does, and where it may not be done why."""
    state, name = migration.state, seen.collection
    over = f"the migration is {state}" if state.is_final else ""
    held = bool(migration.paused_why or migration.hold or any(each.fault for each in seen.indexes))
    visible = state in {State.READY, State.CANARY}
    not_yet = over or ("" if visible else f"it is {state}, {_side(state)} {State.READY}")
    hold = f"a guard holds it: {migration.hold}" if migration.hold and not not_yet else ""
    said = [
        Offer(
            "pause",
            state.can_abort and not migration.paused_why,
            over
            or (f"it is paused: {migration.paused_why}" if migration.paused_why else "")
            or ("" if state.can_abort else f"it is {state}: nothing runs that could be paused"),
            "The backfill stays where it is; live writes go on.",
        ),
        Offer("resume", held, "" if held else over or HELD_UP, "Lifts the pause, a guard's hold, a fault."),
        Offer(
            "throttle",
            state in FILLING,
            over or ("" if state in FILLING else "the backfill is over"),
            "Documents of the backfill a second; edits are never throttled.",
        ),
        Offer(
            "canary",
            visible and not hold and not migration.is_first_fill,
            not_yet or hold or ("nothing served before" if migration.is_first_fill else ""),
            "Shows the new index to a share of the users, from their next request on.",
        ),
        Offer(
            "cutover",
            visible and not hold,
            not_yet or hold,
            f"One row changes: the new index answers every search of {name} from the next request on. "
            "The old one stays current, so that a rollback loses nothing.",
        ),
        Offer(
            "rollback",
            state.can_roll_back and not migration.is_first_fill,
            "" if state.can_roll_back and not migration.is_first_fill else seen.rollback,
            f"The old index answers every search again: {seen.rollback}.",
        ),
        Offer(
            "finish",
            state is State.LIVE,
            ""
            if state is State.LIVE
            else over or f"it is {state}: the new index has to serve everybody first",
            "Drops the old index after a while, until which it can be cancelled. After that no rollback.",
        ),
        Offer(
            "cancel-finish",
            state is State.FINISHING,
            "" if state is State.FINISHING else "no drop of an old index is waiting",
            "Keeps the old index.",
        ),
        Offer(
            "abort",
            state.can_abort,
            "" if state.can_abort else over or f"it is {state}: users see the new index, so roll back first",
            "Gives the new index up, and drops it. What serves stays as it is.",
        ),
    ]
    return {each.verb: each for each in said}


def _side(state: State) -> str:
    return "not yet" if state.can_abort else "and no more"


async def _eta(conn: Connection, migration: Migration, seen: Status) -> tuple[float, float] | None:
    if migration.state is not State.BACKFILLING or seen.all is None or seen.done is None:
        return None
    rows = await _rows(conn, SQL.paces, {"id": migration.id})
    paces = [row.per_second for row in rows if row.per_second]
    left = max(0, seen.all - seen.done)
    return (left / max(paces), left / min(paces)) if paces else None


async def _answered(conn: Connection, collection: Collection, migration: Migration) -> list[Answered]:
    """Old and new, side by side."""
    both = [index for index in (migration.old_index, migration.new_index) if index is not None]
    route = await indexes.route_of(conn, collection.id)
    found = []
    for index_id in both:
        index = await indexes.by_id(conn, index_id)
        lately = await traffic.lately(conn, index_id, LATELY)
        p95, _ = await traffic.slow(conn, index_id)
        counted = (lately.requests, lately.errors, lately.timeouts, lately.empties)
        found.append(Answered(index.name, route.role_of(index_id), *counted, p95))
    return found


async def _tenants(conn: Connection, migration: Migration) -> dict[str, Any]:
    asked = {"id": migration.id, "tenant": None, "limit": MOST_TENANTS}
    rows = await _rows(conn, SQL.tenants, asked)
    return {
        "tenants": [Tenant(*row[:6]) for row in rows],
        "tenants_all": rows[0].tenants if rows else 0,
        "tenants_through": rows[0].through if rows else 0,
    }


async def _events(conn: Connection, migration: Migration, collection: Collection) -> list[Told]:
    rows = await _rows(conn, SQL.events, {"id": migration.id, "limit": MOST_EVENTS})
    return [
        Told(row.at, row.who, row.was, row.became, row.why, command(row, migration, collection.name))
        for row in rows
    ]


async def _visited(conn: Connection, migration: Migration) -> set[str]:
    return {row.state for row in await _rows(conn, SQL.visited, {"id": migration.id})}


def command(event: Any, migration: Migration, name: str) -> str | None:
    """What a person would type to do the same; None for what only a worker does."""
    of, why = shlex.quote(name), f"--reason {shlex.quote(event.why)}"
    moved = {
        (State.FINISHING, State.LIVE): f"revec finish {of} --cancel",
        (State.READY, State.LIVE): f"revec cutover {of} {why}",
        (State.CANARY, State.LIVE): f"revec cutover {of} {why}",
        (State.CANARY, State.READY): f"revec rollback {of} {why}",
        (State.LIVE, State.READY): f"revec rollback {of} {why}",
        (State.LIVE, State.FINISHING): f"revec finish {of} {why}",
    }
    if event.became == State.ABORTED:
        return f"revec abort {of} {why}"
    if event.share is not None:
        return f"revec canary {of} --percent {100 * event.share:g} {why}"
    if event.became is not None:
        return moved.get((event.was, event.became))
    return _within(event.why, migration, of)


def _within(why: str, migration: Migration, of: str) -> str | None:
    """Of what moves no state."""
    if why == STARTED:
        return f"revec start {of} --to {shlex.quote(migration.target)}"
    if why.startswith("paused: "):
        return f"revec pause {of} --reason {shlex.quote(why.removeprefix('paused: '))}"
    return f"revec resume {of}" if why.startswith("the pause: ") else None


async def _rows(conn: Connection, query: Any, asked: dict[str, Any]) -> Sequence[Any]:
    return await (await conn.execute(query, asked)).fetchall()


async def _one(conn: Connection, query: Any, migration: Migration) -> Any:
    return await (await conn.execute(query, {"id": migration.id})).fetchone()
