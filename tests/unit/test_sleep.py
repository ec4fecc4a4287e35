"""asyncfast.sleep: an awaitable with the timer inside it. It means what asyncio.sleep means, which is the oracle here."""

import asyncio
import gc
import inspect
import math
import sys
import threading
import weakref

import pytest

import asyncfast
from _turns import turn

pytestmark = pytest.mark.every_task

#: asyncfast.sleep under every kind of loop and task, and asyncio's own beside it
sleeps = pytest.mark.parametrize("sleep", [asyncfast.sleep, asyncio.sleep], ids=["fast", "oracle"])


@sleeps
@pytest.mark.parametrize("delay", [0.0001, 0.001, 0.0025, 0.01])
async def test_never_early(loop, sleep, delay):
    for _ in range(3):
        start = loop.time()
        assert await sleep(delay) is None
        assert loop.time() >= start + delay


@sleeps
@pytest.mark.parametrize("delay", [0, 0.001, -1, -math.inf, -0.0, True, 1e-9])
async def test_result(loop, sleep, delay):
    for result in (None, 42, [], ValueError("x"), StopIteration(5), (1, 2)):
        delay = delay if delay is not True else 0
        assert await sleep(delay, result) is result
        assert await sleep(delay, result=result) is result
        assert await sleep(delay=delay, result=result) is result


@sleeps
async def test_zero_is_one_step(loop, sleep):
    """sleep(0) gives the others their turn, once."""
    calls = []

    async def other():
        for i in range(3):
            calls.append(f"other {i}")
            await sleep(0)

    task = loop.create_task(other())
    for i in range(3):
        calls.append(f"main {i}")
        await sleep(0 if i else -1)
    await task
    assert calls == ["main 0", "other 0", "main 1", "other 1", "main 2", "other 2"]


@sleeps
async def test_order_is_by_deadline(loop, sleep):
    async def nap(i):
        await sleep(base + i / 10 - loop.time())      # far apart: the clock is read twice, and the machine may pause between
        calls.append(i)

    calls, base = [], loop.time() + 0.1
    await asyncio.gather(*[nap(i) for i in (3, 1, 4, 0, 2)])
    assert calls == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("delay", [math.nan, "x", None, [], object()])
async def test_bad_delays_are_refused(loop, delay):
    if delay is math.nan and sys.version_info < (3, 13):
        return  # not refused yet
    ours, theirs = [], []
    for sleep, result in ((asyncfast.sleep, ours), (asyncio.sleep, theirs)):
        try:
            await sleep(delay)
        except Exception as error:
            result += [type(error), str(error)]
    assert ours[0] is theirs[0]
    if delay is math.nan:
        assert ours == theirs and ours[0] is ValueError


@pytest.mark.parametrize("arguments", [(), (1, 2, 3)])
def test_wrong_arguments(loop, arguments):
    with pytest.raises(TypeError):
        asyncfast.sleep(*arguments)
    with pytest.raises(TypeError):
        asyncfast.sleep(0, unknown=1)


@sleeps
async def test_forever(loop, sleep):
    for delay in (1e9, 1e300, math.inf):
        task = asyncio.ensure_future(sleep(delay))
        await sleep(0.001)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


# -- cancelling

@sleeps
@pytest.mark.parametrize("delay", [1000, 0, -1, 0.001])
@pytest.mark.parametrize("started", [False, True])
async def test_cancel(loop, sleep, delay, started):
    async def nap():
        await sleep(delay)
        await sleep(1000)

    task = loop.create_task(nap())
    if started:
        await sleep(0)
    assert task.cancel("why") and task.cancelling() == 1
    with pytest.raises(asyncio.CancelledError, match="why"):
        await task
    assert task.cancelled()


@sleeps
async def test_cancel_is_caught(loop, sleep):
    async def nap():
        for _ in range(3):
            try:
                await sleep(1000)
            except asyncio.CancelledError:
                calls.append("no")
        return "done"

    calls = []
    task = loop.create_task(nap())
    for _ in range(3):
        await sleep(0)
        await sleep(0)
        task.cancel()
    assert await task == "done" and calls == ["no"] * 3


@sleeps
async def test_cancel_taken_back_is_thrown_all_the_same(loop, sleep):
    """uncancel() takes back the count, not the cancellation of what was waited for: it never ends a sleep early."""
    task = asyncio.ensure_future(sleep(1000))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel("once")
    assert task.uncancel() == 0
    with pytest.raises(asyncio.CancelledError, match="once"):
        await task


@sleeps
async def test_cancel_when_due(loop, sleep):
    """The timer fired, the task is not yet resumed, and is cancelled now."""
    async def nap():
        await sleep(0.001)
        calls.append("not cancelled")

    calls = []
    for _ in range(20):
        task = loop.create_task(nap())
        await sleep(0.0005)
        while loop.time() < 0.001:
            pass
        await sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() == (not calls)
        calls.clear()


@sleeps
async def test_waiting_tasks_show_what_they_wait_for(loop, sleep):
    task = asyncio.ensure_future(sleep(1000))
    await sleep(0)
    assert task._fut_waiter is not None
    assert "pending" in repr(task)
    task.cancel()
    await asyncio.wait([task])
    assert task._fut_waiter is None


# -- in company

@sleeps
async def test_combinations(loop, sleep):
    assert await asyncio.wait_for(sleep(0.001, "x"), 100) == "x"
    assert await asyncio.wait_for(sleep(0, "x"), None) == "x"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(sleep(1000), 0.001)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await sleep(1000)
    assert await asyncio.gather(sleep(0.002, 1), sleep(0, 2), sleep(0.001, 3)) == [1, 2, 3]
    assert await asyncio.ensure_future(sleep(0.001, "x")) == "x"
    assert await asyncio.shield(sleep(0.001, "x")) == "x"
    done = [await each for each in asyncio.as_completed([sleep(0.25, 2), sleep(0.001, 1)])]
    assert done == [1, 2]

    async def in_group():
        return await sleep(0.001, "x")

    async with asyncio.TaskGroup() as group:
        task = group.create_task(in_group())
    assert task.result() == "x"


@sleeps
async def test_wait_for_cancelled_from_outside(loop, sleep):
    async def main():
        await asyncio.wait_for(sleep(1000), 1000)

    task = loop.create_task(main())
    await sleep(0)
    await sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_run_until_complete(loop):
    assert loop.run_until_complete(asyncfast.sleep(0.001, "x")) == "x"
    assert loop.run_until_complete(asyncfast.sleep(0, "x")) == "x"


async def test_create_task_wants_a_coroutine(loop, Task):
    """asyncio.sleep() is one; this is an awaitable. Either is fine as long as it is clear."""
    sleep = asyncfast.sleep(0.001, "x")
    if asyncio.iscoroutine(sleep):
        assert await loop.create_task(sleep) == "x"
    else:
        with pytest.raises(TypeError, match="a coroutine was expected, got"):
            loop.create_task(sleep)
        assert await sleep == "x"


async def test_inside_other_awaitables(loop):
    class Awaitable:
        def __await__(self):
            result = yield from asyncfast.sleep(0.001, 1).__await__()
            return result + (yield from asyncfast.sleep(0, 1).__await__())

    async def generator():
        for i in range(3):
            yield await asyncfast.sleep(0.0001, i)

    assert await Awaitable() == 2
    assert [i async for i in generator()] == [0, 1, 2]
    async with asyncio.timeout(1000):
        assert await asyncfast.sleep(0, 1) == 1


# -- the object

async def test_awaited_twice(loop):
    """A coroutine cannot be; the second await may be refused or give the result, but not hang."""
    sleep = asyncfast.sleep(0.001, "x")
    assert await sleep == "x"
    try:
        assert await asyncio.wait_for(sleep, 10) == "x"
    except RuntimeError:
        pass


async def test_awaited_by_two(loop):
    async def wait():
        return await sleep

    sleep = asyncfast.sleep(0.001, "x")
    results = await asyncio.wait_for(
        asyncio.gather(*[loop.create_task(wait()) for _ in range(2)], return_exceptions=True), 10)
    assert results[0] == "x" and (results[1] == "x" or isinstance(results[1], RuntimeError))


def test_not_awaited(loop):
    """Nothing is armed before it is awaited; it may or may not warn."""
    import warnings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sleep = asyncfast.sleep(1000)
        del sleep
        gc.collect()


def test_without_a_loop():
    sleep = asyncfast.sleep(1)
    with pytest.raises(RuntimeError, match="no running event loop"):
        sleep.__await__().send(None)


def test_protocol(loop):
    sleep = asyncfast.sleep(0)
    assert inspect.isawaitable(sleep) and type(repr(sleep)) is str
    iterator = sleep.__await__()
    assert hasattr(iterator, "send") and hasattr(iterator, "throw") and hasattr(iterator, "close")
    iterator.close()


async def test_throw_and_close_disarm(loop):
    for end in (lambda iterator: iterator.close(), lambda iterator: pytest.raises(KeyError, iterator.throw, KeyError())):
        class Thing:
            pass
        thing = Thing()
        ref = weakref.ref(thing)
        iterator = asyncfast.sleep(1000, thing).__await__()
        next(iterator)
        end(iterator)
        del thing, iterator
        gc.collect()
        assert ref() is None


def test_result_is_let_go(loop):
    class Thing:
        pass

    async def main(cancel):
        thing = Thing()
        refs.append(weakref.ref(thing))
        task = asyncio.ensure_future(asyncfast.sleep(0.001 if not cancel else 1000, thing))
        del thing
        await asyncio.sleep(0)
        if cancel:
            task.cancel()
        await asyncio.wait([task])

    refs = []
    for cancel in (False, True):
        loop.run_until_complete(main(cancel))
        gc.collect()
        assert refs.pop()() is None


def test_loop_closed_while_it_sleeps(loop, logged):
    """The timer goes with the loop, the sleeper is never resumed, nothing is leaked."""
    class Thing:
        pass

    async def main():
        thing = Thing()
        refs.append(weakref.ref(thing))
        await asyncfast.sleep(1000)

    refs = []
    task = loop.create_task(main())
    turn(loop)
    task._log_destroy_pending = False
    loop.close()
    del task
    gc.collect()
    assert refs[0]() is None


@sleeps
async def test_many(loop, kind, sleep):
    count = 100 if kind.debug else 3000
    tasks = [asyncio.ensure_future(sleep(i % 7 / 1000, i)) for i in range(count)]
    for task in tasks[::3]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(result == i or isinstance(result, asyncio.CancelledError) for i, result in enumerate(results))
    assert sum(isinstance(result, int) for result in results) >= count // 2


async def test_survives_the_collector(loop):
    async def nap():
        await asyncfast.sleep(0.002)
        done.append(1)

    done = []
    for _ in range(5):
        loop.create_task(nap())
    await asyncio.sleep(0)
    gc.collect()
    while len(done) < 5:
        await asyncfast.sleep(0.001)


def test_on_asyncio_run():
    async def main():
        return await asyncfast.sleep(0.001, "x")

    assert asyncio.run(main()) == "x" and asyncfast.run(main()) == "x"


@pytest.mark.parametrize("new_loop", [asyncfast.new_event_loop, asyncio.SelectorEventLoop])
def test_steps_that_overlap_in_two_threads(new_loop):
    """A loop that was gone before another thread's step ended is not looked at again (the sanitizers would see it)."""
    first_steps, second_steps, first_gone = threading.Event(), threading.Event(), threading.Event()

    def run(main):
        loop = asyncfast.new_event_loop()
        try:
            loop.run_until_complete(main())
        finally:
            loop.close()

    async def first():
        first_steps.set()
        assert second_steps.wait(30)

    async def second():
        second_steps.set()
        assert first_gone.wait(30)

    one = threading.Thread(target=run, args=(first,))
    one.start()
    assert first_steps.wait(30)
    two = threading.Thread(target=run, args=(second,))
    two.start()
    one.join()
    gc.collect()
    first_gone.set()
    two.join()
    loop = new_loop()
    try:
        assert loop.run_until_complete(asyncfast.sleep(0.001, "slept")) == "slept"
    finally:
        loop.close()
