"""The console as people use it, in Chromium. Whatever a page should not do fails the test that opened it:
an error on its console, a thing that its policy refused, a dialog, a request to somewhere else.
"""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from hashlib import sha256
from urllib.parse import urlencode, urlsplit

import pytest
from playwright.async_api import Browser

from revec.model import duration
from revec.model.access import Role
from revec.model.document import Draft
from revec.model.index import Collection, Index
from tests import servers, steps
from tests.console import browser, town
from tests.console.browser import AXE, HEIGHT, NARROW, WIDE, Site, Tab, soon
from tests.console.hostile import TEXTS
from tests.loopback import Loopback
from tests.migrate import test_quality as quality
from tests.migrate import world
from tests.work import test_letters as letters

pytestmark = pytest.mark.asyncio(loop_scope="session")


AGO = """lasts => {
  const now = Date.now();
  Date.now = () => now;
  const times = lasts.map(seconds => {
    const time = document.createElement('time');
    time.setAttribute('datetime', new Date(now - 1000 * seconds).toISOString());
    return document.body.appendChild(time);
  });
  document.dispatchEvent(new Event('htmx:after:swap'));
  return times.map(time => time.textContent);
}"""
# Every document has the vector of one of them.
RUIN = "UPDATE revec.vectors_2 SET embedding = (SELECT embedding FROM revec.vectors_2 LIMIT 1) RETURNING 1"


async def test_what_the_tests_bring_along_is_what_was_published() -> None:
    """axe-core, by its sums."""
    (axe,) = json.loads(AXE.with_name("vendored.json").read_text(encoding="utf-8"))
    for name, expected in axe["files"].items():
        assert sha256((AXE.parent / name).read_bytes()).hexdigest() == expected


async def test_nobody_is_kept_out(site: Site, loopback: Loopback) -> None:
    """Every page, with what there is on it, in light and dark: axe has nothing to say; wide and narrow: none is
    wider than its window. These are the pictures in docs/images.
    """
    await town.built(site.app, loopback)
    for theme in ("light", "dark"):
        async with site.visit(theme=theme, bypass_csp=True) as tab:
            for name, path in (await pages(tab)).items():
                await tab.go(path)
                assert (path, await tab.axe()) == (path, [])
                await tab.photograph(name if theme == "light" else f"{name}-dark")
                await tab.page.set_viewport_size({"width": NARROW, "height": HEIGHT})
                assert (path, await tab.overflow()) == (path, 0)
                if theme == "light":
                    assert (path, NARROW, await tab.axe()) == (path, NARROW, [])
                await tab.page.set_viewport_size({"width": WIDE, "height": HEIGHT})
                assert (path, await tab.overflow()) == (path, 0)


async def pages(tab: Tab) -> dict[str, str]:
    """Every page in the navigation, about the collection that has most to show; and those behind them."""
    paths = await tab.page.eval_on_selector_all(
        "nav.tabs a", "links => links.map(l => l.getAttribute('href'))"
    )
    found = {urlsplit(path).path.strip("/").rpartition("/")[2]: urlsplit(path).path for path in paths}
    found["overview"] = found.pop("console")
    asked = urlencode({"q": "I forgot how to get in", "tenant": "acme", "mode": "vector"})
    more = {"compare": f"&{asked}", "search": f"&{asked}"}
    about = {name: f"{path}?collection=articles{more.get(name, '')}" for name, path in found.items()}
    about["document"] = "/console/queue/document?collection=articles&key=scan%2F1"
    return about


async def test_an_empty_database_says_what_to_do(site: Site, dsn: str) -> None:
    """The three commands, with the table that there is; and each other page knows that there is nothing yet."""
    servers.run(dsn, "CREATE TABLE public.handbook (id int PRIMARY KEY, body text)")
    async with site.visit() as tab:
        await tab.says("revec init")
        await tab.says("handbook")
        for path in (await pages(tab)).values():
            if "document" not in path:
                await tab.go(path.partition("?")[0])
                assert await tab.page.locator("h1").count() == 1


async def test_a_page_tells_a_time_as_the_server_does(site: Site) -> None:
    """How long ago: the page's own script counts on where the server's words were of when it was sent."""
    lasts = [1, 14, 59, 60, 200, 3_600, 7_259, 7_500, 86_400, 100_800, 90 * 86_400 + 59]
    async with site.visit() as tab:
        told = await tab.page.evaluate(AGO, lasts)
    assert told == [f"{duration.told(seconds)} ago" for seconds in lasts]


async def test_a_failed_group_is_tried_again(site: Site, loopback: Loopback) -> None:
    """One click for all letters of a cause, whose fault is mended; and they are done."""
    made, index = await letters.failed(site.app, loopback)
    async with site.visit() as tab:
        await tab.go("/console/queue?collection=c")
        await tab.press("Retry group")
        await tab.says("documents are to be tried again")
        await soon(lambda: nothing_dead(site, index))
    await steps.assert_oracle(site.app, made)


async def nothing_dead(site: Site, index: Index) -> bool:
    letters = "SELECT FROM revec.dead WHERE index_id = %(i)s"
    return not await steps.rows(site.app, letters, i=index.id)


async def test_a_key_on_the_page_changes_what_the_gate_says(site: Site) -> None:
    """Nobody knew that the new index is ruined, for nobody had judged anew: one press of a key, and it fails."""
    app, made = await quality.make_judged(site.app)
    await steps.rows(app, RUIN)
    async with site.visit(Role.OPERATOR) as tab:
        asked = urlencode({"collection": "c", "q": quality.words(3), "tenant": "default", "mode": "vector"})
        await tab.go(f"/console/compare?{asked}")
        await tab.says("quality gate: PASSED")
        await tab.page.keyboard.press("j")
        await tab.page.keyboard.press("2")
        await tab.page.locator("[data-hit]").first.locator("[data-grade='2'][aria-pressed=true]").wait_for()
        await quality.looked(app, made)
        await tab.page.reload()
        await tab.says("quality gate: FAILED")


async def test_hostile_texts_do_nothing(site: Site) -> None:
    """Sixty of them as documents, keys, tenants, causes and reasons: shown as they are; no dialog, nothing that the
    policy had to refuse, no request to somewhere else.
    """
    app = site.app
    drafts = [Draft(f"{n} {text}", text, text, f"{n} {text}") for n, text in enumerate(TEXTS)]
    made = await steps.collection(app)
    await steps.put(app, made, drafts)
    await until(site, made, "finished")
    await app.start(made, steps.NEW)
    await until(site, made, "ready")
    await app.commands.pause(made, TEXTS[0])
    await steps.rows(
        app,
        "INSERT INTO revec.dead (index_id, doc_id, rev, input_hash, tenant, cause, attempts)"
        " SELECT 1, id, rev, input_hash, tenant, title, 5 FROM revec.document RETURNING 1",
    )
    async with site.visit() as tab:
        seen = ""
        for path in addresses(await pages(tab), drafts[0].key):
            await tab.go(path)
            seen += await tab.page.inner_text("main")
        for text in TEXTS[:20]:
            assert text.split()[0] in seen


def addresses(known: dict[str, str], key: str) -> list[str]:
    """Every page about the hostile collection; those that one asks, asked several of the texts."""
    known = {name: path.partition("?")[0] for name, path in known.items()}
    found = [f"{path}?{urlencode({'collection': 'c', 'key': key})}" for path in known.values()]
    for name in ("search", "compare"):
        for text in TEXTS[::12]:
            asked = {"collection": "c", "q": text, "tenant": "", "mode": "vector", "k": "50"}
            found.append(f"{known[name]}?{urlencode(asked)}")
    return found


async def until(site: Site, made: Collection, state: str) -> None:
    async def is_there() -> bool:
        return str(await world.state(site.app, made)) == state

    await soon(is_there)


async def plan(tab: Tab) -> None:
    """A migration, from its button to its plan."""
    await tab.go("/console/migration?collection=c")
    await tab.press("Start…")
    await tab.page.get_by_label("Model").fill(steps.NEW)
    await tab.press("Show the plan")
    await tab.page.get_by_role("button", name="Start it").wait_for()


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
        await plan(tab)
        await tab.press("Start it")
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
    async with site.visit() as tab:
        await plan(tab)
        loopback.hold()
        try:
            await tab.press("Start it")
            await tab.press("Pause")
            await badge(tab, "paused in")
            await tab.press("Resume")
            await tab.page.locator(".title .badge", has_text="paused in").wait_for(state="detached")
            tab.expected = {409}
            await confirm(tab, "Cut over…", "Cut over")
            await tab.says("completeness")
            assert (await world.look(site.app, made)).serving == "openai:fake-64#1"
        finally:
            loopback.release()
        tab.expected = set()
        await tab.go("/console/migration?collection=c")
        await badge(tab, "ready")


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
