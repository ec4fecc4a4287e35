/* The stream writer: asyncio.StreamWriter's fields, and its methods that run for every message.

   asyncfast.StreamWriter inherits from this and then from asyncio.StreamWriter, whose other methods find their fields
   here.  drain() that need not wait returns at once; when there is something to wait for or to raise, asyncio's own does it.

   Belongs to its loop's thread.  Runs Python: the transport's methods. */
#include "net/writer.h"

#include "net/flow.h"
#include "net/stream.h"
#include "rt/args.h"

typedef struct {
    PyObject_HEAD
    AfState *st;
    PyObject *transport, *protocol, *reader, *loop;     /* NULL until __init__ */
} AfWriter;

static PyObject *
writer_transport(AfWriter *w)
{
    if (af_unlikely(w->transport == NULL)) {
        PyErr_SetString(PyExc_AttributeError, "_transport");
    }
    return w->transport;
}

/* A transport of ours on which nobody has set anything that could hide a method. */
static int
writer_knows(AfState *st, PyObject *transport)
{
    return Py_IS_TYPE(transport, st->StreamType) && ((AfTransport *)transport)->dict == NULL;
}

AF_API PyObject *
af_writer_write(AfState *st, PyObject *transport, PyObject *data)
{
    if (af_likely(writer_knows(st, transport))) {
        return af_stream_write(transport, data);
    }
    PyObject *res = PyObject_CallMethodOneArg(transport, st->str_write, data);
    if (res != NULL) {
        Py_SETREF(res, Py_NewRef(Py_None));
    }
    return res;
}

static PyObject *
writer_write(AfWriter *w, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *data, *transport = writer_transport(w);
    if (transport == NULL || af_args_one("write", "data", args, nargs, kwnames, &data) < 0) {
        return NULL;
    }
    Py_INCREF(transport);
    PyObject *res = af_writer_write(w->st, transport, data);
    Py_DECREF(transport);
    return res;
}

static PyObject *
writer_writelines(AfWriter *w, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *data, *transport = writer_transport(w);
    if (transport == NULL || af_args_one("writelines", "data", args, nargs, kwnames, &data) < 0) {
        return NULL;
    }
    PyObject *res = af_call_method(transport, "writelines", "O", data);
    if (res != NULL) {
        Py_SETREF(res, Py_NewRef(Py_None));
    }
    return res;
}

/* Would drain() return at once, unless the transport is closing?  Nothing that is asked here runs Python. */
static int
writer_is_free(AfWriter *w)
{
    AfState *st = w->st;
    if (w->transport == NULL || w->protocol == NULL || w->reader == NULL || !af_flow_is_free(st, w->protocol)) {
        return 0;
    }
    return w->reader == Py_None ||
           (af_reader_is_exact(st, w->reader) && !af_is_set(((AfReader *)w->reader)->exception));
}

AF_API int
af_writer_is_closing(AfState *st, PyObject *transport)
{
    PyObject *res = NULL;
    int closing;
    Py_INCREF(transport);
    if (af_likely(writer_knows(st, transport))) {
        closing = af_transport_settle((AfTransport *)transport) < 0 ? -1 : ((AfTransport *)transport)->closing;
    }
    else {
        res = af_call_method(transport, "is_closing", NULL);
        closing = res == NULL ? -1 : PyObject_IsTrue(res);
    }
    Py_DECREF(transport);
    Py_XDECREF(res);
    return closing;
}

static PySendResult
writer_step_drain(AfCoro *c, PyObject **result)
{
    AfWriter *w = (AfWriter *)c->self;
    if (af_likely(writer_is_free(w))) {
        int closing = af_writer_is_closing(w->st, w->transport);
        if (closing < 0) {
            return PYGEN_ERROR;
        }
        if (af_likely(!closing && writer_is_free(w))) {
            *result = Py_NewRef(Py_None);
            return PYGEN_RETURN;
        }
    }
    PyObject *drain = af_get_attr(w->st->asyncio_StreamWriter, "drain");
    PyObject *coro = drain == NULL ? NULL : PyObject_CallOneArg(drain, (PyObject *)w);
    Py_XDECREF(drain);
    return af_coro_delegate_steal(c, coro, result);
}

static const af_coro_kind writer_drain_kind = {"drain", "StreamWriter.drain", writer_step_drain, NULL, NULL};

static PyObject *
writer_drain(AfWriter *w, PyObject *Py_UNUSED(ignored))
{
    return (PyObject *)af_coro_new(w->st, &writer_drain_kind, (PyObject *)w);
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

static PyObject *
writer_tp_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    AfWriter *w = (AfWriter *)type->tp_alloc(type, 0);
    if (w != NULL) {
        w->st = af_state_of_type(type);
    }
    return (PyObject *)w;
}

static int
writer_tp_init(AfWriter *w, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"transport", "protocol", "reader", "loop", NULL};
    PyObject *transport, *protocol, *reader, *loop;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO:StreamWriter", names, &transport, &protocol, &reader, &loop)) {
        return -1;
    }
    Py_XSETREF(w->transport, Py_NewRef(transport));
    Py_XSETREF(w->protocol, Py_NewRef(protocol));
    int good = reader == Py_None ? 1 : PyObject_IsInstance(reader, w->st->asyncio_StreamReader);
    if (good <= 0) {
        if (good == 0) {
            PyErr_SetNone(PyExc_AssertionError);
        }
        return -1;
    }
    Py_XSETREF(w->reader, Py_NewRef(reader));
    Py_XSETREF(w->loop, Py_NewRef(loop));
    return 0;
}

static int
writer_tp_traverse(AfWriter *w, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(w));
    Py_VISIT(w->transport);
    Py_VISIT(w->protocol);
    Py_VISIT(w->reader);
    Py_VISIT(w->loop);
    return 0;
}

static int
writer_tp_clear(AfWriter *w)
{
    Py_CLEAR(w->transport);
    Py_CLEAR(w->protocol);
    Py_CLEAR(w->reader);
    Py_CLEAR(w->loop);
    return 0;
}

static void
writer_tp_dealloc(AfWriter *w)
{
    PyTypeObject *type = Py_TYPE(w);
    PyObject_GC_UnTrack(w);
    writer_tp_clear(w);
    type->tp_free(w);
    Py_DECREF(type);
}

#define WRITER_F(f) (PyCFunction)(void (*)(void))(f), METH_FASTCALL | METH_KEYWORDS

static PyMethodDef writer_hot_methods[] = {
    {"write", WRITER_F(writer_write), "write($self, data)\n--\n\nHave the transport send data; as its write()."},
    {"writelines", WRITER_F(writer_writelines),
     "writelines($self, data)\n--\n\nHave the transport send each item of data; as its writelines()."},
    {"drain", (PyCFunction)writer_drain, METH_NOARGS,
     "drain($self)\n--\n\nWait until the transport wants more to be written, if it does not already.  A coroutine.\n\n"
     "Raises the reader's exception, and ConnectionResetError once the connection is lost."},
    {NULL, NULL, 0, NULL},
};

#undef WRITER_F

static PyMemberDef writer_members[] = {
    {"_transport", T_OBJECT_EX, offsetof(AfWriter, transport), 0, NULL},
    {"_protocol", T_OBJECT_EX, offsetof(AfWriter, protocol), 0, NULL},
    {"_reader", T_OBJECT_EX, offsetof(AfWriter, reader), 0, NULL},
    {"_loop", T_OBJECT_EX, offsetof(AfWriter, loop), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot writer_slots[] = {
    {Py_tp_doc, (void *)"What asyncfast.StreamWriter is in C."},
    {Py_tp_new, writer_tp_new},
    {Py_tp_init, writer_tp_init},
    {Py_tp_dealloc, writer_tp_dealloc},
    {Py_tp_traverse, writer_tp_traverse},
    {Py_tp_clear, writer_tp_clear},
    {Py_tp_members, writer_members},
    {0, NULL},
};

static PyType_Spec writer_spec = {
    "asyncfast._StreamWriter", sizeof(AfWriter), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    writer_slots,
};

AF_API int
af_writer_add_hot(PyTypeObject *type)
{
    return af_type_add(type, writer_hot_methods, NULL);
}

AF_API int
af_writer_setup(PyObject *module, AfState *st)
{
    st->WriterType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &writer_spec, NULL);
    return st->WriterType == NULL || af_writer_add_hot(st->WriterType) < 0
               ? -1 : PyModule_AddObjectRef(module, "_StreamWriter", (PyObject *)st->WriterType);
}
