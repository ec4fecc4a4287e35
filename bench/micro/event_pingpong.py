"""What does a round cost of two tasks that wake each other in turn through two events?"""

import asyncio

TITLE = "Event ping-pong, per round"
OPS = 50_000
FLOOR = None


def bench(loop, n):
    async def answer(ping, pong):
        for _ in range(n):
            await ping.wait()
            ping.clear()
            pong.set()

    async def main():
        ping, pong = asyncio.Event(), asyncio.Event()
        answerer = asyncio.create_task(answer(ping, pong))
        done = 0
        for _ in range(n):
            ping.set()
            done += await pong.wait()
            pong.clear()
        await answerer
        return done

    return lambda: loop.run_until_complete(main())
