"""Executors: what is inherited works on this loop."""

import asyncio
import concurrent.futures
import contextvars
import sys
import threading
import time

import pytest

VAR = contextvars.ContextVar("VAR", default="default")


async def test_run_in_executor(loop):
    def work(a, b):
        assert threading.current_thread() is not threading.main_thread()
        return a + b

    future = loop.run_in_executor(None, work, 1, 2)
    assert asyncio.isfuture(future) and await future == 3
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert await loop.run_in_executor(pool, work, 1, 2) == 3
    with pytest.raises(ZeroDivisionError):
        await loop.run_in_executor(None, lambda: 1 / 0)


async def test_many(loop):
    futures = [loop.run_in_executor(None, pow, i, 2) for i in range(200)]
    assert await asyncio.gather(*futures) == [i * i for i in range(200)]


async def test_to_thread(loop):
    VAR.set("mine")

    def work(*args, **kwargs):
        return VAR.get(), args, kwargs

    assert await asyncio.to_thread(work, 1, key=2) == ("mine", (1,), {"key": 2})


async def test_to_thread_from_many_tasks(loop):
    assert await asyncio.gather(*[asyncio.to_thread(pow, i, 2) for i in range(50)]) == [i * i for i in range(50)]


async def test_cancelled(loop):
    release = threading.Event()
    future = loop.run_in_executor(None, release.wait)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(future, 0.001)
    release.set()
    assert future.cancelled()


def test_set_default_executor(loop, oracle, outcome):
    for thing in (None, 1, object(), "x"):
        ours, theirs = outcome(loop.set_default_executor, thing), outcome(oracle.set_default_executor, thing)
        assert ours == theirs and ours[0] is TypeError
    pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="mine")
    loop.set_default_executor(pool)
    name = loop.run_until_complete(loop.run_in_executor(None, lambda: threading.current_thread().name))
    assert name.startswith("mine")


async def test_shutdown_default_executor(loop):
    await loop.run_in_executor(None, print)
    assert await loop.shutdown_default_executor() is None
    with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
        loop.run_in_executor(None, print)


async def test_shutdown_waits(loop):
    done = []
    future = loop.run_in_executor(None, lambda: (time.sleep(0.02), done.append(1)))
    await loop.shutdown_default_executor()
    assert done == [1]
    await future


@pytest.mark.skipif(sys.version_info < (3, 12, 2), reason="new in 3.12, but there it waits all the same")
def test_shutdown_timeout(loop):
    release = threading.Event()

    async def main():
        loop.run_in_executor(None, release.wait)
        with pytest.warns(RuntimeWarning, match="executor did not finishing joining its threads within 0.01 seconds"):
            await loop.shutdown_default_executor(timeout=0.01)
        release.set()

    loop.run_until_complete(main())
    loop.close()


def test_close_does_not_wait(loop):
    release = threading.Event()

    async def main():
        loop.run_in_executor(None, release.wait)

    loop.run_until_complete(main())
    loop.close()
    release.set()


@pytest.mark.kinds("asyncfast-debug", "asyncio-debug")
async def test_coroutines_are_refused_in_debug_mode(loop):
    async def coroutine():
        pass

    with pytest.raises(TypeError, match=r"coroutines cannot be used with run_in_executor\(\)"):
        loop.run_in_executor(None, coroutine)


async def test_getaddrinfo(loop):
    infos = await loop.getaddrinfo("127.0.0.1", 80, type=1)
    assert infos[0][4] == ("127.0.0.1", 80)
    assert await loop.getnameinfo(("127.0.0.1", 80), 3) == ("127.0.0.1", "80")
