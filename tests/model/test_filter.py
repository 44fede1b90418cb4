"""A filter is one small grammar: what is in it is read, what is not is refused in a sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from revec.model import filter as filters
from revec.model.errors import BadInput
from revec.model.filter import All, Comparison, Either, Not, Operator, both, parsed, read, require

EN = Comparison("lang", Operator.EQ, ("en",))
FROM_2020 = Comparison("year", Operator.GTE, (2020,))
BEFORE_2024 = Comparison("year", Operator.LT, (2024,))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({"lang": "en"}, EN),
        ({"lang": {"eq": "en"}}, EN),
        ({"year": {"gte": 2020, "lt": 2024}}, All((FROM_2020, BEFORE_2024))),
        ({"lang": "en", "year": {"gte": 2020}}, All((EN, FROM_2020))),
        ({"lang": {"in": ["en", "de"]}}, Comparison("lang", Operator.IN, ("en", "de"))),
        ({"lang": {"in": []}}, Comparison("lang", Operator.IN, ())),
        ({"and": [{"lang": "en"}, {"year": {"gte": 2020}}]}, All((EN, FROM_2020))),
        ({"or": [{"lang": "en"}, {"year": {"gte": 2020}}]}, Either((EN, FROM_2020))),
        ({"or": [{"lang": "en"}]}, Either((EN,))),
        ({"not": {"lang": "en"}}, Not(EN)),
        ({"lang": "en", "not": {"year": {"gte": 2020}}}, All((EN, Not(FROM_2020)))),
        ({"ok": True}, Comparison("ok", Operator.EQ, (True,))),
        ({"": ""}, Comparison("", Operator.EQ, ("",))),
        ({"eq": "en"}, Comparison("eq", Operator.EQ, ("en",))),
        ({"a.b": 1.5}, Comparison("a.b", Operator.EQ, (1.5,))),
    ],
)
def test_what_is_written_is_what_is_meant(written: Any, meant: filters.Filter) -> None:
    """From Python objects and from JSON alike."""
    assert parsed(written) == meant
    assert read(json.dumps(written)) == meant


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("", "not JSON"),
        ("lang=en", "not JSON"),
        ("[" * 60_000, "not JSON"),
        ('{"a": ' * 5_000, "not JSON"),
        ('{"a": ' + "9" * 5_000 + "}", "not JSON"),
        (" " * 70_000, "at most 65,536 characters"),
        ("[]", "a filter is an object like"),
        ("null", "not null"),
        ('"en"', "not a text"),
        ("true", "not true"),
        ("{}", "an empty filter says nothing: leave it out"),
        ('{"and": [{}]}', "an empty filter says nothing"),
        ('{"and": []}', "`and` takes a list of filters, at least one, not an empty list"),
        ('{"or": {"a": 1}}', "`or` takes a list of filters, at least one, not an object"),
        ('{"or": [1]}', "a filter is an object like"),
        ('{"not": [{"a": 1}]}', "a filter is an object like"),
        ('{"not": "draft"}', "a filter is an object like"),
        ('{"a": {}}', "'a' is compared with nothing"),
        ('{"a": null}', "'a' is compared with null"),
        ('{"a": ["x"]}', "'a' is compared with a list: write {\"in\": [...]}"),
        ('{"a": {"b": 1}}', "'a' has no comparison 'b' (there is eq, in, gt, gte, lt, lte)"),
        ('{"a": {"and": [{"b": 1}]}}', "'a' has no comparison 'and'"),
        ('{"a": {"EQ": 1}}', "no comparison 'EQ'"),
        ('{"a": {"in": "x"}}', "'a' takes a list with `in`, not a text"),
        ('{"a": {"in": [["x"]]}}', "'a' is compared with a list"),
        ('{"a": {"in": [null]}}', "'a' is compared with null"),
        ('{"a": {"gt": true}}', "'a' cannot be gt true"),
        ('{"a": {"gt": [1]}}', "'a' is compared with a list"),
        ('{"a": NaN}', "a number that is none, or too large"),
        ('{"a": 1e400}', "a number that is none, or too large"),
        ('{"a": 1' + "0" * 301 + "}", "a number that is none, or too large"),
        ('{"a": "\\u0000"}', "NUL"),
        ('{"\\u0000": 1}', "NUL"),
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"a": "' + "x" * 1001 + '"}', "1,001 characters, 1,000 are allowed"),
        ('{"' + "x" * 1001 + '": 1}', "1,001 characters, 1,000 are allowed"),
        ('{"lang": "en", "lang": "de"}', "names 'lang' twice"),
        ('{"a": {"gt": 1, "gt": 2}}', "names 'gt' twice"),
    ],
)
def test_what_is_no_filter_is_refused(written: str, sentence: str) -> None:
    """In a sentence, whatever it is; nothing of it is dropped."""
    with pytest.raises(BadInput) as refused:
        read(written)
    assert sentence in str(refused.value)
    assert len(str(refused.value)) < 2_000


@pytest.mark.parametrize(
    "value", [None, b"x", object(), {"a": {1: 2}}, {1: 2}, {"a": {"eq": {1}}}, {"a": b"x"}]
)
def test_objects_that_json_does_not_know_are_refused(value: Any) -> None:
    """As a library hands them in."""
    with pytest.raises(BadInput):
        parsed(value)


def nested(levels: int) -> dict[str, Any]:
    made: dict[str, Any] = {"a": 1}
    for _ in range(levels - 1):
        made = {"not": made}
    return made


def test_size_and_depth_are_bounded() -> None:
    """At the bound it is read; one more is refused with the number."""
    parsed(nested(8))
    with pytest.raises(BadInput, match="nested more than 8 deep"):
        parsed(nested(9))
    parsed({"or": [{"a": n} for n in range(100)]})
    with pytest.raises(BadInput, match="at most 100 comparisons, this one has 101"):
        parsed({"or": [{"a": n} for n in range(101)]})
    parsed({"a": {"in": list(range(1_000))}})
    with pytest.raises(BadInput, match="at most 1,000 values, this one has 1,001"):
        parsed({"a": {"in": list(range(1_001))}})


def test_both_is_what_all_let_through() -> None:
    assert both() is None
    assert both(None, None) is None
    assert both(None, EN) == EN
    assert both(EN, Either((FROM_2020, BEFORE_2024))) == All((EN, Either((FROM_2020, BEFORE_2024))))


@pytest.mark.parametrize("lacking", Operator)
def test_what_a_store_cannot_do_is_refused(lacking: Operator) -> None:
    """Each operator, wherever it stands; and what it can do is said."""
    where = parsed(
        {
            "not": {"or": [{"a": 1}, {"a": {"in": [1]}, "b": {"gt": 1, "gte": 1, "lt": 1, "lte": 1}}]},
        }
    )
    require(where, set(Operator), "the shelf")
    with pytest.raises(BadInput, match=f"the shelf cannot filter by {lacking}: it knows") as refused:
        require(where, set(Operator) - {lacking}, "the shelf")
    assert "no filter at all" not in str(refused.value)
    with pytest.raises(BadInput, match="it knows no filter at all"):
        require(EN, (), "the shelf")
