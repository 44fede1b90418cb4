"""Judgements as a person hands them in, what `plan` says of them, and the table of gates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from revec.cli import judgements
from revec.model.errors import BadInput
from revec.model.judging import JudgedQuery
from tests.doors.test_cli import Shell
from tests.loopback import Loopback

COUNT = 30


@pytest.fixture
def revec(dsn: str, tmp_path: Path, loopback: Loopback) -> Shell:
    """Documents whose queries say them word by word."""
    shell = Shell(tmp_path, REVEC_DSN=dsn, OPENAI_BASE_URL=loopback.url, OPENAI_API_KEY="k")
    shell("collections", "create", "c", "--model", "openai:fake-64")
    lines = [{"id": str(n), "text": f"text {n}"} for n in range(COUNT)]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "r.tsv").write_text("".join(f"{n}\t{n}\t1\n" for n in range(COUNT)))
    shell("ingest", "c", "docs.jsonl")
    shell("worker", "--drain", "--quiet")
    return shell


FORMATS = {
    "r.tsv": "q1\td1\t2\nq1\td2\t0\n",
    "trec.txt": "q1 0 d1 2\nq1 0 d2 0\n",
    "trec.tsv": "q1\tQ0\td1\t2\n\nq1\tQ0\td2\t0\n",
    "r.jsonl": '{"query": "q1", "document": "d1", "grade": 2}\n{"query": "q1", "document": "d2", "grade": 0}\n',
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read_as_the_same(tmp_path: Path, name: str) -> None:
    """Three columns, TREC's four, JSON lines: one reader, for sets as for `eval`."""
    (tmp_path / "q.jsonl").write_text('{"id": "q1", "text": "wings", "segment": "en"}\n')
    (tmp_path / name).write_text(FORMATS[name])
    bad: list[str] = []
    found = judgements.of_sets(Path("q.jsonl"), Path(name), source="push", tenant="t", bad=bad)
    assert found == [JudgedQuery("q1", "wings", {("push", "d1"): 2, ("push", "d2"): 0}, "t", "en")]
    assert bad == []
    assert judgements.of_queries(Path("q.jsonl"), Path(name)) == (
        {"q1": "wings"},
        {"q1": {"d1": 2, "d2": 0}},
    )


def test_quepid_says_itself_what_is_asked(tmp_path: Path) -> None:
    """A query in words with a comma, what nobody rated passed over, and a rating that is none named."""
    file = tmp_path / "quepid.csv"
    file.write_text('query,docid,rating\n"wings, of steel",d1,3.0\nwings,d2,\nwings,d3,good\nwings,d4,1\n')
    bad: list[str] = []
    found = judgements.of_sets(None, file, source="push", tenant=None, bad=bad)
    assert found == [
        JudgedQuery("wings, of steel", "wings, of steel", {("push", "d1"): 3}),
        JudgedQuery("wings", "wings", {("push", "d4"): 1}),
    ]
    assert bad == [f"{file}, line 4: not query, docid, rating"]
    file.write_text("query,rating\n")
    with pytest.raises(BadInput, match="no column 'docid'"):
        judgements.of_sets(None, file, source="push", tenant=None, bad=bad)


def test_bad_lines_are_named_and_the_good_ones_go_in(revec: Shell) -> None:
    """By file, number and reason; exit code 1; twice the same is once."""
    folder = revec.folder
    (folder / "bad.tsv").write_text("0\t0\t1\nnonsense\n1\t1\tgood\nnobody\t1\t1\n2\t2\t1\n2\t77\t1\n")
    add = ("judgements", "add", "c", "--queries", "q.jsonl", "--qrels", "bad.tsv")
    said = revec(*add, code=1)
    assert "bad.tsv, line 2: not query id, document id, grade with tabs" in said
    assert "bad.tsv, line 3: not query id" in said
    assert "bad.tsv judges query 'nobody', which q.jsonl does not have" in said
    assert "3 judgements of 2 queries taken, 3 lines refused" in said
    assert "1 judged documents are not in c" in said
    revec(*add, code=1)
    (row,) = revec.json("judgements", "list", "c")
    assert (row["name"], row["queries"], row["judged"], row["judgements"]) == ("default", 2, 2, 3)
    revec("judgements", "drop", "c", "default")
    assert revec.json("judgements", "list", "c") == []
    assert "no set of judgements 'default'" in revec("judgements", "drop", "c", "default", code=1)


def test_a_migration_is_proven_by_judgements(revec: Shell) -> None:
    """`plan` says what the set can decide, `verify` shows what was seen, `status` the same, `cutover` goes."""
    revec("judgements", "add", "c", "--queries", "q.jsonl", "--qrels", "r.tsv", "--as", "mine")
    declared = ("c", "--to", "openai:fake-b-96", "--judged", "mine", "--margin", "0.2", "--mode", "vector")
    said = revec("plan", *declared)
    assert "gates       completeness, fidelity, quality" in said
    assert "30 judged queries of 'mine', vector: nDCG@10 1.000 now (sd 0.000)" in said
    assert "a difference of 0.100 can be decided" in said
    assert "the margin of 0.2 needs no more" in said
    assert "traffic     no searches were seen in the last minutes, so how long is unknown" in said
    planned = revec.json("plan", *declared)
    assert planned["quality"]["queries"] == COUNT
    assert (planned["quality"]["smallest"], planned["quality"]["more"]) == (0.0999, 0)
    narrow = revec.json("plan", *declared[:-4], "--margin", "0.02", "--mode", "vector")
    assert narrow["quality"]["more"] == 120
    revec("start", *declared)
    revec("worker", "--drain", "--quiet")
    verified = revec("verify", "c")
    heads = ["check", "now", "bound", "limit", "n", "verdict", "proof"]
    assert verified.splitlines()[0].split() == heads
    row = next(line for line in verified.splitlines() if line.startswith("quality"))
    assert row.split()[1:6] == ["0", "-0.0913", "-0.2", "30", "PASSED"] or "PASSED" in row
    assert "no material difference" in row
    gates = revec.json("verify", "c")["gates"]
    assert gates["quality"]["limit"] == -0.2
    assert "no material difference" in revec("status", "c")
    assert "is to be proven by 'mine'" in revec("judgements", "drop", "c", "mine", code=5)
    revec("cutover", "c", "--yes")
    assert revec.json("check") == {"breaches": []}


def test_a_refused_cutover_shows_the_figures(revec: Shell) -> None:
    """Value, bound, limit, n, and the next command; exit code 3 of `verify`, 5 where it is not ready."""
    (revec.folder / "r.tsv").write_text("".join(f"{n}\t{n}\t1\n" for n in range(5)))
    revec("judgements", "add", "c", "--queries", "q.jsonl", "--qrels", "r.tsv")
    revec("start", "c", "--to", "openai:fake-b-96", "--judged", "default", "--mode", "vector")
    revec("worker", "--drain", "--quiet")
    assert "cannot tell yet: ~" in revec("verify", "c", code=3)
    assert "cutover needs ready" in revec("cutover", "c", "--yes", code=5)
    assert "`revec judgements add c`" in revec("status", "c")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["plan", "c", "--to", "openai:fake-b-96", "--judged", "nope"], "no set of judgements 'nope'"),
        (
            ["plan", "c", "--to", "openai:fake-b-96", "--judged", "x", "--margin", "2"],
            "between 0 and 1, not 2",
        ),
        (["plan", "c", "--to", "openai:fake-b-96", "--compare"], "by which judged queries?"),
        (["judgements", "add", "c", "--qrels", "r.tsv"], "add --queries FILE"),
        (["judgements", "add", "c", "--qrels", "r.tsv", "--queries", "nowhere"], "cannot read nowhere"),
        (
            ["judgements", "add", "c", "--qrels", "r.tsv", "--queries", "q.jsonl", "--source", "s"],
            "no source 's'",
        ),
    ],
)
def test_what_cannot_be_is_a_sentence(revec: Shell, arguments: list[str], sentence: str) -> None:
    """With the way out, before anything is written."""
    assert sentence in revec(*arguments, code=1)
