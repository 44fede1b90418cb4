"""A search as server-sent events: the words at once, then both legs, of one index at one epoch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import httpx2
import pytest

from revec.app import App
from revec.model.access import Role
from revec.model.reading import Mode
from revec.postgres import indexes
from tests import steps
from tests.loopback import Loopback
from tests.web import door
from tests.web.door import ask
from tests.web.test_server import HERE, PATIENCE, served

LONG = 3 * PATIENCE  # seconds
EVENTS = {"accept": "text/event-stream"}
Event = tuple[str, dict[str, Any]]


def parsed(block: str) -> Event:
    lines = dict(line.split(": ", 1) for line in block.splitlines())
    assert lines.keys() == {"event", "data"}
    return lines["event"], json.loads(lines["data"])


def events(answer: httpx2.Response) -> list[Event]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("\n\n")
    return [parsed(block) for block in answer.text.split("\n\n")[:-1]]


class Listener:
    """Events as they arrive on a socket."""

    def __init__(self, answer: httpx2.Response) -> None:
        self._lines = answer.aiter_lines()

    async def next(self) -> Event | None:
        """The next one; None where the answer has ended."""
        block = []
        async for line in self._lines:
            if not line:
                return parsed("\n".join(block))
            block.append(line)
        return None

    async def soon(self) -> Event | None:
        try:
            async with asyncio.timeout(PATIENCE):
                return await self.next()
        except TimeoutError:
            pytest.fail("the event does not come")


@asynccontextmanager
async def listening(port: int, headers: Mapping[str, str]) -> AsyncIterator[Listener]:
    path = f"http://{HERE}:{port}/v1/collections/c/search?q=document+3&k=5"
    try:
        async with (
            httpx2.AsyncClient(timeout=PATIENCE) as client,
            client.stream("GET", path, headers={**headers, **EVENTS}) as answer,
        ):
            yield Listener(answer)
    except httpx2.ReadTimeout:
        pytest.fail("the events do not begin")


@contextmanager
def holding(loopback: Loopback) -> Iterator[None]:
    """The model answers nobody; from the end on it does, however the test went."""
    loopback.hold()
    try:
        yield
    finally:
        loopback.release()


async def test_the_words_come_first_then_both(app: App, loopback: Loopback) -> None:
    """By address and by body; what is said last is the answer that JSON would have been."""
    await door.two_tenants(app)
    viewer = await door.holder(app)
    async with door.door(app) as client:
        words = (await ask(client, viewer, mode="lexical")).json()
        both = (await ask(client, viewer)).json()
        by_address = await ask(client, viewer | EVENTS)
        by_body = await client.post(
            "/v1/collections/c/search", json={"q": "document 3", "k": 100}, headers=viewer | EVENTS
        )
    for answer in (by_address, by_body):
        assert events(answer) == [("lexical", words), ("fused", both)]
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-accel-buffering"] == "no"


async def test_the_words_do_not_wait_for_the_model(app: App, loopback: Loopback) -> None:
    """They are on the wire while it works, and nothing else is."""
    await door.two_tenants(app)
    viewer = await door.holder(app)
    app.retriever._deadline = PATIENCE
    async with served(app, request_deadline=LONG) as port, AsyncExitStack() as exits:
        with holding(loopback):
            listener = await exits.enter_async_context(listening(port, viewer))
            first = await listener.soon()
            assert first is not None
            assert first[0] == "lexical"
            assert first[1]["hits"]
            await asyncio.to_thread(loopback.wait_held)
        last = await listener.soon()
        assert last is not None
        assert (last[0], last[1]["degraded"]) == ("fused", False)
        assert await listener.soon() is None


async def test_other_searches_are_one_event(app: App, loopback: Loopback) -> None:
    """Nothing is early where one leg answers, where nothing was asked, and in an index that was named."""
    await door.two_tenants(app)
    operator = await door.holder(app, Role.OPERATOR)
    cases = [
        ("vector", {"mode": "vector"}),
        ("lexical", {"mode": "lexical"}),
        ("fused", {"q": ""}),
        ("fused", {"index": "1"}),
        ("vector", {"index": "1", "mode": "vector", "vectors": "true"}),
    ]
    async with door.door(app) as client:
        for name, question in cases:
            answer = (await ask(client, operator, **question)).json()
            assert events(await ask(client, operator | EVENTS, **question)) == [(name, answer)]


async def test_a_model_that_is_down_ends_it_degraded(app: App, loopback: Loopback) -> None:
    """The words are the answer then, and it says so."""
    await door.two_tenants(app)
    viewer = await door.holder(app)
    async with door.door(app) as client:
        loopback.fault("503", times=2)
        (first, words), (last, degraded) = events(await ask(client, viewer | EVENTS))
        assert (first, last) == ("lexical", "fused")
        assert (degraded["degraded"], words["degraded"]) == (True, False)
        assert degraded["hits"] == words["hits"] != []
        assert degraded["why"] == "the model did not answer: only the words were searched"


async def test_what_goes_wrong_first_is_a_problem(app: App, loopback: Loopback) -> None:
    """With its own status, as without events."""
    await steps.collection(app)
    viewer = await door.holder(app)
    async with door.door(app) as client:
        assert "nothing serves c yet" in door.said(await ask(client, viewer | EVENTS), 409)["detail"]
        door.said(await ask(client, viewer | EVENTS, "nope"), 404)
        door.said(await ask(client, viewer | EVENTS, k=0), 422)
        door.said(await ask(client, viewer | EVENTS, filter="{"), 422)
        door.said(await ask(client, EVENTS), 401)


async def test_what_goes_wrong_later_is_an_event(app: App, loopback: Loopback) -> None:
    """The same problem, behind what was found; the end comes by itself."""
    await door.two_tenants(app)
    viewer = await door.holder(app)
    async with door.door(app, request_deadline=1.0) as client:
        loopback.fault("400")
        (first, _), (last, problem) = events(await ask(client, viewer | EVENTS))
        assert (first, last) == ("lexical", "error")
        assert problem.keys() >= door.PROBLEM
        assert problem["status"] == 422
        operator = await door.holder(app, Role.OPERATOR)
        metrics = (await client.get("/metrics", headers=operator)).text
        assert 'route="/v1/collections/{name}/search",status="422"} 1' in metrics
        assert 'route="/v1/collections/{name}/search",status="200"' not in metrics
        async with app.database.transaction() as conn:
            await conn.execute("LOCK TABLE revec.vectors_1 IN ACCESS EXCLUSIVE MODE")
            try:
                answer = await ask(client, viewer | EVENTS)
            except TimeoutError:
                pytest.fail("it ends without a word")
            (first, _), (last, problem) = events(answer)
            assert (first, last, problem["status"]) == ("lexical", "error", 503)
            assert "not ready within the deadline" in problem["detail"]
        assert [name for name, _ in events(await ask(client, viewer | EVENTS))] == ["lexical", "fused"]


async def test_who_leaves_has_not_wasted_what_is_paid_for(app: App, loopback: Loopback) -> None:
    """The call goes on, and the next one who asks that has its vector."""
    await door.two_tenants(app)
    viewer = await door.holder(app)
    app.retriever._deadline = PATIENCE
    loopback.clear()
    async with served(app, request_deadline=LONG) as port:
        with holding(loopback):
            async with listening(port, viewer) as listener:
                assert await listener.soon()
                await asyncio.to_thread(loopback.wait_held)
        async with httpx2.AsyncClient(base_url=f"http://{HERE}:{port}", timeout=PATIENCE) as client:
            assert not (await ask(client, viewer)).json()["degraded"]
    assert [line["inputs"] for line in loopback.log()] == [1]


async def flip(app: App, to: int) -> None:
    async with app.database.transaction() as conn:
        route, _ = await indexes.serving(conn, "c")
        assert await indexes.flip(conn, route, serving=to, previous=route.serving)


async def test_both_events_are_of_one_index(app: App, loopback: Loopback) -> None:
    """A cutover between them changes nothing; a dropped index begins it again."""
    await steps.ready(app)
    viewer = await door.holder(app, tenant="default")
    app.retriever._deadline = PATIENCE
    for drop in (False, True):
        now = await app.serving("c")
        async with served(app, request_deadline=LONG) as port, AsyncExitStack() as exits:
            with holding(loopback):
                listener = await exits.enter_async_context(listening(port, viewer))
                first = await listener.soon()
                assert first is not None
                await asyncio.to_thread(loopback.wait_held)
                await flip(app, 3 - now.id)
                if drop:
                    async with app.database.transaction() as conn:
                        await app.store.drop(conn, now)
            rest = [await listener.soon() for _ in range(3 if drop else 2)]
        assert rest.pop() is None
        told = [first, *rest]
        assert [each[0] for each in told if each] == ["lexical"] * (len(told) - 1) + ["fused"]
        moments = [(each[1]["index"], each[1]["epoch"]) for each in told if each]
        assert moments[0][0] == now.name
        assert moments[-2] == moments[-1]
        if drop:
            assert moments[-1][0] != now.name
            assert moments[-1][1] == moments[0][1] + 1
        app.retriever._queries._known.clear()  # the model is asked again


@pytest.mark.parametrize(
    ("accept", "is_stream"),
    [
        ("text/event-stream", True),
        ("Text/Event-Stream; q=0.9, */*;q=0.1", True),
        ("application/json, text/event-stream", False),
        ("*/*", False),
        ("text/*", False),
        ("text/event-streams", False),
        ("", False),
    ],
)
async def test_who_gets_events(app: App, loopback: Loopback, accept: str, *, is_stream: bool) -> None:
    """Whoever names them, and does not name JSON too."""
    await door.two_tenants(app)
    viewer = await door.holder(app)
    async with door.door(app) as client:
        answer = await ask(client, viewer | {"accept": accept}, mode=str(Mode.LEXICAL))
    assert answer.headers["content-type"].startswith("text/event-stream") is is_stream
