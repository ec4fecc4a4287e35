"""What asyncio knows of tasks and futures: all_tasks(), current_task() and the call graph find ours as well.

asyncio keeps this in module globals and in C; our loops keep it in lists of their own, cheaper than a WeakSet entry per
task.  Here the two meet.
"""

import _asyncio
import dataclasses
import gc
import weakref
from asyncio import tasks

from . import _compat, _core


class _TaskSet(weakref.WeakSet):
    """asyncio's WeakSet of tasks, showing the tasks of our loops too: all_tasks() works by iterating it."""

    def __iter__(self):
        yield from super().__iter__()
        yield from _core._live_tasks()

    def __len__(self):
        return super().__len__() + len(_core._live_tasks())

    def __contains__(self, task):
        return super().__contains__(task) or task in _core._live_tasks()


class _CurrentTasks(dict):
    """{loop: task} of asyncio's Python twins (3.14+).  For our loops it is the thread state, where C keeps it."""

    def get(self, loop, default=None):
        if not isinstance(loop, _core.Loop):
            return super().get(loop, default)
        task = _asyncio.current_task(loop)
        return default if task is None else task

    def __setitem__(self, loop, task):
        if isinstance(loop, _core.Loop):
            _asyncio._swap_current_task(loop, task)
        else:
            super().__setitem__(loop, task)

    def __delitem__(self, loop):
        if isinstance(loop, _core.Loop):
            _asyncio._swap_current_task(loop, None)
        else:
            super().__delitem__(loop)


def _show_tasks():
    # The set is tasks._all_tasks (3.11), tasks._scheduled_tasks (3.12+, and later the one of the Python twins); from
    # 3.14 on _asyncio keeps its own without a name.
    for known in (getattr(tasks, "_all_tasks", None), getattr(tasks, "_scheduled_tasks", None),
                  *gc.get_referents(_asyncio)):
        if type(known) is weakref.WeakSet:
            known.__class__ = _TaskSet


def _waiting_tasks(future):
    """Our tasks that wait for a future of asyncio's own, which cannot say so itself."""
    for callback, _ in getattr(future, "_callbacks", None) or ():
        task = getattr(callback, "__self__", None)
        if isinstance(task, _core.Task) and task._fut_waiter is future:
            yield task


def _show_call_graph():
    from asyncio import graph

    build = graph._build_graph_for_future

    def _build_graph_for_future(future, *, limit=None):
        found = build(future, limit=limit)
        if isinstance(future, _core.Future):
            return found
        more = tuple(_build_graph_for_future(task, limit=limit) for task in _waiting_tasks(future))
        return dataclasses.replace(found, awaited_by=found.awaited_by + more) if more else found

    graph._build_graph_for_future = _build_graph_for_future


def install():
    """Once per interpreter, when the package is imported."""
    _show_tasks()
    if _compat.HAVE_CALL_GRAPH:
        tasks._current_tasks = _CurrentTasks(tasks._current_tasks)
        _show_call_graph()
