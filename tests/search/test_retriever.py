"""A search: one tenant's live documents, the k nearest, from the index that serves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from psycopg import sql

from revec.app import App
from revec.model.errors import NotFound, ProviderUnavailable, Refused
from revec.model.index import Collection, Kind
from revec.postgres import documents
from revec.stores import pgvector
from tests import loopback as fake
from tests import steps
from tests.loopback import Loopback

TENANTS = ("acme", "globex")


async def shared(app: App, **how: Any) -> Collection:
    """Two tenants with ten documents each, the same texts in both: only the tenant tells them apart."""
    made = await steps.collection(app, **how)
    for tenant in TENANTS:
        await steps.put(
            app,
            made,
            [steps.Draft(f"{tenant} {d.key}", d.title, d.body, tenant) for d in steps.drafts(10)],
        )
    await steps.drain(app)
    return made


async def seen(app: App, tenant: str | None, k: int = 100) -> set[str]:
    """Whose documents a search of this tenant shows."""
    reading = await app.retriever.search("c", "document 3", k=k, tenant=tenant)
    return {hit.tenant for hit in reading.hits}


@contextmanager
def without_the_condition(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The bug to be survived: every query of a search forgets its tenant."""
    condition = "(%(tenant)s::text IS NULL OR {}tenant = %(tenant)s)"
    with monkeypatch.context() as patch:
        for queries, name, alias in (
            (pgvector.SQL, "scan", ""),
            (pgvector.SQL, "scan_exactly", ""),
            (documents.SQL, "hydrate", "d."),
        ):
            text = queries._queries[name].as_string()
            assert text.count(condition.format(alias)) == 1
            forgetful = text.replace(condition.format(alias), "(%(tenant)s::text IS NULL OR true)")
            patch.setitem(queries._queries, name, sql.SQL(forgetful))
        yield


@contextmanager
def without_roles(app: App, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The other bug: no transaction takes a role, and the login is a superuser."""
    with monkeypatch.context() as patch:
        patch.setattr(app.database, "two_layers", False)
        yield


@pytest.mark.parametrize("kind", steps.KINDS)
async def test_a_tenant_sees_its_own_documents(app: App, loopback: Loopback, kind: Kind) -> None:
    """All of them, nobody else's; a tenant that is not there sees nothing; an operator sees all."""
    await shared(app, kind=kind)
    for tenant in TENANTS:
        assert await seen(app, tenant) == {tenant}
        reading = await app.retriever.search("c", "document 3", k=100, tenant=tenant)
        assert len(reading.hits) == 10
    assert await seen(app, "nobody") == set()
    assert await seen(app, "") == set()
    assert await seen(app, None) == set(TENANTS)


@pytest.mark.parametrize("evil", ["' OR true --", "acme' OR '1'='1", "%", "acme\\"])
async def test_a_tenant_s_name_is_never_sql(app: App, loopback: Loopback, evil: str) -> None:
    """Whatever it is called, it is a value."""
    await shared(app)
    assert await seen(app, evil) == set()


async def test_row_security_alone_keeps_tenants_apart(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queries forget their condition: the database hides the rows all the same."""
    await shared(app)
    with without_the_condition(monkeypatch):
        for tenant in TENANTS:
            assert await seen(app, tenant) == {tenant}
        assert await seen(app, "nobody") == set()


async def test_the_query_alone_keeps_tenants_apart(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No role, a superuser, no row security: the condition hides the rows all the same."""
    await shared(app)
    with without_roles(app, monkeypatch):
        for tenant in TENANTS:
            assert await seen(app, tenant) == {tenant}
        assert await seen(app, "nobody") == set()


async def test_both_must_fail_before_anything_leaks(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: with both gone it does leak, so the two tests above can fail."""
    await shared(app)
    with without_the_condition(monkeypatch), without_roles(app, monkeypatch):
        assert await seen(app, "acme") == set(TENANTS)


async def test_a_vector_under_a_wrong_tenant_shows_nobody_s_text(app: App, loopback: Loopback) -> None:
    """Even a misfiled vector leads to no foreign document: the hit is read as its tenant."""
    await shared(app)
    async with app.database.transaction() as conn:
        await conn.execute("UPDATE revec.vectors_1 SET tenant = 'globex'")
    assert await seen(app, "globex") == {"globex"}
    assert await seen(app, "acme") == set()


@pytest.mark.parametrize("k", [1, 2, 9, 10, 11, 1_000])
async def test_k_nearest_best_first(app: App, loopback: Loopback, k: int) -> None:
    """As many as asked and there are, in the order that the model itself gives, each once."""
    made = await steps.filled(app, 10)
    reading = await app.retriever.search("c", "a question", k=k, tenant="default")
    query = fake.vector("a question", "fake-64")
    scores = {
        str(n): float(fake.vector(f"document {n}\ntext of document {n}", "fake-64") @ query)
        for n in range(10)
    }
    wanted = sorted(scores, key=lambda key: -scores[key])[:k]
    assert [hit.id for hit in reading.hits] == wanted
    assert [hit.score for hit in reading.hits] == pytest.approx([scores[key] for key in wanted], abs=2e-3)
    assert {(hit.source, hit.tenant) for hit in reading.hits} == {("push", "default")}
    assert (reading.collection, reading.index, reading.index_id) == ("c", "openai:fake-64#1", 1)
    await steps.assert_oracle(app, made)


async def test_what_is_deleted_is_shown_to_nobody(app: App, loopback: Loopback) -> None:
    """From the commit of the delete on, its vector still there: and the k places go to the living."""
    made = await steps.filled(app, 60)
    before = await app.retriever.search("c", "a question", k=60, tenant="default")
    gone = [hit.id for hit in before.hits[:45]]  # far more than are fetched in reserve
    await steps.delete(app, made, *gone)
    assert await steps.rows(app, "SELECT count(*) FROM revec.vectors_1") == [(60,)]
    after = await app.retriever.search("c", "a question", k=5, tenant="default")
    assert [hit.id for hit in after.hits] == [hit.id for hit in before.hits[45:50]]
    everything = await app.retriever.search("c", "a question", k=100, tenant="default")
    assert len(everything.hits) == 15


async def test_an_edited_title_is_shown_at_once(app: App, loopback: Loopback) -> None:
    """A hit is read from its document, not from what the index remembers."""
    made = await steps.filled(app, 3)
    await steps.put(app, made, [steps.Draft("1", "a new title", "text of document 1")])
    reading = await app.retriever.search("c", "document 1\ntext of document 1", k=3, tenant="default")
    assert {hit.id: hit.title for hit in reading.hits}["1"] == "a new title"


async def test_an_unknown_collection_is_named(app: App, loopback: Loopback) -> None:
    """With the command that lists those that are there."""
    with pytest.raises(NotFound, match="no collection is named 'nope': `revec collections list`"):
        await app.retriever.search("nope", "x", tenant="default")


async def test_nothing_serves_yet(app: App, loopback: Loopback) -> None:
    """A first fill under way: refused, with the commands that show and do it."""
    await steps.collection(app)
    with pytest.raises(Refused, match=r"nothing serves c yet: `revec status c`.*`revec worker`"):
        await app.retriever.search("c", "x", tenant="default")


async def test_a_model_that_is_down_is_an_error_not_an_empty_answer(app: App, loopback: Loopback) -> None:
    """Nobody mistakes an outage for "nothing found"."""
    await steps.filled(app, 3)
    loopback.fault("503", times=1)
    with pytest.raises(ProviderUnavailable):
        await app.retriever.search("c", "x", tenant="default")
    assert (await app.retriever.search("c", "x", tenant="default")).hits


async def test_searches_at_once_stay_with_their_tenant(app: App, loopback: Loopback) -> None:
    """Sixty at a time over eight connections: a tenant set for one transaction is never another's."""
    await shared(app)
    asked = [TENANTS[n % 2] for n in range(60)]
    found = await asyncio.gather(*(seen(app, tenant, k=20) for tenant in asked))
    assert found == [{tenant} for tenant in asked]


async def test_a_search_through_a_pooler_and_as_a_plain_owner(any_app: App, loopback: Loopback) -> None:
    """Embedded, behind PgBouncer, without superuser: the same answer, two layers in each."""
    await shared(any_app)
    assert any_app.database.two_layers
    assert await seen(any_app, "acme") == {"acme"}
    assert await seen(any_app, None) == set(TENANTS)
