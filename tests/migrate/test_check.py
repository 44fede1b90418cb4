"""The checker checked: corrupt a good database by hand, and exactly the right invariant reports it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

import pytest

from revec.app import App
from revec.migrate import check as of_check
from revec.migrate.check import check
from revec.model.index import Kind
from revec.model.migration import State
from tests import steps
from tests.loopback import Loopback
from tests.migrate import world

# In the damages, DOC is the document of key 7; UNSEEN: no trigger of ours fires.
DOC = "(SELECT id FROM revec.document WHERE key = '7')"
UNSEEN = "SET LOCAL session_replication_role = replica;"
OLD, NEW = "openai:fake-64#1", "openai:fake-b-96#2"


@dataclass(frozen=True)
class Damage:
    name: str
    sql: str
    breaches: set[tuple[str, str | None, str]]  # invariant, index, words


def words(known: int, there: int) -> tuple[str, None, str]:
    what = f"the lexicon of tenant default has {known} documents where there are {there}"
    return "I15", None, what


DAMAGES = [
    Damage(
        "a vector is lost",
        "DELETE FROM revec.vectors_2 WHERE doc_id = DOC",
        {("I1", NEW, "no vector")},
    ),
    Damage(
        "a vector of the standby is lost",
        "DELETE FROM revec.vectors_1 WHERE doc_id = DOC",
        {("I1", OLD, "no vector")},
    ),
    Damage(
        "a vector is of another content",
        "UPDATE revec.vectors_2 SET input_hash = 'old' WHERE doc_id = DOC",
        {("I1", NEW, "vectors of another content")},
    ),
    Damage(
        "a chunk of two is lost",
        "UPDATE revec.vectors_2 SET chunk_count = 2 WHERE doc_id = DOC",
        {("I1", NEW, "vectors of another content")},
    ),
    Damage(
        "a chunk too many",
        "INSERT INTO revec.vectors_2 SELECT doc_id, 1, tenant, input_hash, text_hash, chunk_count, embedding"
        " FROM revec.vectors_2 WHERE doc_id = DOC",
        {("I1", NEW, "vectors of another content")},
    ),
    Damage(
        "a document came by while triggers were off",
        "UNSEEN INSERT INTO revec.document (collection_id, source_id, key, input_hash, rev)"
        " VALUES (1, 1, 'unseen', 'x', 1)",
        {("I1", OLD, "no vector"), ("I1", NEW, "no vector"), words(20, 21)},
    ),
    Damage(
        "a document was edited while triggers were off",
        "UNSEEN UPDATE revec.document SET input_hash = 'x' WHERE id = DOC",
        {("I1", OLD, "vectors of another content"), ("I1", NEW, "vectors of another content")},
    ),
    Damage(
        "a document was deleted while triggers were off",
        "UNSEEN DELETE FROM revec.document WHERE key = '7'",
        {
            ("I2", OLD, "a vector of a deleted document"),
            ("I2", NEW, "a vector of a deleted document"),
            words(20, 19),
        },
    ),
    Damage(
        "a vector is another tenant's",
        "UPDATE revec.vectors_2 SET tenant = 'other' WHERE doc_id = DOC",
        {("I2", NEW, "a vector under another tenant")},
    ),
    Damage(
        "work for an index that is gone",
        "INSERT INTO revec.work (index_id, doc_id, rev, action, lane, tenant)"
        " VALUES (99, 7, 1, 'embed', 0, 't')",
        {("I2", None, "work")},
    ),
    Damage(
        "a dead letter of an index that is gone",
        "INSERT INTO revec.dead (index_id, doc_id, input_hash, rev, tenant, cause, attempts)"
        " VALUES (99, 7, 'x', 1, 't', 'why', 1)",
        {("I2", None, "a dead letter")},
    ),
    Damage(
        "an exclusion of an index that is gone",
        "INSERT INTO revec.excluded (index_id, doc_id, input_hash, reason) VALUES (99, 7, 'x', 'why')",
        {("I2", None, "an exclusion")},
    ),
    Damage(
        "a zero vector",
        "UPDATE revec.vectors_2 SET embedding = array_fill(0, ARRAY[96])::halfvec WHERE doc_id = DOC",
        {("I3", NEW, "a zero or misshapen vector")},
    ),
    Damage(
        "a vector three times too long, where the space promises norm 1",
        """UPDATE revec.space SET recipe = recipe || '{"normalise": true}';"""
        "UPDATE revec.vectors_2 SET embedding = (SELECT array_agg(x * 3 ORDER BY n) FROM"
        " unnest(embedding::vector::real[]) WITH ORDINALITY AS u (x, n))::halfvec"
        " WHERE doc_id = DOC",
        {("I3", NEW, "a zero or misshapen vector")},
    ),
    Damage(
        "one text, two vectors",
        "UPDATE revec.vectors_2 v SET text_hash = o.text_hash FROM revec.vectors_2 o"
        " WHERE v.doc_id = DOC AND o.doc_id = DOC + 1",
        {("I3", NEW, "equal texts with different vectors")},
    ),
    Damage(
        "a collection without a route",
        "INSERT INTO revec.collection (name) VALUES ('lost')",
        {("I10", None, "lost has no route")},
    ),
    Damage(
        "the route serves the old index although the migration is live",
        "UPDATE revec.route SET serving = 1, previous = 2",
        {("I10", None, "migration 2 is live and the route does not serve that")},
    ),
    Damage(
        "the route serves an index that is not written",
        "UPDATE revec.index SET writing = false WHERE id = 2",
        {("I10", None, "the route serves an index that is not written")},
    ),
    Damage(
        "two migrations at once",
        "DROP INDEX revec.migration_one_at_a_time; INSERT INTO revec.migration (collection_id, old_index,"
        " new_index, state, target, space_id, query, index_kind, gates) SELECT collection_id, old_index,"
        " new_index, state, target, space_id, query, index_kind, gates FROM revec.migration WHERE id = 2;"
        "INSERT INTO revec.migration_event (migration_id, who, became, why) VALUES (3, 'me', 'live', 'x')",
        {("I10", None, "two migrations at once")},
    ),
    Damage(
        "a state that no history tells of",
        "UPDATE revec.migration SET state = 'finishing' WHERE id = 2",
        {("I10", None, "migration 2 is not where its history left it")},
    ),
    Damage(
        "the standby is late",
        "INSERT INTO revec.work (index_id, doc_id, rev, action, lane, tenant, since)"
        " SELECT 1, DOC, 1, 'embed', 0, 'default', now() - interval '31 seconds'",
        {("I12", None, "the standby waits longer than the freshness goal")},
    ),
]


@pytest.mark.parametrize("damage", DAMAGES, ids=[damage.name for damage in DAMAGES])
async def test_damage_is_reported_by_its_invariant(
    live: world.At, loopback: Loopback, damage: Damage
) -> None:
    """Nothing before, exactly that afterwards: the invariant, the index, the row."""
    app, _ = live
    assert await check(app.database, freshness=30) == []
    (document,) = await steps.rows(app, "SELECT id FROM revec.document WHERE key = '7'")
    async with app.database.transaction() as conn:
        await conn.execute(damage.sql.replace("UNSEEN", UNSEEN).replace("DOC", DOC))
    breaches = await check(app.database, freshness=30)
    assert {(each.invariant, each.index, each.what) for each in breaches} == damage.breaches
    assert len(breaches) == len(damage.breaches)
    if " of " not in damage.name and damage.name.startswith(("a vector", "a chunk", "a zero")):
        assert {each.subject for each in breaches} == {document.id}


@pytest.mark.parametrize("kind", [Kind.HNSW, Kind.BINARY])
async def test_an_approximate_index_that_misses_rows(app: App, loopback: Loopback, kind: Kind) -> None:
    """Rows that were written while the graph was not ready: the heap has them, the graph does not."""
    made = await steps.filled(app, 60)
    await app.start(made, steps.NEW, kind=kind)
    await steps.drain(app)
    assert await check(app.database, freshness=30) == []
    async with app.database.transaction() as conn:
        await conn.execute("SET LOCAL allow_system_table_mods = on")
        ready = "UPDATE pg_index SET indisready = {} WHERE indexrelid = 'revec.vectors_2_hnsw'::regclass"
        await conn.execute(ready.format("false"))
        await conn.execute(
            "CREATE TABLE kept AS SELECT * FROM revec.vectors_2 WHERE doc_id > 50;"
            "DELETE FROM revec.vectors_2 WHERE doc_id > 50;"
        )
    async with app.database.transaction() as conn:
        await conn.execute("INSERT INTO revec.vectors_2 SELECT * FROM kept; DROP TABLE kept")
    async with app.database.transaction() as conn:
        await conn.execute("SET LOCAL allow_system_table_mods = on")
        await conn.execute(ready.format("true"))
    breaches = await check(app.database, freshness=30)
    assert {(each.invariant, each.what) for each in breaches} == {
        ("I4", "a row that its index does not find")
    }
    assert {each.subject for each in breaches} <= set(range(51, 61))


async def test_an_index_that_is_given_up_meanwhile(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its work is forgotten in mid-check, its vectors are not there: nothing to report."""
    made = await steps.filled(app)
    await app.start(made, steps.NEW)
    await world.tick_to(app, made, State.BACKFILLING)
    await world.tick(app, 2)
    look = of_check._of_index

    async def give_up_first(*args: Any) -> Any:
        if await world.state(app, made) is State.BACKFILLING:
            await app.commands.abort(made, "test")
        return await look(*args)

    monkeypatch.setattr(of_check, "_of_index", give_up_first)
    assert await check(app.database, freshness=30) == []


async def test_what_is_explained_is_no_breach(app: App, loopback: Loopback) -> None:
    """Work that is open, a dead letter, an exclusion, a document that the cursor has not reached."""
    made = await steps.filled(app)
    await app.start(made, steps.NEW)
    await world.tick(app, 2)  # the new index is written, its backfill has not begun
    assert await check(app.database, freshness=30) == []
    loopback.fault("400", times=None, match="poison")
    await steps.put(app, made, [replace(draft, title="", body=" ") for draft in steps.drafts(2)])
    await steps.put(app, made, steps.drafts(1, start=50, word="poison"))
    await steps.delete(app, made, "5")
    assert await check(app.database, freshness=30) == []
    await app.commands.pause(made, "only the edits")
    await steps.drain(app)
    counted = "SELECT (SELECT count(*) FROM revec.dead) AS d, (SELECT count(*) FROM revec.excluded) AS e"
    assert await steps.rows(app, counted) == [(2, 4)]
    assert await check(app.database, freshness=30) == []


async def test_no_false_alarm_under_live_writes(app: App, loopback: Loopback) -> None:
    """A writer, a worker and a whole migration beside it: check and verify find nothing, look after look."""
    made = await steps.filled(app, 40)
    over = asyncio.Event()
    written = 0

    async def write() -> None:
        nonlocal written
        while not over.is_set():
            written += 1
            await steps.put(app, made, steps.drafts(3, start=written % 40, word=f"edit {written}"))
            await steps.delete(app, made, str((written + 20) % 40))

    async with world.working(app), asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        looks = 0
        while looks < 25 or written < 25:
            looks += 1
            if looks == 5:
                await app.start(made, steps.NEW)
            assert await check(app.database, freshness=30) == []
            verdicts = await app.commands.verify(made) if looks < 5 or looks > 20 else []
            assert [str(verdict) for verdict in verdicts if verdict.outcome == "FAILED"] == []
        over.set()
    await steps.drain(app)
    await steps.assert_oracle(app, made)
