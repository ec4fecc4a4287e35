"""What tasks say of themselves: repr(), get_stack() and print_stack()."""

import asyncio
import io
import re

import pytest

from _coroutines import CoroutineLike, fail, forever, generator_coroutine, give
from _turns import turn

pytestmark = pytest.mark.every_task
NATIVE = pytest.mark.kinds("asyncfast", "asyncfast-debug", "asyncio", "asyncio-debug")


@NATIVE
def test_repr(loop, Task, oracle, outcome, logged):
    def number(text):
        # debug mode, where a future was made: create_future()'s own line on asyncio, its caller's on a loop in C
        text = re.sub(r"(<Future [^>]*created at )[^>\s]+", r"\1LINE", text)
        return re.sub(r"Task-\d+", "Task-N", text)

    async def waits(what):
        await what

    def texts(cls, loop):
        result = []
        future = loop.create_future()
        task = cls(waits(future), loop=loop)
        result.append(repr(task))
        turn(loop)
        result.append(repr(task))
        task.add_done_callback(print)
        task.add_done_callback(texts)
        result.append(repr(task))
        task.cancel()
        result.append(repr(task))
        turn(loop, 5)
        result.append(repr(task))
        named = cls(give("result"), loop=loop, name="named")
        turn(loop, 5)
        result.append(repr(named))
        bad = cls(fail(KeyError("k")), loop=loop, name="bad")
        turn(loop, 5)
        bad.exception()
        result.append(repr(bad))
        generator = cls(generator_coroutine(1), loop=loop, name="g")
        result.append(repr(generator))
        turn(loop, 5)
        result.append(repr(generator))
        must = cls(cancels(), loop=loop, name="must")
        turn(loop, 5)
        must.remove_done_callback(print)
        return [number(outcome(str, text)) for text in result + reprs]

    async def cancels():
        asyncio.current_task().cancel()
        reprs.append(repr(asyncio.current_task()))

    results = []
    for cls, each in ((Task, loop), (asyncio.Task, oracle)):
        reprs = []
        results.append(texts(cls, each))
    logged.take()
    for ours, theirs in zip(*results):
        assert ours == theirs


@NATIVE
@pytest.mark.parametrize("coro", [CoroutineLike, lambda: generator_coroutine(1)], ids=["coroutine-like", "generator"])
def test_repr_of_odd_coroutines(loop, Task, oracle, outcome, coro):
    def texts(cls, loop):
        task = cls(coro(), loop=loop, name="n")
        result = [outcome(repr, task)]
        turn(loop, 5)
        return result + [outcome(repr, task)]

    ours, theirs = (texts(*each) for each in ((Task, loop), (asyncio.Task, oracle)))
    assert ours == theirs


@pytest.mark.parametrize("limit", [None, 1, 2, 100])
async def test_get_stack(loop, limit):
    async def inner():
        await forever()

    async def outer():
        await inner()

    task = loop.create_task(outer())
    [frame] = task.get_stack(limit=limit)
    assert frame.f_code.co_name == "outer"
    await asyncio.sleep(0)
    assert [frame.f_code.co_name for frame in task.get_stack(limit=limit)] == ["outer"]
    buffer = io.StringIO()
    assert task.print_stack(limit=limit, file=buffer) is None
    lines = buffer.getvalue().splitlines()
    assert lines[0].startswith("Stack for <") and lines[1].endswith(", in outer") and lines[2] == "    await inner()"
    task.cancel()
    await asyncio.wait([task])
    assert task.get_stack() == [] or task.get_stack()[-1].f_code.co_name == "forever"


async def test_get_stack_of_the_current_task(loop):
    def names():
        return [frame.f_code.co_name for frame in asyncio.current_task().get_stack()]

    assert names()[-1] == "test_get_stack_of_the_current_task"


async def test_get_stack_of_a_failed_task(loop):
    async def outer():
        await fail(KeyError("k"))

    task = loop.create_task(outer())
    await asyncio.wait([task])
    assert [frame.f_code.co_name for frame in task.get_stack()][-2:] == ["outer", "fail"]
    assert len(task.get_stack(limit=1)) == 1
    buffer = io.StringIO()
    task.print_stack(file=buffer)
    assert buffer.getvalue().startswith("Traceback for <") and "KeyError" in buffer.getvalue()
    assert isinstance(task.exception(), KeyError)


async def test_get_stack_of_a_finished_task(loop):
    task = loop.create_task(give(1))
    await task
    assert task.get_stack() == []
    buffer = io.StringIO()
    task.print_stack(file=buffer)
    assert buffer.getvalue().startswith("No stack for <")
