"""Waits that look again and again instead of sleeping: nothing but how soon they end may differ."""

import asyncio
import socket
import threading

import pytest

import asyncfast

ROUNDS = 3000  # enough for the loop to try looking many times


@pytest.fixture(params=[True, False], ids=["looks", "sleeps"])
def runner(request):
    with asyncio.Runner(loop_factory=lambda: asyncfast.new_event_loop(busy_poll=request.param)) as runner:
        yield runner


@pytest.mark.parametrize("value, environment, expected", [
    (None, None, True), (None, "", True), (None, "1", True), (None, "0", False),
    (True, "0", True), (False, "1", False), (0, None, False), (1, None, True),
])
def test_option(value, environment, expected, monkeypatch):
    monkeypatch.delenv("ASYNCFAST_BUSY_POLL", raising=False)
    if environment is not None:
        monkeypatch.setenv("ASYNCFAST_BUSY_POLL", environment)
    for loop in (asyncfast.new_event_loop(busy_poll=value), asyncfast.Loop(busy_poll=value)):
        assert loop._busy_poll is expected
        loop.close()


@pytest.fixture
def peer():
    """A socket on whose other end a thread answers what it gets."""
    def echo():
        while data := its.recv(100):
            its.sendall(data)

    mine, its = socket.socketpair()
    mine.setblocking(False)
    with its:
        thread = threading.Thread(target=echo)
        thread.start()
        yield mine
        mine.close()
        thread.join()


def test_answers_of_a_peer(runner, peer):
    async def main():
        loop = asyncio.get_running_loop()
        for i in range(ROUNDS):
            await loop.sock_sendall(peer, b"%d" % i)
            assert await loop.sock_recv(peer, 100) == b"%d" % i

    runner.run(main())


def test_calls_from_another_thread(runner):
    """Each is waited for before the next is made: one that were lost would end in a wait for ever."""
    async def main():
        loop, seen, again = asyncio.get_running_loop(), [], threading.Semaphore(0)
        done = loop.create_future()

        def caller():
            for i in range(ROUNDS):
                loop.call_soon_threadsafe(called, i)
                again.acquire()
            loop.call_soon_threadsafe(done.set_result, None)

        def called(i):
            seen.append(i)
            again.release()

        thread = threading.Thread(target=caller)
        thread.start()
        await done
        thread.join()
        assert seen == list(range(ROUNDS))

    runner.run(main())


def test_executor(runner):
    async def main():
        loop = asyncio.get_running_loop()
        return [await loop.run_in_executor(None, str, i) for i in range(ROUNDS)]

    assert runner.run(main()) == [str(i) for i in range(ROUNDS)]


def test_timers_between_answers(runner, peer):
    """Timers shorter and longer than a look, and never early."""
    async def main():
        loop, early = asyncio.get_running_loop(), []
        for i in range(ROUNDS // 5):
            await loop.sock_sendall(peer, b"x")
            await loop.sock_recv(peer, 1)
            delay = (0.000001, 0.00001, 0.00004, 0.0002, 0.001)[i % 5]
            due = loop.time() + delay
            await asyncio.sleep(delay)
            if loop.time() < due:
                early.append(delay)
        return early

    assert runner.run(main()) == []


def test_a_loop_run_by_one_thread_after_the_other():
    loop = asyncfast.new_event_loop()

    async def main():
        for i in range(200):
            assert await loop.run_in_executor(None, str, i) == str(i)

    for _ in range(3):
        thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
        thread.start()
        thread.join()
        loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def test_ctrl_c_while_it_waits(program):
    """Answers come quickly until there are none: the signal comes to a loop that has just looked in vain."""
    assert program("""
        async def main():
            mine, its = socket.socketpair()
            mine.setblocking(False)
            def echo():
                for _ in range(1000):
                    its.sendall(its.recv(1))
                os.kill(os.getpid(), signal.SIGINT)
            threading.Thread(target=echo, daemon=True).start()
            loop = asyncio.get_running_loop()
            while True:
                await loop.sock_sendall(mine, b"x")
                await loop.sock_recv(mine, 1)
        try:
            run(main())
        except KeyboardInterrupt:
            print("interrupted")
    """) == "interrupted\n"
