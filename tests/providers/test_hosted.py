"""What every model behind an HTTP API does alike: each of them, over its own wire."""

from __future__ import annotations

import asyncio
import logging
import re
import tomllib
import traceback
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from pydantic import AliasChoices

from revec.model.errors import AnswerInvalid, BadInput, InputRefused, ProviderUnavailable, Trouble
from revec.providers import _facts, _hosted, cohere, gemini, openai, voyage
from revec.providers._hosted import Hosted
from revec.providers.base import Options, TextInput
from revec.seams import provider_names
from revec.settings import Settings
from tests.loopback import Loopback, vectors

ROOT = Path(__file__).parents[2]
KEY = "key-0123456789abcdef"
ENGINES = {module.__name__.rpartition(".")[2]: module for module in (cohere, gemini, openai, voyage)}
MODEL = "fake-64"
TEXTS = [f"text {at}" for at in range(5)]
INPUTS = [TextInput(text) for text in TEXTS]
IN_PROCESS = {"local", "sentence_transformers"}


@pytest.fixture(scope="module")
def server() -> Iterator[Loopback]:
    with Loopback(key=KEY) as server:
        yield server


@pytest.fixture
def loopback(server: Loopback) -> Iterator[Loopback]:
    server.clear()
    yield server
    server.clear()


@pytest.fixture(params=sorted(ENGINES))
def engine(request: pytest.FixtureRequest) -> ModuleType:
    return ENGINES[request.param]


@pytest.fixture
async def model(engine: ModuleType, loopback: Loopback) -> AsyncIterator[Hosted]:
    model = connected(engine, loopback)
    yield model
    await model.close()


def connected(engine: ModuleType, loopback: Loopback, name: str = MODEL, **options: object) -> Hosted:
    base_url = loopback.url_for(engine.connect.house.engine)
    return engine.connect(name, Options(**{"base_url": base_url, "api_key": KEY, "timeout": 10.0, **options}))


def sentence(error: BaseException) -> str:
    """What a person reads: more than a word, a way out, and nothing secret."""
    said = str(error)
    assert re.search(r": .{8,}", said), said
    assert KEY not in "".join(traceback.format_exception(error))
    return said


def test_all_of_them_are_here() -> None:
    assert set(provider_names()) - IN_PROCESS == set(ENGINES)


@pytest.mark.parametrize("name", provider_names())
def test_every_provider_has_an_extra_of_its_name(name: str) -> None:
    """It is what `MissingExtra` tells people to install."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert name in pyproject["project"]["optional-dependencies"]


def test_every_hosted_one_has_its_settings(engine: ModuleType) -> None:
    house = engine.connect.house
    for what in ("api_key", "api_key_file", "base_url"):
        assert f"{house.engine}_{what}" in Settings.model_fields
    aliases = Settings.model_fields[f"{house.engine}_api_key"].validation_alias
    assert isinstance(aliases, AliasChoices)
    assert house.key_name in aliases.choices


async def test_each_text_gets_its_own_vector(model: Hosted, loopback: Loopback) -> None:
    answer = await model.embed(INPUTS)
    assert answer.matrix == pytest.approx(vectors(TEXTS, MODEL), abs=1e-6)
    assert answer.headers["x-request-id"].startswith("req-")
    (line,) = loopback.log()
    assert (line["wire"], line["inputs"]) == (model.house.engine, 5)
    assert answer.tokens == (None if model.house.engine == "gemini" else line["tokens"])


async def test_documents_and_queries_are_told_apart(model: Hosted, loopback: Loopback) -> None:
    """Where the wire has a word for it, it is the one in the traits."""
    await model.embed(INPUTS, "document")
    await model.embed(INPUTS, "query")
    traits = await model.traits()
    tasks = [line["task"] or "" for line in loopback.log()]
    assert tasks == [traits.document.task, traits.query.task]
    assert (tasks[0] == tasks[1]) == (model.house.engine == "openai")


async def test_what_is_left_of_the_quota_is_handed_on(model: Hosted, loopback: Loopback) -> None:
    loopback.limits(rpm=2, tpm=1_000)
    assert (await model.embed(INPUTS)).headers["x-ratelimit-remaining-requests"] == "1"
    await model.embed(INPUTS)
    with pytest.raises(ProviderUnavailable) as caught:
        await model.embed(INPUTS)
    assert caught.value.trouble is Trouble.RATE
    assert caught.value.retry_after == pytest.approx(30, abs=1)
    assert caught.value.headers["x-ratelimit-remaining-requests"] == "0"


@pytest.mark.parametrize(
    ("kind", "trouble"),
    [
        ("401", Trouble.AUTH),
        ("402", Trouble.QUOTA),
        ("403", Trouble.AUTH),
        ("404", Trouble.AUTH),
        ("429", Trouble.RATE),
        ("500", Trouble.SERVER),
        ("502", Trouble.SERVER),
        ("503", Trouble.SERVER),
        ("close", Trouble.SERVER),
        ("redirect-link-local", Trouble.SERVER),
    ],
)
async def test_the_providers_own_troubles_blame_no_document(
    model: Hosted, loopback: Loopback, kind: str, trouble: Trouble
) -> None:
    """And they are told once: the caller decides what waiting is worth."""
    loopback.fault(kind)
    with pytest.raises(ProviderUnavailable) as caught:
        await model.embed(INPUTS)
    assert caught.value.trouble is trouble
    assert model.name in sentence(caught.value)
    assert loopback.requests()["requests"] == 1
    assert (await model.embed(INPUTS)).matrix.shape == (5, 64)


@pytest.mark.parametrize("kind", ["400", "413", "422"])
async def test_a_refused_input_is_the_inputs_fault(model: Hosted, loopback: Loopback, kind: str) -> None:
    loopback.fault(kind, match="text 3")
    with pytest.raises(InputRefused, match="refused the input") as caught:
        await model.embed(INPUTS)
    sentence(caught.value)
    assert loopback.requests()["requests"] == 1


@pytest.mark.parametrize(
    "kind", ["1e400", "cut", "dims", "error200", "fewer", "huge", "nan", "null", "string", "zero"]
)
async def test_an_answer_that_cannot_be_trusted_is_not(model: Hosted, loopback: Loopback, kind: str) -> None:
    await model.traits()
    loopback.fault(kind)
    with pytest.raises(AnswerInvalid, match="nothing was written") as caught:
        await model.embed(INPUTS)
    assert model.name in sentence(caught.value)
    assert (await model.embed(INPUTS)).matrix.shape == (5, 64)


async def test_an_answer_after_our_patience_is_paid_all_the_same(
    engine: ModuleType, loopback: Loopback
) -> None:
    model = connected(engine, loopback, timeout=0.2)
    loopback.fault("slow", delay=1.0)
    with pytest.raises(ProviderUnavailable, match=r"did not answer within 0\.2 s") as caught:
        await model.embed(INPUTS)
    assert caught.value.trouble is Trouble.TIMEOUT
    assert len(loopback.bill()) == 5
    await model.close()


async def test_a_wrong_key_is_the_keys_fault(engine: ModuleType, loopback: Loopback) -> None:
    """Also where the provider answers 400 to it."""
    for key in ("wrong-key-987", None):
        model = connected(engine, loopback, api_key=key)
        with pytest.raises(ProviderUnavailable, match=f"set {model.house.key_name}") as caught:
            await model.embed(INPUTS)
        assert caught.value.trouble is Trouble.AUTH
        assert "wrong-key" not in sentence(caught.value)
        await model.close()


async def test_the_key_is_shown_nowhere(
    engine: ModuleType, loopback: Loopback, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    model = connected(engine, loopback)
    answer = await model.embed(INPUTS)
    assert KEY not in repr((model, answer, vars(model), model.name))
    assert KEY not in caplog.text
    await model.close()


async def test_the_provider_itself_needs_a_key_and_https(engine: ModuleType) -> None:
    house = engine.connect.house
    with pytest.raises(BadInput, match=f"set {house.key_name}"):
        engine.connect("x", Options())
    with pytest.raises(BadInput, match="unencrypted: use https"):
        engine.connect("x", Options(base_url="http://example.com", api_key=KEY))


async def test_fewer_dims_are_asked_for(engine: ModuleType, loopback: Loopback) -> None:
    model = connected(engine, loopback, dims=16)
    made = (await model.embed(INPUTS)).matrix
    ours = made / np.linalg.norm(made, axis=1, keepdims=True)
    assert ours == pytest.approx(vectors(TEXTS, MODEL, 16), abs=1e-6)
    assert loopback.log()[0]["dims"] == 16
    await model.close()


async def test_a_cancelled_call_is_cancelled(model: Hosted, loopback: Loopback) -> None:
    loopback.hold()
    call = asyncio.create_task(model.embed(INPUTS))
    await asyncio.to_thread(loopback.wait_held)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    loopback.release()
    assert (await model.embed(INPUTS)).matrix.shape == (5, 64)


# --- facts ------------------------------------------------------------------------------------------

KNOWN = [(engine, name) for engine in sorted(ENGINES) for name in sorted(_facts.known_models(engine))]


@pytest.mark.parametrize(("engine", "name"), KNOWN, indirect=["engine"])
async def test_a_known_model_needs_no_probe_and_its_facts_agree(engine: ModuleType, name: str) -> None:
    model = engine.connect(name, Options(api_key=KEY))
    traits, facts = await model.traits(), _facts.known_models(model.house.engine)[name]
    assert (traits.dims, traits.normalised) == (facts.dims, True)
    assert traits.max_inputs
    assert traits.max_tokens
    assert traits.max_tokens <= (traits.max_request_tokens or traits.max_tokens)
    assert traits.shutdown is None or traits.shutdown.year >= 2026
    if engine is not openai:
        assert traits.document != traits.query
    await model.close()


@pytest.mark.parametrize(
    ("address", "dims", "said"),
    [
        ("gemini:gemini-embedding-001", 1000, "has no 1000 dims: ask for one of 768, 1536, 3072"),
        ("cohere:embed-v4.0", 2048, "ask for one of 256, 512, 1024, 1536"),
        ("voyage:voyage-4", 3072, "ask for one of 256, 512, 1024, 2048"),
        ("cohere:embed-v5.0-pro", 1024, "has 2048 dims, always"),
    ],
)
def test_dims_that_a_known_model_cannot_have_are_refused(address: str, dims: int, said: str) -> None:
    engine, _, name = address.partition(":")
    with pytest.raises(BadInput, match=said):
        ENGINES[engine].connect(name, Options(api_key=KEY, dims=dims))


async def test_a_promised_norm_is_checked(
    engine: ModuleType, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the model promises it; where it does not, we make it so."""
    asks = engine.connect.unknown
    for normalised in (True, False):
        facts = _facts.Facts(64, max_tokens=10, max_inputs=10, normalised=normalised, **asks)
        monkeypatch.setattr(_hosted, "known_models", lambda _, facts=facts: {MODEL: facts})
        model = connected(engine, loopback)
        loopback.fault("norm")
        if normalised:
            with pytest.raises(AnswerInvalid, match=r"norm 3\.000, promised was 1"):
                await model.embed(INPUTS)
        else:
            assert (await model.embed(INPUTS)).matrix == pytest.approx(vectors(TEXTS, MODEL), abs=1e-6)
        await model.close()
