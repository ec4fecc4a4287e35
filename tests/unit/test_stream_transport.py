"""The transport of stream sockets: what each method does in each state, and what the protocol is told, and when.

Nearly all of it is a question to both loops: the same is done to a connection of ours and to one of asyncio's, and all
that can be seen has to be equal.
"""

import asyncio
import contextlib
import os
import random
import re
import socket
import sys
import weakref

import pytest
from _turns import ADDRESS, BIG, ByteArray, Bytes, EACH, backlog_then, called, idle_turns, turn, until, write_backlog



# -- every method in every state

STATES = {
    "idle": called(), "paused": called("pause_reading"), "backlog": write_backlog,
    "eof": called("write_eof"), "backlog, eof": backlog_then("write_eof"),
    "backlog, closing": backlog_then("close"), "closing": called("close"), "aborted": called("abort"),
    "backlog, aborted": backlog_then("abort"), "closed": called("close", turns=1), "lost": called("abort", turns=1),
    "peer gone": lambda connection: connection.peer.close(),
    "peer has ended": lambda connection: connection.peer.shutdown(socket.SHUT_WR), "new": None,
}
CALLS = {
    "write": lambda t: t.write(b"data"), "write nothing": lambda t: t.write(b""), "write text": lambda t: t.write("text"),
    "writelines": lambda t: t.writelines([b"some", bytearray(b"thing")]), "write no lines": lambda t: t.writelines([]),
    "write_eof": lambda t: t.write_eof(), "can_write_eof": lambda t: t.can_write_eof(), "close": lambda t: t.close(),
    "abort": lambda t: t.abort(), "pause_reading": lambda t: t.pause_reading(),
    "resume_reading": lambda t: t.resume_reading(), "limits": lambda t: t.set_write_buffer_limits(high=10),
    "bad limits": lambda t: t.set_write_buffer_limits(high=1, low=2), "protocol": lambda t: t.set_protocol(asyncio.Protocol()),
    "info": lambda t: t.get_extra_info("nothing", 42), "_force_close": lambda t: t._force_close(OSError("why")),
    "attribute": lambda t: setattr(t, "x", t) or t.x is t,
}


INSIDE = EACH("inside", [False, True], ids=["", "inside"])


@EACH("state", STATES)
@INSIDE
def test_every_method_in_every_state(both, outcome, state, inside):
    """Called from outside the loop's run, or from a callback, where what is written may be held back until it returns."""
    def play(connect):
        seen = []
        for name, call in CALLS.items():
            if name == "writelines" and sys.version_info < (3, 14) and state not in ("idle", "paused", "backlog", "new"):
                continue    # asyncio's did not look whether the transport is closed
            if name == "protocol" and state == "new":
                continue    # on asyncio the old one is told of the connection; no program can come here
            connection = connect(made=state != "new")
            if STATES[state]:
                STATES[state](connection)
            facts = connection.do(lambda: (outcome(call, connection.transport), connection.facts()), inside)
            seen.append((name, facts))
            turn(connection.loop, 2)
            seen.append((connection.facts(), None if connection.peer.fileno() < 0 else connection.read()))
        return seen

    both(play)


@EACH("state", STATES)
@INSIDE
def test_again_and_again(both, outcome, state, inside):
    """What was called may be called again."""
    names = ("write", "write_eof", "pause_reading", "pause_reading", "resume_reading", "resume_reading", "close", "write",
             "close", "abort", "abort", "write", "pause_reading", "resume_reading", "write_eof")

    def play(connect):
        connection = connect(made=state != "new")
        if STATES[state]:
            STATES[state](connection)
        seen = connection.do(lambda: [(name, outcome(CALLS[name], connection.transport), connection.facts())
                                      for name in names], inside)
        turn(connection.loop, 2)
        return seen, connection.facts(), None if connection.peer.fileno() < 0 else connection.read()

    both(play)


# -- writing

DATA = {
    "bytes": b"abc", "bytearray": bytearray(b"abc"), "memoryview": memoryview(b"abc"), "slice": memoryview(b"xxabcxx")[2:5],
    "of bytearray": memoryview(bytearray(b"abc")), "subclass": Bytes(b"abc"), "bytearray subclass": ByteArray(b"abc"),
    "empty": b"", "empty bytearray": bytearray(), "empty view": memoryview(b""),
}


@EACH("waiting", [False, True], ids=["", "backlog"])
@EACH("method", ["write", "writelines"])
def test_what_may_be_written(loop, connect, waiting, method):
    for name, data in DATA.items():
        connection = connect()
        transport = connection.transport
        if waiting:
            write_backlog(connection)
        if method == "write":
            assert transport.write(data) is None
        elif len(data) > 0 or sys.version_info >= (3, 14):      # before, asyncio spun on an empty one
            assert transport.writelines([b"<", data, data, b">"]) is None
        transport.write_eof()
        expected = {"write": bytes(data), "writelines": b"<" + bytes(data) * 2 + b">"}[method]
        if method == "writelines" and len(data) == 0 and sys.version_info < (3, 14):
            expected = b""
        assert connection.read_all() == (BIG if waiting else b"") + expected, name


THINGS = [None, "text", 1, 1.5, [b"x"], [1, 2], (), {}, object, int, b"x".decode, type("Thing", (), {})]


@EACH("thing", THINGS, ids=repr)
def test_what_may_not_be_written(both, outcome, thing):
    def play(connect):
        connection = connect()
        return outcome(connection.write, thing), connection.read(), connection.facts()

    both(play)


@pytest.mark.parametrize("items", [["text"], [b"x", None, b"y"], [1]], ids=repr)
@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio's joined them, and says so in the error")
def test_lines_that_may_not_be_written(both, outcome, items):
    """Nothing is written if one of them is wrong."""
    if None in items and sys.version_info >= (3, 14):
        pytest.skip("asyncio takes None for an empty one")

    def play(connect):
        connection = connect()
        return outcome(connection.writelines, items), connection.read(), connection.facts()

    both(play)


@EACH("items", [None, 0, 5, object(), "text", "", {}], ids=repr)
@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio's joined them, and says so in the error")
def test_lines_that_are_none(both, outcome, items):
    both(lambda connect: outcome(connect().writelines, items))


def test_arguments(both, outcome):
    """Too many, too few, by name."""
    def play(connect):
        transport = connect().transport
        calls = [lambda: transport.write(), lambda: transport.write(b"", b""), lambda: transport.close(1),
                 lambda: transport.set_write_buffer_limits(1, 1, 1), lambda: transport.set_write_buffer_limits(middle=1),
                 lambda: transport.get_extra_info(), lambda: transport.set_protocol()]
        return [outcome(call)[0] for call in calls]

    assert set(both(play)) == {TypeError}


def test_released_view(both, outcome):
    def play(connect):
        view = memoryview(b"x")
        view.release()
        connection = connect()
        return outcome(connection.write, view), connection.facts()

    both(play)


@pytest.mark.only_asyncfast
@EACH("waiting", [False, True], ids=["", "backlog"])
@EACH("view", [memoryview(b"abcdef")[::2], memoryview(bytearray(b"abcdef"))[::-1],
               memoryview(b"abcdefgh").cast("H"), memoryview(b"abcdef").cast("B", (2, 3)),
               memoryview(b"abcdefghijkl").cast("I")[::2]], ids=["steps", "backwards", "items", "two dimensions", "big steps"])
@INSIDE
def test_views_that_asyncio_does_not_send(loop, connect, view, waiting, inside):
    """Not contiguous: asyncio ends the connection.  Items of several bytes: asyncio counts wrong."""
    for write in ("write", "writelines"):
        connection = connect()
        if waiting:
            write_backlog(connection)
        size = connection.get_write_buffer_size()
        connection.do(lambda: getattr(connection, write)(view if write == "write" else [view]), inside)
        if waiting:
            assert connection.get_write_buffer_size() == size + view.nbytes
        connection.close()
        assert connection.read_all() == (BIG if waiting else b"") + view.tobytes()


@pytest.mark.only_asyncfast
@EACH("make", [bytearray, lambda data: memoryview(bytearray(data)), ByteArray], ids=["bytearray", "memoryview", "subclass"])
@EACH("method", ["write", "writelines"])
@EACH("first", [b"", b"small", BIG], ids=["", "held back", "backlog"])
@INSIDE
def test_changed_after_write(loop, connect, make, method, first, inside):
    """What is sent is what was there when it was written.  asyncio sends what is there by then."""
    for contents in (BIG, b"contents"):
        connection = connect()
        data = make(contents)

        def write():
            connection.write(first)
            getattr(connection, method)(data if method == "write" else [data, data])
            data[:] = b"\xff" * len(data)
            if not isinstance(data, memoryview):
                data.clear()        # nothing of the transport's holds on to it

        connection.do(write, inside)
        connection.close()
        assert connection.read_all() == first + contents * (1 if method == "write" else 2)


@EACH("size", [1, 255, 256, 257, 3000])
def test_many_lines(loop, connect, size):
    """More than one system call takes."""
    connection = connect()
    lines = [b"%d," % n * 40 for n in range(size)]
    connection.writelines(lines)
    connection.writelines(iter(lines))
    for line in lines:
        connection.write(line)
    connection.close()
    assert connection.read_all() == b"".join(lines * 3)


@pytest.mark.oracle_bug((3, 14), "an empty line is sent for ever")
def test_empty_lines(loop, connect):
    connection = connect()
    connection.writelines([b"", b"", bytearray()])
    connection.writelines([b"", BIG, b"", memoryview(b""), b"x"])
    connection.writelines([b""])
    connection.close()
    assert connection.read_all() == BIG + b"x"


def test_lines_that_raise(loop, connect, kind):
    """An error in the iterator: nothing is sent."""
    def lines():
        yield b"one"
        raise ValueError("two")

    connection = connect()
    with pytest.raises(ValueError, match="two"):
        connection.writelines(lines())
    assert connection.read() == (b"", None)
    if kind.fast or sys.version_info < (3, 15):     # where it waits for ever
        assert connection.get_write_buffer_size() == 0


@pytest.mark.only_asyncfast
@EACH("method", ["close", "abort", "write_eof", "write", "lose"])
def test_lines_that_touch_the_transport(loop, connect, errors, method):
    """An iterator may do anything, and then give lines."""
    connection = connect()
    transport = connection.transport

    def lines():
        if method == "lose":
            transport.abort()
            turn(loop)
        elif method == "write":
            transport.write(b"first,")
        else:
            getattr(transport, method)()
        yield b"second"
        yield BIG

    transport.writelines(lines())
    assert (transport.get_write_buffer_size() > 0) == (method == "write")
    turn(loop, 3)
    assert errors == [] and transport.is_closing() == (method != "write")
    if method == "write":
        transport.close()
        assert connection.read_all() == b"first,second" + BIG


def test_sizes(loop, connect):
    """What waits and what has arrived is what was written, at any time."""
    connection = connect()
    written, read = 0, 0
    for size in (1, 100_000, 0, 7, 1_000_000, 1):
        connection.write(b"x" * size)
        written += size
        data, _ = connection.read()
        read += len(data)
        assert connection.get_write_buffer_size() <= written - read
        turn(loop)
    while read < written:
        size = connection.get_write_buffer_size()
        data, _ = connection.read()
        assert size + len(data) <= written - read
        read += len(data)
        turn(loop)
    assert read == written and connection.get_write_buffer_size() == 0


@EACH("error", [SystemExit, KeyboardInterrupt, ValueError])
def test_written_before_an_error(both, error):
    """It is sent, by a callback that then raises, too."""
    def play(connect):
        connection, other = connect(), connect()
        connection.loop.set_exception_handler(lambda loop, context: None)

        def callback():
            for n in range(3):
                connection.write(b"%d" % n)
                other.write(b"%d" % n)
            raise error

        connection.loop.call_soon(callback)
        with contextlib.suppress(error):
            turn(connection.loop)
        seen = connection.read(), other.read()
        connection.write(b"more")
        return seen, connection.read()

    both(play)


@EACH("kept", [None, lambda connection: connection.get_extra_info("socket"),
               lambda connection: connection.transport._extra["socket"],
               lambda connection: asyncio.trsock.TransportSocket(connection.sock)], ids=["asked for", "kept", "extra", "own"])
@EACH("how", [lambda sock: sock.shutdown(socket.SHUT_WR), lambda sock: sock._sock.send(b"behind"),
              lambda sock: os.write(sock.fileno(), b"behind")], ids=["shutdown", "send", "write"])
def test_what_is_done_to_the_socket_comes_after_what_was_written(both, how, kept):
    def play(connect):
        connection = connect()
        sock = kept and kept(connection)

        def callback():
            connection.write(b"first,")
            connection.write(b"second,")
            how(sock or connection.get_extra_info("socket"))

        connection.do(callback)
        return connection.read()

    both(play)


def test_is_closing_knows_that_the_peer_has_gone(both):
    """From the write that found out, as a loop that writes until then needs it."""
    def play(connect):
        connection = connect()
        connection.peer.close()
        turn(connection.loop, 2)

        def callback():
            connection.write(b"x")
            return connection.is_closing()

        return connection.do(callback)

    both(play)


@pytest.mark.kinds("asyncfast", "asyncio")
def test_what_was_drained_has_been_sent(program):
    """drain() returns at once while there is room, and the process ends there."""
    out = program("""
        async def main():
            mine, other = socket.socketpair()
            reader, writer = await asyncio.open_connection(sock=mine)
            if os.fork() == 0:
                writer.write(b"last ")
                writer.write(b"words")
                await writer.drain()
                os._exit(0)
            os.wait()
            print(other.recv(100))
            writer.close()
        run(main())
        """)
    assert out == "b'last words'\n"


def in_one_turn(loop, callbacks):
    for callback in callbacks:
        loop.call_soon(callback)
    turn(loop)


@EACH("entries", [2, 7, 8, 40])
def test_written_by_the_callbacks_of_one_turn(both, entries):
    """Of a busy turn it leaves together, and nobody who looks at it after the turn can tell."""
    def play(connect):
        connections = [connect() for _ in range(5)]
        in_one_turn(connections[0].loop, [lambda n=n: connections[n % 5].write(b"%d," % n) for n in range(entries)])
        return [connection.read() for connection in connections]

    both(play)


def test_a_turn_of_few_callbacks_sends_before_the_next_one(both):
    def play(connect):
        connection, seen = connect(), []
        in_one_turn(connection.loop, [lambda: connection.write(b"x"), lambda: seen.append(connection.read())] * 3)
        return seen

    both(play)


@pytest.mark.kinds("asyncfast")
def test_a_turn_of_many_callbacks_sends_at_its_end(loop, connect):
    """Unless the turn takes long: this one does not each time."""
    connection = connect()
    for _ in range(1000):
        seen = []
        in_one_turn(loop, [lambda: connection.write(b"x"), lambda: seen.append(connection.read()[0])] * 4)
        seen.append(connection.read()[0])
        assert b"".join(seen) == b"xxxx"
        if seen == [b"", b"", b"", b"", b"xxxx"]:
            break
    else:
        pytest.fail("each callback had what it wrote sent by itself")


def test_a_turn_of_many_callbacks_does_not_keep_much_back(loop, connect):
    """The first has been sent long before the last has written."""
    connections, seen = [connect() for _ in range(20)], []
    for each in connections:
        loop.call_soon(lambda each=each: each.write(bytes(8192)))
    in_one_turn(loop, [lambda: seen.extend(len(each.read()[0]) for each in connections)])
    assert sum(seen) >= 8192 * 19 - 65536 and seen[0] == 8192
    assert sum(seen) + sum(len(each.read()[0]) for each in connections) == 8192 * 20


@EACH("error", [KeyboardInterrupt, ValueError])
def test_written_in_a_busy_turn_before_an_error(both, error):
    def play(connect):
        connections = [connect() for _ in range(12)]
        loop = connections[0].loop
        loop.set_exception_handler(lambda loop, context: None)

        def fail():
            raise error

        callbacks = [lambda each=each: each.write(b"x") for each in connections]
        with contextlib.suppress(error):
            in_one_turn(loop, [*callbacks[:6], fail, *callbacks[6:]])
        seen = [each.read() for each in connections]
        turn(loop)
        return seen, [each.read() for each in connections]

    both(play)


def test_written_in_a_busy_turn_to_peers_that_have_gone(both):
    def play(connect):
        connections = [connect() for _ in range(12)]
        loop = connections[0].loop
        for each in connections[::2]:
            each.peer.close()
        turn(loop, 30)          # one event at a time may be reported
        in_one_turn(loop, [lambda each=each: each.write(b"x") for each in connections])
        turn(loop, 30)
        return [each.facts() for each in connections], [each.read() for each in connections[1::2]]

    both(play)


@EACH("call", [lambda t: t.close(), lambda t: t.abort(), lambda t: t.write_eof(), lambda t: t.writelines([b"y", b"z"]),
               lambda t: t.write(BIG[:20000]), lambda t: t.get_extra_info("socket").shutdown(socket.SHUT_WR)],
      ids=["close", "abort", "write_eof", "writelines", "more", "shutdown"])  # fmt: skip
def test_a_later_callback_of_a_busy_turn(both, call):
    def play(connect):
        connections = [connect() for _ in range(12)]
        loop = connections[0].loop
        in_one_turn(loop, [lambda each=each: each.write(b"x") for each in connections] +
                    [lambda each=each: call(each.transport) for each in connections])
        turn(loop, 2)
        return [(each.read(), each.calls) for each in connections]

    both(play)


def test_write_eof_ends_one_direction(loop, connect):
    connection = connect()
    connection.write(BIG)
    connection.write_eof()
    assert connection.read_all() == BIG
    connection.peer.send(b"answer")
    turn(loop)
    assert connection.protocol.data == b"answer" and not connection.is_closing()


def test_write_eof_of_what_the_peer_has_reset(loop, connect, outcome, kind):
    """shutdown(2) says that there is no connection; that goes to the caller."""
    connection = connect(sockets=connect.tcp_pair())
    connect.reset(connection.peer)
    assert outcome(connection.write_eof) in ((OSError, "[Errno 107] Transport endpoint is not connected"), None)


@EACH("method", ["write", "writelines"])
def test_writing_to_what_is_lost_is_logged(loop, connect, logged, method):
    """From the sixth time on, as asyncio's constants say."""
    if method == "writelines" and sys.version_info < (3, 14):
        pytest.skip("asyncio's did not look whether the transport is closed")
    connection = connect()
    connection.abort()
    for _ in range(7):
        getattr(connection.transport, method)(b"x" if method == "write" else [b"x"])
    turn(loop)
    connection.write(b"x")
    connection.write(b"")
    assert logged.take() == ["socket.send() raised exception."] * 4


# -- the end

@EACH("how", ["close", "abort"])
@EACH("waiting", [False, True], ids=["", "backlog"])
def test_end(loop, connect, how, waiting):
    connection = connect()
    if waiting:
        write_backlog(connection)
    getattr(connection.transport, how)()
    assert connection.is_closing() and "connection_lost" not in connection.calls
    assert connection.get_protocol() is connection.protocol
    data = connection.read_all()
    assert connection.calls[-1] == ("connection_lost", None) and connection.sock.fileno() == -1
    if how == "close" or not waiting:
        assert data == (BIG if waiting else b"")
    else:
        assert BIG.startswith(data) and len(data) < len(BIG)
    assert connection.get_protocol() is None and connection.get_write_buffer_size() == 0


def test_close_sends_what_waits_before_the_end(loop, connect):
    """And reads nothing meanwhile."""
    connection = connect()
    write_backlog(connection)
    connection.close()
    connection.peer.send(b"too late")
    turn(loop, 3)
    connection.write(b"written after close()")
    assert connection.read_all() == BIG + b"written after close()"
    assert connection.protocol.data == b"" and connection.calls[-1] == ("connection_lost", None)


def test_abort_while_closing(loop, connect):
    connection = connect()
    write_backlog(connection)
    connection.close()
    connection.abort()
    assert connection.get_write_buffer_size() == 0
    turn(loop)
    assert connection.calls[-1] == ("connection_lost", None)


@EACH("call", ["write", "writelines", "close", "abort", "pause_reading", "protocol", "write_eof"])
def test_in_connection_lost(both, outcome, call):
    def play(connect):
        seen = []
        connection = connect(connection_lost=lambda t: seen.append((outcome(CALLS[call], t), connection.facts())))
        connection.abort()
        turn(connection.loop, 2)
        return seen, connection.facts()

    if call == "writelines" and sys.version_info < (3, 14):
        pytest.skip("asyncio's did not look whether the transport is closed")
    both(play)


@EACH("names", [("data_received", "abort"), ("data_received", "close"), ("eof_received", "close"),
                ("eof_received", "abort"), ("connection_made", "close"), ("connection_made", "abort"),
                ("pause_writing", "abort"), ("pause_writing", "close"), ("resume_writing", "write_eof"),
                ("data_received", "pause_reading"), ("connection_made", "pause_reading"),
                ("data_received", "write_eof"), ("connection_made", "write_eof"), ("connection_made", "write"),
                ("pause_writing", "write"), ("resume_writing", "write"), ("eof_received", "write")], ids="-".join)
def test_calls_from_callbacks(both, names):
    """Each in its place: all that follows is as on asyncio."""
    def play(connect):
        connection = connect(made=False, **{names[0]: CALLS[names[1]]})
        seen = []
        for step in (lambda: connection.peer.send(b"one"), lambda: connection.write(BIG),
                     lambda: connection.peer.send(b"two"), lambda: connection.peer.shutdown(socket.SHUT_WR)):
            with contextlib.suppress(OSError, RuntimeError):
                step()
            turn(connection.loop)
            data, end = connection.read()
            seen.append((len(data), end, connection.facts()))
        for _ in range(100):
            turn(connection.loop)
            data, end = connection.read()
            seen.append((len(data), end))
        return seen, connection.facts()

    both(play)


@pytest.mark.oracle_bug((3, 14), "connection_lost() is called a second time, with no protocol to call")
@EACH("how", ["close", "abort"])
def test_end_in_resume_writing(loop, connect, how):
    connection = connect(resume_writing=lambda t: getattr(t, how)())
    write_backlog(connection)
    connection.read_all(len(BIG) if how == "close" else None)
    turn(loop, 2)
    assert connection.calls[-2:] == ["resume_writing", ("connection_lost", None)]


@EACH("buffered", [False, True], ids=["", "buffered"])
@EACH("waiting", [False, True], ids=["", "backlog"])
def test_keeping_open_after_the_peer_s_end(loop, connect, buffered, waiting):
    connection = connect(buffered=buffered, eof_received=lambda t: "yes")
    if waiting:
        write_backlog(connection)
    connection.peer.shutdown(socket.SHUT_WR)
    turn(loop, 3)
    assert connection.calls.count("eof_received") == 1 and not connection.is_closing()
    connection.write(b"more")
    connection.close()
    assert connection.read_all() == (BIG if waiting else b"") + b"more"


def test_end_of_the_peer(loop, connect):
    """It closes what is not kept open, and what waits is sent before."""
    connection = connect()
    write_backlog(connection)
    connection.peer.shutdown(socket.SHUT_WR)
    turn(loop, 2)
    assert connection.is_closing() and connection.calls[-1] == "eof_received"
    assert connection.read_all() == BIG and connection.calls[-1] == ("connection_lost", None)


# -- the order of things

def test_order_of_the_beginning(both):
    """connection_made(), the waiter, the first data: each in its turn, among callbacks and timers."""
    def play(connect):
        seen = []
        connection = connect(made=False)
        loop, protocol = connection.loop, connection.protocol

        def note(what):
            seen.append(what)
            loop.call_soon(seen.append, what + ", then")

        protocol.then = {name: lambda t, name=name: note(name) for name in ("connection_made", "data_received")}
        connection.peer.send(b"x")
        for step in range(6):
            loop.call_soon(note, "callback")
            loop.call_later(0, note, "timer")
            turn(loop)
            seen.append(f"turn {step}")
            if step > 3:
                connection.peer.send(b"x")
        return seen, connection.facts()

    both(play)


def test_order_of_waiter_and_connection_made(both):
    def play(connect):
        seen = []
        left, right = socket.socketpair()
        left.setblocking(False)
        connection = connect()
        loop = connection.loop
        waiter = loop.create_future()
        waiter.add_done_callback(lambda waiter: seen.append("waiter"))
        protocol = connect.Notes(connection_made=lambda t: (seen.append(("made", waiter.done())),
                                                            loop.call_soon(seen.append, 1)))
        loop.call_soon(seen.append, "before")
        transport = loop._make_socket_transport(left, protocol, waiter)
        loop.call_soon(lambda: seen.append(("after", waiter.done())))
        for step in range(3):
            turn(loop)
            seen.append(step)
        transport.abort()
        turn(loop)
        right.close()
        return seen, waiter.result()

    both(play)


@EACH("how", ["cancelled", "done"])
def test_waiter_that_is_done(both, how):
    def play(connect):
        connection = connect()
        loop = connection.loop
        left, right = socket.socketpair()
        left.setblocking(False)
        waiter = loop.create_future()
        waiter.cancel() if how == "cancelled" else waiter.set_result(7)
        protocol = connect.Notes()
        loop.set_exception_handler(lambda loop, context: seen.append(type(context["exception"])))
        seen = []
        transport = loop._make_socket_transport(left, protocol, waiter)
        turn(loop)
        right.send(b"x")
        turn(loop)
        transport.abort()
        turn(loop)
        right.close()
        return seen, protocol.calls

    both(play)


def test_order_of_the_end(both):
    """connection_lost() is a callback of its own, in the next turn."""
    def play(connect):
        seen = []
        for how in ("close", "abort"):
            connection = connect()
            loop, protocol = connection.loop, connection.protocol
            protocol.then = {"connection_lost": lambda t: (seen.append("lost"), loop.call_soon(seen.append, "lost, then"))}
            loop.call_soon(lambda: (seen.append("before"), getattr(connection.transport, how)(),
                                    loop.call_soon(seen.append, "after"), loop.call_later(0, seen.append, "timer")))
            for step in range(3):
                turn(loop)
                seen.append(step)
        return seen

    both(play)


def test_order_of_reading_and_writing(both):
    """Both in one turn: first what has come, then what waits."""
    def play(connect):
        connection = connect()
        write_backlog(connection)
        connection.peer.send(b"x")
        size = connection.get_write_buffer_size()
        turn(connection.loop)
        assert connection.get_write_buffer_size() == size
        seen = []
        connection.protocol.then = {
            "data_received": lambda t: seen.append(("read", t.get_write_buffer_size() == size)),
            "resume_writing": lambda t: seen.append("written")}
        connection.peer.send(b"x")
        connection.read_all(len(BIG) - 1000)
        turn(connection.loop, 2)
        return seen, connection.calls

    both(play)


def test_order_of_flow_control(both):
    """pause_writing() inside write(), resume_writing() inside the loop, connection_lost() when all is sent."""
    def play(connect):
        seen = []
        connection = connect()
        loop, protocol = connection.loop, connection.protocol
        protocol.then = {name: lambda t, name=name: (seen.append(name), loop.call_soon(seen.append, name + ", then"))
                         for name in ("pause_writing", "resume_writing", "connection_lost")}
        seen.append("write")
        write_backlog(connection)
        seen.append("written")
        data = connection.read_all(len(BIG))
        turn(loop)
        seen.append(len(data))
        write_backlog(connection)
        connection.close()
        loop.call_soon(seen.append, "closing")
        connection.read_all()
        turn(loop)
        return seen, protocol.calls

    both(play)


# -- flow control

@EACH("limits", [{}, {"high": 0}, {"low": 0}, {"high": 100}, {"low": 100}, {"high": 100, "low": 100}, {"high": 7, "low": 0},
                 {"high": 0, "low": 0}, {"high": 3}, {"high": 1 << 40}, {"high": True}, {"high": 1000, "low": 1001},
                 {"high": -1}, {"low": -1}, {"high": 5, "low": -1}, {"high": "a"}, {"low": "a"}, {"high": None, "low": None},
                 {"high": []}], ids=repr)
def test_limits(both, outcome, limits):
    def play(connect):
        connection = connect()
        return (outcome(connection.set_write_buffer_limits, **limits), connection.get_write_buffer_limits(),
                outcome(connection.set_write_buffer_limits, *limits.values()), connection.get_write_buffer_limits())

    both(play)


@EACH("limits", [(float("inf"), 0), (1e6, 10.5), (1 << 100, 1 << 90)], ids=repr)
def test_odd_limits(loop, connect, kind, limits):
    """asyncio takes whatever compares with a number."""
    connection = connect()
    connection.set_write_buffer_limits(*limits)
    low, high = connection.get_write_buffer_limits()
    assert low <= limits[1] and high <= limits[0]
    write_backlog(connection)
    assert ("pause_writing" in connection.calls) == (limits == (1e6, 10.5))


@EACH("high, low", [(0, 0), (1000, 10), (100_000, 0), (1_000_000, 999_999)], ids=str)
def test_flow(loop, connect, high, low):
    """Paused above high, resumed at low or below; once each."""
    connection = connect()
    connection.set_write_buffer_limits(high, low)
    paused = []
    connection.protocol.then = {"pause_writing": lambda t: paused.append(t.get_write_buffer_size()),
                                "resume_writing": lambda t: paused.append(t.get_write_buffer_size())}
    for _ in range(30):
        connection.write(BIG[:100_000])
        waiting = connection.get_write_buffer_size()
        assert (len(paused) % 2 == 1) == (waiting > high)
    assert connection.read_all(3_000_000) == BIG[:100_000] * 30
    until(loop, lambda: connection.get_write_buffer_size() == 0)
    assert len(paused) == 2 and paused[0] > high and paused[1] <= low
    assert connection.calls == ["connection_made", "pause_writing", "resume_writing"]


def test_lowering_the_limits_pauses(loop, connect):
    connection = connect()
    connection.set_write_buffer_limits(high=1 << 30)
    write_backlog(connection)
    assert connection.calls == ["connection_made"]
    connection.set_write_buffer_limits(high=1000)
    connection.set_write_buffer_limits(high=1001)
    assert connection.calls == ["connection_made", "pause_writing"]


def test_raising_the_limits_does_not_resume(both):
    def play(connect):
        connection = connect()
        write_backlog(connection)
        connection.set_write_buffer_limits(high=1 << 30)
        return connection.calls

    both(play)


@pytest.mark.oracle_bug((3, 14), "writelines() pauses nobody")
def test_writelines_pauses(loop, connect):
    connection = connect()
    connection.writelines([BIG, BIG])
    assert connection.calls == ["connection_made", "pause_writing"]


def test_writing_in_pause_and_resume(loop, connect):
    connection = connect(pause_writing=lambda t: t.write(b"paused"),
                         resume_writing=lambda t: t.write(b"resumed") or (t.write(BIG) if len(again) < 1 else None)
                         or again.append(1))
    again = []
    connection.write(BIG)
    connection.write(b"after")
    expected = BIG + b"paused" + b"after"
    data = connection.read_all(len(expected))
    assert data[:len(expected)] == expected
    data += connection.read_all(len(b"resumed" + BIG + b"paused" + b"resumed") - (len(data) - len(expected)))
    assert data[len(expected):] == b"resumed" + BIG + b"paused" + b"resumed"
    assert connection.calls == ["connection_made"] + ["pause_writing", "resume_writing"] * 2


# -- reading

@EACH("buffered", [False, True], ids=["", "buffered"])
def test_pausing(loop, connect, buffered):
    connection = connect(buffered=buffered)
    for pause in (False, True, True, False, False, True):
        getattr(connection, "pause_reading" if pause else "resume_reading")()
        assert connection.is_reading() is not pause
        before = bytes(connection.protocol.data)
        connection.peer.send(b"x")
        turn(loop, 3)
        assert (connection.protocol.data == before) == pause
    connection.resume_reading()
    turn(loop)
    assert connection.protocol.data == b"x" * 6


def test_paused_before_it_begins(both):
    def play(connect):
        connection = connect(made=False)
        connection.peer.send(b"x")
        connection.pause_reading()
        turn(connection.loop, 3)
        seen = connection.facts()
        connection.resume_reading()
        turn(connection.loop)
        return seen, connection.facts()

    both(play)


def test_pausing_what_a_peer_closes(loop, connect):
    """Noticed when it is resumed; and until then nobody is woken in vain."""
    connection = connect()
    connection.pause_reading()
    connection.peer.send(b"last")
    connection.peer.close()
    turn(loop, 5)
    assert connection.calls == ["connection_made"]
    assert idle_turns(loop) < 10
    connection.resume_reading()
    turn(loop, 3)
    assert connection.calls == ["connection_made", "data_received", "eof_received", ("connection_lost", None)]


@EACH("size", [1, 1000, 16383, 16384, 16385, 100_000])
def test_what_is_kept_stays_right(loop, connect, size):
    """The bytes object that is given is the protocol's for good; whatever is read later goes elsewhere."""
    kept, hashes = [], {}

    class Keeper(connect.Notes):
        def data_received(self, data):
            assert type(data) is bytes
            kept.append(data)
            hashes[data] = bytes(bytearray(data))

    connection = connect(Keeper(), sockets=connect.tcp_pair())
    sent = b""
    for n in range(20):
        chunk = random.Random(n).randbytes(size)
        sent += chunk
        connection.peer.sendall(chunk)
        until(loop, lambda: sum(map(len, kept)) == len(sent))
    assert b"".join(kept) == sent
    for data, copy in hashes.items():
        assert data == copy and hash(data) == hash(copy) and hashes[copy] is copy and data in hashes


@EACH("keep", ["nothing", "views", "slices", "hashes", "every other", "the last", "sets"])
def test_keeping_in_every_way(loop, connect, keep):
    """Large reads: the object comes back to be read into again only if nobody has it."""
    kept, count = [], 0

    def received(data):
        nonlocal count
        assert data[:4] == b"%04d" % count and data == b"%04d" % count + bytes([count]) * (len(data) - 4)
        if keep == "views":
            kept.append((memoryview(data)[1:], bytes(bytearray(data[1:]))))
        elif keep == "slices":
            kept.append((data[:], bytes(bytearray(data))))
        elif keep == "hashes":
            assert hash(data) == hash(bytes(bytearray(data)))
        elif keep == "every other" and count % 2 or keep == "the last":
            kept[-1:] = [] if keep == "the last" else kept[-1:]
            kept.append((data, bytes(bytearray(data))))
        elif keep == "sets":
            kept.append(({data}, {bytes(bytearray(data))}))
        count += 1
        for data, copy in kept:
            assert data == copy

    class Protocol(connect.Notes):
        def data_received(self, data):
            received(data)

    connection = connect(Protocol())
    connection.peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 400_000)
    for n in range(60):
        connection.peer.send(b"%04d" % n + bytes([n]) * (20_000 + 10 * n))
        turn(loop)
    assert count == 60


def test_kept_by_two_and_read_in_turns(loop, connect):
    """Connections share the object that is read into."""
    kept = {}

    class Protocol(connect.Notes):
        def data_received(self, data):
            kept.setdefault(self, []).append(data)

    pairs = [connect(Protocol() if n % 2 else None) for n in range(4)]
    for n in range(10):
        for number, connection in enumerate(pairs):
            connection.peer.send(bytes([65 + n, 97 + number]) * 10_000)
        turn(loop, 8)       # a poll may bring one event only
    for number, connection in enumerate(pairs):
        data = b"".join(kept.get(connection.protocol, [bytes(connection.protocol.data)]))
        assert data == b"".join(bytes([65 + n, 97 + number]) * 10_000 for n in range(10))


def test_what_a_program_has_stays_what_it_is(loop, connect):
    """Sizes whose memory is used anew: some are written back, some kept, as they are or by a view; all in any order."""
    rng, kept, sent = random.Random(5), [], []

    class Protocol(connect.Notes):
        def data_received(self, data):
            hash(data)          # which is noted in the object
            if rng.random() < 0.5:
                self.transport.write(data)
                sent.append(bytes(bytearray(data)))
            if rng.random() < 0.3:
                data = rng.choice([data, memoryview(data), [data]])
                kept.append((data, bytes(bytearray(data[0] if type(data) is list else data))))

    connection = connect(Protocol())
    connection.protocol.transport = connection.transport
    connection.peer.setblocking(False)
    for n in range(600):
        size = rng.choice([900, 1000, 1023, 1024, 1025, 1030, 1087, 1088, 4000, 10_240, 10_250, 16_383, 16_384])
        connection.peer.send(bytes([n % 251, n % 250]) * (size // 2) + b"x" * (size % 2))
        for _ in range(rng.randrange(3)):
            kept and kept.pop(rng.randrange(len(kept)))
        if rng.random() < 0.7:
            turn(loop)
            got = b""
            with contextlib.suppress(BlockingIOError):
                while True:
                    got += connection.peer.recv(1 << 20)
            assert got == b"".join(sent)
            sent.clear()
        for data, copy in kept:
            for data in [data] if type(data) is not list else data:
                assert data == copy and hash(data) == hash(copy) and len(data) == len(copy)


def test_loops_inside_a_callback(loop, connect, loop_factory):
    """Another loop that runs, in data_received(), while the object is lent."""
    class Outer(connect.Notes):
        def data_received(self, data):
            asyncio._set_running_loop(None)
            inner = loop_factory()
            other = type(connect)(inner, connect.made)()
            other.peer.send(b"inner" * 5000)
            until(inner, lambda: len(other.protocol.data) == 25_000)
            other.end()
            inner.close()
            asyncio._set_running_loop(loop)
            assert data == b"outer" * 5000
            self.data += data

    connection = connect(Outer())
    for _ in range(3):
        connection.peer.send(b"outer" * 5000)
        turn(loop)
    assert connection.protocol.data == b"outer" * 15_000


def test_a_byte_at_a_time(loop, connect):
    connection = connect()
    for byte in b"one byte at a time":
        connection.peer.send(bytes([byte]))
        turn(loop)
    assert connection.protocol.data == b"one byte at a time" and len(connection.calls) == 19


@EACH("buffer", [lambda: bytearray(0), lambda: b"abc", lambda: None, lambda: 5, lambda: "abc",
                 lambda: memoryview(bytearray(10))[::2], lambda: memoryview(b"abc"), lambda: memoryview(bytearray(4))[2:],
                 lambda: memoryview(bytearray(8)).cast("I"), lambda: [1]],
       ids=["empty", "bytes", "None", "int", "str", "steps", "read-only", "view", "items", "list"])
def test_buffers(both, buffer):
    """What get_buffer() may give, and what happens if it may not."""
    def play(connect):
        contexts = []
        buffers = []
        connection = connect(buffered=True, get_buffer=lambda t: buffers.append(buffer()) or buffers[-1])
        connection.protocol.buffer = None
        connection.protocol.buffer_updated = lambda count: contexts.append((count, bytes(buffers[-1])))
        connection.loop.set_exception_handler(lambda loop, context: contexts.append(
            (context["message"], type(context["exception"]), str(context["exception"]))))
        connection.peer.send(b"12345678")
        turn(connection.loop, 2)
        return contexts, [call for call in connection.calls if call != "get_buffer"]

    both(play)


@EACH("at", [0, 1, 16, 31, 32, 4079, 4095])
@EACH("room", [3, 5000, 300_000])
def test_buffer_wherever_it_begins(loop, connect, at, room):
    """Where a large block begins is the fastest place to receive at on some machines and the slowest on others."""
    block = bytearray(400_000)
    connection = connect(buffered=True, get_buffer=lambda t: memoryview(block)[at:at + room])
    got = bytearray()
    connection.protocol.buffer_updated = lambda count: got.extend(block[at:at + count])
    data = (bytes(range(251)) * 20)[:2000]
    connection.peer.send(data)
    until(loop, lambda: len(got) >= len(data))
    assert got == data and not any(block[:at]) and not any(block[at + room:])


def test_buffer_that_is_resized(loop, connect):
    """The buffer is let go before buffer_updated()."""
    class Protocol(connect.BufferedNotes):
        def buffer_updated(self, count):
            super().buffer_updated(count)
            self.buffer.extend(b"more")
            del self.buffer[10:]

    connection = connect(Protocol(8))
    connection.peer.send(b"0123456789abcdefghi")
    turn(loop, 4)
    assert connection.protocol.data == b"0123456789abcdefghi"


@EACH("first", [False, True], ids=["", "buffered"])
@EACH("then", [False, True], ids=["", "to buffered"])
@EACH("when", ["outside", "inside"])
def test_set_protocol(both, first, then, when):
    """Of either kind, at any time."""
    def play(connect):
        connection = connect(buffered=first)
        new = (connect.BufferedNotes if then else connect.Notes)()
        connection.peer.send(b"one")
        turn(connection.loop)
        if when == "outside":
            connection.set_protocol(new)
        else:
            change = {name: lambda t: t.set_protocol(new) for name in ("data_received", "buffer_updated")}
            connection.protocol.then = change
        assert connection.get_protocol() is (new if when == "outside" else connection.protocol)
        for data in (b"two", b"three"):
            connection.peer.send(data)
            turn(connection.loop)
        connection.peer.close()
        turn(connection.loop, 2)
        return connection.calls, connection.protocol.data, new.calls, new.data, connection.facts()

    both(play)


@EACH("name", ["pause_writing", "resume_writing", "eof_received", "connection_made"])
def test_set_protocol_in_callbacks(both, name):
    def play(connect):
        new = connect.Notes()
        connection = connect(made=False, **{name: lambda t: t.set_protocol(new)})
        turn(connection.loop)
        connection.write(BIG)
        connection.read_all(len(BIG))
        turn(connection.loop)
        connection.peer.send(b"x")
        turn(connection.loop)
        connection.peer.close()
        turn(connection.loop, 2)
        return connection.calls, new.calls, new.data

    both(play)


@EACH("thing", [None, object(), asyncio.BaseProtocol(), 5], ids=["None", "object", "BaseProtocol", "int"])
def test_protocol_that_is_none(both, thing):
    """Nobody checks it; what is missing is an error when it is called."""
    def play(connect):
        contexts = []
        connection = connect()
        connection.loop.set_exception_handler(lambda loop, context: contexts.append(
            (context["message"].split("_call_connection_lost")[0].replace("_SelectorS", "S"), str(context["exception"]))))
        connection.set_protocol(thing)
        assert connection.get_protocol() is thing
        connection.peer.send(b"x")
        turn(connection.loop, 3)
        return [(message, ADDRESS.sub("0x", error)) for message, error in contexts], connection.transport._sock is None

    both(play)


# -- attributes and looks

def test_what_a_transport_is(loop, connect, kind):
    transport = connect().transport
    assert isinstance(transport, asyncio.Transport) and isinstance(transport, asyncio.ReadTransport)
    assert isinstance(transport, asyncio.WriteTransport) and not isinstance(transport, asyncio.DatagramTransport)
    assert transport._start_tls_compatible is True and transport.can_write_eof() is True
    assert transport._sendfile_compatible is asyncio.constants._SendfileMode.TRY_NATIVE
    assert transport.max_size == 256 * 1024
    assert transport == transport and hash(transport) == hash(transport) and bool(transport) is True
    assert type(transport).__name__ == ("SocketTransport" if kind.fast else "_SelectorSocketTransport")


def test_private_names(both):
    """Programs look at them all the same."""
    def names(connection):
        t = connection.transport
        return (t._loop is connection.loop, t._protocol is connection.protocol, t._sock is connection.sock,
                t._sock_fd == connection.fd, t._server, t._closing, t._paused, t._eof, t._conn_lost, t._protocol_paused,
                t._empty_waiter, sorted(t._extra))

    def play(connect):
        seen = []
        for prepare in (called(), called("pause_reading"), called("write_eof"), called("close"), called("abort", turns=1),
                        write_backlog):
            connection = connect()
            prepare(connection)
            seen.append(names(connection))
        return seen

    both(play)


def test_attributes(loop, connect):
    transport = connect().transport
    transport.x = transport.y = 1
    assert transport.x == 1 and transport.__dict__ == {"x": 1, "y": 1} | {
        name: value for name, value in transport.__dict__.items() if name.startswith("_")}
    del transport.x
    assert not hasattr(transport, "x")
    with pytest.raises(AttributeError):
        transport.x
    written = []
    transport.write = written.append
    transport.write(b"spied")
    assert written == [b"spied"]
    del transport.write
    transport.write(b"sent")
    ref, key = weakref.ref(transport), weakref.WeakKeyDictionary({transport: 1})
    assert ref() is transport and list(key) == [transport]


def test_spies_see_what_streams_do(loop, connect):
    """StreamWriter calls the transport's attributes."""
    async def main():
        left, right = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=left)
        calls = []
        for name in ("write", "writelines", "write_eof", "close"):
            real = getattr(writer.transport, name)
            setattr(writer.transport, name, lambda *args, name=name, real=real: (calls.append(name), real(*args)))
        writer.write(b"a")
        writer.writelines([b"b"])
        writer.write_eof()
        writer.close()
        await writer.wait_closed()
        right.close()
        return [name for name in calls if name != "write" or calls.count("writelines") > 0]

    assert loop.run_until_complete(main()) == ["write", "writelines", "write_eof", "close"] or sys.version_info < (3, 12)


def test_subclass(connect, loop):
    """asyncio's class may be subclassed."""
    class Transport(type(connect().transport)):
        def write(self, data):
            super().write(bytes(data).upper())

    left, right = socket.socketpair()
    left.setblocking(False)
    protocol = connect.Notes()
    transport = Transport(loop, left, protocol)
    turn(loop)
    transport.write(b"shouted")
    assert right.recv(100) == b"SHOUTED" and repr(transport).startswith("<Transport fd=")
    transport.attribute = transport
    transport.close()
    turn(loop)
    assert protocol.calls == ["connection_made", ("connection_lost", None)]
    right.close()


def test_repr(both):
    def play(connect):
        seen = []
        for name, prepare in STATES.items():
            connection = connect(made=name != "new")
            if prepare:
                prepare(connection)
            seen.append((name, connection.facts()[0]))
        return [(name, re.sub("bufsize=[1-9][0-9]+", "bufsize=...", text)) for name, text in seen]

    texts = dict(both(play))
    assert texts["idle"] == "<SocketTransport fd=... read=polling write=<idle, bufsize=0>>"
    assert texts["backlog, closing"] == "<SocketTransport closing fd=... read=idle write=<polling, bufsize=...>>"
    assert texts["lost"] == "<SocketTransport closed fd=...>"


def test_repr_knows_that_the_peer_has_gone(both):
    """From the write that found out: what is held back is sent before any part of the text is put down."""
    def play(connect):
        connection = connect()
        connection.peer.shutdown(socket.SHUT_RD)
        turn(connection.loop, 2)

        def callback():
            connection.write(b"x")
            return connection.facts()[0]

        return connection.do(callback)

    assert both(play) == "<SocketTransport closing fd=... read=idle write=<idle, bufsize=0>>"


def test_repr_when_the_loop_is_closed(loop, connect, kind):
    connection = connect()
    connection.pause_reading()
    loop.close()
    name = "SocketTransport" if kind.fast else "_SelectorSocketTransport"
    assert repr(connection.transport) == f"<{name} fd={connection.fd}>"


@pytest.mark.only_asyncfast
def test_a_transport_that_was_never_made(loop, connect):
    """Of the C type: nothing may crash, and it is made but once."""
    cls = type(connect().transport)
    for args in ((), (1,), (loop,), (1, 2, 3), (loop, 2, 3), (loop, "sock", connect.Notes())):
        with pytest.raises((TypeError, ValueError, AttributeError)):
            cls(*args)
    bare = cls.__new__(cls)
    for name in ("write_eof", "close", "abort", "pause_reading", "resume_reading", "is_reading", "get_protocol",
                 "get_write_buffer_size", "get_write_buffer_limits", "set_write_buffer_limits", "_reset_empty_waiter"):
        getattr(bare, name)()
    bare.write(b"x")
    bare.writelines([b"x"])
    bare.set_protocol(connect.Notes())
    for call in (lambda: bare._start(None), lambda: bare._force_close(None), lambda: bare._call_connection_lost(None),
                 lambda: bare._fatal_error(ValueError()), lambda: bare.get_extra_info("x"), lambda: bare._make_empty_waiter(),
                 lambda: [getattr(bare, name) for name in dir(bare) if name != "_extra"], lambda: repr(bare)):
        with contextlib.suppress(AttributeError, SystemError, RuntimeError):
            call()
    made = connect()
    for transport in (made.transport, made):
        with pytest.raises(RuntimeError, match="only once"):
            made.transport.__init__(loop, made.sock, connect.Notes())
        transport.abort()
        turn(loop)
    with pytest.raises(RuntimeError, match="only once"):
        made.transport.__init__(loop, made.sock, connect.Notes())


# -- extra info

def shapes(connect, tmp_path):
    """Pairs of sockets of all kinds, and what is given as extra."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        client = socket.socket(socket.AF_UNIX)
        client.connect(path)
        server, _ = listener.accept()
        os.unlink(path)
    yield "unix", client, server
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(b"\0asyncfast test " + str(os.getpid()).encode())
        listener.listen()
        client = socket.socket(socket.AF_UNIX)
        client.connect(listener.getsockname())
        server, _ = listener.accept()
    yield "abstract", client, server
    yield "pair", *socket.socketpair()
    yield "tcp", *connect.tcp_pair()
    if socket.has_ipv6:
        with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
            client = socket.create_connection(listener.getsockname()[:2])
            server, _ = listener.accept()
            yield "ipv6", client, server


def test_extra_info(loop, connect, tmp_path):
    for name, client, server in shapes(connect, tmp_path):
        for sock, peer in ((client, server), (server.dup(), client.dup())):
            sockname, peername = sock.getsockname(), sock.getpeername()
            connection = connect(sockets=(sock, peer))
            assert connection.get_extra_info("sockname") == sockname == connection.get_extra_info("socket").getsockname()
            assert connection.get_extra_info("peername") == peername
            given = connection.get_extra_info("socket")
            assert type(given) is asyncio.trsock.TransportSocket and given.fileno() == connection.fd
            assert given.family == sock.family and given.type == socket.SOCK_STREAM
            assert connection.get_extra_info("nothing") is None and connection.get_extra_info("nothing", 1) == 1
            assert connection.get_extra_info(name="x", default="y") == "y"
            if sock.proto == socket.IPPROTO_TCP:
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
            connection.abort()
            turn(loop)
            assert connection.get_extra_info("peername") == peername and given.fileno() == -1


def test_extra_info_of_a_peer_that_has_gone(both):
    def play(connect):
        seen = []
        for bury in (socket.socket.close, connect.reset):
            left, right = connect.tcp_pair()
            bury(right)
            connection = connect(sockets=(left, socket.socket()))
            seen.append((connection.get_extra_info("peername") is None, connection.get_extra_info("sockname") is None))
        return seen

    assert (True, False) in both(play)


async def test_extra_info_of_a_client_that_has_gone(loop, connect):
    """Accepted when nobody is there any more: the address is the one that accept() gave."""
    made = loop.create_future()
    server = await loop.create_server(lambda: connect.Notes(connection_made=lambda t: made.set_result(t)), "127.0.0.1", 0)
    client = socket.create_connection(server.sockets[0].getsockname())
    address = client.getsockname()
    connect.reset(client)
    transport = await made
    assert transport.get_extra_info("peername") == address
    transport.abort()
    server.close()
    await asyncio.sleep(0)


def test_extra_that_is_given(loop, connect):
    """Kept, and its peername is believed."""
    left, right = socket.socketpair()
    left.setblocking(False)
    extra = {"peername": "somebody", "more": [1]}
    transport = loop._make_socket_transport(left, connect.Notes(), extra=extra)
    assert transport.get_extra_info("peername") == "somebody" and transport.get_extra_info("more") == [1]
    assert transport.get_extra_info("sockname") == ""
    transport.abort()
    turn(loop, 2)
    right.close()
