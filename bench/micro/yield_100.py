"""What does one step of a task cost, with nothing awaited: a hundred tasks, each only yields?"""

import asyncio
import types

TITLE = "bare yield, 100 tasks"
OPS = 200_000
FLOOR = "ring"
TASKS = 100


@types.coroutine
def hop():
    yield


async def trips(times):
    for _ in range(times):
        await hop()
    return times


def coroutines(n):
    return [trips(n // TASKS) for _ in range(TASKS)]


def bench(loop, n):
    async def main():
        return sum(await asyncio.gather(*coroutines(n)))

    return lambda: loop.run_until_complete(main())
