/* A protocol in C: what a transport receives goes to it without a Python object in between.

   All else that a protocol is told (connection_made() and so on) is a method call like any other: it is rare. */
#ifndef AF_NET_SINK_H
#define AF_NET_SINK_H

#include "rt/state.h"

typedef struct AfSink {
    PyObject_HEAD
    /* Takes all of it: 0; or -1, with what asyncio's buffer_updated() would raise.  Runs Python.  Nothing of data is
       looked at once it has returned. */
    int (*received)(struct AfSink *sink, const char *data, size_t size);
} AfSink;

/* The protocol as a sink, or NULL: a subclass may have methods of its own. */
static inline AfSink *
af_sink_of(AfState *st, PyObject *protocol)
{
    return st->SinkType != NULL && Py_IS_TYPE(protocol, st->SinkType) ? (AfSink *)protocol : NULL;
}

#endif
