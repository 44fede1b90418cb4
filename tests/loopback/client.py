"""The other end: a test or a bench starts the server and tells it what to do."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]
BASES = {"openai": "/v1", "voyage": "/voyage/v1", "gemini": "/v1beta", "cohere": "/v2"}


class Loopback:
    """The server as a context: in its own process, gone at the end.

    Its calls block for less than a millisecond, but `wait_held`: in async code, call that one in a
    thread.

    Args:
        latency: seconds of the provider's own time before each answer.
        key: the only API key that is let in.
        rpm, tpm: requests and tokens a minute for each model; None: no limit.
        retry_after: of a 429: `seconds`, `date`, `none` or any words.
        clock: the provider's time runs so many times as fast.
    """

    def __init__(self, **options: float | str | None) -> None:
        given = {name: value for name, value in options.items() if value is not None}
        self._arguments = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.loopback", "--leash", *self._arguments],
            cwd=ROOT,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # its threads spin, beside a bench
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

    def url_for(self, engine: str) -> str:
        """The base URL that an engine wants; `url` is OpenAI's."""
        return f"{self.url.removesuffix('/v1')}{BASES[engine]}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def bill(self) -> list[dict[str, Any]]:
        """One line per input that was worked on: text (sha256), model, time, request, fault, batch."""
        return self._call("GET", "/bill")

    def log(self) -> list[dict[str, Any]]:
        """One line per request: time (the provider's), status, tokens, inputs, wire, model, dims, task,
        base64, fault.
        """
        return self._call("GET", "/log")

    def requests(self) -> dict[str, int]:
        return self._call("GET", "/requests")

    def fault(self, kind: str, *, times: int | None = 1, match: str | None = None, **more: Any) -> None:
        self._call("POST", "/fault", {"kind": kind, "times": times, "match": match, **more})

    def limits(
        self, *, rpm: float | None = None, tpm: float | None = None, retry_after: str = "seconds"
    ) -> None:
        """From now on this quota, and full buckets."""
        self._call("POST", "/limits", {"rpm": rpm, "tpm": tpm, "retry_after": retry_after})

    def steal(self, share: float) -> None:
        """Another application takes this share of what flows in; 0 ends it."""
        self._call("POST", "/steal", {"share": share})

    def batch(self, *, at_once: bool | None = None, **fault: Any) -> None:
        """Batches are done at once, or when `finish` is called; or one of their own faults."""
        self._call("POST", "/batches", {"at_once": at_once, **fault})

    def finish(self) -> None:
        """All batches that run are worked on now."""
        self._call("POST", "/finish")

    def batches(self) -> dict[str, Any]:
        """`batches` with id and status (running, done, failed, expired, cancelled), `files` that are there,
        `uploads` ever made.
        """
        return self._call("GET", "/batches")

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
        """No faults, no thief, full buckets as at the start, an empty bill, the gate open."""
        self.steal(0.0)
        for path in ("/fault", "/limits", "/bill", "/batches"):
            self._call("DELETE", path)
        self.release()

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
