/* The machine of the TLS transport, and the protocol that it is to the transport below: asyncio's sslproto in C.  What a
   program calls is in ssltransport.c.

   There are two objects, as on asyncio: the program has the transport, the transport below has the face, which is the
   protocol that it talks to.  The face holds the transport; the transport holds the one below until connection_lost().

   States are asyncio's.  UNWRAPPED: before the handshake, and when it is over; HANDSHAKE; WRAPPED: data flows; FLUSHING:
   close() was called, or the peer has said its last; SHUTDOWN: close_notify is on its way.  What is written becomes records at
   once, unless the transport below has said stop, and the records of one callback leave together, for the stream transport
   holds them back until it returns.

   Belongs to its loop's thread.  Runs Python: the protocols' methods, the SSLObject's, the transport below if it is not
   our stream transport; after each of them the state may be another. */
#include "tls/tls.h"

#include "core/handle.h"
#include "net/data.h"
#include "net/reading.h"
#include "net/stream.h"

/* asyncio.constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES */
#define TLS_LOST_WRITES 5
/* As much is encrypted before the transport below is given it, and may say stop. */
#define TLS_PIECE ((size_t)256 * 1024)
/* get_buffer() for transports that do not know sinks. */
#define TLS_ROOM ((Py_ssize_t)64 * 1024)

typedef struct AfTlsProtocol {
    AfSink sink;
    AfTls *tls;                 /* NULL once cleared */
} AfTlsProtocol;

static const char tls_fatal_error[] = "Fatal error on SSL protocol";
static const char tls_transport_error[] = "Fatal error on transport";

static int tls_do_read(AfTls *tls);

/* ---- the face --------------------------------------------------------------------------------------------------- */

static int tls_received(AfSink *sink, const char *data, size_t size);

AF_API PyObject *
af_tls_face(AfTls *tls)
{
    if (tls->face != NULL) {
        return Py_NewRef((PyObject *)tls->face);
    }
    AfTlsProtocol *face = (AfTlsProtocol *)tls->st->SinkType->tp_alloc(tls->st->SinkType, 0);
    if (face != NULL) {
        face->sink.received = tls_received;
        face->tls = (AfTls *)Py_NewRef((PyObject *)tls);
        tls->face = face;
    }
    return (PyObject *)face;
}

AF_API PyObject *
af_tls_face_method(AfTls *tls, const char *name)
{
    PyObject *face = af_tls_face(tls);
    PyObject *method = face == NULL ? NULL : af_get_attr(face, name);
    Py_XDECREF(face);
    return method;
}

/* ---- errors ----------------------------------------------------------------------------------------------------- */

/* What is raised ends the connection, and is reported: 0; or -1, if the handler raised. */
static int
tls_report(AfTls *tls, const char *message)
{
    PyObject *exc = PyErr_GetRaisedException(), *face = af_tls_face(tls);
    int rc = face == NULL ? -1 : af_call_hook_handling(tls->st, exc, "tls_fatal", "OOOsO", (PyObject *)tls->loop,
                                                       tls->lower == NULL ? Py_None : tls->lower, face, message, exc);
    Py_XDECREF(face);
    Py_DECREF(exc);
    return rc;
}

/* The same; -1 also if it is no Exception, then it goes on up. */
static int
tls_fatal(AfTls *tls, const char *message)
{
    return PyErr_ExceptionMatches(PyExc_Exception) ? tls_report(tls, message) : -1;
}

static int
tls_log_debug(AfTls *tls, const char *what)
{
    if (!tls->loop->debug) {
        return 0;
    }
    PyObject *face = af_tls_face(tls);
    int rc = face == NULL ? -1 : af_call_hook(tls->st, "transport_debug", "Os", face, what);
    Py_XDECREF(face);
    return rc;
}

/* The handshake of a server's connection came to nothing, before the program had it: asyncio's accepting task tells of it. */
static int
tls_accept_failed(AfTls *tls, PyObject *protocol, PyObject *exc)
{
    tls->closed = tls->closed ? tls->closed : 1;
    return !tls->loop->debug ? 0
           : af_call_hook_handling(tls->st, exc, "accepted_failed", "OOOO", (PyObject *)tls->loop,
                                   protocol == NULL ? Py_None : protocol, exc, (PyObject *)tls);
}

/* Whoever waits for the handshake of protocol's connection: exc, or None. */
static int
tls_wake(AfTls *tls, PyObject *protocol, PyObject *exc)
{
    if (tls->accepted) {
        tls->accepted = 0;
        return exc == NULL || exc == Py_None ? 0 : tls_accept_failed(tls, protocol, exc);
    }
    PyObject *waiter = tls->waiter;
    if (waiter == NULL) {
        return 0;
    }
    tls->waiter = NULL;
    PyObject *cancelled = af_call_method(waiter, "cancelled", NULL);
    int skip = cancelled == NULL ? -1 : PyObject_IsTrue(cancelled);
    Py_XDECREF(cancelled);
    PyObject *res = NULL;
    if (skip == 0) {
        res = exc == NULL || exc == Py_None ? af_call_method(waiter, "set_result", "O", Py_None)
                                            : af_call_method(waiter, "set_exception", "O", exc);
    }
    Py_XDECREF(res);
    Py_DECREF(waiter);
    return skip == 1 || res != NULL ? 0 : -1;
}

static int
tls_disarm(AfTls *tls, PyObject **timer)
{
    PyObject *handle = *timer;
    *timer = NULL;
    PyObject *res = handle == NULL ? Py_NewRef(Py_None) : PyObject_CallMethodNoArgs(handle, tls->st->str_cancel);
    Py_XDECREF(handle);
    Py_XDECREF(res);
    return res == NULL ? -1 : 0;
}

static int
tls_arm(AfTls *tls, PyObject **timer, PyObject *timeout, const char *method)
{
    PyObject *args[] = {(PyObject *)tls->loop, timeout, af_tls_face_method(tls, method)};
    PyObject *handle = args[2] == NULL ? NULL : PyObject_VectorcallMethod(tls->st->str_call_later, args, 3, NULL);
    Py_XDECREF(args[2]);
    if (handle == NULL) {
        return -1;
    }
    Py_XSETREF(*timer, handle);
    return 0;
}

/* ---- the transport below ---------------------------------------------------------------------------------------- */

static int
tls_tell_lower(AfTls *tls, const char *method, PyObject *arg)
{
    if (tls->lower == NULL) {
        return 0;
    }
    PyObject *lower = Py_NewRef(tls->lower);
    PyObject *res = arg == NULL ? af_call_method(lower, method, NULL) : af_call_method(lower, method, "O", arg);
    Py_DECREF(lower);
    Py_XDECREF(res);
    return res == NULL ? -1 : 0;
}

AF_API int
af_tls_abort(AfTls *tls, PyObject *exc)
{
    tls->state = AF_TLS_UNWRAPPED;
    return tls_tell_lower(tls, "_force_close", exc == NULL ? Py_None : exc);
}

/* It is a record of kernel TLS, and no data. */
static int
tls_lower_write_record(AfTls *tls, PyObject *data)
{
    PyObject *lower = Py_NewRef(tls->lower), *type = PyLong_FromLong(tls->memory.ktls.taken);
    int rc = type == NULL ? -1 : af_stream_write_record_steal(lower, type, Py_NewRef(data));
    Py_XDECREF(type);
    Py_DECREF(lower);
    return rc;
}

static int
tls_lower_write(AfTls *tls, PyObject *data)
{
    if (af_unlikely(tls->memory.ktls.taken != 0)) {
        return tls_lower_write_record(tls, data);
    }
    PyObject *lower = Py_NewRef(tls->lower);
    PyObject *res = tls->lower_is_stream ? af_stream_write(lower, data)
                                         : PyObject_CallMethodOneArg(lower, tls->st->str_write, data);
    Py_DECREF(lower);
    Py_XDECREF(res);
    return res == NULL ? -1 : 0;
}

/* ---- flow control ----------------------------------------------------------------------------------------------- */

static int
tls_tell_flow(AfTls *tls, PyObject *method, const char *message)
{
    PyObject *protocol = Py_NewRef(tls->protocol == NULL ? Py_None : tls->protocol);
    PyObject *res = PyObject_CallMethodNoArgs(protocol, method);
    Py_DECREF(protocol);
    Py_XDECREF(res);
    if (res != NULL) {
        return 0;
    }
    if (af_raised_exit()) {
        return -1;
    }
    PyObject *exc = PyErr_GetRaisedException(), *face = af_tls_face(tls);
    int rc = face == NULL ? -1 : af_call_hook_handling(tls->st, exc, "tls_failed", "OOOsO", (PyObject *)tls->loop,
                                                       (PyObject *)tls, face, message, exc);
    Py_XDECREF(face);
    Py_DECREF(exc);
    return rc;
}

/* What was written and is not the transport's below: bytes, or -1. */
AF_API Py_ssize_t
af_tls_backlog(AfTls *tls)
{
    Py_ssize_t unsent = tls->engine->unsent(tls);
    return unsent < 0 ? -1 : unsent + (Py_ssize_t)tls->plain.size;
}

AF_API int
af_tls_control_app_writing(AfTls *tls)
{
    Py_ssize_t size = af_tls_backlog(tls);
    if (size < 0) {
        return -1;
    }
    if ((size_t)size >= tls->out_high && !tls->app_writing_paused) {
        tls->app_writing_paused = 1;
        return tls_tell_flow(tls, tls->st->str_pause_writing, "protocol.pause_writing() failed");
    }
    if (af_unlikely(tls->app_writing_paused) && (size_t)size <= tls->out_low) {
        tls->app_writing_paused = 0;
        return tls_tell_flow(tls, tls->st->str_resume_writing, "protocol.resume_writing() failed");
    }
    return 0;
}

/* A protocol that does not read makes the transport below stop, once so much has piled up. */
AF_API int
af_tls_control_reading(AfTls *tls)
{
    Py_ssize_t size = tls->engine->unread(tls);
    if (size < 0 || (tls->writing_paused & AF_TLS_SENDFILE)) {
        return size < 0 ? -1 : 0;
    }
    if ((size_t)size >= tls->in_high && !tls->reading_paused) {
        tls->reading_paused = 1;
        return tls_tell_lower(tls, "pause_reading", NULL);
    }
    if (af_unlikely(tls->reading_paused) && (size_t)size <= tls->in_low) {
        tls->reading_paused = 0;
        return tls_tell_lower(tls, "resume_reading", NULL);
    }
    return 0;
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

/* The records go to the transport below, though it has said stop. */
static int
tls_send_now(AfTls *tls)
{
    Py_ssize_t size = tls->engine->unsent(tls);
    int rc = 0;
    while (size > 0 && rc == 0) {
        PyObject *data = tls->engine->take(tls);
        rc = data == NULL ? -1 : tls_lower_write(tls, data);
        Py_XDECREF(data);
        /* one take() is all, unless the kernel makes the records */
        size = af_unlikely(tls->memory.ktls.sends) && tls->lower != NULL ? tls->engine->unsent(tls) : 0;
    }
    return size < 0 ? -1 : rc;
}

static int
tls_send(AfTls *tls)
{
    return tls->writing_paused || tls->lower == NULL ? 0 : tls_send_now(tls);
}

static int
tls_process_outgoing(AfTls *tls)
{
    return tls_send(tls) < 0 ? -1 : af_tls_control_app_writing(tls);
}

/* Make records of data: how many bytes of it; or -1.  Stops early if OpenSSL wants to read first, or (unless all of it is
   asked for) when the transport below has had enough. */
static Py_ssize_t
tls_encrypt(AfTls *tls, const char *data, size_t size, int all)
{
    size_t done = 0;
    while (done < size && (all || !tls->writing_paused)) {
        size_t piece = tls->retry ? tls->retry : size - done < TLS_PIECE ? size - done : TLS_PIECE;
        Py_ssize_t n = tls->engine->write(tls, data + done, piece);
        tls->retry = n == AF_TLS_AGAIN ? piece : 0;
        if (n == AF_TLS_AGAIN) {
            break;
        }
        if (n < 0) {
            return -1;
        }
        done += (size_t)n;
        if (piece >= TLS_PIECE && tls_send(tls) < 0) {
            return -1;
        }
    }
    return (Py_ssize_t)done;
}

static int
tls_do_write(AfTls *tls, int all)
{
    while (tls->plain.count > 0) {
        const af_chunk *c = &tls->plain.chunks[tls->plain.first];
        PyObject *bytes = Py_NewRef(c->bytes);
        size_t start = c->start, size = (size_t)PyBytes_GET_SIZE(bytes) - start;
        Py_ssize_t n = tls_encrypt(tls, PyBytes_AS_STRING(bytes) + start, size, all);
        Py_DECREF(bytes);
        if (n < 0) {
            return -1;
        }
        if ((size_t)n > tls->plain.size) {
            return 0;           /* the connection was lost meanwhile, and the backlog dropped */
        }
        af_backlog_sent(&tls->plain, (size_t)n);
        if ((size_t)n < size) {
            break;
        }
    }
    return tls_process_outgoing(tls);
}

/* Nothing holds writing up any more; or something does, still. */
static int
tls_write_on(AfTls *tls)
{
    if (tls->plain.count == 0 || (tls->state != AF_TLS_WRAPPED && tls->state != AF_TLS_FLUSHING)) {
        return tls_process_outgoing(tls);
    }
    return tls_do_write(tls, 0) < 0 ? tls_fatal(tls, tls_fatal_error) : 0;
}

/* Keep data from start on until it can be encrypted. */
AF_API int
af_tls_keep(AfTls *tls, const af_data *data, size_t start)
{
    PyObject *rest = af_data_snapshot(data, start);
    return rest == NULL ? -1 : af_backlog_add_steal(&tls->plain, rest, rest == data->obj ? start : 0);
}

static int
tls_write_data(AfTls *tls, const af_data *data)
{
    if (tls->state != AF_TLS_WRAPPED) {
        return af_tls_keep(tls, data, 0);          /* the handshake's end will find it */
    }
    if (tls->plain.count > 0 || tls->writing_paused) {
        return af_tls_keep(tls, data, 0) < 0 ? -1 : tls_do_write(tls, 0);
    }
    size_t size = (size_t)data->view.len;
    Py_ssize_t n = tls_encrypt(tls, data->view.buf, size, 0);
    if (n < 0 || ((size_t)n < size && tls->state == AF_TLS_WRAPPED && af_tls_keep(tls, data, (size_t)n) < 0)) {
        return -1;
    }
    return tls_process_outgoing(tls);
}

/* Nothing is sent any more: 1, and it has been said; 0: go on; or -1. */
static int
tls_writes_in_vain(AfTls *tls)
{
    if (af_likely(tls->state == AF_TLS_WRAPPED || tls->state == AF_TLS_HANDSHAKE)) {
        return 0;
    }
    return tls->lost++ >= TLS_LOST_WRITES && af_call_hook(tls->st, "tls_write_to_lost", NULL) < 0 ? -1 : 1;
}

AF_API PyObject *
af_tls_write_object(AfTls *tls, PyObject *data)
{
    int vain = tls_writes_in_vain(tls);
    if (vain != 0) {
        return vain < 0 ? NULL : Py_NewRef(Py_None);
    }
    af_data d;
    if (af_data_open(&d, data) < 0) {
        return NULL;
    }
    int rc = d.view.len == 0 ? 0 : tls_write_data(tls, &d);
    af_data_close(&d);
    return rc < 0 && tls_fatal(tls, tls_fatal_error) < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

static int
tls_call_eof_received(AfTls *tls)
{
    if (tls->app_state != AF_TLS_APP_MADE) {
        return 0;
    }
    tls->app_state = AF_TLS_APP_EOF;
    PyObject *protocol = Py_NewRef(tls->protocol == NULL ? Py_None : tls->protocol);
    PyObject *res = PyObject_CallMethodNoArgs(protocol, tls->st->str_eof_received);
    int keep_open = res == NULL ? -1 : PyObject_IsTrue(res);
    Py_DECREF(protocol);
    Py_XDECREF(res);
    if (keep_open > 0) {
        keep_open = af_call_hook(tls->st, "tls_keeps_not_open", NULL);
    }
    return keep_open >= 0 ? 0 : af_raised_exit() ? -1 : tls_report(tls, "Error calling eof_received()");
}

/* The peer has sent close_notify. */
static int
tls_ended(AfTls *tls)
{
    return tls_call_eof_received(tls) < 0 ? -1 : af_tls_start_shutdown(tls);
}

static inline int
tls_may_read(const AfTls *tls)
{
    return (tls->state == AF_TLS_WRAPPED || tls->state == AF_TLS_FLUSHING) && !tls->app_reading_paused &&
           tls->protocol != NULL;
}

static int
tls_deliver(void *whom, PyObject *data)
{
    AfTls *tls = whom;
    PyObject *stack[3] = {NULL, Py_NewRef(tls->protocol), data};
    PyObject *res = PyObject_VectorcallMethod(tls->st->str_data_received, stack + 1,
                                              2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(stack[1]);
    Py_XDECREF(res);
    return res == NULL ? -1 : 0;
}

/* The same straight into a stream reader, or by data_received() if that is not what it would do. */
static int
tls_deliver_feed(AfTls *tls, PyObject *buffer, size_t size)
{
    AfLoop *loop = tls->loop;
    PyObject *protocol = Py_NewRef(tls->protocol);
    int rc = af_feed(loop, tls->app_feed, protocol, PyBytes_AS_STRING(buffer), (Py_ssize_t)size);
    if (rc == 0) {
        rc = af_reading_deliver(loop, buffer, (Py_ssize_t)size, &tls->keeps, tls_deliver, tls);
    }
    else {
        af_reading_give_back(loop, buffer);
    }
    Py_DECREF(protocol);
    return rc < 0 ? -1 : 0;
}

/* The same to a protocol that is TLS again. */
static int
tls_deliver_sink(AfTls *tls, PyObject *buffer, size_t size)
{
    AfLoop *loop = tls->loop;
    AfSink *sink = (AfSink *)Py_NewRef((PyObject *)tls->app_sink);
    int rc = sink->received(sink, PyBytes_AS_STRING(buffer), size);
    Py_DECREF((PyObject *)sink);
    af_reading_give_back(loop, buffer);
    return rc;
}

/* All that is there goes to data_received(), in as few calls as the buffer allows.  What was read before an error is
   delivered before it is raised.  1: the protocol is a buffered one now, and there may be more for it; 0; or -1. */
static int
tls_read_data(AfTls *tls)
{
    AfLoop *loop = tls->loop;
    Py_ssize_t got = 1;
    while (got > 0 && tls_may_read(tls)) {
        if (af_unlikely(tls->app_buffered)) {
            return 1;
        }
        PyObject *buffer = af_reading_take(loop);
        if (buffer == NULL) {
            return -1;
        }
        size_t size = 0;
        do {
            got = tls->engine->read(tls, PyBytes_AS_STRING(buffer) + size, AF_READ_SIZE - size);
            size += got > 0 ? (size_t)got : 0;
        } while (got > 0 && size < AF_READ_SIZE);
        PyObject *raised = got == AF_TLS_ERROR ? PyErr_GetRaisedException() : NULL;
        int rc = 0;
        if (size == 0 || tls->protocol == NULL) {
            af_reading_give_back(loop, buffer);
        }
        else if (tls->app_sink != NULL) {
            rc = tls_deliver_sink(tls, buffer, size);
        }
        else if (tls->app_feed != NULL) {
            rc = tls_deliver_feed(tls, buffer, size);
        }
        else {
            rc = af_reading_deliver(loop, buffer, (Py_ssize_t)size, &tls->keeps, tls_deliver, tls);
        }
        if (raised != NULL) {
            PyErr_SetRaisedException(raised);
            return -1;
        }
        if (rc < 0) {
            return -1;
        }
    }
    return got == AF_TLS_ENDED ? tls_ended(tls) : 0;
}

/* After what has been scheduled by now, and before what buffer_updated() will. */
static int
tls_read_soon(AfTls *tls)
{
    PyObject *again = af_tls_face_method(tls, "_do_read");
    int rc = again == NULL ? -1 : af_call_soon(tls->st, (PyObject *)tls->loop, again, NULL, NULL);
    Py_XDECREF(again);
    return rc;
}

/* One get_buffer(), filled as far as there is data: 1 if it is full, 0, or -1. */
static int
tls_fill_buffer(AfTls *tls, PyObject *protocol, Py_ssize_t *got)
{
    PyObject *hint = PyLong_FromSsize_t(tls->engine->unread(tls));
    PyObject *buffer = hint == NULL ? NULL : PyObject_CallMethodOneArg(protocol, tls->st->str_get_buffer, hint);
    Py_XDECREF(hint);
    Py_buffer view;
    if (buffer == NULL || PyObject_Size(buffer) < 0 || af_data_room(buffer, &view, 1) < 0) {
        Py_XDECREF(buffer);
        return -1;
    }
    Py_ssize_t size = 0, room = view.len;
    *got = AF_TLS_AGAIN;
    while (size < room && tls->lower != NULL) {
        *got = tls->engine->read(tls, (char *)view.buf + size, (size_t)(room - size));
        if (*got <= 0) {
            break;
        }
        size += *got;
    }
    PyObject *raised = *got == AF_TLS_ERROR ? PyErr_GetRaisedException() : NULL;
    PyBuffer_Release(&view);
    Py_DECREF(buffer);
    if (size > 0 && size == room && tls->state == AF_TLS_WRAPPED && tls_read_soon(tls) < 0) {
        Py_XDECREF(raised);
        return -1;
    }
    if (size > 0) {
        PyObject *count = PyLong_FromSsize_t(size);
        PyObject *res = count == NULL ? NULL : PyObject_CallMethodOneArg(protocol, tls->st->str_buffer_updated, count);
        Py_XDECREF(count);
        Py_XDECREF(res);
        if (res == NULL) {
            Py_XDECREF(raised);
            return -1;
        }
    }
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
        return -1;
    }
    if (room == 0) {
        PyErr_SetString(PyExc_RuntimeError, "get_buffer() returned an empty buffer");
        return -1;
    }
    return size == room;
}

/* As asyncio does: after a full buffer the others have their turn before the next one.  Unless the end is near: what is not
   read before close_notify is sent is not read at all.  1: the protocol is no buffered one any more, and there may be more for
   it; 0; or -1. */
static int
tls_read_into(AfTls *tls)
{
    Py_ssize_t got;
    int full;
    do {
        PyObject *protocol = Py_NewRef(tls->protocol);
        full = tls_fill_buffer(tls, protocol, &got);
        Py_DECREF(protocol);
    } while (full > 0 && tls->state == AF_TLS_FLUSHING && tls_may_read(tls) && tls->app_buffered);
    if (full > 0 && tls->state == AF_TLS_FLUSHING && tls_may_read(tls)) {
        return 1;
    }
    return full < 0 ? -1 : full == 0 && got == AF_TLS_ENDED ? tls_ended(tls) : 0;
}

static int
tls_do_read(AfTls *tls)
{
    if ((tls->state != AF_TLS_WRAPPED && tls->state != AF_TLS_FLUSHING) || (tls->writing_paused & AF_TLS_SENDFILE)) {
        return 0;
    }
    int rc = 0;
    if (tls_may_read(tls)) {
        do {
            rc = tls->app_buffered ? tls_read_into(tls) : tls_read_data(tls);
        } while (rc > 0);
        if (rc == 0) {
            rc = tls->plain.count > 0 ? tls_do_write(tls, 0) : tls_process_outgoing(tls);
        }
    }
    if (rc == 0) {
        rc = af_tls_control_reading(tls);
    }
    return rc < 0 ? tls_fatal(tls, tls_fatal_error) : 0;
}

/* ---- the handshake ---------------------------------------------------------------------------------------------- */

/* What is raised is why it failed. */
static int
tls_handshake_failed(AfTls *tls)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    PyObject *exc = PyErr_GetRaisedException();
    int certificate = PyObject_IsInstance(exc, tls->st->tls_certificate_error);
    tls->state = AF_TLS_UNWRAPPED;
    int rc = tls_disarm(tls, &tls->handshake_timer);
    if (rc == 0) {
        PyErr_SetRaisedException(Py_NewRef(exc));
        rc = tls_fatal(tls, certificate > 0 ? "SSL handshake failed on verifying the certificate" : "SSL handshake failed");
    }
    if (rc == 0) {
        PyObject *protocol = Py_XNewRef(tls->protocol);
        rc = tls_wake(tls, protocol, exc);
        Py_XDECREF(protocol);
    }
    Py_DECREF(exc);
    return rc;
}

/* What became of the wish for kernel TLS. */
static int
tls_tell_ktls(AfTls *tls)
{
    const af_ktls *k = &tls->memory.ktls;
    return !k->wished ? 0 : af_call_hook(tls->st, "tls_ktls", "OOizi", (PyObject *)tls, tls->sslobj, (int)k->sends, k->why,
                                         k->error);
}

/* What get_extra_info() knows from now on. */
static int
tls_connected(AfTls *tls)
{
    PyObject *args[] = {tls->st->hooks, tls->sslobj, tls->extra};
    PyObject *later = PyObject_VectorcallMethod(tls->st->str_tls_connected, args, 3, NULL);
    if (later == Py_None) {
        Py_CLEAR(later);
    }
    else if (later == NULL) {
        return -1;
    }
    Py_XSETREF(tls->peercert, later);
    return 0;
}

AF_API int
af_tls_know_peercert(AfTls *tls)
{
    PyObject *later = tls->peercert, *extra = Py_XNewRef(tls->extra);
    tls->peercert = NULL;
    PyObject *peercert = later == NULL ? NULL : PyObject_CallNoArgs(later);
    int rc = later == NULL ? 0
             : peercert == NULL ? -1 : extra == NULL ? 0 : PyDict_SetItemString(extra, "peercert", peercert);
    if (rc < 0 && tls->peercert == NULL) {
        tls->peercert = Py_NewRef(later);       /* out of memory, maybe: another time */
    }
    Py_XDECREF(peercert);
    Py_XDECREF(later);
    Py_XDECREF(extra);
    return rc;
}

static int
tls_handshake_done(AfTls *tls)
{
    if (tls_disarm(tls, &tls->handshake_timer) < 0) {
        return -1;
    }
    tls->state = AF_TLS_WRAPPED;
    if (tls_connected(tls) < 0 || tls_tell_ktls(tls) < 0) {
        return tls_handshake_failed(tls);
    }
    if (tls->loop->debug) {
        PyObject *face = af_tls_face(tls);
        int rc = face == NULL ? -1 : af_call_hook(tls->st, "tls_took", "OOd", (PyObject *)tls->loop, face,
                                                  tls->handshake_began);
        Py_XDECREF(face);
        if (rc < 0) {
            return -1;
        }
    }
    if (tls->app_state == AF_TLS_APP_INIT) {
        tls->app_state = AF_TLS_APP_MADE;
        if (tls->lower_is_stream) {
            ((AfTransport *)tls->lower)->unseen = 0;
        }
        PyObject *protocol = Py_NewRef(tls->protocol == NULL ? Py_None : tls->protocol);
        PyObject *res = PyObject_CallMethodOneArg(protocol, tls->st->str_connection_made, (PyObject *)tls);
        Py_DECREF(protocol);
        Py_XDECREF(res);
        if (res == NULL) {
            return -1;
        }
    }
    return tls_wake(tls, NULL, NULL) < 0 ? -1 : tls_do_read(tls);
}

/* 1: it is over; AF_TLS_AGAIN or AF_TLS_ERROR. */
static int
tls_handshake_step(AfTls *tls)
{
    int rc = tls->handshake_direct ? tls->engine->handshake(tls) : AF_TLS_UNABLE;
    if (rc != AF_TLS_UNABLE) {
        return rc;
    }
    PyObject *res = PyObject_CallMethodNoArgs(tls->sslobj, tls->st->str_do_handshake);
    if (res == NULL) {
        return af_tls_again(tls->st) ? AF_TLS_AGAIN : AF_TLS_ERROR;
    }
    Py_DECREF(res);
    return 1;
}

static int
tls_do_handshake(AfTls *tls)
{
    switch (tls_handshake_step(tls)) {
    case 1:
        return tls_handshake_done(tls);
    case AF_TLS_AGAIN:
        return tls_process_outgoing(tls);
    default:
        return PyErr_ExceptionMatches(tls->st->tls_error) ? tls_handshake_failed(tls) : -1;
    }
}

static int
tls_start_handshake(AfTls *tls)
{
    if (tls->loop->debug) {
        PyObject *now = af_call_method((PyObject *)tls->loop, "time", NULL);
        tls->handshake_began = now == NULL ? -1 : PyFloat_AsDouble(now);
        Py_XDECREF(now);
        if (PyErr_Occurred() || tls_log_debug(tls, "starts SSL handshake") < 0) {
            return -1;
        }
    }
    tls->state = AF_TLS_HANDSHAKE;
    if (tls_arm(tls, &tls->handshake_timer, tls->handshake_timeout, "_check_handshake_timeout") < 0) {
        return -1;
    }
    return tls_do_handshake(tls);
}

/* ---- the shutdown ----------------------------------------------------------------------------------------------- */

/* The connection below is closed.  That may take long, if the peer does not read: the timeout stands until
   connection_lost(), and begins here if it was the peer who began. */
static int
tls_shutdown_done(AfTls *tls)
{
    if (tls->shutdown_timer == NULL &&
        tls_arm(tls, &tls->shutdown_timer, tls->shutdown_timeout, "_check_shutdown_timeout") < 0) {
        return -1;
    }
    if (tls->lower == NULL) {
        return 0;
    }
    PyObject *close = PyObject_GetAttr(tls->lower, tls->st->str_close);
    int rc = close == NULL ? -1 : af_call_soon(tls->st, (PyObject *)tls->loop, close, NULL, NULL);
    Py_XDECREF(close);
    return rc;
}

static int
tls_do_shutdown(AfTls *tls)
{
    if (!tls->eof) {
        PyObject *res = af_call_method(tls->sslobj, "unwrap", NULL);
        Py_XDECREF(res);
        if (res == NULL) {
            if (af_tls_again(tls->st)) {
                return tls_process_outgoing(tls);
            }
            if (!PyErr_ExceptionMatches(tls->st->tls_error)) {
                return -1;
            }
            PyObject *exc = PyErr_GetRaisedException();
            int rc = tls_disarm(tls, &tls->shutdown_timer);
            if (rc == 0) {
                PyErr_SetRaisedException(Py_NewRef(exc));
                rc = tls_fatal(tls, tls_transport_error);
            }
            Py_DECREF(exc);
            return rc;
        }
    }
    if (tls_process_outgoing(tls) < 0 || tls_call_eof_received(tls) < 0) {
        return -1;
    }
    return tls_shutdown_done(tls);
}

/* What has come is delivered, what was written is sent, and then close_notify. */
static int
tls_do_flush(AfTls *tls)
{
    if (tls->writing_paused & AF_TLS_SENDFILE) {
        return 0;               /* its end will come back to this */
    }
    if (tls_do_read(tls) < 0) {
        return -1;
    }
    if (tls->state != AF_TLS_FLUSHING) {
        return 0;               /* aborted by the protocol, or it has gone on already */
    }
    if (tls->plain.count > 0 && tls_do_write(tls, 1) < 0) {
        return tls_fatal(tls, tls_fatal_error);
    }
    if (tls->state != AF_TLS_FLUSHING) {
        return 0;
    }
    tls->state = AF_TLS_SHUTDOWN;
    return tls_do_shutdown(tls);
}

AF_API int
af_tls_start_shutdown(AfTls *tls)
{
    if (tls->state != AF_TLS_WRAPPED && tls->state != AF_TLS_HANDSHAKE) {
        return 0;
    }
    tls->closed = tls->closed ? tls->closed : 1;
    if (tls->state == AF_TLS_HANDSHAKE) {
        return af_tls_abort(tls, NULL);
    }
    tls->state = AF_TLS_FLUSHING;
    if (tls_arm(tls, &tls->shutdown_timer, tls->shutdown_timeout, "_check_shutdown_timeout") < 0) {
        return -1;
    }
    return tls_do_flush(tls);
}

/* Go on where the state says, after data has come or the protocol reads again. */
static int
tls_continue(AfTls *tls)
{
    switch (tls->state) {
    case AF_TLS_HANDSHAKE:
        return tls_do_handshake(tls);
    case AF_TLS_WRAPPED:
        return tls_do_read(tls);
    case AF_TLS_FLUSHING:
        return tls_do_flush(tls);
    case AF_TLS_SHUTDOWN:
        return tls_do_shutdown(tls);
    default:
        return 0;
    }
}

/* Once the connection is lost, and close() was called again: a protocol that keeps its transport keeps no context, nor what
   that holds. */
AF_API void
af_tls_forget(AfTls *tls)
{
    if (tls->closed == 2 && tls->lower == NULL && tls->lost) {
        Py_CLEAR(tls->sslobj);
        Py_CLEAR(tls->peercert);
        Py_CLEAR(tls->extra);
    }
}

/* ---- sendfile() -------------------------------------------------------------------------------------------------- */

/* All that was written goes to the transport below, for the file to come behind it; what is written from here on waits, and
   so does close(). */
AF_API int
af_tls_begin_sendfile(AfTls *tls)
{
    if (tls->writing_paused & AF_TLS_SENDFILE) {
        PyErr_SetString(PyExc_RuntimeError, "sendfile is in progress already");
        return -1;
    }
    if (tls->state == AF_TLS_WRAPPED && tls->memory.ktls.sends &&
        (tls_do_write(tls, 1) < 0 || (tls->lower != NULL && tls_send_now(tls) < 0))) {
        return -1;
    }
    if (tls->state != AF_TLS_WRAPPED || !tls->memory.ktls.sends || tls->lower == NULL || tls->plain.count > 0) {
        PyErr_SetString(PyExc_RuntimeError, "Transport is closing");
        return -1;
    }
    tls->writing_paused |= AF_TLS_SENDFILE;
    return 0;
}

AF_API int
af_tls_end_sendfile(AfTls *tls)
{
    tls->writing_paused &= ~AF_TLS_SENDFILE;
    if (tls->lower == NULL || tls_write_on(tls) < 0) {
        return tls->lower == NULL ? 0 : -1;
    }
    PyObject *resume = af_tls_face_method(tls, "_resume");
    int rc = resume == NULL ? -1 : af_call_soon(tls->st, (PyObject *)tls->loop, resume, NULL, NULL);
    Py_XDECREF(resume);
    return rc;
}

/* ---- what the transport below calls ----------------------------------------------------------------------------- */

static int
tls_received(AfSink *sink, const char *data, size_t size)
{
    AfTls *tls = ((AfTlsProtocol *)sink)->tls;
    if (tls == NULL || tls->loop == NULL || (tls->state == AF_TLS_UNWRAPPED && (tls->lower != NULL || tls->lost))) {
        return 0;
    }
    Py_INCREF(tls);
    int rc = tls->engine->feed(tls, data, size);
    if (rc == 0) {
        rc = tls_continue(tls);
    }
    PyObject *raised = rc < 0 ? PyErr_GetRaisedException() : NULL;
    if (tls->engine->settle(tls) < 0) {
        rc = -1;
    }
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
    Py_DECREF(tls);
    return rc;
}

#define FACE_TLS(face)                                                                                                 \
    AfTls *tls = (face)->tls;                                                                                          \
    if (tls == NULL || tls->loop == NULL) {                                                                            \
        Py_RETURN_NONE;                                                                                                \
    }

static PyObject *
face_result(int rc)
{
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
face_connection_made(AfTlsProtocol *face, PyObject *lower)
{
    FACE_TLS(face);
    if (tls->state != AF_TLS_UNWRAPPED || tls->lower != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "a TLS connection is made only once");
        return NULL;
    }
    if (tls->lost) {
        Py_RETURN_NONE;         /* it was closed before start_tls() */
    }
    tls->lower = Py_NewRef(lower);
    tls->lower_is_stream = Py_IS_TYPE(lower, tls->st->StreamType);
    return face_result(tls_start_handshake(tls));
}

static PyObject *
face_connection_lost(AfTlsProtocol *face, PyObject *exc)
{
    FACE_TLS(face);
    af_backlog_clear(&tls->plain);
    tls->retry = 0;
    tls->engine->detach(tls);
    tls->lost++;
    tls->closed = tls->closed ? tls->closed : 1;
    PyObject *protocol = tls->protocol, *lower = tls->lower;
    tls->protocol = tls->lower = NULL;
    tls->app_sink = NULL;
    tls->lower_is_stream = 0;
    int rc = 0;
    if (tls->state != AF_TLS_HANDSHAKE && protocol != NULL &&
        (tls->app_state == AF_TLS_APP_MADE || tls->app_state == AF_TLS_APP_EOF)) {
        tls->app_state = AF_TLS_APP_LOST;
        PyObject *call = PyObject_GetAttr(protocol, tls->st->str_connection_lost);
        rc = call == NULL ? -1 : af_call_soon(tls->st, (PyObject *)tls->loop, call, exc, NULL);
        Py_XDECREF(call);
    }
    tls->state = AF_TLS_UNWRAPPED;
    if (rc == 0) {
        rc = tls_wake(tls, protocol, exc);
    }
    PyObject *raised = rc < 0 ? PyErr_GetRaisedException() : NULL;
    if (tls_disarm(tls, &tls->shutdown_timer) < 0 || tls_disarm(tls, &tls->handshake_timer) < 0) {
        rc = -1;
    }
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
    Py_XDECREF(protocol);
    Py_XDECREF(lower);
    af_tls_forget(tls);
    return face_result(rc);
}

static PyObject *
face_get_buffer(AfTlsProtocol *face, PyObject *Py_UNUSED(hint))
{
    FACE_TLS(face);
    if (tls->room == NULL) {
        tls->room = PyByteArray_FromStringAndSize(NULL, TLS_ROOM);
    }
    return tls->room == NULL ? NULL : PyMemoryView_FromObject(tls->room);
}

static PyObject *
face_buffer_updated(AfTlsProtocol *face, PyObject *count)
{
    Py_ssize_t n = PyLong_AsSsize_t(count);
    if (n == -1 && PyErr_Occurred()) {
        return NULL;
    }
    FACE_TLS(face);
    if (tls->room == NULL || n < 0 || n > PyByteArray_GET_SIZE(tls->room)) {
        PyErr_SetString(PyExc_ValueError, "more than get_buffer() has room for");
        return NULL;
    }
    PyObject *room = Py_NewRef(tls->room);
    int rc = tls_received(&face->sink, PyByteArray_AS_STRING(room), (size_t)n);
    Py_DECREF(room);
    return face_result(rc);
}

/* For the bytes that a stream reader has received before the handshake. */
static PyObject *
face_give(AfTlsProtocol *face, PyObject *data)
{
    FACE_TLS(face);
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    int rc = view.len == 0 ? 0 : tls->engine->feed(tls, view.buf, (size_t)view.len);
    if (rc == 0) {
        rc = tls->engine->settle(tls);
    }
    PyBuffer_Release(&view);
    return face_result(rc);
}

static int
tls_eof_received(AfTls *tls, int *keep_open)
{
    if (tls_log_debug(tls, "received EOF") < 0) {
        return -1;
    }
    switch (tls->state) {
    case AF_TLS_HANDSHAKE:
        PyErr_SetNone(PyExc_ConnectionResetError);
        return tls_handshake_failed(tls);
    case AF_TLS_WRAPPED:
        tls->state = AF_TLS_FLUSHING;
        *keep_open = tls->app_reading_paused;
        return *keep_open ? 0 : tls_do_flush(tls);
    case AF_TLS_FLUSHING:
        if (tls_do_write(tls, 1) < 0) {
            return -1;
        }
        if (tls->state != AF_TLS_FLUSHING) {
            return 0;
        }
        tls->state = AF_TLS_SHUTDOWN;
        return tls_do_shutdown(tls);
    case AF_TLS_SHUTDOWN:
        return tls_do_shutdown(tls);
    default:
        return 0;
    }
}

static PyObject *
face_eof_received(AfTlsProtocol *face, PyObject *Py_UNUSED(ignored))
{
    FACE_TLS(face);
    int keep_open = 0;
    tls->eof = 1;
    if (tls_eof_received(tls, &keep_open) == 0) {
        return keep_open ? Py_NewRef(Py_True) : Py_NewRef(Py_None);
    }
    PyObject *raised = PyErr_GetRaisedException();
    if (PyObject_TypeCheck(raised, (PyTypeObject *)PyExc_Exception) && tls_tell_lower(tls, "close", NULL) < 0) {
        PyErr_Clear();
    }
    PyErr_SetRaisedException(raised);
    return NULL;
}

static PyObject *
face_pause_writing(AfTlsProtocol *face, PyObject *Py_UNUSED(ignored))
{
    FACE_TLS(face);
    tls->writing_paused |= AF_TLS_PAUSED;
    Py_RETURN_NONE;
}

static PyObject *
face_resume_writing(AfTlsProtocol *face, PyObject *Py_UNUSED(ignored))
{
    FACE_TLS(face);
    tls->writing_paused &= ~AF_TLS_PAUSED;
    return face_result(tls_write_on(tls));
}

static PyObject *
face_check_handshake_timeout(AfTlsProtocol *face, PyObject *Py_UNUSED(ignored))
{
    FACE_TLS(face);
    if (tls->state != AF_TLS_HANDSHAKE) {
        Py_RETURN_NONE;
    }
    PyObject *text = PyUnicode_FromFormat("SSL handshake is taking longer than %S seconds: aborting the connection",
                                          tls->handshake_timeout);
    if (text == NULL) {
        return NULL;
    }
    PyErr_SetObject(PyExc_ConnectionAbortedError, text);
    Py_DECREF(text);
    return face_result(tls_fatal(tls, tls_transport_error));
}

static PyObject *
face_check_shutdown_timeout(AfTlsProtocol *face, PyObject *Py_UNUSED(ignored))
{
    FACE_TLS(face);
    if (tls->lower == NULL || (tls->state != AF_TLS_FLUSHING && tls->state != AF_TLS_SHUTDOWN)) {
        Py_RETURN_NONE;
    }
    PyObject *exc = PyObject_CallFunction(PyExc_TimeoutError, "s", "SSL shutdown timed out");
    int rc = exc == NULL ? -1 : tls_tell_lower(tls, "_force_close", exc);
    Py_XDECREF(exc);
    return face_result(rc);
}

static PyObject *
face_do_read(AfTlsProtocol *face, PyObject *Py_UNUSED(ignored))
{
    FACE_TLS(face);
    return face_result(tls_do_read(tls));
}

static PyObject *
face_resume(AfTlsProtocol *face, PyObject *Py_UNUSED(ignored))
{
    FACE_TLS(face);
    return face_result(tls->state == AF_TLS_HANDSHAKE ? 0 : tls_continue(tls));
}

static PyMethodDef face_methods[] = {
    {"connection_made", (PyCFunction)face_connection_made, METH_O,
     "connection_made($self, transport, /)\n--\n\nBegin the handshake."},
    {"connection_lost", (PyCFunction)face_connection_lost, METH_O,
     "connection_lost($self, exc, /)\n--\n\nTell the protocol, and let go of everything."},
    {"get_buffer", (PyCFunction)face_get_buffer, METH_O,
     "get_buffer($self, sizehint, /)\n--\n\nReturn where to put what is received."},
    {"buffer_updated", (PyCFunction)face_buffer_updated, METH_O,
     "buffer_updated($self, nbytes, /)\n--\n\nSo many bytes are in the buffer.  ValueError if that is more than it holds."},
    {"eof_received", (PyCFunction)face_eof_received, METH_NOARGS,
     "eof_received($self, /)\n--\n\nReturn True if the connection is to stay until the protocol reads again."},
    {"pause_writing", (PyCFunction)face_pause_writing, METH_NOARGS,
     "pause_writing($self, /)\n--\n\nKeep what is written."},
    {"resume_writing", (PyCFunction)face_resume_writing, METH_NOARGS,
     "resume_writing($self, /)\n--\n\nSend what was kept."},
    {"_give", (PyCFunction)face_give, METH_O,
     "_give($self, data, /)\n--\n\nTake what was received before connection_made()."},
    {"_check_handshake_timeout", (PyCFunction)face_check_handshake_timeout, METH_NOARGS,
     "_check_handshake_timeout($self, /)\n--\n\nAbort if the handshake goes on."},
    {"_check_shutdown_timeout", (PyCFunction)face_check_shutdown_timeout, METH_NOARGS,
     "_check_shutdown_timeout($self, /)\n--\n\nAbort if the shutdown goes on."},
    {"_do_read", (PyCFunction)face_do_read, METH_NOARGS, "_do_read($self, /)\n--\n\nFill the next buffer."},
    {"_resume", (PyCFunction)face_resume, METH_NOARGS, "_resume($self, /)\n--\n\nThe protocol reads again."},
    {NULL, NULL, 0, NULL},
};

static PyObject *
face_get_member(AfTlsProtocol *face, void *offset)
{
    PyObject *obj = face->tls == NULL ? NULL : *(PyObject **)((char *)face->tls + (size_t)offset);
    return Py_NewRef(obj == NULL ? Py_None : obj);
}

static PyObject *
face_get_extra(AfTlsProtocol *face, void *offset)
{
    return face->tls != NULL && af_tls_know_peercert(face->tls) < 0 ? NULL : face_get_member(face, offset);
}

static PyObject *
face_get_app_transport(AfTlsProtocol *face, void *Py_UNUSED(closure))
{
    return Py_NewRef(face->tls == NULL || face->tls->lost ? Py_None : (PyObject *)face->tls);
}

/* Programs that know asyncio from within look for it here. */
static PyObject *
face_get_sslcontext(AfTlsProtocol *face, void *Py_UNUSED(closure))
{
    PyObject *extra = face->tls == NULL ? NULL : face->tls->extra;
    PyObject *context = extra == NULL ? NULL : PyObject_GetItem(extra, face->tls->st->str_sslcontext);
    if (extra == NULL || (context == NULL && PyErr_ExceptionMatches(PyExc_KeyError))) {
        PyErr_Clear();
        return Py_NewRef(Py_None);
    }
    return context;
}

#define FACE_MEMBER(name, field) {name, (getter)face_get_member, NULL, NULL, (void *)offsetof(AfTls, field)}

static PyGetSetDef face_getset[] = {
    FACE_MEMBER("_transport", lower),
    FACE_MEMBER("_app_protocol", protocol),
    FACE_MEMBER("_loop", loop),
    FACE_MEMBER("_sslobj", sslobj),
    {"_extra", (getter)face_get_extra, NULL, NULL, (void *)offsetof(AfTls, extra)},
    FACE_MEMBER("_waiter", waiter),
    FACE_MEMBER("_handshake_timeout_handle", handshake_timer),
    FACE_MEMBER("_shutdown_timeout_handle", shutdown_timer),
    {"_app_transport", (getter)face_get_app_transport, NULL, NULL, NULL},
    {"_sslcontext", (getter)face_get_sslcontext, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static int
face_tp_traverse(AfTlsProtocol *face, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(face));
    Py_VISIT((PyObject *)face->tls);
    return 0;
}

static int
face_tp_clear(AfTlsProtocol *face)
{
    AfTls *tls = face->tls;
    face->tls = NULL;
    if (tls != NULL) {
        tls->face = tls->face == face ? NULL : tls->face;
        Py_DECREF(tls);
    }
    return 0;
}

static void
face_tp_dealloc(AfTlsProtocol *face)
{
    PyTypeObject *type = Py_TYPE(face);
    PyObject_GC_UnTrack(face);
    (void)face_tp_clear(face);
    type->tp_free(face);
    Py_DECREF(type);
}

static PyType_Slot face_slots[] = {
    {Py_tp_doc, (void *)"The protocol that a TLS transport is to the transport below."},
    {Py_tp_dealloc, face_tp_dealloc},
    {Py_tp_traverse, face_tp_traverse},
    {Py_tp_clear, face_tp_clear},
    {Py_tp_methods, face_methods},
    {Py_tp_getset, face_getset},
    {0, NULL},
};

static PyType_Spec face_spec = {
    "asyncfast._TLSProtocol", sizeof(AfTlsProtocol), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, face_slots,
};

AF_API PyTypeObject *
af_tls_make_type(PyObject *module, const char *from, const char *base, PyType_Spec *spec)
{
    PyObject *asyncio = PyImport_ImportModule(from);
    PyObject *parent = asyncio == NULL ? NULL : af_get_attr(asyncio, base);
    PyObject *type = parent == NULL ? NULL : PyType_FromModuleAndSpec(module, spec, parent);
    Py_XDECREF(asyncio);
    Py_XDECREF(parent);
    return (PyTypeObject *)type;
}

/* As net/sink.h wants it, it is the one type of sinks. */
AF_API int
af_tls_setup_protocol(PyObject *module, AfState *st)
{
    st->SinkType = af_tls_make_type(module, "asyncio.protocols", "BufferedProtocol", &face_spec);
    return st->SinkType == NULL ? -1 : PyModule_AddObjectRef(module, "_TLSProtocol", (PyObject *)st->SinkType);
}
