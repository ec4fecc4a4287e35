"""What the tests of TLS share: a transport of ours, and a peer that is an ssl.SSLObject on a plain socket, driven by the test, so
that it can do what no well-behaved program does.  Whoever imports `engine` runs each test on both engines."""

import asyncio
import contextlib
import os
import socket
import ssl
from pathlib import Path

import pytest
from _turns import EACH, Notes, turn, until
from asyncfast import _tls

PEM = Path(__file__).with_name("localhost.pem")
BIG = os.urandom(1 << 20)


@pytest.fixture(autouse=True, params=["direct", "portable"])
def engine(request, monkeypatch):
    if request.param == "direct" and _tls.why_not_direct():
        pytest.skip(_tls.why_not_direct())
    monkeypatch.setenv("ASYNCFAST_TLS", request.param)
    return request.param


def server_context(**options):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    for name, value in options.items():
        setattr(context, name, value)
    return context


def client_context(**options):
    context = ssl.create_default_context(cafile=PEM)
    for name, value in options.items():
        setattr(context, name, value)
    return context


class TLSNotes(Notes):
    """Keeps the exception of connection_lost() too."""

    error = None

    def connection_lost(self, error):
        self.error = error
        return super().connection_lost(error)


class BufferedTLSNotes(TLSNotes, asyncio.BufferedProtocol):
    data_received = property()

    def __init__(self, size=1000, **then):
        super().__init__(**then)
        self.buffer = bytearray(size)

    def get_buffer(self, hint):
        assert hint >= 0
        return memoryview(self.buffer)       # asyncio slices it

    def buffer_updated(self, count):
        self.data += self.buffer[:count]
        return self.note("buffer_updated")


class Peer:
    """The other end: a client of ours, or a server, which the test makes do what it likes."""

    def __init__(self, loop, peer, context, **options):
        self.loop, self.peer, self.ended = loop, peer, False
        peer.setblocking(False)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, **options)

    def handshake(self):
        self.do(self.tls.do_handshake)

    def send(self, data):
        """All of it, as the other end takes it."""
        view = memoryview(data)
        while view:
            with contextlib.suppress(BlockingIOError):
                view = view[self.peer.send(view):]
            turn(self.loop)

    def receive(self):
        """What is there goes to the peer's SSLObject."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while data := self.peer.recv(1 << 20):
                self.incoming.write(data)
            self.ended = True

    def flush(self):
        if self.outgoing.pending:
            with contextlib.suppress(BrokenPipeError):
                self.send(self.outgoing.read())

    def do(self, call, *args):
        """call of the peer's SSLObject, until it does not want more."""
        while True:
            try:
                result = call(*args)
                self.flush()
                return result
            except ssl.SSLWantReadError:
                self.flush()
                turn(self.loop, 2)
                self.receive()
                if self.ended and not self.incoming.pending:
                    return b""

    def write(self, data):
        self.do(self.tls.write, data)

    def read(self, size):
        data = bytearray()
        while len(data) < size and (chunk := self.do(self.tls.read, 1 << 20)):
            data += chunk
        return bytes(data)

    def say_goodbye(self):
        """close_notify, whatever the other end says."""
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        self.flush()

    def close(self):
        self.peer.close()


class Pair(Peer):
    """A TLS transport, the server or the client, and its peer."""

    def __init__(self, loop, server=True, protocol=None, context=None, peer_context=None, handshake=True, session=None,
                 sockets=None, **options):
        self.protocol = TLSNotes() if protocol is None else protocol
        self.sock, peer = sockets or socket.socketpair()
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        if server:
            made = loop.connect_accepted_socket(lambda: self.protocol, self.sock, ssl=context or server_context(), **options)
            super().__init__(loop, peer, peer_context or client_context(), server_hostname="localhost", session=session)
        else:
            made = loop.create_connection(lambda: self.protocol, sock=self.sock, ssl=context or client_context(),
                                          server_hostname="localhost", **options)
            super().__init__(loop, peer, peer_context or server_context(), server_side=True)
        self.made = loop.create_task(made)
        if handshake:
            self.handshake()

    @property
    def transport(self):
        return self.protocol.transport

    @property
    def calls(self):
        return self.protocol.calls

    def handshake(self):
        super().handshake()
        until(self.loop, self.made.done)
        self.made.result()

    def until(self, *calls):
        until(self.loop, lambda: all(call in [c if isinstance(c, str) else c[0] for c in self.calls] for call in calls))

    def until_lost(self):
        self.until("connection_lost")
        return self.protocol.error

    def until_data(self, size):
        until(self.loop, lambda: len(self.protocol.data) >= size)

    def close(self):
        self.peer.close()
        self.loop.set_exception_handler(lambda loop, context: None)
        if self.transport is not None:
            self.transport.abort()
        turn(self.loop, 5)
        if not self.made.done():
            self.made.cancel()
        with contextlib.suppress(BaseException):
            self.loop.run_until_complete(self.made)
        turn(self.loop, 5)
        self.sock.close()


@pytest.fixture
def pair(loop):
    made = []

    def pair(**options):
        made.append(Pair(loop, **options))
        return made[-1]

    yield pair
    for each in made:
        each.close()
    made.clear()


@pytest.fixture
def reported(loop):
    """What the loop's exception handler is told."""
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))
    return contexts


SIDES = EACH("server", [True, False], ids=["server", "client"])
BOTH_PROTOCOLS = EACH("protocol", [TLSNotes, BufferedTLSNotes])
VERSIONS = EACH("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
