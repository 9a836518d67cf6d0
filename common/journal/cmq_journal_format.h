/*
 * cmq_journal_format: the bytes of segments, and walking over them. Shared by readers and the writer.
 * Ownership: lists and walks are the caller's memory, init/fini.
 * Units: bytes, records.
 * Errors: CMQ_ERR_NOMEM, CMQ_ERR_SYSTEM, CMQ_ERR_PERMISSION, CMQ_ERR_VERSION.
 * Callers: common/journal, encryptor/log, their tests.
 */
#ifndef CMQ_JOURNAL_FORMAT_H
#define CMQ_JOURNAL_FORMAT_H

#include <assert.h>

#include "common/journal/cmq_journal.h"

#define CMQ_JOURNAL_RECORD_MAGIC  0x4c514d43u           /* "CMQL" */
#define CMQ_JOURNAL_SEGMENT_MAGIC 0x474f4c2d514d4301ull /* 1, "CMQ-LOG" */
#define CMQ_JOURNAL_PATH_BYTES    512u
#define CMQ_JOURNAL_OFFSET_MAX    (1ull << 62)

/* First bytes of a segment; the rest of its head page is zero. Told twice: readers believe name and record heads, and
 * look here for the version only. */
struct cmq_journal_segment {
    uint64_t magic;
    uint32_t version;
    uint32_t head_crc; /* of everything else */
    uint64_t first_seq;
    uint64_t created_at_ms;
    uint64_t segment_bytes;
    uint64_t pad[3];
};

static_assert(sizeof(struct cmq_journal_record) == 64, "record head");
static_assert(sizeof(struct cmq_journal_segment) == 64, "segment head");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the files are little-endian");

uint32_t cmq_journal_crc(uint32_t crc, const void *data, size_t bytes);
/* Fills magic and head_crc. */
void cmq_journal_record_finish(struct cmq_journal_record *record);
void cmq_journal_segment_finish(struct cmq_journal_segment *segment);
/* A head of this segment, complete. Its payload may be torn, or lie behind the end of a file that lost its size. */
bool cmq_journal_record_valid(const struct cmq_journal_record *record, uint64_t segment);

/* "DIRECTORY/%016llx.log" or ".idx". CMQ_ERR_INVALID: too long. */
CMQ_MUST_USE enum cmq_err cmq_journal_path(char ret_path[CMQ_JOURNAL_PATH_BYTES], const char *directory,
                                           uint64_t first_seq, const char *suffix);
bool cmq_journal_name_parse(const char *name, const char *suffix, uint64_t *ret_first_seq);

/* First seqs of all segments (".log") or indexes (".idx") of a directory, rising. */
struct cmq_journal_list {
    uint64_t *first;
    size_t count, capacity;
};
/* CMQ_ERR_NOT_FOUND: no such directory. */
CMQ_MUST_USE enum cmq_err cmq_journal_list_read(const char *directory, const struct cmq_file_ops *ops,
                                                const char *suffix, struct cmq_journal_list *list);
void cmq_journal_list_fini(struct cmq_journal_list *list);

/* Walks the record heads of one segment, whatever the payloads hold. */
struct cmq_journal_walk {
    const struct cmq_file_ops *ops;
    int fd;
    uint64_t segment, file_bytes;
    uint64_t offset;  /* where the next head is looked for */
    uint64_t seq_min; /* a head with a lower seq is old */
    uint8_t *window;  /* a private copy of some bytes */
    size_t window_bytes, window_capacity;
    uint64_t window_offset;
};
CMQ_MUST_USE enum cmq_err cmq_journal_walk_init(struct cmq_journal_walk *walk, const struct cmq_file_ops *ops,
                                                int fd, uint64_t segment, uint64_t offset, uint64_t seq_min);
void cmq_journal_walk_fini(struct cmq_journal_walk *walk);
/* The next valid head at or behind walk->offset, at *ret_offset; the walk goes on behind that record. CMQ_ERR_NOT_FOUND:
 * none up to offset_end (or the end of the file). */
CMQ_MUST_USE enum cmq_err cmq_journal_walk_next(struct cmq_journal_walk *walk, uint64_t offset_end,
                                                struct cmq_journal_record *ret_record, uint64_t *ret_offset);
/* Reads exactly so many bytes. CMQ_ERR_NOT_FOUND: the file ends before. */
CMQ_MUST_USE enum cmq_err cmq_journal_pread(const struct cmq_file_ops *ops, int fd, void *data, size_t bytes,
                                            uint64_t offset);
/* Whether the payload of the record that walk_next found last is what its head says. */
CMQ_MUST_USE enum cmq_err cmq_journal_walk_payload(struct cmq_journal_walk *walk,
                                                   const struct cmq_journal_record *record, uint64_t offset,
                                                   bool *ret_good);

/* ---- sparse positions ---- */

struct cmq_journal_mark {
    uint64_t seq, offset;
};
struct cmq_journal_marks { /* zeroed: empty */
    struct cmq_journal_mark *at;
    size_t count, capacity;
};
/* Keeps it if it lies at least CMQ_JOURNAL_MARK_BYTES behind the last one. */
CMQ_MUST_USE enum cmq_err cmq_journal_marks_add(struct cmq_journal_marks *marks, uint64_t seq,
                                                uint64_t offset);
/* Where a record that is not behind seq begins: the nearest known, or the end of the segment's head. */
uint64_t cmq_journal_marks_find(const struct cmq_journal_marks *marks, uint64_t seq);
void cmq_journal_marks_fini(struct cmq_journal_marks *marks);

/* "%016llx.idx": this head, then the marks. Written when the segment behind it exists. */
struct cmq_journal_index {
    uint64_t magic;
    uint64_t segment;
    uint64_t next_seq; /* first seq of the segment behind it */
    uint32_t count;
    uint32_t crc; /* of everything else */
};
#define CMQ_JOURNAL_INDEX_MAGIC 0x5844492d514d4301ull /* 1, "CMQ-IDX" */
#define CMQ_JOURNAL_MARK_BYTES  65536u                /* a mark every so many bytes */

/* Fills magic, count and crc. */
void cmq_journal_index_finish(struct cmq_journal_index *index, const struct cmq_journal_marks *marks);
/* CMQ_ERR_NOT_FOUND: missing, damaged or of another segment: do without it. marks may be NULL. */
CMQ_MUST_USE enum cmq_err cmq_journal_index_read(const char *directory, const struct cmq_file_ops *ops,
                                                 uint64_t segment, struct cmq_journal_marks *marks,
                                                 uint64_t *ret_next_seq);

/* ---- the tail ---- */

/* Where a segment's records end. */
struct cmq_journal_tail {
    uint64_t next_seq; /* behind the last record whose bytes are whole; first_seq if there is none */
    uint64_t offset;   /* behind that record */
    uint64_t damaged;  /* seqs below next_seq that cannot be read */
    uint64_t *cut;     /* offsets of heads behind it, whose payloads are torn */
    size_t cut_count, cut_capacity;
    struct cmq_journal_marks marks;
};
/* Reads the whole segment. */
CMQ_MUST_USE enum cmq_err cmq_journal_find_tail(const struct cmq_file_ops *ops, int fd, uint64_t segment,
                                                struct cmq_journal_tail *ret_tail);
void cmq_journal_tail_fini(struct cmq_journal_tail *tail);

/* CMQ_ERR_VERSION: a whole segment head of a version that this build does not know. */
CMQ_MUST_USE enum cmq_err cmq_journal_version_check(const struct cmq_file_ops *ops, int fd, const char *path,
                                                    uint64_t *ret_created_at_ms, struct cmq_reason *reason);

/* The error that errno stands for. */
enum cmq_err cmq_journal_errno(int error);

#endif
