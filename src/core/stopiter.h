/* How the awaitables in C return: StopIteration, which the interpreter takes the value out of at once. */
#ifndef AF_CORE_STOPITER_H
#define AF_CORE_STOPITER_H

#include "rt/state.h"

AF_API int af_stopiter_setup(PyObject *module, AfState *st);
AF_API void af_set_stop_iteration(PyObject *value);            /* a plain one */
AF_API void af_return_steal(AfState *st, PyObject *value);     /* one that costs little; takes the reference */

/* What send() gives, if am_send gave that. */
static inline PyObject *
af_sent(PySendResult how, PyObject *result)
{
    if (how == PYGEN_RETURN) {
        af_set_stop_iteration(result);
        Py_CLEAR(result);
    }
    return how == PYGEN_ERROR ? NULL : result;
}

/* What tp_iternext gives, if am_send gave that: None needs no StopIteration. */
static inline PyObject *
af_next(AfState *st, PySendResult how, PyObject *result)
{
    if (how == PYGEN_NEXT) {
        return result;
    }
    if (how == PYGEN_RETURN) {
        if (result == Py_None) {
            Py_DECREF(result);
        }
        else {
            af_return_steal(st, result);
        }
    }
    return NULL;
}

#endif
