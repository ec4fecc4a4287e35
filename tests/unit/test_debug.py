"""Debug mode: what it warns of, what it refuses, how it is switched on."""

import asyncio
import contextlib
import gc
import re
import socket
import sys
import threading
import time

import pytest
from _turns import BIG, turn

DEBUG = pytest.mark.kinds("asyncfast-debug", "asyncio-debug")
PLAIN = pytest.mark.kinds("asyncfast", "asyncio")


def slow():
    time.sleep(0.012)


def warning_of(logged, name):
    """The one that names it: on a busy machine anything may be slow."""
    (message,) = [message for message in logged.take() if name in message]
    return message


@DEBUG
def test_slow_callback(loop, logged):
    loop.slow_callback_duration = 0.01
    loop.call_soon(slow)
    turn(loop)
    message = warning_of(logged, "slow()")
    assert re.fullmatch(r"Executing <Handle .*slow\(\).* created at .*test_debug.py:\d+> took 0\.\d{3} seconds", message)


@DEBUG
@pytest.mark.parametrize("where", ["timer", "threadsafe"])
def test_slow_callback_of_other_kinds(loop, logged, where):
    loop.slow_callback_duration = 0.01
    loop.call_later(0, slow) if where == "timer" else loop.call_soon_threadsafe(slow)
    turn(loop)
    turn(loop)
    message = warning_of(logged, "slow")
    assert re.match("Executing <(Timer)?Handle .*slow", message.replace("_ThreadSafeHandle", "Handle").replace(
        "ThreadsafeHandle", "Handle"))


@DEBUG
def test_slow_step(loop, logged):
    async def main():
        slow()

    loop.slow_callback_duration = 0.01
    loop.run_until_complete(main())
    message = warning_of(logged, "main()")
    assert re.match(r"Executing <Task finished name='Task-\d+' coro=<.*main\(\) done, defined at .*test_debug.py:\d+> "
                    r".*created at .*> took 0\.\d{3} seconds", message)


def pair(loop, protocol):
    """A transport with that protocol, and the socket at its other end."""
    sock, peer = socket.socketpair()
    transport, _ = loop.run_until_complete(loop.connect_accepted_socket(protocol, sock))
    peer.setblocking(False)
    return transport, peer


@DEBUG
@pytest.mark.parametrize("method", ["data_received", "resume_writing"])
def test_slow_transport(loop, logged, method):
    """What a transport has called is no handle of ours; it is warned of all the same, and the loop goes on."""
    calls = []

    class Protocol(asyncio.Protocol):
        def data_received(self, data):
            calls.append("data_received")
            slow()

        def resume_writing(self):
            calls.append("resume_writing")
            slow()

    transport, peer = pair(loop, Protocol)
    loop.slow_callback_duration = 0.01
    if method == "data_received":
        peer.send(b"x")
    else:
        transport.write(BIG)
    while method not in calls:
        with contextlib.suppress(BlockingIOError):
            peer.recv(len(BIG))
        turn(loop)
    assert re.match(r"Executing <(Handle .*)?_?(Selector)?SocketTransport.*> took 0\.\d{3} seconds",
                    warning_of(logged, "SocketTransport"))
    transport.abort()
    turn(loop, 2)
    peer.close()
    logged.take()


@PLAIN
def test_slow_wake_of_an_operation(loop, logged):
    """One that had begun to wait for its socket when debug mode was switched on."""
    sock, peer = socket.socketpair()
    sock.setblocking(False)
    task = loop.create_task(loop.sock_recv(sock, 10))
    turn(loop, 2)
    loop.set_debug(True)
    loop.slow_callback_duration = 0     # then everything is slow
    peer.send(b"x")
    assert loop.run_until_complete(task) == b"x"
    assert logged.take()
    sock.close()
    peer.close()


@DEBUG
def test_quick_callbacks_are_not_warned_of(loop, logged):
    loop.slow_callback_duration = 1000
    loop.call_soon(slow)
    turn(loop)
    assert logged.take() == []


@PLAIN
def test_no_warning_without_debug(loop, logged):
    loop.slow_callback_duration = 0.001
    loop.call_soon(slow)
    turn(loop)
    assert logged.take() == []


def test_slow_callback_duration(kind):
    loop = kind.module.new_event_loop()
    assert loop.slow_callback_duration == 0.1
    loop.slow_callback_duration = 0.5
    assert loop.slow_callback_duration == 0.5
    loop.close()


def wrong_thread(loop, function):
    result = []

    def call():
        try:
            function(loop)
            result.append(None)
        except RuntimeError as error:
            result.append(str(error))

    async def main():
        thread = threading.Thread(target=call)
        thread.start()
        while not result:
            await asyncio.sleep(0.001)
        thread.join()

    loop.run_until_complete(main())
    return result[0]


CALLS = {
    "call_soon": lambda loop: loop.call_soon(print),
    "call_later": lambda loop: loop.call_later(1000, print).cancel(),
    "call_at": lambda loop: loop.call_at(1e9, print).cancel(),
}


@DEBUG
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_wrong_thread(loop, call):
    assert wrong_thread(loop, call) == (
        "Non-thread-safe operation invoked on an event loop other than the current one")


@DEBUG
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_right_thread(loop, call):
    call(loop)  # not running
    thread = threading.Thread(target=call, args=(loop,))
    thread.start()
    thread.join()

    async def main():
        call(loop)

    loop.run_until_complete(main())


@DEBUG
def test_another_loop_in_this_thread(loop, loop_factory):
    other = loop_factory()

    async def main():
        other.call_soon(print)  # it does not run: nothing to say

    loop.run_until_complete(main())
    other.call_soon(other.stop)


@DEBUG
def test_future_finished_in_the_wrong_thread(loop):
    future = loop.create_future()
    future.add_done_callback(lambda future: None)
    text = wrong_thread(loop, lambda loop: future.set_result(1))
    assert text.startswith("Non-thread-safe operation")


async def never():
    pass


def test_never_awaited(loop, kind):
    with pytest.warns(RuntimeWarning, match=r"coroutine 'never' was never awaited"):
        never()
        gc.collect()


@DEBUG
def test_coroutine_origin(loop):
    async def main():
        assert sys.get_coroutine_origin_tracking_depth() > 0
        with pytest.warns(RuntimeWarning, match=r"(?s)was never awaited.*Coroutine created at.*in main"):
            never()
            gc.collect()
        return never().close()

    assert sys.get_coroutine_origin_tracking_depth() == 0
    loop.run_until_complete(main())
    assert sys.get_coroutine_origin_tracking_depth() == 0


@PLAIN
async def test_debug_switched_on_while_running(loop):
    assert sys.get_coroutine_origin_tracking_depth() == 0
    loop.set_debug(True)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert sys.get_coroutine_origin_tracking_depth() > 0
    handle = loop.call_later(1000, print)
    assert handle._source_traceback
    handle.cancel()
    loop.set_debug(False)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert sys.get_coroutine_origin_tracking_depth() == 0


@DEBUG
def test_source_tracebacks_end_at_the_caller(loop):
    def here():
        return (loop.call_soon(print, ""), loop.call_later(1000, print), loop.call_at(1e9, print),
                loop.call_soon_threadsafe(repr, 1), loop.create_future())

    things = here()
    for thing in things:
        assert "here" in [frame.name for frame in thing._source_traceback[-2:]], thing
    for handle in things[:4]:
        handle.cancel()
    coroutine = asyncio.sleep(0)
    task = loop.create_task(coroutine)
    assert "test_source_tracebacks_end_at_the_caller" in [frame.name for frame in task._source_traceback]
    loop.run_until_complete(task)


@DEBUG
def test_errors_have_the_source_traceback(loop, logged):
    loop.call_soon(lambda: 1 / 0)
    turn(loop)
    (record,) = logged.records
    assert "source_traceback: Object created at (most recent call last):" in record.getMessage() or \
        "created at" in record.getMessage()
    logged.take()


@DEBUG
def test_errors_in_a_protocol_are_logged(loop, logged):
    """The log says what has gone wrong, and with what."""
    class Protocol(asyncio.Protocol):
        def data_received(self, data):
            raise ZeroDivisionError(data)

    transport, peer = pair(loop, Protocol)
    peer.send(b"x")
    turn(loop, 3)
    (record,) = logged.records
    assert "protocol.data_received() call failed." in record.getMessage()
    assert record.exc_info[0] is ZeroDivisionError
    assert transport.is_closing()
    logged.take()
    peer.close()


PROGRAM = """
async def main():
    print(asyncio.get_running_loop().get_debug())
run(main())
"""


@PLAIN
@pytest.mark.parametrize("options, env, expected", [
    ((), {}, False), (("-X", "dev"), {}, True), ((), {"PYTHONASYNCIODEBUG": "1"}, True),
    ((), {"PYTHONDEVMODE": "1"}, True), ((), {"PYTHONASYNCIODEBUG": ""}, False),
    (("-E",), {"PYTHONASYNCIODEBUG": "1"}, False),
], ids=["", "-X dev", "PYTHONASYNCIODEBUG", "PYTHONDEVMODE", "empty", "-E"])
def test_switches(program, options, env, expected):
    assert program(PROGRAM, *options, env=env) == f"{expected}\n"


@PLAIN
def test_slow_poll_and_callback_in_a_program(program):
    done = program("""
        async def main():
            time.sleep(0.15)
        run(main())
        """, "-X", "dev", status=None)
    assert done.returncode == 0
    assert re.search(r"Executing <Task finished .*main\(\).* took 0\.\d+ seconds", done.stderr)


@PLAIN
def test_dev_mode_is_quiet(program):
    """Nothing that runs well has anything warned of."""
    done = program("""
        async def main():
            await asyncio.sleep(0.001)
            await asyncio.gather(*[asyncio.sleep(0) for _ in range(10)])
            await asyncio.to_thread(print, "x")
            reader, writer = None, None
            server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()
        run(main())
        """, "-X", "dev", "-W", "error", status=None)
    assert (done.returncode, done.stdout, done.stderr) == (0, "x\n", "")
