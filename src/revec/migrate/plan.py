"""The plan: what a migration would do, take and need. Writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from revec.migrate.decide import way_on
from revec.migrate.early import obstacle, shortage
from revec.migrate.evidence import ERRORS, LATENCY, VARIANCE, require_rate
from revec.migrate.gates.base import COMPLETENESS, FIDELITY, RECALL
from revec.migrate.outlook import QUALITY
from revec.migrate.power import Power, Traffic
from revec.model.chunking import BY_THE_MODEL, LONGEST, NONE, chunking
from revec.model.errors import BadInput, Refused
from revec.model.index import Collection, Index, Kind, Writer
from revec.model.place import HERE, PG, Place, new_place
from revec.model.space import BYTES_PER_DIM, MAX_HNSW_DIMS, QueryRecipe, Space
from revec.postgres import documents, graphs, indexes, migrations
from revec.postgres.database import Database
from revec.providers.base import Provider, Traits
from revec.search import fusion
from revec.work.gather import require_batches

EXACT_BYTES = 30 << 20  # a tenant's vectors that one exact scan reads in about 20 ms
ROW_BYTES = 280  # header, keys, tenant, two hashes, their index entries and the slack of pages
MANY_SIGNS = 1_024  # dims from which on a graph of signs finds nearly all
SAMPLE = 200  # documents whose texts are measured
PAGE, ROOM = 8_192, 8_160  # bytes of a page, and what elements may fill of it
NEIGHBOURS = 300  # bytes that a graph keeps of one vector beside itself: where its neighbours and rows are


@dataclass(frozen=True, slots=True)
class Long:
    """What becomes of long texts: chunks by a recipe, or a cut at so many tokens."""

    chunk: str | None = None
    truncate: int | None = None

    @property
    def chunking(self) -> str:
        """As a space has it.

        Raises:
            BadInput: there is no such way to chunk.
        """
        return str(chunking(self.chunk or NONE) or NONE)

    @property
    def truncation(self) -> str:
        return f"at {self.truncate} tokens" if self.truncate else BY_THE_MODEL


AS_IT_IS = Long()


@dataclass(frozen=True, slots=True)
class Sampled:
    """How many of the sampled documents are longer than the model takes; 0 where it takes any."""

    documents: int
    longer: int
    max_tokens: int | None


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
    sampled: Sampled
    patient: bool = False
    fusion: str | None = None  # what becomes of it at the cutover; None: nothing
    serve_early: bool = False
    place: Place = HERE
    power: Power | None = None  # what the declared judgements can decide; None: none were declared
    traffic: Traffic | None = None  # None: there is no old index to compare a new one with
    shadow: float | None = None  # the first rate of dual reads; None: none before it is ready

    @property
    def copies(self) -> bool:
        """Whether its vectors are those of the index that serves: nothing is embedded."""
        return self.old is not None and self.old.space.id == self.space.id

    @property
    def long_texts(self) -> str:
        """How many texts the model does not take whole, and what becomes of them."""
        sampled, space = self.sampled, self.space
        if space.chunking != NONE:
            fate = f"texts are chunked: {space.chunking}"
        elif space.truncation != BY_THE_MODEL:
            fate = f"texts are cut {space.truncation}"
        else:
            fate = "it cuts or refuses those: --chunk '512 tokens, 64 overlap' or --truncate TOKENS"
        if sampled.max_tokens is None:
            whole = "the model names no longest text"
            return whole if self.space.chunking == NONE else f"{whole}; {fate}"
        counted = (
            f"{sampled.longer:,} of {sampled.documents:,} sampled documents are longer than the "
            f"{sampled.max_tokens:,} tokens that the model takes"
        )
        return counted if not sampled.longer and space.chunking == NONE else f"{counted}; {fate}"

    @property
    def early(self) -> str:
        """Whether its model may answer before the backfill is over."""
        if not self.serve_early:
            return "no: `--serve-early` lets the new model answer before the backfill is over"
        if why := obstacle(self.old, self.space, self.place) or shortage(self.documents):
            return f"refused: {why}"
        return "as soon as a sample of the documents shows that it would find what the old model finds"

    @property
    def locks(self) -> list[str]:
        built = (
            ""
            if not self._build_sql
            else (
                "the approximate index is built on a table that nobody reads or writes meanwhile; "
                "new work for it waits, the serving index goes on"
            )
        )
        return [
            self._on_their_tables,
            "registering: revec.document waits for its writers in flight, at most 2 s a try",
            *([built] if built else []),
            "cutover and rollback: one row of revec.route",
        ]

    @property
    def _on_their_tables(self) -> str:
        column = self.old.column if self.old else None
        if column is None or column.writer is not Writer.REVEC:
            return "none on your tables, at no time"
        return (
            f"rows of {column.table}, where a document changes: its vector is written there too, at most 16 "
            "rows at a time and none that you hold"
        )

    @property
    def sql(self) -> list[str]:
        """The statements that change more than rows; N is the index's number."""
        vectors = "revec.vectors_N"
        held = f"embedding halfvec({self.space.dims})" if self.place.is_here else "point_id uuid"
        table = (
            f"CREATE TABLE {vectors} (doc_id bigint, chunk_no integer, tenant text, input_hash bytea, "
            f"text_hash bytea, chunk_count integer, {held}, PRIMARY KEY (doc_id, chunk_no))"
        )
        return [
            table,
            *self._build_sql,
            "UPDATE revec.route SET serving = N, previous = … WHERE collection_id = … AND epoch = …",
            *([_goodbye(self.old)] if self.old else []),
        ]

    @property
    def _build_sql(self) -> list[str]:
        if not (self.kind.is_approximate and self.place.is_here):
            return []
        elements = graphs.elements(self.kind, self.space.dims).as_string()
        return [f"CREATE INDEX vectors_N_hnsw ON revec.vectors_N USING hnsw ({elements})"]

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
            "store": self.place.store,
            "copies": self.copies,
            "bytes_vectors": self.bytes_vectors,
            "bytes_ann": self.bytes_ann,
            "chunking": self.space.chunking,
            "truncation": self.space.truncation,
            "sampled": self.sampled.documents,
            "longer_than_the_model_takes": self.sampled.longer,
            "long_texts": self.long_texts,
            "patient": self.patient,
            "fusion": self.fusion,
            "serve_early": self.serve_early,
            "early": self.early,
            "shadow": self.shadow,
            "gates": list(self.gates),
            "quality": self.power.facts if self.power else None,
            "traffic": self.traffic.facts if self.traffic else None,
            "locks": self.locks,
            "sql": self.sql,
        }


def _goodbye(old: Index) -> str:
    """What becomes of the old index in the end."""
    if old.column is None:
        return f"DROP TABLE revec.vectors_{old.id}"
    kept = f"{old.column.table}.{old.column.vector} stays as it is"
    return f"DROP VIEW revec.vectors_{old.id}; DROP TABLE revec.ledger_{old.id} ({kept})"


async def plan(
    database: Database,
    collection: Collection,
    provider: Provider,
    *,
    kind: Kind | None = None,
    query: Provider | None = None,
    long: Long = AS_IT_IS,
    patient: bool = False,
    serve_early: bool = False,
    store: str | None = None,
    power: Power | None = None,
    traffic: Traffic | None = None,
    shadow: float | None = None,
) -> Plan:
    """What moving the collection to the provider's model means.

    Args:
        patient: the backfill goes through the provider's batch API.
        serve_early: the model answers before the backfill is over, where that is no loss.
        store: where the new index lives; None: where the one that serves does.
        power: of the declared judgements, which the quality gate then requires.
        shadow: live reads are compared before it is ready, at first this share of them.

    Raises:
        Refused: another migration is under way, or the space is the one that serves.
        BadInput: the kind of index cannot hold the dims, `query` is of another space, the model cannot
            hold the chunks, or takes no batches.
        ProviderError: the model does not answer.
    """
    space, asking = await recipe(provider, query, long)
    if patient:
        await require_batches(provider)
    async with database.transaction() as conn:
        route = await indexes.route_of(conn, collection.id)
        old = None if route.serving is None else await indexes.by_id(conn, route.serving)
        active = await migrations.active(conn, collection.id)
        fused = await fusion.after(conn, collection.name, old, space, asking)
        total = await documents.count(conn, collection.id)
        largest = await documents.largest_tenant(conn, collection.id)
    if active:
        raise Refused(
            f"{collection.name} is being migrated to {active[0].target} ({active[0].state}): "
            f"{way_on(active[0].state, collection.name)}"
        )
    at = store or (old.place.store if old else PG)
    same = old is not None and (old.space.id, old.query, old.place.store) == (space.id, asking, at)
    if old and same and old.column is None and kind in (None, old.kind):
        raise Refused(
            f"{collection.name} is served by {space.address} already, by the same recipe: "
            f"there is nothing to migrate; `revec verify {collection.name}` judges it"
        )
    chosen, why = _kind(space, largest, kind) if at == PG else _native(at, kind)
    bytes_vectors, bytes_ann = bytes_of(chosen, space, total)
    optional = [*([RECALL] if chosen.is_approximate else []), *([QUALITY] if power else [])]
    return Plan(
        collection=collection,
        old=old,
        space=space,
        query=asking,
        documents=total,
        largest_tenant=largest,
        kind=chosen,
        why_kind=why,
        bytes_vectors=bytes_vectors,
        bytes_ann=bytes_ann,
        gates=(COMPLETENESS, FIDELITY, *optional, *_of_traffic(collection, old, space, asking, shadow)),
        sampled=await _sampled(database, collection, provider),
        patient=patient,
        fusion=fused,
        serve_early=serve_early,
        place=HERE if at == PG else new_place(at),
        power=power,
        traffic=traffic if old else None,
        shadow=shadow,
    )


def _of_traffic(
    collection: Collection, old: Index | None, space: Space, query: QueryRecipe, shadow: float | None
) -> tuple[str, ...]:
    """The gates that live reads make necessary: of one space the answers have to be equal, too."""
    if shadow is None:
        return ()
    require_rate(shadow)
    if old is None:
        raise Refused(
            f"nothing serves {collection.name} yet, so there are no answers to compare: leave --shadow out"
        )
    is_same = (old.space.id, old.query) == (space.id, query)
    return (LATENCY, ERRORS, *([VARIANCE] if is_same else []))


async def recipe(
    provider: Provider, query: Provider | None = None, long: Long = AS_IT_IS
) -> tuple[Space, QueryRecipe]:
    """The space that the model makes by default, and how queries reach it.

    Args:
        query: embeds the queries instead; a model of the same family, at the same dims.

    Raises:
        BadInput: `query` is of another space, or long texts cannot be dealt with in that way.
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
        chunking=long.chunking,
        truncation=long.truncation,
    )
    _require_fit(space, traits, long)
    asker = query or provider
    asking = await asker.traits()
    together = asking.family and (asking.family, asking.dims) == (traits.family, traits.dims)
    if asker.name != provider.name and not together:
        raise BadInput(
            f"{asker.name} does not share the space of {provider.name}: "
            f"leave --query-model out, or name a model of the same family at {traits.dims} dims"
        )
    return space, QueryRecipe(asker.name, prefix=asking.query.prefix, task=asking.query.task)


def _require_fit(space: Space, traits: Traits, long: Long) -> None:
    most, made = traits.max_tokens, chunking(space.chunking)
    if made and long.truncate:
        raise BadInput("chunked texts are not cut as well: take either chunk or truncate")
    if most and (asked := made.tokens if made else long.truncate or 0) > most:
        raise BadInput(f"{space.address} takes {most:,} tokens at most, not {asked:,}: ask for fewer")


async def _sampled(database: Database, collection: Collection, provider: Provider) -> Sampled:
    """Only texts that may or may not be too long are read: a token has 1 to LONGEST bytes or so."""
    most = (await provider.traits()).max_tokens
    async with database.transaction() as conn:
        drawn = await documents.sampled(conn, collection.id, SAMPLE)
        if most is None:
            return Sampled(len(drawn), 0, None)
        doubtful = {d: each for d, each in drawn.items() if most < each.size <= most * LONGEST}
        contents = await documents.contents(conn, doubtful)
    counts = provider.count([f"{content.title}\n{content.body}" for content in contents.values()])
    longer = sum(count > most for count in counts)
    longer += sum(each.size > most * LONGEST for each in drawn.values())
    return Sampled(len(drawn), longer, most)


def bytes_of(kind: Kind, space: Space, rows: int) -> tuple[int, int]:
    """What the rows of vectors and the graph over them take on disk."""
    if kind is Kind.NATIVE:
        return rows * ROW_BYTES, 0
    vectors = rows * (space.dims * BYTES_PER_DIM + ROW_BYTES)
    if not kind.is_approximate:
        return vectors, 0
    on_a_page = max(1, ROOM // (kind.bytes_in_graph(space.dims) + NEIGHBOURS))  # an element is never on two
    return vectors, -(-rows // on_a_page) * PAGE


def _native(store: str, asked: Kind | None) -> tuple[Kind, str]:
    if asked not in (None, Kind.NATIVE):
        raise BadInput(f"{store} has its own way to find what is near: leave --index out")
    return Kind.NATIVE, f"{store} has its own"


def _kind(space: Space, largest: int, asked: Kind | None) -> tuple[Kind, str]:
    tenant, _ = bytes_of(Kind.EXACT, space, largest)
    size = f"the largest tenant's vectors are {tenant / 2**20:,.1f} MB"
    if asked is Kind.NATIVE:
        raise BadInput(
            "native is a store's own index: say --store with its address, or --index exact or hnsw"
        )
    if asked is Kind.HNSW and space.dims > MAX_HNSW_DIMS:
        raise BadInput(
            f"an HNSW index holds at most {MAX_HNSW_DIMS:,} dims and {space.address} has "
            f"{space.dims:,}: take --index binary or exact, or fewer dims with --dims"
        )
    if asked is Kind.BINARY and space.dims < MANY_SIGNS:
        return asked, f"asked for; {size}; {space.dims} signs tell little: the recall gate may well fail"
    if asked is not None:
        return asked, f"asked for; {size}"
    if tenant <= EXACT_BYTES:
        return Kind.EXACT, f"{size}: an exact scan is quick enough and misses nothing"
    late = f"{size}, more than an exact scan reads in time"
    if space.dims > MAX_HNSW_DIMS:
        return Kind.BINARY, (
            f"{late}, and an HNSW index holds at most {MAX_HNSW_DIMS:,} dims: a graph of the signs, a bit "
            "a dim, finds candidates, and the vectors themselves rank those"
        )
    return Kind.HNSW, late
