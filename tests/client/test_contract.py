"""One client, two ways: the same questions, answers and errors, whichever way is taken."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np
import pytest

import revec
from revec import errors
from revec.app import App
from revec.client import shapes
from revec.migrate.canary import Wanted
from revec.model import index, limits, reading
from revec.model.access import Role
from revec.postgres import collections
from revec.search import legs
from revec.web import bodies
from tests import loopback as fake
from tests import steps
from tests.client.ways import Ask, both, environment, ids, notes, same, same_refusal, served
from tests.loopback import Loopback
from tests.web import door
from tests.web.test_documents import working

EVERY = [*reading.Mode]


@pytest.mark.parametrize("mode", EVERY)
async def test_a_search(app: App, monkeypatch: pytest.MonkeyPatch, mode: reading.Mode) -> None:
    """By each mode: ids, scores, ranks, index, epoch."""
    await notes(app)
    async with both(app, monkeypatch) as clients:
        found = await same(clients, lambda client: client.search("notes", "wing at speed", k=3, mode=mode))
    assert ids(found)[0] == "2"
    assert (found.collection, found.degraded, found.threshold) == ("notes", False, None)
    assert {hit.tenant for hit in found.hits} == {"default"}
    assert all(hit.text is None and hit.metadata is None for hit in found.hits)  # not asked for


@pytest.mark.parametrize("mode", EVERY)
@pytest.mark.parametrize("query", ["reset password", ""])
async def test_hits_with_their_contents(
    app: App, monkeypatch: pytest.MonkeyPatch, mode: reading.Mode, query: str
) -> None:
    """As they are kept, each its own; also where nothing was asked for and the latest answer."""
    await notes(app)
    async with both(app, monkeypatch) as clients:
        found = await same(clients, lambda client: client.search("notes", query, mode=mode, contents=True))
        kept = [await clients[0].get("notes", hit.id) for hit in found.hits]
    assert found.hits
    assert [(hit.text, hit.metadata) for hit in found.hits] == [(one.text, one.metadata) for one in kept]
    assert {hit.text for hit in found.hits} != {""}


async def test_who_says_the_same_is_answered_by_the_same_index(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the users see the new index, whichever question they ask and whichever way they take."""
    await notes(app)
    async with app.database.transaction() as conn:
        made = await collections.named(conn, "notes")
    await app.start(made, steps.NEW)
    await steps.drain(app)
    await app.commands.canary.show(made, Wanted(share=0.5), why="test")
    answered: dict[str, set[str]] = {}
    async with both(app, monkeypatch) as clients:
        for user in (f"user {n}" for n in range(12)):
            for query in ("wing", "zebra"):
                found = await same(clients, lambda c, q=query, u=user: c.search("notes", q, sticky=u))
                answered.setdefault(user, set()).add(found.index)
            found = await same(clients, lambda c, u=user: c.similar("notes", text="wing", sticky=u))
            answered[user].add(found.index)
    assert {len(indexes) for indexes in answered.values()} == {1}
    assert len(set.union(*answered.values())) == 2


async def test_contents_have_an_end(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than an answer may hold is refused, not cut; fewer hits fit."""
    await notes(app)
    monkeypatch.setattr(legs, "MOST_CONTENTS", 100)
    async with both(app, monkeypatch) as clients:
        for mode in EVERY:
            for query in ("", "zebras in a document of how to reset the wing"):

                async def ask(client: revec.Client, k: int, mode: Any = mode, query: str = query) -> Any:
                    return await client.search("notes", query, k=k, mode=mode, contents=True)

                kind, _ = await same_refusal(clients, lambda client, ask=ask: ask(client, 4))
                assert kind is errors.BadInput
                assert len((await same(clients, lambda client, ask=ask: ask(client, 1))).hits) == 1


async def test_a_filter_as_json_or_as_what_json_says(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mapping or a text; what cannot be read is refused."""
    await notes(app)
    async with both(app, monkeypatch) as clients:
        wanted = {"lang": "en", "year": {"gte": 2021}}
        found = await same(clients, lambda client: client.search("notes", "wing", filter=wanted))
        assert ids(found) == ["2"]
        as_text = await same(clients, lambda client: client.search("notes", filter='{"lang": "de"}'))
        assert ids(as_text) == ["3"]
        for wrong in ("{", {"year": {"near": 1}}, {"year": float("nan")}, {"a": object()}, "x" * 9_000):
            kind, _ = await same_refusal(
                clients, lambda client, wrong=wrong: client.search("notes", filter=wrong)
            )
            assert kind is errors.BadInput


async def test_what_is_similar(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """By key, text and vector, with the threshold that was said."""
    await notes(app)
    async with both(app, monkeypatch) as clients:
        await similar(clients, clients[0])


async def similar(clients: Sequence[revec.Client], one: revec.Client) -> None:
    by_key = await same(clients, lambda client: client.similar("notes", key="1", k=2))
    assert len(by_key.hits) == 2
    assert "1" not in ids(by_key)
    text = "Reset\nHow to reset a password"
    by_text = await same(clients, lambda client: client.similar("notes", text=text, threshold=0.99))
    assert (ids(by_text), by_text.threshold) == (["1"], 0.99)
    with pytest.raises(errors.BadInput) as unsaid:
        await one.similar("notes", vector=[1.0] * 64)
    (space,) = re.findall(r"its space is (?:--space )?(\w+)", str(unsaid.value))
    vector = fake.vector(text, "fake-64")
    assert isinstance(vector, np.ndarray)
    found = await same(clients, lambda client: client.similar("notes", vector=vector, space=space, k=1))
    assert ids(found) == ["1"]
    narrowed = await same(clients, lambda client: client.similar("notes", key="1", filter={"lang": "de"}))
    assert ids(narrowed) == ["3"]
    for wrong, expected in (
        ({"key": "nobody"}, errors.NotFound),
        ({"key": "acme-1"}, errors.NotFound),
        ({"vector": [1.0], "space": space}, errors.BadInput),
        ({"text": "x", "threshold": 2}, errors.BadInput),
        ({"text": "x", "key": "1"}, errors.BadInput),
        ({"vector": [float("nan")]}, errors.BadInput),
        ({}, errors.BadInput),
    ):
        kind, _ = await same_refusal(clients, lambda client, wrong=wrong: client.similar("notes", **wrong))
        assert kind is expected


async def test_who_waits_reads_what_it_wrote(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receipt that is settled says that the next search has it; a deletion is seen at once."""
    await notes(app)
    async with both(app, monkeypatch) as clients, working(app):
        for number, client in enumerate(clients):
            new = f"new-{number}"
            written = await client.put("notes", [{"id": new, "text": f"zebra crossing {number}"}], wait=20)
            assert asdict(written) == {
                "collection": "notes",
                "documents": [{"id": new, "standing": "searchable", "why": None}],
                "settled": True,
            }
            found = await client.search("notes", f"zebra crossing {number}", k=1, mode="vector")
            assert (ids(found), found.hits[0].score > 0.99) == ([new], True)
            gone = await client.delete("notes", [new, "never"], wait=20)
            assert [(each.id, each.standing) for each in gone.documents] == [(new, "gone")]
            assert new not in ids(await client.search("notes", k=100))
    await assert_notes(app)


async def test_who_does_not_wait_is_told_so(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept and not settled: a worker will do the rest."""
    await notes(app)
    async with both(app, monkeypatch) as clients:
        receipt = await same(
            clients, lambda client: client.put("notes", [{"id": 7, "text": "lions"}], wait=0.05)
        )
    assert not receipt.settled
    assert [(each.id, each.standing) for each in receipt.documents] == [("7", "pending")]
    await assert_notes(app)


async def test_all_documents_or_none(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot be kept: refused by its place, and nothing was written."""
    await notes(app)
    good = {"id": "new", "text": "good"}
    async with both(app, monkeypatch) as clients:
        for wrong in (
            [good, {"id": "x"}],
            [good, {"text": "no id"}],
            [good, {"id": "x", "text": "\x00"}],
            [good, {"id": "x", "text": "\ud800"}],
            [good, {"id": "x", "text": "t", "colour": "red"}],
            [good, {"id": "x", "text": "t", "metadata": {"n": float("inf")}}],
            [good, "x"],
            good,
            [good] * (limits.MOST_DOCUMENTS + 1),
        ):
            kind, said = await same_refusal(clients, lambda client, wrong=wrong: client.put("notes", wrong))
            assert kind is errors.BadInput
            assert said[0] == said[1]
        kind, _ = await same_refusal(clients, lambda client: client.get("notes", "new"))
        assert kind is errors.NotFound
        kind, _ = await same_refusal(clients, lambda client: client.delete("notes", "123"))
        assert kind is errors.BadInput
    await assert_notes(app)


@pytest.mark.parametrize("key", ["1", "a/b.. ü?"])
async def test_a_document_is_read_as_it_is_kept(app: App, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """Also one whose id is no part of an address."""
    await notes(app)
    async with both(app, monkeypatch) as clients:
        found = await same(clients, lambda client: client.get("notes", key))
    assert (found.id, found.source, found.tenant) == (key, "push", "default")
    assert found.text
    assert found.changed_at.tzinfo


@pytest.mark.parametrize("key", ["..", ".", "%2e%2e", "batch", "a?b=c#d", "%", " "])
async def test_an_id_is_one_part_of_an_address(app: App, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """Whatever it looks like."""
    await notes(app)
    async with both(app, monkeypatch) as clients:
        await clients[1].put("notes", [{"id": key, "text": "odd"}])
        assert (await same(clients, lambda client: client.get("notes", key))).id == key


async def test_the_collections(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """What serves them, and the other indexes that they have."""
    await steps.ready(app)
    await steps.collection(app, "empty", model=None)
    async with both(app, monkeypatch) as clients:
        first, second = await same(clients, lambda client: client.collections())
    assert (first.name, first.serving) == ("c", first.indexes[0].name)
    assert [each.role for each in first.indexes] == ["serving", "next"]
    assert (second.name, second.serving, second.indexes) == ("empty", None, [])


REFUSED: list[tuple[Ask, type[errors.RevecError]]] = [
    (lambda client: client.search("nobody", "x"), errors.NotFound),
    (lambda client: client.search("no/body", "x"), errors.NotFound),
    (lambda client: client.search("..", "x"), errors.NotFound),
    (lambda client: client.search("", "x"), errors.BadInput),
    (lambda client: client.search("idle", "x"), errors.Refused),
    (lambda client: client.search("notes", "x" * 5_000), errors.BadInput),
    (lambda client: client.search("notes", "\x00"), errors.BadInput),
    (lambda client: client.search("notes", None), errors.BadInput),  # type: ignore[arg-type]
    (lambda client: client.search("notes", "x", k=0), errors.BadInput),
    (lambda client: client.search("notes", "x", k=1_001), errors.BadInput),
    (lambda client: client.search("notes", "x", k=True), errors.BadInput),
    (lambda client: client.search("notes", "x", mode="magic"), errors.BadInput),  # type: ignore[arg-type]
    (lambda client: client.put("nobody", [{"id": "1", "text": "x"}]), errors.NotFound),
    (lambda client: client.put("notes", [], wait=31), errors.BadInput),
    (lambda client: client.delete("nobody", ["1"]), errors.NotFound),
    (lambda client: client.get("nobody", "1"), errors.NotFound),
    (lambda client: client.get("notes", "nobody"), errors.NotFound),
    (lambda client: client.get("notes", "1", source="nowhere"), errors.NotFound),
    (lambda client: client.get("notes", ""), errors.BadInput),
]


async def test_the_same_error(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same class, whichever way it came."""
    await steps.filled(app, 3, name="notes")
    await steps.collection(app, "idle", model=None)
    async with both(app, monkeypatch) as clients:
        for ask, expected in REFUSED:
            kind, said = await same_refusal(clients, ask)
            assert kind is expected, said


async def test_an_error_is_the_same_down_to_its_own_kind(
    app: App, monkeypatch: pytest.MonkeyPatch, loopback: Loopback
) -> None:
    """A status means several: the problem names the error. What the model said is said, too."""
    await notes(app)
    async with both(app, monkeypatch) as clients:
        loopback.fault("503", times=None)
        kind, said = await same_refusal(clients, lambda client: client.search("notes", "x", mode="vector"))
        assert kind is errors.ProviderUnavailable
        assert all("503" in sentence for sentence in said)
        words = [await client.search("notes", "wing of an aircraft") for client in clients]
        assert replace(words[0], why=None) == replace(words[1], why=None)
        assert words[0].degraded
        assert all("only the words were searched" in str(answer.why) for answer in words)


async def test_a_tenants_client_asks_for_its_own(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every method, also with a key and a login that reach all of them; who asks for another is refused."""
    await notes(app)
    async with both(app, monkeypatch, tenant="acme") as clients:
        for mode in EVERY:
            found = await same(clients, lambda client, mode=mode: client.search("notes", "zebra", mode=mode))
            assert {hit.tenant for hit in found.hits} == {"acme"}
        assert (await same(clients, lambda client: client.search("notes", ""))).hits[0].tenant == "acme"
        assert (await same(clients, lambda client: client.get("notes", "acme-1"))).tenant == "acme"
        kind, _ = await same_refusal(clients, lambda client: client.get("notes", "1"))
        assert kind is errors.NotFound
        for other in ("default", revec.ALL_TENANTS):
            for ask in (
                lambda client, other=other: client.search("notes", "zebra", tenant=other),
                lambda client, other=other: client.similar("notes", key="1", tenant=other),
                lambda client, other=other: client.get("notes", "1", tenant=other),
            ):
                kind, _ = await same_refusal(clients, ask)
                assert kind is errors.NotAllowed


async def test_a_tenants_client_writes_for_its_own(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents that say nothing are its tenant's; those of another are refused, and nothing is written."""
    await notes(app)
    async with both(app, monkeypatch, tenant="acme") as clients:
        await same(clients, lambda client: client.put("notes", [{"id": "new", "text": "x"}]))
        assert (await same(clients, lambda client: client.get("notes", "new"))).tenant == "acme"
        other = [{"id": "mine", "text": "x"}, {"id": "theirs", "text": "x", "tenant": "globex"}]
        kind, _ = await same_refusal(clients, lambda client: client.put("notes", other))
        assert kind is errors.NotAllowed
        kind, _ = await same_refusal(clients, lambda client: client.get("notes", "mine"))
        assert kind is errors.NotFound
    await assert_notes(app)


async def test_a_tenants_client_touches_nobody_else_s(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids are shared by all: another tenant's is neither deleted, nor taken over, nor told of."""
    await notes(app)
    async with both(app, monkeypatch, tenant="acme") as clients:
        gone = await same(clients, lambda client: client.delete("notes", ["1", "nobody's"]))
        assert gone.documents == []
        taken = [{"id": "free", "text": "x"}, {"id": "1", "text": "x"}]
        kind, said = await same_refusal(clients, lambda client: client.put("notes", taken))
        assert kind is errors.NotAllowed
        assert all("'1' is another tenant's" in each for each in said)
        kind, _ = await same_refusal(clients, lambda client: client.get("notes", "free"))
        assert kind is errors.NotFound
    await assert_notes(app)


async def test_whose_documents_where_nobody_says(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """In process the default tenant's, unless all are asked for aloud; over HTTP what the key reaches."""
    await notes(app)
    environment(app, monkeypatch)

    async def tenants(client: revec.Client, **how: Any) -> set[str]:
        return {hit.tenant for hit in (await client.search("notes", "zebra", **how)).hits}

    async with served(app) as url, revec.connect() as inside:
        assert await tenants(inside) == {"default"}
        assert await tenants(inside, tenant="acme") == {"acme"}
        assert await tenants(inside, tenant=revec.ALL_TENANTS) == {"default", "acme"}
        with pytest.raises(errors.BadInput):
            await tenants(inside, tenant="")
        async with revec.connect(url, key=await door.made_key(app)) as acme:
            assert await tenants(acme) == {"acme"}
            with pytest.raises(errors.NotAllowed):
                await tenants(acme, tenant="default")
        async with revec.connect(url, key=await door.made_key(app, Role.ADMIN)) as admin:
            assert await tenants(admin) == {"default", "acme"}
            assert await tenants(admin, tenant="acme") == {"acme"}


async def test_a_key_that_does_not_reach(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown, known and not allowed, asked too often: each its own error, with its sentence."""
    await notes(app)
    async with served(app, requests_per_second=1.0) as url:
        async with revec.connect(url, key="rv_forged") as nobody:
            with pytest.raises(errors.NotIdentified, match="revec keys create"):
                await nobody.search("notes", "x")
        async with revec.connect(url) as nobody:
            with pytest.raises(errors.NotIdentified):
                await nobody.search("notes", "x")
        async with revec.connect(url, key=f"{await door.made_key(app)}\n") as viewer:
            with pytest.raises(errors.NotAllowed):
                await viewer.put("notes", [{"id": "1", "text": "x"}])
            with pytest.raises(errors.TooMuch) as often:
                for _ in range(9):
                    await viewer.search("notes", "x")
            assert often.value.retry_after == 1.0


async def test_the_ways_keep_the_limits_of_the_door(app: App) -> None:
    """Asked once, before anything leaves: the same numbers as in the OpenAPI document."""
    said = door.api_of(app).openapi()["components"]["schemas"]
    question, batch = said["Question"]["properties"], said["Batch"]["properties"]
    assert question["k"]["maximum"] == limits.MOST_HITS
    assert question["q"]["maxLength"] == limits.LONGEST_QUERY
    assert batch["put"]["maxItems"] == batch["delete"]["maxItems"] == limits.MOST_DOCUMENTS


@pytest.mark.parametrize(
    ("ours", "wire"),
    [
        (shapes.Answer, bodies.Answer),
        (shapes.Document, bodies.Document),
        (shapes.Written, bodies.Written),
        (reading.Hit, bodies.Hit),
        (index.Listed, bodies.Collection),
        (index.Askable, bodies.Index),
    ],
)
def test_what_goes_over_the_wire_has_our_fields(ours: Any, wire: Any) -> None:
    """The client drops nothing but what only operators ask for, and waits for nothing that is not sent."""
    sent = set(wire.model_fields) - {"vectors", "matched_by"}
    assert {each.name for each in fields(ours)} - sent <= {"threshold"}  # of `similar`
    assert sent <= {each.name for each in fields(ours)}


async def assert_notes(app: App) -> None:
    found = await steps.rows(app, "SELECT id, name FROM revec.collection WHERE name = 'notes'")
    await steps.drain(app)
    await steps.assert_oracle(app, index.Collection(*found[0]))


async def test_a_database_that_does_not_answer(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Late or gone: Unavailable both ways, within the deadline."""
    await notes(app)
    async with served(app, request_deadline=0.3) as url, app.database.transaction() as conn:
        environment(app, monkeypatch)
        monkeypatch.setenv("REVEC_REQUEST_DEADLINE", "0.3")
        key = await door.made_key(app, Role.ADMIN)
        async with revec.connect(tenant="default") as inside, revec.connect(url, key=key) as remote:
            await conn.execute("LOCK TABLE revec.document")
            for client in (inside, remote):
                with pytest.raises(errors.Unavailable, match="deadline"):
                    await client.search("notes", "zebra", mode="lexical")
