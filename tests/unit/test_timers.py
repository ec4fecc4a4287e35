"""Timers: never early, in the order of their deadlines, and gone when cancelled."""

import asyncio
import gc
import math
import os
import random
import socket
import sys
import warnings
import weakref
from fractions import Fraction

import pytest
from _turns import turn, until


@pytest.mark.parametrize("delay", [0, 1e-9, 1e-6, 0.0001, 0.0002, 0.0005, 0.001, 0.0011, 0.0015, 0.003, 0.01, 1 / 30])
def test_never_early(loop, delay):
    for _ in range(5):
        start = loop.time()
        handle = loop.call_later(delay, loop.stop)
        loop.run_forever()
        assert loop.time() >= handle.when() >= start + delay


async def test_never_early_by_call_at(loop):
    for i in range(20):
        deadline = loop.time() + i * 1.0001e-4
        future = loop.create_future()
        loop.call_at(deadline, lambda: future.set_result(loop.time()))
        assert await future >= deadline


async def test_never_early_in_bulk(loop, kind):
    random.seed(1)
    early = []

    def fired(deadline):
        if loop.time() < deadline:
            early.append(deadline)

    deadlines = [loop.time() + random.random() * 0.05 for _ in range(200 if kind.debug else 5000)]
    for deadline in deadlines:
        loop.call_at(deadline, fired, deadline)
    await asyncio.sleep(0.06)
    assert early == []


def test_order_is_by_deadline(loop):
    calls = []
    base = loop.time() + 0.002
    deadlines = [base + i * 1e-6 for i in range(300)]
    shuffled = random.Random(2).sample(deadlines, len(deadlines))
    for deadline in shuffled:
        loop.call_at(deadline, calls.append, deadline)
    until(loop, lambda: len(calls) == len(deadlines))
    assert calls == deadlines


@pytest.mark.only_asyncfast
def test_order_of_equal_deadlines_is_that_of_their_making(loop):
    """asyncio's heap leaves this open."""
    calls = []
    deadline = loop.time() + 0.005
    for i in range(100):
        loop.call_at(deadline, calls.append, i)
        loop.call_at(deadline + 0.001, calls.append, 1000 + i)
    until(loop, lambda: len(calls) == 200)
    assert calls == [*range(100), *range(1000, 1100)]


def test_past_deadlines(loop):
    calls = []
    loop.call_later(-1, calls.append, -1)
    loop.call_later(-2, calls.append, -2)
    loop.call_at(-1e300, calls.append, "long ago")
    loop.call_at(loop.time() - 5, calls.append, -5)
    loop.call_at(0, calls.append, "start")
    loop.call_soon(calls.append, "soon")
    turn(loop)
    assert calls == ["soon", "long ago", "start", -5, -2, -1]


def test_zero_delay_is_one_turn_later(loop):
    """call_later(0) is due in the turn that comes, after what was ready already; as on asyncio."""
    calls = []

    def first():
        calls.append("first")
        loop.call_later(0, calls.append, "zero")
        loop.call_soon(calls.append, "soon")

    loop.call_soon(first)
    turn(loop)
    assert calls == ["first"]
    turn(loop)
    assert calls == ["first", "soon", "zero"]


@pytest.mark.parametrize("delay", [1e5, 1e9, 1e12, 1e18, 1e100, 1.7e308, math.inf, 10**15, 2**31, 2**63, 2**64],
                         ids=str)
def test_far_deadlines(loop, delay):
    calls = []
    handle = loop.call_later(delay, calls.append, 1)
    assert handle.when() >= delay
    loop.call_later(0.002, loop.stop)
    loop.run_forever()
    assert calls == [] and not handle.cancelled()
    handle.cancel()


def test_only_a_far_deadline(loop):
    """An idle loop waits in pieces if it must; a thread can wake it."""
    for delay in (1e9, 1e300, math.inf):
        handle = loop.call_later(delay, print)
        loop.run_in_executor(None, loop.call_soon_threadsafe, loop.stop)
        loop.run_forever()
        handle.cancel()


def test_beyond_float(loop, oracle, outcome):
    assert outcome(loop.call_later, 10**400, print) == outcome(oracle.call_later, 10**400, print)


@pytest.mark.parametrize("when", [math.nan, -math.nan])
def test_nan_does_not_break_the_loop(loop, when):
    """asyncio takes it, and its heap may lose the order; here it just must not hang or crash."""
    handle = loop.call_at(when, lambda: None)
    handle.cancel()
    calls = []
    loop.call_later(0.001, calls.append, 1)
    until(loop, lambda: calls)


def test_minus_infinity(loop):
    calls = []
    loop.call_later(-math.inf, calls.append, 1)
    loop.call_at(-math.inf, calls.append, 2)
    turn(loop)
    assert sorted(calls) == [1, 2]


@pytest.mark.parametrize("number", [1, True, 0.5, pytest.param(type("Int", (int,), {})(1), id="int subclass"),
                                    pytest.param(type("Float", (float,), {})(0.5), id="float subclass")])
def test_kinds_of_numbers(loop, number):
    for value in (number, Fraction(number)):
        now = loop.time()
        handle = loop.call_later(value, print)
        assert handle.when() >= now + number
        handle.cancel()


def test_cancel_before_it_fires(loop):
    calls = []
    handles = [loop.call_later(0.001, calls.append, i) for i in range(10)]
    for handle in handles[::2]:
        handle.cancel()
    until(loop, lambda: len(calls) == 5)
    turn(loop)
    assert sorted(calls) == [1, 3, 5, 7, 9]


def test_cancel_when_due_already(loop):
    """A callback of the turn in which a timer is due, which runs before it, can still cancel it."""
    calls = []
    loop.call_at(1, lambda: (calls.append(1), second.cancel()))
    second = loop.call_at(2, calls.append, 2)
    loop.call_at(3, calls.append, 3)
    turn(loop)
    turn(loop)
    assert calls == [1, 3] and second.cancelled()


def test_cancel_itself_and_all_others(loop):
    calls = []

    def fire(i):
        calls.append(i)
        for handle in handles:
            handle.cancel()

    handles = [loop.call_at(i, fire, i) for i in range(1, 50)]
    handles += [loop.call_later(1000, fire, i) for i in range(50)]
    turn(loop)
    turn(loop)
    assert calls == [1]


def test_cancelled_timers_let_go_at_once(loop):
    class Thing:
        pass

    things = [Thing() for _ in range(200)]
    refs = [weakref.ref(thing) for thing in things]
    handles = [loop.call_later(1000 + i, print, thing) for i, thing in enumerate(things)]
    del things
    random.Random(3).shuffle(handles)
    for handle in handles:
        handle.cancel()
    assert not any(ref() for ref in refs)


@pytest.mark.only_asyncfast
def test_cancelled_timers_are_gone(loop):
    """asyncio keeps the handle until its time comes or half of the heap is cancelled."""
    handle = loop.call_later(1000, print)
    ref = weakref.ref(handle)
    handle.cancel()
    del handle
    assert ref() is None


def test_rearming_at_zero_does_not_starve(loop):
    """I/O, other timers and callbacks go on while a timer arms itself again and again."""
    left, right = socket.socketpair()
    left.setblocking(False)
    seen = set()

    def again():
        loop.call_later(0, again) if len(seen) < 4 else loop.stop()

    def readable():
        left.recv(1)
        loop.remove_reader(left)
        seen.add("reader")

    with left, right:
        again()
        loop.add_reader(left, readable)
        loop.call_later(0.001, seen.add, "timer")
        loop.call_later(0.002, right.send, b"x")
        loop.call_soon(seen.add, "soon")
        loop.call_soon_threadsafe(seen.add, "inbox")
        loop.run_forever()
    assert seen == {"reader", "timer", "soon", "inbox"}


def test_a_timer_made_by_a_timer_is_not_of_the_same_turn(loop):
    calls = []

    def fire(n):
        calls.append(n)
        loop.call_at(0, fire, n + 1)

    loop.call_at(0, fire, 0)
    for n in range(4):
        assert len(calls) == n
        turn(loop)
    assert calls == [0, 1, 2, 3]


@pytest.mark.kinds("asyncfast")
def test_200_000_timers(loop):
    count = 200_000
    calls = []
    deadlines = list(range(count))
    random.Random(4).shuffle(deadlines)
    handles = [loop.call_at(-1 - i, calls.append, -1 - i) for i in deadlines]
    assert len(handles) == count
    for handle in handles[::2]:
        handle.cancel()
    expected = sorted(handle.when() for handle in handles[1::2])
    turn(loop)
    assert calls == expected


def test_churn(loop, kind):
    """Timeouts are mostly cancelled: many live timers, one of which changes all the time."""
    live = [loop.call_later(1000 + i, print) for i in range(100 if kind.debug else 10_000)]
    for i in range(100 if kind.debug else 10_000):
        loop.call_later(500 + i % 7, print).cancel()
    calls = []
    loop.call_at(0, calls.append, 1)
    turn(loop)
    assert calls == [1]
    for handle in live:
        handle.cancel()


def test_random_operations_against_a_model(loop):
    """Arm, cancel and run, at random; what fires must be what a sorted list says."""
    rng = random.Random(5)
    model, fired = {}, []
    for step in range(60):
        for _ in range(rng.randrange(20)):
            deadline = -rng.randrange(1, 10**6) if rng.random() < 0.7 else 1e9 + rng.random()
            key = deadline, len(model) + step * 10**6
            model[key] = loop.call_at(deadline, fired.append, key)
        for key in rng.sample(sorted(model), min(len(model), rng.randrange(8))):
            model.pop(key).cancel()
        if rng.random() < 0.3:
            turn(loop)
            due = [key for key in sorted(model) if key[0] < 0]
            assert [key[0] for key in fired] == [key[0] for key in due] and sorted(fired) == due
            for key in due:
                del model[key]
            fired.clear()
    for handle in model.values():
        handle.cancel()


async def test_timeouts(loop):
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(loop.create_future(), 0.001)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await asyncio.sleep(1000)
    async with asyncio.timeout(0.001) as timeout:
        timeout.reschedule(None)
        await asyncio.sleep(0.002)
    assert not timeout.expired()
    async with asyncio.timeout(1000):
        await asyncio.wait_for(asyncio.sleep(0.001), 1000)


async def test_timer_from_another_thread(loop):
    """call_later is the loop's thread's, but it may be asked for by call_soon_threadsafe."""
    future = loop.create_future()
    await loop.run_in_executor(None, loop.call_soon_threadsafe, loop.call_later, 0.001, future.set_result, 1)
    assert await future == 1


@pytest.mark.skipif(not sys.platform.startswith("linux") or bool(os.environ.get("ASYNCFAST_SANITIZER")),
                    reason="counts the kernel's switches")
@pytest.mark.kinds("asyncfast", "asyncfast-debug", "asyncio")
@pytest.mark.parametrize("timers", ["nothing", "far", "cancelled"])
def test_idle_loop_makes_no_wakeups(program, timers):
    """Sleeps are counted by the kernel: each wait of the loop's thread that had to wait."""
    out = program(f"""
        def switches():
            status = open(f"/proc/self/task/{{threading.get_native_id()}}/status").read()
            return int(status.partition("\\nvoluntary_ctxt_switches:")[2].split()[0])
        loop = new_event_loop()
        loop.slow_callback_duration = 1000
        kept = []
        if "{timers}" == "far":
            kept = [loop.call_later(10**6 + i, print) for i in range(10)]
        if "{timers}" == "cancelled":
            for i in range(100):
                loop.call_later(i / 1000, print).cancel()
        loop.call_later(0.4, loop.stop)
        before = switches()
        loop.run_forever()
        after = switches()
        loop.close()
        print(after - before)
        """)
    assert 1 <= int(out) <= 4


@pytest.mark.kinds("asyncfast", "asyncio")
@pytest.mark.parametrize("armed_after", [0, 1, 50])
@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("end", ["drop", "close", "cancel", "run"])
def test_cycles_through_a_timer(kind, armed_after, held, end):
    """What a timer refers to is found by the collector, whoever holds the handle, and when."""
    class Owner:
        def fired(self):
            pass

    loop = kind.new_event_loop()
    loop.owner = owner = Owner()
    handle = loop.call_later(1000, owner.fired)
    if held:
        owner.handle = handle
    handles = [loop.call_later(1000 + i, owner.fired) for i in range(armed_after)]
    if held:
        owner.handles = handles
    del handles
    gc.collect()
    if end == "close":
        loop.close()
    elif end == "cancel":
        handle.cancel()
    elif end == "run":
        loop.run_until_complete(asyncio.sleep(0))
    owner_ref, loop_ref = weakref.ref(owner), weakref.ref(loop)
    del handle
    gc.collect()
    assert owner_ref() is owner
    del owner, loop
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    assert owner_ref() is None and loop_ref() is None


def test_a_timer_stays_for_what_only_it_holds(loop):
    """Timers that nobody else holds are not forgotten by the collector."""
    class Owner:
        def fired(self):
            fired.append(self)

    fired = []
    for i in range(200):
        loop.call_later(i % 5 / 1000, Owner().fired)
    gc.collect()
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert len(fired) == 200
