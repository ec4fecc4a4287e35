/* sys/poller.h as sys/epoll.c has it, against poll(2).  All of it runs twice: with epoll_pwait2, if the kernel has it,
   and with the timerfd that stands in for it. */
#include "check.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>

static int refuse_pwait2;
static int calls;               /* of epoll_ctl */

/* epoll_pwait2 is the one thing that the source calls so */
#define syscall(...) (refuse_pwait2 ? (errno = ENOSYS, -1L) : syscall(__VA_ARGS__))
#define epoll_ctl(...) (calls++, epoll_ctl(__VA_ARGS__))
#include "sys/epoll.c"
#undef syscall
#undef epoll_ctl

#include "sys/clock.h"

/* ---- helpers --------------------------------------------------------------------------------------------------- */

static void
open_poll(af_poll *p)
{
    CHECK_EQ(af_poll_open(p), 0);
}

enum { MOST_DESCRIPTORS = 1024 };

static int
is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static int
count_descriptors(void)
{
    int n = 0;
    for (int fd = 0; fd < MOST_DESCRIPTORS; fd++) {
        n += is_open(fd);
    }
    return n;
}

/* The limit under which that many more can be opened. */
static int
limit_that_leaves(int n)
{
    int fd = 0;
    for (; n > 0; fd++) {
        n -= !is_open(fd);
    }
    return fd;
}

typedef struct {
    int a, b;
} ends;

static ends
open_pipe(void)
{
    int fds[2];
    CHECK_EQ(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
    return (ends){fds[0], fds[1]};
}

static ends
open_sockets(void)
{
    int fds[2], small = 1;
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    }
    return (ends){fds[0], fds[1]};
}

static void
close_fd(int fd)
{
    CHECK_EQ(close(fd), 0);
}

static void
close_ends(ends e)
{
    close_fd(e.a);
    close_fd(e.b);
}

/* Another pair, the watched end of which has the same number. */
static void
open_again(ends *e)
{
    ends f = open_sockets();
    CHECK_EQ(dup2(f.a, e->a), e->a);
    close_fd(f.a);
    if (e->b >= 0) {
        close_fd(e->b);
    }
    e->b = f.b;
}

static void
put(int fd)
{
    CHECK_EQ(write(fd, "x", 1), 1);
}

static void
drain(int fd)
{
    char bytes[4096];
    while (read(fd, bytes, sizeof(bytes)) > 0) {
        continue;
    }
}

static void
stuff(int fd)
{
    char bytes[512] = {0};
    while (send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL) > 0) {
        continue;
    }
}

static int
index_of(const af_watcher *watchers, int n, int fd)
{
    for (int i = 0; i < n; i++) {
        if (watchers[i].fd == fd) {
            return i;
        }
    }
    CHECK(!"an event of nobody's");
    return 0;
}

/* Look, for as long as there may be something new, and say what of it was for the watcher. */
static unsigned
events_of(af_poll *p, const af_watcher *w)
{
    af_event events[AF_POLL_BATCH];
    unsigned got = 0;
    for (int look = 0; look < 256 / AF_POLL_BATCH + 1; look++) {
        int n = af_poll_wait(p, events, 0);
        CHECK(n >= 0 && n <= AF_POLL_BATCH);
        for (int i = 0; i < n; i++) {
            CHECK(events[i].events != 0);
            got |= events[i].fd == w->fd ? events[i].events : 0;
        }
    }
    return got;
}

static void
want(af_poll *p, af_watcher *w, unsigned what)
{
    w->want = what;
    CHECK_EQ(af_poll_update(p, w), 0);
    CHECK_EQ(w->have, what);
}

/* Nothing happens for that long. */
static void
check_quiet(af_poll *p, int64_t ns)
{
    af_event events[AF_POLL_BATCH];
    int64_t start = af_clock_ns();
    CHECK_EQ(af_poll_wait(p, events, ns), 0);
    CHECK(af_clock_ns() - start >= ns);
}

/* ---- opening and closing --------------------------------------------------------------------------------------- */

static void
test_open_and_close(void)
{
    int before = count_descriptors();
    af_poll p;
    open_poll(&p);
    int fds[] = {p.fd, p.wake_fd, p.timer_fd};
    CHECK_EQ(count_descriptors(), before + (p.has_pwait2 ? 2 : 3));
    CHECK_EQ(p.timer_fd < 0, p.has_pwait2);
    CHECK(!(refuse_pwait2 && p.has_pwait2));
    for (int i = 0; i < (p.has_pwait2 ? 2 : 3); i++) {
        CHECK(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
        CHECK(i == 0 || fcntl(fds[i], F_GETFL) & O_NONBLOCK);
    }
    CHECK(strcmp(af_poll_name(), "epoll") == 0);
    CHECK(strcmp(af_poll_timer_name(&p), p.has_pwait2 ? "epoll_pwait2" : "timerfd") == 0);
    for (int again = 0; again < 2; again++) {
        af_poll_close(&p);
        CHECK(p.fd == -1 && p.wake_fd == -1 && p.timer_fd == -1);
        CHECK_EQ(count_descriptors(), before);
        af_poll_wake(&p);       /* too late, and no harm */
    }
    af_watcher w = {.fd = 0, .want = AF_READ, .have = AF_READ};
    af_poll_forget(&p, &w);
    CHECK(w.want == 0 && w.have == 0);
}

static void
test_open_without_descriptors(void)
{
    struct rlimit limit, tight;
    int before = count_descriptors(), rc, left = 0;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    do {
        af_poll p;
        tight = limit;
        tight.rlim_cur = (rlim_t)limit_that_leaves(left);
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
        rc = af_poll_open(&p);
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
        if (rc == 0) {
            CHECK_EQ(left, p.has_pwait2 ? 2 : 3);
            af_poll_close(&p);
        }
        CHECK(rc == 0 || rc == -EMFILE);
        CHECK(p.fd == -1 && p.wake_fd == -1 && p.timer_fd == -1);
        CHECK_EQ(count_descriptors(), before);
        left++;
    } while (rc < 0);
}

/* ---- what is ready --------------------------------------------------------------------------------------------- */

static void
test_readable(void)
{
    af_poll p;
    open_poll(&p);
    ends e = open_pipe();
    af_watcher w = {.fd = e.a};
    want(&p, &w, AF_READ);
    CHECK_EQ(events_of(&p, &w), 0);
    put(e.b);
    put(e.b);
    for (int again = 0; again < 3; again++) {
        CHECK_EQ(events_of(&p, &w), AF_READ);
    }
    char byte;
    CHECK_EQ(read(e.a, &byte, 1), 1);
    CHECK_EQ(events_of(&p, &w), AF_READ);       /* there is one left */
    drain(e.a);
    CHECK_EQ(events_of(&p, &w), 0);
    put(e.b);
    want(&p, &w, 0);
    CHECK_EQ(events_of(&p, &w), 0);
    want(&p, &w, AF_READ);
    CHECK_EQ(events_of(&p, &w), AF_READ);
    af_poll_forget(&p, &w);
    CHECK(w.want == 0 && w.have == 0);
    CHECK_EQ(events_of(&p, &w), 0);
    close_ends(e);
    af_poll_close(&p);
}

static void
test_writable(void)
{
    af_poll p;
    open_poll(&p);
    ends e = open_sockets();
    af_watcher w = {.fd = e.a};
    want(&p, &w, AF_WRITE);
    CHECK_EQ(events_of(&p, &w), AF_WRITE);
    stuff(e.a);
    CHECK_EQ(events_of(&p, &w), 0);
    put(e.b);
    CHECK_EQ(events_of(&p, &w), 0);             /* readable, but nobody asked */
    drain(e.b);
    CHECK_EQ(events_of(&p, &w), AF_WRITE);
    want(&p, &w, AF_READ | AF_WRITE);
    CHECK_EQ(events_of(&p, &w), AF_READ | AF_WRITE);
    want(&p, &w, AF_READ);
    CHECK_EQ(events_of(&p, &w), AF_READ);
    drain(e.a);
    CHECK_EQ(events_of(&p, &w), 0);
    want(&p, &w, AF_WRITE);
    CHECK_EQ(events_of(&p, &w), AF_WRITE);
    af_poll_forget(&p, &w);
    close_ends(e);
    af_poll_close(&p);
}

/* One call for a change, none for none. */
static void
test_the_kernel_is_told_of_changes_only(void)
{
    static const unsigned masks[] = {AF_READ, AF_READ | AF_WRITE, AF_WRITE, 0, AF_READ | AF_WRITE, AF_READ, 0};
    af_poll p;
    open_poll(&p);
    ends e = open_sockets();
    af_watcher w = {.fd = e.a};
    calls = 0;
    want(&p, &w, 0);
    af_poll_forget(&p, &w);
    CHECK_EQ(calls, 0);
    for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
        want(&p, &w, masks[i]);
        CHECK_EQ(calls, i + 1);
        want(&p, &w, masks[i]);
        CHECK_EQ(calls, i + 1);
    }
    close_ends(e);
    af_poll_close(&p);
}

static void
test_hang_up_and_error_are_both(void)
{
    af_poll p;
    open_poll(&p);
    for (unsigned mask = AF_READ; mask <= (AF_READ | AF_WRITE); mask++) {
        ends e = open_sockets();
        af_watcher w = {.fd = e.a};
        want(&p, &w, mask);
        CHECK_EQ(shutdown(e.b, SHUT_WR), 0);    /* only the end of what there is to read */
        CHECK_EQ(events_of(&p, &w), mask);
        close_fd(e.b);
        CHECK_EQ(events_of(&p, &w), AF_READ | AF_WRITE);
        af_poll_forget(&p, &w);
        close_fd(e.a);
    }
    ends e = open_pipe();
    af_watcher w = {.fd = e.b};
    want(&p, &w, AF_WRITE);
    close_fd(e.a);
    CHECK_EQ(events_of(&p, &w), AF_READ | AF_WRITE);
    af_poll_forget(&p, &w);
    close_fd(e.b);
    e = open_pipe();
    w.fd = e.a;
    want(&p, &w, AF_READ);
    close_fd(e.b);
    CHECK_EQ(events_of(&p, &w), AF_READ | AF_WRITE);
    af_poll_forget(&p, &w);
    close_fd(e.a);
    af_poll_close(&p);
}

/* More than one wait can give: no wait gives more, and none is passed over. */
static void
test_many_are_ready(void)
{
    enum { MANY = 300 };
    static af_watcher watchers[MANY];
    static int seen[MANY];
    af_event events[AF_POLL_BATCH];
    int first = 0;
    memset(seen, 0, sizeof(seen));
    af_poll p;
    open_poll(&p);
    for (int i = 0; i < MANY; i++) {
        watchers[i] = (af_watcher){.fd = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC)};
        CHECK(watchers[i].fd >= 0);
        want(&p, &watchers[i], AF_READ);
    }
    for (int look = 0; look < 2 * (MANY / AF_POLL_BATCH + 1); look++) {
        int n = af_poll_wait(&p, events, -1);
        CHECK(n > 0 && n <= AF_POLL_BATCH);
        first = look == 0 ? n : first;
        for (int i = 0; i < n; i++) {
            CHECK_EQ(events[i].events, AF_READ);
            seen[index_of(watchers, MANY, events[i].fd)]++;
        }
    }
    CHECK_EQ(first, AF_POLL_BATCH);
    for (int i = 0; i < MANY; i++) {
        CHECK(seen[i] > 0);
        af_poll_forget(&p, &watchers[i]);
        close_fd(watchers[i].fd);
    }
    CHECK_EQ(af_poll_wait(&p, events, 0), 0);
    af_poll_close(&p);
}

/* ---- descriptors that come and go ------------------------------------------------------------------------------ */

static void
test_what_cannot_be_watched(void)
{
    af_poll p;
    open_poll(&p);
    FILE *file = tmpfile();
    CHECK(file != NULL);
    ends e = open_pipe();
    close_ends(e);
    struct { int fd, rc; } bad[] = {{fileno(file), -EPERM}, {e.a, -EBADF}, {-1, -EBADF}, {p.fd, -EINVAL}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        af_watcher w = {.fd = bad[i].fd, .want = AF_READ};
        CHECK_EQ(af_poll_update(&p, &w), bad[i].rc);
        CHECK_EQ(w.have, 0);
        w.want = 0;
        CHECK_EQ(af_poll_update(&p, &w), 0);
    }
    fclose(file);
    af_poll_close(&p);
}

static void
test_closed_while_watched(void)
{
    af_poll p;
    open_poll(&p);
    for (int how = 0; how < 3; how++) {
        ends e = open_sockets();
        af_watcher w = {.fd = e.a};
        want(&p, &w, AF_READ | AF_WRITE);
        CHECK_EQ(events_of(&p, &w), AF_WRITE);
        close_fd(e.a);
        CHECK_EQ(events_of(&p, &w), 0);
        if (how == 0) {
            w.want = AF_READ;
            CHECK_EQ(af_poll_update(&p, &w), -EBADF);
            CHECK_EQ(w.have, AF_READ | AF_WRITE);
        }
        if (how == 1) {
            want(&p, &w, 0);
        }
        af_poll_forget(&p, &w);
        CHECK(w.want == 0 && w.have == 0);
        close_fd(e.b);
    }
    af_poll_close(&p);
}

/* The number of a closed descriptor is given out again, as soon as there is need of one. */
static void
test_closed_and_opened_again(void)
{
    af_poll p;
    open_poll(&p);
    for (int how = 0; how < 3; how++) {
        ends e = open_sockets();
        af_watcher w = {.fd = e.a};
        want(&p, &w, AF_READ);
        open_again(&e);
        put(e.b);
        CHECK_EQ(events_of(&p, &w), 0);         /* the kernel has not been told of this one */
        if (how == 0) {
            want(&p, &w, AF_READ | AF_WRITE);
            CHECK_EQ(events_of(&p, &w), AF_READ | AF_WRITE);
        }
        else if (how == 1) {
            want(&p, &w, 0);
            want(&p, &w, AF_READ);
            CHECK_EQ(events_of(&p, &w), AF_READ);
        }
        else {
            af_poll_forget(&p, &w);
            want(&p, &w, AF_READ);
            CHECK_EQ(events_of(&p, &w), AF_READ);
        }
        af_poll_forget(&p, &w);
        close_ends(e);
    }
    af_poll_close(&p);
}

/* The kernel knows the descriptor, but the watcher that it knows it by is lost. */
static void
test_watched_by_another(void)
{
    af_poll p;
    open_poll(&p);
    ends e = open_sockets();
    af_watcher lost = {.fd = e.a}, w = {.fd = e.a};
    want(&p, &lost, AF_READ);
    want(&p, &w, AF_WRITE);
    CHECK_EQ(events_of(&p, &w), AF_WRITE);
    af_poll_forget(&p, &w);
    CHECK_EQ(events_of(&p, &w), 0);
    close_ends(e);
    af_poll_close(&p);
}

/* ---- any sequence of calls, against poll(2) -------------------------------------------------------------------- */

static unsigned
poll_events(const af_watcher *w)
{
    struct pollfd pfd = {.fd = w->fd};
    pfd.events = (short)((w->want & AF_READ ? POLLIN : 0) | (w->want & AF_WRITE ? POLLOUT : 0));
    CHECK(poll(&pfd, 1, 0) >= 0);
    return (pfd.revents & ~POLLOUT ? AF_READ : 0u) | (pfd.revents & ~POLLIN ? AF_WRITE : 0u);
}

static void
test_as_poll(void)
{
    enum { PAIRS = 12, STEPS = 3000 };
    ends pairs[PAIRS];
    af_watcher watchers[PAIRS];
    af_event events[AF_POLL_BATCH];
    af_poll p;
    open_poll(&p);
    for (int i = 0; i < PAIRS; i++) {
        pairs[i] = open_sockets();
        watchers[i] = (af_watcher){.fd = pairs[i].a};
    }
    for (int step = 0; step < STEPS; step++) {
        int i = (int)any_below(PAIRS);
        af_watcher *w = &watchers[i];
        ends *e = &pairs[i];
        switch (any_below(12)) {
        case 0:
            drain(e->a);
            break;
        case 1:
            stuff(e->a);
            break;
        case 2:
            if (e->b >= 0) {
                drain(e->b);
            }
            break;
        case 3:
            if (e->b >= 0 && any_below(3) == 0) {
                close_fd(e->b);
                e->b = -1;
            }
            break;
        case 4:
            if (e->b >= 0 && any_below(3) == 0) {
                CHECK_EQ(shutdown(e->b, SHUT_WR), 0);
            }
            break;
        case 5:
            /* the watcher hears of it before or after */
            if (any_below(2)) {
                af_poll_forget(&p, w);
            }
            open_again(e);
            if (w->have) {
                want(&p, w, w->have % 3 + 1);
            }
            break;
        case 6:
            af_poll_forget(&p, w);
            break;
        case 7:
        case 8:
            if (e->b >= 0) {
                (void)!send(e->b, "x", 1, MSG_NOSIGNAL);
            }
            break;
        default:
            want(&p, w, (unsigned)any_below(4));
        }
        unsigned got[PAIRS] = {0};
        for (int look = 0; look < (AF_POLL_BATCH == 1 ? 2 * PAIRS : 1); look++) {
            int n = af_poll_wait(&p, events, 0);
            CHECK(n >= 0);
            for (int k = 0; k < n; k++) {
                got[index_of(watchers, PAIRS, events[k].fd)] |= events[k].events;
            }
        }
        for (int k = 0; k < PAIRS; k++) {
            CHECK_EQ(got[k], watchers[k].want ? poll_events(&watchers[k]) : 0);
        }
    }
    for (int i = 0; i < PAIRS; i++) {
        af_poll_forget(&p, &watchers[i]);
        close_fd(pairs[i].a);
        if (pairs[i].b >= 0) {
            close_fd(pairs[i].b);
        }
    }
    af_poll_close(&p);
}

/* ---- time ------------------------------------------------------------------------------------------------------ */

static void
test_never_early(void)
{
    static const int64_t around[] = {1, 2, 999, 1000, 1001, 499999, 500000, 999999, 1000000, 1000001, 1999999, 2000001};
    af_poll p;
    open_poll(&p);
    for (size_t i = 0; i < sizeof(around) / sizeof(around[0]); i++) {
        check_quiet(&p, around[i]);
    }
    for (int i = 0; i < 200; i++) {
        check_quiet(&p, 1 + (int64_t)any_below(i % 10 ? 200000 : 3000000));
    }
    check_quiet(&p, 0);
    af_poll_close(&p);
}

/* A wait that something else ended leaves nothing behind that would end the next one early. */
static void
test_never_early_after_one_that_was_cut_short(void)
{
    af_poll p;
    open_poll(&p);
    ends e = open_pipe();
    af_event events[AF_POLL_BATCH];
    af_watcher w = {.fd = e.a};
    want(&p, &w, AF_READ);
    for (int i = 0; i < 20; i++) {
        put(e.b);
        while (af_poll_wait(&p, events, 1000000) == 0) {    /* with room for one event the timer may come first */
            continue;
        }
        CHECK(events[0].fd == w.fd && events[0].events == AF_READ);
        drain(e.a);
        if (i % 2) {
            check_quiet(&p, 0);
        }
        check_quiet(&p, 1500000);
    }
    af_poll_forget(&p, &w);
    close_ends(e);
    af_poll_close(&p);
}

/* Times are not rounded up to milliseconds.  On a busy machine one wait may take for ever, but some one does not. */
static void
test_a_wait_may_be_shorter_than_a_millisecond(void)
{
    af_poll p;
    open_poll(&p);
    af_event events[AF_POLL_BATCH];
    int64_t start, took, giving_up = af_clock_ns() + 10 * AF_NS_PER_SEC;
    do {
        start = af_clock_ns();
        CHECK_EQ(af_poll_wait(&p, events, 20000), 0);
        took = af_clock_ns() - start;
        CHECK(af_clock_ns() < giving_up);
    } while (took >= 900000);
    af_poll_close(&p);
}

static void
test_long_waits_are_taken(void)
{
    static const int64_t lengths[] = {-1, INT64_MIN, INT64_MAX, INT64_MAX - 1, INT64_C(9000000000) * 1000000000,
                                      INT64_C(4294967296) * 1000000, AF_NS_PER_SEC, AF_NS_PER_SEC * 2 - 1};
    af_poll p;
    open_poll(&p);
    ends e = open_pipe();
    af_event events[AF_POLL_BATCH];
    af_watcher w = {.fd = e.a};
    want(&p, &w, AF_READ);
    put(e.b);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        CHECK_EQ(af_poll_wait(&p, events, lengths[i]), 1);
    }
    af_poll_forget(&p, &w);
    close_ends(e);
    af_poll_close(&p);
}

/* ---- being woken ----------------------------------------------------------------------------------------------- */

static void
test_woken(void)
{
    af_poll p;
    open_poll(&p);
    af_event events[AF_POLL_BATCH];
    for (int i = 0; i < 4; i++) {
        for (int wakes = 0; wakes < 1 + 100 * i; wakes++) {
            errno = 77;
            af_poll_wake(&p);
            CHECK_EQ(errno, 77);
        }
        CHECK_EQ(af_poll_wait(&p, events, -1), 0);
        check_quiet(&p, 1000000);       /* however many wake-ups there were, they are over */
    }
    af_poll_close(&p);
}

static void
test_woken_more_often_than_can_be_counted(void)
{
    af_poll p;
    open_poll(&p);
    af_event events[AF_POLL_BATCH];
    for (int i = 0; i < 3; i++) {
        uint64_t all, most = UINT64_MAX - 1;
        if (read(p.wake_fd, &all, sizeof(all)) < 0) {
            CHECK_EQ(errno, EAGAIN);
        }
        CHECK_EQ(write(p.wake_fd, &most, sizeof(most)), (ssize_t)sizeof(most));
        CHECK_EQ(af_poll_wait(&p, events, -1), 0);
        errno = 77;
        af_poll_wake(&p);
        CHECK_EQ(errno, 77);
        CHECK_EQ(af_poll_wait(&p, events, -1), 0);
        check_quiet(&p, 1000000);
    }
    af_poll_close(&p);
}

/* A wake-up is not an event, and keeps none from being seen. */
static void
test_woken_while_others_are_ready(void)
{
    af_poll p;
    open_poll(&p);
    ends e = open_pipe();
    af_watcher w = {.fd = e.a};
    want(&p, &w, AF_READ);
    put(e.b);
    for (int i = 0; i < 10; i++) {
        af_poll_wake(&p);
        CHECK_EQ(events_of(&p, &w), AF_READ);
    }
    drain(e.a);
    check_quiet(&p, 1000000);
    af_poll_forget(&p, &w);
    close_ends(e);
    af_poll_close(&p);
}

static af_poll *interrupted;

static void
wake_from_signal(int sig)
{
    (void)sig;
    if (interrupted != NULL) {
        af_poll_wake(interrupted);
    }
}

static void
alarms(int64_t first_us, int64_t every_us)
{
    struct sigaction action = {.sa_handler = wake_from_signal, .sa_flags = SA_RESTART};
    struct itimerval timer = {{.tv_usec = every_us}, {.tv_usec = first_us}};
    CHECK_EQ(sigaction(SIGALRM, &action, NULL), 0);
    CHECK_EQ(setitimer(ITIMER_REAL, &timer, NULL), 0);
}

static void
test_a_signal_ends_the_wait(void)
{
    af_poll p;
    open_poll(&p);
    af_event events[AF_POLL_BATCH];
    for (int i = 0; i < 6; i++) {
        alarms(1000, 1000);     /* again and again: the first one may come too soon */
        CHECK_EQ(af_poll_wait(&p, events, i % 2 ? -1 : 100 * AF_NS_PER_SEC), -EINTR);
        alarms(0, 0);
    }
    check_quiet(&p, 1000000);
    af_poll_close(&p);
}

static void
test_woken_by_a_signal_handler(void)
{
    af_poll p;
    open_poll(&p);
    af_event events[AF_POLL_BATCH];
    interrupted = &p;
    for (int i = 0; i < 20; i++) {
        alarms(1 + (int64_t)any_below(500), 0);
        int n = af_poll_wait(&p, events, -1);
        CHECK(n == 0 || n == -EINTR);
        if (n < 0) {
            CHECK_EQ(af_poll_wait(&p, events, -1), 0);
        }
    }
    interrupted = NULL;
    check_quiet(&p, 1000000);
    af_poll_close(&p);
}

/* ---------------------------------------------------------------------------------------------------------------- */

int
main(int argc, char **argv)
{
    check_begin(argc, argv);
    for (refuse_pwait2 = 0; refuse_pwait2 < 2; refuse_pwait2++) {
        af_poll p;
        open_poll(&p);
        printf("%s\n", af_poll_timer_name(&p));
        af_poll_close(&p);
        int before = count_descriptors();
        RUN(test_open_and_close);
        RUN(test_open_without_descriptors);
        RUN(test_readable);
        RUN(test_writable);
        RUN(test_the_kernel_is_told_of_changes_only);
        RUN(test_hang_up_and_error_are_both);
        RUN(test_many_are_ready);
        RUN(test_what_cannot_be_watched);
        RUN(test_closed_while_watched);
        RUN(test_closed_and_opened_again);
        RUN(test_watched_by_another);
        RUN(test_as_poll);
        RUN(test_never_early);
        RUN(test_never_early_after_one_that_was_cut_short);
        RUN(test_a_wait_may_be_shorter_than_a_millisecond);
        RUN(test_long_waits_are_taken);
        RUN(test_woken);
        RUN(test_woken_more_often_than_can_be_counted);
        RUN(test_woken_while_others_are_ready);
        RUN(test_a_signal_ends_the_wait);
        RUN(test_woken_by_a_signal_handler);
        CHECK_EQ(count_descriptors(), before);
    }
    return 0;
}
