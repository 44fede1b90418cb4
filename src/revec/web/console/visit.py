"""One visit of a page: who looks, what they may do, and which collection it is about."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Depends, Query, Request
from fastapi.responses import RedirectResponse, Response

from revec.app import App
from revec.model.access import Caller, Role
from revec.model.errors import NotAllowed
from revec.model.index import Collection
from revec.model.limits import LONGEST_NAME
from revec.postgres import collections
from revec.web import asking
from revec.web.bodies import Text
from revec.web.console.guests import Guest, require_own_form
from revec.web.console.live import Live


@dataclass(frozen=True, slots=True)
class Sight:
    """What callers may see and do, and nothing of who they are: those with the same see the same page."""

    role: Role
    tenant: str | None  # None: of all tenants
    collection: str | None  # None: of all collections

    @property
    def is_whole(self) -> bool:
        """They may read what all tenants have (asking.Overseer)."""
        return self.tenant is None and self.role.covers(Role.OPERATOR)

    def why_not(self, role: Role = Role.ADMIN) -> str:
        """Why they may not do what concerns all tenants and wants that role; empty: they may."""
        if not self.role.covers(role):
            article = "an" if role is not Role.VIEWER else "a"
            return f"you are logged in as {self.role}; {article} {role}'s key may do this"
        if self.tenant is not None:
            return f"this concerns all tenants, and you are logged in for one of them: {self.tenant}"
        return ""


@dataclass(frozen=True, slots=True)
class Visit:
    app: App
    caller: Caller
    csrf: str
    request: Request
    collections: tuple[str, ...]  # that the caller reaches, by name
    collection: str | None  # that the page is about: the one asked for, else the first; None: there is none

    @property
    def sight(self) -> Sight:
        return Sight(self.caller.role, self.caller.tenant, self.caller.collection)

    @property
    def has_session(self) -> bool:
        guest: Guest = self.request.state.guest
        return guest.session is not None

    @property
    def live(self) -> Live:
        live: Live = self.request.app.state.live
        return live

    def why_not(self, role: Role = Role.ADMIN) -> str:
        return self.sight.why_not(role)

    def address(self, path: str) -> str:
        """A page of the same collection."""
        return f"{path}?{urlencode({'collection': self.collection})}" if self.collection else path

    def done(self, path: str) -> Response:
        """What was asked for is done: on to the page, which shows it."""
        self.live.outdate()
        return RedirectResponse(self.address(path), 303)

    async def of_collection(self) -> Collection:
        """
        Raises:
            NotFound: there is none, or it is not the caller's.
        """
        return await asking.collection(self.app, self.caller, self.collection or "")


async def looking(
    request: Request,
    collection: Annotated[Text | None, Query(max_length=LONGEST_NAME, description="Which one.")] = None,
) -> Visit:
    """Whoever may see the console. Pages that show what all tenants have ask for `Overseeing`."""
    app = await asking.app_of(request)
    caller: Caller = request.state.caller
    guest: Guest = request.state.guest
    async with app.database.transaction("worker") as conn:
        names = [row.name for row in await collections.listed(conn) if caller.reaches(row.name)]
    if collection is not None:
        asking.require_reach(caller, collection)
    asked = collection or next(iter(names), None)
    return Visit(app, caller, guest.form, request, tuple(names), asked)


Looking = Annotated[Visit, Depends(looking)]


async def overseeing(visit: Looking) -> Visit:
    """An operator or admin of all tenants."""
    _require(visit, Role.OPERATOR)
    return visit


def acting(role: Role) -> Callable[[Request, Visit], Awaitable[Visit]]:
    """Who does something that concerns all tenants, by a form of a page of ours."""

    async def actor(request: Request, visit: Looking) -> Visit:
        header = request.headers.get("x-csrf-token")
        require_own_form(request.scope, header or (await request.form()).get("csrf"))
        _require(visit, role)
        visit.live.outdate()  # whatever comes of it: nobody is shown first what was before
        return visit

    return actor


def _require(visit: Visit, role: Role) -> None:
    if why := visit.why_not(role):
        raise NotAllowed(why)


Overseeing = Annotated[Visit, Depends(overseeing)]
Acting = Annotated[Visit, Depends(acting(Role.ADMIN))]
Tending = Annotated[Visit, Depends(acting(Role.OPERATOR))]
