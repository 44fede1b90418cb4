"""What a look is: one question to a database, answered by the faults that it finds.

A look is a constant of a module in `doctor/looks/`, and is registered by being there; its name is the
constant's. Its query stands in the module's `.sql` twin and only reads. A row is a fault, with its evidence
in the columns; a row with a column `found` that is 0 is none (its `n` says how many were looked at), and a
column `severity` outranks the look's own.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any

from psycopg import sql

from revec.model.errors import Unavailable
from revec.postgres.database import Connection

ROOM = "revec.doctor.looks"
WHOLE = 100  # percent
Evidence = dict[str, Any]  # a row: what was seen, by its name


class Severity(StrEnum):
    CRITICAL = "critical"  # answers are wrong or missing, or will be within a month
    WARNING = "warning"  # it will hurt, or hurts some
    NOTE = "note"  # worth knowing

    def reaches(self, level: Severity) -> bool:
        """Whether it is at least as severe."""
        order = list(Severity)
        return order.index(self) <= order.index(level)


class Of(StrEnum):
    """What a look is asked of, each by itself."""

    DATABASE = "the database"
    COLUMN = "a column of vectors"
    GRAPH = "an approximate index"
    REVEC = "Revec's own tables"


class NotLooked(Unavailable):
    """The look could not be taken; the sentence says why. Never a pass."""


class NotHere(Exception):
    """There is nothing that this look could be about; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a doctor goes, and from where on something is a fault."""

    statement: float = 2.0  # seconds that one statement may take
    lock: float = 0.5  # seconds that it may wait for a lock
    whole: float = 120.0  # seconds for all looks together
    sample: int = 5_000  # vectors that are looked at in a column
    dead_tuples: int = 10_000
    dead_share: float = 0.2  # of a table's rows
    long_transaction: float = 300.0  # seconds
    old_snapshot: int = 10_000_000  # transactions since
    slot_bytes: int = 64 << 20  # that a slot nobody reads keeps
    unread: int = 1_000  # scans of a table, of which hardly one went through its approximate index
    many: int = 1_000  # rows from which on a plan matters
    large: int = 300 << 20  # bytes of vectors that nobody should have to scan
    probes: int = 50  # rows that an index has to find by their own vector
    comparisons: int = 1_000_000  # distances, for what an exact scan finds
    recall: float = 0.9  # of the ten nearest


@dataclass(frozen=True, slots=True)
class Column:
    """A column of vectors, and what the catalog and a guess say of its table."""

    oid: int
    path: tuple[str, str]
    column: str
    type: str  # vector, halfvec
    dims: int | None  # None: any
    rows: int  # as last counted by the server; -1: never
    bytes: int  # of the table with its TOAST
    percent: float  # of the table's blocks that hold about a sample
    of_revec: bool
    text: str | None = None  # the column whose text was embedded, as far as its name or size tell
    model: str | None = None  # the column that names each vector's model
    tenant: str | None = None  # by its name, or by the row security that reads it
    deleted: str | None = None  # the column that says that a row is gone
    deleted_is_bool: bool = False
    closed: str | None = None  # why this login does not see all of its rows

    @property
    def table(self) -> str:
        return sql.Identifier(*self.path).as_string()

    def __str__(self) -> str:
        return f"{'.'.join(self.path)}.{self.column}"

    @property
    def names(self) -> Mapping[str, sql.Composable]:
        """What the columns' queries may name."""
        live: sql.Composable = sql.SQL("true")
        if self.deleted:
            shape = "NOT coalesce({}, false)" if self.deleted_is_bool else "{} IS NULL"
            live = sql.SQL(shape).format(_named(self.deleted))
        return {
            "table": _named(*self.path),
            "column": _named(self.column),
            "text": _named(self.text) if self.text else sql.SQL("NULL::text"),
            "model": _named(self.model) if self.model else sql.SQL("NULL::text"),
            "live": live,
            "sample": sampled(self.percent),
        }


@dataclass(frozen=True, slots=True)
class Graph:
    """An approximate index: hnsw or ivfflat."""

    column: Column
    path: tuple[str, str]
    method: str
    expression: str  # as the catalog writes it: what is indexed
    operator: str
    predicate: str | None

    def __str__(self) -> str:
        return ".".join(self.path)

    @property
    def names(self) -> Mapping[str, sql.Composable]:
        """What the indexes' queries may name; expressions are the catalog's own words."""
        return {
            **self.column.names,
            "expression": _of_catalog(self.expression),
            "operator": _of_catalog(self.operator),
            "predicate": _of_catalog(self.predicate or "true"),
        }


@dataclass(frozen=True, slots=True)
class Case:
    """The database as it was found."""

    database: str
    server: str
    vector: str | None  # the extension's version
    vector_schema: str
    login: str
    today: date
    sees_sessions: bool  # of others
    pooler: str | None  # "transaction", "session": one is in front
    installed: bool  # Revec's schema is there
    not_ours: str | None  # why this login cannot look at Revec's tables
    columns: Sequence[Column] = ()
    graphs: Sequence[Graph] = ()
    limits: Limits = field(default_factory=Limits)
    models: Sequence[str] = ()  # that a person or revec.toml named
    shutdown_of: Callable[[str], date | None] = lambda _: None
    free_bytes: int | None = None  # where the database's own disk is this machine's


Subject = Case | Column | Graph
Ask = Callable[[Connection, "Look", Case, Subject], Awaitable[list[Evidence]]]


async def by_query(conn: Connection, look: Look, case: Case, subject: Subject) -> list[Evidence]:
    """The rows of the look's own query."""
    assert look.query is not None
    rows = await conn.execute(filled(look.query, subject), parameters(look, case, subject))
    return [row._asdict() for row in await rows.fetchall()]


@dataclass(frozen=True, slots=True)
class Look:
    """One question. `sentence` and `do` are filled in from the evidence."""

    of: Of
    severity: Severity
    sentence: str
    do: str
    query: sql.SQL | None = None
    see: sql.SQL | None = None  # how a person sees it all; None: by the query
    needs: tuple[str, ...] = ()  # of the column: without these there is nothing to ask
    more: Mapping[str, Any] = field(default_factory=dict)  # parameters beside the limits
    ask: Ask = by_query
    by_catalog: bool = False  # no row of the column's table is read: hidden ones hide nothing


def parameters(look: Look, case: Case, subject: Subject) -> dict[str, Any]:
    """What a query may ask for by name."""
    known = {name: getattr(case.limits, name) for name in Limits.__slots__}
    known |= {"tables": sorted({each.oid for each in case.columns}), "of_revec": False, **look.more}
    column = subject.column if isinstance(subject, Graph) else subject
    if isinstance(column, Column):
        of_column = ("oid", "column", "type", "dims", "rows", "bytes", "text", "tenant", "of_revec")
        known |= {name: getattr(column, name) for name in of_column} | {"table": column.table}
    if isinstance(subject, Graph):
        known |= {"index": sql.Identifier(*subject.path).as_string()}
    return known


def filled(query: sql.SQL, subject: Subject) -> sql.Composed:
    """The query with the subject's names in it."""
    return query.format(**({} if isinstance(subject, Case) else subject.names))


def looks() -> Iterator[tuple[str, Look]]:
    """Every look by its name: `ZERO_VECTORS` is zero-vectors."""
    for module in sorted(each.name for each in pkgutil.iter_modules(importlib.import_module(ROOM).__path__)):
        for name, value in vars(importlib.import_module(f"{ROOM}.{module}")).items():
            if isinstance(value, Look):
                yield name.lower().replace("_", "-"), value


def subjects(look: Look, case: Case) -> Sequence[Subject]:
    """What it is asked of here.

    Raises:
        NotHere: nothing.
        NotLooked: there would be something.
    """
    if look.of is Of.COLUMN:
        if not (found := [each for each in case.columns if all(getattr(each, what) for what in look.needs)]):
            raise NotHere("no column of vectors" + (f" with a {' and '.join(look.needs)}" * bool(look.needs)))
        return found
    if look.of is Of.GRAPH:
        if not case.graphs:
            raise NotHere("no approximate index")
        return case.graphs
    if look.of is Of.REVEC:
        if not case.installed:
            raise NotHere("Revec's tables are not in this database")
        if case.not_ours:
            raise NotLooked(case.not_ours)
    return [case]


def sampled(percent: float) -> sql.Composable:
    """The clause behind a table's name that takes so many of its blocks; nothing where all are taken."""
    if percent >= WHOLE:
        return sql.SQL("")
    return sql.SQL("TABLESAMPLE SYSTEM ({})").format(sql.Literal(round(percent, 6)))


def _named(*path: str) -> sql.Composable:
    return _of_catalog(sql.Identifier(*path).as_string())


def _of_catalog(text: str) -> sql.Composable:
    # What the server wrote of its own catalog is SQL already; a % in it is no parameter.
    return sql.SQL(text.replace("%", "%%"))
