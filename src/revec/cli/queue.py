"""Verbs for the documents that could not be embedded."""

from __future__ import annotations

from typing import Annotated

import cyclopts
from cyclopts import Parameter

from revec.cli.door import Exit, Json, Why, of_collection, out, show_json, table

Cause = Annotated[str | None, Parameter(help="Only those whose cause holds these words.")]
Ids = Annotated[tuple[str, ...], Parameter(help="Only the documents with these keys.")]


def register(app: cyclopts.App) -> None:
    queue = cyclopts.App(name="queue", help="Dead letters: see, retry or accept them.")
    queue.command(letters, name="list")
    queue.command(retry)
    queue.command(accept)
    app.command(queue)


async def letters(
    name: str,
    /,
    *,
    settled: Annotated[bool, Parameter(help="Those that are over, and how they ended.")] = False,
    json: Json = False,
) -> int:
    """List the documents that could not be embedded, with the cause; --settled: those that were, and how."""
    from revec.postgres import indexes
    from revec.work import queue

    async with of_collection(name) as (app, collection), app.database.transaction() as conn:
        written = [index.id for index in await indexes.writing(conn, collection.id)]
        found = await (queue.settled if settled else queue.letters)(conn, written)
        rows = [row._asdict() for row in found]
    if json:
        show_json(rows)
    elif rows:
        columns = ("key", "index_id", "cause", "attempts", *(["resolution"] if settled else []))
        table([{key: row[key] for key in columns} for row in rows])
    else:
        out.print(f"{name} has no dead letters.")
    return Exit.DONE


async def retry(name: str, /, *, cause: Cause = None, id: Ids = ()) -> int:  # noqa: A002 - the flag's name
    """Try dead letters again: all of them, those of a cause, or those of named documents."""
    from revec.postgres import indexes
    from revec.work import queue

    async with of_collection(name) as (app, collection), app.database.transaction() as conn:
        written = [index.id for index in await indexes.writing(conn, collection.id)]
        count = await queue.redrive(conn, written, queue.Which(cause, id or None))
    out.print(f"{count:,} documents are to be tried again.")
    return Exit.DONE


async def accept(name: str, /, *, reason: Why, cause: Cause = None, id: Ids = ()) -> int:  # noqa: A002
    """Leave the documents of dead letters out of the index, as they are now."""
    from revec.postgres import indexes
    from revec.work import queue

    async with of_collection(name) as (app, collection), app.database.transaction() as conn:
        written = [index.id for index in await indexes.writing(conn, collection.id)]
        count = await queue.accept(conn, written, reason, queue.Which(cause, id or None))
    out.print(f"{count:,} documents are excluded until they change.")
    return Exit.DONE
