"""What came in and what it cost: the witness for bills and rates."""

from __future__ import annotations

from typing import Any

from tests.loopback.wire import Asked

BATCH = "batch"  # in the place of a fault: paid for at half the price


class Record:
    """Small entries while it runs, lines when they are read."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.requests = self.inputs = 0
        self._paid: list[tuple[float, int, str, str | None, bytes]] = []
        self._log: list[dict[str, Any]] = []

    def charge(self, asked: Asked, now: float, fault: str | None) -> None:
        self._paid.append((now, asked.number, asked.model, fault, asked.digests))

    def note(self, now: float, status: int, wire: str, asked: Asked | None, fault: str | None) -> None:
        """One request; what could not be read says nothing of itself."""
        self._log.append(
            {
                "time": now,
                "status": status,
                "tokens": asked.tokens if asked else 0,
                "inputs": len(asked.texts) if asked else 0,
                "wire": wire,
                "model": asked.model if asked else None,
                "dims": asked.dims if asked else None,
                "task": asked.task if asked else None,
                "base64": bool(asked and asked.base64),
                "fault": fault,
            }
        )

    def bill(self) -> list[dict[str, Any]]:
        return [
            {
                "text": hashes[at : at + 32].hex(),
                "model": model,
                "time": time,
                "request": number,
                "fault": fault if fault != BATCH else None,
                "batch": fault == BATCH,
            }
            for time, number, model, fault, hashes in self._paid
            for at in range(0, len(hashes), 32)
        ]

    def log(self) -> list[dict[str, Any]]:
        return self._log

    def counts(self) -> dict[str, int]:
        return {"requests": self.requests, "inputs": self.inputs}
