"""The verb that shows a collection's indexes: size, build, recall, who holds each, when it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cyclopts

from revec.cli.door import Exit, Json, of_collection, out, show_json, table
from revec.cli.watching import moment

if TYPE_CHECKING:
    from revec.migrate.holding import Held


def register(app: cyclopts.App) -> None:
    app.command(indexes)


async def indexes(name: str, /, *, json: Json = False) -> int:
    """Show a collection's indexes: how large, how far, how good each is, who still holds it, when it goes."""
    from revec.migrate import holding

    async with of_collection(name) as (app, collection), app.database.transaction() as conn:
        found = await holding.listed(conn, app.store, collection)
    if json:
        show_json(found)
        return Exit.DONE
    table([_row(each) for each in found])
    for each in found:
        for holder in each.holders:
            out.print(f"{each.name} is held by {holder}", markup=False)
        if each.fault:
            out.print(f"{each.name} is not written: {each.fault}", markup=False)
    if not found:
        out.print(f"{name} has no index that is written: `revec start {name} --to MODEL` makes one.")
    return Exit.DONE


def _row(each: Held) -> dict[str, Any]:
    build = each.build and f"{each.build.phase}: {each.build.done:,} of {each.build.of:,}"
    return {
        "index": each.name,
        "role": each.role,
        "kind": each.kind,
        "store": each.store,
        "MB": f"{each.bytes / 2**20:,.1f}",
        "build": build,
        "recall": each.recall and f"{each.recall.outcome}: {each.recall.why}",
        "open": f"{each.work.open:,}",
        "failed": f"{each.work.failed:,}",
        "excluded": f"{each.work.excluded:,}",
        "goes at": each.drop_at and moment(each.drop_at),
    }
