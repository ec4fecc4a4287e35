"""src/base and src/sys as plain C, with no interpreter: compiles the programs beside this file, and runs them.

    plain     as the release build
    asan      with assertions, AddressSanitizer and UndefinedBehaviorSanitizer
    tsan      with assertions and ThreadSanitizer, where there are threads
    hostile   with assertions and tiny buffers, where there are buffers

A program prints the seed of its random numbers.  ASYNCFAST_SEED=N gives that seed to all of them.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]

FLAGS = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-pthread", "-iquote", "src"]
DEBUG = ["-O1", "-g", "-DAF_DEBUG"]
BUILDS = {
    "plain": ["-O3"],
    "asan": [*DEBUG, "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
    "tsan": [*DEBUG, "-fsanitize=thread"],
    "hostile": [*DEBUG, "-DAF_HOSTILE"],
}
PROGRAMS = {
    "busy": ["plain", "asan"],
    "clock": ["plain", "asan"],
    "copy": ["plain", "asan", "hostile"],
    "heap": ["plain", "asan"],
    "list": ["plain", "asan"],
    "poll": ["plain", "asan", "hostile"],
    "ring": ["plain", "asan", "hostile"],
    "threads": ["plain", "asan", "tsan", "hostile"],
}
SECONDS = 40  # less than conftest gives a test

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sys/ has the poller of Linux only")


def start(*command):
    environ = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    environ |= {"ASAN_OPTIONS": "detect_leaks=1:detect_stack_use_after_return=1", "UBSAN_OPTIONS": "print_stacktrace=1",
                "TSAN_OPTIONS": "second_deadlock_stack=1"}
    return subprocess.run(command, cwd=CHECKOUT, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", timeout=SECONDS)


@pytest.fixture(scope="module")
def cc():
    command = os.environ.get("CC", "").split() or [shutil.which("cc") or shutil.which("gcc") or ""]
    if not shutil.which(command[0]):
        pytest.skip("no C compiler")
    return command


@pytest.fixture(scope="module")
def missing(cc, tmp_path_factory):
    """Kind of build to why there is none here, or None."""
    folder = tmp_path_factory.mktemp("probe")
    source = folder / "probe.c"
    source.write_text("int main(void) { return 0; }\n")
    reasons = {}

    def missing(build):
        if build not in reasons:
            program = folder / build
            done = start(*cc, *BUILDS[build], str(source), "-o", str(program))
            if done.returncode == 0:
                done = start(str(program))
            reasons[build] = f"{cc[0]} makes no {build} programs here: {done.stdout.strip()}" if done.returncode else None
        return reasons[build]

    return missing


@pytest.mark.parametrize("name, build", [(name, build) for name, builds in PROGRAMS.items() for build in builds])
def test_program(name, build, cc, missing, tmp_path):
    if reason := missing(build):
        pytest.skip(reason)
    program = tmp_path / name
    done = start(*cc, *FLAGS, *BUILDS[build], f"tests/c/test_{name}.c", "-o", str(program))
    assert done.returncode == 0, done.stdout
    done = start(str(program), *os.environ.get("ASYNCFAST_SEED", "").split())
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}"


def test_every_program_is_listed():
    assert {path.stem for path in HERE.glob("test_*.c")} == {f"test_{name}" for name in PROGRAMS}


def test_every_source_has_a_program():
    included = {name for path in HERE.glob("test_*.c")
                for name in re.findall(r'^#include "(.+)"', path.read_text(encoding="utf-8"), re.M)}
    rooms = [path.relative_to(CHECKOUT / "src") for floor in ("base", "sys") for path in (CHECKOUT / "src" / floor).iterdir()
             if path.suffix in (".c", ".h")]
    assert rooms
    # a header goes with the source of its name; af.h is words, poll.h the contract of what epoll.c does
    headers = {"base/af.h", "sys/poller.h"} | {room.with_suffix(".h").as_posix() for room in rooms if room.suffix == ".c"}
    assert {room.as_posix() for room in rooms} - headers <= included
