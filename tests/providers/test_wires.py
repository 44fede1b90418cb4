"""What each wire has of its own."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from revec.model.errors import (
    AnswerInvalid,
    BadInput,
    InputRefused,
    MissingExtra,
    ProviderUnavailable,
    Trouble,
)
from revec.providers import _refusals, cohere, gemini, sentence_transformers, voyage
from revec.providers._gemini_batches import GeminiBatches
from revec.providers.base import Ask, Fate, ImageInput, Options, TextInput
from tests.loopback import Loopback, vectors
from tests.providers import stand_in

TEXTS = ["one", "two", "three"]
INPUTS = [TextInput(text) for text in TEXTS]
PICTURE = ImageInput(b"\x89PNG", "image/png")


@pytest.fixture(scope="module")
def server() -> Iterator[Loopback]:
    with Loopback() as server:
        yield server


@pytest.fixture
def loopback(server: Loopback) -> Loopback:
    server.clear()
    return server


# --- Gemini -----------------------------------------------------------------------------------------


def gemini_model(loopback: Loopback, name: str, **options: int) -> gemini.Gemini:
    return gemini.connect(name, Options(base_url=loopback.url_for("gemini"), **options))


@pytest.mark.parametrize("dims", [768, 1536, 3072])
async def test_gemini_001_is_told_the_task_and_made_unit_length(loopback: Loopback, dims: int) -> None:
    """Below 3,072 dims the model does not do it itself."""
    model = gemini_model(loopback, "gemini-embedding-001", dims=dims)
    made = (await model.embed(INPUTS)).matrix
    assert made == pytest.approx(vectors(TEXTS, "gemini-embedding-001", dims), abs=1e-5)
    assert np.linalg.norm(made, axis=1) == pytest.approx(1, abs=1e-5)
    await model.embed(INPUTS, "query")
    assert [line["task"] for line in loopback.log()] == ["RETRIEVAL_DOCUMENT", "RETRIEVAL_QUERY"]
    await model.close()


async def test_gemini_2_is_told_by_words_that_the_space_puts_before_the_text(loopback: Loopback) -> None:
    """So the engine sends the text as it is, and no task type, which that model would not read."""
    model = gemini_model(loopback, "gemini-embedding-2")
    traits = await model.traits()
    assert traits.document == Ask(prefix="title: none | text: ")
    assert traits.query == Ask(prefix="task: search result | query: ")
    made = (await model.embed(INPUTS, "query")).matrix
    assert made == pytest.approx(vectors(TEXTS, "gemini-embedding-2"), abs=1e-6)
    assert loopback.log()[0]["task"] is None
    await model.close()


async def test_gemini_2_reads_images_beside_texts(loopback: Loopback) -> None:
    model = gemini_model(loopback, "gemini-embedding-2")
    answer = await model.embed([TextInput("a text"), PICTURE])
    assert answer.matrix.shape == (2, 3072)
    seen = f"image {hashlib.sha256(b'iVBORw==').hexdigest()}"
    assert loopback.bill()[1]["text"] == hashlib.sha256(seen.encode()).hexdigest()
    await model.close()


async def test_gemini_001_reads_no_images(loopback: Loopback) -> None:
    model = gemini_model(loopback, "gemini-embedding-001")
    with pytest.raises(InputRefused, match="reads text only"):
        await model.embed([PICTURE])
    await model.close()


async def test_gemini_says_in_the_body_how_long_to_wait(loopback: Loopback) -> None:
    model = gemini_model(loopback, "fake-8")
    loopback.fault("429", retry_after="34")
    with pytest.raises(ProviderUnavailable) as caught:
        await model.embed(INPUTS)
    assert (caught.value.trouble, caught.value.retry_after) == (Trouble.RATE, 34)
    await model.close()


async def test_gemini_says_400_to_an_account_that_does_not_pay(loopback: Loopback) -> None:
    model = gemini_model(loopback, "fake-8")
    loopback.fault("quota")
    with pytest.raises(ProviderUnavailable, match="has no quota left") as caught:
        await model.embed(INPUTS)
    assert caught.value.trouble is Trouble.QUOTA
    await model.close()


@asynccontextmanager
async def gemini_batches(loopback: Loopback, **options: str) -> AsyncIterator[GeminiBatches]:
    model = gemini.connect("fake-8", Options(**{"base_url": loopback.url_for("gemini"), **options}))  # type: ignore[arg-type]
    try:
        yield GeminiBatches(model)
    finally:
        await model.close()


def lines_of(there: GeminiBatches) -> io.BytesIO:
    return io.BytesIO(there.line("name", "a text"))


async def test_gemini_may_not_send_a_file_elsewhere(loopback: Loopback) -> None:
    """It says where the file may go: to the server that was meant, or nowhere; the key neither."""
    async with gemini_batches(loopback) as there:
        loopback.batch(kind="elsewhere")
        with pytest.raises(ProviderUnavailable, match="sends us on to localhost, where no text will follow"):
            await there.upload("m", lines_of(there))
        assert loopback.batches()["uploads"] == 0
        await there.upload("m", lines_of(there))
        assert loopback.batches()["uploads"] == 1


async def test_gemini_without_room_for_a_batch_is_left_alone_for_a_while(loopback: Loopback) -> None:
    """It says so as the batch is submitted, and not for how long."""
    async with gemini_batches(loopback) as there:
        loopback.batch(kind="busy")
        with pytest.raises(ProviderUnavailable, match="You exceeded your current quota") as caught:
            await there.submit("m", await there.upload("m", lines_of(there)))
    assert (caught.value.trouble, caught.value.retry_after) == (Trouble.RATE, 600)


@pytest.mark.parametrize(
    ("base_url", "door"),
    [
        ("https://host/v1beta", "https://host/upload/v1beta"),
        ("https://host:8443/google/v1beta/", "https://host:8443/google/upload/v1beta"),
        ("https://host", "https://host/upload"),
    ],
)
async def test_gemini_takes_files_at_a_door_beside_the_version(
    loopback: Loopback, base_url: str, door: str
) -> None:
    """Also behind a gateway, and never at another host."""
    async with gemini_batches(loopback, base_url=base_url, api_key="k") as there:
        assert there._server.beside("upload") == door


@pytest.mark.parametrize(
    ("code", "blamed"),
    [(3, True), (11, True), (400, True), (8, False), (13, False), (7, False), (None, False)],
)
async def test_gemini_says_of_a_line_who_is_to_blame(
    loopback: Loopback, code: int | None, blamed: bool
) -> None:
    """By the codes of its own RPC, or of HTTP; no outage makes a dead letter."""
    async with gemini_batches(loopback) as there:
        item = there._item(json.dumps({"key": "n", "error": {"code": code, "message": "no"}}).encode())
    assert (item.name, item.vector, isinstance(item.refused, InputRefused)) == ("n", None, blamed)


def said_by(monkeypatch: pytest.MonkeyPatch, there: GeminiBatches, said: object) -> None:
    """In the place of the server."""

    async def answered(*_: object, **__: object) -> _refusals.Answer:
        return _refusals.Answer(200, {}, json.dumps(said).encode())

    monkeypatch.setattr(there._server, "ask", answered)


@pytest.mark.parametrize(
    ("said", "fate"),
    [
        ({"metadata": {"state": "BATCH_STATE_PENDING"}}, Fate.RUNNING),
        ({"metadata": {"state": "BATCH_STATE_NEW_WORD"}}, Fate.RUNNING),
        ({"done": True, "error": {"code": 13}}, Fate.FAILED),
        (
            {"done": True, "error": {"code": 1}, "metadata": {"state": "BATCH_STATE_CANCELLED"}},
            Fate.CANCELLED,
        ),
        ({"done": True, "response": {"responsesFile": "files/1"}}, Fate.DONE),
        (
            {"metadata": {"state": "BATCH_STATE_SUCCEEDED", "output": {"responsesFile": "files/1"}}},
            Fate.DONE,
        ),
    ],
)
async def test_a_batch_of_gemini_is_an_operation(
    loopback: Loopback, monkeypatch: pytest.MonkeyPatch, said: object, fate: Fate
) -> None:
    """Whose end is told in one of two places: none is waited for for ever."""
    async with gemini_batches(loopback) as there:
        said_by(monkeypatch, there, said)
        progress = await there.look("batches/1")
    assert (progress.fate, [*progress.outputs]) == (fate, ["files/1"] if fate is Fate.DONE else [])


@pytest.mark.parametrize("file", [None, "", "files/../models", "files/..", "http://elsewhere/files/1", 7])
async def test_a_done_batch_of_gemini_names_its_answers(
    loopback: Loopback, monkeypatch: pytest.MonkeyPatch, file: object
) -> None:
    """Else it is looked at again: a batch that counted as unanswered would be paid for anew."""
    said = {"done": True, "metadata": {"state": "BATCH_STATE_SUCCEEDED"}, "response": {"responsesFile": file}}
    async with gemini_batches(loopback) as there:
        said_by(monkeypatch, there, said)
        with pytest.raises(AnswerInvalid, match="no name of what it took, or of what it gives"):
            await there.look("batches/1")


# --- Cohere -----------------------------------------------------------------------------------------


def cohere_model(loopback: Loopback, name: str = "embed-v4.0") -> cohere.Cohere:
    return cohere.connect(name, Options(base_url=loopback.url_for("cohere")))


async def test_cohere_is_asked_for_base64_and_without_it_once_refused(loopback: Loopback) -> None:
    model = cohere_model(loopback)
    assert (await model.embed(INPUTS)).matrix == pytest.approx(vectors(TEXTS, "embed-v4.0"), abs=1e-6)
    loopback.fault("422", words="invalid value in embedding_types")
    for _ in range(2):
        assert (await model.embed(INPUTS)).matrix == pytest.approx(vectors(TEXTS, "embed-v4.0"), abs=1e-6)
    assert [line["base64"] for line in loopback.log()] == [True, True, False, False]
    await model.close()


async def test_cohere_reads_images_beside_texts(loopback: Loopback) -> None:
    model = cohere_model(loopback)
    answer = await model.embed([PICTURE, TextInput("a text")])
    assert answer.matrix[1] == pytest.approx(vectors(["a text"], "embed-v4.0")[0], abs=1e-6)
    seen = f"image {hashlib.sha256(b'data:image/png;base64,iVBORw==').hexdigest()}"
    assert loopback.bill()[0]["text"] == hashlib.sha256(seen.encode()).hexdigest()
    await model.close()


async def test_a_surrogate_beside_an_image_is_refused(loopback: Loopback) -> None:
    model = cohere_model(loopback)
    with pytest.raises(InputRefused, match="input 2 of 2 holds half a surrogate pair"):
        await model.embed([PICTURE, TextInput("\ud800")])
    assert loopback.requests()["requests"] == 0
    await model.close()


# --- Voyage -----------------------------------------------------------------------------------------


async def test_a_voyage_family_is_named_in_the_traits(loopback: Loopback) -> None:
    options = Options(base_url=loopback.url_for("voyage"))
    models = [voyage.connect(name, options) for name in ("voyage-4", "voyage-4-lite", "voyage-3.5")]
    assert [(await model.traits()).family for model in models] == ["voyage-4", "voyage-4", ""]
    await asyncio.gather(*(model.close() for model in models))


@pytest.mark.parametrize(
    ("words", "is_model"),
    [
        ("Model voyage-9 is not supported. Supported models are voyage-4.", True),
        ("The model `voyage-9` does not exist", True),
        ("Unknown model: voyage-9", True),
        ("Invalid input for model voyage-9: the text is not supported", False),
        ("input 3 is longer than 32000 tokens", False),
        ("The total is beyond what model voyage-9 takes", False),
    ],
)
def test_a_model_unknown_in_words_alone_blames_no_document(words: str, is_model: bool) -> None:
    assert _refusals._no_model(400, _refusals.Reason(words=words), "voyage-9") is is_model


# --- sentence-transformers --------------------------------------------------------------------------


def test_without_the_library_its_extra_is_named() -> None:
    """It is not installed here, nor is torch: the product works without."""
    with pytest.raises(MissingExtra, match=r"pip install 'revec\[sentence_transformers\]'"):
        sentence_transformers.connect("any", Options())


async def test_the_models_own_prompts_become_the_spaces_prefixes(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the library is told to add none."""
    with stand_in.installed(monkeypatch):
        model = sentence_transformers.connect("e5", Options(dims=16))
        traits = await model.traits()
        assert (traits.document, traits.query) == (Ask("passage: "), Ask("query: "))
        assert (traits.dims, traits.max_tokens) == (16, 128)
        await model.embed(INPUTS)
        await model.embed(INPUTS, "query")
        assert sentence_transformers.loaded("e5", 16).asked == [("document", ""), ("query", "")]
        assert model.count(["abc", "x" * 40_000]) == [5, 40_002]


async def test_a_model_that_is_not_on_this_machine_is_not_downloaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with stand_in.installed(monkeypatch):
        model = sentence_transformers.connect("missing", Options())
        with pytest.raises(BadInput, match="download it once with the library itself"):
            await model.traits()
