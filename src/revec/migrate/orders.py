"""A cutover that waits for its hour, for a second person, or for both; its proofs are asked for then."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from revec.migrate import under_way
from revec.migrate.switch import Switch
from revec.model.errors import BadInput, GateNotMet, ProviderError, Refused
from revec.model.index import Collection
from revec.model.migration import Migration, State
from revec.postgres import migrations, orders
from revec.postgres.database import Connection
from revec.postgres.orders import Order, person

LATEST = 600.0  # seconds: a cutover that missed its hour by more is nobody's wish any more
CAN_WAIT = {State.READY, State.CANARY}

Flipped = tuple[int, float]  # the route's new epoch, and the seconds that the flip took


@dataclass(frozen=True, slots=True)
class Orders:
    switch: Switch

    async def cutover(
        self, collection: Collection, *, why: str, at: datetime | None = None
    ) -> Flipped | Order:
        """Cut over now; or write it down, where it has an hour or takes a second person.

        Raises:
            BadInput: the hour is over.
            Refused, GateNotMet: as `Switch.cutover` does.
        """
        if at is not None and at <= datetime.now(UTC):
            raise BadInput(f"{at.isoformat()} is over: leave --at out to cut over now")
        async with self.switch.tools.database.transaction() as conn:
            migration = await under_way.active(conn, collection)
        if at is None and migration.approvals == 1:
            return await self.switch.cutover(collection, why=why)
        await self.switch.proven(collection, "a cutover")  # better heard now than at that hour
        async with self.switch.tools.database.transaction() as conn:
            said = f"a cutover at {at.isoformat()}" if at else "a cutover"
            second = ", if another person approves" if migration.approvals > 1 else ""
            await migrations.stay(conn, migration, who=self.switch.who, why=f"ordered {said}{second}: {why}")
            await orders.put(conn, migration, at=at, who=self.switch.who, why=why)
            order = await orders.of(conn, migration)
        assert order is not None
        return order

    async def approve(self, collection: Collection, *, why: str) -> Flipped | Order:
        """A second person wants it too: cut over, or leave it to its hour.

        Raises:
            Refused: nothing is ordered, or the same person ordered it.
            GateNotMet: as `Switch.cutover` does.
        """
        who = self.switch.who
        async with self.switch.tools.database.transaction() as conn:
            migration = await under_way.active(conn, collection)
            order = await _standing(conn, collection, migration)
            if person(order.ordered_by) == person(who):
                raise Refused(
                    f"{who} ordered this cutover as {order.ordered_by}: it takes another person's approval"
                )
            await migrations.stay(
                conn, migration, who=who, why=f"approved {order.ordered_by}'s cutover: {why}"
            )
            if not await orders.approve(conn, migration, order, who):
                raise Refused(f"the order was changed meanwhile: `revec status {collection.name}`")
            order = await _standing(conn, collection, migration)
        if order.seconds > 0:
            return order
        return await self.switch.cutover(collection, why=f"{order.why} (ordered by {order.ordered_by})")

    async def cancel(self, collection: Collection, *, why: str) -> None:
        """
        Raises:
            Refused: nothing is ordered.
        """
        async with self.switch.tools.database.transaction() as conn:
            migration = await under_way.active(conn, collection)
            await _standing(conn, collection, migration)
            await migrations.stay(conn, migration, who=self.switch.who, why=f"cancelled the cutover: {why}")
            await orders.forget(conn, migration)

    async def keep(self, collection: Collection, migration: Migration) -> Flipped | None:
        """At its hour: cut over, or say why not. Either way the order is over."""
        async with self.switch.tools.database.transaction() as conn:
            order = await orders.of(conn, migration)
        if order is None:
            return None
        if order.late > LATEST:
            await self._give_up(migration, order, f"it was missed by {order.late / 60:.0f} minutes")
            return None
        try:
            return await self.switch.cutover(collection, why=f"{order.why} (ordered by {order.ordered_by})")
        except (Refused, GateNotMet, ProviderError) as error:
            await self._give_up(migration, order, str(error))
            return None

    async def _give_up(self, migration: Migration, order: Order, trouble: str) -> None:
        async with self.switch.tools.database.transaction() as conn:
            now = await orders.of(conn, migration)
            if now is None or now.ordered_at != order.ordered_at:
                return  # it was done, cancelled, or ordered anew meanwhile
            why = f"the cutover that {order.ordered_by} ordered was not done: {trouble}"
            await migrations.stay(conn, migration, who=self.switch.who, why=why)
            await orders.forget(conn, migration)


async def _standing(conn: Connection, collection: Collection, migration: Migration) -> Order:
    order = await orders.of(conn, migration)
    if order is None or order.has_lapsed:
        raise Refused(
            f"no cutover of {collection.name} is ordered: `revec cutover {collection.name}` orders one"
        )
    return order
