/* Socket addresses: what socket.recvfrom() gives and socket.sendto() takes, for IPv4, IPv6 and Unix.

   Everything that is not exactly the usual (host names, other families, wrong types, ports out of range) is left to the
   socket module, which has the errors for it as well: "not ours" is no error. */
#ifndef AF_NET_ADDRESS_H
#define AF_NET_ADDRESS_H

#include "rt/state.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

typedef union {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
    struct sockaddr_storage room;       /* for whatever the kernel has */
} af_sockaddr;

/* Addresses of family are handled here. */
static inline int
af_address_knows(int family)
{
    return family == AF_INET || family == AF_INET6 || family == AF_UNIX;
}

/* 1: *obj is a new reference; 0: not ours; -1 with an exception. */
AF_API int af_address_to_python(const af_sockaddr *addr, socklen_t len, PyObject **obj);

/* 1: *addr and *len are set; 0: not ours, *addr may be anything.  Runs no Python and raises nothing. */
AF_API int af_address_from_python(int family, PyObject *obj, af_sockaddr *addr, socklen_t *len);

#endif
