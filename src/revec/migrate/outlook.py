"""What a migration is at this moment, and what will still move by itself: looked up, never changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from revec.capture import attach
from revec.migrate import backfill, evidence
from revec.migrate.decide import For, Rung, Snapshot, decide
from revec.migrate.evidence import TRAFFIC
from revec.model.index import Route
from revec.model.migration import Migration, State
from revec.model.verdict import Outcome
from revec.postgres import (
    canaries,
    collections,
    guards,
    indexes,
    judgements,
    migrations,
    orders,
    overrides,
    shadows,
)
from revec.postgres.database import Connection, Database
from revec.postgres.queries import beside
from revec.postgres.shadows import Pair
from revec.stores.base import Store
from revec.work import batches, queue

SQL = beside(__file__)
QUALITY, SET_CHANGED = "quality", "set_changed_at"  # the gate, and what of its evidence says whether to look
EVIDENCE_LASTS = timedelta(hours=24)
VERIFY_EVERY = timedelta(seconds=5)  # where a gate cannot tell yet; doubled with each look
VERIFY_AT_LEAST_EVERY = timedelta(minutes=30)
PROBE_OLD_EVERY = timedelta(hours=1)
NAMED = 5  # tenants in a sentence
PROBE_GONE_EVERY = timedelta(minutes=1)  # one failure may be a hiccup


@dataclass(frozen=True, slots=True)
class Limits:
    freshness: float  # seconds from an acknowledged write to a searchable vector
    deadline: float  # seconds of the longest request
    sample: int  # documents embedded again to verify
    lease: float  # seconds


async def snapshot(database: Database, store: Store, migration: Migration, limits: Limits) -> Snapshot:
    """The migration as it is at one moment: an enqueued page between two looks would be in neither."""
    async with database.transaction() as conn:
        await conn.execute(SQL.one_moment)
        migration = await migrations.by_id(conn, migration.id)
        name = next(c.name for c in await collections.listed(conn) if c.id == migration.collection_id)
        index = migration.new_index and await indexes.by_id(conn, migration.new_index)
        open_work = queue.Open()
        built = building = False
        if index:
            open_work = (await queue.open_work(conn, [index.id]))[index.id]
            if migration.state is State.INDEXING:
                build = await store.built(conn, index)
                built, building = build.valid or not index.kind.is_approximate, build.running
        outcomes, verify_due = await standing(conn, migration)
        sources = await collections.sources(conn, migration.collection_id)
        at_provider = await batches.under_way(conn, [index.id] if index else [])
        dead, _ = await queue.counts(conn, index.id) if index else (0, 0)
        return Snapshot(
            collection=name,
            state=migration.state,
            first_fill=migration.is_first_fill,
            paused=migration.paused_why,
            fault=index.fault if index else None,
            uncaptured=tuple(await attach.missing(conn, migration.collection_id)),
            unreadable=tuple(source.fault for source in sources if source.fault),
            being_read=tuple(source.name for source in sources if source.scan),
            held_back=tuple(f"{s.name} is paused: {s.paused_why}" for s in sources if s.paused_why),
            cursor_done=not await backfill.can_go_on(conn, migration),
            backfill_open=open_work.backfill - open_work.paused_backfill,
            window=backfill.PATIENT_WINDOW if migration.patient else backfill.WINDOW,
            batched=sum(each.documents for each in at_provider),
            batches="; ".join(map(batches.told, at_provider)),
            batch_seconds=min((0.0 if each.due else each.age for each in at_provider), default=0.0),
            tenants_paused=await _tenants_paused(conn, migration, open_work),
            dead=dead,
            built=built,
            building=building,
            required=migration.required,
            verdicts=outcomes,
            verify_due=verify_due,
            undecided=await _undecided(conn, migration),
            shadow=migration.shadow is not None,
            traffic=TRAFFIC,
            rung=await _rung(conn, migration),
            old_probe_due=_probe_due(migration),
            drop_seconds=await drop_seconds(conn, migration, limits),
            hold=migration.hold,
            **await _of_users(conn, migration, name),
        )


async def _rung(conn: Connection, migration: Migration) -> Rung | None:
    """How far the shadow is that reads the new index; counted only while that is what it waits for."""
    if migration.state is not State.SHADOWING or migration.old_index is None or migration.new_index is None:
        return None
    setting = await shadows.of(conn, migration.collection_id)
    if setting is None or not setting.rate or setting.index_id != migration.new_index:
        return None
    pair = Pair(migration.collection_id, migration.old_index, migration.new_index)
    return evidence.rung(setting, *await shadows.rung(conn, pair, setting))


async def _of_users(conn: Connection, migration: Migration, name: str) -> dict[str, Any]:
    """Who sees the new index, and what a person ordered of it."""
    said: dict[str, Any] = {}
    if migration.state in {State.CANARY, State.LIVE}:
        route = await indexes.route_of(conn, migration.collection_id)
        apart = await overrides.in_force(conn, migration.collection_id)
        said["canary"] = seen_by(migration, route, apart)
    if migration.state not in {State.READY, State.CANARY}:
        return said
    if fired := [each for each in (await guards.of(conn, migration)).values() if each.fired]:
        said["fired"] = "; ".join(sorted(f"guard {each.name} has fired: {each.why}" for each in fired))
    if (order := await orders.of(conn, migration)) and not order.has_lapsed:
        whole = order.is_whole(migration.approvals)
        second = "" if whole else f", once another person says `revec approve {name}`"
        at = f" at {order.due_at:%Y-%m-%d %H:%M %Z}" if order.seconds > 0 else ""
        said["order"] = f"{order.ordered_by} ordered the cutover{at}{second}"
        said["order_seconds"] = order.seconds if whole else None
    if migration.state is State.CANARY and (steps := await canaries.of(conn, migration)):
        said["canary"] += f", {steps.answered:,} of {steps.quiet:,} quiet answers"
        said |= {"canary_steps": bool(steps.steps), "canary_quiet": steps.is_quiet}
    return said


def seen_by(migration: Migration, route: Route, apart: Mapping[str, int]) -> str:
    """Who is answered by which index, in words."""
    new = [tenant for tenant, index in apart.items() if index == migration.new_index]
    held = [tenant for tenant, index in apart.items() if index == migration.old_index]
    said = []
    if route.canary is not None:
        said.append(f"{100 * route.share:.4g}% of the users see the new index")
    if new:
        said.append(f"tenants {_some(new)} see it")
    if held:
        said.append(f"tenants {_some(held)} are held on the old one")
    return ", ".join(said)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(sorted(names)[:NAMED]) + more


async def _tenants_paused(conn: Connection, migration: Migration, open_work: queue.Open) -> tuple[str, ...]:
    """Those that the migration waits for; only where there may be any."""
    if open_work.paused or (migration.enumerated and not migration.cursor_done):
        return tuple(await backfill.held_up(conn, migration))
    return ()


async def standing(conn: Connection, migration: Migration) -> tuple[dict[str, Outcome], bool]:
    """What still counts (failures for ever, the rest for a day), and whether it is time to judge.

    A gate that cannot tell is looked at again, each time after twice the wait: a look costs money.
    """
    verdicts = await migrations.verdicts(conn, migration)
    counted = {
        gate: verdict.outcome
        for gate, (verdict, age) in verdicts.items()
        if verdict.outcome is Outcome.FAILED or age < EVIDENCE_LASTS
    }
    undecided = [
        age
        for gate, (verdict, age) in verdicts.items()
        if gate in migration.required and verdict.outcome is Outcome.INCONCLUSIVE
    ]
    looks = await migrations.undecided_looks(conn, migration)
    wait = min(VERIFY_EVERY * 2 ** min(looks, 8), VERIFY_AT_LEAST_EVERY)
    return counted, not undecided or min(undecided) > wait


async def _undecided(conn: Connection, migration: Migration) -> dict[str, str]:
    """The quality gate has had its look and could not tell: only more judgements make another one."""
    if migration.judged is None:
        return {}
    last = await migrations.looked(conn, migration, QUALITY)
    if last is None:
        return {}
    verdict, _, cleared = last
    changed = await judgements.changed_at(conn, migration.collection_id, migration.judged.judged)
    if cleared or verdict.outcome is not Outcome.INCONCLUSIVE or verdict.evidence[SET_CHANGED] != changed:
        return {}
    return {QUALITY: verdict.why}


def _probe_due(migration: Migration) -> bool:
    if migration.old_index is None:
        return False
    seen = migration.old_model_seen
    wait = PROBE_GONE_EVERY if migration.old_model_gone else PROBE_OLD_EVERY
    return seen is None or datetime.now(UTC) - seen > wait


async def drop_seconds(conn: Connection, migration: Migration, limits: Limits) -> float | None:
    row = await (
        await conn.execute(SQL.drop_seconds, {"id": migration.id, "deadline": limits.deadline})
    ).fetchone()
    return None if row is None else row.seconds


async def outstanding(database: Database, store: Store, limits: Limits, patience: float) -> list[str]:
    """What will still move without a person within `patience` seconds."""
    reasons = []
    async with database.transaction() as conn:
        under_way = await migrations.active(conn)
        paused = {migration.new_index for migration in under_way if migration.paused_why}
        for index in await indexes.writing(conn):
            open_work = (await queue.open_work(conn, [index.id]))[index.id]
            moving = open_work.moving - (open_work.pausable if index.id in paused else 0)
            if index.id not in paused:  # the migration itself says how long a batch is waited for
                moving -= sum(each.documents for each in await batches.under_way(conn, [index.id]))
            if moving > 0 and index.fault is None and not index.held:
                reasons.append(f"{index.name}: {moving:,} documents to embed or remove")
        reasons += [f"a batch of {model} is to be closed" for model in await batches.unfinished(conn)]
        gone = await (await conn.execute(SQL.leftovers)).fetchall()
        leaving = await (await conn.execute(SQL.leaving, {"seconds": patience})).fetchall()
    reasons += [f"vectors_{row.id} is to be dropped" for row in gone]
    reasons += [f"{row.points:,} points of index {row.index_id} are to be deleted" for row in leaving]
    for migration in under_way:
        seen = await snapshot(database, store, migration, limits)
        action = decide(seen)
        far = action.wait_for is For.CLOCK and action.seconds > patience
        if action.wait_for not in {For.PERSON, For.USERS} and not far:
            reasons.append(f"{seen.collection} is {seen.state}: {action.why}")
    return reasons
