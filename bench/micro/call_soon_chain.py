"""What does one turn of the loop cost, when each callback schedules the next?"""

TITLE = "call_soon, each callback schedules the next"
OPS = 200_000
FLOOR = "call"


def bench(loop, n):
    done = 0

    def tick():
        nonlocal done
        done += 1
        if done < n:
            loop.call_soon(tick)
        else:
            loop.stop()

    def work():
        loop.call_soon(tick)
        loop.run_forever()
        return done

    return work
