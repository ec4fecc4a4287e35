/* What of base/ and sys/ more than one thread touches: the ring under a lock, which stands for the interpreter's, and
   af_poll_wake() without one.  As loop.call_soon_threadsafe() does; a wake-up that is lost makes the program hang. */
#include "check.h"

#include "base/ring.c"
#include "sys/epoll.c"
#include "sys/busy.c"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { THREADS = 4, PUSHES = 4000, WAKES = 1500 };

static af_poll waiter;

/* ---- entries pushed by many, popped by one --------------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static af_ring ready;           /* under the lock, as are the next two */
static int asleep, woken;

static void *
push_many(void *arg)
{
    uintptr_t name = (uintptr_t)arg;
    for (uintptr_t i = 0; i < PUSHES; i++) {
        CHECK_EQ(pthread_mutex_lock(&lock), 0);
        CHECK_EQ(af_ring_push(&ready, name * PUSHES + i), 0);
        if (asleep && !woken) {
            woken = 1;
            af_poll_wake(&waiter);
        }
        CHECK_EQ(pthread_mutex_unlock(&lock), 0);
        if (i % 64 == name) {
            sched_yield();
        }
    }
    return NULL;
}

static void
test_pushed_from_many_threads(void)
{
    pthread_t threads[THREADS];
    uintptr_t next[THREADS] = {0};
    af_event events[AF_POLL_BATCH];
    size_t left = (size_t)THREADS * PUSHES;
    CHECK_EQ(af_poll_open(&waiter), 0);
    CHECK_EQ(af_ring_init(&ready), 0);
    for (uintptr_t t = 0; t < THREADS; t++) {
        CHECK_EQ(pthread_create(&threads[t], NULL, push_many, (void *)t), 0);
    }
    CHECK_EQ(pthread_mutex_lock(&lock), 0);
    while (left > 0) {
        for (; af_ring_len(&ready) > 0; left--) {
            uintptr_t entry = af_ring_pop(&ready);
            CHECK(entry / PUSHES < THREADS);
            CHECK_EQ(entry % PUSHES, next[entry / PUSHES]++);       /* each thread's own in order, none lost */
        }
        if (left > 0) {
            asleep = 1;
            CHECK_EQ(pthread_mutex_unlock(&lock), 0);
            CHECK_EQ(af_poll_wait(&waiter, events, -1), 0);
            CHECK_EQ(pthread_mutex_lock(&lock), 0);
            asleep = woken = 0;
        }
    }
    CHECK_EQ(pthread_mutex_unlock(&lock), 0);
    for (int t = 0; t < THREADS; t++) {
        CHECK_EQ(pthread_join(threads[t], NULL), 0);
    }
    CHECK_EQ(af_ring_len(&ready), 0);
    af_ring_fini(&ready);
    af_poll_close(&waiter);
}

/* ---- wake-ups without a lock ----------------------------------------------------------------------------------- */

static atomic_size_t asked, answered;

static void *
wake_many(void *arg)
{
    (void)arg;
    for (int i = 0; i < WAKES; i++) {
        size_t ticket = atomic_fetch_add(&asked, 1) + 1;
        af_poll_wake(&waiter);
        while (atomic_load(&answered) < ticket) {
            sched_yield();
        }
    }
    return NULL;
}

/* With looks: as a loop that looks before it sleeps, again and again. */
static void
wake_from_many_threads(int looks)
{
    af_busy busy = {.on = 1};
    af_busy_init(&busy, 1);
    pthread_t threads[THREADS];
    af_event events[AF_POLL_BATCH];
    size_t all = (size_t)THREADS * WAKES;
    atomic_store(&asked, 0);
    atomic_store(&answered, 0);
    CHECK_EQ(af_poll_open(&waiter), 0);
    for (int t = 0; t < THREADS; t++) {
        CHECK_EQ(pthread_create(&threads[t], NULL, wake_many, NULL), 0);
    }
    while (atomic_load(&answered) < all) {
        busy.looks = looks;
        CHECK_EQ(af_busy_wait(&busy, &waiter, events, -1), 0);
        CHECK(waiter.told);
        atomic_store(&answered, atomic_load(&asked));
    }
    for (int t = 0; t < THREADS; t++) {
        CHECK_EQ(pthread_join(threads[t], NULL), 0);
    }
    af_poll_close(&waiter);
}

static void
test_woken_from_many_threads(void)
{
    wake_from_many_threads(0);
}

static void
test_woken_while_it_looks(void)
{
    wake_from_many_threads(1);
}

int
main(int argc, char **argv)
{
    check_begin(argc, argv);
    RUN(test_pushed_from_many_threads);
    RUN(test_woken_from_many_threads);
    RUN(test_woken_while_it_looks);
    return 0;
}
