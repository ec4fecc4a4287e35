"""What the tests of tasks give them to run."""

import asyncio
import collections.abc
import types


async def give(value, steps=1):
    for _ in range(steps):
        await asyncio.sleep(0)
    return value


async def fail(error):
    await asyncio.sleep(0)
    raise error


async def forever():
    await asyncio.get_running_loop().create_future()


@types.coroutine
def generator(value):
    yield
    return value


async def generator_coroutine(value):
    return await generator(value)


class CoroutineLike:
    """What Cython's coroutines and other extensions' look like: methods, no generator."""

    def __init__(self, steps=2, value="value"):
        self.steps, self.value, self.closed, self.thrown = steps, value, False, []

    def send(self, value):
        assert value is None
        self.steps -= 1
        if self.steps < 0:
            raise StopIteration(self.value)

    def throw(self, exc, value=None, tb=None):
        self.thrown.append(exc)
        raise exc

    def close(self):
        self.closed = True

    def __await__(self):
        return self

    __iter__ = __await__

    def __next__(self):
        return self.send(None)

    cr_frame = cr_code = gi_frame = None


collections.abc.Coroutine.register(CoroutineLike)
