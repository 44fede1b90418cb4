"""What `--watch` and `monitor` share: look again and again, say what is new."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TypeVar

from rich.console import RenderableType
from rich.live import Live

from revec.cli.door import out, show_json

Seen = TypeVar("Seen")
EVERY = 1.0  # seconds


async def watched(
    look: Callable[[], Awaitable[Seen]],
    *,
    tree: Callable[[Seen], RenderableType],
    lines: Callable[[Seen], Sequence[str]],
    plain: Callable[[Seen], object] = lambda seen: seen,
    until: Callable[[Seen], bool],
    schema: str | None = None,
    every: float = EVERY,
) -> None:
    """Show what is seen until it is over, or Ctrl-C: at a terminal one tree that stays where it is;
    elsewhere lines with the time, of what is new only; with a schema's name one JSON document a look.
    """
    said: set[str] = set()
    is_terminal = schema is None and out.is_terminal
    with Live(console=out, auto_refresh=False) if is_terminal else nullcontext() as live:
        async for seen in _looks(look, until, every):
            if schema is not None:
                show_json(plain(seen), schema)
            elif live is not None:
                live.update(tree(seen), refresh=True)
            else:
                new = lines(seen)
                for line in new:
                    if line not in said:
                        out.print(f"{moment(datetime.now(UTC))}  {line}", markup=False)
                said = set(new)
            sys.stdout.flush()


async def _looks(
    look: Callable[[], Awaitable[Seen]], until: Callable[[Seen], bool], every: float
) -> AsyncIterator[Seen]:
    while True:
        seen = await look()
        yield seen
        if until(seen):
            return
        await asyncio.sleep(every)


def moment(at: datetime) -> str:
    """As the clock on this machine has it."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
