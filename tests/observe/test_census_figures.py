"""Figures of a census are those of one process at a time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from revec.model.census import Census
from revec.observe import census_figures, events
from revec.observe.metrics import Metrics

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
TAKEN = Census(
    at=NOW,
    collections={},
    unprojected_seconds={},
    indexes=[],
    migrations=[],
    shadows=[],
    models=[],
    workers=3,
)


async def test_a_worker_that_cannot_count_any_more_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one may count by now, and nobody can tell it so; the next census of its own is told again."""
    clock = NOW
    monkeypatch.setattr(census_figures, "_now", lambda: clock)
    metrics = Metrics()
    metrics.hear(events.CensusTaken(TAKEN))
    clock = NOW + timedelta(seconds=179)
    assert metrics.registry.get_sample_value("revec_workers") == 3
    clock = NOW + timedelta(seconds=181)
    assert metrics.registry.get_sample_value("revec_workers") is None
    assert metrics.registry.get_sample_value("revec_census_timestamp_seconds") is None
    metrics.hear(events.CensusTaken(replace(TAKEN, at=clock, workers=2)))
    assert metrics.registry.get_sample_value("revec_workers") == 2
