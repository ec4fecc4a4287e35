/* The loop's clock: CLOCK_MONOTONIC in nanoseconds, what time.monotonic() reads. */
#ifndef AF_SYS_CLOCK_H
#define AF_SYS_CLOCK_H

#include "base/af.h"

#include <time.h>

static inline int64_t
af_clock_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * AF_NS_PER_SEC + ts.tv_nsec;
}

/* A counter to tell short from long, a third of the price of the clock; AF_TICKS_SHORT of it are 25 to 100 us on any
   machine of the last fifteen years.  Where there is none the clock does. */
#if defined(__x86_64__)
#  define AF_TICKS_SHORT 100000
static inline uint64_t
af_ticks(void)
{
    return __builtin_ia32_rdtsc();
}
#else
#  define AF_TICKS_SHORT 50000
static inline uint64_t
af_ticks(void)
{
    return (uint64_t)af_clock_ns();
}
#endif

#endif
