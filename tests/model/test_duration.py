"""Durations as people read them."""

from __future__ import annotations

import pytest

from revec.model.duration import told


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-3, "0 s"),
        (0.0004, "0 s"),
        (0.0126, "13 ms"),
        (0.4, "400 ms"),
        (0.9996, "1 s"),
        (14, "14 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (7_500, "2 h 5 min"),
        (7_259, "2 h"),
        (86_400, "1 d"),
        (100_800, "1 d 4 h"),
        (90 * 86_400 + 59, "90 d"),
    ],
)
def test_two_units_at_most(seconds: float, said: str) -> None:
    """The largest that there is one of, and the next; what is smaller is left out, not rounded up."""
    assert told(seconds) == said
