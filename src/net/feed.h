/* Data that goes from a transport into a stream reader without a Python frame. */
#ifndef AF_NET_FEED_H
#define AF_NET_FEED_H

#include "net/transport.h"

AF_API af_feeder af_feeder_of(AfState *st, PyObject *protocol);        /* or NULL */

/* n > 0 bytes that the loop has read: 1; 0, and it is data_received()'s turn; or -1. */
static inline int
af_feed(AfLoop *loop, af_feeder feed, PyObject *protocol, const char *data, Py_ssize_t n)
{
    int rc = feed(loop->st, protocol, data, n);
    if (rc > 0 && loop->next_task == NULL) {
        loop->unread += (size_t)n;
    }
    return rc;
}

#endif
