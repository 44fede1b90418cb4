"""Two moments of a migration, made once and copied for each test: `ready` and `live`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from itertools import count

import pytest
import pytest_asyncio

from revec.app import App
from revec.postgres import collections
from tests import servers, steps
from tests.conftest import settings_for
from tests.loopback import Loopback
from tests.migrate.world import At

_numbers = count(1)


@pytest.fixture(scope="session")
def template_ready(maintenance: str, provider: Loopback) -> Iterator[str]:
    """Twenty documents in both indexes; the old one serves."""

    async def prepare(dsn: str) -> None:
        async with App(settings_for(dsn, provider.url)) as app:
            await steps.ready(app)

    with servers.copied(maintenance, "template_revec", "template_ready") as dsn:
        asyncio.run(prepare(dsn))
        yield "template_ready"


@pytest.fixture(scope="session")
def template_live(maintenance: str, provider: Loopback, template_ready: str) -> Iterator[str]:
    """The same, cut over: the new index serves, the old one stands by."""

    async def prepare(dsn: str) -> None:
        async with App(settings_for(dsn, provider.url)) as app:
            async with app.database.transaction() as conn:
                made = await collections.named(conn, "c")
            await app.commands.cutover(made, why="the test begins here")

    with servers.copied(maintenance, template_ready, "template_live") as dsn:
        asyncio.run(prepare(dsn))
        yield "template_live"


@asynccontextmanager
async def opened(maintenance: str, template: str, url: str) -> AsyncIterator[At]:
    with ExitStack() as exits:
        name = f"moment_{next(_numbers)}"
        dsn = exits.enter_context(servers.copied(maintenance, template, name))
        async with App(settings_for(dsn, url)) as app:
            async with app.database.transaction() as conn:
                made = await collections.named(conn, "c")
            yield app, made


@pytest_asyncio.fixture
async def ready(maintenance: str, template_ready: str, loopback: Loopback) -> AsyncIterator[At]:
    async with opened(maintenance, template_ready, loopback.url) as at:
        yield at


@pytest_asyncio.fixture
async def live(maintenance: str, template_live: str, loopback: Loopback) -> AsyncIterator[At]:
    async with opened(maintenance, template_live, loopback.url) as at:
        yield at
