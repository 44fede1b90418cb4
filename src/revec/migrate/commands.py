"""What a person may do to a migration. Each is one compare-and-set and one line of history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from revec.migrate import told_apart, under_way
from revec.migrate.canary import Canary
from revec.migrate.decide import way_on
from revec.migrate.gates.base import COMPLETENESS, FIDELITY, REHEARSAL, Case, Tools, judged
from revec.migrate.orders import Orders
from revec.migrate.planning.planned import Plan
from revec.migrate.planning.reality import STARTED
from revec.migrate.planning.survey import require_documents
from revec.migrate.shadow import Shadowing
from revec.migrate.switch import Switch
from revec.model.course import ALL, STRAIGHT_ON, Course
from revec.model.errors import BadInput, Refused
from revec.model.index import Collection
from revec.model.migration import Migration, State
from revec.model.verdict import Outcome, Verdict
from revec.postgres import bridges, collections, guards, indexes, ledgers, migrations, tenants
from revec.postgres.database import Connection
from revec.work import control
from revec.work.prices import price

JUDGED = (State.VERIFYING, State.SHADOWING, State.READY, State.CANARY, State.LIVE)  # verdicts are kept


@dataclass(frozen=True, slots=True)
class Commands:
    """The verbs that begin, hold up, judge and give up, in one person's name."""

    tools: Tools
    who: str

    @property
    def switch(self) -> Switch:
        """The verbs that move what users see."""
        return Switch(self.tools, self.who)

    @property
    def shadow(self) -> Shadowing:
        """The verbs of the index that is read behind the answers."""
        return Shadowing(self.tools, self.who)

    @property
    def canary(self) -> Canary:
        """The verb that moves some of them."""
        return Canary(self.switch)

    @property
    def orders(self) -> Orders:
        """A cutover that may have to wait."""
        return Orders(self.switch)

    async def start(
        self,
        plan: Plan,
        *,
        budget: Decimal | None = None,
        approvals: int = 1,
        guard_dead: str = "alarm",
    ) -> Migration:
        """Write the plan down; the workers do the rest, for `budget` US dollars at most.

        `approvals`: people that its cutover takes, 1 or 2; `guard_dead`: `alarm` or `rollback`.
        """
        if budget is not None:
            require_price(plan.space.address)
        async with self.tools.database.transaction() as conn:
            serving = (await indexes.route_of(conn, plan.collection.id)).serving
            if serving != (plan.old.id if plan.old else None):
                raise Refused(
                    f"what serves {plan.collection.name} changed since the plan was made: "
                    f"`revec plan {plan.collection.name} --to {plan.space.address}` again"
                )
            await _require_told_apart(conn, plan)
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
                judged=plan.power.quality if plan.power else None,
                shadow=plan.shadow,
                course=plan.course,
                approvals=approvals,
                guard_dead=guard_dead,
            )
            if plan.old and plan.old.column and (lost := plan.old.column.unverifiable):
                await migrations.set_old_model(conn, migration, lost)
            if plan.course.batch_size:
                await control.throttle(conn, plan.collection, claim=plan.course.batch_size, who=self.who)
            await migrations.tell(conn, migration, who=self.who, why=STARTED, evidence=plan.facts)
        return migration

    async def pause(self, collection: Collection, why: str) -> Migration:
        async with self.tools.database.transaction() as conn:
            migration = await under_way.active(conn, collection)
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
        async with self.tools.database.transaction() as conn:
            await tenants.pause(conn, collection.id, names, why)
            await self._tell_of_tenants(conn, collection, f"paused {', '.join(names)}: {why}")

    async def resume_tenants(self, collection: Collection, names: Sequence[str], why: str) -> list[str]:
        """Those that were paused."""
        async with self.tools.database.transaction() as conn:
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
        course: Course = STRAIGHT_ON,
    ) -> list[str]:
        """Lift a pause, an index's fault, and one failed gate, and set a budget; what was lifted.

        `course`: where its backfill goes on to, or whose it is as well (ALL: everybody's).
        A guard's hold goes only where nothing else is asked for: who gives money has not looked at it.
        """
        lifted = []
        async with self.tools.database.transaction() as conn:
            for index in await indexes.writing(conn, collection.id):
                if index.fault:
                    await indexes.mend(conn, index.id)
                    lifted.append(f"the fault of {index.name}: {index.fault}")
            migration = await under_way.found(conn, collection)
            if budget is not None:
                lifted.append(await self._give_money(conn, collection, migration, budget))
            if course != STRAIGHT_ON:
                lifted += await self._go_on(conn, collection, migration, course)
            if migration and migration.paused_why:
                await migrations.pause(conn, migration, None)
                lifted.append(f"the pause: {migration.paused_why}")
            if migration and clear is None and budget is None and course == STRAIGHT_ON:
                lifted += await _looked_at(conn, migration)
            if clear:
                lifted.append(await self._clear(conn, collection, migration, clear, reason))
            if migration and lifted:
                await migrations.tell(conn, migration, who=self.who, why="; ".join(lifted))
        return lifted

    async def _clear(
        self, conn: Connection, collection: Collection, migration: Migration | None, gate: str, reason: str
    ) -> str:
        if migration is None:
            raise Refused(
                f"no migration of {collection.name} is under way, so there is nothing to clear: "
                f"`revec start {collection.name} --to MODEL` begins one"
            )
        if not await migrations.clear(conn, migration, gate, reason):
            raise Refused(
                f"gate {gate} has no failed verdict to clear: "
                f"`revec status {collection.name}` lists the gates"
            )
        await self._judge_again(conn, migration, gate)
        return f"the failed verdict of {gate}: {reason}"

    async def _go_on(
        self, conn: Connection, collection: Collection, migration: Migration | None, course: Course
    ) -> list[str]:
        if migration is None or migration.cursor_done:
            raise Refused(f"no backfill of {collection.name} is under way that could go on to somewhere")
        lifted = []
        if course.until is not None:
            await migrations.set_until(conn, migration, course.until)
            lifted.append(f"the backfill's end: it is to stop at {100 * course.until:g}%")
        if course.tenants and migration.tenants:
            everybody = ALL in course.tenants
            if not everybody:
                await require_documents(conn, collection, course.tenants)
            now = () if everybody else (*migration.tenants, *course.tenants)
            await migrations.set_tenants(conn, migration, tuple(dict.fromkeys(now)))
            lifted.append(f"the wait of tenants: the backfill is for {', '.join(now) or 'all of them'}")
        return lifted

    async def _give_money(
        self, conn: Connection, collection: Collection, migration: Migration | None, budget: Decimal
    ) -> str:
        if migration is None:
            raise Refused(f"no migration of {collection.name} is under way that could have a budget")
        require_price(migration.target)
        await migrations.set_budget(conn, migration, budget)
        return f"the budget: it is ${budget} now, ${migration.spent:.4f} is spent"

    async def override(self, collection: Collection, gates: Sequence[str], reason: str) -> None:
        """Let required gates count as passed; one that had not failed stops doing so when it fails.

        Of the rehearsal, the way back: the old model may be gone, the new side has to answer all the same.

        Raises:
            BadInput: no reason, or a gate that nothing stands in for.
            Refused: no migration is under way, or the gate is not required.
        """
        if not reason.strip():
            raise BadInput("--override wants a --reason: it is what the history says")
        if COMPLETENESS in gates:
            raise BadInput(
                "nothing advances on missing data, so completeness is not overridden: "
                f"`revec queue accept {collection.name}` leaves documents out that cannot be embedded"
            )
        async with self.tools.database.transaction() as conn:
            migration = await under_way.active(conn, collection)
            if unknown := [gate for gate in gates if gate not in {*migration.gates, REHEARSAL}]:
                raise Refused(
                    f"{', '.join(unknown)} is not required of {collection.name}'s migration: "
                    f"{', '.join(migration.gates)} are; `revec status {collection.name}` lists them"
                )
            await migrations.lock(conn, migration)
            verdicts = await migrations.verdicts(conn, migration)
            for gate in gates:
                said = verdicts.get(gate)
                stood = said[0].outcome if said else None
                await migrations.override(conn, migration, gate, reason=reason, stood=stood)
                await migrations.tell(
                    conn,
                    migration,
                    who=self.who,
                    why=f"gate {gate} counts as passed: {reason}",
                    evidence={"gate": gate, "stood": str(said[0]) if said else "not judged yet"},
                )

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
        async with self.tools.database.transaction() as conn:
            source = await collections.source(conn, collection, name)
            if source.mapping is None:
                raise Refused(
                    f"{name} of {collection.name} is pushed, nothing here reads it: stop `revec ingest`"
                )
            await collections.pause_source(conn, source, why)
            await self._tell_of_source(conn, collection, f"{name} is paused: {why}")

    async def resume_source(self, collection: Collection, name: str) -> str | None:
        """Read its changes again; why it was paused, or None where it was not."""
        async with self.tools.database.transaction() as conn:
            source = await collections.source(conn, collection, name)
            if source.paused_why:
                await collections.pause_source(conn, source, None)
                await self._tell_of_source(conn, collection, f"{name} is read again")
        return source.paused_why

    async def _tell_of_source(self, conn: Connection, collection: Collection, why: str) -> None:
        if migration := await under_way.found(conn, collection):
            await migrations.tell(conn, migration, who=self.who, why=why)

    async def abort(self, collection: Collection, why: str) -> Migration:
        """Give the new index up; the old one serves as it did all along."""
        async with self.tools.database.transaction() as conn:
            migration = await under_way.active(conn, collection)
            if not migration.state.can_abort:
                raise Refused(
                    f"{collection.name} is {migration.state}, users may see the new index: first "
                    f"{way_on(migration.state, collection.name)}"
                )
            await migrations.move(conn, migration, State.ABORTED, who=self.who, why=why)
            await _forget_previous(conn, migration)
            await bridges.close(conn, migration.id, "the migration is aborted")
            if migration.new_index is not None:
                await indexes.retire(conn, migration.new_index)
            if migration.old_index is not None:
                await ledgers.give_back(conn, migration.old_index)
        return migration

    async def verify(self, collection: Collection) -> list[Verdict]:
        """Judge now: the new index of the migration under way, or the one that serves."""
        async with self.tools.database.transaction() as conn:
            migration = await under_way.found(conn, collection)
            index_id = migration.new_index if migration else None
            if index_id is None:
                index_id = (await indexes.route_of(conn, collection.id)).serving
            if index_id is None:
                raise Refused(f"{collection.name} has no index yet: run `revec worker`")
            index = await indexes.by_id(conn, index_id)
        gates = migration.gates if migration else (COMPLETENESS, FIDELITY)
        verdicts = await judged(Case(self.tools, index, migration), gates)
        if migration and migration.state in JUDGED:
            async with self.tools.database.transaction() as conn:
                for verdict in verdicts:
                    await migrations.record(conn, migration, verdict)
        return verdicts


async def _looked_at(conn: Connection, migration: Migration) -> list[str]:
    """A person has looked: no guard holds it, and everything is watched anew."""
    alarms = await guards.forget(conn, migration)
    if not migration.hold:
        return alarms
    await migrations.unhold(conn, migration)
    return [f"the hold: {migration.hold}"]


async def _require_told_apart(conn: Connection, plan: Plan) -> None:
    """
    Raises:
        Refused: an SQL function could not tell the vectors of the two models apart.
    """
    if plan.old and (why := await told_apart.why_not(conn, plan.collection, plan.old.space, plan.space)):
        raise Refused(why)


async def _forget_previous(conn: Connection, migration: Migration) -> None:
    """After a rollback the route still knows the new index as the previous one."""
    seen = await indexes.route_of(conn, migration.collection_id)
    if seen.previous is not None:
        await indexes.flip(conn, seen, serving=seen.serving, previous=None)


def require_price(address: str) -> None:
    """Refuse a budget that could not be kept."""
    if price(address) is None:
        raise BadInput(
            f"nobody knows the price of {address}, so a budget in dollars could not be kept: "
            "leave --budget out; `revec throttle` and the provider's own cap limit it too"
        )
