/* Future: a result that is not there yet, and who waits for it. */
#ifndef AF_CORE_FUTURE_H
#define AF_CORE_FUTURE_H

#include "core/futbase.h"
#include "core/loop.h"
#include "core/stopiter.h"

enum { AF_PENDING = 0, AF_CANCELLED = 1, AF_FINISHED = 2 };

struct AfTask;

typedef struct AfFuture {
    AfFutBase base;             /* asyncio's part */
    AfState *st;
    PyObject *loop;             /* NULL until __init__ */
    PyObject *value;            /* finished: the result, or the exception (failed) ; pending task: to be thrown next */
    PyObject *cb0;              /* the first callback; or, with waiter0, the AfTask that waits */
    PyObject *ctx0;
    PyObject *callbacks;        /* the others: list of (callback, context) */
    PyObject *exc_tb;           /* traceback the exception had when it was set */
    PyObject *source_tb;
    PyObject *cancel_msg;
    PyObject *cancelled_exc;
    unsigned char state;
    unsigned char failed;       /* value is an exception */
    unsigned char log_tb;
    unsigned char blocking;
    unsigned char waiter0;

    /* a task's, here to share the word */
    unsigned char must_cancel;
    unsigned char log_destroy;
    unsigned char owned;        /* the registry holds a reference: scheduled or waiting on one of our loops */
    char shared_context;        /* whose context is: AF_CONTEXT_..., see context.h */
} AfFuture;

#define AF_FUTURE_HEAD AfFuture fut

AF_API int af_future_setup(PyObject *module, AfState *st);
AF_API PyObject *af_future_new(AfLoop *loop);
AF_API int af_future_init(AfFuture *f, AfState *st, PyObject *loop);
AF_API int af_future_set_result(AfFuture *f, PyObject *value);
AF_API int af_future_set_exception(AfFuture *f, PyObject *exc);
/* What asyncio makes of an exception class, a StopIteration, a thing that is no exception: a new reference, or NULL. */
AF_API PyObject *af_future_checked_exception(AfState *st, PyObject *exc);
AF_API int af_future_cancel(AfFuture *f, PyObject *msg);           /* 1, 0, -1 */
AF_API PyObject *af_future_make_cancelled_error(AfFuture *f);
AF_API int af_future_add_callback(AfFuture *f, PyObject *cb, PyObject *ctx);

/* The task waits for f: it is stepped when f is done. 0 or -1. */
AF_API int af_future_add_waiter(AfFuture *f, struct AfTask *task);

/* 1: *out is the exception to raise, 0: the result (new references); -1: not done, or worse. */
AF_API int af_future_outcome(AfFuture *f, PyObject **out);

AF_API int af_future_traverse(AfFuture *f, visitproc visit, void *arg);
AF_API void af_future_clear_fields(AfFuture *f);                   /* its own */
AF_API void af_future_clear_base(AfFuture *f);                     /* asyncio's part, and the instance dict */
AF_API void af_future_report_unretrieved(AfFuture *f);
AF_API int af_future_is_exact(PyObject *o);

/* What the C iterators of awaitables share; and see stopiter.h. */
AF_API void af_never_awaited(PyObject *coroutine);      /* the RuntimeWarning; keeps the exception that is being raised */
AF_API PyObject *af_awaited_again(void);                /* always NULL, with RuntimeError */
AF_API PyObject *af_raise_thrown(PyObject *const *args, Py_ssize_t nargs);      /* always NULL, with the exception set */

static inline int
af_future_alive(AfFuture *f)
{
    if (af_unlikely(f->loop == NULL)) {
        PyErr_SetString(PyExc_RuntimeError, "Future object is not initialized.");
        return 0;
    }
    return 1;
}

#endif
