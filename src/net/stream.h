/* SocketTransport: TCP and Unix stream sockets. */
#ifndef AF_NET_STREAM_H
#define AF_NET_STREAM_H

#include "net/transport.h"

/* A transport of a connection that was accepted, which owns fd from here on; it has yet to be started (af_transport_init).
   NULL: fd is closed. */
AF_API AfTransport *af_stream_of_fd(AfState *st, int fd, int family, int proto);

/* write() of a transport whose type is exactly SocketTransport: None or NULL. */
AF_API PyObject *af_stream_write(PyObject *transport, PyObject *data);

AF_API int af_stream_setup(PyObject *module, AfState *st);

#endif
