"""add_reader, add_writer and the sock_* methods."""

import asyncio
import contextlib
import gc
import os
import socket
import sys
import time
import weakref

import pytest
from _turns import EACH, settle, turn


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    yield left, right
    left.close()
    right.close()


def turns(loop, condition):
    while not condition():
        loop.call_later(0.0005, loop.stop)
        loop.run_forever()


@pytest.mark.parametrize("as_number", [False, True])
def test_reader(loop, pair, as_number):
    left, right = pair
    calls = []

    def readable(*args):
        calls.append((args, left.recv(10)))

    fd = left.fileno() if as_number else left
    assert loop.add_reader(fd, readable, 1, 2) is None
    turn(loop)
    assert calls == []
    right.send(b"x")
    turns(loop, lambda: calls)
    right.send(b"y")
    turns(loop, lambda: len(calls) == 2)
    assert calls == [((1, 2), b"x"), ((1, 2), b"y")]
    assert loop.remove_reader(fd) is True
    assert loop.remove_reader(fd) is False
    right.send(b"z")
    turn(loop)
    assert len(calls) == 2


@pytest.mark.parametrize("as_number", [False, True])
def test_writer(loop, pair, as_number):
    left, right = pair
    fd = left.fileno() if as_number else left
    calls = []
    assert loop.add_writer(fd, calls.append, 1) is None
    turns(loop, lambda: len(calls) > 2)
    assert loop.remove_writer(fd) is True and loop.remove_writer(fd) is False
    count = len(calls)
    turn(loop)
    assert len(calls) == count


def test_level_triggered(loop, pair):
    """Called again as long as there is something to read."""
    left, right = pair
    calls = []
    loop.add_reader(left, calls.append, 1)
    right.send(b"x")
    turns(loop, lambda: len(calls) >= 5)
    loop.remove_reader(left)


def test_reader_and_writer_on_one(loop, pair):
    left, right = pair
    calls = []
    loop.add_reader(left, lambda: (left.recv(10), calls.append("r")))
    loop.add_writer(left, calls.append, "w")
    right.send(b"x")
    turns(loop, lambda: {"r", "w"} <= set(calls))
    assert loop.remove_writer(left)
    calls.clear()
    right.send(b"x")
    turns(loop, lambda: calls)
    assert calls == ["r"] and loop.remove_reader(left) and not loop.remove_reader(left)


def test_replacing(loop, pair):
    left, right = pair
    calls = []
    loop.add_reader(left, calls.append, "old")
    loop.add_reader(left, lambda: (left.recv(10), calls.append("new")))
    right.send(b"x")
    turns(loop, lambda: calls)
    assert calls == ["new"]
    loop.remove_reader(left)


class Received(asyncio.Protocol):
    def __init__(self):
        self.data = b""

    def data_received(self, data):
        self.data += data


@pytest.mark.parametrize("as_number", [False, True])
async def test_a_transport_takes_the_reader_s_place(loop, pair, as_number):
    left, right = pair
    calls = []

    class Callback:
        def __call__(self):
            calls.append(left.recv(10))

    callback = Callback()
    ref = weakref.ref(callback)
    loop.add_reader(left.fileno() if as_number else left, callback)
    del callback
    transport, received = await loop.create_connection(Received, sock=left)
    right.send(b"x")
    while not received.data:
        await asyncio.sleep(0)
    gc.collect()
    assert calls == [] and received.data == b"x" and ref() is None
    transport.close()


async def test_a_transport_takes_the_writer_s_place(loop, pair):
    left, right = pair
    calls = []
    loop.add_writer(left, calls.append, "writable")
    transport, _ = await loop.create_connection(Received, sock=left)
    while not calls:                        # it has not had to wait for room yet
        await asyncio.sleep(0)
    size = 4 << 20
    transport.write(bytes(size))
    await asyncio.sleep(0)
    calls.clear()
    while size:
        size -= len(await loop.sock_recv(right, 1 << 20))
    assert calls == [] and transport.get_write_buffer_size() == 0
    transport.close()


async def test_a_transport_takes_the_place_of_sock_recv(loop, pair):
    left, right = pair
    task = asyncio.ensure_future(loop.sock_recv(left, 10))
    await asyncio.sleep(0)
    transport, received = await loop.create_connection(Received, sock=left)
    right.send(b"x")
    while not received.data:
        await asyncio.sleep(0)
    assert not task.done() and task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    right.send(b"y")
    while received.data != b"xy":
        await asyncio.sleep(0)
    transport.close()


def test_replaced_and_removed_are_let_go(loop, pair):
    class Thing:
        def __call__(self):
            pass

    left, _ = pair
    for remove in (lambda: loop.remove_reader(left), lambda: loop.add_reader(left, print), lambda: loop.close()):
        thing = Thing()
        ref = weakref.ref(thing)
        loop.add_reader(left, thing)
        turn(loop)
        del thing
        remove()
        gc.collect()
        assert ref() is None


def test_remove_inside_the_callback(loop, pair):
    left, right = pair
    calls = []

    def readable():
        calls.append(1)
        loop.remove_reader(left)

    loop.add_reader(left, readable)
    right.send(b"x")
    turns(loop, lambda: calls)
    turn(loop)
    turn(loop)
    assert calls == [1]


def test_remove_the_other_in_the_same_turn(loop):
    """Two are ready, the first callback removes and closes the other's socket."""
    pairs = [socket.socketpair() for _ in range(2)]
    calls = []

    def readable(mine, other):
        calls.append(1)
        loop.remove_reader(mine)
        loop.remove_reader(other)
        other.close()

    (a, b), (c, d) = pairs
    loop.add_reader(a, readable, a, c)
    loop.add_reader(c, readable, c, a)
    b.send(b"x")
    d.send(b"x")
    turns(loop, lambda: calls)
    turn(loop)
    assert calls == [1]
    for each in (a, b, c, d):
        each.close()


def test_descriptor_that_is_reused(loop):
    """A new socket with the number of an old one gets only its own events."""
    calls = []
    for i in range(20):
        left, right = socket.socketpair()
        loop.add_reader(left, lambda i=i, left=left: (left.recv(10), calls.append(i)))
        right.send(b"x")
        turns(loop, lambda: len(calls) == i + 1)
        loop.remove_reader(left)
        left.close()
        right.close()
    assert calls == list(range(20))


def test_a_closed_object(loop, pair):
    left, _ = pair
    left.close()
    for method in (loop.add_reader, loop.add_writer):
        with pytest.raises(ValueError, match="^Invalid file descriptor: -1$"):
            method(left, print)


@EACH("what", ["reader", "writer"])
def test_a_closed_object_is_found_again(loop, pair, what):
    """By what it was registered as, as selectors do."""
    add, remove = getattr(loop, f"add_{what}"), getattr(loop, f"remove_{what}")
    left, _ = pair
    add(left, print)
    left.close()
    assert remove(left) is True
    with pytest.raises(ValueError, match="^Invalid file descriptor: -1$"):
        remove(left)


def test_a_closed_object_was_registered_for_the_other(loop, pair):
    left, _ = pair
    loop.add_reader(left, print)
    left.close()
    assert loop.remove_writer(left) is False
    assert loop.remove_reader(left) is True


@pytest.mark.only_asyncfast     # on asyncio the first fails, and all is forgotten
def test_a_closed_object_was_registered_for_both(loop, pair):
    left, _ = pair
    loop.add_reader(left, print)
    loop.add_writer(left, print)
    left.close()
    assert loop.remove_reader(left) is True and loop.remove_writer(left) is True


def test_a_closed_object_gets_another_callback(loop, pair):
    """Which nothing will ever call, but the first is let go."""
    class Callback:
        def __call__(self):
            raise AssertionError

    left, _ = pair
    callback = Callback()
    gone = weakref.ref(callback)
    loop.add_reader(left, callback)
    left.close()
    del callback
    loop.add_reader(left, print)
    gc.collect()
    assert gone() is None
    assert loop.remove_reader(left) is True


def test_a_closed_object_is_not_registered_for_more(loop):
    """Its number is another's by now."""
    left, right = socket.socketpair()
    number = left.fileno()
    loop.add_reader(left, print)
    left.close()
    other = os.dup(right.fileno())
    assert other == number
    with pytest.raises(OSError):
        loop.add_writer(left, print)
    assert loop.remove_writer(number) is False
    with contextlib.suppress(ValueError):       # asyncio has forgotten it
        loop.remove_reader(left)
    os.close(other)
    right.close()


@pytest.mark.only_asyncfast     # on asyncio the new one is never told, and the old one's removal takes it out
@EACH("as_number", [False, True])
def test_a_closed_object_whose_number_is_another_s(loop, as_number):
    left, right = socket.socketpair()
    loop.add_reader(left, print)
    number = left.fileno()
    left.close()
    other, peer = socket.socketpair()
    assert other.fileno() == number
    calls = []
    loop.add_reader(number if as_number else other, lambda: calls.append(other.recv(10)))
    with pytest.raises(ValueError):
        loop.remove_reader(left)
    peer.send(b"x")
    turns(loop, lambda: calls)
    assert loop.remove_reader(other) is True
    for each in (right, other, peer):
        each.close()


@pytest.mark.only_asyncfast
async def test_a_closed_object_whose_number_is_received_from(loop):
    left, right = socket.socketpair()
    loop.add_reader(left, print)
    number = left.fileno()
    left.close()
    other, peer = socket.socketpair()
    other.setblocking(False)
    assert other.fileno() == number
    received = loop.create_task(loop.sock_recv(other, 10))
    await asyncio.sleep(0)
    with pytest.raises(ValueError):
        loop.remove_reader(left)
    peer.send(b"x")
    assert await received == b"x"
    for each in (right, other, peer):
        each.close()


def test_what_was_registered_by_its_number_is_not_found_again(loop, pair):
    left, _ = pair
    number = left.fileno()
    loop.add_reader(number, print)
    left.close()
    with pytest.raises(ValueError, match="^Invalid file descriptor: -1$"):
        loop.remove_reader(left)
    assert loop.remove_reader(number) is True


def test_a_closed_file(loop):
    """Not found again: its fileno() raises, and add_reader() asks for that first."""
    read, write = os.pipe()
    file = os.fdopen(read, "rb", buffering=0)
    loop.add_reader(file, print)
    file.close()
    with pytest.raises(ValueError, match="^Invalid file object: "):
        loop.remove_reader(file)
    assert loop.remove_reader(read) is True
    os.close(write)


def test_what_is_registered_is_kept_alive(loop):
    """And let go of when nobody waits for it any more."""
    left, right = socket.socketpair()
    number, gone = left.fileno(), weakref.ref(left)
    calls = []
    loop.add_reader(left, lambda: calls.append(os.read(number, 10)))
    loop.add_writer(left, print)
    loop.remove_writer(left)
    del left
    gc.collect()
    assert gone() is not None
    right.send(b"x")
    turns(loop, lambda: calls)
    with pytest.warns(ResourceWarning):
        assert loop.remove_reader(number) is True
        gc.collect()
    assert gone() is None
    right.close()


def test_an_object_whose_fileno_fails(loop):
    class Closed:
        def fileno(self):
            raise ValueError("I/O operation on closed file")

    for method in (loop.add_reader, loop.add_writer):
        with pytest.raises(ValueError, match="^Invalid file object: "):
            method(Closed(), print)


class File:
    """Something with fileno(), which says or raises what it is given."""

    def __init__(self, answer):
        self.answer = answer

    def fileno(self):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Number:
    def __init__(self, number):
        self.number = number

    def __int__(self):
        return self.number


@pytest.mark.parametrize("kind_of_number", [str, float, Number])
def test_fileno_gives_what_int_makes_a_number_of(loop, pair, kind_of_number):
    left, right = pair
    calls = []
    loop.add_reader(File(kind_of_number(left.fileno())), lambda: calls.append(left.recv(10)))
    right.send(b"x")
    turns(loop, lambda: calls)
    assert loop.remove_writer(File(kind_of_number(left.fileno()))) is False
    assert loop.remove_reader(File(kind_of_number(left.fileno()))) is True
    assert loop.remove_reader(left) is False


@pytest.mark.parametrize("answer", ["x", None, (), AttributeError("x"), TypeError("x"), ValueError("x")])
def test_fileno_gives_no_number(loop, answer):
    for method, *args in ((loop.add_reader, print), (loop.remove_reader,), (loop._add_reader, print)):
        with pytest.raises(ValueError, match="^Invalid file object: <.*File object at"):
            method(File(answer), *args)


def test_fileno_fails_otherwise(loop):
    for method, *args in ((loop.add_reader, print), (loop.remove_reader,), (loop._add_reader, print)):
        with pytest.raises(OSError, match="^gone$"):
            method(File(OSError("gone")), *args)


def test_a_number_too_big_for_a_descriptor(loop):
    for number in (1 << 40, 1 << 80):
        for fd in (number, File(number)):
            with pytest.raises(OverflowError, match="^Python int too large to convert to C "):
                loop.add_reader(fd, print)
            assert loop.remove_reader(fd) is False
        for fd in (-number, File(-number)):
            for method, *args in ((loop.add_reader, print), (loop.remove_reader,)):
                with pytest.raises(ValueError, match=f"^Invalid file descriptor: -{number}$"):
                    method(fd, *args)


def test_a_number_of_no_descriptor(loop):
    """However big, it takes neither time nor memory."""
    for number in ((1 << 31) - 1, 1 << 30):
        with pytest.raises(OSError, match="Bad file descriptor"):
            loop.add_writer(number, print)
        assert loop.remove_writer(number) is False


def test_closed_without_removing(loop, loop_factory):
    """A user's mistake; the next socket with that number must still work."""
    left, right = socket.socketpair()
    number = left.fileno()
    loop.add_reader(left, print)
    turn(loop)
    left.close()
    right.close()
    turn(loop)
    calls = []
    left, right = socket.socketpair()
    if left.fileno() == number:
        loop.remove_reader(number)
    loop.add_reader(left, lambda: (left.recv(10), calls.append(1)))
    right.send(b"x")
    turns(loop, lambda: calls)
    loop.remove_reader(left)
    left.close()
    right.close()


def test_hang_up_wakes_the_reader_and_the_writer(loop, pair):
    left, right = pair
    calls = []
    loop.add_reader(left, lambda: calls.append(left.recv(10)))
    right.close()
    turns(loop, lambda: calls)
    assert calls[0] == b""
    loop.remove_reader(left)
    calls.clear()
    loop.add_writer(left, calls.append, "w")
    turns(loop, lambda: calls)
    loop.remove_writer(left)


def test_pipe(loop):
    read, write = os.pipe()
    calls = []
    loop.add_reader(read, lambda: calls.append(os.read(read, 10)))
    os.write(write, b"x")
    turns(loop, lambda: calls)
    os.close(write)
    turns(loop, lambda: len(calls) > 1)
    assert calls[:2] == [b"x", b""]
    loop.remove_reader(read)
    os.close(read)


@pytest.mark.parametrize("thing", [-1, "x", None, 1.5, object()], ids=str)
def test_bad_descriptors(loop, oracle, outcome, thing):
    for name in ("add_reader", "add_writer"):
        ours, theirs = (outcome(getattr(each, name), thing, print) for each in (loop, oracle))
        assert ours[0] is theirs[0]
    for name in ("remove_reader", "remove_writer"):
        ours, theirs = (outcome(getattr(each, name), thing) for each in (loop, oracle))
        assert ours == theirs if not isinstance(theirs, tuple) else ours[0] is theirs[0]


def test_number_that_is_not_open(loop, oracle, outcome):
    ours, theirs = (outcome(each.add_reader, 987654, print) for each in (loop, oracle))
    assert ours[0] is theirs[0]
    assert loop.remove_reader(987654) is False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what epoll refuses")
def test_regular_file(loop, oracle, outcome, tmp_path):
    with open(tmp_path / "file", "w") as file:
        ours, theirs = (outcome(each.add_writer, file, print) for each in (loop, oracle))
        assert ours == theirs and ours[0] is PermissionError
        assert loop.remove_writer(file) is False


def test_callback_that_fails(loop, pair, errors):
    left, right = pair

    def fail():
        left.recv(10)
        1 / 0

    loop.add_reader(left, fail)
    right.send(b"x")
    turns(loop, lambda: errors)
    assert type(errors[0]["exception"]) is ZeroDivisionError
    loop.remove_reader(left)


def test_callback_that_is_fatal(loop, pair):
    left, right = pair
    loop.add_reader(left, sys.exit, 3)
    right.send(b"x")
    with pytest.raises(SystemExit):
        loop.run_forever()
    loop.remove_reader(left)
    assert loop.run_until_complete(asyncio.sleep(0, "x")) == "x"


def test_many_descriptors(loop):
    pairs = [socket.socketpair() for _ in range(200)]
    got = set()
    for i, (left, right) in enumerate(pairs):
        loop.add_reader(left, lambda i=i, left=left: (left.recv(10), got.add(i)))
    for left, right in pairs:
        right.send(b"x")
    turns(loop, lambda: len(got) == 200)
    for left, right in pairs:
        assert loop.remove_reader(left)
        left.close()
        right.close()


@pytest.mark.parametrize("many, most", [(8, 16), (40, 16), (200, 52)])
def test_a_poll_brings_a_share(loop, kind, many, most):
    """Of those who are ready at once, so that nobody is overtaken by many; and all are served, each before any is again."""
    pairs = [socket.socketpair() for _ in range(many)]
    each = [[]]

    def read(n):
        pairs[n][0].recv(1)
        if not each[-1]:
            loop.call_soon(each.append, [])
        each[-1].append(n)
        pairs[n][1].send(b"y")

    for n, (left, right) in enumerate(pairs):
        loop.add_reader(left, read, n)
        right.send(b"x")
    while sum(map(len, each)) < 4 * many:
        loop.call_soon(loop.stop)
        loop.run_forever()
    served = [n for turn in each for n in turn]
    for at in range(0, 4 * many, many):
        assert sorted(served[at:at + many]) == list(range(many))
    if kind.module is not asyncio:
        assert max(map(len, each)) <= most
    for left, right in pairs:
        loop.remove_reader(left)
        left.close()
        right.close()


def test_callbacks_run_in_the_context_of_the_call(loop, pair):
    import contextvars
    var = contextvars.ContextVar("var", default="default")
    left, right = pair
    seen = []
    var.set("adding")
    loop.add_reader(left, lambda: (left.recv(10), seen.append(var.get())))
    var.set("default")
    right.send(b"x")
    turns(loop, lambda: seen)
    assert seen == ["adding"]
    loop.remove_reader(left)


async def test_ready_callbacks_do_not_starve_io(loop, pair):
    left, right = pair

    def busy():
        if not future.done():
            loop.call_soon(busy)

    future = loop.create_future()
    loop.add_reader(left, lambda: (left.recv(10), future.done() or future.set_result("io")))
    busy()
    loop.call_later(0.001, right.send, b"x")
    assert await future == "io"
    loop.remove_reader(left)


# -- sock_*

async def test_sock_recv_and_sendall(loop, pair):
    left, right = pair
    data = bytes(range(256)) * 10_000
    task = asyncio.ensure_future(loop.sock_sendall(left, data))
    got = b""
    while len(got) < len(data):
        got += await loop.sock_recv(right, 1 << 20)
    await task
    assert got == data
    buffer = bytearray(10)
    await loop.sock_sendall(left, memoryview(b"hello"))
    assert await loop.sock_recv_into(right, buffer) == 5 and buffer[:5] == b"hello"
    left.close()
    assert await loop.sock_recv(right, 10) == b""


async def test_sock_recv_cancelled(loop, pair):
    left, right = pair
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.sock_recv(left, 10), 0.001)
    right.send(b"x")
    assert await loop.sock_recv(left, 10) == b"x"
    assert loop.remove_reader(left) is False


async def test_sock_accept_and_connect(loop):
    with socket.socket() as server, socket.socket() as client:
        server.setblocking(False)
        client.setblocking(False)
        server.bind(("127.0.0.1", 0))
        server.listen()
        accept = asyncio.ensure_future(loop.sock_accept(server))
        await loop.sock_connect(client, server.getsockname())
        connection, address = await accept
        with connection:
            assert address == client.getsockname() and connection.gettimeout() == 0
            await loop.sock_sendall(connection, b"x")
            assert await loop.sock_recv(client, 10) == b"x"


async def test_sock_connect_refused(loop):
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        client.setblocking(False)
        with pytest.raises(ConnectionRefusedError):
            await loop.sock_connect(client, server.getsockname())


async def test_sock_datagrams(loop):
    with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket(type=socket.SOCK_DGRAM) as two:
        for each in (one, two):
            each.setblocking(False)
            each.bind(("127.0.0.1", 0))
        assert await loop.sock_sendto(one, b"x", two.getsockname()) == 1
        assert await loop.sock_recvfrom(two, 10) == (b"x", one.getsockname())
        buffer = bytearray(10)
        await loop.sock_sendto(one, b"yy", two.getsockname())
        assert await loop.sock_recvfrom_into(two, buffer) == (2, one.getsockname())


async def test_sock_sendfile(loop, pair, tmp_path):
    left, right = pair
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 1000)
    with open(path, "rb") as file:
        assert await loop.sock_sendfile(left, file) == 3000
    got = b""
    while len(got) < 3000:
        got += await loop.sock_recv(right, 10_000)
    assert got == b"abc" * 1000


@pytest.mark.kinds("asyncfast-debug", "asyncio-debug")
async def test_blocking_socket_is_refused(loop, pair):
    left, _ = pair
    left.setblocking(True)
    with pytest.raises(ValueError, match="the socket must be non-blocking"):
        await loop.sock_recv(left, 10)


def test_an_event_waits_one_turn_behind_long_callbacks(loop):
    """A busy loop may look for events less than once a turn, but not when turns are long."""
    turns_after_write = []
    reader, writer = os.pipe()

    def busy():
        time.sleep(0.002)
        turns_after_write.append(1)
        if len(turns_after_write) == 5:
            os.write(writer, b"x")
            turns_after_write[:] = [1] * 100
        loop.call_soon(busy)

    loop.add_reader(reader, loop.stop)
    loop.call_soon(busy)
    loop.run_forever()
    loop.remove_reader(reader)
    os.close(reader)
    os.close(writer)
    assert 100 <= len(turns_after_write) <= 102


@EACH("who", ["reader", "transport", "resumed"])
async def test_what_is_there_already_is_found_in_the_next_turn(loop, pair, who):
    """However busy the loop is: data that lies there comes before what the program starts next."""
    left, right = pair
    received = []

    class Receiver(asyncio.Protocol):
        def data_received(self, data):
            received.append(data)

    if who == "resumed":
        transport, _ = await loop.connect_accepted_socket(Receiver, left)
        transport.pause_reading()
    await asyncio.sleep(1e-9)       # it has just polled
    right.send(b"x")
    if who == "reader":
        loop.add_reader(left, lambda: received.append(left.recv(1)))
    elif who == "transport":
        transport, _ = await loop.connect_accepted_socket(Receiver, left)
    else:
        transport.resume_reading()
    await settle(2)
    assert received == [b"x"]
    if who == "reader":
        loop.remove_reader(left)
    else:
        transport.close()
        await settle()


async def test_what_comes_is_found_in_the_next_turn(loop, pair):
    """By a loop that has callbacks to run in every turn, and at the beginning of a burst of them."""
    left, right = pair
    got = []
    loop.add_reader(left, lambda: got.append(left.recv(10)))
    for idle in range(20):
        right.send(b"data")
        await asyncio.sleep(0)      # the poll puts the reader behind this task
        await asyncio.sleep(0)
        assert got.pop() == b"data"
        for _ in range(idle):
            await asyncio.sleep(0)
    loop.remove_reader(left)


def test_closed_while_a_duplicate_lives(loop):
    """The kernel goes on reporting such a descriptor, and nobody can take it out of the set any more."""
    left, right = socket.socketpair()
    fd, calls = left.fileno(), []
    with os.fdopen(os.dup(fd), "rb"), right:
        loop.add_reader(fd, calls.append, 1)
        left.close()
        loop.remove_reader(fd)
        right.send(b"x")
        for _ in range(5):
            loop.call_soon(loop.stop)
            loop.run_forever()
    assert calls == []
