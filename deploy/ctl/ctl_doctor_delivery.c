/* The canary: one message from its POST to its delivery, by the ways that clients have. */
#include <stdio.h>
#include <string.h>

#include "common/base/cmq_clock.h"
#include "common/crypto/cmq_secret.h"
#include "ctl_doctor.h"
#include "ctl_http.h"

#define TOPIC "ciphermq.canary"
enum { WAIT_MS = 5000, BYTES_MAX = 1 << 20 };

/* The value of "id" in {"id":"7-0",...}. */
static bool read_id(struct cmq_span body, char ret_id[48])
{
    static const char key[] = "{\"id\":\"";
    if (body.bytes < sizeof key || memcmp(body.data, key, sizeof key - 1) != 0)
        return false;
    const char *begin = (const char *)body.data + sizeof key - 1;
    const char *end = memchr(begin, '"', body.bytes - (sizeof key - 1));
    if (end == NULL || end - begin >= 48)
        return false;
    (void)snprintf(ret_id, 48, "%.*s", (int)(end - begin), begin);
    return true;
}

static void say_refused(struct doctor *doctor, const char *what, const struct ctl_answer *answer)
{
    const bool rights = answer->status == 401 || answer->status == 403;
    doctor_say(doctor, rights ? DOCTOR_NOTE : DOCTOR_FAIL, "canary",
               rights ? "give doctor a token that may publish and subscribe to " TOPIC ": --token-file FILE"
                      : "read the answer: it names what is missing",
               "%s was answered with %ld: %.*s", what, answer->status,
               (int)cmq_min_u64(answer->body.bytes, 300), (const char *)answer->body.data);
}

static bool publish(struct doctor *doctor, const char *text, char ret_id[48])
{
    struct ctl_answer answer;
    struct cmq_reason reason = {{0}};
    const struct ctl_request request = {.port = CTL_PORT_HTTP,
                                        .path = "/v1/topics/" TOPIC,
                                        .post = true,
                                        .body = cmq_span_make(text, strlen(text)),
                                        .headers = {"CMQ-TTL: 60s"},
                                        .timeout_ms = WAIT_MS,
                                        .bytes_max = BYTES_MAX};
    if (ctl_http(doctor->ctl, &request, &answer, &reason) != CMQ_OK) {
        doctor_say(doctor, DOCTOR_FAIL, "canary", "see the logs of ingest and encryptor",
                   "publishing failed: %s", reason.text);
        return false;
    }
    bool good = answer.status == 200 && read_id(cmq_buf_span(&answer.body), ret_id);
    if (!good)
        say_refused(doctor, "the POST", &answer);
    ctl_answer_fini(&answer);
    return good;
}

/* `since` names what comes behind an id: the index before the first is the record before. */
static void path_before(const char *id, char *path, size_t bytes)
{
    unsigned long long seq = 0;
    unsigned index = 0;
    if (sscanf(id, "%llu-%u", &seq, &index) == 2 && seq > 1)
        (void)snprintf(path, bytes, "/t/" TOPIC "/json?since=%llu-4294967295&limit=1&wait_ms=%d", seq - 1,
                       WAIT_MS - 1000);
    else
        (void)snprintf(path, bytes, "/t/" TOPIC "/json?since=earliest&limit=1&wait_ms=%d", WAIT_MS - 1000);
}

void doctor_check_delivery(struct doctor *doctor)
{
    uint64_t number[2];
    char text[64], id[48], path[160];
    struct ctl_answer answer;
    struct cmq_reason reason = {{0}};
    if (cmq_secret_random(number, sizeof number) != CMQ_OK)
        return;
    (void)snprintf(text, sizeof text, "canary %016llx%016llx", (unsigned long long)number[0],
                   (unsigned long long)number[1]);
    const uint64_t begin_ns = cmq_clock_mono_ns();
    if (!publish(doctor, text, id))
        return;
    path_before(id, path, sizeof path);
    const struct ctl_request request = {
        .port = CTL_PORT_WS, .path = path, .timeout_ms = WAIT_MS, .bytes_max = BYTES_MAX};
    if (ctl_http(doctor->ctl, &request, &answer, &reason) != CMQ_OK) {
        doctor_say(doctor, DOCTOR_FAIL, "canary", "see the log of the dispatcher",
                   "message %s was taken, but reading failed: %s", id, reason.text);
        return;
    }
    const uint64_t took_us = (cmq_clock_mono_ns() - begin_ns) / CMQ_NS_PER_US;
    if (answer.status != 200)
        say_refused(doctor, "reading", &answer);
    else if (answer.body.bytes == 0 ||
             memmem(answer.body.data, answer.body.bytes, text, strlen(text)) == NULL)
        doctor_say(doctor, DOCTOR_FAIL, "canary",
                   "see the logs of encryptor and dispatcher; `ciphermqctl verify`",
                   "message %s was taken, but it was not delivered within %d ms", id, WAIT_MS - 1000);
    else
        doctor_say(doctor, DOCTOR_OK, "canary", NULL,
                   "message %s was delivered %llu.%03llu ms after it was sent", id,
                   (unsigned long long)(took_us / 1000), (unsigned long long)(took_us % 1000));
    ctl_answer_fini(&answer);
}
