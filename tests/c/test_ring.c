/* base/ring.[ch] against an array. */
#include "check.h"

#define malloc check_malloc
#include "base/ring.c"
#undef malloc

static void
check_sane(const af_ring *ring)
{
    CHECK((ring->mask & (ring->mask + 1)) == 0);
    CHECK(af_ring_len(ring) <= ring->mask + 1);
}

static void
push(af_ring *ring, uintptr_t entry)
{
    CHECK_EQ(af_ring_push(ring, entry), 0);
}

static void
test_first_in_first_out(void)
{
    af_ring ring;
    CHECK_EQ(af_ring_init(&ring), 0);
    CHECK_EQ(af_ring_len(&ring), 0);
    for (uintptr_t i = 0; i < 1000; i++) {
        push(&ring, i * 7 + 1);
        CHECK_EQ(af_ring_len(&ring), i + 1);
        check_sane(&ring);
    }
    for (uintptr_t i = 0; i < 1000; i++) {
        CHECK_EQ(af_ring_at(&ring, 0), i * 7 + 1);
        CHECK_EQ(af_ring_at(&ring, 999 - i), 999 * 7 + 1);
        CHECK_EQ(af_ring_pop(&ring), i * 7 + 1);
    }
    CHECK_EQ(af_ring_len(&ring), 0);
    af_ring_fini(&ring);
    CHECK(ring.slots == NULL);
    CHECK_EQ(af_ring_len(&ring), 0);
}

/* What is pushed at the front comes out next, whatever the ring has grown to and wherever it begins. */
static void
test_push_front(void)
{
    for (size_t start = 0; start < 200; start++) {
        af_ring ring;
        CHECK_EQ(af_ring_init(&ring), 0);
        for (size_t i = 0; i < start; i++) {
            push(&ring, 0);
            af_ring_pop(&ring);
        }
        for (uintptr_t i = 0; i < 150; i++) {
            push(&ring, 1000 + i);
            CHECK_EQ(af_ring_push_front(&ring, 999 - i), 0);
            CHECK_EQ(af_ring_len(&ring), 2 * i + 2);
            CHECK_EQ(af_ring_at(&ring, 0), 999 - i);
            check_sane(&ring);
        }
        for (uintptr_t i = 850; i < 1150; i++) {
            CHECK_EQ(af_ring_pop(&ring), i);
        }
        CHECK_EQ(af_ring_len(&ring), 0);
        af_ring_fini(&ring);
    }
}

/* Every value of a word, and none is kept for "nothing". */
static void
test_entries_come_out_as_they_went_in(void)
{
    static const uintptr_t odd[] = {0, 1, 3, UINTPTR_MAX, UINTPTR_MAX - 1, (uintptr_t)1 << (sizeof(uintptr_t) * 8 - 1)};
    af_ring ring;
    CHECK_EQ(af_ring_init(&ring), 0);
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        push(&ring, odd[i]);
    }
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        CHECK(af_ring_pop(&ring) == odd[i]);
    }
    af_ring_fini(&ring);
}

static void
test_it_grows_when_it_is_full_and_not_before(void)
{
    af_ring ring;
    CHECK_EQ(af_ring_init(&ring), 0);
    size_t start = ring.mask + 1;
    for (int turn = 0; turn < 5; turn++) {
        for (size_t i = 0; i < start; i++) {
            push(&ring, i);
        }
        CHECK_EQ(ring.mask + 1, start);
        for (size_t i = 0; i < start; i++) {
            CHECK_EQ(af_ring_pop(&ring), i);
        }
        push(&ring, 0);     /* the next turn begins elsewhere */
        (void)af_ring_pop(&ring);
    }
    for (size_t i = 0; i <= start; i++) {
        push(&ring, i);
    }
    CHECK_EQ(ring.mask + 1, 2 * start);
    while (af_ring_len(&ring) > 0) {
        (void)af_ring_pop(&ring);
    }
    CHECK_EQ(ring.mask + 1, 2 * start);     /* and keeps what it has */
    af_ring_fini(&ring);
}

/* Wherever in the array the oldest entry lies when there is no more room. */
static void
test_growth_keeps_the_order_from_any_start(void)
{
    size_t cap = 1;
    for (size_t shift = 0; shift < cap; shift++) {
        af_ring ring;
        CHECK_EQ(af_ring_init(&ring), 0);
        cap = ring.mask + 1;
        for (size_t i = 0; i < shift; i++) {
            push(&ring, 0);
            (void)af_ring_pop(&ring);
        }
        for (size_t i = 0; i < 4 * cap + 1; i++) {
            push(&ring, i);
            check_sane(&ring);
        }
        CHECK_EQ(ring.mask + 1, 8 * cap);
        for (size_t i = 0; i < 4 * cap + 1; i++) {
            CHECK_EQ(af_ring_at(&ring, i), i);
        }
        for (size_t i = 0; i < 4 * cap + 1; i++) {
            CHECK_EQ(af_ring_pop(&ring), i);
        }
        af_ring_fini(&ring);
    }
}

/* Pushes and pops in runs; `start` is what head and tail have counted to before. */
static void
ring_as_an_array(size_t start)
{
    enum { STEPS = 200000 };
    static uintptr_t model[STEPS];
    size_t head = 0, tail = 0, cap;
    af_ring ring;
    CHECK_EQ(af_ring_init(&ring), 0);
    ring.head = ring.tail = start;
    cap = ring.mask + 1;
    for (int step = 0; step < STEPS;) {
        int pushes = any_below(2) == 0;
        size_t run = any_below(any_below(20) == 0 ? 4000 : 40) + 1;
        for (; run > 0 && step < STEPS; run--, step++) {
            if (pushes) {
                model[tail] = (uintptr_t)any64();
                push(&ring, model[tail++]);
            }
            else if (head < tail) {
                CHECK(af_ring_pop(&ring) == model[head]);
                head++;
            }
            CHECK_EQ(af_ring_len(&ring), tail - head);
            CHECK(ring.mask + 1 >= cap);
            cap = ring.mask + 1;
            check_sane(&ring);
            if (head < tail) {
                size_t i = any_below(tail - head);
                CHECK(af_ring_at(&ring, i) == model[head + i]);
            }
        }
    }
    while (head < tail) {
        CHECK(af_ring_pop(&ring) == model[head]);
        head++;
    }
    CHECK_EQ(af_ring_len(&ring), 0);
    af_ring_fini(&ring);
}

static void
test_as_an_array(void)
{
    ring_as_an_array(0);
}

/* head and tail run freely, so one day they wrap. */
static void
test_counters_that_wrap(void)
{
    ring_as_an_array(SIZE_MAX - 20);
    for (size_t before = 0; before < 200; before++) {
        af_ring ring;
        CHECK_EQ(af_ring_init(&ring), 0);
        ring.head = ring.tail = SIZE_MAX - before;
        for (uintptr_t i = 0; i < 150; i++) {
            push(&ring, i);
        }
        for (uintptr_t i = 0; i < 150; i++) {
            CHECK_EQ(af_ring_at(&ring, 0), i);
            CHECK_EQ(af_ring_pop(&ring), i);
        }
        af_ring_fini(&ring);
    }
}

static void
test_no_memory(void)
{
    af_ring ring;
    check_allocations = 0;
    CHECK_EQ(af_ring_init(&ring), -ENOMEM);
    check_allocations = -1;
    CHECK_EQ(af_ring_init(&ring), 0);
    size_t cap = ring.mask + 1;
    push(&ring, 0);
    (void)af_ring_pop(&ring);
    for (uintptr_t i = 0; i < cap; i++) {
        push(&ring, i);
    }
    check_allocations = 0;
    for (int again = 0; again < 3; again++) {
        CHECK_EQ(af_ring_push(&ring, 99), -ENOMEM);
        CHECK_EQ(af_ring_len(&ring), cap);
    }
    /* nothing of it was pushed, and what was there still is */
    CHECK_EQ(af_ring_pop(&ring), 0);
    push(&ring, cap);
    check_allocations = -1;
    push(&ring, cap + 1);
    for (uintptr_t i = 1; i <= cap + 1; i++) {
        CHECK_EQ(af_ring_pop(&ring), i);
    }
    CHECK_EQ(af_ring_len(&ring), 0);
    af_ring_fini(&ring);
}

int
main(int argc, char **argv)
{
    check_begin(argc, argv);
    RUN(test_first_in_first_out);
    RUN(test_push_front);
    RUN(test_entries_come_out_as_they_went_in);
    RUN(test_it_grows_when_it_is_full_and_not_before);
    RUN(test_growth_keeps_the_order_from_any_start);
    RUN(test_as_an_array);
    RUN(test_counters_that_wrap);
    RUN(test_no_memory);
    return 0;
}
