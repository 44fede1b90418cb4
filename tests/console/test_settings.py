"""Settings: keys that are shown once, roles, budgets, and what is in force without a secret."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from revec.app import App
from revec.model.access import Role
from revec.postgres import tenants
from revec.settings import Settings, in_force
from tests import steps
from tests.console.test_doors import form_of, guest, log_in
from tests.loopback import Loopback
from tests.web import door

PAGE = "/console/settings"
KEY = re.compile(r"revec_[0-9a-f]{8}_[A-Za-z0-9_-]{43}")


async def make(client: httpx2.AsyncClient, **wanted: str) -> httpx2.Response:
    form = form_of(await client.get(PAGE))
    return await client.post(f"{PAGE}/keys", data={"csrf": form, "role": "viewer", "tenant": "acme"} | wanted)


async def test_a_key_is_shown_once_and_is_in_no_log(app: App, capfd: Any, caplog: Any) -> None:
    """In the answer to whoever made it, which nobody may store; no page, log or row has it again."""
    async with guest(app) as client:
        answer = await make(client, days="30")
        assert answer.status_code == 200, answer.text
        (key,) = set(KEY.findall(answer.text))
        assert answer.headers["cache-control"] == "no-store"
        page = await client.get(PAGE)
        assert key not in page.text
        assert key[:14] in page.text
        assert key not in (await client.get("/console/audit")).text
        opened = await client.get("/v1/collections/c/search", headers=door.showing(key))
        assert opened.status_code == 404  # there is no such collection, and the key is good
    printed = capfd.readouterr()
    assert key not in printed.out + printed.err + caplog.text
    for table in ("api_key", "migration_event", "console_session"):
        for row in await steps.rows(app, f"SELECT * FROM revec.{table}"):
            assert key not in repr(row)
    (row,) = await steps.rows(
        app, "SELECT created_by, expires_at - created_at AS lasts FROM revec.api_key WHERE role = 'viewer'"
    )
    assert (row.created_by[:6], row.lasts.days) == ("revec_", 30)


async def test_a_revoked_key_opens_nothing_and_says_who_did_it(app: App) -> None:
    async with guest(app) as client:
        (key,) = set(KEY.findall((await make(client)).text))
        form = form_of(await client.get(PAGE))
        answer = await client.post(f"{PAGE}/keys/revoke", data={"csrf": form, "prefix": key[:14]})
        assert (answer.status_code, answer.headers["location"]) == (303, PAGE)
        assert (await client.get("/v1/collections", headers=door.showing(key))).status_code == 401
        again = await client.post(f"{PAGE}/keys/revoke", data={"csrf": form, "prefix": "revec_00000000"})
        assert again.status_code == 404
        page = (await client.get(PAGE)).text
        assert 'value="' + key[:14] not in page  # no button for it any more
    (row,) = await steps.rows(app, "SELECT revoked_by FROM revec.api_key WHERE revoked_at IS NOT NULL")
    assert row.revoked_by.startswith("revec_")


async def test_no_key_makes_one_that_is_for_more(app: App, loopback: Loopback) -> None:
    """An admin of one collection, or who does not see everything, makes none at all; nor who is no admin."""
    await steps.collection(app)
    bound = [{"collection": "c"}, {"visible": '{"lang": "en"}'}]
    roles = [(Role.ADMIN, None, how) for how in bound]
    roles += [(Role.OPERATOR, None, {}), (Role.OPERATOR, "acme", {}), (Role.VIEWER, "acme", {})]
    for role, tenant, how in roles:
        async with door.door(app) as client:
            await log_in(client, await door.made_key(app, role, tenant, **how))
            page = await client.get(PAGE)
            assert page.status_code == 200
            assert f'action="{PAGE}/keys"' not in page.text
            assert "dsn" not in page.text
            assert (await make(client, role="admin", tenant="")).status_code == 403
            form = form_of(page)
            revoking = await client.post(f"{PAGE}/keys/revoke", data={"csrf": form, "prefix": "revec_0"})
            assert revoking.status_code == 403
    assert len(await steps.rows(app, "SELECT FROM revec.api_key")) == len(roles)


@pytest.mark.parametrize(
    "wrong",
    [
        {"tenant": ""},
        {"role": "admin"},
        {"role": "owner"},
        {"days": "0"},
        {"visible": "{"},
        {"tenant": "a\0b"},
    ],
)
async def test_a_key_that_cannot_be_is_refused_in_a_sentence(app: App, wrong: dict[str, str]) -> None:
    async with guest(app) as client:
        answer = await make(client, **wrong)
        assert answer.status_code == 422, answer.text
        assert not KEY.search(answer.text)


async def test_who_is_of_one_tenant_sees_roles_and_nothing_of_others(app: App, loopback: Loopback) -> None:
    await steps.filled(app)
    await door.made_key(app, Role.VIEWER, "globex")
    async with app.database.transaction() as conn:
        made = await door.collections.named(conn, "c")
        await tenants.say(conn, made.id, [tenants.Said("globex", None, 1, None)])
        await tenants.set_budget(conn, made, ["globex"], Decimal(5))
    async with guest(app, Role.OPERATOR, "acme") as client:
        page = (await client.get(PAGE)).text
        assert "globex" not in page
        assert "moves migrations" in page
    async with guest(app, Role.OPERATOR) as client:
        page = (await client.get(PAGE)).text
        assert "tenant globex" in page
        assert "$5.00" in page
        assert "postgresql://" not in page


async def test_of_secrets_no_more_is_said_than_that_they_are_set() -> None:
    """Whatever has a secret's type or name; addresses come without whoever logs in there."""
    secret = "s3cr3t-canary"
    said: dict[str, Any] = {}
    for name, field in Settings.model_fields.items():
        kind = str(field.annotation)
        if "SecretStr" in kind:
            said[name] = {"host": SecretStr(secret)} if "dict" in kind else SecretStr(secret)
        elif field.repr is False:
            said[name] = f"https://user:{secret}@host/{secret}"
        elif name.endswith("url") or name == "jwt_jwks":
            said[name] = f"https://user:{secret}@host:8/v1?key={secret}"
    shown = {each.name: each for each in in_force(Settings.model_construct(**said))}
    assert secret not in repr(shown)
    assert shown["dsn"].value == shown["openai_api_key"].value == "set"
    assert shown["store_keys"].value == "host: set"
    assert shown["openai_base_url"].value == "https://host:8/v1"
    assert shown["freshness"].value == "30.0"
    assert shown.keys() == Settings.model_fields.keys()
    plain = {each.name: each.value for each in in_force(Settings.model_construct())}
    assert plain["dsn"] == plain["webhook_secret"] == plain["collections"] == "not set"


async def test_settings_are_shown_to_admins_of_everything(app: App) -> None:
    async with guest(app) as client:
        page = (await client.get(PAGE)).text
        assert re.search(r"<code>dsn</code></td><td[^>]*>set</td>", page)
        assert app.settings.dsn not in page
