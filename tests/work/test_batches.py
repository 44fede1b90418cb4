"""The batch lane: half the price, nothing lost, nothing paid twice, and the same vectors as ever."""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from revec import app as wiring
from revec.app import App
from revec.model.document import Draft, text_hash
from revec.model.errors import BadInput
from revec.model.index import Collection
from revec.providers import _batches
from revec.work import batches, calls, gather
from revec.work.batches import Batcher
from revec.work.gather import Gatherer, batches_of
from revec.work.memory import Memory
from revec.work.pack import Worksite
from tests import steps
from tests.loopback import Loopback
from tests.work import hands

COUNT = 20
MODEL = "fake-b-96"
BATCHED = (f"openai:{MODEL}", f"gemini:{MODEL}")
KILLS = (
    "batch_intended",
    "batch_uploaded",
    "batch_submitted",
    "batch_answered",
    "batch_kept",
    "batch_collected",
)


class Killed(BaseException):
    """In the place of a kill: what was not committed is gone."""


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds, where people's are seconds."""
    hurry(monkeypatch)


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "PAUSES", (0.02, 0.05))
    monkeypatch.setattr(batches, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(batches, "SURE", 0.2)
    monkeypatch.setattr(calls, "REST", (0.01, 1.0))


@pytest.fixture(params=BATCHED)
def to(request: pytest.FixtureRequest) -> str:
    """The new model."""
    return request.param


async def begun(
    app: App, loopback: Loopback, to: str = steps.NEW, *, count: int = COUNT, **how: Any
) -> Collection:
    """A collection that serves, and a patient migration of it; the bill is empty."""
    made = await steps.filled(app, count)
    loopback._call("DELETE", "/bill")
    await app.start(made, to, patient=True, **how)
    return made


def batcher(app: App) -> Batcher:
    return Batcher(
        database=app.database,
        store=app.store,
        provider_for=app.provider,
        memory=Memory(),
        holder=uuid4(),
        lease=0.3,
    )


async def step(app: App) -> None:
    """One look, by a worker that was not there before."""
    fresh = batcher(app)
    await hands.until(lambda: _ticked(fresh))
    await fresh.leave()


async def _ticked(fresh: Batcher) -> bool:
    fresh._quiet_until = 0.0
    return await fresh.tick()


async def enqueued(app: App) -> None:
    """A conductor has been there, and nobody else."""
    from tests.migrate import world

    await world.tick(app, 6)


async def submitted(app: App, loopback: Loopback, to: str = steps.NEW) -> Collection:
    """A batch is with the provider, which works on it when told to."""
    made = await begun(app, loopback, to)
    loopback.batch(at_once=False)
    await enqueued(app)
    await step(app)
    assert await states(app) == ["submitted"]
    return made


async def states(app: App) -> list[str]:
    return [row.state for row in await steps.rows(app, "SELECT state FROM revec.batch ORDER BY id")]


def bill(loopback: Loopback, *, batch: bool) -> Counter[str]:
    """The texts of the new model; those that are embedded to verify are not of the backfill."""
    lines = [line for line in loopback.bill() if line["model"] == MODEL and line["batch"] is batch]
    return Counter(line["text"] for line in lines)


async def texts(app: App) -> set[str]:
    rows = await steps.rows(app, "SELECT title, body FROM revec.document")
    return {text_hash(f"{row.title}\n{row.body}").hex() for row in rows}


async def unverified(app: App) -> None:
    """No text is paid for only to verify."""
    await steps.rows(app, "UPDATE revec.migration SET gates = '{completeness}' RETURNING id")


async def assert_paid_once(app: App, made: Collection, loopback: Loopback) -> None:
    """By batches alone, each text once; all is written, and nothing is left beside it."""
    paid = bill(loopback, batch=True)
    assert paid.keys() == await texts(app)
    assert max(paid.values()) == 1
    assert set(await states(app)) == {"done"}
    assert await steps.rows(app, "SELECT FROM revec.batch_member") == []
    assert await steps.rows(app, "SELECT FROM revec.paid WHERE vector IS NOT NULL") == []
    await steps.assert_oracle(app, made)


async def test_a_patient_backfill_ends_like_any_other(any_app: App, loopback: Loopback, to: str) -> None:
    """The same vectors, by batches, at half the price; no text stays at the provider."""
    app = any_app
    made = await begun(app, loopback, to)
    summary = await steps.drain_soon(app)
    assert summary.stuck == []
    await assert_paid_once(app, made, loopback)
    assert loopback.batches()["files"] == []
    ((state,),) = await steps.rows(app, "SELECT state FROM revec.migration WHERE patient")
    assert state == "ready"


async def test_batches_are_in_the_ledger_at_half_the_price(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    """Tokens as billed, the price halved, the migration's `spent` the same."""
    monkeypatch.setattr(gather, "price", lambda _: Decimal(2))
    await begun(app, loopback, to)
    await steps.drain_soon(app)
    ((tokens, price, outcome, inputs),) = await steps.rows(
        app, "SELECT tokens, price, outcome, inputs FROM revec.call WHERE model LIKE '%%+batch'"
    )
    assert (price, outcome, inputs) == (Decimal(1), "ok", COUNT)
    ((spent,),) = await steps.rows(app, "SELECT spent FROM revec.migration WHERE patient")
    billed = sum(len(f"document {n}\ntext of document {n}") // 4 + 1 for n in range(COUNT))
    assert tokens == billed
    assert float(spent) == pytest.approx(billed / 1e6)


async def test_a_budget_stops_before_the_batch(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent that it does not pay for; more money, and it goes on."""
    monkeypatch.setattr(gather, "price", lambda _: Decimal(1000))
    monkeypatch.setattr("revec.migrate.commands.price", lambda _: Decimal(1000))
    made = await begun(app, loopback, budget=Decimal("0.0001"))
    await steps.drain_soon(app)
    assert loopback.batches()["uploads"] == 0
    assert bill(loopback, batch=True) == Counter()
    ((why,),) = await steps.rows(app, "SELECT paused_why FROM revec.migration WHERE patient")
    assert "its budget" in why
    await app.commands.resume(made, budget=Decimal(10))
    await steps.drain_soon(app)
    await assert_paid_once(app, made, loopback)


async def test_an_edit_and_a_delete_while_the_batch_is_out(app: App, loopback: Loopback) -> None:
    """Both are done at once; what the batch brings for them is not written, and kept for a day."""
    made = await submitted(app, loopback)
    await steps.put(app, made, steps.drafts(1, word="edited"))
    await steps.delete(app, made, "1")
    await hands.step(app)
    await hands.step(app)
    assert await steps.rows(app, "SELECT FROM revec.work WHERE not_before < 'infinity'") == []
    loopback.finish()
    await steps.drain_soon(app)
    kept = {row.text_hash.hex() for row in await hands.paid(app)}
    assert kept == {text_hash(f"document {n}\ntext of document {n}").hex() for n in (0, 1)}
    await steps.assert_oracle(app, made)
    assert max((bill(loopback, batch=True)).values()) == 1


async def test_an_edit_as_the_batch_is_collected(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the last answer was kept, before its document was due: the edit wins."""
    made = await submitted(app, loopback)
    loopback.finish()
    real = Batcher._end

    async def edited_first(self: Batcher, *args: Any) -> None:
        await steps.put(app, made, steps.drafts(1, word="edited"))
        await real(self, *args)

    monkeypatch.setattr(Batcher, "_end", edited_first)
    await step(app)
    assert await states(app) == ["collected"]
    await steps.drain_soon(app)
    await steps.assert_oracle(app, made)


async def test_an_edit_as_a_batch_is_written(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claimed, read, its vector found: the edit that comes then wins behind the fence."""
    made = await submitted(app, loopback)
    index = (await steps.written(app, made))[1]
    await hands.watch(app, index)
    loopback.finish()
    await step(app)
    assert await states(app) == ["collected"]
    real, edits = Worksite._write_once, iter([steps.drafts(1, word="edited")])

    async def edited_first(self: Worksite, *args: Any) -> Any:
        for drafts in edits:
            await steps.put(app, made, drafts)
        return await real(self, *args)

    monkeypatch.setattr(Worksite, "_write_once", edited_first)
    await hands.step(app)
    await steps.drain_soon(app)
    await hands.assert_oracle(app, made)


@pytest.mark.parametrize("name", KILLS)
async def test_killed_anywhere_nothing_is_paid_twice(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch, name: str, to: str
) -> None:
    """The next worker finds the batch where it was, or that there is none."""
    made = await begun(app, loopback, to)
    await enqueued(app)

    def killed(place: str) -> None:
        if place == name:
            raise Killed

    monkeypatch.setattr(batches, "failpoint", killed)
    with pytest.raises(Killed):
        for _ in range(3):
            await step(app)
    monkeypatch.setattr(batches, "failpoint", lambda _: None)
    await steps.drain_soon(app)
    await assert_paid_once(app, made, loopback)
    assert len([each for each in loopback.batches()["batches"] if each["status"] == "done"]) == 1


async def test_an_answer_that_is_lost_is_no_second_batch(app: App, loopback: Loopback, to: str) -> None:
    """The provider hangs up after it took the batch: it is found by its mark."""
    made = await begun(app, loopback, to)
    loopback.batch(kind="lost")
    await steps.drain_soon(app)
    assert len(loopback.batches()["batches"]) == 1
    await assert_paid_once(app, made, loopback)


@pytest.mark.parametrize("kind", ["expire", "missing", "fail", "full"])
async def test_what_a_batch_did_not_answer_is_in_the_next_one(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch, kind: str, to: str
) -> None:
    """Only that, and nothing of it is lost."""
    monkeypatch.setattr(_batches, "FULL_PAUSE", 0.05)
    made = await begun(app, loopback, to)
    loopback.batch(kind=kind)
    await steps.drain_soon(app)
    if kind == "missing":  # it was billed, and nobody can know for what
        assert sorted(bill(loopback, batch=True).values())[-2:] == [1, 2]
        await steps.assert_oracle(app, made)
    else:
        await assert_paid_once(app, made, loopback)
    assert len(loopback.batches()["batches"]) == 2


async def test_a_batch_that_nobody_takes_leaves_no_file(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    """No room for it, said as it is submitted: its texts are brought again when there is."""
    monkeypatch.setattr(_batches, "FULL_PAUSE", 0.05)
    made = await begun(app, loopback, to)
    loopback.batch(kind="busy", times=2)
    await steps.drain_soon(app)
    seen = loopback.batches()
    assert (seen["uploads"], len(seen["batches"]), seen["files"]) == (3, 1, [])
    await assert_paid_once(app, made, loopback)


async def test_a_batch_is_no_larger_than_the_provider_has_room_for(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    """In tokens: one that is would be refused for ever. What is alone too large is embedded at once."""
    monkeypatch.setattr(type(batches_of(await app.provider(to))), "max_tokens", 100)
    made = await begun(app, loopback, to, count=12)
    await unverified(app)
    await steps.put(app, made, [Draft("long", body="many words " * 100)])
    await steps.drain_soon(app)
    sizes = [row.tokens for row in await steps.rows(app, "SELECT tokens FROM revec.batch")]
    assert len(sizes) > 1
    assert max(sizes) <= 100
    assert text_hash("many words " * 100).hex() not in bill(loopback, batch=True)
    await steps.assert_oracle(app, made)


async def test_answers_come_in_any_order(app: App, loopback: Loopback, to: str) -> None:
    """Each says whose it is."""
    made = await begun(app, loopback, to)
    loopback.batch(kind="permuted")
    await steps.drain_soon(app)
    await assert_paid_once(app, made, loopback)


async def test_after_some_tries_the_rest_is_embedded_at_once(app: App, loopback: Loopback, to: str) -> None:
    """A text that batches never answer is not waited for for ever."""
    made = await begun(app, loopback, to)
    await unverified(app)
    loopback.batch(kind="error", match="document 7")
    await steps.drain_soon(app)
    assert len(loopback.batches()["batches"]) == batches.TRIES
    at_once = bill(loopback, batch=False).keys() - bill(loopback, batch=True).keys()
    assert text_hash("document 7\ntext of document 7").hex() in at_once
    await steps.assert_oracle(app, made)


async def test_a_refused_text_is_a_dead_letter(app: App, loopback: Loopback, to: str) -> None:
    """Its document alone, with the provider's cause and without its text; an edit brings it back."""
    made = await begun(app, loopback, to)
    loopback.batch(kind="refuse", match="document 7")
    loopback.fault("refuse", times=None, match="document 7")
    await steps.drain_soon(app)
    (dead,) = await steps.rows(
        app, "SELECT d.cause, doc.key FROM revec.dead d JOIN revec.document doc ON doc.id = d.doc_id"
    )
    assert dead.key == "7"
    assert "refused the input (400: the input is not to our taste)" in dead.cause
    assert len(loopback.batches()["batches"]) == 1
    await steps.put(app, made, steps.drafts(1, start=7, word="mended"))
    await steps.drain_soon(app)
    assert await steps.rows(app, "SELECT FROM revec.dead") == []
    await steps.assert_oracle(app, made)


@pytest.mark.parametrize("wrong", ["garbled", "nameless"])
async def test_an_answer_that_is_none_stops_the_index(
    app: App, loopback: Loopback, wrong: str, to: str
) -> None:
    """Nothing of it is written; a person lifts the fault, and the next batch is collected."""
    made = await begun(app, loopback, to)
    loopback.batch(kind=wrong)
    await steps.drain_soon(app)
    faults = [row.fault for row in await steps.rows(app, "SELECT fault FROM revec.index ORDER BY id")]
    assert faults[0] is None
    assert "nothing was written" in str(faults[1])
    await app.commands.resume(made)
    await steps.drain_soon(app)
    await steps.assert_oracle(app, made)


async def test_a_drain_does_not_wait_for_a_day(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves well, status says what is out, and a later worker collects it."""
    monkeypatch.setattr(wiring, "DRAIN_PATIENCE", 0.2)
    made = await begun(app, loopback)
    loopback.batch(at_once=False)
    summary = await steps.drain_soon(app)
    assert summary.stuck == []
    from tests.migrate import world

    seen = await world.look(app, made)
    assert seen.patient
    (batch,) = seen.batches
    assert batch.startswith(f"a batch of {COUNT} documents is with openai:fake-b-96 since ")
    assert batch in seen.next
    loopback.finish()
    await steps.drain_soon(app)
    await assert_paid_once(app, made, loopback)


async def test_whoever_is_waited_for_does_not_wait_for_a_batch(app: App, loopback: Loopback) -> None:
    """A document in a batch that somebody asks for is embedded at once."""
    made = await submitted(app, loopback)
    index = (await steps.written(app, made))[1]
    ((doc_id,),) = await steps.rows(app, "SELECT id FROM revec.document WHERE key = '3'")
    from revec.work import queue

    async with app.database.transaction("worker") as conn:
        await queue.enqueue(conn, index.id, [doc_id])
    await hands.step(app)
    assert [*await steps.stored(app, index)] == [doc_id]
    loopback.finish()
    await steps.drain_soon(app)
    await steps.assert_oracle(app, made)


async def test_equal_texts_are_in_one_batch_only(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where their documents are in two."""
    monkeypatch.setattr(gather, "FULL", 5)
    made = await steps.collection(app)
    same = [Draft(str(n), body=f"one of {n % 7}") for n in range(30)]
    await steps.put(app, made, same)
    await steps.drain(app)
    loopback._call("DELETE", "/bill")
    loopback.batch(at_once=False)
    await app.start(made, steps.NEW, patient=True)
    draining = asyncio.create_task(steps.drain_soon(app))

    async def two_are_out() -> bool:
        return len(loopback.batches()["batches"]) == 2

    await hands.until(two_are_out)
    loopback.finish()
    loopback.batch(at_once=True)
    await draining
    paid = bill(loopback, batch=True)
    assert (len(paid), max(paid.values())) == (7, 1)
    await steps.assert_oracle(app, made)


async def test_two_workers_submit_once(app: App, loopback: Loopback) -> None:
    """One of them holds the lease."""
    made = await begun(app, loopback)
    await asyncio.gather(steps.drain_soon(app), steps.drain_soon(app))
    assert len(loopback.batches()["batches"]) == 1
    await assert_paid_once(app, made, loopback)


async def test_a_document_is_in_one_batch_at_a_time(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where two gather at once, because one of them was thought dead."""
    made = await begun(app, loopback)
    await enqueued(app)
    loopback.batch(at_once=False)
    both, turn, real = asyncio.Barrier(2), asyncio.Lock(), Gatherer._intend

    async def one_after_the_other(self: Gatherer, *args: Any) -> Any:
        await both.wait()
        async with turn:
            return await real(self, *args)

    monkeypatch.setattr(Gatherer, "_intend", one_after_the_other)
    fresh = [batcher(app), batcher(app)]
    (row,) = await steps.rows(app, "SELECT new_index, id FROM revec.migration WHERE patient")
    await asyncio.gather(*(each._tried(row.new_index, each._begin, row.id) for each in fresh))
    monkeypatch.setattr(Gatherer, "_intend", real)
    assert await states(app) == ["submitted"]
    loopback.finish()
    await steps.drain_soon(app)
    await assert_paid_once(app, made, loopback)


async def test_an_abort_cancels_the_batch(app: App, loopback: Loopback, to: str) -> None:
    """Nobody pays for what nobody wants, and no text stays there."""
    made = await submitted(app, loopback, to)
    await app.commands.abort(made, "not wanted")
    await steps.drain_soon(app)
    fresh = batcher(app)

    async def cancelled() -> bool:
        await _ticked(fresh)
        return [each["status"] for each in loopback.batches()["batches"]] == ["cancelled"]

    await hands.until(cancelled)
    assert await states(app) == ["done"]
    assert loopback.batches()["files"] == []
    await steps.assert_oracle(app, made)


async def test_who_takes_no_batches_is_refused_at_once(app: App, loopback: Loopback) -> None:
    """Nothing is written; the sentence says what to leave out."""
    made = await steps.filled(app, 3)
    with pytest.raises(BadInput, match="has no batch API that Revec speaks: leave --patient out"):
        await app.start(made, "local:wordllama-256", patient=True)
    assert len(await steps.rows(app, "SELECT FROM revec.migration")) == 1
