"""A space is its whole recipe: change anything and it is another space."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from revec.model.errors import BadInput
from revec.model.space import MAX_STORED_DIMS, Space

SPACE = Space(provider="openai", model="m", revision="r", dims=8, normalise=True)

RECIPES = {"none": "512 tokens, 64 overlap, sentences", "by the model": "at 512 tokens"}


def other(value: Any) -> Any:
    """A value of the same type that is not this one."""
    if isinstance(value, bool):
        return not value
    if value in RECIPES:
        return RECIPES[value]
    return value + 1 if isinstance(value, int) else f"{value}x"


@pytest.mark.parametrize("field", [field.name for field in fields(Space)])
def test_every_field_changes_the_id(field: str) -> None:
    """No part of the recipe is left out of the hash."""
    changed = replace(SPACE, **{field: other(getattr(SPACE, field))})
    assert changed.id != SPACE.id


@given(
    first=st.tuples(st.text(), st.text(), st.integers(1, 9), st.booleans()),
    second=st.tuples(st.text(), st.text(), st.integers(1, 9), st.booleans()),
)
def test_ids_are_equal_where_recipes_are_equal(first: Any, second: Any) -> None:
    """Both ways: also where a part of one name moves into the next field."""
    one, two = (Space("p", model, rev, dims, unit) for model, rev, dims, unit in (first, second))
    assert (one.id == two.id) == (one == two)


def test_an_id_survives_being_stored() -> None:
    """The recipe comes back from JSON as the same space."""
    assert Space(**SPACE.recipe).id == SPACE.id  # type: ignore[arg-type]


def test_an_id_never_changes_between_versions() -> None:
    """Databases out there hold it: a new field of Space would make every index a stranger."""
    assert SPACE.id == "20bd98df969b3a3f"


@pytest.mark.parametrize("later", ["task", "family"])
def test_a_field_that_ids_are_older_than_is_in_them_once_it_is_set(later: str) -> None:
    assert replace(SPACE, **{later: "x"}).id != SPACE.id


def test_an_address_is_how_a_person_names_the_model() -> None:
    """provider:model, as every command takes it."""
    assert SPACE.address == "openai:m"


@pytest.mark.parametrize("dims", [0, -1, MAX_STORED_DIMS + 1])
def test_dims_that_no_column_holds_are_refused(dims: int) -> None:
    """The sentence names the limit and the way out."""
    with pytest.raises(BadInput, match=r"openai:m has .* dims.*1 to 16000.*--dims"):
        replace(SPACE, dims=dims)


@pytest.mark.parametrize("dims", [1, MAX_STORED_DIMS])
def test_dims_at_the_limits_are_fine(dims: int) -> None:
    """The complement: the limits themselves are inside."""
    assert replace(SPACE, dims=dims).dims == dims
