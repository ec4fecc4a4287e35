"""What the tests of transports share: a connection whose other end is a plain socket, so that a turn of the loop is a turn
of the one transport; and a protocol that writes down what it is told."""

import asyncio
import contextlib
import gc
import socket
import struct
import warnings
import weakref

import pytest
from _turns import KeepsSocketWeakly, Notes, turn


class BufferedNotes(Notes, asyncio.BufferedProtocol):
    data_received = property()      # whoever calls it is wrong

    def __init__(self, size=100_000, **then):
        super().__init__(**then)
        self.buffer = bytearray(size)

    def get_buffer(self, hint):
        assert hint == -1
        given = self.note("get_buffer")
        return self.buffer if given is None else given

    def buffer_updated(self, count):
        self.data += self.buffer[:count]
        return self.note("buffer_updated")


class Connection(KeepsSocketWeakly):
    """A transport on one end of a pair of sockets; `peer` is the other end."""

    def __init__(self, loop, protocol=None, buffered=False, sockets=None, made=True, **then):
        self.loop, self.protocol = loop, protocol or (BufferedNotes if buffered else Notes)(**then)
        sock, self.peer = sockets or socket.socketpair()
        for each in (sock, self.peer):
            each.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
        self.fd = sock.fileno()
        self._sock = weakref.ref(sock)
        if made:
            self.transport, _ = loop.run_until_complete(loop.connect_accepted_socket(lambda: self.protocol, sock))
        else:
            self.transport = loop._make_socket_transport(sock, self.protocol)

    def __getattr__(self, name):
        return getattr(self.transport, name)

    @property
    def calls(self):
        return self.protocol.calls

    def do(self, call, inside=True):
        """What it returns, called from a callback of the loop."""
        if not inside:
            return call()
        done = []
        self.loop.call_soon(lambda: done.append(call()))
        turn(self.loop)
        return done[0]

    def read(self):
        """What is there to be read at the other end; then, if it has ended, how."""
        data, end = bytearray(), None
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    chunk = self.peer.recv(1 << 20)
                except ConnectionError as error:
                    end = type(error)
                    break
                if not chunk:
                    end = "end"
                    break
                data += chunk
        return data, end

    def read_all(self, size=None):
        """Read at the other end, and have the loop turn, until so many bytes have come or it ends."""
        data, end = self.read()
        while end is None and (size is None or len(data) < size):
            turn(self.loop)
            more, end = self.read()
            data += more
        return data

    def facts(self):
        t = self.transport
        text = repr(t).replace("_SelectorSocketTransport", "SocketTransport").replace(f"fd={self.fd}", "fd=...")
        return (text, t.is_closing(), t.is_reading(), t.get_write_buffer_size(), t.get_write_buffer_limits(),
                type(t.get_protocol()).__name__, self.calls[:])

    def end(self):
        self.peer.close()
        if not self.loop.is_closed():
            self.loop.set_exception_handler(lambda loop, context: None)
            with contextlib.suppress(AttributeError):   # asyncio's before 3.14, if it ended when its backlog was sent
                self.transport.abort()
            turn(self.loop, 2)
        self.sock.close()
        with warnings.catch_warnings():     # nobody can close it any more
            warnings.simplefilter("ignore", ResourceWarning)
            self.transport = self.protocol = None
            gc.collect()


def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        left = socket.create_connection(listener.getsockname())
        right, _ = listener.accept()
    return left, right


def reset(sock):
    """Close it so that the other end gets ECONNRESET."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Connect:
    """connect(...) makes a Connection on the loop; it is ended when the test is."""

    Notes, BufferedNotes = Notes, BufferedNotes
    tcp_pair, reset = staticmethod(tcp_pair), staticmethod(reset)

    def __init__(self, loop, made):
        self.loop, self.made = loop, made

    def __call__(self, protocol=None, **kwargs):
        self.made.append(Connection(self.loop, protocol, **kwargs))
        return self.made[-1]


@pytest.fixture
def connect(loop):
    made = []
    yield Connect(loop, made)
    for connection in made:
        connection.end()


def difference(ours, theirs):
    """Where they first differ: what comes before, and the two."""
    if type(ours) is type(theirs) and isinstance(ours, (list, tuple)):
        for n, (one, other) in enumerate(zip(ours, theirs)):
            if one != other:
                return [f"at {n}", ours[max(n - 3, 0):n] if len(str(ours)) < 5000 else "", *difference(one, other)]
        return [len(ours), len(theirs), *ours[len(theirs):], *theirs[len(ours):]]
    return [f"ours: {ours!r:.300}", f"theirs: {theirs!r:.300}"]


@pytest.fixture
def both(loop, oracle, connect):
    """both(play) calls play(connect) for the loop under test and for asyncio's, asserts that the same comes of it, and
    returns it."""
    def both(play):
        ours, theirs = (play(Connect(each, connect.made)) for each in (loop, oracle))
        if ours != theirs:
            pytest.fail("\n".join(map(str, difference(ours, theirs))))
        return ours

    return both
