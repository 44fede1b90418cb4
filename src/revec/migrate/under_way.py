"""The migration of a collection that is under way, and what is said where there is none."""

from __future__ import annotations

from revec.model.errors import Refused
from revec.model.index import Collection
from revec.model.migration import Migration, State
from revec.postgres import migrations
from revec.postgres.database import Connection


async def found(conn: Connection, collection: Collection) -> Migration | None:
    under_way = await migrations.active(conn, collection.id)
    return under_way[0] if under_way else None


async def active(conn: Connection, collection: Collection, *, rolling_back: bool = False) -> Migration:
    if migration := await found(conn, collection):
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
