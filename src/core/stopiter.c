/* StopIteration as it comes from tp_iternext of the awaitables in C.

   `await` asks those by tp_iternext, not by am_send, so each result that is not None travels in an exception that lives for a
   few instructions: the interpreter makes none itself, it takes the value out and drops it.  Made as Python code would, such an
   exception and its arguments cost more than all else about a ready `await`.  This one is a subclass whose memory is
   recycled, and which makes its arguments when somebody asks.  send() raises a plain one: that is for Python code to see.

   Runs Python: dropped references. */
#include "core/stopiter.h"

typedef struct {
    PyStopIterationObject stop;
    AfState *st;
} AfStopIter;

#define STOPITER_BASE ((PyTypeObject *)PyExc_StopIteration)

/* Whatever the value is (a tuple must not become its arguments), without the trip through type.__call__ and __init__. */
AF_API void
af_set_stop_iteration(PyObject *value)
{
    if (value == Py_None) {
        PyErr_SetNone(PyExc_StopIteration);     /* without arguments, as of any coroutine or future */
        return;
    }
    PyObject *args = PyTuple_Pack(1, value);
    PyObject *stop = args == NULL ? NULL : STOPITER_BASE->tp_new(STOPITER_BASE, args, NULL);
    Py_XDECREF(args);
    if (stop != NULL) {
        Py_XSETREF(((PyStopIterationObject *)stop)->value, Py_NewRef(value));
        PyErr_SetRaisedException(stop);
    }
}

AF_API void
af_return_steal(AfState *st, PyObject *value)
{
    if (af_unlikely(st->StopIterType == NULL)) {
        af_set_stop_iteration(value);       /* the interpreter ends */
        Py_DECREF(value);
        return;
    }
    AfStopIter *s = af_freelist_take(&st->stopiters, st->StopIterType);     /* all its fields are as in a new one */
    if (s == NULL) {
        Py_DECREF(value);
        return;
    }
    s->st = st;
    s->stop.args = PyTuple_New(0);
    s->stop.value = value;
    PyObject_GC_Track(s);
    PyErr_SetRaisedException((PyObject *)s);
}

/* ---- for those who look at it ----------------------------------------------------------------------------------- */

static PyObject *
stopiter_value(PyObject *self)
{
    PyObject *value = ((PyStopIterationObject *)self)->value;
    return value == NULL ? Py_None : value;
}

static PyObject *
stopiter_get_args(PyObject *self, void *Py_UNUSED(closure))
{
    return PyTuple_Pack(1, stopiter_value(self));
}

static PyObject *
stopiter_tp_str(PyObject *self)
{
    return PyObject_Str(stopiter_value(self));
}

static PyObject *
stopiter_tp_repr(PyObject *self)
{
    return PyUnicode_FromFormat("StopIteration(%R)", stopiter_value(self));
}

static PyObject *
stopiter_reduce(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("O(O)", PyExc_StopIteration, stopiter_value(self));
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

static int
stopiter_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    return STOPITER_BASE->tp_traverse(self, visit, arg);
}

static int
stopiter_tp_clear(PyObject *self)
{
    return STOPITER_BASE->tp_clear(self);
}

static void
stopiter_tp_dealloc(PyObject *self)
{
    AfStopIter *s = (AfStopIter *)self;
    PyObject_GC_UnTrack(self);
    Py_CLEAR(s->stop.value);
    if (af_unlikely(s->stop.traceback != NULL || s->stop.context != NULL || s->stop.cause != NULL ||
                    s->stop.dict != NULL || s->stop.notes != NULL || s->stop.suppress_context)) {
        stopiter_tp_clear(self);        /* it was seen */
        s->stop.suppress_context = 0;
    }
    Py_CLEAR(s->stop.args);
    af_freelist_give(&s->st->stopiters, s);
}

static PyMethodDef stopiter_methods[] = {
    {"__reduce__", stopiter_reduce, METH_NOARGS, "__reduce__($self, /)\n--\n\nAs a plain StopIteration."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef stopiter_getset[] = {
    {"args", stopiter_get_args, NULL, "(value,)", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot stopiter_slots[] = {
    {Py_tp_doc, (void *)"The StopIteration that brings the result of an awaitable."},
    {Py_tp_dealloc, stopiter_tp_dealloc},
    {Py_tp_traverse, stopiter_tp_traverse},
    {Py_tp_clear, stopiter_tp_clear},
    {Py_tp_str, stopiter_tp_str},
    {Py_tp_repr, stopiter_tp_repr},
    {Py_tp_methods, stopiter_methods},
    {Py_tp_getset, stopiter_getset},
    {0, NULL},
};

static PyType_Spec stopiter_spec = {
    "asyncfast._StopIteration", sizeof(AfStopIter), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    stopiter_slots,
};

AF_API int
af_stopiter_setup(PyObject *module, AfState *st)
{
    st->StopIterType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &stopiter_spec, PyExc_StopIteration);
    return st->StopIterType == NULL ? -1 : 0;
}

#undef STOPITER_BASE
