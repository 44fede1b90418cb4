"""Compare: both answers, a person's word on them that the gate counts, and what of it is whose to see."""

from __future__ import annotations

import re
import threading
from html import unescape
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pgvector import HalfVector

from revec.app import App
from revec.cli import judgements as files
from revec.model.access import Role
from revec.model.document import Draft
from revec.model.errors import BadInput
from revec.model.index import Collection
from revec.model.judging import JudgedQuery
from revec.model.reading import Mode
from revec.model.verdict import Outcome
from revec.postgres import collections, judgements
from revec.search import qrels, worst
from tests import loopback as fake
from tests import steps
from tests.console.test_doors import form_of, guest, log_in
from tests.loopback import Loopback
from tests.migrate import test_quality as quality
from tests.search import shadowed
from tests.web import door

PAGE = "/console/compare"
QUERY = "document 3\ntext of document 3"


async def look(client: httpx2.AsyncClient, **asked: Any) -> str:
    answer = await client.get(PAGE, params={"collection": "c", "q": QUERY, "mode": "vector"} | asked)
    assert answer.status_code == 200, answer.text
    return answer.text


async def judge(client: httpx2.AsyncClient, key: str, grade: int, **more: Any) -> httpx2.Response:
    """As the page's form does."""
    page = await client.get(PAGE, params={"collection": "c"})
    said = {"csrf": form_of(page), "q": QUERY, "tenant": "default", "mode": "vector", "source": "push"}
    return await client.post(
        f"{PAGE}/judge", params={"collection": "c"}, data=said | {"key": key, "grade": str(grade)} | more
    )


def said(answer: httpx2.Response) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())


async def test_two_answers_stand_side_by_side(app: App, loopback: Loopback) -> None:
    """Each hit with where the other index has it; overlap, and what each side took."""
    await steps.ready(app)
    async with guest(app, Role.OPERATOR) as client:
        html = await look(client)
        assert "openai:fake-64#1" in html
        assert "openai:fake-b-96#2" in html
        assert re.search(r"overlap@10 <strong>[01]\.\d\d</strong>", html)
        assert html.count("data-hit") == 20
        moves = re.findall(r'class="move (up|down|new|gone)', html)
        assert moves.count("new") == moves.count("gone")
        same = await look(client, old="1", new="1")
        assert "overlap@10 <strong>1.00</strong>" in same
        assert not re.search(r'class="move (up|down|new|gone)', same)


async def test_a_model_that_is_down_leaves_the_other_answer(app: App, loopback: Loopback) -> None:
    await steps.ready(app)
    loopback.fault("503", times=None, model="fake-b-96")
    async with guest(app, Role.OPERATOR) as client:
        html = await look(client, q="document 4")
        assert "It did not answer" in html
        assert html.count("data-hit") == 10
        assert "No overlap" in html


async def test_a_judgement_on_the_page_changes_what_the_gate_says_next(app: App, loopback: Loopback) -> None:
    """The set has changed, so it is looked at again: and then it is seen what the new index has lost."""
    app, made = await quality.make_judged(app)
    before = await quality.look(app, made)
    assert before.outcome is Outcome.PASSED
    async with app.database.transaction() as conn:  # the new index is ruined, and no judged query knows
        for key in range(20):
            await conn.execute(
                "UPDATE revec.vectors_2 SET embedding = %(v)s WHERE doc_id ="
                " (SELECT id FROM revec.document WHERE key = %(k)s)",
                {"v": HalfVector(fake.vector("ruin", "fake-b-96")), "k": str(key)},
            )
    assert (await quality.look(app, made)).outcome is Outcome.PASSED  # the same set is not looked at twice
    async with guest(app, Role.OPERATOR) as client:
        answer = await judge(client, "5", 0)
        assert answer.status_code == 303, said(answer)
        after = await quality.look(app, made)
        assert (after.outcome, after.evidence["look"]) == (Outcome.FAILED, 2)
        await quality.looked(app, made)
        assert "quality gate: FAILED" in await look(client)
    found = await steps.rows(
        app,
        "SELECT q.name, j.key, j.grade, j.origin, j.who"
        "  FROM revec.judgement j JOIN revec.judged_query q ON q.id = j.query_id WHERE j.who IS NOT NULL",
    )
    assert [(*row[:4], row.who[:6]) for row in found] == [("3", "5", 0, "person", "revec_")]


async def test_the_last_word_counts_and_a_new_query_has_its_own_words_for_a_name(
    app: App, loopback: Loopback
) -> None:
    """A file's query keeps its id and segment; what nobody asked before is added, for each tenant apart."""
    await door.two_tenants(app)
    async with app.database.transaction() as conn:
        made = await world_collection(app)
        asked = JudgedQuery("q7", "document\r\n3", {("push", "acme-3"): 1}, "acme", "numbers")
        await judgements.put(conn, made, "default", [asked])
    async with guest(app, Role.OPERATOR) as client:
        for tenant, key, grade in (
            ("acme", "acme-3", 3),
            ("globex", "globex-3", 2),
            ("globex", "globex-3", 0),
            ("", "acme-1", 1),
        ):
            answer = await judge(client, key, grade, q="document\r\n3", tenant=tenant, mode="hybrid")
            assert answer.status_code == 303, said(answer)
            assert "q=document%0A3" in answer.headers["location"]
    async with app.database.transaction() as conn:
        found = {each.name: each for each in await judgements.graded(conn, made, "default")}
    assert found == {
        "q7": JudgedQuery("q7", "document\r\n3", {("push", "acme-3"): 3}, "acme", "numbers"),
        "document 3": JudgedQuery("document 3", "document\n3", {("push", "globex-3"): 0}, "globex"),
        "document 3 (all tenants)": JudgedQuery(
            "document 3 (all tenants)", "document\n3", {("push", "acme-1"): 1}, None
        ),
    }


async def test_a_key_answers_with_both_places_of_the_document(app: App, loopback: Loopback) -> None:
    """For the script: the forms as they are now, by their places, and nothing that moves the page."""
    await steps.filled(app)
    async with guest(app, Role.OPERATOR) as client:
        page = await client.get(PAGE, params={"collection": "c"})
        answer = await client.post(
            f"{PAGE}/judge",
            params={"collection": "c"},
            data={"q": QUERY, "source": "push", "key": "3", "grade": "2", "old_place": "1", "new_place": "4"},
            headers={"hx-request": "true", "x-csrf-token": form_of(page)},
        )
        assert answer.status_code == 200, answer.text
        assert re.findall(r'id="(judge-\w+-\d+)"', answer.text) == ["judge-old-1", "judge-new-4"]
        pressed = re.findall(r'value="(\d)"[^>]*aria-pressed="true"', answer.text)
        assert pressed == ["2", "2"]


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"grade": "4"}, 422),
        ({"grade": "-1"}, 422),
        ({"key": "no such"}, 404),
        ({"tenant": "globex"}, 404),
        ({"q": "  "}, 422),
        ({"q": "a\0b"}, 422),
        ({"set": "x" * 2000}, 422),
        ({"csrf": "0" * 64}, 403),
    ],
)
async def test_what_is_no_judgement_is_refused(
    app: App, loopback: Loopback, wrong: dict[str, str], status: int
) -> None:
    await steps.filled(app)
    async with guest(app, Role.OPERATOR) as client:
        answer = await judge(client, **{"key": "3", "grade": 2} | wrong)
        assert answer.status_code == status, said(answer)
    assert await steps.rows(app, "SELECT FROM revec.judged_set") == []


async def test_a_judged_document_is_one_of_that_tenant(app: App, loopback: Loopback) -> None:
    """Nobody's and another's are refused alike, and nothing is kept of it."""
    await door.two_tenants(app)
    async with guest(app, Role.OPERATOR) as client:
        for key in ("globex-3", "no such"):
            assert (await judge(client, key, 3, tenant="acme")).status_code == 404
        assert (await judge(client, "globex-3", 3, tenant="globex")).status_code == 303
    assert len(await steps.rows(app, "SELECT FROM revec.judgement")) == 1


# --- whose it is to see ------------------------------------------------------------------------------


async def test_a_viewer_compares_in_their_own_tenant_and_judges_nothing(app: App, loopback: Loopback) -> None:
    """Nor chooses other indexes, nor sees the sets, nor what the shadow saw of all tenants."""
    await door.two_tenants(app)
    made = await world_collection(app)
    await app.start(made, steps.NEW)
    await steps.drain(app)
    async with app.database.transaction() as conn:
        secret = JudgedQuery("q1", "globex's own question", {("push", "globex-1"): 1}, "globex")
        await judgements.put(conn, made, "default", [secret])
    for role in (Role.VIEWER, Role.OPERATOR):
        async with guest(app, role, "acme") as client:
            html = await look(client, q="document 3")
            assert "acme-3" in html
            assert "globex" not in html
            assert 'name="grade"' not in html
            assert (await client.get(PAGE, params={"collection": "c", "tenant": "globex"})).status_code == 403
            refused = await judge(client, "acme-3", 3, tenant="acme")
            assert refused.status_code == 403
            for path in ("weigh", "judgements"):
                method = "POST" if path == "weigh" else "GET"
                page = await client.get(PAGE, params={"collection": "c"})
                data = {"csrf": form_of(page)} if path == "weigh" else None
                answer = await client.request(method, f"{PAGE}/{path}", params={"collection": "c"}, data=data)
                assert answer.status_code == 403, path
    async with guest(app, Role.VIEWER, "acme") as client:
        chosen = await client.get(PAGE, params={"collection": "c", "q": "x", "old": "2"})
        assert chosen.status_code == 403
    assert await steps.rows(app, "SELECT FROM revec.judgement WHERE who IS NOT NULL") == []


async def test_who_does_not_see_every_document_sees_no_set(app: App, loopback: Loopback) -> None:
    """An operator of all tenants with a filter compares what it lets through, and judges nothing."""
    await steps.ready(app)
    key = await door.made_key(app, Role.OPERATOR, None, visible='{"lang": "en"}')
    async with door.door(app) as client:
        await log_in(client, key)
        html = await look(client)
        assert html.count("data-hit") == 0
        assert "does not see every document" in html
        assert (await judge(client, "3", 3)).status_code == 403


# --- what is worst, and what was won -----------------------------------------------------------------


async def test_a_set_is_weighed_and_weighed_again_by_what_was_judged_since(
    app: App, loopback: Loopback
) -> None:
    """Asked once of both; a judgement moves wins and losses without another question to a model."""
    await quality.make_judged(app)
    async with guest(app, Role.OPERATOR) as client:
        page = await client.get(PAGE, params={"collection": "c"})
        asked = await client.post(
            f"{PAGE}/weigh", params={"collection": "c"}, data={"csrf": form_of(page), "mode": "vector"}
        )
        assert asked.status_code == 303, said(asked)
        counts = r"(\d+) won, (\d+) lost, (\d+) tied"
        html = said(await client.get(asked.headers["location"]))
        assert re.search(counts, html).groups() == ("0", "0", "40")  # type: ignore[union-attr]
        requests = loopback.requests()
        both = await look(client)
        gone = re.search(r'class="move gone".*?name="key" value="(\d+)"', both, re.DOTALL)
        assert gone, both
        await judge(client, gone[1], 3)
        html = said(await client.get(asked.headers["location"]))
        assert re.search(counts, html).groups() == ("0", "1", "39")  # type: ignore[union-attr]
        assert sum(loopback.requests().values()) - sum(requests.values()) <= 2  # of the look at one query


async def test_the_shadow_s_worst_come_first_and_are_named_where_a_set_knows_them(
    app: App, loopback: Loopback
) -> None:
    made = await steps.ready(app)
    await shadowed.on(app, made)
    await shadowed.ask(app, "document 3", "something else", mode=Mode.HYBRID)
    async with app.database.transaction() as conn:
        known = JudgedQuery("q1", "document 3", {("push", "3"): 1}, "default")
        await judgements.put(conn, made, "default", [known])
    async with guest(app, Role.OPERATOR) as client:
        html = await look(client, q="", by="shadow")
        rows = re.findall(r'<td class="n">([01]\.\d\d)</td>', html)
        assert len(rows) == 2
        assert rows == sorted(rows)
        assert "q=document+3" in html
        assert "something else" not in html  # nobody kept it


async def test_a_set_is_read_again_only_where_something_went_into_it(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks at the page again waits for no other reading; a judgement is seen at the next look."""
    made, counted, read = await steps.ready(app), [], judgements.read

    async def reading(*asked: Any) -> list[JudgedQuery]:
        counted.append(asked)
        return await read(*asked)

    async def judged(name: str, grade: int = 3) -> None:
        async with app.database.transaction() as conn:
            await judgements.put(conn, made, "default", [JudgedQuery(name, name, {("push", "3"): grade})])

    async def sees(queries: int) -> bool:
        return f"Ask both {queries} judged queries" in await look(client, q="")

    monkeypatch.setattr(judgements, "read", reading)
    async with guest(app, Role.OPERATOR) as client:
        assert await sees(0)
        await judged("one")
        assert await sees(1)
        assert await sees(1)
        assert len(counted) == 1
        await judged("two")
        assert await sees(2)
        await judged("two", grade=0)
        assert await sees(1)
        async with app.database.transaction() as conn:
            await judgements.drop(conn, made, "default")
        assert await sees(0)
    assert len(counted) == 3


async def test_hashing_a_set_holds_nobody_up(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large one takes seconds: the process answers others meanwhile."""
    made, hashes, seen = await steps.ready(app), worst._hashes, []
    await shadowed.on(app, made)

    def hashing(*asked: Any) -> dict[bytes, str]:
        seen.append(threading.get_ident())
        return hashes(*asked)

    monkeypatch.setattr(worst, "_hashes", hashing)
    async with guest(app, Role.OPERATOR) as client:
        await look(client, q="", by="shadow")
    assert len(seen) == 1
    assert threading.get_ident() not in seen


# --- files -------------------------------------------------------------------------------------------


async def test_an_exported_set_is_read_again_as_it_was(app: App, loopback: Loopback, tmp_path: Path) -> None:
    made = await steps.filled(app)
    was = [
        JudgedQuery("a 1", 'words, "odd"\tones', {("push", "3"): 2, ("push", "=4"): 0}, "default", "en"),
        JudgedQuery("b", "<script>", {("push", "5"): -1}, None),
    ]
    async with app.database.transaction() as conn:
        await judgements.put(conn, made, "mine & more", was)
    async with guest(app, Role.OPERATOR) as client:
        for form in ("qrels.tsv", "qrels.jsonl", "queries.jsonl"):
            answer = await client.get(
                f"{PAGE}/judgements", params={"collection": "c", "set": "mine & more", "form": form}
            )
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-disposition"] == f'attachment; filename="{form}"'
            (tmp_path / form).write_bytes(answer.content)
    assert (tmp_path / "qrels.tsv").read_text() == "a 1\t3\t2\na 1\t=4\t0\nb\t5\t-1\n"
    for form in ("qrels.tsv", "qrels.jsonl"):
        bad: list[str] = []
        again = files.of_sets(
            tmp_path / "queries.jsonl", tmp_path / form, source="push", tenant=None, bad=bad
        )
        assert (again, bad) == (was, [])


@pytest.mark.parametrize("name", ["a\tb", "a\nb", "a\rb", "\ufeffa"])
def test_an_id_that_a_line_of_tabs_cannot_hold_is_refused(name: str) -> None:
    for query in (
        JudgedQuery(name, "x", {("push", "1"): 1}),
        JudgedQuery("q", "x", {("push", name): 1}),
    ):
        with pytest.raises(BadInput, match="export as jsonl"):
            qrels.tabbed([query])


def test_ids_of_several_sources_are_not_mixed_into_one() -> None:
    with pytest.raises(BadInput, match="docs, push are judged"):
        qrels.tabbed([JudgedQuery("q", "x", {("push", "1"): 1, ("docs", "1"): 2})])


async def test_hostile_texts_stay_texts(app: App, loopback: Loopback) -> None:
    """In words, ids, titles, tenants and sets; in the page, in its links and in a key's answer."""
    evil = "\"><script>alert(1)</script>{{7*7}}&amp;'onx="
    made = await steps.collection(app)
    await steps.put(app, made, [Draft(evil, evil, evil, evil)])
    await steps.drain(app)
    await app.start(made, steps.NEW)
    await steps.drain(app)
    async with guest(app, Role.OPERATOR) as client:
        judged = await judge(client, evil, 3, q=evil, tenant=evil, set=evil)
        assert judged.status_code == 303, said(judged)
        for asked in ({"q": evil, "tenant": evil, "set": evil}, {"q": evil, "by": "shadow"}, {"set": evil}):
            html = await look(client, **asked)
            assert "<script>alert" not in html
            assert '"onx=' not in html
            assert "{{7*7}}" in html
        assert html.count("&lt;script&gt;alert(1)") >= 1


async def world_collection(app: App, name: str = "c") -> Collection:
    async with app.database.transaction() as conn:
        return await collections.named(conn, name)
