"""Debian's Chromium at the console: one of it a session, a clean profile a visit, and nothing that goes unseen."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from playwright.async_api import Browser, Page, Request, Response, async_playwright

from revec.app import App
from revec.model.access import Role
from revec.web.app import build
from revec.web.doorkeeper import Doorkeeper
from revec.web.server import listening
from tests.migrate import world
from tests.web import door

HERE = "127.0.0.1"
AXE = Path(__file__).with_name("axe") / "axe.min.js"
IMAGES = Path(__file__).parents[2] / "docs" / "images"
WANTED = bool(os.environ.get("REVEC_IMAGES"))  # a test itself has no setting of ours
WIDE, NARROW = 1280, 390
HEIGHT = 800
PATIENCE = 15_000.0  # milliseconds that a page has to become what is waited for
# What the policy of the page refuses is told by the page itself, in each of its documents.
WATCH = """document.addEventListener('securitypolicyviolation',
  e => console.error('the policy refused ' + e.violatedDirective + ' ' + e.blockedURI + ' ' + e.sample))"""
AXE_ASKS = """async () => (await axe.run(document, {resultTypes: ['violations']})).violations.map(
  v => `${v.id}: ${v.nodes.map(n => n.html.slice(0, 160) + ' (' + n.failureSummary + ')').join(' | ')}`)"""

Theme = Literal["light", "dark"]


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The browser, for as long as the session lasts."""
    from tests.servers import needs

    program = needs("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        await browser.close()


@dataclass
class Site:
    """A served App, and whoever visits it."""

    app: App
    browser: Browser
    url: str

    @asynccontextmanager
    async def visit(
        self,
        role: Role | None = Role.ADMIN,
        tenant: str | None = None,
        *,
        theme: Theme = "light",
        width: int = WIDE,
        bypass_csp: bool = False,
    ) -> AsyncIterator[Tab]:
        """A tab of somebody who is logged in (None: of nobody). Whatever a page should not do fails the test."""
        context = await self.browser.new_context(
            base_url=self.url,
            color_scheme=theme,
            reduced_motion="reduce",
            viewport={"width": width, "height": HEIGHT},
            bypass_csp=bypass_csp,
            locale="en-GB",
            timezone_id="Europe/Zurich",
        )
        context.set_default_timeout(PATIENCE)
        await context.add_init_script(WATCH)
        tab = Tab(await context.new_page(), self.url)
        try:
            if role is not None:
                await tab.log_in(await door.made_key(self.app, role, tenant))
            yield tab
        except Exception as error:
            error.add_note(f"{tab.page.url}: {tab.faults}")
            raise
        finally:
            await context.close()
        assert tab.faults == [], tab.faults


@dataclass
class Tab:
    """One page, and everything that should not have happened in it."""

    page: Page
    url: str
    expected: set[int] = field(default_factory=set)  # statuses of refusals that the test is about
    is_cut_off: bool = False  # the server is away, or its answers are: that fails loudly
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda said: self._hear(said.type, said.text))
        self.page.on("pageerror", lambda error: self.faults.append(f"an error of the page: {error}"))
        self.page.on("dialog", self._dismiss)
        self.page.on("request", self._see)
        self.page.on("response", self._judge)

    def _hear(self, kind: str, text: str) -> None:
        is_status = text.startswith("Failed to load resource: the server responded")  # judged by its answer
        if kind == "error" and not is_status and not self.is_cut_off:
            self.faults.append(f"on the browser's console: {text}")

    async def _dismiss(self, dialog: Any) -> None:
        self.faults.append(f"a dialog: {dialog.message}")
        await dialog.dismiss()

    def _see(self, request: Request) -> None:
        if not request.url.startswith((f"{self.url}/", "data:")):
            self.faults.append(f"a request to somewhere else: {request.url}")

    def _judge(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self.expected and not self.is_cut_off:
            self.faults.append(f"{response.status} of {urlsplit(response.url).path}")

    async def go(self, path: str) -> None:
        await self.page.goto(path, wait_until="load")

    async def log_in(self, key: str) -> None:
        await self.go("/console/login")
        await self.page.get_by_label("Your key").fill(key)
        await self.page.get_by_role("button", name="Log in").click()
        await self.page.wait_for_url("**/console/")

    async def press(self, name: str, *, within: str | None = None, exact: bool = True) -> None:
        """A button by its name, once it may be pressed."""
        at = self.page.locator(within) if within else self.page
        await at.get_by_role("button", name=name, exact=exact).first.click()

    async def says(self, text: str, within: str = "main") -> None:
        """Until the page says so, by itself: nobody loads it again."""
        await self.page.locator(within).get_by_text(text).first.wait_for()

    async def overflow(self) -> int:
        """Pixels by which the page is wider than the window."""
        return int(
            await self.page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
        )

    async def axe(self) -> list[str]:
        """What keeps people out, by axe's rules; its context bypasses the policy."""
        if not await self.page.evaluate("'axe' in window"):
            await self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found: list[str] = await self.page.evaluate(AXE_ASKS)
        return found

    async def photograph(self, name: str) -> None:
        """Into docs/images, where REVEC_IMAGES asks for it."""
        if WANTED:
            IMAGES.mkdir(exist_ok=True)
            await self.page.screenshot(path=IMAGES / f"{name}.png", animations="disabled")


@asynccontextmanager
async def site(app: App, browser: Browser, *, working: bool = True, port: int = 0) -> AsyncIterator[Site]:
    """The App on a free port, a worker beside it."""
    api = build(app, Doorkeeper(app.database, None))
    async with AsyncExitStack() as exits:
        if working:
            await exits.enter_async_context(world.working(app))
        at = await exits.enter_async_context(listening(api, HERE, port, deadline=door.DEADLINE))
        yield Site(app, browser, f"http://{HERE}:{at}")


async def soon(question: Any, seconds: float = 15.0) -> None:
    """Until what is asked is true."""
    async with asyncio.timeout(seconds):
        while not await question():
            await asyncio.sleep(0.05)
