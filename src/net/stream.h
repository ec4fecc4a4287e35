/* SocketTransport: TCP and Unix stream sockets. */
#ifndef AF_NET_STREAM_H
#define AF_NET_STREAM_H

#include "net/transport.h"

/* A transport of a connection that was accepted, which owns fd from here on; it has yet to be started (af_transport_init).
   NULL: fd is closed. */
AF_API AfTransport *af_stream_of_fd(AfState *st, int fd, int family, int proto);

/* write() of a transport whose type is exactly SocketTransport: None or NULL. */
AF_API PyObject *af_stream_write(PyObject *transport, PyObject *data);

/* Kernel TLS (tls/ktls.c), of such a transport: its fd if nothing waits to be sent, else -1; no Python.  And a record that is
   not data, to be sent after all that was written; type: an int.  0 or -1. */
#define AF_SOL_TLS 282          /* linux/tls.h */
AF_API int af_stream_idle_fd(PyObject *transport);
AF_API int af_stream_write_record_steal(PyObject *transport, PyObject *type, PyObject *bytes);

AF_API int af_stream_setup(PyObject *module, AfState *st);

#endif
