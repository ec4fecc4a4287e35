"""The transport of stream sockets: errors, what becomes of it in the end, and whatever can go wrong.

As in test_stream_transport.py, asyncio says what is right.
"""

import asyncio
import contextlib
import contextvars
import gc
import io
import logging
import os
import random
import re
import socket
import sys
import threading
import warnings
import weakref

import pytest
from _turns import ADDRESS, BIG, EACH, called, idle_turns, turn, until, write_backlog

QUICK = pytest.mark.kinds("asyncfast", "asyncio")


# -- errors

def summary(context, connection):
    """A context of the exception handler, for comparing."""
    text = context["message"].replace("_SelectorSocketTransport", "SocketTransport")
    text = re.sub(r"connection_made\(.*\)", "connection_made()", text)
    for callback in ("_write_ready", "_write_sendmsg", "_write_send"):      # where ours has no callback, but a transport
        if f"SocketTransport.{callback}(" in text:
            return "Exception in callback of transport", type(context["exception"]), str(context["exception"])
    return (ADDRESS.sub("0x", text), type(context["exception"]), str(context["exception"]),
            context.get("transport", connection.transport) is connection.transport,
            context.get("protocol", connection.protocol) is connection.protocol,
            sorted(set(context) - {"source_traceback"}))


def fail(error):
    def then(transport):
        raise error
    return then


CALLBACKS = ("connection_made", "data_received", "get_buffer", "buffer_updated", "eof_received", "pause_writing",
             "resume_writing", "connection_lost")
ERRORS = [ValueError("x"), OSError(5, "x"), asyncio.CancelledError("x"), GeneratorExit("x"), BrokenPipeError("x")]


def play_all(connection, seen):
    """Whatever can happen to a connection, once."""
    loop = connection.loop
    for step in (lambda: connection.peer.send(b"x"), lambda: connection.do(lambda: connection.write(BIG)),
                 lambda: connection.read_all(len(BIG)), lambda: turn(loop, 2), lambda: connection.peer.shutdown(socket.SHUT_WR)):
        with contextlib.suppress(ConnectionError):
            step()
        turn(loop, 2)
        seen.append(connection.facts())


@EACH("error", ERRORS, ids=lambda error: type(error).__name__)
@EACH("name", CALLBACKS)
def test_errors_in_callbacks(both, name, error):
    """What the exception handler is told, and what becomes of the connection."""
    def play(connect):
        seen = []
        connection = connect(buffered="buffer" in name, made=False, **{name: fail(error)})
        connection.loop.set_exception_handler(lambda loop, context: seen.append(summary(context, connection)))
        turn(connection.loop)
        play_all(connection, seen)
        return seen

    both(play)


@EACH("error", [SystemExit, KeyboardInterrupt])
@EACH("name", CALLBACKS)
def test_exits_from_callbacks(both, error, name):
    """They end the run of the loop, which can be run again; or come out of write()."""
    def play(connect):
        seen = []

        def then(transport):
            connection.protocol.then = {}
            raise error(name)

        connection = connect(buffered="buffer" in name, made=False, **{name: then})
        loop = connection.loop
        loop.set_exception_handler(lambda loop, context: seen.append(summary(context, connection)))

        def exits(step):
            with contextlib.suppress(ConnectionError):
                try:
                    step()
                except error as exc:
                    seen.append(str(exc))

        exits(lambda: turn(loop))
        exits(lambda: connection.write(BIG))
        for _ in range(200):
            exits(connection.read)
            exits(lambda: turn(loop))
        exits(lambda: connection.peer.send(b"x"))
        exits(lambda: turn(loop))
        seen.append(connection.facts())
        exits(lambda: connection.peer.shutdown(socket.SHUT_WR))
        for _ in range(3):
            exits(lambda: turn(loop))
        assert str(seen).count(f"'{name}'") >= 1
        return seen, connection.facts(), connection.protocol.data

    both(play)


@EACH("error", [SystemExit, KeyboardInterrupt, ValueError])
@pytest.mark.only_asyncfast
def test_exception_handler_that_raises(loop, connect, logged, error):
    """asyncio's then leaves the connection as it is."""
    connection = connect(data_received=fail(ArithmeticError("first")))

    def handler(loop, context):
        raise error(str(context["exception"]))

    loop.set_exception_handler(handler)
    connection.peer.send(b"x")
    if error is ValueError:
        turn(loop)
        assert "error in " in logged.take()[0]
    else:
        with pytest.raises(error, match="first"):
            turn(loop)
    turn(loop)
    assert connection.calls[-1] == ("connection_lost", ArithmeticError)


@EACH("name", ["data_received", "buffer_updated", "eof_received", "resume_writing", "pause_writing", "connection_made"])
@EACH("how", ["close", "abort"])
def test_errors_after_the_end(both, name, how):
    """A callback closes the transport, and then raises."""
    def play(connect):
        seen = []

        def then(transport):
            getattr(transport, how)()
            raise ValueError(name)

        connection = connect(buffered="buffer" in name, made=False, **{name: then})
        connection.loop.set_exception_handler(lambda loop, context: seen.append(summary(context, connection)))
        turn(connection.loop)
        play_all(connection, seen)
        return seen

    if name == "resume_writing" and sys.version_info < (3, 14):
        pytest.skip("asyncio calls connection_lost() twice")
    both(play)


def test_fatal_error(both):
    """asyncio.sslproto uses it."""
    def play(connect):
        seen = []
        for args in ((ValueError("x"), "why"), (ValueError("y"),), (OSError("z"), "not said"), (BrokenPipeError(),)):
            connection = connect()
            connection.loop.set_exception_handler(lambda loop, context: seen.append(summary(context, connection)))
            connection.transport._fatal_error(*args)
            turn(connection.loop)
            seen.append(connection.facts())
        return seen

    both(play)


def forced(error):
    return lambda connection: connection.transport._force_close(error)


@EACH("error", [None, OSError(1, "x"), ValueError()], ids=repr)
def test_reason_of_connection_lost(loop, connect, error):
    reasons = []

    class Protocol(connect.Notes):
        def connection_lost(self, error):
            reasons.append(error)

    connection = connect(Protocol())
    connection.transport._force_close(error)
    turn(loop)
    assert len(reasons) == 1 and reasons[0] is error


@EACH("when", ["idle", "paused", "backlog", "closing", "keep open"])
@EACH("call", ["nothing", "write", "write_eof", "close", "read"])
def test_reset_by_the_peer(both, outcome, when, call):
    """SO_LINGER 0: ECONNRESET or EPIPE, at whatever comes first."""
    def play(connect):
        connection = connect(sockets=connect.tcp_pair(), eof_received=lambda t: True)
        seen = []
        if when == "paused":
            connection.pause_reading()
        if when in ("backlog", "closing"):
            connection.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.write(BIG * 8)
            assert connection.get_write_buffer_size() > 0
        if when == "closing":
            connection.close()
        if when == "keep open":
            connection.peer.shutdown(socket.SHUT_WR)
            until(connection.loop, lambda: "eof_received" in connection.calls)
        connect.reset(connection.peer)
        for _ in range(2):
            if call == "write":
                seen.append(outcome(connection.write, b"x"))
            elif call == "read":
                seen.append(outcome(connection.resume_reading))
            elif call != "nothing":
                seen.append(outcome(getattr(connection, call)))
            turn(connection.loop, 3)
            seen.append(re.sub("bufsize=[0-9]+", "", str(connection.facts())))
        return re.sub(r"\b\d{5,}\b", "many", str(seen))

    both(play)


def test_a_peer_that_has_closed(loop, connect):
    """EPIPE on the second write; no signal."""
    connection = connect(eof_received=lambda t: True, sockets=connect.tcp_pair())
    connection.peer.close()
    until(loop, lambda: "eof_received" in connection.calls)
    for _ in range(1000):
        connection.write(b"x")
        turn(loop)
        if connection.is_closing():
            break
    until(loop, lambda: connection.transport._sock is None)
    assert connection.calls[-1][0] == "connection_lost" and issubclass(connection.calls[-1][1], ConnectionError)


# -- callbacks that do the worst

def end_it(transport):
    transport._call_connection_lost(None)


def run_out(transport):
    """Everything that refers to the protocol but the transport."""
    transport.set_protocol(asyncio.Protocol())
    gc.collect()


def replace_often(transport):
    for n in range(300):
        transport.set_protocol([asyncio.Protocol, asyncio.BufferedProtocol][n % 2]())
    transport.set_protocol(asyncio.Protocol())


def write_and_end(transport):
    transport.write(b"x")
    transport._call_connection_lost(None)
    transport.write(b"x")
    transport.writelines([b"x"])


def start_again(transport):
    transport._start(None)


def forget(transport):
    transport.__dict__.clear()
    del transport._extra
    gc.collect()


def end_and_raise(transport):
    transport._call_connection_lost(None)
    raise ValueError


DEEDS = [end_it, run_out, replace_often, write_and_end, forget, end_and_raise, start_again]


@pytest.mark.only_asyncfast
@EACH("deed", DEEDS, ids=lambda deed: deed.__name__)
@EACH("name", CALLBACKS)
def test_deeds(loop, connect, logged, name, deed):
    """What no program does; it may go wrong, but nothing crashes and nothing hangs."""
    if (name, deed) == ("connection_made", start_again):
        return      # for ever
    loop.set_exception_handler(lambda loop, context: str(context))
    connection = connect(buffered="buffer" in name, made=False, **{name: deed})
    connection.protocol.transport = connection.transport
    turn(loop)
    for step in (lambda: connection.peer.send(b"x"), lambda: connection.do(lambda: connection.write(BIG)),
                 lambda: turn(loop), lambda: connection.read(), lambda: turn(loop),
                 lambda: connection.peer.shutdown(socket.SHUT_WR), lambda: turn(loop, 2),
                 lambda: repr(connection.transport), lambda: connection.abort(), lambda: turn(loop, 2)):
        with contextlib.suppress(OSError, AttributeError, RuntimeError, ValueError, IndexError, TypeError):
            step()
    logged.take()


class Evil:
    """Does something whenever it is looked at."""

    def __init__(self, deed):
        self.deed = deed

    def __bool__(self):
        self.deed()
        return True

    def __len__(self):
        self.deed()
        return 100

    def __hash__(self):
        self.deed()
        return 1

    def __buffer__(self, flags):
        self.deed()
        return memoryview(bytearray(100))

    def __release_buffer__(self, view):
        self.deed()


@pytest.mark.only_asyncfast
@EACH("deed", [end_it, run_out, replace_often, write_and_end, forget, lambda t: t.abort(), lambda t: t.write_eof(),
               fail(ValueError("evil")), lambda t: t.write(BIG), lambda t: t.close()],
      ids=["end_it", "run_out", "replace_often", "write_and_end", "forget", "abort", "write_eof", "raise", "write", "close"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")      # out of __release_buffer__()
def test_evil_arguments(loop, connect, logged, outcome, deed):
    """Objects whose methods are called by the transport, and which end it meanwhile."""
    loop.set_exception_handler(lambda loop, context: str(context))

    def evil():
        return Evil(lambda: deed(connection.transport))

    class EvilBytes(bytes):
        def __buffer__(self, flags):
            deed(connection.transport)
            return super().__buffer__(flags)

    for use in (lambda: connection.writelines([b"x", evil(), b"y"]), lambda: connection.writelines(evil()),
                lambda: connection.write(EvilBytes(b"abc")), lambda: connection.writelines([EvilBytes(b"abc")]),
                lambda: connection.set_write_buffer_limits(evil()), lambda: connection.get_extra_info(evil())):
        for waiting in (False, True):
            for inside in (False, True):
                connection = connect()
                if waiting:
                    write_backlog(connection)
                connection.do(lambda: (connection.write(b"held"), outcome(use)), inside)
                turn(loop, 2)
                connection.read()
                turn(loop, 2)
    connection = connect(eof_received=lambda t: evil())
    connection.peer.close()
    turn(loop, 3)
    connection = connect(buffered=True, get_buffer=lambda t: evil())
    connection.peer.send(b"x")
    turn(loop, 3)
    logged.take()


@pytest.mark.only_asyncfast
def test_threads_that_write(loop, connect):
    """Nobody may; but each write stays whole, and nothing crashes."""
    connection = connect()
    threads = [threading.Thread(target=lambda n=n: [connection.write(bytes([65 + n]) * 10) for _ in range(2000)])
               for n in range(4)]
    data = bytearray()
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        connection.do(lambda: [connection.write(b"zzzzzzzzzz") for _ in range(5)])
        data += connection.read()[0]
    connection.close()
    data += connection.read_all()
    assert len(data) % 10 == 0 and data.count(b"A") == data.count(b"D") == 20_000
    assert all(data[n:n + 10] == data[n:n + 1] * 10 for n in range(0, len(data), 10))


# -- contexts

VAR = contextvars.ContextVar("VAR", default="-")


def in_context(value, call, *args):
    """As somebody who has set the variable would."""
    def run():
        VAR.set(value)
        return call(*args)

    return contextvars.Context().run(run)


@EACH("changes", [False, True], ids=["", "changing"])
@EACH("inside", [False, True], ids=["", "inside"])
@EACH("buffered", [False, True], ids=["", "buffered"])
@EACH("how", ["close", "abort", "peer", "error"])
def test_contexts(both, changes, inside, buffered, how):
    """In whose context each callback runs; what one of them changes, the others see or do not see, as on asyncio."""
    def play(connect):
        seen = []

        def note(name):
            def then(transport):
                seen.append((name, VAR.get()))
                if changes:
                    VAR.set(VAR.get() + "," + name[0])
            return then

        then = {name: note(name) for name in CALLBACKS if name != "get_buffer"}
        connection = in_context("made", lambda: connect(made=False, buffered=buffered, **then))
        loop = connection.loop
        do = lambda value, call: connection.do(lambda: in_context(value, call), inside)     # noqa: E731
        turn(loop)
        for n in range(3):
            connection.peer.send(b"x")
            turn(loop)
        do("writer", lambda: connection.write(BIG))
        do("second writer", lambda: connection.write(BIG))
        connection.read_all(2 * len(BIG))
        turn(loop)
        do("third writer", lambda: [connection.write(b"small"), connection.write(BIG)])
        connection.read_all(len(BIG))
        turn(loop)
        do("pauser", connection.pause_reading)
        do("resumer", connection.resume_reading)
        for n in range(2):
            connection.peer.send(b"x")
            turn(loop)
        do("setter", lambda: connection.set_protocol(connection.protocol))
        if how == "peer":
            do("nobody", connection.peer.close)
        elif how == "error":
            loop.set_exception_handler(lambda loop, context: seen.append(("handler", VAR.get())))
            connection.protocol.then["buffer_updated" if buffered else "data_received"] = fail(ValueError())
            connection.peer.send(b"x")
        else:
            do("closer", getattr(connection, how))
        turn(loop, 3)
        assert VAR.get() == "-"
        return seen

    both(play)


def test_contexts_of_a_server(both):
    """What listens is what was set when the server was made, for each connection anew."""
    def play(connect):
        loop, seen = connect.loop, []

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport):
                seen.append(("made", VAR.get()))
                VAR.set("made")
                self.transport = transport

            def data_received(self, data):
                seen.append(("data", VAR.get()))
                VAR.set(VAR.get() + "+")
                self.transport.close()

            def connection_lost(self, error):
                seen.append(("lost", VAR.get()))

        def factory():
            seen.append(("factory", VAR.get()))
            VAR.set("factory")
            return Protocol()

        server = in_context("server", lambda: loop.run_until_complete(loop.create_server(factory, "127.0.0.1", 0)))
        for n in range(2):
            with socket.create_connection(server.sockets[0].getsockname()) as client:
                client.send(b"x")
                until(loop, lambda: len(seen) == 4 * n + 4)
        server.close()
        turn(loop)
        return seen

    both(play)


@pytest.mark.skipif(sys.version_info < (3, 15), reason="new there")
def test_context_that_is_given(both):
    """One context for all callbacks: they see what each has changed."""
    def play(connect):
        seen, context = [], contextvars.Context()
        context.run(VAR.set, "given")

        def note(name):
            return lambda t: (seen.append((name, VAR.get())), VAR.set(VAR.get() + "," + name[0])) and None

        left, right = socket.socketpair()
        left.setblocking(False)
        protocol = connect.Notes(**{name: note(name) for name in CALLBACKS})
        transport = connect.loop._make_socket_transport(left, protocol, context=context)
        for _ in range(2):
            right.send(b"x")
            turn(connect.loop)
        in_context("writer", transport.write, BIG)
        right.recv(1 << 20)
        turn(connect.loop)
        right.close()
        turn(connect.loop, 3)
        return seen, context[VAR]

    both(play)


# -- coming and going

def drop(connection):
    """Let go of the transport and the protocol; return weak references to them."""
    refs = weakref.ref(connection.transport), weakref.ref(connection.protocol)
    connection.transport = connection.protocol = None
    return refs


def test_unclosed(loop, connect, kind):
    """A transport that nobody holds any more and that does not read: a warning, and the socket is closed."""
    connection = connect()
    connection.pause_reading()
    sock = connection.sock
    name = "SocketTransport" if kind.fast else "_SelectorSocketTransport"
    with pytest.warns(ResourceWarning, match=f"^unclosed transport <{name} fd={connection.fd} read=idle ") as caught:
        transport, protocol = drop(connection)
        gc.collect()
    caught.clear()
    gc.collect()
    assert transport() is None and protocol() is None and sock.fileno() == -1
    assert connection.peer.recv(1) == b""
    connection.transport = type("", (), {"abort": int})()


def test_the_loop_holds_what_reads_or_writes(loop, connect):
    for prepare in (called(), lambda c: (write_backlog(c), c.pause_reading()), lambda c: (write_backlog(c), c.close())):
        connection = connect()
        prepare(connection)
        data = connection.protocol.data
        transport, _ = drop(connection)
        gc.collect()
        assert transport() is not None
        transport().write(b"still there")
        connection.peer.send(b"x")
        connection.protocol, connection.transport = transport().get_protocol(), transport()
        turn(loop)
        assert data in (b"", b"x")
        connection.close()
        assert connection.read_all().endswith(b"still there")


def test_unclosed_when_the_loop_is_closed(kind):
    loop = kind.new_event_loop()
    left, right = socket.socketpair()
    left.setblocking(False)
    loop._make_socket_transport(left, asyncio.Protocol())
    turn(loop)
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        loop.close()
        del loop
        gc.collect()
    assert left.fileno() == -1
    right.close()


def test_unclosed_and_kept_by_the_warning(loop, connect, outcome):
    """Whoever records warnings has the transport back: everything may be called, nothing happens."""
    connection = connect()
    connection.pause_reading()
    sock = connection.sock          # which would warn as well
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        drop(connection)
        gc.collect()
    transport = connection.transport = caught[0].source
    del caught
    connection.protocol = transport.get_protocol()
    assert connection.calls == ["connection_made"] and sock.fileno() == -1
    loop.set_exception_handler(lambda loop, context: None)
    for call in (lambda: transport.write(b"x"), lambda: transport.write(BIG), lambda: transport.is_closing(),
                 lambda: transport.resume_reading(), lambda: transport.write_eof(), lambda: repr(transport),
                 lambda: transport.get_extra_info("socket").fileno(), lambda: transport.get_write_buffer_size(),
                 lambda: transport._make_empty_waiter(), lambda: transport._reset_empty_waiter(),
                 lambda: transport.close(), lambda: turn(loop, 2), lambda: transport.abort(), lambda: turn(loop, 2)):
        outcome(call)


def test_transport_and_protocol_refer_to_each_other(loop, connect):
    """And both to more of the kind: the collector finds it all, unless the loop needs it."""
    connection = connect()
    connection.transport.protocol = connection.protocol
    connection.transport.me = connection.transport
    connection.protocol.then["data_received"] = connection.protocol.data_received
    connection.close()
    turn(loop)
    refs = drop(connection)
    gc.collect()
    assert [ref() for ref in refs] == [None, None]
    connection.transport = type("", (), {"abort": int})()


@EACH("how", ["close", "abort", "eof", "error"])
@pytest.mark.only_asyncfast
def test_no_garbage(loop, connect, how):
    """An ended transport is freed at once."""
    connection = connect()
    gc.collect()
    gc.disable()
    try:
        if how == "eof":
            connection.peer.close()
        elif how == "error":
            connection.protocol.then["data_received"] = lambda t: 1 / 0
            loop.set_exception_handler(lambda loop, context: None)
            connection.peer.send(b"x")
        else:
            getattr(connection, how)()
        turn(loop, 3)
        assert connection.sock.fileno() == -1
        connection.protocol.transport = None
        transport, protocol = drop(connection)
        assert transport() is None and protocol() is None
    finally:
        gc.enable()
    connection.transport = type("", (), {"abort": int})()


def test_nothing_is_kept(loop, connect):
    """Of what went through it, once it has ended."""
    error, data, lines = OSError("x"), bytes(BIG), [bytes(1000), bytearray(1000), memoryview(bytes(1000))]
    things = [error, data, *lines, loop]
    before = [sys.getrefcount(thing) for thing in things]
    for n in range(20):
        connection = connect()
        connection.write(data)
        connection.write(data)
        connection.writelines(lines)
        connection.peer.send(b"x")
        turn(loop)
        connection.peer.recv(1000)
        turn(loop)
        if n % 2:
            connection.transport._force_close(error)
        else:
            connection.peer.close()
        turn(loop, 3)
        connection.end()
    connect.made.clear()
    del connection
    error.__traceback__ = None
    gc.collect()
    after = [sys.getrefcount(thing) for thing in things]
    assert after[:-1] == before[:-1] and after[-1] <= before[-1] + 1


# -- somebody else's descriptor

def another(fd):
    """A pair of sockets, the first of which has the descriptor that was just freed."""
    pairs = [socket.socketpair()]
    while pairs[-1][0].fileno() != fd:
        assert len(pairs) < 100
        pairs.append(socket.socketpair())
    left, right = pairs.pop()
    for pair in pairs:
        for sock in pair:
            sock.close()
    left.setblocking(False)
    right.setblocking(False)
    return left, right


@EACH("how", ["close", "detach"])
@EACH("state", ["idle", "paused", "backlog", "closing"])
def test_no_byte_to_another_s_descriptor(loop, connect, how, state):
    """The socket is closed behind the transport's back, and another connection gets the number."""
    connection = connect()
    fd = connection.fd
    if state == "paused":
        connection.pause_reading()
    if state in ("backlog", "closing"):
        write_backlog(connection)
    if state == "closing":
        connection.close()
    if how == "close":
        connection.sock.close()
    else:
        os.close(connection.sock.detach())
    left, right = another(fd)
    for call in (lambda: connection.write(b"secret"), lambda: connection.writelines([b"secret"]),
                 lambda: connection.resume_reading(), lambda: connection.write_eof(), lambda: turn(loop, 2),
                 lambda: right.send(b"for left"), lambda: turn(loop, 2), lambda: connection.close(),
                 lambda: connection.abort(), lambda: turn(loop, 3)):
        with contextlib.suppress(OSError, AttributeError, RuntimeError, TypeError):
            call()
        with pytest.raises(BlockingIOError):
            right.recv(100)
    assert connection.protocol.data == b"" and left.recv(100) == b"for left" and left.send(b"to right") == 8
    assert right.recv(100) == b"to right" and left.fileno() == fd
    left.close()
    right.close()


@pytest.mark.only_asyncfast
@EACH("how", ["close", "detach"])
@EACH("state", ["idle", "backlog", "closing", "aborted", "paused"])
def test_a_new_transport_on_another_s_descriptor(loop, connect, how, state, errors):
    """asyncio refuses it as long as the old one lives, or fails; ours too, or each keeps to its own connection."""
    connection = connect()
    fd = connection.fd
    if state in ("backlog", "closing"):
        write_backlog(connection)
    if state == "closing":
        connection.close()
    if state == "aborted":
        connection.abort()
    if state == "paused":
        connection.pause_reading()
    connection.sock.close() if how == "close" else os.close(connection.sock.detach())
    sockets = another(fd)
    refused = state not in ("closing", "aborted")
    if refused:
        with pytest.raises(RuntimeError, match="is used by transport"):
            connect(sockets=sockets)
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.add_reader(fd, print)
        for sock in sockets:    # some Pythons have closed the first
            sock.close()
        sockets = another(fd)
        connection.abort()
        turn(loop)
    new = connect(sockets=sockets)
    new.write(BIG)
    new.peer.send(b"to the new one")
    turn(loop, 3)
    assert new.protocol.data == b"to the new one" and connection.protocol.data == b""
    with contextlib.suppress(RuntimeError):
        connection.write(b"secret")
    connection.abort()
    turn(loop, 3)
    new.close()
    assert new.read_all() == BIG and new.calls[-1] == ("connection_lost", None)
    assert connection.calls[-1][0] == "connection_lost" and errors == []


@pytest.mark.only_asyncfast
def test_a_duplicate_that_stays_open(loop, connect):
    """The kernel goes on watching what was closed as long as a copy of it is open: nobody is told, nothing is mixed up."""
    connection = connect()
    fd, copy = connection.fd, connection.sock.dup()
    os.close(connection.sock.detach())
    left, right = another(fd)
    connection.peer.send(b"secret")
    turn(loop, 3)
    connection.abort()
    turn(loop, 3)
    new = connect(sockets=(left, right))
    right.send(b"to the new one")
    turn(loop, 3)
    assert new.protocol.data == b"to the new one" and connection.protocol.data == b""
    assert copy.recv(100) == b"secret"
    copy.close()


def test_the_number_of_an_ended_transport(loop, connect):
    """Is free for others at once, in the same turn too."""
    new = []

    def lost(transport):
        loop.call_soon(lambda: new.append(connect(sockets=another(connection.fd), made=False)))

    connection = connect(connection_lost=lost)
    connection.peer.send(b"too late")
    connection.close()
    turn(loop, 2)
    new[0].peer.send(b"new")
    new[0].write(b"answer")
    turn(loop, 2)
    assert new[0].protocol.data == b"new" and new[0].read() == (b"answer", None) and connection.protocol.data == b""


def test_closed_in_the_turn_of_its_event(loop, connect):
    """The event has been noted already when another connection's callback closes it."""
    others = []

    def close_others(transport):
        for other in others:
            if other.transport is not transport and not other.transport.is_closing():
                other.transport.abort()
                other.sock.close()
                replaced.append(connect(sockets=another(other.fd), made=False))

    replaced = []
    others += [connect(data_received=close_others) for _ in range(4)]
    for other in others:
        other.peer.send(b"x")
    if not hasattr(loop, "backend"):
        loop._ensure_fd_no_transport = lambda fd: None      # asyncio's does not let go of the number so soon
    turn(loop, 4)
    assert [bytes(other.protocol.data) for other in others].count(b"x") == 1
    assert all(each.protocol.data == b"" for each in replaced) and len(replaced) == 3


# -- the loop ends first

@EACH("state", ["idle", "paused", "backlog", "closing", "aborted", "ending", "new"])
def test_loop_that_is_closed(both, outcome, state):
    """Its transports can still be called; what needs the loop raises."""
    def play(connect):
        connection = connect(made=state != "new")
        prepare = {"paused": called("pause_reading"), "backlog": write_backlog, "closing": called("close"),
                   "aborted": called("abort"), "ending": lambda c: (write_backlog(c), c.close())}.get(state, called())
        prepare(connection)
        connection.loop.close()
        seen = []
        for name in ("is_closing", "is_reading", "pause_reading", "resume_reading", "get_write_buffer_size", "write_eof",
                     "close", "abort", "get_protocol"):
            value = outcome(getattr(connection.transport, name))
            seen.append((name, value if not isinstance(value, asyncio.Protocol) else "protocol"))
            seen.append(re.sub("bufsize=[0-9]+", "", connection.facts()[0]))
        seen.append(outcome(connection.write, b""))
        return seen, connection.calls, connection.read()[1]

    both(play)


@EACH("state", ["idle", "backlog"])
@pytest.mark.only_asyncfast
def test_writing_when_the_loop_is_closed(loop, connect, outcome, state):
    """What the socket takes is sent; what would have to wait raises, and is not kept."""
    connection = connect()
    if state == "backlog":
        write_backlog(connection)
    loop.close()
    connection.write(b"x") if state == "idle" else None
    for _ in range(3):
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            connection.write(BIG)
            connection.write(BIG)
    data, _ = connection.read()
    assert data[:1] == (b"x" if state == "idle" else BIG[:1])


CLOSERS = ("connection_made", "data_received", "eof_received", "connection_lost", "pause_writing", "resume_writing")


@EACH("name", CLOSERS)
@EACH("what", ["close", "stop", "run", "server"])
def test_callbacks_that_touch_the_loop(both, outcome, name, what):
    def play(connect):
        seen, loop = [], connect.loop
        server = loop.run_until_complete(loop.create_server(asyncio.Protocol, "127.0.0.1", 0))

        def then(transport):
            call = {"close": loop.close, "stop": loop.stop, "server": server.close,
                    "run": lambda: loop.run_until_complete(loop.create_future())}[what]
            seen.append(outcome(call))

        connection = connect(made=False, **{name: then})
        turn(loop)
        play_all(connection, seen)
        turn(loop, 2)
        server.close()
        turn(loop)
        return seen

    both(play)


def test_callbacks_that_close_their_server(loop):
    """From each callback of a connection of its own."""
    for name in ("connection_made", "data_received", "eof_received", "connection_lost"):
        class Protocol(asyncio.Protocol):
            pass

        calls = []

        def callback(self, *args, calls=calls):
            calls.append(args)
            server.close()
            server.close()

        setattr(Protocol, name, callback)
        server = loop.run_until_complete(loop.create_server(Protocol, "127.0.0.1", 0))
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            client.send(b"x")
            client.shutdown(socket.SHUT_WR)
            client.setblocking(False)
            assert loop.run_until_complete(loop.sock_recv(client, 10)) == b""
        assert calls
        turn(loop, 3)
        assert not server.is_serving()
        loop.run_until_complete(server.wait_closed())


# -- sendfile

@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(BIG)
    with open(path, "rb") as file:
        yield file


class NoFile(io.BytesIO):
    """sendfile(2) cannot take it."""


@EACH("native", [True, False], ids=["", "fallback"])
@EACH("waiting", [False, True], ids=["", "backlog"])
def test_sendfile_while_reading(loop, connect, file, native, waiting):
    """Nothing is read meanwhile, and nothing can be written; afterwards all is as before."""
    connection = connect()
    if waiting:
        write_backlog(connection)
    source = file if native else NoFile(BIG)
    task = loop.create_task(loop.sendfile(connection.transport, source, 5, 1_000_000))
    turn(loop)
    assert not connection.is_reading()
    connection.peer.send(b"meanwhile")
    if native:
        with pytest.raises(RuntimeError, match="unable to write; sendfile is in progress"):
            connection.write(b"x")
        with pytest.raises(RuntimeError, match="unable to write(lines)?; sendfile is in progress"):
            connection.writelines([b"x"])
    before = BIG if waiting else b""
    data = connection.read_all(len(before) + 1_000_000)
    assert data == before + BIG[5:1_000_005]
    assert loop.run_until_complete(task) == 1_000_000
    turn(loop)
    assert connection.protocol.data == b"meanwhile" and connection.is_reading()
    connection.write(b"after")
    assert connection.read_all(5) == b"after" and connection.get_protocol() is connection.protocol


def test_sendfile_of_what_does_not_read(loop, connect, file):
    connection = connect()
    connection.pause_reading()
    task = loop.create_task(loop.sendfile(connection.transport, file))
    assert connection.read_all(len(BIG)) == BIG
    assert loop.run_until_complete(task) == len(BIG) and not connection.is_reading()


@EACH("fallback", [True, False])
def test_sendfile_errors(both, outcome, fallback):
    def play(connect):
        loop, connection, seen = connect.loop, connect(), []
        for source in (NoFile(b"abc"), io.StringIO("x"), None):
            task = loop.sendfile(connection.transport, source, fallback=fallback)
            seen.append(outcome(loop.run_until_complete, task)[0] if not fallback or source is None or
                        isinstance(source, io.StringIO) else outcome(loop.run_until_complete, task))
        turn(loop)
        seen.append(connection.facts())
        connection.close()
        seen.append(outcome(loop.run_until_complete, loop.sendfile(connection.transport, NoFile(b"abc"))))
        return seen

    both(play)


@pytest.mark.only_asyncfast
@EACH("when", ["backlog", "sending"])
def test_sendfile_that_is_cancelled(loop, connect, file, when, errors):
    """The transport goes on, and closes properly.  asyncio's does not, if it was cancelled while a backlog waited."""
    connection = connect()
    if when == "backlog":
        write_backlog(connection)
    task = loop.create_task(loop.sendfile(connection.transport, file))
    turn(loop, 3)
    task.cancel()
    turn(loop, 3)
    assert task.cancelled() and connection.is_reading()
    connection.write(b"after")
    connection.close()
    data = connection.read_all()
    assert data.startswith(BIG if when == "backlog" else BIG[:1000]) and data.endswith(b"after")
    assert errors == [] and connection.calls[-1] == ("connection_lost", None)


@EACH("how", ["abort", "reset"])
def test_sendfile_that_is_cut_off(loop, connect, file, how, errors):
    """While the backlog waits: the error is that of the connection."""
    connection = connect(sockets=connect.tcp_pair())
    connection.write(BIG * 4)
    assert connection.get_write_buffer_size() > 0
    task = loop.create_task(loop.sendfile(connection.transport, file))
    turn(loop, 3)
    connection.abort() if how == "abort" else connect.reset(connection.peer)
    with pytest.raises(ConnectionError, match="Connection is closed by peer" if how == "abort" else "reset by peer"):
        loop.run_until_complete(task)
    turn(loop, 2)
    assert connection.calls[-1][0] == "connection_lost"
    if how == "abort":
        assert errors == []


@pytest.mark.only_asyncfast
def test_sendfile_on_what_is_aborted_meanwhile(loop, connect, file):
    """The file goes nowhere else, whoever gets the descriptor; asyncio waits for ever."""
    connection = connect()
    task = loop.create_task(loop.sendfile(connection.transport, file))
    turn(loop, 3)
    connection.abort()
    turn(loop, 2)
    left, right = another(connection.fd)
    turn(loop, 3)
    with pytest.raises(BlockingIOError):
        right.recv(100)
    assert idle_turns(loop) < 10
    new = connect(sockets=(left, right))
    new.write(b"new")
    turn(loop, 3)
    assert new.read() == (b"new", None) and not new.is_closing() and idle_turns(loop) < 10
    task.cancel()
    turn(loop, 2)
    assert task.done()
    if not task.cancelled():
        assert isinstance(task.exception(), OSError)


def test_two_sendfiles(loop, connect, file, kind):
    connection = connect()
    first = loop.create_task(loop.sendfile(connection.transport, file))
    turn(loop)
    with pytest.raises((RuntimeError, KeyError)):
        loop.run_until_complete(loop.sendfile(connection.transport, file))
    assert connection.read_all(len(BIG)) == BIG
    if kind.fast:
        assert loop.run_until_complete(first) == len(BIG) and connection.is_reading()
    else:
        loop.run_until_complete(asyncio.gather(first, return_exceptions=True))


# -- debug mode

def test_what_debug_mode_logs(both, caplog):
    caplog.set_level(logging.DEBUG, "asyncio")

    def play(connect):
        connection = connect()
        caplog.clear()
        connection.pause_reading()
        connection.pause_reading()
        connection.resume_reading()
        connection.resume_reading()
        connection.peer.send(b"x")
        turn(connection.loop)
        connection.peer.close()
        connection.protocol.then["eof_received"] = lambda t: True
        turn(connection.loop, 2)
        connection.write(b"x")
        turn(connection.loop)
        connection.close()
        texts = [record.getMessage().replace("_SelectorS", "S").replace(f"fd={connection.fd}", "")
                 for record in caplog.records]
        return [(text, record.levelname, record.exc_info and record.exc_info[0])
                for text, record in zip(texts, caplog.records)]

    logged = both(play)
    assert len(logged) in (0, 4)


# -- fork

FORK = """
def pair():
    left, right = socket.socketpair()
    for sock in (left, right):
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
    return left, right
class Protocol(asyncio.Protocol):
    def __init__(self):
        self.data, self.lost = bytearray(), False
    def data_received(self, data):
        self.data += data
    def connection_lost(self, error):
        self.lost = True
def turn(loop, count=3):
    for _ in range(count):
        loop.stop()
        loop.run_forever()
def child(function):
    pid = os.fork()
    if pid == 0:
        try:
            function()
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
loop = new_event_loop()
left, right = pair()
transport, protocol = loop.run_until_complete(loop.connect_accepted_socket(Protocol, left))
"""
FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


@FORKS
@pytest.mark.only_asyncfast
def test_child_that_ends_everything(program):
    """Aborts the transports, closes the loop: the parent's go on, backlog and all."""
    program(FORK + """
transport.write(b"x" * 1000000)
waiting = transport.get_write_buffer_size()
def work():
    transport.abort()
    turn(loop)
    assert protocol.lost
    loop.close()
child(work)
right.send(b"hello")
turn(loop)
assert protocol.data == b"hello" and not protocol.lost, protocol.data
transport.close()
data = b""
while len(data) < 1000000:
    turn(loop)
    data += right.recv(1 << 20)
turn(loop)
assert protocol.lost and transport.get_write_buffer_size() == 0
loop.close()
""")


@FORKS
@pytest.mark.only_asyncfast
def test_child_that_takes_over(program):
    """The child's loop goes on with what it inherited."""
    program(FORK + """
transport.write(b"x" * 1000000)
def work():
    right.send(b"hello")
    turn(loop)
    assert protocol.data == b"hello"
    data = b""
    while len(data) < 1000000:
        data += right.recv(1 << 20)
        turn(loop)
    transport.close()
    turn(loop)
    assert protocol.lost
    loop.close()
child(work)
transport.abort()
turn(loop)
loop.close()
""")


@FORKS
@pytest.mark.kinds("asyncfast", "asyncfast-debug", "asyncio")
def test_child_that_leaves_by_an_exception(program):
    """Out of the callback and the loop's run: what was written before the fork is not sent a second time."""
    program(FORK + """
def write():
    global pid
    transport.write(b"once,")
    pid = os.fork()
    if pid == 0:
        raise SystemExit
    transport.write(b"again")
loop.call_soon(write)
try:
    turn(loop)
except SystemExit:
    os._exit(0)
os.waitpid(pid, 0)
turn(loop)
assert right.recv(100) == b"once,again"
transport.abort()
turn(loop)
loop.close()
""")


@FORKS
@pytest.mark.kinds("asyncfast", "asyncfast-debug", "asyncio")
def test_fork_in_a_callback(program):
    """What was written before is sent once."""
    program(FORK + """
def write():
    transport.write(b"once,")
    child(lambda: None)
    transport.write(b"again")
loop.call_soon(write)
turn(loop)
child(lambda: None)
turn(loop)
assert right.recv(100) == b"once,again"
transport.abort()
turn(loop)
loop.close()
""")


# -- at random

class Walk:
    """Random operations on a connection and its other end, the same for the same seed.

    exact: only one write at a time from inside a callback, since of several that are sent in one call the socket takes
    more than of each by itself.
    """

    def __init__(self, connect, seed, exact):
        connection, self.protocols = connect(), [connect.Notes, connect.BufferedNotes]
        self.random, self.connection, self.seen = random.Random(seed), connection, []
        self.exact, self.inside, self.written, self.sent, self.received = exact, False, [], [], []
        self.loop, self.transport, self.peer = connection.loop, connection.transport, connection.peer
        connection.loop.set_exception_handler(lambda loop, context: self.seen.append(summary(context, connection)))
        connection.protocol.then = {name: self.react for name in CALLBACKS[:-1]}
        self.modern, self.quiet = sys.version_info >= (3, 14), False

    def react(self, transport):
        """Callbacks do something now and then."""
        if not self.quiet and self.random.random() < 0.2 and (self.modern or "resume" not in str(self.connection.calls[-1])):
            self.inside = True
            self.step(self.random.choice(self.OURS))
            self.inside = False
        return self.random.random() < 0.3

    def step(self, name):
        before = self.quiet
        self.quiet = True       # one thing at a time
        try:
            getattr(self, name)()
        except (OSError, RuntimeError, ValueError) as exc:
            self.seen.append((type(exc).__name__, str(exc)))
        self.quiet = before

    def data(self, most):
        return self.random.randbytes(1) * self.random.choice([0, 1, 10, 1000, 16384, most])

    def put(self, most):
        data = self.data(most)
        self.transport.write(self.random.choice([bytes, bytearray, memoryview])(data))
        self.written.append(data)

    def write(self):
        for _ in range(1 if self.exact and self.inside else self.random.choice([1, 1, 2, 5, 20])):
            self.put(40_000)

    def writelines(self):
        if self.modern:
            count = self.random.choice([0, 1, 2, 300])
            lines = [self.data(50_000) if count < 3 else self.random.randbytes(9) for _ in range(count)]
            self.transport.writelines(lines)
            self.written += lines

    def write_and_look(self):
        self.put(60_000)
        self.seen.append((self.transport.get_write_buffer_size(), self.transport.is_closing()))

    def limits(self):
        self.transport.set_write_buffer_limits(self.random.choice([0, 10, 1000, 65536, 1 << 20]))

    def pause(self):
        self.transport.pause_reading()

    def resume(self):
        self.transport.resume_reading()

    def write_eof(self):
        self.transport.write_eof()

    def write_and_close(self):
        self.put(30_000)
        self.transport.close()

    def write_and_abort(self):
        self.put(30_000)
        self.transport.abort()

    def change(self):
        """Another protocol, of the other kind perhaps."""
        old = self.connection.protocol
        new = self.random.choice(self.protocols)(**old.then)
        new.calls, new.data, new.transport = old.calls, old.data, old.transport
        self.connection.protocol = new
        self.transport.set_protocol(new)

    def look(self):
        self.seen.append(self.connection.facts())

    def send(self):
        with contextlib.suppress(BlockingIOError):
            data = self.data(200_000) or b"x"
            self.sent.append(data[:self.peer.send(data)])

    def receive(self):
        with contextlib.suppress(BlockingIOError):
            self.received.append(self.peer.recv(self.random.choice([1, 1000, 1 << 20])))

    def peer_ends(self):
        self.peer.shutdown(self.random.choice([socket.SHUT_WR, socket.SHUT_RDWR]))

    def peer_closes(self):
        self.peer.close()

    def turn(self):
        turn(self.loop, self.random.randrange(4))

    OFTEN = ["write", "writelines", "write_and_look", "send", "receive", "look", "limits", "pause", "resume", "change"]
    OURS = OFTEN * 3 + ["write_eof", "write_and_close", "write_and_abort"]
    ALL = OURS + OFTEN * 4 + ["receive", "turn"] * 20 + ["peer_ends", "peer_closes"]

    def run(self):
        for _ in range(self.random.choice([10, 100, 300])):
            name = self.random.choice(self.ALL)
            if name == "turn":
                self.turn()
            else:
                self.inside = self.random.random() < 0.5
                self.connection.do(lambda: self.step(name), self.inside)
                self.inside = False
            self.seen.append((name, self.connection.facts()))
        idle, self.quiet = 0, True
        while self.peer.fileno() >= 0 and idle < 5:
            data, end = self.connection.read()
            self.received.append(data)
            idle = 0 if data else idle + 1
            turn(self.loop)
        turn(self.loop, 3)
        self.seen.append((self.connection.facts(), bytes(self.connection.protocol.data), b"".join(self.received)))
        return self.seen


@QUICK
@EACH("seed", range(60))
def test_random_walk(both, logged, seed):
    """Whatever happens in whatever order, all that can be seen is the same."""
    def play(connect):
        seen = Walk(connect, seed, True).run()
        return seen, logged.take()

    both(play)


@QUICK
@EACH("seed", range(60))
def test_random_walk_of_many_writes(connect, logged, seed):
    """What arrives is the beginning of what was written, and all of it if nothing has ended."""
    walk = Walk(connect, seed, False)
    walk.run()
    written, received, sent = (b"".join(each) for each in (walk.written, walk.received, walk.sent))
    assert written.startswith(received) and sent.startswith(walk.connection.protocol.data)
    if not walk.transport.is_closing() and walk.peer.fileno() >= 0:
        assert len(received) == len(written)
    logged.take()
