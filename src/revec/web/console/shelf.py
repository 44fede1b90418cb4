"""What Compare has at hand in this process: judged sets as they were last read, and rankings that somebody
asked for lately, to be weighed again as people judge.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from revec.model.index import Collection
from revec.model.judging import JudgedQuery, fingerprint
from revec.model.reading import Mode
from revec.postgres import judgements
from revec.postgres.database import Connection

if TYPE_CHECKING:  # it reckons: who never weighs needs no numpy
    from revec.search.weighing import Outcome, Rankings

MOST = 4  # sets of rankings, and of judged queries


@dataclass(frozen=True, slots=True)
class Which:
    """Two indexes, by their numbers, and a set of a collection, in a mode."""

    collection_id: int
    old: int
    new: int
    judged: str
    mode: Mode


class Shelf:
    def __init__(self) -> None:
        self._rankings: OrderedDict[Which, Rankings] = OrderedDict()
        self._weighed: dict[Which, tuple[str, Outcome]] = {}  # by what was judged then
        self._sets: OrderedDict[tuple[int, str], tuple[str, list[JudgedQuery]]] = OrderedDict()  # as of then

    async def judged(self, conn: Connection, collection: Collection, name: str) -> list[JudgedQuery]:
        """The set's queries with a good answer; read again only where something went into it since."""
        changed_at = await judgements.changed_at(conn, collection.id, name)
        if changed_at is None:  # it is made with the first judgement
            return []
        at, queries = self._sets.pop((collection.id, name), ("", []))
        if at != changed_at:
            queries = await judgements.read(conn, collection, name)
        self._sets[collection.id, name] = changed_at, queries
        while len(self._sets) > MOST:
            self._sets.popitem(last=False)
        return queries

    def put(self, which: Which, rankings: Rankings) -> None:
        self._forget(which)
        self._rankings[which] = rankings
        while len(self._rankings) > MOST:
            self._forget(next(iter(self._rankings)))

    async def weighed(
        self, which: Which, queries: Sequence[JudgedQuery]
    ) -> tuple[Outcome, datetime] | tuple[None, None]:
        """By these judgements, and when both were asked; None: nobody asked them yet, or others since."""
        from revec.search.weighing import weighed  # noqa: PLC0415

        rankings, known = self._rankings.get(which), self._weighed.get(which)
        if rankings is None:
            return None, None
        said = await asyncio.to_thread(fingerprint, queries)
        if known is None or known[0] != said:
            known = said, await asyncio.to_thread(weighed, rankings, queries)
            if self._rankings.get(which) is rankings:  # else others came meanwhile, to be weighed themselves
                self._weighed[which] = known
        return known[1], rankings.at

    def _forget(self, which: Which) -> None:
        self._rankings.pop(which, None)
        self._weighed.pop(which, None)
