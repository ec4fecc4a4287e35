"""Task: driving coroutines and whatever passes for one, cancelling, and what tasks tell about themselves."""

import asyncio
import collections.abc
import contextvars
import gc
import re
import sys
import traceback
import types
import weakref

import pytest

import asyncfast
from _coroutines import CoroutineLike, fail, forever, generator, generator_coroutine, give
from _turns import turn

pytestmark = pytest.mark.every_task
NATIVE = pytest.mark.kinds("asyncfast", "asyncfast-debug", "asyncio", "asyncio-debug")
VAR = contextvars.ContextVar("VAR", default="default")


def turns(loop, count=5):
    for _ in range(count):
        turn(loop)


# -- what a task is

async def test_class(loop, kind, Task):
    task = loop.create_task(give(1))
    assert type(task) is Task
    assert asyncio.isfuture(task) and asyncio.ensure_future(task) is task and not asyncio.iscoroutine(task)
    assert isinstance(task, asyncio.Task) or Task is asyncio.tasks._PyTask
    assert isinstance(task, asyncio.Future) or Task is asyncio.tasks._PyTask
    assert isinstance(asyncio.current_task(), Task)
    assert await task == 1


def test_class_alone(kind, Task):
    if kind.fast and Task is asyncfast.Task:
        assert issubclass(Task, asyncfast.Future) and Task[int].__origin__ is Task
    assert not isinstance(5, Task) and not isinstance(type(Task), Task)


async def test_result(loop):
    for value in (42, None, (), (1, 2), ValueError("x"), StopAsyncIteration()):
        task = loop.create_task(give(value))
        assert not task.done()
        assert await task is value
        assert task.done() and not task.cancelled() and task.result() is value and task.exception() is None


async def test_exception(loop):
    error = ValueError("mine")
    task = loop.create_task(fail(error))
    with pytest.raises(ValueError) as caught:
        await task
    assert caught.value is error and task.exception() is error and task.done() and not task.cancelled()
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert names[0] == "test_exception" and names[-1] == "fail"
    with pytest.raises(ValueError):
        task.result()


async def test_exception_keeps_cause_and_context(loop):
    async def main():
        try:
            await fail(KeyError(1))
        except KeyError as error:
            raise ValueError(2) from error

    with pytest.raises(ValueError) as caught:
        await loop.create_task(main())
    assert isinstance(caught.value.__cause__, KeyError) and caught.value.__context__ is caught.value.__cause__


async def test_no_step_is_made_at_once(loop):
    calls = []

    async def main():
        calls.append(1)

    task = loop.create_task(main())
    assert calls == [] and not task.done()
    await asyncio.sleep(0)
    assert calls == [1] and task.done()


async def test_result_comes_in_the_turn_after(loop):
    """The steps that a program can count are asyncio's."""
    calls = []

    async def inner():
        calls.append("inner")

    async def outer():
        await loop.create_task(inner())
        calls.append("outer")

    task = loop.create_task(outer())
    for _ in range(4):
        calls.append("turn")
        await asyncio.sleep(0)
    assert calls == ["turn", "turn", "inner", "turn", "outer", "turn"] and task.done()


@NATIVE
@pytest.mark.parametrize("thing", [None, 1, "x", give, [1], print, object()])
def test_no_coroutine(loop, Task, oracle, outcome, thing):
    assert outcome(Task, thing, loop=loop) == outcome(asyncio.Task, thing, loop=oracle)


@NATIVE
@pytest.mark.parametrize("keywords", [{"unknown": 1}, {"Name": "x"}, {"coro": None}])
def test_wrong_arguments(loop, Task, keywords):
    coroutine = give(1)
    with pytest.raises(TypeError):
        Task(coroutine, loop=loop, **keywords)
    with pytest.raises(TypeError):
        Task(loop=loop)
    with pytest.raises(TypeError):
        Task(coroutine, loop)
    coroutine.close()


async def test_loop_is_the_running_one(loop, Task):
    task = Task(give(1))
    assert task.get_loop() is loop and await task == 1


@NATIVE
@pytest.mark.skipif(sys.version_info < (3, 12), reason="makes a loop")
def test_no_running_loop(Task):
    coroutine = give(1)
    with pytest.raises((RuntimeError, DeprecationWarning)):
        Task(coroutine)
    coroutine.close()


@pytest.mark.kinds("asyncfast", "asyncfast-debug")
def test_not_initialized(Task, outcome):
    """asyncio's own crashes the interpreter."""
    task = Task.__new__(Task)
    for call in (task.result, task.cancel, task.get_coro, task.get_name, task.cancelling, task.uncancel, task.get_loop,
                 lambda: task.set_name("x"), lambda: repr(task), lambda: task.add_done_callback(print),
                 lambda: iter(task), getattr(task, "get_context", print)):
        try:
            call()
        except Exception:
            pass


def test_set_result_and_set_exception_are_refused(loop, Task):
    task = Task(forever(), loop=loop)
    with pytest.raises(RuntimeError, match="Task does not support set_result operation"):
        task.set_result(1)
    with pytest.raises(RuntimeError, match="Task does not support set_exception operation"):
        task.set_exception(ValueError)
    task.cancel()
    turns(loop)


# -- names, coroutine, context

async def test_names(loop, Task):
    tasks = [Task(give(1), loop=loop) for _ in range(3)]
    numbers = [int(re.fullmatch(r"Task-(\d+)", task.get_name())[1]) for task in tasks]
    assert numbers == sorted(set(numbers))
    tasks.append(Task(give(1), loop=loop, name="mine"))
    assert tasks[-1].get_name() == "mine"
    tasks.append(Task(give(1), loop=loop, name=42))
    assert tasks[-1].get_name() == "42"
    tasks[0].set_name("new")
    assert tasks[0].get_name() == "new"
    tasks[0].set_name(ValueError)
    assert tasks[0].get_name() == "<class 'ValueError'>"
    tasks[0].set_name("")
    assert tasks[0].get_name() == ""
    await asyncio.gather(*tasks)


def test_name_is_given_late(loop, Task):
    """CPython makes Task-N's name when it is asked for, or not: the number is drawn when the task is made."""
    one, two = Task(give(1), loop=loop), Task(give(2), loop=loop)
    second, first = two.get_name(), one.get_name()
    assert int(second.removeprefix("Task-")) == int(first.removeprefix("Task-")) + 1
    loop.run_until_complete(two)


@pytest.mark.kinds("asyncfast", "asyncfast-debug", "subclasses")
def test_name_that_fails(loop, Task):
    """asyncio's leave half a task behind."""
    class Bad:
        def __str__(self):
            raise ZeroDivisionError

    coroutine = give(1)
    with pytest.raises(ZeroDivisionError):
        Task(coroutine, loop=loop, name=Bad())
    coroutine.close()


async def test_get_coro(loop, Task):
    coroutine = give(1)
    task = Task(coroutine, loop=loop)
    assert task.get_coro() is coroutine
    await task
    assert task.get_coro() is coroutine


async def test_task_runs_in_a_copy_of_the_context(loop, Task):
    async def child():
        seen.append(VAR.get())
        VAR.set("child")
        await asyncio.sleep(0)
        seen.append(VAR.get())

    seen = []
    VAR.set("parent")
    task = Task(child(), loop=loop)
    VAR.set("changed")
    await task
    assert seen == ["parent", "child"] and VAR.get() == "changed"
    if sys.version_info >= (3, 12):
        assert task.get_context()[VAR] == "child"


async def test_given_context(loop, Task):
    async def child(value):
        seen.append(VAR.get())
        VAR.set(value)
        await asyncio.sleep(0)
        seen.append(VAR.get())

    seen, context = [], contextvars.Context()
    one, two = Task(child(1), loop=loop, context=context), Task(child(2), loop=loop, context=context)
    await asyncio.gather(one, two)
    assert seen == ["default", 1, 2, 2] and context[VAR] == 2
    if sys.version_info >= (3, 12):
        assert one.get_context() is context


async def test_callbacks_run_in_the_context_of_who_added_them(loop, Task):
    async def child():
        VAR.set("child")

    seen = []
    VAR.set("parent")
    task = Task(child(), loop=loop)
    task.add_done_callback(lambda task: seen.append(VAR.get()))
    await task
    await asyncio.sleep(0)
    assert seen == ["parent"]


def test_stepping_in_a_context_that_is_entered(loop, Task, errors, logged):
    """The step fails, and says so; the task is lost, but the loop goes on."""
    context = contextvars.copy_context()
    task = Task(give(1), loop=loop, context=context)
    loop.stop()
    context.run(loop.run_forever)
    assert not task.done()
    loop.run_until_complete(give(1))
    loop.close()
    task._log_destroy_pending = False
    task.get_coro().close()
    del task
    assert logged.take() or errors


# -- cancelling

async def test_cancel(loop):
    task = loop.create_task(forever())
    await asyncio.sleep(0)
    assert task.cancelling() == 0
    assert task.cancel() is True and task.cancelling() == 1 and not task.done() and not task.cancelled()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled() and task.done()
    assert task.cancel() is False
    with pytest.raises(asyncio.CancelledError):
        task.result()
    with pytest.raises(asyncio.CancelledError):
        task.exception()


async def test_cancel_before_the_first_step(loop):
    ran = []

    async def main():
        ran.append(1)

    task = loop.create_task(main())
    assert task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ran == [] and task.cancelled()


async def test_cancel_counts(loop):
    task = loop.create_task(forever())
    await asyncio.sleep(0)
    for n in range(1, 4):
        assert task.cancel() is True and task.cancelling() == n
    for n in (2, 1, 0, 0, 0):
        assert task.uncancel() == n
    assert task.cancelling() == 0
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_uncancel_takes_back_a_cancellation_that_is_to_come(loop):
    """From 3.13 on: uncancel() to zero before the step means that nothing is thrown."""
    async def main():
        task = asyncio.current_task()
        task.cancel()
        task.uncancel()
        await asyncio.sleep(0)
        return "not cancelled"

    task = loop.create_task(main())
    if sys.version_info >= (3, 13):
        assert await task == "not cancelled"
    else:
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("message", [(), ("why",), (None,), (42,)])
@pytest.mark.parametrize("started", [True, False])
async def test_cancel_message(loop, message, started):
    caught = []

    async def main():
        try:
            await forever()
        except asyncio.CancelledError as error:
            caught.append(error.args)
            raise

    task = loop.create_task(main())
    if started:
        await asyncio.sleep(0)
    task.cancel(*message)
    with pytest.raises(asyncio.CancelledError) as error:
        await task
    expected = message if message != (None,) else ()
    assert error.value.args == expected and caught == [expected] * started


async def test_cancel_itself(loop):
    async def main():
        task = asyncio.current_task()
        assert task.cancel("me") and task._must_cancel
        calls.append("still here")
        await asyncio.sleep(0)
        calls.append("not here")

    calls = []
    task = loop.create_task(main())
    with pytest.raises(asyncio.CancelledError, match="me"):
        await task
    assert calls == ["still here"]


async def test_cancel_itself_and_return(loop):
    async def main():
        asyncio.current_task().cancel("last")
        return 1

    task = loop.create_task(main())
    with pytest.raises(asyncio.CancelledError, match="last"):
        await task
    assert task.cancelled()


async def test_cancel_itself_and_raise(loop):
    async def main():
        asyncio.current_task().cancel()
        raise ValueError("stronger")

    with pytest.raises(ValueError, match="stronger"):
        await loop.create_task(main())


async def test_cancel_refused(loop):
    async def main():
        for _ in range(3):
            try:
                await forever()
            except asyncio.CancelledError:
                calls.append("no")
        return "done"

    calls = []
    task = loop.create_task(main())
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    assert await task == "done" and calls == ["no"] * 3 and not task.cancelled() and task.cancelling() == 3


async def test_cancel_becomes_another_exception(loop):
    async def main():
        try:
            await forever()
        except asyncio.CancelledError:
            raise ValueError("cleanup")

    task = loop.create_task(main())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(ValueError, match="cleanup") as caught:
        await task
    assert isinstance(caught.value.__context__, asyncio.CancelledError)


async def test_cancel_cancels_what_it_waits_for(loop):
    async def wait(what):
        await what

    inner = loop.create_task(forever(), name="inner")
    middle = loop.create_task(wait(inner))
    outer = loop.create_task(wait(middle))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert outer._fut_waiter is middle and middle._fut_waiter is inner
    outer.cancel("down")
    with pytest.raises(asyncio.CancelledError, match="down"):
        await outer
    assert middle.cancelled() and inner.cancelled()
    assert [task.cancelling() for task in (outer, middle, inner)] == [1, 1, 1]


async def test_cancel_when_what_it_waits_for_is_done(loop):
    """Both in one turn: the coroutine gets CancelledError, what it waited for keeps its result."""
    future = loop.create_future()

    async def wait():
        await future

    task = loop.create_task(wait())
    await asyncio.sleep(0)
    future.set_result(1)
    assert task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert future.result() == 1


async def test_cancelled_coroutine_s_own_error(loop):
    """CancelledError raised by hand cancels as well, and keeps its arguments."""
    task = loop.create_task(fail(asyncio.CancelledError("by", "hand")))
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("by", "hand") and task.cancelled() and task.cancelling() == 0


async def test_subclass_of_cancelled_error(loop):
    class Mine(asyncio.CancelledError):
        pass

    task = loop.create_task(fail(Mine()))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_traceback_of_a_cancellation(loop):
    async def wait():
        await asyncio.sleep(1000)

    task = loop.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError as error:
        text = "".join(traceback.format_exception(error))
    assert "in wait" in text and "in sleep" in text


async def test_cancel_in_another_thread_s_name(loop):
    task = loop.create_task(forever())
    await asyncio.sleep(0)
    await loop.run_in_executor(None, loop.call_soon_threadsafe, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


# -- what a coroutine may be

@types.coroutine
def bare(thing):
    return (yield thing)


async def raw(thing):
    return await bare(thing)


async def test_generator_based(loop):
    assert await loop.create_task(generator_coroutine(42)) == 42
    if sys.version_info < (3, 12):
        assert await loop.create_task(generator(42)) == 42


async def test_coroutine_like(loop):
    thing = CoroutineLike()
    assert asyncio.iscoroutine(thing)
    assert await loop.create_task(thing) == "value"
    thing = CoroutineLike(steps=100)
    task = loop.create_task(thing)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [type(each) if not isinstance(each, type) else each for each in thing.thrown] == [asyncio.CancelledError]
    for value in (None, (), (1, 2), ValueError(1)):
        assert await loop.create_task(CoroutineLike(0, value)) == (value if not isinstance(value, tuple) else value)


async def test_coroutine_like_that_waits(loop):
    class Waits(CoroutineLike):
        def send(self, value):
            if self.steps:
                self.steps = 0
                return next(iter(future))
            raise StopIteration(future.result())

    collections.abc.Coroutine.register(Waits)
    future = loop.create_future()
    loop.call_later(0.001, future.set_result, "x")
    assert await loop.create_task(Waits()) == "x"


@pytest.mark.parametrize("thing", [1, "x", (), True, False, object(), ValueError, lambda: None, [None]])
async def test_bad_yield(loop, thing):
    task = loop.create_task(raw(thing))
    with pytest.raises(RuntimeError) as caught:
        await task
    assert str(caught.value) == f"Task got bad yield: {thing!r}"


async def test_bad_yield_can_be_survived(loop):
    async def main():
        try:
            await bare(42)
        except RuntimeError as error:
            await bare(None)
            return str(error)

    assert await loop.create_task(main()) == "Task got bad yield: 42"


async def test_yield_of_a_generator(loop):
    def generator():
        yield

    thing = generator()
    task = loop.create_task(raw(thing))
    with pytest.raises(RuntimeError, match="yield was used instead of yield from for generator in task"):
        await task


async def test_yield_of_a_future(loop):
    future = loop.create_future()
    task = loop.create_task(raw(future))
    with pytest.raises(RuntimeError, match=r"yield was used instead of yield from in task .* with .*Future"):
        await task


async def test_await_itself(loop):
    async def main():
        await asyncio.current_task()

    task = loop.create_task(main())
    with pytest.raises(RuntimeError, match="^Task cannot await on itself: <"):
        await task


async def test_await_a_future_of_another_loop(loop, loop_factory):
    other = loop_factory()
    for future in (other.create_future(), asyncfast.Future(loop=other), asyncio.Future(loop=other)):
        async def main():
            await future

        task = loop.create_task(main())
        with pytest.raises(RuntimeError, match=r"Task <.*> got Future <.*> attached to a different loop$"):
            await task
        future._asyncio_future_blocking = False


async def test_await_a_future_of_another_loop_that_is_done(loop, loop_factory):
    future = loop_factory().create_future()
    future.set_result("x")
    assert await future == "x"


def test_future_like_without_methods(loop, errors):
    """The step fails outside of the coroutine: the handler hears of it, and the loop goes on."""
    class Thing:
        _asyncio_future_blocking = True

    task = loop.create_task(raw(Thing()))
    loop.run_until_complete(give(1, 3))
    loop.close()
    assert [type(context["exception"]) for context in errors] == [AttributeError] and not task.done()
    task._log_destroy_pending = False


async def test_stop_iteration_in_a_coroutine(loop):
    task = loop.create_task(fail(StopIteration("x")))
    with pytest.raises(RuntimeError, match="coroutine raised StopIteration"):
        await task


async def test_stop_async_iteration_in_a_coroutine(loop):
    with pytest.raises((StopAsyncIteration, RuntimeError)):
        await loop.create_task(fail(StopAsyncIteration("x")))


async def test_coroutine_awaited_already(loop):
    coroutine = give(1)
    assert await loop.create_task(coroutine) == 1
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        await loop.create_task(coroutine)


async def test_closed_coroutine(loop):
    coroutine = give(1)
    coroutine.close()
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        await loop.create_task(coroutine)


async def test_coroutine_in_two_tasks(loop):
    coroutine = forever()
    one, two = loop.create_task(coroutine), loop.create_task(coroutine)
    await asyncio.sleep(0)
    one.cancel()
    results = await asyncio.gather(one, two, return_exceptions=True)
    assert all(isinstance(result, (RuntimeError, asyncio.CancelledError)) for result in results)


@pytest.mark.parametrize("fatal", [SystemExit, KeyboardInterrupt])
def test_fatal(loop, fatal):
    """It ends the run and is the task's exception as well."""
    error = fatal("bye")
    task = loop.create_task(fail(error))
    with pytest.raises(fatal) as caught:
        loop.run_forever()
    assert caught.value is error and task.done() and task.exception() is error
    assert loop.run_until_complete(give(1)) == 1


@pytest.mark.parametrize("error", [GeneratorExit, BaseException, MemoryError, RecursionError, asyncio.TimeoutError,
                                   asyncio.InvalidStateError])
async def test_any_other_exception_is_the_task_s(loop, error):
    mine = error("mine")
    task = loop.create_task(fail(mine))
    done, _ = await asyncio.wait([task])
    assert task.exception() is mine


def test_deep_recursion(loop):
    async def down(n):
        return await down(n - 1) + 1 if n else 0

    async def endless():
        await endless()

    assert loop.run_until_complete(down(100)) == 100
    with pytest.raises(RecursionError):
        loop.run_until_complete(endless())
    assert loop.run_until_complete(down(100)) == 100


def test_long_chain_of_tasks(loop, kind):
    """Each waits for the next; neither finishing nor freeing may eat the C stack."""
    async def wait(n, previous):
        return (await previous if previous else 0) + 1

    async def main(count):
        task = None
        for n in range(count):
            task = loop.create_task(wait(n, task))
        return await task

    count = 300 if kind.debug else 10_000
    assert loop.run_until_complete(main(count)) == count


# -- awaiting tasks

async def test_await_twice_and_by_many(loop):
    task = loop.create_task(give("x", 3))

    async def wait():
        return await task

    waiters = [loop.create_task(wait()) for _ in range(5)]
    assert await asyncio.gather(*waiters) == ["x"] * 5 and await task == "x"


async def test_gather(loop):
    assert await asyncio.gather() == []
    assert await asyncio.gather(give(1, 3), give(2, 1), give(3, 2)) == [1, 2, 3]
    coroutine = give(1)
    assert await asyncio.gather(coroutine, coroutine) == [1, 1]
    with pytest.raises(ValueError, match="mine"):
        await asyncio.gather(give(1), fail(ValueError("mine")))
    error = ValueError("mine")
    assert await asyncio.gather(give(1), fail(error), return_exceptions=True) == [1, error]
    gathered = asyncio.gather(forever(), forever())
    await asyncio.sleep(0)
    assert gathered.cancel() and not gathered.cancelled()
    with pytest.raises(asyncio.CancelledError):
        await gathered


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, BaseException])
def test_gather_that_ends_with_no_ordinary_exception(loop, error):
    async def end():
        raise error("mine")

    async def wait(caught):
        try:
            await asyncio.gather(end())
        except BaseException as exc:
            caught.append(exc)

    caught, left = [], []
    task = loop.create_task(wait(caught))
    for _ in range(3):
        try:
            turns(loop)
        except (SystemExit, KeyboardInterrupt) as exc:
            left.append(type(exc))
    assert [type(exc) for exc in caught] == [error] and task.done()
    assert left == [error] * issubclass(error, (SystemExit, KeyboardInterrupt))     # the first task's, and it alone


async def test_gather_that_nobody_awaits(loop):
    gathered = asyncio.gather(give(1), give(2))
    assert asyncio.isfuture(gathered)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert gathered.done() and gathered.result() == [1, 2]


async def test_cancel_a_task_in_gather(loop):
    async def main():
        await asyncio.gather(*tasks)

    tasks = [loop.create_task(forever()) for _ in range(3)]
    task = loop.create_task(main())
    await asyncio.sleep(0)
    task.cancel("all")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [each.cancelled() for each in tasks] == [True] * 3
    one = loop.create_task(forever())
    gathered = asyncio.gather(one, give(1), return_exceptions=True)
    await asyncio.sleep(0)
    one.cancel()
    assert [type(each) for each in await gathered] == [asyncio.CancelledError, int]


async def test_wait(loop):
    quick, slow, bad = loop.create_task(give(1)), loop.create_task(forever()), loop.create_task(fail(KeyError()))
    done, pending = await asyncio.wait([quick, slow], return_when=asyncio.FIRST_COMPLETED)
    assert done == {quick} and pending == {slow}
    done, pending = await asyncio.wait([bad, slow], return_when=asyncio.FIRST_EXCEPTION)
    assert done == {bad} and pending == {slow} and isinstance(bad.exception(), KeyError)
    done, pending = await asyncio.wait([slow, quick, bad], timeout=0.001)
    assert done == {quick, bad} and pending == {slow}
    slow.cancel()
    done, pending = await asyncio.wait([slow, quick, bad])
    assert len(done) == 3 and not pending


async def test_as_completed(loop):
    results = []
    for each in asyncio.as_completed([give(i, 5 - i) for i in range(5)]):
        results.append(await each)
    assert results == [4, 3, 2, 1, 0]


async def test_shield(loop):
    async def guard():
        await asyncio.shield(inner)

    inner = loop.create_task(give("x", 5))
    outer = loop.create_task(guard())
    await asyncio.sleep(0)
    outer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outer
    assert not inner.cancelled() and await inner == "x"
    assert await asyncio.shield(give("y")) == "y"


async def test_wait_for(loop):
    assert await asyncio.wait_for(give(1), 100) == 1
    assert await asyncio.wait_for(give(1), None) == 1
    task = loop.create_task(forever())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(task, 0.001)
    assert task.cancelled()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(forever(), 0)
    with pytest.raises(ValueError):
        await asyncio.wait_for(fail(ValueError()), 100)


async def test_timeout(loop):
    for _ in range(3):
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.001):
                await forever()
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert asyncio.current_task().cancelling() == 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await forever()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1000):
            async with asyncio.timeout(0.001):
                await forever()


async def test_timeout_and_cancel_together(loop):
    """A cancellation from outside is not mistaken for the timeout's."""
    async def main():
        async with asyncio.timeout(1000):
            await forever()

    task = loop.create_task(main())
    await asyncio.sleep(0)
    task.cancel("outside")
    with pytest.raises(asyncio.CancelledError, match="outside"):
        await task


async def test_task_group(loop):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(give(i, i), name=f"n{i}") for i in range(5)]
    assert [task.result() for task in tasks] == list(range(5)) and tasks[3].get_name() == "n3"
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            others = [group.create_task(forever()) for _ in range(3)]
            group.create_task(fail(ValueError("mine")))
            await forever()
    assert [type(error) for error in caught.value.exceptions] == [ValueError]
    assert all(task.cancelled() for task in others) and asyncio.current_task().cancelling() == 0


async def test_task_group_cancelled_from_outside(loop):
    async def main():
        async with asyncio.TaskGroup() as group:
            group.create_task(forever())
            await forever()

    task = loop.create_task(main())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_synchronization(loop):
    lock, event, queue, condition = asyncio.Lock(), asyncio.Event(), asyncio.Queue(1), asyncio.Condition()
    order = []

    async def locked(n):
        async with lock:
            order.append(n)
            await asyncio.sleep(0)

    async def produce():
        for i in range(10):
            await queue.put(i)
        event.set()

    async def notify():
        await asyncio.sleep(0)
        async with condition:
            condition.notify_all()

    await asyncio.gather(*[locked(i) for i in range(5)])
    task = loop.create_task(produce())
    assert [await queue.get() for _ in range(10)] == list(range(10)) and order == list(range(5))
    await event.wait()
    async with condition:
        other = loop.create_task(notify())
        await condition.wait()
    async with asyncio.Semaphore(2), asyncio.Semaphore(1):
        pass
    await asyncio.gather(task, other)


def test_run_coroutine_threadsafe(loop):
    def ask():
        return asyncio.run_coroutine_threadsafe(give("x"), loop).result(60)

    assert loop.run_until_complete(asyncio.to_thread(ask)) == "x"


# -- the current task, all tasks

def test_no_current_task_outside(loop):
    assert asyncio.current_task(loop) is None
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.current_task()


async def test_current_task(loop):
    async def child():
        me = asyncio.current_task()
        seen.append(me)
        await asyncio.sleep(0)
        assert asyncio.current_task() is me is asyncio.current_task(loop)

    seen = []
    me = asyncio.current_task()
    tasks = [loop.create_task(child()) for _ in range(3)]
    await asyncio.gather(*tasks)
    assert seen == tasks and asyncio.current_task() is me


async def test_no_current_task_in_callbacks(loop):
    """Nor in what a callback calls, whatever ran before it in the turn."""
    seen = []

    def note(*args):
        seen.append(asyncio.current_task())

    future = loop.create_future()
    future.add_done_callback(note)
    tasks = [loop.create_task(give(1))]
    loop.call_soon(note)
    tasks.append(loop.create_task(give(1)))
    loop.call_soon_threadsafe(note)
    loop.call_later(0, note)
    tasks[0].add_done_callback(note)
    future.set_result(1)
    await asyncio.gather(*tasks)
    while len(seen) < 5:
        await asyncio.sleep(0.001)
    assert seen == [None] * 5


async def test_current_task_after_a_step_that_failed(loop):
    seen = []
    task = loop.create_task(fail(ValueError()))
    loop.call_soon(lambda: loop.call_soon(lambda: seen.append(asyncio.current_task())))
    with pytest.raises(ValueError):
        await task
    assert seen == [None] and asyncio.current_task() is not None


def test_current_task_after_a_fatal_step(loop):
    async def main():
        raise SystemExit

    with pytest.raises(SystemExit):
        loop.run_until_complete(main())
    assert asyncio.current_task(loop) is None


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in 3.12")
def test_eager_tasks_in_eager_tasks(loop, Task):
    if loop.get_task_factory() is None:
        loop.set_task_factory(asyncio.eager_task_factory)
    else:
        loop.set_task_factory(asyncio.create_eager_task_factory(Task))

    async def down(n):
        me = asyncio.current_task()
        result = await loop.create_task(down(n - 1), name=str(n - 1)) if n else 0
        assert asyncio.current_task() is me
        return result + 1

    async def main():
        me = asyncio.current_task()
        task = loop.create_task(down(5))
        assert task.done() and task.result() == 6 and asyncio.current_task() is me
        bad = loop.create_task(raise_at_once(KeyError()))
        assert bad.done() and isinstance(bad.exception(), KeyError)
        cancelled = loop.create_task(raise_at_once(asyncio.CancelledError()))
        assert cancelled.cancelled()
        sleeper = loop.create_task(forever())
        assert not sleeper.done() and sleeper in asyncio.all_tasks() and asyncio.current_task() is me
        sleeper.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sleeper
        value = VAR.get()
        loop.create_task(set_var("eager"))
        assert VAR.get() == value  # a copy of the context, as ever

    loop.run_until_complete(main())


async def raise_at_once(error):
    raise error


async def set_var(value):
    VAR.set(value)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in 3.12")
@NATIVE
async def test_eager_start_argument(loop, Task):
    calls = []

    async def main():
        calls.append(asyncio.current_task())

    me = asyncio.current_task()
    task = Task(main(), loop=loop, eager_start=True, name="n")
    assert calls == [task] and task.done() and task.get_name() == "n" and asyncio.current_task() is me
    task = Task(main(), loop=loop, eager_start=False)
    assert not task.done()
    await task


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in 3.12")
@NATIVE
def test_eager_start_without_a_running_loop(loop, Task, oracle, outcome, logged):
    def try_it(cls, loop):
        coroutine = give(1)
        try:
            return cls(coroutine, loop=loop, eager_start=True).done()
        finally:
            coroutine.close()

    ours, theirs = outcome(try_it, Task, loop), outcome(try_it, asyncio.Task, oracle)
    assert ours == theirs
    oracle.run_until_complete(give(1))
    turns(loop)
    logged.take()  # asyncio's leaves half a task behind


async def test_all_tasks(loop):
    me = asyncio.current_task()
    assert asyncio.all_tasks() == {me} == asyncio.all_tasks(loop)
    tasks = {loop.create_task(give(1)) for _ in range(5)}
    assert asyncio.all_tasks() == tasks | {me}
    await asyncio.gather(*tasks)
    assert asyncio.all_tasks() == {me}
    sleeper = loop.create_task(forever())
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {me, sleeper}
    sleeper.cancel()
    await asyncio.wait([sleeper])
    assert asyncio.all_tasks() == {me}


def test_all_tasks_of_a_loop_that_does_not_run(loop):
    assert asyncio.all_tasks(loop) == set()
    task = loop.create_task(give(1))
    assert asyncio.all_tasks(loop) == {task}
    loop.run_until_complete(task)
    assert asyncio.all_tasks(loop) == set()


def test_all_tasks_are_the_loop_s_own(loop, loop_factory):
    other = loop_factory()
    one, two = loop.create_task(give(1)), other.create_task(give(2))
    assert asyncio.all_tasks(loop) == {one} and asyncio.all_tasks(other) == {two}
    loop.run_until_complete(one)
    other.run_until_complete(two)


async def test_all_tasks_of_a_finished_task_that_is_kept(loop):
    task = loop.create_task(give(1))
    await task
    assert task not in asyncio.all_tasks()


# -- life and death

async def test_waiting_tasks_survive_the_collector(loop):
    """With nothing but the loop to hold them: while scheduled, asleep, or waiting for a future that is held."""
    async def wait(future):
        done.append(await future)

    async def nap():
        await asyncio.sleep(0.001)
        done.append("slept")

    done = []
    future = loop.create_future()
    for _ in range(3):
        loop.create_task(wait(future))
        loop.create_task(nap())
        gc.collect()
    await asyncio.sleep(0)
    gc.collect()
    future.set_result("x")
    while len(done) < 6:
        gc.collect()
        await asyncio.sleep(0.001)
    assert sorted(done) == ["slept"] * 3 + ["x"] * 3


@pytest.mark.kinds("asyncfast")
async def test_tasks_in_a_cycle_survive_the_collector(loop):
    """asyncio's docs: keep a reference to your tasks, lest they vanish. Ours are held by the loop, but in debug mode."""
    async def wait():
        future = loop.create_future()
        futures.append(weakref.ref(future))
        await future
        done.append(1)

    futures, done = [], []
    loop.create_task(wait())
    await asyncio.sleep(0)
    gc.collect()
    future = futures[0]()
    assert future is not None
    future.set_result(1)
    await asyncio.sleep(0)
    assert done == [1]


async def test_done_tasks_are_freed(loop):
    task = loop.create_task(give(1))
    await task
    ref = weakref.ref(task)
    del task
    await asyncio.sleep(0)
    assert ref() is None


@pytest.mark.kinds("asyncfast", "asyncfast-debug", "asyncio", "subclasses", "asyncfast-task-asyncio-future",
                   "asyncio-task-asyncfast-future")
def test_frames_are_freed_without_the_collector(loop):
    class Thing:
        pass

    async def main(how):
        thing = Thing()
        refs.append(weakref.ref(thing))
        await asyncio.sleep(0)
        if how == "raises":
            raise KeyError
        if how == "cancelled":
            await forever()

    async def outer(how):
        task = loop.create_task(main(how))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if how == "cancelled":
            task.cancel()
        try:
            await task
        except (KeyError, asyncio.CancelledError):
            pass
        finally:
            del task  # its exception's traceback has this frame

    refs = []
    gc.disable()
    try:
        for how in ("returns", "raises", "cancelled"):
            loop.run_until_complete(outer(how))
            assert refs.pop()() is None, how
    finally:
        gc.enable()


def test_destroyed_but_pending(loop, kind, logged):
    """The loop is gone before the task is done."""
    async def main():
        await loop.create_future()

    task = loop.create_task(main())
    turn(loop)
    loop.close()
    assert not task.done() and task.get_loop() is loop
    text = repr(task)
    del task
    (message,) = logged.take()
    first, second, *rest = message.splitlines()
    if kind.debug:
        assert rest
    assert "Task was destroyed but it is pending!" in (first, second)
    assert any(line.startswith("task: <") and "main()" in line for line in message.splitlines()), text


def test_destroyed_but_pending_goes_to_the_handler(loop, Task, errors):
    task = loop.create_task(forever())
    turn(loop)
    loop.close()
    del task
    gc.collect()
    (context,) = errors
    assert context["message"] == "Task was destroyed but it is pending!" and asyncio.isfuture(context["task"])
    # the order shows where a handler fails and all is logged
    assert list(context)[:2] == ["message", "task"] or Task is asyncio.tasks._PyTask


def test_destroyed_before_the_first_step(loop, errors):
    task = loop.create_task(forever())
    loop.close()
    with pytest.warns(RuntimeWarning, match="was never awaited"):
        del task
        messages = [context["message"] for context in errors]
        errors.clear()
        gc.collect()
    assert messages == ["Task was destroyed but it is pending!"]


def test_destroyed_but_not_to_be_said(loop, errors):
    task = loop.create_task(forever())
    turn(loop)
    task._log_destroy_pending = False
    loop.close()
    del task
    gc.collect()
    assert errors == []


def test_never_retrieved(loop, kind, errors):
    error = ValueError("mine")
    task = loop.create_task(fail(error))
    turns(loop)
    del task
    error.__traceback__ = None
    gc.collect()
    (context,) = errors
    assert context["message"] == f"{kind.Task.__name__.strip('_').removeprefix('Py')} exception was never retrieved"
    assert context["exception"] is error and asyncio.isfuture(context["future"])


def test_task_held_by_its_own_coroutine(loop):
    async def main():
        me = asyncio.current_task()  # noqa: F841
        await asyncio.sleep(0)

    refs = []
    for _ in range(3):
        task = loop.create_task(main())
        refs.append(weakref.ref(task))
        loop.run_until_complete(task)
    del task
    gc.collect()
    assert [ref() for ref in refs] == [None] * 3


async def test_weak_references_and_hash(loop):
    task = loop.create_task(give(1))
    assert weakref.ref(task)() is task and {task: 1}[task] == 1 and task == task != loop.create_future()
    await task


# -- subclasses

@pytest.mark.kinds("asyncfast", "asyncio", "subclasses")
def test_subclass(loop, Task):
    class Mine(Task):
        def __init__(self, *args, tag=None, **kwargs):
            super().__init__(*args, **kwargs)
            self.tag = tag

        def cancel(self, msg=None):
            calls.append("cancel")
            return super().cancel(msg)

        def add_done_callback(self, callback, *, context=None):
            calls.append("add_done_callback")
            return super().add_done_callback(callback, context=context)

    async def main():
        task = loop.create_task(give(1), name="n")
        task.add_done_callback(lambda task: None)
        assert type(task) is Mine and task.tag == "t" and task.get_name() == "n"
        assert await task == 1
        sleeper = loop.create_task(forever())
        await asyncio.sleep(0)
        sleeper.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sleeper
        return "done"

    calls = []
    loop.set_task_factory(lambda loop, coro, **kwargs: Mine(coro, loop=loop, tag="t", **kwargs))
    assert loop.run_until_complete(main()) == "done"
    assert "cancel" in calls and "add_done_callback" in calls
    loop.set_task_factory(None)


# -- many

def test_many_tasks(loop, kind):
    count = 500 if kind.debug else 20_000

    async def main():
        tasks = [loop.create_task(give(i, i % 3)) for i in range(count)]
        return sum(await asyncio.gather(*tasks))

    assert loop.run_until_complete(main()) == count * (count - 1) // 2


async def test_storm_of_cancellations(loop, kind):
    """Sleepers, waiters of futures and of each other, cancelled at any time in any order."""
    import random
    rng = random.Random(1)

    async def work(n):
        kind = n % 4
        if kind == 0:
            await asyncio.sleep(rng.random() / 200)
        elif kind == 1:
            await asyncio.wait_for(loop.create_future(), rng.random() / 200)
        elif kind == 2 and tasks:
            await asyncio.shield(rng.choice(tasks))
        else:
            await asyncio.gather(give(1, 5), asyncio.sleep(0.001))

    tasks = []
    for n in range(100 if kind.debug else 600):
        tasks.append(loop.create_task(work(n)))
        if n % 7 == 0:
            await asyncio.sleep(0)
        if n % 3 == 0:
            rng.choice(tasks).cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        assert task.cancelled() or task.exception() is None or isinstance(
            task.exception(), (TimeoutError, asyncio.CancelledError))
