"""The question of stream_exactly, asked of `asyncfast.StreamReader` on asyncfast (and asyncio's on the other loops)."""

import loops

from micro import stream_exactly

TITLE = "`reader.readexactly(40)`, asyncfast's reader"
OPS = stream_exactly.OPS
FLOOR = None


def bench(loop, n):
    return stream_exactly.bench(loop, n, loops.own(loop, "StreamReader"))
