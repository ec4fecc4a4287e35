"""The question of stream_exactly, asked of `asyncfast.StreamReader` on asyncfast (and asyncio's on the other loops)."""

import loops

TITLE = "`reader.readexactly(40)`, asyncfast's reader"
OPS = 50_000
FLOOR = None
CHUNK = 100  # messages that come at once


def bench(loop, n):
    def feed(reader, left):
        reader.feed_data(b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" * CHUNK)
        if left > CHUNK:
            loop.call_soon(feed, reader, left - CHUNK)
        else:
            reader.feed_eof()

    async def main():
        reader = loops.own(loop, "StreamReader")(loop=loop)
        feed(reader, n)
        done = 0
        while done < n and await reader.readexactly(40):
            done += 1
        return done

    return lambda: loop.run_until_complete(main())
