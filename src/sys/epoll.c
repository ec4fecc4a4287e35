/* The epoll backend (Linux).  Level-triggered, as asyncio's own selector loop is, so that a reader that leaves bytes
   behind is called again; but for the eventfd of af_poll_wake(): each write to it is an edge, so nobody reads it. */
#include "sys/poller.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_epoll_pwait2
#  define SYS_epoll_pwait2 441      /* the same number on every architecture; Linux 5.11 */
#endif

static int
epoll_add_internal(const af_poll *p, int fd, unsigned how)
{
    struct epoll_event ev = {.events = EPOLLIN | how, .data.fd = fd};
    return epoll_ctl(p->fd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

/* epoll_pwait2 gives waits in nanoseconds; a seccomp filter or an old kernel refuses it, and a timerfd in the set does
   the same for two more system calls a wait. */
static int
epoll_probe(af_poll *p)
{
    struct timespec zero = {0, 0};
    struct epoll_event ev;
    if (syscall(SYS_epoll_pwait2, p->fd, &ev, 1, &zero, NULL, (size_t)0) >= 0) {
        p->has_pwait2 = 1;
        return 0;
    }
    p->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (p->timer_fd < 0) {
        return -errno;
    }
    return epoll_add_internal(p, p->timer_fd, 0);
}

AF_API int
af_poll_open(af_poll *p)
{
    int rc;
    p->wake_fd = p->timer_fd = -1;
    p->has_pwait2 = p->timer_armed = p->told = 0;
    p->most = AF_POLL_BATCH;
    p->fd = epoll_create1(EPOLL_CLOEXEC);
    if (p->fd < 0) {
        return -errno;
    }
    p->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (p->wake_fd < 0) {
        rc = -errno;
        goto fail;
    }
    rc = epoll_add_internal(p, p->wake_fd, EPOLLET);
    if (rc < 0) {
        goto fail;
    }
    rc = epoll_probe(p);
    if (rc < 0) {
        goto fail;
    }
    return 0;
fail:
    af_poll_close(p);
    return rc;
}

AF_API void
af_poll_close(af_poll *p)
{
    int *fds[] = {&p->timer_fd, &p->wake_fd, &p->fd};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        if (*fds[i] >= 0) {
            close(*fds[i]);
            *fds[i] = -1;
        }
    }
}

AF_API int
af_poll_update(af_poll *p, af_watcher *w)
{
    if (w->want == w->have) {
        return 0;
    }
    if (w->want == 0) {
        af_poll_forget(p, w);
        return 0;
    }
    struct epoll_event ev = {.data.fd = w->fd};
    ev.events = (w->want & AF_READ ? EPOLLIN : 0u) | (w->want & AF_WRITE ? EPOLLOUT : 0u);
    int op = w->have ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(p->fd, op, w->fd, &ev) < 0) {
        /* The fd was closed behind our back, which took it out of the set, and its number given out again; or it was
           registered by someone who then lost it.  Either way the kernel is told once more. */
        if (errno == ENOENT && op == EPOLL_CTL_MOD) {
            op = EPOLL_CTL_ADD;
        }
        else if (errno == EEXIST && op == EPOLL_CTL_ADD) {
            op = EPOLL_CTL_MOD;
        }
        else {
            return -errno;
        }
        if (epoll_ctl(p->fd, op, w->fd, &ev) < 0) {
            return -errno;
        }
    }
    w->have = w->want;
    return 0;
}

AF_API void
af_poll_forget(af_poll *p, af_watcher *w)
{
    if (w->have && p->fd >= 0) {
        struct epoll_event ev = {0};
        /* an fd that is closed already has left the set by itself: nothing to report */
        (void)epoll_ctl(p->fd, EPOLL_CTL_DEL, w->fd, &ev);
    }
    w->want = w->have = 0;
}

static int
epoll_sleep(af_poll *p, struct epoll_event *ev, int64_t timeout_ns)
{
    if (timeout_ns <= 0) {
        if (timeout_ns < 0 && p->timer_armed) {     /* by a wait that an event ended before its time */
            struct itimerspec off = {0};
            if (timerfd_settime(p->timer_fd, 0, &off, NULL) < 0) {
                return -1;
            }
            p->timer_armed = 0;
        }
        return epoll_wait(p->fd, ev, p->most, timeout_ns < 0 ? -1 : 0);
    }
    struct timespec ts = {.tv_sec = timeout_ns / AF_NS_PER_SEC, .tv_nsec = timeout_ns % AF_NS_PER_SEC};
    if (p->has_pwait2) {
        return (int)syscall(SYS_epoll_pwait2, p->fd, ev, p->most, &ts, NULL, (size_t)0);
    }
    struct itimerspec timer = {.it_value = ts};
    if (timerfd_settime(p->timer_fd, 0, &timer, NULL) < 0) {
        return -1;
    }
    p->timer_armed = 1;
    return epoll_wait(p->fd, ev, p->most, -1);
}

AF_API int
af_poll_wait(af_poll *p, af_event *events, int64_t timeout_ns)
{
    struct epoll_event ev[AF_POLL_BATCH];
    int n = epoll_sleep(p, ev, timeout_ns);
    p->told = n > 0;
    if (n < 0) {
        return -errno;
    }
    int count = 0;
    for (int i = 0; i < n; i++) {
        int fd = ev[i].data.fd;
        if (fd == p->wake_fd) {
            continue;
        }
        if (fd == p->timer_fd) {
            uint64_t ignored;
            /* nonblocking; EAGAIN means that it has been set anew meanwhile */
            if (read(fd, &ignored, sizeof(ignored)) < 0) {
                continue;
            }
            continue;
        }
        unsigned bits = ev[i].events, got = 0;
        got |= bits & ~(unsigned)EPOLLOUT ? AF_READ : 0;
        got |= bits & ~(unsigned)EPOLLIN ? AF_WRITE : 0;
        events[count++] = (af_event){fd, got};
    }
    return count;
}

AF_API void
af_poll_wake(af_poll *p)
{
    uint64_t one = 1, all;
    int saved = errno;
    /* fails only with EAGAIN, when it has counted to 2^64 - 2 */
    while (p->wake_fd >= 0 && write(p->wake_fd, &one, sizeof(one)) < 0 && errno == EAGAIN &&
           (read(p->wake_fd, &all, sizeof(all)) >= 0 || errno == EAGAIN)) {
    }
    errno = saved;
}

AF_API const char *
af_poll_name(void)
{
    return "epoll";
}

AF_API const char *
af_poll_timer_name(const af_poll *p)
{
    return p->has_pwait2 ? "epoll_pwait2" : "timerfd";
}
