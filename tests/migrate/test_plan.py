"""The plan looks and reckons: it chooses, gives its reasons, names what it takes, and writes nothing."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from revec.app import App
from revec.migrate.planning import shape as of
from revec.migrate.planning.recipe import Long
from revec.migrate.planning.tokens import Sampled
from revec.model.errors import BadInput, ProviderError, Refused
from revec.model.index import Kind
from revec.postgres import indexes
from revec.providers.base import Traits
from tests import steps
from tests.conftest import settings_for
from tests.loopback import Loopback
from tests.servers import at

ROW = 96 * 2 + of.ROW_BYTES  # of steps.NEW


async def test_a_plan_writes_nothing(app: App, dsn: str, loopback: Loopback) -> None:
    """It works in a database that refuses every write; starting does not."""
    await steps.filled(app)
    reading = at(dsn, options="-c default_transaction_read_only=on")
    async with App(settings_for(reading, loopback.url)) as reader:
        async with reader.database.transaction() as conn:
            made = await steps.collections.named(conn, "c")
        planned = await reader.plan(made, steps.NEW)
        assert planned.facts["to"] == steps.NEW
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            await reader.start(made, steps.NEW)


async def test_a_plan_costs_one_probe_at_most(app: App, loopback: Loopback) -> None:
    """The dims of an unknown model are asked for once; no document is sent."""
    made = await steps.filled(app)
    before = loopback.requests()["inputs"]
    await app.plan(made, steps.NEW)
    await app.plan(made, steps.NEW)
    assert loopback.requests()["inputs"] == before + 1


async def test_the_kind_turns_at_the_boundary(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the byte: what one scan reads in time is exact, one byte more is approximate; both say why."""
    made = await steps.filled(app, 20)
    monkeypatch.setattr(of, "EXACT_BYTES", 20 * ROW)
    planned = await app.plan(made, steps.NEW)
    assert planned.kind is Kind.EXACT
    assert planned.gates == ("completeness", "fidelity")
    assert "an exact scan is quick enough and misses nothing" in planned.why_kind
    assert planned.size.graph == 0

    monkeypatch.setattr(of, "EXACT_BYTES", 20 * ROW - 1)
    planned = await app.plan(made, steps.NEW)
    assert planned.kind is Kind.HNSW
    assert planned.gates == ("completeness", "fidelity", "recall")
    assert "more than an exact scan reads in time" in planned.why_kind
    assert planned.size.graph > 20 * 96 * 2


async def test_the_largest_tenant_decides_not_the_sum(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many small tenants are scanned one at a time."""
    made = await steps.collection(app)
    for tenant in ("a", "b", "c"):
        count = {"a": 5, "b": 9, "c": 2}[tenant]
        drafts = steps.drafts(count, tenant=tenant, word=f"of {tenant}")
        await steps.put(app, made, [steps.Draft(f"{tenant}{d.key}", d.title, d.body, tenant) for d in drafts])
    await steps.drain(app)
    monkeypatch.setattr(of, "EXACT_BYTES", 9 * ROW)
    planned = await app.plan(made, steps.NEW)
    assert (planned.documents, planned.largest_tenant, planned.kind) == (16, 9, Kind.EXACT)


async def test_too_many_dims_for_hnsw(app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused where asked for; elsewhere the graph is of the signs, and why is said; 4,000 are fine."""
    made = await steps.filled(app, 3)
    monkeypatch.setattr(of, "EXACT_BYTES", 1)
    with pytest.raises(
        BadInput, match=r"at most 4,000 dims and openai:fake-4096 has 4,096.*--index binary or exact"
    ):
        await app.plan(made, "openai:fake-4096", kind=Kind.HNSW)
    planned = await app.plan(made, "openai:fake-4096")
    assert planned.kind is Kind.BINARY
    assert planned.gates == ("completeness", "fidelity", "recall")
    assert "more than an exact scan reads in time" in planned.why_kind
    assert "an HNSW index holds at most 4,000 dims: a graph of the signs" in planned.why_kind
    monkeypatch.setattr(of, "EXACT_BYTES", 3 * (4_096 * 2 + of.ROW_BYTES))
    assert (await app.plan(made, "openai:fake-4096")).kind is Kind.EXACT
    assert (await app.plan(made, "openai:fake-4000", kind=Kind.HNSW)).kind is Kind.HNSW


@pytest.mark.parametrize("kind", steps.KINDS)
async def test_a_person_s_choice_stands(app: App, loopback: Loopback, kind: Kind) -> None:
    """`--index` overrides, and the reason says so, with the size beside it."""
    made = await steps.filled(app, 3)
    planned = await app.plan(made, steps.NEW, kind=kind)
    assert planned.kind is kind
    assert planned.why_kind.startswith("asked for; the largest tenant's vectors are 0.0 MB")


async def test_few_dims_have_few_signs(app: App, loopback: Loopback) -> None:
    """Who asks for them is told before anything is embedded; of many dims nothing has to be said."""
    made = await steps.filled(app, 3)
    for dims, said in ((96, True), (of.MANY_SIGNS - 1, True), (of.MANY_SIGNS, False)):
        planned = await app.plan(made, f"openai:fake-{dims}", kind=Kind.BINARY)
        assert ("the recall gate may well fail" in planned.why_kind) is said
        assert "signs" not in (await app.plan(made, f"openai:fake-{dims}", kind=Kind.HNSW)).why_kind


APPROXIMATE = pytest.mark.parametrize("kind", [Kind.HNSW, Kind.BINARY])


@APPROXIMATE
async def test_what_it_names_is_what_happens(app: App, loopback: Loopback, kind: Kind) -> None:
    """Documents, disk, locks, gates and statements; the statement that makes the table makes that table."""
    made = await steps.filled(app, 20)
    facts = (await app.plan(made, steps.NEW, kind=kind)).facts
    assert (facts["from"], facts["to"], facts["dims"]) == ("openai:fake-64#1", steps.NEW, 96)
    assert (facts["documents"], facts["bytes_vectors"]) == (20, of.size_of(kind, 96, 20).vectors)
    assert facts["locks"][0] == "none on your tables, at no time"
    assert any("approximate index" in lock for lock in facts["locks"])
    create, build, flip, drop = facts["sql"]
    assert drop == "DROP TABLE revec.vectors_1"
    assert flip.startswith("UPDATE revec.route SET serving")
    await app.start(made, steps.NEW, kind=kind)
    await steps.drain(app)
    columns = await steps.rows(
        app,
        "SELECT attname AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute"
        " WHERE attrelid = 'revec.vectors_2'::regclass AND attnum > 0",
    )
    for column in columns:
        assert f"{column.name} {column.type}" in create
    (built,) = await steps.rows(app, "SELECT pg_get_indexdef('revec.vectors_2_hnsw'::regclass) AS sql")
    assert _plainly(built.sql).endswith(_plainly(build.partition("USING")[2]))
    assert {Kind.HNSW: "halfvec_cosine_ops", Kind.BINARY: "bit(96)) bit_hamming_ops"}[kind] in built.sql


def _plainly(statement: str) -> str:
    """Without what only PostgreSQL writes: more parentheses."""
    return statement.translate({ord(each): None for each in "() "})


async def test_the_first_fill_drops_nothing(app: App, loopback: Loopback) -> None:
    """Nothing serves, so nothing goes."""
    made = await steps.collection(app, model=None)
    facts = (await app.plan(made, steps.NEW)).facts
    assert facts["from"] is None
    assert not any("DROP" in statement for statement in facts["sql"])
    assert not any("hnsw" in statement for statement in facts["sql"])


async def test_to_where_it_is_already_is_refused(app: App, loopback: Loopback) -> None:
    """The same recipe and the same kind: nothing to do; another kind of index is another matter."""
    made = await steps.filled(app)
    for kind in (None, Kind.EXACT):
        with pytest.raises(Refused, match="nothing to migrate"):
            await app.plan(made, steps.OLD, kind=kind)
    assert (await app.plan(made, steps.OLD, kind=Kind.HNSW)).kind is Kind.HNSW


@APPROXIMATE
async def test_to_another_kind_of_index_nothing_is_paid_again(
    app: App, loopback: Loopback, kind: Kind
) -> None:
    """The same space: every vector is copied, none is bought; only the gate embeds its sample."""
    made = await steps.filled(app, 20)
    loopback.clear()
    await app.start(made, steps.OLD, kind=kind)
    summary = await steps.drain(app)
    assert (summary.copied, summary.embedded) == (20, 0)
    await app.commands.switch.cutover(made, why="test")
    await steps.assert_oracle(app, made)
    async with app.database.transaction() as conn:
        assert len(await indexes.writing(conn, made.id)) == 2


async def test_a_model_that_does_not_answer_is_refused(app: App, loopback: Loopback) -> None:
    """Before anything is made, in the provider's words."""
    made = await steps.filled(app, 3)
    with pytest.raises(ProviderError, match="fake-nonsense"):
        await app.start(made, "openai:fake-nonsense")
    assert await steps.rows(app, "SELECT FROM revec.migration WHERE state <> 'finished'") == []


async def test_a_plan_counts_the_texts_that_are_too_long(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a sample, by the model's own count; what becomes of them is said, and how to choose."""
    made = await steps.filled(app, 20)
    long = [replace(each, body="word " * 500) for each in steps.drafts(5, start=20)]
    await steps.put(app, made, [*long, replace(long[0], key="book", body="word " * 50_000)])
    planned = await app.plan(made, steps.NEW)
    assert (planned.sampled.documents, planned.sampled.longer) == (26, 0)
    assert planned.long_texts == "the model names no longest text"

    provider = await app.provider(steps.NEW, None)
    named = replace(await provider.traits(), max_tokens=100)

    async def traits() -> Traits:
        return named

    monkeypatch.setattr(provider, "traits", traits)
    planned = await app.plan(made, steps.NEW)
    assert planned.sampled == Sampled(26, 6, 100)
    assert planned.facts["longer_than_the_model_takes"] == 6
    assert "6 of 26 sampled documents are longer than the 100 tokens" in planned.long_texts
    assert "--chunk '512 tokens, 64 overlap'" in planned.long_texts
    planned = await app.plan(made, steps.NEW, long=Long(chunk="64 tokens, 8 overlap"))
    assert planned.long_texts.endswith("texts are chunked: 64 tokens, 8 overlap, sentences")
    planned = await app.plan(made, steps.NEW, long=Long(truncate=90))
    assert planned.long_texts.endswith("texts are cut at 90 tokens")
    with pytest.raises(BadInput, match="takes 100 tokens at most, not 512"):
        await app.plan(made, steps.NEW, long=Long(chunk="512 tokens"))
    with pytest.raises(BadInput, match="takes 100 tokens at most, not 101"):
        await app.plan(made, steps.NEW, long=Long(truncate=101))
    with pytest.raises(BadInput, match="either chunk or truncate"):
        await app.plan(made, steps.NEW, long=Long("64 tokens", 64))


async def test_other_chunks_are_another_space(app: App, loopback: Loopback) -> None:
    """The same model with another recipe is a migration like any other."""
    made = await steps.filled(app, 20)
    long = [replace(each, body="A sentence of some words. " * 30) for each in steps.drafts(5)]
    await steps.put(app, made, long)
    await app.start(made, steps.OLD, long=Long(chunk="32 tokens, 8 overlap"))
    summary = await steps.drain(app)
    assert summary.chunked == 5
    await app.commands.switch.cutover(made, why="test")
    await steps.assert_oracle(app, made)


async def test_a_native_index_is_of_a_store_elsewhere(app: App, loopback: Loopback) -> None:
    made = await steps.filled(app)
    with pytest.raises(BadInput, match="say --store with its address"):
        await app.plan(made, steps.NEW, kind=Kind.NATIVE)
