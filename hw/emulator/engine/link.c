/* Link (82599 3.7): a carrier, then training, then LINKS shows the link and LSC is raised. */
#include "engine.h"

static void link_set(struct nic *nic, bool up)
{
    const uint32_t ten_gigabit = 3u << F_LINKS_SPEED_SHIFT;
    nic->link_up = up;
    reg_store(nic, R_LINKS,
              F_LINKS_LINK_10G_SERIAL_EN_MASK | (up ? F_LINKS_LINK_UP_MASK | F_LINKS_LNK_STAT_MASK | ten_gigabit : 0));
    uint32_t status = reg_load(nic, R_STATUS) & ~F_STATUS_LINK_UP_MASK;
    reg_store(nic, R_STATUS, up ? status | F_STATUS_LINK_UP_MASK : status);
    raise_other_cause(nic, F_CAUSES_LSC_MASK);
    if (nic->wire.peer) /* else one end would send before the other receives */
        nic_link_update(nic->wire.peer);
}

static bool trained(const struct nic *nic)
{
    return nic_now(nic) - nic->link_training_since_ns >= nic->link_delay_ns;
}

/* A far end reports a fault while it trains, so both ends of a cable come up and go down together. */
EXPORT void nic_link_update(struct nic *nic)
{
    struct nic *peer = nic->wire.peer;
    bool forced = reg_load(nic, R_AUTOC) & F_AUTOC_FLU_MASK; /* up without the other end (8.2.3.22.19) */
    bool carrier = nic->cable_in && wire_has_far_end(nic);
    if (!carrier)
        nic->link_training_since_ns = nic_now(nic);
    bool up = forced || (carrier && trained(nic) && (!peer || trained(peer)));
    if (up != nic->link_up)
        link_set(nic, up);
}

/* Reset, or AUTOC.RESTART_AN: the link goes down and comes back. */
EXPORT void nic_link_train(struct nic *nic)
{
    nic->link_training_since_ns = nic_now(nic);
    if (nic->link_up)
        link_set(nic, false);
    nic_link_update(nic);
}

EXPORT void nic_set_cable(struct nic *nic, bool in)
{
    nic->cable_in = in;
}

EXPORT void nic_set_link_delay(struct nic *nic, uint64_t ns)
{
    nic->link_delay_ns = ns;
}
