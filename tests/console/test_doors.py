"""Who may come to the console, how they stay, and what a page of somebody else's can do: nothing."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2

from revec.app import App
from revec.model.access import Role
from revec.postgres import keys
from tests.web import door

TOKEN = re.compile(r'name="csrf" value="([0-9a-f]{64})"')
OVERVIEW = "/console/"


def form_of(answer: httpx2.Response) -> str:
    found = TOKEN.search(answer.text)
    assert found, answer.text
    return found[1]


async def log_in(client: httpx2.AsyncClient, key: str, **more: str) -> httpx2.Response:
    page = await client.get("/console/login")
    return await client.post("/console/login", data={"csrf": form_of(page), "key": key} | more)


@asynccontextmanager
async def guest(
    app: App, role: Role = Role.ADMIN, tenant: str | None = None
) -> AsyncIterator[httpx2.AsyncClient]:
    """A browser of somebody who is logged in."""
    async with door.door(app) as client:
        answer = await log_in(client, await door.made_key(app, role, tenant))
        assert (answer.status_code, answer.headers["location"]) == (303, OVERVIEW)
        yield client


async def test_a_key_opens_the_console_and_is_never_seen_again(app: App) -> None:
    key = await door.made_key(app, Role.ADMIN)
    async with door.door(app) as client:
        asked = await client.get("/console/?collection=")
        assert (asked.status_code, asked.headers["location"][:19]) == (303, "/console/login?next")
        answer = await log_in(client, key)
        cookie = answer.headers["set-cookie"]
        assert {"HttpOnly", "Path=/", "SameSite=strict"} <= set(cookie.split("; "))
        assert key not in cookie
        assert "Secure" not in cookie
        page = await client.get(OVERVIEW)
        assert page.status_code == 200
        assert key not in page.text


async def test_a_revoked_key_ends_its_sessions_at_once(app: App) -> None:
    key = await door.made_key(app, Role.ADMIN)
    async with door.door(app) as client:
        await log_in(client, key)
        assert (await client.get(OVERVIEW)).status_code == 200
        async with app.database.transaction() as conn:
            await keys.revoke(conn, key, by="a test")
        assert (await client.get(OVERVIEW)).status_code == 303
