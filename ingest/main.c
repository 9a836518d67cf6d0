#include "common/base/cmq_clock.h"

#include "common/log/cmq_log.h"
#include "common/proc/cmq_proc.h"
#include "common/proc/cmq_stage_ring.h"
#include "common/shm/cmq_metrics.h"
#include "ingest/ing_admit.h"
#include "ingest/ing_http.h"
#include "ingest/ing_tls.h"
#include "ingest/ing_watch.h"

enum { TICKS_PER_LOOK = 10 }; /* 250 ms */
/* A drain leaves kept connections that are in use so much time for one more request, whose reply closes them:
 * fewer clients find their connection closed under a request. */
enum { PARTING_MS = 200 };
/* The last refusals are written within this. */
enum { REFUSAL_MS = 500 };

struct stage {
    struct cmq_proc *proc;
    struct cmq_ring *ring;
    struct ing_admit *admit;
    struct ing_durable *durable;
    struct ing_tls *tls; /* NULL: clear text */
    struct cmq_auth *auth;
    struct ing_http *http;
    unsigned ticks;
    bool waits_stopped;
};

static struct ing_admit_limits admit_limits(const struct cmq_conf *conf)
{
    return (struct ing_admit_limits){.wait_ms = conf->ingest_admission_wait_ms,
                                     .waiting_bytes_max = conf->ingest_waiting_bytes_max};
}

static enum cmq_err write_metrics(struct cmq_ring *ring, bool topics, struct cmq_buf *text)
{
    struct cmq_sight *sight = NULL;
    enum cmq_err err = cmq_sight_take(ring, &sight);
    if (err == CMQ_OK)
        err = cmq_metrics_write(sight, CMQ_VERSION, topics, text);
    cmq_sight_free(sight);
    return err;
}

static enum cmq_err write_all_metrics(struct cmq_ring *ring, struct cmq_buf *text)
{
    return write_metrics(ring, true, text);
}

static enum cmq_err write_few_metrics(struct cmq_ring *ring, struct cmq_buf *text)
{
    return write_metrics(ring, false, text);
}

static enum cmq_err start_http(struct stage *stage, const struct cmq_conf *conf, struct cmq_reason *reason)
{
    const struct ing_http_setup setup = {
        .listen = conf->ingest_listen,
        .port = (uint16_t)conf->ingest_port,
        .threads = (unsigned)conf->ingest_threads,
        .connections_max = (unsigned)conf->ingest_connections_max,
        .idle_s = (unsigned)conf->ingest_idle_s,
        .request_bytes_max = (size_t)conf->ingest_request_bytes_max,
        .receive_bytes_max = (size_t)conf->ingest_receive_bytes_max,
        .head_ms = conf->ingest_head_ms,
        .body_rate_min = conf->ingest_body_rate_min,
        .message_limits = {.message_bytes_max = (size_t)conf->ingest_message_bytes_max,
                           .messages_max = (uint32_t)conf->ingest_request_messages_max,
                           .headers_bytes_max = (size_t)conf->ingest_meta_bytes_max,
                           .ttl_ms_max = conf->ingest_ttl_ms_max},
        .head_limits = {.headers_max = (uint32_t)conf->ingest_headers_max,
                        .meta_bytes_max = (size_t)conf->ingest_meta_bytes_max,
                        .ttl_ms_max = conf->ingest_ttl_ms_max,
                        .gzip = conf->ingest_gzip == CMQ_CONF_GZIP_ON},
        .gzip_ratio_max = conf->ingest_gzip_ratio_max,
        .stream_record_bytes = (size_t)conf->ingest_stream_record_bytes,
        .stream_errors_max = (uint32_t)conf->ingest_stream_errors_max,
        .address_connections_max = (uint32_t)conf->ingest_address_connections_max,
        .messages_rate = conf->tokens_messages_rate,
        .bytes_rate = conf->tokens_bytes_rate,
        .cors_origins = conf->ingest_cors_origins,
        .metrics =
            conf->common_metrics_topics == CMQ_CONF_METRICS_TOPICS_ON ? write_all_metrics : write_few_metrics,
        .metrics_type = CMQ_METRICS_TYPE,
        .ack = conf->ingest_ack == CMQ_CONF_ACK_DURABLE ? ING_ACK_DURABLE : ING_ACK_ACCEPTED,
        .tls = stage->tls,
        .can_be_durable = cmq_conf_log_sync(conf) != CMQ_CONF_SYNC_NONE,
    };
    const struct ing_http_parts parts = {
        .ring = stage->ring, .admit = stage->admit, .durable = stage->durable, .auth = stage->auth};
    enum cmq_err err = ing_http_start(&setup, &parts, &stage->http, reason);
    if (err == CMQ_OK)
        cmq_log(CMQ_LOG_INFO, CMQ_EV_LISTENING, "address=%s port=%u tls=%d", setup.listen, setup.port,
                setup.tls != NULL);
    return err;
}

static enum cmq_err open_tls(struct stage *stage, const struct cmq_conf *conf, struct cmq_reason *reason)
{
    struct cmq_tls_setup setup;
    if (stage->tls != NULL || !cmq_tls_setup(conf, &setup))
        return CMQ_OK;
    return ing_tls_new(&setup, &stage->tls, reason);
}

/* Certificates that cannot be used change nothing: those of before are shown until better ones come. */
static void refresh_tls(struct stage *stage, bool must)
{
    struct cmq_reason reason = {.text = ""};
    struct cmq_log_quoted_sentence quoted;
    bool read = false;
    if (stage->tls == NULL)
        return;
    if (ing_tls_refresh(stage->tls, must, cmq_clock_mono_ns(), &read, &reason) != CMQ_OK)
        cmq_log(CMQ_LOG_ERROR, CMQ_EV_REFUSED, "what=tls reason=%s", cmq_log_sentence(&quoted, reason.text));
    else if (read)
        cmq_log(CMQ_LOG_INFO, CMQ_EV_RELOADED, "what=tls");
}

static enum cmq_err start(void *self, struct cmq_proc *proc, struct cmq_reason *reason)
{
    struct stage *stage = self;
    const struct cmq_conf *conf = &proc->conf;
    stage->proc = proc;
    enum cmq_err err = CMQ_OK;
    if (stage->ring == NULL) {
        struct cmq_ring_setup setup;
        cmq_stage_ring_setup(conf, proc->instance, conf->ingest_arena_bytes, &setup);
        err = cmq_ring_attach(&setup, CMQ_ROLE_INGEST, &stage->ring, reason);
    }
    if (err == CMQ_OK && stage->admit == NULL) {
        const struct ing_admit_limits limits = admit_limits(conf);
        err = ing_admit_start(stage->ring, &limits, &stage->admit);
        if (err != CMQ_OK)
            (void)cmq_reason_set(reason, err, "the waiting thread does not start");
    }
    if (err == CMQ_OK && stage->durable == NULL) {
        err = ing_durable_start(stage->ring, conf->ingest_durable_wait_ms, &stage->durable);
        if (err != CMQ_OK)
            (void)cmq_reason_set(reason, err, "the thread that waits for the log does not start");
    }
    if (err == CMQ_OK)
        err = open_tls(stage, conf, reason);
    if (err == CMQ_OK && stage->auth == NULL)
        err = cmq_auth_new(conf->tokens_file, (uint32_t)conf->tokens_failures_max, &stage->auth, reason);
    return err == CMQ_OK ? start_http(stage, conf, reason) : err;
}

/* Tokens that cannot be read leave those that were. */
static void look_at_tokens(struct stage *stage, bool force)
{
    struct cmq_reason reason;
    struct cmq_log_quoted_sentence quoted;
    bool changed = false;
    if (cmq_auth_reload(stage->auth, force, &changed, &reason) != CMQ_OK)
        cmq_log(CMQ_LOG_ERROR, CMQ_EV_REFUSED, "what=tokens reason=%s",
                cmq_log_sentence(&quoted, reason.text));
    else if (changed)
        cmq_log(CMQ_LOG_INFO, CMQ_EV_RELOADED, "what=tokens");
}

static void look_at_ring(struct stage *stage)
{
    struct cmq_reason reason = {.text = ""};
    enum cmq_err err = cmq_ring_tick(stage->ring, &reason);
    if (err == CMQ_OK && reason.text[0] != '\0') /* a silent member that this process may not end */
        cmq_log(CMQ_LOG_WARN, CMQ_EV_MEMBER_DEAD, "reason=\"%s\"", reason.text);
    if (err != CMQ_OK) {
        struct cmq_log_quoted_sentence quoted;
        cmq_log(CMQ_LOG_ERROR, err == CMQ_ERR_LOST ? CMQ_EV_MEMBER_DEAD : CMQ_EV_RING_CORRUPT, "reason=%s",
                cmq_log_sentence(&quoted, reason.text));
        cmq_proc_fail(stage->proc, err == CMQ_ERR_LOST ? CMQ_EXIT_TEMPORARY : CMQ_EXIT_INVARIANT);
    }
}

static void tick(void *self)
{
    struct stage *stage = self;
    ing_http_tick(stage->http, cmq_clock_mono_ns());
    if (++stage->ticks % TICKS_PER_LOOK != 0)
        return;
    look_at_ring(stage);
    look_at_tokens(stage, false);
    refresh_tls(stage, false);
}

static void reload(void *self)
{
    struct stage *stage = self;
    const struct ing_admit_limits limits = admit_limits(&stage->proc->conf);
    ing_admit_set_limits(stage->admit, &limits);
    ing_durable_set_wait_ms(stage->durable, stage->proc->conf.ingest_durable_wait_ms);
    refresh_tls(stage, true);
    look_at_tokens(stage, true);
}

/* In this order: who waited for room may wait for the log next. */
static void stop_waits(struct stage *stage)
{
    if (stage->admit != NULL && !stage->waits_stopped)
        ing_admit_stop(stage->admit);
    if (stage->durable != NULL && !stage->waits_stopped)
        ing_durable_stop(stage->durable);
    stage->waits_stopped = true;
}

/* Looks for a second signal now and then; the end of the work ends the wait at once. */
static void finish_work(struct stage *stage, uint64_t deadline_ns)
{
    const uint64_t parting_ns = cmq_min_u64(deadline_ns, cmq_clock_mono_ns() + PARTING_MS * CMQ_NS_PER_MS);
    uint64_t now_ns;
    while ((now_ns = cmq_clock_mono_ns()) < deadline_ns && !cmq_proc_draining_cut(stage->proc)) {
        const uint64_t look_ns = cmq_min_u64(deadline_ns, now_ns + 50 * CMQ_NS_PER_MS);
        bool done = now_ns < parting_ns ? ing_http_wait_closed(stage->http, cmq_min_u64(look_ns, parting_ns))
                                        : ing_http_wait_idle(stage->http, look_ns);
        if (done || cmq_ring_tick(stage->ring, NULL) != CMQ_OK)
            return;
    }
}

static void drain(void *self, uint64_t deadline_ns)
{
    struct stage *stage = self;
    ing_http_quiesce(stage->http);
    finish_work(stage, deadline_ns);
    /* Who still waits gets a 503 before the sockets close. */
    stop_waits(stage);
    (void)ing_http_wait_idle(stage->http, cmq_clock_mono_ns() + REFUSAL_MS * CMQ_NS_PER_MS);
}

static void stop(void *self)
{
    struct stage *stage = self;
    stop_waits(stage);
    ing_http_stop(stage->http);
    ing_tls_free(stage->tls);
    cmq_auth_free(stage->auth);
    ing_durable_free(stage->durable);
    ing_admit_free(stage->admit);
    cmq_ring_detach(stage->ring);
    *stage = (struct stage){.proc = stage->proc};
}

int main(int argc, char **argv)
{
    struct cmq_proc proc;
    if (!cmq_proc_init(&proc, "ingest", "takes messages by HTTP and passes them on", argc, argv))
        return proc.exit_code;
    struct stage stage = {.proc = &proc};
    const struct cmq_stage hooks = {.start = start,
                                    .tick = tick,
                                    .reload = reload,
                                    .drain = drain,
                                    .stop = stop,
                                    .self = &stage,
                                    .tick_ms = ING_WATCH_TICK_MS};
    return cmq_proc_run(&proc, &hooks);
}
