#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "tests/bench/bench_report.h"

#ifndef CMQ_BENCH_COMMIT
#define CMQ_BENCH_COMMIT "unknown"
#endif
#ifdef __clang__
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

static void read_cpu_model(char *ret_text, size_t bytes)
{
    char line[256];
    snprintf(ret_text, bytes, "unknown CPU");
    FILE *in = fopen("/proc/cpuinfo", "re");
    if (in == NULL)
        return;
    while (fgets(line, sizeof line, in) != NULL) {
        const char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || value == NULL)
            continue;
        value += 1 + strspn(value + 1, " \t");
        snprintf(ret_text, bytes, "%.*s", (int)strcspn(value, "\n"), value);
        break;
    }
    fclose(in);
}

void bench_machine_read(const char *commit, const struct cmq_conf *conf, struct bench_machine *ret_machine)
{
    struct utsname name;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    *ret_machine = (struct bench_machine){.cores = cores > 0 ? (unsigned)cores : 0};
    read_cpu_model(ret_machine->cpu, sizeof ret_machine->cpu);
    if (uname(&name) == 0)
        snprintf(ret_machine->kernel, sizeof ret_machine->kernel, "%.20s %.50s", name.sysname, name.release);
    snprintf(ret_machine->compiler, sizeof ret_machine->compiler, "%s", COMPILER);
    snprintf(ret_machine->commit, sizeof ret_machine->commit, "%s",
             commit != NULL ? commit : CMQ_BENCH_COMMIT);
    if (conf == NULL)
        return;
    static const char *const stores[] = {[CMQ_CONF_STORE_DISK] = "disk", [CMQ_CONF_STORE_MEMORY] = "memory"};
    static const char *const syncs[] = {[CMQ_CONF_SYNC_ALWAYS] = "always",
                                        [CMQ_CONF_SYNC_INTERVAL] = "interval",
                                        [CMQ_CONF_SYNC_NONE] = "none"};
    snprintf(ret_machine->store, sizeof ret_machine->store, "%s", stores[conf->log_store]);
    snprintf(ret_machine->sync, sizeof ret_machine->sync, "%s", syncs[cmq_conf_log_sync(conf)]);
}

void bench_machine_text(FILE *out, const struct bench_machine *machine)
{
    fprintf(out, "machine   : %s, %u cores, %s, %s, commit %s\n", machine->cpu, machine->cores,
            machine->kernel, machine->compiler, machine->commit);
    if (machine->store[0] != '\0')
        fprintf(out, "broker    : store = %s, sync = %s\n", machine->store, machine->sync);
}

void bench_machine_json(struct bench_json *json, const struct bench_machine *machine)
{
    bench_json_open(json, "machine", '{');
    bench_json_text(json, "cpu", machine->cpu);
    bench_json_u64(json, "cores", machine->cores);
    bench_json_text(json, "kernel", machine->kernel);
    bench_json_text(json, "compiler", machine->compiler);
    bench_json_text(json, "commit", machine->commit);
    bench_json_text(json, "store", machine->store);
    bench_json_text(json, "sync", machine->sync);
    bench_json_close(json, '}');
}
