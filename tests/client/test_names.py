"""`import revec` is cheap, and what it promises is there."""

from __future__ import annotations

import subprocess
import sys

import pytest

import revec
from revec import errors

HEAVY = (
    "fastapi",
    "numpy",
    "psycopg",
    "pydantic",
    "httpx2",
    "langchain_core",
    "llama_index",
    "cyclopts",
    "asyncio",
)


def loaded(program: str) -> set[str]:
    """Modules that are there after the program, in a Python of its own."""
    shown = f"import sys\n{program}\nprint(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, encoding="utf-8", check=True)
    return set(done.stdout.split())


def test_the_package_alone_loads_nothing() -> None:
    """Not even our own rooms."""
    found = loaded("import revec")
    assert found.isdisjoint(HEAVY)
    assert {name for name in found if name.startswith("revec")} == {"revec"}


def test_who_only_steers_needs_no_numbers() -> None:
    """Numpy comes with the models' extras: without one `status`, `cutover` and a rollback work all the same."""
    found = loaded("import revec.app, revec.cli.main; revec.cli.main.build()")
    assert "psycopg" in found
    assert found.isdisjoint({"numpy", "fastapi", "httpx2", "langchain_core", "llama_index"})


def test_a_client_over_http_loads_no_database() -> None:
    """Nor the door that it talks to, nor anybody's framework."""
    found = loaded("import revec; revec.connect('https://search.example', key='k').sync()")
    assert "httpx2" in found
    assert found.isdisjoint({"fastapi", "numpy", "psycopg", "langchain_core", "llama_index", "cyclopts"})
    assert "revec.app" not in found


def test_a_client_in_process_loads_no_door() -> None:
    """FastAPI and cyclopts are for others; what a model needs comes when one is asked."""
    found = loaded("import revec; revec.connect('postgresql://x/y')")
    assert found.isdisjoint(
        {"fastapi", "uvicorn", "onnxruntime", "langchain_core", "llama_index", "cyclopts"}
    )


def test_the_public_names() -> None:
    """Sorted, each one there, each one shown."""
    assert revec.__all__ == sorted(revec.__all__)
    assert set(dir(revec)) == set(revec.__all__)
    assert all(getattr(revec, name) is not None for name in revec.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = revec.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "target",
    [
        "localhost:8080",
        "htps://x",
        "mysql://x",
        "",
        "http://",
        "https://u:p@host",
        "https://h/?key=1",
        "http://h:x",
    ],
)
def test_a_target_that_cannot_be_one(target: str) -> None:
    """A sentence that says what can; without what may be a secret in it."""
    with pytest.raises(errors.BadInput) as refused:
        revec.connect(target)
    assert "u:p" not in str(refused.value)


@pytest.mark.parametrize("key", ["", " ", "two words", "schlüssel", "a\r\nX-Header: b"])
def test_a_key_that_cannot_be_one(key: str) -> None:
    """Not sent, and not said."""
    with pytest.raises(errors.BadInput) as refused:
        revec.connect("https://search.example", key=key)
    assert not key.strip() or key not in str(refused.value)


def test_a_key_is_for_a_server() -> None:
    """A database does not know it, so nobody believes to be narrowed by it."""
    with pytest.raises(errors.BadInput, match="for a server"):
        revec.connect("postgresql://x/y", key="k")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the way to it."""
    monkeypatch.setitem(sys.modules, "httpx2", None)
    monkeypatch.delitem(sys.modules, "revec.client.remote", raising=False)
    with pytest.raises(errors.MissingExtra, match=r"revec\[client\]"):
        revec.connect("https://search.example")
