"""Whether SQL functions of the users' own can tell the vectors of two models apart."""

from __future__ import annotations

from revec.model.index import Collection
from revec.model.space import Space
from revec.postgres import callers
from revec.postgres.database import Connection


async def why_not(conn: Connection, collection: Collection, old: Space, new: Space) -> str | None:
    """A sentence where one of them takes no space, and both models' vectors are of one size."""
    if old.dims != new.dims or old.id == new.id:
        return None
    silent = [each.function for each in await callers.kept(conn, collection.id) if not each.says_space]
    if not silent:
        return None
    return (
        f"vectors of {old.address} and of {new.address} have {new.dims} dims both, and {silent[0]} takes no "
        f"space to tell them apart: `revec function {collection.name} --space NAME` makes one that does, for "
        "the application to call before this begins; then DROP FUNCTION the other"
    )
