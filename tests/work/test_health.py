"""Whoever restarts processes hears the truth about this one, and nobody can make it costly."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from revec.app import App
from revec.model.errors import BadInput, Unavailable
from revec.postgres.database import Database
from revec.work import health
from tests import steps
from tests.loopback import Loopback
from tests.work import hands

HERE = "127.0.0.1:0"


async def said(port: int, request: str = "/readyz", *, raw: bytes | None = None) -> tuple[int, str]:
    """Status and line of one answer; (0, "") where the connection was closed without any."""
    async with asyncio.timeout(hands.PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            writer.write(raw or f"GET {request} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await writer.drain()
            answer = (await reader.read()).decode()
            writer.close()
            head, _, body = answer.partition("\r\n\r\n")
            return (int(head.split()[1]), body.strip()) if answer else (0, "")
    return 0, ""


async def test_a_worker_is_live_and_ready(any_app: App) -> None:
    """Both say ok in one line; whatever else is asked gets a sentence."""
    async with health.serving(HERE, any_app.database) as port:
        assert await said(port, "/livez") == (200, "ok")
        assert await said(port, "/readyz?verbose") == (200, "ok")
        assert (await said(port, "/metrics"))[0] == 404, "nobody has any for it"
        assert (await said(port, raw=b"POST /livez HTTP/1.1\r\n\r\n"))[0] == 405
        assert (await said(port, raw=b"nonsense\r\n\r\n"))[0] == 404


async def test_a_worker_that_is_busy_answers(app: App, loopback: Loopback) -> None:
    """Its requests wait at the provider and every connection of its pool is in use."""
    made, _ = await hands.indexed(app)
    await steps.put(app, made, steps.drafts(20))
    async with (
        health.serving(HERE, app.database) as port,
        hands.embedding(app, loopback),
        contextlib.AsyncExitStack() as all_of_them,
    ):
        for _ in range(8):
            await all_of_them.enter_async_context(app.database.transaction())
        assert await said(port, "/livez") == (200, "ok")
        assert await said(port, "/readyz") == (200, "ok")
    await steps.drain(app)
    await hands.assert_oracle(app, made)


async def test_a_provider_that_fails_makes_no_worker_unready(app: App, loopback: Loopback) -> None:
    """No restart mends it."""
    made, _ = await hands.indexed(app)
    await steps.put(app, made, steps.drafts(2))
    loopback.fault("503", times=None)
    async with health.serving(HERE, app.database) as port:
        await hands.step(app)
        assert await said(port) == (200, "ok")


async def test_without_its_tables_a_worker_is_live_but_not_ready(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 and one line with the way out; ready again as soon as it is mended."""
    monkeypatch.setattr(health, "ASK_EVERY", 0.0)
    taken = await steps.rows(app, "DELETE FROM revec.schema_file WHERE name LIKE '0007%%' RETURNING *", x=1)
    async with health.serving(HERE, app.database) as port:
        status, line = await said(port)
        assert (status, await said(port, "/livez")) == (503, (200, "ok"))
        assert line == "the schema lacks 0007_control.sql: run `revec schema apply`"
        async with app.database.transaction() as conn:
            row = taken[0]._asdict()
            await conn.execute(
                "INSERT INTO revec.schema_file (name, checksum) VALUES (%(name)s, %(checksum)s)", row
            )
        assert await said(port) == (200, "ok")


async def test_without_its_database_a_worker_is_live_but_not_ready() -> None:
    """And no host, login or password is told."""
    gone = Database("postgresql://me:secret@127.0.0.1:1/app")
    async with health.serving(HERE, gone) as port:
        assert await said(port, "/livez") == (200, "ok")
        assert await said(port) == (503, "the database does not answer (OperationalError)")


async def test_strangers_cost_the_database_one_question_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many want to know at once, and when it is slow."""
    asked = 0

    async def counted(_: object) -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.05)

    monkeypatch.setattr(health, "unready", counted)
    async with health.serving(HERE, Database("postgresql://x")) as port:
        for _ in range(3):
            answers = await asyncio.gather(*(said(port) for _ in range(10)))
            assert set(answers) == {(200, "ok")}
    assert asked == 1


async def test_strangers_hold_neither_time_nor_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that never ends, one without an end, and a crowd: others are answered all the same."""
    monkeypatch.setattr(health, "PATIENCE", 0.3)
    async with health.serving(HERE, Database("postgresql://x")) as port:
        assert (await said(port, raw=b"x" * 100_000))[0] in {0, 400}
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(40)]
        async with asyncio.timeout(hands.PATIENCE):
            ended = await asyncio.gather(*(reader.read() for reader, _ in idle))
        assert set(ended) == {b""}
        for _, writer in idle:
            writer.close()
        assert await said(port, "/livez") == (200, "ok")


async def test_only_so_many_are_listened_to_at_once() -> None:
    """The seventeenth is sent away at once."""
    async with health.serving(HERE, Database("postgresql://x")) as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(16)]
        seventeenth = await said(port, "/livez")
        for _, writer in idle:
            writer.close()
        assert seventeenth == (0, "")


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("7341", "127.0.0.1", 7341),
        ("0.0.0.0:80", "0.0.0.0", 80),  # noqa: S104 - asked for
        ("[::1]:7341", "::1", 7341),
        ("localhost:7341", "localhost", 7341),
    ],
)
def test_it_is_heard_on_this_machine_unless_asked(address: str, host: str, port: int) -> None:
    """A port alone is a port of the loopback."""
    assert health.parsed(address) == (host, port)


@pytest.mark.parametrize("address", ["", ":7341", "x:", "x:70000", "http://x:1", "::1:7341", "a b:1"])
def test_what_is_no_address_is_said_to_be_none(address: str) -> None:
    """With an example of one."""
    with pytest.raises(BadInput, match="write 127.0.0.1:7341"):
        health.parsed(address)


async def test_a_port_that_is_taken_is_said_to_be() -> None:
    """A sentence, before any work is claimed."""
    nowhere = Database("postgresql://x")
    async with health.serving(HERE, nowhere) as port:
        with pytest.raises(Unavailable, match=f"cannot listen at 127.0.0.1:{port}"):
            async with health.serving(f"127.0.0.1:{port}", nowhere):
                pass
