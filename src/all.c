/* The release build: every room as one translation unit, so that the compiler sees and inlines it all. */
#define AF_ONE_UNIT

#include "rt/compat.h"      /* Python.h first, as it asks */

#include "base/heap.c"
#include "base/ring.c"
#include "sys/epoll.c"
#include "rt/state.c"
#include "core/context.c"
#include "core/handle.c"
#include "core/future.c"
#include "core/task.c"
#include "core/park.c"
#include "core/sleep.c"
#include "core/watch.c"
#include "core/loop.c"
#include "net/backlog.c"
#include "net/barefd.c"
#include "net/transport.c"
#include "net/stream.c"
#include "net/pipe.c"
#include "net/address.c"
#include "net/datagram.c"
#include "net/sockcall.c"
#include "net/sockop.c"
#include "net/listener.c"
#include "aio/channel.c"
#include "aio/chanop.c"
#include "core/awaitval.c"     /* brings <opcode.h> and its short macro names: last */
#include "module.c"
