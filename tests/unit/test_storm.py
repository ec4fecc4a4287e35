"""Many connections at once, ended at any moment: not one byte in the wrong one, nothing left behind.  And faults.

Each connection carries its number in every few bytes, and both ends know what may come: the beginning of the stream of
that number, without a gap.
"""

import asyncio
import contextlib
import gc
import os
import random
import socket
import struct
import sys

import pytest
from _turns import EACH

PLAIN = pytest.mark.kinds("asyncfast", "asyncfast-debug", "asyncio")
STEPS = [b""] + [b".%04d;" % n for n in range(4000)]


def stream(number):
    """All that connection may carry, in either direction."""
    return (b"%06d" % number).join(STEPS)


def is_beginning(data):
    """Of a stream, whichever it is."""
    return len(data) < 6 or data.isdigit() or stream(int(data[:6])).startswith(data)


def transports():
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, asyncio.Transport)]


class Storm:
    """Connections to a server that gives back what it gets, `most` at a time and `total` in all."""

    def __init__(self, loop, seed, unix, tmp_path, total=400, most=100):
        self.loop, self.random, self.total, self.most = loop, random.Random(seed), total, most
        self.path = str(tmp_path / "socket") if unix else None
        self.numbers, self.begun, self.wrong, self.live, self.whole = 0, 0, [], set(), 0

    def check(self, good, *what):
        if not good:
            self.wrong.append(what)

    async def run(self):
        self.server = await self.serve()
        self.address = None if self.path else self.server.sockets[0].getsockname()
        tasks = set()
        while self.begun < self.total:
            while len(tasks) < self.most and self.begun < self.total:
                self.begun += 1
                task = self.loop.create_task(self.one(self.begun))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            for _ in range(self.random.choice([1, 1, 1, 3, 10])):
                await asyncio.sleep(0)
            if tasks and self.random.random() < 0.4:
                self.random.choice(sorted(tasks, key=lambda task: task.get_name())).cancel()
            if self.live and self.random.random() < 0.3:
                self.end(self.random.choice(sorted(self.live, key=lambda transport: transport.get_extra_info("number"))))
        while tasks:
            await asyncio.wait(tasks)
        self.server.close()
        for transport in list(self.live):
            transport.abort()
        while self.live or len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)

    def end(self, transport):
        self.random.choice([transport.abort, transport.close])()

    def made(self, transport):
        self.numbers += 1
        transport._extra["number"] = self.numbers       # for a choice that does not depend on addresses in memory
        self.live.add(transport)

    def lost(self, transport):
        self.live.discard(transport)

    def size(self):
        return self.random.choice([0, 1, 10, 100, 1000, 10_000, 40_000])


class Streams(Storm):
    def serve(self):
        if self.path:
            return asyncio.start_unix_server(self.echo, self.path, backlog=self.most)
        return asyncio.start_server(self.echo, "127.0.0.1", 0, backlog=self.most)

    async def echo(self, reader, writer):
        data = bytearray()
        self.made(writer.transport)
        try:
            while chunk := await reader.read(self.random.choice([1, 100, 65536])):
                data += chunk
                writer.write(chunk)
                if self.random.random() < 0.5:
                    await writer.drain()
        except ConnectionError:
            pass
        finally:
            self.check(is_beginning(data), "server", bytes(data[:100]))
            self.end(writer.transport)
            self.lost(writer.transport)

    async def one(self, number):
        expected, sent, got, writer = stream(number), 0, bytearray(), None
        try:
            reader, writer = await (asyncio.open_unix_connection(self.path) if self.path
                                    else asyncio.open_connection(*self.address))
            while sent < len(expected) and self.random.random() < 0.9:
                size = self.size()
                writer.write(self.random.choice([bytes, bytearray])(expected[sent:sent + size]))
                sent = min(sent + size, len(expected))
                if self.random.random() < 0.3:
                    await writer.drain()
                while len(got) < sent and self.random.random() < 0.8:
                    chunk = await reader.read(self.random.choice([1, 1000, 65536]))
                    if not chunk:
                        return
                    got += chunk
            if self.random.random() < 0.5:
                writer.write_eof()
                got += await reader.read()
                self.whole += len(got) == sent
        except OSError:         # ENOTCONN too, from write_eof()
            pass
        finally:
            self.check(len(got) <= sent and expected.startswith(got), "client", number, bytes(got[-100:]))
            if writer is not None:
                self.end(writer.transport)


class Echo(asyncio.Protocol):
    """The server's end; changes its class now and then, to a BufferedProtocol and back."""

    def __init__(self, storm):
        self.storm, self.data, self.buffer = storm, bytearray(), bytearray(1000)

    def connection_made(self, transport):
        self.transport = transport
        self.storm.made(transport)

    def received(self, data):
        self.data += data
        self.transport.write(data)
        chance = self.storm.random.random()
        if chance < 0.03:
            self.storm.end(self.transport)
        elif chance < 0.2:
            new = self.storm.random.choice([Echo, BufferedEcho])(self.storm)
            new.data, new.transport = self.data, self.transport
            self.transport.set_protocol(new)
        elif chance < 0.3:
            self.transport.pause_reading()
            self.storm.loop.call_soon(self.transport.resume_reading)

    def data_received(self, data):
        self.received(data)

    def connection_lost(self, error):
        self.storm.check(is_beginning(self.data), "server", bytes(self.data[:100]))
        self.storm.lost(self.transport)


class BufferedEcho(Echo, asyncio.BufferedProtocol):
    def get_buffer(self, hint):
        return self.buffer

    def buffer_updated(self, count):
        self.received(self.buffer[:count])


class Client(asyncio.Protocol):
    def __init__(self, storm, number):
        self.storm, self.number, self.expected = storm, number, stream(number)
        self.sent, self.got, self.room, self.ended = 0, bytearray(), asyncio.Event(), asyncio.Event()
        self.room.set()

    def data_received(self, data):
        self.got += data
        if len(self.got) > self.sent or not self.expected.startswith(self.got[-20_000:], len(self.got[:-20_000])):
            self.storm.check(False, "client", self.number, bytes(self.got[-100:]))

    def pause_writing(self):
        self.room.clear()

    def resume_writing(self):
        self.room.set()

    def connection_lost(self, error):
        self.room.set()
        self.ended.set()


class Protocols(Storm):
    async def serve(self):
        if self.path:
            return await self.loop.create_unix_server(lambda: Echo(self), self.path, backlog=self.most)
        return await self.loop.create_server(lambda: Echo(self), "127.0.0.1", 0, backlog=self.most)

    async def one(self, number):
        client, transport = Client(self, number), None
        try:
            transport, _ = await (self.loop.create_unix_connection(lambda: client, self.path) if self.path
                                  else self.loop.create_connection(lambda: client, *self.address))
            while client.sent < len(client.expected) and self.random.random() < 0.95 and not transport.is_closing():
                for _ in range(self.random.choice([1, 1, 2, 5])):
                    size, start = self.size(), client.sent
                    client.sent = min(start + size, len(client.expected))
                    data = client.expected[start:client.sent]
                    if self.random.random() < 0.2 and sys.version_info >= (3, 14):
                        transport.writelines([data[:5], data[5:]])
                    else:
                        transport.write(data)
                await client.room.wait()
                await asyncio.sleep(0)
            if self.random.random() < 0.3:
                transport.write_eof()
                await client.ended.wait()
                self.whole += len(client.got) == client.sent
        except OSError:         # ENOTCONN too, from write_eof()
            pass
        finally:
            if transport is not None:
                self.end(transport)


@PLAIN
@pytest.mark.only_asyncfast
@EACH("seed", [1, 2, 3], ids="seed {}".format)
@EACH("unix", [False, True], ids=["tcp", "unix"])
@EACH("cls", [Streams, Protocols], ids=["streams", "protocols"])
def test_storm(loop, kind, tmp_path, logged, cls, unix, seed):
    before = len(transports())
    storm = cls(loop, seed, unix, tmp_path)
    loop.set_exception_handler(lambda loop, context: storm.wrong.append(context))
    loop.run_until_complete(storm.run())
    assert storm.wrong == [] and storm.numbers > 50
    left = len(transports()) - before
    assert left == 0 if kind.fast else left < 5     # asyncio's 3.12 keeps one with an exception now and then
    assert len(asyncio.all_tasks(loop)) == 0
    assert set(logged.take()) <= {"socket.send() raised exception."}


@PLAIN
def test_calm(loop, tmp_path):
    """The same without ends: all that was sent comes back."""
    for cls in (Streams, Protocols):
        class Calm(cls):
            def end(self, transport):
                transport.close()

        storm = Calm(loop, 0, False, tmp_path, total=30, most=30)
        storm.random.random = lambda: 0.3       # neither ends nor changes
        storm.random.choice = lambda choices: choices[-1]
        loop.run_until_complete(storm.run())
        assert storm.wrong == [] and storm.numbers == 30


# -- peers that do not behave

def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@EACH("answer", [0, 10, 3_000_000])
@EACH("sent", [b"", b"half a line", b"line\n", b"line\nand more"], ids=["nothing", "half", "line", "more"])
@EACH("taken", [0, 1, 100_000])
def test_reset_at_every_point(loop, errors, answer, sent, taken):
    """SO_LINGER 0, before and after each step of a conversation: the handler ends, with an error or without."""
    async def main():
        ends, begun = asyncio.Queue(), asyncio.Event()

        async def serve(reader, writer):
            begun.set()
            try:
                await reader.readline()
                writer.write(b"x" * answer)
                await writer.drain()
                await reader.read()
                ends.put_nowait("end")
            except ConnectionError as error:
                ends.put_nowait(type(error))
            finally:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, server.sockets[0].getsockname())
        if sent:
            await loop.sock_sendall(sock, sent)
        if taken:
            await begun.wait()
        got = 0
        while b"\n" in sent and got < min(taken, answer):
            got += len(await loop.sock_recv(sock, taken))
        reset(sock)
        if begun.is_set() or sent:
            assert await ends.get() in ("end", ConnectionResetError, BrokenPipeError)
        server.close()
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.001)

    loop.run_until_complete(main())
    assert errors == []


@EACH("high, chunk", [(65536, 1000), (65536, 200_000), (0, 100), (1000, 1)], ids=str)
def test_peer_that_reads_nothing(loop, high, chunk):
    """What waits is what was written since the limit was passed, and not more."""
    left, right = socket.socketpair()

    async def main():
        reader, writer = await asyncio.open_connection(sock=left)
        writer.transport.set_write_buffer_limits(high=high)
        left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
        written = 0

        async def write():
            nonlocal written
            while True:
                writer.write(b"x" * chunk)
                written += 1
                await writer.drain()
                if not written % 100:
                    await asyncio.sleep(0)

        task = loop.create_task(write())
        before = -1
        while before != written:
            before = written
            for _ in range(10):
                await asyncio.sleep(0)
        assert not task.done() and high < writer.transport.get_write_buffer_size() <= high + chunk
        task.cancel()
        writer.transport.abort()
        assert writer.transport.get_write_buffer_size() == 0

    with right:
        loop.run_until_complete(main())


def test_peers_that_send_a_byte_at_a_time(loop):
    lines = [b"line %d of somebody slow\n" % n for n in range(30)]

    async def main():
        got = []

        async def serve(reader, writer):
            got.append(await reader.readline())
            writer.write(got[-1].upper())
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        socks = [socket.create_connection(server.sockets[0].getsockname()) for _ in lines]
        for n in range(max(map(len, lines))):
            for sock, line in zip(socks, lines):
                sock.send(line[n:n + 1])
            await asyncio.sleep(0)
        for sock, line in zip(socks, lines):
            sock.setblocking(False)
            answer = b""
            while chunk := await loop.sock_recv(sock, 3):
                answer += chunk
            assert answer == line.upper()
            sock.close()
        assert sorted(got) == sorted(lines)
        server.close()
        await asyncio.sleep(0)

    loop.run_until_complete(main())


# -- faults

def test_out_of_descriptors(program):
    """At accept(): who is connected is served, who waits is served when there are descriptors again, and until then the
    loop sleeps."""
    out = program("""
        import resource
        asyncio.constants.ACCEPT_RETRY_DELAY = 0.05
        loop = new_event_loop()
        messages, served = [], []
        loop.set_exception_handler(lambda loop, context: messages.append(context["message"]))

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport
                served.append(self)
            def data_received(self, data):
                self.transport.write(data.upper())

        def turns(seconds):
            over, count = [], 0
            loop.call_later(seconds, over.append, 1)
            while not over:
                loop._run_once()
                count += 1
            return count

        def until(condition):
            while not condition():
                loop.call_later(0.01, lambda: None)
                loop._run_once()

        server = loop.run_until_complete(loop.create_server(Protocol, "127.0.0.1", 0))
        asyncio._set_running_loop(loop)         # for the tasks: it is run turn by turn
        clients = [socket.create_connection(server.sockets[0].getsockname()) for n in range(12)]
        for client in clients:
            client.setblocking(False)
            client.send(b"hello")
        top = max(map(int, os.listdir("/proc/self/fd")))
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (top + 5, limit[1]))
        until(lambda: messages)
        turns(0.01)
        first = len(served)
        assert 0 < first < 12, first
        assert set(messages) == {"socket.accept() out of system resource"}, messages
        answers = lambda: sum(1 for client in clients[:first] if client.recv(10, socket.MSG_PEEK))
        until(lambda: all(protocol.transport.get_write_buffer_size() == 0 for protocol in served))
        turns(0.01)
        assert answers() == first
        # how often it tries again is bounded; it does not spin
        count = turns(0.3)
        assert count < 100, count
        assert len(served) == first
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        until(lambda: len(served) == 12)
        turns(0.01)
        assert [client.recv(10) for client in clients] == [b"HELLO"] * 12
        late = socket.create_connection(server.sockets[0].getsockname())
        until(lambda: len(served) == 13)
        server.close()
        for protocol in served:
            protocol.transport.close()
        for client in [*clients, late]:
            client.close()
        for _ in range(3):
            loop.call_soon(lambda: None)
            loop._run_once()
        turns(0.1)
        asyncio._set_running_loop(None)
        loop.close()
        print("served")
    """)
    assert out == "served\n"


def test_server_closed_while_out_of_descriptors(program):
    """Nobody listens again when the time is over."""
    out = program("""
        import resource
        asyncio.constants.ACCEPT_RETRY_DELAY = 0.02
        loop = new_event_loop()
        messages = []
        loop.set_exception_handler(lambda loop, context: messages.append(context))
        server = loop.run_until_complete(loop.create_server(asyncio.Protocol, "127.0.0.1", 0))
        client = socket.create_connection(server.sockets[0].getsockname())
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        top = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (top, limit[1]))
        while not messages:
            loop._run_once()
        fd = server.sockets[0].fileno()
        server.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        messages.clear()
        left, right = socket.socketpair()       # one of them has the number now
        over = []
        loop.call_later(0.1, over.append, 1)
        count = 0
        while not over:
            loop._run_once()
            count += 1
        assert count < 100, count
        assert {left.fileno(), right.fileno()} & {fd}
        if module is not asyncio:
            assert messages == [], messages
        client.close()
        print("closed")
        loop.close()
    """, "-W", "ignore")
    assert out == "closed\n"


@pytest.mark.skipif(not os.path.exists("/proc/self/statm") or hasattr(sys, "gettotalrefcount")
                    or "ASYNCFAST_SANITIZER" in os.environ, reason="memory cannot be told")
@pytest.mark.kinds("asyncfast", "asyncio")
def test_idle_connections(program, kind):
    """Ten thousand, or as many as may be open: 2 KiB each at most, after some traffic too, and no turn of the loop."""
    out = program("""
        import resource
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        number = min(10_000, (hard - 100) // 2)

        def resident():
            gc.collect()
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

        class Protocol(asyncio.Protocol):
            __slots__ = "transport"
            def connection_made(self, transport):
                self.transport = transport
            def data_received(self, data):
                self.transport.write(data)

        def turn():
            loop.stop()
            loop.run_forever()

        def connect(pairs):
            for n, (left, right, protocol) in enumerate(pairs):
                loop._make_socket_transport(left, protocol)
                if n % 50 == 0:
                    turn()
            turn()
            turn()

        loop = new_event_loop()
        pairs = []
        for _ in range(number):
            left, right = socket.socketpair()
            left.setblocking(False)
            pairs.append((left, right, Protocol()))
        connect(pairs[:number // 10])       # tables and the like
        rest = pairs[number // 10:]
        before = resident()
        connect(rest)
        each = (resident() - before) / len(rest)
        for left, right, protocol in rest:
            right.send(b"x" * 20_000)
            turn()
            assert len(right.recv(30_000)) == 20_000
        later = (resident() - before) / len(rest)
        over, turns = [], 0
        loop.call_later(0.02, over.append, 1)
        while not over:
            loop._run_once()
            turns += 1
        assert turns < 10
        for left, right, protocol in pairs:
            protocol.transport.abort()
            right.close()
        turn()
        turn()
        loop.close()
        print(number, int(each), int(later))
    """)
    number, each, later = map(int, out.split())
    if number < 1000:
        pytest.skip("too few descriptors")
    most = 2048 if kind.fast else 10 * 2048
    assert each <= most and later <= most
