/* Task: a coroutine driven by the loop. */
#ifndef AF_CORE_TASK_H
#define AF_CORE_TASK_H

#include "core/future.h"

typedef struct AfTask {
    AF_FUTURE_HEAD;
    PyObject *coro;
    PyObject *context;
    PyObject *waiter;           /* what it waits for: a future, a park; NULL while scheduled or running */
    uintptr_t name;             /* a PyObject *, or (number << 1 | 1) until somebody asks */
    af_link link;               /* in AfLoop.tasks while not done */
    int num_cancels;
} AfTask;

AF_API int af_task_setup(PyObject *module, AfState *st);
AF_API PyObject *af_task_new(AfLoop *loop, PyObject *coro, PyObject *name, PyObject *context, int eager);

/* Step it: the loop's thread, from the ready ring.  0, or -1 when KeyboardInterrupt or SystemExit leaves the loop. */
AF_API int af_task_step(AfTask *t);

/* Put it on the ready ring of its loop (any loop). */
AF_API int af_task_schedule(AfTask *t);
AF_API int af_task_schedule_threadsafe(AfTask *t);     /* as call_soon_threadsafe() would */
AF_API PyObject *af_task_wakeup_callable(AfTask *t);

/* A loop that closes or dies lets its tasks go; they then report, as asyncio's do, if nobody else holds them. */
AF_API void af_task_disown_all(AfLoop *loop);
AF_API int af_task_is_exact(PyObject *o);

/* Its context, borrowed: its own from now on, whatever it shared. NULL with an error. */
AF_API PyObject *af_task_own_context(AfTask *t);

#endif
