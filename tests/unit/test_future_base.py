"""Future is derived from asyncio's C class, whose own part of the object stays what asyncio's code makes of it."""

import asyncio
import copy
import gc
import pickle
import sys
import weakref
from unittest.mock import AsyncMock, create_autospec

import _asyncio
import pytest

import asyncfast
from _turns import turn

pytestmark = pytest.mark.kinds("asyncfast", "asyncfast-debug", "asyncio", "asyncio-debug")
CALL_GRAPH = pytest.mark.skipif(sys.version_info < (3, 14), reason="new in 3.14")


@pytest.fixture
def future(loop):
    return loop.create_future()


@pytest.fixture
def ours(loop):
    """On asyncio's loops too: what matters is that asyncio's code takes it."""
    return asyncfast.Future(loop=loop)


# -- a subclass

def test_class(loop, future):
    kind = type(future)
    assert issubclass(kind, asyncio.Future) and isinstance(future, asyncio.Future) and future.__class__ is kind
    assert issubclass(asyncfast.Task, asyncfast.Future) and issubclass(asyncfast.Task, asyncio.Future)
    assert not issubclass(kind, asyncio.Task) and not isinstance(future, asyncio.Task)


def test_mock_of_a_future(loop, future):
    assert isinstance(AsyncMock(future), asyncio.Future)
    assert isinstance(create_autospec(future, instance=True), asyncio.Future)
    assert asyncio.isfuture(AsyncMock(future))


def test_nothing_is_inherited_by_chance():
    for ours, theirs in ((asyncfast.Future, _asyncio.Future), (asyncfast.Task, _asyncio.Task)):
        defined = set(vars(asyncfast.Future)) | set(vars(ours))
        assert [name for name in vars(theirs) if name not in defined] == []


def test_attributes_and_weak_references(loop):
    future = loop.create_future()
    with pytest.raises(AttributeError):
        future.x
    future.x = future
    assert future.x is future
    ref = weakref.ref(future)
    del future
    gc.collect()
    assert ref() is None
    assert not hasattr(loop.create_future(), "x")


def test_recycled_without_attributes(loop):
    for _ in range(100):
        future = loop.create_future()
        assert not hasattr(future, "x") and weakref.getweakrefcount(future) == 0
        future.x, ref = object(), weakref.ref(future)
        assert future.x is not None and ref() is future


def test_subclass(loop, future):
    class Mine(type(future)):
        def result(self):
            return "mine", super().result()

    mine = Mine(loop=loop)
    assert mine.__class__ is Mine and isinstance(mine, asyncio.Future)
    mine.x, ref = mine, weakref.ref(mine)
    mine.set_result(1)
    assert loop.run_until_complete(mine) == ("mine", 1)
    del mine
    gc.collect()
    assert ref() is None


def test_subclass_of_both(loop):
    class Both(asyncfast.Future, asyncio.Future):
        pass

    class Slots(asyncfast.Future):
        __slots__ = ("a", "b")

    for each in (Both(loop=loop), Slots(loop=loop)):
        each.a = each
        loop.call_soon(each.set_result, 1)
        assert loop.run_until_complete(each) == 1
    with pytest.raises(TypeError):
        type("No", (asyncio.Future, asyncfast.Future), {})
    with pytest.raises(TypeError):
        type("No", (asyncfast.Task, asyncio.Task), {})


def test_copy_and_pickle(future):
    for attempt in (copy.copy, copy.deepcopy, lambda each: [pickle.dumps(each, n) for n in range(2)]):
        with pytest.raises(TypeError):
            attempt(future)


# -- to asyncio's own methods: a future that was never initialized

def calls(future):
    for name, method in vars(_asyncio.Future).items():
        if name in ("__class_getitem__", "__new__", "__init__", "__doc__", "__module__") or name.startswith("__get"):
            continue
        for args in ((), (future,), (ValueError("x"),)):
            yield name, method, args


@pytest.mark.parametrize("state", ["pending", "finished", "failed", "unborn"])
def test_unbound_methods(loop, ours, state):
    if state == "finished":
        ours.set_result(1)
    elif state == "failed":
        ours.set_exception(ValueError("mine"))
    elif state == "unborn":
        ours = asyncfast.Future.__new__(asyncfast.Future)
    for name, method, args in calls(ours):
        try:
            bound = method.__get__(ours, type(ours))
            if callable(bound):
                bound(*args)
        except (RuntimeError, TypeError, asyncio.InvalidStateError, asyncio.CancelledError):
            pass
    with pytest.raises((RuntimeError, asyncio.InvalidStateError), match="not initialized"):
        asyncio.Future.result(ours)
    for call in (lambda: asyncio.Future.set_result(ours, 1), lambda: asyncio.Future.cancel(ours),
                 lambda: asyncio.Future.__iter__(ours), lambda: asyncio.Future.__repr__(ours)):
        with pytest.raises(RuntimeError):
            call()
    turn(loop)
    if state == "pending":
        assert not ours.done()
        ours.set_result(2)
    if state == "failed":
        assert repr(ours.exception()) == "ValueError('mine')"
    elif state != "unborn":
        assert ours.result() in (1, 2)


def test_both_parts_initialized(loop, ours):
    for _ in range(3):
        future, got = asyncfast.Future(loop=loop), []
        asyncio.Future.__init__(future, loop=loop)
        asyncio.Future.add_done_callback(future, got.append)
        asyncio.Future.set_exception(future, ValueError(future))
        assert not future.done() and asyncio.Future.done(future)
        turn(loop)
        assert got == [future]
        ref = weakref.ref(future)
        del future, got
        gc.collect()
        assert ref() is None
        fresh = loop.create_future()
        with pytest.raises((RuntimeError, asyncio.InvalidStateError)):
            asyncio.Future.result(fresh) if isinstance(fresh, asyncfast.Future) else fresh.result()


# -- asyncio's tasks wait for it

async def wait(future):
    return await future


@pytest.mark.parametrize("make", [asyncio.tasks._CTask, asyncio.tasks._PyTask, asyncfast.Task],
                         ids=["C", "Python", "ours"])
@pytest.mark.parametrize("n", [1, 3])
def test_awaited(loop, ours, make, n):
    tasks = [make(wait(ours), loop=loop) for _ in range(n)]
    turn(loop)
    if sys.version_info >= (3, 14) and make is not asyncio.tasks._PyTask:
        assert ours._asyncio_awaited_by == frozenset(tasks)
        assert sorted(map(id, (each.future for each in asyncio.capture_call_graph(ours).awaited_by))) == \
            sorted(map(id, tasks))
    ours.set_result(5)
    assert [loop.run_until_complete(task) for task in tasks] == [5] * n
    if sys.version_info >= (3, 14):
        assert not ours._asyncio_awaited_by


@CALL_GRAPH
def test_cycle_through_awaited_by(loop):
    refs = []
    for n in (1, 3):
        future = asyncfast.Future(loop=loop)
        waiters = [asyncfast.Future(loop=loop) for _ in range(n)]
        for each in waiters:
            asyncio.future_add_to_awaited_by(future, each)
            asyncio.future_add_to_awaited_by(each, future)
        assert future._asyncio_awaited_by == frozenset(waiters)
        refs += map(weakref.ref, [future, *waiters])
        del future, waiters, each
    gc.collect()
    assert [ref() for ref in refs] == [None] * 6
    assert all(not loop.create_future()._asyncio_awaited_by for _ in range(50))


@CALL_GRAPH
def test_add_and_discard_awaited_by(loop, ours):
    task = asyncfast.Task(wait(ours), loop=loop)
    turn(loop)
    other = asyncio.Future(loop=loop)
    asyncio.future_add_to_awaited_by(ours, other)
    assert ours._asyncio_awaited_by == {task, other}
    asyncio.future_discard_from_awaited_by(ours, other)
    assert ours._asyncio_awaited_by == {task}
    asyncio.future_add_to_awaited_by(other, task)
    assert other._asyncio_awaited_by == {task}
    ours.set_result(1)
    loop.run_until_complete(task)


# -- another base

STAND_IN = """
for name in list(sys.modules):
    if name.partition(".")[0] in ("asyncio", "_asyncio", "asyncfast"):
        del sys.modules[name]
import _asyncio
{change}
import asyncio, asyncfast
assert asyncfast.Future.__base__ is not _asyncio.Future, asyncfast.Future.__mro__


class Mine(asyncfast.Future):
    pass


async def wait(future):
    return await future


async def main():
    loop = asyncio.get_running_loop()
    for make in (lambda **kwargs: loop.create_future(), asyncfast.Future, Mine) * 3:
        future = make(loop=loop)
        assert isinstance(future, asyncio.Future) and asyncio.isfuture(future), future
        assert not hasattr(future, "x")
        task = loop.create_task(wait(future))
        assert isinstance(task, asyncio.Task)
        future.x, task.x = future, task
        await asyncio.sleep(0)
        future.set_result(1)
        assert await task == 1
        refs = [weakref.ref(future), weakref.ref(task)]
        del future, task
        gc.collect()
        assert [ref() for ref in refs] == [None, None]
    print("done")

asyncfast.run(main())
"""


@pytest.mark.kinds("asyncfast")
@pytest.mark.parametrize("change", [
    "_asyncio.Future = type('Future', (_asyncio.Future,), {'__slots__': ('a', 'b', 'c')})",
    "_asyncio.Future = type('Future', (_asyncio.Future,), {})",
    "import asyncio.futures; asyncio.Future = asyncio.futures.Future = asyncio.futures._PyFuture",
], ids=["larger", "python", "pure"])
def test_stand_in(program, change):
    assert program(STAND_IN.format(change=change)) == "done\n"
