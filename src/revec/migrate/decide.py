"""What the conductor should do next: a pure function of what it sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from revec.model.migration import State
from revec.model.verdict import Outcome


class Do(StrEnum):
    REGISTER = "register the new index"
    MOVE = "move on"
    ENQUEUE = "enqueue the next documents"
    BUILD = "build the approximate index"
    VERIFY = "verify"
    RAISE = "read more of the queries twice"
    CUT_OVER = "serve the first index"
    KEEP_ORDER = "cut over, as it was ordered"
    WIDEN = "show the new index to more users"
    STOP = "pause where its course ends"
    PROBE_OLD = "ask whether the old model still answers"
    DROP = "drop the old index"
    WAIT = "wait"


class For(StrEnum):
    """What a wait is for: only the clock, a person, or what users ask can end the last three."""

    WORK = "work"
    CLOCK = "clock"
    PERSON = "person"
    USERS = "users"


@dataclass(frozen=True, slots=True)
class Rung:
    """How much of the traffic the shadow reads, and whether that was seen often enough to read more."""

    rate: float
    next: float | None  # None: it is the last
    proven: bool
    told: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One migration as the database has it at one moment."""

    collection: str
    state: State
    first_fill: bool
    paused: str | None = None
    fault: str | None = None  # of the new index: its model is not trusted
    uncaptured: tuple[str, ...] = ()  # sources whose triggers are missing
    unreadable: tuple[str, ...] = ()  # why sources cannot be read; a person mends it
    being_read: tuple[str, ...] = ()  # sources in a full pass
    held_back: tuple[str, ...] = ()  # which sources a person paused, and why
    cursor_done: bool = False  # of every tenant that is not paused
    until: str | None = None  # it is to stop here: how far it is, in words
    waiting: str | None = None  # whom the backfill leaves out for now
    backfill_open: int = 0  # theirs
    window: int = 1
    batched: int = 0  # of those documents, with the provider in batches
    batches: str = ""  # what there is to say of them
    batch_seconds: float = 0.0  # since the last one was submitted; 0 where it is time to look at one
    tenants_paused: tuple[str, ...] = ()  # that lack vectors in the new index, with the reasons
    dead: int = 0  # letters of the new index that nobody has settled
    built: bool = False
    building: bool = False
    required: tuple[str, ...] = ()
    verdicts: Mapping[str, Outcome] = field(default_factory=dict)  # fresh ones, and failures
    verify_due: bool = True  # not judged a moment ago
    undecided: Mapping[str, str] = field(
        default_factory=dict
    )  # gates that look no more as things are, and why
    shadow: bool = False  # live reads are compared before it is ready
    traffic: tuple[str, ...] = ()  # gates that judge what these reads show
    rung: Rung | None = None  # of the shadow; None: it does not read the new index
    old_probe_due: bool = False
    drop_seconds: float | None = None  # until the old index may go; None: nobody asked
    hold: str | None = None  # why a guard holds it
    fired: str | None = None  # which guard has fired and why, though it may hold nothing
    order: str | None = None  # what is to be said of a cutover that was ordered
    order_seconds: float | None = None  # until it is done; None: it is not, or wants an approval
    canary: str = ""  # who sees the new index
    canary_steps: bool = False  # there is a next step
    canary_quiet: bool = False  # and the present one was quiet for long enough


@dataclass(frozen=True, slots=True)
class Action:
    do: Do
    why: str
    to: State | None = None
    wait_for: For | None = None
    seconds: float = 0.0  # of a wait for the clock


def decide(seen: Snapshot) -> Action:
    """The next action, never one that the table of transitions forbids."""
    if seen.state.is_final:
        return _wait("nothing is left to do", For.PERSON)
    if seen.paused and seen.state.can_abort:
        return _wait(f"paused: {seen.paused} (`revec resume {seen.collection}`)", For.PERSON)
    return _BY_STATE[seen.state](seen)


def way_on(state: State, collection: str) -> str:
    """What a person may do where a migration is: the end of every refusal."""
    look = f"`revec status {collection}` says what it waits for"
    give_up = f"`revec abort {collection}` gives the new index up"
    if state.is_final:
        return f"`revec start {collection} --to MODEL` begins another"
    return {
        State.READY: f"`revec cutover {collection}` serves the new index, {give_up}",
        State.CANARY: f"`revec cutover {collection}` serves everybody by the new index, "
        f"`revec rollback {collection}` goes back",
        State.LIVE: f"`revec finish {collection}` drops the old index, "
        f"`revec rollback {collection}` goes back",
        State.FINISHING: f"`revec finish {collection} --cancel` keeps the old index",
    }.get(state, f"{look}, {give_up}")


def _planned(_: Snapshot) -> Action:
    return Action(Do.REGISTER, "writes should make work for the new index", to=State.CAPTURING)


def _capturing(seen: Snapshot) -> Action:
    if seen.uncaptured:
        return _wait(
            f"triggers are missing or disabled on {', '.join(seen.uncaptured)}: run `revec init`",
            For.PERSON,
        )
    return _unread(seen) or _move(State.BACKFILLING, "every source is captured and read")


def _unread(seen: Snapshot) -> Action | None:
    """A proof over documents is none over rows that are not documents yet."""
    if seen.unreadable:
        return _wait(seen.unreadable[0], For.PERSON)
    if seen.held_back:
        return _wait(f"{seen.held_back[0]} (`revec resume {seen.collection} --source …`)", For.PERSON)
    if seen.being_read:
        return _wait(f"{', '.join(seen.being_read)} is being read", For.WORK)
    return None


def _backfilling(seen: Snapshot) -> Action:
    if seen.fault:
        return _wait(seen.fault, For.PERSON)
    if not seen.cursor_done and not seen.until and seen.backfill_open < seen.window:
        return Action(Do.ENQUEUE, "the window has room")
    if seen.backfill_open:
        return _embedding(seen)
    if seen.until and not seen.cursor_done:
        return Action(Do.STOP, seen.until)
    return _held_up(seen) or _move(State.INDEXING, "every document was enumerated and its work is done")


def _held_up(seen: Snapshot) -> Action | None:
    """Tenants that a person has wait."""
    if seen.waiting:
        way = f"`revec resume {seen.collection} --tenants all`, or some of them"
        return _wait(f"left are {seen.waiting} ({way})", For.PERSON)
    return _wait(_of_paused(seen), For.PERSON) if seen.tenants_paused else None


def _embedding(seen: Snapshot) -> Action:
    if seen.batched >= seen.backfill_open:  # what has taken so long may take as long again
        return _wait(f"{seen.batches}; a worker collects it", For.CLOCK, seen.batch_seconds)
    if not seen.cursor_done:
        return _wait(f"the window of {seen.window:,} documents is full", For.WORK)
    return _wait(f"{seen.backfill_open:,} documents are still to be embedded", For.WORK)


def _of_paused(seen: Snapshot) -> str:
    return (
        f"only documents of paused tenants are left: {', '.join(seen.tenants_paused)}; "
        f"`revec tenants resume {seen.collection} TENANT` lets one go on"
    )


def _indexing(seen: Snapshot) -> Action:
    if seen.built:
        return _move(State.VERIFYING, "the index is built and valid, or needs no building")
    if seen.building:
        return _wait("the approximate index is being built", For.WORK)
    return Action(Do.BUILD, "the load is over and nobody reads the table yet")


def _verifying(seen: Snapshot) -> Action:
    if unproven := _unread(seen) or _until_passed(seen, _stored(seen)):
        return unproven
    if seen.shadow and not seen.first_fill:
        return _move(
            State.SHADOWING, "the stored vectors are complete and right: live reads are compared next"
        )
    return _until_passed(seen) or _move(State.READY, "every required gate passed")


def _shadowing(seen: Snapshot) -> Action:
    """Rungs end on evidence, never on time; the last one when every gate has passed."""
    if unproven := _unread(seen) or _until_passed(seen, _stored(seen)):
        return unproven
    if seen.rung is None:
        return _wait(f"nothing is compared: `revec shadow {seen.collection} --rate …` begins", For.PERSON)
    return _on_the_rung(seen, seen.rung)


def _on_the_rung(seen: Snapshot, rung: Rung) -> Action:
    unproven = _until_passed(seen)
    if rung.next is not None and rung.proven and Outcome.FAILED not in _outcomes(seen).values():
        return Action(Do.RAISE, f"{rung.told}: {rung.next:.0%} from now on")
    if unproven and (unproven.do is Do.VERIFY or Outcome.FAILED in _outcomes(seen).values()):
        return unproven
    if rung.next is None and not unproven:
        return _move(State.READY, "every required gate passed")
    return _wait(f"{unproven.why}; {rung.told}" if unproven else rung.told, For.PERSON)  # who searches


def _ready(seen: Snapshot) -> Action:
    if unproven := _until_passed(seen):
        return unproven
    if seen.fault:
        return _wait(seen.fault, For.PERSON)
    if seen.first_fill:
        return Action(Do.CUT_OVER, "nothing served before", to=State.LIVE)
    return _of_order(seen) or _wait(f"ready: `revec cutover {seen.collection}`", For.PERSON)


def _canary(seen: Snapshot) -> Action:
    if unproven := _until_passed(seen):
        return unproven
    if trouble := seen.hold or seen.fault:
        return _wait(trouble, For.PERSON)
    if seen.old_probe_due:
        return Action(Do.PROBE_OLD, "a rollback needs the old model")
    return _of_order(seen) or _of_steps(seen)


def _of_steps(seen: Snapshot) -> Action:
    if seen.fired:
        return _wait(f"{_of_guards(seen)}; {seen.canary}", For.PERSON)
    if not seen.canary_steps:
        return _wait(f"{seen.canary}; {way_on(seen.state, seen.collection)}", For.PERSON)
    if seen.canary_quiet:
        return Action(Do.WIDEN, f"it was quiet: {seen.canary}")
    return _wait(seen.canary, For.USERS)


def _of_order(seen: Snapshot) -> Action | None:
    if seen.order is None:
        return None
    if seen.order_seconds is None or seen.hold:
        return _wait(seen.order, For.PERSON)
    if seen.fired:
        return _wait(f"{_of_guards(seen)}; {seen.order}", For.PERSON)
    if seen.order_seconds > 0:
        return _wait(seen.order, For.CLOCK, seen.order_seconds)
    return Action(Do.KEEP_ORDER, seen.order, to=State.LIVE)


def _of_guards(seen: Snapshot) -> str:
    """Where a guard could not take users back, nobody follows them by itself."""
    return f"{seen.fired} (`revec resume {seen.collection}` once you have looked)"


def _live(seen: Snapshot) -> Action:
    if seen.first_fill:
        return _move(State.FINISHING, "there is no old index")
    if seen.old_probe_due:
        return Action(Do.PROBE_OLD, "a rollback needs the old model")
    return _wait(
        f"live: `revec finish {seen.collection}` when sure, or `revec rollback {seen.collection}`",
        For.PERSON,
    )


def _finishing(seen: Snapshot) -> Action:
    if seen.first_fill:
        return _move(State.FINISHED, "there is no old index to drop")
    if seen.drop_seconds is None or seen.drop_seconds > 0:
        seconds = seen.drop_seconds or 0.0
        return _wait(f"the old index is kept for {_span(seconds)}", For.CLOCK, seconds)
    return Action(Do.DROP, "its time is over", to=State.FINISHED)


def _by_hand(seen: Snapshot) -> Action:
    return _wait(f"{seen.state}: a person decides", For.PERSON)


_BY_STATE = {
    State.PLANNED: _planned,
    State.CAPTURING: _capturing,
    State.BACKFILLING: _backfilling,
    State.INDEXING: _indexing,
    State.VERIFYING: _verifying,
    State.SHADOWING: _shadowing,
    State.READY: _ready,
    State.CANARY: _canary,
    State.LIVE: _live,
    State.FINISHING: _finishing,
}


def _until_passed(seen: Snapshot, required: tuple[str, ...] | None = None) -> Action | None:
    """What stands between the required gates, or some of them, and a pass; None where they all passed."""
    outcomes = _outcomes(seen, required)
    unproven = [gate for gate, outcome in outcomes.items() if outcome is not Outcome.PASSED]
    if seen.required and not unproven:
        return None
    if why := _for_a_person(seen, outcomes):
        return _wait(why, For.PERSON)
    if unproven and seen.undecided.keys() >= {*unproven}:
        why = "; ".join(f"gate {gate}: {seen.undecided[gate]}" for gate in unproven)
        return _wait(f"{why} (`revec judgements add {seen.collection}`)", For.PERSON)
    why = f"not yet proven: {', '.join(unproven)}"
    if seen.verify_due:
        return Action(Do.VERIFY, why)
    by_searches = set(unproven) <= set(seen.traffic)  # persons make them, no work of ours does
    return _wait(why, For.PERSON if by_searches else For.WORK)


def _outcomes(seen: Snapshot, required: tuple[str, ...] | None = None) -> dict[str, Outcome | None]:
    return {gate: seen.verdicts.get(gate) for gate in (seen.required if required is None else required)}


def _stored(seen: Snapshot) -> tuple[str, ...]:
    """The required gates that judge what is stored: without any searches."""
    return tuple(gate for gate in seen.required if gate not in seen.traffic)


def _for_a_person(seen: Snapshot, outcomes: Mapping[str, Outcome | None]) -> str | None:
    """What no other look at the gates would mend; each look costs texts."""
    if not seen.required:
        return f"no gate is required, so nothing is proven: `revec abort {seen.collection}`"
    if failed := [gate for gate, outcome in outcomes.items() if outcome is Outcome.FAILED]:
        return (
            f"gate {failed[0]} FAILED and stays so until a person clears it: "
            f"`revec resume {seen.collection} --clear {failed[0]} --reason …`"
        )
    if seen.dead:
        return (
            f"{seen.dead:,} dead letters: `revec queue list {seen.collection}` shows why, "
            f"`revec queue retry {seen.collection}` or `revec queue accept {seen.collection}` settles them"
        )
    return _of_paused(seen) if seen.tenants_paused else seen.fault


def _move(to: State, why: str) -> Action:
    return Action(Do.MOVE, why, to=to)


def _wait(why: str, what: For, seconds: float = 0.0) -> Action:
    return Action(Do.WAIT, why, wait_for=what, seconds=seconds)


def _span(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} more {unit}"
    return f"{seconds:.0f} more seconds"
