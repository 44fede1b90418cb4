"""Gemini's Batch API.

The wire, beside base_url where it ends in a version: POST /upload/V/files (resumable, in one piece), POST
models/M:asyncBatchEmbedContent, GET batches/ID, GET batches?pageToken=…, GET /download/V/files/ID:download.
A batch is an operation, and its whole numbers are strings. https://ai.google.dev/api/batch-api
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import IO, Any
from urllib.parse import quote

from revec.model.errors import ProviderUnavailable, Trouble
from revec.providers._answers import count_in
from revec.providers._batches import MARK, UPLOAD, HostedBatches, Told, compact, fields, no_room, size_of
from revec.providers._http import JSON
from revec.providers.base import Fate, Progress

PAGE = 20  # batches; those of others may carry all their answers
PIECE = 1 << 16  # bytes of the file in memory
NAMES = re.compile(r"(batches|files)/[\w~-][\w.~-]*")

FATES = {
    "BATCH_STATE_SUCCEEDED": Fate.DONE,
    "BATCH_STATE_FAILED": Fate.FAILED,
    "BATCH_STATE_EXPIRED": Fate.EXPIRED,
    "BATCH_STATE_CANCELLED": Fate.CANCELLED,
}
# Codes of google.rpc.Code.
INVALID_ARGUMENT, RESOURCE_EXHAUSTED, OUT_OF_RANGE = 3, 8, 11
BLAMES_INPUT = frozenset({INVALID_ARGUMENT, OUT_OF_RANGE, HTTPStatus.BAD_REQUEST})


class GeminiBatches(HostedBatches):
    max_inputs = 50_000  # it names no limit
    max_tokens = 500_000  # that wait there together, in the first tier: a larger batch never has room
    max_bytes = 100 << 20  # of 2 GB

    async def ready(self) -> None:
        await self._said("GET", "/batches?pageSize=1")

    def _request(self, name: str, text: str) -> Mapping[str, object]:
        return {"key": name, "request": self._provider.document(text)}

    async def upload(self, mark: str, lines: IO[bytes]) -> str:
        """Twice: it says where the file may go, and takes it there."""
        size = size_of(lines)
        begin = {
            **JSON,
            "X-Goog-Upload-Protocol": "resumable",
            "X-Goog-Upload-Command": "start",
            "X-Goog-Upload-Header-Content-Length": str(size),
            "X-Goog-Upload-Header-Content-Type": "application/jsonl",
        }
        called = compact({"file": {"displayName": f"{MARK}-{mark}.jsonl"}})
        files = f"{self._server.beside('upload')}/files"
        answer = await self._asked("POST", files, content=called, headers=begin)
        there = answer.headers.get("x-goog-upload-url")
        if there is None:
            raise self._server.garbled(1, "no place to bring them to")
        bring = {
            "Content-Length": str(size),
            "X-Goog-Upload-Offset": "0",
            "X-Goog-Upload-Command": "upload, finalize",
        }
        patience = size / UPLOAD
        said = await self._said("POST", there, patience=patience, content=_pieces(lines), headers=bring)
        return self._id(fields(said.get("file")))

    async def submit(self, mark: str, file: str) -> str:
        batch = {"displayName": f"{MARK}-{mark}", "inputConfig": {"fileName": file}}
        path = f"/models/{self._provider.model}:asyncBatchEmbedContent"
        try:
            return self._id(await self._said("POST", path, content=compact({"batch": batch}), headers=JSON))
        except ProviderUnavailable as error:
            if error.trouble is not Trouble.RATE or error.retry_after is not None:
                raise
            raise no_room(str(error)) from error

    async def _listed(self, page: str, _: datetime) -> tuple[list[Any], str | None]:
        """In no order that it promises."""
        token = f"&pageToken={quote(page, safe='')}" if page else ""
        said = await self._said("GET", f"/batches?pageSize={PAGE}{token}")
        return said.get("operations") or [], said.get("nextPageToken") or None

    def _mark(self, batch: Any) -> str | None:
        name = str(fields(batch.get("metadata")).get("displayName"))
        return name.removeprefix(f"{MARK}-")

    async def look(self, batch_id: str) -> Progress:
        said = await self._said("GET", f"/{batch_id}")
        metadata, error = fields(said.get("metadata")), fields(said.get("error"))
        fate = FATES.get(metadata.get("state", "")) or _fate_of(said)
        answered = count_in(metadata, "batchStats", "successfulRequestCount") or 0
        if fate is Fate.FAILED:
            code, words = error.get("code"), str(error.get("message") or "")
            full = code in {RESOURCE_EXHAUSTED, HTTPStatus.TOO_MANY_REQUESTS}
            return Progress(fate, answered, self._failure(str(code or ""), words, full=full))
        output = fields(said.get("response")) or fields(metadata.get("output"))
        file = output.get("responsesFile")
        if file is None and fate is not Fate.DONE:
            return Progress(fate, answered)
        return Progress(fate, answered, outputs=[self._id({"name": file})])

    def _content(self, file: str) -> str:
        return f"{self._server.beside('download')}/{file}:download?alt=media"

    def _told(self, said: Mapping[str, Any]) -> Told:
        name, response, error = said.get("key"), fields(said.get("response")), fields(said.get("error"))
        if response:
            return Told(name, HTTPStatus.OK, {**response, "embeddings": [response.get("embedding")]})
        blamed = error.get("code") in BLAMES_INPUT
        return Told(name, HTTPStatus.BAD_REQUEST if blamed else None, {"error": error})

    async def cancel(self, batch_id: str) -> None:
        await self._said("POST", f"/{batch_id}:cancel")

    def _place(self, file: str) -> str:
        return f"/{file}"

    def _id(self, said: Mapping[str, Any]) -> str:
        name = said.get("name")
        if not isinstance(name, str) or not NAMES.fullmatch(name):
            raise self._server.garbled(1, "no name of what it took, or of what it gives")
        return name


def _fate_of(operation: Mapping[str, Any]) -> Fate:
    """Of a batch in no state that we know: as of any operation."""
    if not operation.get("done"):
        return Fate.RUNNING
    return Fate.FAILED if operation.get("error") else Fate.DONE


async def _pieces(lines: IO[bytes]) -> AsyncIterator[bytes]:
    while piece := lines.read(PIECE):
        yield piece
