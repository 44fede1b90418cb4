"""A search over HTTP: the library's own answer, and every limit with a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from revec.app import App
from revec.model.access import Role
from revec.model.document import Draft
from revec.model.reading import Mode
from tests import loopback as fake
from tests import steps
from tests.loopback import Loopback
from tests.web import door
from tests.web.door import ask


async def test_the_answer_is_the_retriever_s(app: App, loopback: Loopback) -> None:
    """By address and by body the same; no vector, no text, nothing else."""
    await door.two_tenants(app)
    viewer = await door.holder(app)
    reading = await app.retriever.search("c", "document 3", k=3, tenant="acme", mode=Mode.HYBRID)
    async with door.door(app) as client:
        by_address = await ask(client, viewer, k=3)
        by_body = await client.post(
            "/v1/collections/c/search", json={"q": "document 3", "k": 3}, headers=viewer
        )
    assert (
        by_address.json()
        == by_body.json()
        == {
            "collection": "c",
            "index": reading.index,
            "epoch": reading.epoch,
            "degraded": False,
            "hits": [door.shown(hit) for hit in reading.hits],
        }
    )


async def test_hits_with_their_contents(app: App, loopback: Loopback) -> None:
    """Asked for: the text and the metadata of what the caller may find, of the index that serves or another."""
    await door.two_tenants(app)
    viewer, operator = await door.holder(app), await door.holder(app, Role.OPERATOR)
    async with door.door(app) as client:
        for who, more in ((viewer, {}), (viewer, {"q": ""}), (operator, {"index": "1"})):
            hits = (await ask(client, who, contents="true", **more)).json()["hits"]
            assert {hit["text"] for hit in hits} == {f"text of document {n}" for n in range(5)}
            assert all(hit["metadata"] == {} and hit["tenant"] == "acme" for hit in hits)


async def test_an_operator_searches_any_index(app: App, loopback: Loopback) -> None:
    """By number or name, serving or not; one that is no longer, or another collection's, is not there."""
    await steps.ready(app)
    await door.two_tenants(app, "d")
    operator = await door.holder(app, Role.OPERATOR, "default")
    async with door.door(app) as client:
        assert (await ask(client, operator)).json()["index"] == "openai:fake-64#1"
        for name in ("2", "openai:fake-b-96#2"):
            found = (await ask(client, operator, index=name)).json()
            assert (found["index"], len(found["hits"])) == ("openai:fake-b-96#2", 20)
        for name in ("3", "0", "openai:fake-64", "-1", "x" * 900):
            assert "c has no index" in door.said(await ask(client, operator, index=name), 404)["detail"]
        listed = (await client.get("/v1/collections", headers=operator)).json()["collections"]
        assert [(each["id"], each["role"]) for each in listed[0]["indexes"]] == [(1, "serving"), (2, "next")]


async def test_vectors_are_given_only_to_operators_who_ask(app: App, loopback: Loopback) -> None:
    """As they are stored, chunk by chunk; nobody gets them by the way."""
    await door.two_tenants(app)
    operator, viewer = await door.holder(app, Role.OPERATOR), await door.holder(app)
    async with door.door(app) as client:
        hits = (await ask(client, operator, vectors="true")).json()["hits"]
        assert len(hits) == 5
        for hit in hits:
            number = hit["id"].removeprefix("acme-")
            model_s = fake.vector(f"document {number}\ntext of document {number}", "fake-64")
            assert hit["vectors"] == [pytest.approx(model_s.tolist(), abs=1e-3)]
        assert all("vectors" not in hit for hit in (await ask(client, operator)).json()["hits"])
        assert "for operators" in door.said(await ask(client, viewer, vectors="true"), 403)["detail"]
        assert "for operators" in door.said(await ask(client, viewer, index="1"), 403)["detail"]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"k": 0}, "greater than or equal to 1"),
    ({"k": 1001}, "less than or equal to 1000"),
    ({"k": -5}, "greater than or equal to 1"),
    ({"k": "ten"}, "a valid integer"),
    ({"k": 10**30}, "less than or equal to 1000"),
    ({"q": "x" * 4_097}, "at most 4096 characters"),
    ({"q": "a\0b"}, "NUL byte (U+0000), which Postgres cannot store"),
    ({"tenant": ""}, "at least 1 character"),
    ({"tenant": "a\0"}, "NUL byte"),
    ({"index": "\0"}, "NUL byte"),
    ({"vectors": "perhaps"}, "a valid boolean"),
    ({"mode": "fuzzy"}, "'hybrid', 'vector' or 'lexical'"),
    ({"limit": 3}, "extra inputs are not permitted"),
]


async def test_what_cannot_be_asked(app: App, loopback: Loopback) -> None:
    """Refused with the place and a sentence, in the address as in a body; never dropped, never echoed."""
    operator = await door.holder(app, Role.OPERATOR, None)
    async with door.door(app) as client:
        for question, words in REFUSED:
            by_address = await ask(client, operator, **question)
            by_body = await client.post(
                "/v1/collections/c/search", json={"q": "x"} | question, headers=operator
            )
            for answer, place in ((by_address, "query"), (by_body, "body")):
                problem = door.said(answer, 422)
                (error,) = problem["errors"]
                (name,) = question
                assert error["where"] == f"{place}.{name}"
                assert words in error["why"]
                assert "x" * 100 not in answer.text


BODIES: list[tuple[bytes, int]] = [
    (b"", 422),
    (b"{", 422),
    (b"null", 422),
    (b"[]", 422),
    (b'"q"', 422),
    (b'{"q": 7}', 422),
    (b'{"q": "x", "k": NaN}', 422),
    (b'{"q": "x", "k": ' + b"9" * 5_000 + b"}", 400),
    (b'{"q": "\\ud800"}', 422),
    (b'{"q": "\xff"}', 400),
    (b"[" * 50_000, 400),
    (b"\0" * 100, 422),
]


async def test_a_body_that_is_none(app: App, loopback: Loopback) -> None:
    """Not JSON, not an object, not a text: a problem, never a failure of ours."""
    viewer = await door.holder(app) | {"content-type": "application/json"}
    async with door.door(app) as client:
        for body, status in BODIES:
            answer = await client.post("/v1/collections/c/search", content=body, headers=viewer)
            problem = door.said(answer, status)
            assert body != b"{" or problem["detail"] == "body: is not JSON, from character 1 on"


async def test_nothing_serves_yet_and_nothing_there(app: App, loopback: Loopback) -> None:
    """The sentences of the library, and their status."""
    await steps.collection(app)
    viewer = await door.holder(app)
    async with door.door(app) as client:
        assert "nothing serves c yet" in door.said(await ask(client, viewer), 409)["detail"]
        assert "no collection is named 'nope'" in door.said(await ask(client, viewer, "nope"), 404)["detail"]
        for name in ("%00", "C", "..%2f", "a" * 1_001, "é"):
            answer = await client.get(f"/v1/collections/{name}/search?q=x", headers=viewer)
            assert door.said(answer, answer.status_code)["status"] in {404, 422}
        assert "there is nothing here" in door.said(await client.get("/v1/", headers=viewer), 404)["detail"]
        wrong = await client.patch("/v1/collections/c/search", headers=viewer)
        door.said(wrong, 405)
        assert set(wrong.headers["allow"].split(", ")) <= {"GET", "POST"}


async def test_a_model_that_is_down_is_said_so(app: App, loopback: Loopback) -> None:
    """The words answer; what it said stays here. In another index, which nobody else is asked for, it is a 503."""
    await door.two_tenants(app)
    viewer, operator = await door.holder(app), await door.holder(app, Role.OPERATOR)
    async with door.door(app) as client:
        loopback.fault("503", times=2)
        degraded = (await ask(client, viewer)).json()
        assert degraded["degraded"]
        assert degraded["hits"]
        assert degraded["why"] == "the model did not answer: only the words were searched"
        assert "503" in door.said(await ask(client, operator, index="1"), 503)["detail"]


async def test_a_filter_at_the_door(app: App, loopback: Loopback) -> None:
    """As JSON; one that cannot be read is refused with a sentence."""
    made = await steps.collection(app)
    drafts = [Draft(key=lang, title="apple", body=lang, metadata={"lang": lang}) for lang in ("en", "de")]
    await steps.put(app, made, drafts)
    await steps.drain(app)
    viewer = await door.holder(app, tenant="default")
    async with door.door(app) as client:
        for mode in Mode:
            found = await ask(client, viewer, q="apple", mode=str(mode), filter='{"lang": "de"}')
            assert door.ids(found) == {"de"}
        latest = await ask(client, viewer, q="", filter='{"lang": "en"}')
        assert door.ids(latest) == {"en"}
        assert "filter" in door.said(await ask(client, viewer, filter="{"), 422)["detail"]
