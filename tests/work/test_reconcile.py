"""Drift: what was written while no trigger looked is found, counted by its cause, and healed by those who write."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from psycopg import sql

from revec.app import App
from revec.capture import drift as sources
from revec.model.errors import NotFound
from revec.model.index import Collection
from revec.work import drift, reconcile
from revec.work.reconcile import Reconciler
from revec.work.walking import Report
from tests import steps
from tests.capture import people
from tests.loopback import Loopback
from tests.migrate import world

DOCS = "app.docs"
SUPERUSER = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
BYPASSED = "SET LOCAL session_replication_role = replica"  # as a restore does it, or a replica


async def table(app: App, count: int = 12, *, tenants: int = 1) -> Collection:
    """A collection whose rows are in a table of the user's, read, indexed, and walked through once."""
    async with people.connected(app.database.dsn) as user:
        await user.execute("CREATE SCHEMA app")
        await user.execute("CREATE TABLE app.docs (id bigint PRIMARY KEY, title text, body text, yacht text)")
        await user.execute(
            "INSERT INTO app.docs SELECT n, 'title ' || n, 'body of ' || n, 'yacht ' || n %% %s"
            " FROM generate_series(1, %s) n",
            (tenants, count),
        )
    made = await steps.collection(app, model=None)
    await people.attached(app, made, DOCS, tenant="yacht")
    await app.start(made, steps.OLD)
    await steps.drain(app)
    assert (await walked(app, made)).drifted == 0
    return made


async def behind_triggers(app: App, *statements: str) -> None:
    """Written so that no trigger fires: neither the user's nor ours."""
    async with people.connected(app.database.dsn) as user, user.transaction():
        await user.execute(BYPASSED)
        for statement in statements:
            await user.execute(statement)  # type: ignore[call-overload]


async def walked(app: App, made: Collection, **how: Any) -> Report:
    return await reconcile.reconcile(app.database, app.store, made, **how)


async def healed(app: App, made: Collection) -> None:
    """The documents are the table's rows again, the indexes are right, and there is nothing more to find."""
    await steps.drain(app)
    async with people.connected(app.database.dsn) as user:
        assert await people.documents(app, made) == await people.rows_of(user)
    await steps.assert_oracle(app, made)
    again = await walked(app, made)
    assert (again.found, again.notes) == ({}, [])


async def vectors(app: App, made: Collection) -> str:
    (index,) = await steps.written(app, made)
    return sql.Identifier("revec", f"vectors_{index.id}").as_string(None)


async def test_writes_past_the_triggers_are_found_and_healed(app: App) -> None:
    """Inserted, edited, moved to another tenant and deleted under the replica role: each is counted once."""
    made = await table(app, tenants=2)
    await behind_triggers(
        app,
        "INSERT INTO app.docs VALUES (100, 'new', 'never told', 'yacht 0'), (101, 'new', 'neither', 'yacht 1')",
        "UPDATE app.docs SET body = 'edited behind it' WHERE id = 1",
        "UPDATE app.docs SET yacht = 'yacht 7' WHERE id = 2",
        "DELETE FROM app.docs WHERE id IN (3, 4, 5)",
    )
    report = await walked(app, made)
    assert report.found == {"unseen": 2, "changed": 1, "moved": 1, "gone": 3}
    assert {(each["cause"], each["key"]) for each in report.examples} >= {("changed", "1"), ("moved", "2")}
    await healed(app, made)


async def test_a_dry_run_finds_the_same_and_writes_nothing(app: App) -> None:
    """No change, no work, no cursor, no seal."""
    made = await table(app)
    await behind_triggers(app, "DELETE FROM app.docs WHERE id = 3")
    kept = "SELECT * FROM revec.walk"
    before = await steps.rows(app, kept)
    assert (await walked(app, made, heal=False)).found == {"gone": 1}
    assert await steps.rows(app, kept) == before
    assert await people.changes(app) == []
    assert (await walked(app, made)).found == {"gone": 1}
    await healed(app, made)


async def test_what_the_projector_will_see_to_is_no_drift(app: App) -> None:
    """A row and its change are there together: a walk beside live writers counts none of them."""
    made = await table(app)
    async with people.connected(app.database.dsn) as user:
        await user.execute("UPDATE app.docs SET body = 'an edit' WHERE id < 4")
        await user.execute("INSERT INTO app.docs VALUES (50, 'new', 'told of', 'yacht 0')")
        await user.execute("DELETE FROM app.docs WHERE id = 9")
    assert (await walked(app, made)).found == {}
    await people.project(app)
    assert (await walked(app, made)).found == {}, "its work is open: that is no drift either"
    await healed(app, made)


async def test_metadata_is_compared_as_it_is_kept(app: App) -> None:
    """A number of more digits than JSON's readers keep is no drift for ever; another number is drift."""
    async with people.connected(app.database.dsn) as user:
        await user.execute("CREATE SCHEMA app")
        await user.execute(
            "CREATE TABLE app.docs (id bigint PRIMARY KEY, title text, body text, price numeric)"
        )
        await user.execute(
            "INSERT INTO app.docs VALUES (1, 'a', 'b', 0.12345678901234567890123), (2, 'c', 'd', 3.50)"
        )
    made = await steps.collection(app)
    await people.attached(app, made, DOCS, metadata=("price",))
    await steps.drain(app)
    assert (await walked(app, made)).found == {}
    await behind_triggers(app, "UPDATE app.docs SET price = 3.51 WHERE id = 2")
    assert (await walked(app, made)).found == {"changed": 1}
    await healed(app, made)


async def test_what_was_found_is_not_found_twice(app: App) -> None:
    """It is on its way as soon as the page is committed."""
    made = await table(app)
    await behind_triggers(app, "DELETE FROM app.docs WHERE id = 3")
    table_of = await vectors(app, made)
    await behind_triggers(app, f"DELETE FROM {table_of} WHERE doc_id = (SELECT min(doc_id) FROM {table_of})")
    assert (await walked(app, made)).found == {"gone": 1, "missing": 1}
    assert (await walked(app, made)).found == {}
    await healed(app, made)


async def test_vectors_that_are_not_as_written_are_found_and_embedded_again(
    app: App, loopback: Loopback
) -> None:
    """Lost, of another tenant, zero, of a document that is gone, and edited by hand: only these are paid for."""
    made = await table(app)
    table_of = await vectors(app, made)
    first, second, third, fourth, fifth = [
        row.id for row in await steps.rows(app, "SELECT id FROM revec.document ORDER BY id LIMIT 5")
    ]
    await behind_triggers(
        app,
        f"DELETE FROM {table_of} WHERE doc_id = {first}",
        f"UPDATE {table_of} SET tenant = 'yacht 9' WHERE doc_id = {second}",
        f"UPDATE {table_of} SET embedding = embedding - embedding WHERE doc_id = {third}",
        f"UPDATE {table_of} SET embedding = (SELECT v.embedding FROM {table_of} v WHERE v.doc_id = {fifth})"
        f" WHERE doc_id = {fourth}",
        f"INSERT INTO {table_of} SELECT 999999, chunk_no, tenant, input_hash, text_hash, chunk_count, embedding"
        f" FROM {table_of} WHERE doc_id = {fifth}",
    )
    loopback.clear()
    report = await walked(app, made)
    assert report.found == {"missing": 1, "abroad": 1, "malformed": 1, "edited": 1, "orphan": 1}
    await healed(app, made)
    assert len(loopback.bill()) == 4


async def test_a_copy_of_an_edited_vector_is_not_copied_back(app: App) -> None:
    """Documents with one text have one vector: the wrong one goes wherever it is."""
    made = await table(app, 3)
    async with people.connected(app.database.dsn) as user:
        await user.execute("UPDATE app.docs SET title = 'the same', body = 'text'")
    await steps.drain(app)
    assert (await walked(app, made)).found == {}
    table_of = await vectors(app, made)
    await behind_triggers(app, f"UPDATE {table_of} SET embedding = embedding - embedding - embedding")
    await behind_triggers(app, "DELETE FROM revec.seal WHERE doc_id > (SELECT min(doc_id) FROM revec.seal)")
    assert (await walked(app, made)).found == {"edited": 1}
    await healed(app, made)


async def test_a_walk_that_is_cut_off_goes_on_where_it_was(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off before the commit of any page: what that page found is found again, what came before is not."""
    made = await table(app)
    monkeypatch.setattr(sources, "PAGE", 5)
    monkeypatch.setattr(drift, "PAGE", 5)
    await behind_triggers(
        app, "DELETE FROM app.docs WHERE id IN (2, 11)", "UPDATE app.docs SET body = 'x' WHERE id = 7"
    )
    pages = Counter[str]()

    def cut_off(name: str) -> None:
        pages[name] += 1
        if pages[name] % 2:
            raise InterruptedError

    monkeypatch.setattr(reconcile, "failpoint", cut_off)
    report = None
    while report is None:
        try:
            report = await walked(app, made)
        except InterruptedError:
            continue
    monkeypatch.undo()
    assert report.found == {"gone": 2, "changed": 1}
    assert pages["walk_page"] > 10
    await healed(app, made)


async def test_the_workers_walk_by_themselves_within_the_interval(app: App) -> None:
    """Not before it is time, and then from the first row to the last; whoever comes next goes on."""
    made = await table(app)
    await behind_triggers(app, "DELETE FROM app.docs WHERE id = 3")
    patient = Reconciler(app.database, app.store, every=3600)
    assert not await patient.tick()
    assert await people.changes(app) == []
    await steps.rows(app, "UPDATE revec.walk SET counted_from = now() - interval '59 minutes' RETURNING 1")
    assert not await Reconciler(app.database, app.store, every=3600).tick()
    await steps.rows(app, "UPDATE revec.walk SET counted_from = now() - interval '60 minutes' RETURNING 1")
    while await Reconciler(app.database, app.store, every=3600).tick():
        """Another worker every time."""
    (row,) = await steps.rows(app, "SELECT last FROM revec.walk WHERE begun_by = 'workers'")
    assert row.last["found"] == {"gone": 1}
    await healed(app, made)
    assert not await Reconciler(app.database, app.store, every=3600).tick()
    assert not await Reconciler(app.database, app.store, every=0).tick()


async def test_one_worker_at_a_time_looks(app: App) -> None:
    """The page of another one is left to it, and its walk too."""
    made = await table(app)
    await Reconciler(app.database, app.store, every=3600).tick()
    await steps.rows(
        app, "UPDATE revec.walk SET counted_from = '-infinity' WHERE began_at IS NULL RETURNING 1"
    )
    async with app.database.transaction() as conn:
        assert await (await conn.execute(reconcile.SQL.next, {"every": 1})).fetchone()
        assert not await Reconciler(app.database, app.store, every=3600).tick()
    assert await Reconciler(app.database, app.store, every=3600).tick()
    await healed(app, made)


async def test_nothing_is_deleted_for_a_table_that_cannot_be_read(app: App) -> None:
    """A dropped table, a row security that hides rows, a paused source: a note for a person, and no drift."""
    made = await table(app)
    async with people.connected(app.database.dsn) as user:
        await user.execute("ALTER TABLE app.docs RENAME TO mislaid")
    report = await walked(app, made)
    assert report.found == {}
    assert 'app.docs was not looked at: relation "app.docs" does not exist' in report.notes
    assert len(await people.documents(app, made)) == 12
    async with people.connected(app.database.dsn) as user:
        await user.execute("ALTER TABLE app.mislaid RENAME TO docs")
    await healed(app, made)


async def test_a_table_that_is_being_read_is_left_to_the_projector(app: App) -> None:
    """Truncated and filled again, nothing projected yet: all differs, and none of it is drift."""
    made = await table(app)
    async with people.connected(app.database.dsn) as user:
        await user.execute("TRUNCATE app.docs")
    report = await walked(app, made)
    assert report.found == {}
    assert report.notes == ["app.docs was not looked at: it is being read as a whole anyway"]
    await healed(app, made)


async def test_a_switched_off_trigger_is_told_of(app: App) -> None:
    """What it missed is healed; what it will miss is a person's to mend."""
    made = await table(app)
    async with people.connected(app.database.dsn) as user:
        await user.execute("ALTER TABLE app.docs DISABLE TRIGGER USER")
        await user.execute("DELETE FROM app.docs WHERE id = 1")
        report = await walked(app, made)
        assert report.found == {"gone": 1}
        assert report.notes == [
            "triggers of app.docs are gone or switched off: `revec init` makes them again"
        ]
        await user.execute("ALTER TABLE app.docs ENABLE TRIGGER USER")
    await healed(app, made)


async def test_documents_written_past_their_own_triggers_are_stamped(app: App) -> None:
    """Content without its hash has vectors of something else, and nobody would know."""
    made = await steps.filled(app, 5)
    await behind_triggers(app, "UPDATE revec.document SET body = 'behind the stamp' WHERE key IN ('1', '3')")
    assert (await walked(app, made)).found == {"unstamped": 2}
    await steps.drain(app)
    await steps.assert_oracle(app, made)
    assert (await walked(app, made)).found == {}


async def test_one_source_alone_is_walked_through_if_asked(app: App) -> None:
    """And one that there is not is refused, with those that there are."""
    made = await table(app)
    await behind_triggers(app, "DELETE FROM app.docs WHERE id = 3", f"DELETE FROM {await vectors(app, made)}")
    assert (await walked(app, made, source=DOCS)).found == {"gone": 1}
    with pytest.raises(NotFound, match=r"no source 'nobody' \(it has app.docs\)"):
        await walked(app, made, source="nobody")
    assert (await walked(app, made)).found["missing"] == 12
    await healed(app, made)


async def test_an_index_that_is_being_filled_lacks_nothing(app: App) -> None:
    """What the backfill has yet to come to is no drift."""
    made = await table(app)
    await app.start(made, steps.NEW)
    while not await steps.rows(app, "SELECT FROM revec.migration WHERE state = 'backfilling'"):
        await world.tick(app)
    assert (await walked(app, made)).found == {}
    await healed(app, made)


async def test_a_plain_owner_walks_as_well(any_app: App) -> None:
    """Without a superuser's rights, and through a pooler; and rows that a policy hides are not taken for gone."""
    app = any_app
    made = await table(app)
    async with people.connected(app.database.dsn) as user:
        await user.execute("ALTER TABLE app.docs DISABLE TRIGGER USER")
        await user.execute("UPDATE app.docs SET body = 'edited behind it' WHERE id = 1")
        await user.execute("DELETE FROM app.docs WHERE id = 2")
        await user.execute("ALTER TABLE app.docs ENABLE TRIGGER USER")
        assert (await walked(app, made)).found == {"changed": 1, "gone": 1}
        await healed(app, made)
        await user.execute("ALTER TABLE app.docs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        report = await walked(app, made)
        assert report.found == {}
        (superuser,) = [row.rolsuper for row in await steps.rows(app, SUPERUSER)]
        assert superuser or "row-level security" in " ".join(report.notes)
        await user.execute("ALTER TABLE app.docs DISABLE ROW LEVEL SECURITY")
    await healed(app, made)


async def test_a_fleet_drifts_and_is_healed(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """134 tenants, in each a row that was written past the triggers: all are found in one walk, and healed."""
    monkeypatch.setattr(sources, "PAGE", 250)
    made = await table(app, 134 * 5, tenants=134)
    await behind_triggers(
        app,
        "UPDATE app.docs SET body = body || ' after the refit' WHERE id <= 134",
        "DELETE FROM app.docs WHERE id BETWEEN 500 AND 533",
        "INSERT INTO app.docs SELECT n, 'new', 'text ' || n, 'yacht ' || n % 134 FROM generate_series(1001, 1134) n",
    )
    assert (await walked(app, made)).found == {"changed": 134, "gone": 34, "unseen": 134}
    await healed(app, made)


def test_every_cause_has_one_name() -> None:
    """Two sides of a walk never mean different things by one word."""
    assert len(set(drift.ALL_CAUSES)) == len(drift.ALL_CAUSES)


# --- what a walk leaves to a person ---------------------------------------------------------------


async def test_another_table_of_the_name_is_not_an_empty_one(app: App) -> None:
    """Dropped and being restored: nothing is gone, and it is said what to do."""
    made = await table(app)
    async with people.connected(app.database.dsn) as user:
        await user.execute("ALTER TABLE app.docs RENAME TO was")
        await user.execute("CREATE TABLE app.docs (LIKE app.was INCLUDING ALL)")
    report = await walked(app, made)
    await steps.drain(app)
    assert report.found == {}
    assert any("is it being restored, or another table?" in note for note in report.notes)
    assert len(await steps.rows(app, "SELECT FROM revec.document")) == 12
    await steps.assert_oracle(app, made)


async def test_a_walk_by_itself_leaves_a_whole_page_of_gone_rows_to_a_person(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What looks like a disaster may be one; who asks for it has looked."""
    monkeypatch.setattr(sources, "PAGE", 5)
    made = await table(app)
    await behind_triggers(app, "DELETE FROM app.docs")
    await steps.rows(app, "UPDATE revec.walk SET counted_from = '-infinity' RETURNING 1")
    by_itself = Reconciler(app.database, app.store, every=1.0)
    while await by_itself.tick():
        pass
    await steps.drain(app)
    assert len(await steps.rows(app, "SELECT FROM revec.document")) == 10  # the last page was no whole one
    assert (await walked(app, made)).found == {"gone": 10}
    await healed(app, made)


async def test_a_model_need_not_give_the_same_bits_again(app: App) -> None:
    """What was embedded again, at the same rev, is not taken for an edit at the next walk."""
    made = await table(app)
    table_of = await vectors(app, made)
    await behind_triggers(app, f"DELETE FROM {table_of} WHERE doc_id < 4")
    assert (await walked(app, made)).found == {"missing": 3}
    await steps.drain(app)
    nearly = "(embedding::vector + array_fill(0.001, ARRAY[64])::vector)::halfvec"
    await behind_triggers(app, f"UPDATE {table_of} SET embedding = l2_normalize({nearly}) WHERE doc_id < 4")
    assert (await walked(app, made)).found == {}


async def test_a_wrong_vector_answers_until_its_place_is_taken(app: App) -> None:
    """Nothing leaves the search that serves because a walk found it odd."""
    made = await table(app)
    table_of = await vectors(app, made)
    await behind_triggers(
        app,
        f"UPDATE {table_of} SET embedding = l2_normalize(embedding + embedding * embedding) WHERE doc_id = 2",
    )
    assert (await walked(app, made)).found == {"edited": 1}
    assert len(await steps.rows(app, f"SELECT FROM {table_of}")) == 12
    await healed(app, made)
