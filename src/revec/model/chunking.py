"""A space's recipe for long texts: windows of tokens that overlap and begin and end at sentences.

The windows are a function of the text, the recipe and the model's own count of tokens alone, so that
verify cuts a text where the worker did.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, chain, repeat

from revec.model.errors import BadInput

Span = tuple[int, int]  # characters, from and to
Count = Callable[[Sequence[str]], list[int]]  # texts → how many tokens each is

NONE, BY_THE_MODEL = "none", "by the model"
FEWEST, MOST = 16, 1_000_000  # tokens of a window
AT_ONCE = 1_000  # sentences to be counted in one go
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
    units = list(_units(text, made.tokens, count, head))
    borders = [0, *(end for _, end, _ in units)]
    sums = [0, *accumulate(tokens for *_, tokens in units)]

    def size(first: int, last: int) -> int:
        return count([head + text[borders[first] : borders[last]]])[0]

    first = done = 0
    while done < len(units):
        last = done + 1
        while first < done and size(first, last) > made.tokens:
            first += 1  # less overlap, rather than a window too long
        while True:  # counted apart, units seem longer than they are together: fill up what is left
            left = made.tokens - size(first, last)
            further = bisect_right(sums, sums[last] + left) - 1
            while further > last and size(first, further) > made.tokens:
                further -= 1
            if further <= last:
                break
            last = further
        yield borders[first], borders[last]
        done, first = last, bisect_left(sums, sums[last] - made.overlap)


def cut(text: str, tokens: int, count: Count, *, head: str = "") -> str:
    """The text's beginning, of so many tokens with its head; the end of a sentence where there is one."""
    if count([head + text])[0] <= tokens:
        return text
    beginning = text[: tokens * LONGEST]
    start, end = next(windows(beginning, Chunking(tokens), count, head=head))
    return beginning[start:end].rstrip()


def _units(text: str, limit: int, count: Count, head: str) -> Iterator[tuple[int, int, int]]:
    """(start, end, tokens): sentences; of one that no window holds its words; of such a word parts."""
    (of_head,) = count([head]) if head else [0]
    spans = list(_spans(0, [*(found.end() for found in _END.finditer(text)), len(text)]))
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
        yield start, end, max(0, sizes[start, end] - of_head)


def _words(text: str, start: int, end: int) -> Iterator[Span]:
    ends = (start + found.end() for found in _WORD.finditer(text[start:end]))
    return _spans(start, [*ends, end])


def _halves(_: str, start: int, end: int) -> Iterator[Span]:
    return _spans(start, [(start + end) // 2, end])


def _spans(start: int, ends: Sequence[int]) -> Iterator[Span]:
    """From each end to the next, where there is anything between them."""
    for end in ends:
        if end > start:
            yield start, end
            start = end
