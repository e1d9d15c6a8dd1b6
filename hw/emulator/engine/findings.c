/* Findings: errors that the engine notices, kept until Python explains them by its rules. */
#include "nic.h"

/* Keep a finding, if it is new and its kind has fewer than FINDINGS_PER_KIND. */
void report(struct nic *nic, enum finding_kind kind, uint32_t queue, uint64_t first, uint64_t second)
{
    nic->function->master_abort |= kind == FINDING_DMA_READ; /* writes are posted: they have no answer */
    uint32_t alike = 0;
    for (uint64_t i = 0; i < nic->finding_count && i < FINDINGS_KEPT; i++) {
        const struct finding *known = &nic->findings[i];
        alike += known->kind == kind;
        if (known->kind == kind && known->queue == queue && known->values[0] == first && known->values[1] == second)
            return;
    }
    if (alike >= FINDINGS_PER_KIND)
        return;
    if (nic->finding_count < FINDINGS_KEPT)
        nic->findings[nic->finding_count] = (struct finding){kind, queue, {first, second}};
    nic->finding_count++;
}

EXPORT uint64_t nic_finding_count(const struct nic *nic)
{
    return nic->finding_count;
}

EXPORT void nic_clear_findings(struct nic *nic)
{
    nic->finding_count = 0;
}

EXPORT const struct finding *nic_findings(const struct nic *nic)
{
    return nic->findings;
}
