/* Tasks.  A task belongs to its loop's thread.
   Runs Python: stepping (the coroutine), and whatever a dropped reference runs.

   On one of our loops a step costs no allocation: the task itself is the ready entry, the future it waits for points at
   it, and asyncio's idea of the current task is changed only when it differs.  On any other loop the task does as
   asyncio's own does: call_soon() and add_done_callback() with bound methods.

   Registry: a task that is not done is linked into its loop's list, where asyncio.all_tasks() finds it.  While "owned"
   the list holds a reference, so that a task which is scheduled or waits is never collected.  In debug mode it does
   not: a task that waits for what nobody can bring about any more is then collected and reported, as on asyncio. */
#include "core/task.h"

#include "core/context.h"
#include "core/park.h"
#include "rt/args.h"

static void task_tp_dealloc(PyObject *self);

AF_API int
af_task_is_exact(PyObject *o)
{
    return Py_TYPE(o)->tp_dealloc == task_tp_dealloc;
}

/* ---- scheduling ------------------------------------------------------------------------------------------------- */

static PyObject *task_step_method(AfTask *t, PyObject *ignored);
static PyObject *task_wakeup_method(AfTask *t, PyObject *fut);

static PyMethodDef task_step_def = {
    "task_step", (PyCFunction)task_step_method, METH_NOARGS, "task_step($self, /)\n--\n\nResume the coroutine.",
};

static PyMethodDef task_wakeup_def = {
    "task_wakeup", (PyCFunction)task_wakeup_method, METH_O,
    "task_wakeup($self, future, /)\n--\n\nResume the coroutine: what it awaited is done.",
};

AF_API PyObject *
af_task_own_context(AfTask *t)
{
    if (t->fut.shared_context == AF_CONTEXT_RUNNING) {
        t->fut.shared_context = AF_CONTEXT_OWN;         /* the runner it is in now is its own */
    }
    else if (t->fut.shared_context == AF_CONTEXT_PRISTINE) {
        PyObject *copy = PyContext_Copy(t->context);
        if (copy == NULL) {
            return NULL;
        }
        t->fut.shared_context = AF_CONTEXT_OWN;
        Py_SETREF(t->context, copy);
    }
    return t->context;
}

AF_API PyObject *
af_task_wakeup_callable(AfTask *t)
{
    return PyCFunction_New(&task_wakeup_def, (PyObject *)t);
}

static int
task_schedule_foreign(AfTask *t, int (*call_soon)(AfState *, PyObject *, PyObject *, PyObject *, PyObject *))
{
    PyObject *step = PyCFunction_New(&task_step_def, (PyObject *)t);
    if (step == NULL) {
        return -1;
    }
    PyObject *context = af_task_own_context(t);
    int rc = context == NULL ? -1 : call_soon(t->fut.st, t->fut.loop, step, NULL, context);
    Py_DECREF(step);
    return rc;
}

AF_API int
af_task_schedule(AfTask *t)
{
    AfLoop *loop = af_loop_fast(t->fut.st, t->fut.loop);
    if (af_likely(loop != NULL)) {
        if (af_unlikely(loop->closed | loop->debug) && af_loop_check_schedule(loop) < 0) {
            return -1;
        }
        return af_loop_push_steal(loop, Py_NewRef((PyObject *)t), AF_ENTRY_TASK);
    }
    return task_schedule_foreign(t, af_call_soon);
}

AF_API int
af_task_schedule_threadsafe(AfTask *t)
{
    AfLoop *loop = af_loop_fast(t->fut.st, t->fut.loop);
    if (loop == NULL) {
        return task_schedule_foreign(t, af_call_soon_threadsafe);
    }
    if (af_loop_check_closed(loop) < 0 || af_loop_push_steal(loop, Py_NewRef((PyObject *)t), AF_ENTRY_TASK) < 0) {
        return -1;
    }
    af_loop_wake(loop);
    return 0;
}

/* Throw this into the coroutine at the next step.  exc is stolen; NULL means that making it failed. */
static int
task_schedule_throw(AfTask *t, PyObject *exc)
{
    if (exc == NULL) {
        return -1;
    }
    Py_XSETREF(t->fut.value, exc);      /* free to use while pending */
    return af_task_schedule(t);
}

/* ---- registry --------------------------------------------------------------------------------------------------- */

static int
task_register(AfTask *t)
{
    if (PyObject_TypeCheck(t->fut.loop, t->fut.st->LoopType)) {
        AfLoop *loop = (AfLoop *)t->fut.loop;
        if (!af_list_linked(&t->link)) {
            af_list_append(&loop->tasks, &t->link);
        }
        if (!t->fut.owned && !loop->debug) {
            t->fut.owned = 1;
            Py_INCREF(t);
        }
        return 0;
    }
    PyObject *res = PyObject_CallOneArg(t->fut.st->register_task, (PyObject *)t);
    Py_XDECREF(res);
    return res == NULL ? -1 : 0;
}

/* It is done.  The caller holds a reference of its own. */
static void
task_unregister(AfTask *t)
{
    if (af_list_linked(&t->link)) {
        af_list_remove(&t->link);
    }
    if (t->fut.owned) {
        t->fut.owned = 0;
        Py_DECREF(t);
    }
}

AF_API void
af_task_disown_all(AfLoop *loop)
{
    /* Dropping one may run Python that drops or finishes others: start again from the head each time.  A task that
       somebody else holds stays in the list, at the end, and all_tasks() still shows it. */
    af_link later;
    af_list_init(&later);
    while (loop->tasks.next != &loop->tasks) {
        af_link *link = loop->tasks.next;
        AfTask *t = af_container_of(link, AfTask, link);
        af_list_remove(link);
        af_list_append(&later, link);
        if (t->fut.owned) {
            t->fut.owned = 0;
            Py_DECREF(t);
        }
    }
    while (later.next != &later) {
        af_link *link = later.next;
        af_list_remove(link);
        af_list_append(&loop->tasks, link);
    }
}

/* ---- finishing -------------------------------------------------------------------------------------------------- */

static int
task_finish_result(AfTask *t, PyObject *value)
{
    int rc;
    if (af_unlikely(t->fut.must_cancel)) {
        t->fut.must_cancel = 0;         /* cancelled just before the coroutine returned */
        PyObject *msg = Py_XNewRef(t->fut.cancel_msg);
        rc = af_future_cancel(&t->fut, msg) < 0 ? -1 : 0;
        Py_XDECREF(msg);
    }
    else {
        rc = af_future_set_result(&t->fut, value);
    }
    task_unregister(t);
    return rc;
}

/* The coroutine raised (the exception is set). */
static int
task_finish_error(AfTask *t)
{
    AfState *st = t->fut.st;
    PyObject *exc = PyErr_GetRaisedException();
    int rc, fatal = 0;
    if (PyErr_GivenExceptionMatches(exc, st->CancelledError)) {
        Py_XSETREF(t->fut.cancelled_exc, Py_NewRef(exc));       /* to be chained by whoever awaits */
        rc = af_future_cancel(&t->fut, NULL) < 0 ? -1 : 0;
    }
    else {
        fatal = PyErr_GivenExceptionMatches(exc, PyExc_KeyboardInterrupt) ||
                PyErr_GivenExceptionMatches(exc, PyExc_SystemExit);
        rc = af_future_set_exception(&t->fut, exc);
    }
    task_unregister(t);
    if (rc == 0 && fatal) {
        PyErr_SetRaisedException(exc);
        return -1;
    }
    Py_DECREF(exc);
    return rc;
}

/* ---- what the coroutine yielded --------------------------------------------------------------------------------- */

static PyObject *
task_error(AfTask *t, const char *format, PyObject *yielded)
{
    PyObject *text = PyUnicode_FromFormat(format, (PyObject *)t, yielded);
    PyObject *exc = text == NULL ? NULL : PyObject_CallOneArg(PyExc_RuntimeError, text);
    Py_XDECREF(text);
    return exc;
}

static PyObject *
task_bad_yield(PyObject *yielded)
{
    PyObject *text = PyUnicode_FromFormat("Task got bad yield: %R", yielded);
    PyObject *exc = text == NULL ? NULL : PyObject_CallOneArg(PyExc_RuntimeError, text);
    Py_XDECREF(text);
    return exc;
}

/* fut.cancel(msg=...), through whatever cancel() it has.  1, 0, -1. */
static int
task_cancel_waited(AfTask *t, PyObject *waited, PyObject *msg)
{
    if (af_future_is_exact(waited)) {
        return af_future_cancel((AfFuture *)waited, msg);
    }
    PyObject *stack[2] = {waited, msg == NULL ? Py_None : msg};
    PyObject *res = PyObject_VectorcallMethod(t->fut.st->str_cancel, stack, 1, t->fut.st->kw_msg);
    int truth = res == NULL ? -1 : PyObject_IsTrue(res);
    Py_XDECREF(res);
    return truth;
}

/* A future of ours, its blocking flag set by `await`. */
static int
task_wait_for_ours(AfTask *t, AfFuture *f)
{
    if (af_unlikely(f->loop != t->fut.loop)) {
        return task_schedule_throw(t, task_error(t, "Task %R got Future %R attached to a different loop", (PyObject *)f));
    }
    if (af_unlikely((PyObject *)f == (PyObject *)t)) {
        return task_schedule_throw(t, task_error(t, "Task cannot await on itself: %R", NULL));
    }
    f->blocking = 0;
    t->waiter = Py_NewRef((PyObject *)f);
    if (af_future_add_waiter(f, t) < 0) {
        return -1;
    }
    if (af_unlikely(t->fut.must_cancel)) {
        int rc = task_cancel_waited(t, (PyObject *)f, t->fut.cancel_msg);
        if (rc < 0) {
            return -1;
        }
        if (rc) {
            t->fut.must_cancel = 0;
        }
    }
    return 0;
}

static PyObject *
task_loop_of(AfState *st, PyObject *fut)
{
    PyObject *get_loop = NULL;
    if (af_lookup_attr(fut, st->str_get_loop, &get_loop) < 0) {
        return NULL;
    }
    if (get_loop != NULL) {
        PyObject *loop = PyObject_CallNoArgs(get_loop);
        Py_DECREF(get_loop);
        return loop;
    }
    return PyObject_GetAttr(fut, st->str_private_loop);
}

/* Anything else with _asyncio_future_blocking: asyncio's futures, subclasses, look-alikes. */
static int
task_wait_for_foreign(AfTask *t, PyObject *fut, int blocking)
{
    AfState *st = t->fut.st;
    PyObject *loop = task_loop_of(st, fut);
    if (loop == NULL) {
        return -1;
    }
    int same = loop == t->fut.loop;
    Py_DECREF(loop);
    if (!same) {
        return task_schedule_throw(t, task_error(t, "Task %R got Future %R attached to a different loop", fut));
    }
    if (!blocking) {
        return task_schedule_throw(t, task_error(t, "yield was used instead of yield from in task %R with %R", fut));
    }
    if (fut == (PyObject *)t) {
        return task_schedule_throw(t, task_error(t, "Task cannot await on itself: %R", NULL));
    }
    if (PyObject_SetAttr(fut, st->str_asyncio_future_blocking, Py_False) < 0) {
        return -1;
    }
    PyObject *context = af_task_own_context(t);
    PyObject *wakeup = context == NULL ? NULL : af_task_wakeup_callable(t);
    if (wakeup == NULL) {
        return -1;
    }
    PyObject *stack[3] = {fut, wakeup, context};
    PyObject *res = PyObject_VectorcallMethod(st->str_add_done_callback, stack, 2, st->kw_context);
    Py_DECREF(wakeup);
    if (res == NULL) {
        return -1;
    }
    Py_DECREF(res);
    Py_XSETREF(t->waiter, Py_NewRef(fut));
    if (t->fut.must_cancel) {
        int rc = task_cancel_waited(t, fut, t->fut.cancel_msg);
        if (rc < 0) {
            return -1;
        }
        if (rc) {
            t->fut.must_cancel = 0;
        }
    }
    return 0;
}

static int
task_wait_for_park(AfTask *t, AfPark *p)
{
    af_park_attach(p, t);
    t->waiter = Py_NewRef((PyObject *)p);
    if (af_unlikely(t->fut.must_cancel)) {
        int rc = af_park_cancel(p);
        if (rc < 0) {
            return -1;
        }
        if (rc) {
            t->fut.must_cancel = 0;
        }
    }
    return 0;
}

/* It has been yielded just now, and nobody waits for it. */
static inline int
task_can_take_park(AfTask *t, PyObject *yielded)
{
    AfPark *p = (AfPark *)yielded;
    return af_park_is(t->fut.st, yielded) && p->begun && p->waiter == NULL && p->loop == t->fut.loop;
}

static int
task_yielded(AfTask *t, PyObject *yielded)
{
    if (yielded == Py_None) {
        return af_task_schedule(t);             /* bare yield: let the others run */
    }
    if (af_likely(af_future_is_exact(yielded) || af_task_is_exact(yielded)) && ((AfFuture *)yielded)->blocking) {
        return task_wait_for_ours(t, (AfFuture *)yielded);
    }
    if (task_can_take_park(t, yielded)) {
        return task_wait_for_park(t, (AfPark *)yielded);
    }
    PyObject *blocking = NULL;
    if (af_lookup_attr(yielded, t->fut.st->str_asyncio_future_blocking, &blocking) < 0) {
        return -1;
    }
    if (blocking != NULL && blocking != Py_None) {
        int truth = PyObject_IsTrue(blocking);
        Py_DECREF(blocking);
        return truth < 0 ? -1 : task_wait_for_foreign(t, yielded, truth);
    }
    Py_XDECREF(blocking);
    return task_schedule_throw(t, PyGen_CheckExact(yielded)
        ? task_error(t, "yield was used instead of yield from for generator in task %R with %R", yielded)
        : task_bad_yield(yielded));
}

/* ---- stepping --------------------------------------------------------------------------------------------------- */

/* A method returned: a value is a yield, StopIteration a return. */
static PySendResult
task_classify(PyObject **result)
{
    if (*result != NULL) {
        return PYGEN_NEXT;
    }
    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) {
        return PYGEN_ERROR;
    }
    PyObject *stop = PyErr_GetRaisedException();
    PyObject *value = ((PyStopIterationObject *)stop)->value;
    *result = Py_NewRef(value == NULL ? Py_None : value);
    Py_DECREF(stop);
    return PYGEN_RETURN;
}

static PySendResult
task_throw(AfTask *t, PyObject *exc, PyObject **result)
{
    *result = PyObject_CallMethodOneArg(t->coro, t->fut.st->str_throw, exc);
    return task_classify(result);
}

/* Coroutines in C extensions may have send() and no am_send nor tp_iternext. */
static PySendResult
task_send(AfTask *t, PyObject **result)
{
    PyTypeObject *type = Py_TYPE(t->coro);
    if (af_likely((type->tp_as_async != NULL && type->tp_as_async->am_send != NULL) || PyIter_Check(t->coro))) {
        return PyIter_Send(t->coro, Py_None, result);
    }
    *result = PyObject_CallMethodOneArg(t->coro, t->fut.st->str_send, Py_None);
    return task_classify(result);
}

/* Resume the coroutine, in the context and with the current task set by the caller, and deal with what it did.
   exc (stolen) is thrown into it, NULL: it is sent None.  0, or -1 with an exception for the loop's caller. */
static int
task_drive(AfTask *t, PyObject *exc)
{
    AfState *st = t->fut.st;
    PyObject *result;
    PySendResult how;
    AfLoop *loop = af_loop_fast(st, t->fut.loop);
    struct AfTask *outer_task = loop == NULL ? NULL : loop->stepping;
    st->stepping = loop;
    if (af_likely(loop != NULL)) {
        loop->stepping = t;
    }
    if (af_likely(exc == NULL)) {
        how = task_send(t, &result);
    }
    else {
        how = task_throw(t, exc, &result);
        Py_DECREF(exc);
    }
    /* never what stood there before: that may be another thread's loop, gone by now */
    st->stepping = outer_task == NULL ? NULL : loop;
    if (af_likely(loop != NULL)) {
        loop->stepping = outer_task;
    }
    int rc;
    switch (how) {
    case PYGEN_NEXT:
        rc = task_yielded(t, result);
        Py_DECREF(result);
        return rc;
    case PYGEN_RETURN:
        rc = task_finish_result(t, result);
        Py_DECREF(result);
        return rc;
    default:
        return task_finish_error(t);
    }
}

/* What is to be thrown at this step, or NULL; -1 in *rc if finding out failed. */
static PyObject *
task_take_exception(AfTask *t, int *rc)
{
    PyObject *exc = t->fut.value;
    PyObject *waited = t->waiter;
    t->fut.value = NULL;
    t->waiter = NULL;
    *rc = 0;
    if (waited != NULL) {
        if (exc == NULL && (af_future_is_exact(waited) || af_task_is_exact(waited))) {
            AfFuture *f = (AfFuture *)waited;
            if (f->state == AF_CANCELLED || f->failed) {
                *rc = af_future_outcome(f, &exc) < 0 ? -1 : 0;
            }
        }
        else if (exc == NULL && af_park_is(t->fut.st, waited) && ((AfPark *)waited)->cancelled) {
            exc = af_future_make_cancelled_error(&t->fut);
            *rc = exc == NULL ? -1 : 0;
        }
        Py_DECREF(waited);
    }
    if (af_unlikely(t->fut.must_cancel) && *rc == 0) {
        t->fut.must_cancel = 0;
        if (exc == NULL || !PyErr_GivenExceptionMatches(exc, t->fut.st->CancelledError)) {
            Py_XSETREF(exc, af_future_make_cancelled_error(&t->fut));
            *rc = exc == NULL ? -1 : 0;
        }
    }
    return exc;
}

/* The step itself failed before or after the coroutine ran (its context is entered already, say): asyncio's handle
   reports such a thing to the exception handler and the loop goes on. */
static int
task_report(AfTask *t)
{
    if (af_raised_exit()) {
        return -1;
    }
    PyObject *exc = PyErr_GetRaisedException();
    int rc = af_call_hook_handling(t->fut.st, exc, "step_failed", "OO", (PyObject *)t, exc);
    Py_DECREF(exc);
    return rc;
}

/* In a context of its own.  exc is stolen. */
static int
task_drive_in(AfTask *t, PyObject *context, PyObject *exc)
{
    if (af_unlikely(PyContext_Enter(context) < 0)) {
        Py_XDECREF(exc);
        return -1;
    }
    int rc = task_drive(t, exc);
    return af_unlikely(PyContext_Exit(context) < 0) ? -1 : rc;
}

/* In the loop's runner, until the task changes a variable: then the runner becomes its own context. */
static inline int
task_drive_shared(AfTask *t, AfLoop *loop, PyObject *exc)
{
    PyObject *pristine = t->context;
    PyObject *runner = af_context_run(loop, pristine);
    if (af_unlikely(runner == NULL)) {
        Py_XDECREF(exc);
        return -1;
    }
    t->context = Py_NewRef(runner);
    t->fut.shared_context = AF_CONTEXT_RUNNING;
    int rc = task_drive(t, exc);
    af_context_done(loop, runner, pristine, &t->context, &t->fut.shared_context);
    return rc;
}

AF_API int
af_task_step(AfTask *t)
{
    if (af_unlikely(t->fut.state != AF_PENDING)) {
        PyErr_Format(t->fut.st->InvalidStateError, "__step(): already done: %R", (PyObject *)t);
        return task_report(t);
    }
    int rc = 0;
    PyObject *exc = NULL;
    if (t->waiter != NULL || t->fut.value != NULL || t->fut.must_cancel) {
        exc = task_take_exception(t, &rc);
    }
    if (af_unlikely(rc < 0)) {
        return task_report(t);
    }
    AfLoop *loop = (AfLoop *)t->fut.loop;
    if (loop->told_current != (PyObject *)t) {
        if (af_loop_tell_current(loop, (PyObject *)t) < 0) {
            Py_XDECREF(exc);
            return task_report(t);
        }
    }
    rc = t->fut.shared_context ? task_drive_shared(t, loop, exc) : task_drive_in(t, t->context, exc);
    return af_likely(rc == 0) ? 0 : task_report(t);
}

/* Called by another loop, in our context already. */
static PyObject *
task_step_foreign(AfTask *t)
{
    int rc;
    if (t->fut.state != AF_PENDING) {
        PyErr_Format(t->fut.st->InvalidStateError, "__step(): already done: %R", (PyObject *)t);
        return NULL;
    }
    PyObject *prev, *now;
    PyObject *exc = task_take_exception(t, &rc);
    if (rc < 0 || af_current_swap(t->fut.st, t->fut.loop, (PyObject *)t, &prev) < 0) {
        Py_XDECREF(exc);
        return NULL;
    }
    Py_INCREF(t);
    rc = task_drive(t, exc);
    PyObject *raised = PyErr_GetRaisedException();
    if (af_current_swap(t->fut.st, t->fut.loop, prev, &now) < 0) {
        PyErr_WriteUnraisable((PyObject *)t);
    }
    else {
        Py_XDECREF(now);
    }
    Py_XDECREF(prev);
    Py_DECREF(t);
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
task_step_method(AfTask *t, PyObject *Py_UNUSED(ignored))
{
    return task_step_foreign(t);
}

/* A future that is not ours is done (or ours, with other callbacks before this one). */
static PyObject *
task_wakeup_method(AfTask *t, PyObject *fut)
{
    if (t->fut.state == AF_PENDING && !af_future_is_exact(fut) && !af_task_is_exact(fut)) {
        PyObject *res = PyObject_CallMethodNoArgs(fut, t->fut.st->str_result);
        if (res == NULL) {      /* whatever it is, SystemExit too: it is the coroutine's */
            Py_XSETREF(t->fut.value, PyErr_GetRaisedException());
        }
        Py_XDECREF(res);
    }
    return task_step_foreign(t);
}

/* ---- making ----------------------------------------------------------------------------------------------------- */

static int
task_check_coroutine(AfState *st, PyObject *coro)
{
    if (af_likely(PyCoro_CheckExact(coro))) {
        return 0;
    }
    int known = PySet_Contains(st->coroutine_types, (PyObject *)Py_TYPE(coro));
    if (known != 0) {
        return known < 0 ? -1 : 0;
    }
    PyObject *res = PyObject_CallOneArg(st->iscoroutine, coro);
    int truth = res == NULL ? -1 : PyObject_IsTrue(res);
    Py_XDECREF(res);
    if (truth < 0) {
        return -1;
    }
    if (!truth) {
        PyErr_Format(PyExc_TypeError, "a coroutine was expected, got %R", coro);
        return -1;
    }
    return PySet_GET_SIZE(st->coroutine_types) < 100 ? PySet_Add(st->coroutine_types, (PyObject *)Py_TYPE(coro)) : 0;
}

static uintptr_t
task_pack_name(AfState *st, PyObject *name)
{
    if (name == NULL || name == Py_None) {
        return ((uintptr_t)++st->task_counter << 1) | 1;
    }
    PyObject *text = PyUnicode_CheckExact(name) ? Py_NewRef(name) : PyObject_Str(name);
    return (uintptr_t)text;
}

static void
task_drop_name(AfTask *t)
{
    if (!(t->name & 1)) {
        Py_XDECREF((PyObject *)t->name);
    }
    t->name = 0;
}

static int
task_loop_is_running(AfTask *t)
{
    AfLoop *fast = af_loop_fast(t->fut.st, t->fut.loop);
    if (fast != NULL) {
        return fast->thread != 0;
    }
    PyObject *res = PyObject_CallMethodNoArgs(t->fut.loop, t->fut.st->str_is_running);
    int truth = res == NULL ? -1 : PyObject_IsTrue(res);
    Py_XDECREF(res);
    return truth;
}

/* Eager start: the first step now, inside whatever runs; it is registered like any other if it did not finish. */
static int
task_start_eagerly(AfTask *t)
{
    AfState *st = t->fut.st;
    PyObject *prev, *now;
    if (af_current_swap(st, t->fut.loop, (PyObject *)t, &prev) < 0) {
        return -1;
    }
    int rc = 0, ours = PyObject_TypeCheck(t->fut.loop, st->LoopType);
    if (ours) {
        af_list_append(&((AfLoop *)t->fut.loop)->tasks, &t->link);
    }
    else {
        PyObject *res = PyObject_CallOneArg(st->register_eager_task, (PyObject *)t);
        rc = res == NULL ? -1 : 0;
        Py_XDECREF(res);
    }
    if (rc == 0) {
        PyObject *context = af_task_own_context(t);
        rc = context == NULL ? -1 : task_drive_in(t, context, NULL);
    }
    PyObject *raised = PyErr_GetRaisedException();
    if (!ours) {
        PyObject *res = PyObject_CallOneArg(st->unregister_eager_task, (PyObject *)t);
        Py_XDECREF(res);
        PyErr_Clear();
    }
    if (af_current_swap(st, t->fut.loop, prev, &now) < 0) {
        PyErr_WriteUnraisable((PyObject *)t);
    }
    else {
        Py_XDECREF(now);
    }
    Py_XDECREF(prev);
    if (t->fut.state != AF_PENDING) {
        Py_CLEAR(t->coro);
    }
    else if (rc == 0) {
        rc = task_register(t);
    }
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
        return -1;
    }
    return rc;
}

/* The rest of construction, once fut is initialised: fields are zero or belong to an earlier __init__. */
static int
task_start(AfTask *t, PyObject *coro, PyObject *name, PyObject *context, int eager)
{
    AfState *st = t->fut.st;
    PyObject *ctx;
    t->fut.shared_context = AF_CONTEXT_OWN;
    if (context != NULL && context != Py_None) {
        ctx = Py_NewRef(context);
    }
    else {
        AfLoop *fast = af_loop_fast(st, t->fut.loop);
        ctx = fast != NULL ? af_context_take(fast, &t->fut.shared_context) : PyContext_CopyCurrent();
    }
    if (ctx == NULL) {
        return -1;
    }
    Py_XSETREF(t->context, ctx);
    Py_XSETREF(t->coro, Py_NewRef(coro));
    Py_CLEAR(t->waiter);
    task_drop_name(t);
    t->name = task_pack_name(st, name);
    if (t->name == 0) {
        return -1;
    }
    t->num_cancels = 0;
    if (!PyContext_CheckExact(ctx)) {
        PyErr_Format(PyExc_TypeError, "a contextvars.Context was expected, got %R", ctx);
        return -1;
    }
    t->fut.log_destroy = 1;
    if (af_unlikely(eager)) {
        int running = task_loop_is_running(t);
        if (running != 0) {
            return running < 0 ? -1 : task_start_eagerly(t);
        }
    }
    return af_task_schedule(t) < 0 ? -1 : task_register(t);
}

AF_API PyObject *
af_task_new(AfLoop *loop, PyObject *coro, PyObject *name, PyObject *context, int eager)
{
    AfState *st = loop->st;
    if (task_check_coroutine(st, coro) < 0) {
        return NULL;
    }
    AfTask *t = af_freelist_take(&st->tasks, st->TaskType);
    if (t == NULL) {
        return NULL;
    }
    t->fut.st = st;
    t->fut.loop = Py_NewRef((PyObject *)loop);
    t->fut.state = AF_PENDING;
    t->fut.failed = t->fut.log_tb = t->fut.blocking = t->fut.waiter0 = t->fut.must_cancel = t->fut.owned = 0;
    t->fut.log_destroy = 0;
    PyObject_GC_Track(t);
    if (af_unlikely(loop->debug)) {
        t->fut.source_tb = PyObject_CallNoArgs(st->extract_stack);
        if (t->fut.source_tb == NULL) {
            Py_DECREF(t);
            return NULL;
        }
    }
    if (task_start(t, coro, name, context, eager) < 0) {
        Py_DECREF(t);
        return NULL;
    }
    return (PyObject *)t;
}

static int
task_tp_init(AfTask *t, PyObject *args, PyObject *kwargs)
{
#if AF_HAVE_EAGER_TASKS
    static char *names[] = {"coro", "loop", "name", "context", "eager_start", NULL};
    static const char format[] = "O|$OOOp:Task";
#else
    static char *names[] = {"coro", "loop", "name", "context", NULL};
    static const char format[] = "O|$OOO:Task";
#endif
    PyObject *coro, *loop = NULL, *name = NULL, *context = NULL;
    int eager = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &coro, &loop, &name, &context, &eager)) {
        return -1;
    }
    if (!AF_INIT_ONCE) {
        task_unregister(t);
    }
    AfState *st = af_state_of_type(Py_TYPE(t));
    if (af_future_init(&t->fut, st, loop) < 0) {
        return -1;
    }
    t->fut.log_destroy = 0;
    if (task_check_coroutine(st, coro) < 0) {
        return -1;
    }
    return task_start(t, coro, name, context, eager);
}

/* ---- methods ---------------------------------------------------------------------------------------------------- */

static PyObject *
task_cancel(AfTask *t, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *msg;
    if (!af_future_alive(&t->fut) || af_args_cancel_msg(t->fut.st, args, nargs, kwnames, &msg) < 0) {
        return NULL;
    }
    t->fut.log_tb = 0;
    if (t->fut.state != AF_PENDING) {
        Py_RETURN_FALSE;
    }
    t->num_cancels++;
    PyObject *waited = t->waiter;
    if (waited != NULL) {
        int rc;
        Py_INCREF(waited);
        if (af_park_is(t->fut.st, waited)) {
            AfPark *park = (AfPark *)waited;
            if (park->waiting) {
                Py_XSETREF(t->fut.cancel_msg, msg == NULL || msg == Py_None ? NULL : Py_NewRef(msg));
            }
            else if (park->cancelled) {
                msg = t->fut.cancel_msg;        /* it raises what it was cancelled with first, as a future does */
            }
            rc = af_park_cancel(park);
        }
        else {
            rc = task_cancel_waited(t, waited, msg);
        }
        Py_DECREF(waited);
        if (rc != 0) {
            /* the waiter stays: it may be a task that swallows the cancellation and has to be cancelled again */
            return rc < 0 ? NULL : Py_NewRef(Py_True);
        }
    }
    t->fut.must_cancel = 1;
    Py_XSETREF(t->fut.cancel_msg, msg == NULL || msg == Py_None ? NULL : Py_NewRef(msg));
    Py_RETURN_TRUE;
}

static PyObject *
task_cancelling(AfTask *t, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(t->num_cancels);
}

static PyObject *
task_uncancel(AfTask *t, PyObject *Py_UNUSED(ignored))
{
    if (t->num_cancels > 0) {
        t->num_cancels--;
#if AF_UNCANCEL_FORGETS
        if (t->num_cancels == 0) {
            t->fut.must_cancel = 0;
        }
#endif
    }
    return PyLong_FromLong(t->num_cancels);
}

static PyObject *
task_get_stack(AfTask *t, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"limit", NULL};
    PyObject *limit = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$O:get_stack", names, &limit) || !af_future_alive(&t->fut)) {
        return NULL;
    }
    return PyObject_CallFunctionObjArgs(t->fut.st->task_get_stack, (PyObject *)t, limit, NULL);
}

static PyObject *
task_print_stack(AfTask *t, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"limit", "file", NULL};
    PyObject *limit = Py_None, *file = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$OO:print_stack", names, &limit, &file) ||
        !af_future_alive(&t->fut)) {
        return NULL;
    }
    return PyObject_CallFunctionObjArgs(t->fut.st->task_print_stack, (PyObject *)t, limit, file, NULL);
}

static PyObject *
task_refuse_set_result(AfTask *Py_UNUSED(t), PyObject *Py_UNUSED(result))
{
    PyErr_SetString(PyExc_RuntimeError, "Task does not support set_result operation");
    return NULL;
}

static PyObject *
task_refuse_set_exception(AfTask *Py_UNUSED(t), PyObject *Py_UNUSED(exception))
{
    PyErr_SetString(PyExc_RuntimeError, "Task does not support set_exception operation");
    return NULL;
}

static PyObject *
task_get_coro(AfTask *t, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(t->coro == NULL ? Py_None : t->coro);
}

#if AF_HAVE_GET_CONTEXT
static PyObject *
task_get_context(AfTask *t, PyObject *Py_UNUSED(ignored))
{
    return t->context == NULL ? Py_NewRef(Py_None) : Py_XNewRef(af_task_own_context(t));
}
#endif

static PyObject *
task_get_name(AfTask *t, PyObject *Py_UNUSED(ignored))
{
    if (t->name & 1) {
        PyObject *name = PyUnicode_FromFormat("Task-%zu", (size_t)(t->name >> 1));
        if (name == NULL) {
            return NULL;
        }
        t->name = (uintptr_t)name;
    }
    return Py_NewRef(t->name == 0 ? Py_None : (PyObject *)t->name);
}

static PyObject *
task_set_name(AfTask *t, PyObject *name)
{
    PyObject *text = PyUnicode_CheckExact(name) ? Py_NewRef(name) : PyObject_Str(name);
    if (text == NULL) {
        return NULL;
    }
    task_drop_name(t);
    t->name = (uintptr_t)text;
    Py_RETURN_NONE;
}

static PyObject *
task_repr_info(AfTask *t, PyObject *Py_UNUSED(ignored))
{
    return af_future_alive(&t->fut) ? PyObject_CallOneArg(t->fut.st->task_repr_info, (PyObject *)t) : NULL;
}

static PyObject *
task_get_class(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(af_state_of_type(Py_TYPE(self))->asyncio_Task);
}

static PyObject *
task_get_log_destroy(AfTask *t, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(t->fut.log_destroy);
}

static int
task_set_log_destroy(AfTask *t, PyObject *value, void *Py_UNUSED(closure))
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "cannot delete attribute");
        return -1;
    }
    int truth = PyObject_IsTrue(value);
    if (truth < 0) {
        return -1;
    }
    t->fut.log_destroy = (unsigned char)truth;
    return 0;
}

static PyObject *
task_get_must_cancel(AfTask *t, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(t->fut.must_cancel);
}

static PyObject *
task_get_private_coro(AfTask *t, void *Py_UNUSED(closure))
{
    return task_get_coro(t, NULL);
}

static PyObject *
task_get_waiter(AfTask *t, void *Py_UNUSED(closure))
{
    return Py_NewRef(t->waiter == NULL ? Py_None : t->waiter);
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

static int
task_tp_traverse(AfTask *t, visitproc visit, void *arg)
{
    Py_VISIT(t->coro);
    Py_VISIT(t->context);
    Py_VISIT(t->waiter);
    if (!(t->name & 1)) {
        Py_VISIT((PyObject *)t->name);
    }
    return af_future_traverse(&t->fut, visit, arg);
}

static void
task_clear_fields(AfTask *t)
{
    task_unregister(t);
    Py_CLEAR(t->coro);
    Py_CLEAR(t->context);
    Py_CLEAR(t->waiter);
    task_drop_name(t);
    af_future_clear_fields(&t->fut);
}

static int
task_tp_clear(AfTask *t)
{
    task_clear_fields(t);
    af_future_clear_base(&t->fut);
    return 0;
}

static void
task_tp_finalize(PyObject *self)
{
    AfTask *t = (AfTask *)self;
    if (af_list_linked(&t->link)) {
        af_list_remove(&t->link);       /* the handler may keep it for show; all_tasks() is not to find it any more */
    }
    if (t->fut.loop == NULL) {
        return;
    }
    if (t->fut.state == AF_PENDING && t->fut.log_destroy) {
        PyObject *raised = PyErr_GetRaisedException();
        PyObject *context = Py_BuildValue("{s:s,s:O}", "message", "Task was destroyed but it is pending!",
                                          "task", self);
        if (context == NULL ||
            (t->fut.source_tb != NULL && PyDict_SetItemString(context, "source_traceback", t->fut.source_tb) < 0) ||
            af_loop_call_exception_handler(t->fut.st, t->fut.loop, context) < 0) {
            PyErr_WriteUnraisable(self);
        }
        Py_XDECREF(context);
        if (raised != NULL) {
            PyErr_SetRaisedException(raised);
        }
    }
    af_future_report_unretrieved(&t->fut);
}

static void
task_tp_dealloc(PyObject *self)
{
    AfTask *t = (AfTask *)self;
    int exact = Py_TYPE(self)->tp_dealloc == task_tp_dealloc;
    if (exact && (t->fut.log_tb || (t->fut.state == AF_PENDING && t->fut.log_destroy))) {
        exact = 0;      /* once finalized the memory is marked so for ever: do not recycle it */
        if (PyObject_CallFinalizerFromDealloc(self) < 0) {
            return;
        }
    }
    PyObject_GC_UnTrack(self);
    if (af_futbase_has_weakrefs(&t->fut.base)) {
        PyObject_ClearWeakRefs(self);
    }
    if (af_unlikely(af_futbase_in_use(&t->fut.base))) {
        exact = 0;      /* as a future's */
        af_future_clear_base(&t->fut);
    }
    AfState *st = t->fut.st;
    if (af_list_linked(&t->link)) {
        af_list_remove(&t->link);       /* not owned, or it would not be here */
    }
    task_clear_fields(t);
    af_freelist_give(exact && st != NULL ? af_freelist_unless_finalized(&st->tasks, t) : NULL, t);
}

static PyMethodDef task_methods[] = {
    {"cancel", (PyCFunction)(void (*)(void))task_cancel, METH_FASTCALL | METH_KEYWORDS,
     "cancel($self, /, msg=None)\n--\n\nAsk the task to cancel itself: CancelledError is thrown into its coroutine.\n\n"
     "Returns False if it is done already.  The coroutine may catch the error and go on."},
    {"cancelling", (PyCFunction)task_cancelling, METH_NOARGS,
     "cancelling($self, /)\n--\n\nReturn how many cancellations were asked for and not taken back."},
    {"uncancel", (PyCFunction)task_uncancel, METH_NOARGS,
     "uncancel($self, /)\n--\n\nTake one cancellation back; return how many are left."},
    {"get_stack", (PyCFunction)(void (*)(void))task_get_stack, METH_VARARGS | METH_KEYWORDS,
     "get_stack($self, /, *, limit=None)\n--\n\nReturn the frames of the suspended coroutine or of its traceback."},
    {"print_stack", (PyCFunction)(void (*)(void))task_print_stack, METH_VARARGS | METH_KEYWORDS,
     "print_stack($self, /, *, limit=None, file=None)\n--\n\nPrint what get_stack() returns, to sys.stderr or file."},
    {"set_result", (PyCFunction)task_refuse_set_result, METH_O,
     "set_result($self, result, /)\n--\n\nRaise RuntimeError: a task's result is its coroutine's."},
    {"set_exception", (PyCFunction)task_refuse_set_exception, METH_O,
     "set_exception($self, exception, /)\n--\n\nRaise RuntimeError: a task's exception is its coroutine's."},
    {"get_coro", (PyCFunction)task_get_coro, METH_NOARGS, "get_coro($self, /)\n--\n\nReturn the coroutine."},
#if AF_HAVE_GET_CONTEXT
    {"get_context", (PyCFunction)task_get_context, METH_NOARGS,
     "get_context($self, /)\n--\n\nReturn the contextvars.Context the coroutine runs in."},
#endif
    {"get_name", (PyCFunction)task_get_name, METH_NOARGS, "get_name($self, /)\n--\n\nReturn the name."},
    {"set_name", (PyCFunction)task_set_name, METH_O, "set_name($self, value, /)\n--\n\nSet the name to str(value)."},
    {"_repr_info", (PyCFunction)task_repr_info, METH_NOARGS,
     "_repr_info($self, /)\n--\n\nParts of the repr, as a list."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef task_getset[] = {
    {"__class__", task_get_class, NULL, "asyncio's class: isinstance(task, asyncio.Task) holds.", NULL},
    {"_log_destroy_pending", (getter)task_get_log_destroy, (setter)task_set_log_destroy,
     "Whether being destroyed while pending is reported.", NULL},
    {"_must_cancel", (getter)task_get_must_cancel, NULL, "True if the next step throws CancelledError.", NULL},
    {"_coro", (getter)task_get_private_coro, NULL, "The coroutine.", NULL},
    {"_fut_waiter", (getter)task_get_waiter, NULL, "What it waits for, or None.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot task_slots[] = {
    {Py_tp_doc, (void *)"Task(coro, *, loop=None, name=None, context=None)\n--\n\n"
                        "A coroutine driven by the loop.  Has all of asyncio.Task; eager_start= from 3.12 on."},
    {Py_tp_init, task_tp_init},
    {Py_tp_dealloc, task_tp_dealloc},
    {Py_tp_finalize, task_tp_finalize},
    {Py_tp_traverse, task_tp_traverse},
    {Py_tp_clear, task_tp_clear},
    {Py_tp_methods, task_methods},
    {Py_tp_getset, task_getset},
    {0, NULL},
};

static PyType_Spec task_spec = {
    "asyncfast.Task", sizeof(AfTask), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    task_slots,
};

AF_API int
af_task_setup(PyObject *module, AfState *st)
{
    st->TaskType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &task_spec, (PyObject *)st->FutureType);
    return st->TaskType == NULL || af_type_shrink_inline_values(st->TaskType) < 0
               ? -1 : PyModule_AddType(module, st->TaskType);
}
