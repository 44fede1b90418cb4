"""The shadow as a person sees and sets it: which index, how much of the traffic, and what it has shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from revec.migrate import evidence, under_way
from revec.migrate.evidence import A_RUNG, TRAFFIC, Evidence, next_rung, require_rate
from revec.migrate.gates import errors, latency, variance
from revec.migrate.gates.base import Tools
from revec.model.errors import BadInput, Refused
from revec.model.index import Collection, Index, Route
from revec.model.migration import Migration
from revec.postgres import indexes, migrations, shadows
from revec.postgres.database import Connection
from revec.postgres.shadows import Pair, Setting

FIRST_RATE = evidence.RUNGS[0]


@dataclass(frozen=True, slots=True)
class Shadowing:
    """The verbs of the shadow, in one person's name."""

    tools: Tools
    who: str

    async def point(self, collection: Collection, *, rate: float | None, to: str | None) -> Setting:
        """Read another index behind the answers, or at another rate; what was seen of a pair stays its own.

        rate: None leaves it as it is (2% at first); to: an index by its name or number, None leaves it, or
        takes the migration's new one.

        Raises:
            BadInput: the rate is no share, or there is no such index.
            Refused: there is nothing to compare with.
        """
        if rate is not None:
            require_rate(rate)
        async with self.tools.database.transaction() as conn:
            route = await indexes.route_of(conn, collection.id)
            before = await shadows.of(conn, collection.id)
            candidate = await _candidate(conn, collection, route, before, to)
            now = rate or (before.rate if before else 0.0) or FIRST_RATE
            await shadows.point(conn, collection.id, candidate.id, now, self.who)
            await self._tell(
                conn, collection, f"the shadow reads {candidate.name} for {now:.0%} of the queries"
            )
            setting = await shadows.of(conn, collection.id)
        assert setting is not None
        return setting

    async def off(self, collection: Collection) -> float | None:
        """The rate that it had; what was observed stays."""
        async with self.tools.database.transaction() as conn:
            rate = await shadows.off(conn, collection.id, self.who)
            if rate is not None:
                await self._tell(conn, collection, "the shadow is off")
        return rate

    async def report(self, collection: Collection) -> dict[str, Any]:
        """What the shadow has shown of the pair that it reads now; for programs and for persons."""
        async with self.tools.database.transaction("worker") as conn:
            route, serving = await indexes.serving(conn, collection.name)
            setting = await shadows.of(conn, collection.id)
            migration = await under_way.found(conn, collection)
            candidate = await _read_now(conn, route, setting)
            pair = Pair(collection.id, serving.id, candidate.id) if serving and candidate else None
            seen = await evidence.of_pair(conn, pair, collection.id)
            verdicts = await migrations.verdicts(conn, migration) if migration else {}
        on = route.shadow is not None
        return {
            "collection": collection.name,
            "on": on,
            "rate": route.shadow.rate if route.shadow else 0.0,
            "serving": serving.name if serving else None,
            "candidate": candidate.name if candidate else None,
            "since": setting.since if setting else None,
            **figures(seen),
            "gates": {gate: str(said.outcome) for gate, (said, _) in verdicts.items() if gate in TRAFFIC},
            "waits_for": _waits(collection, setting, seen, migration, on=on),
        }

    async def _tell(self, conn: Connection, collection: Collection, why: str) -> None:
        if migration := await under_way.found(conn, collection):
            await migrations.tell(conn, migration, who=self.who, why=why)


def figures(seen: Evidence) -> dict[str, Any]:
    """Everything that was observed, in numbers."""
    tenants = {row.tenant or "" for row in seen.every}
    return {
        "questions": len(seen.rows),
        "requests": sum(row.weight for row in seen.rows),
        "effective": round(seen.effective, 1),
        "tenants": len(tenants),
        "first_of_tenants": len(seen.every) - len(seen.rows),
        "variance": variance.figures(seen),
        "latency": latency.of(seen),
        "errors": errors.counted(seen),
        "dropped": seen.losses.dropped,
        "lost": seen.losses.lost,
        "shed": round(seen.losses.share, 4),
        "doubt": seen.doubt,
    }


async def _candidate(
    conn: Connection, collection: Collection, route: Route, before: Setting | None, to: str | None
) -> Index:
    """The index that a person means."""
    written = await indexes.writing(conn, collection.id)
    others = [each for each in written if each.id != route.serving]
    if to is not None:
        found = next((each for each in written if to in (each.name, str(each.id))), None)
        if found is None:
            raise BadInput(f"{collection.name} has no index {to!r}: choose of {_named(others)}")
        if found.id == route.serving:
            raise BadInput(
                f"{found.name} serves {collection.name}: another one shadows it ({_named(others)})"
            )
        return found
    migration = await under_way.found(conn, collection)
    meant = [before.index_id] if before else []
    meant += [each for each in (migration.new_index, migration.old_index) if each] if migration else []
    for index_id in meant:
        found = next((each for each in written if each.id == index_id), None)
        if found is not None:
            return found
    raise Refused(
        f"{collection.name} has one index, so there is nothing to compare with: "
        f"`revec start {collection.name} --to MODEL` fills another"
    )


async def _read_now(conn: Connection, route: Route, setting: Setting | None) -> Index | None:
    """The index that shadows, or would if it were on."""
    if setting is None:
        return None
    chosen = route.previous if setting.index_id == route.serving else setting.index_id
    return None if chosen is None else await indexes.by_id(conn, chosen)


def _named(written: list[Index]) -> str:
    return ", ".join(each.name for each in written) or "none: no other index is kept current"


def _waits(
    collection: Collection, setting: Setting | None, seen: Evidence, migration: Migration | None, *, on: bool
) -> str:
    if setting is None or not on:
        return f"nothing is read: `revec shadow {collection.name} --rate {FIRST_RATE:g}` begins"
    rung = next_rung(setting.rate)
    if migration is None or migration.shadow is None or rung is None:
        return seen.doubt or "nothing: `revec verify` judges what was seen"
    done = len(seen.in_rung)
    return f"{max(0, A_RUNG - done):,} more questions at {setting.rate:.0%}, then {rung:.0%}"
