"""Similar documents over HTTP: the library's own answer, one way of asking, and the walls of a search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx2
import pytest

from revec.app import App
from revec.model.access import Role
from revec.model.document import Draft
from revec.search.similar import ByKey, ByText, ByVector
from tests import loopback as fake
from tests import steps
from tests.loopback import Loopback
from tests.web import door


async def like(
    client: httpx2.AsyncClient, headers: Mapping[str, str], name: str = "c", **what: Any
) -> httpx2.Response:
    return await client.post(f"/v1/collections/{name}/similar", json=what, headers=dict(headers))


def vector_of(n: int) -> list[float]:
    made: list[float] = fake.vector(f"document {n}\ntext of document {n}", "fake-64").tolist()
    return made


async def test_the_answer_is_the_retriever_s(app: App, loopback: Loopback) -> None:
    """By key, text and vector; a search's shape, and the threshold that counted."""
    await door.two_tenants(app)
    viewer = await door.holder(app)
    space = (await app.serving("c")).space.id
    ways = [
        ({"key": "acme-3"}, ByKey("acme-3")),
        ({"key": "acme-3", "source": "push"}, ByKey("acme-3", "push")),
        ({"text": "document 3"}, ByText("document 3")),
        ({"vector": vector_of(3), "space": space}, ByVector(vector_of(3), space)),
    ]
    async with door.door(app) as client:
        for asked, what in ways:
            for threshold in (None, 0.5):
                reading = await app.retriever.similar("c", what, tenant="acme", k=3, threshold=threshold)
                answer = await like(client, viewer, **asked, k=3, threshold=threshold)
                assert answer.json() == {
                    "collection": "c",
                    "index": reading.index,
                    "epoch": reading.epoch,
                    "degraded": False,
                    "threshold": threshold,
                    "hits": [door.shown(hit) for hit in reading.hits],
                }
        assert door.ids(await like(client, viewer, key="acme-3")) == {f"acme-{n}" for n in (0, 1, 2, 4)}


async def test_a_filter_narrows_it(app: App, loopback: Loopback) -> None:
    """As it does a search; one that cannot be read is refused with a sentence."""
    made = await steps.collection(app)
    drafts = [Draft(lang, "apple", lang, metadata={"lang": lang}) for lang in ("en", "de", "fr")]
    await steps.put(app, made, drafts)
    await steps.drain(app)
    viewer = await door.holder(app, tenant="default")
    async with door.door(app) as client:
        found = await like(client, viewer, key="en", filter='{"lang": {"in": ["en", "de"]}}')
        assert door.ids(found) == {"de"}
        assert "filter" in door.said(await like(client, viewer, key="en", filter="{"), 422)["detail"]


async def test_another_tenant_s_key_is_like_none(app: App, loopback: Loopback) -> None:
    """The same bytes apart from the key, with the source and without; and no vector or text crosses either."""
    await door.two_tenants(app)
    acme, everybody = await door.holder(app), await door.holder(app, Role.OPERATOR, None)
    space = (await app.serving("c")).space.id
    async with door.door(app) as client:
        for more in ({}, {"source": "push"}):
            theirs, nobodys = [await like(client, acme, key=key, **more) for key in ("globex-1", "nobody-1")]
            door.said(theirs, 404)
            assert theirs.content.replace(b"globex-1", b"nobody-1") == nobodys.content
            assert theirs.headers == nobodys.headers
        for way in ({"key": "acme-1"}, {"text": "document"}, {"vector": vector_of(1), "space": space}):
            assert door.tenants(await like(client, acme, k=100, **way)) == {"acme"}
            assert door.tenants(await like(client, everybody, k=100, **way)) == {"acme", "globex"}
            narrowed = await like(client, everybody, k=100, tenant="acme", **way)
            assert door.tenants(narrowed) == {"acme"}
        answers = [await like(client, acme, text="x", tenant=name) for name in ("globex", "nobody")]
        assert answers[0].content == answers[1].content
        assert "leave it out" in door.said(answers[0], 403)["detail"]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "say key, text or vector, one of them, not 0"),
    ({"key": "1", "text": "x"}, "one of them, not 2"),
    ({"key": "1", "text": "x", "vector": [1.0]}, "one of them, not 3"),
    ({"text": "x", "source": "push"}, "source belongs to a key"),
    ({"text": "x", "space": "s"}, "space belongs to a vector"),
    ({"key": ""}, "at least 1 character"),
    ({"key": "a\0"}, "NUL byte"),
    ({"text": "a\0"}, "NUL byte"),
    ({"text": " "}, "the text is empty"),
    ({"vector": []}, "at least 1 item"),
    ({"vector": [1.0] * 16_385}, "at most 16384 items"),
    ({"vector": ["1"] * 9}, "a valid number"),
    ({"vector": [1, None]}, "a valid number"),
    ({"vector": [0.5] * 64}, "nobody says which space it is of"),
    ({"key": "1", "k": 0}, "greater than or equal to 1"),
    ({"key": "1", "k": 1_001}, "less than or equal to 1000"),
    ({"key": "1", "threshold": 1.5}, "less than or equal to 1"),
    ({"key": "1", "threshold": "high"}, "a valid number"),
    ({"key": "1", "mode": "hybrid"}, "extra inputs are not permitted"),
]


@pytest.mark.parametrize(("asked", "words"), REFUSED)
async def test_what_cannot_be_asked(app: App, loopback: Loopback, asked: dict[str, Any], words: str) -> None:
    """Refused in a sentence, once however many numbers are wrong, and never echoed."""
    await steps.filled(app, 2)
    viewer = await door.holder(app, tenant="default")
    async with door.door(app) as client:
        answer = await like(client, viewer, **asked)
        problem = door.said(answer, 422)
        assert words in problem["detail"]
        assert len(answer.content) < 1_000


async def test_a_vector_of_a_large_model_has_room(app: App, loopback: Loopback) -> None:
    """As many numbers as are taken, each as long as they come; refused for what they are, not for their size."""
    await steps.filled(app, 2)
    viewer = await door.holder(app, tenant="default")
    async with door.door(app) as client:
        answer = await like(client, viewer, vector=[-0.123456789012345678] * 16_384, space="s")
        assert "cannot be compared, it is of s" in door.said(answer, 422)["detail"]
        numbers = ", ".join(["NaN"] * 9)
        spoilt = await client.post(
            "/v1/collections/c/similar",
            content=f'{{"vector": [{numbers}]}}',
            headers=viewer | {"content-type": "application/json"},
        )
        assert "finite number" in door.said(spoilt, 422)["detail"]


async def test_what_is_not_there_and_what_is_not_ready(app: App, loopback: Loopback) -> None:
    """No such collection, nothing that serves, no vectors yet: as the library says it."""
    made = await steps.collection(app)
    viewer, bound = await door.holder(app), await door.holder(app, collection="c")
    async with door.door(app) as client:
        assert "nothing serves c yet" in door.said(await like(client, viewer, key="1"), 409)["detail"]
        for headers, name in ((viewer, "nope"), (bound, "d")):
            assert (
                "no collection is named"
                in door.said(await like(client, headers, name, key="1"), 404)["detail"]
            )
        await steps.drain(app)
        await steps.put(app, made, [Draft("new", "", "nobody has embedded it", "acme")])
        assert "has no vectors" in door.said(await like(client, viewer, key="new"), 409)["detail"]
        door.said(await client.get("/v1/collections/c/similar", headers=viewer), 405)


async def test_a_model_that_is_down(app: App, loopback: Loopback) -> None:
    """A text has no other leg; a key needs no model."""
    await door.two_tenants(app)
    viewer = await door.holder(app)
    async with door.door(app) as client:
        loopback.fault("503", times=5)
        assert "503" in door.said(await like(client, viewer, text="x"), 503)["detail"]
        assert door.ids(await like(client, viewer, key="acme-1"))
