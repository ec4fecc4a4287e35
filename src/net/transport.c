/* What all transports have in common.

   Belongs to its loop's thread.  Runs Python: the protocol's methods, the exception handler, dropped references; after
   each of them the transport may be closed, paused or given another protocol. */
#include "net/transport.h"

#include "core/handle.h"
#include "net/address.h"
#include "net/asyncstream.h"
#include "net/feed.h"
#include "rt/args.h"

#include <netinet/tcp.h>

#define TRANSPORT_HIGH_WATER ((size_t)64 * 1024)
/* asyncio.constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES */
#define TRANSPORT_LOST_WRITES 5

/* ---- contexts --------------------------------------------------------------------------------------------------- */

AF_API int
af_call_context_take(AfTransport *t, af_call_context *c)
{
    if (c->running) {
        return 0;               /* a copy of the one that is running now would hold the same values */
    }
    char shared = AF_CONTEXT_OWN;
    PyObject *context = t->context != NULL ? Py_NewRef(t->context) : af_context_take(t->io.loop, &shared);
    if (context == NULL) {
        return -1;
    }
    c->shared = shared;
    Py_XSETREF(c->context, context);
    return 0;
}

static int
call_context_enter(AfLoop *loop, af_call_context *c, PyObject **mark)
{
    *mark = NULL;
    if (c->shared != AF_CONTEXT_PRISTINE) {
        if (PyContext_Enter(c->context) < 0) {
            return -1;
        }
    }
    else {
        PyObject *pristine = c->context, *runner = af_context_run(loop, pristine);
        if (runner == NULL) {
            return -1;
        }
        c->context = Py_NewRef(runner);
        c->shared = AF_CONTEXT_RUNNING;
        *mark = pristine;
    }
    c->running++;
    return 0;
}

/* Keeps what is raised. */
static int
call_context_leave(AfLoop *loop, af_call_context *c, PyObject *mark)
{
    c->running--;
    if (mark != NULL) {
        af_context_done(loop, c->context, mark, &c->context, &c->shared);
        return 0;
    }
    PyObject *raised = PyErr_GetRaisedException();
    if (PyContext_Exit(c->context) < 0) {
        Py_XDECREF(raised);
        return -1;
    }
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
    return 0;
}

AF_API int
af_call_context_run(AfLoop *loop, af_call_context *c, int (*run)(AfIo *, unsigned), AfIo *io, unsigned what)
{
    PyObject *mark;
    if (call_context_enter(loop, c, &mark) < 0) {
        return -1;
    }
    int rc = run(io, what);
    return call_context_leave(loop, c, mark) < 0 ? -1 : rc;
}

/* ---- watching --------------------------------------------------------------------------------------------------- */

AF_API int
af_transport_want(AfTransport *t, unsigned set, unsigned clear)
{
    if (t->io.watch == NULL) {
        return 0;
    }
    unsigned want = (af_io_wants(&t->io) | set) & ~clear;
    return want == af_io_wants(&t->io) ? 0 : af_io_want(&t->io, want);
}

AF_API int
af_transport_start_reading(AfTransport *t)
{
    if (t->closing || t->paused || t->io.loop == NULL) {
        return 0;
    }
    if (af_loop_check_closed(t->io.loop) < 0 || af_call_context_take(t, &t->reading) < 0) {
        return -1;
    }
    return af_transport_want(t, AF_READ, 0);
}

AF_API int
af_transport_start_writing(AfTransport *t)
{
    if (t->io.loop == NULL) {
        return 0;
    }
    if (af_loop_check_closed(t->io.loop) < 0 || af_call_context_take(t, &t->writing) < 0) {
        return -1;
    }
    return af_transport_want(t, AF_WRITE, 0);
}

/* Send what is held back.  Neither the loop nor most that have it sent are who wrote it: errors are reported. */
static int
transport_flush(AfIo *io)
{
    AfTransport *t = (AfTransport *)io;
    AfLoop *loop = io->loop;
    if (loop == NULL) {
        return 0;
    }
    Py_INCREF(loop);
    int rc = t->kind->flush(io);
    if (rc < 0) {
        rc = af_transport_report(t, loop);
    }
    Py_DECREF(loop);
    return rc;
}

AF_API int
af_transport_send_held(AfTransport *t)
{
    return t->io.is_held ? t->io.flush(&t->io) : 0;
}

AF_API int
af_transport_settle(AfTransport *t)
{
    return t->io.loop != NULL && t->io.loop->burst_since != 0 ? 0 : af_transport_send_held(t);
}

AF_API int
af_transport_shares_socket(const AfTransport *t)
{
    if (t->sock == NULL) {
        return 0;
    }
    if (Py_REFCNT(t->sock) > 2) {                       /* ours, and the wrapper's in the extra info */
        return 1;
    }
    PyObject *extra = t->socket_shown ? t->io.extra : NULL;
    PyObject *wrapped = extra == NULL || !PyDict_CheckExact(extra) ? NULL
                                                                   : PyDict_GetItemWithError(extra, t->io.loop->st->str_socket);
    return wrapped != NULL && Py_REFCNT(wrapped) > 1;
}

AF_API int
af_transport_deliver(AfTransport *t, PyObject *data)
{
    PyObject *stack[3] = {NULL, Py_NewRef(t->protocol), data};
    PyObject *res = PyObject_VectorcallMethod(t->io.loop->st->str_data_received, stack + 1,
                                              2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(stack[1]);
    Py_XDECREF(res);
    return res == NULL ? -1 : 0;
}

AF_API int
af_transport_log_debug(AfTransport *t, const char *what)
{
    if (t->io.loop == NULL || !t->io.loop->debug) {
        return 0;
    }
    return af_call_hook(t->io.loop->st, "transport_debug", "Os", (PyObject *)t, what);
}

/* What is raised on the way is the exception handler's business: nobody else is there to hear of it.
   Feeding a reader runs no Python, and the next is that reader's task: whoever does anything else in its stead sees to it
   that no task is current. */
static int
transport_ready(AfIo *io, unsigned what)
{
    AfTransport *t = (AfTransport *)io;
    AfLoop *loop = (AfLoop *)Py_NewRef((PyObject *)io->loop);
    int rc = what == AF_READ && t->feed != NULL && t->kind->feeds ? 0 : af_loop_no_current(loop);
    if (af_likely(rc == 0)) {
        rc = af_call_context_run(loop, what == AF_READ ? &t->reading : &t->writing, t->kind->run, io, what);
    }
    if (af_unlikely(rc < 0)) {
        rc = af_transport_report(t, loop);
    }
    Py_DECREF(loop);
    return rc;
}

/* ---- flow control ----------------------------------------------------------------------------------------------- */

static int
transport_tell_protocol(AfTransport *t, PyObject *method, const char *message)
{
    PyObject *protocol = Py_NewRef(t->protocol == NULL ? Py_None : t->protocol);
    AfLoop *loop = (AfLoop *)Py_NewRef((PyObject *)t->io.loop);
    PyObject *res = PyObject_CallMethodNoArgs(protocol, method);
    int rc = res == NULL ? -1 : 0;
    if (rc < 0 && !af_raised_exit()) {
        PyObject *exc = PyErr_GetRaisedException();
        rc = af_call_hook_handling(loop->st, exc, "transport_failed", "OOsO", (PyObject *)loop, (PyObject *)t, message, exc);
        Py_DECREF(exc);
    }
    Py_DECREF((PyObject *)loop);
    Py_DECREF(protocol);
    Py_XDECREF(res);
    return rc;
}

AF_API int
af_transport_maybe_pause(AfTransport *t)
{
    if (t->protocol_paused || t->kind->backlog(t) <= t->high_water) {
        return 0;
    }
    t->protocol_paused = 1;
    return transport_tell_protocol(t, t->io.loop->st->str_pause_writing, "protocol.pause_writing() failed");
}

AF_API int
af_transport_maybe_resume(AfTransport *t)
{
    if (!t->protocol_paused || t->kind->backlog(t) > t->low_water) {
        return 0;
    }
    t->protocol_paused = 0;
    return transport_tell_protocol(t, t->io.loop->st->str_resume_writing, "protocol.resume_writing() failed");
}

/* ---- the end ---------------------------------------------------------------------------------------------------- */

static int
transport_schedule(AfTransport *t, PyObject *method, PyObject *arg)
{
    AfLoop *loop = (AfLoop *)Py_NewRef((PyObject *)t->io.loop);
    PyObject *func = PyObject_GetAttr((PyObject *)t, method);
    int rc = func == NULL ? -1 : af_call_soon(loop->st, (PyObject *)loop, func, arg, t->context);
    Py_XDECREF(func);
    Py_DECREF((PyObject *)loop);
    return rc;
}

static int
transport_end_soon(AfTransport *t, PyObject *exc)
{
    return transport_schedule(t, t->io.loop->st->str_call_connection_lost, exc);
}

AF_API int
af_transport_force_close(AfTransport *t, PyObject *exc)
{
    if (t->lost) {
        return 0;
    }
    t->kind->drop_backlog(t);
    t->closing = 1;
    t->lost = 1;
    if (t->io.loop == NULL) {
        return 0;
    }
    return af_transport_want(t, 0, AF_READ | AF_WRITE) < 0 ? -1 : transport_end_soon(t, exc);
}

AF_API int
af_transport_close(AfTransport *t)
{
    if (t->closing) {
        return 0;
    }
    if (af_transport_send_held(t) < 0) {
        return -1;
    }
    if (t->closing) {
        return 0;               /* sending found out that the peer has gone */
    }
    t->closing = 1;
    int waits = t->kind->backlog(t) > 0;
    if (!(waits && t->writes_only) && af_transport_want(t, 0, AF_READ) < 0) {
        return -1;
    }
    if (waits || t->io.loop == NULL) {
        return 0;
    }
    t->lost++;
    return af_transport_want(t, 0, AF_WRITE) < 0 ? -1 : transport_end_soon(t, Py_None);
}

/* That a peer has gone is no news, and to a pipe's reader only that of a pty. */
static int
transport_expects(AfTransport *t, PyObject *exc)
{
    if (!PyObject_TypeCheck(exc, (PyTypeObject *)PyExc_OSError)) {
        return 0;
    }
    if (!t->is_pipe || t->writes_only) {
        return 1;
    }
    PyObject *number = ((PyOSErrorObject *)exc)->myerrno;
    return number != NULL && PyLong_Check(number) && PyLong_AsLong(number) == EIO;
}

AF_API int
af_transport_fatal(AfTransport *t, const char *message)
{
    if (af_raised_exit()) {
        return -1;
    }
    PyObject *exc = PyErr_GetRaisedException();
    AfLoop *loop = t->io.loop;
    int rc = 0;
    Py_INCREF(t);
    int quiet = transport_expects(t, exc);
    if (loop != NULL && (!quiet || loop->debug)) {
        rc = af_call_hook_handling(loop->st, exc, quiet ? "transport_debug_error" : "transport_failed", "OOsO",
                                   (PyObject *)loop, (PyObject *)t, message, exc);
    }
    PyObject *raised = rc < 0 ? PyErr_GetRaisedException() : NULL;      /* by the handler */
    rc = af_transport_force_close(t, exc);
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
        rc = -1;
    }
    Py_DECREF(exc);
    Py_DECREF(t);
    return rc;
}

AF_API int
af_transport_report(AfTransport *t, AfLoop *loop)
{
    if (af_raised_exit()) {
        return -1;
    }
    PyObject *exc = PyErr_GetRaisedException();
    int rc = af_call_hook_handling(loop->st, exc, "transport_failed", "OOsO", (PyObject *)loop, (PyObject *)t,
                                   "Exception in callback of transport", exc);
    Py_DECREF(exc);
    return rc;
}

AF_API int
af_transport_fatal_errno(AfTransport *t, int error, const char *message)
{
    errno = error;
    PyErr_SetFromErrno(PyExc_OSError);
    return af_transport_fatal(t, message);
}

/* Server._attach() and _detach(), which count its connections. */
static int
transport_tell_server(AfTransport *t, PyObject *server, PyObject *method)
{
    PyObject *res = AF_SERVER_KNOWS_TRANSPORTS ? PyObject_CallMethodOneArg(server, method, (PyObject *)t)
                                               : PyObject_CallMethodNoArgs(server, method);
    Py_XDECREF(res);
    return res == NULL ? -1 : 0;
}

AF_API int
af_transport_end(AfTransport *t, PyObject *exc)
{
    if (!af_transport_has_fd(t)) {
        return 0;
    }
    Py_INCREF(t);
    AfLoop *loop = (AfLoop *)Py_NewRef((PyObject *)t->io.loop);
    AfState *st = loop->st;
    PyObject *res = Py_None;
    if (t->protocol_connected) {
        PyObject *protocol = Py_NewRef(t->protocol);
        res = PyObject_CallMethodOneArg(protocol, st->str_connection_lost, exc);
        Py_DECREF(protocol);
        Py_XDECREF(res);
    }
    PyObject *raised = res == NULL ? PyErr_GetRaisedException() : NULL;
    af_io_release(&t->io);
    /* whoever asks from here on finds a closed transport */
    PyObject *sock = t->sock, *server = t->server;
    t->sock = t->server = NULL;
    t->closing = 1;
    t->lost = t->lost ? t->lost : 1;
    t->kind->drop_backlog(t);
    af_transport_drop_fd(t);
    res = sock == NULL ? Py_NewRef(Py_None) : PyObject_CallMethodNoArgs(sock, st->str_close);
    Py_XDECREF(res);
    t->sink = NULL;
    Py_CLEAR(t->protocol);
    int rc = res == NULL ? -1 : 0;
    if (rc == 0 && t->empty_waiter != NULL) {
        rc = af_watch_rouse(loop, t->fd);       /* sendfile() waits for room */
    }
    if (rc == 0 && server != NULL) {
        rc = transport_tell_server(t, server, st->str_detach);
    }
    Py_CLEAR(t->io.loop);
    if (t->empty_waiter != NULL && rc == 0) {
        PyObject *why = PyObject_CallFunction(PyExc_ConnectionError, "s", "Connection is closed by peer");
        rc = why == NULL ? -1 : af_transport_settle_waiter(t, why);
        Py_XDECREF(why);
    }
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
        rc = -1;
    }
    Py_XDECREF(sock);
    Py_XDECREF(server);
    Py_DECREF((PyObject *)loop);
    Py_DECREF(t);
    return rc;
}

/* The future that sendfile() waits for: a result, or that exception; unless it is done, cancelled for instance. */
AF_API int
af_transport_settle_waiter(AfTransport *t, PyObject *exc)
{
    PyObject *waiter = Py_NewRef(t->empty_waiter);
    PyObject *res = af_call_method(waiter, "done", NULL);
    int done = res == NULL ? -1 : PyObject_IsTrue(res);
    if (done == 0) {
        Py_DECREF(res);
        res = exc == NULL ? af_call_method(waiter, "set_result", "O", Py_None)
                          : af_call_method(waiter, "set_exception", "O", exc);
    }
    Py_XDECREF(res);
    Py_DECREF(waiter);
    return res == NULL || done < 0 ? -1 : 0;
}

AF_API int
af_transport_write_lost(AfTransport *t)
{
    if (t->lost++ < TRANSPORT_LOST_WRITES) {
        return 0;
    }
    return af_call_hook(af_state_of_type(Py_TYPE(t)), "write_to_lost", NULL);
}

/* ---- methods ---------------------------------------------------------------------------------------------------- */

static PyObject *
transport_close(AfTransport *t, PyObject *Py_UNUSED(ignored))
{
    return af_transport_close(t) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
transport_abort(AfTransport *t, PyObject *Py_UNUSED(ignored))
{
    return af_transport_send_held(t) < 0 || af_transport_force_close(t, Py_None) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
transport_force_close(AfTransport *t, PyObject *exc)
{
    return af_transport_send_held(t) < 0 || af_transport_force_close(t, exc) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
transport_fatal_error(AfTransport *t, PyObject *args)
{
    PyObject *exc;
    const char *message = "Fatal error on transport";
    if (!PyArg_ParseTuple(args, "O|s:_fatal_error", &exc, &message)) {
        return NULL;
    }
    PyErr_SetRaisedException(Py_NewRef(exc));
    return af_transport_fatal(t, message) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
transport_call_connection_lost(AfTransport *t, PyObject *exc)
{
    return af_transport_end(t, exc) < 0 ? NULL : Py_NewRef(Py_None);
}

/* connection_made() raised: the exception handler hears of a callback of its own, which it is on asyncio. */
static int
transport_start_failed(AfTransport *t, AfLoop *loop, PyObject *protocol)
{
    if (af_raised_exit()) {
        return -1;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *call[2] = {PyObject_GetAttr(protocol, loop->st->str_connection_made), (PyObject *)t};
    AfHandle *h = call[0] == NULL ? NULL : af_handle_new(loop, call, 2, NULL);
    int rc = h == NULL ? -1 : af_call_hook_handling(loop->st, exc, "callback_failed", "OO", (PyObject *)h, exc);
    if (h != NULL && Py_REFCNT(h) > 1) {
        af_handle_outlives(h);
    }
    Py_XDECREF(call[0]);
    Py_XDECREF((PyObject *)h);
    Py_DECREF(exc);
    return rc;
}

/* connection_made(), and only then the reading begins and whoever waits for the connection is told. */
static PyObject *
transport_start(AfTransport *t, PyObject *waiter)
{
    if (t->protocol == NULL || t->io.loop == NULL) {
        Py_RETURN_NONE;
    }
    AfState *st = t->io.loop->st;
    PyObject *protocol = Py_NewRef(t->protocol);
    AfLoop *loop = (AfLoop *)Py_NewRef((PyObject *)t->io.loop);
    PyObject *res = PyObject_CallMethodOneArg(protocol, st->str_connection_made, (PyObject *)t);
    PyObject *raised = res == NULL && transport_start_failed(t, loop, protocol) < 0 ? PyErr_GetRaisedException() : NULL;
    Py_DECREF((PyObject *)loop);
    Py_DECREF(protocol);
    Py_XDECREF(res);
    /* in the context of whoever made the transport, not with what connection_made() has set */
    int rc = t->closing || t->paused ? 0 : af_transport_want(t, AF_READ, 0);
    if (rc < 0 && raised == NULL) {
        raised = PyErr_GetRaisedException();        /* not everything can be watched, /dev/null for one */
    }
    PyErr_Clear();
    rc = 0;
    if (waiter != Py_None) {
        rc = af_call_hook(st, "set_result_unless_cancelled", "OO", waiter, Py_None);
    }
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
        rc = -1;
    }
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

AF_API int
af_transport_schedule_start(AfTransport *t, PyObject *waiter)
{
    AfState *st = t->io.loop->st;
    PyObject *made = PyObject_GetAttr(t->protocol, st->str_connection_made);
    if (made == NULL) {
        return -1;              /* not a protocol, which whoever makes the transport should hear, as on asyncio */
    }
    Py_DECREF(made);
    return transport_schedule(t, st->str_start, waiter == NULL ? Py_None : waiter);
}

static PyObject *
transport_pause_reading(AfTransport *t, PyObject *Py_UNUSED(ignored))
{
    if (t->closing || t->paused) {
        Py_RETURN_NONE;
    }
    t->paused = 1;
    if (af_transport_want(t, 0, AF_READ) < 0 || af_transport_log_debug(t, "pauses reading") < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
transport_resume_reading(AfTransport *t, PyObject *Py_UNUSED(ignored))
{
    if (t->closing || !t->paused) {
        Py_RETURN_NONE;
    }
    t->paused = 0;
    if (af_transport_start_reading(t) < 0 || (t->kind->resumed != NULL && t->kind->resumed(t) < 0) ||
        af_transport_log_debug(t, "resumes reading") < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
transport_is_reading(AfTransport *t, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(!t->closing && !t->paused);
}

static PyObject *
transport_is_closing(AfTransport *t, PyObject *Py_UNUSED(ignored))
{
    return af_transport_settle(t) < 0 ? NULL : PyBool_FromLong(t->closing);
}

static int
transport_take_protocol(AfTransport *t, PyObject *protocol)
{
    AfState *st = af_state_of_type(Py_TYPE(t));
    int buffered = PyObject_IsInstance(protocol, st->BufferedProtocol);
    if (buffered < 0) {
        return -1;
    }
    t->buffered_protocol = (char)buffered;
    t->feed = af_feeder_of(st, protocol);
    t->new_stream = af_feeds_asyncio(st, protocol);
    t->sink = af_sink_of(st, protocol);
    t->protocol_connected = 1;
    Py_XSETREF(t->protocol, Py_NewRef(protocol));
    return 0;
}

static PyObject *
transport_set_protocol(AfTransport *t, PyObject *protocol)
{
    return transport_take_protocol(t, protocol) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
transport_get_protocol(AfTransport *t, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(t->protocol == NULL ? Py_None : t->protocol);
}

static PyObject *
transport_get_write_buffer_size(AfTransport *t, PyObject *Py_UNUSED(ignored))
{
    return af_transport_send_held(t) < 0 ? NULL : PyLong_FromSize_t(t->kind->backlog(t));
}

static PyObject *
transport_get_write_buffer_limits(AfTransport *t, PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("nn", (Py_ssize_t)t->low_water, (Py_ssize_t)t->high_water);
}

/* asyncio's rules, with its error: high defaults to 64 KiB or four times low, low to a quarter of high. */
static int
transport_set_limits(AfTransport *t, PyObject *high, PyObject *low)
{
    AfState *st = af_state_of_type(Py_TYPE(t));
    PyObject *pair = af_call_method(st->hooks, "write_buffer_limits", "OO", high, low);
    Py_ssize_t h, l;
    if (pair == NULL || !PyArg_ParseTuple(pair, "nn", &h, &l)) {
        Py_XDECREF(pair);
        return -1;
    }
    Py_DECREF(pair);
    t->high_water = (size_t)h;
    t->low_water = (size_t)l;
    return 0;
}

static PyObject *
transport_set_write_buffer_limits(AfTransport *t, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"high", "low", NULL};
    PyObject *high = Py_None, *low = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO:set_write_buffer_limits", names, &high, &low) ||
        af_transport_send_held(t) < 0 || transport_set_limits(t, high, low) < 0 ||
        (t->io.loop != NULL && af_transport_maybe_pause(t) < 0)) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Whatever equals "socket": a str that does not is the usual case. */
static int
transport_asks_for_socket(PyObject *name)
{
    return !PyUnicode_CheckExact(name) || PyUnicode_CompareWithASCIIString(name, "socket") == 0;
}

/* What a program has put in the place of asyncio's method, as tests do, is called in the place of ours. */
static PyObject *
transport_get_other_info(AfTransport *t, PyObject *method, PyObject *args, PyObject *kwargs)
{
    t->socket_shown = 1;        /* it may look at everything */
    if (af_transport_send_held(t) < 0 || af_transport_need_socket(t) < 0) {
        return NULL;
    }
    descrgetfunc bind = Py_TYPE(method)->tp_descr_get;
    PyObject *bound = bind == NULL ? Py_NewRef(method) : bind(method, (PyObject *)t, (PyObject *)Py_TYPE(t));
    PyObject *value = bound == NULL ? NULL : PyObject_Call(bound, args, kwargs);
    Py_XDECREF(bound);
    return value;
}

static PyObject *
transport_get_extra_info(AfTransport *t, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"name", "default", NULL};
    AfState *st = af_state_of_type(Py_TYPE(t));
    PyObject *name, *fallback = Py_None, *method = PyObject_GetAttr(st->asyncio_BaseTransport, st->str_get_extra_info);
    if (af_unlikely(method != st->get_extra_info)) {
        PyObject *other = method == NULL ? NULL : transport_get_other_info(t, method, args, kwargs);
        Py_XDECREF(method);
        return other;
    }
    Py_DECREF(method);
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:get_extra_info", names, &name, &fallback) ||
        af_transport_send_held(t) < 0) {        /* whoever asks for the socket will do something to it */
        return NULL;
    }
    if (transport_asks_for_socket(name)) {
        t->socket_shown = 1;
        if (af_transport_need_socket(t) < 0) {
            return NULL;
        }
    }
    if (af_unlikely(t->io.extra == NULL)) {         /* not made yet, or somebody has deleted it */
        PyErr_SetString(PyExc_AttributeError, "_extra");
        return NULL;
    }
    PyObject *extra = Py_NewRef(t->io.extra), *value;       /* a key may do anything when it is hashed */
    if (af_likely(PyDict_CheckExact(extra))) {
        value = Py_XNewRef(PyDict_GetItemWithError(extra, name));
        if (value == NULL && !PyErr_Occurred()) {
            value = Py_NewRef(fallback);
        }
    }
    else {
        value = af_call_method(extra, "get", "OO", name, fallback);
    }
    Py_DECREF(extra);
    return value;
}

static PyObject *
transport_make_empty_waiter(AfTransport *t, PyObject *Py_UNUSED(ignored))
{
    if (af_transport_send_held(t) < 0) {
        return NULL;
    }
    if (t->empty_waiter != NULL || t->io.loop == NULL) {
        PyErr_SetString(PyExc_RuntimeError, t->io.loop == NULL ? "Transport is closing" : "Empty waiter is already set");
        return NULL;
    }
    t->empty_waiter = af_call_method((PyObject *)t->io.loop, "create_future", NULL);
    if (t->empty_waiter == NULL || (t->kind->backlog(t) == 0 && af_transport_settle_waiter(t, NULL) < 0)) {
        return NULL;
    }
    return Py_NewRef(t->empty_waiter);
}

static PyObject *
transport_reset_empty_waiter(AfTransport *t, PyObject *Py_UNUSED(ignored))
{
    Py_CLEAR(t->empty_waiter);
    Py_RETURN_NONE;
}

AF_METHOD_OF_ONE(AfTransport, transport_set_protocol, "set_protocol", "protocol")

static PyMethodDef transport_methods[] = {
    {"close", (PyCFunction)transport_close, METH_NOARGS,
     "close($self, /)\n--\n\nSend what is buffered, then close; connection_lost(None) is called in the end."},
    {"is_closing", (PyCFunction)transport_is_closing, METH_NOARGS,
     "is_closing($self, /)\n--\n\nReturn True once it is closing or closed."},
    {"set_protocol", (PyCFunction)(void (*)(void))transport_set_protocol_args, METH_FASTCALL | METH_KEYWORDS,
     "set_protocol($self, /, protocol)\n--\n\nDeliver to this protocol from now on."},
    {"get_protocol", (PyCFunction)transport_get_protocol, METH_NOARGS,
     "get_protocol($self, /)\n--\n\nReturn the protocol; None once closed."},
    {"get_extra_info", (PyCFunction)(void (*)(void))transport_get_extra_info, METH_VARARGS | METH_KEYWORDS,
     "get_extra_info($self, name, default=None)\n--\n\n"
     "Return 'socket', 'sockname', 'peername' or whatever else asyncio documents for this kind of transport."},
    {"_force_close", (PyCFunction)transport_force_close, METH_O,
     "_force_close($self, exc, /)\n--\n\nabort(), with a reason for connection_lost()."},
    {"_fatal_error", (PyCFunction)transport_fatal_error, METH_VARARGS,
     "_fatal_error($self, exc, message='Fatal error on transport', /)\n--\n\nReport exc and _force_close()."},
    {"_call_connection_lost", (PyCFunction)transport_call_connection_lost, METH_O,
     "_call_connection_lost($self, exc, /)\n--\n\nTell the protocol and let go of the socket."},
    {"_start", (PyCFunction)transport_start, METH_O,
     "_start($self, waiter, /)\n--\n\nconnection_made(); then begin to read, and give waiter (or None) its result."},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef transport_reading_methods[] = {
    {"is_reading", (PyCFunction)transport_is_reading, METH_NOARGS,
     "is_reading($self, /)\n--\n\nReturn True while data is received: neither paused nor closing."},
    {"pause_reading", (PyCFunction)transport_pause_reading, METH_NOARGS,
     "pause_reading($self, /)\n--\n\nReceive nothing until resume_reading().  May be called again."},
    {"resume_reading", (PyCFunction)transport_resume_reading, METH_NOARGS,
     "resume_reading($self, /)\n--\n\nReceive again.  May be called again."},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef transport_writing_methods[] = {
    {"abort", (PyCFunction)transport_abort, METH_NOARGS,
     "abort($self, /)\n--\n\nClose at once; what is buffered is lost."},
    {"get_write_buffer_size", (PyCFunction)transport_get_write_buffer_size, METH_NOARGS,
     "get_write_buffer_size($self, /)\n--\n\nReturn how many bytes wait to be sent."},
    {"get_write_buffer_limits", (PyCFunction)transport_get_write_buffer_limits, METH_NOARGS,
     "get_write_buffer_limits($self, /)\n--\n\nReturn (low, high), in bytes."},
    {"set_write_buffer_limits", (PyCFunction)(void (*)(void))transport_set_write_buffer_limits,
     METH_VARARGS | METH_KEYWORDS,
     "set_write_buffer_limits($self, high=None, low=None)\n--\n\n"
     "Pause the protocol's writing above high bytes, resume it at low bytes.\n\n"
     "ValueError unless high >= low >= 0."},
    {"_make_empty_waiter", (PyCFunction)transport_make_empty_waiter, METH_NOARGS,
     "_make_empty_waiter($self, /)\n--\n\nReturn a future that is done once nothing waits to be sent."},
    {"_reset_empty_waiter", (PyCFunction)transport_reset_empty_waiter, METH_NOARGS,
     "_reset_empty_waiter($self, /)\n--\n\nAllow writing again."},
    {NULL, NULL, 0, NULL},
};

/* ---- attributes: asyncio's names, for programs that look ---------------------------------------------------------- */

static PyObject *
transport_get_object(AfTransport *t, void *offset)
{
    PyObject *obj = *(PyObject **)((char *)t + (size_t)offset);
    return Py_NewRef(obj == NULL ? Py_None : obj);
}

static PyObject *
transport_get_flag(AfTransport *t, void *offset)
{
    return PyBool_FromLong(*((char *)t + (size_t)offset));
}

static PyObject *
transport_get_fd(AfTransport *t, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(t->fd);
}

static PyObject *
transport_get_lost(AfTransport *t, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(t->lost);
}

static PyObject *
transport_get_sock(AfTransport *t, void *Py_UNUSED(closure))
{
    if (t->owns_fd && af_transport_need_socket(t) < 0) {
        return NULL;
    }
    return Py_NewRef(t->sock == NULL ? Py_None : t->sock);
}

static PyObject *
transport_get_has_fd(AfTransport *t, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(af_transport_has_fd(t));
}

/* The slot that asyncio's transports have, which lies in io.extra; with all that belongs there. */
static PyObject *
transport_get_extra(AfTransport *t, void *Py_UNUSED(closure))
{
    t->socket_shown = 1;
    if (af_transport_need_socket(t) < 0) {
        return NULL;
    }
    if (t->io.extra == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_extra");
        return NULL;
    }
    return Py_NewRef(t->io.extra);
}

static int
transport_set_extra(AfTransport *t, PyObject *value, void *Py_UNUSED(closure))
{
    if (af_transport_need_socket(t) < 0) {
        return -1;
    }
    if (value == NULL && t->io.extra == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_extra");
        return -1;
    }
    Py_XSETREF(t->io.extra, Py_XNewRef(value));
    return 0;
}

#define TRANSPORT_OBJECT(name, field)                                                                                  \
    {name, (getter)transport_get_object, NULL, NULL, (void *)offsetof(AfTransport, field)}
#define TRANSPORT_FLAG(name, field)                                                                                    \
    {name, (getter)transport_get_flag, NULL, NULL, (void *)offsetof(AfTransport, field)}

static PyGetSetDef transport_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    TRANSPORT_OBJECT("_loop", io.loop),
    {"_sock", (getter)transport_get_sock, NULL, NULL, NULL},
    {"_has_fd", (getter)transport_get_has_fd, NULL, NULL, NULL},
    {"_extra", (getter)transport_get_extra, (setter)transport_set_extra, NULL, NULL},
    TRANSPORT_OBJECT("_protocol", protocol),
    TRANSPORT_OBJECT("_server", server),
    TRANSPORT_OBJECT("_empty_waiter", empty_waiter),
    TRANSPORT_FLAG("_closing", closing),
    TRANSPORT_FLAG("_paused", paused),
    TRANSPORT_FLAG("_eof", eof),
    TRANSPORT_FLAG("_protocol_paused", protocol_paused),
    {"_sock_fd", (getter)transport_get_fd, NULL, NULL, NULL},
    {"_conn_lost", (getter)transport_get_lost, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

/* ---- sockets ---------------------------------------------------------------------------------------------------- */

AF_API int
af_socket_is_plain(AfState *st, PyObject *sock)
{
    if (af_likely((PyObject *)Py_TYPE(sock) == st->plain_socket)) {
        return 1;
    }
    if (st->plain_socket != NULL || !PyObject_TypeCheck(sock, (PyTypeObject *)st->socket_type)) {
        return 0;
    }
    /* the first one that comes along shows where it keeps its fd */
    PyObject *module = PyImport_ImportModule("socket");
    PyObject *plain = module == NULL ? NULL : af_get_attr(module, "socket");
    int fd = plain == (PyObject *)Py_TYPE(sock) ? PyObject_AsFileDescriptor(sock) : -1;
    if (fd >= 0 && af_socket_fd(sock) == fd) {
        st->plain_socket = Py_NewRef(plain);
    }
    Py_XDECREF(module);
    Py_XDECREF(plain);
    PyErr_Clear();
    return st->plain_socket != NULL;
}

/* The address that getname (getsockname, getpeername) gives, None if it fails; NULL: error, or not one of ours. */
static PyObject *
transport_address(int fd, int (*getname)(int, struct sockaddr *, socklen_t *), int *family)
{
    af_sockaddr addr;
    socklen_t len = sizeof(addr);
    PyObject *address = NULL;
    if (getname(fd, &addr.any, &len) < 0) {
        return Py_NewRef(Py_None);
    }
    *family = len >= sizeof(addr.any.sa_family) ? addr.any.sa_family : AF_UNSPEC;
    return af_address_to_python(&addr, len, &address) == 1 ? address : NULL;
}

/* The hook socket_info() without the detour through Python, for the usual sockets, and without 'socket' itself: 1, *info
   is a new reference; 0: not one of them; -1. */
static int
transport_fd_info(AfState *st, int fd, PyObject *extra, int kind, PyObject **info)
{
    if (extra != Py_None && !PyDict_CheckExact(extra)) {
        return 0;
    }
    int family = AF_UNSPEC, rc = -1;
    PyObject *sockname = transport_address(fd, getsockname, &family), *peername = NULL;
    if (sockname == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyObject *dict = extra == Py_None ? PyDict_New() : Py_NewRef(extra);
    if (dict == NULL || PyDict_SetItem(dict, st->str_sockname, sockname) < 0) {
        goto end;
    }
    int known = PyDict_Contains(dict, st->str_peername);
    if (known < 0) {
        goto end;
    }
    if (!known) {
        int ignored;
        peername = transport_address(fd, getpeername, &ignored);
        if (peername == NULL) {
            rc = PyErr_Occurred() ? -1 : 0;
            goto end;
        }
        if (PyDict_SetItem(dict, st->str_peername, peername) < 0) {
            goto end;
        }
    }
    if (kind == AF_STREAM_SOCKET && (family == AF_INET || family == AF_INET6)) {
        int on = 1;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));    /* other protocols have no such thing */
    }
    *info = Py_NewRef(dict);
    rc = 1;
end:
    Py_DECREF(sockname);
    Py_XDECREF(peername);
    Py_XDECREF(dict);
    return rc;
}

static int
transport_socket_info(AfState *st, PyObject *sock, PyObject *extra, int kind, PyObject **info)
{
    int rc = af_socket_is_plain(st, sock) ? transport_fd_info(st, af_socket_fd(sock), extra, kind, info) : 0;
    if (rc == 1) {
        PyObject *wrapped = PyObject_CallOneArg(st->TransportSocket, sock);
        if (wrapped == NULL || PyDict_SetItem(*info, st->str_socket, wrapped) < 0) {
            Py_CLEAR(*info);
            rc = -1;
        }
        Py_XDECREF(wrapped);
    }
    return rc;
}

/* The extra info of a new transport, from here or from the hooks in Python; or NULL. */
static PyObject *
transport_info(AfTransport *t, AfState *st, PyObject *sock, PyObject *extra, int kind)
{
    PyObject *info = NULL;
    int ours = t->is_pipe ? 0
             : sock == NULL ? transport_fd_info(st, t->fd, extra, kind, &info)
                            : transport_socket_info(st, sock, extra, kind, &info);
    return ours != 0 ? info
                     : af_call_method(st->hooks, t->is_pipe ? "pipe_info" : "socket_info", "OOi", sock, extra, kind);
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

/* Until it is made it is like one that is lost: its methods do nothing. */
AF_API PyObject *
af_transport_new(PyTypeObject *type, const af_transport_kind *kind)
{
    AfTransport *t = (AfTransport *)type->tp_alloc(type, 0);
    if (t != NULL) {
        t->kind = kind;
        t->io.ready = transport_ready;
        t->io.flush = transport_flush;
        t->closing = 1;
        t->lost = 1;
    }
    return (PyObject *)t;
}

AF_API int
af_transport_init(AfTransport *t, PyObject *loop, PyObject *sock, PyObject *protocol, PyObject *extra,
                  PyObject *server, PyObject *context, int kind)
{
    AfState *st = af_state_of_type(Py_TYPE(t));
    if (!PyObject_TypeCheck(loop, st->LoopType)) {
        PyErr_Format(PyExc_TypeError, "an asyncfast loop is needed, not %.100s", Py_TYPE(loop)->tp_name);
        return -1;
    }
    if (t->made) {
        PyErr_SetString(PyExc_RuntimeError, "a transport is made only once");
        return -1;
    }
    t->made = 1;
    t->high_water = TRANSPORT_HIGH_WATER;
    t->low_water = TRANSPORT_HIGH_WATER / 4;
    t->is_pipe = kind >= AF_READ_PIPE;
    t->writes_only = kind == AF_WRITE_PIPE;
    t->io.shares = t->is_pipe;
    PyObject *info = transport_info(t, st, sock, extra, kind);
    if (info == NULL) {
        return -1;
    }
    Py_XSETREF(t->io.extra, info);
    if (sock != NULL) {
        t->fd = PyObject_AsFileDescriptor(sock);
    }
    if (t->fd < 0) {
        return -1;
    }
    if (transport_take_protocol(t, protocol) < 0) {
        return -1;
    }
    t->io.loop = (AfLoop *)Py_NewRef(loop);
    t->context = context == Py_None ? NULL : Py_NewRef(context);
    if (af_call_context_take(t, &t->reading) < 0 || af_io_claim(&t->io, t->io.loop, t->fd) < 0) {
        return -1;
    }
    t->closing = 0;
    t->lost = 0;
    if (sock != NULL) {
        t->sock = Py_NewRef(sock);
        t->fd_in_sock = PyObject_TypeCheck(sock, (PyTypeObject *)st->socket_type) && af_socket_fd(sock) == t->fd;
    }
    if (server != Py_None) {
        t->server = Py_NewRef(server);
        if (transport_tell_server(t, server, st->str_attach) < 0) {
            Py_CLEAR(t->server);        /* it does not know us */
            return -1;
        }
    }
    return 0;
}

AF_API int
af_transport_traverse(AfTransport *t, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(t));
    Py_VISIT(t->io.extra);
    Py_VISIT((PyObject *)t->io.loop);
    Py_VISIT(t->sock);
    Py_VISIT(t->protocol);
    Py_VISIT(t->server);
    Py_VISIT(t->context);
    Py_VISIT(t->empty_waiter);
    Py_VISIT(t->dict);
    Py_VISIT(t->reading.context);
    Py_VISIT(t->writing.context);
    return 0;
}

AF_API int
af_transport_clear(AfTransport *t)
{
    af_io_release(&t->io);
    t->kind->drop_backlog(t);
    t->closing = 1;
    t->lost = t->lost ? t->lost : 1;
    af_transport_drop_fd(t);
    Py_CLEAR(t->sock);
    t->sink = NULL;
    Py_CLEAR(t->protocol);
    Py_CLEAR(t->server);
    Py_CLEAR(t->context);
    Py_CLEAR(t->empty_waiter);
    Py_CLEAR(t->dict);
    Py_CLEAR(t->reading.context);
    Py_CLEAR(t->writing.context);
    Py_CLEAR(t->io.extra);
    Py_CLEAR(t->io.loop);
    return 0;
}

AF_API void
af_transport_let_go(AfTransport *t)
{
    AfState *st = af_state_of_type(Py_TYPE(t));
    PyObject *self = (PyObject *)t, *sock = t->sock, *server = t->server;
    af_io_release(&t->io);
    t->sock = t->server = NULL;
    t->closing = 1;
    t->lost = t->lost ? t->lost : 1;
    af_transport_drop_fd(t);
    PyObject *res = sock == NULL ? Py_NewRef(Py_None) : PyObject_CallMethodNoArgs(sock, st->str_close);
    if (res == NULL) {
        PyErr_WriteUnraisable(self);
    }
    Py_XDECREF(res);
    if (server != NULL && transport_tell_server(t, server, st->str_detach) < 0) {
        PyErr_WriteUnraisable(self);
    }
    Py_XDECREF(sock);
    Py_XDECREF(server);
}

/* Nobody closed it: say so, and close it.  The warning may keep it alive. */
AF_API void
af_transport_finalize(PyObject *self)
{
    AfTransport *t = (AfTransport *)self;
    if (t->sock == NULL && !(t->owns_fd && t->made)) {
        return;
    }
    PyObject *raised = PyErr_GetRaisedException();
    if (!t->unseen && af_call_hook(af_state_of_type(Py_TYPE(t)), "transport_unclosed", "O", self) < 0) {
        PyErr_WriteUnraisable(self);
    }
    af_transport_let_go(t);
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
}

AF_API void
af_transport_dealloc(PyObject *self)
{
    AfTransport *t = (AfTransport *)self;
    PyTypeObject *type = Py_TYPE(self);
    if (PyObject_CallFinalizerFromDealloc(self) < 0) {
        return;
    }
    PyObject_GC_UnTrack(self);
    if (t->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    t->kind->clear(t);
    type->tp_free(self);
    Py_DECREF(type);
}

AF_API PyObject *
af_transport_repr(PyObject *self)
{
    return af_call_method(af_state_of_type(Py_TYPE(self))->hooks, "transport_repr", "O", self);
}

/* A type of transport: derived from asyncio.transports.<base>, whose one slot (_extra) comes first in every instance, with
   the methods that all have, and those that go with its direction. */
AF_API PyTypeObject *
af_transport_type(PyObject *module, const char *base, PyType_Spec *spec)
{
    PyObject *asyncio = PyImport_ImportModule("asyncio.transports");
    int reads = strcmp(base, "WriteTransport") != 0, writes = strcmp(base, "ReadTransport") != 0;
    /* asyncio's write pipes are Transports, by way of a mixin, though nothing can be read from them */
    PyObject *parent = asyncio == NULL ? NULL : af_get_attr(asyncio, reads ? base : "Transport");
    PyObject *slot = parent == NULL ? NULL : af_get_attr(parent, "_extra");
    PyObject *bases = Py_XNewRef(parent), *type = NULL;
    if (slot != NULL && strcmp(base, "DatagramTransport") == 0) {
        /* ... and so are its datagram transports */
        PyObject *stream = af_get_attr(asyncio, "Transport");
        Py_XSETREF(bases, stream == NULL ? NULL : PyTuple_Pack(2, stream, parent));
        Py_XDECREF(stream);
    }
    if (slot != NULL && bases != NULL) {
        if (Py_IS_TYPE(slot, &PyMemberDescr_Type) && PyType_Check(parent) &&
            ((PyMemberDescrObject *)slot)->d_member->offset == offsetof(AfIo, extra) &&
            ((PyTypeObject *)parent)->tp_basicsize == offsetof(AfIo, extra) + sizeof(PyObject *)) {
            type = PyType_FromModuleAndSpec(module, spec, bases);
        }
        else {
            PyErr_Format(PyExc_ImportError, "asyncio.%s has another layout than asyncfast knows", base);
        }
    }
    Py_XDECREF(asyncio);
    Py_XDECREF(parent);
    Py_XDECREF(bases);
    Py_XDECREF(slot);
    int rc = type == NULL ? -1 : af_type_add((PyTypeObject *)type, transport_methods, transport_getset);
    if (rc == 0 && reads) {
        rc = af_type_add((PyTypeObject *)type, transport_reading_methods, NULL);
    }
    if (rc == 0 && writes) {
        rc = af_type_add((PyTypeObject *)type, transport_writing_methods, NULL);
    }
    if (rc < 0) {
        Py_CLEAR(type);
    }
    return (PyTypeObject *)type;
}
