/* What is written: bytes, or something else that the caller may change as soon as write() has returned. */
#ifndef AF_NET_DATA_H
#define AF_NET_DATA_H

#include "rt/compat.h"

/* 0 or -1; *view is to be released. */
static inline int
af_data_view(PyObject *data, Py_buffer *view)
{
    if (PyBytes_CheckExact(data)) {
        view->buf = PyBytes_AS_STRING(data);
        view->len = PyBytes_GET_SIZE(data);
        view->obj = NULL;
        return 0;
    }
    return PyObject_GetBuffer(data, view, PyBUF_SIMPLE);
}

static inline void
af_data_release(Py_buffer *view)
{
    if (view->obj != NULL) {
        PyBuffer_Release(view);
    }
}

/* A bytes object that nobody can change any more: a new reference to data itself, or a copy of it from start on. */
static inline PyObject *
af_data_snapshot(PyObject *data, const Py_buffer *view, size_t start)
{
    if (PyBytes_CheckExact(data)) {
        return Py_NewRef(data);
    }
    return PyBytes_FromStringAndSize((const char *)view->buf + start, view->len - (Py_ssize_t)start);
}

#endif
