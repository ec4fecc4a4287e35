"""check_dist.py FOLDER: the sdist and the wheel there hold what they must, nothing else of weight, and are small."""

import re
import sys
import tarfile
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
SDIST = ["LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "setup.py", "pyproject.toml",
         "src/all.c", "src/module.c", "src/base/af.h", "asyncfast/__init__.py", "asyncfast/_version.py",
         "asyncfast/__init__.pyi", "asyncfast/_core.pyi", "asyncfast/py.typed", "examples/hello.py", "tests/source/test_layers.py"]
# whole folders: every file of the checkout that is one of these has to be there
FOLDERS = {"src": (".c", ".h"), "asyncfast": (".py", ".pyi"), "tests": (".c", ".h", ".py",), "bench": (".py", ".c"), "docs": (".md",)}
WHEEL = ["asyncfast/__init__.py", "asyncfast/__main__.py", "asyncfast/__init__.pyi", "asyncfast/_core.pyi", "asyncfast/py.typed"]
LARGEST_WHEEL = 500_000


def one(folder, pattern):
    found = list(Path(folder).glob(pattern))
    assert len(found) == 1, f"{pattern} in {folder}: {[path.name for path in found]}"
    return found[0]


def main(folder):
    wrong = []
    sdist, wheel = one(folder, "*.tar.gz"), one(folder, "*.whl")

    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = set(SDIST)
    for top, kinds in FOLDERS.items():
        wanted |= {path.relative_to(CHECKOUT).as_posix() for path in (CHECKOUT / top).rglob("*") if path.suffix in kinds}
    wrong += [f"{sdist.name} has no {name}" for name in sorted(wanted - names)]
    wrong += [f"{sdist.name} has {name}" for name in sorted(names) if re.search(r"\.(so|o|pyc)$|__pycache__|^\.", name)]

    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    size = wheel.stat().st_size
    wrong += [f"{wheel.name} has no {name}" for name in sorted(set(WHEEL) - names)]
    allowed = r"asyncfast/\w+\.pyi?|asyncfast/py\.typed|asyncfast/_core\.[\w-]+\.so|asyncfast-[\w.]+\.dist-info/.+"
    wrong += [f"{wheel.name} has {name}" for name in sorted(names) if not re.fullmatch(allowed, name)]
    if size >= LARGEST_WHEEL:
        wrong.append(f"{wheel.name} has {size} bytes, which is too many")

    print(f"{sdist.name}: {sdist.stat().st_size} bytes; {wheel.name}: {size} bytes")
    print("\n".join(wrong))
    return bool(wrong)


sys.exit(main(sys.argv[1]))
