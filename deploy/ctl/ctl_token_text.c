#include "ctl_token.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "common/wire/cmq_json_text.h"

#define MS_PER_MINUTE 60000ull
#define DAYS_MAX      36500ull

static const char *const right_names[] = {"publish", "subscribe", "consume"};

/* Digits only. Their count is limited, so that nothing overflows. */
static bool parse_digits(const char *text, size_t digits, uint64_t *ret_number)
{
    uint64_t number = 0;
    if (digits == 0 || digits > 18)
        return false;
    for (size_t i = 0; i < digits; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        number = number * 10 + (uint64_t)(text[i] - '0');
    }
    *ret_number = number;
    return true;
}

static bool parse_span_of_time(const char *text, uint64_t *ret_ms)
{
    static const struct {
        char unit;
        uint64_t ms;
    } units[] = {{'m', MS_PER_MINUTE},
                 {'h', 60 * MS_PER_MINUTE},
                 {'d', 1440 * MS_PER_MINUTE},
                 {'w', 10080 * MS_PER_MINUTE}};
    const size_t digits = strspn(text, "0123456789");
    uint64_t count = 0;
    if (digits > 9 || strlen(text) != digits + 1 || !parse_digits(text, digits, &count))
        return false;
    for (size_t i = 0; i < CMQ_COUNT_OF(units); i++) {
        if (units[i].unit != text[digits])
            continue;
        *ret_ms = count * units[i].ms;
        return *ret_ms <= DAYS_MAX * 1440 * MS_PER_MINUTE;
    }
    return false;
}

/* YYYY-MM-DD or YYYY-MM-DDTHH:MM:SSZ (RFC 3339), as UTC. */
static bool parse_date(const char *text, uint64_t *ret_ms)
{
    static const char form[] = "dddd-dd-ddTdd:dd:ddZ";
    static const struct {
        unsigned at, digits;
    } places[] = {{0, 4}, {5, 2}, {8, 2}, {11, 2}, {14, 2}, {17, 2}};
    const size_t bytes = strlen(text);
    uint64_t numbers[6] = {0};
    if (bytes != 10 && bytes != sizeof form - 1)
        return false;
    for (size_t i = 0; i < bytes; i++) {
        if (form[i] == 'd' ? text[i] < '0' || text[i] > '9' : text[i] != form[i])
            return false;
    }
    for (size_t i = 0; i < CMQ_COUNT_OF(places) && places[i].at < bytes; i++)
        (void)parse_digits(text + places[i].at, places[i].digits, &numbers[i]);
    struct tm given = {.tm_year = (int)numbers[0] - 1900,
                       .tm_mon = (int)numbers[1] - 1,
                       .tm_mday = (int)numbers[2],
                       .tm_hour = (int)numbers[3],
                       .tm_min = (int)numbers[4],
                       .tm_sec = (int)numbers[5]};
    struct tm found = given;
    const time_t seconds = timegm(&found);
    /* timegm makes 3 March of 31 February. */
    if (seconds < 0 || found.tm_mon != given.tm_mon || found.tm_mday != given.tm_mday ||
        found.tm_hour != given.tm_hour || found.tm_min != given.tm_min || found.tm_sec != given.tm_sec)
        return false;
    *ret_ms = (uint64_t)seconds * 1000u;
    return true;
}

enum cmq_err ctl_token_expiry(const char *text, uint64_t now_ms, uint64_t *ret_expires_ms,
                              struct cmq_reason *reason)
{
    uint64_t ms = 0;
    if (strcmp(text, "never") == 0) {
        *ret_expires_ms = CMQ_TOKEN_NEVER;
        return CMQ_OK;
    }
    if (parse_span_of_time(text, &ms))
        ms += now_ms;
    else if (!parse_date(text, &ms))
        return cmq_reason_set(
            reason, CMQ_ERR_INVALID,
            "--expires: 30m, 12h, 90d, 52w, a date like 2027-01-31 or 2027-01-31T12:00:00Z, and never "
            "are allowed");
    if (ms <= now_ms)
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "--expires: that moment has passed already");
    *ret_expires_ms = ms;
    return CMQ_OK;
}

enum cmq_err ctl_token_rate(const char *option, const char *text, bool units, uint64_t max,
                            uint64_t *ret_rate, struct cmq_reason *reason)
{
    const size_t digits = strspn(text, "0123456789");
    const char *const unit = text + digits;
    uint64_t rate = 0, factor = unit[0] == '\0' ? 1 : 0;
    if (units && unit[0] != '\0' && unit[1] == '\0')
        factor = unit[0] == 'K' ? 1ull << 10 : unit[0] == 'M' ? 1ull << 20 : unit[0] == 'G' ? 1ull << 30 : 0;
    if (factor == 0 || !parse_digits(text, digits, &rate) || rate == 0 || rate > max / factor)
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "%s: a number from 1 to %" PRIu64 " is allowed%s",
                              option, max, units ? "; it may end in K, M or G" : "");
    *ret_rate = rate * factor;
    return CMQ_OK;
}

enum cmq_err ctl_token_scope(const struct ctl_token_options *options, unsigned right, struct cmq_buf *buf,
                             struct cmq_reason *reason)
{
    enum cmq_err err = CMQ_OK;
    for (unsigned i = 0; err == CMQ_OK && i < options->scope_counts[right]; i++) {
        const char *const text = options->scopes[right][i];
        if (i > 0)
            err = cmq_buf_append(buf, ",", 1);
        if (err == CMQ_OK)
            err = cmq_buf_append(buf, text, strlen(text));
    }
    if (err != CMQ_OK)
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "--%s: that is too long", right_names[right]);
    struct cmq_reason flaw = {{0}};
    if (options->scope_counts[right] > 0 && cmq_token_scope_check(cmq_buf_span(buf), &flaw) != CMQ_OK)
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "--%s: %s", right_names[right], flaw.text);
    return CMQ_OK;
}

/* UTF-8 as it is; what somebody put into the file by hand and is none, and control characters, become \u00XX. */
static void print_subject(const struct cmq_token_line *line)
{
    const uint8_t *next = (const uint8_t *)line->subject, *const end = next + line->subject_bytes;
    while (next < end) {
        const size_t step = cmq_utf8_sequence_bytes(next, end);
        if (step == 0 || *next < ' ' || *next == 0x7f || *next == '"' || *next == '\\')
            (void)printf("\\u%04x", *next);
        else
            (void)fwrite(next, 1, step, stdout);
        next += step == 0 ? 1 : step;
    }
}

/* "a","b" of a,b */
static void print_json_scope(const char *name, struct cmq_span scope)
{
    (void)printf(",\"%s\":[%s", name, scope.bytes == 0 ? "" : "\"");
    for (size_t i = 0; i < scope.bytes; i++)
        (void)printf(scope.data[i] == ',' ? "\",\"" : "%c", scope.data[i]);
    (void)printf("%s]", scope.bytes == 0 ? "" : "\"");
}

void ctl_token_print_json(const struct cmq_token_line *line, const char *token, uint64_t now_ms)
{
    (void)printf("{\"name\":\"%.*s\",\"kind\":\"%s\"", (int)line->name.bytes, (const char *)line->name.data,
                 line->kind == CMQ_TOKEN_BEARER ? "token" : "certificate");
    if (token != NULL)
        (void)printf(",\"token\":\"%s\"", token);
    if (line->subject_bytes > 0) {
        (void)printf(",\"%s\":\"", line->kind == CMQ_TOKEN_CERTIFICATE ? "subject" : "bound_to");
        print_subject(line);
        (void)printf("\"");
    }
    (void)printf(",\"created_ms\":%" PRIu64, line->created_ms);
    if (line->expires_ms == CMQ_TOKEN_NEVER)
        (void)printf(",\"expires_ms\":null");
    else
        (void)printf(",\"expires_ms\":%" PRIu64, line->expires_ms);
    (void)printf(",\"expired\":%s", line->expires_ms <= now_ms ? "true" : "false");
    for (unsigned i = 0; i < CMQ_TOKEN_SCOPES; i++)
        print_json_scope(right_names[i], line->scopes[i]);
    (void)printf(",\"admin\":%s,\"messages_rate\":%" PRIu64 ",\"bytes_rate\":%" PRIu64 "}",
                 line->admin ? "true" : "false", line->messages_rate, line->bytes_rate);
}

struct date {
    char text[32];
};

static const char *date_of(uint64_t ms, struct date *ret_date)
{
    const time_t seconds = (time_t)(ms / 1000u);
    struct tm parts;
    ret_date->text[0] = '\0';
    if (gmtime_r(&seconds, &parts) != NULL)
        (void)strftime(ret_date->text, sizeof ret_date->text, "%Y-%m-%d %H:%M", &parts);
    return ret_date->text;
}

void ctl_token_print_head(void)
{
    (void)printf("%-24s %-10s %-16s %s\n", "NAME", "CREATED", "EXPIRES (UTC)", "RIGHTS");
}

void ctl_token_print_row(const struct cmq_token_line *line, uint64_t now_ms)
{
    struct date created, expires;
    const char *until = "never";
    if (line->expires_ms <= now_ms)
        until = "expired";
    else if (line->expires_ms != CMQ_TOKEN_NEVER)
        until = date_of(line->expires_ms, &expires);
    (void)printf("%-24.*s %-10.10s %-16s", (int)line->name.bytes, (const char *)line->name.data,
                 date_of(line->created_ms, &created), until);
    for (unsigned i = 0; i < CMQ_TOKEN_SCOPES; i++) {
        if (line->scopes[i].bytes > 0)
            (void)printf(" %s %.*s;", right_names[i], (int)line->scopes[i].bytes,
                         (const char *)line->scopes[i].data);
    }
    (void)printf("%s", line->admin ? " admin;" : "");
    if (line->messages_rate != 0)
        (void)printf(" %" PRIu64 " messages/s;", line->messages_rate);
    if (line->bytes_rate != 0)
        (void)printf(" %" PRIu64 " bytes/s;", line->bytes_rate);
    if (line->subject_bytes > 0) {
        (void)printf(line->kind == CMQ_TOKEN_CERTIFICATE ? " certificate \"" : " only with certificate \"");
        print_subject(line);
        (void)printf("\"");
    }
    (void)printf("\n");
}
