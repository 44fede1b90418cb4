import statistics
import time

from tests import steps
from tests.console.test_doors import guest
from tests.work import hands

PAGES = [
    "/console/queue",
    "/console/queue?state=waiting",
    "/console/queue?state=working",
    "/console/queue?state=stuck",
    "/console/queue?state=excluded",
    "/console/queue?state=settled",
    "LIKE",
    "/console/queue/document?key=77",
    "/console/tenants",
    "/console/tenants?word=t9",
    "/console/tenants?after=t5&word=zz",
    "/console/tenants?paused=1",
    "/console/indexes",
    "/console/live/queue?once",
]


async def test_scale(app, loopback):
    made, index = await hands.indexed(app)
    await steps.put(app, made, steps.drafts(1))
    async with app.database.transaction() as conn:
        src = (await (await conn.execute("SELECT id FROM revec.source")).fetchone()).id
        print(
            (
                await (
                    await conn.execute(
                        "SELECT string_agg(column_name||' '||is_nullable||' '||coalesce(column_default,'-')||is_generated, '; ') c FROM information_schema.columns WHERE table_schema='revec' AND table_name='document'"
                    )
                ).fetchone()
            ).c
        )
        await conn.execute("SET LOCAL session_replication_role = replica")
        t = time.time()
        await conn.execute(
            """INSERT INTO revec.document (collection_id, source_id, key, tenant, title, body, metadata, input_hash, rev)
           SELECT 1, %s, n::text||'k', 't'||(n %% 134), 'title', 'body', '{}', decode(md5(n::text),'hex'), n FROM generate_series(10, 1000010) n""",
            (src,),
        )
        await conn.execute(
            "INSERT INTO revec.document (collection_id, source_id, key, tenant, title, body, metadata, input_hash, rev) VALUES (1, %s, '77', 't1','','','{}','a',3)",
            (src,),
        )
        print("docs", time.time() - t)
        t = time.time()
        await conn.execute("""INSERT INTO revec.dead (index_id, doc_id, input_hash, rev, tenant, cause, attempts)
           SELECT 1, id, input_hash, rev, tenant, 'the provider refused the input (400: trouble '|| (ARRAY['one','two','three','four','five','six','seven'])[1 + id %% 7] ||' with '|| id ||' tokens): shorten or repair the text where it comes from and write it again', 1 FROM revec.document WHERE id BETWEEN 1000 AND 100999""")
        print("dead", time.time() - t)
        t = time.time()
        await conn.execute(
            "INSERT INTO revec.work (index_id, doc_id, rev, action, lane, tenant, since, lease_until, token) SELECT 1, id, rev, 'embed', id %% 3, tenant, now() - make_interval(secs=>(id%%1000)::int), CASE WHEN id %% 10 = 0 THEN now() + interval '10 min' END, CASE WHEN id %% 10 = 0 THEN gen_random_uuid() END FROM revec.document WHERE id BETWEEN 200000 AND 299999"
        )
        await conn.execute(
            "INSERT INTO revec.excluded (index_id, doc_id, input_hash, reason) SELECT 1, id, input_hash, 'empty' FROM revec.document WHERE id BETWEEN 300000 AND 399999"
        )
        await conn.execute(
            "INSERT INTO revec.dead_settled (index_id, doc_id, tenant, cause, attempts, first_at, last_at, resolution) SELECT 1, id, tenant, 'x', 1, now(), now(), 'manual' FROM revec.document WHERE id BETWEEN 300000 AND 399999"
        )
        await conn.execute(
            "INSERT INTO revec.tenant (collection_id, tenant, paused_why) SELECT 1, 't'||n, CASE WHEN n %% 1000 = 0 THEN 'x' END FROM generate_series(0, 100000) n"
        )
    async with app.database.alone() as conn:
        await conn.execute("VACUUM ANALYZE")
    (p,) = await steps.rows(app, "SELECT min(pattern) AS p FROM revec.dead")
    from urllib.parse import urlencode

    async with guest(app) as client:
        for page in PAGES:
            if page == "LIKE":
                page = "/console/queue?" + urlencode({"like": p.p, "index": 1, "after": 50000})
            took = []
            for _ in range(8):
                t = time.perf_counter()
                a = await client.get(page)
                took.append(1000 * (time.perf_counter() - t))
                assert a.status_code == 200, a.text
            print(
                f"{page[:60]:60} first {took[0]:.0f} median {statistics.median(took):.0f} max {max(took[1:]):.0f} ms {len(a.text)} bytes"
            )
        from revec.migrate import holding
        from revec.work import board, letters

        for n, f in {
            "board": lambda c: board.board(c, made),
            "causes": lambda c: letters.causes(c, [1]),
            "holding": lambda c: holding.listed(c, app.store, made),
        }.items():
            t = time.perf_counter()
            async with app.database.transaction() as conn:
                await f(conn)
            print(n, 1000 * (time.perf_counter() - t))
        t = time.perf_counter()
        async with app.database.transaction() as conn:
            d = await letters.retry(conn, made, [1], letters.Which(like=p.p), who="x")
        print("retry group", d.letters, time.perf_counter() - t)
        t = time.perf_counter()
        async with app.database.transaction() as conn:
            d = await letters.undo(conn, made, who="x")
        print("undo group", d.returned, time.perf_counter() - t)
        t = time.perf_counter()
        async with app.database.transaction() as conn:
            d = await letters.discard(conn, made, [1], "x", who="x")
        print("discard all", d.letters, time.perf_counter() - t)
        t = time.perf_counter()
        async with app.database.transaction() as conn:
            d = await letters.undo(conn, made, who="x")
        print("undo all", d.returned, time.perf_counter() - t)
