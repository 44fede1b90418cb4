"""Users that never stop: one writes into the table, one searches, and both keep book."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg

from revec.model.errors import RevecError
from revec.model.reading import Reading
from revec.search.retriever import Retriever

WRITES_A_SECOND = 20
SEARCHES_A_SECOND = 10
WORDS = ("amber", "basalt", "cedar", "delta", "ember", "fjord", "granite", "harbor", "indigo", "juniper")


@dataclass(slots=True)
class Writer:
    """Inserts, edits and deletes rows of the user's own table, and remembers what was acknowledged."""

    dsn: str
    titles: dict[str, str]  # of the rows that were there before and may be edited
    seed: int = 7
    acknowledged: int = 0
    state: dict[str, str | None] = field(default_factory=dict)  # key → its last body; None: deleted

    async def run(self) -> None:
        chance = random.Random(self.seed)
        connection = await psycopg.AsyncConnection.connect(self.dsn, autocommit=True)
        async with connection:
            while True:
                began = time.monotonic()
                await self._write(connection, chance)
                self.acknowledged += 1
                await asyncio.sleep(max(0.0, began + 1 / WRITES_A_SECOND - time.monotonic()))

    async def _write(self, conn: psycopg.AsyncConnection, chance: random.Random) -> None:
        alive = [key for key, body in self.state.items() if body is not None]
        body = f"note {self.acknowledged}: " + " ".join(chance.choices(WORDS, k=12))
        what = chance.random()
        if what < 0.1 and alive:
            key = chance.choice(alive)
            await conn.execute("DELETE FROM app.docs WHERE name = %s", (key,))
            self.state[key] = None
        elif what < 0.4:
            key = chance.choice([key for key in self.titles if self.state.get(key, "") is not None])
            await conn.execute("UPDATE app.docs SET body = %s WHERE name = %s", (body, key))
            self.state[key] = body
        else:
            key = f"note.{self.acknowledged}"
            self.titles[key] = key
            await conn.execute(
                "INSERT INTO app.docs (name, signature, body) VALUES (%s, %s, %s)", (key, key, body)
            )
            self.state[key] = body


@dataclass(frozen=True, slots=True)
class Answer:
    """One search as its user had it."""

    began: float  # time.monotonic()
    seconds: float
    query: str
    reading: Reading | None
    error: str | None


@dataclass(slots=True)
class Searcher:
    """Asks on and on, whatever goes on behind."""

    retriever: Retriever
    queries: Sequence[str]
    answers: list[Answer] = field(default_factory=list)

    async def run(self) -> None:
        number = 0
        while True:
            began = time.monotonic()
            query = self.queries[number % len(self.queries)]
            reading, error = None, None
            try:
                reading = await self.retriever.search("docs", query, k=10, tenant="default")
            except (RevecError, psycopg.Error) as failure:
                error = f"{type(failure).__name__}: {failure}"
            self.answers.append(Answer(began, time.monotonic() - began, query, reading, error))
            number += 1
            await asyncio.sleep(max(0.0, began + 1 / SEARCHES_A_SECOND - time.monotonic()))

    def p95_ms(self, since: float, until: float) -> float:
        """The 95th percentile of the searches begun in between, in milliseconds."""
        times = sorted(a.seconds for a in self.answers if since <= a.began < until)
        return 1000 * times[int(0.95 * (len(times) - 1))] if times else float("nan")
