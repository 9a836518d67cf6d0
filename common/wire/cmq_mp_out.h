/*
 * cmq_mp_out: writes MessagePack to memory whose size the caller has checked, for texts that are built by the million.
 * Ownership: writes to the caller's memory; every function returns where the next byte goes.
 * Units: bytes. A head takes at most CMQ_MP_HEAD_BYTES_MAX.
 * Errors: none.
 * Callers: any thread.
 *
 * Why not the library's packer: it calls a function for every few bytes. A test reads back what this one writes.
 */
#ifndef CMQ_MP_OUT_H
#define CMQ_MP_OUT_H

#include <string.h>

#include "common/base/cmq_base.h"

#define CMQ_MP_HEAD_BYTES_MAX 9u

/* Big-endian. */
static inline uint8_t *cmq_mp_put_number(uint8_t *dst, uint64_t number, unsigned bytes)
{
    for (unsigned i = bytes; i > 0; i--, number >>= 8)
        dst[i - 1] = (uint8_t)number;
    return dst + bytes;
}

static inline uint8_t *cmq_mp_put_tagged(uint8_t *dst, unsigned tag, uint64_t number, unsigned bytes)
{
    *dst = (uint8_t)tag;
    return cmq_mp_put_number(dst + 1, number, bytes);
}

static inline uint8_t *cmq_mp_put_nil(uint8_t *dst)
{
    *dst = 0xc0;
    return dst + 1;
}

static inline uint8_t *cmq_mp_put_bool(uint8_t *dst, bool value)
{
    *dst = value ? 0xc3 : 0xc2;
    return dst + 1;
}

static inline uint8_t *cmq_mp_put_uint(uint8_t *dst, uint64_t number)
{
    if (number < 0x80)
        return cmq_mp_put_number(dst, number, 1);
    if (number <= UINT8_MAX)
        return cmq_mp_put_tagged(dst, 0xcc, number, 1);
    if (number <= UINT16_MAX)
        return cmq_mp_put_tagged(dst, 0xcd, number, 2);
    if (number <= UINT32_MAX)
        return cmq_mp_put_tagged(dst, 0xce, number, 4);
    return cmq_mp_put_tagged(dst, 0xcf, number, 8);
}

static inline uint8_t *cmq_mp_put_array(uint8_t *dst, uint32_t count)
{
    if (count < 16)
        return cmq_mp_put_number(dst, 0x90u | count, 1);
    if (count <= UINT16_MAX)
        return cmq_mp_put_tagged(dst, 0xdc, count, 2);
    return cmq_mp_put_tagged(dst, 0xdd, count, 4);
}

/* Five bytes whatever the count is, so that it may be put again when it is known. */
static inline uint8_t *cmq_mp_put_array32(uint8_t *dst, uint32_t count)
{
    return cmq_mp_put_tagged(dst, 0xdd, count, 4);
}

static inline uint8_t *cmq_mp_put_map(uint8_t *dst, uint32_t pairs)
{
    if (pairs < 16)
        return cmq_mp_put_number(dst, 0x80u | pairs, 1);
    if (pairs <= UINT16_MAX)
        return cmq_mp_put_tagged(dst, 0xde, pairs, 2);
    return cmq_mp_put_tagged(dst, 0xdf, pairs, 4);
}

static inline uint8_t *cmq_mp_put_str_head(uint8_t *dst, uint32_t bytes)
{
    if (bytes < 32)
        return cmq_mp_put_number(dst, 0xa0u | bytes, 1);
    if (bytes <= UINT8_MAX)
        return cmq_mp_put_tagged(dst, 0xd9, bytes, 1);
    if (bytes <= UINT16_MAX)
        return cmq_mp_put_tagged(dst, 0xda, bytes, 2);
    return cmq_mp_put_tagged(dst, 0xdb, bytes, 4);
}

static inline uint8_t *cmq_mp_put_bytes(uint8_t *dst, struct cmq_span span)
{
    if (span.bytes != 0)
        memcpy(dst, span.data, span.bytes);
    return dst + span.bytes;
}

static inline uint8_t *cmq_mp_put_str(uint8_t *dst, struct cmq_span text)
{
    return cmq_mp_put_bytes(cmq_mp_put_str_head(dst, (uint32_t)text.bytes), text);
}

static inline uint8_t *cmq_mp_put_bin(uint8_t *dst, struct cmq_span octets)
{
    if (octets.bytes <= UINT8_MAX)
        dst = cmq_mp_put_tagged(dst, 0xc4, octets.bytes, 1);
    else if (octets.bytes <= UINT16_MAX)
        dst = cmq_mp_put_tagged(dst, 0xc5, octets.bytes, 2);
    else
        dst = cmq_mp_put_tagged(dst, 0xc6, octets.bytes, 4);
    return cmq_mp_put_bytes(dst, octets);
}

#endif
