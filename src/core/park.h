/* Park: what a task of ours waits on without a Future.  The awaitable, its own iterator and what it yields are one
   object, whose type has ParkType as its base, begins with AF_PARK_HEAD, and says by am_send how it goes on. */
#ifndef AF_CORE_PARK_H
#define AF_CORE_PARK_H

#include "core/task.h"

typedef struct AfPark {
    PyObject_HEAD
    AfState *st;
    void (*forget)(struct AfPark *);    /* the owner's: nothing is to wake it any more */
    PyObject *loop;             /* that it waits, or has waited, on */
    PyObject *waiter;           /* an AfTask of that loop; or, with a context, a callback as of add_done_callback() */
    PyObject *context;
    PyObject *cancel_msg;
    char waiting;               /* begun, and nothing has woken it */
    char begun;                 /* it has been yielded: it is a future to whoever drives the coroutine */
    char held;                  /* whatever is to wake it holds a reference: somebody waits */
    char cancelled;
} AfPark;

#define AF_PARK_HEAD AfPark park

AF_API int af_park_setup(PyObject *module, AfState *st);

/* Types of parks are final, so that their base says what they are. */
static inline int
af_park_is(AfState *st, PyObject *o)
{
    return Py_TYPE(o)->tp_base == st->ParkType;
}

/* The loop that runs in this thread: a new reference; or NULL, with RuntimeError if there is none. */
AF_API PyObject *af_park_running_loop(AfState *st);

/* About to be yielded: it waits on this loop (stolen) until it is woken. */
AF_API void af_park_begin_steal(AfPark *p, PyObject *loop);

/* The task has taken the yielded park over: it is stepped when the park is woken. */
AF_API void af_park_attach(AfPark *p, AfTask *task);

/* Whoever waits goes on, through its loop.  from_any_thread: as call_soon_threadsafe() does.  0 or -1. */
AF_API int af_park_wake(AfPark *p, int from_any_thread);

/* The same, and if it is a task of that loop it goes on as soon as the callback that the loop runs now has returned, before
   whatever is ready already. */
AF_API int af_park_wake_next(AfPark *p);

/* Nobody is woken, and nothing will wake it. */
AF_API void af_park_forget(AfPark *p);

AF_API int af_park_raise(const AfPark *p);      /* -1 */

/* Whoever waited goes on: 0; or -1, with CancelledError if it was cancelled, RuntimeError if nothing has woken it. */
static inline int
af_park_outcome(const AfPark *p)
{
    return af_likely(!p->waiting && !p->cancelled) ? 0 : af_park_raise(p);
}

/* `await` of it, as of a coroutine: while it waits for somebody nobody else can, or both would be lost. */
static inline PyObject *
af_park_await(AfPark *p, int suspended)
{
    if (af_unlikely(suspended)) {
        PyErr_SetString(PyExc_RuntimeError, "coroutine is being awaited already");
        return NULL;
    }
    return Py_NewRef((PyObject *)p);
}

/* The waiter goes on, with CancelledError.  1; 0: it had been woken already; -1. */
AF_API int af_park_cancel(AfPark *p);

AF_API int af_park_traverse(AfPark *p, visitproc visit, void *arg);
AF_API void af_park_clear(AfPark *p);           /* all but the loop */

#endif
