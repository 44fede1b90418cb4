"""What a person may do to a migration. Each is one compare-and-set and one line of history."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg

from revec.migrate import conductor, thresholds, verify
from revec.migrate.decide import way_on
from revec.migrate.outlook import EVIDENCE_LASTS, Limits
from revec.migrate.plan import Plan
from revec.model.errors import BadInput, GateNotMet, NotFound, ProviderError, Refused, StoreUnavailable
from revec.model.index import Collection
from revec.model.migration import Migration, State
from revec.model.verdict import Outcome, Verdict
from revec.postgres import bridges, collections, indexes, migrations, tenants
from revec.postgres.database import Connection, Database
from revec.search import fusion
from revec.search.retriever import Retriever
from revec.stores.base import Store
from revec.work import queue
from revec.work.prices import price

REHEARSAL = "rehearsal"


@dataclass(frozen=True, slots=True)
class Commands:
    """The verbs, on one database, in one person's name."""

    database: Database
    store: Store
    retriever: Retriever
    provider_for: Any
    limits: Limits
    who: str

    async def start(self, plan: Plan, *, budget: Decimal | None = None) -> Migration:
        """Write the plan down; the workers do the rest, for `budget` US dollars at most."""
        if budget is not None:
            require_price(plan.space.address)
        async with self.database.transaction() as conn:
            serving = (await indexes.route_of(conn, plan.collection.id)).serving
            if serving != (plan.old.id if plan.old else None):
                raise Refused(
                    f"what serves {plan.collection.name} changed since the plan was made: "
                    f"`revec plan {plan.collection.name} --to {plan.space.address}` again"
                )
            await indexes.put_space(conn, plan.space)
            migration = await migrations.create(
                conn,
                collection_id=plan.collection.id,
                old_index=plan.old.id if plan.old else None,
                space=plan.space,
                query=plan.query,
                kind=plan.kind,
                gates=plan.gates,
                budget=budget,
                patient=plan.patient,
                serve_early=plan.serve_early,
                place=plan.place,
            )
            await migrations.tell(conn, migration, who=self.who, why="started", evidence=plan.facts)
        return migration

    async def pause(self, collection: Collection, why: str) -> Migration:
        async with self.database.transaction() as conn:
            migration = await self._active(conn, collection)
            if not migration.state.can_abort:
                raise Refused(
                    f"{collection.name} is {migration.state}: nothing runs that could be paused; "
                    f"{way_on(migration.state, collection.name)}"
                )
            await migrations.pause(conn, migration, why)
            await migrations.tell(conn, migration, who=self.who, why=f"paused: {why}")
        return migration

    async def pause_tenants(self, collection: Collection, names: Sequence[str], why: str) -> None:
        """Nothing of theirs is embedded until they are resumed; a migration's history hears of it."""
        async with self.database.transaction() as conn:
            await tenants.pause(conn, collection.id, names, why)
            await self._tell_of_tenants(conn, collection, f"paused {', '.join(names)}: {why}")

    async def resume_tenants(self, collection: Collection, names: Sequence[str], why: str) -> list[str]:
        """Those that were paused."""
        async with self.database.transaction() as conn:
            resumed = await tenants.resume(conn, collection.id, names)
            if resumed:
                await self._tell_of_tenants(conn, collection, f"resumed {', '.join(resumed)}: {why}")
        return resumed

    async def _tell_of_tenants(self, conn: Connection, collection: Collection, why: str) -> None:
        for migration in await migrations.active(conn, collection.id):
            await migrations.tell(conn, migration, who=self.who, why=why)

    async def resume(
        self,
        collection: Collection,
        *,
        clear: str | None = None,
        reason: str = "",
        budget: Decimal | None = None,
    ) -> list[str]:
        """Lift a pause, an index's fault, and one failed gate, and set a budget; what was lifted."""
        lifted = []
        async with self.database.transaction() as conn:
            for index in await indexes.writing(conn, collection.id):
                if index.fault:
                    await indexes.mend(conn, index.id)
                    lifted.append(f"the fault of {index.name}: {index.fault}")
            migration = await self._found(conn, collection)
            if budget is not None:
                lifted.append(await self._give_money(conn, collection, migration, budget))
            if migration and migration.paused_why:
                await migrations.pause(conn, migration, None)
                lifted.append(f"the pause: {migration.paused_why}")
            if migration and migration.hold:
                await migrations.unhold(conn, migration)
                lifted.append(f"the hold: {migration.hold}")
            if clear and not migration:
                raise Refused(
                    f"no migration of {collection.name} is under way, so there is nothing to clear: "
                    f"`revec start {collection.name} --to MODEL` begins one"
                )
            if migration and clear:
                if not await migrations.clear(conn, migration, clear, reason):
                    raise Refused(
                        f"gate {clear} has no failed verdict to clear: "
                        f"`revec status {collection.name}` lists the gates"
                    )
                lifted.append(f"the failed verdict of {clear}: {reason}")
                await self._judge_again(conn, migration, clear)
            if migration and lifted:
                await migrations.tell(conn, migration, who=self.who, why="; ".join(lifted))
        return lifted

    async def _give_money(
        self, conn: Connection, collection: Collection, migration: Migration | None, budget: Decimal
    ) -> str:
        if migration is None:
            raise Refused(f"no migration of {collection.name} is under way that could have a budget")
        require_price(migration.target)
        await migrations.set_budget(conn, migration, budget)
        return f"the budget: it is ${budget} now, ${migration.spent:.4f} is spent"

    async def _judge_again(self, conn: Connection, migration: Migration, gate: str) -> None:
        """A pass from before the failure does not stand in for a new look."""
        if gate in await migrations.verdicts(conn, migration):
            unknown = Verdict(gate, Outcome.INCONCLUSIVE, "a failure was cleared: not judged since")
            await migrations.record(conn, migration, unknown)

    async def pause_source(self, collection: Collection, name: str, why: str) -> None:
        """Leave a table's changes where they are: kept, and not read until it is resumed.

        Raises:
            Refused: there is nothing to leave, documents are handed in.
        """
        async with self.database.transaction() as conn:
            source = await collections.source(conn, collection, name)
            if source.mapping is None:
                raise Refused(
                    f"{name} of {collection.name} is pushed, nothing here reads it: stop `revec ingest`"
                )
            await collections.pause_source(conn, source, why)
            await self._tell_of_source(conn, collection, f"{name} is paused: {why}")

    async def resume_source(self, collection: Collection, name: str) -> str | None:
        """Read its changes again; why it was paused, or None where it was not."""
        async with self.database.transaction() as conn:
            source = await collections.source(conn, collection, name)
            if source.paused_why:
                await collections.pause_source(conn, source, None)
                await self._tell_of_source(conn, collection, f"{name} is read again")
        return source.paused_why

    async def _tell_of_source(self, conn: Connection, collection: Collection, why: str) -> None:
        if migration := await self._found(conn, collection):
            await migrations.tell(conn, migration, who=self.who, why=why)

    async def abort(self, collection: Collection, why: str) -> Migration:
        """Give the new index up; the old one serves as it did all along."""
        async with self.database.transaction() as conn:
            migration = await self._active(conn, collection)
            if not migration.state.can_abort:
                raise Refused(
                    f"{collection.name} is {migration.state}, users may see the new index: first "
                    f"{way_on(migration.state, collection.name)}"
                )
            await migrations.move(conn, migration, State.ABORTED, who=self.who, why=why)
            await self._forget_previous(conn, migration)
            await bridges.close(conn, migration.id, "the migration is aborted")
            if migration.new_index is not None:
                await indexes.retire(conn, migration.new_index)
        return migration

    async def cutover(self, collection: Collection, *, why: str) -> tuple[int, float]:
        """Serve the new index: the route's new epoch, and the seconds that the flip took.

        Raises:
            Refused: not ready, held, or moved by somebody else.
            GateNotMet: a required gate has no fresh pass.
        """
        async with self.database.transaction() as conn:
            migration = await self._active(conn, collection)
            if migration.state is not State.READY:
                raise Refused(
                    f"{collection.name} is {migration.state}, a cutover needs {State.READY}: "
                    f"`revec status {collection.name}` says what it waits for"
                )
            if migration.hold:
                raise Refused(
                    f"a guard holds {collection.name}: {migration.hold}; "
                    f"`revec resume {collection.name}` clears it"
                )
            verdicts = await migrations.verdicts(conn, migration)
        _require_fresh(collection, migration, verdicts)
        await self._require_current(collection, migration)
        rehearsal = await self._rehearse(collection, migration)
        evidence: dict[str, Any] = {
            "gates": {gate: str(verdict.outcome) for gate, (verdict, _) in verdicts.items()},
            "rehearsal": rehearsal.evidence,
        }
        if carried := await self._carry_threshold(migration):
            evidence["threshold"] = carried
        if said := await self.fusion_after(collection):
            evidence["fusion"] = said
        return await self._flip(migration, State.LIVE, why, evidence)

    async def rollback(self, collection: Collection, *, why: str, now: bool = False) -> tuple[int, float]:
        """Serve the old index again; it was written all along, so nothing is lost.

        `now`: ask nobody but the database, not even whether the old model still answers.

        Raises:
            Refused: nothing to roll back, or the old model is gone.
        """
        async with self.database.transaction() as conn:
            migration = await self._active(conn, collection, rolling_back=True)
        if migration.state is State.FINISHING:
            raise Refused(
                f"{collection.name} is finishing: `revec finish {collection.name} --cancel`, then roll back"
            )
        if not migration.state.can_roll_back:
            raise Refused(
                f"{collection.name} is {migration.state}: the old index serves, "
                f"there is nothing to roll back; {way_on(migration.state, collection.name)}"
            )
        if migration.is_first_fill:
            raise Refused(
                f"{collection.name} is served by its first index, there is nothing to roll back to: "
                f"`revec status {collection.name}` says what happens next"
            )
        if not now:
            await self._require_written(migration)
            gone = await conductor.probe_old_model(self.database, self.provider_for, migration)
            if gone:
                raise Refused(
                    f"rollback lost: {gone}. Queries could not be embedded for the old index; "
                    "`--now` rolls back all the same"
                )
        return await self._flip(migration, State.READY, why, {})

    async def finish(self, collection: Collection, *, wait: timedelta, why: str) -> Migration:
        """Drop the old index after `wait`; until then it is written, and `cancel` is honest."""
        async with self.database.transaction() as conn:
            migration = await self._active(conn, collection)
            if migration.state is not State.LIVE:
                raise Refused(
                    f"{collection.name} is {migration.state}, only a live migration can be finished: "
                    f"{way_on(migration.state, collection.name)}"
                )
            await migrations.move(conn, migration, State.FINISHING, who=self.who, why=why)
            await migrations.drop_after(conn, migration, wait)
        return migration

    async def cancel_finish(self, collection: Collection, *, why: str) -> Migration:
        async with self.database.transaction() as conn:
            migration = await self._active(conn, collection)
            if migration.state is not State.FINISHING:
                raise Refused(
                    f"{collection.name} is {migration.state}, nothing is being finished: "
                    f"{way_on(migration.state, collection.name)}"
                )
            await migrations.move(conn, migration, State.LIVE, who=self.who, why=why)
            await migrations.drop_after(conn, migration, None)
        return migration

    async def verify(self, collection: Collection) -> list[Verdict]:
        """Judge now: the new index of the migration under way, or the one that serves."""
        async with self.database.transaction() as conn:
            migration = await self._found(conn, collection)
            index_id = migration.new_index if migration else None
            if index_id is None:
                index_id = (await indexes.route_of(conn, collection.id)).serving
            if index_id is None:
                raise Refused(f"{collection.name} has no index yet: run `revec worker`")
            index = await indexes.by_id(conn, index_id)
        gates = migration.gates if migration else (verify.COMPLETENESS, verify.FIDELITY)
        verdicts = await conductor.judged(
            self.database,
            self.store,
            self.provider_for,
            index,
            gates=gates,
            limits=self.limits,
        )
        if migration and migration.state in (State.VERIFYING, State.READY, State.LIVE):
            async with self.database.transaction() as conn:
                for verdict in verdicts:
                    await migrations.record(conn, migration, verdict)
        return verdicts

    async def _require_written(self, migration: Migration) -> None:
        assert migration.old_index is not None
        async with self.database.transaction() as conn:
            old = await indexes.by_id(conn, migration.old_index)
        if old.fault:
            raise Refused(
                f"a rollback would miss what was written since {old.name} is not: {old.fault}; "
                "`--now` rolls back all the same"
            )
        try:
            await self.store.sample(self.database, old, 1)
        except StoreUnavailable as error:
            raise Refused(
                f"what the old index holds cannot be reached: {error}; `--now` rolls back all the same"
            ) from error

    async def _require_current(self, collection: Collection, migration: Migration) -> None:
        """A proof is of its hour: what was written since has to be in the new index too."""
        assert migration.new_index is not None
        async with self.database.transaction() as conn:
            index = await indexes.by_id(conn, migration.new_index)
            waiting = (await queue.open_work(conn, [index.id]))[index.id]
            unread = await verify.unread(conn, collection.id)
        if unread:
            raise GateNotMet(f"{unread}: `revec status {collection.name}` says how to go on")
        if index.fault:
            raise Refused(
                f"{index.name} is not written: {index.fault}; `revec resume {collection.name}` "
                "goes on once that is mended"
            )
        if waiting.oldest_seconds > self.limits.freshness:
            raise GateNotMet(
                f"{waiting.open:,} documents wait for {index.name}, the oldest for "
                f"{waiting.oldest_seconds:.0f} s: `revec worker` brings them in, "
                f"`revec status {collection.name}` shows them"
            )

    async def _still_proven(self, conn: Connection, seen: Migration) -> None:
        migration = await migrations.by_id(conn, seen.id)
        if migration.hold:
            raise Refused(f"a guard holds it: {migration.hold}")
        for gate, (verdict, _) in (await migrations.verdicts(conn, migration)).items():
            if gate in migration.gates and verdict.outcome is not Outcome.PASSED:
                raise GateNotMet(f"gate {gate} has not passed ({verdict.outcome}: {verdict.why})")

    async def _rehearse(self, collection: Collection, migration: Migration) -> Verdict:
        """One probe through both indexes, and the flip and back, undone before anybody sees it."""
        assert migration.new_index is not None
        try:
            async with self.database.transaction() as conn:
                seen = await indexes.route_of(conn, collection.id)
                row = await (
                    await conn.execute(verify.SQL.probe_text, {"collection": collection.id})
                ).fetchone()
                sides = [
                    await indexes.by_id(conn, index_id)
                    for index_id in (migration.old_index, migration.new_index)
                    if index_id is not None
                ]
            probe = row.text if row else "rehearsal"
            for index in sides:
                await self.retriever.read(collection.name, seen, index, probe, k=1, tenant=None, fresh=True)
            began = time.perf_counter()
            async with self.database.transaction() as conn, conn.transaction(force_rollback=True):
                flipped = await indexes.flip(
                    conn, seen, serving=migration.new_index, previous=migration.old_index
                )
            seconds = time.perf_counter() - began
        except (ProviderError, NotFound, StoreUnavailable, psycopg.Error) as error:
            raise GateNotMet(f"the rehearsal failed, nothing was flipped: {error}") from error
        if flipped is None:
            raise Refused("the route was moved by somebody else: look again")
        evidence = {"seconds": round(seconds, 4), "probed": [index.name for index in sides]}
        verdict = Verdict(REHEARSAL, Outcome.PASSED, "both sides answered a probe", evidence)
        async with self.database.transaction() as conn:
            await migrations.record(conn, migration, verdict)
        return verdict

    async def fusion_after(self, collection: Collection) -> str | None:
        """What the cutover that is to come changes about the fusion, in a sentence; None: nothing."""
        async with self.database.transaction() as conn:
            migration = await self._found(conn, collection)
            if migration is None or migration.old_index is None or migration.new_index is None:
                return None
            if (await indexes.route_of(conn, collection.id)).serving != migration.old_index:
                return None
            old, new = [
                await indexes.by_id(conn, index_id) for index_id in (migration.old_index, migration.new_index)
            ]
            return await fusion.after(conn, collection.name, old, new.space, new.query)

    async def _carry_threshold(self, migration: Migration) -> dict[str, Any] | None:
        """What was called similar is called so afterwards; kept by space, so a rollback needs nothing."""
        if migration.old_index is None or migration.new_index is None:
            return None
        async with self.database.transaction() as conn:
            old, new = [
                await indexes.by_id(conn, index_id) for index_id in (migration.old_index, migration.new_index)
            ]
        threshold = await thresholds.carry(self.database, self.store, old, new)
        return None if threshold is None else {"value": threshold.value, **threshold.evidence}

    async def _flip(
        self, migration: Migration, to: State, why: str, evidence: dict[str, Any]
    ) -> tuple[int, float]:
        """Route, state and history in one transaction; nothing else is touched."""
        forward = to is State.LIVE
        serving = migration.new_index if forward else migration.old_index
        previous = migration.old_index if forward else migration.new_index
        began = time.perf_counter()
        async with self.database.transaction() as conn:
            await migrations.move(conn, migration, to, who=self.who, why=why, evidence=evidence)
            if forward:  # the row is ours now: what was said while we rehearsed counts
                await self._still_proven(conn, migration)
                await bridges.close(conn, migration.id, "it has served since the cutover")
            seen = await indexes.route_of(conn, migration.collection_id)
            if forward and seen.serving != previous:
                raise Refused("the route does not serve what it should: look again with `revec status`")
            epoch = await indexes.flip(conn, seen, serving=serving, previous=previous)
            if epoch is None:
                raise Refused("the route was moved by somebody else: look again")
            await migrations.note(conn, migration, {"epoch": epoch})
        return epoch, time.perf_counter() - began

    async def _forget_previous(self, conn: Connection, migration: Migration) -> None:
        """After a rollback the route still knows the new index as the previous one."""
        seen = await indexes.route_of(conn, migration.collection_id)
        if seen.previous is not None:
            await indexes.flip(conn, seen, serving=seen.serving, previous=None)

    async def _found(self, conn: Connection, collection: Collection) -> Migration | None:
        under_way = await migrations.active(conn, collection.id)
        return under_way[0] if under_way else None

    async def _active(
        self, conn: Connection, collection: Collection, *, rolling_back: bool = False
    ) -> Migration:
        if migration := await self._found(conn, collection):
            return migration
        latest = await migrations.latest(conn, collection.id)
        if rolling_back and latest is not None and latest.state is State.FINISHED:
            raise Refused(
                f"{collection.name} has nothing to roll back: its last migration is finished and "
                f"the old index is dropped; `revec start {collection.name} --to MODEL` migrates back"
            )
        raise Refused(
            f"no migration of {collection.name} is under way: "
            f"`revec start {collection.name} --to MODEL` begins one"
        )


def require_price(address: str) -> None:
    """Refuse a budget that could not be kept."""
    if price(address) is None:
        raise BadInput(
            f"nobody knows the price of {address}, so a budget in dollars could not be kept: "
            "leave --budget out; `revec throttle` and the provider's own cap limit it too"
        )


def _require_fresh(collection: Collection, migration: Migration, verdicts: dict[str, Any]) -> None:
    for gate in migration.gates:
        verdict, age = verdicts.get(gate, (None, None))
        if verdict is None or verdict.outcome is not Outcome.PASSED:
            said = f"{verdict.outcome}: {verdict.why}" if verdict else "not judged yet"
            raise GateNotMet(f"gate {gate} has not passed ({said}): `revec verify {collection.name}`")
        if age > EVIDENCE_LASTS:
            raise GateNotMet(f"gate {gate} passed more than 24 h ago: `revec verify {collection.name}` again")
