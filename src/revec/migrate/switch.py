"""What users see: cut over, back, and the end of the old index. Each is one compare-and-set."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from revec.migrate import sentinels, thresholds, under_way
from revec.migrate.decide import way_on
from revec.migrate.gates.base import AT_THE_CUTOVER, Case, Tools, gate
from revec.migrate.outlook import EVIDENCE_LASTS
from revec.model.errors import GateNotMet, Refused, StoreUnavailable
from revec.model.index import Collection
from revec.model.migration import Migration, State
from revec.model.verdict import Outcome, Verdict
from revec.observe.failpoints import failpoint
from revec.postgres import bridges, collections, indexes, ledgers, migrations, orders, overrides
from revec.postgres.database import Connection
from revec.search import fusion


@dataclass(frozen=True, slots=True)
class Switch:
    """The verbs that move the route, in one person's name."""

    tools: Tools
    who: str

    async def cutover(self, collection: Collection, *, why: str) -> tuple[int, float]:
        """Serve the new index: the route's new epoch, and the seconds that the flip took.

        Raises:
            Refused: not ready, held, or moved by somebody else.
            GateNotMet: a required gate has no fresh pass.
        """
        migration, evidence = await self.proven(collection, "a cutover")
        if carried := await self._carry_threshold(migration):
            evidence["threshold"] = carried
        if said := await self.fusion_after(collection):
            evidence["fusion"] = said
        return await self._flip(migration, State.LIVE, why, evidence)

    async def proven(self, collection: Collection, what: str) -> tuple[Migration, dict[str, Any]]:
        """The migration, on whose proofs users may see the new index, and these proofs.

        Raises:
            Refused: not ready, held, or moved by somebody else.
            GateNotMet: a required gate has no fresh pass.
        """
        async with self.tools.database.transaction() as conn:
            migration = await under_way.active(conn, collection)
            if migration.state not in {State.READY, State.CANARY}:
                raise Refused(
                    f"{collection.name} is {migration.state}, {what} needs {State.READY}: "
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
        asked = await self._ask_now(collection, migration)
        return migration, {
            "gates": {name: str(verdict.outcome) for name, (verdict, _) in verdicts.items()},
            "overridden": dict(migration.overridden),
            **{name: verdict.evidence for name, verdict in asked.items()},
        }

    async def rollback(self, collection: Collection, *, why: str, now: bool = False) -> tuple[int, float]:
        """Serve the old index again; it was written all along, so nothing is lost.

        `now`: ask nobody but the database, not even whether the old model still answers.

        Raises:
            Refused: nothing to roll back, or the old model is gone.
        """
        async with self.tools.database.transaction() as conn:
            migration = await under_way.active(conn, collection, rolling_back=True)
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
            gone = await sentinels.probe_old(self.tools.database, self.tools.provider_for, migration)
            if gone:
                raise Refused(
                    f"rollback lost: {gone}. Queries could not be embedded for the old index; "
                    "`--now` rolls back all the same"
                )
        return await self._flip(migration, State.READY, why, {} if now else await self._missed(migration))

    async def _missed(self, migration: Migration) -> dict[str, Any]:
        """What a column that somebody else writes has no vectors for: said, and no reason to stay."""
        assert migration.old_index is not None
        async with self.tools.database.transaction() as conn:
            old = await indexes.by_id(conn, migration.old_index)
            behind = await ledgers.behind(conn, old)
        return {"behind": behind} if behind else {}

    async def guarded_back(
        self, migration: Migration, why: str, evidence: dict[str, Any]
    ) -> tuple[int, float]:
        """A guard's rollback: nobody is asked but the database, once in a migration, and it is held then.

        Raises:
            Refused: somebody else moved it first.
        """
        return await self._flip(migration, State.READY, why, evidence, hold=why)

    async def finish(self, collection: Collection, *, wait: timedelta, why: str) -> Migration:
        """Drop the old index after `wait`; until then it is written, and `cancel` is honest."""
        async with self.tools.database.transaction() as conn:
            migration = await under_way.active(conn, collection)
            if migration.state is not State.LIVE:
                raise Refused(
                    f"{collection.name} is {migration.state}, only a live migration can be finished: "
                    f"{way_on(migration.state, collection.name)}"
                )
            await migrations.move(conn, migration, State.FINISHING, who=self.who, why=why)
            await require_nobody_on_the_old(conn, collection.name, migration)  # the row is ours now
            await migrations.drop_after(conn, migration, wait)
        return migration

    async def cancel_finish(self, collection: Collection, *, why: str) -> Migration:
        async with self.tools.database.transaction() as conn:
            migration = await under_way.active(conn, collection)
            if migration.state is not State.FINISHING:
                raise Refused(
                    f"{collection.name} is {migration.state}, nothing is being finished: "
                    f"{way_on(migration.state, collection.name)}"
                )
            await migrations.move(conn, migration, State.LIVE, who=self.who, why=why)
            await migrations.drop_after(conn, migration, None)
        return migration

    async def fusion_after(self, collection: Collection) -> str | None:
        """What the cutover that is to come changes about the fusion, in a sentence; None: nothing."""
        async with self.tools.database.transaction() as conn:
            migration = await under_way.found(conn, collection)
            if migration is None or migration.old_index is None or migration.new_index is None:
                return None
            if (await indexes.route_of(conn, collection.id)).serving != migration.old_index:
                return None
            old, new = [
                await indexes.by_id(conn, index_id) for index_id in (migration.old_index, migration.new_index)
            ]
            return await fusion.after(conn, collection.name, old, new.space, new.query)

    async def _require_written(self, migration: Migration) -> None:
        assert migration.old_index is not None
        async with self.tools.database.transaction() as conn:
            old = await indexes.by_id(conn, migration.old_index)
        if old.fault:
            raise Refused(
                f"a rollback would miss what was written since {old.name} is not: {old.fault}; "
                "`--now` rolls back all the same"
            )
        try:
            await self.tools.store.sample(self.tools.database, old, 1)
        except StoreUnavailable as error:
            raise Refused(
                f"what the old index holds cannot be reached: {error}; `--now` rolls back all the same"
            ) from error

    async def _require_current(self, collection: Collection, migration: Migration) -> None:
        """A proof is of its hour: what was written since has to be in the new index too."""
        assert migration.new_index is not None
        async with self.tools.database.transaction() as conn:
            index = await indexes.by_id(conn, migration.new_index)
            unread = await collections.unread(conn, collection.id)
        if unread:
            raise GateNotMet(f"{unread}: `revec status {collection.name}` says how to go on")
        if index.fault:
            raise Refused(
                f"{index.name} is not written: {index.fault}; `revec resume {collection.name}` "
                "goes on once that is mended"
            )

    async def still_proven(self, conn: Connection, seen: Migration) -> None:
        migration = await migrations.by_id(conn, seen.id)
        if migration.hold:
            raise Refused(f"a guard holds it: {migration.hold}")
        for name, (verdict, _) in (await migrations.verdicts(conn, migration)).items():
            if name in migration.required and verdict.outcome is not Outcome.PASSED:
                raise GateNotMet(f"gate {name} has not passed ({verdict.outcome}: {verdict.why})")

    async def _ask_now(self, collection: Collection, migration: Migration) -> dict[str, Verdict]:
        """What is asked by the cutover itself: a proof is of its hour, and these are of this moment.

        Raises:
            GateNotMet: one of them did not pass; nothing was flipped.
            Refused: the route was moved by somebody else.
        """
        assert migration.new_index is not None
        async with self.tools.database.transaction() as conn:
            index = await indexes.by_id(conn, migration.new_index)
        found: dict[str, Verdict] = {}
        for name in AT_THE_CUTOVER:
            verdict = await gate(name).judge(Case(self.tools, index, migration))
            if verdict.outcome is not Outcome.PASSED:
                raise GateNotMet(
                    f"the {name} failed, nothing was flipped: {verdict.why}; "
                    f"`revec status {collection.name}` says where it stands"
                )
            found[name] = verdict
        async with self.tools.database.transaction() as conn:
            for verdict in found.values():
                await migrations.record(conn, migration, verdict)
        return found

    async def _carry_threshold(self, migration: Migration) -> dict[str, Any] | None:
        """What was called similar is called so afterwards; kept by space, so a rollback needs nothing."""
        if migration.old_index is None or migration.new_index is None:
            return None
        async with self.tools.database.transaction() as conn:
            old, new = [
                await indexes.by_id(conn, index_id) for index_id in (migration.old_index, migration.new_index)
            ]
        threshold = await thresholds.carry(self.tools.database, self.tools.store, old, new)
        return None if threshold is None else {"value": threshold.value, **threshold.evidence}

    async def _flip(
        self,
        migration: Migration,
        to: State,
        why: str,
        evidence: dict[str, Any],
        *,
        hold: str | None = None,
    ) -> tuple[int, float]:
        """Route, state and history in one transaction; nothing else is touched."""
        forward = to is State.LIVE
        serving = migration.new_index if forward else migration.old_index
        previous = migration.old_index if forward else migration.new_index
        began = time.perf_counter()
        async with self.tools.database.transaction() as conn:
            await migrations.move(conn, migration, to, who=self.who, why=why, evidence=evidence)
            if forward:  # the row is ours now: what was said while we rehearsed counts
                await self.still_proven(conn, migration)
                await require_approval(conn, migration)
                await bridges.close(conn, migration.id, "it has served since the cutover")
            if hold:
                await migrations.latch(conn, migration, hold)
                await migrations.guarded_back(conn, migration)  # what a person let pass was before this
            seen = await indexes.route_of(conn, migration.collection_id)
            if forward and seen.serving != previous:
                raise Refused("the route does not serve what it should: look again with `revec status`")
            held = await overrides.in_force(conn, migration.collection_id) if forward else {}
            epoch = await indexes.flip(conn, seen, serving=serving, previous=previous)
            if epoch is None:
                raise Refused("the route was moved by somebody else: look again")
            # Who is held stays with the old index: written anew, since the flip voided it.
            stay = {tenant: index for tenant, index in held.items() if index != serving}
            await overrides.put(conn, migration.collection_id, epoch, stay)
            await orders.forget(conn, migration)
            failpoint("flipped")
            await migrations.note(
                conn, migration, {"epoch": epoch, **({"held": sorted(stay)} if stay else {})}
            )
        return epoch, time.perf_counter() - began


def _require_fresh(collection: Collection, migration: Migration, verdicts: dict[str, Any]) -> None:
    for name in migration.required:
        verdict, age = verdicts.get(name, (None, None))
        if verdict is None or verdict.outcome is not Outcome.PASSED:
            said = f"{verdict.outcome}: {verdict.detail}" if verdict else "not judged yet"
            raise GateNotMet(f"gate {name} has not passed ({said}): `revec verify {collection.name}`")
        if age > EVIDENCE_LASTS:
            raise GateNotMet(f"gate {name} passed more than 24 h ago: `revec verify {collection.name}` again")


async def require_nobody_on_the_old(conn: Connection, name: str, migration: Migration) -> None:
    """
    Raises:
        Refused: there are tenants that the old index answers.
    """
    apart = await overrides.in_force(conn, migration.collection_id)
    if left := sorted(tenant for tenant, index in apart.items() if index == migration.old_index):
        raise Refused(
            f"{len(left)} tenants are still on the old index ({', '.join(left[:5])}): "
            f"`revec canary {name} --tenants {','.join(left[:5])}` moves them to the new one"
        )


async def require_approval(conn: Connection, migration: Migration) -> None:
    """
    Raises:
        Refused: the cutover takes two people, and they have not both said so of late.
    """
    order = await orders.of(conn, migration)
    if migration.approvals == 1:
        return
    if order is None or not order.is_whole(migration.approvals) or order.has_lapsed:
        raise Refused("this cutover takes two people: one orders it, another one approves it within 24 h")
