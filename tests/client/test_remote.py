"""What somebody else answers, or nobody: a sentence, and the key stays where it was sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

import revec
from revec import errors
from revec.client import remote

KEY = "revec_not-to-be-seen"
PROBLEM = "application/problem+json"


def answer(status: str, body: bytes = b"", **headers: str) -> bytes:
    said = {"content-length": str(len(body)), "connection": "close"}
    said |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in said.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[str]:
    """A server of one's own: its address. Nobody is still served when it is gone."""
    serves: list[asyncio.Task[None]] = []

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serves.append(task)
        with suppress(OSError):
            await serve(reader, writer)
            writer.close()
            await writer.wait_closed()

    async with await asyncio.start_server(served, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/revec"
        await asyncio.gather(*serves)


@asynccontextmanager
async def saying(said: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """One that says this to everybody: its address, and what it was sent."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(said)

    async with serving(serve) as url:
        yield url, heard


GARBAGE = [
    answer("200 OK", b"<html>"),
    answer("200 OK", b"[]"),
    answer("200 OK", b"{}"),
    answer("200 OK", b'{"hits": [1]}'),
    answer("200 OK", b'{"hits": [], "index": "x"}'),
    answer("200 OK", b"\xff\xfe"),
    answer("200 OK", b"not packed", content_encoding="gzip"),
    answer("502 Bad Gateway", b"<html>", content_type="text/html"),
    answer("401 Unauthorized", b"the proxy's own"),
    answer("503 Service Unavailable", b"no JSON", content_type=PROBLEM),
    answer("302 Found", location="http://127.0.0.1:1/"),
    b"nonsense\r\n\r\n",
    b"",
]


@pytest.mark.parametrize("said", GARBAGE, ids=range(len(GARBAGE)))
async def test_who_is_no_revec_is_not_believed(said: bytes) -> None:
    """One class for all that is not ours, with the address and without the key."""
    async with saying(said) as (url, _), revec.connect(url, key=KEY) as client:
        with pytest.raises(errors.Unavailable) as refused:
            await client.search("notes", "x")
    assert url in str(refused.value)
    assert KEY not in repr(refused.value)


async def test_nobody_is_there() -> None:
    """A sentence with the way out; opening alone asks nothing."""
    async with revec.connect("http://127.0.0.1:1", key=KEY) as client:
        with pytest.raises(errors.Unavailable, match="revec serve"):
            await client.collections()


async def test_a_key_goes_where_it_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server cannot send it on, nor what was asked."""
    async with (
        saying(answer("200 OK")) as (elsewhere, heard),
        saying(answer("307 Temporary Redirect", location=elsewhere)) as (url, first),
        revec.connect(url, key=KEY) as client,
    ):
        with pytest.raises(errors.Unavailable, match="307"):
            await client.search("notes", "x")
    assert heard == []
    assert f"authorization: bearer {KEY.lower()}".encode() in first[0].lower()
    assert first[0].startswith(
        b"POST /revec/v1/collections/notes/search HTTP/1.1\r\n"
    )  # nothing of the question


@pytest.mark.parametrize("target", ["http://search.example", "http://10.0.0.7:8080/revec"])
def test_a_key_is_shown_to_nobody_on_the_way(target: str) -> None:
    """Not by http to another machine, unless that was said; without a key there is nothing to read."""
    with pytest.raises(errors.BadInput, match="in_clear=True") as refused:
        revec.connect(target, key=KEY)
    assert KEY not in str(refused.value)
    for good in (target.replace("http:", "https:"), "http://127.0.0.1:1", "http://localhost:1"):
        revec.connect(good, key=KEY)
    revec.connect(target, key=KEY, in_clear=True)
    revec.connect(target)


async def test_an_answer_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is not waited for longer than was said; whether it was done, nobody knows."""
    monkeypatch.setattr(remote, "PATIENCE", 0.1)
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        await reader.read()

    async with serving(silent) as url, revec.connect(url) as client:
        with pytest.raises(errors.Unavailable, match="may have been done"):
            await client.put("notes", [{"id": "1", "text": "x"}])


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("401 x", None, errors.NotIdentified),
        ("403 x", None, errors.NotAllowed),
        ("404 x", None, errors.NotFound),
        ("409 x", None, errors.Refused),
        ("409 x", "GateNotMet", errors.GateNotMet),
        ("413 x", None, errors.BadInput),
        ("422 x", None, errors.BadInput),
        ("422 x", "InputRefused", errors.InputRefused),
        ("429 x", "TooMuch", errors.TooMuch),
        ("500 x", None, errors.RevecError),
        ("501 x", "MissingExtra", errors.MissingExtra),
        ("502 x", "AnswerInvalid", errors.AnswerInvalid),
        ("503 x", None, errors.Unavailable),
        ("503 x", "ProviderUnavailable", errors.ProviderUnavailable),
        ("503 x", "OfANewerServer", errors.Unavailable),
        ("503 x", "Mapping", errors.Unavailable),  # a name in the module, and no error
        ("503 x", 7, errors.Unavailable),
    ],
)
async def test_a_problem_is_raised_again(
    status: str, code: object, expected: type[errors.RevecError]
) -> None:
    """By its name, or by its status; with the server's own sentence."""
    said = json.dumps({"detail": "the sentence", "status": int(status[:3]), "code": code}).encode()
    async with (
        saying(answer(status, said, content_type=PROBLEM, retry_after="7")) as (url, _),
        revec.connect(url, key=KEY) as client,
    ):
        with pytest.raises(errors.RevecError) as raised:
            await client.collections()
    assert type(raised.value) is expected
    assert str(raised.value) == "the sentence"
    assert getattr(raised.value, "retry_after", 7.0) == 7.0


async def test_a_newer_server_may_say_more() -> None:
    """What is not known here is left out."""
    hit = {"id": "1", "score": 1.0, "title": "t", "tenant": "x", "source": "push", "colour": "red"}
    body = json.dumps({"collection": "notes", "index": "i#1", "epoch": 1, "hits": [hit], "moon": "full"})
    async with (
        saying(answer("200 OK", body.encode(), content_type="application/json")) as (url, _),
        revec.connect(url) as client,
    ):
        found = await client.search("notes", "x")
    assert found == revec.Answer("notes", "i#1", 1, [revec.Hit("1", 1.0, "t", "x", "push")])
