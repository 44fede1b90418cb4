"""`verify --between`: what either index lacks is counted by cause, in both directions, and mended on request."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from revec.app import App
from revec.cli import main as door
from revec.migrate import between
from revec.migrate.between import Between
from revec.model.errors import BadInput, NotFound
from revec.model.index import Collection, Index
from tests import steps
from tests.loopback import Loopback
from tests.work import test_write_protocol

StoreOf = Callable[[str], str]


async def two(app: App, store: str, to: str = steps.OLD) -> tuple[Collection, Index, Index]:
    """Twenty documents in this database's index and in one elsewhere."""
    steps.unhurried(app)
    made = await steps.filled(app, 20)
    await app.start(made, to, store=store)
    await steps.drain(app)
    old, new = await steps.written(app, made)
    return made, old, new


async def compared(app: App, one: Index, other: Index) -> Between:
    return await between.compare(app.database, app.store, one, other)


@pytest.mark.parametrize("kind", ["postgresql", "chroma"])
async def test_what_is_the_same_is_the_same(
    app: App, loopback: Loopback, store_of: StoreOf, kind: str
) -> None:
    """Nothing is missing on either side, and every vector is the other's; what waits is no difference."""
    made, old, new = await two(app, store_of(kind))
    found = await compared(app, old, new)
    assert not found.differ
    assert (found.documents, found.sampled, found.different) == (20, 40, 0)
    await steps.put(app, made, steps.drafts(2, start=100))
    facts = (await compared(app, new, old)).facts
    assert not facts["differ"]
    assert [side["pending"] for side in facts["indexes"]] == [2, 2]


async def test_every_cause_is_counted_and_mended(app: App, loopback: Loopback, store_of: StoreOf) -> None:
    """Missing, stale, orphan, foreign, lost and nobody's: each on its side; healed, and nothing is paid twice."""
    made, old, new = await two(app, store_of("postgresql"))
    ids = [row.id for row in await steps.rows(app, "SELECT id FROM revec.document ORDER BY id")]
    there, here = f"revec.vectors_{new.id}", f"revec.vectors_{old.id}"
    await steps.rows(app, f"DELETE FROM {there} WHERE doc_id = {ids[0]} RETURNING 1")
    await steps.rows(app, f"UPDATE {there} SET input_hash = 'x' WHERE doc_id = {ids[1]} RETURNING 1")
    await steps.rows(app, f"UPDATE {there} SET tenant = 'other' WHERE doc_id = {ids[2]} RETURNING 1")
    await steps.rows(app, f"DELETE FROM {here} WHERE doc_id IN ({ids[0]}, {ids[3]}) RETURNING 1")
    lost = await steps.rows(app, f"SELECT point_id FROM {there} WHERE doc_id = {ids[4]}")
    store, place = app.store_at(new.place.store), new.place.name
    await store.delete(place, [row.point_id for row in lost])
    await steps.delete(app, made, "19")
    await steps.rows(app, "DELETE FROM revec.work RETURNING 1")

    found = await compared(app, old, new)
    mine, theirs = found.facts["indexes"]
    assert (mine["missing"], mine["orphan"], mine["only"]) == (2, 1, 3)
    assert {name: theirs[name] for name in ("missing", "stale", "foreign", "lost", "orphan", "only")} == {
        "missing": 1, "stale": 1, "foreign": 1, "lost": 1, "orphan": 1, "only": 1
    }  # fmt: skip
    assert theirs["stray"] == 1  # the point of the row that was deleted by hand
    assert found.differ

    paid = test_write_protocol.bill(loopback)
    await between.heal(app.database, app.store, found)
    await steps.drain(app)
    await steps.tended(app)
    assert not (await compared(app, old, new)).differ
    await steps.assert_oracle(app, made)
    await steps.assert_tidy(app, new)
    again = test_write_protocol.bill(loopback) - paid
    assert sum(again.values()) <= 1  # document 0, which neither had


async def test_a_wrong_vector_is_seen(app: App, loopback: Loopback, store_of: StoreOf) -> None:
    """Whole, current, and of another text: only its numbers show it. Healing leaves it to a person."""
    _, old, new = await two(app, store_of("postgresql"))
    await steps.rows(
        app,
        f"UPDATE revec.vectors_{old.id} v SET embedding = (SELECT embedding FROM revec.vectors_{old.id} LIMIT 1)"
        f" WHERE doc_id = (SELECT max(doc_id) FROM revec.vectors_{old.id}) RETURNING 1",
    )
    found = await compared(app, old, new)
    assert found.different == 2  # from either side
    assert found.differ


async def test_other_spaces_are_compared_by_what_they_have(
    app: App, loopback: Loopback, store_of: StoreOf
) -> None:
    """Their numbers say nothing to each other; what is missing does."""
    _, old, new = await two(app, store_of("postgresql"), steps.NEW)
    found = await compared(app, old, new)
    assert (found.differ, found.sampled) == (False, 0)
    await steps.rows(app, f"DELETE FROM revec.vectors_{new.id} WHERE doc_id = 1 RETURNING 1")
    assert (await compared(app, old, new)).differ


async def test_indexes_are_found_by_name_or_number(app: App, loopback: Loopback, store_of: StoreOf) -> None:
    """What is not there is named; one index is not two."""
    made, old, new = await two(app, store_of("postgresql"))
    assert await between.named(app.database, made, [new.name, str(old.id)]) == [new, old]
    with pytest.raises(NotFound, match="no index '99'"):
        await between.named(app.database, made, ["1", "99"])
    with pytest.raises(BadInput, match="is one index"):
        await compared(app, old, old)


async def test_the_verb_ends_with_three_where_they_differ(
    app: App,
    loopback: Loopback,
    store_of: StoreOf,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """For programs: the counts, and the exit code."""
    import asyncio

    _, old, new = await two(app, store_of("postgresql"))
    monkeypatch.setenv("REVEC_DSN", app.database.dsn)
    asked = ["verify", "c", "--between", str(old.id), new.name, "--json"]
    assert await asyncio.to_thread(door.run, asked) == 0
    assert json.loads(capsys.readouterr().out)["differ"] is False
    await steps.rows(app, f"DELETE FROM revec.vectors_{new.id} WHERE doc_id = 1 RETURNING 1")
    assert await asyncio.to_thread(door.run, [*asked, "--heal"]) == 3
    assert json.loads(capsys.readouterr().out)["healed"] == {old.name: 0, new.name: 2}
