"""How rows of a user's table are documents: names are quoted, expressions are the operator's own SQL."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any

from psycopg import sql

from revec.model.document import DEFAULT_TENANT
from revec.postgres import rowkeys
from revec.postgres.rowkeys import escaped, raw

# A key of these types has one text, whatever the session's settings are.
KEY_TYPES = frozenset(
    {"smallint", "integer", "bigint", "numeric", "text", "character varying", "character", "uuid"}
)
INTEGERS = {"smallint": 15, "integer": 31, "bigint": 63}  # bits beside the sign
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_SHAPES = {
    "numeric": re.compile(r"-?[0-9]+(\.[0-9]+)?|NaN|-?Infinity"),
    "uuid": re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
}


@dataclass(frozen=True, slots=True)
class Mapping:
    """One table as a source. `title`, `body`, `tenant`, `filter` are SQL expressions over its row."""

    table: str
    key: tuple[str, ...]
    body: str
    title: str = "''"
    tenant: str = f"'{DEFAULT_TENANT}'"
    filter: str = "true"
    metadata: tuple[str, ...] = ()
    vector: str | None = None  # the column that holds the rows' vectors already
    # Learned from the catalog by `init`: the key's types; the table's schema and name.
    key_types: tuple[str, ...] = field(default=())
    path: tuple[str, ...] = field(default=())
    vector_hash: str | None = None  # what of that column is compared: SQL

    @classmethod
    def load(cls, stored: dict[str, Any]) -> Mapping:
        lists = ("key", "metadata", "key_types", "path")
        return cls(**stored | {name: tuple(stored.get(name, ())) for name in lists})

    @property
    def stored(self) -> dict[str, Any]:
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if value is not None
        }

    @property
    def relation(self) -> sql.Identifier:
        return sql.Identifier(*self.path)

    def fits(self, key: str) -> bool:
        """Whether a row can have this key; not so where the table had another key before."""
        try:
            parts = [key] if len(self.key) == 1 else json.loads(key, parse_int=str, parse_float=str)
        except ValueError:
            return False
        return (
            isinstance(parts, list)
            and len(parts) == len(self.key_types)
            and all(_is(str(part), kind) for part, kind in zip(parts, self.key_types, strict=True))
        )

    def key_of(self, row: str | None = None) -> sql.Composable:
        """The key as text; a JSON array where it has several columns. `row`: OLD or NEW."""
        columns = [
            sql.SQL("{}.{}").format(raw(row), sql.Identifier(name)) if row else _column(name)
            for name in self.key
        ]
        if len(columns) == 1:
            return sql.SQL("{}::text").format(columns[0])
        return sql.SQL("jsonb_build_array({})::text").format(sql.SQL(", ").join(columns))

    def page(self) -> sql.Composed:
        """Rows after `%(after)s` in the order of the key, `%(limit)s` of them."""
        # Qualified: ORDER BY a bare name would mean our own column of that name, a text.
        columns = sql.SQL(", ").join(escaped(sql.Identifier(*self.path, name)) for name in self.key)
        after = self._parsed(sql.SQL("%(after)s::text"))
        return sql.SQL(
            "{select} WHERE %(after)s::text IS NULL OR ({columns}) > ({after})"
            " ORDER BY {columns} LIMIT %(limit)s"
        ).format(select=self._select(), columns=columns, after=after)

    def by_keys(self) -> sql.Composed:
        """The rows of `%(keys)s`, by the table's own index."""
        columns = sql.SQL(", ").join(map(_column, self.key))
        keys = self._parsed(sql.SQL("k"))
        return sql.SQL(
            "{select} WHERE ({columns}) IN (SELECT {keys} FROM unnest(%(keys)s::text[]) AS k)"
        ).format(select=self._select(), columns=columns, keys=keys)

    def is_row_of(self, key: sql.Composable) -> sql.Composable:
        """Whether a row of the table has this key, by the table's own index; without parameters."""
        columns = sql.SQL(", ").join(sql.Identifier(*self.path, name) for name in self.key)
        return sql.SQL("({}) = ({})").format(columns, self._parsed(key))

    @staticmethod
    def without_long(rows: sql.Composable) -> sql.Composed:
        """The same rows; of one that is longer than `%(most)s` bytes all but what it holds."""
        return sql.SQL(
            "SELECT key, kept, tenant, vector_hash, size > %(most)s AS long,"
            " CASE WHEN size <= %(most)s THEN title END AS title,"
            " CASE WHEN size <= %(most)s THEN body END AS body,"
            " CASE WHEN size <= %(most)s THEN metadata END AS metadata"
            " FROM (SELECT *, octet_length(title)::bigint + octet_length(body) + pg_column_size(metadata)"
            " AS size FROM ({rows}) AS of_table) AS sized"
        ).format(rows=rows)

    def _select(self) -> sql.Composable:
        pairs = [part for name in self.metadata for part in (escaped(sql.Literal(name)), _column(name))]
        return sql.SQL(
            "SELECT {key} AS key, coalesce(({filter})::boolean, false) AS kept,"
            " coalesce(({title})::text, '') AS title, coalesce(({body})::text, '') AS body,"
            " coalesce(nullif(({tenant})::text, ''), {default}) AS tenant,"
            " jsonb_build_object({pairs}) AS metadata, {vector_hash} AS vector_hash FROM {table}"
        ).format(
            key=self.key_of(),
            filter=raw(self.filter),
            title=raw(self.title),
            body=raw(self.body),
            tenant=raw(self.tenant),
            default=sql.Literal(DEFAULT_TENANT),
            pairs=sql.SQL(", ").join(pairs),
            vector_hash=raw(self.vector_hash or "NULL::bytea"),
            table=escaped(self.relation),
        )

    def _parsed(self, text: sql.Composable) -> sql.Composable:
        return rowkeys.parsed(text, self.key_types)


def _column(name: str) -> sql.SQL:
    return escaped(sql.Identifier(name))


def _is(text: str, kind: str) -> bool:
    """Whether the database could have written this text for a value of that type."""
    if bits := INTEGERS.get(kind):
        return bool(_INTEGER.fullmatch(text)) and -(2**bits) <= int(text) < 2**bits
    pattern = _SHAPES.get(kind)
    return pattern is None or bool(pattern.fullmatch(text))
