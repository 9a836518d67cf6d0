/*
 * bench_stages: what the broker's processes used: CPU, memory, counters, found through the ring's member table.
 * Ownership: open/close; samples are the caller's memory.
 * Units: nanoseconds of CPU, KiB of memory, counters as in cmq_counters.h.
 * Errors: open: those of cmq_ring_attach, with the sentence. A process that ends meanwhile drops out of the
 *         sample.
 * Callers: one thread at a time. Nothing is written to shared memory.
 */
#ifndef BENCH_STAGES_H
#define BENCH_STAGES_H

#include "common/conf/cmq_conf.h"
#include "common/shm/cmq_ring.h"

#define BENCH_STAGE_COUNT   3u /* CMQ_ROLE_INGEST .. CMQ_ROLE_DISPATCHER */
#define BENCH_PROCESSES_MAX ((size_t)3u * CMQ_ROLE_MEMBERS_MAX)

struct bench_process {
    uint32_t member_id, instance_number;
    int32_t pid;
    unsigned stage; /* 0 ingest, 1 encryptor, 2 dispatcher */
    uint64_t cpu_ns;
    uint64_t user_ticks, system_ticks; /* 1/sysconf(_SC_CLK_TCK) s; only for the share of the kernel */
    uint64_t anon_kib, file_kib, shmem_kib;
    uint64_t counters[CMQ_COUNTER_COUNT];
};

struct bench_sample {
    uint64_t at_ns;
    size_t count;
    struct bench_process processes[BENCH_PROCESSES_MAX];
};

/* One stage between two samples, all its processes together. Memory is the later sample's, of the largest
 * process. */
struct bench_use {
    unsigned processes;
    unsigned changed; /* processes that came or went in between: then the sums are too low */
    uint64_t cpu_ns;
    uint64_t user_ticks, system_ticks;
    uint64_t own_kib_max;   /* anonymous and file pages */
    uint64_t shmem_kib_max; /* ring and arena pages touched */
    uint64_t counters[CMQ_COUNTER_COUNT];
};

struct bench_stages {
    struct cmq_ring *ring; /* NULL: not attached */
    struct cmq_member_state *members;
};

const char *bench_stage_name(unsigned stage);
CMQ_MUST_USE enum cmq_err bench_stages_open(const struct cmq_conf *conf, struct bench_stages *ret_stages,
                                            struct cmq_reason *reason);
void bench_stages_close(struct bench_stages *stages);
/* Memory of the process with `pid`; stays as it is when that is gone. */
void bench_stages_memory(struct bench_process *process);
/* Empty when not attached. */
void bench_stages_sample(struct bench_stages *stages, struct bench_sample *ret_sample);
void bench_stages_use(const struct bench_sample *before, const struct bench_sample *after,
                      struct bench_use ret_use[BENCH_STAGE_COUNT]);

#endif
