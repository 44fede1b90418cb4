"""What the dual read of a pair shows so far: whether it can be trusted, and what it comes to.

Every figure is of distinct questions, each once. A gate asks `doubt` first: a sample that is none, or a
harness that disagrees with itself, proves nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from revec.migrate.decide import Rung
from revec.model.errors import BadInput
from revec.postgres import shadows
from revec.postgres.database import Connection
from revec.postgres.shadows import Losses, Pair, Setting
from revec.search.arms import Cause, Outcome
from revec.statistics.rates import binomial_upper_bound
from revec.statistics.samples import effective_size, sample_ratio

LATENCY, ERRORS, VARIANCE = "latency", "errors", "variance"
TRAFFIC = (LATENCY, ERRORS, VARIANCE)  # gates that judge what the shadow has observed
RUNGS = (0.02, 0.05, 0.10)
A_RUNG = 100  # questions that a rung wants, at least
RUNG_BAD = 0.05  # of them may go wrong with the new index alone, at most, for a larger rate
MOST_SHED = 0.05  # of what should have been observed
BROKEN = 0.001  # p of a sample that is none
SAME = 0.9  # overlap of the old index with itself, below which the harness is broken
CELLS = 4  # of the lowest rate, in which questions have to lie alike
EXPECTED = 5  # in each cell, or its p is no p
FAILED = {Outcome.ERROR, Outcome.TIMEOUT}
BAD = {*FAILED, Outcome.EMPTY}
MOST_FAILED = 0.05  # of the questions may fail with the old index asked again, or nothing is compared
EXPLAINED = {Cause.ANN, Cause.TIE, Cause.CHANGED}  # by which indexes of one space may differ


@dataclass(frozen=True, slots=True)
class Evidence:
    setting: Setting | None
    pair: Pair | None
    rows: list[Any]  # of `shadows.seen`, the sampled ones, in the order in which they became known
    every: list[Any]  # also what was observed for its tenant's sake
    losses: Losses

    @property
    def doubt(self) -> str | None:
        """Why nothing can be told from it, whatever it says; None: it is sound."""
        if self.setting is None or self.pair is None:
            return "there is no shadow"
        if not any(row.of_late for row in self.rows):
            return "no query was observed in the last day: the shadow is off, or nobody asks anything new"
        if self.losses.share > MOST_SHED:
            return (
                f"{self.losses.share:.0%} of what should have been observed in the last day was not "
                f"({self.losses.dropped:,} dropped, {self.losses.lost:,} lost): lower the rate, or wait"
            )
        for what, p in (("questions", self.placed), ("the arms' order", self.ordered)):
            if p is not None and p < BROKEN:
                return f"the sample is broken: {what} are not spread as they should be (p {p:.1g})"
        floor = mean(row.floor_overlap for row in self.unchanged)
        if floor is not None and floor < SAME:
            return f"the old index asked again overlaps its own answer by {floor:.2f}: the harness is broken"
        return None

    @property
    def unchanged(self) -> list[Any]:
        """Without those in which a document was written between the arms."""
        return [row for row in self.rows if not row.changed]

    @property
    def compared(self) -> list[Any]:
        """Those that the old index answered when it was asked again: the others are no units."""
        return [row for row in self.rows if row.again_outcome not in FAILED]

    @property
    def in_rung(self) -> list[Any]:
        """Since the rate was set."""
        return [row for row in self.rows if row.in_rung]

    @property
    def effective(self) -> float:
        """As many questions of equal traffic would say as much (Kish)."""
        return effective_size([row.weight for row in self.rows])

    @property
    def placed(self) -> float | None:
        """The p of hashes below the lowest rate lying as they do; None: too few to say."""
        chosen = [row.place for row in self.rows if row.chosen == "rate"]
        lowest = min(RUNGS[0], self.setting.rate) if self.setting else RUNGS[0]
        cells = Counter(math.floor(CELLS * place / lowest) for place in chosen if place < lowest)
        return _p([cells[cell] for cell in range(CELLS)])

    @property
    def ordered(self) -> float | None:
        """The p of the new arm being read first as often as it was."""
        first = sum(row.new_first for row in self.rows)
        return _p([first, len(self.rows) - first])

    def bad(self, arm: str) -> list[bool]:
        """Of each question whether the arm failed, was late, or found nothing."""
        return [getattr(row, f"{arm}_outcome") in BAD for row in self.rows]

    def causes(self, which: str) -> dict[str, int]:
        """Documents that one index alone shows, by cause. which: lost or gained."""
        total: Counter[str] = Counter()
        for row in self.unchanged:
            total.update(getattr(row, which))
        return dict(total.most_common())


async def of_pair(conn: Connection, pair: Pair | None, collection_id: int) -> Evidence:
    setting = await shadows.of(conn, collection_id)
    if setting is None or pair is None:
        return Evidence(setting, None, [], [], Losses(0, 0, 0))
    every = await shadows.seen(conn, pair, setting)
    sampled = [row for row in every if row.sampled]
    return Evidence(setting, pair, sampled, every, await shadows.losses(conn, pair))


def require_rate(rate: float) -> None:
    """
    Raises:
        BadInput: it is no share.
    """
    if not 0 < rate <= 1:
        raise BadInput(f"{rate:g} is no share of the queries: write 0.02 for 2%, 1 for all of them")


def next_rung(rate: float) -> float | None:
    """None: this is the last one."""
    return next((rung for rung in RUNGS if rung > rate), None)


def fails_itself(failed: int, questions: int) -> bool:
    """Whether the comparison does: the old index asked again gave no answer to too many of the questions."""
    return failed > MOST_FAILED * questions


def rung(setting: Setting, questions: int, bad: int, failed: int = 0) -> Rung:
    """A step of load, no proof of quality: what was seen since the rate was set.

    failed: questions beside those, which the old index did not answer when it was asked again.
    """
    upper = next_rung(setting.rate)
    bound = binomial_upper_bound(bad, questions)
    proven = questions >= A_RUNG and bound <= RUNG_BAD and not fails_itself(failed, questions + failed)
    told = (
        f"{questions:,} of {A_RUNG:,} questions at {setting.rate:.0%}, "
        f"at most {bound:.1%} go wrong with the new index alone"
    )
    if fails_itself(failed, questions + failed):
        told += f"; the comparison itself fails: {failed:,} more fail with the old index asked again"
    return Rung(setting.rate, upper, proven, told)


def mean(values: Iterable[float | bool | None]) -> float | None:
    """Of those that are known."""
    known = [float(value) for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def quantile(values: Sequence[float], share: float) -> float | None:
    """The smallest that at least this share does not exceed."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def percentiles(values: Sequence[float]) -> list[float]:
    """Of each the share of all that are below it, ties counted half: comparable where the values are not."""
    ordered = sorted(values)
    places: dict[float, list[int]] = {}
    for at, value in enumerate(ordered):
        places.setdefault(value, []).append(at)
    return [(places[value][0] + places[value][-1] + 1) / (2 * len(ordered)) for value in values]


def _p(counts: Sequence[int]) -> float | None:
    if sum(counts) < EXPECTED * len(counts):
        return None
    return sample_ratio(counts, [1 / len(counts)] * len(counts))
