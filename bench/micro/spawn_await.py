"""What does it cost to spawn one task and wait for it?"""

import asyncio

TITLE = "spawn one task and await it"
OPS = 50_000
FLOOR = None


async def child():
    return 1


def bench(loop, n):
    async def main():
        done = 0
        for _ in range(n):
            done += await asyncio.create_task(child())
        return done

    return lambda: loop.run_until_complete(main())
