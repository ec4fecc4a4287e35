"""Futures: finished in every way, with callbacks, awaited, dropped."""

import asyncio

from _check import SENTINEL, Future, check, finish


class Subclass(Future):
    pass


async def finished():
    loop = asyncio.get_running_loop()
    for cls in (Future, Subclass):
        one, two, three = cls(loop=loop), cls(loop=loop), cls(loop=loop)
        one.set_result(SENTINEL)
        two.set_exception(ValueError(SENTINEL))
        three.cancel("message")
        assert await one is SENTINEL
        for each in (two, three):
            try:
                await each
            except (ValueError, asyncio.CancelledError):
                pass
        repr((one, two, three))


async def with_callbacks():
    loop = asyncio.get_running_loop()

    def callback(future, x=SENTINEL):
        pass

    future = Future(loop=loop)
    for _ in range(5):
        future.add_done_callback(callback)
        future.add_done_callback(repr)
    future.remove_done_callback(repr)
    loop.call_soon(future.set_result, SENTINEL)
    await future
    future.add_done_callback(callback)
    await asyncio.sleep(0)


async def dropped():
    loop = asyncio.get_running_loop()
    Future(loop=loop).add_done_callback(lambda future, x=SENTINEL: None)
    Future(loop=loop).set_exception(ValueError(SENTINEL))
    Future(loop=loop).set_result(SENTINEL)
    iter(Future(loop=loop))
    next(iter(Future(loop=loop)))
    Future.__new__(Future)
    future = Future(loop=loop)
    future.set_result([future, SENTINEL])


async def many_wait():
    async def wait():
        return await future

    loop = asyncio.get_running_loop()
    future = Future(loop=loop)
    tasks = [loop.create_task(wait()) for _ in range(10)]
    await asyncio.sleep(0)
    future.set_result(SENTINEL)
    await asyncio.gather(*tasks)


async def in_asyncios_part():
    loop = asyncio.get_running_loop()

    async def wait():
        return await future

    for cls in (Future, Subclass):
        future = cls(loop=loop)
        future.x = [future, SENTINEL]
        tasks = [asyncio.tasks._CTask(wait(), loop=loop) for _ in range(3)]
        await asyncio.sleep(0)
        future.set_result(SENTINEL)
        for task in tasks:
            assert await task is SENTINEL
        other = cls(loop=loop)
        asyncio.Future.__init__(other, loop=loop)
        asyncio.Future.set_result(other, [other, SENTINEL])
    asyncio.Future.__init__(loop.create_future(), loop=loop)
    task = loop.create_task(wait())
    task.x = [task, SENTINEL]
    await task


for scenario in (finished, with_callbacks, dropped, many_wait, in_asyncios_part):
    check(scenario)
finish()
