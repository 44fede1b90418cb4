"""What a key or a token lets its holder see: no way of reading shows more, whatever is asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx2
import pytest

from revec.app import App
from revec.model.access import Role
from revec.model.document import Draft
from revec.model.errors import BadInput
from revec.model.reading import Mode
from tests import loopback as fake
from tests import steps
from tests.loopback import Loopback
from tests.web import door, forging
from tests.web.door import ask, holder
from tests.web.test_forged import assert_closed, by_secret
from tests.web.test_streams import EVENTS, events

SEES = '{"lang": "en"}'
ENGLISH = {"en-1", "en-2"}
WIDER = '{"or": [{"lang": "en"}, {"lang": "de"}, {"not": {"lang": "en"}}]}'

Client, Headers = httpx2.AsyncClient, Mapping[str, str]
Look = Callable[[App, Client, Headers], Awaitable[set[str]]]


async def two_languages(app: App) -> None:
    """The same texts in two languages, of one tenant."""
    made = await steps.collection(app)
    for lang in ("en", "de"):
        await steps.put(
            app,
            made,
            [Draft(f"{lang}-{n}", "apple", f"apple {n}", "acme", {"lang": lang}) for n in (1, 2)],
        )
    await steps.drain(app)


async def like(client: Client, headers: Headers, **what: Any) -> httpx2.Response:
    return await client.post("/v1/collections/c/similar", json={"k": 100, **what}, headers=dict(headers))


async def by_search(_: App, client: Client, headers: Headers) -> set[str]:
    """In every mode, by address and by body, with a filter of the caller's that would let all through."""
    seen: set[str] = set()
    for mode in Mode:
        for more in ({}, {"filter": WIDER}):
            question = {"q": "apple", "k": 100, "mode": str(mode), **more}
            seen |= door.ids(await ask(client, headers, **question))
            by_body = await client.post("/v1/collections/c/search", json=question, headers=dict(headers))
            seen |= door.ids(by_body)
    return seen


async def by_an_empty_query(_: App, client: Client, headers: Headers) -> set[str]:
    return door.ids(await ask(client, headers, q=""))


async def by_a_degraded_answer(app: App, client: Client, headers: Headers) -> set[str]:
    app.retriever._queries._known.clear()
    async with app.database.transaction() as conn:
        await conn.execute(
            "INSERT INTO revec.provider (model, resting_until, why) VALUES ('openai:fake-64', now() + interval '1 h', 'x')"
            " ON CONFLICT (model) DO UPDATE SET resting_until = excluded.resting_until"
        )
    answer = await ask(client, headers, q="apple")
    assert answer.json()["degraded"]
    return door.ids(answer)


async def by_events(_: App, client: Client, headers: Headers) -> set[str]:
    told = events(await ask(client, {**headers, **EVENTS}, q="apple"))
    assert [name for name, _ in told] == ["lexical", "fused"]
    return {hit["id"] for _, answer in told for hit in answer["hits"]}


async def by_a_named_index(_: App, client: Client, headers: Headers) -> set[str]:
    return {
        key
        for mode in Mode
        for key in door.ids(await ask(client, headers, q="apple", index="1", mode=str(mode)))
    }


async def by_likeness(app: App, client: Client, headers: Headers) -> set[str]:
    """From what may be seen, from a text, from a vector."""
    index = await app.serving("c")
    vector = fake.vector("apple\napple 1", "fake-64").tolist()
    ways = [{"key": "en-1"}, {"text": "apple"}, {"vector": vector, "space": index.space.id}]
    found = [await like(client, headers, **way) for way in ways]
    return {"en-1"} | {key for answer in found for key in door.ids(answer)}


async def by_a_start(_: App, client: Client, headers: Headers) -> set[str]:
    """Which documents it may be asked to start from: of the others nobody learns that they are there."""
    hidden, nobodys = [await like(client, headers, key=key) for key in ("de-1", "xx-1")]
    assert hidden.content.replace(b"de-1", b"xx-1") == nobodys.content
    starts = [(key, await like(client, headers, key=key)) for key in ("en-1", "en-2", "de-1", "de-2")]
    return {key for key, answer in starts if answer.status_code == 200}


async def by_document(_: App, client: Client, headers: Headers) -> set[str]:
    found: dict[str, httpx2.Response] = {}
    for key in ("en-1", "en-2", "de-1", "de-2", "xx-1"):
        found[key] = await client.get(f"/v1/collections/c/documents/{key}", headers=dict(headers))
    assert found["de-1"].content.replace(b"de-1", b"xx-1") == found["xx-1"].content
    return {key for key, answer in found.items() if answer.status_code == 200}


WAYS: list[Look] = [
    by_search,
    by_an_empty_query,
    by_events,
    by_a_named_index,
    by_likeness,
    by_a_start,
    by_document,
    by_a_degraded_answer,
]


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.ADMIN])
async def test_no_way_of_reading_shows_what_is_hidden(app: App, loopback: Loopback, role: Role) -> None:
    """A key's holder sees his own, all of it and nothing else; operators and admins are bound as well."""
    await two_languages(app)
    bound = await holder(app, role, visible=SEES)
    async with door.door(app) as client:
        for look in WAYS:
            assert await look(app, client, bound) == ENGLISH, look.__name__


async def test_a_viewer_is_bound(app: App, loopback: Loopback) -> None:
    """By all that viewers may ask; the control sees everything."""
    await two_languages(app)
    bound, free = await holder(app, visible=SEES), await holder(app)
    async with door.door(app) as client:
        for look in (by_search, by_an_empty_query, by_events, by_likeness, by_a_start):
            assert await look(app, client, bound) == ENGLISH, look.__name__
        for look in (by_search, by_an_empty_query, by_events, by_likeness):
            assert await look(app, client, free) == ENGLISH | {"de-1", "de-2"}


async def test_vectors_of_what_is_hidden_are_not_given(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a document was hidden after it was found."""
    await two_languages(app)
    bound = await holder(app, Role.OPERATOR, visible=SEES)
    find = app.retriever.search

    async def found_and_then_hidden(*arguments: Any, **how: Any) -> Any:
        reading = await find(*arguments, **how)
        async with app.database.transaction() as conn:
            await conn.execute("""UPDATE revec.document SET metadata = '{"lang": "de"}' WHERE key = 'en-2'""")
        return reading

    monkeypatch.setattr(app.retriever, "search", found_and_then_hidden)
    async with door.door(app) as client:
        hits = (await ask(client, bound, q="apple", vectors="true")).json()["hits"]
    assert {hit["id"]: len(hit["vectors"]) for hit in hits} == {"en-1": 1, "en-2": 0}


async def test_a_token_says_what_may_be_seen(app: App, loopback: Loopback) -> None:
    """As an object or as its text, under the name that the settings give it."""
    await two_languages(app)
    named = by_secret(jwt_visible_claim="sees")
    async with door.door(app, tokens=by_secret()) as client, door.door(app, tokens=named) as other:
        for visible in (SEES, {"lang": "en"}):
            bound = door.showing(forging.token(visible=visible, role="operator"))
            for look in (by_search, by_events, by_document, by_a_start):
                assert await look(app, client, bound) == ENGLISH, look.__name__
            elsewhere = door.showing(forging.token(sees=visible))
            assert await by_search(app, other, elsewhere) == ENGLISH
        free = door.showing(forging.token())
        assert await by_search(app, client, free) > ENGLISH


async def test_what_cannot_be_read_opens_nothing(app: App, loopback: Loopback) -> None:
    """A claim or a row that is no filter is no permission."""
    await two_languages(app)
    key = await door.made_key(app, visible=SEES)
    async with door.door(app, tokens=by_secret()) as client:
        for visible in (None, "", "{", {}, [], 7, True, {"lang": None}, "lang=en", {"lang": {"like": "e"}}):
            assert_closed(await ask(client, door.showing(forging.token(visible=visible))))
        assert door.ids(await ask(client, door.showing(key), q="apple")) == ENGLISH
        async with app.database.transaction() as conn:
            await conn.execute("UPDATE revec.api_key SET visible = '{'")
        assert_closed(await ask(client, door.showing(key)))
    for visible in ("", "{", "{}", "null", '{"lang": null}', '{"a": 1, "a": 2}'):
        with pytest.raises(BadInput, match="filter"):
            await door.made_key(app, visible=visible)


async def test_who_does_not_see_everything_writes_nothing(app: App, loopback: Loopback) -> None:
    """Ids are shared: a write would meet what is hidden, and say so. Migrations are no documents."""
    await two_languages(app)
    bound = await holder(app, Role.ADMIN, visible=SEES)
    async with door.door(app) as client:
        for method, path, body in (
            ("PUT", "documents/de-1", {"text": "mine"}),
            ("DELETE", "documents/de-1", None),
            ("POST", "documents/batch", {"delete": ["de-1"]}),
        ):
            answer = await client.request(method, f"/v1/collections/c/{path}", json=body, headers=bound)
            assert "does not see every document" in door.said(answer, 403)["detail"]
        assert (await client.get("/v1/collections/c/migrations", headers=bound)).status_code == 200
    assert len(await steps.rows(app, "SELECT FROM revec.document")) == 4
