"""Runs every case of micro/ on every loop that is installed, and shows CPU time per operation. See README.md."""

import argparse
import datetime
import importlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from fnmatch import fnmatch
from pathlib import Path

import loops
import report

HERE = Path(__file__).resolve().parent
TIMEOUT = 300  # seconds for one measurement; a slow loop on a slow machine needs a few


# ---- measuring -----------------------------------------------------------------------------------------------------

def one(case, loop, ops):
    """CPU nanoseconds per operation of one run in a process of its own; a str says why there is none."""
    command = [sys.executable, str(HERE / "one.py"), case, loop, "--ops", str(ops)]
    env = {k: v for k, v in os.environ.items() if k != "PYTHONASYNCIODEBUG"}
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, env=env)
    except subprocess.TimeoutExpired:
        return f"not done after {TIMEOUT} s"
    if child.returncode:
        return (child.stderr.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
    result = json.loads(child.stdout.splitlines()[-1])
    return result["ns"] / result["ops"]


def measure(cases, names, rounds, quick):
    """{case: {loop: {"ns": [...]}}}; a loop that fails a case has {"failed": reason} there and is not asked again."""
    results = {case: {} for case in cases}
    jobs = [(case, name) for case in cases for name in names if name != "floor" or cases[case].FLOOR]
    begun = time.monotonic()
    try:
        for number in range(rounds):
            for position, (case, name) in enumerate(jobs):
                report.progress(number * len(jobs) + position, rounds * len(jobs), begun,
                                f"round {number + 1} of {rounds}: {case} on {name}", line=position == 0)  # fmt: skip
                entry = results[case].setdefault(name, {"ns": []})
                if "failed" in entry:
                    continue
                module = cases[case]
                ops = module.OPS // 5 if quick and not getattr(module, "FIXED", False) else module.OPS
                value = one(case, name, ops)
                if isinstance(value, str):
                    entry["failed"] = value
                    report.say(f"{case} on {name} failed: {value}")
                else:
                    entry["ns"].append(value)
    except KeyboardInterrupt:
        print("\ninterrupted: showing what there is", file=sys.stderr)
    report.say()
    for by_loop in results.values():
        for entry in by_loop.values():
            if entry["ns"] and "failed" not in entry:
                entry["min"], entry["median"] = min(entry["ns"]), statistics.median(entry["ns"])
                entry["spread"] = entry["median"] / entry["min"] - 1
    return results


def results(args):
    modules = {path.stem: importlib.import_module(f"micro.{path.stem}") for path in sorted(HERE.glob("micro/*.py"))}
    cases = {name: module for name, module in modules.items() if any(fnmatch(name, p) for p in args.cases)}
    names = [name for name in loops.installed() if name in args.loops]
    floor = importlib.util.find_spec("floor._floor") is not None
    if not cases or not names:
        sys.exit("no such case, or no such loop installed")
    rounds = args.rounds or (3 if args.quick else 10)
    return {
        "date": datetime.date.today().isoformat(),
        "python": report.python(),
        "machine": report.machine(),
        "versions": {name: loops.version(name) for name in names},
        "missing": [name for name in args.loops if name not in names],
        "floor": floor,
        "rounds": rounds,
        "quick": args.quick,
        "load": os.getloadavg()[0],
        "titles": {name: module.TITLE for name, module in cases.items()},
        "results": measure(cases, [*names, "floor"] if floor else names, rounds, args.quick),
    }


# ---- showing -------------------------------------------------------------------------------------------------------

def best_rival(by_loop):
    rivals = {name: e["min"] for name, e in by_loop.items() if "min" in e and name not in (loops.OURS, "floor")}
    return min(rivals, key=rivals.get, default=None)


def markdown(data):
    names = [*data["versions"], *(["floor"] if data["floor"] else [])]
    header = ["case", *names, "best rival", "asyncfast / best", "asyncfast / floor", "spread"]
    rows = ["| " + " | ".join(header) + " |", "|---|" + "--:|" * (len(header) - 1)]
    failures = []
    for case, by_loop in data["results"].items():
        best, ours = best_rival(by_loop), by_loop.get(loops.OURS, {}).get("min")
        cells = [data["titles"][case]]
        for name in names:
            entry = by_loop.get(name, {})
            if "failed" in entry:
                failures.append(f"- {data['titles'][case]}, {name}: {entry['failed']}")
            value = "failed" if "failed" in entry else f"{entry['min']:.0f}" if "min" in entry else ""
            cells.append(f"**{value}**" if name == best else value)
        cells.append(best or "")
        for other in (best, "floor"):
            other = by_loop.get(other, {}).get("min")
            cells.append(f"{ours / other:.2f}" if ours and other else "")
        cells.append(f"{max((e['spread'] for e in by_loop.values() if 'spread' in e), default=0):.0%}")
        rows.append("| " + " | ".join(cells) + " |")
    quick = " (quick run)" if data["quick"] else ""
    about = report.about(data, f"CPU nanoseconds per operation, minimum of {data['rounds']}{quick}")
    notes = [f"Not installed: {', '.join(data['missing'])}."] if data["missing"] else []
    if not data["floor"]:
        notes.append("No floors: they need `python bench/floor/build.py`.")
    return "\n\n".join(["\n".join(rows), about, *notes, *(["Failed:", "\n".join(failures)] if failures else [])]) + "\n"


def write_chart(path, data):
    names = [*data["versions"], *(["floor"] if data["floor"] else [])]
    rows = [{name: entry["min"] for name, entry in by_loop.items() if "min" in entry}
            for by_loop in data["results"].values()]  # fmt: skip
    titles = [data["titles"][case] for case in data["results"]]
    report.write_chart(path, titles, names, rows, "CPU nanoseconds per operation", "floor")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loops", nargs="+", default=list(loops.FACTORIES), choices=loops.FACTORIES, metavar="LOOP")
    parser.add_argument("--cases", nargs="+", default=["*"], metavar="PATTERN", help="names of micro/, * and ? allowed")
    parser.add_argument("--rounds", type=int, help="runs of each case on each loop (10; 3 with --quick)")
    parser.add_argument("--quick", action="store_true", help="a fifth of the operations, 3 rounds: a smoke test")
    parser.add_argument("--load", metavar="FILE", help="show the results of an earlier --json, measure nothing")
    parser.add_argument("--json", metavar="FILE", help="write everything that was measured")
    parser.add_argument("--markdown", metavar="FILE", default="-", help="write the table (standard output)")
    parser.add_argument("--chart", metavar="FILE", help="draw the bars, .png or .svg (needs matplotlib)")
    args = parser.parse_args()

    data = json.loads(Path(args.load).read_text(encoding="utf-8")) if args.load else results(args)
    if args.json:
        Path(args.json).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    report.write_markdown(args.markdown, markdown(data), "micro")
    if args.chart:
        write_chart(args.chart, data)


if __name__ == "__main__":
    main()
