"""The watch: does each model still say of its sentinel texts what it said on its first day?

A provider that swaps the weights under one name answers quickly and well-formed, and spoils an index
vector by vector. Nothing in a single answer shows it; fixed texts, asked now and then, do.
"""

from __future__ import annotations

from revec.migrate import sentinels
from revec.model.errors import RevecError
from revec.observe import events
from revec.postgres import indexes
from revec.postgres.database import Database
from revec.postgres.queries import beside
from revec.search.queries import ProviderFor

SQL = beside(__file__)
EVERY = 3600.0  # seconds between two looks at a model


async def watch(database: Database, provider_for: ProviderFor, every: float = EVERY) -> bool:
    """Look at one model whose turn it is; whether one was looked at.

    A model that drifted is written no more: its indexes are faulted until a person has looked.
    """
    async with database.transaction() as conn:
        row = await (await conn.execute(SQL.due, {"seconds": every})).fetchone()
        if row is None:
            return False
        index = await indexes.by_id(conn, row.index_id)
    try:
        provider = await provider_for(index.space.address, index.space.dims)
        drift = await sentinels.drift(database, provider, index)
    except RevecError as error:  # it does not answer, or not from here: the breaker's business
        events.emit(events.ProviderFailed(index.space.address, str(error)))
        return True
    if drift:
        async with database.transaction() as conn:
            await indexes.fault(conn, index.space, drift)
        events.emit(events.IndexFaulted(index.name, drift))
    return True
