/* Where the addresses and ports of a frame are. */
#include "flow.h"

/* For filters, which parse once more: handing them what classify() found would cost every frame, with filters or not. */
struct flow flow_of(const uint8_t *frame, uint32_t length, bool tagged)
{
    return parse_flow(frame, length, tagged);
}
