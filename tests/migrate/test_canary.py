"""Some users first: who is answered by which index, and that one flip takes all of it back."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from datetime import timedelta
from hashlib import sha256

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from revec.app import App
from revec.migrate.canary import Canary, Wanted
from revec.migrate.guard import Guard
from revec.migrate.switch import Switch
from revec.model.errors import BadInput, GateNotMet, Refused, RevecError
from revec.model.index import Collection
from revec.model.migration import ABORTABLE, EARLY, State
from revec.model.verdict import Outcome, Verdict
from revec.postgres import indexes, migrations, overrides
from tests import steps
from tests.loopback import Loopback
from tests.migrate import world

SHARES = st.floats(0, 1)
KEYS = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))), max_size=30)


async def show(app: App, made: Collection, **who: object) -> int:
    return await app.commands.canary.show(made, Wanted(**who), why="test")  # type: ignore[arg-type]


async def answering(app: App, *, tenant: str = "default", sticky: str = "u") -> int:
    return (await app.retriever.search("c", "document", tenant=tenant, sticky=sticky)).index_id


async def with_tenants(app: App, made: Collection, *names: str) -> None:
    for n, tenant in enumerate(names):
        await steps.put(app, made, steps.drafts(2, start=100 + 10 * n, tenant=tenant))
    await steps.drain(app)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=KEYS, candidate=st.integers(1, 2**31 - 1), share=SHARES, more=SHARES)
def test_a_larger_share_contains_every_smaller_one(
    dsn: str, keys: list[str], candidate: int, share: float, more: float
) -> None:
    """Whoever saw the new index sees it at each later step; each key has one place, in [0, 1)."""
    with psycopg.connect(dsn) as conn:
        places = {
            key: conn.execute("SELECT revec.place(%s, %s)", (candidate, key)).fetchone() for key in keys
        }
        again = {key: conn.execute("SELECT revec.place(%s, %s)", (candidate, key)).fetchone() for key in keys}
    small, large = sorted((share, more))
    assert places == again
    assert all(0 <= place < 1 for (place,) in places.values())
    assert {key for key, (place,) in places.items() if place < small} <= {
        key for key, (place,) in places.items() if place < large
    }


async def test_a_share_of_the_users_sees_the_new_index(ready: world.At, loopback: Loopback) -> None:
    """About as many as asked, each always the same; the others the old one; all of it told by `status`."""
    app, made = ready
    await show(app, made, share=0.3)
    users = [f"user {n}" for n in range(400)]
    first = {user: (await route(app, user)) for user in users}
    assert first == {user: (await route(app, user)) for user in users}
    assert 80 <= Counter(first.values())[2] <= 160
    assert await world.state(app, made) is State.CANARY
    assert "30% of the users see the new index" in (await world.look(app, made)).canary
    await show(app, made, share=0.6)
    later = {user: (await route(app, user)) for user in users}
    assert all(later[user] == 2 for user in users if first[user] == 2)
    assert 190 <= Counter(later.values())[2] <= 290
    await steps.assert_oracle(app, made)


async def route(app: App, sticky: str) -> int:
    return (await app.retriever.route("c", tenant="default", sticky=sticky))[1].id


async def test_the_same_question_of_a_tenant_stays_with_one_index(
    ready: world.At, loopback: Loopback
) -> None:
    """Where nobody says who asks."""
    app, made = ready
    await show(app, made, share=0.5)
    for n in range(20):
        seen = {
            (await app.retriever.search("c", f"question {n}", tenant="default")).index_id for _ in range(3)
        }
        assert len(seen) == 1


async def test_whole_tenants_see_it_and_others_are_held(ready: world.At, loopback: Loopback) -> None:
    """`--tenants`, `--hold`: whatever the share of the others is, and a cutover moves no held one."""
    app, made = ready
    await with_tenants(app, made, "acme", "globex")
    await show(app, made, tenants=["acme"])
    assert [await answering(app, tenant=t) for t in ("acme", "globex", "default")] == [2, 1, 1]
    await show(app, made, share=1.0, hold=["globex"])
    assert [await answering(app, tenant=t) for t in ("acme", "globex", "default")] == [2, 1, 2]
    await app.commands.switch.cutover(made, why="test")
    assert [await answering(app, tenant=t) for t in ("acme", "globex", "default")] == [2, 1, 2]
    assert "globex are held" in (await world.look(app, made)).canary
    await steps.assert_oracle(app, made)


async def test_a_tenant_is_rolled_back_alone(live: world.At, loopback: Loopback) -> None:
    """And comes back when it is shown the new index again; the others notice nothing."""
    app, made = live
    await with_tenants(app, made, "acme")
    await show(app, made, hold=["acme"])
    assert [await answering(app, tenant=t) for t in ("acme", "default")] == [1, 2]
    await show(app, made, tenants=["acme"])
    assert [await answering(app, tenant=t) for t in ("acme", "default")] == [2, 2]
    async with app.database.transaction() as conn:
        assert await overrides.in_force(conn, made.id) == {}


async def test_one_rollback_takes_everybody_back(ready: world.At, loopback: Loopback) -> None:
    """Share and tenants are of one epoch: the flip voids them all, and they do not rise again."""
    app, made = ready
    await with_tenants(app, made, "acme")
    await show(app, made, share=0.9, tenants=["acme"])
    await app.commands.switch.rollback(made, why="test")
    assert await world.state(app, made) is State.READY
    assert {
        await answering(app, tenant="acme"),
        *[await answering(app, sticky=f"{n}") for n in range(20)],
    } == {1}
    await show(app, made, share=0.0, hold=["acme"], tenants=["default"])
    assert [await answering(app, tenant=t) for t in ("acme", "default")] == [1, 2]
    await steps.assert_oracle(app, made)


async def test_finish_waits_for_the_last_tenant(live: world.At, loopback: Loopback) -> None:
    """While anybody is answered by the old index it is not dropped: not by the verb, nor at the drop."""
    app, made = live
    await with_tenants(app, made, "acme")
    await show(app, made, hold=["acme"])
    with pytest.raises(
        Refused, match=r"1 tenants are still on the old index \(acme\): `revec canary c --tenants acme`"
    ):
        await app.commands.switch.finish(made, wait=timedelta(0), why="test")
    assert await world.state(app, made) is State.LIVE
    await show(app, made, tenants=["acme"])
    await app.commands.switch.finish(made, wait=timedelta(0), why="test")
    await steps.drain(app)
    assert await world.state(app, made) is State.FINISHED
    await steps.assert_oracle(app, made)


async def test_no_drop_under_a_tenant(live: world.At, loopback: Loopback) -> None:
    """However it came to be held while the finish was under way."""
    app, made = live
    await app.commands.switch.finish(made, wait=timedelta(0), why="test")
    await steps.rows(
        app,
        "INSERT INTO revec.override SELECT collection_id, 'default', epoch, previous FROM revec.route RETURNING 1",
    )
    await steps.rows(app, "UPDATE revec.route SET changed_at = now() - interval '1 hour' RETURNING 1")
    await world.tick(app, 3)
    assert await world.state(app, made) is State.FINISHING
    assert await answering(app) == 1


@pytest.mark.parametrize("wrong", ["gate", "hold", "old", "state"])
async def test_a_canary_wants_the_proofs_of_a_cutover(
    ready: world.At, loopback: Loopback, wrong: str
) -> None:
    """A failed gate, a guard's hold, proof of yesterday, a state before ready: nobody sees the new index."""
    app, made = ready
    if wrong == "gate":
        async with app.database.transaction() as conn:
            failed = Verdict("fidelity", Outcome.FAILED, "planted")
            await migrations.record(conn, await world.migration(app, made), failed)
    elif wrong == "hold":
        await steps.rows(app, "UPDATE revec.migration SET hold = 'errors rose' RETURNING id")
    elif wrong == "old":
        await world.age_verdicts(app, 25)
    else:
        await world.force(app, State.VERIFYING)
    with pytest.raises((Refused, GateNotMet)):
        await show(app, made, share=1.0)
    assert await answering(app) == 1


async def test_a_gate_that_fails_while_it_is_rehearsed(
    ready: world.At, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was said meanwhile counts: asked again once the row is held."""
    app, made = ready
    read = app.retriever.read

    async def failing(*how: object, **more: object) -> object:
        async with app.database.transaction() as conn:
            failed = Verdict("fidelity", Outcome.FAILED, "planted")
            await migrations.record(conn, await world.migration(app, made), failed)
        return await read(*how, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(app.retriever, "read", failing)
    with pytest.raises(GateNotMet, match="planted"):
        await show(app, made, share=1.0)
    assert await world.state(app, made) is State.READY
    assert await answering(app) == 1


async def test_a_failure_seen_during_a_canary_is_kept(ready: world.At, loopback: Loopback) -> None:
    """`verify` is asked while some users see it: what fails then stops steps and cutover, as ever."""
    app, made = ready
    await show(app, made, share=0.1)
    await steps.rows(app, "DELETE FROM revec.vectors_2 WHERE doc_id = 3 RETURNING 1")
    await app.commands.verify(made)
    async with app.database.transaction() as conn:
        verdicts = await migrations.verdicts(conn, await world.migration(app, made))
    assert verdicts["completeness"][0].outcome is Outcome.FAILED
    with pytest.raises(GateNotMet, match="completeness"):
        await show(app, made, share=0.5)


@pytest.mark.parametrize("who", ["a person", "the conductor"])
async def test_who_takes_users_back_wins(
    ready: world.At, loopback: Loopback, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """While a wider canary is proven, a person says 0%: nobody is shown the new index after that."""
    app, made = ready
    await show(app, made, share=0.1, steps=[0.5], quiet=5)
    await answered(app, 5)
    await tick_guard(app, made)
    proven = Switch.proven
    taken = []

    async def overtaken(self: Switch, *how: object) -> object:
        found = await proven(self, *how)  # type: ignore[arg-type]
        taken.append(await show(app, made, share=0.0))
        return found

    monkeypatch.setattr(Switch, "proven", overtaken)
    if who == "a person":
        with pytest.raises(Refused, match=r"somebody moved users meanwhile, the route is at epoch \d+"):
            await show(app, made, share=0.5)
    else:
        await world.tick(app, 3)
    assert len(taken) == 1
    assert await share(app) == 0.0


async def test_to_take_users_back_is_never_too_late(
    ready: world.At, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The complement: 0% takes everybody back, though a step came between its look and its act."""
    app, made = ready
    await show(app, made, share=0.1)
    take = Canary._take
    stepped = []

    async def overtaken(self: Canary, *how: object) -> None:
        if not stepped:
            stepped.append(0)
            await steps.rows(app, "UPDATE revec.route SET share = 0.5, epoch = epoch + 1 RETURNING 1")
        await take(self, *how)  # type: ignore[arg-type]

    monkeypatch.setattr(Canary, "_take", overtaken)
    await show(app, made, share=0.0)
    assert await share(app) == 0.0
    stepped.clear()
    with pytest.raises(Refused, match="somebody moved users meanwhile"):
        await show(app, made, tenants=["default"])


async def tick_guard(app: App, made: Collection) -> None:
    await Guard(app.tools).tick(await world.migration(app, made))


async def test_less_of_a_canary_needs_no_proof(ready: world.At, loopback: Loopback) -> None:
    """The complement: to take users back is always right."""
    app, made = ready
    await show(app, made, share=1.0)
    await world.age_verdicts(app, 25)
    await show(app, made, share=0.0)
    await show(app, made, hold=["default"])
    with pytest.raises(GateNotMet):
        await show(app, made, share=0.1)
    assert await answering(app) == 1


@pytest.mark.parametrize(
    ("who", "said"),
    [
        ({"share": 1.5}, "between 0% and 100%"),
        ({"share": 0.5, "steps": [0.1]}, "more users than the one before"),
        ({"tenants": ["a"], "hold": ["a"]}, "cannot both"),
        ({}, "who is to see"),
        ({"tenants": ["acne"]}, "no document of tenant 'acne'"),
    ],
)
async def test_a_slip_of_the_pen_moves_nobody(
    ready: world.At, loopback: Loopback, who: dict[str, object], said: str
) -> None:
    """A sentence, and no epoch."""
    app, made = ready
    before = await steps.rows(app, "SELECT * FROM revec.route")
    with pytest.raises(BadInput, match=said):
        await show(app, made, **who)
    assert await steps.rows(app, "SELECT * FROM revec.route") == before


async def test_steps_are_taken_on_quiet_answers(ready: world.At, loopback: Loopback) -> None:
    """Each after so many answers of the new index at the present share; then it waits for a person."""
    app, made = ready
    await show(app, made, share=0.1, steps=[0.5, 1.0], quiet=5)
    steady = world.conductor(app)
    for expected in (0.1, 0.5, 1.0, 1.0):
        for _ in range(3):
            await steady.tick()
        assert await share(app) == expected
        await answered(app, 5)
    await steady.leave()
    seen = await world.look(app, made)
    assert "`revec cutover c` serves everybody" in seen.next
    assert [row.who for row in await world.history(app, made)][-2:] == ["conductor", "conductor"]


async def test_no_step_while_a_guard_holds(ready: world.At, loopback: Loopback) -> None:
    """However many answers there were; nor on answers of an earlier epoch."""
    app, made = ready
    await show(app, made, share=0.1, steps=[0.5], quiet=5)
    steady = world.conductor(app)
    await answered(app, 9, epoch=1)
    for _ in range(3):
        await steady.tick()
    assert await share(app) == 0.1
    await steps.rows(app, "UPDATE revec.migration SET hold = 'errors rose' RETURNING id")
    await answered(app, 9)
    for _ in range(3):
        await steady.tick()
    assert await share(app) == 0.1
    await app.commands.resume(made)
    for _ in range(3):
        await steady.tick()
    assert await share(app) == 0.5
    await steady.leave()


async def answered(app: App, requests: int, epoch: int | None = None) -> None:
    """The new index answered so many."""
    await steps.rows(
        app,
        "INSERT INTO revec.traffic (index_id, epoch, requests, errors, timeouts, empties, ms)"
        " SELECT 2, coalesce(%(epoch)s, epoch), %(n)s, 0, 0, 0, '{5}' FROM revec.route RETURNING 1",
        n=requests,
        epoch=epoch,
    )


async def share(app: App) -> float:
    ((found,),) = await steps.rows(app, "SELECT share FROM revec.route")
    return float(found)


@pytest.mark.parametrize("operators", [2, 5])
async def test_operators_race(ready: world.At, loopback: Loopback, operators: int) -> None:
    """Cutover, rollback, canary and finish at once, again and again: each time one wins, the others are told,
    and every epoch is one flip.
    """
    app, made = ready
    switch = app.commands.switch
    verbs = [
        lambda: switch.cutover(made, why="race"),
        lambda: switch.rollback(made, why="race", now=True),
        lambda: show(app, made, share=0.5),
        lambda: switch.finish(made, wait=timedelta(days=1), why="race"),
        lambda: switch.cancel_finish(made, why="race"),
    ]
    (before,) = await steps.rows(app, "SELECT epoch FROM revec.route")
    flips = 0
    for n in range(100):
        chosen = [verbs[(n + k) % len(verbs)] for k in range(operators)]
        came = await asyncio.gather(*(verb() for verb in chosen), return_exceptions=True)
        for each in came:
            assert isinstance(each, (int, tuple, RevecError)) or hasattr(each, "state"), repr(each)
            flips += isinstance(each, (int, tuple))
            if isinstance(each, RevecError):
                assert isinstance(each, (Refused, GateNotMet))
                assert "somebody else" not in str(each) or re.search(r"at epoch \d+", str(each))
    (after,) = await steps.rows(app, "SELECT epoch FROM revec.route")
    assert after.epoch - before.epoch == flips
    told = [row.evidence.get("epoch") for row in await world.history(app, made)]
    epochs = [epoch for epoch in told if epoch is not None and epoch > before.epoch]
    assert epochs == [*range(before.epoch + 1, after.epoch + 1)]
    await steps.assert_oracle(app, made)


async def test_twenty_times_there_and_back(ready: world.At, loopback: Loopback) -> None:
    """Forward again without paying: no document is embedded for it, and none is lost."""
    app, made = ready
    for _ in range(20):
        await app.commands.switch.cutover(made, why="test")
        await app.commands.switch.rollback(made, why="test")
    texts = {sha256(f"document {n}\ntext of document {n}".encode()).hexdigest() for n in range(20)}
    assert not texts & {line["text"] for line in loopback.bill()}
    await steps.assert_oracle(app, made)


async def test_the_route_is_one_read_by_indexes(ready: world.At, loopback: Loopback) -> None:
    """One statement, whatever is set for whom; with many collections nothing is scanned that grows with them."""
    app, made = ready
    await show(app, made, share=0.5)
    await steps.rows(
        app,
        "WITH c AS (INSERT INTO revec.collection (name) SELECT 'x' || n FROM generate_series(1, 2000) n"
        " RETURNING id), r AS (INSERT INTO revec.route (collection_id) SELECT id FROM c RETURNING 1)"
        " INSERT INTO revec.override SELECT id, 't' || k, 0, 1 FROM c, generate_series(1, 20) k RETURNING 1",
    )
    await steps.rows(app, "SELECT 1")
    async with app.database.transaction() as conn:
        for table in ("collection", "route", "override", "index", "space"):
            await conn.execute(f"ANALYZE revec.{table}")
        explained = await conn.execute(
            "EXPLAIN (FORMAT TEXT) " + indexes.SQL.route.as_string(conn),
            {
                "collection": "c",
                "tenant": "acme",
                "sticky": "u",
                "reverse": indexes.REVERSE,
                "early": [*map(str, EARLY)],
                "abortable": [*map(str, ABORTABLE)],
            },
        )
        plan = "\n".join(row[0] for row in await explained.fetchall())
    for table in ("collection", "route", "override"):
        assert f"Seq Scan on {table}" not in plan, plan


async def test_who_waits_for_a_write_reads_it_in_a_canary(ready: world.At, loopback: Loopback) -> None:
    """Its document is searchable in whichever index answers it."""
    from revec.capture.push import stands

    app, made = ready
    await show(app, made, share=0.5)
    await steps.put(app, made, steps.drafts(1, start=77))
    ((doc,),) = await steps.rows(app, "SELECT id FROM revec.document WHERE key = '77'")
    await steps.rows(app, "DELETE FROM revec.work WHERE index_id = 1 RETURNING 1")
    (stand,) = await stands(app.database, made, {"77": doc})
    assert stand.open
    await steps.rows(app, "DELETE FROM revec.work WHERE index_id = 2 RETURNING 1")
    (stand,) = await stands(app.database, made, {"77": doc})
    assert not stand.open
