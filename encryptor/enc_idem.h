/*
 * enc_idem: the table of the message ids that were published within the window (LMDB).
 * Ownership: heap memory of one thread. Whoever holds the log lock, and nobody else, has the table open.
 * Units: milliseconds since 1970 (commit times, as in the log); seq and index as in message ids.
 * Errors: CMQ_ERR_NOT_FOUND, CMQ_ERR_FULL (no space on the disk), CMQ_ERR_CORRUPT (discard it and build it again),
 *         CMQ_ERR_PERMISSION, CMQ_ERR_NOMEM, CMQ_ERR_SYSTEM.
 * Callers: the log thread.
 *
 * The log is the truth and the table its index, so it is never flushed (MDB_NOSYNC): after the death of the process the
 * page cache has it whole; after another boot it is another file (its name has the boot id) and built again. It knows up
 * to which record it was applied; what follows is applied again from the log, and what it has beyond the log's end goes.
 * Happy path of a group: begin, find and put for each message, commit (before the group is appended), append.
 */
#ifndef ENC_IDEM_H
#define ENC_IDEM_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_reason.h"
#include "common/crypto/cmq_digest.h"

struct enc_idem_setup {
    const char *directory; /* made (0700) if only its last part is missing */
    const char *boot_id;   /* NULL: this system's */
    uint64_t window_ms;
    uint64_t entries_max;
};

struct enc_idem;

/* next_seq: the end of the log. *ret_applied: first record that the table does not know; 0: it is empty, nothing is known. */
CMQ_MUST_USE enum cmq_err enc_idem_open(const struct enc_idem_setup *setup, uint64_t next_seq,
                                        struct enc_idem **ret_idem, uint64_t *ret_applied,
                                        struct cmq_reason *reason);
/* NULL is fine. What was not committed is gone. */
void enc_idem_close(struct enc_idem *idem);
/* Removes the files of a closed table, as far as that works. */
void enc_idem_discard(const struct enc_idem_setup *setup);

/* What an id is known as. A request's key and a message's id never meet. */
struct enc_idem_key {
    struct cmq_span topic, id;
    bool request;
};
struct enc_idem_entry {
    uint64_t seq;
    uint32_t index; /* of the message, or 0 */
    uint32_t count; /* messages of the request, or 1 */
    uint64_t stored_at_ms;
    uint8_t digest[CMQ_DIGEST_BYTES]; /* of the content */
};

/* All of these work in one transaction, which begins with the first of them. After an error it must be aborted. */

/* CMQ_ERR_NOT_FOUND: not known, or not within the window before now_ms. */
CMQ_MUST_USE enum cmq_err enc_idem_find(struct enc_idem *idem, const struct enc_idem_key *key,
                                        uint64_t now_ms, struct enc_idem_entry *ret_entry);
CMQ_MUST_USE enum cmq_err enc_idem_put(struct enc_idem *idem, const struct enc_idem_key *key,
                                       const struct enc_idem_entry *entry);
/* Takes back what was put for this message. */
CMQ_MUST_USE enum cmq_err enc_idem_remove(struct enc_idem *idem, uint64_t seq, uint32_t index);
/* Removes entries before the window, a bounded number at a time. */
CMQ_MUST_USE enum cmq_err enc_idem_expire(struct enc_idem *idem, uint64_t now_ms);
/* applied: all records below it are in the table (and in the log). */
CMQ_MUST_USE enum cmq_err enc_idem_commit(struct enc_idem *idem, uint64_t applied);
void enc_idem_abort(struct enc_idem *idem);

uint64_t enc_idem_count(const struct enc_idem *idem); /* entries */
uint64_t enc_idem_dropped(
    const struct enc_idem *idem); /* within the window, because there were too many; since open */

#endif
