"""Dead letters: which there are and of what cause, another try, leaving them out, and taking that back.

What a person does to them is a *deed*: who did it, when, to which. For a while it can be undone, as far as
nothing has touched the letters since: no worker, no edit, no other person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from psycopg.types.json import Jsonb

from revec.model.errors import NotFound, Refused
from revec.model.index import Collection
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)
UNDO_WITHIN = 600.0  # seconds: long enough to see what was done
GROUPED = 200_000  # letters; beyond that reading them takes longer than a person looks
SHOWN = 3  # keys in a line

What = Literal["retry", "discard"]


@dataclass(frozen=True, slots=True)
class Which:
    """All; or those whose cause holds these words, those of a pattern, those of these documents."""

    cause: str | None = None
    keys: Sequence[str] | None = None
    like: str | None = None  # a pattern: see `causes`
    source: str | None = None  # of these documents; None: whichever has them

    @property
    def asked(self) -> dict[str, Any]:
        return {
            "cause": self.cause,
            "keys": self.keys and list(self.keys),
            "like": self.like,
            "source": self.source,
        }


EVERY = Which()
START = (0, "", 0)  # before every letter


@dataclass(frozen=True, slots=True)
class Cause:
    """Letters of one index that failed alike."""

    index_id: int
    pattern: str  # their cause, without what differs from one to the next
    letters: int
    first_at: datetime
    last_at: datetime
    key: str | None  # of one of them; None: its document is gone
    source: str | None  # and of its document
    sample: str  # and its cause, as it is


@dataclass(frozen=True, slots=True)
class Deed:
    id: int
    at: datetime
    who: str
    what: What
    which: dict[str, Any]
    reason: str
    letters: int
    undone_at: datetime | None
    undone_by: str | None
    returned: int | None  # letters that were put back
    undo_seconds: float  # for so long it can be undone; 0: no more


def said(deed: Deed) -> str:
    """To which letters it was done, in words."""
    words = {"like": "like {}", "cause": "whose cause holds {}", "keys": "of {}", "source": "from {}"}
    told = [words[name].format(_shown(value)) for name, value in deed.which.items()]
    return " and ".join(told) or "all"


def _shown(value: str | list[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value[:SHOWN]) + (" …" if value[SHOWN:] else "")


async def listed(
    conn: Connection,
    index_ids: Sequence[int],
    limit: int = 100,
    *,
    like: str | None = None,
    after: tuple[int, str, int] = START,
) -> list[Any]:
    """Those that wait for a person, by index and pattern, behind (index_id, pattern, doc_id)."""
    index_id, pattern, doc_id = after
    asked = {
        "indexes": list(index_ids),
        "limit": limit,
        "like": like,
        "after_index": index_id,
        "after_pattern": pattern,
        "after_doc": doc_id,
    }
    return await (await conn.execute(SQL.listed, asked)).fetchall()


async def settled(conn: Connection, index_ids: Sequence[int], limit: int = 100) -> list[Any]:
    """How the last dead letters ended."""
    rows = await conn.execute(SQL.settled, {"indexes": list(index_ids), "limit": limit})
    return await rows.fetchall()


async def causes(conn: Connection, index_ids: Sequence[int], limit: int = 50) -> list[Cause]:
    """Those that wait for a person by what they have in common, the most frequent cause first.

    Of each index the first GROUPED letters are read, in the order of their patterns.
    """
    asked = {"indexes": list(index_ids), "limit": limit, "bound": GROUPED}
    return [Cause(*row) for row in await (await conn.execute(SQL.causes, asked)).fetchall()]


async def retry(
    conn: Connection, collection: Collection, index_ids: Sequence[int], which: Which = EVERY, *, who: str
) -> Deed:
    """Another try for those whose document is still there."""
    return await _done(conn, collection, index_ids, "retry", which, who=who, reason="")


async def discard(
    conn: Connection,
    collection: Collection,
    index_ids: Sequence[int],
    reason: str,
    which: Which = EVERY,
    *,
    who: str,
) -> Deed:
    """A person decides that these documents may stay out of the index, as they are now."""
    return await _done(conn, collection, index_ids, "discard", which, who=who, reason=reason)


async def _done(
    conn: Connection,
    collection: Collection,
    index_ids: Sequence[int],
    what: What,
    which: Which,
    *,
    who: str,
    reason: str,
) -> Deed:
    said = {name: value for name, value in asdict(which).items() if value}
    deed = {"collection": collection.id, "who": who, "what": what, "which": Jsonb(said), "reason": reason}
    row = await (await conn.execute(SQL.begin, deed)).fetchone()
    assert row is not None
    asked = {"indexes": list(index_ids), "deed": row.id, "reason": reason} | which.asked
    doing = _retry if what == "retry" else _discard
    await conn.execute(SQL.count, {"deed": row.id, "letters": await doing(conn, asked)})
    return await _one(conn, collection, row.id)


async def _retry(conn: Connection, asked: dict[str, Any]) -> int:
    row = await (await conn.execute(SQL.retry, asked)).fetchone()
    assert row is not None
    if row.docs:
        await conn.execute(SQL.unmake, {"indexes": row.indexes, "docs": row.docs})
    return int(row.letters)


async def _discard(conn: Connection, asked: dict[str, Any]) -> int:
    return (await conn.execute(SQL.discard, asked)).rowcount


async def undo(conn: Connection, collection: Collection, deed: int | None = None, *, who: str) -> Deed:
    """Put back what nothing has touched since; the caller's own last deed unless one is named.

    Raises:
        NotFound: there is none; Refused: it is undone already, or too long ago.
    """
    asked = {"collection": collection.id, "deed": deed, "who": who, "within": UNDO_WITHIN}
    found = await (await conn.execute(SQL.lock, asked)).fetchone()
    if found is None:
        name = collection.name
        raise NotFound(
            f"{who} did nothing to dead letters of {name}: `revec queue deeds {name}` lists who did what, "
            f"`revec queue undo {name} --deed N` takes one of these back"
            if deed is None
            else f"there is no deed {deed} of {name}: `revec queue deeds {name}` lists them"
        )
    if found.undone_at is not None:
        others = f"`revec queue deeds {collection.name}` lists the others, `--deed N` names one"
        raise Refused(f"deed {found.id} is undone already: {others}")
    if found.late:
        verb = f"`revec queue retry {collection.name} --excluded`" if found.what == "discard" else ""
        way_out = (
            f": {verb} takes up what was left out" if verb else ": what fails again comes back by itself"
        )
        raise Refused(f"deed {found.id} is more than {UNDO_WITHIN / 60:.0f} minutes old{way_out}")
    putting_back = SQL.undo_retry if found.what == "retry" else SQL.undo_discard
    back = await conn.execute(putting_back, {"collection": collection.id, "deed": found.id})
    await conn.execute(SQL.undone, {"deed": found.id, "who": who, "returned": back.rowcount})
    return await _one(conn, collection, found.id)


async def deeds(conn: Connection, collection: Collection, limit: int = 20) -> list[Deed]:
    """The last ones first."""
    asked = {"collection": collection.id, "deed": None, "within": UNDO_WITHIN, "limit": limit}
    return [Deed(*row) for row in await (await conn.execute(SQL.deeds, asked)).fetchall()]


async def _one(conn: Connection, collection: Collection, deed: int) -> Deed:
    asked = {"collection": collection.id, "deed": deed, "within": UNDO_WITHIN, "limit": 1}
    row = await (await conn.execute(SQL.deeds, asked)).fetchone()
    assert row is not None
    return Deed(*row)
