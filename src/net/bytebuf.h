/* A bytearray as the buffer of a stream: bytes come at one end and go at the other.

   The same as extend() and `del b[:n]`, but small memory is kept when everything has gone, which those give back each
   time.  The object stays a bytearray like any other, for whoever looks at it. */
#ifndef AF_NET_BYTEBUF_H
#define AF_NET_BYTEBUF_H

#include "rt/compat.h"

/* An empty buffer keeps this much: a message of 10 KiB, and not too much for thousands of idle connections. */
#define AF_BYTEBUF_KEEP ((Py_ssize_t)12 * 1024)

/* 0, or -1 with BufferError or MemoryError and nothing changed. */
static inline int
af_bytebuf_append(PyObject *buffer, const char *data, Py_ssize_t n)
{
    PyByteArrayObject *b = (PyByteArrayObject *)buffer;
    Py_ssize_t size = Py_SIZE(b), gone = b->ob_start - b->ob_bytes;
    if (b->ob_exports == 0 && n < b->ob_alloc - size) {         /* there is room for it and a NUL, if not at the end */
        if (n >= b->ob_alloc - size - gone && size <= gone) {   /* ... at the cost of moving no more than has gone */
            memcpy(b->ob_bytes, b->ob_start, (size_t)size);
            b->ob_start = b->ob_bytes;
            gone = 0;
        }
        if (n < b->ob_alloc - size - gone) {
            memcpy(b->ob_start + size, data, (size_t)n);
            b->ob_start[size + n] = 0;
            Py_SET_SIZE((PyVarObject *)b, size + n);
            return 0;
        }
    }
    if (n > PY_SSIZE_T_MAX - size) {
        PyErr_NoMemory();
        return -1;
    }
    if (PyByteArray_Resize(buffer, size + n) < 0) {
        return -1;
    }
    memcpy(PyByteArray_AS_STRING(buffer) + size, data, (size_t)n);
    return 0;
}

/* The first n bytes, of those that are there, go: 0, or -1 with BufferError and nothing changed. */
static inline int
af_bytebuf_drop(PyObject *buffer, Py_ssize_t n)
{
    PyByteArrayObject *b = (PyByteArrayObject *)buffer;
    Py_ssize_t rest = Py_SIZE(b) - n;
    if (n == 0) {
        return 0;
    }
    if (b->ob_exports > 0) {
        PyErr_SetString(PyExc_BufferError, "Existing exports of data: object cannot be re-sized");
        return -1;
    }
    b->ob_start += n;           /* a resize that finds it at the start would shrink large memory to a splinter */
    if (b->ob_alloc > AF_BYTEBUF_KEEP && rest < b->ob_alloc / 4) {
        if (PyByteArray_Resize(buffer, rest) == 0) {    /* the size is still the old one: it would do nothing otherwise */
            return 0;
        }
        PyErr_Clear();
    }
    if (rest == 0) {
        b->ob_start = b->ob_bytes;
    }
    b->ob_start[rest] = 0;
    Py_SET_SIZE((PyVarObject *)b, rest);
    return 0;
}

#endif
