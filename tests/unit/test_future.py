"""Future: state, callbacks, awaiting, and what is said of an exception that nobody asked for."""

import asyncio
import concurrent.futures
import contextvars
import copy
import gc
import pickle
import sys
import threading
import traceback
import weakref

import pytest

import asyncfast
from _turns import turn

pytestmark = pytest.mark.every_task
NATIVE = pytest.mark.kinds("asyncfast", "asyncfast-debug", "asyncio", "asyncio-debug")
VAR = contextvars.ContextVar("VAR", default="default")


@pytest.fixture
def future(loop, Future):
    return Future(loop=loop)


def finished(future, how):
    if how == "result":
        future.set_result(42)
    elif how == "exception":
        future.set_exception(ValueError("mine"))
        future.exception()
    elif how == "cancelled":
        future.cancel()
    elif how == "cancelled with a message":
        future.cancel("message")
    return future


HOW = ["pending", "result", "exception", "cancelled", "cancelled with a message"]
hows = pytest.mark.parametrize("how", HOW)


# -- what a future is

def test_class(loop, Future, future):
    assert asyncio.isfuture(future)
    assert isinstance(future, asyncio.Future) or Future is asyncio.futures._PyFuture
    assert not isinstance(future, asyncio.Task) and not asyncio.iscoroutine(future)
    assert future.get_loop() is loop and asyncio.ensure_future(future) is future
    assert issubclass(type(future), Future)


@NATIVE
def test_alias(Future):
    assert Future[int].__origin__ is Future and Future[int].__args__ == (int,)


def test_pending(future):
    assert not future.done() and not future.cancelled()
    assert future._state == "PENDING" and not future._asyncio_future_blocking and not future._log_traceback
    with pytest.raises(asyncio.InvalidStateError, match=r"^Result is not (set|ready)\.$"):
        future.result()
    with pytest.raises(asyncio.InvalidStateError, match=r"^Exception is not set\.$"):
        future.exception()


@pytest.mark.parametrize("value", [42, None, (), (1, 2), ValueError("not raised"), StopIteration(1)], ids=repr)
def test_result(future, value):
    assert future.set_result(value) is None
    assert future.done() and not future.cancelled() and future._state == "FINISHED"
    assert future.result() is value and future.result() is value and future.exception() is None
    assert future.cancel() is False and future.result() is value


def test_exception(future):
    error = ValueError("mine")
    assert future.set_exception(error) is None
    assert future.done() and future._state == "FINISHED" and future._log_traceback
    assert future.exception() is error and not future._log_traceback
    for _ in range(3):
        with pytest.raises(ValueError) as caught:
            future.result()
        assert caught.value is error
    assert future.cancel() is False
    # asking again and again must not make the traceback grow
    assert len(traceback.extract_tb(error.__traceback__)) <= 2


def test_exception_class(future):
    future.set_exception(ZeroDivisionError)
    assert type(future.exception()) is ZeroDivisionError and future.exception() is future.exception()


@NATIVE
@pytest.mark.parametrize("thing", [
    42, None, "x", int, object, StopIteration, StopIteration(5), StopAsyncIteration, KeyboardInterrupt, GeneratorExit,
    asyncio.CancelledError, type("Sub", (StopIteration,), {}), type("Bad", (Exception,), {"__new__": lambda cls: 5}),
    type("Worse", (Exception,), {"__init__": lambda self: 1 / 0}), ExceptionGroup("g", [ValueError(1)]),
])
def test_set_exception_to_odd_things(loop, Future, outcome, oracle, thing):
    """StopIteration cannot be raised into a coroutine: refused in 3.11, wrapped later."""
    def facts(future):
        result = [outcome(future.set_exception, thing)]
        if future.done():
            error = future.exception()
            result += [type(error), str(error), repr(error.__cause__), repr(error.__context__)]
        return result

    assert facts(Future(loop=loop)) == facts(asyncio.Future(loop=oracle))


@hows
def test_setting_what_is_set(loop, Future, outcome, oracle, kind, how):
    def facts(future):
        finished(future, how)
        return [outcome(future.set_result, 1), outcome(future.set_exception, ValueError)] if how != "pending" else []

    ours, theirs = facts(Future(loop=loop)), facts(asyncio.Future(loop=oracle))
    if kind.native or kind.Future is asyncfast.Future:
        assert ours == theirs
    assert [each[0] for each in ours] == [asyncio.InvalidStateError] * (how != "pending") * 2


@pytest.mark.parametrize("message", [(), ("why",), (None,), (42,)])
def test_cancel(future, message):
    assert future.cancel(*message) is True
    assert future.cancelled() and future.done() and future._state == "CANCELLED"
    assert future.cancel() is False
    for call in (future.result, future.exception):
        with pytest.raises(asyncio.CancelledError) as caught:
            call()
        assert caught.value.args == (message if message != (None,) else ())


def test_cancel_by_name(future):
    assert future.cancel(msg="why")
    with pytest.raises(asyncio.CancelledError, match="why"):
        future.result()


@NATIVE
@pytest.mark.parametrize("call", [
    lambda f: f.cancel("a", "b"), lambda f: f.cancel(message=1), lambda f: f.set_result(), lambda f: f.set_result(1, 2),
    lambda f: f.set_exception(), lambda f: f.result(1), lambda f: f.add_done_callback(),
    lambda f: f.add_done_callback(print, print), lambda f: f.add_done_callback(print, foo=1),
    lambda f: f.remove_done_callback(), lambda f: f.remove_done_callback(print, 1), lambda f: f.done(1),
])
def test_wrong_arguments(future, call):
    with pytest.raises(TypeError):
        call(future)
    assert not future.done()


@NATIVE
@pytest.mark.parametrize("arguments, keywords", [((1,), {}), ((), {"loops": 1}), ((1, 2), {})])
def test_making_one_wrongly(Future, arguments, keywords):
    with pytest.raises(TypeError):
        Future(*arguments, **keywords)


@NATIVE
def test_loop_of_no_kind(Future, outcome):
    ours, theirs = (outcome(each, loop=42) for each in (Future, asyncio.Future))
    assert ours == theirs


@NATIVE
async def test_without_a_loop_it_takes_the_running_one(loop, Future):
    assert Future().get_loop() is loop and Future(loop=None).get_loop() is loop


@NATIVE
@pytest.mark.skipif(sys.version_info < (3, 14), reason="makes a loop")
def test_without_any_loop(Future, outcome):
    ours, theirs = outcome(Future), outcome(asyncio.Future)
    assert ours == theirs and ours[0] is RuntimeError


@NATIVE
def test_not_initialized(Future, outcome):
    """Must not crash; each asyncio says something else."""
    def facts(cls):
        future = cls.__new__(cls)
        calls = [
            future.result, future.exception, future.done, future.cancelled, future.cancel, future.get_loop,
            lambda: future.set_result(1), lambda: future.set_exception(ValueError), lambda: future.__await__().send(None),
            lambda: future.add_done_callback(print), lambda: future.remove_done_callback(print), lambda: iter(future),
        ]
        return [call_type(outcome(call)) for call in calls]

    def call_type(result):
        return result[0] if isinstance(result, tuple) else result

    for each in facts(Future):
        assert each is True or each is False or each is None or issubclass(each, Exception)


@NATIVE
def test_initialized_twice(loop, Future, oracle, outcome):
    """Afresh; refused from 3.15 on."""
    def try_it(cls, loop):
        future = cls(loop=loop)
        future.set_result(1)
        future.__init__(loop=loop)
        future.set_result(2)
        return future.result()

    ours, theirs = outcome(try_it, Future, loop), outcome(try_it, asyncio.Future, oracle)
    if theirs == 2:
        assert ours == 2
    else:
        assert isinstance(ours, tuple) and ours[0] is theirs[0] is RuntimeError


def test_attributes_and_weak_references(Future, loop):
    future = Future(loop=loop)
    ref = weakref.ref(future)
    assert ref() is future
    del future
    assert ref() is None


@NATIVE
@hows
def test_repr(loop, Future, oracle, outcome, how):
    def callback(future):
        pass

    def texts(future):
        result = [outcome(repr, future)]
        for _ in range(3):
            future.add_done_callback(callback)
            result.append(outcome(repr, future))
        finished(future, how)
        return result + [outcome(repr, future), str(future._state)]

    ours, theirs = (texts(make(loop=each)) for make, each in ((Future, loop), (asyncio.Future, oracle)))
    assert ours == theirs


@NATIVE
def test_repr_of_long_and_of_circular_results(loop, Future, oracle, outcome):
    def texts(cls, loop):
        long, circular = cls(loop=loop), cls(loop=loop)
        long.set_result("x" * 10_000)
        circular.set_result([circular])
        bad = cls(loop=loop)
        bad.set_exception(type("Bad", (Exception,), {"__repr__": lambda self: "y" * 1000})())
        bad.exception()
        return [outcome(repr, each) for each in (long, circular, bad)]

    ours, theirs = (texts(make, each) for make, each in ((Future, loop), (asyncio.Future, oracle)))
    assert ours == theirs


def test_source_traceback(future, kind):
    if kind.debug:
        assert future._source_traceback[-1].name == "future"
    else:
        assert future._source_traceback is None


# -- callbacks

@hows
def test_callbacks_in_order_when_done(loop, future, how):
    calls = []
    for i in range(5):
        future.add_done_callback(lambda future, i=i: calls.append((i, future)))
    finished(future, how)
    assert calls == []
    turn(loop)
    assert calls == ([] if how == "pending" else [(i, future) for i in range(5)])


def test_callback_of_a_done_future(loop, future):
    calls = []
    future.set_result(1)
    future.add_done_callback(calls.append)
    assert calls == []
    turn(loop)
    assert calls == [future]


def test_callbacks_and_call_soon_share_the_order(loop, future):
    calls = []
    future.add_done_callback(lambda future: calls.append("callback"))
    loop.call_soon(calls.append, "before")
    future.set_result(1)
    loop.call_soon(calls.append, "after")
    turn(loop)
    assert calls == ["before", "callback", "after"]


def test_same_callback_many_times(loop, future):
    calls = []
    for _ in range(4):
        future.add_done_callback(calls.append)
    future.set_result(1)
    turn(loop)
    assert calls == [future] * 4


def test_remove_done_callback(loop, future):
    calls = []

    def one(future):
        calls.append(1)

    def two(future):
        calls.append(2)

    assert future.remove_done_callback(one) == 0
    for callback in (one, two, one, two, two):
        future.add_done_callback(callback)
    assert future.remove_done_callback(two) == 3 and future.remove_done_callback(two) == 0
    future.set_result(1)
    assert future.remove_done_callback(one) == 0  # on their way already
    turn(loop)
    assert calls == [1, 1]


def test_remove_by_equality(loop, future):
    class Same:
        def __init__(self):
            calls.append

        def __eq__(self, other):
            return isinstance(other, Same)

        __hash__ = None

        def __call__(self, future):
            calls.append(self)

    calls = []
    future.add_done_callback(Same())
    future.add_done_callback(calls.append)
    future.add_done_callback(Same())
    assert future.remove_done_callback(Same()) == 2
    future.set_result(1)
    turn(loop)
    assert calls == [future]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_comparison_that_changes_the_callbacks(loop, future, count):
    """CPython issues 28963 and 97592 and their kin: __eq__ removes, adds or finishes."""
    class Evil:
        def __eq__(self, other):
            future.remove_done_callback(keep)
            future.add_done_callback(keep)
            if count == 5:
                future.set_result(1)
            if count == 3:
                raise ZeroDivisionError
            return False

        def __call__(self, future):
            pass

    def keep(future):
        pass

    for _ in range(count):
        future.add_done_callback(Evil())
        future.add_done_callback(keep)
    try:
        future.remove_done_callback(Evil())
    except (ZeroDivisionError, asyncio.InvalidStateError, RecursionError):
        pass
    finished(future, "pending" if future.done() else "result")
    turn(loop)


def test_callback_contexts(loop, future):
    seen = []
    given = contextvars.Context()
    given.run(VAR.set, "given")
    VAR.set("adding")
    for keywords in ({}, {"context": given}, {}):
        future.add_done_callback(lambda future: seen.append(VAR.get()), **keywords)
    VAR.set("finishing")
    future.set_result(1)
    future.add_done_callback(lambda future: seen.append(VAR.get()))
    VAR.set("default")
    turn(loop)
    assert seen == ["adding", "given", "adding", "finishing"]


def test_callback_that_fails(loop, future, errors):
    calls = []

    def fail(future):
        1 / 0

    for callback in (calls.append, fail, calls.append):
        future.add_done_callback(callback)
    future.set_result(1)
    turn(loop)
    assert calls == [future, future]
    assert [type(context["exception"]) for context in errors] == [ZeroDivisionError]
    assert errors[0]["message"].startswith("Exception in callback ") and "fail" in errors[0]["message"]
    assert isinstance(errors[0]["handle"], asyncio.Handle)


@pytest.mark.parametrize("fatal", [SystemExit, KeyboardInterrupt])
def test_callback_that_is_fatal_leaves_the_others(loop, future, fatal):
    calls = []

    def fail(future):
        raise fatal

    for callback in (calls.append, fail, calls.append):
        future.add_done_callback(callback)
    future.set_result(1)
    with pytest.raises(fatal):
        loop.run_forever()
    turn(loop)
    assert calls == [future, future]


def test_callback_that_is_not_callable(loop, kind, future, errors):
    if kind.debug:
        return  # asyncio refuses when it is scheduled
    future.add_done_callback(42)
    future.set_result(1)
    turn(loop)
    assert [type(context["exception"]) for context in errors] == [TypeError]


def test_callbacks_that_use_the_future(loop, future):
    calls = []

    def callback(future):
        calls.append(future.result())
        future.add_done_callback(lambda future: calls.append("later"))
        future.remove_done_callback(callback)
        assert future.cancel() is False

    future.add_done_callback(callback)
    future.set_result(1)
    turn(loop)
    turn(loop)
    assert calls == [1, "later"]


def test_callbacks_keep_the_future_alive_until_they_ran(loop, Future):
    seen = []
    future = Future(loop=loop)
    future.add_done_callback(lambda future: seen.append(future.result()))
    future.set_result("alive")
    ref = weakref.ref(future)
    del future
    turn(loop)
    assert seen == ["alive"] and ref() is None


def test_callbacks_are_let_go(loop, Future):
    class Thing:
        def __call__(self, future):
            pass

    things = [Thing() for _ in range(3)]
    refs = [weakref.ref(thing) for thing in things]
    future = Future(loop=loop)
    for thing in things:
        future.add_done_callback(thing)
    del things, thing
    future.set_result(1)
    turn(loop)
    assert [ref() for ref in refs] == [None] * 3


def test_private_callbacks(future):
    assert not future._callbacks
    future.add_done_callback(print)
    future.add_done_callback(repr)
    assert [callback for callback, context in future._callbacks] == [print, repr]
    assert all(isinstance(context, contextvars.Context) for callback, context in future._callbacks)
    future.remove_done_callback(print)
    future.remove_done_callback(repr)


def test_very_many_callbacks(loop, kind, future):
    many = 1000 if kind.debug else 50_000
    calls = []
    for _ in range(many):
        future.add_done_callback(calls.append)
    future.set_result(1)
    turn(loop)
    assert len(calls) == many


def test_callback_after_the_loop_is_closed(loop, Future):
    future = Future(loop=loop)
    future.add_done_callback(print)
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        future.set_result(1)


# -- awaiting

@pytest.mark.parametrize("when", ["before", "after"])
async def test_await(loop, future, when):
    if when == "before":
        future.set_result("x")
    else:
        loop.call_soon(future.set_result, "x")
    assert await future == "x" and await future == "x"


async def test_await_an_exception(loop, future):
    error = ValueError("mine")
    loop.call_soon(future.set_exception, error)
    for _ in range(2):
        with pytest.raises(ValueError) as caught:
            await future
        assert caught.value is error
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert "test_await_an_exception" in names and len(names) < 10


async def test_await_a_cancelled(loop, future):
    loop.call_soon(future.cancel, "why")
    with pytest.raises(asyncio.CancelledError) as caught:
        await future
    assert caught.value.args == ("why",)
    with pytest.raises(asyncio.CancelledError, match="why"):
        await future
    assert asyncio.current_task().cancelling() == 0


async def test_many_await_one(loop, future):
    async def wait(i):
        calls.append((i, await future))

    calls = []
    tasks = [loop.create_task(wait(i)) for i in range(10)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    await asyncio.sleep(0)
    assert future.cancelled()  # who cancels a waiter cancels what it waits for
    await asyncio.gather(*tasks, return_exceptions=True)
    assert calls == []
    future = loop.create_future()
    tasks = [loop.create_task(wait(i)) for i in range(10)]
    await asyncio.sleep(0)
    future.set_result("x")
    await asyncio.gather(*tasks)
    assert calls == [(i, "x") for i in range(10)]


async def test_waiters_and_callbacks_share_the_order(loop, future):
    async def wait(name):
        await future
        calls.append(name)

    calls = []
    future.add_done_callback(lambda future: calls.append("callback 1"))
    one = loop.create_task(wait("task 1"))
    await asyncio.sleep(0)
    future.add_done_callback(lambda future: calls.append("callback 2"))
    two = loop.create_task(wait("task 2"))
    await asyncio.sleep(0)
    future.add_done_callback(lambda future: calls.append("callback 3"))
    future.set_result(1)
    await asyncio.gather(one, two)
    assert calls == ["callback 1", "task 1", "callback 2", "task 2", "callback 3"]


def test_iterator(future):
    iterator = future.__await__()
    assert iter(iterator) is iterator
    assert next(iterator) is future and future._asyncio_future_blocking
    future.set_result("x")
    with pytest.raises(StopIteration) as caught:
        iterator.send(None)
    assert caught.value.value == "x"


@pytest.mark.parametrize("value", [(1, 2), (), StopIteration(3), ValueError(4), None], ids=repr)
def test_iterator_gives_any_value(future, value):
    """StopIteration is built so that a tuple or an exception is not taken apart."""
    future.set_result(value)
    with pytest.raises(StopIteration) as caught:
        next(iter(future))
    assert caught.value.value is value


def test_iterator_resumed_too_early(future):
    iterator = iter(future)
    next(iterator)
    with pytest.raises(RuntimeError, match="await wasn't used with future"):
        next(iterator)


@NATIVE      # a StopIteration thrown into a generator, as the Python class has, trips an assertion of debug builds
def test_iterator_throw(future):
    class Error(Exception):
        pass

    for start in (False, True):
        for thing in (Error, Error("x"), StopIteration, asyncio.CancelledError("y"), GeneratorExit):
            iterator = iter(future)
            if start:
                next(iterator)
            with pytest.raises((Error, StopIteration, RuntimeError, asyncio.CancelledError, GeneratorExit)) as caught:
                iterator.throw(thing)
            expected = type(thing) if isinstance(thing, BaseException) else thing
            assert caught.type in (expected, RuntimeError)
            future._asyncio_future_blocking = False


@NATIVE
@pytest.mark.parametrize("thing", [42, None, int, "x", object()], ids=["int", "None", "class", "str", "object"])
def test_iterator_throw_of_no_exception(future, thing):
    with pytest.raises(TypeError):
        iter(future).throw(thing)


@pytest.mark.filterwarnings("ignore:the \\(type, exc, tb\\) signature:DeprecationWarning")
def test_iterator_throw_three(future):
    try:
        1 / 0
    except ZeroDivisionError as error:
        with pytest.raises(ZeroDivisionError, match="by hand"):
            iter(future).throw(ZeroDivisionError, "by hand", error.__traceback__)
        with pytest.raises(ZeroDivisionError) as caught:
            iter(future).throw(ZeroDivisionError, error, error.__traceback__)
        assert caught.value is error


def test_iterator_close(future):
    iterator = iter(future)
    assert iterator.close() is None
    iterator = iter(future)
    next(iterator)
    assert iterator.close() is None and iterator.close() is None
    with pytest.raises(StopIteration):
        next(iterator)
    future._asyncio_future_blocking = False


def test_iterator_outlives_the_future(loop, Future):
    iterator = iter(Future(loop=loop))
    gc.collect()
    assert asyncio.isfuture(next(iterator))


def test_yield_from(loop, future):
    import types

    @types.coroutine
    def old_style():
        return (yield from future)

    loop.call_soon(future.set_result, "x")
    assert loop.run_until_complete(old_style()) == "x"


# -- exceptions that nobody asked for

def test_never_retrieved(loop, Future, kind, errors):
    future = Future(loop=loop)
    error = ValueError("mine")
    future.set_exception(error)
    del future
    gc.collect()
    (context,) = errors
    assert context["message"] == f"{kind.Future.__name__} exception was never retrieved"
    assert context["exception"] is error and asyncio.isfuture(context["future"])
    assert ("source_traceback" in context) == kind.debug


def test_never_retrieved_is_logged(loop, Future, logged):
    future = Future(loop=loop)
    future.set_exception(ValueError("mine"))
    del future
    gc.collect()
    (record,) = logged.records
    assert record.exc_info[0] is ValueError
    assert " exception was never retrieved\nfuture: <" in record.getMessage()
    logged.take()


@pytest.mark.parametrize("retrieve", [
    lambda loop, future: future.exception(), lambda loop, future: pytest.raises(ValueError, future.result),
    lambda loop, future: pytest.raises(ValueError, loop.run_until_complete, future),
    lambda loop, future: setattr(future, "_log_traceback", False),
    lambda loop, future: pytest.raises(ValueError, next, iter(future)),
], ids=["exception", "result", "awaited", "_log_traceback", "iterator"])
def test_retrieved(loop, Future, errors, retrieve):
    future = Future(loop=loop)
    future.set_exception(ValueError("mine"))
    retrieve(loop, future)
    del future
    gc.collect()
    assert errors == []


def test_retrieved_by_a_waiter_s_callback(loop, Future, errors):
    future = Future(loop=loop)
    future.add_done_callback(lambda future: future.exception())
    future.set_exception(ValueError("mine"))
    del future
    turn(loop)
    gc.collect()
    assert errors == []


def test_log_traceback_cannot_be_set(future, outcome):
    assert outcome(setattr, future, "_log_traceback", True) == (ValueError, "_log_traceback can only be set to False")


def test_nothing_is_said_of_results_and_cancellation(loop, Future, errors):
    for how in HOW:
        finished(Future(loop=loop), how)
    gc.collect()
    assert errors == []


def test_never_retrieved_on_a_closed_loop(loop, Future, errors):
    future = Future(loop=loop)
    future.set_exception(ValueError)
    loop.close()
    del future
    gc.collect()
    assert [type(context["exception"]) for context in errors] == [ValueError]


def test_handler_may_keep_the_future(loop, Future):
    kept = []
    loop.set_exception_handler(lambda loop, context: kept.append(context["future"]))
    future = Future(loop=loop)
    future.set_exception(ValueError("mine"))
    future = None
    gc.collect()
    assert str(kept[0].exception()) == "mine" and kept[0].done()
    kept.clear()
    gc.collect()
    assert kept == []


def test_no_cycle_with_the_exception(loop, Future):
    """CPython 124958: what failed must not be kept alive by its own traceback."""
    class Thing:
        pass

    async def main():
        thing = Thing()
        refs.append(weakref.ref(thing))
        future = Future(loop=loop)
        future.set_exception(ValueError)
        del thing
        try:
            await future
        except ValueError:
            pass

    refs = []
    gc.disable()
    try:
        loop.run_until_complete(main())
        assert refs[0]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("shape", ["result", "callback", "attribute"])
def test_cycles_are_collected(loop, Future, shape):
    class Thing:
        pass

    future, thing = Future(loop=loop), Thing()
    thing.future = future
    ref = weakref.ref(thing)
    if shape == "result":
        future.set_result(thing)
    elif shape == "callback":
        future.add_done_callback(lambda future, thing=thing: None)
    else:
        try:
            future.thing = thing
        except AttributeError:  # asyncio's have no room for it
            pass
    del thing, future
    gc.collect()
    assert ref() is None


# -- subclasses

@NATIVE
def test_subclass(loop, Future):
    class Mine(Future):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.calls = []

        def set_result(self, result):
            self.calls.append("set_result")
            super().set_result(result)

        def cancel(self, msg=None):
            self.calls.append("cancel")
            return super().cancel(msg)

    async def main(future):
        return await future

    mine = Mine(loop=loop)
    mine.anything = 1
    loop.call_soon(mine.set_result, "x")
    assert loop.run_until_complete(main(mine)) == "x" and mine.calls == ["set_result"]
    assert repr(mine).startswith("<Mine finished result='x'")

    mine = Mine(loop=loop)
    task = loop.create_task(main(mine))
    turn(loop)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    assert mine.calls == ["cancel"] and mine.cancelled()


@NATIVE
def test_look_alike(loop):
    """Anything with _asyncio_future_blocking can be awaited."""
    class LookAlike:
        _asyncio_future_blocking = False

        def __init__(self):
            self.callbacks = []

        def get_loop(self):
            return loop

        def __await__(self):
            self._asyncio_future_blocking = True
            return (yield self)

        def add_done_callback(self, callback, *, context):
            self.callbacks.append((callback, context))

        def result(self):
            return "x"

        def cancel(self, msg=None):
            return False

    async def main():
        return await thing

    thing = LookAlike()
    assert asyncio.isfuture(thing)
    task = loop.create_task(main())
    turn(loop)
    ((callback, context),) = thing.callbacks
    loop.call_soon(callback, thing, context=context)
    assert loop.run_until_complete(task) is None
    assert thing._asyncio_future_blocking is False


# -- other kinds of futures

@pytest.mark.parametrize("how", ["result", "exception", "cancelled"])
def test_wrap_future(loop, how):
    concurrent_ = concurrent.futures.Future()
    future = asyncio.wrap_future(concurrent_, loop=loop)
    assert asyncio.isfuture(future) and asyncio.wrap_future(future) is future

    def finish():
        if how == "cancelled":
            concurrent_.cancel()
            concurrent_.set_running_or_notify_cancel()
        else:
            finished(concurrent_, how)

    thread = threading.Thread(target=finish)
    loop.call_soon(thread.start)
    if how == "result":
        assert loop.run_until_complete(future) == 42
    else:
        with pytest.raises(ValueError if how == "exception" else asyncio.CancelledError):
            loop.run_until_complete(future)
    thread.join()


def test_cancelling_a_wrapped_future_cancels_the_other(loop):
    concurrent_ = concurrent.futures.Future()
    future = asyncio.wrap_future(concurrent_, loop=loop)
    future.cancel()
    turn(loop)
    assert concurrent_.cancelled()


@NATIVE
@pytest.mark.parametrize("ours", [True, False])
async def test_the_other_kind_of_future_on_this_loop(loop, ours):
    cls = asyncfast.Future if ours else asyncio.Future
    future = cls(loop=loop)
    loop.call_soon(future.set_result, 1)
    assert await future == 1
    future = cls(loop=loop)
    loop.call_soon(future.set_exception, ValueError("mine"))
    with pytest.raises(ValueError, match="mine"):
        await asyncio.shield(future)
    future = cls(loop=loop)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(future, 0.001)
    assert future.cancelled()
    futures = [cls(loop=loop) for _ in range(3)]
    for i, each in enumerate(futures):
        loop.call_soon(each.set_result, i)
    assert await asyncio.gather(*futures) == [0, 1, 2]
    done, pending = await asyncio.wait(futures)
    assert done == set(futures) and not pending


async def test_ensure_future(loop, future, loop_factory):
    assert asyncio.ensure_future(future) is future
    with pytest.raises(ValueError, match="different loop|belongs to a different"):
        asyncio.ensure_future(future, loop=loop_factory())


@pytest.mark.parametrize("value", [0, (), (1, 2), "text", ValueError("why"), StopIteration(5), [None]], ids=repr)
async def test_what_next_raises_when_it_is_done(loop, value):
    """By hand: a StopIteration with the value, whoever looks at it."""
    def raised(iterator):
        with pytest.raises(StopIteration) as caught:
            next(iterator)
        return caught.value

    future = loop.create_future()
    future.set_result(value)
    several = [raised(future.__await__()) for _ in range(10)]       # none is another's
    for each in several:
        assert each.value is value and each.args == (value,) and each.__context__ is None
        assert (str(each), repr(each)) == (str(value), f"StopIteration({value!r})")
        assert repr(pickle.loads(pickle.dumps(each))) == repr(each) == repr(copy.copy(each))
        each.note = each                                            # in a cycle, and seen
    del each, several
    gc.collect()
    again = raised(future.__await__())
    assert vars(again) == {} and again.__traceback__ is not None
    assert await future is value


async def test_results_are_let_go(loop):
    """Nothing keeps what was awaited."""
    class Result:
        pass

    async def result():
        future = loop.create_future()
        future.set_result(Result())
        return await future

    gone = weakref.ref(await result())
    assert gone() is None


@pytest.mark.parametrize("result, args", [(None, ()), (1, (1,)), ((), ((),)), ((1, 2), ((1, 2),))])
def test_driven_by_hand(loop, result, args):
    """What send() and next() raise when the result is there."""
    future = loop.create_future()
    future.set_result(result)

    async def wait():
        return await future

    late = result is None and type(future) is asyncio.Future and sys.version_info >= (3, 14)    # which gives it an argument
    for drive, args in ((lambda: future.__await__().send(None), (None,) if late else args),
                        (lambda: next(iter(future)), (None,) if late else args), (lambda: wait().send(None), args)):
        with pytest.raises(StopIteration) as caught:
            drive()
        assert caught.value.args == args and caught.value.value == result
