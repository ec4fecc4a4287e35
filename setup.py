"""Builds asyncfast._core; everything else about the project is in pyproject.toml.

    ASYNCFAST_BUILD=release   src/all.c, one unit, -O3 (the default)
                    debug     every .c apart, -O0 -g3, assertions and consistency walks
                    hostile   debug, with tiny buffers and injected failures
                    asan      debug, with AddressSanitizer and UndefinedBehaviorSanitizer
                    tsan      debug, with ThreadSanitizer
    ASYNCFAST_WERROR=1        many warnings, each an error (for whoever changes the C)
"""

import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
FLOORS = ("base", "sys", "rt", "core", "net", "tls", "aio")
LINUX = sys.platform.startswith("linux")

BUILD = os.environ.get("ASYNCFAST_BUILD") or "release"
WERROR = os.environ.get("ASYNCFAST_WERROR", "0") not in ("", "0")

DEBUG = ["-g3", "-fno-omit-frame-pointer", "-UNDEBUG", "-DAF_DEBUG"]
ASAN = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
TSAN = ["-fsanitize=thread"]
COMPILE = {
    "release": ["-O3", "-g0"],
    "debug": ["-O0", *DEBUG],
    "hostile": ["-O0", *DEBUG, "-DAF_HOSTILE"],
    "asan": ["-O1", *DEBUG, "-U_FORTIFY_SOURCE", *ASAN],
    "tsan": ["-O1", *DEBUG, "-U_FORTIFY_SOURCE", *TSAN],
}
LINK = {"asan": ASAN, "tsan": TSAN}
WARNINGS = [
    "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wvla", "-Wpointer-arith",
    "-Wstrict-prototypes", "-Wold-style-definition",
    # CPython's slot tables and method signatures are made of these
    "-Wno-unused-parameter", "-Wno-missing-field-initializers", "-Wno-cast-function-type",
]  # fmt: skip

if BUILD not in COMPILE:
    sys.exit(f"ASYNCFAST_BUILD={BUILD}: not one of {', '.join(COMPILE)}")


def version():
    text = (HERE / "asyncfast" / "_version.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.M)[1]


def sources():
    if BUILD == "release":
        return ["src/all.c"]
    apart = [p for floor in FLOORS for p in sorted((HERE / "src" / floor).glob("*.c"))]
    return [p.relative_to(HERE).as_posix() for p in (*apart, HERE / "src" / "module.c")]


def compile_flags():
    flags = ["-std=gnu11", "-fvisibility=hidden", *COMPILE[BUILD]]
    if BUILD == "release" and LINUX:
        # calls into CPython go straight through the GOT
        flags += ["-fno-plt", "-fno-semantic-interposition"]
    if WERROR:
        flags += WARNINGS
    return flags


def link_flags():
    flags = list(LINK.get(BUILD, ()))
    if BUILD == "release" and LINUX:
        flags.append("-Wl,-s")
    return flags


class Build(build_ext):
    """build_ext with objects of each kind of build kept apart, and only what changed compiled again."""

    def finalize_options(self):
        super().finalize_options()
        # bdist_wheel and an editable install each name a temporary folder; a kind of build gets its own inside
        self.build_temp = os.path.join(self.build_temp, BUILD)
        # the same .so name serves every kind of build, so the time stamps say nothing about which one is there
        self.force = True

    def build_extension(self, ext):
        if self.compiler.compiler_type == "unix":
            self.compiler.compile = self.compile_changed
        super().build_extension(ext)

    def compile_changed(self, sources, output_dir=None, macros=None, include_dirs=None, debug=0, extra_preargs=None,
                        extra_postargs=None, depends=None):  # fmt: skip
        compiler = self.compiler
        macros, objects, postargs, pp_opts, build = compiler._setup_compile(
            output_dir, macros, include_dirs, sources, depends, extra_postargs)
        cc_args = compiler._get_cc_args(pp_opts, debug, extra_preargs)
        command = repr((compiler.compiler_so, cc_args, postargs))

        def one(obj):
            src, ext = build[obj]
            # which files this object was made of, and by which command: beside it, in NAME.o.d and NAME.o.cmd
            deps, cmd = Path(obj + ".d"), Path(obj + ".cmd")
            if fresh(Path(obj), deps, cmd, command):
                return
            cmd.unlink(missing_ok=True)
            compiler._compile(obj, src, ext, cc_args, [*postargs, "-MMD", "-MF", str(deps)], pp_opts)
            cmd.write_text(command)

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            list(pool.map(one, objects))
        return objects


def fresh(obj, deps, cmd, command):
    """Whether an object file is newer than all that it was compiled from."""
    try:
        if cmd.read_text() != command:
            return False
        made = obj.stat().st_mtime_ns
        names = deps.read_text().replace("\\\n", " ").split(":", 1)[1].split()
        return all(os.stat(name).st_mtime_ns < made for name in names)
    except (OSError, IndexError):
        return False


setup(
    version=version(),
    ext_modules=[
        Extension(
            "asyncfast._core",
            sources=sources(),
            include_dirs=["src"],
            define_macros=[("AF_VERSION", f'"{version()}"')],
            extra_compile_args=compile_flags(),
            extra_link_args=link_flags(),
        )
    ],
    cmdclass={"build_ext": Build},
)
