"""`revec ingest`: the good lines go in, each bad one is named with its number and reason."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from revec.app import App
from revec.capture import drafts
from revec.capture.drafts import draft
from revec.capture.ingest import bounded, ingest
from revec.cli.main import run
from revec.model.errors import BadInput
from tests import steps
from tests.capture import people
from tests.loopback import Loopback

GOOD = b'{"id": "1", "text": "one"}'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "is not JSON"),
        (b"nonsense", "is not JSON"),
        (b'{"id": "1", "text": "a"} trailing', "is not JSON"),
        (b'{"id": "1", "text": "raw \x00"}', "is not JSON"),
        (b'{"id": ' + b"9" * 5000 + b', "text": "a"}', "is not JSON"),
        (b'{"id": "1", "text": "a", "metadata": ' + b'{"a":' * 100_000 + b"}", "is not JSON"),
        (b"[1, 2]", "is not an object"),
        (b"null", "is not an object"),
        (b'"text"', "is not an object"),
        (b'{"text": "a"}', "needs an id"),
        (b'{"id": "", "text": "a"}', "needs an id"),
        (b'{"id": null, "text": "a"}', "needs an id"),
        (b'{"id": true, "text": "a"}', "needs an id"),
        (b'{"id": 1.5, "text": "a"}', "needs an id"),
        (b'{"id": NaN, "text": "a"}', "needs an id"),
        (b'{"id": ["1"], "text": "a"}', "needs an id"),
        (json.dumps({"id": "x" * 2_000, "text": "a"}).encode(), "id of 2,000 characters, 1,000 are the most"),
        (b'{"id": ' + b"9" * 4_000 + b', "text": "a"}', "id of 4,000 characters"),
        (b'{"id": "1"}', "needs text as text"),
        (b'{"id": "1", "text": null}', "needs text as text"),
        (b'{"id": "1", "text": 7}', "text is no text"),
        (b'{"id": "1", "text": "a", "title": []}', "title is no text"),
        (b'{"id": "1", "text": "a", "tenant": 7}', "tenant is no text"),
        (b'{"id": "1", "text": "a", "tenant": ""}', "has an empty tenant"),
        (b'{"id": "1", "text": "a", "url": "x"}', "has a field 'url': put what is yours into metadata"),
        (b'{"id": "1\\u0000", "text": "a"}', "id contains a NUL byte"),
        (b'{"id": "1", "text": "a\\u0000b"}', "text contains a NUL byte"),
        (b'{"id": "1", "text": "a", "title": "\\u0000"}', "title contains a NUL byte"),
        (b'{"id": "1", "text": "a", "tenant": "\\u0000"}', "tenant contains a NUL byte"),
        (b'{"id": "1", "text": "\\ud800"}', "text contains a lone surrogate (U+D800)"),
        (b'{"id": "\\udfff", "text": "a"}', "id contains a lone surrogate (U+DFFF)"),
        (b'{"id": "1", "text": "\xff"}', "is not UTF-8 (byte 21)"),
        (b'{"id": "1", "text": "\xed\xa0\x80"}', "is not UTF-8"),
        (b'{"id": "1", "text": "a", "metadata": []}', "metadata is no object"),
        (b'{"id": "1", "text": "a", "metadata": {"n": NaN}}', "metadata holds NaN or infinity"),
        (b'{"id": "1", "text": "a", "metadata": {"n": [-Infinity]}}', "metadata holds NaN or infinity"),
        (b'{"id": "1", "text": "a", "metadata": {"n": 1e999}}', "metadata holds NaN or infinity"),
        (b'{"id": "1", "text": "a", "metadata": {"n": "\\u0000"}}', "metadata contains a NUL byte"),
        (b'{"id": "1", "text": "a", "metadata": {"\\u0000": 1}}', "metadata contains a NUL byte"),
        (
            b'{"id": "1", "text": "a", "metadata": {"a": [{"b": "\\udc00"}]}}',
            "metadata contains a lone surrogate",
        ),
        (
            b'{"id": "1", "text": "a", "metadata": {"a": ' + b"[" * 500 + b"]" * 500 + b"}}",
            "metadata is nested deeper than 100 levels",
        ),
    ],
)
def test_a_bad_line_has_a_reason(line: bytes, reason: str) -> None:
    """Whatever is in it: a sentence, never a traceback."""
    with pytest.raises(BadInput) as error:
        draft(line)
    assert reason in str(error.value)


@pytest.mark.parametrize(
    "metadata",
    [
        {"text of a backslash": "\\u0000 is how JSON writes a NUL"},
        {"\\u0000": "\\\\u0000"},
        {"n": [0, -1.5e10, 10**300, None, True, "", {}]},
        {"日本": "👩‍🚀", "quote": '"', "control": "\x01\x7f"},
    ],
)
async def test_metadata_is_kept_as_it_is(metadata: dict[str, Any], app: App) -> None:
    """Anything that JSON and Postgres can both hold."""
    made = await steps.collection(app)
    line = json.dumps({"id": "1", "text": "a", "metadata": metadata}).encode()
    assert (await ingest(app.database, made, [line])).refused == []
    (row,) = await steps.rows(app, "SELECT metadata FROM revec.document")
    assert row.metadata == metadata
    await people.settled(app, made, {"1": ("", "a")})


async def test_no_depth_of_metadata_is_a_crash(app: App) -> None:
    """Around every limit of Python and Postgres: taken or refused, nothing else."""
    made = await steps.collection(app)
    depths = [1, 50, 98, 99, 100, 101, 500, *range(900, 1000, 7), 3_000, 50_000]
    lines = [
        b'{"id": %d, "text": "a", "metadata": {"a": %b%b}}' % (depth, b"[" * depth, b"]" * depth)
        for depth in depths
    ]
    result = await ingest(app.database, made, lines)
    assert result.taken + len(result.refused) == len(lines)
    assert result.taken == 5
    await people.settled(app, made, {str(depth): ("", "a") for depth in (1, 50, 98, 99, 100)})


async def test_pushed_in_any_mode(any_app: App) -> None:
    """Embedded, pooled, as a plain owner: in, again, changed, moved to another tenant."""
    app = any_app
    made = await steps.collection(app)
    lines = [json.dumps({"id": n, "title": f"t {n}", "text": f"x {n}"}).encode() for n in range(20)]
    expected = {str(n): (f"t {n}", f"x {n}") for n in range(20)}
    for _ in range(2):
        assert (await ingest(app.database, made, lines)).taken == 20
        await people.settled(app, made, expected)
    await ingest(app.database, made, [b'{"id": 3, "text": "moved", "tenant": "other"}'])
    await people.settled(app, made, expected | {"3": ("", "moved")})
    found = await app.retriever.search("c", "moved", k=3, tenant="other")
    assert [hit.id for hit in found.hits] == ["3"]


async def test_twice_is_once(app: App, loopback: Loopback) -> None:
    """The same file again: nothing is written, nothing is paid for."""
    made = await steps.collection(app)
    lines = [json.dumps({"id": str(n), "text": f"text {n}"}).encode() for n in range(1_200)]
    assert (await ingest(app.database, made, lines)).taken == 1_200  # three batches
    await steps.drain(app)
    revs = await steps.rows(app, "SELECT key, rev FROM revec.document ORDER BY id")
    loopback.clear()
    assert (await ingest(app.database, made, lines)).taken == 1_200
    await people.settled(app, made, {str(n): ("", f"text {n}") for n in range(1_200)})
    assert await steps.rows(app, "SELECT key, rev FROM revec.document ORDER BY id") == revs
    assert loopback.bill() == []


async def test_the_last_of_equal_ids_wins(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a batch and across batches, also between tenants; one document, one vector."""
    monkeypatch.setattr("revec.capture.ingest.BATCH", 3)
    made = await steps.collection(app)
    lines = [
        json.dumps({"id": "same", "text": f"version {n}", "tenant": f"t{n % 2}"}).encode() for n in range(8)
    ]
    assert (await ingest(app.database, made, lines)).taken == 8
    await people.settled(app, made, {"same": ("", "version 7")})
    (row,) = await steps.rows(app, "SELECT tenant FROM revec.document")
    assert row.tenant == "t1"


async def test_five_megabytes_of_text_are_a_document(app: App) -> None:
    """Long texts are taken, several at once; ids may have hundreds of characters, also wide ones."""
    made = await steps.collection(app)
    long = "a long text " * 450_000
    lines = [json.dumps({"id": str(n), "text": f"{n} {long}"}).encode() for n in range(2)]
    wide = "語" * 800
    lines.append(json.dumps({"id": wide, "text": "wide"}).encode())
    result = await ingest(app.database, made, lines)
    assert (result.taken, result.refused) == (3, [])
    sizes = await steps.rows(app, "SELECT key, length(body) AS n FROM revec.document ORDER BY n DESC")
    assert [row.n for row in sizes] == [len(long) + 2] * 2 + [4]
    await steps.drain(app)
    await steps.assert_oracle(app, made)


async def test_an_id_that_does_not_compress_is_no_crash(app: App) -> None:
    """A thousand random wide characters exceed an index entry: refused in a sentence, the others go in."""
    made = await steps.collection(app)
    wild = "".join(chr(0x4E00 + (n * n * 7919 + n * 104_729) % 20_000) for n in range(1_000))
    lines = [GOOD, json.dumps({"id": wild, "text": "wild"}).encode(), b'{"id": "2", "text": "two"}']
    result = await ingest(app.database, made, lines)
    assert [number for number, _ in result.refused] == [2]
    assert "bytes" in result.refused[0][1]
    await people.settled(app, made, {"1": ("", "one"), "2": ("", "two")})


# --- the command --------------------------------------------------------------------------------------

Door = Callable[..., Any]


@pytest.fixture
def revec(dsn: str, loopback: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Door:
    """The command on a database with the collection `c`."""
    monkeypatch.setenv("REVEC_DSN", dsn)
    monkeypatch.setenv("OPENAI_BASE_URL", loopback.url)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("REVEC_MEMORY", "2G")  # the worker is in this process, which holds all the tests

    def door(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(arguments)
        said = capsys.readouterr()
        return int(code), said.out, said.err

    assert door("collections", "create", "c", "--model", steps.OLD)[0] == 0
    return door


def keys(dsn: str) -> dict[str, str]:
    with psycopg.connect(dsn) as conn:
        return dict(conn.execute("SELECT key, body FROM revec.document").fetchall())


def test_a_file_of_good_and_bad_lines(revec: Door, dsn: str) -> None:
    """The good ones are in, the bad ones named by line, exit code 1; mended and run again, exit code 0."""
    text = b"\n".join(
        [
            b"\xef\xbb\xbf" + GOOD,  # a byte order mark
            b"",
            b"not JSON [bold]",
            b'  {"id": "2", "text": "two"}\r',
            b'{"id": "3"}',
            b" \t ",
            b'{"id": "4", "text": "\xff"}',
            b'{"id": "5", "text": "last, without a newline"}',
        ]
    )
    Path("docs.jsonl").write_bytes(text)
    code, out, err = revec("ingest", "c", "docs.jsonl")
    assert code == 1
    assert "3 documents taken, 3 lines refused." in out
    lines = err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["line 3", "line 5", "line 7"]
    assert "is not JSON" in lines[0]
    assert "needs text as text" in lines[1]
    assert "is not UTF-8 (byte 21)" in lines[2]
    assert keys(dsn) == {"1": "one", "2": "two", "5": "last, without a newline"}

    Path("docs.jsonl").write_bytes(b"\n".join(text.split(b"\n")[i] for i in (0, 3, 7)))
    code, out, err = revec("ingest", "c", "docs.jsonl", "--json")
    assert (code, json.loads(out), err) == (0, {"taken": 3, "refused": [], "queued": None}, "")
    assert revec("worker", "--drain")[0] == 0
    assert revec("check")[0] == 0


def test_refused_lines_as_json(revec: Door, dsn: str) -> None:
    """For programs: one document on standard output, numbers and reasons in it."""
    Path("docs.jsonl").write_bytes(GOOD + b"\n[]\n")
    code, out, _ = revec("ingest", "c", "docs.jsonl", "--json")
    said = json.loads(out)
    assert (code, said["taken"], [refused["line"] for refused in said["refused"]]) == (1, 1, [2])
    assert "is not an object" in said["refused"][0]["reason"]


@pytest.mark.parametrize("text", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_nothing(text: bytes, revec: Door, dsn: str) -> None:
    """Not an error: no line was refused."""
    Path("docs.jsonl").write_bytes(text)
    code, out, _ = revec("ingest", "c", "docs.jsonl")
    assert (code, out) == (0, "0 documents taken, 0 lines refused.\n")


def test_what_is_not_there_is_a_sentence(revec: Door) -> None:
    """No such file, a folder, no such collection."""
    Path("folder").mkdir()
    for name, file, sentence in (
        ("c", "nowhere.jsonl", "there is no file nowhere.jsonl"),
        ("c", "folder", "there is no file folder"),
        ("nobody", "-", "no collection is named 'nobody' (there is c)"),
    ):
        code, _, err = revec("ingest", name, file)
        assert (code, sentence in err) == (1, True), err


def test_a_dash_is_standard_input(revec: Door, dsn: str) -> None:
    """`… | revec ingest c -`, bad lines and all, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "revec.cli.main", "ingest", "c", "-"],
        input=GOOD + b"\n\xff\n" + b'{"id": "2", "text": "two"}',
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == b"2 documents taken, 1 lines refused.\n"
    assert done.stderr.startswith(b"line 2: is not UTF-8")
    assert keys(dsn) == {"1": "one", "2": "two"}


@pytest.mark.parametrize("ending", [b"\n", b""])
async def test_a_line_without_end_is_refused_unread(
    app: App, monkeypatch: pytest.MonkeyPatch, ending: bytes
) -> None:
    """By its number; the lines around it go in, and no more of it than the limit is ever held."""
    monkeypatch.setattr(drafts, "MOST_LINE", 1_000)
    made = await steps.collection(app)
    huge = b'{"id": "2", "text": "' + b"x" * 50_000 + b'"}'
    file = io.BytesIO(b"\n".join([GOOD, huge, b'{"id": "3", "text": "three"}', huge + ending]))
    lines = list(bounded(file))
    assert max(map(len, lines)) == 1_001
    result = await ingest(app.database, made, lines)
    assert (result.taken, [number for number, _ in result.refused]) == (2, [2, 4])
    assert "split the document" in result.refused[0][1]
    await people.settled(app, made, {"1": ("", "one"), "3": ("", "three")})
