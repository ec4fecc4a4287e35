/* Clocks in nanoseconds. */
#ifndef AF_SYS_CLOCK_H
#define AF_SYS_CLOCK_H

#include "base/af.h"

#include <time.h>

static inline int64_t
af_clock_read(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * AF_NS_PER_SEC + ts.tv_nsec;
}

/* The loop's: what time.monotonic() reads. */
static inline int64_t
af_clock_ns(void)
{
    return af_clock_read(CLOCK_MONOTONIC);
}

/* The processor time of this thread; a system call, as the other is not. */
static inline int64_t
af_clock_cpu_ns(void)
{
    return af_clock_read(CLOCK_THREAD_CPUTIME_ID);
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
