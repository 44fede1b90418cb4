"""Rankings that are kept to be weighed again: an outcome is of the rankings that it says."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from revec.model.reading import Mode
from revec.search import weighing
from revec.web.console.shelf import Shelf, Which

WHICH = Which(1, 2, 3, "default", Mode.VECTOR)
FIRST, SECOND = (SimpleNamespace(at=datetime(2026, 1, day, tzinfo=UTC)) for day in (1, 2))
PATIENCE = 10.0  # seconds


async def test_rankings_that_come_during_a_weighing_are_weighed_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, goes_on = asyncio.Event(), Event()
    loop = asyncio.get_running_loop()

    def weighed(rankings: Any, _: Any) -> Any:
        loop.call_soon_threadsafe(begun.set)
        assert goes_on.wait(PATIENCE)
        return rankings

    monkeypatch.setattr(weighing, "weighed", weighed)
    shelf: Any = Shelf()
    assert await shelf.weighed(WHICH, []) == (None, None)
    shelf.put(WHICH, FIRST)
    first = asyncio.create_task(shelf.weighed(WHICH, []))
    await begun.wait()
    shelf.put(WHICH, SECOND)
    goes_on.set()
    assert await first == (FIRST, FIRST.at)
    assert await shelf.weighed(WHICH, []) == (SECOND, SECOND.at)
