"""What does it cost to schedule and run a timer that is due at once, when 100,000 are?

uvloop rounds these delays to 0 ms and makes plain callbacks of them; timer_fire_waited asks with longer ones.
"""

import random

TITLE = "100,000 due timers fired"
OPS = 100_000
FIXED = True
FLOOR = None


def bench(loop, n):
    delays = [random.random() * 1e-4 for _ in range(n)]
    done = 0

    def tick():
        nonlocal done
        done += 1
        if done == n:
            loop.stop()

    def work():
        for delay in delays:
            loop.call_later(delay, tick)
        loop.run_forever()
        return done

    return work
