/* The module definition's room: finding the state from a module or a type. */
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
