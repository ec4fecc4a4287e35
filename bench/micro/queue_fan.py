"""What does an item cost that goes from one of ten tasks through a queue to one of ten others?"""

import asyncio

TITLE = "Queue(16), 10 senders and 10 receivers, per item"
OPS = 50_000
FLOOR = None
TASKS = 10


def bench(loop, n, new=asyncio.Queue, send=asyncio.Queue.put, receive=asyncio.Queue.get):
    async def produce(queue):
        for _ in range(n // TASKS):
            await send(queue, 1)

    async def consume(queue):
        done = 0
        for _ in range(n // TASKS):
            done += await receive(queue)
        return done

    async def main():
        queue = new(16)
        consumers = [asyncio.create_task(consume(queue)) for _ in range(TASKS)]
        await asyncio.gather(*[produce(queue) for _ in range(TASKS)])
        return sum(await asyncio.gather(*consumers))

    return lambda: loop.run_until_complete(main())
