"""What is asked is paid for once: remembered, shared while it is under way, written into the ledger behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from revec.app import App
from revec.model.errors import InputRefused, ProviderError, ProviderUnavailable, Trouble
from revec.model.index import Index, Kind
from revec.model.reading import Mode
from revec.model.space import QueryRecipe, Space
from revec.providers.base import Input, TextInput, Vectors
from revec.search import ledger, queries
from revec.search.queries import Queries, normalised
from revec.search.retriever import Retriever
from tests import steps
from tests.loopback import Loopback

SPACE = Space("test", "model", "1", 4, normalise=False)


def index(space: Space = SPACE, recipe: QueryRecipe | None = None) -> Index:
    asked = recipe or QueryRecipe(space.address)
    return Index(1, 1, space, asked, Kind.EXACT, writing=True, held=False, fault=None)


class Model:
    """Answers when it is let; says what it was asked."""

    name = "test:model"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.kinds: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.reached = asyncio.Event()
        self.error: ProviderError | None = None
        self.dims = 4

    async def embed(self, inputs: Sequence[Input], kind: str = "document") -> Vectors:
        texts = [given.text for given in inputs if isinstance(given, TextInput)]
        self.asked += texts
        self.kinds.append(kind)
        self.reached.set()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return Vectors(np.full((len(texts), self.dims), len(self.asked), np.float32), tokens=7)

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]


@pytest.fixture
def model() -> Model:
    return Model()


def asking(model: Model, **how: Any) -> Queries:
    async def provider_for(address: str, dims: int) -> Any:
        return model

    return Queries(provider_for, **how)


# --- which queries are equal ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("  two   words \t", "two words"),
        ("two\u00a0words", "two words"),
        ("title \n\n body", "title\nbody"),
        ("Cafe\u0301", "Café"),
        ("US", "US"),
        ("us", "us"),
        ("", ""),
    ],
)
def test_what_is_normalised(written: str, normal: str) -> None:
    """NFC and whitespace; case means something to a model, and a line's end too."""
    assert normalised(written) == normal
    assert normalised(normal) == normal


async def test_equal_queries_are_paid_for_once(model: Model) -> None:
    """Also when they are only written differently; the model is asked for the normal form."""
    asked = asking(model)
    vectors = [await asked.of_query(index(), text) for text in ("a  b", "a b", " a b")]
    assert model.asked == ["a b"]
    assert model.kinds == ["query"]
    assert all(np.array_equal(vector, vectors[0]) for vector in vectors)
    await asked.of_query(index(), "A b")
    assert model.asked == ["a b", "A b"]


async def test_another_space_or_recipe_is_another_query(model: Model) -> None:
    """What was remembered for one index is never an answer for another; equal ones share it."""
    asked = asking(model)
    other = Space("test", "model", "2", 4, normalise=False)
    for given in (
        index(),
        index(other),
        index(recipe=QueryRecipe(SPACE.address, prefix="query: ")),
        index(recipe=QueryRecipe(SPACE.address, task="query")),
        index(recipe=QueryRecipe("test:lite")),
    ):
        await asked.of_query(given, "a")
    assert model.asked == ["a", "a", "query: a", "a", "a"]
    await asked.of_query(index(), "a")
    await asked.of_document(SPACE, "a")
    assert len(model.asked) == 6
    assert model.kinds[-1] == "document"


# --- single flight --------------------------------------------------------------------------------


async def test_equal_queries_at_once_are_one_call(model: Model) -> None:
    model.gate.clear()
    asked = asking(model)
    waiting = [asyncio.create_task(asked.of_query(index(), text)) for text in ("a b", "a  b", "a b ", "c")]
    await model.reached.wait()
    await asyncio.sleep(0)
    model.gate.set()
    found = await asyncio.gather(*waiting)
    assert model.asked == ["a b", "c"]
    assert np.array_equal(found[0], found[2])


async def test_a_failed_call_is_everybody_s_and_is_not_remembered(model: Model) -> None:
    """Each waiter sees the error; whoever asks next asks the model."""
    model.gate.clear()
    model.error = ProviderUnavailable("it is down")
    asked = asking(model)
    waiting = [asyncio.create_task(asked.of_query(index(), "a")) for _ in range(3)]
    await model.reached.wait()
    model.gate.set()
    for outcome in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(outcome, ProviderUnavailable)
    assert model.asked == ["a"]
    model.error = None
    (again,) = await asyncio.gather(asked.of_query(index(), "a"), return_exceptions=True)
    assert not isinstance(again, BaseException)
    assert model.asked == ["a", "a"]


async def test_a_waiter_that_leaves_takes_nobody_with_it(model: Model) -> None:
    """Neither the one who asked first: the call goes on for the others, and its answer is kept."""
    model.gate.clear()
    asked = asking(model)
    first, second = (asyncio.create_task(asked.of_query(index(), "a")) for _ in range(2))
    await model.reached.wait()
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    model.gate.set()
    (answer,) = await asyncio.gather(second, return_exceptions=True)
    assert isinstance(answer, np.ndarray)
    assert model.asked == ["a"]


async def test_a_call_that_nobody_waits_for_is_kept_all_the_same(model: Model) -> None:
    """It is paid for; and one that fails then disturbs nobody."""
    asked = asking(model)
    for text, error in (("a", None), ("b", ProviderUnavailable("it is down"))):
        model.gate.clear()
        model.reached.clear()
        model.error = error
        alone = asyncio.create_task(asked.of_query(index(), text))
        await model.reached.wait()
        alone.cancel()
        await asyncio.gather(alone, return_exceptions=True)
        model.gate.set()
        while asked._flights:
            await asyncio.sleep(0)
    model.error = None
    await asked.of_query(index(), "a")
    assert model.asked == ["a", "b"]


async def test_calls_at_once_are_bounded(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that answers nobody does not fill the memory; equal queries still join."""
    monkeypatch.setattr(queries, "MOST_FLIGHTS", 2)
    model.gate.clear()
    asked = asking(model)
    waiting = [asyncio.create_task(asked.of_query(index(), text)) for text in ("a", "b", "a")]
    while len(model.asked) < 2:
        await asyncio.sleep(0)
    with pytest.raises(ProviderUnavailable, match="2 queries before it"):
        await asked.of_query(index(), "c")
    model.gate.set()
    await asyncio.gather(*waiting)
    await asked.of_query(index(), "c")
    assert model.asked == ["a", "b", "c"]


async def test_what_is_under_way_ends_with_the_app(model: Model) -> None:
    model.gate.clear()
    asked = asking(model)
    waiting = asyncio.create_task(asked.of_query(index(), "a"))
    await model.reached.wait()
    await asked.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not asked._flights


# --- memory ---------------------------------------------------------------------------------------


async def test_what_is_remembered_is_bounded_by_its_bytes(model: Model) -> None:
    """The longest unused goes first; a vector above the bound is answered and not kept."""
    one = 4 * 4 + 4 * 1 + queries.OVERHEAD
    asked = asking(model, most_bytes=3 * one)
    for text in ("a", "b", "c", "a", "d"):
        await asked.of_query(index(), text)
    assert asked._bytes == 3 * one
    assert [key.text for key in asked._known] == ["c", "a", "d"]
    await asked.of_query(index(), "b")
    assert model.asked == ["a", "b", "c", "d", "b"]
    await asked.of_query(index(), "long " * 1_000)
    assert asked._bytes <= 3 * one
    assert all(len(key.text) == 1 for key in asked._known)


async def test_a_fresh_question_goes_to_the_model(model: Model) -> None:
    """To see whether it answers; what it says replaces what was known, and counts once."""
    asked = asking(model)
    await asked.of_query(index(), "a")
    kept = asked._bytes
    fresh = await asked.of_query(index(), "a", fresh=True)
    assert model.asked == ["a", "a"]
    assert asked._bytes == kept
    assert np.array_equal(await asked.of_query(index(), "a"), fresh)


# --- the ledger -----------------------------------------------------------------------------------

CALLS = "SELECT model, lane, inputs, tokens, tenants, shares, outcome, index_id FROM revec.call WHERE lane = 4 ORDER BY id"


async def written(app: App, count: int) -> list[Any]:
    """The ledger's lines of queries, once there are so many."""
    async with asyncio.timeout(10):
        while len(rows := await steps.rows(app, CALLS)) < count or any(row.outcome is None for row in rows):
            await asyncio.sleep(0.01)
    return rows


async def test_a_query_is_in_the_ledger(app: App, loopback: Loopback) -> None:
    """Once, whoever asks for it again, with its tenant; it belongs to no migration's budget."""
    await steps.filled(app, 3)
    for _ in range(3):
        await app.retriever.search("c", "what is asked", tenant="default")
    (row,) = await written(app, 1)
    assert (row.model, row.inputs, row.outcome, row.index_id) == ("openai:fake-64", 1, "ok", None)
    assert (row.tenants, row.shares) == (["default"], [row.tokens])
    assert row.tokens > 0
    await app.retriever.search("c", "another", tenant=None)
    assert [row.tenants for row in await written(app, 2)] == [["default"], [""]]


async def test_a_query_s_failure_is_everybody_s_knowledge(app: App, loopback: Loopback) -> None:
    """The model rests for the workers too, and its next answer ends that."""
    await steps.filled(app, 3)
    route, index = await app.retriever.route("c")
    loopback.fault("503", times=1)
    with pytest.raises(ProviderUnavailable):
        await app.retriever.read("c", route, index, "x", k=3, tenant="default")
    assert [row.outcome for row in await written(app, 1)] == ["server"]
    rests = "SELECT resting_until IS NOT NULL AS rests, failures FROM revec.provider WHERE model = 'openai:fake-64'"
    assert await steps.rows(app, rests) == [(True, 1)]
    await app.retriever.read("c", route, index, "x", k=3, tenant="default")
    await written(app, 2)
    assert await steps.rows(app, rests) == [(False, 0)]


async def test_a_query_draws_on_the_limit_and_does_not_wait_for_it(app: App, loopback: Loopback) -> None:
    """The bucket may hold nothing: the search goes, and packs wait instead."""
    await steps.filled(app, 3)
    await steps.rows(
        app,
        "INSERT INTO revec.quota (model, resource, capacity, rate, level, at)"
        " VALUES ('openai:fake-64', 'requests', 10, 1e-6, 0, now()) RETURNING 1",
    )
    assert (await app.retriever.search("c", "x", tenant="default")).hits
    await written(app, 1)
    ((level, spent),) = await steps.rows(app, "SELECT level, spent FROM revec.quota")
    assert level == pytest.approx(-1, abs=0.01)
    assert spent == 1


async def test_the_ledger_never_stops_a_search(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be written, or not as fast: lines are dropped and counted, hits are there."""
    await steps.filled(app, 3)
    noted = app.retriever._queries._ledger
    assert noted is not None
    async with app.database.transaction() as conn:
        await conn.execute("ALTER TABLE revec.call ADD CONSTRAINT never CHECK (lane <> 4) NOT VALID")
    assert (await app.retriever.search("c", "x", tenant="default")).hits
    async with asyncio.timeout(10):
        while not noted.dropped:
            await asyncio.sleep(0.01)
    monkeypatch.setattr(ledger, "MOST_WAITING", 0)
    assert (await app.retriever.search("c", "y", tenant="default")).hits
    assert noted.dropped == 2


async def test_what_was_paid_for_is_written_before_the_app_ends(app: App, loopback: Loopback) -> None:
    """A command that asks once ends at once, and its call is in the ledger."""
    await steps.filled(app, 3)
    async with App(app.settings) as short:
        await short.retriever.search("c", "x", tenant="default")
    assert len(await steps.rows(app, CALLS)) == 1


# --- a model that does not answer -----------------------------------------------------------------


async def by_id(conn: Any, collection_id: int, query: str, *, k: int, tenant: Any, where: Any) -> Any:
    """Stands in for the words: the documents in the order of their ids."""
    rows = await conn.execute(
        "SELECT id FROM revec.document WHERE collection_id = %s AND tenant = %s ORDER BY id LIMIT %s",
        (collection_id, tenant, k),
    )
    return [(row.id, 1.0 / row.id) for row in await rows.fetchall()]


def with_words(app: App, **how: Any) -> Retriever:
    given = app.retriever
    return Retriever(app.database, app.store, given._queries, lexical=by_id, **how)


async def test_a_model_that_is_down_leaves_the_answer_to_the_words(app: App, loopback: Loopback) -> None:
    """And it says so, and why; with the model back nothing is degraded."""
    await steps.filled(app, 5)
    searching = with_words(app)
    loopback.fault("503", times=1)
    reading = await searching.search("c", "x", k=3, tenant="default", mode=Mode.HYBRID)
    assert [hit.id for hit in reading.hits] == ["0", "1", "2"]
    assert reading.degraded
    assert reading.why is not None
    assert reading.why.startswith("only the words were searched: ")
    assert "503" in reading.why
    await written(app, 1)
    await steps.rows(app, "UPDATE revec.provider SET resting_until = now() RETURNING 1")
    reading = await searching.search("c", "x", k=3, tenant="default", mode=Mode.HYBRID)
    assert (reading.degraded, reading.why) == (False, None)


async def test_a_model_that_rests_is_not_asked(app: App, loopback: Loopback) -> None:
    """The workers found it broken: no search waits to find that out again."""
    await steps.filled(app, 5)
    searching = with_words(app)
    rest = "UPDATE revec.provider SET resting_until = now() + interval '1 hour', why = 'it is on fire' RETURNING 1"
    await steps.rows(app, rest)
    loopback.clear()
    reading = await searching.search("c", "x", tenant="default", mode=Mode.HYBRID)
    assert reading.degraded
    assert reading.why == "only the words were searched: openai:fake-64 rests: it is on fire"
    assert loopback.log() == []
    assert (await app.retriever.search("c", "x", tenant="default")).hits  # where nothing else answers


async def test_a_model_that_is_late_leaves_the_answer_to_the_words(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the deadline, not later; the call goes on, and the next search has its answer."""
    await steps.filled(app, 5)
    model = Model()
    model.dims = 64
    model.gate.clear()

    async def provider_for(*_: Any) -> Any:
        return model

    monkeypatch.setattr(app.retriever._queries, "_provider_for", provider_for)
    searching = with_words(app, deadline=0.05)
    reading = await searching.search("c", "x", tenant="default", mode=Mode.HYBRID)
    assert reading.degraded
    assert reading.why == "only the words were searched: openai:fake-64 did not answer within 0.05 s"
    with pytest.raises(ProviderUnavailable, match=r"did not answer within 0\.01 s") as late:
        await app.retriever.search("c", "x", tenant="default", deadline=0.01)
    assert late.value.trouble is Trouble.TIMEOUT
    model.gate.set()
    reading = await searching.search("c", "x", tenant="default", mode=Mode.HYBRID, deadline=10)
    assert not reading.degraded
    assert model.asked == ["x"]


async def test_a_degraded_search_is_filtered_like_any_other(app: App, loopback: Loopback) -> None:
    """Though this stand-in for the words forgets the filter."""
    from revec.model.filter import parsed

    made = await steps.filled(app, 5)
    await steps.put(
        app, made, [steps.Draft("3", "document 3", "text of document 3", metadata={"lang": "en"})]
    )
    loopback.fault("503", times=1)
    reading = await with_words(app).search(
        "c", "x", k=2, tenant="default", mode=Mode.HYBRID, visible=parsed({"lang": "en"})
    )
    assert reading.degraded
    assert [hit.id for hit in reading.hits] == ["3"]


async def test_a_query_that_is_refused_is_an_error(app: App, loopback: Loopback) -> None:
    """The query is to blame, not the model: nobody is told that the model is down."""
    await steps.filled(app, 3)
    with pytest.raises(InputRefused):
        await with_words(app).search("c", "half a \ud800 pair", tenant="default", mode=Mode.HYBRID)


async def test_the_rehearsal_asks_the_model_itself(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A probe that is remembered would say of a model that is gone that it answers."""
    made = await steps.ready(app)
    await app.commands.switch.cutover(made, why="test")
    await app.commands.switch.rollback(made, why="test")
    loopback.clear()
    await app.commands.switch.cutover(made, why="test")
    assert {line["model"] for line in loopback.log()} == {"fake-64", "fake-b-96"}
