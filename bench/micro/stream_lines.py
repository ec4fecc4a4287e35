"""What does a line of 40 bytes cost that `async for line in reader` gives, 100 of them coming at once?"""

import asyncio

TITLE = "`async for line in reader`, per line"
OPS = 50_000
FLOOR = None
CHUNK = 100  # lines that come at once


def bench(loop, n, new=asyncio.StreamReader):
    def feed(reader, left):
        reader.feed_data(b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n" * CHUNK)
        if left > CHUNK:
            loop.call_soon(feed, reader, left - CHUNK)
        else:
            reader.feed_eof()

    async def main():
        reader = new(loop=loop)
        feed(reader, n)
        done = 0
        async for line in reader:
            done += 1
        return done

    return lambda: loop.run_until_complete(main())
