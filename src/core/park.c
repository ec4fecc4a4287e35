/* What sleeps and channels share: waiting without a Future.

   Awaited by a task of ours, a park yields itself, the task becomes its waiter, and waking it puts the task on the
   ring: nothing else is made.  To whoever else drives the coroutine (asyncio's own tasks, on any loop; hand-written
   trampolines) the same object answers as a future: _asyncio_future_blocking, add_done_callback, cancel, result.

   Whoever is to wake it (a timer, a channel) does not own it until somebody waits: one that is begun and then dropped
   is gone.

   Belongs to its loop's thread.  Runs Python: foreign loops' call_soon(), dropped references. */
#include "core/park.h"

#include "rt/args.h"

AF_API PyObject *
af_park_running_loop(AfState *st)
{
    AfLoop *loop = af_loop_stepping(st);
    if (af_likely(loop != NULL)) {
        return Py_NewRef((PyObject *)loop);
    }
    PyObject *running = PyObject_CallNoArgs(st->get_running_loop);
    if (running == Py_None) {
        Py_DECREF(running);
        PyErr_SetString(PyExc_RuntimeError, "no running event loop");
        return NULL;
    }
    return running;
}

/* ---- waiting ---------------------------------------------------------------------------------------------------- */

static void
park_hold(AfPark *p)
{
    if (p->waiting && !p->held) {
        p->held = 1;
        Py_INCREF(p);
    }
}

static void
park_let_go(AfPark *p)
{
    if (p->held) {
        p->held = 0;
        Py_DECREF(p);
    }
}

AF_API void
af_park_begin_steal(AfPark *p, PyObject *loop)
{
    Py_XSETREF(p->loop, loop);
    p->waiting = p->begun = 1;
    p->cancelled = 0;
}

AF_API void
af_park_attach(AfPark *p, AfTask *task)
{
    p->waiter = Py_NewRef((PyObject *)task);
    park_hold(p);
}

static int
park_schedule_waiter(AfPark *p, int from_any_thread)
{
    PyObject *waiter = p->waiter, *context = p->context;
    p->waiter = p->context = NULL;
    int rc = 0;
    if (waiter == NULL) {
        rc = 0;                 /* who comes later is called at once */
    }
    else if (context == NULL) {
        rc = from_any_thread ? af_task_schedule_threadsafe((AfTask *)waiter) : af_task_schedule((AfTask *)waiter);
    }
    else {
        rc = from_any_thread ? af_call_soon_threadsafe(p->st, p->loop, waiter, (PyObject *)p, context)
                             : af_call_soon(p->st, p->loop, waiter, (PyObject *)p, context);
    }
    Py_XDECREF(waiter);
    Py_XDECREF(context);
    return rc;
}

AF_API int
af_park_wake(AfPark *p, int from_any_thread)
{
    p->waiting = 0;
    int rc = park_schedule_waiter(p, from_any_thread);
    park_let_go(p);
    return rc;
}

AF_API int
af_park_wake_next(AfPark *p)
{
    AfLoop *loop = p->waiter == NULL || p->context != NULL ? NULL : af_loop_fast(p->st, p->loop);
    if (loop == NULL || !loop->in_entry || loop->next_task != NULL || loop->closed || loop->debug) {
        return af_park_wake(p, 0);
    }
    p->waiting = 0;
    loop->next_task = p->waiter;
    p->waiter = NULL;
    park_let_go(p);
    return 0;
}

AF_API void
af_park_forget(AfPark *p)
{
    if (p->waiting) {
        p->waiting = 0;
        p->forget(p);
        park_let_go(p);
    }
}

AF_API int
af_park_cancel(AfPark *p)
{
    if (!p->waiting) {
        return 0;
    }
    Py_INCREF(p);
    p->cancelled = 1;
    af_park_forget(p);
    int rc = park_schedule_waiter(p, 0);
    Py_DECREF(p);
    return rc < 0 ? -1 : 1;
}

AF_API int
af_park_raise(const AfPark *p)
{
    if (p->waiting) {
        PyErr_SetString(PyExc_RuntimeError, "await wasn't used with future");
    }
    else {
        PyErr_SetNone(p->st->CancelledError);
    }
    return -1;
}

/* ---- as a coroutine, by way of its type's am_send ----------------------------------------------------------------- */

static inline PySendResult
park_go_on(AfPark *p, PyObject *arg, PyObject **result)
{
    return Py_TYPE(p)->tp_as_async->am_send((PyObject *)p, arg, result);
}

static PyObject *
park_am_await(AfPark *p)
{
    return af_park_await(p, p->begun);
}

static PyObject *
park_send(AfPark *p, PyObject *arg)
{
    PyObject *result;
    PySendResult how = park_go_on(p, arg, &result);
    return af_sent(how, result);
}

static PyObject *
park_tp_iternext(AfPark *p)
{
    PyObject *result;
    PySendResult how = park_go_on(p, Py_None, &result);
    return af_next(p->st, how, result);
}

/* ---- as a future, for other drivers ------------------------------------------------------------------------------ */

static PyObject *
park_get_blocking(AfPark *p, void *Py_UNUSED(closure))
{
    if (!p->begun) {
        Py_RETURN_NONE;         /* not a future yet: ensure_future() wraps it as any awaitable */
    }
    return PyBool_FromLong(p->waiter == NULL);
}

static int
park_set_blocking(AfPark *Py_UNUSED(p), PyObject *Py_UNUSED(value), void *Py_UNUSED(closure))
{
    return 0;                   /* it follows from whether somebody waits */
}

static PyObject *
park_get_loop(AfPark *p, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(p->loop == NULL ? Py_None : p->loop);
}

static PyObject *
park_add_done_callback(AfPark *p, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *context;
    if (af_args_only_kw("add_done_callback", p->st->str_context, args + nargs, kwnames, &context) < 0) {
        return NULL;
    }
    if (nargs != 1 || !p->begun || p->waiter != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "it takes one callback, while it runs");
        return NULL;
    }
    p->context = context == NULL ? PyContext_CopyCurrent() : Py_NewRef(context);
    if (p->context == NULL) {
        return NULL;
    }
    p->waiter = Py_NewRef(args[0]);
    park_hold(p);
    if (!p->waiting && park_schedule_waiter(p, 0) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
park_cancel(AfPark *p, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *msg;
    if (af_args_cancel_msg(p->st, args, nargs, kwnames, &msg) < 0) {
        return NULL;
    }
    if (p->waiting) {
        Py_XSETREF(p->cancel_msg, msg == NULL || msg == Py_None ? NULL : Py_NewRef(msg));
    }
    int rc = af_park_cancel(p);
    return rc < 0 ? NULL : PyBool_FromLong(rc);
}

static PyObject *
park_result(AfPark *p, PyObject *Py_UNUSED(ignored))
{
    if (p->cancelled) {
        PyObject *exc = p->cancel_msg == NULL ? PyObject_CallNoArgs(p->st->CancelledError)
                                              : PyObject_CallOneArg(p->st->CancelledError, p->cancel_msg);
        if (exc != NULL) {
            PyErr_SetObject(p->st->CancelledError, exc);
            Py_DECREF(exc);
        }
        return NULL;
    }
    if (!p->begun || p->waiting) {
        PyErr_SetString(p->st->InvalidStateError, "Result is not set.");
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

AF_API int
af_park_traverse(AfPark *p, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(p));
    Py_VISIT(p->loop);
    Py_VISIT(p->waiter);
    Py_VISIT(p->context);
    Py_VISIT(p->cancel_msg);
    return 0;
}

AF_API void
af_park_clear(AfPark *p)
{
    Py_CLEAR(p->waiter);
    Py_CLEAR(p->context);
    Py_CLEAR(p->cancel_msg);
}

static PyMethodDef park_methods[] = {
    {"send", (PyCFunction)park_send, METH_O, "send($self, value, /)\n--\n\nAs of a coroutine."},
    {"get_loop", (PyCFunction)park_get_loop, METH_NOARGS, "get_loop($self, /)\n--\n\nReturn the loop, once it runs."},
    {"add_done_callback", (PyCFunction)(void (*)(void))park_add_done_callback, METH_FASTCALL | METH_KEYWORDS,
     "add_done_callback($self, fn, /, *, context=<unrepresentable>)\n--\n\nCall fn(self) when it is woken."},
    {"cancel", (PyCFunction)(void (*)(void))park_cancel, METH_FASTCALL | METH_KEYWORDS,
     "cancel($self, /, msg=None)\n--\n\nWake the waiter with CancelledError now; False if it is too late."},
    {"result", (PyCFunction)park_result, METH_NOARGS,
     "result($self, /)\n--\n\nReturn None once it is woken, or raise CancelledError."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef park_getset[] = {
    {"_asyncio_future_blocking", (getter)park_get_blocking, (setter)park_set_blocking,
     "True once it runs and until somebody has taken it over; None before.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot park_slots[] = {
    {Py_tp_doc, (void *)"An awaitable that a task waits on directly."},
    {Py_tp_traverse, af_park_traverse},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, park_tp_iternext},
    {Py_am_await, park_am_await},
    {Py_tp_methods, park_methods},
    {Py_tp_getset, park_getset},
    {0, NULL},
};

static PyType_Spec park_spec = {
    "asyncfast._Park", sizeof(AfPark), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION |
        Py_TPFLAGS_IMMUTABLETYPE,
    park_slots,
};

AF_API int
af_park_setup(PyObject *module, AfState *st)
{
    st->ParkType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &park_spec, NULL);
    return st->ParkType == NULL ? -1 : 0;
}
