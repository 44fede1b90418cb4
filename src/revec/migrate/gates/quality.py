"""Is search no worse by judged queries? ONE look at a fixed set, and what comes of it counts.

Both indexes are asked every query, and each query's difference is one value (`statistics.paired`). Whoever
looks again and again until he likes what he sees errs more often than he says. So the verdict of a look is
kept: the same set and the same two indexes are not looked at twice. A set that has grown may be, and so may
what a person cleared; each such look may err half as often as the one before it, all together twice as often
as the first. A pass that is a day old is looked at again as it was: that can only take it away.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from revec.migrate.gates.base import Case
from revec.migrate.outlook import EVIDENCE_LASTS, QUALITY, SET_CHANGED
from revec.model.errors import NotFound, ProviderError
from revec.model.judging import JudgedQuery, Quality, fingerprint
from revec.model.migration import Migration
from revec.model.verdict import Figures, Outcome, Verdict
from revec.postgres import collections, indexes, judgements, migrations
from revec.search.judging import NDCG, RECALL, in_words, scored
from revec.search.retriever import Served
from revec.statistics.margins import Finding
from revec.statistics.paired import Comparison, noninferior

if TYPE_CHECKING:
    from revec.search.judging import Floats, Scores

ALPHA = 0.05  # of the first look
WIDER = 2.5  # times the margin: what a segment, which has fewer queries, may lose
GONE = 0.02  # of the queries may have lost their good answers: each hides a loss
FEWEST = 10  # queries that make a segment one


@dataclass(frozen=True, slots=True)
class Segment:
    """Queries of one tenant, or of one of the operator's own segments."""

    name: str
    found: Comparison  # of nDCG@10

    @property
    def evidence(self) -> dict[str, Any]:
        return {"segment": self.name} | _evidence(self.found)


async def judge(case: Case) -> Verdict:
    """Judged queries are not answered worse by the margin, in nDCG@10 and in Recall@3, nor any segment's."""
    migration = case.migration
    if migration is None or migration.judged is None or migration.old_index is None:
        return Verdict(QUALITY, Outcome.NOT_CONFIGURED, "no judgements were declared: `--judged SET`")
    if case.doubted:
        why = f"not looked at before {case.doubted.gate} has passed: a look counts"
        return Verdict(QUALITY, Outcome.INCONCLUSIVE, why)
    try:
        return await _judge(case, migration, migration.judged)
    except (NotFound, ProviderError) as error:  # nothing was seen, so nothing is counted
        return Verdict(QUALITY, Outcome.INCONCLUSIVE, str(error))


async def _judge(case: Case, migration: Migration, quality: Quality) -> Verdict:
    assert migration.old_index is not None
    async with case.tools.database.transaction() as conn:
        collection = await collections.by_id(conn, migration.collection_id)
        queries = await judgements.read(conn, collection, quality.judged)
        there = await judgements.answerable(conn, collection, quality.judged)
        route = await indexes.route_of(conn, collection.id)
        old = await indexes.by_id(conn, migration.old_index)
        changed = await judgements.changed_at(conn, collection.id, quality.judged)
        last = await migrations.looked(conn, migration, QUALITY)
    if not queries:
        why = f"no query of {quality.judged!r} has a good answer: `revec judgements add {collection.name}`"
        return Verdict(QUALITY, Outcome.INCONCLUSIVE, why)
    if gone := _unanswerable(queries, there, collection.name):
        return Verdict(QUALITY, Outcome.INCONCLUSIVE, gone)
    upon = {
        "set": quality.judged,
        "set_hash": fingerprint(queries),
        "mode": str(quality.mode),
        "margin": quality.margin,
        "old": old.name,
        "new": case.index.name,
    }
    look = 1
    if last is not None:
        verdict, age, cleared = last
        same = verdict.evidence["upon"] == upon and not cleared
        if same and (verdict.outcome is not Outcome.PASSED or age < EVIDENCE_LASTS):
            kept = verdict.evidence | {SET_CHANGED: changed}
            return Verdict(QUALITY, verdict.outcome, verdict.why, kept, verdict.figures)
        look = verdict.evidence["look"] + (0 if same else 1)
    was, now = [
        await scored(case.tools.retriever, Served(collection.name, route, index), queries, quality.mode)
        for index in (old, case.index)
    ]
    if not was[NDCG].any():
        why = "the index that serves answers none of them: no loss could be seen"
        return Verdict(QUALITY, Outcome.INCONCLUSIVE, why)
    alpha = ALPHA / 2 ** (look - 1)
    counted = {
        "upon": upon,
        "look": look,
        "alpha": alpha,
        "looked_at": datetime.now(UTC).isoformat(),
        SET_CHANGED: changed,
    }
    return await asyncio.to_thread(verdict_of, was, now, queries, quality, alpha=alpha, counted=counted)


def _unanswerable(queries: Sequence[JudgedQuery], there: set[str], name: str) -> str | None:
    """Why too many of them cannot be lost, because their good answers are not there to be found."""
    gone = sum(query.name not in there for query in queries)
    if gone <= GONE * len(queries):
        return None
    return (
        f"{gone:,} of {len(queries):,} queries have no good answer among the documents that are there, for "
        f"their tenant: `revec judgements list {name}` counts them"
    )


def verdict_of(
    was: Scores,
    now: Scores,
    queries: Sequence[JudgedQuery],
    quality: Quality,
    *,
    alpha: float = ALPHA,
    counted: Mapping[str, Any] | None = None,
) -> Verdict:
    """What two indexes' figures of the same queries say.

    To pass, both metrics have to be proved at alpha, so that no correction is due (Berger, 1982). To fail,
    one of them is enough, or one segment: there alpha is shared.
    """
    differences = {name: now[name] - was[name] for name in now}
    found = {name: noninferior(each, quality.margin, alpha) for name, each in differences.items()}
    halved = [noninferior(each, quality.margin, alpha / len(found)) for each in differences.values()]
    segments = _segments(differences[NDCG], queries, quality, alpha)
    lost = [each for each in segments if each.found.finding is Finding.FAIL]
    worst = min(found.values(), key=lambda each: each.lower)
    if lost or any(each.finding is Finding.FAIL for each in halved):
        outcome = Outcome.FAILED
    elif all(each.finding.passes for each in found.values()):
        outcome = Outcome.PASSED
    else:
        outcome = Outcome.INCONCLUSIVE
    evidence = {
        **(counted or {}),
        "metrics": {
            name: {"old": _mean(was[name]), "new": _mean(now[name])} | _evidence(each)
            for name, each in found.items()
        },
        "slightly_worse": any(each.slightly_worse for each in found.values()),
        "segments": [each.evidence for each in sorted(segments, key=lambda each: each.found.mean)[:10]],
        "segments_seen": len(segments),
    }
    figures = Figures(round(worst.mean, 4), round(worst.lower, 4), -quality.margin, worst.n)
    return Verdict(QUALITY, outcome, _why(outcome, found, lost, worst), evidence, figures)


def _segments(
    differences: Floats, queries: Sequence[JudgedQuery], quality: Quality, alpha: float
) -> list[Segment]:
    """Each with enough queries; one that has them all is no segment."""
    members: dict[str, list[int]] = defaultdict(list)
    for at, query in enumerate(queries):
        members[f"tenant {query.tenant}"].append(at)
        members[f"segment {query.segment or 'without a name'}"].append(at)
    parts = {name: at for name, at in members.items() if FEWEST <= len(at) < len(queries)}
    margin = min(1.0, WIDER * quality.margin)
    return [
        Segment(name, noninferior(differences[at], margin, alpha / len(parts))) for name, at in parts.items()
    ]


def _why(
    outcome: Outcome, found: Mapping[str, Comparison], lost: Sequence[Segment], worst: Comparison
) -> str:
    ndcg, recall = found[NDCG], found[RECALL]
    rest = (
        f"{RECALL} {recall.mean:+.3f} [{recall.lower:+.3f}, {recall.upper:+.3f}], {worst.n:,} judged queries"
    )
    said = f"{in_words(ndcg)} {NDCG}, {rest}"
    if lost and outcome is Outcome.FAILED:
        names = ", ".join(f"{each.name} ({each.found.mean:+.3f})" for each in lost[:3])
        return f"too much is lost in {names}; of all: {said}"
    if outcome is not Outcome.INCONCLUSIVE:
        return said
    more = max((each.more or 0 for each in found.values() if not each.finding.passes), default=0)
    return f"cannot tell yet: {f'~{more:,} more judged queries' if more else 'judge more queries'}; {said}"


def _mean(figures: Floats) -> float | None:
    return round(float(figures.mean()), 4) if figures.size else None


def _evidence(found: Comparison) -> dict[str, Any]:
    return {
        "difference": round(found.mean, 4),
        "sd": round(found.sd, 4),
        "lower": round(found.lower, 4),
        "upper": round(found.upper, 4),
        "margin": found.margin,
        "queries": found.n,
        "finding": str(found.finding),
    }
