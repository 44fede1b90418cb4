"""Batch APIs: files, batches of them, files of answers; each provider's wire is a module of its own.

A batch is done when `finish` says so, or at once: it is worked on, and billed, in that moment. Faults of
its own, set by `batch_fault`: `fail` (as a whole), `full` (no room in the queue, said of the batch), `busy`
(the same, said of its submission), `expire` (after half of it), `missing` (a line is), `permuted` (the lines
are), `garbled` (a vector is none), `nameless` (a line says not whose), `lost` (the answer to the submission),
`elsewhere` (the file is sent on to another address); and by `match` in a text: `refuse` (that text alone),
`error` (the server's, that text).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import SplitResult, urlsplit

from tests.loopback import gemini_batches, openai_batches
from tests.loopback.faults import answered
from tests.loopback.record import BATCH, Record
from tests.loopback.wire import Asked, Refused, Reply

MOST = 50_000
RUNNING, DONE, FAILED, EXPIRED, CANCELLED = "running", "done", "failed", "expired", "cancelled"


@dataclass(slots=True)
class Batch:
    id: str
    wire: str
    file: str
    about: Any  # in its wire's words: of which model, and how it is found
    created_at: int
    status: str = RUNNING
    outputs: dict[str, str] = field(default_factory=dict)
    why: str = ""  # it failed
    done: int = 0
    failed: int = 0
    total: int = 0


@dataclass(slots=True)
class Told:
    """What became of a line: an answer, a refusal, or neither because its time ran out."""

    name: str | None
    asked: Asked | None = None
    rows: list[bytes] = field(default_factory=list)
    refused: Refused | None = None


class BatchWire(Protocol):
    """A module of this package."""

    KEEPS: bool  # answers of a batch that expired

    def key(self, headers: Mapping[str, str]) -> str: ...
    def refusal(self, refused: Refused) -> Reply: ...
    def matches(self, path: str) -> bool: ...

    def answer(
        self, there: Batches, method: str, url: SplitResult, headers: Mapping[str, str], body: bytes
    ) -> Reply:
        """
        Raises:
            Refused: there is no such page, or it will not.
        """

    def read(self, batch: Batch, line: dict[str, Any]) -> tuple[str, Asked]: ...

    def written(self, told: list[Told]) -> dict[str, list[dict[str, Any]]]:
        """Files of answers, by what they are to the batch."""


WIRES: dict[str, BatchWire] = {"openai": openai_batches, "gemini": gemini_batches}


class Batches:
    """What the server has of them."""

    def __init__(self, record: Record, key: str | None) -> None:
        self.record, self._key = record, key
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
            if batch.status == RUNNING:
                self._work(batch)
        return {}

    def said(self) -> dict[str, Any]:
        batches = [{"id": each.id, "status": each.status} for each in self.batches.values()]
        return {"batches": batches, "files": sorted(self.files), "uploads": self.uploads}

    # --- what a wire says ---------------------------------------------------------

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply | None:
        """None: the page is somebody else's."""
        url = urlsplit(target)
        wire = next((each for each in WIRES.values() if each.matches(url.path)), None)
        if wire is None:
            return None
        key = wire.key(headers)
        if self._key is not None and key != self._key:
            return wire.refusal(Refused(401, "invalid_api_key", f"Incorrect API key provided: {key}"))
        try:
            return wire.answer(self, method, url, headers, body)
        except Refused as refused:
            return wire.refusal(refused)

    def upload(self, body: bytes) -> str:
        self.uploads += 1
        return self.keep(body)

    def keep(self, body: bytes) -> str:
        self._number += 1
        self.files[f"file-{self._number}"] = body
        return f"file-{self._number}"

    def create(self, wire: str, file: str, about: Any) -> tuple[Batch, bool]:
        """The batch, and whether the client never hears of it.

        Raises:
            Refused: there is no such file, or no room.
        """
        if file not in self.files:
            raise Refused(400, "invalid_request_error", "the batch is invalid")
        if self.struck("busy"):
            raise Refused(429, "rate_limit_exceeded", "You exceeded your current quota")
        self._number += 1
        made = Batch(f"batch_{self._number}", wire, file, about, int(time.time()))
        self.batches[made.id] = made
        if self.at_once:
            self._work(made)
        return made, self.struck("lost")

    def struck(self, kind: str) -> bool:
        if self.fault.get("kind") != kind or not self.fault["times"]:
            return False
        self.fault["times"] -= 1
        return True

    # --- the work -----------------------------------------------------------------

    def _work(self, batch: Batch) -> None:
        wire = WIRES[batch.wire]
        lines = [wire.read(batch, json.loads(line)) for line in self.files[batch.file].splitlines()]
        batch.total = len(lines)
        names = {name for name, _ in lines}
        for kind in ("fail", "full"):
            if self.struck(kind) or len(lines) > MOST or len(names) < len(lines):
                batch.status, batch.why = FAILED, kind
                return
        batch.status = DONE
        late: list[Told] = []
        if self.struck("expire"):
            batch.status, kept = EXPIRED, len(lines) // 2 if wire.KEEPS else 0
            late = [Told(name) for name, _ in lines[kept:]]
            lines = lines[:kept]
        garbled = self.struck("garbled")
        told = [self._told(name, asked, garbled=garbled) for name, asked in lines]
        batch.done = sum(each.asked is not None for each in told)
        batch.failed = batch.total - batch.done
        if self.struck("missing"):
            told.pop(0)
        if self.struck("permuted"):
            told.reverse()
        if self.struck("nameless"):
            told[0].name = None
        for what, written in wire.written(told + late).items():
            if written:
                batch.outputs[what] = self.keep("".join(f"{json.dumps(each)}\n" for each in written).encode())

    def _told(self, name: str, asked: Asked, *, garbled: bool) -> Told:
        kind = self.fault.get("kind")
        if kind in {"refuse", "error"} and self.fault["match"] in asked.texts[0]:
            words, status = ("the input is not to our taste", 400) if kind == "refuse" else ("oops", 500)
            return Told(name, refused=Refused(status, "invalid_request_error", words))
        self.record.charge(asked, time.time(), BATCH)
        rows, _ = answered(asked, None)
        return Told(name, asked, [b'"%%%"'] if garbled else rows)
