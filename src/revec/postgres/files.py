"""Files that several processes share: locks that die with their holder, writes that are whole."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ALONE = fcntl.LOCK_EX
ALONE_OR_NOT_AT_ALL = fcntl.LOCK_EX | fcntl.LOCK_NB
AMONG_OTHERS = fcntl.LOCK_SH


def write(path: Path, text: str, *, mode: int = 0o644) -> None:
    """All of it or nothing."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=0o600)
    unfinished.write_text(text)
    unfinished.chmod(mode)
    sync(unfinished)
    unfinished.rename(path)


def sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    os.fsync(file)
    os.close(file)


def lock(path: Path, how: int) -> int:
    """Held until the file is closed, by us or by the kernel when we die."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, how)
    except BaseException:
        os.close(file)
        raise
    return file


@contextmanager
def locked(path: Path, how: int) -> Iterator[int]:
    file = lock(path, how)
    try:
        yield file
    finally:
        os.close(file)
