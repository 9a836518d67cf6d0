/*
 * ring_torture: producers, encryptors and dispatchers as processes on one tiny ring, killed all the time.
 *
 *   - every producer writes k = 1, 2, 3, ... and notes k in memory of the parent once publish has returned;
 *   - encryptors copy, dispatchers deliver message by message, noting each in memory of the parent before
 * they note progress in the ring (as a socket would have taken it before);
 *   - the parent kills (SIGKILL) or stops (SIGSTOP) children at random, or lets them die at a crash point,
 * and starts new ones, which are new members;
 *   - at the end: everything noted as published was delivered, in order, twice only around a death, nothing
 * else was.
 *
 * Exit 0 and a line of figures, or exit 1 and what was violated.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/cmq_clock.h"
#include "common/shm/cmq_ring.h"

enum { CHILDREN_MAX = 24, PRODUCERS_MAX = 8, K_MAX = 1 << 18, SEQ_MAX = 1 << 21, MESSAGES = 3 };

struct options {
    unsigned producers, encryptors, dispatchers, kills, stop_percent, slots, payload_bytes, seconds_max,
        lease_ms, stall_ms;
    unsigned long arena_kib;
    const char *crash; /* label:every:mean for all children, instead of blind kills */
    const char *run_dir;
    unsigned long seed;
};

struct payload_head {
    uint64_t producer, k, sum;
};

/* Shared with the children, survives their deaths. */
struct notes {
    _Atomic uint64_t published[PRODUCERS_MAX];        /* highest k whose publish returned */
    _Atomic uint32_t delivered[PRODUCERS_MAX][K_MAX]; /* deliveries of message 0 of k */
    _Atomic uint32_t parts[PRODUCERS_MAX][K_MAX];     /* bit i: message i of k was delivered */
    _Atomic uint64_t record_of[SEQ_MAX];              /* producer << 32 | k, once delivered */
    _Atomic uint64_t deliveries, redelivered, violations, last_delivery_ns, longest_gap_ns, voids;
    _Atomic uint32_t stop_producing, stop_all;
    char text[512];
};

static struct options options = {.producers = 2,
                                 .encryptors = 2,
                                 .dispatchers = 2,
                                 .kills = 500,
                                 .stop_percent = 3,
                                 .slots = 8,
                                 .payload_bytes = 1024,
                                 .seconds_max = 300,
                                 .lease_ms = 20,
                                 .stall_ms = 500,
                                 .arena_kib = 128,
                                 .run_dir = "/tmp"};
static struct notes *notes;
static char instance[32];

static void violation(const char *fmt, ...) CMQ_PRINTF(1, 2);
static void violation(const char *fmt, ...)
{
    if (atomic_fetch_add_explicit(&notes->violations, 1, memory_order_relaxed) != 0)
        return; /* the first one is kept */
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(notes->text, sizeof notes->text, fmt, args);
    va_end(args);
}

static struct cmq_ring_setup make_setup(unsigned number)
{
    return (struct cmq_ring_setup){.instance = instance,
                                   .run_dir = options.run_dir,
                                   .slots = options.slots,
                                   .record_bytes_max = options.payload_bytes + sizeof(struct payload_head),
                                   .arena_bytes = options.arena_kib * 1024u,
                                   .instance_number = number,
                                   .lease_ms = options.lease_ms,
                                   .stall_ms = options.stall_ms,
                                   .spin_us = 20,
                                   .wait_ms = 50};
}

static struct cmq_ring *attach(enum cmq_role role, unsigned number)
{
    struct cmq_ring_setup setup = make_setup(number);
    struct cmq_ring *ring = NULL;
    struct cmq_reason reason;
    enum cmq_err err;
    do
        err = cmq_ring_attach(&setup, role, &ring, &reason);
    while (err == CMQ_ERR_AGAIN || err == CMQ_ERR_FULL);
    if (err != CMQ_OK) {
        violation("attach as %d: %s", role, reason.text);
        _exit(1);
    }
    return ring;
}

static uint64_t sum_of(const struct payload_head *head, const uint8_t *body, size_t bytes)
{
    uint64_t sum = head->producer * 31 + head->k;
    for (size_t i = 0; i < bytes; i += 7)
        sum = sum * 0x100000001b3ull + body[i];
    return sum;
}

/* Now and then a child leaves in good order, as on SIGTERM, and comes back as a new member. */
static bool leaves(uint64_t count)
{
    return options.crash != NULL && count % 500 == 499;
}

static bool tick_due(uint64_t *last_ns)
{
    uint64_t now_ns = cmq_clock_mono_ns();
    if (now_ns - *last_ns < 20 * CMQ_NS_PER_MS)
        return false;
    *last_ns = now_ns;
    return true;
}

static void tick(struct cmq_ring *ring, uint64_t *last_ns)
{
    struct cmq_reason reason;
    if (!tick_due(last_ns))
        return;
    enum cmq_err err = cmq_ring_tick(ring, &reason);
    if (err == CMQ_ERR_CORRUPT)
        violation("tick: %s", reason.text);
}

static void produce(unsigned number)
{
    struct cmq_ring *ring = attach(CMQ_ROLE_INGEST, number);
    uint8_t *body = calloc(1, options.payload_bytes);
    uint64_t last_ns = 0, seq;
    cmq_assert(body != NULL);
    uint64_t k = atomic_load_explicit(&notes->published[number], memory_order_acquire);
    while (atomic_load_explicit(&notes->stop_producing, memory_order_acquire) == 0 && k + 2 < K_MAX) {
        struct payload_head head = {.producer = number, .k = k + 1};
        size_t bytes = 1 + (head.k * 7919u) % options.payload_bytes;
        memset(body, (int)(head.k & 0xff), bytes);
        head.sum = sum_of(&head, body, bytes);
        const struct cmq_span parts[] = {cmq_span_make(&head, sizeof head), cmq_span_make(body, bytes)};
        enum cmq_err err = cmq_ring_publish(ring, parts, 2, MESSAGES, &seq);
        tick(ring, &last_ns);
        if (err == CMQ_ERR_FULL) {
            (void)cmq_ring_wait(ring, CMQ_WAIT_SPACE_INGEST, 50, NULL);
            continue;
        }
        if (err != CMQ_OK) {
            violation("publish: %s", cmq_err_text(err));
            break;
        }
        k++;
        atomic_store_explicit(&notes->published[number], k, memory_order_release);
        if (leaves(k)) {
            cmq_ring_detach(ring);
            ring = attach(CMQ_ROLE_INGEST, number);
        }
    }
    free(body);
    cmq_ring_detach(ring);
}

static void encrypt(unsigned number)
{
    struct cmq_ring *ring = attach(CMQ_ROLE_ENCRYPTOR, number);
    struct cmq_lease lease;
    uint64_t last_ns = 0;
    while (atomic_load_explicit(&notes->stop_all, memory_order_acquire) == 0) {
        tick(ring, &last_ns);
        enum cmq_err err = cmq_ring_lease(ring, &lease);
        if (err != CMQ_OK) {
            (void)cmq_ring_wait(ring, err == CMQ_ERR_FULL ? CMQ_WAIT_SPACE_ENCRYPTOR : CMQ_WAIT_PLAIN, 50,
                                NULL);
            continue;
        }
        if (lease.bad) {
            atomic_fetch_add_explicit(&notes->voids, 1, memory_order_relaxed);
            err = cmq_ring_commit_void(ring, &lease);
        } else {
            for (size_t i = 0; i < lease.payload.bytes; i++)
                lease.dst[i] = lease.payload.data[i] ^ 0x5a;
            err = cmq_ring_commit(ring, &lease, lease.payload.bytes, lease.messages);
        }
        if (err == CMQ_OK && lease.bad)
            violation("record %llu was committed as VOID", (unsigned long long)lease.seq);
    }
    cmq_ring_detach(ring);
}

static void note_gap(void)
{
    uint64_t now_ns = cmq_clock_mono_ns();
    uint64_t last_ns = atomic_exchange_explicit(&notes->last_delivery_ns, now_ns, memory_order_relaxed);
    uint64_t longest = atomic_load_explicit(&notes->longest_gap_ns, memory_order_relaxed);
    if (last_ns != 0 && now_ns > last_ns && now_ns - last_ns > longest)
        atomic_store_explicit(&notes->longest_gap_ns, now_ns - last_ns, memory_order_relaxed);
}

/* Order per session: first deliveries rise; a record taken over may be older. */
static void check_record(const struct cmq_claim *claim, const struct payload_head *head, uint64_t *last_seq)
{
    if (head->producer >= options.producers || head->k == 0 || head->k >= K_MAX || claim->seq >= SEQ_MAX) {
        violation("record %llu: impossible content", (unsigned long long)claim->seq);
        return;
    }
    uint64_t identity = head->producer << 32 | head->k, before = 0;
    if (!atomic_compare_exchange_strong_explicit(&notes->record_of[claim->seq], &before, identity,
                                                 memory_order_acq_rel, memory_order_acquire) &&
        before != identity)
        violation("record %llu was delivered with two contents", (unsigned long long)claim->seq);
    if (!claim->redelivery && claim->seq <= *last_seq && *last_seq != 0)
        violation("record %llu first delivered after %llu", (unsigned long long)claim->seq,
                  (unsigned long long)*last_seq);
    if (!claim->redelivery)
        *last_seq = claim->seq;
}

static bool deliver(struct cmq_ring *ring, struct cmq_claim *claim, uint64_t *last_seq)
{
    struct payload_head head;
    uint8_t *copy = malloc(claim->payload.bytes);
    cmq_assert(copy != NULL);
    bool mine = true;
    for (size_t i = 0; i < claim->payload.bytes; i++)
        copy[i] = claim->payload.data[i] ^ 0x5a;
    memcpy(&head, copy, sizeof head);
    if (head.sum != sum_of(&head, copy + sizeof head, claim->payload.bytes - sizeof head)) {
        /* Legal only for a zombie: taken over, and the bytes reused. Then the claim is lost. */
        if (cmq_ring_done(ring, claim) == CMQ_OK)
            violation("record %llu: damaged content", (unsigned long long)claim->seq);
        free(copy);
        return false;
    }
    check_record(claim, &head, last_seq);
    for (uint32_t i = claim->progress; i < claim->messages && mine; i++) {
        uint32_t before =
            atomic_fetch_or_explicit(&notes->parts[head.producer][head.k], 1u << i, memory_order_relaxed);
        if (i == 0)
            atomic_fetch_add_explicit(&notes->delivered[head.producer][head.k], 1, memory_order_relaxed);
        if ((before >> i & 1u) != 0)
            atomic_fetch_add_explicit(&notes->redelivered, 1, memory_order_relaxed);
        if (i + 1 < claim->messages)
            mine = cmq_ring_progress(ring, claim, i + 1) == CMQ_OK;
    }
    free(copy);
    atomic_fetch_add_explicit(&notes->deliveries, 1, memory_order_relaxed);
    note_gap();
    return mine && cmq_ring_done(ring, claim) == CMQ_OK;
}

static void dispatch(unsigned number)
{
    struct cmq_ring *ring = attach(CMQ_ROLE_DISPATCHER, number);
    struct cmq_claim claim;
    uint64_t last_ns = 0, last_seq = 0, count = 0;
    while (atomic_load_explicit(&notes->stop_all, memory_order_acquire) == 0) {
        tick(ring, &last_ns);
        if (cmq_ring_claim(ring, &claim) != CMQ_OK) {
            (void)cmq_ring_wait(ring, CMQ_WAIT_SEALED, 50, NULL);
            continue;
        }
        if (claim.void_record) {
            if (cmq_ring_done(ring, &claim) == CMQ_OK)
                violation("record %llu is unreadable", (unsigned long long)claim.seq);
        } else if (++count % 97 == 0) {
            cmq_ring_release(ring, &claim); /* as when the last client goes */
            last_seq = 0;
        } else {
            (void)deliver(ring, &claim, &last_seq);
        }
    }
    cmq_ring_detach(ring);
}

/* ---- the parent ---- */

struct child {
    pid_t pid;
    enum cmq_role role;
    unsigned number;
};
static struct child children[CHILDREN_MAX];
static unsigned child_count, deaths[4];

static void start_child(struct child *child)
{
    fflush(NULL);
    child->pid = fork();
    cmq_assert(child->pid >= 0);
    if (child->pid != 0)
        return;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (child->role == CMQ_ROLE_INGEST)
        produce(child->number);
    else if (child->role == CMQ_ROLE_ENCRYPTOR)
        encrypt(child->number);
    else
        dispatch(child->number);
    _exit(0);
}

static void add_children(enum cmq_role role, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        cmq_assert(child_count < CHILDREN_MAX);
        children[child_count] = (struct child){.role = role, .number = i};
        start_child(&children[child_count++]);
    }
}

/* Waits for deaths, up to wait_us; starts successors, but not of the role that is stopping, and none once all stop. */
static unsigned reap(uint64_t wait_us, enum cmq_role stopping)
{
    unsigned reaped = 0;
    int status;
    if (wait_us != 0)
        (void)usleep((useconds_t)wait_us);
    for (pid_t pid = waitpid(-1, &status, WNOHANG); pid > 0; pid = waitpid(-1, &status, WNOHANG)) {
        for (unsigned i = 0; i < child_count; i++) {
            if (children[i].pid != pid)
                continue;
            children[i].pid = 0;
            if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
                deaths[children[i].role]++;
                reaped++;
            } else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
                violation("a child ended with status 0x%x", (unsigned)status);
            }
            if (children[i].role != stopping && WIFSIGNALED(status) &&
                atomic_load_explicit(&notes->stop_all, memory_order_relaxed) == 0)
                start_child(&children[i]);
        }
    }
    return reaped;
}

static uint64_t next_random(void)
{
    static uint64_t state;
    state += 0x9e3779b97f4a7c15ull + options.seed;
    uint64_t mix = (state ^ state >> 30) * 0xbf58476d1ce4e5b9ull;
    return (mix ^ mix >> 27) * 0x94d049bb133111ebull >> 8;
}

static void torment(void)
{
    const uint64_t end_ns = cmq_clock_mono_ns() + options.seconds_max * CMQ_NS_PER_S;
    unsigned kills = 0;
    struct child *stopped = NULL;
    uint64_t resume_ns = 0;
    while (kills < options.kills && cmq_clock_mono_ns() < end_ns &&
           atomic_load_explicit(&notes->violations, memory_order_relaxed) == 0) {
        kills += reap(1000 + next_random() % 4000, CMQ_ROLE_NONE);
        if (stopped != NULL && cmq_clock_mono_ns() >= resume_ns) {
            if (stopped->pid != 0)
                (void)kill(stopped->pid, SIGCONT);
            stopped = NULL;
        }
        if (options.crash != NULL)
            continue;
        struct child *victim = &children[next_random() % child_count];
        if (victim->pid == 0)
            continue;
        if (stopped == NULL && next_random() % 100 < options.stop_percent) {
            (void)kill(victim->pid, SIGSTOP);
            stopped = victim;
            resume_ns = cmq_clock_mono_ns() + 300 * CMQ_NS_PER_MS;
        } else if (victim != stopped) {
            (void)kill(victim->pid, SIGKILL);
        }
    }
    if (stopped != NULL && stopped->pid != 0)
        (void)kill(stopped->pid, SIGCONT);
    if (kills < options.kills && atomic_load_explicit(&notes->violations, memory_order_relaxed) == 0)
        violation("only %u of %u deaths in %u s: the crash point is not reached", kills, options.kills,
                  options.seconds_max);
}

static bool wait_drained(void)
{
    struct cmq_ring *ring = attach(CMQ_ROLE_OBSERVER, 0);
    struct cmq_ring_state state;
    const uint64_t end_ns = cmq_clock_mono_ns() + 20 * CMQ_NS_PER_S;
    bool drained = false;
    while (!drained && cmq_clock_mono_ns() < end_ns) {
        (void)reap(2000, CMQ_ROLE_INGEST);
        cmq_ring_state(ring, &state);
        drained = state.gate == state.published;
    }
    cmq_ring_state(ring, &state);
    if (!drained)
        violation("not drained: gate %llu committed %llu published %llu", (unsigned long long)state.gate,
                  (unsigned long long)state.committed, (unsigned long long)state.published);
    cmq_ring_detach(ring);
    return drained;
}

static void stop_children(enum cmq_role role)
{
    for (;;) {
        bool alive = false;
        (void)reap(1000, role);
        for (unsigned i = 0; i < child_count; i++)
            alive = alive || (children[i].role == role && children[i].pid != 0);
        if (!alive)
            return;
    }
}

static void check_order(void)
{
    static uint64_t last_k[PRODUCERS_MAX];
    for (size_t seq = 0; seq < SEQ_MAX; seq++) {
        uint64_t identity = atomic_load_explicit(&notes->record_of[seq], memory_order_relaxed);
        if (identity == 0)
            continue;
        uint64_t producer = identity >> 32, k = identity & 0xffffffffu;
        if (k < last_k[producer] || k > last_k[producer] + 1)
            violation("producer %llu: record %zu has k %llu after %llu", (unsigned long long)producer, seq,
                      (unsigned long long)k, (unsigned long long)last_k[producer]);
        last_k[producer] = k;
    }
}

static uint64_t check_loss(void)
{
    uint64_t total = 0;
    for (unsigned p = 0; p < options.producers; p++) {
        uint64_t last = atomic_load_explicit(&notes->published[p], memory_order_acquire);
        total += last;
        for (uint64_t k = 1; k <= last; k++) {
            uint32_t parts = atomic_load_explicit(&notes->parts[p][k], memory_order_relaxed);
            if (parts != (1u << MESSAGES) - 1u)
                violation("LOST: producer %u k %llu of %llu: messages delivered 0x%x", p,
                          (unsigned long long)k, (unsigned long long)last, parts);
        }
    }
    return total;
}

static void parse(int argc, char **argv)
{
    int option;
    options.seed = (unsigned long)getpid();
    while ((option = getopt(argc, argv, "p:e:d:k:s:b:a:t:c:r:S:l:P:")) != -1) {
        unsigned long number = strtoul(optarg, NULL, 10);
        switch (option) {
        case 'p':
            options.producers = (unsigned)number;
            break;
        case 'e':
            options.encryptors = (unsigned)number;
            break;
        case 'd':
            options.dispatchers = (unsigned)number;
            break;
        case 'k':
            options.kills = (unsigned)number;
            break;
        case 's':
            options.slots = (unsigned)number;
            break;
        case 'b':
            options.payload_bytes = (unsigned)number;
            break;
        case 'a':
            options.arena_kib = number;
            break;
        case 't':
            options.seconds_max = (unsigned)number;
            break;
        case 'c':
            options.crash = optarg;
            break;
        case 'r':
            options.run_dir = optarg;
            break;
        case 'S':
            options.seed = number;
            break;
        case 'l':
            options.lease_ms = (unsigned)number;
            break;
        case 'P':
            options.stop_percent = (unsigned)number;
            break;
        default:
            fprintf(
                stderr,
                "usage: ring_torture [-p producers] [-e encryptors] [-d dispatchers] [-k kills] [-s slots]\n"
                "  [-b payload bytes] [-a arena KiB] [-t seconds at most] [-c label:every:mean]\n"
                "  [-r run_dir] [-S seed] [-l lease ms] [-P percent of stops]\n");
            exit(64);
        }
    }
    cmq_assert(options.producers >= 1 && options.producers <= PRODUCERS_MAX);
}

int main(int argc, char **argv)
{
    struct cmq_reason reason = {.text = ""};
    parse(argc, argv);
    notes = mmap(NULL, sizeof *notes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    cmq_assert(notes != MAP_FAILED);
    (void)snprintf(instance, sizeof instance, "torture-%d", (int)getpid());
    struct cmq_ring_setup setup = make_setup(0);
    if (options.crash != NULL)
        (void)setenv("CMQ_CRASH", options.crash, 1); /* before the first crash point: it is read once */
    if (cmq_ring_create(&setup, &reason) != CMQ_OK) {
        fprintf(stderr, "create: %s\n", reason.text);
        return 1;
    }
    add_children(CMQ_ROLE_INGEST, options.producers);
    add_children(CMQ_ROLE_ENCRYPTOR, options.encryptors);
    add_children(CMQ_ROLE_DISPATCHER, options.dispatchers);
    torment();
    atomic_store_explicit(&notes->stop_producing, 1, memory_order_release);
    stop_children(CMQ_ROLE_INGEST);
    bool drained = wait_drained();
    atomic_store_explicit(&notes->stop_all, 1, memory_order_release);
    stop_children(CMQ_ROLE_ENCRYPTOR);
    stop_children(CMQ_ROLE_DISPATCHER);
    uint64_t total = check_loss();
    check_order();
    if (cmq_ring_destroy(&setup, &reason) != CMQ_OK)
        violation("destroy: %s", reason.text);
    unsigned all = deaths[CMQ_ROLE_INGEST] + deaths[CMQ_ROLE_ENCRYPTOR] + deaths[CMQ_ROLE_DISPATCHER];
    if (atomic_load_explicit(&notes->redelivered, memory_order_relaxed) > (uint64_t)(all + 1) * MESSAGES * 4)
        violation("more redeliveries than deaths explain");
    char path[300];
    (void)snprintf(path, sizeof path, "%s/%s.members", options.run_dir, instance);
    (void)unlink(path);
    (void)snprintf(path, sizeof path, "%s/%s.lock", options.run_dir, instance);
    (void)unlink(path);
    printf("kills=%u (ingest %u encryptor %u dispatcher %u) records=%llu deliveries=%llu "
           "redelivered_messages=%llu "
           "longest_gap_ms=%llu drained=%d violations=%llu\n",
           all, deaths[CMQ_ROLE_INGEST], deaths[CMQ_ROLE_ENCRYPTOR], deaths[CMQ_ROLE_DISPATCHER],
           (unsigned long long)total, (unsigned long long)notes->deliveries,
           (unsigned long long)notes->redelivered,
           (unsigned long long)(notes->longest_gap_ns / CMQ_NS_PER_MS), drained,
           (unsigned long long)notes->violations);
    if (notes->violations != 0)
        printf("FIRST VIOLATION: %s\n", notes->text);
    return notes->violations == 0 ? 0 : 1;
}
