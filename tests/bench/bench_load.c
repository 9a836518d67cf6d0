#include "tests/bench/bench_load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "common/base/cmq_clock.h"
#include "tests/bench/bench_consume.h"
#include "tests/bench/bench_http.h"

enum { EVENTS_MAX = 64, CONNECT_MS = 2000 };

static const uint64_t pause_ns = CMQ_NS_PER_S;
static const uint64_t look_ns = 100 * CMQ_NS_PER_MS; /* how often a quiet loop looks at the deadline */
static const uint64_t spin_ns = 5 * CMQ_NS_PER_US;   /* a timer that is due so soon is not worth a sleep */

enum phase { PHASE_CLOSED, PHASE_CONNECTING, PHASE_IDLE, PHASE_SENDING, PHASE_WAITING, PHASE_PAUSED };

struct connection {
    enum phase phase;
    struct bench_link link;
    bool has_post;
    unsigned tries; /* repeats so far */
    uint16_t index;
    uint64_t batch;
    size_t sent;
    uint64_t start_ns; /* the latency counts from here */
    uint64_t idle_ns;  /* since when there is nothing to do */
    uint64_t due_ns;   /* end of the pause */
    struct bench_request request;
    size_t in_bytes;
    uint8_t in[BENCH_REPLY_BYTES_MAX];
};

struct bench_loader {
    struct bench_load *load;
    struct bench_request_form form;
    int epoll_fd;
    unsigned paused; /* connections in PHASE_PAUSED */
    uint64_t next_batch;
    uint64_t now_ns;
    struct connection connections[];
};

const char *bench_failure_text(enum bench_failure failure)
{
    switch (failure) {
    case BENCH_FAILURE_NONE:
        return "";
    case BENCH_FAILURE_STATUS:
        return "status other than 200";
    case BENCH_FAILURE_REPLY:
        return "reply is no HTTP";
    case BENCH_FAILURE_LOST:
        return "connection lost";
    case BENCH_FAILURE_CONNECT:
        return "no connection";
    case BENCH_FAILURE_UNSENT:
        return "not answered before the end of the run";
    }
    return "";
}

static void fail_post(struct bench_loader *loader, struct connection *c, enum bench_failure failure,
                      unsigned status);

static void close_connection(struct connection *c)
{
    bench_link_close(&c->link); /* leaves the epoll set with it */
    c->phase = PHASE_CLOSED;
}

static bool watch(struct bench_loader *loader, struct connection *c)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    return epoll_ctl(loader->epoll_fd, EPOLL_CTL_ADD, c->link.fd, &event) == 0;
}

static void note_post(struct bench_loader *loader, const struct connection *c, enum bench_failure failure,
                      unsigned status, uint64_t latency_ns)
{
    struct timespec wall;
    if (loader->load->posts == NULL)
        return;
    (void)clock_gettime(CLOCK_REALTIME, &wall);
    loader->load->posts[c->batch] = (struct bench_post){
        .latency_ns = latency_ns,
        .ended_wall_us = (uint64_t)wall.tv_sec * 1000000u + (uint64_t)wall.tv_nsec / 1000u,
        .status = (uint16_t)status,
        .failure = (uint8_t)failure,
    };
}

/* ---- one POST ---- */

/* Takes the next batch and builds its request. */
static bool take_batch(struct bench_loader *loader, struct connection *c)
{
    const struct bench_verify *verify = loader->load->verify;
    if (loader->next_batch == verify->batch_count)
        return false;
    c->batch = loader->next_batch++;
    c->has_post = true;
    c->tries = 0;
    bench_request_build(&c->request, &loader->form, verify->first + c->batch * verify->size,
                        bench_verify_batch_messages(verify, c->batch));
    return true;
}

static void send_more(struct bench_loader *loader, struct connection *c)
{
    struct cmq_span whole = c->request.whole;
    while (c->sent < whole.bytes) {
        ssize_t got = bench_link_send(&c->link, whole.data + c->sent, whole.bytes - c->sent);
        if (got >= 0)
            c->sent += (size_t)got;
        else if (errno == EAGAIN)
            return;
        else if (errno != EINTR) {
            fail_post(loader, c, BENCH_FAILURE_LOST, 0);
            return;
        }
    }
    if (bench_link_flush(&c->link))
        c->phase = PHASE_WAITING;
}

/* (Re)sends the request of c, whose latency counts from start_ns. */
static void post(struct bench_loader *loader, struct connection *c, uint64_t start_ns)
{
    c->start_ns = start_ns;
    c->sent = 0;
    c->in_bytes = 0;
    if (c->tries == 0) {
        struct bench_batch *entry = &loader->load->verify->batches[c->batch];
        atomic_store_explicit(&entry->connection, c->index, memory_order_relaxed);
        /* Release: pairs with the consumer's acquire; connection is visible with it. */
        atomic_store_explicit(&entry->sent_ns, start_ns, memory_order_release);
    }
    if (c->link.fd >= 0) {
        c->phase = PHASE_SENDING;
        send_more(loader, c);
        return;
    }
    c->phase = PHASE_CONNECTING;
    if (bench_link_start(&c->link, &loader->load->address, NULL) != CMQ_OK || !watch(loader, c))
        fail_post(loader, c, BENCH_FAILURE_CONNECT, 0);
}

static void post_next(struct bench_loader *loader, struct connection *c)
{
    c->has_post = false;
    c->idle_ns = loader->now_ns;
    if (c->phase != PHASE_CLOSED)
        c->phase = PHASE_IDLE;
    if (loader->load->rate == 0 && take_batch(loader, c))
        post(loader, c, cmq_clock_mono_ns());
}

static void give_up(struct bench_loader *loader, struct connection *c)
{
    struct bench_load *load = loader->load;
    load->posts_failed++;
    /* Relaxed: only a target, see bench_consume. */
    atomic_fetch_sub_explicit(load->wanted, bench_verify_batch_messages(load->verify, c->batch),
                              memory_order_relaxed);
    post_next(loader, c);
}

static void fail_post(struct bench_loader *loader, struct connection *c, enum bench_failure failure,
                      unsigned status)
{
    struct bench_load *load = loader->load;
    /* Release: pairs with the consumer's acquire in count_duplicates. */
    if (c->sent > 0 && failure != BENCH_FAILURE_STATUS)
        atomic_store_explicit(&load->verify->batches[c->batch].retried, 1, memory_order_release);
    if (failure != BENCH_FAILURE_STATUS)
        close_connection(c);
    if (status != 0)
        snprintf(load->failure, sizeof load->failure, "POST %llu: status %u", (unsigned long long)c->batch,
                 status);
    else
        snprintf(load->failure, sizeof load->failure, "POST %llu: %s", (unsigned long long)c->batch,
                 bench_failure_text(failure));
    note_post(loader, c, failure, status, loader->now_ns > c->start_ns ? loader->now_ns - c->start_ns : 0);
    if (c->tries == BENCH_RETRIES_MAX) {
        give_up(loader, c);
        return;
    }
    c->tries++;
    load->retries++;
    c->due_ns = cmq_clock_mono_ns() + pause_ns;
    c->phase = PHASE_PAUSED;
    loader->paused++;
}

static void check_receipt(struct bench_load *load, struct connection *c, struct cmq_span body)
{
    struct bench_receipt receipt;
    if (load->ack == NULL && load->topic == NULL)
        return;
    bench_receipt_parse(body, &receipt);
    load->no_ids += receipt.seq == 0;
    /* Release: pairs with the consumer's acquire in bench_verify_excuse. */
    atomic_store_explicit(&load->verify->batches[c->batch].seq, receipt.seq, memory_order_release);
    if (load->ack != NULL && strcmp(receipt.ack, load->ack) != 0 && load->wrong_acks++ == 0)
        memcpy(load->wrong_ack, receipt.ack, sizeof load->wrong_ack);
}

static void accept_post(struct bench_loader *loader, struct connection *c, struct cmq_span body)
{
    struct bench_load *load = loader->load;
    check_receipt(load, c, body);
    uint64_t latency_ns = loader->now_ns > c->start_ns ? loader->now_ns - c->start_ns : 0;
    bench_hist_add(&load->reply, latency_ns);
    load->posts_accepted++;
    load->messages_accepted += bench_verify_batch_messages(load->verify, c->batch);
    load->body_bytes += c->request.body_bytes;
    load->last_ns = loader->now_ns;
    note_post(loader, c, BENCH_FAILURE_NONE, 200, latency_ns);
    post_next(loader, c);
}

/* ---- events ---- */

/* A refusal because the wait was too long leaves open whether the messages are kept. */
static void mark_kept(struct bench_loader *loader, struct connection *c, struct cmq_span body)
{
    static const char kept[] = "not-durable";
    if (memmem(body.data, body.bytes, kept, sizeof kept - 1) != NULL)
        /* Release: pairs with the consumer's acquire in count_duplicates. */
        atomic_store_explicit(&loader->load->verify->batches[c->batch].retried, 1, memory_order_release);
}

static void take_reply(struct bench_loader *loader, struct connection *c, const struct bench_reply *reply)
{
    bool early = c->phase == PHASE_SENDING;
    if (reply->bytes != c->in_bytes) {
        fail_post(loader, c, BENCH_FAILURE_REPLY, 0);
        return;
    }
    c->in_bytes = 0;
    /* The rest of a request that was answered early cannot be taken back. */
    if (early || reply->close)
        close_connection(c);
    if (reply->status == 200 && !early)
        accept_post(loader, c, reply->body);
    else {
        mark_kept(loader, c, reply->body);
        fail_post(loader, c, BENCH_FAILURE_STATUS, reply->status);
    }
}

static void read_reply(struct bench_loader *loader, struct connection *c)
{
    for (;;) {
        size_t room = sizeof c->in - c->in_bytes;
        ssize_t got = bench_link_recv(&c->link, c->in + c->in_bytes, room);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return;
        bool waiting = c->phase == PHASE_SENDING || c->phase == PHASE_WAITING;
        if (got <= 0 || !waiting) {
            /* An idle connection may be closed by the server at any time: no failure of a POST. */
            if (waiting)
                fail_post(loader, c, BENCH_FAILURE_LOST, 0);
            else if (c->phase == PHASE_PAUSED) {
                close_connection(c);
                c->phase = PHASE_PAUSED;
            } else {
                close_connection(c);
            }
            return;
        }
        c->in_bytes += (size_t)got;
        loader->now_ns = cmq_clock_mono_ns();
        struct bench_reply reply;
        enum cmq_err err = bench_reply_parse(cmq_span_make(c->in, c->in_bytes), &reply);
        if (err == CMQ_OK)
            take_reply(loader, c, &reply);
        else if (err != CMQ_ERR_AGAIN)
            fail_post(loader, c, BENCH_FAILURE_REPLY, 0);
        /* A short read emptied the socket; what comes later is a new edge. */
        if (err != CMQ_ERR_AGAIN || (size_t)got < room)
            return;
    }
}

static void take_event(struct bench_loader *loader, struct connection *c, uint32_t events)
{
    if (c->phase == PHASE_CONNECTING) {
        enum cmq_err err = bench_link_finish(&c->link, NULL);
        if (err == CMQ_OK) {
            c->phase = PHASE_SENDING;
            send_more(loader, c);
        } else if (err != CMQ_ERR_AGAIN) {
            fail_post(loader, c, BENCH_FAILURE_CONNECT, 0);
        }
        return;
    }
    if (c->phase == PHASE_SENDING && (events & EPOLLOUT) != 0)
        send_more(loader, c);
    if (c->link.fd >= 0 && (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
        read_reply(loader, c);
}

/* ---- time ---- */

static uint64_t batch_due_ns(const struct bench_loader *loader)
{
    return loader->load->first_ns + loader->next_batch * CMQ_NS_PER_S / loader->load->rate;
}

static bool is_free(const struct connection *c)
{
    return !c->has_post;
}

/* Starts what is due by the schedule; returns when the next one is. */
static uint64_t run_schedule(struct bench_loader *loader)
{
    struct bench_load *load = loader->load;
    for (unsigned i = 0; i < load->connections; i++) {
        struct connection *c = &loader->connections[i];
        if (!is_free(c))
            continue;
        if (loader->next_batch == load->verify->batch_count)
            return UINT64_MAX;
        uint64_t due_ns = batch_due_ns(loader), now_ns = cmq_clock_mono_ns();
        if (now_ns < due_ns)
            return due_ns;
        bool waited_for_broker = c->idle_ns > due_ns;
        if (take_batch(loader, c)) {
            now_ns = cmq_clock_mono_ns();
            bench_hist_add(&load->late, waited_for_broker ? 0 : now_ns - due_ns);
            post(loader, c, waited_for_broker ? due_ns : now_ns);
        }
    }
    return UINT64_MAX;
}

/* Ends pauses; returns when the next one ends. */
static uint64_t run_pauses(struct bench_loader *loader)
{
    uint64_t next_ns = UINT64_MAX;
    for (unsigned i = 0; loader->paused > 0 && i < loader->load->connections; i++) {
        struct connection *c = &loader->connections[i];
        if (c->phase != PHASE_PAUSED)
            continue;
        if (loader->now_ns < c->due_ns) {
            next_ns = cmq_min_u64(next_ns, c->due_ns);
            continue;
        }
        loader->paused--;
        post(loader, c, loader->now_ns);
    }
    return next_ns;
}

static void wait_and_take(struct bench_loader *loader, uint64_t due_ns)
{
    struct epoll_event events[EVENTS_MAX];
    uint64_t now_ns = cmq_clock_mono_ns();
    uint64_t sleep_ns = due_ns > now_ns + spin_ns ? due_ns - now_ns - spin_ns : 0;
    if (sleep_ns > look_ns)
        sleep_ns = look_ns;
    struct timespec timeout = {.tv_nsec = (long)sleep_ns};
    int count = epoll_pwait2(loader->epoll_fd, events, EVENTS_MAX, &timeout, NULL);
    loader->now_ns = cmq_clock_mono_ns();
    for (int i = 0; i < count; i++)
        take_event(loader, events[i].data.ptr, events[i].events);
}

static void *load_main(void *arg)
{
    struct bench_loader *loader = arg;
    struct bench_load *load = loader->load;
    /* The default slack of 50 us would be half of the latency that is measured. */
    (void)prctl(PR_SET_TIMERSLACK, 1ul, 0ul, 0ul, 0ul);
    uint64_t cpu_start_ns = bench_thread_cpu_ns();
    for (unsigned i = 0; load->rate == 0 && i < load->connections; i++)
        (void)take_batch(loader, &loader->connections[i]);
    loader->now_ns = load->first_ns = cmq_clock_mono_ns();
    for (unsigned i = 0; load->rate == 0 && i < load->connections; i++)
        if (loader->connections[i].has_post)
            post(loader, &loader->connections[i], cmq_clock_mono_ns());
    while (load->posts_accepted + load->posts_failed < load->verify->batch_count) {
        uint64_t due_ns = run_pauses(loader);
        if (load->rate != 0)
            due_ns = cmq_min_u64(due_ns, run_schedule(loader));
        wait_and_take(loader, due_ns);
        /* Relaxed: a flag. */
        load->timed_out = loader->now_ns > load->deadline_ns;
        if (load->timed_out || atomic_load_explicit(load->stop, memory_order_relaxed) != 0)
            break;
    }
    load->cpu_ns = bench_thread_cpu_ns() - cpu_start_ns;
    return NULL;
}

/* ---- life ---- */

static void free_loader(struct bench_load *load)
{
    struct bench_loader *loader = load->loader;
    load->loader = NULL;
    if (loader == NULL)
        return;
    for (unsigned i = 0; i < load->connections; i++) {
        close_connection(&loader->connections[i]);
        bench_request_fini(&loader->connections[i].request);
    }
    if (loader->epoll_fd >= 0)
        close(loader->epoll_fd);
    free(loader);
}

static enum cmq_err open_connections(struct bench_loader *loader, struct cmq_reason *reason)
{
    struct bench_load *load = loader->load;
    for (unsigned i = 0; i < load->connections; i++) {
        struct connection *c = &loader->connections[i];
        c->index = (uint16_t)i;
        if (bench_request_init(&c->request, &loader->form) != CMQ_OK)
            return cmq_reason_set(reason, CMQ_ERR_NOMEM, "out of memory");
        enum cmq_err err = bench_link_open(&c->link, &load->address, CONNECT_MS, reason);
        if (err != CMQ_OK)
            return err;
        c->phase = PHASE_IDLE;
        if (!watch(loader, c))
            return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "epoll: %s", strerror(errno));
    }
    return CMQ_OK;
}

enum cmq_err bench_load_start(struct bench_load *load, struct cmq_reason *reason)
{
    cmq_assert(load->connections > 0 && load->connections <= BENCH_CONNECTIONS_MAX);
    for (uint64_t i = 0; load->posts != NULL && i < load->verify->batch_count; i++)
        load->posts[i].failure = BENCH_FAILURE_UNSENT;
    struct bench_loader *loader =
        calloc(1, sizeof *loader + load->connections * sizeof loader->connections[0]);
    if (loader == NULL)
        return cmq_reason_set(reason, CMQ_ERR_NOMEM, "out of memory");
    load->loader = loader;
    loader->load = load;
    loader->form = (struct bench_request_form){.host = load->address.text,
                                               .single = load->single,
                                               .size = load->verify->size,
                                               .topic = load->topic,
                                               .ack = load->ack,
                                               .token = load->address.token};
    for (unsigned i = 0; i < load->connections; i++)
        loader->connections[i].link = bench_link_closed();
    loader->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    enum cmq_err err = loader->epoll_fd >= 0
                           ? open_connections(loader, reason)
                           : cmq_reason_set(reason, CMQ_ERR_SYSTEM, "epoll: %s", strerror(errno));
    if (err == CMQ_OK && pthread_create(&load->thread, NULL, load_main, loader) != 0)
        err = cmq_reason_set(reason, CMQ_ERR_SYSTEM, "no thread for the publishers");
    if (err != CMQ_OK)
        free_loader(load);
    return err;
}

void bench_load_join(struct bench_load *load)
{
    (void)pthread_join(load->thread, NULL);
    free_loader(load);
}
