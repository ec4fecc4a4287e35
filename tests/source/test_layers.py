"""The floors of src/: base < sys < rt < core < net < tls < aio < module.c, and what is allowed on which."""

import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

FLOORS = ("base", "sys", "rt", "core", "net", "tls", "aio", "module.c")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)
COMMENT = re.compile(r'/\*.*?\*/|//[^\n]*|("(?:\\.|[^"\\\n])*")', re.S)


def code(text):
    """C text without its comments."""
    return COMMENT.sub(lambda match: match[1] or " ", text)


def floor(path):
    name = Path(path).parts[0]
    assert name in FLOORS, f"src/{path} is on no floor"
    return FLOORS.index(name)


def test_an_include_never_climbs_a_floor(c_files):
    climbs = []
    for path, text in c_files.items():
        if path.name == "all.c":
            continue
        for quote, name in INCLUDE.findall(text):
            if quote == '"':
                assert Path(name) in c_files, f"src/{path} includes {name}: name it as it lies in src/"
                if floor(name) > floor(path):
                    climbs.append(f"src/{path} includes {name}")
    assert not climbs


def test_base_and_sys_know_nothing_of_python(c_files):
    bad = [f"src/{path}: {match[0]}" for path, text in c_files.items() if path.parts[0] in ("base", "sys")
           for match in re.finditer(r"Python\.h|\bPy[A-Z_]\w+", code(text))]
    assert not bad


def test_base_makes_no_system_call(c_files):
    allowed = {"assert.h", "errno.h", "limits.h", "stdalign.h", "stdatomic.h", "stdbool.h", "stddef.h", "stdint.h", "stdlib.h", "string.h"}
    bad = [f"src/{path} includes <{name}>" for path, text in c_files.items() if path.parts[0] == "base"
           for quote, name in INCLUDE.findall(text) if quote == "<" and name not in allowed]
    assert not bad


def test_python_versions_are_told_apart_in_one_header(c_files):
    bad = [f"src/{path}: {match[0]}" for path, text in c_files.items() if path != Path("rt/compat.h")
           for match in re.finditer(r"PY_VERSION_HEX|PY_(MAJOR|MINOR|MICRO)_VERSION|Py_GIL_DISABLED", code(text))]
    assert not bad


def test_python_versions_are_told_apart_in_one_module(checkout, files):
    bad = [str(path) for path in files if path.parts[0] == "asyncfast" and path.suffix == ".py"
           and path.name != "_compat.py" and "version_info" in (checkout / path).read_text(encoding="utf-8")]
    assert not bad


def test_all_c_includes_every_source_once(c_files):
    included = [name for quote, name in INCLUDE.findall(c_files[Path("all.c")]) if quote == '"' and name.endswith(".c")]
    assert len(included) == len(set(included))
    # a source that another source includes (a poller chosen by platform) is in by that one
    for path, text in c_files.items():
        if path.name != "all.c":
            included += [name for _, name in INCLUDE.findall(text) if name.endswith(".c")]
    assert {path.as_posix() for path in c_files if path.suffix == ".c"} - {"all.c"} == set(included)


def test_every_header_compiles_alone(checkout, c_files, tmp_path):
    cc = os.environ.get("CC", "").split() or [shutil.which("cc") or shutil.which("gcc")]
    if not cc[0] or not shutil.which(cc[0]):
        pytest.skip("no C compiler")
    python = sysconfig.get_path("include")
    if not Path(python, "Python.h").exists():
        pytest.skip("no Python.h")
    failed = {}
    for path in c_files:
        if path.suffix == ".h":
            source = tmp_path / "alone.c"
            source.write_text(f'#include "{path.as_posix()}"\n#include "{path.as_posix()}"\ntypedef int not_empty;\n')
            done = subprocess.run([*cc, "-std=gnu11", "-fsyntax-only", "-Wall", "-Werror", f"-I{checkout / 'src'}",
                                   f"-I{python}", str(source)], capture_output=True, text=True)
            if done.returncode:
                failed[path.as_posix()] = done.stderr
    assert not failed, "\n".join(failed.values())
