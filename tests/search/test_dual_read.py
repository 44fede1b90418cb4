"""The dual read: what it sees, what it stores, and that users never notice it."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from revec.app import App
from revec.migrate.canary import Wanted
from revec.model.filter import read as filter_of
from revec.model.index import Collection, Index, Kind
from revec.model.reading import Hit, How, Mode
from revec.observe import events
from revec.postgres import shadows
from revec.search import arms, dual_read, precedence
from revec.search.arms import Arm, Cause, Outcome, Side
from revec.search.retriever import Served
from revec.search.sampling import FEW, Chosen, Firsts, Question, chosen, place
from tests import steps
from tests.conftest import settings_for
from tests.loopback import Loopback
from tests.search import shadowed
from tests.work import hands


async def compared(app: App, rate: float = 1.0, count: int = 20, **how: Any) -> Collection:
    """Two current indexes of one collection; the second shadows the first."""
    made = await steps.ready(app, count, **how)
    await shadowed.on(app, made, rate)
    return made


async def arm(app: App, query: str) -> tuple[Served, Question]:
    route, index = await app.retriever.route("c")
    return Served("c", route, index), Question(query, "default", Mode.VECTOR, None)


# --- what is seen --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [Mode.VECTOR, Mode.HYBRID])
async def test_a_query_is_asked_of_both_behind_its_answer(
    any_app: App, loopback: Loopback, mode: Mode
) -> None:
    """Three arms, their ranks, scores and times; and nothing else of the index that shadows."""
    app = any_app
    made = await compared(app)
    (reading,) = await shadowed.ask(app, "what is document 3", mode=mode)
    seen = await shadowed.one(app)
    assert (seen.collection_id, seen.serving, seen.candidate, seen.mode) == (made.id, 1, 2, mode)
    assert (seen.again_outcome, seen.new_outcome, seen.chosen, seen.weight) == ("ok", "ok", "rate", 1)
    assert seen.floor_overlap == seen.floor_rbo == 1.0
    assert seen.floor_first
    assert not seen.changed
    answer, again, new = seen.documents
    keys = {row.id: row.key for row in await steps.rows(app, "SELECT id, key FROM revec.document")}
    assert [keys[each] for each in answer] == [hit.id for hit in reading.hits]
    assert answer == again
    assert seen.overlap == pytest.approx(len({*again} & {*new}) / 10)
    differ = round(10 * (1 - seen.overlap))
    assert sum(seen.lost.values()) == sum(seen.gained.values()) == differ
    assert set(seen.lost) | set(seen.gained) <= {Cause.MODEL}
    assert all(
        0 < each < 5 for each in (seen.again_embed, seen.again_search, seen.new_embed, seen.new_search)
    )
    assert await shadowed.shed(app) == (1, 0)
    await steps.assert_oracle(app, made)


async def test_guards_hear_of_it_before_users_see_it(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the new index came to; but it served nobody, and so it is counted nowhere else."""
    told: list[tuple[int, int, How]] = []

    def tell(index: Index, epoch: int, how: How, seconds: float) -> None:
        assert 0 < seconds < 5
        told.append((index.id, epoch, how))

    monkeypatch.setattr(app.dual_reader, "_tell", tell)
    await compared(app)
    route, _ = await app.retriever.route("c")
    said: list[events.Event] = []
    with events.heard(said.append):
        await shadowed.ask(app, "what is document 3")
    assert told == [(2, route.epoch, How.ANSWERED)]
    assert {each.index for each in said if isinstance(each, events.Searched)} == {f"{steps.OLD}#1"}
    assert [each.how for each in said if isinstance(each, events.Observed)] == ["observed"]


async def test_what_a_canary_answered_is_compared_with_nothing(app: App, loopback: Loopback) -> None:
    """It is the other index's answer: as the old one's it would say that the comparison is broken. And what
    the shadow read while users see the new index is not told as if they had.
    """
    made = await compared(app)
    told: list[How] = []
    app.dual_reader._tell = lambda *said: told.append(said[2])
    await app.commands.canary.show(made, Wanted(share=0.5), why="test")
    readings = await shadowed.ask(app, *shadowed.questions(20))
    by_new = sum(reading.index_id == 2 for reading in readings)
    assert 0 < by_new < 20
    rows = await shadowed.observed(app)
    assert len(rows) == 20 - by_new
    assert all(row.floor_overlap == 1.0 for row in rows)
    assert told == []


async def test_nothing_is_observed_when_it_is_off(app: App, loopback: Loopback) -> None:
    """Never set, set to nothing, paused, aborted: no row, no connection, no text to any model."""
    made = await steps.ready(app)
    loopback.clear()
    await shadowed.ask(app, *shadowed.questions(3))
    assert app.dual_reader._own is None, "no shadow, no connection"
    await shadowed.on(app, made)
    async with app.database.transaction() as conn:
        assert await shadows.off(conn, made.id, "test") == 1.0
    await shadowed.ask(app, *shadowed.questions(3, start=3))
    await shadowed.on(app, made)
    await app.commands.pause(made, "lunch")
    await shadowed.ask(app, *shadowed.questions(3, start=6))
    await app.commands.resume(made)
    await app.commands.abort(made, "given up")
    await shadowed.ask(app, *shadowed.questions(3, start=9))
    assert await shadowed.observed(app) == []
    assert app.dual_reader._own is None
    assert {row["model"] for row in loopback.log()} == {"fake-64"}


async def test_only_whole_answers_of_the_vectors_are_compared(app: App, loopback: Loopback) -> None:
    """Not the words alone, not an empty query, not an answer without the model, not what is similar."""
    await compared(app)
    await shadowed.ask(app, "document 3", mode=Mode.LEXICAL)
    await shadowed.ask(app, "  ")
    loopback.fault("503", times=None)
    (reading,) = await shadowed.ask(app, "document 4", mode=Mode.HYBRID)
    assert reading.degraded
    assert await shadowed.observed(app) == []


async def test_a_repeat_weighs_and_is_not_asked_again(app: App, loopback: Loopback) -> None:
    """The unit is the question: case and spaces as `Queries` has them, other tenants are other questions."""
    await compared(app)
    await shadowed.ask(app, "what is it", "what  is it ", "what is it", "WHAT is it")
    weights = sorted(row.weight for row in await shadowed.observed(app))
    assert weights == [1, 3]
    await shadowed.ask(app, "what is it", tenant="other")
    await shadowed.ask(app, "what is it", where=filter_of('{"x": 1}'))
    assert len(await shadowed.observed(app)) == 4


async def test_two_servers_share_one_sample(app: App, loopback: Loopback) -> None:
    """Both choose the same questions, and each is observed once, wherever it is asked first."""
    await compared(app, rate=0.3)
    async with App(settings_for(app.database.dsn, loopback.url)) as other:
        few = shadowed.questions(40)
        await asyncio.gather(shadowed.ask(app, *few), shadowed.ask(other, *few))
    rows = [row for row in await shadowed.observed(app) if row.chosen == Chosen.RATE]
    assert 3 <= len(rows) <= 25
    assert all(row.place < 0.3 for row in rows)
    assert {row.weight for row in rows} == {2}
    assert all(row.done_at for row in rows)


async def test_of_the_query_only_a_salted_hash_is_kept(app: App, loopback: Loopback) -> None:
    """No table that the shadow writes, no log line, holds a word of it; another salt makes another hash."""
    await compared(app)
    secret = "xyzzyplugh what my doctor said"
    await shadowed.ask(app, secret)
    tables = await steps.rows(
        app, "SELECT relname FROM pg_class WHERE relnamespace = 'revec'::regnamespace AND relkind = 'r'"
    )
    for table in tables:
        held = await steps.rows(app, f"SELECT t::text AS line FROM revec.{table.relname} t")
        assert not any("xyzzyplugh" in row.line or secret.encode().hex() in row.line for row in held), table
    asked = Question(secret, "default", Mode.VECTOR, None)
    (row,) = await shadowed.observed(app)
    (setting,) = await steps.rows(app, "SELECT salt FROM revec.shadow")
    assert row.query == asked.hashed(setting.salt) != asked.hashed("another")


# --- what users notice: nothing ------------------------------------------------------------------------------


class Candidate:
    """The store, with something else in the place of the second index's answers."""

    def __init__(self, store: Any, instead: Any) -> None:
        self._store, self._instead = store, instead

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def ahead(self, *_: Any, **__: Any) -> Any:
        return self

    async def nearest(self, conn: Any, index: Index, query: Any, **how: Any) -> Any:
        if index.id == 2:
            return await self._instead(conn, index, query, how)
        return await self._store.nearest(conn, index, query, **how)


async def _hangs(*_: Any) -> Any:
    await asyncio.Event().wait()


async def _raises(*_: Any) -> Any:
    raise RuntimeError("the candidate is on fire")


async def _rubbish(*_: Any) -> Any:
    return [(1, math.nan), (2, math.inf), (10**9, 0.5)]


async def _nonsense(*_: Any) -> Any:
    return "not even a list"


async def _endless(conn: Any, *_: Any) -> Any:
    await conn.execute("SELECT pg_sleep(600)")


async def _huge(*_: Any) -> Any:
    return [(number, 0.1) for number in range(200_000)]


async def _slow(*_: Any) -> Any:
    await asyncio.sleep(0.2)
    return [(1, 0.5)]


async def _empty(*_: Any) -> Any:
    return []


FAULTS = {
    "hangs": (_hangs, Outcome.TIMEOUT),
    "endless in the database": (_endless, Outcome.TIMEOUT),
    "raises": (_raises, Outcome.ERROR),
    "rubbish": (_rubbish, Outcome.ERROR),
    "nonsense": (_nonsense, Outcome.ERROR),
    "nothing": (_empty, Outcome.EMPTY),
    "a hundred times as much": (_huge, Outcome.OK),
    "ten times as slow": (_slow, Outcome.OK),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_whatever_the_candidate_does_the_answers_are_the_same(
    fault: str, app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte by byte those of before, given before the candidate has ended; and its failure is a row."""
    made = await compared(app)
    async with app.database.transaction() as conn:
        await shadows.off(conn, made.id, "test")
    queries = shadowed.questions(4)
    before = [shadowed.shown(each) for each in await shadowed.ask(app, *queries)]
    await shadowed.on(app, made)
    instead, outcome = FAULTS[fault]
    deadline = 0.3 if outcome is Outcome.TIMEOUT else 10.0
    app.dual_reader._deadline = deadline
    app.dual_reader._store = Candidate(app.store, instead)
    async with asyncio.timeout(60):
        answers = [await app.retriever.search("c", query, tenant="default") for query in queries]
        await shadowed.settled(app)
    after = [shadowed.shown(each) for each in answers]
    assert after == before
    rows = await shadowed.observed(app)
    assert [row.new_outcome for row in rows] == [outcome] * 4
    assert [row.again_outcome for row in rows] == ["ok"] * 4
    assert [row.floor_overlap for row in rows] == [1.0] * 4
    if outcome is Outcome.TIMEOUT:
        assert all(row.new_search == pytest.approx(deadline) for row in rows), (
            "censored at the deadline, not left out"
        )
    assert all(row.overlap is None for row in rows) is (outcome not in {Outcome.OK, Outcome.EMPTY})
    await steps.assert_oracle(app, made)


async def test_a_model_that_hangs_holds_nobody_up(app: App, loopback: Loopback) -> None:
    """Its arm is a time-out, the old one is read all the same."""
    await compared(app)
    app.dual_reader._deadline = 0.3
    asked = app.dual_reader._provider_for

    class Hangs:
        name = steps.NEW

        def count(self, texts: Any) -> list[int]:
            return [1 for _ in texts]

        async def embed(self, *_: Any, **__: Any) -> Any:
            await asyncio.Event().wait()

    async def provider_for(address: str, dims: int) -> Any:
        return Hangs() if address == steps.NEW else await asked(address, dims)

    app.dual_reader._provider_for = provider_for
    (reading,) = await shadowed.ask(app, "what is document 3")
    assert reading.hits
    seen = await shadowed.one(app)
    assert (seen.new_outcome, seen.again_outcome) == (Outcome.TIMEOUT, Outcome.OK)


async def test_a_full_queue_drops_and_counts(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing waits for room; what was dropped may be chosen again."""
    await compared(app)
    monkeypatch.setattr(dual_read, "MOST_WAITING", 2)
    app.dual_reader._deadline = 0.5
    app.dual_reader._store = Candidate(app.store, _hangs)
    for query in shadowed.questions(10):
        await app.retriever.search("c", query, tenant="default")
    assert len(app.dual_reader._waiting) <= 2
    await shadowed.settled(app)
    taken, dropped = await shadowed.shed(app)
    assert taken + dropped == 10
    assert 2 <= taken <= 6
    assert len(await shadowed.observed(app)) == taken


async def test_the_first_questions_of_many_tenants_leave_room(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are observed while there is little to do, and nobody calls it a loss when they are not."""
    await compared(app, rate=1e-9)
    monkeypatch.setattr(dual_read, "MOST_WAITING", 8)
    app.dual_reader._deadline = 0.5
    app.dual_reader._store = Candidate(app.store, _hangs)
    for number, query in enumerate(shadowed.questions(10)):
        await app.retriever.search("c", query, tenant=f"tenant {number}")
    assert len(app.dual_reader._waiting) <= 2
    await shadowed.settled(app)
    assert len(await shadowed.observed(app)) >= 2
    assert await shadowed.shed(app) == (0, 0)


async def test_offering_costs_microseconds_and_raises_nothing(app: App, loopback: Loopback) -> None:
    """Also where what it is offered makes no sense."""
    await compared(app)
    served, _ = await arm(app, "x")
    app.dual_reader.offer(served, None, "x", None, Mode.VECTOR)  # type: ignore[arg-type]
    reading = served.reading([Hit("1", 0.5, "", "default", "push")], 0.0, 0.0)
    app.dual_reader.offer(served, reading, "x", object(), Mode.VECTOR)  # type: ignore[arg-type]
    assert not app.dual_reader._waiting


async def test_closing_leaves_nothing_behind(app: App, loopback: Loopback) -> None:
    """In the middle of an arm: the claim is given back, the pool is closed, nothing is written later."""
    await compared(app)
    async with App(settings_for(app.database.dsn, loopback.url)) as leaving:
        leaving.dual_reader._deadline = shadowed.PATIENCE
        leaving.dual_reader._store = Candidate(leaving.store, _hangs)
        await leaving.retriever.search("c", "what is document 3", tenant="default")
        async with asyncio.timeout(60):
            while not await shadowed.observed(app):
                await asyncio.sleep(0.01)
    assert await shadowed.observed(app) == []
    assert leaving.dual_reader._own is None
    await shadowed.ask(app, "what is document 3")
    assert (await shadowed.one(app)).done_at is not None


async def test_who_leaves_in_mid_call_says_nothing_bad_of_the_model(app: App, loopback: Loopback) -> None:
    """What is cut off by our own leaving is no failure of the model's: nobody rests for it."""
    await compared(app)
    await steps.rows(app, "UPDATE revec.shadow SET rate = 0 RETURNING 1")
    try:
        async with App(settings_for(app.database.dsn, loopback.url)) as leaving:
            await leaving.retriever.search("c", "what is document 3", tenant="default")
            await steps.rows(app, "UPDATE revec.shadow SET rate = 1 RETURNING 1")
            loopback.hold()
            await leaving.retriever.search("c", "what is document 3", tenant="default")
            await asyncio.to_thread(loopback.wait_held)
    finally:
        loopback.release()
    assert await shadowed.observed(app) == []
    assert (
        await steps.rows(app, "SELECT model FROM revec.provider WHERE resting_until IS NOT NULL", none=None)
        == []
    )
    await shadowed.ask(app, "what is document 3")
    assert (await shadowed.one(app)).done_at is not None


async def test_a_claim_whose_process_was_killed_is_taken_over(app: App, loopback: Loopback) -> None:
    """It counts as lost until then, never as a match; what the dead one says later counts no more."""
    made = await compared(app)
    await shadowed.ask(app, "what is document 3")
    await steps.rows(
        app,
        "UPDATE revec.observation SET done_at = NULL, overlap = NULL, at = now() - interval '2 minutes' RETURNING 1",
    )
    pair = shadows.Pair(made.id, 1, 2)
    async with app.database.transaction() as conn:
        assert (await shadows.losses(conn, pair)).lost == 1
        dead = await shadowed.one(app)
    async with App(settings_for(app.database.dsn, loopback.url)) as other:
        await shadowed.ask(other, "what is document 3")
    seen = await shadowed.one(app)
    assert seen.done_at is not None
    assert (seen.weight, seen.overlap is not None) == (2, True)
    late = dict.fromkeys(dead._fields) | {"lost": "{}", "gained": "{}"}
    async with app.database.transaction() as conn:
        await shadows.put(conn, shadows.Claim(dead.id, dead.token), late)
    assert (await shadowed.one(app)).overlap == seen.overlap


# --- what models notice --------------------------------------------------------------------------------------


async def test_what_it_asks_is_in_the_ledger_in_a_lane_of_its_own(app: App, loopback: Loopback) -> None:
    """A call for each arm, with tokens; the user's query is in another lane."""
    await compared(app)
    await steps.rows(app, "DELETE FROM revec.call RETURNING 1")
    await shadowed.ask(app, "what is document 3")
    calls = await steps.rows(
        app, "SELECT model, outcome, tokens > 0 AS paid FROM revec.call WHERE lane = 5 ORDER BY model"
    )
    assert calls == [("openai:fake-64", "ok", True), ("openai:fake-b-96", "ok", True)]


async def test_a_model_that_rests_is_not_asked(app: App, loopback: Loopback) -> None:
    """The observation is dropped and counted; its claim is nobody's."""
    await compared(app)
    await steps.rows(
        app,
        "UPDATE revec.provider SET resting_until = now() + interval '1 hour', why = 'it failed'"
        " WHERE model = 'openai:fake-b-96' RETURNING 1",
    )
    loopback.clear()
    await shadowed.ask(app, *shadowed.questions(3))
    assert {row["model"] for row in loopback.log()} == {"fake-64"}
    assert await shadowed.observed(app) == []
    assert await shadowed.shed(app) == (0, 3)


async def test_what_live_queries_need_is_left_to_them(app: App, loopback: Loopback) -> None:
    """Of a bucket that is nearly empty the shadow takes nothing."""
    await compared(app)
    await steps.rows(
        app,
        "INSERT INTO revec.quota (model, resource, declared, capacity, rate, level, at)"
        " VALUES ('openai:fake-b-96', 'tokens', 1000, 1000, 0.001, 15, now()) RETURNING 1",
    )
    await shadowed.ask(app, "what is document 3")
    assert await shadowed.observed(app) == []
    assert await shadowed.shed(app) == (0, 1)


async def test_it_takes_no_step_while_a_live_search_is_under_way(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on when none is, and beside one that is always there it goes on too."""
    monkeypatch.setattr(precedence, "PATIENCE", shadowed.PATIENCE)
    await compared(app)
    under_way = app.retriever._precedence

    async def has_come_so_far() -> bool:
        return bool(under_way._nobody._waiters or await shadowed.observed(app))  # type: ignore[attr-defined]

    with under_way.live():
        await app.retriever.search("c", "what is document 3", tenant="default")
        await hands.until(has_come_so_far)
        assert not await shadowed.observed(app)
    await shadowed.settled(app)
    assert len(await shadowed.observed(app)) == 1
    monkeypatch.setattr(precedence, "PATIENCE", 0.01)
    with app.retriever._precedence.live():
        await shadowed.ask(app, "what is document 4")
    assert len(await shadowed.observed(app)) == 2


async def test_it_rests_while_searches_are_slow(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the measure of the brake; when they are quick again it goes on."""
    await compared(app)
    monkeypatch.setattr(dual_read, "STEP", 0.0)
    await steps.rows(
        app, "INSERT INTO revec.calm (kind, name, ms, n) VALUES ('search', 'c', 5, 100) RETURNING 1"
    )
    slow = "INSERT INTO revec.pulse (kind, name, ms) SELECT 'search', 'c', array_fill(200::real, ARRAY[50]) RETURNING 1"
    await steps.rows(app, slow)
    await shadowed.ask(app, *shadowed.questions(3))
    assert await shadowed.observed(app) == []
    assert await shadowed.shed(app) == (0, 3)
    await steps.rows(app, "DELETE FROM revec.pulse RETURNING 1")
    await shadowed.ask(app, *shadowed.questions(3))
    assert len(await shadowed.observed(app)) == 3


# --- the sample ----------------------------------------------------------------------------------------------

texts = st.lists(st.text(min_size=1), min_size=1, max_size=30)


@given(texts, st.sampled_from(["default", "other"]), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_rate_keeps_the_sample(queries: list[str], tenant: str, one: float, other: float) -> None:
    """With the first ones of each tenant and without them: nested, whatever was asked in which order."""
    low, high = sorted((one, other))
    small, large = Firsts(), Firsts()
    for query in queries:
        hashed = Question(query, tenant, Mode.HYBRID, None).hashed("salt")
        few = chosen(low, hashed, first=small.takes(1, tenant, hashed))
        many = chosen(high, hashed, first=large.takes(1, tenant, hashed))
        assert few is None or many is not None
        assert few is not Chosen.RATE or many is Chosen.RATE


def test_a_rate_is_the_share_that_it_says() -> None:
    """Of ten thousand questions 5% within four standard deviations; all of them for 1, none for 0."""
    hashes = [Question(f"q{n}", "t", Mode.HYBRID, None).hashed("salt") for n in range(10_000)]
    assert abs(sum(place(each) < 0.05 for each in hashes) - 500) < 4 * math.sqrt(500)
    assert all(chosen(1.0, each, first=False) for each in hashes)
    assert not any(chosen(0.0, each, first=False) for each in hashes)


async def test_every_tenant_is_seen_at_least_a_little(app: App, loopback: Loopback) -> None:
    """A rate that chooses nobody, and each tenant's first questions are observed, of which no gate counts one."""
    made = await compared(app, rate=1e-9)
    for tenant in ("one", "two", "three"):
        await shadowed.ask(app, *shadowed.questions(FEW + 3), tenant=tenant)
    rows = await shadowed.observed(app)
    assert {(row.tenant, row.chosen) for row in rows} == {(t, "tenant") for t in ("one", "two", "three")}
    assert len(rows) == 3 * FEW
    report = await app.commands.shadow.report(made)
    assert (report["questions"], report["tenants"], report["first_of_tenants"]) == (0, 3, 3 * FEW)


# --- causes --------------------------------------------------------------------------------------------------

HERE = "SELECT id FROM revec.document WHERE key = '3'"


async def causes_of(app: App, query: str = "what is document 3", **how: Any) -> Any:
    await shadowed.ask(app, query, **how)
    return await shadowed.one(app)


async def same_space(app: App, count: int = 20) -> Collection:
    """Two exact indexes of one model: whatever differs was planted."""
    made = await steps.ready(app, count, to=steps.OLD, kind=Kind.HNSW)
    await steps.rows(app, "UPDATE revec.index SET kind = 'exact' WHERE id = 2 RETURNING 1")
    await shadowed.on(app, made)
    return made


async def test_equal_indexes_differ_in_nothing(app: App, loopback: Loopback) -> None:
    """The complement of all that follows: one space, one content, the same answers."""
    await same_space(app)
    seen = await causes_of(app)
    assert (seen.overlap, seen.rbo, seen.same_first) == (1.0, 1.0, True)
    assert (seen.lost, seen.gained) == ({}, {})


async def first_of(app: App, query: str = "what is document 3") -> str:
    """The document that both show first, by its id."""
    reading = await app.retriever.search("c", query, tenant="default", k=1)
    (row,) = await steps.rows(app, "SELECT id FROM revec.document WHERE key = %(k)s", k=reading.hits[0].id)
    return str(row.id)


async def test_missing_and_stale_documents_are_named(app: App, loopback: Loopback) -> None:
    """What the new index lacks, and what it has an old content of."""
    made = await same_space(app)
    async with app.database.transaction() as conn:
        await shadows.off(conn, made.id, "test")
    first = await first_of(app)
    await shadowed.on(app, made)
    await steps.rows(app, f"DELETE FROM revec.vectors_2 WHERE doc_id = {first} RETURNING 1")
    seen = await causes_of(app)
    assert seen.lost == {Cause.MISSING: 1}
    assert (set(seen.gained), seen.same_first) == ({Cause.MODEL}, False)


async def test_a_stale_vector_is_named(app: App, loopback: Loopback) -> None:
    """Both indexes have something; the new one has it of another content."""
    made = await same_space(app)
    async with app.database.transaction() as conn:
        await shadows.off(conn, made.id, "test")
    first = await first_of(app)
    await shadowed.on(app, made)
    await steps.rows(
        app,
        "UPDATE revec.vectors_2 SET input_hash = 'old', embedding ="
        " (SELECT ('[' || string_agg((-x)::text, ',') || ']')::halfvec"
        "    FROM unnest(string_to_array(trim(both '[]' FROM embedding::text), ',')::float8[]) AS x)"
        f" WHERE doc_id = {first} RETURNING 1",
    )
    assert (await causes_of(app)).lost == {Cause.STALE: 1}


async def test_what_an_exact_scan_would_have_shown_is_the_approximation(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph misses a document that is there, current, and among the nearest."""
    await same_space(app)
    await steps.rows(app, "UPDATE revec.index SET kind = 'hnsw' WHERE id = 2 RETURNING 1")

    async def forgetful(conn: Any, index: Index, query: Any, how: Any) -> Any:
        return (await app.store.nearest(conn, index, query, **how))[1:]

    app.dual_reader._store = Candidate(app.store, forgetful)
    seen = await causes_of(app)
    assert seen.lost == {Cause.ANN: 1}
    assert set(seen.gained) == {Cause.MODEL}


async def test_what_ranks_otherwise_is_the_model(app: App, loopback: Loopback) -> None:
    """Two models on the same documents, both complete: nothing else is to blame."""
    await compared(app, count=60)
    seen = await causes_of(app)
    assert 0 < seen.overlap < 1
    assert set(seen.lost) == set(seen.gained) == {Cause.MODEL}


async def test_a_tie_is_no_loss_to_anybody(app: App, loopback: Loopback) -> None:
    """Documents of one text: which of them is shown says nothing."""
    made = await same_space(app)
    same = [steps.Draft(str(n), "twin", "the very same text") for n in range(100, 130)]
    await steps.put(app, made, same)
    await steps.drain(app)

    async def backwards(conn: Any, index: Index, query: Any, how: Any) -> Any:
        found = await app.store.nearest(conn, index, query, **{**how, "limit": 200})
        return sorted(found, key=lambda each: (-each[1], -each[0]))[: how["limit"]]

    app.dual_reader._store = Candidate(app.store, backwards)
    seen = await causes_of(app, "twin the very same text")
    assert seen.overlap < 1
    assert set(seen.lost) | set(seen.gained) <= {Cause.TIE, Cause.MODEL}
    assert Cause.TIE in seen.lost


async def test_what_was_written_between_the_arms_is_flagged(app: App, loopback: Loopback) -> None:
    """Whatever they show of it, that pair says nothing of the indexes."""
    made = await same_space(app)

    async def meanwhile(conn: Any, index: Index, query: Any, how: Any) -> Any:
        found = await app.store.nearest(conn, index, query, **how)
        (row,) = await steps.rows(app, f"SELECT key FROM revec.document WHERE id = {found[0][0]}")
        await steps.put(app, made, [steps.Draft(row.key, "edited", "meanwhile")])
        return found[1:]

    app.dual_reader._store = Candidate(app.store, meanwhile)
    seen = await causes_of(app)
    assert seen.changed
    report = await app.commands.shadow.report(made)
    assert (report["variance"]["n"], report["variance"]["changed"]) == (0, 1)


def test_each_cause_is_the_first_that_is_true() -> None:
    """By hand: of a document that one side does not show."""

    class Row:
        doc_id, rev, visible, has, fresh = 7, 5, True, True, True

    hits = [Hit(str(n), 1.0 - n / 100, "", "t", "s") for n in range(12)]
    side = Side(Arm(Outcome.OK, hits, 0, 0), lambda row: row.has, lambda row: row.fresh, frozenset())

    def why(key: str = "99", side: Side = side, horizon: int = 9, **how: Any) -> Cause:
        row = type("R", (Row,), how)
        return side.why_not(row, ("s", key), horizon)

    assert why() is Cause.MODEL
    assert why(doc_id=None, has=False) is Cause.FILTER
    assert why(visible=False, rev=20) is Cause.FILTER
    assert why(horizon=4, has=False) is Cause.CHANGED
    assert why(has=False, fresh=False) is Cause.MISSING
    assert why(fresh=False) is Cause.STALE
    assert why("10") is Cause.MODEL
    tied = replace(side, arm=Arm(Outcome.OK, [*hits[:10], replace(hits[10], score=hits[9].score)], 0, 0))
    assert why("10", tied) is Cause.TIE
    assert why(side=replace(side, exact=frozenset({7}))) is Cause.ANN
    assert why(side=replace(side, exact=None)) is Cause.UNKNOWN
    assert arms.AT == 10


# --- pairs ---------------------------------------------------------------------------------------------------


async def test_a_shadow_is_pointed_elsewhere_and_back(app: App, loopback: Loopback) -> None:
    """What was seen of a pair stays its own, whatever shadows meanwhile."""
    made = await compared(app)
    await shadowed.ask(app, *shadowed.questions(2))
    await steps.rows(
        app,
        "INSERT INTO revec.index (collection_id, space_id, query, kind)"
        " SELECT collection_id, space_id, query, kind FROM revec.index WHERE id = 2 RETURNING id",
    )
    await steps.rows(app, "SELECT 1")
    async with app.database.transaction() as conn:
        await conn.execute("CREATE TABLE revec.vectors_3 (LIKE revec.vectors_2 INCLUDING ALL)")
        await conn.execute("SELECT revec.protect('revec.vectors_3', 'tenant')")
    shadow = app.commands.shadow
    await shadow.point(made, rate=None, to="3")
    await shadowed.ask(app, *shadowed.questions(3))
    report = await shadow.report(made)
    assert (report["candidate"], report["questions"]) == (f"{steps.NEW}#3", 3)
    assert report["variance"]["lost"].keys() == {Cause.MISSING}
    await shadow.point(made, rate=None, to="2")
    report = await shadow.report(made)
    assert (report["candidate"], report["questions"]) == (f"{steps.NEW}#2", 2)
    await steps.rows(app, "UPDATE revec.index SET writing = false WHERE id = 3 RETURNING 1")


async def test_after_a_cutover_the_old_index_shadows_a_little(app: App, loopback: Loopback) -> None:
    """By itself, so that it stays warm and measured; after a rollback the new one does again."""
    made = await compared(app)
    await shadowed.ask(app, "before")
    await app.commands.switch.cutover(made, why="test")
    route, _ = await app.retriever.route("c")
    assert (route.shadow.candidate, route.shadow.rate) == (1, 0.02)
    await steps.rows(app, "UPDATE revec.shadow SET rate = 1e-6 RETURNING 1")  # nobody is drawn by it
    assert (await app.retriever.route("c"))[0].shadow.rate == 1e-6
    await shadowed.ask(app, *shadowed.questions(3))
    rows = await shadowed.observed(app)
    assert {(row.serving, row.candidate, row.chosen) for row in rows} == {(1, 2, "rate"), (2, 1, "tenant")}
    await app.commands.switch.rollback(made, why="test", now=True)
    assert (await app.retriever.route("c"))[0].shadow.candidate == 2
    await steps.assert_oracle(app, made)


async def test_a_replay_is_the_same_evidence(app: App, loopback: Loopback) -> None:
    """A log read at idle says of each query what its live search would have said; twice says it once."""
    made = await compared(app)
    queries = shadowed.questions(5)
    route, index = await app.retriever.route("c")
    served = Served("c", route, index)

    async def replayed(weight: int) -> list[bool]:
        how = {"tenant": "default", "mode": Mode.VECTOR, "weight": weight}
        return [await app.dual_reader.replay(served, query, **how) for query in queries]

    assert await replayed(3) == [True] * 5
    logged = await shadowed.observed(app)
    assert {(row.chosen, row.weight) for row in logged} == {("replay", 3)}
    assert await replayed(1) == [False] * 5
    await steps.rows(app, "DELETE FROM revec.observation RETURNING 1")
    await shadowed.ask(app, *queries)
    live = await shadowed.observed(app)
    told = ("query", "overlap", "rbo", "same_first", "floor_overlap", "lost", "gained", "documents")
    # Behind their answers, live ones end in any order.
    assert sorted([getattr(row, name) for name in told] for row in live) == sorted(
        [getattr(row, name) for name in told] for row in logged
    )
    await steps.assert_oracle(app, made)


async def test_what_is_old_or_too_much_goes(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fourteen days, and so many of a collection: the newest stay."""
    made = await compared(app)
    await shadowed.ask(app, *shadowed.questions(6))
    await steps.rows(
        app, "UPDATE revec.observation SET at = now() - interval '15 days' WHERE id = 1 RETURNING 1"
    )
    monkeypatch.setattr(shadows, "MOST_KEPT", 3)
    async with app.database.transaction() as conn:
        await shadows.prune(conn, made.id)
    assert [row.id for row in await shadowed.observed(app)] == [4, 5, 6]


async def test_work_and_searches_of_others_go_on(app: App, loopback: Loopback) -> None:
    """A hundred searches at once while everything is read twice: all are answered, all rows are whole."""
    made = await compared(app)
    await asyncio.gather(
        *[app.retriever.search("c", query, tenant="default") for query in shadowed.questions(60)]
    )
    await shadowed.settled(app)
    taken, dropped = await shadowed.shed(app)
    assert taken + dropped == 60
    rows = await shadowed.observed(app)
    assert len(rows) == taken
    assert {(row.again_outcome, row.new_outcome) for row in rows} == {("ok", "ok")}
    assert await hands.work(app) == []
    await steps.assert_oracle(app, made)
