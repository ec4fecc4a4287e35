"""What does `await reader.readexactly(40)` cost, 100 messages of this size coming at once?"""

import asyncio

TITLE = "`reader.readexactly(40)`"
OPS = 50_000
FLOOR = None
CHUNK = 100  # messages that come at once


def bench(loop, n, new=asyncio.StreamReader):
    def feed(reader, left):
        reader.feed_data(b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" * CHUNK)
        if left > CHUNK:
            loop.call_soon(feed, reader, left - CHUNK)
        else:
            reader.feed_eof()

    async def main():
        reader = new(loop=loop)
        feed(reader, n)
        done = 0
        while done < n and await reader.readexactly(40):
            done += 1
        return done

    return lambda: loop.run_until_complete(main())
