"""Who may come to the console, how they stay, and what a page of somebody else's can do: nothing."""

from __future__ import annotations

import re
from datetime import timedelta

import psycopg
import pytest

from revec.app import App
from revec.model.access import Role
from revec.postgres import keys
from revec.web import problems
from revec.web.console import guests
from revec.web.doorkeeper import ANYBODY
from tests import steps
from tests.console.visiting import LOGIN, MIGRATION, OVERVIEW, form_of, guest, log_in, press
from tests.web import door

POLICY = "default-src 'none'; script-src 'self'; style-src 'self';"
OF_ITS_OWN = re.compile(r"<style|<script>|\sstyle=|\son[a-z]+=|javascript:", re.IGNORECASE)
UNHELD = problems.UNSTORABLE  # the last net: a field says it first, and better
ABROAD = {"origin": "https://elsewhere.example"}


async def test_a_key_opens_the_console_and_is_never_seen_again(app: App) -> None:
    key = await door.made_key(app, Role.ADMIN)
    async with door.door(app) as client:
        asked = await client.get(MIGRATION, params={"collection": "c"})
        assert asked.headers["location"] == f"{LOGIN}?next=%2Fconsole%2Fmigration%3Fcollection%3Dc"
        answer = await log_in(client, key, next="/console/migration?collection=c")
        assert (answer.status_code, answer.headers["location"]) == (303, "/console/migration?collection=c")
        cookie = answer.headers["set-cookie"]
        assert {"HttpOnly", "Path=/", "SameSite=strict"} <= set(cookie.split("; "))
        assert key not in cookie
        assert "Secure" not in cookie
        page = await client.get(OVERVIEW)
        assert page.status_code == 200
        assert key not in page.text


@pytest.mark.parametrize(
    "place", ["https://elsewhere.example/console/", "//elsewhere.example", "/console//elsewhere.example"]
)
async def test_after_logging_in_nobody_is_sent_elsewhere(app: App, place: str) -> None:
    key = await door.made_key(app, Role.ADMIN)
    async with door.door(app) as client:
        assert (await log_in(client, key, next=place)).headers["location"] == OVERVIEW


async def test_behind_tls_the_cookie_never_travels_without(app: App) -> None:
    key = await door.made_key(app, Role.ADMIN)
    async with door.door(app) as client:
        client.headers["x-forwarded-proto"] = "https"
        token = form_of(page := await client.get(LOGIN))
        visitor = page.headers["set-cookie"].partition(";")[0]
        answer = await client.post(LOGIN, data={"csrf": token, "key": key}, headers={"cookie": visitor})
        assert "Secure" in answer.headers["set-cookie"].split("; ")


async def test_a_wrong_key_opens_nothing_and_learns_nothing(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown, revoked, expired or nonsense: one sentence."""
    monkeypatch.setattr(guests, "TRIES", 100.0)
    revoked, expired = await door.made_key(app), await door.made_key(app, lasts=timedelta(seconds=-1))
    async with app.database.transaction() as conn:
        await keys.revoke(conn, revoked, by="a test")
    async with door.door(app) as client:
        said = set()
        for wrong in (f"{revoked[:-1]}x", revoked, expired, "", "x"):
            answer = await log_in(client, wrong)
            assert answer.status_code == 401
            assert "revec_session" not in answer.headers.get("set-cookie", "")
            said.add(answer.text)
        assert len(said) == 1
        assert (await client.get(OVERVIEW)).status_code == 303


async def test_who_tries_keys_has_to_wait(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has a good one comes in meanwhile: behind a proxy both have one address."""
    monkeypatch.setattr(guests, "TRIES", 0.001)
    key = await door.made_key(app, Role.ADMIN)
    async with door.door(app) as client:
        assert (await log_in(client, "x")).status_code == 401
        answer = await log_in(client, "y")
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 1
        assert (await log_in(client, key)).status_code == 303


async def test_a_revoked_key_ends_its_sessions_at_once(app: App) -> None:
    key = await door.made_key(app, Role.ADMIN)
    async with door.door(app) as client:
        await log_in(client, key)
        assert (await client.get(OVERVIEW)).status_code == 200
        async with app.database.transaction() as conn:
            await keys.revoke(conn, key, by="a test")
        assert (await client.get(OVERVIEW)).status_code == 303
        asked_by_a_page = await client.get(OVERVIEW, headers={"hx-request": "true"})
        assert (asked_by_a_page.status_code, asked_by_a_page.headers["hx-redirect"]) == (401, LOGIN)


async def test_who_logs_out_is_out(app: App) -> None:
    """Also with a cookie that was kept."""
    async with guest(app) as client:
        kept = client.cookies["revec_session"]
        page = await client.get(OVERVIEW)
        await client.post("/console/logout", data={"csrf": form_of(page)})
        assert "revec_session" not in client.cookies
        client.cookies.set("revec_session", kept)
        assert (await client.get(OVERVIEW)).status_code == 303


async def test_a_key_in_a_header_is_nobody_at_the_console(app: App) -> None:
    """A session's cookie is nobody at the API, too."""
    admin = await door.holder(app, Role.ADMIN)
    async with door.door(app) as client:
        assert (await client.get(OVERVIEW, headers=admin)).status_code == 303
    async with guest(app) as client:
        door.said(await client.get("/v1/collections"), 401)


async def test_a_form_needs_the_token_of_its_page(app: App) -> None:
    """Without one, with one of somebody else's, or from another site nothing is done."""
    made = await steps.ready(app, 3)
    async with guest(app) as client, guest(app) as other:
        at = {"collection": "c"}
        theirs = form_of(await other.get(MIGRATION, params=at))
        mine = form_of(await client.get(MIGRATION, params=at))
        for fields, headers in (
            ({}, {}),
            ({"csrf": ""}, {}),
            ({"csrf": theirs}, {}),
            ({"csrf": "0" * 64}, {}),
            ({"csrf": mine}, ABROAD),
            ({"csrf": mine}, {"origin": "null"}),
            ({"csrf": mine}, {"sec-fetch-site": "cross-site"}),
            ({"csrf": mine}, {"sec-fetch-site": "same-site"}),
        ):
            asked = {"typed": "c"} | fields
            answer = await client.post(f"{MIGRATION}/cutover", params=at, data=asked, headers=headers)
            assert answer.status_code == 403, fields
        assert (await app.serving("c")).name == (await steps.written(app, made))[0].name
        own = {"origin": "http://127.0.0.1", "sec-fetch-site": "same-origin"}
        asked = {"typed": "c", "csrf": mine}
        answer = await client.post(f"{MIGRATION}/cutover", params=at, data=asked, headers=own)
        assert answer.status_code == 303, answer.text


async def test_a_login_that_somebody_else_sends_is_none(app: App) -> None:
    """Nobody is logged in as another one behind their back."""
    key = await door.made_key(app, Role.ADMIN)
    async with door.door(app) as client:
        assert (await client.post(LOGIN, data={"key": key})).status_code == 403
        token = form_of(await client.get(LOGIN))
        assert (await client.post(LOGIN, data={"key": key, "csrf": token}, headers=ABROAD)).status_code == 403
        client.cookies.clear()
        assert (await client.post(LOGIN, data={"key": key, "csrf": token})).status_code == 403


async def test_without_keys_whoever_is_on_this_machine_may_act_by_a_page_of_ours(app: App) -> None:
    """Under the machine's own names, and by a form's token all the same."""
    await steps.ready(app, 3)
    async with door.door(app, open_to=ANYBODY) as client:
        assert (await client.get(LOGIN)).headers["location"] == OVERVIEW
        assert (await client.get(OVERVIEW, headers={"host": "rebound.example"})).status_code == 403
        assert (await client.post(f"{MIGRATION}/pause", data={})).status_code == 403
        answer = await press(client, "cutover", typed="c")
        assert answer.status_code == 303, answer.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 303),
        ("/console", 303),
        (OVERVIEW, 303),
        (LOGIN, 200),
        ("/console/static/console.css", 200),
        ("/console/static/nothing.css", 404),
        ("/console/static/%2e%2e/app.py", 404),
        ("/console/nothing", 303),
        (f"{LOGIN}?next={'x' * 20_000}", 431),
    ],
)
async def test_every_answer_says_what_a_browser_may_do(app: App, path: str, status: int) -> None:
    async with door.door(app) as client:
        answer = await client.get(path)
        assert answer.status_code == status
        assert answer.headers["content-security-policy"].startswith(POLICY)
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"]


async def test_pages_have_no_script_and_no_style_of_their_own(app: App) -> None:
    """And ask nobody else for anything."""
    await steps.ready(app, 3)
    async with guest(app) as client:
        for path, status in ((LOGIN, 200), (OVERVIEW, 200), (MIGRATION, 200), ("/console/nothing", 404)):
            answer = await client.get(path)
            assert answer.status_code == status
            page = answer.text
            assert not OF_ITS_OWN.search(page)
            assert not re.search(r"(href|src|action)=\"(?!/|#)", page)


async def test_an_address_that_is_none_is_nowhere(app: App) -> None:
    """What a browser says of where it was may be anything."""
    await steps.ready(app, 3)
    async with guest(app) as client:
        said = {"csrf": form_of(await client.get(MIGRATION)), "typed": "x"}
        for header, status in (("origin", 403), ("referer", 422)):
            answer = await client.post(f"{MIGRATION}/cutover", data=said, headers={header: "http://["})
            assert answer.status_code == status
            assert f'href="{OVERVIEW}"' in answer.text


UNSTORABLE = [
    *(
        f"/console/{page}?collection=%00"
        for page in ("", "queue", "tenants", "indexes", "migration", "search")
    ),
    *(f"/console/queue?collection=c&{name}=%00" for name in ("like", "state")),
    *(f"/console/queue/document?collection=c&{said}" for said in ("key=%00", "key=x&source=%00")),
    *(f"/console/tenants?collection=c&{name}=%00" for name in ("word", "tier", "after")),
    "/console/settings?before=%00",
    "/console/compare/judgements?collection=c&set=%00",
    "/console/audit?who=%00",
]


FORMS = [
    ("queue/retry", {"like": "\0"}),
    ("queue/retry", {"key": "\0"}),
    ("queue/retry", {"key": "x", "source": "\0"}),
    ("queue/discard", {"key": "x", "reason": "\0"}),
    ("tenants/pause", {"tenant": "\0", "reason": "x"}),
    ("tenants/pause", {"tenant": "x", "reason": "\0"}),
    ("tenants/set", {"tenant": "x", "tier": "\0"}),
    ("settings/keys/revoke", {"prefix": "\0"}),
    ("migration/pause", {"reason": "\0"}),
    ("migration/plan", {"to": "\0"}),
    ("migration/finish", {"typed": "c", "days": "366"}),
]


async def test_what_cannot_be_kept_is_refused_where_it_is_asked_for(app: App) -> None:
    """By the field, with its name; not by the database."""
    await steps.ready(app, 3)
    async with guest(app) as client:
        for path in UNSTORABLE:
            answer = await client.get(path)
            assert answer.status_code in {404, 422}, path
            assert UNHELD not in answer.text, path
        form = form_of(await client.get(MIGRATION))
        for path, said in FORMS:
            answer = await client.post(f"/console/{path}?collection=c", data={"csrf": form} | said)
            assert answer.status_code == 422, (path, said)
            assert UNHELD not in answer.text, (path, said)


def test_a_value_that_gets_through_is_the_callers_and_a_query_s_own_fault_is_ours() -> None:
    assert problems.response(psycopg.DataError("NUL")).status_code == 422
    assert problems.response(psycopg.errors.NumericValueOutOfRange()).status_code == 422
    assert problems.response(psycopg.errors.DivisionByZero()).status_code == 500


async def test_a_way_that_is_too_long_leads_to_the_first_page(app: App) -> None:
    key = await door.made_key(app, Role.ADMIN)
    async with door.door(app) as client:
        answer = await log_in(client, key, next=f"/console/?{'x' * 2_000}")
        assert (answer.status_code, answer.headers["location"]) == (303, OVERVIEW)
