"""loop.sock_recv(), sock_recv_into(), sock_sendall(): coroutines of one object each."""

import asyncio
import collections.abc
import gc
import inspect
import os
import socket
import warnings
import weakref

import pytest

from _turns import idle_turns, settle


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    with left, right:
        yield left, right


async def test_there_already(loop, pair):
    left, right = pair
    right.send(b"hello")
    assert await loop.sock_recv(left, 2) == b"he"
    buffer = bytearray(10)
    assert await loop.sock_recv_into(left, buffer) == 3
    assert buffer[:3] == b"llo"
    assert await loop.sock_sendall(left, memoryview(b"back")) is None
    assert right.recv(10) == b"back"


@pytest.mark.parametrize("n", [0, 1, 70_000, 1 << 20, 1 << 40])
async def test_sizes(loop, pair, n):
    left, right = pair
    right.send(bytes(range(256)) * 10)
    if n == 1 << 40 and "asyncfast" not in type(loop).__module__:
        pytest.skip("asyncio allocates what is asked for")
    if n == 1 << 40 and loop.get_debug():
        pytest.skip("asyncio's own method")
    data = await loop.sock_recv(left, n)
    assert data == (bytes(range(256)) * 10)[:n]


@pytest.mark.parametrize("kind_of_socket", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["stream", "datagrams"])
async def test_nothing_asked_for(loop, kind_of_socket):
    """As the socket's own methods: there is nothing to wait for, and what comes stays."""
    left, right = socket.socketpair(socket.AF_UNIX, kind_of_socket)
    with left, right:
        left.setblocking(False)
        for sent in (b"", b"x"):
            if sent:
                right.send(sent)
            tasks = [loop.create_task(loop.sock_recv(left, 0)), loop.create_task(loop.sock_recv_into(left, bytearray()))]
            await settle()
            assert [task.done() and task.result() for task in tasks] == [b"", 0]
        assert left.recv(10) == b"x"
        right.close()
        assert await loop.sock_recv(left, 0) == b"" and await loop.sock_recv_into(left, bytearray()) == 0


@pytest.fixture
def datagrams():
    """Two Unix sockets that take datagrams of more than 256 KiB."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right:
        right.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        left.setblocking(False)
        size = right.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - 1024
        if size <= 300_000:
            pytest.skip(f"datagrams have {size} bytes at most")
        yield left, right


@pytest.mark.parametrize("method", ["recv", "recvfrom", "recv_into", "recvfrom_into"])
@pytest.mark.parametrize("waits", [False, True])
async def test_large_datagrams(loop, datagrams, method, waits):
    """They come whole: what is left over would be lost."""
    left, right = datagrams
    data = bytes(range(250)) * 1200
    if not waits:
        right.send(data)
    arg = bytearray(1 << 20) if "into" in method else 1 << 20
    task = loop.create_task(getattr(loop, f"sock_{method}")(left, arg))
    if waits:
        await settle()
        right.send(data)
    result = await task
    what = result[0] if "from" in method else result
    assert (arg[:what] if "into" in method else what) == data


@pytest.mark.parametrize("size", [1, 5, 5000, 300_000])
@pytest.mark.parametrize("method", ["recv_into", "recvfrom_into"])
async def test_wherever_the_buffer_begins(loop, pair, size, method):
    """Where a large block begins is the fastest place to receive at on some machines and the slowest on others."""
    left, right = pair
    data = (bytes(range(251)) * 20)[:5000]
    buffer = bytearray(400_000)
    for at in (*range(0, 65, 3), 4064, 4079, 4096):
        right.send(data)
        got = 0
        while got < min(size, len(data)):
            n = await getattr(loop, f"sock_{method}")(left, memoryview(buffer)[at + got:at + size])
            got += n if method == "recv_into" else n[0]
        assert buffer[at:at + got] == data[:got] and not any(buffer[:at]) and not any(buffer[at + got:])
        buffer[at:at + got] = bytes(got)
        while got < len(data):
            got += len(await loop.sock_recv(left, 5000))


async def test_waits(loop, pair):
    left, right = pair
    task = loop.create_task(loop.sock_recv(left, 100))
    await settle()
    assert not task.done()
    right.send(b"x")
    assert await task == b"x"
    buffer = bytearray(3)
    task = loop.create_task(loop.sock_recv_into(left, buffer))
    await settle()
    right.send(b"yz")
    assert await task == 2 and buffer == b"yz\0"
    task = loop.create_task(loop.sock_recv(left, 100))
    await settle()
    right.close()
    assert await task == b""


async def test_megabytes(loop, pair):
    left, right = pair
    data = os.urandom(3 << 20)
    task = loop.create_task(loop.sock_sendall(left, data))
    received = bytearray()
    while len(received) < len(data):
        received += await loop.sock_recv(right, 1 << 18)
    await task
    assert received == data


async def test_both_directions_at_once(loop, pair):
    left, right = pair
    filling = loop.create_task(loop.sock_sendall(left, bytes(2 << 20)))
    waiting = loop.create_task(loop.sock_recv(left, 10))
    await settle()
    assert not filling.done() and not waiting.done()
    right.send(b"answer")
    assert await waiting == b"answer"
    got = 0
    while got < 2 << 20:
        got += len(await loop.sock_recv(right, 1 << 18))
    await filling


async def test_ping_pong(loop, pair):
    left, right = pair

    async def answer():
        while data := await loop.sock_recv(right, 100):
            await loop.sock_sendall(right, data.upper())

    task = loop.create_task(answer())
    for i in range(200):
        await loop.sock_sendall(left, b"m%d" % i)
        assert await loop.sock_recv(left, 100) == b"M%d" % i
    left.shutdown(socket.SHUT_WR)
    await task


async def test_cancelled_loses_nothing(loop, pair):
    left, right = pair
    for _ in range(3):
        task = loop.create_task(loop.sock_recv(left, 100))
        await settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    right.send(b"data")
    assert await loop.sock_recv(left, 100) == b"data"


async def test_cancelled_twice_before_it_runs(loop, pair):
    """What it raises says why it was cancelled first."""
    task = loop.create_task(loop.sock_recv(pair[0], 10))
    await asyncio.sleep(0)
    assert task.cancel("first") and task.cancel("second")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("first",) and task.cancelling() == 2


@pytest.mark.only_asyncfast
@pytest.mark.kinds("asyncfast")
async def test_cancelled_after_the_data_came(loop, pair):
    """asyncio has read it by then."""
    left, right = pair
    task = loop.create_task(loop.sock_recv(left, 100))
    await settle()
    right.send(b"data")
    loop.call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await loop.sock_recv(left, 100) == b"data"


async def test_timeouts(loop, pair):
    left, right = pair
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(loop.sock_recv(left, 1), 0.001)
    right.send(b"x")
    assert await asyncio.wait_for(loop.sock_recv(left, 1), 10) == b"x"


@pytest.mark.parametrize("call", [
    lambda loop, sock: loop.sock_recv(sock, "x"),
    lambda loop, sock: loop.sock_recv(sock, -1),
    lambda loop, sock: loop.sock_recv(sock, 1.5),
    lambda loop, sock: loop.sock_recv_into(sock, b"constant"),
    lambda loop, sock: loop.sock_recv_into(sock, 7),
    lambda loop, sock: loop.sock_sendall(sock, "text"),
    lambda loop, sock: loop.sock_sendall(sock, None),
    lambda loop, sock: loop.sock_recv(sock),
    lambda loop, sock: loop.sock_recv(sock, 1, 2),
    lambda loop, sock: loop.sock_recv(None, 1),
    lambda loop, sock: loop.sock_recv(sock=sock, n=b""),
])
def test_wrong_arguments(kind, call):
    """The same error as on asyncio."""
    def error(loop):
        left, right = socket.socketpair()
        left.setblocking(False)
        try:
            with left, right, pytest.raises((TypeError, ValueError, AttributeError, BufferError)) as info:
                loop.run_until_complete(call(loop, left))
        finally:
            loop.close()
        return info.type, str(info.value).replace("BaseSelectorEventLoop.", "")

    ours, theirs = kind.new_event_loop(), asyncio.SelectorEventLoop()
    theirs.set_debug(ours.get_debug())
    assert error(ours) == error(theirs)


async def test_closed_socket(loop, pair):
    left, _ = pair
    left.close()
    for coroutine in (loop.sock_recv(left, 1), loop.sock_recv_into(left, bytearray(1)), loop.sock_sendall(left, b"x")):
        with pytest.raises(OSError, match="Bad file descriptor"):
            await coroutine


async def test_peer_gone(loop, pair):
    left, right = pair
    right.close()
    with pytest.raises(BrokenPipeError):
        for _ in range(10):
            await loop.sock_sendall(left, bytes(1 << 20))


async def test_closed_and_its_number_used_again(loop):
    """Between two calls: the new socket is watched, whatever the kernel was told about the old one."""
    for _ in range(5):
        left, right = socket.socketpair()
        left.setblocking(False)
        task = loop.create_task(loop.sock_recv(left, 10))
        await settle()
        right.send(b"x")
        assert await task == b"x"
        left.close()
        right.close()


async def test_socket_of_a_transport(loop):
    left, right = socket.socketpair()
    transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, left)
    sock = transport._sock
    with pytest.raises(RuntimeError, match="is used by transport"):
        await loop.sock_recv(sock, 1)
    transport.close()
    right.close()
    await settle()


async def test_reader_and_recv(loop, pair):
    left, right = pair
    calls = []
    loop.add_reader(left, calls.append, 1)
    task = loop.create_task(loop.sock_recv(left, 10))       # pushes the reader aside, as on asyncio
    await settle()
    right.send(b"x")
    assert await task == b"x" and calls == []
    loop.add_reader(left, calls.append, 2)
    right.send(b"y")
    while 2 not in calls:
        await asyncio.sleep(0)
    loop.remove_reader(left)


@pytest.mark.kinds("asyncfast")
async def test_is_a_coroutine(loop, pair):
    left, right = pair
    coroutine = loop.sock_recv(left, 1)
    assert asyncio.iscoroutine(coroutine) and isinstance(coroutine, collections.abc.Coroutine)
    assert inspect.isawaitable(coroutine) and "sock_recv" in repr(coroutine) and coroutine.__name__ == "sock_recv"
    assert coroutine.__qualname__ == "BaseSelectorEventLoop.sock_recv" in repr(coroutine)
    right.send(b"ab")
    assert await asyncio.gather(coroutine, loop.sock_recv(left, 1)) == [b"a", b"b"]
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        await coroutine
    closed = loop.sock_recv(left, 1)
    closed.close()
    with pytest.raises(RuntimeError):
        await closed
    thrown = loop.sock_recv(left, 1)
    with pytest.raises(ZeroDivisionError):
        thrown.throw(ZeroDivisionError())
    for ended in (coroutine, closed, thrown):
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            ended.throw(ZeroDivisionError())
        assert ended.close() is None


async def test_never_awaited(loop, pair):
    left, _ = pair
    with pytest.warns(RuntimeWarning, match="sock_recv' was never awaited"):
        loop.sock_recv(left, 1)
        gc.collect()


async def test_by_another_task_type(loop, pair):
    """asyncio's own Task waits for it as well."""
    left, right = pair
    loop.set_task_factory(lambda loop, coro, **kwargs: asyncio.tasks._PyTask(coro, loop=loop, **kwargs))
    task = loop.create_task(loop.sock_recv(left, 10))
    await settle()
    right.send(b"x")
    assert await task == b"x"
    loop.set_task_factory(None)


async def test_cancelled_by_another_task_type(loop, pair):
    left, right = pair
    loop.set_task_factory(lambda loop, coro, **kwargs: asyncio.tasks._PyTask(coro, loop=loop, **kwargs))
    task = loop.create_task(loop.sock_recv(left, 10))
    await settle()
    task.cancel()
    right.send(b"x")
    with pytest.raises(asyncio.CancelledError):
        await task
    loop.set_task_factory(None)
    assert await loop.sock_recv(left, 10) == b"x"


@pytest.mark.kinds("asyncfast")
def test_driven_by_hand(loop, pair):
    """What it yields is a future to whoever drives it."""
    left, right = pair
    coroutine = loop.sock_recv(left, 10)
    waits = coroutine.send(None)
    assert asyncio.isfuture(waits) and waits._asyncio_future_blocking and waits.get_loop() is loop
    with pytest.raises(asyncio.InvalidStateError):
        waits.result()
    called = []
    waits._asyncio_future_blocking = False
    waits.add_done_callback(called.append)
    right.send(b"x")
    while not called:
        loop._run_once()
    assert called == [waits] and waits.result() is None and not waits.cancel()
    with pytest.raises(StopIteration) as info:
        coroutine.send(None)
    assert info.value.value == b"x"


@pytest.mark.kinds("asyncfast")
def test_sent_to_too_early(loop, pair):
    coroutine = loop.sock_recv(pair[0], 10)
    coroutine.send(None)
    with pytest.raises(RuntimeError, match="await wasn't used with future"):
        coroutine.send(None)
    assert not loop.remove_reader(pair[0])


def test_what_is_left_wakes_nobody(loop, pair):
    """The loop sleeps though there is more, which comes to whoever asks next."""
    left, right = pair
    right.send(b"ab")
    task = loop.create_task(loop.sock_recv(left, 1))
    loop.run_until_complete(settle())
    waited = loop.create_task(loop.sock_recv(left, 1))
    loop.run_until_complete(waited)
    waited = loop.create_task(loop.sock_recv(left, 1))
    loop.run_until_complete(settle())
    right.send(b"cd")
    assert loop.run_until_complete(waited) == b"c" and task.result() == b"a"
    assert idle_turns(loop) < 10
    assert loop.run_until_complete(loop.sock_recv(left, 10)) == b"d"


def test_many_on_a_busy_loop(loop):
    """More than one look at the kernel brings, and looks before those that it woke have run."""
    pairs = [socket.socketpair() for _ in range(300)]
    for left, _ in pairs:
        left.setblocking(False)

    async def count(sock):
        return [await loop.sock_recv(sock, 1) for _ in range(3)]

    def busy():
        for _ in range(100):
            loop.call_soon(int)
        loop.call_soon(busy)

    busy()
    tasks = [loop.create_task(count(left)) for left, _ in pairs]
    for n in range(3):
        loop.run_until_complete(settle())
        for _, right in pairs:
            right.send(b"%d" % n)
    assert loop.run_until_complete(asyncio.gather(*tasks)) == [[b"0", b"1", b"2"]] * len(pairs)
    for both in pairs:
        for sock in both:
            sock.close()


@pytest.mark.parametrize("aside", [False, True], ids=["waits", "pushed aside"])
def test_a_waiting_one_is_collected_with_its_loop(kind, aside):
    left, right = socket.socketpair()
    left.setblocking(False)
    loop = kind.new_event_loop()
    task = loop.create_task(loop.sock_recv(left, 10))
    loop.run_until_complete(settle())
    if aside:
        loop.add_reader(left, print)
        loop.remove_reader(left)
    ref = weakref.ref(loop)
    loop.close()
    task._log_destroy_pending = False
    with left, right, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del task, loop
        gc.collect()
        assert ref() is None
