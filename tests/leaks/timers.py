"""call_later, call_at: fired, cancelled, changed, compared."""

from _check import SENTINEL, check, finish, new_event_loop

loop = new_event_loop()


def turn():
    loop.stop()
    loop.run_forever()


def fired():
    for i in range(10):
        loop.call_at(i, repr, SENTINEL)
        loop.call_later(0, repr, SENTINEL)
    turn()
    turn()


def cancelled():
    handles = [loop.call_later(1000 + i, repr, SENTINEL) for i in range(50)]
    sorted(handles) == handles, {*handles}, repr(handles[0])
    for handle in handles:
        handle.cancel()
    turn()


def cancelled_from_a_callback():
    handles = [loop.call_at(i, lambda x: [h.cancel() for h in handles], SENTINEL) for i in range(5)]
    turn()
    turn()


for scenario in (fired, cancelled, cancelled_from_a_callback):
    check(scenario)
loop.close()
finish()
