"""Where everything stands: a row for each collection."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from revec.web.console.view import Tab, shown
from revec.web.console.visit import Looking

TAB = Tab("Overview", "/console/", 0)
router = APIRouter(include_in_schema=False)


@router.get("/console/")
async def overview(visit: Looking) -> Response:
    return shown(visit, "overview.html")
