"""Verbs for the keys that may ask over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

import cyclopts
from cyclopts import Parameter

from revec.cli.door import Exit, Json, err, opened, out, show_json, table
from revec.cli.migration import duration
from revec.model.access import Role
from revec.model.errors import BadInput


def register(app: cyclopts.App) -> None:
    keys = cyclopts.App(name="keys", help="Who may ask over HTTP.")
    keys.command(create)
    keys.command(listed, name="list")
    keys.command(revoke)
    app.command(keys)


async def create(
    *,
    role: Annotated[Role, Parameter(help="viewer searches, operator reads all, admin writes.")],
    tenant: Annotated[str | None, Parameter(help="Whose documents; of an admin: --all-tenants.")] = None,
    all_tenants: Annotated[bool, Parameter(help="Every tenant's documents.")] = False,
    collection: Annotated[str | None, Parameter(help="Of this collection only.")] = None,
    visible: Annotated[
        str | None, Parameter(help='Sees only documents with this metadata, e.g. \'{"lang": "en"}\'.')
    ] = None,
    expires: Annotated[
        str | None, Parameter(help="How long it is good, e.g. 90d; for ever unless said.")
    ] = None,
    json: Json = False,
) -> int:
    """Make a key, and show it: this once, only its hash is kept."""
    from revec.postgres import collections, keys

    if (tenant is None) != all_tenants:
        raise BadInput("whose documents? --tenant NAME or --all-tenants, one of them")
    lasts = None if expires is None else duration(expires)
    if lasts is not None and not lasts:
        raise BadInput("such a key would be expired at once: write 90d")
    async with opened() as app, app.database.transaction() as conn:
        of = await collections.named(conn, collection) if collection else None
        made = await keys.create(
            *(conn, role),
            tenant=tenant,
            collection=of,
            visible=visible,
            lasts=lasts,
            by=app.commands.who,
        )
    if json:
        show_json(made._asdict())
        return Exit.DONE
    err.print(f"{made.prefix}: {role}. It is shown this once; keep it where secrets are kept.", markup=False)
    out.print(made.key, markup=False)
    return Exit.DONE


async def listed(*, json: Json = False) -> int:
    """List keys by their prefixes: what they open, and whether they still do."""
    from revec.postgres import keys

    async with opened() as app, app.database.transaction() as conn:
        rows = [row._asdict() for row in await keys.listed(conn)]
    if json:
        show_json(rows)
        return Exit.DONE
    table([_shown(row) for row in rows])
    if not rows:
        out.print("There is no key: `revec keys create --role viewer --tenant NAME` makes one.")
    return Exit.DONE


async def revoke(prefix: str, /) -> int:
    """Let a key open nothing any more, from now on.

    Parameters
    ----------
    prefix
        The beginning of the key, as `keys list` shows it.
    """
    from revec.postgres import keys

    async with opened() as app, app.database.transaction() as conn:
        revoked = await keys.revoke(conn, prefix, by=app.commands.who)
    out.print(f"{revoked} opens nothing any more.", markup=False)
    return Exit.DONE


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "key": row["prefix"],
        "role": row["role"],
        "tenant": "(all)" if row["tenant"] is None else row["tenant"],
        "collection": row["collection"] or "(all)",
        "sees": row["visible"] or "(all)",
        "state": row["state"],
        "by": row["created_by"],
        "expires": row["expires_at"] and row["expires_at"].astimezone().strftime("%Y-%m-%d %H:%M"),
    }
