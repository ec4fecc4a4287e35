"""Loops come and go: nothing is left of a thousand of them, and programs end as they should."""

import asyncio
import gc
import sys
import threading

import pytest

PLAIN = pytest.mark.kinds("asyncfast", "asyncfast-debug", "asyncio")


async def work():
    loop = asyncio.get_running_loop()
    task = loop.create_task(asyncio.sleep(0.0001))
    loop.call_later(1000, print)
    loop.call_soon(int)
    loop.call_soon_threadsafe(int)
    await task


@pytest.mark.kinds("asyncfast", "asyncio")
def test_a_thousand_loops(kind, descriptors):
    def one():
        loop = kind.new_event_loop()
        loop.run_until_complete(work())
        loop.close()

    one()
    before = descriptors(), threading.active_count()
    for _ in range(1000):
        one()
    gc.collect()
    assert (descriptors(), threading.active_count()) == before


@pytest.mark.kinds("asyncfast", "asyncio")
def test_a_thousand_loops_at_once(kind, descriptors):
    """As many as the limit of open files allows; each with its own descriptors."""
    import resource
    count = min(1000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 5 - 50)
    loops = [kind.new_event_loop() for _ in range(count)]
    for loop in loops:
        loop.run_until_complete(asyncio.sleep(0))
    for loop in loops:
        loop.close()


def test_out_of_descriptors(program):
    """Making a loop fails with OSError, and what it had opened is closed again."""
    out = program("""
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30))
        kept, loops = [], []
        warnings.simplefilter("ignore")
        try:
            while True:
                loops.append(new_event_loop())
                loops[-1].run_until_complete(asyncio.sleep(0))
        except OSError as error:
            print(type(error).__name__, error.errno)
        for loop in loops:
            loop.close()
        del loop
        loops.clear()
        gc.collect()
        run(asyncio.sleep(0))
        """)
    assert out.split()[0] == "OSError"


@PLAIN
@pytest.mark.parametrize("ending", [
    "pass", "loop.close()", "loop.call_later(1000, print)", "loop.create_task(asyncio.sleep(1000))",
    "loop.call_soon(print); loop.myself = loop", "loop.create_future().set_exception(ValueError())",
    "task = loop.create_task(asyncio.sleep(1000)); loop.run_until_complete(asyncio.sleep(0))",
    "loop.run_in_executor(None, int)", "sys.exit(0)", "import threading; threading.Thread(target=loop.close).start()",
    "import asyncfast; kept = asyncfast.sleep(1)", "gen = (i async for i in agen()); loop.run_until_complete(anext(gen))",
])
def test_end_of_a_program(program, ending):
    """However things are left, the interpreter ends without a crash."""
    done = program(f"""
        async def agen():
            yield 1
            yield 2
        loop = new_event_loop()
        loop.run_until_complete(asyncio.sleep(0))
        {ending}
        """, status=None)
    assert done.returncode == 0, done.stderr
    assert "Fatal" not in done.stderr and "Segmentation" not in done.stderr


@PLAIN
def test_import_again(program):
    """The module may be imported anew; the old one's objects go on."""
    program("""
        loop = new_event_loop()
        for name in [name for name in sys.modules if name.startswith("asyncfast")]:
            del sys.modules[name]
        import asyncfast
        asyncfast.run(asyncio.sleep(0.001))
        loop.run_until_complete(asyncio.sleep(0.001))
        loop.close()
        """)


def test_loops_of_many_threads(kind):
    def thread():
        for _ in range(10):
            loop = kind.new_event_loop()
            loop.run_until_complete(work())
            loop.close()
        finished.append(1)

    finished = []
    threads = [threading.Thread(target=thread) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(finished) == 8


def test_weak_reference_to_a_closed_loop_dies(kind):
    import weakref
    loop = kind.new_event_loop()
    loop.run_until_complete(work())
    loop.close()
    ref = weakref.ref(loop)
    del loop
    gc.collect()
    assert ref() is None


@pytest.mark.skipif(not hasattr(sys, "gettotalrefcount"), reason="a debug build of Python")
@pytest.mark.kinds("asyncfast")
def test_references_are_flat(kind):
    def one():
        loop = kind.new_event_loop()
        loop.run_until_complete(work())
        loop.close()

    for _ in range(5):
        one()
    gc.collect()
    before = sys.gettotalrefcount()
    for _ in range(50):
        one()
    gc.collect()
    assert sys.gettotalrefcount() - before < 50
