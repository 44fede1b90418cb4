"""Verbs for the work: who does it, how fast it may go, what is to become of what was not done."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import cyclopts
from cyclopts import Parameter

from revec.cli.door import Exit, Json, Why, Yes, confirmed, of_collection, opened, out, show_json, table
from revec.cli.overview import export, health, letters, monitor, show, stats
from revec.cli.standing import throttle_line
from revec.cli.watching import moment
from revec.model import duration
from revec.model.errors import BadInput

if TYPE_CHECKING:
    from revec.work.letters import Deed

Cause = Annotated[str | None, Parameter(help="Only those whose cause holds these words.")]
Like = Annotated[
    str | None, Parameter(help="Only those whose cause is this but for what differs: see `queue causes`.")
]
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
    queue.command(causes)
    queue.command(show)
    queue.command(export)
    queue.command(retry)
    queue.command(accept, name=("accept", "discard"))
    queue.command(undo)
    queue.command(deeds)
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


async def causes(name: str, /, *, json: Json = False) -> int:
    """Count dead letters by cause, the most frequent one first, without what differs from one to the next."""
    from revec.postgres import indexes
    from revec.work import letters

    async with of_collection(name) as (app, collection), app.database.transaction() as conn:
        written = {index.id: index.name for index in await indexes.writing(conn, collection.id)}
        found = await letters.causes(conn, [*written])
    if json:
        show_json(found)
    elif found:
        table(
            [
                {
                    "letters": f"{each.letters:,}",
                    "index": written[each.index_id],
                    "since": moment(each.first_at),
                    "last": moment(each.last_at),
                    "one of them": each.key,
                    "like": each.pattern,
                }
                for each in found
            ]
        )
    else:
        out.print(f"{name} has no dead letters.")
    return Exit.DONE


async def retry(
    name: str,
    /,
    *,
    cause: Cause = None,
    like: Like = None,
    id: Ids = (),  # noqa: A002 - the flag's name
    excluded: Annotated[
        bool, Parameter(help="Not dead letters, but what a person left out: accepted or cancelled.")
    ] = False,
) -> int:
    """Try dead letters again: all of them, those of a cause, or those of named documents."""
    from revec.postgres import indexes
    from revec.work import letters, steering

    which = letters.Which(cause, id or None, like)
    if excluded and like:
        raise BadInput("--like is of dead letters: --cause takes words of the reason")
    async with of_collection(name) as (app, collection), app.database.transaction() as conn:
        written = [index.id for index in await indexes.writing(conn, collection.id)]
        if excluded:
            count = await steering.readmit(conn, written, which)
            out.print(f"{count:,} documents are to be tried again.")
            return Exit.DONE
        deed = await letters.retry(conn, collection, written, which, who=app.commands.who)
    out.print(f"{deed.letters:,} documents are to be tried again{_way_back(name, deed)}.", markup=False)
    return Exit.DONE


async def accept(
    name: str,
    /,
    *,
    reason: Why,
    cause: Cause = None,
    like: Like = None,
    id: Ids = (),  # noqa: A002
) -> int:
    """Leave the documents of dead letters out of the index, as they are now."""
    from revec.postgres import indexes
    from revec.work import letters

    which = letters.Which(cause, id or None, like)
    async with of_collection(name) as (app, collection), app.database.transaction() as conn:
        written = [index.id for index in await indexes.writing(conn, collection.id)]
        deed = await letters.discard(conn, collection, written, reason, which, who=app.commands.who)
    out.print(
        f"{deed.letters:,} documents are excluded until they change{_way_back(name, deed)}.", markup=False
    )
    return Exit.DONE


def _way_back(name: str, deed: Deed) -> str:
    if not deed.letters:
        return ""
    minutes = deed.undo_seconds / 60
    return f"; `revec queue undo {name} --deed {deed.id}` takes it back within {minutes:.0f} minutes"


async def undo(
    name: str,
    /,
    *,
    deed: Annotated[
        int | None, Parameter(help="Its number, whoever did it; your own last one unless named.")
    ] = None,
) -> int:
    """Take a retry or an accept of dead letters back, as far as nothing has touched them since."""
    from revec.work import letters

    async with of_collection(name) as (app, collection), app.database.transaction() as conn:
        undone = await letters.undo(conn, collection, deed, who=app.commands.who)
    out.print(f"{undone.returned:,} of {undone.letters:,} are dead letters again (deed {undone.id}).")
    return Exit.DONE


async def deeds(name: str, /, *, json: Json = False) -> int:
    """List what was done to dead letters: who, when, to which, how many, and whether it was undone."""
    from revec.work import letters

    async with of_collection(name) as (app, collection), app.database.transaction() as conn:
        found = await letters.deeds(conn, collection)
    if json:
        show_json(found)
    elif found:
        table(
            [
                {
                    "deed": each.id,
                    "at": moment(each.at),
                    "who": each.who,
                    "what": each.what,
                    "which": letters.said(each),
                    "letters": f"{each.letters:,}",
                    "undone": each.undone_by and f"{each.returned:,} by {each.undone_by}",
                }
                for each in found
            ]
        )
    else:
        out.print(f"Nothing was done to dead letters of {name}.")
    return Exit.DONE


async def cancel(
    name: str,
    /,
    *,
    reason: Why,
    id: Ids = (),  # noqa: A002
    edits: Annotated[
        bool, Parameter(help="Not only the backfill's work: also edits, and what searches wait for.")
    ] = False,
    yes: Yes = False,
) -> int:
    """Leave open work of the backfill, or of named documents, undone: they are excluded until they change.

    What is in hand goes on. `revec queue retry NAME --excluded` takes it up again.
    """
    from revec.postgres import indexes
    from revec.work import letters, steering

    if not id:
        what = "all open work" if edits else "the open work of the backfill"
        confirmed(f"{what} of {name} is to be cancelled", name, yes=yes)
    async with of_collection(name) as (app, collection), app.database.transaction() as conn:
        written = [index.id for index in await indexes.writing(conn, collection.id)]
        count = await steering.cancel(conn, written, reason, letters.Which(keys=id or None), edits=edits)
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
