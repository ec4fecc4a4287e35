"""The loop as a whole: the C core over asyncio's own Python code.

What happens per callback, per task step or per event is C (_core).  What happens per program, per server or on the way
to an error message is here or inherited from the running Python's asyncio, which is how it stays exactly what that
Python documents.
"""

import asyncio
import os
import selectors
import signal
import sys
import threading
import weakref
from asyncio import base_events, events, format_helpers, futures, tasks
from asyncio.log import logger

from . import _core, _introspect, _streams
from ._processes import Processes
from ._streams import is_asyncios as stream_class_is_asyncios  # noqa: F401 (a hook of _core)
from ._transports import (  # noqa: F401 (the hooks of _core)
    Transports, accept_asyncios_tls, accept_failed, accepted_debug, accepted_failed, pipe_closed_by_peer, pipe_info, pipe_repr,
    pipe_write_to_lost, set_result_unless_cancelled, socket_info, transport_debug, transport_debug_error, transport_failed,
    transport_repr, transport_unclosed, write_buffer_limits, write_to_lost)
from ._tls import (  # noqa: F401 (more of them)
    choose_engine, sslproto_is_asyncios, tls_buffer_limits, tls_connected, tls_failed, tls_fatal, tls_keeps_not_open, tls_ktls,
    tls_took, tls_wish_ktls,
    tls_write_to_lost, tls_zero_return)

__all__ = ("Loop", "new_event_loop", "run")

#: What this class overrides or relies on in asyncio's classes; a test holds the list against the running Python.
BASE_HOOKS = {
    "BaseEventLoop": (
        "__del__", "__init__", "_asyncgen_finalizer_hook", "_asyncgen_firstiter_hook", "_check_callback",
        "_check_closed", "_check_running", "_check_thread", "_set_coroutine_origin_tracking", "_run_once",
        "_write_to_self", "_add_callback", "call_later", "close", "create_task", "run_until_complete", "set_debug",
        "set_task_factory", "shutdown_asyncgens",
    ),
    "SelectorEventLoop": (
        "_add_reader", "_add_writer", "_remove_reader", "_remove_writer", "_make_self_pipe", "_close_self_pipe",
        "_read_from_self", "_add_callback_signalsafe", "add_signal_handler", "remove_signal_handler", "close",
        "_make_subprocess_transport", "_child_watcher_callback",
    ),
}

# BaseEventLoop.create_task() hands every keyword on where it takes **kwargs (3.13.3+)
_VARKEYWORDS = 0x08
_CREATE_TASK_TAKES_KWARGS = bool(base_events.BaseEventLoop.create_task.__code__.co_flags & _VARKEYWORDS)
_FORMAT_TAKES_DEBUG = "debug" in format_helpers._format_callback_source.__code__.co_varnames


class _Watched:
    """Stands where asyncio's loop has its selector: what the repr of inherited transports asks of it, select() and close()."""

    def __init__(self, loop):
        self._loop = weakref.ref(loop)

    def get_key(self, fileobj):
        loop = self._loop()
        watched = 0 if loop is None or loop.is_closed() else loop._watched(fileobj)
        if not watched:
            raise KeyError(f"{fileobj!r} is not registered")
        return selectors.SelectorKey(fileobj, fileobj, watched, None)

    def select(self, timeout=None):
        """A turn of the loop that waits no longer than timeout; there is nothing left to do for who asks.

        Programs that put a _run_once() of their own in the loop's place, so that it can run within itself, ask for this.
        """
        loop = self._loop()
        if timeout is None:
            _core.Loop._run_once(loop)
        else:
            waited = loop.call_later(timeout, lambda: None)
            try:
                _core.Loop._run_once(loop)
            finally:
                waited.cancel()
        return []

    def close(self):
        """Nothing to close: the poller is the loop's own."""


def _option(value, variable, default=False):
    """An option as it was given, or else as the environment variable says, or else the default."""
    if value is not None:
        return bool(value)
    said = os.environ.get(variable, "")
    return said != "0" if said else default


class Loop(_core.Loop, Transports, Processes, asyncio.SelectorEventLoop):
    """An asyncio event loop whose scheduling is C.

    await_values: let `await x` give x for a plain value x (numbers, strings, bytes, containers) while this loop runs;
    None: as the environment variable ASYNCFAST_AWAIT_VALUES says.
    fast_streams: let asyncio.open_connection(), start_server() and alike give asyncfast's streams while this loop runs;
    None: as ASYNCFAST_FAST_STREAMS says.

    tls: "direct" or "portable", who makes the records of TLS: OpenSSL on the connection's own memory, or ssl.SSLObject;
    None: as the environment variable ASYNCFAST_TLS says, else the direct one where it can be had.  ValueError for another
    name, RuntimeError if "direct" is asked for and cannot be had.

    ktls: let the kernel encrypt what TLS connections send, where it can; None: as ASYNCFAST_KTLS says.  The SSLContext's own
    ssl.OP_ENABLE_KTLS asks for the same.  get_extra_info("ktls") of a transport says whether it does, and why not.

    busy_poll: where waits for events are short (up to 50 microseconds) and looking again and again is measured to take no more
    processor time than sleeping, or at most 1/16 more, look: answers come up to two and a half times as fast.  False: always
    sleep; None: as ASYNCFAST_BUSY_POLL says, else True.
    """

    def __init__(self, *, await_values=None, fast_streams=None, tls=None, ktls=None, busy_poll=None):
        try:
            self._tls_engine = choose_engine(tls) if tls is not None or os.environ.get("ASYNCFAST_TLS") else None
        except BaseException:
            self._shutdown()        # or it would say that nobody has closed it
            raise
        super().__init__(_Watched(self))
        self._wakeup_fd_before = None
        if _option(await_values, "ASYNCFAST_AWAIT_VALUES"):
            _core._install_await_values()
            self._await_values = True
        self._busy_poll = _option(busy_poll, "ASYNCFAST_BUSY_POLL", True)
        self._ktls = _option(ktls, "ASYNCFAST_KTLS")
        self._fast_streams = _option(fast_streams, "ASYNCFAST_FAST_STREAMS")
        if self._fast_streams:
            _streams.install()

    @property
    def tls_engine(self):
        """Who makes the records of TLS: "direct" or "portable"."""
        if self._tls_engine is None:
            self._tls_engine = choose_engine(None)
        return self._tls_engine

    # -- running

    def run_forever(self):
        """Run until stop() is called.  RuntimeError if closed, running, or another loop runs in this thread."""
        self._check_closed()
        self._check_running()
        self._thread_id = threading.get_ident()
        hooks = sys.get_asyncgen_hooks()
        try:
            self._set_coroutine_origin_tracking(self._debug)
            sys.set_asyncgen_hooks(firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook)
            events._set_running_loop(self)
            self._watch_signals()
            self._run()
        finally:
            self._stopping = False
            self._thread_id = None
            self._unwatch_signals()
            events._set_running_loop(None)
            self._set_coroutine_origin_tracking(False)
            sys.set_asyncgen_hooks(*hooks)

    def _watch_signals(self):
        """Have the C signal handler write to our socket, so that a signal ends a poll that is about to start.

        Only the main thread of the main interpreter may; and a wake-up fd that somebody else has set stays theirs.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        ours = self._csock.fileno()
        try:
            before = signal.set_wakeup_fd(ours, warn_on_full_buffer=False)
        except ValueError:          # a subinterpreter
            return
        if before not in (-1, ours):
            try:
                signal.set_wakeup_fd(before, warn_on_full_buffer=False)
                return
            except (OSError, ValueError):
                before = -1         # closed by whoever set it: nobody waits for what is written there
        self._wakeup_fd_before = before

    def _unwatch_signals(self):
        before, self._wakeup_fd_before = self._wakeup_fd_before, None
        # with handlers added, signals are noted between runs as well, as on asyncio
        if before is not None and not self._signal_handlers:
            signal.set_wakeup_fd(before)

    def close(self):
        """Close the loop: queues are cleared, timers disarmed, the executor shut down without waiting.

        RuntimeError while it runs.  Tasks that were not done are let go.
        """
        if self.is_closed():
            return
        super().close()
        self._shutdown()


def new_event_loop(*, await_values=None, fast_streams=None, tls=None, ktls=None, busy_poll=None):
    """Return a new Loop.  Fits wherever asyncio takes a loop_factory."""
    return Loop(await_values=await_values, fast_streams=fast_streams, tls=tls, ktls=ktls, busy_poll=busy_poll)


def run(main, *, debug=None, loop_factory=None, await_values=None, fast_streams=None, ktls=None):
    """asyncio.run() on a Loop: run the coroutine main, close everything, return its result.

    Raises what main raises, RuntimeError inside a running loop, ValueError/TypeError if main is no coroutine, as
    asyncio.run() does.
    """
    if loop_factory is None:
        def loop_factory():
            return new_event_loop(await_values=await_values, fast_streams=fast_streams, ktls=ktls)
    if events._get_running_loop() is not None:
        raise RuntimeError("asyncio.run() cannot be called from a running event loop")
    with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
        return runner.run(main)


# -- called from C (the hooks of _core)

call_later = base_events.BaseEventLoop.call_later
create_task = base_events.BaseEventLoop.create_task
sock_accept = asyncio.SelectorEventLoop.sock_accept
sock_connect = asyncio.SelectorEventLoop.sock_connect
sock_recv = asyncio.SelectorEventLoop.sock_recv
sock_recv_into = asyncio.SelectorEventLoop.sock_recv_into
sock_recvfrom = asyncio.SelectorEventLoop.sock_recvfrom
sock_recvfrom_into = asyncio.SelectorEventLoop.sock_recvfrom_into
sock_sendall = asyncio.SelectorEventLoop.sock_sendall
sock_sendto = asyncio.SelectorEventLoop.sock_sendto


def _format_callback(callback, args, loop):
    if _FORMAT_TAKES_DEBUG:
        return format_helpers._format_callback_source(callback, args, debug=loop.get_debug())
    return format_helpers._format_callback_source(callback, args)


def callback_failed(handle, exc):
    """A handle's callback raised: tell the loop's exception handler, as asyncio.Handle does."""
    loop = handle._loop
    context = {
        "message": f"Exception in callback {_format_callback(handle._callback, handle._args, loop)}",
        "exception": exc,
        "handle": handle,
    }
    if handle._source_traceback:
        context["source_traceback"] = handle._source_traceback
    loop.call_exception_handler(context)


def step_failed(task, exc):
    """A task could not be stepped at all (its context is entered already, say)."""
    task.get_loop().call_exception_handler({
        "message": f"Exception in callback {type(task).__name__}.__step()",
        "exception": exc,
        "task": task,
    })


def slow_callback(what, seconds):
    """Debug mode: what (a handle, a task, or a transport whose fd was ready) took longer than slow_callback_duration."""
    text = base_events._format_handle(what) if hasattr(what, "_callback") else repr(what)
    logger.warning("Executing %s took %.3f seconds", text, seconds)


# -- what asyncio makes for a loop without asking it

class _GatheringFuture(_core.Future):
    """asyncio.tasks._GatheringFuture on our Future: what gather() returns on our loops."""

    def __init__(self, children, *, loop):
        super().__init__(loop=loop)
        self._children = children
        self._cancel_requested = False

    def cancel(self, msg=None):
        if self.done():
            return False
        ret = False
        for child in self._children:
            if child.cancel(msg=msg):
                ret = True
        if ret:
            self._cancel_requested = True
        return ret


_asyncio_gathering_future = tasks._GatheringFuture


def _gathering_future(children, *, loop):
    cls = _GatheringFuture if isinstance(loop, _core.Loop) else _asyncio_gathering_future
    return cls(children, loop=loop)


def _before_fork():
    for loop in _core._live_loops():
        if loop._thread_id == threading.get_ident():
            loop._before_fork()


def _after_fork_in_child():
    for loop in _core._live_loops():
        if not loop.is_closed():
            loop._after_fork()
            loop._close_self_pipe()
            loop._make_self_pipe()


def _wraps_stop_iteration():
    """Whether asyncio's futures of this Python take a StopIteration (wrapped); it changed within 3.12."""
    class AnyLoop:
        def get_debug(self):
            return False

    future = futures.Future(loop=AnyLoop())
    try:
        future.set_exception(StopIteration())
    except TypeError:
        return False
    future.exception()      # or it would say that nobody looked
    return True


_core._register(sys.modules[__name__], Loop, _CREATE_TASK_TAKES_KWARGS, _wraps_stop_iteration())
tasks._GatheringFuture = _gathering_future
_introspect.install()
os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
