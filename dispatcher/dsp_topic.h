/*
 * dsp_topic: the endpoints /t/{topic}/ws, /t/{topic}/sse and /t/{topic}/json without their sockets: what a request asks for,
 *            and the stream that answers it, one buffer at a time.
 * Ownership: a request borrows the text that it was parsed from; a feed is the caller's memory and holds no record.
 * Units: messages, milliseconds.
 * Errors: parse: CMQ_ERR_NOT_FOUND (no such path), CMQ_ERR_INVALID, with a sentence that names the fix and has nothing of the
 *         client's text in it but a topic's checked letters.
 * Callers: the delivery thread.
 *
 * A feed is a subscription (dsp_sub) in one of three formats: frames of /v1/ws as JSON, events, or lines. There is no queue: its
 * cursor stands where the client has been told of everything. `json` ends at what was the end of the log when it began, or
 * when it found something behind that.
 */
#ifndef DSP_TOPIC_H
#define DSP_TOPIC_H

#include "dispatcher/dsp_sub.h"

#define DSP_TOPIC_PREFIX "/t/"

enum dsp_topic_kind { DSP_TOPIC_WS, DSP_TOPIC_SSE, DSP_TOPIC_JSON };

/* As they came, percent-decoded. */
struct dsp_topic_query {
    struct cmq_span path;
    const struct cmq_span *args; /* "name=value" */
    size_t arg_count;
    struct cmq_span last_event_id; /* header; bytes 0: none. It wins over since. */
};

struct dsp_topic_request {
    enum dsp_topic_kind kind;
    struct cmq_span pattern; /* checked */
    struct cmq_span since;   /* not checked: dsp_cursor_parse */
    uint64_t limit;          /* messages; UINT64_MAX: all */
    uint64_t wait_ms;        /* for a first message */
};
CMQ_MUST_USE enum cmq_err dsp_topic_parse(const struct dsp_topic_query *query,
                                          struct dsp_topic_request *ret_request, struct cmq_reason *reason);
/* Path and topic only; the rest of the request is zero. */
CMQ_MUST_USE enum cmq_err dsp_topic_parse_path(struct cmq_span path, struct dsp_topic_request *ret_request,
                                               struct cmq_reason *reason);

struct dsp_feed {
    enum dsp_topic_kind kind;
    enum dsp_format format;
    struct dsp_sub sub;
    struct cmq_id said; /* events: where the client would go on if it connected again */
    uint64_t left;      /* messages that are still wanted */
    uint64_t end_seq;   /* json: records before this one are looked at */
    bool waits;         /* json: until there is something */
    bool found;         /* json: something was sent */
};
/* CMQ_ERR_INVALID: since. */
CMQ_MUST_USE enum cmq_err dsp_feed_init(struct dsp_feed *ret_feed, const struct dsp_topic_request *request,
                                        struct dsp_source *source, struct cmq_reason *reason);

enum dsp_feed_result {
    DSP_FEED_TEXT,  /* the text is to be sent; there may be more */
    DSP_FEED_TAIL,  /* nothing; ask again when the log has more than feed->sub.cursor.next.seq records */
    DSP_FEED_LATER, /* nothing among many records; ask again when others had their turn */
    DSP_FEED_END,   /* json: that was all */
    DSP_FEED_FAILED /* *ret_err; the process should end */
};
CMQ_MUST_USE enum dsp_feed_result dsp_feed_next(struct dsp_feed *feed, struct dsp_encoder *encoder,
                                                const struct dsp_push_limits *limits, struct dsp_text *text,
                                                enum cmq_err *ret_err);
/* json: it has waited long enough, and ends with what is there. */
void dsp_feed_hurry(struct dsp_feed *feed);

/* What to say as `since` to begin where the feed is. */
struct cmq_id dsp_feed_since(const struct dsp_feed *feed);
/* Events: how soon to connect again, and from where even if no message comes before that. */
void dsp_feed_hello(struct dsp_feed *feed, uint64_t retry_ms, struct dsp_text *text);
/* A sign of life: an empty map, or a comment and, if other topics' records were passed, the new place. */
void dsp_feed_beat(struct dsp_feed *feed, struct dsp_text *text);

/* Makes the text a chunk (RFC 9112, 7.1), but for its head, which goes into the headroom. Returns the bytes of that. */
#define DSP_TOPIC_CHUNK_HEAD_BYTES 10u /* 8 digits, CR, LF */
size_t dsp_topic_chunk(struct dsp_text *text);

#endif
