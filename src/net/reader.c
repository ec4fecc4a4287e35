/* The stream reader: asyncio.StreamReader's fields, and its methods that run for every chunk and every read.

   asyncfast.StreamReader inherits from this and then from asyncio.StreamReader, whose other methods find their fields
   here.  A subclass may override what asyncio's methods call, so on its instances the reading methods are asyncio's
   own, and so they are for arguments that are out of the ordinary.

   One coroutine waits at a time, and is `_waiter`, where asyncio has a future: on a loop of ours it is parked; on others, and
   in the methods that are asyncio's, it waits with a future as there.

   Belongs to its loop's thread.  Runs Python: the transport's methods, foreign futures, dropped references. */
#include "net/reader.h"

#include "net/bytebuf.h"
#include "rt/args.h"

#define READER_LIMIT ((Py_ssize_t)64 * 1024)

/* ---- the buffer ------------------------------------------------------------------------------------------------- */

static Py_ssize_t
reader_size(const AfReader *r)
{
    return PyByteArray_GET_SIZE(r->buffer) + (r->chunk == NULL ? 0 : PyBytes_GET_SIZE(r->chunk));
}

/* Everything is in the buffer: 0, or -1 and nothing has changed. */
static int
reader_whole(AfReader *r)
{
    if (af_likely(r->chunk == NULL)) {
        return 0;
    }
    if (PySequence_SetSlice(r->buffer, 0, 0, r->chunk) < 0) {
        return -1;
    }
    Py_CLEAR(r->chunk);
    return 0;
}

static int
reader_set_limit(AfReader *r, PyObject *limit, void *Py_UNUSED(closure))
{
    double d = limit == NULL ? -1.0 : PyFloat_AsDouble(limit);
    if (limit == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_limit cannot be deleted");
        return -1;
    }
    if (d == -1.0 && PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError)) {
            return -1;
        }
        PyErr_Clear();          /* an int beyond any float */
        d = (double)PY_SSIZE_T_MAX;
    }
    double most = (double)(PY_SSIZE_T_MAX / 4);
    r->most = d < most ? (Py_ssize_t)d : PY_SSIZE_T_MAX;
    r->pause_above = d < most ? (Py_ssize_t)(2 * d) : PY_SSIZE_T_MAX;
    Py_XSETREF(r->limit, Py_NewRef(limit));
    return 0;
}

static int
reader_maybe_resume(AfReader *r)
{
    if (af_likely(!r->paused) || reader_size(r) > r->most) {
        return 0;
    }
    r->paused = 0;
    PyObject *res = af_call_method(r->transport == NULL ? Py_None : r->transport, "resume_reading", NULL);
    Py_XDECREF(res);
    return res == NULL ? -1 : 0;
}

static int
reader_maybe_pause(AfReader *r)
{
    if (af_likely(reader_size(r) <= r->pause_above) || r->paused || !af_is_set(r->transport)) {
        return 0;
    }
    PyObject *res = af_call_method(r->transport, "pause_reading", NULL);
    if (res != NULL) {
        r->paused = 1;
        Py_DECREF(res);
        return 0;
    }
    if (!PyErr_ExceptionMatches(PyExc_NotImplementedError)) {
        return -1;
    }
    PyErr_Clear();
    Py_CLEAR(r->transport);     /* it cannot be paused, so it is not asked again */
    return 0;
}

/* The first n bytes, which leave the buffer; a new reference. */
static PyObject *
reader_take(AfReader *r, Py_ssize_t n)
{
    PyObject *bytes = PyBytes_FromStringAndSize(PyByteArray_AS_STRING(r->buffer), n);
    if (bytes != NULL && (af_bytebuf_drop(r->buffer, n) < 0 || reader_maybe_resume(r) < 0)) {
        Py_CLEAR(bytes);
    }
    return bytes;
}

/* ---- feeding ---------------------------------------------------------------------------------------------------- */

AF_API int
af_reader_wake(AfState *st, PyObject *waiter)
{
    if (af_likely(af_future_is_exact(waiter))) {
        AfFuture *f = (AfFuture *)waiter;
        return f->state == AF_CANCELLED ? 0 : af_future_set_result(f, Py_None);
    }
    PyObject *res = af_call_method(waiter, "cancelled", NULL);
    int cancelled = res == NULL ? -1 : PyObject_IsTrue(res);
    Py_XDECREF(res);
    if (cancelled != 0) {
        return cancelled < 0 ? -1 : 0;
    }
    res = af_call_method(waiter, "set_result", "O", Py_None);
    Py_XDECREF(res);
    return res == NULL ? -1 : 0;
}

/* Nothing is to wake the coroutine that was parked. */
static void
reader_forget_parked(AfPark *park)
{
    ((AfReader *)((AfCoro *)park)->self)->parked = NULL;
}

/* It goes on, and raises error if that is not NULL. */
static int
reader_wake_parked(AfReader *r, PyObject *error)
{
    AfCoro *c = r->parked;
    r->parked = NULL;
    c->error = Py_XNewRef(error);
    return af_park_wake(&c->park, 0);
}

static int
reader_wakeup(AfReader *r)
{
    if (r->parked != NULL) {
        return reader_wake_parked(r, NULL);
    }
    PyObject *waiter = r->waiter;
    if (!af_is_set(waiter)) {
        return 0;
    }
    r->waiter = NULL;
    int rc = af_reader_wake(r->st, waiter);
    Py_DECREF(waiter);
    return rc;
}

static int
reader_fed(AfReader *r)
{
    return reader_wakeup(r) < 0 || reader_maybe_pause(r) < 0 ? -1 : 0;
}

static int
reader_may_feed(AfReader *r)
{
    if (af_unlikely(r->eof)) {
        PyErr_SetString(PyExc_AssertionError, "feed_data after feed_eof");
        return 0;
    }
    return 1;
}

AF_API int
af_reader_feed(AfReader *r, const char *data, Py_ssize_t n)
{
    if (!reader_may_feed(r)) {
        return -1;
    }
    return n == 0 ? 0 : reader_whole(r) < 0 || af_bytebuf_append(r->buffer, data, n) < 0 ? -1 : reader_fed(r);
}

static PySendResult reader_step_read(AfCoro *c, PyObject **result);

/* May the read() that waits return just these n bytes? */
static int
reader_takes_chunk(const AfReader *r, Py_ssize_t n)
{
    const AfCoro *c = r->parked;
    return c->kind->step == reader_step_read && n <= c->n && PyByteArray_GET_SIZE(r->buffer) == 0 &&
           ((PyByteArrayObject *)r->buffer)->ob_exports == 0;
}

AF_API int
af_reader_feed_next(AfReader *r, const char *data, Py_ssize_t n)
{
    AfCoro *c = r->parked;
    if (af_unlikely(c == NULL || r->eof)) {
        return af_reader_feed(r, data, n);
    }
    AF_ASSERT(r->chunk == NULL);        /* or it would not wait */
    if (reader_takes_chunk(r, n)) {
        r->chunk = PyBytes_FromStringAndSize(data, n);
        if (r->chunk == NULL) {
            return -1;
        }
    }
    else if (af_bytebuf_append(r->buffer, data, n) < 0) {
        return -1;
    }
    r->parked = NULL;
    return af_park_wake_next(&c->park) < 0 ? -1 : reader_maybe_pause(r);
}

static PyObject *
reader_feed_data(AfReader *r, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *data;
    if (af_args_one("feed_data", "data", args, nargs, kwnames, &data) < 0) {
        return NULL;
    }
    if (PyBytes_CheckExact(data)) {
        return af_reader_feed(r, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)) < 0 ? NULL : Py_NewRef(Py_None);
    }
    int any = reader_may_feed(r) ? PyObject_IsTrue(data) : -1;
    if (any <= 0) {
        return any < 0 ? NULL : Py_NewRef(Py_None);
    }
    PyObject *res = reader_whole(r) < 0 ? NULL : af_call_method(r->buffer, "extend", "O", data);
    Py_XDECREF(res);
    return res == NULL || reader_fed(r) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
reader_feed_eof(AfReader *r, PyObject *Py_UNUSED(ignored))
{
    r->eof = 1;
    return reader_wakeup(r) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
reader_wakeup_waiter(AfReader *r, PyObject *Py_UNUSED(ignored))
{
    return reader_wakeup(r) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
reader_maybe_resume_transport(AfReader *r, PyObject *Py_UNUSED(ignored))
{
    return reader_maybe_resume(r) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
reader_at_eof(AfReader *r, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(r->eof && reader_size(r) == 0);
}

static PyObject *
reader_exception(AfReader *r, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(r->exception == NULL ? Py_None : r->exception);
}

static PyObject *
reader_set_exception(AfReader *r, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *exc;
    if (af_args_one("set_exception", "exc", args, nargs, kwnames, &exc) < 0) {
        return NULL;
    }
    if (r->parked == NULL) {
        PyObject *method = af_get_attr(r->st->asyncio_StreamReader, "set_exception");
        PyObject *res = method == NULL ? NULL : PyObject_CallFunctionObjArgs(method, (PyObject *)r, exc, NULL);
        Py_XDECREF(method);
        return res;
    }
    Py_XSETREF(r->exception, Py_NewRef(exc));
    PyObject *error = af_future_checked_exception(r->st, exc);
    int rc = error == NULL ? -1 : r->parked == NULL ? 0 : reader_wake_parked(r, error);     /* making it ran Python */
    Py_XDECREF(error);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

/* `raise exception`, if there is one: 0 or -1. */
static int
reader_check(AfReader *r)
{
    PyObject *exc = r->exception;
    if (af_likely(!af_is_set(exc))) {
        return 0;
    }
    if (PyExceptionInstance_Check(exc)) {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    }
    else if (PyExceptionClass_Check(exc)) {
        PyErr_SetNone(exc);
    }
    else {
        PyErr_SetString(PyExc_TypeError, "exceptions must derive from BaseException");
    }
    return -1;
}

/* Have c wait until more is fed, or the end is. */
static PySendResult
reader_wait(AfCoro *c, PyObject **result)
{
    AfReader *r = (AfReader *)c->self;
    if (r->parked != NULL || af_is_set(r->waiter)) {
        /* which of the two would get the next data? */
        PyErr_Format(PyExc_RuntimeError, "%s() called while another coroutine is already waiting for incoming data",
                     c->kind->name[0] == 'r' && strcmp(c->kind->name, "readline") != 0 ? c->kind->name : "readuntil");
        return PYGEN_ERROR;
    }
    if (r->paused) {
        /* readexactly() may want more than the limit */
        r->paused = 0;
        PyObject *res = af_call_method(r->transport == NULL ? Py_None : r->transport, "resume_reading", NULL);
        Py_XDECREF(res);
        if (res == NULL) {
            return PYGEN_ERROR;
        }
    }
    c->waited = 1;
    PyObject *loop = r->loop == NULL ? Py_None : r->loop;
    if (af_likely(Py_TYPE(loop) == r->st->PyLoopType)) {
        r->parked = c;
        return af_coro_park(c, (AfLoop *)loop, reader_forget_parked, result);
    }
    PyObject *future = af_call_method(loop, "create_future", NULL);
    if (future == NULL) {
        return PYGEN_ERROR;
    }
    Py_XSETREF(r->waiter, future);
    return af_coro_wait(c, future, result);
}

static void
reader_stopped(AfCoro *c)
{
    AfReader *r = (AfReader *)c->self;
    if (r->waiter == c->future) {
        Py_CLEAR(r->waiter);
    }
}

static PySendResult
reader_returns(PyObject *bytes, PyObject **result)
{
    *result = bytes;
    return bytes == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

/* read(n), n >= 0: what there is, once there is something. */
static PySendResult
reader_step_read(AfCoro *c, PyObject **result)
{
    AfReader *r = (AfReader *)c->self;
    if (!c->waited && reader_check(r) < 0) {
        return PYGEN_ERROR;
    }
    if (r->chunk != NULL && PyBytes_GET_SIZE(r->chunk) <= c->n && PyByteArray_GET_SIZE(r->buffer) == 0) {
        PyObject *chunk = r->chunk;
        r->chunk = NULL;
        if (reader_maybe_resume(r) < 0) {
            Py_CLEAR(chunk);
        }
        return reader_returns(chunk, result);
    }
    if (reader_whole(r) < 0) {
        return PYGEN_ERROR;
    }
    Py_ssize_t size = PyByteArray_GET_SIZE(r->buffer);
    if (size == 0 && !r->eof && !c->waited && c->n > 0) {
        return reader_wait(c, result);
    }
    return reader_returns(c->n == 0 ? PyBytes_FromStringAndSize(NULL, 0) : reader_take(r, c->n < size ? c->n : size),
                          result);
}

/* read(-1): all until the end.  c->arg collects it, so that a paused transport goes on. */
static PySendResult
reader_step_read_all(AfCoro *c, PyObject **result)
{
    AfReader *r = (AfReader *)c->self;
    if (c->arg == NULL && (c->arg = PyByteArray_FromStringAndSize(NULL, 0)) == NULL) {
        return PYGEN_ERROR;
    }
    if ((!c->waited && reader_check(r) < 0) || reader_whole(r) < 0) {
        return PYGEN_ERROR;
    }
    Py_ssize_t size = PyByteArray_GET_SIZE(r->buffer);
    if (size > 0) {
        if (af_bytebuf_append(c->arg, PyByteArray_AS_STRING(r->buffer), size) < 0 ||
            af_bytebuf_drop(r->buffer, size) < 0 || reader_maybe_resume(r) < 0) {
            return PYGEN_ERROR;
        }
        c->waited = 0;
        if (reader_check(r) < 0) {
            return PYGEN_ERROR;
        }
    }
    if (!r->eof && !c->waited) {
        return reader_wait(c, result);
    }
    return reader_returns(PyBytes_FromStringAndSize(PyByteArray_AS_STRING(c->arg), PyByteArray_GET_SIZE(c->arg)), result);
}

AF_API PySendResult
af_reader_incomplete_steal(AfState *st, PyObject *buffer, PyObject *expected)
{
    Py_ssize_t size = PyByteArray_GET_SIZE(buffer);
    PyObject *partial = PyBytes_FromStringAndSize(PyByteArray_AS_STRING(buffer), size);
    if (partial != NULL && af_bytebuf_drop(buffer, size) == 0) {
        PyObject *exc = PyObject_CallFunctionObjArgs(st->IncompleteReadError, partial, expected, NULL);
        if (exc != NULL) {
            PyErr_SetObject(st->IncompleteReadError, exc);
            Py_DECREF(exc);
        }
    }
    Py_XDECREF(partial);
    Py_DECREF(expected);
    return PYGEN_ERROR;
}

static PySendResult
reader_step_readexactly(AfCoro *c, PyObject **result)
{
    AfReader *r = (AfReader *)c->self;
    if (!c->waited) {
        if (c->n < 0) {
            PyErr_SetString(PyExc_ValueError, "readexactly size can not be less than zero");
            return PYGEN_ERROR;
        }
        if (reader_check(r) < 0) {
            return PYGEN_ERROR;
        }
    }
    if (reader_whole(r) < 0) {
        return PYGEN_ERROR;
    }
    if (PyByteArray_GET_SIZE(r->buffer) >= c->n) {
        return reader_returns(c->n == 0 ? PyBytes_FromStringAndSize(NULL, 0) : reader_take(r, c->n), result);
    }
    if (!r->eof) {
        return reader_wait(c, result);
    }
    PyObject *expected = PyLong_FromSsize_t(c->n);
    return expected == NULL ? PYGEN_ERROR : af_reader_incomplete_steal(r->st, r->buffer, expected);
}

static Py_ssize_t
reader_overrun(AfState *st, const char *message, Py_ssize_t consumed)
{
    PyObject *exc = PyObject_CallFunction(st->LimitOverrunError, "sn", message, consumed);
    if (exc != NULL) {
        PyErr_SetObject(st->LimitOverrunError, exc);
        Py_DECREF(exc);
    }
    return -1;
}

static Py_ssize_t
reader_separator_size(const AfCoro *c)
{
    return c->arg == NULL ? 1 : PyBytes_GET_SIZE(c->arg);
}

AF_API Py_ssize_t
af_reader_find(AfCoro *c, PyObject *buffer, Py_ssize_t most)
{
    Py_ssize_t length = reader_separator_size(c), size = PyByteArray_GET_SIZE(buffer);
    if (size - c->offset < length) {
        return 0;
    }
    const char *start = PyByteArray_AS_STRING(buffer), *separator = c->arg == NULL ? "\n" : PyBytes_AS_STRING(c->arg);
    size_t rest = (size_t)(size - c->offset);
    const char *found = length == 1 ? memchr(start + c->offset, *separator, rest)
                                    : memmem(start + c->offset, rest, separator, (size_t)length);
    if (found != NULL) {
        return found - start > most
                   ? reader_overrun(c->park.st, "Separator is found, but chunk is longer than limit", found - start)
                   : found - start + length;
    }
    c->offset = size + 1 - length;
    return c->offset > most ? reader_overrun(c->park.st, "Separator is not found, and chunk exceed the limit", c->offset) : 0;
}

static PySendResult
reader_step_readuntil(AfCoro *c, PyObject **result)
{
    AfReader *r = (AfReader *)c->self;
    if (!c->waited) {
        if (reader_separator_size(c) == 0) {
            PyErr_SetString(PyExc_ValueError, "Separator should be at least one-byte string");
            return PYGEN_ERROR;
        }
        if (reader_check(r) < 0) {
            return PYGEN_ERROR;
        }
    }
    if (reader_whole(r) < 0) {
        return PYGEN_ERROR;
    }
    Py_ssize_t found = af_reader_find(c, r->buffer, r->most);
    if (found != 0) {
        return found < 0 ? PYGEN_ERROR : reader_returns(reader_take(r, found), result);
    }
    return r->eof ? af_reader_incomplete_steal(r->st, r->buffer, Py_NewRef(Py_None)) : reader_wait(c, result);
}

/* `raise ValueError(e.args[0])`, e being the LimitOverrunError; the line, or all there is of it, is gone. */
static int
reader_line_too_long(AfCoro *c, PyObject *buffer, int (*resume)(AfCoro *), PyObject *e)
{
    PyObject *number = af_get_attr(e, "consumed");
    Py_ssize_t consumed = number == NULL ? -1 : PyLong_AsSsize_t(number), size = PyByteArray_GET_SIZE(buffer);
    Py_XDECREF(number);
    if (consumed == -1 && PyErr_Occurred()) {
        return -1;
    }
    int ends = consumed >= 0 && consumed < size && PyByteArray_AS_STRING(buffer)[consumed] == '\n';
    if (af_bytebuf_drop(buffer, ends ? consumed + 1 : size) < 0 || resume(c) < 0) {
        return -1;
    }
    PyObject *args = af_get_attr(e, "args"), *message = args == NULL ? NULL : PySequence_GetItem(args, 0);
    PyObject *error = message == NULL ? NULL : PyObject_CallOneArg(PyExc_ValueError, message);
    Py_XDECREF(args);
    Py_XDECREF(message);
    if (error != NULL) {
        PyException_SetContext(error, Py_NewRef(e));
        PyErr_SetObject(PyExc_ValueError, error);
        Py_DECREF(error);
    }
    return -1;
}

AF_API int
af_reader_caught_in_line(AfCoro *c, PyObject *buffer, int (*resume)(AfCoro *), PyObject **result)
{
    if (PyErr_ExceptionMatches(c->park.st->IncompleteReadError)) {
        PyObject *exc = PyErr_GetRaisedException();
        *result = af_get_attr(exc, "partial");
        Py_DECREF(exc);
        return *result != NULL;
    }
    if (PyErr_ExceptionMatches(c->park.st->LimitOverrunError)) {
        PyObject *exc = PyErr_GetRaisedException();
        reader_line_too_long(c, buffer, resume, exc);
        Py_DECREF(exc);
    }
    return 0;
}

static int
reader_resume_after_line(AfCoro *c)
{
    return reader_maybe_resume((AfReader *)c->self);
}

static int
reader_caught_in_line(AfCoro *c, PyObject **result)
{
    return af_reader_caught_in_line(c, ((AfReader *)c->self)->buffer, reader_resume_after_line, result);
}

/* An empty line is the end of the iteration. */
static PySendResult
reader_next(PySendResult how, PyObject **result)
{
    if (how == PYGEN_RETURN && PyBytes_Check(*result) && PyBytes_GET_SIZE(*result) == 0) {
        Py_CLEAR(*result);
        PyErr_SetNone(PyExc_StopAsyncIteration);
        return PYGEN_ERROR;
    }
    return how;
}

static int
reader_caught_in_next(AfCoro *c, PyObject **result)
{
    return reader_caught_in_line(c, result) && reader_next(PYGEN_RETURN, result) == PYGEN_RETURN;
}

#define READER_KIND(name, step, caught) {name, "StreamReader." name, step, caught, reader_stopped}

static const af_coro_kind reader_read_kind = READER_KIND("read", reader_step_read, NULL);
static const af_coro_kind reader_read_all_kind = READER_KIND("read", reader_step_read_all, NULL);
static const af_coro_kind reader_readexactly_kind = READER_KIND("readexactly", reader_step_readexactly, NULL);
static const af_coro_kind reader_readuntil_kind = READER_KIND("readuntil", reader_step_readuntil, NULL);
static const af_coro_kind reader_readline_kind = READER_KIND("readline", reader_step_readuntil, reader_caught_in_line);
static const af_coro_kind reader_anext_kind = READER_KIND("__anext__", reader_step_readuntil, reader_caught_in_next);

#undef READER_KIND

/* ---- methods ---------------------------------------------------------------------------------------------------- */

/* asyncio's own coroutine method; arg may be NULL. */
static PyObject *
reader_inherited(AfReader *r, const char *name, PyObject *arg)
{
    PyObject *method = af_get_attr(r->st->asyncio_StreamReader, name);
    PyObject *res = method == NULL ? NULL : PyObject_CallFunctionObjArgs(method, (PyObject *)r, arg, NULL);
    Py_XDECREF(method);
    return res;
}

/* A coroutine of that kind; arg (NULL: the default) goes to asyncio's if this reader or arg is out of the ordinary. */
static PyObject *
reader_coro(AfReader *r, const af_coro_kind *kind, PyObject *arg, int ordinary)
{
    if (!ordinary || !af_reader_is_exact(r->st, (PyObject *)r)) {
        return reader_inherited(r, kind->name, arg);
    }
    return (PyObject *)af_coro_new(r->st, kind, (PyObject *)r);
}

/* read() and readexactly(): a size, which is usually an int. */
static PyObject *
reader_sized(AfReader *r, const af_coro_kind *kind, PyObject *arg, Py_ssize_t n)
{
    int ordinary = arg == NULL || PyLong_CheckExact(arg);
    if (arg != NULL && ordinary) {
        n = PyLong_AsSsize_t(arg);
        if (n == -1 && PyErr_Occurred()) {
            PyErr_Clear();
            ordinary = 0;
        }
    }
    if (kind == &reader_read_kind && n < 0) {
        kind = &reader_read_all_kind;
    }
    PyObject *coro = reader_coro(r, kind, arg, ordinary);
    if (coro != NULL && Py_IS_TYPE(coro, r->st->CoroType)) {
        ((AfCoro *)coro)->n = n;
    }
    return coro;
}

static PyObject *
reader_read(AfReader *r, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *n = NULL;
    if ((nargs > 0 || kwnames != NULL) && af_args_one("read", "n", args, nargs, kwnames, &n) < 0) {
        return NULL;
    }
    return reader_sized(r, &reader_read_kind, n, -1);
}

static PyObject *
reader_readexactly(AfReader *r, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *n;
    if (af_args_one("readexactly", "n", args, nargs, kwnames, &n) < 0) {
        return NULL;
    }
    return reader_sized(r, &reader_readexactly_kind, n, 0);
}

static PyObject *
reader_readuntil(AfReader *r, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *separator = NULL;
    if ((nargs > 0 || kwnames != NULL) && af_args_one("readuntil", "separator", args, nargs, kwnames, &separator) < 0) {
        return NULL;
    }
    PyObject *coro = reader_coro(r, &reader_readuntil_kind, separator, separator == NULL || PyBytes_CheckExact(separator));
    if (coro != NULL && Py_IS_TYPE(coro, r->st->CoroType)) {
        ((AfCoro *)coro)->arg = Py_XNewRef(separator);
    }
    return coro;
}

static PyObject *
reader_readline(AfReader *r, PyObject *Py_UNUSED(ignored))
{
    return reader_coro(r, &reader_readline_kind, NULL, 1);
}

static PyObject *
reader_am_anext(AfReader *r)
{
    return reader_coro(r, &reader_anext_kind, NULL, 1);
}

static PyObject *
reader_get_limit(AfReader *r, void *Py_UNUSED(closure))
{
    return r->limit == NULL ? PyLong_FromSsize_t(r->most) : Py_NewRef(r->limit);
}

static PyObject *
reader_get_waiter(AfReader *r, void *Py_UNUSED(closure))
{
    PyObject *waiter = r->parked != NULL ? (PyObject *)r->parked : r->waiter;
    return Py_NewRef(waiter == NULL ? Py_None : waiter);
}

static int
reader_set_waiter(AfReader *r, PyObject *value, void *Py_UNUSED(closure))
{
    if (r->parked != NULL && reader_wake_parked(r, NULL) < 0) {     /* nobody else would */
        return -1;
    }
    Py_XSETREF(r->waiter, Py_XNewRef(value));
    return 0;
}

static PyObject *
reader_get_buffer(AfReader *r, void *Py_UNUSED(closure))
{
    return reader_whole(r) < 0 ? NULL : Py_NewRef(r->buffer);
}

static int
reader_set_buffer(AfReader *r, PyObject *buffer, void *Py_UNUSED(closure))
{
    if (buffer == NULL || !PyByteArray_Check(buffer)) {
        PyErr_SetString(PyExc_TypeError, "the buffer of a StreamReader is a bytearray");
        return -1;
    }
    Py_SETREF(r->buffer, Py_NewRef(buffer));
    Py_CLEAR(r->chunk);
    return 0;
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

static PyObject *
reader_tp_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    AfReader *r = (AfReader *)type->tp_alloc(type, 0);
    if (r == NULL) {
        return NULL;
    }
    r->st = af_state_of_type(type);
    r->most = READER_LIMIT;
    r->pause_above = 2 * READER_LIMIT;
    r->buffer = PyByteArray_FromStringAndSize(NULL, 0);
    if (r->buffer == NULL) {
        Py_DECREF(r);
        return NULL;
    }
    return (PyObject *)r;
}

static int
reader_note_origin(AfReader *r)
{
    AfLoop *fast = af_loop_fast(r->st, r->loop);
    int debug = 0;
    if (fast != NULL) {
        debug = fast->debug;
    }
    else {
        PyObject *res = PyObject_CallMethodNoArgs(r->loop, r->st->str_get_debug);
        debug = res == NULL ? -1 : PyObject_IsTrue(res);
        Py_XDECREF(res);
    }
    if (debug <= 0) {
        return debug;
    }
    PyObject *stack = PyObject_CallNoArgs(r->st->extract_stack);
    int rc = stack == NULL ? -1 : PyObject_SetAttrString((PyObject *)r, "_source_traceback", stack);
    Py_XDECREF(stack);
    return rc;
}

static int
reader_tp_init(AfReader *r, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"limit", "loop", NULL};
    PyObject *limit = NULL, *loop = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO:StreamReader", names, &limit, &loop)) {
        return -1;
    }
    if (limit != NULL) {
        PyObject *zero = PyLong_FromLong(0);
        int bad = zero == NULL ? -1 : PyObject_RichCompareBool(limit, zero, Py_LE);
        Py_XDECREF(zero);
        if (bad > 0) {
            PyErr_SetString(PyExc_ValueError, "Limit cannot be <= 0");
        }
        if (bad != 0 || reader_set_limit(r, limit, NULL) < 0) {
            return -1;
        }
    }
    loop = loop == Py_None ? PyObject_CallNoArgs(r->st->get_event_loop) : Py_NewRef(loop);
    if (loop == NULL) {
        return -1;
    }
    Py_XSETREF(r->loop, loop);
    return reader_note_origin(r);
}

static int
reader_tp_traverse(AfReader *r, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(r));
    Py_VISIT(r->loop);
    Py_VISIT(r->buffer);
    Py_VISIT(r->waiter);
    if (r->parked != NULL && r->parked->park.held) {
        Py_VISIT((PyObject *)r->parked);
    }
    Py_VISIT(r->exception);
    Py_VISIT(r->transport);
    Py_VISIT(r->limit);
    return 0;
}

/* Not the buffer, which methods take for granted. */
static int
reader_tp_clear(AfReader *r)
{
    if (r->parked != NULL) {
        AfCoro *c = (AfCoro *)Py_NewRef((PyObject *)r->parked);
        af_park_forget(&c->park);
        Py_DECREF((PyObject *)c);
    }
    Py_CLEAR(r->loop);
    Py_CLEAR(r->waiter);
    Py_CLEAR(r->exception);
    Py_CLEAR(r->transport);
    return 0;
}

static void
reader_tp_dealloc(AfReader *r)
{
    PyTypeObject *type = Py_TYPE(r);
    PyObject_GC_UnTrack(r);
    reader_tp_clear(r);
    Py_CLEAR(r->limit);
    Py_CLEAR(r->buffer);
    Py_CLEAR(r->chunk);
    type->tp_free(r);
    Py_DECREF(type);
}

#define READER_F(f) (PyCFunction)(void (*)(void))(f), METH_FASTCALL | METH_KEYWORDS

/* Per read. */
static PyMethodDef reader_hot_methods[] = {
    {"read", READER_F(reader_read),
     "read($self, n=-1)\n--\n\nReturn up to n bytes, as soon as there is one, b'' at the end; n < 0: all until the end.\n\n"
     "A coroutine.  Raises the exception that was set; RuntimeError if another coroutine is waiting."},
    {"readexactly", READER_F(reader_readexactly),
     "readexactly($self, n)\n--\n\nReturn n bytes.  A coroutine.\n\n"
     "IncompleteReadError, with what there was, if the end comes first; ValueError if n < 0; else as read()."},
    {"readuntil", READER_F(reader_readuntil),
     "readuntil($self, separator=b'\\n')\n--\n\nReturn the data up to the separator, that included.  A coroutine.\n\n"
     "IncompleteReadError, with what there was, if the end comes first; LimitOverrunError, with nothing read, if the limit\n"
     "(bytes before the separator) is exceeded; else as read().  From Python 3.13 on it may be a tuple of separators."},
    {"readline", (PyCFunction)reader_readline, METH_NOARGS,
     "readline($self)\n--\n\nReturn a line with its b'\\n', or what there was at the end.  A coroutine.\n\n"
     "ValueError if the line is longer than the limit (bytes); what there was of it is gone."},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef reader_methods[] = {
    {"feed_data", READER_F(reader_feed_data),
     "feed_data($self, data)\n--\n\nAdd data (bytes-like) to the buffer and wake whoever waits.  AssertionError after feed_eof()."},
    {"feed_eof", (PyCFunction)reader_feed_eof, METH_NOARGS, "feed_eof($self)\n--\n\nThere is no more to come."},
    {"at_eof", (PyCFunction)reader_at_eof, METH_NOARGS,
     "at_eof($self)\n--\n\nReturn True if the buffer is empty and feed_eof() was called."},
    {"exception", (PyCFunction)reader_exception, METH_NOARGS,
     "exception($self)\n--\n\nReturn the exception that was set, or None."},
    {"set_exception", READER_F(reader_set_exception),
     "set_exception($self, exc)\n--\n\nHave whoever waits, and all who read from then on, raise exc."},
    {"_wakeup_waiter", (PyCFunction)reader_wakeup_waiter, METH_NOARGS,
     "_wakeup_waiter($self)\n--\n\nWake the coroutine that waits."},
    {"_maybe_resume_transport", (PyCFunction)reader_maybe_resume_transport, METH_NOARGS,
     "_maybe_resume_transport($self)\n--\n\nResume reading if it was paused and the buffer is down to the limit."},
    {NULL, NULL, 0, NULL},
};

#undef READER_F

static PyMemberDef reader_members[] = {
    {"_loop", T_OBJECT, offsetof(AfReader, loop), 0, NULL},
    {"_exception", T_OBJECT, offsetof(AfReader, exception), 0, NULL},
    {"_transport", T_OBJECT, offsetof(AfReader, transport), 0, NULL},
    {"_eof", T_BOOL, offsetof(AfReader, eof), 0, NULL},
    {"_paused", T_BOOL, offsetof(AfReader, paused), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef reader_getset[] = {
    {"_waiter", (getter)reader_get_waiter, (setter)reader_set_waiter, NULL, NULL},
    {"_buffer", (getter)reader_get_buffer, (setter)reader_set_buffer, NULL, NULL},
    {"_limit", (getter)reader_get_limit, (setter)reader_set_limit, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot reader_slots[] = {
    {Py_tp_doc, (void *)"What asyncfast.StreamReader is in C."},
    {Py_tp_new, reader_tp_new},
    {Py_tp_init, reader_tp_init},
    {Py_tp_dealloc, reader_tp_dealloc},
    {Py_tp_traverse, reader_tp_traverse},
    {Py_tp_clear, reader_tp_clear},
    {Py_am_aiter, PyObject_SelfIter},
    {Py_am_anext, reader_am_anext},
    {Py_tp_methods, reader_methods},
    {Py_tp_members, reader_members},
    {Py_tp_getset, reader_getset},
    {0, NULL},
};

static PyType_Spec reader_spec = {
    "asyncfast._StreamReader", sizeof(AfReader), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    reader_slots,
};

/* The interpreter calls a method in C without a detour only on instances of the very class that the method is of.  So
   asyncfast.StreamReader has these itself too. */
AF_API int
af_reader_add_hot(PyTypeObject *type)
{
    return af_type_add(type, reader_hot_methods, NULL);
}

AF_API int
af_reader_setup(PyObject *module, AfState *st)
{
    st->ReaderType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &reader_spec, NULL);
    return st->ReaderType == NULL || af_reader_add_hot(st->ReaderType) < 0
               ? -1 : PyModule_AddObjectRef(module, "_StreamReader", (PyObject *)st->ReaderType);
}
