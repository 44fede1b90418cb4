"""Verbs for the stores that vectors may live in."""

from __future__ import annotations

from typing import Annotated

import cyclopts
from cyclopts import Parameter

from revec.cli.door import Exit, Json, opened, out, show_json, table


def register(app: cyclopts.App) -> None:
    stores = cyclopts.App(name="stores", help="Where vectors live.")
    stores.command(check)
    stores.command(listed, name="list")
    app.command(stores)


async def check(
    address: str,
    /,
    *,
    dims: Annotated[int, Parameter(help="Of the vectors that are to be moved there.")] = 384,
    json: Json = False,
) -> int:
    """Try a store, with a small collection that is removed again: all that a migration would do there."""
    from revec.model import place
    from revec.stores.preflight import Preflight

    where = place.address(address)
    async with opened() as app:
        findings = await Preflight(app.store_at(address), where, dims).run()
    passed = all(each.passed for each in findings)
    if json:
        checks = [{"check": each.check, "passed": each.passed, "why": each.why} for each in findings]
        show_json({"store": address, "passed": passed, "checks": checks})
        return Exit.DONE if passed else Exit.FAILED
    for each in findings:
        out.print(f"{'ok    ' if each.passed else 'FAILED'} {each.check}: {each.why}", markup=False)
    if passed:
        out.print(f"`revec start NAME --to MODEL --store {address}` moves a collection there.", markup=False)
    return Exit.DONE if passed else Exit.FAILED


async def listed(*, json: Json = False) -> int:
    """Show which index lives where."""
    from revec.postgres import collections, indexes

    async with opened() as app, app.database.transaction() as conn:
        names = {each.id: each.name for each in await collections.listed(conn)}
        rows = [
            {
                "store": index.place.store,
                "place": index.place.name,
                "collection": names[index.collection_id],
                "index": index.name,
            }
            for index in await indexes.writing(conn)
        ]
    if json:
        show_json(rows)
        return Exit.DONE
    table(sorted(rows, key=lambda row: (row["store"], row["collection"])))
    if not rows:
        out.print("There is no index yet: `revec collections create` makes one.")
    return Exit.DONE
