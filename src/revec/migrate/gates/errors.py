"""Does the new index fail, come late, or find nothing where the old one does not?"""

from __future__ import annotations

from typing import Any

from revec.migrate.evidence import BAD, ERRORS, Evidence, fails_itself
from revec.migrate.gates.base import Case, shadowed
from revec.model.verdict import Outcome, Verdict
from revec.statistics.rates import binomial_upper_bound

CEILING = 0.01  # of all questions may go wrong with the new index alone
ALPHA = 0.05


async def judge(case: Case) -> Verdict:
    """Valid at every look: bets on the share of questions that only the new index gets wrong."""
    seen = await shadowed(case)
    if seen is None:
        return Verdict(ERRORS, Outcome.NOT_CONFIGURED, "no migration reads both indexes")
    if why := seen.doubt:
        return Verdict(ERRORS, Outcome.INCONCLUSIVE, why)
    from revec.statistics.guards import guard, proof_below

    alone, shown = _alone(seen), counted(seen)
    if fails_itself(shown["not compared"], len(seen.rows)):
        why = (
            "the comparison itself fails: the old index asked again gave no answer to "
            f"{shown['not compared']:,} of {len(seen.rows):,} questions"
        )
        return Verdict(ERRORS, Outcome.INCONCLUSIVE, why, shown)
    told = (
        f"{shown['new alone']} of {len(alone):,} went wrong with the new index alone, "
        f"at most {shown['bound']:.1%} do; {shown['old']} with the old one"
    )
    if guard(CEILING, ALPHA, span=len(alone)).after(alone).enough:
        return Verdict(ERRORS, Outcome.FAILED, told, shown)
    if proof_below(CEILING, ALPHA).after(alone).enough:
        return Verdict(ERRORS, Outcome.PASSED, told, shown)
    return Verdict(
        ERRORS, Outcome.INCONCLUSIVE, f"cannot tell yet whether fewer than {CEILING:.0%} do: {told}", shown
    )


def counted(seen: Evidence) -> dict[str, Any]:
    """How often each arm went wrong, and in what way."""
    alone = _alone(seen)
    return {
        "n": len(alone),
        "not compared": len(seen.rows) - len(alone),
        "old": sum(seen.bad("again")),
        "new": sum(seen.bad("new")),
        "new alone": sum(alone),
        "bound": round(binomial_upper_bound(sum(alone), len(alone)), 4),
        "limit": CEILING,
        "outcomes": {arm: _outcomes(seen.rows, arm) for arm in ("again", "new")},
    }


def _alone(seen: Evidence) -> list[bool]:
    """Of each question that the old index answered whether the new one alone got it wrong."""
    return [row.new_outcome in BAD and row.again_outcome not in BAD for row in seen.compared]


def _outcomes(rows: list[Any], arm: str) -> dict[str, int]:
    outcomes = [str(getattr(row, f"{arm}_outcome")) for row in rows]
    return {name: outcomes.count(name) for name in sorted(set(outcomes))}
