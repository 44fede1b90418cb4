"""What a request may cost before it is let in, while it is answered, and each tenant's share."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import httpx2
import pytest

from revec.app import App
from revec.model.access import Role
from revec.model.errors import TooMuch
from revec.observe import events
from revec.observe.metrics import Metrics
from revec.web import entrance, purses
from revec.web.doorkeeper import ANYBODY
from revec.web.purses import Purses
from tests import steps
from tests.loopback import Loopback
from tests.web import door
from tests.web.door import ask

SEARCH, SIMILAR = "/v1/collections/c/search", "/v1/collections/c/similar"
BATCH = "/v1/collections/c/documents/batch"


async def test_a_large_body_is_refused(app: App, loopback: Loopback) -> None:
    """By what it says of its length, and by its length when it says nothing or lies; each kind has its own."""
    await steps.collection(app)
    admin = await door.holder(app, Role.ADMIN) | {"content-type": "application/json"}

    async def unsaid(length: int) -> AsyncIterator[bytes]:
        for _ in range(length // 8_192 + 1):
            yield b" " * 8_192

    async with door.door(app) as client:
        for path, most in (
            (SEARCH, entrance.MOST_BODY),
            (SIMILAR, entrance.MOST_LIKENESS),
            (BATCH, entrance.MOST_DOCUMENTS),
        ):
            said = await client.post(path, content=b" " * (most + 1), headers=admin)
            assert f"at most {most >> 10:,} kB" in door.said(said, 413)["detail"]
            door.said(await client.post(path, content=unsaid(most), headers=admin), 413)
            door.said(await client.post(path, content=b" " * most, headers=admin), 422)
        documents = {"put": [{"id": "1", "text": "x" * (1 << 20)}]}
        assert (await client.post(BATCH, json=documents, headers=admin)).status_code == 202


async def test_a_packed_body_is_not_unpacked(app: App, loopback: Loopback) -> None:
    """A few kilobytes may be gigabytes: refused by its head."""
    admin = await door.holder(app, Role.ADMIN)
    bomb = gzip.compress(b" " * (64 << 20))
    async with door.door(app) as client:
        for packing in ("gzip", "deflate", "br", "zstd", "gzip, gzip", "x"):
            packed = await client.post(BATCH, content=bomb, headers=admin | {"content-encoding": packing})
            assert "send it as it is" in door.said(packed, 415)["detail"]


async def test_a_large_head_is_refused(app: App, loopback: Loopback) -> None:
    """Headers and address together."""
    viewer = await door.holder(app)
    async with door.door(app) as client:
        door.said(await ask(client, viewer | {"x-filler": "x" * entrance.MOST_HEAD}), 431)
        door.said(await ask(client, viewer, filler="x" * entrance.MOST_HEAD), 431)


async def answered(api: Any, *headers: tuple[bytes, bytes]) -> tuple[int, bool]:
    """The status of a search by body, and whether the body was asked for."""
    sent: list[Any] = []
    asked = False

    async def receive() -> Any:
        nonlocal asked
        asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": SEARCH, "raw_path": SEARCH.encode(), "query_string": b"", "root_path": "",
        "headers": [(b"content-type", b"application/json"), *headers],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    await api(scope, receive, send)
    return int(sent[0]["status"]), asked


async def test_nothing_is_read_of_a_stranger(app: App, loopback: Loopback) -> None:
    """Nor of somebody whose purse is empty, nor of what is too large by its own word."""
    api = door.api_of(app, requests_per_second=0.5)
    key = await door.made_key(app, Role.ADMIN)
    mine = (b"authorization", f"Bearer {key}".encode())
    assert await answered(api) == (401, False)
    assert await answered(api, (b"authorization", b"Bearer x")) == (401, False)
    assert await answered(api, (b"content-length", b"99999999999"), mine) == (413, False)
    assert await answered(api, mine) == (422, True)
    assert await answered(api, mine) == (429, False)


async def test_the_share_of_each_tenant(app: App, loopback: Loopback) -> None:
    """Who asks too much hears when to come again; whoever shares its tenant shares that, others do not."""
    await door.two_tenants(app)
    acme, also_acme = await door.holder(app), await door.holder(app, Role.OPERATOR)
    globex = await door.holder(app, tenant="globex")
    async with door.door(app, requests_per_second=2.0) as client:
        answers = await asyncio.gather(*(ask(client, acme) for _ in range(10)))
        assert sorted({answer.status_code for answer in answers}) == [200, 429]
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert "more than 2 requests a second" in door.said(refused, 429)["detail"]
        assert int(refused.headers["retry-after"]) == 1
        door.said(await ask(client, also_acme), 429)
        assert door.tenants(await ask(client, globex)) == {"globex"}


def test_a_bucket_fills_again() -> None:
    """Two seconds' worth at once, then as fast as it flows; never more."""
    now, waits = 0.0, []
    share = Purses(5.0, clock=lambda: now)

    def taken() -> int:
        count = 0
        while True:
            try:
                share.take("a")
            except TooMuch as error:
                waits.append(error.retry_after)
                return count
            count += 1

    assert taken() == 10
    now = 1.0
    assert taken() == 5
    now = 1_000.0
    assert taken() == 10
    assert all(0 < seconds <= 0.2 for seconds in waits)


def test_many_tenants_cost_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Full buckets are forgotten, and of empty ones the oldest; who asks on and on stays empty."""
    monkeypatch.setattr(purses, "MOST", 100)
    now = 0.0
    share = Purses(0.5, clock=lambda: now)
    share.take("busy")
    for number in range(1_000):
        with pytest.raises(TooMuch):
            share.take("busy")
        share.take(f"tenant {number}")
        if number % 50 == 49:
            share._purses["busy"] = share._purses.pop("busy")
    assert len(share._purses) <= 101


async def soon(answer: Awaitable[httpx2.Response]) -> httpx2.Response:
    """A request that nothing ends would wait for ever: that is a failure."""
    try:
        async with asyncio.timeout(5):
            return await answer
    except TimeoutError:
        raise AssertionError("the deadline is no end to it") from None


async def test_an_answer_that_takes_too_long(app: App, loopback: Loopback) -> None:
    """503 within the deadline, the statement is given up, and the next request is answered."""
    await door.two_tenants(app)
    viewer = await door.holder(app)
    async with door.door(app, request_deadline=0.5) as client:
        async with app.database.transaction() as conn:
            await conn.execute("LOCK TABLE revec.route IN ACCESS EXCLUSIVE MODE")
            slow = await soon(ask(client, viewer))
            assert "not ready within the deadline" in door.said(slow, 503)["detail"]
            assert slow.headers["retry-after"] == "1"
            waiting = await steps.rows(app, "SELECT FROM pg_locks WHERE NOT granted")
            assert waiting == []
        assert door.tenants(await ask(client, viewer)) == {"acme"}


async def test_what_nobody_thought_of_is_not_told(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller hears that it happened, the log what; the next one is answered."""
    await door.two_tenants(app)
    viewer = await door.holder(app)
    heard: list[events.Event] = []
    monkeypatch.setattr(events, "_listeners", [heard.append])

    async def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("secret 7")

    async with door.door(app) as client:
        with monkeypatch.context() as patch:
            patch.setattr(app.retriever, "search", broken)
            answer = await ask(client, viewer)
        assert "secret" not in door.said(answer, 500)["detail"]
        (told,) = [each for each in heard if isinstance(each, events.RequestFailed)]
        assert told.route == "/v1/collections/{name}/search"
        assert told.why.startswith("ZeroDivisionError in broken, test_limits.py:")
        assert "secret" not in told.why
        assert door.tenants(await ask(client, viewer)) == {"acme"}


async def test_a_database_that_is_gone(app: App, loopback: Loopback) -> None:
    """503 without the words of the driver, and not ready; live all the same."""
    await door.two_tenants(app)
    viewer = await door.holder(app)
    async with door.door(app) as client:
        assert ((await client.get("/readyz")).text, (await client.get("/livez")).text) == ("ok\n", "ok\n")
        await app.database._pool.close()
        problem = door.said(await ask(client, viewer), 503)
        assert "dbname" not in problem["detail"]
        assert "host" not in problem["detail"]
        assert (await client.get("/livez")).status_code == 200


async def test_what_this_server_did(app: App, loopback: Loopback) -> None:
    """By route and status, no names in it; an operator's to read."""
    await door.two_tenants(app)
    viewer, operator = await door.holder(app), await door.holder(app, Role.OPERATOR)
    async with door.door(app) as client:
        for _ in range(3):
            await ask(client, viewer)
        await ask(client, viewer, "nope")
        await ask(client, {})
        await client.get("/v1/nonsense/acme", headers=viewer)
        door.said(await client.get("/metrics"), 401)
        door.said(await client.get("/metrics", headers=viewer), 403)
        answer = await client.get("/metrics", headers=operator)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    route = 'route="/v1/collections/{name}/search"'
    assert f'revec_http_requests_total{{method="GET",{route},status="200"}} 3.0' in lines
    assert f'revec_http_requests_total{{method="GET",{route},status="404"}} 1.0' in lines
    assert 'revec_http_requests_total{method="GET",route="none",status="401"} 2.0' in lines
    assert f"revec_http_request_duration_seconds_count{{{route}}} 4.0" in lines
    assert "revec_http_requests_in_flight 1.0" in lines
    assert 'revec_search_duration_seconds_count{collection="c",stage="whole"} 3.0' in lines
    assert "acme" not in answer.text


def test_a_histogram_adds_up() -> None:
    """Each bucket holds the ones before it; the last is the count."""
    metrics = Metrics()
    for seconds in (0.001, 0.005, 0.3, 99.0):
        metrics.note("BREW", "/x", 200, seconds)
    text = metrics.exposition().decode()
    counts = [line.rsplit(" ", 1) for line in text.splitlines() if "_bucket" in line]
    numbers = [float(count) for _, count in counts]
    assert numbers == sorted(numbers)
    assert (numbers[0], numbers[-2], numbers[-1]) == (2, 3, 4)
    assert 'revec_http_requests_total{method="other",route="/x",status="200"} 4.0' in text
    assert "revec_http_request_duration_seconds_sum" in text


async def test_on_this_machine_anybody_may_if_that_was_asked_for(app: App, loopback: Loopback) -> None:
    """As an admin, under this machine's own names only: no page of a browser reaches us under another."""
    await door.two_tenants(app)
    async with door.door(app, open_to=ANYBODY) as client:
        assert door.tenants(await ask(client, {})) == set(door.TENANTS)
        for host in ("localhost:8080", "[::1]:8080", "127.0.0.1"):
            assert door.tenants(await ask(client, {"host": host}))
        for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8080"):
            assert "under no other name" in door.said(await ask(client, {"host": host}), 403)["detail"]
        door.said(await ask(client, door.showing("nonsense")), 401)  # what is shown is looked at
        for kind in ({"content-type": "text/plain"}, {}):
            text = await client.post(SEARCH, content=b'{"q": "x"}', headers=kind)
            assert text.status_code == 422  # what a foreign page may send without being asked is not read


async def test_a_response_that_has_begun_is_not_begun_again(app: App) -> None:
    """The server ends such a connection; two heads would be somebody else's answer."""
    sent: list[Any] = []

    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    inner = entrance.Entrance(
        half,
        doorkeeper=None,  # type: ignore[arg-type]
        guests=None,  # type: ignore[arg-type]
        purses=Purses(1.0),
        metrics=Metrics(),
        deadline=1.0,
    )

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/livez", "query_string": b"", "headers": []}
    with pytest.raises(ZeroDivisionError):
        await inner(scope, None, send)  # type: ignore[arg-type]
    assert len(sent) == 1
