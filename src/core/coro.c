/* A coroutine written in C: one object is the method's frame, its awaitable, its iterator and what it waits with.

   It is what `async def` would give as far as asyncio can tell: collections.abc.Coroutine by its methods, awaited once,
   a RuntimeWarning if never.  On a loop of ours it is a park (core/park.h): it yields itself, and whoever is to wake it has
   it.  It may also wait for a future, of any loop, or drive another coroutine in its stead.

   Belongs to its loop's thread.  Runs Python: what it awaits, the steps of its kind, dropped references. */
#include "core/coro.h"

enum { CORO_NEW, CORO_STARTED, CORO_DONE };

AF_API AfCoro *
af_coro_new(AfState *st, const af_coro_kind *kind, PyObject *self)
{
    AfCoro *c = af_freelist_take(&st->coros, st->CoroType);     /* with every pointer NULL */
    if (c == NULL) {
        return NULL;
    }
    c->park.st = st;
    c->park.waiting = c->park.begun = c->park.held = c->park.cancelled = 0;
    c->kind = kind;
    c->self = Py_NewRef(self);
    c->stage = CORO_NEW;
    c->delegated = c->waited = 0;
    c->n = c->offset = 0;
    PyObject_GC_Track(c);
    return c;
}

static void
coro_stop_waiting(AfCoro *c)
{
    if (c->park.begun) {
        af_park_forget(&c->park);
        c->park.begun = 0;
    }
    if (c->future != NULL) {
        if (c->kind->stopped != NULL) {
            c->kind->stopped(c);
        }
        Py_CLEAR(c->future);
    }
}

static void
coro_clear_fields(AfCoro *c)
{
    coro_stop_waiting(c);
    Py_CLEAR(c->inner);
    Py_CLEAR(c->arg);
    Py_CLEAR(c->error);
    Py_CLEAR(c->self);
}

static void
coro_finish(AfCoro *c)
{
    c->stage = CORO_DONE;
    Py_INCREF(c);
    coro_clear_fields(c);
    Py_DECREF(c);
}

/* ---- awaiting --------------------------------------------------------------------------------------------------- */

AF_API PySendResult
af_coro_park(AfCoro *c, AfLoop *loop, void (*forget)(AfPark *), PyObject **result)
{
    c->park.forget = forget;
    af_park_begin_steal(&c->park, Py_NewRef((PyObject *)loop));
    *result = Py_NewRef((PyObject *)c);
    return PYGEN_NEXT;
}

AF_API PySendResult
af_coro_wait(AfCoro *c, PyObject *future, PyObject **result)
{
    c->future = Py_NewRef(future);
    if (af_likely(af_future_is_exact(future))) {
        ((AfFuture *)future)->blocking = 1;
        *result = Py_NewRef(future);
        return PYGEN_NEXT;
    }
    c->inner = af_call_method(future, "__await__", NULL);
    return c->inner == NULL ? PYGEN_ERROR : PyIter_Send(c->inner, Py_None, result);
}

AF_API PySendResult
af_coro_delegate_steal(AfCoro *c, PyObject *coro, PyObject **result)
{
    if (coro == NULL) {
        return PYGEN_ERROR;
    }
    c->inner = coro;
    c->delegated = 1;
    return PyIter_Send(coro, Py_None, result);
}

/* What it awaited is done: its outcome is an exception (PYGEN_ERROR), or its result is that of c (PYGEN_RETURN), or c goes
   on (PYGEN_NEXT with no result); PYGEN_NEXT with one: it still waits. */
static PySendResult
coro_awaited(AfCoro *c, PyObject *arg, PyObject **result)
{
    PySendResult how = PYGEN_NEXT;
    if (af_likely(c->park.begun)) {
        if (af_park_outcome(&c->park) < 0) {
            how = PYGEN_ERROR;
        }
        else if (af_unlikely(c->error != NULL)) {
            PyErr_SetObject((PyObject *)Py_TYPE(c->error), c->error);
            how = PYGEN_ERROR;
        }
    }
    else if (c->inner != NULL) {
        how = PyIter_Send(c->inner, arg, result);
        if (how == PYGEN_NEXT) {
            return how;
        }
        Py_CLEAR(c->inner);
        if (how == PYGEN_RETURN && !c->delegated) {
            Py_CLEAR(*result);
            how = PYGEN_NEXT;
        }
    }
    else if (c->future != NULL) {
        AfFuture *f = (AfFuture *)c->future;
        PyObject *outcome;
        if (f->state == AF_PENDING) {
            PyErr_SetString(PyExc_RuntimeError, "await wasn't used with future");
            how = PYGEN_ERROR;
        }
        else if (f->state == AF_CANCELLED || f->failed) {
            how = PYGEN_ERROR;
            if (af_future_outcome(f, &outcome) > 0) {
                PyErr_SetObject((PyObject *)Py_TYPE(outcome), outcome);
                Py_DECREF(outcome);
            }
        }
    }
    coro_stop_waiting(c);
    return how;
}

/* As of any coroutine: whoever awaits it would take a StopIteration for its return. */
static void
coro_wrap_stop_iteration(void)
{
    PyObject *stop = PyErr_GetRaisedException();
    PyErr_SetString(PyExc_RuntimeError, "coroutine raised StopIteration");
    PyObject *error = PyErr_GetRaisedException();
    PyException_SetCause(error, Py_NewRef(stop));
    PyException_SetContext(error, stop);
    PyErr_SetRaisedException(error);
}

/* It ended so; what it raised may be caught. */
static PySendResult
coro_ended(AfCoro *c, PySendResult how, PyObject **result)
{
    coro_stop_waiting(c);
    if (how == PYGEN_ERROR) {
        if (c->kind->caught != NULL && c->kind->caught(c, result)) {
            how = PYGEN_RETURN;
        }
        else if (PyErr_ExceptionMatches(PyExc_StopIteration)) {
            coro_wrap_stop_iteration();
        }
    }
    coro_finish(c);
    return how;
}

static PyObject *
coro_am_await(AfCoro *c)
{
    return af_park_await(&c->park, c->stage == CORO_STARTED);   /* for a future, maybe, or another coroutine */
}

static PySendResult
coro_am_send(AfCoro *c, PyObject *arg, PyObject **result)
{
    *result = NULL;
    if (c->stage == CORO_DONE) {
        af_awaited_again();
        return PYGEN_ERROR;
    }
    PySendResult how = PYGEN_NEXT;
    if (c->stage == CORO_NEW) {
        if (arg != Py_None) {
            PyErr_SetString(PyExc_TypeError, "can't send non-None value to a just-started coroutine");
            return PYGEN_ERROR;
        }
        c->stage = CORO_STARTED;
    }
    else {
        how = coro_awaited(c, arg, result);
    }
    if (how == PYGEN_NEXT && *result == NULL) {
        how = c->kind->step(c, result);
    }
    return how == PYGEN_NEXT ? how : coro_ended(c, how, result);
}

static PyObject *
coro_throw(AfCoro *c, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *result = NULL;
    if (c->stage == CORO_DONE) {
        return af_awaited_again();
    }
    if (c->stage == CORO_NEW) {
        coro_finish(c);
        return af_raise_thrown(args, nargs);
    }
    if (c->inner == NULL) {
        af_raise_thrown(args, nargs);
    }
    else {
        PyObject *throw = PyObject_GetAttr(c->inner, c->park.st->str_throw);
        result = throw == NULL ? NULL : PyObject_Vectorcall(throw, args, (size_t)nargs, NULL);
        Py_XDECREF(throw);
        if (result != NULL) {
            return result;      /* it waits again */
        }
        Py_CLEAR(c->inner);
        if (c->delegated && PyErr_ExceptionMatches(PyExc_StopIteration)) {
            coro_finish(c);
            return NULL;
        }
    }
    PySendResult how = coro_ended(c, PYGEN_ERROR, &result);
    return af_sent(how, result);
}

static PyObject *
coro_close(AfCoro *c, PyObject *Py_UNUSED(ignored))
{
    PyObject *inner = c->inner;
    c->inner = NULL;
    PyObject *res = inner == NULL ? Py_NewRef(Py_None) : af_call_method(inner, "close", NULL);
    Py_XDECREF(inner);
    coro_finish(c);
    return res;
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

static PyObject *
coro_get_name(AfCoro *c, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(c->kind->name);
}

static PyObject *
coro_get_qualname(AfCoro *c, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(c->kind->qualname);
}

static PyObject *
coro_tp_repr(AfCoro *c)
{
    return PyUnicode_FromFormat("<coroutine object %s at %p>", c->kind->qualname, c);
}

static void
coro_tp_finalize(PyObject *self)
{
    if (((AfCoro *)self)->stage == CORO_NEW) {
        af_never_awaited(self);
    }
}

static int
coro_tp_traverse(AfCoro *c, visitproc visit, void *arg)
{
    Py_VISIT(c->self);
    Py_VISIT(c->future);
    Py_VISIT(c->inner);
    Py_VISIT(c->arg);
    Py_VISIT(c->error);
    return af_park_traverse(&c->park, visit, arg);
}

static int
coro_tp_clear(AfCoro *c)
{
    coro_finish(c);
    af_park_clear(&c->park);
    return 0;
}

static void
coro_tp_dealloc(AfCoro *c)
{
    if (c->stage == CORO_NEW && PyObject_CallFinalizerFromDealloc((PyObject *)c) < 0) {
        return;
    }
    PyObject_GC_UnTrack(c);
    if (c->stage != CORO_DONE) {
        coro_clear_fields(c);
    }
    if (c->park.loop != NULL) {
        af_park_clear(&c->park);
        Py_CLEAR(c->park.loop);
    }
    af_freelist_give(af_freelist_unless_finalized(&c->park.st->coros, c), c);
}

static PyMethodDef coro_methods[] = {
    {"throw", (PyCFunction)(void (*)(void))coro_throw, METH_FASTCALL,
     "throw($self, type, value=None, traceback=None, /)\n--\n\nAs of a coroutine."},
    {"close", (PyCFunction)coro_close, METH_NOARGS, "close($self, /)\n--\n\nAs of a coroutine."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef coro_getset[] = {
    {"__name__", (getter)coro_get_name, NULL, "The name of the method.", NULL},
    {"__qualname__", (getter)coro_get_qualname, NULL, "The same with the class.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot coro_slots[] = {
    {Py_tp_doc, (void *)"What the coroutine methods of the streams return."},
    {Py_tp_dealloc, coro_tp_dealloc},
    {Py_tp_finalize, coro_tp_finalize},
    {Py_tp_traverse, coro_tp_traverse},
    {Py_tp_clear, coro_tp_clear},
    {Py_tp_repr, coro_tp_repr},
    {Py_am_await, coro_am_await},
    {Py_am_send, coro_am_send},
    {Py_tp_methods, coro_methods},
    {Py_tp_getset, coro_getset},
    {0, NULL},
};

static PyType_Spec coro_spec = {
    "asyncfast._Coroutine", sizeof(AfCoro), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    coro_slots,
};

AF_API int
af_coro_setup(PyObject *module, AfState *st)
{
    st->CoroType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &coro_spec, (PyObject *)st->ParkType);
    return st->CoroType == NULL ? -1 : 0;
}
