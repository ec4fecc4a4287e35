"""The ways to an asyncfast loop: policy, install(), run(), Runner, loop_factory; and the public names."""

import asyncio
import contextvars
import sys
import warnings

import pytest

import asyncfast

pytestmark = pytest.mark.filterwarnings("ignore:.*(policy|Policy).*:DeprecationWarning")
HAVE_POLICIES = sys.version_info < (3, 16)


async def which():
    await asyncio.sleep(0)
    return asyncio.get_running_loop()


@pytest.fixture
def restore():
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asyncio.set_event_loop_policy(None)


def test_public_names():
    for name in ("EventLoopPolicy", "Future", "Handle", "Loop", "Runner", "Task", "TimerHandle", "__version__", "install",
                 "new_event_loop", "run", "sleep"):
        assert name in dir(asyncfast) and getattr(asyncfast, name) is not None
        assert name in asyncfast.__all__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        asyncfast.nothing


def test_new_event_loop():
    loop = asyncfast.new_event_loop()
    assert type(loop) is asyncfast.Loop and not loop.is_running()
    assert asyncio._get_running_loop() is None
    loop.close()


def test_import_does_not_change_asyncio():
    loop = asyncio.run(which())
    assert not isinstance(loop, asyncfast.Loop)


# -- run

def test_run():
    loop = asyncfast.run(which())
    assert type(loop) is asyncfast.Loop and loop.is_closed()
    assert asyncfast.run(which(), debug=True).get_debug()
    assert type(asyncfast.run(which(), loop_factory=asyncio.SelectorEventLoop)) is asyncio.SelectorEventLoop


def test_run_raises():
    async def fail():
        raise ZeroDivisionError

    async def leave():
        raise SystemExit(3)

    with pytest.raises(ZeroDivisionError):
        asyncfast.run(fail())
    with pytest.raises(SystemExit):
        asyncfast.run(leave())


@pytest.mark.parametrize("thing", [None, 1, which, "x"])
def test_run_of_no_coroutine(outcome, thing):
    assert outcome(asyncfast.run, thing) == outcome(asyncio.run, thing)


def test_run_cancels_what_is_left():
    async def left_over():
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append("task")

    async def generator():
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            ended.append("generator")

    async def main():
        kept.append(asyncio.ensure_future(left_over()))
        kept.append(generator())
        await anext(kept[1])
        return "x"

    ended, kept = [], []
    assert asyncfast.run(main()) == "x"
    assert ended == ["task", "generator"] and kept[0].cancelled()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in 3.12")
def test_asyncio_run_with_loop_factory():
    assert type(asyncio.run(which(), loop_factory=asyncfast.new_event_loop)) is asyncfast.Loop
    assert type(asyncio.run(which(), loop_factory=asyncfast.Loop)) is asyncfast.Loop


def test_runner():
    var = contextvars.ContextVar("var", default=0)

    async def count():
        var.set(var.get() + 1)
        return var.get()

    with asyncfast.Runner() as runner:
        assert type(runner.get_loop()) is asyncfast.Loop
        assert [runner.run(count()) for _ in range(3)] == [1, 2, 3]
        assert runner.run(which()) is runner.get_loop()
    assert runner.get_loop.__self__ is runner and isinstance(runner, asyncio.Runner)
    with pytest.raises(RuntimeError, match="Runner is closed"):
        runner.get_loop()
    with asyncfast.Runner(debug=True) as runner:
        assert runner.get_loop().get_debug()
    with asyncfast.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        assert type(runner.get_loop()) is asyncio.SelectorEventLoop
    with asyncio.Runner(loop_factory=asyncfast.new_event_loop) as runner:
        assert type(runner.run(which())) is asyncfast.Loop


# -- policies

@pytest.mark.skipif(not HAVE_POLICIES, reason="no policies")
@pytest.mark.parametrize("way", ["set_event_loop_policy", "install"])
def test_policy(restore, way):
    if way == "install":
        asyncfast.install()
    else:
        asyncio.set_event_loop_policy(asyncfast.EventLoopPolicy())
    assert isinstance(asyncio.get_event_loop_policy(), asyncfast.EventLoopPolicy)
    assert type(asyncio.run(which())) is asyncfast.Loop
    loop = asyncio.new_event_loop()
    assert type(loop) is asyncfast.Loop
    asyncio.set_event_loop(loop)
    assert asyncio.get_event_loop() is loop
    asyncio.set_event_loop(None)
    loop.close()
    with asyncio.Runner() as runner:
        assert type(runner.run(which())) is asyncfast.Loop


@pytest.mark.skipif(not HAVE_POLICIES, reason="no policies")
def test_policy_is_asyncio_s(restore):
    policy = asyncfast.EventLoopPolicy()
    assert isinstance(policy, asyncio.DefaultEventLoopPolicy) and isinstance(policy, asyncio.AbstractEventLoopPolicy)
    with pytest.raises(RuntimeError, match="There is no current event loop in thread"):
        policy.set_event_loop(None)
        policy.get_event_loop()


@pytest.mark.skipif(not HAVE_POLICIES, reason="no policies")
def test_policy_in_threads(restore):
    import threading

    def thread():
        results.append(type(asyncio.run(which())))

    results = []
    asyncio.set_event_loop_policy(asyncfast.EventLoopPolicy())
    threads = [threading.Thread(target=thread) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert results == [asyncfast.Loop] * 4


@pytest.mark.kinds("asyncfast")
def test_importing_warns_of_nothing(program):
    program("""
        import asyncfast
        asyncfast.run(asyncio.sleep(0))
        asyncio.run(asyncio.sleep(0))
        """, "-W", "error")


@pytest.mark.kinds("asyncfast")
@pytest.mark.skipif(not (3, 14) <= sys.version_info < (3, 16), reason="3.14 and 3.15 warn")
def test_policies_warn_where_they_are_deprecated(program):
    out = program("""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            module.install()
        print([w.category.__name__ for w in caught])
        """)
    assert out == "['DeprecationWarning']\n"


@pytest.mark.only_asyncfast
def test_backend(loop):
    assert loop.backend in ("epoll", "kqueue", "io_uring")
