"""The browser is started once; everything that it looks at is of one test alone."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser

from revec.app import App
from tests.conftest import settings_for
from tests.console import browser as browsers
from tests.console.browser import Site
from tests.loopback import Loopback
from tests.web import door


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    async with browsers.chromium() as started:
        yield started


@pytest_asyncio.fixture(loop_scope="session")
async def site(dsn: str, loopback: Loopback, chromium: Browser) -> AsyncIterator[Site]:
    """An App of this test's own, served, with a worker; on the browser's event loop."""
    settings = settings_for(dsn, loopback.url, request_deadline=door.DEADLINE)
    async with App(settings) as app, browsers.site(app, chromium) as served:
        yield served
