/* Data that goes from a transport into a stream reader without a Python frame. */
#ifndef AF_NET_FEED_H
#define AF_NET_FEED_H

#include "net/transport.h"

AF_API af_feeder af_feeder_of(AfState *st, PyObject *protocol);        /* or NULL */

/* What asyncio's own StreamReaderProtocol and StreamReader run for a chunk: a tuple of pairs, a function and its code.
   Returns it, borrowed, or NULL. */
AF_API PyObject *af_feed_register(AfState *st, PyObject *codes);

#endif
