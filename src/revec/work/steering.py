"""What a person does to the work: leave it, take it up again, free it from workers that are dead."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from revec.model.errors import BadInput
from revec.postgres import indexes
from revec.postgres.database import Connection
from revec.postgres.queries import beside
from revec.work.letters import Which
from revec.work.overview import SILENCE
from revec.work.queue import BACKFILL, LIVE
from revec.work.worker import BEAT_EVERY

SQL = beside(__file__)
LEAST_SILENCE = 3 * BEAT_EVERY


async def cancel(
    conn: Connection, index_ids: Sequence[int], reason: str, which: Which, *, edits: bool = False
) -> int:
    """Open work is not to be done: its documents are excluded until they change. What somebody has in hand,
    and deletions, go on.

    Unless documents are named it is the backfill's; `edits`: also what was written or is waited for lately.
    """
    keys = which.keys and list(which.keys)
    lane = LIVE if edits or keys else BACKFILL
    asked = {"indexes": list(index_ids), "reason": reason, "keys": keys, "lane": lane}
    return (await conn.execute(SQL.cancel, asked)).rowcount


async def readmit(conn: Connection, index_ids: Sequence[int], which: Which) -> int:
    """Documents that a person left out are to be embedded."""
    asked = {"indexes": list(index_ids), "cause": which.cause, "keys": which.keys and list(which.keys)}
    return (await conn.execute(SQL.readmit, asked)).rowcount


async def rescue(conn: Connection, index_ids: Sequence[int], *, silence: float = SILENCE) -> int:
    """Free what dead workers hold, before their leases run out; of one that lives, nothing is taken.

    Raises:
        BadInput: a worker that is merely busy may be as silent as that.
    """
    if silence < LEAST_SILENCE:
        raise BadInput(
            f"a worker's heart beats every {BEAT_EVERY:g} s: say {LEAST_SILENCE:g} s or more, "
            "or stop the worker and wait until its lease has run out"
        )
    asked = {"indexes": list(index_ids), "silence": silence, "leaves": None}
    return (await conn.execute(SQL.rescue, asked)).rowcount


async def hand_back(conn: Connection, worker: UUID) -> int:
    """Free what a worker of this process held when it was ended: nobody waits for its leases to run out."""
    written = [index.id for index in await indexes.writing(conn)]
    asked = {"indexes": written, "silence": SILENCE, "leaves": worker}
    return (await conn.execute(SQL.rescue, asked)).rowcount
