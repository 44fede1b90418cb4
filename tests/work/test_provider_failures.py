"""A provider that fails, refuses or lies: no document pays for it, and nothing wrong is written."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from revec.app import App
from revec.model.document import text_hash
from revec.work import calls, pack
from tests import steps
from tests.loopback import Loopback
from tests.work import hands

POISON = "poison"


OUTAGES: list[tuple[str, dict[str, Any], str]] = [
    ("503", {}, "failed (503"),
    ("401", {}, "refused the API key (401)"),
    ("429", {"retry_after": "0.02"}, "asks us to slow down (429"),
    ("429", {"retry_after": "3600"}, "asks us to slow down (429"),
]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rests of milliseconds, where people's are seconds."""
    monkeypatch.setattr(calls, "REST", (0.01, 1.0))
    monkeypatch.setattr(pack, "OUTAGE_PAUSE", 0.05)


async def test_an_outage_burns_nobody(any_app: App, loopback: Loopback) -> None:
    """No attempt, no dead letter; the drain ends and says why; the next one finishes."""
    app = any_app
    made, _ = await hands.indexed(app)
    for round_, (kind, more, sentence) in enumerate(OUTAGES):
        await steps.put(app, made, steps.drafts(20, word=f"{round_}"))
        loopback.fault(kind, times=None, **more)
        async with asyncio.timeout(hands.PATIENCE):
            summary = await steps.drain(app, claim=2)
        assert sentence in "; ".join(summary.stuck), kind
        assert summary.stuck[0].startswith("openai:fake-64 at "), kind
        rows = await hands.work(app)
        assert [(row.attempts, row.token) for row in rows] == [(0, None)] * 20, kind
        assert await steps.rows(app, "SELECT FROM revec.dead") == [], kind
        assert await hands.paid(app) == [], kind
        loopback.clear()
        assert (await steps.drain(app)).stuck == [], kind
        await hands.assert_oracle(app, made)


async def test_a_provider_that_fails_in_mid_claim(app: App, loopback: Loopback) -> None:
    """What it had answered before is written, also where it had just refused another text."""
    made, index = await hands.indexed(app)
    await steps.put(app, made, [*steps.drafts(7), *steps.drafts(1, start=7, word=f"longer {POISON}")])
    loopback.fault("refuse", times=1)  # so that the eight are halved
    loopback.fault("503", times=1, match=POISON)
    await hands.step(app)
    assert await hands.paid(app) == []
    assert [(row.attempts, row.token) for row in await hands.work(app)] == [(0, None)]
    assert len(await steps.stored(app, index)) == 7
    await steps.drain(app)
    await hands.assert_oracle(app, made)
    good = [line["text"] for line in loopback.bill() if not line["fault"]]
    assert len(good) == len(set(good))


async def test_a_superseded_vector_outlives_a_failure(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim's first pack is superseded, its second meets an outage: the first was paid for once."""
    monkeypatch.setattr("revec.work.packing.INPUTS", 1)
    made, _ = await hands.indexed(app)
    first, second = steps.drafts(1, word="a"), steps.drafts(1, start=1, word="a longer text")
    await steps.put(app, made, [*first, *second])
    loopback.fault("503", times=1, match="longer")
    async with hands.embedding(app, loopback):
        await steps.put(app, made, steps.drafts(1, word="edited"))
    assert [kept.kept for kept in await hands.paid(app)] == [True]
    await steps.put(app, made, first)
    await steps.drain(app)
    await hands.assert_oracle(app, made)
    text = f"{first[0].title}\n{first[0].body}"
    assert [line["text"] for line in loopback.bill()].count(text_hash(text).hex()) == 1


async def test_a_poison_text_is_found_and_buried(any_app: App, loopback: Loopback) -> None:
    """Of 40 documents exactly the poisonous one, with its cause and without its text."""
    app = any_app
    made, index = await hands.indexed(app)
    sound = steps.drafts(39)
    await steps.put(app, made, [*sound, *steps.drafts(1, start=39, word=POISON)])
    loopback.fault("refuse", times=None, match=POISON)
    asked = loopback.requests()["requests"]
    summary = await hands.step(app)
    extra = loopback.requests()["requests"] - asked - 1
    assert (summary.written, summary.buried, summary.embedded) == (39, 1, 39)
    assert extra <= math.ceil(math.log2(40)) + 1
    assert len(await steps.stored(app, index)) == 39
    (dead,) = await steps.rows(
        app, "SELECT d.*, doc.key FROM revec.dead d JOIN revec.document doc ON doc.id = d.doc_id"
    )
    assert dead.key == "39"
    assert "refused the input" in dead.cause
    assert POISON not in str(dead)
    assert await hands.work(app) == []
    assert await hands.paid(app) == []
    await steps.put(app, made, steps.drafts(1, start=39, word="antidote"))
    await steps.drain(app)
    assert await steps.rows(app, "SELECT FROM revec.dead") == []
    await hands.assert_oracle(app, made)


async def test_an_invalid_answer_stops_the_index(any_app: App, loopback: Loopback) -> None:
    """A fault with its reason, nothing written, all work kept; after `resume` everything is."""
    app = any_app
    made, index = await hands.indexed(app)
    for round_, kind in enumerate(("nan", "dims", "fewer", "index0")):
        before = len(await steps.stored(app, index))
        await steps.put(app, made, steps.drafts(5, start=5 * round_))
        loopback.fault(kind, times=1)
        await hands.step(app)
        ((fault,),) = await steps.rows(app, "SELECT fault FROM revec.index")
        assert fault.startswith("openai:fake-64 at "), kind
        assert "nothing was written" in fault, kind
        assert len(await steps.stored(app, index)) == before, kind
        rows = await hands.work(app)
        assert [(row.attempts, row.token) for row in rows] == [(0, None)] * 5, kind
        (lifted,) = await app.commands.resume(made)
        assert fault in lifted, kind
        await steps.drain(app)
        await hands.assert_oracle(app, made)


async def test_one_models_outage_does_not_end_anothers_work(app: App, loopback: Loopback) -> None:
    """A drain goes on for as long as another model has something to do, however slowly."""
    failing, _ = await hands.indexed(app, "c", steps.OLD)
    working, index = await hands.indexed(app, "d", steps.NEW)
    await steps.put(app, failing, steps.drafts(9, word="refused"))
    await steps.put(app, working, steps.drafts(1, word="answered"))
    loopback.fault("503", times=None, match="refused")
    loopback.hold()
    draining = app.worker(claim=1)
    looks = 0
    outstanding = draining._outstanding

    async def looked() -> list[str]:
        nonlocal looks
        looks += 1
        return await outstanding()

    draining._outstanding = looked
    running = asyncio.create_task(draining.run(drain=True))

    async def has_failed_often() -> bool:
        async with app.database.transaction() as conn:
            rests = [row.rest for row in await calls.resting(conn)]
        return bool(rests) and min(rests) >= 8 * calls.REST[0]

    await hands.until(has_failed_often)
    was = looks

    async def has_looked_again() -> bool:
        return looks > was + 2

    await hands.until(has_looked_again)
    await steps.put(app, working, steps.drafts(5, start=1, word="answered"))
    loopback.release()
    summary = await running
    assert any("openai:fake-64" in why for why in summary.stuck), summary
    assert len(await steps.stored(app, index)) == 6
    loopback.clear()
    await steps.drain(app)
    for made in (failing, working):
        await hands.assert_oracle(app, made)
