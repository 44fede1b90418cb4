"""Several workers at once: killed at random moments, or not at all, which finds other mistakes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from functools import partial

import pytest

from revec.model.document import Draft
from tests import steps
from tests.faults.harness import IN_FLIGHT, LEASE, Command, Stage, Trial

pytestmark = pytest.mark.stress

KILLS = 5
NOTHING_OPEN = "SELECT NOT EXISTS (SELECT FROM revec.work)"
TABLE_WAITED_FOR = (
    "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
    " WHERE d.datname = current_database() AND l.locktype = 'relation' AND NOT l.granted)"
)


async def test_workers_killed_at_random_moments_lose_nothing(stage: Stage) -> None:
    """Two race in a backfill under live writes; five times one of them dies and is replaced."""
    await stage.trials(f"{KILLS} kills at random moments", _killed_at_random)


async def _killed_at_random(trial: Trial) -> None:
    await trial.migrate(sampled=False)
    trial.loopback.fault("slow", times=None, delay=0.1)
    async with trial.writers() as writers:
        workers = [await trial.worker(drain=False) for _ in range(2)]
        for _ in range(KILLS):
            await asyncio.sleep(trial.rng.uniform(0.3, 1.0))
            victim = trial.rng.randrange(2)
            await workers[victim].killed()
            assert not workers[victim].said
            workers[victim] = await trial.worker(drain=False)
        trial.heal()
        await trial.until_state("ready")
    last = await trial.worker()
    await last.ends_well()
    await _leave(workers)

    await trial.assert_well(writers)
    again = [times - 1 for times in trial.bill().values()]
    assert sum(again) <= KILLS * IN_FLIGHT
    await trial.assert_can_go_both_ways()


async def test_four_workers_pay_for_a_text_once(stage: Stage) -> None:
    """Each text comes in several documents, one after the other, while four workers race for them."""
    await stage.trials("4 workers, repetitive texts", _repetitive)


async def _repetitive(trial: Trial) -> None:
    await trial.migrate(sampled=False)
    trial.loopback.fault("slow", times=None, delay=0.02)
    # A lease that no busy machine outlives: what becomes of those that run out is another test's.
    workers = [await trial.worker(drain=False, REVEC_LEASE="20") for _ in range(4)]
    await trial.until("SELECT count(*) = 4 FROM revec.worker")
    for page in range(40):
        texts = [f"repeated text {page // 8} {trial.rng.randrange(12)}" for _ in range(6)]
        drafts = [Draft(f"r {page} {number}", body=text) for number, text in enumerate(texts)]
        await steps.put(trial.app, trial.made, drafts)
        await asyncio.sleep(trial.rng.uniform(0, 0.02))
    await trial.until_state("ready")
    await trial.until(NOTHING_OPEN)
    await _leave(workers)
    await trial.assert_well()
    assert {text: times for text, times in trial.bill().items() if times > 1} == {}


async def test_an_answer_slower_than_the_lease_is_paid_for_once(stage: Stage) -> None:
    """The right to pay is renewed for as long as the request is on its way."""
    await stage.trials("answers slower than the lease", _slower_than_the_lease, trials=1)


async def _slower_than_the_lease(trial: Trial) -> None:
    trial.loopback.fault("slow", times=None, delay=2.5 * LEASE)
    same = [Draft(f"slow {number}", body="one slow text") for number in range(3 * 8)]
    await steps.put(trial.app, trial.made, same)
    workers = [await trial.worker() for _ in range(2)]
    for worker in workers:
        await worker.ends_well()
    await trial.assert_well()
    assert set(trial.bill().values()) == {1}


async def test_what_a_locked_table_cannot_take_is_kept_and_paid_for_once(stage: Stage) -> None:
    """Somebody locks the vectors' table for longer than a worker waits."""
    await stage.trials("a locked table", _locked_table, trials=1)


async def _locked_table(trial: Trial) -> None:
    worker = await trial.worker(drain=False)
    async with trial.app.database.transaction() as conn:
        await conn.execute("LOCK TABLE revec.vectors_1 IN SHARE MODE")
        await steps.put(trial.app, trial.made, steps.drafts(3, start=100, word="locked out"))
        await trial.until(TABLE_WAITED_FOR)
        await trial.until(f"SELECT NOT ({TABLE_WAITED_FOR})")
    await trial.until(NOTHING_OPEN)
    await _leave([worker])
    await trial.assert_well()
    assert set(trial.bill().values()) == {1}


async def test_drains_at_once_and_a_late_one_all_end_well(stage: Stage) -> None:
    """Each waits for the others' leases; none leaves before the migration is ready."""
    await stage.trials("3 drains", _drains)


async def _drains(trial: Trial) -> None:
    await trial.migrate()
    trial.loopback.fault("slow", times=None, delay=0.05)
    drains = [await trial.worker() for _ in range(2)]
    await trial.until_state("backfilling", "indexing", "verifying", "ready")
    drains.append(await trial.worker())
    for drain in drains:
        await drain.ends_well()
        assert await trial.state() == "ready"
    await trial.assert_well()
    assert await trial.ask("SELECT count(*) FROM revec.worker") == 0


async def test_a_trickle_of_edits_does_not_starve_a_backfill(stage: Stage) -> None:
    """14 writes a second, answers of 0.2 s: there always is a live edit, and yet the backfill ends."""
    await stage.trials("backfill under a trickle", _trickle, trials=1)


async def _trickle(trial: Trial) -> None:
    await steps.put(trial.app, trial.made, steps.drafts(600, start=1_000))
    await steps.drain(trial.app)
    await trial.migrate(sampled=False)
    trial.loopback.fault("slow", times=None, delay=0.2)
    async with trial.writers(pause=0.14) as writers:
        worker = await trial.worker(drain=False, claim=64)
        await trial.until_state("backfilling")
        await trial.until_state("ready")  # 10 claims at 0.2 s
        trial.heal()
    await trial.until(NOTHING_OPEN)
    await _leave([worker])
    await trial.assert_well(writers)


# --- told to leave, or stopped for a while ------------------------------------------------------------


async def _held(trial: Trial) -> Command:
    """Both of a worker's claims are with the provider."""
    await trial.migrate(sampled=False)
    await trial.advance("backfilling")
    trial.loopback.hold()
    worker = await trial.worker(drain=False)
    await asyncio.to_thread(trial.loopback.wait_held, 2)
    return worker


async def _at_verifying(trial: Trial) -> Command:
    """The conductor waits for the sentinels' vectors."""
    await trial.migrate()
    await trial.advance("backfilling")
    trial.loopback.fault("slow", match="quick brown fox", delay=0.5)
    worker = await trial.worker(drain=False)
    await trial.until_billed("slow")
    return worker


async def _waiting_for_its_turn(trial: Trial) -> Command:
    """Both of a worker's packs wait for the provider's limit: ten seconds from now."""
    await trial.migrate(sampled=False)
    await trial.advance("backfilling")
    await steps.rows(
        trial.app,
        "INSERT INTO revec.quota (model, resource, capacity, rate, level, at) VALUES"
        " (%(model)s, 'tokens', 1000000, 1000, 40000, clock_timestamp()) RETURNING 1",
        model=steps.NEW,
    )
    worker = await trial.worker(drain=False)
    await trial.until(
        "SELECT EXISTS (SELECT FROM revec.worker) AND EXISTS (SELECT FROM revec.work WHERE token IS NOT NULL)"
    )
    return worker


async def _at_random(trial: Trial) -> Command:
    await trial.migrate()
    worker = await trial.worker(drain=False)
    await trial.until("SELECT EXISTS (SELECT FROM revec.worker)")
    await asyncio.sleep(trial.rng.uniform(0, 0.5))
    return worker


LEFT_BEHIND = (
    "SELECT (SELECT count(*) FROM revec.work WHERE lease_until IS NOT NULL)"
    " + (SELECT count(*) FROM revec.paid WHERE vector IS NULL)"
    " + (SELECT count(*) FROM revec.lease) + (SELECT count(*) FROM revec.worker)"
)
Moment = Callable[[Trial], object]


@pytest.mark.parametrize(
    "moment", [_held, _at_verifying, _waiting_for_its_turn, _at_random], ids=lambda f: f.__name__
)
async def test_a_worker_told_to_leave_finishes_what_is_in_hand(stage: Stage, moment: Moment) -> None:
    """SIGTERM: exit 0, and nothing waits for a lease to run out."""
    one = partial(_told_to_leave, moment)
    await stage.trials(f"SIGTERM, {moment.__name__.strip('_')}", one)


async def _told_to_leave(moment: Moment, trial: Trial) -> None:
    worker = await moment(trial)
    worker.send(signal.SIGTERM)
    if moment is _held:
        await asyncio.sleep(0.1)
        assert not worker.over
        trial.loopback.release()
    await worker.ends_well(within=5.0 if moment is _waiting_for_its_turn else 60.0)
    assert await trial.ask(LEFT_BEHIND) == 0
    assert await trial.ask("SELECT count(*) FROM revec.work WHERE attempts > 0") == 0
    await steps.rows(trial.app, "DELETE FROM revec.quota RETURNING 1")
    await (await trial.worker()).ends_well()
    await trial.assert_well()
    if moment is _held:
        assert set(trial.bill().values()) == {1}


async def test_a_zombie_worker_writes_nothing_wrong(stage: Stage) -> None:
    """Stopped with answers on their way, for longer than its lease; its documents change meanwhile."""
    await stage.trials("SIGSTOP of a worker", _zombie_worker)


async def _zombie_worker(trial: Trial) -> None:
    await trial.end_idle_transactions()
    zombie = await _held(trial)
    zombie.send(signal.SIGSTOP)
    trial.loopback.release()
    async with trial.writers(pause=0.005) as writers:
        await writers.made_more(100)
    await (await trial.worker()).ends_well()
    await trial.assert_well(writers)
    async with trial.writers(pause=0.005) as writers:  # and once more while it wakes
        zombie.send(signal.SIGCONT)
        await writers.made_more(50)
    await (await trial.worker()).ends_well()
    await _leave([zombie])
    await trial.assert_well(writers)
    assert max(trial.bill().values()) <= 2
    await trial.assert_can_go_both_ways()


@pytest.mark.parametrize("meanwhile", ["cutover", "abort"])
async def test_a_zombie_conductor_moves_nothing(stage: Stage, meanwhile: str) -> None:
    """Stopped while it verified; meanwhile another one got on, and a person decided."""
    one = partial(_zombie_conductor, meanwhile)
    await stage.trials(f"SIGSTOP of a conductor, {meanwhile}", one)


async def _zombie_conductor(meanwhile: str, trial: Trial) -> None:
    await trial.end_idle_transactions()
    zombie = await _at_verifying(trial)
    zombie.send(signal.SIGSTOP)
    await (await trial.worker()).ends_well()
    assert await trial.state() == "ready"
    if meanwhile == "cutover":
        await trial.app.commands.switch.cutover(trial.made, why="test")
    else:
        await trial.app.commands.abort(trial.made, why="test")
        await (await trial.worker()).ends_well()
        assert await trial.ask("SELECT to_regclass('revec.vectors_2')") is None
    was = await trial.state()
    beat = await trial.ask("SELECT min(beat_at) FROM revec.worker")
    zombie.send(signal.SIGCONT)
    await trial.until("SELECT min(beat_at) > %(beat)s FROM revec.worker", beat=beat)
    await trial.until("SELECT EXISTS (SELECT FROM revec.lease)")
    await asyncio.sleep(0.2)
    await _leave([zombie])
    assert await trial.state() == was
    await trial.assert_well()


async def _leave(workers: list[Command]) -> None:
    for worker in workers:
        worker.send(signal.SIGTERM)
    for worker in workers:
        await worker.ends_well()
