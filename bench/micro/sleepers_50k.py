"""What does a task cost that sleeps for 1 to 100 ms, when 50,000 do so at once?"""

import asyncio
import random

TITLE = "50,000 concurrent short sleepers, per task"
OPS = 50_000
FIXED = True
FLOOR = None


def bench(loop, n, sleep=asyncio.sleep):
    async def nap(delay):
        await sleep(delay)
        return 1

    async def main():
        return sum(await asyncio.gather(*[nap(random.uniform(0.001, 0.1)) for _ in range(n)]))

    return lambda: loop.run_until_complete(main())
