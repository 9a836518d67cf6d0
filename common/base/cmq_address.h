/*
 * cmq_address: who a peer is for limits, and a table that counts by it.
 * Ownership: new/free; an address is a value.
 * Units: connections.
 * Errors: new: NULL for want of memory or of random bytes. add says whether there is room.
 * Callers: an address: any thread. A table: one thread at a time.
 *
 * One network customer has a /64 of IPv6 (RFC 6177), so what counts is the first half of the address. IPv4 counts whole, also
 * when it comes as ::ffff:a.b.c.d. The table has its size from the start, and its order cannot be guessed from outside.
 */
#ifndef CMQ_ADDRESS_H
#define CMQ_ADDRESS_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_err.h"

#define CMQ_ADDRESS_TEXT_BYTES 46u

struct cmq_address {
    uint8_t bytes[16];
    uint8_t length; /* 4, 16, or 0: neither IPv4 nor IPv6 */
};
struct sockaddr;
struct cmq_address cmq_address_of(const struct sockaddr *peer);
/* As bytes; they live as long as the address. */
struct cmq_span cmq_address_span(const struct cmq_address *address);
/* "192.0.2.1", "2001:db8::1", or "-". Returns ret_text. */
const char *cmq_address_text(const struct cmq_address *address, char ret_text[CMQ_ADDRESS_TEXT_BYTES]);

struct cmq_address_counts;
/* For at most this many connections together. */
struct cmq_address_counts *cmq_address_counts_new(uint32_t connections_max);
void cmq_address_counts_free(struct cmq_address_counts *counts); /* NULL is fine */
/* One more of this address. False, and nothing counted: it has `max` already, or the table is full. */
CMQ_MUST_USE bool cmq_address_counts_add(struct cmq_address_counts *counts, const struct cmq_address *address,
                                         uint32_t max);
/* One less; it was added. */
void cmq_address_counts_remove(struct cmq_address_counts *counts, const struct cmq_address *address);
uint32_t cmq_address_counts_of(const struct cmq_address_counts *counts, const struct cmq_address *address);

#endif
