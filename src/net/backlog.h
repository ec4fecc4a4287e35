/* What waits to be sent: chunks of bytes, by reference, in order. */
#ifndef AF_NET_BACKLOG_H
#define AF_NET_BACKLOG_H

#include "rt/state.h"

#include <sys/uio.h>

typedef struct {
    PyObject *bytes;            /* owned */
    size_t start;               /* how much of it is gone already */
    PyObject *to;               /* a datagram's address, or (an int) the type of a record of kernel TLS; owned; or NULL */
} af_chunk;

typedef struct {
    af_chunk *chunks;
    size_t first, count, cap;   /* chunks[first .. first + count) */
    size_t size;                /* bytes in all of them */
} af_backlog;

#define AF_BACKLOG_IOV 1024     /* IOV_MAX: as many chunks as asyncio sends at once */

AF_API int af_backlog_add_steal(af_backlog *b, PyObject *bytes, size_t start);  /* 0, or -1 with MemoryError */
AF_API int af_backlog_add_to_steal(af_backlog *b, PyObject *bytes, PyObject *to);   /* to: borrowed, or NULL */
AF_API void af_backlog_pop(af_backlog *b);              /* the first one, whole */
/* The chunks before the first one that goes to somewhere: how many, AF_BACKLOG_IOV at most. */
AF_API int af_backlog_iov(const af_backlog *b, struct iovec *iov);
AF_API void af_backlog_sent(af_backlog *b, size_t n);
AF_API void af_backlog_clear(af_backlog *b);

#endif
