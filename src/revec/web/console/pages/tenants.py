"""Tenants: whose work comes first, whose waits, what they spend, how far the open migration is in each."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Annotated, Literal
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Form, Query
from fastapi.responses import RedirectResponse, Response

from revec.migrate import tenancy
from revec.migrate.tenancy import Wish
from revec.model.errors import BadInput
from revec.model.limits import LONGEST_NAME
from revec.postgres import indexes, tenants
from revec.postgres.tenants import Wanted
from revec.web.bodies import Text
from revec.web.console.refusal import SEE_OTHER
from revec.web.console.view import Tab, shown
from revec.web.console.visit import Acting, Overseeing, Visit
from revec.work import overview

TAB = Tab("Tenants", "/console/tenants", 40, whole=True)
router = APIRouter(include_in_schema=False)
PAGE = 50  # tenants
COUNTED = 1_000  # documents of each: a page has many tenants
FILTERS = ("collection", "word", "tier", "paused", "after")

Words = Annotated[Text, Query(max_length=LONGEST_NAME)]
Field = Annotated[Text, Form(max_length=LONGEST_NAME)]


@router.get("/console/tenants")
async def listed(
    *, visit: Overseeing, word: Words = "", tier: Words = "", paused: bool = False, after: Words = ""
) -> Response:
    """`word`: stands in their names; `after`: behind this one.

    Of documents there are counts only: whoever oversees all tenants may read them, also with a filter.
    """
    if visit.collection is None:
        return shown(visit, "tenants.html", page=None)
    of = await visit.of_collection()
    wanted = Wanted(word, tier or None, paused)
    async with visit.app.database.transaction("worker") as conn:
        await overview.bound(conn)
        written = [each.id for each in await indexes.writing(conn, of.id)]
        page = await tenants.listed(
            conn, of, written, after=after, limit=PAGE, wanted=wanted, counted=COUNTED
        )
        fault = await tenants.fault(conn, of.id)
    filters = {"collection": of.name, "word": word, "tier": tier} | ({"paused": "1"} if paused else {})
    return shown(
        visit,
        "tenants.html",
        of=of,
        page=page,
        fault=fault,
        counted=COUNTED,
        filters=filters,
        here_again=filters | {"after": after},
        wanted=wanted,
        after=after,
    )


@router.post("/console/tenants/{what}")
async def act(
    *,
    visit: Acting,
    what: Literal["pause", "resume", "set"],
    tenant: Annotated[list[Text], Form(max_length=PAGE)] = [],  # noqa: B006 - the framework copies it
    reason: Field = "",
    tier: Field = "",
    priority: Field = "",
    weight: Field = "",
    budget: Field = "",
) -> Response:
    """To those that are ticked."""
    if not tenant:
        raise BadInput("tick at least one tenant")
    of = await visit.of_collection()
    commands = replace(visit.app.commands, who=visit.caller.name)
    if what == "set":
        wish = Wish(
            tier=tier.strip() or None,
            priority=_whole(priority, "priority"),
            weight=_whole(weight, "weight"),
            budget=None if budget.strip() in {"", "none"} else _dollars(budget),
            no_budget=budget.strip() == "none",
        )
        async with visit.app.database.transaction("worker") as conn:
            await tenancy.say(conn, of, tenant, wish)
    elif what == "pause":
        if not reason.strip():
            raise BadInput("say why they are paused: it is shown wherever their work waits")
        await commands.pause_tenants(of, tenant, reason.strip())
    else:
        await commands.resume_tenants(of, tenant, reason.strip() or "resumed")
    return RedirectResponse(f"/console/tenants?{_filters(visit)}", SEE_OTHER)


def _filters(visit: Visit) -> str:
    """The list that they were ticked in."""
    said = parse_qsl(visit.request.url.query)
    return urlencode([(name, value) for name, value in said if name in FILTERS])


def _whole(said: str, what: str) -> int | None:
    if not said.strip():
        return None
    try:
        return int(said)
    except ValueError:
        raise BadInput(f"a {what} is a whole number, not {said!r}") from None


def _dollars(said: str) -> Decimal:
    try:
        return Decimal(said.strip())
    except InvalidOperation:
        raise BadInput(f"a budget is US dollars, or `none`, not {said!r}") from None
