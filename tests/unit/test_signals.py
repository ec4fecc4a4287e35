"""Signals: handlers, Ctrl-C in an idle loop and in a busy one, and what is left behind."""

import asyncio
import os
import signal
import sys
import textwrap
import threading

import pytest
from _turns import turn

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
PLAIN = pytest.mark.kinds("asyncfast", "asyncfast-debug", "asyncio")


@pytest.fixture(autouse=True)
def usr1_and_usr2():
    before = [(sig, signal.getsignal(sig)) for sig in (signal.SIGUSR1, signal.SIGUSR2)]
    yield
    for sig, handler in before:
        assert signal.getsignal(sig) == handler
        signal.signal(sig, handler)


def kill(sig=signal.SIGUSR1):
    os.kill(os.getpid(), sig)


def test_handler(loop):
    calls = []

    def handler(*args):
        calls.append((args, threading.current_thread() is threading.main_thread(), asyncio.get_running_loop() is loop))
        loop.stop()

    assert loop.add_signal_handler(signal.SIGUSR1, handler, 1, 2) is None
    loop.call_soon(kill)
    loop.run_forever()
    assert calls == [((1, 2), True, True)]
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert loop.remove_signal_handler(signal.SIGUSR1) is False


def test_handler_wakes_an_idle_loop(loop):
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    timer = threading.Timer(0.02, kill)
    timer.start()
    loop.run_forever()
    timer.join()
    loop.remove_signal_handler(signal.SIGUSR1)


def test_handler_in_a_busy_loop(loop):
    def busy():
        loop.call_soon(busy)

    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    busy()
    loop.call_soon(kill)
    loop.run_forever()
    loop.remove_signal_handler(signal.SIGUSR1)
    loop.close()


def test_two_signals(loop):
    calls = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, 1)
    loop.add_signal_handler(signal.SIGUSR2, calls.append, 2)
    loop.call_soon(kill, signal.SIGUSR1)
    loop.call_soon(kill, signal.SIGUSR2)
    while len(calls) < 2:
        turn(loop)
    assert sorted(calls) == [1, 2]
    assert loop.remove_signal_handler(signal.SIGUSR2) and loop.remove_signal_handler(signal.SIGUSR1)


def test_last_handler_wins(loop):
    calls = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, 1)
    loop.add_signal_handler(signal.SIGUSR1, calls.append, 2)
    kill()
    while not calls:
        turn(loop)
    assert calls == [2]
    loop.remove_signal_handler(signal.SIGUSR1)


def test_many_signals(loop):
    calls = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, 1)
    for i in range(50):
        kill()
        turn(loop)
    while not calls:
        turn(loop)
    loop.remove_signal_handler(signal.SIGUSR1)


def test_signal_while_the_loop_does_not_run(loop):
    """It is not lost: the handler runs in the next run."""
    calls = []
    loop.add_signal_handler(signal.SIGUSR1, lambda: (calls.append(1), loop.stop()))
    kill()
    assert calls == []
    loop.run_forever()
    assert calls == [1]
    loop.run_until_complete(asyncio.sleep(0))
    kill()
    loop.run_forever()
    assert calls == [1, 1]
    loop.remove_signal_handler(signal.SIGUSR1)


def test_handler_that_fails(loop, errors):
    loop.add_signal_handler(signal.SIGUSR1, lambda: 1 / 0)
    kill()
    while not errors:
        turn(loop)
    assert type(errors[0]["exception"]) is ZeroDivisionError
    loop.remove_signal_handler(signal.SIGUSR1)


def test_removed_handler_is_not_called(loop):
    before = signal.getsignal(signal.SIGUSR1)
    calls = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, 1)
    assert signal.getsignal(signal.SIGUSR1) != before
    loop.remove_signal_handler(signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) == before
    turn(loop)
    assert calls == []


def test_close_removes_handlers(loop):
    before = signal.getsignal(signal.SIGUSR1)
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) == before


@pytest.mark.parametrize("sig", ["SIGINT", signal.SIGUSR1 + 1000, 0, -1, 1.5, None, signal.SIGKILL, signal.SIGSTOP])
def test_bad_signals(loop, oracle, outcome, sig):
    assert outcome(loop.add_signal_handler, sig, print) == outcome(oracle.add_signal_handler, sig, print)
    assert outcome(loop.remove_signal_handler, sig) == outcome(oracle.remove_signal_handler, sig)


def test_bad_handlers(loop, oracle, outcome):
    async def coroutine():
        pass

    made = coroutine()
    for handler in (coroutine, made):
        ours, theirs = (outcome(each.add_signal_handler, signal.SIGUSR1, handler) for each in (loop, oracle))
        assert ours == theirs and ours[0] is TypeError
    made.close()


def test_default_of_sigint_comes_back(loop):
    loop.add_signal_handler(signal.SIGINT, print)
    assert loop.remove_signal_handler(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_not_from_another_thread(loop, oracle, outcome):
    results = []
    for each in (loop, oracle):
        thread = threading.Thread(
            target=lambda: results.append(outcome(each.add_signal_handler, signal.SIGUSR1, print)))
        thread.start()
        thread.join()
    assert results[0] == results[1] and results[0][0] in (RuntimeError, ValueError)


def test_loop_in_another_thread_leaves_signals_alone(loop, kind):
    results = []

    def other():
        other_loop = kind.new_event_loop()
        results.append(other_loop.run_until_complete(asyncio.sleep(0.001, "x")))
        other_loop.close()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert results == ["x"]


def test_python_handlers_run_in_a_busy_loop(loop):
    """signal.signal() handlers, not the loop's: they run between the callbacks."""
    def busy():
        if not calls:
            loop.call_soon(busy)

    calls = []
    before = signal.signal(signal.SIGUSR1, lambda *args: (calls.append(1), loop.call_soon_threadsafe(loop.stop)))
    try:
        busy()
        loop.call_soon(kill)
        loop.run_forever()
        assert calls == [1]
        timer = threading.Timer(0.02, kill)
        timer.start()
        loop.run_forever()  # idle
        timer.join()
        assert calls == [1, 1]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_python_handler_that_raises_ends_the_run(loop):
    class Stop(Exception):
        pass

    def handler(*args):
        raise Stop

    before = signal.signal(signal.SIGUSR1, handler)
    timer = threading.Timer(0.02, kill)
    try:
        timer.start()
        with pytest.raises(Stop):
            loop.run_forever()
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
    assert loop.run_until_complete(asyncio.sleep(0, "x")) == "x"


# -- Ctrl-C, in processes of their own

WAYS = {
    "idle": "await loop.create_future()",
    "asleep": "await asyncio.sleep(1000)",
    "busy task": "while True: await asyncio.sleep(0)",
    "busy callbacks": "again(loop.call_soon)\nawait loop.create_future()",
    "busy timers": "again(loop.call_later, 0)\nawait loop.create_future()",
    "busy tasks": "await asyncio.gather(*[spin() for _ in range(100)])",
}


@PLAIN
@pytest.mark.parametrize("way", WAYS)
def test_ctrl_c_ends_asyncio_run(program, way):
    """The main task is cancelled, its finally clauses run, and KeyboardInterrupt comes out."""
    source = """
def again(schedule, *delay):
    schedule(*delay, again, schedule, *delay)
async def spin():
    while True:
        await asyncio.sleep(0)
async def main():
    loop = asyncio.get_running_loop()
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
WAY
    except asyncio.CancelledError:
        print("cancelled")
        raise
    finally:
        print("finally")
try:
    run(main())
except KeyboardInterrupt:
    print("KeyboardInterrupt")
""".replace("WAY", textwrap.indent(WAYS[way], " " * 8))
    out = program(source).split()
    assert out == ["cancelled", "finally", "KeyboardInterrupt"]


@PLAIN
@pytest.mark.parametrize("way", ["pass", "loop.call_soon(again)"], ids=["idle", "busy"])
def test_ctrl_c_ends_run_forever(program, way):
    out = program(f"""
        loop = new_event_loop()
        def again():
            {way}
        again()
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            print("KeyboardInterrupt", loop.is_running())
        print(loop.run_until_complete(asyncio.sleep(0, "goes on")))
        loop.close()
        """)
    assert out == "KeyboardInterrupt False\ngoes on\n"


@PLAIN
def test_ctrl_c_that_nobody_catches(program):
    done = program("""
        async def main():
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
            await asyncio.sleep(1000)
        run(main())
        """, status=None)
    assert done.returncode == -signal.SIGINT and done.stderr.rstrip().endswith("KeyboardInterrupt")


@PLAIN
def test_second_ctrl_c(program):
    """The first cancels, the second interrupts at once."""
    out = program("""
        async def main():
            os.kill(os.getpid(), signal.SIGINT)
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                print("cancelled")
                os.kill(os.getpid(), signal.SIGINT)
                for _ in range(10**6):
                    await asyncio.sleep(0)
                print("not reached")
        try:
            run(main())
        except KeyboardInterrupt:
            print("KeyboardInterrupt")
        """)
    assert out.split() == ["cancelled", "KeyboardInterrupt"]


@PLAIN
def test_ctrl_c_in_a_loop_of_another_thread(program):
    """Only the main thread is interrupted."""
    out = program("""
        loop = new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            time.sleep(100)
        except KeyboardInterrupt:
            print("KeyboardInterrupt", loop.is_running())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        """)
    assert out == "KeyboardInterrupt True\n"


def test_wakeup_fd_of_somebody_else_is_given_back(loop):
    import socket
    left, right = socket.socketpair()
    with left, right:
        right.setblocking(False)
        signal.set_wakeup_fd(right.fileno(), warn_on_full_buffer=False)
        loop.run_until_complete(asyncio.sleep(0))
        assert signal.set_wakeup_fd(-1) == right.fileno()


@pytest.mark.parametrize("kind_of_fd", ["closed", "blocking"])
def test_wakeup_fd_that_somebody_has_forgotten(loop, kind_of_fd):
    """It is nobody's, and signals end the poll as ever."""
    import socket
    left, right = socket.socketpair()
    with left:
        right.setblocking(False)
        signal.set_wakeup_fd(right.fileno(), warn_on_full_buffer=False)
        if kind_of_fd == "closed":
            right.close()
        else:
            right.setblocking(True)
        try:
            loop.run_until_complete(asyncio.sleep(0))
            test_handler_wakes_an_idle_loop(loop)
        finally:
            found = signal.set_wakeup_fd(-1)
    right.close()
    assert found == -1
