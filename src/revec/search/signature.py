"""What a caller is called, takes and gives back: as somebody says, or as a function of theirs has it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import psycopg
from psycopg import sql

from revec.model.errors import BadInput, NotFound
from revec.postgres import callers
from revec.postgres.callers import Function, Type
from revec.postgres.database import Connection, first_line

_NAMED = re.compile(r"(?P<name>[^:=]+)(?::(?P<type>[^=]+))?(?:=(?P<expression>.+))?", re.DOTALL)


class Means(StrEnum):
    """What an argument is for."""

    QUERY = "query"
    THRESHOLD = "threshold"
    COUNT = "count"
    TENANT = "tenant"
    SPACE = "space"


BY_TYPE = {
    **dict.fromkeys(("vector", "halfvec"), Means.QUERY),
    **dict.fromkeys(("float4", "float8", "numeric"), Means.THRESHOLD),
    **dict.fromkeys(("int2", "int4", "int8"), Means.COUNT),
}
USUAL = {
    Means.QUERY: "vector",
    Means.THRESHOLD: "double precision",
    Means.COUNT: "integer",
    Means.TENANT: "text",
    Means.SPACE: "text",
}
IN_ORDER = (Means.QUERY, Means.THRESHOLD, Means.COUNT)


@dataclass(frozen=True, slots=True)
class Taken:
    """An argument, by its place."""

    name: str
    type: str
    means: Means
    default: str | None = None

    @property
    def declared(self) -> sql.Composable:
        default = "" if self.default is None else f" DEFAULT {self.default}"
        return sql.SQL("{} {}").format(sql.Identifier(self.name), raw(self.type + default))


@dataclass(frozen=True, slots=True)
class Given:
    """A column that comes back."""

    name: str
    type: str
    expression: str | None  # over the table's row; None: it is the score


@dataclass(frozen=True, slots=True)
class Said:
    """What somebody says of the caller that he wants; None and nothing: the usual."""

    function: str | None = None
    like: str | None = None  # a function of theirs that it stands in for
    arguments: Sequence[str] = ()  # name, or name:type
    returns: Sequence[str] = ()  # column, name=expression, or the name of the score
    tenant: str | None = None  # an argument, or SQL
    space: str | None = None  # the argument that says which space the vector is of
    source: str | None = None
    is_raw: bool = False  # thresholds and scores are those of each space


async def existing(conn: Connection, named: str) -> Function:
    """
    Raises:
        NotFound: there is none, or several.
        BadInput: it gives no rows with named columns back.
    """
    found = await callers.function(conn, named)
    if found is None:
        raise NotFound(
            f"there is no one function {named!r}: name it with its types, "
            "as schema.match(vector, double precision, integer)"
        )
    if not found.is_set or not found.outputs:
        raise BadInput(
            f"{found.shown} does not return a table of named columns, so nobody can tell which are wanted: "
            "say --args and --returns instead of --like"
        )
    return found


async def taken(conn: Connection, said: Said, like: Function | None) -> list[Taken]:
    """The arguments in their order; one that says the space comes last where it was not among them.

    Raises:
        BadInput: nobody can tell what one of them is for, or none is the query.
    """
    found = _likewise(said, like) if like and not said.arguments else await _said(conn, said)
    if said.space and said.space not in {each.name for each in found}:
        found.append(Taken(said.space, "text", Means.SPACE, "NULL"))
    meant = [each.means for each in found]
    if twice := next((means for means in Means if meant.count(means) > 1), None):
        raise BadInput(f"two arguments are the {twice}: say --args with one")
    if Means.QUERY not in meant:
        raise BadInput("no argument is the query: one of type vector or halfvec is")
    return found


def _likewise(said: Said, like: Function) -> list[Taken]:
    found = []
    for each in like.inputs:
        means = _asked_for(said, each.name) or BY_TYPE.get(each.type.base)
        if means is None:
            raise BadInput(
                f"argument {each.name!r} of {like.shown} ({each.type.shown}) is no vector, threshold or "
                "count: say --tenant or --space of it, or leave it out with --args"
            )
        found.append(Taken(each.name, each.type.shown, means, each.default))
    return found


async def _said(conn: Connection, said: Said) -> list[Taken]:
    found: list[Taken] = []
    usual = iter(IN_ORDER)
    for text in said.arguments or ("query_embedding", "match_threshold", "match_count"):
        name, type_name, expression = parted(text)
        if expression is not None:
            raise BadInput(f"{text!r} is no argument: write name, or name:type")
        means = _asked_for(said, name)
        kind = await _type(conn, type_name) if type_name else None
        if means is None:
            means = BY_TYPE.get(kind.base) if kind else next(usual, None)
        if means is None:
            raise BadInput(
                f"nobody can tell what argument {name!r} is for: the first is the query, then come threshold "
                "and count, and --tenant or --space name others; with its type a name may stand anywhere"
            )
        found.append(Taken(name, (kind or await _type(conn, USUAL[means])).shown, means))
    return found


def _asked_for(said: Said, name: str) -> Means | None:
    if name == said.tenant:
        return Means.TENANT
    return Means.SPACE if name == said.space else None


async def _type(conn: Connection, name: str) -> Type:
    found = await callers.type_named(conn, name)
    if found is None:
        raise BadInput(f"there is no type {name!r} in this database")
    return found


async def given(
    conn: Connection, said: Said, like: Function | None, columns: Sequence[str], table: sql.Composable
) -> list[Given]:
    """The columns in their order. What is neither a column of the table nor an expression is the score.

    Raises:
        BadInput: there would be two scores, or an expression does not run.
    """
    expressions = {name: expression for name, _, expression in map(parted, said.returns)}
    types = {each.name: each.type.shown for each in like.outputs} if like else {}
    found = []
    for name in types or expressions:
        expression, type_name = expressions.get(name), types.get(name)
        if expression is None and name in columns:
            expression = sql.Identifier(name).as_string()
        if expression is None:
            found.append(Given(name, type_name or "double precision", None))
            continue
        try:
            kind = await callers.type_of(conn, raw(expression), table)
        except psycopg.Error as error:
            raise BadInput(f"column {name!r} does not run: {first_line(error)}") from error
        found.append(Given(name, type_name or kind.shown, expression))
    scores = [each.name for each in found if each.expression is None]
    if len(scores) > 1:
        raise BadInput(
            f"{' and '.join(scores)} are no columns of the table, and one score is enough: "
            "say the others as name=EXPRESSION with --returns"
        )
    return found


def parted(text: str) -> tuple[str, str | None, str | None]:
    """`name:type=expression` → its parts.

    Raises:
        BadInput: there is no name.
    """
    matched = _NAMED.fullmatch(text.strip())
    if matched is None or not matched["name"].strip():
        raise BadInput(f"{text!r} has no name: write name, name:type or name=expression")
    name, *others = (part.strip() if part else None for part in matched.group("name", "type", "expression"))
    assert name is not None
    return name, *others  # type: ignore[return-value]


def raw(text: str) -> sql.SQL:
    """SQL of the operator's own, or of the catalog."""
    literal: Any = text
    return sql.SQL(literal)
