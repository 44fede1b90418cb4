"""The evidence of one migration in one place: for a postmortem's appendix, or for who asks a year later.

`evidence.json` holds what the database knows, `report.html` shows it (one file, no script, nothing from
elsewhere), `MANIFEST.sha256` has the hash of both. With a key, `MANIFEST.hmac` is its HMAC-SHA256: whoever
has the key sees that nothing was changed since. It proves no more than that: who has the key may sign
anything, and when it was signed is only claimed.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

from revec.migrate.planning import reality
from revec.model.errors import BadInput
from revec.model.migration import Migration
from revec.observe.pages import page, paragraph, table
from revec.postgres import guards, indexes, migrations, orders
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)
EVIDENCE, REPORT, MANIFEST, SIGNED = "evidence.json", "report.html", "MANIFEST.sha256", "MANIFEST.hmac"


async def gathered(conn: Connection, collection: str, migration: Migration) -> dict[str, Any]:
    """All that is known of a migration; no document's text is in any of these tables."""
    moves = [row._asdict() for row in await migrations.events(conn, migration)]
    verdicts = await (await conn.execute(SQL.verdicts, {"id": migration.id})).fetchall()
    sides = [
        await indexes.by_id(conn, number)
        for number in (migration.old_index, migration.new_index)
        if number is not None
    ]
    order = await orders.of(conn, migration)
    return {
        "collection": collection,
        "gathered_at": datetime.now(UTC),
        "migration": asdict(migration),
        "indexes": [
            {"id": each.id, "name": each.name, "kind": each.kind, "space": each.space.recipe}
            for each in sides
        ],
        "route": asdict(await indexes.route_of(conn, migration.collection_id)),
        "plan": reality.planned(moves),
        "reality": [each.facts for each in reality.compared(moves)],
        "moves": moves,
        "verdicts": [row._asdict() for row in verdicts],
        "guards": [asdict(each) for each in (await guards.of(conn, migration)).values()],
        "guard_events": [move for move in moves if "guard" in move["evidence"]],
        "flips": [move for move in moves if "epoch" in move["evidence"]],
        "order": None if order is None else asdict(order),
        "shadow": await _shadowed(conn, migration),
    }


async def _shadowed(conn: Connection, migration: Migration) -> dict[str, Any] | None:
    """What the dual reads of the two indexes come to."""
    row = await (await conn.execute(SQL.observations, {"id": migration.id})).fetchone()
    return None if row is None else row._asdict()


def files(evidence: Mapping[str, Any], key: str | None) -> dict[str, bytes]:
    """The bundle's files by their names."""
    told = json.dumps(evidence, default=str, ensure_ascii=False, indent=1, sort_keys=True).encode()
    parts = {EVIDENCE: told, REPORT: report(evidence).encode()}
    manifest = "".join(f"{sha256(data).hexdigest()}  {name}\n" for name, data in parts.items()).encode()
    parts[MANIFEST] = manifest
    if key:
        parts[SIGNED] = f"{hmac.new(key.encode(), manifest, sha256).hexdigest()}\n".encode()
    return parts


def write(parts: Mapping[str, bytes], to: Path) -> None:
    """Into a zip, or into a folder that is made.

    Raises:
        BadInput: there is something already, or it cannot be written.
    """
    try:
        if to.suffix == ".zip":
            with to.open("xb") as file, ZipFile(file, "w", ZIP_DEFLATED) as archive:
                for name, data in parts.items():
                    archive.writestr(name, data)
            return
        to.mkdir(parents=True)
        for name, data in parts.items():
            (to / name).write_bytes(data)
    except FileExistsError:
        raise BadInput(f"{to} is there already: evidence is never written over, name another one") from None
    except OSError as error:
        raise BadInput(f"{to} cannot be written: {error.strerror or error}") from error


def report(evidence: Mapping[str, Any]) -> str:
    """What `evidence.json` holds, for the eye."""
    migration = evidence["migration"]
    parts = [
        paragraph(f"It is {migration['state']}. Gathered {evidence['gathered_at']}."),
        table("Plan", ["what", "value"], evidence["plan"].items()),
        table(
            "Plan and reality",
            ["what", "planned", "came", "difference", "in words"],
            ([r["what"], r["planned"], r["came"], r["difference"], r["told"]] for r in evidence["reality"]),
        ),
        table(
            "Gates",
            ["at", "gate", "verdict", "why", "evidence"],
            ([v["at"], v["gate"], v["outcome"], v["why"], v["evidence"]] for v in evidence["verdicts"]),
        ),
        table("Moves", ["at", "who", "move", "why", "evidence"], map(_move, evidence["moves"])),
        table("Guard events", ["at", "who", "move", "why", "evidence"], map(_move, evidence["guard_events"])),
        table(
            "Flips",
            ["at", "who", "epoch"],
            ([m["at"], m["who"], m["evidence"]["epoch"]] for m in evidence["flips"]),
        ),
        table("Shadowed reads", ["what", "value"], (evidence["shadow"] or {"observations": "none"}).items()),
    ]
    return page(f"Migration {migration['id']} of {evidence['collection']} to {migration['target']}", *parts)


def _move(move: Mapping[str, Any]) -> Sequence[Any]:
    was, became = move["was"] or "", move["became"]
    return [
        move["at"],
        move["who"],
        f"{was} → {became}" if became else f"in {was}",
        move["why"],
        move["evidence"],
    ]
