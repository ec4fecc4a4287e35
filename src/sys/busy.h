/* Busy polling: waits that look again and again instead of sleeping, where that is cheaper.

   A thread that goes to sleep for an instant pays for it: some 12 us of processor time on a virtual machine, a few on bare
   metal, and as much again until it runs after what it waited for has come.  A peer's answer is often there sooner.  So
   where waits are short the loop tries what it takes to look for as long, and goes on as long as that takes hardly any more
   processor time than sleeping did, or less.  A loop that has little to do, or waits for what takes its time, sleeps as
   ever. */
#ifndef AF_SYS_BUSY_H
#define AF_SYS_BUSY_H

#include "sys/poller.h"

typedef struct {
    int looks;              /* it does; else it sleeps */
    int left;               /* waits until it judges; those that sleep have to be short ones in a row */
    int patience;           /* what that begins with after looking did not pay: twice as many each time */
    int misses;             /* looks of this window that found nothing */
    int windows;            /* looked through since it slept */
    int64_t begun;          /* processor time of the thread when this window began, ns */
    int64_t asleep, awake;  /* what a unit of work took, ns: in the last window that slept, in the mean of those that looked */
    size_t moved;           /* bytes that were sent and received in this window; the owner counts them */
    unsigned long thread;   /* whose time that is; the owner's */
    char on;                /* else it only ever sleeps; the owner's */
} af_busy;

AF_API void af_busy_init(af_busy *b, unsigned long thread);

/* af_poll_wait(), looking first if that pays. */
AF_API int af_busy_wait(af_busy *b, af_poll *p, af_event *events, int64_t timeout_ns);

#endif
