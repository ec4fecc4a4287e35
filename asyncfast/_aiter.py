"""Asynchronous iterators: ticker, as_completed, merge, batched, timeout_each, aiter_sync.

They run on any asyncio loop.  What takes items from other tasks or threads passes them through a Channel.  Those that
iterate something close it on every way out: at the end, at an error, at aclose(), and when the task is cancelled, whatever
it waits for.
"""

import asyncio
import collections.abc
import contextvars
import math
import operator
import sys

from ._core import Channel, ChannelClosed, sleep


def _number(name, value):
    """It as a float; or raises TypeError."""
    try:
        return math.ldexp(value, 0)  # as float(), of numbers alone
    except TypeError:
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}") from None
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _seconds(name, value, *, least=0.0):
    """The same; raises ValueError unless it is finite and not less than that."""
    seconds = _number(name, value)
    if not least <= seconds < math.inf:  # NaN neither
        raise ValueError(f"{name} must be a finite number of seconds, {'0 or more' if not least else 'above 0'}")
    return seconds


# -- closing

async def _aclose(iterator):
    """Close an asynchronous iterator, if it is of those that can be, and nobody does so now (shutdown_asyncgens())."""
    aclose = getattr(iterator, "aclose", None)
    if aclose is not None and not getattr(iterator, "ag_running", False):
        await aclose()


async def _wait_for_all(futures):
    """Wait until they are done, whatever happens to them or to this task; a cancellation is raised at the end."""
    loop, cancelled = asyncio.get_running_loop(), None
    for future in futures:
        if future.get_loop() is not loop:
            raise RuntimeError(f"{future!r} is attached to a different loop")
    while waiting := [future for future in futures if not future.done()]:
        try:
            await asyncio.wait(waiting)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        try:
            raise cancelled
        finally:
            del cancelled  # which refers to this frame


def _raisable(error):
    """The error, or what stands for one that cannot be raised from a coroutine."""
    if isinstance(error, (StopIteration, StopAsyncIteration)):
        wrapped = RuntimeError(f"an iterator raised {type(error).__name__}")
        wrapped.__cause__ = error
        return wrapped
    return error


def _report(message, error, **context):
    """To the exception handler: nobody else would hear of it."""
    asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error} | context)


class _Pump:
    """Passes the items of an asynchronous iterable on to a channel, and then closes the iterator.

    All of the iteration is in one task, as a generator expects that has timeouts or task groups around a yield.
    """

    iterating = False  # whether it waits for the next item

    async def run(self, iterable, pumps):
        iterator = aiter(iterable)
        try:
            while not pumps.channel.closed:
                self.iterating = True
                try:
                    item = await anext(iterator)
                except StopAsyncIteration:
                    break
                finally:
                    self.iterating = False
                try:
                    await pumps.send(item)
                except ChannelClosed:
                    break
        finally:
            await _aclose(iterator)


class _Pumps:
    """`async with`: the items of asynchronous iterables go to a channel, which is closed at the end of all or with the
    error of the first that fails.  On the way out everything is closed."""

    def __init__(self, maxsize):
        self.channel, self.tasks = Channel(maxsize), []

    async def __aenter__(self):
        return self

    def send(self, item):
        return self.channel.send(item)

    def start(self, iterables):
        create_task, self.running = asyncio.get_running_loop().create_task, len(iterables)
        for iterable in iterables:
            pump = _Pump()
            task = create_task(pump.run(iterable, self))
            self.tasks.append((task, pump))
            task.add_done_callback(self.ended)

    def ended(self, task):
        self.running -= 1
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if self.channel is None:
            pass
        elif error is not None:
            self.channel.close(_raisable(error))
        elif self.running == 0:
            self.channel.close()

    async def __aexit__(self, kind, raised, traceback):
        """Who waits for a place goes on, as the channel is closed; who waits for an item is cancelled.  Who has not begun
        does so, to close the iterator, and who closes it already is left alone."""
        self.channel.close()
        for task, pump in self.tasks:
            if pump.iterating:
                task.cancel()
        try:
            await _wait_for_all([task for task, pump in self.tasks])
        finally:
            for task, pump in self.tasks:
                if task.done() and not task.cancelled():
                    self.report(task, raised)
        self.tasks = self.channel = None  # they have the errors, and those this frame

    def report(self, task, raised):
        error = task.exception()
        known = error is None or error is raised or error is getattr(raised, "__cause__", None)
        if not known and not isinstance(error, (KeyboardInterrupt, SystemExit)):  # those the loop has raised
            _report("an error occurred in an asynchronous iterator that was left", error, task=task)


# -- of time

class ticker:
    """ticker(interval, *, first=None, missed="skip"): tick after tick, interval seconds apart, without drift.

    Tick n is due at first + n * interval seconds after the first __anext__() (first=None: one interval), and n is what is
    iterated.  A tick that is asked for only when the one after it is due already was missed; then

        "skip"   only the last of those that are due comes, at once: the numbers have a gap
        "burst"  all of them come, one after another, until none is due any more
        "delay"  it comes at once, and the next one an interval after that: the numbers have no gap, the time shifts

    Several consumers share the ticks.  A cancelled __anext__() has taken none.  It never ends by itself.
    Raises ValueError for an interval that is not above 0, a negative first, either if it is not finite, or another missed;
    TypeError for what is not a number.
    """

    def __init__(self, interval, *, first=None, missed="skip"):
        self._interval = _seconds("interval", interval, least=math.ulp(0.0))
        self._first = self._interval if first is None else _seconds("first", first)
        if missed not in ("skip", "burst", "delay"):
            raise ValueError(f"missed must be 'skip', 'burst' or 'delay', not {missed!r}")
        self._missed = missed
        self._begin = None  # loop.time() of tick 0
        self._next = 0

    def __aiter__(self):
        return self

    async def __anext__(self):
        time = asyncio.get_running_loop().time
        if self._begin is None:
            self._begin = time() + self._first
        if self._due() <= time():
            await sleep(0)  # ticks that are late already: let the others run all the same
        while (delay := self._due() - time()) > 0:
            await sleep(delay)
        return self._take(time())

    def _due(self):
        return self._begin + self._next * self._interval

    def _take(self, now):
        number = self._next
        if self._missed == "skip":
            number = max(number, int(min((now - self._begin) / self._interval, sys.maxsize)))
        elif self._missed == "delay" and now >= self._begin + (number + 1) * self._interval:
            self._begin = now - number * self._interval
        self._next = number + 1
        return number


async def _timeout_each(iterable, seconds):
    iterator = aiter(iterable)
    try:
        while True:
            try:
                async with asyncio.timeout(seconds):
                    item = await anext(iterator)
            except StopAsyncIteration:
                return
            yield item
    finally:
        await _aclose(iterator)


def timeout_each(iterable, seconds):
    """The items of an asynchronous iterable, each of which may take so many seconds (None: any time).

    Raises TimeoutError when one takes longer; the wait for it is cancelled and the iterable closed.
    Raises ValueError for seconds that are negative or not finite, TypeError for what is not a number.
    """
    return _timeout_each(iterable, None if seconds is None else _seconds("seconds", seconds))


# -- of several

class _Completions(Channel):
    """What as_completed() returns: receives each future when it is done.  It keeps those that are not."""

    def __init__(self, futures, loop, timeout):
        super().__init__()
        self._waiting, self._timer = set(futures), None
        if not futures:
            self.close()
        for future in futures:
            future.add_done_callback(self._done)
        if futures and timeout is not None:
            self._timer = loop.call_later(timeout, self._expired)

    def _done(self, future):
        if future not in self._waiting or self.closed:
            return  # its callback was under way when the time was over; or nobody wants it
        self._waiting.discard(future)
        self.send_nowait(future)
        if not self._waiting:
            self.close()
            if self._timer is not None:
                self._timer.cancel()

    def _expired(self):
        for future in self._waiting:
            future.remove_done_callback(self._done)
        self._waiting.clear()
        self.close(TimeoutError())


def as_completed(aws, *, timeout=None):
    """Asynchronous iterator of the given tasks and futures themselves, in the order in which they are done.

    It is asyncio.as_completed() as of 3.13, on every Python: coroutines are made tasks, and those are what is iterated; each
    is done, so that awaiting it, or result(), gives its result or raises its error at once.  Raises TimeoutError if they are
    not all done after timeout seconds.  Those that are not done then, or when the consumer leaves, go on.
    Raises RuntimeError without a running loop, TypeError for what cannot be awaited, ValueError for another loop's future.
    """
    if asyncio.isfuture(aws) or asyncio.iscoroutine(aws):
        raise TypeError(f"expect an iterable of futures, not {type(aws).__name__}")
    loop, timeout = asyncio.get_running_loop(), None if timeout is None else _number("timeout", timeout)
    return _Completions([asyncio.ensure_future(aw, loop=loop) for aw in dict.fromkeys(aws)], loop, timeout)


async def merge(*iterables):
    """The items of several asynchronous iterables as they come, until all have ended.

    Each is iterated in a task of its own, at most two items ahead; those that have some take turns.  When one fails its
    error is raised here, after the items that came before it.  Then, and whenever the consumer leaves, all of them are
    closed; what still fails in that is reported to the loop's exception handler.
    """
    if not iterables:
        return
    async with _Pumps(1) as pumps:
        pumps.start(iterables)
        async for item in pumps.channel:
            yield item


# -- in groups

async def _batched(iterable, n):
    iterator, error = aiter(iterable), None
    try:
        while error is None:
            batch = []
            try:
                while len(batch) < n:
                    batch.append(await anext(iterator))
            except Exception as caught:
                error = caught
            if batch:
                yield batch
        if not isinstance(error, StopAsyncIteration):
            raised, error = error, None
            raise raised
    finally:
        if error is not None and not isinstance(error, StopAsyncIteration):
            _report("an error occurred in an asynchronous iterator that was left", error)
        raised = error = None  # it refers to this frame
        await _aclose(iterator)


class _Timed(_Pumps):
    def send(self, item):
        return self.channel.send((asyncio.get_running_loop().time(), item))


async def _batched_within(iterable, n, within):
    async with _Timed(min(n, sys.maxsize)) as pumps:
        pumps.start([iterable])
        async for came, item in pumps.channel:
            batch = [item]
            try:
                async with asyncio.timeout_at(came + within):
                    while len(batch) < n:
                        try:
                            batch.append((await pumps.channel.receive())[1])
                        except Exception:  # the end, which the loop around this meets again, after the batch
                            break
            except TimeoutError:
                pass
            yield batch


def batched(iterable, n, *, within=None):
    """Lists of up to n items of an asynchronous iterable, never empty.

    With within, a list is complete that many seconds after its first item came, however few there are.  The iterable is then
    iterated in a task of its own, and what comes while the consumer is busy waits, up to n items.
    When it fails, what came before is given out first.  Raises ValueError if n is less than 1, or for a within that is
    negative or not finite; TypeError if n is no integer, or within no number.
    """
    n = operator.index(n)
    if n < 1:
        raise ValueError("n must be at least 1")
    if within is None:
        return _batched(iterable, n)
    return _batched_within(iterable, n, _seconds("within", within))


# -- of what blocks

class _Reader:
    """Reads a blocking iterable in a thread, into a channel.

    A job in the executor reads until so many items are ahead, and is then over: a consumer that takes its time holds no
    thread.  The next job begins when half of them have been taken.
    """

    AHEAD = 64

    def __init__(self, iterable, executor):
        self.iterable, self.executor = iterable, executor
        self.loop, self.context = asyncio.get_running_loop(), contextvars.copy_context()
        self.channel = Channel(self.AHEAD)
        self.iterator = self.job = self.error = None
        self.begun = self.ended = self.stopping = False

    def read(self):
        """In the thread.  What next() raises is left in self.error: as the job's exception it might become another."""
        self.begun = True
        try:
            while not self.stopping and not self.channel.full():
                if self.iterator is None:
                    self.iterator = iter(self.iterable)
                self.channel.send_threadsafe(next(self.iterator))
        except BaseException as error:
            self.error = error.with_traceback(error.__traceback__.tb_next)  # this frame is of no interest

    def refill(self):
        if self.job is None and not self.ended and len(self.channel) <= self.AHEAD // 2:
            try:
                self.job = self.loop.run_in_executor(self.executor, self.context.run, self.read)
            except Exception as error:
                self.end(error)
            else:
                self.job.add_done_callback(self.done)

    def end(self, error):
        self.channel.close(None if isinstance(error, StopIteration) else _raisable(error))
        self.ended = True

    def done(self, job):
        self.job = None
        error = asyncio.CancelledError() if job.cancelled() else job.exception()
        if error is None:
            error = self.error
        if self.channel is None:
            pass
        elif error is not None:
            self.end(error)
            if self.stopping and not isinstance(error, (StopIteration, asyncio.CancelledError)):
                _report("an error occurred in an iterable that was left", error)
        elif not self.stopping:
            self.refill()

    async def stop(self):
        """A thread cannot be interrupted: what it waits for comes first."""
        self.stopping = True
        try:
            if self.job is not None:
                if not self.begun:  # no thread was free; should one be now, it does nothing
                    self.job.cancel()
                await _wait_for_all([self.job])
        finally:
            if self.job is not None and self.job.done():
                self.done(self.job)  # its callback comes later
            self.channel = self.error = None  # they have the error, and its frames have this
            if not self.ended and isinstance(self.iterator, collections.abc.Generator):
                closing = self.loop.run_in_executor(self.executor, self.context.run, self.iterator.close)
                await _wait_for_all([closing])
                closing.result()


async def aiter_sync(iterable, *, executor=None):
    """The items of a blocking iterable, read in a thread of the executor (None: the loop's default one).

    Up to 64 items are read ahead.  Errors of the iterable, and of the executor, are raised here, after the items that came
    before.  When the consumer leaves, the item that is being read is waited for, and a generator is closed; anything else
    belongs to whoever opened it.  Context variables are those of the caller.  Reading may go on in another thread after a
    while: give an executor with one thread for what has to stay in one.
    """
    reader = _Reader(iterable, executor)
    try:
        reader.refill()
        async for item in reader.channel:
            reader.refill()
            yield item
    finally:
        await reader.stop()
