/* See heap.h.  Not thread-safe: a heap belongs to its loop's thread. */
#include "base/heap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HEAP_ARITY 4        /* 96 bytes of children: two cache lines a level, half the levels of a binary heap */
#define HEAP_SORT_FROM 64
#define HEAP_DIGIT 11

static inline int
heap_before(const af_heap_slot *a, const af_heap_slot *b)
{
    return a->when != b->when ? a->when < b->when : a->seq < b->seq;
}

static inline void
heap_place(af_heap *h, size_t i, af_heap_slot slot)
{
    h->heap[i] = slot;
    slot.timer->pos = (int32_t)i + 1;
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
    if (want > INT32_MAX) {
        return -ENOMEM;         /* positions are 32 bits wide */
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
    t->pos = -(int32_t)h->nstaged;
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
        size_t i = (size_t)(-(int64_t)t->pos - 1);
        af_heap_slot last = h->staged[--h->nstaged];
        if (i < h->nstaged) {
            h->staged[i] = last;        /* order does not matter here: seq keeps it */
            last.timer->pos = -(int32_t)i - 1;
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

/* By deadline, keeping the order of equal ones, which is the order of arming: radix sort, HEAP_DIGIT bits at a time.
   0 or -ENOMEM. */
static int
heap_sort_stable(af_heap_slot *slots, size_t n, uint64_t first, uint64_t last)
{
    af_heap_slot *other = malloc(n * sizeof(*other)), *from = slots, *to = other;
    if (other == NULL) {
        return -ENOMEM;
    }
    for (unsigned shift = 0; shift < 64 && (last - first) >> shift != 0; shift += HEAP_DIGIT) {
        size_t start[1 << HEAP_DIGIT] = {0}, sum = 0;
        for (size_t i = 0; i < n; i++) {
            start[(((uint64_t)from[i].when - first) >> shift) & ((1 << HEAP_DIGIT) - 1)]++;
        }
        for (size_t d = 0; d < 1 << HEAP_DIGIT; d++) {
            size_t count = start[d];
            start[d] = sum;
            sum += count;
        }
        for (size_t i = 0; i < n; i++) {
            to[start[(((uint64_t)from[i].when - first) >> shift) & ((1 << HEAP_DIGIT) - 1)]++] = from[i];
        }
        af_heap_slot *swap = from;
        from = to;
        to = swap;
    }
    if (from != slots) {
        memcpy(slots, from, n * sizeof(*slots));
    }
    free(other);
    return 0;
}

AF_API int
af_heap_is_due(const af_heap *h, int64_t now)
{
    if (h->nheap > 0 && h->heap[0].when <= now) {
        return 1;
    }
    for (size_t i = 0; i < h->nstaged; i++) {
        if (h->staged[i].when <= now) {
            return 1;
        }
    }
    return 0;
}

/* Many timers were armed since the last turn, nothing else is pending, and most of them are due: they need no heap,
   only sorting, and often not even that (bench: timer_fire). */
AF_API const af_heap_slot *
af_heap_take_due(af_heap *h, int64_t now, size_t *n)
{
    if (h->nheap > 0 || h->nstaged < HEAP_SORT_FROM) {
        return NULL;
    }
    int sorted = 1;
    int64_t first = INT64_MAX, last = INT64_MIN;
    size_t due = 0;
    for (size_t i = 0; i < h->nstaged; i++) {
        if (i > 0 && h->staged[i].seq < h->staged[i - 1].seq) {
            return NULL;        /* disarming has moved them about: the heap knows what to do */
        }
        int64_t when = h->staged[i].when;
        if (when <= now) {
            due++;
            sorted &= when >= last;
            first = when < first ? when : first;
            last = when > last ? when : last;
        }
    }
    if (due < h->nstaged / 2) {
        return NULL;
    }
    /* the heap is empty, and its array has room for them all */
    size_t rest = 0;
    due = 0;
    for (size_t i = 0; i < h->nstaged; i++) {
        if (h->staged[i].when <= now) {
            h->heap[due++] = h->staged[i];
        }
        else {
            h->staged[rest++] = h->staged[i];
            h->staged[rest - 1].timer->pos = -(int32_t)rest;
        }
    }
    h->nstaged = rest;
    if (!sorted && heap_sort_stable(h->heap, due, (uint64_t)first, (uint64_t)last) < 0) {
        for (; h->nheap < due; h->nheap++) {        /* no memory to sort in: a heap, then */
            heap_sift_up(h, h->nheap, h->heap[h->nheap]);
        }
        return NULL;
    }
    *n = due;
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
#undef HEAP_DIGIT
