"""One query through two indexes, for a person who looks at both answers.

Each index is asked as if it served, by its own model, one after the other, in an order that chance draws: the
second finds warm pages. An index that does not answer is said to, and the other answer is shown all the same.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from revec.model.errors import Refused, RevecError
from revec.model.filter import Filter
from revec.model.index import Index, Route
from revec.model.judging import Asked, Doc
from revec.model.migration import Migration
from revec.model.reading import Hit, Mode, Reading
from revec.postgres import indexes, migrations
from revec.postgres.database import Database
from revec.search.retriever import Retriever, Served
from revec.statistics.rankings import overlap

MOST = 50  # hits of each side: more than that nobody compares by eye


class Move(StrEnum):
    """Where the other index has the same document."""

    SAME = "same"
    UP = "up"
    DOWN = "down"
    NEW = "new"  # the old one does not show it
    GONE = "gone"  # the new one does not show it


@dataclass(frozen=True, slots=True)
class Placed:
    """A hit of one side."""

    hit: Hit
    rank: int
    move: Move
    by: int  # ranks, of UP and DOWN
    there: int | None  # the other side's rank; None: it does not show it

    @property
    def doc(self) -> Doc:
        return (self.hit.source, self.hit.id)


@dataclass(frozen=True, slots=True)
class Side:
    """What one index answered; `why`: it did not."""

    index: Index
    reading: Reading | None = None
    why: str | None = None
    hits: Sequence[Placed] = field(default=())

    @property
    def docs(self) -> list[Doc]:
        return [] if self.reading is None else [(hit.source, hit.id) for hit in self.reading.hits]


@dataclass(frozen=True, slots=True)
class SideBySide:
    asked: Asked
    old: Side
    new: Side
    k: int

    @property
    def overlap(self) -> float | None:
        """At k; None where a side did not answer."""
        if self.old.reading is None or self.new.reading is None:
            return None
        return overlap(self.old.docs, self.new.docs, self.k)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two indexes of a collection, as they were when somebody looked."""

    collection: str
    route: Route
    old: Index
    new: Index
    written: Sequence[Index] = ()  # all that there are to choose from


async def pair_of(
    database: Database, collection: str, *, old: str | None = None, new: str | None = None
) -> Pair:
    """The indexes that are named, by name or number; unless said those of the last migration, else the one
    that serves and the newest other one.

    Raises:
        NotFound: no such collection, or no such index.
        Refused: there is only one to look at, or nothing serves yet.
    """
    async with database.transaction("worker") as conn:
        route, _ = await indexes.serving(conn, collection)
        written = await indexes.writing(conn, route.collection_id)
        migration = await migrations.latest(conn, route.collection_id)
    usual = _usual(written, route, migration)
    first = indexes.named(written, old, collection) if old else usual[0]
    if first is None:
        raise Refused(f"nothing serves {collection} yet: `revec status {collection}` shows its first fill")
    second = indexes.named(written, new, collection) if new else usual[1]
    if second is None:
        raise Refused(
            f"{collection} has one index, so there is nothing to compare with: "
            f"`revec start {collection} --to MODEL` fills another"
        )
    return Pair(collection, route, first, second, written)


def _usual(
    written: Sequence[Index], route: Route, migration: Migration | None
) -> tuple[Index | None, Index | None]:
    """A migration says which of two is the new one, whichever serves."""
    by_id = {index.id: index for index in written}
    if migration and migration.old_index in by_id and migration.new_index in by_id:
        return by_id[migration.old_index], by_id[migration.new_index]
    others = [each for each in written if each.id != route.serving]
    return by_id.get(route.serving or 0), max(others, key=lambda each: each.id, default=None)


async def asked(
    retriever: Retriever,
    pair: Pair,
    query: Asked,
    *,
    k: int,
    mode: Mode,
    visible: Filter | None = None,
) -> SideBySide:
    """Both answers, with each hit's text."""

    async def side(index: Index) -> Side:
        served = Served(pair.collection, pair.route, index)
        try:
            reading = await retriever.read(
                *(served.collection, served.route, index, query.words),
                k=k,
                tenant=query.tenant,
                mode=mode,
                visible=visible,
                contents=True,
            )
        except RevecError as error:
            return Side(index, why=str(error))
        return Side(index, reading)

    if secrets.randbelow(2):
        old, new = await side(pair.old), await side(pair.new)
    else:
        new, old = await side(pair.new), await side(pair.old)
    return placed(query, old, new, k)


def placed(query: Asked, old: Side, new: Side, k: int) -> SideBySide:
    """Each hit with where the other side has it."""
    was, now = _ranks(old), _ranks(new)
    knows_both = old.reading is not None and new.reading is not None

    def placed(side: Side, there: dict[Doc, int], *, is_new: bool) -> list[Placed]:
        hits = [] if side.reading is None else side.reading.hits
        found = []
        for rank, hit in enumerate(hits, start=1):
            other = there.get((hit.source, hit.id))
            if not knows_both:
                found.append(Placed(hit, rank, Move.SAME, 0, None))
            elif other is None:
                found.append(Placed(hit, rank, Move.NEW if is_new else Move.GONE, 0, None))
            else:
                rose = other - rank if is_new else rank - other
                found.append(Placed(hit, rank, _move(rose), abs(rose), other))
        return found

    return SideBySide(
        query,
        Side(old.index, old.reading, old.why, placed(old, now, is_new=False)),
        Side(new.index, new.reading, new.why, placed(new, was, is_new=True)),
        k,
    )


def _move(rose: int) -> Move:
    if rose == 0:
        return Move.SAME
    return Move.UP if rose > 0 else Move.DOWN


def _ranks(side: Side) -> dict[Doc, int]:
    return {doc: rank for rank, doc in enumerate(side.docs, start=1)}
