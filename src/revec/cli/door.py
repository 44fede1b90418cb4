"""What every verb shares: settings read once, an App opened, errors as sentences, exit codes."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from revec import settings as settings_of
from revec.model.errors import BadInput, GateNotMet, Refused, RevecError

if TYPE_CHECKING:
    from revec.app import App
    from revec.model.index import Collection
    from revec.settings import Settings

# A pipe or a log has no width of its own: wide enough that no row is folded.
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 240)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class Exit(IntEnum):
    DONE = 0
    FAILED = 1  # or some input was refused
    USAGE = 2
    GATE = 3  # not met, or cannot tell
    ROLLED_BACK = 4  # by a guard
    REFUSED = 5  # in this state; the sentence names the next command


def exit_code(error: RevecError) -> Exit:
    """The one table from errors to exit codes."""
    if isinstance(error, GateNotMet):
        return Exit.GATE
    if isinstance(error, Refused):
        return Exit.REFUSED
    return Exit.FAILED


Json = Annotated[bool, Parameter(name="--json", help="Print JSON for programs.")]
Yes = Annotated[bool, Parameter(name=["--yes", "-y"], help="Do not ask.")]
Why = Annotated[str, Parameter(name="--reason", help="Why, for the history.")]


def settings() -> Settings:
    return settings_of.read()


@asynccontextmanager
async def opened(*, may_apply: bool = False) -> AsyncIterator[App]:
    """The App; heavy imports happen here, so that --help is quick.

    `may_apply`: the verb makes or updates Revec's tables in a database of the user's own.
    """
    from revec.app import App

    async with App(settings(), may_apply=may_apply) as app:
        if app.schema_applied and app.settings.dsn:
            err.print("Revec's tables and roles were created in schema `revec` of your database.")
        yield app


@asynccontextmanager
async def of_collection(name: str) -> AsyncIterator[tuple[App, Collection]]:
    """The App and the collection of this name."""
    from revec.postgres import collections

    async with opened() as app:
        async with app.database.transaction() as conn:
            collection = await collections.named(conn, name)
        yield app, collection


def signalled() -> asyncio.Event:
    """Set by Ctrl-C or SIGTERM; a second one ends the process at once."""
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()

    def stop() -> None:
        stopped.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    return stopped


def show_json(value: Any, schema: str | None = None) -> None:
    """One JSON document on standard output, nothing else; a dataclass with the name of its schema."""
    if schema is not None:
        value = {"schema": schema, **dataclasses.asdict(value)}
    sys.stdout.write(json_line(value))


def json_line(value: Any) -> str:
    return json.dumps(value, default=_plain, ensure_ascii=False) + "\n"


def confirmed(what: str, name: str, *, yes: bool) -> None:
    """Ask for the collection's name before something that users notice.

    Raises:
        BadInput: nobody is there to ask, or the name was not typed.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise BadInput(f"{what}: add --yes to do it without being asked")
    out.print(f"{what}. Type [bold]{name}[/bold] to go on: ", end="")
    try:
        typed = input().strip()
    except EOFError:
        typed = ""
    if typed != name:
        raise BadInput("not confirmed, nothing was done")


def table(rows: list[dict[str, Any]]) -> None:
    """Aligned columns; nothing where there are no rows."""
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    drawn = Table(box=None, pad_edge=False)
    for name in rows[0]:
        drawn.add_column(name)
    for row in rows:
        drawn.add_row(*(Text("" if value is None else str(value)) for value in row.values()))
    out.print(drawn)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return value.isoformat() if isinstance(value, datetime) else str(value)
