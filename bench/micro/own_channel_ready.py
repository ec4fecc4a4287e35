"""What does a step of `async for` cost over a channel that is full (on the loops that have none: a queue, by get())?"""

import loops

TITLE = "`async for` over a ready `asyncfast.Channel`, per item (`Queue.get()` elsewhere)"
OPS = 200_000
FLOOR = None


def bench(loop, n):
    new, _, receive = loops.own_queue(loop)

    async def iterate(channel):
        channel.close()
        done = 0
        async for item in channel:
            done += item
        return done

    async def get(queue):
        done = 0
        for _ in range(n):
            done += await receive(queue)
        return done

    def work():
        queue = new()
        ours = hasattr(queue, "send_nowait")
        put = queue.send_nowait if ours else queue.put_nowait
        for _ in range(n):
            put(1)
        return loop.run_until_complete((iterate if ours else get)(queue))

    return work
