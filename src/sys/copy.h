/* Memory that the kernel copies received data to.

   The kernel copies with `rep movsb`, which AMD's Zen 3 and later do at a small part of their speed where the lower twelve
   bits of the destination's address are 1 to 31 above those of the source's: 100 KiB in 40 us instead of 8 (memcpy() of the
   GNU C library did the same until 2.39, see its bug 30994).  Most of what has been sent begins with a page in the kernel.
   Memory that begins with one too is always good, and 16 bytes into one, where malloc() puts large blocks, as bad as can be. */
#ifndef AF_SYS_COPY_H
#define AF_SYS_COPY_H

#include "base/af.h"

#include <stdlib.h>

#define AF_PAGE ((size_t)4096)

/* A block for free(), at the beginning of a page; size: a multiple of AF_PAGE.  NULL without an exception. */
static inline char *
af_page_alloc(size_t size)
{
    return aligned_alloc(AF_PAGE, size);
}

/* Better receive elsewhere, and copy from there? */
static inline int
af_copies_slowly_to(const void *to)
{
#if defined(AF_HOSTILE)
    return to != NULL;
#elif defined(__x86_64__)
    return ((uintptr_t)to & (AF_PAGE - 1)) - 1 < 31 && __builtin_cpu_is("amd");
#else
    return to == NULL;
#endif
}

#endif
