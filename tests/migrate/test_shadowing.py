"""Gates that judge what the dual read has seen, the rungs, and a migration that waits for both."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from revec.app import App
from revec.migrate import evidence
from revec.migrate.evidence import A_RUNG, LATENCY, RUNGS, VARIANCE, Evidence, percentiles, rung
from revec.migrate.gates import errors, latency, variance
from revec.model.errors import BadInput, Refused
from revec.model.index import Collection, Kind
from revec.model.migration import State
from revec.model.verdict import Outcome, Verdict
from revec.postgres import shadows
from revec.postgres.shadows import Losses, Pair, Setting
from tests import steps
from tests.loopback import Loopback
from tests.migrate import world
from tests.search import shadowed


@dataclass(frozen=True)
class Row:
    """An observation as a gate reads it; all is well unless said."""

    place: float = 0.5
    weight: int = 1
    chosen: str = "replay"
    new_first: bool = True
    changed: bool = False
    again_outcome: str = "ok"
    new_outcome: str = "ok"
    again_embed: float = 0.01
    again_search: float = 0.02
    new_embed: float = 0.01
    new_search: float = 0.02
    overlap: float | None = 1.0
    rbo: float = 1.0
    same_first: bool = True
    floor_overlap: float = 1.0
    floor_rbo: float = 1.0
    floor_first: bool = True
    lost: dict[str, int] = field(default_factory=dict)
    gained: dict[str, int] = field(default_factory=dict)
    again_score: float = 0.5
    new_score: float = 0.9
    in_rung: bool = True
    of_late: bool = True
    tenant: str = "default"


SETTING = Setting(1, 2, 0.02, "salt", None, None, "test", 0.0)  # type: ignore[arg-type]


NONE_LOST = Losses(0, 0, 0)


def seen(rows: list[Row], losses: Losses = NONE_LOST) -> Evidence:
    """As it is loaded, the arms' order fair unless it is said."""
    return Evidence(SETTING, Pair(1, 1, 2), rows, rows, losses)


def rows(count: int, **how: Any) -> list[Row]:
    """Times drawn anew for each, of a long-tailed distribution: seconds."""
    dice = random.Random(1)
    slower = how.pop("slower", 1.0)

    def took() -> float:
        return dice.lognormvariate(-4.0, 0.5)

    return [
        Row(
            **{
                "new_first": bool(n % 2),
                "again_search": took(),
                "new_search": slower * took(),
                **{name: value(n) if callable(value) else value for name, value in how.items()},
            }
        )
        for n in range(count)
    ]


async def judged(
    monkeypatch: pytest.MonkeyPatch, gate: Any, found: Evidence | None, *, same: bool = True
) -> Verdict:
    async def shadowed_by_hand(_: Any) -> Evidence | None:
        return found

    async def same_space(_: Any) -> bool:
        return same

    monkeypatch.setattr(gate, "shadowed", shadowed_by_hand)
    monkeypatch.setattr(variance, "_same_space", same_space)
    return await gate.judge(None)


GATES = [latency, errors, variance]
UNSOUND = {
    "nothing": seen([]),
    "no shadow": Evidence(None, None, [], [], NONE_LOST),
    "too much was shed": seen(rows(3_000), Losses(taken=94, dropped=4, lost=2)),
    "one arm always first": seen(rows(3_000, new_first=True)),
    "hashes in one corner": seen(rows(3_000, chosen="rate", place=0.001)),
    "the old index disagrees with itself": seen(rows(3_000, floor_overlap=0.5)),
    "of another day": seen(rows(3_000, of_late=False)),
    "too few": seen(rows(20)),
}


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.__name__.rpartition(".")[2])
@pytest.mark.parametrize("what", UNSOUND)
async def test_what_is_unsound_proves_nothing(what: str, gate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """However good its figures are: it cannot tell, and says why."""
    verdict = await judged(monkeypatch, gate, UNSOUND[what])
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.why


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.__name__.rpartition(".")[2])
async def test_what_is_as_good_passes(gate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The complement: sound, equal, and enough of it."""
    found = seen(rows(4_000))
    assert found.doubt is None
    verdict = await judged(monkeypatch, gate, found)
    assert verdict.outcome is Outcome.PASSED, verdict


async def test_a_slower_index_fails_and_the_other_way_round_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half as slow again: new for old flips the verdict. A tenth, which is the margin, never passes."""
    slower = await judged(monkeypatch, latency, seen(rows(4_000, slower=1.5)))
    assert slower.outcome is Outcome.FAILED
    assert "slower by more than 10%" in slower.why
    assert (await judged(monkeypatch, latency, seen(rows(4_000, slower=0.7)))).outcome is Outcome.PASSED
    at_the_margin = await judged(monkeypatch, latency, seen(rows(4_000, slower=1.1)))
    assert at_the_margin.outcome is Outcome.INCONCLUSIVE


async def test_a_timeout_is_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in ten at the deadline is slow, not gone: the median never shows it, the gate does."""
    late = rows(3_000, new_search=lambda n: 5.0 if n % 10 == 0 else 0.01)
    late = [
        Row(**{**row.__dict__, "new_outcome": "timeout" if row.new_search == 5.0 else "ok"}) for row in late
    ]
    verdict = await judged(monkeypatch, latency, seen(late))
    assert verdict.outcome is Outcome.FAILED
    assert verdict.evidence["new search p95"] == 5000


async def test_an_absolute_goal_is_kept_or_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both arms as slow as each other is no excuse; embedding counts with the search."""
    slow = seen(rows(3_000, again_search=0.7, new_search=0.7))
    verdict = await judged(monkeypatch, latency, slow)
    assert (verdict.outcome, "500 ms for search" in verdict.why) == (Outcome.FAILED, True)
    far = seen(rows(3_000, new_embed=1.1))
    verdict = await judged(monkeypatch, latency, far)
    assert (verdict.outcome, "1000 ms for embedding and search" in verdict.why) == (Outcome.FAILED, True)


@pytest.mark.parametrize("outcome", ["error", "timeout", "empty"])
async def test_what_only_the_new_index_gets_wrong_fails(
    outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three in a hundred; where the old one fails as well it is nobody's fault."""

    def now_and_then(n: int) -> str:
        return outcome if n % 33 == 0 else "ok"

    alone = await judged(monkeypatch, errors, seen(rows(3_000, new_outcome=now_and_then)))
    assert alone.outcome is Outcome.FAILED
    assert alone.evidence["new alone"] == 91
    both = rows(3_000, new_outcome=now_and_then, again_outcome=now_and_then)
    assert (await judged(monkeypatch, errors, seen(both))).outcome is Outcome.PASSED


@pytest.mark.parametrize("outcome", ["error", "timeout"])
async def test_where_the_old_index_fails_nothing_is_compared(
    outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a question is neither good nor bad; where they are more than one in twenty, nothing can be told."""
    some = rows(3_000, again_outcome=lambda n: outcome if n % 20 == 0 else "ok")
    verdict = await judged(monkeypatch, errors, seen(some))
    assert (verdict.outcome, verdict.evidence["n"]) == (Outcome.PASSED, 2_850)
    more = rows(3_000, again_outcome=lambda n: outcome if n % 19 == 0 else "ok")
    verdict = await judged(monkeypatch, errors, seen(more))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "the comparison itself fails" in verdict.why
    dead = rows(3_000, again_outcome=outcome, new_outcome=outcome)
    assert (await judged(monkeypatch, errors, seen(dead))).outcome is Outcome.INCONCLUSIVE


async def test_variance_is_required_of_one_space_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """In another space it is reported; in one, what neither a tie nor the approximation explains fails."""
    other = seen(rows(3_000, overlap=0.4, lost={"model": 6}, gained={"model": 6}))
    reported = await judged(monkeypatch, variance, other, same=False)
    assert reported.outcome is Outcome.NOT_CONFIGURED
    assert "overlap@10 0.400 (A/A 1.000)" in reported.why
    assert (await judged(monkeypatch, variance, other)).outcome is Outcome.FAILED
    explained = seen(rows(3_000, overlap=0.9, lost={"ann": 1}, gained={"tie": 1}))
    assert (await judged(monkeypatch, variance, explained)).outcome is Outcome.PASSED
    meanwhile = [Row(**{**row.__dict__, "changed": True}) for row in other.rows]
    assert (await judged(monkeypatch, variance, seen(meanwhile))).outcome is Outcome.INCONCLUSIVE


async def test_nothing_in_common_is_an_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another prefix, metric or table; a better model never looks like that."""
    verdict = await judged(monkeypatch, variance, seen(rows(100, overlap=0.0)), same=False)
    assert verdict.evidence["alarm"]
    assert verdict.why.startswith("reported, for another space: ALARM")


def test_scores_are_compared_by_their_places() -> None:
    """Whatever scale each space has; ties share a place."""
    assert percentiles([0.1, 0.9, 0.5]) == percentiles([10.0, 900.0, 11.0])
    assert percentiles([1.0, 1.0]) == [0.5, 0.5]
    assert percentiles([]) == []


def test_a_rung_ends_on_evidence() -> None:
    """A hundred questions, at most 5% of them surely no worse; the last rung has no next."""
    assert [evidence.next_rung(rate) for rate in (*RUNGS, 0.03, 1.0)] == [0.05, 0.10, None, 0.05, None]
    assert not rung(SETTING, A_RUNG - 1, 0).proven
    assert rung(SETTING, A_RUNG, 0).proven
    assert not rung(SETTING, A_RUNG, 2).proven
    assert rung(SETTING, 1_000, 20).proven
    assert rung(SETTING, 1_000, 20, failed=52).proven
    broken = rung(SETTING, 1_000, 20, failed=53)
    assert (broken.proven, "the comparison itself fails" in broken.told) == (False, True)


# --- the whole way -------------------------------------------------------------------------------------------


async def shadowing(app: App, rate: float = 0.02, **how: Any) -> Collection:
    made = await steps.filled(app)
    await app.start(made, steps.NEW, shadow=rate, **how)
    await steps.drain_soon(app)
    return made


async def plant(app: App, count: int, *, start: int = 0, bad: int = 0) -> None:
    """Observations as a long day would bring them: equal times, equal answers, `bad` of them failed."""
    await steps.rows(
        app,
        "INSERT INTO revec.observation (collection_id, serving, candidate, query, tenant, mode, place, chosen, weight,"
        " token, done_at, new_first, changed, again_outcome, new_outcome, again_embed, again_search, new_embed,"
        " new_search, overlap, rbo, same_first, floor_overlap, floor_rbo, floor_first)"
        " SELECT 1, 1, 2, int4send(n), 'default', 'vector', 0.02 * (n * 0.6180339887 %% 1), 'rate', 1, gen_random_uuid(),"
        "        clock_timestamp(), n %% 2 = 0, false, 'ok', CASE WHEN n <= %(bad)s THEN 'error' ELSE 'ok' END,"
        "        0.01, 0.02 + (n * 7919 %% 1000) / 1e5, 0.01, 0.02 + (n * 104729 %% 1000) / 1e5 * 0.8, 0.6, 0.6, true,"
        "        1, 1, true"
        "   FROM generate_series(%(start)s + 1, %(start)s + %(count)s) AS n RETURNING 1",
        start=start,
        count=count,
        bad=start + bad,
    )


async def rate_of(app: App) -> float:
    ((rate,),) = await steps.rows(app, "SELECT rate FROM revec.shadow")
    return float(rate)


async def test_a_migration_waits_for_its_searches(app: App, loopback: Loopback) -> None:
    """2%, 5%, 10% on evidence, then ready; the drain ends meanwhile, because nobody but who searches can go on."""
    made = await shadowing(app)
    assert await world.state(app, made) is State.SHADOWING
    assert (await world.migration(app, made)).gates == ("completeness", "fidelity", "latency", "errors")
    assert await rate_of(app) == 0.02
    assert "0 of 100 questions at 2%" in (await world.look(app, made)).next
    with pytest.raises(Refused):
        await app.commands.switch.cutover(made, why="too early")
    for number, rate in enumerate(RUNGS):
        assert await rate_of(app) == rate
        await plant(app, A_RUNG - 1, start=1000 * number)
        await world.tick(app, 2)
        assert await rate_of(app) == rate, "not on less evidence"
        await plant(app, 1, start=1000 * number + 500)
        await world.tick(app, 2)
    assert await world.state(app, made) is State.SHADOWING
    await plant(app, 4_000, start=10_000)
    await app.commands.verify(made)
    await world.tick(app, 2)
    assert await world.state(app, made) is State.READY
    told = [row.why for row in await world.history(app, made)]
    assert [why for why in told if "from now on" in why] == [
        f"100 of 100 questions at {low:.0%}, at most 3.0% go wrong with the new index alone: {high:.0%} from now on"
        for low, high in ((0.02, 0.05), (0.05, 0.10))
    ]
    await app.commands.switch.cutover(made, why="test")
    await steps.assert_oracle(app, made)


async def test_what_was_seen_another_day_proves_nothing_today(app: App, loopback: Loopback) -> None:
    """However much of it there is, and however fresh the look: the store may have slowed down since."""
    made = await shadowing(app)
    await plant(app, 4_000)
    await steps.rows(app, "UPDATE revec.observation SET done_at = done_at - interval '25 hours' RETURNING 1")
    verdicts = {each.gate: each for each in await app.commands.verify(made)}
    assert [verdicts[gate].outcome for gate in ("latency", "errors")] == [Outcome.INCONCLUSIVE] * 2
    assert "no query was observed in the last day" in verdicts["latency"].why


async def test_a_rung_with_errors_is_not_left(app: App, loopback: Loopback) -> None:
    """However many questions there are; and a gate that failed is a person's."""
    made = await shadowing(app)
    await plant(app, 300, bad=30)
    await world.tick(app, 2)
    assert await rate_of(app) == 0.02
    await app.commands.verify(made)
    await world.tick(app)
    assert "gate errors FAILED" in (await world.look(app, made)).next
    assert await rate_of(app) == 0.02


async def test_a_rung_is_not_left_on_pairs_that_both_failed(app: App, loopback: Loopback) -> None:
    """A database that fails them both says nothing of what more load does to it."""
    await shadowing(app)
    await plant(app, 300, bad=300)
    await steps.rows(app, "UPDATE revec.observation SET again_outcome = 'timeout' RETURNING 1")
    await world.tick(app, 2)
    assert await rate_of(app) == 0.02
    await steps.rows(app, "UPDATE revec.observation SET again_outcome = 'ok', new_outcome = 'ok' RETURNING 1")
    await world.tick(app, 2)
    assert await rate_of(app) == 0.05


async def test_without_it_shadowing_is_skipped(app: App, loopback: Loopback) -> None:
    """The complement: no rate asked for, no gate more, no shadow."""
    made = await steps.ready(app)
    assert await world.state(app, made) is State.READY
    assert (await world.migration(app, made)).gates == ("completeness", "fidelity")
    assert await steps.rows(app, "SELECT 1 FROM revec.shadow") == []


async def test_a_person_turns_it_off_and_points_it_elsewhere(app: App, loopback: Loopback) -> None:
    """The migration says that it waits for a shadow; an index that is none is refused, and so is no share."""
    made = await shadowing(app)
    await app.commands.shadow.off(made)
    assert "nothing is compared" in (await world.look(app, made)).next
    await app.commands.shadow.point(made, rate=0.5, to=f"{steps.NEW}#2")
    assert await rate_of(app) == 0.5
    for rate in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(BadInput, match="no share"):
            await app.commands.shadow.point(made, rate=rate, to=None)
    with pytest.raises(BadInput, match="choose of openai:fake-b-96#2"):
        await app.commands.shadow.point(made, rate=0.5, to="7")
    with pytest.raises(BadInput, match="serves c"):
        await app.commands.shadow.point(made, rate=0.5, to="1")


async def test_a_first_fill_has_nothing_to_compare(app: App, loopback: Loopback) -> None:
    """Said when it is planned; and a collection with one index has no shadow."""
    made = await steps.collection(app, model=None)
    with pytest.raises(Refused, match="leave --shadow out"):
        await app.plan(made, steps.OLD, shadow=0.02)
    made = await steps.filled(app, name="d")
    with pytest.raises(Refused, match="nothing to compare with"):
        await app.commands.shadow.point(made, rate=None, to=None)
    with pytest.raises(BadInput, match="no share"):
        await app.plan(made, steps.NEW, shadow=2.0)


async def test_one_space_has_to_answer_alike(app: App, loopback: Loopback) -> None:
    """Another kind of index of the same vectors: variance is among the required gates."""
    made = await steps.filled(app)
    planned = await app.plan(made, steps.OLD, kind=Kind.HNSW, shadow=0.02)
    assert planned.gates == ("completeness", "fidelity", "recall", "latency", "errors", "variance")
    assert VARIANCE not in (await app.plan(made, steps.NEW, shadow=0.02)).gates


async def test_other_pairs_do_not_count(app: App, loopback: Loopback) -> None:
    """Perfect observations of another pair, or of the other direction, prove nothing of this one."""
    made = await shadowing(app, rate=1.0)
    await plant(app, 3_000)
    for column, value in (("candidate", 9), ("serving", 2), ("collection_id", 7)):
        await steps.rows(app, f"UPDATE revec.observation SET {column} = {value} RETURNING 1")
        verdicts = {each.gate: each.outcome for each in await app.commands.verify(made)}
        assert verdicts[LATENCY] is Outcome.INCONCLUSIVE
        await steps.rows(
            app, "UPDATE revec.observation SET candidate = 2, serving = 1, collection_id = 1 RETURNING 1"
        )


async def test_two_conductors_raise_it_once(app: App, loopback: Loopback) -> None:
    """The second finds another rate than it saw."""
    made = await shadowing(app)
    async with app.database.transaction() as conn:
        saw = await shadows.of(conn, made.id)
        assert saw is not None
        assert await shadows.raised(conn, saw, 0.05, "one")
        assert not await shadows.raised(conn, saw, 0.10, "two")
    assert await rate_of(app) == 0.05


async def test_what_it_saw_is_reported(app: App, loopback: Loopback) -> None:
    """From real searches, by the verb's own report; numbers that a program may read."""
    made = await shadowing(app, rate=1.0)
    await shadowed.ask(app, *shadowed.questions(6), *shadowed.questions(2))
    report = await app.commands.shadow.report(made)
    assert (report["on"], report["rate"], report["candidate"]) == (True, 1.0, f"{steps.NEW}#2")
    assert (report["questions"], report["requests"], report["doubt"]) == (6, 8, None)
    assert report["effective"] == pytest.approx(64 / 12, abs=0.1)
    assert report["variance"]["A/A overlap"] == 1.0
    assert report["latency"]["new search p95"] > 0
    assert report["errors"]["outcomes"] == {"again": {"ok": 6}, "new": {"ok": 6}}
    assert (await app.commands.shadow.off(made), await app.commands.shadow.off(made)) == (1.0, None)
    assert (await app.commands.shadow.report(made))["on"] is False
