"""asyncfast.Channel where something comes in between: threads while it ends, destructors, constructors, foreign loops."""

import asyncio
import contextlib
import gc
import threading
import weakref

import pytest

from _turns import EACH, settle
from asyncfast import Channel, ChannelClosed, ChannelEmpty, ChannelFull


def start(*coroutines):
    loop = asyncio.get_running_loop()
    return [loop.create_task(each) for each in coroutines]


# -- the end, with somebody waiting

@EACH("error", [None, ValueError("why")])
async def test_close_while_it_is_full_and_senders_wait(loop, error):
    """What lies in it is received still, in order; those that wait have sent nothing and hear why."""
    channel = Channel(2)
    for i in range(2):
        channel.send_nowait(i)
    tasks = start(*[channel.send(i) for i in range(2, 6)])
    await settle()
    channel.close(error)
    assert "items=2 receivers=0 senders=0 closed" in repr(channel)
    outcome = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in outcome] == [ChannelClosed] * 4 and {each.__cause__ for each in outcome} == {error}
    assert await channel.receive() == 0 and channel.receive_nowait() == 1
    with pytest.raises(ChannelClosed if error is None else ValueError):
        await channel.receive()
    assert len(channel) == 0


async def test_closed_in_the_turn_in_which_senders_were_granted_places(loop):
    channel = Channel(3)
    for i in range(3):
        channel.send_nowait(i)
    tasks = start(*[channel.send(i) for i in "abcde"])
    await settle()
    assert [channel.receive_nowait() for _ in range(3)] == [0, 1, 2]    # three are granted
    tasks[1].cancel()
    channel.close()
    outcome = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in outcome] == [ChannelClosed, asyncio.CancelledError] + [ChannelClosed] * 3
    assert len(channel) == 0 and not channel.full()


# -- many at once

async def test_many_receivers_are_woken_in_order_and_some_are_cancelled(loop):
    """In the turn in which all are served: what the cancelled ones had comes first to those that wait, then to the front."""
    channel, got = Channel(), []

    async def receive(name):
        got.append((name, await channel.receive()))

    tasks = start(*[receive(name) for name in range(10)])
    await settle()
    for item in range(8):
        channel.send_nowait(item)
    for name in (0, 3, 7):
        tasks[name].cancel()
    await asyncio.wait(tasks[:8])
    await settle()
    assert [name for name, _ in got] == [1, 2, 4, 5, 6, 8, 9]
    assert [item for _, item in got] == [1, 2, 4, 5, 6, 0, 3] and channel.receive_nowait() == 7
    assert channel.maxsize == 0 and "receivers=0" in repr(channel)


async def test_many_senders_are_granted_places_and_some_are_cancelled(loop):
    channel = Channel(4)
    for _ in range(4):
        channel.send_nowait(None)
    tasks = start(*[channel.send(i) for i in range(10)])
    await settle()
    for _ in range(4):
        channel.receive_nowait()
    for i in (0, 2):
        tasks[i].cancel()
    await settle()
    assert [task.done() for task in tasks] == [True] * 6 + [False] * 4 and channel.full()
    assert [channel.receive_nowait() for _ in range(4)] == [1, 3, 4, 5]
    await settle()
    assert [channel.receive_nowait() for _ in range(4)] == [6, 7, 8, 9]


async def test_who_comes_later_does_not_overtake(loop):
    """Neither send() nor receive() nor their kin: a place that was granted, an item that was handed over, is taken."""
    channel = Channel(1)
    channel.send_nowait("first")
    waiting, = start(channel.send("second"))
    await settle()
    assert channel.receive_nowait() == "first"
    late, = start(channel.send("third"))
    with pytest.raises(ChannelFull):
        channel.send_nowait("now")
    with pytest.raises(ChannelFull):
        channel.send_threadsafe("now")
    await settle()
    assert waiting.done() and not late.done() and await channel.receive() == "second" and await channel.receive() == "third"
    waiting, = start(channel.receive())
    await settle()
    channel.send_nowait("item")
    late, = start(channel.receive())
    with pytest.raises(ChannelEmpty):
        channel.receive_nowait()
    await settle()
    assert waiting.result() == "item" and not late.done()
    channel.send_nowait("other")
    assert await late == "other"


@EACH("what", ["close", "throw", "drop"])
async def test_a_sender_that_was_granted_a_place_and_is_no_more(loop, what):
    channel = Channel(1)
    channel.send_nowait(0)
    by_hand = channel.send("by hand")
    by_hand.send(None)
    waiting, = start(channel.send("waiting"))
    await settle()
    assert channel.receive_nowait() == 0
    if what == "throw":
        with pytest.raises(KeyError):
            by_hand.throw(KeyError())
    else:
        by_hand.close() if what == "close" else None
    del by_hand
    await settle()
    assert waiting.done() and channel.receive_nowait() == "waiting" and not channel.full()


# -- threads

def test_threads_send_while_it_is_closed(loop):
    """Each send() has either happened or raised."""
    def work(first):
        for i in range(first, first + 100_000):
            try:
                channel.send_threadsafe(i)
            except ChannelClosed:
                return
            sent.append(i)

    async def main():
        async for item in channel:
            got.append(item)
            if len(got) == 500:
                channel.close()

    channel, sent, got = Channel(), [], []
    threads = [threading.Thread(target=work, args=(10**6 * i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    loop.run_until_complete(main())
    for thread in threads:
        thread.join()
    assert sorted(got) == sorted(sent) and len(channel) == 0


def test_threads_send_while_the_loop_is_closed(loop_factory):
    """What was sent before lies in the channel or was received; then it raises RuntimeError."""
    def work():
        try:
            for i in range(10**6):
                channel.send_threadsafe(i)
                sent.append(i)
                while len(channel) > 100:
                    pass
        except RuntimeError as error:
            said.append(str(error))

    async def main():
        while len(got) < 50:
            got.append(await channel.receive())

    loop, channel, sent, got, said = loop_factory(), Channel(), [], [], []
    with contextlib.suppress(asyncio.TimeoutError):
        loop.run_until_complete(asyncio.wait_for(channel.receive(), 0.0001))    # it is this loop's
    thread = threading.Thread(target=work)
    thread.start()
    loop.run_until_complete(main())
    loop.close()
    while not said:
        with contextlib.suppress(ChannelEmpty):
            got.append(channel.receive_nowait())
    thread.join()
    while len(channel):
        got.append(channel.receive_nowait())
    assert got == sent and said == ["Event loop is closed"]


# -- what runs in between

class Sends:
    """An item that sends another when it is let go of."""

    def __init__(self, channel, then):
        self.channel, self.then = channel, then

    def __del__(self):
        with contextlib.suppress(ChannelClosed, ChannelFull):
            self.channel.send_nowait(self.then)


async def test_an_item_whose_destructor_sends(loop):
    channel = Channel()
    channel.send_nowait(Sends(channel, "from __del__"))
    channel.receive_nowait()
    assert channel.receive_nowait() == "from __del__"
    waiting, = start(channel.receive())
    await settle()
    item = Sends(channel, "to one that waits")
    del item
    assert await waiting == "to one that waits"
    channel = Channel(1)
    channel.send_nowait(0)
    sending, = start(channel.send(Sends(channel, "of a cancelled send")))
    await settle()
    channel.receive_nowait()
    sending.cancel()
    await asyncio.wait([sending])
    del sending
    gc.collect()
    assert channel.receive_nowait() == "of a cancelled send" and len(channel) == 0


def test_a_channel_that_goes_with_items_whose_destructors_send(loop):
    channel = Channel()
    other = Channel()
    for i in range(5):
        channel.send_nowait(Sends(other, i))
    del channel
    assert [other.receive_nowait() for _ in range(5)] == list(range(5))
    channel = Channel()
    ref = weakref.ref(channel)
    channel.send_nowait(Sends(channel, "to itself"))    # a cycle
    del channel
    gc.collect()
    gc.collect()
    assert ref() is None


async def test_an_error_whose_constructor_uses_the_channel(loop):
    class Error(Exception):
        def __init__(self):
            channel.send_nowait("from __init__")
            channel.close(ValueError("first"))

    class Fails(Exception):
        def __init__(self):
            raise KeyError("no error")

    channel = Channel()
    with pytest.raises(KeyError):
        channel.close(Fails)
    assert not channel.closed
    channel.close(Error)
    assert await channel.receive() == "from __init__"
    with pytest.raises(ValueError, match="first"):
        await channel.receive()


async def test_a_receiver_that_sends_and_receives_when_it_is_woken(loop):
    """A ring of tasks, each of which wakes the next."""
    channels, seen = [Channel(1) for _ in range(5)], []

    async def pass_on(i):
        async for item in channels[i]:
            seen.append((i, item))
            if item == 20:
                for each in channels:
                    each.close()
                return
            await channels[(i + 1) % 5].send(item + 1)

    tasks = start(*[pass_on(i) for i in range(5)])
    channels[0].send_nowait(0)
    await asyncio.gather(*tasks)
    assert seen == [(n % 5, n) for n in range(21)]


class Reenters(asyncio.SelectorEventLoop):
    """A foreign loop, whose call_soon() is Python and does as it likes."""

    then = None

    def call_soon(self, *args, **kwargs):
        handle = super().call_soon(*args, **kwargs)
        then, self.then = self.then, None
        if then is not None:
            then()
        return handle


@EACH("then", ["send", "receive", "close", "drop"])
def test_a_loop_that_uses_the_channel_while_it_wakes_somebody(then):
    def use():
        if then == "send":
            channel.send_nowait("inside")
        elif then == "receive":
            with pytest.raises(ChannelEmpty):
                channel.receive_nowait()
        elif then == "close":
            channel.close()
        else:
            gc.collect()

    async def main():
        tasks = start(channel.receive(), channel.receive())
        await settle()
        loop.then = use
        channel.send_nowait("outside")
        await settle()
        if not tasks[1].done():
            channel.send_nowait("last")
        return await asyncio.gather(*tasks, return_exceptions=True)

    channel, loop = Channel(), Reenters()
    with contextlib.closing(loop):
        first, second = loop.run_until_complete(main())
    assert first == "outside"
    assert type(second) is ChannelClosed if then == "close" else second == ("inside" if then == "send" else "last")


async def test_initialised_again(loop):
    """With more places: those that wait get them."""
    channel = Channel(1)
    channel.send_nowait(0)
    tasks = start(*[channel.send(i) for i in range(1, 5)])
    await settle()
    channel.__init__(3)
    await settle()
    assert [task.done() for task in tasks] == [True, True, False, False] and len(channel) == 3
    channel.__init__(1)
    assert channel.full()
    got = []
    while len(got) < 5:
        got.append(await channel.receive())
        await settle()
    assert got == [0, 1, 2, 3, 4]


def test_a_subclass_that_does_not_initialise(loop):
    class Sub(Channel):
        def __init__(self):
            pass

    channel = Sub()
    channel.send_nowait(1)
    assert channel.maxsize == 0 and loop.run_until_complete(channel.receive()) == 1


def test_one_loop_after_the_other(loop):
    """Where nobody has waited yet, it is no loop's."""
    channel = Channel(1)

    async def use():
        await channel.send(1)
        return await channel.receive()

    assert loop.run_until_complete(use()) == 1
    other = asyncio.SelectorEventLoop()
    with contextlib.closing(other):
        assert other.run_until_complete(use()) == 1
