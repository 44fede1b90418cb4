"""OpenAI's Batch API: a file of requests, a batch of it, a file of answers and one of errors.

The wire: POST /files (multipart, purpose=batch), POST /batches (endpoint, completion_window, metadata),
GET /batches/ID, GET /batches?after=…, GET /files/ID/content. One text a request, so that one that is
refused is refused alone. https://platform.openai.com/docs/api-reference/batch
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any

from revec.model.errors import InputRefused, ProviderError, ProviderUnavailable, Trouble
from revec.model.space import MAX_STORED_DIMS
from revec.providers._http import JSON, NUMBER, SLACK
from revec.providers._refusals import Answer
from revec.providers.base import Fate, Item, Progress

if TYPE_CHECKING:
    from revec.providers._hosted import Hosted

MARK = "revec"  # the key of our metadata
LISTED = 100  # batches in one page of the list
CLOCKS = timedelta(hours=1)  # that the provider's may be away from ours
UPLOAD = 250_000  # bytes a second, of a slow line
FULL = "token_limit_exceeded"  # of all batches that wait there
FULL_PAUSE = 600.0  # seconds until there may be room for another one

FATES = {
    "completed": Fate.DONE,
    "failed": Fate.FAILED,
    "expired": Fate.EXPIRED,
    "cancelled": Fate.CANCELLED,
}


class OpenAIBatches:
    """Of one model."""

    max_inputs = 50_000  # of embeddings, in all requests of a batch
    max_bytes = 100 << 20  # of the file; 200 MB at OpenAI, 100 at some who speak its wire

    def __init__(self, provider: Hosted) -> None:
        self._provider = provider
        self._server = provider.server

    async def ready(self) -> None:
        await self._said("GET", "/batches?limit=1")

    def line(self, name: str, text: str) -> bytes:
        request = {
            "custom_id": name,
            "method": "POST",
            "url": "/v1/embeddings",
            "body": self._provider.document(text),
        }
        return json.dumps(request, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    async def upload(self, mark: str, lines: IO[bytes]) -> str:
        size = lines.seek(0, 2)
        lines.seek(0)
        said = await self._said(
            "POST",
            "/files",
            patience=size / UPLOAD,
            data={"purpose": "batch"},
            files={"file": (f"{MARK}-{mark}.jsonl", lines, "application/jsonl")},
        )
        return self._id(said)

    async def submit(self, mark: str, file: str) -> str:
        asked = {
            "input_file_id": file,
            "endpoint": "/v1/embeddings",
            "completion_window": "24h",
            "metadata": {MARK: mark},
        }
        said = await self._said("POST", "/batches", content=json.dumps(asked).encode(), headers=JSON)
        return self._id(said)

    async def find(self, mark: str, since: datetime) -> str | None:
        """The list begins with the newest."""
        oldest, after = (since - CLOCKS).timestamp(), ""
        while True:
            page = await self._said("GET", f"/batches?limit={LISTED}{after}")
            batches = page.get("data") or []
            for each in batches:
                if (each.get("metadata") or {}).get(MARK) == mark:
                    return self._id(each)
            if not page.get("has_more") or not batches or batches[-1].get("created_at", 0) < oldest:
                return None
            after = f"&after={self._id(batches[-1])}"

    async def look(self, batch_id: str) -> Progress:
        said = await self._said("GET", f"/batches/{batch_id}")
        fate = FATES.get(said.get("status", ""), Fate.RUNNING)
        outputs = [said[name] for name in ("output_file_id", "error_file_id") if said.get(name)]
        answered = (said.get("request_counts") or {}).get("completed", 0)
        return Progress(fate, answered, self._failure(said) if fate is Fate.FAILED else None, outputs)

    def _failure(self, said: dict[str, Any]) -> ProviderError:
        first: dict[str, Any] = next(iter((said.get("errors") or {}).get("data") or []), {})
        code, words = str(first.get("code") or ""), str(first.get("message") or "it does not say why")[:200]
        sentence = f"{self._server.place} did not begin the batch ({code or 'failed'}: {words})"
        if code == FULL:
            return ProviderUnavailable(
                f"{sentence}: another one is tried later", trouble=Trouble.RATE, retry_after=FULL_PAUSE
            )
        return InputRefused(f"{sentence}: its documents are embedded one by one if that goes on")

    async def collect(self, progress: Progress) -> AsyncIterator[Item]:
        longest = SLACK + NUMBER * MAX_STORED_DIMS
        for file in progress.outputs:
            async for line in self._server.lines(f"/files/{file}/content", longest=longest):
                if line.strip():
                    yield self._item(line)

    def _item(self, line: bytes) -> Item:
        whole = Answer(HTTPStatus.OK, {}, line)
        said = self._server.understood(whole, 1)
        name, response = str(said.get("custom_id")), said.get("response") or {}
        body = response.get("body") or {}
        if response.get("status_code") == HTTPStatus.OK:
            made = self._provider.vector(whole, body)
            return Item(name, made.matrix[0], made.tokens or 0)
        if not response:
            return Item(name)  # not worked on: its time ran out, or somebody cancelled it
        refusal = self._server.refusal(Answer(response["status_code"], {}, json.dumps(body).encode()))
        return Item(name, refused=refusal if isinstance(refusal, InputRefused) else None)

    async def cancel(self, batch_id: str) -> None:
        await self._said("POST", f"/batches/{batch_id}/cancel")

    async def discard(self, files: Sequence[str]) -> None:
        """As far as it goes: a file that stays is no harm."""
        for file in files:
            with suppress(ProviderError):
                await self._said("DELETE", f"/files/{file}")

    def _id(self, said: dict[str, Any]) -> str:
        if not isinstance(said.get("id"), str):
            raise self._server.garbled(1, "no id of what it took")
        return str(said["id"])

    async def _said(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        answer = await self._server.ask(method, path, limit=LISTED * SLACK, **request)
        if answer.status != HTTPStatus.OK:
            raise self._server.refusal(answer)
        return self._server.understood(answer, 1)
