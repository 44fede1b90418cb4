"""A set of judged queries through two indexes: which of them got better, which worse, and how sure that is.

The rankings are asked for once; what people judge afterwards weighs them anew. It is a way to find what to
look at: the verdict on a migration is its quality gate's, which looks for itself and counts its looks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from revec.model.errors import BadInput
from revec.model.index import Index
from revec.model.judging import MARGIN, Doc, JudgedQuery
from revec.model.reading import Mode
from revec.search.judging import DEPTH, NDCG, answers, scores
from revec.search.retriever import Retriever, Served
from revec.search.side_by_side import Pair
from revec.statistics.paired import Comparison, noninferior
from revec.statistics.rankings import overlap

MOST = 500  # queries: a person waits for them
ALIKE = 1e-9  # nDCGs that differ by less are a tie


@dataclass(frozen=True, slots=True)
class Rankings:
    """What both indexes answered to each query, at one moment."""

    old: Index
    new: Index
    mode: Mode
    at: datetime
    of: Mapping[tuple[str, str | None], tuple[Sequence[Doc], Sequence[Doc]]]  # (words, tenant) → old, new


@dataclass(frozen=True, slots=True)
class Weighed:
    """One query; nDCG@10 of each side in [0, 1]."""

    query: JudgedQuery
    old: float
    new: float
    overlap: float

    @property
    def difference(self) -> float:
        return self.new - self.old


@dataclass(frozen=True, slots=True)
class Outcome:
    """All of them, the largest loss first."""

    rows: Sequence[Weighed]
    found: Comparison  # of nDCG@10, new less old; bounds one-sided
    unasked: int  # judged since: the rankings know nothing of them

    @property
    def wins(self) -> int:
        return sum(row.difference > ALIKE for row in self.rows)

    @property
    def losses(self) -> int:
        return sum(row.difference < -ALIKE for row in self.rows)

    @property
    def ties(self) -> int:
        return len(self.rows) - self.wins - self.losses


async def ranked(retriever: Retriever, pair: Pair, queries: Sequence[JudgedQuery], mode: Mode) -> Rankings:
    """The first so many queries, each asked of both.

    Raises:
        BadInput: there is none that somebody judged.
        ProviderError: a query could not be embedded.
    """
    if not queries:
        raise BadInput("no query of the set has a good answer yet: judge some first")
    some = queries[:MOST]
    found = [
        await answers(retriever, Served(pair.collection, pair.route, index), some, mode)
        for index in (pair.old, pair.new)
    ]
    docs = [[[(hit.source, hit.id) for hit in hits] for hits in side] for side in found]
    of = {(query.words, query.tenant): both for query, *both in zip(some, *docs, strict=True)}
    return Rankings(pair.old, pair.new, mode, datetime.now(UTC), {key: (a, b) for key, (a, b) in of.items()})


def weighed(rankings: Rankings, queries: Sequence[JudgedQuery], margin: float = MARGIN) -> Outcome:
    """By the judgements of now. Reckons for a tenth of a second: call it in a thread."""
    known = [query for query in queries if (query.words, query.tenant) in rankings.of]
    both = [rankings.of[query.words, query.tenant] for query in known]
    grades = [query.grades for query in known]
    was, now = (scores([each[side] for each in both], grades)[NDCG] for side in (0, 1))
    rows = [
        Weighed(query, float(old), float(new), overlap(*pair, DEPTH))
        for query, old, new, pair in zip(known, was, now, both, strict=True)
    ]
    return Outcome(
        sorted(rows, key=lambda row: (row.difference, row.overlap, row.query.name)),
        noninferior(now - was, margin),
        len(queries) - len(known),
    )
