#include "tests/bench/bench_stages.h"

#include <string.h>
#include <time.h>

#include "common/base/cmq_clock.h"

const char *bench_stage_name(unsigned stage)
{
    static const char *const names[BENCH_STAGE_COUNT] = {"ingest", "encryptor", "dispatcher"};
    cmq_assert(stage < BENCH_STAGE_COUNT);
    return names[stage];
}

enum cmq_err bench_stages_open(const struct cmq_conf *conf, struct bench_stages *ret_stages,
                               struct cmq_reason *reason)
{
    struct cmq_ring_setup setup = {.instance = conf->common_instance, .run_dir = conf->common_run_dir};
    struct bench_stages stages = {.members = calloc(CMQ_MEMBERS_MAX, sizeof *stages.members)};
    if (stages.members == NULL)
        return cmq_reason_set(reason, CMQ_ERR_NOMEM, "out of memory");
    enum cmq_err err = cmq_ring_attach(&setup, CMQ_ROLE_OBSERVER, &stages.ring, reason);
    if (err != CMQ_OK) {
        free(stages.members);
        return err == CMQ_ERR_AGAIN ? cmq_reason_set(reason, err, "no ring of instance \"%s\" (run_dir %s)",
                                                     conf->common_instance, conf->common_run_dir)
                                    : err;
    }
    *ret_stages = stages;
    return CMQ_OK;
}

void bench_stages_close(struct bench_stages *stages)
{
    cmq_ring_detach(stages->ring);
    free(stages->members);
    *stages = (struct bench_stages){0};
}

/* CPU of a whole process in nanoseconds; /proc/PID/stat has only 10 ms ticks. */
static bool read_cpu(pid_t pid, uint64_t *ret_ns)
{
    clockid_t id;
    struct timespec ts;
    if (clock_getcpuclockid(pid, &id) != 0 || clock_gettime(id, &ts) != 0)
        return false;
    *ret_ns = (uint64_t)ts.tv_sec * CMQ_NS_PER_S + (uint64_t)ts.tv_nsec;
    return true;
}

static FILE *open_proc(pid_t pid, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/%s", (long)pid, name);
    return fopen(path, "re");
}

static void read_ticks(struct bench_process *process)
{
    char line[1024] = "";
    FILE *in = open_proc(process->pid, "stat");
    if (in == NULL)
        return;
    const char *got = fgets(line, sizeof line, in);
    fclose(in);
    /* The name may hold blanks and brackets; the fields after the last bracket may not. Behind it come the
     * state and ten numbers, then the two times. */
    char *at = got != NULL ? strrchr(line, ')') : NULL;
    for (int field = 0; at != NULL && field < 12; field++)
        at = strchr(at + 1, ' ');
    if (at == NULL)
        return;
    process->user_ticks = strtoull(at, &at, 10);
    process->system_ticks = strtoull(at, NULL, 10);
}

static void take_kib(const char *line, const char *name, uint64_t *ret_kib)
{
    size_t bytes = strlen(name);
    if (strncmp(line, name, bytes) == 0)
        *ret_kib = strtoull(line + bytes, NULL, 10);
}

void bench_stages_memory(struct bench_process *process)
{
    char line[256];
    FILE *in = open_proc(process->pid, "status");
    if (in == NULL)
        return;
    while (fgets(line, sizeof line, in) != NULL) {
        take_kib(line, "RssAnon:", &process->anon_kib);
        take_kib(line, "RssFile:", &process->file_kib);
        take_kib(line, "RssShmem:", &process->shmem_kib);
    }
    fclose(in);
}

void bench_stages_sample(struct bench_stages *stages, struct bench_sample *ret_sample)
{
    *ret_sample = (struct bench_sample){.at_ns = cmq_clock_mono_ns()};
    if (stages->ring == NULL)
        return;
    size_t count = cmq_ring_members(stages->ring, stages->members, CMQ_MEMBERS_MAX);
    for (size_t i = 0; i < count && i < CMQ_MEMBERS_MAX && ret_sample->count < BENCH_PROCESSES_MAX; i++) {
        const struct cmq_member_state *member = &stages->members[i];
        if (!member->alive || member->role < CMQ_ROLE_INGEST || member->role > CMQ_ROLE_DISPATCHER)
            continue;
        struct bench_process *process = &ret_sample->processes[ret_sample->count];
        *process = (struct bench_process){.member_id = member->id,
                                          .instance_number = member->instance_number,
                                          .pid = member->pid,
                                          .stage = (unsigned)(member->role - CMQ_ROLE_INGEST)};
        if (!read_cpu(member->pid, &process->cpu_ns))
            continue;
        memcpy(process->counters, member->counters, sizeof process->counters);
        read_ticks(process);
        bench_stages_memory(process);
        ret_sample->count++;
    }
}

static const struct bench_process *find(const struct bench_sample *sample, const struct bench_process *like)
{
    for (size_t i = 0; i < sample->count; i++)
        if (sample->processes[i].pid == like->pid && sample->processes[i].member_id == like->member_id)
            return &sample->processes[i];
    return NULL;
}

void bench_stages_use(const struct bench_sample *before, const struct bench_sample *after,
                      struct bench_use ret_use[BENCH_STAGE_COUNT])
{
    static const struct bench_process none = {0};
    for (unsigned s = 0; s < BENCH_STAGE_COUNT; s++)
        ret_use[s] = (struct bench_use){0};
    for (size_t i = 0; i < before->count; i++)
        if (find(after, &before->processes[i]) == NULL)
            ret_use[before->processes[i].stage].changed++;
    for (size_t i = 0; i < after->count; i++) {
        const struct bench_process *now = &after->processes[i], *same = find(before, now);
        const struct bench_process *then = same != NULL ? same : &none;
        struct bench_use *use = &ret_use[now->stage];
        use->processes++;
        use->changed += same == NULL;
        use->cpu_ns += now->cpu_ns - then->cpu_ns;
        use->user_ticks += now->user_ticks - then->user_ticks;
        use->system_ticks += now->system_ticks - then->system_ticks;
        use->own_kib_max = cmq_max_u64(use->own_kib_max, now->anon_kib + now->file_kib);
        use->shmem_kib_max = cmq_max_u64(use->shmem_kib_max, now->shmem_kib);
        for (unsigned c = 0; c < CMQ_COUNTER_COUNT; c++) {
            bool gauge = cmq_counter_info((enum cmq_counter)c)->kind == CMQ_KIND_GAUGE;
            use->counters[c] += gauge ? now->counters[c] : now->counters[c] - then->counters[c];
        }
    }
}
