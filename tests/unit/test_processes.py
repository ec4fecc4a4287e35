"""Children: their exit status is what they ended with, whoever reads it and when; signals reach them or nobody."""

import asyncio
import contextlib
import errno
import functools
import os
import signal
import subprocess
import sys
import threading
import warnings

import pytest
from _turns import EACH

PIPE = asyncio.subprocess.PIPE


def popen(process):
    """The Popen object below."""
    return process._transport.get_extra_info("subprocess")


async def ended(code):
    """A child that has ended, which the loop does not know yet; the status is where it was."""
    process = await asyncio.create_subprocess_shell(f"read line; exit {code}", stdin=PIPE)
    process.stdin.write(b"\n")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return process


@pytest.fixture
def no_pidfd(monkeypatch):
    def refuse(pid, flags=0):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", refuse)


ENDS = {"exit 0": 0, "exit 3": 3, "kill -TERM $$": -signal.SIGTERM, "kill -KILL $$": -signal.SIGKILL}


@EACH("ends", ENDS)
async def test_status(loop, ends):
    process = await asyncio.create_subprocess_shell(ends)
    assert await process.wait() == ENDS[ends] == process.returncode == popen(process).returncode


@pytest.mark.only_asyncfast
@EACH("ends", ENDS)
async def test_status_without_a_pidfd(loop, no_pidfd, ends):
    process = await asyncio.create_subprocess_shell(ends)
    assert await process.wait() == ENDS[ends]


@pytest.mark.only_asyncfast
async def test_signals_without_a_pidfd(loop, no_pidfd):
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    process.stdin.write(b"x")
    assert await process.stdout.read(1) == b"x"
    process.send_signal(signal.SIGUSR1)
    assert await process.wait() == -signal.SIGUSR1
    process.stdin.close()


@pytest.mark.only_asyncfast
@EACH("how", [lambda process: process.poll(), lambda process: process.wait()], ids=["poll", "wait"])
async def test_status_that_popen_has_read(loop, how):
    process = await ended(7)
    assert how(popen(process)) == 7
    assert await process.wait() == 7


@pytest.mark.only_asyncfast
async def test_status_that_popen_reads_in_another_thread(loop):
    for code in range(20):
        process = await asyncio.create_subprocess_shell(f"exit {code}")
        there = loop.run_in_executor(None, popen(process).wait)
        assert await process.wait() == code == await there
    await loop.shutdown_default_executor()


@pytest.mark.only_asyncfast
async def test_status_that_somebody_else_has_read(loop, logged):
    process = await ended(7)
    os.waitpid(process.pid, 0)
    assert await process.wait() == 255
    assert "255" in logged.take()[0]


@pytest.mark.only_asyncfast
@EACH("send", [lambda process: process.send_signal(signal.SIGTERM), lambda process: process.terminate(),
               lambda process: process.kill()], ids=["send_signal", "terminate", "kill"])
async def test_signal_to_one_that_has_ended(loop, send):
    """It is too late, and the status is the one it ended with."""
    process = await ended(7)
    send(process)
    assert await process.wait() == 7
    with contextlib.suppress(ProcessLookupError):       # once the transport has ended
        send(process)


@pytest.mark.only_asyncfast
async def test_signal_to_a_number_that_is_free(loop, logged, monkeypatch):
    """Another process may have it by now: nothing is sent to it."""
    process = await ended(7)
    os.waitpid(process.pid, 0)
    sent = []
    monkeypatch.setattr(os, "kill", lambda *args: sent.append(args))
    process.send_signal(signal.SIGTERM)
    process.kill()
    assert await process.wait() == 255 and not sent
    assert len(logged.take()) == 1


async def test_signals(loop):
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1):
        process = await asyncio.create_subprocess_exec("sleep", "1000")
        process.send_signal(number)
        assert await process.wait() == -number
    process = await asyncio.create_subprocess_exec("sleep", "1000")
    with pytest.raises(OSError):
        process.send_signal(12345)
    process.kill()
    await process.wait()


async def test_many(loop):
    async def one(number):
        process = await asyncio.create_subprocess_shell(f"read line; echo $line; exit {number}", stdin=PIPE, stdout=PIPE)
        out, _ = await process.communicate(b"%d\n" % number)
        return int(out), process.returncode

    assert await asyncio.gather(*map(one, range(50))) == [(n, n) for n in range(50)]


@pytest.mark.only_asyncfast
def test_many_loops_in_many_threads(kind):
    """Each hears of its own children, with nothing done in the main thread."""
    results = {}

    async def children(number):
        async def one(count):
            process = await asyncio.create_subprocess_shell(f"exit {number * 10 + count}")
            return await process.wait()

        return await asyncio.gather(*map(one, range(10)))

    def thread(number):
        with asyncio.Runner(loop_factory=kind.new_event_loop) as runner:
            results[number] = runner.run(children(number))

    threads = [threading.Thread(target=thread, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert results == {number: [number * 10 + count for count in range(10)] for number in range(8)}


@pytest.mark.oracle_bug((3, 13, 2), "wait() waits for the pipes")
async def test_wait_does_not_wait_for_who_else_has_the_pipe(loop):
    process = await asyncio.create_subprocess_shell("sleep 1000 & echo $!; exit 5", stdout=PIPE)
    heir = int(await process.stdout.readline())
    assert await process.wait() == 5
    os.kill(heir, signal.SIGKILL)
    assert await process.stdout.read() == b""


async def test_cancelled_while_it_starts(loop, kind, logged):
    """The child is killed and reaped."""
    task = loop.create_task(asyncio.create_subprocess_exec("sleep", "1000", stdin=PIPE, stdout=PIPE))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert len(logged.take()) == kind.debug


async def test_close_kills(loop, kind, logged):
    process = await asyncio.create_subprocess_exec("sleep", "1000")
    transport = process._transport
    transport.close()
    assert transport.is_closing()
    assert await process.wait() == -signal.SIGKILL
    assert len(logged.take()) == kind.debug


async def test_communicate_with_one_that_ends_early(loop):
    process = await asyncio.create_subprocess_exec("true", stdin=PIPE, stdout=PIPE)
    assert await process.communicate(bytes(1 << 20)) == (b"", None)
    assert process.returncode == 0


async def test_a_great_deal_of_output(loop):
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, limit=1 << 16)
    data = os.urandom(1 << 20) * 4
    out, _ = await process.communicate(data)
    assert out == data


async def test_what_cannot_be_started(loop, tmp_path):
    with pytest.raises(FileNotFoundError):
        await asyncio.create_subprocess_exec("/no/such/program", stdin=PIPE, stdout=PIPE)
    (tmp_path / "file").touch()
    with pytest.raises(PermissionError):
        await asyncio.create_subprocess_exec(str(tmp_path / "file"))
    with pytest.raises(ValueError):
        await loop.subprocess_exec(asyncio.SubprocessProtocol, "true", universal_newlines=True)


async def test_order_of_the_calls(loop):
    """process_exited() and the end of the pipes in any order, connection_lost() behind them all."""
    class Protocol(asyncio.SubprocessProtocol):
        def __init__(self):
            self.calls, self.over = [], loop.create_future()

        def connection_made(self, transport):
            self.calls.append("made")

        def pipe_data_received(self, fd, data):
            self.calls.append((fd, data))

        def pipe_connection_lost(self, fd, exc):
            self.calls.append((fd, exc))

        def process_exited(self):
            self.calls.append("exited")

        def connection_lost(self, exc):
            self.calls.append("lost")
            self.over.set_result(None)

    transport, protocol = await loop.subprocess_exec(Protocol, "echo", "hello", stdin=None, stderr=None)
    await protocol.over
    assert protocol.calls[0] == "made" and protocol.calls[-1] == "lost"
    assert sorted(map(str, protocol.calls[1:-1])) == ["(1, None)", "(1, b'hello\\n')", "exited"]
    assert transport.get_returncode() == 0 and transport.get_pipe_transport(1) is not None
    transport.close()


async def test_order_of_the_calls_without_pipes(loop):
    """connection_made() has been called when subprocess_exec() returns."""
    calls, over = [], loop.create_future()

    class Protocol(asyncio.SubprocessProtocol):
        def connection_made(self, transport):
            calls.append(("made", transport))

        def process_exited(self):
            calls.append("exited")

        def connection_lost(self, exc):
            calls.append(("lost", exc))
            over.set_result(None)

    transport, protocol = await loop.subprocess_exec(Protocol, "true", stdin=None, stdout=None, stderr=None)
    assert calls == [("made", transport)] and transport.get_protocol() is protocol
    process = transport.get_extra_info("subprocess")
    assert type(process) is subprocess.Popen and process.pid == transport.get_pid()
    assert [transport.get_pipe_transport(fd) for fd in range(3)] == [None] * 3
    assert await transport._wait() == 0
    await over
    assert calls[1:] == ["exited", ("lost", None)] and await transport._wait() == 0
    with pytest.raises(ProcessLookupError):
        transport.send_signal(signal.SIGTERM)
    transport.close()


async def test_wait_cancelled(loop):
    """The others that wait are told all the same."""
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
    waits = [loop.create_task(process.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    waits[1].cancel()
    await asyncio.sleep(0)
    process.kill()
    results = await asyncio.gather(*waits, return_exceptions=True)
    assert results[::2] == [-signal.SIGKILL] * 2 and isinstance(results[1], asyncio.CancelledError)
    process.stdin.close()


async def test_arguments_of_popen(loop, tmp_path):
    read, write = os.pipe()
    os.write(write, b"from the pipe\n")
    os.close(write)
    process = await asyncio.create_subprocess_shell(
        f'pwd; echo "$X"; umask; cat /dev/fd/{read}; cut -d" " -f6 /proc/$$/stat; exit $Y', stdout=PIPE, cwd=tmp_path,
        env={**os.environ, "X": "of the environment", "Y": "9"}, pass_fds=[read], start_new_session=True,
        preexec_fn=functools.partial(os.umask, 0o027))
    out, _ = await process.communicate()
    os.close(read)
    assert out.decode().splitlines() == [
        str(tmp_path), "of the environment", "0027", "from the pipe", str(process.pid)]
    assert process.returncode == 9


def test_what_is_audited(program):
    """Popen's event, once."""
    assert program("""
        seen = []
        sys.addaudithook(lambda event, args: event == "subprocess.Popen" and seen.append(args[1]))

        async def main():
            process = await asyncio.create_subprocess_exec("true", "x")
            return await process.wait()

        assert run(main()) == 0
        print(seen)
    """) == "[['true', 'x']]\n"


@pytest.mark.only_asyncfast
@pytest.mark.skipif(sys.version_info >= (3, 14), reason="no child watchers any more")
async def test_a_watcher_of_the_program(loop, monkeypatch):
    """Who sets one wants it used."""
    seen = []

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)

        class Watcher(asyncio.unix_events.ThreadedChildWatcher):
            def add_child_handler(self, pid, callback, *args):
                seen.append(pid)
                super().add_child_handler(pid, callback, *args)

    monkeypatch.setattr(asyncio.get_event_loop_policy(), "_watcher", Watcher(), raising=False)
    process = await asyncio.create_subprocess_shell("exit 4")
    assert await process.wait() == 4 and seen == [process.pid]


@pytest.mark.only_asyncfast
def test_loop_closed_over_a_running_child(loop_factory, kind, logged):
    """It is killed with its transport, and its pidfd is closed."""
    loop = loop_factory()

    async def start():
        return await loop.subprocess_exec(asyncio.SubprocessProtocol, "sleep", "1000", stdin=None, stdout=None, stderr=None)

    transport, _ = loop.run_until_complete(start())
    process = transport.get_extra_info("subprocess")
    loop.close()
    transport.close()
    assert process.wait() == -signal.SIGKILL
    assert len(logged.take()) == kind.debug
