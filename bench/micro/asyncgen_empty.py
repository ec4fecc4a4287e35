"""What does a step of `async for` cost over an asynchronous generator that does nothing but yield?"""

TITLE = "`async for` over an empty asynchronous generator, per item"
OPS = 200_000
FLOOR = None


def bench(loop, n):
    async def generator():
        for _ in range(n):
            yield 1

    async def main():
        done = 0
        async for item in generator():
            done += item
        return done

    return lambda: loop.run_until_complete(main())
