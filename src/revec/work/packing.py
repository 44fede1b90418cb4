"""Packs: which texts go to the provider in one call. Pure, so that a property test can hold its promises."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from revec.providers.base import Traits

# Of a pack where the provider asks for nothing less: beyond it an answer takes longer, and no more of them
# come in a minute.
INPUTS, TOKENS, BYTES = 2_048, 64_000, 8 << 20
NEARLY = 0.95  # of a pack: a claim that is a little too large leaves a crumb of a pack behind
FIRST_CLAIM, LARGEST_CLAIM = 256, 4_096  # documents


@dataclass(frozen=True, slots=True)
class Load:
    """What texts weigh, or how much of that a pack may hold."""

    inputs: int = 0
    tokens: int = 0
    bytes: int = 0

    def __add__(self, other: Load) -> Load:
        return Load(self.inputs + other.inputs, self.tokens + other.tokens, self.bytes + other.bytes)

    def within(self, limits: Load) -> bool:
        return self.inputs <= limits.inputs and self.tokens <= limits.tokens and self.bytes <= limits.bytes

    def shrunk(self, share: float) -> Load:
        """A part of it, never nothing: one input always goes."""
        return Load(*(max(1, int(each * share)) for each in (self.inputs, self.tokens, self.bytes)))


@dataclass(frozen=True, slots=True)
class Part:
    """Texts `start` to `stop` of the document at this place."""

    document: int
    start: int
    stop: int


def limits(traits: Traits, tokens: int | None = None) -> Load:
    """Of one call to the model; `tokens`: and no more than so many."""
    return Load(
        inputs=min(INPUTS, traits.max_inputs or INPUTS),
        tokens=min(TOKENS, traits.max_request_tokens or TOKENS, tokens or TOKENS),
        bytes=BYTES,
    )


def packed(documents: Sequence[Sequence[Load]], limits: Load) -> Iterator[list[Part]]:
    """Documents of like length together; `documents[i]` is what each of its texts weighs.

    A document is in one pack if it fits into one, else spread over as many as it takes, one after
    the other. A text above the limits goes alone: whoever gets it says what is wrong with it.
    """
    pack: list[Part] = []
    held = Load()
    for at in sorted(range(len(documents)), key=lambda at: max(text.tokens for text in documents[at])):
        texts = documents[at]
        if pack and not sum(texts, held).within(limits):
            yield pack
            pack, held = [], Load()
        start = 0
        for number, text in enumerate(texts):
            if held.inputs and not (held + text).within(limits):
                yield [*pack, Part(at, start, number)]
                pack, held, start = [], Load(), number
            held += text
        pack.append(Part(at, start, len(texts)))
    if pack:
        yield pack


def claim_size(limits: Load, tokens: float) -> int:
    """How many documents of so many tokens each (0: nobody knows yet) fill a pack."""
    if not tokens:
        return FIRST_CLAIM
    return max(1, min(LARGEST_CLAIM, limits.inputs, int(limits.tokens * NEARLY / tokens)))
