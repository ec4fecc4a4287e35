/* StreamWriter: a transport, with an awaitable in place of its flow control's callbacks. */
#ifndef AF_NET_WRITER_H
#define AF_NET_WRITER_H

#include "core/coro.h"

AF_API int af_writer_setup(PyObject *module, AfState *st);
AF_API int af_writer_add_hot(PyTypeObject *type);              /* as af_reader_add_hot() */

/* transport.write(data): None or NULL; and transport.is_closing(), which sends what is held back: 0, 1 or -1. */
AF_API PyObject *af_writer_write(AfState *st, PyObject *transport, PyObject *data);
AF_API int af_writer_is_closing(AfState *st, PyObject *transport);

#endif
