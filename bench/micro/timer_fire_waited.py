"""What does it cost to run a timer that was waited for, when 100,000 fall due in random order? Only running counts."""

import random
import time

TITLE = "100,000 timers of random deadlines fired (not scheduled)"
OPS = 100_000
FIXED = True
FLOOR = None


def bench(loop, n):
    done = 0

    def tick():
        nonlocal done
        done += 1
        if done == n:
            loop.stop()

    # none is due before the last is scheduled: some loops make less of a timer that is due at once
    first, spread = loop.time() + n * 5e-6, n * 1e-7
    for _ in range(n):
        loop.call_at(first + random.random() * spread, tick)
    time.sleep(max(0, first + spread - loop.time()) + 0.01)

    def work():
        loop.run_forever()
        return done

    return work
