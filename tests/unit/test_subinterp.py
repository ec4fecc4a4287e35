"""Subinterpreters, those with a GIL of their own too: import, run, close, end."""

import sys

import pytest

pytestmark = [pytest.mark.skipif(sys.version_info < (3, 13), reason="none, or asyncio itself crashes there (3.12.1)"),
              pytest.mark.kinds("asyncfast", "asyncfast-debug", "asyncio")]

#: interpreter(code): run code in a new isolated interpreter and end that; whatever this Python's way is
PRELUDE = """
PATH = sys.path[:]
def interpreter(code):
    code = "import sys; sys.path[:] = " + repr(PATH) + "\\n" + code
    try:
        from concurrent import interpreters
    except ImportError:
        pass
    else:
        each = interpreters.create()
        try:
            each.exec(code)
        finally:
            each.close()
        return
    try:
        import _interpreters
        id = _interpreters.create("isolated")
        try:
            if (error := _interpreters.exec(id, code)) is not None:
                raise RuntimeError(error.errdisplay)
        finally:
            _interpreters.destroy(id)
    except ImportError:
        import _xxsubinterpreters
        id = _xxsubinterpreters.create(isolated=True)
        try:
            _xxsubinterpreters.run_string(id, code)
        finally:
            _xxsubinterpreters.destroy(id)
WORK = '''
import asyncio, MODULE, socket, sys
async def main():
    loop = asyncio.get_running_loop()
    assert asyncio.current_task() in asyncio.all_tasks()
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        await loop.sock_sendall(left, b"x")
        assert await loop.sock_recv(right, 10) == b"x"
    await asyncio.gather(*[asyncio.sleep(0.0005) for _ in range(10)])
    await asyncio.sleep(0.001)
    try:
        async with asyncio.timeout(0.001):
            await loop.create_future()
    except TimeoutError:
        pass
    return "fine"
with asyncio.Runner(loop_factory=MODULE.new_event_loop) as runner:
    print(runner.run(main()), flush=True)
'''.replace("MODULE", module.__name__)
"""


def test_one(program):
    assert program(PRELUDE + "interpreter(WORK)\n") == "fine\n"


def test_one_after_the_other(program):
    assert program(PRELUDE + "for _ in range(5): interpreter(WORK)\n") == "fine\n" * 5


def test_beside_the_main_one(program):
    """While a loop runs here; types, tasks and free lists are each interpreter's own."""
    out = program(PRELUDE + """
async def main():
    await asyncio.sleep(0.001)
    await asyncio.to_thread(interpreter, WORK)
    await asyncio.gather(*[asyncio.sleep(0) for _ in range(10)])
    print("main")
run(main())
exec(WORK)
""")
    assert out == "fine\nmain\nfine\n"


def test_many_at_once(program):
    out = program(PRELUDE + """
threads = [threading.Thread(target=interpreter, args=(WORK,)) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
""")
    assert out.split() == ["fine"] * 4


def test_left_open(program):
    """The loop is not closed and has work left when its interpreter ends."""
    out = program(PRELUDE + """
interpreter(WORK + '''
loop = MODULE.new_event_loop()
loop.call_later(1000, print)
loop.call_soon(print)
loop.run_until_complete(asyncio.sleep(0))
import warnings
warnings.simplefilter("ignore")
'''.replace("MODULE", module.__name__))
run(asyncio.sleep(0))
print("main")
""")
    assert out.split()[0] == "fine" and out.split()[-1] == "main"
