"""The iterators over sources that do as they please: fail anywhere, swallow cancellations, cannot be closed, never wait,
block; and over consumers that leave at any moment.  Whatever they do, what was opened is closed and no task is left."""

import asyncio
import collections.abc
import concurrent.futures
import contextlib
import contextvars
import fractions
import gc
import math
import random
import threading
import traceback
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

import asyncfast
from _turns import settle
from asyncfast import Channel, aiter_sync, as_completed, batched, merge, ticker, timeout_each
from asyncfast._aiter import _Reader

EACH = pytest.mark.parametrize

#: What iterates one asynchronous iterable, and gives its items
OVER = {
    "merge": lambda source: merge(source),
    "merge of more": lambda source: merge(nothing(), source),
    "batched": lambda source: unbatched(batched(source, 2)),
    "batched within": lambda source: unbatched(batched(source, 2, within=1000)),
    "timeout_each": lambda source: timeout_each(source, 1000),
}
over = EACH("make", OVER.values(), ids=OVER)
#: of these, what iterates it in a task of its own
in_a_task = EACH("make", [OVER[name] for name in ("merge", "merge of more", "batched within")],
                 ids=["merge", "merge of more", "batched within"])


async def nothing():
    for _ in ():
        yield


async def unbatched(batches):
    async with contextlib.aclosing(batches):
        async for batch in batches:
            for item in batch:
                yield item


async def until(condition):
    while not condition():
        await asyncio.sleep(0)


def others():
    return asyncio.all_tasks() - {asyncio.current_task()}


class Source:
    """An asynchronous iterator by hand.  `script` is what each __anext__() does in turn: gives an item, raises an exception,
    or calls a function whose result is awaited if it can be; then it ends."""

    def __init__(self, *script, close=None, **attributes):
        self.script, self.close, self.closed, self.asked = list(script), close, 0, 0
        self.__dict__ |= attributes

    def __aiter__(self):
        return self

    async def __anext__(self):
        self.asked += 1
        if not self.script:
            raise StopAsyncIteration
        return await self.act(self.script.pop(0))

    async def aclose(self):
        self.closed += 1
        await asyncio.sleep(0)
        return await self.act(self.close)

    async def act(self, what):
        if isinstance(what, BaseException):
            raise what
        if callable(what):
            what = what()
        return await what if asyncio.iscoroutine(what) else what


async def for_ever():
    await asyncio.get_running_loop().create_future()


async def swallow(item):
    """Be cancelled, and give an item all the same."""
    with contextlib.suppress(asyncio.CancelledError):
        await for_ever()
    return item


async def replace(error):
    try:
        await for_ever()
    except asyncio.CancelledError:
        raise error from None


async def collect(iterator, got):
    async with contextlib.aclosing(iterator):
        async for item in iterator:
            got.append(item)


# -- sources that do not care for being cancelled

@over
async def test_a_source_that_swallows_its_cancellation(loop, make):
    """It gives more items, which nobody takes: it is closed, and nobody waits for ever."""
    source, got = Source(1, 2, lambda: swallow(3), *range(4, 100)), []
    task = loop.create_task(collect(make(source), got))
    await until(lambda: source.asked == 3 and len(got) == 2)
    task.cancel()
    await asyncio.wait([task])
    assert source.closed == 1 and not others() and got[:2] == [1, 2]
    assert source.asked == 3 if task.cancelled() else len(got) == 99    # in the consumer's task it swallows the consumer's


@in_a_task
async def test_left_while_the_source_waits_and_swallows_the_cancellation(loop, make):
    source = Source(1, 2, lambda: swallow(3), 4, 5)
    iterator = make(source)
    assert await anext(iterator) == 1
    await until(lambda: source.asked == 3)
    await iterator.aclose()
    assert source.closed == 1 and source.asked == 3 and not others()


@in_a_task
async def test_left_while_the_source_waits_and_replaces_the_cancellation(loop, make, errors):
    error = OSError("instead")
    source = Source(1, 2, lambda: replace(error))
    iterator = make(source)
    assert await anext(iterator) == 1
    await until(lambda: source.asked == 3)
    await iterator.aclose()
    assert source.closed == 1 and not others() and [context["exception"] for context in errors] == [error]


@over
async def test_cancelled_while_the_source_replaces_the_cancellation(loop, make, errors):
    error, got = OSError("instead"), []
    source = Source(1, 2, lambda: replace(error))
    task = loop.create_task(collect(make(source), got))
    await until(lambda: source.asked == 3 and len(got) == 2)
    task.cancel()
    await asyncio.wait([task])
    assert source.closed == 1 and not others() and got == [1, 2]
    heard = [context["exception"] for context in errors] + ([] if task.cancelled() else [task.exception()])
    assert heard == [error]


@over
@EACH("script", [(1, 2, 3, 4, 5), (1, lambda: swallow(2), lambda: swallow(3), 4), (lambda: replace(KeyError()), 1)])
async def test_cancelled_in_each_turn(loop, make, script, errors):
    """And again in each of the turns that follow: there is an end, and all is closed."""
    for turns in range(1, 12):
        for again in range(3):
            source, got = Source(*script), []
            task = loop.create_task(collect(make(source), got))
            await settle(turns)
            for _ in range(again + 1):
                task.cancel()
                await asyncio.sleep(0)
            await settle(2)
            while not task.done():          # a source may have swallowed all of them
                task.cancel()
                await asyncio.sleep(0)
            assert not others() and source.closed == (source.asked > 0), (turns, again)
            if not task.cancelled():
                assert task.exception() is None or type(task.exception()) is KeyError


@over
async def test_closing_cannot_be_interrupted_from_a_task_of_its_own(loop, make):
    future = loop.create_future()
    source = Source(1, for_ever, close=lambda: wait_for(future))
    task = loop.create_task(collect(make(source), []))
    await until(lambda: source.asked == 2)
    for _ in range(3):
        task.cancel()
        await settle()
    assert task.done() == (make in (OVER["batched"], OVER["timeout_each"]))     # those have only the consumer's
    if not task.done():
        future.set_result(None)
    await asyncio.wait([task])
    assert task.cancelled() and source.closed == 1 and not others()


async def wait_for(future):
    await future


# -- sources that fail

def raise_(error):
    raise error


@over
@EACH("error", [ValueError("why"), StopAsyncIteration("early"), StopIteration("odd"), TypeError("no")], ids=repr)
async def test_aiter_raises(loop, make, error):
    class Bad:
        def __aiter__(self):
            raise error

    with pytest.raises((type(error), RuntimeError)) as caught:
        await anext(make(Bad()))
    assert caught.value is error or caught.value.__cause__ is error or caught.value.__context__ is error
    assert not others()


@over
@EACH("bad", [None, 1, [1], iter([1]), nothing, Source], ids=repr)
async def test_what_is_not_iterable(loop, make, bad):
    with pytest.raises(TypeError, match="async"):
        await anext(make(bad))
    assert not others()


@over
async def test_an_iterator_that_is_not_one(loop, make):
    class Bad:
        def __aiter__(self):
            return iter([1])

    with pytest.raises(TypeError, match="async"):
        await anext(make(Bad()))


@over
async def test_an_iterator_with_nothing_but_anext(loop, make):
    """`async for` takes it; __aiter__() is asked once."""
    class Next:
        left = 3

        async def __anext__(self):
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return self.left

    class Iterable:
        asked = 0

        def __aiter__(self):
            self.asked += 1
            return Next()

    iterable = Iterable()
    assert [item async for item in make(iterable)] == [2, 1, 0] and iterable.asked == 1


@over
async def test_anext_that_is_not_awaitable(loop, make):
    class Bad(Source):
        def __anext__(self):
            return 1

    source = Bad()
    with pytest.raises(TypeError, match="await"):
        await anext(make(source))
    assert source.closed == 1 and not others()


@over
async def test_anext_that_raises_at_once(loop, make):
    class Bad(Source):
        def __anext__(self):
            raise ValueError("no coroutine even")

    source = Bad()
    with pytest.raises(ValueError, match="no coroutine even"):
        await anext(make(source))
    assert source.closed == 1 and not others()


@over
@EACH("error", [ValueError("why"), TimeoutError("its own"), RuntimeError(), asyncio.QueueEmpty(), ExceptionGroup("g", [OSError()]),
                GeneratorExit(), StopIteration(1)], ids=repr)
@EACH("before", [0, 1, 2, 3])
async def test_anext_fails(loop, make, error, before):
    """It is raised, once, after what came before it; a group is not taken apart."""
    source, got = Source(*range(before), error, 1000), []
    iterator = make(source)
    with pytest.raises((type(error), RuntimeError)) as caught:
        async for item in iterator:
            got.append(item)
    assert caught.value is error or (type(error) is StopIteration and caught.value.__cause__ is error)
    assert source.closed == 1 and not others()
    assert got == list(range(before)) or (type(error) is GeneratorExit and "batched" in iterator.ag_code.co_name)
    assert [item async for item in iterator] == []


@over
async def test_it_fails_to_close(loop, make):
    """After the end it is the end of the iteration that fails; after an error that is its context."""
    for script, context in (((1,), None), ((1, ValueError("first")), ValueError)):
        source, got, error = Source(*script, close=OSError("closing")), [], None
        try:
            async for item in make(source):
                got.append(item)
        except OSError as caught:
            error = caught
        assert str(error) == "closing" and got == [1] and source.closed == 1 and not others()
        assert type(error.__context__) is (context or type(None))


@over
async def test_the_source_ends_early(loop, make):
    assert [item async for item in make(Source())] == []
    assert [item async for item in make(Source(StopAsyncIteration()))] == []
    source = Source(1, StopAsyncIteration("value"), 2)
    assert [item async for item in make(source)] == [1] and source.closed == 1


@over
async def test_aclose_that_cannot_be_awaited(loop, make):
    source = Source(1)
    source.aclose = lambda: None
    with pytest.raises(TypeError, match="await"):
        [item async for item in make(source)]
    assert not others()


@over
async def test_without_aclose(loop, make):
    class Plain(Source):
        aclose = property(lambda self: raise_(AttributeError()))

    got = []
    task = loop.create_task(collect(make(Plain(1, 2, for_ever)), got))
    await until(lambda: len(got) == 2)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() and not others()


async def test_several_fail_at_once(loop, errors):
    """The first is raised, the others are reported: none is lost."""
    failures = [ValueError(i) for i in range(5)]
    sources = [Source(i, failure) for i, failure in enumerate(failures)]
    with pytest.raises(ValueError) as caught:
        await collect(merge(*sources), [])
    heard = [caught.value, *[context["exception"] for context in errors]]
    assert sorted(heard, key=str) == [failure for failure, source in zip(failures, sources) if failure not in source.script]
    assert all(source.closed == 1 for source in sources) and not others()
    assert all("that was left" in context["message"] and isinstance(context["task"], asyncio.Future) for context in errors)


@over
async def test_an_error_that_nobody_asks_for(loop, make, errors):
    """The consumer leaves with what came before it."""
    error = ValueError("unheard")
    source = Source(1, 2, 3, error)
    iterator = make(source)
    for _ in range(3):
        await anext(iterator)
    await settle()
    asked = source.asked == 4
    await iterator.aclose()
    assert [context["exception"] for context in errors] == [error] * asked
    assert source.closed == 1 and not others()


@EACH("error", [KeyboardInterrupt, SystemExit])
@over
def test_what_ends_a_program(loop, make, error, errors):
    """It leaves the loop, as from any task; what was open can be closed after that."""
    async def main():
        async with contextlib.aclosing(make(source)) as iterator:
            async for item in iterator:
                got.append(item)

    source, got = Source(1, 2, error()), []
    task = loop.create_task(main())
    with pytest.raises(error):
        loop.run_until_complete(task)
    if not task.done():
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, error):
            loop.run_until_complete(task)
    assert source.closed == 1 and got == [1, 2] and not errors
    assert not asyncio.all_tasks(loop)


# -- one source twice

async def test_the_same_generator_twice(loop):
    """Which is in use already: an error, and it is closed."""
    async def source():
        try:
            yield 1
            await for_ever()
        finally:
            await asyncio.sleep(0)
            closed.append(1)

    closed, each = [], source()
    with pytest.raises(RuntimeError, match="already running"):
        await collect(merge(each, each), [])
    assert closed == [1] and not others()


async def test_the_same_channel_twice(loop):
    channel = Channel()
    for i in range(10):
        channel.send_nowait(i)
    channel.close()
    assert sorted([item async for item in merge(channel, channel)]) == list(range(10))
    assert [item async for item in merge(channel)] == []    # used up


@over
async def test_used_up(loop, make):
    source = Source(1)
    assert [item async for item in make(source)] == [1]
    assert [item async for item in make(source)] == []


# -- closing at every stage

@over
async def test_aclose_before_anything(loop, make):
    """Nothing was opened.  Again does nothing."""
    source = Source(1)
    iterator = make(source)
    for _ in range(2):
        await iterator.aclose()
    assert source.asked == source.closed == 0
    assert [item async for item in iterator] == []


@over
async def test_aclose_twice_and_at_the_end(loop, make):
    source = Source(1, 2, 3)
    iterator = make(source)
    await anext(iterator)
    for _ in range(2):
        assert await iterator.aclose() is None
    assert source.closed == 1
    source = Source(1)
    iterator = make(source)
    assert [item async for item in iterator] == [1]
    await iterator.aclose()
    assert source.closed == 1 and not others()


@over
async def test_aclose_while_another_task_waits(loop, make):
    """Is refused, as of any asynchronous generator; and nothing is disturbed."""
    future = loop.create_future()
    source = Source(lambda: wait_for(future))
    iterator = make(source)
    task = loop.create_task(iterator.__anext__())
    await settle()
    for use in (iterator.aclose, iterator.__anext__, lambda: iterator.athrow(KeyError())):
        with pytest.raises(RuntimeError, match="already running"):
            await use()
    future.set_result("item")
    assert await task is None
    await iterator.aclose()
    assert source.closed == 1 and not others()


@over
async def test_two_tasks_close_it(loop, make):
    source = Source(1, 2, 3)
    iterator = make(source)
    await anext(iterator)
    outcome = await asyncio.gather(iterator.aclose(), iterator.aclose(), return_exceptions=True)
    assert [each for each in outcome if each is not None and "already running" not in str(each)] == []
    assert source.closed == 1 and not others()


@over
async def test_athrow(loop, make):
    for error in (KeyError("thrown"), asyncio.CancelledError(), TimeoutError(), asyncfast.ChannelClosed()):
        source = Source(1, 2, 3)
        iterator = make(source)
        await anext(iterator)
        with pytest.raises(type(error)) as caught:
            await iterator.athrow(error)
        assert caught.value is error and source.closed == 1 and not others()
    iterator = make(Source(1))
    with pytest.raises(KeyError):
        await iterator.athrow(KeyError())   # before anything
    assert [item async for item in iterator] == []


@over
async def test_asend(loop, make):
    """What is sent goes nowhere."""
    iterator = make(Source(1, 2, 3))
    assert await iterator.asend(None) == 1 and await iterator.asend("x") == 2
    await iterator.aclose()


@over
def test_dropped_in_every_turn(loop, make, logged):
    """While a task waits for an item, and before that: the task is cancelled, or is not even begun."""
    async def main(turns, source):
        task = loop.create_task(collect(make(source), []))
        await settle(turns)
        task.cancel()

    for turns in range(8):
        source = Source(1, 2, for_ever)
        loop.run_until_complete(main(turns, source))
        while asyncio.all_tasks(loop):
            loop.run_until_complete(asyncio.sleep(0))
        assert source.closed == (source.asked > 0)
    gc.collect()


@over
async def test_left_without_closing(loop, make):
    """The loop's hook closes it, when the collector finds it."""
    for count in range(1, 4):
        source = Source(1, 2, 3)
        async for item in make(source):
            if item == count:
                break
        gc.collect()
        await until(lambda: source.closed == 1 and not others())


@pytest.mark.only_asyncfast
@EACH("make", ["merge(source())", "batched(source(), 2)", "batched(source(), 2, within=1000)", "timeout_each(source(), 1000)",
               "aiter_sync([1, 2, 3])", "ticker(1e-6)", "as_completed([asyncio.sleep(0), asyncio.sleep(1000)])"])
def test_program_that_leaves_them(program, make):
    """At the end of run() all is closed, and nothing is pending."""
    done = program(f"""
        from asyncfast import *
        async def source():
            try:
                for i in range(100):
                    await asyncio.sleep(0)
                    yield i
            finally:
                await asyncio.sleep(0)
                print("closed")
        async def main():
            kept.append({make})
            async for _ in kept[0]:
                break
            kept.append({make})         # never asked
            async for _ in {make}:      # dropped
                break
            for _ in range(10):
                await asyncio.sleep(0)
        kept = []
        run(main())
        kept.clear()
        gc.collect()
        print("end")
    """, "-Wdefault", status=None)
    assert done.stdout.split() == ["closed"] * (2 * ("source()" in make)) + ["end"], done.stderr
    assert "destroyed" not in done.stderr and "never" not in done.stderr and "Traceback" not in done.stderr


# -- where they are used

@over
def test_without_a_loop(make):
    class Quick(Source):
        aclose = property()

    iterator = make(Quick(1))
    try:
        iterator.__anext__().send(None)
    except RuntimeError as error:
        assert "no running event loop" in str(error)
    except StopIteration as stop:
        assert stop.value == 1      # what needs none does without
    with contextlib.suppress(StopIteration):
        iterator.aclose().send(None)
    for use in (lambda: as_completed([]), lambda: ticker(1).__anext__().send(None), lambda: aiter_sync([1]).__anext__().send(None)):
        with pytest.raises(RuntimeError, match="no running event loop"):
            use()


@in_a_task
def test_across_two_loops(loop_factory, make):
    """The second hears of it, instead of waiting for ever; the first can go on."""
    one, two, source = loop_factory(), loop_factory(), Source(1, 2, for_ever)
    iterator = make(source)

    async def first():
        return await anext(iterator)

    async def second():
        with pytest.raises(RuntimeError, match="different (event )?loop"):
            await iterator.aclose()

    assert one.run_until_complete(first()) == 1
    two.run_until_complete(second())
    while asyncio.all_tasks(one):
        one.run_until_complete(asyncio.sleep(0))
    assert source.closed == 1


def test_aiter_sync_across_two_loops(loop_factory):
    async def first():
        return await anext(iterator)

    async def second():
        with pytest.raises(RuntimeError, match="different (event )?loop"):
            await iterator.aclose()

    def source():
        yield 1
        assert event.wait(30)

    one, two, event = loop_factory(), loop_factory(), threading.Event()
    with ThreadPoolExecutor(1) as executor:
        iterator = aiter_sync(source(), executor=executor)
        assert one.run_until_complete(first()) == 1
        two.run_until_complete(second())
        event.set()


def test_in_a_thread_of_its_own(loop_factory):
    """A loop there is as good as any."""
    async def main():
        async for item in merge(Source(1, 2), Source(3)):
            got.append(item)

    def work():
        loop.run_until_complete(main())

    loop, got = loop_factory(), []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert sorted(got) == [1, 2, 3]


@over
async def test_context_variables(loop, make):
    """A source sees what is set where the first item is asked for; what it sets itself is seen where it runs."""
    async def source():
        for i in range(3):
            seen.append(variable.get())
            variable.set(f"source {i}")
            yield i

    variable, seen = contextvars.ContextVar("variable", default="default"), []
    iterator = make(source())
    variable.set("consumer")
    async for _ in iterator:
        pass
    assert seen == ["consumer", "source 0", "source 1"]
    assert variable.get() == ("source 2" if make in (OVER["batched"], OVER["timeout_each"]) else "consumer")


@over
async def test_under_an_eager_task_factory(loop, make):
    if not hasattr(asyncio, "eager_task_factory"):
        pytest.skip("3.12+")
    loop.set_task_factory(asyncio.eager_task_factory)
    for script in ((), (1, 2, 3), (lambda: asyncio.sleep(0, 1), 2), (1, ValueError("why"))):
        source, got = Source(*script), []
        with contextlib.suppress(ValueError):
            await collect(make(source), got)
        assert source.closed == 1 and not others() and got == [1, 2, 3][:len(got)]
    source = Source(1, 2, 3)
    iterator = make(source)
    await anext(iterator)
    await iterator.aclose()
    assert source.closed == 1


async def test_a_task_factory_that_fails(loop):
    """What had begun is closed."""
    def factory(loop, coroutine, **kwargs):
        if len(made) == 3:
            coroutine.close()
            raise MemoryError("no more")
        made.append(asyncio.Task(coroutine, loop=loop, **kwargs))
        return made[-1]

    made, sources = [], [Source(1, 2) for _ in range(5)]
    loop.set_task_factory(factory)
    try:
        with pytest.raises(MemoryError):
            await anext(merge(*sources))
    finally:
        loop.set_task_factory(None)
    assert all(task.done() for task in made) and [source.closed for source in sources] == [1, 1, 1, 0, 0]


# -- what is passed on, how many, and in which order

ODD = [None, 0, "", (), ValueError("an item"), StopAsyncIteration(), StopIteration(), asyncio.CancelledError(), KeyboardInterrupt(),
       NotImplemented, Ellipsis, type]


@over
async def test_any_item(loop, make):
    async def source():
        for item in items:
            yield item

    coroutine, future = asyncio.sleep(0), loop.create_future()
    items = [*ODD, coroutine, future, source]
    got = [item async for item in make(source())]
    assert all(one is other for one, other in zip(got, items, strict=True))
    coroutine.close()


async def test_any_item_of_aiter_sync(loop):
    coroutine = asyncio.sleep(0)
    items = [*ODD, coroutine, loop.create_future()]
    got = [item async for item in aiter_sync(items)]
    assert all(one is other for one, other in zip(got, items, strict=True))
    coroutine.close()


#: How many items may have been made when so many were taken
AHEAD = {
    "merge": (lambda source: merge(source), 2),
    "batched": (lambda source: batched(source, 1), 0),
    "batched within": (lambda source: batched(source, 1, within=1000), 2),
    "timeout_each": (lambda source: timeout_each(source, 1000), 0),
}


@EACH("make, ahead", AHEAD.values(), ids=AHEAD)
async def test_back_pressure(loop, make, ahead):
    """Nothing at all before the first is asked for; then no more than it says."""
    source = Source(*range(100))
    iterator = make(source)
    await settle()
    assert source.asked == 0
    for taken in range(1, 20):
        await anext(iterator)
        await settle(10)
        assert source.asked == taken + ahead
    await iterator.aclose()


async def test_back_pressure_of_batches(loop):
    for within, ahead in ((None, 0), (1000, 4 + 1)):
        source = Source(*range(100))
        iterator = batched(source, 4, within=within)
        for taken in range(1, 10):
            assert len(await anext(iterator)) == 4
            await settle(20)
            assert source.asked == 4 * taken + ahead
        await iterator.aclose()


async def endless():
    n = 0
    while True:
        yield n
        n += 1


class Turns:
    """How many a task gets beside others: `count`."""

    def __init__(self, loop):
        self.count, self.task = 0, loop.create_task(self.run())

    async def run(self):
        while True:
            self.count += 1
            await asyncio.sleep(0)


async def test_merge_is_fair(loop):
    """Among sources that always have something none gets more than another, and tasks get their turns."""
    def named(name):
        return (name async for _ in endless())

    turns, got = Turns(loop), []
    async with contextlib.aclosing(merge(*[named(name) for name in "abcd"])) as iterator:
        async for name in iterator:
            got.append(name)
            if len(got) == 400:
                break
    assert all(97 <= got.count(name) <= 103 for name in "abcd") and turns.count >= 100
    turns.task.cancel()


async def test_merge_does_not_wait_for_the_slow(loop):
    async def slow():
        await for_ever()
        yield

    got = []
    async with contextlib.aclosing(merge(slow(), Source(1, 2, 3), slow())) as iterator:
        async for item in iterator:
            got.append(item)
            if len(got) == 3:
                break
    assert got == [1, 2, 3] and not others()


async def test_batched_within_lets_others_run(loop):
    turns = Turns(loop)
    async with contextlib.aclosing(batched(endless(), 10, within=1000)) as iterator:
        async for batch in iterator:
            if batch[-1] >= 1000:
                break
    assert turns.count >= 50
    turns.task.cancel()


@pytest.mark.kinds("asyncfast", "asyncio")
async def test_ten_thousand_sources(loop):
    sources = [Source(i) for i in range(10_000)]
    assert sorted([item async for item in merge(*sources)]) == list(range(10_000))
    assert all(source.closed == 1 for source in sources) and not others()
    sources = [Source(i, for_ever) for i in range(10_000)]
    iterator = merge(*sources)
    await anext(iterator)
    await iterator.aclose()
    assert all(source.closed == 1 for source in sources) and not others()


@pytest.mark.kinds("asyncfast", "asyncio")
async def test_as_completed_of_ten_thousand(loop):
    async def work(i):
        await asyncio.sleep(0)
        return i

    assert [done.result() async for done in as_completed([work(i) for i in range(10_000)])] == list(range(10_000))


# -- nothing is left for the collector

@contextlib.contextmanager
def no_cycles():
    """What is made in here is gone when it is let go of; the collector finds nothing."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Thing:
    pass


@EACH("make", [*OVER.values(), lambda source: aiter_sync(iter(source.script))], ids=[*OVER, "aiter_sync"])
@EACH("how", ["end", "left", "cancelled"])
async def test_no_cycles(loop, make, how):
    async def use():
        thing = Thing()
        refs.append(weakref.ref(thing))
        source = Source(1, 2, *[for_ever] * (how == "cancelled"))
        source.thing = thing
        if how == "cancelled":
            async with contextlib.aclosing(make(source)) as iterator:
                async for _ in iterator:
                    pass
                await for_ever()
        else:
            async with contextlib.aclosing(make(source)) as iterator:
                async for _ in iterator:
                    if how == "left":
                        break

    refs = []
    with no_cycles():
        task = loop.create_task(use())
        await settle(20)
        if how == "cancelled":
            task.cancel()
        await asyncio.wait([task])
        del task
        await settle()
        assert refs[0]() is None


@EACH("make", [*OVER.values(), lambda source: aiter_sync(failing(source))], ids=[*OVER, "aiter_sync"])
async def test_an_error_is_in_no_cycle(loop, make):
    """It is gone with the task that it ended: it keeps no frame for the collector to find."""
    async def use():
        thing = Thing()
        refs.append(weakref.ref(thing))
        source = Source(1, fail)
        source.thing = thing
        try:
            async for _ in make(source):
                pass
        except ZeroDivisionError as error:
            raised.append("".join(traceback.format_exception(error)))

    refs, raised = [], []
    with no_cycles():
        await loop.create_task(use())
        await settle()
        assert refs[0]() is None
    assert "in fail" in raised[0]


def fail():
    return 1 / 0


def failing(source):
    thing = source.thing
    yield thing is None
    fail()


# -- all of it at random

class Storm:
    """Iterators over iterators over sources, and a consumer, that do at random what they may."""

    def __init__(self, seed):
        self.rng, self.opened, self.closed = random.Random(seed), [], []

    async def source(self):
        rng, name = self.rng, len(self.opened)
        self.opened.append(name)
        try:
            for _ in range(rng.randrange(6)):
                await self.act(rng.random())
                yield name
        finally:
            try:
                await settle(rng.randrange(2))
            finally:
                self.closed.append(name)
            if rng.random() < 0.1:
                raise OSError(name)

    async def act(self, chance):
        if chance < 0.5:
            await asyncio.sleep(0)
        elif chance < 0.6:
            await swallow(None) if chance < 0.55 else await asyncio.sleep(0.0001)
        elif chance < 0.65:
            raise ValueError

    def make(self, depth=0):
        rng = self.rng
        how = rng.randrange(5) if depth < 3 else 4
        if how == 0:
            return merge(*[self.make(depth + 1) for _ in range(rng.randrange(4))])
        if how == 1:
            return batched(self.make(depth + 1), rng.randrange(1, 4))
        if how == 2:
            return batched(self.make(depth + 1), rng.randrange(1, 4), within=rng.choice([0, 0.0005, 1000]))
        if how == 3:
            return timeout_each(self.make(depth + 1), rng.choice([0.0005, 1000, None]))
        return self.source()

    async def consume(self):
        async with contextlib.aclosing(self.make()) as iterator:
            async for _ in iterator:
                chance = self.rng.random()
                if chance < 0.1:
                    break
                if chance < 0.15:
                    raise KeyError
                await settle(chance < 0.4)

    async def run(self):
        task = asyncio.ensure_future(self.consume())
        await settle(self.rng.randrange(20))
        for _ in range(self.rng.randrange(3)):
            task.cancel()
            await settle(self.rng.randrange(3))
        while not task.done():      # a source may have swallowed a cancellation, and wait for the next
            await asyncio.wait([task], timeout=0.001)
            task.cancel()
        task.cancelled() or task.exception()
        await settle()
        assert sorted(self.opened) == sorted(self.closed)


@EACH("seeds", range(4))
async def test_storm(loop, seeds, errors):
    """There is an end, everything that was opened is closed then, and no task is left."""
    for seed in range(50):
        await Storm(1000 * seeds + seed).run()
        assert not others(), f"seed {1000 * seeds + seed}"


# -- as_completed

async def test_as_completed_begins_them_in_their_order(loop):
    async def work(i):
        begun.append(i)

    begun = []
    tasks = [task async for task in as_completed([work(i) for i in range(50)])]
    assert begun == list(range(50)) and len(tasks) == 50


async def test_as_completed_closed_by_the_consumer(loop, errors):
    """It is a channel: close() is a way to leave."""
    future, iterator = loop.create_future(), None
    iterator = as_completed([future], timeout=1000)
    iterator.close()
    future.set_result(1)
    await settle()
    assert [done async for done in iterator] == [] and not errors


async def test_as_completed_left(loop):
    """The futures go on, and hold nothing when they are done."""
    thing = Thing()
    ref, future = weakref.ref(thing), loop.create_future()
    iterator = as_completed([future, asyncio.sleep(0)])
    iterator_ref = weakref.ref(iterator)
    async for _ in iterator:
        break
    del iterator
    future.set_result(thing)
    del thing
    await settle()
    assert future.result() is ref() and iterator_ref() is None


async def test_as_completed_timeouts(loop):
    for bad in ("1", [], 1j):
        coroutine = asyncio.sleep(0)
        with pytest.raises(TypeError, match="timeout must be a number of seconds, not"):
            as_completed([coroutine], timeout=bad)
        coroutine.close()       # it was not touched
        assert not others()
    for timeout in (0, -1, -math.inf):
        with pytest.raises(TimeoutError):
            async for _ in as_completed([loop.create_future()], timeout=timeout):
                pass
    for timeout in (1e300, math.inf, 10**400, fractions.Fraction(1000)):
        assert len([done async for done in as_completed([asyncio.sleep(0)], timeout=timeout)]) == 1


async def test_as_completed_of_another_loop(loop, loop_factory):
    future = loop_factory().create_future()
    with pytest.raises(ValueError, match="belongs to a different loop"):
        as_completed([future])
    with pytest.raises(TypeError, match="not iterable"):
        as_completed(endless())


async def test_as_completed_by_several(loop):
    """Each is given to one of them."""
    async def take():
        return [done.result() async for done in iterator]

    iterator = as_completed([asyncio.sleep(0, i) for i in range(20)])
    assert sorted(sum(await asyncio.gather(take(), take(), take()), [])) == list(range(20))


async def test_as_completed_of_what_raises(loop):
    async def fail(error):
        raise error

    errors = [ValueError(), asyncio.CancelledError(), ExceptionGroup("g", [OSError()])]
    tasks = [done async for done in as_completed([fail(error) for error in errors])]
    assert [task.cancelled() or type(task.exception()) for task in tasks] == [ValueError, True, ExceptionGroup]


# -- timeout_each

async def test_timeout_each_of_a_source_that_swallows_it(loop):
    """The item came late, and it came; the next one is timed again."""
    async def held(item):
        with contextlib.suppress(asyncio.CancelledError):
            await for_ever()
        return item

    source, got = Source(lambda: held(1), 2, for_ever), []
    with pytest.raises(TimeoutError):
        async for item in timeout_each(source, 0.001):
            got.append(item)
    assert got == [1, 2] and source.closed == 1 and asyncio.current_task().cancelling() == 0


async def test_timeout_each_and_a_timeout_around(loop):
    source = Source(for_ever)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001) as outer:
            async for _ in timeout_each(source, 1000):
                pass
    assert outer.expired() and source.closed == 1
    source = Source(for_ever)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1000) as outer:
            async for _ in timeout_each(source, 0.001):
                pass
    assert not outer.expired() and source.closed == 1


async def test_timeout_each_of_nothing(loop):
    assert [item async for item in timeout_each(Source(1, 2), 0)] == [1, 2]     # each is there at once
    with pytest.raises(TimeoutError):
        async for _ in timeout_each(Source(lambda: for_ever()), 0):
            pass


# -- ticker

async def test_ticker_through_the_others(loop):
    """It has no aclose(), and cancelling its wait loses no tick."""
    ticks = ticker(0.001, missed="burst")
    for _ in range(3):
        async with contextlib.aclosing(merge(ticks)) as iterator:
            await anext(iterator)
    async with contextlib.aclosing(batched(ticker(0.0001), 3)) as iterator:
        assert len(await anext(iterator)) == 3
    with pytest.raises(TimeoutError):
        await anext(timeout_each(ticker(1000), 0.001))


async def test_ticker_of_extremes(loop):
    for interval in (5e-324, 1e-300, 1e-18):
        for missed in ("skip", "burst", "delay"):
            ticks = ticker(interval, missed=missed)
            numbers = [await anext(ticks) for _ in range(3)]
            assert numbers == sorted(set(numbers))
    for interval in (1e308, 1e15, fractions.Fraction(10**9)):
        ticks = ticker(interval, first=0)
        assert await anext(ticks) == 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await anext(ticks)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await anext(ticker(interval))


@EACH("missed", ["skip", "burst", "delay"])
def test_no_tick_is_early_and_none_late_without_a_reason(monkeypatch, missed):
    """With a clock that is moved by hand, to where a rounding error would show."""
    class Clock:
        now = 0.0

        def time(self):
            return self.now

    async def sleep(delay):
        clock.now += delay

    clock = Clock()
    monkeypatch.setattr(asyncfast._aiter, "sleep", sleep)
    monkeypatch.setattr(asyncfast._aiter.asyncio, "get_running_loop", lambda: clock)
    for interval in (0.1, 1 / 3, 0.7, 1e-3, 1e6 / 7):
        for begin in (0.0, 1.0, 123456.789):
            clock.now = begin
            ticks, last = ticker(interval), -1
            for i in range(300):
                with pytest.raises(StopIteration) as caught:
                    ticks.__anext__().send(None)
                number = caught.value.value
                assert number > last and ticks._begin + number * ticks._interval <= clock.now
                last = number
                clock.now += interval * (i % 4) * 0.5
                if i % 5 == 0:      # just before the next one
                    clock.now = max(clock.now, math.nextafter(ticks._due(), 0))


# -- aiter_sync

class Iterable:
    """A blocking iterator by hand, as Source."""

    def __init__(self, *script):
        self.script, self.threads = list(script), set()

    def __iter__(self):
        return self

    def __next__(self):
        self.threads.add(threading.get_ident())
        if not self.script:
            raise StopIteration
        what = self.script.pop(0)
        if isinstance(what, BaseException):
            raise what
        return what() if callable(what) else what


@contextlib.contextmanager
def pool():
    executor = ThreadPoolExecutor(1)
    try:
        yield executor
    finally:
        executor.shutdown()


@EACH("error", [ValueError("why"), concurrent.futures.CancelledError(), concurrent.futures.TimeoutError(), asyncio.CancelledError(),
                asyncio.InvalidStateError(), GeneratorExit(), ExceptionGroup("g", [OSError()])], ids=repr)
async def test_aiter_sync_raises_what_the_iterable_raised(loop, error):
    """Itself, and not what an executor's future would make of it."""
    got = []
    with pytest.raises(BaseException) as caught:
        async for item in aiter_sync(Iterable(1, 2, error)):
            got.append(item)
    assert caught.value is error and got == [1, 2]


@EACH("error", [KeyboardInterrupt, SystemExit])
def test_aiter_sync_of_what_ends_a_program(loop, error):
    async def main():
        async for _ in aiter_sync(Iterable(1, error())):
            pass

    with pytest.raises(error):
        loop.run_until_complete(main())
    loop.run_until_complete(asyncio.sleep(0))


@EACH("bad", [1, None, endless, Iterable, type("Bad", (), {"__iter__": lambda self: 1})()], ids=repr)
async def test_aiter_sync_of_what_is_not_iterable(loop, bad):
    with pytest.raises(TypeError, match="itera"):
        await anext(aiter_sync(bad))


@EACH("executor", [1, "x", object()])
async def test_aiter_sync_in_what_is_no_executor(loop, executor):
    with pytest.raises(AttributeError, match="submit"):
        await anext(aiter_sync([1], executor=executor))


async def test_aiter_sync_left_while_no_thread_is_free(loop):
    """There is nothing to wait for: the iterable is not touched, not even when there is one."""
    event = threading.Event()
    with pool() as executor:
        executor.submit(event.wait, 30)
        iterable = Iterable(1)
        task = loop.create_task(collect(aiter_sync(iterable, executor=executor), []))
        await settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        event.set()
    assert not iterable.threads and not others()


async def test_aiter_sync_whose_executor_is_shut_down_before_there_is_a_thread(loop):
    event, executor = threading.Event(), ThreadPoolExecutor(1)
    executor.submit(event.wait, 30)
    task = loop.create_task(collect(aiter_sync([1], executor=executor), []))
    await settle()
    executor.shutdown(wait=False, cancel_futures=True)
    await asyncio.wait([task])
    assert task.cancelled()         # as what runs in it is
    event.set()
    executor.shutdown()


@EACH("waiting", [False, True])
async def test_aiter_sync_whose_executor_is_shut_down_between_two_reads(loop, waiting):
    """Whether it is the consumer that asks for more then, or the end of a read while the consumer waits already."""
    class Once(concurrent.futures.Executor):
        def submit(self, function, *args):
            if jobs:
                raise RuntimeError("after shutdown")
            jobs.append(concurrent.futures.Future())
            jobs[0].set_result(function(*args))
            return jobs[0]

    jobs, got = [], []
    with pytest.raises(RuntimeError, match="after shutdown"):
        async for each in aiter_sync(range(1000), executor=Once()):
            got.append(each)
            if not waiting:
                await settle(1)
    assert got == list(range(64))


async def test_aiter_sync_begins_when_it_is_asked(loop):
    iterable = Iterable(1)
    iterator = aiter_sync(iterable)
    await settle()
    await iterator.aclose()
    assert not iterable.threads


async def test_aiter_sync_lets_others_run(loop):
    turns = Turns(loop)
    async with contextlib.aclosing(aiter_sync(iter(int, 1))) as iterator:
        async for _ in iterator:
            if turns.count > 100:
                break
    turns.task.cancel()


async def test_aiter_sync_in_its_own_context(loop):
    """What a generator sets is its own, and can be taken back where it was set."""
    def source():
        token = variable.set("source")
        try:
            for _ in range(200):
                yield variable.get()
        finally:
            variable.reset(token)
            seen.append(variable.get())

    variable, seen = contextvars.ContextVar("variable", default="default"), []
    variable.set("consumer")
    with pool() as executor:
        iterator = aiter_sync(source(), executor=executor)
        for _ in range(150):
            assert await anext(iterator) == "source"
        await iterator.aclose()
    assert seen == ["consumer"] and variable.get() == "consumer"


async def test_aiter_sync_of_several_at_once(loop):
    """Through one thread: a consumer that takes its time holds none, so that all get on."""
    with pool() as executor:
        async def take(first):
            got = []
            async for item in aiter_sync(range(first, first + 300), executor=executor):
                got.append(item)
                if item % 50 == 0:
                    await settle(3)
            return got

        outcome = await asyncio.gather(*[take(1000 * i) for i in range(5)])
    assert outcome == [list(range(1000 * i, 1000 * i + 300)) for i in range(5)]


async def test_aiter_sync_cancelled_in_each_turn(loop):
    def source():
        opened.append(1)
        try:
            yield from range(200)
        finally:
            closed.append(1)

    with pool() as executor:
        for turns in range(30):
            opened, closed = [], []
            task = loop.create_task(collect(aiter_sync(source(), executor=executor), []))
            await settle(turns)
            task.cancel()
            await asyncio.wait([task])
            await loop.run_in_executor(executor, int)
            assert opened == closed and not others()


async def test_aiter_sync_that_iterates_itself_in_a_thread(loop):
    """A generator that is in use elsewhere: the error is raised."""
    def source():
        yield next(each)

    each = source()
    with pytest.raises(ValueError, match="already executing"):
        await anext(aiter_sync(each))


# -- arguments

BAD_SECONDS = [(value, TypeError) for value in ("1", b"1", [], 1j, object())] + [
    (value, ValueError) for value in (-1, -1e-9, math.nan, math.inf, -math.inf, 10**400, -10**400)]


@EACH("value, error", BAD_SECONDS, ids=lambda value: repr(value)[:20])
def test_seconds(value, error):
    for name, call in {
        "interval": lambda: ticker(value), "first": lambda: ticker(1, first=value),
        "seconds": lambda: timeout_each(endless(), value), "within": lambda: batched(endless(), 1, within=value),
    }.items():
        with pytest.raises(error, match=f"^{name} must be a"):
            call()


@EACH("interval", [0, 0.0, -0.0, False])
def test_no_interval(interval):
    with pytest.raises(ValueError, match="interval must be a finite number of seconds, above 0"):
        ticker(interval)
    ticker(1, first=interval)
    timeout_each(endless(), interval)
    batched(endless(), 1, within=interval)


@EACH("within", [None, 1])
async def test_sizes_of_batches(loop, within):
    for bad in ("1", None, 1.0, 1.5, math.nan, math.inf, [], 1j):
        with pytest.raises(TypeError, match="integer"):
            batched(endless(), bad, within=within)
    for bad in (0, -1, False, -10**30):
        with pytest.raises(ValueError, match="n must be at least 1"):
            batched(endless(), bad, within=within)
    for n in (10**30, 1 << 63, 3):
        assert [batch async for batch in batched(Source(1, 2, 3), n, within=within)] == [[1, 2, 3]]
    assert [batch async for batch in batched(Source(1, 2), True, within=within)] == [[1], [2]]


@EACH("missed", [None, "SKIP", b"skip", 1, ["skip"]])
def test_missed(missed):
    with pytest.raises(ValueError, match="missed must be 'skip', 'burst' or 'delay', not"):
        ticker(1, missed=missed)


def test_signatures():
    for call in (lambda: ticker(), lambda: ticker(1, 2), lambda: timeout_each(endless()), lambda: batched(endless()),
                 lambda: batched(endless(), 1, 2), lambda: aiter_sync(), lambda: aiter_sync([], None), lambda: as_completed(),
                 lambda: as_completed([], 1), lambda: merge(endless(), timeout=1)):
        with pytest.raises(TypeError, match="argument"):
            call()
    for each in (merge(), batched(endless(), 1), batched(endless(), 1, within=1), timeout_each(endless(), 1), aiter_sync([])):
        assert isinstance(each, collections.abc.AsyncGenerator)
    assert isinstance(ticker(1), collections.abc.AsyncIterator) and _Reader.AHEAD == 64
