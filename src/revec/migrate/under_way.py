"""The migration of a collection that is under way, and what is said where there is none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import psycopg

from revec.model.errors import Refused, RevecError
from revec.model.index import Collection
from revec.model.migration import Migration, State
from revec.observe import events
from revec.postgres import migrations
from revec.postgres.database import Connection, first_line, is_gone


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


async def apart(what: str, tick: Callable[[Migration], Awaitable[object]], migration: Migration) -> None:
    """Nothing waits for it, and its trouble stops nothing."""
    try:
        await tick(migration)
    except (RevecError, psycopg.Error) as error:
        if isinstance(error, psycopg.Error) and is_gone(error):
            raise
        events.emit(events.TryAgain(f"{what} of migration {migration.id}: {first_line(error)}"))
