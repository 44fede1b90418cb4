"""Guards: while users may be affected, requests are counted and standing troubles are looked for.

Before users see the new index a guard pauses the migration; when they do it rolls back, once in a
migration. Either way a hold is latched until a person clears it. What a rollback could not mend is an alarm:
a line of history, and no move. What has fired is kept before it is acted on, so a killed guard goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from revec.migrate import rates
from revec.migrate.gates.base import Tools
from revec.migrate.switch import Switch
from revec.model.index import Index
from revec.model.migration import Migration, State
from revec.observe import events
from revec.observe.failpoints import failpoint
from revec.postgres import canaries, guards, indexes, migrations, traffic
from revec.postgres.database import Connection
from revec.postgres.guards import Kept
from revec.postgres.traffic import Second

WATCHED = (State.SHADOWING, State.READY, State.CANARY, State.LIVE)
SEEN_BY_USERS = (State.CANARY, State.LIVE)
BREAKER_SECONDS, BREAKER_REQUESTS, BREAKER_SHARE = 5.0, 10, 0.5
BACKLOG = 4.0  # times the freshness goal, and twice what the other index waits
GUARD = "guard"
DEAD = "dead"  # the guard itself


@dataclass(frozen=True, slots=True)
class Alarm:
    """`mends`: a rollback would."""

    guard: str
    why: str
    mends: bool = True


class Guard:
    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._switch = Switch(tools, GUARD)

    async def tick(self, migration: Migration) -> bool:
        """Count, look, act; whether it acted."""
        if migration.state not in WATCHED or migration.is_first_fill:
            return False
        async with self._tools.database.transaction() as conn:
            await guards.beat(conn, migration)
            kept = await guards.of(conn, migration)
            old, new = await _sides(conn, migration)
            alarms = await self._counted(conn, migration, kept, old, new)
            alarms += await self._standing(conn, migration, old, new)
            for name in _mended(kept, alarms):
                await guards.mended(conn, migration, name)
        acted = False
        for alarm in alarms:
            told = alarm.guard in kept and kept[alarm.guard].told
            if not told or _can_roll_back(migration, alarm, old):
                acted = await self._act(migration, alarm, old) or acted
        return acted

    async def _counted(
        self, conn: Connection, migration: Migration, kept: dict[str, Kept], old: Index, new: Index
    ) -> list[Alarm]:
        seconds = await traffic.take(conn, new.id)
        await _credit(conn, migration, seconds)
        alarms = [Alarm(name, each.why or "") for name, each in kept.items() if each.fired and each.watch]
        if not seconds:
            return alarms
        before = None
        if any(rate.name not in kept for rate in rates.RATES):
            before = await rates.before(conn, old, migration.collection_id)
        for rate in rates.RATES:
            known = kept.get(rate.name)
            if known is not None and known.fired:
                continue
            watch, bar = (known.watch, known.bar) if known else rates.begun(rate, before)
            if watch is None:
                continue
            watch = rates.after(rate, watch, bar, seconds)
            why = rates.why(rate, watch, bar, new.name)
            await guards.keep(conn, migration, rate.name, watch=watch, bar=bar, why=why)
            if why:
                alarms.append(Alarm(rate.name, why))
        return alarms

    async def _standing(self, conn: Connection, migration: Migration, old: Index, new: Index) -> list[Alarm]:
        """What is wrong at this moment, however many ask."""
        found = []
        last = await traffic.lately(conn, new.id, BREAKER_SECONDS + 1.0)
        failed = last.errors + last.timeouts
        if (
            last.requests >= BREAKER_REQUESTS
            and failed > BREAKER_SHARE * last.requests
            and last.seconds >= BREAKER_SECONDS - 2.0
        ):
            why = f"{failed:,} of {last.requests:,} requests of {new.name} failed in {last.seconds:.0f} s"
            found.append(Alarm("breaker", why))
        waits = await guards.waits(conn, [old.id, new.id])
        goal = BACKLOG * self._tools.limits.freshness
        for name, index, other in (("backlog", new, old), ("standby backlog", old, new)):
            age = waits[index.id]
            if age > max(goal, 2 * waits[other.id]):
                why = f"a document waits for {index.name} for {age:.0f} s, the goal is {goal / BACKLOG:.0f} s"
                found.append(Alarm(name, why, mends=index is new))
        if new.fault:
            found.append(Alarm("model", new.fault))
        if gone := old.fault or migration.old_model_gone:
            found.append(Alarm("standby model", f"rollback lost: {gone}", mends=False))
        return found

    async def _act(self, migration: Migration, alarm: Alarm, old: Index) -> bool:
        """Pause, roll back, or say so; then it is told, whoever was killed in between."""
        failpoint("guard_fired")
        action = await self._done(migration, alarm, old)
        async with self._tools.database.transaction() as conn:
            await guards.keep(
                conn, migration, alarm.guard, why=alarm.why, **await _as_kept(conn, migration, alarm)
            )
            await guards.told(conn, migration, alarm.guard)
        events.emit(events.Alarmed(migration.id, alarm.guard, action, alarm.why))
        return action != "alarm"

    async def _done(self, migration: Migration, alarm: Alarm, old: Index) -> str:
        evidence = {"guard": alarm.guard, "why": alarm.why, "alert": events.ALERT}
        if migration.hold or not alarm.mends:
            return await self._alarm(migration, alarm, evidence)
        if migration.state not in SEEN_BY_USERS:
            async with self._tools.database.transaction() as conn:
                why = f"guard {alarm.guard}: {alarm.why}"
                await migrations.stay(conn, migration, who=GUARD, why=f"paused by {why}", evidence=evidence)
                await migrations.latch(conn, migration, why)
                await migrations.pause(conn, migration, why)
            return "paused"
        if not _can_roll_back(migration, alarm, old):
            return await self._alarm(migration, alarm, evidence)
        await self._switch.guarded_back(migration, f"guard {alarm.guard}: {alarm.why}", evidence)
        return "rolled back"

    async def _alarm(self, migration: Migration, alarm: Alarm, evidence: dict[str, Any]) -> str:
        async with self._tools.database.transaction() as conn:
            await migrations.tell(conn, migration, who=GUARD, why=f"alarm: {alarm.why}", evidence=evidence)
        return "alarm"


def _can_roll_back(migration: Migration, alarm: Alarm, old: Index) -> bool:
    """An alarm was told while it could not; once it can, it does."""
    lost = migration.hold or migration.guarded_back_at or migration.old_model_gone or old.fault
    return alarm.mends and not lost and migration.state in SEEN_BY_USERS


async def _as_kept(conn: Connection, migration: Migration, alarm: Alarm) -> dict[str, Any]:
    """What it has counted stays with it."""
    kept = (await guards.of(conn, migration)).get(alarm.guard, Kept(alarm.guard))
    return {"watch": kept.watch, "bar": kept.bar}


async def _sides(conn: Connection, migration: Migration) -> tuple[Index, Index]:
    assert migration.old_index is not None
    assert migration.new_index is not None
    return await indexes.by_id(conn, migration.old_index), await indexes.by_id(conn, migration.new_index)


async def _credit(conn: Connection, migration: Migration, seconds: Sequence[Second]) -> None:
    """A canary's step takes so many answers at its own epoch."""
    for epoch in sorted({second.epoch for second in seconds}):
        requests = sum(second.requests for second in seconds if second.epoch == epoch)
        await canaries.answered(conn, migration, epoch=epoch, requests=requests)


def _mended(kept: dict[str, Kept], alarms: Sequence[Alarm]) -> list[str]:
    """Alarms that are over; what counts requests stays as it fired."""
    there = {alarm.guard for alarm in alarms}
    return [name for name, each in kept.items() if each.fired and each.watch is None and name not in there]


def told(kept: dict[str, Kept]) -> list[str]:
    """One line for each guard, for `status`."""
    lines = []
    for name, each in sorted(kept.items()):
        counted = f", {each.watch['n']:,} requests" if each.watch else ""
        lines.append(f"{name}: {each.why}" if each.fired else f"{name}: quiet{counted}")
    return lines
