/* A queue in one array: what is sent moves its beginning forward, and room is made by moving it all back.  Dropping bytes
   runs no Python; dropping an address may, so that comes last. */
#include "net/backlog.h"

static int
backlog_add_steal(af_backlog *b, PyObject *bytes, size_t start, PyObject *to)
{
    if (b->first + b->count == b->cap) {
        if (b->first > b->cap / 2) {
            memmove(b->chunks, b->chunks + b->first, b->count * sizeof(*b->chunks));
        }
        else {
            size_t cap = b->cap ? b->cap * 2 : 4;
            af_chunk *bigger = PyMem_Malloc(cap * sizeof(*bigger));
            if (bigger == NULL) {
                Py_DECREF(bytes);
                PyErr_NoMemory();
                return -1;
            }
            if (b->count > 0) {
                memcpy(bigger, b->chunks + b->first, b->count * sizeof(*bigger));
            }
            PyMem_Free(b->chunks);
            b->chunks = bigger;
            b->cap = cap;
        }
        b->first = 0;
    }
    b->chunks[b->first + b->count++] = (af_chunk){bytes, start, Py_XNewRef(to)};
    b->size += (size_t)PyBytes_GET_SIZE(bytes) - start;
    return 0;
}

AF_API int
af_backlog_add_steal(af_backlog *b, PyObject *bytes, size_t start)
{
    return backlog_add_steal(b, bytes, start, NULL);
}

AF_API int
af_backlog_add_to_steal(af_backlog *b, PyObject *bytes, PyObject *to)
{
    return backlog_add_steal(b, bytes, 0, to);
}

AF_API int
af_backlog_iov(const af_backlog *b, struct iovec *iov)
{
    int most = b->count < AF_BACKLOG_IOV ? (int)b->count : AF_BACKLOG_IOV, n = 0;
    for (; n < most && b->chunks[b->first + (size_t)n].to == NULL; n++) {
        const af_chunk *c = &b->chunks[b->first + (size_t)n];
        iov[n].iov_base = PyBytes_AS_STRING(c->bytes) + c->start;
        iov[n].iov_len = (size_t)PyBytes_GET_SIZE(c->bytes) - c->start;
    }
    return n;
}

AF_API void
af_backlog_sent(af_backlog *b, size_t n)
{
    b->size -= n;
    while (n > 0) {
        af_chunk *c = &b->chunks[b->first];
        size_t left = (size_t)PyBytes_GET_SIZE(c->bytes) - c->start;
        if (n < left) {
            c->start += n;
            return;
        }
        n -= left;
        b->first++;
        b->count--;
        Py_DECREF(c->bytes);
        Py_XDECREF(c->to);      /* an int */
    }
    if (b->count == 0) {
        af_backlog_clear(b);
    }
}

AF_API void
af_backlog_pop(af_backlog *b)
{
    af_chunk c = b->chunks[b->first];
    b->size -= (size_t)PyBytes_GET_SIZE(c.bytes) - c.start;
    b->first++;
    b->count--;
    if (b->count == 0) {
        af_backlog_clear(b);
    }
    Py_DECREF(c.bytes);
    Py_XDECREF(c.to);
}

AF_API void
af_backlog_clear(af_backlog *b)
{
    af_backlog gone = *b;
    *b = (af_backlog){0};       /* an idle connection keeps no queue */
    for (size_t i = 0; i < gone.count; i++) {
        Py_DECREF(gone.chunks[gone.first + i].bytes);
        Py_XDECREF(gone.chunks[gone.first + i].to);
    }
    PyMem_Free(gone.chunks);
}
