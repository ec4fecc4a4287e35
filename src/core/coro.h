/* Coroutine methods in C: what reader.read() and alike return. */
#ifndef AF_CORE_CORO_H
#define AF_CORE_CORO_H

#include "core/park.h"

typedef struct AfCoro AfCoro;

/* A method, whose frame an AfCoro is. */
typedef struct {
    const char *name, *qualname;
    /* Go on: PYGEN_RETURN with the result, PYGEN_ERROR, or what one of the three below gave. */
    PySendResult (*step)(AfCoro *c, PyObject **result);
    /* It raised, or an exception was thrown in: 1 if that makes a result, else 0 with the exception set.  Or NULL. */
    int (*caught)(AfCoro *c, PyObject **result);
    void (*stopped)(AfCoro *c);         /* it waits for c->future no longer; or NULL */
} af_coro_kind;

struct AfCoro {
    AF_PARK_HEAD;
    const af_coro_kind *kind;
    PyObject *self;             /* whose method it is; NULL at the end */
    PyObject *future;           /* that it waits for, or NULL */
    PyObject *inner;            /* what is driven in its stead: the iterator of future, if that is not ours, or a coroutine */
    PyObject *error;            /* to be raised when it goes on after it was parked, or NULL */
    char stage, delegated;      /* delegated: inner's result is its result */

    /* the method's variables */
    char waited;
    PyObject *arg;              /* or NULL */
    Py_ssize_t n, offset;
};

AF_API int af_coro_setup(PyObject *module, AfState *st);
AF_API AfCoro *af_coro_new(AfState *st, const af_coro_kind *kind, PyObject *self);

/* Wait until af_park_wake(); forget as in AfPark. */
AF_API PySendResult af_coro_park(AfCoro *c, AfLoop *loop, void (*forget)(AfPark *), PyObject **result);
AF_API PySendResult af_coro_wait(AfCoro *c, PyObject *future, PyObject **result);          /* await future */
AF_API PySendResult af_coro_delegate_steal(AfCoro *c, PyObject *coro, PyObject **result);  /* return await coro */

#endif
