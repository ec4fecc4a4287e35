/* Timers by (deadline, order of arming): a 4-ary heap behind a staging area.

   A timer armed now is only noted in the staging area; the heap takes it in when the next deadline is asked for, which
   the loop does once a turn.  A timer that is disarmed before that (most timeouts around something that was ready)
   never pays for its place in the order, however many others are pending.

   Keys live in the arrays, beside the pointer, so that sifting reads no timer; each timer knows its position, so that
   disarming frees the slot at once. */
#ifndef AF_BASE_HEAP_H
#define AF_BASE_HEAP_H

#include "base/af.h"

typedef struct {
    int32_t pos;            /* 0: not armed; n > 0: heap[n - 1]; n < 0: staged[-n - 1] */
    int32_t kind;           /* the owner's: the heap does not look at it */
} af_timer;

typedef struct {
    int64_t when;           /* the deadline, as a number that orders like it: the owner's scale */
    uint64_t seq;           /* order of arming: breaks ties */
    af_timer *timer;
} af_heap_slot;

typedef struct {
    af_heap_slot *heap, *staged;
    size_t nheap, nstaged;
    size_t cap_heap, cap_staged;
    uint64_t seq;
} af_heap;

AF_API void af_heap_init(af_heap *h);
AF_API void af_heap_fini(af_heap *h);
AF_API int af_heap_arm(af_heap *h, af_timer *t, int64_t when);     /* 0 or -ENOMEM */
AF_API void af_heap_disarm(af_heap *h, af_timer *t);               /* no-op when not armed */
AF_API af_timer *af_heap_pop_due(af_heap *h, int64_t now);         /* the first with when <= now, disarmed, or NULL */

/* Is one due?  Brings no order into those that are staged. */
AF_API int af_heap_is_due(const af_heap *h, int64_t now);

/* Many timers, none of them older than a turn, and most of them due: those *n in order, out of the heap but not disarmed
   (set each one's pos to 0); valid until another call.  Otherwise NULL.  Ask af_heap_pop_due() for the rest, or all. */
AF_API const af_heap_slot *af_heap_take_due(af_heap *h, int64_t now, size_t *n);
AF_API af_timer *af_heap_any(const af_heap *h);                    /* one armed timer or NULL: for emptying */
#ifdef AF_DEBUG
AF_API int af_heap_check(const af_heap *h);                        /* 1 if every invariant holds */
#endif

/* Deadline of the first timer; ask only when one is armed. */
AF_API int64_t af_heap_next(af_heap *h);

static inline size_t
af_heap_len(const af_heap *h)
{
    return h->nheap + h->nstaged;
}

static inline int
af_timer_armed(const af_timer *t)
{
    return t->pos != 0;
}

#endif
