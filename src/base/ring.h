/* A ring: a power-of-two queue of words that only grows.  The ready ring holds tagged pointers.
   Invariant: head and tail run freely and wrap; tail - head is the number of entries, never above mask + 1. */
#ifndef AF_BASE_RING_H
#define AF_BASE_RING_H

#include "base/af.h"

typedef struct {
    uintptr_t *slots;
    size_t mask;            /* capacity - 1; meaningless while slots is NULL */
    size_t head, tail;
} af_ring;

AF_API int af_ring_init(af_ring *ring);             /* 0 or -ENOMEM */
AF_API void af_ring_fini(af_ring *ring);
AF_API int af_ring_grow(af_ring *ring);             /* 0 or -ENOMEM */

static inline size_t
af_ring_len(const af_ring *ring)
{
    return ring->tail - ring->head;
}

/* 0 or -ENOMEM, and then nothing was pushed. */
static inline int
af_ring_push(af_ring *ring, uintptr_t entry)
{
    if (af_unlikely(af_ring_len(ring) > ring->mask)) {
        int rc = af_ring_grow(ring);
        if (rc < 0) {
            return rc;
        }
    }
    ring->slots[ring->tail++ & ring->mask] = entry;
    return 0;
}

/* The same at the other end: it is what is popped next. */
static inline int
af_ring_push_front(af_ring *ring, uintptr_t entry)
{
    if (af_unlikely(af_ring_len(ring) > ring->mask)) {
        int rc = af_ring_grow(ring);
        if (rc < 0) {
            return rc;
        }
    }
    ring->slots[--ring->head & ring->mask] = entry;
    return 0;
}

static inline uintptr_t
af_ring_pop(af_ring *ring)
{
    AF_ASSERT(af_ring_len(ring) > 0);
    return ring->slots[ring->head++ & ring->mask];
}

static inline uintptr_t
af_ring_at(const af_ring *ring, size_t i)
{
    return ring->slots[(ring->head + i) & ring->mask];
}

#endif
