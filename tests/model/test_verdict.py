"""Verdicts add up to the worst that is known: never a bool, never a pass by default."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from revec.model.verdict import Outcome, Verdict, together


def test_nothing_judged_is_not_passed() -> None:
    """No verdict at all cannot tell."""
    assert together([]) is Outcome.INCONCLUSIVE


@given(st.lists(st.sampled_from(Outcome), min_size=1))
def test_one_failure_fails_and_only_all_passes_pass(outcomes: list[Outcome]) -> None:
    """Everything between cannot tell."""
    sum_of = together([Verdict(str(n), outcome, "why") for n, outcome in enumerate(outcomes)])
    if Outcome.FAILED in outcomes:
        assert sum_of is Outcome.FAILED
    elif set(outcomes) == {Outcome.PASSED}:
        assert sum_of is Outcome.PASSED
    else:
        assert sum_of is Outcome.INCONCLUSIVE


def test_a_verdict_reads_as_a_line() -> None:
    """Gate, outcome, why."""
    assert str(Verdict("recall", Outcome.NOT_CONFIGURED, "exact")) == "recall: NOT CONFIGURED (exact)"
