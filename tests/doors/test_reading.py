"""The verbs that read through a filter, and those about what is similar, as a person types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import loopback as fake
from tests.doors.test_cli import Shell
from tests.loopback import Loopback


@pytest.fixture
def revec(dsn: str, tmp_path: Path, loopback: Loopback) -> Shell:
    """Nine documents in three languages, of which two say the same."""
    shell = Shell(tmp_path, REVEC_DSN=dsn, OPENAI_BASE_URL=loopback.url, OPENAI_API_KEY="k")
    shell("collections", "create", "c", "--model", "openai:fake-64")
    lines = [
        {"id": n, "text": f"text {n % 8}", "metadata": {"lang": ["en", "de", "fr"][n % 3], "year": 2020 + n}}
        for n in range(9)
    ]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shell("ingest", "c", "docs.jsonl")
    shell("worker", "--drain", "--quiet")
    return shell


def ids(found: dict[str, object]) -> set[str]:
    return {hit["id"] for hit in found["hits"]}  # type: ignore[attr-defined]


def test_a_search_through_a_filter(revec: Shell) -> None:
    """What passes, and a word where nothing does."""
    found = revec.json("search", "c", "text", "--filter", '{"lang": "de", "year": {"lt": 2027}}')
    assert ids(found) == {"1", "4"}
    assert (found["degraded"], found["why"]) == (False, None)
    done = revec.run("search", "c", "text", "--filter", '{"lang": "it"}')
    assert "No documents of tenant 'default' that the filter lets through" in done.stderr


def test_without_numpy_a_sentence_says_what_to_install(revec: Shell, tmp_path: Path) -> None:
    """As after a bare `pip install revec`: what reckons with vectors says so, everything else goes on."""
    absent = "raise ModuleNotFoundError(\"No module named 'numpy'\", name='numpy')"
    (tmp_path / "numpy.py").write_text(absent)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        """It imports anew."""
        command = [sys.executable, "-m", "revec.cli.main", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=revec.environment, capture_output=True, text=True, check=False
        )

    refused = run("similar", "c", "--id", "0")
    assert refused.returncode == 1
    assert "needs an optional package: pip install 'revec[local]'" in refused.stderr
    assert ids(json.loads(run("search", "c", "text 3", "--mode", "lexical", "-k", "1", "--json").stdout)) == {
        "3"
    }
    assert "finished" in run("history", "c").stdout


def test_what_is_similar(revec: Shell, tmp_path: Path) -> None:
    """By key, by text, by vector; from a score on."""
    assert ids(revec.json("similar", "c", "--id", "0", "--threshold", "0.99")) == {"8"}
    assert ids(revec.json("similar", "c", "--id", "0")) == {str(n) for n in range(1, 9)}
    assert ids(revec.json("similar", "c", "--text", "text 0", "--threshold", "0.99")) == {"0", "8"}
    french = revec.json("similar", "c", "--text", "text 0", "--filter", '{"lang": "fr"}')
    assert ids(french) == {"2", "5", "8"}
    (tmp_path / "v.json").write_text(json.dumps(fake.vector("text 3", "fake-64").tolist()))
    said = revec("similar", "c", "--vector", "v.json", code=1)
    space = said.split("its space is ")[1].split(",")[0]
    found = revec.json("similar", "c", "--vector", "v.json", "--space", space, "-k", "1")
    assert ids(found) == {"3"}
    assert "0.99" in revec("similar", "c", "--id", "0", "--threshold", "0.99")
    assert (
        "Nothing of tenant 'default' is that similar"
        in revec.run("similar", "c", "--id", "1", "--threshold", "0.999").stderr
    )


def test_a_threshold_is_kept_and_carried(revec: Shell) -> None:
    """Said once; it counts for `similar`, and is shown."""
    assert "no threshold" in revec("collections", "tune", "c")
    assert "scores from 0.99" in revec("collections", "tune", "c", "--threshold", "0.99")
    found = revec.json("similar", "c", "--id", "0")
    assert (ids(found), found["threshold"]) == ({"8"}, 0.99)
    kept = revec.json("collections", "tune", "c")["threshold"]
    assert (kept["value"], kept["carried_from"]) == (0.99, None)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["search", "c", "x", "--filter", "lang=en"], 1, "the filter is not JSON"),
        (["search", "c", "x", "--filter", '{"lang": null}'], 1, "'lang' is compared with null"),
        (["similar", "c"], 1, "like what?"),
        (["similar", "c", "--id", "1", "--text", "x"], 1, "like what?"),
        (["similar", "c", "--id", "nobody"], 1, "there is no document 'nobody'"),
        (["similar", "c", "--text", " "], 1, "the text is empty"),
        (["similar", "c", "--id", "1", "--threshold", "2"], 1, "-1 to 1, not 2"),
        (["similar", "c", "--id", "1", "--threshold", "nan"], 1, "-1 to 1, not nan"),
        (["similar", "c", "--id", "1", "-k", "0"], 1, "--k takes 1 to"),
        (["similar", "c", "--vector", "nowhere.json"], 1, "cannot read a vector from nowhere.json"),
        (["similar", "c", "--vector", "docs.jsonl"], 1, "cannot read a vector from docs.jsonl"),
        (["similar", "nobody", "--id", "1"], 1, "no collection is named"),
        (["collections", "tune", "c", "--threshold", "7"], 1, "-1 to 1, not 7"),
        (["collections", "tune", "nobody"], 1, "no collection is named"),
    ],
)
def test_what_cannot_be_is_a_sentence(revec: Shell, arguments: list[str], code: int, sentence: str) -> None:
    assert sentence in revec(*arguments, code=code)
