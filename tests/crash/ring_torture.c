/*
 * ring_torture: producers, encryptors and readers of the log as processes on one tiny ring, killed all the time.
 *
 *   - every producer writes k = 1, 2, 3, ... and notes k in memory of the parent once publish has returned; now and then it
 *     waits until the record is durable, and looks for it in the log;
 *   - encryptors copy; each has a log thread, and the one that gets the log lock appends what is committed to a file of
 *     64-byte records. A new holder reads from the file where to go on, and cuts a torn tail;
 *   - readers follow `stored` and read the file up to it, noting their cursor in memory of the parent;
 *   - the parent kills (SIGKILL) or stops (SIGSTOP) children at random, or lets them die at a crash point,
 *     and starts new ones, which are new members; who is stopped for too long is killed by the others;
 *   - at the end: the file has every record once, in the order of its producer, with everything that was noted as
 *     published (twice only where a producer died before it noted), and readers saw nothing else.
 *
 * Exit 0 and a line of figures, or exit 1 and what was violated.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/cmq_clock.h"
#include "common/shm/cmq_crash.h"
#include "common/shm/cmq_ring.h"

enum { CHILDREN_MAX = 24, PRODUCERS_MAX = 8, READERS_MAX = 8, K_MAX = 1 << 20, SEQ_MAX = 1 << 22 };
enum { APPEND_MAX = 64, SYNC_EVERY = 3, DURABLE_EVERY = 64, SHORT_STOP_MS = 300, LONG_STOP_MS = 1500 };

struct options {
    unsigned producers, encryptors, readers, kills, stop_percent, slots, payload_bytes, seconds_max, lease_ms,
        stall_ms;
    unsigned long arena_kib;
    const char *crash; /* label:every:mean for all children, instead of blind kills */
    const char *run_dir;
    unsigned long seed;
};

struct payload_head {
    uint64_t producer, k, sum;
};

/* A record of the log: at seq * 64 in the file. */
struct log_record {
    uint64_t seq, producer, k, bytes, sum, check, spare[2];
};
_Static_assert(sizeof(struct log_record) == 64, "position follows from seq");

/* Shared with the children, survives their deaths. */
struct notes {
    _Atomic uint64_t published[PRODUCERS_MAX]; /* highest k whose publish returned */
    _Atomic uint64_t cursors[READERS_MAX];
    _Atomic uint64_t record_of[SEQ_MAX]; /* producer << 32 | k, once a reader has seen it */
    _Atomic uint64_t reads, durable, takeovers, torn, redone, violations, last_read_ns, longest_gap_ns;
    _Atomic uint32_t stop_producing, stop_all;
    char text[512];
};

static struct options options = {.producers = 2,
                                 .encryptors = 2,
                                 .readers = 2,
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
static char instance[32], log_path[320], lock_path[320];

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

/* ---- the log ---- */

static uint64_t check_of(const struct log_record *record)
{
    uint64_t mix = record->seq * 0x9e3779b97f4a7c15ull;
    mix = (mix ^ record->producer) * 0xff51afd7ed558ccdull;
    mix = (mix ^ record->k) * 0xc4ceb9fe1a85ec53ull;
    return ((mix ^ record->bytes) * 0x9e3779b97f4a7c15ull) ^ record->sum;
}

static int open_file(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd < 0) {
        violation("%s: %s", path, strerror(errno));
        _exit(1);
    }
    return fd;
}

/* False: not there. */
static bool read_record(int fd, uint64_t seq, struct log_record *ret_record)
{
    struct log_record record;
    if (pread(fd, &record, sizeof record, (off_t)(seq * sizeof record)) != (ssize_t)sizeof record ||
        record.seq != seq || record.check != check_of(&record) || record.producer >= options.producers ||
        record.k == 0 || record.k >= K_MAX)
        return false;
    *ret_record = record;
    return true;
}

/* What publishers are told of a record follows from its content, so that they can tell whether it is true. */
static struct cmq_outcome outcome_of(uint64_t producer, uint64_t k)
{
    return (struct cmq_outcome){.kind = (enum cmq_outcome_kind)(k % (CMQ_OUTCOME_VOID + 1)),
                                .seq = producer << 32 | k,
                                .index = (uint32_t)k};
}

static void set_outcome(struct cmq_ring *ring, const struct log_record *record)
{
    struct cmq_outcome outcome = outcome_of(record->producer, record->k);
    cmq_ring_outcome_set(ring, record->seq, &outcome);
}

/* ---- producers ---- */

static void await_durable(struct cmq_ring *ring, int fd, unsigned number, uint64_t k, uint64_t seq,
                          uint64_t *last_ns)
{
    struct log_record record;
    struct cmq_outcome told, truth = outcome_of(number, k);
    cmq_ring_follow(ring, CMQ_WAIT_DURABLE, seq);
    while (cmq_ring_durable_seq(ring) <= seq) {
        (void)cmq_ring_wait(ring, CMQ_WAIT_DURABLE, 50, NULL);
        tick(ring, last_ns);
    }
    if (!read_record(fd, seq, &record) || record.producer != number || record.k != k)
        violation("record %llu is durable but not in the log", (unsigned long long)seq);
    if (cmq_ring_outcome(ring, seq, &told) &&
        (told.kind != truth.kind || told.seq != truth.seq || told.index != truth.index))
        violation("record %llu: outcome of another record", (unsigned long long)seq);
    atomic_fetch_add_explicit(&notes->durable, 1, memory_order_relaxed);
}

static enum cmq_err publish(struct cmq_ring *ring, unsigned number, uint64_t k, uint8_t *body,
                            uint64_t *ret_seq)
{
    struct payload_head head = {.producer = number, .k = k};
    size_t bytes = 1 + (k * 7919u) % options.payload_bytes;
    memset(body, (int)(k & 0xff), bytes);
    head.sum = sum_of(&head, body, bytes);
    const struct cmq_span parts[] = {cmq_span_make(&head, sizeof head), cmq_span_make(body, bytes)};
    return cmq_ring_publish(ring, parts, 2, 1, ret_seq);
}

static void produce(unsigned number)
{
    struct cmq_ring *ring = attach(CMQ_ROLE_INGEST, number);
    int fd = open_file(log_path, O_RDONLY);
    uint8_t *body = calloc(1, options.payload_bytes);
    uint64_t last_ns = 0, seq;
    cmq_assert(body != NULL);
    uint64_t k = atomic_load_explicit(&notes->published[number], memory_order_acquire);
    while (atomic_load_explicit(&notes->stop_producing, memory_order_acquire) == 0 && k + 2 < K_MAX) {
        enum cmq_err err = publish(ring, number, k + 1, body, &seq);
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
        if (k % DURABLE_EVERY == 0)
            await_durable(ring, fd, number, k, seq, &last_ns);
        if (leaves(k)) {
            cmq_ring_detach(ring);
            ring = attach(CMQ_ROLE_INGEST, number);
        }
    }
    free(body);
    cmq_ring_detach(ring);
}

/* ---- encryptors and their log threads ---- */

struct writer {
    struct cmq_ring *ring;
    int fd;
    uint64_t next; /* end of the file */
};

/* The file is the truth: what is in it whole is stored, whatever the cursor says. */
static void take_over(struct writer *writer)
{
    struct stat info;
    struct log_record record;
    cmq_assert(fstat(writer->fd, &info) == 0);
    writer->next = (uint64_t)info.st_size / sizeof record;
    uint64_t stored = cmq_ring_stored_seq(writer->ring);
    if (writer->next < stored)
        violation("stored is %llu, but the log ends at %llu", (unsigned long long)stored,
                  (unsigned long long)writer->next);
    if ((uint64_t)info.st_size % sizeof record != 0) {
        atomic_fetch_add_explicit(&notes->torn, 1, memory_order_relaxed);
        cmq_assert(ftruncate(writer->fd, (off_t)(writer->next * sizeof record)) == 0);
    }
    for (uint64_t seq = stored; seq < writer->next; seq++) {
        if (read_record(writer->fd, seq, &record))
            set_outcome(writer->ring, &record);
        else
            violation("record %llu of the log is damaged", (unsigned long long)seq);
        atomic_fetch_add_explicit(&notes->redone, 1, memory_order_relaxed);
    }
    cmq_ring_stored(writer->ring, writer->next, writer->next);
    if (cmq_ring_stored_seq(writer->ring) != writer->next)
        violation("the log ends at %llu, but only %llu is committed", (unsigned long long)writer->next,
                  (unsigned long long)cmq_ring_stored_seq(writer->ring));
    atomic_fetch_add_explicit(&notes->takeovers, 1, memory_order_relaxed);
}

static bool fill_record(const struct cmq_committed *committed, struct log_record *ret_record)
{
    struct payload_head head;
    uint8_t *copy = malloc(committed->payload.bytes);
    cmq_assert(copy != NULL);
    for (size_t i = 0; i < committed->payload.bytes; i++)
        copy[i] = committed->payload.data[i] ^ 0x5a;
    bool good = !committed->void_record && committed->payload.bytes > sizeof head;
    if (good) {
        memcpy(&head, copy, sizeof head);
        good = head.sum == sum_of(&head, copy + sizeof head, committed->payload.bytes - sizeof head);
    }
    if (good) {
        *ret_record = (struct log_record){.seq = committed->seq,
                                          .producer = head.producer,
                                          .k = head.k,
                                          .bytes = committed->payload.bytes,
                                          .sum = head.sum};
        ret_record->check = check_of(ret_record);
    } else {
        violation("record %llu: damaged content", (unsigned long long)committed->seq);
    }
    free(copy);
    return good;
}

static void append(struct writer *writer, const struct log_record *records, size_t count)
{
    const uint8_t *bytes = (const uint8_t *)records;
    const size_t all = count * sizeof *records,
                 first = all / 2 + 1; /* not a whole record: a death here tears it */
    cmq_assert(write(writer->fd, bytes, first) == (ssize_t)first);
    CMQ_CRASH_POINT("append.torn");
    cmq_assert(write(writer->fd, bytes + first, all - first) == (ssize_t)(all - first));
    CMQ_CRASH_POINT("append.written");
    for (size_t i = 0; i < count; i++)
        set_outcome(writer->ring, &records[i]);
    CMQ_CRASH_POINT("append.told");
    writer->next += count;
}

static void *write_log(void *context)
{
    struct writer writer = {.ring = context, .fd = open_file(log_path, O_RDWR | O_APPEND)};
    static struct log_record records[APPEND_MAX];
    struct cmq_committed committed;
    unsigned appends = 0;
    uint64_t durable = 0;
    int lock_fd = open_file(lock_path, O_RDWR);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
    cmq_assert(fcntl(lock_fd, F_OFD_SETLKW, &lock) == 0);
    take_over(&writer);
    while (atomic_load_explicit(&notes->stop_all, memory_order_acquire) == 0) {
        size_t count = 0;
        while (count < APPEND_MAX &&
               cmq_ring_committed(writer.ring, writer.next + count, &committed) == CMQ_OK &&
               fill_record(&committed, &records[count]))
            count++;
        if (count != 0)
            append(&writer, records, count);
        if (count == 0 || ++appends % SYNC_EVERY == 0)
            durable = writer.next;
        cmq_ring_stored(writer.ring, writer.next, durable);
        if (count == 0)
            (void)cmq_ring_wait(writer.ring, CMQ_WAIT_COMMITTED, 50, NULL);
    }
    close(lock_fd);
    close(writer.fd);
    return NULL;
}

static void encrypt(unsigned number)
{
    struct cmq_ring *ring = attach(CMQ_ROLE_ENCRYPTOR, number);
    struct cmq_lease lease;
    uint64_t last_ns = 0;
    pthread_t log_thread;
    cmq_assert(pthread_create(&log_thread, NULL, write_log, ring) == 0);
    while (atomic_load_explicit(&notes->stop_all, memory_order_acquire) == 0) {
        tick(ring, &last_ns);
        enum cmq_err err = cmq_ring_lease(ring, &lease);
        if (err != CMQ_OK) {
            (void)cmq_ring_wait(ring, err == CMQ_ERR_FULL ? CMQ_WAIT_SPACE_ENCRYPTOR : CMQ_WAIT_PLAIN, 50,
                                NULL);
            continue;
        }
        if (lease.bad) {
            err = cmq_ring_commit_void(ring, &lease);
        } else {
            for (size_t i = 0; i < lease.payload.bytes; i++)
                lease.dst[i] = lease.payload.data[i] ^ 0x5a;
            err = cmq_ring_commit(ring, &lease, lease.payload.bytes, lease.messages);
        }
        if (err == CMQ_OK && lease.bad)
            violation("record %llu was committed as VOID", (unsigned long long)lease.seq);
    }
    cmq_assert(pthread_join(log_thread, NULL) == 0);
    cmq_ring_detach(ring);
}

/* ---- readers ---- */

static void note_gap(void)
{
    uint64_t now_ns = cmq_clock_mono_ns();
    uint64_t last_ns = atomic_exchange_explicit(&notes->last_read_ns, now_ns, memory_order_relaxed);
    uint64_t longest = atomic_load_explicit(&notes->longest_gap_ns, memory_order_relaxed);
    if (last_ns != 0 && now_ns > last_ns && now_ns - last_ns > longest)
        atomic_store_explicit(&notes->longest_gap_ns, now_ns - last_ns, memory_order_relaxed);
}

static void check_record(int fd, uint64_t seq)
{
    struct log_record record;
    uint64_t before = 0;
    if (seq >= SEQ_MAX || !read_record(fd, seq, &record)) {
        violation("record %llu is stored but not in the log", (unsigned long long)seq);
        return;
    }
    uint64_t identity = record.producer << 32 | record.k;
    if (!atomic_compare_exchange_strong_explicit(&notes->record_of[seq], &before, identity,
                                                 memory_order_acq_rel, memory_order_acquire) &&
        before != identity)
        violation("record %llu was read with two contents", (unsigned long long)seq);
    atomic_fetch_add_explicit(&notes->reads, 1, memory_order_relaxed);
}

static void read_log(unsigned number)
{
    struct cmq_ring *ring = attach(CMQ_ROLE_DISPATCHER, number);
    int fd = open_file(log_path, O_RDONLY);
    uint64_t last_ns = 0, seq = atomic_load_explicit(&notes->cursors[number], memory_order_acquire);
    for (;;) {
        /* Before the look at stored: what is stored then is all there will be. */
        bool last = atomic_load_explicit(&notes->stop_all, memory_order_acquire) != 0;
        uint64_t stored = cmq_ring_stored_seq(ring);
        tick(ring, &last_ns);
        if (seq < stored)
            note_gap();
        else if (last)
            break;
        for (; seq < stored; seq++) {
            check_record(fd, seq);
            atomic_store_explicit(&notes->cursors[number], seq + 1, memory_order_release);
        }
        cmq_ring_follow(ring, CMQ_WAIT_STORED, seq);
        (void)cmq_ring_wait(ring, CMQ_WAIT_STORED, 50, NULL);
    }
    cmq_ring_detach(ring);
}

/* ---- the parent ---- */

struct child {
    pid_t pid;
    enum cmq_role role;
    unsigned number;
    bool killed; /* by the parent */
};
static struct child children[CHILDREN_MAX];
static unsigned child_count, deaths[4], fenced;

static void start_child(struct child *child)
{
    fflush(NULL);
    child->killed = false;
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
        read_log(child->number);
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
                fenced += options.crash == NULL && !children[i].killed;
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
            resume_ns =
                cmq_clock_mono_ns() + (next_random() % 2 == 0 ? SHORT_STOP_MS : LONG_STOP_MS) * CMQ_NS_PER_MS;
        } else if (victim != stopped && options.stop_percent < 100) {
            victim->killed = true;
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

/* The whole file: dense, in order of every producer, nothing lost; a record twice in a row only where its producer died
 * between the CAS and its note. Returns how many records there are. */
static uint64_t check_log(uint64_t *ret_twice)
{
    uint64_t last_k[PRODUCERS_MAX] = {0}, seq = 0, twice = 0;
    struct log_record record;
    struct stat info;
    int fd = open_file(log_path, O_RDONLY);
    cmq_assert(fstat(fd, &info) == 0);
    for (; read_record(fd, seq, &record); seq++) {
        uint64_t *last = &last_k[record.producer];
        if (record.k != *last && record.k != *last + 1)
            violation("producer %llu: record %llu has k %llu after %llu", (unsigned long long)record.producer,
                      (unsigned long long)seq, (unsigned long long)record.k, (unsigned long long)*last);
        twice += record.k == *last;
        *last = record.k;
        uint64_t read = atomic_load_explicit(&notes->record_of[seq % SEQ_MAX], memory_order_relaxed);
        if (options.readers != 0 && read != (record.producer << 32 | record.k))
            violation("record %llu is not what the readers saw", (unsigned long long)seq);
    }
    if (seq * sizeof record != (uint64_t)info.st_size)
        violation("the log has %llu good records in %lld bytes", (unsigned long long)seq,
                  (long long)info.st_size);
    for (unsigned p = 0; p < options.producers; p++) {
        uint64_t published = atomic_load_explicit(&notes->published[p], memory_order_acquire);
        if (last_k[p] < published)
            violation("LOST: producer %u published up to %llu, the log has %llu", p,
                      (unsigned long long)published, (unsigned long long)last_k[p]);
    }
    close(fd);
    *ret_twice = twice;
    return seq;
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
            options.readers = (unsigned)number;
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
            fprintf(stderr,
                    "usage: ring_torture [-p producers] [-e encryptors] [-d readers] [-k kills] [-s slots]\n"
                    "  [-b payload bytes] [-a arena KiB] [-t seconds at most] [-c label:every:mean]\n"
                    "  [-r run_dir] [-S seed] [-l lease ms] [-P percent of stops; 100: no kills but by the "
                    "members themselves]\n");
            exit(64);
        }
    }
    cmq_assert(options.producers >= 1 && options.producers <= PRODUCERS_MAX &&
               options.readers <= READERS_MAX);
}

static void remove_files(void)
{
    char path[320];
    (void)snprintf(path, sizeof path, "%s/%s.members", options.run_dir, instance);
    (void)unlink(path);
    (void)snprintf(path, sizeof path, "%s/%s.lock", options.run_dir, instance);
    (void)unlink(path);
    (void)unlink(log_path);
    (void)unlink(lock_path);
}

static void report(uint64_t total, uint64_t twice, bool drained)
{
    printf("kills=%u (ingest %u encryptor %u reader %u, fenced %u) records=%llu twice=%llu reads=%llu "
           "durable=%llu "
           "takeovers=%llu redone=%llu torn=%llu longest_gap_ms=%llu drained=%d violations=%llu\n",
           deaths[CMQ_ROLE_INGEST] + deaths[CMQ_ROLE_ENCRYPTOR] + deaths[CMQ_ROLE_DISPATCHER],
           deaths[CMQ_ROLE_INGEST], deaths[CMQ_ROLE_ENCRYPTOR], deaths[CMQ_ROLE_DISPATCHER], fenced,
           (unsigned long long)total, (unsigned long long)twice, (unsigned long long)notes->reads,
           (unsigned long long)notes->durable, (unsigned long long)notes->takeovers,
           (unsigned long long)notes->redone, (unsigned long long)notes->torn,
           (unsigned long long)(notes->longest_gap_ns / CMQ_NS_PER_MS), drained,
           (unsigned long long)notes->violations);
    if (notes->violations != 0)
        printf("FIRST VIOLATION: %s\n", notes->text);
}

int main(int argc, char **argv)
{
    struct cmq_reason reason = {.text = ""};
    parse(argc, argv);
    notes = mmap(NULL, sizeof *notes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    cmq_assert(notes != MAP_FAILED);
    (void)snprintf(instance, sizeof instance, "torture-%d", (int)getpid());
    (void)snprintf(log_path, sizeof log_path, "%s/%s.log", options.run_dir, instance);
    (void)snprintf(lock_path, sizeof lock_path, "%s/%s.log-lock", options.run_dir, instance);
    struct cmq_ring_setup setup = make_setup(0);
    if (options.crash != NULL)
        (void)setenv("CMQ_CRASH", options.crash, 1); /* before the first crash point: it is read once */
    if (cmq_ring_create(&setup, &reason) != CMQ_OK) {
        fprintf(stderr, "create: %s\n", reason.text);
        return 1;
    }
    close(open_file(log_path, O_RDWR | O_CREAT | O_TRUNC));
    close(open_file(lock_path, O_RDWR | O_CREAT | O_TRUNC));
    add_children(CMQ_ROLE_INGEST, options.producers);
    add_children(CMQ_ROLE_ENCRYPTOR, options.encryptors);
    add_children(CMQ_ROLE_DISPATCHER, options.readers);
    torment();
    atomic_store_explicit(&notes->stop_producing, 1, memory_order_release);
    stop_children(CMQ_ROLE_INGEST);
    bool drained = wait_drained();
    atomic_store_explicit(&notes->stop_all, 1, memory_order_release);
    stop_children(CMQ_ROLE_ENCRYPTOR);
    stop_children(CMQ_ROLE_DISPATCHER);
    uint64_t twice, total = check_log(&twice);
    if (twice > deaths[CMQ_ROLE_INGEST])
        violation("%llu records are there twice", (unsigned long long)twice);
    if (cmq_ring_destroy(&setup, &reason) != CMQ_OK)
        violation("destroy: %s", reason.text);
    remove_files();
    report(total, twice, drained);
    return notes->violations == 0 ? 0 : 1;
}
