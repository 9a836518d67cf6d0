/*
 * cmq_batch: the two batch formats, plain (ingest -> encryptor) and sealed (encryptor -> dispatcher, log).
 * Ownership: encoders write to the caller's memory; decoders borrow the span, results point into it.
 * Units: bytes, messages, milliseconds since 1970.
 * Errors: CMQ_ERR_MALFORMED, CMQ_ERR_VERSION, CMQ_ERR_TOO_BIG; nothing is asserted about the bytes.
 * Callers: any thread. Decoders are safe on shared memory in the sense of cmq_mp.h.
 *
 * Plain, MessagePack:  [version, flags, accepted_at_ms, [unit, ...]]      unit = [topic, count, messages]
 *   messages is a bin that holds `count` MessagePack messages back to back, so that the encryptor need not walk them.
 *   A message is a str (text) or bin (octets); or, when it has more than content, an array
 *   [content, type (str|nil), id (str|nil), expiry_ms (uint|nil), headers (map of str to str|nil)]; or nil: a message that
 *   was left out because its id was known, so that the indexes of the others stay.
 *   Plain flags: bit 0 CMQ_PLAIN_HAS_IDS: some messages have ids. bit 1 CMQ_PLAIN_HAS_KEY: the first value of the only
 *   unit's bin is a str that is no message and not counted: the request's idempotency key. Sealed unit flags: the same bits.
 * Sealed, MessagePack: [version, seq, accepted_at_ms, [unit, ...]]
 *   unit = [topic, count, flags, suite, key_id (bin 16), nonce (bin 24), sealed (bin: ciphertext and 16-byte tag)]
 *   The sealed plaintext is the plain unit's messages. The ciphertext comes last, so it is sealed in place.
 * AAD of a unit: version, suite, key_id, seq, topic, count, accepted_at_ms, flags; each as u32le length, then the bytes
 * (numbers as 8 bytes little-endian).
 */
#ifndef CMQ_BATCH_H
#define CMQ_BATCH_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_err.h"
#include "common/wire/cmq_mp.h"

#define CMQ_BATCH_VERSION      1u
#define CMQ_BATCH_UNITS_MAX    1024u
#define CMQ_TOPIC_BYTES_MAX    255u
#define CMQ_KEY_ID_BYTES       16u
#define CMQ_NONCE_BYTES        24u
#define CMQ_TAG_BYTES          16u
#define CMQ_SUITE_XAES_256_GCM 1u
/* Room that a batch of `units` units needs besides topics and messages. */
#define CMQ_BATCH_HEAD_BYTES    64u
#define CMQ_PLAIN_UNIT_BYTES    24u
#define CMQ_SEALED_UNIT_BYTES   128u
#define CMQ_BATCH_AAD_BYTES_MAX (8u * 4u + 6u * 8u + CMQ_KEY_ID_BYTES + CMQ_TOPIC_BYTES_MAX)

#define CMQ_MESSAGE_TYPE_BYTES_MAX 127u /* content type */
#define CMQ_MESSAGE_ID_BYTES_MAX   128u /* id, or idempotency key of a request */
enum { CMQ_PLAIN_HAS_IDS = 1, CMQ_PLAIN_HAS_KEY = 2 };

/* ---- messages ---- */

/* All that a message may have. Absent parts have bytes 0 (a present type or id is never empty). */
struct cmq_message_full {
    bool left_out; /* nil: nothing else is set */
    bool text;
    struct cmq_span body;
    struct cmq_span type, id;
    uint64_t expiry_ms;      /* 0: none; milliseconds since 1970 */
    struct cmq_span headers; /* the packed map; bytes 0: none */
};
/* Any of the three forms. CMQ_ERR_MALFORMED: the reader stays. */
CMQ_MUST_USE enum cmq_err cmq_message_read(struct cmq_mp_reader *reader,
                                           struct cmq_message_full *ret_message);
/* Room that an array message needs besides body, type, id and headers. */
#define CMQ_MESSAGE_FULL_BYTES 32u
/* Writes the shortest form: str or bin when there is only a body. dst: CMQ_MESSAGE_FULL_BYTES + all parts, of which none
 * lies in dst. Returns bytes. */
size_t cmq_message_write(uint8_t *dst, const struct cmq_message_full *message);

/* The request's key: 1..CMQ_MESSAGE_ID_BYTES_MAX bytes, in front of the messages when the flags have CMQ_PLAIN_HAS_KEY.
 * dst: CMQ_MESSAGE_KEY_BYTES + the key. Returns bytes, which belong to the unit's messages_bytes. */
#define CMQ_MESSAGE_KEY_BYTES 2u
size_t cmq_message_key_write(uint8_t *dst, struct cmq_span key);
/* Before the first message of a plain or sealed unit with these flags: moves over the key, if there is one (else bytes 0).
 * CMQ_ERR_MALFORMED: the reader stays. */
CMQ_MUST_USE enum cmq_err cmq_message_key_read(struct cmq_mp_reader *reader, uint32_t flags,
                                               struct cmq_span *ret_key);

/* Head of a str or bin message; the body is appended by the caller. ret_head needs 5 bytes; returns bytes written. */
size_t cmq_message_head(uint8_t *ret_head, bool text, uint32_t body_bytes);

struct cmq_message {
    bool text;
    struct cmq_span body;
};
/* Any str or bin; CMQ_ERR_MALFORMED for everything else (cmq_message_read takes that). Use cmq_message_next. */
CMQ_MUST_USE enum cmq_err cmq_message_next_any(struct cmq_mp_reader *reader, struct cmq_message *ret_message);

/* CMQ_ERR_MALFORMED at the end, too: callers know the count, or ask cmq_mp_left. The reader then stays where it was. */
CMQ_MUST_USE static inline enum cmq_err cmq_message_next(struct cmq_mp_reader *reader,
                                                         struct cmq_message *ret_message)
{
    size_t left = cmq_mp_left(reader);
    const uint8_t *next = reader->next;
    if (left >= 2) { /* short text is nearly all there is */
        uint8_t tag = cmq_mp_load(next);
        size_t head_bytes = tag == 0xd9 ? 2 : 1;
        size_t bytes = tag == 0xd9 ? cmq_mp_load(next + 1) : tag & 0x1fu;
        if ((tag == 0xd9 || (tag & 0xe0u) == 0xa0u) && bytes <= left - head_bytes) {
            ret_message->text = true;
            ret_message->body = cmq_span_make(next + head_bytes, bytes);
            reader->next = next + head_bytes + bytes;
            return CMQ_OK;
        }
    }
    return cmq_message_next_any(reader, ret_message);
}

/* ---- plain ---- */

struct cmq_plain_head {
    uint32_t flags;
    uint32_t unit_count;
    uint64_t accepted_at_ms;
};
struct cmq_plain_unit {
    struct cmq_span topic; /* 1..255 bytes */
    uint32_t count;        /* messages */
    struct cmq_span messages;
};
/* Writes everything up to and including the bin head of the only unit's messages; these follow, behind the key if the flags
 * say so, and are appended by the caller. dst needs CMQ_BATCH_HEAD_BYTES + CMQ_PLAIN_UNIT_BYTES + topic bytes.
 * Returns bytes written. */
size_t cmq_plain_encode_head(uint8_t *dst, const struct cmq_plain_head *head, struct cmq_span topic,
                             uint32_t count, uint32_t messages_bytes);
CMQ_MUST_USE enum cmq_err cmq_plain_decode(struct cmq_span batch, struct cmq_mp_reader *ret_units,
                                           struct cmq_plain_head *ret_head);
/* Call unit_count times. After the last one cmq_mp_left must be 0; the caller checks. */
CMQ_MUST_USE enum cmq_err cmq_plain_next(struct cmq_mp_reader *units, struct cmq_plain_unit *ret_unit);

/* ---- sealed ---- */

struct cmq_sealed_head {
    uint64_t seq;
    uint64_t accepted_at_ms;
    uint32_t unit_count;
};
struct cmq_sealed_unit {
    uint8_t topic[CMQ_TOPIC_BYTES_MAX]; /* private copy */
    uint8_t topic_bytes;
    uint32_t count;
    uint32_t flags;
    uint32_t suite;
    uint8_t key_id[CMQ_KEY_ID_BYTES]; /* private copy */
    uint8_t nonce[CMQ_NONCE_BYTES];   /* private copy */
    struct cmq_span sealed;           /* ciphertext and tag, at least CMQ_TAG_BYTES, in place */
};
/* dst needs CMQ_BATCH_HEAD_BYTES. Returns bytes written. */
size_t cmq_sealed_encode_head(uint8_t *dst, const struct cmq_sealed_head *head);
/* Writes all of a unit but the sealed bytes, which the caller writes right behind (unit->sealed.bytes of them;
 * unit->sealed.data is ignored). dst needs CMQ_SEALED_UNIT_BYTES + topic bytes. Returns bytes written. */
size_t cmq_sealed_encode_unit(uint8_t *dst, const struct cmq_sealed_unit *unit);
CMQ_MUST_USE enum cmq_err cmq_sealed_decode(struct cmq_span batch, struct cmq_mp_reader *ret_units,
                                            struct cmq_sealed_head *ret_head);
CMQ_MUST_USE enum cmq_err cmq_sealed_next(struct cmq_mp_reader *units, struct cmq_sealed_unit *ret_unit);

/* dst needs CMQ_BATCH_AAD_BYTES_MAX. Returns bytes written. */
size_t cmq_sealed_aad(uint8_t *dst, const struct cmq_sealed_head *head, const struct cmq_sealed_unit *unit);

#endif
