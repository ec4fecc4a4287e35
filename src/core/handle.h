/* Handle, TimerHandle: what call_soon() and call_later() return. */
#ifndef AF_CORE_HANDLE_H
#define AF_CORE_HANDLE_H

#include "core/loop.h"

#define AF_HANDLE_INLINE 2

/* TimerHandle (and 3.14's handle of call_soon_threadsafe) begin with it: one traverse serves all. */
typedef struct {
    PyObject_HEAD
    PyObject *loop;             /* an AfLoop */
    PyObject *callback;         /* NULL once cancelled */
    PyObject *context;
    PyObject *args[AF_HANDLE_INLINE];   /* nargs of them; or one tuple when nargs < 0 */
    signed char nargs;
    signed char cancelled;      /* -1: being cancelled, the callback still shows */
    char started;               /* running now */
    char shared;                /* whose context is: AF_CONTEXT_..., see context.h */
    char tracked;               /* by the collector */
    char whole;                 /* TimerHandle: its deadline was given as an int, and is one to whoever asks */
    PyObject *debug;            /* debug mode: source traceback, then repr when cancelled; mostly NULL */
    PyObject *weakrefs;
} AfHandle;

typedef struct AfTimerHandle {
    AfHandle handle;
    af_timer timer;
    double when;                /* seconds of loop.time() */
} AfTimerHandle;

AF_API int af_handle_setup(PyObject *module, AfState *st);

/* args[0] is the callback, the rest its arguments; context NULL or None: a copy of the current one. */
AF_API AfHandle *af_handle_new(AfLoop *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *context);
AF_API AfHandle *af_handle_new_threadsafe(AfLoop *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *context);
AF_API AfTimerHandle *af_timer_handle_new(AfLoop *loop, double when, PyObject *const *args, Py_ssize_t nargs,
                                          PyObject *context);

/* The handle has just been armed: the one before it needs the collector no longer if nobody but the timers holds it. */
AF_API void af_timer_handle_settle(AfLoop *loop, AfTimerHandle *h);

/* Run it.  0: done, errors went to the loop's exception handler; -1: SystemExit, KeyboardInterrupt, or worse. */
AF_API int af_handle_run(AfHandle *h);
AF_API int af_handle_run_inside(AfHandle *h);   /* by whoever is no turn of the loop, or is inside one */
AF_API int af_handle_run_threadsafe(AfHandle *h);
AF_API void af_handle_outlives(AfHandle *h);    /* the collector has to know: it has run, and somebody holds it; or it stays */

/* For the traverse of what holds a handle: the handle, or what it refers to if the collector does not know it. */
AF_API int af_handle_visit(AfHandle *h, visitproc visit, void *arg);

/* The timer fired: the handle's own reference, which the timer held, passes to the caller. */
static inline AfHandle *
af_handle_of_timer(af_timer *t)
{
    return &af_container_of(t, AfTimerHandle, timer)->handle;
}

#endif
