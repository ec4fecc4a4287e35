"""An anyio program: task groups, sockets, subprocesses, threads, signals."""

import os
import signal
import socket
import sys
import tempfile

import anyio
import anyio.from_thread
import anyio.to_thread
from anyio.streams.buffered import BufferedByteReceiveStream
from inside import inside


async def task_groups():
    done = []

    async def child(number, *, task_status):
        task_status.started(number)
        await anyio.sleep(0)
        done.append(number)

    async with anyio.create_task_group() as group:
        assert [await group.start(child, number) for number in range(100)] == list(range(100))
    assert sorted(done) == list(range(100))

    async def fails():
        raise ValueError

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            group.start_soon(fails)
    except* ValueError:
        done.append("failed")
    assert done[-1] == "failed"

    with anyio.move_on_after(0.01) as scope:
        await anyio.sleep_forever()
    assert scope.cancelled_caught
    with anyio.CancelScope(shield=True), anyio.move_on_after(10):
        await anyio.lowlevel.checkpoint()


async def echo(stream):
    async with stream:
        async for chunk in stream:
            await stream.send(chunk)


async def conversation(stream):
    large = os.urandom(2_000_000)
    async with stream, anyio.create_task_group() as group:
        group.start_soon(stream.send, large)
        assert await BufferedByteReceiveStream(stream).receive_exactly(len(large)) == large
        await stream.send_eof()
        try:
            await stream.receive()
        except anyio.EndOfStream:
            pass
        else:
            raise AssertionError("no end of the stream")


async def sockets():
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, echo)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with anyio.create_task_group() as clients:
            for _ in range(5):
                clients.start_soon(conversation, await anyio.connect_tcp("127.0.0.1", port))
        group.cancel_scope.cancel()

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "socket")
        async with await anyio.create_unix_listener(path) as listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, echo)
            await conversation(await anyio.connect_unix(path))
            group.cancel_scope.cancel()

    async with await anyio.create_udp_socket(family=socket.AF_INET, local_host="127.0.0.1") as receiver:
        port = receiver.extra(anyio.abc.SocketAttribute.local_port)
        async with await anyio.create_connected_udp_socket("127.0.0.1", port) as sender:
            for number in range(10):
                await sender.send(b"%d" % number)
                assert (await receiver.receive())[0] == b"%d" % number


async def subprocesses():
    done = await anyio.run_process([sys.executable, "-c", "print(input()[::-1])"], input=b"abc\n")
    assert done.stdout.split() == [b"cba"]
    async with await anyio.open_process(["cat"], stderr=None) as process:
        for line in (b"one\n", b"two\n"):
            await process.stdin.send(line)
            assert await process.stdout.receive() == line
        await process.stdin.aclose()
        assert await process.wait() == 0
    async with await anyio.open_process(["cat"]) as process:
        process.kill()
        assert await process.wait() == -signal.SIGKILL


async def threads():
    send, receive = anyio.create_memory_object_stream(1)

    def work(number):
        anyio.from_thread.run(send.send, number)
        return anyio.from_thread.run_sync(lambda: number * 2)

    async with send, receive, anyio.create_task_group() as group:
        async def one(number):
            assert await anyio.to_thread.run_sync(work, number) == number * 2

        for number in range(100):
            group.start_soon(one, number)
        assert sorted([await receive.receive() for _ in range(100)]) == list(range(100))


async def signals():
    with anyio.open_signal_receiver(signal.SIGUSR1) as received:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert await anext(received) == signal.SIGUSR1


async def main():
    for check in (task_groups, sockets, subprocesses, threads, signals):
        await check()
    print(inside())


