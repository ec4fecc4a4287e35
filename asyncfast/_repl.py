"""The prompt of ``python -m asyncfast``: Python's own, with ``await`` at the top level.

The loop runs in the main thread, also while the prompt waits, so tasks go on in the background and Ctrl-C reaches what
runs.  A second thread reads the lines, hands each statement to the loop and waits until it is done.
"""

import ast
import asyncio
import atexit
import code
import contextvars
import inspect
import os
import queue
import sys
import threading
import types

import asyncfast
from asyncfast import _runner


class Console(code.InteractiveConsole):
    """A console whose statements run in *loop*, all in the same context."""

    def __init__(self, namespace, loop):
        super().__init__(namespace, "<stdin>")
        self.compile.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self.loop = loop
        self.context = contextvars.copy_context()
        self.task = None  # the statement that awaits, as long as it does
        self.interrupted = False
        self.outcomes = queue.SimpleQueue()  # how each statement ended: its exception, or None
        self.exit = None  # the SystemExit that ended the prompt

    def read(self):
        """Read and run statements until the end of input or ``exit()``; then stop the loop."""
        try:
            self.start_up()
            self.interact(banner="", exitmsg="")
        except SystemExit as error:
            self.exit = error
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)

    def start_up(self):
        """Greet, and run the file that PYTHONSTARTUP names."""
        if not sys.flags.quiet:
            self.write(f"asyncfast {asyncfast.__version__}, Python {sys.version} on {sys.platform}\n"
                       'Use "await" directly instead of "asyncio.run()"; asyncio and asyncfast are imported.\n'
                       'Type "help", "copyright", "credits" or "license" for more information.\n')
        path = not sys.flags.ignore_environment and os.environ.get("PYTHONSTARTUP")
        if path:
            try:
                self.runcode(_runner.load_script(path)[0])
            except (OSError, SyntaxError, ImportError) as error:
                self.show(error)

    def runcode(self, code):
        """Run a statement in the loop's thread, and show the exception that it ends with, if any."""
        self.loop.call_soon_threadsafe(self.begin, code, context=self.context)
        error = self.outcomes.get()
        if isinstance(error, SystemExit):
            raise error
        if self.interrupted or isinstance(error, KeyboardInterrupt):
            self.interrupted = False
            self.write("\nKeyboardInterrupt\n")
        elif error:
            self.show(error)

    def begin(self, code):
        """Run a statement; one that awaits goes on as a task."""
        try:
            result = types.FunctionType(code, self.locals)()
            if inspect.iscoroutine(result):
                self.task = self.loop.create_task(result, context=self.context)
                self.task.add_done_callback(self.end)
                return
        except BaseException as error:  # whatever it is, the statement's thread deals with it
            self.outcomes.put(error)
        else:
            self.outcomes.put(None)

    def end(self, task):
        """Take the outcome of the task that was the statement."""
        self.task = None
        self.outcomes.put(asyncio.CancelledError() if task.cancelled() else task.exception())

    def interrupt(self):
        """Cancel the statement that awaits."""
        if self.task:
            self.interrupted = self.task.cancel()

    def show(self, error):
        """Print *error* by way of ``sys.excepthook``, from the user's frames on."""
        error.__traceback__ = _runner.without_own_frames(error.__traceback__)
        sys.last_exc = sys.last_value = error
        sys.last_type, sys.last_traceback = type(error), error.__traceback__
        sys.excepthook(type(error), error, error.__traceback__)


def run(namespace):
    """Let the user at the terminal run statements in *namespace* until the end of input or ``exit()``.

    Raises the SystemExit that ended the prompt, if one did.
    """
    namespace.update(asyncio=asyncio, asyncfast=asyncfast)
    set_up_readline(namespace)
    sys.audit("cpython.run_stdin")
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        console = Console(namespace, loop)
        threading.Thread(target=console.read, name="prompt", daemon=True).start()
        while True:
            try:
                loop.run_forever()
                break
            except KeyboardInterrupt:
                console.interrupt()
            except SystemExit:
                pass  # a task left through the loop; its outcome says so to the prompt
    if console.exit:
        raise console.exit


def set_up_readline(namespace):
    """Give the prompt a history and completion of *namespace*, where Python has readline."""
    try:
        import readline
        import rlcompleter
    except ImportError:
        return
    readline.set_completer(rlcompleter.Completer(namespace).complete)
    libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
    history = os.environ.get("PYTHON_HISTORY") or os.path.expanduser("~/.python_history")
    try:
        readline.read_history_file(history)
    except OSError:
        pass
    atexit.register(write_history, readline, history)


def write_history(readline, path):
    """Save the lines typed for the next prompt; a home that cannot be written to is no reason for complaint."""
    try:
        readline.write_history_file(path)
    except OSError:
        pass
