/*
 * cmq_journal: the log of sealed batches as its readers see it: the bytes of a segment, and reading them.
 * Ownership: a reader is heap memory of one thread; chunks are the caller's and used again. The files belong to the
 *            writer (encryptor/log); a reader never writes, locks or waits.
 * Units: bytes, records, milliseconds since 1970; seq = record number, as in the rings.
 * Errors: CMQ_ERR_AGAIN (not stored yet), CMQ_ERR_NOT_FOUND (below the floor), CMQ_ERR_CORRUPT (damaged, the next
 *         readable seq is told), CMQ_ERR_VERSION, CMQ_ERR_PERMISSION, CMQ_ERR_SYSTEM, CMQ_ERR_NOMEM.
 * Callers: one thread a reader; any process that may read the directory.
 *
 * A segment is a file "%016llx.log", named by the first seq that it holds: one page of head, then records, each 64-byte
 * aligned: a record head and its payload (a sealed batch, or nothing for VOID). Integers are little-endian. Segments are
 * preallocated and recycled, so what lies behind the last record is old bytes or zeros: a record belongs to its segment
 * only if its head names it. The head has a checksum of its own, so that a damaged payload costs one record, and a damaged
 * head is passed by looking for the next head that fits. Checksums are CRC32C (RFC 3720, appendix B.4).
 * Beside a finished segment lies "%016llx.idx": sparse positions; without it, or when it is damaged, readers scan.
 */
#ifndef CMQ_JOURNAL_H
#define CMQ_JOURNAL_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_reason.h"
#include "common/journal/cmq_file.h"

#define CMQ_JOURNAL_VERSION     1u
#define CMQ_JOURNAL_HEAD_BYTES  4096u /* of a segment */
#define CMQ_JOURNAL_ALIGN_BYTES 64u
#define CMQ_JOURNAL_NAME_BYTES  24u /* "%016llx.log" with its NUL, rounded up */

enum cmq_journal_type { CMQ_JOURNAL_BATCH = 1, CMQ_JOURNAL_VOID = 2 };

struct cmq_journal_record { /* 64 bytes on disk */
    uint32_t magic;
    uint32_t head_crc; /* of what follows in the head */
    uint64_t seq;
    uint64_t segment; /* first seq of its segment */
    uint64_t stored_at_ms;
    uint32_t payload_bytes;
    uint32_t payload_crc;
    uint32_t messages;
    uint16_t type;
    uint16_t flags; /* bit 0: some messages have ids (the writer's idempotency table is rebuilt from those) */
    uint64_t pad[2];
};

enum { CMQ_JOURNAL_HAS_IDS = 1 };

/* Where a record begins. {0, 0}: not known. A hint: what is found there is verified. */
struct cmq_journal_pos {
    uint64_t segment; /* first seq of the segment */
    uint64_t offset;
};

/* Bytes on disk of a record. */
static inline uint64_t cmq_journal_record_bytes(uint64_t payload_bytes)
{
    return cmq_align_up(sizeof(struct cmq_journal_record) + payload_bytes, CMQ_JOURNAL_ALIGN_BYTES);
}

struct cmq_journal_entry {
    uint64_t seq;
    uint64_t stored_at_ms;
    enum cmq_journal_type type;
    uint32_t messages;
    uint16_t flags;
    size_t payload_offset; /* in the chunk */
    size_t payload_bytes;
    struct cmq_journal_pos pos;
};

/* Consecutive records in one buffer. A zeroed chunk is an empty one. */
struct cmq_journal_chunk {
    uint8_t *data;
    size_t bytes, capacity;
    struct cmq_journal_entry *entries;
    uint32_t count, entry_capacity;
    struct cmq_journal_pos
        next; /* where the record behind the last one begins, if it is in the same segment */
    uint64_t next_seq;
};
void cmq_journal_chunk_fini(struct cmq_journal_chunk *chunk);

struct cmq_journal_reader;

/* The directory may be empty, or not be there yet (CMQ_ERR_AGAIN). */
CMQ_MUST_USE enum cmq_err cmq_journal_reader_open(const char *directory, const struct cmq_file_ops *ops,
                                                  struct cmq_journal_reader **ret_reader,
                                                  struct cmq_reason *reason);
void cmq_journal_reader_close(struct cmq_journal_reader *reader);

/* Reads records seq, seq + 1, ... below end_seq (the stored cursor) with one read of about want_bytes, at least one whole
 * record whatever its size. `from` may be a hint where seq begins. Every entry's checksums were verified on the private copy.
 * CMQ_ERR_AGAIN: seq >= end_seq. CMQ_ERR_NOT_FOUND: retention has taken it; *ret_seq = lowest that is there (or end_seq).
 * CMQ_ERR_CORRUPT: record seq (and those below *ret_seq) cannot be read; *ret_seq = next that may be asked for. A chunk
 * ends before a damaged record, so the damage is told by the call that asks for it. */
CMQ_MUST_USE enum cmq_err cmq_journal_read(struct cmq_journal_reader *reader, uint64_t seq, uint64_t end_seq,
                                           const struct cmq_journal_pos *from, size_t want_bytes,
                                           struct cmq_journal_chunk *chunk, uint64_t *ret_seq);
/* Lowest seq that can be read now; end_seq when nothing is there. Looks at the directory at most every 100 ms. */
uint64_t cmq_journal_floor(struct cmq_journal_reader *reader, uint64_t end_seq);
/* Where record seq begins (index, then a short scan). Errors as cmq_journal_read. */
CMQ_MUST_USE enum cmq_err cmq_journal_locate(struct cmq_journal_reader *reader, uint64_t seq,
                                             uint64_t end_seq, struct cmq_journal_pos *ret_pos,
                                             uint64_t *ret_seq);

/* What the files of a log say of themselves. Read-only; safe beside a writer. */
struct cmq_journal_usage {
    uint64_t segments, bytes; /* files of records, and their size */
    uint64_t first_seq;       /* of the oldest segment; 0: there is none */
    uint64_t newest_ms;       /* when the newest segment was made; 0: not known */
    uint64_t missing_seq;     /* a segment that the index before it names and that is not there; 0: none */
};
CMQ_MUST_USE enum cmq_err cmq_journal_usage(const char *directory, const struct cmq_file_ops *ops,
                                            struct cmq_journal_usage *ret_usage);

/* The seq that follows the last valid record of the directory: what a new ring begins with. An empty or missing directory
 * gives `none`. Read-only; safe beside a writer (then it is only a lower bound). */
CMQ_MUST_USE enum cmq_err cmq_journal_next_seq(const char *directory, const struct cmq_file_ops *ops,
                                               uint64_t none, uint64_t *ret_seq, struct cmq_reason *reason);

#endif
