"""`collections tune` as a person types it: measured, shown, asked, set, seen everywhere, and taken back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.doors.test_cli import Shell
from tests.loopback import Loopback
from tests.search.test_tuning import query, words

TUNE = ("collections", "tune", "c", "--queries", "q.jsonl", "--qrels", "r.tsv")
EVAL = ("eval", "c", "--queries", "q.jsonl", "--qrels", "r.tsv")


def lines(file: Path, values: list[dict[str, object]]) -> None:
    file.write_text("".join(json.dumps(value) + "\n" for value in values))


@pytest.fixture
def revec(dsn: str, tmp_path: Path, loopback: Loopback) -> Shell:
    """Sixty documents that their queries name word by word, and forty that shout."""
    shell = Shell(tmp_path, REVEC_DSN=dsn, OPENAI_BASE_URL=loopback.url, OPENAI_API_KEY="k")
    shell("collections", "create", "c", "--model", "openai:fake-64")
    quiet = [{"id": n, "text": query(n)} for n in range(1, 61)]
    lines(
        tmp_path / "docs.jsonl", quiet + [{"id": f"l{n}", "text": "wing " * 6 + words(n)} for n in range(40)]
    )
    lines(tmp_path / "q.jsonl", quiet)
    judged(shell, 45)
    shell("ingest", "c", "docs.jsonl")
    shell("worker", "--drain", "--quiet")
    return shell


def judged(shell: Shell, count: int) -> None:
    (shell.folder / "r.tsv").write_text("".join(f"{n}\t{n}\t1\n" for n in range(1, count + 1)))


def test_a_fusion_is_tuned_and_taken_back(revec: Shell) -> None:
    """Nothing is set by a dry run, or where nobody says yes; what is set is shown wherever one looks."""
    assert "searches are fused by ranks" in revec("collections", "tune", "c")
    said = revec(*EVAL)
    assert "c is fused by ranks." in said
    assert "The lexical leg drags the fusion" in said
    assert "`revec collections tune c`" in said
    assert revec.json(*EVAL)["fusion"]["alpha"] is None
    dry = revec.json(*TUNE, "--dry-run")
    assert (dry["verdict"], dry["changed"], dry["queries"], dry["now"]) == ("PASSED", False, 45, None)
    assert "add --yes" in revec(*TUNE, code=1)
    assert revec.json("collections", "tune", "c")["fusion"]["who"] is None
    done = revec(*TUNE, "--yes")
    share = f"by scores (vectors {dry['best']:.0%}, words {1 - dry['best']:.0%})"
    assert f"c is fused {share} now: `revec collections tune c --rrf` goes back." in done
    assert "p = 0.0" in done
    assert share in revec("collections", "list")
    assert share in revec("status", "c")
    said = revec(*EVAL)
    assert f"c is fused {share} (" in said
    assert "drags" not in said
    kept = revec.json("collections", "tune", "c")["fusion"]
    assert (kept["alpha"], kept["evidence"]["held_out"]["p"]) == (dry["best"], dry["held_out"]["p"])
    again = revec(*TUNE, "--yes")
    assert "No other way is better on these queries than the one in force. Nothing was changed." in again
    assert revec.json("collections", "tune", "c")["fusion"] == kept
    planned = revec("plan", "c", "--to", "openai:fake-b-96")
    assert "will be fused by ranks in the space of openai:fake-b-96" in planned
    revec("start", "c", "--to", "openai:fake-b-96")
    revec("worker", "--drain", "--quiet")
    for verb in (("verify", "c"), ("cutover", "c", "--yes")):
        assert f"c is fused {share}, and will be fused by ranks" in revec(*verb)
    assert "fusion      by ranks" in revec("status", "c")
    revec("rollback", "c", "--yes")
    assert share in revec("status", "c")
    assert "add --yes" in revec("collections", "tune", "c", "--rrf", code=1)
    assert "by ranks from now on" in revec("collections", "tune", "c", "--rrf", "--yes")
    assert "c is fused by ranks already." in revec("collections", "tune", "c", "--rrf")


def test_the_shape_of_a_measurement(revec: Shell) -> None:
    """For programs; too few judgements are exit code 3, and still a measurement."""
    judged(revec, 39)
    found = revec.json(*TUNE, "--yes", code=3)
    assert found.keys() == {
        *("index", "space", "language", "tenant", "queries", "now", "best", "ndcg@10", "held_out"),
        *("verdict", "why", "changed"),
    }
    assert [each["alpha"] for each in found["ndcg@10"]] == [None, *(n / 20 for n in range(21))]
    assert found["held_out"].keys() == {"before", "after", "gain", "interval", "p", "folds"}
    assert (found["verdict"], found["changed"]) == ("INCONCLUSIVE", False)
    assert "39 judged queries cannot tell, at least 40 can" in revec(*TUNE, "--yes", code=3)
    assert revec.json("collections", "tune", "c")["fusion"]["alpha"] is None


def test_a_threshold_is_measured(revec: Shell, tmp_path: Path) -> None:
    """Before it is set, when it is set, and afterwards."""
    lines(
        tmp_path / "more.jsonl",
        [{"id": f"copy {n}", "text": query(n)} for n in range(1, 11)] + [{"id": "empty", "text": " "}],
    )
    revec("ingest", "c", "more.jsonl")
    revec("worker", "--drain", "--quiet")
    pairs = [{"a": n, "b": f"copy {n}", "same": True} for n in range(1, 11)]
    pairs += [{"a": n, "b": n + 1, "same": False} for n in range(1, 31)]
    lines(tmp_path / "pairs.jsonl", [*pairs, {"a": 1, "b": "empty", "same": True}])
    measure = ("collections", "tune", "c", "--judged", "pairs.jsonl")
    assert "has no threshold that could be measured" in revec(*measure, code=1)
    dry = revec(*measure, "--threshold", "0.99", "--dry-run")
    assert "at 0.99: precision 1.000 [0.692, 1.000] (10 of 10), recall 1.000 [0.692, 1.000] (10 of 10)" in dry
    assert "1 judged pairs have no score" in dry
    assert "no threshold" in dry
    found = revec.json(*measure, "--threshold", "-1")
    assert found["measured"]["precision"] == {
        "value": 0.25,
        "hits": 10,
        "of": 40,
        "interval": [0.1269, 0.412],
    }
    assert found["threshold"]["evidence"]["recall"]["value"] == 1.0
    assert "at -1: precision 0.250" in revec(*measure)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--queries", "q.jsonl"], "two files: --queries FILE and --qrels FILE"),
        (["--queries", "q.jsonl", "--qrels", "r.tsv", "--rrf"], "one thing at a time"),
        (["--queries", "nowhere", "--qrels", "r.tsv"], "cannot read nowhere"),
        (["--threshold", "0.5", "--rrf"], "one thing at a time"),
        (["--judged", "q.jsonl"], "q.jsonl, line 1: not two ids and true or false"),
        (["--judged", "r.tsv"], "r.tsv, line 1: not a line like"),
    ],
)
def test_what_cannot_be_tuned_is_a_sentence(revec: Shell, arguments: list[str], sentence: str) -> None:
    assert sentence in revec("collections", "tune", "c", *arguments, code=1)
