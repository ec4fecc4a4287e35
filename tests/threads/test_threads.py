"""Many threads: on one loop from outside, and each with a loop of its own."""

import asyncio
import functools
import gc
import sys
import threading
import time

import pytest

import asyncfast

pytestmark = pytest.mark.kinds("asyncfast", "asyncfast-debug", "asyncio")


def in_threads(count, function, *args):
    """Start threads that call function(number, *args) all at once; return a function that waits for them and raises
    what went wrong in one."""
    barrier, errors = threading.Barrier(count), []

    def call(n):
        try:
            barrier.wait()
            function(n, *args)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()

    def join():
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    return join


def amount(kind, many):
    return many // 50 if kind.debug else many


def test_call_soon_threadsafe_from_many(loop, kind):
    """Nothing is lost, and the calls of each thread stay in order."""
    count, calls = amount(kind, 5000), []

    def call(n):
        for i in range(count):
            loop.call_soon_threadsafe(calls.append, (n, i))

    join = in_threads(8, call)
    while len(calls) < 8 * count:
        loop.call_later(0.001, loop.stop)
        loop.run_forever()
    join()
    for n in range(8):
        assert [i for m, i in calls if m == n] == list(range(count))


def test_wake_ups_are_not_lost(loop, kind):
    """Ping-pong with an idle loop: each call has to wake it."""
    count = amount(kind, 5000)
    done, calls = threading.Semaphore(0), []

    def call(n):
        for i in range(count):
            loop.call_soon_threadsafe(lambda: (calls.append(1), done.release()))
            assert done.acquire(timeout=60), "a call was lost"
        loop.call_soon_threadsafe(loop.stop)

    join = in_threads(1, call)
    loop.run_forever()
    join()
    assert len(calls) == count


def test_call_soon_threadsafe_while_it_stops_and_starts(loop, kind):
    count, calls = amount(kind, 2000), []

    def call(n):
        for i in range(count):
            loop.call_soon_threadsafe(calls.append, i)

    join = in_threads(4, call)
    while len(calls) < 4 * count:
        loop.stop()
        loop.run_forever()
    join()
    assert len(calls) == 4 * count


def test_call_soon_threadsafe_while_it_is_closed(kind):
    """Every call is either taken or refused with RuntimeError."""
    for _ in range(10):
        loop = kind.new_event_loop()
        taken, refused = [], []

        def call(n):
            while True:
                try:
                    loop.call_soon_threadsafe(taken.append, n)
                except RuntimeError as error:
                    return refused.append(str(error))

        join = in_threads(4, call)
        loop.run_until_complete(asyncio.sleep(0.001))
        loop.close()
        join()
        assert refused == ["Event loop is closed"] * 4


def test_threadsafe_calls_of_the_loop_s_own_thread(loop):
    calls = []
    for i in range(100):
        loop.call_soon_threadsafe(calls.append, i)
    loop.call_soon(calls.append, 100)
    while len(calls) < 101:
        loop.call_later(0, loop.stop)
        loop.run_forever()
    assert [i for i in calls if i != 100] == list(range(100))


def test_cancel_from_other_threads(loop, kind):
    """A handle may be cancelled by anyone, at any time."""
    count, ran = amount(kind, 3000), []

    def call(n):
        for i in range(count):
            handle = loop.call_soon_threadsafe(ran.append, (n, i))
            if i % 2:
                handle.cancel()
        loop.call_soon_threadsafe(ran.append, (n, "last"))

    join = in_threads(4, call)
    while sum(i == "last" for _, i in ran) < 4:
        loop.call_later(0.001, loop.stop)
        loop.run_forever()
    join()
    assert sum(i != "last" and not i % 2 for _, i in ran) == 4 * ((count + 1) // 2)


def test_run_coroutine_threadsafe(loop, kind):
    count = amount(kind, 500)

    async def work(n):
        await asyncio.sleep(0)
        if n % 10 == 9:
            raise KeyError(n)
        return n

    def call(n):
        for i in range(count):
            future = asyncio.run_coroutine_threadsafe(work(i), loop)
            if i % 10 == 9:
                with pytest.raises(KeyError):
                    future.result(60)
            else:
                assert future.result(60) == i

    join = in_threads(4, call)
    closer = threading.Thread(target=lambda: (join(), loop.call_soon_threadsafe(loop.stop)))
    closer.start()
    loop.run_forever()
    closer.join()
    join()


def test_run_coroutine_threadsafe_cancelled(loop):
    async def main():
        started = asyncio.Event()
        ended = []

        async def work():
            try:
                started.set()
                await asyncio.sleep(1000)
            finally:
                ended.append(1)

        future = await asyncio.to_thread(asyncio.run_coroutine_threadsafe, work(), loop)
        await started.wait()
        await asyncio.to_thread(future.cancel)
        while not ended:
            await asyncio.sleep(0.001)

    loop.run_until_complete(main())


def test_a_loop_in_each_thread(kind):
    count = amount(kind, 400)

    async def work(n):
        loop = asyncio.get_running_loop()
        assert type(loop) is not None and asyncio.current_task().get_loop() is loop
        results = await asyncio.gather(*[nap(i) for i in range(count)])
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return sum(results)

    async def nap(i):
        await (asyncfast.sleep if i % 2 else asyncio.sleep)(i % 5 / 10_000)
        return i

    def thread(n):
        for _ in range(3):
            loop = kind.new_event_loop()
            assert loop.run_until_complete(work(n)) == count * (count - 1) // 2
            loop.close()

    in_threads(8, thread)()


def test_loops_that_call_each_other(kind):
    """A ring of loops in threads passes a token round."""
    size, rounds = 5, amount(kind, 500)
    loops = [kind.new_event_loop() for _ in range(size)]
    seen = []

    def token(n):
        seen.append(n)
        if n == size * rounds:
            for loop in loops:
                loop.call_soon_threadsafe(loop.stop)
        else:
            loops[(n + 1) % size].call_soon_threadsafe(token, n + 1)

    loops[0].call_soon_threadsafe(token, 0)
    in_threads(size, lambda n: loops[n].run_forever())()
    for loop in loops:
        loop.close()
    assert seen == list(range(size * rounds + 1))


def test_futures_between_loops(kind):
    """A concurrent future is the bridge."""
    other = kind.new_event_loop()
    thread = threading.Thread(target=other.run_forever)
    thread.start()

    async def square(n):
        await asyncio.sleep(0)
        return n * n

    async def main():
        futures = [asyncio.wrap_future(asyncio.run_coroutine_threadsafe(square(n), other)) for n in range(100)]
        return await asyncio.gather(*futures)

    loop = kind.new_event_loop()
    assert loop.run_until_complete(main()) == [n * n for n in range(100)]
    other.call_soon_threadsafe(other.stop)
    thread.join()
    for each in (loop, other):
        each.close()


def test_collector_in_other_threads(loop, kind):
    """Collections while tasks and timers come and go in the loop's thread."""
    stop = threading.Event()

    def collect(n):
        while not stop.is_set():
            gc.collect(0)

    async def main():
        for _ in range(amount(kind, 200)):
            await asyncio.gather(*[asyncio.sleep(i / 100_000) for i in range(10)])
            loop.call_later(1000, print, []).cancel()

    join = in_threads(2, collect)
    try:
        loop.run_until_complete(main())
    finally:
        stop.set()
        join()


@pytest.mark.parametrize("interval, sleeps", [(0.005, 50), (0.2, 4)], ids=["default", "long"])
@pytest.mark.parametrize("callback", ["Python", "C"])
def test_a_loop_that_never_waits_leaves_time_to_threads(loop, callback, interval, sleeps):
    """A loop that is busy for ever: another thread gets the interpreter's lock when it asks for it."""
    if callback == "C":
        again = functools.partial(print)
        again.__setstate__((loop.call_soon, (again,), {}, None))
    else:
        def again():
            loop.call_soon(again)

    def sleep(n):
        for _ in range(sleeps):
            time.sleep(0.0001)
        loop.call_soon_threadsafe(loop.stop)

    before = sys.getswitchinterval()
    sys.setswitchinterval(interval)
    try:
        again()
        join = in_threads(1, sleep)
        loop.run_forever()
        join()
    finally:
        sys.setswitchinterval(before)
        if callback == "C":
            again.__setstate__((print, (), {}, None))         # no cycle is left


def test_all_tasks_from_another_thread(loop, kind):
    """asyncio.all_tasks(loop) of a loop that runs elsewhere: a snapshot, whatever happens meanwhile."""
    stop = threading.Event()

    async def churn():
        while not stop.is_set():
            await asyncio.gather(*[asyncio.sleep(0) for _ in range(20)])

    def look(n):
        try:
            for _ in range(amount(kind, 300)):
                for task in asyncio.all_tasks(loop):
                    assert task.get_loop() is loop and task.get_name()
        finally:
            stop.set()

    join = in_threads(1, look)
    loop.run_until_complete(churn())
    join()


def test_signals_and_threads(loop):
    """Threads with loops must not take the main loop's wake-ups away."""
    import os
    import signal
    calls = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, 1)

    def thread(n):
        for _ in range(10):
            asyncfast.run(asyncio.sleep(0.0001))

    async def main():
        join = in_threads(4, thread)
        for i in range(20):
            os.kill(os.getpid(), signal.SIGUSR1)
            while len(calls) <= i:
                await asyncio.sleep(0.0005)
        await asyncio.to_thread(join)

    loop.run_until_complete(main())
    loop.remove_signal_handler(signal.SIGUSR1)
    assert len(calls) == 20
