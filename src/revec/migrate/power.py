"""What the declared judgements, and the present traffic, can decide: said before a migration begins."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

from revec.migrate.evidence import A_RUNG, RUNGS
from revec.migrate.gates.base import Tools
from revec.model import duration
from revec.model.errors import BadInput
from revec.model.index import Collection, Index
from revec.model.judging import JudgedQuery, Quality
from revec.postgres import indexes, judgements, pulses
from revec.statistics.margins import queries_needed

ALPHA, POWER = 0.05, 0.8
ALIKE = 0.5  # correlation of two models' figures of one query that is reckoned with before both are known


@dataclass(frozen=True, slots=True)
class Power:
    """What a set of judged queries can decide."""

    quality: Quality
    queries: int
    now: float  # nDCG@10 of the index that serves
    sd: float  # of its figures of single queries

    @property
    def sd_of_differences(self) -> float:
        """Of two models that are as good and as noisy, with that correlation."""
        return self.sd * math.sqrt(2 * (1 - ALIKE))

    @property
    def smallest(self) -> float:
        """The smallest margin that an equal model is proved to keep, in four cases of five.

        `margins.queries_needed` asks the same the other way round.
        """
        if not self.queries:
            return 1.0
        normal = NormalDist()
        spread = normal.inv_cdf(1 - ALPHA) + normal.inv_cdf(POWER)
        by_spread = spread * self.sd_of_differences / math.sqrt(self.queries) + 1 / self.queries
        return min(1.0, max(by_spread, -math.log(ALPHA) / self.queries))

    @property
    def more(self) -> int:
        """Judged queries that are missing for the declared margin; 0: none."""
        return max(0, queries_needed(self.sd_of_differences, self.quality.margin) - self.queries)

    @property
    def told(self) -> str:
        margin = f"the margin of {self.quality.margin:g}"
        enough = f"{margin} needs ~{self.more:,} more" if self.more else f"{margin} needs no more"
        return (
            f"{self.queries:,} judged queries of {self.quality.judged!r}, {self.quality.mode}: nDCG@10 "
            f"{self.now:.3f} now (sd {self.sd:.3f}); a difference of {self.smallest:.3f} can be decided, at "
            f"5% and in four cases of five, if two models agree by half; {enough}"
        )

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "set": self.quality.judged,
            "mode": self.quality.mode,
            "margin": self.quality.margin,
            "queries": self.queries,
            "ndcg@10": round(self.now, 4),
            "sd": round(self.sd, 4),
            "smallest": round(self.smallest, 4),
            "more": self.more,
        }


@dataclass(frozen=True, slots=True)
class Traffic:
    """How long the rungs of a shadow take."""

    per_second: float | None  # searches of the last minutes; None: none were seen
    rungs: tuple[float, ...] = field(default=RUNGS)

    @property
    def seconds(self) -> dict[float, float | None]:
        """Rung → how long it lasts, if no query is asked twice."""
        return {rung: A_RUNG / (self.per_second * rung) if self.per_second else None for rung in self.rungs}

    @property
    def told(self) -> str:
        each = f"{A_RUNG:,} different queries to a rung"
        if not self.per_second:
            return f"no searches were seen in the last minutes, so how long is unknown: {each}"
        long = ", ".join(
            f"{rung:.0%} {duration.told(seconds)}"
            for rung, seconds in self.seconds.items()
            if seconds is not None
        )
        return f"{self.per_second:.2g} searches a second, {each}: {long} at least"

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "searches_per_second": self.per_second,
            "queries_to_a_rung": A_RUNG,
            "seconds": {str(rung): seconds for rung, seconds in self.seconds.items()},
        }


async def power(tools: Tools, collection: Collection, quality: Quality) -> Power:
    """Asks the index that serves every judged query of the set; writes nothing.

    Raises:
        BadInput: nothing serves that a new index could be compared with, or no query has a good answer.
        NotFound: there is no such set.
        ProviderError: a query could not be embedded.
    """
    from revec.search.judging import NDCG, scored
    from revec.search.retriever import Served

    async with tools.database.transaction() as conn:
        index = await serving(conn, collection)
        route = await indexes.route_of(conn, collection.id)
        queries = await judgements.read(conn, collection, quality.judged)
    require_judged(collection, quality.judged, queries)
    found = await scored(tools.retriever, Served(collection.name, route, index), queries, quality.mode)
    sd = float(found[NDCG].std(ddof=1)) if len(queries) > 1 else 1.0
    return Power(quality, len(queries), float(found[NDCG].mean()), sd)


async def traffic(tools: Tools, collection: Collection) -> Traffic:
    async with tools.database.transaction() as conn:
        return Traffic(await pulses.searches_per_second(conn, collection.name))


async def serving(conn: Any, collection: Collection) -> Index:
    """
    Raises:
        BadInput: nothing serves yet.
    """
    route = await indexes.route_of(conn, collection.id)
    if route.serving is None:
        raise BadInput(
            f"nothing serves {collection.name} yet that a new model could be compared with: "
            "leave the judgements out of its first fill"
        )
    return await indexes.by_id(conn, route.serving)


def require_judged(collection: Collection, name: str, queries: list[JudgedQuery]) -> None:
    """
    Raises:
        BadInput: no query has a good answer.
    """
    if not queries:
        raise BadInput(
            f"no query of {name!r} has a document with a grade above 0: "
            f"`revec judgements add {collection.name} --as {name} …` adds some"
        )
