"""The ceiling: how much memory this process may take, and who holds how much of it.

Documents are measured in the database and read only when what they will take is free. What the process
takes besides (its code, a local model's weights) is looked up, not guessed.
"""

from __future__ import annotations

import asyncio
import ctypes
import re
import resource
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from revec.model.errors import BadInput
from revec.work.packing import Load

DEFAULT = 512 << 20
UNLIMITED = 1 << 60  # v1 writes the largest number of pages where nobody set a limit
SPARE = 0.2  # of the ceiling: what no estimate knows of
LEAST_ROOM = 16 << 20  # to work at all
LARGEST = 64  # a document's text may be one part in so many of the ceiling
COPIES = 8  # of a text: libpq's, Python's, the rendered one, the request; two bytes a character and more
ANSWERED = 24  # bytes per dim of a vector on its way: the body in two pieces, base64, float32 twice
KEPT = 8  # bytes per dim until the write is over: float16, and three copies in the statement
BYTES_A_TOKEN = 3  # fewer than usual: an estimate of chunks should be too high
HIGH = 0.9  # of the ceiling: packs shrink
LEAST_SHARE = 1 / 32
GROWTH = 1.1  # of packs, a batch that went well

_LIBC = ctypes.CDLL(None)
_SIZE = re.compile(r"(\d+)\s*([KMG]?)(?:i?B)?", re.IGNORECASE)
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30}


class MoreThanThereIs(MemoryError):
    """What was admitted had all the room for itself."""


class Memory:
    """One for a process. `slots`: how many claims are worked off at once."""

    def __init__(self, ceiling: int = DEFAULT, *, slots: int = 1) -> None:
        self.ceiling = ceiling
        self._slots = slots
        self._held = 0
        self._idle = self._base = resident()  # besides: when nobody held any; at its most since then
        self._share = 1.0  # of a pack's limits
        self._proven = float(ceiling)  # what the system would not give, it does not have
        self._reclaimed = reclaimed()
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    @property
    def most(self) -> int:
        """Bytes that the ceiling leaves to all claims together, at best."""
        return self._beside(self._idle)

    @property
    def room(self) -> int:
        """Bytes that they may take now: of those that the ceiling leaves, what the system gave before."""
        return max(LEAST_ROOM, min(self._beside(self._base), int(self._proven)))

    @property
    def largest_text(self) -> int:
        """Bytes: a longer one is not read at all."""
        return self.ceiling // LARGEST

    def refuses(self, text: int, cost: int) -> bool:
        """Whether a text of so many bytes, at that cost in all, is never read."""
        return text > self.largest_text or cost > self.most

    def require_room(self) -> None:
        """Refuse at once what would end as an out-of-memory kill later.

        Raises:
            BadInput: this process alone fills the ceiling.
        """
        if self.ceiling * (1 - SPARE) < self._base + LEAST_ROOM:
            raise BadInput(
                f"a ceiling of {shown(self.ceiling)} leaves no room: the worker alone takes "
                f"{shown(self._base)}; give it more with --memory, or a larger limit of the container"
            )

    def bounded(self, limits: Load, dims: int) -> Load:
        """The limits of a pack whose answer fits beside the texts of the other claims."""
        half = self.room // self._slots // 2
        least = replace(
            limits,
            inputs=max(1, min(limits.inputs, half // (dims * ANSWERED))),
            bytes=max(1, min(limits.bytes, half // COPIES)),
        )
        return least.shrunk(self._share)

    def batches(self, costs: Mapping[int, int]) -> Iterator[set[int]]:
        """Documents whose costs together are this claim's share of the room; one alone always goes."""
        most = int(self.room // self._slots * self._share)
        batch: set[int] = set()
        held = 0
        for doc_id, cost in costs.items():
            if batch and held + cost > most:
                yield batch
                batch, held = set(), 0
            batch.add(doc_id)
            held += cost
        if batch:
            yield batch

    @asynccontextmanager
    async def admitted(self, cost: int) -> AsyncIterator[None]:
        """Wait, in turn, until so many bytes are free. Nobody who waits holds any, so it comes to an end:
        what is more than all of the room goes alone.
        """
        async with self._turn:
            while self._held and self._held + cost > self.room:
                self._freed.clear()
                await self._freed.wait()
            self._look()
            self._held += cost
        self._adapt()
        try:
            yield
        except MemoryError as error:
            alone = self._held == cost
            self._proven = min(cost, self.room) / 2
            self._share = max(LEAST_SHARE, self._share / 4)
            if alone:
                raise MoreThanThereIs from error
            raise
        finally:
            self._held -= cost
            self._freed.set()

    def _beside(self, base: int) -> int:
        return max(LEAST_ROOM, int(self.ceiling * (1 - SPARE)) - base)

    def _look(self) -> None:
        """What the process takes besides: a model's weights may have come since."""
        if resident() - self._held > self._idle:
            give_back()
        besides = resident() - self._held
        if self._held:  # by estimates, which are high
            self._base = max(self._base, besides)
        else:
            self._base = self._idle = besides

    def _adapt(self) -> None:
        self._proven = min(self.ceiling, self._proven * GROWTH)
        before, self._reclaimed = self._reclaimed, reclaimed()
        # What the process takes besides is not made less by smaller packs.
        if resident() > max(self.ceiling * HIGH, self._base + self.room) or self._reclaimed > before:
            self._share = max(LEAST_SHARE, self._share / 2)
        else:
            self._share = min(1.0, self._share * GROWTH)


def cost(text: int, dims: int, window: int | None) -> int:
    """Bytes that a document of so many bytes takes while it is worked on; `window`: new tokens a chunk."""
    chunks = 1 + text // (window * BYTES_A_TOKEN) if window else 1
    return text * COPIES + chunks * dims * KEPT


def ceiling(asked: str | None) -> int:
    """Bytes: what was asked for, else the limit of this process's cgroup, else 512 MB.

    Raises:
        BadInput: what was asked for is no size.
    """
    if asked is None:
        return cgroup_limit() or DEFAULT
    found = _SIZE.fullmatch(asked.strip())
    if not found or not int(found[1]):
        raise BadInput(f"{asked!r} is no amount of memory: write it like 256M or 2G")
    return int(found[1]) << _UNITS[found[2].upper()]


def cgroup_limit(own: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The lowest memory limit of this process's control group and of those above it, v2 or v1."""
    found = []
    for folder, name in _groups(own, mount):
        # In a container the group's path may be the host's, and its files at the mount itself.
        for place in (folder, *folder.parents):
            if not place.is_relative_to(mount):
                break
            text = _read(place / name).strip()
            if text.isdecimal() and int(text) < UNLIMITED:
                found.append(int(text))
    return min(found, default=None)


def reclaimed(own: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")) -> int:
    """How often this process's group has met its limit (v2's memory.events); 0 where nobody counts."""
    counts = 0
    for folder, name in _groups(own, mount):
        if name == "memory.max":
            events = dict(line.split() for line in _read(folder / "memory.events").splitlines())
            counts += int(events.get("high", 0)) + int(events.get("max", 0))
    return counts


def _groups(own: Path, mount: Path) -> Iterator[tuple[Path, str]]:
    """(folder, name of the file with the limit)."""
    for line in _read(own).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            yield mount / "memory" / path.lstrip("/"), "memory.limit_in_bytes"
        elif not controllers:
            for root in (mount, mount / "unified"):
                yield root / path.lstrip("/"), "memory.max"


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def resident() -> int:
    """Bytes of real memory that this process takes; at its worst so far where no /proc tells."""
    if fields := _read(Path("/proc/self/statm")).split():
        return int(fields[1]) * resource.getpagesize()
    worst = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return worst if sys.platform == "darwin" else worst << 10


def give_back() -> None:
    """Let the system have what was freed. glibc keeps it: what a long text leaves would count as taken."""
    if trim := getattr(_LIBC, "malloc_trim", None):
        trim(0)


def shown(size: int) -> str:
    """For a person: whole MB."""
    return f"{max(1, round(size / 2**20)):,} MB"
