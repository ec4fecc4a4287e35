/* StreamReaderProtocol: between a transport and a StreamReader. */
#ifndef AF_NET_FLOW_H
#define AF_NET_FLOW_H

#include "net/reader.h"

typedef struct {
    PyObject_HEAD
    AfState *st;
    PyObject *reader_ref;       /* a weak reference to the reader; NULL or None: it has none */
    char paused, connection_lost;
} AfFlow;

AF_API int af_flow_setup(PyObject *module, AfState *st);

/* Would _drain_helper() of a protocol that is exactly asyncfast.StreamReaderProtocol return at once? */
static inline int
af_flow_is_free(AfState *st, PyObject *protocol)
{
    AfFlow *f = (AfFlow *)protocol;
    return (PyObject *)Py_TYPE(protocol) == st->PyFlowType && !f->paused && !f->connection_lost;
}

#endif
