"""The OpenAI wire: every way to misbehave becomes the right error, and a sentence."""

import asyncio
import hashlib
import logging
import re
import traceback
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pytest

from revec.model.errors import AnswerInvalid, BadInput, InputRefused, ProviderUnavailable
from revec.providers import _facts, _hosted, _refusals, openai
from revec.providers.base import Options, TextInput
from tests.loopback import Loopback, vectors

KEY = "sk-proj-0123456789abcdef"
MODEL = "fake-64"
TEXTS = [f"text {at}" for at in range(5)]
INPUTS = [TextInput(text) for text in TEXTS]


@pytest.fixture(scope="module")
def server() -> Iterator[Loopback]:
    with Loopback(key=KEY) as server:
        yield server


@pytest.fixture
def loopback(server: Loopback) -> Iterator[Loopback]:
    server.clear()
    yield server
    server.clear()


@pytest.fixture
async def model(loopback: Loopback) -> AsyncIterator[openai.OpenAI]:
    model = connected(loopback)
    yield model
    await model.close()


def connected(loopback: Loopback, name: str = MODEL, **options: object) -> openai.OpenAI:
    given = {"base_url": loopback.url, "api_key": KEY, "timeout": 10.0, **options}
    return openai.connect(name, Options(**given))


def sentence(error: BaseException) -> str:
    """What a person reads: it says more than a word, has a way out, and nothing secret."""
    said = str(error)
    assert re.search(r": .{8,}", said), said
    assert len(said.split()) > 8
    assert KEY not in "".join(traceback.format_exception(error))
    return said


# --- good answers ---------------------------------------------------------------------------------


async def test_vectors_tokens_and_headers_come_back(model: openai.OpenAI) -> None:
    answer = await model.embed(INPUTS)
    assert answer.matrix == pytest.approx(vectors(TEXTS, MODEL), abs=1e-6)
    assert answer.tokens == sum(len(text) // 4 + 1 for text in TEXTS)
    assert answer.headers["x-request-id"].startswith("req-")
    assert "authorization" not in answer.headers


async def test_the_bill_has_a_line_per_text(model: openai.OpenAI, loopback: Loopback) -> None:
    await model.embed(INPUTS)
    bill = loopback.bill()
    assert [line["text"] for line in bill] == [hashlib.sha256(text.encode()).hexdigest() for text in TEXTS]
    assert {line["model"] for line in bill} == {MODEL}


@pytest.mark.parametrize("kind", ["permuted", "floats"])
async def test_harmless_differences_do_no_harm(model: openai.OpenAI, loopback: Loopback, kind: str) -> None:
    """Another order with the right index; lists of floats although base64 was asked for."""
    loopback.fault(kind)
    assert (await model.embed(INPUTS)).matrix == pytest.approx(vectors(TEXTS, MODEL), abs=1e-6)


@pytest.mark.parametrize("kind", ["swapped", "drift"])
async def test_some_wrongs_show_only_to_a_second_opinion(
    model: openai.OpenAI, loopback: Loopback, kind: str
) -> None:
    """Why the fidelity gate embeds again: the answer itself looks perfect."""
    loopback.fault(kind)
    cosines = np.sum((await model.embed(INPUTS)).matrix * vectors(TEXTS, MODEL), axis=1)
    assert cosines.min() < 0.9


async def test_unknown_dims_are_learned_by_one_probe(model: openai.OpenAI, loopback: Loopback) -> None:
    many = await asyncio.gather(*(model.traits() for _ in range(5)))
    assert {traits.dims for traits in many} == {64}
    assert (await model.embed([])).matrix.shape == (0, 64)
    assert loopback.requests()["requests"] == 1


async def test_dims_of_the_first_answer_are_remembered(model: openai.OpenAI, loopback: Loopback) -> None:
    await model.embed(INPUTS)
    loopback.fault("dims")
    with pytest.raises(AnswerInvalid, match="63 dims where 64 were expected"):
        await model.embed(INPUTS)


async def test_fewer_dims_are_asked_for(loopback: Loopback) -> None:
    model = connected(loopback, dims=16)
    assert (await model.embed(INPUTS)).matrix == pytest.approx(vectors(TEXTS, MODEL, 16), abs=1e-6)
    assert (await model.traits()).dims == 16
    await model.close()


async def test_a_server_that_knows_no_dimensions_is_asked_without_them(loopback: Loopback) -> None:
    """Once: from then on it is not even tried."""
    model = connected(loopback, "fixed-64", dims=64)
    for _ in range(2):
        assert (await model.embed(INPUTS)).matrix.shape == (5, 64)
    assert loopback.requests()["requests"] == 3
    await model.close()


async def test_declared_dims_are_checked_where_they_cannot_be_asked_for(loopback: Loopback) -> None:
    model = connected(loopback, "fixed-64", dims=32)
    with pytest.raises(AnswerInvalid, match="64 dims where 32 were expected"):
        await model.embed(INPUTS)
    await model.close()


async def test_a_server_that_knows_no_base64_is_asked_without_it(
    model: openai.OpenAI, loopback: Loopback
) -> None:
    loopback.fault("no-base64", times=None)
    for _ in range(2):
        assert (await model.embed(INPUTS)).matrix == pytest.approx(vectors(TEXTS, MODEL), abs=1e-6)
    assert loopback.requests()["requests"] == 3


async def test_a_refusal_that_only_mentions_dimensions_changes_nothing(loopback: Loopback) -> None:
    """The same request without them is refused as well, so they were not to blame."""
    model = connected(loopback, dims=16)
    loopback.fault("400", times=2, words="an array of 2048 dimensions or less, please")
    with pytest.raises(InputRefused):
        await model.embed(INPUTS)
    assert (await model.embed(INPUTS)).matrix.shape == (5, 16)
    await model.close()


# --- bad answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("1e400", "NaN or infinity"),
        ("beyond", "a vector of index 5"),
        ("cut", "is cut short"),
        ("error200", r"answered 200 without vectors \(something went wrong with \[key\]\)"),
        ("fewer", "4 vectors"),
        ("index0", "two vectors of index 0"),
        ("nan", "NaN or infinity"),
        ("noindex", "a vector of index None"),
        ("null", "neither base64 of float32 nor a list of numbers"),
        ("string", "neither base64"),
        ("zero", "a zero vector"),
    ],
)
async def test_an_answer_that_cannot_be_trusted_stops_the_writing(
    model: openai.OpenAI, loopback: Loopback, kind: str, said: str
) -> None:
    loopback.fault(kind)
    with pytest.raises(AnswerInvalid, match=said) as caught:
        await model.embed(INPUTS)
    assert model.name in sentence(caught.value)
    assert len(loopback.bill()) == (0 if kind == "error200" else 5)
    assert (await model.embed(INPUTS)).matrix.shape == (5, 64)


async def test_a_promised_norm_is_checked(loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = _facts.Facts(64, shorter=True, **LIMITS)
    monkeypatch.setattr(_hosted, "known_models", lambda _: {MODEL: facts})
    model = connected(loopback)
    loopback.fault("norm")
    with pytest.raises(AnswerInvalid, match=r"norm 3\.000, promised was 1"):
        await model.embed(INPUTS)
    await model.close()


async def test_an_answer_without_end_is_cut_off(model: openai.OpenAI, loopback: Loopback) -> None:
    """50 MB where five vectors were asked for; what would fit is read."""
    loopback.fault("huge")
    with pytest.raises(AnswerInvalid, match="which no answer to this request needs") as caught:
        await model.embed(INPUTS)
    sentence(caught.value)


# --- refusals and outages -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("401", r"refused the API key \(401\): set OPENAI_API_KEY"),
        ("403", r"refused the API key \(403\)"),
        ("404", "does not know the model fake-64"),
        ("429", "asks us to slow down"),
        ("500", "failed"),
        ("502", r"failed \(502: Bad gateway, said \[key\]\)"),
        ("503", "The engine is overloaded"),
        ("close", "hung up"),
        ("quota", "has no quota left"),
        ("redirect", "redirects"),
    ],
)
async def test_the_providers_own_troubles_blame_no_document(
    model: openai.OpenAI, loopback: Loopback, kind: str, said: str
) -> None:
    """And they are told once: the caller decides what waiting is worth."""
    loopback.fault(kind)
    with pytest.raises(ProviderUnavailable, match=said) as caught:
        await model.embed(INPUTS)
    assert model.name in sentence(caught.value)
    assert loopback.requests()["requests"] == 1
    assert (await model.embed(INPUTS)).matrix.shape == (5, 64)


@pytest.mark.parametrize("kind", ["400", "413", "422", "refuse"])
async def test_a_refused_input_is_the_inputs_fault(
    model: openai.OpenAI, loopback: Loopback, kind: str
) -> None:
    loopback.fault(kind, times=None, match="text 3")
    with pytest.raises(InputRefused, match="refused the input") as caught:
        await model.embed(INPUTS)
    sentence(caught.value)
    assert loopback.requests()["requests"] == 1
    assert (await model.embed(INPUTS[:3])).matrix.shape == (3, 64)


async def test_a_model_that_the_server_does_not_know(loopback: Loopback) -> None:
    model = connected(loopback, "no-such-model")
    with pytest.raises(ProviderUnavailable, match="does not know the model no-such-model") as caught:
        await model.traits()
    assert "/v1" in sentence(caught.value)
    await model.close()


@pytest.mark.parametrize("kind", ["drip", "hang", "slow"])
async def test_patience_ends(loopback: Loopback, kind: str) -> None:
    model = connected(loopback, timeout=0.2)
    loopback.fault(kind, delay=1.0)
    with pytest.raises(ProviderUnavailable, match=r"did not answer within 0\.2 s") as caught:
        await model.embed(INPUTS)
    sentence(caught.value)
    assert len(loopback.bill()) == 5  # the time-out does not know: it was paid for
    await model.close()


async def test_nobody_listens() -> None:
    with Loopback() as gone:
        model = connected(gone)
    with pytest.raises(ProviderUnavailable, match="cannot be reached") as caught:
        await model.embed(INPUTS)
    sentence(caught.value)
    await model.close()


async def test_a_cancelled_call_is_cancelled(model: openai.OpenAI, loopback: Loopback) -> None:
    loopback.hold()
    call = asyncio.create_task(model.embed(INPUTS))
    await asyncio.to_thread(loopback.wait_held)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    loopback.release()
    assert (await model.embed(INPUTS)).matrix.shape == (5, 64)


async def test_the_gate_holds_until_it_is_opened(model: openai.OpenAI, loopback: Loopback) -> None:
    loopback.hold()
    calls = [asyncio.create_task(model.embed(INPUTS)) for _ in range(3)]
    await asyncio.to_thread(loopback.wait_held, 3)
    assert not any(call.done() for call in calls)
    loopback.release()
    await asyncio.gather(*calls)
    assert loopback.held() == 0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("2", 2),
        ("0.25", 0.25),
        ("-5", 0),
        ("1e12", _refusals.LONGEST_WAIT),
        ("nan", None),
        ("soon", None),
    ],
)
async def test_how_long_to_wait_is_handed_on(
    model: openai.OpenAI, loopback: Loopback, value: str | None, seconds: float | None
) -> None:
    loopback.fault("429", retry_after=value)
    with pytest.raises(ProviderUnavailable) as caught:
        await model.embed(INPUTS)
    assert caught.value.retry_after == seconds


def test_a_date_to_wait_for_is_read_by_the_servers_own_clock() -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    until = format_datetime(now + timedelta(seconds=90), usegmt=True)
    assert _refusals.retry_after({"retry-after": until}) == pytest.approx(90, abs=5)
    behind = format_datetime(now - timedelta(hours=1) + timedelta(seconds=60), usegmt=True)
    headers = {
        "retry-after": behind,
        "date": format_datetime(now - timedelta(hours=1), usegmt=True),
    }
    assert _refusals.retry_after(headers) == 60


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": {"message": "too long", "code": "x"}}', "too long"),
        (b'{"error": "batch size 64 > 32", "error_type": "Validation"}', "batch size 64 > 32"),
        (b'{"object": "error", "message": "max length is 512", "code": 400}', "max length is 512"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b'{"detail": [{"loc": ["body"], "msg": "extra", "input": "our text"}]}', "extra"),
        (b"<html>our text</html>", ""),
        (b'["our text"]', ""),
        (b'{"detail": []}', ""),
        (b'{"error": {"message": "' + b"x" * 900 + b'"}}', "x" * 200),
        (b'{"error": {"message": "two\\nlines\\u001b[31m"}}', "two lines[31m"),
    ],
)
def test_the_servers_reason_is_found_in_every_dialect(body: bytes, words: str) -> None:
    """But only in fields meant for it: the others repeat what we sent."""
    assert _refusals.reason(body).words == words


# --- the key, and where it may go -----------------------------------------------------------------


async def test_the_key_is_sent_and_shown_nowhere(
    loopback: Loopback, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    model = connected(loopback)
    answer = await model.embed(INPUTS)
    assert KEY not in repr((model, answer, Options(api_key=KEY), model.name))
    assert KEY not in caplog.text
    await model.close()


async def test_a_wrong_key_is_not_repeated(loopback: Loopback) -> None:
    model = connected(loopback, api_key="sk-wrong-key")
    with pytest.raises(ProviderUnavailable, match="refused the API key") as caught:
        await model.embed(INPUTS)
    assert "sk-wrong" not in "".join(traceback.format_exception(caught.value))
    await model.close()


async def test_a_missing_key_is_asked_for(loopback: Loopback) -> None:
    model = connected(loopback, api_key=None)
    with pytest.raises(ProviderUnavailable, match=r"wants an API key \(401\): set OPENAI_API_KEY"):
        await model.embed(INPUTS)
    await model.close()


@pytest.mark.parametrize("base_url", [None, "https://api.openai.com/v1", "https://API.openai.com"])
def test_openai_itself_needs_a_key(base_url: str | None) -> None:
    with pytest.raises(BadInput, match="set OPENAI_API_KEY"):
        openai.connect("text-embedding-3-small", Options(base_url=base_url))


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel", "\x00"])
def test_a_key_that_no_header_can_carry_is_not_repeated(key: str) -> None:
    with pytest.raises(BadInput, match="copy it again into OPENAI_API_KEY") as caught:
        openai.connect("x", Options(api_key=key))
    assert key not in str(caught.value)


async def test_a_key_from_a_file_may_end_in_a_newline(loopback: Loopback) -> None:
    model = connected(loopback, api_key=f"{KEY}\n")
    assert (await model.embed(INPUTS)).matrix.shape == (5, 64)
    await model.close()


@pytest.mark.parametrize(
    "base_url",
    [
        "http://example.com/v1",
        "http://10.0.0.1/v1",
        "http://2130706433/v1",
        "http://127.0.0.1.example.com/v1",
        "http://localhost.example.com/v1",
        "http://0.0.0.0/v1",
        "http://[::ffff:10.0.0.1]/v1",
    ],
)
def test_nothing_travels_unencrypted_beyond_this_machine(base_url: str) -> None:
    with pytest.raises(BadInput, match=r"unencrypted: use https"):
        openai.connect("x", Options(base_url=base_url, api_key=KEY))


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:9/v1", "http://[::1]:9", "http://localhost"])
async def test_this_machine_needs_no_encryption(base_url: str) -> None:
    await openai.connect("x", Options(base_url=base_url)).close()


@pytest.mark.parametrize(
    "base_url",
    ["api.openai.com/v1", "ftp://host/v1", "https://", "https://h:99999/v1", "http://[::1"],
)
def test_a_malformed_base_url_is_explained(base_url: str) -> None:
    with pytest.raises(BadInput, match="write it like https://host/v1"):
        openai.connect("x", Options(base_url=base_url))


@pytest.mark.parametrize("extra", ["u:secret@host/v1", "host/v1?secret=1", "host/v1#secret"])
def test_secrets_do_not_belong_into_base_url(extra: str) -> None:
    with pytest.raises(BadInput, match="carries a user, a query or a fragment") as caught:
        openai.connect("x", Options(base_url=f"https://{extra}"))
    assert "secret" not in str(caught.value)


async def test_a_server_on_this_machine_is_not_asked_through_a_proxy(
    loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    model = connected(loopback)
    assert (await model.embed(INPUTS)).matrix.shape == (5, 64)
    await model.close()


# --- facts ----------------------------------------------------------------------------------------

LIMITS = {"max_tokens": 8192, "max_inputs": 2048, "max_request_tokens": 300_000}


async def test_known_models_need_no_probe() -> None:
    model = openai.connect("text-embedding-3-large", Options(api_key=KEY, dims=256))
    traits = await model.traits()
    assert (traits.dims, traits.normalised) == (256, True)
    assert (traits.max_tokens, traits.max_inputs, traits.max_request_tokens) == (
        8192,
        2048,
        300_000,
    )
    await model.close()


def test_dims_that_a_known_model_cannot_have_are_refused() -> None:
    with pytest.raises(BadInput, match="has 1536 dims, not 3072: ask for fewer"):
        openai.connect("text-embedding-3-small", Options(api_key=KEY, dims=3072))
    with pytest.raises(BadInput, match="has 1536 dims, always"):
        openai.connect("text-embedding-ada-002", Options(api_key=KEY, dims=512))


@pytest.mark.parametrize("model", sorted(_facts.known_models("openai")))
def test_the_facts_are_complete(model: str) -> None:
    facts = _facts.known_models("openai")[model]
    assert facts.dims > 0
    assert facts.max_tokens <= facts.max_request_tokens
