/* Threads ask for the engine's lock one after the other. They are more than the bits by which the lock wakes them.
 * Prints the order in which they got it. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>

#include "freeze.c"

enum { THREADS = 70, ROUNDS = 20 };

static unsigned order[THREADS], count;

static void *ask(void *number)
{
    freeze_enter();
    order[count++] = *(unsigned *)number;
    freeze_leave();
    return NULL;
}

int main(void)
{
    for (unsigned round = 0; round < ROUNDS; round++) {
        pthread_t threads[THREADS];
        unsigned numbers[THREADS];
        count = 0;
        freeze_enter();
        for (unsigned i = 0; i < THREADS; i++) {
            unsigned before = atomic_load(&lock.next);
            numbers[i] = i;
            if (pthread_create(&threads[i], NULL, ask, &numbers[i]))
                return 1;
            while (atomic_load(&lock.next) == before) /* until the thread stands in the queue */
                sched_yield();
        }
        freeze_leave();
        freeze_enter(); /* asks again at once: behind all others */
        unsigned served = count;
        freeze_leave();
        for (unsigned i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        for (unsigned i = 0; i < THREADS; i++)
            if (order[i] != i || served != THREADS) {
                printf("round %u: thread %u was number %u; %u came before the holder\n", round, order[i], i, served);
                return 1;
            }
    }
    printf("%d rounds of %d threads in order\n", ROUNDS, THREADS);
    return 0;
}
