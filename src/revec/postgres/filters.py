"""A filter as a condition of SQL: composed of fixed parts, every name and value a parameter."""

from __future__ import annotations

from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from revec.model.filter import All, Comparison, Either, Filter, Not, Operator
from revec.postgres.queries import beside

SQL = beside(__file__)

# What a range asks of each element, in the JSON path language; strict, which looks into no list in a list.
PATHS = {
    Operator.GT: "strict $[*] ? (@ > $value)",
    Operator.GTE: "strict $[*] ? (@ >= $value)",
    Operator.LT: "strict $[*] ? (@ < $value)",
    Operator.LTE: "strict $[*] ? (@ <= $value)",
}


def condition(where: Filter | None) -> tuple[sql.Composable, dict[str, Any]]:
    """A condition over the document `d`, never NULL, and its parameters; `true` without a filter."""
    if where is None:
        return SQL.everything, {}
    parameters: dict[str, Any] = {}
    return _composed(where, parameters), parameters


def among(where: Filter | None) -> tuple[sql.Composable, dict[str, Any]]:
    """The same for rows `v` of vectors, by the live document of each."""
    if where is None:
        return SQL.everything, {}
    matching, parameters = condition(where)
    return SQL.of_live_document.format(matching=matching), parameters


def _composed(where: Filter, parameters: dict[str, Any]) -> sql.Composable:
    match where:
        case Comparison():
            return _comparison(where, parameters)
        case Not(part):
            return SQL.negation.format(part=_composed(part, parameters))
        case All(parts) | Either(parts):
            joint = sql.SQL(" AND " if isinstance(where, All) else " OR ")
            return SQL.group.format(parts=joint.join([_composed(part, parameters) for part in parts]))


def _comparison(asked: Comparison, parameters: dict[str, Any]) -> sql.Composable:
    def put(value: Any) -> sql.Placeholder:
        name = f"where_{len(parameters)}"
        parameters[name] = value
        return sql.Placeholder(name)

    if asked.operator in PATHS:
        return SQL.in_range.format(
            field=put(asked.field), path=put(PATHS[asked.operator]), value=put(Jsonb(asked.values[0]))
        )
    return SQL.one_of.format(field=put(asked.field), values=put([Jsonb(value) for value in asked.values]))
