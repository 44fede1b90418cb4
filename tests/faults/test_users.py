"""`kill -9` where users are moved, and a server that is stopped in the middle of a request."""

from __future__ import annotations

import asyncio
import json
import signal
import urllib.error
import urllib.request
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from revec.migrate.canary import Wanted
from tests.faults.harness import READY, Command, Stage, Trial
from tests.migrate.test_telling import SECRET, receiving

pytestmark = pytest.mark.stress

TRAFFIC = (
    "INSERT INTO revec.traffic (index_id, epoch, requests, errors, timeouts, empties, ms)"
    " SELECT 2, epoch, 200, 150, 0, 0, '{5}' FROM revec.route"
)


async def ordered(trial: Trial) -> None:
    """A cutover whose hour comes."""
    await trial.execute(
        "INSERT INTO revec.cutover_order (migration_id, due_at, ordered_by, why)"
        " SELECT max(id), now(), 'ada', 'at night' FROM revec.migration"
    )


async def widening(trial: Trial) -> None:
    """A canary that was quiet for long enough."""
    await trial.app.commands.canary.show(trial.made, Wanted(share=0.1, steps=[0.5], quiet=1), why="test")
    await trial.execute("UPDATE revec.canary SET answered = 9")


async def failing(trial: Trial) -> None:
    """Users see an index that fails."""
    await trial.app.commands.switch.cutover(trial.made, why="test")
    await trial.execute(TRAFFIC)


# what is prepared, where the worker dies, where it stands then, where the next worker leads it
CASES = {
    "an order, at the flip": (ordered, "flipped", "ready", "live"),
    "a step, before its commit": (widening, "shown", "canary", "canary"),
    "a guard that has seen it": (failing, "guard_fired", "live", "ready"),
    "a guard, at the flip": (failing, "flipped", "live", "ready"),
}


@pytest.mark.parametrize("case", CASES)
async def test_a_worker_killed_while_it_moves_users(stage: Stage, case: str) -> None:
    """It was done or it was not; another worker does it once."""
    await stage.trials(f"kill -9 of {case}", partial(_killed, case), template=READY, trials=1)


async def _killed(case: str, trial: Trial) -> None:
    prepared, place, was, goal = CASES[case]
    await prepared(trial)
    epoch = await trial.ask("SELECT epoch FROM revec.route")
    hit = trial.folder / "hit"
    async with trial.writers() as writers:
        first = await trial.worker(drain=False, REVEC_FAILPOINT=place, REVEC_FAILPOINT_HIT=str(hit))
        assert await first.ended() == -signal.SIGKILL, first.said
        assert await trial.state() == was
        assert await trial.ask("SELECT epoch FROM revec.route") == epoch
        second = await trial.worker(drain=False)
        await trial.until("SELECT epoch > %(e)s FROM revec.route", e=epoch)
        await trial.until_state(goal)
        await writers.made_more(5)
    second.send(signal.SIGTERM)
    await second.ends_well()
    assert await trial.ask("SELECT epoch FROM revec.route") == epoch + 1
    if place == "shown":
        assert await trial.ask("SELECT share FROM revec.route") == 0.5
    if goal == "ready":
        assert await trial.ask("SELECT hold FROM revec.migration ORDER BY id DESC LIMIT 1")
    await trial.assert_well(writers)


async def test_a_teller_killed_after_it_was_heard_tells_it_again(stage: Stage) -> None:
    """At least once, under the same id."""
    await stage.trials("kill -9 behind a webhook", _told_twice, template=READY, trials=1)


async def _told_twice(trial: Trial) -> None:
    await trial.execute("DELETE FROM revec.outbox")
    await trial.app.commands.switch.cutover(trial.made, why="test")
    async with receiving() as receiver:
        hooked = {"REVEC_WEBHOOK": receiver.url, "REVEC_WEBHOOK_SECRET": SECRET}
        first = await trial.worker(drain=False, REVEC_FAILPOINT="webhook_sent", **hooked)
        assert await first.ended() == -signal.SIGKILL, first.said
        await trial.worker(drain=False, **hooked)
        await trial.until("SELECT count(*) = 0 FROM revec.outbox")
    assert [said["became"] for _, said in receiver.heard] == ["live", "live"]
    assert len({said["id"] for _, said in receiver.heard}) == 1


async def test_a_server_that_was_stopped_in_mid_request(stage: Stage) -> None:
    """SIGSTOP while its query is being embedded for the old index; cut over, finished and dropped meanwhile.
    What it says then is an error or wholly of the new index.
    """
    await stage.trials("SIGSTOP in mid-request", _stopped, template=READY, trials=1)


async def _stopped(trial: Trial) -> None:
    server = await trial.start("serve", "--no-auth", "--port", "0", REVEC_REQUEST_DEADLINE="60")
    url = await _address(server)
    trial.loopback.hold()
    asked = asyncio.create_task(asyncio.to_thread(_ask, url, "what nobody wrote"))
    await asyncio.to_thread(trial.loopback.wait_held)
    server.send(signal.SIGSTOP)
    trial.loopback.release()
    await trial.app.commands.switch.cutover(trial.made, why="test")
    await trial.app.commands.switch.finish(trial.made, wait=timedelta(0), why="test")
    worker = await trial.worker(drain=False)
    await trial.execute("UPDATE revec.route SET changed_at = now() - interval '1 hour'")
    await trial.until("SELECT to_regclass('revec.vectors_1') IS NULL")
    server.send(signal.SIGCONT)
    status, answer = await asked
    assert status >= 500 or answer["index"].endswith("#2"), answer
    assert status != 200 or answer["epoch"] >= await trial.ask("SELECT epoch - 1 FROM revec.route")
    status, answer = await asyncio.to_thread(_ask, url, "another")
    assert (status, answer["index"]) == (200, "openai:fake-b-96#2")
    worker.send(signal.SIGTERM)
    await worker.ends_well()
    await trial.assert_checked()


async def _address(server: Command) -> str:
    async with asyncio.timeout(60):
        while "http://" not in server.said:
            assert not server.over, server.said
            await asyncio.sleep(0.05)
    return next(word for word in server.said.split() if word.startswith("http://"))


def _ask(url: str, query: str) -> tuple[int, dict[str, Any]]:
    body = json.dumps({"q": query, "mode": "vector", "tenant": "default"}).encode()
    request = urllib.request.Request(  # noqa: S310 - our own server
        f"{url}/v1/collections/c/search", body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
