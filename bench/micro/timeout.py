"""What does `asyncio.timeout` cost around something that is soon done?"""

import asyncio

TITLE = "`asyncio.timeout` around a sleep(0)"
OPS = 50_000
FLOOR = None


def bench(loop, n):
    async def main():
        done = 0
        for _ in range(n):
            async with asyncio.timeout(30):
                await asyncio.sleep(0)
                done += 1
        return done

    return lambda: loop.run_until_complete(main())
