"""A person lets a gate count as passed: with a reason, never completeness, and not against a later failure."""

from __future__ import annotations

from decimal import Decimal

import pytest

from revec.app import App
from revec.model.errors import BadInput, GateNotMet, Refused
from revec.model.migration import State
from revec.model.verdict import Outcome, Verdict
from revec.postgres import migrations
from tests import steps
from tests.loopback import Loopback
from tests.migrate import world

REASON = "forty judged queries are all we have"


async def judged(at: world.At, gate: str, outcome: Outcome, why: str = "by hand") -> None:
    app, made = at
    async with app.database.transaction() as conn:
        await migrations.record(conn, await world.migration(app, made), Verdict(gate, outcome, why))


@pytest.mark.parametrize("outcome", [Outcome.INCONCLUSIVE, Outcome.FAILED])
async def test_a_gate_counts_as_passed_with_a_reason(
    ready: world.At, loopback: Loopback, outcome: Outcome
) -> None:
    """The cutover goes, `status` and history say who let it, and what the gate had said."""
    app, made = ready
    await judged(ready, "fidelity", outcome, "could not tell")
    with pytest.raises(GateNotMet):
        await app.commands.switch.cutover(made, why="test")
    await app.commands.override(made, ["fidelity"], REASON)
    shown = next(each for each in (await world.look(app, made)).gates if each.gate == "fidelity")
    assert (shown.outcome, shown.why) == (outcome, f"overridden ({REASON}); could not tell")
    assert (await world.look(app, made)).next.startswith("ready")
    await app.commands.switch.cutover(made, why="test")
    assert await world.state(app, made) is State.LIVE
    told = next(row for row in await world.history(app, made) if "counts as passed" in row.why)
    assert told.why == f"gate fidelity counts as passed: {REASON}"
    assert told.evidence == {"gate": "fidelity", "stood": f"fidelity: {outcome} (could not tell)"}
    moved = (await world.history(app, made))[-1]
    assert moved.evidence["overridden"] == {"fidelity": REASON}
    await steps.assert_oracle(app, made)


async def test_a_migration_goes_on_past_it(app: App, loopback: Loopback) -> None:
    """Where it stood before the gate, not only at the cutover; and it is not asked for any more."""
    made = await steps.filled(app, 5)
    await app.start(made, steps.NEW, shadow=0.02)
    await steps.drain(app)
    assert await world.state(app, made) is State.SHADOWING
    with pytest.raises(Refused, match="cutover needs ready"):
        await app.commands.switch.cutover(made, why="too early")
    await app.commands.override(made, ["latency", "errors"], "nobody searches this one")
    await steps.rows(app, "UPDATE revec.shadow SET rate = 0.1 RETURNING 1")  # the last rung
    await world.tick_to(app, made, State.READY)
    await app.commands.switch.cutover(made, why="test")
    await steps.assert_oracle(app, made)


async def test_a_later_failure_takes_it_back(ready: world.At, loopback: Loopback) -> None:
    """What was let pass was a gate that could not tell; nobody has looked at the failure."""
    app, made = ready
    await app.commands.override(made, ["fidelity"], REASON)
    await judged(ready, "fidelity", Outcome.INCONCLUSIVE)
    await judged(ready, "fidelity", Outcome.PASSED)
    assert (await world.migration(app, made)).required == ("completeness",)
    await judged(ready, "fidelity", Outcome.FAILED)
    assert (await world.migration(app, made)).required == ("completeness", "fidelity")
    with pytest.raises(GateNotMet, match="fidelity"):
        await app.commands.switch.cutover(made, why="test")
    await app.commands.override(made, ["fidelity"], "looked at the failure too")
    await judged(ready, "fidelity", Outcome.FAILED)
    await app.commands.switch.cutover(made, why="test")


async def test_what_nothing_stands_in_for(ready: world.At, loopback: Loopback) -> None:
    """Missing data, a silent decision, and a gate that nobody requires: each refused, nothing changed."""
    app, made = ready
    with pytest.raises(BadInput, match="nothing advances on missing data"):
        await app.commands.override(made, ["fidelity", "completeness"], REASON)
    with pytest.raises(BadInput, match="wants a --reason"):
        await app.commands.override(made, ["fidelity"], " ")
    with pytest.raises(Refused, match="quality is not required of c's migration: completeness, fidelity are"):
        await app.commands.override(made, ["quality"], REASON)
    assert (await world.migration(app, made)).overridden == {}
    await judged(ready, "completeness", Outcome.INCONCLUSIVE)
    with pytest.raises(GateNotMet, match="completeness"):
        await app.commands.switch.cutover(made, why="test")


async def test_a_guards_hold_is_lifted_by_itself_alone(ready: world.At, loopback: Loopback) -> None:
    """Who gives more money or clears a gate has not looked at what the guard saw."""
    app, made = ready
    await steps.rows(app, "UPDATE revec.migration SET hold = 'guard errors' RETURNING 1")
    await judged(ready, "fidelity", Outcome.FAILED)
    await app.commands.resume(made, clear="fidelity", reason="looked")
    with pytest.raises(BadInput):
        await app.commands.resume(made, budget=Decimal(5))  # this model has no price
    assert (await world.migration(app, made)).hold == "guard errors"
    assert await app.commands.resume(made) == ["the hold: guard errors"]
    assert (await world.migration(app, made)).hold is None


async def test_a_guards_rollback_ends_what_was_let_pass(live: world.At, loopback: Loopback) -> None:
    """It was said before users were hurt: the next cutover asks every gate again."""
    app, made = live
    await app.commands.override(made, ["fidelity"], REASON)
    await app.commands.switch.guarded_back(await world.migration(app, made), "guard errors: many", {})
    assert (await world.migration(app, made)).required == ("completeness", "fidelity")


async def test_a_persons_rollback_leaves_it(live: world.At, loopback: Loopback) -> None:
    """The complement: who goes back and forth has looked."""
    app, made = live
    await app.commands.override(made, ["fidelity"], REASON)
    await app.commands.switch.rollback(made, why="test")
    assert (await world.migration(app, made)).required == ("completeness",)
