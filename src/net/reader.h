/* StreamReader: what has been received and not yet read, and who waits for more. */
#ifndef AF_NET_READER_H
#define AF_NET_READER_H

#include "core/coro.h"

typedef struct {
    PyObject_HEAD
    AfState *st;
    PyObject *loop;             /* ... and the others: NULL or None is none */
    PyObject *buffer;           /* a bytearray */
    PyObject *chunk;            /* bytes that come before those, for a read() that takes them as they are; or NULL */
    AfCoro *parked;             /* that waits for more, or NULL: borrowed, or as AfPark.held says */
    PyObject *waiter;           /* or the future that one waits with */
    PyObject *exception;
    PyObject *transport;
    PyObject *limit;            /* as it was given, and twice, in bytes */
    Py_ssize_t most, pause_above;
    char eof, paused;
} AfReader;

AF_API int af_reader_setup(PyObject *module, AfState *st);
AF_API int af_reader_add_hot(PyTypeObject *type);              /* see there: 0 or -1 */

/* feed_data(): 0 or -1.  data is not looked at any more when Python code may run. */
AF_API int af_reader_feed(AfReader *r, const char *data, Py_ssize_t n);

/* The same for n > 0 bytes that the loop has read: whoever waits for them goes on as soon as the callback has returned. */
AF_API int af_reader_feed_next(AfReader *r, const char *data, Py_ssize_t n);

/* Wake whoever waits with that future, as _wakeup_waiter() does: 0 or -1. */
AF_API int af_reader_wake(AfState *st, PyObject *waiter);

/* readuntil() of a buffer, a bytearray: how many bytes are to be taken; 0: there is no separator yet; -1: LimitOverrunError.
   The separator is c->arg, bytes (NULL: a line's end), and there is none before c->offset. */
AF_API Py_ssize_t af_reader_find(AfCoro *c, PyObject *buffer, Py_ssize_t most);

/* IncompleteReadError, with what there is.  expected: an int or None. */
AF_API PySendResult af_reader_incomplete_steal(AfState *st, PyObject *buffer, PyObject *expected);

/* readline() catches what readuntil() raises: at the end a line need not end.  As af_coro_kind.caught; resume is the
   reader's _maybe_resume_transport(). */
AF_API int af_reader_caught_in_line(AfCoro *c, PyObject *buffer, int (*resume)(AfCoro *), PyObject **result);

/* Is it exactly asyncfast.StreamReader, of which no method is overridden? */
static inline int
af_reader_is_exact(AfState *st, PyObject *reader)
{
    return (PyObject *)Py_TYPE(reader) == st->PyReaderType;
}

static inline int
af_is_set(PyObject *field)
{
    return field != NULL && field != Py_None;
}

#endif
