"""The machine: one table of arrows; all else follows from it."""

from __future__ import annotations

import re
from itertools import product

import pytest

from revec.app import App
from revec.model.migration import FINAL, TRANSITIONS, State, allowed
from tests import steps

# Written down a second time, on purpose: an arrow that is added or lost by mistake shows here.
ARROWS = """
planned → capturing aborted
capturing → backfilling aborted
backfilling → indexing aborted
indexing → verifying aborted
verifying → shadowing ready aborted
shadowing → ready aborted
ready → canary live aborted
canary → live ready
live → ready finishing
finishing → live finished
"""
LISTED = {
    (State(at), State(to))
    for line in ARROWS.strip().splitlines()
    for at, _, targets in [line.partition(" → ")]
    for to in targets.split()
}


@pytest.mark.parametrize(("at", "to"), [*product(State, State)])
def test_only_the_arrows_of_the_table_are_allowed(at: State, to: State) -> None:
    """All 144 pairs: 22 arrows, and nothing else."""
    assert allowed(at, to) == ((at, to) in LISTED)


def test_every_state_is_reached_from_planned() -> None:
    """No state is an island."""
    seen, edge = {State.PLANNED}, {State.PLANNED}
    while edge:
        edge = {to for at in edge for to in TRANSITIONS[at]} - seen
        seen |= edge
    assert seen == set(State)


def test_every_state_has_a_way_out_or_is_final() -> None:
    """From each state that is not final, a final one can be reached."""
    for at in State:
        seen, edge = {at}, {at}
        while edge:
            edge = {to for each in edge for to in TRANSITIONS[each]} - seen
            seen |= edge
        assert seen & set(FINAL), at


def test_final_means_no_arrow_leaves() -> None:
    """Derived, not listed: a state is final when the table has no arrow from it."""
    assert set(FINAL) == {State.FINISHED, State.ABORTED}
    assert [state for state in State if state.is_final] == list(FINAL)


def test_a_migration_is_aborted_until_users_see_it_and_rolled_back_from_then_on() -> None:
    """Never both: what users may see is rolled back first."""
    able = {state for state in State if state.can_abort}
    assert able == set(State) - {State.CANARY, State.LIVE, State.FINISHING, *FINAL}
    assert {state for state in State if state.can_roll_back} == {State.CANARY, State.LIVE}


def test_every_arrow_has_a_reason_that_a_person_can_read() -> None:
    """A reason is some words without a stop: it is joined into sentences."""
    for reasons in TRANSITIONS.values():
        for why in reasons.values():
            assert len(why.split()) >= 4
            assert not why.endswith(".")


async def test_the_database_knows_the_same_states(app: App) -> None:
    """The CHECK of revec.migration lists the enum's values, in their order, and nothing else."""
    (found,) = await steps.rows(
        app,
        "SELECT pg_get_constraintdef(oid) AS rule FROM pg_constraint"
        " WHERE conrelid = 'revec.migration'::regclass AND contype = 'c' AND conname = 'migration_state_check'",
    )
    assert re.findall(r"'(\w+)'", found.rule) == [str(state) for state in State]


async def test_one_migration_at_a_time_means_until_a_final_state(app: App) -> None:
    """The unique index leaves out exactly the final states."""
    (found,) = await steps.rows(
        app, "SELECT pg_get_indexdef('revec.migration_one_at_a_time'::regclass) AS rule"
    )
    assert set(re.findall(r"'(\w+)'", found.rule)) == {str(state) for state in FINAL}
