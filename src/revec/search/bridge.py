"""A query of the new model, as the old model's index would have it asked.

While documents still lack a vector of the new model, their old vectors are the only way to find them. A
rotation, fitted on documents that have both vectors, turns the new model's query into one for the old index.
It finds candidates; it never ranks an answer: that is for the new model's own vectors.

Orthogonal Procrustes (Schoenemann, "A generalized solution of the orthogonal Procrustes problem",
Psychometrika 31, 1966), on vectors centred in each space. Both spaces keep their angles, so few pairs are
enough; a regression would shrink what it is unsure of, and finds less here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from revec.model.errors import BadInput

Matrix = NDArray[np.float32]

LEAST_PAIRS = 100  # below it a map of hundreds of dims is mostly noise
ALIKE = 1e-6  # of the widest direction: a direction in which the pairs do not spread tells nothing
HEAD = struct.Struct("<16sIII")  # a name, pairs, dims of the new space, dims of the old one
NAME = b"revec bridge 1\n\0"


@dataclass(frozen=True, slots=True, eq=False)
class Bridge:
    """From the new space to the old one: about `old_mean`, turned by `turn` about `new_mean`."""

    pairs: int
    new_mean: Matrix  # (new_dims,)
    old_mean: Matrix  # (old_dims,)
    turn: Matrix  # (new_dims, old_dims), of singular values 1 and 0

    def to_old(self, query: ArrayLike) -> Matrix:
        """A query of the new space in the old one: (new_dims,) gives (old_dims,), of unit norm.

        Several at once, (queries, new_dims), give (queries, old_dims).

        Raises:
            BadInput: a query of other dims, of no direction, or one that is not finite.
        """
        vectors = _finite(query, "the query")
        new_dims = len(self.new_mean)
        if vectors.ndim not in {1, 2} or vectors.shape[-1] != new_dims:
            raise BadInput(f"the bridge takes queries of {new_dims} dims, not of shape {vectors.shape}")
        return _single(_unit((_unit(vectors) - self.new_mean) @ self.turn + self.old_mean))

    def dumps(self) -> bytes:
        """Little-endian, the turn in half precision: as exact as the vectors that are stored."""
        head = HEAD.pack(NAME, self.pairs, len(self.new_mean), len(self.old_mean))
        means = [mean.astype("<f4").tobytes() for mean in (self.new_mean, self.old_mean)]
        return b"".join([head, *means, self.turn.astype("<f2").tobytes()])

    @classmethod
    def loads(cls, data: bytes) -> Bridge:
        """
        Raises:
            BadInput: no bridge of this version, or not all of one.
        """
        name, pairs, new_dims, old_dims = HEAD.unpack_from(data) if len(data) >= HEAD.size else (b"", 0, 0, 0)
        means = 4 * (new_dims + old_dims)
        if name != NAME or len(data) != HEAD.size + means + 2 * new_dims * old_dims:
            raise BadInput(f"these {len(data):,} bytes are no bridge that this version reads: fit it again")
        both = np.frombuffer(data, "<f4", new_dims + old_dims, HEAD.size).astype(np.float32)
        turn = np.frombuffer(data, "<f2", offset=HEAD.size + means).astype(np.float32)
        if not (np.isfinite(both).all() and np.isfinite(turn).all()):
            raise BadInput("this bridge leads nowhere, it has a NaN or an infinity: fit it again")
        return cls(pairs, both[:new_dims], both[new_dims:], turn.reshape(new_dims, old_dims))


def fit(old: ArrayLike, new: ArrayLike) -> Bridge:
    """The bridge of documents that have both vectors: old (pairs, old_dims), new (pairs, new_dims).

    Dims may differ, either way: the turn keeps angles in as many directions as both spaces have, and as the
    pairs spread in. The work grows with the smaller dims times the larger ones squared: tens of milliseconds
    at 384, tens of seconds at 3,072, so in a thread.

    Raises:
        BadInput: not the same documents, too few, not finite, or all alike.
    """
    olds, news = _pairs(old, "old"), _pairs(new, "new")
    if len(olds) != len(news):
        raise BadInput(
            f"{len(olds):,} old vectors and {len(news):,} new ones are no pairs of the same documents"
        )
    if len(olds) < LEAST_PAIRS:
        raise BadInput(
            f"a bridge needs {LEAST_PAIRS} documents with both vectors, not {len(olds)}: let more be embedded"
        )
    old_mean, new_mean = olds.mean(axis=0), news.mean(axis=0)
    left, widths, right = np.linalg.svd((news - new_mean).T @ (olds - old_mean), full_matrices=False)
    if widths[0] <= ALIKE * len(olds):
        raise BadInput("all documents have nearly the same vector: no bridge can be fitted on them")
    # Where the pairs do not spread, any turn fits as well: better none than a random one.
    known = widths > ALIKE * widths[0]
    turn = left[:, known] @ right[known]
    return Bridge(len(olds), _single(new_mean), _single(old_mean), _single(turn))


def _pairs(vectors: ArrayLike, whose: str) -> NDArray[np.float64]:
    matrix = _finite(vectors, f"the {whose} vectors")
    if matrix.ndim != 2:  # noqa: PLR2004 - rows and columns
        raise BadInput(
            f"the {whose} vectors are of shape {matrix.shape}: one row for each document is wanted"
        )
    return _unit(matrix)


def _finite(vectors: ArrayLike, what: str) -> NDArray[np.float64]:
    matrix = np.asarray(vectors, dtype=np.float64)
    if not np.isfinite(matrix).all():
        raise BadInput(f"{what} must be finite numbers: something in between has made a NaN or an infinity")
    return matrix


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not norms.all():
        raise BadInput("a vector of zeros has no direction: such a one may not count as an answer")
    return np.asarray(vectors / norms)


def _single(vectors: NDArray[np.float64]) -> Matrix:
    return vectors.astype(np.float32)
