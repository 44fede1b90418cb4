"""`kill -9` of the worker at every named place, while users write: nothing is lost, nothing is wrong."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from revec.observe import failpoints
from tests import steps
from tests.faults.harness import COMMAND, IN_FLIGHT, Stage, Trial

pytestmark = pytest.mark.stress
OF_BATCHES = [name for name in failpoints.NAMES if name.startswith("batch_")]
BATCHED = ("openai:fake-b-96", "gemini:fake-b-96")  # in turns
OF_POINTS = [name for name in failpoints.NAMES if name.startswith("points_")]
OF_USERS = {"flipped", "shown", "guard_fired", "webhook_sent"}
OF_WALKS = {"walk_page"}
ELSEWHERE = {*OF_BATCHES, *OF_POINTS, *OF_USERS, *OF_WALKS, "folded"}
# A day of a provider's, in seconds of a test.
QUICK = (
    "from revec.work import batches as b; b.PAUSES, b.LOOK_EVERY, b.WAIT, b.SURE = (0.05, 0.1), 0.05, 1.0, 3.0; "
    + COMMAND
)


@pytest.mark.parametrize("name", [name for name in failpoints.NAMES if name not in ELSEWHERE])
async def test_a_worker_killed_at_a_failpoint_loses_nothing(stage: Stage, name: str) -> None:
    """In a backfill under live writes; another worker goes on, and the bill stays within bounds."""
    await stage.trials(f"kill -9 at {name}", partial(_killed_at, name))


async def _killed_at(name: str, trial: Trial) -> None:
    await trial.migrate(sampled=False)
    await trial.advance("backfilling")
    trial.loopback.fault("slow", times=None, delay=0.1)
    hit = trial.folder / "hit"
    nth = trial.number % 3 + 1
    async with trial.writers() as writers:
        first = await trial.worker(REVEC_FAILPOINT=f"{name}:{nth}", REVEC_FAILPOINT_HIT=str(hit))
        code = await first.ended()
        assert code == -signal.SIGKILL, f"{name} was not hit: exit {code}, {first.said}"
        assert hit.read_text() == name
        assert await trial.state() == "backfilling"
        trial.heal()
        second = await trial.worker()  # takes longer to import than the next two lines take
        paid, stored = trial.bill(), await trial.stored()
        in_flight = paid.keys() - stored
        await trial.until_state("ready")
        await writers.made_more(5)
    await second.ends_well()

    await trial.assert_well(writers)
    assert len(in_flight) <= IN_FLIGHT
    assert max(paid.values(), default=1) == 1
    twice = {text for text, times in trial.bill().items() if times > 1}
    assert twice <= in_flight, "paid twice, and not in flight at the kill"
    assert max(trial.bill().values()) <= 2
    await trial.assert_can_go_both_ways()


@pytest.mark.parametrize("name", OF_POINTS)
async def test_a_worker_killed_over_points_loses_nothing(
    stage: Stage, store_of: Callable[[str], str], name: str
) -> None:
    """On the way to another store under live writes: it ends with the points that it should have, and no more."""
    kind = "chroma" if name == "points_put" else "postgresql"
    await stage.trials(f"kill -9 at {name}", partial(_killed_over_points, name, store_of(kind)))


async def _killed_over_points(name: str, store: str, trial: Trial) -> None:
    await trial.migrate(sampled=False, store=store)
    hit = trial.folder / "hit"
    async with trial.writers() as writers:
        more = {"REVEC_FAILPOINT": f"{name}:{trial.number % 3 + 1}", "REVEC_FAILPOINT_HIT": str(hit)}
        first = await trial.worker(drain=False, **more)
        code = await first.ended()
        assert code == -signal.SIGKILL, f"{name} was not hit: exit {code}, {first.said}"
        second = await trial.worker()
        await trial.until_state("ready")
        await writers.made_more(5)
    await second.ends_well()

    await trial.assert_well(writers)
    *_, new = await steps.written(trial.app, trial.made)
    await steps.tended(trial.app)
    await steps.assert_tidy(trial.app, new)
    await trial.assert_can_go_both_ways()


@pytest.mark.parametrize("name", OF_BATCHES)
async def test_a_worker_killed_over_a_batch_loses_nothing(stage: Stage, name: str) -> None:
    """In a patient backfill under live writes; another worker goes on, and no text is in two batches."""
    await stage.trials(f"kill -9 at {name}", partial(_killed_over_a_batch, name))


async def _killed_over_a_batch(name: str, trial: Trial) -> None:
    await trial.migrate(BATCHED[trial.number % 2], sampled=False, patient=True)
    hit = trial.folder / "hit"
    arguments = ("worker", "--quiet", "--drain")
    async with trial.writers() as writers:
        more = {"REVEC_FAILPOINT": name, "REVEC_FAILPOINT_HIT": str(hit)}
        first = await trial.start(*arguments, code=QUICK, **more)
        code = await first.ended()
        assert code == -signal.SIGKILL, f"{name} was not hit: exit {code}, {first.said}"
        second = await trial.start(*arguments, code=QUICK)
        await trial.until_state("ready")
        await writers.made_more(5)
    await second.ends_well()

    await trial.assert_well(writers)
    batched = Counter(line["text"] for line in trial.loopback.bill() if line["batch"])
    assert batched
    assert max(batched.values()) == 1
    await trial.assert_can_go_both_ways()
