"""Who did what and why, over all collections that the caller reaches."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from revec.model.access import Caller
from revec.model.errors import NotAllowed
from revec.model.limits import LONGEST_NAME
from revec.postgres import audit
from revec.postgres.audit import FIRST, KINDS, LAST, UNRECORDED, Filtered, Place
from revec.web import asking
from revec.web.bodies import Text
from revec.web.console.view import Tab, shown
from revec.web.console.visit import Overseeing, Visit

router = APIRouter(prefix="/console/audit", include_in_schema=False)
TAB = Tab("Audit", "/console/audit", 80, whole=True)
ROWS = 50
MOST = 10_000  # rows of a file


class Asking(BaseModel):
    """What the address says; empty: nothing was said of it. Days are UTC's."""

    model_config = ConfigDict(frozen=True)

    of: Text = Field(default="", max_length=LONGEST_NAME)  # a collection
    who: Text = Field(default="", max_length=LONGEST_NAME)
    kind: Text = Field(default="", max_length=LONGEST_NAME)
    since: Text = ""
    until: Text = ""
    before: Text = Field(default="", max_length=100)

    def address(self, path: str, **other: str) -> str:
        said = self.model_dump(exclude={"before"}) | other
        return f"{path}?{urlencode({name: value for name, value in said.items() if value})}"

    def filtered(self, caller: Caller) -> Filtered:
        """
        Raises:
            NotFound: another's collection, or nobody's.
            BadInput: there is no such kind or day.
        """
        if self.of:
            asking.require_reach(caller, self.of)
        return Filtered(
            collection=self.of or caller.collection,
            who=self.who or None,
            kind=self.kind or None,
            since=datetime.combine(audit.day(self.since), time.min, UTC) if self.since else FIRST,
            until=datetime.combine(audit.day(self.until), time.max, UTC) if self.until else LAST,
        )


@router.get("")
async def page(visit: Overseeing, asked: Annotated[Asking, Query()]) -> Response:
    rows = await _rows(visit, asked, ROWS)
    return shown(
        visit,
        "audit.html",
        asked=asked,
        rows=rows,
        older=str(audit.place_of(rows[-1])) if len(rows) == ROWS else "",
        kinds=KINDS,
        unrecorded=UNRECORDED,
        most=MOST,
    )


@router.get("/audit.csv")
async def as_file(visit: Overseeing, asked: Annotated[Asking, Query()]) -> Response:
    """The same, for spreadsheets."""
    rows = await _rows(visit, asked, MOST)
    named = {"content-disposition": 'attachment; filename="audit.csv"'}
    return Response(audit.as_csv(rows), media_type="text/csv; charset=utf-8", headers=named)


def _require_whole(caller: Caller) -> None:
    """
    Raises:
        NotAllowed: some documents are hidden from the caller, and judgements name them and what was asked.
    """
    if caller.visible is not None:
        raise NotAllowed(
            f"{caller.name} does not see every document, and what was done concerns all of them: "
            "log in with a key that does"
        )


async def _rows(visit: Visit, asked: Asking, limit: int) -> list[Any]:
    _require_whole(visit.caller)
    wanted = asked.filtered(visit.caller)
    before = Place.read(asked.before) if asked.before else None
    async with visit.app.database.transaction("worker") as conn:
        return await audit.page(conn, wanted, before=before, limit=limit)
