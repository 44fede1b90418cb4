"""Files of judgements, as verbs take them: queries with graded documents, and pairs of documents."""

from __future__ import annotations

import csv
import json as json_of
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from cyclopts import Parameter

from revec.model.errors import BadInput
from revec.model.judging import JudgedQuery

if TYPE_CHECKING:
    from revec.search.duplicates import Judged
    from revec.search.judge import Qrels

QueriesFile = Annotated[Path, Parameter(help='Lines of {"id", "text"}.')]
QrelsFile = Annotated[
    Path,
    Parameter(
        help="TREC qrels, lines of query id, document id, grade with tabs, JSON lines, or Quepid's CSV."
    ),
]
TREC = 4  # columns
QUEPID = ("query", "docid", "rating")
Bad = list[str]  # what is wrong with lines that were left out: file, number, reason
Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True)
class Grade:
    """One line of judgements."""

    query: str
    document: str
    grade: int
    source: str | None = None  # None: the file does not say


def of_queries(queries: Path, qrels: Path) -> tuple[dict[str, str], Qrels]:
    """Query id → text, and query id → document id → grade.

    Raises:
        BadInput: a file or a line cannot be read, or a judged query has no text.
    """
    from revec.search.judge import judged

    texts = {query.name: query.words for query in _queries(queries, None)}
    grades: dict[str, dict[str, int]] = {}
    for each in _grades(qrels, None):
        grades.setdefault(each.query, {})[each.document] = each.grade
    if missing := [query for query in judged(grades) if query not in texts]:
        raise BadInput(f"{qrels} judges query {missing[0]!r}, which {queries} does not have")
    return texts, grades


def of_sets(
    queries: Path | None, qrels: Path, *, source: str, tenant: str | None, bad: Bad
) -> list[JudgedQuery]:
    """Judged queries; lines that cannot be read are left out, and named in `bad`.

    Quepid's file says what is asked itself, so that it needs no `queries`.

    Args:
        source: of a document whose line names none.
        tenant: in whose documents a query is asked that names nobody; None: in everybody's.

    Raises:
        BadInput: a file cannot be read, or there is nobody who says what is asked.
    """
    if queries is None and qrels.suffix != ".csv":
        raise BadInput(f"what is asked is not in {qrels}: add --queries FILE")
    asked = {query.name: query for query in _queries(queries, bad)} if queries else {}
    found: dict[str, dict[tuple[str, str], int]] = {}
    unknown = set()
    for each in _grades(qrels, bad):
        if queries and each.query not in asked:
            unknown.add(each.query)
            continue
        found.setdefault(each.query, {})[each.source or source, each.document] = each.grade
    bad += [f"{qrels} judges query {name!r}, which {queries} does not have" for name in sorted(unknown)]
    return [
        replace(query, grades=grades, tenant=query.tenant or tenant)
        for name, grades in found.items()
        for query in [asked.get(name) or JudgedQuery(name, name)]
    ]


def of_pairs(file: Path) -> list[Judged]:
    """
    Raises:
        BadInput: the file or a line cannot be read.
    """
    from revec.search.duplicates import Judged

    def pair(line: str) -> Judged:
        value = _object(line, like := '{"a", "b", "same"}')
        one, other, same = (value.get(name) for name in ("a", "b", "same"))
        if one is None or other is None or not isinstance(same, bool):
            raise BadInput(f"not two ids and true or false: {like}")
        return Judged(str(one), str(other), same)

    return list(_parsed(file, pair, None))


def _queries(file: Path, bad: Bad | None) -> Iterator[JudgedQuery]:
    return _parsed(file, _query, bad)


def _query(line: str) -> JudgedQuery:
    value = _object(line, like := '{"id", "text"}')
    if value.get("id") is None or not str(value.get("text") or "").strip():
        raise BadInput(f"not a line like {like}")
    tenant, segment = (value.get(name) or "" for name in ("tenant", "segment"))
    return JudgedQuery(str(value["id"]), str(value["text"]), tenant=str(tenant) or None, segment=str(segment))


def _grades(file: Path, bad: Bad | None) -> Iterator[Grade]:
    if file.suffix == ".csv":
        return _quepid(file, bad)
    return _parsed(file, _json_grade if file.suffix == ".jsonl" else _trec_grade, bad)


def _trec_grade(line: str) -> Grade:
    """Four columns as TREC has them, of which the second says nothing; or three."""
    columns = line.split("\t") if "\t" in line else line.split()
    try:
        if len(columns) == TREC:
            del columns[1]
        query, document, grade = columns
        return Grade(query, document, int(grade))
    except ValueError as error:
        raise BadInput("not query id, document id, grade with tabs between, nor a line of TREC's") from error


def _json_grade(line: str) -> Grade:
    value = _object(line, like := '{"query", "document", "grade"}')
    query, document, grade = (value.get(name) for name in ("query", "document", "grade"))
    if query is None or document is None or not isinstance(grade, int):
        raise BadInput(f"not a line like {like}")
    source = value.get("source")
    return Grade(str(query), str(document), int(grade), None if source is None else str(source))


def _quepid(file: Path, bad: Bad | None) -> Iterator[Grade]:
    """A query stands there in words. What nobody has rated yet is there too, and is passed over."""
    rows = csv.DictReader(StringIO(_text(file), newline=""))
    if missing := [name for name in QUEPID if name not in (rows.fieldnames or ())]:
        raise BadInput(f"{file} has no column {missing[0]!r}: Quepid's have {','.join(QUEPID)}")
    for row in rows:
        query, document, rating = ((row[name] or "").strip() for name in QUEPID)
        if not rating:
            continue
        if query and document and re.fullmatch(r"-?\d{1,6}(\.0*)?", rating):
            yield Grade(query, document, int(float(rating)))
        else:
            _leave_out(f"{file}, line {rows.line_num}: not {', '.join(QUEPID)}", bad)


def _object(line: str, like: str) -> dict[str, Any]:
    try:
        value = json_of.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"not a line like {like}") from error
    if not isinstance(value, dict):
        raise BadInput(f"not a line like {like}")
    return value


def _parsed(file: Path, parse: Callable[[str], Parsed], bad: Bad | None) -> Iterator[Parsed]:
    """Each line that is not empty; of one that cannot be read the number and the reason go to `bad`.

    Raises:
        BadInput: the same, where nobody collects them.
    """
    for number, line in enumerate(_text(file).split("\n"), start=1):
        if line.strip():
            try:
                yield parse(line)
            except BadInput as error:
                _leave_out(f"{file}, line {number}: {error}", bad)


def _leave_out(why: str, bad: Bad | None) -> None:
    if bad is None:
        raise BadInput(why)
    bad.append(why)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read {file}: {error}") from error
