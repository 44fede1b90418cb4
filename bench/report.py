"""What every bench prints: the machine, the versions, and its figures as the last line."""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import psycopg

PACKAGES = ("revec", "psycopg", "pgvector", "numpy")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value; `met` is None where it is only reported."""

    what: str
    value: float
    goal: float | None = None
    met: bool | None = None


def at_least(what: str, value: float, goal: float) -> Figure:
    return Figure(what, round(value, 3), goal, value >= goal)


def at_most(what: str, value: float, goal: float) -> Figure:
    return Figure(what, round(value, 3), goal, value <= goal)


def reported(what: str, value: float) -> Figure:
    return Figure(what, round(value, 3))


def print_machine(dsn: str | None = None) -> None:
    """Where and on what this is measured; without a DSN no server is part of it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(
        f"machine: {_processor()}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB, "
        f"{platform.system()} {platform.release()}, load {load}"
    )
    libraries = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    print(f"versions: Python {sys.version.split()[0]}, {libraries}")
    if dsn is not None:
        print(_server(dsn))


def _server(dsn: str) -> str:
    with psycopg.connect(dsn) as conn:
        ours, vector = conn.execute(
            "SELECT current_setting('server_version'),"
            "       (SELECT installed_version FROM pg_available_extensions WHERE name = 'vector')"
        ).fetchone() or ("?", "?")
        settings = conn.execute(
            "SELECT string_agg(name || ' ' || current_setting(name), ', ' ORDER BY name)"
            "  FROM pg_settings WHERE name IN ('shared_buffers', 'max_wal_size',"
            "       'synchronous_commit', 'fsync', 'full_page_writes')"
        ).fetchone()
    return f"server: PostgreSQL {ours}, pgvector {vector}; {settings[0] if settings else ''}"


def finish(name: str, figures: list[Figure]) -> None:
    """One figure a line for a person, then all of them on the last line for a program."""
    for figure in figures:
        verdict = (
            "" if figure.met is None else f"  (goal {figure.goal:,}: {'met' if figure.met else 'MISSED'})"
        )
        print(f"{figure.what}: {figure.value:,}{verdict}")
    print("BENCH " + json.dumps({"name": name, "figures": [asdict(each) for each in figures]}))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
