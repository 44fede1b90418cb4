"""How well a ranking answers the demo's questions, and how well keywords alone would."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from revec.cli.demo.questions import Question
from revec.cli.demo.stdlib import Doc
from revec.search.judge import Figures, figures

DEPTH = 10
STOP_WORDS = frozenset(
    """
    a about again all already am an and are as at back be before between both but by can could did
    do does doing down else for from had has have he her his how i if in inside instead into is it
    its itself just me more most must my no not now of off on only onto or other out over own she
    should so some than that the their them then there these they this those through to too under
    until up us very was way we were what when where whether which while who whose why will with
    without would you your
    """.split()  # noqa: SIM905  (a hundred quoted words would hide the words)
)
WORD = re.compile(r"[^\W\d_]+")
CAMEL_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
SENTENCE_END = re.compile(r"(?<=[.!?])\s|\n\s*\n")


def shares_no_content_word(question: str, doc: Doc) -> bool:
    """Neither with the first sentence nor with the last part of the name."""
    return not content_words(question) & content_words(f"{own_name(doc)} {first_sentence(doc)}")


def own_name(doc: Doc) -> str:
    return CAMEL_HUMP.sub(" ", doc.key.rpartition(".")[2])


def first_sentence(doc: Doc) -> str:
    return SENTENCE_END.split(doc.body, maxsplit=1)[0]


def content_words(text: str) -> set[str]:
    stem = stemmer()
    return {stem(word) for word in WORD.findall(text.lower()) if word not in STOP_WORDS}


def stemmer() -> Callable[[str], str]:
    try:
        import Stemmer  # noqa: PLC0415  (optional)
    except ImportError:
        return without_suffix
    stem: Callable[[str], str] = Stemmer.Stemmer("english").stemWord
    return stem


def without_suffix(word: str) -> str:
    return re.sub(r"(?<=\w{3})(ing|ed|es|s|e)$", "", word)


def judged(rankings: Sequence[Sequence[str]], asked: Sequence[Question]) -> Figures:
    """Means over the questions; `rankings` holds the keys found for each, best first."""
    found = {question.text: keys for question, keys in zip(asked, rankings, strict=True)}
    return figures(found, {question.text: {question.answer: 1} for question in asked})


def bm25_figures(docs: Sequence[Doc], asked: Sequence[Question]) -> Figures:
    """How well plain keyword search finds the answers: what an embedding model has to beat."""
    import bm25s  # noqa: PLC0415  (only a comparison needs it)
    import Stemmer  # noqa: PLC0415

    stem = Stemmer.Stemmer("english")

    def tokens(texts: list[str]) -> object:
        return bm25s.tokenize(texts, stopwords="en", stemmer=stem, show_progress=False)

    index = bm25s.BM25()
    index.index(tokens([f"{doc.title}\n{doc.body}" for doc in docs]), show_progress=False)
    found, _ = index.retrieve(tokens([question.text for question in asked]), k=DEPTH, show_progress=False)
    return judged([[docs[i].key for i in row] for row in found], asked)
