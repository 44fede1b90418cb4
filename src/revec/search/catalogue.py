"""What can be searched: which collections there are, what serves them, what else could be asked."""

from __future__ import annotations

from revec.model.index import Askable, Listed
from revec.postgres import collections, indexes
from revec.postgres.database import Database


async def listed(database: Database) -> list[Listed]:
    """Every collection, in the order of their names."""
    async with database.transaction("worker") as conn:
        rows = await collections.listed(conn)
        written = await indexes.writing(conn)
        routes = {row.id: await indexes.route_of(conn, row.id) for row in rows}
    return [
        Listed(
            name=row.name,
            epoch=row.epoch,
            serving=next((index.name for index in written if index.id == row.serving), None),
            indexes=[
                Askable(index.id, index.name, index.kind, routes[row.id].role_of(index.id))
                for index in written
                if index.collection_id == row.id
            ],
        )
        for row in rows
    ]
