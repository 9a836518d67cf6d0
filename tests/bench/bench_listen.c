#include "tests/bench/bench_listen.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "common/base/cmq_clock.h"
#include "tests/bench/bench_consume.h"

enum { EVENTS_MAX = 256, LOOK_MS = 50 };

static const uint64_t quiet_ns = 200 * CMQ_NS_PER_MS;

/* What a message callback needs. */
struct call {
    struct bench_listen *listen;
    struct bench_member *member;
};

/* ---- checks ---- */

static void check_ids(struct bench_listen *listen, struct bench_member *member,
                      const struct bench_item_run *run)
{
    const struct bench_verify *verify = member->verify;
    bool repeated = run->attempt > 1;
    bool follows = !member->any || run->id.seq > member->last.seq ||
                   (run->id.seq == member->last.seq && run->id.index > member->last.index);
    /* A subscriber gets a record from its first message on, without holes. */
    if (listen->group == NULL && follows && member->any)
        follows = run->id.index == (run->id.seq == member->last.seq ? member->last.index + 1 : 0);
    listen->wrong_ids += !follows && !repeated;
    member->any = true;
    member->last = run->id;
    member->last.index += run->count - 1;

    /* The run is of one record, so of one POST: its messages are counted through by both. */
    uint64_t batch = (run->number - verify->first) / verify->size;
    if (run->number < verify->first || batch >= verify->batch_count)
        return; /* foreign, counted by the verifier */
    uint64_t first = verify->first + batch * verify->size;
    uint64_t *seq = &listen->seqs[batch];
    /* Relaxed: a flag; a retried POST may be kept in two records. */
    bool retried = atomic_load_explicit(&verify->batches[batch].retried, memory_order_relaxed) != 0;
    if (run->number - first != run->id.index || (*seq != 0 && *seq != run->id.seq && !retried))
        listen->wrong_ids++;
    *seq = run->id.seq;
}

static void take_run(struct bench_listen *listen, struct bench_member *member,
                     const struct bench_item_run *run, uint64_t now_ns)
{
    listen->deliveries += run->count;
    member->to_ack += run->count;
    if (!run->ours) {
        bench_verify_add_foreign(member->verify);
        return;
    }
    check_ids(listen, member, run);
    if (run->attempt > 1) {
        listen->redelivered += run->count;
        if (listen->may_come_back)
            return;
    }
    bench_verify_add(member->verify, run->number, run->count, now_ns);
}

static void take_gap(struct bench_listen *listen, struct bench_member *member, const struct bench_push *push)
{
    listen->gaps++;
    snprintf(listen->last_gap, sizeof listen->last_gap,
             "from %" PRIu64 "-%" PRIu64 " to %" PRIu64 "-%" PRIu64 ", %.*s", push->from.seq,
             push->from.index, push->to.seq, push->to.index, (int)cmq_min_u64(push->reason.bytes, 40),
             (const char *)push->reason.data);
    if (listen->gaps_excuse)
        bench_verify_excuse(member->verify, push->from.seq, push->to.seq);
    /* What comes next may begin anywhere behind the gap. */
    member->any = false;
}

static void take_error(struct bench_listen *listen, const struct bench_push *push)
{
    listen->error_replies++;
    snprintf(listen->last_error, sizeof listen->last_error, "%.*s: %.*s",
             (int)cmq_min_u64(push->code.bytes, 40), (const char *)push->code.data,
             (int)cmq_min_u64(push->reason.bytes, 100), (const char *)push->reason.data);
}

static enum cmq_err on_message(void *context, struct cmq_span message, uint64_t now_ns,
                               struct cmq_reason *reason)
{
    struct call *call = context;
    struct bench_listen *listen = call->listen;
    struct bench_push push;
    struct bench_item_run run;
    (void)reason;
    bench_push_parse(message, call->member->v1->msgpack, &push);
    switch (push.kind) {
    case BENCH_PUSH_MSGS:
        while (bench_push_next(&push, &run))
            take_run(listen, call->member, &run, now_ns);
        listen->wrong_messages += push.doc.bad;
        break;
    case BENCH_PUSH_GAP:
        take_gap(listen, call->member, &push);
        break;
    case BENCH_PUSH_OK:
        listen->acked += push.acked;
        listen->stale += push.stale;
        call->member->acks_waiting -= call->member->acks_waiting > 0;
        break;
    case BENCH_PUSH_ERROR:
        take_error(listen, &push);
        break;
    case BENCH_PUSH_HEARTBEAT:
        break;
    case BENCH_PUSH_BAD:
        listen->wrong_messages++;
        break;
    }
    return CMQ_OK;
}

/* ---- the loop ---- */

static enum cmq_err send_ack(struct bench_listen *listen, struct bench_member *member)
{
    char upto[48];
    snprintf(upto, sizeof upto, "%" PRIu64 "-%" PRIu64, member->last.seq, member->last.index);
    struct bench_field fields[] = {{.key = "group", .text = listen->group}, {.key = "upto", .text = upto}};
    enum cmq_err err = bench_v1_command(member->v1, "ack", fields, 2, &listen->reason);
    if (err == CMQ_ERR_FULL)
        return CMQ_OK; /* with the next ones */
    member->to_ack = 0;
    member->acks_waiting++;
    listen->acks++;
    return err;
}

/* Relaxed: a target, nothing is published by it. */
static bool has_all(const struct bench_listen *listen, const struct bench_member *member)
{
    uint64_t wanted = atomic_load_explicit(listen->wanted, memory_order_relaxed);
    return member->verify->unique + member->verify->excused >= wanted &&
           (listen->group == NULL || listen->acked >= wanted);
}

static void note_done(struct bench_listen *listen, struct bench_member *member)
{
    if (!member->done && has_all(listen, member)) {
        member->done = true;
        listen->done++;
    }
}

static enum cmq_err take_event(struct bench_listen *listen, struct bench_member *member)
{
    struct call call = {.listen = listen, .member = member};
    enum cmq_err err;
    do
        err = bench_v1_read(member->v1, &listen->scratch, on_message, &call, &listen->reason);
    while (err == CMQ_OK && bench_link_has_more(&member->v1->link));
    if (err == CMQ_ERR_AGAIN)
        err = CMQ_OK;
    if (err == CMQ_OK && listen->group != NULL && member->to_ack > 0)
        err = send_ack(listen, member);
    if (member->v1->out_bytes > 0)
        (void)bench_v1_flush(member->v1);
    note_done(listen, member);
    return err;
}

/* Takes what is there, or waits a little. Returns whether something came. */
static bool take_events(struct bench_listen *listen)
{
    struct epoll_event events[EVENTS_MAX];
    int count = epoll_wait(listen->epoll_fd, events, EVENTS_MAX, LOOK_MS);
    for (int i = 0; i < count && listen->err == CMQ_OK; i++)
        listen->err = take_event(listen, events[i].data.ptr);
    if (count <= 0)
        for (unsigned m = 0; m < listen->count; m++) {
            (void)bench_v1_flush(listen->members[m].v1);
            note_done(listen, &listen->members[m]);
        }
    return count > 0;
}

/* Members of a group are done together, by whoever hears the last confirmation. */
static bool all_done(const struct bench_listen *listen)
{
    return listen->group != NULL ? listen->done > 0 : listen->done == listen->count;
}

static bool listen_wanted(struct bench_listen *listen)
{
    while (!all_done(listen)) {
        (void)take_events(listen);
        if (listen->err != CMQ_OK)
            return false;
        listen->timed_out = cmq_clock_mono_ns() > listen->deadline_ns;
        /* Relaxed: a flag. */
        if (listen->timed_out || atomic_load_explicit(listen->stop, memory_order_relaxed) != 0)
            return false;
    }
    return true;
}

/* Listens on until it is quiet: late duplicates count too. */
static void listen_late(struct bench_listen *listen)
{
    uint64_t now_ns = listen->last_ns, heard_ns = now_ns;
    while (now_ns - heard_ns < quiet_ns && now_ns < listen->deadline_ns && listen->err == CMQ_OK) {
        bool heard = take_events(listen);
        now_ns = cmq_clock_mono_ns();
        if (heard)
            heard_ns = now_ns;
    }
}

static void *listen_main(void *arg)
{
    struct bench_listen *listen = arg;
    uint64_t cpu_start_ns = bench_thread_cpu_ns();
    bool all = listen_wanted(listen);
    listen->cpu_ns = bench_thread_cpu_ns() - cpu_start_ns;
    if (all)
        listen->last_ns = cmq_clock_mono_ns();
    else
        atomic_store_explicit(listen->stop, 1, memory_order_relaxed); /* relaxed: a flag */
    (void)sem_post(&listen->settled);
    if (all)
        listen_late(listen);
    return NULL;
}

enum cmq_err bench_listen_start(struct bench_listen *listen, struct cmq_reason *reason)
{
    listen->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (listen->epoll_fd < 0)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "epoll: %s", strerror(errno));
    for (unsigned m = 0; m < listen->count; m++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = &listen->members[m]};
        if (epoll_ctl(listen->epoll_fd, EPOLL_CTL_ADD, listen->members[m].v1->link.fd, &event) != 0) {
            close(listen->epoll_fd);
            return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "epoll: %s", strerror(errno));
        }
        listen->members[m].v1->frames = listen->members[m].v1->payload_bytes = 0;
    }
    if (sem_init(&listen->settled, 0, 0) != 0 ||
        pthread_create(&listen->thread, NULL, listen_main, listen) != 0) {
        close(listen->epoll_fd);
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "no thread for the consumers");
    }
    return CMQ_OK;
}

bool bench_listen_wait(struct bench_listen *listen, unsigned timeout_ms)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += timeout_ms / 1000u;
    until.tv_nsec += (long)(timeout_ms % 1000u) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    while (sem_timedwait(&listen->settled, &until) != 0)
        if (errno == ETIMEDOUT)
            return false;
    return true;
}

void bench_listen_join(struct bench_listen *listen)
{
    (void)pthread_join(listen->thread, NULL);
    (void)sem_destroy(&listen->settled);
    close(listen->epoll_fd);
    bench_scratch_fini(&listen->scratch);
    for (unsigned m = 0; m < listen->count; m++) {
        listen->frames += listen->members[m].v1->frames;
        listen->payload_bytes += listen->members[m].v1->payload_bytes;
    }
}
