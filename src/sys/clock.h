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

#endif
