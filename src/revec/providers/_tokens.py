"""How many tokens a text is, without a network: exactly, or no fewer than it is.

The bound: a token of a byte-level vocabulary is at least one byte, so a text has at most as many
tokens as bytes. Where people write words, a token is longer: lower-case Latin letters count 0.6 each
(random ones reach 0.59 in the worst vocabulary at hand, English 0.28) and a space 0.4, because it is
part of the word after it. Everything else counts whole. Held against five vocabularies in 20 scripts,
and random strings, by tests/providers/test_tokens.py.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from string import ascii_lowercase

from revec.model.errors import MissingExtra

LOWER = ascii_lowercase.encode()
LETTER_SAVES, SPACE_SAVES = 0.4, 0.6
SPECIAL = 3  # tokens that a model may put around a text
FAR_BEYOND = 16  # bytes per token that the model takes: a longer text is only bounded


def bound(data: bytes) -> int:
    """At least as many as the tokens of any text of these UTF-8 bytes."""
    letters = len(data) - len(data.translate(None, LOWER))
    return int(len(data) - LETTER_SAVES * letters - SPACE_SAVES * data.count(b" ")) + 1 + SPECIAL


@cache
def exact(encoding: str) -> Callable[[str], int]:
    """The counter of an OpenAI vocabulary; its tables (75 MB on disk) are read at the first text.

    Raises:
        MissingExtra: `bpe-openai` is not installed.
    """
    try:
        tokenizer = importlib.import_module("bpe_openai").get_encoding(encoding)
    except ImportError as error:
        raise MissingExtra(f"counting tokens of {encoding}", "openai") from error
    encode = tokenizer.encode_ordinary
    return lambda text: len(encode(text))


def count(text: str, *, encoding: str, max_tokens: int | None, overhead: int = 0) -> int:
    """
    Args:
        encoding: of the exact counter; "" where the vocabulary is not public.
        max_tokens: of the model. A text far beyond it is bounded by its bytes: the caller has to
            cut it anyway, and megabytes would hold up the event loop.
    """
    data = text.encode(errors="replace")
    if not encoding:
        return bound(data) + overhead
    if max_tokens is not None and len(data) > FAR_BEYOND * max_tokens:
        return len(data)
    return exact(encoding)(text) + overhead
