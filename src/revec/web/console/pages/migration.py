"""The page of a migration: how far it is, what it waits for, and every verb that a person has."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from revec.migrate.canary import Wanted
from revec.migrate.commands import Commands
from revec.migrate.picture import Picture, picture
from revec.migrate.planning.planned import Plan
from revec.model.document import unstorable
from revec.model.errors import BadInput, GateNotMet, NotFound, Refused
from revec.model.index import Collection
from revec.model.limits import LONGEST_NAME
from revec.seams import shutdown
from revec.web.bodies import Text
from revec.web.console import curves
from revec.web.console.environment import rendered
from revec.web.console.view import Tab, shown
from revec.web.console.visit import Acting, Looking, Sight, Visit
from revec.web.entrance import extend
from revec.work import control

PATH = "/console/migration"
LIVE = "/console/live/migration"
TAB = Tab("Migration", PATH, 10)
PATIENCE = 60.0  # seconds: a model may be asked
MOST_FIELDS = 20  # of a form
LONGEST_WAIT = 365  # days until the old index is dropped
router = APIRouter(include_in_schema=False)

Entry = Annotated[Text, Form(max_length=LONGEST_NAME)]


@router.get(PATH)
async def page(visit: Looking) -> Response:
    if visit.collection is None:
        return shown(visit, "migration/none.html")
    collection = await visit.of_collection()
    seen = await visit.live.newest(_key(visit), _compute(visit, collection))
    return shown(visit, "migration/page.html", live=visit.address(LIVE), **_facts(seen, visit.sight))


@router.get(LIVE)
async def stream(visit: Looking) -> Response:
    collection = await visit.of_collection()
    sight = visit.sight

    def render(seen: Picture) -> str:
        return rendered("migration/live.html", **_facts(seen, sight))

    return visit.live.view(visit.request, (*_key(visit), sight), _shared(visit, collection), render)


def _key(visit: Visit) -> tuple[str, str | None]:
    return "migration", visit.collection


def _compute(visit: Visit, collection: Collection) -> Callable[[], Awaitable[Picture]]:
    app = visit.app
    return lambda: picture(app.database, app.store, collection, app.limits)


def _shared(visit: Visit, collection: Collection) -> Callable[[], Awaitable[Picture]]:
    """Each kind of caller gets bytes of its own, of a picture that is made once for all of them."""
    live, key, compute = visit.live, _key(visit), _compute(visit, collection)
    return lambda: live.within(key, compute)


def _facts(seen: Picture, sight: Sight) -> dict[str, Any]:
    status = seen.status
    return {
        "seen": seen,
        "status": status,
        "migration": seen.migration,
        "sight": sight,
        "path": PATH,
        "collection": status.collection,
        "shutdown": shutdown(seen.model) if seen.model else None,
        "paces": curves.paces(seen.curve),
    }


# --- what a person does -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Said:
    """What the form of a verb says."""

    reason: str
    typed: str = ""
    rate: float | None = None
    percent: float | None = None
    days: float = 7.0


async def _pause(commands: Commands, of: Collection, said: Said) -> None:
    await commands.pause(of, said.reason)


async def _resume(commands: Commands, of: Collection, said: Said) -> None:
    await commands.resume(of, reason=said.reason)


async def _throttle(commands: Commands, of: Collection, said: Said) -> None:
    async with commands.tools.database.transaction() as conn:
        if said.rate is None:
            await control.lift_throttle(conn, of)
        else:
            await control.throttle(conn, of, docs_per_second=said.rate, who=commands.who)


async def _canary(commands: Commands, of: Collection, said: Said) -> None:
    share = None if said.percent is None else said.percent / 100
    await commands.canary.show(of, Wanted(share=share), why=said.reason)


async def _cut_over(commands: Commands, of: Collection, said: Said) -> None:
    _require_typed(of, said)
    try:
        await commands.orders.cutover(of, why=said.reason)
    except (Refused, GateNotMet) as error:
        seen = await picture(commands.tools.database, commands.tools.store, of, commands.tools.limits)
        missing = "; ".join(map(str, seen.unmet))
        raise type(error)(f"{error}. Not met: {missing}" if missing else str(error)) from error


async def _roll_back(commands: Commands, of: Collection, said: Said) -> None:
    await commands.switch.rollback(of, why=said.reason)


async def _finish(commands: Commands, of: Collection, said: Said) -> None:
    _require_typed(of, said)
    await commands.switch.finish(of, wait=timedelta(days=said.days), why=said.reason)


async def _cancel_finish(commands: Commands, of: Collection, said: Said) -> None:
    await commands.switch.cancel_finish(of, why=said.reason)


async def _abort(commands: Commands, of: Collection, said: Said) -> None:
    _require_typed(of, said)
    await commands.abort(of, said.reason)


async def _approve(commands: Commands, of: Collection, said: Said) -> None:
    await commands.orders.approve(of, why=said.reason)


async def _cancel_order(commands: Commands, of: Collection, said: Said) -> None:
    await commands.orders.cancel(of, why=said.reason)


VERBS: dict[str, Callable[[Commands, Collection, Said], Awaitable[None]]] = {
    "pause": _pause,
    "resume": _resume,
    "throttle": _throttle,
    "canary": _canary,
    "cutover": _cut_over,
    "rollback": _roll_back,
    "finish": _finish,
    "cancel-finish": _cancel_finish,
    "abort": _abort,
    "approve": _approve,
    "cancel-cutover": _cancel_order,
}


def _require_typed(of: Collection, said: Said) -> None:
    if said.typed != of.name:
        raise BadInput(f"type the collection's name, {of.name}, to say that you mean it")


# Before the verbs: a path with a name of its own.
@router.post(f"{PATH}/plan")
async def plan(
    visit: Acting, request: Request, to: Entry = "", dims: Entry = "", budget: Entry = ""
) -> Response:
    """What the migration would mean; nothing is written."""
    extend(request, PATIENCE)
    planned, dollars = await _planned(visit, to, dims, budget)
    facts = {name: value for name, value in planned.facts.items() if value not in (None, [], {})}
    return shown(
        visit, "migration/plan.html", plan=planned, facts=facts, to=to, dims=dims, budget=dollars, path=PATH
    )


@router.post(f"{PATH}/start")
async def start(
    visit: Acting, request: Request, to: Entry = "", dims: Entry = "", budget: Entry = ""
) -> Response:
    extend(request, PATIENCE)
    planned, dollars = await _planned(visit, to, dims, budget)
    await replace(visit.app.commands, who=visit.caller.name).start(planned, budget=dollars)
    return visit.done(PATH)


async def _planned(visit: Visit, to: str, dims: str, budget: str) -> tuple[Plan, Decimal | None]:
    if not to.strip():
        raise BadInput("which model? Its address is PROVIDER:MODEL, such as local:minilm-384")
    size, dollars = _number(dims, "dims"), _number(budget, "the budget")
    collection = await visit.of_collection()
    made = await visit.app.plan(collection, to.strip(), dims=None if size is None else int(size))
    return made, None if dollars is None else Decimal(budget.strip())


@router.post(f"{PATH}/{{verb}}")
async def act(visit: Acting, request: Request, verb: str) -> Response:
    if verb not in VERBS:
        raise NotFound(f"there is no verb {verb!r} ({', '.join(VERBS)})")
    extend(request, PATIENCE)
    form = await request.form(max_fields=MOST_FIELDS)
    said = {name: text for name, text in form.items() if isinstance(text, str)}
    commands = replace(visit.app.commands, who=visit.caller.name)
    await VERBS[verb](commands, await visit.of_collection(), _said(verb, said))
    return visit.done(PATH)


def _said(verb: str, form: Mapping[str, str]) -> Said:
    """
    Raises:
        BadInput: a number that is none or too large, or a reason that is too long or cannot be kept.
    """
    reason = form.get("reason", "").strip()
    if len(reason) > LONGEST_NAME:
        raise BadInput(f"a reason has at most {LONGEST_NAME} characters")
    if why := unstorable(reason):
        raise BadInput(f"the reason {why}")
    days = _number(form.get("days", ""), "days")
    if days is not None and days > LONGEST_WAIT:
        raise BadInput(f"the old index stays for {LONGEST_WAIT} days at most")
    return Said(
        reason or f"{verb}, on the console",
        form.get("typed", ""),
        rate=_number(form.get("rate", ""), "the rate"),
        percent=_number(form.get("percent", ""), "the percent"),
        days=7.0 if days is None else days,
    )


def _number(text: str, what: str) -> float | None:
    """
    Raises:
        BadInput: it is none, or below 0.
    """
    if not text.strip():
        return None
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < math.inf:
        raise BadInput(f"{what} is a number, 0 or more")
    return number
