"""OpenAI's Batch API: files, batches of them, files of answers and of errors.

A batch is done when `finish` says so, or at once: it is worked on, and billed, in that moment. Faults of
its own, set by `batch_fault`: `fail` (as a whole), `full` (no room in the queue), `expire` (after half of
it), `missing` (a line is), `permuted` (the lines are), `garbled` (a vector is none), `lost` (the answer to
the submission); and by `match` in a text: `refuse` (that text alone), `error` (the server's, that text).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.loopback import openai
from tests.loopback.faults import answered
from tests.loopback.record import BATCH, Record
from tests.loopback.wire import Refused, Reply

WINDOW = 24 * 3600
MOST = 50_000
PLACES = re.compile(r"/v1/(files|batches)(?:/([\w-]+))?(?:/(content|cancel))?")


@dataclass(slots=True)
class Batch:
    id: str
    file: str
    metadata: dict[str, str]
    created_at: int
    status: str = "in_progress"
    outputs: dict[str, str] = field(default_factory=dict)
    errors: list[dict[str, Any]] = field(default_factory=list)
    done: int = 0
    failed: int = 0
    total: int = 0

    def shown(self) -> dict[str, Any]:
        counts = {"total": self.total, "completed": self.done, "failed": self.failed}
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": "/v1/embeddings",
            "status": self.status,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "input_file_id": self.file,
            "output_file_id": self.outputs.get("output"),
            "error_file_id": self.outputs.get("error"),
            "created_at": self.created_at,
            "expires_at": self.created_at + WINDOW,
            "request_counts": counts,
            "metadata": self.metadata,
        }


class Batches:
    """What the server has of them."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.clear()

    def clear(self) -> None:
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, Batch] = {}
        self.at_once = True  # else a batch runs until `finish`
        self.fault: dict[str, Any] = {}
        self.uploads = 0
        self._number = 0

    # --- what a test says ---------------------------------------------------------

    def set(self, *, at_once: bool | None = None, **fault: Any) -> dict[str, Any]:
        if at_once is not None:
            self.at_once = at_once
        if fault:
            self.fault = {"times": 1, **fault}
        return {}

    def finish(self) -> dict[str, Any]:
        """All that run are worked on now."""
        for batch in self.batches.values():
            if batch.status == "in_progress":
                self._work(batch)
        return {}

    def said(self) -> dict[str, Any]:
        batches = [each.shown() for each in self.batches.values()]
        return {"batches": batches, "files": sorted(self.files), "uploads": self.uploads}

    # --- the wire -----------------------------------------------------------------

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply | None:
        """None: the page is somebody else's."""
        url = urlsplit(target)
        place = PLACES.fullmatch(url.path)
        if place is None:
            return None
        kind, name, what = place.groups()
        known = self.files if kind == "files" else self.batches
        if name and name not in known:
            return Reply(404, b'{"error": {"message": "no such object", "code": "not_found"}}')
        if kind == "files":
            return self._of_file(method, name, body, headers)
        if name is None:
            return (
                self._create(json.loads(body))
                if method == "POST"
                else said(self._listed(parse_qs(url.query)))
            )
        if what == "cancel":
            self.batches[name].status = "cancelled"
        return said(self.batches[name].shown())

    def _of_file(self, method: str, name: str | None, body: bytes, headers: Mapping[str, str]) -> Reply:
        if name is None:
            return said(self._upload(headers, body))
        if method == "DELETE":
            del self.files[name]
            return said({"id": name, "deleted": True})
        return Reply(200, self.files[name])

    def _upload(self, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
        boundary = headers["content-type"].partition("boundary=")[2].encode()
        parts = [part for part in body.split(b"--" + boundary) if b"filename=" in part]
        assert len(parts) == 1
        self.uploads += 1
        return {"id": self._file(parts[0].partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")), "object": "file"}

    def _file(self, body: bytes) -> str:
        self._number += 1
        self.files[f"file-{self._number}"] = body
        return f"file-{self._number}"

    def _create(self, asked: dict[str, Any]) -> Reply:
        fits = (asked["endpoint"], asked["completion_window"]) == ("/v1/embeddings", "24h")
        if not fits or asked["input_file_id"] not in self.files:
            return Reply(400, b'{"error": {"message": "the batch is invalid", "code": "invalid_request"}}')
        self._number += 1
        made = Batch(f"batch_{self._number}", asked["input_file_id"], asked["metadata"], int(time.time()))
        self.batches[made.id] = made
        if self.at_once:
            self._work(made)
        reply = said(made.shown())
        reply.cut = self._struck("lost")
        return reply

    def _listed(self, query: dict[str, list[str]]) -> dict[str, Any]:
        """The newest first."""
        newest = [*reversed(self.batches.values())]
        limit = int(query.get("limit", ["20"])[0])
        if after := query.get("after"):
            newest = newest[[each.id for each in newest].index(after[0]) + 1 :]
        data = [each.shown() for each in newest[:limit]]
        return {"object": "list", "data": data, "has_more": len(newest) > limit}

    # --- the work -----------------------------------------------------------------

    def _struck(self, kind: str) -> bool:
        if self.fault.get("kind") != kind or not self.fault["times"]:
            return False
        self.fault["times"] -= 1
        return True

    def _work(self, batch: Batch) -> None:
        lines = [json.loads(line) for line in self.files[batch.file].splitlines()]
        batch.total = len(lines)
        names = [line["custom_id"] for line in lines]
        for kind, code in (("fail", "invalid_request"), ("full", "token_limit_exceeded")):
            if self._struck(kind) or len(lines) > MOST or len(set(names)) < len(names):
                batch.status, batch.errors = "failed", [{"code": code, "message": "Not this one."}]
                return
        batch.status = "completed"
        good, bad = [], []
        if self._struck("expire"):
            batch.status, late = "expired", lines[len(lines) // 2 :]
            lines = lines[: len(lines) // 2]
            error = {"code": "batch_expired", "message": "This request could not be executed in time."}
            bad = [{"custom_id": each["custom_id"], "response": None, "error": error} for each in late]
        garbled = self._struck("garbled")
        for line in lines:
            status, body = self._answer(line["body"], garbled=garbled)
            response = {"status_code": status, "request_id": "r", "body": json.loads(body)}
            told = {"id": "b", "custom_id": line["custom_id"], "response": response, "error": None}
            (good if status == 200 else bad).append(told)
        batch.done, batch.failed = len(good), len(bad)
        if self._struck("missing"):
            good.pop(0)
        if self._struck("permuted"):
            good.reverse()
        for name, told in (("output", good), ("error", bad)):
            if told:
                batch.outputs[name] = self._file("".join(f"{json.dumps(each)}\n" for each in told).encode())

    def _answer(self, body: dict[str, Any], *, garbled: bool) -> tuple[int, bytes]:
        asked = openai.read("", body)
        kind = self.fault.get("kind")
        if kind in {"refuse", "error"} and self.fault["match"] in asked.texts[0]:
            words, status = ("the input is not to our taste", 400) if kind == "refuse" else ("oops", 500)
            return status, openai.refusal(Refused(status, "invalid_request_error", words))
        self.record.charge(asked, time.time(), BATCH)
        rows, indexes = answered(asked, None)
        return 200, openai.write(asked, [b'"%%%"'] if garbled else rows, indexes)


def said(what: dict[str, Any]) -> Reply:
    return Reply(200, json.dumps(what).encode())
