"""The migration's states. One table holds the machine; everything else is derived from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from revec.model.judging import Quality
from revec.model.place import Place


class State(StrEnum):
    PLANNED = "planned"
    CAPTURING = "capturing"
    BACKFILLING = "backfilling"
    INDEXING = "indexing"
    VERIFYING = "verifying"
    SHADOWING = "shadowing"
    READY = "ready"
    CANARY = "canary"
    LIVE = "live"
    FINISHING = "finishing"
    FINISHED = "finished"
    ABORTED = "aborted"

    @property
    def is_final(self) -> bool:
        return not TRANSITIONS[self]

    @property
    def can_abort(self) -> bool:
        return State.ABORTED in TRANSITIONS[self]

    @property
    def can_roll_back(self) -> bool:
        """Users may see the new index, and one compare-and-set takes them back."""
        return State.READY in TRANSITIONS[self] and not self.can_abort

    @property
    def may_serve_early(self) -> bool:
        """The new index is being filled or proven, and no person has let anybody see it yet."""
        return self.can_abort and self not in {State.PLANNED, State.CAPTURING}


# state → {next: why it goes there}. Pause, throttle and hold are columns, not states.
TRANSITIONS: dict[State, dict[State, str]] = {
    State.PLANNED: {
        State.CAPTURING: "the new index is registered: every write makes work for it",
        State.ABORTED: "a person gave it up",
    },
    State.CAPTURING: {
        State.BACKFILLING: "every source's triggers are in place and enabled",
        State.ABORTED: "a person gave it up",
    },
    State.BACKFILLING: {
        State.INDEXING: "the cursors passed the last document and its work is done",
        State.ABORTED: "a person gave it up",
    },
    State.INDEXING: {
        State.VERIFYING: "the index is built and valid, or needs no building",
        State.ABORTED: "a person gave it up",
    },
    State.VERIFYING: {
        State.SHADOWING: "the stored vectors are complete and right; live reads are compared next",
        State.READY: "every required gate passed",
        State.ABORTED: "a person gave it up",
    },
    State.SHADOWING: {
        State.READY: "every required gate passed",
        State.ABORTED: "a person gave it up",
    },
    State.READY: {
        State.CANARY: "a person lets some users see the new index",
        State.LIVE: "a person cut over, or nothing served before",
        State.ABORTED: "a person gave it up",
    },
    State.CANARY: {
        State.LIVE: "a person lets everybody see the new index",
        State.READY: "rolled back: the old index serves everybody",
    },
    State.LIVE: {
        State.READY: "rolled back: the old index serves again",
        State.FINISHING: "a person wants the old index gone, or there is none",
    },
    State.FINISHING: {
        State.LIVE: "the drop was cancelled in time",
        State.FINISHED: "the old index is dropped",
    },
    State.FINISHED: {},
    State.ABORTED: {},
}

FINAL = tuple(state for state in State if state.is_final)
EARLY = tuple(state for state in State if state.may_serve_early)
ABORTABLE = tuple(state for state in State if state.can_abort)


def allowed(at: State, to: State) -> bool:
    return to in TRANSITIONS[at]


@dataclass(frozen=True, slots=True)
class Migration:
    id: int
    collection_id: int
    old_index: int | None  # None: the first fill
    new_index: int | None  # None until it is registered
    state: State
    target: str  # the model's address, as asked for
    index_kind: str
    gates: tuple[str, ...]  # those that `plan` fixed as required
    overridden: Mapping[str, str]  # of these, which a person lets count as passed, and why
    paused_why: str | None
    budget: Decimal | None  # US dollars that the backfill may cost
    spent: Decimal  # on every call for the new index
    hold: str | None  # latched by a guard; `cutover` refuses until a person clears it
    drop_after: datetime | None
    enumerated: bool  # the backfill has a cursor in each tenant
    cursor_done: bool  # and every one is at its end
    documents: int  # counted when the backfill began
    seen: int  # documents that the cursors have passed
    patient: bool  # its backfill goes through the provider's batch API
    store: str  # where the new index lives, and
    place: str  # what it is called there; drawn by the plan
    serve_early: bool  # its model answers before the backfill is over, where that is no loss
    judged: Quality | None  # what the quality gate looks at; None: no judgements were declared
    shadow: float | None  # the first rate of its dual reads; None: `shadowing` is skipped
    old_model_gone: str | None
    old_model_seen: datetime | None
    approvals: int  # people that a cutover takes
    guard_dead: str  # what happens when nobody watches any more: alarm or rollback
    guarded_back_at: datetime | None  # a guard rolled it back: once, and never again
    started_at: datetime
    changed_at: datetime

    @property
    def required(self) -> tuple[str, ...]:
        """The gates that still have to pass."""
        return tuple(gate for gate in self.gates if gate not in self.overridden)

    @property
    def at(self) -> Place:
        return Place(self.store, self.place)

    @property
    def is_first_fill(self) -> bool:
        return self.old_index is None
