/*
 * dsp_topics: the connections of /t/{topic}/ws, /t/{topic}/sse and /t/{topic}/json as the WebSocket library sees them: requests in,
 *             texts out, heartbeats, slow clients.
 * Ownership: new/free; a connection is heap memory that its visitor (dsp_ws_door) points to. Borrows everything in the setup.
 * Units: bytes, milliseconds, nanoseconds of CLOCK_MONOTONIC.
 * Errors: new: CMQ_ERR_NOMEM; later ones are told by setup.fail. The int results are the library's: 0 go on, -1 close.
 * Callers: the delivery thread (new and free: while it does not run).
 *
 * At most one text of a connection is on its way through the library; the next one is built when the kernel has that whole.
 * An answer by plain HTTP has no length: it is chunked, for a client of HTTP/1.0 it ends with the connection. It is the last
 * answer of its connection, so requests that were sent ahead behind it are not looked at.
 */
#ifndef DSP_TOPICS_H
#define DSP_TOPICS_H

#include <libwebsockets.h>

#include "common/auth/cmq_auth.h"
#include "common/shm/cmq_ring.h"
#include "dispatcher/dsp_problem.h"
#include "dispatcher/dsp_topic.h"
#include "dispatcher/dsp_ws_guard.h"

/* The subprotocol for browsers that add one for their token; others need none. */
#define DSP_TOPICS_PROTOCOL "ciphermq.topic.json"
/* Before the texts, for the library and the head of a chunk. */
#define DSP_TOPICS_HEADROOM (LWS_PRE + DSP_TOPIC_CHUNK_HEAD_BYTES)

struct dsp_topics;
struct dsp_roll;

struct dsp_topics_setup {
    struct cmq_ring *ring; /* for counters */
    struct dsp_source *source;
    struct dsp_encoder *encoder;
    struct dsp_text *frame; /* with DSP_TOPICS_HEADROOM */
    uint64_t heartbeat_ms, retry_ms, poll_wait_ms_max, silence_ns;
    size_t receive_bytes_max;
    struct dsp_guard_limits guard;
    /* Why no client is taken now (a literal), or NULL. */
    const char *(*busy)(void *context);
    /* NULL: nothing is wrong with the request, whatever it is for: no token in its URL, no page of another site. Else what to
     * answer. */
    const struct dsp_problem *(*look_at)(void *context, struct lws *wsi);
    /* NULL: who sent it may subscribe to the pattern. Else what to answer. */
    const struct dsp_problem *(*check)(void *context, struct lws *wsi, struct cmq_span pattern);
    bool (*is_live)(void *context, const struct cmq_grant *grant);
    /* A connection came or went; what is left of the process's life. */
    void (*joined)(void *context);
    void (*left)(void *context);
    void (*fail)(void *context, enum cmq_err err);
    /* Somebody waits for record seq: dsp_topics_stored is to be called when it is stored. */
    void (*follow)(void *context, uint64_t seq);
    void *context;
};
CMQ_MUST_USE enum cmq_err dsp_topics_new(const struct dsp_topics_setup *setup,
                                         struct dsp_topics **ret_topics);
/* No connection may be left. NULL is fine. */
void dsp_topics_free(struct dsp_topics *topics);

/* The library's description of the subprotocol. */
void dsp_topics_protocol(struct dsp_topics *topics, struct lws_protocols *ret_protocol);
void dsp_topics_set_limits(struct dsp_topics *topics, const struct dsp_push_limits *limits,
                           uint64_t write_timeout_ns);
/* The log has more. */
void dsp_topics_stored(struct dsp_topics *topics);
/* Once a second: what clients send. */
void dsp_topics_look(struct dsp_topics *topics, uint64_t now_ns);
/* The first record that the connection that is farthest behind has not passed; UINT64_MAX: there is none. */
uint64_t dsp_topics_unread(const struct dsp_topics *topics);
/* Puts all connections on the roll. */
void dsp_topics_tell(struct dsp_topics *topics, struct dsp_roll *roll);
/* Grants may have ended: whose did is closed. */
void dsp_topics_recheck(struct dsp_topics *topics);
/* Every connection ends when its text is out. */
void dsp_topics_drain(struct dsp_topics *topics);

/* Whether the request is for /t/... */
bool dsp_topics_is_path(struct lws *wsi);
/* LWS_CALLBACK_HTTP for such a request. */
int dsp_topics_answer(struct dsp_topics *topics, struct lws *wsi);
/* LWS_CALLBACK_HTTP_CONFIRM_UPGRADE for such a request. 0: go on, 1: answered with an error, -1: close. */
int dsp_topics_check_upgrade(struct dsp_topics *topics, struct lws *wsi);
/* Every callback of a connection that has an upgraded request for /t/, or an answer of dsp_topics_answer. */
int dsp_topics_callback(struct dsp_topics *topics, struct lws *wsi, enum lws_callback_reasons reason,
                        size_t bytes);

#endif
