/* The words every room uses: linkage, branch hints, assertions.  No Python, no system calls. */
#ifndef AF_BASE_AF_H
#define AF_BASE_AF_H

/* accept4(), recvmmsg(); Python.h says the same where it comes first */
#ifndef _GNU_SOURCE
#  define _GNU_SOURCE 1
#endif

#include <stddef.h>
#include <stdint.h>

/* In the release build src/all.c includes every room, so what crosses rooms is static and the compiler sees it all;
   built apart (debug, sanitizers) the same functions are hidden symbols of the shared object. */
#ifdef AF_ONE_UNIT
#  define AF_API static
#else
#  define AF_API __attribute__((visibility("hidden")))
#endif

#define af_likely(x) __builtin_expect(!!(x), 1)
#define af_unlikely(x) __builtin_expect(!!(x), 0)
#define af_container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

#ifdef AF_DEBUG
#  include <assert.h>
#  define AF_ASSERT(x) assert(x)
#else
#  define AF_ASSERT(x) ((void)0)
#endif

#define AF_NS_PER_SEC INT64_C(1000000000)

#endif
