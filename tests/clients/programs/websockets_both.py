"""A websockets server and its clients, on one loop.  CERTIFICATE: with TLS."""

import asyncio
import os
import ssl

from inside import inside
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

LARGE = bytes(range(256)) * 20_000


async def echo(connection):
    """Every message comes back, until one says "close"."""
    async for message in connection:
        if message == "close":
            return await connection.close(4000, "as asked")
        await connection.send(message)


async def messages(uri, **options):
    async with connect(uri, **options) as connection:
        for message in ("", "short", "x" * 70_000, b"", LARGE, LARGE.hex()):
            await connection.send(message)
            assert await connection.recv() == message
        await connection.send(["in ", "pieces"])
        assert await connection.recv() == "in pieces"


async def pings(uri, **options):
    async with connect(uri, **options) as connection:
        for pong in [await connection.ping() for _ in range(10)]:
            assert await pong >= 0


async def many(uri, **options):
    """Clients at the same time, with messages in flight; each has its own back, in their order."""
    async def client(number):
        async with connect(uri, **options) as connection:
            sent = [f"{number} {count}" for count in range(20)]
            for message in sent:
                await connection.send(message)
            assert [await connection.recv() for _ in sent] == sent

    async with asyncio.TaskGroup() as group:
        for number in range(30):
            group.create_task(client(number))


async def closes(uri, **options):
    connection = await connect(uri, **options)
    await connection.close(1000, "done")
    try:
        await connection.send("too late")
    except ConnectionClosedOK:
        assert connection.close_code == 1000
    else:
        raise AssertionError("sent on a closed connection")

    connection = await connect(uri, **options)
    await connection.send("close")
    try:
        await connection.recv()
    except ConnectionClosedError as error:
        assert (error.rcvd.code, error.rcvd.reason) == (4000, "as asked")
    else:
        raise AssertionError("received from a closed connection")


async def cancels(uri, **options):
    """A receive that is cancelled loses nothing."""
    async with connect(uri, **options) as connection:
        receiving = asyncio.ensure_future(connection.recv())
        await asyncio.sleep(0)
        receiving.cancel()
        await asyncio.wait([receiving])
        await connection.send("after")
        assert await connection.recv() == "after"


async def all_of_it(uri, **options):
    for check in (messages, pings, many, closes, cancels):
        await check(uri, max_size=None, **options)


async def main():
    scheme = "ws"
    of_server = of_client = None
    if "CERTIFICATE" in os.environ:
        scheme = "wss"
        of_server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        of_server.load_cert_chain(os.environ["CERTIFICATE"])
        of_client = ssl.create_default_context(cafile=os.environ["CERTIFICATE"])
    async with serve(echo, "127.0.0.1", 0, max_size=None, ssl=of_server) as server:
        uri = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await all_of_it(uri, ssl=of_client)
        last = await connect(uri, ssl=of_client)
        print(inside())
    # the server that shuts down says so to those who are connected
    await last.wait_closed()
    assert last.close_code == 1001


asyncio.run(main())
