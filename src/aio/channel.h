/* Channel: items from many senders to many receivers; ChanOp: one of them, sending or receiving. */
#ifndef AF_AIO_CHANNEL_H
#define AF_AIO_CHANNEL_H

#include "core/park.h"

typedef struct {
    PyObject_HEAD
    AfState *st;
    PyObject *loop;             /* that its waiters run on; NULL until somebody has waited */
    PyObject *error;            /* what close() was given, or NULL */
    PyObject *error_tb;         /* the traceback that it had then, or NULL */
    PyObject *weakrefs;
    af_ring items;              /* owned references, the oldest first; no slots until there was one */
    af_link receivers, senders; /* AfChanOp.link: who waits, in that order */
    Py_ssize_t maxsize;         /* 0 or less: no limit */
    Py_ssize_t granted;         /* senders that were woken for a place which they have not filled yet */
    Py_ssize_t handed;          /* receivers that were woken with an item which they have not taken home yet */
    char closed;
} AfChannel;

enum { AF_CHANOP_RECEIVE, AF_CHANOP_NEXT, AF_CHANOP_SEND };
enum { AF_CHANOP_NEW, AF_CHANOP_WAITING, AF_CHANOP_DONE };

typedef struct {
    AF_PARK_HEAD;
    AfChannel *channel;
    PyObject *item;             /* to be sent; or what a woken receiver was handed, NULL: nothing */
    af_link link;               /* in the channel's list while it waits */
    char kind, stage;
    char granted;               /* a woken sender: there is a place for it */
} AfChanOp;

AF_API int af_channel_setup(PyObject *module, AfState *st);
AF_API int af_chanop_setup(PyObject *module, AfState *st);

/* The awaitable; item is NULL unless it sends. */
AF_API PyObject *af_chanop_new(AfChannel *ch, int kind, PyObject *item);

/* Do it, if that can be done now, or is because it was woken for it: PYGEN_RETURN or PYGEN_ERROR; PYGEN_NEXT: it waits. */
AF_API PySendResult af_channel_try(AfChannel *ch, AfChanOp *op, PyObject **result);

/* It waits on this loop from now on. 0, or -1 with RuntimeError: others wait on another loop. */
AF_API int af_channel_wait(AfChannel *ch, AfChanOp *op, PyObject *loop);

/* It will not be resumed: what it was woken for goes to the next one. */
AF_API void af_channel_abandon(AfChannel *ch, AfChanOp *op);

#endif
