/* Offsets of a frame's addresses and ports, for the filters and for fragments. */
#include "flow.h"

/* Filters parse a frame again: to pass on what classify() found would cost every frame, also without filters. */
struct flow flow_of(const uint8_t *frame, uint32_t length, bool tagged)
{
    return parse_flow(frame, length, tagged);
}
