/* A program with a table of tests: PROGRAM PORT TEST. */
#ifndef TESTS_H
#define TESTS_H

#include "netmap.h"

#include <sys/epoll.h>

struct test {
    const char *name;
    void (*run)(void);
};

/* driver/daemon/test_run.py finds the tests by this word. */
#define TEST(function) {#function, function}
/* One that only another test runs. */
#define PART(function) {#function, function}

static const char *name; /* of the port */

static inline int run_test(int argc, char **argv, const struct test *tests, size_t count)
{
    name = argc == 3 ? argv[1] : "";
    for (size_t i = 0; argc == 3 && i < count; i++)
        if (!strcmp(argv[2], tests[i].name)) {
            tests[i].run();
            return 0;
        }
    fprintf(stderr, "usage: %s PORT TEST\n", argv[0]);
    return 2;
}

static inline short poll_once(int fd, short events, int ms)
{
    struct pollfd entry = {.fd = fd, .events = events};
    return poll(&entry, 1, ms) < 0 ? -1 : entry.revents;
}

static inline int events_of(int epoll, int ms)
{
    struct epoll_event event = {0};
    int n = epoll_wait(epoll, &event, 1, ms);
    return n < 1 ? n : (int)event.events;
}

#endif
