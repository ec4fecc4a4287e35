"""The question of stream_lines, asked of `asyncfast.StreamReader` on asyncfast (and asyncio's on the other loops)."""

import loops

from micro import stream_lines

TITLE = "`async for line in reader`, per line, asyncfast's reader"
OPS = stream_lines.OPS
FLOOR = None


def bench(loop, n):
    return stream_lines.bench(loop, n, loops.own(loop, "StreamReader"))
