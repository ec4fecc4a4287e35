/* Futures.  A future belongs to its loop's thread.
   Runs Python: dropping callbacks, foreign loops' call_soon(), the exception handler.

   Waiting costs nothing but a pointer: the task that awaits a future is its first callback ("waiter0"), and when the
   future is done that pointer moves to the ready ring.  Python sees the callback it would see on asyncio. */
#include "core/future.h"

#include "core/handle.h"
#include "core/task.h"
#include "rt/args.h"

typedef struct {
    PyObject_HEAD
    AfState *st;
    AfFuture *future;           /* NULL once finished */
} AfFutureIter;

static void future_tp_dealloc(PyObject *self);

AF_API int
af_future_is_exact(PyObject *o)
{
    return Py_TYPE(o)->tp_dealloc == future_tp_dealloc;
}

/* ---- making ----------------------------------------------------------------------------------------------------- */

AF_API int
af_future_init(AfFuture *f, AfState *st, PyObject *loop)
{
    if (AF_INIT_ONCE && f->loop != NULL) {
        const char *name = strrchr(Py_TYPE(f)->tp_name, '.');
        PyErr_Format(PyExc_RuntimeError, "_asyncio.%s object is already initialized",
                     name == NULL ? Py_TYPE(f)->tp_name : name + 1);
        return -1;
    }
    af_future_clear_fields(f);
    f->st = st;
    f->state = AF_PENDING;
    f->failed = f->log_tb = f->blocking = f->waiter0 = f->must_cancel = f->owned = 0;
    if (loop == NULL || loop == Py_None) {
        f->loop = PyObject_CallNoArgs(st->get_event_loop);
        if (f->loop == NULL) {
            return -1;
        }
    }
    else {
        f->loop = Py_NewRef(loop);
    }
    int debug;
    AfLoop *fast = af_loop_fast(st, f->loop);
    if (fast != NULL) {
        debug = fast->debug;
    }
    else {
        PyObject *res = PyObject_CallMethodNoArgs(f->loop, st->str_get_debug);
        debug = res == NULL ? -1 : PyObject_IsTrue(res);
        Py_XDECREF(res);
        if (debug < 0) {
            return -1;
        }
    }
    if (debug && !AF_IS_FINALIZING()) {
        f->source_tb = PyObject_CallNoArgs(st->extract_stack);
        if (f->source_tb == NULL) {
            return -1;
        }
    }
    return 0;
}

AF_API PyObject *
af_future_new(AfLoop *loop)
{
    AfState *st = loop->st;
    AfFuture *f = af_freelist_take(&st->futures, st->FutureType);       /* with every pointer NULL */
    if (f == NULL) {
        return NULL;
    }
    f->st = st;
    f->loop = Py_NewRef((PyObject *)loop);
    f->state = AF_PENDING;
    f->failed = f->log_tb = f->blocking = f->waiter0 = 0;
    PyObject_GC_Track(f);
    if (af_unlikely(loop->debug)) {
        f->source_tb = PyObject_CallNoArgs(st->extract_stack);
        if (f->source_tb == NULL) {
            Py_DECREF(f);
            return NULL;
        }
    }
    return (PyObject *)f;
}

/* ---- finishing -------------------------------------------------------------------------------------------------- */

static int
future_schedule(AfFuture *f)
{
    PyObject *cb0 = f->cb0, *ctx0 = f->ctx0, *rest = f->callbacks;
    if (cb0 == NULL && rest == NULL) {
        return 0;
    }
    int rc = 0, is_task = f->waiter0;
    f->cb0 = f->ctx0 = f->callbacks = NULL;      /* ours: what follows may run Python and look at f */
    f->waiter0 = 0;
    if (is_task) {
        rc = af_task_schedule((AfTask *)cb0);
    }
    else if (cb0 != NULL) {
        rc = af_call_soon(f->st, f->loop, cb0, (PyObject *)f, ctx0);
    }
    for (Py_ssize_t i = 0; rc == 0 && rest != NULL && i < PyList_GET_SIZE(rest); i++) {
        PyObject *pair = PyList_GET_ITEM(rest, i);
        rc = af_call_soon(f->st, f->loop, PyTuple_GET_ITEM(pair, 0), (PyObject *)f, PyTuple_GET_ITEM(pair, 1));
    }
    Py_XDECREF(cb0);
    Py_XDECREF(ctx0);
    Py_XDECREF(rest);
    return rc;
}

static int
future_check_pending(AfFuture *f)
{
    if (af_unlikely(f->state != AF_PENDING)) {
        PyErr_SetString(f->st->InvalidStateError, "invalid state");
        return -1;
    }
    return 0;
}

AF_API int
af_future_set_result(AfFuture *f, PyObject *value)
{
    if (future_check_pending(f) < 0) {
        return -1;
    }
    Py_XSETREF(f->value, Py_NewRef(value));
    f->state = AF_FINISHED;
    return future_schedule(f);
}

AF_API PyObject *
af_future_checked_exception(AfState *st, PyObject *exc)
{
    PyObject *value;
    if (PyExceptionClass_Check(exc)) {
        value = PyObject_CallNoArgs(exc);
        if (value == NULL) {
            return NULL;
        }
    }
    else {
        value = Py_NewRef(exc);
    }
    if (!PyExceptionInstance_Check(value)) {
        Py_DECREF(value);
        PyErr_SetString(PyExc_TypeError, "invalid exception object");
        return NULL;
    }
    static const char msg[] = "StopIteration interacts badly with generators and cannot be raised into a Future";
    if (!st->wraps_stop_iteration && Py_IS_TYPE(value, (PyTypeObject *)PyExc_StopIteration)) {
        Py_DECREF(value);
        PyErr_SetString(PyExc_TypeError, msg);
        return NULL;
    }
    if (!st->wraps_stop_iteration || !PyErr_GivenExceptionMatches(value, PyExc_StopIteration)) {
        return value;
    }
    PyObject *error = PyObject_CallFunction(PyExc_RuntimeError, "s", msg);
    if (error == NULL) {
        Py_DECREF(value);
        return NULL;
    }
    PyException_SetCause(error, Py_NewRef(value));
    PyException_SetContext(error, value);
    return error;
}

AF_API int
af_future_set_exception(AfFuture *f, PyObject *exc)
{
    if (future_check_pending(f) < 0) {
        return -1;
    }
    PyObject *value = af_future_checked_exception(f->st, exc);
    if (value == NULL) {
        return -1;
    }
    if (future_check_pending(f) < 0) {          /* making the exception ran Python */
        Py_DECREF(value);
        return -1;
    }
    Py_XSETREF(f->value, value);
    Py_XSETREF(f->exc_tb, PyException_GetTraceback(value));
    f->failed = 1;
    f->state = AF_FINISHED;
    f->log_tb = 1;
    return future_schedule(f);
}

AF_API int
af_future_cancel(AfFuture *f, PyObject *msg)
{
    f->log_tb = 0;
    if (f->state != AF_PENDING) {
        return 0;
    }
    f->state = AF_CANCELLED;
    Py_XSETREF(f->cancel_msg, msg == NULL || msg == Py_None ? NULL : Py_NewRef(msg));
    return future_schedule(f) < 0 ? -1 : 1;
}

AF_API PyObject *
af_future_make_cancelled_error(AfFuture *f)
{
    if (f->cancelled_exc != NULL) {
        PyObject *exc = f->cancelled_exc;
        f->cancelled_exc = NULL;        /* so that no cycle through its traceback is left */
        return exc;
    }
    return f->cancel_msg == NULL ? PyObject_CallNoArgs(f->st->CancelledError)
                                 : PyObject_CallOneArg(f->st->CancelledError, f->cancel_msg);
}

AF_API int
af_future_outcome(AfFuture *f, PyObject **out)
{
    *out = NULL;
    if (f->state == AF_CANCELLED) {
        *out = af_future_make_cancelled_error(f);
        return *out == NULL ? -1 : 1;
    }
    if (f->state != AF_FINISHED) {
        PyErr_SetString(f->st->InvalidStateError, "Result is not set.");
        return -1;
    }
    f->log_tb = 0;
    if (!f->failed) {
        *out = Py_NewRef(f->value);
        return 0;
    }
    /* each raise starts from the traceback the exception came with, so that it does not grow */
    if (PyException_SetTraceback(f->value, f->exc_tb == NULL ? Py_None : f->exc_tb) < 0) {
        return -1;
    }
    Py_CLEAR(f->exc_tb);
    *out = Py_NewRef(f->value);
    return 1;
}

/* ---- callbacks -------------------------------------------------------------------------------------------------- */

static int
future_append_callback(AfFuture *f, PyObject *cb, PyObject *ctx)
{
    PyObject *pair = PyTuple_Pack(2, cb, ctx);
    if (pair == NULL) {
        return -1;
    }
    if (f->callbacks == NULL) {
        f->callbacks = PyList_New(0);
    }
    int rc = f->callbacks == NULL ? -1 : PyList_Append(f->callbacks, pair);
    Py_DECREF(pair);
    return rc;
}

AF_API int
af_future_add_callback(AfFuture *f, PyObject *cb, PyObject *ctx)
{
    if (f->state != AF_PENDING) {
        return af_call_soon(f->st, f->loop, cb, (PyObject *)f, ctx);
    }
    if (f->cb0 == NULL && f->callbacks == NULL) {
        f->cb0 = Py_NewRef(cb);
        f->ctx0 = Py_NewRef(ctx);
        return 0;
    }
    return future_append_callback(f, cb, ctx);
}

AF_API int
af_future_add_waiter(AfFuture *f, AfTask *task)
{
    if (f->state != AF_PENDING) {
        return af_task_schedule(task);
    }
    if (f->cb0 == NULL && f->callbacks == NULL) {
        f->cb0 = Py_NewRef((PyObject *)task);
        f->waiter0 = 1;
        return 0;
    }
    PyObject *context = af_task_own_context(task);
    PyObject *wakeup = context == NULL ? NULL : af_task_wakeup_callable(task);
    if (wakeup == NULL) {
        return -1;
    }
    int rc = future_append_callback(f, wakeup, context);
    Py_DECREF(wakeup);
    return rc;
}

/* The callbacks as asyncio shows them: [(callback, context), ...] or None. */
static PyObject *
future_callbacks(AfFuture *f)
{
    if (f->cb0 == NULL && f->callbacks == NULL) {
        Py_RETURN_NONE;
    }
    PyObject *list = PyList_New(0);
    if (list == NULL) {
        return NULL;
    }
    if (f->cb0 != NULL) {
        AfTask *task = f->waiter0 ? (AfTask *)f->cb0 : NULL;
        PyObject *cb = task == NULL ? Py_NewRef(f->cb0) : af_task_wakeup_callable(task);
        PyObject *context = task == NULL ? f->ctx0 : af_task_own_context(task);
        PyObject *pair = cb == NULL || context == NULL ? NULL : PyTuple_Pack(2, cb, context);
        int rc = pair == NULL ? -1 : PyList_Append(list, pair);
        Py_XDECREF(cb);
        Py_XDECREF(pair);
        if (rc < 0) {
            Py_DECREF(list);
            return NULL;
        }
    }
    if (f->callbacks != NULL && PyList_SetSlice(list, PY_SSIZE_T_MAX, PY_SSIZE_T_MAX, f->callbacks) < 0) {
        Py_DECREF(list);
        return NULL;
    }
    return list;
}

/* Comparing runs Python, which may add, remove or finish: work on a copy, then take out what matched by identity. */
static PyObject *
future_remove_done_callback(AfFuture *f, PyObject *fn)
{
    if (!af_future_alive(f)) {
        return NULL;
    }
    PyObject *pairs = future_callbacks(f);
    if (pairs == NULL || pairs == Py_None) {
        Py_XDECREF(pairs);
        return pairs == NULL ? NULL : PyLong_FromLong(0);
    }
    Py_ssize_t removed = 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(pairs); i++) {
        PyObject *cb = PyTuple_GET_ITEM(PyList_GET_ITEM(pairs, i), 0);
        int same = PyObject_RichCompareBool(cb, fn, Py_EQ);
        if (same < 0) {
            Py_DECREF(pairs);
            return NULL;
        }
        if (!same) {
            continue;
        }
        if (f->waiter0 ? PyCFunction_Check(cb) && PyCFunction_GET_SELF(cb) == f->cb0 : f->cb0 == cb) {
            PyObject *old_cb = f->cb0, *old_ctx = f->ctx0;
            f->cb0 = f->ctx0 = NULL;
            f->waiter0 = 0;
            Py_DECREF(old_cb);
            Py_XDECREF(old_ctx);
            removed++;
            continue;
        }
        for (Py_ssize_t j = 0; f->callbacks != NULL && j < PyList_GET_SIZE(f->callbacks); j++) {
            if (PyTuple_GET_ITEM(PyList_GET_ITEM(f->callbacks, j), 0) == cb) {
                if (PyList_SetSlice(f->callbacks, j, j + 1, NULL) < 0) {
                    Py_DECREF(pairs);
                    return NULL;
                }
                removed++;
                break;
            }
        }
    }
    if (f->callbacks != NULL && PyList_GET_SIZE(f->callbacks) == 0) {
        Py_CLEAR(f->callbacks);
    }
    Py_DECREF(pairs);
    return PyLong_FromSsize_t(removed);
}

static PyObject *
future_add_done_callback(AfFuture *f, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *context;
    if (!af_future_alive(f)) {
        return NULL;
    }
    if (nargs != 1) {
        PyErr_Format(PyExc_TypeError, "add_done_callback() takes exactly 1 positional argument (%zd given)", nargs);
        return NULL;
    }
    if (af_args_only_kw("add_done_callback", f->st->str_context, args + nargs, kwnames, &context) < 0) {
        return NULL;
    }
    context = context == NULL ? PyContext_CopyCurrent() : Py_NewRef(context);
    if (context == NULL) {
        return NULL;
    }
    int rc = af_future_add_callback(f, args[0], context);
    Py_DECREF(context);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- methods ---------------------------------------------------------------------------------------------------- */

/* As af_future_alive(), with the error that result() and exception() give for it. */
static int
future_has_outcome(AfFuture *f)
{
    if (f->loop == NULL) {
        PyErr_SetString(af_state_of_type(Py_TYPE(f))->InvalidStateError, "Future object is not initialized.");
    }
    return f->loop != NULL;
}

static PyObject *
future_result(AfFuture *f, PyObject *Py_UNUSED(ignored))
{
    PyObject *out;
    if (!future_has_outcome(f)) {
        return NULL;
    }
    int rc = af_future_outcome(f, &out);
    if (rc <= 0) {
        return rc < 0 ? NULL : out;
    }
    PyErr_SetObject((PyObject *)Py_TYPE(out), out);
    Py_DECREF(out);
    return NULL;
}

static PyObject *
future_exception(AfFuture *f, PyObject *Py_UNUSED(ignored))
{
    if (!future_has_outcome(f)) {
        return NULL;
    }
    if (f->state == AF_CANCELLED) {
        return future_result(f, NULL);
    }
    if (f->state != AF_FINISHED) {
        PyErr_SetString(f->st->InvalidStateError, "Exception is not set.");
        return NULL;
    }
    f->log_tb = 0;
    return Py_NewRef(f->failed ? f->value : Py_None);
}

static PyObject *
future_set_result(AfFuture *f, PyObject *value)
{
    return !af_future_alive(f) || af_future_set_result(f, value) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
future_set_exception(AfFuture *f, PyObject *exc)
{
    return !af_future_alive(f) || af_future_set_exception(f, exc) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
future_cancel(AfFuture *f, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *msg;
    if (!af_future_alive(f) || af_args_cancel_msg(f->st, args, nargs, kwnames, &msg) < 0) {
        return NULL;
    }
    int rc = af_future_cancel(f, msg);
    return rc < 0 ? NULL : PyBool_FromLong(rc);
}

static PyObject *
future_cancelled(AfFuture *f, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(f->loop != NULL && f->state == AF_CANCELLED);
}

static PyObject *
future_done(AfFuture *f, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(f->loop != NULL && f->state != AF_PENDING);
}

static PyObject *
future_get_loop(AfFuture *f, PyObject *Py_UNUSED(ignored))
{
    return af_future_alive(f) ? Py_NewRef(f->loop) : NULL;
}

static PyObject *
future_make_cancelled_error(AfFuture *f, PyObject *Py_UNUSED(ignored))
{
    return af_future_alive(f) ? af_future_make_cancelled_error(f) : NULL;
}

static PyObject *
future_repr_info(AfFuture *f, PyObject *Py_UNUSED(ignored))
{
    return af_future_alive(f) ? PyObject_CallOneArg(f->st->future_repr_info, (PyObject *)f) : NULL;
}

/* Shared by Task: _repr_info() is looked up, so that a subclass may say more. */
static PyObject *
future_tp_repr(PyObject *self)
{
    if (!af_future_alive((AfFuture *)self)) {
        return NULL;
    }
    int busy = Py_ReprEnter(self);
    if (busy != 0) {
        return busy < 0 ? NULL : PyUnicode_FromString("...");
    }
    PyObject *res = NULL;
    PyObject *info = af_call_method(self, "_repr_info", NULL);
    PyObject *space = PyUnicode_FromString(" ");
    PyObject *text = info == NULL || space == NULL ? NULL : PyUnicode_Join(space, info);
    if (text != NULL) {
        const char *name = strrchr(Py_TYPE(self)->tp_name, '.');
        res = PyUnicode_FromFormat("<%s %U>", name == NULL ? Py_TYPE(self)->tp_name : name + 1, text);
    }
    Py_XDECREF(info);
    Py_XDECREF(space);
    Py_XDECREF(text);
    Py_ReprLeave(self);
    return res;
}

/* ---- attributes ------------------------------------------------------------------------------------------------- */

static PyObject *
future_get_state(AfFuture *f, void *Py_UNUSED(closure))
{
    static const char *const names[] = {"PENDING", "CANCELLED", "FINISHED"};
    return af_future_alive(f) ? PyUnicode_InternFromString(names[f->state]) : NULL;
}

static PyObject *
future_get_blocking(AfFuture *f, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(f->loop != NULL && f->blocking);
}

static int
future_set_blocking(AfFuture *f, PyObject *value, void *Py_UNUSED(closure))
{
    if (!af_future_alive(f)) {
        return -1;
    }
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "cannot delete attribute");
        return -1;
    }
    int truth = PyObject_IsTrue(value);
    if (truth < 0) {
        return -1;
    }
    f->blocking = (unsigned char)truth;
    return 0;
}

static PyObject *
future_get_private_loop(AfFuture *f, void *Py_UNUSED(closure))
{
    return Py_NewRef(f->loop == NULL ? Py_None : f->loop);
}

static PyObject *
future_get_callbacks(AfFuture *f, void *Py_UNUSED(closure))
{
    return af_future_alive(f) ? future_callbacks(f) : NULL;
}

static PyObject *
future_get_result(AfFuture *f, void *Py_UNUSED(closure))
{
    if (!af_future_alive(f)) {
        return NULL;
    }
    return Py_NewRef(f->state == AF_FINISHED && !f->failed ? f->value : Py_None);
}

static PyObject *
future_get_exception(AfFuture *f, void *Py_UNUSED(closure))
{
    if (!af_future_alive(f)) {
        return NULL;
    }
    return Py_NewRef(f->state == AF_FINISHED && f->failed ? f->value : Py_None);
}

static PyObject *
future_get_log_traceback(AfFuture *f, void *Py_UNUSED(closure))
{
    return af_future_alive(f) ? PyBool_FromLong(f->log_tb) : NULL;
}

static int
future_set_log_traceback(AfFuture *f, PyObject *value, void *Py_UNUSED(closure))
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "cannot delete attribute");
        return -1;
    }
    int truth = PyObject_IsTrue(value);
    if (truth < 0) {
        return -1;
    }
    if (truth) {
        PyErr_SetString(PyExc_ValueError, "_log_traceback can only be set to False");
        return -1;
    }
    f->log_tb = 0;
    return 0;
}

static PyObject *
future_get_cancel_message(AfFuture *f, void *Py_UNUSED(closure))
{
    return Py_NewRef(f->cancel_msg == NULL ? Py_None : f->cancel_msg);
}

static int
future_set_cancel_message(AfFuture *f, PyObject *value, void *Py_UNUSED(closure))
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "cannot delete attribute");
        return -1;
    }
    Py_XSETREF(f->cancel_msg, value == Py_None ? NULL : Py_NewRef(value));
    return 0;
}

static PyObject *
future_get_source_traceback(AfFuture *f, void *Py_UNUSED(closure))
{
    return Py_NewRef(f->source_tb == NULL ? Py_None : f->source_tb);
}

#if AF_HAVE_CALL_GRAPH
/* If the callback is the wake-up of a task that waits for f, that task awaits it. */
static int
future_add_waiter_of(AfFuture *f, PyObject *set, PyObject *callback)
{
    PyObject *self = callback != NULL && PyCFunction_Check(callback) ? PyCFunction_GET_SELF(callback) : NULL;
    if (self != NULL && PyObject_TypeCheck(self, f->st->TaskType) && ((AfTask *)self)->waiter == (PyObject *)f) {
        return PySet_Add(set, self);
    }
    return 0;
}

/* What asyncio keeps in its part of the future: those that said so (gather, TaskGroup, asyncio's own tasks). */
static PyObject *
future_noted_awaited_by(AfFuture *f)
{
    PyObject *descr = af_state_of_type(Py_TYPE(f))->asyncio_awaited_by;
    return descr == NULL ? Py_NewRef(Py_None) : Py_TYPE(descr)->tp_descr_get(descr, (PyObject *)f, NULL);
}

/* Who awaits it: those, and the tasks that wait for it directly. */
static PyObject *
future_get_awaited_by(AfFuture *f, void *Py_UNUSED(closure))
{
    PyObject *noted = future_noted_awaited_by(f);
    PyObject *set = noted == NULL ? NULL : PySet_New(noted == Py_None ? NULL : noted);
    Py_XDECREF(noted);
    if (set == NULL) {
        return NULL;
    }
    int rc = f->waiter0 ? PySet_Add(set, f->cb0) : future_add_waiter_of(f, set, f->cb0);
    for (Py_ssize_t i = 0; rc == 0 && f->callbacks != NULL && i < PyList_GET_SIZE(f->callbacks); i++) {
        rc = future_add_waiter_of(f, set, PyTuple_GET_ITEM(PyList_GET_ITEM(f->callbacks, i), 0));
    }
    if (rc < 0 || PySet_GET_SIZE(set) == 0) {
        Py_DECREF(set);
        return rc < 0 ? NULL : Py_NewRef(Py_None);
    }
    PyObject *frozen = PyFrozenSet_New(set);
    Py_DECREF(set);
    return frozen;
}
#  define FUTURE_AWAITED_BY                                                                                            \
    {"_asyncio_awaited_by", (getter)future_get_awaited_by, NULL, "frozenset of the futures that await it, or None.",   \
     NULL},
#else
#  define FUTURE_AWAITED_BY
#endif

/* ---- awaiting --------------------------------------------------------------------------------------------------- */

AF_API PyObject *
af_future_iter(PyObject *self)
{
    AfFuture *f = (AfFuture *)self;
    if (!af_future_alive(f)) {
        return NULL;
    }
    AfState *st = f->st;
    AfFutureIter *it = af_freelist_take(&st->iters, st->FutureIterType);
    if (it == NULL) {
        return NULL;
    }
    it->st = st;
    it->future = (AfFuture *)Py_NewRef(self);
    PyObject_GC_Track(it);
    return (PyObject *)it;
}

static PySendResult
future_iter_am_send(AfFutureIter *it, PyObject *Py_UNUSED(arg), PyObject **result)
{
    AfFuture *f = it->future;
    *result = NULL;
    if (f == NULL) {
        return PYGEN_ERROR;             /* exhausted: StopIteration, as any iterator */
    }
    if (f->state == AF_PENDING) {
        if (!f->blocking) {
            f->blocking = 1;
            *result = Py_NewRef((PyObject *)f);
            return PYGEN_NEXT;
        }
        PyErr_SetString(PyExc_RuntimeError, "await wasn't used with future");
        return PYGEN_ERROR;
    }
    it->future = NULL;
    PyObject *out;
    int rc = af_future_outcome(f, &out);
    Py_DECREF(f);
    if (rc == 0) {
        *result = out;
        return PYGEN_RETURN;
    }
    if (rc > 0) {
        PyErr_SetObject((PyObject *)Py_TYPE(out), out);
        Py_DECREF(out);
    }
    return PYGEN_ERROR;
}

static PyObject *
future_iter_tp_iternext(AfFutureIter *it)
{
    AfState *st = it->future == NULL ? NULL : it->future->st;
    PyObject *result;
    PySendResult how = future_iter_am_send(it, Py_None, &result);
    return af_next(st, how, result);
}

static PyObject *
future_iter_send(AfFutureIter *it, PyObject *Py_UNUSED(value))
{
    PyObject *result;
    PySendResult how = future_iter_am_send(it, Py_None, &result);
    if (how == PYGEN_ERROR && !PyErr_Occurred()) {
        PyErr_SetNone(PyExc_StopIteration);
    }
    return af_sent(how, result);
}

/* As of any coroutine. */
AF_API void
af_never_awaited(PyObject *coroutine)
{
    PyObject *raised = PyErr_GetRaisedException();
    PyObject *name = af_get_attr(coroutine, "__qualname__");
    if (name == NULL || PyErr_WarnFormat(PyExc_RuntimeWarning, 1, "coroutine '%U' was never awaited", name) < 0) {
        PyErr_WriteUnraisable(coroutine);
    }
    Py_XDECREF(name);
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
}

AF_API PyObject *
af_awaited_again(void)
{
    PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
    return NULL;
}

/* throw(exc) and the older throw(type, value, traceback): what is raised goes back to the coroutine that awaits. */
AF_API PyObject *
af_raise_thrown(PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs < 1 || nargs > 3) {
        PyErr_Format(PyExc_TypeError, "throw expected 1 to 3 arguments, got %zd", nargs);
        return NULL;
    }
    PyObject *type = args[0];
    PyObject *value = nargs > 1 && args[1] != Py_None ? args[1] : NULL;
    PyObject *tb = nargs > 2 && args[2] != Py_None ? args[2] : NULL;
    if (nargs > 1 && PyErr_WarnEx(PyExc_DeprecationWarning,
                                  "the (type, exc, tb) signature of throw() is deprecated, "
                                  "use the single-arg signature instead.", 1) < 0) {
        return NULL;
    }
    if (tb != NULL && !PyTraceBack_Check(tb)) {
        PyErr_SetString(PyExc_TypeError, "throw() third argument must be a traceback");
        return NULL;
    }
    if (PyExceptionInstance_Check(type)) {
        if (value != NULL) {
            PyErr_SetString(PyExc_TypeError, "instance exception may not have a separate value");
            return NULL;
        }
        if (tb != NULL && PyException_SetTraceback(type, tb) < 0) {
            return NULL;
        }
        PyErr_SetObject((PyObject *)Py_TYPE(type), type);
        return NULL;
    }
    if (!PyExceptionClass_Check(type)) {
        PyErr_Format(PyExc_TypeError, "exceptions must be classes deriving BaseException or instances of such a class, "
                     "not %s", Py_TYPE(type)->tp_name);
        return NULL;
    }
    PyErr_SetObject(type, value);
    if (tb != NULL) {
        PyObject *exc = PyErr_GetRaisedException();
        PyException_SetTraceback(exc, tb);
        PyErr_SetRaisedException(exc);
    }
    return NULL;
}

static PyObject *
future_iter_throw(AfFutureIter *it, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *res = af_raise_thrown(args, nargs);
    if (!PyErr_ExceptionMatches(PyExc_TypeError)) {
        Py_CLEAR(it->future);
    }
    return res;
}

static PyObject *
future_iter_close(AfFutureIter *it, PyObject *Py_UNUSED(ignored))
{
    Py_CLEAR(it->future);
    Py_RETURN_NONE;
}

static int
future_iter_tp_traverse(AfFutureIter *it, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(it));
    Py_VISIT(it->future);
    return 0;
}

static int
future_iter_tp_clear(AfFutureIter *it)
{
    Py_CLEAR(it->future);
    return 0;
}

static void
future_iter_tp_dealloc(AfFutureIter *it)
{
    PyObject_GC_UnTrack(it);
    Py_CLEAR(it->future);
    af_freelist_give(&it->st->iters, it);
}

static PyMethodDef future_iter_methods[] = {
    {"send", (PyCFunction)future_iter_send, METH_O, "send($self, value, /)\n--\n\nResume; the value is ignored."},
    {"throw", (PyCFunction)(void (*)(void))future_iter_throw, METH_FASTCALL,
     "throw($self, typ, val=None, tb=None, /)\n--\n\nRaise the exception and be finished."},
    {"close", (PyCFunction)future_iter_close, METH_NOARGS, "close($self, /)\n--\n\nBe finished."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot future_iter_slots[] = {
    {Py_tp_doc, (void *)"The iterator of `await future`."},
    {Py_tp_dealloc, future_iter_tp_dealloc},
    {Py_tp_traverse, future_iter_tp_traverse},
    {Py_tp_clear, future_iter_tp_clear},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, future_iter_tp_iternext},
    {Py_am_send, future_iter_am_send},
    {Py_tp_methods, future_iter_methods},
    {0, NULL},
};

static PyType_Spec future_iter_spec = {
    "asyncfast.FutureIter", sizeof(AfFutureIter), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    future_iter_slots,
};

/* ---- life ------------------------------------------------------------------------------------------------------- */

/* The base of our Future, where self is one or derived from it; asked for when the state may be gone. */
static PyTypeObject *
future_base(AfFuture *f)
{
    PyTypeObject *type = Py_TYPE(f);
    while (type->tp_dealloc != future_tp_dealloc) {
        type = type->tp_base;
    }
    return type->tp_base;
}

AF_API int
af_future_traverse(AfFuture *f, visitproc visit, void *arg)
{
#if !AF_ASYNCIO_FUTURE_VISITS_TYPE
    Py_VISIT(Py_TYPE(f));
#endif
    Py_VISIT(f->loop);
    Py_VISIT(f->value);
    Py_VISIT(f->cb0);
    Py_VISIT(f->ctx0);
    Py_VISIT(f->callbacks);
    Py_VISIT(f->exc_tb);
    Py_VISIT(f->source_tb);
    Py_VISIT(f->cancel_msg);
    Py_VISIT(f->cancelled_exc);
    return future_base(f)->tp_traverse((PyObject *)f, visit, arg);
}

AF_API void
af_future_clear_fields(AfFuture *f)
{
    Py_CLEAR(f->loop);
    Py_CLEAR(f->value);
    Py_CLEAR(f->cb0);
    Py_CLEAR(f->ctx0);
    Py_CLEAR(f->callbacks);
    Py_CLEAR(f->exc_tb);
    Py_CLEAR(f->source_tb);
    Py_CLEAR(f->cancel_msg);
    Py_CLEAR(f->cancelled_exc);
}

AF_API void
af_future_clear_base(AfFuture *f)
{
    future_base(f)->tp_clear((PyObject *)f);
}

static int
future_tp_clear(AfFuture *f)
{
    af_future_clear_fields(f);
    af_future_clear_base(f);
    return 0;
}

/* "... exception was never retrieved", to the loop's exception handler.  Keeps the exception that is being raised. */
AF_API void
af_future_report_unretrieved(AfFuture *f)
{
    if (!f->log_tb || f->loop == NULL) {
        return;
    }
    f->log_tb = 0;
    PyObject *raised = PyErr_GetRaisedException();
    const char *name = strrchr(Py_TYPE(f)->tp_name, '.');
    PyObject *message = PyUnicode_FromFormat("%s exception was never retrieved",
                                             name == NULL ? Py_TYPE(f)->tp_name : name + 1);
    PyObject *context = message == NULL ? NULL : Py_BuildValue("{s:O,s:O,s:O}", "message", message, "exception",
                                                               f->value, "future", (PyObject *)f);
    Py_XDECREF(message);
    if (context == NULL ||
        (f->source_tb != NULL && PyDict_SetItemString(context, "source_traceback", f->source_tb) < 0) ||
        af_loop_call_exception_handler(f->st, f->loop, context) < 0) {
        PyErr_WriteUnraisable((PyObject *)f);
    }
    Py_XDECREF(context);
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
}

static void
future_tp_finalize(PyObject *self)
{
    af_future_report_unretrieved((AfFuture *)self);
}

static void
future_tp_dealloc(PyObject *self)
{
    AfFuture *f = (AfFuture *)self;
    int exact = Py_TYPE(self)->tp_dealloc == future_tp_dealloc;
    if (af_unlikely(f->log_tb) && exact) {
        exact = 0;      /* once finalized the memory is marked so for ever: do not recycle it */
        if (PyObject_CallFinalizerFromDealloc(self) < 0) {
            return;     /* somebody took it back */
        }
    }
    PyObject_GC_UnTrack(self);
    if (af_futbase_has_weakrefs(&f->base)) {
        PyObject_ClearWeakRefs(self);
    }
    if (af_unlikely(af_futbase_in_use(&f->base))) {
        exact = 0;      /* some of what asyncio keeps there has no public way back to zero */
        af_future_clear_base(f);
    }
    AfState *st = f->st;
    af_future_clear_fields(f);
    af_freelist_give(exact && st != NULL ? af_freelist_unless_finalized(&st->futures, f) : NULL, f);
}

static int
future_tp_init(AfFuture *f, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"loop", NULL};
    PyObject *loop = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$O:Future", names, &loop)) {
        return -1;
    }
    return af_future_init(f, af_state_of_type(Py_TYPE(f)), loop);
}

static PyMethodDef future_methods[] = {
    {"result", (PyCFunction)future_result, METH_NOARGS,
     "result($self, /)\n--\n\nReturn the result, or raise the exception.\n\n"
     "Raises CancelledError if it was cancelled, InvalidStateError if it is not done."},
    {"exception", (PyCFunction)future_exception, METH_NOARGS,
     "exception($self, /)\n--\n\nReturn the exception that was set, or None.\n\n"
     "Raises CancelledError if it was cancelled, InvalidStateError if it is not done."},
    {"add_done_callback", (PyCFunction)(void (*)(void))future_add_done_callback, METH_FASTCALL | METH_KEYWORDS,
     "add_done_callback($self, fn, /, *, context=<unrepresentable>)\n--\n\n"
     "Call fn(future) through the loop when it is done; soon, if it is.\n\n"
     "context is a contextvars.Context to call it in, a copy of the current one by default."},
    {"remove_done_callback", (PyCFunction)future_remove_done_callback, METH_O,
     "remove_done_callback($self, fn, /)\n--\n\nRemove every callback equal to fn; return how many there were."},
    {"cancelled", (PyCFunction)future_cancelled, METH_NOARGS,
     "cancelled($self, /)\n--\n\nReturn True if it was cancelled."},
    {"done", (PyCFunction)future_done, METH_NOARGS,
     "done($self, /)\n--\n\nReturn True if it has a result or an exception, or was cancelled."},
    {"get_loop", (PyCFunction)future_get_loop, METH_NOARGS, "get_loop($self, /)\n--\n\nReturn its loop."},
    {"_make_cancelled_error", (PyCFunction)future_make_cancelled_error, METH_NOARGS,
     "_make_cancelled_error($self, /)\n--\n\nReturn the CancelledError to raise; at most once the original one."},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS,
     "__class_getitem__($cls, item, /)\n--\n\nFuture[int] and the like, for annotations."},
    {"set_result", (PyCFunction)future_set_result, METH_O,
     "set_result($self, result, /)\n--\n\nMark it done with this result.\n\nRaises InvalidStateError if it is done."},
    {"set_exception", (PyCFunction)future_set_exception, METH_O,
     "set_exception($self, exception, /)\n--\n\nMark it done with this exception, a class or an instance.\n\n"
     "Raises InvalidStateError if it is done, TypeError if that is no exception."},
    {"cancel", (PyCFunction)(void (*)(void))future_cancel, METH_FASTCALL | METH_KEYWORDS,
     "cancel($self, /, msg=None)\n--\n\nCancel it and schedule its callbacks; False if it is done already."},
    {"_repr_info", (PyCFunction)future_repr_info, METH_NOARGS,
     "_repr_info($self, /)\n--\n\nParts of the repr, as a list."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef future_getset[] = {
    {"_state", (getter)future_get_state, NULL, "'PENDING', 'CANCELLED' or 'FINISHED'.", NULL},
    {"_asyncio_future_blocking", (getter)future_get_blocking, (setter)future_set_blocking,
     "True between the yield of `await` and the task that takes note of it.", NULL},
    {"_loop", (getter)future_get_private_loop, NULL, "The loop.", NULL},
    {"_callbacks", (getter)future_get_callbacks, NULL, "[(callback, context), ...] or None.", NULL},
    {"_result", (getter)future_get_result, NULL, "The result, or None.", NULL},
    {"_exception", (getter)future_get_exception, NULL, "The exception, or None.", NULL},
    {"_log_traceback", (getter)future_get_log_traceback, (setter)future_set_log_traceback,
     "True while an exception waits to be retrieved; may be set to False.", NULL},
    {"_cancel_message", (getter)future_get_cancel_message, (setter)future_set_cancel_message,
     "The message given to cancel(), or None.", NULL},
    {"_source_traceback", (getter)future_get_source_traceback, NULL, "Where it was made (debug mode), or None.",
     NULL},
    FUTURE_AWAITED_BY
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot future_slots[] = {
    {Py_tp_doc, (void *)"Future(*, loop=None)\n--\n\nA result that is not there yet.  Has all of asyncio.Future."},
    {Py_tp_init, future_tp_init},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_dealloc, future_tp_dealloc},
    {Py_tp_finalize, future_tp_finalize},
    {Py_tp_traverse, af_future_traverse},
    {Py_tp_clear, future_tp_clear},
    {Py_tp_repr, future_tp_repr},
    {Py_tp_iter, af_future_iter},
    {Py_am_await, af_future_iter},
    {Py_tp_methods, future_methods},
    {Py_tp_getset, future_getset},
    {0, NULL},
};

static PyType_Spec future_spec = {
    "asyncfast.Future", sizeof(AfFuture), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    future_slots,
};

AF_API int
af_future_setup(PyObject *module, AfState *st)
{
    st->FutureIterType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &future_iter_spec, NULL);
    if (st->FutureIterType == NULL) {
        return -1;
    }
    PyTypeObject *base = af_futbase_type(module, st);
    if (base == NULL) {
        return -1;
    }
    st->FutureType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &future_spec, (PyObject *)base);
    int rc = st->FutureType == NULL || af_type_shrink_inline_values(st->FutureType) < 0
                 ? -1 : PyModule_AddType(module, st->FutureType);
#if AF_HAVE_CALL_GRAPH
    if (rc == 0) {
        rc = af_lookup_attr((PyObject *)base, st->str_asyncio_awaited_by, &st->asyncio_awaited_by) < 0 ? -1 : 0;
    }
#endif
    Py_DECREF(base);
    return rc;
}
