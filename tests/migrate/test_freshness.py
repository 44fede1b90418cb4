"""The freshness gate: no document waits longer than its goal, in any lane."""

from __future__ import annotations

import pytest

from revec.app import App
from revec.model.verdict import Outcome
from tests import steps
from tests.loopback import Loopback
from tests.migrate import world


@pytest.mark.parametrize(("lane", "goal"), [(0, 30), (1, 60), (2, 30)])
async def test_each_lane_has_its_goal(app: App, loopback: Loopback, lane: int, goal: int) -> None:
    """Within it: passed. Beyond it: it cannot be said that the index is fresh, and what brings it in."""
    made = await steps.filled(app, 3)
    (index,) = await steps.written(app, made)
    assert (await world.judged(app, "freshness", index)).why == "nothing waits"
    await steps.put(app, made, steps.drafts(2, start=50))
    await steps.rows(app, "UPDATE revec.work SET lane = %(lane)s RETURNING 1", lane=lane)
    for age, outcome in ((goal - 5, Outcome.PASSED), (goal + 2, Outcome.INCONCLUSIVE)):
        await steps.rows(
            app, "UPDATE revec.work SET since = now() - make_interval(secs => %(s)s) RETURNING 1", s=age
        )
        verdict = await world.judged(app, "freshness", index)
        assert verdict.outcome is outcome
        assert (verdict.figures.n, verdict.figures.limit) == (2, goal)
    assert "2 documents wait for openai:fake-64#1" in verdict.why
    await steps.drain(app)
    assert (await world.judged(app, "freshness", index)).outcome is Outcome.PASSED
