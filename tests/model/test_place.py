"""Addresses of stores: read strictly, and free of secrets."""

from __future__ import annotations

import pytest

from revec.model.errors import BadInput
from revec.model.place import HERE, address, new_place


@pytest.mark.parametrize(
    ("text", "safe", "key"),
    [
        ("chroma://127.0.0.1:8000", True, "127_0_0_1"),
        ("chroma://localhost", True, "localhost"),
        ("chroma://[::1]:8000", True, "__1"),
        ("chroma://vectors.Example.org", False, "vectors_example_org"),
        ("qdrant://10.0.0.5:6333", False, "10_0_0_5"),
        ("qdrant:/folder", True, ""),
        ("postgresql://me@db.internal:5432/vectors?sslmode=verify-full", False, "db_internal"),
        ("postgresql://me@127.0.0.1/vectors", True, "127_0_0_1"),
        ("postgresql://127.0.0.1.evil.org/db", False, "127_0_0_1_evil_org"),
    ],
)
def test_what_is_not_on_this_machine_is_reached_by_tls(text: str, safe: bool, key: str) -> None:
    """A name that only looks like this machine is another one."""
    found = address(text)
    assert (found.is_safe, found.key_name) == (safe, key)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me:s3cret@host/db",
        "postgresql://:s3cret@host/db",
        "postgresql://me@host/db?password=s3cret",
        "postgresql://me@host/db?sslmode=require&sslpassword=s3cret",
        "chroma://host?token=s3cret",
        "qdrant://host?api_key=s3cret",
        "qdrant://s3cret@host:6333",
        "chroma://s3cret@host",
    ],
)
def test_a_secret_is_refused_and_not_repeated(text: str) -> None:
    """It would be kept and shown; the sentence says where it belongs, and not what it was."""
    with pytest.raises(BadInput, match="REVEC_STORE_KEYS__HOST") as refused:
        address(text)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "chroma", "://", "chroma:", " chroma://host", "chroma://host:port"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="no address of a store"):
        address(text)


def test_a_name_does_not_say_where_it_is() -> None:
    """Whoever searches sees names of indexes."""
    assert new_place("postgresql://me@10.0.0.5/db").suffix == "@postgresql"
    assert HERE.suffix == ""


def test_no_two_places_are_the_same() -> None:
    """And every store takes their names: letters, digits and one line under them."""
    names = {new_place("chroma://host").name for _ in range(1_000)}
    assert len(names) == 1_000
    assert all(name.isidentifier() and 3 <= len(name) <= 63 for name in names)
