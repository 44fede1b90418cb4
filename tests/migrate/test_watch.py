"""A model that is no longer what it was is noticed before it has spoilt an index."""

from __future__ import annotations

from revec.app import App
from revec.migrate.watch import watch
from tests import steps
from tests.loopback import Loopback


async def test_changed_weights_stop_the_writing(any_app: App, loopback: Loopback) -> None:
    """All indexes of the space, with the reason; the same weights stop nothing."""
    app = any_app
    first, second = await steps.filled(app, name="c"), await steps.filled(app, name="d")
    assert await watch(app.database, app.provider, every=0.0)
    assert await steps.rows(app, "SELECT FROM revec.index WHERE fault IS NOT NULL") == []
    loopback.fault("drift", times=None)
    assert await watch(app.database, app.provider, every=0.0)
    faults = await steps.rows(app, "SELECT fault FROM revec.index ORDER BY id")
    assert len(faults) == 2
    assert all("no longer the model that made this index" in row.fault for row in faults)
    before = loopback.requests()["inputs"]
    await steps.put(app, first, steps.drafts(3, word="edited"))
    summary = await steps.drain(app)
    assert (summary.written, loopback.requests()["inputs"]) == (0, before)
    loopback.clear()
    for made in (first, second):
        await app.commands.resume(made)
    await steps.drain(app)
    for made in (first, second):
        await steps.assert_oracle(app, made)


async def test_a_model_is_not_asked_before_its_turn(app: App, loopback: Loopback) -> None:
    await steps.filled(app)
    before = loopback.requests()["inputs"]
    assert not await watch(app.database, app.provider)
    assert loopback.requests()["inputs"] == before


async def test_a_model_that_does_not_answer_is_not_accused(app: App, loopback: Loopback) -> None:
    await steps.filled(app)
    loopback.fault("503", times=1)
    assert await watch(app.database, app.provider, every=0.0)
    assert await steps.rows(app, "SELECT FROM revec.index WHERE fault IS NOT NULL") == []
