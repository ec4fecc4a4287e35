"""What does `asyncio.wait_for` cost around something that is soon done?"""

import asyncio

TITLE = "`asyncio.wait_for`"
OPS = 50_000
FLOOR = None


def bench(loop, n):
    async def main():
        done = 0
        for _ in range(n):
            done += await asyncio.wait_for(asyncio.sleep(0, 1), 30)
        return done

    return lambda: loop.run_until_complete(main())
