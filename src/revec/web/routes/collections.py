"""Which collections there are, what serves them, and what else could be asked."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter

from revec.search import catalogue
from revec.web import bodies
from revec.web.asking import Operator, TheApp

router = APIRouter(prefix="/v1/collections", tags=["collections"])


@router.get("")
async def listed(app: TheApp, caller: Operator) -> bodies.Collections:
    """The collections that the caller reaches."""
    found = [each for each in await catalogue.listed(app.database) if caller.reaches(each.name)]
    return bodies.Collections(collections=[bodies.Collection(**asdict(each)) for each in found])
