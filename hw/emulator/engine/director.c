/* Flow director (82599 7.1.2.7): a table of filters in a part of the packet buffer, changed through FDIRCMD. A hash
 * of the frame's fields selects a bucket; there a signature filter compares a second hash, a perfect one the fields. */
#include <stdlib.h>
#include <string.h>

#include "receive.h"

enum {
    RSS_TYPE_DIRECTOR = 0xF,
    ADD = 1,
    REMOVE = 2,
    QUERY = 3, /* FDIRCMD.CMD */
    RESERVED_FILTERS = 2, /* of each table (7.1.2.7.2) */
    PERFECT_FILTERS = 1024,
    SIGNATURE_FILTERS = 4096, /* doubled by each step of PBALLOC */
    FLOW_TYPE_IPV6 = 4,
};

/* A frame's fields as in the filter registers: addresses and flexible bytes in wire order, the others as numbers. */
struct fields {
    uint32_t type, source, destination, ports, vlan, flex; /* type: FDIRCMD's IPV6 and L4TYPE */
};

/* ---- table ---- */

static uint32_t hash_bits(const struct director *director)
{
    return F_FDIRHASH_SIGNATURE_SW_INDEX_MASK | director->bucket_mask;
}

/* The link to the filter with this hash and signature (or software index), or the link that ends its bucket.
 * ASSUMPTION (datasheet silent): these identify a filter in perfect mode too, because a command to remove one gives
 * nothing else. */
static uint16_t *find(struct director *director, uint32_t hash)
{
    uint16_t *link = &director->buckets[hash & director->bucket_mask];
    while (*link && director->filters[*link].hash != hash)
        link = &director->filters[*link].next;
    return link;
}

void director_close(struct nic *nic)
{
    free(nic->director.filters);
    free(nic->director.buckets);
    nic->director = (struct director){0};
}

/* FDIRCTRL was written: make an empty table of the size in PBALLOC.
 * ASSUMPTION (datasheet silent): every write initialises the table, and at once, because no source gives the time
 * that it takes. */
EXPORT void nic_director_init(struct nic *nic)
{
    uint32_t control = reg_load(nic, R_FDIRCTRL) & ~F_FDIRCTRL_INIT_DONE_MASK, size = control & F_FDIRCTRL_PBALLOC_MASK;
    struct director *director = &nic->director;
    director_close(nic);
    if (size) {
        uint32_t buckets = (control & F_FDIRCTRL_PERFECT_MATCH_MASK ? PERFECT_FILTERS : SIGNATURE_FILTERS) << size;
        director->bucket_mask = buckets - 1;
        director->capacity = buckets - RESERVED_FILTERS;
        director->buckets = calloc(buckets, sizeof *director->buckets);
        director->filters = calloc(buckets, sizeof *director->filters);
        if (!director->buckets || !director->filters) { /* INIT_DONE stays 0 */
            director_close(nic);
            return;
        }
        for (uint32_t i = 1; i <= director->capacity; i++)
            director->filters[i].next = i < director->capacity ? (uint16_t)(i + 1) : 0;
        director->unused = 1;
    }
    reg_store(nic, R_FDIRFREE, director->capacity);
    reg_store(nic, R_FDIRCTRL, control | F_FDIRCTRL_INIT_DONE_MASK);
}

/* ---- commands (8.2.3.21.22) ---- */

/* Increment a field of FDIRUSTAT or FDIRFSTAT, which stay at their maximum. */
static void count(struct nic *nic, uint32_t offset, uint32_t mask)
{
    uint32_t value = reg_load(nic, offset);
    if ((value & mask) != mask)
        reg_store(nic, offset, value + (mask & -mask));
}

static void fill(const struct nic *nic, struct director_filter *filter, uint32_t hash, uint32_t command)
{
    filter->hash = hash, filter->command = command;
    filter->source = reg_load(nic, R_FDIRIPSA), filter->destination = reg_load(nic, R_FDIRIPDA);
    filter->ports = reg_load(nic, R_FDIRPORT), filter->vlan_flex = reg_load(nic, R_FDIRVLAN);
}

/* Returns the bits that FDIRCMD then shows. */
static uint32_t add_filter(struct nic *nic, uint32_t hash, uint32_t command)
{
    struct director *director = &nic->director;
    uint16_t *link = find(director, hash);
    if (*link) { /* it exists: replace it if FILTER_UPDATE is set */
        if (command & F_FDIRCMD_FILTER_UPDATE_MASK)
            fill(nic, &director->filters[*link], hash, command);
        return F_FDIRCMD_COLLISION_MASK;
    }
    if (!director->unused) {
        count(nic, R_FDIRFSTAT, F_FDIRFSTAT_FADD_MASK);
        return 0;
    }
    struct director_filter *filter = &director->filters[director->unused];
    *link = director->unused;
    director->unused = filter->next;
    filter->next = 0;
    fill(nic, filter, hash, command);
    director->count++;
    count(nic, R_FDIRUSTAT, F_FDIRUSTAT_ADD_MASK);
    return 0;
}

static void remove_filter(struct nic *nic, uint32_t hash)
{
    struct director *director = &nic->director;
    uint16_t *link = find(director, hash), removed = *link;
    if (!removed) {
        count(nic, R_FDIRFSTAT, F_FDIRFSTAT_FREMOVE_MASK);
        return;
    }
    *link = director->filters[removed].next;
    director->filters[removed].next = director->unused;
    director->unused = removed;
    director->count--;
    count(nic, R_FDIRUSTAT, F_FDIRUSTAT_REMOVE_MASK);
}

/* FDIRCMD was written. The command is done at once: CMD reads 0. */
EXPORT void nic_director_command(struct nic *nic)
{
    const uint32_t answers = F_FDIRCMD_CMD_MASK | F_FDIRCMD_FILTER_VALID_MASK | F_FDIRCMD_COLLISION_MASK;
    struct director *director = &nic->director;
    uint32_t command = reg_load(nic, R_FDIRCMD), answer = 0;
    if (director->filters) {
        uint32_t hash = reg_load(nic, R_FDIRHASH) & hash_bits(director), operation = command & F_FDIRCMD_CMD_MASK;
        if (command & F_FDIRCMD_CLEARHT_MASK)
            nic_director_init(nic);
        else if (operation == ADD)
            answer = add_filter(nic, hash, command);
        else if (operation == REMOVE)
            remove_filter(nic, hash);
        else if (operation == QUERY && *find(director, hash))
            answer = F_FDIRCMD_FILTER_VALID_MASK;
        reg_store(nic, R_FDIRFREE, director->capacity - director->count);
    }
    reg_store(nic, R_FDIRCMD, (command & ~answers) | answer);
}

/* ---- search ---- */

/* Masks of ports and of IPv6 addresses are bit-reversed in each half of 16 bits (8.2.3.21.6 to 8.2.3.21.8). */
static uint32_t reversed(uint32_t half)
{
    uint32_t result = 0;
    for (uint32_t i = 0; i < 16; i++)
        result |= (half >> i & 1) << (15 - i);
    return result;
}

/* The bits of the ports that are compared.
 * ASSUMPTION (datasheet silent): all bits for SCTP, because the 82599 has no mask for it; none where the protocol is
 * not compared, because ports mean nothing without it. */
static uint32_t port_bits(const struct nic *nic, const struct flow *flow)
{
    if (reg_load(nic, R_FDIRM) & F_FDIRM_L4P_MASK)
        return 0;
    if (flow->protocol == IP_SCTP)
        return ~0u;
    uint32_t mask = reg_load(nic, flow->protocol == IP_UDP ? R_FDIRUDPM : R_FDIRTCPM);
    return ~(reversed(mask & 0xFFFF) | reversed(mask >> 16) << 16);
}

static uint32_t tag_bits(uint32_t other)
{
    return (other & F_FDIRM_VLANID_MASK ? 0 : 0x0FFF) | (other & F_FDIRM_VLANP_MASK ? 0 : 0xE000); /* never CFI */
}

/* The XOR of an IPv6 address's four words in wire order, without the bytes set in `mask`, whose bit 15 is byte 0. */
static uint32_t folded(const uint8_t *address, uint32_t mask)
{
    uint8_t sum[4] = {0};
    uint32_t word;
    for (uint32_t i = 0; i < 16; i++)
        sum[i % 4] ^= mask >> (15 - i) & 1 ? 0 : address[i];
    memcpy(&word, sum, 4);
    return word;
}

/* The frame's fields under the masks. */
static struct fields read_fields(const struct nic *nic, const uint8_t *frame, const struct flow *flow, bool tagged)
{
    uint32_t other = reg_load(nic, R_FDIRM), control = reg_load(nic, R_FDIRCTRL);
    uint32_t type = flow->protocol == IP_UDP ? 1 : flow->protocol == IP_TCP ? 2 : flow->protocol == IP_SCTP ? 3 : 0;
    const uint8_t *flex = frame + 2 * ((control & F_FDIRCTRL_FLEX_OFFSET_MASK) >> F_FDIRCTRL_FLEX_OFFSET_SHIFT);
    struct fields fields = {.vlan = (tagged ? be16(frame + ADDRESSES + 2) : 0) & tag_bits(other)};
    if (!(other & F_FDIRM_FLEX_MASK))
        fields.flex = flex[0] | (uint32_t)flex[1] << 8;
    if (flow->ports && type)
        fields.ports = (be16(frame + flow->ports) | be16(frame + flow->ports + 2) << 16) & port_bits(nic, flow);
    else
        type = 0; /* ASSUMPTION (datasheet silent): a fragment is a frame without L4, because it may have no ports */
    if (!(other & F_FDIRM_L4P_MASK))
        fields.type = type;
    if (flow->address_bytes == 8) {
        memcpy(&fields.source, frame + flow->addresses, 4);
        memcpy(&fields.destination, frame + flow->addresses + 4, 4);
        fields.source &= ~reg_load(nic, R_FDIRSIP4M), fields.destination &= ~reg_load(nic, R_FDIRDIP4M);
    } else {
        uint32_t mask = reg_load(nic, R_FDIRIP6M);
        fields.type |= FLOW_TYPE_IPV6;
        fields.source = folded(frame + flow->addresses, mask & 0xFFFF);
        fields.destination = other & F_FDIRM_DIPV6_MASK ? 0 : folded(frame + flow->addresses + 16, mask >> 16);
    }
    return fields;
}

/* The hash (7.1.2.7.4). Its input is the tag (16 bits), both addresses, ports, flexible bytes and flow type; the key
 * is repeated along it. A set bit of the key stands for the 16 bits of input before its position, so all 32-bit words
 * of the input can be XORed first. Only the tag, half a word, is separate: the bits at both ends of the input meet
 * it, and the key's first bit does not reach it. */
static uint32_t hash_of(uint32_t key, const struct fields *fields)
{
    uint32_t words = __builtin_bswap32(fields->source ^ fields->destination) ^
                     (fields->ports << 16 | fields->ports >> 16) ^ __builtin_bswap32(fields->flex) ^ fields->type;
    uint32_t upper = words ^ fields->vlan ^ fields->type << 16, lower = words << 16 | words >> 16;
    uint32_t hash = key & 1 ? lower : 0;
    lower ^= fields->vlan ^ fields->vlan << 16;
    for (uint32_t i = 0; i < 16; i++) {
        hash ^= i && key >> i & 1 ? lower >> i : 0;
        hash ^= key >> (16 + i) & 1 ? upper >> i : 0;
    }
    return hash & F_FDIRHASH_HASH_MASK;
}

static bool same_fields(const struct nic *nic, const struct director_filter *filter, const struct fields *fields,
                        const struct flow *flow)
{
    uint32_t other = reg_load(nic, R_FDIRM), type = (filter->command & F_FDIRCMD_L4TYPE_MASK) >> F_FDIRCMD_L4TYPE_SHIFT;
    return (other & F_FDIRM_L4P_MASK || type == fields->type) &&
           !((filter->source ^ fields->source) & ~reg_load(nic, R_FDIRSIP4M)) &&
           !((filter->destination ^ fields->destination) & ~reg_load(nic, R_FDIRDIP4M)) &&
           !((filter->ports ^ fields->ports) & port_bits(nic, flow)) &&
           !((filter->vlan_flex ^ fields->vlan) & tag_bits(other)) &&
           (other & F_FDIRM_FLEX_MASK || filter->vlan_flex >> 16 == fields->flex);
}

static void apply(const struct nic *nic, const struct director_filter *filter, struct class *class)
{
    uint32_t control = reg_load(nic, R_FDIRCTRL);
    class->status |= RX_FLM;
    if (filter->command & F_FDIRCMD_DROP_MASK)
        class->queue = (control & F_FDIRCTRL_DROP_QUEUE_MASK) >> F_FDIRCTRL_DROP_QUEUE_SHIFT;
    else if (filter->command & F_FDIRCMD_QUEUE_EN_MASK)
        class->queue = (filter->command & F_FDIRCMD_RX_QUEUE_MASK) >> F_FDIRCMD_RX_QUEUE_SHIFT;
    if (control & F_FDIRCTRL_REPORT_STATUS_MASK && nic->settings.hash_mask)
        class->q0 = (class->q0 & PACKET_TYPE_MASK) | RSS_TYPE_DIRECTOR |
                    (uint64_t)(filter->hash >> 16 | filter->hash << 16) << 32;
}

/* ASSUMPTION (datasheet not at hand): perfect filters match IPv4 only, because no public driver uses others. */
void director_search(const struct nic *nic, const uint8_t *frame, const struct flow *flow, struct class *class)
{
    const struct director *director = &nic->director;
    bool perfect = reg_load(nic, R_FDIRCTRL) & F_FDIRCTRL_PERFECT_MATCH_MASK;
    if (perfect && flow->address_bytes != 8)
        return;
    class->searched = true;
    struct fields fields = read_fields(nic, frame, flow, class->tagged);
    uint32_t bucket = hash_of(reg_load(nic, R_FDIRHKEY), &fields) & director->bucket_mask;
    uint32_t signature = perfect ? 0 : hash_of(reg_load(nic, R_FDIRSKEY), &fields);
    for (uint32_t i = director->buckets[bucket]; i; i = director->filters[i].next) {
        const struct director_filter *filter = &director->filters[i];
        if (perfect ? same_fields(nic, filter, &fields, flow)
                    : filter->hash >> F_FDIRHASH_SIGNATURE_SW_INDEX_SHIFT == signature) {
            apply(nic, filter, class);
            return;
        }
    }
}
