#include "common/base/cmq_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

/* Linear probing; a slot with count 0 is empty. */
struct slot {
    uint64_t key;
    uint32_t count;
};

struct cmq_address_counts {
    uint64_t seed[2];
    uint32_t used, used_max, mask;
    struct slot slots[];
};

struct cmq_address cmq_address_of(const struct sockaddr *peer)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    struct cmq_address address = {.length = 0};
    if (peer->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, peer, sizeof(in));
        memcpy(address.bytes, &in.sin_addr, sizeof(in.sin_addr));
        address.length = 4;
    } else if (peer->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, peer, sizeof(in6));
        const uint8_t *bytes = in6.sin6_addr.s6_addr;
        bool is_mapped = memcmp(bytes, mapped, sizeof(mapped)) == 0;
        address.length = is_mapped ? 4 : 16;
        memcpy(address.bytes, is_mapped ? bytes + sizeof(mapped) : bytes, address.length);
    }
    return address;
}

struct cmq_span cmq_address_span(const struct cmq_address *address)
{
    return cmq_span_make(address->bytes, address->length);
}

const char *cmq_address_text(const struct cmq_address *address, char ret_text[CMQ_ADDRESS_TEXT_BYTES])
{
    if (address->length == 0 || inet_ntop(address->length == 4 ? AF_INET : AF_INET6, address->bytes, ret_text,
                                          CMQ_ADDRESS_TEXT_BYTES) == NULL)
        memcpy(ret_text, "-", 2);
    return ret_text;
}

/* No peer has an address that begins with ffff (multicast): there is room for IPv4. */
static uint64_t key_of(const struct cmq_address *address)
{
    uint64_t key = 0;
    for (unsigned i = 0; i < 8 && i < address->length; i++)
        key = key << 8 | address->bytes[i];
    return address->length == 16 ? key : 0xffff000000000000ull | (uint64_t)address->length << 32 | key;
}

/* Multiply and fold, twice, with secret numbers: which addresses meet in one place cannot be computed from outside. */
static uint32_t place_of(const struct cmq_address_counts *counts, uint64_t key)
{
    key = (key ^ counts->seed[0]) * (counts->seed[1] | 1u);
    key = (key ^ key >> 32 ^ counts->seed[1]) * (counts->seed[0] | 1u);
    return (uint32_t)(key >> 32) & counts->mask;
}

struct cmq_address_counts *cmq_address_counts_new(uint32_t connections_max)
{
    uint64_t slots = 16;
    while (slots < connections_max + connections_max / 2u)
        slots *= 2;
    struct cmq_address_counts *counts = calloc(1, sizeof(*counts) + slots * sizeof(struct slot));
    if (counts == NULL)
        return NULL;
    counts->mask = (uint32_t)(slots - 1);
    counts->used_max = (uint32_t)cmq_min_u64(connections_max, slots - 1); /* probing ends at an empty slot */
    if (getrandom(counts->seed, sizeof(counts->seed), 0) == (ssize_t)sizeof(counts->seed))
        return counts;
    free(counts);
    return NULL;
}

void cmq_address_counts_free(struct cmq_address_counts *counts)
{
    free(counts);
}

/* Where the key is, or the empty slot where it would be. */
static uint32_t find(const struct cmq_address_counts *counts, uint64_t key)
{
    uint32_t place = place_of(counts, key);
    while (counts->slots[place].count > 0 && counts->slots[place].key != key)
        place = (place + 1) & counts->mask;
    return place;
}

bool cmq_address_counts_add(struct cmq_address_counts *counts, const struct cmq_address *address,
                            uint32_t max)
{
    const uint64_t key = key_of(address);
    struct slot *slot = &counts->slots[find(counts, key)];
    if (slot->count >= max || (slot->count == 0 && counts->used >= counts->used_max))
        return false;
    counts->used += slot->count == 0;
    slot->key = key;
    slot->count++;
    return true;
}

void cmq_address_counts_remove(struct cmq_address_counts *counts, const struct cmq_address *address)
{
    uint32_t hole = find(counts, key_of(address));
    cmq_assert(counts->slots[hole].count > 0);
    if (--counts->slots[hole].count > 0)
        return;
    counts->used--;
    /* Whoever stands behind the hole because it was taken moves into it. */
    for (uint32_t next = (hole + 1) & counts->mask; counts->slots[next].count > 0;
         next = (next + 1) & counts->mask) {
        uint32_t home = place_of(counts, counts->slots[next].key);
        if (((next - home) & counts->mask) < ((next - hole) & counts->mask))
            continue;
        counts->slots[hole] = counts->slots[next];
        counts->slots[next].count = 0;
        hole = next;
    }
}

uint32_t cmq_address_counts_of(const struct cmq_address_counts *counts, const struct cmq_address *address)
{
    return counts->slots[find(counts, key_of(address))].count;
}
