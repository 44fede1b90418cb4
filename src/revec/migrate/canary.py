"""Some users see the new index: a share of them, or whole tenants; and some tenants stay with the old one.

Who is answered by which index is one row and one epoch, so every change of it is a compare-and-set like a
cutover, and the next one voids it whole. A larger share contains every smaller one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from revec.migrate import under_way
from revec.migrate.decide import way_on
from revec.migrate.switch import Switch
from revec.model.errors import BadInput, Refused
from revec.model.index import Collection, Route
from revec.model.migration import Migration, State
from revec.observe.failpoints import failpoint
from revec.postgres import canaries, indexes, migrations, overrides
from revec.postgres.database import Connection

QUIET = 1_000  # answers of the new index without a guard's alarm, before the next step


@dataclass(frozen=True, slots=True)
class Wanted:
    """Who is to see what. Shares are of the sticky keys, 0 to 1."""

    share: float | None = None  # None: as it is
    tenants: Sequence[str] = ()  # by the new index, from now on
    hold: Sequence[str] = ()  # by the old one, also after the cutover
    steps: Sequence[float] = ()  # shares that the conductor goes through by itself after this one
    quiet: int = QUIET

    def __post_init__(self) -> None:
        shares = [*([] if self.share is None else [self.share]), *self.steps]
        if any(not 0 <= share <= 1 for share in shares):
            raise BadInput("a share of the users is between 0% and 100%")
        if shares != sorted(shares):
            raise BadInput("each step shows the new index to more users than the one before: write 1,10,50")
        if both := sorted({*self.tenants} & {*self.hold}):
            raise BadInput(f"tenant {both[0]} cannot both see the new index and be held on the old one")
        if self.share is None and not (self.tenants or self.hold):
            raise BadInput("who is to see the new index? Say --percent, --steps, --tenants or --hold")

    def widens(self, seen: Route) -> bool:
        """Somebody will see the new index who does not yet."""
        more = self.share is not None and (self.share > seen.share or bool(self.steps))
        return more or bool(self.tenants)

    @property
    def said(self) -> dict[str, Any]:
        shares = {} if self.share is None else {"share": self.share, "steps": [*self.steps]}
        tenants = {"tenants": sorted(self.tenants)} if self.tenants else {}
        return shares | tenants | ({"held": sorted(self.hold)} if self.hold else {})


@dataclass(frozen=True, slots=True)
class Canary:
    switch: Switch

    async def show(self, collection: Collection, wanted: Wanted, *, why: str, seen: int | None = None) -> int:
        """Move these users, and nobody else; the route's new epoch.

        `seen`: the epoch that this was wished for; None: the present one.

        Raises:
            BadInput: a tenant that has no document.
            Refused: not in this state, held by a guard, or moved by somebody else.
            GateNotMet: more users would see it, and a required gate has no fresh pass.
        """
        async with self.switch.tools.database.transaction() as conn:
            migration = await under_way.active(conn, collection)
            _require_state(collection, migration, wanted)
            if unknown := await overrides.unknown(conn, collection.id, [*wanted.tenants, *wanted.hold]):
                raise BadInput(f"{collection.name} has no document of tenant {unknown[0]!r}")
            route = await indexes.route_of(conn, collection.id)
            widens, seen = wanted.widens(route), route.epoch if seen is None else seen
        evidence: dict[str, Any] = {"users": wanted.said}
        if widens and migration.state is not State.LIVE:
            migration, proofs = await self.switch.proven(collection, "a canary")
            evidence |= proofs
        async with self.switch.tools.database.transaction() as conn:
            await self._take(conn, migration, why, evidence)
            if widens:  # the row is ours now: what was said while we rehearsed counts
                await self.switch.still_proven(conn, migration)
            _require_unmoved(await indexes.route_of(conn, collection.id), seen, wanted, widens=widens)
            epoch = await self._flip(conn, migration, wanted)
            await migrations.note(conn, migration, {"epoch": epoch})
        return epoch

    async def _take(self, conn: Connection, migration: Migration, why: str, evidence: dict[str, Any]) -> None:
        if migration.state is State.READY:
            await migrations.move(
                conn, migration, State.CANARY, who=self.switch.who, why=why, evidence=evidence
            )
        else:
            await migrations.stay(conn, migration, who=self.switch.who, why=why, evidence=evidence)

    async def _flip(self, conn: Connection, migration: Migration, wanted: Wanted) -> int:
        old, new = migration.old_index, migration.new_index
        assert old is not None
        assert new is not None
        seen = await indexes.route_of(conn, migration.collection_id)
        live = migration.state is State.LIVE
        if seen.serving != (new if live else old):
            raise Refused("the route does not serve what it should: look again with `revec status`")
        apart = await overrides.in_force(conn, migration.collection_id)
        apart |= dict.fromkeys(wanted.tenants, new) | dict.fromkeys(wanted.hold, old)
        share = seen.share if wanted.share is None else wanted.share
        epoch = await indexes.flip(
            conn,
            seen,
            serving=seen.serving,
            previous=seen.previous,
            canary=None if live else new,
            share=0.0 if live else share,
        )
        if epoch is None:
            raise Refused("the route was moved by somebody else: look again")
        if live:  # who is answered by what serves needs no row of his own
            apart = {tenant: index for tenant, index in apart.items() if index != new}
        await overrides.put(conn, migration.collection_id, epoch, apart)
        steps = [step for step in wanted.steps if step > share]
        await canaries.put(conn, migration, steps=steps, quiet=wanted.quiet, epoch=epoch)
        failpoint("shown")
        return epoch


def _require_state(collection: Collection, migration: Migration, wanted: Wanted) -> None:
    name, state = collection.name, migration.state
    if migration.is_first_fill:
        raise Refused(f"{name} gets its first index: there is no old one to keep anybody on")
    if state is State.LIVE and (wanted.share is not None):
        raise Refused(f"{name} is live, everybody sees the new index: {way_on(state, name)}")
    if state is State.READY and wanted.share is None and not wanted.tenants:
        raise Refused(f"{name} is ready, everybody is on the old index: hold tenants as users move")
    if state not in {State.READY, State.CANARY, State.LIVE}:
        raise Refused(f"{name} is {state}, a canary needs {State.READY}: {way_on(state, name)}")


def _require_unmoved(route: Route, seen: int, wanted: Wanted, *, widens: bool) -> None:
    """Who is taken back is taken back whatever else moved; who is to see more was reckoned from what was."""
    if route.epoch != seen and (widens or wanted.widens(route)):
        raise Refused(f"somebody moved users meanwhile, the route is at epoch {route.epoch}: look again")


async def next_step(conn: Connection, migration: Migration) -> tuple[Wanted, int] | None:
    """What the conductor may do once it was quiet, and at which epoch; None where a person decides."""
    standing = await canaries.of(conn, migration)
    if standing is None or not standing.steps or not standing.is_quiet:
        return None
    first, *later = standing.steps
    return Wanted(share=first, steps=later, quiet=standing.quiet), standing.epoch
