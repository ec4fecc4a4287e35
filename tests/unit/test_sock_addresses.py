"""loop.sock_recvfrom(), sock_recvfrom_into(), sock_sendto(), sock_accept(), sock_connect()."""

import asyncio
import errno
import gc
import os
import socket
import sys

import pytest

from _turns import EACH, settle

FAMILIES = [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX]
WITH_FAMILIES = EACH("family", FAMILIES, ids=lambda f: f.name)


@pytest.fixture
def bound(tmp_path):
    """bound(family, type) is a non-blocking socket with an address of its own."""
    made = []

    def bound(family, type=socket.SOCK_DGRAM, backlog=None):
        sock = socket.socket(family, type)
        made.append(sock)
        sock.setblocking(False)
        sock.bind(str(tmp_path / str(len(made))) if family == socket.AF_UNIX
                  else ("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        if backlog is not None:
            sock.listen(backlog)
        return sock

    bound.made = made
    yield bound
    for sock in made:
        sock.close()


@WITH_FAMILIES
async def test_datagrams(loop, bound, family):
    one, other = bound(family), bound(family)
    assert await loop.sock_sendto(one, b"hello", other.getsockname()) == 5
    assert await loop.sock_recvfrom(other, 100) == (b"hello", one.getsockname())
    assert await loop.sock_sendto(other, bytearray(b""), one.getsockname()) == 0
    assert await loop.sock_recvfrom(one, 10) == (b"", other.getsockname())
    task = loop.create_task(loop.sock_recvfrom(one, 3))
    await settle()
    assert not task.done()
    other.sendto(b"12345", one.getsockname())
    assert await task == (b"123", other.getsockname())
    buffer = bytearray(8)
    task = loop.create_task(loop.sock_recvfrom_into(one, buffer))
    await settle()
    await loop.sock_sendto(other, memoryview(b"abcdef")[1:4], one.getsockname())
    assert await task == (3, other.getsockname()) and buffer == b"bcd\0\0\0\0\0"
    other.sendto(b"xyz", one.getsockname())
    assert await loop.sock_recvfrom_into(one, buffer, 2) == (2, other.getsockname()) and buffer == b"xyd\0\0\0\0\0"


def test_nobody_is_known_by_name(loop, oracle):
    """The other end of a pair has no address."""
    def play(loop):
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.send(b"x")
            return loop.run_until_complete(loop.sock_recvfrom(left, 1))

    assert play(loop) == play(oracle)


async def test_a_full_socket_makes_sendto_wait(loop, bound):
    one, other = bound(socket.AF_UNIX), bound(socket.AF_UNIX)
    sent = 0
    while True:
        try:
            sent += one.sendto(b"x" * 1000, other.getsockname()) == 1000
        except BlockingIOError:
            break
    task = loop.create_task(loop.sock_sendto(one, b"last", other.getsockname()))
    await settle()
    assert not task.done()
    for _ in range(sent):
        await loop.sock_recvfrom(other, 2000)
    assert await task == 4 and await loop.sock_recvfrom(other, 100) == (b"last", one.getsockname())


@WITH_FAMILIES
async def test_connections(loop, bound, family):
    server = bound(family, socket.SOCK_STREAM, backlog=5)
    accepting = loop.create_task(loop.sock_accept(server))
    await settle()
    assert not accepting.done()
    with socket.socket(family) as client:
        client.setblocking(False)
        address = server.getsockname()
        assert await loop.sock_connect(client, address if family == socket.AF_UNIX else address[:2]) is None
        conn, peer = await accepting
        with conn:
            assert type(conn) is socket.socket and peer == client.getsockname() and conn.gettimeout() == 0
            assert (conn.family, conn.type, conn.proto) == (server.family, server.type, server.proto)
            assert not os.get_inheritable(conn.fileno())
            await loop.sock_sendall(client, b"ping")
            assert await loop.sock_recv(conn, 10) == b"ping"


async def test_connections_that_wait_already(loop, bound):
    server = bound(socket.AF_INET, socket.SOCK_STREAM, backlog=10)
    clients = [socket.create_connection(server.getsockname()) for _ in range(5)]
    got = [await loop.sock_accept(server) for _ in clients]
    assert sorted(peer for _, peer in got) == sorted(client.getsockname() for client in clients)
    for sock in (*clients, *(conn for conn, _ in got)):
        sock.close()


async def test_a_cancelled_accept_takes_nobody(loop, bound):
    server = bound(socket.AF_INET, socket.SOCK_STREAM, backlog=5)
    task = loop.create_task(loop.sock_accept(server))
    await settle()
    client = socket.create_connection(server.getsockname())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    conn, peer = await loop.sock_accept(server)
    assert peer == client.getsockname()
    conn.close()
    client.close()


async def test_a_cancelled_connect_stops_watching(loop, bound):
    server = bound(socket.AF_INET, socket.SOCK_STREAM, backlog=0)
    clients = []
    for _ in range(10):
        client = socket.socket()
        client.setblocking(False)
        clients.append((client, loop.create_task(loop.sock_connect(client, server.getsockname()))))
    await settle()
    waiting = [(client, task) for client, task in clients if not task.done()]
    for client, task in clients:
        task.cancel()
    await asyncio.gather(*(task for _, task in clients), return_exceptions=True)
    assert waiting                                      # its queue is full
    for client, _ in clients:
        assert loop.remove_writer(client.fileno()) is False
        client.close()


def outcome(loop, call):
    try:
        return loop.run_until_complete(call())
    except Exception as error:
        return type(error), str(error), getattr(error, "errno", None)


def unused(family):
    with socket.socket(family) as sock:
        sock.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        return sock.getsockname()


ADDRESSES = {
    "refused": lambda: (socket.AF_INET, unused(socket.AF_INET)),
    "refused, IPv6": lambda: (socket.AF_INET6, unused(socket.AF_INET6)),
    "refused, IPv6 in short": lambda: (socket.AF_INET6, unused(socket.AF_INET6)[:2]),
    "no such path": lambda: (socket.AF_UNIX, "/nowhere/at/all"),
    "no path": lambda: (socket.AF_UNIX, ""),
    "path with a zero": lambda: (socket.AF_UNIX, "a\0b"),
    "long path": lambda: (socket.AF_UNIX, "x" * 200),
    "port": lambda: (socket.AF_INET, ("127.0.0.1", 70000)),
    "negative port": lambda: (socket.AF_INET, ("127.0.0.1", -1)),
    "text for a port": lambda: (socket.AF_INET, ("127.0.0.1", "http!")),
    "no port": lambda: (socket.AF_INET, ("127.0.0.1",)),
    "no address": lambda: (socket.AF_INET, None),
    "text": lambda: (socket.AF_INET, "127.0.0.1"),
    "wrong family": lambda: (socket.AF_INET, ("::1", 80)),
}


@EACH("address", ADDRESSES)
@EACH("method", ["connect", "sendto"])
def test_addresses_that_will_not_do(loop, oracle, address, method):
    family, address = ADDRESSES[address]()

    def play(loop):
        with socket.socket(family, socket.SOCK_STREAM if method == "connect" else socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            if method == "connect":
                return outcome(loop, lambda: loop.sock_connect(sock, address))
            return outcome(loop, lambda: loop.sock_sendto(sock, b"x", address))

    assert play(loop) == play(oracle)


CALLS = {
    "recvfrom": lambda loop, sock: loop.sock_recvfrom(sock, -1),
    "recvfrom text": lambda loop, sock: loop.sock_recvfrom(sock, "1"),
    "recvfrom nothing": lambda loop, sock: loop.sock_recvfrom(sock),
    "into bytes": lambda loop, sock: loop.sock_recvfrom_into(sock, b"x"),
    "into None": lambda loop, sock: loop.sock_recvfrom_into(sock, None),
    "into too little": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(2), 3),
    "into negative": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(2), -1),
    "sendto text": lambda loop, sock: loop.sock_sendto(sock, "x", ("127.0.0.1", 9)),
    "sendto two": lambda loop, sock: loop.sock_sendto(sock, b"x"),
    "accept": lambda loop, sock: loop.sock_accept(sock),
    "accept two": lambda loop, sock: loop.sock_accept(sock, 1),
    "accept None": lambda loop, sock: loop.sock_accept(None),
    "connect": lambda loop, sock: loop.sock_connect(sock),
}


@EACH("call", CALLS)
def test_wrong_arguments(loop, oracle, call):
    def play(loop):
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
            sock.connect(sock.getsockname())
            sock.send(b"abc")
            kind, text, number = outcome(loop, lambda: CALLS[call](loop, sock))
            return kind, text.replace("BaseSelectorEventLoop.", "").replace("sock_recvfrom_into() ", ""), number

    assert play(loop) == play(oracle)


@EACH("method", ["sock_accept", "sock_recvfrom", "sock_recvfrom_into", "sock_sendto", "sock_connect"])
def test_a_closed_socket(loop, oracle, kind, method):
    args = {"sock_accept": (), "sock_recvfrom": (1,), "sock_recvfrom_into": (bytearray(1),),
            "sock_sendto": (b"x", ("127.0.0.1", 9)), "sock_connect": (("127.0.0.1", 9),)}[method]

    def play(loop):
        sock = socket.socket(type=socket.SOCK_DGRAM)
        sock.close()
        return outcome(loop, lambda: getattr(loop, method)(sock, *args))

    ours = play(loop)
    assert ours == play(oracle) and (kind.debug or ours[2] == errno.EBADF)      # debug mode finds that it blocks


async def test_host_names_are_looked_up(loop, bound):
    server = bound(socket.AF_INET, socket.SOCK_STREAM, backlog=5)
    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, ("localhost", server.getsockname()[1]))
        conn, _ = await loop.sock_accept(server)
        conn.close()


async def test_out_of_descriptors(loop, bound):
    """The error is raised, and the connection is there still."""
    import resource
    server = bound(socket.AF_INET, socket.SOCK_STREAM, backlog=5)
    client = socket.create_connection(server.getsockname())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd"))) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
    held = []
    try:
        while True:
            held.append(os.dup(0))
    except OSError:
        with pytest.raises(OSError) as info:
            await loop.sock_accept(server)
        assert info.value.errno == errno.EMFILE
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in held:
            os.close(fd)
    conn, _ = await loop.sock_accept(server)
    conn.close()
    client.close()


@pytest.mark.kinds("asyncfast", "asyncio")
def test_audit_events(program):
    out = program("""
        async def main():
            loop = asyncio.get_running_loop()
            server = socket.create_server(("127.0.0.1", 0))
            server.setblocking(False)
            events = []
            sys.addaudithook(lambda event, args: events.append((event, args[1])) if event.startswith("socket.") else None)
            client = socket.socket()
            client.setblocking(False)
            await loop.sock_connect(client, server.getsockname())
            conn, peer = await loop.sock_accept(server)
            one = socket.socket(type=socket.SOCK_DGRAM)
            one.bind(("127.0.0.1", 0))
            one.setblocking(False)
            await loop.sock_sendto(one, b"x", one.getsockname())
            print([name for name, _ in events if name in ("socket.connect", "socket.sendto")],
                  ("socket.connect", server.getsockname()) in events, ("socket.sendto", one.getsockname()) in events)
            for sock in (server, client, conn, one):
                sock.close()
        run(main())
        """)
    assert out == "['socket.connect', 'socket.sendto'] True True\n"


async def test_no_references_are_left(loop, bound):
    one, other = bound(socket.AF_INET), bound(socket.AF_INET)
    data, address = bytes(1000), other.getsockname()
    before = sys.getrefcount(data), sys.getrefcount(address)
    for _ in range(100):
        await loop.sock_sendto(one, data, address)
        await loop.sock_recvfrom(other, 2000)
        task = loop.create_task(loop.sock_recvfrom(other, 10))
        await settle(2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        loop.sock_sendto(one, data, address).close()
    del task
    gc.collect()
    assert (sys.getrefcount(data), sys.getrefcount(address)) == before
