/*
 * NDJSON: a body of any size becomes records while it comes.
 *   - bytes gather in the body until they are enough for a record, or have waited RECORD_AGE_NS;
 *   - the whole lines among them are packed and published; a record that has to wait, for room or for the log, suspends the
 *     connection, with what came meanwhile left in the library's buffer and in the socket;
 *   - what became of the record is noted (ing_stream), and the next one begins;
 *   - the end of the body is a record like the others, and then comes the reply.
 * What stops it early: the log or the ring take nothing, the token's allowance is used up or the token is gone, no memory for
 * bodies. The reply then goes out at once, over the socket itself, with the number of lines that are done.
 */
#include "ingest/ing_http_int.h"

#include <string.h>

#include "common/base/cmq_clock.h"

#define RECORD_AGE_NS (250u * CMQ_NS_PER_MS)
/* Inflated at a time. */
enum { CHUNK_BYTES = 16 * 1024 };

/* ---- a record ---- */

static void stop(struct conn *conn, struct ing_problem problem)
{
    ing_stream_stop(conn->stream, &problem);
}

static void drop_lines(struct conn *conn, size_t bytes, uint64_t lines)
{
    struct ing_stream *stream = conn->stream;
    ing_body_drop(&conn->http->pool, &conn->body, bytes, 4 * conn->http->stream_record_bytes);
    stream->whole_bytes -= cmq_min_u64(bytes, stream->whole_bytes);
    stream->line += lines;
    stream->opened_ns = conn->body.bytes != 0 ? cmq_clock_mono_ns() : 0;
}

/* May this client still publish so much? */
static struct ing_problem judge(struct conn *conn, uint32_t messages, size_t bytes)
{
    struct ing_problem problem = ing_http_log_problem(conn->http);
    if (problem.kind == ING_PROBLEM_NONE && !cmq_grant_is_live(conn->http->auth, &conn->grant))
        problem =
            ing_problem_make(ING_PROBLEM_UNAUTHORIZED, "This token was revoked or has expired meanwhile.");
    return problem.kind == ING_PROBLEM_NONE ? ing_http_take_rate(conn, messages, bytes) : problem;
}

static void keep(struct conn *conn, uint64_t seq, const struct cmq_outcome *outcome)
{
    struct ing_stream *stream = conn->stream;
    ing_stream_keep(stream, seq, conn->messages, outcome);
    stream->settled = stream->line - 1;
}

/* True: the connection is suspended. */
static bool publish(struct conn *conn, const struct ing_batch *batch)
{
    enum cmq_err err = CMQ_OK;
    const struct cmq_outcome kept = {.kind = CMQ_OUTCOME_KEPT};
    ing_http_expect(conn, batch);
    switch (ing_http_publish(conn, batch, &err)) {
    case ING_PUBLISHED:
        keep(conn, conn->ticket.seq, &kept);
        break;
    case ING_PUBLISH_WAITS:
        return true;
    case ING_UNPUBLISHED:
        stop(conn, ing_reply_publish_problem(err));
        break;
    }
    return false;
}

/* Packs the whole lines, or the first of them, and publishes. True: the connection is suspended. */
static bool publish_lines(struct conn *conn)
{
    const uint64_t begin_ns = cmq_clock_mono_ns();
    struct ing_stream *stream = conn->stream;
    struct ing_packer *packer = ing_http_packer(conn->http);
    if (packer == NULL) {
        stop(conn, ing_problem_make(ING_PROBLEM_BUSY, NULL));
        return false;
    }
    const struct ing_order order = ing_http_order(conn);
    struct ing_lines lines = {.line = stream->line, .refused = ing_stream_refuse_line, .context = stream};
    struct ing_batch batch = {.count = 0};
    struct cmq_span block = ing_body_span(&conn->body);
    if (!stream->ends)
        block.bytes = stream->whole_bytes;
    struct ing_problem problem = ing_batch_pack_lines(packer, &order, block, &lines, &batch);
    if (problem.kind == ING_PROBLEM_NONE && batch.count != 0)
        /* Headers of the request are in every message: the larger of what came and what is kept. */
        problem = judge(conn, batch.count, cmq_max_u64(lines.found.bytes, batch.parts[1].bytes));
    if (problem.kind != ING_PROBLEM_NONE) {
        stop(conn, problem);
        return false;
    }
    cmq_ring_count(conn->http->ring, CMQ_COUNT_BYTES_IN, lines.found.bytes);
    drop_lines(conn, lines.found.bytes, lines.found.lines);
    cmq_ring_count(conn->http->ring, CMQ_COUNT_WORK_NS, cmq_clock_mono_ns() - begin_ns);
    if (batch.count != 0)
        return publish(conn, &batch);
    stream->settled = stream->line - 1;
    return false;
}

static void settle_outcome(struct conn *conn)
{
    const struct cmq_outcome *outcome = &conn->wait.outcome;
    switch (outcome->kind) {
    case CMQ_OUTCOME_KEPT:
    case CMQ_OUTCOME_DUPLICATE:
    case CMQ_OUTCOME_PART:
        keep(conn, conn->wait.seq, outcome);
        return;
    case CMQ_OUTCOME_CONFLICT:
        stop(conn,
             ing_problem_make(ING_PROBLEM_CONFLICT,
                              "A line behind the first \"lines\" has an id that was used before with another "
                              "content. Nothing of its record was kept."));
        return;
    case CMQ_OUTCOME_VOID:
        stop(conn, ing_problem_make(ING_PROBLEM_INTERNAL, "The broker could not read its own record."));
        return;
    }
}

/* The connection goes on after a wait. */
static void settle(struct conn *conn)
{
    const struct cmq_outcome kept = {.kind = CMQ_OUTCOME_KEPT};
    const uint64_t waited_ns = cmq_clock_mono_ns() - conn->suspended_ns;
    if (conn->phase == PHASE_ROOM && conn->ticket.err == CMQ_OK)
        keep(conn, conn->ticket.seq, &kept);
    else if (conn->phase == PHASE_ROOM)
        stop(conn, ing_reply_publish_problem(conn->ticket.err));
    else if (conn->wait.end == ING_WAIT_DONE)
        settle_outcome(conn);
    else
        stop(conn, ing_http_wait_problem(conn));
    if (conn->phase == PHASE_LOG)
        cmq_ring_observe(conn->http->ring, CMQ_HIST_LOG_WAIT, waited_ns);
    conn->start_ns += waited_ns; /* our time, not the client's */
    conn->phase = PHASE_BODY;
}

/* ---- bytes ---- */

/* The rest of a line that is too long: everything up to its end is thrown away. */
static size_t skip(struct ing_stream *stream, const uint8_t *data, size_t bytes)
{
    const uint8_t *end = memchr(data, '\n', bytes);
    if (end == NULL)
        return bytes;
    stream->skipping = false;
    return (size_t)(end - data) + 1;
}

/* A line without end has as many bytes as a line may have. */
static void refuse_long_line(struct conn *conn)
{
    struct ing_stream *stream = conn->stream;
    struct cmq_json_error error = {.offset = SIZE_MAX, .index = UINT32_MAX, .text = "the line is too long"};
    ing_stream_refuse_line(stream, stream->line, &error);
    drop_lines(conn, conn->body.bytes, 1);
    stream->settled = stream->line - 1;
    stream->skipping = true;
}

static void take_bytes(struct conn *conn, const uint8_t *data, size_t bytes)
{
    struct ing_stream *stream = conn->stream;
    if (stream->skipping) {
        const size_t skipped = skip(stream, data, bytes);
        data += skipped;
        bytes -= skipped;
    }
    if (bytes == 0)
        return;
    const size_t before = conn->body.bytes;
    if (ing_body_append(&conn->http->pool, &conn->body, data, bytes) != CMQ_OK) {
        stop(conn, ing_problem_make(ING_PROBLEM_BUSY, NULL));
        return;
    }
    if (before == 0)
        stream->opened_ns = cmq_clock_mono_ns();
    const uint8_t *end = memrchr(data, '\n', bytes);
    if (end != NULL)
        stream->whole_bytes = before + (size_t)(end - data) + 1;
}

/* Whether the whole lines shall become a record now. */
static bool is_ripe(const struct conn *conn)
{
    const struct ing_stream *stream = conn->stream;
    if (stream->whole_bytes == 0)
        return false;
    return conn->body.bytes >= conn->http->stream_record_bytes ||
           cmq_clock_mono_ns() - stream->opened_ns >= RECORD_AGE_NS;
}

/* Makes room for what comes. True: the connection is suspended. */
static bool make_records(struct conn *conn)
{
    struct ing_stream *stream = conn->stream;
    while (is_ripe(conn) && stream->stop.kind == ING_PROBLEM_NONE)
        if (publish_lines(conn))
            return true;
    if (conn->body.bytes - stream->whole_bytes >= conn->http->request_bytes_max && stream->whole_bytes == 0)
        refuse_long_line(conn);
    return false;
}

/* One step of compressed input; false: nothing more comes of it. */
static bool inflate_step(struct conn *conn, struct cmq_span *in)
{
    uint8_t chunk[CHUNK_BYTES];
    size_t made = 0;
    enum cmq_err err = ing_gzip_step(conn->gzip, in, chunk, sizeof chunk, &made);
    if (err != CMQ_OK) {
        stop(conn, ing_http_gzip_problem(err));
        return false;
    }
    take_bytes(conn, chunk, made);
    return made == sizeof chunk;
}

/* Takes what is here, as far as that goes without waiting. True: the connection is suspended, `in` has the rest. */
static bool take_input(struct conn *conn, struct cmq_span *in)
{
    struct ing_stream *stream = conn->stream;
    bool more = true;
    while (more && stream->stop.kind == ING_PROBLEM_NONE) {
        if (make_records(conn))
            return true;
        if (conn->gzip != NULL) {
            more = inflate_step(conn, in);
        } else {
            take_bytes(conn, in->data, in->bytes);
            *in = cmq_span_make(NULL, 0);
            more = false;
        }
    }
    return false;
}

/* ---- the request ---- */

static enum MHD_Result answer(struct conn *conn, bool whole)
{
    struct ing_stream *stream = conn->stream;
    struct ing_reply reply;
    if (whole)
        ing_stream_reply(stream, conn->durable, &reply);
    else
        ing_stream_short_reply(stream, conn->durable, &reply);
    ing_body_clear(&conn->http->pool, &conn->body);
    reply.challenge = ing_http_challenge(conn, stream->stop.kind);
    if (stream->stop.kind != ING_PROBLEM_NONE)
        ing_http_count_refusal(conn->http, stream->stop.kind);
    else if (reply.status >= 400)
        ing_http_count_refusal(conn->http, ING_PROBLEM_MALFORMED_LINES);
    return whole ? ing_http_send(conn, &reply) : ing_http_send_now(conn, &reply);
}

static enum MHD_Result end_stream(struct conn *conn)
{
    struct ing_stream *stream = conn->stream;
    struct cmq_span none = cmq_span_make(NULL, 0);
    if (conn->gzip != NULL && stream->stop.kind == ING_PROBLEM_NONE && take_input(conn, &none))
        return MHD_YES;
    if (conn->gzip != NULL && !ing_gzip_is_whole(conn->gzip))
        stop(conn, ing_problem_make(ING_PROBLEM_MALFORMED_GZIP, NULL));
    stream->ends = true;
    while (conn->body.bytes != 0 && stream->stop.kind == ING_PROBLEM_NONE)
        if (publish_lines(conn))
            return MHD_YES;
    return answer(conn, true);
}

static void watch(struct conn *conn)
{
    struct ing_watch *list = &conn->http->watch;
    const uint64_t average_ns = ing_watch_body_deadline(list, conn->start_ns, conn->stream->received_bytes);
    /* A fast beginning is no right to a long pause. */
    ing_watch_set(&conn->watched, cmq_min_u64(average_ns, cmq_clock_mono_ns() + list->grace_ns));
}

enum MHD_Result ing_http_take_stream(struct conn *conn, const char *data, size_t *bytes)
{
    struct ing_stream *stream = conn->stream;
    /* Pairs with the release store of resume. */
    if (atomic_load_explicit(&conn->waits, memory_order_acquire))
        return MHD_YES;
    if (conn->phase != PHASE_BODY)
        settle(conn);
    if (*bytes == 0)
        return end_stream(conn);
    struct cmq_span in = cmq_span_make(data, *bytes);
    const bool suspended = stream->stop.kind == ING_PROBLEM_NONE && take_input(conn, &in);
    stream->received_bytes += *bytes - in.bytes;
    *bytes = in.bytes;
    if (suspended)
        return MHD_YES;
    *bytes = 0;
    if (stream->stop.kind != ING_PROBLEM_NONE)
        return answer(conn, false);
    watch(conn);
    return MHD_YES;
}
