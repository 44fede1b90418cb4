"""Databases for tests: each copied from its template once, and set back after each test.

A copy has some 900 files and takes 0.3 s; to set one back takes a tenth of that. What a test changed beyond
rows and tables of its own (a function, a policy, a setting) shows in a fingerprint: that copy is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import namedtuple_row

from revec.postgres.queries import beside
from tests import servers

SQL = beside(__file__)
LARGE = 64 << 20  # bytes: what grew so much is dropped too

Session = psycopg.Connection[Any]


@dataclass(frozen=True)
class Pristine:
    """What a template holds."""

    schemas: frozenset[str]
    tables: frozenset[str]
    rows: dict[str, bytes]  # by table, as COPY writes them
    sequences: list[dict[str, Any]]
    fingerprint: str


class Copies:
    def __init__(self, maintenance: str) -> None:
        self._maintenance = maintenance
        self._idle: dict[str, list[str]] = {}  # by template
        self._pristine: dict[str, Pristine] = {}  # likewise
        self._numbers = count(1)

    @contextmanager
    def lent(self, template: str, owner: str | None = None) -> Iterator[str]:
        """A database that is as the template is, of one owner each time; its DSN, with which he logs in."""
        idle = self._idle.setdefault(template, [])
        name = idle.pop() if idle else self._made(template, owner)
        try:
            yield servers.at(self._maintenance, dbname=name, **({"user": owner} if owner else {}))
        finally:
            if self._is_set_back(template, name):
                idle.append(name)
            else:
                servers.run(self._maintenance, f"DROP DATABASE {name} WITH (FORCE)")

    def _made(self, template: str, owner: str | None) -> str:
        name = f"test_{next(self._numbers)}"
        owned = f" OWNER {owner}" if owner else ""
        servers.run(self._maintenance, f"CREATE DATABASE {name} TEMPLATE {template}{owned}")
        if template not in self._pristine:
            with self._within(name) as conn:
                self._pristine[template] = _seen(conn)
        return name

    def _is_set_back(self, template: str, name: str) -> bool:
        pristine = self._pristine[template]
        try:
            with self._within(name) as conn:
                conn.execute(SQL.others)
                conn.execute(SQL.quietly)
                _drop(conn, pristine)
                _refill(conn, pristine)
                return _one(conn, SQL.size) < LARGE and _one(conn, SQL.fingerprint) == pristine.fingerprint
        except psycopg.Error:
            return False

    @contextmanager
    def _within(self, name: str) -> Iterator[Session]:
        dsn = servers.at(self._maintenance, dbname=name)
        with psycopg.connect(dsn, autocommit=True, row_factory=namedtuple_row) as conn:
            yield conn


def _seen(conn: Session) -> Pristine:
    tables = conn.execute(SQL.tables).fetchall()
    return Pristine(
        schemas=frozenset(row.name for row in conn.execute(SQL.schemas)),
        tables=frozenset(row.name for row in tables),
        rows={row.name: _rows(conn, row.name) for row in tables if row.grown},
        sequences=[row._asdict() for row in conn.execute(SQL.sequences, {})],
        fingerprint=_one(conn, SQL.fingerprint),
    )


def _rows(conn: Session, table: str) -> bytes:
    with conn.cursor().copy(SQL.take.format(table=sql.SQL(table))) as copy:
        return b"".join(bytes(piece) for piece in copy)


def _drop(conn: Session, pristine: Pristine) -> None:
    """What the test made: schemas, and tables in those that are ours."""
    for row in conn.execute(SQL.schemas).fetchall():
        if row.name not in pristine.schemas:
            conn.execute(SQL.drop_schema.format(name=sql.SQL(row.name)))
    for row in conn.execute(SQL.tables).fetchall():
        if row.name not in pristine.tables:
            conn.execute(SQL.drop_table.format(name=sql.SQL(row.name)))


def _refill(conn: Session, pristine: Pristine) -> None:
    """The template's rows and counters, and nothing known about them."""
    grown = [sql.SQL(row.name) for row in conn.execute(SQL.tables).fetchall() if row.grown]
    for table in grown:
        conn.execute(SQL.empty.format(table=table))
    if grown:
        conn.execute(SQL.shrink.format(tables=sql.SQL(", ").join(grown)))
    for table, rows in pristine.rows.items():
        with conn.cursor().copy(SQL.give.format(table=sql.SQL(table))) as copy:
            copy.write(rows)
    for sequence in pristine.sequences:
        conn.execute(SQL.set_back, sequence)
    for query in (SQL.unlearn, SQL.recount, SQL.forget):
        conn.execute(query)


def _one(conn: Session, query: sql.SQL) -> Any:
    row = conn.execute(query).fetchone()
    assert row is not None
    return row[0]
