"""Where everything stands: a row for each collection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from revec.migrate.overall import Overall, overall
from revec.seams import shutdown
from revec.web.console import curves
from revec.web.console.environment import rendered
from revec.web.console.view import Tab, shown
from revec.web.console.visit import Looking, Sight, Visit

PATH = "/console/"
LIVE = "/console/live/overview"
KEY = "overview"
TAB = Tab("Overview", PATH, 0)
router = APIRouter(include_in_schema=False)


@router.get(PATH)
async def page(visit: Looking) -> Response:
    seen = await visit.live.newest(KEY, _compute(visit))
    return shown(visit, "overview/page.html", live=LIVE, **_facts(seen, visit.sight))


@router.get(LIVE)
async def stream(visit: Looking) -> Response:
    sight = visit.sight
    return visit.live.view(
        visit.request,
        (KEY, sight),
        lambda: visit.live.within(KEY, _compute(visit)),
        lambda seen: rendered("overview/live.html", **_facts(seen, sight)),
    )


def _compute(visit: Visit) -> Callable[[], Awaitable[Overall]]:
    database = visit.app.database
    return lambda: overall(database, shutdown)


def _facts(seen: Overall, sight: Sight) -> dict[str, Any]:
    """Of what the caller reaches; figures of all tenants are for those who may read them."""
    mine = [row for row in seen.rows if sight.collection in {None, row.name}]
    return {
        "seen": replace(seen, rows=mine),
        "sight": sight,
        "curves": {row.name: curves.polyline(row.curve) for row in mine},
    }
