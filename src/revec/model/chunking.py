"""A space's recipe for long texts: windows of tokens that overlap and begin and end at sentences.

The windows are a function of the text, the recipe and the model's own count of tokens alone, so that
verify cuts a text where the worker did.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, chain, repeat
from typing import NamedTuple

from revec.model.errors import BadInput

Span = tuple[int, int]  # characters, from and to
Count = Callable[[Sequence[str]], list[int]]  # texts → how many tokens each is

NONE, BY_THE_MODEL = "none", "by the model"
FEWEST, MOST = 16, 1_000_000  # tokens of a window
AT_ONCE = 1_000  # sentences to be counted in one go
STRETCH = 65_536  # characters that are looked at together
LONGEST = 64  # characters: hardly any token has more

# Latin, Indic and Arabic stops end a sentence before a blank, those of CJK wherever they stand; so does
# the end of a line. Every repetition is bounded or of blanks: no text makes this slow.
_END = re.compile(r"""[.!?…।؟۔]["'”’»)\]]{0,4}(?=\s)|[。！？｡．]["”’」』）】]{0,4}|\S(?=\s*\n)""")  # noqa: RUF001 - they look alike and are not
_WORD = re.compile(r"\S+")  # the blanks before it are part of it
_RECIPE = re.compile(r"(\d+) tokens?(?:, (\d+) overlap)?(?:, sentences)?")
_CUT = re.compile(r"at (\d+) tokens")


@dataclass(frozen=True, slots=True)
class Chunking:
    """Windows of at most `tokens`, each beginning with at most `overlap` tokens of the one before."""

    tokens: int
    overlap: int = 0

    def __str__(self) -> str:
        return f"{self.tokens} tokens, {self.overlap} overlap, sentences"


class Unit(NamedTuple):
    """What is not cut any further."""

    start: int
    end: int
    tokens: int


@cache
def chunking(recipe: str) -> Chunking | None:
    """`512 tokens, 64 overlap, sentences` → its numbers; None for `none`.

    Raises:
        BadInput: it is no recipe, or one that no text can be cut by.
    """
    if recipe == NONE:
        return None
    found = _RECIPE.fullmatch(" ".join(recipe.split()))
    if not found:
        raise BadInput(f"{recipe!r} is no way to chunk: write it like '512 tokens, 64 overlap', or none")
    made = Chunking(int(found[1]), int(found[2] or 0))
    if not FEWEST <= made.tokens <= MOST:
        raise BadInput(f"chunks of {made.tokens:,} tokens: take {FEWEST} to {MOST:,}, 512 is usual")
    if made.overlap > made.tokens // 2:
        raise BadInput(
            f"chunks of {made.tokens:,} tokens cannot overlap by {made.overlap:,}: half of them is the most"
        )
    return made


@cache
def truncation(recipe: str) -> int | None:
    """`at 512 tokens` → 512; None for `by the model`.

    Raises:
        BadInput: it is neither.
    """
    if recipe == BY_THE_MODEL:
        return None
    found = _CUT.fullmatch(recipe)
    if not found or not 1 <= int(found[1]) <= MOST:
        raise BadInput(f"{recipe!r} is no way to truncate: write 'at 512 tokens', or '{BY_THE_MODEL}'")
    return int(found[1])


def windows(text: str, made: Chunking, count: Count, *, head: str = "") -> Iterator[Span]:
    """The windows in order; together they cover every character.

    `head` stands before each of them and is counted with it. Only a single character may be longer
    than a window.
    """

    def size(units: Sequence[Unit]) -> int:
        return count([head + text[units[0].start : units[-1].end]])[0]

    units = _units(text, made.tokens, count, head)
    ahead: deque[Unit] = deque()
    window: list[Unit] = []
    fresh = guess = 0  # units that the window before had not; tokens
    while True:
        unit = ahead.popleft() if ahead else next(units, None)
        if unit and window and guess + unit.tokens > made.tokens:
            guess = size(window)  # counted apart, sentences seem longer than they are together
        if fresh and (unit is None or guess + unit.tokens > made.tokens):
            while fresh > 1 and size(window) > made.tokens:  # or shorter
                if unit:
                    ahead.appendleft(unit)
                unit, fresh = window.pop(), fresh - 1
            yield window[0].start, window[-1].end
            window, fresh = _last(window, made.overlap), 0
            while unit and window and size([*window, unit]) > made.tokens:
                window.pop(0)  # less overlap, rather than a window too long
            guess = size(window) if window else 0
        if unit is None:
            return
        window.append(unit)
        fresh, guess = fresh + 1, guess + unit.tokens


def _last(window: list[Unit], tokens: int) -> list[Unit]:
    """As many of the last units as have no more tokens in all."""
    sums = accumulate(unit.tokens for unit in reversed(window))
    return window[len(window) - sum(each <= tokens for each in sums) :]


def fits(text: str, tokens: int, count: Count) -> bool:
    """Whether the text has no more tokens; a very long one is not even counted."""
    return len(text) <= tokens * LONGEST and count([text])[0] <= tokens


def cut(text: str, tokens: int, count: Count, *, head: str = "") -> str:
    """The text's beginning, of so many tokens with its head; the end of a sentence where there is one."""
    if fits(head + text, tokens, count):
        return text
    beginning = text[: tokens * LONGEST]
    start, end = next(windows(beginning, Chunking(tokens), count, head=head))
    return beginning[start:end].rstrip()


def _units(text: str, limit: int, count: Count, head: str) -> Iterator[Unit]:
    """Sentences; of one that no window holds its words; of such a word parts. As they are asked for:
    all words of a book are more than its memory.
    """
    (of_head,) = count([head]) if head else [0]
    for stretch in _stretches(text):
        spans = stretch
        sizes: dict[Span, int] = {}  # with the head
        for cutter in chain([_words], repeat(_halves)):
            new = [span for span in spans if span not in sizes]
            for at in range(0, len(new), AT_ONCE):
                some = new[at : at + AT_ONCE]
                sizes.update(zip(some, count([head + text[start:end] for start, end in some]), strict=True))
            long = {(start, end) for start, end in spans if sizes[start, end] > limit and end - start > 1}
            if not long:
                break
            spans = [part for span in spans for part in (cutter(text, *span) if span in long else [span])]
        for start, end in spans:
            yield Unit(start, end, max(0, sizes[start, end] - of_head))


def _stretches(text: str) -> Iterator[list[Span]]:
    """The sentences, some at a time; one that is longer than a stretch is cut at a blank, or anywhere."""
    stretch: list[Span] = []
    start = 0
    for end in chain((found.end() for found in _END.finditer(text)), [len(text)]):
        while end > start:
            upto = end
            if end - start > STRETCH:
                blank = text.rfind(" ", start + 1, start + STRETCH)
                upto = blank if blank > 0 else start + STRETCH
            stretch.append((start, upto))
            start = upto
            if upto - stretch[0][0] >= STRETCH:
                yield stretch
                stretch = []
    if stretch:
        yield stretch


def _words(text: str, start: int, end: int) -> Iterator[Span]:
    ends = (start + found.end() for found in _WORD.finditer(text[start:end]))
    return _spans(start, chain(ends, [end]))


def _halves(_: str, start: int, end: int) -> Iterator[Span]:
    return _spans(start, [(start + end) // 2, end])


def _spans(start: int, ends: Iterable[int]) -> Iterator[Span]:
    """From each end to the next, where there is anything between them."""
    for end in ends:
        if end > start:
            yield start, end
            start = end
