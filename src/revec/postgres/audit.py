"""Who did what and why, of all collections: read from where each thing is kept, and kept nowhere again."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from io import StringIO
from typing import Any, Self

import psycopg

from revec.model.document import unstorable
from revec.model.errors import BadInput
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)
KINDS = {
    "move": "a migration's state changed",
    "told": "something else of a migration: pauses, overrides, orders, tenants",
    "judgement": "a person judged an answer",
    "key": "a key was made",
    "revoked": "a key was revoked",
    "throttle": "the throttle in force",
    "shadow": "the shadow's last setting",
    "fusion": "the fusion in force",
}
UNRECORDED = (  # said wherever the audit is shown: what is missing there was not done by nobody
    "tenants' priorities, weights and budgets: only pauses during a migration are told",
    "throttles and shadow rates before the last, outside a migration's history",
    "retries and acceptances of dead letters: their reasons are kept, not who gave them",
    "who revoked a key before this was kept; what a key was used for, and when last",
    "whoever wrote to the database without Revec",
)
FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
MILLISECONDS = 2_000  # that a page may take
BEYOND = "g"  # sorts behind every digit of an md5
COLUMNS = ("at", "kind", "collection", "who", "did", "why")
_PLACE = re.compile(r"([0-9T:.+-]{10,40})~([0-9a-f]{32})")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ends: what comes next is older."""

    at: datetime
    tie: str

    def __str__(self) -> str:
        return f"{self.at.isoformat()}~{self.tie}"

    @classmethod
    def read(cls, text: str) -> Self:
        """
        Raises:
            BadInput: no page ended there.
        """
        found = _PLACE.fullmatch(text)
        try:
            at = datetime.fromisoformat(found[1]) if found else None
        except ValueError:
            at = None
        if found is None or at is None or at.tzinfo is None:
            raise BadInput("no page of the audit begins there: leave `before` out")
        return cls(at, found[2])


@dataclass(frozen=True, slots=True)
class Filtered:
    """What is looked for; None: everything."""

    collection: str | None = None
    who: str | None = None  # a part of the name
    kind: str | None = None
    since: datetime = FIRST
    until: datetime = LAST

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in KINDS:
            raise BadInput(f"there is no kind {self.kind!r} ({', '.join(KINDS)})")
        if why := next(
            (why for text in (self.collection, self.who) if (why := unstorable(text or ""))), None
        ):
            raise BadInput(f"a filter {why}")


async def page(conn: Connection, wanted: Filtered, *, before: Place | None, limit: int) -> list[Any]:
    """at, kind, collection, who, did, why, tie: the newest first; a row's `collection` None: it is of all.

    Raises:
        BadInput: what is looked for is too rare to be found while somebody waits.
    """
    await conn.execute(SQL.patience, {"ms": MILLISECONDS})
    until = wanted.until if before is None else min(before.at, wanted.until)
    asked = {
        "collection": wanted.collection,
        "who": wanted.who,
        "kind": wanted.kind,
        "since": wanted.since,
        "until": until,
        "tie": before.tie if before and before.at == until else BEYOND,
        "limit": limit,
    }
    try:
        return await (await conn.execute(SQL.page, asked)).fetchall()
    except psycopg.errors.QueryCanceled:
        raise BadInput(
            f"looking for that took more than {MILLISECONDS / 1000:g} s: name a collection, or a span of days"
        ) from None


def day(text: str) -> date:
    """
    Raises:
        BadInput: that is none.
    """
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadInput(f"{text[:20]!r} is no day: write it like 2026-11-22") from None


def place_of(row: Any) -> Place:
    return Place(row.at, row.tie)


def as_csv(rows: Iterable[Any]) -> str:
    """For spreadsheets, so no cell is a formula: whoever named a tenant would run it at the reader's desk."""
    text = StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerow(COLUMNS)
    writer.writerows(_cells(row) for row in rows)
    return text.getvalue()


def _cells(row: Any) -> Sequence[str]:
    said = [row.at.astimezone(UTC).isoformat(), *(getattr(row, name) or "" for name in COLUMNS[1:])]
    return [_inert(cell) for cell in said]


def _inert(cell: str) -> str:
    """By an apostrophe in front, as OWASP advises; also behind spaces, which some programs drop."""
    begins = cell.lstrip(" \u00a0\ufeff")[:1]
    wide = begins in {"＝", "＋", "－", "＠"}  # noqa: RUF001 - some programs read these as the narrow ones
    return f"'{cell}" if wide or (begins and begins in _FORMULA) else cell
