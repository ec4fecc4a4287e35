"""Handle and TimerHandle: what call_soon() and call_later() return."""

import asyncio
import contextvars
import functools
import gc
import sys
import weakref

import pytest

import asyncfast
from _turns import turn


def callback(*args, **kwargs):
    pass


class Callable:
    def __call__(self):
        pass

    def __repr__(self):
        return "<a callable>"

    def method(self):
        pass


CALLBACKS = {
    "function": (callback,), "with arguments": (callback, 1, "two", [3]), "lambda": (lambda: None,),
    "builtin": (print, "x"), "method": (Callable().method,), "builtin method": ([].append, 1), "object": (Callable(),),
    "class": (Callable,), "partial": (functools.partial(callback, 1, key=2), 3),
    "partial of partial": (functools.partial(functools.partial(callback, 1), 2), 3),
    "long argument": (callback, "x" * 1000, list(range(1000))), "wrapper": (functools.wraps(callback)(lambda: 1),),
}
SCHEDULE = {
    "soon": lambda loop, *args, **kw: loop.call_soon(*args, **kw),
    "threadsafe": lambda loop, *args, **kw: loop.call_soon_threadsafe(*args, **kw),
    "later": lambda loop, *args, **kw: loop.call_later(1000, *args, **kw),
    "at": lambda loop, *args, **kw: loop.call_at(1e9, *args, **kw),
}
schedules = pytest.mark.parametrize("schedule", SCHEDULE.values(), ids=SCHEDULE)


@schedules
def test_class(loop, kind, schedule):
    handle = schedule(loop, callback)
    assert isinstance(handle, asyncio.Handle)
    timer = schedule in (SCHEDULE["later"], SCHEDULE["at"])
    assert isinstance(handle, asyncio.TimerHandle) == timer
    if kind.fast and schedule != SCHEDULE["threadsafe"]:
        assert type(handle) is (asyncfast.TimerHandle if timer else asyncfast.Handle)
    assert not isinstance(handle, asyncio.Future)


def both(loop, oracle, function):
    """What the function says of each loop; the place of a call is the same, so that debug mode's texts are too."""
    ours, theirs = (function(each) for each in (loop, oracle))
    return ours, theirs


@pytest.mark.parametrize("schedule", ["soon", "at"])
@pytest.mark.parametrize("cancelled", [False, True], ids=["", "cancelled"])
def test_repr(loop, oracle, outcome, schedule, cancelled):
    def text(loop, *args):
        handle = SCHEDULE[schedule](loop, *args)
        if cancelled:
            handle.cancel()
        return outcome(repr, handle)

    for args in CALLBACKS.values():
        ours, theirs = both(loop, oracle, lambda loop: text(loop, *args))
        assert ours == theirs


def test_repr_after_it_ran(loop, oracle, outcome):
    def text(loop):
        handle = loop.call_soon(callback, 1)
        turn(loop)
        return outcome(repr, handle), handle.cancelled()

    ours, theirs = both(loop, oracle, text)
    assert ours == theirs


def test_repr_of_a_failing_repr(loop):
    class Bad:
        def __repr__(self):
            raise ZeroDivisionError

        def __call__(self):
            pass

    handle = loop.call_soon(Bad())
    with pytest.raises(ZeroDivisionError):
        repr(handle)


@schedules
def test_cancel(loop, schedule):
    calls = []
    handle = schedule(loop, calls.append, 1)
    assert not handle.cancelled()
    assert handle.cancel() is None
    assert handle.cancelled()
    assert handle.cancel() is None
    for _ in range(3):
        turn(loop)
    assert calls == [] and handle.cancelled()


@schedules
def test_cancel_lets_go_at_once(loop, kind, schedule):
    class Thing:
        def __call__(self, argument):
            pass

    thing, argument = Thing(), Thing()
    refs = weakref.ref(thing), weakref.ref(argument)
    handle = schedule(loop, thing, argument)
    del thing, argument
    assert all(ref() is not None for ref in refs)
    handle.cancel()
    assert [ref() for ref in refs] == [None, None]


def test_cancel_after_it_ran(loop):
    calls = []
    for schedule in (loop.call_soon, loop.call_soon_threadsafe, functools.partial(loop.call_later, 0)):
        handle = schedule(calls.append, 1)
        while not calls:
            turn(loop)
        assert not handle.cancelled()
        handle.cancel()
        assert handle.cancelled()
        turn(loop)
        assert calls.pop() == 1 and not calls


def test_cancel_from_callbacks(loop):
    """A callback of the same turn, itself, and one that comes before."""
    calls = []

    def cancel(name):
        calls.append(name)
        for handle in handles.values():
            handle.cancel()

    handles = {name: loop.call_soon(cancel, name) for name in "abc"}
    turn(loop)
    assert calls == ["a"] and all(handle.cancelled() for handle in handles.values())


def test_cancel_while_it_runs_keeps_the_arguments_alive(loop):
    class Thing:
        pass

    def run(argument):
        handle.cancel()
        gc.collect()
        seen.append(type(argument))

    seen = []
    handle = loop.call_soon(run, Thing())
    turn(loop)
    assert seen == [Thing]


def test_cancel_whose_finalizer_uses_the_loop(loop):
    class Thing:
        def __del__(self):
            loop.call_soon(calls.append, "from __del__")
            for handle in handles:
                handle.cancel()

    calls = []
    handles = [loop.call_later(1000, print, Thing()) for _ in range(10)] + [loop.call_soon(print, Thing())]
    handles[3].cancel()
    turn(loop)
    assert calls == ["from __del__"] * 11


@schedules
def test_what_asyncio_s_handles_have(loop, kind, schedule):
    context = contextvars.copy_context()
    handle = schedule(loop, callback, 1, 2, context=context)
    assert handle._callback is callback and tuple(handle._args) == (1, 2) and handle._context is context
    assert handle._loop is loop and handle._cancelled is False
    assert (handle._source_traceback is not None) == kind.debug
    if sys.version_info >= (3, 12):
        assert handle.get_context() is context
    assert weakref.ref(handle)() is handle
    handle.cancel()
    assert handle._callback is None and handle._args is None and handle._cancelled is True
    if sys.version_info >= (3, 12):
        assert handle.get_context() is context


def test_when(loop):
    now = loop.time()
    for deadline in (0, 1, 1.5, now + 0.125, now + 1e6, 2**40, -1, -1.5):
        handle = loop.call_at(deadline, callback)
        assert handle.when() == deadline and type(handle.when()) is type(handle._when) is type(deadline)
        handle.cancel()
        assert handle.when() == deadline
    handle = loop.call_later(2.5, callback)
    assert now + 2.5 <= handle.when() <= loop.time() + 2.5


def test_timer_scheduled(loop):
    handle = loop.call_later(1000, callback)
    assert handle._scheduled
    handle.cancel()
    turn(loop)
    assert not handle._scheduled
    handle = loop.call_at(0, callback)
    turn(loop)
    assert not handle._scheduled


def test_timers_compare_as_asyncio_s(loop, oracle):
    context = contextvars.copy_context()

    def facts(loop):
        one, same, args, other, later = timers = [
            loop.call_at(1e9, callback, 1, context=context), loop.call_at(1e9, callback, 1),
            loop.call_at(1e9, callback, 2), loop.call_at(1e9, print, 1), loop.call_at(2e9, callback, 1)]
        result = [(a == b, a != b, a < b, a <= b, a > b, a >= b) for a in timers for b in timers]
        result += [hash(timer) == hash(timer.when()) for timer in timers]
        result += [one.__eq__(1), one.__lt__(1), one.__ge__("x"), one.__gt__(None), one.__le__(1e9), one == 1]
        same.cancel()
        result += [one == same, one <= same]
        one.cancel()
        result += [one == same, len({one, same, args}), sorted(timers, reverse=True)[0] is later]
        return result

    ours, theirs = both(loop, oracle, facts)
    assert ours == theirs


def test_timers_do_not_order_with_other_things(loop):
    handle = loop.call_later(1000, callback)
    for other in (1, "x", None, loop.call_soon(callback)):
        with pytest.raises(TypeError):
            handle < other
        assert handle != other


def test_handles_are_themselves(loop):
    one, two = loop.call_soon(callback), loop.call_soon(callback)
    assert one == one and one != two and len({one, two, one}) == 2


def test_context_of_a_handle_that_was_given_none(loop):
    var = contextvars.ContextVar("var")
    var.set("here")
    handle = loop.call_soon(callback)
    assert handle._context[var] == "here"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in 3.12")
def test_get_context_is_a_copy_made_at_the_call(loop):
    var = contextvars.ContextVar("var", default=0)
    handles = [schedule(loop, callback) for schedule in SCHEDULE.values()]
    var.set(1)
    assert [handle.get_context().get(var) for handle in handles] == [None] * 4


def test_handle_keeps_nothing_alive_once_it_ran(loop):
    class Thing:
        def __call__(self):
            pass

    thing = Thing()
    ref = weakref.ref(thing)
    loop.call_soon(thing)
    loop.call_at(0, thing)
    loop.call_soon_threadsafe(thing)
    del thing
    turn(loop)
    turn(loop)
    assert ref() is None


def test_cycles_through_handles_are_collected(loop):
    class Thing:
        def __call__(self):
            pass

    refs = []
    for schedule in (loop.call_soon, loop.call_soon_threadsafe, functools.partial(loop.call_at, 0)):
        thing = Thing()
        thing.handle = schedule(thing)
        refs.append(weakref.ref(thing))
        del thing
    turn(loop)
    turn(loop)
    gc.collect()
    assert [ref() for ref in refs] == [None] * 3


def test_asyncio_s_handles_on_this_loop(loop):
    calls = []
    handle = asyncio.Handle(calls.append, (1,), loop)
    loop._add_callback(handle)
    cancelled = asyncio.Handle(calls.append, (2,), loop)
    loop._add_callback(cancelled)
    cancelled.cancel()
    turn(loop)
    assert calls == [1]


# -- run by hand

VAR = contextvars.ContextVar("VAR", default="-")


def run_handle(loop, handle):
    handle._run()


def run_loop(loop, handle):
    loop._run_once()


@pytest.mark.parametrize("by_hand, where", [
    (run_handle, "callback"), (run_handle, "task"), (run_handle, "outside"), (run_loop, "callback")])
@pytest.mark.parametrize("own", [False, True], ids=["", "own context"])
def test_run_by_hand(loop, by_hand, where, own):
    """What a handle's _run(), or the loop's _run_once(), runs inside a callback or a step leaves their context as it was."""
    seen = []

    def by_hand_twice():
        for name in ("before", "after"):
            by_hand(loop, loop.call_soon(lambda: seen.append((name, VAR.get()))))
            seen.append(VAR.get())
            VAR.set(VAR.get() + "!")

    async def step():
        by_hand_twice()
        await asyncio.sleep(0)
        seen.append(VAR.get())

    async def others():
        for _ in range(4):
            await asyncio.sleep(0)
        return VAR.get()

    context = contextvars.copy_context()
    context.run(VAR.set, "own")
    kwargs = {"context": context} if own else {}
    other = loop.create_task(others())
    turn(loop)
    if where == "callback":
        loop.call_soon(by_hand_twice, **kwargs)
    elif where == "task":
        loop.create_task(step(), **kwargs)
    else:
        context.run(by_hand_twice) if own else contextvars.copy_context().run(by_hand_twice)
    turn(loop, 8)
    start = "own" if own else "-"
    assert seen[:2] == [("before", start), start] and ("after", start + "!") in seen
    if where == "task":
        assert seen[-1] == start + "!!"
    assert other.done() and other.result() == "-"
