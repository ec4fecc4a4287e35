/* sock_recv(), sock_recv_into(), sock_sendall(): awaitables that are their own coroutine. */
#ifndef AF_NET_SOCKOP_H
#define AF_NET_SOCKOP_H

#include "core/watch.h"

AF_API int af_sockop_setup(PyObject *module, AfState *st);

#endif
