"""An aiohttp client, of the server at URL."""

import asyncio
import os
import ssl

import aiohttp
from inside import inside

URL = os.environ["URL"]
TLS = ssl.create_default_context(cafile=os.environ["CERTIFICATE"]) if URL.startswith("https") else True
LARGE = bytes(range(256)) * 20_000


async def requests(session):
    """Many at a time on a few connections; every answer is the one to its own request."""
    async def one(number):
        body = b"%d " % number * (number + 1)
        async with session.post("/echo", data=body) as response:
            assert response.status == 200
            assert await response.read() == body

    async with asyncio.TaskGroup() as group:
        for number in range(500):
            group.create_task(one(number))


async def streams(session):
    """Large bodies, sent and received piece by piece."""
    async def pieces():
        for start in range(0, len(LARGE), 100_000):
            yield LARGE[start:start + 100_000]

    async with session.post("/echo", data=pieces()) as response:
        received = bytearray()
        async for chunk in response.content.iter_any():
            received += chunk
    assert received == LARGE
    async with session.get("/file") as response:
        assert b"This file" in await response.read()


async def gives_up(session):
    """Timeouts and cancellations leave a session that works."""
    try:
        await session.get("/never", timeout=aiohttp.ClientTimeout(total=0.1))
    except TimeoutError:
        pass
    else:
        raise AssertionError("no timeout")
    for turns in range(40):  # of the loop, until the request is cancelled: in each of its stages
        request = asyncio.ensure_future(session.get("/never"))
        for _ in range(turns):
            await asyncio.sleep(0)
        request.cancel()
        await asyncio.wait([request])
        assert request.cancelled()
    async with session.post("/echo", data=LARGE) as response:
        await response.content.readexactly(10)  # the rest is never read


async def websocket(session):
    async with session.ws_connect("/websocket", max_msg_size=0) as ws:
        for text in ("", "short", "x" * 70_000):
            await ws.send_str(text)
            assert await ws.receive_str() == text
        await ws.send_bytes(LARGE)
        assert await ws.receive_bytes() == LARGE
        await ws.send_str("close")
        assert (await ws.receive()).type is aiohttp.WSMsgType.CLOSE
        assert ws.close_code == 4000


async def main():
    connector = aiohttp.TCPConnector(limit=20, ssl=TLS)
    async with aiohttp.ClientSession(URL, connector=connector) as session:
        await requests(session)
        await streams(session)
        await gives_up(session)
        await websocket(session)
        await requests(session)
        async with session.get("/who") as response:
            print(await response.text())
        print(inside())


asyncio.run(main())
