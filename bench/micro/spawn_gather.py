"""What does a task cost, from its creation to its result, when gather makes a thousand?"""

import asyncio

TITLE = "spawn 1000 by gather, per task"
OPS = 100_000
FLOOR = None


async def child():
    return 1


def bench(loop, n):
    async def main():
        done = 0
        for _ in range(n // 1000):
            done += sum(await asyncio.gather(*[child() for _ in range(1000)]))
        return done

    return lambda: loop.run_until_complete(main())
