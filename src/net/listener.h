/* Listener: a listening socket whose connections become SocketTransports. */
#ifndef AF_NET_LISTENER_H
#define AF_NET_LISTENER_H

#include "net/transport.h"

AF_API int af_listener_setup(PyObject *module, AfState *st);

#endif
