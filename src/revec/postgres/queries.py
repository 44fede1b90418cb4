"""Named queries from the `.sql` file beside a module.

A query is `-- name: claim`, then comment lines that say why, then the statement. It is reached as
`SQL.claim`. Names of tables are filled in by `SQL.claim.format(vectors=Identifier(...))` only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString, cast

from psycopg import sql

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Statement:
    """A query and its parameters, to be run by itself or as a part of another one."""

    query: sql.SQL | sql.Composed
    parameters: dict[str, Any]


class Queries:
    """The queries of one file, as attributes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        _, *parts = _NAME.split(path.read_text(encoding="utf-8"))
        self._queries = {
            # Files of our own package are as literal as our code.
            name: sql.SQL(cast("LiteralString", text.strip().rstrip(";")))
            for name, text in zip(parts[::2], parts[1::2], strict=True)
        }

    def __getattr__(self, name: str) -> sql.SQL:
        try:
            return self._queries[name]
        except KeyError:
            raise AttributeError(f"{self._path.name} has no query named {name}") from None

    def names(self) -> list[str]:
        return list(self._queries)


def beside(module_file: str) -> Queries:
    """What the `.sql` twin of a module holds."""
    return Queries(Path(module_file).with_suffix(".sql"))
