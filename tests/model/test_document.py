"""What a space makes of a document, and what no database can hold."""

from __future__ import annotations

import re
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from revec.model.document import rendered, text_hash, unstorable
from revec.model.space import Space
from tests.model.test_chunking import by_bytes

SPACE = Space(provider="p", model="m", revision="", dims=1, normalise=False)
PREFIXED = replace(SPACE, prefix="passage: ")


def test_the_text_is_title_newline_body() -> None:
    """The default template, one chunk."""
    assert rendered(SPACE, "Title", "Body", by_bytes) == ["Title\nBody"]


@pytest.mark.parametrize(("title", "body"), [("", "Body"), ("Body", ""), ("  ", " Body\n")])
def test_what_is_missing_leaves_no_blank_line(title: str, body: str) -> None:
    """A document without a title, or without a body, is the other."""
    assert rendered(SPACE, title, body, by_bytes) == ["Body"]


@pytest.mark.parametrize("blank", ["", " ", "\n\t\n", "\u2003", "\x0b"])
def test_an_empty_document_has_no_text(blank: str) -> None:
    """Also for a model with a prefix: a prefix alone says nothing."""
    assert rendered(SPACE, blank, blank, by_bytes) == []
    assert rendered(PREFIXED, blank, blank, by_bytes) == []


def test_the_prefix_of_the_space_stands_before_the_text() -> None:
    """It belongs to the recipe, so to the text that is paid for."""
    assert rendered(PREFIXED, "T", "B", by_bytes) == ["passage: T\nB"]
    assert text_hash(*rendered(PREFIXED, "T", "B", by_bytes)) != text_hash(
        *rendered(SPACE, "T", "B", by_bytes)
    )


@given(st.text(), st.text())
def test_equal_text_equal_hash(one: str, two: str) -> None:
    """SHA-256 of UTF-8, so that any other program can recompute it."""
    if unstorable(one) or unstorable(two):
        return
    assert (text_hash(one) == text_hash(two)) == (one == two)
    assert text_hash(one) == sha256(one.encode("utf-8")).digest()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a\x00b", r"NUL byte \(U\+0000\).*remove it"),
        ("a\ud800b", r"lone surrogate \(U\+D800\).*replace it"),
        ("\udfff", r"U\+DFFF"),
    ],
)
def test_what_cannot_be_stored_is_named(text: str, why: str) -> None:
    """The reason and the way out, fit to stand behind a field's name."""
    assert re.search(why, unstorable(text) or "nothing")


@pytest.mark.parametrize("text", ["", "plain", "\ufffd", "👩‍🚀", "\U0010ffff", "\x01\x7f\u200b"])
def test_every_real_character_can_be_stored(text: str) -> None:
    """The complement: odd is not broken."""
    assert unstorable(text) is None
