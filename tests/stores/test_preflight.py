"""`revec stores check`: a good store passes and keeps nothing; each fault is found and named."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from revec.app import App
from revec.model import place
from revec.stores.engines.postgresql import PostgreSQL
from revec.stores.points import Point
from revec.stores.preflight import Finding, Preflight
from tests import places, servers, steps
from tests.loopback import Loopback

StoreOf = Callable[[str], str]
DIMS = 24
NEAREST, FETCH, DELETE = PostgreSQL.nearest, PostgreSQL.fetch, PostgreSQL.delete


async def checked(app: App, address: str) -> dict[str, Finding]:
    findings = await Preflight(app.store_at(address), place.address(address), DIMS).run()
    return {each.check: each for each in findings}


@pytest.mark.parametrize("kind", [kind for kind in places.KINDS if kind != "pg"])
async def test_a_good_store_passes(app: App, loopback: Loopback, store_of: StoreOf, kind: str) -> None:
    """Every check, each with what it saw; what was made is gone."""
    address = store_of(kind)
    if kind == "postgresql":
        await app.store_at(address).create("somebody", 3)
    found = await checked(app, address)
    assert [each for each in found.values() if not each.passed] == []
    assert len(found) == 10
    assert "without TLS" in found["transport"].why
    assert "p95" in found["latency"].why
    if kind == "postgresql":
        assert await app.store_at(address).count("somebody") == 0


async def squared(self: Any, *arguments: Any, **more: Any) -> Any:
    return [(point, score * abs(score)) for point, score in await NEAREST(self, *arguments, **more)]


async def everybodys(self: Any, *arguments: Any, limit: int, tenant: Any) -> Any:
    return await NEAREST(self, *arguments, limit=limit, tenant=None)


async def half_of_them(self: Any, *arguments: Any, **more: Any) -> Any:
    return (await NEAREST(self, *arguments, **more))[::2]


async def some_lost(self: Any, where: str, ids: Any) -> Any:
    found = await FETCH(self, where, ids)
    return dict(list(found.items())[1:])


async def not_yet(self: Any, where: str, ids: Any) -> None:
    return


FAULTS = {
    "metric": ("nearest", squared, "no cosine similarities"),
    "tenants": ("nearest", everybodys, "points of another"),
    "deletions": ("delete", not_yet, "still given back"),
    "put and fetch": ("fetch", some_lost, "were given back"),
}


@pytest.mark.parametrize("check", FAULTS)
async def test_each_fault_is_named(
    app: App, loopback: Loopback, store_of: StoreOf, monkeypatch: pytest.MonkeyPatch, check: str
) -> None:
    """The check that should fail does, in a sentence; and nothing is left behind all the same."""
    name, fault, sentence = FAULTS[check]
    monkeypatch.setattr(PostgreSQL, name, fault)
    found = await checked(app, store_of("postgresql"))
    assert not found[check].passed
    assert sentence in found[check].why
    assert found["drop"].passed


async def test_a_store_may_be_slower_than_a_search_may_be(
    app: App, loopback: Loopback, store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was just begun, on a busy machine: how long it takes is told, and is no other check's fault."""

    async def late(self: Any, *arguments: Any, **more: Any) -> Any:
        await asyncio.sleep(0.002)
        return await NEAREST(self, *arguments, **more)

    monkeypatch.setattr(PostgreSQL, "nearest", late)
    address = store_of("postgresql")
    app.store_at(address).reading = 0.001
    assert [each for each in (await checked(app, address)).values() if not each.passed] == []
    assert not app.store_at(address).rests


async def test_too_few_of_the_nearest_fail_the_metric(
    app: App, loopback: Loopback, store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An approximate index that misses half is none to move to."""
    monkeypatch.setattr(PostgreSQL, "nearest", half_of_them)
    found = await checked(app, store_of("postgresql"))
    assert not found["metric"].passed
    assert "are needed" in found["metric"].why


async def test_who_is_not_there_is_not_asked_more(app: App, loopback: Loopback) -> None:
    """One sentence, with what to do; no collection is tried."""
    found = await checked(app, "chroma://127.0.0.1:9")
    assert [each.check for each in found.values() if not each.passed] == ["reach and key"]
    assert "cannot be reached" in found["reach and key"].why
    assert list(found) == ["transport", "reach and key"]
    assert await steps.rows(app, "SELECT * FROM revec.index") == []


async def test_who_came_before_the_extension_knows_its_types(
    app: App, loopback: Loopback, store_of: StoreOf
) -> None:
    """Another process made the first collection, after this one had looked whether the store is there."""
    address = store_of("postgresql")
    store = app.store_at(address)
    await store.facts()
    with servers.psycopg.connect(dsn_of(app, address), autocommit=True) as conn:
        conn.execute("CREATE EXTENSION vector")
    await store.create("revec_one", 3)
    point = Point(uuid4(), "default", np.ones(3, np.float16))
    await store.put("revec_one", [point])
    found = await store.fetch("revec_one", [point.id])
    assert found[point.id].tolist() == [1, 1, 1]


def dsn_of(app: App, address: str) -> str:
    return servers.at(app.database.dsn, dbname=place.address(address).path.strip("/"))
