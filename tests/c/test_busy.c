/* sys/busy.h against a machine that is made up: a clock, the processor time of the thread, what a sleep costs and when the
   next event comes.  All times are in nanoseconds. */
#include "check.h"

#include <limits.h>

static struct {
    int64_t now, cpu;           /* the two clocks */
    long cpu_readings;
    int64_t next_event;         /* when it comes; INT64_MAX: never */
    int64_t price, latency;     /* processor time of a sleep; from the event until the thread runs */
    long looks, sleeps;
} machine;

enum { LOOK = 400 };            /* what a look takes */

#define clock_gettime machine_clock_gettime
static int
machine_clock_gettime(clockid_t id, struct timespec *ts)
{
    int64_t time = id == CLOCK_MONOTONIC ? machine.now : machine.cpu;
    machine.cpu_readings += id == CLOCK_THREAD_CPUTIME_ID;
    *ts = (struct timespec){time / 1000000000, time % 1000000000};
    return 0;
}

#include "sys/clock.h"
#include "sys/poller.h"

/* the counter: AF_TICKS_SHORT are 50 us here */
#define af_ticks() ((uint64_t)machine.now * (AF_TICKS_SHORT / 1000) / 50)

AF_API int
af_poll_wait(af_poll *p, af_event *events, int64_t timeout)
{
    (void)events;
    machine.now += LOOK;
    machine.cpu += LOOK;
    if (timeout == 0) {
        machine.looks++;
    }
    else if (machine.next_event > machine.now) {
        machine.sleeps++;
        int64_t until = timeout > 0 && machine.now + timeout < machine.next_event ? machine.now + timeout : machine.next_event;
        CHECK(until < INT64_MAX);
        machine.now = until + machine.latency;
        machine.cpu += machine.price;
    }
    p->told = machine.next_event <= machine.now;
    return p->told;
}

#include "sys/busy.c"

static af_poll poll;
static af_event event;

/* The machine at rest. */
static void
start(af_busy *b, int64_t price, int64_t latency)
{
    machine.now = 1000000000;
    machine.cpu = 500000;
    machine.cpu_readings = machine.looks = machine.sleeps = 0;
    machine.price = price;
    machine.latency = latency;
    *b = (af_busy){.on = 1};
    af_busy_init(b, 1);
}

/* A callback that takes so long, then a wait for an event that comes after so long. */
static void
turn(af_busy *b, int64_t work, int64_t away)
{
    machine.now += work;
    machine.cpu += work;
    machine.next_event = machine.now + away;
    CHECK_EQ(af_busy_wait(b, &poll, &event, -1), 1);
    CHECK(machine.now >= machine.next_event);
}

static int64_t
cpu_of_turns(af_busy *b, int turns, int64_t work, int64_t away)
{
    int64_t before = machine.cpu;
    for (int i = 0; i < turns; i++) {
        turn(b, work, away);
    }
    return machine.cpu - before;
}

/* One that looks, since an answer comes after 12 us and a sleep takes 15 us of processor time and 15 us to wake from. */
static void
start_looking(af_busy *b)
{
    start(b, 15000, 15000);
    cpu_of_turns(b, 1000, 8000, 12000);
    CHECK(b->looks);
}

static void
check_never_tried(void)
{
    CHECK_EQ(machine.looks, 0);
    CHECK_EQ(machine.cpu_readings, 0);
}

/* An answer comes after 12 us, a sleep takes 15 us of processor time and 15 us to wake from: it looks, but for the windows that
   see what sleeping takes now. */
static void
test_looks_where_it_is_cheaper(void)
{
    af_busy b;
    start(&b, 15000, 15000);
    cpu_of_turns(&b, 300, 8000, 12000);
    CHECK(b.looks);
    machine.sleeps = 0;
    int64_t took = cpu_of_turns(&b, 100000, 8000, 12000);
    CHECK(machine.sleeps < 1000);
    CHECK(took < INT64_C(100000) * 21000);
    CHECK(machine.cpu_readings < 2 * 100300 / BUSY_WINDOW);
}

/* The same where a sleep takes 3 us: trying costs next to nothing, and less the more often it did not pay. */
static void
test_sleeps_where_it_is_dearer(void)
{
    af_busy b;
    start(&b, 3000, 3000);
    int64_t took = cpu_of_turns(&b, 300000, 8000, 20000);
    CHECK(took < INT64_C(300000) * (8000 + LOOK + 3000) * 102 / 100);
    CHECK(machine.sleeps > 290000);
    CHECK_EQ(b.patience, BUSY_PATIENCE_MOST);
}

/* A message in twenty pieces of 5 KiB, one each 4 us, the first after 12; whoever takes more of them at a time has less to do. */
static void
message(af_busy *b)
{
    int64_t begun = machine.now;
    for (int got = 0; got < 20; ) {
        machine.next_event = begun + 12000 + 4000 * got;
        CHECK_EQ(af_busy_wait(b, &poll, &event, -1), 1);
        int there = (int)((machine.now - begun - 12000) / 4000) + 1, pieces = (there < 20 ? there : 20) - got;
        machine.now += 500 + 200 * pieces;
        machine.cpu += 500 + 200 * pieces;
        b->moved += (size_t)pieces * 5120;
        got += pieces;
    }
}

/* Who looks sees more pieces, each wait costs less, and all of them together more. */
static void
test_counts_what_a_wait_has_brought(void)
{
    int64_t took[2];
    for (int on = 0; on < 2; on++) {
        af_busy b;
        start(&b, 6000, 15000);
        b.on = (char)on;
        int64_t before = machine.cpu;
        for (int i = 0; i < 20000; i++) {
            message(&b);
        }
        took[on] = machine.cpu - before;
    }
    CHECK(machine.looks > 0);
    CHECK(took[1] < took[0] * 102 / 100);
}

/* It goes with what it finds: the price of a sleep rises, falls, rises. */
static void
test_follows(void)
{
    af_busy b;
    start(&b, 3000, 3000);
    for (int i = 0; i < 6; i++) {
        machine.price = machine.latency = i & 1 ? 15000 : 3000;
        cpu_of_turns(&b, 40000, 8000, 12000);
        CHECK_EQ(b.looks, i & 1);
    }
}

/* It has seen that looking does not pay, and tries anew where there may be another load. */
static void
test_a_pause_is_a_beginning(void)
{
    af_busy b;
    for (int pause = 0; pause < 2; pause++) {
        start(&b, 3000, 3000);
        cpu_of_turns(&b, 100000, 8000, 20000);
        CHECK_EQ(b.patience, BUSY_PATIENCE_MOST);
        b.left = BUSY_PATIENCE_MOST;
        machine.price = machine.latency = 15000;
        turn(&b, 8000, pause ? INT64_C(4000000000) : 100000000);
        cpu_of_turns(&b, 1000, 8000, 12000);
        CHECK_EQ(b.looks, pause);
    }
}

/* Who waits long neither looks nor reads the processor's time. */
static void
test_long_waits_sleep(void)
{
    af_busy b;
    start(&b, 15000, 15000);
    cpu_of_turns(&b, 10000, 8000, 200000);
    check_never_tried();
    /* nor who has many short ones, but never enough in a row */
    for (int i = 0; i < 1000; i++) {
        cpu_of_turns(&b, BUSY_WINDOW - 1, 8000, 12000);
        turn(&b, 8000, 200000);
    }
    check_never_tried();
}

/* Who looked, and has nothing to do any more, soon sleeps. */
static void
test_stops_when_nothing_comes(void)
{
    af_busy b;
    start_looking(&b);
    machine.looks = 0;
    cpu_of_turns(&b, 1000, 8000, 1000000);
    CHECK(!b.looks);
    CHECK(machine.looks <= (BUSY_MISSES + 1) * (BUSY_MOST / LOOK + 1));
}

static void
test_off(void)
{
    af_busy b;
    start(&b, 15000, 15000);
    b.on = 0;
    af_busy_init(&b, 2);
    cpu_of_turns(&b, 10000, 8000, 12000);
    check_never_tried();
}

/* The processor time of another thread says nothing about this one's. */
static void
test_begins_anew(void)
{
    af_busy b;
    start_looking(&b);
    af_busy_init(&b, 2);
    CHECK(b.on && !b.looks && b.thread == 2);
    machine.cpu = 0;
    cpu_of_turns(&b, 1000, 8000, 12000);
    CHECK(b.looks);
}

/* A wait with a timeout never ends early, and not later than the last look or the sleep. */
static void
test_timeouts(void)
{
    af_busy b;
    start(&b, 15000, 15000);
    for (int i = 0; i < 20000; i++) {
        b.looks = (int)any_below(2);
        int64_t timeout = 1 + (int64_t)any_below(any_below(2) ? 3000 : 200000), begun = machine.now;
        int comes = any_below(4) == 0;
        machine.next_event = comes ? machine.now + (int64_t)any_below(200000) : INT64_MAX;
        int n = af_busy_wait(&b, &poll, &event, timeout);
        CHECK_EQ(n, poll.told);
        CHECK(n ? machine.now >= machine.next_event : machine.now - begun >= timeout);
        CHECK(machine.now - begun <= timeout + machine.latency + 2 * LOOK);
    }
    machine.looks = machine.sleeps = 0;
    machine.next_event = INT64_MAX;
    CHECK_EQ(af_busy_wait(&b, &poll, &event, 0), 0);
    CHECK(machine.looks == 1 && machine.sleeps == 0);
}

/* Whatever comes when: it takes at most an eighth more processor time than sleeping each time. */
static void
test_any_traffic(void)
{
    for (int round = 0; round < 60; round++) {
        af_busy b;
        start(&b, 500 + (int64_t)any_below(20000), 500 + (int64_t)any_below(20000));
        int64_t sleeping = 0, before = machine.cpu, mean = 1 + (int64_t)any_below(200000), work = (int64_t)any_below(30000);
        for (int i = 0; i < 60000; i++) {
            int64_t away = (int64_t)any_below(any_below(8) ? (uint64_t)mean : 8 * (uint64_t)mean);
            sleeping += work + LOOK + (away > LOOK ? machine.price : 0);
            turn(&b, work, away);
        }
        CHECK(machine.cpu - before <= sleeping + sleeping / 8);
    }
}

int
main(int argc, char **argv)
{
    check_begin(argc, argv);
    RUN(test_looks_where_it_is_cheaper);
    RUN(test_sleeps_where_it_is_dearer);
    RUN(test_counts_what_a_wait_has_brought);
    RUN(test_follows);
    RUN(test_a_pause_is_a_beginning);
    RUN(test_long_waits_sleep);
    RUN(test_stops_when_nothing_comes);
    RUN(test_off);
    RUN(test_begins_anew);
    RUN(test_timeouts);
    RUN(test_any_traffic);
    return 0;
}
