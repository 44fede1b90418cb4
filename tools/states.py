# ruff: noqa: INP001 - a script, not a package
"""docs/states.md, drawn from the table of transitions:  python tools/states.py > docs/states.md"""

from __future__ import annotations

import sys

from revec.model.migration import TRANSITIONS, State

BEFORE = """\
# The states of a migration

Drawn by `python tools/states.py > docs/states.md` from `TRANSITIONS` in `src/revec/model/migration.py`; a
test keeps the two the same. Each arrow is a compare-and-set on the state that the mover saw, and a line
of `revec history`. Arrows to `aborted` are left out of the picture: they leave every state in which users
see the old index only.
"""

AFTER = """\
## What is not a state

- **Paused** (`revec pause`): the conductor leaves a migration alone that has not reached the users. Live
  writes go on.
- **Held**: a guard's latch with its reason; `cutover` and `canary` refuse until `revec resume` (alone: with
  `--clear` or `--budget` it lifts what these name, not the hold).
- **Ordered**: a cutover that waits for its hour (`--at`) or for a second person (`revec approve`).
- **Who sees what** in `canary`, and who is held on the old index in `live`: rows of the route, of one epoch.
- **A fault** belongs to the index: its model's answers are not trusted, so nothing is written until
  `revec resume`.
- **A failed verdict** stands until a person clears it: `revec resume NAME --clear GATE --reason …`; or
  lets the gate count as passed: `revec cutover NAME --override GATE --reason …`.

## Who moves

The conductor, which ticks in every worker, moves a migration from `planned` to `ready` and drops the old
index when its time is over. Everything that users notice is a person's: `canary`, `cutover`, `rollback`,
`finish`. The conductor does of it what a person ordered: a canary's next step after a quiet one, a cutover at
its hour. A guard moves users in one direction only: back, once in a migration ([cutover.md](cutover.md)).
The one exception is the first fill, where nothing served before: it goes live by itself and ends
`finished`. `shadowing` is entered where `start` was given `--shadow RATE` ([shadow.md](shadow.md)); otherwise
`verifying` leads straight to `ready`. `canary` may be left out.
"""


def page() -> str:
    parts = [BEFORE, picture(), "## Why each arrow is taken\n", table(), AFTER]
    return "\n".join(parts)


def picture() -> str:
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {State.PLANNED}"]
    lines += [
        f"    {at} --> {to}" for at, nexts in TRANSITIONS.items() for to in nexts if to is not State.ABORTED
    ]
    lines += [f"    {state} --> [*]" for state in State if state.is_final and state is not State.ABORTED]
    return "\n".join([*lines, "```", ""])


def table() -> str:
    rows = ["| from | to | because |", "|---|---|---|"]
    rows += [f"| {at} | {to} | {why} |" for at, nexts in TRANSITIONS.items() for to, why in nexts.items()]
    return "\n".join([*rows, ""])


if __name__ == "__main__":
    sys.stdout.write(page())
