"""Any server that speaks the OpenAI wire: OpenAI, Azure, vLLM, TEI, Ollama, a gateway.

Our own client, because this is the hot path: base64 straight into numpy, the headers of good
answers handed on, nothing retried out of the caller's sight.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from http import HTTPStatus
from importlib import resources
from typing import Any

import httpx2
import numpy as np

from revec.model.errors import (
    AnswerInvalid,
    BadInput,
    InputRefused,
    ProviderError,
    ProviderUnavailable,
    Trouble,
)
from revec.providers.base import (
    Input,
    Kind,
    Matrix,
    Options,
    TextInput,
    Traits,
    Vectors,
    checked,
    texts_only,
)

OPENAI = "https://api.openai.com/v1"
ANSWER_LIMIT = 256 * 2**20  # bytes; 2,048 vectors of 4,096 dims as lists of floats are about 170 MB
REASON_LIMIT = 200  # characters of the server's own words
LONGEST_WAIT = 3600.0  # seconds; a server that asks for more has its clock or its units wrong
PROBE = "How many dimensions?"
LAST_PORT = 65_535
FLOAT32 = np.dtype("<f4")

BLAMES_INPUT = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)
NO_KEY_STATUS = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
NO_KEY = frozenset({"invalid_api_key", "account_deactivated"})
NO_MODEL = frozenset({"model_not_found", "DeploymentNotFound"})
NO_MONEY = frozenset({"insufficient_quota", "billing_not_active", "billing_hard_limit_reached"})


@dataclass(frozen=True, slots=True)
class Facts:
    """What models.toml says of a model."""

    dims: int
    shorter: bool
    normalised: bool
    max_tokens: int
    max_inputs: int
    max_request_tokens: int


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a server says that it refused. Only fields meant for that: others repeat the input."""

    codes: frozenset[str] = frozenset()
    param: str = ""
    words: str = ""


class OpenAI:
    """One model of one server."""

    def __init__(self, model: str, options: Options, *, base_url: httpx2.URL, facts: Facts | None) -> None:
        self._model = model
        self._base_url = base_url
        self._facts = facts
        self._timeout = options.timeout
        self._key = options.api_key
        self._dims = options.dims or (facts.dims if facts else None)
        self._probing = asyncio.Lock()
        # What a server may not know. Once it says so, it is asked without.
        self._optional: dict[str, object] = {"encoding_format": "base64"}
        if options.dims:
            self._optional["dimensions"] = options.dims
        self._client = httpx2.AsyncClient(
            headers=_headers(options.api_key),
            follow_redirects=False,
            timeout=options.timeout,
            # A corporate proxy is meant for the internet, not for a server on this machine.
            trust_env=not is_loopback(base_url.host),
        )

    @property
    def name(self) -> str:
        return f"openai:{self._model}"

    async def traits(self) -> Traits:
        async with self._probing:
            dims = self._dims or (await self.embed([TextInput(PROBE)])).matrix.shape[1]
        facts = self._facts
        return Traits(
            dims=dims,
            revision="",
            normalised=facts.normalised if facts else False,
            max_tokens=facts.max_tokens if facts else None,
            max_inputs=facts.max_inputs if facts else None,
            max_request_tokens=facts.max_request_tokens if facts else None,
        )

    async def embed(self, inputs: Sequence[Input], kind: Kind = "document") -> Vectors:  # noqa: ARG002 - the wire knows no kinds
        texts = texts_only(inputs, name=self.name)
        if not texts:
            return Vectors(np.zeros((0, (await self.traits()).dims), np.float32), tokens=0)
        answer = await self._ask(texts)
        matrix, tokens = self._vectors(answer.body, len(texts))
        matrix = checked(
            matrix,
            inputs=len(texts),
            dims=self._dims or matrix.shape[1],
            name=self._place,
            unit=bool(self._facts and self._facts.normalised),
        )
        self._dims = matrix.shape[1]
        return Vectors(matrix, tokens, answer.headers)

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(text.encode(errors="replace")) // 4 + 1 for text in texts]

    async def close(self) -> None:
        await self._client.aclose()

    @property
    def _place(self) -> str:
        return f"{self.name} at {self._base_url}"

    async def _ask(self, texts: list[str]) -> Answer:
        """The good answer; a parameter that the server does not know is left out from then on."""
        sent = dict(self._optional)
        while True:
            answer = await self._post({"model": self._model, "input": texts, **sent})
            if answer.status == HTTPStatus.OK:
                self._optional = {k: v for k, v in self._optional.items() if k in sent}
                return answer
            unknown = unknown_parameter(answer, sent)
            if unknown is None:
                raise self._refusal(answer)
            del sent[unknown]

    async def _post(self, payload: Mapping[str, object]) -> Answer:
        body = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
        try:
            # One limit around everything: the client's own begins anew with every byte.
            async with (
                asyncio.timeout(self._timeout),
                self._client.stream("POST", f"{self._base_url}/embeddings", content=body) as response,
            ):
                return Answer(response.status_code, _shown(response.headers), await self._read(response))
        except (TimeoutError, httpx2.TimeoutException) as error:
            raise ProviderUnavailable(
                f"{self._place} did not answer within {self._timeout:g} s: "
                f"it will be asked again; if that goes on, check the server or raise the timeout",
                trouble=Trouble.TIMEOUT,
            ) from error
        except httpx2.DecodingError as error:
            raise AnswerInvalid(
                f"{self._place} sent an answer that cannot be decompressed: "
                f"nothing was written; check the server or the proxy before it"
            ) from error
        except httpx2.TransportError as error:
            raise ProviderUnavailable(
                f"{self._place} cannot be reached, or hung up ({type(error).__name__}): "
                f"it will be asked again; if that goes on, check the server and base_url"
            ) from error

    async def _read(self, response: httpx2.Response) -> bytes:
        parts, size = [], 0
        async for part in response.aiter_bytes():  # decompressed in bounded pieces
            parts.append(part)
            size += len(part)
            if size > ANSWER_LIMIT:
                raise AnswerInvalid(
                    f"{self._place} sent more than {ANSWER_LIMIT >> 20} MB in one answer: "
                    f"nothing was written; check that base_url is an embeddings server"
                )
        return b"".join(parts)

    def _vectors(self, body: bytes, inputs: int) -> tuple[Matrix, int | None]:
        advice = "nothing was written; check the server, then `revec resume`"
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise AnswerInvalid(
                f"{self._place} answered {inputs} inputs with something that is not JSON, "
                f"or is cut short: {advice}"
            ) from error
        if not isinstance(answer, dict) or not isinstance(answer.get("data"), list):
            words = self._without_key(reason(body).words) or "no field `data`"
            raise AnswerInvalid(f"{self._place} answered 200 without vectors ({words}): {advice}")
        try:
            return matrix_of(answer["data"], inputs), tokens_of(answer)
        except Garbled as error:
            raise AnswerInvalid(f"{self._place} answered {inputs} inputs with {error}: {advice}") from error

    def _refusal(self, answer: Answer) -> ProviderError:
        why = reason(answer.body)
        no_model = answer.status == HTTPStatus.NOT_FOUND or bool(why.codes & NO_MODEL)
        no_key = not no_model and (answer.status in NO_KEY_STATUS or bool(why.codes & NO_KEY))
        # A server that refuses a key likes to show parts of it.
        words = "" if no_key else self._without_key(why.words)
        said = f"({answer.status}{': ' if words else ''}{words})"
        if answer.status in BLAMES_INPUT and not (no_model or no_key):
            return InputRefused(
                f"{self._place} refused the input {said}: "
                f"shorten or repair the text where it comes from and write it again",
                too_large=answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            )
        trouble = Trouble.AUTH
        if no_model:
            sentence = (
                f"does not know the model {self._model} {said}: check its name, whether this key "
                f"may use it, and base_url (most servers want it to end in /v1)"
            )
        elif no_key:
            verb = "refused the API key" if self._key else "wants an API key"
            sentence = f"{verb} {said}: set OPENAI_API_KEY to one that may use {self._model}"
        else:
            sentence = way_out(answer.status, why.codes, said)
            trouble = trouble_of(answer.status, why.codes)
        return ProviderUnavailable(
            f"{self._place} {sentence}",
            trouble=trouble,
            retry_after=retry_after(answer.headers),
            headers=answer.headers,
        )

    def _without_key(self, words: str) -> str:
        return words.replace(self._key, "[key]") if self._key else words


def connect(model: str, options: Options) -> OpenAI:
    """A model of an OpenAI-compatible server; nothing is sent yet.

    Raises:
        BadInput: the key, base_url or dims cannot be right.
    """
    base_url = usable_url(options.base_url or OPENAI)
    key = usable_key(options.api_key)
    if key is None and base_url.host == httpx2.URL(OPENAI).host:
        raise BadInput(
            f"openai:{model} needs an API key: set OPENAI_API_KEY, or base_url to a server of your own"
        )
    facts = known_models().get(model)
    if facts and options.dims and options.dims != facts.dims:
        if not facts.shorter:
            raise BadInput(f"openai:{model} has {facts.dims} dims, always: leave dims out")
        if options.dims > facts.dims:
            raise BadInput(
                f"openai:{model} has {facts.dims} dims, not {options.dims}: ask for fewer, or leave dims out"
            )
    return OpenAI(model, replace(options, api_key=key), base_url=base_url, facts=facts)


@cache
def known_models() -> Mapping[str, Facts]:
    text = resources.files("revec.providers").joinpath("models.toml").read_text("utf-8")
    return {model: Facts(**facts) for model, facts in tomllib.loads(text)["openai"].items()}


def usable_url(base_url: str) -> httpx2.URL:
    """Fit to carry texts and a key: judged by the parser that will connect to it."""
    try:
        url = httpx2.URL(base_url.rstrip("/"))
    except httpx2.InvalidURL:
        url = httpx2.URL("")
    if url.scheme not in {"http", "https"} or not url.host or (url.port or 0) > LAST_PORT:
        raise BadInput("base_url is not the address of a server: write it like https://host/v1")
    if url.userinfo or url.query or url.fragment:
        raise BadInput(
            f"base_url of {url.host} carries a user, a query or a fragment: write it like "
            f"https://host/v1 and hand the key over as OPENAI_API_KEY"
        )
    if url.scheme == "http" and not is_loopback(url.host):
        raise BadInput(
            f"base_url would send texts and the API key to {url.host} unencrypted: "
            f"use https, or a tunnel that ends on 127.0.0.1"
        )
    return url


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def usable_key(key: str | None) -> str | None:
    key = (key or "").strip()  # keys come from files that end in a newline
    if any(not "!" <= char <= "~" for char in key):
        raise BadInput(
            "the API key holds a space, a control character or a letter beyond ASCII: "
            "copy it again into OPENAI_API_KEY"
        )
    return key or None


class Garbled(Exception):
    """What is wrong with an answer: the rest of a sentence, never shown alone."""


def matrix_of(data: list[Any], inputs: int) -> Matrix:
    """Row i is the vector that carries `index` i, wherever it stands in the answer."""
    if len(data) != inputs:
        raise Garbled(f"{len(data)} vectors")
    matrix: Matrix | None = None
    seen = set()
    for item in data:
        index = item.get("index") if isinstance(item, dict) else None
        if type(index) is not int or not 0 <= index < inputs:  # True is an int, but no index
            raise Garbled(f"a vector of index {index!r:.20}")
        if index in seen:
            raise Garbled(f"two vectors of index {index}")
        seen.add(index)
        row = row_of(item.get("embedding"))
        if matrix is None:
            matrix = np.empty((inputs, len(row)), np.float32)
        if len(row) != matrix.shape[1]:
            raise Garbled(f"vectors of {matrix.shape[1]} and of {len(row)} dims")
        matrix[index] = row
    if matrix is None:
        raise Garbled("no vectors")
    return matrix


def row_of(embedding: object) -> Matrix:
    try:
        if isinstance(embedding, str):
            return np.frombuffer(base64.b64decode(embedding, validate=True), FLOAT32)
        row = np.array(embedding)
    except ValueError as error:
        raise Garbled("a vector that is neither base64 of float32 nor a list") from error
    if row.ndim != 1 or row.dtype.kind not in "fiu":
        raise Garbled("a vector that is neither base64 of float32 nor a list of numbers")
    with np.errstate(over="ignore"):  # it becomes infinity, which is refused by name
        return row.astype(np.float32)


def tokens_of(answer: Mapping[str, Any]) -> int | None:
    usage = answer.get("usage")
    tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return tokens if type(tokens) is int and tokens >= 0 else None


def reason(body: bytes) -> Reason:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return Reason()
    if not isinstance(answer, dict):
        return Reason()
    error = answer.get("error") or answer.get("detail") or answer
    if isinstance(error, list):  # FastAPI's own refusals
        error = error[0] if error else {}
    if not isinstance(error, dict):
        return Reason(words=plain(error))
    where = error.get("loc")
    return Reason(
        codes=frozenset(plain(error.get(field)) for field in ("code", "type")),
        param=plain(where[-1] if isinstance(where, list) and where else error.get("param")),
        words=plain(error.get("message") or error.get("msg")),
    )


def plain(words: object) -> str:
    """One short printable line."""
    line = " ".join(words.split()) if isinstance(words, str) else ""
    return "".join(char for char in line if char.isprintable())[:REASON_LIMIT]


def unknown_parameter(answer: Answer, sent: Mapping[str, object]) -> str | None:
    """Which of the parameters that it could do without the server complains about."""
    if answer.status not in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}:
        return None
    why = reason(answer.body)
    blamed = why.param or why.words
    return next((name for name in sent if name in blamed), None)


def way_out(status: int, codes: frozenset[str], said: str) -> str:
    if status == HTTPStatus.PAYMENT_REQUIRED or codes & NO_MONEY:
        return f"has no quota left {said}: check plan and billing there; it will be asked again"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return f"asks us to slow down {said}: it will be asked again later"
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return f"redirects {said}, where no text will follow: set base_url to the final address"
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return f"failed {said}: it will be asked again; if that goes on, check the server"
    return f"does not serve embeddings here {said}: check base_url"


def trouble_of(status: int, codes: frozenset[str]) -> Trouble:
    if codes & NO_MONEY:
        return Trouble.QUOTA
    return Trouble.RATE if status == HTTPStatus.TOO_MANY_REQUESTS else Trouble.SERVER


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from either form of Retry-After; None where it says nothing useful."""
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            until = parsedate_to_datetime(value)
            # By the server's own clock where it tells the time: ours may differ.
            now = parsedate_to_datetime(headers["date"]) if "date" in headers else datetime.now(UTC)
            seconds = (until - now).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), LONGEST_WAIT) if math.isfinite(seconds) else None


def _headers(key: str | None) -> dict[str, str]:
    return {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})


def _shown(headers: httpx2.Headers) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != "set-cookie"}
