/* The asynchronous generators that are iterated while a loop runs: methods of the loop. */
#ifndef AF_CORE_ASYNCGENS_H
#define AF_CORE_ASYNCGENS_H

#include "core/loop.h"

AF_API PyObject *af_asyncgens_firstiter(AfLoop *loop, PyObject *generator);
AF_API PyObject *af_asyncgens_finalizer(AfLoop *loop, PyObject *generator);
AF_API PyObject *af_asyncgens_shutdown(AfLoop *loop, PyObject *ignored);       /* a coroutine */

AF_API PyObject *af_asyncgens_get(AfLoop *loop, void *closure);                /* loop._asyncgens */
AF_API int af_asyncgens_set(AfLoop *loop, PyObject *value, void *closure);
AF_API void af_asyncgens_forget(AfLoop *loop);

#endif
