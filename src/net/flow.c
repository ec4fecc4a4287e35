/* The protocol of streams: those fields of asyncio.StreamReaderProtocol that are asked for every chunk and every drain().

   asyncfast.StreamReaderProtocol inherits from this and then from asyncio's, whose methods do everything that happens once
   per connection, on the fields here.  Our transports feed the reader without coming by (feed.c); data_received() is for
   all others.

   Belongs to its loop's thread.  Runs Python: a reader that is not ours. */
#include "net/flow.h"

#include "rt/args.h"

static PyObject *
flow_data_received(AfFlow *f, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *data, *reader = NULL, *res;
    if (af_args_one("data_received", "data", args, nargs, kwnames, &data) < 0) {
        return NULL;
    }
    if (af_is_set(f->reader_ref) && PyWeakref_Check(f->reader_ref) && PyWeakref_GetRef(f->reader_ref, &reader) < 0) {
        return NULL;
    }
    if (reader == NULL) {
        Py_RETURN_NONE;
    }
    if (af_reader_is_exact(f->st, reader) && PyBytes_CheckExact(data)) {
        int rc = af_reader_feed((AfReader *)reader, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data));
        res = rc < 0 ? NULL : Py_NewRef(Py_None);
    }
    else {
        res = PyObject_CallMethodOneArg(reader, f->st->str_feed_data, data);
        if (res != NULL) {
            Py_SETREF(res, Py_NewRef(Py_None));
        }
    }
    Py_DECREF(reader);
    return res;
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

static PyObject *
flow_tp_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    AfFlow *f = (AfFlow *)type->tp_alloc(type, 0);
    if (f != NULL) {
        f->st = af_state_of_type(type);
    }
    return (PyObject *)f;
}

static int
flow_tp_traverse(AfFlow *f, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(f));
    Py_VISIT(f->reader_ref);
    return 0;
}

static int
flow_tp_clear(AfFlow *f)
{
    Py_CLEAR(f->reader_ref);
    return 0;
}

static void
flow_tp_dealloc(AfFlow *f)
{
    PyTypeObject *type = Py_TYPE(f);
    PyObject_GC_UnTrack(f);
    flow_tp_clear(f);
    type->tp_free(f);
    Py_DECREF(type);
}

static PyMethodDef flow_methods[] = {
    {"data_received", (PyCFunction)(void (*)(void))flow_data_received, METH_FASTCALL | METH_KEYWORDS,
     "data_received($self, data)\n--\n\nFeed the reader, if it is still there."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef flow_members[] = {
    {"_stream_reader_wr", T_OBJECT, offsetof(AfFlow, reader_ref), 0, NULL},
    {"_paused", T_BOOL, offsetof(AfFlow, paused), 0, NULL},
    {"_connection_lost", T_BOOL, offsetof(AfFlow, connection_lost), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot flow_slots[] = {
    {Py_tp_doc, (void *)"What asyncfast.StreamReaderProtocol is in C."},
    {Py_tp_new, flow_tp_new},
    {Py_tp_dealloc, flow_tp_dealloc},
    {Py_tp_traverse, flow_tp_traverse},
    {Py_tp_clear, flow_tp_clear},
    {Py_tp_methods, flow_methods},
    {Py_tp_members, flow_members},
    {0, NULL},
};

static PyType_Spec flow_spec = {
    "asyncfast._StreamReaderProtocol", sizeof(AfFlow), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, flow_slots,
};

AF_API int
af_flow_setup(PyObject *module, AfState *st)
{
    st->FlowType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &flow_spec, NULL);
    return st->FlowType == NULL ? -1 : PyModule_AddObjectRef(module, "_StreamReaderProtocol", (PyObject *)st->FlowType);
}
