/* Every difference between CPython versions, and nothing else: the only file that tests PY_VERSION_HEX.  Other rooms
   use the newest spelling and the features named here. */
#ifndef AF_RT_COMPAT_H
#define AF_RT_COMPAT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>       /* PyMemberDef's T_ and READONLY names, as all five versions spell them */

/* 3.12: eager tasks (Task(eager_start=)), Task.get_context(), Handle.get_context(); StopIteration set on a future
   becomes a RuntimeError instead of being refused */
#if PY_VERSION_HEX >= 0x030C0000
#  define AF_HAVE_EAGER_TASKS 1
#  define AF_HAVE_GET_CONTEXT 1
#  define AF_HAVE_SLOT_INTERPRETERS 1
#else
#  define AF_HAVE_EAGER_TASKS 0
#  define AF_HAVE_GET_CONTEXT 0
#  define AF_HAVE_SLOT_INTERPRETERS 0
#endif

/* 3.14: the current task lives in the thread state, reached through _asyncio._swap_current_task(); before that in the
   dict _asyncio._current_tasks, keyed by loop.  The same version brought the call graph. */
#if PY_VERSION_HEX >= 0x030E0000
#  define AF_HAVE_SWAP_CURRENT_TASK 1
#  define AF_HAVE_CALL_GRAPH 1
#  define AF_HAVE_THREADSAFE_HANDLE 1
#  define AF_AWAIT_ERROR_FORMAT "'%.100s' object can't be awaited"
#else
#  define AF_HAVE_SWAP_CURRENT_TASK 0
#  define AF_HAVE_CALL_GRAPH 0
#  define AF_HAVE_THREADSAFE_HANDLE 0
#  define AF_AWAIT_ERROR_FORMAT "object %.100s can't be used in 'await' expression"
#endif

/* 3.13: uncancel() down to zero also forgets a cancellation that was not delivered yet; sleep(nan) is a ValueError; a
   Server keeps a set of its transports, for abort_clients() and close_clients() */
#if PY_VERSION_HEX >= 0x030D0000
#  define AF_SERVER_KNOWS_TRANSPORTS 1
#  define AF_UNCANCEL_FORGETS 1
#  define AF_SLEEP_REFUSES_NAN 1
#else
#  define AF_SERVER_KNOWS_TRANSPORTS 0
#  define AF_UNCANCEL_FORGETS 0
#  define AF_SLEEP_REFUSES_NAN 0
#endif

/* BaseEventLoop.create_task(), as each version has it */
#if PY_VERSION_HEX >= 0x030E0000 || (PY_VERSION_HEX >= 0x030D0300 && PY_VERSION_HEX < 0x030D0400)
#  define AF_CREATE_TASK_SIGNATURE "create_task($self, coro, **kwargs)\n--\n\n"
#elif PY_VERSION_HEX >= 0x030D0400
#  define AF_CREATE_TASK_SIGNATURE "create_task($self, coro, *, name=None, context=None, **kwargs)\n--\n\n"
#else
#  define AF_CREATE_TASK_SIGNATURE "create_task($self, coro, *, name=None, context=None)\n--\n\n"
#endif

/* What transports say of wrong data, and of writelines() after write_eof() */
#if PY_VERSION_HEX >= 0x030E0000
#  define AF_WRITE_TYPE_ERROR "data argument must be a bytes, bytearray, or memoryview object"
#else
#  define AF_WRITE_TYPE_ERROR "data argument must be a bytes-like object"
#endif
#define AF_WRITELINES_NAME (PY_VERSION_HEX >= 0x030C0000 ? "writelines" : "write")

/* 3.13: an empty datagram is sent, not ignored; and each one that waits counts 8 bytes more (3.13 itself forgot to
   take them off again) */
#if PY_VERSION_HEX >= 0x030D0000
#  define AF_DATAGRAM_SENDS_EMPTY 1
#  define AF_DATAGRAM_HEADER 8
#else
#  define AF_DATAGRAM_SENDS_EMPTY 0
#  define AF_DATAGRAM_HEADER 0
#endif

/* What _asyncio.Future takes of an object, in bytes.  Up to 3.12 the instance dict and the weak references are in there,
   and its tp_traverse does (3.12) or does not (3.11) visit the type; from 3.13 on they lie before the object. */
#if PY_VERSION_HEX >= 0x030E0000
#  define AF_ASYNCIO_FUTURE_SIZE 112
#elif PY_VERSION_HEX >= 0x030D0000
#  define AF_ASYNCIO_FUTURE_SIZE 104
#else
#  define AF_ASYNCIO_FUTURE_SIZE 128
#endif
#define AF_ASYNCIO_FUTURE_VISITS_TYPE (PY_VERSION_HEX >= 0x030C0000)

/* 3.15: __init__() of a future or task a second time is an error, and says so of _asyncio's classes */
#define AF_INIT_ONCE (PY_VERSION_HEX >= 0x030F0000)

#if PY_VERSION_HEX < 0x030C0000
static inline PyObject *
PyErr_GetRaisedException(void)
{
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    if (type == NULL) {
        return NULL;
    }
    PyErr_NormalizeException(&type, &value, &tb);
    if (tb != NULL) {
        PyException_SetTraceback(value, tb);
        Py_DECREF(tb);
    }
    Py_DECREF(type);
    return value;
}

static inline void
PyErr_SetRaisedException(PyObject *exc)
{
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(exc)), exc, PyException_GetTraceback(exc));
}
#endif

/* Public as Py_IsFinalizing() since 3.13. */
#if PY_VERSION_HEX >= 0x030D0000
#  define AF_IS_FINALIZING() Py_IsFinalizing()
#else
#  define AF_IS_FINALIZING() _Py_IsFinalizing()
#endif

#if PY_VERSION_HEX < 0x030D0000
static inline int
PyWeakref_GetRef(PyObject *ref, PyObject **obj)
{
    PyObject *borrowed = PyWeakref_GetObject(ref);
    *obj = borrowed == NULL || borrowed == Py_None ? NULL : Py_NewRef(borrowed);
    return borrowed == NULL ? -1 : *obj != NULL;
}
#endif

/* Is what it referred to gone?  0 while that is about to go. */
static inline int
af_weakref_is_dead(PyObject *ref)
{
    return ((PyWeakReference *)ref)->wr_object == Py_None;
}

/* The version of a type: another one once the type or one of its bases was changed; 0: not known. */
static inline unsigned
af_type_version(PyTypeObject *type)
{
#if PY_VERSION_HEX < 0x030D0000
    if (!PyType_HasFeature(type, Py_TPFLAGS_VALID_VERSION_TAG)) {
        return 0;
    }
#endif
    return type->tp_version_tag;
}

/* Cut a bytes object that nobody else has seen, or has any more, to a length that its memory has room for. */
static inline void
af_bytes_set_length(PyObject *bytes, Py_ssize_t length)
{
    Py_SET_SIZE((PyVarObject *)bytes, length);
    PyBytes_AS_STRING(bytes)[length] = 0;
    _Py_COMP_DIAG_PUSH
    _Py_COMP_DIAG_IGNORE_DEPR_DECLS
    ((PyBytesObject *)bytes)->ob_shash = -1;        /* a hash that was taken of other contents */
    _Py_COMP_DIAG_POP
}

/* A visitproc that stops at the first thing it is shown. */
static inline int
af_visit_found(PyObject *Py_UNUSED(object), void *Py_UNUSED(arg))
{
    return 1;
}

/* Is there an instance dict before the object, or anything in place of one?  Most types keep none there. */
static inline int
af_managed_dict_in_use(PyObject *obj)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyObject_VisitManagedDict(obj, af_visit_found, NULL);
#else
    (void)obj;
    return 0;
#endif
}

/* From 3.14 on the instances of a type that keeps its dict before the object also have room behind it for the values of
   attributes: of 30 for the first one, of one less for each that follows, of one in the end.  Here for those that are
   recycled and looked through again and again, and hardly ever given attributes: let the end come at once.  0 or -1. */
static inline int
af_type_shrink_inline_values(PyTypeObject *type)
{
#if PY_VERSION_HEX >= 0x030E0000
    for (int i = 0; i < 30; i++) {
        PyObject *obj = type->tp_alloc(type, 0);
        if (obj == NULL) {
            return -1;
        }
        Py_DECREF(obj);
    }
#endif
    return 0;
}

/* An attribute that may be missing: 1, 0 (and *value NULL), -1.  PyObject_GetOptionalAttr() since 3.13. */
static inline int
af_lookup_attr(PyObject *obj, PyObject *name, PyObject **value)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyObject_GetOptionalAttr(obj, name, value);
#else
    return _PyObject_LookupAttr(obj, name, value);
#endif
}

/* A recycled object starts life again.  It kept its type, and its reference to it; a debug build keeps accounts of
   references and wants to be told. */
#if defined(Py_REF_DEBUG) || defined(Py_GIL_DISABLED)
#  define AF_REVIVE(obj) (PyObject_Init((PyObject *)(obj), Py_TYPE(obj)), Py_DECREF(Py_TYPE(obj)))
#else
#  define AF_REVIVE(obj) Py_SET_REFCNT((PyObject *)(obj), 1)
#endif

#endif
