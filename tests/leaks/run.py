"""Run all leak scripts, each in a process of its own; exit with 1 if any of them says that something leaks.

    python tests/leaks/run.py [--asyncio] [NAME...]
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main():
    options = [arg for arg in sys.argv[1:] if arg.startswith("-")]
    names = [arg for arg in sys.argv[1:] if not arg.startswith("-")]
    failed = []
    for path in sorted(HERE.glob("[!_]*.py")):
        if path.name == "run.py" or names and path.stem not in names:
            continue
        if subprocess.run([sys.executable, str(path), *options]).returncode:
            failed.append(path.name)
    if failed:
        sys.exit(f"leaks: {', '.join(failed)}")


main()
