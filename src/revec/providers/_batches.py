"""What batch APIs over HTTP do alike; an engine adds its wire.

A file of requests goes there, a batch of it is begun, and files of answers come back, read a line at a
time. One text a request, so that one that is refused is refused alone.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any

from revec.model.errors import InputRefused, ProviderError, ProviderUnavailable, Trouble
from revec.model.space import MAX_STORED_DIMS
from revec.providers._http import NUMBER, SLACK
from revec.providers._refusals import Answer
from revec.providers.base import Item, Progress

if TYPE_CHECKING:
    from revec.providers._hosted import Hosted

MARK = "revec"  # before what we call files and batches there
LISTED = 100  # batches in one page of a list, at most
UPLOAD = 250_000  # bytes a second, of a slow line
FULL_PAUSE = 600.0  # seconds until there may be room for another batch


@dataclass(frozen=True, slots=True)
class Told:
    """What a line of answers says of one text. Without a status it was not worked on."""

    name: object
    status: int | None = None  # as if that text had been sent alone
    body: Mapping[str, Any] | None = None


class HostedBatches(ABC):
    """Of one model."""

    max_inputs: int
    max_tokens: int
    max_bytes: int

    def __init__(self, provider: Hosted) -> None:
        self._provider = provider
        self._server = provider.server

    # --- there ----------------------------------------------------------------

    def line(self, name: str, text: str) -> bytes:
        return compact(self._request(name, text)) + b"\n"

    @abstractmethod
    def _request(self, name: str, text: str) -> Mapping[str, object]:
        """A line of the file of requests."""

    @abstractmethod
    async def ready(self) -> None: ...

    @abstractmethod
    async def upload(self, mark: str, lines: IO[bytes]) -> str: ...

    @abstractmethod
    async def submit(self, mark: str, file: str) -> str: ...

    async def find(self, mark: str, since: datetime) -> str | None:
        page: str | None = ""
        while page is not None:
            batches, page = await self._listed(page, since)
            for batch in batches:
                if self._mark(batch) == mark:
                    return self._id(batch)
        return None

    @abstractmethod
    async def _listed(self, page: str, since: datetime) -> tuple[list[Any], str | None]:
        """Batches of one page of the list, the first one called ""; and which page is next, if one is."""

    @abstractmethod
    def _mark(self, batch: Any) -> str | None:
        """What a batch was called by whoever submitted it."""

    # --- and back -------------------------------------------------------------

    @abstractmethod
    async def look(self, batch_id: str) -> Progress: ...

    def _failure(self, code: str, words: str, *, full: bool) -> ProviderError:
        """Of a batch that failed as a whole. `full`: there was no room for it."""
        why = f"{code or 'failed'}: {words[:200] or 'it does not say why'}"
        sentence = f"{self._server.place} did not begin the batch ({why})"
        if full:
            return no_room(f"{sentence}: another one is tried later")
        return InputRefused(f"{sentence}: its documents are embedded one by one if that goes on")

    async def collect(self, progress: Progress) -> AsyncIterator[Item]:
        longest = SLACK + NUMBER * MAX_STORED_DIMS
        for file in progress.outputs:
            async for line in self._server.lines(self._content(file), longest=longest):
                if line.strip():
                    yield self._item(line)

    @abstractmethod
    def _content(self, file: str) -> str:
        """Where a file's lines are."""

    @abstractmethod
    def _told(self, said: Mapping[str, Any]) -> Told:
        """Of one line of answers."""

    def _item(self, line: bytes) -> Item:
        whole = Answer(HTTPStatus.OK, {}, line)
        told = self._told(self._server.understood(whole, 1))
        if not isinstance(told.name, str):  # it was paid for, and would be again
            raise self._server.garbled(1, "an answer that does not say to which text")
        if told.status == HTTPStatus.OK:
            made = self._provider.vector(whole, dict(told.body or {}))
            return Item(told.name, made.matrix[0], made.tokens or 0)
        if told.status is None:
            return Item(told.name)
        refusal = self._server.refusal(Answer(told.status, {}, compact(told.body or {})))
        return Item(told.name, refused=refusal if isinstance(refusal, InputRefused) else None)

    # --- and gone -------------------------------------------------------------

    @abstractmethod
    async def cancel(self, batch_id: str) -> None: ...

    async def discard(self, files: Sequence[str]) -> None:
        """As far as it goes: a file that stays is no harm."""
        for file in files:
            with suppress(ProviderError):
                await self._said("DELETE", self._place(file))

    @abstractmethod
    def _place(self, file: str) -> str:
        """Where a file is."""

    # --- asking ---------------------------------------------------------------

    @abstractmethod
    def _id(self, said: Mapping[str, Any]) -> str:
        """What it calls what it took.

        Raises:
            AnswerInvalid: nothing.
        """

    async def _said(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        answer = await self._asked(method, path, **request)
        return self._server.understood(answer, 1)

    async def _asked(self, method: str, path: str, **request: Any) -> Answer:
        answer = await self._server.ask(method, path, limit=LISTED * SLACK, **request)
        if answer.status != HTTPStatus.OK:
            raise self._server.refusal(answer)
        return answer


def no_room(sentence: str) -> ProviderUnavailable:
    """For a batch, beside those that wait there."""
    return ProviderUnavailable(sentence, trouble=Trouble.RATE, retry_after=FULL_PAUSE)


def compact(said: Mapping[str, object]) -> bytes:
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()


def fields(value: object) -> Mapping[str, Any]:
    """An object of the answer; where there is none, one without fields."""
    return value if isinstance(value, dict) else {}


def size_of(lines: IO[bytes]) -> int:
    """Bytes; whoever reads next begins at the start."""
    size = lines.seek(0, 2)
    lines.seek(0)
    return size
