"""What does a task of a TaskGroup cost, a hundred to a group?"""

import asyncio

TITLE = "TaskGroup of 100, per task"
OPS = 100_000
FLOOR = None


def bench(loop, n):
    done = 0

    async def child():
        nonlocal done
        done += 1

    async def main():
        for _ in range(n // 100):
            async with asyncio.TaskGroup() as group:
                for _ in range(100):
                    group.create_task(child())
        return done

    return lambda: loop.run_until_complete(main())
