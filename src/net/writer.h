/* StreamWriter: a transport, with an awaitable in place of its flow control's callbacks. */
#ifndef AF_NET_WRITER_H
#define AF_NET_WRITER_H

#include "core/coro.h"

AF_API int af_writer_setup(PyObject *module, AfState *st);
AF_API int af_writer_add_hot(PyTypeObject *type);              /* as af_reader_add_hot() */

#endif
