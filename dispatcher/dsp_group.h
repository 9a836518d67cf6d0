/*
 * dsp_group: consumer group `default` of the root endpoint: who gets which messages, and when a record is done.
 * Ownership: the group owns the records it claimed and all ranges; clients are the caller's memory, frames too. It
 *            borrows ring and opener.
 * Units: messages, bytes, records.
 * Errors: CMQ_ERR_NOMEM, and what cmq_ring_claim and dsp_record_open say; after one the process should end.
 * Callers: the delivery thread. No sockets here, no locks, no clock.
 *
 * Happy path:
 *   - a client that can take more asks dsp_share_fill: messages of pending ranges, then of newly claimed
 * records, go into one frame; what was taken is the client's flight, the only thing that is kept for it;
 *   - when the socket has the frame whole, dsp_share_delivered notes the flight's ranges: a record whose
 * messages are all delivered is done, one that is delivered up to some message gets that progress;
 *   - records are claimed only to fill a frame, so none waits here for a client.
 * Failure:
 *   - a client dies: its flight becomes pending again, and is offered first;
 *   - the last client goes, or the process drains: records in hand are released with their progress;
 *   - the ring says LOST: another dispatcher has the record; what is left of it is dropped here;
 *   - this process dies: another dispatcher goes on behind the last noted progress, so flights and what was
 * delivered out of order may come twice.
 */
#ifndef DSP_GROUP_H
#define DSP_GROUP_H

#include "dispatcher/dsp_frame.h"
#include "dispatcher/dsp_record.h"

struct dsp_limits {
    uint32_t open_records_max;
    size_t open_bytes_max; /* decrypted; at least one record is always open */
};

struct dsp_entry; /* a record in hand */
struct dsp_range_block;

/* Messages first .. first + count - 1 of a record; offset: where the first one's bytes begin. */
struct dsp_range {
    struct dsp_range *next;
    struct dsp_entry *entry;
    uint32_t first, count;
    size_t offset, end; /* in the record's plaintext; end: of the segment */
    bool again;         /* was offered to somebody before */
};

struct dsp_range_list {
    struct dsp_range *head, *tail;
};

struct dsp_consumer {
    struct dsp_range_list flight; /* written to the socket, not known to be taken */
    uint32_t flight_messages;
    size_t flight_bytes;
};

struct dsp_share {
    struct cmq_ring *ring;
    struct dsp_opener *opener;
    struct dsp_limits limits;
    struct dsp_range_list pending; /* opened, not in a flight; by seq and first */
    struct dsp_entry *entries;     /* all records in hand */
    struct dsp_entry *spare_entries;
    struct dsp_range *spare_ranges;
    struct dsp_range_block *range_blocks;
    uint32_t entry_count, client_count;
    size_t open_bytes, spare_bytes;
    bool more; /* the ring did not say that it has nothing */
    bool draining;
};

void dsp_share_init(struct dsp_share *ret_group, struct cmq_ring *ring, struct dsp_opener *opener,
                    const struct dsp_limits *limits);
/* Releases what is in hand; no client may be left. Accepts a zeroed struct. */
void dsp_share_fini(struct dsp_share *group);

void dsp_share_join(struct dsp_share *group, struct dsp_consumer *ret_client);
void dsp_share_leave(struct dsp_share *group, struct dsp_consumer *client);

enum dsp_fill {
    DSP_FILL_FRAME,   /* the frame has messages and is to be sent; end it first */
    DSP_FILL_NOTHING, /* nothing is there for this client now */
    DSP_FILL_FAILED   /* *ret_err; the process should end */
};
/* Builds the next frame of a client whose flight is empty. */
CMQ_MUST_USE enum dsp_fill dsp_share_fill(struct dsp_share *group, struct dsp_consumer *client,
                                          struct dsp_frame *frame, enum cmq_err *ret_err);
/* The socket took the frame whole. Without a flight this does nothing. */
void dsp_share_delivered(struct dsp_share *group, struct dsp_consumer *client);

enum dsp_want {
    DSP_WANT_CLIENT,  /* there is, or may be, something for a client that can take more */
    DSP_WANT_RING,    /* nothing in hand: wait for the ring */
    DSP_WANT_DELIVERY /* a bound is reached, or draining: wait until a flight ends */
};
enum dsp_want dsp_share_want(const struct dsp_share *group);
/* The waiter says that the ring may have something. */
void dsp_share_ring_rang(struct dsp_share *group);

/* No more claims; all that is not in a flight is released now, and the rest as the flights end. */
void dsp_share_drain(struct dsp_share *group);

#endif
