"""What asyncio builds on tasks: gather, wait, timeouts, groups, locks, queues, threads."""

import asyncio

from _check import SENTINEL, check, finish


async def give(value=SENTINEL):
    await asyncio.sleep(0)
    return value


async def fail():
    await asyncio.sleep(0)
    raise ValueError(SENTINEL)


async def gathers():
    await asyncio.gather(*[give() for _ in range(5)])
    await asyncio.gather(give(), fail(), return_exceptions=True)
    try:
        await asyncio.gather(give(), fail())
    except ValueError:
        pass
    await asyncio.wait([asyncio.ensure_future(give()) for _ in range(3)], return_when="FIRST_COMPLETED")
    await asyncio.shield(give())
    for each in asyncio.as_completed([give(), give()]):
        await each


async def timeouts():
    for coroutine in (give(), asyncio.sleep(1000)):
        try:
            await asyncio.wait_for(coroutine, 0.0005)
        except TimeoutError:
            pass
    try:
        async with asyncio.timeout(0.0005):
            await asyncio.get_running_loop().create_future()
    except TimeoutError:
        pass


async def groups():
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(give())
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            await asyncio.sleep(1000)
    except* ValueError:
        pass


async def synchronization():
    lock, queue, event = asyncio.Lock(), asyncio.Queue(1), asyncio.Event()

    async def work():
        async with lock:
            await queue.put(SENTINEL)
        await event.wait()

    tasks = [asyncio.ensure_future(work()) for _ in range(3)]
    for _ in tasks:
        await queue.get()
    event.set()
    await asyncio.wait(tasks)


async def generators():
    async def generator():
        try:
            yield SENTINEL
            yield SENTINEL
        finally:
            await asyncio.sleep(0)

    async for _ in generator():
        break
    async for _ in generator():
        pass
    await asyncio.sleep(0)


async def threads():
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(repr, SENTINEL)
    await loop.run_in_executor(None, loop.call_soon_threadsafe, repr, SENTINEL)


for scenario in (gathers, timeouts, groups, synchronization, generators, threads):
    check(scenario, 100)
finish()
