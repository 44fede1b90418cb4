"""A test that cannot fail proves nothing: each fence is taken away once, and its test must notice."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable

import pytest

from revec.app import App
from revec.migrate.gates import errors
from revec.model.access import Role
from revec.model.index import Kind
from revec.work import calls, control, pack
from tests import steps
from tests.loopback import Loopback
from tests.migrate import test_quality
from tests.migrate.world import At
from tests.mutants.mutants import MUTANTS
from tests.search.test_queries import Model
from tests.work import hands, test_batches
from tests.work.test_calls import Desk

NOTICED = (AssertionError, pytest.fail.Exception)
PATIENCE = 60.0
SOON = 6.0  # seconds that a mutant waits for what its taking away keeps from happening
WORLDS = {  # made here as their fixtures make them
    "judged": test_quality.make_judged,
    "unlooked": lambda app: _then(test_quality.make_judged(app), test_quality.unlook),
    "few": lambda app: _then(test_quality.make_judged(app), test_quality.thin_out),
}


async def _then(made: Awaitable[At], change: Callable[[At], Awaitable[At]]) -> At:
    return await change(await made)


@pytest.mark.parametrize("name", MUTANTS)
async def test_a_mutant_is_noticed(
    name: str,
    app: App,
    loopback: Loopback,
    store_of: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The very test that guards the fence fails, by an assertion, without the fence."""
    mutant = MUTANTS[name]
    monkeypatch.setattr(calls, "REST", (0.01, 1.0))
    monkeypatch.setattr(pack, "OUTAGE_PAUSE", 0.05)
    monkeypatch.setattr(control, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(steps, "SOON", SOON)
    monkeypatch.setattr(hands, "PATIENCE", SOON)
    test_batches.hurry(monkeypatch)
    has = {
        "any_app": app,
        "app": app,
        "dsn": app.database.dsn,
        "loopback": loopback,
        "monkeypatch": monkeypatch,
        "desk": Desk(app),
        "place": 77,
        "kind": Kind.HNSW,
        "how": "visible",
        "mode": "force_generic_plan",
        "tenant": "middling",
        "model": Model(),
        "value": 0.4,
        "to": steps.NEW,
        "wrong": "nameless",
        "seed": 0,
        "missing": 1,
        "role": Role.OPERATOR,
        "off": 1.0,
        "store_of": store_of,
        "name": "points_put",
        "lane": 1,
        "goal": 60,
        "gate": errors,
        "what": "too much was shed",
        "outcome": "timeout",
        "slow": "store",
        "who": "a person",
    }
    asked = inspect.signature(mutant.scenario).parameters
    for fixture, make in WORLDS.items():
        if fixture in asked:
            has[fixture] = await make(app)
    if {"ready", "live"} & set(asked):
        has["ready"] = has["live"] = (app, made := await steps.ready(app))
    if "live" in asked:
        await app.commands.switch.cutover(made, why="the test begins here")
    async with asyncio.timeout(PATIENCE), mutant.patch(app):
        with pytest.raises(NOTICED) as noticed:
            await mutant.scenario(**{each: has[each] for each in asked})
    print(f"{name}: {str(noticed.value).splitlines()[0]}")


@pytest.mark.parametrize("name", MUTANTS)
def test_without_the_mutant_its_test_is_one_of_ours(name: str) -> None:
    """It is collected and passes among ours, so it is the mutant that fails it."""
    scenario = MUTANTS[name].scenario
    module = sys.modules[scenario.__module__]
    rooms = (
        "adopt",
        "client",
        "console",
        "doctor",
        "providers",
        "work",
        "migrate",
        "observe",
        "search",
        "statistics",
        "stores",
        "web",
    )
    assert module.__name__.startswith(tuple(f"tests.{room}.test_" for room in rooms))
    assert getattr(module, scenario.__name__) is scenario
    assert scenario.__name__.startswith("test_")
