"""call_soon, call_soon_threadsafe: run, cancelled, failed, left over."""

import contextvars

from _check import SENTINEL, check, finish, new_event_loop

loop = new_event_loop()
loop.set_exception_handler(lambda loop, context: None)


def turn():
    loop.stop()
    loop.run_forever()


def ran():
    for schedule in (loop.call_soon, loop.call_soon_threadsafe):
        schedule(int)
        schedule(repr, SENTINEL)
        schedule(lambda *args: None, *[SENTINEL] * 6)
        schedule(repr, SENTINEL, context=contextvars.copy_context())
    turn()
    turn()


def cancelled():
    for schedule in (loop.call_soon, loop.call_soon_threadsafe):
        schedule(repr, SENTINEL).cancel()
        handle = schedule(repr, SENTINEL)
        repr(handle)
        handle.cancel()
    turn()


def failed():
    loop.call_soon(lambda x: 1 / 0, SENTINEL)
    loop.call_soon(repr, SENTINEL, SENTINEL)
    turn()


def fatal():
    loop.call_soon(exit, SENTINEL)
    loop.call_soon(repr, SENTINEL)
    try:
        loop.run_forever()
    except SystemExit:
        pass
    turn()


def cyclic():
    cycle = [SENTINEL]
    cycle.append(loop.call_soon(repr, cycle))
    turn()
    cycle.append(loop.call_later(1000, repr, cycle))
    cycle[-1].cancel()


def debugged():
    loop.set_debug(True)
    loop.call_soon(repr, SENTINEL)
    loop.call_later(1000, repr, SENTINEL).cancel()
    turn()
    loop.set_debug(False)


for scenario in (ran, cancelled, failed, fatal, cyclic, debugged):
    check(scenario)
loop.close()
finish()
