"""Accepting TLS: what a server does between accept() and connection_made(), whoever comes."""

import asyncio
import contextlib
import gc
import os
import socket
import ssl
import sys
import warnings
from asyncio import sslproto

import pytest
from _tls_pair import (  # noqa: F401 (engine, pair and reported are fixtures)
    PEM, Peer, TLSNotes, client_context, engine, pair, reported, server_context)
from _turns import EACH, turn, until
from asyncfast import _core

KNOWS_TRANSPORTS = pytest.mark.skipif(sys.version_info < (3, 13), reason="Server.close_clients() and abort_clients() came with 3.13")


class Served:
    """A server, its protocols, and clients as they are wanted."""

    def __init__(self, loop, path=None, context=None, factory=None, **then):
        self.loop, self.protocols, self.clients, self.then = loop, [], [], then
        self.path = path
        listen = loop.create_unix_server(factory or self.factory, path, ssl=context or server_context()) if path else \
            loop.create_server(factory or self.factory, "127.0.0.1", 0, ssl=context or server_context())
        self.server = loop.run_until_complete(listen)

    def factory(self):
        self.protocols.append(TLSNotes(**self.then))
        return self.protocols[-1]

    def connect(self):
        return socket.create_connection(self.server.sockets[0].getsockname()) if self.path is None else self.connect_unix()

    def connect_unix(self):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self.path)
        return sock

    def client(self, context=None):
        self.clients.append(Peer(self.loop, self.connect(), context or client_context(), server_hostname="localhost"))
        return self.clients[-1]

    def talk(self, client):
        """A handshake, and an answer; the protocol that was met."""
        client.handshake()
        until(self.loop, lambda: self.protocols and self.protocols[-1].transport)
        protocol = self.protocols[-1]
        client.write(b"hello")
        until(self.loop, lambda: protocol.data == b"hello")
        protocol.transport.write(b"hello yourself")
        assert client.read(14) == b"hello yourself"
        return protocol

    def attached(self):
        return len(self.server._clients) if hasattr(self.server, "_clients") else self.server._active_count

    def end(self):
        self.loop.set_exception_handler(lambda loop, context: None)
        for client in self.clients:
            client.close()
        self.server.close()
        turn(self.loop, 10)
        for protocol in self.protocols:
            if protocol.transport:
                protocol.transport.abort()
        turn(self.loop, 5)


@pytest.fixture
def serve(loop):
    made = []

    def serve(**options):
        made.append(Served(loop, **options))
        return made[-1]

    yield serve
    for each in made:
        each.end()


@EACH("unix", [False, True], ids=["tcp", "unix"])
def test_connection_made_comes_after_the_handshake(serve, loop, tmp_path, unix):
    s = serve(path=str(tmp_path / "socket") if unix else None)
    client = s.client()
    until(loop, lambda: s.protocols)
    turn(loop, 5)
    assert s.protocols[0].calls == [] and s.attached() == 1
    protocol = s.talk(client)
    assert s.protocols == [protocol] and protocol.calls[0] == "connection_made"
    info = protocol.transport.get_extra_info
    assert info("ssl_object").server_side and info("sslcontext") is info("ssl_object").context
    assert info("peername") == ("" if unix else client.peer.getsockname()) and info("socket").fileno() >= 0
    assert info("sockname") == client.peer.getpeername() and info("peercert") is None
    client.say_goodbye()
    until(loop, lambda: ("connection_lost", None) in protocol.calls)
    turn(loop, 2)
    assert s.attached() == 0


@pytest.mark.only_asyncfast
def test_accepting_makes_no_task_and_no_socket(serve, loop):
    s = serve()
    assert type(loop._owner(s.server.sockets[0])) is _core._Listener
    made = []
    loop.set_task_factory(lambda loop, coro, **kwargs: made.append(coro) or asyncio.Task(coro, loop=loop, **kwargs))
    sockets = [obj for obj in gc.get_objects() if type(obj) is socket.socket]
    s.talk(s.client())
    if not loop.get_debug():
        more = [obj for obj in gc.get_objects() if type(obj) is socket.socket and obj not in sockets]
        assert len(more) == 1           # the client's
    assert made == []
    loop.set_task_factory(None)


FAILURES = {
    "garbage": lambda client: client.peer.send(b"GET / HTTP/1.0\r\n\r\n"),
    "silence": lambda client: client.peer.shutdown(socket.SHUT_WR),
    "half a hello": lambda client: client.peer.send(b"\x16\x03\x01\x02\x00\x01\x00") and client.peer.shutdown(socket.SHUT_WR),
    "reset": lambda client: (client.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"), client.close()),
    "refused": lambda client: None,
}


@EACH("how", FAILURES)
def test_a_handshake_that_fails(serve, loop, reported, logged, how):
    """The server goes on, and says nothing of it but in debug mode."""
    s = serve()
    good = s.client()
    until(loop, lambda: len(s.protocols) == 1)
    bad = s.client(ssl.create_default_context() if how == "refused" else None)
    until(loop, lambda: len(s.protocols) == 2)
    if how == "refused":
        with pytest.raises(ssl.SSLCertVerificationError):
            bad.handshake()
        bad.flush()
    FAILURES[how](bad)
    until(loop, lambda: s.attached() == 1)
    turn(loop, 5)
    if loop.get_debug():
        # asyncio of 3.11 tells of a reset in its own words
        context = [c for c in reported if c["message"] == "Error on transport creation for incoming connection"].pop()
        assert context["protocol"] is s.protocols[1] and context["transport"].is_closing()
        kinds = {"silence": ConnectionResetError, "half a hello": ConnectionResetError, "reset": OSError}
        assert isinstance(context["exception"], kinds.get(how, ssl.SSLError))
    else:
        assert reported == []
    assert s.protocols[1].calls == []
    s.protocols.reverse()
    s.talk(good)
    s.talk(s.client())


def test_a_client_that_never_answers(loop, reported):
    made = []
    server = loop.run_until_complete(loop.create_server(lambda: made.append(1) or TLSNotes(), "127.0.0.1", 0,
                                                        ssl=server_context(), ssl_handshake_timeout=0.02))
    with socket.create_connection(server.sockets[0].getsockname()) as sock:
        sock.setblocking(False)
        until(loop, lambda: made)
        ended = []

        def look():
            with contextlib.suppress(BlockingIOError):
                ended.append(sock.recv(1))

        until(loop, lambda: look() or ended)
        assert ended == [b""]
    # ConnectionAbortedError is an OSError, of which asyncio tells in debug mode
    turn(loop, 3)
    assert [context["message"] for context in reported] == \
        (["Error on transport creation for incoming connection"] if loop.get_debug() else [])
    for context in reported:
        assert str(context["exception"]) == "SSL handshake is taking longer than 0.02 seconds: aborting the connection"
    server.close()
    turn(loop, 2)


@pytest.mark.only_asyncfast        # asyncio leaves the socket to the collector
@EACH("how", ["factory", "context", "connection_made"])
def test_what_raises_while_it_is_made(serve, loop, reported, how):
    def factory():
        raise ZeroDivisionError

    if how == "context":
        s = serve(context=client_context())     # no server can be made of it
    elif how == "factory":
        s = serve(factory=factory)
    else:
        s = serve(connection_made=lambda transport: 1 / 0)
    client = s.client()
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        client.handshake()
    with contextlib.suppress(ConnectionError):
        until(loop, lambda: client.receive() or client.ended)
    turn(loop, 3)
    assert s.attached() == 0
    text = "Error on transport creation for incoming connection"
    contexts = [context for context in reported if context["message"] == text]
    assert len(contexts) == loop.get_debug()
    for context in contexts:
        assert type(context["exception"]) in (ZeroDivisionError, ValueError, ssl.SSLError)
        assert context.get("protocol") is (s.protocols[0] if s.protocols else None)
        assert ("transport" in context) == (how == "connection_made")
    if how == "connection_made":
        assert "Fatal error: protocol.buffer_updated() call failed." in [context["message"] for context in reported]


@pytest.mark.only_asyncfast        # the same
@EACH("name", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
def test_timeouts_that_are_none(loop, reported, name):
    """asyncio finds that out when somebody comes, and tells in debug mode."""
    server = loop.run_until_complete(loop.create_server(TLSNotes, "127.0.0.1", 0, ssl=server_context(), **{name: -1}))
    sock = socket.create_connection(server.sockets[0].getsockname())
    turn(loop, 5)
    gc.collect()
    assert [str(context["exception"]) for context in reported] == \
        ([f"{name} should be a positive number, got -1"] if loop.get_debug() else [])
    reported.clear()
    sock.close()
    server.close()
    turn(loop, 2)


@KNOWS_TRANSPORTS
@EACH("method", ["close_clients", "abort_clients"])
def test_a_server_knows_its_connections(serve, loop, method):
    """In the middle of the handshake, and after it."""
    s = serve()
    protocol = s.talk(s.client())
    halfway = s.client()
    until(loop, lambda: len(s.protocols) == 2)
    turn(loop, 3)
    assert s.attached() == 2
    s.server.close()
    waiting = loop.create_task(s.server.wait_closed())
    turn(loop, 3)
    assert not waiting.done()
    getattr(s.server, method)()
    loop.run_until_complete(waiting)
    assert s.attached() == 0 and ("connection_lost", None) in protocol.calls
    assert s.protocols[1].calls == []
    until(loop, lambda: halfway.receive() or halfway.ended)


# -- what programs put in the place of asyncio's

def test_a_loop_with_transports_of_its_own(kind):
    made = []

    class Loop(type(kind.new_event_loop())):
        def _make_ssl_transport(self, *args, **kwargs):
            made.append(kwargs["server_side"])
            return super()._make_ssl_transport(*args, **kwargs)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()        # the one whose type it was
    loop = Loop()
    s = Served(loop)
    s.talk(s.client())
    assert made == [True]
    s.end()
    loop.close()


@EACH("when", ["before", "after"])
@EACH("what", ["class", "method"])
def test_sslproto_as_a_program_has_changed_it(loop, monkeypatch, when, what):
    """It may do so at any time, and gets what it asked for from the next connection on."""
    seen = []
    original = sslproto.SSLProtocol
    connection_made = original.connection_made

    class Mine(original):
        def connection_made(self, transport):
            seen.append(self)
            return super().connection_made(transport)

    def change():
        if what == "class":
            monkeypatch.setattr(sslproto, "SSLProtocol", Mine)
        else:
            monkeypatch.setattr(original, "connection_made", lambda self, transport: seen.append(self) or
                                connection_made(self, transport))

    if when == "before":
        change()
    s = Served(loop)
    if when == "after":
        s.talk(s.client())
        change()
        seen.clear()
    protocol = s.talk(s.client())
    assert len(seen) == 1 and isinstance(seen[0], original)
    assert type(protocol.transport) is sslproto._SSLProtocolTransport
    bad = s.client()
    until(loop, lambda: len(seen) == 2)
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))
    bad.peer.send(b"no hello, but garbage\r\n")
    until(loop, lambda: s.attached() == (2 if when == "after" else 1))
    turn(loop, 3)
    assert [type(context["exception"]) for context in contexts] == ([ssl.SSLError] if loop.get_debug() else [])
    monkeypatch.undo()
    seen.clear()
    protocol = s.talk(s.client())
    assert seen == [] and (type(protocol.transport) is _core.SSLTransport or not isinstance(loop, _core.Loop))
    s.end()


# -- too many, too late

@pytest.mark.kinds("asyncfast", "asyncio")
def test_out_of_descriptors(program):
    """Who comes then is accepted later; and who is in has his handshake meanwhile."""
    out = program(f"""
        import resource, ssl
        async def main():
            loop = asyncio.get_running_loop()
            messages, made = [], []
            loop.set_exception_handler(lambda loop, context: messages.append(context["message"]))
            class Protocol(asyncio.Protocol):
                def connection_made(self, transport):
                    made.append(transport)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain({str(PEM)!r})
            server = await loop.create_server(Protocol, "127.0.0.1", 0, ssl=context)
            peers = []
            for n in range(12):
                sock = socket.create_connection(server.sockets[0].getsockname())
                sock.setblocking(False)
                client = ssl.create_default_context(cafile={str(PEM)!r})
                bios = ssl.MemoryBIO(), ssl.MemoryBIO()
                peers.append((sock, client.wrap_bio(*bios, server_hostname="localhost"), *bios))
            def shake():
                for sock, tls, incoming, outgoing in peers:
                    with contextlib.suppress(ssl.SSLWantReadError):
                        tls.do_handshake()
                    if outgoing.pending:
                        sock.send(outgoing.read())
                    with contextlib.suppress(BlockingIOError):
                        incoming.write(sock.recv(100_000))
            top = max(map(int, os.listdir("/proc/self/fd")))
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (top + 5, limit[1]))
            while not messages or not made:
                shake()
                await asyncio.sleep(0.001)
            first = len(made)
            assert 0 < first < 12, first
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
            while len(made) < 12:
                shake()
                await asyncio.sleep(0.001)
            assert set(messages) == {{"socket.accept() out of system resource"}}, messages
            for transport in made:
                transport.abort()
            server.close()
            for sock, *_ in peers:
                sock.close()
            await asyncio.sleep(0)
        run(main())
        print("fine")
        """)
    assert out == "fine\n"


@EACH("how", ["accepted", "hello", "closed"])
def test_the_loop_ends_in_the_middle_of_handshakes(kind, how):
    """No descriptor is left, and nobody is told that he has not closed what he never had."""
    before = len(os.listdir("/proc/self/fd"))
    loop = kind.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)
    s = Served(loop)
    clients = [s.client() for _ in range(3)]
    until(loop, lambda: len(s.protocols) == 3)
    if how != "accepted":
        for client in clients:
            with contextlib.suppress(ssl.SSLWantReadError):
                client.tls.do_handshake()
            client.flush()
        turn(loop, 5)
    if how == "closed":
        s.server.close()
        turn(loop, 3)
    for task in asyncio.all_tasks(loop):        # asyncio's accept in tasks, which its runner cancels
        task.cancel()
    turn(loop, 5)
    s.server.close()
    loop.close()
    for client in clients:
        client.close()
    del s, client, clients
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_streams(loop):
    async def answer(reader, writer):
        writer.write((await reader.readline()).upper())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server_context())
    for _ in range(3):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=client_context(),
                                                       server_hostname="localhost")
        writer.write(b"line\n")
        assert await reader.read() == b"LINE\n"
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()


# -- extra info

class Name(str):
    pass


ASKED = {
    "info": lambda transport: transport.get_extra_info("peercert"),
    "other str": lambda transport: transport.get_extra_info(Name("peercert")),
    "_extra": lambda transport: (transport if isinstance(transport, _core.SSLTransport) else transport._ssl_protocol)._extra["peercert"],
    "_ssl_protocol": lambda transport: transport._ssl_protocol._extra["peercert"],
}


@EACH("ask", ASKED)
@EACH("when", ["at once", "after close", "after an error"])
@EACH("verify", [ssl.CERT_REQUIRED, ssl.CERT_NONE])
def test_peercert_whenever_it_is_asked_for(pair, ask, when, verify):
    """It is decoded when somebody asks; and it is what it was after the handshake."""
    context = client_context()
    if verify == ssl.CERT_NONE:
        context.check_hostname = False
        context.verify_mode = verify
    p = pair(server=False, context=context)
    expected = p.transport.get_extra_info("ssl_object").getpeercert()
    assert (expected == {}) == (verify == ssl.CERT_NONE)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE         # of later connections
    transport = p.transport
    if when == "after close":
        transport.abort()
        p.until_lost()
    elif when == "after an error":
        p.send(b"\x17\x03\x03\x00\x20" + bytes(32))
        assert isinstance(p.until_lost(), ssl.SSLError)
    assert ASKED[ask](transport) == expected
    assert transport.get_extra_info("peercert") is ASKED[ask](transport)
    assert set(transport._ssl_protocol._extra) == {"peercert", "cipher", "compression", "ssl_object", "sslcontext"}
