/*
 * dsp_topics_int: shared by dsp_topics.c (connections) and dsp_topics_head.c (requests, and the heads of answers).
 * Ownership: as in dsp_topics.h. A request borrows its own text, so it stays where it is.
 * Units: bytes.
 * Errors: the int results are the library's: 0 go on, -1 close.
 * Callers: the two files.
 */
#ifndef DSP_TOPICS_INT_H
#define DSP_TOPICS_INT_H

#include "dispatcher/dsp_topics.h"

enum {
    DSP_TOPICS_ARGS_MAX = 8,
    DSP_TOPICS_PATH_BYTES = 300,
    DSP_TOPICS_ARG_BYTES = 96,
    DSP_TOPICS_ORIGIN_BYTES = 256
};

enum dsp_topics_method { DSP_TOPICS_GET, DSP_TOPICS_HEAD, DSP_TOPICS_OPTIONS, DSP_TOPICS_OTHER };

struct dsp_topics_conn {
    struct dsp_feed feed;
    struct dsp_topics_conn *next, *prev;             /* all */
    struct dsp_topics_conn *sleep_next, *sleep_prev; /* that wait for the log */
    struct dsp_topics *topics;
    struct lws *wsi;
    struct cmq_grant grant;
    struct dsp_guard guard;       /* of a WebSocket */
    lws_sorted_usec_list_t timer; /* the next heartbeat, or the end of json's wait */
    uint64_t acked_bytes, written_ns, wait_ms;
    uint64_t heard_ns;     /* when the peer last gave a sign of life */
    uint64_t progress_ns;  /* when it last took something, or when a text was written */
    size_t received_bytes; /* of the message that it is sending */
    uint64_t messages, sent_bytes;
    uint64_t head_bytes; /* HTTP: that it sent until its request was whole */
    int closing;         /* WebSocket: the code; HTTP: anything. 0: it goes on */
    bool http, page, chunked, probing;
    bool quiet; /* HTTP: the library was told not to read */
    bool hello_due, beat_due, asleep;
    bool busy, ended; /* a text may be on its way; nothing will follow it */
};

struct dsp_topics {
    struct dsp_topics_setup setup;
    struct dsp_push_limits limits;
    struct dsp_topics_conn *conns, *sleeping;
    lws_sorted_usec_list_t sweep;
    uint64_t write_timeout_ns;
    bool sweeping, draining;
};

/* What a request says, and what is wrong with it. */
struct dsp_topics_asked {
    enum dsp_topics_method method;
    bool one_one; /* HTTP/1.1 */
    bool page;    /* if a page sent it, it may read the answer */
    struct dsp_topic_request request;
    struct dsp_problem problem; /* status 0: none */
    struct cmq_reason reason;   /* its detail */
    char path[DSP_TOPICS_PATH_BYTES];
    char args[DSP_TOPICS_ARGS_MAX][DSP_TOPICS_ARG_BYTES];
    char last_event_id[DSP_TOPICS_ARG_BYTES];
};

/* Reads the request and checks all that needs no state. */
void dsp_topics_read(struct lws *wsi, struct dsp_topics_asked *ret_asked);
/* Checks the rest. NULL: it can be served; *ret_feed, unless it is for OPTIONS. Else what to answer, which is part of `asked`
 * or constant, and logged. upgrade: it wants to be a WebSocket. */
const struct dsp_problem *dsp_topics_examine(const struct dsp_topics_setup *setup, struct lws *wsi,
                                             bool upgrade, struct dsp_topics_asked *asked,
                                             struct dsp_feed *ret_feed);

/* The client did not wait for the end of the answer before. */
extern const struct dsp_problem dsp_topics_sent_ahead;

/* head_only: without the body. page: as in dsp_topics_asked. */
int dsp_topics_send_problem(struct lws *wsi, bool head_only, bool page, const struct dsp_problem *problem);
/* Answers OPTIONS. */
int dsp_topics_send_options(struct lws *wsi);
/* The head of an answer whose body follows until it ends. */
int dsp_topics_send_head(struct lws *wsi, const struct dsp_feed *feed, bool chunked, bool page);

#endif
