"""Audit: every recorded act with its person, in pages that fit together, and as cells that run nothing."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any, NamedTuple

import pytest

from revec.app import App
from revec.model.access import Role
from revec.model.errors import BadInput
from revec.model.index import Collection
from revec.model.judging import Said
from revec.postgres import audit, judgements, keys
from revec.postgres.audit import Filtered, Place
from revec.work import control
from tests import steps
from tests.console.test_doors import guest, log_in
from tests.loopback import Loopback
from tests.web import door
from tests.web.test_visible import SEES

PAGE = "/console/audit"
FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "＝1", "=cmd|'/c calc'!A1")


class Row(NamedTuple):
    at: datetime
    kind: str
    collection: str | None
    who: str
    did: str
    why: str


async def some(app: App) -> Collection:
    """One act of each kind, each by somebody else."""
    made = await steps.ready(app)
    await replace(app.commands, who="ann").pause(made, "lunch")
    await replace(app.commands, who="ben").resume(made)
    async with app.database.transaction() as conn:
        await control.throttle(conn, made, claim=10, who="cem")
        said = Said("words", "default", ("push", "3"), 2)
        await judgements.judge(conn, made, "default", said, who="dan")
        key = await keys.create(conn, Role.VIEWER, tenant="acme", by="eve")
        await keys.revoke(conn, key.prefix, by="fay")
        await keys.revoke(conn, key.prefix, by="gus")  # it was: nothing changes
    await replace(app.commands, who="hal").shadow.point(made, rate=0.05, to=None)
    return made


async def rows(app: App, limit: int = 1000, before: Place | None = None, **how: Any) -> list[Any]:
    async with app.database.transaction("worker") as conn:
        return await audit.page(conn, Filtered(**how), before=before, limit=limit)


async def test_every_act_has_its_person_and_its_reason(app: App, loopback: Loopback) -> None:
    await some(app)
    found = {(row.kind, row.who): (row.collection, row.did, row.why) for row in await rows(app)}
    assert found["told", "ann"][2] == "paused: lunch"
    assert found["told", "ben"][2] == "the pause: lunch"
    assert found["throttle", "cem"][:2] == ("c", "10 documents in a claim")
    assert found["judgement", "dan"] == ("c", "grade 2 for 3 of push", "words, in set default")
    assert found["key", "eve"][0] is None
    assert re.fullmatch(r"made key revec_\w{8}: viewer of acme", found["key", "eve"][1])
    assert found["revoked", "fay"][1].startswith("revoked key revec_")
    assert ("revoked", "gus") not in found
    assert found["shadow", "hal"][1] == "index 2 shadows at 5 %"
    assert any(kind == "move" for kind, _ in found)
    async with guest(app, Role.OPERATOR) as client:
        html = (await client.get(PAGE)).text
        for who in ("ann", "ben", "cem", "dan", "eve", "fay", "hal"):
            assert f"<td>{who}</td>" in html
        assert "What is not recorded" in html


async def test_pages_of_any_size_are_the_whole_once(app: App, loopback: Loopback) -> None:
    """Also where several things happened at one moment."""
    made = await some(app)
    await steps.rows(app, "UPDATE revec.migration_event SET at = '2026-01-01 00:00+00' RETURNING id")
    whole = await rows(app)
    assert [row.at for row in whole] == sorted((row.at for row in whole), reverse=True)
    for size in (1, 3, 7):
        pages: list[Any] = []
        before = None
        while part := await rows(app, size, before):
            pages += part
            before = Place.read(str(audit.place_of(part[-1])))
        assert pages == whole
    assert len(whole) > 10
    assert made.name in {row.collection for row in whole}


async def test_filters_stand_in_the_address(app: App, loopback: Loopback) -> None:
    await some(app)
    tomorrow = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}"
    async with guest(app, Role.OPERATOR) as client:

        async def people(**asked: str) -> set[str]:
            answer = await client.get(f"{PAGE}/audit.csv", params=asked)
            assert answer.status_code == 200, answer.text
            return {row["who"] for row in csv.DictReader(StringIO(answer.text))}

        assert await people(kind="told", who="AN") == {"ann"}
        assert await people(kind="judgement") == {"dan"}
        assert await people(kind="throttle", of="c") == {"cem"}
        assert await people(since=tomorrow) == set()
        assert await people(until="2020-01-01") == set()
        assert {"ann", "dan", "eve"} <= await people(until=tomorrow)
        for wrong in ({"kind": "x"}, {"since": "soon"}, {"before": "1~2"}, {"before": "x" * 99}):
            assert (await client.get(PAGE, params=wrong)).status_code == 422, wrong
        assert (await client.get(PAGE, params={"of": "nobody's"})).status_code == 200


async def test_only_who_may_see_all_tenants_reads_it_and_of_their_collection(
    app: App, loopback: Loopback
) -> None:
    await some(app)
    other = await steps.collection(app, "d")
    await steps.drain(app)
    for role in (Role.VIEWER, Role.OPERATOR):
        async with guest(app, role, "acme") as client:
            for path in (PAGE, f"{PAGE}/audit.csv"):
                assert (await client.get(path)).status_code == 403
    async with door.door(app) as client:
        await log_in(client, await door.made_key(app, Role.OPERATOR, None, collection=other.name))
        for path in (PAGE, f"{PAGE}/audit.csv"):
            html = (await client.get(path)).text
            assert "migration 3" in html or "migration 2" in html
            for who in ("ann", "dan", "eve", "fay", "hal"):
                assert not re.search(rf"\b{who}\b", html), who
        assert (await client.get(PAGE, params={"of": "c"})).status_code == 404


async def test_who_does_not_see_every_document_reads_no_audit(app: App, loopback: Loopback) -> None:
    """Judgements name documents, and what people asked; of tenants there are only counts."""
    await some(app)
    async with door.door(app) as client:
        await log_in(client, await door.made_key(app, Role.ADMIN, visible=SEES))
        for path in (PAGE, f"{PAGE}/audit.csv"):
            refused = await client.get(path)
            assert refused.status_code == 403
            assert "does not see every document" in refused.text
        assert (await client.get("/console/tenants")).status_code == 200


async def test_no_cell_is_a_formula() -> None:
    """In any column that somebody else may have written; and whatever it holds comes back as it was."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    for formula in FORMULAS:
        row = Row(at, "told", formula, formula, formula, formula)
        (_, cells) = csv.reader(StringIO(audit.as_csv([row]), newline=""))
        assert [cell.removeprefix("'") for cell in cells[2:]] == [formula] * 4
        for cell in cells:
            assert cell.strip()[:1] not in {"=", "+", "-", "@", "＝"}
    plain = Row(at, "told", "c", "ann", "a - b", "it's = fine")
    assert list(csv.reader(StringIO(audit.as_csv([plain]))))[1][3:] == ["ann", "a - b", "it's = fine"]


async def test_hostile_texts_stay_texts(app: App, loopback: Loopback) -> None:
    made = await steps.ready(app)
    evil = '"><script>alert(1)</script>'
    await replace(app.commands, who=evil).pause(made, evil)
    async with guest(app, Role.OPERATOR) as client:
        html = (await client.get(PAGE, params={"who": evil})).text
        assert "<script>alert" not in html
        assert html.count("&lt;script&gt;alert(1)") >= 3


async def test_what_takes_too_long_is_said(app: App, loopback: Loopback, monkeypatch: Any) -> None:
    await some(app)
    monkeypatch.setattr(audit, "MILLISECONDS", 1)
    await steps.rows(
        app,
        "INSERT INTO revec.migration_event (migration_id, who, why)"
        " SELECT 1, repeat('x', 100), repeat('y', 100) FROM generate_series(1, 20000) RETURNING id",
    )
    with pytest.raises(BadInput, match="name a collection, or a span of days"):
        await rows(app, who="nobody at all")
