"""Subprocesses: asyncio's transport of a child, with a pidfd of its own (pidfd_open(2)).

The child is watched, signalled and reaped by the loop that started it, in its thread, and through the pidfd: no signal
reaches another process that has the number by now, and an exit status that somebody else has read through the Popen object
is taken from there.
"""

import os
import signal
import subprocess
import threading
import warnings
from asyncio import events, tasks, unix_events
from asyncio.log import logger
from subprocess import PIPE

_POLICY = getattr(unix_events, "_UnixDefaultEventLoopPolicy", None)
#: What asyncio watches children with of its own accord; until 3.13 a policy says so, and the names are public.
_WATCHERS = tuple(getattr(unix_events, name) for public in ("PidfdChildWatcher", "ThreadedChildWatcher")
                  for name in (public, f"_{public}") if hasattr(unix_events, name))


def _program_has_a_watcher(loop):
    """Whether the program has chosen who watches children (asyncio.set_child_watcher(), up to 3.13)."""
    try:
        watcher = loop._watcher
    except AttributeError:
        policy = events.get_event_loop_policy()
        if getattr(type(policy), "get_child_watcher", None) is not _POLICY.get_child_watcher:
            return True
        watcher = getattr(policy, "_watcher", None)
    return watcher is not None and type(watcher) not in _WATCHERS


class SubprocessTransport(unix_events._UnixSubprocessTransport):
    """A child process and its pipes.

    What is done for every child is written anew, for asyncio makes a task for pipes that most children do not have; what is
    done for pipes is inherited.
    """

    _pidfd = -1

    def __init__(self, loop, protocol, args, shell, stdin, stdout, stderr, bufsize, waiter=None, extra=None, **kwargs):
        self._extra = {} if extra is None else extra
        self._loop = loop
        self._protocol = protocol
        self._closed = self._finished = False
        self._proc = self._pid = self._returncode = None
        self._exit_waiters = set()
        self._pending_calls = []        # of the protocol's methods, until connection_made()
        self._pipes = {fd: None for fd, wish in enumerate((stdin, stdout, stderr)) if wish == PIPE}
        try:
            self._proc = process = subprocess.Popen(args, shell=shell, stdin=stdin, stdout=stdout, stderr=stderr,
                                                    universal_newlines=False, bufsize=bufsize, **kwargs)
        except BaseException:
            self._closed = True
            raise
        self._pid = pid = process.pid
        self._extra["subprocess"] = process
        try:
            self._pidfd = os.pidfd_open(pid)
        except OSError:         # none left, not allowed, or too old a kernel
            pass
        if loop.get_debug():
            logger.debug("process %r created: pid %s", args if isinstance(args, (bytes, str)) else args[0], pid)
        if self._pipes:
            loop.create_task(self._connect_pipes(waiter))
        else:
            loop.call_soon(self._begin, waiter)

    def _begin(self, waiter):
        """What _connect_pipes() does when there are none."""
        call_soon, calls = self._loop.call_soon, self._pending_calls
        call_soon(self._protocol.connection_made, self)
        for callback, data in calls:
            call_soon(callback, *data)
        self._pending_calls = None
        if waiter is not None and not waiter.cancelled():
            waiter.set_result(None)

    def _watch(self):
        """Have _exited() called once the child has ended."""
        if self._pidfd >= 0:
            self._loop._add_reader(self._pidfd, self._exited)
        else:
            threading.Thread(target=self._wait_in_thread, args=(self._loop, self._pid), daemon=True,
                             name=f"asyncfast-waitpid-{self._pid}").start()  # fmt: skip

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
        returncode = self._reap()
        if self._pidfd >= 0:
            self._loop._remove_reader(self._pidfd)
            self._close_pidfd()
        self._loop._child_watcher_callback(self._pid, returncode, self)

    def _reap(self):
        process = self._proc
        which = (os.P_PID, self._pid) if self._pidfd < 0 else (os.P_PIDFD, self._pidfd)
        with process._waitpid_lock:         # in another thread Popen may be just about to know
            if process.returncode is None:
                try:
                    found = os.waitid(*which, os.WEXITED)
                except ChildProcessError:
                    logger.warning("child process pid %d exit status already read:  will report returncode 255", self._pid)
                    process.returncode = 255
                else:
                    process.returncode = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
            return process.returncode

    def _process_exited(self, returncode):
        if self._loop.get_debug():
            logger.info("%r exited with return code %r", self, returncode)
        self._returncode = returncode
        # asyncio before 3.13.2 lets who waits for the child wait for its pipes too, which others may have inherited
        waiters, self._exit_waiters = self._exit_waiters, ()
        self._call(self._protocol.process_exited)
        if self._pipes:
            self._try_finish()
        else:
            self._finished = True
            self._call(self._call_connection_lost, None)
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(returncode)

    async def _wait(self):
        if self._returncode is None:
            waiter = self._loop.create_future()
            self._exit_waiters.add(waiter)
            try:
                await waiter
            finally:
                if self._exit_waiters:
                    self._exit_waiters.discard(waiter)
        return self._returncode

    def close(self):
        """Close the pipes, and kill the child unless it has ended."""
        super().close()
        if self._pidfd >= 0 and self._loop is not None and self._loop.is_closed():
            self._close_pidfd()         # nobody watches it any more

    def _close_pidfd(self):
        pidfd, self._pidfd = self._pidfd, -1
        os.close(pidfd)

    def __del__(self, _warn=warnings.warn):
        if not self._closed:
            super().__del__(_warn)
        if self._pidfd >= 0:
            self._close_pidfd()

    def send_signal(self, number):
        """Send a signal to the child; nothing is done if it has ended.  ProcessLookupError after connection_lost()."""
        self._check_proc()
        if self._proc.returncode is not None or self._returncode is not None:
            return
        try:
            if self._pidfd < 0:
                os.kill(self._pid, number)
            else:
                signal.pidfd_send_signal(self._pidfd, number)
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
