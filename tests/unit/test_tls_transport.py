"""The TLS transport, on both of its engines."""

import asyncio
import contextlib
import gc
import os
import re
import shutil
import socket
import ssl
import sys
import weakref

import asyncfast
import pytest
from _tls_pair import (  # noqa: F401 (engine, pair and reported are fixtures)
    BIG, BOTH_PROTOCOLS, PEM, SIDES, VERSIONS, BufferedTLSNotes, Pair, TLSNotes, client_context, engine, pair, reported,
    server_context)
from _turns import EACH, turn, until
from asyncfast import _core, _tls


# -- data

@SIDES
@VERSIONS
@BOTH_PROTOCOLS
def test_data_both_ways(pair, engine, server, version, protocol):
    p = pair(server=server, protocol=protocol(), context=(server_context if server else client_context)(maximum_version=version))
    assert p.calls == ["connection_made"]
    assert p.transport.get_extra_info("ssl_object").version() == version.name.replace("_", ".")
    for data in (b"x", b"hello", BIG[:16384], BIG[:16385], BIG[:300_000]):
        p.transport.write(data)
        assert p.read(len(data)) == data
        p.protocol.data.clear()
        p.write(data)
        p.until_data(len(data))
        assert p.protocol.data == data
    if isinstance(p.transport, _core.SSLTransport):
        assert p.transport._engine == engine


def test_many_writes_of_a_callback(pair, loop):
    p = pair()
    pieces = [BIG[n * n:n * n + n] for n in range(200)]

    def write():
        for piece in pieces:
            p.transport.write(piece)
        p.transport.writelines(pieces)
        p.transport.writelines(iter(pieces))

    loop.call_soon(write)
    assert p.read(3 * sum(map(len, pieces))) == 3 * b"".join(pieces)


@EACH("make", [bytearray, lambda data: memoryview(data), lambda data: memoryview(bytearray(data * 2))[::2]])
def test_what_is_written(pair, make):
    p = pair()
    for data in (make(b"hello"), make(BIG)):
        expected = bytes(data)
        if not isinstance(data, memoryview) or data.contiguous:
            p.transport.write(data)
        else:
            p.transport.write(bytes(data))
        assert p.read(len(expected)) == expected


@pytest.mark.only_asyncfast
def test_what_is_changed_after_write_is_not_sent(pair):
    p = pair()
    data = bytearray(BIG * 4)
    p.transport.write(data)
    assert p.transport.get_write_buffer_size() > 0
    data[:] = bytes(len(data))
    assert p.read(len(data)) == BIG * 4


@EACH("data", ["text", 1, None, [b"x"]])
def test_what_is_no_data(pair, data):
    p = pair()
    with pytest.raises(TypeError, match=f"data: expecting a bytes-like instance, got {type(data).__name__}"):
        p.transport.write(data)
    p.transport.write(b"")
    p.transport.writelines([])
    p.transport.write(b"fine")
    assert p.read(4) == b"fine"


@pytest.mark.only_asyncfast
def test_lines_that_are_no_data(pair):
    p = pair()
    with pytest.raises(TypeError):
        p.transport.writelines([b"good", "bad"])
    p.transport.write(b"fine")
    assert p.read(4) == b"fine"


@SIDES
def test_handshake_a_byte_at_a_time(pair, server):
    p = pair(server=server, handshake=False)
    p.flush = lambda: [p.send(bytes([byte])) for byte in p.outgoing.read()]
    p.handshake()
    assert p.calls == ["connection_made"]
    p.write(b"records too")
    p.until_data(11)
    assert p.protocol.data == b"records too"


@BOTH_PROTOCOLS
def test_records_cut_anywhere(pair, protocol):
    p = pair(protocol=protocol())
    expected, stream = bytearray(), bytearray()
    for n in range(0, 40_000, 1777):
        p.tls.write(BIG[:n] or b"-")
        stream += p.outgoing.read()
        expected += BIG[:n] or b"-"
    at = 0
    for step in [1] * 50 + [5, 17, 16384, 16406, 70_000] * 20:
        p.send(stream[at:at + step])
        at += step
    p.send(stream[at:])
    p.until_data(len(expected))
    assert p.protocol.data == expected


def test_records_that_come_together(pair):
    """With the last of the handshake: what a client sends at once is not lost."""
    p = pair(handshake=False)
    flush = p.flush
    p.flush = lambda: None if p.tls.version() and not p.ready else flush()
    p.ready = False
    while True:
        try:
            p.tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            flush()
            turn(p.loop, 2)
            p.receive()
    p.tls.write(b"early")
    p.ready = True
    p.flush()
    p.until_data(5)
    assert p.protocol.data == b"early" and p.calls[0] == "connection_made"


def test_set_protocol(pair):
    p = pair()
    second = BufferedTLSNotes()
    p.write(b"first")
    p.until_data(5)
    p.transport.set_protocol(second)
    assert p.transport.get_protocol() is second
    p.write(b"second")
    until(p.loop, lambda: second.data == b"second")
    assert p.protocol.data == b"first"


OTHER_KIND = EACH("first, then", [(TLSNotes, BufferedTLSNotes), (BufferedTLSNotes, TLSNotes)])


def change_protocol(pair, loop, first, then, end):
    """More is there than one call gives, and from within the first call comes a protocol of another kind."""
    size = 700_000 if first is TLSNotes else 20_000
    other = then()
    method = "data_received" if first is TLSNotes else "buffer_updated"
    p = pair(protocol=first(**{method: lambda transport: transport.set_protocol(other)}))
    p.transport.set_read_buffer_limits(high=1 << 20)
    p.transport.pause_reading()
    p.write(BIG[:size])
    if end:
        p.peer.shutdown(socket.SHUT_WR)
    until(loop, lambda: p.transport.get_read_buffer_size() > size)
    turn(loop, 3)
    p.transport.resume_reading()
    until(loop, lambda: any(call[0] == "connection_lost" for call in other.calls) or
          not end and len(p.protocol.data) + len(other.data) >= size)
    assert p.protocol.data + other.data == BIG[:size] and p.protocol.data


@OTHER_KIND
def test_set_protocol_in_the_middle(pair, loop, first, then):
    change_protocol(pair, loop, first, then, end=False)


@OTHER_KIND
@pytest.mark.only_asyncfast     # asyncio forgets what is behind a full buffer
def test_set_protocol_near_the_end(pair, loop, first, then):
    change_protocol(pair, loop, first, then, end=True)


def test_a_large_message_may_be_kept(pair):
    """What is lent to a protocol that keeps it is left alone."""
    kept = []

    class Keeper(TLSNotes):
        def data_received(self, data):
            kept.append(data)
            super().data_received(data)

    p = pair(protocol=Keeper())
    for n in range(5):
        p.write(BIG[n:n + 50_000])
    p.until_data(250_000)
    assert b"".join(kept) == b"".join(BIG[n:n + 50_000] for n in range(5))


# -- the handshake

@SIDES
@EACH("garbage", [b"GET / HTTP/1.0\r\n\r\n", bytes(100), b"\x16\x03\x01\x00\x05hello" * 10])
def test_garbage_instead_of_a_hello(pair, loop, reported, server, garbage):
    p = pair(server=server, handshake=False)
    p.send(garbage)
    until(loop, p.made.done)
    error = p.made.exception()
    assert isinstance(error, ssl.SSLError) and error.library == "SSL" and f"[SSL: {error.reason}]" in str(error)
    assert p.calls == [] and not reported


@SIDES
def test_eof_instead_of_a_hello(pair, loop, server):
    p = pair(server=server, handshake=False)
    turn(loop, 3)
    p.peer.shutdown(socket.SHUT_WR)
    until(loop, p.made.done)
    assert type(p.made.exception()) is ConnectionResetError
    assert p.calls == []


@EACH("server, flights", [(False, 0), (False, 1), (True, 1)])
def test_goodbye_in_the_handshake(pair, loop, reported, server, flights):
    """From a server that wants nobody, say: told in the words of ssl, to the last line number."""
    goodbye = b"\x15\x03\x03\x00\x02\x01\x00"
    p = pair(server=server, peer_context=(client_context if server else server_context)(maximum_version=ssl.TLSVersion.TLSv1_2),
             handshake=False)
    for _ in range(flights):
        turn(loop, 3)
        p.receive()
        with pytest.raises(ssl.SSLWantReadError):
            p.tls.do_handshake()
        p.flush()
    p.send(goodbye)
    until(loop, p.made.done)
    error = p.made.exception()
    incoming = ssl.MemoryBIO()
    incoming.write(goodbye)
    with pytest.raises(ssl.SSLZeroReturnError) as expected:
        client_context().wrap_bio(incoming, ssl.MemoryBIO(), server_hostname="localhost").do_handshake()
    assert type(error) is ssl.SSLZeroReturnError and error.args == expected.value.args
    assert p.calls == [] and not reported


def test_a_peer_that_never_answers(pair, loop):
    p = pair(handshake=False, ssl_handshake_timeout=0.02)
    until(loop, p.made.done)
    error = p.made.exception()
    assert type(error) is ConnectionAbortedError
    assert str(error) == "SSL handshake is taking longer than 0.02 seconds: aborting the connection"
    assert p.calls == []


def test_a_certificate_that_is_refused(pair, loop, reported):
    p = pair(server=False, context=ssl.create_default_context(), handshake=False)
    with contextlib.suppress(ssl.SSLError):
        p.do(p.tls.do_handshake)
    until(loop, p.made.done)
    error = p.made.exception()
    assert isinstance(error, ssl.SSLCertVerificationError) and error.verify_code == 18
    assert "certificate verify failed" in str(error) and p.calls == []


@EACH("name", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
@EACH("value", [0, -1])
def test_a_timeout_is_positive(loop, name, value):
    async def connect():
        left, right = socket.socketpair()
        with left as sock, right:
            sock.setblocking(False)
            await loop.connect_accepted_socket(asyncio.Protocol, sock, ssl=server_context(), **{name: value})

    with pytest.raises(ValueError, match=f"{name} should be a positive number, got {value}"):
        loop.run_until_complete(connect())
    gc.collect()


# -- what the context decides

def test_the_context_decides(pair, tmp_path):
    asked = []
    server = server_context(sni_callback=lambda obj, name, context: asked.append(name), keylog_filename=tmp_path / "keys")
    server.set_alpn_protocols(["h2", "http/1.1"])
    client = client_context()
    client.set_alpn_protocols(["http/1.1"])
    p = pair(context=server, peer_context=client)
    assert asked == ["localhost"]
    assert p.tls.selected_alpn_protocol() == "http/1.1"
    info = p.transport.get_extra_info
    assert info("sslcontext") is server and info("ssl_object").context is server
    assert info("ssl_object").selected_alpn_protocol() == "http/1.1"
    assert info("cipher") == info("ssl_object").cipher() and info("compression") is None and info("peercert") is None
    assert info("socket").fileno() == p.sock.fileno() and info("nothing", 7) == 7
    assert b"SERVER_TRAFFIC_SECRET_0" in (tmp_path / "keys").read_bytes()


def test_client_certificates(pair):
    server = server_context(verify_mode=ssl.CERT_REQUIRED)
    server.load_verify_locations(PEM)
    client = client_context()
    client.load_cert_chain(PEM)
    p = pair(context=server, peer_context=client)
    assert p.transport.get_extra_info("peercert") == p.tls.getpeercert() != {}


@pytest.mark.only_asyncfast
def test_classes_and_hooks_of_the_program(pair):
    """An SSLObject of a class of its own has its methods called; so has a message callback whatever it raises."""
    class Counting(ssl.SSLObject):
        reads = 0

        def read(self, *args):
            Counting.reads += 1
            return super().read(*args)

    context = server_context()
    context.sslobject_class = Counting
    p = pair(context=context)
    p.write(b"data")
    p.until_data(4)
    assert Counting.reads and type(p.transport.get_extra_info("ssl_object")) is Counting
    messages = []
    context = server_context()
    context._msg_callback = lambda *args: messages.append(args)
    p = pair(context=context)
    p.write(b"data")
    p.until_data(4)
    assert messages and p.transport._engine == "portable"


def test_the_ssl_object_outlives_the_connection(pair, loop):
    p = pair()
    tls = p.transport.get_extra_info("ssl_object")
    assert tls.version() and tls.getpeercert() is None and tls.get_channel_binding("tls-unique")
    p.transport.abort()
    p.until_lost()
    assert tls.version() and tls.pending() == 0
    with pytest.raises(ssl.SSLWantReadError):
        tls.read(10)
    assert tls.write(b"into the void") == 13


# -- the end

@BOTH_PROTOCOLS
def test_the_peer_says_goodbye(pair, protocol):
    p = pair(protocol=protocol())
    p.tls.write(b"last words")
    with contextlib.suppress(ssl.SSLWantReadError):
        p.tls.unwrap()
    p.flush()
    assert p.until_lost() is None
    assert p.protocol.data == b"last words"
    assert p.calls[-2:] == ["eof_received", ("connection_lost", None)]
    p.receive()
    p.tls.unwrap()


@SIDES
def test_close(pair, server):
    p = pair(server=server)
    p.transport.write(BIG)
    p.transport.close()
    assert p.transport.is_closing()
    assert p.read(len(BIG)) == BIG
    p.do(p.tls.unwrap)
    assert p.until_lost() is None
    assert p.transport.is_closing() and p.transport.get_protocol() is None
    p.transport.close()
    assert p.transport.is_closing()


def test_close_with_unread_data(pair):
    p = pair()
    p.transport.pause_reading()
    p.write(b"never read")
    turn(p.loop, 3)
    p.transport.close()
    assert isinstance(p.until_lost(), ssl.SSLError)
    assert p.protocol.data == b""


def test_a_peer_that_does_not_say_goodbye(pair):
    p = pair(ssl_shutdown_timeout=0.02)
    p.transport.close()
    error = p.until_lost()
    assert type(error) is TimeoutError and str(error) == "SSL shutdown timed out"


@BOTH_PROTOCOLS
def test_truncation(pair, loop, protocol):
    p = pair(protocol=protocol())
    if not isinstance(loop, asyncfast.Loop) and protocol is BufferedTLSNotes:
        p.protocol.buffer = bytearray(10_000)       # asyncio loses what one buffer does not hold
    p.tls.write(BIG[:5000])
    p.send(p.outgoing.read() + b"\x17\x03\x03")
    p.peer.shutdown(socket.SHUT_WR)
    assert p.until_lost() is None
    assert p.protocol.data == BIG[:5000]
    assert "eof_received" in p.calls


def test_eof_while_paused(pair, loop):
    p = pair()
    p.transport.pause_reading()
    p.tls.write(b"last words")
    p.flush()
    p.peer.shutdown(socket.SHUT_WR)
    turn(loop, 5)
    assert p.calls == ["connection_made"]
    p.transport.resume_reading()
    assert p.until_lost() is None
    assert p.protocol.data == b"last words"


@VERSIONS
def test_a_record_that_was_tampered_with(pair, reported, version):
    p = pair(peer_context=client_context(maximum_version=version))
    p.write(b"good")
    p.until_data(4)
    p.tls.write(b"bad")
    record = bytearray(p.outgoing.read())
    record[-1] ^= 1
    p.send(record)
    error = p.until_lost()
    assert isinstance(error, ssl.SSLError) and error.library == "SSL"
    assert error.reason in ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "RECORD_LAYER_FAILURE")      # the latter from 3.2 on
    assert str(error).startswith(f"[SSL: {error.reason}] {error.reason.lower().replace('_', ' ')} (_ssl.c:")
    assert error.args[0] == ssl.SSL_ERROR_SSL
    assert p.protocol.data == b"good" and not reported


@pytest.mark.only_asyncfast
@BOTH_PROTOCOLS
def test_what_came_before_an_error_is_delivered(pair, protocol):
    p = pair(protocol=protocol())
    p.tls.write(b"good")
    good = p.outgoing.read()
    p.tls.write(b"bad")
    record = bytearray(p.outgoing.read())
    record[-1] ^= 1
    p.send(good + record)
    assert isinstance(p.until_lost(), ssl.SSLError)
    assert p.protocol.data == b"good"


def test_reset(pair):
    p = pair()
    p.transport.write(BIG)
    p.peer.close()
    p.transport.write(BIG)
    assert isinstance(p.until_lost(), (BrokenPipeError, ConnectionResetError))


@EACH("backlog", [False, True])
def test_abort(pair, backlog):
    p = pair()
    if backlog:
        p.transport.write(BIG * 2)
    p.transport.abort()
    assert p.transport.is_closing() and ("connection_lost", None) not in p.calls
    assert p.until_lost() is None


def test_writing_to_what_is_closed(pair, logged):
    p = pair()
    p.transport.abort()
    for _ in range(5):
        p.transport.write(b"x")
    assert not logged.take()
    p.until_lost()
    for _ in range(2):
        p.transport.write(b"x")
    assert "SSL connection is closed" in str(logged.take())


def test_writing_nothing_to_what_is_closed(pair, logged):
    p = pair()
    p.transport.abort()
    p.until_lost()
    for nothing in (b"", bytearray(), memoryview(b"")) * 5:
        p.transport.write(nothing)
    assert not logged.take()


@pytest.mark.kinds("asyncfast", "asyncio")
def test_nothing_is_left_of_it(loop):
    p = Pair(loop)
    gone = weakref.ref(p.transport)
    p.transport.abort()
    p.until_lost()
    p.protocol.transport = p.made = None
    p.peer.close()
    turn(loop, 3)
    gc.collect()
    assert gone() is None


# -- flow control

def test_a_protocol_that_does_not_read(pair, loop):
    p = pair()
    p.transport.pause_reading()
    assert not p.transport.is_reading()
    p.tls.write(BIG * 4)
    stream = p.outgoing.read()
    sent = 0
    for _ in range(300):
        with contextlib.suppress(BlockingIOError):
            sent += p.peer.send(stream[sent:sent + 65536])
        turn(loop)
    assert sent < len(stream) and p.protocol.data == b""        # the socket is full
    assert p.transport.get_read_buffer_size() < 600_000
    p.transport.resume_reading()
    p.transport.resume_reading()
    p.send(stream[sent:])
    p.until_data(4 * len(BIG))
    assert p.protocol.data == BIG * 4
    assert p.transport.get_read_buffer_size() == 0 and p.transport.is_reading()


def test_a_peer_that_does_not_read(pair):
    p = pair()
    assert p.transport.get_write_buffer_limits() == (128 * 1024, 512 * 1024)
    for _ in range(8):
        p.transport.write(BIG[:200_000])
    assert p.calls == ["connection_made", "pause_writing"]
    assert 512 * 1024 <= p.transport.get_write_buffer_size() < 8 * 210_000
    assert p.read(8 * 200_000) == 8 * BIG[:200_000]
    p.until("resume_writing")
    assert p.transport.get_write_buffer_size() <= 128 * 1024
    assert p.calls == ["connection_made", "pause_writing", "resume_writing"]


def test_limits(pair):
    p = pair()
    t = p.transport
    t.set_write_buffer_limits(100)
    assert t.get_write_buffer_limits() == (25, 100)
    t.set_write_buffer_limits(low=100)
    assert t.get_write_buffer_limits() == (100, 400)
    t.set_read_buffer_limits(1000, 10)
    assert t.get_read_buffer_limits() == (10, 1000)
    for method in (t.set_write_buffer_limits, t.set_read_buffer_limits):
        with pytest.raises(ValueError, match=r"high \(1\) must be >= low \(2\) must be >= 0"):
            method(1, 2)
    t.set_write_buffer_limits(0)
    assert p.calls[-1] == "pause_writing"
    t.set_write_buffer_limits(1)
    assert p.calls[-1] == "resume_writing"


def test_write_eof(pair):
    p = pair()
    assert p.transport.can_write_eof() is False
    with pytest.raises(NotImplementedError):
        p.transport.write_eof()


# -- protocols that do something else

@EACH("what", ["close", "abort", "pause_reading"])
@BOTH_PROTOCOLS
def test_from_within_the_protocol(pair, loop, protocol, what):
    name = "data_received" if protocol is TLSNotes else "buffer_updated"
    p = pair(protocol=protocol(**{name: lambda transport: getattr(transport, what)()}))
    p.write(b"data")
    if what == "pause_reading":
        p.until(name)
        p.write(b"more")
        turn(loop, 5)
        assert p.protocol.data == b"data"
    else:
        if what == "close":
            p.do(p.tls.unwrap)
        assert p.until_lost() is None
    assert p.protocol.data == b"data"


@EACH("method", ["data_received", "eof_received", "connection_made"])
def test_a_protocol_that_raises(pair, loop, reported, method):
    def fail(transport):
        raise ZeroDivisionError("on purpose")

    p = pair(protocol=TLSNotes(**{method: fail}), handshake=False)
    if method == "connection_made":
        with contextlib.suppress(ssl.SSLError):
            p.do(p.tls.do_handshake)
        until(loop, p.made.done)
        assert isinstance(p.made.exception(), ZeroDivisionError)
    else:
        p.handshake()
        p.tls.write(b"data")
        with contextlib.suppress(ssl.SSLWantReadError):
            p.tls.unwrap()
        p.flush()
        assert isinstance(p.until_lost(), ZeroDivisionError)
    messages = {"data_received": "Fatal error on SSL protocol", "eof_received": "Error calling eof_received()",
                "connection_made": "Fatal error: protocol.buffer_updated() call failed."}
    assert reported[0]["message"] == messages[method]
    assert isinstance(reported[0]["exception"], ZeroDivisionError)


@EACH("method", ["pause_writing", "resume_writing"])
def test_flow_control_that_raises(pair, reported, method):
    def fail(transport):
        raise ZeroDivisionError("on purpose")

    p = pair(protocol=TLSNotes(**{method: fail}))
    for _ in range(8):
        p.transport.write(BIG[:200_000])
    assert p.read(8 * 200_000) == 8 * BIG[:200_000]
    p.until("resume_writing")
    assert [context["message"] for context in reported] == [f"protocol.{method}() failed"]
    assert reported[0]["transport"] is p.transport


@EACH("error", [GeneratorExit, asyncio.CancelledError, BaseException])
def test_eof_received_raises_what_is_no_exception(pair, reported, error):
    def fail(transport):
        raise error("on purpose")

    p = pair(protocol=TLSNotes(eof_received=fail))
    p.say_goodbye()
    assert type(p.until_lost()) is error
    told = [] if error is asyncio.CancelledError else ["Error calling eof_received()"]
    assert [context["message"] for context in reported] == told


def test_eof_received_cannot_keep_it_open(pair, logged):
    p = pair(protocol=TLSNotes(eof_received=lambda transport: True))
    with contextlib.suppress(ssl.SSLWantReadError):
        p.tls.unwrap()
    p.flush()
    assert p.until_lost() is None
    assert "returning true from eof_received() has no effect when using ssl" in str(logged.take())


def test_a_full_buffer_and_what_it_schedules(pair, loop):
    """The next one comes before what buffer_updated() has scheduled."""
    p = pair(protocol=BufferedTLSNotes(size=10, buffer_updated=lambda transport: loop.call_soon(p.calls.append, "scheduled")))
    p.calls.clear()
    p.write(bytes(30))
    until(loop, lambda: p.calls.count("scheduled") == 3)
    assert p.calls == ["buffer_updated", "buffer_updated", "scheduled", "buffer_updated", "scheduled", "scheduled"]


@EACH("buffer", [0, memoryview(b"read only"), "text"], ids=["number", "bytes", "str"])
def test_what_is_no_buffer(pair, reported, buffer):
    p = pair(protocol=BufferedTLSNotes())
    p.protocol.get_buffer = lambda hint: buffer
    p.transport.set_protocol(p.protocol)        # asyncio keeps the method
    p.write(b"data")
    error = p.until_lost()
    with pytest.raises(TypeError) as expected:
        p.tls.read(len(buffer), buffer)
    assert type(error) is TypeError and str(error) == str(expected.value)
    assert [context["message"] for context in reported] == ["Fatal error on SSL protocol"]


@pytest.mark.only_asyncfast
def test_a_buffer_without_room(pair, reported):
    p = pair(protocol=BufferedTLSNotes(size=0))
    p.write(b"data")
    assert isinstance(p.until_lost(), RuntimeError)
    assert reported[0]["message"] == "Fatal error on SSL protocol"


# -- TLS on other things than a socket

async def echo_server(reader, writer):
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def talk(reader, writer, size=200_000):
    for data in (b"hello", BIG[:size]):
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_unix_sockets(loop, tmp_path):
    path = str(tmp_path / "socket")
    server = await asyncio.start_unix_server(echo_server, path, ssl=server_context())
    await talk(*await asyncio.open_unix_connection(path, ssl=client_context(), server_hostname="localhost"))
    server.close()
    await server.wait_closed()


async def test_tls_in_tls(loop):
    """A proxy that is spoken to over TLS, and a CONNECT through it to a server that speaks TLS."""
    async def proxy(reader, writer):
        assert await reader.readline() == b"CONNECT\n"
        there, away = await asyncio.open_connection(*target.sockets[0].getsockname())
        writer.write(b"OK\n")

        async def pump(source, sink):
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            sink.close()

        await asyncio.gather(pump(reader, away), pump(there, writer))

    target = await asyncio.start_server(echo_server, "127.0.0.1", 0, ssl=server_context())
    front = await asyncio.start_server(proxy, "127.0.0.1", 0, ssl=server_context())
    reader, writer = await asyncio.open_connection(*front.sockets[0].getsockname(), ssl=client_context(),
                                                   server_hostname="localhost")
    writer.write(b"CONNECT\n")
    assert await reader.readline() == b"OK\n"
    outer = writer.transport
    await writer.start_tls(client_context(), server_hostname="localhost")
    inner = writer.transport
    assert inner is not outer and inner.get_extra_info("ssl_object") is not outer.get_extra_info("ssl_object")
    assert inner.get_extra_info("socket") is outer.get_extra_info("socket")
    await talk(reader, writer)
    for server in (front, target):
        server.close()
        await server.wait_closed()


@EACH("how", ["close", "abort"])
@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio's waited for a minute")
async def test_start_tls_of_what_is_closed(loop, how):
    """There is no transport to go on with."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        transport, protocol = await loop.create_connection(asyncio.Protocol, *listener.getsockname())
        getattr(transport, how)()
        assert await loop.start_tls(transport, protocol, client_context(), server_hostname="localhost") is None


@pytest.mark.kinds("asyncfast", "asyncio")
async def test_what_programs_look_for_within(loop):
    """aiohttp's tests do."""
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=server_context())
    context = client_context()
    transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname(), ssl=context,
                                                server_hostname="localhost")
    assert transport._ssl_protocol._sslcontext is context
    assert transport._ssl_protocol._app_transport is transport
    transport.abort()
    server.close()


async def test_start_tls_refuses(loop):
    left, right = socket.socketpair()
    transport, protocol = await loop.create_connection(asyncio.Protocol, sock=left)
    with pytest.raises(TypeError, match="sslcontext is expected to be an instance of ssl.SSLContext, got None"):
        await loop.start_tls(transport, protocol, None)
    with pytest.raises(TypeError, match="is not supported by start_tls"):
        await loop.start_tls(object(), protocol, client_context())
    transport.close()
    right.close()


async def test_sendfile(loop, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(BIG)
    received = bytearray()

    async def serve(reader, writer):
        with path.open("rb") as file:
            assert await loop.sendfile(writer.transport, file) == len(BIG)
            with pytest.raises(RuntimeError):
                await loop.sendfile(writer.transport, file, fallback=False)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context())
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=client_context(),
                                                   server_hostname="localhost")
    while data := await reader.read(65536):
        received += data
    assert received == BIG
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


# -- what only another program can do

@pytest.mark.skipif(not shutil.which("openssl"), reason="asks the openssl program for it")
@pytest.mark.kinds("asyncfast", "asyncio")
@EACH("version, command, note", [("-tls1_3", "K", "KEYUPDATE"), ("-tls1_3", "k", "KEYUPDATE"), ("-tls1_2", "R", "RENEGOTIATING")])
async def test_new_keys_in_the_middle(loop, version, command, note):
    """The client asks for new keys while it is being sent a lot."""
    context = server_context()
    context.options &= ~getattr(ssl, "OP_NO_RENEGOTIATION", 0)
    context.options |= 1 << 8       # SSL_OP_ALLOW_CLIENT_RENEGOTIATION
    done = loop.create_future()
    output = bytearray()

    async def collect(stream):
        while data := await stream.read(65536):
            output.extend(data)

    async def say(line):
        client.stdin.write(line)
        await client.stdin.drain()

    async def serve(reader, writer):
        data = b"".join(b"<%05d>\n" % n for n in range(100_000))
        for at in range(0, len(data), 8000):
            writer.write(data[at:at + 8000])
            await writer.drain()
            if at == 400_000:
                while data[at + 7992:at + 8000] not in output:      # OpenSSL takes no data in the middle of it
                    await asyncio.sleep(0.001)
                await say(command.encode() + b"\n")
                while note.encode() not in output:
                    await asyncio.sleep(0.001)
                # when this has come the client has its new keys
                await say(b"between\n")
                assert await reader.readline() == b"between\n"
        await say(b"the end\n")
        assert await reader.readline() == b"the end\n"
        writer.close()
        done.set_result(None)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    host, port = server.sockets[0].getsockname()
    client = await asyncio.create_subprocess_exec(
        "openssl", "s_client", version, "-connect", f"{host}:{port}", "-CAfile", str(PEM),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    collecting = loop.create_task(collect(client.stdout))
    await done
    await collecting
    await client.wait()
    numbers = re.findall(rb"<(\d{5})>\n", output)
    assert list(map(int, numbers)) == list(range(100_000))
    server.close()
    await server.wait_closed()


# -- engines

@pytest.mark.only_asyncfast
def test_which_engine(loop, engine, monkeypatch):
    assert loop.tls_engine == engine
    for name in ("portable", engine):
        other = asyncfast.new_event_loop(tls=name)
        assert other.tls_engine == name
        other.close()
    monkeypatch.delenv("ASYNCFAST_TLS")
    other = asyncfast.new_event_loop()
    assert other.tls_engine == ("portable" if _tls.why_not_direct() else "direct")
    other.close()
    with pytest.raises(ValueError, match="tls should be one of 'direct', 'portable' or None, got 'fast'"):
        asyncfast.new_event_loop(tls="fast")
    monkeypatch.setattr(_tls, "_why_not_direct", "it is hidden")
    with pytest.raises(RuntimeError, match="the direct TLS engine cannot be used: it is hidden"):
        asyncfast.new_event_loop(tls="direct")
    other = asyncfast.new_event_loop()
    assert other.tls_engine == "portable"
    other.close()


@pytest.mark.only_asyncfast
def test_proofs_that_fail(loop):
    context, others = client_context(), (ssl.MemoryBIO(), ssl.MemoryBIO())
    tls = context.wrap_bio(*others, server_hostname="localhost")
    for wrong in ((object(), *others, context), (tls._sslobj, *others, client_context()),
                  (tls._sslobj, ssl.MemoryBIO(), others[1], context), (tls, *others, context)):
        with pytest.raises(RuntimeError):
            _core._prove_libssl(*wrong)
    _tls._prove_direct() if not _tls.why_not_direct() else None


@pytest.mark.only_asyncfast
def test_a_transport_that_was_never_made():
    cls = _core.SSLTransport
    empty = cls.__new__(cls)
    assert empty.is_closing() and empty.get_protocol() is None and empty.get_write_buffer_size() == 0
    assert empty.get_extra_info("cipher", 7) == 7 and empty.get_read_buffer_size() == 0
    for call in ("close", "abort", "pause_reading", "resume_reading", "is_reading"):
        getattr(empty, call)()
    empty.write(b"x")
    empty.writelines([b"x"])
    for wrong in ((), (1,) * 11):
        with pytest.raises(TypeError):
            cls(*wrong)
    with pytest.raises(TypeError):
        _core._TLSProtocol()


@pytest.mark.kinds("asyncfast")
def test_connections_of_every_kind_leave_nothing(loop):
    """Opened, used and ended in every way there is: no object and no descriptor is left."""
    loop.set_exception_handler(lambda loop, context: None)
    server, client = server_context(), client_context()

    def round():
        for way in range(6):
            p = Pair(loop, server=way % 2 == 0, context=server if way % 2 == 0 else client,
                     peer_context=client if way % 2 == 0 else server, handshake=way < 4)
            if way < 4:
                p.transport.write(BIG[:100_000])
                p.write(b"data")
                if way in (0, 1):
                    p.transport.close()
                    p.read(100_000)
                    with contextlib.suppress(ssl.SSLError):
                        p.do(p.tls.unwrap)
                elif way == 2:
                    p.transport.abort()
                else:
                    p.peer.close()
                p.until_lost()
            elif way == 4:
                p.flush()
                turn(loop, 2)
            else:
                p.send(b"\x16\x03\x01 no")
            p.close()
        gc.collect()

    def count():
        kinds = (_core.SSLTransport, _core.SocketTransport, _core._TLSProtocol, ssl.SSLObject)
        return sum(type(obj) in kinds for obj in gc.get_objects()), len(os.listdir("/proc/self/fd"))

    round()
    before = count()
    for _ in range(10):
        round()
    assert count() == before
