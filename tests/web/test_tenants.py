"""Whose documents somebody sees: two layers, either of which is enough; and what is not yours is not there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest
from psycopg import sql

from revec.app import App
from revec.model.access import Role
from revec.postgres import documents
from revec.postgres.queries import Queries
from revec.search import fusion, lexical
from revec.stores import pgvector
from tests import steps
from tests.loopback import Loopback
from tests.web import door
from tests.web.door import TENANTS, ask

FENCES: list[tuple[Queries, str, str, int]] = [  # the last: how often the condition stands there
    (pgvector.SQL, "scan", "", 1),
    (pgvector.SQL, "scan_exactly", "", 1),
    (lexical.SQL, "search", "", 3),
    (fusion.SQL, "hydrated", "d.", 1),
    (fusion.SQL, "recent", "d.", 1),
    (documents.SQL, "hydrate", "d.", 1),
    (documents.SQL, "of_key", "d.", 1),
    (documents.SQL, "one", "d.", 1),
    (documents.SQL, "ids_of_hits", "d.", 1),
]


@contextmanager
def without_the_condition(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The bug to be survived: every query behind the door forgets its tenant."""
    with monkeypatch.context() as patch:
        for queries, name, alias, times in FENCES:
            condition = f"(%(tenant)s::text IS NULL OR {alias}tenant = %(tenant)s)"
            text = queries._queries[name].as_string()
            assert text.count(condition) == times
            forgetful = text.replace(condition, "(%(tenant)s::text IS NULL OR true)")
            patch.setitem(queries._queries, name, sql.SQL(forgetful))
        yield


@contextmanager
def without_roles(app: App, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The other bug: no transaction takes a role, and the login is a superuser."""
    with monkeypatch.context() as patch:
        patch.setattr(app.database, "two_layers", False)
        yield


async def look_around(client: httpx2.AsyncClient, headers: dict[str, str]) -> set[str]:
    """Whose content an operator of acme gets to see, by every way in."""
    seen = door.tenants(await ask(client, headers))
    with_vectors = await ask(client, headers, vectors="true")
    seen |= {hit["tenant"] for hit in with_vectors.json()["hits"] if hit["vectors"]}
    seen |= door.tenants(await ask(client, headers, index="1"))
    by_body = await client.post(
        "/v1/collections/c/search", json={"q": "document", "k": 50, "vectors": True}, headers=headers
    )
    seen |= door.tenants(by_body)
    for tenant in TENANTS:
        near = await client.post(
            "/v1/collections/c/similar", json={"key": f"{tenant}-1", "k": 50}, headers=headers
        )
        if near.status_code == 200:
            seen |= {tenant} | door.tenants(near)
        found = await client.get(f"/v1/collections/c/documents/{tenant}-1", headers=headers)
        if found.status_code == 200:
            seen.add(found.json()["tenant"])
    return seen


async def test_a_caller_sees_its_tenant(app: App, loopback: Loopback) -> None:
    """All of it and nothing else; who is of all tenants sees all, or the one that it names."""
    await door.two_tenants(app)
    mine, all_of_them = await door.holder(app), await door.holder(app, Role.OPERATOR, None)
    async with door.door(app) as client:
        assert door.ids(await ask(client, mine)) == {f"acme-{n}" for n in range(5)}
        assert door.tenants(await ask(client, all_of_them)) == set(TENANTS)
        assert door.tenants(await ask(client, all_of_them, tenant="globex")) == {"globex"}
        assert door.tenants(await ask(client, all_of_them, tenant="nobody")) == set()
        assert door.tenants(await ask(client, mine, tenant="acme")) == {"acme"}


async def test_row_security_alone_keeps_tenants_apart(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queries forget their condition: the database hides the rows all the same."""
    await door.two_tenants(app)
    operator = await door.holder(app, Role.OPERATOR)
    async with door.door(app) as client:
        with without_the_condition(monkeypatch):
            assert await look_around(client, operator) == {"acme"}


async def test_the_queries_alone_keep_tenants_apart(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No role, a superuser, no row security: the conditions hide the rows all the same."""
    await door.two_tenants(app)
    operator = await door.holder(app, Role.OPERATOR)
    async with door.door(app) as client:
        with without_roles(app, monkeypatch):
            assert await look_around(client, operator) == {"acme"}


async def test_both_must_fail_before_anything_leaks(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: with both gone it does leak, so the two tests above can fail."""
    await door.two_tenants(app)
    operator = await door.holder(app, Role.OPERATOR)
    async with door.door(app) as client:
        with without_the_condition(monkeypatch), without_roles(app, monkeypatch):
            assert await look_around(client, operator) == set(TENANTS)


async def test_through_a_pooler_and_as_a_plain_owner(any_app: App, loopback: Loopback) -> None:
    """Sixty at a time, two keys: a tenant that was set for one request is never another's."""
    await door.two_tenants(any_app)
    held = {tenant: await door.holder(any_app, tenant=tenant) for tenant in TENANTS}
    async with door.door(any_app, requests_per_second=1_000.0) as client:
        asked = [TENANTS[n % 2] for n in range(60)]
        answers = await asyncio.gather(*(ask(client, held[tenant]) for tenant in asked))
        assert [door.tenants(answer) for answer in answers] == [{tenant} for tenant in asked]


async def test_the_tenant_is_never_the_request_s_to_choose(app: App, loopback: Loopback) -> None:
    """Named in any place, a tenant that is not the caller's is refused: alike, whether it exists or not."""
    await door.two_tenants(app)
    async with door.door(app) as client:
        for role in (Role.VIEWER, Role.OPERATOR):
            mine = await door.holder(app, role)
            answers = [await ask(client, mine, tenant=name) for name in ("globex", "nobody", "*", "%")]
            answers += [
                await client.post("/v1/collections/c/search", json={"q": "x", "tenant": name}, headers=mine)
                for name in ("globex", "nobody")
            ]
            assert {answer.content for answer in answers} == {answers[0].content}
            assert "leave it out" in door.said(answers[0], 403)["detail"]
            spoofed = {**mine, "x-tenant": "globex", "revec-tenant": "globex", "x-forwarded-user": "globex"}
            assert door.tenants(await ask(client, spoofed)) == {"acme"}


async def test_another_tenant_s_document_is_like_none(app: App, loopback: Loopback) -> None:
    """The same bytes apart from the id: nobody finds out what others have."""
    await door.two_tenants(app)
    operator = await door.holder(app, Role.OPERATOR)
    async with door.door(app) as client:
        theirs = await client.get("/v1/collections/c/documents/globex-1", headers=operator)
        nobodys = await client.get("/v1/collections/c/documents/nobody-1", headers=operator)
        door.said(theirs, 404)
        assert theirs.content.replace(b"globex-1", b"nobody-1") == nobodys.content
        assert (theirs.headers, theirs.status_code) == (nobodys.headers, nobodys.status_code)
        mine = await client.get("/v1/collections/c/documents/acme-1", headers=operator)
        assert (mine.json()["id"], mine.json()["text"]) == ("acme-1", "text of document 1")


async def test_another_collection_is_like_none(app: App, loopback: Loopback) -> None:
    """For a key that is of one collection, by every way in."""
    await door.two_tenants(app)
    await door.two_tenants(app, "d")
    made = {role: await door.holder(app, role, collection="c") for role in Role}
    ways = [
        (Role.VIEWER, "GET", "/v1/collections/{}/search?q=x", None),
        (Role.VIEWER, "POST", "/v1/collections/{}/search", {"q": "x"}),
        (Role.VIEWER, "POST", "/v1/collections/{}/similar", {"key": "acme-1"}),
        (Role.OPERATOR, "GET", "/v1/collections/{}/search?q=x&index=1", None),
        (Role.OPERATOR, "GET", "/v1/collections/{}/documents/acme-1", None),
        (Role.ADMIN, "PUT", "/v1/collections/{}/documents/acme-1", {"text": "mine now"}),
        (Role.ADMIN, "DELETE", "/v1/collections/{}/documents/acme-1", None),
        (Role.ADMIN, "POST", "/v1/collections/{}/documents/batch", {"delete": ["acme-1"]}),
        (Role.ADMIN, "GET", "/v1/collections/{}/migrations", None),
        (Role.ADMIN, "GET", "/v1/collections/{}/migrations/1/history", None),
        (Role.ADMIN, "POST", "/v1/collections/{}/migrations", {"to": "openai:fake-b-96"}),
        (Role.ADMIN, "POST", "/v1/collections/{}/migrations/current/abort", {"reason": "x"}),
    ]
    async with door.door(app) as client:
        for role, method, path, body in ways:
            theirs, nobodys = [
                await client.request(method, path.format(name), json=body, headers=made[role])
                for name in ("d", "z")
            ]
            assert "no collection is named 'd'" in door.said(theirs, 404)["detail"], path
            assert theirs.content.replace(b"'d'", b"'z'") == nobodys.content, path
        assert door.tenants(await ask(client, made[Role.VIEWER])) == {"acme"}
        listed = await client.get("/v1/collections", headers=made[Role.OPERATOR])
        assert [each["name"] for each in listed.json()["collections"]] == ["c"]
    assert len(await steps.rows(app, "SELECT FROM revec.document")) == 20


PLACES = {
    "search": ("GET", "/v1/collections/c/search?q=x", None),
    "search by body": ("POST", "/v1/collections/c/search", {"q": "x"}),
    "similar": ("POST", "/v1/collections/c/similar", {"key": "acme-1"}),
    "search another index": ("GET", "/v1/collections/c/search?q=x&index=1", None),
    "search with vectors": ("GET", "/v1/collections/c/search?q=x&vectors=true", None),
    "collections": ("GET", "/v1/collections", None),
    "read a document": ("GET", "/v1/collections/c/documents/acme-1", None),
    "metrics": ("GET", "/metrics", None),
    "migrations": ("GET", "/v1/collections/c/migrations", None),
    "history": ("GET", "/v1/collections/c/migrations/1/history", None),
    "put": ("PUT", "/v1/collections/c/documents/acme-1", {"text": "x", "tenant": "acme"}),
    "batch": ("POST", "/v1/collections/c/documents/batch", {}),
    "start": ("POST", "/v1/collections/c/migrations", {"to": "openai:fake-b-96"}),
    "abort": ("POST", "/v1/collections/c/migrations/current/abort", {"reason": "x"}),
    "delete": ("DELETE", "/v1/collections/c/documents/acme-1", None),
}
SEARCHES = {"search", "search by body", "similar"}
READS = {
    *SEARCHES,
    "search another index",
    "search with vectors",
    "collections",
    "read a document",
    "metrics",
}
OVERSEES = {*READS, "migrations", "history"}
MAY: list[tuple[Role, str | None, set[str]]] = [  # the one who changes things comes last
    (Role.VIEWER, "acme", SEARCHES),
    (Role.OPERATOR, "acme", READS),
    (Role.OPERATOR, None, OVERSEES),
    (Role.ADMIN, None, set(PLACES)),
]


async def test_what_each_role_may(app: App, loopback: Loopback) -> None:
    """The whole table: what is not its is 403 before anything is looked up, and nothing happens."""
    await door.two_tenants(app)
    async with door.door(app) as client:
        for role, tenant, may in MAY:
            assert len(await steps.rows(app, "SELECT FROM revec.document")) == 10
            assert len(await steps.rows(app, "SELECT FROM revec.migration")) == 1
            headers = await door.holder(app, role, tenant)
            for place, (method, path, body) in PLACES.items():
                answer = await client.request(method, path, json=body, headers=headers)
                if place in may:
                    assert answer.status_code in {200, 201, 202}, (place, answer.text)
                    continue
                first = door.said(answer, 403)
                nowhere = path.replace("/c/", "/nowhere/")
                assert (
                    door.said(await client.request(method, nowhere, json=body, headers=headers), 403) == first
                )


async def test_a_token_that_writes_is_of_all_tenants(app: App, loopback: Loopback) -> None:
    """An admin of one tenant could take another's ids: it reads like an operator, and writes nothing."""
    from tests.web.forging import token
    from tests.web.test_forged import by_secret

    await door.two_tenants(app)
    admin = door.showing(token(role="admin"))
    async with door.door(app, tokens=by_secret()) as client:
        taken = await client.put("/v1/collections/c/documents/globex-1", json={"text": "mine"}, headers=admin)
        assert "concerns all tenants" in door.said(taken, 403)["detail"]
        assert await look_around(client, admin) == {"acme"}
