"""How a long text is cut: whole, in order, at sentences, never above the limit."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from revec.model.chunking import Chunking, chunking, cut, truncation, windows
from revec.model.document import rendered
from revec.model.errors import BadInput
from revec.model.space import Space

SPACE = Space(provider="p", model="m", revision="", dims=1, normalise=False)
CHUNKED = replace(SPACE, chunking="16 tokens, 4 overlap, sentences")


def by_bytes(texts: Sequence[str]) -> list[int]:
    return [len(text.encode()) // 4 + 1 for text in texts]


def by_words(texts: Sequence[str]) -> list[int]:
    """Words and signs, a long word several, and two more around them all."""
    return [2 + sum(-(-len(word) // 6) for word in re.findall(r"\w+|[^\w\s]", text)) for text in texts]


COUNTS = st.sampled_from([by_bytes, by_words])
TEXTS = st.text(alphabet=st.sampled_from("abcdefghij .!?\n。日本語é\u3000\t😀"), max_size=600) | st.lists(
    st.sampled_from(["One sentence. ", "Another one! ", "longword" * 9, "。日本語の文。", "\n\n", " "]),
    max_size=60,
).map("".join)


@settings(max_examples=400)
@given(TEXTS, COUNTS, st.integers(16, 60), st.integers(0, 8), st.sampled_from(["", "Title\n"]))
@example("....." * 200, by_bytes, 16, 8, "")
def test_windows_cover_every_character_in_order(text, count, tokens, overlap, head) -> None:
    """From the first to the last, without a gap; each window is within the limit and ends later."""
    made = Chunking(tokens, overlap)
    found = list(windows(text, made, count, head=head))
    assert found == list(windows(text, made, count, head=head))
    assert [end for *_, end in found] == sorted({end for *_, end in found})
    reached = 0
    for start, end in found:
        assert start <= reached < end
        assert count([head + text[start:end]])[0] <= tokens or end - start == 1
        shared = text[start:reached]
        assert not shared or count([shared])[0] <= overlap + 2
        reached = end
    assert reached == len(text)


def test_windows_are_cut_at_sentences() -> None:
    """Of Latin text at a stop before a blank, which is not the point of a number."""
    text = "It is 3.14 today. Nobody knows why. Then it rained! Who asked for it? Not I."
    cuts = [text[start:end] for start, end in windows(text, Chunking(16), by_words)]
    assert "".join(cuts) == text
    assert all(each.rstrip()[-1] in ".!?" for each in cuts)
    assert len(cuts) > 1


def test_sentences_of_cjk_need_no_blank() -> None:
    text = "東京は日本の首都です。大阪は西にあります。「京都は古い。」名古屋は中央です。" * 3
    cuts = [text[start:end] for start, end in windows(text, Chunking(20), by_bytes)]
    assert len(cuts) > 3
    assert all(each.endswith(("。", "」")) for each in cuts)


def test_windows_overlap_by_sentences() -> None:
    """The last sentence of one window is the first of the next."""
    text = " ".join(f"Sentence number {n} is here." for n in range(30))
    found = list(windows(text, Chunking(40, 10), by_words))
    for (_, end), (start, _) in pairwise(found):
        assert text[start:end].strip().endswith("here.")
        assert text[start:end].strip().startswith("Sentence")


def test_a_sentence_longer_than_a_window_is_cut_at_words() -> None:
    text = "word " * 300
    for start, end in windows(text, Chunking(20), by_words):
        assert set(text[start:end].split()) <= {"word"}


@pytest.mark.parametrize(
    "text", ["." * 300_000, "a" * 300_000, " " * 300_000, "a\n" * 50_000, '.")' * 50_000]
)
def test_no_text_makes_it_slow(text) -> None:
    """300,000 characters without a proper sentence in a second or two."""
    began = time.perf_counter()
    assert sum(1 for _ in windows(text, Chunking(512, 64), by_bytes))
    assert time.perf_counter() - began < 10


@settings(max_examples=200)
@given(TEXTS, TEXTS, COUNTS)
def test_chunks_carry_the_title_and_fit(title, body, count) -> None:
    """Each is within the limit and begins with the title, unless that would fill it."""
    chunks = rendered(CHUNKED, title, body, count)
    text = f"{title}\n{body}".strip()
    assert bool(chunks) == bool(text)
    assert all(count([chunk])[0] <= 16 or len(chunk) == 1 for chunk in chunks)
    assert all(chunk.strip() for chunk in chunks)
    if len(chunks) > 1 and title.strip() and body.strip() and count([f"{title.strip()}\n"])[0] <= 4:
        assert all(chunk.startswith(f"{title.strip()}\n") for chunk in chunks)


def test_a_text_that_fits_is_one_chunk() -> None:
    """Word for word what a space without chunks makes of it."""
    assert rendered(CHUNKED, "T", "B", by_bytes) == rendered(SPACE, "T", "B", by_bytes) == ["T\nB"]


def test_a_prefix_stands_before_every_chunk() -> None:
    chunks = rendered(replace(CHUNKED, prefix="doc: "), "T", "One sentence. " * 20, by_bytes)
    assert len(chunks) > 1
    assert all(chunk.startswith("doc: T\nOne sentence.") for chunk in chunks)


def test_truncated_at_so_many_tokens() -> None:
    """At the end of a sentence, within the limit; a shorter text stays whole."""
    space = replace(SPACE, truncation="at 20 tokens")
    (text,) = rendered(space, "T", "One sentence. " * 50, by_bytes)
    assert text == "T\n" + ("One sentence. " * 5).rstrip()
    assert by_bytes([text])[0] <= 20
    assert rendered(space, "T", "short", by_bytes) == ["T\nshort"]
    assert cut("x" * 10_000, 20, by_bytes) == "x" * len(cut("x" * 10_000, 20, by_bytes))


@pytest.mark.parametrize(
    ("recipe", "made"),
    [
        ("none", None),
        ("512 tokens", Chunking(512)),
        ("512 tokens, 64 overlap", Chunking(512, 64)),
        (" 512  tokens, 64 overlap, sentences", Chunking(512, 64)),
    ],
)
def test_recipes(recipe, made) -> None:
    assert chunking(recipe) == made
    if made:
        assert chunking(str(made)) == made


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        ("paragraphs", "write it like '512 tokens, 64 overlap', or none"),
        ("", "write it like '512 tokens, 64 overlap', or none"),
        ("8 tokens", "take 16 to 1,000,000"),
        ("100 tokens, 51 overlap", "half of them is the most"),
    ],
)
def test_a_bad_recipe_is_refused_with_a_way_out(recipe, sentence) -> None:
    """Also where a space is made of it."""
    with pytest.raises(BadInput, match=re.escape(sentence)):
        replace(SPACE, chunking=recipe)


@pytest.mark.parametrize("recipe", ["somewhere", "at 0 tokens", "at -1 tokens"])
def test_a_bad_truncation_is_refused(recipe) -> None:
    with pytest.raises(BadInput, match="no way to truncate"):
        replace(SPACE, truncation=recipe)
    assert truncation("by the model") is None
