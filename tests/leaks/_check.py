"""Whether doing something again and again leaves anything behind.

check(scenario) calls it, many times, in rounds, and after each round counts what there is: objects that the collector
knows, blocks of Python's allocator, references (debug builds of Python), references to the sentinel, descriptors,
threads, resident memory.  What leaks grows in every round; so the smallest growth of any round is what counts, and a
cache that fills or a free list that fills for once does no harm.

--asyncio runs the scenario on asyncio's loop: what leaks there too is Python's.
"""

import asyncio
import gc
import inspect
import os
import sys
import threading

import asyncfast

ON_ASYNCIO = "--asyncio" in sys.argv
ROUNDS, WARM_UP = 4, 2

new_event_loop = asyncio.SelectorEventLoop if ON_ASYNCIO else asyncfast.new_event_loop
Task, Future = (asyncio.Task, asyncio.Future) if ON_ASYNCIO else (asyncfast.Task, asyncfast.Future)


class Sentinel:
    """Stands in scenarios for a user's object."""


SENTINEL = Sentinel()
PAGE = os.sysconf("SC_PAGESIZE")
#: what may be there more after a round, of each thing that is counted; a leak shows with every call, the rest is noise
ALLOWED = {"sentinel": 0, "descriptors": 0, "threads": 0, "kilobytes": 64}


def count():
    for _ in range(3):
        gc.collect()
    result = {"objects": len(gc.get_objects()), "blocks": sys.getallocatedblocks(), "sentinel": sys.getrefcount(SENTINEL),
              "threads": threading.active_count()}
    if hasattr(sys, "gettotalrefcount"):
        result["references"] = sys.gettotalrefcount()
    if os.path.exists("/proc/self/statm"):
        with open("/proc/self/statm") as file:
            result["kilobytes"] = int(file.read().split()[1]) * PAGE // 1024
        result["descriptors"] = len(os.listdir("/proc/self/fd"))
    return result


def check(scenario, repeat=200):
    """Call scenario(), or run it on one loop if it is a coroutine function; exit with 1 if it leaks."""
    loop = None
    if inspect.iscoroutinefunction(scenario):
        loop = new_event_loop()
        loop.set_exception_handler(lambda loop, context: None)

    def call():
        return loop.run_until_complete(scenario()) if loop else scenario()

    for _ in range(WARM_UP * repeat):
        call()
    grown = []
    before = count()
    for _ in range(ROUNDS):
        for _ in range(repeat):
            call()
        after = count()
        grown.append({name: after[name] - before[name] for name in after})
        before = after
    if loop:
        loop.close()
    least = {name: min(each[name] for each in grown) for name in before}
    # free lists go on filling for a while: objects that only the collector frees are many at once now and then, and
    # what is recycled keeps its memory and its type; what leaks takes at least one of each with every call
    allowed = {"blocks": repeat - 1, "references": repeat - 1, **ALLOWED}
    leaks = {name: growth for name, growth in least.items() if growth > allowed.get(name, repeat // 2)}
    name = f"{os.path.basename(sys.argv[0])}: {scenario.__name__}"
    if leaks:
        print(f"{name} leaks, per {repeat} times at least:", leaks, flush=True)
        for each in grown:
            print("   ", each)
        check.failed = True
    else:
        print(f"{name}: ok", flush=True)


check.failed = False


def finish():
    sys.exit(check.failed)
