/* doctor: looks at everything that keeps a broker from working, and names the fix. Changes nothing but for one message that
 * it sends through to the topic ciphermq.canary. */
#include "ctl_doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/wire/cmq_json_out.h"

enum { TEXT_BYTES = 1024 };

static const char *const level_names[] = {[DOCTOR_OK] = "ok", [DOCTOR_NOTE] = "note", [DOCTOR_FAIL] = "fail"};

static void print_json_text(const char *name, const char *text)
{
    uint8_t quoted[TEXT_BYTES * 6 + 2];
    size_t bytes = cmq_json_write_string(quoted, cmq_span_make(text, strnlen(text, TEXT_BYTES)));
    (void)printf(",\"%s\":%.*s", name, (int)bytes, (const char *)quoted);
}

void doctor_say(struct doctor *doctor, enum doctor_level level, const char *check, const char *fix,
                const char *fmt, ...)
{
    char text[TEXT_BYTES];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    doctor->counts[level]++;
    if (doctor->ctl->json) {
        (void)printf("%s{\"check\":\"%s\",\"level\":\"%s\"", doctor->listed ? "," : "", check,
                     level_names[level]);
        print_json_text("text", text);
        if (fix != NULL)
            print_json_text("fix", fix);
        (void)printf("}");
    } else {
        (void)printf("%-4s  %-12s %s\n", level_names[level], check, text);
        if (fix != NULL)
            (void)printf("      %-12s fix: %s\n", "", fix);
    }
    doctor->listed = true;
}

static bool load(struct doctor *doctor)
{
    struct cmq_reason reason = {{0}};
    const char *file = doctor->ctl->source.config_file;
    if (cmq_proc_load(&doctor->ctl->source, &doctor->ctl->conf, &reason) == CMQ_OK) {
        doctor_say(doctor, DOCTOR_OK, "config", NULL, "%s is understood",
                   file != NULL ? file : CMQ_PROC_CONFIG_FILE);
        return true;
    }
    doctor_say(
        doctor, DOCTOR_FAIL, "config",
        "mend that line; `ciphermqctl config --sample` shows every key, docs/CONFIGURATION.md explains them",
        "%s", reason.text);
    return false;
}

int ctl_doctor(struct ctl *ctl)
{
    struct doctor doctor = {.ctl = ctl};
    bool running = false;
    if (ctl->json)
        (void)printf("{\"checks\":[");
    if (load(&doctor)) {
        doctor_check_files(&doctor);
        doctor_check_machine(&doctor);
        doctor_check_broker(&doctor, &running);
        if (running)
            doctor_check_delivery(&doctor);
    }
    if (ctl->json)
        (void)printf("],\"ok\":%u,\"notes\":%u,\"failed\":%u}\n", doctor.counts[DOCTOR_OK],
                     doctor.counts[DOCTOR_NOTE], doctor.counts[DOCTOR_FAIL]);
    else
        (void)printf("\n%u ok, %u to note, %u failed\n", doctor.counts[DOCTOR_OK], doctor.counts[DOCTOR_NOTE],
                     doctor.counts[DOCTOR_FAIL]);
    return doctor.counts[DOCTOR_FAIL] == 0 ? CMQ_EXIT_OK : CTL_EXIT_FAILED;
}
