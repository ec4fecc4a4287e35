/* DatagramTransport: UDP and Unix datagram sockets. */
#ifndef AF_NET_DATAGRAM_H
#define AF_NET_DATAGRAM_H

#include "net/transport.h"

AF_API int af_datagram_setup(PyObject *module, AfState *st);

#endif
