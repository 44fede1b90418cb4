"""OpenAI's Batch API.

The wire: POST /files (multipart, purpose=batch), POST /batches (endpoint, completion_window, metadata),
GET /batches/ID, GET /batches?after=…, GET /files/ID/content.
https://platform.openai.com/docs/api-reference/batch
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import IO, Any

from revec.providers._answers import count_in
from revec.providers._batches import LISTED, MARK, UPLOAD, HostedBatches, Told, compact, fields, size_of
from revec.providers._http import JSON
from revec.providers.base import Fate, Progress

CLOCKS = timedelta(hours=1)  # that the provider's may be away from ours
FULL = "token_limit_exceeded"  # of all batches that wait there

FATES = {
    "completed": Fate.DONE,
    "failed": Fate.FAILED,
    "expired": Fate.EXPIRED,
    "cancelled": Fate.CANCELLED,
}


class OpenAIBatches(HostedBatches):
    max_inputs = 50_000  # of embeddings, in all requests of a batch
    max_tokens = 3_000_000  # that wait there together, in the first tier: a larger batch never has room
    max_bytes = 100 << 20  # of the file; 200 MB at OpenAI, 100 at some who speak its wire

    async def ready(self) -> None:
        await self._said("GET", "/batches?limit=1")

    def _request(self, name: str, text: str) -> Mapping[str, object]:
        return {
            "custom_id": name,
            "method": "POST",
            "url": "/v1/embeddings",
            "body": self._provider.document(text),
        }

    async def upload(self, mark: str, lines: IO[bytes]) -> str:
        said = await self._said(
            "POST",
            "/files",
            patience=size_of(lines) / UPLOAD,
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
        return self._id(await self._said("POST", "/batches", content=compact(asked), headers=JSON))

    async def _listed(self, page: str, since: datetime) -> tuple[list[Any], str | None]:
        """The list begins with the newest; a page is called by the batch before it."""
        after = f"&after={page}" if page else ""
        said = await self._said("GET", f"/batches?limit={LISTED}{after}")
        batches = said.get("data") or []
        oldest = (since - CLOCKS).timestamp()
        if not said.get("has_more") or not batches or batches[-1].get("created_at", 0) < oldest:
            return batches, None
        return batches, self._id(batches[-1])

    def _mark(self, batch: Any) -> str | None:
        return fields(batch.get("metadata")).get(MARK)

    async def look(self, batch_id: str) -> Progress:
        said = await self._said("GET", f"/batches/{batch_id}")
        fate = FATES.get(said.get("status", ""), Fate.RUNNING)
        outputs = [said[name] for name in ("output_file_id", "error_file_id") if said.get(name)]
        first = fields(next(iter(fields(said.get("errors")).get("data") or []), None))
        code, words = str(first.get("code") or ""), str(first.get("message") or "")
        why = self._failure(code, words, full=code == FULL) if fate is Fate.FAILED else None
        return Progress(fate, count_in(said, "request_counts", "completed") or 0, why, outputs)

    def _content(self, file: str) -> str:
        return f"/files/{file}/content"

    def _told(self, said: Mapping[str, Any]) -> Told:
        response = fields(said.get("response"))  # none where its time ran out, or somebody cancelled it
        return Told(said.get("custom_id"), response.get("status_code"), fields(response.get("body")))

    async def cancel(self, batch_id: str) -> None:
        await self._said("POST", f"/batches/{batch_id}/cancel")

    def _place(self, file: str) -> str:
        return f"/files/{file}"

    def _id(self, said: Mapping[str, Any]) -> str:
        if not isinstance(said.get("id"), str):
            raise self._server.garbled(1, "no id of what it took")
        return str(said["id"])
