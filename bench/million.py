"""A million tasks asleep: what one weighs, and whether creating, waking and cancelling them stays linear.

    python bench/million.py [--tasks N] [--loops LOOP...] [--sleep own]

For N/4, N/2 and N tasks, each number on each loop in a process of its own: memory (growth of the resident set) and CPU
time per task. Deadlines are in random order. The last column is the cost per task of the worst phase at N over that at
N/4: 1 is linear. Plan for 1 to 3 kB per task.
"""

import argparse
import asyncio
import gc
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import loops

PHASES = ("create", "wake", "cancel")


def resident():
    """Bytes of the resident set now; there is no portable way, and ru_maxrss would be the peak."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def asleep(n, sleep, delay):
    """n tasks, all started and all asleep for `delay` to `delay` + 1 seconds; and a counter of those that woke."""
    started = woken = 0

    async def sleeper(delay):
        nonlocal started, woken
        started += 1
        await sleep(delay)
        woken += 1

    loop = asyncio.get_running_loop()
    end = loop.time() + delay
    tasks = [loop.create_task(sleeper(end + random.random() - loop.time())) for _ in range(n)]
    while started < n:
        await asyncio.sleep(0)
    return tasks, lambda: woken


def measure(name, n, own):
    """{"bytes": per task, phase: CPU ns per task}"""
    result = {}

    async def cancel():
        gc.collect()
        before, begun = resident(), time.process_time_ns()
        tasks, woken = await asleep(n, sleep, 3600)
        created = time.process_time_ns()
        result["bytes"], result["create"] = (resident() - before) / n, (created - begun) / n
        begun = time.process_time_ns()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        result["cancel"] = (time.process_time_ns() - begun) / n
        assert woken() == 0 and all(task.cancelled() for task in tasks)

    async def wake():
        # long enough for the last task to be asleep before the first one wakes
        tasks, woken = await asleep(n, sleep, 1 + 2 * n * result["create"] / 1e9)
        assert woken() == 0, "too busy a machine: tasks woke before all of them were asleep"
        begun = time.process_time_ns()
        for task in tasks:
            await task
        result["wake"] = (time.process_time_ns() - begun) / n
        assert woken() == n

    with asyncio.Runner(debug=False, loop_factory=loops.factory(name)) as runner:
        sleep = loops.own_sleep(runner.get_loop()) if own else asyncio.sleep
        runner.run(cancel())
        runner.run(wake())
    return result


def child(name, n, own):
    command = [sys.executable, __file__, "--one", name, "--tasks", str(n), "--sleep", "own" if own else "asyncio"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--loops", nargs="+", default=list(loops.FACTORIES), choices=loops.FACTORIES, metavar="LOOP")
    parser.add_argument("--sleep", choices=["asyncio", "own"], default="asyncio", help="own: asyncfast.sleep there")
    parser.add_argument("--one", choices=loops.FACTORIES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    own = args.sleep == "own"
    if args.one:
        print(json.dumps(measure(args.one, args.tasks, own)))
        return

    print("| loop | tasks | bytes per task | " + " | ".join(f"{phase}, ns" for phase in PHASES) + " | at N / at N/4 |")
    print("|---|" + "--:|" * (len(PHASES) + 3))
    for name in [name for name in loops.installed() if name in args.loops]:
        first = None
        for n in (args.tasks // 4, args.tasks // 2, args.tasks):
            result = child(name, n, own)
            if isinstance(result, str):
                print(f"| {name} | {n:,} | failed: {result} |", flush=True)
                break
            first = first or result
            worst = max(result[phase] / first[phase] for phase in PHASES)
            costs = " | ".join(f"{result[phase]:.0f}" for phase in PHASES)
            print(f"| {name} | {n:,} | {result['bytes']:.0f} | {costs} | {worst:.2f} |", flush=True)


if __name__ == "__main__":
    main()
