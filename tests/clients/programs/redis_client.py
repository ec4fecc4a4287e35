"""A redis client, of the server at URL."""

import asyncio
import os

import redis.asyncio as redis
from inside import inside

URL = os.environ["URL"]


async def commands(client):
    async def one(number):
        for count in range(20):
            await client.set(f"key {number}", f"{number} {count}")
            assert await client.get(f"key {number}") == b"%d %d" % (number, count)

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(one(number))
    large = bytes(range(256)) * 20_000
    await client.set("large", large)
    assert await client.get("large") == large


async def pipelines(client):
    async with client.pipeline(transaction=False) as pipe:
        for number in range(1000):
            pipe.rpush("list", number)
        assert await pipe.execute() == list(range(1, 1001))
    async with client.pipeline(transaction=True) as pipe:
        assert await pipe.incr("counter").incr("counter").lrange("list", 0, 1).execute() == [1, 2, [b"0", b"1"]]


async def pubsub(client):
    async with client.pubsub() as channel:
        await channel.subscribe("news")
        assert (await channel.get_message(timeout=None))["type"] == "subscribe"
        for number in range(100):
            assert await client.publish("news", number) == 1
        for number in range(100):
            message = await channel.get_message(timeout=None)
            assert (message["type"], message["data"]) == ("message", b"%d" % number)


async def blocking_pop(client):
    """One that waits gets what comes; one that is cancelled takes nothing away, and nobody gets its answer."""
    async def blocked():
        while not (await client.info("clients"))["blocked_clients"]:
            pass

    waiting = asyncio.ensure_future(client.blpop("queue"))
    await blocked()
    await client.rpush("queue", "first")
    assert await waiting == (b"queue", b"first")

    waiting = asyncio.ensure_future(client.blpop("queue"))
    await blocked()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    while (await client.info("clients"))["blocked_clients"]:
        pass
    await client.rpush("queue", "second")
    assert await client.blpop("queue") == (b"queue", b"second")
    assert await client.blpop("queue", timeout=0.01) is None


async def main():
    async with redis.from_url(URL, socket_timeout=None, socket_connect_timeout=None) as client:
        for check in (commands, pipelines, pubsub, blocking_pop):
            await check(client)
        await client.flushall()
        print(inside())


asyncio.run(main())
