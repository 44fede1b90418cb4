"""The server: one process, one event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.loopback import cohere, gemini, openai, voyage
from tests.loopback.batches import Batches
from tests.loopback.faults import HUGE, Fault, answered
from tests.loopback.quota import Clock, Exhausted, Quota, retry_after
from tests.loopback.record import Record
from tests.loopback.wire import Asked, Refused, Reply, Wire

HOST = "127.0.0.1"
DRIPS = 20
WIRES: dict[str, Wire] = {"openai": openai, "voyage": voyage, "gemini": gemini, "cohere": cohere}


class Server:
    def __init__(
        self,
        *,
        latency: float = 0.0,
        key: str | None = None,
        rpm: float | None = None,
        tpm: float | None = None,
        retry_after: str = "seconds",
        clock: float = 1.0,
    ) -> None:
        self.latency, self.key = latency, key
        self.clock = Clock(clock)
        self.record = Record()
        self.batches = Batches(self.record, key)
        self.faults: list[Fault] = []
        self.stolen = 0.0
        self.first_limits: dict[str, Any] = {"rpm": rpm, "tpm": tpm, "retry_after": retry_after}
        self.set_limits(**self.first_limits)
        self.held = 0
        self.arrived = asyncio.Condition()
        self.open = asyncio.Event()
        self.open.set()
        self.never = asyncio.Event()
        self.routes: dict[tuple[str, str], Callable[..., Any]] = {
            ("GET", "/bill"): lambda **_: self.record.bill(),
            ("GET", "/log"): lambda **_: self.record.log(),
            ("DELETE", "/bill"): lambda **_: self.record.clear(),
            ("GET", "/requests"): lambda **_: self.record.counts(),
            ("POST", "/fault"): lambda body, **_: self.faults.append(Fault(**body)),
            ("DELETE", "/fault"): lambda **_: self.faults.clear(),
            ("POST", "/limits"): lambda body, **_: self.set_limits(**body),
            ("DELETE", "/limits"): lambda **_: self.set_limits(**self.first_limits),
            ("POST", "/batches"): lambda body, **_: self.batches.set(**body),
            ("GET", "/batches"): lambda **_: self.batches.said(),
            ("POST", "/finish"): lambda **_: self.batches.finish(),
            ("DELETE", "/batches"): lambda **_: self.batches.clear(),
            ("POST", "/steal"): lambda body, **_: self.steal(**body),
            ("POST", "/hold"): lambda **_: self.open.clear(),
            ("POST", "/release"): lambda **_: self.open.set(),
        }

    # --- quota ----------------------------------------------------------------

    def set_limits(
        self, *, rpm: float | None = None, tpm: float | None = None, retry_after: str = "seconds"
    ) -> None:
        self.rpm, self.tpm, self.retry_after = rpm, tpm, retry_after
        self.quotas: dict[str, Quota] = {}

    def quota(self, model: str) -> Quota:
        """Every model has one of its own."""
        if model not in self.quotas:
            self.quotas[model] = Quota(self.rpm, self.tpm, self.clock, self.stolen)
        return self.quotas[model]

    def steal(self, share: float) -> None:
        self.stolen = share
        for quota in self.quotas.values():
            quota.steal(share)

    # --- requests -------------------------------------------------------------

    async def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
        url = urlsplit(target)
        name = next((name for name, wire in WIRES.items() if wire.matches(url.path)), None)
        if name and method == "POST":
            return await self.embed(name, url.path, headers, body)
        if batched := self.batches.answer(method, target, headers, body):
            return batched
        if url.path == "/held":
            wanted = int(parse_qs(url.query).get("at_least", ["0"])[0])
            async with self.arrived:
                await self.arrived.wait_for(lambda: self.held >= wanted)
            return Reply(200, json.dumps({"held": self.held}).encode())
        route = self.routes.get((method, url.path))
        if route is None:
            return Reply(404, b'{"error": {"message": "no such page"}}')
        try:
            return Reply(200, json.dumps(route(body=json.loads(body or b"{}"))).encode())
        except Refused as refused:
            return Reply(refused.status, openai.refusal(refused))

    async def embed(self, name: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        wire, asked, fault = WIRES[name], None, None
        self.record.requests += 1
        try:
            asked = self.read(wire, path, headers, body)
            fault = next((fault for fault in self.faults if fault.strikes(asked.texts, asked.model)), None)
            if fault:
                fault.refuse(asked)
            self.take(asked)
        except Refused as refused:
            kind = fault.kind if fault else None
            self.record.note(self.clock.now(), status_of(name, refused), name, asked, kind)
            limits = self.quota(asked.model).headers() if asked else {}
            said = wire.refusal(refused)  # first: it may take a header into its body
            return Reply(status_of(name, refused), said, {**limits, **refused.headers})
        kind = fault.kind if fault else None
        self.record.charge(asked, self.clock.now(), kind)
        self.record.note(self.clock.now(), 200, name, asked, kind)
        headers_then = self.quota(asked.model).headers()
        if self.latency:
            await asyncio.sleep(self.latency / self.clock.speed)
        await self.gate()
        reply = await self.reply(wire, asked, fault)
        reply.headers = {"x-request-id": f"req-{asked.number}", **headers_then}
        return reply

    def read(self, wire: Wire, path: str, headers: Mapping[str, str], body: bytes) -> Asked:
        """The request as a server would check it.

        Raises:
            Refused: by a rule of the wire.
        """
        key = wire.key(headers)
        if self.key is not None and key != self.key:
            raise Refused(401, "invalid_api_key", f"Incorrect API key provided: {key}")
        asked = wire.read(path, json.loads(body))
        asked.number, asked.key = self.record.requests, key
        self.record.inputs += len(asked.texts)
        return asked

    def take(self, asked: Asked) -> None:
        try:
            self.quota(asked.model).take(asked.tokens)
        except Exhausted as error:
            words = f"Rate limit reached on {error.what} per minute. Please try again in {error.wait:.3f}s."
            more = retry_after(self.retry_after, error.wait, self.clock.now())
            raise Refused(429, "rate_limit_exceeded", words, **more) from error

    async def reply(self, wire: Wire, asked: Asked, fault: Fault | None) -> Reply:
        kind = fault.kind if fault else None
        if fault and kind == "slow":
            await asyncio.sleep(fault.delay)
        if kind == "hang":
            await self.never.wait()
        reply = Reply(200, wire.write(asked, *answered(asked, fault)))
        if kind == "cut":
            reply.body = reply.body[: len(reply.body) // 2]
        if kind == "huge":
            reply.body = b" " * HUGE + reply.body
        reply.cut = kind == "close"
        reply.over = fault.delay if fault and kind == "drip" else 0.0
        return reply

    async def gate(self) -> None:
        async with self.arrived:
            self.held += not self.open.is_set()
            self.arrived.notify_all()
        if not self.open.is_set():
            await self.open.wait()
            self.held -= 1


def status_of(wire: str, refused: Refused) -> int:
    """Google says 400 to a wrong key, and to an account that does not pay."""
    odd = {"invalid_api_key", "insufficient_quota"}
    return 400 if wire == "gemini" and refused.code in odd else refused.status
