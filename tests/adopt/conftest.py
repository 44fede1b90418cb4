"""Adopting is done as people have it: a plain owner behind a transaction-mode pooler."""

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


@pytest.fixture
def pooled_dsn(owned_dsn: str, pooler: str) -> str:
    """A database of a plain owner, through the pooler."""
    return servers.at(pooler, dbname=people.database_of(owned_dsn), user=servers.OWNER)


@pytest_asyncio.fixture
async def pooled_app(pooled_dsn: str, loopback: Loopback) -> AsyncIterator[App]:
    async with App(settings_for(pooled_dsn, loopback.url)) as opened:
        yield opened


@pytest_asyncio.fixture
async def user(pooled_dsn: str) -> AsyncIterator[User]:
    async with people.connected(pooled_dsn) as conn:
        yield conn


@pytest_asyncio.fixture
async def any_user(any_dsn: str) -> AsyncIterator[User]:
    async with people.connected(any_dsn) as conn:
        yield conn
