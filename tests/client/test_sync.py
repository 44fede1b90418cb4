"""The twin for code that is not async: the same methods, from any thread, beside any loop; nothing is left."""

from __future__ import annotations

import asyncio
import gc
import inspect
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

import revec
from revec import errors
from revec.app import App
from revec.client import twin
from revec.client.client import Client
from revec.client.twin import SyncClient
from tests.client.ways import environment, notes, served
from tests.web import door

OWN = {"sync", "wait_for"}  # what only one of the two has


@contextmanager
def leaving_nothing() -> Iterator[None]:
    """No thread of ours and no loop outlives the body."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in set(threading.enumerate()) - before if thread.name == "revec"]
    assert left == []
    gc.collect()  # a loop that was not closed, a coroutine that nobody awaited: warnings, which are errors


async def until(met: Callable[[], bool]) -> None:
    for _ in range(500):  # 5 s, and the deadline of a question is 10
        if met():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came")


async def test_from_within_a_running_loop(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a notebook: the loop of this very test runs. In process; the server of the other way needs that loop."""
    await notes(app)
    environment(app, monkeypatch)
    with leaving_nothing(), revec.connect().sync() as client:
        found = client.search("notes", "wing at speed", k=2)
        assert found.hits[0].id == "2"
        assert client.get("notes", "2").text == "The wing of an aircraft at high speed"
        assert [each.name for each in client.collections()] == ["notes"]
        with pytest.raises(errors.NotFound):
            client.search("nobody")


async def test_from_several_threads(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over both ways: each thread gets the answer to its own question."""
    await notes(app)
    environment(app, monkeypatch)
    key = await door.made_key(app, tenant="default")
    texts = {"1": "Reset\nHow to reset a password", "3": "Zebra\nZebras in the rain"}

    def asked(client: SyncClient) -> list[str]:
        def best(key: str) -> str:
            return client.search("notes", texts[key], mode="vector", k=1).hits[0].id

        with ThreadPoolExecutor(8) as threads:
            return list(threads.map(best, ["1", "3"] * 16))

    def whole_life(target: str | None, shown: str | None) -> list[str]:
        with leaving_nothing(), revec.connect(target, key=shown).sync() as client:
            return asked(client)

    async with served(app) as url:
        for target, shown in ((None, None), (url, key)):
            assert await asyncio.to_thread(whole_life, target, shown) == ["1", "3"] * 16


async def test_closing_cuts_off_who_waits(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a sentence, in the thread that waits; the loop is closed, and no task goes on."""
    await notes(app)
    environment(app, monkeypatch)
    with leaving_nothing():
        client = revec.connect().sync()
        client.__enter__()
        async with app.database.transaction() as conn:
            await conn.execute("LOCK TABLE revec.document")
            waiting = asyncio.create_task(asyncio.to_thread(client.search, "notes", "x", mode="lexical"))
            life = client._life
            assert life is not None
            await until(lambda: bool(life._calls))
            await asyncio.to_thread(client.__exit__)
            with pytest.raises(errors.Refused, match="closed"):
                await waiting
        assert life._loop.is_closed()
        with pytest.raises(errors.Refused, match="not open"):
            client.search("notes", "x")


async def test_who_was_interrupted_leaves_no_task(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the thread that waits: the question is withdrawn, and the client goes on."""
    await notes(app)
    environment(app, monkeypatch)

    with leaving_nothing(), revec.connect().sync() as client:
        life = client._life
        assert life is not None

        def interrupted(_: twin.Future) -> object:
            while not life._calls:  # it is asked by then
                time.sleep(0.01)
            raise KeyboardInterrupt

        async with app.database.transaction() as conn:
            await conn.execute("LOCK TABLE revec.document")
            with monkeypatch.context() as patched:
                patched.setattr(twin.Future, "result", interrupted)
                with pytest.raises(KeyboardInterrupt):
                    client.search("notes", "x", mode="lexical")
            await until(lambda: not life._calls)  # while the question could go on
        assert client.search("notes", "wing").hits


def test_what_cannot_be_opened_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error comes to who opens it, and the thread is gone."""
    monkeypatch.setenv("REVEC_DSN", "postgresql://nobody@127.0.0.1:1/none")
    client = revec.connect().sync()
    for _ in range(2):  # and it can be tried again
        with leaving_nothing(), pytest.raises(errors.Unavailable), client:
            raise AssertionError("open")


async def test_a_fork_does_not_wait_for_a_thread_that_it_has_not(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told so, and leaves the client to the process that opened it."""
    environment(app, monkeypatch)
    client = revec.connect().sync()
    with client:
        life = client._life
        assert life is not None
        with monkeypatch.context() as forked:
            forked.setattr(twin.os, "getpid", lambda: -1)
            with pytest.raises(errors.Refused, match="another process"):
                client.collections()
            life.end()
        assert client.collections() == []


async def test_a_client_is_opened_once(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """And again when it was closed; before and after it asks for nothing."""
    environment(app, monkeypatch)
    client = revec.connect()
    with pytest.raises(errors.Refused, match="not open"):
        await client.collections()
    for _ in range(2):
        async with client:
            assert await client.collections() == []
            with pytest.raises(errors.Refused, match="open already"):
                await client.__aenter__()
    in_step = client.sync()
    for _ in range(2):
        with in_step:
            assert in_step.collections() == []
            with pytest.raises(errors.Refused, match="open already"):
                in_step.__enter__()


def test_every_method_has_its_twin() -> None:
    """By name, with the same parameters and the same words."""
    ours = {name for name in vars(Client) if not name.startswith("_")} - OWN
    theirs = {name for name in vars(SyncClient) if not name.startswith("_")} - OWN
    assert ours == theirs
    client = SyncClient(Client(None))  # type: ignore[arg-type]
    for name in ours:
        method, waited = getattr(Client, name), getattr(client, name)
        assert inspect.iscoroutinefunction(method)
        assert not inspect.iscoroutinefunction(waited)
        _, *parameters = inspect.signature(method).parameters.values()
        assert list(inspect.signature(waited).parameters.values()) == parameters
        assert waited.__doc__ == method.__doc__


USER = """
import revec
from revec import Answer, Client, Document, Receipt, SyncClient

async def a(client: Client) -> None:
    answer: Answer = await client.search("notes", "x", k=3, mode="hybrid", filter={"a": 1})
    receipt: Receipt = await client.put("notes", [{"id": "1", "text": "x"}], wait=1)

def b(client: SyncClient) -> None:
    answer: Answer = client.search("notes", "x", k=3, mode="hybrid", filter={"a": 1})
    document: Document = client.get("notes", "1")
    text: str | None = answer.hits[0].text

with revec.connect("https://x", key="k", tenant=revec.ALL_TENANTS).sync() as client:
    b(client)
try:
    pass
except revec.errors.NotFound:
    pass
"""
WRONG = """
import revec
def b(client: revec.SyncClient) -> None:
    client.search("notes", k="three")
    client.search("notes", "x", colour="red")
    client.search("notes", "x", mode="magic")
    found: int = client.get("notes", "1")
    client.nothing()
"""


def test_types_are_good_for_users(tmp_path) -> None:
    """What is right passes mypy --strict; each thing that is wrong is noticed, also through the twin."""
    (tmp_path / "user.py").write_text(USER)
    (tmp_path / "wrong.py").write_text(WRONG)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "user.py", "wrong.py"],
        capture_output=True,
        encoding="utf-8",
        cwd=tmp_path,
        check=False,
    )
    noticed = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert [line.split(":")[:2] for line in noticed] == [["wrong.py", str(n)] for n in range(4, 9)], (
        done.stdout
    )
