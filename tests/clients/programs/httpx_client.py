"""An httpx client, of app.py at URL."""

import asyncio
import os
import ssl

import httpx
from inside import inside

URL = os.environ["URL"]
TLS = ssl.create_default_context(cafile=os.environ["CERTIFICATE"]) if URL.startswith("https") else True
LARGE = bytes(range(256)) * 10_000


async def requests(client):
    """Many at a time on a few connections; every answer is the one to its own request."""
    async def one(number):
        body = b"%d " % number * (number + 1)
        response = await client.post("/echo", content=body)
        assert response.status_code == 200
        assert response.content == body

    async with asyncio.TaskGroup() as group:
        for number in range(100):
            group.create_task(one(number))


async def streams(client):
    """Large bodies, sent and received piece by piece."""
    async def pieces():
        for start in range(0, len(LARGE), 100_000):
            yield LARGE[start:start + 100_000]

    headers = {"content-length": str(len(LARGE))}
    async with client.stream("POST", "/echo", content=pieces(), headers=headers) as response:
        received = b"".join([chunk async for chunk in response.aiter_bytes()])
    assert received == LARGE


async def gives_up(client):
    """Timeouts and cancellations leave a client that works."""
    try:
        await client.get("/never", timeout=0.1)
    except httpx.ReadTimeout:
        pass
    else:
        raise AssertionError("no timeout")
    for turns in range(40):  # of the loop, until the request is cancelled: in each of its stages
        request = asyncio.ensure_future(client.get("/never"))
        for _ in range(turns):
            await asyncio.sleep(0)
        request.cancel()
        await asyncio.wait([request])
        assert request.cancelled()
    async with client.stream("POST", "/echo", content=LARGE) as response:
        await anext(response.aiter_bytes())  # the rest is never read


async def main():
    limits = httpx.Limits(max_connections=20)
    async with httpx.AsyncClient(base_url=URL, limits=limits, verify=TLS, timeout=None) as client:
        await requests(client)
        await streams(client)
        await gives_up(client)
        await requests(client)
        print((await client.get("/who")).text)
        print(inside())


asyncio.run(main())
