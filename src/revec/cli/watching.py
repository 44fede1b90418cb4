"""What `--watch` and `monitor` share: look again and again, say what is new."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

from revec.cli.door import out, show_json

Seen = TypeVar("Seen")
EVERY = 1.0  # seconds


async def watched(
    look: Callable[[], Awaitable[Seen]],
    show: Callable[[Seen], None],
    *,
    until: Callable[[Seen], bool],
    json: bool = False,
    every: float = EVERY,
) -> None:
    """Show what is seen until it is over, or Ctrl-C. A terminal is cleared each time; elsewhere lines follow
    one another, of what is new only, and as JSON one document for every look.
    """
    last = ""
    once = True
    while True:
        seen = await look()
        if json:
            show_json(seen)
        elif str(seen) != last:
            if not once and sys.stdout.isatty():
                out.clear()
            show(seen)
        sys.stdout.flush()
        last, once = str(seen), False
        if until(seen):
            return
        await asyncio.sleep(every)
