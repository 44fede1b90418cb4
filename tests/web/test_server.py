"""The door on a real socket: how it ends, who may not hold it open, and what is no HTTP at all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx2
import psycopg
import pytest

from revec.app import App
from revec.cli.main import run
from revec.model.access import Role
from revec.model.errors import BadInput, Refused, Unavailable
from revec.postgres.database import Connection
from revec.web import server
from revec.web.doorkeeper import doorkeeper
from revec.web.server import listening
from tests.doors.test_cli import Shell
from tests.loopback import Loopback
from tests.web import door
from tests.web.door import ask

HERE = "127.0.0.1"
PATIENCE = 20.0  # seconds until a signal that does not come is a failure


@asynccontextmanager
async def served(app: App, **how: object) -> AsyncIterator[int]:
    api = door.api_of(app, **how)
    async with listening(api, HERE, 0, deadline=app.settings.request_deadline) as port:
        yield port


async def wire(port: int, *pieces: bytes) -> tuple[int, bytes]:
    """Status and body of what comes back until the server closes; (0, b"") where nothing does."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection(HERE, port)
        answer = b""
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65_536):
                answer += piece
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return (int(head.split()[1]), body) if answer else (0, b"")


async def test_a_search_over_a_socket(app: App, loopback: Loopback) -> None:
    """And nothing of what serves it in the headers."""
    await door.two_tenants(app)
    viewer = await door.holder(app)
    async with served(app) as port, httpx2.AsyncClient(base_url=f"http://{HERE}:{port}") as client:
        answer = await ask(client, viewer)
        assert door.tenants(answer) == {"acme"}
        assert "server" not in answer.headers


def test_an_answer_does_not_wait_for_an_acknowledgement() -> None:
    """Its head and its body leave at once: what is accepted has Nagle's algorithm off."""
    with server._socket(HERE, 0) as opened, socket.create_connection(opened.getsockname()):
        accepted, _ = opened.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this platform has no such limit")
def test_a_connection_that_is_not_read_any_more_has_an_end() -> None:
    with server._socket(HERE, 0) as opened, socket.create_connection(opened.getsockname()):
        accepted, _ = opened.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == server.UNREAD


async def somebody_waits(conn: Connection) -> None:
    """For a lock: a request is in the middle of its work."""
    async with asyncio.timeout(PATIENCE):
        while not (await (await conn.execute("SELECT FROM pg_locks WHERE NOT granted")).fetchall()):
            await asyncio.sleep(0.01)


async def test_what_was_begun_is_answered_before_the_end(app: App, loopback: Loopback) -> None:
    """A stop waits for the request in flight, and takes no other."""
    await door.two_tenants(app)
    viewer = await door.holder(app)
    async with httpx2.AsyncClient() as client, contextlib.AsyncExitStack() as exits:
        port = await exits.enter_async_context(served(app))
        client.base_url = httpx2.URL(f"http://{HERE}:{port}")
        async with app.database.transaction() as conn:
            await conn.execute("LOCK TABLE revec.route IN ACCESS EXCLUSIVE MODE")
            asked = asyncio.create_task(ask(client, viewer))
            await somebody_waits(conn)
            leaving = asyncio.create_task(exits.aclose())
            async with asyncio.timeout(PATIENCE):
                while True:
                    try:
                        _, writer = await asyncio.open_connection(HERE, port)
                    except OSError:
                        break
                    writer.close()
                    await asyncio.sleep(0.01)
            assert not asked.done()
            assert not leaving.done()
        assert door.tenants(await asked) == {"acme"}
        await leaving


async def test_what_never_ends_does_not_hold_the_end_up(app: App, loopback: Loopback) -> None:
    """The deadline is the end of it."""
    await door.two_tenants(app)
    viewer = await door.holder(app)
    async with contextlib.AsyncExitStack() as exits, httpx2.AsyncClient() as client:
        port = await exits.enter_async_context(served(app, request_deadline=1.0))
        client.base_url = httpx2.URL(f"http://{HERE}:{port}")
        async with app.database.transaction() as conn:
            await conn.execute("LOCK TABLE revec.route IN ACCESS EXCLUSIVE MODE")
            asked = asyncio.create_task(ask(client, viewer))
            await somebody_waits(conn)
            async with asyncio.timeout(PATIENCE):
                await exits.aclose()
            door.said(await asked, 503)


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Filler: " + b"x" * 40_000 + b"\r\n\r\n",
        b"GET /livez?" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(4_000)) + b"\r\n",
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: a\0b\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 600,
    ],
    ids=["header", "address", "headers", "no host", "nonsense", "length", "lengths", "NUL", "TLS"],
)
async def test_what_is_no_request_gets_a_problem(app: App, request_: bytes) -> None:
    """And the next one is answered."""
    async with served(app) as port:
        status, body = await wire(port, request_)
        assert status in {400, 431}
        assert json.loads(body)["status"] == status
        assert (await wire(port, b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) == (
            200,
            b"ok\n",
        )


async def test_a_body_that_dribbles_in(app: App, loopback: Loopback) -> None:
    """408 at the deadline, and the connection is closed."""
    key = await door.made_key(app)
    head = (
        f"POST /v1/collections/c/search HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    )
    async with served(app, request_deadline=0.5) as port:
        status, body = await wire(port, head.encode(), b'{"q"')
        assert (status, json.loads(body)["detail"]) == (408, "the body did not come in time")


async def test_a_head_that_dribbles_in(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of a connection and a later one: closed, without an answer to half a request."""
    monkeypatch.setattr(server, "PATIENCE", 0.3)
    async with served(app) as port:
        assert await wire(port, b"GET /livez HT") == (0, b"")
        assert await wire(port) == (0, b"")
        reader, writer = await asyncio.open_connection(HERE, port)
        async with asyncio.timeout(PATIENCE):
            writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200")
            writer.write(b"GET /livez HT")
            assert await reader.read() == b""
        writer.close()


async def test_a_large_body_of_a_stranger_is_not_taken(app: App) -> None:
    """401 by the head; the rest is not waited for."""
    head = b"PUT /v1/collections/c/documents/a HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n"
    async with served(app) as port:
        status, body = await wire(port, head, b"x" * 1_000)
        assert (status, json.loads(body)["title"]) == (401, "Unauthorized")


async def test_where_it_cannot_listen(app: App) -> None:
    """A sentence."""
    async with served(app) as port:
        with pytest.raises(Unavailable, match=f"cannot listen at {HERE}:{port}"):
            async with listening(door.api_of(app), HERE, port, deadline=1.0):
                pass
    with pytest.raises(Unavailable, match="cannot listen at"):
        async with listening(door.api_of(app), "no.such.host.invalid", 0, deadline=1.0):
            pass
    with pytest.raises(BadInput, match="70000 is no port"):
        async with listening(door.api_of(app), HERE, 70_000, deadline=1.0):
            pass


async def test_somebody_may_come_in_and_not_everybody(app: App) -> None:
    """Without a key or a token nobody could ask, and --no-auth is for this machine."""
    with pytest.raises(Refused, match="nobody may ask yet: `revec keys create`"):
        await doorkeeper(app.database, None, host=HERE, no_auth=False)
    for host in ("0.0.0.0", "::", "10.0.0.1", "", "revec.example"):  # noqa: S104 - asked for, to be refused
        with pytest.raises(BadInput, match="only --host 127.0.0.1"):
            await doorkeeper(app.database, None, host=host, no_auth=True)
    await doorkeeper(app.database, None, host=HERE, no_auth=True)
    key = await door.made_key(app, Role.OPERATOR)
    await doorkeeper(app.database, None, host="0.0.0.0", no_auth=False)  # noqa: S104 - asked for, to be refused
    async with app.database.transaction() as conn:
        from revec.postgres import keys

        await keys.revoke(conn, key, by="a test")
    with pytest.raises(Refused, match="nobody may ask yet"):
        await doorkeeper(app.database, None, host=HERE, no_auth=False)


@contextmanager
def process(shell: Shell, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`revec serve` as people start it, and where it listens."""
    running = subprocess.Popen(
        [sys.executable, "-m", "revec.cli.main", "serve", "--port", "0", *arguments],
        cwd=shell.folder,
        env={**shell.environment, "REVEC_REQUEST_DEADLINE": "5", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stdout
        line = running.stdout.readline()
        found = re.match(r"http://\S+", line)
        assert found, running.communicate(timeout=PATIENCE)
        yield running, found[0]
    finally:
        if running.poll() is None:
            running.kill()
        running.communicate(timeout=PATIENCE)


def test_serve_and_keys_as_a_person_types_them(dsn: str, tmp_path: Path, loopback: Loopback) -> None:
    """A key is made, shown once, listed by its prefix, opens the door, is revoked; SIGTERM ends well."""
    revec = Shell(tmp_path, REVEC_DSN=dsn, OPENAI_BASE_URL=loopback.url, OPENAI_API_KEY="k")
    assert "nobody may ask yet" in revec("serve", "--port", "0", code=5)
    assert "only --host 127.0.0.1" in revec("serve", "--host", "0.0.0.0", "--no-auth", code=1)  # noqa: S104 - asked for, to be refused
    revec("collections", "create", "c", "--model", "openai:fake-64")
    (tmp_path / "docs.jsonl").write_text('{"id": 1, "text": "one", "tenant": "acme"}\n')
    revec("ingest", "c", "docs.jsonl")
    revec("worker", "--drain", "--quiet")
    assert "There is no key" in revec("keys", "list")
    key = revec("keys", "create", "--role", "viewer", "--tenant", "acme", "--expires", "90d").strip()
    sees = '{"lang": "en"}'
    made = revec.json(
        *("keys", "create", "--role", "operator", "--all-tenants"),
        *("--collection", "c", "--visible", sees),
    )
    assert re.fullmatch(r"revec_[0-9a-f]{8}_[\w-]{43}", key)
    listed = revec("keys", "list")
    assert key[:14] in listed
    assert key not in listed
    rows = revec.json("keys", "list")
    shown = ("role", "tenant", "collection", "visible", "state")
    assert [tuple(row[each] for each in shown) for row in rows] == [
        ("viewer", "acme", None, None, "good"),
        ("operator", None, "c", sees, "good"),
    ]
    assert sees in listed
    with process(revec) as (running, url):
        place = f"{url}/v1/collections/c/search?q=one"
        answer = httpx2.get(place, headers=door.showing(key))
        assert [hit["id"] for hit in answer.json()["hits"]] == ["1"]
        assert "opens nothing any more" in revec("keys", "revoke", key[:14])
        assert httpx2.get(place, headers=door.showing(key)).status_code == 401
        assert httpx2.get(place, headers=door.showing(made["key"])).json()["hits"] == []
        running.send_signal(signal.SIGTERM)
        _, said = running.communicate(timeout=PATIENCE)
        assert running.returncode == 0, said
    assert "Traceback" not in said
    assert f"turned away: {key[:14]} is unknown, expired or revoked" in said
    assert key not in said
    assert "no key begins like that" in revec("keys", "revoke", "revec_00000000", code=1)


def test_serve_without_keys_on_this_machine(dsn: str, tmp_path: Path, loopback: Loopback) -> None:
    """Where that was asked for, and it says so; Ctrl-C ends it like SIGTERM."""
    revec = Shell(tmp_path, REVEC_DSN=dsn, OPENAI_BASE_URL=loopback.url, OPENAI_API_KEY="k")
    revec("schema", "apply")
    with process(revec, "--no-auth") as (running, url):
        assert httpx2.get(f"{url}/v1/collections").json() == {"collections": []}
        os.kill(running.pid, signal.SIGINT)
        running.communicate(timeout=PATIENCE)
        assert running.returncode == 0


def test_without_its_packages_serve_says_which(tmp_path: Path) -> None:
    """One command to paste; everything else works without them."""
    code = (
        "import sys; sys.modules['fastapi'] = None;"
        "from revec.cli.main import run; sys.exit(run(['serve', '--no-auth']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "revec serve needs an optional package: pip install 'revec[serve]'" in done.stderr


KEYS_REFUSED = [
    (("--role", "viewer"), "--tenant NAME or --all-tenants"),
    (("--role", "viewer", "--tenant", "a", "--all-tenants"), "--tenant NAME or --all-tenants"),
    (("--role", "viewer", "--all-tenants"), "a viewer sees one tenant"),
    (("--role", "admin", "--tenant", "a"), "an admin writes documents"),
    (("--role", "viewer", "--tenant", ""), "a tenant's name is some text"),
    (("--role", "viewer", "--tenant", "a", "--expires", "0"), "expired at once"),
    (("--role", "viewer", "--tenant", "a", "--expires", "soon"), "is no duration"),
    (("--role", "viewer", "--tenant", "a", "--collection", "nope"), "no collection is named 'nope'"),
    (("--role", "viewer", "--tenant", "a", "--visible", "lang=en"), "the filter is not JSON"),
    (("--role", "viewer", "--tenant", "a", "--visible", "{}"), "an empty filter says nothing"),
]


def test_keys_that_would_open_too_much(
    dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused with the way out; the table itself would not hold them either."""
    monkeypatch.setenv("REVEC_DSN", dsn)
    for options, words in KEYS_REFUSED:
        assert run(["keys", "create", *options]) == 1
        assert words in capsys.readouterr().err
    assert run(["keys", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    insert = (
        "INSERT INTO revec.api_key (prefix, hash, role, tenant, created_by)"
        " VALUES ('x', sha256('x'), %s, %s, 'x')"
    )
    with psycopg.connect(dsn, autocommit=True) as conn:
        for role, tenant in (("viewer", None), ("admin", "a"), ("operator", ""), ("root", "a")):
            with pytest.raises(psycopg.errors.CheckViolation):
                conn.execute(insert, (role, tenant))
