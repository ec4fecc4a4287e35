"""Readers, sockets, streams, datagrams, pipes and subprocesses."""

import asyncio
import os
import socket

import asyncfast
from _check import ON_ASYNCIO, SENTINEL, check, finish


async def readers():
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        loop.add_reader(left, repr, SENTINEL)
        loop.add_reader(left, repr, SENTINEL)
        loop.add_writer(left, repr, SENTINEL)
        right.send(b"x")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        loop.remove_writer(left)
        loop.remove_reader(left)
        await loop.sock_sendall(left, b"x" * 1000)
        await loop.sock_recv(right, 1000)
        try:
            await asyncio.wait_for(loop.sock_recv(right, 10), 0.0005)
        except TimeoutError:
            pass


async def echo(reader, writer):
    writer.write(await reader.readline())
    writer.close()
    await writer.wait_closed()


async def streams(module=asyncio):
    server = await module.start_server(echo, "127.0.0.1", 0)
    for _ in range(3):
        reader, writer = await module.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x" * 1000 + b"\n")
        assert len(await reader.read()) == 1001
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def own_streams():
    await streams(asyncio if ON_ASYNCIO else asyncfast)


async def own_reader():
    """What is read in every way, waited for, cancelled, raised and never awaited."""
    module = asyncio if ON_ASYNCIO else asyncfast
    loop = asyncio.get_running_loop()
    reader = module.StreamReader(limit=50)
    for data in (b"line\n", b"x" * 20 + b";", b"y" * 300 + b"\n"):
        reader.feed_data(data)
    assert [await reader.readline(), await reader.readexactly(20), await reader.readuntil(b";")] == [b"line\n", b"x" * 20, b";"]
    try:
        await reader.readline()
    except ValueError:
        pass
    waiting = loop.create_task(reader.read(5))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    loop.call_soon(reader.feed_data, b"last")
    loop.call_soon(reader.feed_eof)
    assert await reader.read() == b"last"
    try:
        await reader.readexactly(2)
    except asyncio.IncompleteReadError:
        pass
    reader.read().close()
    reader.itself = reader.readline()
    reader.itself.close()


async def datagrams():
    loop = asyncio.get_running_loop()

    class Protocol(asyncio.DatagramProtocol):
        def datagram_received(self, data, address):
            got.set_result(data)

    got = loop.create_future()
    server, _ = await loop.create_datagram_endpoint(Protocol, local_addr=("127.0.0.1", 0))
    client, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=server.get_extra_info("sockname"))
    client.sendto(b"x")
    await got
    client.close()
    server.close()
    await asyncio.sleep(0)


async def pipes():
    loop = asyncio.get_running_loop()
    read, write = os.pipe()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read, "rb", 0))
    writer, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(write, "wb", 0))
    for data in (b"x", bytearray(200_000), b"y" * 100_000):
        writer.write(data)
    writer.close()
    assert len(await reader.read()) == 300_001
    transport.close()
    await asyncio.sleep(0)
    read, write = os.pipe()
    writer, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(write, "wb", 0))
    writer.write(bytearray(200_000))
    os.close(read)
    await asyncio.sleep(0.001)


async def subprocesses():
    process = await asyncio.create_subprocess_exec("true", stdout=asyncio.subprocess.PIPE)
    await process.communicate()


check(readers)
check(streams, 50)
check(own_streams, 50)
check(own_reader)
check(datagrams, 50)
check(pipes)
check(subprocesses, 20)
finish()
