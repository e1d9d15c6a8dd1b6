/* The table behind the marks of hw/emulator/engine/phase.h, for phases.py. */
#include "nic.h"
#include "phase.h"
#include "ticks.h"

/* One thread steps the NIC. */
static struct phases {
    uint64_t last, ticks[PHASE_COUNT], marks[PHASE_COUNT];
} phases;

void phases_start(void)
{
    phases.last = counter();
}

void phase_ends(enum phase phase)
{
    uint64_t now = counter();
    phases.ticks[phase] += now - phases.last;
    phases.marks[phase]++;
    phases.last = now;
}

EXPORT void phases_clear(void)
{
    phases = (struct phases){0};
}

/* Copy ticks, then marks, of each phase. */
EXPORT void phases_read(uint64_t *to)
{
    for (int i = 0; i < PHASE_COUNT; i++)
        to[i] = phases.ticks[i], to[PHASE_COUNT + i] = phases.marks[i];
}

/* The least ticks that one mark takes, over many runs of marks. */
EXPORT double phases_mark_cost(void)
{
    enum { RUNS = 1000, MARKS = 100 };
    struct phases before = phases;
    uint64_t least = UINT64_MAX;
    for (int run = 0; run < RUNS; run++) {
        uint64_t start = counter();
        for (int i = 0; i < MARKS; i++)
            phase_ends(ROUND);
        uint64_t ticks = counter() - start;
        least = ticks < least ? ticks : least;
    }
    phases = before;
    return (double)least / MARKS;
}

EXPORT double phases_ticks_a_second(void)
{
    return counter_hz();
}
