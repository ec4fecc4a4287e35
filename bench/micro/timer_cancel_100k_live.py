"""Does arming and cancelling a timeout get slower when 100,000 other timers are alive?"""

from micro import timer_cancel

TITLE = "timer scheduled (30 s) and cancelled, 100,000 others live"
OPS = 100_000
FLOOR = None
live = []


def bench(loop, n):
    if not live:
        live.extend(loop.call_later(60 + i / 1000, print) for i in range(100_000))
    return timer_cancel.bench(loop, n)
