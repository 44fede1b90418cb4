"""The shadow of each collection, and what was observed of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import sql

from revec.model.filter import Filter
from revec.model.index import Index
from revec.postgres import filters
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)
KEPT = 14  # days
MOST_KEPT = 50_000  # observations of a collection
LOST = 60.0  # seconds after which a claim's process is dead: longer than any two arms


@dataclass(frozen=True, slots=True)
class Pair:
    """An index that answers and one that shadows it."""

    collection_id: int
    serving: int
    candidate: int

    @property
    def asked(self) -> dict[str, int]:
        return {
            "collection": self.collection_id,
            "serving": self.serving,
            "candidate": self.candidate,
        }


@dataclass(frozen=True, slots=True)
class Setting:
    """What a person, or the conductor, said of a collection's shadow."""

    collection_id: int
    index_id: int
    rate: float
    salt: str
    since: datetime
    rung_at: datetime
    set_by: str
    rung_seconds: float  # since the rate was set


@dataclass(frozen=True, slots=True)
class Claim:
    """A query that nobody has observed of this pair."""

    id: int
    token: UUID


@dataclass(frozen=True, slots=True)
class Losses:
    """Queries of the last day."""

    taken: int
    dropped: int  # not observed: the queue was full, the model rested, searches were slow
    lost: int  # with their process

    @property
    def share(self) -> float:
        """Of all that should have been observed."""
        gone = self.dropped + self.lost
        return gone / (self.taken + gone) if gone else 0.0


async def of(conn: Connection, collection_id: int) -> Setting | None:
    row = await (await conn.execute(SQL.of, {"collection": collection_id})).fetchone()
    return None if row is None else Setting(**row._asdict())


async def point(conn: Connection, collection_id: int, index_id: int, rate: float, who: str) -> None:
    """This index shadows from now on, whatever did before."""
    asked = {"collection": collection_id, "index": index_id, "rate": rate, "who": who}
    await conn.execute(SQL.point, asked)


async def raised(conn: Connection, seen: Setting, rate: float, who: str) -> bool:
    """Whether the rate was still what the caller saw, and is this one now."""
    asked = {
        "collection": seen.collection_id,
        "index": seen.index_id,
        "seen": seen.rate,
        "rate": rate,
        "who": who,
    }
    return await (await conn.execute(SQL.raised, asked)).fetchone() is not None


async def off(conn: Connection, collection_id: int, who: str) -> float | None:
    """The rate that it had; None where it was off."""
    row = await (await conn.execute(SQL.off, {"collection": collection_id, "who": who})).fetchone()
    return None if row is None else float(row.rate)


async def claim(conn: Connection, pair: Pair, token: UUID, query: Mapping[str, Any]) -> Claim | None:
    """None where somebody has observed the query, or is at it: then it weighs more.

    `query`: query, tenant, mode, place, chosen, weight, as the table has them.
    """
    asked = {**pair.asked, **query, "token": token, "lost": LOST}
    row = await (await conn.execute(SQL.claim, asked)).fetchone()
    assert row is not None
    return Claim(row.id, token) if row.mine else None


async def release(conn: Connection, claim: Claim) -> None:
    await conn.execute(SQL.release, {"id": claim.id, "token": claim.token})


async def put(conn: Connection, claim: Claim, seen: Mapping[str, Any]) -> None:
    """What was seen, by the names of the columns."""
    await conn.execute(SQL.put, {**seen, "id": claim.id, "token": claim.token})


async def asked_again(conn: Connection, pair: Pair, times: Mapping[bytes, int]) -> None:
    """Queries → how often they came since."""
    await conn.execute(SQL.asked_again, {**pair.asked, "queries": list(times), "times": list(times.values())})


async def count(conn: Connection, pair: Pair, *, taken: int, dropped: int) -> None:
    await conn.execute(SQL.count, {**pair.asked, "taken": taken, "dropped": dropped})


async def prune(conn: Connection, collection_id: int) -> None:
    asked = {"collection": collection_id, "days": KEPT, "most": MOST_KEPT}
    await conn.execute(SQL.prune, asked)
    await conn.execute(SQL.prune_shed, asked)


async def seen(conn: Connection, pair: Pair, setting: Setting) -> list[Any]:
    """The observations of the pair, in the order in which they became known."""
    asked = {**pair.asked, "rung_at": setting.rung_at, "rate": setting.rate}
    return await (await conn.execute(SQL.seen, asked)).fetchall()


async def worst(conn: Connection, pair: Pair, limit: int) -> list[Any]:
    """The questions with the least alike answers first: query (its hash), tenant, mode, weight, overlap, rbo,
    lost, gained, done_at, and the ids of the documents of each arm (the answer, again, new).
    """
    return await (await conn.execute(SQL.worst, {**pair.asked, "limit": limit})).fetchall()


async def rung(conn: Connection, pair: Pair, setting: Setting) -> tuple[int, int, int]:
    """Questions compared since the rate was set, those that went wrong with the candidate alone, and
    beside them those that the serving index did not answer when it was asked again.
    """
    asked = {**pair.asked, "rung_at": setting.rung_at, "rate": setting.rate}
    row = await (await conn.execute(SQL.rung, asked)).fetchone()
    assert row is not None
    return row.questions, row.bad, row.failed


async def losses(conn: Connection, pair: Pair) -> Losses:
    row = await (await conn.execute(SQL.losses, {**pair.asked, "lost": LOST})).fetchone()
    assert row is not None
    return Losses(*row)


async def looked_up(
    conn: Connection,
    old: Index,
    new: Index,
    names: Sequence[tuple[str, str]],
    *,
    tenant: str | None,
    where: Filter | None,
) -> list[Any]:
    """Of each (source, key): doc_id and rev (None: gone), visible, and what each index has of it."""
    matching, parameters = filters.condition(where)
    query = SQL.looked_up.format(
        matching=matching,
        old=sql.Identifier("revec", f"vectors_{old.id}"),
        new=sql.Identifier("revec", f"vectors_{new.id}"),
    )
    asked = {
        "collection": old.collection_id,
        "tenant": tenant,
        "sources": [source for source, _ in names],
        "keys": [key for _, key in names],
    }
    return await (await conn.execute(query, asked | parameters)).fetchall()
