/* When frames left, in byte times of the wire: a record that Python asks for and reads (departures.py). */
#include "nic.h"

/* Record the next `room` frames at `records`, memory of Python that outlives the record. NULL: record nothing. */
EXPORT void nic_record_departures(struct nic *nic, struct departure *records, uint64_t room)
{
    nic->departures = (struct departures){.records = records, .room = room};
}

/* How many frames have left since then; frames above `room` are counted, but not recorded. */
EXPORT uint64_t nic_departure_count(const struct nic *nic)
{
    return nic->departures.count;
}

/* A frame of queue `number` with `length` bytes, without CRC, is on the wire; tx_free_ps is the end of its time already.
 * An unpaced wire has no time of its own: there a frame begins where the one before ended. */
void record_departure(struct nic *nic, uint32_t number, uint32_t length, bool damaged)
{
    struct departures *departures = &nic->departures;
    uint64_t position = nic->paced ? (nic->tx_free_ps - wire_time_ps(length)) / PS_PER_BYTE : departures->bytes;
    departures->bytes += length + CRC + WIRE_OVERHEAD;
    if (departures->count < departures->room)
        departures->records[departures->count] = (struct departure){position, length + CRC, (uint16_t)number, damaged};
    departures->count++;
}
