#include "calls.h"
#include "changes.h"

#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static sigset_t before_fork; /* under the lock */

void begin_change(sigset_t *signals)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, signals);
    pthread_mutex_lock(&lock);
}

void end_change(const sigset_t *signals)
{
    pthread_mutex_unlock(&lock);
    pthread_sigmask(SIG_SETMASK, signals, NULL);
}

static void prepare(void)
{
    sigset_t signals;
    begin_change(&signals);
    before_fork = signals;
}

/* In both processes: the child's one thread is the one that has the lock. */
static void finish(void)
{
    sigset_t signals = before_fork;
    end_change(&signals);
}

void changes_setup(void)
{
    pthread_atfork(prepare, finish, finish);
}
