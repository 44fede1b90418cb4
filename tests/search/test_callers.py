"""Callers: one SQL function, made once, that answers both models' queries until the old index is dropped."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import numpy as np
import psycopg
import pytest

from revec.app import App
from revec.migrate import scales
from revec.model.errors import BadInput, NotFound, Refused
from revec.model.index import Collection, Kind
from revec.model.migration import State
from revec.postgres import callers, migrations
from revec.search import callers as calling
from revec.stores import pgvector
from tests import servers, steps
from tests.capture import people
from tests.migrate import world
from tests.search import asked
from tests.search.asked import application, caller, embedded, ids, questions

SAME_SIZE = "openai:fake-c-64"  # as OLD has it


async def test_an_application_without_rights_here_finds_its_own_rows(any_app: App) -> None:
    """The nearest first, each with its columns; its own team's alone, and it may not look for itself."""
    made = await questions(any_app)
    await caller(any_app, made)
    for team, number in (("red", 8), ("blue", 7)):
        async with application(any_app, team) as conn:
            found = await asked.asked(conn, f"question {number}", steps.OLD)
            assert found[0][:3] == (number, f"question {number}", f"solution {number}")
            assert found[0][3] > 0.999
            assert len(found) == 5
            assert all(other % 2 == number % 2 for other in ids(found))
            assert [row[3] for row in found] == sorted((row[3] for row in found), reverse=True)
            assert await asked.asked(conn, "question 8", steps.OLD, count=0) == []
    vector = str(embedded("question 7", steps.OLD).tolist())
    nearest = f"revec.nearest('c', 'app.questions', '{vector}', 'blue', 0, 1, NULL, NULL)"
    for looked in ("revec.destination", "revec.document", nearest):
        async with application(any_app) as conn:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                async with conn.transaction():
                    await conn.execute(f"SELECT * FROM {looked}")
    await steps.assert_oracle(any_app, made)


async def shown(app: App, team: str = "red") -> set[int]:
    """All that a team is shown."""
    async with application(app, team) as conn:
        return set(ids(await asked.asked(conn, "question 8", steps.OLD, count=1_000)))


async def test_our_rule_holds_where_the_table_has_none(app: App) -> None:
    """Without row security of the user's a team still sees its own rows, and all of them."""
    await caller(app, await questions(app))
    async with people.connected(app.database.dsn) as owner:
        await owner.execute("ALTER TABLE app.questions DISABLE ROW LEVEL SECURITY")
    assert await shown(app, "red") == set(range(2, asked.ROWS + 1, 2))
    assert await shown(app, "blue") == set(range(1, asked.ROWS + 1, 2))
    assert await shown(app, "nobody") == set()


async def test_the_search_reads_as_one_tenant_s_reader(app: App) -> None:
    """Row security holds inside it too: without the tenant in its queries it finds nobody else's."""
    made = await questions(app)
    await caller(app, made)
    (row,) = await steps.rows(
        app,
        "SELECT proowner::regrole::text AS owner, prosecdef AS definer, pg_get_functiondef(oid) AS it"
        " FROM pg_proc WHERE oid = 'revec.nearest'::regproc",
    )
    assert (row.owner, row.definer) == ("revec_reader", True)
    careless = row.it.replace("v.tenant = $2", "true").replace("d.tenant = $2", "true")
    assert careless != row.it
    async with people.connected(app.database.dsn) as owner:
        await owner.execute("ALTER TABLE app.questions DISABLE ROW LEVEL SECURITY")
        await owner.execute(careless)
        query = {"query": str(embedded("question 8", steps.OLD).tolist())}
        found = await owner.execute(
            "SELECT key FROM revec.nearest('c', 'app.questions', %(query)s::vector, 'red', NULL, 100, NULL, NULL)",
            query,
        )
        keys = {int(key) for (key,) in await found.fetchall()}
        await owner.execute(row.it)
    assert keys == set(range(2, asked.ROWS + 1, 2))


async def test_what_the_row_is_now_counts(app: App) -> None:
    """A row that left its team, was deleted softly or is gone is not shown, though we have not heard of it yet."""
    made = await questions(app)
    await caller(app, made)
    async with people.connected(app.database.dsn) as owner:
        await owner.execute("ALTER TABLE app.questions DISABLE ROW LEVEL SECURITY")
        await owner.execute("UPDATE app.questions SET team = 'blue' WHERE id = 8")
        await owner.execute("UPDATE app.questions SET deleted_at = now() WHERE id = 10")
        await owner.execute("UPDATE app.questions SET solution = 'a better one' WHERE id = 12")
        await owner.execute("DELETE FROM app.questions WHERE id = 14")
    async with application(app) as conn:
        found = {row[0]: row[2] for row in await asked.asked(conn, "question 8", steps.OLD, count=100)}
    assert not {8, 10, 14} & found.keys()
    assert found[12] == "a better one"
    assert 8 not in await shown(app, "blue")
    await steps.drain(app)
    assert 8 in await shown(app, "blue")
    await steps.assert_oracle(app, made)


async def test_the_caller_s_transaction_is_left_as_it_was(app: App) -> None:
    """No setting and no tenant stays behind, also for a caller who had settings of his own."""
    await caller(app, await questions(app))
    names = ("hnsw.ef_search", "hnsw.iterative_scan", "enable_sort", "search_path", "role")
    async with application(app) as conn:
        await conn.execute("SELECT '[1]'::vector")  # so that the extension's settings are there
        await conn.execute("SELECT set_config('hnsw.ef_search', '77', true)")
        settings = "SELECT " + ", ".join(f"current_setting('{name}')" for name in names)
        before = await (await conn.execute(settings)).fetchone()
        await asked.asked(conn, "question 8", steps.OLD)
        assert await (await conn.execute(settings)).fetchone() == before
        left = await (await conn.execute("SELECT current_setting('revec.tenant', true)")).fetchone()
        assert left in {(None,), ("",)}


async def test_both_models_are_answered_from_ready_until_the_drop(app: App) -> None:
    """Before, what cannot be answered says so with the way out; a size of nobody's names both spaces."""
    made = await questions(app)
    await caller(app, made)

    async def answered(model: str) -> list[int]:
        async with application(app) as conn:
            return ids(await asked.asked(conn, "question 8", model, count=3))[:1]

    async def refused(kind: type[Exception], model: str) -> str:
        async with application(app) as conn:
            with pytest.raises(kind) as raised:
                async with conn.transaction():
                    await asked.asked(conn, "question 8", model)
        return str(raised.value)

    unknown = psycopg.errors.InvalidParameterValue
    assert await answered(steps.OLD) == [8]
    assert "the query has 96 dims, and c is searched in openai:fake-64 (64 dims, serves" in await refused(
        unknown, steps.NEW
    )
    await app.start(made, steps.NEW)
    await world.tick_to(app, made, State.BACKFILLING)
    assert await answered(steps.OLD) == [8]
    said = await refused(psycopg.errors.ObjectNotInPrerequisiteState, steps.NEW)
    assert "openai:fake-b-96 is being filled" in said
    assert "openai:fake-64 (64 dims, serves" in said
    assert "revec status" in said
    await steps.drain(app)
    switch = app.commands.switch
    for move in (None, switch.cutover, switch.rollback, switch.cutover):
        if move:
            await move(made, why="test")
        assert [await answered(model) for model in (steps.OLD, steps.NEW)] == [[8], [8]]
        said = await refused(unknown, "openai:fake-7")
        assert "has 7 dims" in said
        assert "openai:fake-64 (64 dims" in said
        assert "openai:fake-b-96 (96 dims" in said
    await switch.finish(made, wait=timedelta(0), why="test")
    await world.tick_to(app, made, State.FINISHED)
    assert await answered(steps.NEW) == [8]
    assert "c is searched in openai:fake-b-96 (96 dims, serves" in await refused(unknown, steps.OLD)
    await steps.assert_oracle(app, made)


@pytest.mark.parametrize("state", [state for state in State if state is not State.PLANNED])
async def test_a_candidate_answers_once_it_is_whole(app: App, state: State) -> None:
    """In every state somebody has said whether it does."""
    made = await steps.collection(app)
    await steps.drain(app)
    await app.start(made, steps.NEW)
    await world.tick_to(app, made, State.BACKFILLING)
    await steps.rows(
        app,
        "UPDATE revec.migration SET state = %(state)s WHERE old_index IS NOT NULL RETURNING id",
        state=state,
    )
    async with app.database.transaction() as conn:
        waits = {each.model: each.waits for each in await callers.destinations(conn, made.id)}
    waiting = {
        State.VERIFYING: "is being verified",
        State.CAPTURING: "is being filled",
        State.BACKFILLING: "is being filled",
        State.INDEXING: "is being built",
    }
    assert waits == {steps.OLD: None, steps.NEW: waiting.get(state)}


async def test_a_query_of_nothing(app: App) -> None:
    """NULL finds nothing, as it did before; zeros are near to nothing, and that is said."""
    await caller(app, await questions(app))
    async with application(app) as conn:
        nothing = await conn.execute(f"SELECT * FROM {asked.NAME}(NULL::vector, 0.5, 1)")
        assert await nothing.fetchall() == []
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="vector of zeros"):
            async with conn.transaction():
                await conn.execute(f"SELECT * FROM {asked.NAME}(%s, 0.5, 1)", (np.zeros(64, np.float32),))


async def test_spaces_of_one_size_are_told_apart_by_word(app: App) -> None:
    """Neither a start nor a generation leaves it to chance, and who does not say is refused, not guessed at."""
    made = await questions(app)
    await caller(app, made)
    with pytest.raises(Refused, match="takes no space to tell them apart: `revec function c --space"):
        await app.start(made, SAME_SIZE)
    await drop(app)
    await caller(app, made, space="space")
    await app.start(made, SAME_SIZE)
    await steps.drain(app)
    with pytest.raises(Refused, match="vectors of one size are told apart by their space alone, add --space"):
        await caller(app, made, function="app.another")
    spaces = await spaces_of(app, made)
    for move in (None, app.commands.switch.cutover):
        if move:
            await move(made, why="test")
        for model in (steps.OLD, SAME_SIZE):
            for space in (model, spaces[model]):
                async with application(app) as conn:
                    found = await asked.asked(conn, "question 8", model, space=space)
                    assert found[0][0] == 8
                    assert found[0][3] > 0.99
        async with application(app) as conn:
            with pytest.raises(psycopg.errors.AmbiguousParameter, match="may be of several spaces") as raised:
                await asked.asked(conn, "question 8", steps.OLD)
            assert all(f"{model} (64 dims" in str(raised.value) for model in (steps.OLD, SAME_SIZE))
    async with application(app) as conn:
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="is said to be of openai:other"):
            await asked.asked(conn, "question 8", steps.OLD, space="openai:other")
    await steps.assert_oracle(app, made)


async def test_a_function_made_between_start_and_registration_is_seen(app: App) -> None:
    """There is no index of the new model yet: a generation knows it all the same, and where somebody ran his SQL
    by hand the migration pauses before every search of his application is refused.
    """
    made = await questions(app)
    async with app.database.transaction() as conn:
        early = await calling.make(conn, made, asked.usually())
    await app.start(made, SAME_SIZE)
    with pytest.raises(Refused, match=f"{SAME_SIZE} .64 dims, to come.: vectors of one size are told apart"):
        await caller(app, made)
    await calling.apply(app.database, early)
    for _ in range(2):
        await world.tick(app)
        async with app.database.transaction() as conn:
            (migration,) = await migrations.active(conn, made.id)
        assert migration.state is State.PLANNED
        assert "takes no space to tell them apart" in (migration.paused_why or "")
    async with application(app) as conn:
        assert ids(await asked.asked(conn, "question 8", steps.OLD, count=1)) == [8]
    await drop(app)
    await app.commands.resume(made)
    await steps.drain(app)
    assert SAME_SIZE in await spaces_of(app, made)
    await steps.assert_oracle(app, made)


async def drop(app: App) -> None:
    async with people.connected(app.database.dsn) as owner:
        await owner.execute(f"DROP FUNCTION {asked.NAME}(vector, double precision, integer)")


async def spaces_of(app: App, made: Collection) -> dict[str, str]:
    async with app.database.transaction() as conn:
        return {each.model: each.space_id for each in await callers.destinations(conn, made.id)}


async def similar(app: App, model: str, threshold: float) -> int:
    """How many pairs of a team are called similar, over all its questions."""
    found = 0
    async with application(app) as conn:
        for number in range(2, asked.ROWS + 1, 2):
            rows = await asked.asked(conn, f"question {number}", model, threshold=threshold, count=100)
            assert all(row[3] >= threshold - 1e-9 for row in rows)
            found += len(rows) - 1
    return found


async def test_a_threshold_means_as_much_in_the_next_space_and_the_one_after(app: App) -> None:
    """As many pairs reach it; a copy is still a copy, and what comes back is at least what was asked for."""
    made = await questions(app)
    await caller(app, made)
    before = {threshold: await similar(app, steps.OLD, threshold) for threshold in (0.1, 0.3)}
    assert before[0.1] > before[0.3] > 20
    for model in ("openai:fake-c-8", steps.NEW):
        await app.start(made, model)
        await steps.drain(app)
        for threshold, pairs in before.items():
            assert await similar(app, model, threshold) == pytest.approx(pairs, rel=0.25), model
        async with application(app) as conn:
            (copy,) = await asked.asked(conn, "question 8", model, threshold=0.98)
            assert copy[0] == 8
        await app.commands.switch.cutover(made, why="test")
        await app.commands.switch.finish(made, wait=timedelta(0), why="test")
        await world.tick_to(app, made, State.FINISHED)
    await steps.assert_oracle(app, made)


async def test_a_function_that_somebody_ran_by_hand_is_looked_after(app: App) -> None:
    """In the middle of a migration: a worker learns what its scores are worth in the other space."""
    made = await questions(app)
    await app.start(made, steps.NEW)
    await steps.drain(app)
    await caller(app, made, by_hand=True)
    async with application(app) as conn:
        with pytest.raises(
            psycopg.errors.ObjectNotInPrerequisiteState, match="nobody knows yet what a score"
        ):
            async with conn.transaction():
                await asked.asked(conn, "question 8", steps.NEW)
    await world.tick(app)
    async with application(app) as conn:
        assert ids(await asked.asked(conn, "question 8", steps.NEW, count=1)) == [8]


async def test_raw_scores_are_those_of_each_space(app: App) -> None:
    made = await questions(app)
    await caller(app, made, is_raw=True)
    await app.start(made, "openai:fake-c-8")
    await steps.drain(app)
    assert await steps.rows(app, "SELECT FROM revec.scale") == []
    async with application(app) as conn:
        found = await asked.asked(conn, "question 8", "openai:fake-c-8", count=3)
    for number, *_, score in found:
        pair = [embedded(f"question {n}", "openai:fake-c-8") for n in (8, number)]
        assert score == pytest.approx(float(pair[0] @ pair[1]), abs=2e-3)


async def test_a_scale_is_the_same_here_and_in_the_server(app: App) -> None:
    """Onto it and back is where one began; beyond its ends nothing lies, and what is onward is both steps."""
    chance = np.random.default_rng(1)
    old = np.sort(chance.uniform(-0.2, 0.9, 2_000))
    by = scales.scale([(float(score), float(score) ** 3) for score in old])
    on = scales.onward(by, scales.scale([(float(score) ** 3, 0.5 + float(score) ** 3 / 4) for score in old]))
    assert by.scores[0] == -1
    assert by.scores[-1] == 1
    for score in (-1.0, -0.5, 0.0, 0.31, 0.5, 0.9, 0.95, 1.0):
        if 0 < score < 0.9:
            assert scales.rescaled(score, by) == pytest.approx(score**3, abs=0.01)
            assert scales.rescaled(score, on) == pytest.approx(0.5 + score**3 / 4, abs=0.01)
        (row,) = await steps.rows(
            app,
            "SELECT revec.rescaled(%(score)s::float8, %(home)s::float8[], %(other)s::float8[]) AS there",
            score=score,
            home=list(by.home_scores),
            other=list(by.scores),
        )
        assert row.there == pytest.approx(scales.rescaled(score, by))
    assert list(scales.scale([]).scores) == [-1, 1]
    assert list(scales.scale([(0.5, 0.2), (0.5, 0.3), (1.0, 1.0)]).scores) == [-1, 0.2, 1]


GRAPHS = pytest.mark.parametrize("kind", [Kind.HNSW, Kind.BINARY])


@GRAPHS
async def test_a_large_team_is_searched_by_the_graph(app: App, kind: Kind) -> None:
    """Within the function the graph is in the plan, and finds what the product's own search finds."""
    made = await questions(app, rows=400, kind=kind)
    await caller(app, made)
    index = await app.serving("c")
    keys = {row.id: row.key for row in await steps.rows(app, "SELECT id, key FROM revec.document")}
    right = 0
    async with people.connected(app.database.dsn) as owner:
        (text,) = await (
            await owner.execute("SELECT pg_get_functiondef('revec.nearest'::regproc)")
        ).fetchone()
        await owner.execute(text.replace(f":= {pgvector.SMALL_TENANT};", ":= 50;"))
        for number in range(200, 210):
            vector = embedded(f"question {number}", steps.OLD)
            found, plans = await explained(owner, vector, "red")
            assert any(f"vectors_{index.id}_hnsw" in plan for plan in plans), plans
            assert len(found) == 10
            async with app.database.transaction("reader", tenant="red") as conn:
                ours = await app.store.nearest(conn, index, vector, limit=10, tenant="red")
            right += len({keys[doc_id] for doc_id, _ in ours} & set(found))
        found, plans = await explained(owner, embedded("question 7", steps.OLD), "blue")
        assert len(found) == 10
        assert not any("_hnsw" in plan for plan in plans)
        await owner.execute(text)
    assert right >= 97


async def explained(owner: people.User, vector: object, team: str) -> tuple[list[str], list[str]]:
    """Keys, and the plans of the searches of vectors, as the server tells them."""
    plans: list[str] = []
    owner.add_notice_handler(lambda said: plans.append(said.message_primary or ""))
    try:
        async with owner.transaction():
            await owner.execute("LOAD 'auto_explain'")
            await owner.execute("SET LOCAL enable_sort = off")  # it would rather sort so few
            await owner.execute(
                "SELECT set_config('auto_explain.log_min_duration', '0', true) AS least, set_config('client_min_messages', 'log', true) AS told,"
                " set_config('auto_explain.log_nested_statements', 'on', true) AS nested"
            )
            found = await owner.execute(
                "SELECT key FROM revec.nearest('c', 'app.questions', %s::vector, %s, NULL, 10, NULL, NULL)",
                (str(vector.tolist()), team),  # type: ignore[attr-defined]
            )
            return [key for (key,) in await found.fetchall()], [
                plan for plan in plans if "near.score" in plan
            ]
    finally:
        owner._notice_handlers.clear()


async def test_the_walk_has_the_store_s_bounds(app: App) -> None:
    """They stand in a schema file, which cannot read them."""
    (row,) = await steps.rows(app, "SELECT prosrc AS it FROM pg_proc WHERE oid = 'revec.nearest'::regproc")
    for name, value in (
        ("spare CONSTANT integer := ", 10),
        ("small_tenant CONSTANT integer := ", pgvector.SMALL_TENANT),
        ("most_chunks CONSTANT integer := ", pgvector.MOST_CHUNKS),
        ("times := greatest(2, ", pgvector.SIGNS_ENOUGH),
        ("depth := greatest(", pgvector.LEAST_BY_SIGNS),
    ):
        assert f"{name}{value}" in row.it


SEED = """CREATE FUNCTION app.match(query vector(64), match_threshold float DEFAULT 0.5, match_count int DEFAULT 5)
RETURNS TABLE (id bigint, question text, likeness real) LANGUAGE sql SECURITY DEFINER
AS 'SELECT 1::bigint, ''old'', 0::real'"""


async def test_a_function_of_theirs_lends_its_signature(any_app: App) -> None:
    """Names, order, defaults and columns; in its place the rights that were granted on it stay."""
    app = any_app
    made = await questions(app)
    async with people.connected(app.database.dsn) as owner:
        await owner.execute(SEED)
        await owner.execute("REVOKE EXECUTE ON FUNCTION app.match FROM PUBLIC")
    function = await caller(app, made, function=None, like="app.match", arguments=(), returns=())
    assert "SECURITY DEFINER" in function.replaces
    assert any("runs as its owner" in note for note in function.notes)
    async with application(app) as conn:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            async with conn.transaction():
                await conn.execute("SELECT * FROM app.match(%s)", (embedded("question 8", steps.OLD),))
    async with people.connected(app.database.dsn) as owner:
        await owner.execute("GRANT EXECUTE ON FUNCTION app.match TO app_user")
    async with application(app) as conn:
        found = await conn.execute(
            "SELECT * FROM app.match(%s, match_count => 1)", (embedded("question 8", steps.OLD),)
        )
        assert [column.name for column in found.description] == ["id", "question", "likeness"]
        assert await found.fetchall() == [(8, "question 8", pytest.approx(1, abs=1e-3))]
    again = await caller(app, made, function=None, like="app.match", arguments=(), returns=())
    assert again.replaces is None
    assert again.notes == []


REFUSED = {
    "no such function": ({"like": "app.nothing"}, NotFound, "there is no one function"),
    "no rows": ({"like": "pg_catalog.pg_backend_pid"}, BadInput, "does not return a table of named columns"),
    "nobody's tenant": (
        {"tenant": None},
        BadInput,
        r"have tenants, by team \(row security of the table says",
    ),
    "no such table": ({"source": "app.others"}, BadInput, "has no table 'app.others'"),
    "a fourth argument": ({"arguments": ("a", "b", "c", "d")}, BadInput, "what argument 'd' is for"),
    "no query": ({"arguments": ("many:integer",)}, BadInput, "no argument is the query"),
    "two counts": ({"arguments": ("q", "a:integer", "b:integer")}, BadInput, "two arguments are the count"),
    "no such type": ({"arguments": ("q:vektor",)}, BadInput, "there is no type 'vektor'"),
    "two scores": ({"returns": ["id", "a", "b"]}, BadInput, "a and b are no columns of the table"),
    "a broken column": ({"returns": ["id", "a=nonsense(id)"]}, BadInput, "column 'a' does not run"),
    "a broken tenant": ({"tenant": "nonsense()"}, BadInput, "was not made: function nonsense"),
}


async def test_what_cannot_be_made_says_why(app: App) -> None:
    """Each by itself, and nothing was made of it."""
    made = await questions(app)
    for what, (said, kind, why) in REFUSED.items():
        with pytest.raises(kind, match=why):
            await caller(app, made, **said)
        assert await steps.rows(app, "SELECT FROM revec.caller") == [], what
    pushed = await steps.collection(app, "notes")
    with pytest.raises(Refused, match="its documents are pushed: `revec client notes`"):
        await caller(app, pushed)
    async with people.connected(app.database.dsn) as owner:
        await owner.execute(
            "CREATE FUNCTION app.match_questions_with_solutions_model() RETURNS int LANGUAGE sql AS 'SELECT 1'"
        )
    with pytest.raises(Refused, match="is there already, and is not ours"):
        await caller(app, made)


async def test_expressions_and_a_tenant_that_is_handed_in(app: App) -> None:
    """What the seed's function joined in is a column by an expression; two queries at once, each as it was."""
    made = await questions(app)
    function = await caller(
        app,
        made,
        arguments=("count:bigint", "team", "query:halfvec"),
        returns=["id", "solutions=(SELECT jsonb_agg(s) FROM unnest(ARRAY[solution]) AS s)", "score"],
        tenant="team",
    )
    assert function.function.endswith("(bigint, text, public.halfvec)")
    async with application(app, "blue") as conn:
        vector = str(embedded("question 7", steps.OLD).tolist())
        found = await conn.execute(f"SELECT * FROM {asked.NAME}(2, 'blue', %s::halfvec)", (vector,))
        rows = await found.fetchall()
        assert rows[0][:2] == (7, ["solution 7"])
        assert len(rows) == 2
        foreign = await conn.execute(f"SELECT * FROM {asked.NAME}(2, 'red', %s::halfvec)", (vector,))
        assert (
            await foreign.fetchall() == []
        )  # row security of the table, which is not asked for its opinion of an argument


async def test_a_column_of_a_subquery_names_the_row_by_its_table(app: App) -> None:
    """As docs/callers.md says it; without the table's name `id` would be the inner table's own."""
    made = await questions(app)
    async with people.connected(app.database.dsn) as owner:
        await owner.execute("CREATE TABLE app.solutions (id bigint, question_id bigint, body text)")
        await owner.execute("INSERT INTO app.solutions VALUES (1, 8, 'restart it'), (8, 10, 'another one')")
        await owner.execute(f"GRANT SELECT ON app.solutions TO {servers.APP}")
    text = (Path(__file__).parents[2] / "docs/callers.md").read_text(encoding="utf-8")
    (solutions,) = re.findall(r"--returns '(solutions=.*)'", text)
    await caller(app, made, returns=["id", solutions, "similarity"])
    async with application(app) as conn:
        (found,) = await asked.asked(conn, "question 8", steps.OLD, count=1)
    assert found[:2] == (8, [{"id": 1, "question_id": 8, "body": "restart it"}])


async def test_which_model_to_ask_follows_the_route(app: App) -> None:
    """Cutover, rollback and a tenant that is held: the function beside it says by which model to embed."""
    made = await questions(app)
    function = await caller(app, made)
    await app.start(made, steps.NEW)
    await steps.drain(app)

    async def model(team: str) -> str:
        async with application(app, team) as conn:
            row = await (await conn.execute(f"SELECT model, dims FROM {function.asks}")).fetchone()
            return f"{row[0]} {row[1]}"

    old, new = f"{steps.OLD} 64", f"{steps.NEW} 96"
    assert [await model(team) for team in asked.TEAMS] == [old, old]
    await app.commands.switch.cutover(made, why="test")
    assert [await model(team) for team in asked.TEAMS] == [new, new]
    await app.commands.switch.rollback(made, why="test")
    assert [await model(team) for team in asked.TEAMS] == [old, old]
