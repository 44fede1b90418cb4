"""The shadow: which index is asked behind the answers, how often, and what that has shown."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter

from revec.web import bodies
from revec.web.asking import Admin, CollectionName, Overseer, TheApp, collection

router = APIRouter(prefix="/v1/collections/{name}/migration/shadow", tags=["migrations"])


@router.get("")
async def report(app: TheApp, caller: Overseer, name: CollectionName) -> bodies.Shadow:
    """How the index that shadows compares with the one that serves."""
    found = await collection(app, caller, name)
    return bodies.Shadow(**await app.commands.shadow.report(found))


@router.post("")
async def point(app: TheApp, caller: Admin, name: CollectionName, wanted: bodies.Shadowing) -> bodies.Shadow:
    """Compare at another rate, compare another index, or none (rate 0)."""
    found = await collection(app, caller, name)
    verbs = replace(app.commands, who=caller.name).shadow
    if wanted.rate == 0:
        await verbs.off(found)
    else:
        await verbs.point(found, rate=wanted.rate, to=wanted.to)
    return bodies.Shadow(**await verbs.report(found))
