"""A worker lives under its ceiling: in a control group, under a limit of address space, by its own word."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from revec.app import App
from revec.migrate.planning.recipe import Long
from revec.model.errors import BadInput
from revec.model.index import Collection
from revec.work import memory
from revec.work.memory import Memory, ceiling, cgroup_limit, cost
from revec.work.packing import Load
from tests import steps
from tests.capture import people
from tests.faults.harness import Command, commands
from tests.loopback import Loopback

MB = 1 << 20
MODEL = "openai:fake-1536"
GROUPS = Path("/sys/fs/cgroup/memory")
# 3,000 texts of 30 bytes to 2 MB, of all lengths, and one of 100 MB: 33 bytes a word.
TEXTS = """
INSERT INTO app.docs (id, title, body)
SELECT n, 'number ' || n, (SELECT string_agg(md5(n || '-' || i), ' ')
                             FROM generate_series(1, CASE WHEN n % 750 = 0 THEN 60000
                                                          WHEN n % 50 = 0 THEN 2000
                                                          ELSE 1 + n % 20 END) AS i)
  FROM generate_series(1, 3000) AS n
"""
GIANT = "INSERT INTO app.docs (id, title, body) VALUES (0, 'giant', repeat('a large text ', 8 << 20))"
WITNESSED = """
import atexit, os, resource, sys
{limit}
peak = lambda: [line for line in open('/proc/self/status') if line.startswith(('VmHWM', 'VmPeak'))]
atexit.register(lambda: sys.stderr.write(''.join(peak())))
from revec.cli.main import main
main()
"""


@pytest_asyncio.fixture
async def long_texts(app: App) -> AsyncIterator[Collection]:
    """A table with texts of every length, none of them a document yet."""
    made = await steps.collection(app, model=MODEL, long=Long(chunk="512 tokens, 64 overlap"))
    async with people.connected(app.database.dsn) as user:
        for statement in ("CREATE SCHEMA app", people.DOCS, TEXTS, GIANT):
            await user.execute(statement)
    await people.attached(app, made)
    yield made


@pytest_asyncio.fixture
async def start(app: App, loopback: Loopback, tmp_path: Path) -> AsyncIterator[Any]:
    async with commands(
        tmp_path, forked=False, REVEC_DSN=app.database.dsn, OPENAI_BASE_URL=loopback.url, OPENAI_API_KEY="k"
    ) as start:
        yield start


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of 256 MB, below our own."""
    own = Path("/proc/self/cgroup").read_text()
    found = re.search(r"^\d+:memory:(.*)$", own, re.MULTILINE)
    if not found or not os.access(GROUPS, os.W_OK):
        pytest.skip("no control group of memory may be made here (v1, root)")
    made = GROUPS / found[1].lstrip("/") / f"revec-{os.getpid()}"
    made.mkdir()
    try:
        (made / "memory.limit_in_bytes").write_text(str(256 * MB))
        yield made
    finally:
        with suppress(OSError):
            made.rmdir()


def peak(command: Command, name: str = "VmHWM") -> float:
    """MB, by the process's own word at its end."""
    found = re.search(rf"{name}:\s+(\d+) kB", command.said)
    assert found, command.said
    return int(found[1]) / 1024


async def assert_done(app: App, made: Collection, command: Command, dead: int = 1) -> None:
    """All 3,000 are searchable, the giant is a dead letter, nothing was killed."""
    assert await command.ended(300) == 1, command.said  # a dead letter is for a person to see
    letter, *more = await steps.rows(
        app,
        "SELECT d.cause, doc.key FROM revec.dead d JOIN revec.document doc ON doc.id = d.doc_id ORDER BY doc.key DESC",
    )
    assert len(more) == dead - 1, [letter, *more]
    assert letter.key == "0"
    assert letter.cause.startswith("text of 104 MB is more than")
    (index,) = await steps.written(app, made)
    chunked = await steps.rows(
        app,
        f"SELECT doc_id, count(*) AS n, max(chunk_count) AS whole FROM revec.vectors_{index.id} GROUP BY 1",
    )
    assert len(chunked) == 3000
    assert all(row.n == row.whole for row in chunked)
    assert max(row.n for row in chunked) > 900
    (moved,) = await steps.rows(
        app,
        "SELECT octet_length(d.body) AS n, d.body = u.body AS same FROM revec.document d, app.docs u WHERE d.key = '0' AND u.id = 0",
    )
    assert (moved.n, moved.same) == (13 * (8 << 20), True)


async def test_by_its_own_word(app: App, long_texts: Collection, start: Any) -> None:
    """`--memory 256M`: the process never takes more, whatever the texts are."""
    command = await start("worker", "--drain", "--memory", "256M", code=WITNESSED.format(limit=""))
    await assert_done(app, long_texts, command)
    assert "Traceback" not in command.said, command.said
    print(f"peak RSS {peak(command):.0f} MB of 256")
    assert peak(command) < 256


async def test_in_a_control_group(app: App, long_texts: Collection, start: Any, group: Path) -> None:
    """The limit of the group is found, and the kernel never has to act on it."""
    join = f"open('{group}/cgroup.procs', 'w').write(str(os.getpid()))"
    command = await start("worker", "--drain", code=WITNESSED.format(limit=join))
    await assert_done(app, long_texts, command)
    assert "Traceback" not in command.said, command.said
    print(f"peak RSS {peak(command):.0f} MB of 256")
    assert "oom_kill 0" in (group / "memory.oom_control").read_text()
    assert peak(command) < 256


LARGE = """
INSERT INTO app.docs (id, title, body)
SELECT -1, 'large', string_agg(md5(i::text), ' ') FROM generate_series(1, 1900000) AS i
"""


async def test_under_a_limit_of_address_space(app: App, long_texts: Collection, start: Any) -> None:
    """Where memory does run out (it was told a ceiling that is not there), it goes on with less.

    What alone takes more than there is becomes a dead letter, after some tries. Anything may fail on the
    way, the event loop's own reading too. (A thread's arena would reserve 64 MB that nobody uses.)
    """
    async with people.connected(app.database.dsn) as user:
        await user.execute(LARGE)
    limit = f"resource.setrlimit(resource.RLIMIT_AS, ({330 * MB}, {330 * MB}))"
    code = WITNESSED.format(limit=limit)
    command = await start("worker", "--drain", "--memory", "4G", code=code, MALLOC_ARENA_MAX="1")
    await assert_done(app, long_texts, command, dead=2)
    times = command.said.count("out of memory")
    print(f"peak {peak(command, 'VmPeak'):.0f} MB of 330, out of memory {times} times")
    assert "trying again: out of memory" in command.said
    assert peak(command) <= 330


async def test_an_idle_worker(app: App, start: Any) -> None:
    """What there is no way below."""
    await steps.collection(app, model=MODEL)
    command = await start("worker", "--drain", code=WITNESSED.format(limit=""))
    assert await command.ended(60) == 0, command.said
    print(f"an idle worker takes {peak(command):.0f} MB")
    assert peak(command) < 100


def test_nothing_is_held_above_the_room() -> None:
    """Of many that wait, as many go as fit; one that is larger than all goes alone; all come to an end."""

    async def story() -> int:
        here = Memory(512 * MB, slots=4)
        held = most = 0

        async def one(size: int) -> None:
            nonlocal held, most
            async with here.admitted(size):
                held += size
                most = max(most, held)
                assert held <= here.room or held == size
                await asyncio.sleep(0)
                held -= size

        sizes = [here.room // 3, here.room // 2, here.room * 2, 1000, here.room] * 20
        async with asyncio.timeout(10):
            await asyncio.gather(*map(one, sizes))
        return most

    assert asyncio.run(story()) > 0


def test_whoever_fails_gives_back() -> None:
    """An error, or the end of the task that waits, holds nobody up."""

    async def story() -> None:
        here = Memory(512 * MB)
        with pytest.raises(ValueError, match="mine"):
            async with here.admitted(here.room):
                raise ValueError("mine")
        async with here.admitted(here.room):
            waiting = asyncio.create_task(here.admitted(1).__aenter__())
            await asyncio.sleep(0)
            waiting.cancel()
        async with asyncio.timeout(5), here.admitted(here.room):
            pass

    asyncio.run(story())


def test_packs_shrink_when_memory_runs_out_and_grow_again() -> None:
    asked = Load(2048, 64_000, 8 * MB)

    async def story() -> None:
        here = Memory(4096 * MB)
        whole = here.bounded(asked, 64)
        assert whole == asked
        with pytest.raises(MemoryError):
            async with here.admitted(200 * MB):
                raise MemoryError
        assert here.room == 100 * MB
        small = here.bounded(asked, 64)
        assert small.tokens < whole.tokens / 3
        for _ in range(60):
            async with here.admitted(1):
                pass
        assert here.bounded(asked, 64) == whole
        assert here.room > 1000 * MB

    asyncio.run(story())


def test_packs_shrink_near_the_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the kernel has begun to reclaim."""
    asked = Load(2048, 64_000, 8 * MB)

    async def share(here: Memory, times: int) -> Load:
        for _ in range(times):
            async with here.admitted(1):
                pass
        return here.bounded(asked, 64)

    taken = [100 * MB]
    monkeypatch.setattr(memory, "resident", lambda: taken[0])
    here = Memory(4096 * MB)

    async def beside(cost: int) -> Load:
        async with here.admitted(cost):
            taken[0] = int(4096 * MB * 0.95)
            return await share(here, 1)

    assert asyncio.run(beside(3000 * MB)).tokens == asked.tokens // 2
    taken[0] = 6000 * MB
    assert asyncio.run(share(here, 50)).tokens == asked.tokens, (
        "a model of 6 GB is nothing that smaller packs would help"
    )
    monkeypatch.undo()
    here = Memory(4096 * MB)
    monkeypatch.setattr(memory, "reclaimed", lambda: here._reclaimed + 1)
    assert asyncio.run(share(here, 1)).tokens == asked.tokens // 2


async def test_the_leavings_of_a_long_text_do_not_refuse_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was freed and is still counted as ours is given back before anything is judged by it."""
    taken = [100 * MB]
    monkeypatch.setattr(memory, "resident", lambda: taken[0])
    monkeypatch.setattr(memory, "give_back", lambda: taken.__setitem__(0, 110 * MB))
    here = Memory(256 * MB, slots=2)

    async with here.admitted(MB):
        taken[0] = 190 * MB
    async with here.admitted(MB):
        assert here.room > 90 * MB
    assert not here.refuses(2 * MB, 34 * MB)


async def test_what_looks_full_beside_others_is_refused_to_nobody_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It waits until they are done; beside them, nobody knows how much of the process is theirs."""
    taken = [100 * MB]
    monkeypatch.setattr(memory, "resident", lambda: taken[0])
    here = Memory(256 * MB, slots=2)

    async with here.admitted(MB):
        taken[0] = 190 * MB
        async with here.admitted(MB):
            assert here.room < 34 * MB
            assert not here.refuses(2 * MB, 34 * MB)
    async with here.admitted(MB):
        assert here.refuses(2 * MB, 34 * MB), "weights that have come to stay"


def test_freed_memory_is_given_back_to_the_system() -> None:
    """As far as its library can (glibc): small pieces below one that is still there stay with the process."""
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("this system's C library gives back by itself, or not at all")
    pieces = [bytes(2000) for _ in range(50_000)]
    last = pieces.pop()
    before = memory.resident()
    del pieces
    memory.give_back()
    assert memory.resident() < before - 50 * MB
    assert len(last) == 2000


def test_a_ceiling_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(BadInput, match="leaves no room: the worker alone takes"):
        Memory(32 * MB).require_room()
    Memory(16_384 * MB).require_room()  # this very process may be a large one


@pytest.mark.parametrize(
    ("asked", "size"), [("256M", 256 * MB), ("1g", 1024 * MB), ("300 MiB", 300 * MB), ("1024KB", MB)]
)
def test_amounts(asked: str, size: int) -> None:
    assert ceiling(asked) == size


@pytest.mark.parametrize("asked", ["", "much", "-1M", "0", "1.5G"])
def test_a_wrong_amount_is_refused(asked: str) -> None:
    with pytest.raises(BadInput, match="write it like 256M"):
        ceiling(asked)


@pytest.mark.parametrize(
    ("own", "files", "limit"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "268435456"}, 256 * MB),
        ("0::/a/b\n", {"a/b/memory.max": "1000", "a/memory.max": "2000"}, 1000),
        ("0::/host/path\n", {"memory.max": "5000"}, 5000),  # a container that sees only its own mount
        ("4:memory:/a\n1:cpu:/\n0::/\n", {"memory/a/memory.limit_in_bytes": "4096"}, 4096),
        ("4:memory:/gone\n", {"memory/memory.limit_in_bytes": "4096"}, 4096),
        ("4:memory:/a\n", {"memory/a/memory.limit_in_bytes": "9223372036854771712"}, None),
        ("0::/\n", {}, None),
        ("", {}, None),
    ],
)
def test_the_limit_of_a_control_group(
    tmp_path: Path, own: str, files: dict[str, str], limit: int | None
) -> None:
    """Version 2 and version 1, the lowest on the way up."""
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        (tmp_path / "mount" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mount" / name).write_text(text)
    assert cgroup_limit(tmp_path / "own", tmp_path / "mount") == limit


def test_a_chunked_text_costs_its_vectors() -> None:
    assert cost(MB, 1536, 448) > cost(MB, 1536, None) + 700 * 1536
