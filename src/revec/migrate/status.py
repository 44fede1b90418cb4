"""Where a collection stands, what happens next, and what that waits for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from revec.capture import projector
from revec.migrate import guard, outlook
from revec.migrate.decide import decide
from revec.migrate.outlook import Limits
from revec.model.index import Collection, Index, Route
from revec.model.migration import Migration, State
from revec.model.verdict import Outcome, Verdict
from revec.postgres import bridges, collections, documents, guards, indexes, migrations, tenants
from revec.postgres.database import Connection, Database
from revec.search import fusion
from revec.search.fusion import Fusion
from revec.stores.base import Store
from revec.work import allowance, batches, calls, control, queue

SILENT = 10.0  # seconds without a guard that are worth a line


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """One index that is kept current."""

    name: str
    store: str
    role: str  # serving, previous, next
    kind: str
    backlog: int
    oldest_seconds: float
    dead: int
    excluded: int
    bytes: int
    fault: str | None


@dataclass(frozen=True, slots=True)
class Status:
    collection: str
    documents: int
    unprojected: int  # changes of the users' tables that are not documents yet
    sources: list[dict[str, Any]]
    epoch: int
    serving: str | None
    indexes: list[IndexStatus]
    workers: int
    providers: list[str]  # models that rest after failures, and why
    paused_tenants: dict[str, str]  # the first twenty, and why
    tenants_fault: str | None  # why tiers and priorities cannot be read
    throttle: dict[str, Any] | None  # what a person allows
    braked: str | None  # why the backfill yields, and to how much of its speed
    fusion: Fusion | None  # of the legs of what serves
    migration: int | None = None
    state: str | None = None
    target: str | None = None
    done: int | None = None  # documents that the backfill has dealt with
    all: int | None = None
    per_second: float | None = None
    eta_seconds: float | None = None
    paused: str | None = None
    spent: float = 0.0  # US dollars, on every call for the new index
    budget: float | None = None
    next: str = ""
    patient: bool = False  # the backfill goes through the provider's batch API
    batches: list[str] = field(default_factory=list)  # that the provider has
    early: dict[str, Any] | None = None  # whether the new model answers already, and why; None: nobody asked
    verdicts: dict[str, str] | None = None
    gates: list[Verdict] = field(default_factory=list)  # the required ones first
    canary: str | None = None  # who sees the new index, or who is held on the old one
    order: str | None = None  # a cutover that waits for its hour, or for a second person
    guard: list[str] = field(default_factory=list)  # what each one knows
    rollback: str = ""


async def status(database: Database, store: Store, collection: Collection, limits: Limits) -> Status:
    async with database.transaction() as conn:
        route = await indexes.route_of(conn, collection.id)
        migration = await migrations.latest(conn, collection.id)
        written = await indexes.writing(conn, collection.id)
        facts: dict[str, Any] = {
            "collection": collection.name,
            "documents": await documents.count(conn, collection.id),
            "unprojected": await projector.backlog(conn, collection.id),
            "sources": [
                {
                    "name": source.name,
                    "reading": source.scan,
                    "fault": source.fault,
                    "paused": source.paused_why,
                }
                for source in await collections.sources(conn, collection.id)
            ],
            "epoch": route.epoch,
            "serving": next((each.name for each in written if each.id == route.serving), None),
            "indexes": [await _index(conn, store, each, route) for each in written],
            "workers": len(await queue.workers(conn)),
            "providers": [
                f"{row.model} rests {row.seconds:.0f} s more: {row.why}"
                for row in await calls.resting(conn, collection.id)
            ],
            "paused_tenants": await tenants.paused(conn, collection.id),
            "tenants_fault": await tenants.fault(conn, collection.id),
            "throttle": await _throttle(conn, collection),
            "fusion": await _fusion(conn, written, route),
        }
        workers = await queue.workers(conn)
        facts |= {"workers": len(workers), "braked": _braked(workers)}
    if migration is None:
        return Status(**facts, next=f"`revec start {collection.name} --to MODEL`")
    facts |= await _migration(database, migration, collection)
    seen = await outlook.snapshot(database, store, migration, limits)
    action = decide(seen)
    facts |= {"order": seen.order, "canary": seen.canary or None}
    waits = str(action.why) if not migration.state.is_final else _over(migration, collection)
    if migration.hold and migration.state is State.READY:
        waits = f"a guard holds it: {migration.hold} (`revec resume {collection.name}`)"
    if not facts["workers"] and not migration.state.is_final:
        waits += "; no worker seen: run `revec worker`"
    async with database.transaction() as conn:
        facts["guard"] = await _guard(conn, migration)
    return Status(**facts, next=waits, rollback=_rollback(migration, collection, facts["indexes"]))


async def _guard(conn: Connection, migration: Migration) -> list[str]:
    """What the guards know; and whether there is one, while users may see the new index."""
    if migration.state not in guard.WATCHED or migration.is_first_fill:
        return []
    silent = (await guards.silent(conn, SILENT)).get(migration.id)
    nobody = [] if silent is None else [f"nobody has watched for {silent:.0f} s: run `revec worker`"]
    return nobody + guard.told(await guards.of(conn, migration))


async def _fusion(conn: Connection, written: list[Index], route: Route) -> Fusion | None:
    serving = next((each for each in written if each.id == route.serving), None)
    if serving is None:
        return None
    return await fusion.in_force(conn, serving.collection_id, serving.space, serving.query)


async def _throttle(conn: Connection, collection: Collection) -> dict[str, Any] | None:
    row = await control.throttle_of(conn, collection.id)
    return None if row is None else {name: limit for name, limit in row._asdict().items() if limit}


def _braked(workers: list[Any]) -> str | None:
    slowest = min(workers, key=lambda worker: worker.speed, default=None)
    if slowest is None or slowest.braked_by is None:
        return None
    return f"{slowest.speed:.0%} of its speed: {slowest.braked_by}"


async def _index(conn: Connection, store: Store, index: Index, route: Route) -> IndexStatus:
    open_work = (await queue.open_work(conn, [index.id]))[index.id]
    dead, excluded = await queue.counts(conn, index.id)
    return IndexStatus(
        name=index.name,
        store=index.place.store,
        role=route.role_of(index.id),
        kind=index.kind,
        backlog=open_work.open,
        oldest_seconds=round(open_work.oldest_seconds, 1),
        dead=dead,
        excluded=excluded,
        bytes=await store.bytes_stored(conn, index),
        fault=index.fault,
    )


async def _migration(database: Database, migration: Migration, collection: Collection) -> dict[str, Any]:
    async with database.transaction() as conn:
        verdicts = await migrations.verdicts(conn, migration)
        per_second = await migrations.rate(conn, migration)
        backfill = 0
        early = await _early(conn, migration, collection) if migration.serve_early else None
        at_provider = await batches.under_way(conn, [migration.new_index] if migration.new_index else [])
        if migration.new_index is not None and not migration.state.is_final:
            backfill = (await queue.open_work(conn, [migration.new_index]))[migration.new_index].backfill
    done = migration.seen - backfill
    total = max(migration.documents, migration.seen)
    running = migration.state is State.BACKFILLING and bool(per_second)
    return {
        "migration": migration.id,
        "state": str(migration.state),
        "target": migration.target,
        "done": done,
        "all": total,
        "per_second": round(per_second, 1) if per_second and running else None,
        "eta_seconds": round((total - done) / per_second) if per_second and running else None,
        "paused": migration.paused_why,
        "spent": float(migration.spent),
        "budget": None if migration.budget is None else float(migration.budget),
        "patient": migration.patient,
        "early": early,
        "batches": [batches.told(each) for each in at_provider],
        "verdicts": {gate: f"{v.outcome}: {v.why}" for gate, (v, _) in verdicts.items()},
        "gates": _gates(migration, {gate: verdict for gate, (verdict, _) in verdicts.items()}),
    }


def _gates(migration: Migration, verdicts: Mapping[str, Verdict]) -> list[Verdict]:
    unknown = {
        gate: Verdict(gate, Outcome.INCONCLUSIVE, "not judged yet")
        for gate in migration.gates
        if gate not in verdicts
    }
    known = unknown | dict(verdicts)
    return [
        _overridden(known[gate], migration.overridden.get(gate))
        for gate in dict.fromkeys((*migration.gates, *known))
    ]


def _overridden(verdict: Verdict, reason: str | None) -> Verdict:
    """A person lets it count as passed; what was seen stands beside that."""
    return replace(verdict, why=f"overridden ({reason}); {verdict.why}") if reason else verdict


async def _early(conn: Connection, migration: Migration, collection: Collection) -> dict[str, Any]:
    """Whether a search finds the way open, and what there is to say of it."""
    kept = await bridges.kept(conn, migration.id)
    told: dict[str, Any] = {"open": False, "why": "it has not begun", "pairs": 0, "measure": {}}
    if kept is not None:
        route, _ = await indexes.serving(conn, collection.name)
        told = {
            "open": route.early is not None,
            "why": kept.why if route.early or not kept.holds else _closed(migration),
            "pairs": kept.pairs,
            "measure": dict(kept.measure),
        }
    new = migration.new_index
    return told | {"documents": await allowance.total(conn, new) if new else 0}


def _closed(migration: Migration) -> str:
    if held := migration.paused_why or migration.hold:
        return f"closed for now: {held}"
    return "closed for now: it was rolled back, or its model rests or is not trusted"


def _over(migration: Migration, collection: Collection) -> str:
    return f"{migration.state}; `revec start {collection.name} --to MODEL` begins another"


def _rollback(migration: Migration, collection: Collection, written: list[IndexStatus]) -> str:
    if migration.is_first_fill or migration.state.is_final:
        return "nothing to roll back to"
    if migration.old_model_gone:
        return f"rollback lost: {migration.old_model_gone}"
    if fault := next((each.fault for each in written if each.role == "previous" and each.fault), None):
        return f"the old index is not written, a rollback would miss what came since: {fault}"
    if migration.state is State.FINISHING:
        return f"after `revec finish {collection.name} --cancel`, until the old index is dropped"
    if migration.state.can_roll_back:
        old = next((each for each in written if each.role == "previous"), None)
        lost = "nothing is lost"
        if old is not None and old.backlog:
            lost = f"it would miss {old.backlog:,} documents for now ({old.oldest_seconds:.0f} s)"
        return f"`revec rollback {collection.name}`, {lost}, until the old index is dropped"
    return "not needed: the old index serves"
