"""Which documents a search may show: a small JSON syntax over their metadata (docs/filters.md).

    {"lang": "en", "year": {"gte": 2020, "lt": 2024}, "not": {"status": {"in": ["draft", "spam"]}}}

Two-valued: a comparison with a field that a document lacks, or that is of another JSON type, is false, so
its `not` is true.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from revec.model.document import unstorable
from revec.model.errors import BadInput


class Operator(StrEnum):
    AND = "and"
    OR = "or"
    NOT = "not"
    EQ = "eq"
    IN = "in"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"


Scalar = str | int | float | bool

COMPARISONS = (Operator.EQ, Operator.IN, Operator.GT, Operator.GTE, Operator.LT, Operator.LTE)
EXAMPLE = '{"lang": "en", "year": {"gte": 2020}}'
DEEPEST = 8  # filters within filters
MOST_COMPARISONS = 100
MOST_VALUES = 1_000  # over all comparisons
LONGEST = 1_000  # characters of a name or a text
LARGEST_TEXT = 64 << 10  # characters of JSON
LARGEST_NUMBER = 10**300


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of one field with one value, or with several of which one has to be equal (`in`)."""

    field: str
    operator: Operator
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class All:
    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Either:
    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: Filter


Filter = Comparison | All | Either | Not


def read(text: str) -> Filter:
    """A filter from JSON.

    Raises:
        BadInput: what is wrong with it, and how it is written.
    """
    if len(text) > LARGEST_TEXT:
        raise BadInput(f"a filter has at most {LARGEST_TEXT:,} characters, this one has {len(text):,}")
    try:
        value = json.loads(text, object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the filter is not JSON ({error}): write one like {EXAMPLE}") from error
    return parsed(value)


def parsed(value: Any) -> Filter:
    """A filter from what its JSON holds.

    Raises:
        BadInput: what is wrong with it, and how it is written.
    """
    made = _filter(value, depth=1)
    comparisons = list(leaves(made))
    if len(comparisons) > MOST_COMPARISONS:
        raise BadInput(
            f"a filter has at most {MOST_COMPARISONS} comparisons, this one has {len(comparisons)}: "
            "several values of one field are one comparison with `in`"
        )
    if (values := sum(len(each.values) for each in comparisons)) > MOST_VALUES:
        raise BadInput(f"a filter has at most {MOST_VALUES:,} values, this one has {values:,}")
    return made


def both(*filters: Filter | None) -> Filter | None:
    """What all of them let through; None where there is none."""
    given = tuple(each for each in filters if each is not None)
    if not given:
        return None
    return given[0] if len(given) == 1 else All(given)


def leaves(where: Filter) -> Iterator[Comparison]:
    match where:
        case Comparison():
            yield where
        case Not(part):
            yield from leaves(part)
        case All(parts) | Either(parts):
            for part in parts:
                yield from leaves(part)


def require(where: Filter, known: Collection[Operator], store: str) -> None:
    """Refuse what the store cannot do; nothing is left out of a filter.

    Raises:
        BadInput: it cannot; what it can.
    """
    lacking = sorted({each for each in _operators(where) if each not in known})
    if lacking:
        can = ", ".join(each for each in Operator if each in known) or "no filter at all"
        raise BadInput(f"{store} cannot filter by {', '.join(lacking)}: it knows {can}")


def _operators(where: Filter) -> Iterator[Operator]:
    match where:
        case Comparison():
            yield where.operator
        case Not(part):
            yield Operator.NOT
            yield from _operators(part)
        case All(parts) | Either(parts):
            yield Operator.AND if isinstance(where, All) else Operator.OR
            for part in parts:
                yield from _operators(part)


# --- from JSON ------------------------------------------------------------------------------------


def _filter(value: Any, depth: int) -> Filter:
    """An object: every member of it has to hold."""
    if not isinstance(value, Mapping):
        raise BadInput(f"a filter is an object like {EXAMPLE}, not {_kind(value)}")
    if not value:
        raise BadInput(f"an empty filter says nothing: leave it out, or name a field as in {EXAMPLE}")
    if depth > DEEPEST:
        raise BadInput(f"the filter is nested more than {DEEPEST} deep: write it flatter")
    parts = tuple(_member(name, inner, depth) for name, inner in value.items())
    return parts[0] if len(parts) == 1 else All(parts)


def _member(name: Any, value: Any, depth: int) -> Filter:
    match name:
        case Operator.AND | Operator.OR:
            if not isinstance(value, list | tuple) or not value:
                raise BadInput(f"`{name}` takes a list of filters, at least one, not {_kind(value)}")
            parts = tuple(_filter(each, depth + 1) for each in value)
            return All(parts) if name == Operator.AND else Either(parts)
        case Operator.NOT:
            return Not(_filter(value, depth + 1))
        case str():
            return _field(_text(name, "a field's name"), value)
        case _:
            raise BadInput(f"a field's name is text, not {_kind(name)}")


def _field(name: str, value: Any) -> Filter:
    """A value to be equal to, or an object of comparisons that all have to hold."""
    if not isinstance(value, Mapping):
        return Comparison(name, Operator.EQ, (_scalar(name, value),))
    if not value:
        raise _malformed(name, "is compared with nothing")
    parts = tuple(_comparison(name, operator, operand) for operator, operand in value.items())
    return parts[0] if len(parts) == 1 else All(parts)


def _comparison(name: str, operator: Any, operand: Any) -> Comparison:
    if operator not in COMPARISONS:
        raise _malformed(name, f"has no comparison {operator!r}")
    operator = Operator(operator)
    if operator is Operator.IN:
        if not isinstance(operand, list | tuple):
            raise _malformed(name, f"takes a list with `in`, not {_kind(operand)}")
        return Comparison(name, operator, tuple(_scalar(name, each) for each in operand))
    value = _scalar(name, operand)
    if operator is not Operator.EQ and isinstance(value, bool):
        raise _malformed(name, f"cannot be {operator} {_kind(value)}: that takes a number or a text")
    return Comparison(name, operator, (value,))


def _scalar(name: str, value: Any) -> Scalar:
    match value:
        case bool():
            return value
        case int() | float():
            if not math.isfinite(value) if isinstance(value, float) else abs(value) > LARGEST_NUMBER:
                raise _malformed(name, "is compared with a number that is none, or too large")
            return value
        case str():
            return _text(value, f"what {name!r} is compared with")
        case list() | tuple():
            raise _malformed(name, 'is compared with a list: write {"in": [...]}')
        case _:
            raise _malformed(
                name, f"is compared with {_kind(value)}: that takes a text, a number, true or false"
            )


def _text(value: str, what: str) -> str:
    if len(value) > LONGEST:
        raise BadInput(f"the filter: {what} has {len(value):,} characters, {LONGEST:,} are allowed")
    if why := unstorable(value):
        raise BadInput(f"the filter: {what} {why}")
    return value


def _malformed(name: str, what: str) -> BadInput:
    return BadInput(f"the filter: {name!r} {what} (there is {', '.join(COMPARISONS)})")


def _distinct(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON lets a name stand twice, and readers keep the last: here neither is dropped unseen."""
    made = dict(members)
    if len(made) < len(members):
        names = [name for name, _ in members]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadInput(f'the filter names {twice!r} twice in one object: join them by {{"and": [...]}}')
    return made


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list() | tuple():
            return "a list" if value else "an empty list"
        case _:
            return "an object"
