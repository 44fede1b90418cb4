"""Two moments of a migration, made once and copied for each test: `ready` and `live`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from revec.app import App
from revec.postgres import collections
from tests import servers, steps
from tests.conftest import settings_for
from tests.copies import Copies
from tests.loopback import Loopback
from tests.migrate.world import At


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
            await app.commands.switch.cutover(made, why="the test begins here")

    with servers.copied(maintenance, template_ready, "template_live") as dsn:
        asyncio.run(prepare(dsn))
        yield "template_live"


@asynccontextmanager
async def opened(copies: Copies, template: str, url: str) -> AsyncIterator[At]:
    with copies.lent(template) as dsn:
        async with App(settings_for(dsn, url)) as app:
            async with app.database.transaction() as conn:
                made = await collections.named(conn, "c")
            yield app, made


@pytest_asyncio.fixture
async def ready(copies: Copies, template_ready: str, loopback: Loopback) -> AsyncIterator[At]:
    async with opened(copies, template_ready, loopback.url) as at:
        yield at


@pytest_asyncio.fixture
async def live(copies: Copies, template_live: str, loopback: Loopback) -> AsyncIterator[At]:
    async with opened(copies, template_live, loopback.url) as at:
        yield at
