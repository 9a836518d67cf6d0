/*
 * cmq_writer: formatted text behind each other in a buffer, with one look at the error in the end. Private to common/shm.
 * Ownership: the buffer is the caller's.
 * Units: bytes; one put writes fewer than CMQ_WRITER_PUT_BYTES_MAX.
 * Errors: err keeps the first; what comes behind it is left out.
 * Callers: one thread a writer.
 */
#ifndef CMQ_WRITER_H
#define CMQ_WRITER_H

#include "common/base/cmq_buf.h"

#define CMQ_WRITER_PUT_BYTES_MAX 512u

struct cmq_writer {
    struct cmq_buf *text;
    enum cmq_err err; /* CMQ_OK at first */
};

/* A JSON string, in quotes. text: printable ASCII, as cmq_tables_read.h gives it. */
void cmq_writer_put_string(struct cmq_writer *writer, const char *text);
void cmq_writer_put(struct cmq_writer *writer, const char *fmt, ...) CMQ_PRINTF(2, 3);

#endif
