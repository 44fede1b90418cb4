"""The new index: its kind and why, what it takes on disk, in the log and in memory, and its statements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from revec.model.errors import BadInput
from revec.model.index import Index, Kind, Writer
from revec.model.place import Place
from revec.model.space import BYTES_PER_DIM, MAX_HNSW_DIMS, Space
from revec.postgres import graphs
from revec.postgres.graphs import PAGE

EXACT_BYTES = 30 << 20  # a tenant's vectors that one exact scan reads in about 20 ms
ROW_BYTES = 280  # header, keys, tenant, two hashes, their index entries and the slack of pages
MANY_SIGNS = 1_024  # dims from which on a graph of signs finds nearly all

# A row of vectors on its page: header, keys, tenant, hashes and counts, beside the vector. These figures are
# held against real tables by tests/migrate/test_plan_sizes.py.
IN_A_PAGE = PAGE - 24  # its own header
BESIDE_VECTOR, BESIDE_POINT, ITEM = 124, 132, 4
KEYS = 150  # of its entries in the indexes by document, text and tenant
FIRST = 60_000  # of the first row: maps of free space, and the first pages of each index
INLINE_DIMS = 4_000  # more do not fit a page: they are cut into pieces of TOAST
PIECE, BESIDE_PIECE, ENTRY, POINTER = 1_996, 40, 28, 18  # bytes of one, beside it, in its index, in the row
WHOLE_ON_A_PAGE = 4
LARGE, HASHES = 2_032, 2  # of a larger row PostgreSQL moves what it can, both hashes, into TOAST
HASH = 33
WAL_A_ROW, WAL_A_BYTE = 1_400, 1.1  # of the log: work, locks, ledger; and for each byte of the row


@dataclass(frozen=True, slots=True)
class Size:
    """In bytes; of a store elsewhere, only what is kept here."""

    vectors: int  # the table, and its keys
    graph: int
    wal: int
    memory: int  # of the server, while the graph is built; 0: nothing is built

    @property
    def disk(self) -> int:
        return self.vectors + self.graph

    @property
    def facts(self) -> Mapping[str, int]:
        return {
            "bytes_vectors": self.vectors,
            "bytes_ann": self.graph,
            "bytes_disk": self.disk,
            "bytes_wal": self.wal,
            "bytes_memory_build": self.memory,
        }


def size_of(kind: Kind, dims: int, rows: int) -> Size:
    """What so many vectors take: whole rows on whole pages, pieces of what is too large for one."""
    row, pieces = _row(kind, dims)
    on_a_page = IN_A_PAGE // (-(-row // 8) * 8 + ITEM)
    vectors = -(-rows // on_a_page) * PAGE + round(rows * (pieces + KEYS)) + (FIRST if rows else 0)
    graph = graphs.bytes_of(kind, dims, rows)
    wal = round(rows * (WAL_A_ROW + WAL_A_BYTE * (row + pieces))) + graph
    return Size(vectors, graph, wal, graphs.build_memory(kind, dims, rows) if graph else 0)


def _row(kind: Kind, dims: int) -> tuple[int, float]:
    """Bytes of a row, and of its pieces in TOAST."""
    if kind is Kind.NATIVE:
        return BESIDE_POINT, 0
    if dims > INLINE_DIMS:
        return BESIDE_VECTOR - HASH + POINTER, _toast(dims * BYTES_PER_DIM)
    row = BESIDE_VECTOR + dims * BYTES_PER_DIM
    if row <= LARGE:
        return row, 0
    return row - HASHES * (HASH - POINTER), HASHES * _toast(HASH)


def _toast(size: int) -> float:
    whole, rest = divmod(size, PIECE)
    return whole * PAGE / WHOLE_ON_A_PAGE + rest + BESIDE_PIECE + (whole + 1) * ENTRY


def native(store: str, asked: Kind | None) -> tuple[Kind, str]:
    """
    Raises:
        BadInput: another kind was asked for.
    """
    if asked not in (None, Kind.NATIVE):
        raise BadInput(f"{store} has its own way to find what is near: leave --index out")
    return Kind.NATIVE, f"{store} has its own"


def kind_of(space: Space, largest: int, asked: Kind | None) -> tuple[Kind, str]:
    """The kind of an index in this database, and why; `largest`: documents of the largest tenant.

    Raises:
        BadInput: the kind that was asked for cannot hold the dims.
    """
    tenant = largest * (space.dims * BYTES_PER_DIM + ROW_BYTES)
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


def statements(kind: Kind, dims: int, place: Place, old: Index | None) -> list[str]:
    """Those that change more than rows; N is the index's number."""
    held = f"embedding halfvec({dims})" if place.is_here else "point_id uuid"
    table = (
        "CREATE TABLE revec.vectors_N (doc_id bigint, chunk_no integer, tenant text, input_hash bytea, "
        f"text_hash bytea, chunk_count integer, {held}, PRIMARY KEY (doc_id, chunk_no))"
    )
    return [
        table,
        *_build(kind, dims, place),
        "UPDATE revec.route SET serving = N, previous = … WHERE collection_id = … AND epoch = …",
        *([_goodbye(old)] if old else []),
    ]


def _goodbye(old: Index) -> str:
    """What becomes of the old index in the end."""
    if old.column is None:
        return f"DROP TABLE revec.vectors_{old.id}"
    kept = f"{old.column.table}.{old.column.vector} stays as it is"
    return f"DROP VIEW revec.vectors_{old.id}; DROP TABLE revec.ledger_{old.id} ({kept})"


def locks(kind: Kind, dims: int, place: Place, old: Index | None) -> list[str]:
    built = (
        "the approximate index is built on a table that nobody reads or writes meanwhile; "
        "new work for it waits, the serving index goes on"
    )
    return [
        _on_their_tables(old),
        "registering: revec.document waits for its writers in flight, at most 2 s a try",
        *([built] if _build(kind, dims, place) else []),
        "cutover and rollback: one row of revec.route",
    ]


def _on_their_tables(old: Index | None) -> str:
    column = old.column if old else None
    if column is None or column.writer is not Writer.REVEC:
        return "none on your tables, at no time"
    return (
        f"rows of {column.table}, where a document changes: its vector is written there too, at most 16 "
        "rows at a time and none that you hold"
    )


def _build(kind: Kind, dims: int, place: Place) -> list[str]:
    if not (kind.is_approximate and place.is_here):
        return []
    elements: Any = graphs.elements(kind, dims).as_string()
    return [f"CREATE INDEX vectors_N_hnsw ON revec.vectors_N USING hnsw ({elements})"]
