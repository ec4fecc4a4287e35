#include "sys/busy.h"
#include "sys/clock.h"

/* A sleep no longer than this (75 to 300 us) is one that looking might have done for: half of it is waking up. */
#define BUSY_SHORT (3 * AF_TICKS_SHORT)
/* After one of about a second there may be another load: what the last one took says nothing any more. */
#define BUSY_PAUSE ((uint64_t)10000 * BUSY_SHORT)
/* It looks for no longer than this, in ns, and then sleeps; more than BUSY_MISSES of that in a window, and it is over. */
#define BUSY_MOST 50000
#define BUSY_MISSES 4
/* Waits that are judged together.  Before those that sleep are measured, as many have to be short. */
#define BUSY_WINDOW 64
#define BUSY_PATIENCE (2 * BUSY_WINDOW)
#define BUSY_PATIENCE_MOST (128 * BUSY_WINDOW)
/* After so many windows of looking one sleeps again, to see what that takes now. */
#define BUSY_WINDOWS 256
/* Looking may take this part more than sleeping, in its first window and later: answers come twice as fast, and a machine is
   not equally fast all the time.  What it cannot keep is noticed after BUSY_WINDOWS at the latest. */
#define BUSY_MARGIN(b) ((b)->asleep / ((b)->windows == 0 ? 32 : 16))
/* A unit of work is a wait, or so many bytes: who looks sees large data come in more pieces, and waits more often for the same
   of it. */
#define BUSY_BYTES 512
#ifdef AF_HOSTILE
#  define BUSY_LEAST 10000
#else
#  define BUSY_LEAST 0
#endif

AF_API void
af_busy_init(af_busy *b, unsigned long thread)
{
    *b = (af_busy){.left = BUSY_PATIENCE, .patience = BUSY_PATIENCE, .thread = thread, .on = b->on};
}

/* What a unit of this window's work has taken. */
static int64_t
busy_cost(const af_busy *b, int64_t cpu)
{
    return (cpu - b->begun) / (int64_t)(BUSY_WINDOW + b->moved / BUSY_BYTES);
}

static void
busy_next_window(af_busy *b, int looks, int64_t cpu)
{
    b->looks = looks;
    b->left = BUSY_WINDOW;
    b->misses = 0;
    b->moved = 0;
    b->begun = cpu;
}

/* Something ended a sleep of so many ticks. */
static void
busy_slept(af_busy *b, uint64_t ticks)
{
    if (ticks > BUSY_PAUSE) {
        b->left = b->patience = BUSY_PATIENCE;
        return;
    }
    if (ticks > BUSY_SHORT) {
        b->left = b->left < BUSY_PATIENCE ? BUSY_PATIENCE : b->left;
        return;
    }
    b->left--;
    if (b->left == BUSY_WINDOW) {
        busy_next_window(b, 0, af_clock_cpu_ns());
    }
    else if (b->left == 0) {
        int64_t cpu = af_clock_cpu_ns();
        b->asleep = busy_cost(b, cpu);
        b->windows = 0;
        busy_next_window(b, 1, cpu);
    }
}

static void
busy_sleep_from_now(af_busy *b)
{
    b->looks = 0;
    b->left = b->patience;
    b->patience = b->patience < BUSY_PATIENCE_MOST ? 2 * b->patience : BUSY_PATIENCE_MOST;
}

static void
busy_judge(af_busy *b)
{
    int64_t cpu = af_clock_cpu_ns(), took = busy_cost(b, cpu);
    b->awake = b->windows == 0 ? took : b->awake + (took - b->awake) / 8;
    if (b->awake > b->asleep + BUSY_MARGIN(b)) {
        busy_sleep_from_now(b);
        return;
    }
    b->patience = BUSY_PATIENCE;
    b->windows++;
    busy_next_window(b, b->windows < BUSY_WINDOWS, cpu);
}

/* It has looked, and found something or not. */
static void
busy_looked(af_busy *b, int found)
{
    b->misses += !found;
    if (b->misses > BUSY_MISSES) {
        busy_sleep_from_now(b);
    }
    else if (--b->left == 0) {
        busy_judge(b);
    }
}

/* Look until something is there, or the clock says so many ns.  Returns what af_poll_wait() did last. */
static int
busy_look(af_poll *p, af_event *events, int64_t until)
{
    int n;
    do {
        n = af_poll_wait(p, events, 0);
    } while (n == 0 && !p->told && af_clock_ns() < until);
    return n;
}

AF_API int
af_busy_wait(af_busy *b, af_poll *p, af_event *events, int64_t timeout_ns)
{
    if (timeout_ns == 0 || !b->on) {
        return af_poll_wait(p, events, timeout_ns);
    }
    int64_t most = b->looks ? BUSY_MOST : BUSY_LEAST;
    if (most == 0) {
        uint64_t ticks = af_ticks();
        int n = af_poll_wait(p, events, timeout_ns);
        if (p->told) {
            busy_slept(b, af_ticks() - ticks);
        }
        return n;
    }
    int64_t begun = af_clock_ns();
    int n = busy_look(p, events, begun + (timeout_ns > 0 && timeout_ns < most ? timeout_ns : most));
    int found = n != 0 || p->told;
    if (b->looks) {
        busy_looked(b, found);
    }
    if (found) {
        return n;
    }
    if (timeout_ns > 0) {
        timeout_ns -= af_clock_ns() - begun;
        if (timeout_ns <= 0) {
            return 0;
        }
    }
    return af_poll_wait(p, events, timeout_ns);
}
