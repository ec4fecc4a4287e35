"""What does a callback cost, in both threads together, when another thread schedules it?"""

import threading

TITLE = "call_soon_threadsafe from another thread"
OPS = 50_000
FLOOR = None


def bench(loop, n):
    done = 0

    def tick():
        nonlocal done
        done += 1
        if done == n:
            loop.stop()

    def feed():
        for _ in range(n):
            loop.call_soon_threadsafe(tick)

    def work():
        feeder = threading.Thread(target=feed)
        loop.call_soon(feeder.start)
        loop.run_forever()
        feeder.join()
        return done

    return work
