/*
 * dsp_ws_int: the state of the WebSocket server, shared by dsp_ws.c (library, threads, life), dsp_ws_groups.c
 *             (hooks and timers), dsp_ws_door.c (who comes in) and dsp_client.c (delivery).
 * Ownership: one struct dsp_ws a process, on the heap; dsp_ws_start and dsp_ws_stop own it.
 * Units: milliseconds, bytes, nanoseconds of CLOCK_MONOTONIC.
 * Errors: none.
 * Callers: these files. Fields say which thread uses them.
 */
#ifndef DSP_WS_INT_H
#define DSP_WS_INT_H

#include <libwebsockets.h>
#include <pthread.h>

#include "dispatcher/dsp_client.h"
#include "dispatcher/dsp_groups.h"
#include "dispatcher/dsp_tls.h"
#include "dispatcher/dsp_waiter.h"
#include "dispatcher/dsp_ws.h"
#include "dispatcher/dsp_ws_v1.h"

struct dsp_access;
struct dsp_loop;
struct dsp_topics;
struct dsp_board;
struct cmq_address_counts;

/* What may change while it runs (SIGHUP). */
struct dsp_settings {
    uint64_t write_timeout_ms, frame_bytes_max;
    uint32_t frame_messages_max;
};

struct dsp_ws {
    /* set by start, then constant */
    struct cmq_proc *proc;
    struct cmq_ring *ring;
    struct dsp_loop *loop;
    struct lws_context *context;
    struct lws_vhost *vhost;
    struct dsp_tls *tls; /* borrowed; NULL: clear text */
    uint32_t clients_max;
    uint32_t address_clients_max;
    size_t receive_bytes_max;
    struct dsp_guard_limits guard;
    char origins[256];   /* of pages that may connect */
    uint64_t silence_ns; /* no sign of life for so long: gone */
    lws_retry_bo_t retry;
    struct lws_protocols protocols[8];
    struct dsp_v1 *v1;         /* connections of /v1/ws */
    struct dsp_topics *topics; /* of /t/ */
    struct dsp_board *board;   /* of /v1/status, and the dashboard */
    pthread_t thread;
    bool thread_started;

    /* any thread */
    struct dsp_waiter waiter;
    atomic_uint asks;

    /* delivery thread */
    struct dsp_source *source;
    struct dsp_access *access;
    struct cmq_address_counts *addresses; /* of open connections, whatever they do */
    struct dsp_groups *groups;
    struct dsp_letters *letters;
    lws_sorted_usec_list_t timer; /* of groups */
    bool timing;
    struct dsp_frame frame;
    struct dsp_text text; /* of frames of /v1/ws */
    struct dsp_encoder encoder;
    bool following; /* the waiter is armed */
    struct dsp_client *clients;
    uint32_t client_count;
    uint64_t write_timeout_ns;
    lws_sorted_usec_list_t sweep;
    lws_sorted_usec_list_t teller; /* of the tables */
    struct cmq_tables_page *tables;
    lws_sorted_usec_list_t watch; /* of what clients send, and of grants that expire */
    bool watching;
    int spare_fd;
    struct lws *listener;
    bool sweeping, draining, stopped;

    /* under lock */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool drained;
    struct dsp_settings settings;
};

/* What other threads ask of the delivery thread. */
enum {
    DSP_ASK_STOP = 1,
    DSP_ASK_DRAIN = 2,
    DSP_ASK_RELOAD = 4,
    DSP_ASK_RANG = 8,
    DSP_ASK_DURABLE = 16,
    DSP_ASK_RECHECK = 32
};
/* Any thread. */
void dsp_ws_ask(struct dsp_ws *ws, unsigned what);

/* ---- dsp_ws_groups.c ---- */

enum cmq_err dsp_ws_open_groups(struct dsp_ws *ws, const struct dsp_parts *parts);
/* A client came: deadlines and guards are looked at while there is one. */
void dsp_ws_start_timers(struct dsp_ws *ws);
/* Groups and clients go to the tables a few times a second from now on. */
void dsp_ws_start_telling(struct dsp_ws *ws);
/* Closes connections whose grant is over. */
void dsp_ws_recheck_all(struct dsp_ws *ws);

/* ---- dsp_ws_topics.c ---- */

enum cmq_err dsp_ws_open_topics(struct dsp_ws *ws, const struct dsp_parts *parts);
enum cmq_err dsp_ws_open_board(struct dsp_ws *ws, const struct dsp_parts *parts);
/* Why no client is taken now (a literal), or NULL. */
const char *dsp_ws_busy(const struct dsp_ws *ws);

/* A client came or went that is in no list of ws. */
void dsp_ws_client_joined(void *ws);
void dsp_ws_client_left(void *ws);

/* Somebody waits for record seq: dsp_ws asks everyone to look again when it is stored. */
void dsp_ws_follow(struct dsp_ws *ws, uint64_t seq);
/* A fault that ends the process. */
void dsp_ws_fail(struct dsp_ws *ws, enum cmq_err err);
/* While draining: tells the main thread when the last client is gone and no dead letter is on its way. */
void dsp_ws_check_drained(struct dsp_ws *ws);

#endif
