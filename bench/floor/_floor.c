/* The floors of the bench: what the callbacks and coroutines of a case cost when nothing but a C loop drives them.
 *
 * No context, no current task, no handles, no timers, no polling: an event loop has to do more than this, so the
 * distance to it is what the loop costs.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

static PyObject *
floor_call(PyObject *module, PyObject *args)
{
    PyObject *func;
    Py_ssize_t times;

    if (!PyArg_ParseTuple(args, "On:call", &func, &times))
        return NULL;
    for (Py_ssize_t i = 0; i < times; i++) {
        PyObject *result = PyObject_CallNoArgs(func);
        if (result == NULL)
            return NULL;
        Py_DECREF(result);
    }
    return PyLong_FromSsize_t(times);
}

static PyObject *
floor_drive(PyObject *module, PyObject *list)
{
    if (!PyList_CheckExact(list)) {
        PyErr_SetString(PyExc_TypeError, "drive() needs a list of coroutines");
        return NULL;
    }
    /* as in a loop, an entry is taken from the head and put back at the tail */
    size_t live = (size_t)PyList_GET_SIZE(list), size = 1, head = 0;
    while (size < live)
        size *= 2;
    PyObject **ring = PyMem_New(PyObject *, size);
    if (ring == NULL)
        return PyErr_NoMemory();
    for (size_t i = 0; i < live; i++)
        ring[i] = Py_NewRef(PyList_GET_ITEM(list, i));

    Py_ssize_t resumed = 0;
    int failed = 0;
    while (live && !failed) {
        PyObject *coroutine = ring[head++ & (size - 1)], *result;
        live--;
        resumed++;
        switch (PyIter_Send(coroutine, Py_None, &result)) {
        case PYGEN_NEXT:
            Py_DECREF(result);
            ring[(head + live++) & (size - 1)] = coroutine;
            continue;
        case PYGEN_RETURN:
            Py_DECREF(result);
            break;
        case PYGEN_ERROR:
            failed = 1;
            break;
        }
        Py_DECREF(coroutine);
    }
    while (live)
        Py_DECREF(ring[(head + --live) & (size - 1)]);
    PyMem_Free(ring);
    return failed ? NULL : PyLong_FromSsize_t(resumed);
}

static PyMethodDef floor_methods[] = {
    {"call", floor_call, METH_VARARGS, "call($module, func, times, /)\n--\n\nCall func() so many times."},
    {"drive", floor_drive, METH_O,
     "drive($module, coroutines, /)\n--\n\nResume each in turn until all have returned; the number of resumptions."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot floor_slots[] = {
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static PyModuleDef floor_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_floor",
    .m_doc = "Drives callbacks and coroutines from C, with no event loop.",
    .m_methods = floor_methods,
    .m_slots = floor_slots,
};

PyMODINIT_FUNC
PyInit__floor(void)
{
    return PyModuleDef_Init(&floor_module);
}
