/* asyncfast.sleep(): one object that is the awaitable, its own iterator and the timer.

   Awaited by a task of ours it yields itself once, and the task is its waiter: nothing else is made.  It also answers
   as a future would (_asyncio_future_blocking, add_done_callback, cancel, result), for whoever else drives the
   coroutine inside such a task: asyncio's own eager tasks, hand-written trampolines.  Under any other task or loop it
   passes everything on to asyncio.sleep().

   Belongs to its loop's thread.  Runs Python: inner coroutines, dropped references. */
#include "core/sleep.h"

#include "rt/args.h"

static void sleep_tp_dealloc(AfSleep *s);

AF_API int
af_sleep_is(PyObject *o)
{
    return Py_TYPE(o)->tp_dealloc == (destructor)sleep_tp_dealloc;
}

AF_API PyObject *
af_sleep_call(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    AfState *st = af_state_of_module(module);
    PyObject *delay = nargs > 0 ? args[0] : NULL, *result = nargs > 1 ? args[1] : NULL;
    Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < nkw; i++) {
        PyObject *key = PyTuple_GET_ITEM(kwnames, i);
        PyObject **slot = PyUnicode_CompareWithASCIIString(key, "delay") == 0 ? &delay
                        : PyUnicode_CompareWithASCIIString(key, "result") == 0 ? &result : NULL;
        if (slot == NULL || *slot != NULL) {
            PyErr_Format(PyExc_TypeError, slot == NULL ? "sleep() got an unexpected keyword argument '%U'"
                                                       : "sleep() got multiple values for argument '%U'", key);
            return NULL;
        }
        *slot = args[nargs + i];
    }
    if (nargs > 2 || delay == NULL) {
        PyErr_Format(PyExc_TypeError, nargs > 2 ? "sleep() takes from 1 to 2 positional arguments but %zd were given"
                                                : "sleep() missing 1 required positional argument: 'delay'", nargs);
        return NULL;
    }
    double seconds = PyFloat_AsDouble(delay);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    AfSleep *s = af_freelist_pop(&st->sleeps);
    if (s != NULL) {
        AF_REVIVE(s);
    }
    else {
        s = PyObject_GC_New(AfSleep, st->SleepType);
        if (s == NULL) {
            return NULL;
        }
        memset((char *)s + sizeof(PyObject), 0, sizeof(*s) - sizeof(PyObject));
    }
    s->st = st;
    s->delay = seconds;
    s->result = Py_NewRef(result == NULL ? Py_None : result);
    s->timer.kind = AF_TIMER_SLEEP;
    s->stage = AF_SLEEP_NEW;
    s->held = s->cancelled = 0;
    PyObject_GC_Track(s);
    return (PyObject *)s;
}

/* ---- the timer -------------------------------------------------------------------------------------------------- */

/* While nobody waits the timer holds no reference: a sleep that is started and then dropped is gone. */
static void
sleep_hold(AfSleep *s)
{
    if (af_timer_armed(&s->timer) && !s->held) {
        s->held = 1;
        Py_INCREF(s);
    }
}

static void
sleep_let_go(AfSleep *s)
{
    if (s->held) {
        s->held = 0;
        Py_DECREF(s);
    }
}

AF_API void
af_sleep_forget(AfSleep *s)
{
    if (af_timer_armed(&s->timer)) {
        af_heap_disarm(&s->loop->timers, &s->timer);
        sleep_let_go(s);
    }
}

/* Whoever waits is woken through the loop.  0 or -1. */
static int
sleep_wake(AfSleep *s)
{
    PyObject *waiter = s->waiter, *context = s->context;
    s->waiter = s->context = NULL;
    int rc = 0;
    if (waiter != NULL) {
        rc = context == NULL ? af_task_schedule((AfTask *)waiter)
                             : af_call_soon(s->st, (PyObject *)s->loop, waiter, (PyObject *)s, context);
    }
    Py_XDECREF(waiter);
    Py_XDECREF(context);
    return rc;
}

AF_API int
af_sleep_fire(AfSleep *s)
{
    if (!s->held) {
        return 0;
    }
    int rc = sleep_wake(s);
    sleep_let_go(s);
    return rc;
}

AF_API void
af_sleep_attach(AfSleep *s, AfTask *task)
{
    s->waiter = Py_NewRef((PyObject *)task);
    sleep_hold(s);
}

AF_API int
af_sleep_cancel(AfSleep *s)
{
    if (!af_timer_armed(&s->timer)) {
        return 0;
    }
    Py_INCREF(s);
    af_sleep_forget(s);
    int rc = sleep_wake(s);
    Py_DECREF(s);
    return rc < 0 ? -1 : 1;
}

/* ---- awaiting --------------------------------------------------------------------------------------------------- */

static PySendResult
sleep_pass_on(AfSleep *s, PyObject *arg, PyObject **result)
{
    PySendResult how = PyIter_Send(s->inner, arg, result);
    if (how != PYGEN_NEXT) {
        s->stage = AF_SLEEP_DONE;
    }
    return how;
}

/* The task of ours that this thread is stepping, or NULL: none, or not one that can take a sleep over. */
static AfTask *
sleep_current_task(AfState *st)
{
    AfLoop *loop = st->stepping;
    if (af_unlikely(loop == NULL || loop->thread != PyThread_get_thread_ident())) {
        /* another thread's loop set it last */
        PyObject *running = PyObject_CallNoArgs(st->get_running_loop);
        if (running == NULL) {
            PyErr_Clear();
            return NULL;
        }
        loop = running == Py_None ? NULL : af_loop_fast(st, running);
        Py_DECREF(running);     /* it runs: it is held */
    }
    return loop == NULL || !loop->fast_soon ? NULL : loop->stepping;
}

static PySendResult
sleep_start(AfSleep *s, PyObject *arg, PyObject **result)
{
#if AF_SLEEP_REFUSES_NAN
    if (s->delay != s->delay) {
        PyErr_SetString(PyExc_ValueError, "Invalid delay: NaN (not a number)");
        return PYGEN_ERROR;
    }
#endif
    if (s->delay <= 0) {
        s->stage = AF_SLEEP_YIELDED;
        *result = Py_NewRef(Py_None);
        return PYGEN_NEXT;
    }
    AfTask *task = sleep_current_task(s->st);
    if (task == NULL) {
        s->inner = PyObject_CallFunction(s->st->asyncio_sleep, "dO", s->delay, s->result);
        if (s->inner == NULL) {
            return PYGEN_ERROR;
        }
        s->stage = AF_SLEEP_INNER;
        return sleep_pass_on(s, arg, result);
    }
    AfLoop *loop = (AfLoop *)task->fut.loop;
    if (af_loop_arm_after(loop, &s->timer, s->delay) < 0) {
        return PYGEN_ERROR;
    }
    s->loop = (AfLoop *)Py_NewRef((PyObject *)loop);
    s->stage = AF_SLEEP_ARMED;
    *result = Py_NewRef((PyObject *)s);
    return PYGEN_NEXT;
}

static PySendResult
sleep_am_send(AfSleep *s, PyObject *arg, PyObject **result)
{
    *result = NULL;
    switch (s->stage) {
    case AF_SLEEP_NEW:
        return sleep_start(s, arg, result);
    case AF_SLEEP_INNER:
        return sleep_pass_on(s, arg, result);
    case AF_SLEEP_ARMED:
        if (af_timer_armed(&s->timer)) {
            af_sleep_forget(s);
            s->stage = AF_SLEEP_DONE;
            PyErr_SetString(PyExc_RuntimeError, "await wasn't used with future");
            return PYGEN_ERROR;
        }
        /* fall through */
    case AF_SLEEP_YIELDED:
        s->stage = AF_SLEEP_DONE;
        *result = Py_NewRef(s->result);
        return PYGEN_RETURN;
    default:
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited sleep()");
        return PYGEN_ERROR;
    }
}

static PyObject *
sleep_tp_iternext(AfSleep *s)
{
    PyObject *result;
    switch (sleep_am_send(s, Py_None, &result)) {
    case PYGEN_NEXT:
        return result;
    case PYGEN_RETURN:
        if (result != Py_None) {        /* None needs no StopIteration */
            af_set_stop_iteration(result);
        }
        Py_DECREF(result);
        return NULL;
    default:
        return NULL;
    }
}

static PyObject *
sleep_am_await(PyObject *self)
{
    if (((AfSleep *)self)->stage != AF_SLEEP_NEW) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited sleep()");
        return NULL;
    }
    return Py_NewRef(self);
}

static PyObject *
sleep_send(AfSleep *s, PyObject *arg)
{
    PyObject *result;
    PySendResult how = sleep_am_send(s, arg, &result);
    return af_sent(how, result);
}

static PyObject *
sleep_throw(AfSleep *s, PyObject *const *args, Py_ssize_t nargs)
{
    if (s->stage == AF_SLEEP_INNER) {
        PyObject *throw = PyObject_GetAttr(s->inner, s->st->str_throw);
        PyObject *res = throw == NULL ? NULL : PyObject_Vectorcall(throw, args, (size_t)nargs, NULL);
        Py_XDECREF(throw);
        return res;
    }
    Py_INCREF(s);
    af_sleep_forget(s);
    s->stage = AF_SLEEP_DONE;
    Py_DECREF(s);
    return af_raise_thrown(args, nargs);
}

static PyObject *
sleep_close(AfSleep *s, PyObject *Py_UNUSED(ignored))
{
    if (s->stage == AF_SLEEP_INNER) {
        return af_call_method(s->inner, "close", NULL);
    }
    Py_INCREF(s);
    af_sleep_forget(s);
    s->stage = AF_SLEEP_DONE;
    Py_DECREF(s);
    Py_RETURN_NONE;
}

/* ---- as a future, for other drivers ------------------------------------------------------------------------------ */

static PyObject *
sleep_get_blocking(AfSleep *s, void *Py_UNUSED(closure))
{
    if (s->stage != AF_SLEEP_ARMED) {
        Py_RETURN_NONE;         /* not a future: ensure_future() wraps it as any awaitable */
    }
    return PyBool_FromLong(s->waiter == NULL);
}

static int
sleep_set_blocking(AfSleep *Py_UNUSED(s), PyObject *Py_UNUSED(value), void *Py_UNUSED(closure))
{
    return 0;                   /* it follows from whether somebody waits */
}

static PyObject *
sleep_get_loop(AfSleep *s, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(s->loop == NULL ? Py_None : (PyObject *)s->loop);
}

static PyObject *
sleep_add_done_callback(AfSleep *s, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *context;
    if (af_args_only_kw("add_done_callback", s->st->str_context, args + nargs, kwnames, &context) < 0) {
        return NULL;
    }
    if (nargs != 1 || s->stage != AF_SLEEP_ARMED || s->waiter != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "a sleep() takes one callback, while it runs");
        return NULL;
    }
    s->context = context == NULL ? PyContext_CopyCurrent() : Py_NewRef(context);
    if (s->context == NULL) {
        return NULL;
    }
    s->waiter = Py_NewRef(args[0]);
    sleep_hold(s);
    if (!af_timer_armed(&s->timer) && sleep_wake(s) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
sleep_cancel(AfSleep *s, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *msg;
    if (af_args_cancel_msg(s->st, args, nargs, kwnames, &msg) < 0) {
        return NULL;
    }
    if (!af_timer_armed(&s->timer)) {
        Py_RETURN_FALSE;
    }
    s->cancelled = 1;
    Py_XSETREF(s->cancel_msg, msg == NULL || msg == Py_None ? NULL : Py_NewRef(msg));
    return af_sleep_cancel(s) < 0 ? NULL : Py_NewRef(Py_True);
}

static PyObject *
sleep_result(AfSleep *s, PyObject *Py_UNUSED(ignored))
{
    if (s->cancelled) {
        PyObject *exc = s->cancel_msg == NULL ? PyObject_CallNoArgs(s->st->CancelledError)
                                              : PyObject_CallOneArg(s->st->CancelledError, s->cancel_msg);
        if (exc != NULL) {
            PyErr_SetObject(s->st->CancelledError, exc);
            Py_DECREF(exc);
        }
        return NULL;
    }
    if (s->stage != AF_SLEEP_ARMED || af_timer_armed(&s->timer)) {
        PyErr_SetString(s->st->InvalidStateError, "Result is not set.");
        return NULL;
    }
    return Py_NewRef(s->result);
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

static PyObject *
sleep_tp_repr(AfSleep *s)
{
    static const char *const stages[] = {"new", "running", "running", "running", "done"};
    PyObject *delay = PyFloat_FromDouble(s->delay);
    PyObject *res = delay == NULL ? NULL : PyUnicode_FromFormat("<asyncfast.sleep %R %s>", delay, stages[(int)s->stage]);
    Py_XDECREF(delay);
    return res;
}

static int
sleep_tp_traverse(AfSleep *s, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(s));
    Py_VISIT(s->result);
    Py_VISIT(s->loop);
    Py_VISIT(s->waiter);
    Py_VISIT(s->context);
    Py_VISIT(s->inner);
    Py_VISIT(s->cancel_msg);
    return 0;
}

static int
sleep_tp_clear(AfSleep *s)
{
    Py_CLEAR(s->result);
    Py_CLEAR(s->waiter);
    Py_CLEAR(s->context);
    Py_CLEAR(s->inner);
    Py_CLEAR(s->cancel_msg);
    return 0;
}

static void
sleep_tp_dealloc(AfSleep *s)
{
    PyTypeObject *type = Py_TYPE(s);
    PyObject_GC_UnTrack(s);
    af_sleep_forget(s);
    sleep_tp_clear(s);
    Py_CLEAR(s->loop);
    if (!(af_state_is_alive(type) && af_freelist_push(&s->st->sleeps, s))) {
        PyObject_GC_Del(s);
        Py_DECREF(type);
    }
}

static PyMethodDef sleep_methods[] = {
    {"send", (PyCFunction)sleep_send, METH_O, "send($self, value, /)\n--\n\nStart, or resume when the time has come."},
    {"throw", (PyCFunction)(void (*)(void))sleep_throw, METH_FASTCALL,
     "throw($self, typ, val=None, tb=None, /)\n--\n\nDisarm the timer and raise the exception."},
    {"close", (PyCFunction)sleep_close, METH_NOARGS, "close($self, /)\n--\n\nDisarm the timer."},
    {"get_loop", (PyCFunction)sleep_get_loop, METH_NOARGS, "get_loop($self, /)\n--\n\nReturn the loop, once it runs."},
    {"add_done_callback", (PyCFunction)(void (*)(void))sleep_add_done_callback, METH_FASTCALL | METH_KEYWORDS,
     "add_done_callback($self, fn, /, *, context=<unrepresentable>)\n--\n\nCall fn(self) when the time has come."},
    {"cancel", (PyCFunction)(void (*)(void))sleep_cancel, METH_FASTCALL | METH_KEYWORDS,
     "cancel($self, /, msg=None)\n--\n\nWake the waiter with CancelledError now; False if it is too late."},
    {"result", (PyCFunction)sleep_result, METH_NOARGS,
     "result($self, /)\n--\n\nReturn the result once the time has come, or raise CancelledError."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef sleep_getset[] = {
    {"_asyncio_future_blocking", (getter)sleep_get_blocking, (setter)sleep_set_blocking,
     "True while it runs and nobody has taken it over; None before and after.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot sleep_slots[] = {
    {Py_tp_doc, (void *)"What asyncfast.sleep() returns: await it once."},
    {Py_tp_dealloc, sleep_tp_dealloc},
    {Py_tp_traverse, sleep_tp_traverse},
    {Py_tp_clear, sleep_tp_clear},
    {Py_tp_repr, sleep_tp_repr},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, sleep_tp_iternext},
    {Py_am_await, sleep_am_await},
    {Py_am_send, sleep_am_send},
    {Py_tp_methods, sleep_methods},
    {Py_tp_getset, sleep_getset},
    {0, NULL},
};

static PyType_Spec sleep_spec = {
    "asyncfast.Sleep", sizeof(AfSleep), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    sleep_slots,
};

AF_API int
af_sleep_setup(PyObject *module, AfState *st)
{
    st->SleepType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &sleep_spec, NULL);
    return st->SleepType == NULL ? -1 : 0;
}
