"""The plan: what a migration would do, take and need. Writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from revec.migrate.decide import way_on
from revec.migrate.verify import COMPLETENESS, FIDELITY, RECALL
from revec.model.errors import BadInput, Refused
from revec.model.index import Collection, Index, Kind
from revec.model.space import BYTES_PER_DIM, MAX_HNSW_DIMS, QueryRecipe, Space
from revec.postgres import documents, indexes, migrations
from revec.postgres.database import Database
from revec.providers.base import Provider

EXACT_BYTES = 30 << 20  # a tenant's vectors that one exact scan reads in about 20 ms
ROW_BYTES = 180  # header, keys, tenant, two hashes and their index entries
HNSW_BYTES = 1.2  # of the vectors' own size: elements, neighbours, page slack


@dataclass(frozen=True, slots=True)
class Plan:
    collection: Collection
    old: Index | None
    space: Space
    query: QueryRecipe
    documents: int
    largest_tenant: int
    kind: Kind
    why_kind: str
    bytes_vectors: int
    bytes_ann: int
    gates: tuple[str, ...]

    @property
    def locks(self) -> list[str]:
        built = (
            ""
            if self.kind is Kind.EXACT
            else (
                "the approximate index is built on a table that nobody reads or writes meanwhile; "
                "new work for it waits, the serving index goes on"
            )
        )
        return [
            "none on your tables, at no time",
            "registering: revec.document waits for its writers in flight, at most 2 s a try",
            *([built] if built else []),
            "cutover and rollback: one row of revec.route",
        ]

    @property
    def sql(self) -> list[str]:
        """The statements that change more than rows; N is the index's number."""
        vectors = "revec.vectors_N"
        build = f"CREATE INDEX vectors_N_hnsw ON {vectors} USING hnsw (embedding halfvec_cosine_ops)"
        table = (
            f"CREATE TABLE {vectors} (doc_id bigint, chunk_no integer, tenant text, input_hash bytea, "
            f"text_hash bytea, chunk_count integer, embedding halfvec({self.space.dims}), "
            "PRIMARY KEY (doc_id, chunk_no))"
        )
        return [
            table,
            *([build] if self.kind is Kind.HNSW else []),
            "UPDATE revec.route SET serving = N, previous = … WHERE collection_id = … AND epoch = …",
            *([f"DROP TABLE revec.vectors_{self.old.id}"] if self.old else []),
        ]

    @property
    def facts(self) -> dict[str, Any]:
        """For programs."""
        return {
            "collection": self.collection.name,
            "from": self.old.name if self.old else None,
            "to": self.space.address,
            "dims": self.space.dims,
            "space": self.space.id,
            "documents": self.documents,
            "largest_tenant": self.largest_tenant,
            "index": self.kind,
            "why_index": self.why_kind,
            "bytes_vectors": self.bytes_vectors,
            "bytes_ann": self.bytes_ann,
            "gates": list(self.gates),
            "locks": self.locks,
            "sql": self.sql,
        }


async def plan(
    database: Database,
    collection: Collection,
    provider: Provider,
    *,
    kind: Kind | None = None,
    query: Provider | None = None,
) -> Plan:
    """What moving the collection to the provider's model means.

    Raises:
        Refused: another migration is under way, or the space is the one that serves.
        BadInput: the kind of index cannot hold the dims, or `query` is of another space.
        ProviderError: the model does not answer.
    """
    space, asking = await recipe(provider, query)
    async with database.transaction() as conn:
        route = await indexes.route_of(conn, collection.id)
        old = None if route.serving is None else await indexes.by_id(conn, route.serving)
        active = await migrations.active(conn, collection.id)
        total = await documents.count(conn, collection.id)
        largest = await documents.largest_tenant(conn, collection.id)
    if active:
        raise Refused(
            f"{collection.name} is being migrated to {active[0].target} ({active[0].state}): "
            f"{way_on(active[0].state, collection.name)}"
        )
    if old and (old.space.id, old.query) == (space.id, asking) and kind in (None, old.kind):
        raise Refused(
            f"{collection.name} is served by {space.address} already, by the same recipe: "
            f"there is nothing to migrate; `revec verify {collection.name}` judges it"
        )
    vectors = space.dims * BYTES_PER_DIM + ROW_BYTES
    chosen, why = _kind(space, largest, vectors, kind)
    ann = chosen is Kind.HNSW
    return Plan(
        collection=collection,
        old=old,
        space=space,
        query=asking,
        documents=total,
        largest_tenant=largest,
        kind=chosen,
        why_kind=why,
        bytes_vectors=total * vectors,
        bytes_ann=int(total * space.dims * BYTES_PER_DIM * HNSW_BYTES) if ann else 0,
        gates=(COMPLETENESS, FIDELITY, RECALL) if ann else (COMPLETENESS, FIDELITY),
    )


async def recipe(provider: Provider, query: Provider | None = None) -> tuple[Space, QueryRecipe]:
    """The space that the model makes by default, and how queries reach it.

    Args:
        query: embeds the queries instead; a model of the same family, at the same dims.

    Raises:
        BadInput: `query` is of another space.
    """
    traits = await provider.traits()
    engine, _, model = provider.name.partition(":")
    space = Space(
        provider=engine,
        model=model,
        revision=traits.revision,
        dims=traits.dims,
        normalise=traits.normalised,
        prefix=traits.document.prefix,
        task=traits.document.task,
        family=traits.family,
    )
    asker = query or provider
    asking = await asker.traits()
    together = asking.family and (asking.family, asking.dims) == (traits.family, traits.dims)
    if asker.name != provider.name and not together:
        raise BadInput(
            f"{asker.name} does not share the space of {provider.name}: "
            f"leave --query-model out, or name a model of the same family at {traits.dims} dims"
        )
    return space, QueryRecipe(asker.name, prefix=asking.query.prefix, task=asking.query.task)


def _kind(space: Space, largest: int, row: int, asked: Kind | None) -> tuple[Kind, str]:
    size = f"the largest tenant's vectors are {largest * row / 2**20:,.1f} MB"
    if asked is Kind.HNSW and space.dims > MAX_HNSW_DIMS:
        raise BadInput(
            f"an HNSW index holds at most {MAX_HNSW_DIMS:,} dims and {space.address} has "
            f"{space.dims:,}: take --index exact, or fewer dims with --dims"
        )
    if asked is not None:
        return asked, f"asked for; {size}"
    if largest * row <= EXACT_BYTES:
        return Kind.EXACT, f"{size}: an exact scan is quick enough and misses nothing"
    if space.dims > MAX_HNSW_DIMS:
        return Kind.EXACT, f"{size}, but an HNSW index holds at most {MAX_HNSW_DIMS:,} dims"
    return Kind.HNSW, f"{size}, more than an exact scan reads in time"
