/* Marks that divide a step's time into phases: PHASE(X) says that the time since the last mark was spent in phase X.
 *
 * The shipped library has no marks. `python tests/bench/engine.py --phases` builds one that has them.
 */
#ifndef IXRINGS_PHASE_H
#define IXRINGS_PHASE_H

#ifdef IXRINGS_PHASES

/* In the order of PHASES in tests/bench/phases.py. */
enum phase {
    ROUND,          /* lock, settings, link, queues */
    TX_TAIL,        /* read of the tail register */
    TX_DESCRIPTORS, /* prefetch, fetch and checks of a frame's descriptors */
    TX_GATHER,      /* lookup of the frame's bytes, or their copy */
    TX_DECISION,    /* decision about offloads, padding */
    TX_COUNTERS,
    TX_WIRE,        /* the far end, without the phases of a receiver */
    TX_WRITE_BACK,
    RX_OFFER,       /* the wire's next frame */
    RX_CLASSIFY,    /* type, checksums, RSS */
    RX_ACCEPT,      /* lengths, filters, counters */
    RX_DESCRIPTOR,  /* prefetch and lookup */
    RX_COPY,
    RX_WRITE_BACK,
    RX_CAUSES,      /* queue counters, interrupt causes */
    MESSAGES,
    PHASE_COUNT,
};

/* tests/bench/phases.c */
void phases_start(void);
void phase_ends(enum phase phase);

#define PHASE_START() phases_start()
#define PHASE(phase) phase_ends(phase)
#else
#define PHASE_START() ((void)0)
#define PHASE(phase) ((void)0)
#endif

#endif
