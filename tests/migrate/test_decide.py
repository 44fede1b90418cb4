"""`decide` over all that it may see: it never guesses, never leaps, and always says what it waits for."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from revec.migrate.decide import Action, Do, For, Rung, Snapshot, decide
from revec.model.migration import FINAL, State, allowed
from revec.model.verdict import Outcome

GATES = ("completeness", "fidelity", "recall", "quality", "latency", "errors")
TRAFFIC = ("latency", "errors", "variance")
PERSONS = {State.LIVE, State.FINISHING, State.CANARY, State.ABORTED}  # moves that a person makes

snapshots = st.builds(
    Snapshot,
    collection=st.just("c"),
    state=st.sampled_from(State),
    first_fill=st.booleans(),
    paused=st.none() | st.just("lunch"),
    fault=st.none() | st.just("the model answers nonsense"),
    uncaptured=st.sampled_from([(), ("app.docs",)]),
    unreadable=st.sampled_from([(), ("app.docs cannot be read",)]),
    being_read=st.sampled_from([(), ("app.docs",)]),
    held_back=st.sampled_from([(), ("app.docs is paused: lunch",)]),
    cursor_done=st.booleans(),
    backfill_open=st.integers(0, 3),
    window=st.integers(1, 3),
    tenants_paused=st.sampled_from([(), ("acme (over its budget)",)]),
    dead=st.integers(0, 2),
    built=st.booleans(),
    building=st.booleans(),
    required=st.lists(st.sampled_from(GATES), unique=True).map(tuple),
    verdicts=st.dictionaries(st.sampled_from(GATES), st.sampled_from(Outcome)),
    verify_due=st.booleans(),
    undecided=st.sampled_from([{}, {"quality": "cannot tell yet: ~90 more judged queries"}]),
    shadow=st.booleans(),
    traffic=st.just(TRAFFIC),
    rung=st.none()
    | st.builds(Rung, st.just(0.02), st.none() | st.just(0.05), st.booleans(), st.just("at 2%")),
    old_probe_due=st.booleans(),
    hold=st.none() | st.just("errors rose"),
    fired=st.none() | st.just("guard errors has fired: errors rose"),
    order=st.none() | st.just("ada ordered the cutover"),
    order_seconds=st.none() | st.sampled_from([-1.0, 0.0, 90.0]),
    canary=st.just("10% of the users see the new index"),
    canary_steps=st.booleans(),
    canary_quiet=st.booleans(),
    drop_seconds=st.none() | st.sampled_from([-1.0, 0.0, 0.5, 90.0, 7e3, 7e5]),
)
UNHINDERED = {
    "paused": None,
    "fault": None,
    "unreadable": (),
    "being_read": (),
    "held_back": (),
    "tenants_paused": (),
}
everything = settings(max_examples=200, deadline=None)


def passed(seen: Snapshot) -> bool:
    """Written anew: each required gate, and there is one, has a pass."""
    return bool(seen.required) and all(seen.verdicts.get(gate) is Outcome.PASSED for gate in seen.required)


@everything
@given(snapshots)
def test_no_move_that_the_table_forbids(seen: Snapshot) -> None:
    """Whatever it sees, an arrow that it takes is in TRANSITIONS."""
    to = decide(seen).to
    assert to is None or allowed(seen.state, to)


@everything
@given(snapshots)
def test_users_see_a_new_index_only_after_a_person_said_so(seen: Snapshot) -> None:
    """By itself it serves the first index alone, keeps what was ordered, and drops only where a person began
    to finish; a canary grows by steps that a person named, each after a quiet one.
    """
    action = decide(seen)
    if action.do is Do.KEEP_ORDER:
        assert (seen.state in {State.READY, State.CANARY}, passed(seen), seen.hold) == (True, True, None)
        assert seen.order_seconds is not None
        assert seen.order_seconds <= 0
        assert seen.fired is None
    elif action.to in PERSONS:
        assert seen.first_fill
    if action.do is Do.WIDEN:
        assert (seen.state, passed(seen), seen.hold) == (State.CANARY, True, None)
        assert seen.fired is None
        assert seen.canary_steps
        assert seen.canary_quiet
    if action.do is Do.DROP:
        assert seen.state is State.FINISHING
        assert seen.drop_seconds is not None
        assert seen.drop_seconds <= 0


@everything
@given(snapshots, st.sampled_from([{"canary_steps": True, "canary_quiet": True}, {"order": "ada ordered"}]))
def test_what_a_guard_could_not_take_back_waits_for_a_person(seen: Snapshot, wish: dict[str, object]) -> None:
    """It says which guard, why, and the way on; with none that has fired the wish is kept."""
    verdicts = dict.fromkeys(GATES, Outcome.PASSED)
    free = {"hold": None, "old_probe_due": False, "order": None, "order_seconds": 0.0} | wish
    seen = replace(seen, state=State.CANARY, required=GATES, verdicts=verdicts, **UNHINDERED)
    action = decide(replace(seen, **free, fired="guard errors has fired: errors rose"))
    assert (action.do, action.wait_for) == (Do.WAIT, For.PERSON)
    assert "guard errors has fired: errors rose (`revec resume c`" in action.why
    assert decide(replace(seen, **free, fired=None)).do in {Do.WIDEN, Do.KEEP_ORDER}


@everything
@given(snapshots)
def test_nothing_is_ready_or_served_without_every_required_pass(seen: Snapshot) -> None:
    """Missing, failed, undecided, not configured, or no gate at all: it stays where it is."""
    action = decide(seen)
    if action.to is State.READY or action.do is Do.CUT_OVER:
        assert passed(seen)


@everything
@given(snapshots)
def test_no_step_on_missing_data(seen: Snapshot) -> None:
    """No build before the last document is done, no verification before the build, no backfill uncaptured."""
    to = decide(seen).to
    if to is State.INDEXING:
        assert seen.cursor_done
        assert seen.backfill_open == 0
        assert not seen.tenants_paused
    if to is State.VERIFYING:
        assert seen.built
    if to is State.BACKFILLING:
        assert not seen.uncaptured
    if to in {State.BACKFILLING, State.READY}:
        assert not seen.unreadable + seen.being_read


@everything
@given(snapshots, st.sampled_from([State.VERIFYING, State.READY]))
def test_a_failure_is_never_judged_away(seen: Snapshot, state: State) -> None:
    """While a required gate stands FAILED nothing is verified again: a person clears it first."""
    failed = {**seen.verdicts, "fidelity": Outcome.FAILED}
    seen = replace(seen, state=state, required=GATES, verdicts=failed, **UNHINDERED)
    action = decide(seen)
    assert (action.do, action.wait_for) == (Do.WAIT, For.PERSON)
    assert "revec resume c --clear" in action.why


@everything
@given(snapshots)
def test_dead_letters_wait_for_a_person(seen: Snapshot) -> None:
    """Not judged again, at the price of a judgement, while nobody has settled them."""
    verdicts = {"completeness": Outcome.INCONCLUSIVE}
    seen = replace(seen, state=State.VERIFYING, required=GATES, verdicts=verdicts, **UNHINDERED)
    action = decide(replace(seen, dead=2))
    assert (action.do, action.wait_for) == (Do.WAIT, For.PERSON)
    assert "2 dead letters: `revec queue list c`" in action.why
    assert decide(replace(seen, dead=0, verify_due=True)).do is Do.VERIFY


@everything
@given(snapshots, st.sampled_from([State.VERIFYING, State.READY]))
def test_a_gate_that_has_had_its_look_waits_for_a_person(seen: Snapshot, state: State) -> None:
    """Where nothing else is unproven; with another gate to be judged, it is judged."""
    looked = {"undecided": {"quality": "cannot tell yet: ~90 more judged queries"}, "verify_due": True}
    seen = replace(seen, state=state, required=GATES, dead=0, **UNHINDERED, **looked)
    verdicts = dict.fromkeys(GATES, Outcome.PASSED) | {"quality": Outcome.INCONCLUSIVE}
    action = decide(replace(seen, verdicts=verdicts))
    assert (action.do, action.wait_for) == (Do.WAIT, For.PERSON)
    assert "~90 more judged queries (`revec judgements add c`)" in action.why
    assert decide(replace(seen, verdicts=verdicts | {"fidelity": Outcome.INCONCLUSIVE})).do is Do.VERIFY
    assert decide(replace(seen, verdicts=verdicts, undecided={})).do is Do.VERIFY


@everything
@given(snapshots)
def test_paused_tenants_hold_a_proof_up_and_nobody_else(seen: Snapshot) -> None:
    """Pages of the others go on; a gate that could not pass is not asked, and the way on is named."""
    hindered = {**UNHINDERED, "tenants_paused": ("acme (over its budget)",)}
    seen = replace(seen, **hindered, dead=0, required=GATES, verdicts={})
    going_on = replace(seen, state=State.BACKFILLING, cursor_done=False, backfill_open=0)
    assert decide(going_on).do is Do.ENQUEUE
    for state in (State.VERIFYING, State.BACKFILLING):
        action = decide(replace(seen, state=state, cursor_done=True, backfill_open=0))
        assert (action.do, action.wait_for) == (Do.WAIT, For.PERSON)
        assert "acme (over its budget); `revec tenants resume c TENANT`" in action.why


@everything
@given(snapshots, st.sampled_from([state for state in State if state.can_abort]))
def test_what_is_paused_never_acts(seen: Snapshot, state: State) -> None:
    """Paused, wherever a pause is possible: it waits for a person, and the way on is named."""
    action = decide(replace(seen, state=state, paused="lunch"))
    assert (action.do, action.wait_for) == (Do.WAIT, For.PERSON)
    assert "lunch" in action.why
    assert "`revec resume c`" in action.why


@everything
@given(snapshots, st.sampled_from(FINAL))
def test_what_is_over_never_acts(seen: Snapshot, state: State) -> None:
    """Finished and aborted are the end."""
    assert decide(replace(seen, state=state)).do is Do.WAIT


@everything
@given(snapshots)
def test_a_distrusted_model_enqueues_and_verifies_nothing(seen: Snapshot) -> None:
    """While the new index has a fault nothing is paid for, and nobody is served by it."""
    action = decide(replace(seen, fault="nonsense"))
    assert action.do not in {Do.ENQUEUE, Do.VERIFY, Do.CUT_OVER}


@everything
@given(snapshots)
def test_it_acts_or_says_what_it_waits_for(seen: Snapshot) -> None:
    """An action moves or does; a wait has words and names who or what ends it."""
    action = decide(seen)
    assert action.why
    assert (action.wait_for is not None) == (action.do is Do.WAIT)
    assert action.do is not Do.MOVE or action.to is not None
    if action.wait_for is For.CLOCK:
        assert action.seconds > 0 or seen.drop_seconds is None


@everything
@given(snapshots)
def test_it_is_a_pure_function(seen: Snapshot) -> None:
    """The same sight, the same decision."""
    assert decide(seen) == decide(replace(seen))


# --- the world, idealised: every action works, every wait for work or the clock ends ---------------


def world_after(seen: Snapshot, action: Action, pages: int) -> Snapshot:
    """What the database would show next; `pages` is what the cursor still has before it."""
    became = {
        Do.ENQUEUE: {"backfill_open": seen.backfill_open + 1, "cursor_done": pages <= 1},
        Do.BUILD: {"building": True},
        Do.VERIFY: {"verdicts": dict.fromkeys(seen.required, Outcome.PASSED)},
        Do.RAISE: {"rung": Rung(0.10, None, proven=False, told="at 10%")},
        Do.PROBE_OLD: {"old_probe_due": False},
        Do.WIDEN: {"canary_steps": False},
        Do.WAIT: {
            "backfill_open": max(0, seen.backfill_open - 1),
            "built": seen.built or seen.building,
            "verify_due": True,
            "being_read": (),
            "drop_seconds": 0.0,
            "canary_quiet": True,
            "order_seconds": seen.order_seconds and 0.0,
        },
    }.get(action.do, {"state": action.to})
    return replace(seen, **became)


def played(seen: Snapshot, pages: int) -> tuple[list[State], Snapshot, Action]:
    """Decide and act until only a person can go on: the states passed, the last sight, the last wait."""
    states = [seen.state]
    for _ in range(200):
        action = decide(seen)
        if action.wait_for is For.PERSON:
            return states, seen, action
        if action.do is Do.ENQUEUE:
            seen, pages = world_after(seen, action, pages), pages - 1
        else:
            seen = world_after(seen, action, pages)
        if seen.state is not states[-1]:
            states.append(seen.state)
    raise AssertionError(f"still moving after 200 steps: {states}, {seen}")


ROAD = [State.PLANNED, State.CAPTURING, State.BACKFILLING, State.INDEXING, State.VERIFYING, State.READY]

beginnings = st.builds(
    Snapshot,
    collection=st.just("c"),
    state=st.just(State.PLANNED),
    first_fill=st.just(value=True),
    window=st.integers(1, 4),
    built=st.booleans(),
    required=st.just(GATES),
    verify_due=st.booleans(),
    old_probe_due=st.booleans(),
)


@everything
@given(beginnings, st.integers(0, 12))
def test_a_first_fill_ends_finished_by_itself(planned: Snapshot, pages: int) -> None:
    """From nothing to an index that serves, without a person."""
    states, _, _ = played(planned, pages)
    assert states == [*ROAD, State.LIVE, State.FINISHING, State.FINISHED]


@everything
@given(beginnings, st.integers(0, 12))
def test_a_migration_waits_for_a_person_at_ready(planned: Snapshot, pages: int) -> None:
    """With an index that serves, it goes as far as ready, and then asks."""
    states, seen, last = played(replace(planned, first_fill=False), pages)
    assert states == ROAD
    assert last.why == "ready: `revec cutover c`"

    live, _, last = played(replace(seen, state=State.LIVE, old_probe_due=True), 0)
    assert live == [State.LIVE]
    assert "`revec finish c`" in last.why
    assert "`revec rollback c`" in last.why

    states, _, _ = played(replace(seen, state=State.FINISHING, drop_seconds=600.0), 0)
    assert states == [State.FINISHING, State.FINISHED]


@everything
@given(snapshots)
def test_more_is_read_twice_only_on_evidence(seen: Snapshot) -> None:
    """On a rung that is proven, that has a next one, with what is stored proven and nothing failed."""
    action = decide(seen)
    if action.do is Do.RAISE:
        stored = [gate for gate in seen.required if gate not in TRAFFIC]
        assert seen.state is State.SHADOWING
        assert seen.rung is not None
        assert seen.rung.proven
        assert seen.rung.next
        assert all(seen.verdicts.get(gate) is Outcome.PASSED for gate in stored)
        assert Outcome.FAILED not in [seen.verdicts.get(gate) for gate in seen.required]


@everything
@given(snapshots)
def test_only_who_asked_for_it_is_shadowed(seen: Snapshot) -> None:
    """And what is left of it is ready, at the last rung, with every pass."""
    action = decide(seen)
    if action.to is State.SHADOWING:
        assert (seen.state, seen.shadow, seen.first_fill) == (State.VERIFYING, True, False)
    if seen.state is State.SHADOWING and action.to is State.READY:
        assert seen.rung is not None
        assert seen.rung.next is None
        assert passed(seen)


@everything
@given(beginnings, st.integers(0, 6))
def test_the_road_leads_through_the_shadow(planned: Snapshot, pages: int) -> None:
    """With searches that prove each rung and pass each gate it comes out ready."""
    begun = replace(planned, first_fill=False, shadow=True, traffic=TRAFFIC)
    states, seen, last = played(begun, pages)
    assert states == [*ROAD[:-1], State.SHADOWING]
    assert "revec shadow c" in last.why
    seen = replace(seen, rung=Rung(0.02, 0.05, proven=True, told="at 2%"))
    states, _, last = played(seen, 0)
    assert states == [State.SHADOWING, State.READY]
    assert last.why == "ready: `revec cutover c`"


@everything
@given(beginnings, st.integers(0, 6), snapshots)
def test_nothing_gets_stuck(planned: Snapshot, pages: int, seen: Snapshot) -> None:
    """From any sight at all the world comes to an end or to a person, never to a loop."""
    played(seen, pages)
    played(planned, pages)


def test_a_wait_for_the_clock_says_how_long() -> None:
    """In the unit that a person would use."""
    finishing = Snapshot("c", State.FINISHING, first_fill=False)
    spans = {
        7 * 86_400.0: "7 more days",
        7_200.0: "2 more hours",
        600.0: "10 more minutes",
        5.0: "5 more",
    }
    for seconds, words in spans.items():
        assert words in decide(replace(finishing, drop_seconds=seconds)).why
