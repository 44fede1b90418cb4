"""What an approximate index is a graph of: the vectors, or their signs, a bit a dim.

A search orders by the very expression that the graph was built of, or the planner does not know the graph:
so both are written here, once.
"""

from __future__ import annotations

from psycopg import sql

from revec.model.index import Index, Kind
from revec.postgres.queries import beside

SQL = beside(__file__)

PAGE, ROOM = 8_192, 8_160  # bytes of a page, and what elements may fill of it
NEIGHBOURS = 300  # bytes that a graph keeps of one vector beside itself: where its neighbours and rows are
OVERHEAD, IN_MEMORY = 400, 1.6  # bytes, and times, that an element takes while the graph is built
BUILD_MEMORY = (64 << 20, 4 << 30)  # bytes: least and most maintenance_work_mem


def elements(kind: Kind, dims: int) -> sql.Composed:
    """What stands between the parentheses of CREATE INDEX … USING hnsw."""
    if kind is Kind.BINARY:
        return SQL.of_signs.format(dims=dims)
    return SQL.of_vectors.format()


def distance(index: Index, other: sql.Composable) -> sql.Composed:
    """From a row's `embedding` to another vector, as the graph measures it; a user's own graph is of the
    column itself, and has an operator of its own.
    """
    if index.kind is Kind.BINARY:
        return SQL.between_signs.format(other=other, dims=index.space.dims)
    if index.column is not None and index.column.operator is not None:
        operator, kind = sql.SQL(index.column.operator), sql.SQL(index.column.type)
        return SQL.between_own.format(operator=operator, other=other, type=kind)
    return SQL.between_vectors.format(other=other)


def bytes_of(kind: Kind, dims: int, rows: int) -> int:
    """What the graph takes on disk: an element is never on two pages."""
    if not kind.bytes_in_graph(dims):
        return 0
    on_a_page = max(1, ROOM // (kind.bytes_in_graph(dims) + NEIGHBOURS))
    return -(-rows // on_a_page) * PAGE


def build_memory(kind: Kind, dims: int, rows: int) -> int:
    """Bytes of memory that building it asks for: the graph should fit."""
    least, most = BUILD_MEMORY
    graph = rows * (kind.bytes_in_graph(dims) + OVERHEAD) * IN_MEMORY
    return int(min(max(graph, least), most))
