"""A browser of somebody at the console, as tests drive it: forms of the very pages, over HTTP."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from revec.app import App
from revec.model.access import Role
from tests.web import door

TOKEN = re.compile(r'name="csrf" value="([0-9a-f]{64})"')
OVERVIEW, MIGRATION, LOGIN = "/console/", "/console/migration", "/console/login"


def form_of(answer: httpx2.Response) -> str:
    """The token that a form of this page sends."""
    found = TOKEN.search(answer.text)
    assert found, answer.text
    return found[1]


async def log_in(client: httpx2.AsyncClient, key: str, **more: str) -> httpx2.Response:
    page = await client.get(LOGIN)
    return await client.post(LOGIN, data={"csrf": form_of(page), "key": key} | more)


@asynccontextmanager
async def guest(
    app: App, role: Role = Role.ADMIN, tenant: str | None = None, **how: Any
) -> AsyncIterator[httpx2.AsyncClient]:
    """Somebody who is logged in."""
    async with door.door(app, **how) as client:
        answer = await log_in(client, await door.made_key(app, role, tenant))
        assert (answer.status_code, answer.headers["location"]) == (303, OVERVIEW)
        yield client


async def press(client: httpx2.AsyncClient, verb: str, name: str = "c", **fields: str) -> httpx2.Response:
    """A verb of the migration's page, with the token of that page."""
    at = {"collection": name}
    page = await client.get(MIGRATION, params=at)
    return await client.post(f"{MIGRATION}/{verb}", params=at, data={"csrf": form_of(page)} | fields)
