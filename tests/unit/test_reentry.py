"""A loop that runs within itself: asyncio's can, once a program has put a _run_once() of its own in the place of the loop's, made
of what is private there.  nest_asyncio does so, for notebooks."""

import asyncio
import contextvars
import functools
import heapq
import socket

import pytest
from _turns import turn

import asyncfast

VAR = contextvars.ContextVar("VAR", default="-")


def run_without_current_task(loop, handle):
    task = asyncio.current_task(loop)
    if task is not None:
        asyncio.tasks._leave_task(loop, task)
    try:
        handle._run()
    finally:
        if task is not None:
            asyncio.tasks._enter_task(loop, task)


def turn_within(loop):
    """asyncio's _run_once() as such programs have it."""
    ready, scheduled = loop._ready, loop._scheduled
    timeout = 0 if ready or loop._stopping else max(scheduled[0]._when - loop.time(), 0) if scheduled else None
    loop._process_events(loop._selector.select(timeout))
    while scheduled and scheduled[0]._when <= loop.time():
        ready.append(heapq.heappop(scheduled))
    for _ in range(len(ready)):
        if ready and not (handle := ready.popleft())._cancelled:
            run_without_current_task(loop, handle)


@pytest.fixture
def nested(loop):
    """A loop that lets turns be made within its turns."""
    loop._run_once = functools.partial(turn_within, loop)
    return loop


def complete(loop, awaitable):
    """run_until_complete() within a turn of the loop."""
    future = asyncio.ensure_future(awaitable, loop=loop)
    while not future.done():
        turn_within(loop)
    return future.result()


@pytest.mark.parametrize("others", [0, 1, 5, 300])
def test_a_turn_within_takes_the_rest_of_the_turn(nested, others):
    calls = []

    def first():
        nested.call_soon(calls.append, "later")
        turn_within(nested)
        calls.append("first")

    nested.call_soon(first)
    for i in range(others):
        nested.call_soon(calls.append, i)
    turn(nested)
    assert calls == [*range(others), "later", "first"]
    nested.call_soon(calls.append, "on it goes")
    turn(nested)
    assert calls[others + 2:] == ["on it goes"]


def test_each_callback_makes_a_turn(nested):
    calls = []

    def callback(i):
        calls.append(i)
        turn_within(nested)
        calls.append(-i)

    for i in range(1, 20):
        nested.call_soon(callback, i)
    turn(nested)
    assert calls == [*range(1, 20), *range(-19, 0)]


def test_a_task_runs_others_within_its_step(nested):
    seen = []

    async def main(depth):
        me = asyncio.current_task()
        VAR.set(depth)
        for delay in (0, 0.001):
            await asyncio.sleep(delay)
            if depth:
                assert complete(nested, main(depth - 1)) == depth - 1
            else:
                complete(nested, asyncio.sleep(delay))
            assert asyncio.current_task() is me and VAR.get() == depth
            seen.append(depth)
        return depth

    assert nested.run_until_complete(main(3)) == 3
    assert len(seen) == 2 + 4 + 8 + 16 and asyncio.current_task(nested) is None


def test_timers_fire_within(nested):
    async def main():
        loop, calls = asyncio.get_running_loop(), []
        loop.call_later(0.002, calls.append, 2)
        loop.call_later(0.001, calls.append, 1)
        complete(nested, asyncio.sleep(0.003))
        return calls

    assert nested.run_until_complete(main()) == [1, 2]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_is_raised_within_comes_out(nested, error):
    async def fails():
        await asyncio.sleep(0)
        raise error("within")

    async def main():
        me = asyncio.current_task()
        with pytest.raises(error, match="within"):
            complete(nested, fails_task)
        assert asyncio.current_task() is me
        await asyncio.sleep(0)
        return "went on"

    fails_task = nested.create_task(fails())
    assert nested.run_until_complete(main()) == "went on"
    with pytest.raises(error):
        fails_task.result()


def test_what_a_callback_has_written_is_sent_within(nested):
    ours, peer = socket.socketpair()
    with peer:
        peer.setblocking(False)
        transport, _ = nested.run_until_complete(nested.create_connection(asyncio.Protocol, sock=ours))
        received = []

        def callback():
            transport.write(b"held back")
            received.append(complete(nested, nested.sock_recv(peer, 100)))

        nested.call_soon(callback)
        turn(nested)
        assert received == [b"held back"]
        transport.close()
        turn(nested, 2)


@pytest.mark.only_asyncfast
def test_whom_a_callback_has_woken_goes_on_within(nested):
    channel, received = asyncfast.Channel(), []

    async def receive():
        return await channel.receive()

    def callback():
        channel.send_nowait("item")
        received.append(complete(nested, receiver))

    receiver = nested.create_task(receive())
    turn(nested)
    nested.call_soon(callback)
    turn(nested)
    assert received == ["item"]


@pytest.mark.only_asyncfast
def test_select_waits_no_longer_than_it_is_told(loop):
    for timeout in (0, 0.001):
        assert loop._selector.select(timeout) == []
    calls = []
    loop.call_later(0.001, calls.append, 1)
    while not calls:
        loop._selector.select(None)
