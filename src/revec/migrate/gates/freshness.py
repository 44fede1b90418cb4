"""Is what was written searchable in time? Read off the work that is open: nothing is written to see it.

A row of work is made in the transaction of the write itself and goes in that of its vectors. So the oldest is
how long the slowest write has been waiting by now.
"""

from __future__ import annotations

from revec.migrate.gates.base import FRESHNESS, Case
from revec.model.verdict import Figures, Outcome, Verdict
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)
LANES = ("live", "jit", "backfill")  # by number
JIT_GOAL = 60.0  # seconds for what a search met and the index lacks


async def judge(case: Case) -> Verdict:
    """No document waits longer than the freshness goal, and none that a search wants longer than a minute."""
    goals = dict.fromkeys(LANES, case.tools.limits.freshness) | {"jit": JIT_GOAL}
    async with case.tools.database.transaction("worker") as conn:
        waiting = await _waiting(conn, case.index.id)
    evidence = {lane: {"open": n, "oldest_seconds": round(age, 1)} for lane, (n, age) in waiting.items()}
    worst = max(goals, key=lambda lane: waiting[lane][1] / goals[lane])
    count, oldest = waiting[worst]
    figures = Figures(now=round(oldest, 1), limit=goals[worst], n=count)
    if oldest > goals[worst]:
        why = (
            f"{count:,} documents wait for {case.index.name}, the oldest for {oldest:.0f} s: "
            "`revec worker` brings them in"
        )
        return Verdict(FRESHNESS, Outcome.INCONCLUSIVE, why, evidence, figures)
    why = f"the oldest of {count:,} waits for {oldest:.0f} s" if count else "nothing waits"
    return Verdict(FRESHNESS, Outcome.PASSED, why, evidence, figures)


async def _waiting(conn: Connection, index_id: int) -> dict[str, tuple[int, float]]:
    """Lane → how many documents, and the seconds of the oldest."""
    rows = await conn.execute(SQL.waiting, {"index": index_id})
    found = {row.lane: (row.open, row.oldest) for row in await rows.fetchall()}
    return {lane: found.get(number, (0, 0.0)) for number, lane in enumerate(LANES)}
