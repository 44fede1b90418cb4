"""A filtered search: what the filter lets through, all of it, nothing else; and what may be seen is never more."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from revec.app import App
from revec.model import filter as filters
from revec.model.errors import BadInput
from revec.model.filter import All, Comparison, Either, Filter, Not, Operator, parsed
from revec.model.index import Collection, Kind
from revec.postgres import documents
from revec.postgres.filters import condition
from revec.stores import pgvector
from tests import steps
from tests.loopback import Loopback

ROOT = Path(__file__).parents[2]
KINDS = pytest.mark.parametrize("kind", steps.KINDS)
QUERY = "a question"
LIBRARY = [  # metadata of the documents 0, 1, …
    {"lang": "en", "year": 2019},
    {"lang": "en", "year": 2021, "secret": True},
    {"lang": "de", "year": 2021, "tags": ["new", "cheap"]},
    {"lang": "de", "year": "2021"},
    {},
]


# --- an oracle in Python --------------------------------------------------------------------------


def holds(where: Filter, metadata: dict[str, Any]) -> bool:
    """docs/filters.md, in Python."""
    match where:
        case Not(part):
            return not holds(part, metadata)
        case All(parts):
            return all(holds(part, metadata) for part in parts)
        case Either(parts):
            return any(holds(part, metadata) for part in parts)
        case Comparison(field, operator, values):
            found = metadata.get(field)
            elements = found if isinstance(found, list) else [found]
            return any(compares(operator, element, value) for element in elements for value in values)


def compares(operator: Operator, found: Any, value: Any) -> bool:
    def kind(of: Any) -> str:
        return (
            "bool" if isinstance(of, bool) else "number" if isinstance(of, int | float) else type(of).__name__
        )

    if kind(found) != kind(value):
        return False
    match operator:
        case Operator.EQ | Operator.IN:
            return bool(found == value)
        case Operator.GT:
            return bool(found > value)
        case Operator.GTE:
            return bool(found >= value)
        case Operator.LT:
            return bool(found < value)
        case _:
            return bool(found <= value)


FIELDS = ("a", "b", "and.or", "ü", 'qu"ote', "'; DROP TABLE x --", "%s", "%(where_0)s", "$.a", "")
TEXTS = (
    "",
    "a",
    "B",
    "b",
    "é",
    "z",
    "Z",
    "😀",
    "1",
    "true",
    "null",
    "'",
    '"',
    "\\",
    "%",
    "$value",
    "2024-02-29",
)
NUMBERS = (0, 1, -1, 1.0, 1.5, 2**53, 2**53 + 1, 10**20, 1e300, -0.0, 0.1, 3)
SCALARS = (*TEXTS, *NUMBERS, True, False)


def some_metadata(chance: random.Random) -> dict[str, Any]:
    def value() -> Any:
        scalar = chance.choice(SCALARS)
        return chance.choice(
            [scalar, scalar, scalar, [scalar, chance.choice(SCALARS)], [], None, {"a": scalar}, [[scalar]]]
        )

    return {field: value() for field in chance.sample(FIELDS, chance.randint(0, 6))}


def some_filter(chance: random.Random, depth: int = 1) -> dict[str, Any]:
    if depth < 4 and chance.random() < 0.4:
        inner = [some_filter(chance, depth + 1) for _ in range(chance.randint(1, 3))]
        return {"not": inner[0]} if chance.random() < 0.4 else {chance.choice(["and", "or"]): inner}
    field = chance.choice(FIELDS[:4] if chance.random() < 0.7 else FIELDS)
    match chance.randint(0, 2):
        case 0:
            return {field: chance.choice(SCALARS)}
        case 1:
            return {field: {"in": chance.sample(SCALARS, chance.randint(0, 5))}}
        case _:
            operators = chance.sample(["gt", "gte", "lt", "lte"], chance.randint(1, 2))
            return {field: {each: chance.choice([*TEXTS, *NUMBERS]) for each in operators}}


async def test_any_filter_means_what_the_pages_say(app: App) -> None:
    """600 random filters over 200 random documents: SQL and Python agree on every one."""
    chance = random.Random(4)
    library = {n: some_metadata(chance) for n in range(200)}
    passed = refused = 0
    async with app.database.transaction() as conn:
        for _ in range(600):
            written = some_filter(chance)
            where = parsed(json.loads(json.dumps(written)))
            matching, parameters = condition(where)
            rows = await conn.execute(
                sql.SQL(
                    "SELECT d.id, {} AS holds FROM unnest(%(ids)s::int[], %(metadata)s::jsonb[]) AS d (id, metadata)"
                ).format(matching),
                {
                    "ids": list(library),
                    "metadata": [json.dumps(each) for each in library.values()],
                    **parameters,
                },
            )
            for row in await rows.fetchall():
                expected = holds(where, library[row.id])
                assert row.holds is expected, (written, library[row.id])
                passed += expected
                refused += not expected
    assert min(passed, refused) > 20_000


# --- through a search -----------------------------------------------------------------------------


async def shelved(
    app: App, *, kind: Kind = Kind.EXACT, metadata: list[dict[str, Any]] | None = None
) -> Collection:
    """Documents 0, 1, … with this metadata, and forty with none of it."""
    made = await steps.collection(app, kind=kind)
    given = LIBRARY if metadata is None else metadata
    drafts = steps.drafts(len(given) + 40)
    await steps.put(
        app,
        made,
        [
            steps.Draft(d.key, d.title, d.body, metadata=given[n] if n < len(given) else {"lang": "fr"})
            for n, d in enumerate(drafts)
        ],
    )
    await steps.drain(app)
    return made


async def shown(app: App, written: Any, *, visible: Any = None, k: int = 100) -> set[str]:
    reading = await app.retriever.search(
        "c",
        QUERY,
        k=k,
        tenant="default",
        where=None if written is None else parsed(written),
        visible=None if visible is None else parsed(visible),
    )
    return {hit.id for hit in reading.hits}


@KINDS
@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"lang": "en"}, {"0", "1"}),
        ({"year": 2021}, {"1", "2"}),
        ({"year": "2021"}, {"3"}),
        ({"year": {"gte": 2020, "lt": 2022}}, {"1", "2"}),
        ({"lang": {"in": ["en", "de"]}, "not": {"secret": True}}, {"0", "2", "3"}),
        ({"tags": "cheap"}, {"2"}),
        ({"lang": {"in": []}}, set()),
        ({"lang": "' OR true --"}, set()),
        ({"lang') OR true --": "en"}, set()),
    ],
)
async def test_a_search_shows_what_the_filter_lets_through(
    app: App, loopback: Loopback, kind: Kind, written: Any, expected: set[str]
) -> None:
    """All of it, nothing else, by the exact scan and by the graph."""
    await shelved(app, kind=kind)
    assert await shown(app, written) == expected


@KINDS
@pytest.mark.parametrize("small", [0, 5_000], ids=["by the graph", "all rows"])
async def test_a_strict_filter_leaves_k_hits(
    app: App, loopback: Loopback, kind: Kind, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in ten passes, and the ten nearest of those come, in their order, as if nothing else were there."""
    monkeypatch.setattr(pgvector, "SMALL_TENANT", small)
    await shelved(app, kind=kind, metadata=[{"n": n % 10} for n in range(400)])
    everything = await app.retriever.search("c", QUERY, k=1_000, tenant="default")
    assert len(everything.hits) == 440
    expected = [hit.id for hit in everything.hits if int(hit.id) < 400 and int(hit.id) % 10 == 3]
    found = await app.retriever.search("c", QUERY, k=10, tenant="default", where=parsed({"n": 3}))
    assert [hit.id for hit in found.hits] == expected[:10]


async def test_an_edit_of_metadata_counts_at_once(app: App, loopback: Loopback) -> None:
    """And nothing is embedded for it."""
    made = await shelved(app)
    assert await shown(app, {"lang": "it"}) == set()
    loopback.clear()
    await steps.put(
        app, made, [steps.Draft("3", "document 3", "text of document 3", metadata={"lang": "it"})]
    )
    assert await shown(app, {"lang": "it"}) == {"3"}
    assert await shown(app, {"lang": "de"}) == {"2"}
    assert loopback.log() == []  # not even the query: it is remembered
    await steps.assert_oracle(app, made)


async def test_what_may_be_seen_is_not_widened(app: App, loopback: Loopback) -> None:
    """Whatever the caller writes; without a filter of his own too."""
    await shelved(app)
    visible = {"lang": "en", "not": {"secret": True}}
    assert await shown(app, None, visible=visible) == {"0"}
    for written in (
        {"or": [{"lang": "de"}, {"lang": "en"}]},
        {"not": {"lang": "nothing"}},
        {"or": [{"secret": True}, {"not": {"secret": True}}]},
        {"year": {"gte": 0}},
    ):
        assert await shown(app, written, visible=visible) <= {"0"}
    assert await shown(app, {"lang": "de"}, visible=visible) == set()
    assert await shown(app, {"lang": "en"}, visible={"lang": {"in": []}}) == set()


async def test_a_leg_that_forgets_the_filter_shows_nothing_more(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The documents are asked once more before they are shown; k of them come all the same."""
    await shelved(app)
    nearest = app.store.nearest

    async def forgetful(*arguments: Any, where: Filter | None = None, **how: Any) -> Any:
        return await nearest(*arguments, **how)

    monkeypatch.setattr(app.store, "nearest", forgetful)
    assert await shown(app, {"lang": "en"}, k=2) == {"0", "1"}
    assert await shown(app, None, visible={"lang": "en"}, k=2) == {"0", "1"}


async def test_a_document_that_leaves_the_filter_in_mid_search_is_not_shown(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is hidden after the scan and before the hits are read: hidden it is."""
    made = await shelved(app)
    hydrate = documents.hydrate

    async def late(*arguments: Any, **more: Any) -> Any:
        hidden = steps.Draft("0", "document 0", "text of document 0", metadata={"lang": "hidden"})
        await steps.put(app, made, [hidden])
        return await hydrate(*arguments, **more)

    monkeypatch.setattr(documents, "hydrate", late)
    assert await shown(app, None, visible={"lang": "en"}) == {"1"}


@pytest.mark.parametrize("how", ["where", "visible"])
async def test_what_the_store_cannot_do_is_refused(
    app: App, loopback: Loopback, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never dropped: neither what is asked for nor, worse, what may be seen."""
    await shelved(app)
    monkeypatch.setattr(app.store, "filters", frozenset({Operator.EQ}))
    assert await shown(app, {"lang": "en"}) == {"0", "1"}
    with pytest.raises(BadInput, match="cannot filter by not: it knows eq"):
        await app.retriever.search("c", QUERY, tenant="default", **{how: parsed({"not": {"lang": "en"}})})


async def test_a_filtered_search_through_a_pooler_and_as_a_plain_owner(
    any_app: App, loopback: Loopback
) -> None:
    await shelved(any_app)
    assert await shown(any_app, {"lang": "en", "year": {"lt": 2020}}) == {"0"}


def test_the_page_on_filters_knows_every_operator() -> None:
    page = (ROOT / "docs" / "filters.md").read_text(encoding="utf-8")
    assert all(f"`{each}`" in page or f'"{each}"' in page for each in Operator)
    for number in (
        filters.DEEPEST,
        filters.MOST_COMPARISONS,
        f"{filters.MOST_VALUES:,}",
        f"{filters.LONGEST:,}",
    ):
        assert str(number) in page
