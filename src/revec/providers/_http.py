"""One server that embeds over HTTP: how it is reached, asked, and understood when it refuses.

Nothing is retried and no redirect is followed: the caller knows what waiting costs, and a text
goes where it was sent or nowhere. The key is in a header and in no sentence.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from typing import Any

import httpx2

from revec.model.errors import (
    AnswerInvalid,
    BadInput,
    ProviderError,
    ProviderUnavailable,
    Trouble,
)
from revec.providers import _refusals
from revec.providers._refusals import Answer

LAST_PORT = 65_535
NUMBER = 26  # bytes; the longest that a float64 takes as text, its comma included
JSON = {"Content-Type": "application/json"}
SLACK = 1 << 20  # bytes; for what stands around the vectors, or says why there are none
ECHO = 3  # bytes an answer may have for each of the request: some repeat the texts, escaped


@cache
def _trusted(trust_env: bool) -> ssl.SSLContext:  # noqa: FBT001 - the client's own word
    """Whose certificates count. Once a process: to read them takes 50 ms, and an App may come and go."""
    return httpx2.create_ssl_context(trust_env=trust_env)


@dataclass(frozen=True, slots=True)
class House:
    """What there is to know of a provider before it is reached."""

    engine: str
    home: str  # its own base URL; only there a key is a must
    key_name: str  # the variable that people set
    write_url: str  # what a base URL looks like


class Server:
    """Where one model is asked."""

    def __init__(
        self,
        house: House,
        model: str,
        *,
        base_url: httpx2.URL,
        key: str | None,
        headers: Mapping[str, str],
        timeout: float,
    ) -> None:
        self._house, self._model, self._base_url = house, model, base_url
        self._key, self._timeout = key, timeout
        is_abroad = not is_loopback(base_url.host)
        self._client = httpx2.AsyncClient(
            headers=headers,
            follow_redirects=False,
            timeout=timeout,
            # A corporate proxy is meant for the internet, not for a server on this machine.
            trust_env=is_abroad,
            verify=_trusted(is_abroad),
        )

    @property
    def place(self) -> str:
        return f"{self._house.engine}:{self._model} at {self._base_url}"

    def beside(self, name: str) -> str:
        """https://host/v1 → https://host/NAME/v1: where some take and give files."""
        above, _, last = self._base_url.path.rstrip("/").rpartition("/")
        return str(self._base_url.copy_with(path=f"{above}/{name}/{last}".rstrip("/")))

    async def post(self, path: str, payload: Mapping[str, object], *, numbers: int) -> Answer:
        """What the server says to it, good or bad.

        Args:
            numbers: floats that a good answer holds at most; a much longer one is not read to its end.

        Raises:
            ProviderUnavailable: it cannot be reached, or is too slow.
            AnswerInvalid: the answer is too long, or cannot be decompressed.
        """
        body = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
        limit = SLACK + ECHO * len(body) + NUMBER * numbers
        return await self.ask("POST", path, limit=limit, content=body, headers=JSON)

    async def ask(
        self, method: str, path: str, *, limit: int = SLACK, patience: float = 0.0, **request: Any
    ) -> Answer:
        """What the server says, good or bad; an answer of more than `limit` bytes is not read to its end.

        Args:
            path: below base_url; or a whole address, of the same server.
            patience: seconds beyond the usual ones, for much that has to travel.
            request: its body, as the client takes it.

        Raises:
            ProviderUnavailable: it cannot be reached, or is too slow.
            AnswerInvalid: the answer is too long, or cannot be decompressed.
        """
        # One limit around everything: the client's own begins anew with every byte.
        async with (
            self._answered(self._timeout + patience),
            asyncio.timeout(self._timeout + patience),
            self._client.stream(method, self._at(path), **request) as response,
        ):
            good = response.status_code == HTTPStatus.OK
            body = await self._read(response, limit) if good else await self._some(response, limit)
            return Answer(response.status_code, _shown(response.headers), body)

    async def lines(self, path: str, *, longest: int) -> AsyncIterator[bytes]:
        """A long answer, a line at a time, for as long as bytes keep coming.

        Raises:
            ProviderError: as `ask`, or what the server's refusal means.
        """
        async with (
            self._answered(self._timeout),
            self._client.stream("GET", self._at(path)) as response,
        ):
            if response.status_code != HTTPStatus.OK:
                body = await self._read(response, SLACK)
                raise self.refusal(Answer(response.status_code, _shown(response.headers), body))
            rest = b""
            async for part in response.aiter_bytes():
                *whole, rest = (rest + part).split(b"\n")
                if len(rest) > longest:
                    raise self._too_long(longest)
                for line in whole:
                    yield line
            if rest:
                yield rest

    def _at(self, path: str) -> httpx2.URL:
        """
        Raises:
            ProviderUnavailable: it is at another server, where neither text nor key will go.
        """
        if path.startswith("/"):
            return httpx2.URL(f"{self._base_url}{path}")
        try:
            url = httpx2.URL(path)
        except httpx2.InvalidURL:
            url = httpx2.URL("")
        if same_server(url, self._base_url):
            return url
        raise ProviderUnavailable(
            f"{self.place} sends us on to {url.host or 'no address'}, where no text will follow: "
            f"set base_url to a server that takes files itself",
            trouble=Trouble.SERVER,
        )

    @asynccontextmanager
    async def _answered(self, patience: float) -> AsyncIterator[None]:
        """What goes wrong on the way, in our words."""
        try:
            yield
        except (TimeoutError, httpx2.TimeoutException) as error:
            raise ProviderUnavailable(
                f"{self.place} did not answer within {patience:g} s: "
                f"it will be asked again; if that goes on, check the server or raise the timeout",
                trouble=Trouble.TIMEOUT,
            ) from error
        except httpx2.DecodingError as error:
            raise AnswerInvalid(
                f"{self.place} sent an answer that cannot be decompressed: "
                f"nothing was written; check the server or the proxy before it"
            ) from error
        except httpx2.TransportError as error:
            raise ProviderUnavailable(
                f"{self.place} cannot be reached, or hung up ({type(error).__name__}): "
                f"it will be asked again; if that goes on, check the server and base_url"
            ) from error

    async def _read(self, response: httpx2.Response, limit: int) -> bytes:
        parts, size = [], 0
        async for part in response.aiter_bytes():  # decompressed in bounded pieces
            parts.append(part)
            size += len(part)
            if size > limit:
                raise self._too_long(limit)
        return b"".join(parts)

    async def _some(self, response: httpx2.Response, limit: int) -> bytes:
        """The beginning of an error's page, whatever it is worth: its status says who is to blame."""
        try:
            return await self._read(response, limit)
        except (AnswerInvalid, httpx2.DecodingError):
            return b""

    def _too_long(self, limit: int) -> AnswerInvalid:
        return AnswerInvalid(
            f"{self.place} sent more than {limit:,} bytes, which no answer to this request needs: "
            f"nothing was written; check that base_url is an embeddings server"
        )

    def understood(self, answer: Answer, inputs: int) -> dict[str, Any]:
        """The good answer's JSON.

        Raises:
            AnswerInvalid: it is none.
        """
        try:
            said = json.loads(answer.body)
        except (ValueError, RecursionError) as error:
            raise AnswerInvalid(
                f"{self.place} answered {inputs} inputs with something that is not JSON, "
                f"or is cut short: nothing was written; check the server, then `revec resume`"
            ) from error
        if not isinstance(said, dict):
            raise self.senseless(answer)
        return said

    def senseless(self, answer: Answer) -> AnswerInvalid:
        """A good status, and no vectors."""
        words = self._without_key(_refusals.reason(answer.body).words) or "no vectors where they belong"
        return AnswerInvalid(
            f"{self.place} answered 200 without vectors ({words}): "
            f"nothing was written; check the server, then `revec resume`"
        )

    def garbled(self, inputs: int, what: object) -> AnswerInvalid:
        return AnswerInvalid(
            f"{self.place} answered {inputs} inputs with {what}: "
            f"nothing was written; check the server, then `revec resume`"
        )

    def refusal(self, answer: Answer) -> ProviderError:
        return _refusals.refusal(
            answer,
            place=self.place,
            model=self._model,
            key_name=self._house.key_name,
            has_key=bool(self._key),
            clean=self._without_key,
            write_url=self._house.write_url,
        )

    async def close(self) -> None:
        await self._client.aclose()

    def _without_key(self, words: str) -> str:
        return words.replace(self._key, "[key]") if self._key else words


def usable_url(base_url: str, house: House) -> httpx2.URL:
    """Fit to carry texts and a key: judged by the parser that will connect to it.

    Raises:
        BadInput: why not.
    """
    try:
        url = httpx2.URL(base_url.rstrip("/"))
    except httpx2.InvalidURL:
        url = httpx2.URL("")
    if url.scheme not in {"http", "https"} or not url.host or (url.port or 0) > LAST_PORT:
        raise BadInput(f"base_url is not the address of a server: write it like {house.write_url}")
    if url.userinfo or url.query or url.fragment:
        raise BadInput(
            f"base_url of {url.host} carries a user, a query or a fragment: write it like "
            f"{house.write_url} and hand the key over as {house.key_name}"
        )
    if url.scheme == "http" and not is_loopback(url.host):
        raise BadInput(
            f"base_url would send texts and the API key to {url.host} unencrypted: "
            f"use https, or a tunnel that ends on 127.0.0.1"
        )
    return url


def same_server(one: httpx2.URL, other: httpx2.URL) -> bool:
    return (one.scheme, one.host, one.port) == (other.scheme, other.host, other.port)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def usable_key(key: str | None, house: House) -> str | None:
    key = (key or "").strip()  # keys come from files that end in a newline
    if any(not "!" <= char <= "~" for char in key):
        raise BadInput(
            "the API key holds a space, a control character or a letter beyond ASCII: "
            f"copy it again into {house.key_name}"
        )
    return key or None


def _shown(headers: httpx2.Headers) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != "set-cookie"}
