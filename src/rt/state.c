/* Finding the state from a module or a type; calling methods by name. */
#include "rt/state.h"

#include "rt/moduledef.h"

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

AF_API PyObject *
af_call_method(PyObject *obj, const char *name, const char *format, ...)
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
        va_list va;
        AF_ASSERT(strlen(format) < sizeof(tuple) - 2);
        PyOS_snprintf(tuple, sizeof(tuple), "(%s)", format);
        va_start(va, format);
        PyObject *args = Py_VaBuildValue(tuple, va);
        va_end(va);
        res = args == NULL ? NULL : PyObject_Call(func, args, NULL);
        Py_XDECREF(args);
    }
    Py_DECREF(func);
    return res;
}
