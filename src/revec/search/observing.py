"""One observation: the arms, and what became of each document that only one of them shows."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from psycopg.types.json import Jsonb

from revec.model.index import Index
from revec.model.reading import How, Mode
from revec.postgres import documents, indexes, shadows
from revec.postgres.database import Database
from revec.postgres.shadows import Pair
from revec.search import arms, fusion, lexical
from revec.search.arms import AT, Arm, Name, Outcome, Side, alike, name_of
from revec.search.legs import SPARE_HITS, Wanted
from revec.search.precedence import Precedence
from revec.search.retriever import Retriever, Served, Tell
from revec.search.sampling import Question
from revec.stores.base import Store

COMPARABLE = {Outcome.OK, Outcome.EMPTY}
GUARDED = {
    Outcome.OK: How.ANSWERED,
    Outcome.EMPTY: How.EMPTY,
    Outcome.ERROR: How.FAILED,
    Outcome.TIMEOUT: How.LATE,
}


@dataclass(frozen=True, slots=True)
class Answered:
    """What a user asked and got; the filter is in the question."""

    served: Served
    asked: Question
    arm: Arm
    k: int


@dataclass(frozen=True, slots=True)
class Observing:
    """Reads through its own database and its own queries."""

    database: Database
    store: Store
    retriever: Retriever
    deadline: float  # seconds of an arm
    precedence: Precedence
    tell: Tell = lambda *_: None  # what the new index came to, before any user sees it

    async def read(self, served: Served, asked: Question) -> Arm:
        return await arms.read(self.retriever, served, asked, self.deadline)

    async def observed(self, pair: Pair, answered: Answered) -> dict[str, Any] | None:
        """A row of `revec.observation` by its columns; None where a model had no room for it."""
        async with self.database.transaction("worker") as conn:
            old = await indexes.by_id(conn, pair.serving)
            new = await indexes.by_id(conn, pair.candidate)
            horizon = await documents.last_rev(conn)
        new_first = random.random() < 0.5  # noqa: PLR2004, S311 - a fair coin, no secret
        read: dict[int, Arm] = {}
        for index in (new, old) if new_first else (old, new):
            await self.precedence.given()  # between the arms, so that no arm's time has it
            read[index.id] = await self.read(replace(answered.served, index=index), answered.asked)
        again, candidate = read[old.id], read[new.id]
        if Outcome.SHED in (again.outcome, candidate.outcome):
            return None
        route = answered.served.route
        if route.canary is None:  # else users see it, and what they get counts
            spent = candidate.embed + candidate.search
            self.tell(new, route.epoch, GUARDED[candidate.outcome], spent)
        seen = {
            "new_first": new_first,
            "again_outcome": again.outcome,
            "new_outcome": candidate.outcome,
            **_times("answer", answered.arm),
            **_times("again", again),
            **_times("new", candidate),
        }
        await self.precedence.given()
        return seen | await self._compared((old, new), answered, (again, candidate), horizon)

    async def _compared(
        self, pair: tuple[Index, Index], answered: Answered, read: tuple[Arm, Arm], horizon: int
    ) -> dict[str, Any]:
        (old, new), (again, candidate), asked = pair, read, answered.asked
        answer = answered.arm
        names = list(dict.fromkeys(name for arm in (answer, *read) for name in arm.names))
        async with self.database.transaction("worker") as conn:
            looked = await shadows.looked_up(conn, old, new, names, tenant=asked.tenant, where=asked.where)
        rows = dict(zip(names, looked, strict=True))
        found = dict.fromkeys(("overlap", "rbo", "same_first", "floor_overlap", "floor_rbo", "floor_first"))
        lost: Counter[str] = Counter()
        gained: Counter[str] = Counter()
        if {again.outcome, candidate.outcome} <= COMPARABLE:
            sides = await self._sides(old, new, asked, again, candidate)
            lost, gained = arms.causes(*sides, rows, horizon)
            found |= alike(again, candidate)
        if again.outcome in COMPARABLE:
            found |= alike(answer, replace(again, hits=again.hits[: answered.k]), "floor_", "floor_first")
        return found | {
            "changed": any(row.doc_id is None or row.rev > horizon for row in rows.values()),
            "lost": Jsonb(lost),
            "gained": Jsonb(gained),
            "documents": [_filled([rows[name].doc_id for name in arm.names]) for arm in (answer, *read)],
            "scores": [_filled([hit.score for hit in arm.hits[:AT]]) for arm in (answer, *read)],
        }

    async def _sides(
        self, old: Index, new: Index, asked: Question, again: Arm, candidate: Arm
    ) -> tuple[Side, Side]:
        """An exact scan is a dear look: only where an approximate index shows other documents."""
        was, now = set(again.names), set(candidate.names)
        there, here = await asyncio.gather(
            self._exact(old, asked, again, now - was), self._exact(new, asked, candidate, was - now)
        )
        tie = arms.ROUNDED if old.space.id == new.space.id else arms.TIE
        return (
            Side(again, lambda row: row.in_old, lambda row: row.fresh_in_old, there, tie),
            Side(candidate, lambda row: row.in_new, lambda row: row.fresh_in_new, here, tie),
        )

    async def _exact(
        self, index: Index, asked: Question, arm: Arm, others: set[Name]
    ) -> frozenset[int] | None:
        """Ids of the documents that an exact scan of the index would have shown; None: not known in time."""
        if not index.kind.is_approximate or others <= {name_of(hit) for hit in arm.hits}:
            return frozenset()
        try:
            async with asyncio.timeout(self.deadline):
                return await self._scanned(index, asked)
        except Exception:  # noqa: BLE001 - one cause more that is not known
            return None

    async def _scanned(self, index: Index, asked: Question) -> frozenset[int]:
        vector = await self.retriever.embedded(index, asked.text)
        wanted = Wanted(AT, asked.tenant, asked.where)
        how: Any = {"tenant": asked.tenant, "where": asked.where}
        limit = fusion.DEPTH if asked.mode is Mode.HYBRID else AT + SPARE_HITS
        there = await self.store.ahead(index, [vector], limit=limit, exactly=True, **how)
        async with self.database.transaction(wanted.role, tenant=asked.tenant) as conn:
            scored = await there.exact(conn, index, vector, limit=limit, **how)
            if asked.mode is Mode.HYBRID:
                words = lexical.statement(index.collection_id, asked.text, k=limit, **how)
                rows = await fusion.hits(
                    *(conn, index, fusion.given("vectors", scored), words), limit=AT, **how
                )
                return frozenset(row.doc_id for row in rows)
            live = await documents.hydrate(conn, [each for each, _ in scored], asked.tenant, asked.where)
        return frozenset([each for each, _ in scored if each in live][:AT])


def _times(arm: str, read: Arm) -> dict[str, float]:
    return {f"{arm}_embed": read.embed, f"{arm}_search": read.search}


def _filled(values: list[Any]) -> list[Any]:
    """Ten of them, so that the arms make one array."""
    return values + [None] * (AT - len(values))
