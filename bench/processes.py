"""A process under measurement: its peak memory and CPU by /proc, and a hard ceiling around it."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

MIB = 2**20
LOOK_EVERY = 0.05  # seconds
TICKS = os.sysconf("SC_CLK_TCK")
V1, V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


@dataclass(slots=True)
class Measured:
    """A child process, watched until it ends. `/proc` forgets it with its end, so it is read all along."""

    process: subprocess.Popen[str]
    peak_mib: float = 0.0  # resident: VmHWM, which begins anew at exec, as ru_maxrss does not
    cpu: float = 0.0  # seconds, user and system
    _watch: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._watch = threading.Thread(target=self._look_until_it_ends, daemon=True)
        self._watch.start()

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        code = self.process.wait(timeout)
        self._watch.join()
        return code

    def _look_until_it_ends(self) -> None:
        while self.process.returncode is None:
            with suppress(OSError, StopIteration):  # it has just ended
                self.cpu = max(self.cpu, cpu_seconds(self.process.pid))
                self.peak_mib = max(self.peak_mib, peak_mib(self.process.pid))
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(LOOK_EVERY)


def started(
    command: Sequence[str], *, environment: Mapping[str, str], cwd: Path, ceiling: Path | None = None
) -> Measured:
    """Start it, inside the memory ceiling from its first byte on where there is one."""
    if ceiling is not None:
        command = ["sh", "-c", 'echo $$ > "$0"/cgroup.procs && exec "$@"', str(ceiling), *command]
    process = subprocess.Popen(
        command, cwd=cwd, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
    )
    return Measured(process)


@contextmanager
def memory_ceiling(mib: int) -> Iterator[Path | None]:
    """A cgroup of that size, v1 or v2; None where this user may make none."""
    v1 = (V1 / "memory.limit_in_bytes").exists()
    group = (V1 if v1 else V2) / f"revec-bench-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        yield None
        return
    try:
        limit = group / ("memory.limit_in_bytes" if v1 else "memory.max")
        try:
            limit.write_text(str(mib * MIB), encoding="ascii")
        except OSError:  # v2 without the memory controller
            yield None
        else:
            yield group
    finally:
        group.rmdir()


def oom_kills(ceiling: Path) -> int:
    """How often the kernel killed somebody in there for its memory."""
    v1 = ceiling / "memory.oom_control"
    events = v1 if v1.exists() else ceiling / "memory.events"
    pairs = dict(line.split() for line in events.read_text(encoding="ascii").splitlines())
    return int(pairs["oom_kill"])


def peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kilobytes) / 1024


def cpu_seconds(pid: int, *, reaped_children: bool = False) -> float:
    """User and system time of a process; of the children that it saw end, too, if asked."""
    after_name = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2]
    user, system, children_user, children_system = map(int, after_name.split()[11:15])
    ticks = user + system + (children_user + children_system if reaped_children else 0)
    return ticks / TICKS


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def family_cpu_seconds(pid: int) -> float:
    """Of a server that forks: itself, the children that have ended, and those alive."""
    spent = cpu_seconds(pid, reaped_children=True)
    for child in children(pid):
        with suppress(OSError):
            spent += cpu_seconds(child)
    return spent
