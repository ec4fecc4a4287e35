"""What does a trip through the loop cost a task when there are a hundred?"""

import asyncio

TITLE = "`asyncio.sleep(0)`, 100 tasks"
OPS = 100_000
FLOOR = "ring"
TASKS = 100


async def trips(times):
    for _ in range(times):
        await asyncio.sleep(0)
    return times


def coroutines(n):
    return [trips(n // TASKS) for _ in range(TASKS)]


def bench(loop, n):
    async def main():
        return sum(await asyncio.gather(*coroutines(n)))

    return lambda: loop.run_until_complete(main())
