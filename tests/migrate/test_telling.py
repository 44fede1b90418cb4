"""Webhooks and the evidence bundle: what is told of a migration, to whom, and that nobody can change it unseen."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from uuid import uuid4
from zipfile import ZipFile

import pytest

from revec.app import App
from revec.migrate import bundle
from revec.migrate.telling import Teller
from revec.model.errors import BadInput
from revec.model.index import Collection
from revec.observe import webhooks
from tests import steps
from tests.loopback import Loopback
from tests.migrate import world

SECRET = "only we know it"


@dataclass
class Receiver:
    """Somebody's own server."""

    status: int = 200
    heard: list[tuple[dict[str, str], dict[str, object]]] = field(default_factory=list)
    url: str = ""


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = dict(line.split(": ", 1) for line in head.splitlines()[1:] if ": " in line)
        lines = {name.lower(): value for name, value in lines.items()}
        body = await reader.readexactly(int(lines["content-length"]))
        at, mac = (part.split("=", 1)[1] for part in lines["revec-signature"].split(","))
        assert hmac.new(SECRET.encode(), f"{at}.".encode() + body, sha256).hexdigest() == mac
        receiver.heard.append((lines, json.loads(body)))
        said = f"HTTP/1.1 {receiver.status} X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
        writer.write(said.encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/revec"
    async with server:
        yield receiver


def teller(app: App, receiver: Receiver | None) -> Teller:
    hook = webhooks.hook(receiver.url, SECRET) if receiver else None
    return Teller(app.database, hook, uuid4(), lease=1.0)


async def until_told(telling: Teller, receiver: Receiver, count: int) -> None:
    async with asyncio.timeout(20):
        while len(receiver.heard) < count:
            await telling.tick()


async def emptied(app: App) -> None:
    await steps.rows(app, "DELETE FROM revec.outbox RETURNING 1")


async def test_every_move_is_told(ready: world.At, loopback: Loopback) -> None:
    """Who, from where to where, why, at which epoch; signed; once where the receiver takes it; no text of a
    document.
    """
    app, made = ready
    await emptied(app)
    async with receiving() as receiver:
        telling = teller(app, receiver)
        await app.commands.switch.cutover(made, why="it is good")
        await app.commands.switch.rollback(made, why="it was not")
        await until_told(telling, receiver, 2)
        assert not await telling.tick()
    (_, first), (lines, second) = receiver.heard
    assert (first["was"], first["became"], first["why"]) == ("ready", "live", "it is good")
    assert (second["was"], second["became"], second["collection"]) == ("live", "ready", "c")
    assert second["epoch"] == first["epoch"] + 1
    assert lines["revec-delivery"] == second["id"]
    assert "text of document" not in json.dumps([first, second])


@pytest.mark.parametrize("status", [500, 302, 401])
async def test_what_was_not_taken_is_told_again(ready: world.At, loopback: Loopback, status: int) -> None:
    """Under the same id, later each time; a redirect is followed nowhere; the move waits for nobody."""
    app, made = ready
    await emptied(app)
    async with receiving() as receiver:
        telling = teller(app, receiver)
        receiver.status = status
        await app.commands.switch.cutover(made, why="test")
        await until_told(telling, receiver, 1)
        ((attempts, waits),) = await steps.rows(app, "SELECT attempts, not_before > now() FROM revec.outbox")
        assert (attempts, waits) == (1, True)
        receiver.status = 204
        await steps.rows(app, "UPDATE revec.outbox SET not_before = now() RETURNING 1")
        await until_told(telling, receiver, 2)
    assert len({said["id"] for _, said in receiver.heard}) == 1
    assert await steps.rows(app, "SELECT count(*) FROM revec.outbox") == [(0,)]


async def test_a_receiver_that_is_not_there_stops_nothing(ready: world.At, loopback: Loopback) -> None:
    """The move is made; the message waits."""
    app, made = ready
    await emptied(app)
    await app.commands.switch.cutover(made, why="test")
    telling = Teller(app.database, webhooks.hook("http://127.0.0.1:1/", SECRET), uuid4(), lease=1.0)
    await telling.tick()
    said = [row.trouble for row in await steps.rows(app, "SELECT trouble FROM revec.outbox")]
    assert said == ["the webhook at 127.0.0.1 failed: ConnectError"]


async def test_a_receiver_that_never_ends_its_answer(
    ready: world.At, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then is no answer: the message is told again, and the worker goes on."""
    app, made = ready
    await emptied(app)
    await app.commands.switch.cutover(made, why="test")
    monkeypatch.setattr(webhooks, "PATIENCE", 0.3)

    gone = asyncio.Event()

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(b"HTTP/1.1 200 OK\r\nX: ")
            while True:
                writer.write(b"y")
                await writer.drain()
                await asyncio.sleep(0.05)
        writer.close()
        gone.set()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with asyncio.timeout(10):
        await Teller(app.database, webhooks.hook(url, SECRET), uuid4(), lease=1.0).tick()
        await gone.wait()
    server.close()
    said = [row.trouble for row in await steps.rows(app, "SELECT trouble FROM revec.outbox")]
    assert said == ["the webhook at 127.0.0.1 failed: TimeoutError"]


async def test_without_a_webhook_nothing_piles_up(ready: world.At, loopback: Loopback) -> None:
    """What nobody is to hear of goes after an hour."""
    app, _ = ready
    await steps.rows(app, "UPDATE revec.migration_event SET at = at - interval '2 hours' RETURNING 1")
    await teller(app, None).tick()
    assert await steps.rows(app, "SELECT count(*) FROM revec.outbox") == [(0,)]


@pytest.mark.parametrize(
    ("url", "secret", "said"),
    [
        ("http://hooks.example/x", SECRET, "write https://"),
        ("ftp://hooks.example/x", SECRET, "is no address"),
        ("https://hooks:99999", SECRET, "is no address"),
        ("https://hooks:many/x", SECRET, "is no address"),
        ("https://[::1", SECRET, "is no address"),
        ("https://hooks.example/x", None, "without REVEC_WEBHOOK_SECRET"),
    ],
)
def test_a_webhook_that_others_could_read_or_forge(url: str, secret: str | None, said: str) -> None:
    """Is refused; and an address is in no repr, because it may hold a token."""
    with pytest.raises(BadInput, match=said):
        webhooks.hook(url, secret)
    assert "token" not in repr(webhooks.hook("https://hooks.example/token", SECRET))
    assert webhooks.hook(None, None) is None


async def bundled(app: App, made: Collection, to: Path, key: str | None) -> None:
    found = await world.migration(app, made)
    async with app.database.transaction() as conn:
        bundle.write(bundle.files(await bundle.gathered(conn, "c", found), key), to)


async def test_a_bundle_tells_the_whole_story(live: world.At, loopback: Loopback, tmp_path: Path) -> None:
    """Plan, gates, moves, guards and flips; one page that needs nothing else; a change shows."""
    app, made = live
    await app.commands.switch.rollback(made, why="<script>alert(1)</script>")
    await bundled(app, made, tmp_path / "b.zip", "k")
    with ZipFile(tmp_path / "b.zip") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    assert set(parts) == {"evidence.json", "report.html", "MANIFEST.sha256", "MANIFEST.hmac"}
    told = json.loads(parts["evidence.json"])
    assert [move["became"] for move in told["moves"] if move["became"]][-2:] == ["live", "ready"]
    assert len(told["flips"]) == 2
    assert {"completeness", "fidelity", "rehearsal"} <= {verdict["gate"] for verdict in told["verdicts"]}
    assert told["plan"]["gates"]
    shown = parts["report.html"].decode()
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    assert "http" not in shown.replace("httpx", "")
    for line in parts["MANIFEST.sha256"].decode().splitlines():
        digest, name = line.split("  ")
        assert sha256(parts[name]).hexdigest() == digest
    mac = hmac.new(b"k", parts["MANIFEST.sha256"], sha256).hexdigest()
    assert parts["MANIFEST.hmac"].decode().strip() == mac
    assert all("text of document" not in data.decode() for data in parts.values())


async def test_a_bundle_is_never_written_over(live: world.At, loopback: Loopback, tmp_path: Path) -> None:
    """And without a key it is not signed."""
    app, made = live
    await bundled(app, made, tmp_path / "b", None)
    assert {path.name for path in (tmp_path / "b").iterdir()} == {
        "evidence.json",
        "report.html",
        "MANIFEST.sha256",
    }
    with pytest.raises(BadInput, match="never written over"):
        await bundled(app, made, tmp_path / "b", None)
