"""The question of sleep0_1, asked with `asyncfast.sleep` on asyncfast (and `asyncio.sleep` on the other loops)."""

import asyncio

import loops

TITLE = "`asyncfast.sleep(0)`, one task"
OPS = 100_000
FLOOR = None
TASKS = 1


def bench(loop, n):
    sleep = loops.own_sleep(loop)

    async def trips(times):
        for _ in range(times):
            await sleep(0)
        return times

    async def main():
        return sum(await asyncio.gather(*[trips(n // TASKS) for _ in range(TASKS)]))

    return lambda: loop.run_until_complete(main())
