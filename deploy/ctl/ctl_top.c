/* top: what every instance does per second, again and again. Reads shared memory only. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/base/cmq_base.h"
#include "common/base/cmq_clock.h"
#include "ctl.h"

enum { GROUPS_SHOWN = 10, ERRORS_SHOWN = 3 };
#define CLEAR "\033[H\033[J"

/* One look. */
struct look {
    uint64_t at_ns;
    struct cmq_sight *sight;
};

static enum cmq_err look(struct cmq_ring *ring, struct look *ret_look)
{
    ret_look->at_ns = cmq_clock_mono_ns();
    return cmq_sight_take(ring, &ret_look->sight);
}

static const struct cmq_status *same(const struct look *before, const struct cmq_status *status)
{
    for (size_t i = 0; i < before->sight->count; i++) {
        const struct cmq_status *other = &before->sight->instances[i].status;
        if (other->role == status->role && other->instance_number == status->instance_number)
            return other;
    }
    return NULL;
}

/* What a counter rose by; a new instance began at 0. */
static uint64_t rise(const struct cmq_status *before, const struct cmq_status *now, enum cmq_counter counter)
{
    const uint64_t was = before == NULL ? 0 : before->counters[counter];
    return now->counters[counter] > was ? now->counters[counter] - was : 0;
}

struct rates {
    double messages, records, bytes_in, bytes_out;
    uint64_t ns_per_message, rejected;
    double sync_ms; /* mean of the interval; below 0: none */
};

static struct rates rates_of(const struct look *before, const struct look *now,
                             const struct cmq_status *status)
{
    const struct cmq_status *old = same(before, status);
    const double seconds = (double)(now->at_ns - before->at_ns) / 1e9;
    const uint64_t messages = rise(old, status, CMQ_COUNT_MESSAGES);
    const uint64_t syncs = rise(old, status, CMQ_COUNT_LOG_SYNCS);
    return (struct rates){
        .messages = (double)messages / seconds,
        .records = (double)rise(old, status, CMQ_COUNT_RECORDS) / seconds,
        .bytes_in = (double)rise(old, status, CMQ_COUNT_BYTES_IN) / seconds,
        .bytes_out = (double)rise(old, status, CMQ_COUNT_BYTES_OUT) / seconds,
        .ns_per_message = messages == 0 ? 0 : rise(old, status, CMQ_COUNT_WORK_NS) / messages,
        .rejected = rise(old, status, CMQ_COUNT_REJECTED_BAD) + rise(old, status, CMQ_COUNT_REJECTED_LARGE) +
                    rise(old, status, CMQ_COUNT_REJECTED_FULL) + rise(old, status, CMQ_COUNT_REJECTED_AUTH) +
                    rise(old, status, CMQ_COUNT_REJECTED_RATE),
        .sync_ms = syncs == 0 ? -1 : (double)rise(old, status, CMQ_COUNT_LOG_SYNC_NS) / 1e6 / (double)syncs};
}

static void print_text(const struct ctl *ctl, const struct look *before, const struct look *now)
{
    const double seconds = (double)(now->at_ns - before->at_ns) / 1e9;
    (void)printf(
        "broker %s  ring %llu of %u in use%s  log %s, %.0f records/s stored, %llu not durable yet\n\n",
        ctl->conf.common_instance, (unsigned long long)(now->sight->ring.published - now->sight->ring.gate),
        now->sight->ring.slots, now->sight->ring.draining ? ", draining" : "",
        cmq_log_health_name(now->sight->health),
        (double)(now->sight->stored - before->sight->stored) / seconds,
        (unsigned long long)(now->sight->stored > now->sight->durable
                                 ? now->sight->stored - now->sight->durable
                                 : 0));
    (void)printf("%-10s %3s %-5s %12s %11s %10s %10s %7s %8s %8s %9s\n", "STAGE", "N", "STATE", "MESSAGES/S",
                 "RECORDS/S", "MB/S IN", "MB/S OUT", "NS/MSG", "CLIENTS", "REFUSED", "SYNC MS");
    for (size_t i = 0; i < now->sight->count; i++) {
        const struct cmq_status *status = &now->sight->instances[i].status;
        const struct rates rates = rates_of(before, now, status);
        char sync[16] = "";
        if (rates.sync_ms >= 0)
            (void)snprintf(sync, sizeof sync, "%.2f", rates.sync_ms);
        (void)printf(
            "%-10s %3u %-5s %12.0f %11.0f %10.2f %10.2f %7llu %8llu %8llu %9s\n", cmq_role_name(status->role),
            status->instance_number, now->sight->instances[i].alive ? "up" : "DOWN", rates.messages,
            rates.records, rates.bytes_in / 1e6, rates.bytes_out / 1e6,
            (unsigned long long)rates.ns_per_message,
            (unsigned long long)(now->sight->instances[i].alive ? status->counters[CMQ_COUNT_CLIENTS] : 0),
            (unsigned long long)rates.rejected, sync);
    }
}

static void print_json(const struct ctl *ctl, const struct look *before, const struct look *now)
{
    const double seconds = (double)(now->at_ns - before->at_ns) / 1e9;
    (void)printf("{\"broker\":\"%s\",\"seconds\":%.3f,\"ring\":{\"slots\":%u,\"depth\":%llu},\"log\":{"
                 "\"health\":\"%s\","
                 "\"records_per_s\":%.1f,\"not_durable\":%llu},\"instances\":[",
                 ctl->conf.common_instance, seconds, now->sight->ring.slots,
                 (unsigned long long)(now->sight->ring.published - now->sight->ring.gate),
                 cmq_log_health_name(now->sight->health),
                 (double)(now->sight->stored - before->sight->stored) / seconds,
                 (unsigned long long)(now->sight->stored > now->sight->durable
                                          ? now->sight->stored - now->sight->durable
                                          : 0));
    for (size_t i = 0; i < now->sight->count; i++) {
        const struct cmq_status *status = &now->sight->instances[i].status;
        const struct rates rates = rates_of(before, now, status);
        (void)printf(
            "%s{\"stage\":\"%s\",\"instance\":%u,\"alive\":%s,\"messages_per_s\":%.1f,\"records_per_s\":%.1f,"
            "\"bytes_in_per_s\":%.1f,\"bytes_out_per_s\":%.1f,\"ns_per_message\":%llu,\"clients\":%llu,"
            "\"refused\":%llu}",
            i == 0 ? "" : ",", cmq_role_name(status->role), status->instance_number,
            now->sight->instances[i].alive ? "true" : "false", rates.messages, rates.records, rates.bytes_in,
            rates.bytes_out, (unsigned long long)rates.ns_per_message,
            (unsigned long long)(now->sight->instances[i].alive ? status->counters[CMQ_COUNT_CLIENTS] : 0),
            (unsigned long long)rates.rejected);
    }
    (void)printf("]}\n");
}

/* Waits for the time to pass; true when the user wants to leave. */
static bool leave_wanted(int signal_fd, uint64_t until_ns)
{
    struct pollfd fds[2] = {{.fd = signal_fd, .events = POLLIN},
                            {.fd = isatty(STDIN_FILENO) == 1 ? STDIN_FILENO : -1, .events = POLLIN}};
    for (uint64_t now_ns; (now_ns = cmq_clock_mono_ns()) < until_ns;) {
        char key;
        if (poll(fds, 2, (int)((until_ns - now_ns) / CMQ_NS_PER_MS) + 1) <= 0)
            continue;
        if (fds[0].revents != 0 || (read(STDIN_FILENO, &key, 1) == 1 && key == 'q'))
            return true;
    }
    return false;
}

static int run(struct ctl *ctl, struct cmq_ring *ring, int signal_fd)
{
    struct look before = {0}, now = {0};
    const bool screen = isatty(STDOUT_FILENO) == 1 && !ctl->json;
    enum cmq_err err = look(ring, &before);
    for (uint64_t i = 0; err == CMQ_OK && (ctl->count == 0 || i < ctl->count); i++) {
        if (leave_wanted(signal_fd, before.at_ns + ctl->interval_ms * CMQ_NS_PER_MS))
            break;
        err = look(ring, &now);
        if (err != CMQ_OK)
            break;
        if (screen)
            (void)fputs(CLEAR, stdout);
        if (ctl->json)
            print_json(ctl, &before, &now);
        else
            print_text(ctl, &before, &now);
        if (!ctl->json)
            err = ctl_print_names(now.sight, GROUPS_SHOWN, ERRORS_SHOWN);
        (void)fputs(screen ? "\nq and Enter, or Ctrl-C, leaves\n" : ctl->json ? "" : "\n", stdout);
        cmq_sight_free(before.sight);
        before = now;
        if (fflush(stdout) != 0)
            break; /* whoever read it is gone */
    }
    cmq_sight_free(before.sight);
    return err == CMQ_OK ? CMQ_EXIT_OK : ctl_fail_err(err, &(struct cmq_reason){{0}});
}

int ctl_top(struct ctl *ctl)
{
    struct cmq_reason reason = {{0}};
    struct cmq_ring *ring = NULL;
    sigset_t signals;
    enum cmq_err err = ctl_ring_observe(&ctl->conf, &ring, &reason);
    if (err == CMQ_ERR_AGAIN)
        return ctl_fail(CTL_EXIT_NOT_RUNNING, "%s", reason.text);
    if (err != CMQ_OK)
        return ctl_fail_err(err, &reason);
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &signals, NULL);
    int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
    int code =
        signal_fd < 0 ? ctl_fail(CMQ_EXIT_TEMPORARY, "no descriptor is left") : run(ctl, ring, signal_fd);
    if (signal_fd >= 0)
        (void)close(signal_fd);
    cmq_ring_detach(ring);
    return code;
}
