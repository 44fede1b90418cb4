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
class Verdict:
    gate: str
    outcome: Outcome
    why: str
    evidence: dict[str, Any] = field(default_factory=dict)
    at: datetime | None = None

    def __str__(self) -> str:
        return f"{self.gate}: {self.outcome} ({self.why})"


def together(verdicts: list[Verdict]) -> Outcome:
    """All must pass; one failure fails; anything missing or undecided cannot tell."""
    outcomes = {verdict.outcome for verdict in verdicts}
    if Outcome.FAILED in outcomes:
        return Outcome.FAILED
    return Outcome.PASSED if outcomes == {Outcome.PASSED} else Outcome.INCONCLUSIVE
