"""What does an item cost that goes from one task to another through a queue with one place?"""

import asyncio

TITLE = "Queue(1) ping-pong, per item"
OPS = 50_000
FLOOR = None


def bench(loop, n):
    async def produce(queue):
        for _ in range(n):
            await queue.put(1)

    async def main():
        queue = asyncio.Queue(1)
        producer = asyncio.create_task(produce(queue))
        done = 0
        for _ in range(n):
            done += await queue.get()
        await producer
        return done

    return lambda: loop.run_until_complete(main())
