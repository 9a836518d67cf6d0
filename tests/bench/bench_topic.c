#include "tests/bench/bench_topic.h"

#include <inttypes.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>

#include "common/base/cmq_clock.h"

enum { OPEN_MS = 5000, LOOK_MS = 50, FILES_BESIDES = 256, RECONNECTS_MAX = 16 };

/* One topic, its publisher and its subscribers. */
struct run {
    struct bench_target *target;
    const struct bench_topic_plan *plan;
    char topic[40], group[40], since[40];
    struct bench_verify *sent; /* the publisher's; the others stand beside it */
    uint64_t *seqs;
    struct bench_member *members;
    unsigned member_count;
    struct bench_scratch scratch;
    _Atomic uint64_t wanted;
    _Atomic uint32_t stop;
};

uint64_t bench_topic_ns(const struct bench_topic_result *result)
{
    return result->listen.last_ns - result->from_ns;
}

/* ---- publishing ---- */

static struct bench_load load_of(struct run *run, struct bench_verify *verify, uint64_t deadline_ns)
{
    const struct bench_topic_plan *plan = run->plan;
    return (struct bench_load){
        .address = run->target->ingest,
        .topic = run->topic,
        .ack = plan->ack,
        .connections = (unsigned)cmq_min_u64(plan->connections, verify->batch_count),
        .rate = plan->rate,
        .deadline_ns = deadline_ns,
        .verify = verify,
        .wanted = &run->wanted,
        .stop = &run->stop,
    };
}

/* The message behind which the run's begin. */
static enum cmq_err publish_mark(struct run *run, struct cmq_reason *reason)
{
    struct bench_verify *mark = NULL;
    enum cmq_err err = bench_verify_new(0, 1, 1, &mark);
    if (err != CMQ_OK)
        return cmq_reason_set(reason, err, "out of memory");
    struct bench_load *load = malloc(sizeof *load);
    if (load == NULL) {
        err = cmq_reason_set(reason, CMQ_ERR_NOMEM, "out of memory");
        goto out;
    }
    *load = load_of(run, mark, cmq_clock_mono_ns() + OPEN_MS * CMQ_NS_PER_MS);
    load->rate = 0;
    err = bench_load_start(load, reason);
    if (err != CMQ_OK)
        goto out;
    bench_load_join(load);
    /* Relaxed: the publisher thread has been joined. */
    uint64_t seq = atomic_load_explicit(&mark->batches[0].seq, memory_order_relaxed);
    if (load->posts_accepted != 1 || seq == 0)
        err = cmq_reason_set(reason, CMQ_ERR_INVALID, "topic %s: %s", run->topic,
                             load->failure[0] != '\0' ? load->failure : "the reply to a POST has no id");
    else
        snprintf(run->since, sizeof run->since, "%" PRIu64 "-0", seq);
out:
    free(load);
    bench_verify_free(mark);
    return err;
}

static void close_members(struct run *run)
{
    for (unsigned m = 0; m < run->member_count; m++) {
        bench_v1_close(run->members[m].v1);
        if (!run->plan->group || m == 0)
            bench_verify_free(run->members[m].verify);
    }
    free(run->members);
    run->members = NULL;
    run->member_count = 0;
}

static void run_close(struct run *run)
{
    close_members(run);
    bench_verify_free(run->sent);
    free(run->seqs);
    bench_scratch_fini(&run->scratch);
}

static enum cmq_err run_open(struct run *run, struct bench_target *target,
                             const struct bench_topic_plan *plan, struct cmq_reason *reason)
{
    uint64_t chance = 0;
    *run = (struct run){.target = target, .plan = plan};
    if (getrandom(&chance, sizeof chance, 0) != (ssize_t)sizeof chance)
        return cmq_reason_set(reason, CMQ_ERR_SYSTEM, "no random numbers");
    snprintf(run->topic, sizeof run->topic, "bench.%016" PRIx64, chance);
    snprintf(run->group, sizeof run->group, "bench-%016" PRIx64, chance);
    enum cmq_err err = bench_verify_new(1, plan->messages, plan->size, &run->sent);
    if (err == CMQ_OK) {
        run->seqs = calloc(run->sent->batch_count, sizeof *run->seqs);
        err = run->seqs != NULL ? CMQ_OK : CMQ_ERR_NOMEM;
    }
    if (err != CMQ_OK)
        return cmq_reason_set(reason, err, "no memory for %" PRIu64 " messages", plan->messages);
    atomic_init(&run->wanted, plan->messages);
    atomic_init(&run->stop, 0);
    return publish_mark(run, reason);
}

/* ---- subscribers ---- */

static enum cmq_err subscribe(struct run *run, struct bench_v1 *v1, const char *since,
                              struct cmq_reason *reason)
{
    struct bench_field fields[4] = {{.key = "topic", .text = run->topic}, {.key = "since", .text = since}};
    size_t count = 2;
    if (run->plan->group)
        fields[count++] = (struct bench_field){.key = "group", .text = run->group};
    if (run->plan->group && run->plan->credit != 0)
        fields[count++] = (struct bench_field){.key = "credit", .number = run->plan->credit};
    return bench_v1_command(v1, run->plan->group ? "consume" : "subscribe", fields, count, reason);
}

/* wait: for the subscription's reply; otherwise the members are only connected. */
static enum cmq_err open_members(struct run *run, unsigned count, bool msgpack, bool wait,
                                 struct cmq_reason *reason)
{
    run->members = calloc(count, sizeof *run->members);
    if (run->members == NULL)
        return cmq_reason_set(reason, CMQ_ERR_NOMEM, "out of memory");
    enum cmq_err err = CMQ_OK;
    for (unsigned m = 0; m < count && err == CMQ_OK; m++) {
        struct bench_member *member = &run->members[run->member_count++];
        if (run->plan->group && m > 0)
            member->verify = run->members[0].verify;
        else if (bench_verify_beside(run->sent, &member->verify) != CMQ_OK)
            return cmq_reason_set(reason, CMQ_ERR_NOMEM, "no memory for %u subscribers", count);
        member->verify->any_order = run->plan->group;
        err = bench_v1_open(&run->target->dispatcher, msgpack, OPEN_MS, &member->v1, reason);
        if (err == CMQ_OK && wait)
            err = subscribe(run, member->v1, run->since, reason);
        if (err == CMQ_OK && wait)
            err = bench_v1_wait(member->v1, &run->scratch, OPEN_MS, reason);
    }
    return err;
}

/* ---- judgement ---- */

static void judge_member(struct bench_topic_result *result, const struct run *run, unsigned index)
{
    const struct bench_verify *verify = run->members[index].verify;
    char who[40] = "";
    if (result->listen.count > 1 && !run->plan->group)
        snprintf(who, sizeof who, "subscriber %u: ", index);
    /* Three subscribers with faults say enough. */
    struct bench_verdict all = result->verdict;
    bench_verdict_verify(&all, verify, who);
    result->verdict.failed = all.failed;
    if (strlen(result->verdict.text) < sizeof result->verdict.text / 2)
        result->verdict = all;
    result->excused += verify->excused;
    bench_hist_merge(&result->delivery, &verify->delivery);
}

/* Places where consumers saw a POST in another record than its publisher was told. */
static uint64_t wrong_records(const struct run *run)
{
    uint64_t wrong = 0;
    for (uint64_t b = 0; b < run->sent->batch_count; b++) {
        struct bench_batch *batch = &run->sent->batches[b];
        /* Relaxed: both threads have been joined. */
        uint64_t seq = atomic_load_explicit(&batch->seq, memory_order_relaxed);
        bool retried = atomic_load_explicit(&batch->retried, memory_order_relaxed) != 0;
        wrong += seq != 0 && run->seqs[b] != 0 && seq != run->seqs[b] && !retried;
    }
    return wrong;
}

static void judge(struct bench_topic_result *result, const struct run *run)
{
    struct bench_verdict *verdict = &result->verdict;
    const struct bench_listen *listen = &result->listen;
    if (result->load.timed_out || listen->timed_out)
        bench_verdict_add(verdict, "timed out after %" PRIu64 " s", run->plan->timeout_s);
    if (listen->err != CMQ_OK)
        bench_verdict_add(verdict, "%s", listen->reason.text);
    bench_verdict_load(verdict, &result->load);
    for (unsigned m = 0; m < listen->count && (m == 0 || !run->plan->group); m++)
        judge_member(result, run, m);
    uint64_t wrong_ids = listen->wrong_ids + wrong_records(run);
    if (wrong_ids > 0)
        bench_verdict_add(verdict, "wrong ids at %" PRIu64 " places", wrong_ids);
    if (listen->wrong_messages > 0)
        bench_verdict_add(verdict, "%" PRIu64 " messages of the broker that are not of the protocol",
                          listen->wrong_messages);
    if (listen->error_replies > 0)
        bench_verdict_add(verdict, "%" PRIu64 " commands refused (last: %s)", listen->error_replies,
                          listen->last_error);
    if (listen->gaps > 0 && !listen->gaps_excuse)
        bench_verdict_add(verdict, "%" PRIu64 " gaps (last: %s)", listen->gaps, listen->last_gap);
    if (listen->redelivered > 0 && !listen->may_come_back)
        bench_verdict_add(verdict, "%" PRIu64 " messages came with attempt > 1", listen->redelivered);
    if (listen->group != NULL && (listen->stale > 0 || listen->acked != run->plan->messages))
        bench_verdict_add(verdict, "%" PRIu64 " acks confirmed and %" PRIu64 " stale of %" PRIu64 " messages",
                          listen->acked, listen->stale, run->plan->messages);
    bench_verdict_end(verdict);
}

/* ---- memory ---- */

static bool read_memory(struct run *run, struct bench_sample *sample, struct bench_memory *ret_memory)
{
    struct bench_process one = {.pid = run->plan->pid};
    struct bench_memory memory = {0};
    bench_stages_sample(&run->target->stages, sample);
    if (one.pid != 0) {
        bench_stages_memory(&one);
        memory = (struct bench_memory){one.anon_kib + one.file_kib, one.shmem_kib};
    }
    for (size_t i = 0; i < sample->count && one.pid == 0; i++) {
        const struct bench_process *process = &sample->processes[i];
        if (process->stage != CMQ_ROLE_DISPATCHER - CMQ_ROLE_INGEST)
            continue;
        memory.own_kib = cmq_max_u64(memory.own_kib, process->anon_kib + process->file_kib);
        memory.shmem_kib = cmq_max_u64(memory.shmem_kib, process->shmem_kib);
    }
    *ret_memory = memory;
    return memory.own_kib > 0;
}

/* ---- measurements ---- */

static struct bench_topic_result *result_new(struct run *run, const char *label)
{
    struct bench_topic_result *result = calloc(1, sizeof *result);
    if (result == NULL)
        return NULL;
    result->plan = *run->plan;
    snprintf(result->label, sizeof result->label, "%s", label);
    /* members and count: set when the thread starts */
    result->listen =
        (struct bench_listen){.group = run->plan->group ? run->group : NULL,
                              .seqs = run->seqs,
                              .deadline_ns = cmq_clock_mono_ns() + run->plan->timeout_s * CMQ_NS_PER_S,
                              .wanted = &run->wanted,
                              .stop = &run->stop};
    return result;
}

static void take_memory(struct run *run, struct bench_topic_result *result, struct bench_sample *sample)
{
    result->has_memory = read_memory(run, sample, &result->after);
    result->peak.own_kib = cmq_max_u64(result->peak.own_kib, result->after.own_kib);
    result->peak.shmem_kib = cmq_max_u64(result->peak.shmem_kib, result->after.shmem_kib);
}

/* The first `count` members listen while everything is published. */
static enum cmq_err listen_live(struct run *run, unsigned count, struct bench_topic_result *result,
                                struct cmq_reason *reason)
{
    struct bench_listen *listen = &result->listen;
    struct bench_sample *before = malloc(sizeof *before), *after = malloc(sizeof *after);
    enum cmq_err err = before != NULL && after != NULL ? CMQ_OK : CMQ_ERR_NOMEM;
    if (err != CMQ_OK) {
        err = cmq_reason_set(reason, err, "out of memory");
        goto out;
    }
    (void)read_memory(run, before, &result->before);
    listen->members = run->members;
    listen->count = count;
    err = bench_listen_start(listen, reason);
    if (err != CMQ_OK)
        goto out;
    result->load = load_of(run, run->sent, listen->deadline_ns);
    err = bench_load_start(&result->load, reason);
    if (err != CMQ_OK)
        atomic_store_explicit(&run->stop, 1, memory_order_relaxed); /* relaxed: a flag */
    while (!bench_listen_wait(listen, LOOK_MS))
        take_memory(run, result, after);
    take_memory(run, result, after);
    bench_stages_use(before, after, result->use);
    if (err == CMQ_OK)
        bench_load_join(&result->load);
    bench_listen_join(listen);
    result->from_ns = result->load.first_ns;
out:
    free(before);
    free(after);
    return err;
}

static enum cmq_err publish_all(struct run *run, struct bench_load *load, struct cmq_reason *reason)
{
    *load = load_of(run, run->sent, cmq_clock_mono_ns() + run->plan->timeout_s * CMQ_NS_PER_S);
    enum cmq_err err = bench_load_start(load, reason);
    if (err == CMQ_OK)
        bench_load_join(load);
    return err;
}

/* Member 0 reads what was published before. since NULL: it has subscribed long ago. */
static enum cmq_err listen_behind(struct run *run, const char *since, struct bench_topic_result *result,
                                  struct cmq_reason *reason)
{
    struct bench_listen *listen = &result->listen;
    struct bench_sample *before = malloc(sizeof *before), *after = malloc(sizeof *after);
    enum cmq_err err = before != NULL && after != NULL ? CMQ_OK : CMQ_ERR_NOMEM;
    if (err != CMQ_OK) {
        err = cmq_reason_set(reason, err, "out of memory");
        goto out;
    }
    (void)read_memory(run, before, &result->before);
    listen->members = run->members;
    listen->count = 1;
    result->catch_up = true;
    result->from_ns = cmq_clock_mono_ns();
    if (since != NULL)
        err = subscribe(run, run->members[0].v1, since, reason);
    if (err == CMQ_OK)
        err = bench_listen_start(listen, reason);
    if (err != CMQ_OK)
        goto out;
    while (!bench_listen_wait(listen, LOOK_MS))
        take_memory(run, result, after);
    take_memory(run, result, after);
    bench_stages_use(before, after, result->use);
    bench_listen_join(listen);
out:
    free(before);
    free(after);
    return err;
}

/* Sockets of a thousand subscribers. */
static void raise_file_limit(unsigned count)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= (rlim_t)count + FILES_BESIDES)
        return;
    limit.rlim_cur = cmq_min_u64(limit.rlim_max, (rlim_t)count + FILES_BESIDES);
    (void)setrlimit(RLIMIT_NOFILE, &limit); /* what is missing shows in the connections */
}

enum cmq_err bench_topic_live(struct bench_target *target, const struct bench_topic_plan *plan,
                              struct bench_topic_result **ret_result, struct cmq_reason *reason)
{
    struct run *run = calloc(1, sizeof *run);
    struct bench_topic_result *result = NULL;
    if (run == NULL)
        return cmq_reason_set(reason, CMQ_ERR_NOMEM, "out of memory");
    raise_file_limit(plan->subscribers);
    enum cmq_err err = run_open(run, target, plan, reason);
    if (err == CMQ_OK)
        err = open_members(run, plan->subscribers, plan->msgpack, true, reason);
    if (err == CMQ_OK && (result = result_new(run, "")) == NULL)
        err = cmq_reason_set(reason, CMQ_ERR_NOMEM, "out of memory");
    if (err == CMQ_OK)
        err = listen_live(run, plan->subscribers, result, reason);
    if (err == CMQ_OK) {
        judge(result, run);
        *ret_result = result;
    } else {
        bench_topic_free(result);
    }
    run_close(run);
    free(run);
    return err;
}

static enum cmq_err replay_once(struct run *run, bool msgpack, const struct bench_load *load,
                                struct bench_topic_result **ret_result, struct cmq_reason *reason)
{
    struct bench_topic_result *result = result_new(run, msgpack ? "MessagePack" : "JSON");
    enum cmq_err err = result != NULL ? CMQ_OK : cmq_reason_set(reason, CMQ_ERR_NOMEM, "out of memory");
    if (err == CMQ_OK)
        err = open_members(run, 1, msgpack, false, reason);
    if (err == CMQ_OK) {
        result->load = *load;
        result->plan.msgpack = msgpack;
        err = listen_behind(run, run->since, result, reason);
    }
    if (err == CMQ_OK) {
        judge(result, run);
        *ret_result = result;
    } else {
        bench_topic_free(result);
    }
    close_members(run);
    return err;
}

enum cmq_err bench_topic_replay(struct bench_target *target, const struct bench_topic_plan *plan,
                                struct bench_topic_result **ret_result, struct cmq_reason *reason)
{
    struct run *run = calloc(1, sizeof *run);
    struct bench_load *load = malloc(sizeof *load);
    struct bench_topic_result *result = NULL;
    enum cmq_err err = CMQ_ERR_NOMEM;
    if (run == NULL || load == NULL) {
        err = cmq_reason_set(reason, err, "out of memory");
        goto out;
    }
    err = run_open(run, target, plan, reason);
    if (err == CMQ_OK)
        err = publish_all(run, load, reason);
    if (err == CMQ_OK)
        err = replay_once(run, false, load, &result, reason);
    if (err == CMQ_OK && !result->verdict.failed)
        err = replay_once(run, true, load, &result->next, reason);
out:
    if (run != NULL)
        run_close(run);
    free(run);
    free(load);
    if (err == CMQ_OK)
        *ret_result = result;
    else
        bench_topic_free(result);
    return err;
}

/* The broker may close a connection that takes nothing for too long; then it goes on behind its last message. */
static enum cmq_err reconnect(struct run *run, struct bench_topic_result *result, char since[40],
                              struct cmq_reason *reason)
{
    struct bench_member *member = &run->members[0];
    struct bench_listen *listen = &result->listen;
    snprintf(since, 40, "%" PRIu64 "-%" PRIu64, member->last.seq, member->last.index);
    bench_v1_close(member->v1);
    member->v1 = NULL;
    listen->err = CMQ_OK;
    listen->done = 0;
    result->reconnects++;
    atomic_store_explicit(&run->stop, 0, memory_order_relaxed); /* relaxed: a flag, the threads have ended */
    return bench_v1_open(&run->target->dispatcher, result->plan.msgpack, OPEN_MS, &member->v1, reason);
}

static enum cmq_err slow_one_reads(struct run *run, struct bench_topic_result *result,
                                   struct cmq_reason *reason)
{
    char since[40];
    result->listen.gaps_excuse = true;
    enum cmq_err err = listen_behind(run, NULL, result, reason);
    uint64_t from_ns = result->from_ns;
    while (err == CMQ_OK && result->listen.err == CMQ_ERR_LOST && result->reconnects < RECONNECTS_MAX) {
        err = reconnect(run, result, since, reason);
        if (err == CMQ_OK)
            err = listen_behind(run, run->members[0].any ? since : run->since, result, reason);
    }
    result->from_ns = from_ns;
    if (err == CMQ_OK)
        judge(result, run);
    return err;
}

/* Member 0 is the one that does not read; the fast ones stand behind it. */
static enum cmq_err beside_slow(struct run *run, struct bench_topic_result **ret_beside,
                                struct bench_topic_result **ret_slow, struct cmq_reason *reason)
{
    unsigned fast = run->plan->subscribers;
    struct bench_topic_result *beside = result_new(run, "beside one that reads nothing");
    struct bench_topic_result *slow = result_new(run, "the one that read nothing catches up");
    enum cmq_err err = beside != NULL && slow != NULL ? CMQ_OK : CMQ_ERR_NOMEM;
    if (err != CMQ_OK)
        err = cmq_reason_set(reason, err, "out of memory");
    if (err == CMQ_OK)
        err = open_members(run, fast + 1, run->plan->msgpack, true, reason);
    struct bench_member *all = run->members;
    if (err == CMQ_OK) {
        run->members = all + 1;
        err = listen_live(run, fast, beside, reason);
        if (err == CMQ_OK)
            judge(beside, run);
        run->members = all;
    }
    if (err == CMQ_OK && !beside->verdict.failed) {
        slow->load = beside->load;
        slow->listen.deadline_ns = cmq_clock_mono_ns() + run->plan->timeout_s * CMQ_NS_PER_S;
        err = slow_one_reads(run, slow, reason);
    }
    if (err == CMQ_OK) {
        bool measured = slow->catch_up;
        *ret_beside = beside;
        *ret_slow = measured ? slow : NULL;
        if (!measured)
            bench_topic_free(slow);
        return err;
    }
    bench_topic_free(beside);
    bench_topic_free(slow);
    return err;
}

enum cmq_err bench_topic_slow(struct bench_target *target, const struct bench_topic_plan *plan,
                              struct bench_topic_result **ret_result, struct cmq_reason *reason)
{
    struct bench_topic_result *alone = NULL;
    struct run *run = calloc(1, sizeof *run);
    if (run == NULL)
        return cmq_reason_set(reason, CMQ_ERR_NOMEM, "out of memory");
    enum cmq_err err = bench_topic_live(target, plan, &alone, reason);
    if (err == CMQ_OK)
        snprintf(alone->label, sizeof alone->label, "alone");
    if (err == CMQ_OK && !alone->verdict.failed) {
        struct bench_topic_result *slow = NULL;
        err = run_open(run, target, plan, reason);
        if (err == CMQ_OK)
            err = beside_slow(run, &alone->next, &slow, reason);
        if (err == CMQ_OK)
            alone->next->next = slow;
        run_close(run);
    }
    free(run);
    if (err == CMQ_OK)
        *ret_result = alone;
    else
        bench_topic_free(alone);
    return err;
}

void bench_topic_free(struct bench_topic_result *result)
{
    while (result != NULL) {
        struct bench_topic_result *next = result->next;
        free(result);
        result = next;
    }
}
