/* What is written: bytes, or something else that the caller may change as soon as write() has returned; and where
   what is received goes. */
#ifndef AF_NET_DATA_H
#define AF_NET_DATA_H

#include "rt/compat.h"

typedef struct {
    PyObject *obj;              /* owned: what was given, or a copy of it, if that is not contiguous */
    Py_buffer view;             /* its bytes, in their order */
} af_data;

static inline int
af_data_is_writable(PyObject *obj)
{
    return PyBytes_Check(obj) || PyByteArray_Check(obj) || PyMemoryView_Check(obj);
}

static inline int
af_data_view(af_data *d)
{
    if (PyBytes_CheckExact(d->obj)) {
        d->view.buf = PyBytes_AS_STRING(d->obj);
        d->view.len = PyBytes_GET_SIZE(d->obj);
        d->view.obj = NULL;
        return 0;
    }
    return PyObject_GetBuffer(d->obj, &d->view, PyBUF_SIMPLE);
}

/* 0, and d is to be closed; or -1. */
static inline int
af_data_open(af_data *d, PyObject *obj)
{
    d->obj = Py_NewRef(obj);
    if (af_data_view(d) == 0) {
        return 0;
    }
    PyErr_Clear();
    Py_SETREF(d->obj, PyBytes_FromObject(obj));
    if (d->obj != NULL && af_data_view(d) == 0) {
        return 0;
    }
    Py_CLEAR(d->obj);
    return -1;
}

static inline void
af_data_close(af_data *d)
{
    if (d->view.obj != NULL) {
        PyBuffer_Release(&d->view);
    }
    Py_CLEAR(d->obj);
}

/* A bytes object that nobody can change any more: a new reference to what was given itself, or a copy from start on. */
static inline PyObject *
af_data_snapshot(const af_data *d, size_t start)
{
    if (PyBytes_CheckExact(d->obj)) {
        return Py_NewRef(d->obj);
    }
    return PyBytes_FromStringAndSize((const char *)d->view.buf + start, d->view.len - (Py_ssize_t)start);
}

/* A buffer to receive into, with the errors of socket.recv_into(), or of SSLObject.read(): 0, and *view is to be released; or
   -1. */
static inline int
af_data_room(PyObject *buffer, Py_buffer *view, int tls)
{
    if (PyObject_GetBuffer(buffer, view, PyBUF_WRITABLE) == 0) {
        return 0;
    }
    PyErr_Clear();
    PyObject *size = Py_None, *args = tls ? PyTuple_Pack(2, size, buffer) : PyTuple_Pack(1, buffer);
    int good = args != NULL && (tls ? PyArg_ParseTuple(args, "Ow*:read", &size, view)
                                    : PyArg_ParseTuple(args, "w*:recv_into", view));
    Py_XDECREF(args);
    return good ? 0 : -1;
}

#endif
