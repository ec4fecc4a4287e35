/* TLS: what the machine (tls.c), the transport that programs see (ssltransport.c) and the engines (portable.c, direct.c)
   share. */
#ifndef AF_TLS_TLS_H
#define AF_TLS_TLS_H

#include "core/loop.h"
#include "net/backlog.h"
#include "net/data.h"
#include "net/feed.h"
#include "net/sink.h"

struct AfTls;

/* States; tls.c says what they are. */
enum { AF_TLS_UNWRAPPED, AF_TLS_HANDSHAKE, AF_TLS_WRAPPED, AF_TLS_FLUSHING, AF_TLS_SHUTDOWN };
/* What the protocol has been told. */
enum { AF_TLS_APP_INIT, AF_TLS_APP_MADE, AF_TLS_APP_EOF, AF_TLS_APP_LOST };

/* Why nothing is given to the transport below. */
enum { AF_TLS_PAUSED = 1, AF_TLS_SENDFILE = 2 };

/* asyncio.constants: FLOW_CONTROL_HIGH_WATER_SSL_WRITE and _READ, in bytes */
#define AF_TLS_OUT_HIGH ((size_t)512 * 1024)
#define AF_TLS_IN_HIGH ((size_t)256 * 1024)

/* What an engine says when it has moved nothing. */
enum { AF_TLS_ENDED = 0, AF_TLS_ERROR = -1, AF_TLS_AGAIN = -2, AF_TLS_UNABLE = -3 };

/* How records are made and taken apart.  The shutdown, what fails in a handshake, and all that a program asks of the
   ssl_object are the SSLObject's own on every engine. */
typedef struct {
    const char *name;
    int (*attach)(struct AfTls *tls);           /* 0 or -1 */
    int (*handshake)(struct AfTls *tls);        /* 1: it is over; or AF_TLS_..., UNABLE: by the SSLObject */
    void (*detach)(struct AfTls *tls);          /* the SSLObject is on its own again; may be called more than once */
    int (*feed)(struct AfTls *tls, const char *data, size_t size);      /* what was received: 0 or -1 */
    int (*settle)(struct AfTls *tls);           /* the memory given to feed() goes away: 0 or -1 */
    Py_ssize_t (*read)(struct AfTls *tls, char *to, size_t size);       /* > 0, or AF_TLS_... */
    Py_ssize_t (*write)(struct AfTls *tls, const char *from, size_t size);  /* > 0, AF_TLS_ERROR or AF_TLS_AGAIN */
    Py_ssize_t (*unread)(struct AfTls *tls);    /* bytes that were received and not yet taken apart; or -1 */
    Py_ssize_t (*unsent)(struct AfTls *tls);    /* bytes of records that wait to be taken; or -1 */
    PyObject *(*take)(struct AfTls *tls);       /* them, as bytes: a new reference, maybe to none; or NULL */
} af_tls_engine;

/* Kernel TLS, ktls.c. */
typedef struct {
    char wished;                /* the program asked for it */
    char sends;                 /* the kernel has the keys: what is written to the BIO is plain */
    char stale;                 /* they would have to change */
    unsigned char record;       /* the type of what is written next, if it is not data */
    unsigned char taken;        /* the same of what was taken last */
    int error;                  /* an errno, or 0 */
    const char *why;            /* why the kernel does not send; NULL: it does, or nobody has asked it to */
} af_ktls;

/* What the direct engine's SSL reads from and writes to.  It does so without the interpreter's lock too, in the SSLObject's
   handshake: no Python in here. */
typedef struct {
    const struct af_libssl *lib;
    const char *in;             /* what is unread: the caller's memory, or in .own */
    size_t in_size;
    char *own;                  /* malloc()ed, or NULL */
    char borrowed;              /* in is the caller's */
    char *out;                  /* the inside of out_bytes, or NULL */
    size_t out_size, out_room;
    char *spill;                /* malloc()ed: what out has no room for, and all that comes after it; or NULL */
    size_t spill_size, spill_room;
    char no_memory;
    af_ktls ktls;               /* while it sends, spill is a row of: type (a byte), size (a size_t), data */
    char greeted;               /* what has come began like TLS */
} af_tls_memory;

typedef struct AfTls {
    PyObject_HEAD
    PyObject *extra;            /* where asyncio.BaseTransport keeps its _extra: a dict */
    AfState *st;
    AfLoop *loop;
    struct AfTlsProtocol *face; /* borrowed: what the transport below sees; or NULL */
    const af_tls_engine *engine;
    PyObject *sslobj;           /* ssl.SSLObject */
    PyObject *incoming, *outgoing;      /* its MemoryBIOs: the direct engine has them only in reserve */
    PyObject *lower;            /* the transport below; NULL before connection_made() and after connection_lost() */
    PyObject *protocol;         /* NULL at the end */
    PyObject *waiter;           /* for the end of the handshake, or NULL */
    PyObject *peercert;         /* gives what get_extra_info() knows by that name; NULL: it is among the extra info */
    PyObject *handshake_timer, *shutdown_timer;         /* or NULL */
    PyObject *handshake_timeout, *shutdown_timeout;     /* seconds */
    PyObject *room;             /* bytearray: get_buffer() for transports that do not know sinks; or NULL */
    PyObject *dict, *weakrefs;
    af_backlog plain;           /* what was written and is no record yet */
    size_t retry;               /* this many bytes of it have to be offered again, as OpenSSL wants it; 0: any number */
    /* the direct engine's */
    void *ssl;                  /* NULL once it is on its own */
    PyObject *ssl_owner;        /* what frees it: the collector may have taken it from the SSLObject before we let go */
    void *in_bio, *out_bio;     /* the MemoryBIOs', to be put back */
    PyObject *out_bytes;
    af_tls_memory memory;
    double handshake_began;     /* debug mode: seconds of loop.time() */
    size_t out_high, out_low, in_high, in_low;          /* bytes */
    long lost;                  /* connection_lost(), and what was written since */
    signed char state, app_state;
    char made, eof, keeps;
    char closed;                /* 2: and close() was called once more */
    char lower_is_stream;       /* exactly ours: called without a detour */
    char accepted;              /* by a server, whose program does not have it yet */
    char handshake_direct;      /* by the engine, if it can */
    char writing_paused;        /* AF_TLS_PAUSED: by the transport below; AF_TLS_SENDFILE: a file has the socket */
    char reading_paused;        /* of the transport below */
    char app_writing_paused, app_reading_paused;        /* the protocol; by it */
    char app_buffered;
    AfSink *app_sink;           /* borrowed: the protocol, if it is TLS again */
    af_feeder app_feed;         /* if its data goes into a stream reader, or NULL */
    char app_new;               /* ... of asyncio's, and nothing was written yet */
} AfTls;

/* What a transport is made with: borrowed. */
typedef struct {
    PyObject *loop, *protocol, *sslobj, *incoming, *outgoing;
    PyObject *extra;            /* a dict, to keep */
    PyObject *waiter;           /* or None */
    PyObject *handshake_timeout, *shutdown_timeout;     /* seconds */
    int call_connection_made;
    int direct;                 /* the engine */
    int ktls;                   /* kernel TLS is wished for */
    char handshake_direct, accepted;    /* see above */
} af_tls_wish;

AF_API const af_tls_engine *af_tls_portable(void);
AF_API const af_tls_engine *af_tls_direct(void);

/* ktls.c: SSL offers the keys of what it sends next; 1: the kernel has them, or 0. */
AF_API int af_ktls_take_keys(AfTls *tls, const void *keys);

/* tls.c.  All return 0, or -1 with an exception, unless they say otherwise. */
AF_API PyObject *af_tls_face(AfTls *tls);               /* a new reference, or NULL */
AF_API PyObject *af_tls_face_method(AfTls *tls, const char *name);
AF_API int af_tls_abort(AfTls *tls, PyObject *exc);     /* NULL: no reason */
AF_API int af_tls_start_shutdown(AfTls *tls);
AF_API void af_tls_forget(AfTls *tls);
AF_API int af_tls_know_peercert(AfTls *tls);            /* it is among the extra info from now on */
AF_API PyObject *af_tls_write_object(AfTls *tls, PyObject *data);       /* write(), of anything with a buffer */
AF_API int af_tls_begin_sendfile(AfTls *tls);
AF_API int af_tls_end_sendfile(AfTls *tls);
AF_API int af_tls_keep(AfTls *tls, const af_data *data, size_t start);
AF_API Py_ssize_t af_tls_backlog(AfTls *tls);           /* bytes, or -1 */
AF_API int af_tls_control_app_writing(AfTls *tls);
AF_API int af_tls_control_reading(AfTls *tls);
AF_API PyTypeObject *af_tls_make_type(PyObject *module, const char *from, const char *base, PyType_Spec *spec);
AF_API int af_tls_setup_protocol(PyObject *module, AfState *st);

/* ssltransport.c */
AF_API int af_tls_init(AfTls *tls, const af_tls_wish *wish);
AF_API int af_tls_setup(PyObject *module, AfState *st);

/* make.c: methods of the module. */
AF_API PyObject *af_tls_make(PyObject *module, PyObject *args);
AF_API PyObject *af_tls_accept(PyObject *module, PyObject *args);
AF_API PyObject *af_tls_is_asyncios(PyObject *module, PyObject *ignored);
AF_API PyObject *af_tls_register(PyObject *module, PyObject *args);

/* ssl's "not now" is raised: it is taken off, 1; or 0, and it stays. */
static inline int
af_tls_again(AfState *st)
{
    if (!PyErr_ExceptionMatches(st->tls_again_errors)) {
        return 0;
    }
    PyErr_Clear();
    return 1;
}

#endif
