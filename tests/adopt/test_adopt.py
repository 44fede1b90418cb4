"""A column that a user's table has already becomes the index that serves: nothing is bought, nothing altered."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import sql

from revec.app import App
from revec.capture.attach import attach
from revec.capture.push import push
from revec.migrate import early, outlook
from revec.migrate.check import check
from revec.migrate.gates import base as gates
from revec.model.document import Draft
from revec.model.errors import BadInput, ProviderError, Refused, Unavailable
from revec.model.index import Kind, Writer
from revec.model.migration import State
from revec.model.verdict import Outcome
from revec.postgres import indexes, ledgers, rowkeys
from revec.search import callers
from revec.search.signature import Said
from revec.stores import column, pgvector
from revec.stores.base import ChunkSet
from revec.stores.column import InColumn
from revec.stores.pgvector import SMALL_TENANT
from tests import loopback as speaking
from tests import steps
from tests.adopt import questions
from tests.capture import people
from tests.capture.people import User
from tests.loopback import Loopback
from tests.migrate import world
from tests.stores.test_plans import Explaining
from tests.work import hands

MANY = SMALL_TENANT + 500  # rows: fewer of one tenant are read one by one


async def behind(app: App) -> int:
    async with app.database.transaction() as conn:
        return await ledgers.behind(conn, await indexes.by_id(conn, 1))


async def catalog(user: User) -> list[str]:
    """The user's table, as the catalog knows it, but for our triggers."""
    found = await user.execute(
        "SELECT attname || format_type(atttypid, atttypmod) || attnotnull AS line FROM pg_attribute"
        " WHERE attrelid = 'app.questions'::regclass AND NOT attisdropped"
        " UNION ALL SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'app.questions'::regclass"
        " UNION ALL SELECT coalesce(relacl::text, '') FROM pg_class WHERE oid = 'app.questions'::regclass"
        " UNION ALL SELECT tgname FROM pg_trigger WHERE tgrelid = 'app.questions'::regclass"
        " AND tgname NOT LIKE 'revec%' ORDER BY 1"
    )
    return [row.line for row in await found.fetchall()]


async def test_a_column_serves_and_nothing_is_bought(
    any_app: App, any_user: User, loopback: Loopback
) -> None:
    """A sample is embedded again and compared; every row is found by its own text; the table is as it was."""
    texts = questions.texts(300)
    await questions.made(any_user, texts)
    before, rows = (
        await catalog(any_user),
        "SELECT md5(string_agg(t::text, '' ORDER BY id)) FROM app.questions t",
    )
    sum_before = await (await any_user.execute(rows)).fetchone()
    made, adoption = await questions.adopted(any_app)
    assert "100 of 100 sampled rows have the vector" in adoption.told[0]
    assert "at least 97.0% of all do" in adoption.told[0]
    await people.project(any_app)
    bought = len(loopback.bill())
    for number in (7, 99, 250):
        reading = await any_app.retriever.search("questions", texts[number], k=3, tenant="default")
        assert reading.hits[0].id == str(number + 1)
    assert bought == 100
    assert await world.judged(any_app, "completeness", adoption.index)
    assert await catalog(any_user) == before
    assert await (await any_user.execute(rows)).fetchone() == sum_before
    assert await steps.rows(any_app, "SELECT FROM revec.work") == []
    await steps.assert_oracle(any_app, made)


async def test_the_users_own_graph_is_walked(pooled_app: App, user: User) -> None:
    """Through our view, by a reader, with the ledger joined to what it finds; also one of live rows alone."""
    texts = [f"case {number}" for number in range(MANY)]
    await user.execute("CREATE SCHEMA app")
    await user.execute(
        "CREATE TABLE app.questions (id bigint PRIMARY KEY, question text, deleted_at timestamptz,"
        " embedding vector(64))"
    )
    rows = zip(range(MANY), texts, speaking.vectors(texts, "fake-64"), strict=True)
    async with user.cursor().copy("COPY app.questions (id, question, embedding) FROM STDIN") as copy:
        for number, text, vector in rows:
            await copy.write_row((number, text, questions.literal(vector)))
    await user.execute(questions.GRAPH + " WHERE deleted_at IS NULL")
    _, adoption = await questions.adopted(pooled_app, model="openai:fake-64")
    assert adoption.index.kind is Kind.HNSW
    await people.project(pooled_app)
    await user.execute("ANALYZE app.questions")
    await user.execute("ANALYZE revec.ledger_1")
    store, asked = InColumn(), speaking.vector("case 5", "fake-64")
    async with pooled_app.database.transaction("reader", tenant="default") as conn:
        explaining = Explaining(conn)
        scan = (explaining, adoption.index, asked)
        near = await store.nearest(*scan, limit=5, tenant="default")  # type: ignore[arg-type]
        exact = await store.exact(*scan, limit=5, tenant="default")  # type: ignore[arg-type]
    assert "Index Scan using idx_questions_embedding" in explaining.scans[0]
    assert [doc_id for doc_id, _ in near] == [doc_id for doc_id, _ in exact]


async def test_without_a_graph_rows_are_read(app: App, dsn: str) -> None:
    async with people.connected(dsn) as user:
        await questions.made(user, questions.texts(50), graph=False)
        _, adoption = await questions.adopted(app)
    assert adoption.index.kind is Kind.EXACT


async def test_a_graph_of_another_order_serves_unit_vectors(app: App, dsn: str) -> None:
    """By distances or products the nearest are the same ones, as long as every vector has length 1."""
    async with people.connected(dsn) as user:
        await questions.made(user, questions.texts(50), graph=False)
        await user.execute("CREATE INDEX ON app.questions USING hnsw (embedding vector_ip_ops)")
        _, adoption = await questions.adopted(app)
    assert adoption.index.column is not None
    assert adoption.index.column.operator == "<#>"


async def test_a_reader_sees_his_tenants_vectors_only(app: App, dsn: str) -> None:
    """The view has its owner's rights; by itself, without any condition, it shows a reader one tenant."""
    async with people.connected(dsn) as user:
        await questions.made(user, questions.texts(40))
        await questions.adopted(app, tenant="CASE WHEN id % 2 = 0 THEN 'even' ELSE 'odd' END")
    await people.project(app)
    async with app.database.transaction("reader", tenant="even") as conn:
        seen = await (await conn.execute("SELECT DISTINCT tenant FROM revec.vectors_1")).fetchall()
    assert [row.tenant for row in seen] == ["even"]
    async with app.database.transaction("worker") as conn:
        seen = await (await conn.execute("SELECT DISTINCT tenant FROM revec.vectors_1")).fetchall()
    assert {row.tenant for row in seen} == {"even", "odd"}


async def test_an_edit_is_current_when_its_vector_is(app: App, dsn: str) -> None:
    """Where the application writes: a text that changed alone is behind, until its vector comes too."""
    async with people.connected(dsn) as user:
        await questions.made(user, questions.texts(40))
        await questions.adopted(app)
        await people.project(app)
        assert await behind(app) == 0
        await user.execute("UPDATE app.questions SET question = 'an edit' WHERE id = 3")
        await people.project(app)
        assert await behind(app) == 1
        late = questions.literal(speaking.vector("an edit", questions.OLD))
        await user.execute("UPDATE app.questions SET embedding = %s::vector WHERE id = 3", (late,))
        await people.project(app)
        assert await behind(app) == 0
        both = questions.literal(speaking.vector("another edit", questions.OLD))
        await user.execute(
            "UPDATE app.questions SET question = 'another edit', embedding = %s::vector WHERE id = 4", (both,)
        )
        await questions.add(user, "a new one with its vector")
        await questions.add(user, "a new one without", embedded=False)
        await user.execute("UPDATE app.questions SET deleted_at = now() WHERE id = 5")
        await user.execute("DELETE FROM app.questions WHERE id = 6")
        await people.project(app)
    assert await behind(app) == 1
    assert await steps.rows(app, "SELECT FROM revec.work") == []
    assert len(await steps.rows(app, "SELECT FROM revec.ledger_1")) == 39
    assert await check(app.database, freshness=30) == []


async def test_a_vector_ahead_of_its_ledger_is_not_copied(app: App, dsn: str) -> None:
    """Until the projector has seen it, the vector beside an edited text may be another text's."""
    async with people.connected(dsn) as user:
        texts = questions.texts(40)
        await questions.made(user, texts)
        _, adoption = await questions.adopted(app)
        await people.project(app)
        hashes = [
            row.text_hash
            for row in await steps.rows(app, "SELECT text_hash FROM revec.ledger_1 WHERE key_1 = 3")
        ]
        async with app.database.transaction("worker") as conn:
            assert await app.store.known(conn, adoption.index.space, hashes)
        other = questions.literal(speaking.vector("other", questions.OLD))
        await user.execute(
            "UPDATE app.questions SET question = 'other', embedding = %s::vector WHERE id = 3", (other,)
        )
        async with app.database.transaction("worker") as conn:
            assert not await app.store.known(conn, adoption.index.space, hashes)


async def test_another_model_or_text_is_refused(app: App, dsn: str) -> None:
    """Whatever is said of the column is looked at; nothing is left behind."""
    async with people.connected(dsn) as user:
        await questions.made(user, questions.texts(40))
        with pytest.raises(
            BadInput, match=r"only 0 of 40 sampled rows .*: it is another model, or other texts"
        ):
            await app.adoptable(questions.mapping(body="question || ' (FAQ)'"), f"openai:{questions.OLD}")
        with pytest.raises(BadInput, match="it is another model"):
            await app.adoptable(questions.mapping(), "openai:fake-c-768")
        with pytest.raises(BadInput, match="has no column 'solution' of type vector"):
            await app.adoptable(questions.mapping(vector="solution"), f"openai:{questions.OLD}")
    assert await steps.rows(app, "SELECT FROM revec.index UNION ALL SELECT FROM revec.adopted") == []


async def test_a_model_that_is_gone_has_to_be_said(pooled_app: App, user: User) -> None:
    """An outage is not the end of a model; once said, the index is unverifiable, and `status` says so."""
    await questions.made(user, questions.texts(40))
    with pytest.raises(BadInput, match="If openai:gone is gone for good, say so: --model-gone"):
        await pooled_app.adoptable(questions.mapping(), "openai:gone")
    found = await pooled_app.adoptable(questions.mapping(), "openai:gone", model_gone=True)
    with pytest.raises(BadInput, match="choose app or nobody as its writer"):
        found.require(Writer.REVEC)
    made = await steps.collection(pooled_app, "questions", model=None)
    source = await people.attached(pooled_app, made, "app.questions", **_how())
    adoption = await found.adopt(made, source, writer=Writer.NOBODY)
    assert "rollback lost for queries" in adoption.told[0]
    await people.project(pooled_app)
    seen = await world.look(pooled_app, made)
    assert seen.indexes[0].column is not None
    assert (
        "model_not_found" in seen.indexes[0].column["unverifiable"] or seen.indexes[0].column["unverifiable"]
    )
    with pytest.raises(Refused, match="is served already"):
        await found.adopt(made, source, writer=Writer.NOBODY)


def _how() -> dict[str, Any]:
    mapped = questions.mapping()
    return {"title": mapped.title, "body": mapped.body, "filter": mapped.filter, "vector": mapped.vector}


async def live(app: App, user: User, writer: Writer, count: int = 60) -> Any:
    """Adopted, migrated and cut over."""
    await questions.made(user, questions.texts(count))
    made, _ = await questions.adopted(app, writer=writer)
    await people.project(app)
    await app.start(made, f"openai:{questions.NEW}")
    await steps.drain(app)
    await app.commands.switch.cutover(made, why="test")
    return made


async def test_nobodys_column_says_what_a_rollback_would_miss(app: App, dsn: str) -> None:
    """Documents that came since are not in it; the rollback is possible all the same."""
    async with people.connected(dsn) as user:
        made = await live(app, user, Writer.NOBODY)
        await user.execute("UPDATE app.questions SET question = 'edited' WHERE id IN (3, 4)")
        await questions.add(user, "new", embedded=False)
        await steps.drain(app)
    assert "3 documents would be stale: nobody writes the column" in (await world.look(app, made)).rollback
    await app.commands.switch.rollback(made, why="test")
    assert (await app.serving("questions")).id == 1
    told = await steps.rows(app, "SELECT evidence FROM revec.migration_event WHERE evidence ? 'behind'")
    assert [row.evidence["behind"] for row in told] == [3]
    assert await check(app.database, freshness=30) == []


async def test_revec_keeps_the_column_from_capturing_on(pooled_app: App, user: User) -> None:
    """Before the migration the application's hand is the only one; from its first state on no row is behind."""
    app = pooled_app
    await questions.made(user, questions.texts(60))
    made, adoption = await questions.adopted(app, writer=Writer.REVEC)
    assert adoption.woken == ["touch"]
    await questions.add(user, "before", embedded=False)
    await steps.drain(app)
    assert await behind(app) == 1
    await app.start(made, f"openai:{questions.NEW}")
    await steps.drain(app)
    assert await behind(app) == 0
    await user.execute("UPDATE app.questions SET question = 'edited' WHERE id = 3")
    await steps.drain(app)
    assert await behind(app) == 0
    found = await (await user.execute("SELECT embedding::text FROM app.questions WHERE id = 3")).fetchone()
    have = np.array(found[0].strip("[]").split(","), dtype=float)  # type: ignore[index]
    assert float(np.abs(have - speaking.vector("edited", questions.OLD)).max()) < 1e-3
    await app.commands.switch.cutover(made, why="test")
    await questions.add(user, "while the new one serves", embedded=False)
    await steps.drain(app)
    await app.commands.switch.rollback(made, why="test")
    reading = await app.retriever.search("questions", "while the new one serves", k=1, tenant="default")
    assert reading.hits[0].score > 0.99
    await steps.assert_oracle(app, made)


async def test_our_own_hand_is_no_change(app: App, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login that may not be silent wakes our capture by its write, which leaves it alone; but where a trigger
    of the user's makes more of it, that is a change.
    """
    people.replaced(column.SQL, "may_be_silent", "SELECT false AS may", monkeypatch)

    async def captured(user: User, text: str) -> int:
        """Changes that came of one edit, its own among them."""
        query = "SELECT coalesce(pg_sequence_last_value('revec.change_id_seq'), 0) AS n"
        (before,) = await steps.rows(app, query)
        await user.execute("UPDATE app.questions SET question = %s WHERE id = 3", (text,))
        await steps.drain(app)
        assert await behind(app) == 0
        (after,) = await steps.rows(app, query)
        return int(after.n - before.n)

    async with people.connected(dsn) as user:
        await live(app, user, Writer.REVEC)
        assert await captured(user, "edited") == 2
        await user.execute("DROP TRIGGER touch ON app.questions")
        assert await captured(user, "edited again") == 1


async def test_a_change_that_a_write_of_ours_made_is_waited_for(
    app: App, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drain that looks for changes, and then for work, sees what became of work in between."""
    async with people.connected(dsn) as user:
        await live(app, user, Writer.REVEC)
        await steps.drain(app)
        assert await app.outstanding() == []

        async def written_meanwhile(*_: Any) -> list[str]:
            await user.execute("UPDATE app.questions SET touched = touched + 1 WHERE id = 3")
            return []

        monkeypatch.setattr(outlook, "outstanding", written_meanwhile)
        assert await app.outstanding() == ["app.questions: changes to project"]


async def test_who_may_be_silent_wakes_no_trigger(app: App, dsn: str) -> None:
    """A login that may set session_replication_role writes the column alone, and its own role comes back."""
    async with people.connected(dsn) as user:
        made = await live(app, user, Writer.REVEC)
        await questions.add(user, "to be written", embedded=False)
        await steps.drain(app)
        assert await behind(app) == 0
        touched = await (await user.execute("SELECT sum(touched) AS n FROM app.questions")).fetchone()
    assert touched is not None
    assert touched.n == 0
    await steps.assert_oracle(app, made)


async def test_a_row_in_its_users_hand_is_not_waited_for(app: App, dsn: str) -> None:
    """Nobody stands behind a long transaction of the user's; what it left is written when it is over."""
    async with people.connected(dsn) as user, people.connected(dsn) as another_user:
        made = await live(app, user, Writer.REVEC)
        await user.execute("UPDATE app.questions SET question = 'edited' WHERE id = 3")
        await people.project(app)
        async with another_user.transaction():
            await another_user.execute("SELECT FROM app.questions WHERE id = 3 FOR UPDATE")
            worker = asyncio.create_task(app.worker().run(drain=True))
            async with asyncio.timeout(people.PATIENCE):
                while not await steps.rows(
                    app, "SELECT FROM revec.work WHERE index_id = 1 AND not_before > now()"
                ):
                    await asyncio.sleep(0.01)
            await asyncio.wait_for(user.execute("UPDATE app.questions SET solution = 's' WHERE id = 4"), 1.0)
        await worker
    assert await behind(app) == 0
    await steps.assert_oracle(app, made)


async def test_a_row_in_its_users_hand_is_left_at_once(app: App, dsn: str) -> None:
    """Whoever waited for it would hold other rows of the user's meanwhile; the one beside it is written."""
    async with people.connected(dsn) as user, people.connected(dsn) as another_user:
        await live(app, user, Writer.REVEC)
        async with app.database.transaction() as conn:
            index = await indexes.by_id(conn, 1)
        found = "SELECT id, input_hash, key FROM revec.document WHERE key IN ('3', '4') ORDER BY key"
        rows = await steps.rows(app, found)
        vector = speaking.vector("other", questions.OLD).astype("float16")
        chunks = [ChunkSet(row.id, "default", row.input_hash, [b""], [vector]) for row in rows]
        async with another_user.transaction():
            await another_user.execute("SELECT FROM app.questions WHERE id = 3 FOR UPDATE")
            try:
                async with asyncio.timeout(3.0), app.database.transaction("worker") as conn:
                    assert await app.store.replace(conn, index, chunks) == {rows[1].id}
            except TimeoutError:
                pytest.fail("it waits")


async def test_a_dropped_filter_row_leaves_the_index(app: App, dsn: str) -> None:
    """Soft deletes are gone at once, in both indexes, and come back."""
    async with people.connected(dsn) as user:
        made = await live(app, user, Writer.REVEC)
        await user.execute("UPDATE app.questions SET deleted_at = now() WHERE id <= 10")
        await steps.drain(app)
        await steps.assert_oracle(app, made)
        await user.execute("UPDATE app.questions SET deleted_at = NULL WHERE id <= 5")
        await steps.drain(app)
    assert len(await steps.rows(app, "SELECT FROM revec.vectors_1")) == 55
    await steps.assert_oracle(app, made)


async def test_gates_judge_a_column(app: App, dsn: str) -> None:
    """Completeness and fidelity look at it like at any index: a row without a vector, another text's vector."""
    async with people.connected(dsn) as user:
        await questions.made(user, questions.texts(60))
        _, adoption = await questions.adopted(app)
        await people.project(app)
        for gate in (gates.COMPLETENESS, gates.FIDELITY):
            assert (await world.judged(app, gate, adoption.index)).outcome is Outcome.PASSED
        wrong = questions.literal(speaking.vector("other", questions.OLD))
        await user.execute("UPDATE app.questions SET embedding = %s::vector WHERE id = 3", (wrong,))
        await user.execute("UPDATE app.questions SET embedding = NULL WHERE id = 4")
        await people.project(app)
    complete = await world.judged(app, gates.COMPLETENESS, adoption.index)
    assert (complete.outcome, complete.evidence["missing"]) == (Outcome.FAILED, 1)
    assert (await world.judged(app, gates.FIDELITY, adoption.index)).outcome is Outcome.FAILED


async def test_odd_tables_are_adopted_too(app: App, dsn: str) -> None:
    """A key of two columns, names that are words of SQL, a column without dims, in half precision."""
    async with people.connected(dsn) as user:
        await user.execute('CREATE SCHEMA "My %app"')
        await user.execute(
            'CREATE TABLE "My %app"."order" (tenant text, "doc_id" integer, "100%" text,'
            ' "vec%" halfvec, PRIMARY KEY (tenant, doc_id))'
        )
        odd = rowkeys.escaped(sql.Identifier("My %app", "order"))
        for number, text in enumerate(questions.texts(30)):
            vector = questions.literal(speaking.vector(text, "fake-64"))
            await user.execute(
                sql.SQL("INSERT INTO {} VALUES (%s, %s, %s, %s::halfvec)").format(odd),
                (f"t{number % 3}", number, text, vector),
            )
        how = {"table": '"My %app"."order"', "body": '"100%"', "vector": "vec%", "tenant": "tenant"}
        made = await steps.collection(app, "odd", model=None)
        mapped = replace(questions.mapping(), filter="true", **how)
        source = await attach(app.database, made, mapped)
        found = await app.adoptable(mapped, "openai:fake-64")
        adoption = await found.adopt(made, source, writer=Writer.REVEC)
        await people.project(app)
        await app.start(made, "openai:fake-b-96")
        await user.execute(
            sql.SQL('UPDATE {} SET "100%%" = %s WHERE doc_id = 3').format(odd),
            ("edited",),
        )
        await steps.drain(app)
        assert await world.state(app, made) is State.READY
        assert await behind(app) == 0
    assert adoption.index.kind is Kind.EXACT
    await steps.assert_oracle(app, made)


async def test_a_column_moves_into_a_table_for_nothing(app: App, dsn: str) -> None:
    """The same model, another home: every vector is copied, none is bought."""
    async with people.connected(dsn) as user:
        await questions.made(user, questions.texts(60))
        made, _ = await questions.adopted(app)
    await people.project(app)
    await app.start(made, f"openai:{questions.OLD}")
    done = await steps.drain(app)
    assert (done.embedded, done.copied) == (0, 60)
    assert await world.state(app, made) is State.READY
    assert len(await steps.rows(app, "SELECT FROM revec.vectors_2")) == 60
    assert await check(app.database, freshness=30) == []


async def test_another_writer_may_be_chosen_later(app: App, dsn: str) -> None:
    """From the application to Revec, in the middle of a migration, and back."""
    async with people.connected(dsn) as user:
        made = await live(app, user, Writer.APP)
        await questions.add(user, "nobody embeds it", embedded=False)
        await steps.drain(app)
        assert await behind(app) == 1

        async def choose(writer: Writer) -> None:
            async with app.database.transaction() as conn:
                index = await indexes.by_id(conn, 1)
                await ledgers.choose(conn, index, writer, migrating=True)

        await choose(Writer.REVEC)
        await steps.drain(app)
        assert await behind(app) == 0
        await choose(Writer.APP)
        await questions.add(user, "nor this", embedded=False)
        await steps.drain(app)
    assert await behind(app) == 1
    assert await steps.rows(app, "SELECT FROM revec.work") == []
    assert await check(app.database, freshness=30) == []
    assert await world.state(app, made) is State.LIVE


async def test_a_bridge_answers_for_a_model_that_is_gone(
    app: App, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can embed a query for the column; the new model's queries find its vectors long before the end."""
    monkeypatch.setattr(early, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(early, "SAMPLE", 500)
    monkeypatch.setattr(early, "PART", 1)
    async with people.connected(dsn) as user:
        texts = questions.texts(600)
        await questions.made(user, texts)
        made, _ = await questions.adopted(app, model="openai:gone", model_gone=True)
    await people.project(app)
    with pytest.raises(ProviderError):
        await app.retriever.search("questions", texts[7], tenant="default")
    await app.start(made, f"openai:{questions.NEW}", serve_early=True)
    await world.tick_to(app, made, State.BACKFILLING)
    await world.tick(app)
    await hands.step(app, claim=500)
    steady = world.conductor(app)
    async with asyncio.timeout(people.PATIENCE):
        while not (await steps.rows(app, "SELECT holds FROM revec.bridge"))[0].holds:
            await steady.tick()
            await asyncio.sleep(0.01)
    await steady.leave()
    app.retriever._early._patience = 20.0  # type: ignore[union-attr]
    reading = await app.retriever.search("questions", texts[7], k=3, tenant="default")
    assert (reading.early, reading.hits[0].id) == (True, "8")


async def called(app: App, user: User, made: Any) -> None:
    """Seed 001's function, made by us in the place of theirs."""
    said = Said(
        function="app.match_questions_with_solutions",
        arguments=("query_embedding", "threshold", "count"),
        returns=["id", "question", "similarity"],
    )
    async with app.database.transaction() as conn:
        function = await callers.make(conn, made, said)
    await user.execute("DROP FUNCTION app.match_questions_with_solutions")
    await callers.apply(app.database, function)


async def test_a_caller_walks_the_users_graph_and_follows_the_migration(
    pooled_app: App, user: User, loopback: Loopback
) -> None:
    """Seed 001's function, made by us in the place of theirs: both models are answered until the drop."""
    texts = questions.texts(60)
    await questions.made(user, texts)
    made, adoption = await questions.adopted(pooled_app)
    await people.project(pooled_app)
    await called(pooled_app, user, made)

    async def asked(model: str, number: int) -> int:
        vector = questions.literal(speaking.vector(texts[number], model))
        rows: Any = await (await user.execute(questions.ASKED, (vector, 0.5, 3))).fetchall()
        return int(rows[0][0])

    assert await asked(questions.OLD, 7) == 8
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="1536 dims"):
        await asked(questions.NEW, 7)
    await pooled_app.start(made, f"openai:{questions.NEW}")
    await steps.drain(pooled_app)
    switch = pooled_app.commands.switch
    for move in (None, switch.cutover, switch.rollback, switch.cutover):
        if move is not None:
            await move(made, why="test")
        assert (await asked(questions.OLD, 9), await asked(questions.NEW, 9)) == (10, 10)
    (row,) = await steps.rows(
        pooled_app, "SELECT nearness FROM revec.destination WHERE index_id = %(i)s", i=adoption.index.id
    )
    assert row.nearness.startswith("v.own OPERATOR(")
    await switch.finish(made, wait=timedelta(0), why="test")
    await steps.drain(pooled_app)
    assert await asked(questions.NEW, 9) == 10
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="768 dims"):
        await asked(questions.OLD, 9)


async def test_a_vector_of_zeros_is_near_to_nothing(
    app: App, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A column may hold some, and a graph of products too: NaN away, which the server sorts above every score."""
    async with people.connected(dsn) as user:
        texts = questions.texts(40)
        await questions.made(user, texts, graph=False)
        await user.execute("CREATE INDEX ON app.questions USING hnsw (embedding vector_ip_ops)")
        made, adoption = await questions.adopted(app)
        await people.project(app)
        zeros = "UPDATE app.questions SET embedding = array_fill(0, ARRAY[768])::vector WHERE id < 4"
        await user.execute(zeros)
        await people.project(app)
        await called(app, user, made)
        walks = "SELECT pg_get_functiondef('revec.nearest'::regproc) AS it"
        text: Any = await (await user.execute(walks)).fetchone()
        asked, index = speaking.vector(texts[7], questions.OLD), adoption.index
        for small in (SMALL_TENANT, 0):
            monkeypatch.setattr(pgvector, "SMALL_TENANT", small)
            await user.execute(text.it.replace(f":= {SMALL_TENANT};", f":= {small};"))
            few = await questions.ask(user, texts[7], count=10, threshold=-1)  # the walk has enough at once
            assert few[0].id == 8
            found = await questions.ask(user, texts[7], count=40, threshold=-1)
            assert {row.id for row in found} == set(range(4, 41))
            async with app.database.transaction("reader", tenant="default") as conn:
                ids = [
                    row.id for row in await (await conn.execute("SELECT id FROM revec.document")).fetchall()
                ]
                for scores in (
                    await app.store.nearest(conn, index, asked, limit=40, tenant="default"),
                    await app.store.exact(conn, index, asked, limit=40, tenant="default"),
                    await app.store.scored(conn, index, asked, ids, tenant="default"),
                ):
                    assert len(scores) == 37
                    assert scores[0][1] > 0.99


async def test_rows_of_a_column_are_counted_by_its_ledger(app: App, dsn: str) -> None:
    """Also by a caller: up to 5,001 rows a call, and a join of each would be no small thing."""
    async with people.connected(dsn) as user:
        texts = questions.texts(40)
        await questions.made(user, texts)
        made, _ = await questions.adopted(app)
        await people.project(app)
        await called(app, user, made)
        said: list[str] = []
        user.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
        async with user.transaction():
            await user.execute("LOAD 'auto_explain'")
            await user.execute(
                "SELECT set_config('auto_explain.log_min_duration', '0', true) AS least,"
                " set_config('client_min_messages', 'log', true) AS told,"
                " set_config('auto_explain.log_nested_statements', 'on', true) AS nested"
            )
            assert (await questions.ask(user, texts[7], count=1))[0].id == 8
    (plan,) = [plan for plan in said if "AS counted" in plan]
    assert "ledger_1" in plan
    assert "questions" not in plan, plan


async def test_a_pushed_document_is_of_no_row(app: App, dsn: str) -> None:
    """Its key may be that of a user's row, whose vector stays; by now no other source is taken in at all."""
    async with people.connected(dsn) as user:
        made = await live(app, user, Writer.REVEC)
        with pytest.raises(Refused, match=r"takes no documents of push.* has the column app\.questions\.emb"):
            await push(app.database, made, [Draft("3", body="a stranger's", tenant="other")])
        (row,) = await steps.rows(
            app,
            "WITH other AS (INSERT INTO revec.source (collection_id, name) VALUES (%(c)s, 'push') RETURNING id)"
            " INSERT INTO revec.document (collection_id, source_id, key, tenant, title, body)"
            " SELECT %(c)s, id, '3', 'other', '', (SELECT question FROM app.questions WHERE id = 3) FROM other"
            " RETURNING id, input_hash",
            c=made.id,
        )
        was = await questions.far(user, 3)
        asked = "SELECT FROM revec.work WHERE index_id = 1"
        assert await steps.rows(app, asked) == []
        vector = speaking.vector(questions.SINCE, questions.OLD).astype("float16")
        async with app.database.transaction("worker") as conn:
            index = await indexes.by_id(conn, 1)
            await app.store.replace(conn, index, [ChunkSet(row.id, "other", row.input_hash, [b""], [vector])])
        assert await questions.far(user, 3) == was
        await steps.rows(app, "DELETE FROM revec.document WHERE id = %(id)s RETURNING id", id=row.id)
    assert await steps.rows(app, asked) == []


async def test_a_table_that_refuses_stops_its_own_index(app: App, dsn: str) -> None:
    """The worker works on; once a person has mended the table, what was left is written."""
    async with people.connected(dsn) as user:
        made = await live(app, user, Writer.REVEC)
        await user.execute("UPDATE app.questions SET question = 'edited' WHERE id = 3")
        await user.execute(
            "CREATE FUNCTION app.no() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE 'no hand but mine'; END $$"
        )
        await user.execute(
            "CREATE TRIGGER no BEFORE UPDATE OF embedding ON app.questions FOR EACH ROW"
            " EXECUTE FUNCTION app.no()"
        )
        await user.execute("ALTER TABLE app.questions ENABLE ALWAYS TRIGGER no")
        working = app.worker()
        worker = asyncio.create_task(working.run(drain=False))

        async def faulted() -> bool:
            return bool(await steps.rows(app, "SELECT FROM revec.index WHERE fault IS NOT NULL"))

        await people.until(faulted)
        assert not worker.done()
        (row,) = await steps.rows(app, "SELECT id, fault FROM revec.index WHERE fault IS NOT NULL")
        assert (row.id, row.fault) == (1, "app.questions cannot be written: no hand but mine")
        await user.execute("DROP TRIGGER no ON app.questions")
        await app.commands.resume(made, reason="the trigger is gone")

        async def current() -> bool:
            return await behind(app) == 0

        await people.until(current)
        working.stop()
        await worker
    await steps.assert_oracle(app, made)


async def test_who_may_not_write_is_not_the_writer(app: App, dsn: str) -> None:
    async with people.connected(dsn) as user:
        await questions.made(user, questions.texts(40))
    found = await app.adoptable(questions.mapping(), f"openai:{questions.OLD}")
    with pytest.raises(BadInput, match=r"may not write app\.questions\.embedding: .* GRANT UPDATE"):
        replace(found, found=replace(found.found, writable=False)).require(Writer.REVEC)


async def test_an_older_texts_vector_is_not_written_over_a_newer_one(app: App, dsn: str) -> None:
    """The row is ahead of its document: an application's own vector of the new text stays."""
    async with people.connected(dsn) as user:
        made = await live(app, user, Writer.REVEC)
        (row,) = await steps.rows(app, "SELECT id, input_hash FROM revec.document WHERE key = '3'")
        newer = questions.literal(speaking.vector(questions.SINCE, questions.OLD))
        await user.execute(
            "UPDATE app.questions SET question = %s, embedding = %s::vector WHERE id = 3",
            (questions.SINCE, newer),
        )
        vector = speaking.vector("older", questions.OLD).astype("float16")
        async with app.database.transaction("worker") as conn:
            index = await indexes.by_id(conn, 1)
            older = ChunkSet(row.id, "default", row.input_hash, [b""], [vector])
            assert await app.store.replace(conn, index, [older]) == set()
        assert await questions.far(user, 3) < 0.001
        await steps.drain(app)
        assert await questions.far(user, 3) < 0.001
    assert await behind(app) == 0
    await steps.assert_oracle(app, made)


async def test_an_abort_gives_the_column_back(app: App, dsn: str) -> None:
    """As before the migration: edits cost nothing, and the application's own vectors count again."""
    async with people.connected(dsn) as user:
        await questions.made(user, questions.texts(40))
        made, _ = await questions.adopted(app, writer=Writer.REVEC)
        await people.project(app)
        await app.start(made, f"openai:{questions.NEW}")
        await steps.drain(app)
        for number in (3, 4):
            vector = questions.literal(speaking.vector("theirs", questions.OLD))
            await user.execute(
                "UPDATE app.questions SET question = 'theirs', embedding = %s::vector WHERE id = %s",
                (vector, number),
            )
            if number == 3:
                await app.commands.abort(made, why="test")
        await steps.drain(app)
        assert await steps.rows(app, "SELECT FROM revec.work") == []
        assert await behind(app) == 0
        await user.execute("UPDATE app.questions SET question = 'edited' WHERE id = 5")
        await steps.drain(app)
    assert await steps.rows(app, "SELECT FROM revec.work") == []
    assert await behind(app) == 1
    async with app.database.transaction() as conn:
        index = await indexes.by_id(conn, 1)
    assert index.column is not None
    assert (index.writer, index.column.writer) == (Writer.APP, Writer.REVEC)


async def test_what_finish_prints_may_be_run(app: App, dsn: str) -> None:
    """Once the column is forgotten it may be dropped, and its table is captured on."""
    async with people.connected(dsn) as user:
        made = await live(app, user, Writer.REVEC)
        async with app.database.transaction() as conn:
            printed = await ledgers.goodbye(conn, 1)
        assert printed is not None
        await app.commands.switch.finish(made, wait=timedelta(0), why="test")
        await steps.drain(app)
        await user.execute("DROP FUNCTION app.match_questions_with_solutions")
        await user.execute(printed)  # type: ignore[arg-type]
        await user.execute("UPDATE app.questions SET question = 'edited' WHERE id = 3")
        await steps.drain(app)
    assert await people.faults(app) == []
    reading = await app.retriever.search("questions", "edited", k=1, tenant="default")
    assert reading.hits[0].id == "3"
    await steps.assert_oracle(app, made)


async def test_init_again_keeps_no_search_waiting(app: App, dsn: str) -> None:
    """A view that is as it should be is not touched; another filter waits for a long query, but not for long."""
    async with people.connected(dsn) as user, people.connected(dsn) as reader:
        await questions.made(user, questions.texts(40))
        made, adoption = await questions.adopted(app)
        await people.project(app)
        async with reader.transaction():
            await reader.execute("SELECT count(*) FROM revec.vectors_1")
            try:
                async with asyncio.timeout(1.0), app.database.transaction() as conn:
                    await ledgers.show(conn, adoption.index)
            except TimeoutError:
                pytest.fail("it waits")
            await attach(app.database, made, questions.mapping(filter="id > 10"))
            with pytest.raises(Unavailable, match="run `revec init` again"):
                async with app.database.transaction() as conn:
                    await asyncio.wait_for(ledgers.show(conn, adoption.index), 10.0)
        async with app.database.transaction() as conn:
            await ledgers.show(conn, adoption.index)
    assert len(await steps.rows(app, "SELECT FROM revec.vectors_1")) == 30
