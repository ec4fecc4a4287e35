/* Coroutine methods in C: what reader.read() and alike return. */
#ifndef AF_NET_CORO_H
#define AF_NET_CORO_H

#include "core/future.h"

typedef struct AfCoro AfCoro;

/* A method, whose frame an AfCoro is. */
typedef struct {
    const char *name, *qualname;
    /* Go on: PYGEN_RETURN with the result, PYGEN_ERROR, or what af_coro_wait() or af_coro_delegate() gave. */
    PySendResult (*step)(AfCoro *c, PyObject **result);
    /* It raised, or an exception was thrown in: 1 if that makes a result, else 0 with the exception set.  Or NULL. */
    int (*caught)(AfCoro *c, PyObject **result);
    void (*stopped)(AfCoro *c);         /* it waits for c->waiter no longer; or NULL */
} af_coro_kind;

struct AfCoro {
    PyObject_HEAD
    AfState *st;
    const af_coro_kind *kind;
    PyObject *self;             /* whose method it is; NULL at the end */
    PyObject *waiter;           /* the future that it waits for, or NULL */
    PyObject *inner;            /* what is driven in its stead: the iterator of waiter, if that is not ours, or a coroutine */
    char stage, delegated;      /* delegated: inner's result is its result */

    /* the method's variables */
    char waited;
    PyObject *arg;              /* or NULL */
    Py_ssize_t n, offset;
};

AF_API int af_coro_setup(PyObject *module, AfState *st);
AF_API AfCoro *af_coro_new(AfState *st, const af_coro_kind *kind, PyObject *self);
AF_API PySendResult af_coro_wait(AfCoro *c, PyObject *future, PyObject **result);          /* await future */
AF_API PySendResult af_coro_delegate_steal(AfCoro *c, PyObject *coro, PyObject **result);  /* return await coro */

#endif
