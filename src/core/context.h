/* Contexts without copies.

   asyncio gives every callback and every task a copy of the caller's contextvars.Context.  Nearly all of them never set a
   variable, so nearly all of these copies are equal.  A context's variables are one immutable map; two contexts with the
   same map pointer hold the same values.  So:

   - what is scheduled shares one *pristine* context that nobody ever runs in, taken while the map was the caller's;
   - it runs in the loop's *runner*, a copy of the pristine one, and the loop stays entered in it from one callback or
     step to the next as long as the maps agree;
   - a runner whose map has changed, or that somebody else holds (a greenlet, say), is given away: to the task as its
     own context from then on, or, after a callback, to nobody.
   - whoever asks for the context of a task or a handle gets one of its own.

   What Python code can see is what it sees with a copy each.  The map pointer is read from inside the context object;
   af_context_probe() proves at import that it is where we think, and otherwise everybody gets a copy. */
#ifndef AF_CORE_CONTEXT_H
#define AF_CORE_CONTEXT_H

#include "core/loop.h"

/* Whose the context of a task or handle is. */
enum { AF_CONTEXT_OWN, AF_CONTEXT_PRISTINE, AF_CONTEXT_RUNNING };

/* The beginning of CPython's context object, the same from 3.11 to 3.15. */
typedef struct {
    PyObject_HEAD
    PyObject *prev;
    PyObject *vars;
} af_context_head;

AF_API int af_context_probe(AfState *st);       /* sets st->share_contexts; 0 or -1 */
AF_API PyObject *af_context_take_slow(AfLoop *loop);
AF_API void af_context_give_up(PyObject *runner, PyObject *pristine, char *shared);
AF_API int af_context_enter_slow(AfLoop *loop, PyObject *pristine);
AF_API void af_context_leave(AfLoop *loop);

/* The loop's runner and whether it is entered, while something is run from inside a callback or a step: other contexts may
   be entered above that runner, so what is run there finds none, and makes its own. */
typedef struct {
    PyObject *runner;
    char entered;
} af_context_aside;

static inline af_context_aside
af_context_set_aside(AfLoop *loop)
{
    af_context_aside aside = {loop->runner, loop->entered};
    loop->runner = NULL;
    loop->entered = 0;
    return aside;
}

AF_API void af_context_take_back(AfLoop *loop, af_context_aside aside);     /* leaves what was entered meanwhile */

static inline PyObject *
af_context_vars(PyObject *context)
{
    return ((af_context_head *)context)->vars;
}

/* A context for something scheduled now: a new reference, *shared says whether it is a pristine one. */
static inline PyObject *
af_context_take(AfLoop *loop, char *shared)
{
    *shared = loop->st->share_contexts ? AF_CONTEXT_PRISTINE : AF_CONTEXT_OWN;
    PyObject *pristine = loop->pristine;
    PyObject *current = PyThreadState_Get()->context;
    if (af_likely(pristine != NULL && current != NULL && af_context_vars(pristine) == af_context_vars(current))) {
        return Py_NewRef(pristine);
    }
    return af_context_take_slow(loop);
}

/* Take the runner for something that shares pristine, entered; the caller gives it back with af_context_done(). */
static inline PyObject *
af_context_run(AfLoop *loop, PyObject *pristine)
{
    PyObject *runner = loop->runner;
    if (af_unlikely(!loop->entered || af_context_vars(runner) != af_context_vars(pristine))) {
        if (af_context_enter_slow(loop, pristine) < 0) {
            return NULL;
        }
        runner = loop->runner;
    }
    loop->runner = NULL;            /* a loop run inside the callback finds none, and makes its own */
    loop->entered = 0;
    return runner;
}

/* Give the runner back.  While it ran, what it ran had *context == runner (a reference of its own) and *shared ==
   AF_CONTEXT_RUNNING.  If nothing was changed and nobody holds it, the loop has the runner again and *context is the
   pristine one; otherwise *context stays the runner, its own from now on. */
static inline void
af_context_done(AfLoop *loop, PyObject *runner, PyObject *pristine, PyObject **context, char *shared)
{
    /* three references: ours, the thread's, which is in it, and *context */
    if (af_likely(af_context_vars(runner) == af_context_vars(pristine) && Py_REFCNT(runner) == 3 &&
                  *shared == AF_CONTEXT_RUNNING && loop->runner == NULL)) {
        *context = pristine;
        *shared = AF_CONTEXT_PRISTINE;
        Py_DECREF(runner);
        loop->runner = runner;
        loop->entered = 1;
        return;
    }
    af_context_give_up(runner, pristine, shared);
}

#endif
