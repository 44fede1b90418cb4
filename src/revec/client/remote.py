"""The way over HTTP: a `revec serve` somewhere, asked with a key."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from datetime import datetime
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

import httpx2

from revec import __version__
from revec.client.shapes import Answer, Document, Receipt, Search, Similar, Whose, Written
from revec.model import errors
from revec.model.document import Draft
from revec.model.errors import (
    BadInput,
    MissingExtra,
    NotAllowed,
    NotFound,
    NotIdentified,
    ProviderError,
    ProviderUnavailable,
    Refused,
    RevecError,
    TooMuch,
    Unavailable,
)
from revec.model.index import Askable, Listed
from revec.model.reading import Hit

PATIENCE = 30.0  # seconds for an answer, beyond what it was asked to wait
LOOPBACK = ("127.0.0.1", "::1", "localhost")
KEY = re.compile(r"[\x21-\x7e]+")
BUSY = (502, 503, 504)
PROBLEM = "application/problem+json"
BY_STATUS: dict[int, type[RevecError]] = {  # of a problem that does not name the error itself
    401: NotIdentified,
    403: NotAllowed,
    404: NotFound,
    408: Unavailable,
    409: Refused,
    429: TooMuch,
    501: MissingExtra,
    502: ProviderError,
    503: Unavailable,
}

Made = TypeVar("Made")


class Remote:
    def __init__(self, url: str, key: str | None, *, in_clear: bool) -> None:
        self._url = _address(url)
        if (
            key is not None
            and not in_clear
            and self._url.scheme != "https"
            and self._url.host not in LOOPBACK
        ):
            raise BadInput(
                f"the key would go to {self._url.host} for everybody on the way to read: write https://…, or "
                "say in_clear=True where the network is your own"
            )
        self._headers = {"user-agent": f"revec/{__version__}"} | _shown(key)

    async def open(self) -> None:
        """No question is asked: the server may come later."""
        self._http = httpx2.AsyncClient(
            base_url=self._url,
            headers=self._headers,
            follow_redirects=False,  # a key goes where it was sent or nowhere
            timeout=None,  # one limit stands around everything
            # A corporate proxy is meant for the internet, not for a server on this machine.
            trust_env=self._url.host not in LOOPBACK,
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def search(self, asked: Search) -> Answer:
        """By POST: no access log on the way keeps the question."""
        body = {"q": asked.query, "k": asked.k, "mode": asked.mode, "contents": asked.contents}
        body |= _said(filter=asked.filter, tenant=_tenant(asked.whose), sticky=asked.sticky)
        return self._answer(await self._ask("POST", _path(asked.collection, "search"), body))

    async def similar(self, asked: Similar) -> Answer:
        like = _said(key=asked.key, source=asked.source, text=asked.text)
        like |= _said(vector=asked.vector, space=asked.space)
        which = _said(threshold=asked.threshold, filter=asked.filter, tenant=_tenant(asked.whose))
        body = {**like, "k": asked.k, **which, **_said(sticky=asked.sticky)}
        return self._answer(await self._ask("POST", _path(asked.collection, "similar"), body))

    async def write(
        self, collection: str, drafts: Sequence[Draft], gone: Sequence[str], whose: Whose, wait: float
    ) -> Receipt:
        body = {"put": [_pushed(draft) for draft in drafts], "delete": list(gone)}
        body |= _said(tenant=_tenant(whose))
        answer = await self._ask("POST", _path(collection, "documents", "batch"), body, wait=wait)
        said = self._json(answer)
        with self._understood():
            written = [_made(Written, each) for each in said["documents"]]
            return Receipt(said["collection"], written, settled=answer.status_code == HTTPStatus.OK)

    async def get(self, collection: str, id: str, source: str, whose: Whose) -> Document:  # noqa: A002
        which = _said(source=source, tenant=_tenant(whose))
        answer = await self._ask("GET", _path(collection, "documents", id), params=which)
        said = self._json(answer)
        with self._understood():
            return _made(Document, said | {"changed_at": datetime.fromisoformat(said["changed_at"])})

    async def collections(self) -> list[Listed]:
        said = self._json(await self._ask("GET", "/v1/collections"))
        with self._understood():
            return [
                _made(Listed, each | {"indexes": [_made(Askable, index) for index in each["indexes"]]})
                for each in said["collections"]
            ]

    async def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        wait: float = 0.0,
    ) -> httpx2.Response:
        """A good answer.

        Raises:
            RevecError: what the server's problem says, or Unavailable where it says nothing.
        """
        asked = dict(params or {}) | ({"wait": f"{wait:g}"} if wait else {})
        try:
            async with asyncio.timeout(PATIENCE + wait):
                answer = await self._http.request(method, path, json=body, params=asked)
        except TimeoutError as error:
            late = f"{self._url} did not answer within {PATIENCE + wait:g} s"
            raise Unavailable(f"{late}; what was asked may have been done") from error
        except httpx2.HTTPError as error:
            why = str(error) or type(error).__name__
            raise Unavailable(f"cannot reach {self._url}: {why}. Is `revec serve` there?") from error
        if not answer.is_success:
            raise self._refusal(answer)
        return answer

    def _refusal(self, answer: httpx2.Response) -> RevecError:
        if answer.headers.get("content-type") != PROBLEM:
            who = "it or a proxy is busy" if answer.status_code in BUSY else "is it `revec serve`?"
            return Unavailable(f"{self._url} answered {answer.status_code}: {who}")
        said = self._json(answer)
        return _error(answer.status_code, str(said.get("detail")), said.get("code"), answer.headers)

    def _json(self, answer: httpx2.Response) -> dict[str, Any]:
        """
        Raises:
            Unavailable: it is no object.
        """
        with self._understood():
            return dict(answer.json())

    def _answer(self, answer: httpx2.Response) -> Answer:
        said = self._json(answer)
        with self._understood():
            return _made(Answer, said | {"hits": [_made(Hit, hit) for hit in said["hits"]]})

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """
        Raises:
            Unavailable: somebody else answers there.
        """
        try:
            yield
        except (KeyError, TypeError, ValueError) as error:
            raise Unavailable(f"{self._url} does not answer like `revec serve`") from error


def _error(status: int, sentence: str, code: Any, headers: Mapping[str, str]) -> RevecError:
    """The error that the server met: by its name, or by the status where it has none that is known here."""
    kind = getattr(errors, code, None) if isinstance(code, str) else None
    if not (isinstance(kind, type) and issubclass(kind, RevecError)):
        other = BadInput if status < HTTPStatus.INTERNAL_SERVER_ERROR else RevecError
        kind = BY_STATUS.get(status, other)
    if kind is MissingExtra:  # which makes its sentence itself, and this one is made
        return MissingExtra.__new__(MissingExtra, sentence)
    if issubclass(kind, TooMuch | ProviderUnavailable):
        return kind(sentence, retry_after=_seconds(headers.get("retry-after")))
    return kind(sentence)


def _seconds(said: str | None) -> float:
    return float(said) if said and said.isdecimal() else 1.0


def _address(url: str) -> httpx2.URL:
    """
    Raises:
        BadInput: it is no address of a server.
    """
    try:
        made = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise BadInput(f"{url!r} is no address: write https://search.example") from error
    if not made.host or made.userinfo or made.query or made.fragment:
        raise BadInput("an address here is https://search.example, and a path where a proxy has one")
    return made


def _shown(key: str | None) -> dict[str, str]:
    """
    Raises:
        BadInput: it is no key; without saying what it is.
    """
    if key is None:
        return {}
    if not KEY.fullmatch(key.strip()):  # a file ends with a new line
        raise BadInput("this is no key or token: `revec keys create` makes one")
    return {"authorization": f"Bearer {key.strip()}"}


def _path(collection: str, *parts: str) -> str:
    """Each part is one, whatever is in it; two dots alone would be a step up."""
    quoted = (quote(part, safe="").replace(".", "%2E") for part in (collection, *parts))
    return "/v1/collections/" + "/".join(quoted)


def _tenant(whose: Whose) -> str | None:
    """Whoever does not say, or says all, gets what the key reaches."""
    return whose if isinstance(whose, str) else None


def _said(**values: Any) -> dict[str, Any]:
    """Only what is said: the rest is the server's to decide."""
    return {name: value for name, value in values.items() if value is not None}


def _pushed(draft: Draft) -> dict[str, Any]:
    said = asdict(draft)
    return {"id": said.pop("key"), "text": said.pop("body"), **said}


def _made(kind: type[Made], said: Mapping[str, Any]) -> Made:
    """What is known here of what a server says: a newer one may say more."""
    known = {each.name: said[each.name] for each in fields(kind) if each.name in said}  # type: ignore[arg-type]
    return kind(**known)
