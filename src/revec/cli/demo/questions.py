"""Questions in a person's own words, each with the one document that answers it.

No question shares a content word with the first sentence of its answer, so finding it takes
meaning, not spelling. They were written by hand and never tuned against a model's ranking.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

QUESTIONS = Path(__file__).with_name("questions.tsv")


@dataclass(frozen=True, slots=True)
class Question:
    text: str
    answer: str  # the key of a Doc


def questions() -> Iterator[Question]:
    for line in QUESTIONS.read_text(encoding="utf-8").splitlines():
        text, answer = line.split("\t")
        yield Question(text, answer)
