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
from math import exp, log, log2, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from revec.model.bridging import DEPTH, LEAST_PAIRS
from revec.model.errors import BadInput

Matrix = NDArray[np.float32]
Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

K = 10  # of the new space's nearest documents: how many of them are candidates
ENOUGH = 0.6  # of these, as estimated
SURELY = 0.5  # of these, at the lower end
PROBES = 200  # documents of each half that stand in for queries
SURE = NormalDist().inv_cdf(0.95)  # an end of an interval is wrong in 1 of 20

ALIKE = 1e-5  # of the widest direction: a direction in which the pairs do not spread tells nothing
HEAD = struct.Struct("<16sIII")  # a name, pairs, dims of the new space, dims of the old one
NAME = b"revec bridge 1\n\0"


@dataclass(frozen=True, slots=True, eq=False)
class Bridge:
    """From the new space to the old one: about `old_mean`, turned by `turn` about `new_mean`."""

    pairs: int
    new_mean: Matrix  # (new_dims,)
    old_mean: Matrix  # (old_dims,)
    turn: Matrix  # (new_dims, old_dims), of singular values 1 and 0

    @property
    def nbytes(self) -> int:
        return self.new_mean.nbytes + self.old_mean.nbytes + self.turn.nbytes

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
        turned = (_unit(vectors) - self.new_mean) @ self.turn
        return _unit(np.add(turned, self.old_mean, dtype=np.float32))

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
    pairs spread in. The work grows with the smaller dims squared times the larger ones: milliseconds at 256
    and 384, seconds at 1,536 and 3,072, so in a thread.

    Raises:
        BadInput: not the same documents, too few, not finite, or all alike.
    """
    olds, news = _pairs(old, new, least=LEAST_PAIRS)
    old_mean, new_mean = olds.mean(axis=0), news.mean(axis=0)
    left, widths, right = np.linalg.svd((news - new_mean).T @ (olds - old_mean), full_matrices=False)
    if widths[0] <= ALIKE * len(olds):
        raise BadInput("all documents have nearly the same vector: no bridge can be fitted on them")
    # Where the pairs do not spread, any turn fits as well: better none than a random one.
    known = widths > ALIKE * widths[0]
    return Bridge(len(olds), new_mean, old_mean, left[:, known] @ right[known])


@dataclass(frozen=True, slots=True)
class Measure:
    """The share of the new space's `K` nearest documents that are candidates while none is migrated yet."""

    pairs: int
    share: float  # as estimated
    low: float  # hardly less, hardly more than high: wrong in 1 of 6 draws, by .05 at most
    high: float
    status_quo: float  # what the old index's own `K` nearest hold, in a collection of half the pairs
    holds: bool
    why: str

    def at(self, migrated: float) -> float:
        """The share once so many of all documents, in [0, 1], have new vectors: candidates all of them."""
        return migrated + (1 - migrated) * self.share


def measure(old: ArrayLike, new: ArrayLike, *, of: int, drawn: ArrayLike | None = None) -> Measure:
    """What bridges are worth to a collection of `of` documents, without judgements, by some of them.

    Old (pairs, old_dims) and new (pairs, new_dims); `drawn`, of shape (pairs,), says which of these documents
    were drawn at random (None: all). Each half of the drawn ones is searched as a small collection, over the
    bridge of all other pairs; documents are the queries, and not among their own hits. What was not drawn is
    only learnt from: documents of one corner have their nearest there as well, and say little of the others.
    Such queries found shares within .10 of real ones', on four judged collections.

    In a larger collection more crowds in, and the share falls. It is taken to lie between what a half shows
    (`high`) and a straight line through a quarter and a half, of its logit over doublings (`low`); both ends
    are widened by the error of a mean over queries (Student, "The probable error of a mean", Biometrika 6,
    1908, with the normal quantile; carried to the line by the delta method). `share` is the middle. Drawn
    from those collections, of up to 10,003 documents, 5 of 6 intervals held the truth, and the others missed
    it by at most .05; what lies beyond, as many near-duplicates that no sample shows, nobody has looked at.

    It tells how well candidates are found, and not which model is better: that takes judgements. Where the
    two agree on little, much is at stake with nothing known, and it does not hold.

    Raises:
        BadInput: what `fit` refuses; enough for two bridges have to be drawn.
    """
    olds, news = _pairs(old, new, least=2 * LEAST_PAIRS)
    one, other, learnt = _parts(
        np.ones(len(olds), np.bool_) if drawn is None else np.asarray(drawn, np.bool_)
    )
    pairs = len(one) + len(other)
    sides = [
        _held(olds[half], news[half], fit(olds[rest], news[rest]))
        for half, rest in ((one, np.append(other, learnt)), (other, np.append(one, learnt)))
    ]
    half, quarter, status_quo = np.concatenate(sides, axis=1)
    line, low = _along(quarter, half, doublings=max(0.0, log2(2 * of / pairs)))
    high = min(1.0, float(half.mean() + SURE * half.std(ddof=1) / sqrt(len(half))))
    share = (line + float(half.mean())) / 2
    why = (
        f"an estimated {share:.0%} of the new model's {K} best are found ({low:.0%} to {high:.0%}; by "
        f"{pairs:,} documents with both vectors, of {of:,})"
    )
    holds = share >= ENOUGH and low >= SURELY
    if not holds:
        lacks = "too little: the models differ too much" if high < ENOUGH else "more documents have to say so"
        why = f"{why}, at least {ENOUGH:.0%} are wanted, {SURELY:.0%} for sure: {lacks}"
    return Measure(pairs, share, low, high, float(status_quo.mean()), holds, why)


def _parts(drawn: NDArray[np.bool_]) -> tuple[Rows, Rows, Rows]:
    """Two random halves of what was drawn, and the rest; the same pairs, the same answer.

    Raises:
        BadInput: too few were drawn.
    """
    sample = np.flatnonzero(drawn)
    if len(sample) < 2 * LEAST_PAIRS:
        raise BadInput(
            f"a bridge is measured by {2 * LEAST_PAIRS} documents of the sample, {len(sample)} are there"
        )
    one, other = np.array_split(sample[np.random.default_rng(0).permutation(len(sample))], 2)
    return one, other, np.flatnonzero(~drawn)


def _held(olds: Matrix, news: Matrix, bridge: Bridge) -> Floats:
    """For each of the first documents as a query: the share held by the candidates of all these documents,
    of half of them on average, and by the old index's nearest; shape (3, queries).
    """
    turned = bridge.to_old(news)
    everything = np.arange(len(olds))
    whole, status_quo = _shares(olds, news, turned, everything)
    parts = [_shares(olds, news, turned, part)[0] for part in np.array_split(everything, 2)]
    return np.stack([whole, np.mean(parts, axis=0), status_quo])


def _shares(olds: Matrix, news: Matrix, turned: Matrix, part: Rows) -> tuple[Floats, Floats]:
    """In a collection of these documents, for each query: the share of the new space's `K` nearest that the
    candidates hold, and that the old space's `K` nearest hold.
    """
    queries = np.arange(min(PROBES, len(olds)))
    itself = queries[:, None] == part

    def nearest(asked: Matrix, documents: Matrix, most: int) -> NDArray[np.bool_]:
        scores = asked[queries] @ documents[part].T
        scores[itself] = -np.inf
        found = np.zeros(scores.shape, np.bool_)
        np.put_along_axis(found, np.argpartition(-scores, most, axis=1)[:, :most], values=True, axis=1)
        return found

    best = nearest(news, news, K)
    candidates = nearest(olds, olds, DEPTH) | nearest(turned, olds, DEPTH)
    return (best & candidates).sum(axis=1) / K, (best & nearest(olds, olds, K)).sum(axis=1) / K


def _along(quarter: Floats, half: Floats, *, doublings: float) -> tuple[float, float]:
    """The mean share so many doublings further, by a line through both logits, and its lower end."""
    (before, steep_before), (after, steep_after) = _logit(quarter), _logit(half)
    if after > before:
        doublings = 0.0
    # What a query adds to the logit: the derivative of the line by its share.
    each = (1 + doublings) * steep_after * half - doublings * steep_before * quarter
    line = after + doublings * (after - before)
    error = SURE * float(each.std(ddof=1)) / sqrt(len(each))
    return _expit(line), _expit(line - error)


def _logit(shares: Floats) -> tuple[float, float]:
    """Of their mean, and its derivative there; as if half a document more had been found, and half missed."""
    mean = (float(shares.sum()) * K + 0.5) / (len(shares) * K + 1)
    return log(mean / (1 - mean)), 1 / (mean * (1 - mean))


def _expit(logit: float) -> float:
    return 1 / (1 + exp(-logit))


def _pairs(old: ArrayLike, new: ArrayLike, *, least: int) -> tuple[Matrix, Matrix]:
    olds, news = _rows(old, "old"), _rows(new, "new")
    if len(olds) != len(news):
        raise BadInput(f"{len(olds):,} old and {len(news):,} new vectors are no pairs of the same documents")
    if len(olds) < least:
        raise BadInput(
            f"a bridge needs {least} documents with both vectors, not {len(olds)}: let more be embedded"
        )
    return olds, news


def _rows(vectors: ArrayLike, whose: str) -> Matrix:
    matrix = _finite(vectors, f"the {whose} vectors")
    if matrix.ndim != 2:  # noqa: PLR2004 - rows and columns
        raise BadInput(
            f"the {whose} vectors have to be one row for each document, not of shape {matrix.shape}"
        )
    return _unit(matrix)


def _finite(vectors: ArrayLike, what: str) -> Matrix:
    matrix = np.asarray(vectors, dtype=np.float32)
    if not np.isfinite(matrix).all():
        raise BadInput(f"{what} must be finite numbers: something in between has made a NaN or an infinity")
    return matrix


def _unit(vectors: Matrix) -> Matrix:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not norms.all():
        raise BadInput("a vector of zeros has no direction: such a one may not count as an answer")
    return np.asarray(vectors / norms, np.float32)
