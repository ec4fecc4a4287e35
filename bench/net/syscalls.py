"""System calls of the server per request, counted by strace. Being traced, it is far slower than it is.

    python bench/net/syscalls.py CASE [LOOP ...] [--size N] [--connections N] [--seconds S]

Counted is from before the first connection, so that accepting them is in the numbers, divided by all requests.
"""

import argparse
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import run
import server

# "% time  seconds  usecs/call  calls  errors  syscall"; errors may be blank
LINE = re.compile(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", re.M)
LEAST = 0.001  # per request: what is rarer is not shown


def cell(number):
    return f"{number:.3f}" if number >= LEAST else ""


def counted(case, name, args, programs, cpus, folder):
    """{system call: number per request}"""
    summary = Path(folder) / "summary"
    with run.serving(case, name, programs, cpus[0], folder) as (pid, address):
        command = ["strace", "-f", "-c", "-o", str(summary), "-p", str(pid)]
        strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            if "attached" not in (line := strace.stderr.readline()):
                raise run.Failed(line.strip() or "strace did not attach")
            result = run.loaded(programs, cpus[1], server.CASES[case], address, args.size, args.connections,
                                0, args.seconds, pid)  # fmt: skip
        finally:
            strace.send_signal(signal.SIGINT)  # it lets go and writes its summary
            strace.communicate()
    if result["errors"] or not result["requests"]:
        raise run.Failed(result["error"] or "no request")
    calls = LINE.findall(summary.read_text())
    return {call: int(number) / result["requests"] for number, call in calls if call != "total"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=[name for name, case in server.CASES.items() if case.mode])
    parser.add_argument("loops", nargs="*", metavar="LOOP", help="those of server.py, and C (all)")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=2)
    args = parser.parse_args()
    if not shutil.which("strace"):
        sys.exit("strace is not installed")

    counts = {}
    with tempfile.TemporaryDirectory() as folder:
        programs, cpus = run.compiled(folder, server.CASES[args.case].limit == "tls"), run.cores()
        for name in [*server.installed(), *([run.LIMIT] if server.CASES[args.case].limit else [])]:
            if not args.loops or name in args.loops:
                try:
                    counts[name] = counted(args.case, name, args, programs, cpus, folder)
                except run.Failed as error:
                    print(f"{name} failed: {error}", file=sys.stderr)
    most = {}
    for by_call in counts.values():
        for call, number in by_call.items():
            most[call] = max(number, most.get(call, 0))
    shown = [call for call in sorted(most, key=most.get, reverse=True) if most[call] >= LEAST]
    lines = [[f"`{call}`", *(cell(by_call.get(call, 0)) for by_call in counts.values())] for call in shown]
    lines.append(["all", *(cell(sum(by_call.values())) for by_call in counts.values())])
    print(run.table(["calls per request", *counts], lines))


if __name__ == "__main__":
    main()
