"""Fixed texts that every model is asked now and then: is it still the one that made an index?"""

from __future__ import annotations

import math
from collections.abc import Sequence

from revec.model.errors import RevecError
from revec.model.index import Index
from revec.model.migration import Migration
from revec.postgres import indexes, migrations
from revec.postgres.database import Database
from revec.providers.base import Provider, TextInput, Vectors
from revec.search.queries import ProviderFor
from revec.stores.base import Vector
from revec.work.calls import PROOF, Caller

SAME_COSINE = 0.999

# Fixed words in several scripts and registers: a model that changed answers some of them otherwise.
SENTINELS = (
    "The quick brown fox jumps over the lazy dog.",
    "invoice 4711 is overdue since March",
    "How do I reset my password?",
    "supersonic flow over a slender wing",
    "SELECT name FROM users WHERE id = 42;",
    "Der Vertrag endet am 31. Dezember.",
    "東京は日本の首都です。",
    "refund for a cancelled flight to Lisbon",
    "melting point of gallium in kelvin",
    "¿Dónde está la estación de tren más cercana?",
    "a handwritten serif typeface with high contrast",
    "0.1 + 0.2 is not 0.3 in floating point",
    "symptoms of iron deficiency in adults",
    "merge two sorted lists without recursion",
    "Привет, как дела?",
    "blue",
)


async def remember(database: Database, provider: Provider, index: Index) -> None:
    """What the model says of the sentinel texts on its first day in this database."""
    async with database.transaction("worker") as conn:
        if await indexes.sentinels(conn, index.space):
            return
    answer = await asked(database, provider, index, SENTINELS)
    async with database.transaction("worker") as conn:
        await indexes.put_sentinels(conn, index.space, list(answer.matrix))


async def drift(database: Database, provider: Provider, index: Index) -> str | None:
    """Why the model is not the one that made the index, or None.

    Raises:
        ProviderError: it does not answer.
    """
    async with database.transaction("worker") as conn:
        known = await indexes.sentinels(conn, index.space)
    if not known:
        return None
    answer = await asked(database, provider, index, SENTINELS)
    worst = min(cosine(a, b) for a, b in zip(known, answer.matrix, strict=True))
    if worst >= SAME_COSINE:
        return None
    return (
        f"{index.space.address} is no longer the model that made this index "
        f"(a sentinel text's cosine is {worst:.4f}): migrate to what it is now"
    )


async def answers(provider: Provider) -> None:
    """
    Raises:
        ProviderError: the model that embeds queries does not.
    """
    await provider.embed([TextInput(SENTINELS[0])], kind="query")


async def probe_old(database: Database, provider_for: ProviderFor, migration: Migration) -> str | None:
    """Why the old model cannot take the users back, or None; the migration remembers it."""
    assert migration.old_index is not None
    async with database.transaction() as conn:
        old = await indexes.by_id(conn, migration.old_index)
    try:
        provider = await provider_for(old.space.address, old.space.dims)
        gone = await drift(database, provider, old)
        unknown = old.column is not None and old.column.unverifiable is not None  # it has no sentinels
        if unknown or old.query.address != old.space.address:  # one of the family: it only has to answer
            await answers(await provider_for(old.query.address, old.space.dims))
    except RevecError as error:  # a missing key or package here is no better for a rollback from here
        gone = str(error)
    async with database.transaction() as conn:
        await migrations.set_old_model(conn, migration, gone)
    return gone


async def asked(database: Database, provider: Provider, index: Index, texts: Sequence[str]) -> Vectors:
    """In its turn and in the ledger, like every call; but a proof sees for itself who answers."""
    return await Caller(database).embed(provider, texts, index_id=index.id, lane=PROOF)


def cosine(a: Vector, b: Vector) -> float:
    """0 where one of them is zero: such a vector is like no other."""
    x, y = a.astype("float64"), b.astype("float64")
    norms = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / norms if norms else 0.0
