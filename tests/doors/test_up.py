"""`revec up`: everything in one process, and an end in order."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import psycopg
import pytest

from revec.app import App
from revec.cli import up
from revec.model.errors import NotFound, Unavailable
from tests import servers, steps
from tests.doors.test_cli import Shell
from tests.loopback import Loopback

PATIENCE = 30.0  # seconds until a signal that does not come is a failure
SOON = 20.0  # seconds within which Ctrl-C has ended it, on a busy machine


@contextmanager
def running(shell: Shell, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """`revec up` as a person starts it, and what its first lines name."""
    process = subprocess.Popen(
        [sys.executable, "-m", "revec.cli.main", "up", "--port", "0", *arguments],
        cwd=shell.folder,
        env={**shell.environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        said: dict[str, str] = {}
        for line in iter(process.stdout.readline, "Ctrl-C ends it.\n"):
            assert line, process.communicate(timeout=PATIENCE)
            name, what = line.split(maxsplit=1)
            said[name] = what.strip()
        yield process, said
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=PATIENCE)


def ended(process: subprocess.Popen[str], number: int = signal.SIGINT) -> str:
    """What it said on standard error; it has ended soon, and well."""
    process.send_signal(number)
    _, said = process.communicate(timeout=SOON)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    return said


@pytest.fixture
def home() -> Iterator[str]:
    """For an embedded server: below a folder that its user may enter."""
    with tempfile.TemporaryDirectory(prefix="revec-up-", dir=servers.quick_folder()) as name:
        Path(name).chmod(0o755)
        yield f"{name}/home"


def test_a_laptop_from_nothing(home: str, tmp_path: Path, loopback: Loopback) -> None:
    """One process: its Postgres is there for psql, its worker embeds, its API answers whoever is on this machine,
    and nobody under another name; Ctrl-C stops all of it, Postgres too.
    """
    revec = Shell(tmp_path, REVEC_HOME=home, OPENAI_BASE_URL=loopback.url, OPENAI_API_KEY="k")
    (tmp_path / "docs.jsonl").write_text('{"id": 1, "text": "one"}\n')
    with running(revec) as (process, said):
        url = said["API"].split("/v1")[0]
        assert said["Console"] == f"{url}/console"
        revec("collections", "create", "c", "--model", "openai:fake-64")
        revec("ingest", "c", "docs.jsonl")
        assert "finished" in revec("status", "c", "--watch").splitlines()[-1]
        found = httpx2.get(f"{url}/v1/collections/c/search?q=one").json()
        assert [hit["id"] for hit in found["hits"]] == ["1"]
        stranger = httpx2.get(f"{url}/v1/collections", headers={"host": "evil.example"})
        assert stranger.status_code == 403
        assert servers.ask(said["psql"], "SELECT count(*) FROM revec.document") == [1]
        ended(process)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(said["psql"], connect_timeout=2)


async def test_work_in_hand_is_handed_back(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider does not answer: the end does not wait for it, and the next worker does not wait for a lease."""
    made = await steps.filled(app, 1)
    stopped = asyncio.Event()
    monkeypatch.setattr(up, "signalled", lambda: stopped)
    monkeypatch.setattr(up, "GRACE", 0.2)
    loopback.hold()
    try:
        running = asyncio.create_task(up.together(app, None, port=0))
        await steps.put(app, made, steps.drafts(5, start=9))
        await asyncio.to_thread(loopback.wait_held)
        stopped.set()
        async with asyncio.timeout(SOON):
            await running
        assert await steps.rows(app, "SELECT FROM revec.work WHERE lease_until IS NOT NULL") == []
        assert await steps.rows(app, "SELECT FROM revec.worker") == []
    finally:
        loopback.release()
    await steps.drain_soon(app)
    await steps.assert_oracle(app, made)


def test_a_port_that_is_taken(dsn: str, tmp_path: Path, loopback: Loopback) -> None:
    """A sentence; and without a worker the door alone."""
    revec = Shell(tmp_path, REVEC_DSN=dsn, OPENAI_BASE_URL=loopback.url, OPENAI_API_KEY="k")
    with running(revec, "--no-worker") as (process, said):
        port = re.findall(r":(\d+)/v1", said["API"])[0]
        refused = revec("up", "--port", port, code=1)
        assert f"cannot listen at 127.0.0.1:{port}" in refused
        assert "Warning" not in refused, "nothing was begun that nobody waits for"
        assert servers.ask(dsn, "SELECT count(*) FROM revec.worker") == [0]
        ended(process)


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (NotFound("there is no such thing"), "there is no such thing"),
        (
            KeyError("x"),
            r"the example ended by KeyError \('x'\) in fails, test_up.py:\d+. What was committed is",
        ),
    ],
)
async def test_one_part_that_fails_ends_all(
    app: App, loopback: Loopback, capsys: pytest.CaptureFixture[str], failure: Exception, said: str
) -> None:
    """With its sentence; nothing of the others stays: no worker, no open port."""
    await steps.filled(app, 1)

    async def fails() -> None:
        await asyncio.sleep(0.2)
        raise failure

    async with asyncio.timeout(PATIENCE):
        with pytest.raises((NotFound, Unavailable), match=said):
            await up.together(app, None, port=0, beside={"example": fails})
    (port,) = re.findall(r":(\d+)/v1", capsys.readouterr().out)
    with pytest.raises(httpx2.ConnectError):
        await httpx2.AsyncClient().get(f"http://127.0.0.1:{port}/livez")
    assert await steps.rows(app, "SELECT FROM revec.worker") == []
