/* The transport of stream sockets.

   What a callback or a step writes in several small calls leaves in one system call when it has returned (or when
   somebody asks for something that would show it: close(), get_write_buffer_size(), more data); at once, if the program
   keeps the socket and could use it in between.  Anything else tries the
   socket at once, as asyncio does; what the socket does not take waits in the backlog.

   Belongs to its loop's thread.  Runs Python: the protocol's methods; after each of them everything may have changed. */
#include "net/stream.h"

#include "net/asyncstream.h"
#include "net/backlog.h"
#include "net/data.h"
#include "net/feed.h"
#include "net/reading.h"
#include "rt/args.h"

#include <sys/socket.h>

static const char stream_read_error[] = "Fatal read error on socket transport";
static const char stream_write_error[] = "Fatal write error on socket transport";

/* Holding back more than that, or more than the protocol wants to see waiting, would show. */
#define STREAM_HOLD_MOST ((size_t)16 * 1024)
#define STREAM_SET_RECORD_TYPE 1    /* TLS_SET_RECORD_TYPE of linux/tls.h */

typedef struct {
    AfTransport t;
    af_backlog out;
    PyObject *first;            /* held back, and alone: exactly bytes; or NULL */
    char held;                  /* first or, after a second write, the backlog is what is held back */
    char keeps;                 /* the protocol kept what was lent to it */
} AfStream;

static size_t
stream_backlog(AfTransport *t)
{
    return ((AfStream *)t)->out.size;
}

static void
stream_drop_backlog(AfTransport *t)
{
    AfStream *s = (AfStream *)t;
    af_backlog_clear(&s->out);
    Py_CLEAR(s->first);
    s->held = 0;
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

static int
stream_received_eof(AfStream *s)
{
    AfTransport *t = &s->t;
    if (t->io.loop == NULL) {
        return 0;
    }
    AfState *st = t->io.loop->st;
    if (af_transport_log_debug(t, "received EOF") < 0) {
        return -1;
    }
    PyObject *protocol = Py_NewRef(t->protocol == NULL ? Py_None : t->protocol);
    PyObject *res = PyObject_CallMethodNoArgs(protocol, st->str_eof_received);
    int keep_open = res == NULL ? -1 : PyObject_IsTrue(res);
    Py_DECREF(protocol);
    Py_XDECREF(res);
    if (keep_open < 0) {
        return af_transport_fatal(t, "Fatal error: protocol.eof_received() call failed.");
    }
    /* kept open it may still be written to, but there is nothing more to read */
    return keep_open ? af_transport_want(t, 0, AF_READ) : af_transport_close(t);
}

static inline ssize_t
stream_recv(AfStream *s, char *buffer, size_t size)
{
    if (af_unlikely(!af_transport_fd_is_ours(&s->t))) {
        errno = EBADF;
        return -1;
    }
    return af_recv_into(s->t.io.loop, s->t.fd, buffer, size, 1, NULL, NULL);
}

/* What is left to do when recv() gave no data. */
static int
stream_read_nothing(AfStream *s, ssize_t n)
{
    int error = errno;
    if (n < 0 && af_would_block(error)) {
        return 0;
    }
    if (s->t.io.loop != NULL && af_loop_no_current(s->t.io.loop) < 0) {
        return -1;
    }
    return n == 0 ? stream_received_eof(s) : af_transport_fatal_errno(&s->t, error, stream_read_error);
}

static int
stream_deliver(void *whom, PyObject *data)
{
    AfTransport *t = whom;
    return af_transport_deliver(t, data) == 0
               ? 0 : af_transport_fatal(t, "Fatal error: protocol.data_received() call failed.");
}

/* With the exception that feeding, or the way there, raised. */
static int
stream_feed_failed(AfTransport *t, AfLoop *loop)
{
    PyObject *raised = PyErr_GetRaisedException();
    if (af_loop_no_current(loop) < 0) {
        PyErr_WriteUnraisable((PyObject *)loop);
    }
    PyErr_SetRaisedException(raised);
    return af_transport_fatal(t, "Fatal error: protocol.data_received() call failed.");
}

/* Straight into a stream reader, or by data_received() if that is not what it would do. */
static int
stream_feed(AfStream *s, PyObject *buffer, ssize_t n)
{
    AfTransport *t = &s->t;
    AfLoop *loop = (AfLoop *)Py_NewRef((PyObject *)t->io.loop);
    PyObject *protocol = Py_NewRef(t->protocol);
    int rc = af_feed(loop, t->feed, protocol, PyBytes_AS_STRING(buffer), n);
    if (af_likely(rc > 0)) {
        af_reading_give_back(loop, buffer);
        rc = 0;
    }
    else if (rc == 0 && af_loop_no_current(loop) == 0) {
        rc = af_reading_deliver(loop, buffer, n, &s->keeps, stream_deliver, s);
    }
    else {
        af_reading_give_back(loop, buffer);
        rc = stream_feed_failed(t, loop);
    }
    Py_DECREF(protocol);
    Py_DECREF((PyObject *)loop);
    return rc;
}

static int
stream_read_data(AfStream *s)
{
    AfLoop *loop = s->t.io.loop;
    PyObject *buffer = af_reading_take(loop);
    if (buffer == NULL) {
        return -1;
    }
    ssize_t n = stream_recv(s, PyBytes_AS_STRING(buffer), AF_READ_SIZE);
    if (n <= 0) {
        loop->read_buffer = buffer;
        return stream_read_nothing(s, n);
    }
    if (s->t.feed != NULL) {
        return stream_feed(s, buffer, n);
    }
    return af_reading_deliver(loop, buffer, n, &s->keeps, stream_deliver, s);
}

/* To a protocol in C, from a buffer that only C sees. */
static int
stream_read_sink(AfStream *s)
{
    AfTransport *t = &s->t;
    AfLoop *loop = t->io.loop;
    char *buffer = af_loop_room(loop);
    if (buffer == NULL) {
        return -1;
    }
    ssize_t n = stream_recv(s, buffer, AF_READ_SIZE);
    if (n <= 0) {
        return stream_read_nothing(s, n);
    }
    loop->room = NULL;              /* a loop that is run inside makes its own */
    Py_INCREF(loop);
    AfSink *sink = (AfSink *)Py_NewRef((PyObject *)t->sink);
    int rc = sink->received(sink, buffer, (size_t)n);
    Py_DECREF((PyObject *)sink);
    if (loop->room == NULL && !loop->closed) {
        loop->room = buffer;
    }
    else {
        free(buffer);
    }
    Py_DECREF(loop);
    return rc == 0 ? 0 : af_transport_fatal(t, "Fatal error: protocol.buffer_updated() call failed.");
}

static int
stream_read_into(AfStream *s)
{
    AfTransport *t = &s->t;
    AfState *st = t->io.loop->st;
    PyObject *protocol = Py_NewRef(t->protocol);
    PyObject *buffer = PyObject_CallMethodOneArg(protocol, st->str_get_buffer, st->int_minus_one);
    Py_ssize_t length = buffer == NULL ? -1 : PyObject_Size(buffer);
    int rc = 0;
    if (length == 0) {
        PyErr_SetString(PyExc_RuntimeError, "get_buffer() returned an empty buffer");
    }
    if (length <= 0) {
        rc = af_transport_fatal(t, "Fatal error: protocol.get_buffer() call failed.");
        goto end;
    }
    if (t->lost || !af_transport_has_fd(t)) {
        goto end;
    }
    Py_buffer view;
    if (af_data_room(buffer, &view, 0) < 0) {
        rc = af_transport_fatal(t, stream_read_error);
        goto end;
    }
    ssize_t n = stream_recv(s, view.buf, (size_t)view.len);
    int error = errno;
    PyBuffer_Release(&view);
    if (n <= 0) {
        errno = error;
        rc = stream_read_nothing(s, n);
        goto end;
    }
    PyObject *count = PyLong_FromSsize_t(n);
    PyObject *res = count == NULL ? NULL : PyObject_CallMethodOneArg(protocol, st->str_buffer_updated, count);
    Py_XDECREF(count);
    if (res == NULL) {
        rc = af_transport_fatal(t, "Fatal error: protocol.buffer_updated() call failed.");
    }
    Py_XDECREF(res);
end:
    Py_XDECREF(buffer);
    Py_DECREF(protocol);
    return rc;
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

static int
stream_shutdown(AfStream *s)
{
    if (af_transport_fd_is_ours(&s->t) && shutdown(s->t.fd, SHUT_WR) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return 0;
}

/* Nothing waits to be sent any more. */
static int
stream_drained(AfStream *s)
{
    AfTransport *t = &s->t;
    if (af_transport_want(t, 0, AF_WRITE) < 0 ||
        (t->empty_waiter != NULL && af_transport_settle_waiter(t, NULL) < 0)) {
        return -1;
    }
    if (t->closing) {
        return t->lost ? 0 : (t->lost++, af_transport_end(t, Py_None));
    }
    return t->eof ? stream_shutdown(s) : 0;
}

/* A record of kernel TLS that is not data is a call of its own. */
static ssize_t
stream_send_record(AfStream *s, struct msghdr *msg)
{
    const af_chunk *c = &s->out.chunks[s->out.first];
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(1)];
    } type = {.head = {.cmsg_level = AF_SOL_TLS, .cmsg_type = STREAM_SET_RECORD_TYPE, .cmsg_len = CMSG_LEN(1)}};
    *CMSG_DATA(&type.head) = (unsigned char)PyLong_AsLong(c->to);
    msg->msg_iov[0] = (struct iovec){PyBytes_AS_STRING(c->bytes) + c->start, (size_t)PyBytes_GET_SIZE(c->bytes) - c->start};
    msg->msg_iovlen = 1;
    msg->msg_control = &type;
    msg->msg_controllen = sizeof(type.room);
    return sendmsg(s->t.fd, msg, MSG_NOSIGNAL);
}

/* Send what waits, as much as the socket takes. */
static int
stream_flush(AfStream *s)
{
    AfTransport *t = &s->t;
    if (t->lost || s->out.count == 0) {
        return af_transport_want(t, 0, AF_WRITE);
    }
    struct iovec iov[AF_BACKLOG_IOV];
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)af_backlog_iov(&s->out, iov)};
    ssize_t n = -1;
    errno = EBADF;
    if (af_transport_fd_is_ours(t)) {
        n = af_likely(msg.msg_iovlen > 0) ? sendmsg(t->fd, &msg, MSG_NOSIGNAL) : stream_send_record(s, &msg);
        af_loop_moved(t->io.loop, n);
    }
    if (n < 0) {
        if (af_would_block(errno)) {
            return 0;
        }
        PyErr_SetFromErrno(PyExc_OSError);
        PyObject *exc = PyErr_GetRaisedException();
        PyErr_SetRaisedException(Py_NewRef(exc));
        int rc = af_transport_fatal(t, stream_write_error);
        if (rc == 0 && t->empty_waiter != NULL) {
            rc = af_transport_settle_waiter(t, exc);
        }
        Py_DECREF(exc);
        return rc;
    }
    af_backlog_sent(&s->out, (size_t)n);
    if (af_transport_maybe_resume(t) < 0) {     /* the protocol may write, or close */
        return -1;
    }
    return s->out.count == 0 && af_transport_has_fd(t) ? stream_drained(s) : 0;
}

/* May it be written to?  1; 0: no, and it has been said; -1. */
static int
stream_may_write(AfStream *s, const char *method)
{
    AfTransport *t = &s->t;
    if (t->eof || t->empty_waiter != NULL) {
        PyErr_Format(PyExc_RuntimeError, t->eof ? "Cannot call %s() after write_eof()"
                                                : "unable to %s; sendfile is in progress", method);
        return -1;
    }
    return 1;
}

/* Have the backlog sent as soon as the socket takes more. */
static int
stream_await_room(AfStream *s)
{
    return af_io_wants(&s->t.io) & AF_WRITE ? 0 : af_transport_start_writing(&s->t);
}

/* Send at once what the socket takes; the rest waits.  0 or -1. */
static int
stream_send_now(AfStream *s, const af_data *data)
{
    AfTransport *t = &s->t;
    size_t sent = 0;
    if (s->out.count == 0) {
        ssize_t n = -1;
        errno = EBADF;
        if (af_likely(af_transport_fd_is_ours(t))) {
            n = send(t->fd, data->view.buf, (size_t)data->view.len, MSG_NOSIGNAL);
            af_loop_moved(t->io.loop, n);
        }
        if (af_likely(n == (ssize_t)data->view.len)) {
            return 0;
        }
        if (n < 0 && !af_would_block(errno)) {
            return af_transport_fatal_errno(t, errno, stream_write_error);
        }
        sent = n < 0 ? 0 : (size_t)n;
    }
    PyObject *rest = af_data_snapshot(data, sent);
    if (rest == NULL || af_backlog_add_steal(&s->out, rest, rest == data->obj ? sent : 0) < 0) {
        return -1;
    }
    return stream_await_room(s) < 0 ? -1 : af_transport_maybe_pause(t);
}

/* Send what is held back. */
static int
stream_release(AfIo *io)
{
    AfStream *s = (AfStream *)io;
    if (!s->held) {
        return 0;
    }
    s->held = 0;
    if (s->first == NULL) {
        return stream_flush(s) < 0 || (s->out.count > 0 && stream_await_room(s) < 0) ? -1 : 0;
    }
    af_data data = {.obj = s->first};   /* bytes, as all that is held back: a view of them takes nothing, and cannot fail */
    s->first = NULL;
    (void)af_data_view(&data);
    AfLoop *loop = (AfLoop *)Py_NewRef((PyObject *)io->loop);
    int rc = stream_send_now(s, &data);
    af_spare_give(loop, data.obj);
    Py_DECREF(loop);
    return rc;
}

static inline size_t
stream_held_size(const AfStream *s)
{
    return s->first != NULL ? (size_t)PyBytes_GET_SIZE(s->first) : s->out.size;
}

/* What is held back goes to the backlog, for more to come behind it. */
static int
stream_unite(AfStream *s)
{
    PyObject *first = s->first;
    s->first = NULL;
    return first == NULL ? 0 : af_backlog_add_steal(&s->out, first, 0);
}

/* Hold it back, or add it to what is held back already.  0 or -1. */
static int
stream_hold(AfStream *s, const af_data *data)
{
    s->t.io.loop->held_bytes += (size_t)data->view.len;
    if (!s->held) {
        /* resume_writing() is to see the context of this write, should it come to that */
        if (af_call_context_take(&s->t, &s->t.writing) < 0) {
            return -1;
        }
        s->first = Py_NewRef(data->obj);
        s->held = 1;
        af_io_hold_back(&s->t.io);
        return 0;
    }
    if (stream_unite(s) < 0) {
        return -1;
    }
    PyObject *chunk = af_data_snapshot(data, 0);
    return chunk == NULL ? -1 : af_backlog_add_steal(&s->out, chunk, 0);
}

static int
stream_send(AfStream *s, const af_data *data)
{
    AfTransport *t = &s->t;
    size_t size = (size_t)data->view.len;
    size_t most = t->high_water < STREAM_HOLD_MOST ? t->high_water : STREAM_HOLD_MOST;
    if (s->held) {
        int fits = stream_held_size(s) + size <= most;
        if (stream_hold(s, data) < 0) {
            return -1;
        }
        return fits ? 0 : stream_release(&t->io) < 0 ? -1 : af_transport_maybe_pause(t);
    }
    if (t->io.loop->in_entry && s->out.count == 0 && size <= most && PyBytes_CheckExact(data->obj) &&
        !af_transport_shares_socket(t)) {
        return stream_hold(s, data);
    }
    return stream_send_now(s, data);
}

static PyObject *
stream_write(AfStream *s, PyObject *data)
{
    if (af_unlikely(!af_data_is_writable(data))) {
        PyObject *name = PyType_GetName(Py_TYPE(data));
        PyErr_Format(PyExc_TypeError, AF_WRITE_TYPE_ERROR ", not %R", name);
        Py_XDECREF(name);
        return NULL;
    }
    if (af_unlikely(s->t.new_stream)) {
        s->t.new_stream = 0;
        af_asyncstream_find_writer(af_state_of_type(Py_TYPE(s)), (PyObject *)s);
    }
    if (stream_may_write(s, "write") < 0) {
        return NULL;
    }
    af_data d;
    if (af_data_open(&d, data) < 0) {
        return NULL;
    }
    int rc = 0;
    if (d.view.len > 0) {
        rc = af_unlikely(s->t.lost) ? af_transport_write_lost(&s->t) : stream_send(s, &d);
    }
    af_data_close(&d);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

AF_API PyObject *
af_stream_write(PyObject *transport, PyObject *data)
{
    return stream_write((AfStream *)transport, data);
}

AF_API int
af_stream_idle_fd(PyObject *transport)
{
    const AfStream *s = (const AfStream *)transport;
    return s->held || s->out.count > 0 || s->t.lost || !af_transport_fd_is_ours(&s->t) ? -1 : s->t.fd;
}

AF_API int
af_stream_write_record_steal(PyObject *transport, PyObject *type, PyObject *bytes)
{
    AfStream *s = (AfStream *)transport;
    if (s->t.lost) {
        Py_DECREF(bytes);
        return af_transport_write_lost(&s->t);
    }
    if (stream_unite(s) < 0) {
        Py_DECREF(bytes);
        return -1;
    }
    s->held = 0;
    if (af_backlog_add_to_steal(&s->out, bytes, type) < 0 || stream_flush(s) < 0) {
        return -1;
    }
    return s->out.count > 0 && stream_await_room(s) < 0 ? -1 : af_transport_maybe_pause(&s->t);
}

/* An item of writelines() as bytes that nobody can change: a new reference. */
static PyObject *
stream_chunk(PyObject *data)
{
    if (PyBytes_CheckExact(data)) {
        return Py_NewRef(data);
    }
    PyObject *view = PyMemoryView_FromObject(data);
    PyObject *bytes = view == NULL ? NULL : PyBytes_FromObject(view);
    Py_XDECREF(view);
    return bytes;
}

/* All of the list or, if one item is no buffer or the transport has been lost meanwhile, none of it.  0 or -1. */
static int
stream_add_all(AfStream *s, PyObject *list)
{
    af_backlog added = {0};
    PyObject *it = PyObject_GetIter(list), *data;
    int rc = it == NULL ? -1 : 0;
    while (rc == 0 && (data = PyIter_Next(it)) != NULL) {
        PyObject *chunk = stream_chunk(data);
        Py_DECREF(data);
        if (chunk != NULL && PyBytes_GET_SIZE(chunk) == 0) {
            Py_DECREF(chunk);
            continue;
        }
        rc = chunk == NULL ? -1 : af_backlog_add_steal(&added, chunk, 0);
    }
    Py_XDECREF(it);
    rc = rc == 0 && PyErr_Occurred() ? -1 : rc;
    for (size_t i = 0; rc == 0 && !s->t.lost && i < added.count; i++) {
        rc = af_backlog_add_steal(&s->out, Py_NewRef(added.chunks[added.first + i].bytes), 0);
    }
    af_backlog_clear(&added);
    return rc;
}

static PyObject *
stream_writelines(AfStream *s, PyObject *list)
{
    AfTransport *t = &s->t;
    if (stream_may_write(s, AF_WRITELINES_NAME) < 0) {
        return NULL;
    }
    int any = PyObject_IsTrue(list);
    if (any <= 0) {
        return any < 0 ? NULL : Py_NewRef(Py_None);
    }
    if (t->lost) {
        return af_transport_write_lost(t) < 0 ? NULL : Py_NewRef(Py_None);
    }
    if (stream_unite(s) < 0 || stream_add_all(s, list) < 0) {
        return NULL;
    }
    s->held = 0;
    if (stream_flush(s) < 0) {
        return NULL;
    }
    if (s->out.count > 0 && (stream_await_room(s) < 0 || af_transport_maybe_pause(t) < 0)) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
stream_write_eof(AfStream *s, PyObject *Py_UNUSED(ignored))
{
    if (s->t.closing || s->t.eof) {
        Py_RETURN_NONE;
    }
    if (stream_release(&s->t.io) < 0) {
        return NULL;
    }
    s->t.eof = 1;
    return s->out.count == 0 && stream_shutdown(s) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
stream_can_write_eof(AfStream *Py_UNUSED(s), PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_TRUE;
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

static int
stream_run(AfIo *io, unsigned what)
{
    AfStream *s = (AfStream *)io;
    if (what == AF_WRITE) {
        return stream_flush(s);
    }
    if (s->t.lost || s->t.protocol == NULL) {
        return 0;
    }
    if (s->t.sink != NULL) {
        return stream_read_sink(s);
    }
    return s->t.buffered_protocol ? stream_read_into(s) : stream_read_data(s);
}

static const af_transport_kind stream_kind = {
    .run = stream_run,
    .backlog = stream_backlog,
    .drop_backlog = stream_drop_backlog,
    .flush = stream_release,
    .clear = af_transport_clear,
    .feeds = 1,
};

static PyObject *
stream_tp_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    return af_transport_new(type, &stream_kind);
}

AF_API AfTransport *
af_stream_of_fd(AfState *st, int fd, int family, int proto)
{
    AfTransport *t = (AfTransport *)stream_tp_new(st->StreamType, NULL, NULL);
    if (t == NULL) {
        close(fd);
        return NULL;
    }
    af_transport_own_fd(t, fd, family, proto);
    return t;
}

static int
stream_tp_init(AfStream *s, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"loop", "sock", "protocol", "waiter", "extra", "server", "context", NULL};
    PyObject *loop, *sock, *protocol, *waiter = Py_None, *extra = Py_None, *server = Py_None, *context = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|OOOO:SocketTransport", names, &loop, &sock, &protocol, &waiter,
                                     &extra, &server, &context)) {
        return -1;
    }
    if (af_transport_init(&s->t, loop, sock, protocol, extra, server, context,
                          AF_STREAM_SOCKET) < 0) {
        return -1;
    }
    return af_transport_schedule_start(&s->t, waiter);
}

AF_METHOD_OF_ONE(AfStream, stream_write, "write", "data")
AF_METHOD_OF_ONE(AfStream, stream_writelines, "writelines", "list_of_data")

static PyMethodDef stream_methods[] = {
    {"write", (PyCFunction)(void (*)(void))stream_write_args, METH_FASTCALL | METH_KEYWORDS,
     "write($self, /, data)\n--\n\n"
     "Send data (bytes, bytearray or memoryview), at once or as soon as the socket takes it.\n\n"
     "TypeError for anything else, RuntimeError after write_eof().  What is changed after the call is not sent."},
    {"writelines", (PyCFunction)(void (*)(void))stream_writelines_args, METH_FASTCALL | METH_KEYWORDS,
     "writelines($self, /, list_of_data)\n--\n\nwrite() each of them, in one system call if possible."},
    {"write_eof", (PyCFunction)stream_write_eof, METH_NOARGS,
     "write_eof($self, /)\n--\n\nSend what is buffered, then end this direction (shutdown(2), SHUT_WR)."},
    {"can_write_eof", (PyCFunction)stream_can_write_eof, METH_NOARGS, "can_write_eof($self, /)\n--\n\nReturn True."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef stream_members[] = {
    AF_TRANSPORT_OFFSETS,
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot stream_slots[] = {
    {Py_tp_doc, (void *)"SocketTransport(loop, sock, protocol, waiter=None, extra=None, server=None, context=None)\n--\n\n"
                         "Transport of a TCP or Unix stream socket; made by create_connection() and alike."},
    {Py_tp_new, stream_tp_new},
    {Py_tp_init, stream_tp_init},
    {Py_tp_dealloc, af_transport_dealloc},
    {Py_tp_finalize, af_transport_finalize},
    {Py_tp_traverse, af_transport_traverse},
    {Py_tp_clear, af_transport_clear},
    {Py_tp_repr, af_transport_repr},
    {Py_tp_methods, stream_methods},
    {Py_tp_members, stream_members},
    {0, NULL},
};

static PyType_Spec stream_spec = {
    "asyncfast.SocketTransport", sizeof(AfStream), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    stream_slots,
};

AF_API int
af_stream_setup(PyObject *module, AfState *st)
{
    st->StreamType = af_transport_type(module, "Transport", &stream_spec);
    st->get_extra_info = PyObject_GetAttr(st->asyncio_BaseTransport, st->str_get_extra_info);
    if (st->StreamType == NULL || st->get_extra_info == NULL) {
        return -1;
    }
    return PyModule_AddObjectRef(module, "SocketTransport", (PyObject *)st->StreamType);
}
