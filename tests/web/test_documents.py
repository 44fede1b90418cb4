"""Documents over HTTP: written, read again when the writer wants to, deleted; all of a batch or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx2

from revec.app import App
from revec.model.access import Role
from revec.postgres import collections
from tests import steps
from tests.loopback import Loopback
from tests.web import door
from tests.web.door import ask

PLACE = "/v1/collections/c/documents"


@asynccontextmanager
async def working(app: App) -> AsyncIterator[None]:
    """A worker that goes on until the body is through."""
    worker = app.worker()
    running = asyncio.create_task(worker.run(drain=False))
    try:
        yield
    finally:
        worker.stop()
        await running


@asynccontextmanager
async def admin(app: App) -> AsyncIterator[httpx2.AsyncClient]:
    async with door.door(app) as client:
        client.headers.update(await door.holder(app, Role.ADMIN))
        yield client


def standings(answer: httpx2.Response, status: int) -> dict[str, str]:
    assert answer.status_code == status, answer.text
    return {each["id"]: each["standing"] for each in answer.json()["documents"]}


async def assert_oracle(app: App) -> None:
    async with app.database.transaction() as conn:
        made = await collections.named(conn, "c")
    await steps.drain(app)
    await steps.assert_oracle(app, made)


async def test_who_waits_reads_what_it_wrote(app: App, loopback: Loopback) -> None:
    """200 means that the next search has it: a new one, an edit, a deletion."""
    await steps.filled(app, 3)
    async with admin(app) as client, working(app):
        for text in ("zebras in the rain", "zebras in the snow"):
            written = await client.put(f"{PLACE}/new?wait=20", json={"title": "Zebra", "text": text})
            assert standings(written, 200) == {"new": "searchable"}
            found = await ask(client, {}, q=f"Zebra\n{text}", k=1, mode="vector", tenant="default")
            assert [(hit["id"], hit["score"] > 0.99) for hit in found.json()["hits"]] == [("new", True)]
        assert standings(await client.delete(f"{PLACE}/new?wait=20"), 200) == {"new": "gone"}
        assert "new" not in door.ids(await ask(client, {}))
    await assert_oracle(app)


async def test_who_does_not_wait_is_told_so(app: App, loopback: Loopback) -> None:
    """202: kept, and a worker will do the rest; an unchanged document has nothing left to do."""
    await steps.filled(app, 3)
    async with admin(app) as client:
        body = {"title": "Zebra", "text": "zebras"}
        assert standings(await client.put(f"{PLACE}/new", json=body), 202) == {"new": "pending"}
        assert standings(await client.put(f"{PLACE}/new?wait=0.1", json=body), 202) == {"new": "pending"}
        assert "new" not in door.ids(await ask(client, {}))
        await steps.drain(app)
        assert standings(await client.put(f"{PLACE}/new", json=body), 200) == {"new": "searchable"}
        assert standings(await client.delete(f"{PLACE}/new"), 202) == {"new": "gone"}
        assert "new" not in door.ids(await ask(client, {}))  # its vectors are still there
    await assert_oracle(app)


async def test_what_is_left_out_or_dead_is_not_waited_for(app: App, loopback: Loopback) -> None:
    """There is nothing left to do: the receipt says why no search finds it."""
    await steps.filled(app, 3)
    loopback.fault("refuse", times=None, match="poison")
    async with admin(app) as client, working(app):
        empty, dead = await asyncio.gather(
            client.put(f"{PLACE}/empty?wait=20", json={"text": "  "}),
            client.put(f"{PLACE}/dead?wait=20", json={"text": "poison"}),
        )
    assert standings(empty, 200) == {"empty": "excluded"}
    assert standings(dead, 200) == {"dead": "dead"}
    assert "refused the input" in dead.json()["documents"][0]["why"]
    loopback.clear()


async def test_a_wait_is_for_the_index_that_serves(app: App, loopback: Loopback) -> None:
    """The one that is being filled has its own time."""
    await steps.ready(app)
    async with app.database.transaction() as conn:
        await conn.execute("UPDATE revec.index SET held = true WHERE id = 2")
    async with admin(app) as client, working(app):
        assert standings(await client.put(f"{PLACE}/new?wait=3", json={"text": "x"}), 200) == {
            "new": "searchable"
        }
    assert len(await steps.rows(app, "SELECT FROM revec.work WHERE index_id = 2")) == 1


async def test_a_collection_that_nothing_serves_takes_documents(app: App, loopback: Loopback) -> None:
    """Before its first fill is through: pending, and no wait is too long for that."""
    await steps.collection(app)
    async with admin(app) as client:
        answer = await client.put(f"{PLACE}/new?wait=0.05", json={"text": "x"})
        assert standings(answer, 202) == {"new": "pending"}
        assert answer.json()["documents"][0]["why"] == "nothing serves yet"


async def test_a_document_is_read_as_it_was_written(app: App, loopback: Loopback) -> None:
    """Odd ids included; everything comes back as it went in."""
    await steps.filled(app, 1)
    async with admin(app) as client:
        for key in ("a/b/c", "ä ö", "%", "a?b#c", "batch", "'; DROP TABLE x", "x" * 1_000):
            place = f"{PLACE}/{quote(key, safe='')}"
            body = {"title": "T", "text": "ü\n", "tenant": "acme", "metadata": {"a": [1, {"b": None}]}}
            assert key in standings(await client.put(place, json=body), 202)
            found = (await client.get(place)).json()
            assert {name: found[name] for name in body} == body
            assert (found["id"], found["source"]) == (key, "push")
            assert standings(await client.delete(place), 202) == {key: "gone"}
            door.said(await client.get(place), 404)
            door.said(await client.delete(place), 404)


async def test_a_batch_is_all_or_nothing(app: App, loopback: Loopback) -> None:
    """Put and deleted together; one bad document, named by its place, and nothing is written."""
    await steps.filled(app, 3)
    async with admin(app) as client:
        good = {"put": [{"id": "0", "text": "new"}, {"id": "9", "text": "nine"}], "delete": ["1", "nobody"]}
        assert standings(await client.post(f"{PLACE}/batch", json=good), 202) == {
            "1": "gone",
            "0": "pending",
            "9": "pending",
        }
        before = await steps.rows(app, "SELECT key, body FROM revec.document ORDER BY key")
        assert [row.key for row in before] == ["0", "2", "9"]
        bad = {
            "put": [{"id": "8", "text": "x"}, {"id": "k" * 999 + "é", "text": "x", "metadata": {"a": "\0"}}]
        }
        refused = door.said(await client.post(f"{PLACE}/batch", json=bad | {"delete": ["2"]}), 422)
        assert "document 1 metadata contains a NUL byte" in refused["detail"]
        assert await steps.rows(app, "SELECT key, body FROM revec.document ORDER BY key") == before
        many = {"put": [{"id": str(n), "text": "x"} for n in range(1_001)]}
        assert (
            "at most 1000 items" in door.said(await client.post(f"{PLACE}/batch", json=many), 422)["detail"]
        )
        assert standings(await client.post(f"{PLACE}/batch", json={}), 200) == {}
    await assert_oracle(app)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("a", {}, "body.text: field required"),
    ("a", {"text": 7}, "a valid string"),
    ("a", {"text": "a\0b"}, "NUL byte"),
    ("a", {"text": "x", "title": "\0"}, "NUL byte"),
    ("a", {"text": "x", "tenant": ""}, "at least 1 character"),
    ("a", {"text": "x", "tenant": "\0"}, "NUL byte"),
    ("a", {"text": "x", "metadata": []}, "valid dictionary"),
    ("a", {"text": "x", "metadata": {"a\0": 1}}, "NUL byte"),
    ("a", {"text": "x", "id": "b"}, "extra inputs"),
    ("a%00", {"text": "x"}, "NUL byte"),
    ("", {"text": "x"}, "at least 1 character"),
    ("x" * 1_001, {"text": "x"}, "at most 1000 characters"),
    ("%F0%9F%98%80" * 700, {"text": "x"}, "2,600 are the most"),
    ("a?wait=31", {"text": "x"}, "less than or equal to 30"),
    ("a?wait=-1", {"text": "x"}, "greater than or equal to 0"),
    ("a?wait=nan", {"text": "x"}, "query.wait"),
    ("a?wait=inf", {"text": "x"}, "query.wait"),
]


async def test_what_cannot_be_kept(app: App, loopback: Loopback) -> None:
    """Named with its place; nothing is written."""
    await steps.collection(app)
    async with admin(app) as client:
        for place, body, words in REFUSED:
            answer = await client.put(f"{PLACE}/{place}", json=body)
            assert words in door.said(answer, 422)["detail"]
    assert await steps.rows(app, "SELECT FROM revec.document") == []


async def test_depth_and_odd_numbers_of_metadata(app: App, loopback: Loopback) -> None:
    """What Python reads and JSON or Postgres cannot hold."""
    await steps.collection(app)
    deep = b'{"a":' * 150 + b"1" + b"}" * 150
    async with admin(app) as client:
        client.headers["content-type"] = "application/json"
        for metadata in (deep, b'{"a": NaN}', b'{"a": -Infinity}', b'{"a": "\\ud800"}'):
            answer = await client.put(f"{PLACE}/a", content=b'{"text": "x", "metadata": ' + metadata + b"}")
            assert "metadata" in door.said(answer, 422)["detail"]
    assert await steps.rows(app, "SELECT FROM revec.document") == []


async def test_writers_at_once_lose_nothing(app: App, loopback: Loopback) -> None:
    """Thirty writers, each its own document and all of them one; the last of it is what a search finds."""
    await steps.filled(app, 1)
    async with admin(app) as client, working(app):
        await asyncio.gather(
            *(client.put(f"{PLACE}/own-{n}", json={"text": f"own {n}"}) for n in range(30)),
            *(client.put(f"{PLACE}/shared?wait=20", json={"text": f"shared {n}"}) for n in range(10)),
        )
    assert len(await steps.rows(app, "SELECT FROM revec.document")) == 32
    await assert_oracle(app)


async def test_a_migration_over_http(app: App, loopback: Loopback) -> None:
    """Begun, watched, cut over and back by an admin's key, whose name the history has."""
    await steps.filled(app, 5)
    place = "/v1/collections/c/migrations"
    async with admin(app) as client:
        begun = await client.post(place, json={"to": steps.NEW})
        assert (begun.status_code, begun.json()["state"]) == (201, "planned")
        again = await client.post(place, json={"to": steps.NEW})
        assert "is being migrated" in door.said(again, 409)["detail"]
        early = await client.post(f"{place}/current/cutover", json={"reason": "now"})
        assert "a cutover needs ready" in door.said(early, 409)["detail"]
        await steps.drain(app)
        for verb, state, index in (
            ("cutover", "live", "openai:fake-b-96#2"),
            ("rollback", "ready", "openai:fake-64#1"),
            ("cutover", "live", "openai:fake-b-96#2"),
            ("finish", "finishing", "openai:fake-b-96#2"),
            ("cancel-finish", "live", "openai:fake-b-96#2"),
        ):
            done = await client.post(f"{place}/current/{verb}", json={"reason": f"{verb}, as agreed"})
            assert (done.status_code, done.json().get("state")) == (200, state), done.text
            assert (await ask(client, {}, tenant="default")).json()["index"] == index
        (second, first) = (await client.get(place)).json()["migrations"]
        assert (first["state"], second["state"]) == ("finished", "live")
        events = (await client.get(f"{place}/{second['id']}/history")).json()["events"]
        mine = [event for event in events if event["who"].startswith("revec_")]
        assert [event["why"] for event in mine][1:3] == ["cutover, as agreed", "rollback, as agreed"]
        door.said(await client.get(f"{place}/99/history"), 404)
        door.said(await client.post(f"{place}/current/explode", json={"reason": "x"}), 404)
        door.said(await client.post(f"{place}/current/pause", json={}), 422)
        door.said(await client.post(place, json={"to": "nonsense"}), 422)
    await assert_oracle(app)
