"""Which collections there are, what serves them, and what else could be asked."""

from __future__ import annotations

from fastapi import APIRouter

from revec.postgres import collections, indexes
from revec.web import bodies
from revec.web.asking import Operator, TheApp

router = APIRouter(prefix="/v1/collections", tags=["collections"])


@router.get("")
async def listed(app: TheApp, caller: Operator) -> bodies.Collections:
    """The collections that the caller reaches."""
    async with app.database.transaction("worker") as conn:
        rows = [row for row in await collections.listed(conn) if caller.reaches(row.name)]
        written = await indexes.writing(conn)
        routes = {row.id: await indexes.route_of(conn, row.id) for row in rows}
    return bodies.Collections(
        collections=[
            bodies.Collection(
                name=row.name,
                epoch=row.epoch,
                serving=next((index.name for index in written if index.id == row.serving), None),
                indexes=[
                    bodies.Index(id=index.id, name=index.name, kind=index.kind, role=role)
                    for index in written
                    if index.collection_id == row.id
                    for role in [routes[row.id].role_of(index.id)]
                ],
            )
            for row in rows
        ]
    )
