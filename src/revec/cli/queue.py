"""Verbs for the documents that could not be embedded."""

from __future__ import annotations

import cyclopts

from revec.cli.door import Exit, Json, Why, of_collection, out, show_json, table


def register(app: cyclopts.App) -> None:
    queue = cyclopts.App(name="queue", help="Dead letters: see, retry or accept them.")
    queue.command(letters, name="list")
    queue.command(retry)
    queue.command(accept)
    app.command(queue)


async def letters(name: str, /, *, json: Json = False) -> int:
    """List the documents that could not be embedded, with the cause."""
    from revec.postgres import indexes
    from revec.work import queue

    async with of_collection(name) as (app, collection), app.database.transaction() as conn:
        written = [index.id for index in await indexes.writing(conn, collection.id)]
        rows = [row._asdict() for row in await queue.letters(conn, written)]
    if json:
        show_json(rows)
    elif rows:
        table([{key: row[key] for key in ("key", "index_id", "cause", "attempts")} for row in rows])
    else:
        out.print(f"{name} has no dead letters.")
    return Exit.DONE


async def retry(name: str, /) -> int:
    """Try every dead letter again."""
    from revec.postgres import indexes
    from revec.work import queue

    async with of_collection(name) as (app, collection), app.database.transaction() as conn:
        written = [index.id for index in await indexes.writing(conn, collection.id)]
        count = await queue.redrive(conn, written)
    out.print(f"{count:,} documents are to be tried again.")
    return Exit.DONE


async def accept(name: str, /, *, reason: Why) -> int:
    """Leave the documents of all dead letters out of the index, as they are now."""
    from revec.postgres import indexes
    from revec.work import queue

    async with of_collection(name) as (app, collection), app.database.transaction() as conn:
        written = [index.id for index in await indexes.writing(conn, collection.id)]
        count = await queue.accept(conn, written, reason)
    out.print(f"{count:,} documents are excluded until they change.")
    return Exit.DONE
