"""Both ways to one Revec: a client in this process, and one over a real socket with a key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

import pytest

import revec
from revec.app import App
from revec.client.shapes import Whose
from revec.model.access import Role
from revec.model.document import Draft
from revec.model.errors import RevecError
from revec.web.server import listening
from tests import steps
from tests.web import door

T = TypeVar("T")
Ask = Callable[[revec.Client], Awaitable[Any]]
TEXTS = {
    "1": ("Reset", "How to reset a password", {"lang": "en", "year": 2020}),
    "2": ("Wing", "The wing of an aircraft at high speed", {"lang": "en", "year": 2024}),
    "3": ("Zebra", "Zebras in the rain", {"lang": "de"}),
    "a/b.. ü?": ("Odd", "A document with an odd id", {}),
}


def environment(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an application's own process has: the database and the model, as tests have them."""
    settings = app.settings
    monkeypatch.setenv("REVEC_DSN", app.database.dsn)
    monkeypatch.setenv("OPENAI_BASE_URL", str(settings.openai_base_url))
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("REVEC_REQUEST_DEADLINE", "10")


async def notes(app: App) -> None:
    """A collection of `default` and of `acme`: the same texts, ids that say whose they are."""
    made = await steps.collection(app, "notes")
    drafts = [Draft(key, title, text, "default", more) for key, (title, text, more) in TEXTS.items()]
    drafts += [replace(draft, key=f"acme-{draft.key}", tenant="acme") for draft in drafts]
    await steps.put(app, made, drafts)
    await steps.drain(app)


@asynccontextmanager
async def served(app: App, **how: Any) -> AsyncIterator[str]:
    """`revec serve` on a socket: its address."""
    async with listening(door.api_of(app, **how), "127.0.0.1", 0, deadline=5.0) as port:
        yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def both(
    app: App,
    monkeypatch: pytest.MonkeyPatch,
    *,
    tenant: Whose = "default",
    role: Role = Role.ADMIN,
) -> AsyncIterator[list[revec.Client]]:
    """A client for each way. The key is of all tenants, so that the client's own tenant is what counts."""
    environment(app, monkeypatch)
    key = await door.made_key(app, role, None)
    async with (
        served(app) as url,
        revec.connect(tenant=tenant) as inside,
        revec.connect(url, key=key, tenant=tenant) as remote,
    ):
        yield [inside, remote]


async def same(clients: Sequence[revec.Client], ask: Ask) -> Any:
    """What both answer: it is the same."""
    inside, remote = [await ask(client) for client in clients]
    assert inside == remote, f"in process {inside}, over HTTP {remote}"
    return inside


async def same_refusal(clients: Sequence[revec.Client], ask: Ask) -> tuple[type[RevecError], list[str]]:
    """What both raise, of the same class, and what each of them says."""
    raised: list[RevecError] = []
    for client in clients:
        with pytest.raises(RevecError) as refused:
            await ask(client)
        raised.append(refused.value)
    assert type(raised[0]) is type(raised[1]), raised
    return type(raised[0]), [str(error) for error in raised]


def ids(answer: revec.Answer) -> list[str]:
    return [hit.id for hit in answer.hits]
