"""Every order of two sessions' statements: the oracle holds after each of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import psycopg
import pytest

from revec.app import App
from revec.migrate import backfill
from revec.migrate.check import check
from revec.model.document import Draft
from revec.model.index import Collection, Index, Kind
from revec.model.migration import Migration, State
from revec.postgres import collections, documents, indexes, migrations, tenants
from revec.postgres.database import Connection, Database
from revec.postgres.tenants import Said
from revec.work import letters, pack, queue, steering
from revec.work.reading import Piece, Reader
from tests import loopback as fake
from tests import steps
from tests.loopback import Loopback
from tests.model.test_chunking import by_bytes
from tests.work import hands
from tests.work.interleave import Stepped, Story, schedules

# Statements that meet no other session, and need no turn of their own.
ALONE = (
    "set_config",
    "-- One writer per source",
    "INSERT INTO revec.source",
    "-- Register a source",
    "-- One typed table",
    "-- Beside its row",
    "CREATE INDEX",
    "SELECT revec.protect",
    "SELECT i.id, i.collection_id",
    "-- What was dead or left out",
)
CATALOG = ("-- Every table here", "-- The indexes whose points")  # no story here makes or drops an index
DEEDS = (
    "INSERT INTO revec.deed",
    "UPDATE revec.deed",
    "SELECT id, at, who",
    "-- The one that is named",
)  # nobody else's
OLD_SET_IS_GONE = "-- After the document's old set"  # the rows are locked since they were deleted


@pytest.fixture(autouse=True)
def one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy document is tried once: further tries would only repeat the orders."""
    monkeypatch.setattr(pack, "BUSY_TRIES", 0)


LEAVES = "-- A document that changed its tenant"  # none does here, but the barrier is taken with it


@asynccontextmanager
async def two_sessions(
    app: App, *, quiet: Sequence[str] = (*ALONE, LEAVES)
) -> AsyncIterator[Callable[..., AsyncIterator[Any]]]:
    """Runs stories in every order; for the app's database."""
    async with AsyncExitStack() as exits:
        monitor = await exits.enter_async_context(
            await psycopg.AsyncConnection.connect(app.database.dsn, autocommit=True)
        )
        sessions = []
        for _ in range(2):
            session = await exits.enter_async_context(Stepped(app.database.dsn, quiet=quiet))
            await session.learn()
            sessions.append(session)

        def run(stories: Callable[[], Awaitable[Sequence[Story]]]) -> AsyncIterator[Any]:
            return schedules(monitor, sessions, stories)

        yield run


@dataclass(frozen=True, slots=True)
class Embedded:
    """A document that a worker claimed and has the vector of: all but the write."""

    claim: queue.Claim
    piece: Piece
    vectors: dict[bytes, Any]
    payment: UUID

    def write(self, app: App, index: Index) -> Story:
        async def story(database: Database) -> None:
            site = await hands.site(app, index, database)
            await site._write(self.claim, [self.piece], self.vectors, self.payment)

        return story


async def embedded(app: App, made: Collection, index: Index, draft: Draft) -> Embedded:
    """The document is written and claimed; what earlier orders left is put aside."""
    await steps.rows(app, "UPDATE revec.work SET not_before = 'infinity' RETURNING 1")
    await steps.put(app, made, [draft])
    claim = await hands.claim(app, index)
    (job,) = claim.jobs
    async with app.database.transaction("worker") as conn:
        content = (await documents.contents(conn, await documents.measured(conn, [job.doc_id])))[job.doc_id]
    (piece,) = Reader(index.space, by_bytes, None).pieces(claim, {job.doc_id: content})
    (vector,) = fake.vectors(piece.texts, index.space.model)
    async with app.database.transaction("worker") as conn:
        payment = await queue.lease_payment(conn, index.space.id, piece.hashes, 60)
    return Embedded(claim, piece, {piece.hashes[0]: vector}, payment.token)


def put(source: int, *drafts: Draft) -> Story:
    """Each draft in a transaction of its own."""

    async def story(database: Database) -> None:
        for draft in drafts:
            async with database.transaction() as conn:
                await documents.put(conn, source, [draft])

    return story


def delete(source: int, *keys: str) -> Story:
    async def story(database: Database) -> None:
        async with database.transaction() as conn:
            await documents.delete(conn, source, keys)

    return story


async def pushed(app: App, made: Collection) -> int:
    async with app.database.transaction() as conn:
        return await collections.add_source(conn, made, collections.PUSH)


async def backfilling(app: App, made: Collection) -> Migration:
    """The collection's migration, as far as the backfill; nobody but the test moves it on."""
    async with app.database.transaction() as conn:
        (migration,) = await migrations.active(conn, made.id)
        for state in (State.CAPTURING, State.BACKFILLING):
            await migrations.move(conn, migration, state, who="test", why="test")
            migration = replace(migration, state=state)
        await migrations.pause(conn, migration, "by hand")
    return migration


async def assert_orders(
    app: App,
    stories: Callable[[], Awaitable[Sequence[Story]]],
    *,
    least: int,
    quiet: Sequence[str] = (*ALONE, LEAVES),
) -> None:
    """After every order of the stories the invariants hold and nothing stale was written."""
    count = 0
    async with two_sessions(app, quiet=quiet) as run:
        async for schedule in run(stories):
            count += 1
            stale = await steps.rows(app, "SELECT doc_id FROM revec.stale_write")
            assert stale == [], f"a stale vector was written by\n{schedule}"
            breaches = await check(app.database, freshness=30)
            assert breaches == [], f"{breaches[0]} after\n{schedule}"
    print(f"{count} orders")
    assert count >= least, "fewer orders than there are"


async def assert_all_done(app: App, *collected: Collection) -> None:
    assert [row for row in await hands.work(app) if row.leased] == []
    # Live, all of it: a paused migration's backfill would wait.
    await steps.rows(app, "UPDATE revec.work SET not_before = '-infinity', lane = 0 RETURNING 1")
    await steps.drain(app)
    assert await hands.work(app) == []
    for made in collected:
        await hands.assert_oracle(app, made)


async def test_write_and_edit(app: App, loopback: Loopback) -> None:
    """A worker writes the old text's vector while an edit comes, and another one back."""
    made, index = await hands.indexed(app)
    source, count = await pushed(app, made), 0

    async def stories() -> list[Story]:
        nonlocal count
        count += 1
        draft = Draft(key=f"{count}", body=f"the first text of {count}")
        there = replace(draft, body=f"the second text of {count}")
        begun = await embedded(app, made, index, draft)
        return [begun.write(app, index), put(source, there, draft)]

    await assert_orders(app, stories, least=60)
    await assert_all_done(app, made)


async def test_write_and_write(app: App, loopback: Loopback) -> None:
    """Two workers write one document at once, as the lease of the first one has run out."""
    made, index = await hands.indexed(app)
    count = 0

    async def stories() -> list[Story]:
        nonlocal count
        count += 1
        zombie = await embedded(app, made, index, Draft(key=f"{count}", body=f"the text of {count}"))
        await hands.expire(app)
        owner = replace(zombie, claim=await hands.claim(app, index))
        return [unhurt(each.write(app, index)) for each in (zombie, owner)]

    def unhurt(write: Story) -> Story:
        async def story(database: Database) -> None:
            try:
                await write(database)
            except psycopg.errors.UniqueViolation as error:
                raise AssertionError("a worker fell over the other one's row") from error

        return story

    await assert_orders(app, stories, least=20)
    await assert_all_done(app, made)


async def test_write_and_delete(app: App, loopback: Loopback) -> None:
    """A worker writes a vector while its document is deleted and its key comes back."""
    made, index = await hands.indexed(app)
    source, count = await pushed(app, made), 0

    async def stories() -> list[Story]:
        nonlocal count
        count += 1
        draft = Draft(key=f"{count}", body=f"the text of {count}")
        begun = await embedded(app, made, index, draft)
        gone, back = delete(source, draft.key), put(source, draft)

        async def story(database: Database) -> None:
            await gone(database)
            await back(database)

        return [begun.write(app, index), story]

    await assert_orders(app, stories, least=60)
    await assert_all_done(app, made)


async def test_claim_and_claim(app: App, loopback: Loopback) -> None:
    """Two workers claim at once: no document twice, none left out."""
    made, index = await hands.indexed(app)
    claims: list[queue.Claim] = []
    await steps.put(app, made, steps.drafts(6))

    async def claiming(database: Database) -> None:
        async with database.transaction("worker") as conn:
            claims.append(await queue.claim(conn, index.id, queue.LIVE, size=4, lease=60))

    async def stories() -> list[Story]:
        claims.clear()
        await steps.rows(app, "UPDATE revec.work SET lease_until = NULL, token = NULL RETURNING 1")
        return [claiming, claiming]

    count = 0
    async with two_sessions(app) as run:
        async for schedule in run(stories):
            count += 1
            claimed = [job.doc_id for claim in claims for job in claim.jobs]
            assert len(claimed) == len(set(claimed)), f"claimed twice by\n{schedule}"
            leased = [row.doc_id for row in await hands.work(app) if row.leased]
            assert sorted(claimed) == leased, str(schedule)
    assert count >= 6
    await hands.expire(app)
    await assert_all_done(app, made)


async def test_claim_and_hold(app: App, loopback: Loopback) -> None:
    """Whoever holds an index for its build sees every claim there is, or there is none."""
    made, index = await hands.indexed(app)
    await steps.put(app, made, steps.drafts(2))
    claims: list[queue.Claim] = []
    seen: list[int] = []

    async def claiming(database: Database) -> None:
        async with database.transaction("worker") as conn:
            claims.append(await queue.claim(conn, index.id, queue.LIVE, size=4, lease=60))

    async def holding(database: Database) -> None:
        async with database.transaction() as conn:
            await indexes.hold(conn, index.id, held=True)
        async with database.transaction() as conn:
            seen.append((await queue.open_work(conn, [index.id]))[index.id].leased)

    async def stories() -> list[Story]:
        claims.clear()
        seen.clear()
        await steps.rows(app, "UPDATE revec.work SET lease_until = NULL, token = NULL RETURNING 1")
        await steps.rows(app, "UPDATE revec.index SET held = false RETURNING 1")
        return [claiming, holding]

    async with two_sessions(app) as run:
        async for schedule in run(stories):
            ((claim,), (leased,)) = claims, seen
            assert len(claim.jobs) == leased, f"an unseen claim after\n{schedule}"
    await steps.rows(app, "UPDATE revec.index SET held = false RETURNING 1")
    await hands.expire(app)
    await assert_all_done(app, made)


async def retired(app: App, made: Collection) -> None:
    async with app.database.transaction() as conn:
        for index in await indexes.writing(conn, made.id):
            await indexes.retire(conn, index.id)


async def test_register_and_insert(app: App, loopback: Loopback) -> None:
    """An index is registered and backfilled while a document is written: it is in, one way or the other."""
    made: list[Collection] = []
    await hands.indexed(app, "witness")

    async def stories() -> list[Story]:
        if made:  # judged already
            await retired(app, made[-1])
        name = f"c{len(made)}"
        collection = await steps.collection(app, name)
        made.append(collection)
        source = await pushed(app, collection)
        migration = await backfilling(app, collection)
        async with app.database.transaction() as conn:
            space, query = await migrations.recipe(conn, migration)

        async def registering(database: Database) -> None:
            async with database.transaction() as conn:
                index = await indexes.register(conn, collection.id, space, query, Kind(migration.index_kind))
                await app.store.create(conn, index)
                await migrations.set_new_index(conn, migration, index.id)
            await backfill.enqueue_page(database, replace(migration, new_index=index.id))

        return [registering, put(source, Draft(key="1", body=f"a text of {name}"))]

    await assert_orders(app, stories, least=20, quiet=ALONE)
    await assert_all_done(app, made[-1])


async def test_retire_and_insert(app: App, loopback: Loopback) -> None:
    """An index is retired while a document is written: no work for it stays behind."""
    made: list[Collection] = []

    async def stories() -> list[Story]:
        name = f"c{len(made)}"
        collection, index = await hands.indexed(app, name)
        made.append(collection)
        source = await pushed(app, collection)

        async def retiring(database: Database) -> None:
            async with database.transaction() as conn:
                await indexes.retire(conn, index.id)
            async with database.transaction() as conn:
                await indexes.forget(conn, index.id)

        return [retiring, put(source, Draft(key="1", body=f"a text of {name}"))]

    async with two_sessions(app, quiet=ALONE) as run:
        async for schedule in run(stories):
            assert await hands.work(app) == [], f"work for a retired index after\n{schedule}"


Doing = Callable[[Connection, Collection, Index], Awaitable[object]]


async def assert_nothing_stays(app: App, doing: Doing, *, out: bool) -> None:
    """An index is retired while a person wants something of it back; `out`: a letter that was discarded."""
    count = 0

    async def stories() -> list[Story]:
        nonlocal count
        count += 1
        made, index = await hands.indexed(app, f"c{count}")
        begun = await embedded(app, made, index, Draft(key="1", body=f"a text of {count}"))
        async with app.database.transaction("worker") as conn:
            await queue.bury(conn, begun.claim, begun.piece.job, begun.piece.content.input_hash, "because")
            if out:
                await letters.discard(conn, made, [index.id], "a reason", who="test")

        async def retiring(database: Database) -> None:
            async with database.transaction() as conn:
                await indexes.retire(conn, index.id)
            async with database.transaction() as conn:
                await indexes.forget(conn, index.id)

        async def wanting(database: Database) -> None:
            async with database.transaction() as conn:
                await doing(conn, made, index)

        return [retiring, wanting]

    async with two_sessions(app, quiet=(*ALONE, *DEEDS)) as run:
        async for schedule in run(stories):
            for left in ("work", "dead", "excluded"):
                behind = await steps.rows(app, f"SELECT FROM revec.{left}")
                assert behind == [], f"{left} of a retired index after\n{schedule}"


async def test_retire_and_retry(app: App, loopback: Loopback) -> None:
    """Dead letters get another try, or their index is retired: no work for it stays behind."""

    async def retry(conn: Connection, made: Collection, index: Index) -> None:
        await letters.retry(conn, made, [index.id], who="test")

    await assert_nothing_stays(app, retry, out=False)


async def test_retire_and_readmit(app: App, loopback: Loopback) -> None:
    """What was left out is wanted after all, or its index is retired."""

    async def readmit(conn: Connection, made: Collection, index: Index) -> None:
        await steering.readmit(conn, [index.id], letters.EVERY)

    await assert_nothing_stays(app, readmit, out=True)


async def test_retire_and_undo(app: App, loopback: Loopback) -> None:
    """A discard is taken back, or its index is retired."""

    async def undo(conn: Connection, made: Collection, index: Index) -> None:
        await letters.undo(conn, made, who="test")

    await assert_nothing_stays(app, undo, out=True)


async def test_backfill_and_delete(app: App, loopback: Loopback) -> None:
    """A page of the backfill is enqueued while a document of it is deleted and its work done."""
    made, index = await hands.indexed(app)
    source, count = await pushed(app, made), 0
    await app.start(made, steps.OLD)
    migration = replace(await backfilling(app, made), new_index=index.id)
    async with app.database.transaction() as conn:
        await migrations.set_new_index(conn, migration, index.id)

    async def stories() -> list[Story]:
        nonlocal count
        count += 1
        draft = Draft(key=f"{count}", body=f"the text of {count}")
        await steps.put(app, made, [draft])
        await steps.rows(app, "DELETE FROM revec.work RETURNING 1")
        await steps.rows(app, "DELETE FROM revec.backfill RETURNING 1")
        await steps.rows(
            app, "UPDATE revec.migration SET cursor_done = false, enumerated = false RETURNING 1"
        )

        async def paging(database: Database) -> None:
            await backfill.enqueue_page(database, migration)

        return [paging, delete(source, draft.key)]

    await assert_orders(app, stories, least=6)
    await assert_all_done(app, made)


async def test_page_and_priority(app: App, loopback: Loopback) -> None:
    """A tenant is paused and put first while the backfill begins: its cursor has heard of it."""
    made, index = await hands.indexed(app)
    await steps.put(app, made, [Draft("1", body="a text", tenant="a"), Draft("2", body="two", tenant="b")])
    await app.start(made, steps.OLD)
    migration = replace(await backfilling(app, made), new_index=index.id)

    async def stories() -> list[Story]:
        for statement in (
            "DELETE FROM revec.backfill RETURNING 1",
            "DELETE FROM revec.tenant RETURNING 1",
            "UPDATE revec.migration SET cursor_done = false, enumerated = false RETURNING 1",
        ):
            await steps.rows(app, statement)

        async def paging(database: Database) -> None:
            await backfill.enqueue_page(database, migration)

        async def saying(database: Database) -> None:
            async with database.transaction() as conn:
                await tenants.pause(conn, made.id, ["a", "b"], "because")
                await tenants.say(conn, made.id, [Said("b", priority=5), Said("a", priority=-5)])

        return [paging, saying]

    async with two_sessions(app) as run:
        async for schedule in run(stories):
            heard = await steps.rows(
                app, "SELECT tenant, priority, paused FROM revec.backfill ORDER BY tenant"
            )
            assert heard == [("a", -5, True), ("b", 5, True)], (
                f"a cursor is not as was said after\n{schedule}"
            )
    await resume(app, made)
    await assert_all_done(app, made)


async def resume(app: App, made: Collection) -> None:
    async with app.database.transaction() as conn:
        await tenants.resume(conn, made.id, ["a", "b"])


async def test_pay_and_look(app: App, loopback: Loopback) -> None:
    """A worker is done with a text while another asks who pays for it: nobody waits for it afterwards."""
    made, index = await hands.indexed(app)
    space, token, hashes = index.space.id, None, [b"1", b"2"]

    async def stories() -> list[Story]:
        nonlocal token
        await steps.rows(app, "DELETE FROM revec.paid RETURNING 1")
        async with app.database.transaction("worker") as conn:
            payment = await queue.lease_payment(conn, space, hashes, 60)
        token = payment.token

        async def done(database: Database) -> None:
            async with database.transaction("worker") as conn:
                await queue.close_payment(conn, space, payment.token, hashes, {})

        async def look(database: Database) -> None:
            async with database.transaction("worker") as conn:
                await queue.lease_payment(conn, space, hashes, 60)

        return [done, look]

    async with two_sessions(app) as run:
        async for schedule in run(stories):
            left = await steps.rows(app, "SELECT FROM revec.paid WHERE token = %(t)s", t=token)
            assert left == [], f"a right to pay that nobody has any more, after\n{schedule}"
    await assert_all_done(app, made)


async def test_write_and_pay(app: App, loopback: Loopback) -> None:
    """A worker writes the vector of a text while another one needs it too: that one does not pay."""
    made, index = await hands.indexed(app)
    source, count = await pushed(app, made), 0
    rights: list[queue.Payment] = []

    async def stories() -> list[Story]:
        nonlocal count
        count += 1
        rights.clear()
        draft = Draft(key=f"{count}", body=f"the text of {count}")
        begun = await embedded(app, made, index, draft)
        await put(source, replace(draft, key=f"twin {count}"))(app.database)
        claim = await hands.claim(app, index)
        pieces = await hands.read(await hands.site(app, index, app.database), claim)

        async def needing(database: Database) -> None:
            site = await hands.site(app, index, database)
            rights.append((await site._known(claim, pieces))[1])
            async with app.database.transaction("worker") as conn:
                await queue.release(conn, claim, blameless=True)

        return [begun.write(app, index), needing]

    async with two_sessions(app, quiet=(*ALONE, *CATALOG, OLD_SET_IS_GONE)) as run:
        async for schedule in run(stories):
            assert [right.mine for right in rights] == [set()], f"paid twice after\n{schedule}"
    await assert_all_done(app, made)


async def test_redrive_and_edit(app: App, loopback: Loopback) -> None:
    """A dead letter gets another try while its document is edited: the newest text is embedded."""
    made, index = await hands.indexed(app)
    source, count = await pushed(app, made), 0

    async def stories() -> list[Story]:
        nonlocal count
        count += 1
        draft = Draft(key=f"{count}", body=f"the first text of {count}")
        begun = await embedded(app, made, index, draft)
        async with app.database.transaction("worker") as conn:
            await queue.bury(conn, begun.claim, begun.piece.job, begun.piece.content.input_hash, "because")
            await queue.close_payment(conn, index.space.id, begun.payment, begun.piece.hashes, {})

        async def redriving(database: Database) -> None:
            async with database.transaction() as conn:
                await letters.retry(conn, made, [index.id], who="test")

        return [redriving, put(source, replace(draft, body=f"the second text of {count}"))]

    await assert_orders(app, stories, least=4)
    await assert_all_done(app, made)
