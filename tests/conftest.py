"""What the tests share.

A test that takes `loop`, `loop_factory` or `kind` runs once on each kind of loop (KINDS); a test function may be a
coroutine function if it takes `loop`.  asyncio's own loop is the oracle: a test that it fails is wrong, or is marked:

    only_asyncfast          asyncio cannot
    kinds(name...)          on these kinds only
    every_task              a test of tasks and futures: on the mixtures of our types and asyncio's as well
    oracle_bug(since, why)  asyncio before the version `since` gets it wrong

ASYNCFAST_NO_ORACLE=1 in the environment leaves asyncio's own kinds out: another build of asyncfast teaches nothing about them.

Every test ends with the process as it was: same descriptors and threads, no running loop, nothing logged that the test
did not take from `logged`, no warning.  Nothing here or in the tests asserts that something was *fast enough*.
"""

import asyncio
import dataclasses
import faulthandler
import functools
import gc
import inspect
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import types

import pytest

import asyncfast

#: Seconds after which a test that hangs shows where, and ends the run.
HANG = 600 if os.environ.get("ASYNCFAST_SANITIZER") else 60

VERSION = sys.version_info[:3]


def pytest_configure(config):
    config.addinivalue_line("markers", "only_asyncfast: not on asyncio's loop, which cannot")
    config.addinivalue_line("markers", "kinds(name, ...): only on these kinds of loop")
    config.addinivalue_line("markers", "every_task: also on mixtures of our tasks and futures with asyncio's")
    config.addinivalue_line("markers", "oracle_bug(since, why): asyncio before version `since` gets it wrong")
    config.addinivalue_line("filterwarnings", "error")
    Log.stderr = os.dup(sys.__stderr__.fileno())  # not captured


def pytest_unconfigure():
    os.close(Log.stderr)


def collect():
    """Collect garbage, and have the next collection look only at what is made until then."""
    gc.collect()
    gc.freeze()


def pytest_collection_finish(session):
    collect()


# -- kinds of loops

@dataclasses.dataclass
class Kind:
    """A kind of loop, and the tasks and futures on it; `module` is where the loop's names are."""

    name: str
    module: types.ModuleType = asyncfast
    Task: type = asyncfast.Task
    Future: type = asyncfast.Future
    debug: bool = False
    native: bool = True  # the loop's own tasks and futures

    @property
    def fast(self):
        return self.module is asyncfast

    def new_event_loop(self):
        loop = self.module.new_event_loop() if self.fast else asyncio.SelectorEventLoop()
        loop.set_debug(self.debug)
        loop.slow_callback_duration = 3600  # a busy machine must not make a test fail
        if not self.native:
            loop.set_task_factory(lambda loop, coro, **kwargs: self.Task(coro, loop=loop, **kwargs))
            loop.create_future = functools.partial(self.Future, loop=loop)
        return loop


class TaskSubclass(asyncfast.Task):
    pass


class FutureSubclass(asyncfast.Future):
    pass


ASYNCIO = dict(module=asyncio, Task=asyncio.Task, Future=asyncio.Future)
PYTHON = dict(Task=asyncio.tasks._PyTask, Future=asyncio.futures._PyFuture)
KINDS = [
    Kind("asyncfast"),
    Kind("asyncfast-debug", debug=True),
    Kind("asyncio", **ASYNCIO),
    Kind("asyncio-debug", **ASYNCIO, debug=True),
]
MIXTURES = [
    Kind("subclasses", Task=TaskSubclass, Future=FutureSubclass, native=False),
    Kind("asyncfast-task-asyncio-future", Future=asyncio.Future, native=False),
    Kind("asyncio-task-asyncfast-future", Task=asyncio.Task, native=False),
    Kind("python-task-asyncfast-future", Task=PYTHON["Task"], native=False),
    Kind("asyncfast-task-python-future", Future=PYTHON["Future"], native=False),
    Kind("asyncio-task-on-asyncfast", **ASYNCIO | dict(module=asyncfast), native=False),
    Kind("asyncfast-task-on-asyncio", module=asyncio, native=False),
    Kind("asyncfast-task-on-asyncio-debug", module=asyncio, native=False, debug=True),
]
if VERSION >= (3, 14):  # asyncio.all_tasks() no longer sees tasks written in Python
    MIXTURES = [kind for kind in MIXTURES if kind.Task is not PYTHON["Task"]]


def pytest_generate_tests(metafunc):
    if "kind" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker
    kinds = KINDS + MIXTURES if marker("every_task") else KINDS
    if chosen := marker("kinds"):
        kinds = [kind for kind in KINDS + MIXTURES if kind.name in chosen.args]
    if marker("only_asyncfast"):
        kinds = [kind for kind in kinds if kind.fast]
    if os.environ.get("ASYNCFAST_NO_ORACLE"):
        kinds = [kind for kind in kinds if kind.fast or not kind.native]
    bug = marker("oracle_bug")
    params = []
    for kind in kinds:
        buggy = bug and VERSION < bug.args[0] and not kind.fast
        marks = [pytest.mark.skip(f"asyncio before {bug.args[0]}: {bug.args[1]}")] if buggy else []
        params.append(pytest.param(kind, id=kind.name, marks=marks))
    metafunc.parametrize("kind", params)


@pytest.fixture
def loop_factory(kind):
    """Makes loops of the kind; at the end of the test their tasks are cancelled and they are closed."""
    loops = []

    def new_event_loop():
        loops.append(kind.new_event_loop())
        return loops[-1]

    yield new_event_loop
    for loop in loops:
        finish(loop)


def finish(loop):
    if loop.is_closed():
        return

    async def last():
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await loop.shutdown_asyncgens()
        await loop.shutdown_default_executor()

    try:
        loop.set_task_factory(None)
        loop.slow_callback_duration = 3600      # a test may have asked for little
        loop.run_until_complete(last())
    finally:
        loop.close()


@pytest.fixture
def loop(loop_factory):
    return loop_factory()


@pytest.fixture
def Task(kind):
    return kind.Task


@pytest.fixture
def Future(kind):
    return kind.Future


@pytest.fixture
def errors(loop):
    """The contexts that the loop's exception handler was given."""
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))
    return contexts


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run a test that is a coroutine function on its loop."""
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        args = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
        pyfuncitem.funcargs["loop"].run_until_complete(pyfuncitem.obj(**args))
        return True


# -- comparing with the oracle

ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+")


def outcome(function, *args, **kwargs):
    """What a call gives, or the type and text of what it raises: to be compared with what asyncio gives."""
    try:
        value = function(*args, **kwargs)
    except BaseException as exc:
        return type(exc), ADDRESS.sub("0x", str(exc))
    return ADDRESS.sub("0x", value) if isinstance(value, str) else value


@pytest.fixture(name="outcome")
def outcome_fixture():
    return outcome


@pytest.fixture
def oracle(kind):
    """An asyncio loop to compare with, in the debug mode of the kind."""
    loop = dataclasses.replace(kind, **ASYNCIO, native=True).new_event_loop()
    yield loop
    finish(loop)


# -- programs

@pytest.fixture
def program(kind, tmp_path):
    """program(source) runs it in a process of its own, with `new_event_loop` and `run` of the kind; returns what it
    printed.  status=None: any exit status, and the CompletedProcess is returned."""
    prelude = f"""
        import asyncio, contextlib, gc, os, signal, socket, sys, threading, time, warnings, weakref
        import {kind.module.__name__} as module
        def new_event_loop():
            loop = module.new_event_loop()
            if {kind.debug}:
                loop.set_debug(True)
            return loop
        def run(main):
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                return runner.run(main)
        """

    def run(source, *options, status=0, env=(), **kwargs):
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "ASYNCFAST_A", "ASYNCFAST_F"))}
        environ |= {k: os.environ[k] for k in ("PYTHONPATH", "PYTHONMALLOC") if k in os.environ}
        environ |= {"PYTHONFAULTHANDLER": "1", "PYTHONDONTWRITEBYTECODE": "1"} | dict(env)
        done = subprocess.run([sys.executable, *options, "-c", textwrap.dedent(prelude) + textwrap.dedent(source)],
                              capture_output=True, text=True, env=environ, cwd=tmp_path, timeout=HANG / 2, **kwargs)
        if status is None:
            return done
        assert done.returncode == status, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


# -- leaving everything as it was

def descriptors():
    found = {}
    for fd in os.listdir("/proc/self/fd" if os.path.exists("/proc/self/fd") else "/dev/fd"):
        try:
            found[int(fd)] = os.readlink(f"/proc/self/fd/{fd}") if os.path.exists("/proc/self/fd") else ""
        except OSError:  # the one that lists
            pass
    return found


@pytest.fixture(scope="session", name="descriptors")
def descriptors_fixture():
    return descriptors


class Log(logging.Handler):
    """What asyncio logs, from WARNING up.  A test that expects something takes it."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.records = []

    def emit(self, record):
        self.records.append(record)

    def take(self):
        """The messages so far; they are expected."""
        gc.collect()
        messages, self.records = [record.getMessage() for record in self.records], []
        return messages


@pytest.fixture(autouse=True)
def logged():
    faulthandler.dump_traceback_later(HANG, exit=True, file=Log.stderr)
    log, logger = Log(), logging.getLogger("asyncio")
    logger.addHandler(log)
    before, threads, sigint = descriptors(), set(threading.enumerate()), signal.getsignal(signal.SIGINT)
    yield log
    for thread in set(threading.enumerate()) - threads:
        thread.join(HANG / 2)
    asyncio.set_event_loop(None)
    collect()
    logger.removeHandler(log)
    faulthandler.cancel_dump_traceback_later()
    after = {
        "logged": [record.getMessage() for record in log.records],
        "running loop": asyncio._get_running_loop(),
        "asyncgen hooks": sys.get_asyncgen_hooks(),
        "coroutine origin tracking": sys.get_coroutine_origin_tracking_depth(),
        "wakeup fd": signal.set_wakeup_fd(-1),
        "SIGINT handler": signal.getsignal(signal.SIGINT),
        "descriptors": descriptors(),
    }
    asyncio._set_running_loop(None)
    sys.set_asyncgen_hooks(None, None)
    sys.set_coroutine_origin_tracking_depth(0)
    signal.signal(signal.SIGINT, sigint)
    assert after == {"logged": [], "running loop": None, "asyncgen hooks": (None, None), "coroutine origin tracking": 0,
                     "wakeup fd": -1, "SIGINT handler": sigint, "descriptors": before}
