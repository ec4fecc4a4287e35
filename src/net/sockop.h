/* sock_recv() and its kind: awaitables that are their own coroutine. */
#ifndef AF_NET_SOCKOP_H
#define AF_NET_SOCKOP_H

#include "core/watch.h"

struct AfSockOp;

/* What differs between them, sockcall.c. */
typedef struct {
    const char *name;
    unsigned direction;         /* AF_READ or AF_WRITE: what it waits for */
    /* Take the arguments (borrowed references): 1; or 0, and asyncio's own method will see to them.  Raises nothing. */
    int (*take)(struct AfSockOp *s, PyObject *const *args, Py_ssize_t nargs);
    /* PYGEN_RETURN with *result, PYGEN_ERROR, or PYGEN_NEXT: it would block. */
    PySendResult (*attempt)(struct AfSockOp *s, PyObject **result);
} af_sockcall;

#define AF_SOCKCALLS(X) X(recv) X(recv_into) X(recvfrom) X(recvfrom_into) X(sendall) X(sendto) X(accept) X(connect)
#define X(method) AF_SOCK_##method,
enum { AF_SOCKCALLS(X) };
#undef X
AF_API const af_sockcall *af_sockcall_of(int method);

typedef struct AfSockOp {
    AfOp op;
    AfLoop *loop;
    PyObject *sock;
    PyObject *arg;              /* the buffer or the data, or NULL */
    PyObject *peer;             /* an address, or NULL */
    Py_buffer view;             /* of arg; obj NULL: not taken */
    Py_ssize_t size;            /* to receive: bytes at most; sock_sendall: bytes sent so far */
    const af_sockcall *call;
    int family;                 /* of the socket, where addresses matter */
    char stage;
    char connecting;            /* connect() is under way */
} AfSockOp;

AF_API int af_sockop_setup(PyObject *module, AfState *st);

#endif
