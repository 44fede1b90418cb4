"""Calls to providers: within the limits, within the money, and no storm on one that is ill."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from revec.app import App
from revec.model.errors import Trouble
from revec.model.index import Collection
from revec.model.migration import Migration, State
from revec.postgres import migrations
from revec.work import calls, pack
from revec.work.calls import Ask, Report, Turn
from revec.work.queue import BACKFILL, JIT, LIVE
from tests import steps
from tests.loopback import Loopback
from tests.work import hands

MODEL = "sim:model"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LIMIT = 60_000.0  # tokens a minute: a thousand a second


class Desk:
    """Asks and reports at moments of the test's own."""

    def __init__(self, app: App, model: str = MODEL) -> None:
        self.app, self.model = app, model

    async def declare(self, tokens: float = LIMIT, *, full: bool = True) -> None:
        async with self.app.database.transaction() as conn:
            parameters = {"model": self.model, "resource": "tokens", "limit": tokens, "now": NOON}
            await conn.execute(calls.SQL.declare, parameters)
            if full:
                await conn.execute("UPDATE revec.quota SET level = capacity")

    async def ask(self, tokens: int, at: float = 0.0, *, lane: int = BACKFILL, **more: Any) -> Turn:
        ask = Ask(self.model, more.pop("index", None), lane, 1, tokens, {"t": tokens}, **more)
        async with self.app.database.transaction("worker") as conn:
            return await ask.admit(conn, now=NOON + timedelta(seconds=at))

    async def told(self, turn: Turn, report: Report, at: float = 0.0) -> None:
        assert turn.call is not None
        async with self.app.database.transaction("worker") as conn:
            await report.write(conn, turn.call, now=NOON + timedelta(seconds=at))


@pytest.fixture
def desk(any_app: App) -> Desk:
    return Desk(any_app)


def left(tokens: float) -> Report:
    return Report("ok", headers={"x-ratelimit-remaining-tokens": f"{tokens}"})


async def test_nothing_is_known_so_nothing_waits(desk: Desk) -> None:
    for _ in range(3):
        assert (await desk.ask(10**9)).call is not None


async def test_a_pack_waits_until_the_bucket_holds_it(desk: Desk) -> None:
    """And says for how long, to the second; the reserve for more urgent lanes stays in the bucket."""
    await desk.declare()
    first = await desk.ask(50_000)
    assert first.call is not None
    assert first.next_in == pytest.approx(43)  # 50,000 + 3,000 of reserve - 10,000 that are left
    refused = await desk.ask(10_000)
    assert (refused.call, refused.denied) == (None, "quota")
    assert refused.wait == pytest.approx(3)
    assert (await desk.ask(10_000, at=refused.wait - 0.1)).call is None
    assert (await desk.ask(10_000, at=refused.wait + 0.001)).call is not None


async def test_an_edit_may_dip_into_what_the_backfill_must_leave(desk: Desk) -> None:
    await desk.declare()
    assert (await desk.ask(57_000)).call is not None
    assert (await desk.ask(1_500)).call is None
    assert (await desk.ask(1_500, lane=LIVE)).call is not None
    assert (await desk.ask(600, lane=LIVE)).call is None
    assert (await desk.ask(600, lane=JIT)).call is not None


async def test_more_than_a_full_bucket_goes_when_it_is_full(desk: Desk) -> None:
    await desk.declare(full=False)
    refused = await desk.ask(200_000)
    assert refused.call is None
    assert (await desk.ask(200_000, at=refused.wait + 0.001)).call is not None


async def test_the_providers_own_word_counts(desk: Desk) -> None:
    """What was sent since the answer's own request is not in its headers, and is not forgotten."""
    await desk.declare()
    first, second = await desk.ask(10_000), await desk.ask(20_000)
    await desk.told(first, left(25_000))  # somebody else took 25,000
    assert (await desk.ask(5_000)).call is None
    assert (await desk.ask(1_999)).call is not None
    await desk.told(second, Report("ok"))


async def test_an_old_answer_corrects_nothing(desk: Desk) -> None:
    await desk.declare()
    first, second = await desk.ask(10_000), await desk.ask(10_000)
    await desk.told(second, left(5_000))
    await desk.told(first, left(50_000))
    assert (await desk.ask(10_000)).call is None


async def test_a_limit_that_the_headers_tell_needs_no_declaration(desk: Desk) -> None:
    headers = {"x-ratelimit-limit-tokens": "60000", "x-ratelimit-remaining-tokens": "20000"}
    await desk.told(await desk.ask(10_000), Report("ok", headers=headers))
    assert (await desk.ask(18_000)).call is None
    assert (await desk.ask(16_000)).call is not None


@pytest.mark.parametrize(
    "headers",
    [
        {"x-ratelimit-limit-tokens": "nan", "x-ratelimit-remaining-tokens": "inf"},
        {"x-ratelimit-limit-tokens": "-1", "x-ratelimit-remaining-tokens": "many"},
        {"x-ratelimit-limit-tokens": "0"},
        {"x-ratelimit-remaining-tokens": "3"},
    ],
)
async def test_headers_that_make_no_sense_limit_nothing(desk: Desk, headers: dict[str, str]) -> None:
    await desk.told(await desk.ask(10_000), Report("ok", headers=headers))
    assert (await desk.ask(10**9)).call is not None


async def test_the_refill_is_learnt(desk: Desk) -> None:
    """Another application takes half of what flows back: within a minute we expect no more than half."""
    await desk.declare()
    level, at = 50_000.0, 0.0
    await desk.told(await desk.ask(10_000), left(level))
    for _ in range(12):
        at += 5
        turn = await desk.ask(2_500, at=at)
        level += 5 * 500 - 2_500
        await desk.told(turn, left(level), at=at)
    ((rate,),) = await steps.rows(desk.app, "SELECT rate FROM revec.quota WHERE resource = 'tokens'")
    assert rate == pytest.approx(500, rel=0.05)


async def test_a_429_without_a_word_slows_us_down(desk: Desk) -> None:
    await desk.declare()
    turn = await desk.ask(10_000)
    await desk.told(turn, Report(Trouble.RATE, retry_after=2.0, why="429"))
    assert (await desk.ask(1_000, at=1)).denied == "resting"
    assert (await desk.ask(10_000, at=3)).denied == "quota"
    ((rate,),) = await steps.rows(desk.app, "SELECT rate FROM revec.quota WHERE resource = 'tokens'")
    assert rate == pytest.approx(900)


async def test_two_workers_never_take_the_same_tokens(desk: Desk) -> None:
    await desk.declare()
    turns = await asyncio.gather(*(desk.ask(10_000) for _ in range(12)))
    assert sum(turn.call is not None for turn in turns) == 5  # 50,000 and the reserve: not a sixth


# --- the breaker ----------------------------------------------------------------------------------------


async def test_a_failing_provider_is_probed_by_one_call_at_a_time(desk: Desk) -> None:
    """Rests of 1, 2, 4 … 60 s; whatever was on its way when it began to rest prolongs nothing."""
    flying = [await desk.ask(1) for _ in range(5)]
    for turn in flying:
        await desk.told(turn, Report(Trouble.SERVER, why="503"))
    at, rests = 0.0, []
    for _ in range(9):
        assert (await desk.ask(1, at=at)).denied == "resting"
        rests.append((await desk.ask(1, at=at)).wait)
        at += rests[-1] + 0.001
        probe = await desk.ask(1, at=at)
        assert (await desk.ask(1, at=at)).denied == "probing"
        await desk.told(probe, Report(Trouble.SERVER, why="503"), at=at)
    assert rests == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 60], abs=0.01)
    at += 60.001
    await desk.told(await desk.ask(1, at=at), Report("ok"), at=at)
    assert all([(await desk.ask(1, at=at)).call is not None for _ in range(3)])


async def test_a_probe_that_was_killed_is_forgotten(desk: Desk) -> None:
    await desk.told(await desk.ask(1), Report(Trouble.TIMEOUT, why="no answer"))
    assert (await desk.ask(1, at=2)).call is not None  # and its worker is killed
    assert (await desk.ask(1, at=121)).denied == "probing"
    assert (await desk.ask(1, at=123)).call is not None


async def test_a_person_may_end_a_rest(desk: Desk) -> None:
    await desk.told(await desk.ask(1), Report(Trouble.AUTH, why="401"))
    assert (await desk.ask(1)).denied == "resting"
    async with desk.app.database.transaction() as conn:
        assert await calls.reset(conn, "sim:another") == []
        assert await calls.reset(conn, MODEL) == [MODEL]
    assert (await desk.ask(1)).call is not None


@pytest.mark.parametrize("kind", ["401", "503"])
async def test_a_dead_provider_gets_few_requests(app: App, loopback: Loopback, kind: str) -> None:
    """200 documents, four claims at once, a drain that gives up: ten requests, no document is filed as bad."""
    made, index = await hands.indexed(app)
    await steps.put(app, made, steps.drafts(200))
    loopback.fault(kind, times=None)
    asked = loopback.requests()["requests"]
    summary = await steps.drain(app, claim=10, concurrency=4)
    assert loopback.requests()["requests"] - asked <= 10
    assert summary.stuck
    assert await steps.rows(app, "SELECT FROM revec.dead") == []
    assert [row.attempts for row in await hands.work(app)] == [0] * 200
    loopback.clear()
    await steps.drain(app)
    assert len(await steps.stored(app, index)) == 200
    await hands.assert_oracle(app, made)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "REST", (0.01, 1.0))
    monkeypatch.setattr(pack, "OUTAGE_PAUSE", 0.05)


@pytest.mark.parametrize("place", [0, 77, 199])
async def test_a_poison_text_delays_no_other(app: App, loopback: Loopback, place: int) -> None:
    """One of 200: at most ⌈log2 200⌉ + 1 calls more, and the 199 are written by then."""
    made, index = await hands.indexed(app)
    drafts = steps.drafts(200)
    poison = steps.drafts(1, start=place, word="poison")
    await steps.put(app, made, [*drafts[:place], *poison, *drafts[place + 1 :]])
    loopback.fault("refuse", times=None, match="poison")
    asked = loopback.requests()["requests"]
    summary = await hands.step(app)
    assert loopback.requests()["requests"] - asked - 1 <= 9
    assert (summary.written, summary.buried) == (199, 1)
    assert len(await steps.stored(app, index)) == 199
    await steps.put(app, made, drafts)
    await steps.drain(app)
    await hands.assert_oracle(app, made)


# --- the ledger -----------------------------------------------------------------------------------------


async def test_every_call_is_in_the_ledger(app: App, loopback: Loopback, hasty: None) -> None:
    """As many calls, texts and tokens as the provider saw; what failed is there with its kind."""
    made, _ = await hands.indexed(app)
    loopback.clear()
    loopback.fault("503", times=1)
    await steps.put(app, made, steps.drafts(20))
    await steps.drain(app)
    rows = await steps.rows(
        app, "SELECT outcome, inputs, tokens, tenants, answered_at FROM revec.call ORDER BY id"
    )
    assert [row.outcome for row in rows] == ["server", "ok"]
    assert rows[1].inputs == len(loopback.bill())
    assert rows[1].tenants == ["default"]
    assert all(row.answered_at for row in rows)
    await hands.assert_oracle(app, made)


async def test_a_call_that_nobody_answered_counts(app: App, loopback: Loopback) -> None:
    """Its worker died: the texts may be billed, so the ledger keeps what was counted."""
    made, _ = await hands.indexed(app)
    await steps.put(app, made, steps.drafts(3))
    loopback.hold()
    dying = asyncio.create_task(hands.step(app))
    await asyncio.to_thread(loopback.wait_held)
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    loopback.release()
    ((outcome, tokens),) = await steps.rows(app, "SELECT outcome, tokens FROM revec.call")
    assert outcome is None
    assert tokens > 0
    await hands.expire(app)
    await steps.drain(app)
    await hands.assert_oracle(app, made)


async def test_a_tenants_budget_holds_that_tenant_alone(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is paused with the reason, in every lane; the others are done."""
    monkeypatch.setattr("revec.work.calls.price", lambda _: Decimal(1000))
    made, index = await hands.indexed(app)
    await steps.rows(
        app,
        "INSERT INTO revec.tenant (collection_id, tenant, budget) VALUES (%(id)s, 'poor', 0.05) RETURNING 1",
        id=made.id,
    )
    poor = [replace(draft, key=f"p {draft.key}") for draft in steps.drafts(30, tenant="poor", word="poor")]
    await steps.put(app, made, [*steps.drafts(30, tenant="rich"), *poor])
    await steps.drain(app, claim=4)
    (tenant,) = await steps.rows(app, "SELECT paused_why, spent FROM revec.tenant")
    assert "budget of $0.05" in tenant.paused_why
    assert Decimal(0) < tenant.spent <= Decimal("0.05")
    left = await steps.rows(app, "SELECT tenant FROM revec.work")
    assert {row.tenant for row in left} == {"poor"}
    assert len(await steps.stored(app, index)) == 60 - len(left)
    await steps.rows(app, "UPDATE revec.tenant SET paused_why = NULL, budget = 100 RETURNING 1")
    await steps.drain(app)
    await hands.assert_oracle(app, made)


async def latest(app: App, made: Collection) -> Migration:
    async with app.database.transaction() as conn:
        found = await migrations.latest(conn, made.id)
    assert found
    return found


async def test_a_budget_stops_before_the_next_pack(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The migration pauses with its reason, spends no more, and goes on when it may."""
    for module in ("revec.work.calls", "revec.migrate.commands"):
        monkeypatch.setattr(f"{module}.price", lambda _: Decimal(1000))
    made = await steps.collection(app, "c", steps.OLD)
    await steps.put(app, made, steps.drafts(60))
    await steps.drain(app)
    before = loopback.requests()["inputs"]
    await app.start(made, steps.NEW, budget=Decimal("0.2"))
    await steps.drain(app, claim=10)
    migration = await latest(app, made)
    assert migration.state is State.BACKFILLING
    assert "budget of $0.2" in (migration.paused_why or "")
    assert Decimal(0) < migration.spent <= Decimal("0.2")
    assert 0 < loopback.requests()["inputs"] - before < 60 + 16  # and the sentinel texts
    await app.commands.resume(made, budget=Decimal(100))
    await steps.drain(app)
    assert (await latest(app, made)).state is State.READY
    await steps.assert_oracle(app, made)


# --- what a hostile reader found ------------------------------------------------------------------------


async def test_come_again_at_once_is_no_way_round_the_rest(desk: Desk) -> None:
    """`Retry-After: 0`, or a date in the past: a probe that fails doubles the rest all the same."""
    at = 0.0
    rests = []
    for _ in range(4):
        turn = await desk.ask(1, at=at)
        await desk.told(turn, Report(Trouble.SERVER, retry_after=0.0, why="503"), at=at)
        rests.append((await desk.ask(1, at=at)).wait)
        at += rests[-1] + 0.001
    assert rests == pytest.approx([1, 2, 4, 8], abs=0.01)


async def test_a_limit_that_is_taken_back_and_given_again_is_kept(desk: Desk) -> None:
    """With a call in flight that knows the old count."""
    await desk.declare()
    flying = await desk.ask(40_000)
    async with desk.app.database.transaction() as conn:
        await calls.declare(conn, desk.model, "tokens", None)
    assert (await desk.ask(10**8)).call is not None
    await desk.declare()
    await desk.told(flying, left(5_000))
    turn = await desk.ask(1_000, at=2)
    if turn.call is not None:
        await desk.told(turn, Report(Trouble.RATE, headers=left(0).headers, why="429"), at=2)
    assert (await desk.ask(50_000, at=10)).call is None


async def test_an_idle_hour_teaches_nothing_of_the_rate(desk: Desk) -> None:
    """The bucket was full for most of it, and lost what flowed."""
    await desk.declare()
    await desk.told(await desk.ask(30_000), left(30_000))
    await desk.told(await desk.ask(10_000, at=3_600), left(50_000), at=3_600)
    ((rate,),) = await steps.rows(desk.app, "SELECT rate FROM revec.quota WHERE resource = 'tokens'")
    assert rate == pytest.approx(1000)


async def test_a_bucket_of_less_than_a_minute_makes_nobody_slower(desk: Desk) -> None:
    """Some providers look at a few seconds: what they say is left is never much, and always full again."""
    await desk.declare()
    await desk.told(await desk.ask(2_000), left(8_000))
    for n in range(1, 40):  # 10,000 at most, full again in ten seconds
        await desk.told(await desk.ask(2_000, at=12 * n), left(8_000), at=12 * n)
    ((rate,),) = await steps.rows(desk.app, "SELECT rate FROM revec.quota WHERE resource = 'tokens'")
    assert rate == pytest.approx(1000)


async def test_what_is_left_for_others_is_a_share_of_what_the_bucket_holds(desk: Desk) -> None:
    """Of two seconds' worth a twentieth, and not three seconds' worth, which is never there."""
    await desk.declare()
    await desk.told(await desk.ask(500), left(1_500))
    assert (await desk.ask(1_520, at=0.1)).call is None
    assert (await desk.ask(1_480, at=0.1)).call is not None


async def test_a_contract_smaller_than_a_pack_is_kept(app: App, loopback: Loopback) -> None:
    """Packs are half of what the bucket holds, at most: none is refused for its size."""
    made, index = await hands.indexed(app)
    await steps.put(app, made, steps.drafts(200))
    async with app.database.transaction() as conn:
        await calls.declare(conn, "openai:fake-64", "tokens", 3_000)
        await conn.execute("UPDATE revec.quota SET rate = 3000")
    before = loopback.requests()["requests"]
    await steps.drain(app)
    assert len(await steps.stored(app, index)) == 200
    tokens = [row.tokens for row in await steps.rows(app, "SELECT tokens FROM revec.call WHERE lane = 0")]
    assert loopback.requests()["requests"] - before == len(tokens) > 1
    await hands.assert_oracle(app, made)


async def test_a_report_that_fails_costs_no_answer(app: App, loopback: Loopback) -> None:
    made, index = await hands.indexed(app)
    await steps.put(app, made, steps.drafts(5))
    async with app.database.transaction() as conn:
        await conn.execute("ALTER FUNCTION revec.learn RENAME TO learnt")
        await conn.execute(
            "CREATE FUNCTION revec.learn(revec.call, text, float8, float8, boolean, float8, timestamptz)"
            " RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM 1e400::float8; END $$"
        )
    await hands.step(app)
    assert len(await steps.stored(app, index)) == 5
    await hands.assert_oracle(app, made)
