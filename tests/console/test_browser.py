"""The console as people use it, in Chromium. Whatever a page should not do fails the test that opened it:
an error on its console, a thing that its policy refused, a dialog, a request to somewhere else.
"""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from hashlib import sha256

import pytest
from playwright.async_api import Browser

from revec.model.access import Role
from revec.model.index import Collection
from tests import steps
from tests.console import browser
from tests.console.browser import AXE, NARROW, WIDE, Site, Tab, Theme, soon
from tests.loopback import Loopback
from tests.migrate import world

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_what_the_tests_bring_along_is_what_was_published() -> None:
    """axe-core, by its sums."""
    (axe,) = json.loads(AXE.with_name("vendored.json").read_text(encoding="utf-8"))
    for name, expected in axe["files"].items():
        assert sha256((AXE.parent / name).read_bytes()).hexdigest() == expected


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_nobody_is_kept_out(site: Site, theme: Theme) -> None:
    """Every page, in light and dark, wide and narrow: axe has nothing to say, and none is wider than its window."""
    async with site.visit(theme=theme, bypass_csp=True) as tab:
        paths = await tab.page.eval_on_selector_all(
            "nav a", "links => links.map(l => l.getAttribute('href'))"
        )
        for path in paths:
            for width in (WIDE, NARROW):
                await tab.page.set_viewport_size({"width": width, "height": 800})
                await tab.go(path)
                assert (path, width, await tab.overflow()) == (path, width, 0)
                assert (path, await tab.axe()) == (path, [])


async def until(site: Site, made: Collection, state: str) -> None:
    async def is_there() -> bool:
        return str(await world.state(site.app, made)) == state

    await soon(is_there)


async def begin(tab: Tab, model: str = steps.NEW) -> None:
    """A migration, from its button to its page."""
    await tab.go("/console/migration?collection=c")
    await tab.press("Start…")
    await tab.page.get_by_label("Model").fill(model)
    await tab.press("Show the plan")
    await tab.press("Start it")


async def confirm(tab: Tab, opener: str, verb: str, name: str = "c", **fields: str) -> None:
    """A dialog whose button waits until the collection's name is typed."""
    await tab.press(opener)
    dialog = tab.page.locator("dialog[open]")
    for label, text in fields.items():
        await dialog.get_by_label(label).fill(text)
    button = dialog.get_by_role("button", name=verb, exact=True)
    assert await button.is_disabled()
    await dialog.get_by_label("Type").fill(name)
    await button.click()


async def badge(tab: Tab, word: str) -> None:
    await tab.page.locator(".title .badge", has_text=word).wait_for()


async def test_a_migration_from_start_to_finish_by_clicks(site: Site) -> None:
    """Start, cut over by typing the name, roll back, cut over again, finish; the page follows by itself."""
    made = await steps.filled(site.app, 12)
    async with site.visit() as tab:
        await begin(tab)
        await badge(tab, "ready")
        await confirm(tab, "Cut over…", "Cut over")
        await badge(tab, "live")
        assert (await world.look(site.app, made)).serving == "openai:fake-b-96#2"
        await tab.press("Roll back…")
        await tab.press("Roll back", within="dialog[open]")
        await badge(tab, "ready")
        assert (await world.look(site.app, made)).serving == "openai:fake-64#1"
        await confirm(tab, "Cut over…", "Cut over")
        await badge(tab, "live")
        await confirm(tab, "Finish…", "Finish", **{"Days until then": "0"})
        await badge(tab, "finished")
    await steps.assert_oracle(site.app, made)


async def test_it_pauses_and_goes_on_and_no_cutover_comes_too_early(site: Site, loopback: Loopback) -> None:
    """While the provider does not answer: paused and resumed by a click; a cutover is refused, by the gate's name;
    and nobody was moved.
    """
    made = await steps.filled(site.app, 12)
    loopback.hold()
    try:
        async with site.visit() as tab:
            await begin(tab)
            await badge(tab, "backfilling")
            await tab.press("Pause")
            await badge(tab, "paused in backfilling")
            await tab.press("Resume")
            await badge(tab, "backfilling")
            tab.expected = {409}
            await confirm(tab, "Cut over…", "Cut over")
            await tab.says("completeness")
            assert (await world.look(site.app, made)).serving == "openai:fake-64#1"
    finally:
        loopback.release()
    await until(site, made, "ready")


async def test_a_viewer_sees_why_they_may_not(site: Site) -> None:
    """The buttons are there, and closed; who presses all the same is told 403, and nothing has happened."""
    made = await steps.ready(site.app, 3)
    async with site.visit(Role.VIEWER, "default") as tab:
        await tab.go("/console/migration?collection=c")
        for name in ("Pause", "Cut over…", "Roll back…"):
            assert await tab.page.get_by_role("button", name=name).is_disabled()
        await tab.says("you are logged in as viewer")
        tab.expected = {403}
        status = await tab.page.evaluate(
            """async () => (await fetch('/console/migration/pause?collection=c', {method: 'POST', headers:
               {'X-CSRF-Token': document.querySelector('meta[name=csrf]').content}})).status"""
        )
        assert status == 403
    assert (await world.look(site.app, made)).paused is None


async def test_a_stream_that_is_lost_is_found_again(
    site: Site, chromium: Browser, loopback: Loopback
) -> None:
    """The server goes: the page says how old it is. It comes back: the page is current, and nobody loaded it anew."""
    made = await steps.ready(site.app, 3)
    async with AsyncExitStack() as first, AsyncExitStack() as again:
        other = await first.enter_async_context(browser.site(site.app, chromium, working=False))
        async with other.visit() as tab:
            await tab.go("/console/migration?collection=c")
            await tab.says("● live", within="header")
            tab.is_cut_off = True
            await first.aclose()
            await tab.says("last update", within="header")
            port = int(other.url.rpartition(":")[2])
            await again.enter_async_context(browser.site(site.app, chromium, working=False, port=port))
            await site.app.commands.pause(made, "to see whether the page hears of it")
            await badge(tab, "paused in ready")
            await tab.says("● live", within="header")
            tab.is_cut_off = False
