/* asyncfast.sleep(): one object that is the awaitable, its own iterator and the timer.

   Awaited by a task of ours it parks that task (core/park.h).  Under any other task or loop it passes everything on to
   asyncio.sleep().

   Belongs to its loop's thread.  Runs Python: inner coroutines, dropped references. */
#include "core/sleep.h"

#include "rt/args.h"

static void
sleep_forget(AfPark *p)
{
    AfSleep *s = (AfSleep *)p;
    af_heap_disarm(&((AfLoop *)p->loop)->timers, &s->timer);
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
    AfSleep *s = af_freelist_take(&st->sleeps, st->SleepType);
    if (s == NULL) {
        return NULL;
    }
    s->park.st = st;
    s->park.forget = sleep_forget;
    s->park.waiting = s->park.begun = s->park.held = s->park.cancelled = 0;
    s->delay = seconds;
    s->result = Py_NewRef(result == NULL ? Py_None : result);
    s->timer.kind = AF_TIMER_SLEEP;
    s->stage = AF_SLEEP_NEW;
    PyObject_GC_Track(s);
    return (PyObject *)s;
}

AF_API int
af_sleep_fire(AfSleep *s)
{
    return af_park_wake(&s->park, 0);
}

static void
sleep_finish(AfSleep *s)
{
    Py_INCREF(s);
    af_park_forget(&s->park);
    s->stage = AF_SLEEP_DONE;
    s->park.begun = 0;
    Py_DECREF(s);
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
    AfLoop *loop = af_loop_stepping(st);
    if (af_unlikely(loop == NULL)) {
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
    AfTask *task = sleep_current_task(s->park.st);
    if (task == NULL) {
        s->inner = PyObject_CallFunction(s->park.st->asyncio_sleep, "dO", s->delay, s->result);
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
    af_park_begin_steal(&s->park, Py_NewRef((PyObject *)loop));
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
        if (s->park.waiting) {
            sleep_finish(s);
            PyErr_SetString(PyExc_RuntimeError, "await wasn't used with future");
            return PYGEN_ERROR;
        }
        /* fall through */
    case AF_SLEEP_YIELDED:
        s->stage = AF_SLEEP_DONE;
        s->park.begun = 0;
        *result = Py_NewRef(s->result);
        return PYGEN_RETURN;
    default:
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited sleep()");
        return PYGEN_ERROR;
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
sleep_throw(AfSleep *s, PyObject *const *args, Py_ssize_t nargs)
{
    if (s->stage == AF_SLEEP_INNER) {
        PyObject *throw = PyObject_GetAttr(s->inner, s->park.st->str_throw);
        PyObject *res = throw == NULL ? NULL : PyObject_Vectorcall(throw, args, (size_t)nargs, NULL);
        Py_XDECREF(throw);
        return res;
    }
    sleep_finish(s);
    return af_raise_thrown(args, nargs);
}

static PyObject *
sleep_close(AfSleep *s, PyObject *Py_UNUSED(ignored))
{
    if (s->stage == AF_SLEEP_INNER) {
        return af_call_method(s->inner, "close", NULL);
    }
    sleep_finish(s);
    Py_RETURN_NONE;
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
    Py_VISIT(s->result);
    Py_VISIT(s->inner);
    return af_park_traverse(&s->park, visit, arg);
}

static int
sleep_tp_clear(AfSleep *s)
{
    Py_CLEAR(s->result);
    Py_CLEAR(s->inner);
    af_park_clear(&s->park);
    return 0;
}

static void
sleep_tp_dealloc(AfSleep *s)
{
    PyObject_GC_UnTrack(s);
    af_park_forget(&s->park);
    sleep_tp_clear(s);
    Py_CLEAR(s->park.loop);
    af_freelist_give(&s->park.st->sleeps, s);
}

static PyMethodDef sleep_methods[] = {
    {"throw", (PyCFunction)(void (*)(void))sleep_throw, METH_FASTCALL,
     "throw($self, typ, val=None, tb=None, /)\n--\n\nDisarm the timer and raise the exception."},
    {"close", (PyCFunction)sleep_close, METH_NOARGS, "close($self, /)\n--\n\nDisarm the timer."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot sleep_slots[] = {
    {Py_tp_doc, (void *)"What asyncfast.sleep() returns: await it once."},
    {Py_tp_dealloc, sleep_tp_dealloc},
    {Py_tp_traverse, sleep_tp_traverse},
    {Py_tp_clear, sleep_tp_clear},
    {Py_tp_repr, sleep_tp_repr},
    {Py_am_await, sleep_am_await},
    {Py_am_send, sleep_am_send},
    {Py_tp_methods, sleep_methods},
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
    st->SleepType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &sleep_spec, (PyObject *)st->ParkType);
    return st->SleepType == NULL ? -1 : 0;
}
