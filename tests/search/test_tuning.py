"""How the legs become one list is learnt from judgements, proved on others, and of these legs only."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from revec.app import App
from revec.model.document import Draft
from revec.model.errors import Refused
from revec.model.index import Collection, Index, Kind
from revec.model.reading import Mode
from revec.model.verdict import Outcome
from revec.search import fusion, lexical, tuning
from revec.search.fusion import Fusion
from revec.search.tuning import SHARES, Tuning
from revec.statistics.paired import randomisation
from tests import steps
from tests.loopback import Loopback

STOP = ("the", "of", "in", "on", "to", "by", "at", "is")
FALSE_ALARMS = 0.08  # of 100 tries on noise: 0.05 are expected, and chance


def words(n: int) -> str:
    """Not one lexeme, and yet another text for every number."""
    return " ".join(word for bit, word in enumerate(STOP) if n >> bit & 1)


def query(n: int) -> str:
    return f"wing {words(n)}"


def texts(count: int) -> dict[str, str]:
    return {f"q{n}": query(n) for n in range(1, count + 1)}


def right(count: int) -> dict[str, dict[str, int]]:
    """The document that says just what the query says: the vectors find it, to the words all are alike."""
    return {f"q{n}": {str(n): 1} for n in range(1, count + 1)}


async def misleading(app: App, tenant: str = "default", **how: Any) -> Collection:
    """A document for each query, and forty that shout its only word."""
    made = await steps.collection(app, **how)
    drafts = [Draft(key=str(n), title="", body=query(n), tenant=tenant) for n in range(1, 61)]
    drafts += [Draft(key=f"loud {n}", title="wing " * 6, body=words(n), tenant=tenant) for n in range(1, 41)]
    await steps.put(app, made, drafts)
    await steps.drain(app)
    return made


async def measured(app: App, count: int, qrels: Any = None, tenant: str | None = "default") -> Tuning:
    index = await app.serving("c")
    qrels = right(count) if qrels is None else qrels
    return await tuning.measured(
        app.database,
        app.store,
        app.retriever.embedded,
        index=index,
        texts=texts(count),
        qrels=qrels,
        tenant=tenant,
    )


async def in_force(app: App, index: Index | None = None) -> Fusion:
    index = index or await app.serving("c")
    async with app.database.transaction() as conn:
        return await fusion.in_force(conn, index.collection_id, index.space, index.query)


async def say(app: App, alpha: float | None) -> None:
    async with app.database.transaction() as conn:
        index = await app.serving("c")
        seen = await fusion.in_force(conn, index.collection_id, index.space, index.query)
        await fusion.keep(conn, index, seen, alpha, evidence={}, who="test")


async def found(app: App, asked: str, **how: Any) -> list[str]:
    reading = await app.retriever.search("c", asked, tenant="default", mode=Mode.HYBRID, **how)
    return [hit.id for hit in reading.hits]


async def test_words_that_mislead_lose_their_say(app: App, loopback: Loopback) -> None:
    """Proved on queries that did not choose; searches are as good from then on, and nothing is left to tune."""
    await misleading(app)
    tuned = await measured(app, 45)
    figures = dict(tuned.shares)
    assert tuned.before == figures[None] < 0.9
    assert tuned.held_out == pytest.approx(1, abs=0.01)
    assert figures[1.0] == pytest.approx(1)
    assert figures[0.0] < tuned.before
    low, high = tuned.interval
    assert 0 < low < tuned.gain < high
    assert tuned.p < 0.001
    assert (tuned.verdict.outcome, tuned.changes) == (Outcome.PASSED, True)
    assert (await in_force(app)).who is None  # measuring writes nothing
    await tuning.adopt(app.database, tuned, "ann")
    now = await in_force(app)
    assert (now.alpha, now.who, now.evidence) == (tuned.best, "ann", tuned.evidence)
    for n in range(1, 46):
        assert (await found(app, query(n)))[0] == str(n)
    again = await measured(app, 45)
    assert (again.verdict.outcome, again.changes, again.best) == (Outcome.FAILED, False, tuned.best)
    with pytest.raises(Refused, match="nothing was changed: no other way is better"):
        await tuning.adopt(app.database, again, "ann")
    assert await in_force(app) == now


@pytest.mark.parametrize("kind", [Kind.EXACT, Kind.HNSW])
async def test_what_is_tried_is_what_would_be_answered(app: App, loopback: Loopback, kind: Kind) -> None:
    """Every share's ranking is the very one that a search finds with that share in force."""
    await misleading(app, kind=kind)
    index = await app.serving("c")
    ways = [None, *SHARES]
    vector = await app.retriever.embedded(index, query(7))
    async with app.database.transaction() as conn:
        legs = await fusion.legs(
            conn, app.store, index, query(7), vector, depth=fusion.DEPTH, tenant="default"
        )
        tried = await fusion.tried(conn, *legs, shares=ways, tenant="default", limit=10)
    assert len({tuple(ranking) for ranking in tried}) > 2
    for alpha, ranking in zip(ways, tried, strict=True):
        await say(app, alpha)
        assert await found(app, query(7), k=10) == ranking


async def test_few_judgements_change_nothing(app: App, loopback: Loopback) -> None:
    """However clear they are: 39 are refused, 40 are not."""
    await misleading(app)
    few = await measured(app, 39)
    assert few.p < 0.001
    assert few.verdict.outcome is Outcome.INCONCLUSIVE
    with pytest.raises(Refused, match="39 judged queries cannot tell, at least 40 can"):
        await tuning.adopt(app.database, few, "ann")
    assert (await in_force(app)).alpha is None
    assert (await measured(app, 40)).verdict.outcome is Outcome.PASSED


@pytest.mark.parametrize("seed", range(3))
async def test_judgements_without_a_rhyme_change_nothing(app: App, loopback: Loopback, seed: int) -> None:
    """Documents judged by lot: some share is the best on them, and it is not set."""
    await misleading(app)
    lots, keys = random.Random(seed), [*map(str, range(1, 61)), *(f"loud {n}" for n in range(1, 41))]
    qrels = {f"q{n}": dict.fromkeys(lots.sample(keys, 5), 1) for n in range(1, 61)}
    tuned = await measured(app, 60, qrels)
    assert tuned.verdict.outcome is not Outcome.PASSED
    with pytest.raises(Refused, match="nothing was changed"):
        await tuning.adopt(app.database, tuned, "ann")
    assert (await in_force(app)).who is None


async def test_who_chooses_does_not_judge() -> None:
    """On noise a choice is called better about as often as chance is, whatever the number of ways."""
    alarms = 0
    for seed in range(100):
        scores = np.random.default_rng(seed).random((60, 22))
        before, after = scores[:, 0], tuning.held_out(scores, 0)
        gain, p = randomisation(after - before, draws=1_000)
        alarms += gain > 0 and p <= tuning.SURE
    assert alarms <= 100 * FALSE_ALARMS


def test_a_tie_is_no_reason_to_change() -> None:
    """What is in force stays where it is among the best; else the middle of them, not their edge."""
    flat = np.full((50, 5), 0.5)
    assert [tuning.chosen(flat, now) for now in range(5)] == [0, 1, 2, 3, 4]
    flat[:, 0] = 0.4
    assert tuning.chosen(flat, 0) == 3


async def test_a_share_is_of_its_space(app: App, loopback: Loopback) -> None:
    """By the same model's queries too: after a cutover ranks decide, after a rollback the share counts again."""
    made = await misleading(app)
    old = await app.serving("c")
    await say(app, 1.0)
    by_share = [await found(app, query(n)) for n in range(1, 11)]
    await app.start(made, steps.OLD, dims=32)
    await steps.drain(app)
    await app.commands.switch.cutover(made, why="test")
    new = await app.serving("c")
    assert (new.space.id == old.space.id, new.query == old.query) == (False, True)
    assert (await in_force(app)).alpha is None
    for n in range(1, 11):
        reading = await app.retriever.search("c", query(n), tenant="default", mode=Mode.HYBRID)
        assert reading.hits[0].score < 0.05  # a sum of two 1 / (60 + rank)
    await say(app, 0.0)
    assert (await in_force(app, old)).alpha == 1.0  # and the new space's is its own
    await app.commands.switch.rollback(made, why="test")
    assert [await found(app, query(n)) for n in range(1, 11)] == by_share


async def test_what_a_cutover_does_to_the_fusion_is_foreseen(app: App, loopback: Loopback) -> None:
    """In a sentence, that the history keeps; where nothing changes there is none."""
    made = await misleading(app)
    await app.start(made, steps.NEW)
    await steps.drain(app)
    assert await app.commands.switch.fusion_after(made) is None
    await say(app, 0.8)
    foreseen = await app.commands.switch.fusion_after(made)
    assert foreseen is not None
    assert "will be fused by ranks in the space of openai:fake-b-96" in foreseen
    assert "`revec collections tune c --queries FILE --qrels FILE`" in foreseen
    await app.commands.switch.cutover(made, why="test")
    assert await app.commands.switch.fusion_after(made) is None
    (told,) = await steps.rows(
        app,
        "SELECT evidence->>'fusion' AS said FROM revec.migration_event"
        " WHERE became = 'live' AND evidence->>'fusion' IS NOT NULL",
    )
    assert told.said == foreseen
    await say(app, 0.5)
    await app.commands.switch.rollback(made, why="test")
    assert "words 50%) in the space of openai:fake-b-96, as was said for it before" in str(
        await app.commands.switch.fusion_after(made)
    )
    await steps.assert_oracle(app, made)


async def test_a_share_is_of_its_words_and_of_its_queries(app: App, loopback: Loopback) -> None:
    """Another language's words score otherwise, and so does another recipe's query; back again, it counts."""
    made = await misleading(app)
    await say(app, 0.3)

    async def by_ranks() -> bool:
        alpha = (await in_force(app)).alpha
        assert alpha in (None, 0.3)
        reading = await app.retriever.search("c", query(3), tenant="default", mode=Mode.HYBRID)
        assert (reading.hits[0].score < 0.05) == (alpha is None)  # a sum of two 1 / (60 + rank)
        return alpha is None

    async def ask(prefix: str) -> None:
        change = (
            "UPDATE revec.index SET query = jsonb_set(query, '{prefix}', to_jsonb(%(it)s::text)) RETURNING id"
        )
        await steps.rows(app, change, it=prefix)

    async def speak(language: str) -> None:
        async with app.database.transaction() as conn:
            await lexical.speak(conn, made, language)

    assert not await by_ranks()
    await speak("simple")
    assert await by_ranks()
    await speak("english")
    assert not await by_ranks()
    await ask("query: ")
    assert await by_ranks()
    await ask("")
    assert not await by_ranks()


async def test_of_two_who_tune_one_is_told(app: App, loopback: Loopback) -> None:
    """What was measured against is in force no more: nothing is written over."""
    await misleading(app)
    tuned = await measured(app, 45)
    await say(app, 0.2)
    with pytest.raises(Refused, match="meanwhile, nothing was done: look again"):
        await tuning.adopt(app.database, tuned, "ann")
    assert ((await in_force(app)).alpha, (await in_force(app)).who) == (0.2, "test")


async def test_ranks_come_back_when_asked(app: App, loopback: Loopback) -> None:
    """Once; a second time there is nothing to do, and nothing is written."""
    await misleading(app)
    await say(app, 0.2)
    index = await app.serving("c")
    assert (await tuning.by_ranks(app.database, index, "ann")).alpha == 0.2
    now = await in_force(app)
    assert (now.alpha, now.who, now.evidence) == (None, "ann", {"was": 0.2})
    assert (await tuning.by_ranks(app.database, index, "eve")).alpha is None
    assert await in_force(app) == now


async def test_one_tenant_s_documents_are_tuned_by(app: App, loopback: Loopback) -> None:
    """Those of another one do not exist for its queries; an operator's are all."""
    await misleading(app, tenant="acme")
    none = await measured(app, 45)
    assert none.before == none.held_out == 0
    assert none.verdict.outcome is Outcome.FAILED
    assert (await measured(app, 45, tenant="acme")).verdict.outcome is Outcome.PASSED
    assert (await measured(app, 45, tenant=None)).verdict.outcome is Outcome.PASSED


async def test_without_words_there_is_nothing_to_tune(app: App, loopback: Loopback) -> None:
    """One leg needs no fusion; and without a relevant document nothing can be learnt."""
    made = await misleading(app)
    with pytest.raises(Refused, match="no query has a relevant document"):
        await measured(app, 3, {"q1": {"1": 0}})
    async with app.database.transaction() as conn:
        await lexical.speak(conn, made, None)
    with pytest.raises(Refused, match="no lexical leg"):
        await measured(app, 45)
