"""How rows of a user's table are documents: names are quoted, expressions are the operator's own SQL."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from psycopg import sql

from revec.model.document import DEFAULT_TENANT

# A key of these types has one text, whatever the session's settings are.
KEY_TYPES = frozenset(
    {"smallint", "integer", "bigint", "numeric", "text", "character varying", "character", "uuid"}
)


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
    key_types: tuple[str, ...] = field(default=())  # learned from the catalog by `init`

    @classmethod
    def load(cls, stored: dict[str, Any]) -> Mapping:
        lists = ("key", "metadata", "key_types")
        return cls(**stored | {name: tuple(stored.get(name, ())) for name in lists})

    @property
    def stored(self) -> dict[str, Any]:
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @property
    def relation(self) -> sql.Identifier:
        return sql.Identifier(*self.table.split("."))

    def key_of(self, row: str | None = None) -> sql.Composable:
        """The key as text; a JSON array where it has several columns. `row`: OLD or NEW."""
        columns = [
            sql.SQL("{}.{}").format(_raw(row), sql.Identifier(name))
            if row
            else sql.Identifier(name)
            for name in self.key
        ]
        if len(columns) == 1:
            return sql.SQL("{}::text").format(columns[0])
        return sql.SQL("jsonb_build_array({})::text").format(sql.SQL(", ").join(columns))

    def page(self) -> sql.Composed:
        """Rows after `%(after)s` in the order of the key, `%(limit)s` of them."""
        columns = sql.SQL(", ").join(map(sql.Identifier, self.key))
        after = self._parsed(sql.SQL("%(after)s::text"))
        return sql.SQL(
            "{select} WHERE %(after)s::text IS NULL OR ({columns}) > ({after})"
            " ORDER BY {columns} LIMIT %(limit)s"
        ).format(select=self._select(), columns=columns, after=after)

    def by_keys(self) -> sql.Composed:
        """The rows of `%(keys)s`, by the table's own index."""
        columns = sql.SQL(", ").join(map(sql.Identifier, self.key))
        keys = self._parsed(sql.SQL("k"))
        return sql.SQL(
            "{select} WHERE ({columns}) IN (SELECT {keys} FROM unnest(%(keys)s::text[]) AS k)"
        ).format(select=self._select(), columns=columns, keys=keys)

    def _select(self) -> sql.Composable:
        pairs = [
            part for name in self.metadata for part in (sql.Literal(name), sql.Identifier(name))
        ]
        return sql.SQL(
            "SELECT {key} AS key, coalesce(({filter})::boolean, false) AS kept,"
            " coalesce(({title})::text, '') AS title, coalesce(({body})::text, '') AS body,"
            " coalesce(nullif(({tenant})::text, ''), {default}) AS tenant,"
            " jsonb_build_object({pairs}) AS metadata FROM {table}"
        ).format(
            key=self.key_of(),
            filter=_raw(self.filter),
            title=_raw(self.title),
            body=_raw(self.body),
            tenant=_raw(self.tenant),
            default=sql.Literal(DEFAULT_TENANT),
            pairs=sql.SQL(", ").join(pairs),
            table=self.relation,
        )

    def _parsed(self, text: sql.Composable) -> sql.Composable:
        """A key's text back to the types of its columns, so that the table's index serves."""
        if len(self.key) == 1:
            return sql.SQL("({})::{}").format(text, _raw(self.key_types[0]))
        parts = [
            sql.SQL("({}::jsonb ->> {})::{}").format(text, sql.Literal(place), _raw(kind))
            for place, kind in enumerate(self.key_types)
        ]
        return sql.SQL(", ").join(parts)


def _raw(expression: str) -> sql.SQL:
    """SQL of the operator's own revec.toml (or of the catalog); `%` is no placeholder in it."""
    return sql.SQL(expression.replace("%", "%%"))
