"""What every provider promises, asked of each of them.

A new provider file is asked by itself: over the loopback server, which has to speak its wire. Only
models in this process have to be named here.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest

from revec.model.errors import BadInput, InputRefused, MissingExtra
from revec.providers.base import ImageInput, Matrix, Options, Provider, TextInput
from revec.seams import provider, provider_names
from tests.loopback import Loopback
from tests.providers import stand_in

HERE = {
    "local": ["local:wordllama-256", "local:minilm-384"],
    "sentence_transformers": ["sentence_transformers:stand-in"],
}


def models_of(engine: str) -> list[str]:
    return HERE.get(engine) or [f"{engine}:fake-384", f"{engine}:fake-b-64"]


ADDRESSES = [address for engine in provider_names() for address in models_of(engine)]

TEXTS = [
    "wings in a slipstream",
    "a much longer text about heat transfer around a cone, so that one call has many sizes",
    "shoes",
    "naïve café, schöne Grüße, Ελληνικά, русский",
    "日本語のテキストと中文文本",
    "an emoji 👩‍🚀 and a flag 🇨🇭",
    "two\nlines\tand a tab",
]
SAME = 0.9999  # cosine: the most that a batch may change a vector


@pytest.fixture(scope="module")
def loopback() -> Iterator[Loopback]:
    with Loopback() as server:
        yield server


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The real one is gigabytes: what is asked here is the engine's own part."""
    with stand_in.installed(monkeypatch):
        yield


def connected(address: str, loopback: Loopback) -> Provider:
    engine = address.partition(":")[0]
    base_url = None if engine in HERE else loopback.url_for(engine)
    try:
        return provider(address, Options(base_url=base_url, api_key="any"))
    except MissingExtra as error:
        pytest.skip(str(error))


@pytest.fixture(params=ADDRESSES)
def address(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def model(address: str, loopback: Loopback) -> AsyncIterator[Provider]:
    model = connected(address, loopback)
    yield model
    await model.close()


async def matrix(model: Provider, *texts: str) -> Matrix:
    return (await model.embed([TextInput(text) for text in texts])).matrix


def test_every_provider_file_is_asked() -> None:
    """And every one of `HERE` is there."""
    assert {address.partition(":")[0] for address in ADDRESSES} == set(provider_names())
    assert set(HERE) <= set(provider_names())


async def test_its_name_is_its_address(model: Provider, address: str) -> None:
    assert model.name == address


async def test_one_vector_per_text_finite_and_of_the_said_dims(model: Provider) -> None:
    traits = await model.traits()
    answer = await model.embed([TextInput(text) for text in TEXTS])
    assert answer.matrix.shape == (len(TEXTS), traits.dims)
    assert answer.matrix.dtype == np.float32
    assert np.isfinite(answer.matrix).all()
    norms = np.linalg.norm(answer.matrix, axis=1)
    assert (norms > 0).all()
    if traits.normalised:
        assert norms == pytest.approx(1, abs=1e-3)
    assert answer.tokens is None or answer.tokens > 0


async def test_alone_or_in_a_batch_a_text_has_the_same_vector(model: Provider) -> None:
    """The order, too: each row is compared with its own text's vector, and with no other."""
    together = await matrix(model, *TEXTS)
    alone = np.concatenate([await matrix(model, text) for text in TEXTS])
    cosines = (together @ alone.T) / np.outer(np.linalg.norm(together, axis=1), np.linalg.norm(alone, axis=1))
    assert np.diagonal(cosines).min() >= SAME
    assert (cosines - 2 * np.eye(len(TEXTS))).max() < SAME


async def test_a_large_batch_keeps_its_order(model: Provider) -> None:
    texts = [f"{'word ' * (at * 7 % 40)}number {at}" for at in range(60)]
    forward, backward = await matrix(model, *texts), await matrix(model, *reversed(texts))
    assert forward == pytest.approx(backward[::-1], abs=1e-3)


async def test_equal_texts_have_equal_vectors(model: Provider) -> None:
    first, _, third = await matrix(model, "the same", "something else", "the same")
    assert first == pytest.approx(third, abs=1e-4)


async def test_different_texts_have_different_vectors(model: Provider) -> None:
    one, other = await matrix(model, "a sentence about trains", "how to bake bread")
    assert float(one @ other) < SAME


async def test_a_very_long_text_is_cut_not_lost(model: Provider) -> None:
    long = "the quick brown fox jumps over the lazy dog . " * 5_000
    vectors = await matrix(model, long, "short")
    assert vectors.shape[0] == 2


async def test_nothing_in_nothing_out(model: Provider) -> None:
    answer = await model.embed([])
    assert answer.matrix.shape == (0, (await model.traits()).dims)


@pytest.mark.parametrize("kind", ["document", "query"])
async def test_documents_and_queries_live_in_one_space(model: Provider, kind: str) -> None:
    answer = await model.embed([TextInput("a text")], kind)
    assert answer.matrix.shape == (1, (await model.traits()).dims)


async def test_an_image_is_refused_where_only_texts_are_read(model: Provider) -> None:
    with pytest.raises(InputRefused, match=r"input 2 of 2 is an image \(image/png\)"):
        await model.embed([TextInput("a text"), ImageInput(b"\x89PNG", "image/png")])


async def test_an_empty_text_is_refused(model: Provider) -> None:
    with pytest.raises(InputRefused, match=r"refused the input|has nothing"):
        await matrix(model, "a text", "")


async def test_half_a_surrogate_pair_is_refused(model: Provider) -> None:
    with pytest.raises(InputRefused, match="input 1 of 1 holds half a surrogate pair"):
        await matrix(model, "\ud800")


async def test_its_traits_are_stable(model: Provider) -> None:
    first = await model.traits()
    await matrix(model, "a text")
    assert await model.traits() == first
    assert first.dims > 0


async def test_two_of_one_name_agree(model: Provider, address: str, loopback: Loopback) -> None:
    other = connected(address, loopback)
    try:
        assert await other.traits() == await model.traits()
        assert await matrix(other, *TEXTS) == pytest.approx(await matrix(model, *TEXTS), abs=1e-4)
    finally:
        await other.close()


async def test_many_at_once_do_not_mix(model: Provider) -> None:
    alone = await matrix(model, *TEXTS)
    answers = await asyncio.gather(*(matrix(model, text) for text in TEXTS))
    assert np.concatenate(answers) == pytest.approx(alone, abs=1e-3)


async def test_a_size_grows_with_the_text(model: Provider) -> None:
    short, long, latin, japanese = model.count(["a word", "many words " * 100, "abc" * 100, "日本語" * 100])
    assert 0 < short < long
    assert latin < japanese


@pytest.mark.parametrize("address", ["", "openai", ":model", "openai:", " openai:x", "openai:x\n"])
def test_a_malformed_address_is_explained(address: str) -> None:
    with pytest.raises(BadInput, match=r"write provider:model, for example openai:.*local, openai, sentence"):
        provider(address, Options())


@pytest.mark.parametrize("address", ["bm25:x", "base:x", "../x:y", "os.path:x", "OpenAI:x"])
def test_an_unknown_provider_is_answered_with_those_there_are(address: str) -> None:
    with pytest.raises(
        BadInput, match="choose one of cohere, gemini, local, openai, sentence_transformers, voyage"
    ):
        provider(address, Options())


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for module in ("openai", "_hosted", "_http"):
        monkeypatch.delitem(sys.modules, f"revec.providers.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(MissingExtra, match=r"openai:x needs .* pip install 'revec\[openai\]'"):
        provider("openai:x", Options(api_key="any"))


async def test_addresses_keep_colons_after_the_first(loopback: Loopback) -> None:
    model = provider("openai:nomic:v1.5", Options(base_url=loopback.url))
    assert model.name == "openai:nomic:v1.5"
    await model.close()
