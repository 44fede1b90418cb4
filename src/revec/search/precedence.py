"""Live searches go first: what nobody waits for begins its next step when none of them is under way.

One processor runs all of a process's Python, and the database has few more: a step beside a search is
time that the search waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PATIENCE = 0.25  # seconds: a process that is never idle observes too


class Precedence:
    """Of the live searches of one process."""

    def __init__(self) -> None:
        self._under_way = 0
        self._nobody = asyncio.Event()
        self._nobody.set()

    @contextmanager
    def live(self) -> Iterator[None]:
        """A live search, from its first step to its last."""
        self._under_way += 1
        self._nobody.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._nobody.set()

    async def given(self) -> None:
        """Back when no live search is under way, or after `PATIENCE` seconds, whatever is."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while self._under_way:  # one may have begun since the last one ended
                    await self._nobody.wait()
