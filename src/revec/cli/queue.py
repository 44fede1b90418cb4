"""Verbs for the work: who does it, how fast it may go, what is to become of what was not done."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import cyclopts
from cyclopts import Parameter

from revec.cli.door import Exit, Json, Why, Yes, confirmed, of_collection, opened, out, show_json, table
from revec.cli.overview import export, health, letters, monitor, show, stats
from revec.cli.standing import throttle_line
from revec.model import duration

Cause = Annotated[str | None, Parameter(help="Only those whose cause holds these words.")]
Ids = Annotated[tuple[str, ...], Parameter(help="Only the documents with these keys.")]


def register(app: cyclopts.App) -> None:
    queue = cyclopts.App(
        name="queue", help="The work: how it stands, who does it, what failed, what to do about it."
    )
    queue.command(stats)
    queue.command(monitor)
    queue.command(health)
    queue.command(workers)
    queue.command(letters, name="list")
    queue.command(show)
    queue.command(export)
    queue.command(retry)
    queue.command(accept, name=("accept", "discard"))
    queue.command(cancel)
    queue.command(rescue)
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
                    "heartbeat": f"{duration.told((datetime.now(UTC) - row['beat_at']).total_seconds())} ago",
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


async def retry(
    name: str,
    /,
    *,
    cause: Cause = None,
    id: Ids = (),  # noqa: A002 - the flag's name
    excluded: Annotated[
        bool, Parameter(help="Not dead letters, but what a person left out: accepted or cancelled.")
    ] = False,
) -> int:
    """Try dead letters again: all of them, those of a cause, or those of named documents."""
    from revec.postgres import indexes
    from revec.work import queue, steering

    async with of_collection(name) as (app, collection), app.database.transaction() as conn:
        written = [index.id for index in await indexes.writing(conn, collection.id)]
        again = steering.readmit if excluded else queue.redrive
        count = await again(conn, written, queue.Which(cause, id or None))
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


async def cancel(
    name: str,
    /,
    *,
    reason: Why,
    id: Ids = (),  # noqa: A002
    yes: Yes = False,
) -> int:
    """Leave open work undone: its documents are excluded until they change. What is in hand goes on.

    `revec queue retry NAME --excluded` takes it up again.
    """
    from revec.postgres import indexes
    from revec.work import queue, steering

    if not id:
        confirmed(f"all open work of {name} is to be cancelled", name, yes=yes)
    async with of_collection(name) as (app, collection), app.database.transaction() as conn:
        written = [index.id for index in await indexes.writing(conn, collection.id)]
        count = await steering.cancel(conn, written, reason, queue.Which(keys=id or None))
    out.print(f"{count:,} documents are excluded until they change.")
    return Exit.DONE


async def rescue(
    name: str,
    /,
    *,
    silence: Annotated[
        float, Parameter(help="Seconds without a heartbeat, after which a worker is dead.")
    ] = 30.0,
) -> int:
    """Free what dead workers hold, before their leases run out. Nothing is taken from a worker that lives."""
    from revec.postgres import indexes
    from revec.work import steering

    async with of_collection(name) as (app, collection), app.database.transaction() as conn:
        written = [index.id for index in await indexes.writing(conn, collection.id)]
        count = await steering.rescue(conn, written, silence=silence)
    out.print(f"{count:,} documents are free again.")
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
