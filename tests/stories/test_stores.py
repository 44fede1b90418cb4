"""A collection moves from this database to another store and back, under writes, and nothing is paid twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from revec.app import App
from revec.model.errors import BadInput, GateNotMet, Refused, StoreUnavailable
from revec.model.index import Collection, Index, Kind
from revec.model.migration import State
from revec.model.reading import Mode
from revec.model.verdict import Outcome
from tests import places, steps
from tests.loopback import Loopback
from tests.migrate import world

StoreOf = Callable[[str], str]
QUERY = "text of document 3"


async def moved(app: App, made: Collection, store: str, **how: object) -> Index:
    """To that store, as far as a person is needed; its index."""
    steps.unhurried(app)
    await app.start(made, steps.OLD, store=store, **how)  # type: ignore[arg-type]
    summary = await steps.drain(app)
    assert (summary.stuck, summary.embedded) == ([], 0)
    assert await world.state(app, made) is State.READY
    return (await steps.written(app, made))[-1]


async def edited(app: App, made: Collection, round_: int) -> None:
    """Users write: something new, something changed, something changed back, something deleted."""
    await steps.put(app, made, steps.drafts(3, start=100 * round_))
    await steps.put(app, made, [replace(each, body=f"edit {round_}") for each in steps.drafts(4)])
    await steps.put(app, made, steps.drafts(2))
    await steps.delete(app, made, str(10 + round_))


@pytest.mark.parametrize("kind", ["postgresql", "chroma", "qdrant"])
async def test_there_and_back_again(app: App, loopback: Loopback, store_of: StoreOf, kind: str) -> None:
    """Moved, rolled back, moved again, finished, moved back: the vectors are copied, and each index is what
    it would be if it had been built anew.
    """
    made = await steps.filled(app, 25)
    before = await app.retriever.search("c", QUERY, tenant="default", mode=Mode.HYBRID)
    store = store_of(kind)
    there = await moved(app, made, store)
    assert there.kind is Kind.NATIVE
    assert there.name.startswith(f"{steps.OLD}@{kind}#")
    assert there.place.store == store
    await edited(app, made, 1)
    await steps.drain(app)
    await app.commands.switch.cutover(made, why="to the other store")
    after = await app.retriever.search("c", QUERY, tenant="default", mode=Mode.HYBRID)
    assert after.index == there.name
    assert not after.degraded
    assert after.hits[0].id == before.hits[0].id
    await edited(app, made, 2)
    await app.commands.switch.rollback(made, why="back at once")
    await steps.drain(app)
    await steps.assert_oracle(app, made)
    await app.commands.switch.cutover(made, why="after all")
    await edited(app, made, 3)
    await steps.drain(app)
    await steps.assert_oracle(app, made)
    await app.commands.switch.finish(made, wait=timedelta(0), why="the old one may go")
    await steps.drain(app)
    assert await world.state(app, made) is State.FINISHED

    back = await moved(app, made, "pg")
    await edited(app, made, 4)
    await steps.drain(app)
    await app.commands.switch.cutover(made, why="home")
    await steps.drain(app)
    await steps.tended(app)
    await steps.assert_oracle(app, made)
    await steps.assert_tidy(app, there)
    assert (await app.serving("c")).id == back.id
    await app.commands.switch.finish(made, wait=timedelta(0), why="the store may go")
    await steps.drain(app)
    await steps.assert_oracle(app, made)
    await app.store_at(store).create(there.place.name, there.space.dims)  # it is gone: this makes a new one
    assert await app.store_at(store).count(there.place.name) == 0


async def test_a_plan_says_that_vectors_are_copied(app: App, loopback: Loopback, store_of: StoreOf) -> None:
    """What the plan of a move says; and what it refuses."""
    made = await steps.filled(app, 5)
    store = store_of("postgresql")
    facts = (await app.plan(made, steps.OLD, store=store)).facts
    assert (facts["store"], facts["copies"], facts["index"]) == (store, True, "native")
    assert "recall" in facts["gates"]
    assert (await app.plan(made, steps.NEW)).facts["store"] == "pg"
    with pytest.raises(Refused, match="nothing to migrate"):
        await app.plan(made, steps.OLD, store="pg")
    with pytest.raises(BadInput, match="leave --index out"):
        await app.plan(made, steps.OLD, store=store, kind=Kind.HNSW)
    with pytest.raises(BadInput, match="no store 'ftp'"):
        await app.plan(made, steps.OLD, store="ftp://host")
    with pytest.raises(BadInput, match="REVEC_STORE_KEYS__HOST") as refused:
        await app.plan(made, steps.OLD, store="chroma://me:s3cret@host")
    assert "s3cret" not in str(refused.value)
    with pytest.raises(StoreUnavailable):
        await app.plan(made, steps.OLD, store="chroma://127.0.0.1:9")
    early = await app.plan(made, steps.NEW, store=store, serve_early=True)
    assert "both indexes have to be in this database" in early.facts["early"]


async def test_an_aborted_move_leaves_nothing_behind(app: App, loopback: Loopback, store_of: StoreOf) -> None:
    """Its points go with its table."""
    made = await steps.filled(app, 5)
    store = store_of("postgresql")
    there = await moved(app, made, store)
    assert await app.store_at(store).count(there.place.name) == 5
    await app.commands.abort(made, "no")
    await steps.drain(app)
    await steps.assert_oracle(app, made)
    await app.store_at(store).create(there.place.name, there.space.dims)
    assert await app.store_at(store).count(there.place.name) == 0


async def test_gates_of_a_store_that_is_away_cannot_tell(app: App, loopback: Loopback) -> None:
    """Neither a pass nor an error: the verdict says what is away, and nothing advances on it."""
    with places.chroma() as server:
        made = await steps.filled(app, 5)
        await moved(app, made, server.url)
        server.end()
        verdicts = await app.commands.verify(made)
        assert {each.gate for each in verdicts} == {"completeness", "fidelity", "recall"}
        assert {each.outcome for each in verdicts} == {Outcome.INCONCLUSIVE}
        assert all("chroma" in each.why for each in verdicts)
        with pytest.raises(GateNotMet, match="completeness"):
            await app.commands.switch.cutover(made, why="test")
