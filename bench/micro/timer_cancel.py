"""What does a timeout cost that is armed and, as most are, cancelled?"""

TITLE = "timer scheduled (30 s) and cancelled"
OPS = 100_000
FLOOR = None
PER_TURN = 100


def bench(loop, n):
    done = 0

    def late():
        raise AssertionError("a cancelled timer ran")

    def churn():
        nonlocal done
        for _ in range(PER_TURN):
            timer = loop.call_later(30, late)
            timer.cancel()
            done += timer.cancelled()
        if done < n:
            loop.call_soon(churn)
        else:
            loop.stop()

    def work():
        loop.call_soon(churn)
        loop.run_forever()
        return done

    return work
