"""Verbs that look at the work: figures, health, lists, one document, everything as lines."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from revec.cli.door import Exit, Json, json_line, of_collection, opened, out, show_json, table
from revec.cli.trees import counts, figure, of_all, of_queue
from revec.cli.watching import moment, watched
from revec.model.errors import BadInput, NotFound

if TYPE_CHECKING:
    from revec.work.overview import Overview


async def stats(name: str, /, *, json: Json = False) -> int:
    """Count a collection's documents by what became of them: done, waiting, in hand, failed, excluded."""
    from revec.work.overview import overview

    async with of_collection(name) as (app, collection), app.database.transaction() as conn:
        seen = await overview(conn, collection)
    if json:
        show_json(seen, SCHEMA)
    else:
        _show_overview(seen)
    return Exit.DONE


async def monitor(
    name: str,
    /,
    *,
    every: Annotated[float, Parameter(help="Seconds between looks.")] = 1.0,
    until_idle: Annotated[bool, Parameter(help="Leave when nothing is open.")] = False,
    json: Json = False,
) -> int:
    """Watch the figures of `stats` until Ctrl-C: live at a terminal, else a line for everything new."""
    from revec.work.overview import overview

    async def look() -> Overview:
        async with app.database.transaction() as conn:
            return await overview(conn, collection)

    if not every > 0:
        raise BadInput("look every so many seconds, more than 0")
    async with of_collection(name) as (app, collection):
        await watched(
            look,
            tree=of_queue,
            lines=_lines,
            until=lambda seen: until_idle and seen.is_idle,
            schema=SCHEMA if json else None,
            every=every,
        )
    return Exit.DONE


async def health(
    name: str | None = None,
    /,
    *,
    oldest: Annotated[float, Parameter(help="Seconds that an edit may wait.")] = 300.0,
    failed: Annotated[int, Parameter(help="Dead letters that may wait for a person.")] = 0,
    stuck: Annotated[int, Parameter(help="Leases that dead workers may hold.")] = 0,
    unprojected: Annotated[int, Parameter(help="Changes of tables that may wait.")] = 10_000,
    workers: Annotated[int, Parameter(help="That there have to be while anything is open.")] = 1,
    json: Json = False,
) -> int:
    """Whether the queue is well: exit code 0 if it is, 1 if a threshold is passed.

    Parameters
    ----------
    name
        The collection; all of them unless named.
    """
    from revec.postgres import collections
    from revec.work.overview import Thresholds, judged, overview

    limits = Thresholds(oldest, failed, stuck, unprojected, workers)
    findings = {}
    async with opened() as app, app.database.transaction() as conn:
        names = [row.name for row in await collections.listed(conn)] if name is None else [name]
        for each in names:
            seen = await overview(conn, await collections.named(conn, each))
            findings[each] = judged(seen, limits, name=each)
    well = all(finding.passed for found in findings.values() for finding in found)
    if json:
        show_json(
            {
                "healthy": well,
                "collections": {
                    each: [asdict(finding) for finding in found] for each, found in findings.items()
                },
            }
        )
        return Exit.DONE if well else Exit.FAILED
    for each, found in findings.items():
        for finding in found:
            mark = "ok    " if finding.passed else "FAILED"
            out.print(f"{mark} {each}: {finding.check}: {finding.why}", markup=False)
    return Exit.DONE if well else Exit.FAILED


SCHEMA = "revec.queue/1"  # docs/schemas/queue.json
What = Literal["failed", "waiting", "working", "stuck", "excluded", "settled"]


async def letters(name: str, what: What = "failed", /, *, json: Json = False) -> int:
    """List documents that failed, with the cause; or those that wait, are worked on, are stuck, are left out.

    Parameters
    ----------
    name
        The collection.
    what
        failed: dead letters that wait for a person; settled: those that are over, and how they ended;
        stuck: in the hands of dead workers, or of nobody.
    """
    from revec.postgres import indexes
    from revec.work import letters as dead
    from revec.work import overview

    async with of_collection(name) as (app, collection), app.database.transaction() as conn:
        written = [index.id for index in await indexes.writing(conn, collection.id)]
        match what:
            case "failed":
                found = await dead.listed(conn, written)
            case "settled":
                found = await dead.settled(conn, written)
            case "excluded":
                found = await overview.left_out(conn, written)
            case _:
                found = await overview.listed(conn, written, what)
        rows = [row._asdict() for row in found]
    if json:
        show_json(rows)
    elif rows:
        table([{key: row[key] for key in COLUMNS[what]} for row in rows])
    else:
        out.print(f"{name} has {NONE[what]}.")
    return Exit.DONE


OPEN = ("key", "index_id", "state", "action", "lane", "attempts", "seconds", "worker")
COLUMNS: dict[What, tuple[str, ...]] = {
    "failed": ("key", "index_id", "cause", "attempts"),
    "settled": ("key", "index_id", "cause", "attempts", "resolution"),
    "excluded": ("key", "index_id", "reason", "at"),
    "waiting": OPEN,
    "working": OPEN,
    "stuck": OPEN,
}
NONE: dict[What, str] = {
    "failed": "no dead letters",
    "settled": "no dead letters that are over",
    "excluded": "no excluded documents",
    "waiting": "no work that waits",
    "working": "no work in hand",
    "stuck": "no work that is stuck",
}


async def show(
    name: str,
    id: str,  # noqa: A002 - what everybody calls it
    /,
    *,
    source: Annotated[str | None, Parameter(help="Where several have a document with this key.")] = None,
    json: Json = False,
) -> int:
    """Show what became of one document: its state and cause in each index, its attempts, its timeline.

    Parameters
    ----------
    name
        The collection.
    id
        The document's key.
    """
    from revec.work.overview import shown

    async with of_collection(name) as (app, collection), app.database.transaction() as conn:
        seen = await shown(conn, collection, id, source)
    if json:
        show_json(seen)
        return Exit.DONE
    out.print(
        f"{seen['key']} of {seen['source']}, tenant {seen['tenant']}, {seen['size']:,} bytes", markup=False
    )
    table(
        [
            {key: each[key] for key in ("index", "state", "attempts", "worker", "waits_for")}
            for each in seen["indexes"]
        ]
    )
    for each in seen["indexes"]:
        if each["cause"]:
            out.print(f"cause: {each['cause']}", markup=False)
    for event in seen["timeline"]:
        out.print(f"{moment(event['at'])}  {event['what']}", markup=False)
    return Exit.DONE


async def export(
    name: str,
    file: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None,
    /,
    *,
    only: Annotated[
        tuple[Literal["done", "failed", "excluded", "waiting", "in hand", "to come"], ...],
        Parameter(help="Documents of this state; may be said again. All of them unless said."),
    ] = (),
    index: Annotated[str | None, Parameter(help="By its name; the one that serves unless named.")] = None,
) -> int:
    """Write what became of every document, a JSON object a line: {"key", "source", "state", "cause", …}.

    Parameters
    ----------
    name
        The collection.
    file
        Where to; standard output unless named.
    """
    from revec.postgres import indexes
    from revec.work.overview import exported

    async with of_collection(name) as (app, collection):
        async with app.database.transaction() as conn:
            written = await indexes.writing(conn, collection.id)
            route = await indexes.route_of(conn, collection.id)
        chosen = [each for each in written if (each.name == index if index else each.id == route.serving)]
        if not chosen and not index:
            chosen = written[:1]  # nothing serves yet: the one that is being filled
        if not chosen:
            there_are = ", ".join(each.name for each in written) or "none"
            raise NotFound(f"{name} has no index {index!r} that is written (there are {there_are})")
        target = None if file is None or str(file) == "-" else file
        with nullcontext(sys.stdout) if target is None else target.open("w", encoding="utf-8") as lines:
            async for line in exported(app.database, chosen[0]):
                if not only or line["state"] in only:
                    lines.write(json_line(line))
    return Exit.DONE


def _show_overview(seen: Overview) -> None:
    table(
        [
            {
                key: figure(each, key) if isinstance(value, int) else value
                for key, value in asdict(each).items()
                if key != "rough"
            }
            for each in seen.indexes
        ]
    )
    out.print(of_all(seen), markup=False)
    for trouble in seen.troubles:
        out.print(trouble, markup=False)


def _lines(seen: Overview) -> list[str]:
    """A line an index, for logs."""
    return [f"{each.index}: {', '.join(counts(each))}; {of_all(seen)}" for each in seen.indexes]
