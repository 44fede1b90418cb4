"""The verb that looks: where a collection stands, what happens next, and what that waits for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import cyclopts
from cyclopts import Parameter
from rich.markup import escape

from revec.cli import standing
from revec.cli.door import Exit, Json, of_collection, out, show_json, table
from revec.cli.judging import gates_table
from revec.cli.standing import Line
from revec.cli.trees import of_migration
from revec.cli.watching import watched

if TYPE_CHECKING:
    from revec.migrate.status import Status

SCHEMA = "revec.status/1"  # docs/schemas/status.json
OVER = (None, "finished", "aborted")


def register(app: cyclopts.App) -> None:
    app.command(status)


async def status(
    name: str,
    /,
    *,
    watch: Annotated[bool, Parameter(help="Go on until it is over, or Ctrl-C.")] = False,
    json: Json = False,
) -> int:
    """Show where a collection stands, what happens next and what that waits for."""
    from revec.migrate.picture import picture
    from revec.migrate.status import status as look

    async with of_collection(name) as (app, collection):
        if watch:
            await watched(
                lambda: picture(app.database, app.store, collection, app.limits),
                tree=of_migration,
                lines=lambda seen: [_line(seen.status)],
                plain=lambda seen: seen.status,
                until=lambda seen: seen.status.state in OVER,
                schema=SCHEMA if json else None,
            )
            return Exit.DONE
        seen = await look(app.database, app.store, collection, app.limits)
    if json:
        show_json(seen, SCHEMA)
    else:
        _show(seen)
    return Exit.DONE


def _show(status: Status) -> None:
    seen, gates = asdict(status), status.gates
    state = seen["state"] or "no migration yet"
    paused = f", paused: {seen['paused']}" if seen["paused"] else ""
    target = f" → {seen['target']}" if seen["target"] else ""
    out.print(f"[bold]{seen['collection']}[/bold]{target}  [bold]{state}[/bold]{escape(paused)}")
    _say(standing.of_collection(seen))
    _say(standing.of_migration(seen))
    table([standing.of_index(each) for each in seen["indexes"]])
    _say(standing.troubles(seen))
    gates_table(gates)
    _say(standing.of_users(seen))
    _say([("next", seen["next"]), ("rollback", seen["rollback"])])


def _say(lines: Iterable[Line]) -> None:
    for label, words in lines:
        out.print(f"{label:12}{words}", markup=False)


def _line(seen: Status) -> str:
    """For a log: where it stands and what it waits for."""
    if seen.state is None:
        return f"{seen.collection}: no migration yet; next: {seen.next}"
    through = f" {standing.backfill(asdict(seen))}" if seen.state == "backfilling" else ""
    paused = f", paused: {seen.paused}" if seen.paused else ""
    return f"{seen.collection} → {seen.target}: {seen.state}{through}{paused}; next: {seen.next}"
