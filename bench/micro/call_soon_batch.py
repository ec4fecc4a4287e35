"""What does a callback cost when a turn of the loop has a thousand of them?"""

TITLE = "call_soon, 1000 at a time"
OPS = 400_000
FLOOR = "call"


def bench(loop, n):
    done = 0

    def tick():
        nonlocal done
        done += 1

    def batch():
        if done == n:
            loop.stop()
            return
        for _ in range(1000):
            loop.call_soon(tick)
        loop.call_soon(batch)

    def work():
        loop.call_soon(batch)
        loop.run_forever()
        return done

    return work
