/* Arguments of vectorcall methods without building tuples or dicts. */
#ifndef AF_RT_ARGS_H
#define AF_RT_ARGS_H

#include "rt/state.h"

/* The only keyword most methods take.  *value is borrowed, NULL if not given. 0, or -1 with TypeError. */
static inline int
af_args_only_kw(const char *func, PyObject *name, PyObject *const *kwvalues, PyObject *kwnames, PyObject **value)
{
    *value = NULL;
    Py_ssize_t n = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *key = PyTuple_GET_ITEM(kwnames, i);
        if (key != name && PyUnicode_Compare(key, name) != 0) {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", func, key);
            return -1;
        }
        *value = kwvalues[i];
    }
    return 0;
}

/* The one argument of a method, by its place or by its name.  *value is borrowed. 0, or -1 with TypeError. */
static inline int
af_args_one(const char *func, const char *name, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, PyObject **value)
{
    Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    if (af_likely(nargs + nkw == 1)) {
        *value = args[0];       /* a keyword's value follows */
        if (nkw == 0 || PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, 0), name) == 0) {
            return 0;
        }
        PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", func, PyTuple_GET_ITEM(kwnames, 0));
        return -1;
    }
    PyErr_Format(PyExc_TypeError, "%s() takes exactly one argument (%zd given)", func, nargs + nkw);
    return -1;
}

/* method_args(), for the table of methods: method(self, value), called with the argument's place or its name. */
#define AF_METHOD_OF_ONE(Type, method, func, name)                                                                     \
    static PyObject *method##_args(Type *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)             \
    {                                                                                                                  \
        PyObject *value;                                                                                               \
        return af_args_one(func, name, args, nargs, kwnames, &value) < 0 ? NULL : method(self, value);                 \
    }

/* cancel(msg=None), of futures and tasks: msg is borrowed, NULL if not given. */
static inline int
af_args_cancel_msg(AfState *st, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, PyObject **msg)
{
    if (af_args_only_kw("cancel", st->str_msg, args + nargs, kwnames, msg) < 0) {
        return -1;
    }
    if (nargs > 1 || (nargs == 1 && *msg != NULL)) {
        PyErr_Format(PyExc_TypeError, "cancel() takes at most 1 argument (%zd given)", nargs + (*msg != NULL));
        return -1;
    }
    if (nargs == 1) {
        *msg = args[0];
    }
    return 0;
}

#endif
