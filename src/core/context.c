/* The slow halves of context.h.  Runs Python: dropping a context drops what its variables held. */
#include "core/context.h"

AF_API PyObject *
af_context_take_slow(AfLoop *loop)
{
    PyObject *copy = PyContext_CopyCurrent();
    if (copy != NULL && loop->st->share_contexts) {
        Py_XSETREF(loop->pristine, Py_NewRef(copy));
    }
    return copy;
}

AF_API void
af_context_leave(AfLoop *loop)
{
    if (loop->entered) {
        loop->entered = 0;
        PyObject *raised = PyErr_GetRaisedException();
        if (PyContext_Exit(loop->runner) < 0) {
            PyErr_WriteUnraisable(loop->runner);
            Py_CLEAR(loop->runner);
        }
        if (raised != NULL) {
            PyErr_SetRaisedException(raised);
        }
    }
}

AF_API void
af_context_take_back(AfLoop *loop, af_context_aside aside)
{
    af_context_leave(loop);
    loop->entered = aside.entered;
    Py_XSETREF(loop->runner, aside.runner);
}

/* The runner was changed, or somebody holds it: leave it to them. */
AF_API void
af_context_give_up(PyObject *runner, PyObject *pristine, char *shared)
{
    PyObject *raised = PyErr_GetRaisedException();
    if (PyContext_Exit(runner) < 0) {
        PyErr_WriteUnraisable(runner);
    }
    *shared = AF_CONTEXT_OWN;
    Py_DECREF(runner);
    Py_DECREF(pristine);
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
}

AF_API int
af_context_enter_slow(AfLoop *loop, PyObject *pristine)
{
    af_context_leave(loop);
    if (loop->runner == NULL || af_context_vars(loop->runner) != af_context_vars(pristine) ||
        Py_REFCNT(loop->runner) != 1) {
        PyObject *copy = PyContext_Copy(pristine);
        if (copy == NULL) {
            return -1;
        }
        Py_XSETREF(loop->runner, copy);
    }
    if (PyContext_Enter(loop->runner) < 0) {
        return -1;
    }
    loop->entered = 1;
    return 0;
}

/* Is the map where af_context_head says?  A copy shares it; setting a variable in the copy gives that a new one. */
AF_API int
af_context_probe(AfState *st)
{
    st->share_contexts = 0;
    PyObject *var = PyContextVar_New("asyncfast probe", NULL);
    PyObject *one = PyContext_New(), *two = one == NULL ? NULL : PyContext_Copy(one);
    int rc = -1;
    if (var != NULL && two != NULL && PyContext_Enter(two) == 0) {
        PyObject *before = af_context_vars(two);
        int good = PyContext_Type.tp_basicsize >= (Py_ssize_t)sizeof(af_context_head) &&
                   before == af_context_vars(one) && PyThreadState_Get()->context == two;
        PyObject *token = PyContextVar_Set(var, Py_None);
        good = good && token != NULL && af_context_vars(two) != before && af_context_vars(one) == before &&
               strcmp(Py_TYPE(af_context_vars(two))->tp_name, "hamt") == 0;
        rc = token == NULL || PyContext_Exit(two) < 0 ? -1 : 0;
        Py_XDECREF(token);
        st->share_contexts = rc == 0 && good;
    }
    Py_XDECREF(var);
    Py_XDECREF(one);
    Py_XDECREF(two);
    return rc;
}
