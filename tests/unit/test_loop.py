"""The loop: running, stopping, closing, what it calls and in which order, and what happens when that fails."""

import asyncio
import contextvars
import gc
import inspect
import re
import sys
import threading
import time
import traceback
import weakref

import pytest

import asyncfast
from _turns import turn

VAR = contextvars.ContextVar("VAR", default="default")


# -- what a loop is

def test_is_a_base_event_loop(loop):
    assert isinstance(loop, asyncio.BaseEventLoop) and isinstance(loop, asyncio.AbstractEventLoop)


def test_new_loop(loop, kind):
    assert not loop.is_running() and not loop.is_closed()
    assert loop.get_debug() is kind.debug
    assert loop.get_task_factory() is None and loop.get_exception_handler() is None
    assert repr(loop) == f"<{type(loop).__name__} running=False closed=False debug={kind.debug}>"


async def test_running_loop(loop, kind):
    assert loop.is_running() and not loop.is_closed()
    assert asyncio.get_running_loop() is asyncio.get_event_loop() is loop
    assert repr(loop) == f"<{type(loop).__name__} running=True closed=False debug={kind.debug}>"


def test_closed_loop(loop, kind):
    loop.close()
    assert loop.is_closed() and not loop.is_running()
    assert repr(loop) == f"<{type(loop).__name__} running=False closed=True debug={kind.debug}>"


def test_nothing_of_the_abstract_loop_is_left_out(loop):
    missing = [name for name in dir(asyncio.AbstractEventLoop) if not name.startswith("__")
               and getattr(type(loop), name) is getattr(asyncio.AbstractEventLoop, name)]
    assert missing == []


@pytest.mark.only_asyncfast
def test_signatures_are_asyncio_s(loop):
    for name, method in inspect.getmembers(asyncio.SelectorEventLoop, inspect.isfunction):
        if not name.startswith("_"):
            def shape(function):
                return [(p.name, p.kind) for p in inspect.signature(function).parameters.values()][1:]
            assert shape(getattr(type(loop), name)) == shape(method), name


def test_attributes_and_weak_references(loop):
    loop.my_attribute = 1
    assert loop.my_attribute == 1 and weakref.ref(loop)() is loop


def test_collected_when_closed(kind):
    loop = kind.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0))
    loop.call_soon(lambda: loop)
    loop.call_later(1000, lambda: loop)
    loop.myself = loop
    ref = weakref.ref(loop)
    loop.close()
    del loop
    gc.collect()
    assert ref() is None


def test_not_closed_warns(kind):
    loop = kind.new_event_loop()
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        del loop
        gc.collect()


def test_time_is_monotonic_time(loop):
    before, now, after = time.monotonic(), loop.time(), time.monotonic()
    assert before <= now <= after and type(now) is float
    times = [loop.time() for _ in range(1000)]
    assert times == sorted(times) and len(set(times)) > 100  # fine-grained


def test_debug(loop):
    for debug in (True, False, True):
        loop.set_debug(debug)
        assert loop.get_debug() is debug


def test_a_subclass_is_asked(kind, logged):
    class Loop(type(make(kind))):
        def call_exception_handler(self, context):
            seen.append(type(context["exception"]))

        def create_future(self):
            future = super().create_future()
            made.append(future)
            return future

    seen, made = [], []
    loop = Loop()
    loop.call_soon(lambda: 1 / 0)
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()
    assert seen == [ZeroDivisionError] and len(made) == 1


@pytest.mark.parametrize("whose", ["class", "instance"])
def test_call_later_goes_through_call_at(kind, whose):
    """As virtual clocks and instrumentation have it."""
    seen = []

    def seeing(call_at):
        def method(*args, **kwargs):
            seen.append(args[-2:])
            return call_at(*args, **kwargs)
        return method

    cls = type(make(kind))
    if whose == "class":
        cls = type("Loop", (cls,), {"call_at": seeing(cls.call_at)})
    loop = cls()
    if whose == "instance":
        loop.call_at = seeing(loop.call_at)
    calls = []
    handle = loop.call_later(0, calls.append, 1)
    assert isinstance(handle, asyncio.TimerHandle)
    with pytest.raises(TypeError, match="delay must not be None"):
        loop.call_later(None, calls.append, 2)
    while not calls:
        turn(loop)
    loop.run_until_complete(asyncio.sleep(0.001))
    assert seen[0] == (calls.append, 1) and len(seen) == 2 and calls == [1]
    loop.close()


def make(kind):
    loop = kind.new_event_loop()
    loop.close()
    return loop


# -- run_until_complete

async def give(value):
    await asyncio.sleep(0)
    return value


class Awaitable:
    def __init__(self, value):
        self.value = value

    def __await__(self):
        yield
        return self.value


@pytest.mark.parametrize("what", [
    lambda loop: give("x"), lambda loop: Awaitable("x"), lambda loop: loop.create_task(give("x")),
    lambda loop: asyncio.gather(give("x")), lambda loop: done(loop, "x"),
], ids=["coroutine", "awaitable", "task", "gather", "done future"])
def test_run_until_complete(loop, what):
    async def make():
        return what(loop)

    awaitable = loop.run_until_complete(make())  # 3.11's gather() wants a running loop
    assert loop.run_until_complete(awaitable) in ("x", ["x"])
    assert not loop.is_running()


def done(loop, value):
    future = loop.create_future()
    future.set_result(value)
    return future


def test_run_until_complete_raises_what_the_coroutine_raises(loop):
    error = ValueError("mine")

    async def fail():
        raise error

    for _ in range(2):
        with pytest.raises(ValueError) as caught:
            loop.run_until_complete(fail())
        assert caught.value is error
    assert loop.run_until_complete(give(1)) == 1


@pytest.mark.parametrize("thing", [None, 1, "x", lambda: None, object(), [1], give])
def test_run_until_complete_of_no_awaitable(loop, oracle, outcome, thing):
    assert outcome(loop.run_until_complete, thing) == outcome(oracle.run_until_complete, thing)
    assert not loop.is_running()


def test_run_until_complete_of_another_loop_s_future(loop, loop_factory):
    future = loop_factory().create_future()
    with pytest.raises(ValueError, match="different loop"):
        loop.run_until_complete(future)


def test_stopped_before_complete(loop):
    async def main():
        loop.stop()
        await loop.create_future()

    with pytest.raises(RuntimeError, match=r"^Event loop stopped before Future completed\.$"):
        loop.run_until_complete(main())


def test_a_task_not_complete_goes_on_in_the_next_run(loop):
    task = loop.create_task(give("late"))
    turn(loop)
    assert not task.done()
    assert loop.run_until_complete(task) == "late"


@pytest.mark.parametrize("fatal", [SystemExit, KeyboardInterrupt])
def test_fatal_in_main(loop, fatal):
    async def main():
        await asyncio.sleep(0)
        raise fatal("bye")

    with pytest.raises(fatal, match="bye"):
        loop.run_until_complete(main())
    assert not loop.is_running()
    assert loop.run_until_complete(give(1)) == 1


# -- order

def test_call_soon_in_order_with_arguments(loop):
    calls = []
    for i in range(100):
        loop.call_soon(lambda *args: calls.append(args), i, i + 1)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert calls == [(i, i + 1) for i in range(100)]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 6, 7, 8, 20])
def test_any_number_of_arguments(loop, count):
    calls = []
    arguments = [object() for _ in range(count)]
    loop.call_soon(lambda *args: calls.append(args), *arguments)
    loop.call_later(0, lambda *args: calls.append(args), *arguments)
    loop.call_soon_threadsafe(lambda *args: calls.append(args), *arguments)
    while len(calls) < 3:
        turn(loop)
    assert calls == [tuple(arguments)] * 3


def test_what_a_callback_calls_soon_runs_in_the_next_turn(loop):
    calls = []

    def first():
        loop.call_soon(calls.append, "next turn")
        loop.call_soon(loop.stop)
        calls.append("first")

    loop.call_soon(first)
    loop.call_soon(calls.append, "same turn")
    loop.run_forever()
    assert calls == ["first", "same turn", "next turn"]


def test_stop_before_run_runs_exactly_one_turn(loop):
    calls = []

    def again(n):
        calls.append(n)
        loop.call_soon(again, n + 1)

    again(0)
    for n in range(1, 4):
        turn(loop)
        assert calls == list(range(n + 1))


def test_stop_lets_the_turn_end(loop):
    calls = []
    loop.call_soon(loop.stop)
    loop.call_soon(calls.append, "same turn")
    loop.call_soon(lambda: loop.call_soon(calls.append, "next turn"))
    loop.run_forever()
    assert calls == ["same turn"]
    turn(loop)
    assert calls == ["same turn", "next turn"]


def test_stop_is_forgotten_after_a_run(loop):
    loop.stop()
    loop.stop()
    loop.run_forever()
    calls = []
    loop.call_soon(calls.append, 1)
    loop.call_soon(lambda: loop.call_soon(lambda: (calls.append(2), loop.stop())))
    loop.run_forever()
    assert calls == [1, 2]


def test_tasks_and_callbacks_share_the_order(loop):
    calls = []

    async def task(name):
        calls.append(name)
        await asyncio.sleep(0)
        calls.append(name + "'")

    loop.call_soon(calls.append, 1)
    one = loop.create_task(task("a"))
    loop.call_soon(calls.append, 2)
    two = loop.create_task(task("b"))
    loop.call_soon(calls.append, 3)
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.gather(one, two) if sys.version_info >= (3, 12) else one)
    turn(loop)
    assert calls == [1, "a", 2, "b", 3, "a'", "b'"]


def test_ready_queue_grows_and_wraps(loop):
    calls = []

    def many(level):
        calls.append(level)
        if level:
            for _ in range(3):
                loop.call_soon(many, level - 1)

    many(6)
    turns = 0
    while len(calls) < (3**7 - 1) // 2:
        turn(loop)
        turns += 1
    assert turns == 6 and calls == sorted(calls, reverse=True)


def test_very_many_callbacks(loop, kind):
    calls, many = [], 1_000 if kind.debug else 100_000
    for i in range(many):
        loop.call_soon(calls.append, i)
    turn(loop)
    assert calls == list(range(many))


def test_callable_objects(loop):
    class Callable:
        def __call__(self, *args):
            calls.append(args)

        def method(self, *args):
            calls.append(args)

        @classmethod
        def of_class(cls, *args):
            calls.append(args)

    calls = []
    for callback in (Callable(), Callable().method, Callable.of_class, calls.append):
        loop.call_soon(callback, (1,) if callback == calls.append else 1)
    loop.call_soon(type, "new type", (), {})
    turn(loop)
    assert calls == [(1,)] * 4


# -- arguments

@pytest.mark.parametrize("call", [
    lambda loop: loop.call_soon(), lambda loop: loop.call_soon(print, contxt=None), lambda loop: loop.call_later(1), lambda loop: loop.call_later(),
    lambda loop: loop.call_at(1), lambda loop: loop.call_soon_threadsafe(),
    lambda loop: loop.call_later(1, print, x=1), lambda loop: loop.call_later("1", print),
    lambda loop: loop.call_at(None, print), lambda loop: loop.call_later(None, print),
])
def test_wrong_arguments(loop, call):
    with pytest.raises(TypeError):
        call(loop)


def test_arguments_by_name(loop):
    calls = []

    def callback():
        calls.append(1)

    loop.call_soon(callback=callback)
    loop.call_soon_threadsafe(callback=callback, context=None)
    loop.call_later(delay=0, callback=callback)
    loop.call_later(0, callback=callback)
    loop.call_at(when=loop.time(), callback=callback)
    while len(calls) < 5:
        turn(loop)


def test_delay_none_says_so(loop, oracle, outcome):
    assert outcome(loop.call_later, None, print) == outcome(oracle.call_later, None, print)
    assert outcome(loop.call_at, None, print) == outcome(oracle.call_at, None, print)


NO_CALLABLES = [1, None, "text"]


@pytest.mark.parametrize("thing", NO_CALLABLES)
def test_not_callable(loop, kind, errors, oracle, outcome, thing):
    """Debug mode refuses at once; else the call fails."""
    for method, *args in (("call_soon",), ("call_soon_threadsafe",), ("call_later", 0), ("call_at", 0)):
        if kind.debug:
            ours, theirs = (outcome(getattr(each, method), *args, thing) for each in (loop, oracle))
            assert ours == theirs and ours[0] is TypeError
        else:
            getattr(loop, method)(*args, thing)
    for _ in range(2):
        turn(loop)
    assert [type(context["exception"]) for context in errors] == [TypeError] * (0 if kind.debug else 4)


@pytest.mark.kinds("asyncfast-debug", "asyncio-debug")
def test_coroutines_are_not_callbacks(loop, oracle, outcome):
    coroutine = give(1)
    for thing in (coroutine, give):
        for method, *args in (("call_soon",), ("call_soon_threadsafe",), ("call_later", 0), ("call_at", 0)):
            ours, theirs = (outcome(getattr(each, method), *args, thing) for each in (loop, oracle))
            assert ours == theirs and ours[0] is TypeError
    coroutine.close()


# -- contexts

def test_callbacks_run_in_a_copy_of_the_context(loop):
    seen = []

    def callback(value):
        seen.append(VAR.get())
        VAR.set(value)

    VAR.set("before")
    loop.call_soon(callback, "from callback")
    loop.call_later(0, callback, "from timer")
    loop.call_soon_threadsafe(callback, "from inbox")
    VAR.set("after")
    while len(seen) < 3:
        turn(loop)
    assert seen == ["before"] * 3 and VAR.get() == "after"
    VAR.set("default")


def test_context_argument(loop):
    context, seen = contextvars.Context(), []
    context.run(VAR.set, "given")

    def callback():
        seen.append(VAR.get())
        VAR.set("changed")

    loop.call_soon(callback, context=context)
    loop.call_soon(callback, context=context)
    loop.call_later(0, callback, context=context)
    loop.call_at(0, callback, context=context)
    loop.call_soon_threadsafe(callback, context=context)
    while len(seen) < 5:
        turn(loop)
    assert seen == ["given"] + ["changed"] * 4 and context[VAR] == "changed"


def test_callback_of_a_callback_inherits(loop):
    seen = []

    def outer():
        VAR.set("outer")
        loop.call_soon(lambda: seen.append(VAR.get()))

    loop.call_soon(outer)
    turn(loop)
    turn(loop)
    assert seen == ["outer"]


def test_context_that_is_entered_already(loop, oracle, logged):
    """From 3.12 on the exception handler runs in that context too, or would."""
    def try_it(loop):
        context, seen = contextvars.copy_context(), []
        loop.set_exception_handler(lambda loop, context: seen.append(str(context["exception"]).partition(":")[0]))
        loop.call_soon(seen.append, "never", context=context)
        loop.call_soon(seen.append, "next")
        loop.stop()
        context.run(loop.run_forever)
        return seen, [message.partition("\n")[0] for message in logged.take()]

    assert try_it(loop) == try_it(oracle)


def test_context_that_is_none_is_the_present_one(loop):
    seen = []
    VAR.set("present")
    loop.call_soon(lambda: seen.append(VAR.get()), context=None)
    VAR.set("default")
    turn(loop)
    assert seen == ["present"]


# -- failing callbacks

def test_exception_goes_to_the_handler(loop, kind, errors):
    error = ZeroDivisionError("mine")

    def fail(argument):
        raise error

    def boundless():
        raise asyncio.CancelledError

    handle = loop.call_soon(fail, 1)
    loop.call_soon(boundless)
    calls = []
    loop.call_soon(calls.append, 1)
    turn(loop)
    assert calls == [1]
    context, second = errors
    assert context["exception"] is error and context["handle"] is handle
    argument = "1" if kind.debug or sys.version_info < (3, 12, 5) else ""
    assert re.match(rf"Exception in callback .*<locals>\.fail\({argument}\) at .*test_loop\.py:\d+$", context["message"])
    assert ("source_traceback" in context) == loop.get_debug()
    assert isinstance(second["exception"], asyncio.CancelledError)
    assert traceback.extract_tb(error.__traceback__)[-1].name == "fail"


@pytest.mark.parametrize("error", [GeneratorExit, StopIteration, StopAsyncIteration, BaseException, MemoryError,
                                   RecursionError, asyncio.CancelledError, asyncio.InvalidStateError])
def test_any_other_exception_goes_to_the_handler(loop, errors, error):
    def fail():
        raise error()

    loop.call_soon(fail)
    loop.call_later(0, fail)
    loop.call_soon_threadsafe(fail)
    for _ in range(3):
        turn(loop)
    assert [type(context["exception"]) for context in errors] == [error] * 3


@pytest.mark.parametrize("fatal", [SystemExit, KeyboardInterrupt])
def test_fatal_exceptions_end_the_run_and_the_loop_can_go_on(loop, errors, fatal):
    calls = []

    def fail():
        raise fatal("bye")

    for schedule in (loop.call_soon, loop.call_soon_threadsafe):
        loop.call_soon(calls.append, 1)
        schedule(fail)
        schedule(calls.append, 2)
        with pytest.raises(fatal, match="bye"):
            loop.run_forever()
        assert calls == [1] and not loop.is_running() and asyncio._get_running_loop() is None
        turn(loop)
        assert calls == [1, 2]
        calls.clear()
    assert errors == []


def test_fatal_in_a_timer_keeps_the_other_timers(loop):
    calls = []
    loop.call_at(1, calls.append, 1)
    loop.call_at(2, sys.exit, 3)
    loop.call_at(3, calls.append, 3)
    loop.call_soon(calls.append, 0)
    with pytest.raises(SystemExit):
        loop.run_forever()
    turn(loop)
    assert calls == [0, 1, 3]


def test_fatal_in_the_exception_handler(loop):
    def handler(loop, context):
        raise KeyboardInterrupt

    loop.set_exception_handler(handler)
    loop.call_soon(lambda: 1 / 0)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    loop.set_exception_handler(None)
    assert loop.run_until_complete(give(1)) == 1


def test_default_handler_logs(loop, logged):
    loop.call_soon(lambda: 1 / 0)
    turn(loop)
    (record,) = logged.records
    assert record.exc_info[0] is ZeroDivisionError and record.levelname == "ERROR"
    lines = record.getMessage().splitlines()
    assert lines[0].startswith("Exception in callback test_default_handler_logs.<locals>.<lambda>() at ")
    assert lines[1].startswith("handle: <Handle ")
    logged.take()


def test_handler_that_fails(loop, logged):
    def handler(loop, context):
        raise ValueError("handler")

    loop.set_exception_handler(handler)
    loop.call_soon(lambda: 1 / 0)
    turn(loop)
    (record,) = logged.records
    assert record.exc_info[0] is ValueError
    assert record.getMessage().startswith("Unhandled error in exception handler")
    logged.take()


def test_default_handler_that_fails(loop, logged, monkeypatch):
    def handler(context):
        raise ValueError

    monkeypatch.setattr(loop, "default_exception_handler", handler)
    loop.call_soon(lambda: 1 / 0)
    turn(loop)
    assert [message.splitlines()[0] for message in logged.take()] == ["Exception in default exception handler"]


def test_exception_handler_argument(loop, oracle, outcome):
    def handler(loop, context):
        pass

    for thing in (1, "x", [handler]):
        assert outcome(loop.set_exception_handler, thing) == outcome(oracle.set_exception_handler, thing)
    loop.set_exception_handler(handler)
    assert loop.get_exception_handler() is handler
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in 3.12")
def test_exception_handler_runs_in_the_context_of_the_callback(loop):
    seen = []
    loop.set_exception_handler(lambda loop, context: seen.append(VAR.get()))

    def fail():
        VAR.set("callback")
        1 / 0

    async def fails():
        VAR.set("task")
        1 / 0

    loop.call_soon(fail)
    loop.create_task(fails())
    loop.run_until_complete(asyncio.sleep(0))
    gc.collect()
    assert seen == ["callback", "task"]


def test_handler_may_use_the_loop(loop):
    calls = []

    def handler(loop, context):
        calls.append("handler")
        loop.call_soon(calls.append, "soon")
        loop.call_soon(loop.stop)

    loop.set_exception_handler(handler)
    loop.call_soon(lambda: 1 / 0)
    loop.run_forever()
    assert calls == ["handler", "soon"]


def test_the_failed_callback_is_let_go(loop):
    class Thing:
        def __call__(self):
            1 / 0

    loop.set_exception_handler(lambda loop, context: None)
    thing = Thing()
    ref = weakref.ref(thing)
    loop.call_soon(thing)
    del thing
    turn(loop)
    gc.collect()
    assert ref() is None


# -- refused runs

def run_forever(loop):
    loop.run_forever()


def run_until_complete(loop):
    coroutine = give(1)
    try:
        return loop.run_until_complete(coroutine)
    finally:
        coroutine.close()


@pytest.mark.parametrize("run", [run_forever, run_until_complete])
@pytest.mark.oracle_bug((3, 13, 1), "a refused run drops the running loop")
def test_nested_run_is_refused_and_leaves_the_running_loop(loop, loop_factory, run):
    other = loop_factory()

    async def main():
        hooks = sys.get_asyncgen_hooks()
        with pytest.raises(RuntimeError, match="^This event loop is already running$"):
            run(loop)
        with pytest.raises(RuntimeError, match="^Cannot run the event loop while another loop is running$"):
            run(other)
        assert asyncio.get_running_loop() is loop and loop.is_running() and not other.is_running()
        assert asyncio.current_task() is not None
        assert sys.get_asyncgen_hooks() == hooks
        await asyncio.sleep(0)
        assert asyncio.get_running_loop() is loop
        return "fine"

    assert loop.run_until_complete(main()) == "fine"
    assert run_until_complete(other) == 1


async def test_asyncio_run_inside_is_refused(loop):
    for run in (asyncio.run, asyncfast.run):
        coroutine = give(1)
        with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
            run(coroutine)
        coroutine.close()
    assert asyncio.get_running_loop() is loop


@pytest.mark.oracle_bug((3, 13, 1), "a refused run drops the running loop")
def test_run_in_a_second_thread_is_refused(loop):
    refused = []

    def second():
        try:
            loop.run_forever()
        except RuntimeError as error:
            refused.append(str(error))
        refused.append(asyncio._get_running_loop())

    async def main():
        await asyncio.to_thread(second)
        assert loop.is_running() and asyncio.get_running_loop() is loop

    loop.run_until_complete(main())
    assert refused == ["This event loop is already running", None]


def test_a_loop_may_move_to_another_thread(loop):
    results = [loop.run_until_complete(give(1))]
    thread = threading.Thread(target=lambda: results.append(loop.run_until_complete(give(2))))
    thread.start()
    thread.join()
    results.append(loop.run_until_complete(give(3)))
    assert results == [1, 2, 3]


@pytest.mark.parametrize("use", [
    lambda loop: loop.call_soon(print), lambda loop: loop.call_soon_threadsafe(print),
    lambda loop: loop.call_later(1, print), lambda loop: loop.call_at(1, print), run_forever, run_until_complete,
    lambda loop: loop.run_in_executor(None, print), lambda loop: loop.add_signal_handler(10, print),
    lambda loop: loop.add_reader(0, print), lambda loop: loop.add_writer(1, print),
    lambda loop: loop.remove_reader(0), lambda loop: loop.remove_writer(0),
])
def test_closed_loop_refuses(loop, oracle, outcome, use):
    loop.close()
    turn(oracle)
    oracle.close()
    assert outcome(use, loop) == outcome(use, oracle)


def test_closed_loop_refuses_tasks(loop):
    loop.close()
    coroutine = give(1)
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.create_task(coroutine)
    coroutine.close()


def test_closed_loop_still_makes_futures(loop, oracle):
    loop.close()
    assert not loop.create_future().done()
    assert isinstance(loop.time(), float)
    loop.stop()
    loop.set_debug(True)


def test_close_twice(loop):
    loop.close()
    loop.close()


async def test_close_while_running(loop):
    with pytest.raises(RuntimeError, match="^Cannot close a running event loop$"):
        loop.close()
    assert not loop.is_closed()
    await asyncio.sleep(0.001)


def test_close_lets_callbacks_go(loop):
    class Thing:
        def __call__(self):
            pass

    things = [Thing() for _ in range(4)]
    refs = [weakref.ref(thing) for thing in things]
    loop.call_soon(things[0])
    loop.call_soon(print, things[1])
    loop.call_later(1000, things[2])
    loop.call_soon_threadsafe(things[3])
    del things
    loop.close()
    gc.collect()
    assert [ref() for ref in refs] == [None] * 4


def test_close_with_a_callback_whose_end_uses_the_loop(loop):
    class Thing:
        def __del__(self):
            for use in (loop.call_soon, lambda _: loop.call_later(1, print), lambda _: loop.close()):
                try:
                    use(print)
                except RuntimeError as error:
                    said.append(str(error))

    said = []
    loop.call_soon(print, Thing())
    loop.call_later(1, print, Thing())
    loop.close()
    gc.collect()
    assert loop.is_closed() and set(said) <= {"Event loop is closed"}


# -- tasks and futures of the loop

def test_create_future(loop, kind):
    future = loop.create_future()
    assert type(future) is kind.Future and isinstance(future, asyncio.Future) and future.get_loop() is loop


async def test_create_task(loop, kind):
    task = loop.create_task(give(1))
    assert type(task) is kind.Task and isinstance(task, asyncio.Task) and task.get_loop() is loop
    assert await task == 1
    named = loop.create_task(give(2), name="a name")
    assert named.get_name() == "a name" and await named == 2
    unnamed = loop.create_task(give(3), name=None)
    assert unnamed.get_name().startswith("Task-") and await unnamed == 3
    context = contextvars.copy_context()
    context.run(VAR.set, "task")
    assert await loop.create_task(self_context(), context=context) == "task"


async def self_context():
    return VAR.get()


@pytest.mark.parametrize("arguments", [
    {"unknown": 1}, {"eager_start": False}, {"eager_start": None}, {"name": 5}, {"loop": None},
    {"name": "a", "context": None}, {"name": "a", "context": None, "eager_start": None},
], ids=str)
def test_create_task_keywords_are_this_python_s(loop, oracle, outcome, arguments):
    """The keywords came one after the other: 3.11 knows name and context, 3.13.3 hands all others to the Task."""
    def try_it(loop):
        async def main():
            coroutine = give(1)
            try:
                task = loop.create_task(coroutine, **arguments)
                return task.get_name() if "name" in arguments else None, await task
            finally:
                coroutine.close()
        return loop.run_until_complete(main())

    ours, theirs = outcome(try_it, loop), outcome(try_it, oracle)
    assert normal(ours) == normal(theirs)


def normal(result):
    return tuple(part.replace("asyncfast.", "_asyncio.") if isinstance(part, str) else part for part in result)


@pytest.mark.parametrize("thing", [None, 1, "x", give, Awaitable(1), [1]])
def test_create_task_of_no_coroutine(loop, oracle, outcome, thing):
    assert outcome(loop.create_task, thing) == outcome(oracle.create_task, thing)


def test_task_factory_argument(loop, oracle, outcome):
    for thing in (1, "x", [asyncio.Task]):
        assert outcome(loop.set_task_factory, thing) == outcome(oracle.set_task_factory, thing)
    assert loop.get_task_factory() is None

    def factory(loop, coro, **kwargs):
        return asyncio.Task(coro, loop=loop, **kwargs)

    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None


@pytest.mark.parametrize("given", [
    {}, {"name": "n"}, {"context": contextvars.copy_context()}, {"name": "n", "context": contextvars.copy_context()},
], ids=["nothing", "name", "context", "both"])
def test_task_factory_is_given_what_asyncio_gives(loop, oracle, given):
    def record(loop):
        seen = []

        def factory(loop_, coro, **kwargs):
            assert loop_ is loop
            seen.append((coro.__name__, dict(kwargs)))
            return asyncio.Task(coro, loop=loop, **kwargs)

        async def main():
            task = loop.create_task(give(1), **given)
            return await task, type(task), task.get_name() if "name" in given else None

        loop.set_task_factory(factory)
        return loop.run_until_complete(main()), seen

    assert record(loop) == record(oracle)


def test_task_factory_of_futures(loop, Future):
    """Whatever the factory returns is what create_task() returns."""
    class NamedFuture(Future):
        def set_name(self, name):
            pass

    def factory(loop, coro, **kwargs):
        coro.close()
        future = NamedFuture(loop=loop)
        future.set_result("done")
        return future

    loop.set_task_factory(factory)
    assert type(loop.create_task(give(1))) is NamedFuture
    assert loop.run_until_complete(give(1)) == "done"


def test_task_factory_that_fails(loop):
    def factory(loop, coro, **kwargs):
        coro.close()
        raise ZeroDivisionError

    loop.set_task_factory(factory)
    with pytest.raises(ZeroDivisionError):
        loop.create_task(give(1))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in 3.12")
@pytest.mark.parametrize("own", [False, True], ids=["asyncio's factory", "ours"])
def test_eager_task_factory(loop, kind, own):
    if own:
        loop.set_task_factory(asyncio.create_eager_task_factory(kind.Task))
    else:
        loop.set_task_factory(asyncio.eager_task_factory)
    calls = []

    async def quick():
        calls.append(asyncio.current_task())
        return "quick"

    async def slow():
        calls.append("started")
        await asyncio.sleep(0)
        return "slow"

    async def main():
        me = asyncio.current_task()
        task = asyncio.create_task(quick(), name="eager")
        assert task.done() and task.result() == "quick" and calls == [task]
        assert asyncio.current_task() is me
        second = asyncio.create_task(slow())
        assert calls[1:] == ["started"] and not second.done()
        assert second in asyncio.all_tasks()
        assert await second == "slow" and await task == "quick"
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(quick()) for _ in range(3)]
        return [task.result() for task in tasks]

    assert loop.run_until_complete(main()) == ["quick"] * 3
