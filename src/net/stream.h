/* SocketTransport: TCP and Unix stream sockets. */
#ifndef AF_NET_STREAM_H
#define AF_NET_STREAM_H

#include "net/transport.h"

AF_API int af_stream_setup(PyObject *module, AfState *st);

#endif
