/*
 * dsp_source: records of the log, opened, shared by everyone in this process who wants them at about the same time.
 * Ownership: records belong to the source and are counted; get takes a reference, put gives it back. What nobody holds
 *            stays, least recently used first out, while all records together have at most cache_bytes.
 * Units: bytes, records, messages; index = number of a message in its record, over all units.
 * Errors: CMQ_ERR_AGAIN (not stored yet), CMQ_ERR_NOT_FOUND and CMQ_ERR_CORRUPT (a gap, *ret_next is behind it),
 *         CMQ_ERR_NOMEM, CMQ_ERR_SYSTEM.
 * Callers: the delivery thread.
 *
 * There is no queue for anybody: who is behind asks for older records, which are read from the log's files.
 */
#ifndef DSP_SOURCE_H
#define DSP_SOURCE_H

#include "common/crypto/cmq_keyring.h"
#include "common/journal/cmq_journal.h"
#include "common/shm/cmq_ring.h"

/* The messages of one topic in a record. */
struct dsp_unit {
    struct cmq_span topic;
    uint32_t first, count; /* indexes first .. first + count - 1 */
    bool readable; /* after open: false: no key for it here, or damaged; counted as undeliverable once */
    /* MessagePack messages back to back (cmq_batch.h), after dsp_source_open. A request key was taken off. */
    struct cmq_span messages;
};

struct dsp_record {
    uint64_t seq;
    uint64_t accepted_at_ms;
    uint32_t message_count; /* 0: a VOID record */
    uint32_t unit_count;
    struct dsp_unit *units; /* topics and counts are there at once, messages after dsp_source_open */
    bool opened;
    struct cmq_journal_pos next; /* hint where the next record begins */
    void *encoded[4];            /* per frame format: the property of dsp_encode, freed through its hook */
};

struct dsp_source;

struct dsp_source_setup {
    const char *directory;
    const struct cmq_file_ops *ops;
    size_t cache_bytes;
    void (*free_encoded)(void *encoded);
};

CMQ_MUST_USE enum cmq_err dsp_source_new(const struct dsp_source_setup *setup, struct cmq_ring *ring,
                                         struct cmq_keyring *keyring, struct dsp_source **ret_source,
                                         struct cmq_reason *reason);
/* Nobody may hold a record. NULL is fine. */
void dsp_source_free(struct dsp_source *source);

/* Record seq. near: a hint where it begins, or NULL. On CMQ_ERR_NOT_FOUND (retention) and CMQ_ERR_CORRUPT (damaged, or no
 * sealed batch) *ret_next is the next seq to ask for, and what lies between is a gap. */
CMQ_MUST_USE enum cmq_err dsp_source_get(struct dsp_source *source, uint64_t seq,
                                         const struct cmq_journal_pos *near, struct dsp_record **ret_record,
                                         uint64_t *ret_next);
/* Decrypts all units that may be read here, once. What is wrong with a unit is no error: it is not readable then. After
 * CMQ_ERR_SYSTEM (the keyring's file cannot be read) or CMQ_ERR_NOMEM it may be called again. */
CMQ_MUST_USE enum cmq_err dsp_source_open(struct dsp_source *source, struct dsp_record *record);
void dsp_source_hold(struct dsp_record *record); /* one reference more */
void dsp_source_put(struct dsp_source *source, struct dsp_record *record);
/* dsp_encode has added so many bytes to a record. */
void dsp_source_grew(struct dsp_source *source, struct dsp_record *record, size_t bytes);
/* dsp_encode found messages whose time is over: they are counted once for all subscribers. */
void dsp_source_expired(struct dsp_source *source, uint32_t messages);

/* Somebody has all that is below seq: what comes from there on is delivered live, and how long that takes is observed. */
void dsp_source_await(struct dsp_source *source, uint64_t seq);

uint64_t dsp_source_stored(struct dsp_source *source); /* end of what may be delivered now */
/* End of what has an id: a publisher may have been told that it was accepted before it is stored. */
uint64_t dsp_source_published(struct dsp_source *source);
uint64_t dsp_source_floor(struct dsp_source *source);
/* What all records cost now, those that are held included. */
size_t dsp_source_bytes(const struct dsp_source *source);

#endif
