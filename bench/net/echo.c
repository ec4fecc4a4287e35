/* The limit: an echo server on epoll that does nothing else.  A request costs one read and one write; an event loop has
 * to do that much, so the distance to it is what the loop and Python cost.
 *
 *     echo tcp|udp|unix:PATH [--cpu=N]
 *
 * Prints "READY " and the address that load.c takes, and serves until it is killed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 1024
#define EVENTS 512

struct conn {
    int fd;
    char *rest;                 /* what the socket did not take; until it does, nothing is read */
    size_t start, end;          /* of the part of it that is left */
};

static char buffer[256 * 1024];
static int poller;

static void
die(const char *what)
{
    perror(what);
    exit(1);
}

static void
watch(int operation, int fd, uint32_t events, struct conn *c)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, operation, fd, &event) < 0)
        die("epoll_ctl");
}

static void
conn_close(struct conn *c)
{
    close(c->fd);
    free(c->rest);
    free(c);
}

static void
conn_accept(int listener, int tcp)
{
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct conn *c = calloc(1, sizeof *c);
        if (c == NULL)
            die("calloc");
        c->fd = fd;
        if (tcp && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0)
            die("TCP_NODELAY");
        watch(EPOLL_CTL_ADD, fd, EPOLLIN, c);
    }
    if (errno != EAGAIN && errno != ECONNABORTED)
        die("accept4");
}

static void
conn_echo(struct conn *c)
{
    ssize_t n = read(c->fd, buffer, sizeof buffer);
    if (n < 0 && errno == EAGAIN)
        return;
    ssize_t sent = n > 0 ? write(c->fd, buffer, (size_t)n) : -1;
    if (n > 0 && sent < 0 && errno == EAGAIN)
        sent = 0;
    if (sent < 0) {
        conn_close(c);
        return;
    }
    if (sent == n)
        return;
    c->start = 0;
    c->end = (size_t)(n - sent);
    c->rest = malloc(c->end);
    if (c->rest == NULL)
        die("malloc");
    memcpy(c->rest, buffer + sent, c->end);
    watch(EPOLL_CTL_MOD, c->fd, EPOLLOUT, c);
}

static void
conn_flush(struct conn *c)
{
    ssize_t sent = write(c->fd, c->rest + c->start, c->end - c->start);
    if (sent < 0) {
        if (errno != EAGAIN)
            conn_close(c);
        return;
    }
    c->start += (size_t)sent;
    if (c->start < c->end)
        return;
    free(c->rest);
    c->rest = NULL;
    watch(EPOLL_CTL_MOD, c->fd, EPOLLIN, c);
}

static void
datagrams_echo(int fd)
{
    struct sockaddr_in peer;
    for (;;) {
        socklen_t length = sizeof peer;
        ssize_t n = recvfrom(fd, buffer, sizeof buffer, 0, (struct sockaddr *)&peer, &length);
        if (n < 0 && errno == EAGAIN)
            return;
        /* a datagram that does not go out is lost, as datagrams may be */
        if (n >= 0)
            sendto(fd, buffer, (size_t)n, 0, (struct sockaddr *)&peer, length);
    }
}

/* A non-blocking socket, bound to `address`, with the address printed. */
static int
serve(const char *address)
{
    int udp = !strcmp(address, "udp"), local = !strncmp(address, "unix:", 5), room = 4 << 20;
    int fd = socket(local ? AF_UNIX : AF_INET, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK, 0);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    socklen_t length = sizeof in;

    if (fd < 0)
        die("socket");
    if (local)
        strncpy(un.sun_path, address + 5, sizeof un.sun_path - 1);
    if ((local ? bind(fd, (struct sockaddr *)&un, sizeof un) : bind(fd, (struct sockaddr *)&in, sizeof in)) < 0)
        die("bind");
    /* one socket takes the datagrams of all clients: with the usual room some of them would be lost */
    if (udp ? setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room) < 0 : listen(fd, BACKLOG) < 0)
        die(udp ? "SO_RCVBUF" : "listen");
    if (local) {
        printf("READY %s\n", address);
    } else {
        if (getsockname(fd, (struct sockaddr *)&in, &length) < 0)
            die("getsockname");
        printf("READY %s:%d\n", address, ntohs(in.sin_port));
    }
    fflush(stdout);
    return fd;
}

static void
pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0)
        die("--cpu");
}

int
main(int argc, char **argv)
{
    struct epoll_event events[EVENTS];
    if (argc < 2 || argc > 3 || (argc == 3 && strncmp(argv[2], "--cpu=", 6))
        || (strcmp(argv[1], "tcp") && strcmp(argv[1], "udp") && strncmp(argv[1], "unix:", 5))) {
        fprintf(stderr, "usage: echo tcp|udp|unix:PATH [--cpu=N]\n");
        return 2;
    }
    if (argc == 3)
        pin(atoi(argv[2] + 6));
    int udp = !strcmp(argv[1], "udp"), tcp = !strcmp(argv[1], "tcp");
    signal(SIGPIPE, SIG_IGN);
    poller = epoll_create1(0);
    if (poller < 0)
        die("epoll_create1");
    int fd = serve(argv[1]);
    watch(EPOLL_CTL_ADD, fd, EPOLLIN, NULL);

    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS, -1);
        if (ready < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < ready; i++) {
            struct conn *c = events[i].data.ptr;
            if (c != NULL)
                c->rest ? conn_flush(c) : conn_echo(c);
            else if (udp)
                datagrams_echo(fd);
            else
                conn_accept(fd, tcp);
        }
    }
}
