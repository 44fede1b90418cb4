"""Verbs for the work: who does it, how fast it may go, and the documents that could not be embedded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import cyclopts
from cyclopts import Parameter

from revec.cli.door import Exit, Json, Why, of_collection, opened, out, show_json, table

Cause = Annotated[str | None, Parameter(help="Only those whose cause holds these words.")]
Ids = Annotated[tuple[str, ...], Parameter(help="Only the documents with these keys.")]


def register(app: cyclopts.App) -> None:
    queue = cyclopts.App(name="queue", help="Who works, and dead letters: see, retry or accept them.")
    queue.command(workers)
    queue.command(letters, name="list")
    queue.command(retry)
    queue.command(accept)
    app.command(queue)
    app.command(throttle)


async def workers(*, json: Json = False) -> int:
    """List the workers of all hosts, and what each does."""
    from revec.work import queue

    async with opened() as app, app.database.transaction() as conn:
        rows = [row._asdict() for row in await queue.workers(conn)]
    if json:
        show_json(rows)
    elif rows:
        table(
            [
                {
                    "worker": f"{row['host']} {row['pid']}",
                    "since": row["started_at"].astimezone().strftime("%Y-%m-%d %H:%M:%S"),
                    "claims": row["claims"],
                    "documents/s": f"{row['per_second']:,.1f}",
                    "MB": f"{row['rss_mb']:,.0f}",
                    "braked by": row["braked_by"] and f"{row['speed']:.0%}: {row['braked_by']}",
                }
                for row in rows
            ]
        )
    else:
        out.print("No worker seen: run `revec worker`.")
    return Exit.DONE


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


async def throttle(
    name: str,
    /,
    *,
    docs_per_second: Annotated[
        float | None, Parameter(help="Of the backfill; edits are never slowed.")
    ] = None,
    concurrency: Annotated[int | None, Parameter(help="Claims at once, of each worker.")] = None,
    claim: Annotated[int | None, Parameter(help="Documents in a claim.")] = None,
    off: Annotated[bool, Parameter(help="As fast as the workers go.")] = False,
    json: Json = False,
) -> int:
    """Slow a collection's work down, or show how much it is: running workers obey within seconds."""
    from revec.work import control

    async with of_collection(name) as (app, collection), app.database.transaction() as conn:
        if off:
            await control.lift_throttle(conn, collection)
        if not (docs_per_second is None and concurrency is None and claim is None):
            await control.throttle(
                conn,
                collection,
                docs_per_second=docs_per_second,
                concurrency=concurrency,
                claim=claim,
                who=app.commands.who,
            )
        row = await control.throttle_of(conn, collection.id)
    facts = row._asdict() if row else {}
    if json:
        show_json(facts)
    else:
        out.print(f"{name}: {throttle_line(facts)}", markup=False)
    return Exit.DONE


def throttle_line(limits: Mapping[str, Any]) -> str:
    """What a person allows, in words."""
    named = {
        "docs_per_second": "{:g} documents of the backfill a second",
        "concurrency": "{:,} claims at once",
        "claim": "{:,} documents in a claim",
    }
    said = [words.format(limits[name]) for name, words in named.items() if limits.get(name)]
    return f"at most {', '.join(said)} (by {limits['set_by']})" if said else "not throttled"
