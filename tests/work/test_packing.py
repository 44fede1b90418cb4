"""Packs: every text once, within the limits, documents whole where they can be."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from revec.app import App
from revec.providers.base import Traits
from revec.work import packing
from revec.work.packing import FIRST_CLAIM, LARGEST_CLAIM, Load, claim_size, limits, packed
from tests import steps
from tests.loopback import Loopback
from tests.work import hands

TEXT = st.builds(Load, st.just(1), st.integers(1, 60), st.integers(1, 200))
DOCUMENTS = st.lists(st.lists(TEXT, min_size=1, max_size=12), max_size=40)
LIMITS = st.builds(Load, st.integers(1, 10), st.integers(10, 100), st.integers(50, 400))
TRAITS = Traits(dims=8, revision="", normalised=True, max_tokens=None)


@settings(max_examples=500)
@given(DOCUMENTS, LIMITS)
def test_packs(documents: list[list[Load]], most: Load) -> None:
    """Each promise of `packed`, for any documents and limits."""
    packs = list(packed(documents, most))
    at = {part: number for number, pack in enumerate(packs) for part in pack}

    seen = sorted((part.document, text) for part in at for text in range(part.start, part.stop))
    assert seen == [(n, text) for n, texts in enumerate(documents) for text in range(len(texts))], "once each"

    for pack in packs:
        texts = [text for part in pack for text in documents[part.document][part.start : part.stop]]
        assert sum(texts, Load()).within(most) or len(texts) == 1, "within the limits, or alone"
        assert all(part.start < part.stop for part in pack)
        assert len({part.document for part in pack}) == len(pack), "one part of a document"

    for number, texts in enumerate(documents):
        parts = [part for part in at if part.document == number]
        assert len(parts) == 1 or not sum(texts, Load()).within(most), "whole where it fits"
        places = [at[part] for part in parts]
        assert places == list(range(places[0], places[0] + len(places))), "spread one after the other"

    longest = [max(text.tokens for text in documents[part.document]) for pack in packs for part in pack]
    assert longest == sorted(longest), "documents of like length together"


@given(st.lists(st.integers(1, 100), min_size=1, max_size=200))
def test_packs_are_full(tokens: list[int]) -> None:
    """Of documents with one text no pack would have held the next one too."""
    most = Load(50, 500, 10_000)
    documents = [[Load(1, each, each)] for each in tokens]
    packs = [[documents[part.document][0] for part in pack] for pack in packed(documents, most)]
    for pack, after in pairwise(packs):
        assert not sum([*pack, after[0]], Load()).within(most)


def test_the_limits_are_the_provider_s_where_it_has_lower_ones() -> None:
    assert limits(TRAITS) == Load(2_048, 64_000, 8 << 20)
    assert limits(replace(TRAITS, max_inputs=96, max_request_tokens=16_000)) == Load(96, 16_000, 8 << 20)
    assert limits(replace(TRAITS, max_inputs=5_000, max_request_tokens=300_000)) == limits(TRAITS)


def test_a_claim_is_as_large_as_a_pack() -> None:
    """Short texts make large claims, books small ones; nobody knows before the first."""
    most = limits(TRAITS)
    assert claim_size(most, 0) == FIRST_CLAIM
    assert 650 < claim_size(most, 84) < 64_000 / 84
    assert claim_size(most, 500_000) == 1
    assert claim_size(most, 1) == 2_048
    assert claim_size(replace(most, inputs=100_000), 1) == LARGEST_CLAIM
    assert claim_size(replace(most, inputs=96), 84) == 96


async def test_a_pack_is_one_call(app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more inputs than a pack may have, and no fewer than it could."""
    monkeypatch.setattr(packing, "INPUTS", 30)
    made, _ = await hands.indexed(app)
    await steps.put(app, made, steps.drafts(100))
    before = loopback.requests()["requests"]
    assert (await hands.step(app, claim=100)).written == 100
    sizes = sorted(calls(loopback))
    assert sizes == [10, 30, 30, 30]
    assert loopback.requests()["requests"] == before + 4
    await hands.assert_oracle(app, made)


async def test_claims_follow_what_fills_a_pack(app: App, loopback: Loopback) -> None:
    """After the first claim of unknown texts the second takes as many as make a full pack; and the
    limits of the model were not asked for over the network.
    """
    made, _ = await hands.indexed(app)
    await steps.put(app, made, steps.drafts(2_000))
    worker = app.worker(concurrency=1)
    before = loopback.requests()
    for _ in range(2):
        await worker._embed_step()
    first, second = sorted(calls(loopback))
    assert first == FIRST_CLAIM
    assert 1_500 < second <= 2_000 - FIRST_CLAIM  # as many as the bound on their tokens lets in
    assert loopback.requests()["requests"] == before["requests"] + 2
    await steps.drain(app)
    await hands.assert_oracle(app, made)


def calls(loopback: Loopback) -> list[int]:
    """The inputs of each call that was billed, but for the probe of the dims."""
    requests = [line["request"] for line in loopback.bill()]
    return [n for request in set(requests) if (n := requests.count(request)) > 1]
