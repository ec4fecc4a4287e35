"""One measurement: a case on a loop, in this process. run.py, callgrind.py and a profiler start it.

    python bench/one.py CASE LOOP [--ops N] [--warm-up N]         LOOP may be "floor"

Prints {"ops": N, "ns": CPU time of all threads of the process while the work was done}.
"""

import argparse
import asyncio
import importlib
import json
import time

import loops

STEP = 1000  # the numbers of operations are multiples of it, so that groups of 100 or 1000 come out even


def floor(case, n):
    """The least that `case` can cost: its own callbacks or coroutines, called from C with no loop around them."""
    from floor import _floor

    if case.FLOOR == "call":
        return lambda: _floor.call(empty, n)
    coroutines = case.coroutines(n)
    return lambda: _floor.drive(coroutines) - len(coroutines)  # the last resumption of each is its return


def empty():
    pass


def timed(work, n):
    begun = time.process_time_ns()
    done = work()
    spent = time.process_time_ns() - begun
    if done != n:
        raise AssertionError(f"{done} operations were done, not {n}")
    return spent


def measure(case, loop_name, ops, warm_up):
    if loop_name == "floor":
        return [timed(floor(case, n), n) for n in (warm_up, ops) if n][-1]
    with asyncio.Runner(debug=False, loop_factory=loops.factory(loop_name)) as runner:
        loop = runner.get_loop()
        return [timed(case.bench(loop, n), n) for n in (warm_up, ops) if n][-1]


def main():
    parser = argparse.ArgumentParser(description="Measure one case on one loop.")
    parser.add_argument("case")
    parser.add_argument("loop", choices=["floor", *loops.FACTORIES])
    parser.add_argument("--ops", type=int, help="operations to time (the case's own number)")
    parser.add_argument("--warm-up", type=int, help="operations before that (a tenth)")
    args = parser.parse_args()

    case = importlib.import_module(f"micro.{args.case}")
    ops = max(STEP, (args.ops or case.OPS) // STEP * STEP)
    warm_up = ops // 10 if args.warm_up is None else args.warm_up
    if warm_up:
        warm_up = max(STEP, warm_up // STEP * STEP)
    print(json.dumps({"ops": ops, "ns": measure(case, args.loop, ops, warm_up)}))


if __name__ == "__main__":
    main()
