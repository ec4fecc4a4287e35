"""Instructions per operation of a case on a loop, under valgrind --tool=callgrind: the same number on a busy machine.

    python bench/callgrind.py CASE LOOP [--ops N] [--top 25] [--keep FOLDER]

The case runs once with N operations and once with 2N; what is shown is the difference, so start-up and set-up that do
not depend on N cancel out. Instructions are not time: cache misses, branches and everything in the kernel are unseen.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import loops
import one

HERE = Path(__file__).resolve().parent
LINE = re.compile(r"^ *([\d,]+) (?:\( *[\d.]+%\) )? *(\S.*)$")


def run(case, loop, ops, out):
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}",
               sys.executable, str(HERE / "one.py"), case, loop, "--ops", str(ops), "--warm-up", "0"]  # fmt: skip
    env = {**os.environ, "PYTHONHASHSEED": "0"}  # dicts collide alike in both runs
    child = subprocess.run(command, capture_output=True, text=True, env=env)
    if child.returncode:
        sys.exit(f"{case} on {loop} failed:\n{child.stderr[-2000:]}")


def functions(out):
    """{function: instructions in it and in what is inlined into it}, with the whole program's under "total"."""
    text = subprocess.run(["callgrind_annotate", "--auto=no", "--threshold=100", "--show-percs=no", str(out)],
                          capture_output=True, text=True, check=True).stdout  # fmt: skip
    counts = {}
    for line in text.splitlines():
        if match := LINE.match(line):
            # FILE:FUNCTION'RECURSION [OBJECT]: one function has a line for each file that gave code to it
            name = re.sub(r"'\d+$", "", re.sub(r" \[\S+\]$", "", match[2]).partition(":")[2])
            name = "total" if "PROGRAM TOTALS" in match[2] else name
            counts[name] = counts.get(name, 0) + int(match[1].replace(",", ""))
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", help="a file of micro/, without .py")
    parser.add_argument("loop", choices=["floor", *loops.FACTORIES])
    parser.add_argument("--ops", type=int, default=10_000, help="N, a multiple of 1000 (10000)")
    parser.add_argument("--top", type=int, default=25, help="functions to list (25)")
    parser.add_argument("--keep", metavar="FOLDER", help="keep callgrind's files there, for kcachegrind")
    args = parser.parse_args()
    args.ops = max(one.STEP, args.ops // one.STEP * one.STEP)
    for tool in ("valgrind", "callgrind_annotate"):
        if not shutil.which(tool):
            sys.exit(f"{tool} is not installed")

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(args.keep or folder)
        folder.mkdir(parents=True, exist_ok=True)
        once, twice = (folder / f"callgrind.{args.case}.{args.loop}.{ops}" for ops in (args.ops, 2 * args.ops))
        run(args.case, args.loop, args.ops, once)
        run(args.case, args.loop, 2 * args.ops, twice)
        few, many = functions(once), functions(twice)
    per_op = {name: (many[name] - few.get(name, 0)) / args.ops for name in many}
    total = per_op.pop("total")
    print(f"{args.case} on {args.loop}: {total:.1f} instructions per operation")
    for name in sorted(per_op, key=per_op.get, reverse=True)[: args.top]:
        print(f"{per_op[name]:10.1f} {per_op[name] / total:6.1%}  {name}")


if __name__ == "__main__":
    main()
