/* What the C tests share: checks, a seeded source of numbers, and memory that runs out on demand.  A program ends with
   status 0, or at its first check that fails with status 1.  Each is one file that includes the sources it tests. */
#ifndef AF_TESTS_CHECK_H
#define AF_TESTS_CHECK_H

#define _GNU_SOURCE     /* so this comes before every other header */

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CHECK(x) ((x) ? (void)0 : check_failed(__FILE__, __LINE__, #x))

/* Two integers are equal; says both if not.  Unsigned ones show as negative above 2^63. */
#define CHECK_EQ(a, b) check_equal(__FILE__, __LINE__, #a " == " #b, (int64_t)(a), (int64_t)(b))

#define RUN(test) (printf("- %s\n", #test), (void)test())

static inline void
check_failed(const char *file, int line, const char *what)
{
    printf("%s:%d: not so: %s\n", file, line, what);
    exit(1);
}

static inline void
check_equal(const char *file, int line, const char *what, int64_t a, int64_t b)
{
    if (a != b) {
        printf("%s:%d: %" PRId64 " and %" PRId64 "\n", file, line, a, b);
        check_failed(file, line, what);
    }
}

/* ---- numbers: xorshift64*, seeded by the first argument or else by the clock ------------------------------------- */

static uint64_t check_state;

static inline void
check_begin(int argc, char **argv)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t seed = (uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec << 30 ^ (uint64_t)getpid();
    seed = argc > 1 ? strtoull(argv[1], NULL, 10) : seed % 1000000000;
    setvbuf(stdout, NULL, _IONBF, 0);   /* what is printed stays when a sanitizer ends the program */
    printf("seed %" PRIu64 "\n", seed);
    check_state = (seed + 1) * UINT64_C(0x9E3779B97F4A7C15) | 1;
}

static inline uint64_t
any64(void)
{
    check_state ^= check_state >> 12;
    check_state ^= check_state << 25;
    check_state ^= check_state >> 27;
    return check_state * UINT64_C(0x2545F4914F6CDD1D);
}

/* 0 <= number < n */
static inline uint64_t
any_below(uint64_t n)
{
    return (any64() >> 11) % n;
}

/* ---- memory: after `#include "check.h"`, a test says `#define malloc check_malloc` for the source it includes --- */

static long check_allocations = -1;     /* that still succeed; < 0: all do */

static inline int
check_out_of_memory(void)
{
    if (check_allocations > 0) {
        check_allocations--;
        return 0;
    }
    return check_allocations == 0;
}

static inline void *
check_malloc(size_t n)
{
    return check_out_of_memory() ? NULL : malloc(n);
}

static inline void *
check_realloc(void *p, size_t n)
{
    return check_out_of_memory() ? NULL : realloc(p, n);
}

#endif
