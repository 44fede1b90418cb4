"""The verb that looks for what no trigger told of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts
from cyclopts import Parameter

from revec.cli.door import Exit, Json, opened, out, show_json, table
from revec.model import duration
from revec.model.errors import BadInput

if TYPE_CHECKING:
    from revec.work.walking import Report


def register(app: cyclopts.App) -> None:
    app.command(reconcile)


async def reconcile(
    name: str | None = None,
    /,
    *,
    source: Annotated[str | None, Parameter(help="This source, and no other part of the collection.")] = None,
    dry_run: Annotated[bool, Parameter(help="Look, and have nothing healed.")] = False,
    json: Json = False,
) -> int:
    """Walk through tables, documents and indexes for drift; what is found is enqueued, and workers heal it.

    Killed, it goes on where it was when it is run again. The exit code is 1 where something is left to a
    person; of a dry run, also where there is drift.

    Parameters
    ----------
    name
        The collection; all of them unless named.
    """
    from revec.postgres import collections
    from revec.work.reconcile import reconcile as walk

    if source is not None and name is None:
        raise BadInput("a source is a collection's: `revec reconcile NAME --source …`")
    reports: dict[str, Report] = {}
    async with opened() as app:
        async with app.database.transaction() as conn:
            known = [row.name for row in await collections.listed(conn)] if name is None else [name]
            wanted = [await collections.named(conn, each) for each in known]
        for each in wanted:
            reports[each.name] = await walk(app.database, app.store, each, source=source, heal=not dry_run)
    if json:
        show_json([{"collection": each, **asdict(report)} for each, report in reports.items()])
    else:
        for of, report in reports.items():
            _show(of, report, healing=not dry_run)
    needs_a_person = any(report.notes or (dry_run and report.drifted) for report in reports.values())
    return Exit.FAILED if needs_a_person else Exit.DONE


def _show(name: str, report: Report, *, healing: bool) -> None:
    told = f"{report.looked:,} rows and documents in {report.seconds:,.1f} s"
    if report.found:
        end = "it is enqueued: a worker heals it" if healing else "nothing was enqueued"
        out.print(f"{name}: {found_line(report.found)} ({told}); {end}", markup=False)
        table(report.examples)
    else:
        out.print(f"{name}: no drift ({told})", markup=False)
    for note in report.notes:
        out.print(f"{name}: {note}", markup=False)


def found_line(found: dict[str, int]) -> str:
    """`3 changed, 1 gone`; no drift where there is none."""
    return ", ".join(f"{count:,} {cause}" for cause, count in found.items()) or "no drift"


LATE = 60.0  # seconds that a worker may have been busy with something else


def drift_line(seen: Mapping[str, Any]) -> str:
    """What the last walk found, and when the next one begins."""
    last, due = seen["last"], seen["due_in"]
    if last is None:
        said = "not looked for yet"
    else:
        ago = (datetime.now(UTC) - datetime.fromisoformat(last["ended"])).total_seconds()
        long = f"{duration.told(ago)} ago in {duration.told(last['seconds'])}"
        said = f"{found_line(last['found'])}, {long}"
    if seen["looked"] is not None:
        return f"{said}; a walk is under way, {seen['looked']:,} looked at"
    if not seen["every"] or due is None:
        return f"{said}; nobody looks unasked (REVEC_RECONCILE_EVERY is 0)"
    if due < -LATE:
        return f"{said}; the next look is late by {duration.told(-due)}: run `revec worker`"
    return f"{said}; found within {duration.told(seen['every'])}, next look in {duration.told(max(0, due))}"
