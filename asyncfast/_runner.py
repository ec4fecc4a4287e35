"""The ``python -m asyncfast`` command: runs a program as plain ``python`` does, on asyncfast's loop.

The program has ``__main__`` to itself, and its tracebacks start with its own frames.  What plain Python would print
on an error, and the status it would end with, is what comes out here.
"""

import asyncio
import builtins
import importlib.machinery
import importlib.util
import io
import linecache
import os
import pkgutil
import re
import runpy
import sys
import textwrap
import warnings

import asyncfast

USAGE = """\
usage: python -m asyncfast [OPTION]... [FILE | -m MODULE | -c CODE | -] [ARG]...
       python -m asyncfast info

Runs a Python program with asyncfast as asyncio's event loop.  FILE is a
script, or a directory or zip file with a __main__.py in it; - is standard
input.  With no program: on a terminal a prompt that understands await, else
standard input.

  --await-values  let the program await plain values: `await 1 + 2` gives 3
  --debug         asyncio's debug mode
  --fast-streams  asyncio.open_connection() and alike give asyncfast's streams
  --ktls          the kernel encrypts what TLS connections send, where it can
  -h, --help      print this text
  --version       print the version
  info            print what this asyncfast is made of and runs on
"""

# The environment variable that each option stands for; children of the program inherit it.
OPTIONS = {"--await-values": "ASYNCFAST_AWAIT_VALUES", "--debug": "PYTHONASYNCIODEBUG",
           "--fast-streams": "ASYNCFAST_FAST_STREAMS", "--ktls": "ASYNCFAST_KTLS"}

# The types that --await-values makes awaitable, as a TypeError names them.
VALUE_TYPES = "bool int float complex str bytes bytearray memoryview tuple list range dict frozendict set frozenset"

AWAIT_ERROR = re.compile(r"object (\w+) can't be used in 'await' expression|'(\w+)' object can't be awaited")


def main():
    """Do what ``sys.argv`` says; return at the end of the program that was run, or raise what ended it.

    Raises SystemExit with status 2 for a command line that makes no sense or a file that cannot be opened.
    """
    args = sys.argv[1:]
    options = set()
    while args and args[0].startswith("-") and args[0] != "-":
        option = args.pop(0)
        if option in OPTIONS:
            options.add(option)
        elif option in ("-h", "--help"):
            return print(USAGE, end="")
        elif option == "--version":
            return print("asyncfast", asyncfast.__version__)
        elif option[:2] in ("-c", "-m"):
            if option[2:]:  # -cCODE
                args.insert(0, option[2:])
            if not args:
                fail(f"argument expected for the {option} option")
            run = run_command if option[:2] == "-c" else run_module
            break
        else:
            fail(f"unknown option {option} (try python -m asyncfast --help)")
    else:
        run = run_info if args == ["info"] else run_file if args and args[0] != "-" else run_stdin
    install(options)
    execute(run, args)


def fail(message, who="asyncfast"):
    """Complain in one line about the command line; raises SystemExit with status 2."""
    print(f"{who}: {message}", file=sys.stderr)
    raise SystemExit(2)


def install(options):
    """Make asyncfast the loop of every ``asyncio.run``, ``asyncio.Runner`` and ``asyncio.new_event_loop``."""
    if "--debug" in options and sys.flags.ignore_environment:
        fail("--debug has no effect under Python's -E and -I (-X dev has)")
    for option in options:
        os.environ[OPTIONS[option]] = "1"
    with warnings.catch_warnings():  # policies are deprecated from 3.14, but they are the one way to every program
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(asyncfast.EventLoopPolicy())


# The kinds of program.  Each takes the arguments, its own name first, and sets up sys.argv, sys.path[0] and
# __main__ exactly as CPython's pymain_run_python() does.

def run_command(args):
    """Run ``-c CODE``."""
    source = textwrap.dedent(args[0])  # which Python itself does from 3.14 on
    sys.argv = ["-c", *args[1:]]
    set_path0("")
    code = compile(source, "<string>", "exec", dont_inherit=True)
    remember_source(code, source)
    exec(code, fresh_main())


def run_module(args):
    """Run ``-m MODULE``."""
    sys.argv = ["-m", *args[1:]]  # runpy replaces the -m by the module's path
    fresh_main()
    runpy._run_module_as_main(args[0])


def run_file(args):
    """Run a script, or a directory or zip file that holds a ``__main__.py``."""
    sys.argv = args
    path = os.path.join(os.getcwd(), args[0])
    if pkgutil.get_importer(path):
        set_path0(path, always=True)
        fresh_main()
        runpy._run_module_as_main("__main__", alter_argv=False)
    else:
        set_path0(os.path.dirname(os.path.realpath(path)))
        try:
            code, loader = load_script(path)
        except OSError as error:
            fail(f"can't open file {path!r}: [Errno {error.errno}] {error.strerror}", sys.orig_argv[0])
        exec(code, fresh_main(__loader__=loader("__main__", path), __file__=path))


def run_stdin(args):
    """Run standard input: a program, or a person who types at a terminal."""
    sys.argv = args or [""]
    set_path0("")
    if sys.stdin and sys.stdin.isatty():
        from asyncfast import _repl
        _repl.run(fresh_main())
    elif sys.stdin:
        code = compile(sys.stdin.buffer.read(), "<stdin>", "exec", dont_inherit=True)
        exec(code, fresh_main(__file__="<stdin>"))


def run_info(args):
    """Run ``info``."""
    from asyncfast import _info
    _info.show()


def load_script(path):
    """Return the code of the script at *path* and the class of its loader.

    Raises OSError if it cannot be read, SyntaxError if it does not parse, ImportError if another Python compiled it.
    """
    with io.open_code(path) as file:
        source = file.read()
    if source.startswith(importlib.util.MAGIC_NUMBER):
        loader = importlib.machinery.SourcelessFileLoader
        return loader("__main__", path).get_code("__main__"), loader
    return compile(source, path, "exec", dont_inherit=True), importlib.machinery.SourceFileLoader


def set_path0(path, always=False):
    """Let ``sys.path`` begin with *path* in place of what ``-m asyncfast`` put there (nothing, in safe-path mode)."""
    if not sys.flags.safe_path:
        sys.path[0] = path
    elif always:
        sys.path.insert(0, path)


def fresh_main(**names):
    """Return the namespace of ``__main__`` with nothing in it but what a program starts with, and *names*."""
    namespace = sys.modules["__main__"].__dict__
    first = dict(__name__="__main__", __doc__=None, __package__=None, __loader__=importlib.machinery.BuiltinImporter,
                 __spec__=None, __annotations__={}, __builtins__=builtins)
    if "__annotations__" not in namespace:  # made on demand from 3.14 on
        del first["__annotations__"]
    if "__file__" in names and "__cached__" in namespace:  # gone in 3.15
        names["__cached__"] = None
    namespace.clear()
    namespace.update(first, **names)
    return namespace


def remember_source(code, source):
    """Let tracebacks show the lines of ``-c`` *source* where plain Python shows them: from 3.13 on."""
    if hasattr(linecache, "_register_code"):
        key = code if hasattr(linecache, "_interactive_cache") else code.co_filename
        linecache._register_code(key, source, code.co_filename)


def execute(run, args):
    """Call ``run(args)``; an exception that ends the program goes to Python with no frame of ours to be seen."""
    try:
        run(args)
    except SystemExit:
        raise
    except BaseException as error:
        hook, traceback = getattr(sys, "excepthook", sys.__excepthook__), without_own_frames(error.__traceback__)

        def report(kind, value, _):
            sys.excepthook = hook
            sys.last_traceback = value.__traceback__ = traceback
            hook(kind, value, traceback)
            if sys.stderr and (hint := await_hint(value)):
                print(hint, file=sys.stderr)

        sys.excepthook = report
        raise  # so that Python does the rest: last words, threads, atexit, and death by SIGINT after Ctrl-C


def without_own_frames(traceback):
    """Return *traceback* from the first frame on that is not asyncfast's command line."""
    while traceback and traceback.tb_frame.f_globals.get("__name__") in (__name__, "asyncfast._repl"):
        traceback = traceback.tb_next
    return traceback


def await_hint(error):
    """Return one line about ``--await-values`` if *error* is what awaiting a plain value raises, else None."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(await_hint, error.exceptions)), None)
    match = isinstance(error, TypeError) and AWAIT_ERROR.fullmatch(str(error))
    kind = match and match[match.lastindex]
    if kind and kind in VALUE_TYPES.split():
        return f"asyncfast: python -m asyncfast --await-values lets a program await plain values, such as this {kind}"
