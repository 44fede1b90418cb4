"""From the vectors in a JSON answer to one float32 matrix."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable

import numpy as np

from revec.providers.base import Matrix

FLOAT32 = np.dtype("<f4")


class Garbled(Exception):
    """What is wrong with an answer: the rest of a sentence, never shown alone."""


def by_index(data: list[object]) -> Iterable[tuple[object, object]]:
    """(index, vector) of each item, where the wire has both: OpenAI's, Voyage's."""
    for item in data:
        yield (item.get("index"), item.get("embedding")) if isinstance(item, dict) else (None, None)


def matrix_of(vectors: Iterable[tuple[object, object]], inputs: int) -> Matrix:
    """Row i is the vector that carries index i, wherever it stands in the answer.

    Raises:
        Garbled: an index or a vector is missing, twice, or none.
    """
    matrix: Matrix | None = None
    seen = set()
    for index, vector in vectors:
        if type(index) is not int or not 0 <= index < inputs:  # True is an int, but no index
            raise Garbled(f"a vector of index {index!r:.20}")
        if index in seen:
            raise Garbled(f"two vectors of index {index}")
        seen.add(index)
        row = row_of(vector)
        if matrix is None:
            matrix = np.empty((inputs, len(row)), np.float32)
        if len(row) != matrix.shape[1]:
            raise Garbled(f"vectors of {matrix.shape[1]} and of {len(row)} dims")
        matrix[index] = row
    if matrix is None or len(seen) != inputs:
        raise Garbled(f"{len(seen)} vectors")
    return matrix


def row_of(vector: object) -> Matrix:
    try:
        if isinstance(vector, str):
            return np.frombuffer(base64.b64decode(vector, validate=True), FLOAT32)
        row = np.array(vector)
    except ValueError as error:
        raise Garbled("a vector that is neither base64 of float32 nor a list") from error
    if row.ndim != 1 or row.dtype.kind not in "fiu":
        raise Garbled("a vector that is neither base64 of float32 nor a list of numbers")
    with np.errstate(over="ignore"):  # it becomes infinity, which is refused by name
        return row.astype(np.float32)


MOST_TOKENS = 2**53  # of one call; more is no count
COUNT = re.compile(r"[0-9]{1,16}")


def count_in(said: object, *path: str) -> int | None:
    """A count at the end of the path, where the answer has one; some write it as a string."""
    for name in path:
        said = said.get(name) if isinstance(said, dict) else None
    if isinstance(said, str) and COUNT.fullmatch(said):
        said = int(said)
    return said if type(said) is int and 0 <= said < MOST_TOKENS else None
