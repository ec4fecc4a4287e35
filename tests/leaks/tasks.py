"""Tasks: ended in every way, cancelled at every point, of every kind, left over."""

import asyncio
import contextvars
import sys
import types

from _check import SENTINEL, Task, check, finish, new_event_loop

VAR = contextvars.ContextVar("VAR")


class Subclass(Task):
    pass


async def give(value, steps=2):
    VAR.set(value)
    for _ in range(steps):
        await asyncio.sleep(0)
    return value


async def fail():
    await asyncio.sleep(0)
    raise ValueError(SENTINEL)


async def forever():
    await asyncio.get_running_loop().create_future()


async def ended():
    loop = asyncio.get_running_loop()
    for cls in (Task, Subclass, asyncio.Task):
        tasks = [cls(give(SENTINEL), loop=loop), cls(fail(), loop=loop, name="n"), cls(forever(), loop=loop),
                 cls(give(SENTINEL), loop=loop, context=contextvars.copy_context())]
        await asyncio.sleep(0)
        tasks[2].cancel("message")
        repr(tasks)
        await asyncio.gather(*tasks, return_exceptions=True)
        asyncio.all_tasks()


async def cancelled():
    loop = asyncio.get_running_loop()
    for steps in range(4):
        task = loop.create_task(give(SENTINEL))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass


async def odd():
    @types.coroutine
    def bare(thing):
        yield thing

    async def bad(thing):
        await bare(thing)

    async def itself():
        await asyncio.current_task()

    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(coro) for coro in (bad(SENTINEL), bad([SENTINEL]), itself())]
    await asyncio.wait(tasks)
    for task in tasks:
        task.exception()
        task.get_stack()


async def dropped():
    loop = asyncio.get_running_loop()
    loop.create_task(fail())
    loop.create_task(give(SENTINEL))
    for _ in range(4):
        await asyncio.sleep(0)
    try:
        Task(SENTINEL, loop=loop)
    except TypeError:
        pass


async def eager():
    if sys.version_info < (3, 12):
        return
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.create_eager_task_factory(Task))
    tasks = [loop.create_task(coro) for coro in (give(SENTINEL, 0), give(SENTINEL), fail())]
    await asyncio.gather(*tasks, return_exceptions=True)
    loop.set_task_factory(None)


def left_over():
    loop = new_event_loop()
    tasks = [loop.create_task(give(SENTINEL)) for _ in range(3)]
    loop.stop()
    loop.run_forever()
    for task in tasks:
        task._log_destroy_pending = False
    loop.close()


check(ended, 100)
for scenario in (cancelled, odd, dropped, eager, left_over):
    check(scenario)
finish()
