/* Channel.send(), Channel.receive() and the steps of `async for`: one object each, which is the coroutine and what its
   task waits on.  It tries, and if that cannot be done now it waits in the channel (channel.c says for what).

   Belongs to its loop's thread.  Runs Python: what the channel does, dropped references. */
#include "aio/channel.h"

#include "core/future.h"

static const char *const chanop_names[] = {"receive", "__anext__", "send"};

AF_API PyObject *
af_chanop_new(AfChannel *ch, int kind, PyObject *item)
{
    AfState *st = ch->st;
    AfChanOp *op = af_freelist_take(&st->chanops, st->ChanOpType);      /* with every pointer NULL */
    if (op == NULL) {
        return NULL;
    }
    op->park.st = st;
    op->park.waiting = op->park.begun = op->park.held = op->park.cancelled = 0;
    op->channel = (AfChannel *)Py_NewRef((PyObject *)ch);
    op->item = Py_XNewRef(item);
    op->kind = (char)kind;
    op->stage = AF_CHANOP_NEW;
    op->granted = 0;
    PyObject_GC_Track(op);
    return (PyObject *)op;
}

/* ---- awaiting --------------------------------------------------------------------------------------------------- */

/* It goes no further, wherever it was. */
static void
chanop_finish(AfChanOp *op)
{
    if (op->stage == AF_CHANOP_WAITING) {
        Py_INCREF(op);
        op->stage = AF_CHANOP_DONE;
        op->park.begun = 0;
        af_channel_abandon(op->channel, op);
        Py_DECREF(op);
    }
    op->stage = AF_CHANOP_DONE;
    Py_CLEAR(op->item);
}

/* It was woken, or starts: whether it may go on. */
static int
chanop_check(AfChanOp *op, PyObject *arg)
{
    switch (op->stage) {
    case AF_CHANOP_NEW:
        if (af_unlikely(arg != Py_None)) {
            PyErr_SetString(PyExc_TypeError, "can't send non-None value to a just-started coroutine");
            return -1;
        }
        return 0;
    case AF_CHANOP_WAITING:
        if (af_unlikely(af_park_outcome(&op->park) < 0)) {
            chanop_finish(op);
            return -1;
        }
        return 0;
    default:
        af_awaited_again();
        return -1;
    }
}

static PySendResult
chanop_wait(AfChanOp *op, PyObject **result)
{
    PyObject *loop = af_park_running_loop(op->park.st);
    int rc = loop == NULL ? -1 : af_channel_wait(op->channel, op, loop);
    Py_XDECREF(loop);
    if (rc < 0) {
        return PYGEN_ERROR;
    }
    op->stage = AF_CHANOP_WAITING;
    *result = Py_NewRef((PyObject *)op);
    return PYGEN_NEXT;
}

static PySendResult
chanop_am_send(AfChanOp *op, PyObject *arg, PyObject **result)
{
    *result = NULL;
    if (chanop_check(op, arg) < 0) {
        return PYGEN_ERROR;
    }
    PySendResult how = af_channel_try(op->channel, op, result);
    if (how == PYGEN_NEXT) {
        how = chanop_wait(op, result);
    }
    if (how != PYGEN_NEXT) {
        op->stage = AF_CHANOP_DONE;
        op->park.begun = 0;
        Py_CLEAR(op->item);
    }
    return how;
}

static PyObject *
chanop_throw(AfChanOp *op, PyObject *const *args, Py_ssize_t nargs)
{
    if (op->stage == AF_CHANOP_DONE) {
        return af_awaited_again();
    }
    chanop_finish(op);
    return af_raise_thrown(args, nargs);
}

static PyObject *
chanop_close(AfChanOp *op, PyObject *Py_UNUSED(ignored))
{
    chanop_finish(op);
    Py_RETURN_NONE;
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

static PyObject *
chanop_get_name(AfChanOp *op, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(chanop_names[(int)op->kind]);
}

static PyObject *
chanop_get_qualname(AfChanOp *op, void *Py_UNUSED(closure))
{
    return PyUnicode_FromFormat("Channel.%s", chanop_names[(int)op->kind]);
}

static PyObject *
chanop_tp_repr(AfChanOp *op)
{
    return PyUnicode_FromFormat("<coroutine object Channel.%s at %p>", chanop_names[(int)op->kind], op);
}

static inline int
chanop_was_forgotten(const AfChanOp *op)
{
    return op->stage == AF_CHANOP_NEW && op->kind != AF_CHANOP_NEXT;
}

static void
chanop_tp_finalize(PyObject *self)
{
    if (chanop_was_forgotten((AfChanOp *)self)) {
        af_never_awaited(self);
    }
}

static int
chanop_tp_traverse(AfChanOp *op, visitproc visit, void *arg)
{
    Py_VISIT((PyObject *)op->channel);
    Py_VISIT(op->item);
    return af_park_traverse(&op->park, visit, arg);
}

static int
chanop_tp_clear(AfChanOp *op)
{
    chanop_finish(op);
    af_park_clear(&op->park);
    return 0;
}

static void
chanop_tp_dealloc(AfChanOp *op)
{
    if (chanop_was_forgotten(op) && PyObject_CallFinalizerFromDealloc((PyObject *)op) < 0) {
        return;
    }
    PyObject_GC_UnTrack(op);
    if (op->stage == AF_CHANOP_WAITING) {
        /* driven by hand and dropped, or the collector has closed its task's coroutine in an order of its own */
        PyObject *raised = PyErr_GetRaisedException();
        af_channel_abandon(op->channel, op);
        if (raised != NULL) {
            PyErr_SetRaisedException(raised);
        }
    }
    Py_CLEAR(op->item);
    Py_CLEAR(op->channel);
    af_park_clear(&op->park);
    Py_CLEAR(op->park.loop);
    af_freelist_give(af_freelist_unless_finalized(&op->park.st->chanops, op), op);
}

static PyMethodDef chanop_methods[] = {
    {"throw", (PyCFunction)(void (*)(void))chanop_throw, METH_FASTCALL,
     "throw($self, type, value=None, traceback=None, /)\n--\n\nAs of a coroutine."},
    {"close", (PyCFunction)chanop_close, METH_NOARGS, "close($self, /)\n--\n\nAs of a coroutine."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef chanop_getset[] = {
    {"__name__", (getter)chanop_get_name, NULL, "The name of the channel's method.", NULL},
    {"__qualname__", (getter)chanop_get_qualname, NULL, "The same with the class.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot chanop_slots[] = {
    {Py_tp_doc, (void *)"What a channel's send(), receive() and __anext__() return: a coroutine."},
    {Py_tp_dealloc, chanop_tp_dealloc},
    {Py_tp_finalize, chanop_tp_finalize},
    {Py_tp_traverse, chanop_tp_traverse},
    {Py_tp_clear, chanop_tp_clear},
    {Py_tp_repr, chanop_tp_repr},
    {Py_am_send, chanop_am_send},
    {Py_tp_methods, chanop_methods},
    {Py_tp_getset, chanop_getset},
    {0, NULL},
};

static PyType_Spec chanop_spec = {
    "asyncfast._ChanOp", sizeof(AfChanOp), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    chanop_slots,
};

AF_API int
af_chanop_setup(PyObject *module, AfState *st)
{
    st->ChanOpType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &chanop_spec, (PyObject *)st->ParkType);
    return st->ChanOpType == NULL ? -1 : 0;
}
