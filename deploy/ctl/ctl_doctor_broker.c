/* The ring, who lives in it, and whether the ports answer. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/cmq_base.h"
#include "ctl_doctor.h"
#include "ctl_http.h"

enum {
    LATE_PERCENT_MAX = 1,
    LATE_WAITS_MIN = 1000,
    FULL_PERCENT = 90,
    ANSWER_BYTES_MAX = 4096,
    HTTP_MS = 5000
};

static const enum cmq_role stages[] = {CMQ_ROLE_INGEST, CMQ_ROLE_ENCRYPTOR, CMQ_ROLE_DISPATCHER};

/* ---- processes ---- */

/* The state letter of /proc/PID/stat; '?': not to be had. */
static char process_state(int32_t pid)
{
    char path[32], line[512];
    (void)snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return '?';
    char state = '?';
    const char *behind = fgets(line, sizeof line, file) != NULL ? strrchr(line, ')') : NULL;
    if (behind != NULL && behind[1] == ' ')
        state = behind[2];
    (void)fclose(file);
    return state;
}

static void check_member(struct doctor *doctor, const struct cmq_member_state *member)
{
    const char *name = cmq_role_name(member->role);
    const uint64_t waits = member->counters[CMQ_COUNT_WAITS], late = member->counters[CMQ_COUNT_WAITS_LATE];
    const char state = process_state(member->pid);
    if (state == 'T' || state == 't')
        doctor_say(doctor, DOCTOR_FAIL, "stages",
                   "continue it (kill -CONT), or end it: its supervisor starts another one",
                   "%s %u (pid %d) is stopped", name, member->instance_number, member->pid);
    if (waits >= LATE_WAITS_MIN && late * 100 > waits * LATE_PERCENT_MAX)
        doctor_say(doctor, DOCTOR_NOTE, "stages",
                   "the machine is overloaded, or wake-ups are lost: please report it",
                   "%s %u overslept %llu of %llu times", name, member->instance_number,
                   (unsigned long long)late, (unsigned long long)waits);
    if (member->counters[CMQ_COUNT_UNDELIVERABLE] > 0)
        doctor_say(doctor, DOCTOR_NOTE, "stages", "`ciphermqctl verify` names the records",
                   "%s %u could not open %llu messages", name, member->instance_number,
                   (unsigned long long)member->counters[CMQ_COUNT_UNDELIVERABLE]);
}

/* Every stage has somebody. */
static bool check_stages(struct doctor *doctor, struct cmq_ring *ring)
{
    static struct cmq_member_state members[CMQ_MEMBERS_MAX];
    const size_t count =
        cmq_min_u64(cmq_ring_members(ring, members, CMQ_COUNT_OF(members)), CMQ_COUNT_OF(members));
    bool all = true;
    for (size_t i = 0; i < CMQ_COUNT_OF(stages); i++) {
        unsigned live = 0;
        for (size_t j = 0; j < count; j++) {
            const struct cmq_member_state *member = &members[j];
            if (!member->alive || member->role != stages[i] ||
                member->instance_number >= CMQ_PROC_INSTANCES_MAX)
                continue;
            live++;
            check_member(doctor, member);
        }
        if (live == 0)
            doctor_say(doctor, DOCTOR_FAIL, "stages",
                       "start it by its supervisor (deploy/up, or systemctl start ciphermq.target); its log "
                       "says why it ended",
                       "no %s runs", cmq_role_name(stages[i]));
        else
            doctor_say(doctor, DOCTOR_OK, "stages", NULL, "%u %s", live, cmq_role_name(stages[i]));
        all = all && live > 0;
    }
    return all;
}

/* ---- ring and log ---- */

static void check_flow(struct doctor *doctor, struct cmq_ring *ring)
{
    struct cmq_ring_state state;
    cmq_ring_state(ring, &state);
    const uint64_t depth = state.published - state.gate;
    if (depth * 100 > (uint64_t)state.slots * FULL_PERCENT)
        doctor_say(doctor, DOCTOR_FAIL, "ring",
                   "see whether encryptors run and the log takes writes; `ciphermqctl status`",
                   "%llu of %u slots are in use: publishers wait or get 503", (unsigned long long)depth,
                   state.slots);
    else if (state.draining)
        doctor_say(doctor, DOCTOR_NOTE, "ring", "start the broker again when you are done",
                   "the ring is told to drain");
    else
        doctor_say(doctor, DOCTOR_OK, "ring", NULL, "%llu of %u slots in use", (unsigned long long)depth,
                   state.slots);
    switch (cmq_ring_log_health(ring)) {
    case CMQ_LOG_HEALTH_OK:
        doctor_say(doctor, DOCTOR_OK, "log-writer", NULL, "the log is written, up to record %llu",
                   (unsigned long long)cmq_ring_stored_seq(ring));
        return;
    case CMQ_LOG_HEALTH_NONE:
        doctor_say(doctor, DOCTOR_FAIL, "log-writer", "see the encryptor's log: it says what it waits for",
                   "nobody writes the log");
        return;
    case CMQ_LOG_HEALTH_FULL:
        doctor_say(doctor, DOCTOR_FAIL, "log-writer",
                   "make room on its disk, or raise log.retention_bytes; it goes on by itself",
                   "the log is full: publishers get 503");
        return;
    case CMQ_LOG_HEALTH_FAILED:
        doctor_say(doctor, DOCTOR_FAIL, "log-writer",
                   "see the encryptor's log and the kernel's (dmesg): the disk refuses writes",
                   "the log cannot be written: publishers get 503");
        return;
    }
}

/* ---- ports ---- */

static bool check_port(struct doctor *doctor, const char *check, enum ctl_port port, const char *path)
{
    struct ctl_answer answer;
    struct cmq_reason reason = {{0}};
    const struct ctl_request request = {
        .port = port, .path = path, .timeout_ms = HTTP_MS, .bytes_max = ANSWER_BYTES_MAX};
    if (ctl_http(doctor->ctl, &request, &answer, &reason) != CMQ_OK) {
        doctor_say(doctor, DOCTOR_FAIL, check,
                   "see whether the stage runs and listens there, and whether another program has the port "
                   "(ss -ltnp)",
                   "%s", reason.text);
        return false;
    }
    const bool good = answer.status >= 200 && answer.status < 300;
    if (good)
        doctor_say(doctor, DOCTOR_OK, check, NULL, "%s answers", answer.url);
    else
        doctor_say(doctor, DOCTOR_FAIL, check, "read the answer: it names what is missing",
                   "%s answers %ld: %.*s", answer.url, answer.status,
                   (int)cmq_min_u64(answer.body.bytes, 300), (const char *)answer.body.data);
    ctl_answer_fini(&answer);
    return good;
}

void doctor_check_broker(struct doctor *doctor, bool *ret_running)
{
    struct cmq_reason reason = {{0}};
    struct cmq_ring *ring = NULL;
    *ret_running = false;
    enum cmq_err err = ctl_ring_observe(&doctor->ctl->conf, &ring, &reason);
    if (err != CMQ_OK) {
        doctor_say(
            doctor, DOCTOR_FAIL, "ring",
            err == CMQ_ERR_AGAIN
                ? "start the broker: deploy/up, or `ciphermqctl init` and then the stages"
                : "stop all stages, `ciphermqctl destroy`, `ciphermqctl init`, start them; log and keys stay",
            "%s", reason.text);
        return;
    }
    bool all = check_stages(doctor, ring);
    check_flow(doctor, ring);
    cmq_ring_detach(ring);
    bool http = check_port(doctor, "http", CTL_PORT_HTTP, "/readyz");
    bool ws = check_port(doctor, "websocket", CTL_PORT_WS, "/");
    *ret_running = all && http && ws;
}
