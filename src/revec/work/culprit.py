"""Whom a refusal means: of many inputs that a provider refused together, the few that are to blame."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from revec.model.errors import InputRefused

T = TypeVar("T")
Send = Callable[[list[T]], Awaitable[None]]
Bury = Callable[[T, InputRefused], Awaitable[None]]


async def send_all(items: list[T], send: Send[T], bury: Bury[T]) -> None:
    """Send the items; those that are refused are found and buried, all others are answered.

    One culprit among n costs at most ⌈log2 n⌉ + 1 calls of `send` more. It was in two refused calls, at
    least, or refused alone, before it is buried.
    """
    try:
        await send(items)
    except InputRefused as error:
        await _find(items, error, send, bury)


async def _find(suspects: list[T], error: InputRefused, send: Send[T], bury: Bury[T]) -> None:
    """Halve until one stands alone. The half that is not sent waits, and is sent whole at the end.

    A call too large as a whole accuses nobody: both halves are sent.
    """
    aside: list[T] = []
    sure = len(suspects) == 1
    while len(suspects) > 1 and not error.too_large:
        tried, rest = suspects[: len(suspects) // 2], suspects[len(suspects) // 2 :]
        try:
            await send(tried)
        except InputRefused as refused:
            error, suspects, aside, sure = refused, tried, aside + rest, True
        else:
            suspects = rest
    if len(suspects) > 1:
        await send_all(suspects[: len(suspects) // 2], send, bury)
        await send_all(suspects[len(suspects) // 2 :], send, bury)
    elif sure:
        await bury(suspects[0], error)
    else:
        await send_all(suspects, send, bury)
    if aside:
        await send_all(aside, send, bury)
