"""The call graph of 3.14: who awaits whom, for our tasks as for asyncio's; and `python -m asyncio ps`."""

import asyncio
import io
import re
import sys

import pytest

# what is written in Python takes no part
pytestmark = [
    pytest.mark.skipif(sys.version_info < (3, 14), reason="new in 3.14"),
    pytest.mark.kinds("asyncfast", "asyncfast-debug", "asyncio", "asyncio-debug", "subclasses",
                      "asyncfast-task-asyncio-future", "asyncio-task-asyncfast-future", "asyncio-task-on-asyncfast",
                      "asyncfast-task-on-asyncio"),
]


def shape(graph):
    """The graph without what differs from run to run."""
    def name(future):
        return getattr(future, "get_name", lambda: "future")() if not getattr(
            future, "get_name", lambda: "")().startswith("Task-") else "task"

    return (name(graph.future), [entry.frame.f_code.co_name for entry in graph.call_stack],
            sorted((shape(each) for each in graph.awaited_by), key=repr))


async def deep(what):
    return await what


def name_main():
    asyncio.current_task().set_name("main")


async def test_of_the_current_task(loop):
    name_main()
    graph = asyncio.capture_call_graph()
    assert graph.future is asyncio.current_task() and graph.awaited_by == ()
    assert graph.call_stack[-1].frame.f_code.co_name == "test_of_the_current_task" or \
        "test_of_the_current_task" in [entry.frame.f_code.co_name for entry in graph.call_stack]


async def test_awaited_by(loop):
    name_main()
    future = loop.create_future()
    inner = loop.create_task(deep(future), name="inner")
    outer = [loop.create_task(deep(inner), name=f"outer {i}") for i in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    graph = asyncio.capture_call_graph(future)
    assert shape(graph) == ("future", [], [("inner", ["deep"], [("outer 0", ["deep"], []), ("outer 1", ["deep"], [])])])
    assert asyncio.future_discard_from_awaited_by(inner, outer[0]) is None
    asyncio.future_add_to_awaited_by(inner, outer[0])
    assert shape(asyncio.capture_call_graph(future)) == shape(graph)
    future.set_result("x")
    assert await asyncio.gather(*outer) == ["x", "x"]
    asyncio.future_discard_from_awaited_by(inner, outer[0])
    assert asyncio.capture_call_graph(inner).awaited_by == ()


async def test_gather_and_task_group(loop):
    name_main()
    future = loop.create_future()

    async def gathers():
        await asyncio.gather(deep(future), deep(future))

    async def groups():
        async with asyncio.TaskGroup() as group:
            group.create_task(deep(future), name="in group")

    tasks = [loop.create_task(gathers(), name="gathers"), loop.create_task(groups(), name="groups")]
    for _ in range(3):
        await asyncio.sleep(0)
    text = repr(shape(asyncio.capture_call_graph(future)))
    assert "'gathers'" in text and "'groups'" in text and "'in group'" in text
    future.set_result(1)
    await asyncio.wait(tasks)


async def test_print(loop):
    name_main()
    future = loop.create_future()
    task = loop.create_task(deep(future), name="waits")
    await asyncio.sleep(0)
    buffer = io.StringIO()
    asyncio.print_call_graph(future, file=buffer)
    assert "Task(name='waits'" in buffer.getvalue() and "deep" in buffer.getvalue()
    assert re.search(r"test_callgraph\.py', line \d+, in async deep\(\)", buffer.getvalue())
    assert asyncio.format_call_graph(task).startswith("* Task(name='waits'")
    future.set_result(1)
    await task


async def test_finished_tasks_have_no_waiters(loop):
    task = loop.create_task(deep(asyncio.sleep(0)))
    await task
    assert asyncio.capture_call_graph(task).awaited_by == () and task._asyncio_awaited_by in (None, frozenset())


async def test_cancelled_waiter_is_forgotten(loop):
    future = loop.create_future()
    shielded = loop.create_task(deep(future))

    async def waits():
        await asyncio.shield(shielded)

    task = loop.create_task(waits())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(0)
    assert "waits" not in repr(shape(asyncio.capture_call_graph(shielded)))
    future.set_result(1)
    await shielded


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads another process's memory")
@pytest.mark.kinds("asyncfast", "asyncio")
def test_ps(program, kind, request):
    """Of another process, from the outside. Needs leave to read its memory."""
    if kind.fast:
        request.applymarker(pytest.mark.xfail(reason="it knows the layout of asyncio's own tasks only"))
    out = program("""
        import subprocess
        async def deep(what):
            await what
        async def main():
            future = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(deep(future), name="seen by ps")
            await asyncio.sleep(0)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "asyncio", "ps", str(os.getpid()), stdout=-1, stderr=-1)
            out, err = await process.communicate()
            print(process.returncode, out.decode(), err.decode())
            future.set_result(1)
            await task
        run(main())
        """)
    if re.search("Permission|permitted|not permitted|Failed to|ptrace", out):
        pytest.skip("may not read another process's memory")
    assert out.startswith("0") and "seen by ps" in out and "deep" in out
