"""Whose line of a log this is: the request, the migration, the worker. Ids only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context, ContextVar
from types import MappingProxyType

_ABOUT: ContextVar[Mapping[str, str | int]] = ContextVar("about", default=MappingProxyType({}))


def about() -> Mapping[str, str | int]:
    """What is known here, by its name."""
    return _ABOUT.get()


@contextmanager
def of(**ids: str | int) -> Iterator[None]:
    """For as long as the body runs, and in every task that it begins."""
    token = _ABOUT.set({**_ABOUT.get(), **ids})
    try:
        yield
    finally:
        _ABOUT.reset(token)


def nobodys() -> Context:
    """For a task that goes on for others when whoever began it is gone: neither his ids nor his trace."""
    return Context()
