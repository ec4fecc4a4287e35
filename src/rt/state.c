/* Finding the state from a module or a type; calling methods by name; adding to types. */
#include "rt/state.h"

#include "rt/moduledef.h"

AF_API void *
af_freelist_make(PyTypeObject *type)
{
    PyObject *obj = PyObject_GC_New(PyObject, type);
    if (obj != NULL) {
        memset(obj + 1, 0, (size_t)type->tp_basicsize - sizeof(*obj));
    }
    return obj;
}

AF_API void
af_freelist_free(void *obj)
{
    PyTypeObject *type = Py_TYPE((PyObject *)obj);
    type->tp_free(obj);
    Py_DECREF(type);
}

AF_API AfState *
af_state_of_module(PyObject *module)
{
    return (AfState *)PyModule_GetState(module);
}

AF_API AfState *
af_state_of_type(PyTypeObject *type)
{
    PyObject *module = PyType_GetModuleByDef(type, &af_module_def);
    AF_ASSERT(module != NULL);
    return (AfState *)PyModule_GetState(module);
}

AF_API PyObject *
af_get_attr(PyObject *obj, const char *name)
{
    PyObject *interned = PyUnicode_InternFromString(name);
    PyObject *value = interned == NULL ? NULL : PyObject_GetAttr(obj, interned);
    Py_XDECREF(interned);
    return value;
}

static PyObject *
state_call(PyObject *obj, const char *name, const char *format, va_list va)
{
    PyObject *func = af_get_attr(obj, name), *res = NULL;
    if (func == NULL) {
        return NULL;
    }
    if (format == NULL) {
        res = PyObject_CallNoArgs(func);
    }
    else {
        char tuple[32];
        size_t length = strlen(format);
        AF_ASSERT(length < sizeof(tuple) - 2);
        tuple[0] = '(';
        memcpy(tuple + 1, format, length);
        memcpy(tuple + 1 + length, ")", 2);
        PyObject *args = Py_VaBuildValue(tuple, va);
        res = args == NULL ? NULL : PyObject_Call(func, args, NULL);
        Py_XDECREF(args);
    }
    Py_DECREF(func);
    return res;
}

AF_API PyObject *
af_call_method(PyObject *obj, const char *name, const char *format, ...)
{
    va_list va;
    va_start(va, format);
    PyObject *res = state_call(obj, name, format, va);
    va_end(va);
    return res;
}

AF_API int
af_call_hook(AfState *st, const char *name, const char *format, ...)
{
    va_list va;
    va_start(va, format);
    PyObject *res = state_call(st->hooks, name, format, va);
    va_end(va);
    Py_XDECREF(res);
    return res == NULL ? -1 : 0;
}

AF_API int
af_call_hook_handling(AfState *st, PyObject *exc, const char *name, const char *format, ...)
{
    PyObject *before = PyErr_GetHandledException();
    PyErr_SetHandledException(exc);
    va_list va;
    va_start(va, format);
    PyObject *res = state_call(st->hooks, name, format, va);
    va_end(va);
    PyErr_SetHandledException(before);
    Py_XDECREF(before);
    Py_XDECREF(res);
    return res == NULL ? -1 : 0;
}

/* Not by setattr: the type may be immutable for everybody else. */
static int
state_add_steal(PyTypeObject *type, const char *name, PyObject *descr)
{
    int rc = descr == NULL ? -1 : PyDict_SetItemString(type->tp_dict, name, descr);
    Py_XDECREF(descr);
    return rc;
}

AF_API int
af_type_add(PyTypeObject *type, PyMethodDef *methods, PyGetSetDef *getset)
{
    int rc = 0;
    for (PyMethodDef *m = methods; rc == 0 && m != NULL && m->ml_name != NULL; m++) {
        rc = state_add_steal(type, m->ml_name, PyDescr_NewMethod(type, m));
    }
    for (PyGetSetDef *g = getset; rc == 0 && g != NULL && g->name != NULL; g++) {
        rc = state_add_steal(type, g->name, PyDescr_NewGetSet(type, g));
    }
    PyType_Modified(type);
    return rc;
}
