"""The conductor: look, decide, do the one next thing, say what came of it.

Whoever ticks holds a lease row; every action may be killed and done again. Only `migrate/` moves a state.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any
from uuid import UUID

import psycopg

from revec.migrate import backfill, outlook, scales, sentinels, told_apart
from revec.migrate.canary import Canary, next_step
from revec.migrate.decide import Action, Do, decide
from revec.migrate.early import Bridging
from revec.migrate.evidence import next_rung
from revec.migrate.gates.base import Case, Tools, judged
from revec.migrate.orders import Orders
from revec.migrate.planning import reality
from revec.migrate.switch import Switch, require_nobody_on_the_old
from revec.migrate.under_way import apart
from revec.migrate.watch import watch
from revec.model.errors import ProviderError, Refused, RevecError, StoreUnavailable
from revec.model.index import Collection, Index, Kind
from revec.model.migration import Migration, State
from revec.model.space import Space
from revec.model.verdict import Outcome
from revec.observe import context, events, traces
from revec.postgres import collections, indexes, leases, ledgers, migrations, shadows
from revec.postgres.database import Connection, first_line, is_gone
from revec.postgres.queries import beside
from revec.work import queue

SQL = beside(__file__)
LEASE = "conductor"
SWEEP_EVERY = 5.0  # seconds, where a table that may go is still in use
LOOK_UP_EVERY = 1.0  # seconds, during a build, to see whether it is still wanted
OPERATOR = "operator"
CONDUCTOR = "conductor"


class Conductor:
    def __init__(self, tools: Tools, holder: UUID) -> None:
        self._tools = tools
        self._database = tools.database
        self._store = tools.store
        self._provider_for = tools.provider_for
        self._limits = tools.limits
        self._holder = holder
        self._switch = Switch(tools, CONDUCTOR)
        self._sweep_at = 0.0
        self._builds: dict[int, asyncio.Task[None]] = {}  # by migration
        self._bridging = Bridging(tools.database, tools.store)

    async def tick(self) -> bool:
        """One step for every migration; whether anything moved. Nothing where another one ticks."""
        async with leases.held(self._database, LEASE, self._holder, self._limits.lease) as mine:
            if not mine:
                return False
            await self._sweep()
            await watch(self._database, self._provider_for)
            async with self._database.transaction() as conn:
                under_way = await migrations.active(conn)
            moved = [await self._step(migration) for migration in under_way]
            for migration in under_way:
                await apart("the bridge", self._bridging.tick, migration)
                await apart("the callers' scales", self._settle, migration)
            return any(moved)

    async def _settle(self, migration: Migration) -> None:
        await scales.settle(self._database, self._store, migration.collection_id)

    async def _step(self, migration: Migration) -> bool:
        """One migration's trouble is its own: the others go on."""
        with context.of(migration=migration.id):
            return await self._stepped(migration)

    async def _stepped(self, migration: Migration) -> bool:
        try:
            seen = await outlook.snapshot(self._database, self._store, migration, self._limits)
            return await self._traced(migration, decide(seen))
        except (Refused, psycopg.errors.UndefinedTable):
            return False  # somebody else moved it, or dropped it, between the look and the act
        except StoreUnavailable as error:  # the next tick asks again
            events.emit(events.StoreFailed(migration.store, str(error)))
            return False
        except RevecError as error:  # the model cannot be reached from here: the next tick asks again
            events.emit(events.ProviderFailed(migration.target, str(error)))
            return False
        except psycopg.Error as error:
            if is_gone(error):
                raise
            events.emit(events.TryAgain(f"migration {migration.id}: {first_line(error)}"))
            return False

    async def _traced(self, migration: Migration, action: Action) -> bool:
        """Whoever only waits, waits many times a second: that is no step."""
        if action.do is Do.WAIT:
            return await self._act(migration, action)
        at, do = str(migration.state), str(action.do)
        with traces.span("revec migration step", migration=migration.id, state=at, action=do):
            return await self._act(migration, action)

    async def _act(self, migration: Migration, action: Action) -> bool:
        match action.do:
            case Do.WAIT:
                await self._sample_progress(migration)
                return False
            case Do.REGISTER:
                await self._register(migration, action.why)
            case Do.ENQUEUE | Do.STOP:
                await self._fill(migration, action)
            case Do.BUILD:
                return self._begin_build(migration)
            case Do.VERIFY:
                await self._verify(migration)
            case Do.RAISE | Do.CUT_OVER | Do.KEEP_ORDER | Do.WIDEN:
                await self._show(migration, action)
            case Do.PROBE_OLD:
                await sentinels.probe_old(self._database, self._provider_for, migration)
            case Do.DROP:
                await self._drop(migration, action.why)
            case Do.MOVE:
                await self._move(migration, action)
        return True

    async def _show(self, migration: Migration, action: Action) -> None:
        """To more queries of the shadow, to more users than before, or to everybody, as a person wished."""
        match action.do:
            case Do.CUT_OVER:
                await self._serve_first(migration, action.why)
            case Do.RAISE:
                await self._raise(migration, action.why)
            case Do.KEEP_ORDER:
                await Orders(self._switch).keep(await self._collection(migration), migration)
            case _:
                await self._widen(migration, action.why)

    async def _fill(self, migration: Migration, action: Action) -> None:
        """The next page, or a pause where the course ends."""
        if action.do is Do.STOP:
            async with self._database.transaction() as conn:
                if await migrations.stop(conn, migration, action.why):
                    await migrations.tell(conn, migration, who=CONDUCTOR, why=f"paused: {action.why}")
            return
        await backfill.enqueue_page(self._database, migration)
        await self._sample_progress(migration)

    async def _widen(self, migration: Migration, why: str) -> None:
        async with self._database.transaction() as conn:
            step = await next_step(conn, migration)
        if step is not None:
            wanted, epoch = step
            collection = await self._collection(migration)
            await Canary(self._switch).show(collection, wanted, why=why, seen=epoch)

    async def _collection(self, migration: Migration) -> Collection:
        async with self._database.transaction() as conn:
            return await collections.by_id(conn, migration.collection_id)

    async def _move(self, migration: Migration, action: Action) -> None:
        assert action.to is not None
        if migration.state is State.VERIFYING:
            await scales.learn(self._database, self._store, migration, await self._new_index(migration))
        async with self._database.transaction() as conn:
            await migrations.move(conn, migration, action.to, who=CONDUCTOR, why=action.why)
            if action.to is State.INDEXING:
                await self._require_enumerated(conn, migration)
            if action.to is State.VERIFYING and migration.new_index is not None:
                await indexes.hold(conn, migration.new_index, held=False)
                came = await reality.measured(conn, self._store, migration)
                await migrations.note(conn, migration, {reality.REALITY: came})
            if action.to is State.SHADOWING and migration.new_index is not None and migration.shadow:
                await shadows.point(
                    conn, migration.collection_id, migration.new_index, migration.shadow, CONDUCTOR
                )
        self._tell(migration, action.to, action.why)

    async def _require_enumerated(self, conn: Connection, migration: Migration) -> None:
        """The row is ours now: a tenant that was resumed since the look has documents to come."""
        if not (await migrations.by_id(conn, migration.id)).cursor_done:
            raise Refused(f"migration {migration.id} has tenants that are not enumerated yet")

    async def _register(self, migration: Migration, why: str) -> None:
        """Table, index row and barrier in one transaction: from its commit no write is missed.

        A store elsewhere has its place before; `plan` named it, so that no second one is made.
        """
        async with self._database.transaction() as conn:
            space, query = await migrations.recipe(conn, migration)
            if await self._is_held_up(conn, migration, space):
                return
        provider = await self._provider_for(space.address, space.dims)
        place, kind = migration.at, Kind(migration.index_kind)
        await self._store.prepare(place, space.dims)
        async with self._database.transaction() as conn:
            await conn.execute(SQL.lock_timeout)
            index = await indexes.register(conn, migration.collection_id, space, query, kind, place=place)
            await self._store.create(conn, index)
            await migrations.set_new_index(conn, migration, index.id)
            if migration.old_index is not None:
                await ledgers.take_over(conn, migration.old_index)
            await migrations.move(conn, migration, State.CAPTURING, who=CONDUCTOR, why=why)
        self._tell(migration, State.CAPTURING, why)
        await self._remember_sentinels(provider, index)

    async def _is_held_up(self, conn: Connection, migration: Migration, space: Space) -> bool:
        """Paused, where a function was made since the start that every search would be refused by."""
        if migration.old_index is None:
            return False
        collection = await collections.by_id(conn, migration.collection_id)
        old = await indexes.by_id(conn, migration.old_index)
        why = await told_apart.why_not(conn, collection, old.space, space)
        if why is None:
            return False
        await migrations.pause(conn, migration, why)
        await migrations.tell(conn, migration, who=CONDUCTOR, why=f"paused: {why}")
        return True

    async def _remember_sentinels(self, provider: Any, index: Index) -> None:
        try:
            await sentinels.remember(self._database, provider, index)
        except ProviderError as error:  # tried again before the first verification
            events.emit(events.ProviderFailed(provider.name, str(error)))

    def _begin_build(self, migration: Migration) -> bool:
        """A build may take hours: beside the ticks, so that other collections go on."""
        running = self._builds.get(migration.id)
        if running is not None and not running.done():
            return False
        if running is not None and (error := running.exception()):
            del self._builds[migration.id]
            raise error
        self._builds[migration.id] = asyncio.create_task(self._build(migration))
        return True

    async def _build(self, migration: Migration) -> None:
        """Hold the index's work, wait for the writers in flight, build."""
        index = await self._new_index(migration)
        async with self._database.transaction() as conn:
            await indexes.hold(conn, index.id, held=True)
        while (await self._open(index)).leased:  # noqa: ASYNC110 - the leases are in the database
            await asyncio.sleep(0.05)
        watching = asyncio.create_task(self._cancel_if_given_up(migration, index))
        try:
            async with self._database.transaction() as conn:
                await self._store.build(conn, index)
        except (psycopg.errors.QueryCanceled, psycopg.errors.UniqueViolation) as error:
            raise Refused("the build was cancelled, or another conductor builds already") from error
        finally:
            watching.cancel()

    async def _cancel_if_given_up(self, migration: Migration, index: Index) -> None:
        """An abort does not wait for a build of hours, nor does its table."""
        while True:
            await asyncio.sleep(LOOK_UP_EVERY)
            try:
                async with self._database.transaction() as conn:
                    if (await migrations.by_id(conn, migration.id)).state is not State.INDEXING:
                        await conn.execute(SQL.builders, {"vectors": f"revec.vectors_{index.id}"})
            except psycopg.OperationalError:
                continue

    async def _verify(self, migration: Migration) -> None:
        index = await self._new_index(migration)
        provider = await self._provider_for(index.space.address, index.space.dims)
        await self._remember_sentinels(provider, index)
        async with self._database.transaction() as conn:
            standing, _ = await outlook.standing(conn, migration)
        unproven = tuple(g for g in migration.gates if standing.get(g) is not Outcome.PASSED)
        for verdict in await judged(Case(self._tools, index, migration), unproven):
            async with self._database.transaction() as conn:
                await migrations.record(conn, migration, verdict)
            events.emit(events.Judged(migration.id, verdict.gate, verdict.outcome, verdict.why))

    async def _raise(self, migration: Migration, why: str) -> None:
        """The next rung, if the shadow still stands on the one that was looked at."""
        async with self._database.transaction() as conn:
            setting = await shadows.of(conn, migration.collection_id)
            rate = next_rung(setting.rate) if setting else None
            if setting is None or rate is None or not await shadows.raised(conn, setting, rate, CONDUCTOR):
                raise Refused("the shadow was set by somebody else")
            await migrations.tell(conn, migration, who=CONDUCTOR, why=why)

    async def _serve_first(self, migration: Migration, why: str) -> None:
        async with self._database.transaction() as conn:
            await migrations.move(conn, migration, State.LIVE, who=CONDUCTOR, why=why)
            seen = await indexes.route_of(conn, migration.collection_id)
            if await indexes.flip(conn, seen, serving=migration.new_index, previous=None) is None:
                raise Refused("the route was moved by somebody else")
        self._tell(migration, State.LIVE, why)

    async def _drop(self, migration: Migration, why: str) -> None:
        """From here on the old index is written no more; its table goes with the next sweep."""
        assert migration.old_index is not None
        async with self._database.transaction() as conn:
            await migrations.move(conn, migration, State.FINISHED, who=CONDUCTOR, why=why)
            # The row is ours now: a cancel and a new, later date in between count.
            left = await outlook.drop_seconds(conn, migration, self._limits)
            if left is None or left > 0:
                raise Refused("the old index may not go yet")
            seen = await indexes.route_of(conn, migration.collection_id)
            if seen.serving != migration.new_index:
                raise Refused("the old index serves again")
            await require_nobody_on_the_old(conn, "NAME", migration)
            if await indexes.flip(conn, seen, serving=seen.serving, previous=None) is None:
                raise Refused("the route was moved by somebody else")
            await indexes.retire(conn, migration.old_index)
        self._tell(migration, State.FINISHED, why)
        await self._sweep()

    async def _sweep(self) -> None:
        """Drop the tables of retired indexes; whoever still reads one is re-routed."""
        if time.monotonic() < self._sweep_at:
            return
        async with self._database.transaction() as conn:
            gone = [row.id for row in await (await conn.execute(outlook.SQL.leftovers)).fetchall()]
        for index_id in gone:
            try:
                async with self._database.transaction() as conn:
                    await conn.execute(SQL.lock_timeout)
                    await indexes.forget(conn, index_id)
                async with self._database.transaction() as conn:
                    index = await indexes.by_id(conn, index_id)
                await self._store.clear(index)
                async with self._database.transaction() as conn:
                    await conn.execute(SQL.builders, {"vectors": f"revec.vectors_{index_id}"})
                    await conn.execute(SQL.lock_timeout)
                    await self._store.drop(conn, index)
                    await conn.execute(indexes.SQL.forget, {"index": index_id})  # a worker's last words
            except psycopg.errors.LockNotAvailable:
                self._sweep_at = time.monotonic() + SWEEP_EVERY  # no writer waits for us each tick
            except StoreUnavailable as error:  # its table stays until its points are gone
                self._sweep_at = time.monotonic() + SWEEP_EVERY
                events.emit(events.StoreFailed(index.place.store, str(error)))

    async def _sample_progress(self, migration: Migration) -> None:
        if migration.state is State.BACKFILLING and migration.new_index is not None:
            async with self._database.transaction() as conn:
                now = await migrations.by_id(conn, migration.id)
                open_work = (await queue.open_work(conn, [migration.new_index]))[migration.new_index]
                await migrations.sample_progress(conn, now, now.seen - open_work.backfill)

    async def _open(self, index: Index) -> queue.Open:
        async with self._database.transaction() as conn:
            return (await queue.open_work(conn, [index.id]))[index.id]

    async def _new_index(self, migration: Migration) -> Index:
        assert migration.new_index is not None
        async with self._database.transaction() as conn:
            return await indexes.by_id(conn, migration.new_index)

    def _tell(self, migration: Migration, became: State, why: str) -> None:
        events.emit(events.Moved(migration.id, migration.state, became, why))

    async def leave(self) -> None:
        """Let another worker tick at once, and begin our builds anew."""
        for build in self._builds.values():
            build.cancel()
        await asyncio.gather(*self._builds.values(), return_exceptions=True)
        await self._bridging.leave()
        async with self._database.transaction() as conn:
            await leases.give_back(conn, LEASE, self._holder)
