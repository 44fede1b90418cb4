"""The playground: the API's own answer, why it is so, and commands that ask the same again."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from html import unescape
from typing import Any

import httpx2

from revec.app import App
from revec.cli.main import build
from revec.model.access import Role
from revec.model.reading import Mode
from revec.web.bodies import Question
from revec.web.console import again
from tests import steps
from tests.console.test_doors import guest
from tests.loopback import Loopback
from tests.web import door

PAGE = "/console/search"
EVIL = (
    "it's",
    '"; exit 7 #',
    "$(exit 7) `exit 7` $HOME",
    "-x --json",
    "two\nlines\rand\x1b[31m red",
    "\u202eturned round",
    "<script>alert(1)</script>",
    "back\\slash 🙂",
    "",
)


async def asked(client: httpx2.AsyncClient, **what: Any) -> str:
    answer = await client.get(PAGE, params={"collection": "c"} | what)
    assert answer.status_code == 200, answer.text
    return answer.text


def answer_in(html: str) -> Any:
    found = re.search(r'<pre class="asked"[^>]*>(.*?)</pre>', html, re.DOTALL)
    assert found, html
    return json.loads(unescape(found[1]))


async def test_the_page_says_what_the_api_answers_and_why(app: App, loopback: Loopback) -> None:
    """The same JSON; the legs with their ranks, what the score is the sum of, and which index at which epoch."""
    await door.two_tenants(app)
    key = await door.holder(app)
    async with guest(app, Role.VIEWER, "acme") as client:
        html = await asked(client, q="document 3")
        api = await client.get("/v1/collections/c/search", params={"q": "document 3"}, headers=key)
        assert answer_in(html) == api.json()
        text = " ".join(re.sub(r"<[^>]+>", " ", html).split())
        assert "openai:fake-64#1, epoch 1" in text
        assert "vectors and words" in text
        assert "by ranks" in text
        assert re.search(r"1/\(60\+\d+\) \+ 1/\(60\+\d+\) = 0\.0\d+", text)
        lexical = " ".join(re.sub(r"<[^>]+>", " ", await asked(client, q="document", mode="lexical")).split())
        assert "Legs words " in lexical
        assert "globex" not in html + lexical


async def test_a_viewer_sees_what_the_api_would_let_them(app: App, loopback: Loopback) -> None:
    """Another's tenant, another index, a collection of others: refused as the API refuses them."""
    await door.two_tenants(app)
    async with guest(app, Role.VIEWER, "acme") as client:
        for what, status in (({"tenant": "globex"}, 403), ({"index": "1"}, 403), ({"collection": "d"}, 404)):
            answer = await client.get(PAGE, params={"collection": "c", "q": "x"} | what)
            assert answer.status_code == status, what
        assert 'name="index"' not in await asked(client)
    async with guest(app, Role.OPERATOR, "acme") as client:
        html = await asked(client, q="document 3", index="openai:fake-64#1")
        assert "globex" not in html
        assert "revec search" not in html  # it knows no index by name


async def test_nothing_serves_yet(app: App) -> None:
    await steps.collection(app)
    async with guest(app, Role.OPERATOR) as client:
        assert "nothing serves c yet" in await asked(client, q="x")


async def test_a_copied_command_says_what_was_asked_and_nothing_else() -> None:
    """A shell reads the very words, whatever they are; the verb reads them as its own; no key is in it."""
    for evil in EVIL:
        says_just(evil)


def says_just(evil: str) -> None:
    question = Question(q=evil, k=3, mode=Mode.LEXICAL, filter=evil or None, tenant=evil or "t")
    line = again.search("c", question, tenant=question.tenant)
    words = read_by_a_shell(line)
    assert words[:2] == ["revec", "search"]
    _, bound, _ = build().parse_args(words[1:], exit_on_error=False, print_error=False)
    assert bound.arguments["query"] == evil
    assert bound.arguments["tenant"] == (evil or "t")
    assert bound.arguments.get("filter") == (evil or None)
    assert (bound.arguments["k"], bound.arguments["mode"]) == (3, "lexical")

    line = again.curl("http://127.0.0.1/", "c", question)
    *_, header, flag, body, address = read_by_a_shell(line)
    assert header == "Authorization: Bearer from the environment"
    assert (flag, address) == ("--json", "http://127.0.0.1/v1/collections/c/search")
    assert Question.model_validate_json(body) == question
    assert line.isprintable()


def read_by_a_shell(line: str) -> list[str]:
    """What its program would be given, byte by byte."""
    printed = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {line}"],
        env={"REVEC_KEY": "from the environment", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        check=False,
    )
    assert printed.returncode == 0, line
    return printed.stdout.decode().split("\0")[:-1]


async def test_hostile_words_stay_words(app: App, loopback: Loopback) -> None:
    await door.two_tenants(app)
    async with guest(app, Role.OPERATOR) as client:
        for evil in EVIL:
            html = await asked(client, q=evil, mode="lexical")
            assert "<script>alert" not in html
            copied = re.findall(r'data-copies="([^"]*)"', html)
            assert len(copied) == 2
            assert all(shlex.quote(evil) in unescape(each) or not evil.isprintable() for each in copied[1:])
