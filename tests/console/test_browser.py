"""The console as people use it, in Chromium. Whatever a page should not do fails the test that opened it:
an error on its console, a thing that its policy refused, a dialog, a request to somewhere else.
"""

from __future__ import annotations

import json
from hashlib import sha256

import pytest

from tests.console.browser import AXE, NARROW, WIDE, Site, Theme

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
