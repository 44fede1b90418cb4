"""What a rollback is in each state: said by `status` of the present one, and by `plan` of all."""

from __future__ import annotations

from revec.model.migration import State

NOTHING_LOST = "nothing is lost"


def way_back(state: State, collection: str, *, first_fill: bool, lost: str = NOTHING_LOST) -> str:
    """`lost`: what a rollback would miss just now."""
    if first_fill or state.is_final:
        return "nothing to roll back to"
    if state is State.FINISHING:
        return f"after `revec finish {collection} --cancel`, until the old index is dropped"
    if state.can_roll_back:
        return f"`revec rollback {collection}`, {lost}, until the old index is dropped"
    return "not needed: the old index serves"


def ways_back(collection: str, *, first_fill: bool) -> dict[str, str]:
    """State → what a rollback is there, and whether the new index may still be given up."""
    said = {}
    for state in State:
        give_up = f"; `revec abort {collection}` gives the new index up" if state.can_abort else ""
        said[str(state)] = way_back(state, collection, first_fill=first_fill) + give_up
    return said
