/* The asynchronous generators that are iterated while a loop runs, so that shutdown_asyncgens() finds them, and what is
   done for those that are dropped half way.  CPython calls the two hooks; the loop's run_forever() sets them.

   A generator is registered once, when it is first iterated, and most have ended soon after.  So the register is an array
   of weak references without callbacks: whoever ends costs nothing.  Dead ones at the end are popped when the next
   generator comes, the others are swept out when the array is full, which leaves at least as much room as it keeps.

   asyncio's loops have a WeakSet for it, `_asyncgens`, and programs look there.  Whoever asks for that gets it, with what the
   array held moved into it; and while somebody has it in hand, generators are registered there.

   The hooks may be called in any thread that has the interpreter's lock: the collector finalizes where it happens to run.
   Runs Python: the WeakSet, call_soon_threadsafe(), warnings, and in shutdown_asyncgens() the generators. */
#include "core/asyncgens.h"

#include "core/coro.h"

#define ASYNCGENS_LEAST ((size_t)32)

/* ---- the array -------------------------------------------------------------------------------------------------- */

/* Nothing in here runs Python: a weak reference without a callback that is let go of is memory that is freed. */

static void
asyncgens_pop_dead(af_asyncgens *a)
{
    while (a->count > 0 && af_weakref_is_dead(a->refs[a->count - 1])) {
        Py_DECREF(a->refs[--a->count]);
    }
}

static void
asyncgens_sweep(af_asyncgens *a)
{
    size_t kept = 0;
    for (size_t i = 0; i < a->count; i++) {
        if (af_weakref_is_dead(a->refs[i])) {
            Py_DECREF(a->refs[i]);
        }
        else {
            a->refs[kept++] = a->refs[i];
        }
    }
    a->count = kept;
}

/* Called when it is full. */
static int
asyncgens_make_room(af_asyncgens *a)
{
    asyncgens_sweep(a);
    size_t room = a->count < ASYNCGENS_LEAST / 2 ? ASYNCGENS_LEAST : 2 * a->count;
    if (room == a->room) {
        return 0;
    }
    PyObject **refs = PyMem_Resize(a->refs, PyObject *, room);
    if (refs == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    a->refs = refs;
    a->room = room;
    return 0;
}

static int
asyncgens_append(af_asyncgens *a, PyObject *generator)
{
    asyncgens_pop_dead(a);      /* first: the new reference gets the memory of the last one that died */
    PyObject *ref = PyWeakref_NewRef(generator, NULL);      /* may collect, and what is finalized may register others */
    if (ref == NULL || (a->count == a->room && asyncgens_make_room(a) < 0)) {
        Py_XDECREF(ref);
        return -1;
    }
    a->refs[a->count++] = ref;
    return 0;
}

static int
asyncgens_remove(af_asyncgens *a, PyObject *generator)
{
    if (a->count == 0) {
        return 0;
    }
    /* the one reference without a callback that an object has: ours, or made for the question */
    PyObject *ref = PyWeakref_NewRef(generator, NULL);
    if (ref == NULL) {
        return -1;
    }
    for (size_t i = Py_REFCNT(ref) == 1 ? 0 : a->count; i-- > 0;) {
        if (a->refs[i] == ref) {
            memmove(a->refs + i, a->refs + i + 1, (--a->count - i) * sizeof(*a->refs));
            Py_DECREF(ref);
            break;
        }
    }
    Py_DECREF(ref);
    return 0;
}

static void
asyncgens_clear(af_asyncgens *a)
{
    while (a->count > 0) {
        Py_DECREF(a->refs[--a->count]);
    }
}

/* ---- loop._asyncgens -------------------------------------------------------------------------------------------- */

static int
asyncgens_tell_set(af_asyncgens *a, const char *method, PyObject *generator)
{
    PyObject *set = Py_NewRef(a->set);
    PyObject *res = generator == NULL ? af_call_method(set, method, NULL) : af_call_method(set, method, "O", generator);
    Py_DECREF(set);
    Py_XDECREF(res);
    return res == NULL ? -1 : 0;
}

static int
asyncgens_add_to_set(af_asyncgens *a, PyObject *generator)
{
    a->in_set = 1;
    return asyncgens_tell_set(a, "add", generator);
}

AF_API PyObject *
af_asyncgens_get(AfLoop *loop, void *Py_UNUSED(closure))
{
    af_asyncgens *a = &loop->asyncgens;
    if (a->set == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_asyncgens");
        return NULL;
    }
    while (a->count > 0) {
        PyObject *ref = a->refs[--a->count], *generator;
        int alive = PyWeakref_GetRef(ref, &generator);
        Py_DECREF(ref);
        if (alive != 0) {
            int rc = alive < 0 ? -1 : asyncgens_add_to_set(a, generator);
            Py_XDECREF(generator);
            if (rc < 0) {
                return NULL;
            }
        }
    }
    return Py_NewRef(a->set);
}

AF_API int
af_asyncgens_set(AfLoop *loop, PyObject *value, void *Py_UNUSED(closure))
{
    af_asyncgens *a = &loop->asyncgens;
    asyncgens_clear(a);
    int is_weak = value != NULL && (PyObject *)Py_TYPE(value) == loop->st->WeakSet;
    Py_ssize_t size = is_weak ? PyObject_Size(value) : 1;
    if (size < 0) {
        return -1;
    }
    a->is_weak = (char)is_weak;
    a->in_set = size > 0;
    Py_XSETREF(a->set, Py_XNewRef(value));
    return 0;
}

AF_API void
af_asyncgens_forget(AfLoop *loop)
{
    asyncgens_clear(&loop->asyncgens);
    PyMem_Free(loop->asyncgens.refs);
    loop->asyncgens.refs = NULL;
    loop->asyncgens.room = 0;
}

/* ---- the hooks -------------------------------------------------------------------------------------------------- */

AF_API PyObject *
af_asyncgens_firstiter(AfLoop *loop, PyObject *generator)
{
    af_asyncgens *a = &loop->asyncgens;
    if (af_unlikely(a->shutdown) &&
        PyErr_ResourceWarning((PyObject *)loop, 1,
                              "asynchronous generator %R was scheduled after loop.shutdown_asyncgens() call",
                              generator) < 0) {
        return NULL;
    }
    int seen = a->set != NULL && (!a->is_weak || Py_REFCNT(a->set) > 1);
    int rc = af_unlikely(seen) ? asyncgens_add_to_set(a, generator) : asyncgens_append(a, generator);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

/* Nobody refers to it any more and it has not ended: it is closed by a task, for it may await on its way out. */
AF_API PyObject *
af_asyncgens_finalizer(AfLoop *loop, PyObject *generator)
{
    af_asyncgens *a = &loop->asyncgens;
    if (asyncgens_remove(a, generator) < 0 || (a->in_set && asyncgens_tell_set(a, "discard", generator) < 0)) {
        return NULL;
    }
    if (loop->closed) {
        Py_RETURN_NONE;
    }
    PyObject *create_task = af_get_attr((PyObject *)loop, "create_task");
    PyObject *closing = create_task == NULL ? NULL : af_call_method(generator, "aclose", NULL);
    int rc = closing == NULL ? -1 : af_call_soon_threadsafe(loop->st, (PyObject *)loop, create_task, closing, NULL);
    Py_XDECREF(create_task);
    Py_XDECREF(closing);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- shutdown_asyncgens() --------------------------------------------------------------------------------------- */

/* All that are alive, as a list, and none is registered any more. */
static PyObject *
asyncgens_take(af_asyncgens *a)
{
    PyObject *all;
    if (a->in_set && a->set != NULL) {
        all = PySequence_List(a->set);
        if (all == NULL || asyncgens_tell_set(a, "clear", NULL) < 0) {
            Py_XDECREF(all);
            return NULL;
        }
        a->in_set = !a->is_weak;
    }
    else {
        all = PyList_New(0);
    }
    for (size_t i = 0; all != NULL && i < a->count; i++) {      /* nothing here makes the collector run */
        PyObject *generator;
        int alive = PyWeakref_GetRef(a->refs[i], &generator);
        if (alive < 0 || (alive > 0 && PyList_Append(all, generator) < 0)) {
            Py_CLEAR(all);
        }
        Py_XDECREF(generator);
    }
    if (all != NULL) {
        asyncgens_clear(a);
    }
    return all;
}

/* asyncio.gather(*[each.aclose() for each in generators], return_exceptions=True) */
static PyObject *
asyncgens_gather(AfState *st, PyObject *generators)
{
    Py_ssize_t n = PyList_GET_SIZE(generators);
    PyObject *args = PyTuple_New(n), *kwargs = Py_BuildValue("{s:O}", "return_exceptions", Py_True), *future = NULL;
    int rc = args == NULL || kwargs == NULL ? -1 : 0;
    for (Py_ssize_t i = 0; rc == 0 && i < n; i++) {
        PyObject *closing = af_call_method(PyList_GET_ITEM(generators, i), "aclose", NULL);
        rc = closing == NULL ? -1 : PyTuple_SetItem(args, i, closing);
    }
    if (rc == 0) {
        future = PyObject_Call(st->gather, args, kwargs);
    }
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    return future;
}

static int
asyncgens_report(AfLoop *loop, PyObject *generator, PyObject *exc)
{
    PyObject *message = PyUnicode_FromFormat("an error occurred during closing of asynchronous generator %R", generator);
    PyObject *context = message == NULL ? NULL : Py_BuildValue("{s:O,s:O,s:O}", "message", message, "exception", exc,
                                                               "asyncgen", generator);
    int rc = context == NULL ? -1 : af_loop_call_exception_handler(loop->st, (PyObject *)loop, context);
    Py_XDECREF(message);
    Py_XDECREF(context);
    return rc;
}

/* closed: (generators, the future of what closing them gave) */
static int
asyncgens_report_all(AfLoop *loop, PyObject *closed)
{
    PyObject *generators = PyTuple_GET_ITEM(closed, 0);
    PyObject *results = PyObject_CallMethodNoArgs(PyTuple_GET_ITEM(closed, 1), loop->st->str_result);
    int rc = results == NULL ? -1 : 0;
    for (Py_ssize_t i = 0; rc == 0 && i < PyList_GET_SIZE(generators); i++) {
        PyObject *result = PySequence_GetItem(results, i);
        if (result == NULL) {
            rc = -1;
        }
        else if (PyObject_TypeCheck(result, (PyTypeObject *)PyExc_Exception)) {
            rc = asyncgens_report(loop, PyList_GET_ITEM(generators, i), result);
        }
        Py_XDECREF(result);
    }
    Py_XDECREF(results);
    return rc;
}

static PySendResult
asyncgens_step_shutdown(AfCoro *c, PyObject **result)
{
    AfLoop *loop = (AfLoop *)c->self;
    if (!c->waited) {
        loop->asyncgens.shutdown = 1;
        PyObject *generators = asyncgens_take(&loop->asyncgens), *closing = NULL;
        if (generators != NULL && PyList_GET_SIZE(generators) > 0) {
            closing = asyncgens_gather(loop->st, generators);
            c->arg = closing == NULL ? NULL : PyTuple_Pack(2, generators, closing);
        }
        int none = generators != NULL && PyList_GET_SIZE(generators) == 0;
        Py_XDECREF(generators);
        Py_XDECREF(closing);
        if (!none) {
            c->waited = 1;
            return c->arg == NULL ? PYGEN_ERROR : af_coro_wait(c, PyTuple_GET_ITEM(c->arg, 1), result);
        }
    }
    else if (asyncgens_report_all(loop, c->arg) < 0) {
        return PYGEN_ERROR;
    }
    *result = Py_NewRef(Py_None);
    return PYGEN_RETURN;
}

/* Named as asyncio's: test frameworks filter the warning of one that was never awaited by this name. */
static const af_coro_kind asyncgens_shutdown_kind = {
    "shutdown_asyncgens", "BaseEventLoop.shutdown_asyncgens", asyncgens_step_shutdown, NULL, NULL,
};

AF_API PyObject *
af_asyncgens_shutdown(AfLoop *loop, PyObject *Py_UNUSED(ignored))
{
    return (PyObject *)af_coro_new(loop->st, &asyncgens_shutdown_kind, (PyObject *)loop);
}

#undef ASYNCGENS_LEAST
