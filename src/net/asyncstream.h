/* asyncio's own StreamReader and StreamWriter, worked on from C. */
#ifndef AF_NET_ASYNCSTREAM_H
#define AF_NET_ASYNCSTREAM_H

#include "net/reader.h"

/* The instance attributes of an asyncio.StreamReader, borrowed from its dict, in the order of its __init__(). */
typedef struct {
    PyObject *limit, *loop, *buffer, *eof, *waiter, *exception, *transport, *paused;
} af_reader_fields;

/* asyncfast/_streams.py: a tuple for each AF_ASYNCIO_..., the class and what it runs: a function, its code, and so on.
   The first two classes get their methods.  0 or -1. */
AF_API int af_asyncstream_register(AfState *st, PyObject *classes);

/* Is everything that instances of that class run as it was on import?  May run Python, once after each change. */
AF_API int af_asyncio_is_unchanged(AfState *st, int which);

/* The reader has our class (from now on, if it was a plain one), and is in every way as asyncio left it: a reference to its
   dict; NULL without an exception: Python has to do it. */
AF_API PyObject *af_asyncstream_reader(AfState *st, PyObject *reader, af_reader_fields *fields);

/* Somebody writes to the transport for the first time: if that is an asyncio.StreamWriter, it gets our class. */
AF_API void af_asyncstream_find_writer(AfState *st, PyObject *transport);

/* Is it the protocol of asyncio's streams? */
static inline char
af_feeds_asyncio(AfState *st, PyObject *protocol)
{
    return (PyObject *)Py_TYPE(protocol) == st->asyncio_StreamReaderProtocol;
}

/* An instance's dict, a new reference; NULL without an exception if it has none of its own kind. */
static inline PyObject *
af_instance_dict(PyObject *obj)
{
    PyObject *dict = PyObject_GenericGetDict(obj, NULL);
    if (dict == NULL) {
        PyErr_Clear();
    }
    return dict;
}

/* Borrowed, NULL: not there. */
static inline PyObject *
af_dict_get(PyObject *dict, PyObject *name)
{
    PyObject *value = PyDict_GetItemWithError(dict, name);
    if (af_unlikely(value == NULL) && PyErr_Occurred()) {
        PyErr_Clear();
    }
    return value;
}

#endif
