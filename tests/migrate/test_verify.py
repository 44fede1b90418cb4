"""Verification finds what was planted, calls it by its name, and never cries wolf."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from pgvector import HalfVector

from revec.app import App
from revec.migrate import outlook
from revec.migrate.gates import completeness, recall
from revec.migrate.sentinels import SENTINELS
from revec.model.errors import GateNotMet, Refused
from revec.model.index import Collection, Kind
from revec.model.migration import State
from revec.model.verdict import Outcome, Verdict, together
from revec.postgres import indexes, migrations
from revec.stores.base import Sample
from revec.work import letters
from tests import loopback as fake
from tests import steps
from tests.loopback import Loopback
from tests.migrate import world

DOC = "(SELECT id FROM revec.document WHERE key = '7')"


async def judged(app: App, made: Collection) -> dict[str, Verdict]:
    return {verdict.gate: verdict for verdict in await app.commands.verify(made)}


async def execute(app: App, query: str, **parameters: Any) -> None:
    async with app.database.transaction() as conn:
        await conn.execute(query, parameters or None)


@dataclass(frozen=True)
class Planted:
    name: str
    sql: str
    counted: str  # the name that completeness gives it
    documents: int = 20


PLANTED = [
    Planted("a lost vector", "DELETE FROM revec.vectors_2 WHERE doc_id = DOC", "missing"),
    Planted("two lost vectors", "DELETE FROM revec.vectors_2 WHERE doc_id IN (DOC, DOC + 1)", "missing"),
    Planted("an old content", "UPDATE revec.vectors_2 SET input_hash = 'x' WHERE doc_id = DOC", "stale"),
    Planted("a lost chunk", "UPDATE revec.vectors_2 SET chunk_count = 2 WHERE doc_id = DOC", "stale"),
    Planted("a foreign tenant", "UPDATE revec.vectors_2 SET tenant = 'x' WHERE doc_id = DOC", "foreign"),
    Planted(
        "an unseen delete",
        "SET LOCAL session_replication_role = replica; DELETE FROM revec.document WHERE id = DOC",
        "orphan",
        documents=19,
    ),
    Planted(
        "an unseen edit",
        "SET LOCAL session_replication_role = replica;"
        "UPDATE revec.document SET input_hash = 'x' WHERE id = DOC",
        "stale",
    ),
    Planted(
        "a zero vector",
        "UPDATE revec.vectors_2 SET embedding = array_fill(0, ARRAY[96])::halfvec WHERE doc_id = DOC",
        "malformed",
    ),
]


@pytest.mark.parametrize("planted", PLANTED, ids=[planted.name for planted in PLANTED])
async def test_completeness_names_what_was_planted(
    ready: world.At, loopback: Loopback, planted: Planted
) -> None:
    """FAILED, the right name, the right count, nothing else; recorded, so that no cutover follows."""
    app, made = ready
    await execute(app, planted.sql.replace("DOC", DOC))
    verdicts = await judged(app, made)
    verdict = verdicts["completeness"]
    count = 2 if planted.name.startswith("two") else 1
    assert verdict.outcome is Outcome.FAILED
    assert verdict.why == f"of {planted.documents} documents: {count} {planted.counted}"
    wrong = ("missing", "stale", "orphan", "foreign", "malformed")
    assert {name: verdict.evidence[name] for name in wrong if verdict.evidence[name]} == {
        planted.counted: count
    }
    assert (await world.look(app, made)).next.startswith("gate completeness FAILED")


async def put_vector(app: App, key: str, vector: np.ndarray) -> None:
    await execute(
        app,
        "UPDATE revec.vectors_2 SET embedding = %(v)s"
        " WHERE doc_id = (SELECT id FROM revec.document WHERE key = %(k)s)",
        v=HalfVector(vector.astype(np.float16)),
        k=key,
    )


def text(n: int) -> str:
    return f"document {n}\ntext of document {n}"


async def swapped(app: App) -> None:
    """Two documents hold each other's vector: nothing but a second opinion can see it."""
    await put_vector(app, "3", fake.vector(text(4), "fake-b-96"))
    await put_vector(app, "4", fake.vector(text(3), "fake-b-96"))


async def other_model(app: App) -> None:
    """One vector of a model with the same dims."""
    await put_vector(app, "3", fake.vector(text(3), "fake-z-96"))


async def other_model_all(app: App) -> None:
    """Every vector of a model with the same dims."""
    for n in range(20):
        await put_vector(app, str(n), fake.vector(text(n), "fake-z-96"))


async def rounded_away(app: App) -> None:
    """So small that float16 keeps the signs and no more."""
    await put_vector(app, "3", fake.vector(text(3), "fake-b-96") * 1e-6)


async def zero(app: App) -> None:
    """A cosine with it is no number."""
    await put_vector(app, "3", np.zeros(96))


async def nudged(app: App) -> None:
    """A vector at a cosine of 0.99: near, and not the same."""
    right = fake.vector(text(3), "fake-b-96")
    other = fake.vector(text(4), "fake-b-96")
    aside = other - right * (right @ other)
    await put_vector(app, "3", 0.99 * right + (1 - 0.99**2) ** 0.5 * aside / np.linalg.norm(aside))


@pytest.mark.parametrize(
    ("plant", "bad"),
    [(swapped, 2), (other_model, 1), (other_model_all, 20), (rounded_away, 1), (zero, 1), (nudged, 1)],
)
async def test_fidelity_finds_vectors_that_are_another_text_s(
    ready: world.At, loopback: Loopback, plant: Any, bad: int
) -> None:
    """Embedded again, they are not what is stored: how many, and the worst of them."""
    app, made = ready
    await plant(app)
    verdict = (await judged(app, made))["fidelity"]
    assert verdict.outcome is Outcome.FAILED
    assert verdict.why.startswith(f"{bad} of 20 differ from a fresh embedding")
    assert verdict.evidence["bad"] == bad
    assert verdict.evidence["worst_cosine"] < 0.999


async def test_a_good_index_passes_and_says_how_sure_it_is(ready: world.At, loopback: Loopback) -> None:
    """Counts, the sample, and the rate that a sample of that size excludes."""
    app, made = ready
    verdicts = await judged(app, made)
    assert together(list(verdicts.values())) is Outcome.PASSED
    assert verdicts["completeness"].evidence["documents"] == 20
    assert verdicts["fidelity"].evidence["bad_rate_below"] == 0.15
    assert verdicts["fidelity"].why == "0 of 20 differ, so fewer than 15.0% do"


async def test_chunks_of_keys_count_each_document_once(
    ready: world.At, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the size of a chunk of the check: the same counts, also of orphans at its borders."""
    app, made = ready
    await execute(app, "DELETE FROM revec.vectors_2 WHERE doc_id IN (1, 7, 8, 20)")
    await execute(
        app,
        "SET LOCAL session_replication_role = replica;DELETE FROM revec.document WHERE id IN (2, 9, 10, 19)",
    )
    _, new = await steps.written(app, made)
    tallies = []
    for size in (1, 2, 3, 7, 16, 10_000):
        monkeypatch.setattr(completeness, "CHUNK", size)
        tallies.append((await world.judged(app, "completeness", new)).evidence)
    assert all(tally == tallies[0] for tally in tallies)
    assert (tallies[0]["documents"], tallies[0]["missing"], tallies[0]["orphan"]) == (16, 4, 4)


async def test_what_is_on_its_way_is_pending_and_then_late(ready: world.At, loopback: Loopback) -> None:
    """Within the freshness goal nothing is wrong; beyond it the check cannot tell; never a failure."""
    app, made = ready
    await steps.put(app, made, steps.drafts(2, start=50))
    verdict = (await judged(app, made))["completeness"]
    assert (verdict.outcome, verdict.evidence["pending"]) == (Outcome.PASSED, 2)

    await execute(app, "UPDATE revec.work SET since = since - interval '31 seconds'")
    verdict = (await judged(app, made))["completeness"]
    assert (verdict.outcome, verdict.evidence["late"]) == (Outcome.INCONCLUSIVE, 2)
    assert "2 documents wait longer than the freshness goal" in verdict.why


async def test_the_backfill_s_own_work_is_no_excuse(ready: world.At, loopback: Loopback) -> None:
    """Work in its lane, however young, means that the backfill is not over."""
    app, made = ready
    await steps.put(app, made, steps.drafts(1, start=50))
    await execute(app, "UPDATE revec.work SET lane = 2")
    verdict = (await judged(app, made))["completeness"]
    assert verdict.outcome is Outcome.INCONCLUSIVE


async def test_what_was_written_after_the_horizon_is_not_judged(
    ready: world.At, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check that runs for hours never chases the present."""
    app, made = ready
    _, new = await steps.written(app, made)
    (now,) = await steps.rows(app, "SELECT last_value AS rev FROM revec.rev")
    await steps.put(app, made, steps.drafts(3, start=50))
    await execute(app, "DELETE FROM revec.work")

    async def then(_: object) -> int:
        return int(now.rev)

    monkeypatch.setattr(completeness.documents, "last_rev", then)
    verdict = await world.judged(app, "completeness", new)
    assert (verdict.outcome, verdict.evidence["documents"]) == (Outcome.PASSED, 20)


async def test_excluded_documents_are_counted_apart(app: App, loopback: Loopback) -> None:
    """Empty ones and accepted dead letters: named, and no obstacle."""
    made = await steps.filled(app)
    await execute(app, "UPDATE revec.document SET title = '', body = ' ' WHERE key IN ('1', '2')")
    await app.start(made, steps.NEW)
    await steps.drain(app)
    assert await world.state(app, made) is State.READY
    verdict = (await judged(app, made))["completeness"]
    assert (verdict.outcome, verdict.evidence["excluded"]) == (Outcome.PASSED, 2)
    assert "20 documents, 2 of them excluded" in verdict.why


async def test_dead_letters_are_a_person_s_to_settle(app: App, loopback: Loopback) -> None:
    """Cannot tell while one is there, says which commands settle it; accepted, the migration goes on."""
    made = await steps.filled(app)
    loopback.fault("400", times=None, match="document 7\n")
    await app.start(made, steps.NEW)
    async with world.working(app):
        await world.until(app, "SELECT state = 'verifying' FROM revec.migration WHERE id = 2")
    await world.tick(app, 3)
    seen = await world.look(app, made)
    assert (seen.state, [index.dead for index in seen.indexes]) == ("verifying", [0, 1])
    assert "1 dead letters: `revec queue list c`" in seen.next
    assert await app.outstanding() == []  # a drain ends here, at once
    async with app.database.transaction() as conn:
        assert (await letters.discard(conn, made, [2], "nobody reads it", who="test")).letters == 1
    await steps.drain(app)
    assert await world.state(app, made) is State.READY
    assert (await judged(app, made))["completeness"].evidence["excluded"] == 1


async def test_looking_again_costs_nothing_that_is_proven(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While completeness cannot tell, fidelity is not paid for again and again."""
    monkeypatch.setattr(outlook, "VERIFY_EVERY", outlook.timedelta(0))
    made = await steps.ready(app)
    await world.force(app, State.VERIFYING)
    await execute(app, "DELETE FROM revec.verdict")
    await steps.put(app, made, steps.drafts(1, start=50))
    await execute(app, "UPDATE revec.work SET since = since - interval '31 seconds'")
    await world.tick(app)
    paid = loopback.requests()["inputs"]
    await world.tick(app, 5)
    assert "not yet proven: completeness" in (await world.look(app, made)).next
    assert loopback.requests()["inputs"] == paid


# --- what a model may do ---------------------------------------------------------------------------


async def test_a_drifted_model_fails_by_its_sentinels(app: App, loopback: Loopback) -> None:
    """Other weights under the same name: the fixed texts see it, whatever the sample holds."""
    made = await steps.filled(app)
    await app.start(made, steps.NEW)
    await world.tick_to(app, made, State.BACKFILLING)  # its first day is remembered
    loopback.fault("drift", times=None)
    await steps.drain(app)
    assert await world.state(app, made) is State.VERIFYING
    verdict = (await judged(app, made))["fidelity"]
    assert verdict.outcome is Outcome.FAILED
    assert "no longer the model that made this index" in verdict.why
    assert "a sentinel text's cosine is" in verdict.why
    assert (await app.serving("c")).id == 1


@pytest.mark.parametrize("fault", ["503", "401", "429", "cut"])
async def test_a_silent_model_cannot_tell(ready: world.At, loopback: Loopback, fault: str) -> None:
    """No answer is no verdict: INCONCLUSIVE holds, nothing is sticky, the next look passes."""
    app, made = ready
    loopback.fault(fault, times=None)
    verdict = (await judged(app, made))["fidelity"]
    assert verdict.outcome in {Outcome.INCONCLUSIVE, Outcome.FAILED if fault == "cut" else None}
    loopback.clear()
    if fault != "cut":
        assert (await judged(app, made))["fidelity"].outcome is Outcome.PASSED


@pytest.mark.parametrize("fault", ["nan", "zero", "dims", "fewer"])
async def test_nonsense_from_the_model_fails(ready: world.At, loopback: Loopback, fault: str) -> None:
    """An answer that cannot be trusted is no time-out: it fails, in the provider's sentence."""
    app, made = ready
    loopback.fault(fault, times=None)
    verdict = (await judged(app, made))["fidelity"]
    assert verdict.outcome is Outcome.FAILED
    assert verdict.why.startswith("openai:fake-b-96 at ")


async def test_a_model_that_says_one_thing_to_all_fails(
    ready: world.At, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every text has the same vector, stored and fresh alike: a cosine of 1 that means nothing."""
    app, made = ready
    one = fake.vector("one", "fake-b-96")
    for n in range(20):
        await put_vector(app, str(n), one)
    provider = await app.provider(steps.NEW, 96)
    honest = provider.embed

    async def same(inputs: Any, kind: Any = "document") -> Any:
        answer = await honest(inputs, kind)
        if inputs[0].text not in SENTINELS:
            answer.matrix[:] = one
        return answer

    monkeypatch.setattr(provider, "embed", same)
    verdict = (await judged(app, made))["fidelity"]
    assert verdict.outcome is Outcome.FAILED
    assert verdict.evidence["duplicates"] == 20
    assert "share" in verdict.why


async def test_texts_that_a_model_cannot_tell_apart_are_no_fault(app: App, loopback: Loopback) -> None:
    """A bag of words has one vector for two orders of them: different texts, rightly equal vectors."""
    pytest.importorskip("wordllama")
    made = await steps.collection(app, model="local:wordllama-256")
    texts = ["red apples and green pears", "green apples and red pears", "a lathe", "a mill", "a drill"]
    await steps.put(app, made, [steps.Draft(str(n), body=body) for n, body in enumerate(texts)])
    await steps.drain(app)
    assert await world.state(app, made) is State.FINISHED
    verdict = (await judged(app, made))["fidelity"]
    assert (verdict.outcome, verdict.evidence["duplicates"]) == (Outcome.PASSED, 2)


# --- sticky, and how it is cleared -----------------------------------------------------------------


async def test_a_failure_outlives_later_passes_and_restarts(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken, then healed by itself: the verdict stands, in every process, until a person clears it."""
    monkeypatch.setattr(outlook, "VERIFY_EVERY", outlook.timedelta(0))
    made = await steps.ready(app)
    await execute(app, "CREATE TABLE kept AS SELECT * FROM revec.vectors_2 WHERE doc_id = 8")
    await execute(app, "DELETE FROM revec.vectors_2 WHERE doc_id = 8")
    assert (await judged(app, made))["completeness"].outcome is Outcome.FAILED
    await execute(app, "INSERT INTO revec.vectors_2 SELECT * FROM kept")
    assert (await judged(app, made))["completeness"].outcome is Outcome.PASSED  # as it is now

    async with App(app.settings) as another:
        await steps.drain(another)
        assert "completeness FAILED" in (await world.look(another, made)).next
        with pytest.raises(GateNotMet, match=r"completeness has not passed \(FAILED"):
            await another.commands.switch.cutover(made, why="test")

    await app.commands.resume(made, clear="completeness", reason="restored by hand")
    cleared = await steps.rows(
        app, "SELECT cleared_reason AS why FROM revec.verdict WHERE outcome = 'FAILED'"
    )
    assert cleared == [("restored by hand",)]
    await steps.drain(app)
    await app.commands.switch.cutover(made, why="test")


async def test_a_cleared_failure_is_judged_again_first(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clearing says "look again", not "passed": an older pass does not stand in for the new look."""
    monkeypatch.setattr(outlook, "VERIFY_EVERY", outlook.timedelta(0))
    made = await steps.ready(app)
    await execute(app, "DELETE FROM revec.vectors_2 WHERE doc_id = 8")
    await app.commands.verify(made)
    await app.commands.resume(made, clear="completeness", reason="not looked at")
    with pytest.raises(GateNotMet, match="completeness has not passed"):
        await app.commands.switch.cutover(made, why="test")
    await steps.drain(app)
    assert "completeness FAILED" in (await world.look(app, made)).next


async def test_what_cannot_be_told_holds_and_is_looked_at_again(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INCONCLUSIVE keeps it verifying; when the model answers again it goes on by itself."""
    monkeypatch.setattr(outlook, "VERIFY_EVERY", outlook.timedelta(0))
    made = await steps.filled(app)
    await app.start(made, steps.NEW)
    await world.tick_to(app, made, State.BACKFILLING)
    await steps.drain(app)
    await world.force(app, State.VERIFYING)
    await execute(app, "DELETE FROM revec.verdict")
    loopback.fault("503", times=None)
    await world.tick(app, 3)
    assert await world.state(app, made) is State.VERIFYING
    assert "not yet proven: fidelity" in (await world.look(app, made)).next
    loopback.clear()
    await world.tick(app, 2)
    assert await world.state(app, made) is State.READY


async def test_verify_of_a_serving_index_without_a_migration(app: App, loopback: Loopback) -> None:
    """At any moment: the index that serves; nothing is recorded, nothing moves."""
    made = await steps.filled(app)
    before = await steps.rows(app, "SELECT count(*) FROM revec.verdict")
    await execute(app, "DELETE FROM revec.vectors_1 WHERE doc_id = 8")
    assert (await judged(app, made))["completeness"].evidence["missing"] == 1
    assert await steps.rows(app, "SELECT count(*) FROM revec.verdict") == before


async def test_verify_of_nothing_is_refused(app: App, loopback: Loopback) -> None:
    """No index yet: the command that makes one."""
    made = await steps.collection(app)
    with pytest.raises(Refused, match="`revec worker`"):
        await app.commands.verify(made)


# --- recall ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("documents", [0, 3, 40])
async def test_recall_of_a_small_index_is_known_exactly(app: App, loopback: Loopback, documents: int) -> None:
    """Fewer vectors than the sample: all were asked, none was missed, and an empty one waits for nobody."""
    made = await steps.collection(app, kind=Kind.HNSW)
    await steps.put(app, made, steps.drafts(documents))
    summary = await steps.drain(app)
    assert summary.stuck == []
    assert await world.state(app, made) is State.FINISHED
    (verdict,) = await steps.rows(app, "SELECT * FROM revec.verdict WHERE gate = 'recall'")
    assert verdict.outcome == "PASSED"
    assert verdict.evidence["queries"] == documents


@pytest.mark.parametrize(
    ("lost", "outcome"), [(0, Outcome.PASSED), (60, Outcome.PASSED), (100, Outcome.FAILED)]
)
async def test_recall_is_decided_by_its_lower_bound(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch, lost: int, outcome: Outcome
) -> None:
    """300 queries of 10: 60 lost of 3,000 is 0.98 and proven above 0.97; 100 lost is not."""
    await steps.collection(app, kind=Kind.HNSW)
    await world.tick(app, 2)
    (index,) = await steps.rows(app, "SELECT id FROM revec.index")
    asked = iter(range(10_000))

    async def sample(*_: Any) -> Sample:
        rows = [(n, b"", np.ones(64)) for n in range(recall.QUERIES)]
        return Sample(rows, len(rows))

    async def exact(*_: Any, **__: Any) -> list[tuple[int, float]]:
        return [(n, 0.9) for n in range(10)]

    async def nearest(*_: Any, **__: Any) -> list[tuple[int, float]]:
        missed = next(asked) < lost  # one of ten
        return [(n, 0.1 if missed and n == 9 else 0.9) for n in range(10)]

    for name, stand_in in (("sample", sample), ("exact", exact), ("nearest", nearest)):
        monkeypatch.setattr(app.store, name, stand_in)
    async with app.database.transaction() as conn:
        found = await indexes.by_id(conn, index.id)
    verdict = await world.judged(app, "recall", found)
    assert verdict.outcome is outcome
    assert verdict.evidence["recall"] == (3_000 - lost) / 3_000


async def test_recall_counts_ties_as_found(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal texts have equal scores: which of them comes is nobody's loss."""
    made = await steps.collection(app, kind=Kind.HNSW)
    await steps.put(app, made, [steps.Draft(str(n), body="the same words") for n in range(40)])
    await steps.drain(app)
    (verdict,) = await steps.rows(app, "SELECT * FROM revec.verdict WHERE gate = 'recall'")
    assert (verdict.outcome, verdict.evidence["recall"]) == ("PASSED", 1.0)


async def test_recall_of_an_exact_index_is_not_configured(app: App, loopback: Loopback) -> None:
    """Nothing approximate, nothing to prove; and it is not among the gates."""
    made = await steps.filled(app)
    (index,) = await steps.written(app, made)
    verdict = await world.judged(app, "recall", index)
    assert verdict.outcome is Outcome.NOT_CONFIGURED
    assert (await world.migration(app, made)).gates == ("completeness", "fidelity")
    async with app.database.transaction() as conn:
        assert "recall" not in await migrations.verdicts(conn, await world.migration(app, made))
