"""A server on this machine that speaks the OpenAI wire, for tests and benches.

    python -m tests.loopback --port 0

Its first line is its base URL. Vectors are a pure function of (text, model, dims), so a test can
recompute every one that was stored. It keeps its own bill, and misbehaves when told to:

    POST   /v1/embeddings     the wire
    GET    /bill              one line per input that was worked on
    GET    /requests          {"requests", "inputs"}: what came in, good or bad
    DELETE /bill              forgets both
    POST   /fault             {"kind", "times", "match", …}; DELETE clears all
    POST   /hold, /release    the gate: requests wait behind it
    GET    /held?at_least=n   answers once n requests wait
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]

LATENT = 16  # dims that carry meaning; hash-random vectors of full rank make HNSW recall 0.10
NOISE = 0.1  # of the meaning: makes the other dims differ, decides no ranking
MAX_INPUTS = 2048
DRIPS = 20
HOST = "127.0.0.1"


# --- vectors: a pure function ---------------------------------------------------------------------


def dims_of(model: str) -> int:
    """`fake-b-64` has 64.

    Raises:
        ValueError: the model names no dims.
    """
    dims = int(model.rpartition("-")[2])
    if not 0 < dims <= 16_384:
        raise ValueError(model)
    return dims


def vector(text: str, model: str, dims: int | None = None) -> Matrix:
    return vectors([text], model, dims)[0]


def vectors(texts: Sequence[str], model: str, dims: int | None = None) -> Matrix:
    """Unit vectors, one row per text. Fewer dims are the first ones of the model's own."""
    dims = dims or dims_of(model)
    digests = b"".join(hashlib.sha256(text.encode()).digest() for text in texts)
    words = np.frombuffer(digests, "<u2").reshape(len(texts), LATENT)
    latent = words.astype(np.float32) / np.float32(32_768) - np.float32(1)
    signal = latent @ projection(model, dims)
    made = signal + np.float32(NOISE) * noise(digests, model, dims)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@lru_cache(maxsize=64)
def projection(model: str, dims: int) -> Matrix:
    rows = np.random.Generator(np.random.PCG64(seed_of(model))).standard_normal((dims, LATENT))
    return np.ascontiguousarray(rows.T / LATENT**0.5, np.float32)


def seed_of(model: str) -> int:
    return int.from_bytes(hashlib.sha256(model.encode()).digest()[:4], "little")


def noise(digests: bytes, model: str, dims: int) -> Matrix:
    """Uniform in [-1, 1) from the text's hash and the coordinate, by integers only."""
    texts = np.frombuffer(digests, "<u4").reshape(-1, 8)[:, 7:]
    columns = np.arange(dims, dtype=np.uint32) * np.uint32(0x9E3779B9)
    mixed = texts ^ (columns + np.uint32(seed_of(model)))
    mixed ^= mixed >> np.uint32(16)
    mixed *= np.uint32(0x85EBCA6B)
    mixed ^= mixed >> np.uint32(13)
    mixed *= np.uint32(0xC2B2AE35)
    mixed ^= mixed >> np.uint32(16)
    return mixed.view(np.int32).astype(np.float32) / np.float32(2**31)


# --- the wire -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Request:
    number: int
    model: str
    texts: list[str]
    dims: int
    base64: bool


@dataclass(slots=True)
class Fault:
    """Misbehave `times` times (None: always), where a text holds `match` (None: anywhere)."""

    kind: str
    times: int | None = 1
    match: str | None = None
    retry_after: str | None = None  # of a refusal
    delay: float = 5.0  # of `slow` and `drip`, in seconds
    words: str | None = None  # of a refusal, in place of ours

    def __post_init__(self) -> None:
        if self.kind not in REFUSALS.keys() | ALTERATIONS:
            raise Refused(400, "invalid_request_error", f"no fault is called {self.kind}")

    def strikes(self, texts: Sequence[str]) -> bool:
        """Whether it is this request's turn; counts down."""
        if self.times == 0 or not (self.match is None or any(self.match in t for t in texts)):
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass(slots=True)
class Reply:
    """What goes back. `cut`: hang up after half of it. `over`: take so many seconds."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    over: float = 0.0


class Refused(Exception):
    """A reply on its way out."""

    def __init__(self, status: int, code: str, words: str, **headers: str) -> None:
        super().__init__(words)
        error = {"message": words, "type": code, "code": code, "param": headers.pop("param", None)}
        self.reply = Reply(status, json.dumps({"error": error}).encode(), headers)


# kind: status, code, words. Nothing is billed.
REFUSALS = {
    "400": (400, "invalid_request_error", "the input is not to our taste"),
    "401": (401, "invalid_api_key", "Incorrect API key provided: {key}"),
    "403": (403, "permission_denied", "the key {key} may not do this"),
    "404": (404, "model_not_found", "the model does not exist or you do not have access to it"),
    "413": (413, "invalid_request_error", "too large"),
    "422": (422, "invalid_request_error", "cannot be processed"),
    "429": (429, "rate_limit_exceeded", "Rate limit reached"),
    "500": (500, "server_error", "The server had an error"),
    "502": (502, "server_error", "Bad gateway, said {key}"),
    "503": (503, "server_error", "The engine is overloaded"),
    "error200": (200, "server_error", "something went wrong with {key}"),
    "quota": (429, "insufficient_quota", "You exceeded your current quota"),
    "redirect": (307, "moved", "elsewhere"),
    "refuse": (400, "invalid_request_error", "the input is not to our taste"),
}


# The answer comes, or not, and is wrong in one way. Billed: the work was done.
ALTERATIONS = {
    "1e400",  # a number beyond float64
    "beyond",  # an index that no input has
    "close",  # hangs up in the middle
    "cut",  # JSON that ends in the middle
    "dims",  # one too few
    "drip",  # a byte now and then, over `delay` seconds
    "drift",  # other weights under the same name
    "fewer",  # one vector too few
    "floats",  # lists although base64 was asked for: harmless
    "hang",  # never answers
    "index0",  # index 0 for all
    "nan",
    "no-base64",  # refuses the parameter encoding_format; not billed
    "noindex",  # no index at all
    "norm",  # three times too long
    "null",  # in place of a number
    "permuted",  # in another order, with the right index: harmless
    "slow",  # after `delay` seconds
    "string",  # in place of base64
    "swapped",  # two vectors changed places: nothing in the answer shows it
    "zero",
}


class Bill:
    """One entry per request in memory, one line per input when read."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, str, str | None, bytes]] = []

    def charge(self, request: Request, fault: str | None) -> None:
        hashes = b"".join(hashlib.sha256(text.encode()).digest() for text in request.texts)
        self._entries.append((time.time(), request.number, request.model, fault, hashes))

    def lines(self) -> list[dict[str, Any]]:
        return [
            {
                "text": hashes[at : at + 32].hex(),
                "model": model,
                "time": at_time,
                "request": number,
                "fault": fault,
            }
            for at_time, number, model, fault, hashes in self._entries
            for at in range(0, len(hashes), 32)
        ]

    def clear(self) -> None:
        self._entries.clear()


class Server:
    def __init__(self, *, latency: float = 0.0, key: str | None = None) -> None:
        self.latency, self.key = latency, key
        self.bill = Bill()
        self.faults: list[Fault] = []
        self.requests = self.inputs = self.held = 0
        self.arrived = asyncio.Condition()
        self.open = asyncio.Event()
        self.open.set()
        self.never = asyncio.Event()
        self.routes: dict[tuple[str, str], Callable[..., Any]] = {
            ("GET", "/bill"): lambda **_: self.bill.lines(),
            ("DELETE", "/bill"): lambda **_: self.forget(),
            ("GET", "/requests"): lambda **_: {"requests": self.requests, "inputs": self.inputs},
            ("POST", "/fault"): lambda body, **_: self.faults.append(Fault(**body)),
            ("DELETE", "/fault"): lambda **_: self.faults.clear(),
            ("POST", "/hold"): lambda **_: self.open.clear(),
            ("POST", "/release"): lambda **_: self.open.set(),
        }

    async def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Reply:
        url = urlsplit(target)
        if (method, url.path) == ("POST", "/v1/embeddings"):
            return await self.embeddings(headers, body)
        if url.path == "/held":
            wanted = int(parse_qs(url.query).get("at_least", ["0"])[0])
            async with self.arrived:
                await self.arrived.wait_for(lambda: self.held >= wanted)
            return Reply(200, json.dumps({"held": self.held}).encode())
        route = self.routes.get((method, url.path))
        if route is None:
            return Reply(404, b'{"error": {"message": "no such page"}}')
        return Reply(200, json.dumps(route(body=json.loads(body or b"{}"))).encode())

    def forget(self) -> None:
        self.bill.clear()
        self.requests = self.inputs = 0

    async def embeddings(self, headers: dict[str, str], body: bytes) -> Reply:
        self.requests += 1
        request, fault = self.accepted(headers, json.loads(body))
        kind = fault.kind if fault else None
        self.bill.charge(request, kind)
        if self.latency:
            await asyncio.sleep(self.latency)
        await self.gate()
        if fault and kind == "slow":
            await asyncio.sleep(fault.delay)
        if kind == "hang":
            await self.never.wait()
        reply = Reply(200, answered(request, fault))
        reply.headers = {"x-request-id": f"req-{request.number}"}
        if kind == "cut":
            reply.body = reply.body[: len(reply.body) // 2]
        reply.cut = kind == "close"
        reply.over = fault.delay if fault and kind == "drip" else 0.0
        return reply

    def accepted(self, headers: dict[str, str], asked: dict[str, Any]) -> tuple[Request, Fault | None]:
        """The request as a server would check it.

        Raises:
            Refused: by a rule of the wire, or by a fault that was set.
        """
        sent_key = headers.get("authorization", "").removeprefix("Bearer ")
        if self.key is not None and sent_key != self.key:
            raise Refused(401, "invalid_api_key", f"Incorrect API key provided: {sent_key}")
        texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
        self.inputs += len(texts)
        dims = self.dims(asked)
        if not texts or not all(texts) or len(texts) > MAX_INPUTS:
            raise Refused(400, "invalid_request_error", "'$.input' is invalid", param="input")
        base64 = asked.get("encoding_format") == "base64"
        request = Request(self.requests, asked["model"], texts, dims, base64)
        fault = next((fault for fault in self.faults if fault.strikes(texts)), None)
        if fault and fault.kind == "no-base64" and base64:
            words = "unknown field encoding_format"
            raise Refused(400, "invalid_request_error", words, param="encoding_format")
        if fault and fault.kind in REFUSALS:
            status, code, words = REFUSALS[fault.kind]
            more = {"Location": "/v1/embeddings"} if fault.kind == "redirect" else {}
            if fault.retry_after is not None:
                more["Retry-After"] = fault.retry_after
            raise Refused(status, code, fault.words or words.format(key=sent_key), **more)
        return request, fault

    def dims(self, asked: dict[str, Any]) -> int:
        model, wanted = asked["model"], asked.get("dimensions")
        try:
            dims = dims_of(model)
        except ValueError:
            raise Refused(404, "model_not_found", f"The model `{model}` does not exist") from None
        if wanted is not None and model.startswith("fixed-"):
            words = "This model does not support specifying dimensions."
            raise Refused(400, "invalid_request_error", words)
        if wanted is not None and not 0 < wanted <= dims:
            words = f"Invalid value for 'dimensions': at most {dims}"
            raise Refused(400, "invalid_request_error", words, param="dimensions")
        return wanted or dims

    async def gate(self) -> None:
        async with self.arrived:
            self.held += not self.open.is_set()
            self.arrived.notify_all()
        if not self.open.is_set():
            await self.open.wait()
            self.held -= 1


def answered(request: Request, fault: Fault | None) -> bytes:
    kind = fault.kind if fault else ""
    model = f"{request.model}~drifted" if kind == "drift" else request.model
    matrix = vectors(request.texts, model, request.dims)
    match = fault.match if fault else None
    struck = [at for at, text in enumerate(request.texts) if match and match in text] or [0]
    matrix = spoilt(matrix, kind, struck)
    indexes = list(range(len(matrix)))
    if kind == "permuted":
        indexes, matrix = indexes[::-1], matrix[::-1]
    if kind == "index0":
        indexes = [0] * len(indexes)
    if kind == "beyond":
        indexes[0] = len(indexes)
    shown: list[Any] = [None if kind == "noindex" else index for index in indexes]
    rows = [written(row, kind, base64=request.base64 and kind != "floats") for row in matrix]
    data = ",".join(
        f'{{"object":"embedding","index":{json.dumps(index)},"embedding":{row}}}'
        for index, row in zip(shown, rows, strict=True)
    )
    tokens = sum(len(text) // 4 + 1 for text in request.texts)
    return (
        f'{{"object":"list","data":[{data}],"model":{json.dumps(request.model)},'
        f'"usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}}}'
    ).encode()


def spoilt(matrix: Matrix, kind: str, struck: list[int]) -> Matrix:
    if kind == "nan":
        matrix[struck] = np.nan
    elif kind == "zero":
        matrix[struck] = 0
    elif kind == "norm":
        matrix[struck] *= 3
    elif kind == "swapped":  # the index looks right: only a second opinion finds it
        others = [(at + 1) % len(matrix) for at in struck]
        matrix[struck + others] = matrix[others + struck]
    elif kind == "dims":
        matrix = matrix[:, :-1]
    elif kind == "fewer":
        matrix = matrix[:-1]
    return matrix


def written(row: Matrix, kind: str, *, base64: bool) -> str:
    """The vector as it stands in the JSON."""
    if kind == "null":
        return json.dumps([None, *row.tolist()[1:]])
    if kind == "1e400":
        return f"[1e400,{','.join(map(str, row.tolist()[1:]))}]"
    if kind == "string":
        return json.dumps("not base64!")
    return f'"{encoded(row)}"' if base64 else json.dumps(row.tolist())


def encoded(row: Matrix) -> str:
    return base64.b64encode(row.astype("<f4", copy=False).tobytes()).decode()


async def serve(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, request after request."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, _ = head[0].split(" ", 2)
            pairs = (line.partition(":") for line in head[1:] if line)
            headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            try:
                reply = await server.answer(method, target, headers, body)
            except Refused as refused:
                reply = refused.reply
            await send(writer, reply)
            if reply.cut:
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the client is gone
    finally:
        writer.close()


async def send(writer: asyncio.StreamWriter, reply: Reply) -> None:
    lines = {
        "Content-Type": "application/json",
        "Content-Length": str(len(reply.body)),
        **reply.headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    writer.write(f"HTTP/1.1 {reply.status} -\r\n{head}\r\n".encode())
    size = len(reply.body)
    for at in range(DRIPS if reply.over else 0):
        writer.write(reply.body[at : at + 1])
        await asyncio.sleep(reply.over / DRIPS)
    writer.write(reply.body[DRIPS if reply.over else 0 : size // 2 if reply.cut else size])
    await writer.drain()


async def run(server: Server, port: int) -> None:
    listener = await asyncio.start_server(
        lambda reader, writer: serve(server, reader, writer), HOST, port, limit=2**24
    )
    port = listener.sockets[0].getsockname()[1]
    print(f"http://{HOST}:{port}/v1", flush=True)
    async with listener:
        await listener.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--key", help="the only API key that is let in")
    parser.add_argument("--leash", action="store_true", help="end when standard input ends")
    options = parser.parse_args()
    server = Server(latency=options.latency, key=options.key)

    async def story() -> None:
        if options.leash:
            # However the parent died, its end of the pipe is closed: nothing is left behind.
            asyncio.get_running_loop().add_reader(sys.stdin.fileno(), os._exit, 0)
        await run(server, options.port)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(story())


# --- the other end --------------------------------------------------------------------------------


class Loopback:
    """The server as a context: in its own process, gone at the end.

    Its calls block for less than a millisecond, but `wait_held`: in async code, call that one in a
    thread.
    """

    def __init__(self, *, latency: float = 0.0, key: str | None = None) -> None:
        self._arguments = ["--leash", "--latency", str(latency), *(["--key", key] if key else [])]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        self.url = self._process.stdout.readline().strip()
        assert self.url, "the loopback server did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def bill(self) -> list[dict[str, Any]]:
        """One line per input that was worked on: text (sha256), model, time, request, fault."""
        return self._call("GET", "/bill")

    def requests(self) -> dict[str, int]:
        return self._call("GET", "/requests")

    def fault(self, kind: str, *, times: int | None = 1, match: str | None = None, **more: Any) -> None:
        self._call("POST", "/fault", {"kind": kind, "times": times, "match": match, **more})

    def hold(self) -> None:
        """From now on requests wait, until `release`."""
        self._call("POST", "/hold")

    def release(self) -> None:
        self._call("POST", "/release")

    def held(self) -> int:
        return self._call("GET", "/held")["held"]

    def wait_held(self, at_least: int = 1) -> None:
        self._call("GET", f"/held?at_least={at_least}")

    def clear(self) -> None:
        """No faults, an empty bill, the gate open."""
        for method, path in (("DELETE", "/fault"), ("DELETE", "/bill"), ("POST", "/release")):
            self._call(method, path)

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        server = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        try:
            server.request(method, path, json.dumps(body or {}))
            answer = server.getresponse()
            said = answer.read()
            assert answer.status == 200, said
            return json.loads(said)
        finally:
            server.close()


if __name__ == "__main__":
    main()
