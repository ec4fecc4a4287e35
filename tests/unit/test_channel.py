"""asyncfast.Channel: nothing sent is lost, nobody who waits is forgotten, whatever is cancelled when."""

import asyncio
import collections.abc
import gc
import inspect
import random
import threading
import weakref

import pytest

from _turns import turn, until
from asyncfast import Channel, ChannelClosed, ChannelEmpty, ChannelFull

pytestmark = pytest.mark.every_task


async def turns(count=3):
    for _ in range(count):
        await asyncio.sleep(0)


def start(*coroutines):
    """Tasks of them."""
    loop = asyncio.get_running_loop()
    return [loop.create_task(each) for each in coroutines]


async def received(channel, got):
    async for item in channel:
        got.append(item)
    return "end"


async def cancelled(task):
    with pytest.raises(asyncio.CancelledError):
        await task


class Thing:
    pass


# -- without waiting

def test_nowait():
    channel = Channel(2)
    assert (len(channel), channel.maxsize, channel.closed, channel.full()) == (0, 2, False, False)
    with pytest.raises(ChannelEmpty):
        channel.receive_nowait()
    assert channel.send_nowait(1) is None and channel.send_nowait(2) is None
    assert len(channel) == 2 and channel.full()
    with pytest.raises(ChannelFull):
        channel.send_nowait(3)
    assert [channel.receive_nowait(), channel.receive_nowait()] == [1, 2]
    with pytest.raises(ChannelEmpty):
        channel.receive_nowait()


@pytest.mark.parametrize("maxsize", [0, -1])
def test_any_number_of_items(maxsize):
    channel = Channel(maxsize)
    for i in range(1000):
        channel.send_nowait(i)
    assert len(channel) == 1000 and not channel.full() and channel.maxsize == maxsize
    assert [channel.receive_nowait() for _ in range(1000)] == list(range(1000))


def test_arguments():
    assert Channel().maxsize == 0 and Channel(maxsize=3).maxsize == 3
    for bad in ("1", 1.5, None):
        with pytest.raises(TypeError):
            Channel(bad)
    for bad in ((1, 2), ()):
        with pytest.raises(TypeError):
            Channel().send_nowait(*bad)
    with pytest.raises(TypeError):
        Channel().receive_nowait(1)
    with pytest.raises(OverflowError):
        Channel(1 << 100)


def test_errors_pass_for_those_of_asyncio():
    assert issubclass(ChannelEmpty, asyncio.QueueEmpty) and issubclass(ChannelFull, asyncio.QueueFull)
    assert issubclass(ChannelClosed, getattr(asyncio, "QueueShutDown", Exception))
    assert [error.__module__ for error in (ChannelClosed, ChannelEmpty, ChannelFull)] == ["asyncfast"] * 3


def test_type():
    class Sub(Channel):
        def __init__(self, name):
            super().__init__(1)
            self.name = name

    sub = Sub("x")
    assert sub.name == "x" and sub.maxsize == 1 and "Sub" in repr(sub)
    assert Channel[int].__origin__ is Channel and Channel[int](2).maxsize == 2
    channel = Channel(2)
    channel.send_nowait(1)
    assert "maxsize=2 items=1 receivers=0 senders=0 at" in repr(channel)
    channel.close()
    assert "closed" in repr(channel)
    assert isinstance(channel, collections.abc.AsyncIterator)
    assert weakref.ref(channel)() is channel


# -- waiting

async def test_ready_items_need_no_turn(loop):
    turned = []
    loop.call_soon(turned.append, 1)
    channel = Channel()
    assert await channel.send(1) is None
    assert await channel.receive() == 1
    channel.send_nowait(2)
    assert await anext(channel) == 2 and turned == []


@pytest.mark.parametrize("item", [None, 0, (), (1, 2), ValueError("x"), StopIteration(1), asyncio.CancelledError()])
async def test_any_item(loop, item):
    channel = Channel(1)
    task, = start(channel.receive())
    await turns()
    await channel.send(item)
    assert await task is item
    await channel.send(item)
    assert await channel.receive() is item


async def test_the_order_of_items(loop):
    for maxsize in range(5):
        channel, got = Channel(maxsize), []

        async def send():
            for i in range(20):
                await channel.send(i)
            channel.close()

        tasks = start(send(), received(channel, got))
        assert await asyncio.gather(*tasks) == [None, "end"] and got == list(range(20))


async def test_receivers_are_served_in_the_order_of_waiting(loop):
    channel = Channel(1)
    tasks = start(*[channel.receive() for _ in range(4)])
    await turns()
    assert "receivers=4" in repr(channel) and not channel.full()
    for i in range(3):
        channel.send_nowait(i)              # each is handed to one who waits: there is a place still
    assert len(channel) == 0
    with pytest.raises(ChannelEmpty):
        channel.receive_nowait()            # nobody takes what is handed to another
    channel.send_nowait(3)
    channel.send_nowait(4)
    assert len(channel) == 1
    assert await asyncio.gather(*tasks) == [0, 1, 2, 3] and await channel.receive() == 4


async def test_senders_are_served_in_the_order_of_waiting(loop):
    channel = Channel(2)
    channel.send_nowait(0)
    channel.send_nowait(1)
    tasks = start(*[channel.send(i) for i in (2, 3, 4)])
    await turns()
    assert "senders=3" in repr(channel) and channel.full()
    got = [channel.receive_nowait()]
    with pytest.raises(ChannelFull):
        channel.send_nowait("no")           # the place is granted to one who waits
    for _ in range(4):
        got.append(await channel.receive())
        await turns()
    assert got == [0, 1, 2, 3, 4]
    await asyncio.gather(*tasks)


async def test_a_receiver_that_waits_is_woken_by_a_sender_that_waited(loop):
    """The place that was granted is free again when the sender hands its item to a receiver: the next one gets it."""
    channel = Channel(1)
    channel.send_nowait(0)
    senders = start(channel.send(1), channel.send(2), channel.send(3))
    await turns()
    assert channel.receive_nowait() == 0
    receivers = start(channel.receive(), channel.receive())
    await turns(6)
    assert [task.done() for task in senders] == [True] * 3
    assert await asyncio.gather(*receivers) == [1, 2] and channel.receive_nowait() == 3


async def test_several_receivers_and_senders(loop):
    channel, got = Channel(3), [[] for _ in range(4)]

    async def send(first):
        for i in range(50):
            await channel.send(first + i)

    readers = start(*[received(channel, each) for each in got])
    await asyncio.gather(*start(*[send(1000 * i) for i in range(3)]))
    channel.close()
    assert await asyncio.gather(*readers) == ["end"] * 4
    assert sorted(sum(got, [])) == sorted(1000 * i + j for i in range(3) for j in range(50))
    for each in got:
        for i in range(3):  # from one sender to one receiver the order holds
            assert [item for item in each if item // 1000 == i] == sorted(item for item in each if item // 1000 == i)


# -- closing

async def test_close(loop):
    channel = Channel()
    channel.send_nowait(1)
    channel.send_nowait(2)
    channel.close()
    channel.close(ValueError("too late"))
    assert channel.closed and len(channel) == 2
    with pytest.raises(ChannelClosed):
        channel.send_nowait(3)
    with pytest.raises(ChannelClosed):
        channel.send_threadsafe(3)
    with pytest.raises(ChannelClosed) as caught:
        await channel.send(3)
    assert caught.value.__cause__ is None
    assert await channel.receive() == 1 and [item async for item in channel] == [2]
    for _ in range(2):
        with pytest.raises(ChannelClosed):
            await channel.receive()
        with pytest.raises(ChannelClosed):
            channel.receive_nowait()
        assert [item async for item in channel] == [] and await anext(channel, "default") == "default"


async def test_close_with_an_exception(loop):
    channel, got = Channel(), []
    channel.send_nowait(1)
    error = ValueError("why")
    channel.close(error)
    for _ in range(2):
        with pytest.raises(ValueError) as caught:
            await received(channel, got)
        assert caught.value is error and got == [1]
    with pytest.raises(ValueError, match="why"):
        await channel.receive()
    with pytest.raises(ValueError, match="why"):
        channel.receive_nowait()
    with pytest.raises(ChannelClosed) as caught:
        channel.send_nowait(3)
    assert caught.value.__cause__ is error


async def test_the_error_is_raised_anew_for_each(loop):
    """It has the traceback that it was closed with, and where it is raised: not where it was raised before."""
    def depth(traceback):
        return 0 if traceback is None else 1 + depth(traceback.tb_next)

    async def ask(channel, depths):
        try:
            await channel.receive()
        except KeyError as error:
            depths.append(depth(error.__traceback__))

    fresh, raised, depths = Channel(), Channel(), []
    fresh.close(KeyError())
    try:
        {}["there"]
    except KeyError as error:
        raised.close(error)
    for channel in (fresh, raised):
        for _ in range(3):
            await ask(channel, depths)
    assert depths == [1, 1, 1, 2, 2, 2]


async def test_what_it_is_closed_with(loop):
    channel = Channel()
    for bad in (1, "x", int, StopIteration, StopIteration(), StopAsyncIteration()):
        with pytest.raises(TypeError, match="close"):
            channel.close(bad)
    assert not channel.closed
    channel.close(exc=KeyError)
    with pytest.raises(KeyError):
        await channel.receive()


@pytest.mark.parametrize("error", [None, ValueError("why")])
async def test_close_wakes_receivers(loop, error):
    channel, got = Channel(), []
    tasks = start(received(channel, got), channel.receive(), received(channel, got))
    await turns()
    channel.close(error)
    outcome = await asyncio.gather(*tasks, return_exceptions=True)
    assert outcome == [error] * 3 if error else (outcome[::2] == ["end"] * 2 and type(outcome[1]) is ChannelClosed)


async def test_close_wakes_senders(loop):
    """One that had a place already but has not run yet has sent nothing either."""
    channel = Channel(1)
    channel.send_nowait(0)
    tasks = start(channel.send(1), channel.send(2))
    await turns()
    assert channel.receive_nowait() == 0
    channel.close()
    outcome = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in outcome] == [ChannelClosed] * 2 and len(channel) == 0


async def test_the_end_waits_for_items_that_may_come_back(loop):
    channel, got = Channel(), []
    first, = start(channel.receive())
    await turns()
    second, third = start(received(channel, got), received(channel, got))
    await turns()
    channel.send_nowait("item")     # handed to the first, which is cancelled before it runs
    channel.close()
    first.cancel()
    late, = start(received(channel, got))
    await cancelled(first)
    assert await asyncio.gather(second, third, late) == ["end"] * 3 and got == ["item"]


async def test_the_end_comes_when_the_last_item_is_taken_home(loop):
    channel, got = Channel(), []
    first, second = start(channel.receive(), received(channel, got))
    await turns()
    channel.send_nowait("item")
    channel.close()
    with pytest.raises(ChannelEmpty):
        channel.receive_nowait()
    assert await first == "item" and await second == "end" and got == []


# -- cancelling

async def test_cancelled_while_it_waits(loop):
    channel = Channel(1)
    first, second = start(channel.receive(), channel.receive())
    await turns()
    first.cancel("why")
    channel.send_nowait(1)
    with pytest.raises(asyncio.CancelledError, match="why"):
        await first
    assert await second == 1
    channel.send_nowait(0)
    first, second = start(channel.send(1), channel.send(2))
    await turns()
    first.cancel()
    await cancelled(first)
    assert channel.receive_nowait() == 0
    await second
    assert channel.receive_nowait() == 2 and len(channel) == 0


async def test_a_receiver_cancelled_when_it_was_woken_gives_the_item_to_the_next(loop):
    channel = Channel()
    first, second = start(channel.receive(), channel.receive())
    await turns()
    channel.send_nowait("one")
    first.cancel()
    await cancelled(first)
    assert await second == "one"


async def test_a_receiver_cancelled_when_it_was_woken_leaves_the_item_in_front(loop):
    channel = Channel(2)
    first, = start(channel.receive())
    await turns()
    for item in ("one", "two"):
        channel.send_nowait(item)
    first.cancel()
    await cancelled(first)
    assert [channel.receive_nowait(), channel.receive_nowait()] == ["one", "two"]


async def test_a_sender_cancelled_when_it_was_woken_leaves_the_place_to_the_next(loop):
    channel = Channel(1)
    channel.send_nowait("zero")
    first, second = start(channel.send("one"), channel.send("two"))
    await turns()
    assert channel.receive_nowait() == "zero"
    first.cancel()
    await cancelled(first)
    await second
    assert channel.receive_nowait() == "two" and len(channel) == 0


async def test_cancelled_before_it_started(loop):
    channel = Channel(1)
    for make in (channel.receive, lambda: channel.send(1)):
        task, = start(make())
        task.cancel()
        await cancelled(task)
    assert len(channel) == 0
    channel.send_nowait(1)
    assert channel.receive_nowait() == 1


async def test_cancellation_caught(loop):
    async def stubborn():
        for _ in range(3):
            try:
                return await channel.receive()
            except asyncio.CancelledError:
                caught.append(1)

    channel, caught = Channel(), []
    task, = start(stubborn())
    for _ in range(2):
        await turns()
        task.cancel()
    await turns()
    channel.send_nowait("item")
    assert await task == "item" and caught == [1, 1]


async def test_timeouts(loop):
    channel = Channel(1)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await channel.receive()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(channel.receive(), 0.001)
    channel.send_nowait(1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(channel.send(2), 0.001)
    assert await asyncio.wait_for(channel.receive(), 1000) == 1 and len(channel) == 0


def sum_of(seed, loop):
    """Senders, receivers and whoever cancels them, at random: each item sent is received once, no other is."""
    rng = random.Random(seed)
    channel = Channel(rng.choice([0, 1, 1, 2, 5]))
    sent, refused, got = [], [], []

    async def send(item):
        try:
            for _ in range(rng.randrange(3)):
                await asyncio.sleep(0)
            if rng.random() < 0.2:
                channel.send_nowait(item)
            else:
                await channel.send(item)
        except (asyncio.CancelledError, ChannelClosed, ChannelFull):
            refused.append(item)
            raise
        sent.append(item)

    async def receive():
        for _ in range(rng.randrange(3)):
            await asyncio.sleep(0)
        if rng.random() < 0.2:
            got.append(channel.receive_nowait())
        elif rng.random() < 0.5:
            got.append(await channel.receive())
        else:
            got.append(await anext(channel))

    async def main():
        tasks, item = [], 0
        for _ in range(rng.randrange(5, 60)):
            for _ in range(rng.randrange(4)):
                item += 1
                tasks += start(send(item) if rng.random() < 0.5 else receive())
            for _ in range(rng.randrange(3)):
                rng.choice(tasks or [asyncio.Future()]).cancel()
            await turns(rng.randrange(3))
        if rng.random() < 0.5:
            channel.close()
        for task in tasks:
            if rng.random() < 0.3:
                task.cancel()
        tasks += start(*[receive() for _ in range(rng.randrange(5))])
        channel.close()
        await asyncio.wait(tasks)
        for task in tasks:
            task.cancelled() or task.exception()
        async for each in channel:
            got.append(each)

    loop.run_until_complete(main())
    return sorted(sent), sorted(got), refused


@pytest.mark.parametrize("seeds", range(6))
def test_storm(loop, kind, seeds):
    for seed in range(10 if kind.debug else 40):
        sent, got, refused = sum_of(1000 * seeds + seed, loop)
        assert sent == got and not set(refused) & set(got), f"seed {1000 * seeds + seed}"


# -- from other threads

def test_send_threadsafe_wakes_a_loop_that_sleeps(loop):
    async def main():
        tasks = start(received(channel, got))
        await turns()
        thread.start()
        await asyncio.gather(*tasks)

    def work():
        for i in range(20):
            channel.send_threadsafe(i)
            while len(got) <= i:    # the loop is asleep again, or on its way
                pass
        loop.call_soon_threadsafe(channel.close)

    channel, got, thread = Channel(), [], threading.Thread(target=work)
    loop.run_until_complete(main())
    thread.join()
    assert got == list(range(20))


def test_many_threads(loop):
    async def main():
        tasks = start(*[received(channel, each) for each in got])
        for thread in threads:
            thread.start()
        await loop.run_in_executor(None, join)
        channel.close()
        await asyncio.gather(*tasks)

    def work(first):
        for i in range(200):
            while True:
                try:
                    channel.send_threadsafe(first + i)
                    break
                except ChannelFull:
                    pass

    def join():
        for thread in threads:
            thread.join()

    channel, got = Channel(10), [[], []]
    threads = [threading.Thread(target=work, args=(1000 * i,)) for i in range(3)]
    loop.run_until_complete(main())
    assert sorted(sum(got, [])) == sorted(1000 * i + j for i in range(3) for j in range(200))


def test_send_threadsafe_when_nobody_waits(loop):
    channel = Channel(1)
    channel.send_threadsafe(1)
    with pytest.raises(ChannelFull):
        channel.send_threadsafe(2)
    assert loop.run_until_complete(channel.receive()) == 1


def test_send_threadsafe_to_a_closed_loop(loop_factory):
    loop, channel = loop_factory(), Channel()
    loop.set_task_factory(None)
    with pytest.raises(TimeoutError):
        loop.run_until_complete(asyncio.wait_for(channel.receive(), 0.001))
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        channel.send_threadsafe(1)
    assert len(channel) == 0


def test_back_pressure_for_a_thread(loop):
    """send() is a coroutine: asyncio.run_coroutine_threadsafe() takes it."""
    async def main():
        assert await loop.run_in_executor(None, work) == "sent"

    def work():
        sending = asyncio.run_coroutine_threadsafe(channel.send(2), loop)
        loop.call_soon_threadsafe(channel.receive_nowait)
        sending.result(30)
        return "sent"

    channel = Channel(1)
    channel.send_nowait(1)
    loop.run_until_complete(main())
    assert channel.receive_nowait() == 2


def test_wrong_thread(loop, kind):
    """In debug mode, as call_soon() says it; and nothing has happened."""
    async def main():
        tasks = start(channel.receive())
        await turns()
        assert await loop.run_in_executor(None, work) == 3 * ["Non-thread-safe operation invoked on an event loop other "
                                                              "than the current one"]
        channel.send_nowait("item")
        assert await asyncio.gather(*tasks) == ["item"]

    def work():
        said = []
        for call in (lambda: channel.send_nowait(1), channel.receive_nowait, channel.close):
            try:
                call()
            except RuntimeError as error:
                said.append(str(error))
        return said

    channel = Channel()
    if kind.name == "asyncfast-debug":
        loop.run_until_complete(main())


def test_another_loop(loop_factory):
    async def use(channel):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(channel.receive(), 0.001)

    one, two, channel = loop_factory(), loop_factory(), Channel(1)
    one.run_until_complete(use(channel))
    with pytest.raises(RuntimeError, match="<asyncfast.Channel .*is bound to a different event loop"):
        two.run_until_complete(channel.receive())
    channel.send_nowait(1)
    with pytest.raises(RuntimeError, match="is bound to a different event loop"):
        two.run_until_complete(channel.send(1))
    assert two.run_until_complete(channel.receive()) == 1   # nothing waits


def test_no_loop():
    channel = Channel()
    with pytest.raises(RuntimeError, match="no running event loop"):
        channel.receive().send(None)
    channel.send_nowait(1)
    with pytest.raises(StopIteration) as caught:
        channel.receive().send(None)
    assert caught.value.value == 1


# -- the coroutines

async def test_they_are_coroutines(loop):
    channel = Channel()
    for coroutine, name in ((channel.receive(), "receive"), (channel.send(1), "send")):
        assert asyncio.iscoroutine(coroutine) and inspect.isawaitable(coroutine)
        assert (coroutine.__name__, coroutine.__qualname__) == (name, "Channel." + name)
        assert repr(coroutine).startswith(f"<coroutine object Channel.{name} at")
        assert not asyncio.isfuture(coroutine)
        coroutine.close()
    assert await asyncio.gather(channel.receive(), channel.send(1)) == [1, None]
    done, _ = await asyncio.wait(start(channel.receive(), channel.send(1)))
    assert {task.result() for task in done} == {1, None}
    async with asyncio.TaskGroup() as group:
        task = group.create_task(channel.receive())
        group.create_task(channel.send("x"))
    assert task.result() == "x"


async def test_awaited_twice(loop):
    channel = Channel()
    receiving = channel.receive()
    channel.send_nowait(1)
    assert await receiving == 1
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        await receiving
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        receiving.throw(ZeroDivisionError())
    receiving = channel.receive()
    with pytest.raises(TypeError, match="can't send non-None value to a just-started coroutine"):
        receiving.send(1)
    receiving.close()


async def test_awaited_by_two(loop):
    """The second is refused, and the first goes on waiting."""
    channel = Channel()
    receiving = channel.receive()

    async def wait():
        return await receiving

    first = asyncio.create_task(wait())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
        await wait()
    channel.send_nowait(1)
    assert await first == 1


def test_never_awaited():
    channel = Channel()
    for make, name in ((channel.receive, "receive"), (lambda: channel.send(1), "send")):
        with pytest.warns(RuntimeWarning, match=f"coroutine 'Channel.{name}' was never awaited"):
            make()
            gc.collect()
    channel.__anext__()     # as of an asynchronous generator
    assert len(channel) == 0


async def test_driven_by_hand(loop):
    """Whoever drives it gets a future, and may leave."""
    class Awaitable:
        def __await__(self):
            iterator = channel.receive().__await__()
            return "got", (yield from iterator)

    channel = Channel()
    task, = start(wrapped(Awaitable()))
    await turns()
    channel.send_nowait(1)
    assert await task == ("got", 1)
    for leave in ("drop", "close", "throw", "drop when woken", "close when woken", "throw when woken"):
        iterator = channel.receive().__await__()
        future = next(iterator)
        assert asyncio.isfuture(future) and future.get_loop() is loop and future._asyncio_future_blocking is True
        with pytest.raises(asyncio.InvalidStateError):
            future.result()
        if "woken" in leave:
            channel.send_nowait(leave)
            assert future.result() is None and len(channel) == 0
        if leave.startswith("close"):
            iterator.close()
        elif leave.startswith("throw"):
            with pytest.raises(KeyError):
                iterator.throw(KeyError())
        del iterator, future
        assert "receivers=0" in repr(channel)
        if "woken" in leave:
            assert channel.receive_nowait() == leave
    iterator = channel.receive().__await__()
    future = next(iterator)
    with pytest.raises(RuntimeError, match="await wasn't used with future"):
        next(iterator)
    assert not asyncio.isfuture(future) and "receivers=0" in repr(channel)


async def wrapped(awaitable):
    return await awaitable


async def test_as_a_future(loop):
    def called(future):
        calls.append(future)

    channel, calls = Channel(), []
    iterator = channel.receive().__await__()
    future = next(iterator)
    future.add_done_callback(called)
    with pytest.raises(RuntimeError, match="one callback"):
        future.add_done_callback(called)
    channel.send_nowait(1)
    assert calls == [] and not future.cancel()
    await turns(1)
    assert calls == [future]
    with pytest.raises(StopIteration) as caught:
        next(iterator)
    assert caught.value.value == 1
    iterator = channel.receive().__await__()
    future = next(iterator)
    assert future.cancel("why")
    future.add_done_callback(called)    # too late to wait for: called at once
    await turns(1)
    assert calls[1] is future
    with pytest.raises(asyncio.CancelledError, match="why"):
        future.result()
    with pytest.raises(asyncio.CancelledError):
        next(iterator)
    assert "receivers=0" in repr(channel)


async def test_exception_thrown_in(loop):
    """By whoever drives the task's coroutine."""
    async def receive():
        return await channel.receive()

    channel = Channel()
    coroutine = receive()
    coroutine.send(None)
    channel.send_nowait("item")
    with pytest.raises(KeyError):
        coroutine.throw(KeyError())
    assert channel.receive_nowait() == "item"


# -- life

def test_items_are_let_go(loop):
    channel = Channel()
    refs = []
    for take in (channel.receive_nowait, lambda: loop.run_until_complete(channel.receive())):
        thing = Thing()
        refs.append(weakref.ref(thing))
        channel.send_nowait(thing)
        del thing
        take()
        gc.collect()
        assert refs.pop()() is None
    thing = Thing()
    refs.append(weakref.ref(thing))
    channel.send_nowait(thing)
    thing.channel = channel     # a cycle
    del thing, channel, take
    gc.collect()
    assert refs.pop()() is None


def test_collected_while_it_waits(loop, kind, logged):
    """Nobody can send any more: the task is lost, and said to be, where asyncio's would be."""
    async def forget():
        channel = channels(Channel(1))
        await channel.receive()

    def channels(channel):
        refs.append(weakref.ref(channel))
        return channel

    refs = []
    loop.create_task(forget())
    turn(loop, 2)
    gc.collect()
    if refs[0]() is None:
        assert ["Task was destroyed but it is pending!" in message for message in logged.take()] == [True]
    else:
        assert kind.fast and not kind.debug     # the loop keeps the task


def test_kept_by_whoever_can_send(loop):
    async def receive():
        got.append(await channel.receive())

    channel, got = Channel(), []
    loop.create_task(receive())
    turn(loop, 2)
    gc.collect()
    channel.send_nowait("item")
    until(loop, lambda: got)
    assert got == ["item"]


def test_loop_closed_while_they_wait(loop):
    async def wait(thing):
        await channel.receive()

    channel, thing = Channel(), Thing()
    ref = weakref.ref(thing)
    task = loop.create_task(wait(thing))
    turn(loop, 2)
    task._log_destroy_pending = False
    loop.close()
    del task, thing
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        channel.send_nowait(1)
    assert len(channel) == 0
    del channel
    gc.collect()
    assert ref() is None


def test_channel_is_collected_with_what_waits(loop):
    channel = Channel(1)
    channel.send_nowait(channel)
    sending = channel.send(channel)

    async def main():
        sending.send(None)

    loop.run_until_complete(main())
    ref = weakref.ref(channel)
    del channel, sending
    gc.collect()
    assert ref() is None
