"""Asynchronous generators: finalized by the loop, closed by shutdown_asyncgens()."""

import asyncio
import gc
import sys
import threading
import warnings

import pytest
from _turns import EACH, settle, turn


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


# -- the register

def test_who_is_registered(loop):
    """loop._asyncgens, to look at as on asyncio: whoever was iterated and has not ended."""
    async def main():
        kept, seen = [generator([], n) for n in range(5)], []
        seen.append(len(loop._asyncgens))
        for each in kept[:3]:
            await anext(each)
        seen.append(set(loop._asyncgens) == set(kept[:3]))
        await anext(kept[3])
        seen.append(set(loop._asyncgens) == set(kept[:4]))
        registered = loop._asyncgens
        await anext(kept[4])                    # while somebody has it in hand
        seen.append((kept[4] in registered, len(registered), registered is loop._asyncgens))
        for each in kept:
            await each.aclose()
        seen.append(len(loop._asyncgens))       # until they are collected
        del each, kept
        seen.append(len(loop._asyncgens))
        return seen

    assert loop.run_until_complete(main()) == [0, True, True, (True, 5, True), 5, 0]


async def test_many_that_end_and_a_few_that_stay(loop):
    async def short():
        yield 1

    kept, log = [], []
    for n in range(2000):
        async for _ in short():
            pass
        if n % 100 == 50:
            kept.append(generator(log, n))
            await anext(kept[-1])
        if n % 500 == 499:                      # dead ones between living ones
            ended = [short() for _ in range(200)]
            for each in ended:
                await anext(each)
                await each.aclose()
            del each, ended
    await loop.shutdown_asyncgens()
    assert sorted(log) == list(range(50, 2000, 100))


@EACH("look", [False, True])
async def test_shutdown_closes_in_any_case(loop, look):
    """Whether somebody has looked at the register between or not."""
    log, kept = [], []
    for n in range(100):
        kept.append(generator(log, n))
        await anext(kept[-1])
        if look and n % 10 == 5:
            assert len(loop._asyncgens) == n + 1
    del kept[::2]                               # the collector's business, by tasks
    await loop.shutdown_asyncgens()
    await settle()
    assert sorted(log) == list(range(100))
    assert len(loop._asyncgens) == 0 and loop._asyncgens_shutdown_called
    kept.clear()
    await settle()
    assert len(log) == 100                      # each was closed once


@EACH("strong", [set, list])
def test_register_of_somebody_else(loop, strong):
    """A program may put a container of its own there: then it is the one that counts."""
    class Register(strong):
        add = getattr(strong, "add", None) or strong.append

        def discard(self, item):
            if item in self:
                self.remove(item)

    async def main():
        each = generator(log)
        await anext(each)

    log = []
    loop._asyncgens = register = Register()
    loop.run_until_complete(main())
    assert len(register) == 1 and log == []     # it keeps it
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert len(register) == 0 and log == ["generator"]


@EACH("debug", [False, True])
def test_hooks_of_a_subclass(loop, debug):
    """run_forever() sets the methods of the instance, and the base class's do the rest."""
    class Loop(type(loop)):
        def _asyncgen_firstiter_hook(self, agen):
            calls.append("first")
            super()._asyncgen_firstiter_hook(agen)

        def _asyncgen_finalizer_hook(self, agen):
            calls.append("last")
            super()._asyncgen_finalizer_hook(agen)

        def create_task(self, coro, **kwargs):
            calls.append("task")
            return super().create_task(coro, **kwargs)

    async def main():
        async for _ in generator(log):
            break
        calls.append("left")
        await settle()

    calls, log = [], []
    mine = Loop()
    try:
        mine.set_debug(debug)
        mine.run_until_complete(main())
    finally:
        mine.close()
    assert calls == ["task", "first", "last", "left", "task"] and log == ["generator"]


# -- generators that await on their way out

async def test_finally_that_takes_long(loop):
    """shutdown_asyncgens() waits for all of them, side by side."""
    async def slow(name):
        try:
            yield
        finally:
            log.append((name, "closing"))
            await gate
            log.append((name, "closed"))

    log, gate = [], loop.create_future()
    kept = [slow(n) for n in range(3)]
    for each in kept:
        await anext(each)
    closing = loop.create_task(loop.shutdown_asyncgens())
    await settle()
    assert sorted(log) == [(n, "closing") for n in range(3)] and not closing.done()
    gate.set_result(None)
    assert await closing is None
    assert sorted(log[3:]) == [(n, "closed") for n in range(3)]


async def test_shutdown_that_is_cancelled(loop):
    async def slow():
        try:
            yield
        finally:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                log.append("cancelled")
                raise

    log, each = [], slow()
    await anext(each)
    closing = loop.create_task(loop.shutdown_asyncgens())
    await settle()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert log == ["cancelled"]


async def test_generators_that_do_not_close(loop, errors):
    """What each raises goes to the handler: no CancelledError, and no other keys than asyncio's."""
    async def raises(error):
        try:
            yield
        finally:
            await asyncio.sleep(0)
            raise error

    async def yields():
        try:
            yield
        finally:
            yield

    kept = [raises(KeyError("first")), raises(asyncio.CancelledError()), yields(), raises(ValueError("last"))]
    for each in kept:
        await anext(each)
    await loop.shutdown_asyncgens()
    told = {context["asyncgen"]: context for context in errors}
    assert set(told) == {kept[0], kept[2], kept[3]}
    for each, error in [(kept[0], KeyError), (kept[2], RuntimeError), (kept[3], ValueError)]:
        context = told[each]
        assert type(context["exception"]) is error and set(context) == {"message", "exception", "asyncgen"}
        assert context["message"] == f"an error occurred during closing of asynchronous generator {each!r}"


async def test_shutdown_is_a_coroutine(loop):
    closing = loop.shutdown_asyncgens()
    assert asyncio.iscoroutine(closing) and not loop._asyncgens_shutdown_called
    assert await closing is None and loop._asyncgens_shutdown_called
    with pytest.raises(RuntimeError):
        await closing
    with pytest.warns(RuntimeWarning, match="never awaited"):
        loop.shutdown_asyncgens()
        gc.collect()


async def test_first_iteration_after_shutdown_as_an_error(loop):
    await loop.shutdown_asyncgens()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ResourceWarning, match="asynchronous generator <async_generator object .*> was scheduled after"):
            await anext(generator([]))


# -- finalization

async def test_abandoned_in_a_cycle(loop):
    """Only the collector can find it, and it does so before the weak references are gone, or after."""
    async def cyclic(itself):
        try:
            itself.append(asyncio.current_task())
            yield
        finally:
            await asyncio.sleep(0)
            log.append("closed")

    log = []
    for _ in range(3):
        itself = []
        itself.append(cyclic(itself))
        await anext(itself[0])
    del itself
    gc.collect()
    closing = loop.create_task(loop.shutdown_asyncgens())   # does not close again what is being closed
    await settle(10)
    await closing
    assert log == ["closed"] * 3


def test_collected_by_another_thread(loop):
    """The loop, which waits meanwhile, is woken to close it."""
    async def main():
        closed = loop.create_future()

        async def waits():
            try:
                yield
            finally:
                await asyncio.sleep(0)
                closed.set_result(threading.get_ident())

        kept = [waits()]
        await anext(kept[0])
        thread = threading.Thread(target=kept.clear)
        thread.start()
        assert await closed == threading.get_ident()
        thread.join()

    loop.run_until_complete(main())


def test_dropped_when_the_loop_is_closed(loop, logged):
    async def main():
        kept.append(generator(log))
        await anext(kept[0])

    kept, log = [], []
    loop.run_until_complete(main())
    loop.close()
    kept.clear()
    gc.collect()
    assert log == [] and logged.take() == []


def test_dropped_between_two_runs(loop):
    async def main():
        kept.append(generator(log))
        await anext(kept[0])

    kept, log = [], []
    loop.run_until_complete(main())
    kept.clear()
    assert log == []
    turn(loop, 3)
    assert log == ["generator"]


# -- whose hooks

def test_hooks_of_a_program_during_a_run(loop):
    """What a program sets meanwhile is its own affair, and over at the end of the run."""
    async def main():
        before = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=mine.append, finalizer=None)
        each = generator([])
        await anext(each)
        assert mine == [each] and each not in set(loop._asyncgens)
        sys.set_asyncgen_hooks(*before)
        other = generator([])
        await anext(other)
        assert set(loop._asyncgens) == {other}
        await each.aclose()
        await other.aclose()
        sys.set_asyncgen_hooks(mine.append, mine.append)

    mine = []
    loop.run_until_complete(main())
    assert sys.get_asyncgen_hooks() == (None, None)


def test_generators_of_two_loops(loop_factory):
    """Each is closed by the loop that it was first iterated on, wherever it is dropped."""
    async def iterate(name):
        kept[name] = generator(log, name)
        await anext(kept[name])

    one, two, kept, log = loop_factory(), loop_factory(), {}, []
    one.run_until_complete(iterate(1))
    two.run_until_complete(iterate(2))
    assert [set(each._asyncgens) for each in (one, two)] == [{kept[1]}, {kept[2]}]

    async def drop():
        kept.clear()
        await settle(10)

    two.run_until_complete(drop())
    assert log == [2]
    one.run_until_complete(settle(10))
    assert log == [2, 1]


def test_shutdown_never_awaited_is_named_as_on_asyncio(loop):
    with pytest.warns(RuntimeWarning, match=r"coroutine 'BaseEventLoop\.shutdown_asyncgens' was never awaited"):
        loop.shutdown_asyncgens()
