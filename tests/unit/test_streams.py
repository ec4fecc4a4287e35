"""Streams: asyncio's classes and ours, on asyncio's loop and on ours.

Nearly all of it is a question to each pair of a loop and the module whose streams are used on it: the same is done, and all
that can be seen has to be what asyncio's streams on asyncio's loop show.
"""

import asyncio
import collections.abc
import gc
import inspect
import random
import socket
import ssl
import sys
import types
import weakref

import pytest
from _tls_pair import client_context, server_context
from _turns import ADDRESS, BIG, EACH, settle, turn, until

import asyncfast
from asyncfast import _streams

MODULES = EACH("module", [asyncio, asyncfast], ids=lambda module: module.__name__)

#: asyncio's streams as they are once a transport of ours has seen them.
SEEN = types.SimpleNamespace(**{**vars(asyncio), "__name__": "asyncio, seen", "StreamReader": _streams.AsyncioReader,
                                "StreamWriter": _streams.AsyncioWriter})


class Transport(asyncio.Transport):
    """Writes down what a stream asks of it."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def pause_reading(self):
        self.calls.append("pause")

    def resume_reading(self):
        self.calls.append("resume")

    def is_closing(self):
        return True         # or a writer that nobody needs any more closes it


@pytest.fixture
def every(loop, oracle):
    """every(play) calls play(loop, module) for each pair of a loop and the streams on it, and asserts that all give the same."""
    def every(play):
        expected = play(oracle, asyncio)
        for each, module in ((loop, asyncio), (loop, asyncfast), (oracle, asyncfast), (loop, SEEN), (oracle, SEEN)):
            assert play(each, module) == expected, f"{module.__name__}'s streams on {type(each)}"
        return expected

    return every


def result_of(task):
    """Of a task that is done: its result or its exception, so that it can be compared."""
    if task.cancelled():
        return "cancelled"
    exc = task.exception()
    return task.result() if exc is None else described(exc)


def described(exc):
    facts = [type(exc), ADDRESS.sub("0x", str(exc)), exc.args if isinstance(exc, asyncio.IncompleteReadError) else None]
    return [*facts, described(exc.__context__) if exc.__context__ is not None else None]


def facts(reader):
    waiter = reader._waiter
    return (bytes(reader._buffer), reader._eof, reader._paused, reader.at_eof(), repr(reader.exception()), waiter is None,
            reader._limit, ADDRESS.sub("0x", repr(reader)) if waiter is None and reader._transport is None else None)


# -- the reader by itself

READS = {
    "read": lambda r, n: r.read(n), "read all": lambda r, n: r.read(), "readexactly": lambda r, n: r.readexactly(n),
    "readline": lambda r, n: r.readline(), "until ;": lambda r, n: r.readuntil(b";"), "until ab": lambda r, n: r.readuntil(b"ab"),
    "next": lambda r, n: anext(r),
}


async def awaited(awaitable):
    return await awaitable


def played(loop, module, seed, steps=60):
    """A reader's life, in steps that the seed chooses; one coroutine waits at most, or a second one is told off."""
    choose = random.Random(seed)
    reader, transport = module.StreamReader(limit=choose.choice([1, 8, 20, 100]), loop=loop), Transport()
    if choose.random() < 0.8:
        reader.set_transport(transport)
    seen, waiting = [], []
    for _ in range(steps):
        what = choose.choice(["feed", "feed", "feed", "feed one", *READS, "cancel", "turn", "late"])
        if what == "late" and choose.random() < 0.1:
            what = choose.choice(["eof", "error"])
        if what.startswith("feed") and not reader._eof:
            reader.feed_data(bytes(choose.choices(b"ab;\n", k=1 if what == "feed one" else choose.randrange(40))))
        elif what == "eof":
            reader.feed_eof()
        elif what == "error":
            reader.set_exception(choose.choice([ZeroDivisionError("why"), asyncio.IncompleteReadError(b"part", 9),
                                                asyncio.LimitOverrunError("over", 2)]))
        elif what == "cancel" and waiting:
            waiting[-1].cancel()
        elif what in READS:
            waiting.append(loop.create_task(awaited(READS[what](reader, choose.randrange(0, 30)))))
        turn(loop, choose.randrange(1, 4))
        done = [task for task in waiting if task.done()]
        waiting = [task for task in waiting if not task.done()]
        seen.append((what, facts(reader), [result_of(task) for task in done], len(waiting), transport.calls[:]))
    for task in waiting:
        task.cancel()
    turn(loop, 2)
    return seen


@EACH("seed", range(60))
def test_a_life_of_a_reader(every, seed):
    every(lambda loop, module: played(loop, module, seed))


CALLS = {
    "read nothing": lambda r: r.read(0), "read text": lambda r: r.read("1"), "read a float": lambda r: r.read(1.5),
    "read True": lambda r: r.read(True), "read a lot": lambda r: r.read(10**30), "read -5": lambda r: r.read(-5),
    "exactly -1": lambda r: r.readexactly(-1), "exactly 0": lambda r: r.readexactly(0),
    "exactly text": lambda r: r.readexactly("1"), "exactly too much": lambda r: r.readexactly(100),
    "until nothing": lambda r: r.readuntil(b""), "until text": lambda r: r.readuntil("e"), "until 5": lambda r: r.readuntil(5),
    "until bytearray": lambda r: r.readuntil(bytearray(b"l")), "until by name": lambda r: r.readuntil(separator=b"el"),
    "until any": lambda r: r.readuntil((b"lo", b"l")), "until none of": lambda r: r.readuntil(()),
    "until one empty": lambda r: r.readuntil((b"", b"l")), "until far": lambda r: r.readuntil(b"d"),
    "by name": lambda r: r.read(n=3), "exactly by name": lambda r: r.readexactly(n=3), "line": lambda r: r.readline(),
}


@EACH("name", CALLS)
@EACH("error", [None, ZeroDivisionError("why"), ZeroDivisionError, "no exception"], ids=["", "instance", "class", "text"])
def test_arguments(every, name, error):
    def play(loop, module):
        reader = module.StreamReader(limit=8, loop=loop)
        reader.feed_data(b"hello\nwonderful")
        reader.feed_eof()
        if error is not None:
            reader.set_exception(error)
        task = loop.create_task(awaited(CALLS[name](reader)))
        turn(loop, 3)
        return result_of(task), facts(reader)

    every(play)


def test_a_wrong_number_of_arguments(every, outcome):
    def play(loop, module):
        reader = module.StreamReader(loop=loop)
        return [outcome(call)[0] for call in (
            lambda: reader.read(1, 2), lambda: reader.read(m=1), lambda: reader.readexactly(), lambda: reader.readline(1),
            lambda: reader.readuntil(b"a", b"b"), lambda: reader.feed_data(), lambda: reader.feed_data(b"", 1),
            lambda: reader.feed_data(date=b""), lambda: reader.feed_eof(1), lambda: module.StreamReader(1, loop, 2),
            lambda: module.StreamReader(line=2))]

    assert every(play) == [TypeError] * 11


@EACH("limit", [0, -1, "1", None, 1, 2**16, 10**30, 2.5], ids=str)
def test_limits(every, outcome, limit):
    def play(loop, module):
        made = outcome(module.StreamReader, limit=limit, loop=loop)
        if isinstance(made, tuple):
            return made
        made.set_transport(Transport())
        for n in range(10):
            made.feed_data(b"x")
        return made._limit, made._transport.calls, made._paused

    every(play)


@EACH("data", [b"", b"abc", bytearray(b"abc"), memoryview(b"abc"), [97, 98], "abc", 5, None], ids=repr)
@EACH("late", [False, True])
def test_feed_data(every, outcome, data, late):
    def play(loop, module):
        reader = module.StreamReader(loop=loop)
        if late:
            reader.feed_eof()
        return outcome(reader.feed_data, data), facts(reader)

    every(play)


def test_a_transport_that_cannot_be_paused_is_not_asked_again(every):
    class Unpausable(asyncio.Transport):
        asked = 0

        def pause_reading(self):
            self.asked += 1
            raise NotImplementedError

    def play(loop, module):
        reader, transport = module.StreamReader(limit=1, loop=loop), Unpausable()
        reader.set_transport(transport)
        for _ in range(5):
            reader.feed_data(b"xx")
        return transport.asked, reader._transport, facts(reader)

    assert every(play)[0] == 1


def test_what_looks_at_the_buffer_keeps_it_from_changing(every, outcome):
    def play(loop, module):
        reader = module.StreamReader(loop=loop)
        reader.feed_data(b"some data")
        view = memoryview(reader._buffer)
        seen = [outcome(reader.feed_data, b"more")]
        task = loop.create_task(awaited(reader.read(4)))
        turn(loop, 2)
        seen += [result_of(task)[:2], bytes(reader._buffer)]
        view.release()
        reader.feed_data(b" and more")
        del reader._buffer[:5]
        reader._buffer.extend(b"!")
        task = loop.create_task(awaited(reader.read(100)))
        turn(loop, 2)
        return seen, result_of(task)

    assert every(play)[1] == b"data and more!"


def test_the_buffer_under_all_sizes(loop):
    """What goes in comes out, and what has gone is given back."""
    choose = random.Random(1)
    reader = asyncfast.StreamReader(limit=2**30, loop=loop)
    fed = bytearray(choose.randbytes(3_000_000))
    sent = got = 0
    while got < len(fed):
        n = min(choose.choice([1, 10, 1000, 9000, 100_000]), len(fed) - sent)
        reader.feed_data(bytes(fed[sent:sent + n]))
        sent += n
        for _ in range(choose.randrange(4)):
            n = min(choose.choice([1, 10, 1000, 9000, 100_000]), sent - got)
            with pytest.raises(StopIteration) as stop:
                reader.readexactly(n).send(None)
            assert stop.value.value == fed[got:got + n]
            got += n
            assert reader._buffer.__alloc__() <= max(4 * len(reader._buffer), len(reader._buffer) + 400_000)
        assert len(reader._buffer) == sent - got
    assert reader._buffer.__alloc__() <= 16 * 1024


@MODULES
def test_attributes_and_classes(loop, module):
    reader = module.StreamReader(loop=loop)
    protocol = module.StreamReaderProtocol(reader, loop=loop)
    writer = module.StreamWriter(Transport(), protocol, reader, loop)
    assert isinstance(reader, asyncio.StreamReader) and isinstance(writer, asyncio.StreamWriter)
    assert isinstance(protocol, asyncio.StreamReaderProtocol) and issubclass(module.StreamReader, asyncio.StreamReader)
    assert (reader._loop, reader._limit, reader._buffer, reader._eof, reader._paused) == (loop, 2**16, bytearray(), False, False)
    assert (reader._waiter, reader._exception, reader._transport) == (None, None, None)
    assert (writer._loop, writer._reader, writer._protocol, writer.transport) == (loop, reader, protocol, writer._transport)
    assert writer._complete_fut.done() and protocol._stream_reader is reader
    reader.anything = writer.anything = protocol.anything = 5
    reader._eof, reader._paused, reader._limit = True, True, 7
    assert (reader.at_eof(), reader._paused, reader._limit) == (True, True, 7)
    for obj in (reader, writer, protocol):
        assert weakref.ref(obj)() is obj and obj.__dict__["anything"] == 5


@EACH("name", ["read", "readexactly", "readuntil", "readline", "feed_data", "feed_eof", "at_eof", "exception", "set_exception",
               "set_transport"])
def test_signatures_of_readers(name):
    ours, theirs = (inspect.signature(getattr(cls, name)) for cls in (asyncfast.StreamReader, asyncio.StreamReader))
    assert [(p.name, p.default) for p in ours.parameters.values()] == [(p.name, p.default) for p in theirs.parameters.values()]


@EACH("name", ["write", "writelines", "drain", "close", "wait_closed", "start_tls", "get_extra_info", "write_eof"])
def test_signatures_of_writers(name):
    ours, theirs = (inspect.signature(getattr(cls, name)) for cls in (asyncfast.StreamWriter, asyncio.StreamWriter))
    assert [(p.name, p.default) for p in ours.parameters.values()] == [(p.name, p.default) for p in theirs.parameters.values()]


@pytest.mark.only_asyncfast
def test_what_a_buffer_cannot_be(loop):
    reader = asyncfast.StreamReader(loop=loop)
    reader._buffer = bytearray(b"abc")
    for wrong in (b"abc", None, []):
        with pytest.raises(TypeError):
            reader._buffer = wrong
    with pytest.raises(TypeError):
        del reader._buffer
    with pytest.raises(AttributeError):
        del reader._limit
    with pytest.raises(TypeError):
        reader._limit = "a lot"
    assert reader._buffer == b"abc" and reader._limit == 2**16


def test_a_subclass_is_asked(every):
    def play(loop, module):
        class Reader(module.StreamReader):
            async def readuntil(self, separator=b"\n"):
                return (await super().readuntil(b";"), separator)

            async def read(self, n=-1):
                return await super().read(min(n, 2) if n > 0 else n)

        reader = Reader(loop=loop)
        reader.feed_data(b"a;bcdef;g")
        reader.feed_eof()

        async def use():
            return [await reader.readline(), await reader.read(5), await reader.readexactly(1), await anext(reader),
                    await reader.read()]
        return loop.run_until_complete(use())

    assert every(play) == [(b"a;", b"\n"), b"bc", b"d", (b"ef;", b"\n"), b"g"]


# -- what the methods return

@MODULES
def test_they_are_coroutines(loop, module):
    reader = module.StreamReader(loop=loop)

    async def use():
        calls = [reader.readline(), reader.readexactly(2), reader.readuntil(b";"), reader.read(3)]
        assert all(asyncio.iscoroutine(coro) and isinstance(coro, collections.abc.Coroutine) for coro in calls)
        reader.feed_data(b"line\n12until;")
        task = loop.create_task(calls[0], name="first")
        assert "readline" in repr(task)
        got = [await task, *await asyncio.gather(*calls[1:3])]
        loop.call_soon(reader.feed_data, b"abcdef")
        got.append(await asyncio.wait_for(calls[3], 30))
        got.append(await asyncio.ensure_future(reader.read(1)))
        async with asyncio.timeout(30):
            got.append(await reader.read(1))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(10), 0.001)
        got.append(await asyncio.shield(reader.read(10)))
        async with asyncio.TaskGroup() as group:
            last = group.create_task(reader.read(1))
            loop.call_soon(reader.feed_data, b"g")
        return [*got, last.result()]

    assert loop.run_until_complete(use()) == [b"line\n", b"12", b"until;", b"abc", b"d", b"e", b"f", b"g"]


@MODULES
def test_a_coroutine_by_hand(loop, module):
    reader = module.StreamReader(loop=loop)
    coro = reader.read(5)
    with pytest.raises(TypeError, match="can't send non-None value to a just-started coroutine"):
        coro.send(5)
    future = coro.send(None)
    assert future is reader._waiter and future._asyncio_future_blocking
    with pytest.raises(ZeroDivisionError):
        coro.throw(ZeroDivisionError)
    assert reader._waiter is None
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        coro.send(None)
    coro = reader.readline()
    assert coro.__name__ == "readline" and coro.__qualname__ == "StreamReader.readline"
    coro.send(None)
    coro.close()
    coro.close()
    assert reader._waiter is None
    coro = reader.readexactly(5)
    coro.send(None)
    with pytest.raises(RuntimeError, match="await wasn't used with future"):
        coro.send(None)
    coro = reader.read(5)
    coro.close()                    # not started
    coro = reader.read(5)
    with pytest.raises(KeyError):
        coro.throw(KeyError("why"))
    coro = reader.read(5)
    coro.send(None)
    del coro                        # while it waits
    gc.collect()
    assert reader._waiter is None


@MODULES
def test_what_is_never_awaited_says_so(loop, module):
    reader = module.StreamReader(loop=loop)
    with pytest.warns(RuntimeWarning, match="coroutine 'StreamReader.readline' was never awaited"):
        reader.readline()
        gc.collect()
    coro = reader.read(5)           # one that the collector finds has something new made of it, which shall warn as well
    coro.send(None)
    reader.itself = coro
    del reader, coro
    gc.collect()
    reader = module.StreamReader(loop=loop)
    for _ in range(3):
        with pytest.warns(RuntimeWarning, match="coroutine 'StreamReader.read' was never awaited"):
            reader.read(5)
            gc.collect()


@MODULES
def test_what_is_ready_does_not_suspend(loop, module):
    reader = module.StreamReader(loop=loop)
    reader.feed_data(b"0123456789line\nuntil;rest\n")
    for coro, value in [(reader.read(3), b"012"), (reader.readexactly(7), b"3456789"), (reader.readline(), b"line\n"),
                        (reader.readuntil(b";"), b"until;"), (reader.__anext__(), b"rest\n"), (reader.read(0), b"")]:
        with pytest.raises(StopIteration) as stop:
            coro.send(None)
        assert stop.value.value == value
    assert reader._waiter is None


@MODULES
async def test_two_cannot_wait(loop, module):
    reader = module.StreamReader(loop=loop)
    first = loop.create_task(reader.read(5))
    await asyncio.sleep(0)
    for name, coro in [("read", reader.read(5)), ("readexactly", reader.readexactly(5)), ("readuntil", reader.readline()),
                       ("readuntil", reader.readuntil(b";")), ("readuntil", reader.__anext__())]:
        with pytest.raises(RuntimeError) as error:
            await coro
        assert str(error.value) == f"{name}() called while another coroutine is already waiting for incoming data"
    reader.feed_data(b"data")
    assert await first == b"data"


@MODULES
@EACH("name", READS)
async def test_cancellation_loses_nothing(loop, module, name):
    reader = module.StreamReader(loop=loop)
    for part in (b"", b"a", b"b"):
        task = loop.create_task(READS[name](reader, 50))
        await asyncio.sleep(0)
        reader.feed_data(part)
        task.cancel("enough")
        if name in ("read", "read all") and part:   # what has been read before the cancellation came is the task's
            await asyncio.wait([task])
            reader._buffer[:] = b"ab"
            continue
        with pytest.raises(asyncio.CancelledError):
            await task
        assert reader._waiter is None
    reader.feed_eof()
    assert await reader.read() == b"ab"


@MODULES
@EACH("task_of", [asyncio.Task, asyncio.tasks._PyTask, asyncfast.Task], ids=["c", "python", "asyncfast"])
async def test_whoever_drives_it(loop, module, task_of):
    """Tasks of all kinds, which wait for it by itself or within another coroutine."""
    for wrap in (awaited, lambda coro: coro):
        reader = module.StreamReader(loop=loop)
        task = task_of(wrap(reader.read(5)), loop=loop)
        await settle(2)
        assert not task.done() and reader._waiter is not None
        reader.feed_data(b"data")
        assert await task == b"data" and reader._waiter is None
        for part in (b"", b"part"):         # cancelled before it is woken, and after
            task = task_of(wrap(reader.readexactly(5)), loop=loop)
            await settle(2)
            reader.feed_data(part)
            task.cancel("enough")
            with pytest.raises(asyncio.CancelledError, match="enough"):
                await task
            assert reader._waiter is None and reader._buffer == part
        task = task_of(wrap(reader.readline()), loop=loop)
        await settle(2)
        reader.set_exception(KeyError("why"))
        with pytest.raises(KeyError, match="why"):
            await task


@MODULES
async def test_within_what_asyncio_has(loop, module):
    reader = module.StreamReader(loop=loop)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(5), 0.001)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await reader.readline()
    assert reader._waiter is None
    shielded = asyncio.shield(reader.readexactly(2))
    await settle(2)
    shielded.cancel()                       # what it shields goes on
    with pytest.raises(asyncio.CancelledError):
        await shielded
    reader.feed_data(b"abcdef")
    await settle(2)
    assert await asyncio.gather(reader.readexactly(1), reader.read(1)) == [b"c", b"d"]
    async with asyncio.TaskGroup() as group:
        last = group.create_task(reader.readexactly(2))
    assert last.result() == b"ef"


@EACH("error", [ZeroDivisionError, ZeroDivisionError("why"), asyncio.CancelledError("why"), StopIteration("why"), EOFError])
def test_set_exception(every, error):
    """Classes and odd ones too, with somebody waiting and without."""
    def play(loop, module):
        seen = []
        for waiting in (True, False):
            reader = module.StreamReader(loop=loop)
            task = loop.create_task(awaited(reader.read(5)))
            turn(loop, 2 * waiting)
            try:
                seen.append(reader.set_exception(error))
            except TypeError as refused:    # StopIteration, before 3.12
                seen.append(str(refused))
                task.cancel()
            turn(loop, 3)
            seen.append(result_of(task) if task.done() else None)
            seen.append(repr(reader.exception()))
        return seen

    every(play)


@MODULES
async def test_somebody_else_s_waiter(loop, module):
    """It may be taken away, or be another's."""
    reader = module.StreamReader(loop=loop)
    reader._waiter = theirs = loop.create_future()
    with pytest.raises(RuntimeError, match="already waiting"):
        await reader.read(5)
    reader.feed_data(b"data")
    assert theirs.done() and reader._waiter is None
    assert await reader.read(5) == b"data"
    reader._waiter = loop.create_future()
    reader._waiter = None
    task = loop.create_task(reader.read(5))
    await settle(2)
    reader.feed_data(b"more")
    assert await task == b"more"


@EACH("cls, names", [(asyncfast.StreamReader, ["read", "readexactly", "readuntil", "readline"]),
                     (asyncfast.StreamWriter, ["write", "writelines", "drain"])])
def test_methods_that_are_called_without_a_detour(cls, names):
    """The interpreter's short cut for methods in C is for instances of the class that has the method."""
    assert all(vars(cls)[name].__objclass__ is cls for name in names)


@MODULES
async def test_iteration(loop, module):
    reader = module.StreamReader(loop=loop)
    reader.feed_data(b"one\ntwo\n\nlast")
    loop.call_soon(reader.feed_eof)
    assert [line async for line in reader] == [b"one\n", b"two\n", b"\n", b"last"]
    with pytest.raises(StopAsyncIteration):
        await anext(reader)
    assert await anext(reader, "end") == "end"
    assert aiter(reader) is reader


@MODULES
def test_a_waiting_reader_is_collected(loop, module):
    reader = module.StreamReader(loop=loop)
    coro = reader.readline()
    coro.send(None)
    reader.itself = coro
    gone = weakref.ref(reader)
    del reader, coro
    gc.collect()
    assert gone() is None


# -- on connections

class Talk:
    """A server and a connection to it, of one module's streams."""

    def __init__(self, module, loop, **options):
        self.module, self.loop, self.options, self.met = module, loop, options, asyncio.Event()

    async def meet(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.met.set()

    async def __aenter__(self):
        self.server = await self.module.start_server(self.meet, "127.0.0.1", 0, **self.options)
        address = self.server.sockets[0].getsockname()
        self.near, self.near_writer = await self.module.open_connection(*address, **self.options)
        await self.met.wait()
        return self

    async def __aexit__(self, *exc):
        for writer in (self.near_writer, self.writer):
            writer.close()
            try:
                await writer.wait_closed()
            except OSError:
                pass
        self.server.close()
        await self.server.wait_closed()
        self.near = self.near_writer = self.reader = self.writer = writer = None


@MODULES
async def test_byte_by_byte(loop, module):
    async with Talk(module, loop) as talk:
        text = b"first\nsecond;0123456789rest"
        task = loop.create_task(awaited(asyncio.sleep(0)))

        async def read():
            return [await talk.near.readline(), await talk.near.readuntil(b";"), await talk.near.readexactly(10),
                    await talk.near.read(2), await talk.near.read(1)]
        task = loop.create_task(read())
        for n in range(len(text) - 2):
            talk.writer.write(text[n:n + 1])
            await talk.writer.drain()
            while len(talk.near._buffer) == 0 and talk.near._waiter is not None and not task.done():
                await asyncio.sleep(0)
        talk.writer.write(text[-2:])
        got = await task
        assert got[:3] == [b"first\n", b"second;", b"0123456789"] and b"".join(got).startswith(text[:24])


@MODULES
async def test_an_end_in_each_state(loop, module):
    for name, expected in [("read", b"ab"), ("read all", b"ab"), ("readline", b"ab"), ("readexactly", b"ab"), ("until ;", b"ab"),
                           ("next", b"ab")]:
        for early in (True, False):
            async with Talk(module, loop) as talk:
                if early:
                    talk.writer.write(b"ab")
                    talk.writer.write_eof()
                    while not talk.near._eof:
                        await asyncio.sleep(0)
                task = loop.create_task(awaited(READS[name](talk.near, 30)))
                await asyncio.sleep(0)
                if not early:
                    talk.writer.write(b"ab")
                    talk.writer.write_eof()
                try:
                    got = await task
                except asyncio.IncompleteReadError as error:
                    assert error.expected == (30 if name == "readexactly" else None)
                    got = error.partial
                assert got == expected
                assert talk.writer.can_write_eof() and await talk.near.read() == b"" and talk.near.at_eof()


@MODULES
async def test_flow_control(loop, module):
    async with Talk(module, loop, limit=10_000) as talk:
        talk.writer.transport.set_write_buffer_limits(high=20_000)
        talk.writer.writelines([BIG, memoryview(BIG)])
        count = 2
        while not talk.near._paused:
            await asyncio.sleep(0)
        while talk.writer.transport.get_write_buffer_size() <= 20_000:      # until the kernel's buffers are full
            talk.writer.write(BIG)
            count += 1
            for _ in range(5):
                await asyncio.sleep(0)
        talk.writer.write(b"end")
        drained = loop.create_task(awaited(talk.writer.drain()))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not drained.done() and not talk.near._transport.is_reading()
        for _ in range(count):
            assert await talk.near.readexactly(len(BIG)) == BIG
        await drained
        assert await talk.near.read(3) == b"end" and not talk.near._paused
        talk.writer.write(b"x" * 20_001)
        with pytest.raises(asyncio.LimitOverrunError) as error:
            await talk.near.readuntil(b";")
        assert error.value.consumed > 10_000
        with pytest.raises(ValueError, match="Separator is not found, and chunk exceed the limit"):
            await talk.near.readline()


@MODULES
async def test_drain_is_cancelled(loop, module):
    async with Talk(module, loop, limit=10_000) as talk:
        count = 0
        while not count or talk.writer.transport.get_write_buffer_size() <= 65536:
            talk.writer.write(BIG)
            count += 1
            for _ in range(5):
                await asyncio.sleep(0)
        tasks = [loop.create_task(awaited(talk.writer.drain())) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        tasks[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[1]
        assert not tasks[0].done() and not tasks[2].done()
        await talk.near.readexactly(count * len(BIG))
        await tasks[0]
        await tasks[2]


@MODULES
async def test_the_connection_is_lost(loop, module):
    async with Talk(module, loop) as talk:
        reading = loop.create_task(awaited(talk.near.readexactly(5)))
        await asyncio.sleep(0)
        sock = talk.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        talk.writer.transport.abort()
        with pytest.raises(ConnectionResetError):
            await reading
        assert isinstance(talk.near.exception(), ConnectionResetError)
        for call in (talk.near.read, talk.near.readline, talk.near_writer.drain):
            with pytest.raises(ConnectionResetError):
                await call()
        with pytest.raises(ConnectionResetError, match="Connection lost"):
            await talk.writer.drain()
        with pytest.raises(ConnectionResetError):
            await talk.near_writer.wait_closed()
        assert talk.near_writer.is_closing()


@MODULES
async def test_what_was_drained_is_sent(loop, module):
    async with Talk(module, loop) as talk:
        talk.writer.write(b"data")
        await talk.writer.drain()
        with socket.socket(fileno=socket.dup(talk.near_writer.get_extra_info("socket").fileno())) as sock:
            assert sock.recv(4) == b"data"      # without a turn of the loop


@MODULES
async def test_drain_of_a_closing_writer_lets_it_close(loop, module):
    async with Talk(module, loop) as talk:
        talk.near_writer.close()
        with pytest.raises(ConnectionResetError):
            while True:
                talk.near_writer.write(b"data")
                await talk.near_writer.drain()


@MODULES
async def test_unix_sockets(loop, module, tmp_path):
    async def answer(reader, writer):
        async for line in reader:
            writer.write(line.upper())
            await writer.drain()
        writer.close()

    server = await module.start_unix_server(answer, tmp_path / "s")
    reader, writer = await module.open_unix_connection(tmp_path / "s")
    assert type(reader) is module.StreamReader and type(writer) is module.StreamWriter
    writer.writelines([b"a\nb", b"c\n"])
    writer.write_eof()
    assert await reader.read() == b"A\nBC\n"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


@MODULES
@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio before 3.12 knows no server side of it")
async def test_start_tls(loop, module):
    trusting = client_context(check_hostname=False, verify_mode=ssl.CERT_NONE)
    async with Talk(module, loop) as talk:
        talk.writer.write(b"go\n")
        await talk.near.readline()
        await asyncio.gather(talk.writer.start_tls(server_context()), talk.near_writer.start_tls(trusting))
        assert talk.near_writer.get_extra_info("cipher")
        for size in (10, 100_000):
            talk.near_writer.write(bytes(size) + b"\n")
            await talk.near_writer.drain()
            assert await talk.reader.readline() == bytes(size) + b"\n" if size < 2**16 else await talk.reader.readexactly(size + 1)
            talk.writer.write(bytes(size))
            await talk.writer.drain()
            assert await talk.near.readexactly(size) == bytes(size)


@MODULES
async def test_what_a_client_callback_raises(loop, errors, module):
    async def bad(reader, writer):
        raise ZeroDivisionError("why")

    server = await module.start_server(bad, "127.0.0.1", 0)
    reader, writer = await module.open_connection(*server.sockets[0].getsockname())
    while not errors:
        await asyncio.sleep(0)
    assert errors[0]["message"] == "Unhandled exception in client_connected_cb"
    assert isinstance(errors.pop()["exception"], ZeroDivisionError)
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


@MODULES
@pytest.mark.skipif(not hasattr(asyncio.StreamWriter, "__del__"), reason="this Python's writers do not warn")
async def test_a_writer_that_nobody_closed(loop, module):
    async with Talk(module, loop) as talk:
        with pytest.warns(ResourceWarning, match="unclosed <StreamWriter"):
            writer = module.StreamWriter(talk.near_writer.transport, talk.near_writer._protocol, talk.near, loop)
            del writer
            gc.collect()


@EACH("theirs", [asyncio, asyncfast], ids=lambda module: module.__name__)
async def test_classes_that_do_not_go_together(loop, theirs):
    """Our writer on asyncio's protocol and reader, and the other way round."""
    ours = asyncfast if theirs is asyncio else asyncio
    async with Talk(theirs, loop) as talk:
        writer = ours.StreamWriter(talk.writer.transport, talk.writer._protocol, talk.reader, loop)
        writer.write(b"text")
        await writer.drain()
        assert await talk.near.read(4) == b"text"
        reader = ours.StreamReader(loop=loop)
        talk.near_writer._protocol._stream_reader_wr = weakref.ref(reader)
        writer.write(b"more")
        assert await reader.read(4) == b"more"
        talk.near_writer._protocol._stream_reader_wr = None
        writer.write(b"lost")
        writer.close()


# -- feeding from C

def frames(call):
    """The names of asyncio.streams' functions that run while call() does."""
    names = []
    sys.setprofile(lambda frame, event, arg: names.append(frame.f_code.co_name)
                   if event == "call" and frame.f_code.co_filename == asyncio.streams.__file__ else None)
    try:
        call()
    finally:
        sys.setprofile(None)
    return names


class Fed:
    """A protocol and its reader on one end of a pair of sockets."""

    def __init__(self, loop, module, limit=10):
        self.loop, self.reader = loop, module.StreamReader(limit=limit, loop=loop)
        self.protocol = module.StreamReaderProtocol(self.reader, loop=loop)
        self.sock, self.peer = socket.socketpair()
        self.sock.setblocking(False)
        self.transport, _ = loop.run_until_complete(loop.connect_accepted_socket(lambda: self.protocol, self.sock))

    def send(self, data):
        self.peer.sendall(data)
        before = len(self.reader._buffer)
        until(self.loop, lambda: len(self.reader._buffer) != before)

    def end(self):
        self.transport.abort()
        turn(self.loop, 2)
        self.peer.close()


@pytest.fixture
def fed(loop):
    made = []

    def fed(module, loop=loop, **options):
        made.append(Fed(loop, module, **options))
        return made[-1]

    yield fed
    for each in made:
        each.end()


@pytest.mark.only_asyncfast
@MODULES
def test_no_frame_per_chunk(loop, fed, module):
    """Nor when it wakes somebody; a chunk that pauses the transport is another matter."""
    each = fed(module)
    assert not frames(lambda: each.send(b"first"))
    assert each.reader._buffer == b"first"
    task = loop.create_task(each.reader.readexactly(9))
    turn(loop)
    seen = frames(lambda: each.send(b"more"))
    assert not {"data_received", "feed_data", "_wakeup_waiter"} & set(seen)
    assert loop.run_until_complete(task) == b"firstmore"


@pytest.mark.only_asyncfast
@MODULES
def test_no_frame_per_chunk_over_tls(loop, module):
    """Of asyncio's own streams those that the program calls, of ours none."""
    async def meet(reader, writer):
        while data := await reader.read(1000):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def begin():
        server = await module.start_server(meet, "127.0.0.1", 0, ssl=server_context())
        address = server.sockets[0].getsockname()
        return server, await module.open_connection(*address, ssl=client_context(check_hostname=False))

    async def talk():
        for _ in range(3):
            writer.write(b"x" * 100)
            await writer.drain()
            assert await reader.readexactly(100) == b"x" * 100

    async def end():
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    server, (reader, writer) = loop.run_until_complete(begin())
    seen = set(frames(lambda: loop.run_until_complete(talk())))
    assert not {"data_received", "feed_data", "_wakeup_waiter"} & seen
    assert not seen if module is asyncfast else {"read", "drain"} <= seen       # before they are known to be what they are
    again = frames(lambda: loop.run_until_complete(talk()))
    assert not again or loop.get_debug()        # where Python notes where coroutines are made
    loop.run_until_complete(end())


@pytest.mark.only_asyncfast
@MODULES
def test_the_turn_in_which_a_reader_goes_on(loop, fed, module):
    """Ours that waits for what has been read goes on at once, asyncio's in the next turn, as everybody does in debug mode."""
    async def read():
        while data := await each.reader.read(5):
            log.append(data)

    each, log = fed(module), []
    task = loop.create_task(read())
    turn(loop)
    loop.call_soon(log.append, "ready")
    each.peer.sendall(b"data")
    at_once = module is asyncfast and not loop.get_debug()
    turn(loop)
    assert log == (["ready", b"data"] if at_once else ["ready"])
    turn(loop)
    assert log == ["ready", b"data"]
    each.reader.feed_data(b"called")        # by whom it may be: there is no callback to return from
    loop.call_soon(log.append, "later")
    assert log[2:] == []
    turn(loop)
    assert log[2:] == [b"calle", b"d", "later"]
    task.cancel()
    turn(loop)


@pytest.mark.only_asyncfast
def test_little_is_read_ahead_of_the_tasks(loop, fed):
    """Much from many at once: their tasks run before all of it has been read, and it is still in the caches."""
    chunk, most = 64 * 1024, 0

    async def read(reader):
        nonlocal most
        while await reader.read(chunk):
            most = max(most, sum(len(each.reader._buffer) for each in many))
            read_by.append(reader)

    many, read_by = [fed(asyncio, limit=chunk) for _ in range(32)], []
    tasks = [loop.create_task(read(each.reader)) for each in many]
    turn(loop)
    for _ in range(4):
        most = 0
        read_by.clear()
        for each in many:
            each.peer.sendall(bytes(chunk))
        until(loop, lambda: len(read_by) >= len(many))      # as none is read in two parts
    assert most <= 8 * chunk
    assert {*read_by} == {each.reader for each in many}
    for task in tasks:
        task.cancel()
    turn(loop)


@MODULES
def test_the_run_ends_where_it_would_go_on(loop, fed, module):
    """Whoever was to go on does so in the next run."""
    class Last:
        def pause_reading(self):
            raise SystemExit

    each = fed(module)
    task = loop.create_task(each.reader.read(1000))
    turn(loop)
    each.reader._transport = Last()
    each.peer.sendall(b"x" * 100)
    with pytest.raises(SystemExit):
        until(loop, task.done)
    assert not task.done()
    turn(loop)
    assert task.result() == b"x" * 100


@MODULES
@EACH("then", ["read", "read all", "readexactly", "until ;", "buffer", "feed", "eof"])
def test_what_was_meant_for_a_read_that_is_cancelled(loop, fed, module, then):
    """It had come, but the run ended before the read went on: whoever reads next gets it."""
    class Last:
        def pause_reading(self):
            raise SystemExit

    each, data = fed(module, limit=40), b"x" * 39 + b";" + b"y" * 60
    reader, task = each.reader, loop.create_task(each.reader.read(1000))
    turn(loop)
    reader._transport = Last()
    each.peer.sendall(data)
    with pytest.raises(SystemExit):
        until(loop, task.done)
    reader._transport = None
    task.cancel()
    turn(loop, 2)
    assert task.cancelled() and not reader.at_eof()
    if then == "feed":
        reader.feed_data(b"more")
    reader.feed_eof()
    if then == "buffer":
        assert reader._buffer == data
        reader._buffer = bytearray(b"other")
    whole = {"buffer": b"other", "feed": data + b"more"}.get(then, data)
    size = {"readexactly": 7, "until ;": 40}.get(then, len(whole))
    assert loop.run_until_complete(READS.get(then, READS["read"])(reader, size)) == whole[:size]
    assert loop.run_until_complete(reader.read()) == whole[size:]
    assert reader.at_eof()


@MODULES
def test_fed_over_the_limit_it_pauses(every, module):
    def play(loop, theirs):
        each = Fed(loop, module if theirs is not asyncio else asyncio)
        seen = []
        for size in (5, 15, 1):
            each.send(b"x" * size)
            seen.append((len(each.reader._buffer), each.reader._paused, each.transport.is_reading()))
            if each.reader._paused:
                break
        assert loop.run_until_complete(each.reader.readexactly(11)) == b"x" * 11
        seen.append((len(each.reader._buffer), each.reader._paused, each.transport.is_reading()))
        each.end()
        return seen

    assert every(play) == [(5, False, True), (20, False, True), (21, True, False), (10, False, True)]


def patch_class(each, monkeypatch, calls):
    real = asyncio.StreamReader.feed_data
    monkeypatch.setattr(asyncio.StreamReader, "feed_data", lambda self, data: (calls.append(data), real(self, data)))


def patch_base(each, monkeypatch, calls):
    real = asyncio.StreamReaderProtocol.data_received
    monkeypatch.delattr(asyncio.StreamReaderProtocol, "data_received")
    monkeypatch.setattr(asyncio.Protocol, "data_received", lambda self, data: (calls.append(data), real(self, data)))


def patch_instance(each, monkeypatch, calls):
    real = each.reader.feed_data
    each.reader.feed_data = lambda data: (calls.append(data), real(data))


def patch_protocol(each, monkeypatch, calls):
    real = each.protocol.data_received
    each.protocol.data_received = lambda data: (calls.append(data), real(data))


def patch_wakeup(each, monkeypatch, calls):
    real = each.reader._wakeup_waiter
    each.reader._wakeup_waiter = lambda: (calls.append(bytes(each.reader._buffer)), real())


def patch_attribute(each, monkeypatch, calls):
    """A class attribute that wins over the instance's."""
    buffers = weakref.WeakKeyDictionary({each.reader: each.reader._buffer})
    monkeypatch.setattr(asyncio.StreamReader, "_buffer", property(lambda self: calls.append(b"data") or buffers[self]), False)


def patch_code(each, monkeypatch, calls):
    def feed_data(self, data):
        self._calls.append(data)
        self._buffer.extend(data)

    each.reader._calls = calls
    monkeypatch.setattr(asyncio.StreamReader.feed_data, "__code__", feed_data.__code__)


def patch_buffer(each, monkeypatch, calls):
    class Buffer(bytearray):
        def extend(self, data):
            calls.append(data)
            super().extend(data)

    each.reader._buffer = Buffer()


def patch_reader(each, monkeypatch, calls):
    class Reader(asyncio.StreamReader):
        def feed_data(self, data):
            calls.append(data)
            super().feed_data(data)

    each.reader = Reader(loop=each.loop)
    each.protocol._stream_reader_wr = weakref.ref(each.reader)


@EACH("patch", [value for name, value in sorted(globals().items()) if name.startswith("patch_")], ids=lambda f: f.__name__)
def test_what_is_not_asyncios_own_is_called(loop, fed, monkeypatch, patch):
    each = fed(asyncio, limit=1000)
    each.send(b"before ")
    assert loop.run_until_complete(each.reader.read(7)) == b"before "
    calls = []
    patch(each, monkeypatch, calls)
    each.peer.sendall(b"data")
    until(loop, lambda: len(each.reader._buffer) == 4)
    assert b"data" in calls
    monkeypatch.undo()
    assert bytes(each.reader._buffer) == b"data"
    if patch in (patch_class, patch_base, patch_code, patch_attribute):
        later = fed(asyncio, limit=1000)
        count = len(calls)
        later.send(b"after")
        assert later.reader._buffer == b"after" and len(calls) == count


@pytest.mark.only_asyncfast
def test_after_a_patch_is_undone_there_is_no_frame_again(loop, fed, monkeypatch):
    each, calls = fed(asyncio, limit=1000), []
    patch_class(each, monkeypatch, calls)
    each.send(b"data")
    assert calls == [b"data"]
    monkeypatch.undo()
    assert not frames(lambda: each.send(b"more"))


@MODULES
def test_feeding_fails(loop, fed, errors, module):
    """Data after the end that somebody else has announced; a buffer that cannot grow."""
    for n in range(2):
        each = fed(module)
        if n == 0:
            each.reader.feed_eof()
        else:
            each.send(b"data")
            view = memoryview(each.reader._buffer)
        each.peer.sendall(b"more")
        until(loop, lambda: errors)
        context = errors.pop()
        assert context["message"] == "Fatal error: protocol.data_received() call failed."
        assert isinstance(context["exception"], AssertionError if n == 0 else BufferError)
        turn(loop, 2)
        assert each.transport.is_closing()
    view.release()


@MODULES
def test_the_reader_has_gone(loop, fed, module):
    each = fed(module)
    gone = weakref.ref(each.reader)
    del each.reader
    gc.collect()
    assert gone() is None
    each.peer.sendall(b"data")
    turn(loop, 3)
    assert each.transport.is_reading()


@MODULES
def test_a_waiter_that_is_cancelled_already(loop, fed, module):
    each = fed(module)
    task = loop.create_task(each.reader.read(5))
    turn(loop)
    each.peer.sendall(b"data")
    each.reader._waiter.cancel()
    until(loop, lambda: len(each.reader._buffer) == 4)
    turn(loop)
    assert task.cancelled() and each.reader._waiter is None


# -- fast_streams

@pytest.mark.only_asyncfast
def test_fast_streams(program):
    out = program("""
        import asyncfast, inspect

        theirs = asyncio.open_connection

        async def main():
            async def answer(reader, writer):
                writer.write(type(reader).__module__.encode())
                writer.close()

            server = await asyncio.start_server(answer, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            print(await reader.read(), type(writer).__module__)
            writer.close()
            server.close()

        asyncfast.run(main())
        assert asyncio.open_connection is theirs
        asyncfast.run(main(), fast_streams=True)
        asyncfast.run(main())
        asyncio.run(main())
        assert inspect.iscoroutinefunction(inspect.unwrap(asyncio.open_connection))
        assert inspect.signature(asyncio.open_connection) == inspect.signature(theirs)
        with asyncfast.Runner(fast_streams=True) as runner:
            runner.run(main())
        os.environ["ASYNCFAST_FAST_STREAMS"] = "1"
        asyncfast.run(main())
        asyncfast.run(main(), fast_streams=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            asyncio.set_event_loop_policy(asyncfast.EventLoopPolicy(fast_streams=True))
        asyncio.run(main())
    """)
    assert [line.split()[1].split(".")[0] for line in out.splitlines()] == [
        "asyncio", "asyncfast", "asyncio", "asyncio", "asyncfast", "asyncfast", "asyncio", "asyncfast"]
    assert all(line.split()[0] == f"b'{line.split()[1]}'" for line in out.splitlines())
