"""``python -m asyncfast``: a program must not notice that it is not plain ``python`` that runs it, but for the loop.

Plain ``python`` is the oracle: most tests run the same program both ways and compare output, errors and status.
"""

import os
import re
import select
import signal
import subprocess
import sys
import textwrap
import zipfile

import pytest

WHICH_LOOP = """
import asyncio
async def which():
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]
"""

ADDRESS = re.compile(r"\b0x[0-9a-f]+")  # where an object lies differs from run to run


def python(*args, cwd, **options):
    """Run the Python that runs the tests, in *cwd*; return its output, errors and status."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("ASYNCFAST", "PYTHON"))}
    environ |= {"PYTHONPATH": os.environ.get("PYTHONPATH", ""), "PYTHONIOENCODING": "utf-8",
                "PYTHONDONTWRITEBYTECODE": "1"} | options.pop("env", {})
    options.setdefault("stdin", None if "input" in options else subprocess.DEVNULL)
    done = subprocess.run([sys.executable, *args], cwd=cwd, env=environ, timeout=60, capture_output=True,
                          encoding="utf-8", errors="backslashreplace", **options)
    return ADDRESS.sub("0x", done.stdout), ADDRESS.sub("0x", done.stderr), done.returncode


@pytest.fixture
def here(tmp_path):
    """An empty folder: ``here(name, source)`` writes a file, ``here.plain(...)`` and ``here.fast(...)`` run Python."""
    def write(name, source):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, str):
            source = textwrap.dedent(source).encode()
        path.write_bytes(source)
        return path
    write.path = tmp_path
    write.plain = lambda *args, **options: python(*args, cwd=tmp_path, **options)
    write.fast = lambda *args, options=(), **kw: python(*options, "-m", "asyncfast", *args, cwd=tmp_path, **kw)
    return write


def same(here, *args, options=(), **kw):
    """Run ``python ARGS`` both ways, each with Python's *options*; return what both gave."""
    plain = here.plain(*options, *args, **kw)
    assert here.fast(*args, options=options, **kw) == plain
    return plain


# Programs that end in every way there is.  Nothing in what they print may tell the two ways apart.
PROGRAMS = {
    "prints": "print('out')",
    "writes without a newline": "import sys; sys.stdout.write('out'); sys.stderr.write('err')",
    "raises": "def f():\n    1/0\n\nf()",
    "raises while handling": "try:\n    1/0\nexcept ZeroDivisionError:\n    {}['key']",
    "raises a group": "raise ExceptionGroup('two', [ValueError(1), TypeError(2)])",
    "raises with a note": "e = ValueError(); e.add_note('a note'); raise e",
    "does not parse": "print('never')\nx = = 1\n",
    "is indented wrongly": "if 1:\nprint('never')\n",
    "leaves a bracket open": "print('never'\n",
    "exits": "import sys; sys.exit()",
    "exits with a number": "import sys; sys.exit(3)",
    "exits with a big number": "import sys; sys.exit(257)",
    "exits with a string": "import sys; sys.exit('goodbye')",
    "exits with an object": "raise SystemExit([1, 2])",
    "exits from a finally": "try:\n    1/0\nfinally:\n    raise SystemExit(4)",
    "is interrupted": "raise KeyboardInterrupt",
    "interrupts itself": "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(10)",
    "is killed": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "has an atexit function": "import atexit; atexit.register(print, 'bye'); 1/0",
    "has an atexit function that raises": "import atexit\n@atexit.register\ndef bye():\n    1/0\n",
    "leaves a thread": "import threading, time\ndef work():\n    time.sleep(.1)\n    print('done')\n"
                       "threading.Thread(target=work).start()\n1/0",
    "has an excepthook": "import sys\ndef hook(kind, value, tb):\n    print(kind, value, tb.tb_frame.f_code.co_name,"
                         " tb.tb_next, sys.last_value is value, sys.exc_info())\nsys.excepthook = hook\n1/0",
    "has an excepthook that exits": "import sys\nsys.excepthook = lambda *error: sys.exit(7)\n1/0",
    "looks for its traceback": "import sys, traceback\ntry:\n    1/0\nexcept Exception:\n    traceback.print_exc()\n",
    "warns": "import warnings\nwarnings.warn('careful')\nwarnings.warn('old', DeprecationWarning)\nassert 1 is 1, 'x'",
    "dies in asyncio": "import asyncio\nasyncio.get_running_loop()",
    "tells its name space": "print([(k, type(v).__name__, v if isinstance(v, (str, type)) else '')"
                            " for k, v in globals().items()])",
    "tells its surroundings": "import sys, __main__\nprint(sys.argv, sys.path, __name__, sys.flags, sys.warnoptions,"
                              " __main__.__dict__ is globals())",
    "reads standard input": "import sys\nprint(repr(sys.stdin.read()))",
    "has a future": "from __future__ import annotations\ndef f(x: y): pass\nprint(f.__annotations__)",
    "has none": "try:\n    def f(x: int): pass\n    print(f.__annotations__)\nexcept NameError: pass",
    "keeps a __del__ for the end": "class C:\n    def __del__(self): print('deleted')\nc = C()",
    "pickles its own": "import pickle\nclass C: pass\nprint(type(pickle.loads(pickle.dumps(C()))) is C, C.__module__)",
}


@pytest.mark.parametrize("source", PROGRAMS.values(), ids=PROGRAMS)
class TestSameAsPlainPython:
    def test_file(self, here, source):
        here("program.py", source)
        same(here, "program.py", "one", "--two")

    def test_command(self, here, source):
        same(here, "-c", source, "one", "--two")

    def test_module(self, here, source):
        here("package/program.py", source)
        same(here, "-m", "package.program", "one", "--two")

    def test_standard_input(self, here, source):
        same(here, "-", "one", "--two", input=source)


class TestFile:
    def test_in_another_folder(self, here):
        here("folder/program.py", "import sys, beside; print(sys.path, sys.argv, __file__)")
        here("folder/beside.py", "")
        same(here, "folder/program.py")
        same(here, "./folder/../folder/program.py")
        same(here, str(here.path / "folder/program.py"))

    def test_by_a_link(self, here):
        here("folder/program.py", "import sys; print(sys.path, sys.argv, __file__); 1/0")
        (here.path / "link.py").symlink_to("folder/program.py")
        same(here, "link.py")

    def test_with_a_name_that_is_not_a_module(self, here):
        here("my program", "print(__file__); 1/0")
        same(here, "my program")

    def test_with_an_encoding(self, here):
        here("latin.py", "# coding: latin-1\nprint('\xe9')\n1/0 # \xe9".encode("latin-1"))
        same(here, "latin.py")
        here("bom.py", b"\xef\xbb\xbfprint('\xc3\xa9')\r\n1/0\r\n")
        same(here, "bom.py")

    def test_compiled(self, here):
        here("program.py", "print(__file__, type(__loader__)); 1/0")
        here.plain("-c", "import py_compile; py_compile.compile('program.py', 'program.pyc')")
        same(here, "program.pyc")

    @pytest.mark.parametrize("source", ["import sys; print(sys.argv, sys.path, __file__, __spec__.name); 1/0",
                                        "x = = 1"])
    def test_folder_and_zip(self, here, source):
        main = here("folder/__main__.py", source)
        same(here, "folder", "argument")
        same(here, "folder", options=["-P"])
        with zipfile.ZipFile(here.path / "archive", "w") as archive:
            archive.write(main, "__main__.py")
        same(here, "archive", "argument")

    def test_that_is_not_there(self, here):
        (here.path / "folder").mkdir()
        assert same(here, "nothing.py")[2] == 2
        assert same(here, "nothing/nothing.py")[2] == 2
        assert same(here, "folder")[2] == 1

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
    def test_that_may_not_be_read(self, here):
        here("secret.py", "").chmod(0)
        assert same(here, "secret.py")[2] == 2

    def test_that_runs_processes(self, here):
        here("program.py", """
            import multiprocessing
            def work(x):
                return x * x
            if __name__ == "__main__":
                for method in multiprocessing.get_all_start_methods():
                    with multiprocessing.get_context(method).Pool(1) as pool:
                        print(method, pool.map(work, [1, 2, 3]))
        """)
        assert "spawn [1, 4, 9]\n" in same(here, "program.py")[0]

    @pytest.mark.parametrize("options", [["-O"], ["-OO"], ["-P"], ["-X", "dev"], ["-W", "error"], ["-b"], ["-s"],
                                         ["-B"], ["-X", "utf8"], ["-q"]], ids=" ".join)
    def test_with_options_of_python(self, here, options):
        here("program.py", "'doc'\nimport sys\nprint(sys.flags, sys.path, sys.warnoptions, __debug__, __doc__)\n"
                           "assert 0\n1/0")
        same(here, "program.py", options=options)
        same(here, "-c", "import sys; print(sys.path); 1/0", options=options)


class TestModule:
    def test_package(self, here):
        here("package/__init__.py", "print(__name__)")
        here("package/__main__.py", "import sys; print(sys.argv, __file__, __package__, __spec__.name); 1/0")
        same(here, "-m", "package", "argument")
        same(here, "-mpackage")

    def test_that_is_not_there(self, here):
        here("package/__init__.py", "")
        assert same(here, "-m", "nothing")[2] == 1
        assert same(here, "-m", "package")[2] == 1
        assert same(here, "-m", "package.nothing")[2] == 1

    def test_whose_package_raises(self, here):
        here("package/__init__.py", "1/0")
        here("package/program.py", "")
        same(here, "-m", "package.program")

    def test_of_the_standard_library(self, here):
        same(here, "-m", "json.tool", input="[1]")
        same(here, "-m", "timeit", "-h")


class TestCommand:
    def test_joined_to_its_option(self, here):
        same(here, "-cprint(1)")

    def test_shows_its_lines_where_python_does(self, here):
        same(here, "-c", "def f():\n    raise ValueError(\n        'over lines')\nf()")
        same(here, "-c", "import traceback, linecache\ntry: 1/0\nexcept Exception: traceback.print_exc()")

    def test_indented(self, here):
        assert here.fast("-c", "\n    import sys\n    print(sys.argv)\n") == ("['-c']\n", "", 0)


class TestStandardInput:
    def test_without_arguments(self, here):
        same(here, input="import sys; print(sys.argv, __file__); 1/0")

    def test_empty_or_closed(self, here):
        same(here, input="")
        same(here, stdin=None, preexec_fn=lambda: os.close(0))


class TestLoop:
    """Every documented way to a loop leads to asyncfast's."""

    WAYS = {
        "run": "print(asyncio.run(which()))",
        "Runner": "with asyncio.Runner() as runner: print(runner.run(which()))",
        "new_event_loop": "loop = asyncio.new_event_loop()\nprint(loop.run_until_complete(which()))\nloop.close()",
        "set_event_loop": "loop = asyncio.new_event_loop()\nasyncio.set_event_loop(loop)\n"
                          "print(asyncio.get_event_loop().run_until_complete(which()))\nloop.close()",
        "thread": "import threading\nthread = threading.Thread(target=lambda: print(asyncio.run(which())))\n"
                  "thread.start()\nthread.join()",
        "IsolatedAsyncioTestCase": "import unittest\nclass T(unittest.IsolatedAsyncioTestCase):\n"
                                   "    async def test(self): print(await which())\nT('test').debug()",
    }

    @pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
    @pytest.mark.parametrize("options", [[], ["-W", "error"], ["-X", "dev"]], ids=lambda o: " ".join(o) or "-")
    def test_is_ours_and_nothing_warns(self, here, way, options):
        here("program.py", WHICH_LOOP + way)
        assert here.fast("program.py", options=options) == ("asyncfast\n", "", 0)

    def test_is_ours_for_each_kind_of_program(self, here):
        source = WHICH_LOOP + "print(asyncio.run(which()))"
        here("program.py", source)
        here("folder/__main__.py", source)
        for args in ["program.py"], ["folder"], ["-m", "program"], ["-c", source], ["-"], []:
            assert here.fast(*args, input=source) == ("asyncfast\n", "", 0), args

    def test_leaves_the_warning_filters_alone(self, here):
        same(here, "-c", "import warnings; print(warnings.filters)", options=["-W", "error::ImportWarning"])

    def test_that_the_program_chose_is_kept(self, here):
        source = WHICH_LOOP + "with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as r: print(r.run(which()))"
        assert here.fast("-c", source) == ("asyncio\n", "", 0)

    def test_dies_of_ctrl_c(self, here):
        source = """
            import asyncio, os, signal
            async def main():
                asyncio.get_running_loop().call_later(.05, os.kill, os.getpid(), signal.SIGINT)
                try:
                    await asyncio.sleep(30)
                except asyncio.CancelledError:
                    print("cancelled")
                    raise
            asyncio.run(main())
        """
        out, err, status = here.fast("-c", source)
        assert (out, status) == ("cancelled\n", -signal.SIGINT)
        assert err.startswith("Traceback") and err.endswith("KeyboardInterrupt\n") and "_runner" not in err

    def test_traceback_of_a_coroutine_starts_in_the_program(self, here):
        here("program.py", "import asyncio\nasync def main():\n    1/0\nasyncio.run(main())")
        out, err, status = here.fast("program.py")
        frames = re.findall(r'File "(.*)", line (\d+)', err)
        program = str(here.path / "program.py")
        assert frames[0] == (program, "4") and frames[-1] == (program, "3") and status == 1
        assert not [name for name, _ in frames if name.endswith(("_runner.py", "__main__.py"))]


class TestOptions:
    def test_debug(self, here):
        source = "import asyncio\nasync def main(): print(asyncio.get_running_loop().get_debug())\nasyncio.run(main())"
        assert here.fast("-c", source) == ("False\n", "", 0)
        assert here.fast("--debug", "-c", source) == ("True\n", "", 0)
        assert here.fast("--debug", "-c", source, options=["-E"])[2] == 2

    def test_help_and_version(self, here):
        out, err, status = here.fast("--help")
        assert out.startswith("usage: python -m asyncfast") and (err, status) == ("", 0)
        assert here.fast("-h") == (out, err, status)
        assert all(len(line) <= 80 for line in out.splitlines())
        version = here.plain("-c", "import asyncfast; print('asyncfast', asyncfast.__version__)")
        assert here.fast("--version") == version

    @pytest.mark.parametrize("args", [["--nonsense"], ["-x", "program.py"], ["-m"], ["-c"], ["--debug", "-m"]],
                             ids=" ".join)
    def test_that_make_no_sense(self, here, args):
        out, err, status = here.fast(*args)
        assert (out, err.count("\n"), status) == ("", 1, 2)
        assert err.startswith("asyncfast: ")

    def test_after_the_program_are_the_programs(self, here):
        same(here, "-c", "import sys; print(sys.argv)", "--version", "-h", "--await-values")


class TestInfo:
    def test_is_a_name_and_a_value_a_line(self, here):
        out, err, status = here.fast("info")
        assert (err, status) == ("", 0)
        facts = dict(line.split(": ", 1) for line in out.splitlines())
        name = here.plain("-c", "import asyncfast; l = asyncfast.new_event_loop(); print(l.backend); l.close()")[0]
        assert facts["backend"].startswith(name.strip() + " (")
        assert {"asyncfast", "python", "platform", "timers", "busy polling", "await values", "free-threading",
                "subinterpreters"} <= facts.keys()
        assert facts["await values"] == "on request"

    def test_says_what_an_option_turns_on(self, here):
        assert "await values: on\n" in here.fast("--await-values", "info")[0]

    def test_says_why_it_is_this_tls(self, here):
        def says(**env):
            out, err, status = here.fast("info", env=env)
            assert (err, status) == ("", 0)
            return next(line for line in out.splitlines() if line.startswith("TLS: "))

        best, asked = says(), says(ASYNCFAST_TLS="portable")
        assert asked == (best if "portable" in best else "TLS: portable (ASYNCFAST_TLS)")
        direct = says(ASYNCFAST_TLS="direct")
        assert direct == best if "direct (" in best else direct.startswith("TLS: no (the direct TLS engine cannot be used: ")
        assert says(ASYNCFAST_TLS="fast") == "TLS: no (tls should be one of 'direct', 'portable' or None, got 'fast')"

    def test_leaves_a_file_of_that_name_reachable(self, here):
        here("info", "print('the file')")
        assert here.fast("./info") == ("the file\n", "", 0)


class TestAwaitHint:
    PROGRAM = "import asyncio\nasync def main(): await {}\nasyncio.run(main())"

    @pytest.mark.parametrize("value", ["1 + 2", "'text'", "[]", "{}", "1.5", "(1, 2)"])
    def test_follows_the_traceback(self, here, value):
        out, err, status = here.fast("-c", self.PROGRAM.format(value))
        *_, error, hint = err.splitlines()
        assert error.startswith("TypeError: ") and "--await-values" in hint and (out, status) == ("", 1)

    def test_follows_a_group_that_holds_the_error(self, here):
        source = "async with asyncio.TaskGroup() as group: group.create_task(child())\nasync def child(): await 3"
        source = "import asyncio\nasync def main():\n  " + source + "\nasyncio.run(main())"
        assert "--await-values" in here.fast("-c", source)[1].splitlines()[-1]

    @pytest.mark.parametrize("value", ["None", "object()", "len", "type('Mine', (int,), dict())()"])
    def test_is_not_given_where_the_option_does_not_help(self, here, value):
        out, err, status = here.fast("-c", self.PROGRAM.format(value))
        assert err.splitlines()[-1].startswith("TypeError: ") and "--await-values" not in err

    def test_is_not_given_for_other_errors(self, here):
        assert "--await-values" not in here.fast("-c", "raise TypeError('await')")[1]


class Terminal:
    """A program that believes that it talks to a person."""

    def __init__(self, *args, cwd):
        self.screen = ""
        self.fd, terminal = os.openpty()
        environ = os.environ | {"TERM": "dumb", "NO_COLOR": "1", "PYTHON_HISTORY": str(cwd / "history")}
        self.process = subprocess.Popen([sys.executable, *args], cwd=cwd, env=environ, pass_fds=[terminal],
                                        preexec_fn=lambda: os.login_tty(terminal))
        os.close(terminal)

    def see(self, text):
        """Wait until *text* shows up; return what came before it since the last time."""
        while text not in self.screen:
            assert select.select([self.fd], [], [], 30)[0], f"{text!r} does not come, only {self.screen!r}"
            self.screen += self.read()
        before, _, self.screen = self.screen.partition(text)
        return before

    def read(self):
        try:
            data = os.read(self.fd, 4096)
        except OSError:  # the other side is gone
            data = b""
        if not data:
            raise EOFError(f"the program ended: {self.screen!r}")
        return data.decode(errors="backslashreplace").replace("\r", "")

    def type(self, text):
        """Type *text* as if on the keyboard, at the next prompt."""
        self.see(">>> ")
        self.send(text + "\n")
        self.see("\n")

    def send(self, text):
        os.write(self.fd, text.encode())

    def answer(self, statement):
        """Type a statement and return what it prints."""
        self.type(statement)
        answer = self.see(">>> ")
        self.screen = ">>> " + self.screen
        return answer.strip()

    def end(self):
        """Return the status that the program ends with."""
        try:
            while True:
                self.read()
        except EOFError:
            return self.process.wait(timeout=30)


class TestPrompt:
    @pytest.fixture
    def prompt(self, tmp_path):
        """``prompt(*options)``: a terminal with asyncfast's prompt on it."""
        terminals = []

        def prompt(*options):
            terminals.append(Terminal(*options, "-m", "asyncfast", cwd=tmp_path))
            return terminals[-1]
        yield prompt
        for terminal in terminals:
            terminal.process.kill()
            terminal.process.wait()
            os.close(terminal.fd)

    @pytest.fixture
    def terminal(self, prompt):
        return prompt()

    def test_awaits(self, terminal):
        assert terminal.answer("await asyncio.sleep(0, 'slept')") == "'slept'"
        assert terminal.answer("type(asyncio.get_running_loop()).__module__.split('.')[0]") == "'asyncfast'"
        terminal.type("exit()")
        assert terminal.end() == 0

    def test_shows_the_users_frames_only(self, terminal):
        assert terminal.answer("import sys; sys.tracebacklimit = 9; 1/0").count("File") == 1
        terminal.type("async def f(): raise ValueError('from f')")
        terminal.see("... ")
        terminal.send("\n")
        error = terminal.answer("await f()")
        assert error.startswith("Traceback") and error.endswith("ValueError: from f") and error.count("File") == 2
        assert terminal.answer("sys.last_value") == "ValueError('from f')"
        assert "SyntaxError" in terminal.answer("x = = 1")

    def test_keeps_context_variables(self, terminal):
        terminal.answer("import contextvars; v = contextvars.ContextVar('v')")
        terminal.answer("_ = v.set(1)")
        terminal.answer("await asyncio.sleep(0, v.set(v.get() + 1)) and None")
        assert terminal.answer("v.get()") == "2"
        assert terminal.answer("await asyncio.sleep(0, v.get())") == "2"

    def test_lets_tasks_go_on_while_it_waits(self, terminal):
        terminal.answer("loop = asyncio.get_running_loop()")
        terminal.type("_ = loop.call_later(.2, print, 'in the ' + 'background')")
        terminal.see("in the background")

    def test_ctrl_c_cancels_what_awaits(self, terminal):
        terminal.type("try: print('sleep' + 'ing'); await asyncio.sleep(100)\nfinally: print('over')\n")
        terminal.see("sleeping")
        terminal.send("\x03")
        terminal.see("over")
        terminal.see("KeyboardInterrupt")
        assert terminal.answer("1 + 1") == "2"

    def test_ctrl_c_stops_what_runs(self, terminal):
        for before in "", "await asyncio.sleep(0); ":
            terminal.answer("import time")
            terminal.type(before + "print('bu' + 'sy'); [time.sleep(.01) for _ in range(9999)]")
            terminal.see("busy")
            terminal.send("\x03")
            terminal.see("KeyboardInterrupt")
            assert terminal.answer("1 + 1") == "2"

    def test_exits_with_a_status(self, terminal):
        terminal.type("import sys; await asyncio.sleep(0); sys.exit(5)")
        assert terminal.end() == 5

    def test_ends_with_its_input(self, terminal):
        terminal.see(">>> ")
        terminal.send("\x04")
        assert terminal.end() == 0

    def test_is_main(self, terminal):
        assert terminal.answer("import __main__; __main__.__dict__ is globals(), __name__") == "(True, '__main__')"
        assert terminal.answer("[n for n in globals() if n[0] != '_']") == "['asyncio', 'asyncfast']"

    def test_runs_the_start_up_file(self, prompt, tmp_path, monkeypatch):
        (tmp_path / "start.py").write_text("greeting = 'hello'")
        monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "start.py"))
        terminal = prompt("-X", "dev")
        assert terminal.answer("greeting, asyncio.get_running_loop().get_debug()") == "('hello', True)"
        terminal.type("exit()")
        assert terminal.end() == 0

    @pytest.mark.parametrize("source, error", [(None, "FileNotFoundError"), ("x = = 1", "SyntaxError"),
                                               ("1/0", "ZeroDivisionError")])
    def test_outlives_a_bad_start_up_file(self, prompt, tmp_path, monkeypatch, source, error):
        if source:
            (tmp_path / "start.py").write_text(source)
        monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "start.py"))
        terminal = prompt()
        assert error in terminal.see(">>> ")
        terminal.send("exit()\n")
        assert terminal.end() == 0
