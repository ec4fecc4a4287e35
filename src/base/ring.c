/* Growth of the ready ring.  Everything else is inline in ring.h. */
#include "base/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#ifdef AF_HOSTILE
#  define RING_START 2      /* grow at every chance */
#else
#  define RING_START 64
#endif

AF_API int
af_ring_init(af_ring *ring)
{
    ring->slots = malloc(RING_START * sizeof(*ring->slots));
    if (ring->slots == NULL) {
        return -ENOMEM;
    }
    ring->mask = RING_START - 1;
    ring->head = ring->tail = 0;
    return 0;
}

AF_API void
af_ring_fini(af_ring *ring)
{
    free(ring->slots);
    ring->slots = NULL;
    ring->head = ring->tail = 0;
}

AF_API int
af_ring_grow(af_ring *ring)
{
    size_t old = ring->mask + 1;
    uintptr_t *slots = malloc(2 * old * sizeof(*slots));
    if (slots == NULL) {
        return -ENOMEM;
    }
    /* unwrap: the new ring starts at the oldest entry */
    size_t first = ring->head & ring->mask;
    memcpy(slots, ring->slots + first, (old - first) * sizeof(*slots));
    memcpy(slots + (old - first), ring->slots, first * sizeof(*slots));
    free(ring->slots);
    ring->slots = slots;
    ring->mask = 2 * old - 1;
    ring->tail = af_ring_len(ring);
    ring->head = 0;
    return 0;
}

#undef RING_START
