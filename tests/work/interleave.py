"""Two stories on real connections, in every order of their statements: like PostgreSQL's isolationtester.

Each story is the product's own code on a `Stepped` database, where every statement and every commit
waits for its turn. A statement that waits for the other story's lock is seen in `pg_blocking_pids`; it
finishes when it can. Every schedule that can happen is tried, by depth-first search over the turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from psycopg import AsyncConnection

from revec.postgres.database import Database, Role

PATIENCE = 10.0  # seconds until a story that goes nowhere is a failure
Story = Callable[[Database], Awaitable[object]]

BLOCKED = "SELECT pid FROM unnest(%s::int[]) AS pid WHERE cardinality(pg_blocking_pids(pid)) > 0"


class Stepped(Database):
    """A database whose statements take turns; BEGIN goes along with the first one."""

    def __init__(self, dsn: str, *, quiet: Sequence[str] = ("set_config",)) -> None:
        super().__init__(dsn, connections=1)
        self.at: str | None = None  # the statement that waits for its turn
        self.pid: int | None = None
        self._turn = asyncio.Event()
        self._quiet = quiet

    @asynccontextmanager
    async def transaction(self, role: Role = "owner", *, tenant: str | None = None) -> AsyncIterator[Any]:
        async with super().transaction(role, tenant=tenant) as conn:
            self.pid = conn.info.backend_pid
            yield SteppedConnection(conn, self)
            await self.turn("COMMIT")

    async def turn(self, what: str) -> None:
        if any(word in what for word in self._quiet):
            return
        self.at = what
        await self._turn.wait()
        self._turn.clear()

    def go(self) -> str:
        was, self.at = self.at, None
        assert was is not None
        self._turn.set()
        return was


class SteppedConnection:
    """A connection that waits for its turn before it speaks."""

    def __init__(self, conn: Any, stepped: Stepped) -> None:
        self._conn, self._stepped = conn, stepped

    async def execute(self, query: Any, *arguments: Any, **how: Any) -> Any:
        text = query if isinstance(query, str) else query.as_string(None)
        await self._stepped.turn(text.strip().split("\n")[0][:60])
        return await self._conn.execute(query, *arguments, **how)

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[None]:
        """Statement by statement: a pipeline only saves time."""
        yield

    def transaction(self, *arguments: Any, **how: Any) -> Any:
        return self._conn.transaction(*arguments, **how)


@dataclass(slots=True)
class Schedule:
    """Who went when: the choices that were made, and how many there were."""

    turns: list[str] = field(default_factory=list)
    chosen: list[int] = field(default_factory=list)
    choices: list[int] = field(default_factory=list)

    def next(self) -> list[int] | None:
        """The choices of the next schedule; None after the last one."""
        chosen, choices = list(self.chosen), list(self.choices)
        while chosen and chosen[-1] + 1 == choices[-1]:
            chosen.pop()
            choices.pop()
        return [*chosen[:-1], chosen[-1] + 1] if chosen else None

    def __str__(self) -> str:
        return "\n".join(self.turns)


async def schedules(
    monitor: AsyncConnection[Any],
    databases: Sequence[Stepped],
    stories: Callable[[], Awaitable[Sequence[Story]]],
) -> AsyncIterator[Schedule]:
    """Every schedule of the stories, each just after it ran; `stories` prepares a fresh pair of them."""
    prefix: list[int] | None = []
    while prefix is not None:
        schedule = await _run(monitor, databases, await stories(), prefix)
        yield schedule
        prefix = schedule.next()


async def _run(
    monitor: AsyncConnection[Any],
    databases: Sequence[Stepped],
    stories: Sequence[Story],
    prefix: Sequence[int],
) -> Schedule:
    schedule = Schedule()
    tasks = [asyncio.create_task(story(database)) for database, story in zip(databases, stories, strict=True)]
    try:
        while True:
            await _settled(monitor, databases, tasks, schedule)
            free = [number for number, database in enumerate(databases) if database.at]
            if not free:
                break
            step = len(schedule.chosen)
            choice = prefix[step] if step < len(prefix) else 0
            schedule.chosen.append(choice)
            schedule.choices.append(len(free))
            number = free[choice]
            schedule.turns.append(f"{'AB'[number]}: {databases[number].go()}")
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        for database in databases:
            database.at = None
            database._turn.clear()
    return schedule


async def _settled(
    monitor: AsyncConnection[Any],
    databases: Sequence[Stepped],
    tasks: Sequence[asyncio.Task[Any]],
    schedule: Schedule,
) -> None:
    """Until every story waits for its turn, waits for the other's lock, or is over."""
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                running = [
                    database
                    for database, task in zip(databases, tasks, strict=True)
                    if not database.at and not task.done()
                ]
                if not running:
                    return
                pids = [database.pid for database in running if database.pid]
                found = await (await monitor.execute(BLOCKED, (pids,))).fetchall()
                moving = [d for d in running if not d.at]
                if len(found) == len(moving) == len(running) < len(databases):
                    return
                await asyncio.sleep(0)
    except TimeoutError:
        raise AssertionError(f"nobody can go on after\n{schedule}") from None
