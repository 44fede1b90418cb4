"""Everything at once: workers that lose their leases, writers on few keys, and the oracle at the end."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import pytest

from revec.app import App
from revec.model.document import Draft
from revec.observe import events
from revec.work import calls, queue
from tests import steps
from tests.conftest import TRIALS
from tests.loopback import Loopback
from tests.work import hands

SECONDS = 2.5
PATIENCE = 60.0  # of the same, where the machine is busy
KEYS = 12
TEXTS = 30  # few enough that equal texts meet
ENOUGH = 20  # documents that the workers wrote meanwhile
LEASE = 0.15  # seconds, and the slow answers take longer
SLOW = 0.4


@pytest.mark.stress
@pytest.mark.parametrize("trial", range(TRIALS))
async def test_two_workers_and_two_writers(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch, trial: int
) -> None:
    """Inserts, edits, deletes and re-inserts of 12 keys, leases that run out: nothing stale, nothing lost."""
    seed = trial + int(time.time()) * 1_000
    print(f"seed {seed}")
    app.settings = app.settings.model_copy(update={"lease": LEASE})
    monkeypatch.setattr(calls, "REST", (0.01, 0.05))

    async def stopped(*_: object) -> None:
        """Nobody renews: every slow answer makes a zombie."""

    monkeypatch.setattr(queue, "extend", stopped)
    monkeypatch.setattr(queue, "extend_payment", stopped)
    told: list[events.Event] = []
    monkeypatch.setattr(events, "emit", told.append)
    made, _ = await hands.indexed(app)
    for match in ("7", "3"):
        loopback.fault("slow", times=None, match=match, delay=SLOW)
    loopback.fault("503", times=5)
    workers = [app.worker(claim=4) for _ in range(2)]
    running = [asyncio.create_task(each.run(drain=False)) for each in workers]
    began = time.monotonic()

    def goes_on() -> bool:
        enough = sum(each.summary.written for each in workers) > ENOUGH
        return time.monotonic() < began + (SECONDS if enough else PATIENCE)

    written = await asyncio.gather(*(write(app, made, random.Random(seed + n), goes_on) for n in range(2)))
    for each in workers:
        each.stop()
    await asyncio.gather(*running)
    loopback.clear()
    await steps.drain(app)
    assert sum(written) > 50, "the writers hardly wrote"
    assert sum(each.summary.superseded for each in workers) > 0, "no write was superseded"
    assert sum(each.summary.written for each in workers) > ENOUGH, "the workers hardly wrote"
    troubles = [event for event in told if isinstance(event, events.TryAgain | events.DatabaseLost)]
    assert troubles == []
    ((deadlocks,),) = await steps.rows(
        app, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    assert deadlocks == 0
    await hands.assert_oracle(app, made)


async def write(app: App, made: steps.Collection, dice: random.Random, goes_on: Callable[[], bool]) -> int:
    """Random changes of one or two documents at a time, in any order of keys."""
    count = 0
    while goes_on():
        keys = [str(dice.randrange(KEYS)) for _ in range(dice.choice((1, 1, 2)))]
        drafts = [
            Draft(key=key, body=f"text {dice.randrange(TEXTS)}", tenant=dice.choice("aab")) for key in keys
        ]
        if dice.random() < 0.3:
            await steps.delete(app, made, *keys)
        else:
            await steps.put(app, made, drafts)
        count += 1
        await asyncio.sleep(dice.random() * 0.01)
    return count
