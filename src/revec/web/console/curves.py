"""Curves as SVG: points in a box of 100 by 24, so that nothing on a page needs a style of its own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

WIDTH, HEIGHT, MARGIN = 100.0, 24.0, 1.0


def polyline(values: Sequence[float | None]) -> str:
    """Points for `polyline`; empty where there are fewer than two. What nobody knows is left out."""
    known = [(place, value) for place, value in enumerate(values) if value is not None]
    if len(known) < 2:  # noqa: PLR2004 - a line has two ends
        return ""
    low, high = min(value for _, value in known), max(value for _, value in known)
    last = len(values) - 1
    return " ".join(
        f"{WIDTH * place / last:.1f},{_height((value - low) / (high - low) if high > low else 0.5):.1f}"
        for place, value in known
    )


def _height(share: float) -> float:
    """From the top, as SVG counts."""
    return MARGIN + (HEIGHT - 2 * MARGIN) * (1 - share)


def paces(counted: Sequence[tuple[datetime, int]]) -> list[tuple[int, float]]:
    """(when, in seconds of the epoch; how fast the count grew since the look before, in a second)."""
    return [
        (int(at.timestamp()), round(max(0, later - sooner) / seconds, 2))
        for (before, sooner), (at, later) in pairwise(counted)
        if (seconds := (at - before).total_seconds()) > 0
    ]
