"""What does it cost to wait for a future that a callback resolves?"""

TITLE = "await a future that a callback resolves"
OPS = 50_000
FLOOR = None


def bench(loop, n):
    async def main():
        done = 0
        for _ in range(n):
            future = loop.create_future()
            loop.call_soon(future.set_result, 1)
            done += await future
        return done

    return lambda: loop.run_until_complete(main())
