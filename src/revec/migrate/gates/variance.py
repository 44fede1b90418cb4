"""How far do the two indexes differ, beside what the old one differs from itself?

Other is not worse: a better model ranks otherwise. So this is reported, and required only where the space
stays: there the same vectors have to give the same answers, up to ties and what an approximate index misses.
"""

from __future__ import annotations

from typing import Any

from revec.migrate.evidence import EXPLAINED, VARIANCE, Evidence, mean, percentiles
from revec.migrate.gates.base import Case, shadowed
from revec.model.verdict import Outcome, Verdict
from revec.postgres import indexes

CEILING = 0.01  # of all questions may be answered otherwise without a reason
ALPHA = 0.05
IMPOSSIBLE, ENOUGH = 0.05, 50  # so small an overlap of so many questions: another table, prefix or metric


async def judge(case: Case) -> Verdict:
    seen = await shadowed(case)
    if seen is None:
        return Verdict(VARIANCE, Outcome.NOT_CONFIGURED, "no migration reads both indexes")
    shown = figures(seen)
    if why := seen.doubt or (None if shown["n"] else "no two arms could be compared yet"):
        return Verdict(VARIANCE, Outcome.INCONCLUSIVE, why, shown)
    told = _told(shown)
    if not await _same_space(case):
        return Verdict(VARIANCE, Outcome.NOT_CONFIGURED, f"reported, for another space: {told}", shown)
    return _of_one_space(seen, shown, told)


def _of_one_space(seen: Evidence, shown: dict[str, Any], told: str) -> Verdict:
    """Equal, up to what chance and approximation explain; valid at every look."""
    from revec.statistics.guards import guard, proof_below

    flags = [_unexplained(row) for row in seen.unchanged if row.overlap is not None]
    shown |= {"unexplained": sum(flags), "limit": CEILING}
    told = f"{sum(flags)} of {len(flags):,} questions are answered otherwise without a reason; {told}"
    if guard(CEILING, ALPHA, span=len(flags)).after(flags).enough:
        return Verdict(VARIANCE, Outcome.FAILED, told, shown)
    if proof_below(CEILING, ALPHA).after(flags).enough:
        return Verdict(VARIANCE, Outcome.PASSED, told, shown)
    return Verdict(VARIANCE, Outcome.INCONCLUSIVE, f"cannot tell yet: {told}", shown)


def figures(seen: Evidence) -> dict[str, Any]:
    """Means over the questions in which nothing was written meanwhile; scores by their percentiles alone."""
    rows = [row for row in seen.unchanged if row.overlap is not None]
    overlap = mean(row.overlap for row in rows)
    return {
        "n": len(rows),
        "changed": len(seen.rows) - len(seen.unchanged),
        "overlap": _rounded(overlap),
        "rbo": _rounded(mean(row.rbo for row in rows)),
        "top-1": _rounded(mean(row.same_first for row in rows)),
        "mismatch": _rounded(mean(row.overlap < 1 for row in rows)),
        "A/A overlap": _rounded(mean(row.floor_overlap for row in rows)),
        "A/A rbo": _rounded(mean(row.floor_rbo for row in rows)),
        "A/A top-1": _rounded(mean(row.floor_first for row in rows)),
        "percentile delta": _rounded(_percentile_delta(rows)),
        "lost": seen.causes("lost"),
        "gained": seen.causes("gained"),
        "alarm": overlap is not None and len(rows) >= ENOUGH and overlap < IMPOSSIBLE,
    }


async def _same_space(case: Case) -> bool:
    migration = case.migration
    if migration is None or migration.old_index is None:
        return False
    async with case.tools.database.transaction("worker") as conn:
        old = await indexes.by_id(conn, migration.old_index)
    return (old.space.id, old.query) == (case.index.space.id, case.index.query)


def _unexplained(row: Any) -> bool:
    return bool((row.lost.keys() | row.gained.keys()) - EXPLAINED)


def _percentile_delta(rows: list[Any]) -> float | None:
    """How far a question's best score moves among those of all questions of its index, on average."""
    both = [row for row in rows if row.again_score is not None and row.new_score is not None]
    old = percentiles([row.again_score for row in both])
    new = percentiles([row.new_score for row in both])
    return mean(abs(b - a) for a, b in zip(old, new, strict=True))


def _told(shown: dict[str, Any]) -> str:
    alarm = "ALARM, nothing in common: another prefix, metric or table? " if shown["alarm"] else ""
    return (
        f"{alarm}overlap@10 {shown['overlap']:.3f} (A/A {shown['A/A overlap']:.3f}), "
        f"RBO {shown['rbo']:.3f} (A/A {shown['A/A rbo']:.3f}), {shown['n']:,} questions"
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
