"""The stores that tests move to: this database, another one, a Chroma server, Qdrant's client alone."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest
from psycopg.conninfo import conninfo_to_dict

# What its `chroma` command ends in, without all that this imports first.
CHROMA = "import sys, chromadb_rust_bindings as chroma; chroma.cli(['chroma', *sys.argv[1:]])"
KINDS = ("pg", "postgresql", "chroma", "qdrant")
PATIENCE = 60.0  # seconds until a server that does not answer is a failure


def url_of(dsn: str) -> str:
    """A database of the tests' own server, as a store."""
    asked = conninfo_to_dict(dsn)
    host, user = str(asked["host"]), quote(str(asked["user"]))
    if host.startswith("/"):
        return f"postgresql://{user}@/{asked['dbname']}?host={quote(host)}&port={asked['port']}"
    return f"postgresql://{user}@{host}:{asked['port']}/{asked['dbname']}"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@dataclass(slots=True)
class ChromaServer:
    """`chroma run`, a process of its own; it can be ended, and started again on what it has."""

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="revec-chroma-")))
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"chroma://127.0.0.1:{self.port}"

    def start(self) -> None:
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", CHROMA, "run"),
                *("--host", "127.0.0.1", "--port", str(self.port), "--path", str(self.folder / "data")),
            ],
            cwd=self.folder,
            env=kept | {"HOME": str(self.folder), "ANONYMIZED_TELEMETRY": "False"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            assert self.process.poll() is None, "chroma ended at once"
            try:
                if httpx2.get(f"http://127.0.0.1:{self.port}/api/v2/heartbeat", timeout=2).is_success:
                    return
            except httpx2.HTTPError:
                time.sleep(0.05)
        raise AssertionError("chroma does not answer")

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None


@contextmanager
def chroma() -> Iterator[ChromaServer]:
    if importlib.util.find_spec("chromadb") is None:
        pytest.skip("chromadb is not installed")  # where it should be, a failure: see conftest
    server = ChromaServer()
    try:
        server.start()
        yield server
    finally:
        server.end()
        shutil.rmtree(server.folder, ignore_errors=True)
