"""The figures of a plan: what there is, tokens, cost, time; and what is said of them to people and programs."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser

import pytest

from revec.app import App
from revec.migrate.planning import advice, survey, told
from revec.migrate.planning.planned import Plan
from revec.model.course import Course
from revec.model.document import Draft
from revec.model.index import Collection, Kind
from revec.model.migration import State
from revec.postgres import collections, documents, tenants
from revec.postgres.tenants import Said
from revec.providers.base import Traits
from revec.work import calls
from tests import steps
from tests.loopback import Loopback
from tests.migrate import world

SMALL = "openai:text-embedding-3-small"  # its vocabulary and its price are public
WORDS = [
    "of",
    "the",
    "wing",
    "a",
    "boundary",
    "layer",
    "is",
    "heated",
    "by",
    "shock",
    "waves",
    "in",
    "supersonic",
    "flow",
    "near",
    "plates",
]


def essays(
    count: int, *, start: int = 0, tenant: str = "default", words: int = 60, seed: int = 1
) -> list[Draft]:
    """Texts of very different lengths, that many words in the mean."""
    rng = random.Random(seed)
    return [
        Draft(
            key=str(n),
            title=f"paper {n}",
            body=" ".join(rng.choices(WORDS, k=1 + int(rng.expovariate(1 / words)))),
            tenant=tenant,
        )
        for n in range(start, start + count)
    ]


async def into(app: App, made: Collection, source: str, drafts: list[Draft]) -> None:
    async with app.database.transaction() as conn:
        at = await collections.add_source(conn, made, source)
        await documents.lock_source(conn, at)
        await documents.put(conn, at, drafts)


async def planned(app: App, made: Collection, **how: object) -> Plan:
    return await app.plan(made, SMALL, dims=64, **how)  # type: ignore[arg-type]


async def true_tokens(app: App) -> int:
    """Of every different text, by the model's own tokenizer."""
    provider = await app.provider(SMALL, 64)
    rows = await steps.rows(app, "SELECT DISTINCT title, body FROM revec.document")
    texts = [f"{row.title}\n{row.body}".strip() for row in rows]
    return sum(provider.count([text for text in texts if text]))


async def test_the_interval_holds_the_true_number_of_tokens(app: App, loopback: Loopback) -> None:
    """Of 900 texts 400 are read; equal texts are paid for once, texts of nothing never."""
    made = await steps.collection(app)
    drafts = essays(900)
    again = [replace(drafts[n], key=f"again {n}") for n in range(100)]
    await steps.put(app, made, [*drafts, *again, Draft("empty", body=" \n ")])
    facts = (await planned_later(app, made)).facts
    truth = await true_tokens(app)
    assert facts["tokens_lower"] <= truth <= facts["tokens_upper"]
    assert facts["tokens"] == pytest.approx(truth, rel=0.05)
    assert (facts["texts"], facts["rows"], facts["again"], facts["blank"]) == (900, 1000, 100, 1)
    assert not facts["tokens_are_a_bound"]
    assert float(facts["cost"]) == pytest.approx(facts["tokens"] * 0.02 / 1e6)
    assert facts["cost_batch"] == pytest.approx(facts["cost"] / 2)


async def planned_later(app: App, made: Collection) -> Plan:
    await steps.drain(app)
    return await planned(app, made)


async def test_what_is_embedded_lacking_and_stale(app: App, loopback: Loopback) -> None:
    """By the index that serves, at this moment; and the average length by source."""
    made = await steps.collection(app)
    await steps.put(app, made, [Draft(str(n), body="x" * 100) for n in range(8)])
    await into(app, made, "emails", [Draft(str(n), body=f"{n}" * 10) for n in range(4)])
    await steps.drain(app)
    await steps.put(app, made, [Draft("0", body="edited"), Draft("new", body="new"), Draft("none")])
    facts = (await planned(app, made)).facts
    assert (facts["documents"], facts["embedded"], facts["lacking"], facts["stale"]) == (14, 11, 1, 1)
    assert facts["blank"] == 1
    lengths = {each["source"]: (each["documents"], each["mean_bytes"]) for each in facts["sources"]}
    assert lengths == {"emails": (4, 10.0), "push": (10, 70.9)}
    lines = told.lines(await planned(app, made))
    assert lines["documents"][0].endswith(
        "1 without a vector, 1 stale, 1 without a text, 6 with the text of another"
    )
    assert lines["sources"][0] == "emails: 4 documents of 10 bytes on average"


async def test_more_than_are_looked_at_are_scaled_up(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table is sampled by its pages; the totals are those of all."""
    made = await steps.filled(app, 1)
    await steps.put(app, made, essays(1_500))
    await steps.rows(app, "SELECT 1 AS x FROM pg_stat_clear_snapshot()")
    whole = (await planned(app, made)).seen
    async with app.database.transaction() as conn:
        await conn.execute("ANALYZE revec.document")
    monkeypatch.setattr(survey, "LOOKED_AT", 500)
    some = (await planned(app, made)).seen
    assert some.looked_at < whole.looked_at == some.documents
    assert some.total("documents") == pytest.approx(whole.total("documents"), abs=2)
    assert some.total("bytes") == pytest.approx(whole.total("bytes"), rel=0.3)


async def test_texts_that_the_space_knows_cost_nothing(app: App, loopback: Loopback) -> None:
    """A move to another kind of index copies; another collection's equal texts are copied as well."""
    made = await steps.collection(app, model=None)
    await steps.put(app, made, essays(20))
    await app.start(made, SMALL, dims=64)
    await steps.drain(app)
    plan = await planned(app, made, kind=Kind.HNSW)
    assert (plan.facts["tokens"], plan.facts["cost"], plan.facts["texts"], plan.facts["rows"]) == (
        0,
        0.0,
        0,
        20,
    )
    assert "cost" not in told.lines(plan)
    other = await steps.collection(app, "other", model=None)
    await steps.put(app, other, [*essays(20), *essays(20, start=20, seed=2)])
    assert (await planned(app, other)).facts["texts"] == 20


async def test_an_unknown_vocabulary_is_a_bound_until_it_was_billed(app: App, loopback: Loopback) -> None:
    """At first no fewer than there are, and so said; later as the model billed before."""
    made = await steps.collection(app, model=None)
    await steps.put(app, made, essays(300))
    first = (await app.plan(made, steps.NEW)).facts
    await app.start(made, steps.NEW)
    loopback.clear()
    await steps.drain(app)
    billed = sum(line["tokens"] for line in loopback.log() if line["inputs"] != 16)
    assert first["tokens_are_a_bound"]
    assert first["tokens"] > billed
    assert any("only bounded" in risk for risk in first["risks"])
    other = await steps.collection(app, "other", model=None)
    await steps.put(app, other, essays(300, seed=3))
    later = (await app.plan(other, steps.NEW)).facts
    assert not later["tokens_are_a_bound"]
    assert "as this model has billed them so far" in later["tokens_by"]
    assert later["tokens"] < first["tokens"] / 2


async def test_the_time_at_the_provider_s_limits(app: App, loopback: Loopback) -> None:
    """What the bucket holds goes at once, but for what is left for queries; the rest as it flows in."""
    made = await steps.collection(app, model=None)
    await steps.put(app, made, essays(200))
    assert (await planned(app, made)).facts["seconds"] is None
    async with app.database.transaction() as conn:
        await calls.declare(conn, SMALL, "tokens", 6_000)
        await calls.declare(conn, SMALL, "requests", 600)
    plan = await planned(app, made)
    tokens = plan.facts["tokens"]
    assert plan.facts["seconds_at_limits"] == pytest.approx((tokens + 300 - 900) / 100, rel=0.02)
    assert "at the provider's limits; its speed was not measured yet" in told.lines(plan)["time"][0]
    async with app.database.transaction() as conn:
        await calls.declare(conn, SMALL, "tokens", None)
        await calls.declare(conn, SMALL, "requests", None)
    assert (await planned(app, made)).facts["seconds_at_limits"] is None


async def test_the_time_at_the_measured_speed(app: App, loopback: Loopback) -> None:
    """Of answers to backfills of this model; long pauses between them count for little."""
    made = await steps.collection(app, model=None)
    await steps.put(app, made, essays(200))
    await steps.rows(
        app,
        "INSERT INTO revec.call (model, lane, at, inputs, tokens, tenants, shares, spent_tokens, spent_requests,"
        " probe, outcome, answered_at) SELECT 'openai:text-embedding-3-small', 2, t, 10, 1000, '{}', '{}', 0, 0,"
        " false, 'ok', t + interval '1 s' FROM (SELECT now() - interval '1 day' + n * interval '1 s'"
        " + CASE WHEN n > 10 THEN interval '1 hour' ELSE '0' END AS t FROM generate_series(1, 20) AS n) AS at"
        " RETURNING id",
    )
    facts = (await planned(app, made)).facts
    assert facts["seconds_measured"] == pytest.approx(facts["tokens"] / 20_000 * (19 + 5), rel=0.01)


async def test_risks_are_named(app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known of this case alone; the days on which models are switched off, the old one's and the new one's."""
    made = await steps.filled(app, 3)
    quiet = (await planned(app, made)).facts["risks"]
    assert quiet == [
        "no limit of the provider is known: the first minute may meet its refusals, which burn nothing",
        "no worker was seen: nothing begins before `revec worker` runs",
    ]
    for name, model, dims, day in (
        ("the old model was switched off on", steps.OLD, 64, datetime.now(UTC).date() - timedelta(1)),
        ("the new model is switched off on", SMALL, 64, datetime.now(UTC).date() + timedelta(90)),
    ):
        provider = await app.provider(model, dims)
        known = replace(await provider.traits(), shutdown=day)

        async def traits(known: Traits = known) -> Traits:
            return known

        monkeypatch.setattr(provider, "traits", traits)
        assert any(risk.startswith(f"{name} {day}") for risk in (await planned(app, made)).facts["risks"])


async def test_the_order_of_the_tenants_is_shown(app: App, loopback: Loopback) -> None:
    """Group by group, as the backfill takes them; who waits stands apart."""
    made = await steps.collection(app)
    for number, tenant in enumerate("abcd"):
        await steps.put(app, made, steps.drafts(number + 1, start=10 * number, tenant=tenant))
    async with app.database.transaction() as conn:
        await tenants.say(conn, made.id, [Said("a", "gold", 9), Said("b", "gold", 9), Said("c", "silver", 5)])
    await steps.drain(app)
    facts = (await planned(app, made)).facts
    assert facts["order"] == [
        "3 documents of 2 tenants of tier gold (a, b)",
        "3 documents of 1 tenants of tier silver (c)",
        "4 documents of 1 tenants (d)",
    ]
    facts = (await planned(app, made, course=Course(priority=("d",), tenants=("d", "a")))).facts
    assert facts["order"] == ["4 documents of 1 tenants (d)", "1 documents of 1 tenants of tier gold (a)"]
    assert len(facts["waiting"]) == 2


@pytest.mark.parametrize(
    ("count", "size"), [(999, "small"), (1_000, "medium"), (10_000, "medium"), (10_001, "large")]
)
def test_a_size_class_ends_where_people_s_do(count: int, size: str) -> None:
    assert advice.size_class(count) == size


async def test_a_rollback_is_said_of_every_state_as_status_says_it(live: world.At) -> None:
    """One place says it: of the state that a migration is in, plan's words are those of `status`."""
    app, made = live
    ways = (await planned_anew(app, made))["rollback"]
    assert set(ways) == {str(state) for state in State}
    for state in (State.LIVE, State.FINISHING, State.READY):
        await world.force(app, state)
        seen = await world.look(app, made)
        assert ways[state].removesuffix("; `revec abort c` gives the new index up") == seen.rollback


async def planned_anew(app: App, made: Collection) -> dict[str, object]:
    """A plan, while no migration is under way."""
    await world.force(app, State.FINISHED)
    return (await app.plan(made, "openai:fake-128")).facts


class Page(HTMLParser):
    """What a browser would fetch, run or show."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not {name for name, _ in attrs} & {"src", "href", "onclick", "onload"}

    def handle_data(self, data: str) -> None:
        self.words += data


async def test_the_page_needs_nothing_but_itself(app: App, loopback: Loopback) -> None:
    """No script, nothing fetched; a tenant's name is text in it, whatever it is."""
    made = await steps.collection(app)
    await steps.put(app, made, steps.drafts(3, tenant="<script>alert(1)</script>"))
    await steps.drain(app)
    page = Page()
    plan = await planned(app, made)
    page.feed(told.html(plan))
    assert "script" not in page.tags
    assert "<script>alert(1)</script>" in page.words
    for label, words in told.lines(plan).items():
        assert label in page.words
        assert all(each in page.words for each in words)


async def test_the_facts_have_a_version_and_are_json(app: App, loopback: Loopback) -> None:
    made = await steps.filled(app, 3)
    facts = (await planned(app, made)).facts
    assert facts["version"] == 1
    assert facts["maintenance"].startswith("none")
    assert re.fullmatch(r'pg_dump --format=custom --file=before-c\.dump "\$REVEC_DSN"', facts["dump"])
    assert Decimal(str(facts["price_per_million"])) == Decimal("0.02")
    await app.start(made, SMALL, dims=64)
    (kept,) = await steps.rows(
        app, "SELECT evidence FROM revec.migration_event WHERE why = 'started' AND migration_id = 2"
    )
    assert kept.evidence["version"] == 1
