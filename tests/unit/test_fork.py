"""fork: the child starts afresh, the parent does not notice."""

import os

import pytest

pytestmark = [pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork"),
              pytest.mark.kinds("asyncfast", "asyncfast-debug", "asyncio")]

CHILD = """
def child(function):
    "Fork; in the child call function and exit; return a function that waits and gives its status."
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
async def echo():
    "A round trip through a socket pair, a thread and a timer."
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        await loop.sock_sendall(left, b"x")
        assert await loop.sock_recv(right, 10) == b"x"
    await asyncio.to_thread(loop.call_soon_threadsafe, lambda: None)
    await asyncio.sleep(0.001)
"""


def test_fresh_loop_in_the_child(program):
    """While a loop runs in the parent, which goes on afterwards."""
    out = program(CHILD + """
async def main():
    await echo()
    wait = child(lambda: (asyncio._set_running_loop(None), run(echo())))
    await echo()
    print(await asyncio.to_thread(wait))
    await echo()
run(main())
""")
    assert out == "0\n"


def test_child_has_no_running_loop(program):
    out = program(CHILD + """
async def main():
    print(child(lambda: print(asyncio._get_running_loop(), flush=True))())
run(main())
""")
    assert out == "None\n0\n"


def test_child_of_a_loop_that_does_not_run(program):
    out = program(CHILD + """
loop = new_event_loop()
loop.run_until_complete(echo())
print(child(lambda: run(echo()))())
loop.run_until_complete(echo())
loop.close()
""")
    assert out == "0\n"


@pytest.mark.only_asyncfast
def test_closing_the_inherited_loop_does_not_disturb_the_parent(program):
    """The kernel's set of watched descriptors is shared with the child: it must not touch it. asyncio's does."""
    out = program(CHILD + """
loop = new_event_loop()
left, right = socket.socketpair()
left.setblocking(False)
right.setblocking(False)
got = []
def readable():
    got.append(left.recv(10))
    loop.stop()
loop.add_reader(left, readable)
loop.call_soon(loop.stop)
loop.run_forever()
def in_child():
    loop.remove_reader(left)
    loop.close()
    left.close()
    right.close()
print(child(in_child)())
right.send(b"x")
loop.run_forever()
print(got)
loop.remove_reader(left)
loop.close()
""")
    assert out == "0\n[b'x']\n"


def test_using_the_inherited_loop_in_the_child(program):
    """Not what one should do; but the parent's readers are not the child's to take away."""
    out = program(CHILD + """
loop = new_event_loop()
left, right = socket.socketpair()
left.setblocking(False)
got = []
loop.add_reader(left, lambda: (got.append(left.recv(10)), loop.stop()))
loop.call_soon(loop.stop)
loop.run_forever()
def in_child():
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
print(child(in_child)())
right.send(b"x")
loop.run_forever()
print(got)
loop.remove_reader(left)
loop.close()
""")
    assert out == "0\n[b'x']\n"


def test_many_children(program):
    out = program(CHILD + """
async def main():
    waits = [child(lambda: (asyncio._set_running_loop(None), run(echo()))) for _ in range(5)]
    await echo()
    print(*[await asyncio.to_thread(wait) for wait in waits])
run(main())
""")
    assert out == "0 0 0 0 0\n"


def test_signals_of_the_child_do_not_reach_the_parent(program):
    """The wake-up descriptor must not be shared."""
    out = program(CHILD + """
async def main():
    loop = asyncio.get_running_loop()
    calls = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, "parent")
    def in_child():
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.01)
    wait = child(in_child)
    print(await asyncio.to_thread(wait))
    await asyncio.sleep(0.01)
    print(calls)
    os.kill(os.getpid(), signal.SIGUSR1)
    while not calls:
        await asyncio.sleep(0.001)
    print(calls)
    loop.remove_signal_handler(signal.SIGUSR1)
run(main())
""")
    lines = out.splitlines()
    assert lines[0] == "0" and lines[2:] == [] or lines[-1].startswith("['parent'")


def test_multiprocessing(program):
    """A pool of forked workers, each of which runs loops."""
    out = program("""
import multiprocessing
async def square(n):
    await asyncio.sleep(0.001)
    return n * n
def work(n):
    return run(square(n))
run(square(1))
context = multiprocessing.get_context("fork")
with context.Pool(2) as pool:
    print(pool.map(work, range(5)))
""")
    assert out == "[0, 1, 4, 9, 16]\n"


def test_subprocess_while_the_loop_runs(program):
    out = program("""
import subprocess
async def main():
    print(subprocess.run([sys.executable, "-c", "print('child')"], capture_output=True).stdout)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print('async')", stdout=-1)
    print((await process.communicate())[0], process.returncode)
run(main())
""")
    assert out == "b'child\\n'\nb'async\\n' 0\n"
