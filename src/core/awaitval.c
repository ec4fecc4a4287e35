/* Awaiting a plain value.

   The eval loop asks a value's type for am_await and for nothing else, so the types of plain values get that slot: one
   static PyAsyncMethods for all of them, put in by the first loop that has the option and there for the rest of the
   process.  What keeps it from showing anywhere else:
   - The slot gives the value only to an `await` in a thread, and in an interpreter, where a loop with the option runs
     (the mark below), and only for the very types in the table: heap types made in C inherit it.  To all others it
     says what CPython says of a type that has no such slot.
   - No type gets an `__await__`: isinstance(3, Awaitable) and inspect.isawaitable(3) look for the name, and that is
     written only when a type is readied.  CPython 3.12 and later ready their own types again in each new
     interpreter, which writes it: see "new interpreters".
   Coroutines, generators, `yield from` and `async for` over a value never come here.

   Any thread, any interpreter; the mark is the thread's own.  Only dropping a value that nobody else holds can run
   foreign Python. */
#include "core/awaitval.h"

#include <opcode.h>             /* GET_AWAITABLE, GET_ANEXT */

#include "core/stopiter.h"

typedef struct {
    PyObject_HEAD
    PyObject *value;            /* NULL once given */
} AfAwaitVal;

static _Thread_local af_awaitval_mark awaitval_mark;

AF_API void
af_awaitval_enter(AfState *st, int on, af_awaitval_mark *saved)
{
    *saved = awaitval_mark;
    awaitval_mark.st = on ? st : NULL;
    awaitval_mark.interp = PyInterpreterState_Get();
}

AF_API void
af_awaitval_leave(const af_awaitval_mark *saved)
{
    awaitval_mark = *saved;
}

/* ---- the slot --------------------------------------------------------------------------------------------------- */

/* Plain values: numbers, strings, bytes, containers.  Not None: a forgotten `return` stays an error. */
static PyTypeObject *const awaitval_types[] = {
    &PyLong_Type, &PyUnicode_Type, &PyDict_Type, &PyList_Type, &PyTuple_Type, &PyBool_Type, &PyFloat_Type,
    &PyBytes_Type, &PySet_Type, &PyFrozenSet_Type, &PyByteArray_Type, &PyComplex_Type, &PyRange_Type,
    &PyMemoryView_Type,
#ifdef PyFrozenDict_CheckExact
    &PyFrozenDict_Type,
#endif
};

#define AWAITVAL_TYPES (sizeof(awaitval_types) / sizeof(awaitval_types[0]))

static int
awaitval_is_plain(PyTypeObject *type)
{
    for (size_t i = 0; i < AWAITVAL_TYPES; i++) {
        if (type == awaitval_types[i]) {
            return 1;
        }
    }
    return 0;
}

typedef enum { AWAITVAL_FAILED = -1, AWAITVAL_AWAIT, AWAITVAL_AENTER, AWAITVAL_AEXIT, AWAITVAL_ANEXT } awaitval_place;

/* What the running frame wants the iterator for: `async with` and `async for` ask the slot as `await` does, for what
   __aenter__(), __aexit__() and __anext__() returned.  Compiled coroutines (Cython) have no frame that tells; they
   count as `await`. */
static awaitval_place
awaitval_asked_by(void)
{
    PyFrameObject *frame = PyEval_GetFrame();
    int at = frame == NULL ? -1 : PyFrame_GetLasti(frame);
    if (at < 0) {
        return AWAITVAL_AWAIT;
    }
    PyCodeObject *code = PyFrame_GetCode(frame);
    PyObject *bytes = PyCode_GetCode(code);         /* made once per code object, kept there */
    Py_DECREF(code);
    if (bytes == NULL) {
        return AWAITVAL_FAILED;
    }
    awaitval_place place = AWAITVAL_AWAIT;
    if (at + 1 < PyBytes_GET_SIZE(bytes)) {
        const unsigned char *op = (const unsigned char *)PyBytes_AS_STRING(bytes) + at;
        if (op[0] == GET_ANEXT) {
            place = AWAITVAL_ANEXT;
        }
        else if (op[0] == GET_AWAITABLE) {
            place = op[1] == 1 ? AWAITVAL_AENTER : op[1] == 2 ? AWAITVAL_AEXIT : AWAITVAL_AWAIT;
        }
    }
    Py_DECREF(bytes);
    return place;
}

static PyObject *
awaitval_refuse(PyTypeObject *type, awaitval_place place)
{
    if (place == AWAITVAL_AENTER || place == AWAITVAL_AEXIT) {
        PyErr_Format(PyExc_TypeError,
                     "'async with' received an object from %s that does not implement __await__: %.100s",
                     place == AWAITVAL_AENTER ? "__aenter__" : "__aexit__", type->tp_name);
    }
    else {
        /* for __anext__() the eval loop makes this the cause of its own error */
        PyErr_Format(PyExc_TypeError, AF_AWAIT_ERROR_FORMAT, type->tp_name);
    }
    return NULL;
}

static PyObject *
awaitval_am_await(PyObject *value)
{
    PyTypeObject *type = Py_TYPE(value);
    awaitval_place place = awaitval_asked_by();
    if (place == AWAITVAL_FAILED) {
        return NULL;
    }
    AfState *st = awaitval_mark.st;
    if (st == NULL || place != AWAITVAL_AWAIT || !awaitval_is_plain(type) ||
        awaitval_mark.interp != PyInterpreterState_Get()) {
        return awaitval_refuse(type, place);
    }
    AfAwaitVal *v = PyObject_New(AfAwaitVal, st->AwaitValType);
    if (v != NULL) {
        v->value = Py_NewRef(value);
    }
    return (PyObject *)v;
}

/* ---- new interpreters ------------------------------------------------------------------------------------------- */

/* Readying a type writes an `__await__` for a filled am_await.  CPython's own types are readied by each interpreter
   for itself since 3.12, early in its life, with no call that one could take part in.  So the wrapper is removed, in
   each interpreter made after the slots were put in, before that interpreter runs anything but importlib's own start:
   as one more step of executing `_weakref`, the last built-in module that importlib._bootstrap loads as it sets itself
   up.  An audit hook could do the same, but would cost every audited call of the process for ever. */
#if AF_HAVE_SLOT_INTERPRETERS

#define AWAITVAL_MODULE "_weakref"
#define AWAITVAL_SLOTS_MAX 16

static struct {
    PyModuleDef *def;
    PyModuleDef_Slot *original;
    PyModuleDef_Slot slots[AWAITVAL_SLOTS_MAX];
} awaitval_hooked;              /* written once, before anybody can see it */

/* No PyType_Modified(): nothing in this interpreter has looked the name up yet, and the version tags of these types
   are shared with interpreters that run meanwhile. */
static int
awaitval_remove_wrappers(PyObject *Py_UNUSED(module))
{
    PyObject *name = PyUnicode_InternFromString("__await__");
    int rc = name == NULL ? -1 : 0;
    for (size_t i = 0; rc == 0 && i < AWAITVAL_TYPES; i++) {
        PyObject *dict = PyType_GetDict(awaitval_types[i]);
        PyObject *wrapper = dict == NULL ? NULL : PyDict_GetItemWithError(dict, name);
        if (wrapper != NULL && Py_IS_TYPE(wrapper, &PyWrapperDescr_Type)) {
            rc = PyDict_DelItem(dict, name);
        }
        else if (PyErr_Occurred()) {
            rc = -1;
        }
        Py_XDECREF(dict);
    }
    Py_XDECREF(name);
    return rc;
}

/* 0 or -1.  One thread at a time. */
static int
awaitval_hook_interpreters(void)
{
    PyObject *module = PyImport_ImportModule(AWAITVAL_MODULE);
    if (module == NULL) {
        return -1;
    }
    PyModuleDef *def = PyModule_Check(module) ? PyModule_GetDef(module) : NULL;
    int n = 0;
    while (def != NULL && def->m_slots != NULL && n < AWAITVAL_SLOTS_MAX - 2 && def->m_slots[n].slot != 0) {
        awaitval_hooked.slots[n] = def->m_slots[n];
        n++;
    }
    Py_DECREF(module);
    if (def == NULL || def->m_slots == NULL || def->m_slots[n].slot != 0) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_RuntimeError, "await_values=True: this Python's " AWAITVAL_MODULE " is unknown");
        }
        return -1;
    }
    awaitval_hooked.slots[n] = (PyModuleDef_Slot){Py_mod_exec, (void *)awaitval_remove_wrappers};
    awaitval_hooked.slots[n + 1] = (PyModuleDef_Slot){0, NULL};
    awaitval_hooked.def = def;
    awaitval_hooked.original = def->m_slots;
    __atomic_store_n(&def->m_slots, awaitval_hooked.slots, __ATOMIC_RELEASE);
    return 0;
}

static void
awaitval_unhook_interpreters(void)
{
    awaitval_hooked.def->m_slots = awaitval_hooked.original;
}

#else

static int
awaitval_hook_interpreters(void)
{
    return 0;
}

static void
awaitval_unhook_interpreters(void)
{
}

#endif

/* ---- putting the slot in ---------------------------------------------------------------------------------------- */

static PyAsyncMethods awaitval_async = {.am_await = awaitval_am_await};

enum { AWAITVAL_OUT, AWAITVAL_BUSY, AWAITVAL_IN };
static int awaitval_status;     /* atomic */

/* Py_Finalize() has destroyed all: a host that starts Python again in this process readies the types again, and finds
   them as CPython made them. */
static void
awaitval_uninstall(void)
{
    for (size_t i = 0; i < AWAITVAL_TYPES; i++) {
        if (awaitval_types[i]->tp_as_async == &awaitval_async) {
            awaitval_types[i]->tp_as_async = NULL;
        }
    }
    awaitval_unhook_interpreters();
    __atomic_store_n(&awaitval_status, AWAITVAL_OUT, __ATOMIC_RELEASE);
}

static int
awaitval_install_now(void)
{
    for (size_t i = 0; i < AWAITVAL_TYPES; i++) {
        if (awaitval_types[i]->tp_as_async != NULL) {
            PyErr_Format(PyExc_RuntimeError, "await_values=True: something else has given '%s' async methods",
                         awaitval_types[i]->tp_name);
            return -1;
        }
    }
    /* The hook first: an interpreter that readies its types from now on is one whose wrappers are removed. */
    if (awaitval_hook_interpreters() < 0) {
        return -1;
    }
    if (Py_AtExit(awaitval_uninstall) < 0) {
        awaitval_unhook_interpreters();
        PyErr_SetString(PyExc_RuntimeError, "await_values=True: no room for another Py_AtExit() function");
        return -1;
    }
    for (size_t i = 0; i < AWAITVAL_TYPES; i++) {
        __atomic_store_n(&awaitval_types[i]->tp_as_async, &awaitval_async, __ATOMIC_RELEASE);
    }
    return 0;
}

AF_API int
af_awaitval_install(void)
{
    for (;;) {
        int status = AWAITVAL_OUT;
        if (__atomic_load_n(&awaitval_status, __ATOMIC_ACQUIRE) == AWAITVAL_IN) {
            return 0;
        }
        if (__atomic_compare_exchange_n(&awaitval_status, &status, AWAITVAL_BUSY, 0, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED)) {
            int rc = awaitval_install_now();
            __atomic_store_n(&awaitval_status, rc < 0 ? AWAITVAL_OUT : AWAITVAL_IN, __ATOMIC_RELEASE);
            return rc;
        }
        if (status == AWAITVAL_BUSY) {
            /* another thread is at it, which may need this one's lock to go on (the import) */
            Py_BEGIN_ALLOW_THREADS
            Py_END_ALLOW_THREADS
        }
    }
}

/* ---- the iterator ----------------------------------------------------------------------------------------------- */

static PySendResult
awaitval_am_send(AfAwaitVal *v, PyObject *Py_UNUSED(arg), PyObject **result)
{
    *result = v->value == NULL ? Py_NewRef(Py_None) : v->value;
    v->value = NULL;
    return PYGEN_RETURN;
}

static PyObject *
awaitval_tp_iternext(AfAwaitVal *v)
{
    if (v->value != NULL) {
        af_set_stop_iteration(v->value);
        Py_CLEAR(v->value);
    }
    return NULL;
}

/* Not known to the collector: only the frame that awaits ever holds it, from one instruction to the next. */
static void
awaitval_tp_dealloc(AfAwaitVal *v)
{
    PyTypeObject *type = Py_TYPE(v);
    Py_XDECREF(v->value);
    PyObject_Free(v);
    Py_DECREF(type);
}

static PyType_Slot awaitval_slots[] = {
    {Py_tp_doc, (void *)"What `await value` iterates over: ends at once with the value."},
    {Py_tp_dealloc, awaitval_tp_dealloc},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, awaitval_tp_iternext},
    {Py_am_send, awaitval_am_send},
    {0, NULL},
};

static PyType_Spec awaitval_spec = {
    "asyncfast.AwaitedValue", sizeof(AfAwaitVal), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    awaitval_slots,
};

AF_API int
af_awaitval_setup(PyObject *module, AfState *st)
{
    st->AwaitValType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &awaitval_spec, NULL);
    return st->AwaitValType == NULL ? -1 : 0;
}

#undef AWAITVAL_TYPES
#if AF_HAVE_SLOT_INTERPRETERS
#  undef AWAITVAL_MODULE
#  undef AWAITVAL_SLOTS_MAX
#endif
