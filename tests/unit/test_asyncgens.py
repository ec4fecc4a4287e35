"""Asynchronous generators: finalized by the loop, closed by shutdown_asyncgens()."""

import asyncio
import gc
import sys

import pytest


async def generator(log, name="generator"):
    try:
        for i in range(10):
            yield i
            await asyncio.sleep(0)
    finally:
        await asyncio.sleep(0)
        log.append(name)


async def test_iteration(loop):
    log = []
    assert [i async for i in generator(log)] == list(range(10)) and log == ["generator"]


async def test_abandoned_generator_is_closed_by_the_loop(loop):
    log = []
    async for i in generator(log):
        if i == 2:
            break
    gc.collect()
    for _ in range(10):
        await asyncio.sleep(0)
    assert log == ["generator"]


def test_shutdown_asyncgens(loop):
    async def main():
        for i in range(3):
            generators.append(generator(log, i))
            await anext(generators[-1])

    log, generators = [], []
    loop.run_until_complete(main())
    assert log == []
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert sorted(log) == [0, 1, 2]
    loop.run_until_complete(loop.shutdown_asyncgens())


def test_generator_that_fails_to_close(loop, errors):
    async def bad():
        try:
            yield 1
        finally:
            1 / 0

    async def main():
        kept.append(bad())
        await anext(kept[0])

    kept = []
    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert [type(context["exception"]) for context in errors] == [ZeroDivisionError]
    assert errors[0]["message"].startswith("an error occurred during closing of asynchronous generator")


def test_first_iteration_after_shutdown_warns(loop):
    async def main():
        await loop.shutdown_asyncgens()
        with pytest.warns(ResourceWarning, match="was scheduled after loop.shutdown_asyncgens"):
            async for _ in generator([]):
                pass

    loop.run_until_complete(main())


def test_hooks_are_there_only_while_it_runs(loop):
    async def main():
        return sys.get_asyncgen_hooks()

    assert sys.get_asyncgen_hooks() == (None, None)
    hooks = loop.run_until_complete(main())
    assert hooks.firstiter is not None and hooks.finalizer is not None
    assert sys.get_asyncgen_hooks() == (None, None)


def test_hooks_of_others_are_given_back(loop):
    def mine(generator):
        pass

    sys.set_asyncgen_hooks(mine, mine)
    try:
        loop.run_until_complete(asyncio.sleep(0))
        assert sys.get_asyncgen_hooks() == (mine, mine)
    finally:
        sys.set_asyncgen_hooks(None, None)


def test_generator_collected_after_the_loop_is_closed(loop):
    async def main():
        kept.append(generator([]))
        await anext(kept[0])

    kept = []
    loop.run_until_complete(main())
    loop.run_until_complete(kept[0].aclose())
    loop.close()
    kept.clear()
    gc.collect()


async def test_asend_athrow(loop):
    async def echo():
        value = None
        while True:
            try:
                value = yield value
                await asyncio.sleep(0)
            except KeyError:
                value = "caught"

    each = echo()
    assert await each.asend(None) is None and await each.asend(1) == 1 and await each.athrow(KeyError()) == "caught"
    await each.aclose()


async def test_cancelled_in_a_generator(loop):
    async def consume():
        async for _ in generator(log):
            await asyncio.sleep(1000)

    log = []
    task = loop.create_task(consume())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gc.collect()
    for _ in range(10):
        await asyncio.sleep(0)
    assert log == ["generator"]
