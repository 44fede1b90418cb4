"""Judged queries as files, which `revec eval` and `revec judgements add` read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from revec.model.errors import BadInput
from revec.model.judging import JudgedQuery

_BREAKS = re.compile(r"[\t\r\n]|^\ufeff")  # what a line of tabs cannot hold, or a reader drops


def tabbed(queries: Sequence[JudgedQuery]) -> str:
    """Query id, document id, grade on each line.

    Raises:
        BadInput: it would be read otherwise than it was meant.
    """
    sources = {source for query in queries for source, _ in query.grades}
    if len(sources) > 1:
        raise BadInput(
            f"documents of {', '.join(sorted(sources))} are judged, and a line of tabs has no room for whose "
            "id it is: export as jsonl"
        )
    lines = [
        (query.name, key, grade) for query in queries for (_, key), grade in sorted(query.grades.items())
    ]
    for name, key, _ in lines:
        if broken := next((text for text in (name, key) if not text or _BREAKS.search(text)), None):
            raise BadInput(f"{broken[:40]!r} is an id that a line of tabs cannot hold: export as jsonl")
    return "".join(f"{name}\t{key}\t{grade}\n" for name, key, grade in lines)


def as_lines(queries: Iterable[JudgedQuery]) -> str:
    """The same with everything, as lines of JSON."""
    return _json(
        {"query": query.name, "document": key, "grade": grade, "source": source}
        for query in queries
        for (source, key), grade in sorted(query.grades.items())
    )


def asked(queries: Iterable[JudgedQuery]) -> str:
    """What is asked, which goes with either."""
    return _json(
        {"id": query.name, "text": query.words}
        | ({"tenant": query.tenant} if query.tenant is not None else {})
        | ({"segment": query.segment} if query.segment else {})
        for query in queries
    )


def _json(rows: Iterable[Mapping[str, object]]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)
