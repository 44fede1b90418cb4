"""What is looked at before anything is asked, so that both ways refuse the same in the same words."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from revec.model.document import unstorable
from revec.model.errors import BadInput
from revec.model.limits import (
    LONGEST_FILTER,
    LONGEST_NAME,
    LONGEST_QUERY,
    LONGEST_WAIT,
    MOST_DOCUMENTS,
    MOST_HITS,
)
from revec.model.reading import Mode


def text(what: str, value: Any) -> str:
    """
    Raises:
        BadInput: it is no text, or none that the database can hold.
    """
    if not isinstance(value, str):
        raise BadInput(f"{what} is no text but {type(value).__name__}")
    if why := unstorable(value):
        raise BadInput(f"{what} {why}")
    return value


def name(what: str, value: Any) -> str:
    """
    Raises:
        BadInput: it is empty, too long or no text.
    """
    said = text(what, value)
    if not 0 < len(said) <= LONGEST_NAME:
        raise BadInput(f"{what} has 1 to {LONGEST_NAME:,} characters, not {len(said):,}")
    return said


def query(value: Any) -> str:
    """
    Raises:
        BadInput: it is too long or no text.
    """
    said = text("the query", value)
    if len(said) > LONGEST_QUERY:
        raise BadInput(f"a query has at most {LONGEST_QUERY:,} characters, this one has {len(said):,}")
    return said


def k(value: Any) -> int:
    """
    Raises:
        BadInput: it is no number of hits that can be asked for.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_HITS:
        raise BadInput(f"k takes 1 to {MOST_HITS:,}, not {value!r}")
    return value


def mode(value: Any) -> Mode:
    """
    Raises:
        BadInput: there is no such mode.
    """
    try:
        return Mode(value)
    except ValueError:
        raise BadInput(f"there is no mode {value!r} ({', '.join(Mode)})") from None


def filter_of(value: Mapping[str, Any] | str | None) -> str | None:
    """As JSON.

    Raises:
        BadInput: it is too long, or JSON has not what it holds.
    """
    if value is None:
        return None
    try:
        said = value if isinstance(value, str) else json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(f"the filter cannot be written as JSON: {error}") from error
    if len(said) > LONGEST_FILTER:
        raise BadInput(f"a filter has at most {LONGEST_FILTER:,} characters, this one has {len(said):,}")
    return text("the filter", said)


def threshold(value: Any) -> float | None:
    """
    Raises:
        BadInput: no two vectors have such a similarity.
    """
    if value is None:
        return None
    if not isinstance(value, int | float) or not -1 <= value <= 1:
        raise BadInput(f"a threshold is a cosine similarity, -1 to 1, not {value!r}")
    return float(value)


def vector(value: Any) -> list[float] | None:
    """
    Raises:
        BadInput: it is no list of finite numbers.
    """
    if value is None:
        return None
    try:
        numbers = [float(number) for number in value]
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"the vector is no list of numbers: {error}") from error
    if not all(map(math.isfinite, numbers)):
        raise BadInput("the vector holds NaN or infinity")
    return numbers


def ids(values: Iterable[Any]) -> list[str]:
    """
    Raises:
        BadInput: they are no ids, or too many.
    """
    if isinstance(values, str):  # its letters would be taken for ids
        raise BadInput(f"ids are several: write [{values!r}]")
    return several([name("an id", str(each) if type(each) is int else each) for each in values])


def several(values: list[Any]) -> list[Any]:
    """
    Raises:
        BadInput: more than can be written at once.
    """
    if len(values) > MOST_DOCUMENTS:
        raise BadInput(f"at most {MOST_DOCUMENTS:,} documents at a time, not {len(values):,}: send parts")
    return values


def wait(value: Any) -> float | None:
    """
    Raises:
        BadInput: so long nobody waits.
    """
    if value is None:
        return None  # as the collection's mode has it
    if not isinstance(value, int | float) or not 0 <= value <= LONGEST_WAIT:
        raise BadInput(f"wait takes 0 to {LONGEST_WAIT:g} seconds, not {value!r}")
    return float(value)
