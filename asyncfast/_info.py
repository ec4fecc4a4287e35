"""``python -m asyncfast info``: what this asyncfast is made of and runs on, found by trying it."""

import asyncio
import functools
import platform
import sys
import sysconfig

import asyncfast

WHY_BACKEND = {"epoll": "what Linux has everywhere, containers included"}
WHY_TIMERS = {
    "epoll_pwait2": "waits of nanoseconds; the kernel has it",
    "timerfd": "waits of nanoseconds; the kernel, or a filter on it, refuses epoll_pwait2",
}
WHY_BUSY_POLL = "where it is measured to cost hardly more than sleeping, or less"


def show():
    """Print each fact as a ``name: value`` line."""
    loop = asyncfast.new_event_loop(tls="portable")     # which there always is: tls() says what is wrong with another
    backend, timers, busy_poll = loop.backend, loop.timer_backend, loop._busy_poll
    loop.close()
    facts = {
        "asyncfast": asyncfast.__version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "backend": f"{backend} ({WHY_BACKEND.get(backend, 'the one built in')})",
        "timers": f"{timers} ({WHY_TIMERS.get(timers, 'the one built in')})",
        "busy polling": WHY_BUSY_POLL if busy_poll else "no (ASYNCFAST_BUSY_POLL)",
        "TLS": tls(),
        "kernel TLS": kernel_tls(),
        "await values": "on" if awaits_values() else "on request" if awaits_values(await_values=True) else "no",
        "free-threading": free_threading(),
        "subinterpreters": subinterpreters(),
    }
    print(*(f"{name}: {value}" for name, value in facts.items()), sep="\n")


def tls():
    """Say which engine makes the records of TLS, and why if it is not the one made for it."""
    try:
        from asyncfast import _tls
        engine = _tls.choose_engine(None)
        why = _tls.why_not_direct() or ("ASYNCFAST_TLS" if engine == "portable" else _tls.WHY_ENGINE)
        return f"{engine} ({why})"
    except (ValueError, RuntimeError) as error:
        return f"no ({error})"


def kernel_tls():
    """Say whether the kernel can encrypt, for connections that ask for it."""
    try:
        from asyncfast import _tls
        why_not = _tls.why_no_ktls()
    except OSError as error:
        why_not = f"no connection to try it on: {error}"
    return f"no ({why_not})" if why_not else "on request, for what is sent"


def awaits_values(**options):
    """Tell whether a loop made with *options* lets a coroutine await a plain value."""
    async def probe():
        return await 1  # noqa: an int, on purpose

    with asyncio.Runner(loop_factory=functools.partial(asyncfast.new_event_loop, tls="portable", **options)) as runner:
        try:
            return runner.run(probe()) == 1
        except TypeError:
            return False


def free_threading():
    """Say whether this Python runs without its global lock."""
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "no (this Python has the GIL)"
    return "yes" if not sys._is_gil_enabled() else "no (built for it, but the GIL is on)"


def subinterpreters():
    """Say whether asyncfast loads in an interpreter with a lock of its own."""
    try:
        from concurrent import interpreters
    except ImportError:
        return "not known (this Python has no concurrent.interpreters)"
    interpreter = interpreters.create()
    try:
        interpreter.exec("import asyncfast._core")
        return "yes"
    except interpreters.ExecutionFailed as error:
        return f"no ({error.excinfo.formatted})"
    finally:
        interpreter.close()
