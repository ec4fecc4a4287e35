/* What our Future is derived from: _asyncio.Future, so that it is one for everybody who asks. */
#ifndef AF_CORE_FUTBASE_H
#define AF_CORE_FUTBASE_H

#include "rt/state.h"

/* The words are private to asyncio's C code, which finds all of them zero: to it, a future that was never initialized.
   It does put things in there: who awaits the future (3.14+); up to 3.12 also the instance dict and the weak references. */
typedef struct {
    PyObject_HEAD
    void *words[(AF_ASYNCIO_FUTURE_SIZE - sizeof(PyObject)) / sizeof(void *)];
} AfFutBase;

/* asyncio's type, or a stand-in if that does not fit: a new reference. */
AF_API PyTypeObject *af_futbase_type(PyObject *module, AfState *st);

static inline int
af_futbase_has_weakrefs(AfFutBase *b)
{
    return *(PyObject **)((char *)b + Py_TYPE(b)->tp_weaklistoffset) != NULL;
}

/* Is anything in there, or in the instance dict?  If not, the memory may be recycled as it is. */
static inline int
af_futbase_in_use(AfFutBase *b)
{
    uintptr_t any = 0;
    for (size_t i = 0; i < sizeof(b->words) / sizeof(b->words[0]); i++) {
        any |= (uintptr_t)b->words[i];
    }
    return any != 0 || af_managed_dict_in_use((PyObject *)b);
}

#endif
