"""Channels and the iterators over them: used, cancelled at every stage, left early, dropped while they wait."""

import asyncio

import asyncfast
from _check import SENTINEL, Task, check, finish, new_event_loop


async def passed_on():
    async def send():
        for _ in range(5):
            await channel.send(SENTINEL)
        channel.close()

    channel = asyncfast.Channel(1)
    task = asyncio.ensure_future(send())
    async for _ in channel:
        pass
    await task
    channel = asyncfast.Channel()
    channel.send_nowait(SENTINEL)
    channel.close(ValueError(SENTINEL))


async def cancelled():
    loop = asyncio.get_running_loop()
    for cls in (Task, asyncio.Task):
        for steps in range(4):
            channel = asyncfast.Channel(1)
            channel.send_nowait(SENTINEL)
            sending = cls(channel.send(SENTINEL), loop=loop)
            for _ in range(steps):
                await asyncio.sleep(0)
                if steps > 2 and len(channel):
                    channel.receive_nowait()
            sending.cancel()
            channel = asyncfast.Channel()
            receiving = cls(channel.receive(), loop=loop)
            for _ in range(steps):
                await asyncio.sleep(0)
            channel.send_nowait(SENTINEL)
            receiving.cancel()
            await asyncio.wait([sending, receiving])


async def dropped():
    channel = asyncfast.Channel(1)
    channel.send_nowait(channel)
    for coroutine in (channel.send(SENTINEL), asyncfast.Channel().receive()):
        coroutine.send(None)
    coroutine = channel.send(SENTINEL)
    coroutine.send(None)
    channel.receive_nowait()
    try:
        coroutine.throw(ValueError(SENTINEL))
    except ValueError:
        pass
    channel.close()
    for call in (channel.receive_nowait, lambda: channel.send_nowait(SENTINEL)):
        try:
            call()
        except asyncfast.ChannelClosed:
            pass


async def iterators():
    async def source():
        for _ in range(3):
            await asyncio.sleep(0)
            yield SENTINEL

    for make in (lambda: asyncfast.merge(source(), source()), lambda: asyncfast.batched(source(), 2),
                 lambda: asyncfast.batched(source(), 2, within=100), lambda: asyncfast.timeout_each(source(), 100)):
        async for _ in make():
            pass
        iterator = make()
        await anext(iterator)
        await iterator.aclose()
    async for _ in asyncfast.as_completed([asyncio.sleep(0, SENTINEL) for _ in range(3)], timeout=100):
        pass
    async for _ in asyncfast.ticker(1e-6):
        break


async def failing():
    """With a source that fails, and one that is cancelled meanwhile and does not care."""
    async def fails():
        yield SENTINEL
        raise ValueError(SENTINEL)

    async def stubborn():
        while True:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                yield SENTINEL

    for make in (lambda: asyncfast.merge(stubborn(), fails()), lambda: asyncfast.batched(fails(), 2),
                 lambda: asyncfast.batched(fails(), 2, within=100), lambda: asyncfast.timeout_each(fails(), 100)):
        iterator = make()
        try:
            async for _ in iterator:
                pass
        except ValueError:
            pass
    iterator = asyncfast.merge(fails())
    await anext(iterator)
    await iterator.aclose()


def left_over():
    async def wait():
        await channel.receive()

    channel = asyncfast.Channel()
    loop = new_event_loop()
    task = loop.create_task(wait())
    loop.stop()
    loop.run_forever()
    task._log_destroy_pending = False
    loop.close()


for scenario in (passed_on, cancelled, dropped, iterators, failing, left_over):
    check(scenario)
finish()
