/* asyncfast.sleep(): an awaitable with its timer inside. */
#ifndef AF_CORE_SLEEP_H
#define AF_CORE_SLEEP_H

#include "core/park.h"

enum { AF_SLEEP_NEW, AF_SLEEP_ARMED, AF_SLEEP_YIELDED, AF_SLEEP_INNER, AF_SLEEP_DONE };

typedef struct {
    AF_PARK_HEAD;               /* loop: an AfLoop */
    double delay;               /* seconds */
    PyObject *result;
    PyObject *inner;            /* under any other task: asyncio.sleep()'s coroutine */
    af_timer timer;
    char stage;
} AfSleep;

AF_API int af_sleep_setup(PyObject *module, AfState *st);
AF_API PyObject *af_sleep_call(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
AF_API int af_sleep_fire(AfSleep *s);

#endif
