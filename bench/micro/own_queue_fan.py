"""The question of queue_fan, asked of a channel on asyncfast (and of `asyncio.Queue` on the other loops)."""

import loops

from micro import queue_fan

TITLE = "`asyncfast.Channel(16)`, 10 senders and 10 receivers, per item"
OPS = queue_fan.OPS
FLOOR = None


def bench(loop, n):
    return queue_fan.bench(loop, n, *loops.own_queue(loop))
