"""What routes share: who asks, which collection, what may go wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request

from revec.app import App
from revec.model import filter as filters
from revec.model.access import Caller, Role
from revec.model.errors import NotAllowed, NotFound
from revec.model.filter import Filter
from revec.model.index import Collection
from revec.model.limits import LONGEST_NAME, LONGEST_WAIT
from revec.postgres import collections, indexes
from revec.postgres.database import Connection
from revec.postgres.database import Role as DatabaseRole
from revec.web.bodies import Name, Problem
from revec.web.problems import CONTENT_TYPE

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": words,
        "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status, words in {
        400: "Not HTTP, or not JSON",
        401: "No key or token that opens anything",
        403: "Known, and not allowed",
        404: "Not there, or not yours: the answer is the same",
        405: "Not by this method",
        408: "The body did not come in time",
        409: "Not in this state",
        413: "Too large",
        415: "Packed, or not JSON",
        422: "Understood, and not possible",
        429: "The caller's purse is empty",
        431: "Too much of a head",
        500: "Something that nobody thought of",
        501: "A package is not installed here",
        502: "The model's answer cannot be trusted",
        503: "Not now, or not within the deadline",
    }.items()
}
assert Problem.__name__ == "Problem"  # what PROBLEMS refers to


# Async, all of them: the framework sends others to a thread.
async def app_of(request: Request) -> App:
    app: App = request.app.state.revec
    return app


TheApp = Annotated[App, Depends(app_of)]


def at_least(role: Role) -> Callable[[Request], Awaitable[Caller]]:
    """The caller, if it may do what this role may."""

    async def caller(request: Request) -> Caller:
        found: Caller = request.state.caller
        if not found.role.covers(role):
            raise NotAllowed(f"this wants {role} and {found.name} is {found.role}: ask with another key")
        return found

    return caller


def of_all_tenants(role: Role) -> Callable[[Request], Awaitable[Caller]]:
    """The same, where what is asked for concerns every tenant."""
    has_role = at_least(role)

    async def caller(request: Request) -> Caller:
        found = await has_role(request)
        if found.tenant is not None:
            raise NotAllowed(f"this concerns all tenants, and {found.name} is one of them")
        return found

    return caller


async def writer(request: Request) -> Caller:
    """An admin to whom nothing is hidden."""
    found = await of_all_tenants(Role.ADMIN)(request)
    require_sight(found)
    return found


def require_sight(caller: Caller) -> None:
    """Ids are shared by all documents, so a write may meet any of them.

    Raises:
        NotAllowed: some are hidden from the caller.
    """
    if caller.visible is not None:
        raise NotAllowed(
            f"{caller.name} does not see every document, and a write may meet any: ask with a key that does"
        )


Viewer = Annotated[Caller, Depends(at_least(Role.VIEWER))]
Operator = Annotated[Caller, Depends(at_least(Role.OPERATOR))]
Overseer = Annotated[Caller, Depends(of_all_tenants(Role.OPERATOR))]
Admin = Annotated[Caller, Depends(of_all_tenants(Role.ADMIN))]
Writer = Annotated[Caller, Depends(writer)]

CollectionName = Annotated[Name, Path(description="A collection's name.", max_length=LONGEST_NAME)]
Wait = Annotated[
    float | None,
    Query(
        ge=0,
        le=LONGEST_WAIT,
        description="Seconds to wait until a search finds it as it is now; unless said, none, or where the "
        "collection writes inline as long as that takes, within bounds.",
    ),
]


def require_reach(caller: Caller, name: str) -> None:
    """What is another's and what is nobody's cannot be told apart.

    Raises:
        NotFound: it is one of them.
    """
    if not caller.reaches(name):
        raise indexes.no_collection(name)


async def collection(app: App, caller: Caller, name: str) -> Collection:
    """The collection, if it is the caller's.

    Raises:
        NotFound: it is not, or there is none.
    """
    require_reach(caller, name)
    async with app.database.transaction("worker") as conn:
        try:
            return await collections.named(conn, name)
        except NotFound:  # its own sentence lists what there is
            raise indexes.no_collection(name) from None


@asynccontextmanager
async def reading(app: App, whose: str | None) -> AsyncIterator[Connection]:
    """A transaction that sees the content of one tenant and nothing else; None: of all, for operators."""
    role: DatabaseRole = "worker" if whose is None else "reader"
    async with app.database.transaction(role, tenant=whose) as conn:
        yield conn


def tenant(caller: Caller, asked: str | None) -> str | None:
    """Whose documents: the caller's own; who has all of them may narrow that.

    Raises:
        NotAllowed: somebody else's, whether there is such a tenant or not.
    """
    if asked in {None, caller.tenant}:
        return caller.tenant
    if caller.tenant is not None:
        raise NotAllowed("the tenant is the one of your key or token: leave it out")
    return asked


def where(text: str | None) -> Filter | None:
    """
    Raises:
        BadInput: the filter cannot be read.
    """
    return None if text is None else filters.read(text)
