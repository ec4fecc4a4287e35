"""Loops: made, run, closed, with things left in them; runners; signal handlers; refused runs."""

import asyncio
import signal
import socket
import sys

import asyncfast
from _check import ON_ASYNCIO, SENTINEL, check, finish, new_event_loop


async def work():
    await asyncio.gather(*[asyncio.sleep(0) for _ in range(3)])
    return SENTINEL


def empty():
    new_event_loop().close()


def worked():
    loop = new_event_loop()
    loop.run_until_complete(work())
    loop.close()


def full():
    loop = new_event_loop()
    loop.run_until_complete(work())
    loop.call_soon(repr, SENTINEL)
    loop.call_soon_threadsafe(repr, SENTINEL)
    loop.call_later(1000, repr, SENTINEL)
    loop.create_future().add_done_callback(lambda future, x=SENTINEL: None)
    loop.myself, loop.thing = loop, SENTINEL
    loop.set_exception_handler(lambda loop, context, x=SENTINEL: None)
    left, right = socket.socketpair()
    with left, right:
        loop.add_reader(left, repr, SENTINEL)
        loop.add_writer(left, repr, SENTINEL)
        loop.run_until_complete(work())
        loop.close()


def refused():
    if ON_ASYNCIO and sys.version_info < (3, 13, 1):
        return  # it drops the running loop

    async def main():
        for each in (loop, other):
            try:
                each.run_forever()
            except RuntimeError:
                pass

    loop, other = new_event_loop(), new_event_loop()
    loop.run_until_complete(main())
    for each in (loop, other):
        each.close()
    try:
        loop.call_soon(repr, SENTINEL)
    except RuntimeError:
        pass


def runners():
    asyncfast.run(work())
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(work())
        runner.run(work())


def signals():
    loop = new_event_loop()
    loop.add_signal_handler(signal.SIGUSR1, repr, SENTINEL)
    signal.raise_signal(signal.SIGUSR1)
    loop.run_until_complete(work())
    loop.close()


def debugged():
    loop = new_event_loop()
    loop.set_debug(True)
    loop.run_until_complete(work())
    loop.close()


for scenario in (empty, worked):
    check(scenario, 500)
for scenario in (full, refused, runners, signals, debugged):
    check(scenario, 100)
finish()
