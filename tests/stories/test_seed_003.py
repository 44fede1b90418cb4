"""From embedding in the request to a queue and back: what a team does whose articles were embedded one by one.

10,000 articles, half of them embedded by the requests that wrote them. The other half goes through the queue,
watched; one of them is poison. At the end writes are inline again, and what was queued meanwhile is not lost.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from revec.app import App
from revec.capture.push import push
from revec.model.document import Draft
from revec.model.index import Collection
from revec.model.reading import Mode
from revec.postgres import collections
from revec.work.overview import overview
from tests import steps
from tests.conftest import TRIALS
from tests.doors.test_cli import Shell
from tests.loopback import Loopback

FIGURES = ("documents", "done", "waiting", "in_hand", "failed", "excluded")
POISON = "article-7"
BATCH = 500
COUNT = 10_000 if TRIALS > 3 else 600  # in `make stress`, and in `make test`


def article(number: int) -> Draft:
    key = f"article-{number}"
    return Draft(key, f"On {key}", f"text of {key}." + " It is poison." * (key == POISON))


async def written(app: App, made: Collection, numbers: range) -> set[str]:
    """By requests of an application, some at a time; how they were answered."""
    standings = set()
    for start in range(numbers.start, numbers.stop, BATCH):
        some = [article(number) for number in range(start, min(start + BATCH, numbers.stop))]
        answer = await app.inline.answer(made, await push(app.database, made, some), None)
        standings |= {str(stand.standing) for stand in answer.stands}
    return standings


@pytest.mark.stress
async def test_sync_to_queue_and_back(app: App, loopback: Loopback, tmp_path: Path) -> None:
    """Plan, queue, monitor, a poison article, list failed, retry, back to inline: every count is asserted."""
    revec = Shell(tmp_path, REVEC_DSN=app.database.dsn, OPENAI_BASE_URL=loopback.url, OPENAI_API_KEY="k")
    count, half = COUNT, COUNT // 2
    made = await steps.collection(app, "articles")
    await steps.drain(app)
    loopback.clear()

    async def counts() -> dict[str, int]:
        async with app.database.transaction() as conn:
            (index,) = (await overview(conn, made)).indexes
        return {name: count for name in FIGURES if (count := getattr(index, name))}

    def paid() -> int:
        return len([line for line in loopback.bill() if line["model"] == "fake-64"])

    # The application as it was: each request embeds what it writes, and no worker runs.
    assert revec("collections", "mode", "articles", "inline") == "articles: writes are inline.\n"
    assert await written(app, made, range(half, count)) == {"searchable"}
    assert await counts() == {"documents": half, "done": half}
    assert paid() == half

    # The other half was written and never embedded. What there is to do, before anything is done.
    assert revec("collections", "mode", "articles", "queued") == "articles: writes are queued.\n"
    loopback.fault("refuse", times=None, match="poison")
    assert await written(app, made, range(half)) == {"pending"}
    assert await counts() == {"documents": count, "done": half, "waiting": half}
    assert (await app.plan(made, steps.NEW)).documents == count
    assert "FAILED articles: workers: 0 of 1" in revec("queue", "health", "articles", code=1)
    assert paid() == half

    # The queue is worked off and watched.
    watching = asyncio.create_task(
        asyncio.to_thread(revec, "queue", "monitor", "articles", "--until-idle", "--every", "0.05")
    )
    drained = await asyncio.to_thread(revec, "worker", "--drain", "--quiet", code=1)
    assert f"dead letter {POISON}" in drained
    lines = (await watching).splitlines()
    assert f"{count - 1:,} done, 1 failed" in lines[-1]
    (figures,) = revec.json("queue", "stats", "articles")["indexes"]
    assert (figures["documents"], figures["done"], figures["failed"]) == (count, count - 1, 1)
    assert await counts() == {"documents": count, "done": count - 1, "failed": 1}

    # One article failed: which, why, and how often; then the rest of the story without it.
    assert "FAILED articles: failed: 1" in revec("queue", "health", "articles", code=1)
    revec("queue", "health", "articles", "--failed", "1")
    (failed,) = revec.json("queue", "list", "articles", "failed")
    assert (failed["key"], failed["attempts"]) == (POISON, 1)
    shown = revec("queue", "show", "articles", POISON)
    assert "not to our taste" in shown
    assert "It is poison" not in shown
    exported = [json.loads(line) for line in revec("queue", "export", "articles").splitlines()]
    assert len(exported) == count
    assert [line["key"] for line in exported if line["state"] == "failed"] == [POISON]
    revec("queue", "export", "articles", "done.jsonl", "--only", "done")
    assert len((tmp_path / "done.jsonl").read_text().splitlines()) == count - 1

    # Tried again in vain, and then with success.
    revec("queue", "retry", "articles")
    await asyncio.to_thread(revec, "worker", "--drain", "--quiet", code=1)
    assert await counts() == {"documents": count, "done": count - 1, "failed": 1}
    loopback.clear()
    revec("queue", "retry", "articles", "--id", POISON)
    await asyncio.to_thread(revec, "worker", "--drain", "--quiet")
    assert await counts() == {"documents": count, "done": count}
    assert revec("queue", "health", "articles").count("ok ") == 5

    # Some are queued when the team goes back to what it knows; some of these it does not want.
    await written(app, made, range(count, count + 10))
    assert "3 documents are excluded" in revec(
        *("queue", "cancel", "articles", "--reason", "drafts"),
        *(part for number in range(count, count + 3) for part in ("--id", f"article-{number}")),
    )
    said = revec("collections", "mode", "articles", "inline")
    assert said == "articles: writes are inline; 7 documents are queued, and stay so: workers do them.\n"
    assert await written(app, made, range(count + 10, count + 15)) == {"searchable"}
    assert await counts() == {"documents": count + 15, "done": count + 5, "waiting": 7, "excluded": 3}
    found = await app.retriever.search(
        "articles",
        f"On article-{count + 12}\ntext of article-{count + 12}.",
        tenant="default",
        mode=Mode.VECTOR,
    )
    assert found.hits[0].id == f"article-{count + 12}"

    # Nothing was lost: what was queued, and what was cancelled once it is wanted after all.
    revec("queue", "retry", "articles", "--excluded")
    await asyncio.to_thread(revec, "worker", "--drain", "--quiet")
    assert await counts() == {"documents": count + 15, "done": count + 15}
    async with app.database.transaction() as conn:
        assert await collections.write_mode(conn, made.id) == "inline"
    await steps.assert_oracle(app, made)
