/* ReadPipeTransport, WritePipeTransport: pipes, FIFOs, sockets and character devices, each in one direction. */
#ifndef AF_NET_PIPE_H
#define AF_NET_PIPE_H

#include "net/transport.h"

AF_API int af_pipe_setup(PyObject *module, AfState *st);

#endif
