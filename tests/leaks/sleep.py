"""asyncfast.sleep: awaited, cancelled, dropped, by every kind of task."""

import asyncio

import asyncfast
from _check import SENTINEL, Task, check, finish, new_event_loop


async def awaited():
    for delay in (0, -1, 1e-5):
        await asyncfast.sleep(delay, SENTINEL)
    await asyncio.ensure_future(asyncfast.sleep(1e-5, SENTINEL))
    await asyncio.gather(*[asyncfast.sleep(1e-5, SENTINEL) for _ in range(5)])


async def cancelled():
    async def nap():
        await asyncfast.sleep(1000, SENTINEL)

    loop = asyncio.get_running_loop()
    for cls in (Task, asyncio.Task):
        for steps in range(3):
            task = cls(nap(), loop=loop)
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass
    try:
        await asyncio.wait_for(asyncfast.sleep(1000, SENTINEL), 0.0005)
    except TimeoutError:
        pass


async def dropped():
    asyncfast.sleep(1, SENTINEL)
    asyncfast.sleep(1, SENTINEL).__await__()
    iterator = asyncfast.sleep(1000, SENTINEL).__await__()
    next(iterator)
    del iterator
    iterator = asyncfast.sleep(1000, SENTINEL).__await__()
    next(iterator)
    try:
        iterator.throw(ValueError(SENTINEL))
    except ValueError:
        pass
    for bad in ("x", None):
        try:
            await asyncfast.sleep(bad, SENTINEL)
        except TypeError:
            pass


def left_over():
    async def nap():
        await asyncfast.sleep(1000, SENTINEL)

    loop = new_event_loop()
    task = loop.create_task(nap())
    loop.stop()
    loop.run_forever()
    task._log_destroy_pending = False
    loop.close()


for scenario in (awaited, cancelled, dropped, left_over):
    check(scenario)
finish()
