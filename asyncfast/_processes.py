"""Subprocesses: asyncio's transport of a child, with a pidfd of its own (pidfd_open(2)).

The child is watched, signalled and reaped by the loop that started it, in its thread, and through the pidfd: no signal
reaches another process that has the number by now, and an exit status that somebody else has read through the Popen object
is taken from there.
"""

import os
import signal
import threading
from asyncio import events, tasks, unix_events
from asyncio.log import logger

_POLICY = getattr(unix_events, "_UnixDefaultEventLoopPolicy", None)
#: What asyncio watches children with of its own accord; until 3.13 a policy says so, and the names are public.
_WATCHERS = tuple(getattr(unix_events, name) for public in ("PidfdChildWatcher", "ThreadedChildWatcher")
                  for name in (public, f"_{public}") if hasattr(unix_events, name))


def _program_has_a_watcher(loop):
    """Whether the program has chosen who watches children (asyncio.set_child_watcher(), up to 3.13)."""
    holder = loop
    if not hasattr(loop, "_watcher"):
        holder = events.get_event_loop_policy()
        if getattr(type(holder), "get_child_watcher", None) is not _POLICY.get_child_watcher:
            return True
    return getattr(holder, "_watcher", None) is not None and type(holder._watcher) not in _WATCHERS


class _Pidfd:
    """A file descriptor that stands for a process, closed when it is let go of."""

    def __init__(self, pid):
        self._fd = -1
        self._fd = os.pidfd_open(pid)

    def fileno(self):
        return self._fd

    def close(self):
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close


class SubprocessTransport(unix_events._UnixSubprocessTransport):
    """A child process and its pipes."""

    _pidfd = None

    def _start(self, *args, **kwargs):
        super()._start(*args, **kwargs)
        try:
            self._pidfd = _Pidfd(self._proc.pid)
        except OSError:         # none left, not allowed, or too old a kernel
            pass

    def _watch(self):
        """Have _exited() called once the child has ended."""
        if self._pidfd is not None:
            self._loop._add_reader(self._pidfd.fileno(), self._exited)
        else:
            threading.Thread(target=self._wait_in_thread, args=(self._loop, self._proc.pid), daemon=True,
                             name=f"asyncfast-waitpid-{self._proc.pid}").start()  # fmt: skip

    def _wait_in_thread(self, loop, pid):
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            pass
        try:
            loop.call_soon_threadsafe(self._exited)
        except RuntimeError:
            logger.warning("Loop %r that handles pid %r is closed", loop, pid)

    def _exited(self):
        pid, returncode = self._proc.pid, self._reap()
        if self._pidfd is not None:
            self._loop._remove_reader(self._pidfd.fileno())
            self._pidfd.close()
        self._loop._child_watcher_callback(pid, returncode, self)

    def _reap(self):
        process = self._proc
        which = (os.P_PID, process.pid) if self._pidfd is None else (os.P_PIDFD, self._pidfd.fileno())
        with process._waitpid_lock:         # in another thread Popen may be just about to know
            if process.returncode is None:
                try:
                    found = os.waitid(*which, os.WEXITED)
                except ChildProcessError:
                    logger.warning("child process pid %d exit status already read:  will report returncode 255", process.pid)
                    process.returncode = 255
                else:
                    process.returncode = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
        return process.returncode

    def _process_exited(self, returncode):
        super()._process_exited(returncode)
        if self._exit_waiters is not None:
            # before 3.13.2 asyncio lets who waits for the child wait for its pipes too, which others may have inherited
            waiters, self._exit_waiters = self._exit_waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(returncode)

    def close(self):
        """Close the pipes, and kill the child unless it has ended."""
        super().close()
        if self._pidfd is not None and self._loop is not None and self._loop.is_closed():
            self._pidfd.close()         # nobody watches it any more
            self._pidfd = None

    def send_signal(self, number):
        """Send a signal to the child; nothing is done if it has ended.  ProcessLookupError after connection_lost()."""
        self._check_proc()
        if self._proc.returncode is not None or self._returncode is not None:
            return
        try:
            if self._pidfd is None:
                os.kill(self._proc.pid, number)
            else:
                signal.pidfd_send_signal(self._pidfd.fileno(), number)
        except ProcessLookupError:
            pass

    def terminate(self):
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self):
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Processes:
    """The loop's method that starts children."""

    async def _make_subprocess_transport(self, protocol, args, shell, stdin, stdout, stderr, bufsize, extra=None, **kwargs):
        if _program_has_a_watcher(self):
            return await super()._make_subprocess_transport(protocol, args, shell, stdin, stdout, stderr, bufsize, extra,
                                                            **kwargs)
        waiter = self.create_future()
        transport = SubprocessTransport(self, protocol, args, shell, stdin, stdout, stderr, bufsize, waiter, extra, **kwargs)
        transport._watch()
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await tasks.shield(transport._wait())
            raise
        return transport
