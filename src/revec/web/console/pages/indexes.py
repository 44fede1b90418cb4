"""The indexes: how large, how far, how good each is; who still holds it; when it goes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import APIRouter
from fastapi.responses import Response

from revec.migrate import holding
from revec.migrate.holding import Held
from revec.model.index import Collection
from revec.web.console.environment import rendered
from revec.web.console.view import Tab, shown
from revec.web.console.visit import Overseeing, Visit

TAB = Tab("Indexes", "/console/indexes", 50, whole=True)
router = APIRouter(include_in_schema=False)


@router.get("/console/indexes")
async def indexes(visit: Overseeing) -> Response:
    if visit.collection is None:
        return shown(visit, "indexes.html", found=None)
    of = await visit.of_collection()
    found = await visit.live.newest(("indexes", of.id), _look(visit, of))
    return shown(visit, "indexes.html", of=of, found=found)


@router.get("/console/live/indexes")
async def live(visit: Overseeing) -> Response:
    of = await visit.of_collection()

    def render(found: list[Held]) -> str:
        return rendered("indexes_now.html", of=of, found=found)

    return visit.live.view(visit.request, ("indexes", of.id), _look(visit, of), render)


def _look(visit: Visit, of: Collection) -> Callable[[], Awaitable[list[Held]]]:
    async def look() -> list[Held]:
        async with visit.app.database.transaction() as conn:
            return await holding.listed(conn, visit.app.store, of)

    return look
