/* Awaiting a plain value: `await 3` is 3 while a loop made with await_values=True runs in this thread. */
#ifndef AF_CORE_AWAITVAL_H
#define AF_CORE_AWAITVAL_H

#include "rt/state.h"

/* What a thread does with plain values: whose AwaitValType serves them (NULL: they are an error), and where. */
typedef struct {
    AfState *st;                    /* borrowed: the module outlives the loop that runs */
    PyInterpreterState *interp;
} af_awaitval_mark;

AF_API int af_awaitval_setup(PyObject *module, AfState *st);

/* Once a loop wants it, the types of plain values get their slot, for the whole process.  Any number of times, from
   any thread. */
AF_API int af_awaitval_install(void);

/* Around the time that a loop runs in this thread. on: the loop has the option; one that has not switches it off. */
AF_API void af_awaitval_enter(AfState *st, int on, af_awaitval_mark *saved);
AF_API void af_awaitval_leave(const af_awaitval_mark *saved);

#endif
