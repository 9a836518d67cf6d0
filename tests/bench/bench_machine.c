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

void bench_machine_read(const char *commit, struct bench_machine *ret_machine)
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
}

void bench_machine_text(FILE *out, const struct bench_machine *machine)
{
    fprintf(out, "machine   : %s, %u cores, %s, %s, commit %s\n", machine->cpu, machine->cores,
            machine->kernel, machine->compiler, machine->commit);
}

void bench_machine_json(struct bench_json *json, const struct bench_machine *machine)
{
    bench_json_open(json, "machine", '{');
    bench_json_text(json, "cpu", machine->cpu);
    bench_json_u64(json, "cores", machine->cores);
    bench_json_text(json, "kernel", machine->kernel);
    bench_json_text(json, "compiler", machine->compiler);
    bench_json_text(json, "commit", machine->commit);
    bench_json_close(json, '}');
}
