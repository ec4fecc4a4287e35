/* The poller: the contract that a backend (epoll.c; kqueue and io_uring later) fulfils.

   A watcher says for one fd which of AF_READ and AF_WRITE are wanted; af_poll_wait() hands back the numbers of fds that
   are ready, and whoever called it decides what to do.  The poller runs no callbacks and knows nothing of loops, and the
   kernel is told nothing but numbers: an fd that was closed while a duplicate of it lives cannot be taken out of the set
   any more, and goes on being reported. */
#ifndef AF_SYS_POLLER_H
#define AF_SYS_POLLER_H

#include "base/af.h"

enum { AF_READ = 1, AF_WRITE = 2 };

typedef struct {
    int fd;
    unsigned want;          /* AF_READ | AF_WRITE: set by the owner, then af_poll_update() */
    unsigned have;          /* what the kernel has been told; the poller's */
} af_watcher;

typedef struct {
    int fd;                 /* as a watcher gave it; it may be nobody's by now */
    unsigned events;        /* AF_READ | AF_WRITE; errors and hang-ups count as both */
} af_event;

#ifdef AF_HOSTILE
#  define AF_POLL_BATCH 1
#else
#  define AF_POLL_BATCH 256
#endif

typedef struct {
    int fd;                 /* the epoll instance, or -1 */
    int wake_fd;            /* eventfd that af_poll_wake() writes */
    int timer_fd;           /* timerfd, only where the kernel lacks epoll_pwait2; else -1 */
    int timer_armed;
    int has_pwait2;
    int told;               /* the last wait brought something, if only a wake-up */
    int most;               /* events that a wait returns, at most: 1 to AF_POLL_BATCH; the owner's */
} af_poll;

/* All return 0 (wait: a count) or -errno. */
AF_API int af_poll_open(af_poll *p);
AF_API void af_poll_close(af_poll *p);
AF_API int af_poll_update(af_poll *p, af_watcher *w);
AF_API void af_poll_forget(af_poll *p, af_watcher *w);

/* Wait up to timeout_ns nanoseconds (0: do not wait, < 0: for ever) for at most p->most events.  -EINTR is
   returned, not hidden: the caller has signals to look at. */
AF_API int af_poll_wait(af_poll *p, af_event *events, int64_t timeout_ns);

/* Make the present or the next af_poll_wait() return.  From any thread, async-signal-safe. */
AF_API void af_poll_wake(af_poll *p);

AF_API const char *af_poll_name(void);
AF_API const char *af_poll_timer_name(const af_poll *p);

#endif
