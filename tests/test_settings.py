"""Each provider's key and address come from the environment or a file, and are shown nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from revec.model.errors import BadInput
from revec.model.place import address
from revec.settings import Settings, read

KEY = "key-0123456789abcdef"
NAMES = {
    "openai": ["OPENAI"],
    "gemini": ["GEMINI", "GOOGLE"],
    "cohere": ["COHERE", "CO"],
    "voyage": ["VOYAGE"],
}
CASES = [(engine, name) for engine, names in NAMES.items() for name in names]


@pytest.mark.parametrize(("engine", "name"), CASES)
def test_a_key_is_read_from_the_environment(engine: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{name}_API_KEY", KEY)
    assert read().api_key(engine) == KEY
    assert KEY not in repr(read())
    others = set(NAMES) - {engine}
    assert {read().api_key(other) for other in others} == {None}


@pytest.mark.parametrize(("engine", "name"), CASES)
def test_or_from_a_file(engine: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    monkeypatch.setenv(f"{name}_API_KEY_FILE", str(tmp_path / "key"))
    assert read().api_key(engine) == KEY
    monkeypatch.setenv(f"{name}_API_KEY", "the one set itself")
    assert read().api_key(engine) == "the one set itself"


def test_the_key_of_a_store_is_found_by_its_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And by no other: a key goes to the host that it is for."""
    monkeypatch.setenv("REVEC_STORE_KEYS__VECTORS_EXAMPLE_ORG", KEY)
    (tmp_path / "key").write_text(f"{KEY}2\n")
    monkeypatch.setenv("REVEC_STORE_KEY_FILES__10_0_0_5", str(tmp_path / "key"))
    settings = read()
    hosts = ("chroma://vectors.example.org", "qdrant://10.0.0.5:6333", "chroma://vectors.example.com")
    assert [settings.store_key(address(host).key_name) for host in hosts] == [KEY, f"{KEY}2", None]
    assert KEY not in repr(settings)


def test_a_file_that_cannot_be_read_is_named_by_its_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_bytes(b"\xff\xfe")
    for file in (tmp_path / "none", tmp_path / "key", tmp_path):
        monkeypatch.setenv("VOYAGE_API_KEY_FILE", str(file))
        with pytest.raises(BadInput, match="VOYAGE_API_KEY_FILE cannot be read"):
            read().api_key("voyage")


@pytest.mark.parametrize("engine", NAMES)
def test_every_service_may_be_another_server(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{engine.upper()}_BASE_URL", "https://gateway/v1")
    assert read().base_url(engine) == "https://gateway/v1"


def test_a_model_in_this_process_has_neither() -> None:
    assert (Settings().api_key("local"), Settings().base_url("local")) == (None, None)
