"""The quality gate: one look at a fixed set, no second chance, and every fault is somebody's to name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from pgvector import HalfVector

from revec.app import App
from revec.migrate import outlook
from revec.migrate.gates import base as gates
from revec.migrate.gates import quality as gate
from revec.migrate.gates.quality import verdict_of
from revec.model.errors import GateNotMet, NotFound, Refused
from revec.model.index import Collection
from revec.model.judging import JudgedQuery, Quality, fingerprint
from revec.model.migration import State
from revec.model.reading import Mode
from revec.model.verdict import Outcome, Verdict
from revec.postgres import judgements, migrations
from revec.search.judging import NDCG, RECALL
from tests import loopback as fake
from tests import servers, steps
from tests.conftest import settings_for
from tests.copies import Copies
from tests.loopback import Loopback
from tests.migrate import world
from tests.migrate.conftest import opened

COUNT = 40  # documents, and queries that say one of them word by word
DECLARED = Quality("default", margin=0.1, mode=Mode.VECTOR)


def words(n: int) -> str:
    return f"document {n}\ntext of document {n}"


def queries(numbers: range, *, tenant: str | None = "default", **more: Any) -> list[JudgedQuery]:
    return [JudgedQuery(str(n), words(n), {("push", str(n)): 1}, tenant, **more) for n in numbers]


async def judge(app: App, made: Collection, numbers: range = range(COUNT), **more: Any) -> None:
    async with app.database.transaction() as conn:
        await judgements.put(conn, made, "default", queries(numbers, **more))


async def make_judged(app: App) -> world.At:
    """Every query finds its document in both indexes; proven by them, and ready."""
    made = await steps.filled(app, COUNT)
    await judge(app, made)
    await app.start(made, steps.NEW, judged=DECLARED)
    await steps.drain(app)
    return app, made


async def unlook(at: world.At) -> world.At:
    """The same before its look."""
    await execute(at[0], "DELETE FROM revec.verdict WHERE gate = 'quality'")
    return at


async def thin_out(at: world.At) -> world.At:
    """With ten judged queries, which is too few to tell; to be verified."""
    await unlook(at)
    await execute(at[0], "DELETE FROM revec.judged_query WHERE name::int >= 10")
    await world.force(at[0], State.VERIFYING)
    return at


@pytest.fixture(scope="session")
def template_judged(maintenance: str, provider: Loopback) -> Iterator[str]:
    async def prepare(dsn: str) -> None:
        async with App(settings_for(dsn, provider.url)) as app:
            await make_judged(app)

    with servers.copied(maintenance, "template_revec", "template_judged") as dsn:
        asyncio.run(prepare(dsn))
        yield "template_judged"


@pytest_asyncio.fixture
async def judged(copies: Copies, template_judged: str, loopback: Loopback) -> AsyncIterator[world.At]:
    async with opened(copies, template_judged, loopback.url) as at:
        yield at


@pytest_asyncio.fixture
async def unlooked(judged: world.At) -> world.At:
    return await unlook(judged)


@pytest_asyncio.fixture
async def few(judged: world.At) -> world.At:
    return await thin_out(judged)


async def look(app: App, made: Collection) -> Verdict:
    """The gate by itself: no other gate is asked before."""
    migration = await world.migration(app, made)
    _, new = await steps.written(app, made)
    (verdict,) = await gates.judged(gates.Case(app.tools, new, migration), ["quality"])
    return verdict


async def looked(app: App, made: Collection) -> Verdict:
    """The same, and written down."""
    verdict = await look(app, made)
    async with app.database.transaction() as conn:
        await migrations.record(conn, await world.migration(app, made), verdict)
    return verdict


async def execute(app: App, query: str, **parameters: Any) -> None:
    async with app.database.transaction() as conn:
        await conn.execute(query, parameters or None)


async def put_vector(app: App, key: int, vector: np.ndarray) -> None:
    await execute(
        app,
        "UPDATE revec.vectors_2 SET embedding = %(v)s"
        " WHERE doc_id = (SELECT id FROM revec.document WHERE key = %(k)s)",
        v=HalfVector(vector.astype(np.float16)),
        k=str(key),
    )


# --- what is required, and what a pass is ----------------------------------------------------------


async def test_a_declared_set_is_required_and_proved(judged: world.At, loopback: Loopback) -> None:
    """Fixed by the plan, judged with the others, and the cutover goes by it."""
    app, made = judged
    assert await world.state(app, made) is State.READY
    migration = await world.migration(app, made)
    assert migration.gates == ("completeness", "fidelity", "quality")
    assert migration.judged == DECLARED
    async with app.database.transaction() as conn:
        verdict, _ = (await migrations.verdicts(conn, migration))["quality"]
    assert verdict.outcome is Outcome.PASSED
    assert verdict.why.startswith("no material difference [")
    assert verdict.evidence["look"] == 1
    assert verdict.evidence["upon"]["set_hash"] == fingerprint(queries(range(COUNT)))
    assert (verdict.figures.now, verdict.figures.limit, verdict.figures.n) == (0, -0.1, COUNT)
    await app.commands.switch.cutover(made, why="test")
    assert (await app.serving("c")).id == 2
    await steps.assert_oracle(app, made)


@pytest.mark.parametrize(("gone", "tells"), [(COUNT, False), (COUNT // 10, False), (COUNT // 50, True)])
async def test_answers_that_are_not_there_cannot_be_lost(
    unlooked: world.At, loopback: Loopback, gone: int, tells: bool
) -> None:
    """Neither index finds them, so no loss would be seen: it cannot tell, and no look is spent on it."""
    app, made = unlooked
    await execute(app, "UPDATE revec.judgement SET key = 'x' || key WHERE key::int < %(gone)s", gone=gone)
    verdict = await look(app, made)
    assert (verdict.outcome is Outcome.PASSED) is tells, verdict
    if not tells:
        assert f"{gone:,} of {COUNT:,} queries have no good answer" in verdict.why
        assert "look" not in verdict.evidence


async def test_what_another_tenant_has_is_no_answer(unlooked: world.At, loopback: Loopback) -> None:
    app, made = unlooked
    await execute(app, "UPDATE revec.judged_query SET tenant = 'other'")
    assert "have no good answer" in (await look(app, made)).why


async def test_a_verdict_is_as_old_as_its_look(judged: world.At, loopback: Loopback) -> None:
    """To be asked again makes a kept one no fresher."""
    app, made = judged
    await execute(
        app,
        "UPDATE revec.verdict SET evidence = evidence || jsonb_build_object('looked_at', now() - interval '23 h')"
        " WHERE gate = 'quality'",
    )
    await looked(app, made)
    async with app.database.transaction() as conn:
        _, age = (await migrations.verdicts(conn, await world.migration(app, made)))["quality"]
    assert age > timedelta(hours=22)


async def test_without_judgements_it_is_not_configured(ready: world.At, loopback: Loopback) -> None:
    """The complement: nothing is required that nobody declared, and nothing is said to have passed."""
    app, made = ready
    assert (await world.migration(app, made)).gates == ("completeness", "fidelity")
    assert (await look(app, made)).outcome is Outcome.NOT_CONFIGURED


async def test_a_set_that_is_not_there_is_refused_before_anything_begins(
    app: App, loopback: Loopback
) -> None:
    """A mistyped name is a sentence at `plan`, not a gate that waits for ever."""
    made = await steps.filled(app)
    with pytest.raises(NotFound, match=r"no set of judgements 'defautl' \(there is none yet\)"):
        await app.start(made, steps.NEW, judged=replace(DECLARED, judged="defautl"))
    assert (await world.look(app, made)).state == "finished"


async def test_too_few_queries_hold_the_migration(few: world.At, loopback: Loopback) -> None:
    """It cannot tell, says how many more could, costs nothing while it waits, and goes on when they come."""
    app, made = few
    await steps.drain_soon(app)
    assert await world.state(app, made) is State.VERIFYING
    assert "`revec judgements add c`" in (await world.look(app, made)).next
    verdict = await look(app, made)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "cannot tell yet: ~" in verdict.why
    with pytest.raises(Refused):
        await app.commands.switch.cutover(made, why="test")
    await judge(app, made)
    await steps.drain_soon(app)
    assert await world.state(app, made) is State.READY
    verdict = await look(app, made)
    assert (verdict.outcome, verdict.evidence["look"], verdict.evidence["alpha"]) == (
        Outcome.PASSED,
        2,
        0.025,
    )


# --- one look -------------------------------------------------------------------------------------


async def test_the_same_set_and_vectors_are_looked_at_once(few: world.At, loopback: Loopback) -> None:
    """What was seen stays what was seen, whatever became of the index: no second chance, no bill."""
    app, made = few
    first = await looked(app, made)
    assert first.outcome is Outcome.INCONCLUSIVE
    for n in range(10):
        await put_vector(app, n, fake.vector("elsewhere", "fake-b-96"))
    before = loopback.requests()["inputs"]
    assert (await looked(app, made)).evidence == first.evidence
    assert loopback.requests()["inputs"] == before


async def test_a_pass_of_yesterday_is_looked_at_again(
    judged: world.At, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can only be taken away, so it is the same look; within the day it is not asked again."""
    app, made = judged
    for n in range(COUNT):
        await put_vector(app, n, fake.vector("elsewhere", "fake-b-96"))
    assert (await look(app, made)).outcome is Outcome.PASSED
    monkeypatch.setattr(gate, "EVIDENCE_LASTS", outlook.timedelta(0))
    again = await look(app, made)
    assert (again.outcome, again.evidence["look"]) == (Outcome.FAILED, 1)


async def test_a_failure_stands_until_a_person_clears_it(unlooked: world.At, loopback: Loopback) -> None:
    """More queries do not make it good; cleared with a reason it is looked at anew, held to half the error."""
    app, made = unlooked
    stored = [fake.vector(words(n), "fake-b-96") for n in range(COUNT)]
    for n in range(COUNT):
        await put_vector(app, n, stored[n - 1])
    assert (await looked(app, made)).outcome is Outcome.FAILED
    for n in range(COUNT):
        await put_vector(app, n, stored[n])
    assert (await look(app, made)).outcome is Outcome.FAILED  # the same set: not looked at
    with pytest.raises(GateNotMet, match=r"gate quality has not passed \(FAILED: worse by .*; now -"):
        await app.commands.switch.cutover(made, why="test")
    await app.commands.resume(made, clear="quality", reason="the vectors were mixed up, and are mended")
    mended = await looked(app, made)
    assert (mended.outcome, mended.evidence["look"]) == (Outcome.PASSED, 2)
    await app.commands.switch.cutover(made, why="test")


async def test_a_model_that_is_silent_costs_no_look(unlooked: world.At, loopback: Loopback) -> None:
    """Nothing was seen: INCONCLUSIVE, not counted, and the next one is the first."""
    app, made = unlooked
    async with App(app.settings) as other:  # it remembers no query
        loopback.fault("503", times=None)
        silent = await looked(other, made)
        assert silent.outcome is Outcome.INCONCLUSIVE
        assert "look" not in silent.evidence
        loopback.clear()
        assert (await look(other, made)).evidence["look"] == 1


async def test_an_index_that_is_in_doubt_is_not_looked_at(unlooked: world.At, loopback: Loopback) -> None:
    """A failure that is completeness's to find does not become a verdict on the model."""
    app, made = unlooked
    await execute(app, "DELETE FROM revec.vectors_2")
    found = {verdict.gate: verdict for verdict in await app.commands.verify(made)}
    assert found["completeness"].outcome is Outcome.FAILED
    assert found["quality"].outcome is Outcome.INCONCLUSIVE
    assert "not looked at before completeness has passed" in found["quality"].why


def test_swapped_indexes_flip_the_verdict() -> None:
    """What is worse one way round is better the other way round, by the same numbers."""
    rng = np.random.default_rng(5)
    was, now = ({NDCG: rng.random(300), RECALL: rng.random(300)} for _ in range(2))
    now = {name: each * 0.7 for name, each in now.items()}
    asked = queries(range(300))
    worse, better = verdict_of(was, now, asked, DECLARED), verdict_of(now, was, asked, DECLARED)
    assert (worse.outcome, better.outcome) == (Outcome.FAILED, Outcome.PASSED)
    for name in (NDCG, RECALL):
        one, other = worse.evidence["metrics"][name], better.evidence["metrics"][name]
        assert (one["lower"], one["upper"]) == (-other["upper"], -other["lower"])


# --- segments -------------------------------------------------------------------------------------


async def test_a_segment_that_lost_too_much_blocks() -> None:
    """On the whole nothing changed; in one language everything did."""
    asked = queries(range(900)) + [replace(q, segment="de") for q in queries(range(900, 1000))]
    was = {NDCG: np.full(1000, 0.5), RECALL: np.full(1000, 0.5)}
    now = {NDCG: np.where(np.arange(1000) >= 900, 0.0, 0.56), RECALL: was[RECALL]}
    verdict = verdict_of(was, now, asked, Quality("default"))
    assert verdict.outcome is Outcome.FAILED
    assert verdict.why.startswith("too much is lost in segment de (-0.500); of all: ")
    whole = verdict_of(was, now, [replace(q, segment="") for q in asked], Quality("default"))
    assert whole.outcome is Outcome.PASSED


def test_a_little_worse_is_a_pass_that_says_so() -> None:
    """Within the margin, and proved to be a loss: passed, with a word of warning."""
    was = {NDCG: np.full(3000, 0.5), RECALL: np.full(3000, 0.5)}
    now = {NDCG: np.full(3000, 0.49), RECALL: np.full(3000, 0.5)}
    verdict = verdict_of(was, now, queries(range(3000)), Quality("default"))
    assert (verdict.outcome, verdict.evidence["slightly_worse"]) == (Outcome.PASSED, True)
    assert verdict.why.startswith("a little worse, by 0.010, within the margin [")


def test_no_queries_cannot_tell() -> None:
    """Nothing was asked, so nothing has passed."""
    nothing = {NDCG: np.array([]), RECALL: np.array([])}
    assert verdict_of(nothing, nothing, [], Quality("default")).outcome is Outcome.INCONCLUSIVE


# --- the catalogue of faults ----------------------------------------------------------------------


async def wrong_prefix(app: App) -> None:
    """Every text was embedded behind somebody else's prefix."""
    for n in range(COUNT):
        await put_vector(app, n, fake.vector(f"passage: {words(n)}", "fake-b-96"))


async def wrong_model(app: App) -> None:
    """Another model's vectors, of as many dims."""
    for n in range(COUNT):
        await put_vector(app, n, fake.vector(words(n), "fake-z-96"))


async def swapped_pairs(app: App) -> None:
    """Each two neighbours have each other's vector."""
    for n in range(COUNT):
        await put_vector(app, n, fake.vector(words(n ^ 1), "fake-b-96"))


async def stale(app: App) -> None:
    """One document of many is of what it was before."""
    await execute(
        app,
        "UPDATE revec.vectors_2 SET input_hash = 'before'"
        " WHERE doc_id = (SELECT id FROM revec.document WHERE key = '3')",
    )


async def tenant_missing(app: App) -> None:
    await execute(app, "DELETE FROM revec.vectors_2 WHERE tenant = 'default'")


async def chunk_missing(app: App) -> None:
    """The document was made of two."""
    await execute(
        app,
        "UPDATE revec.vectors_2 SET chunk_count = 2"
        " WHERE doc_id = (SELECT id FROM revec.document WHERE key = '3')",
    )


CATALOGUE = [
    (wrong_prefix, {"fidelity", "quality"}, "40 of 40 differ from a fresh embedding"),
    (wrong_model, {"fidelity", "quality"}, "40 of 40 differ from a fresh embedding"),
    (swapped_pairs, {"fidelity", "quality"}, "40 of 40 differ from a fresh embedding"),
    (stale, {"completeness"}, "1 stale"),
    (tenant_missing, {"completeness", "quality"}, "40 missing"),
    (chunk_missing, {"completeness"}, "1 stale"),
]


@pytest.mark.parametrize(("plant", "by", "named"), CATALOGUE, ids=[row[0].__name__ for row in CATALOGUE])
async def test_every_fault_is_found_by_the_gate_that_should(
    unlooked: world.At, loopback: Loopback, plant: Any, by: set[str], named: str
) -> None:
    """By those gates and by no other, in words that say what it is. Each is asked by itself."""
    app, made = unlooked
    await plant(app)
    migration = await world.migration(app, made)
    _, new = await steps.written(app, made)
    case = gates.Case(app.tools, new, migration)
    found = [await gates.gate(name).judge(case) for name in migration.gates]
    assert {verdict.gate for verdict in found if verdict.outcome is Outcome.FAILED} == by
    assert any(named in verdict.why for verdict in found)


# --- sets are kept while they are needed ----------------------------------------------------------


async def test_a_set_that_proves_a_migration_is_not_dropped(judged: world.At, loopback: Loopback) -> None:
    """Not while it is under way; afterwards, yes."""
    app, made = judged
    with pytest.raises(Refused, match=r"is to be proven by 'default': `revec finish c` or `revec abort c`"):
        async with app.database.transaction() as conn:
            await judgements.drop(conn, made, "default")
    await app.commands.abort(made, "test")
    async with app.database.transaction() as conn:
        await judgements.drop(conn, made, "default")
        assert await judgements.listed(conn, made) == []


async def test_judgements_outlive_a_reading_of_the_source(unlooked: world.At, loopback: Loopback) -> None:
    """A document that is deleted and written anew is another one to us, and the same to its judges."""
    app, made = unlooked
    await steps.delete(app, made, "3")
    await steps.put(app, made, steps.drafts(1, start=3))
    await steps.drain(app)
    async with app.database.transaction() as conn:
        (row,) = await judgements.listed(conn, made)
    assert (row.queries, row.judged, row.judgements, row.missing) == (COUNT, COUNT, COUNT, 0)
    assert (await look(app, made)).figures.now == 0
