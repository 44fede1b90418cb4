"""The files that pages load: read once, named by their content, so that a browser may keep them for good."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import Response

from revec.model.errors import NotFound

FOLDER = Path(__file__).parent / "static"
KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".txt": "text/plain"}
FOR_GOOD = {"cache-control": "public, max-age=31536000, immutable"}


@dataclass(frozen=True, slots=True)
class Asset:
    body: bytes
    kind: str
    mark: str  # of its content


def _read() -> dict[str, Asset]:
    files = sorted(each for each in FOLDER.rglob("*") if each.suffix in KINDS)
    return {
        each.relative_to(FOLDER).as_posix(): Asset(
            (body := each.read_bytes()), KINDS[each.suffix], sha256(body).hexdigest()[:12]
        )
        for each in files
    }


ASSETS = _read()
router = APIRouter(include_in_schema=False)


def address(name: str) -> str:
    """Where a page finds it."""
    return f"/console/static/{name}?{ASSETS[name].mark}"


@router.get("/console/static/{name:path}")
async def asset(name: str) -> Response:
    found = ASSETS.get(name)
    if found is None:
        raise NotFound("there is no such file")
    return Response(found.body, media_type=found.kind, headers=FOR_GOOD)
