/* Reading without an allocation per read.

   Everything is read into the loop's one large bytes object.  Small data is copied out of it; large data is not: the
   object itself is lent to the protocol, cut to length, and comes back if nobody has kept it.  So no read allocates more
   than it received, and none makes the heap grow and shrink.  A protocol that keeps what it gets (a stream reader's buffer
   does not, a list of chunks does) is given copies from then on. */
#ifndef AF_NET_READING_H
#define AF_NET_READING_H

#include "net/transport.h"
#include "sys/copy.h"

#include <sys/socket.h>

/* Copying less than that costs less than what lending may (bench: net, protocol echo). */
#define AF_LEND_FROM ((size_t)16 * 1024)

/* The loop's buffer; NULL with MemoryError.  It goes to af_reading_deliver(), or back to loop->read_buffer before any
   Python runs.  Until then a loop that is run inside a callback makes its own. */
static inline PyObject *
af_reading_take(AfLoop *loop)
{
    PyObject *buffer = loop->read_buffer;
    loop->read_buffer = NULL;
    return af_likely(buffer != NULL) ? buffer : PyBytes_FromStringAndSize(NULL, (Py_ssize_t)AF_READ_SIZE);
}

/* Unless a loop that was run meanwhile has left its own. */
static inline void
af_reading_give_back(AfLoop *loop, PyObject *buffer)
{
    if (loop->read_buffer == NULL && !loop->closed) {
        loop->read_buffer = buffer;
    }
    else {
        Py_DECREF(buffer);
    }
}

/* Beyond 1 KiB, where the C library's cache for each thread ends, malloc() and free() take a quarter of an echo's instructions.
   So the loop keeps bytes that nobody has any more, for what is received next to lie in if that is as large. */
#define AF_SPARE_FROM 992

/* Are n bytes as large?  Or what is kept could shrink, and its memory would not. */
static inline int
af_spare_fits(Py_ssize_t n, Py_ssize_t size)
{
    return n <= size && (size_t)n / 64 == (size_t)size / 64;
}

/* Takes over a reference, be it the last or not. */
static inline void
af_spare_give(AfLoop *loop, PyObject *bytes)
{
    if (Py_REFCNT(bytes) == 1 && (size_t)PyBytes_GET_SIZE(bytes) - AF_SPARE_FROM < AF_LEND_FROM - AF_SPARE_FROM &&
        loop->nspares < AF_LOOP_SPARES && !loop->closed) {
        loop->spares[loop->nspares++] = bytes;
    }
    else {
        Py_DECREF(bytes);
    }
}

/* One that n bytes may be received into, which then need no copying: a new reference; or NULL without an exception. */
static inline PyObject *
af_spare_take(AfLoop *loop, Py_ssize_t n)
{
    PyObject *bytes = loop->nspares == 0 ? NULL : loop->spares[loop->nspares - 1];
    if (bytes == NULL || !af_spare_fits(n, PyBytes_GET_SIZE(bytes)) || af_copies_slowly_to(PyBytes_AS_STRING(bytes))) {
        return NULL;
    }
    loop->nspares--;
    return bytes;
}

/* n bytes copied: a new reference, or NULL with MemoryError. */
static inline PyObject *
af_spare_copy(AfLoop *loop, const char *from, Py_ssize_t n)
{
    if (n < AF_SPARE_FROM || loop->nspares == 0) {
        return PyBytes_FromStringAndSize(from, n);
    }
    PyObject *bytes = loop->spares[--loop->nspares];
    if (!af_spare_fits(n, PyBytes_GET_SIZE(bytes))) {
        Py_DECREF(bytes);
        return PyBytes_FromStringAndSize(from, n);
    }
    memcpy(PyBytes_AS_STRING(bytes), from, (size_t)n);
    af_bytes_set_length(bytes, n);
    return bytes;
}

/* The n > 0 bytes that were read into buffer go to deliver(whom, data): 0 or -1.  *keeps: the protocol has kept what was
   lent. */
static inline int
af_reading_deliver(AfLoop *loop, PyObject *buffer, ssize_t n, char *keeps, int (*deliver)(void *, PyObject *), void *whom)
{
    if ((size_t)n < AF_LEND_FROM || *keeps) {
        PyObject *data = af_spare_copy(loop, PyBytes_AS_STRING(buffer), n);
        af_reading_give_back(loop, buffer);
        if (data == NULL) {
            return -1;
        }
        Py_INCREF(loop);
        int rc = deliver(whom, data);
        af_spare_give(loop, data);
        Py_DECREF(loop);
        return rc;
    }
    af_bytes_set_length(buffer, n);
    Py_INCREF(loop);
    int rc = deliver(whom, buffer);
    if (Py_REFCNT(buffer) == 1) {
        af_bytes_set_length(buffer, (Py_ssize_t)AF_READ_SIZE);
        af_reading_give_back(loop, buffer);
    }
    else {
        *keeps = 1;
        Py_DECREF(buffer);
    }
    Py_DECREF(loop);
    return rc;
}

/* recvfrom() into memory of the program's.  partly: what there is no room for may come later, as on a stream. */
static inline ssize_t
af_recv_into(AfLoop *loop, int fd, void *to, size_t size, int partly, struct sockaddr *addr, socklen_t *len)
{
    char *into = to;
    if (af_copies_slowly_to(to) && (partly || size <= AF_READ_SIZE)) {
        into = af_loop_room(loop);
        size = size < AF_READ_SIZE ? size : AF_READ_SIZE;
        if (into == NULL) {
            PyErr_Clear();          /* slowly, then */
            into = to;
        }
    }
    ssize_t n = recvfrom(fd, into, size, MSG_DONTWAIT, addr, len);
    af_loop_moved(loop, n);
    if (n > 0 && into != to) {
        memcpy(to, into, (size_t)n);
    }
    return n;
}

#endif
