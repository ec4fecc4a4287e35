"""asyncio's own streams on our loop, which C works on once a transport has seen them: nobody can tell.

What they do is asked in test_streams.py; here is what they look like, and that whatever a program changes takes effect.
"""

import asyncio
import copy
import inspect
import socket
import types
import weakref
from unittest import mock

import pytest
from _turns import EACH, turn, until

from asyncfast import _streams


class Pair:
    """Streams on one end of a pair of sockets, which have been read from and written to."""

    def __init__(self, loop, reader=asyncio.StreamReader, protocol=asyncio.StreamReaderProtocol, writer=asyncio.StreamWriter):
        self.loop, self.reader = loop, reader(loop=loop)
        self.protocol = protocol(self.reader, loop=loop)
        sock, self.peer = socket.socketpair()
        sock.setblocking(False)
        self.transport, _ = loop.run_until_complete(loop.connect_accepted_socket(lambda: self.protocol, sock))
        self.writer = writer(self.transport, self.protocol, self.reader, loop)
        self.feed(b"!")
        self.run(self.reader.read(1))
        self.writer.write(b"?")
        self.run(self.writer.drain())
        assert self.peer.recv(10) == b"?"

    def run(self, awaitable):
        return self.loop.run_until_complete(awaitable)

    def feed(self, data):
        self.peer.sendall(data)
        size = len(self.reader._buffer)
        until(self.loop, lambda: len(self.reader._buffer) == size + len(data))

    def end(self):
        self.transport.abort()
        turn(self.loop, 2)
        self.peer.close()


@pytest.fixture
def pairs(loop):
    made = []

    def pairs(**classes):
        made.append(Pair(loop, **classes))
        return made[-1]

    yield pairs
    for each in made:
        each.end()


@pytest.fixture
def pair(pairs):
    return pairs()


METHODS = [("reader", name) for name in ("read", "readexactly", "readuntil", "readline")] + [("writer", "write"), ("writer", "drain")]
CLASSES = {"reader": asyncio.StreamReader, "writer": asyncio.StreamWriter}


@pytest.mark.only_asyncfast
def test_streams_are_seen(pair):
    assert type(pair.reader) is _streams.AsyncioReader
    assert type(pair.writer) is _streams.AsyncioWriter


@EACH("which, name", METHODS)
def test_an_attribute_is_asyncios_method(pair, which, name):
    stream, function = getattr(pair, which), vars(CLASSES[which])[name]
    method = getattr(stream, name)
    assert type(method) is types.MethodType and method.__func__ is function and method.__self__ is stream
    assert method == getattr(stream, name)
    assert getattr(type(stream), name) is function
    assert inspect.iscoroutinefunction(method) is (name != "write")
    assert inspect.signature(method) == inspect.signature(types.MethodType(function, stream))


@EACH("which", ["reader", "writer"])
def test_a_stream_passes_for_asyncios(pair, which):
    stream, cls = getattr(pair, which), CLASSES[which]
    assert isinstance(stream, cls) and stream.__class__ is cls
    assert (type(stream).__name__, type(stream).__qualname__, type(stream).__module__) == (cls.__name__, cls.__qualname__, cls.__module__)
    assert repr(stream).startswith(f"<{cls.__name__}")
    assert weakref.ref(stream)() is stream
    assert set(dir(stream)) == set(dir(cls)) | set(vars(stream))
    spec = mock.create_autospec(stream, instance=True)
    assert isinstance(spec, cls) and isinstance(getattr(spec, "read" if which == "reader" else "drain"), mock.AsyncMock)


def test_a_copy_reads_too(pair):
    other = copy.copy(pair.reader)
    pair.feed(b"data")
    assert pair.run(other.read(2)) == b"da" and pair.run(pair.reader.read(10)) == b"ta"


def test_coroutines(pair):
    read = pair.reader.read(3)
    assert asyncio.iscoroutine(read) and inspect.isawaitable(read) and read.__qualname__ == "StreamReader.read"
    pair.feed(b"abc")
    assert pair.run(read) == b"abc"
    with pytest.warns(RuntimeWarning, match=r"coroutine 'StreamReader.readline' was never awaited"):
        pair.reader.readline()


@EACH("which, name", [*METHODS, ("reader", "feed_data"), ("reader", "_wait_for_data"), ("reader", "exception"),
                      ("reader", "_maybe_resume_transport"), ("protocol", "_drain_helper"), ("protocol", "data_received")])
@EACH("where", ["class", "instance"])
def test_a_patch_takes_effect(pair, which, name, where):
    stream = getattr(pair, which)
    cls = {**CLASSES, "protocol": asyncio.StreamReaderProtocol}[which]
    usual = getattr(cls, name)
    calls = []

    def patched(*args, **kwargs):
        calls.append(name)
        return usual(*args, **kwargs)

    async def talk():
        reading = asyncio.ensure_future(pair.reader.read(3))
        await asyncio.sleep(0)
        pair.peer.sendall(b"abcdef\nuntil\n")
        seen = [await reading, await pair.reader.readexactly(2), await pair.reader.readline(), await pair.reader.readuntil()]
        pair.writer.write(b"data")
        await pair.writer.drain()
        return [*seen, pair.peer.recv(10)]

    told = [b"abc", b"de", b"f\n", b"until\n", b"data"]
    target = cls if where == "class" else stream
    with mock.patch.object(target, name, patched if where == "class" else lambda *args: patched(stream, *args)):
        assert pair.run(talk()) == told
    assert calls
    before = len(calls)
    assert pair.run(talk()) == told and len(calls) == before


def test_a_transports_own_write(pair):
    pair.transport.write = mock.Mock(return_value=5)
    assert pair.writer.write(b"data") is None
    pair.transport.write.assert_called_once_with(b"data")


def test_an_attribute_of_the_programs(pair):
    pair.reader.peer = "somebody"
    pair.feed(b"line\n")
    assert pair.run(pair.reader.readline()) == b"line\n"


class Reader(asyncio.StreamReader):
    async def read(self, n=-1):
        return b"<" + await super().read(n)


class Protocol(asyncio.StreamReaderProtocol):
    pass


class Writer(asyncio.StreamWriter):
    def write(self, data):
        super().write(data + b">")


def test_subclasses_stay_what_they_are(pairs):
    each = pairs(reader=Reader, protocol=Protocol)
    assert type(each.reader) is Reader and type(each.protocol) is Protocol
    each.feed(b"data")
    assert each.run(each.reader.read(4)) == b"<data"


def test_a_reader_that_is_dropped(pair):
    gone = weakref.ref(pair.reader)
    pair.writer._reader = None
    del pair.reader
    assert gone() is None and pair.protocol._stream_reader is None


def test_drain_takes_no_turn_unless_the_transport_is_closing(pair):
    def turns():
        task, count = pair.loop.create_task(pair.writer.drain()), 0
        while not task.done():
            turn(pair.loop)
            count += 1
        return count, task.exception()

    assert turns() == (1, None)
    pair.writer.close()
    count, _ = turns()
    assert count == 2
    turn(pair.loop, 2)
    count, error = turns()
    assert count == 2 and type(error) is ConnectionResetError and str(error) == "Connection lost"


def test_drain_raises_what_the_reader_has(pair):
    error = ZeroDivisionError("why")
    pair.reader.set_exception(error)
    with pytest.raises(ZeroDivisionError) as caught:
        pair.run(pair.writer.drain())
    assert caught.value is error


def test_drain_waits_while_the_protocol_is_paused(pair):
    pair.protocol.pause_writing()
    task = pair.loop.create_task(pair.writer.drain())
    turn(pair.loop, 3)
    assert not task.done()
    pair.protocol.resume_writing()
    turn(pair.loop, 2)
    assert task.done()


def test_a_class_patched_while_somebody_waits(pair):
    task = pair.loop.create_task(pair.reader.readexactly(6))
    turn(pair.loop)
    pair.feed(b"abc")
    turn(pair.loop, 2)
    with mock.patch.object(asyncio.StreamReader, "_maybe_resume_transport", autospec=True) as resume:
        pair.peer.sendall(b"def")
        assert pair.run(task) == b"abcdef"
    resume.assert_called_once_with(pair.reader)


@EACH("name", ["read", "readexactly", "readuntil", "readline"])
def test_what_waits_is_what_was_called(pair, name):
    """Whatever is patched, its coroutine has begun already."""
    coroutine = {"read": lambda: pair.reader.read(6), "readexactly": lambda: pair.reader.readexactly(6),
                 "readuntil": lambda: pair.reader.readuntil(), "readline": lambda: pair.reader.readline()}[name]()
    task = pair.loop.create_task(coroutine)
    turn(pair.loop)
    with mock.patch.object(asyncio.StreamReader, name):
        pair.peer.sendall(b"abcde\n")
        assert pair.run(task) == b"abcde\n"
