"""A gate's verdict: never a bool, because "cannot tell" is an answer too."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    PASSED = "PASSED"
    FAILED = "FAILED"  # sticky: a person clears it with a reason
    INCONCLUSIVE = "INCONCLUSIVE"  # holds, and is looked at again
    NOT_CONFIGURED = "NOT CONFIGURED"


@dataclass(frozen=True, slots=True)
class Figures:
    """What a gate measured, beside what it asks for; None where there is no such number."""

    now: float | None = None
    bound: float | None = None  # what `now` is worth at worst
    limit: float | None = None  # that the bound, or where there is none `now`, has to keep
    n: int | None = None  # of what was looked at

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {value:,.4g}" if name != "n" else f"n {value:,}"
            for name, value in zip(self.__slots__, (self.now, self.bound, self.limit, self.n), strict=True)
            if value is not None
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    gate: str
    outcome: Outcome
    why: str
    evidence: dict[str, Any] = field(default_factory=dict)
    figures: Figures = Figures()
    at: datetime | None = None

    def __str__(self) -> str:
        return f"{self.gate}: {self.outcome} ({self.why})"

    @property
    def detail(self) -> str:
        """Why, with the figures where there are any."""
        return "; ".join(filter(None, [self.why, str(self.figures)]))


def together(verdicts: list[Verdict]) -> Outcome:
    """All must pass; one failure fails; anything missing or undecided cannot tell."""
    outcomes = {verdict.outcome for verdict in verdicts}
    if Outcome.FAILED in outcomes:
        return Outcome.FAILED
    return Outcome.PASSED if outcomes == {Outcome.PASSED} else Outcome.INCONCLUSIVE
