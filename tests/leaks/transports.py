"""The stream transport: what is sent at once, what waits, what is lost, and every way to end."""

import asyncio
import socket

from _check import SENTINEL, check, finish

BIG = b"x" * 500_000


class Protocol(asyncio.Protocol):
    def __init__(self, fail=False):
        self.fail, self.sentinel, self.kept = fail, SENTINEL, []

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.kept.append(data)
        if self.fail:
            raise ValueError(data)


class Buffered(Protocol, asyncio.BufferedProtocol):
    def get_buffer(self, hint):
        return bytearray(30_000)

    def buffer_updated(self, count):
        self.data_received(bytes(count))


async def connect(protocol):
    left, right = socket.socketpair()
    right.setblocking(False)
    await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, left)
    protocol.transport.attribute = SENTINEL
    return protocol.transport, right


async def turns(count=3):
    for _ in range(count):
        await asyncio.sleep(0)


async def read_all(right):
    loop = asyncio.get_running_loop()
    while await loop.sock_recv(right, 1 << 20):
        pass


async def writing():
    transport, right = await connect(Protocol())
    with right:
        for data in (b"small", bytearray(b"copied"), memoryview(b"viewed"), BIG, bytearray(BIG), memoryview(BIG)[::2]):
            transport.write(data)
        transport.writelines([b"a", bytearray(b"b"), memoryview(b"c"), b""] * 300)
        for bad in (None, "text"):
            try:
                transport.write(bad)
            except TypeError:
                pass
            try:
                transport.writelines([b"x", 5])
            except TypeError:
                pass
        transport.close()
        await read_all(right)
        await turns()


async def reading():
    for cls in (Protocol, Buffered):
        protocol = cls()
        transport, right = await connect(protocol)
        with right:
            for size in (1, 20_000, 50_000, 100_000):
                right.send(bytes(size))
                await turns(6)
            transport.set_protocol((Protocol if cls is Buffered else Buffered)())
            transport.pause_reading()
            transport.resume_reading()
            right.send(b"x")
            await turns()
        await turns()


async def ends():
    for how in ("close", "abort", "error", "reset", "lost", "warning"):
        transport, right = await connect(Protocol(fail=how == "error"))
        transport.write(BIG)
        transport.write(bytearray(1000))
        if how in ("close", "abort"):
            getattr(transport, how)()
        elif how == "error":
            right.send(b"x")
        elif how == "lost":
            transport._force_close(OSError(SENTINEL))
            transport.write(b"lost")
        await turns()
        right.close()
        await turns(5)


async def unmade():
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    left.setblocking(False)
    with right:
        transport = loop._make_socket_transport(left, Protocol(), extra={"extra": SENTINEL})
        cls = type(transport)
        for args in ((), (loop, SENTINEL, SENTINEL)):
            try:
                cls(*args)
            except (TypeError, AttributeError, ValueError):
                pass
        transport.abort()
        await turns()


check(writing, 50)
check(reading, 50)
check(ends, 50)
check(unmade, 100)
finish()
