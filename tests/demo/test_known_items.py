"""The demo's questions stay fair: each has one answer, and spelling alone does not lead to it."""

from __future__ import annotations

import pytest

from examples.demo.known_items import judged, shares_no_content_word
from revec.cli.demo.questions import Question, questions
from revec.cli.demo.stdlib import Doc, documents

QUESTIONS = list(questions())


@pytest.fixture(scope="module")
def docs() -> list[Doc]:
    return list(documents())


def test_every_python_brings_enough_documents(docs: list[Doc]) -> None:
    assert len(docs) >= 3_000


def test_a_key_names_one_document(docs: list[Doc]) -> None:
    assert len({doc.key for doc in docs}) == len(docs)


def test_no_document_is_empty_or_private(docs: list[Doc]) -> None:
    assert all(doc.title and doc.body.strip() for doc in docs)
    assert not [doc.key for doc in docs if "._" in f".{doc.key}"]


def test_the_order_is_the_same_each_time(docs: list[Doc]) -> None:
    assert list(documents()) == docs


def test_people_know_a_thing_by_the_name_they_import(docs: list[Doc]) -> None:
    """Wherever this version of Python keeps the source."""
    keys = {doc.key for doc in docs}
    assert keys >= {
        "asyncio.gather",
        "collections.abc.Mapping",
        "concurrent.futures.Future.result",
        "datetime.date.isoformat",
        "decimal.Decimal.sqrt",
        "json.JSONDecoder",
        "os.path.join",
        "pathlib.Path.glob",
        "unittest.TestCase.assertEqual",
    }


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.answer)
def test_the_answer_exists_and_spelling_does_not_give_it_away(question: Question, docs: list[Doc]) -> None:
    answer = next((doc for doc in docs if doc.key == question.answer), None)
    assert answer, f"no document is called {question.answer}"
    assert shares_no_content_word(question.text, answer)


def test_a_shared_word_is_noticed_in_any_form() -> None:
    doc = Doc("shutil.copyTree", "shutil.copyTree(src)", "Deletes files.\n\nThen more follows.")
    assert not shares_no_content_word("how do I delete a folder", doc)
    assert not shares_no_content_word("a tree of folders", doc)
    assert shares_no_content_word("what follows then", doc)


def test_there_are_enough_questions_about_enough_of_the_library() -> None:
    assert len(QUESTIONS) >= 100
    assert len({question.text for question in QUESTIONS}) == len(QUESTIONS)
    assert len({question.answer.split(".")[0] for question in QUESTIONS}) >= 40


def test_figures_reward_a_better_rank() -> None:
    asked = [Question(text, "a") for text in ("first", "second", "nowhere")]
    told = judged([["a", "b"], ["b", "a"], ["b", "c"]], asked)
    assert told.recall_at_10 == pytest.approx(2 / 3)
    assert told.mrr_at_10 == pytest.approx((1 + 1 / 2) / 3)
    assert told.ndcg_at_10 == pytest.approx((1 + 0.63093) / 3, abs=1e-5)
