"""The command as a person has it: a process in an empty folder, its words, its exit codes."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.forked import Forked
from tests.loopback import Loopback

COMMAND = "from revec.cli.main import main; main()"
CRANFIELD = Path(__file__).parents[3] / "shared" / "data" / "cranfield"
WORDS = ("wing", "boundary", "layer", "heat", "flow", "shock", "pressure", "cone", "jet", "plate")


class Shell:
    """Runs `revec` with one environment; by default a failing command fails the test."""

    def __init__(self, folder: Path, **environment: str) -> None:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("REVEC_", "OPENAI_", "PG"))
        }
        self.folder = folder
        self.environment = {**kept, "REVEC_IDLE": "0.02", "REVEC_REQUEST_DEADLINE": "1", **environment}

    def run(self, *arguments: str, code: int = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryDirectory() as place:
            said, out, err = (Path(place) / name for name in ("in", "out", "err"))
            said.write_text(stdin)
            process = Forked.started(
                COMMAND, arguments, cwd=self.folder, env=self.environment, out=out, err=err, said=said
            )
            ended = process.join(240)
            assert ended is not None, f"{arguments}: still runs"
            done = subprocess.CompletedProcess(arguments, ended, out.read_text(), err.read_text())
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def __call__(self, *arguments: str, code: int = 0, stdin: str = "") -> str:
        done = self.run(*arguments, code=code, stdin=stdin)
        return done.stdout if code == 0 else done.stdout + done.stderr

    def json(self, *arguments: str, code: int = 0):
        return json.loads(self.run(*arguments, "--json", code=code).stdout)


@pytest.fixture
def shell(dsn: str, tmp_path: Path, loopback: Loopback) -> Shell:
    return Shell(tmp_path, REVEC_DSN=dsn, OPENAI_BASE_URL=loopback.url, OPENAI_API_KEY="k")


@pytest.fixture
def home() -> Iterator[str]:
    """For an embedded server: below a folder that its user may enter."""
    with tempfile.TemporaryDirectory(prefix="revec-cli-") as name:
        Path(name).chmod(0o755)
        yield f"{name}/home"


def corpus(folder: Path, count: int = 30) -> Path:
    file = folder / "docs.jsonl"
    lines = [
        {
            "id": n,
            "title": f"on the {WORDS[n % 10]}",
            "text": f"the {WORDS[n % 7]} number {n} in a {WORDS[n % 3]}",
        }
        for n in range(count)
    ]
    lines.append({"id": "empty", "title": "", "text": " "})
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def judgements(folder: Path) -> tuple[str, str]:
    (folder / "q.jsonl").write_text('{"id": "1", "text": "the wing number 0"}\n')
    (folder / "r.tsv").write_text("1\t0\t2\n1\t7\t1\n1\t3\t0\n")
    return "q.jsonl", "r.tsv"


def whole_job(revec: Shell, docs: Path, queries: str, qrels: str, *, documents: int, excluded: int):
    """From an empty database to a finished migration; the two evaluations."""
    revec("collections", "create", "c", "--model", "local:wordllama-256")
    assert f"{documents:,} documents taken" in revec("ingest", "c", str(docs))
    revec("worker", "--drain", "--quiet")
    asked = ("eval", "c", "--queries", queries, "--qrels", qrels, "--mode", "vector")
    before = revec.json(*asked)
    revec("start", "c", "--to", "local:minilm-384")
    revec("worker", "--drain", "--quiet")
    verified = revec.json("verify", "c")
    clean = {"missing": 0, "stale": 0, "orphan": 0}
    assert (
        verified.items()
        >= ({"verdict": "PASSED", "documents": documents, "excluded": excluded} | clean).items()
    )
    revec("cutover", "c", "--yes")
    revec("rollback", "c", "--yes")
    revec("cutover", "c", "--yes")
    revec("finish", "c", "--yes", "--drop-after", "0")
    revec("worker", "--drain", "--quiet")
    after = revec.json(*asked)
    found = revec.json("search", "c", "the wing of an aircraft", "--k", "10")
    assert found["index"] == after["index"]
    assert found["epoch"] == 5
    assert found["hits"][0].keys() >= {"id", "score", "title"}
    assert revec.json("check") == {"breaches": []}
    assert revec.json("status", "c")["state"] == "finished"
    return before, after


def test_the_whole_job_on_a_database_of_ones_own(shell: Shell, tmp_path: Path) -> None:
    """With REVEC_DSN: every verb of the job, as processes."""
    before, after = whole_job(shell, corpus(tmp_path), *judgements(tmp_path), documents=31, excluded=1)
    assert before["queries"] == after["queries"] == 1
    assert before.keys() == {"queries", "ndcg@10", "recall@3", "recall@10", "mrr@10", "index"}
    history = shell.json("history", "c")
    assert [event["became"] for event in history if event["became"]][-4:] == [
        "ready",
        "live",
        "finishing",
        "finished",
    ]
    assert all(event["who"] and event["why"] for event in history)


def test_the_whole_job_on_a_real_corpus(home: str, tmp_path: Path) -> None:
    """Without REVEC_DSN, on Cranfield: the quality is the models' own."""
    if not CRANFIELD.is_dir():
        pytest.skip("the Cranfield collection is not beside this checkout: it carries no licence to ship")
    revec = Shell(tmp_path, REVEC_HOME=home, REVEC_THREADS="2")
    files = CRANFIELD / "docs.jsonl", str(CRANFIELD / "queries.jsonl"), str(CRANFIELD / "qrels.tsv")
    before, after = whole_job(revec, *files, documents=1400, excluded=2)
    assert before["queries"] == after["queries"] == 225
    assert before["ndcg@10"] == pytest.approx(0.307, abs=0.005)
    assert after["ndcg@10"] == pytest.approx(0.376, abs=0.010)


def test_a_bad_line_is_named_and_the_good_ones_go_in(shell: Shell, tmp_path: Path) -> None:
    shell("collections", "create", "c", "--model", "openai:fake-64")
    (tmp_path / "mixed.jsonl").write_bytes(
        b'{"id": 1, "text": "good"}\n{"id": 2}\nnot json\n{"id": 3, "text": "\\u0000"}\n'
    )
    said = shell("ingest", "c", "mixed.jsonl", code=1)
    assert "line 2: needs text" in said
    assert "line 3: is not JSON" in said
    assert "line 4: text contains a NUL byte" in said
    assert "1 documents taken, 3 lines refused" in said


@pytest.fixture
def filled(shell: Shell, tmp_path: Path) -> Shell:
    shell("collections", "create", "c", "--model", "openai:fake-64")
    shell("ingest", "c", str(corpus(tmp_path, 5)))
    shell("worker", "--drain", "--quiet")
    return shell


BAD_INPUT = (
    (["collections", "create", "d", "--model", "local:nope"], 1, "wordllama-256"),
    (["collections", "create", "d", "--model", "nope:x"], 1, "openai"),
    (["collections", "create", "d", "--model", "nonsense"], 1, "provider:model"),
    (["collections", "create", "Bad Name", "--model", "openai:fake-64"], 1, "cannot name a collection"),
    (["collections", "create", "c", "--model", "openai:fake-b-64"], 1, "revec start c --to"),
    (["ingest", "nobody", "x.jsonl"], 1, "no file"),
    (["search", "nobody", "words"], 1, "no collection is named"),
    (["search", "c", "words", "--k", "0"], 1, "--k"),
    (["status", "nobody"], 1, "no collection is named 'nobody' (there is c)"),
    (["start", "c", "--to", "local:nope"], 1, "local:minilm-384"),
    (["start", "c", "--to", "openai:fake-64"], 5, "nothing to migrate"),
    (["cutover", "c", "--yes"], 5, "revec start c"),
    (["rollback", "c", "--yes"], 5, "nothing to roll back"),
    (["finish", "c", "--yes", "--drop-after", "soon"], 1, "no duration"),
    (["resume", "c", "--clear", "fidelity"], 1, "--reason"),
    (["serch", "c"], 2, "search"),
    (["search", "c"], 2, "requires"),
)


def test_bad_input_gets_a_sentence_with_the_way_out(filled: Shell) -> None:
    for arguments, code, words in BAD_INPUT:
        said = filled(*arguments, code=code)
        assert words in re.sub(r"\s+", " ", said), arguments


def test_two_migrations_at_once_are_one(filled: Shell) -> None:
    filled("start", "c", "--to", "openai:fake-b-64")
    said = filled("start", "c", "--to", "openai:fake-96", code=5)
    assert "is being migrated to openai:fake-b-64" in said
    assert "a cutover needs ready" in filled("cutover", "c", "--yes", code=5)
    filled("abort", "c", "--yes")
    filled("worker", "--drain", "--quiet")
    assert filled.json("status", "c")["state"] == "aborted"
    assert len(filled.json("status", "c")["indexes"]) == 1


def test_nobody_is_asked_where_nobody_is(filled: Shell) -> None:
    """Without a terminal a verb that users notice needs --yes."""
    filled("start", "c", "--to", "openai:fake-b-64")
    filled("worker", "--drain", "--quiet")
    assert "add --yes" in filled("cutover", "c", code=1)


def test_a_fault_of_the_model_stops_one_index_and_loses_nothing(filled: Shell, loopback: Loopback) -> None:
    """NaN from the provider: nothing is written, the old index serves, `resume` goes on."""
    filled("start", "c", "--to", "openai:fake-b-64")
    loopback.fault("nan", times=None, match="number")
    said = filled("worker", "--drain", "--quiet", code=1)
    assert "NaN" in said
    assert filled.json("search", "c", "wing")["index"].startswith("openai:fake-64")
    loopback.clear()
    assert "lifted the fault" in filled("resume", "c")
    filled("worker", "--drain", "--quiet")
    assert filled.json("verify", "c")["verdict"] == "PASSED"


def test_a_dead_letter_is_shown_and_settled(filled: Shell, tmp_path: Path, loopback: Loopback) -> None:
    """One refused document is exit 1 and a way out; the other one is searchable."""
    loopback.fault("refuse", times=None, match="poison")
    (tmp_path / "more.jsonl").write_text('{"id": "p", "text": "poison"}\n{"id": "ok", "text": "honey"}\n')
    filled("ingest", "c", "more.jsonl")
    assert "dead letter p" in filled("worker", "--drain", "--quiet", code=1)
    assert filled.json("search", "c", "honey", "--k", "1")["hits"][0]["id"] == "ok"
    assert filled.json("queue", "list", "c")[0]["key"] == "p"
    assert filled.json("verify", "c", code=3)["verdict"] == "INCONCLUSIVE"
    filled("queue", "accept", "c", "--reason", "it is poison")
    assert filled.json("verify", "c")["excluded"] == 2
    filled("worker", "--drain", "--quiet")


def test_the_work_is_throttled_and_shown(filled: Shell) -> None:
    """Set, shown, kept where not named, lifted; what would stop it is refused with the verb that stops."""
    assert filled("throttle", "c") == "c: not throttled\n"
    filled("throttle", "c", "--docs-per-second", "2.5")
    said = filled("throttle", "c", "--claim", "9")
    assert said.startswith("c: at most 2.5 documents of the backfill a second, 9 documents in a claim (by ")
    assert "2.5 documents of the backfill a second" in filled("status", "c")
    assert filled.json("throttle", "c")["claim"] == 9
    assert "`revec pause c`" in filled("throttle", "c", "--docs-per-second", "0", code=1)
    assert filled("throttle", "c", "--off") == "c: not throttled\n"
    assert filled("queue", "workers") == "No worker seen: run `revec worker`.\n"


def test_a_source_is_paused_and_read_again(filled: Shell) -> None:
    """By its name; what is pushed cannot be."""
    assert "stop `revec ingest`" in filled("pause", "c", "--source", "push", code=5)
    assert "has no source" in filled("resume", "c", "--source", "app.docs", code=1)


def test_a_worker_says_that_it_is_alive(filled: Shell, tmp_path: Path) -> None:
    """While it works; where it cannot answer, it does not begin."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        assert f"cannot listen at {port}" in filled("worker", "--drain", "--health", port, code=1)
    assert "is no address" in filled("worker", "--drain", "--health", "http://x", code=1)
    worker = subprocess.Popen(
        [sys.executable, "-m", "revec.cli.main", "worker", "--quiet", "--health", f"127.0.0.1:{port}"],
        cwd=tmp_path,
        env=filled.environment,
    )
    try:
        deadline = time.monotonic() + 60
        while (answer := ready_at(int(port))) != b"ok\n" and time.monotonic() < deadline:
            time.sleep(0.05)
        assert answer == b"ok\n"
        (row,) = filled.json("queue", "workers")
        assert row["pid"] == worker.pid
        assert row["claims"] == 0
        assert row["rss_mb"] > 10
    finally:
        worker.terminate()
        assert worker.wait(30) == 0


def ready_at(port: int) -> bytes:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bytes(answer.read())
    except OSError:
        return b""


def test_tenants_are_apart_unless_an_operator_asks(filled: Shell, tmp_path: Path) -> None:
    (tmp_path / "two.jsonl").write_text('{"id": "a", "text": "secret of acme", "tenant": "acme"}\n')
    filled("ingest", "c", "two.jsonl")
    filled("worker", "--drain", "--quiet")
    ids = lambda *more: {hit["id"] for hit in filled.json("search", "c", "secret of acme", *more)["hits"]}  # noqa: E731
    assert "a" not in ids()
    assert ids("--tenant", "acme") == {"a"}
    assert "a" in ids("--all-tenants")
    assert ids("--tenant", "nobody") == set()


def test_plan_writes_nothing_and_shows_the_sql(filled: Shell) -> None:
    planned = filled.json("plan", "c", "--to", "openai:fake-b-96", "--index", "hnsw")
    assert planned["index"] == "hnsw"
    assert planned["gates"] == ["completeness", "fidelity", "recall"]
    assert any("CREATE TABLE" in statement for statement in planned["sql"])
    assert "Nothing was written" in filled("plan", "c", "--to", "openai:fake-b-96")
    assert filled.json("status", "c")["state"] == "finished"


def test_a_collection_moves_to_another_store(filled: Shell, store_of: Callable[[str], str]) -> None:
    """Tried, planned, moved, compared, listed; a password in an address is refused and repeated nowhere."""
    store = store_of("postgresql")
    tried = filled.json("stores", "check", store, "--dims", "64")
    assert tried["passed"]
    assert "revec start" in filled("stores", "check", store)
    planned = filled.json("plan", "c", "--to", "openai:fake-64", "--store", store)
    assert (planned["store"], planned["copies"], planned["index"]) == (store, True, "native")
    said = filled("plan", "c", "--to", "openai:fake-64", "--store", store)
    assert "copied from the index that serves" in said
    assert f"--store {store}` begins" in said
    filled("start", "c", "--to", "openai:fake-64", "--store", store)
    filled("worker", "--drain", "--quiet")
    assert filled.json("status", "c")["state"] == "ready"
    indexes = filled.json("status", "c")["indexes"]
    old, new = [index["name"] for index in indexes]
    assert [index["store"] for index in indexes] == ["pg", store]
    assert "They hold the same" in filled("verify", "c", "--between", old, new)
    filled("cutover", "c", "--yes")
    assert filled.json("search", "c", "the wing")["index"] == new
    assert {row["store"] for row in filled.json("stores", "list")} == {"pg", store}
    assert filled.json("check") == {"breaches": []}
    secret = filled("start", "c", "--to", "openai:fake-64", "--store", "qdrant://me:s3cret@host", code=1)
    assert "REVEC_STORE_KEYS__HOST" in secret
    assert "s3cret" not in secret
    assert "cannot be reached" in filled("stores", "check", "chroma://127.0.0.1:9", code=1)


def test_a_database_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    revec = Shell(tmp_path, REVEC_DSN="postgresql://nobody@127.0.0.1:9/none")
    assert "cannot reach the database" in revec("collections", "list", code=1)


def test_every_verb_explains_itself() -> None:
    from revec.cli.main import build

    app = build()
    for name in app:
        if not name.startswith("-"):
            assert app[name].help.strip(), f"{name} has no help"
