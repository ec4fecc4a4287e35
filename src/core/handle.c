/* Handles.  A handle belongs to its loop's thread; only the threadsafe kind of 3.14+ may be cancelled from another one.
   Runs Python: af_handle_run() (the callback, the exception handler), and whatever a dropped reference runs.

   The collector is told of a handle of call_soon() only when somebody keeps it after it has run: until then the ring
   holds it, and the loop visits what it refers to in its stead (af_handle_visit).  That keeps the most frequent of all
   objects out of the collector's way.  A TimerHandle is tracked from the start, since a cycle may go through it while it
   waits; but once the next one is armed, it is not if only the timers hold it (af_timer_handle_settle).

   While a callback runs its handle keeps the callback and the arguments even if it is cancelled meanwhile ("started"),
   so that running borrows them. */
#include "core/handle.h"

#include "core/context.h"
#include "rt/args.h"

static int
handle_debug_record(AfHandle *h, AfState *st)
{
    PyObject *tb = PyObject_CallNoArgs(st->extract_stack);
    if (tb == NULL) {
        return -1;
    }
    h->debug = PyTuple_Pack(2, tb, Py_None);
    Py_DECREF(tb);
    return h->debug == NULL ? -1 : 0;
}

static int
handle_fill(AfHandle *h, AfLoop *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *context)
{
    h->loop = Py_NewRef((PyObject *)loop);
    h->callback = Py_NewRef(args[0]);
    h->context = NULL;
    h->nargs = 0;
    h->cancelled = h->started = h->shared = h->tracked = 0;
    h->debug = NULL;
    h->weakrefs = NULL;
    if (af_likely(nargs <= 1 + AF_HANDLE_INLINE)) {
        for (Py_ssize_t i = 1; i < nargs; i++) {
            h->args[h->nargs++] = Py_NewRef(args[i]);
        }
    }
    else {
        h->args[0] = PyTuple_New(nargs - 1);
        if (h->args[0] == NULL) {
            return -1;
        }
        h->nargs = -1;
        for (Py_ssize_t i = 1; i < nargs; i++) {
            PyTuple_SET_ITEM(h->args[0], i - 1, Py_NewRef(args[i]));
        }
    }
    h->context = context == NULL || context == Py_None ? af_context_take(loop, &h->shared) : Py_NewRef(context);
    if (h->context == NULL) {
        return -1;
    }
    return af_unlikely(loop->debug) ? handle_debug_record(h, loop->st) : 0;
}

AF_API AfHandle *
af_handle_new(AfLoop *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *context)
{
    AfHandle *h = af_freelist_take(&loop->st->handles, loop->st->HandleType);
    if (h == NULL) {
        return NULL;
    }
    if (handle_fill(h, loop, args, nargs, context) < 0) {
        Py_DECREF(h);
        return NULL;
    }
    return h;
}

AF_API AfTimerHandle *
af_timer_handle_new(AfLoop *loop, double when, PyObject *const *args, Py_ssize_t nargs, PyObject *context)
{
    AfTimerHandle *h = af_freelist_take(&loop->st->timers, loop->st->TimerHandleType);
    if (h == NULL) {
        return NULL;
    }
    h->timer = (af_timer){.pos = 0, .kind = AF_TIMER_HANDLE};
    h->when = when;
    h->handle.whole = 0;
    int rc = handle_fill(&h->handle, loop, args, nargs, context);
    h->handle.tracked = 1;
    PyObject_GC_Track(h);
    if (rc < 0) {
        Py_DECREF(h);
        return NULL;
    }
    return h;
}

AF_API void
af_timer_handle_settle(AfLoop *loop, AfTimerHandle *h)
{
    AfTimerHandle *before = loop->last_timer;
    if (before != NULL && Py_REFCNT(before) == 1 && af_timer_armed(&before->timer)) {
        before->handle.tracked = 0;
        PyObject_GC_UnTrack(before);
    }
    loop->last_timer = h;
}

static int
handle_tp_traverse(AfHandle *h, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(h));
    Py_VISIT(h->loop);
    Py_VISIT(h->callback);
    Py_VISIT(h->context);
    int n = h->nargs < 0 ? 1 : h->nargs;
    for (int i = 0; i < n; i++) {
        Py_VISIT(h->args[i]);
    }
    Py_VISIT(h->debug);
    return 0;
}

/* ---- running ---------------------------------------------------------------------------------------------------- */

static PyObject *
handle_call_in_any_context(AfHandle *h)
{
    /* a context that only looks like one: asyncio calls its run() too */
    AfState *st = ((AfLoop *)h->loop)->st;
    PyObject *stack[2 + AF_HANDLE_INLINE] = {h->context, h->callback};
    if (h->nargs < 0) {
        PyObject *run = PyObject_GetAttr(h->context, st->str_run);
        if (run == NULL) {
            return NULL;
        }
        PyObject *first = PyTuple_Pack(1, h->callback);
        PyObject *all = first == NULL ? NULL : PySequence_Concat(first, h->args[0]);
        PyObject *res = all == NULL ? NULL : PyObject_Call(run, all, NULL);
        Py_XDECREF(first);
        Py_XDECREF(all);
        Py_DECREF(run);
        return res;
    }
    for (int i = 0; i < h->nargs; i++) {
        stack[2 + i] = h->args[i];
    }
    return PyObject_VectorcallMethod(st->str_run, stack, 2 + (size_t)h->nargs, NULL);
}

static inline PyObject *
handle_call(AfHandle *h)
{
    if (af_likely(h->nargs >= 0)) {
        PyObject *stack[1 + AF_HANDLE_INLINE] = {NULL, h->args[0], h->args[1]};
        return PyObject_Vectorcall(h->callback, stack + 1, (size_t)h->nargs | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }
    return PyObject_Call(h->callback, h->args[0], NULL);
}

static PyObject *
handle_call_in_own_context(AfHandle *h)
{
    PyObject *context = h->context;
    if (af_unlikely(!PyContext_CheckExact(context))) {
        return handle_call_in_any_context(h);
    }
    if (PyContext_Enter(context) < 0) {
        return NULL;
    }
    PyObject *res = handle_call(h);
    if (PyContext_Exit(context) < 0) {
        Py_CLEAR(res);
    }
    return res;
}

static inline PyObject *
handle_call_in_context(AfHandle *h)
{
    if (af_unlikely(!h->shared)) {
        return handle_call_in_own_context(h);
    }
    AfLoop *loop = (AfLoop *)h->loop;
    PyObject *pristine = h->context;
    PyObject *runner = af_context_run(loop, pristine);
    if (af_unlikely(runner == NULL)) {
        return NULL;
    }
    h->context = Py_NewRef(runner);
    h->shared = AF_CONTEXT_RUNNING;
    PyObject *res = handle_call(h);
    af_context_done(loop, runner, pristine, &h->context, &h->shared);
    return res;
}

static void
handle_drop_call(AfHandle *h)
{
    Py_CLEAR(h->callback);
    int n = h->nargs < 0 ? 1 : h->nargs;
    h->nargs = 0;
    for (int i = 0; i < n; i++) {
        Py_CLEAR(h->args[i]);
    }
}

/* The callback raised: the loop's exception handler hears of it, unless it is meant to end the program. */
static int
handle_report(AfHandle *h)
{
    if (af_raised_exit()) {
        return -1;
    }
    AfState *st = ((AfLoop *)h->loop)->st;
    PyObject *exc = PyErr_GetRaisedException();
    int rc = af_call_hook_handling(st, exc, "callback_failed", "OO", (PyObject *)h, exc);
    Py_DECREF(exc);
    return rc;
}

AF_API int
af_handle_run(AfHandle *h)
{
    if (h->cancelled) {
        return 0;
    }
    h->started = 1;
    PyObject *res = handle_call_in_context(h);
    int rc = 0;
    if (af_likely(res != NULL)) {
        Py_DECREF(res);
    }
    else {
        rc = handle_report(h);
    }
    h->started = 0;
    if (af_unlikely(h->cancelled)) {
        handle_drop_call(h);
    }
    return rc;
}

static int
handle_run_aside(AfHandle *h, int (*run)(AfHandle *))
{
    AfLoop *loop = (AfLoop *)h->loop;
    af_context_aside aside = af_context_set_aside(loop);
    int rc = run(h);
    af_context_take_back(loop, aside);
    return rc;
}

AF_API int
af_handle_run_inside(AfHandle *h)
{
    return handle_run_aside(h, af_handle_run);
}

AF_API void
af_handle_outlives(AfHandle *h)
{
    if (!h->tracked) {
        h->tracked = 1;
        PyObject_GC_Track(h);
    }
}

AF_API int
af_handle_visit(AfHandle *h, visitproc visit, void *arg)
{
    if (h->tracked) {
        Py_VISIT(h);
        return 0;
    }
    return Py_REFCNT(h) == 1 ? handle_tp_traverse(h, visit, arg) : 0;
}

/* ---- methods ---------------------------------------------------------------------------------------------------- */

static int
handle_cancel_common(AfHandle *h)
{
    if (h->cancelled) {
        return 0;
    }
    h->cancelled = -1;          /* the repr below says cancelled, and of what */
    AfLoop *loop = (AfLoop *)h->loop;
    if (af_unlikely(loop != NULL && loop->debug)) {
        /* what the slow-callback warning and others will show, once the callback is gone */
        PyObject *repr = PyObject_Repr((PyObject *)h);
        h->cancelled = 1;
        if (repr == NULL) {
            return -1;
        }
        PyObject *tb = h->debug == NULL ? Py_None : PyTuple_GET_ITEM(h->debug, 0);
        PyObject *both = PyTuple_Pack(2, tb, repr);
        Py_DECREF(repr);
        if (both == NULL) {
            return -1;
        }
        Py_XSETREF(h->debug, both);
    }
    h->cancelled = 1;
    if (!h->started) {
        handle_drop_call(h);
    }
    return 0;
}

static PyObject *
handle_cancel(AfHandle *h, PyObject *Py_UNUSED(ignored))
{
    return handle_cancel_common(h) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
timer_handle_cancel(AfTimerHandle *h, PyObject *Py_UNUSED(ignored))
{
    int armed = af_timer_armed(&h->timer);
    if (armed) {
        af_heap_disarm(&((AfLoop *)h->handle.loop)->timers, &h->timer);
    }
    int rc = handle_cancel_common(&h->handle);
    if (armed) {
        Py_DECREF(h);       /* the timer's; the caller holds another */
    }
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
handle_cancelled(AfHandle *h, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(h->cancelled);
}

static PyObject *
handle_run(AfHandle *h, PyObject *Py_UNUSED(ignored))
{
    return af_handle_run_inside(h) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
timer_handle_when(AfTimerHandle *h, PyObject *Py_UNUSED(ignored))
{
    return h->handle.whole ? PyLong_FromDouble(h->when) : PyFloat_FromDouble(h->when);
}

/* asyncio's own formatting, which reads attributes only and so serves ours as well. */
static PyObject *
handle_repr_info(AfHandle *h, PyObject *Py_UNUSED(ignored))
{
    AfState *st = af_state_of_type(Py_TYPE(h));
    PyObject *cls = Py_TYPE(h) == st->TimerHandleType ? st->asyncio_TimerHandle : st->asyncio_Handle;
    return af_call_method(cls, "_repr_info", "O", (PyObject *)h);
}

static PyObject *
handle_tp_repr(PyObject *self)
{
    AfState *st = af_state_of_type(Py_TYPE(self));
    return af_call_method(st->asyncio_Handle, "__repr__", "O", self);
}

static PyObject *
handle_get_class(PyObject *self, void *Py_UNUSED(closure))
{
    AfState *st = af_state_of_type(Py_TYPE(self));
    return Py_NewRef(Py_TYPE(self) == st->TimerHandleType        ? st->asyncio_TimerHandle
                     : Py_TYPE(self) == st->ThreadsafeHandleType ? st->asyncio_ThreadSafeHandle
                                                                 : st->asyncio_Handle);
}

static PyObject *
handle_get_context(AfHandle *h, void *Py_UNUSED(closure))
{
    if (h->shared == AF_CONTEXT_RUNNING) {
        h->shared = AF_CONTEXT_OWN;         /* the runner it is in now is its own */
    }
    else if (h->shared == AF_CONTEXT_PRISTINE) {
        PyObject *copy = PyContext_Copy(h->context);
        if (copy == NULL) {
            return NULL;
        }
        h->shared = AF_CONTEXT_OWN;
        Py_SETREF(h->context, copy);
    }
    return Py_XNewRef(h->context);
}

static PyObject *
handle_get_loop(AfHandle *h, void *Py_UNUSED(closure))
{
    return Py_NewRef(h->loop);
}

static PyObject *
handle_get_cancelled(AfHandle *h, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(h->cancelled);
}

static PyObject *
handle_get_callback(AfHandle *h, void *Py_UNUSED(closure))
{
    return Py_NewRef(h->cancelled > 0 || h->callback == NULL ? Py_None : h->callback);
}

static PyObject *
handle_get_args(AfHandle *h, void *Py_UNUSED(closure))
{
    if (h->cancelled > 0 || h->callback == NULL) {
        Py_RETURN_NONE;
    }
    if (h->nargs < 0) {
        return Py_NewRef(h->args[0]);
    }
    PyObject *tuple = PyTuple_New(h->nargs);
    for (int i = 0; tuple != NULL && i < h->nargs; i++) {
        PyTuple_SET_ITEM(tuple, i, Py_NewRef(h->args[i]));
    }
    return tuple;
}

static PyObject *
handle_get_debug(AfHandle *h, void *index)
{
    return Py_NewRef(h->debug == NULL ? Py_None : PyTuple_GET_ITEM(h->debug, (Py_ssize_t)(intptr_t)index));
}

static PyObject *
timer_handle_get_scheduled(AfTimerHandle *h, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(af_timer_armed(&h->timer));
}

static PyObject *
timer_handle_get_when(AfTimerHandle *h, void *Py_UNUSED(closure))
{
    return timer_handle_when(h, NULL);
}

static Py_hash_t
timer_handle_tp_hash(AfTimerHandle *h)
{
    PyObject *when = PyFloat_FromDouble(h->when);
    if (when == NULL) {
        return -1;
    }
    Py_hash_t hash = PyObject_Hash(when);
    Py_DECREF(when);
    return hash;
}

/* asyncio's rules (and asyncio's handles may be on the other side). */
static PyObject *
timer_handle_tp_richcompare(PyObject *self, PyObject *other, int op)
{
    static const char *const names[] = {"__lt__", "__le__", "__eq__", NULL, "__gt__", "__ge__"};
    if (op == Py_NE) {
        PyObject *equal = timer_handle_tp_richcompare(self, other, Py_EQ);
        if (equal == NULL || equal == Py_NotImplemented) {
            return equal;
        }
        int truth = PyObject_IsTrue(equal);
        Py_DECREF(equal);
        return truth < 0 ? NULL : PyBool_FromLong(!truth);
    }
    AfState *st = af_state_of_type(Py_TYPE(self));
    return af_call_method(st->asyncio_TimerHandle, names[op], "OO", self, other);
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

static int
handle_tp_clear(AfHandle *h)
{
    handle_drop_call(h);
    Py_CLEAR(h->context);
    Py_CLEAR(h->debug);
    /* h->loop stays until dealloc: methods may still be called, and they read it */
    return 0;
}

static inline void
handle_dealloc_into(AfHandle *h, af_freelist *list)
{
    if (h->tracked) {
        PyObject_GC_UnTrack(h);
    }
    if (h->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)h);
    }
    handle_tp_clear(h);
    Py_CLEAR(h->loop);          /* it held the module; from here on only the type tells whether list is still there */
    af_freelist_give(list, h);
}

static void
handle_tp_dealloc(AfHandle *h)
{
    handle_dealloc_into(h, &((AfLoop *)h->loop)->st->handles);
}

static void
timer_handle_tp_dealloc(AfTimerHandle *h)
{
    AF_ASSERT(!af_timer_armed(&h->timer));      /* an armed timer holds a reference */
    AfLoop *loop = (AfLoop *)h->handle.loop;
    if (loop->last_timer == h) {
        loop->last_timer = NULL;
    }
    handle_dealloc_into(&h->handle, &((AfLoop *)h->handle.loop)->st->timers);
}

#define HANDLE_COMMON_METHODS                                                                                          \
    {"cancelled", (PyCFunction)handle_cancelled, METH_NOARGS,                                                          \
     "cancelled($self, /)\n--\n\nReturn True if the callback was cancelled."},                                         \
    {"_run", (PyCFunction)handle_run, METH_NOARGS, "_run($self, /)\n--\n\nRun the callback now, in its context."},     \
    {"_repr_info", (PyCFunction)handle_repr_info, METH_NOARGS,                                                         \
     "_repr_info($self, /)\n--\n\nParts of the repr, as a list."},                                                     \
    HANDLE_GET_CONTEXT

#if AF_HAVE_GET_CONTEXT
static PyObject *
handle_get_context_method(AfHandle *h, PyObject *Py_UNUSED(ignored))
{
    return handle_get_context(h, NULL);
}
#  define HANDLE_GET_CONTEXT                                                                                           \
    {"get_context", (PyCFunction)handle_get_context_method, METH_NOARGS,                                               \
     "get_context($self, /)\n--\n\nReturn the contextvars.Context the callback runs in."},
#else
#  define HANDLE_GET_CONTEXT
#endif

static PyMethodDef handle_methods[] = {
    {"cancel", (PyCFunction)handle_cancel, METH_NOARGS,
     "cancel($self, /)\n--\n\nCancel the callback.  No effect if it ran or was cancelled already."},
    HANDLE_COMMON_METHODS
    {NULL, NULL, 0, NULL},
};

static PyMethodDef timer_handle_methods[] = {
    {"cancel", (PyCFunction)timer_handle_cancel, METH_NOARGS,
     "cancel($self, /)\n--\n\nCancel the callback and give its timer back at once."},
    HANDLE_COMMON_METHODS
    {"when", (PyCFunction)timer_handle_when, METH_NOARGS,
     "when($self, /)\n--\n\nReturn the deadline in seconds, on the clock of loop.time()."},
    {NULL, NULL, 0, NULL},
};

#define HANDLE_COMMON_GETSET                                                                                           \
    {"__class__", handle_get_class, NULL, "asyncio's class: isinstance(handle, asyncio.Handle) holds.", NULL},         \
    {"_callback", (getter)handle_get_callback, NULL, "The callback; None once cancelled.", NULL},                      \
    {"_args", (getter)handle_get_args, NULL, "Its arguments, a tuple; None once cancelled.", NULL},                    \
    {"_cancelled", (getter)handle_get_cancelled, NULL, "True once cancelled.", NULL},                                  \
    {"_context", (getter)handle_get_context, NULL, "The context it runs in.", NULL},                                   \
    {"_loop", (getter)handle_get_loop, NULL, "The loop.", NULL},                                                       \
    {"_source_traceback", (getter)handle_get_debug, NULL, "Where it was made (debug mode), or None.", (void *)0},      \
    {"_repr", (getter)handle_get_debug, NULL, "Its repr when it was cancelled (debug mode), or None.", (void *)1},

static PyGetSetDef handle_getset[] = {
    HANDLE_COMMON_GETSET
    {NULL, NULL, NULL, NULL, NULL},
};

static PyGetSetDef timer_handle_getset[] = {
    HANDLE_COMMON_GETSET
    {"_scheduled", (getter)timer_handle_get_scheduled, NULL, "True while its timer is armed.", NULL},
    {"_when", (getter)timer_handle_get_when, NULL, "The deadline in seconds of loop.time().", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef handle_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(AfHandle, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

#define HANDLE_FLAGS (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE)

static PyType_Slot handle_slots[] = {
    {Py_tp_doc, (void *)"A callback on its way: what call_soon() returns.  Has all of asyncio.Handle."},
    {Py_tp_dealloc, handle_tp_dealloc},
    {Py_tp_traverse, handle_tp_traverse},
    {Py_tp_clear, handle_tp_clear},
    {Py_tp_repr, handle_tp_repr},
    {Py_tp_methods, handle_methods},
    {Py_tp_getset, handle_getset},
    {Py_tp_members, handle_members},
    {0, NULL},
};

static PyType_Spec handle_spec = {"asyncfast.Handle", sizeof(AfHandle), 0, HANDLE_FLAGS, handle_slots};

static PyType_Slot timer_handle_slots[] = {
    {Py_tp_doc, (void *)"A callback with a deadline: what call_later() returns.  Has all of asyncio.TimerHandle."},
    {Py_tp_dealloc, timer_handle_tp_dealloc},
    {Py_tp_traverse, handle_tp_traverse},
    {Py_tp_clear, handle_tp_clear},
    {Py_tp_repr, handle_tp_repr},
    {Py_tp_hash, timer_handle_tp_hash},
    {Py_tp_richcompare, timer_handle_tp_richcompare},
    {Py_tp_methods, timer_handle_methods},
    {Py_tp_getset, timer_handle_getset},
    {Py_tp_members, handle_members},
    {0, NULL},
};

static PyType_Spec timer_handle_spec = {
    "asyncfast.TimerHandle", sizeof(AfTimerHandle), 0, HANDLE_FLAGS, timer_handle_slots,
};

#if AF_HAVE_THREADSAFE_HANDLE
/* ---- the handle of call_soon_threadsafe(), 3.14+: cancel() from another thread waits for a callback that runs ------ */

typedef struct {
    AfHandle handle;
    PyThread_type_lock done;    /* made by the first that waits; released when the callback has returned */
} AfThreadsafeHandle;

AF_API AfHandle *
af_handle_new_threadsafe(AfLoop *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *context)
{
    AfThreadsafeHandle *h = af_freelist_take(&loop->st->threadsafes, loop->st->ThreadsafeHandleType);
    if (h == NULL) {
        return NULL;
    }
    h->done = NULL;
    if (handle_fill(&h->handle, loop, args, nargs, context) < 0) {
        Py_DECREF(h);
        return NULL;
    }
    return &h->handle;
}

AF_API int
af_handle_run_threadsafe(AfHandle *self)
{
    AfThreadsafeHandle *h = (AfThreadsafeHandle *)self;
    int rc = af_handle_run(self);
    if (h->done != NULL) {
        PyThread_release_lock(h->done);
    }
    return rc;
}

/* Called with the interpreter's lock, so started cannot change between the test and the wait. */
static int
threadsafe_handle_settle(AfThreadsafeHandle *h)
{
    if (!h->handle.started || ((AfLoop *)h->handle.loop)->thread == PyThread_get_thread_ident()) {
        return 0;
    }
    if (h->done == NULL) {
        h->done = PyThread_allocate_lock();
        if (h->done == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        PyThread_acquire_lock(h->done, WAIT_LOCK);
    }
    Py_INCREF(h);
    Py_BEGIN_ALLOW_THREADS
    PyThread_acquire_lock(h->done, WAIT_LOCK);
    PyThread_release_lock(h->done);         /* the next that waits */
    Py_END_ALLOW_THREADS
    Py_DECREF(h);
    return 0;
}

static PyObject *
threadsafe_handle_cancel(AfThreadsafeHandle *h, PyObject *Py_UNUSED(ignored))
{
    if (threadsafe_handle_settle(h) < 0) {
        return NULL;
    }
    return handle_cancel(&h->handle, NULL);
}

static PyObject *
threadsafe_handle_cancelled(AfThreadsafeHandle *h, PyObject *Py_UNUSED(ignored))
{
    if (threadsafe_handle_settle(h) < 0) {
        return NULL;
    }
    return PyBool_FromLong(h->handle.cancelled);
}

static PyObject *
threadsafe_handle_run(AfHandle *h, PyObject *Py_UNUSED(ignored))
{
    return handle_run_aside(h, af_handle_run_threadsafe) < 0 ? NULL : Py_NewRef(Py_None);
}

static void
threadsafe_handle_tp_dealloc(AfThreadsafeHandle *h)
{
    if (h->done != NULL) {
        PyThread_free_lock(h->done);
        h->done = NULL;
    }
    handle_dealloc_into(&h->handle, &((AfLoop *)h->handle.loop)->st->threadsafes);
}

static PyMethodDef threadsafe_handle_methods[] = {
    {"cancel", (PyCFunction)threadsafe_handle_cancel, METH_NOARGS,
     "cancel($self, /)\n--\n\nCancel the callback.  From another thread, waits for it to return if it runs now."},
    {"cancelled", (PyCFunction)threadsafe_handle_cancelled, METH_NOARGS,
     "cancelled($self, /)\n--\n\nReturn True if the callback was cancelled.  Waits as cancel() does."},
    {"_run", (PyCFunction)threadsafe_handle_run, METH_NOARGS, "_run($self, /)\n--\n\nRun the callback now."},
    {"_repr_info", (PyCFunction)handle_repr_info, METH_NOARGS,
     "_repr_info($self, /)\n--\n\nParts of the repr, as a list."},
    HANDLE_GET_CONTEXT
    {NULL, NULL, 0, NULL},
};

static PyType_Slot threadsafe_handle_slots[] = {
    {Py_tp_doc, (void *)"What call_soon_threadsafe() returns: a Handle that any thread may cancel."},
    {Py_tp_dealloc, threadsafe_handle_tp_dealloc},
    {Py_tp_traverse, handle_tp_traverse},
    {Py_tp_clear, handle_tp_clear},
    {Py_tp_repr, handle_tp_repr},
    {Py_tp_methods, threadsafe_handle_methods},
    {Py_tp_getset, handle_getset},
    {Py_tp_members, handle_members},
    {0, NULL},
};

static PyType_Spec threadsafe_handle_spec = {
    "asyncfast.ThreadsafeHandle", sizeof(AfThreadsafeHandle), 0, HANDLE_FLAGS, threadsafe_handle_slots,
};

static int
handle_setup_threadsafe(PyObject *module, AfState *st)
{
    st->ThreadsafeHandleType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &threadsafe_handle_spec, NULL);
    return st->ThreadsafeHandleType == NULL ? -1 : 0;
}
#else
AF_API AfHandle *
af_handle_new_threadsafe(AfLoop *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *context)
{
    return af_handle_new(loop, args, nargs, context);
}

AF_API int
af_handle_run_threadsafe(AfHandle *h)
{
    return af_handle_run(h);
}

static int
handle_setup_threadsafe(PyObject *Py_UNUSED(module), AfState *Py_UNUSED(st))
{
    return 0;
}
#endif

AF_API int
af_handle_setup(PyObject *module, AfState *st)
{
    st->HandleType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &handle_spec, NULL);
    if (st->HandleType == NULL || PyModule_AddType(module, st->HandleType) < 0) {
        return -1;
    }
    st->TimerHandleType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &timer_handle_spec, NULL);
    if (st->TimerHandleType == NULL || PyModule_AddType(module, st->TimerHandleType) < 0) {
        return -1;
    }
    return handle_setup_threadsafe(module, st);
}

#undef HANDLE_COMMON_METHODS
#undef HANDLE_COMMON_GETSET
#undef HANDLE_GET_CONTEXT
#undef HANDLE_FLAGS
