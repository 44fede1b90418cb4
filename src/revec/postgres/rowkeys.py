"""The keys of the users' rows: one text each, and back to the types of their columns."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql


def parsed(text: sql.Composable, types: Sequence[str]) -> sql.Composable:
    """A key's text as the values of its columns, so that the table's own index serves."""
    if len(types) == 1:
        return sql.SQL("({})::{}").format(text, type_of(types[0]))
    parts = [
        sql.SQL("({}::jsonb ->> {})::{}").format(text, sql.Literal(place), type_of(kind))
        for place, kind in enumerate(types)
    ]
    return sql.SQL(", ").join(parts)


def raw(expression: str) -> sql.SQL:
    """SQL of the operator's own revec.toml (or of the catalog); `%` is no placeholder in it."""
    return sql.SQL(expression.replace("%", "%%"))


def escaped(part: sql.Composable) -> sql.SQL:
    return raw(part.as_string())


def type_of(kind: str) -> sql.SQL:
    return raw("bpchar" if kind == "character" else kind)  # `character` alone is one letter
