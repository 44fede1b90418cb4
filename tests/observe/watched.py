"""A database with a bit of everything under way, and what its processes show of it."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from uuid import uuid4

from revec.app import App
from revec.migrate.census import CensusTaker
from revec.migrate.guarding import Guarding
from revec.model.index import Collection
from revec.model.migration import State
from revec.observe import events
from revec.observe.metrics import Metrics
from revec.work import health
from tests import servers, steps
from tests.loopback import Loopback
from tests.migrate import world
from tests.search import shadowed
from tests.work import hands

SHUT = date(2027, 1, 31)
NAME = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)[{ ]", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Watched:
    made: Collection
    text: str  # of a server that is a worker too

    @property
    def names(self) -> set[str]:
        return set(NAME.findall(self.text))


@contextmanager
def listening() -> Iterator[Metrics]:
    metrics = Metrics()
    with events.heard(metrics.hear):
        yield metrics


async def census(app: App) -> None:
    await steps.rows(app, "DELETE FROM revec.lease WHERE name = 'census' RETURNING 1")
    await CensusTaker(app.database, lambda _: SHUT, uuid4()).tick()


async def everything(app: App, loopback: Loopback) -> Collection:
    """A migration that is live with its shadow, an edit that waits, a dead letter, a model that answered 503."""
    loopback.fault("refuse", times=None, match="poison")
    made = await steps.ready(app, 6, budget=Decimal(5))
    await shadowed.on(app, made)
    await shadowed.ask(app, "what is document 3", "and what is document 4", "and what is document 4")
    await steps.put(app, made, steps.drafts(1, start=50, word="poison"))
    await steps.drain(app)
    await world.force(app, State.LIVE)
    await Guarding(app.tools, uuid4()).tick()
    loopback.fault("503", times=1)
    await steps.put(app, made, steps.drafts(2, start=100))
    await hands.step(app)
    return made


async def scraped(app: App, metrics: Metrics) -> str:
    """As Prometheus gets it of a worker."""
    async with health.serving("127.0.0.1:0", app.database, metrics.exposition) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await writer.drain()
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8")
    return body.decode()


def promtool(*how: str, said: str | None = None, cwd: str | None = None) -> str:
    """Its complaints; nothing where all is well."""
    done = subprocess.run(
        [servers.needs("promtool"), *how], input=said, capture_output=True, text=True, check=False, cwd=cwd
    )
    return "" if done.returncode == 0 and not done.stderr.strip() else done.stdout + done.stderr
