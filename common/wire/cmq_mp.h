/*
 * cmq_mp: a bounded reader of MessagePack (github.com/msgpack/msgpack/blob/master/spec.md).
 * Ownership: borrows the bytes; results point into them.
 * Units: bytes; counts as declared in the data, always checked against the bytes that are left.
 * Errors: CMQ_ERR_MALFORMED; the reader then stays where it was.
 * Callers: any thread. Safe on bytes that another process changes meanwhile: every byte is loaded once and nothing is
 *          allocated, so the worst outcome is a wrong value, never a read outside the span.
 *
 * Why not the library's unpacker: it allocates by declared counts and reads lengths more than once, both wrong for
 * shared memory. Packing uses the library; a test holds this reader against the library's on random input.
 */
#ifndef CMQ_MP_H
#define CMQ_MP_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_err.h"

struct cmq_mp_reader {
    const uint8_t *next;
    const uint8_t *end;
};

enum cmq_mp_type {
    CMQ_MP_NIL,
    CMQ_MP_BOOL,
    CMQ_MP_UINT,
    CMQ_MP_INT,
    CMQ_MP_FLOAT,
    CMQ_MP_STR,
    CMQ_MP_BIN,
    CMQ_MP_ARRAY,
    CMQ_MP_MAP,
    CMQ_MP_EXT
};

struct cmq_mp_value {
    enum cmq_mp_type type;
    uint32_t count;       /* ARRAY: elements, MAP: pairs that follow */
    uint64_t number;      /* UINT, BOOL; INT (always negative) as two's complement */
    struct cmq_span body; /* STR, BIN, EXT */
};

static inline void cmq_mp_reader_init(struct cmq_mp_reader *reader, struct cmq_span span)
{
    reader->next = span.data;
    reader->end = span.bytes == 0 ? span.data : span.data + span.bytes;
}
static inline size_t cmq_mp_left(const struct cmq_mp_reader *reader)
{
    return (size_t)(reader->end - reader->next);
}

/* One load, whatever the compiler would like: the byte may change between two. The builtin, because the pointer is not
 * to an _Atomic type. */
static inline uint8_t cmq_mp_load(const uint8_t *byte)
{
    return __atomic_load_n(byte, __ATOMIC_RELAXED);
}

/* Next value; of an array or map only its head. ARRAY count <= bytes left, MAP count <= bytes left / 2. */
CMQ_MUST_USE enum cmq_err cmq_mp_read(struct cmq_mp_reader *reader, struct cmq_mp_value *ret_value);
CMQ_MUST_USE enum cmq_err cmq_mp_read_uint(struct cmq_mp_reader *reader, uint64_t *ret_number);
CMQ_MUST_USE enum cmq_err cmq_mp_read_array(struct cmq_mp_reader *reader, uint32_t *ret_count);
CMQ_MUST_USE enum cmq_err cmq_mp_read_str(struct cmq_mp_reader *reader, struct cmq_span *ret_body);
CMQ_MUST_USE enum cmq_err cmq_mp_read_bin(struct cmq_mp_reader *reader, struct cmq_span *ret_body);
/* Skips one whole value, nested at most 32 deep, without recursion. */
CMQ_MUST_USE enum cmq_err cmq_mp_skip(struct cmq_mp_reader *reader);

#endif
