"""Real models on real judgements: a better one passes, a worse one fails, the same one rebuilt is the same.

Through the product: a collection moves from WordLlama to MiniLM, to MiniLM again with another kind of index, and
back to WordLlama; each time the quality gate has its one look.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from revec.app import App
from revec.migrate.check import check
from revec.migrate.compare import Advice, Compared
from revec.model.document import Draft
from revec.model.errors import MissingExtra
from revec.model.index import Collection, Kind
from revec.model.judging import JudgedQuery, Quality
from revec.model.migration import State
from revec.model.reading import Mode
from revec.model.verdict import Outcome, Verdict
from revec.postgres import judgements, migrations
from tests import steps
from tests.conftest import settings_for
from tests.migrate import world

DATA = Path(__file__).parents[2] / "../shared/data"
WORDLLAMA, MINILM = "local:wordllama-256", "local:minilm-384"
EVERY = {"cranfield": 1, "banking77": 6}  # how many documents and queries a test can wait for
DECLARED = Quality("default", mode=Mode.VECTOR)

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="there is no ../shared/data here")


def lines(name: str, file: str, every: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name / file).read_text(encoding="utf-8").splitlines()][
        ::every
    ]


def queries(name: str, every: int, documents: set[str]) -> list[JudgedQuery]:
    """With the judgements of the documents that are there."""
    grades: dict[str, dict[tuple[str, str], int]] = {}
    for line in (DATA / name / "qrels.tsv").read_text(encoding="utf-8").splitlines():
        query, document, grade = line.split("\t")
        if document in documents:
            grades.setdefault(query, {})["push", document] = int(grade)
    asked = lines(name, "queries.jsonl", every)
    return [JudgedQuery(q["id"], q["text"], grades.get(q["id"], {}), "default") for q in asked]


async def filled(app: App, name: str, every: int) -> Collection:
    """The documents and their judgements, served by WordLlama."""
    documents = lines(name, "docs.jsonl", every)
    try:
        made = await steps.collection(app, model=WORDLLAMA)
        await steps.put(app, made, [Draft(each["id"], each["title"], each["text"]) for each in documents])
        await steps.drain(app)
        await app.provider(MINILM)
    except MissingExtra as error:
        pytest.skip(str(error))
    async with app.database.transaction() as conn:
        asked = queries(name, every, {each["id"] for each in documents})
        await judgements.put(conn, made, "default", asked)
    return made


async def moved(app: App, made: Collection, to: str, declared: Quality = DECLARED, **how: Any) -> Verdict:
    """What the quality gate says of moving there."""
    await app.start(made, to, judged=declared, **how)
    await steps.drain(app)
    migration = await world.migration(app, made)
    async with app.database.transaction() as conn:
        found = await migrations.verdicts(conn, migration)
    assert found, (await world.look(app, made)).next
    assert found["completeness"][0].outcome is Outcome.PASSED
    assert found["fidelity"][0].outcome is Outcome.PASSED
    return found["quality"][0]


async def served(app: App, made: Collection) -> None:
    """Cut over, and the old index gone."""
    await app.commands.switch.cutover(made, why="test")
    await app.commands.switch.finish(made, wait=timedelta(0), why="test")
    await steps.drain(app)


async def there_and_back(app: App, name: str, every: int) -> tuple[Verdict, Verdict, Verdict]:
    """Verdicts of the better model, of the same one rebuilt, and of the worse one."""
    made = await filled(app, name, every)
    better = await moved(app, made, MINILM)
    await served(app, made)
    same = await moved(app, made, MINILM, kind=Kind.HNSW)
    await app.commands.abort(made, "the test has seen it")
    worse = await moved(app, made, WORDLLAMA)
    assert await world.state(app, made) is State.VERIFYING
    assert await check(app.database, freshness=60) == []
    return better, same, worse


@pytest_asyncio.fixture
async def quick(dsn: str) -> AsyncIterator[App]:
    """Fidelity is not what is asked here: it embeds few texts again."""
    async with App(settings_for(dsn, "http://127.0.0.1:9/v1", fidelity_sample=20)) as opened:
        yield opened


@pytest.mark.parametrize("name", EVERY)
async def test_the_better_model_passes_and_the_worse_one_fails(quick: App, name: str) -> None:
    """And what is the same is said to be the same, on few queries perhaps that nobody can tell."""
    better, same, worse = await there_and_back(quick, name, EVERY[name])
    print(f"\n{name}: {better}\n{name}: {same}\n{name}: {worse}")
    assert better.outcome is Outcome.PASSED
    assert better.why.startswith("better by ")
    assert worse.outcome is Outcome.FAILED
    assert worse.why.startswith("worse by ")
    unsure = {Outcome.PASSED} | ({Outcome.INCONCLUSIVE} if name == "cranfield" else set())
    assert same.outcome in unsure
    assert "no material difference" in same.why or same.outcome is Outcome.INCONCLUSIVE


async def compared(app: App, name: str, every: int) -> Compared:
    made = await filled(app, name, every)
    async with app.database.transaction() as conn:
        asked = await judgements.read(conn, made, "default")
    return await app.compare(made, MINILM, asked)


async def test_a_comparison_costs_little_and_is_paid_once(quick: App) -> None:
    """At most 3% of the bytes; a start afterwards embeds the rest; nothing is registered meanwhile."""
    found = await compared(quick, "banking77", EVERY["banking77"])
    print(f"\n{found.told}\n{found.facts}")
    assert 0 < found.share <= 0.03
    assert found.advice in {Advice.UPGRADE, Advice.CANNOT_TELL}
    async with quick.database.transaction() as conn:
        assert len(await (await conn.execute("SELECT id FROM revec.index")).fetchall()) == 1
        paid = await (await conn.execute("SELECT count(*) AS n FROM revec.paid")).fetchone()
    assert paid is not None
    assert 0 < paid.n <= found.documents
