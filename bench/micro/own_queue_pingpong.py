"""The question of queue_pingpong, asked of a channel with one place on asyncfast (and of `asyncio.Queue(1)` on the others)."""

import asyncio

import loops

TITLE = "`asyncfast.Channel(1)` ping-pong, per item"
OPS = 50_000
FLOOR = None


def bench(loop, n):
    new, send, receive = loops.own_queue(loop)

    async def produce(queue):
        for _ in range(n):
            await send(queue, 1)

    async def main():
        queue = new(1)
        producer = asyncio.create_task(produce(queue))
        done = 0
        for _ in range(n):
            done += await receive(queue)
        await producer
        return done

    return lambda: loop.run_until_complete(main())
