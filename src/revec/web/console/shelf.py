"""Rankings that somebody asked for lately, in this process: to be weighed again as people judge."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from revec.model.judging import JudgedQuery, fingerprint
from revec.model.reading import Mode

if TYPE_CHECKING:  # it reckons: who never weighs needs no numpy
    from revec.search.weighing import Outcome, Rankings

MOST = 4  # sets of rankings


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
