/* See heap.h.  Not thread-safe: a heap belongs to its loop's thread. */
#include "base/heap.h"

#include <errno.h>
#include <stdlib.h>

#define HEAP_ARITY 4        /* 96 bytes of children: two cache lines a level, half the levels of a binary heap */
#define HEAP_SORT_FROM 64

static inline int
heap_before(const af_heap_slot *a, const af_heap_slot *b)
{
    return a->when != b->when ? a->when < b->when : a->seq < b->seq;
}

static inline void
heap_place(af_heap *h, size_t i, af_heap_slot slot)
{
    h->heap[i] = slot;
    slot.timer->pos = (int64_t)i + 1;
}

static void
heap_sift_up(af_heap *h, size_t i, af_heap_slot slot)
{
    while (i > 0) {
        size_t parent = (i - 1) / HEAP_ARITY;
        if (!heap_before(&slot, &h->heap[parent])) {
            break;
        }
        heap_place(h, i, h->heap[parent]);
        i = parent;
    }
    heap_place(h, i, slot);
}

static void
heap_sift_down(af_heap *h, size_t i, af_heap_slot slot)
{
    for (;;) {
        size_t child = HEAP_ARITY * i + 1;
        if (child >= h->nheap) {
            break;
        }
        size_t end = child + HEAP_ARITY < h->nheap ? child + HEAP_ARITY : h->nheap;
        size_t best = child;
        for (size_t c = child + 1; c < end; c++) {
            if (heap_before(&h->heap[c], &h->heap[best])) {
                best = c;
            }
        }
        if (!heap_before(&h->heap[best], &slot)) {
            break;
        }
        heap_place(h, i, h->heap[best]);
        i = best;
    }
    heap_place(h, i, slot);
}

static int
heap_reserve(af_heap_slot **slots, size_t *cap, size_t want)
{
    if (want <= *cap) {
        return 0;
    }
    size_t bigger = *cap ? *cap * 2 : 16;
    while (bigger < want) {
        bigger *= 2;
    }
    af_heap_slot *p = realloc(*slots, bigger * sizeof(*p));
    if (p == NULL) {
        return -ENOMEM;
    }
    *slots = p;
    *cap = bigger;
    return 0;
}

/* Give back what a burst of timers took, once it is mostly unused. */
static void
heap_shrink(af_heap_slot **slots, size_t *cap, size_t used)
{
    if (*cap > 1024 && used < *cap / 8) {
        af_heap_slot *p = realloc(*slots, *cap / 2 * sizeof(*p));
        if (p != NULL) {
            *slots = p;
            *cap /= 2;
        }
    }
}

AF_API void
af_heap_init(af_heap *h)
{
    *h = (af_heap){0};
}

AF_API void
af_heap_fini(af_heap *h)
{
    AF_ASSERT(af_heap_len(h) == 0);
    free(h->heap);
    free(h->staged);
    *h = (af_heap){0};
}

AF_API int
af_heap_arm(af_heap *h, af_timer *t, int64_t when)
{
    AF_ASSERT(!af_timer_armed(t));
    /* room in the heap is reserved here, so that taking the timer in later cannot fail */
    if (af_unlikely(h->nstaged == h->cap_staged || af_heap_len(h) >= h->cap_heap)) {
        int rc = heap_reserve(&h->staged, &h->cap_staged, h->nstaged + 1);
        if (rc == 0) {
            rc = heap_reserve(&h->heap, &h->cap_heap, af_heap_len(h) + 1);
        }
        if (rc < 0) {
            return rc;
        }
    }
    h->staged[h->nstaged++] = (af_heap_slot){when, h->seq++, t};
    t->pos = -(int64_t)h->nstaged;
    return 0;
}

static void
heap_remove(af_heap *h, size_t i)
{
    af_heap_slot last = h->heap[--h->nheap];
    if (i < h->nheap) {
        if (i > 0 && heap_before(&last, &h->heap[(i - 1) / HEAP_ARITY])) {
            heap_sift_up(h, i, last);
        }
        else {
            heap_sift_down(h, i, last);
        }
    }
}

AF_API void
af_heap_disarm(af_heap *h, af_timer *t)
{
    if (t->pos < 0) {
        size_t i = (size_t)(-t->pos - 1);
        af_heap_slot last = h->staged[--h->nstaged];
        if (i < h->nstaged) {
            h->staged[i] = last;        /* order does not matter here: seq keeps it */
            last.timer->pos = -(int64_t)i - 1;
        }
    }
    else if (t->pos > 0) {
        heap_remove(h, (size_t)(t->pos - 1));
        heap_shrink(&h->heap, &h->cap_heap, af_heap_len(h));
    }
    t->pos = 0;
}

static void
heap_take_in(af_heap *h)
{
    for (size_t i = 0; i < h->nstaged; i++) {
        h->nheap++;
        heap_sift_up(h, h->nheap - 1, h->staged[i]);
    }
    h->nstaged = 0;
    heap_shrink(&h->staged, &h->cap_staged, 0);
}

AF_API int64_t
af_heap_next(af_heap *h)
{
    AF_ASSERT(af_heap_len(h) > 0);
    if (h->nstaged) {
        heap_take_in(h);
    }
    return h->heap[0].when;
}

AF_API af_timer *
af_heap_pop_due(af_heap *h, int64_t now)
{
    if (af_heap_len(h) == 0 || af_heap_next(h) > now) {
        return NULL;
    }
    af_timer *t = h->heap[0].timer;
    heap_remove(h, 0);
    heap_shrink(&h->heap, &h->cap_heap, af_heap_len(h));
    t->pos = 0;
    return t;
}

static int
heap_compare(const void *a, const void *b)
{
    return heap_before(a, b) ? -1 : 1;
}

AF_API const af_heap_slot *
af_heap_take_all_due(af_heap *h, int64_t now, size_t *n)
{
    if (af_heap_len(h) < HEAP_SORT_FROM || af_heap_next(h) > now) {
        return NULL;
    }
    int sorted = 1;
    for (size_t i = 0; i < h->nheap; i++) {
        if (h->heap[i].when > now) {
            return NULL;
        }
        sorted = sorted && (i == 0 || heap_before(&h->heap[i - 1], &h->heap[i]));
    }
    /* Sorting the array once beats taking the timers out one by one, each through the levels of the heap and with a
       write to every timer that moves (bench: timer_fire). */
    if (!sorted) {
        qsort(h->heap, h->nheap, sizeof(*h->heap), heap_compare);
    }
    *n = h->nheap;
    h->nheap = 0;
    return h->heap;
}

AF_API af_timer *
af_heap_any(const af_heap *h)
{
    return h->nstaged ? h->staged[h->nstaged - 1].timer : h->nheap ? h->heap[h->nheap - 1].timer : NULL;
}

#ifdef AF_DEBUG
AF_API int
af_heap_check(const af_heap *h)
{
    if (h->nheap > h->cap_heap || h->nstaged > h->cap_staged) {
        return 0;
    }
    for (size_t i = 0; i < h->nheap; i++) {
        if (h->heap[i].timer->pos != (int64_t)i + 1) {
            return 0;
        }
        if (i > 0 && heap_before(&h->heap[i], &h->heap[(i - 1) / HEAP_ARITY])) {
            return 0;
        }
    }
    for (size_t i = 0; i < h->nstaged; i++) {
        if (h->staged[i].timer->pos != -(int64_t)i - 1) {
            return 0;
        }
    }
    return 1;
}
#endif

#undef HEAP_ARITY
#undef HEAP_SORT_FROM
