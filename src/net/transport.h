/* What all transports have: an fd, a protocol, flow control, and one way to end.

   The states are asyncio's: closing (close() was called, or the peer has gone: no more reading), lost (connection_lost()
   is scheduled or was called: nothing is sent any more). */
#ifndef AF_NET_TRANSPORT_H
#define AF_NET_TRANSPORT_H

#include "core/context.h"
#include "core/watch.h"
#include "net/sink.h"

#include <errno.h>

/* The context of a transport's callbacks: taken when it begins to listen, as asyncio's handles do. */
typedef struct {
    PyObject *context;
    char shared;                /* AF_CONTEXT_..., see context.h */
    char running;
} af_call_context;

struct AfTransport;

/* What the kinds of transports do in ways of their own. */
typedef struct {
    int (*run)(AfIo *io, unsigned what);                /* its fd is ready, AF_READ or AF_WRITE: 0 or -1 */
    size_t (*backlog)(struct AfTransport *t);           /* bytes that wait to be sent */
    void (*drop_backlog)(struct AfTransport *t);
    int (*flush)(AfIo *io);                             /* send what is held back: 0 or -1; NULL: it holds nothing back */
    int (*resumed)(struct AfTransport *t);              /* after resume_reading(): 0 or -1; or NULL */
    int (*clear)(struct AfTransport *t);                /* tp_clear */
    char feeds;                                         /* run uses AfTransport.feed, see transport_ready() */
} af_transport_kind;

/* data_received() of a protocol of a known type, without a call: 1; 0: nothing was done, and it has to be called; -1. */
typedef int (*af_feeder)(AfState *st, PyObject *protocol, const char *data, Py_ssize_t n);

typedef struct AfTransport {
    AfIo io;
    const af_transport_kind *kind;
    PyObject *sock;             /* owns the fd; NULL at the end, or while owns_fd */
    PyObject *protocol;         /* NULL at the end */
    af_feeder feed;             /* of a StreamReader behind it, feed.c; or NULL */
    AfSink *sink;               /* borrowed: the protocol, if it is one */
    PyObject *server;           /* or NULL */
    PyObject *context;          /* what the program asked for its callbacks, or NULL */
    PyObject *empty_waiter;     /* while sendfile() has the socket: a future; or NULL */
    PyObject *dict, *weakrefs;
    af_call_context reading, writing;
    int fd;
    long lost;                  /* calls since connection_lost() was scheduled, this one included */
    char closing, paused, eof, protocol_paused, protocol_connected, buffered_protocol;
    char fd_in_sock;            /* sock is a socket of _socket, which keeps its fd right behind the head */
    char is_pipe, writes_only;  /* sock is a file, maybe; to be readable means that the reader has gone */
    char made;                  /* __init__() was called */
    char new_stream;            /* of asyncio.open_connection() or alike, and nothing was written yet */
    char socket_shown;          /* somebody asked for the extra info "socket" */
    char unseen;                /* no program has it yet, and none is to blame if it is never closed */
    char owns_fd, no_socket;    /* accepted: the fd is ours to close; no socket object was made of it yet, see barefd.c */
    short family, proto;        /* with which one is made */
    size_t high_water, low_water;               /* bytes */
} AfTransport;

/* Contexts. */
AF_API int af_call_context_take(AfTransport *t, af_call_context *c);
AF_API int af_call_context_run(AfLoop *loop, af_call_context *c, int (*run)(AfIo *, unsigned), AfIo *io, unsigned what);

/* Reading and writing.  All return 0, or -1 with an exception. */
AF_API int af_transport_want(AfTransport *t, unsigned set, unsigned clear);
AF_API int af_transport_start_reading(AfTransport *t);
AF_API int af_transport_start_writing(AfTransport *t);
AF_API int af_transport_deliver(AfTransport *t, PyObject *data);        /* data_received() */
AF_API int af_transport_log_debug(AfTransport *t, const char *what);    /* in debug mode */
AF_API int af_transport_send_held(AfTransport *t);                      /* send now what is held back */
/* The same for whoever asks how the connection is: sending is what finds out that the peer has gone, and what was drained
   is sent.  In a burst the answer may be a turn late, for what it saves. */
AF_API int af_transport_settle(AfTransport *t);
/* Does the program keep the socket, or asyncio's wrapper of it?  It may do to it at any moment what has to come behind
   what was written (shutdown(), a send() of its own), so nothing may be held back. */
AF_API int af_transport_shares_socket(const AfTransport *t);
AF_API int af_transport_maybe_pause(AfTransport *t);
AF_API int af_transport_maybe_resume(AfTransport *t);

/* The exception that is set goes to the log or the exception handler, and ends the connection.  0; or -1 if it is one
   that ends the program (SystemExit, KeyboardInterrupt), or the handler raised. */
AF_API int af_transport_fatal(AfTransport *t, const char *message);
/* What reading or writing raised, which no caller of ours will see: to the exception handler.  0 or -1 as above. */
AF_API int af_transport_report(AfTransport *t, AfLoop *loop);
AF_API int af_transport_fatal_errno(AfTransport *t, int error, const char *message);
AF_API int af_transport_force_close(AfTransport *t, PyObject *exc);
AF_API int af_transport_close(AfTransport *t);
AF_API int af_transport_end(AfTransport *t, PyObject *exc);     /* connection_lost(), and everything is let go of */
AF_API int af_transport_write_lost(AfTransport *t);             /* somebody writes to what is lost */
AF_API int af_transport_settle_waiter(AfTransport *t, PyObject *exc);   /* NULL: None is its result */

/* Life. */
enum { AF_DATAGRAM_SOCKET, AF_STREAM_SOCKET, AF_READ_PIPE, AF_WRITE_PIPE };     /* the hooks in Python know them */
AF_API PyObject *af_transport_new(PyTypeObject *type, const af_transport_kind *kind);
/* sock NULL: it has an fd already */
AF_API int af_transport_init(AfTransport *t, PyObject *loop, PyObject *sock, PyObject *protocol, PyObject *extra,
                             PyObject *server, PyObject *context, int kind);
AF_API int af_transport_schedule_start(AfTransport *t, PyObject *waiter);
AF_API int af_transport_traverse(AfTransport *t, visitproc visit, void *arg);
AF_API int af_transport_clear(AfTransport *t);
AF_API void af_transport_let_go(AfTransport *t);               /* of its fd and its server, whatever it was doing */
AF_API void af_transport_finalize(PyObject *self);
AF_API void af_transport_dealloc(PyObject *self);
AF_API PyObject *af_transport_repr(PyObject *self);
AF_API PyTypeObject *af_transport_type(PyObject *module, const char *base, PyType_Spec *spec);

#define AF_TRANSPORT_OFFSETS                                                                                           \
    {"__weaklistoffset__", T_PYSSIZET, offsetof(AfTransport, weakrefs), READONLY, NULL},                               \
    {"__dictoffset__", T_PYSSIZET, offsetof(AfTransport, dict), READONLY, NULL}

/* Not an error, but nothing to be had just now. */
static inline int
af_would_block(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

/* socket.socket(family, type, proto, fd), non-blocking as fd is already, which owns fd from here on; NULL: it does not. */
AF_API PyObject *af_socket_of_fd(int family, int type, int proto, int fd);
AF_API int af_socket_int(PyObject *sock, const char *name, int *value);        /* an attribute: 0 or -1 */

/* An accepted fd without a socket object, barefd.c. */
AF_API void af_transport_own_fd(AfTransport *t, int fd, int family, int proto);
AF_API int af_transport_need_socket(AfTransport *t);           /* sock and extra info are there: 0 or -1 */
AF_API void af_transport_drop_fd(AfTransport *t);

static inline int
af_transport_has_fd(const AfTransport *t)
{
    return t->sock != NULL || t->owns_fd;
}

/* Is it exactly a socket.socket, of which we know where its fd is? */
AF_API int af_socket_is_plain(AfState *st, PyObject *sock);

/* The fd of a socket of _socket; -1 once it is closed. */
static inline int
af_socket_fd(PyObject *sock)
{
    return *(const int *)((const char *)sock + sizeof(PyObject));
}

/* Is the fd still the one we were given?  Somebody may have closed the socket behind our back, and its number may be
   another connection's by now. */
static inline int
af_transport_fd_is_ours(const AfTransport *t)
{
    return t->owns_fd || (t->sock != NULL && (!t->fd_in_sock || af_socket_fd(t->sock) == t->fd));
}

#endif
