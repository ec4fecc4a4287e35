"""What the source tests share: the checkout that they lie in, and the files of it that are the project's."""

import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


def project_files():
    """Every file of the checkout that git has or would take; of an unpacked sdist, everything that is not built."""
    if (CHECKOUT / ".git").exists():
        listed = subprocess.run(
            ["git", "-c", f"safe.directory={CHECKOUT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=CHECKOUT, capture_output=True, text=True)
        if listed.returncode == 0:
            return [path for name in listed.stdout.split("\0") if name and (path := CHECKOUT / name).is_file()]
    built = {"build", "dist", "__pycache__", ".pytest_cache"}
    return [path for path in CHECKOUT.rglob("*")
            if path.is_file() and path.suffix not in (".so", ".pyc")
            and not any(part in built or part.startswith(".venv") or part.endswith(".egg-info")
                        for part in path.relative_to(CHECKOUT).parts)]


@pytest.fixture(scope="session")
def checkout():
    return CHECKOUT


@pytest.fixture(scope="session")
def files():
    """The project's files, as paths relative to the checkout."""
    return sorted(path.relative_to(CHECKOUT) for path in project_files())


@pytest.fixture(scope="session")
def c_files(files):
    """Path in src/ to text, of every C source and header."""
    found = {path.relative_to("src"): (CHECKOUT / path).read_text(encoding="utf-8")
             for path in files if path.parts[0] == "src" and path.suffix in (".c", ".h")}
    assert found
    return found
