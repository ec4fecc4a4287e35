"""Measures the servers of server.py on every loop that is installed, under the load of load.c. See README.md."""

import argparse
import contextlib
import datetime
import importlib.metadata
import importlib.util
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from fnmatch import fnmatch
from pathlib import Path

import server  # puts the folder above on the path

import loops
import report

HERE = Path(__file__).resolve().parent
LIMIT = "C"
PATIENCE = 30  # seconds for a server to start, and for a load after its own time
FIGURES = {  # of a measurement: what its column is called, and how many digits it has
    "cpu": ("CPU us", 2),
    "rate": ("requests/s", 0),
    "p50": ("p50 us", 0),
    "p99": ("p99 us", 0),
    "p99.9": ("p99.9 us", 0),
    "faults": ("page faults", 2),
}


class Failed(Exception):
    """Why there is no measurement."""


# ---- the programs --------------------------------------------------------------------------------------------------

#: The C programs: source and options.  Those of TLS need OpenSSL's headers.
PROGRAMS = {
    "echo": ("echo.c",),
    "load": ("load.c",),
    "echotls": ("echotls.c", "-lssl", "-lcrypto"),
    "loadtls": ("load.c", "-DWITH_TLS", "-lssl", "-lcrypto"),
}


def compiled(folder, tls):
    """{name: path} of the C programs; to compile them takes a moment, so none is kept."""
    programs = {}
    for name, (source, *options) in PROGRAMS.items():
        if name.endswith("tls") and not tls:
            continue
        programs[name] = str(Path(folder) / name)
        command = [os.environ.get("CC", "cc"), "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"]
        subprocess.run([*command, "-o", programs[name], str(HERE / source), *options], check=True)
    return programs


def cores():
    """One for the server, one for the load; the first, which often has the machine's interrupts, for the load."""
    mine = sorted(os.sched_getaffinity(0))
    if len(mine) == 1:
        print("one core for server and load: do not trust the requests per second", file=sys.stderr)
    return mine[-1], mine[0]


def last_line(file):
    file.seek(0)
    return (file.read().strip().splitlines() or [""])[-1]


def environment():
    return {k: v for k, v in os.environ.items() if k != "PYTHONASYNCIODEBUG"}


@contextlib.contextmanager
def serving(case, name, programs, cpu, folder):
    """A server in a process of its own on core `cpu`: (pid, address for load.c)."""
    path = Path(folder) / name
    path.unlink(missing_ok=True)
    if name == LIMIT:
        limit = server.CASES[case].limit
        command = ([programs["echotls"], str(server.CERTIFICATE)] if limit == "tls"
                   else [programs["echo"], f"unix:{path}" if limit == "unix" else limit])
    else:
        command = [sys.executable, str(HERE / "server.py"), case, name, "--unix", str(path)]
    with tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen([*command, f"--cpu={cpu}"], stdout=subprocess.PIPE, stderr=complaints, text=True,
                                   env=environment())  # fmt: skip
        try:
            line = process.stdout.readline() if select.select([process.stdout], [], [], PATIENCE)[0] else ""
            if not line.startswith("READY "):
                raise Failed(last_line(complaints) or "the server did not start")
            yield process.pid, line.split()[1]
        finally:
            process.kill()
            process.communicate()


def finished(command, seconds, cpu):
    """The JSON of a program that ends by itself after about `seconds`, on core `cpu`."""
    try:
        done = subprocess.run([*command, f"--cpu={cpu}"], capture_output=True, text=True, env=environment(),
                              timeout=seconds + PATIENCE)  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Failed(f"not done {PATIENCE} s after its time") from None
    if done.returncode:
        raise Failed((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    return json.loads(done.stdout.splitlines()[-1])


def loaded(programs, cpu, case, address, size, connections, warm_up, seconds, pid):
    """What load.c says of a server."""
    program = programs["loadtls" if address.startswith("tls:") else "load"]
    command = [program, case.mode, address, f"--connections={connections}", f"--warm-up={warm_up}",
               f"--seconds={seconds}", f"--pid={pid}", *case.options]  # fmt: skip
    return finished([*command, f"--size={size}"] if size else command, warm_up + seconds, cpu)


def settle(pid):
    """Wait until a server has done with the connections that have ended: the next one has the same core."""
    before, until = None, time.monotonic() + PATIENCE
    while (spent := Path(f"/proc/{pid}/schedstat").read_text().split()[0]) != before and time.monotonic() < until:
        before = spent
        time.sleep(0.005)


def spawned(row, name, cpu, warm_up, seconds):
    """What a case without a load says of itself, in a process of its own."""
    command = [sys.executable, str(HERE / "server.py"), row["case"], name, f"--at-once={row['connections']}",
               f"--warm-up={warm_up}", f"--seconds={seconds}"]  # fmt: skip
    return finished(command, warm_up + seconds, cpu)


def checked(row, result):
    """A result with the figures that are computed from others."""
    if result["errors"] or not result["requests"]:
        failures = f"{result['errors']} of {row['connections']} connections failed: {result['error']}"
        raise Failed(failures if result["errors"] else "no request was answered")
    result["cpu"] = result["cpu_ns"] / 1000 / result["requests"]
    result["faults"] /= result["requests"]
    return result


# ---- measuring -----------------------------------------------------------------------------------------------------

def size_text(size):
    return f"{size >> 10} KiB" if size % 1024 == 0 else f"{size} bytes"


def rows(cases, sizes, connections):
    """What is measured on each loop: {"case", "size", "connections", "title"}."""
    found = []
    for name in cases:
        case = server.CASES[name]
        for size in case.sizes or [size for size in sizes if case.largest is None or size <= case.largest]:
            for count in case.connections or [count for count in connections if case.most is None or count <= case.most]:
                parts = [case.title, *([size_text(size)] if size else [])]
                parts.append(f"{count} at a time" if case.connections else f"{count} connection{'s' * (count > 1)}")
                found.append({"case": name, "size": size, "connections": count, "title": ", ".join(parts), "loops": {}})
    return found


def measure(table, names, rounds, seconds):
    """Fills in each row's {loop: {"runs": [...], figure: median}}, or {"failed": reason}.

    The servers of a row run side by side, idle but for the one that has the load, for a short while each in turn: what
    disturbs the machine for longer than a round disturbs all of them alike.
    """
    begun, cpus = time.monotonic(), cores()
    with tempfile.TemporaryDirectory() as folder:
        programs = compiled(folder, any(server.CASES[row["case"]].limit == "tls" for row in table))
        try:
            for position, row in enumerate(table):
                mine = [name for name in names if name != LIMIT or server.CASES[row["case"]].limit]
                row["loops"] = {name: {"runs": []} for name in mine}
                for number in side_by_side(row, programs, cpus, folder, rounds, seconds):
                    report.progress(position * rounds + number, len(table) * rounds, begun,
                                    f"{row['title']}, round {number + 1} of {rounds}", line=number == 0)  # fmt: skip
        except KeyboardInterrupt:
            print("\ninterrupted: showing what there is", file=sys.stderr)
    report.say()
    for row in table:
        summarize(row)


def side_by_side(row, programs, cpus, folder, rounds, seconds):
    """All rounds of a row; yields the number of each before it."""
    case, warm_up = server.CASES[row["case"]], max(0.04, seconds / 5)
    servers = {}
    with contextlib.ExitStack() as stack:
        for name, entry in row["loops"].items():
            with failing(row, name, entry):
                if case.mode:
                    servers[name] = stack.enter_context(serving(row["case"], name, programs, cpus[0], folder))
        for number in range(rounds):
            yield number
            for name, entry in row["loops"].items():
                if "failed" in entry:
                    continue
                warmed = warm_up if number else warm_up + 0.3
                with failing(row, name, entry):
                    if case.mode:
                        pid, address = servers[name]
                        result = loaded(programs, cpus[1], case, address, row["size"], row["connections"], warmed, seconds, pid)
                    else:
                        result = spawned(row, name, cpus[0], warmed, seconds)
                    entry["runs"].append(checked(row, result))
                    if case.mode:
                        settle(pid)


@contextlib.contextmanager
def failing(row, name, entry):
    """What fails in here is the entry's."""
    try:
        yield
    except Failed as error:
        entry["failed"] = str(error)
        report.say(f"{row['title']} on {name} failed: {error}")


def summarize(row):
    """Medians; and "relative", the median of a loop's CPU time against the mean of all in the same round."""
    good = {name: entry for name, entry in row["loops"].items() if entry["runs"] and "failed" not in entry}
    rounds = min((len(entry["runs"]) for entry in good.values()), default=0)
    means = [statistics.geometric_mean(entry["runs"][i]["cpu"] for entry in good.values()) for i in range(rounds)]
    for entry in good.values():
        runs = entry["runs"] = entry["runs"][:rounds]       # an interrupted round has not been all the way round
        for figure in FIGURES:
            entry[figure] = statistics.median(run[figure] for run in runs)
        entry["relative"] = statistics.median(run["cpu"] / mean for run, mean in zip(runs, means))
        entry["starved"] = max(run["starved"] for run in runs)
        entry["lost"] = sum(run["resent"] for run in runs) / sum(run["requests"] for run in runs)


def ratios(ours, other):
    """Of CPU times, round by round."""
    return [mine["cpu"] / its["cpu"] for mine, its in zip(ours["runs"], other["runs"])]


def results(args):
    cases = [name for name in server.CASES if any(fnmatch(name, pattern) for pattern in args.cases)]
    needed = {server.CASES[name].needs for name in cases} - {None}
    absent = {module for module in needed if not importlib.util.find_spec(module)}
    cases = [name for name in cases if server.CASES[name].needs not in absent]
    names = [name for name in server.installed() if name in args.loops]
    if not cases or not names:
        sys.exit("no such case, or nothing of what it takes is installed")
    rounds = args.rounds or (3 if args.quick else 11)
    seconds = args.seconds or (0.1 if args.quick else 0.3)
    data = {
        "date": datetime.date.today().isoformat(),
        "python": report.python(),
        "machine": report.machine(),
        "versions": {name: server.version(name) for name in names},
        "libraries": {module: importlib.metadata.version(module) for module in sorted(needed - absent)},
        "missing": [*[name for name in args.loops if name not in names], *sorted(absent)],
        "rounds": rounds,
        "seconds": seconds,
        "load": os.getloadavg()[0],
        "rows": rows(cases, args.sizes or ([1024] if args.quick else [1024, 10240, 102400]),
                     args.connections or ([50] if args.quick else [1, 50, 400])),
    }  # fmt: skip
    measure(data["rows"], [*names, LIMIT], rounds, seconds)
    return data


# ---- showing -------------------------------------------------------------------------------------------------------

def table(header, lines, texts=1):
    """Markdown; all columns but the first `texts` are numbers."""
    rule = "|" + "---|" * texts + "--:|" * (len(header) - texts)
    return "\n".join(["| " + " | ".join(header) + " |", rule, *("| " + " | ".join(line) + " |" for line in lines)])


def overview(data):
    """A line for each row: CPU time per request on each loop that has any."""
    names = [name for name in [*data["versions"], LIMIT] if any("cpu" in row["loops"].get(name, ()) for row in data["rows"])]
    lines = []
    for row in data["rows"]:
        good = {name: entry for name, entry in row["loops"].items() if "cpu" in entry}
        rivals = [name for name in good if name not in (loops.OURS, LIMIT)]
        best = min(rivals, key=lambda name: good[name]["relative"], default="")
        cells = [row["title"]]
        for name in names:
            value = f"{good[name]['cpu']:.1f}" if name in good else "failed" if "failed" in row["loops"].get(name, ()) else ""
            cells.append(f"**{value}**" if name == best else value)
        compared = [ratios(good[loops.OURS], good[other]) if loops.OURS in good and other in good else []
                    for other in (best, LIMIT)]  # fmt: skip
        for found in compared:
            cells.append(f"{statistics.median(found):.2f}" if found else "")
        low, _, high = statistics.quantiles(compared[0], n=4) if len(compared[0]) > 1 else (0, 0, 0)
        lines.append([*cells[:-2], best, *cells[-2:], f"{(high - low) / 2:.2f}"])
    return table(["case", *names, "best rival", "asyncfast / best", "asyncfast / C", "+-"], lines)


def details(data):
    """A line for each row and loop: all figures."""
    lines = []
    for row in data["rows"]:
        for name in [*data["versions"], LIMIT]:
            entry = row["loops"].get(name, {})
            if "cpu" in entry:
                figures = [f"{entry[figure]:.{digits}f}" for figure, (_, digits) in FIGURES.items()]
                lines.append([row["title"], name, *figures])
    return table(["case", "loop", *(title for title, _ in FIGURES.values())], lines, texts=2)


def about(data):
    libraries = "".join(f", {name} {version}" for name, version in data["libraries"].items())
    what = f"CPU microseconds of the server per request, median of {data['rounds']} x {data['seconds']:g} s{libraries}"
    missing = f" Not installed: {', '.join(data['missing'])}." if data["missing"] else ""
    return report.about(data, what) + missing


def failures(data):
    """What went wrong, and on which loop, as lists with headings."""
    entries = [(row["title"], name, entry) for row in data["rows"] for name, entry in row["loops"].items()]
    failed = [f"- {title}, {name}: {entry['failed']}" for title, name, entry in entries if "failed" in entry]
    lost = [f"- {title}, {name}: {entry['lost']:.2%}" for title, name, entry in entries if entry.get("lost")]
    starved = [f"- {title}, {name}: {entry['starved']}" for title, name, entry in entries if entry.get("starved")]
    parts = []
    for heading, lines in (("Failed:", failed), ("Datagrams that were lost and sent again:", lost),
                           ("Connections that waited for a reply for more than half a run, while others had many:", starved)):
        if lines:
            parts += [heading, "\n".join(lines)]
    return parts


def markdown(data):
    return "\n\n".join([overview(data), about(data), *failures(data), details(data)]) + "\n"


def publish(data):
    """Into bench/README.md what to see at once, into results.md all the rest: rows of TLS, and the others, in their places."""
    for mark, tls in (("net", False), ("net tls", True)):
        some = [row for row in data["rows"] if (server.CASES[row["case"]].limit == "tls") == tls]
        if some:
            part = {**data, "rows": some}
            report.write_markdown(HERE.parent / "README.md", f"{overview(part)}\n\n{about(part)}\n", mark)
            report.write_markdown(HERE / "results.md", "\n\n".join([details(part), *failures(part)]) + "\n", mark)


def write_chart(path, data):
    cpu = [{name: entry["cpu"] for name, entry in row["loops"].items() if "cpu" in entry} for row in data["rows"]]
    titles = [row["title"] for row in data["rows"]]
    report.write_chart(path, titles, [*data["versions"], LIMIT], cpu, "CPU microseconds per request", LIMIT)


def numbers(text):
    return [int(part) for part in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", default=["*"], metavar="PATTERN", help="of server.py, * and ? allowed")
    parser.add_argument("--loops", nargs="+", default=server.LOOPS, choices=server.LOOPS, metavar="LOOP")
    parser.add_argument("--sizes", type=numbers, metavar="N,N", help="bytes of a message (1024,10240,102400)")
    parser.add_argument("--connections", type=numbers, metavar="N,N", help="(1,50,400)")
    parser.add_argument("--rounds", type=int, help="runs of each case on each loop (11)")
    parser.add_argument("--seconds", type=float, help="of each run, after a fifth of it to warm up (0.3)")
    parser.add_argument("--quick", action="store_true", help="1 KiB, 50 connections, 3 rounds of a tenth of a second")
    parser.add_argument("--load", metavar="FILE", help="show the results of an earlier --json, measure nothing")
    parser.add_argument("--json", metavar="FILE", help="write everything that was measured")
    parser.add_argument("--table", metavar="FILE", default="-", help="write the tables (standard output)")
    parser.add_argument("--publish", action="store_true", help="refresh bench/README.md and results.md")
    parser.add_argument("--chart", metavar="FILE", help="draw the bars, .png or .svg (needs matplotlib)")
    args = parser.parse_args()

    data = json.loads(Path(args.load).read_text(encoding="utf-8")) if args.load else results(args)
    if args.json:
        Path(args.json).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    report.write_markdown(args.table, markdown(data), "all of net")
    if args.publish:
        publish(data)
    if args.chart:
        write_chart(args.chart, data)


if __name__ == "__main__":
    main()
