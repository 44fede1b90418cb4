"""Files of judgements, as verbs take them: queries with graded documents, and pairs of documents."""

from __future__ import annotations

import json as json_of
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from revec.model.errors import BadInput

if TYPE_CHECKING:
    from revec.search.duplicates import Judged
    from revec.search.judge import Qrels

QueriesFile = Annotated[Path, Parameter(help='Lines of {"id", "text"}.')]
QrelsFile = Annotated[Path, Parameter(help="Tab-separated: query id, document id, grade.")]


def of_queries(queries: Path, qrels: Path) -> tuple[dict[str, str], Qrels]:
    """Query id → text, and query id → document id → grade.

    Raises:
        BadInput: a file or a line cannot be read, or a judged query has no text.
    """
    from revec.search.judge import judged

    texts, grades = _queries(queries), _qrels(qrels)
    if missing := [query for query in judged(grades) if query not in texts]:
        raise BadInput(f"{qrels} judges query {missing[0]!r}, which {queries} does not have")
    return texts, grades


def of_pairs(file: Path) -> list[Judged]:
    """
    Raises:
        BadInput: the file or a line cannot be read.
    """
    from revec.search.duplicates import Judged

    pairs = []
    for number, value in _objects(file, '{"a", "b", "same"}'):
        one, other, same = (value.get(name) for name in ("a", "b", "same"))
        if one is None or other is None or not isinstance(same, bool):
            raise BadInput(f'{file}, line {number}: not two ids and true or false: {{"a", "b", "same"}}')
        pairs.append(Judged(str(one), str(other), same))
    return pairs


def _queries(file: Path) -> dict[str, str]:
    texts = {}
    for number, value in _objects(file, '{"id", "text"}'):
        try:
            texts[str(value["id"])] = str(value["text"])
        except KeyError as error:
            raise BadInput(f'{file}, line {number}: not a line like {{"id", "text"}}') from error
    return texts


def _qrels(file: Path) -> Qrels:
    grades: dict[str, dict[str, int]] = {}
    for number, line in enumerate(_lines(file), start=1):
        try:
            query, document, grade = line.split("\t")
            grades.setdefault(query, {})[document] = int(grade)
        except ValueError as error:
            raise BadInput(
                f"{file}, line {number}: not query id, document id, grade with tabs between"
            ) from error
    return grades


def _objects(file: Path, like: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(_lines(file), start=1):
        try:
            value = json_of.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{file}, line {number}: not a line like {like}") from error
        if not isinstance(value, dict):
            raise BadInput(f"{file}, line {number}: not a line like {like}")
        yield number, value


def _lines(file: Path) -> list[str]:
    try:
        return [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read {file}: {error}") from error
