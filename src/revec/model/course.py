"""How a person wants a backfill to go: whose documents first, whose at all for now, and how far."""

from __future__ import annotations

import re
from dataclasses import dataclass

from revec.model.errors import BadInput

ALL = "all"
_PERCENT = re.compile(r"(\d{1,2}(?:\.\d+)?) ?%")


@dataclass(frozen=True, slots=True)
class Course:
    """Of one migration; as it is: every tenant by its own priority, to the end."""

    priority: tuple[str, ...] = ()  # tenants, or tiers of them, before all others and in this order
    tenants: tuple[str, ...] = ()  # these alone, the others wait; none named: all
    until: float | None = None  # a share of the documents, between 0 and 1: there it pauses
    batch_size: int | None = None  # documents in a claim, of each worker

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise BadInput(
                "--batch-size is a number of documents, 1 or more: leave it out, packs fill by tokens"
            )


STRAIGHT_ON = Course()


def share(text: str) -> float:
    """`50%` → 0.5.

    Raises:
        BadInput: it is no share, or nothing would be left to do or to wait for.
    """
    found = _PERCENT.fullmatch(text.strip())
    if not found or not float(found[1]) > 0:
        raise BadInput(f"{text!r} is no part of the documents: write 10% or 50%, less than 100%")
    return float(found[1]) / 100
