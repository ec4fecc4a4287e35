"""The transport of datagram sockets: what each method does in each state, and what the protocol is told, and when.

As in test_stream_transport.py nearly all of it is a question to both loops, ours and asyncio's; the other end is a plain
socket, so that a turn of the loop is a turn of the one transport.
"""

import asyncio
import contextlib
import contextvars
import errno
import gc
import itertools
import os
import random
import socket
import sys
import tempfile
import warnings
import weakref

import pytest
from _turns import EACH, ByteArray, Bytes, KeepsSocketWeakly, turn

HEADER = 8 if sys.version_info >= (3, 13) else 0
SENDS_EMPTY = sys.version_info >= (3, 13)
LARGEST = 65507
ORACLE_COUNTS = pytest.mark.skipif(sys.version_info[:2] == (3, 13), reason="asyncio 3.13 counts headers and never takes them off")
numbers = itertools.count()


def spin(loop, protocol, count):
    """One run, until the protocol has got so many datagrams and a bit longer.  In the turns of turn() nothing is done in a
    row, as the loop is to stop."""
    def look():
        enough = len(protocol.got) >= count
        loop.call_later(0.002, loop.stop if enough else look)

    look()
    loop.run_forever()


class Notes(asyncio.DatagramProtocol):
    """Writes down what it is told; `then` says what else to do, by name: a function of the transport."""

    def __init__(self, **then):
        self.calls, self.then, self.transport = [], then, None

    def note(self, name, *args):
        self.calls.append((name, *args) if args else name)
        then = self.then.get(name)
        if then:
            then(self.transport)

    def connection_made(self, transport):
        self.transport = transport
        self.note("connection_made")

    def datagram_received(self, data, address):
        assert type(data) is bytes
        self.note("datagram_received", data, address)

    def error_received(self, error):
        self.note("error_received", type(error), error.errno)

    def connection_lost(self, error):
        self.note("connection_lost", error if error is None else type(error))

    def pause_writing(self):
        self.note("pause_writing")

    def resume_writing(self):
        self.note("resume_writing")

    @property
    def got(self):
        return [call[1] for call in self.calls if call[0] == "datagram_received"]


FAMILIES = {
    "inet": (socket.AF_INET, ("127.0.0.1", 0)), "inet6": (socket.AF_INET6, ("::1", 0)), "unix": (socket.AF_UNIX, None),
    "abstract": (socket.AF_UNIX, b"\0"),
}


def bound(kind, folder):
    family, address = FAMILIES[kind]
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    if kind == "unix":
        address = os.path.join(folder, str(next(numbers)))
    elif kind == "abstract":
        address = b"\0asyncfast test %d %d" % (os.getpid(), next(numbers))
    sock.bind(address)
    return sock


class Endpoint(KeepsSocketWeakly):
    """A transport on a socket; `peer` is a plain one."""

    def __init__(self, loop, folder, kind="unix", connected=True, made=True, address=None, sockets=None, **then):
        self.loop, self.protocol = loop, Notes(**then)
        sock, self.peer = sockets or (bound(kind, folder), bound(kind, folder))
        self._sock = weakref.ref(sock)
        sock.setblocking(False)
        self.peer.setblocking(False)
        self.here, self.there = sock.getsockname(), self.peer.getsockname()
        if connected:
            sock.connect(self.there)
        self.to = None if connected else self.there
        waiter = loop.create_future() if made else None
        self.transport = loop._make_datagram_transport(sock, self.protocol, address and self.there, waiter)
        self.fd = sock.fileno()
        self.contexts = []
        loop.set_exception_handler(lambda loop, context: self.contexts.append(
            (context["message"].replace("_SelectorDatagramTransport", "transport"), type(context["exception"]),
             str(context["exception"]), "protocol" in context)))
        if made:
            loop.run_until_complete(waiter)

    @property
    def calls(self):
        """What the protocol was told, with names for the addresses."""
        names = {self.here: "here", self.there: "there"}
        return [tuple(names.get(x, x) if isinstance(x, (tuple, str, bytes)) and x in names else x for x in call)
                if isinstance(call, tuple) else call for call in self.protocol.calls]

    def send(self, data):
        self.peer.sendto(data, self.here)

    def sendto(self, data, *to):
        return self.transport.sendto(data, *(to or (self.to,)))

    def warm_up(self):
        """Receive something that sets nothing going: the transport then reads several at once."""
        then, self.protocol.then = self.protocol.then, {}
        self.send(b"warm")
        spin(self.loop, self.protocol, len(self.protocol.got) + 1)
        self.protocol.then = then
        del self.protocol.calls[-1]

    def fill(self):
        """Send until some of it waits."""
        n = 0
        while self.transport.get_write_buffer_size() == 0:
            self.sendto(b"%d" % n)
            n += 1
        for n in range(n, n + 3):
            self.sendto(b"%d" % n)
        return [b"%d" % i for i in range(n + 1)]

    def read(self):
        """What is there to be read at the other end."""
        found = []
        try:
            while True:
                found.append(self.peer.recvfrom(1 << 18)[0])
        except BlockingIOError:
            return found

    def read_all(self, count):
        found = self.read()
        while len(found) < count:
            turn(self.loop)
            found += self.read()
        return found

    def facts(self):
        t = self.transport
        # asyncio counts nothing of what it drops, and 3.13 forgot eight bytes each
        size = None if t.is_closing() or sys.version_info[:2] == (3, 13) else t.get_write_buffer_size()
        text = repr(t).replace("_SelectorDatagramTransport", "DatagramTransport").replace(f"fd={self.fd}", "fd=...")
        return (text if size is not None else text.split("bufsize")[0], t.is_closing(), t.is_reading(), size,
                t.get_write_buffer_limits(), type(t.get_protocol()).__name__, self.calls[:], self.contexts[:])

    def end(self):
        self.peer.close()
        self.protocol.then = {}
        if not self.loop.is_closed():
            with contextlib.suppress(AttributeError):       # asyncio's, after close() with a backlog
                self.transport.abort()
            turn(self.loop, 2)
        self.sock.close()


@pytest.fixture
def connect(loop):
    """connect(options of Endpoint..., loop=loop) makes one; ended when the test is."""
    made = []
    with tempfile.TemporaryDirectory() as folder:
        def connect(*args, loop=loop, **kwargs):
            made.append(Endpoint(loop, folder, *args, **kwargs))
            return made[-1]

        yield connect
        for endpoint in made:
            endpoint.end()


@pytest.fixture
def both(loop, oracle, connect, logged):
    """both(play): play(connect) on the loop under test and on asyncio's; asserts that the same comes of it, and is logged,
    and returns it."""
    def both(play):
        (ours, *log), (theirs, *their_log) = (
            (play(lambda *args, loop=each, **kwargs: connect(*args, loop=loop, **kwargs)), logged.take())
            for each in (loop, oracle))
        assert ours == theirs
        assert log == their_log
        return ours

    return both


# -- every method in every state

def called(*names, turns=0, fill=False):
    def prepare(endpoint):
        if fill:
            endpoint.fill()
        for name in names:
            getattr(endpoint.transport, name)()
        turn(endpoint.loop, turns)
    return prepare


STATES = {
    "idle": called(), "paused": called("pause_reading"), "backlog": called(fill=True),
    "backlog, closing": called("close", fill=True), "closing": called("close"), "aborted": called("abort"),
    "backlog, aborted": called("abort", fill=True), "closed": called("close", turns=1), "lost": called("abort", turns=1),
    "peer gone": lambda endpoint: endpoint.peer.close(), "new": None,
}
CALLS = {
    "sendto": lambda t: t.sendto(b"data"), "empty": lambda t: t.sendto(b""), "text": lambda t: t.sendto("text"),
    "by name": lambda t: t.sendto(data=b"some", addr=None), "elsewhere": lambda t: t.sendto(b"else", ("127.0.0.1", 1)),
    "nowhere": lambda t: t.sendto(b"else", 42), "close": lambda t: t.close(), "abort": lambda t: t.abort(),
    "pause_reading": lambda t: t.pause_reading(), "resume_reading": lambda t: t.resume_reading(),
    "limits": lambda t: t.set_write_buffer_limits(high=10), "protocol": lambda t: t.set_protocol(Notes()),
    "bad limits": lambda t: t.set_write_buffer_limits(high=1, low=2), "info": lambda t: t.get_extra_info("nothing", 42),
    "_force_close": lambda t: t._force_close(OSError("why")), "attribute": lambda t: setattr(t, "x", t) or t.x is t,
    "view": lambda t: t.sendto(memoryview(b"data")), "bytearray": lambda t: t.sendto(bytearray(b"data")),
}


@EACH("address", [False, True], ids=["", "address"])
@EACH("state", STATES)
def test_every_method_in_every_state(both, outcome, state, address):
    def play(connect):
        seen = []
        for name, call in CALLS.items():
            if name == "protocol" and state == "new":
                continue        # asyncio's connection_made() would be the former protocol's
            if state == "backlog, aborted" and (name == "limits" or not address):
                continue        # asyncio still counts what it has dropped, and queues what it will not send
            endpoint = connect(made=state != "new", address=address)
            if STATES[state]:
                STATES[state](endpoint)
            result = outcome(call, endpoint.transport)
            if isinstance(result, tuple) and result[0] is AttributeError:
                result = None       # sendto() on what is closed and was made without an address
            elif isinstance(result, tuple):
                result = result[0], result[1].replace(endpoint.there, "there")
            seen.append((name, result, endpoint.facts()))
            turn(endpoint.loop, 2)
            seen.append((endpoint.facts(), None if endpoint.peer.fileno() < 0 else endpoint.read()))
        return seen

    both(play)


@EACH("state", STATES)
def test_again_and_again(both, outcome, state):
    """What was called may be called again."""
    names = ("sendto", "pause_reading", "pause_reading", "resume_reading", "resume_reading", "sendto", "close", "sendto",
             "close", "abort", "abort", "sendto", "pause_reading", "resume_reading", "empty")

    def play(connect):
        endpoint = connect(made=state != "new", address=True)
        if STATES[state]:
            STATES[state](endpoint)
        seen = [(name, outcome(CALLS[name], endpoint.transport), endpoint.facts()) for name in names]
        turn(endpoint.loop, 2)
        return seen, endpoint.facts(), None if endpoint.peer.fileno() < 0 else endpoint.read()

    both(play)


@pytest.mark.only_asyncfast
@EACH("state", ["closed", "lost"])
def test_sendto_on_what_is_closed(connect, logged, state):
    """Without an address asyncio stumbles over its own None."""
    endpoint = connect(connected=False)
    STATES[state](endpoint)
    for _ in range(7):
        endpoint.sendto(b"x")
    assert logged.take() == ["socket.send() raised exception."] * 3 and endpoint.contexts == []


def test_sending_to_what_is_lost_is_logged(connect, logged):
    """From the sixth time on, as asyncio's constants say."""
    endpoint = connect(address=True)
    endpoint.transport.abort()
    for _ in range(7):
        endpoint.transport.sendto(b"x")
    assert logged.take() == ["socket.send() raised exception."] * 3


# -- sending

DATA = {
    "bytes": b"abc", "bytearray": bytearray(b"abc"), "memoryview": memoryview(b"abc"), "slice": memoryview(b"xxabcxx")[2:5],
    "of bytearray": memoryview(bytearray(b"abc")), "subclass": Bytes(b"abc"), "bytearray subclass": ByteArray(b"abc"),
    "empty": b"", "empty bytearray": bytearray(), "empty view": memoryview(b""),
}


@EACH("waiting", [False, True], ids=["", "backlog"])
@EACH("connected", [False, True], ids=["", "connected"])
def test_what_may_be_sent(connect, connected, waiting):
    for name, data in DATA.items():
        endpoint = connect(connected=connected)
        before = endpoint.fill() if waiting else []
        assert endpoint.sendto(data) is None
        after = [bytes(data)] if SENDS_EMPTY or data else []
        assert endpoint.read_all(len(before + after)) == before + after, name


THINGS = [None, "text", 1, 1.5, [b"x"], [1, 2], (), {}, object, int, type("Thing", (), {}), Notes]


@EACH("thing", THINGS, ids=repr)
def test_what_may_not_be_sent(both, outcome, thing):
    def play(connect):
        endpoint = connect(address=True)
        return outcome(endpoint.transport.sendto, thing, "wrong"), endpoint.read(), endpoint.facts()

    both(play)


def test_arguments(both, outcome):
    """Too many, too few, by name, twice."""
    def play(connect):
        t = connect().transport
        calls = [lambda: t.sendto(), lambda: t.sendto(b"", None, None), lambda: t.sendto(addr=None), lambda: t.sendto(b"", x=1),
                 lambda: t.sendto(b"", data=b""), lambda: t.sendto(b"", None, addr=None), lambda: t.sendto(b"", daten=b"")]
        return [outcome(call)[0] for call in calls]

    assert set(both(play)) == {TypeError}


@EACH("waiting", [False, True], ids=["", "backlog"])
def test_released_view(both, outcome, waiting):
    def play(connect):
        view = memoryview(b"x")
        view.release()
        endpoint = connect()
        if waiting:
            endpoint.fill()
        return outcome(endpoint.sendto, view), endpoint.facts()

    both(play)


@pytest.mark.only_asyncfast
@EACH("waiting", [False, True], ids=["", "backlog"])
@EACH("view", [memoryview(b"abcdef")[::2], memoryview(bytearray(b"abcdef"))[::-1],
               memoryview(b"abcdefgh").cast("H"), memoryview(b"abcdef").cast("B", (2, 3))],
      ids=["steps", "backwards", "items", "two dimensions"])
def test_views_that_asyncio_does_not_send(connect, view, waiting):
    """Not contiguous: asyncio ends the transport.  Items of several bytes: asyncio counts wrong."""
    endpoint = connect()
    before = endpoint.fill() if waiting else []
    size = endpoint.transport.get_write_buffer_size()
    endpoint.sendto(view)
    if waiting:
        assert endpoint.transport.get_write_buffer_size() == size + view.nbytes + HEADER
    assert endpoint.read_all(len(before) + 1) == [*before, view.tobytes()]


@EACH("make", [bytearray, lambda data: memoryview(bytearray(data)), ByteArray], ids=["bytearray", "memoryview", "subclass"])
def test_changed_after_sendto(connect, make):
    endpoint = connect()
    before, data = endpoint.fill(), make(b"before")
    endpoint.sendto(data)
    data[:] = b"after "
    if not isinstance(data, memoryview):
        data.clear()
    assert endpoint.read_all(len(before) + 1) == [*before, b"before"]


def test_order(connect):
    """Whatever waits when, nothing overtakes, and nothing is sent twice or lost."""
    endpoint = connect()
    sent, read = [], []
    for n in range(2000):
        sent.append(b"%d" % n)
        endpoint.sendto(sent[-1])
        if n % 50 == 0:
            read += endpoint.read()
            turn(endpoint.loop)
    assert read + endpoint.read_all(len(sent) - len(read)) == sent


@EACH("family", ["inet", "inet6"])
@EACH("connected", [False, True], ids=["", "connected"])
@EACH("size", [0, 1, 1472, LARGEST])
def test_sizes(both, family, connected, size):
    """To the largest that there is, both ways."""
    def play(connect):
        endpoint = connect(family, connected)
        data = bytes(range(256)) * (LARGEST // 256 + 1)
        endpoint.sendto(data[:size])
        endpoint.send(data[:size])
        turn(endpoint.loop, 2)
        if size or SENDS_EMPTY:
            assert endpoint.read() == [data[:size]]
        assert endpoint.protocol.got == [data[:size]]
        return endpoint.transport.max_size, endpoint.facts()

    both(play)


@EACH("size", [65508, 65536, 300_000])
@EACH("connected", [False, True], ids=["", "connected"])
def test_too_large(both, size, connected):
    """EMSGSIZE goes to error_received(), and nothing else happens."""
    def play(connect):
        endpoint = connect("inet", connected)
        endpoint.sendto(b"x" * size)
        endpoint.sendto(b"next")
        turn(endpoint.loop)
        return endpoint.facts(), endpoint.read()

    facts, read = both(play)
    assert facts[6] == ["connection_made", ("error_received", OSError, errno.EMSGSIZE)] and read == [b"next"]


@EACH("size", [65536, 150_000])
def test_large_unix_datagrams(both, size):
    def play(connect):
        endpoint = connect("unix")
        endpoint.sendto(b"x" * size)
        endpoint.send(b"y" * size)
        turn(endpoint.loop, 2)
        assert endpoint.protocol.got == [b"y" * size] and endpoint.read() == [b"x" * size]
        return endpoint.facts()

    both(play)


# -- addresses

@EACH("family", FAMILIES)
@EACH("connected", [False, True], ids=["", "connected"])
def test_where_from(both, family, connected):
    """The addresses are those of socket.recvfrom(), in every detail."""
    def play(connect):
        endpoint = connect(family, connected)
        for _ in range(3):
            endpoint.send(b"from a name")
        turn(endpoint.loop, 4)
        addresses = [call[2] for call in endpoint.protocol.calls if call[0] == "datagram_received"]
        endpoint.sendto(b"back")
        assert addresses == [endpoint.there] * 3
        assert endpoint.peer.recvfrom(100) == (b"back", endpoint.here)
        shape = [(type(x), [type(y) for y in x] if isinstance(x, tuple) else None) for x in addresses]
        return shape, endpoint.calls, endpoint.transport.get_extra_info("peername") == (endpoint.there if connected else None)

    both(play)


def test_several_peers(both):
    def play(connect):
        endpoint = connect("inet", connected=False)
        endpoint.warm_up()
        others = [bound("inet", None) for _ in range(4)]
        got = []
        endpoint.protocol.then["datagram_received"] = lambda t: t.sendto(*endpoint.protocol.calls[-1][1:])
        for n in range(12):
            others[n % 4].sendto(b"%d" % n, endpoint.here)
        spin(endpoint.loop, endpoint.protocol, 12)
        for other in others:
            got += [other.recv(100) for _ in range(3)]
            other.close()
        return got, endpoint.protocol.got

    both(play)


def test_unnamed(both):
    """A Unix socket without a name: None."""
    def play(connect):
        endpoint = connect(connected=False)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.sendto(b"x", endpoint.here)
            endpoint.send(b"y")
            other.sendto(b"z", endpoint.here)
            turn(endpoint.loop, 3)
        return endpoint.calls, [call[2] is None for call in endpoint.protocol.calls[1:]]

    assert both(play)[1] == [True, False, True]


@EACH("name", ["plain", "umläut", "x" * 60, "\udcff"], ids=["plain", "umlaut", "long", "no text"])
def test_unix_names(connect, loop, name):
    endpoint = connect(connected=False)
    path = os.path.join(os.path.dirname(endpoint.here), name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(path)
        other.sendto(b"x", endpoint.here)
        turn(loop, 2)
        assert endpoint.protocol.calls[-1] == ("datagram_received", b"x", path)
        for to in (endpoint.protocol.calls[-1][2], path, os.fsencode(path), bytearray(os.fsencode(path))):
            endpoint.sendto(b"y", to)
            assert other.recvfrom(10) == (b"y", endpoint.here)


ADDRESSES = {
    "inet": [None, ("127.0.0.1", "PORT"), ["127.0.0.1", "PORT"], ("127.0.0.1",), ("127.0.0.1", 1, 2), ("127.0.0.1", -1),
             ("127.0.0.1", 65536), ("127.0.0.1", 1 << 70), ("127.0.0.1", 1.5), ("127.0.0.1", True), ("127.0.0.1", "1"),
             (None, "PORT"), (1, 2), ("127.0.0.1\0", "PORT"), (b"127.0.0.1", "PORT"), (Bytes(b"127.0.0.1"), "PORT"),
             ("127.1", "PORT"), ("127.0.0.01", "PORT"), ("", "PORT"), ("<broadcast>", "PORT"), ("255.255.255.255", "PORT"),
             ("::1", "PORT"), "127.0.0.1", b"127.0.0.1", 5, (), ("localhost", "PORT"), ("\udcff", 1), ("a" * 70, 1), ("umläut\0", 1),
             ("0.0.0.0", 0), ("127.0.0.1", 0)],
    "inet6": [("::1", "PORT"), ("::1", "PORT", 0), ("::1", "PORT", 0, 0), ("::1", "PORT", 5, 0), ("::1", "PORT", 1 << 20, 0),
              ("::1", "PORT", 0, 1 << 32), ("::1", "PORT", 0, 1), ("::1", "PORT", -1), ("::1", "PORT", 0, 0, 0), ("::1",),
              ("0:0:0:0:0:0:0:1", "PORT"), ("::ffff:127.0.0.1", "PORT"), ("127.0.0.1", "PORT"), ("::1%lo", "PORT"), ("", 0),
              (b"::1", "PORT"), ("::1", 65536), "::1", None, ("fe80::1", 1, 0, 0)],
    "unix": [None, "", b"", "/no/such/path", "/no\0such", b"\0no such name", "x" * 107, "x" * 108, "x" * 109, b"x" * 108,
             b"\0" + b"x" * 107, b"\0" + b"x" * 108, 5, ("a", 1), bytearray(b"/no/such"), memoryview(b"/no/such"), "\udcff"],
}


@EACH("family, to", [(kind, to) for kind, all_of_them in ADDRESSES.items() for to in all_of_them], ids=lambda x: ascii(x)[:40].replace(chr(92), ""))
def test_where_to(both, outcome, family, to):
    """Right ones and wrong ones, with the errors of the socket module."""
    def play(connect):
        endpoint = connect(family, connected=False)
        if isinstance(to, (tuple, list)):
            place = type(to)(endpoint.there[1] if part == "PORT" else part for part in to)
        else:
            place = to
        seen = []
        for _ in range(2):
            seen += [outcome(endpoint.transport.sendto, b"data", place), endpoint.facts(), endpoint.read()]
        turn(endpoint.loop, 2)
        return seen, endpoint.facts()

    both(play)


@EACH("to", [("127.0.0.1", 1), None, ["a"], "", 0], ids=repr)
def test_an_address_where_there_is_a_peer(both, outcome, to):
    """The socket is connected: it is not even looked at."""
    def play(connect):
        endpoint = connect("inet")
        return outcome(endpoint.transport.sendto, b"data", to), endpoint.read(), endpoint.facts()

    both(play)


def test_the_only_address(both, outcome):
    """Not connected, but made for one address (allow_broadcast does that)."""
    def play(connect):
        endpoint = connect("inet", connected=False, address=True)
        text = str(endpoint.there)
        seen = []
        for to in (None, endpoint.there, tuple(list(endpoint.there)), list(endpoint.there), ("127.0.0.1", 1), "x", 0, ()):
            result = outcome(endpoint.transport.sendto, b"data", to)
            seen.append((result and (result[0], result[1].replace(text, "...")), endpoint.read()))
        return seen, endpoint.facts()

    both(play)


async def test_broadcast(loop):
    got = loop.create_future()

    class Protocol(asyncio.DatagramProtocol):
        def datagram_received(self, data, address):
            got.set_result((data, address))

    server, _ = await loop.create_datagram_endpoint(Protocol, local_addr=("0.0.0.0", 0), allow_broadcast=True)
    port = server.get_extra_info("sockname")[1]
    client, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=("127.255.255.255", port), allow_broadcast=True)
    client.sendto(b"to all")
    port = client.get_extra_info("socket").getsockname()[1]
    assert await got == (b"to all", ("127.0.0.1", port))
    client.close()
    server.close()
    await asyncio.sleep(0)


async def test_not_allowed_to_broadcast(loop):
    errors = []

    class Protocol(asyncio.DatagramProtocol):
        def error_received(self, error):
            errors.append(type(error))

    client, _ = await loop.create_datagram_endpoint(Protocol, local_addr=("127.0.0.1", 0))
    client.sendto(b"x", ("127.255.255.255", 9))
    assert errors == [PermissionError]
    client.close()
    await asyncio.sleep(0)


@pytest.mark.only_asyncfast
def test_a_pair_of_sockets(connect, loop):
    """Connected to a peer without a name, which asyncio takes for not connected."""
    endpoint = connect(sockets=socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM), connected=False)
    endpoint.transport.sendto(b"there")
    endpoint.peer.send(b"back")
    turn(loop)
    assert endpoint.read() == [b"there"] and endpoint.protocol.got == [b"back"]
    assert endpoint.contexts == [] and not endpoint.transport.is_closing()


def test_netlink(both):
    """A family that only the socket module knows."""
    def play(connect):
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        peer = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        for one in (sock, peer):
            one.bind((0, 0))
        endpoint = connect(sockets=(sock, peer), connected=False)
        # RTM_GETLINK, a dump: the kernel answers
        endpoint.transport.sendto(bytes.fromhex("20000000 1200 0103 01000000 00000000 0000000000000000 00000000 00000000"), (0, 0))
        endpoint.transport.sendto(b"", "nonsense")
        turn(endpoint.loop, 3)
        return [call[2] for call in endpoint.protocol.calls if call[0] == "datagram_received"][:1], endpoint.contexts

    both(play)


# -- errors

@EACH("family", ["inet", "inet6"])
def test_refused(both, family):
    """Nobody is there: the error comes with what is done next, receiving or sending."""
    def play(connect):
        endpoint = connect(family)
        endpoint.peer.close()
        endpoint.sendto(b"x")
        turn(endpoint.loop, 2)
        received = endpoint.facts()
        endpoint.sendto(b"x")
        endpoint.sendto(b"y")
        return received, endpoint.facts()

    facts = both(play)
    assert facts[0][6][1] == ("error_received", ConnectionRefusedError, errno.ECONNREFUSED)


@EACH("waiting", [False, True], ids=["", "backlog"])
def test_the_peer_goes(both, waiting):
    """With a backlog: each datagram that waits gives its own error, one a turn."""
    def play(connect):
        endpoint = connect()
        if waiting:
            endpoint.fill()
        endpoint.peer.close()
        turn(endpoint.loop, 8)
        endpoint.sendto(b"x")
        turn(endpoint.loop, 2)
        return endpoint.facts(), [call for call in endpoint.calls if call[0] == "error_received"]

    assert both(play)[1]


def test_closing_with_errors(both):
    """close() with a backlog that cannot be sent any more."""
    def play(connect):
        endpoint = connect()
        endpoint.fill()
        endpoint.transport.close()
        endpoint.peer.close()
        turn(endpoint.loop, 10)
        return endpoint.facts()

    assert both(play)[6][-1] == ("connection_lost", None)


class Wrong(Exception):
    pass


def receive(endpoint):
    endpoint.send(b"one")
    endpoint.send(b"two")


def refuse(endpoint):
    endpoint.peer.close()
    endpoint.sendto(b"x")


def refuse_twice(endpoint):
    refuse(endpoint)
    endpoint.sendto(b"y")


def overfill(endpoint):
    endpoint.transport.set_write_buffer_limits(0)
    endpoint.fill()


CAUSES = {
    "datagram_received": receive, "error_received": refuse, "error_received by sendto": refuse_twice,
    "connection_made": lambda endpoint: None, "connection_lost": lambda endpoint: endpoint.transport.abort(),
    "connection_lost by close": lambda endpoint: (endpoint.fill(), endpoint.transport.close(), endpoint.read()),
    "pause_writing": overfill, "resume_writing": lambda endpoint: (overfill(endpoint), endpoint.read()),
}


@EACH("error", [Wrong, OSError, BlockingIOError, SystemExit, KeyboardInterrupt, asyncio.CancelledError])
@EACH("cause", CAUSES)
def test_a_protocol_that_raises(both, outcome, cause, error):
    if cause == "connection_made" and not issubclass(error, Exception):
        pytest.skip("the loop's run ends there, and the transport never begins")
    if sys.version_info[:2] == (3, 13) and cause == "resume_writing":
        pytest.skip("the oracle does not count right")

    def play(connect):
        def fail(transport):
            raise error("in the protocol")

        method, _, how = cause.partition(" ")
        endpoint = connect("unix" if how == "by close" or "writing" in method else "inet", made=method != "connection_made")
        endpoint.protocol.then[method] = fail
        seen = [outcome(CAUSES[cause], endpoint)]
        seen += [outcome(turn, endpoint.loop) for _ in range(4)]
        endpoint.protocol.then = {}
        seen += [outcome(turn, endpoint.loop) for _ in range(2)]
        *facts, _ = endpoint.facts()
        return seen, facts, [(message[:len("Exception in callback")], *rest[:2]) for message, *rest in endpoint.contexts]

    both(play)


# -- receiving

def test_one_after_the_other(both):
    def play(connect):
        endpoint = connect("inet")
        for n in range(100):
            endpoint.send(b"%d" % n)
        spin(endpoint.loop, endpoint.protocol, 100)
        assert endpoint.protocol.got == [b"%d" % n for n in range(100)]
        return endpoint.facts()

    both(play)


@EACH("warm", [False, True], ids=["", "warm"])
@EACH("how", ["call_soon", "future", "threadsafe"])
def test_what_one_starts_runs_before_the_next(both, how, warm):
    """asyncio delivers one datagram a turn, and programs count on it: a future for each answer, say."""
    def play(connect):
        endpoint = connect("inet")
        loop, order = endpoint.loop, endpoint.protocol.calls

        def received(transport):
            if how == "call_soon":
                loop.call_soon(order.append, "ran")
            elif how == "threadsafe":
                loop.call_soon_threadsafe(order.append, "ran")
            else:
                future = loop.create_future()
                future.add_done_callback(lambda _: order.append("ran"))
                future.set_result(None)

        endpoint.protocol.then["datagram_received"] = received
        for n in range(20):
            if warm and n in (0, 10):
                spin(loop, endpoint.protocol, n)
                endpoint.warm_up()
            endpoint.send(b"%d" % n)
        spin(loop, endpoint.protocol, 20) if warm else turn(loop, 50)
        return endpoint.calls

    assert both(play)[1:5:2] == [("datagram_received", b"0", "there"), ("datagram_received", b"1", "there")]


ANSWERS = {
    "echo": lambda t, n: t.sendto(b"%d" % n, t.to),
    "three": lambda t, n: [t.sendto(b"%d %d" % (n, i), t.to) for i in range(3)],
    "large": lambda t, n: t.sendto(b"%d" % n * (3000 if n % 3 == 1 else 1), t.to),
    "changeable": lambda t, n: t.sendto(bytearray(b"%d" % n) if n % 3 == 1 else b"%d" % n, t.to),
    "close": lambda t, n: (t.sendto(b"%d" % n, t.to), n == 2 and t.close()),
    "abort": lambda t, n: (t.sendto(b"%d" % n, t.to), n == 2 and t.abort()),
    "size": lambda t, n: (t.sendto(b"%d" % n, t.to), t.get_write_buffer_size()),
    "socket": lambda t, n: (t.sendto(b"%d" % n, t.to), t.get_extra_info("socket")._sock.send(b"own")),
    "raise": lambda t, n: (t.sendto(b"%d" % n, t.to), n == 2 and 1 / 0),
    "exit": lambda t, n: (t.sendto(b"%d" % n, t.to), n == 2 and sys.exit("enough")),
}


@EACH("kept", [False, True], ids=["", "kept"])
@EACH("connected", [True, False], ids=["connected", "not"])
@EACH("how", ANSWERS)
def test_answers_to_several(both, how, connected, kept):
    """What a row of datagrams is answered with leaves together; the answers and their order are the same."""
    def play(connect):
        endpoint = connect("inet", connected)
        if how == "socket":
            endpoint.sock.connect(endpoint.there)
        endpoint.warm_up()
        mine, endpoint.transport.to = endpoint.sock if kept else None, endpoint.to
        numbers = itertools.count()
        endpoint.protocol.then["datagram_received"] = lambda t: ANSWERS[how](t, next(numbers))
        for _ in range(10):
            endpoint.send(b"question")
        with contextlib.suppress(SystemExit):
            spin(endpoint.loop, endpoint.protocol, 3 if how in ("close", "abort") else 10)
        del mine
        return endpoint.read(), endpoint.facts()[:-1], len(endpoint.contexts)

    assert len(both(play)[0]) >= 3


@pytest.mark.kinds("asyncfast")
def test_answers_to_several_leave_together(connect, loop):
    endpoint, seen = connect("inet"), []
    endpoint.warm_up()
    endpoint.protocol.then["datagram_received"] = lambda t: (t.sendto(b"answer"), seen.append(len(endpoint.read())))
    for _ in range(4):
        endpoint.send(b"question")
    spin(loop, endpoint.protocol, 4)
    assert seen == [0] * 4 and len(endpoint.read()) == 4


def test_what_a_program_has_stays_what_it_is(connect, loop):
    """Sizes whose memory is used anew: some are sent back, together or alone, some kept, as they are or by a view."""
    endpoint, rng, kept = connect("inet"), random.Random(5), []

    def received(transport):
        data = endpoint.protocol.calls.pop()[1]
        hash(data)              # which is noted in the object
        if rng.random() < 0.3:
            kept.append((rng.choice([data, memoryview(data)]), bytes(bytearray(data))))
        endpoint.seen += 1
        transport.sendto(data)

    endpoint.protocol.then["datagram_received"] = received
    for n in range(100):
        sent = [bytes([n, i, 7]) * (rng.choice([990, 1023, 1024, 1087, 1088, 2000, 2048, 2049, 10_240, 10_250, 16_384]) // 3)
                for i in range(rng.randrange(1, 7))]
        endpoint.seen = 0
        for data in sent:
            endpoint.send(data)
        while endpoint.seen < len(sent):
            loop.call_later(0.001, loop.stop)       # nothing is ready to run: several are delivered in a row
            loop.run_forever()
        assert endpoint.read() == sent
        assert all(data == copy and hash(data) == hash(copy) for data, copy in kept)
        while kept and rng.random() < 0.8:
            kept.pop(rng.randrange(len(kept)))


@EACH("failing", [range(3), range(4), (1,), (0, 3)], ids=str)
def test_errors_among_answers(both, failing):
    """Each is reported once, to error_received(), and costs the others nothing."""
    def play(connect):
        endpoint = connect("inet", connected=False)
        endpoint.warm_up()
        numbers = itertools.count()

        def received(transport):
            n = next(numbers)
            transport.sendto(b"%d" % n, ("127.0.0.1", 0) if n % 4 in failing else endpoint.there)

        endpoint.protocol.then["datagram_received"] = received
        for _ in range(8):
            endpoint.send(b"question")
        spin(endpoint.loop, endpoint.protocol, 8)
        return endpoint.read(), sorted(map(str, endpoint.calls))

    assert len(both(play)[0]) == 8 - 2 * len(failing)


def test_answers_to_several_that_the_socket_does_not_take(both):
    """They wait, in order."""
    def play(connect):
        endpoint = connect("unix")
        endpoint.warm_up()
        endpoint.fill()
        assert len(endpoint.read()) > 3
        endpoint.protocol.then["datagram_received"] = lambda t: [t.sendto(b"%d" % n) for n in range(200)]
        turn(endpoint.loop, 3)
        endpoint.read()
        for _ in range(3):
            endpoint.send(b"question")
        spin(endpoint.loop, endpoint.protocol, 3)
        return endpoint.read_all(600), endpoint.facts()

    assert both(play)[0] == [b"%d" % n for n in range(200)] * 3


async def test_a_future_for_each_answer(loop):
    class Client(asyncio.DatagramProtocol):
        def datagram_received(self, data, address):
            self.answer.set_result(data)

    client, protocol = await loop.create_datagram_endpoint(Client, local_addr=("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        protocol.answer = loop.create_future()
        for n in range(40):
            peer.sendto(b"%d" % n, client.get_extra_info("sockname"))
        for n in range(40):
            assert await protocol.answer == b"%d" % n
            protocol.answer = loop.create_future()
    client.close()
    await asyncio.sleep(0)


def test_others_get_their_turn(loop, connect):
    """A socket that has always more does not keep the loop from anything."""
    endpoint = connect("inet")
    endpoint.protocol.then["datagram_received"] = lambda transport: endpoint.send(b"again")
    endpoint.send(b"first")
    fired = []
    loop.call_later(0.001, fired.append, 1)
    loop.call_later(0.002, lambda: loop.call_soon(lambda: (fired.append(2), loop.stop())))
    loop.run_forever()
    assert fired == [1, 2]


@EACH("count", [1, 2, 5, 17])
@EACH("warm", [False, True], ids=["", "warm"])
@EACH("how", ["pause_reading", "close", "abort", "stop", "raise"])
def test_enough(both, how, count, warm):
    """The protocol has enough after so many: not one more comes; and after resume_reading() all the others do."""
    def play(connect):
        endpoint = connect("inet")

        if warm:
            endpoint.warm_up()

        def received(transport):
            if len(endpoint.protocol.got) != count:
                return
            if how == "raise":
                raise Wrong
            endpoint.loop.stop() if how == "stop" else getattr(transport, how)()

        endpoint.protocol.then["datagram_received"] = received
        for n in range(20):
            endpoint.send(b"%d" % n)
        if how == "stop":
            endpoint.loop.call_later(20, os._exit, 1)
            endpoint.loop.run_forever()
        elif warm:
            spin(endpoint.loop, endpoint.protocol, 20 if how == "raise" else count)
        else:
            turn(endpoint.loop, 25)
        seen = endpoint.facts()
        assert len(endpoint.protocol.got) == (20 if how == "raise" else count)
        if how in ("pause_reading", "stop"):
            endpoint.transport.resume_reading()
            endpoint.transport.pause_reading()
            turn(endpoint.loop, 2)
            endpoint.transport.resume_reading()
            turn(endpoint.loop, 25)
            assert endpoint.protocol.got == [b"%d" % n for n in range(20)]
        return [seen[:-1], endpoint.facts()[:-1], len(endpoint.contexts)]

    both(play)


@EACH("warm", [False, True], ids=["", "warm"])
def test_another_protocol(both, warm):
    """From the next datagram on."""
    def play(connect):
        endpoint, other = connect("inet"), Notes()
        if warm:
            endpoint.warm_up()
        endpoint.protocol.then["datagram_received"] = lambda transport: transport.set_protocol(other)
        for n in range(5):
            endpoint.send(b"%d" % n)
        spin(endpoint.loop, other, 4) if warm else turn(endpoint.loop, 7)
        return endpoint.protocol.got, other.got

    assert both(play) == ([b"0"], [b"1", b"2", b"3", b"4"])


def test_paused_before_it_begins(both):
    def play(connect):
        endpoint = connect("inet", connection_made=lambda transport: transport.pause_reading())
        endpoint.send(b"x")
        turn(endpoint.loop, 3)
        seen = endpoint.facts()
        endpoint.transport.resume_reading()
        turn(endpoint.loop, 2)
        return seen, endpoint.facts()

    both(play)


@EACH("how", ["close", "abort"])
def test_ended_before_it_begins(both, how):
    def play(connect):
        endpoint = connect("inet", connection_made=lambda transport: getattr(transport, how)())
        endpoint.send(b"x")
        turn(endpoint.loop, 3)
        return endpoint.facts(), endpoint.sock.fileno()

    both(play)


@pytest.mark.only_asyncfast
def test_a_loop_in_a_callback(loop, connect, kind):
    """Another loop, with a socket of its own, run while a datagram is delivered."""
    endpoint = connect("inet")
    inner = kind.new_event_loop()

    async def inside():
        got = inner.create_future()

        class Protocol(asyncio.DatagramProtocol):
            def datagram_received(self, data, address):
                got.set_result(data)

        transport, _ = await inner.create_datagram_endpoint(Protocol, local_addr=("127.0.0.1", 0))
        transport.sendto(b"inner", transport.get_extra_info("sockname"))
        data = await got
        transport.close()
        await asyncio.sleep(0)
        return data

    def received(transport):
        asyncio._set_running_loop(None)
        try:
            endpoint.protocol.calls.append(inner.run_until_complete(inside()))
        finally:
            asyncio._set_running_loop(loop)

    endpoint.protocol.then["datagram_received"] = received
    endpoint.warm_up()
    for n in range(9):
        endpoint.send(b"%d" % n)
    spin(loop, endpoint.protocol, 9)
    inner.close()
    assert endpoint.protocol.got == [b"%d" % n for n in range(9)] and endpoint.protocol.calls.count(b"inner") == 9
    assert endpoint.contexts == []


# -- flow control

@ORACLE_COUNTS
@EACH("connected", [False, True], ids=["", "connected"])
def test_flow_control(both, connected):
    def play(connect):
        endpoint = connect(connected=connected)
        t = endpoint.transport
        t.set_write_buffer_limits(high=1000, low=500)
        sent = endpoint.fill()
        sizes = []
        while "pause_writing" not in endpoint.calls:
            sent.append(b"%d" % len(sent) * 20)
            endpoint.sendto(sent[-1])
            sizes.append(t.get_write_buffer_size())
        assert t.get_write_buffer_size() > 1000
        read = []
        while "resume_writing" not in endpoint.calls:
            assert t.get_write_buffer_size() > 500
            read.append(endpoint.peer.recv(1000))
            turn(endpoint.loop)
        sizes.append(t.get_write_buffer_size())
        assert read + endpoint.read_all(len(sent) - len(read)) == sent
        return sizes, endpoint.calls, endpoint.facts()

    both(play)


def test_what_is_counted(connect):
    endpoint = connect()
    endpoint.fill()
    before = endpoint.transport.get_write_buffer_size()
    endpoint.sendto(b"x" * 100)
    assert endpoint.transport.get_write_buffer_size() == before + 100 + HEADER
    endpoint.sendto(b"")
    assert endpoint.transport.get_write_buffer_size() == before + 100 + HEADER * 2


@pytest.mark.only_asyncfast
def test_all_is_counted_off_again(connect):
    endpoint = connect()
    sent = endpoint.fill()
    endpoint.sendto(b"")
    endpoint.read_all(len(sent) + SENDS_EMPTY)
    turn(endpoint.loop)
    assert endpoint.transport.get_write_buffer_size() == 0
    endpoint.fill()
    endpoint.transport.abort()
    assert endpoint.transport.get_write_buffer_size() == 0


@ORACLE_COUNTS
@EACH("what", ["sendto", "close", "abort"])
@EACH("method", ["pause_writing", "resume_writing"])
def test_what_flow_control_may_do(both, method, what):
    def play(connect):
        endpoint = connect()
        endpoint.transport.set_write_buffer_limits(0)
        done = []

        def then(transport):
            if not done:
                done.append(what)
                transport.sendto(b"from the callback") if what == "sendto" else getattr(transport, what)()

        endpoint.protocol.then[method] = then
        for n in range(400):
            if endpoint.transport.is_closing():
                break
            endpoint.sendto(b"%d" % n)
        read = endpoint.read()
        for _ in range(60):
            turn(endpoint.loop)
            read += endpoint.read()
        return read, endpoint.facts()[:-1]      # asyncio may stumble over its own end

    both(play)


# -- the end

@EACH("how", ["close", "abort"])
@EACH("waiting", [False, True], ids=["", "backlog"])
def test_end(connect, how, waiting):
    endpoint = connect()
    sent = endpoint.fill() if waiting else []
    getattr(endpoint.transport, how)()
    assert endpoint.transport.is_closing() and ("connection_lost", None) not in endpoint.calls
    read = endpoint.read()
    for _ in range(20):
        turn(endpoint.loop)
        read += endpoint.read()
    assert endpoint.calls[-1] == ("connection_lost", None) and endpoint.sock.fileno() == -1
    if how == "close":
        assert read == sent
    else:
        assert sent[:len(read)] == read and (not waiting or len(read) < len(sent))
    assert endpoint.transport.get_protocol() is None


def test_close_sends_what_waits_and_receives_nothing(connect, loop):
    endpoint = connect()
    sent = endpoint.fill()
    endpoint.transport.close()
    endpoint.send(b"too late")
    turn(loop, 3)
    endpoint.sendto(b"after close()")
    assert endpoint.read_all(len(sent) + 1) == [*sent, b"after close()"]
    turn(loop, 2)
    assert endpoint.protocol.got == [] and endpoint.calls[-1] == ("connection_lost", None)


@EACH("connected", [False, True], ids=["", "connected"])
def test_sendto_between_close_and_connection_lost(both, connected):
    def play(connect):
        endpoint = connect("inet", connected)
        endpoint.transport.close()
        endpoint.sendto(b"x")
        read = endpoint.read()
        turn(endpoint.loop, 2)
        return read, endpoint.facts()

    assert both(play)[0] == [b"x"]


def test_reason(both):
    def play(connect):
        endpoint = connect("inet")
        endpoint.transport._fatal_error(Wrong("why"), "What was it?")
        endpoint.transport._fatal_error(OSError("again"))
        turn(endpoint.loop, 2)
        return endpoint.facts()

    assert both(play)[6][-1] == ("connection_lost", Wrong)


def test_loop_closed_first(connect, loop):
    endpoint = connect()
    endpoint.fill()
    loop.close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        repr(endpoint.transport)
        endpoint.protocol.transport = endpoint.transport = None
        gc.collect()
    assert any(issubclass(w.category, ResourceWarning) for w in caught)


def test_forgotten(loop, kind, outcome):
    """A transport that nobody closes says so, and is gone."""
    async def forget():
        transport, protocol = await loop.create_datagram_endpoint(Notes, local_addr=("127.0.0.1", 0))
        transport.pause_reading()
        protocol.transport = None
        return weakref.ref(transport), weakref.ref(protocol)

    with pytest.warns(ResourceWarning, match=r"unclosed transport <\w*DatagramTransport fd=\d+"):
        refs = loop.run_until_complete(forget())
        turn(loop, 2)
        gc.collect()
    assert [ref() for ref in refs] == [None, None]


@pytest.mark.only_asyncfast
def test_the_loop_keeps_what_reads(loop):
    async def make():
        transport, protocol = await loop.create_datagram_endpoint(Notes, local_addr=("127.0.0.1", 0))
        return weakref.ref(transport)

    ref = loop.run_until_complete(make())
    gc.collect()
    assert ref() is not None
    ref().close()
    turn(loop, 2)
    gc.collect()
    assert ref() is None


# -- the fd

@pytest.mark.only_asyncfast
def test_the_socket_is_closed_behind_its_back(connect, loop):
    """And its number is another socket's at once: that one is left alone."""
    endpoint = connect("inet", connected=False)
    endpoint.send(b"x")
    endpoint.sock.close()
    other, there = bound("inet", None), bound("inet", None)
    with other, there:
        assert other.fileno() == endpoint.fd
        endpoint.sendto(b"not from there")
        assert endpoint.calls[-1] == ("error_received", OSError, errno.EBADF) and endpoint.read() == []
        there.sendto(b"for the other", other.getsockname())
        turn(loop, 3)
        assert endpoint.protocol.got == [] and other.recv(100) == b"for the other"
        endpoint.transport.abort()
        turn(loop, 2)
        assert other.fileno() == endpoint.fd and endpoint.calls[-1] == ("connection_lost", None)
        other.sendto(b"alive", there.getsockname())


@pytest.mark.only_asyncfast
def test_a_backlog_of_a_closed_socket(connect, loop):
    endpoint = connect()
    sent = endpoint.fill()
    endpoint.sock.close()
    other = bound("inet", None)
    with other:
        assert other.fileno() == endpoint.fd
        endpoint.sendto(b"more")
        endpoint.transport.close()
        turn(loop, 10)
        assert set(endpoint.read()) <= set(sent)
        endpoint.transport.abort()
        turn(loop, 2)
        assert endpoint.calls[-1] == ("connection_lost", None)


def test_an_fd_that_is_used(connect, loop):
    endpoint = connect("inet")
    with pytest.raises(RuntimeError, match="is used by transport"):
        loop.add_reader(endpoint.fd, print)
    if sys.version_info >= (3, 12):
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop._make_datagram_transport(endpoint.sock, Notes())


# -- contexts

variable = contextvars.ContextVar("variable", default="default")


@ORACLE_COUNTS
def test_contexts(both):
    """Callbacks run in the context of whoever made the transport, or made it send or read."""
    def play(connect):
        def note(name):
            return lambda transport: endpoint.protocol.calls.append((name, variable.get()))

        def make():
            variable.set("maker")
            return connect(made=False)

        endpoint = contextvars.copy_context().run(make)
        for name in ("connection_made", "datagram_received", "connection_lost", "pause_writing", "resume_writing"):
            endpoint.protocol.then[name] = note(name)
        turn(endpoint.loop)
        endpoint.send(b"x")
        turn(endpoint.loop, 2)

        def sender():
            variable.set("sender")
            endpoint.transport.set_write_buffer_limits(0)
            return endpoint.fill()

        sent = contextvars.copy_context().run(sender)
        endpoint.read_all(len(sent))
        turn(endpoint.loop, 2)

        def again():
            variable.set("resumer")
            endpoint.transport.pause_reading()
            endpoint.transport.resume_reading()

        contextvars.copy_context().run(again)
        endpoint.send(b"y")
        turn(endpoint.loop, 2)
        endpoint.transport.close()
        turn(endpoint.loop, 2)
        return endpoint.calls

    both(play)


def test_contexts_are_kept(both):
    """What a callback sets, the next one of the same kind sees."""
    def play(connect):
        endpoint = connect("inet")
        seen = []

        def received(transport):
            seen.append(variable.get())
            variable.set(len(seen))

        endpoint.protocol.then["datagram_received"] = received
        for n in range(20):
            endpoint.send(b"%d" % n)
        spin(endpoint.loop, endpoint.protocol, 20)
        return seen, variable.get()

    assert both(play) == (["default", *range(1, 20)], "default")


# -- objects

@pytest.mark.only_asyncfast
def test_types(connect, loop):
    endpoint = connect()
    assert isinstance(endpoint.transport, asyncio.DatagramTransport)
    t = type(endpoint.transport)
    assert t.__name__ == "DatagramTransport" and isinstance(endpoint.transport, asyncio.Transport)
    with pytest.raises(TypeError):
        t()
    with pytest.raises(TypeError, match="an asyncfast loop is needed"):
        t(None, endpoint.sock, Notes())
    with pytest.raises(RuntimeError, match="only once"):
        endpoint.transport.__init__(loop, endpoint.sock, Notes())


@pytest.mark.only_asyncfast
def test_never_made(connect, outcome, logged):
    """__new__() alone: nothing works, nothing crashes."""
    t = type(connect().transport)
    for call in CALLS.values():
        outcome(call, t.__new__(t))
    repr(t.__new__(t))
    logged.take()


@pytest.mark.only_asyncfast
def test_an_address_that_comes_to_life(connect, loop):
    """Dropping an address runs Python, which may use the transport."""
    class Address(tuple):
        def __del__(self):
            endpoint.transport.sendto(b"dropped", endpoint.there)

    endpoint = connect(connected=False)
    sent = endpoint.fill()

    class Path(bytes):
        def __del__(self):
            endpoint.transport.sendto(b"dropped", endpoint.there)

    for _ in range(5):
        endpoint.transport.sendto(b"x", Path(os.fsencode(endpoint.there)))
    read = endpoint.read_all(len(sent) + 10)
    assert read.count(b"x") == 5 and read.count(b"dropped") == 5
    for _ in range(20):
        endpoint.transport.sendto(b"x", Path(os.fsencode(endpoint.there)))
    endpoint.transport.abort()
    turn(loop, 2)


@pytest.mark.only_asyncfast
def test_audit(program):
    """sendto() is announced as asyncio's is."""
    assert program("""
        import sys
        async def main():
            loop = asyncio.get_running_loop()
            t, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
            sys.addaudithook(lambda name, args: print(name, args[1:]) if name == "socket.sendto" else None)
            t.sendto(b"x", ("127.0.0.1", 9))
            t.sendto(b"x", ("127.0.0.1", 9))
            t.close()
            await asyncio.sleep(0)
        run(main())
        """) == "socket.sendto (('127.0.0.1', 9),)\n" * 2


def test_nothing_is_leaked(loop, connect, kind):
    """References to data and addresses."""
    endpoint = connect("inet", connected=False)
    unix = connect(connected=False)
    data, there = b"data " * 100, endpoint.there

    def rounds():
        for n in range(20):
            endpoint.transport.sendto(data, there)
            endpoint.transport.sendto(data, ("localhost", there[1]))
            endpoint.send(data)
            turn(loop, 2)
            endpoint.read()
            for one in unix.read_all(len(unix.fill())):
                del one
            turn(loop, 2)
        endpoint.protocol.calls.clear()
        unix.protocol.calls.clear()

    rounds()
    before = sys.getrefcount(data), sys.getrefcount(there), sys.getrefcount(unix.there)
    for _ in range(3):
        rounds()
    assert (sys.getrefcount(data), sys.getrefcount(there), sys.getrefcount(unix.there)) == before
