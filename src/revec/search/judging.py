"""Judged queries asked of an index, and two indexes' answers to the same queries side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from revec.model.judging import Doc, JudgedQuery
from revec.model.reading import Hit, Mode
from revec.search.judge import ndcg, recall
from revec.search.retriever import Retriever, Served
from revec.statistics.paired import Comparison

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Scores = dict[str, Floats]  # by metric: of the same queries, each in [0, 1], shape (queries,)

T = TypeVar("T")
AT_ONCE = 4  # queries: a proof leaves room for those who search
DEPTH = 10  # hits
NDCG, RECALL = "nDCG@10", "Recall@3"


async def answers(
    retriever: Retriever, served: Served, queries: Sequence[JudgedQuery], mode: Mode
) -> list[list[Hit]]:
    """The ten best of each query, as the index would answer it if it served.

    Raises:
        ProviderError: a query could not be embedded.
        NotFound: the index is gone.
    """

    async def answer(query: JudgedQuery) -> list[Hit]:
        reading = await retriever.read(
            *(served.collection, served.route, served.index, query.words),
            k=DEPTH,
            tenant=query.tenant,
            mode=mode,
        )
        return reading.hits

    return await each_of(queries, answer)


async def each_of(queries: Sequence[JudgedQuery], ask: Callable[[JudgedQuery], Awaitable[T]]) -> list[T]:
    """What is answered to each, a few at a time; one that fails ends the others."""
    room = asyncio.Semaphore(AT_ONCE)

    async def asked(query: JudgedQuery) -> T:
        async with room:
            return await ask(query)

    tasks = [asyncio.create_task(asked(query)) for query in queries]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def scores(rankings: Sequence[Sequence[Doc]], grades: Sequence[Mapping[Doc, int]]) -> Scores:
    """Of each ranking by the grades of its query."""
    pairs = list(zip(rankings, grades, strict=True))
    return {
        NDCG: np.array([ndcg(ranking, judged, DEPTH) for ranking, judged in pairs], dtype=np.float64),
        RECALL: np.array([recall(ranking, judged, 3) for ranking, judged in pairs], dtype=np.float64),
    }


async def scored(retriever: Retriever, served: Served, queries: Sequence[JudgedQuery], mode: Mode) -> Scores:
    """What the index is worth on judged queries; raises as `answers` does."""
    found = await answers(retriever, served, queries, mode)
    rankings = [[(hit.source, hit.id) for hit in hits] for hits in found]
    return scores(rankings, [query.grades for query in queries])


def in_words(found: Comparison) -> str:
    """A comparison of nDCG@10, new less old, for a person."""
    if found.finding.passes and found.lower > 0:
        said = f"better by {found.mean:.3f}"
    elif found.slightly_worse:
        said = f"a little worse, by {-found.mean:.3f}, within the margin"
    elif not found.finding.passes:
        said = f"worse by {-found.mean:.3f}" if found.upper < 0 else f"a difference of {found.mean:+.3f}"
    elif found.upper < found.margin:
        said = "no material difference"
    else:
        said = f"not worse by {found.margin:g}, and perhaps better ({found.mean:+.3f})"
    return f"{said} [{found.lower:+.3f}, {found.upper:+.3f}]"
