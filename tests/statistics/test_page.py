"""What docs/statistics.md promises is what is computed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from bench.differences import SHAPES, drawn
from revec.statistics.margins import queries_needed
from revec.statistics.paired import bounds

PAGE = (Path(__file__).parents[2] / "docs" / "statistics.md").read_text(encoding="utf-8")
MARGIN = 0.02
COLUMNS = {-0.05: "FAIL", -0.02: "PASS", 0.0: "PASS", 0.02: "PASS", 0.05: "PASS"}
COARSE = 0.1
POWER = {
    int(size.replace(",", "")): shares
    for size, shares in re.findall(r"^\| ([\d,]+) \|((?: \d+% \|){5})$", PAGE, re.MULTILINE)
}


@pytest.mark.parametrize("size", POWER)
def test_the_table_of_what_judged_queries_decide(size: int) -> None:
    """Every share within ten points, by some migrations of each shape."""
    rng, each = np.random.default_rng(9), 30 if size > 1_000 else 80
    sets = [drawn(shape, truth, (each, size), rng) for truth in COLUMNS for shape in SHAPES]
    lower, upper = (side.reshape(len(COLUMNS), -1) for side in bounds(np.concatenate(sets)))
    promised = [int(share) / 100 for share in re.findall(r"(\d+)%", POWER[size])]
    for row, (said, share) in enumerate(zip(COLUMNS.values(), promised, strict=True)):
        found = upper[row] < -MARGIN if said == "FAIL" else lower[row] > -MARGIN
        assert found.mean() == pytest.approx(share, abs=COARSE)


def test_the_table_of_how_many_are_needed() -> None:
    """To the query."""
    margins = (0.05, 0.03, 0.02, 0.01)
    rows = re.findall(
        r"^\| (0\.\d\d) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", PAGE, re.MULTILINE
    )
    assert rows
    assert POWER
    for sd, *promised in rows:
        assert [queries_needed(float(sd), each) for each in margins] == [
            int(n.replace(",", "")) for n in promised
        ]
