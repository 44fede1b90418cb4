"""The arms of one observation, and what they say of each other.

The old index is read again and the new one after it, or the other way round, by chance: the second finds
warm pages. Each asks its model anew, whatever anybody remembers of the query; both share one pool and one
deadline. So their times are compared with each other, never with the answer's. A time-out counts as the
deadline.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from revec.model.errors import ProviderUnavailable, RevecError, Trouble
from revec.model.reading import Hit, Reading
from revec.search.retriever import Retriever, Served
from revec.search.sampling import Question
from revec.statistics.rankings import overlap, rbo, same_first
from revec.work.calls import NotNow

AT = 10  # hits that are compared
DEPTH = 2 * AT  # hits that are read: what stands just below is known without another look
TIE = 1e-6  # scores this close are one rank
ROUNDED = (
    5e-4  # the same of one space in two stores: numbers of 16 bits there, of 32 here; a rank of a fusion
)

Name = tuple[str, str]  # a document's source and key


class Outcome(StrEnum):
    OK = "ok"
    EMPTY = "empty"
    ERROR = "error"
    TIMEOUT = "timeout"
    SHED = "shed"  # its model rests, or has no room for what nobody waits for


class Cause(StrEnum):
    """Why one index shows a document and the other does not: the first that is true."""

    CHANGED = "changed"  # it was written between the arms
    FILTER = "filter"  # it is gone, another tenant's by now, or may not be seen
    MISSING = "missing"  # the index has nothing of it
    STALE = "stale"  # the index has what it was once
    TIE = "tie"  # it scores as much as the last that is shown
    ANN = "ann"  # an exact scan of the index would have shown it
    MODEL = "model"  # the other model ranks it otherwise
    UNKNOWN = "unknown"  # the exact scan did not end in time


@dataclass(frozen=True, slots=True)
class Arm:
    """What one read came to; seconds."""

    outcome: Outcome
    hits: Sequence[Hit]
    embed: float
    search: float

    @property
    def names(self) -> list[Name]:
        return [name_of(hit) for hit in self.hits[:AT]]


def name_of(hit: Hit) -> Name:
    return (hit.source, hit.id)


def answered(reading: Reading) -> Arm:
    """What the user got; without the documents' contents, which nobody compares."""
    hits = [replace(hit, text=None, metadata=None) for hit in reading.hits[:AT]]
    outcome = Outcome.OK if hits else Outcome.EMPTY
    return Arm(outcome, hits, reading.embed_seconds, reading.search_seconds)


async def read(retriever: Retriever, served: Served, asked: Question, deadline: float) -> Arm:
    """One index, by its own model; whatever it does, an Arm comes of it within the deadline (seconds)."""
    began = time.perf_counter()
    embedded: float | None = None
    try:
        async with asyncio.timeout(deadline):
            await retriever.embedded(served.index, asked.text, fresh=True)
            embedded = time.perf_counter()
            reading = await retriever.read(
                *(served.collection, served.route, served.index, asked.text),
                k=DEPTH,
                tenant=asked.tenant,
                mode=asked.mode,
                where=asked.where,
            )
            hits = checked(reading.hits)
    except NotNow:
        return Arm(Outcome.SHED, [], 0.0, 0.0)
    except TimeoutError:
        return Arm(Outcome.TIMEOUT, [], deadline if embedded is None else embedded - began, deadline)
    except ProviderUnavailable as error:
        late = error.trouble is Trouble.TIMEOUT
        return Arm(Outcome.TIMEOUT if late else Outcome.ERROR, [], deadline, deadline)
    except Exception:  # noqa: BLE001 - the user has an answer; this one is only watched
        return Arm(Outcome.ERROR, [], deadline, deadline)
    ended = time.perf_counter()
    return Arm(Outcome.OK if hits else Outcome.EMPTY, hits, embedded - began, ended - embedded)


def checked(hits: Sequence[Hit]) -> list[Hit]:
    """As many as were asked for, each once, with scores that are numbers.

    Raises:
        RevecError: they are not that.
    """
    some = list(hits[:DEPTH])
    if not all(math.isfinite(hit.score) for hit in some) or len({name_of(hit) for hit in some}) < len(some):
        raise RevecError("an index answered with scores that are none, or a document twice")
    return some


@dataclass(frozen=True, slots=True)
class Side:
    """An arm with what is known of its index."""

    arm: Arm
    has: Callable[[Any], bool]  # of a row of `looked_up`
    is_fresh: Callable[[Any], bool]
    exact: frozenset[int] | None  # documents that an exact scan shows; None: it is not known
    tie: float = TIE

    def why_not(self, row: Any, name: Name, horizon: int) -> Cause:
        """Why this index does not show a document that the other one does.

        row: of `looked_up`; horizon: the last rev when the arms began.
        """
        found = (
            (row.doc_id is None or not row.visible, Cause.FILTER),
            (row.doc_id is not None and row.rev > horizon, Cause.CHANGED),
            (not self.has(row), Cause.MISSING),
            (not self.is_fresh(row), Cause.STALE),
        )
        return next((cause for is_so, cause in found if is_so), None) or self._ranked_out(row, name)

    def _ranked_out(self, row: Any, name: Name) -> Cause:
        """It is there and current, and others stand before it."""
        below = next((hit for hit in self.arm.hits[AT:] if name_of(hit) == name), None)
        if below is not None:
            is_tied = self.arm.hits[AT - 1].score - below.score <= self.tie
            return Cause.TIE if is_tied else Cause.MODEL
        if len(self.arm.hits) == DEPTH and self.arm.hits[AT - 1].score - self.arm.hits[-1].score <= self.tie:
            return Cause.TIE  # more of them than are read: which are shown is chance
        if self.exact is None:
            return Cause.UNKNOWN
        return Cause.ANN if row.doc_id in self.exact else Cause.MODEL


def causes(old: Side, new: Side, rows: dict[Name, Any], horizon: int) -> tuple[Counter[str], Counter[str]]:
    """Of documents that only the old index shows, and of those that only the new one shows."""
    was, now = set(old.arm.names), set(new.arm.names)
    lost = Counter(str(new.why_not(rows[name], name, horizon)) for name in was - now)
    gained = Counter(str(old.why_not(rows[name], name, horizon)) for name in now - was)
    return lost, gained


def alike(one: Arm, other: Arm, prefix: str = "", first: str = "same_first") -> dict[str, Any]:
    """How alike two arms rank, by the names of the columns."""
    mine, theirs = one.names, other.names
    return {
        f"{prefix}overlap": overlap(mine, theirs, AT),
        f"{prefix}rbo": rbo(mine, theirs),
        first: same_first(mine, theirs),
    }
