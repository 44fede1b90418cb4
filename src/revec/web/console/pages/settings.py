"""Who may ask and for what, what may be spent, and by which settings this server runs."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from revec.model.access import MAY, Role
from revec.model.errors import NotAllowed
from revec.model.limits import LONGEST_FILTER, LONGEST_NAME
from revec.postgres import collections, keys, migrations, tenants
from revec.settings import in_force
from revec.web.bodies import Text
from revec.web.console.view import Tab, shown
from revec.web.console.visit import Acting, Looking, Visit

router = APIRouter(prefix="/console/settings", include_in_schema=False)
TAB = Tab("Settings", "/console/settings", 90)
SEE_OTHER = 303
KEYS = 50  # on a page
BUDGETS = 50  # tenants
LONGEST_LIFE = 3650  # days


class Wanted(BaseModel):
    """A key that somebody wants; a field that was left empty says nothing."""

    model_config = ConfigDict(frozen=True)

    role: Role
    tenant: Text = Field(default="", max_length=LONGEST_NAME)
    collection: Text = Field(default="", max_length=LONGEST_NAME)
    visible: Text = Field(default="", max_length=LONGEST_FILTER)
    days: int | None = Field(default=90, ge=1, le=LONGEST_LIFE)  # None: for ever
    for_ever: bool = False


@router.get("")
async def page(visit: Looking, before: Annotated[Text, Query(max_length=LONGEST_NAME)] = "") -> Response:
    """Everybody sees the roles; what concerns all tenants is for those who may see all of them."""
    return await _shown(visit, before)


@router.post("/keys")
async def create(visit: Acting, wanted: Annotated[Wanted, Form()]) -> Response:
    """Make a key and show it: in this very answer and nowhere else, so it is no redirect."""
    _require_unbound(visit)
    async with visit.app.database.transaction() as conn:
        of = await collections.named(conn, wanted.collection) if wanted.collection else None
        made = await keys.create(
            *(conn, wanted.role),
            tenant=wanted.tenant or None,
            collection=of,
            visible=wanted.visible or None,
            lasts=None if wanted.for_ever or wanted.days is None else timedelta(days=wanted.days),
            by=visit.caller.name,
        )
    answer = await _shown(visit, made=made)
    answer.headers["cache-control"] = "no-store"
    return answer


@router.post("/keys/revoke")
async def revoke(visit: Acting, prefix: Annotated[Text, Form(max_length=LONGEST_NAME)]) -> Response:
    """From now on it opens nothing, and who is logged in by it is out."""
    _require_unbound(visit)
    async with visit.app.database.transaction() as conn:
        await keys.revoke(conn, prefix, by=visit.caller.name)
    return RedirectResponse(TAB.path, SEE_OTHER)


def why_not_manage(visit: Visit) -> str:
    """A key may see no more than whoever makes it; empty: they may make any."""
    if why := visit.why_not(Role.ADMIN):
        return why
    return (
        ""
        if visit.caller.is_unbound
        else "your own key is for a part of what there is, and a new one may not be"
    )


def _require_unbound(visit: Visit) -> None:
    if why := why_not_manage(visit):
        raise NotAllowed(why)


async def _shown(visit: Visit, before: str = "", made: keys.Made | None = None) -> Response:
    is_overseer = not visit.why_not(Role.OPERATOR) and visit.caller.is_unbound
    facts: dict[str, Any] = {"keys": [], "budgets": [], "caps": []}
    if is_overseer:
        async with visit.app.database.transaction("worker") as conn:
            facts["keys"] = await keys.page(conn, before=before or None, limit=KEYS)
            facts["budgets"] = await tenants.budgets(conn, limit=BUDGETS)
            names = {row.id: row.name for row in await collections.listed(conn)}
            active = await migrations.active(conn)
        facts["caps"] = [(names[each.collection_id], each) for each in active]
    refusal = why_not_manage(visit)
    return shown(
        visit,
        "settings.html",
        made=made,
        may=MAY,
        is_overseer=is_overseer,
        why_not=refusal,
        settings=[] if refusal else in_force(visit.app.settings),
        older=facts["keys"][-1].prefix if len(facts["keys"]) == KEYS else "",
        **facts,
    )
