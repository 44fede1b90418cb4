"""The work: how it stands, what failed and of what cause, and what a person does about it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, Form, Query
from fastapi.responses import RedirectResponse, Response

from revec.model.errors import BadInput, NotAllowed
from revec.model.index import Collection
from revec.model.limits import LONGEST_NAME
from revec.postgres import indexes
from revec.postgres.database import Connection
from revec.web.bodies import Text
from revec.web.console.environment import rendered
from revec.web.console.refusal import SEE_OTHER
from revec.web.console.view import Tab, shown
from revec.web.console.visit import Acting, Overseeing, Visit
from revec.web.entrance import extend
from revec.work import letters, overview
from revec.work.board import Board, board

TAB = Tab("Queue", "/console/queue", 30, whole=True)
router = APIRouter(include_in_schema=False)
PAGE = 50  # rows
PATIENCE = 60.0  # seconds: of a hundred thousand letters at once
LONGEST_KEY = 2_000  # characters

State = Literal["failed", "waiting", "working", "stuck", "excluded", "settled"]
Like = Annotated[Text | None, Query(max_length=LONGEST_NAME)]
Number = Annotated[int, Query(ge=0, le=2**63 - 1)]


@router.get("/console/queue")
async def queue(
    *,
    visit: Overseeing,
    state: State = "failed",
    like: Like = None,
    index: Number = 0,
    after: Number = 0,
    deed: Number = 0,
) -> Response:
    """`like` and `index`: the letters of one cause, `after` a document; `deed`: what was done just now."""
    if visit.collection is None:
        return shown(visit, "queue.html", now=None, state=state)
    of = await _of_all(visit)
    now = await visit.live.newest(("queue", of.id), _look(visit, of))
    async with visit.app.database.transaction("worker") as conn:
        await overview.bound(conn)
        written = {each.id: each.name for each in await indexes.writing(conn, of.id)}
        chosen = [index] if index in written else [*written]
        facts = await _failed(conn, of, chosen, like, after) if state == "failed" else {}
        rows = await _rows(conn, chosen, state, like, after)
    done = next((each for each in facts.get("deeds", ()) if each.id == deed), None)
    return shown(
        visit,
        "queue.html",
        state=state,
        states=get_args(State),
        now=now,
        names=written,
        of=of,
        like=like,
        index=index,
        rows=rows,
        more=len(rows) == PAGE and state == "failed",
        done=done,
        said=letters.said,
        **facts,
    )


async def _of_all(visit: Visit) -> Collection:
    """
    Raises:
        NotAllowed: some documents are hidden from the caller, and keys and causes tell of them.
    """
    if visit.caller.visible is not None:
        raise NotAllowed(
            f"{visit.caller.name} does not see every document, and these are of all: "
            "log in with a key that does"
        )
    return await visit.of_collection()


async def _failed(
    conn: Connection, of: Collection, chosen: list[int], like: str | None, after: int
) -> dict[str, Any]:
    causes = [] if after else await letters.causes(conn, chosen, PAGE)
    if like is not None:
        causes = [each for each in causes if each.pattern == like]
    return {"causes": causes, "deeds": await letters.deeds(conn, of)}


async def _rows(conn: Connection, chosen: list[int], state: State, like: str | None, after: int) -> list[Any]:
    """The documents in this state; of the failed ones, those of the cause that is opened."""
    if state == "failed":
        behind = (max(chosen, default=0), like or "", after) if after else letters.START
        return [] if like is None else await letters.listed(conn, chosen, PAGE, like=like, after=behind)
    if state == "settled":
        return await letters.settled(conn, chosen, PAGE)
    if state == "excluded":
        return await overview.left_out(conn, chosen, PAGE)
    return await overview.listed(conn, chosen, state, PAGE)


@router.get("/console/live/queue")
async def live(visit: Overseeing, state: State = "failed") -> Response:
    of = await _of_all(visit)

    def render(now: Board) -> str:
        return rendered("queue_now.html", now=now, of=of, state=state)

    return visit.live.view(visit.request, ("queue", of.id, state), _shared(visit, of), render)


def _look(visit: Visit, of: Collection) -> Any:
    async def look() -> Board:
        async with visit.app.database.transaction() as conn:
            return await board(conn, of)

    return look


def _shared(visit: Visit, of: Collection) -> Any:
    """Pages that differ in what is chosen look at the same figures."""

    async def look() -> Board:
        return await visit.live.within(("queue", of.id), _look(visit, of))

    return look


@router.get("/console/queue/document")
async def document(
    visit: Overseeing,
    key: Annotated[Text, Query(max_length=LONGEST_KEY)],
    source: Annotated[Text | None, Query(max_length=LONGEST_NAME)] = None,
) -> Response:
    """One document: how it stands in each index, its timeline, and what may be done."""
    of = await _of_all(visit)
    async with visit.app.database.transaction("worker") as conn:
        await overview.bound(conn)
        seen = await overview.shown(conn, of, key, source)
    return shown(visit, "queue_document.html", of=of, seen=seen)


@router.post("/console/queue/{what}")
async def act(
    *,
    visit: Acting,
    what: Literal["retry", "discard"],
    reason: Annotated[Text, Form(max_length=1000)] = "",
    like: Annotated[Text | None, Form(max_length=LONGEST_NAME)] = None,
    key: Annotated[Text | None, Form(max_length=LONGEST_KEY)] = None,
    source: Annotated[Text | None, Form(max_length=LONGEST_NAME)] = None,
    index: Annotated[int, Form()] = 0,
) -> Response:
    """To the letters of a cause in an index, or to those of a document."""
    if like is None and key is None:
        raise BadInput("say which letters: those of a cause, or of a document")
    if what == "discard" and not reason.strip():
        raise BadInput("say why they may stay out of the index: it is kept beside each of them")
    extend(visit.request, PATIENCE)
    of = await _of_all(visit)
    which = letters.Which(keys=None if key is None else [key], like=like, source=source)
    async with visit.app.database.transaction("worker") as conn:
        written = [each.id for each in await indexes.writing(conn, of.id)]
        chosen = [each for each in written if index in (0, each)]
        if what == "retry":
            deed = await letters.retry(conn, of, chosen, which, who=visit.caller.name)
        else:
            deed = await letters.discard(conn, of, chosen, reason.strip(), which, who=visit.caller.name)
    return _back(visit, deed.id)


@router.post("/console/queue/deeds/undo")
async def undo(visit: Acting, deed: Annotated[int, Form(ge=1, le=2**63 - 1)]) -> Response:
    extend(visit.request, PATIENCE)
    of = await _of_all(visit)
    async with visit.app.database.transaction("worker") as conn:
        undone = await letters.undo(conn, of, deed, who=visit.caller.name)
    return _back(visit, undone.id)


def _back(visit: Visit, deed: int) -> Response:
    visit.live.outdate()
    return RedirectResponse(f"{visit.address(TAB.path)}&deed={deed}", SEE_OTHER)
