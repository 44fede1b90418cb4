import asyncio
import resource
import time

from revec.capture import projector
from tests import steps
from tests.capture import people


async def test_big(app, user):
    await user.execute(people.DOCS)
    await user.execute(
        "INSERT INTO app.docs SELECT n, 't', repeat('x', 1200000) FROM generate_series(1,1000) n"
    )
    made = await steps.collection(app, model=None)
    await people.attached(app, made)
    s = time.time()
    try:
        async with asyncio.timeout(200):
            r = await projector.project(app.database)
        print("RESULT", r)
    except BaseException as e:
        print("RESULT", type(e), str(e)[:200])
    print(
        "RESULT",
        time.time() - s,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        await people.faults(app),
    )


async def test_speed(app, user):
    await user.execute(people.DOCS)
    await user.execute(
        "INSERT INTO app.docs SELECT n, 't', repeat('x', 1000) FROM generate_series(1,20000) n"
    )
    made = await steps.collection(app, model=None)
    await people.attached(app, made)
    s = time.time()
    await people.project(app)
    print("SPEED", time.time() - s)
    s = time.time()
    await user.execute("UPDATE app.docs SET note = 'x'")
    print("WRITE", time.time() - s)
    s = time.time()
    await people.project(app)
    print("SPEED unchanged", time.time() - s)
