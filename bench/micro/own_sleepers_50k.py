"""The question of sleepers_50k, asked with `asyncfast.sleep` on asyncfast (and `asyncio.sleep` on the other loops)."""

import loops
from micro import sleepers_50k

TITLE = "50,000 concurrent short `asyncfast.sleep`, per task"
OPS = 50_000
FIXED = True
FLOOR = None


def bench(loop, n):
    return sleepers_50k.bench(loop, n, loops.own_sleep(loop))
