"""What a worker says of itself is so."""

from __future__ import annotations

import pytest

from revec.work import vitals
from revec.work.memory import resident


def test_documents_a_second_are_of_the_last_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A burst is forgotten after a minute, an idle worker says nought, and nobody divides by it."""
    now = 100.0
    monkeypatch.setattr(vitals.time, "monotonic", lambda: now)
    tempo = vitals.Tempo()
    assert tempo.per_second(0) == 0
    now += 5
    assert tempo.per_second(50) == 10
    for _ in range(11):
        now += 5
        tempo.per_second(50)
    assert tempo.per_second(50) == pytest.approx(50 / 60)
    now += 5
    assert tempo.per_second(50) == 0


def test_memory_is_what_the_process_has() -> None:
    """More than a bare interpreter, less than this machine."""
    before = resident() / 2**20
    ballast = b"x" * (64 << 20)
    assert 10 < before < resident() / 2**20 - 50 < 100_000
    assert len(ballast) == 64 << 20
