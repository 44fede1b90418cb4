"""The user's side: connections of their own to the database that a test captures from."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from revec.app import App
from tests import servers
from tests.capture import people
from tests.capture.people import User
from tests.conftest import settings_for
from tests.loopback import Loopback


@pytest_asyncio.fixture
async def user(dsn: str) -> AsyncIterator[User]:
    async with people.connected(dsn) as conn:
        await conn.execute("CREATE SCHEMA app")
        yield conn


@pytest_asyncio.fixture
async def another(dsn: str) -> AsyncIterator[User]:
    """A second session of the user's."""
    async with people.connected(dsn) as conn:
        yield conn


@pytest_asyncio.fixture
async def any_user(any_dsn: str) -> AsyncIterator[User]:
    async with people.connected(any_dsn) as conn:
        await conn.execute("CREATE SCHEMA app")
        yield conn


@pytest_asyncio.fixture
async def owned_app(owned_dsn: str, loopback: Loopback) -> AsyncIterator[App]:
    async with App(settings_for(owned_dsn, loopback.url)) as opened:
        yield opened


@pytest.fixture
def root_dsn(owned_dsn: str, maintenance: str) -> str:
    """The same database for the cluster's superuser."""
    return servers.at(maintenance, dbname=people.database_of(owned_dsn))
