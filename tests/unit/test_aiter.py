"""ticker, as_completed, merge, batched, timeout_each, aiter_sync: what they give, and that they leave nothing open."""

import asyncio
import collections.abc
import contextlib
import contextvars
import gc
import math
import threading
import types
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

import asyncfast
from asyncfast import Channel, aiter_sync, as_completed, batched, merge, ticker, timeout_each
from asyncfast._aiter import _Reader

EACH = pytest.mark.parametrize


class Log:
    """Asynchronous generators that write down when they are opened and closed; both take a turn."""

    def __init__(self):
        self.opened, self.closed = [], []

    async def source(self, name, count=3, error=None, close_error=None):
        self.opened.append(name)
        try:
            for i in range(count):
                await asyncio.sleep(0)
                yield name, i
            if error is not None:
                raise error
        finally:
            try:
                await asyncio.sleep(0)
            finally:
                self.closed.append(name)
            if close_error is not None:
                raise close_error

    @property
    def all_closed(self):
        return sorted(self.opened) == sorted(self.closed)


#: What iterates asynchronous iterables, each as a function of a log
SHAPES = {
    "merge": lambda log: merge(log.source("a"), log.source("b", 5), log.source("c", 1)),
    "batched": lambda log: batched(log.source("a", 5), 2),
    "batched within": lambda log: batched(log.source("a", 5), 2, within=1000),
    "timeout_each": lambda log: timeout_each(log.source("a"), 1000),
    "all": lambda log: batched(timeout_each(merge(log.source("a"), log.source("b")), 1000), 2, within=1000),
}
shapes = EACH("shape", SHAPES)


async def consume(iterator, got, turns=1):
    async with contextlib.aclosing(iterator):
        async for item in iterator:
            got.append(item)
            for _ in range(turns):
                await asyncio.sleep(0)


def others():
    return asyncio.all_tasks() - {asyncio.current_task()}


async def until(condition):
    while not condition():
        await asyncio.sleep(0)


# -- what holds for all of them

@shapes
async def test_to_the_end(loop, shape):
    log, got = Log(), []
    iterator = SHAPES[shape](log)
    assert isinstance(iterator, collections.abc.AsyncGenerator)
    await consume(iterator, got)
    flat = sum(got, []) if "batch" in shape or shape == "all" else got
    assert log.all_closed and log.opened and not others()
    for name in log.opened:
        mine = [i for each, i in flat if each == name]
        assert mine == list(range(len(mine))) and mine
    assert len(flat) == {"merge": 9, "all": 6, "timeout_each": 3}.get(shape, 5)


@shapes
async def test_cancelled_at_each_await(loop, shape):
    """Cancelled in turn after turn: what it iterates is closed when the task is done, and no task is left."""
    for turns in range(1000):
        log = Log()
        task = loop.create_task(consume(SHAPES[shape](log), []))
        for _ in range(turns):
            await asyncio.sleep(0)
        if not task.cancel():
            break
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await until(lambda: not others())   # their last turn may be one behind
        assert log.all_closed, f"turn {turns}"
    assert turns > 5 and log.all_closed


@shapes
async def test_cancelled_twice(loop, shape):
    """Again while it closes what it iterates."""
    for turns in range(1, 12):
        log = Log()
        task = loop.create_task(consume(SHAPES[shape](log), []))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert not others() and (shape in ("batched", "timeout_each") or log.all_closed)


@shapes
@EACH("count", [0, 1, 2])
async def test_left_early(loop, shape, count):
    log = Log()
    iterator = SHAPES[shape](log)
    for _ in range(count):
        await anext(iterator)
    await iterator.aclose()
    assert log.all_closed and not others()
    with pytest.raises(StopAsyncIteration):
        await anext(iterator)


@shapes
async def test_exception_thrown_in(loop, shape):
    log = Log()
    iterator = SHAPES[shape](log)
    await anext(iterator)
    error = KeyError("thrown")
    with pytest.raises(KeyError) as caught:
        await iterator.athrow(error)
    assert caught.value is error and log.all_closed and not others()


@shapes
async def test_dropped_while_suspended(loop, shape):
    log = Log()
    iterator = SHAPES[shape](log)
    await anext(iterator)
    del iterator
    gc.collect()
    await until(lambda: log.all_closed and not others())


@shapes
def test_shut_down_while_suspended(loop, shape, errors):
    """As asyncio.run() does it.  It closes all generators at once, and may find one that another is closing already."""
    async def main():
        kept.append(SHAPES[shape](log))
        await anext(kept[0])

    async def cancel_all():
        tasks = others()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    log, kept = Log(), []
    loop.run_until_complete(main())
    loop.run_until_complete(cancel_all())
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert log.all_closed
    assert all("already running" in str(context["exception"]) for context in errors)


@shapes
async def test_in_a_timeout(loop, shape):
    log = Log()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            async with contextlib.aclosing(SHAPES[shape](log)) as iterator:
                async for _ in iterator:
                    await asyncio.sleep(1000)
    assert log.all_closed and not others()


@shapes
async def test_in_a_task_group_that_fails(loop, shape):
    async def fail():
        await asyncio.sleep(0)
        1 / 0

    log = Log()
    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(consume(SHAPES[shape](log), [], 1000))
            group.create_task(fail())
    assert log.all_closed and not others()


FAILING = {
    "merge": lambda *sources: merge(*sources),
    "batched": lambda *sources: batched(sources[0], 10),
    "batched within": lambda *sources: batched(sources[0], 10, within=1000),
    "timeout_each": lambda *sources: timeout_each(sources[0], 1000),
}


@EACH("shape", FAILING)
@EACH("error", [ValueError("why"), TimeoutError("its own"), asyncfast.ChannelClosed("its own")], ids=repr)
async def test_a_source_fails(loop, shape, error):
    log, got = Log(), []
    with pytest.raises(type(error)) as caught:
        await consume(FAILING[shape](log.source("a", 2, error), log.source("b", 1000)), got)
    assert caught.value is error and log.all_closed and not others()
    flat = sum(got, []) if "batch" in shape else got
    assert [item for item in flat if item[0] == "a"] == [("a", 0), ("a", 1)]    # what came before it is not lost


@EACH("shape", FAILING)
async def test_a_source_fails_to_close(loop, shape, errors):
    """It is raised if nothing else is; what nobody would hear of goes to the exception handler."""
    log, error = Log(), OSError("closing")
    iterator = FAILING[shape](log.source("a", 1000, close_error=error))
    await anext(iterator)
    if shape in ("merge", "batched within"):
        await iterator.aclose()
        assert [context["exception"] for context in errors] == [error]
    else:
        with pytest.raises(OSError) as caught:
            await iterator.aclose()
        assert caught.value is error
    assert log.all_closed and not others()


@EACH("shape", FAILING)
async def test_no_asynchronous_iterable(loop, shape):
    log = Log()
    with pytest.raises(TypeError):
        await anext(FAILING[shape]([1, 2], log.source("b")))
    assert log.all_closed and not others()


@EACH("shape", FAILING)
async def test_iterators_without_aclose(loop, shape):
    class Three:
        left = 3

        def __aiter__(self):
            return self

        async def __anext__(self):
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return self.left

    got = []
    await consume(FAILING[shape](Three()), got)
    assert (sum(got, []) if "batch" in shape else got) == [2, 1, 0]


# -- merge

async def test_merge_of_channels(loop):
    """They are not closed: they belong to whoever made them."""
    one, two, got = Channel(), Channel(), []
    task = loop.create_task(consume(merge(one, two), got))
    for i in range(3):
        await one.send(i)
        await until(lambda: len(got) == 2 * i + 1)
        await two.send(-i)
        await until(lambda: len(got) == 2 * i + 2)
    one.close()
    assert got == [0, 0, 1, -1, 2, -2] and not task.done()
    two.close()
    await task
    one = Channel()
    one.send_nowait(1)
    iterator = merge(one)
    assert await anext(iterator) == 1
    await iterator.aclose()
    assert not one.closed


async def test_merge_of_nothing(loop):
    assert [item async for item in merge()] == []


async def test_merge_runs_ahead_by_two(loop):
    made = []

    async def source():
        for i in range(100):
            made.append(i)
            yield i

    async with contextlib.aclosing(merge(source())) as iterator:
        for taken in range(5):
            assert await anext(iterator) == taken
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(made) <= taken + 1 + 2


async def test_merge_iterates_each_in_one_task(loop):
    """A generator may have a timeout around a yield."""
    async def source():
        try:
            async with asyncio.timeout(1000):
                for i in range(3):
                    tasks.add(asyncio.current_task())
                    yield i
        finally:
            tasks.add(asyncio.current_task())

    tasks = set()
    async with contextlib.aclosing(merge(source())) as iterator:
        await anext(iterator)
    assert len(tasks) == 1


async def test_merge_of_a_source_that_cancels_itself(loop):
    async def source():
        yield 1
        raise asyncio.CancelledError

    got = []
    task = loop.create_task(consume(merge(source()), got))
    await asyncio.wait([task])
    assert task.cancelled() and got == [1]


# -- batched

async def test_batched(loop):
    log = Log()
    for n, sizes in ((1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (6, [5])):
        assert [len(batch) async for batch in batched(log.source("a", 5), n)] == sizes
    assert [batch async for batch in batched(log.source("a", 0), 3)] == []


async def test_batched_within(loop):
    channel = Channel()
    iterator = batched(channel, 3, within=0.002)
    channel.send_nowait(1)
    start = loop.time()
    assert await anext(iterator) == [1]
    assert loop.time() >= start + 0.002 - 1e-6      # asyncio's timers are due within the clock's resolution
    task = loop.create_task(anext(iterator))
    await asyncio.sleep(0.005)
    assert not task.done()                          # never empty
    channel.send_nowait("x")
    assert await task == ["x"]
    channel.close()
    assert [batch async for batch in iterator] == []


async def test_batched_within_is_at_once_when_full(loop):
    channel = Channel()
    for i in range(7):
        channel.send_nowait(i)
    async with contextlib.aclosing(batched(channel, 3, within=1000)) as iterator:
        assert [await anext(iterator) for _ in range(2)] == [[0, 1, 2], [3, 4, 5]]


async def test_batched_within_what_is_late_already(loop):
    """The time runs from when the first item came, not from when the consumer asked."""
    channel = Channel()
    iterator = batched(channel, 100, within=1000)
    first = loop.create_task(anext(iterator))
    await asyncio.sleep(0)
    for i in range(5):
        channel.send_nowait(i)
    channel.close()
    assert await first == list(range(5))
    with pytest.raises(StopAsyncIteration):
        await anext(iterator)


async def test_batched_with_no_time(loop):
    channel = Channel()
    for i in range(5):
        channel.send_nowait(i)
    channel.close()
    got = [batch async for batch in batched(channel, 3, within=0)]
    assert sum(got, []) == list(range(5)) and all(1 <= len(batch) <= 3 for batch in got)


# -- timeout_each

async def test_timeout_each(loop):
    async def source():
        try:
            yield 1
            await asyncio.sleep(1000)
        finally:
            closed.append(1)

    closed, got = [], []
    with pytest.raises(TimeoutError):
        await consume(timeout_each(source(), 0.001), got)
    assert got == [1] and closed == [1]
    channel = Channel()
    with pytest.raises(TimeoutError):
        await consume(timeout_each(channel, 0.001), got)
    channel.send_nowait(2)
    assert await channel.receive() == 2             # a channel loses nothing by it
    assert [item async for item in timeout_each(Log().source("a"), None)] == [("a", 0), ("a", 1), ("a", 2)]


async def test_timeout_each_does_not_count_the_consumer(loop):
    channel = Channel()
    for i in range(3):
        channel.send_nowait(i)      # ready: each takes no time
    channel.close()
    async for _ in timeout_each(channel, 0.001):
        await asyncio.sleep(0.002)


# -- as_completed

async def test_as_completed(loop):
    async def work(turns):
        for _ in range(turns):
            await asyncio.sleep(0)
        return turns

    tasks = [loop.create_task(work(turns)) for turns in (9, 0, 5)]
    future = loop.create_future()
    tasks[0].add_done_callback(lambda task: loop.call_soon(future.set_result, "future"))
    got = []
    async for done in as_completed([*tasks, future, tasks[0]]):
        assert done.done() and (done in tasks or done is future)
        got.append(await done)
    assert got == [0, 5, 9, "future"]
    got = [done async for done in as_completed({work(3), work(1)})]
    assert [done.result() for done in got] == [1, 3] and all(isinstance(done, asyncio.Task) for done in got)


async def test_as_completed_errors_are_the_tasks_own(loop):
    async def fail():
        1 / 0

    failed, cancelled = loop.create_task(fail()), loop.create_task(asyncio.sleep(1000))
    cancelled.cancel()
    got = {done async for done in as_completed([failed, cancelled])}
    assert got == {failed, cancelled} and cancelled.cancelled()
    with pytest.raises(ZeroDivisionError):
        await failed


async def test_as_completed_times_out(loop):
    quick, slow = loop.create_task(asyncio.sleep(0, "quick")), loop.create_task(asyncio.sleep(1000))
    await quick
    got, iterator = [], as_completed([slow, quick], timeout=0.01)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async for done in iterator:
                got.append(done)
    assert got == [quick] and not slow.done()
    slow.cancel()


async def test_as_completed_times_out_in_the_turn_in_which_one_is_done(loop, errors):
    future = loop.create_future()
    iterator = as_completed([future], timeout=0)
    loop.call_soon(future.set_result, 1)
    with pytest.raises(TimeoutError):
        await anext(iterator)
    for _ in range(3):
        await asyncio.sleep(0)
    assert future.done() and not errors


async def test_as_completed_of_what_is_done(loop):
    future = loop.create_future()
    future.set_result(1)
    assert [done async for done in as_completed([future], timeout=1000)] == [future]
    assert [done async for done in as_completed([])] == []


async def test_as_completed_arguments(loop):
    coroutine = asyncio.sleep(0)
    for bad in (coroutine, loop.create_future()):
        with pytest.raises(TypeError, match="expect an iterable of futures, not"):
            as_completed(bad)
    coroutine.close()
    with pytest.raises(TypeError):
        as_completed([1])


async def test_as_completed_keeps_what_is_not_done(loop):
    """The tasks that it made are nobody else's."""
    async def work():
        own = asyncio.get_running_loop().create_future()
        refs.append(weakref.ref(own))
        await own
        return "worked"

    refs = []
    iterator = as_completed([work()])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()
    refs[0]().set_result(None)
    async for done in iterator:
        assert done.result() == "worked"


async def test_as_completed_cancelled(loop):
    """The consumer is; the futures are not, and can be asked for again."""
    futures = [loop.create_future() for _ in range(2)]
    iterator = as_completed(futures)
    waiting = loop.create_task(iterator.__anext__())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    for i, future in enumerate(futures):
        future.set_result(i)
    assert [done.result() async for done in iterator] == [0, 1]


# -- ticker

class Clock:
    """A loop's time, under control: a sleep ends when it is moved on."""

    def __init__(self, monkeypatch, loop):
        self.now, self.slept = 100.0, []
        monkeypatch.setattr(asyncfast._aiter, "sleep", self.sleep)
        monkeypatch.setattr(asyncfast._aiter.asyncio, "get_running_loop", lambda: self)

    def time(self):
        return self.now

    async def sleep(self, delay):
        self.slept.append(delay)
        self.now += delay


@pytest.fixture
def clock(monkeypatch, loop):
    return Clock(monkeypatch, loop)


def drive(coroutine):
    """Its result; with the clock's sleep it never waits."""
    with pytest.raises(StopIteration) as caught:
        coroutine.send(None)
    return caught.value.value


def tick(each):
    return drive(each.__anext__())


def test_ticks_do_not_drift(clock):
    each = ticker(0.1)
    for n in range(1000):
        assert tick(each) == n and clock.now == pytest.approx(100.1 + n * 0.1, abs=1e-9)
        clock.now += 0.03       # the consumer's own time


@EACH("first, times", [(None, [2, 4, 6]), (0, [0, 2, 4]), (5, [5, 7, 9])])
def test_first_tick(clock, first, times):
    each = ticker(2, first=first)
    clock.now += 50             # it begins when it is first asked
    assert [(tick(each), clock.now - 150) for _ in range(3)] == list(enumerate(times))


@EACH("missed, expected", [
    ("skip", [(0, 1), (3, 4.5), (4, 5), (5, 6)]),
    ("burst", [(0, 1), (1, 4.5), (2, 4.5), (3, 4.5), (4, 5)]),
    ("delay", [(0, 1), (1, 4.5), (2, 5.5), (3, 6.5)]),
])  # fmt: skip
def test_missed_ticks(clock, missed, expected):
    each = ticker(1, missed=missed)
    got = [(tick(each), clock.now - 100)]
    clock.now += 3.5
    got += [(tick(each), clock.now - 100) for _ in expected[1:]]
    assert got == expected


@EACH("missed", ["skip", "burst", "delay"])
def test_a_tick_that_is_late_but_not_missed(clock, missed):
    each = ticker(1, missed=missed)
    tick(each)
    clock.now += 1.5
    assert [(tick(each), clock.now - 100) for _ in range(2)] == [(1, 2.5), (2, 3)]


def test_late_ticks_let_the_others_run(clock):
    each = ticker(1, missed="burst")
    tick(each)
    clock.now += 10
    clock.slept.clear()
    assert tick(each) == 1 and clock.slept == [0]


@EACH("arguments", [dict(interval=0), dict(interval=-1), dict(interval=math.nan), dict(interval=math.inf),
                    dict(interval=1, first=-1), dict(interval=1, first=math.nan), dict(interval=1, missed="never")])
def test_ticker_arguments(arguments):
    with pytest.raises(ValueError):
        ticker(**arguments)


async def test_ticker_runs(loop):
    start, got = loop.time(), []
    async for n in ticker(0.001, missed="burst"):
        assert loop.time() >= start + (n + 1) * 0.001 - 1e-6
        got.append(n)
        if n == 4:
            break
    assert got == list(range(5))


@types.coroutine
def suspended(delay):
    yield


def test_a_cancelled_tick_is_not_taken(clock, monkeypatch):
    each = ticker(1)
    with monkeypatch.context() as patch:
        patch.setattr(asyncfast._aiter, "sleep", suspended)
        waiting = each.__anext__()
        waiting.send(None)
        with pytest.raises(asyncio.CancelledError):
            waiting.throw(asyncio.CancelledError())
    assert tick(each) == 0


async def test_consumers_share_the_ticks(loop):
    async def take():
        return [await anext(each) for _ in range(3)]

    each = ticker(0.001, missed="burst")
    assert sorted(sum(await asyncio.gather(take(), take()), [])) == list(range(6))


# -- aiter_sync

@contextlib.contextmanager
def pool(threads=1):
    executor = ThreadPoolExecutor(threads)
    try:
        yield executor
    finally:
        executor.shutdown()


@EACH("count", [0, 1, 31, 63, 64, 65, 1000])
async def test_aiter_sync(loop, count):
    main = threading.get_ident()
    with pool() as executor:
        for iterable in (range(count), list(range(count)), iter(range(count)), (i for i in range(count))):
            assert [i async for i in aiter_sync(iterable, executor=executor)] == list(range(count))
        got = [thread async for thread in aiter_sync((threading.get_ident() for _ in range(3)), executor=executor)]
        assert len(set(got)) == 1 and got[0] != main
    assert [i async for i in aiter_sync(range(3))] == [0, 1, 2]


async def test_aiter_sync_does_not_block_the_loop(loop):
    def blocks():
        yield 1
        assert event.wait(30)
        yield 2

    event = threading.Event()
    with pool() as executor:
        iterator = aiter_sync(blocks(), executor=executor)
        assert await anext(iterator) == 1
        task = loop.create_task(anext(iterator))
        await asyncio.sleep(0.001)
        assert not task.done()
        event.set()
        assert await task == 2
        await iterator.aclose()


async def test_aiter_sync_reads_so_far_ahead(loop):
    def source():
        for i in range(10_000):
            made.append(i)
            yield i

    made = []
    with pool() as executor:
        iterator = aiter_sync(source(), executor=executor)
        for taken in range(1, 200):
            await anext(iterator)
            await asyncio.sleep(0)
            assert len(made) <= taken + _Reader.AHEAD + 1
        while len(made) < taken + _Reader.AHEAD // 2:    # and the thread is not held meanwhile
            await asyncio.sleep(0)
        assert await loop.run_in_executor(executor, lambda: "free") == "free"
        await iterator.aclose()


@EACH("count", [0, 3, 200])
async def test_aiter_sync_fails(loop, count):
    def source():
        yield from range(count)
        raise ValueError("why")

    got = []
    with pool() as executor, pytest.raises(ValueError, match="why"):
        await consume(aiter_sync(source(), executor=executor), got)
    assert got == list(range(count))


@EACH("error", [StopIteration, StopAsyncIteration])
async def test_aiter_sync_of_what_raises_odd_things(loop, error):
    class Odd:
        def __iter__(self):
            raise error

    with pool() as executor:
        if error is StopIteration:
            assert [i async for i in aiter_sync(Odd(), executor=executor)] == []
        else:
            with pytest.raises(RuntimeError, match="StopAsyncIteration"):
                await anext(aiter_sync(Odd(), executor=executor))
        with pytest.raises(TypeError, match="not iterable"):
            await anext(aiter_sync(1, executor=executor))


def closing_source(log, count=1000):
    try:
        yield from range(count)
    finally:
        log.append(threading.get_ident())


@EACH("taken", [1, 5, 100])
async def test_aiter_sync_left_early(loop, taken):
    """The generator is closed, in the thread, when aclose() returns."""
    log = []
    with pool() as executor:
        iterator = aiter_sync(closing_source(log), executor=executor)
        for _ in range(taken):
            await anext(iterator)
        await iterator.aclose()
        assert len(log) == 1 and log != [threading.get_ident()]


async def test_aiter_sync_leaves_files_alone(loop, tmp_path):
    path = tmp_path / "lines"
    path.write_text("".join(f"{i}\n" for i in range(1000)))
    with path.open() as file, pool() as executor:
        async with contextlib.aclosing(aiter_sync(file, executor=executor)) as lines:
            assert await anext(lines) == "0\n"
        assert not file.closed


async def test_aiter_sync_cancelled_while_it_waits(loop):
    def blocks():
        try:
            yield 1
            started.set()
            assert event.wait(30)
            yield 2
        finally:
            closed.append(1)

    for cancels in (1, 2, 3):
        started, event, closed = threading.Event(), threading.Event(), []
        with pool() as executor:
            task = loop.create_task(consume(aiter_sync(blocks(), executor=executor), []))
            await loop.run_in_executor(None, started.wait, 30)
            for _ in range(cancels):
                task.cancel()
                await asyncio.sleep(0)
            assert not task.done()      # the thread comes first
            event.set()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert closed == [1]


async def test_aiter_sync_fails_while_it_is_left(loop, errors):
    def source():
        yield 1
        started.set()
        assert event.wait(30)
        raise ValueError("late")

    started, event = threading.Event(), threading.Event()
    with pool() as executor:
        iterator = aiter_sync(source(), executor=executor)
        await anext(iterator)
        await loop.run_in_executor(None, started.wait, 30)
        task = loop.create_task(iterator.aclose())
        await asyncio.sleep(0)
        event.set()
        await task
    assert [str(context["exception"]) for context in errors] == ["late"]


async def test_aiter_sync_fails_to_close(loop):
    def source():
        try:
            yield from range(1000)
        finally:
            raise OSError("closing")

    with pool() as executor:
        iterator = aiter_sync(source(), executor=executor)
        await anext(iterator)
        with pytest.raises(OSError, match="closing"):
            await iterator.aclose()


async def test_aiter_sync_has_the_context(loop):
    def source():
        for _ in range(3):
            yield variable.get()

    variable = contextvars.ContextVar("variable")
    variable.set("mine")
    with pool() as executor:
        assert [value async for value in aiter_sync(source(), executor=executor)] == ["mine"] * 3


async def test_aiter_sync_dropped_while_suspended(loop):
    log = []
    with pool() as executor:
        iterator = aiter_sync(closing_source(log), executor=executor)
        await anext(iterator)
        del iterator
        gc.collect()
        await until(lambda: log and not others())


async def test_aiter_sync_without_an_executor_any_more(loop):
    with pool() as executor:
        pass
    with pytest.raises(RuntimeError, match="after shutdown"):
        await anext(aiter_sync(range(3), executor=executor))


# -- arguments

def test_arguments():
    async def source():
        yield 1

    for call in (lambda: batched(source(), 0), lambda: batched(source(), 1, within=-1),
                 lambda: batched(source(), 1, within=math.nan), lambda: timeout_each(source(), -1)):
        with pytest.raises(ValueError):
            call()
