"""A bridge is a rotation where there is one, and says how well it will do where there is not."""

from __future__ import annotations

import numpy as np
import pytest

from revec.model.errors import BadInput
from revec.search import bridge
from revec.search.bridge import Bridge

Matrix = np.ndarray


def unit(vectors: Matrix) -> Matrix:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def turn(rng: np.random.Generator, rows: int, columns: int) -> Matrix:
    """Orthonormal rows or columns, whichever are fewer."""
    square, _ = np.linalg.qr(rng.normal(size=(max(rows, columns),) * 2))
    return square[:rows, :columns]


def two_spaces(
    rng: np.random.Generator,
    count: int,
    *,
    noise: float,
    dims: tuple[int, int] = (24, 32),
    clusters: int = 40,
) -> tuple[Matrix, Matrix]:
    """Documents in clusters as two models see them: the same latent vectors, turned, each with its own noise."""
    latent = rng.normal(size=(clusters, 16))[rng.integers(clusters, size=count)]
    latent = latent + 0.7 * rng.normal(size=latent.shape)
    seen = [unit(latent) @ turn(rng, 16, each) for each in dims]
    old, new = (unit(one + noise * rng.normal(size=one.shape) / np.sqrt(one.shape[1])) for one in seen)
    return old, new


@pytest.mark.parametrize("seed", range(5))
def test_a_rotation_is_found_exactly(seed: int) -> None:
    """Queries that no document is near, too: they come out where the other space has them."""
    rng = np.random.default_rng(seed)
    old, query = unit(rng.normal(size=(300, 48))), unit(rng.normal(size=(20, 48)))
    away = turn(rng, 48, 48)
    found = bridge.fit(old, old @ away)
    assert found.pairs == 300
    assert found.to_old(query @ away) == pytest.approx(query, abs=1e-5)
    assert found.to_old(7 * query[0] @ away) == pytest.approx(query[0], abs=1e-5)


@pytest.mark.parametrize(("old_dims", "new_dims"), [(16, 48), (48, 16), (31, 32)])
def test_dims_may_differ_either_way(old_dims: int, new_dims: int) -> None:
    """What both spaces know is kept wholly: here all that the smaller one has, in one corner of the larger."""
    rng = np.random.default_rng(1)
    common = min(old_dims, new_dims)
    latent, query = unit(rng.normal(size=(400, common))), unit(rng.normal(size=(10, common)))
    to_old, to_new = turn(rng, common, old_dims), turn(rng, common, new_dims)
    found = bridge.fit(latent @ to_old, latent @ to_new)
    turned = found.to_old(query @ to_new)
    assert turned.shape == (10, old_dims)
    assert turned.dtype == np.float32
    assert turned == pytest.approx(query @ to_old, abs=1e-5)


def test_angles_survive_where_the_pairs_spread() -> None:
    """With fewer pairs than dims, what they do not reach is left out rather than turned at random."""
    rng = np.random.default_rng(2)
    old, new = two_spaces(rng, 120, noise=0.0, dims=(200, 300))
    found = bridge.fit(old, new)
    widths = np.linalg.svd(found.turn, compute_uv=False)
    assert widths[:16] == pytest.approx(1.0, abs=1e-4)
    assert widths[16:] == pytest.approx(0.0, abs=1e-4)


def test_spaces_that_lean_to_one_side_are_centred_first() -> None:
    """Models whose vectors share a large part of themselves: the rest is what is turned."""
    rng = np.random.default_rng(3)
    latent = 0.1 * rng.normal(size=(400, 20))
    away = turn(rng, 20, 20)
    old_lean, new_lean = 5 * rng.normal(size=20), 5 * rng.normal(size=20)
    old, new = unit(latent + old_lean), unit(latent @ away + new_lean)
    found = bridge.fit(old[:300], new[:300])
    nearest = (found.to_old(new[300:]) @ old[300:].T).argmax(axis=1)
    assert (nearest == np.arange(100)).mean() > 0.7
    assert ((new[300:] @ old[300:].T).argmax(axis=1) == np.arange(100)).mean() < 0.1


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (np.ones((99, 4)), np.ones((99, 4)), "needs 100 documents with both vectors, not 99"),
        (np.ones((0, 4)), np.ones((0, 4)), "needs 100 documents with both vectors, not 0"),
        (np.ones((100, 4)), np.ones((101, 4)), "100 old and 101 new vectors are no pairs"),
        (np.ones((100, 4)), np.ones((100, 4)), "nearly the same vector"),
        (np.zeros((100, 4)), np.ones((100, 4)), "a vector of zeros has no direction"),
        (np.full((100, 4), np.nan), np.ones((100, 4)), "the old vectors must be finite"),
        (np.ones((100, 4)), np.full((100, 4), np.inf), "the new vectors must be finite"),
        (np.ones(100), np.ones((100, 4)), "one row for each document"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_a_sentence(old: Matrix, new: Matrix, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        bridge.fit(old, new)


def test_one_constant_side_is_no_space() -> None:
    rng = np.random.default_rng(4)
    with pytest.raises(BadInput, match="nearly the same vector"):
        bridge.fit(np.ones((200, 8)), rng.normal(size=(200, 8)))


def test_a_query_has_to_be_one_of_the_new_space() -> None:
    rng = np.random.default_rng(5)
    found = bridge.fit(*two_spaces(rng, 200, noise=0.1))
    with pytest.raises(BadInput, match=r"queries of 32 dims, not of shape \(24,\)"):
        found.to_old(np.ones(24))
    with pytest.raises(BadInput, match="the query must be finite"):
        found.to_old(np.full(32, np.nan))
    with pytest.raises(BadInput, match="no direction"):
        found.to_old(np.zeros(32))


def test_what_is_kept_is_what_was_fitted() -> None:
    """As bytes and back: the same pairs and dims, and queries within the precision of stored vectors."""
    rng = np.random.default_rng(6)
    made = bridge.fit(*two_spaces(rng, 300, noise=0.2))
    kept = made.dumps()
    found = Bridge.loads(kept)
    queries = unit(rng.normal(size=(50, 32)))
    assert found.pairs == made.pairs == 300
    assert found.to_old(queries) == pytest.approx(made.to_old(queries), abs=1e-3)
    assert found.dumps() == kept
    assert len(kept) < 2 * 24 * 32 + 4 * (24 + 32) + 64


def test_foreign_bytes_are_refused() -> None:
    """Nothing, noise, another version's, a part, a part too many, and one that leads nowhere."""
    rng = np.random.default_rng(7)
    kept = bridge.fit(*two_spaces(rng, 200, noise=0.1)).dumps()
    other_version = kept.replace(b"bridge 1", b"bridge 2")
    for data in (b"", b"PK\x03\x04", rng.bytes(len(kept)), other_version, kept[:-1], kept + b"\0", kept[:20]):
        with pytest.raises(BadInput, match="no bridge that this version reads: fit it again"):
            Bridge.loads(data)
    with pytest.raises(BadInput, match="a NaN or an infinity"):
        Bridge.loads(kept[:-2] + np.array([np.nan], "<f2").tobytes())


def share_of_all(made: Bridge, old: Matrix, new: Matrix, queries: Matrix) -> float:
    """What the candidates hold in the whole collection, looked at directly."""
    total = 0
    for query in queries:
        scores = [new @ new[query], old @ old[query], old @ made.to_old(new[query])]
        for each in scores:
            each[query] = -2.0
        best, *candidates = (
            np.argsort(-each)[:most] for each, most in zip(scores, (10, 20, 20), strict=True)
        )
        total += len(set(best) & set(np.concatenate(candidates)))
    return total / (10 * len(queries))


@pytest.mark.parametrize("noise", [0.8, 1.1, 1.5])
def test_the_interval_holds_what_the_whole_collection_shows(noise: float) -> None:
    """Of 10 draws of 500 documents from 3,000, at most 2 are wrong, by no more than .03."""
    rng = np.random.default_rng(8)
    old, new = two_spaces(rng, 3000, noise=noise)
    away = []
    for _ in range(10):
        order = rng.permutation(len(old))
        drawn, others = order[:500], order[500:700]
        found = bridge.measure(old[drawn], new[drawn], of=len(old))
        truth = share_of_all(bridge.fit(old[drawn], new[drawn]), old, new, others)
        assert 0 <= found.low <= found.share <= found.high <= 1
        away.append(max(found.low - truth, truth - found.high, 0.0))
    assert sum(each > 0 for each in away) <= 2, away
    assert max(away) <= 0.03


def test_the_same_model_holds_and_two_strangers_do_not() -> None:
    rng = np.random.default_rng(9)
    old, new = two_spaces(rng, 600, noise=0.1)
    same = bridge.measure(old, new, of=5000)
    assert same.holds
    assert same.share > 0.9
    assert "of the new model's 10 best are found" in same.why
    strangers = bridge.measure(old, rng.permutation(new), of=5000)
    assert not strangers.holds
    assert strangers.share < 0.3
    assert strangers.why.endswith("the models differ too much")
    assert strangers.status_quo < same.status_quo


def test_few_documents_of_many_are_not_enough_to_be_sure() -> None:
    """What is not known does not hold, and the sentence asks for more instead of blaming the models."""
    rng = np.random.default_rng(10)
    old, new = two_spaces(rng, 4000, noise=0.9)
    few, many = (bridge.measure(old[:n], new[:n], of=100_000_000) for n in (200, 4000))
    near = bridge.measure(old[:200], new[:200], of=200)
    assert not few.holds
    assert few.why.endswith("more documents have to say so")
    assert few.high - few.low > many.high - many.low
    assert near.low > few.low  # a small collection is searched nearly as its half


def test_what_is_migrated_is_found_in_any_case() -> None:
    rng = np.random.default_rng(11)
    found = bridge.measure(*two_spaces(rng, 400, noise=0.8), of=400)
    assert found.at(0.0) == found.share
    assert found.at(1.0) == 1.0
    assert found.share < found.at(0.25) < found.at(0.5)


def test_the_same_pairs_give_the_same_answer() -> None:
    """A conductor that was killed and measures again does not change its mind."""
    rng = np.random.default_rng(12)
    pairs = two_spaces(rng, 300, noise=0.5)
    assert bridge.measure(*pairs, of=1000) == bridge.measure(*pairs, of=1000)


def test_what_was_not_drawn_is_learnt_from_and_measures_nothing() -> None:
    """The backfill's first documents, all of one corner: they are in no list that is judged."""
    old, new = two_spaces(np.random.default_rng(3), 400, noise=0.8)
    corner = [np.concatenate([one, one[:1] + 0.01 * one[::-1]]) for one in (old, new)]
    drawn = np.arange(800) < 400
    alone, measured = bridge.measure(old, new, of=800), bridge.measure(*corner, of=800, drawn=drawn)
    assert (measured.pairs, measured.status_quo) == (400, alone.status_quo)
    assert bridge.measure(old, new, of=800, drawn=drawn[:400]) == alone
    with pytest.raises(BadInput, match="200 documents of the sample, 199 are there"):
        bridge.measure(*corner, of=800, drawn=np.arange(800) < 199)


def test_halves_have_to_be_enough_for_a_bridge() -> None:
    rng = np.random.default_rng(13)
    old, new = two_spaces(rng, 199, noise=0.5)
    bridge.fit(old, new)
    with pytest.raises(BadInput, match="needs 200 documents with both vectors, not 199"):
        bridge.measure(old, new, of=1000)
