/* The transport of datagram sockets.

   asyncio delivers one datagram per turn of the loop, so that whatever one sets going runs before the next one comes:
   programs lean on it (a future per answer).  Here several are read in a row, but only as long as nobody could tell: while
   nothing is ready to run.  The small ones that are sent meanwhile leave together, before the next ones are received.

   Addresses are made and read here for IPv4, IPv6 and Unix (net/address.h).  All else (host names, other families, what is
   wrong, a socket that somebody has closed) goes through the methods of the Python socket, which has all the errors.

   Belongs to its loop's thread.  Runs Python: the protocol's methods, the socket's where it is asked, audit hooks, an
   address that is dropped; after each of them everything may have changed. */
#include "net/datagram.h"

#include "net/address.h"
#include "net/backlog.h"
#include "net/data.h"
#include "net/reading.h"
#include "rt/args.h"

/* Delivered in a row at most, about; and received by one system call, which takes up to 5 % off what an echo costs
   (bench: net, udp).  Each has its share of the loop's buffer, which must hold the largest there is (64 KiB) unless it is
   alone. */
#define DATAGRAM_BATCH 16
#define DATAGRAM_SLOTS 4
#define DATAGRAM_SMALL 2048     /* bytes, of those that wait to be sent together */
#define DATAGRAM_LARGE 4096     /* copying that many costs more than a second place to receive to */

static const char datagram_read_error[] = "Fatal read error on datagram transport";
static const char datagram_write_error[] = "Fatal write error on datagram transport";

/* An address in both forms; obj NULL: none. */
typedef struct {
    PyObject *obj;
    socklen_t len;
    af_sockaddr addr;
} datagram_peer;

typedef struct {
    PyObject *data;
    datagram_peer from;
} datagram_received;

/* Where one is received: into bytes, if the one before was as large, and what these have no room for into the loop's buffer. */
typedef struct {
    PyObject *bytes;            /* or NULL */
    struct iovec iov[2];
} datagram_place;

typedef struct {
    PyObject *data;             /* exactly bytes */
    PyObject *to;               /* what the program gave, or NULL */
    socklen_t len;              /* 0: sent without an address */
    af_sockaddr addr;
} datagram_held;

typedef struct {
    AfTransport t;
    af_backlog out;
    datagram_held held[DATAGRAM_SLOTS];
    unsigned nheld;
    char may_hold;              /* several are being delivered in a row */
    datagram_received received[DATAGRAM_SLOTS];     /* those in [first .. first + count) are not delivered yet */
    unsigned first, count;
    unsigned slots;             /* how many are received at once: 1 or DATAGRAM_SLOTS */
    Py_ssize_t expected;        /* bytes: as many as the last one had */
    uint64_t turn;              /* of the loop, in which some were delivered last */
    PyObject *address;          /* the only one that may be sent to, or NULL */
    datagram_peer from, to;     /* the last one received from, and the last other one sent to */
    int family;                 /* 0: one that the Python socket has to deal with */
    char connected;             /* the socket has a peer; only that is sent to */
    char unnamed;               /* ... has one without a name, or none: may be sent to without an address */
    char flushing;
    char ip;                    /* no datagram is larger than 64 KiB */
} AfDatagram;

/* What became of sending one. */
enum { DATAGRAM_SENT, DATAGRAM_WAITS, DATAGRAM_FAILED /* with an exception */ };

static size_t
datagram_backlog(AfTransport *t)
{
    const af_backlog *out = &((AfDatagram *)t)->out;
    return out->size + out->count * AF_DATAGRAM_HEADER;
}

static void
datagram_drop_backlog(AfTransport *t)
{
    af_backlog_clear(&((AfDatagram *)t)->out);
}

static int
datagram_would_block(void)
{
    return PyErr_ExceptionMatches(PyExc_BlockingIOError) || PyErr_ExceptionMatches(PyExc_InterruptedError);
}

/* The exception that is set is the protocol's business if it is an OSError, and the end of the transport if not. */
static int
datagram_failed(AfDatagram *d, const char *message)
{
    if (!PyErr_ExceptionMatches(PyExc_OSError)) {
        return af_transport_fatal(&d->t, message);
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *protocol = Py_NewRef(d->t.protocol == NULL ? Py_None : d->t.protocol);
    PyObject *res = PyObject_CallMethodOneArg(protocol, af_state_of_type(Py_TYPE(d))->str_error_received, exc);
    Py_DECREF(protocol);
    Py_DECREF(exc);
    Py_XDECREF(res);
    return res == NULL ? -1 : 0;
}

static inline int
datagram_is_plain(const AfDatagram *d)
{
    return af_likely(d->family != 0 && af_transport_fd_is_ours(&d->t));
}

/* ---- receiving -------------------------------------------------------------------------------------------------- */

/* The Python object for an address that a datagram came from; like another one, as it often is.  0 or -1. */
static int
datagram_name(datagram_peer *peer, const datagram_peer *like)
{
    if (like->obj != NULL && like->len == peer->len && memcmp(&like->addr, &peer->addr, peer->len) == 0) {
        peer->obj = Py_NewRef(like->obj);
        return 0;
    }
    int rc = af_address_to_python(&peer->addr, peer->len, &peer->obj);
    if (rc == 0) {
        PyErr_SetString(PyExc_SystemError, "a datagram came from another address family");
    }
    return rc > 0 ? 0 : -1;
}

static void
datagram_forget(AfDatagram *d)
{
    while (d->count > 0) {
        datagram_received *r = &d->received[d->first + --d->count];
        Py_CLEAR(r->data);
        Py_CLEAR(r->from.obj);
    }
}

/* The socket's error goes to the protocol; or there was just nothing. */
static int
datagram_receive_failed(AfDatagram *d)
{
    if (datagram_would_block()) {
        PyErr_Clear();
        return 0;
    }
    return datagram_failed(d, datagram_read_error);
}

/* Receive one, by the Python socket. */
static int
datagram_receive_plainly(AfDatagram *d)
{
    PyObject *sock = Py_NewRef(d->t.sock), *data, *peer;
    PyObject *pair = af_call_method(sock, "recvfrom", "n", (Py_ssize_t)AF_READ_SIZE);
    int rc = 0;
    Py_DECREF(sock);
    if (pair == NULL) {
        return datagram_receive_failed(d);
    }
    if (!PyArg_ParseTuple(pair, "OO", &data, &peer)) {
        rc = af_transport_fatal(&d->t, datagram_read_error);
    }
    else {
        d->received[0].data = Py_NewRef(data);
        d->received[0].from.obj = Py_NewRef(peer);
        d->received[0].from.len = 0;
        d->first = 0;
        d->count = 1;
    }
    Py_DECREF(pair);
    return rc;
}

static void
datagram_prepare(const AfDatagram *d, datagram_place *place, char *buffer, size_t size)
{
    PyObject *bytes = d->expected >= DATAGRAM_LARGE ? af_spare_take(d->t.io.loop, d->expected) : NULL;
    place->bytes = bytes;
    place->iov[0] = bytes == NULL ? (struct iovec){NULL, 0}
                                  : (struct iovec){PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes)};
    place->iov[1] = (struct iovec){buffer, size};
}

/* The n bytes that were received there, a new reference; or NULL with MemoryError. */
static PyObject *
datagram_take(AfLoop *loop, const datagram_place *place, size_t n)
{
    size_t room = place->iov[0].iov_len;
    if (place->bytes == NULL) {
        return af_spare_copy(loop, place->iov[1].iov_base, (Py_ssize_t)n);
    }
    if (af_likely(af_spare_fits((Py_ssize_t)n, (Py_ssize_t)room))) {
        af_bytes_set_length(place->bytes, (Py_ssize_t)n);
        return place->bytes;
    }
    PyObject *data = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)n);
    if (data != NULL) {
        size_t first = n < room ? n : room;
        memcpy(PyBytes_AS_STRING(data), place->iov[0].iov_base, first);
        memcpy(PyBytes_AS_STRING(data) + first, place->iov[1].iov_base, n - first);
    }
    af_spare_give(loop, place->bytes);
    return data;
}

static void
datagram_leave(AfLoop *loop, const datagram_place *from, const datagram_place *end)
{
    for (; from < end; from++) {
        if (from->bytes != NULL) {
            af_spare_give(loop, from->bytes);
        }
    }
}

/* The bytes and the addresses of those n.  0 or -1. */
static int
datagram_note(AfDatagram *d, const datagram_place *places, const struct mmsghdr *msgs, unsigned n)
{
    AfLoop *loop = d->t.io.loop;
    /* bytes first: what the collector sees may have it run Python, which may use the buffer */
    for (d->first = 0; d->count < n; d->count++) {
        size_t size = msgs[d->count].msg_len;
        d->received[d->count].data = datagram_take(loop, &places[d->count], size);
        if (d->received[d->count].data == NULL) {
            datagram_leave(loop, &places[d->count + 1], &places[n]);
            return -1;
        }
        d->expected = (Py_ssize_t)size;
    }
    for (unsigned i = 0; i < n; i++) {
        datagram_peer *from = &d->received[i].from;
        from->len = msgs[i].msg_hdr.msg_namelen;
        if (datagram_name(from, i == 0 ? &d->from : &d->received[i - 1].from) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Receive what is there, up to so many; d->count is how many, 0 also if the protocol was told of an error.  0 or -1. */
static int
datagram_receive(AfDatagram *d, unsigned slots)
{
    AfTransport *t = &d->t;
    if (!datagram_is_plain(d)) {
        return datagram_receive_plainly(d);
    }
    AfLoop *loop = t->io.loop;
    char *buffer = af_loop_room(loop);
    if (buffer == NULL) {
        return -1;
    }
    struct mmsghdr msgs[DATAGRAM_SLOTS];
    datagram_place places[DATAGRAM_SLOTS];
    size_t size = AF_READ_SIZE / slots;
    for (unsigned i = 0; i < slots; i++) {
        datagram_place *place = &places[i];
        datagram_prepare(d, place, buffer + i * size, size);
        unsigned skip = place->bytes == NULL;
        af_sockaddr *addr = &d->received[i].from.addr;
        msgs[i].msg_hdr = (struct msghdr){.msg_name = addr, .msg_namelen = sizeof(*addr), .msg_iov = place->iov + skip,
                                          .msg_iovlen = 2 - skip};
    }
    int n = recvmmsg(t->fd, msgs, slots, MSG_DONTWAIT, NULL), error = errno;
    datagram_leave(loop, &places[n < 0 ? 0 : n], &places[slots]);
    if (n >= 0) {
        int rc = datagram_note(d, places, msgs, (unsigned)n);
        return rc < 0 ? (datagram_forget(d), rc) : 0;
    }
    if (error == EAGAIN) {
        return 0;
    }
    errno = error;
    PyErr_SetFromErrno(PyExc_OSError);
    return datagram_receive_failed(d);
}

/* Hand the first of those received to the protocol.  0 or -1. */
static int
datagram_deliver(AfDatagram *d)
{
    datagram_received *r = &d->received[d->first++];
    PyObject *stack[4] = {NULL, Py_NewRef(d->t.protocol), r->data, r->from.obj};
    d->count--;
    r->data = r->from.obj = NULL;
    if (stack[3] != d->from.obj && r->from.len > 0) {
        memcpy(&d->from.addr, &r->from.addr, r->from.len);
        d->from.len = r->from.len;
        Py_XSETREF(d->from.obj, Py_NewRef(stack[3]));
    }
    AfLoop *loop = (AfLoop *)Py_NewRef((PyObject *)d->t.io.loop);
    PyObject *res = PyObject_VectorcallMethod(loop->st->str_datagram_received, stack + 1,
                                              3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(stack[1]);
    af_spare_give(loop, stack[2]);
    Py_DECREF(stack[3]);
    Py_XDECREF(res);
    Py_DECREF(loop);
    return res == NULL ? -1 : 0;
}

/* Nobody could tell whether the next one comes now or in a later turn. */
static inline int
datagram_may_go_on(const AfDatagram *d, const AfLoop *loop)
{
    return af_io_wants(&d->t.io) & AF_READ && !d->t.lost && af_ring_len(&loop->ready) == 0 && !loop->stopping;
}

/* In the next turn, behind what is ready now, deliver what is received already: the kernel will not report it. */
static int
datagram_read_later(AfTransport *t)
{
    int any = ((AfDatagram *)t)->count > 0 && af_io_wants(&t->io) & AF_READ;
    return any ? af_loop_push_steal(t->io.loop, Py_NewRef((PyObject *)t), AF_ENTRY_READ) : 0;
}

/* Send what is held back after a delivery that returned rc and may have raised. */
static int
datagram_release_after(AfDatagram *d, int rc)
{
    PyObject *raised = PyErr_GetRaisedException();
    int sent = af_transport_send_held(&d->t);
    if (raised == NULL) {
        return sent;
    }
    PyErr_SetRaisedException(raised);
    return rc;
}

static int
datagram_read(AfDatagram *d)
{
    AfTransport *t = &d->t;
    AfLoop *loop = t->io.loop;
    if (t->lost || t->protocol == NULL || d->turn == loop->turns) {
        return 0;               /* it has had its turn: one event was the kernel's, one datagram_read_later()'s */
    }
    d->turn = loop->turns;
    int rc, most = loop->debug ? 1 : DATAGRAM_BATCH, more, may_go_on;
    do {
        unsigned slots = loop->debug ? 1 : d->slots;
        rc = d->count > 0 ? 0 : datagram_receive(d, slots);
        more = slots == 1 ? d->count > 0 : d->count == slots;
        d->may_hold = d->count > 1;
        do {
            rc = rc < 0 || d->count == 0 ? rc : datagram_deliver(d);
            most--;
            may_go_on = rc == 0 && datagram_may_go_on(d, loop);
        } while (may_go_on && d->count > 0);
        d->may_hold = 0;
        if (d->nheld > 0) {
            rc = datagram_release_after(d, rc);
            may_go_on = rc == 0 && datagram_may_go_on(d, loop);
        }
    } while (may_go_on && more && most > 0);
    /* who has to wait after all gets one at a time from then on: fewer wait here, more where others may look for them */
    d->slots = may_go_on && d->ip ? DATAGRAM_SLOTS : d->count > 0 ? 1 : d->slots;
    return t->closing ? (datagram_forget(d), rc) : datagram_read_later(t) < 0 ? -1 : rc;
}

/* ---- sending ---------------------------------------------------------------------------------------------------- */

/* The address to send to, in C; NULL: the Python socket has to deal with it. */
static const datagram_peer *
datagram_to(AfDatagram *d, PyObject *to)
{
    if (to == d->from.obj) {
        return &d->from;
    }
    if (to != d->to.obj) {
        af_sockaddr addr;
        socklen_t len;
        if (!af_address_from_python(d->family, to, &addr, &len)) {
            return NULL;
        }
        memcpy(&d->to.addr, &addr, len);
        d->to.len = len;
        Py_XSETREF(d->to.obj, Py_NewRef(to));
    }
    return &d->to;
}

/* What sendto() or send() gave, by the Python socket. */
static int
datagram_send_plainly(AfDatagram *d, PyObject *data, PyObject *to)
{
    if (d->t.sock == NULL) {
        return DATAGRAM_SENT;
    }
    PyObject *sock = Py_NewRef(d->t.sock);
    PyObject *res = d->connected || (to == NULL && d->unnamed)
                        ? af_call_method(sock, "send", "O", data)
                        : af_call_method(sock, "sendto", "OO", data, to == NULL ? Py_None : to);
    Py_DECREF(sock);
    if (res != NULL) {
        Py_DECREF(res);
        return DATAGRAM_SENT;
    }
    if (datagram_would_block()) {
        PyErr_Clear();
        return DATAGRAM_WAITS;
    }
    return DATAGRAM_FAILED;
}

static inline int
datagram_may_hold(const AfDatagram *d, PyObject *data, size_t size)
{
    return d->may_hold && size <= DATAGRAM_SMALL && PyBytes_CheckExact(data) && !af_transport_shares_socket(&d->t);
}

/* It leaves with others; not later than when the callback returns that sends it. */
static int
datagram_hold(AfDatagram *d, PyObject *data, PyObject *to, const datagram_peer *peer)
{
    datagram_held *h = &d->held[d->nheld++];
    h->data = Py_NewRef(data);
    h->to = Py_XNewRef(to);
    h->len = peer == NULL ? 0 : peer->len;
    if (peer != NULL) {
        memcpy(&h->addr, &peer->addr, peer->len);
    }
    af_io_hold_back(&d->t.io);
    return DATAGRAM_SENT;
}

/* What is held back goes first; and if it has to wait, what comes behind it has to as well. */
static int
datagram_send_held(AfDatagram *d)
{
    int rc = d->nheld == 0 ? 0 : af_transport_send_held(&d->t);
    return rc < 0 ? DATAGRAM_FAILED : d->out.count > 0 && !d->flushing ? DATAGRAM_WAITS : DATAGRAM_SENT;
}

/* Where to: an address, or NULL for none.  1; 0 if the Python socket has to deal with it; -1 with an exception. */
static int
datagram_aim(AfDatagram *d, PyObject *to, const datagram_peer **peer)
{
    *peer = NULL;
    if (!d->connected && !(to == NULL && d->unnamed)) {
        if (to == NULL || datagram_to(d, to) == NULL || !datagram_is_plain(d)) {
            return 0;
        }
        if (af_unlikely(PySys_Audit("socket.sendto", "OO", d->t.sock, to) < 0)) {
            return -1;
        }
        *peer = datagram_to(d, to);     /* a hook may have sent something itself */
    }
    return datagram_is_plain(d);
}

/* Send one datagram, whose bytes are at buffer; to: where to, or NULL. */
static int
datagram_send(AfDatagram *d, PyObject *data, const void *buffer, size_t size, PyObject *to)
{
    int hold = datagram_may_hold(d, data, size);
    int rc = hold && d->nheld < DATAGRAM_SLOTS ? DATAGRAM_SENT : datagram_send_held(d);
    if (rc != DATAGRAM_SENT || d->t.sock == NULL) {
        return rc;              /* whatever ran meanwhile, a hook or a protocol, may have had the loop run to the end */
    }
    const datagram_peer *peer;
    int plain = datagram_aim(d, to, &peer);
    if (plain < 0) {
        return DATAGRAM_FAILED;
    }
    if (plain == 0) {
        rc = datagram_send_held(d);
        return rc == DATAGRAM_SENT ? datagram_send_plainly(d, data, to) : rc;
    }
    if (hold && d->nheld < DATAGRAM_SLOTS) {
        return datagram_hold(d, data, to, peer);
    }
    if (sendto(d->t.fd, buffer, size, MSG_NOSIGNAL | MSG_DONTWAIT, peer == NULL ? NULL : &peer->addr.any,
               peer == NULL ? 0 : peer->len) >= 0) {
        return DATAGRAM_SENT;
    }
    if (errno == EAGAIN || errno == EINTR) {
        return DATAGRAM_WAITS;
    }
    PyErr_SetFromErrno(PyExc_OSError);
    return DATAGRAM_FAILED;
}

/* Send what waits, as much as the socket takes. */
static int
datagram_flush(AfDatagram *d)
{
    AfTransport *t = &d->t;
    af_backlog *out = &d->out;
    if (t->lost) {
        return af_transport_want(t, 0, AF_WRITE);
    }
    if (d->flushing) {
        return 0;
    }
    while (out->count > 0) {
        PyObject *data = Py_NewRef(out->chunks[out->first].bytes);
        PyObject *to = Py_XNewRef(out->chunks[out->first].to);
        d->flushing = 1;        /* whatever runs meanwhile leaves the first one where it is; or drops them all */
        int rc = datagram_send(d, data, PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data), to);
        d->flushing = 0;
        if (rc != DATAGRAM_WAITS && out->count > 0) {
            af_backlog_pop(out);
        }
        Py_DECREF(data);
        Py_XDECREF(to);
        if (rc == DATAGRAM_FAILED) {
            return datagram_failed(d, datagram_write_error);    /* and the others in the next turn */
        }
        if (rc == DATAGRAM_WAITS) {
            break;
        }
    }
    if (t->lost) {
        return 0;
    }
    if (af_transport_maybe_resume(t) < 0) {     /* the protocol may send, or close */
        return -1;
    }
    if (out->count > 0 || t->lost) {
        return 0;
    }
    if (af_transport_want(t, 0, AF_WRITE) < 0) {
        return -1;
    }
    return t->closing ? (t->lost++, af_transport_end(t, Py_None)) : 0;
}

/* Send at once, or have it wait.  0 or -1. */
static int
datagram_put(AfDatagram *d, const af_data *data, PyObject *to)
{
    AfTransport *t = &d->t;
    if (d->out.count == 0) {
        int rc = datagram_send(d, data->obj, data->view.buf, (size_t)data->view.len, to);
        if (af_likely(rc == DATAGRAM_SENT)) {
            return 0;
        }
        if (rc == DATAGRAM_FAILED) {
            return datagram_failed(d, datagram_write_error);
        }
        if (t->lost) {
            return 0;           /* too late to wait */
        }
        if (!(af_io_wants(&t->io) & AF_WRITE) && af_transport_start_writing(t) < 0) {
            return -1;
        }
    }
    PyObject *bytes = af_data_snapshot(data, 0);
    if (bytes == NULL || af_backlog_add_to_steal(&d->out, bytes, to) < 0) {
        return -1;
    }
    return af_transport_maybe_pause(t);
}

/* How many of those held the socket takes. */
static unsigned
datagram_send_together(AfDatagram *d, datagram_held *held, unsigned n)
{
    struct mmsghdr msgs[DATAGRAM_SLOTS];
    struct iovec iov[DATAGRAM_SLOTS];
    for (unsigned i = 0; i < n; i++) {
        datagram_held *h = &held[i];
        iov[i] = (struct iovec){PyBytes_AS_STRING(h->data), (size_t)PyBytes_GET_SIZE(h->data)};
        msgs[i].msg_hdr = (struct msghdr){.msg_name = h->len > 0 ? &h->addr : NULL, .msg_namelen = h->len,
                                          .msg_iov = &iov[i], .msg_iovlen = 1};
    }
    int sent = sendmmsg(d->t.fd, msgs, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent < 0 ? 0 : (unsigned)sent;
}

/* Send what is held back.  What does not go is sent again as if it had not been: it waits, or its error is reported. */
static int
datagram_release(AfIo *io)
{
    AfDatagram *d = (AfDatagram *)io;
    datagram_held held[DATAGRAM_SLOTS];
    unsigned n = d->nheld;
    char may_hold = d->may_hold;
    AfLoop *loop = (AfLoop *)Py_XNewRef((PyObject *)io->loop);
    int rc = 0;
    memcpy(held, d->held, n * sizeof(*held));
    d->nheld = 0;
    d->may_hold = 0;
    unsigned sent = n > 0 && datagram_is_plain(d) ? datagram_send_together(d, held, n) : 0;
    for (unsigned i = 0; i < sent; i++) {
        af_spare_give(loop, held[i].data);
        Py_XDECREF(held[i].to);
    }
    for (unsigned i = sent; i < n; i++) {
        af_data data;
        if (rc == 0 && (rc = af_data_open(&data, held[i].data)) == 0) {
            rc = datagram_put(d, &data, held[i].to);
            af_data_close(&data);
        }
        Py_DECREF(held[i].data);
        Py_XDECREF(held[i].to);
    }
    d->may_hold = may_hold;
    Py_XDECREF((PyObject *)loop);
    return rc;
}

/* The address a datagram goes to, if one is given that may be: borrowed.  0 or -1. */
static int
datagram_check_address(AfDatagram *d, PyObject **to)
{
    if (d->address == NULL) {
        return 0;
    }
    int good = *to == NULL ? 1 : PyObject_RichCompareBool(*to, d->address, Py_EQ);
    if (good == 0) {
        PyErr_Format(PyExc_ValueError, "Invalid address: must be None or %S", d->address);
    }
    *to = d->address;
    return good > 0 ? 0 : -1;
}

/* sendto(data, addr=None): both by place or by name.  0 or -1. */
static int
datagram_sendto_args(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, PyObject *values[2])
{
    static const char *const names[2] = {"data", "addr"};
    Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    if (nargs > 2) {
        PyErr_Format(PyExc_TypeError, "sendto() takes at most 2 arguments (%zd given)", nargs + nkw);
        return -1;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        values[i] = args[i];
    }
    for (Py_ssize_t i = 0; i < nkw; i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        int k = PyUnicode_CompareWithASCIIString(name, names[0]) == 0 ? 0 : 1;
        if (values[k] != NULL || PyUnicode_CompareWithASCIIString(name, names[k]) != 0) {
            PyErr_Format(PyExc_TypeError, "sendto() got an unexpected or repeated argument '%U'", name);
            return -1;
        }
        values[k] = args[nargs + i];
    }
    if (values[0] == NULL) {
        PyErr_SetString(PyExc_TypeError, "sendto() missing required argument 'data'");
        return -1;
    }
    return 0;
}

static PyObject *
datagram_sendto(AfDatagram *d, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *values[2] = {NULL, NULL};
    if (datagram_sendto_args(args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    PyObject *data = values[0], *to = values[1] == Py_None ? NULL : values[1];
    if (af_unlikely(!af_data_is_writable(data))) {
        PyObject *name = PyType_GetName(Py_TYPE(data));
        PyErr_Format(PyExc_TypeError, "data argument must be a bytes-like object, not %R", name);
        Py_XDECREF(name);
        return NULL;
    }
    if (!AF_DATAGRAM_SENDS_EMPTY) {
        Py_ssize_t size = PyObject_Size(data);
        if (size <= 0) {
            return size < 0 ? NULL : Py_NewRef(Py_None);
        }
    }
    if (datagram_check_address(d, &to) < 0) {
        return NULL;
    }
    int rc;
    af_data contents;
    if (af_unlikely(d->t.lost) && (d->address != NULL || d->t.sock == NULL)) {
        rc = af_transport_write_lost(&d->t);
    }
    else if (af_likely(af_data_open(&contents, data) == 0)) {
        rc = datagram_put(d, &contents, to);
        af_data_close(&contents);
    }
    else {
        rc = d->out.count == 0 ? af_transport_fatal(&d->t, datagram_write_error) : -1;
    }
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

static int
datagram_run(AfIo *io, unsigned what)
{
    AfDatagram *d = (AfDatagram *)io;
    return what == AF_READ ? datagram_read(d) : datagram_flush(d);
}

/* What kind of socket it is, and whether it has a peer.  0 or -1. */
static int
datagram_look(AfDatagram *d)
{
    AfTransport *t = &d->t;
    int family = 0, type = 0;
    socklen_t len = sizeof(family);
    if (t->fd_in_sock && getsockopt(t->fd, SOL_SOCKET, SO_DOMAIN, &family, &len) == 0 && af_address_knows(family)) {
        d->family = family;
        len = sizeof(type);
        d->ip = family != AF_UNIX && getsockopt(t->fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_DGRAM;
    }
    PyObject *peer = af_call_method(t->io.extra, "get", "s", "peername");
    int connected = peer == NULL ? -1 : PyObject_IsTrue(peer);
    d->connected = connected > 0;
    d->unnamed = peer != Py_None;
    Py_XDECREF(peer);
    return connected < 0 ? -1 : 0;
}

static int
datagram_tp_traverse(AfDatagram *d, visitproc visit, void *arg)
{
    Py_VISIT(d->address);
    Py_VISIT(d->from.obj);
    Py_VISIT(d->to.obj);
    for (unsigned i = 0; i < DATAGRAM_SLOTS; i++) {
        Py_VISIT(d->received[i].data);
        Py_VISIT(d->received[i].from.obj);
    }
    for (unsigned i = 0; i < d->nheld; i++) {
        Py_VISIT(d->held[i].to);
    }
    for (size_t i = 0; i < d->out.count; i++) {
        Py_VISIT(d->out.chunks[d->out.first + i].to);
    }
    return af_transport_traverse(&d->t, visit, arg);
}

static int
datagram_tp_clear(AfTransport *t)
{
    AfDatagram *d = (AfDatagram *)t;
    Py_CLEAR(d->address);
    Py_CLEAR(d->from.obj);
    Py_CLEAR(d->to.obj);
    datagram_forget(d);
    for (; d->nheld > 0; d->nheld--) {
        Py_CLEAR(d->held[d->nheld - 1].data);
        Py_CLEAR(d->held[d->nheld - 1].to);
    }
    return af_transport_clear(t);           /* the backlog, too */
}

static const af_transport_kind datagram_kind = {
    .run = datagram_run,
    .backlog = datagram_backlog,
    .drop_backlog = datagram_drop_backlog,
    .resumed = datagram_read_later,
    .flush = datagram_release,
    .clear = datagram_tp_clear,
};

static PyObject *
datagram_tp_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    PyObject *self = af_transport_new(type, &datagram_kind);
    if (self != NULL) {
        ((AfDatagram *)self)->slots = 1;
    }
    return self;
}

static int
datagram_tp_init(AfDatagram *d, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"loop", "sock", "protocol", "address", "waiter", "extra", "context", NULL};
    PyObject *loop, *sock, *protocol, *address = Py_None, *waiter = Py_None, *extra = Py_None, *context = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|OOOO:DatagramTransport", names, &loop, &sock, &protocol, &address,
                                     &waiter, &extra, &context)) {
        return -1;
    }
    int only = PyObject_IsTrue(address);
    if (only < 0 || af_transport_init(&d->t, loop, sock, protocol, extra, Py_None, context, AF_DATAGRAM_SOCKET) < 0 ||
        datagram_look(d) < 0) {
        return -1;
    }
    d->address = only ? Py_NewRef(address) : NULL;
    return af_transport_schedule_start(&d->t, waiter);
}

static PyMethodDef datagram_methods[] = {
    {"sendto", (PyCFunction)(void (*)(void))datagram_sendto, METH_FASTCALL | METH_KEYWORDS,
     "sendto($self, data, addr=None)\n--\n\n"
     "Send data (bytes, bytearray or memoryview) as one datagram, at once or as soon as the socket takes it.\n\n"
     "TypeError for anything else, ValueError if addr is not the one that the transport was made for.  Other errors go\n"
     "to the protocol's error_received()."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef datagram_members[] = {
    AF_TRANSPORT_OFFSETS,
    {"_address", T_OBJECT, offsetof(AfDatagram, address), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot datagram_slots[] = {
    {Py_tp_doc, (void *)"DatagramTransport(loop, sock, protocol, address=None, waiter=None, extra=None, context=None)\n"
                         "--\n\nTransport of a UDP or Unix datagram socket; made by create_datagram_endpoint()."},
    {Py_tp_new, datagram_tp_new},
    {Py_tp_init, datagram_tp_init},
    {Py_tp_dealloc, af_transport_dealloc},
    {Py_tp_finalize, af_transport_finalize},
    {Py_tp_traverse, datagram_tp_traverse},
    {Py_tp_clear, datagram_tp_clear},
    {Py_tp_repr, af_transport_repr},
    {Py_tp_methods, datagram_methods},
    {Py_tp_members, datagram_members},
    {0, NULL},
};

static PyType_Spec datagram_spec = {
    "asyncfast.DatagramTransport", sizeof(AfDatagram), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, datagram_slots,
};

AF_API int
af_datagram_setup(PyObject *module, AfState *st)
{
    st->DatagramType = af_transport_type(module, "DatagramTransport", &datagram_spec);
    return st->DatagramType == NULL ? -1
                                    : PyModule_AddObjectRef(module, "DatagramTransport", (PyObject *)st->DatagramType);
}

#undef DATAGRAM_BATCH
#undef DATAGRAM_SLOTS
#undef DATAGRAM_SMALL
