"""TLS on both engines: ten thousand connections and more, opened, used and ended in every way."""

import asyncio
import os
import socket
import ssl
import struct
from pathlib import Path

import asyncfast
from _check import ON_ASYNCIO, SENTINEL, check, finish

PEM = Path(__file__).parent.with_name("unit") / "localhost.pem"
SERVER = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
SERVER.load_cert_chain(PEM)
CLIENT = ssl.create_default_context(cafile=PEM)


class Protocol(asyncio.Protocol):
    def __init__(self, ended):
        self.ended, self.sentinel = ended, SENTINEL
        self.made = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        transport.write(b"x" * 2000)

    def data_received(self, data):
        if not self.made.done():
            self.made.set_result(None)

    def connection_lost(self, error):
        self.ended.append(self)


class Serving:
    """A server, and how many of its connections have come to an end."""

    async def __aenter__(self):
        self.protocols, self.ended = [], []
        self.server = await asyncio.get_running_loop().create_server(self.protocol, "127.0.0.1", 0, ssl=SERVER)
        return self

    def protocol(self):
        self.protocols.append(Protocol(self.ended))
        return self.protocols[-1]

    @property
    def address(self):
        return self.server.sockets[0].getsockname()

    async def until(self, condition):
        while not condition():
            await asyncio.sleep(0)

    def attached(self):
        return len(self.server._clients) if hasattr(self.server, "_clients") else self.server._active_count

    async def __aexit__(self, *error):
        await self.until(lambda: not self.attached())
        self.server.close()
        await self.server.wait_closed()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def connect(serving):
    """Both ends, which have heard of each other."""
    mine = Protocol([])
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: mine, *serving.address, ssl=CLIENT,
                                                                      server_hostname="localhost")
    await mine.made
    theirs = serving.protocols[-1]
    await theirs.made
    return mine, theirs


async def used():
    """Ended in good order by either side, aborted by either side, vanished."""
    async with Serving() as serving:
        for how in ("client", "server", "abort client", "abort server", "vanish"):
            mine, theirs = await connect(serving)
            mine.transport.get_extra_info("peercert")
            mine.transport.attribute = SENTINEL
            one = theirs if "server" in how else mine
            if how == "vanish":
                mine.transport._ssl_protocol._transport.abort()
            elif "abort" in how:
                one.transport.write(b"x" * 100_000)
                one.transport.abort()
            else:
                one.transport.close()
            await serving.until(lambda: mine.ended and theirs in serving.ended)


def begun():
    """The first message of a client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        CLIENT.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()


async def halfway():
    """Clients that never get through the handshake, and servers that do not let them."""
    loop = asyncio.get_running_loop()
    async with Serving() as serving:
        for data in (b"", b"GET / HTTP/1.0\r\n\r\n", begun()[:50], begun(), begun() + b"no more of it"):
            with socket.create_connection(serving.address) as sock:
                before = len(serving.protocols)
                await serving.until(lambda: len(serving.protocols) > before)
                sock.send(data)
                await asyncio.sleep(0)
                if len(data) % 2:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        try:
            await loop.create_connection(lambda: Protocol([]), *serving.address, ssl=ssl.create_default_context(),
                                         server_hostname="localhost")
        except ssl.SSLCertVerificationError:
            pass
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connecting = loop.create_task(loop.create_connection(lambda: Protocol([]), *silent.getsockname(), ssl=CLIENT,
                                                             server_hostname="localhost"))
        for _ in range(8):
            await asyncio.sleep(0)
        connecting.cancel()
        await asyncio.wait([connecting])
        await asyncio.sleep(0)


async def echo(reader, writer):
    writer.write(await reader.readline())
    await writer.drain()
    writer.close()


async def streams(module=asyncio if ON_ASYNCIO else asyncfast):
    """Servers with streams, and the plain ones that are upgraded."""
    async def upgrade(reader, writer):
        writer.write(b"go on\n")
        await writer.start_tls(SERVER)
        await echo(reader, writer)

    for serve, options in ((echo, {"ssl": SERVER}), (upgrade, {})):
        server = await module.start_server(serve, "127.0.0.1", 0, **options)
        client = {"ssl": CLIENT, "server_hostname": "localhost"} if options else {}
        reader, writer = await module.open_connection(*server.sockets[0].getsockname(), **client)
        if not options:
            await reader.readline()
            await writer.start_tls(CLIENT, server_hostname="localhost")
        writer.write(b"line\n")
        assert await reader.read() == b"line\n"
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0)


for engine in ("direct", "portable"):
    os.environ["ASYNCFAST_TLS"] = engine
    try:
        asyncfast.new_event_loop().close()
    except RuntimeError as error:
        print(f"tls.py: {error}")
        continue
    print(f"tls.py: {engine}")
    check(used, 100)
    check(halfway, 50)
    check(streams, 25)
    if ON_ASYNCIO:
        break
finish()
