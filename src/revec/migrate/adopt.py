"""Take over a column of vectors that a user's table has: nothing is embedded, nothing of it is changed.

What is said of the column is looked at before it is believed: rows by chance are embedded again by the model
that is said to have made their vectors. It is registered as the index that serves, so that a migration can
move away from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psycopg

from revec.capture import discover
from revec.capture.discover import Found
from revec.capture.mapping import Mapping
from revec.migrate import sentinels
from revec.migrate.gates.base import Tools
from revec.migrate.planning.recipe import recipe
from revec.model.document import rendered
from revec.model.errors import AnswerInvalid, BadInput, ProviderError, Refused, Unavailable
from revec.model.index import Collection, Column, Index, Kind, Writer
from revec.model.space import QueryRecipe, Space
from revec.postgres import indexes, ledgers, migrations
from revec.postgres.database import Connection
from revec.postgres.queries import beside
from revec.providers.base import Provider
from revec.statistics.rates import binomial_lower_bound
from revec.stores.base import Vector
from revec.work.calls import PROOF, Caller

SQL = beside(__file__)
SAMPLE = 100  # rows that are embedded again
LIKE = 0.99  # cosine: other libraries, batches and precisions of one model stay above it
MOST = 0.9  # of the sample: the others may have been edited since
UNIT = 0.01  # that a norm may be off
AT_ONCE = 50  # texts of one call


@dataclass(frozen=True, slots=True)
class Checked:
    """What the sample said of the column's model."""

    space: Space
    query: QueryRecipe
    is_unit: bool
    sampled: int = 0
    alike: int = 0
    unverifiable: str | None = None  # why the model could not be asked

    @property
    def told(self) -> str:
        if self.unverifiable:
            return (
                f"unverifiable, model gone: rollback lost for queries ({self.unverifiable}); "
                "`revec start … --serve-early` can bridge from a new model meanwhile"
            )
        least = binomial_lower_bound(self.alike, self.sampled)
        return (
            f"{self.alike} of {self.sampled} sampled rows have the vector that {self.space.address} makes of "
            f"their text (cosine >= {LIKE}): at least {least:.1%} of all do, at 95%"
        )


@dataclass(frozen=True, slots=True)
class Adoption:
    """What became of it."""

    index: Index
    checked: Checked
    woken: list[str]  # triggers that our writes will wake, where we write

    @property
    def told(self) -> list[str]:
        said = [f"{self.index.name} serves: {self.checked.told}"]
        if self.woken:
            said.append(
                f"each write of the column by Revec will wake {', '.join(self.woken)}; "
                "a superuser spares them by GRANT SET ON PARAMETER session_replication_role TO this login"
            )
        return said


@dataclass(frozen=True, slots=True)
class Adoptable:
    """A column that was looked at."""

    tools: Tools
    found: Found
    mapping: Mapping
    checked: Checked

    async def adopt(self, collection: Collection, source_id: int, *, writer: Writer) -> Adoption:
        """Register it as the index that serves, in one transaction.

        Raises:
            Refused: something serves already.
            BadInput: nobody can write it in that way.
            Unavailable: documents were being written all the while.
        """
        self.require(writer)
        try:
            return await self._adopt(collection, source_id, writer)
        except psycopg.errors.LockNotAvailable as error:
            raise Unavailable(
                f"documents of {collection.name} were being written for more than 2 s: run `revec init` again"
            ) from error

    async def _adopt(self, collection: Collection, source_id: int, writer: Writer) -> Adoption:
        async with self.tools.database.transaction() as conn:
            await conn.execute(SQL.lock_timeout)
            await _require_free(conn, collection, source_id)
            index = await self._registered(conn, collection, source_id, writer)
            await self.tools.store.create(conn, index)
            seen = await indexes.route_of(conn, collection.id)
            if await indexes.flip(conn, seen, serving=index.id, previous=None) is None:
                raise Refused(f"the route of {collection.name} was moved by somebody else: look again")
            is_quiet = writer is not Writer.REVEC or await discover.may_be_silent(conn)
        return Adoption(index, self.checked, [] if is_quiet else self.found.woken)

    def require(self, writer: Writer) -> None:
        """
        Raises:
            BadInput: nobody can write it in that way.
        """
        if writer is Writer.REVEC and self.checked.unverifiable:
            raise BadInput(
                f"{self.checked.space.address} does not answer, so Revec cannot keep {self.found.table} "
                "current with it: choose app or nobody as its writer"
            )
        if writer is Writer.REVEC and not self.found.writable:
            raise BadInput(
                f"this login may not write {self.found.table}.{self.found.vector}: let its owner run GRANT "
                f"UPDATE ({self.found.vector}) ON {self.found.table} TO it, or choose app or nobody"
            )

    async def _registered(
        self, conn: Connection, collection: Collection, source_id: int, writer: Writer
    ) -> Index:
        found, checked, graph = self.found, self.checked, self.found.graph
        if graph is not None and graph.operator != "<=>" and not checked.is_unit:
            graph = None  # it has another order than cosines
        column = Column(
            source_id=source_id,
            path=(found.schema, found.name),
            key=self.mapping.key,
            key_types=self.mapping.key_types,
            vector=found.vector,
            type=found.type,
            operator=graph.operator if graph else None,
            writer=writer,
            unverifiable=checked.unverifiable,
        )
        kind = Kind.HNSW if graph else Kind.EXACT
        at_first = Writer.APP if writer is Writer.REVEC else writer
        await indexes.put_space(conn, checked.space)
        bare = await indexes.register(
            conn, collection.id, checked.space, checked.query, kind, writer=at_first
        )
        await ledgers.adopt(conn, bare, column, sampled=checked.sampled, alike=checked.alike)
        return await indexes.by_id(conn, bare.id)


async def looked_at(
    tools: Tools, found: Found, mapping: Mapping, provider: Provider, *, model_gone: bool
) -> Adoptable:
    """The column, if the model is the one that made it.

    Raises:
        BadInput: it is another one, or of other texts; or there is nothing to look at; or it does not answer,
            and nobody said that it is gone.
        AnswerInvalid: it answers nonsense.
    """
    async with tools.database.transaction() as conn:
        rows = await discover.sample(conn, found, mapping, SAMPLE)
    dims = dims_of(found, rows)
    is_unit = all(abs(float(np.linalg.norm(_numbers(row.own))) - 1) < UNIT for row in rows)
    try:
        space, query = await recipe(provider)
        _require_dims(found, space, dims)
        if not is_unit:  # as somebody else stored them: another space than that of the vectors that we would
            space = replace(space, normalise=False)
        checked = await _asked_again(tools, provider, Checked(space, query, is_unit), rows)
    except AnswerInvalid:
        raise
    except ProviderError as error:
        if not model_gone:
            raise BadInput(
                f"{error}. If {provider.name} is gone for good, say so: --model-gone, or model_gone = true "
                "in revec.toml; its column is adopted all the same, and stays unverified"
            ) from error
        engine, _, model = provider.name.partition(":")
        space = Space(engine, model, revision="", dims=dims, normalise=is_unit)
        checked = Checked(space, QueryRecipe(provider.name), is_unit, unverifiable=str(error))
    return Adoptable(tools, found, mapping, checked)


async def _require_free(conn: Connection, collection: Collection, source_id: int) -> None:
    """Behind the source's lock, which the projector takes before the barrier, too."""
    await conn.execute(SQL.lock_source, {"source": source_id})
    serving = (await indexes.route_of(conn, collection.id)).serving
    if serving is not None or await migrations.active(conn, collection.id):
        raise Refused(
            f"{collection.name} is served already, or is about to be: "
            "adopt the column into a collection of another name"
        )
    others: Any = await (await conn.execute(SQL.sources, {"collection": collection.id})).fetchone()
    if others.sources > 1:
        raise BadInput(
            f"{collection.name} has {others.sources} sources, and a column holds the vectors of one: "
            "give the adopted table a collection of its own"
        )


def dims_of(found: Found, rows: Sequence[Any]) -> int:
    """
    Raises:
        BadInput: there are no vectors, or of several lengths.
    """
    if not rows:
        raise BadInput(
            f"{found.table}.{found.vector} holds no vector yet: "
            "leave `vector` out and the first index is made"
        )
    lengths = {len(_numbers(row.own)) for row in rows}
    if found.dims is None and len(lengths) > 1:
        raise BadInput(
            f"{found.table}.{found.vector} holds vectors of {', '.join(map(str, sorted(lengths)))} dims, of "
            "several models: name one model's rows with --filter"
        )
    return found.dims or lengths.pop()


def _require_dims(found: Found, space: Space, dims: int) -> None:
    if space.dims != dims:
        raise BadInput(
            f"{found.table}.{found.vector} has {dims} dims and {space.address} makes {space.dims}: "
            "name the model that made it"
        )


async def _asked_again(tools: Tools, provider: Provider, bare: Checked, rows: Sequence[Any]) -> Checked:
    pairs = [
        (texts[0], _numbers(row.own))
        for row in rows
        if (texts := rendered(bare.space, row.title, row.body, provider.count))
    ]
    cosines: list[float] = []
    for start in range(0, len(pairs), AT_ONCE):
        some = pairs[start : start + AT_ONCE]
        fresh = await Caller(tools.database).embed(
            provider, [text for text, _ in some], index_id=None, lane=PROOF
        )
        cosines += [
            sentinels.cosine(own, vector) for (_, own), vector in zip(some, fresh.matrix, strict=True)
        ]
    alike = sum(cosine >= LIKE for cosine in cosines)
    if not cosines or alike < MOST * len(cosines):
        raise BadInput(
            f"only {alike} of {len(cosines)} sampled rows have the vector that {bare.space.address} makes of "
            f"their text (cosine >= {LIKE}; the worst is {min(cosines, default=0):.3f}): it is another "
            "model, or other texts were embedded; name what was with --model, --title and --text"
        )
    return Checked(bare.space, bare.query, bare.is_unit, sampled=len(cosines), alike=alike)


def _numbers(own: Any) -> Vector:
    """Of a column of either type, float32."""
    return np.asarray(own.to_numpy() if hasattr(own, "to_numpy") else own, dtype="float32")
