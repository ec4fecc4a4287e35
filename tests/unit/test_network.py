"""Streams, datagrams, pipes and subprocesses: that what is built on the loop works on it."""

import asyncio
import contextlib
import os
import socket
import sys
import unittest.mock

import pytest

import asyncfast
from _turns import settle

MEGABYTE = bytes(range(256)) * 4096


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def conversation(reader, writer, data):
    writer.write(data)
    writer.write_eof()
    assert await reader.read() == data
    writer.close()
    await writer.wait_closed()


async def close(server):
    server.close()
    await server.wait_closed()  # which waits for the connections only from 3.12 on
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("size", [1, 1000, 3 << 20])
async def test_tcp(loop, size):
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    data = (MEGABYTE * 3)[:size]
    await asyncio.gather(*[conversation(*await asyncio.open_connection(*address), data) for _ in range(3)])
    await close(server)


async def test_many_connections(loop):
    server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=500)
    address = server.sockets[0].getsockname()

    async def one(n):
        await conversation(*await asyncio.open_connection(*address), str(n).encode())

    await asyncio.gather(*[one(n) for n in range(100)])
    await close(server)


async def test_transport(loop):
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    assert isinstance(writer.transport, asyncio.Transport)
    assert writer.get_extra_info("peername") == server.sockets[0].getsockname()
    assert writer.get_extra_info("sockname")[0] == "127.0.0.1" and writer.get_extra_info("socket").fileno() > 0
    assert "Transport" in repr(writer.transport) and not writer.is_closing()
    with pytest.raises(RuntimeError, match="is used by transport"):
        loop.add_reader(writer.get_extra_info("socket").fileno(), print)
    writer.write(b"line 1\nline 2\n")
    assert [await reader.readline(), await reader.readuntil(b"\n")] == [b"line 1\n", b"line 2\n"]
    writer.close()
    await writer.wait_closed()
    await close(server)


async def test_refused(loop):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*sock.getsockname())


async def test_connection_lost(loop):
    lost = loop.create_future()

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            transport.abort()

        def connection_lost(self, error):
            lost.set_result(error)

    server = await loop.create_server(Protocol, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    assert await lost is None
    try:
        assert await reader.read() == b""
    except ConnectionResetError:
        pass
    writer.close()
    try:
        await writer.wait_closed()
    except ConnectionResetError:
        pass
    await close(server)


async def test_flow_control(loop):
    """A peer that does not read stops the writer, and sets it going again."""
    got = loop.create_future()

    async def slow(reader, writer):
        await asyncio.sleep(0.01)
        total = 0
        while data := await reader.read(1 << 20):
            total += len(data)
        got.set_result(total)
        writer.close()

    server = await asyncio.start_server(slow, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    for _ in range(20):
        writer.write(MEGABYTE)
        await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert await got == 20 * len(MEGABYTE)
    await close(server)


async def test_buffered_protocol(loop):
    done = loop.create_future()

    class Protocol(asyncio.BufferedProtocol):
        def connection_made(self, transport):
            self.buffer, self.got = bytearray(100), b""

        def get_buffer(self, hint):
            return self.buffer

        def buffer_updated(self, count):
            self.got += self.buffer[:count]

        def connection_lost(self, error):
            done.set_result(self.got)

    server = await loop.create_server(Protocol, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(MEGABYTE[:10_000])
    writer.close()
    await writer.wait_closed()
    assert await done == MEGABYTE[:10_000]
    await close(server)


async def test_unix(loop, tmp_path):
    path = str(tmp_path / "socket")
    server = await asyncio.start_unix_server(echo, path)
    await conversation(*await asyncio.open_unix_connection(path), MEGABYTE)
    await close(server)


async def test_udp(loop):
    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, address):
            self.transport.sendto(data, address)

    class Client(asyncio.DatagramProtocol):
        def datagram_received(self, data, address):
            answers.put_nowait(data)

    answers = asyncio.Queue()
    server, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    client, _ = await loop.create_datagram_endpoint(Client, remote_addr=server.get_extra_info("sockname"))
    for data in (b"x", b"y" * 1000, b"z" * 60_000):
        client.sendto(data)
        assert await answers.get() == data
    client.close()
    server.close()
    await asyncio.sleep(0)


async def test_pipes(loop):
    read, write = os.pipe()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read, "rb", 0))
    writer, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(write, "wb", 0))
    writer.write(b"through a pipe")
    writer.close()
    assert await reader.read() == b"through a pipe"
    transport.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_subprocess(loop):
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "import sys; print(sys.stdin.read()[::-1])",
                                                   stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    out, err = await process.communicate(b"abc")
    assert out == b"cba\n" and err is None and process.returncode == 0
    process = await asyncio.create_subprocess_shell("exit 3")
    assert await process.wait() == 3
    process = await asyncio.create_subprocess_exec("sleep", "1000")
    process.kill()
    assert await process.wait() == -9
    with pytest.raises(FileNotFoundError):
        await asyncio.create_subprocess_exec("/no/such/program")


async def test_subprocesses_at_once(loop):
    async def one(n):
        process = await asyncio.create_subprocess_shell(f"echo {n}", stdout=asyncio.subprocess.PIPE)
        return int((await process.communicate())[0])

    assert await asyncio.gather(*[one(n) for n in range(8)]) == list(range(8))


async def test_sendfile(loop, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(MEGABYTE)
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    with open(path, "rb") as file:
        task = loop.create_task(loop.sendfile(writer.transport, file))
        assert await reader.readexactly(len(MEGABYTE)) == MEGABYTE
        assert await task == len(MEGABYTE)
    writer.close()
    await writer.wait_closed()
    await close(server)


async def test_accepted_socket(loop):
    left, right = socket.socketpair()
    right.setblocking(False)
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_accepted_socket(lambda: asyncio.StreamReaderProtocol(reader), left)
    await loop.sock_sendall(right, b"x\n")
    assert await reader.readline() == b"x\n"
    transport.close()
    right.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_server_object(loop):
    server = await asyncio.start_server(echo, "127.0.0.1", 0, start_serving=False)
    assert not server.is_serving() and server.get_loop() is loop
    await server.start_serving()
    assert server.is_serving()
    task = loop.create_task(server.serve_forever())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not server.is_serving()


async def make_stream(loop, factory):
    sock, peer = socket.socketpair()
    with sock, peer:        # whatever becomes of the transport
        return await loop.connect_accepted_socket(factory, sock)


async def make_datagram(loop, factory):
    return await loop.create_datagram_endpoint(factory, local_addr=("127.0.0.1", 0))


async def make_read_pipe(loop, factory):
    ends = [os.fdopen(fd, mode, 0) for fd, mode in zip(os.pipe(), ("rb", "wb"))]
    with ends[0], ends[1]:
        return await loop.connect_read_pipe(factory, ends[0])


async def make_write_pipe(loop, factory):
    ends = [os.fdopen(fd, mode, 0) for fd, mode in zip(os.pipe(), ("rb", "wb"))]
    with ends[0], ends[1]:
        return await loop.connect_write_pipe(factory, ends[1])


@pytest.mark.filterwarnings("ignore::ResourceWarning")      # nobody has got the transport to close it
@pytest.mark.parametrize("make", [make_stream, make_datagram, make_read_pipe, make_write_pipe])
@pytest.mark.parametrize("protocol", [None, 5, object()], ids=["None", "5", "object"])
async def test_factory_that_makes_no_protocol(loop, make, protocol):
    """Whoever connects hears of it."""
    with pytest.raises(AttributeError, match="has no attribute 'connection_made'"):
        await make(loop, lambda: protocol)


async def test_extra_info_that_a_program_has_patched(loop, monkeypatch):
    """On asyncio's class, as tests of programs do."""
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    transport, port = writer.transport, server.sockets[0].getsockname()[1]
    calls, original = [], asyncio.BaseTransport.get_extra_info
    monkeypatch.setattr(asyncio.BaseTransport, "get_extra_info",
                        lambda self, *args: calls.append((self, args)) or original(self, *args))
    assert transport.get_extra_info("peername") == ("127.0.0.1", port)
    assert writer.get_extra_info("socket", 5).getpeername() == ("127.0.0.1", port)
    assert calls == [(transport, ("peername",)), (transport, ("socket", 5))]
    mock = unittest.mock.Mock(return_value="mine")
    monkeypatch.setattr(asyncio.BaseTransport, "get_extra_info", mock)
    assert transport.get_extra_info("peername", default=4) == "mine"
    mock.assert_called_once_with("peername", default=4)
    monkeypatch.undo()
    assert transport.get_extra_info("nothing", default=4) == 4
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_arguments_by_name(loop):
    left, right = socket.socketpair()
    transport, protocol = await loop.connect_accepted_socket(asyncio.Protocol, left)
    transport.write(data=b"a")
    transport.writelines(list_of_data=[b"b", b"c"])
    transport.set_protocol(protocol=protocol)
    for method in (transport.write, transport.writelines, transport.set_protocol):
        for wrong in (lambda: method(), lambda: method(b"", b""), lambda: method(other=b""), lambda: method(b"", other=b"")):
            with pytest.raises(TypeError):
                wrong()
    assert transport.get_write_buffer_size() == 0 and right.recv(10) == b"abc"
    transport.close()
    right.close()
    reader, writer = os.pipe()
    transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(writer, "wb", 0))
    transport.write(data=b"d")
    transport.writelines(list_of_data=[b"e"])
    transport.close()
    assert os.read(reader, 10) == b"de"
    os.close(reader)
    await asyncio.sleep(0)
    await asyncio.sleep(0)


class Fails(asyncio.Protocol):
    """Whose method of that name raises."""

    def __init__(self, name):
        setattr(self, name, self.fail)

    def fail(self, *args):
        raise ZeroDivisionError


async def fail_in_a_callback(loop, seen):
    loop.call_soon(Fails.fail, None)
    while not seen:
        await asyncio.sleep(0)


def fail_in_a_protocol(name):
    async def fail(loop, seen):
        left, right = socket.socketpair()
        right.setblocking(False)
        transport, _ = await loop.connect_accepted_socket(lambda: Fails(name), left)
        if name == "data_received":
            right.send(b"x")
        elif name == "eof_received":
            right.shutdown(socket.SHUT_WR)
        elif name == "connection_lost":
            transport.close()
        elif name in ("pause_writing", "resume_writing"):
            transport.write(MEGABYTE)
        while not seen:
            with contextlib.suppress(BlockingIOError):
                right.recv(len(MEGABYTE))
            await asyncio.sleep(0)
        transport.abort()
        await settle()
        right.close()
    return fail


async def fail_in_a_datagram_protocol(loop, seen):
    transport, _ = await loop.create_datagram_endpoint(lambda: Fails("datagram_received"), local_addr=("127.0.0.1", 0))
    transport.sendto(b"x", transport.get_extra_info("sockname"))
    while not seen:
        await asyncio.sleep(0)
    transport.close()
    await settle()


async def fail_in_a_pipe_protocol(loop, seen):
    reader, writer = os.pipe()
    transport, _ = await loop.connect_read_pipe(lambda: Fails("data_received"), os.fdopen(reader, "rb", 0))
    os.write(writer, b"x")
    while not seen:
        await asyncio.sleep(0)
    transport.close()
    os.close(writer)
    await settle()


FAILURES = {name: fail_in_a_protocol(name) for name in (
    "connection_made", "data_received", "eof_received", "pause_writing", "resume_writing", "connection_lost")}
FAILURES |= {"callback": fail_in_a_callback, "datagram": fail_in_a_datagram_protocol, "pipe": fail_in_a_pipe_protocol}


@pytest.mark.parametrize("fail", FAILURES.values(), ids=FAILURES)
async def test_exception_handler_runs_in_an_except_clause(loop, fail):
    """logging.exception() there, say, tells what has happened."""
    seen = []
    loop.set_exception_handler(lambda loop, context: seen.append((context["exception"], sys.exc_info()[1])))
    await fail(loop, seen)
    ((given, handled),) = seen
    assert type(given) is ZeroDivisionError and handled is given
    assert sys.exc_info()[1] is None


@pytest.mark.parametrize("fail", [fail_in_a_callback, fail_in_a_protocol("connection_lost")], ids=["callback", "protocol"])
async def test_error_of_the_exception_handler_has_a_context(loop, logged, fail):
    def handler(loop, context):
        raise KeyError("in the handler")

    loop.set_exception_handler(handler)
    await fail(loop, logged.records)
    (record,) = logged.records
    assert type(record.exc_info[1]) is KeyError and type(record.exc_info[1].__context__) is ZeroDivisionError
    logged.take()


class Reversing(socket.socket):
    """What comes in and goes out through it is turned round."""

    def recv(self, *args):
        return super().recv(*args)[::-1]

    def recv_into(self, buffer, *args):
        data = self.recv(len(buffer))
        buffer[:len(data)] = data
        return len(data)

    def send(self, data, *args):
        return super().send(bytes(data)[::-1], *args)

    def sendmsg(self, buffers, *args):
        return self.send(b"".join(buffers))

    def recvfrom(self, *args):
        data, address = super().recvfrom(*args)
        return data[::-1], address

    def sendto(self, data, *args):
        return super().sendto(bytes(data)[::-1], *args)


def reversing_pair():
    left, right = socket.socketpair()
    right.setblocking(False)
    return Reversing(fileno=left.detach()), right


async def test_socket_with_methods_of_its_own(loop, tmp_path):
    """They are called, and not its fd read and written behind its back."""
    left, right = reversing_pair()
    reader, writer = await asyncio.open_connection(sock=left)
    await loop.sock_sendall(right, b"abc")
    assert await reader.read(10) == b"cba"
    writer.write(b"def")
    writer.writelines([b"gh", b"i"])
    assert await loop.sock_recv(right, 10) == b"fedihg"
    (tmp_path / "file").write_bytes(MEGABYTE)
    with open(tmp_path / "file", "rb") as file:
        sending = loop.create_task(loop.sendfile(writer.transport, file))
        size = 0
        while size < len(MEGABYTE):
            size += len(await loop.sock_recv(right, len(MEGABYTE)))
        assert await sending == len(MEGABYTE)
    writer.close()
    await writer.wait_closed()
    right.close()


async def test_socket_with_a_method_of_its_own(loop):
    class Counting(socket.socket):
        pass

    left, right = socket.socketpair()
    left = Counting(fileno=left.detach())
    sent = []
    left.send = lambda data: sent.append(data) or len(data)
    transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, left)
    transport.write(b"abc")
    await settle()
    assert sent == [b"abc"]
    transport.close()
    await settle()
    right.close()


async def test_datagram_socket_with_methods_of_its_own(loop):
    received = asyncio.Queue()

    class Protocol(asyncio.DatagramProtocol):
        def datagram_received(self, data, address):
            received.put_nowait((data, address))

    sock = Reversing(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    transport, _ = await loop.create_datagram_endpoint(Protocol, sock=sock)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.sendto(b"abc", sock.getsockname())
        assert await received.get() == (b"cba", peer.getsockname())
        transport.sendto(b"def", peer.getsockname())
        assert peer.recv(10) == b"fed"
    transport.close()
    await settle()


async def awaited_twice(coroutine, send):
    """It is refused who comes second; the first goes on waiting, and is given what comes."""
    first = asyncio.ensure_future(coroutine)
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
        await coroutine
    send(b"x")
    assert await first == b"x"


async def test_operation_awaited_twice(loop):
    left, right = socket.socketpair()
    left.setblocking(False)
    await awaited_twice(loop.sock_recv(left, 1), right.send)
    left.close()
    right.close()


@pytest.mark.parametrize("module", [asyncio, asyncfast])
async def test_read_awaited_twice(loop, module):
    left, right = socket.socketpair()
    reader, writer = await module.open_connection(sock=left)
    for _ in range(3):
        await awaited_twice(reader.read(1), right.send)
    writer.close()
    await writer.wait_closed()
    right.close()
