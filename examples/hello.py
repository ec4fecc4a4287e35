"""An asyncio program as any other, run on asyncfast: tasks, a timer, a queue and a thread, and what each did when."""

import asyncio
import platform
import time

import asyncfast


async def produce(queue):
    for number in (1, 2, 3):
        await asyncio.sleep(0.1)
        say(f"producer: puts {number}")
        await queue.put(number)
    await queue.put(None)


async def consume(queue):
    total = 0
    while (number := await queue.get()) is not None:
        total += number
    say(f"consumer: the sum is {total}")
    return total


async def main():
    loop = asyncio.get_running_loop()
    print(f"Python {platform.python_version()}, asyncfast {asyncfast.__version__}")
    print(f"loop: {type(loop).__module__}.{type(loop).__qualname__}, backend: {loop.backend}")

    queue = asyncio.Queue()
    begun = loop.time()
    total, _ = await asyncio.gather(consume(queue), produce(queue))
    say(f"main: three waits of 0.1 s took {loop.time() - begun:.3f} s")

    try:
        async with asyncio.timeout(0.05):
            await asyncio.sleep(10)
    except TimeoutError:
        say("main: a sleep of 10 s was given up after 0.05 s")

    word = await asyncio.to_thread(lambda: time.sleep(0.05) or "back")
    say(f"main: a thread slept beside the loop, and is {word}")
    assert total == 6
    print("hello from asyncfast")


START = time.monotonic()


def say(text):
    print(f"{time.monotonic() - START:6.3f} s  {text}")


if __name__ == "__main__":
    asyncfast.run(main())
