/* asyncfast.sleep(): an awaitable with its timer inside. */
#ifndef AF_CORE_SLEEP_H
#define AF_CORE_SLEEP_H

#include "core/task.h"

enum { AF_SLEEP_NEW, AF_SLEEP_ARMED, AF_SLEEP_YIELDED, AF_SLEEP_INNER, AF_SLEEP_DONE };

typedef struct {
    PyObject_HEAD
    AfState *st;
    double delay;               /* seconds */
    PyObject *result;
    AfLoop *loop;               /* owned from arming on */
    PyObject *waiter;           /* an AfTask of that loop; or, with a context, a callback as of add_done_callback() */
    PyObject *context;
    PyObject *inner;            /* under any other task: asyncio.sleep()'s coroutine */
    PyObject *cancel_msg;
    af_timer timer;
    char held;                  /* the armed timer holds a reference: somebody waits */
    char stage;
    char cancelled;
} AfSleep;

AF_API int af_sleep_setup(PyObject *module, AfState *st);
AF_API PyObject *af_sleep_call(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
AF_API int af_sleep_is(PyObject *o);

/* The task has taken the yielded sleep over: it will be stepped when the timer fires. */
AF_API void af_sleep_attach(AfSleep *s, AfTask *task);
AF_API int af_sleep_cancel(AfSleep *s);     /* 1: the task is scheduled, 0: it had fired already, -1 */
AF_API int af_sleep_fire(AfSleep *s);
AF_API void af_sleep_forget(AfSleep *s);    /* disarm; nobody is woken */

#endif
