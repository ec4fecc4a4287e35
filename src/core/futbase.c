/* The base of our Future.  The layout is checked against what the running Python says of its own type; where that is
   another one, or one written in Python, a stand-in of ours takes its place: then a future passes for asyncio's by
   __class__ alone, and the call graph does not show who awaits it through gather() or a TaskGroup.
   Runs no Python. */
#include "core/futbase.h"

/* ---- the stand-in: an instance dict and weak references, in the first two words ---------------------------------- */

static PyObject *
futbase_get_class(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(af_state_of_type(Py_TYPE(self))->asyncio_Future);
}

static int
futbase_tp_traverse(AfFutBase *b, visitproc visit, void *arg)
{
#if AF_ASYNCIO_FUTURE_VISITS_TYPE
    Py_VISIT(Py_TYPE(b));
#endif
    Py_VISIT((PyObject *)b->words[0]);
    return 0;
}

static int
futbase_tp_clear(AfFutBase *b)
{
    PyObject *dict = b->words[0];
    b->words[0] = NULL;
    Py_XDECREF(dict);
    return 0;
}

static PyGetSetDef futbase_getset[] = {
    {"__class__", futbase_get_class, NULL, "asyncio's class: isinstance(future, asyncio.Future) holds.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef futbase_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(AfFutBase, words), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(AfFutBase, words) + sizeof(void *), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot futbase_slots[] = {
    {Py_tp_doc, (void *)"Stands in for asyncio.Future as the base of Future."},
    {Py_tp_traverse, futbase_tp_traverse},
    {Py_tp_clear, futbase_tp_clear},
    {Py_tp_getset, futbase_getset},
    {Py_tp_members, futbase_members},
    {0, NULL},
};

static PyType_Spec futbase_spec = {
    "asyncfast.FutureBase", sizeof(AfFutBase), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION |
        Py_TPFLAGS_IMMUTABLETYPE,
    futbase_slots,
};

/* ---- which one -------------------------------------------------------------------------------------------------- */

/* Immutable: a type made in C, whose tp_traverse and tp_clear see to its own words and to nothing else. */
static int
futbase_fits(PyObject *base)
{
    const unsigned long flags = Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC;
    PyTypeObject *type = (PyTypeObject *)base;
    return PyType_Check(base) && (PyType_GetFlags(type) & flags) == flags && type->tp_itemsize == 0 &&
           type->tp_basicsize <= (Py_ssize_t)sizeof(AfFutBase) && type->tp_dictoffset != 0 &&
           type->tp_weaklistoffset != 0 && type->tp_traverse != NULL && type->tp_clear != NULL;
}

AF_API PyTypeObject *
af_futbase_type(PyObject *module, AfState *st)
{
    if (futbase_fits(st->asyncio_Future)) {
        return (PyTypeObject *)Py_NewRef(st->asyncio_Future);
    }
    return (PyTypeObject *)PyType_FromModuleAndSpec(module, &futbase_spec, NULL);
}
