"""The package under test is the one that was installed, whole, and light to import."""

import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import asyncfast
import asyncfast._core
import pytest

HOME = Path(asyncfast.__file__).resolve().parent
SANITIZED = "ASYNCFAST_SANITIZER" in os.environ


def test_the_tests_see_the_installed_package(checkout):
    inside = HOME.is_relative_to(checkout / "asyncfast")
    if inside and os.environ.get("ASYNCFAST_REQUIRE_INSTALLED", "0") == "0":
        pytest.skip("installed in place; set ASYNCFAST_REQUIRE_INSTALLED=1 to make this a failure")
    assert not inside
    assert Path(asyncfast._core.__file__).resolve().parent == HOME


def test_the_version_is_the_same_everywhere(checkout):
    assert asyncfast.__version__ == metadata.version("asyncfast")
    written = {}
    exec((checkout / "asyncfast" / "_version.py").read_text(encoding="utf-8"), written)
    assert asyncfast.__version__ == written["__version__"]


def test_types_are_installed_with_it():
    assert (HOME / "py.typed").exists()
    assert (HOME / "__init__.pyi").exists()
    assert (HOME / "_core.pyi").exists()


@pytest.mark.skipif(not shutil.which("nm"), reason="no nm")
@pytest.mark.skipif(SANITIZED, reason="sanitizers export symbols of their own")
def test_the_one_symbol_exported_is_the_init_function():
    listed = subprocess.run(["nm", "-D", "--defined-only", asyncfast._core.__file__], capture_output=True, text=True, check=True)
    assert [line.split()[-1] for line in listed.stdout.splitlines()] == ["PyInit__core"]


@pytest.mark.skipif(SANITIZED, reason="sanitizers slow everything down")
def test_importing_it_takes_less_than_25_ms():
    program = "import asyncio, time; t = time.perf_counter(); import asyncfast; print(time.perf_counter() - t)"
    best = min(float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True,
                                    cwd=HOME.parent).stdout) for _ in range(5))
    assert best < 0.025


def test_importing_it_changes_nothing_in_asyncio(tmp_path):
    program = """if True:
        import asyncio
        before = {name: value for name, value in vars(asyncio).items() if not name.startswith("__")}
        import asyncfast
        after = {name: value for name, value in vars(asyncio).items() if not name.startswith("__")}
        assert before.keys() == after.keys(), before.keys() ^ after.keys()
        assert not [name for name in before if before[name] is not after[name]]
    """
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
