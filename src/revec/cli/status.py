"""The verb that looks: where a collection stands, what happens next, and what that waits for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts
from cyclopts import Parameter
from rich.markup import escape

from revec.cli.door import Exit, Json, of_collection, out, table
from revec.cli.drift import drift_line
from revec.cli.judging import gates_table
from revec.cli.queue import throttle_line
from revec.cli.watching import watched

if TYPE_CHECKING:
    from revec.migrate.status import Status

Line = tuple[str, str]  # a label and what there is to say


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
    from revec.migrate.status import status as look

    async with of_collection(name) as (app, collection):
        await watched(
            lambda: look(app.database, app.store, collection, app.limits),
            _show_status,
            until=lambda seen: not watch or seen.state in (None, "finished", "aborted"),
            json=json,
        )
    return Exit.DONE


def _show_status(status: Status) -> None:
    seen, gates = asdict(status), status.gates
    state = seen["state"] or "no migration yet"
    paused = f", paused: {seen['paused']}" if seen["paused"] else ""
    target = f" → {seen['target']}" if seen["target"] else ""
    out.print(f"[bold]{seen['collection']}[/bold]{target}  [bold]{state}[/bold]{escape(paused)}")
    _say(_of_collection(seen))
    _say(_of_migration(seen))
    table([_of_index(each) for each in seen["indexes"]])
    _say(_troubles(seen))
    gates_table(gates)
    _say(_of_users(seen))
    _say([("next", seen["next"]), ("rollback", seen["rollback"])])


def _say(lines: Iterator[Line] | list[Line]) -> None:
    for label, words in lines:
        out.print(f"{label:12}{words}", markup=False)


def _of_collection(seen: dict[str, Any]) -> Iterator[Line]:
    from revec.search.fusion import Fusion

    yield "serving", f"{seen['serving'] or 'nothing yet'} (epoch {seen['epoch']})"
    if seen["fusion"]:
        yield "fusion", Fusion(**seen["fusion"]).told
    waiting = f", {seen['unprojected']:,} changes to project" if seen["unprojected"] else ""
    yield "documents", f"{seen['documents']:,}{waiting}"
    for source in seen["sources"]:
        name = source["name"]
        if source["paused"]:
            go_on = f"its changes are kept, `revec resume {seen['collection']} --source {name}` goes on"
            yield "source", f"{name} is paused: {source['paused']}; {go_on}"
        elif source["fault"] or source["reading"]:
            yield "source", source["fault"] or f"{name} is being read"
    if seen["drift"]:
        yield "drift", drift_line(seen["drift"])
        for note in (seen["drift"]["last"] or {}).get("notes", ()):
            yield "", note


def _of_migration(seen: dict[str, Any]) -> Iterator[Line]:
    if seen["throttle"]:
        yield "throttle", throttle_line(seen["throttle"])
    if seen["braked"]:
        yield "brake", f"the backfill yields, {seen['braked']}"
    if seen["state"] == "backfilling":
        rate = f", {seen['per_second']:,.0f}/s" if seen["per_second"] else ""
        eta = f", about {timedelta(seconds=seen['eta_seconds'])} to go" if seen["eta_seconds"] else ""
        yield "backfill", f"{seen['done']:,} of {seen['all']:,}{rate}{eta}"
    if early := seen["early"]:
        yield "early", f"{'open' if early['open'] else 'closed'}: {early['why']}"
        if early["documents"]:
            yield "", f"{early['documents']:,} documents were embedded for searches"
    for batch in seen["batches"]:
        yield "patient", batch
    if seen["spent"] or seen["budget"]:
        cap = f" of ${seen['budget']:,.2f}" if seen["budget"] is not None else ""
        yield "spent", f"${seen['spent']:,.4f}{cap}"
    yield from came(seen["reality"])


def came(figures: list[dict[str, Any]]) -> Iterator[Line]:
    """What a load took beside its plan, for people."""
    from revec.migrate.planning.reality import told

    for number, each in enumerate(figures):
        yield "" if number else "load took", told(each)


def _of_users(seen: dict[str, Any]) -> Iterator[Line]:
    if seen["canary"]:
        yield "canary", seen["canary"]
    if seen["order"]:
        yield "order", seen["order"]
    for number, line in enumerate(seen["guard"]):
        yield "" if number else "guard", line


def _of_index(each: dict[str, Any]) -> dict[str, Any]:
    return {
        "index": each["name"],
        "store": each["store"],
        "role": each["role"],
        "kind": each["kind"],
        "backlog": f"{each['backlog']:,} ({each['oldest_seconds']:.0f} s)",
        "dead": each["dead"],
        "excluded": each["excluded"],
        "MB": f"{each['bytes'] / 2**20:.1f}",
    }


def _of_column(column: dict[str, Any]) -> Iterator[Line]:
    """An adopted index: who keeps it, and what that comes to."""
    behind = (
        f", {column['behind']:,} documents have no vector of their present text" if column["behind"] else ""
    )
    later = (
        f" (from the first migration on: {column['chosen']})" if column["chosen"] != column["writer"] else ""
    )
    yield "column", f"{column['name']} is written by {column['writer']}{later}{behind}"
    if column["unverifiable"]:
        yield "", f"unverifiable, model gone: rollback lost for queries ({column['unverifiable']})"


def _troubles(seen: dict[str, Any]) -> Iterator[Line]:
    for why in seen["providers"]:
        yield "provider", why
    for each in seen["indexes"]:
        if each["fault"]:
            yield "fault", each["fault"]
        if column := each["column"]:
            yield from _of_column(column)
    if seen["tenants_fault"]:
        yield "tenants", seen["tenants_fault"]
    for tenant, why in seen["paused_tenants"].items():
        yield "paused", f"tenant {tenant}: {why}"
