"""The door as tests knock at it: the whole ASGI application on an open App, without a socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import httpx2
from fastapi import FastAPI

from revec.app import App
from revec.model.access import Caller, Role
from revec.model.reading import Hit
from revec.observe import events
from revec.observe.metrics import Metrics
from revec.postgres import collections, keys
from revec.web.app import build
from revec.web.doorkeeper import Doorkeeper
from revec.web.tokens import Tokens
from tests import steps

DEADLINE = 10.0  # seconds: a busy machine is not what these tests are about
TENANTS = ("acme", "globex")
PROBLEM = {"type", "title", "status", "detail"}


def api_of(
    app: App,
    *,
    tokens: Tokens | None = None,
    open_to: Caller | None = None,
    metrics: Metrics | None = None,
    **settings: Any,
) -> FastAPI:
    app.settings = app.settings.model_copy(update={"request_deadline": DEADLINE} | settings)
    return build(app, Doorkeeper(app.database, tokens, open_to), metrics)


@asynccontextmanager
async def door(app: App, metrics: Metrics | None = None, **how: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the door; nothing escapes it as an exception. Its metrics hear of this process meanwhile."""
    metrics = metrics or Metrics()
    transport = httpx2.ASGITransport(app=api_of(app, metrics=metrics, **how))
    with events.heard(metrics.hear):
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            yield client


async def made_key(
    app: App,
    role: Role = Role.VIEWER,
    tenant: str | None = "acme",
    *,
    collection: str | None = None,
    visible: str | None = None,
    lasts: timedelta | None = None,
) -> str:
    """A new key; viewers are of acme, admins of all."""
    async with app.database.transaction() as conn:
        of = await collections.named(conn, collection) if collection else None
        whose = None if role is Role.ADMIN else tenant
        made = await keys.create(
            conn, role, tenant=whose, collection=of, visible=visible, lasts=lasts, by="a test"
        )
    return made.key


def showing(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def holder(
    app: App, role: Role = Role.VIEWER, tenant: str | None = "acme", **how: Any
) -> dict[str, str]:
    """Headers of somebody with a new key."""
    return showing(await made_key(app, role, tenant, **how))


async def two_tenants(app: App, name: str = "c", **how: Any) -> None:
    """A collection with five documents each, the same texts; ids say whose they are."""
    made = await steps.collection(app, name, **how)
    for tenant in TENANTS:
        drafts = [
            steps.Draft(f"{tenant}-{each.key}", each.title, each.body, tenant) for each in steps.drafts(5)
        ]
        await steps.put(app, made, drafts)
    await steps.drain(app)


def said(answer: httpx2.Response, status: int) -> dict[str, Any]:
    """The problem that was answered: whole, and of this status."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = json.loads(answer.content)
    assert problem.keys() >= PROBLEM
    assert (problem["status"], problem["type"]) == (status, "about:blank")
    return problem


def shown(hit: Hit) -> dict[str, Any]:
    """What is not asked for is not there, not even as null."""
    facts = asdict(hit) | {"matched_by": hit.matched_by}
    assert (facts.pop("text"), facts.pop("metadata")) == (None, None)
    return facts


def ids(answer: httpx2.Response) -> set[str]:
    assert answer.status_code == 200, answer.text
    return {hit["id"] for hit in answer.json()["hits"]}


def tenants(answer: httpx2.Response) -> set[str]:
    assert answer.status_code == 200, answer.text
    return {hit["tenant"] for hit in answer.json()["hits"]}


async def ask(
    client: httpx2.AsyncClient, headers: Mapping[str, str], name: str = "c", **more: Any
) -> httpx2.Response:
    parameters = {"q": "document 3", "k": 100} | more
    return await client.get(f"/v1/collections/{name}/search", params=parameters, headers=dict(headers))
