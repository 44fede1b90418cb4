"""Judged queries: what people said is a good answer, and what a migration has to prove by it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256

from revec.model.errors import BadInput
from revec.model.reading import Mode

Doc = tuple[str, str]  # source and key: what a document is known by, also after it was read anew

DEFAULT_SET = "default"
MARGIN = 0.02  # of nDCG@10 and of Recall@3: the loss that nobody minds


class Origin(StrEnum):
    """Who judged. Clicks have no way in yet."""

    FILE = "file"
    PERSON = "person"
    CLICKS = "clicks"


GRADES = {0: "no answer", 1: "touches on it", 2: "good", 3: "perfect"}  # what a person may say


def lines(words: str) -> str:
    """Each line's end as one character: a browser sends two, whatever was there."""
    return words.replace("\r\n", "\n").replace("\r", "\n")


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked, and in whose documents; None: in everybody's."""

    words: str
    tenant: str | None


@dataclass(frozen=True, slots=True)
class Said(Asked):
    """A person's word: how good this document is as an answer."""

    doc: Doc
    grade: int

    def __post_init__(self) -> None:
        if self.grade not in GRADES:
            said = ", ".join(f"{grade} ({word})" for grade, word in GRADES.items())
            raise BadInput(f"a grade is one of {said}, not {self.grade}")
        if not self.words.strip():
            raise BadInput("an empty query has no good answer: ask for something")


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """What is asked, in whose documents, and how good each answer is."""

    name: str  # its id in the set
    words: str
    grades: Mapping[Doc, int] = field(default_factory=dict)  # 0 or less: judged, not relevant
    tenant: str | None = None  # None: everybody's documents, as operators search
    segment: str = ""  # a word of the operator's own: a language, a kind of query

    @property
    def is_judged(self) -> bool:
        """Whether any answer is good: a figure of the others would be of nothing."""
        return any(grade > 0 for grade in self.grades.values())


@dataclass(frozen=True, slots=True)
class Quality:
    """What a migration's quality gate looks at, fixed when the migration begins."""

    judged: str  # the set's name
    margin: float = MARGIN
    mode: Mode = Mode.HYBRID

    def __post_init__(self) -> None:
        if not 0 < self.margin < 1:
            raise BadInput(
                f"--margin is the loss of nDCG@10 that nobody minds, between 0 and 1, not {self.margin:g}"
            )


def fingerprint(queries: Sequence[JudgedQuery]) -> str:
    """16 hex digits of the SHA-256 of all that a look at these queries depends on."""
    said = [
        [
            each.name,
            each.words,
            each.tenant,
            each.segment,
            sorted([*doc, n] for doc, n in each.grades.items()),
        ]
        for each in sorted(queries, key=lambda query: query.name)
    ]
    return sha256(json.dumps(said, separators=(",", ":")).encode()).hexdigest()[:16]
