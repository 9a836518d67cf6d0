#include "dispatcher/dsp_access.h"

#include <pthread.h>
#include <string.h>
#include <strings.h>

#include "common/log/cmq_log.h"

enum { FILE_BYTES = 256 };

struct dsp_access {
    struct cmq_auth *auth; /* the delivery thread's */

    /* main thread */
    struct cmq_auth *newest; /* the same, or `next` */
    char file[FILE_BYTES];   /* as configured */
    bool refused;            /* it could not be read: `newest` is of the one before */
    uint32_t failures_max;

    pthread_mutex_t lock;
    struct cmq_auth *next; /* of another file; NULL: none */
};

/* ---- the file ---- */

enum cmq_err dsp_access_new(const char *file, uint32_t failures_max, struct dsp_access **ret_access,
                            struct cmq_reason *reason)
{
    struct dsp_access *access = calloc(1, sizeof(*access));
    if (access == NULL)
        return cmq_reason_set(reason, CMQ_ERR_NOMEM, "out of memory");
    enum cmq_err err = cmq_auth_new(file, failures_max, &access->auth, reason);
    if (err != CMQ_OK) {
        free(access);
        return err;
    }
    access->newest = access->auth;
    access->failures_max = failures_max;
    (void)snprintf(access->file, sizeof(access->file), "%s", file);
    pthread_mutex_init(&access->lock, NULL);
    *ret_access = access;
    return CMQ_OK;
}

void dsp_access_free(struct dsp_access *access)
{
    if (access == NULL)
        return;
    cmq_auth_free(access->next);
    cmq_auth_free(access->auth);
    pthread_mutex_destroy(&access->lock);
    free(access);
}

static void log_kept(const struct cmq_reason *reason)
{
    struct cmq_log_quoted_sentence quoted;
    cmq_log(CMQ_LOG_ERROR, CMQ_EV_REFUSED, "where=tokens action=kept reason=%s",
            cmq_log_sentence(&quoted, reason->text));
}

/* Another file: a table of its own, which the delivery thread takes when it is asked to. */
static bool change_file(struct dsp_access *access, const char *file)
{
    struct cmq_reason reason = {.text = ""};
    struct cmq_auth *auth = NULL;
    (void)snprintf(access->file, sizeof(access->file), "%s", file); /* not again and again if it is bad */
    access->refused = cmq_auth_new(file, access->failures_max, &auth, &reason) != CMQ_OK;
    if (access->refused) {
        log_kept(&reason);
        return false;
    }
    pthread_mutex_lock(&access->lock);
    struct cmq_auth *unused = access->next;
    access->next = access->newest = auth;
    pthread_mutex_unlock(&access->lock);
    cmq_auth_free(unused);
    return true;
}

bool dsp_access_refresh(struct dsp_access *access, const char *file, bool force)
{
    struct cmq_reason reason = {.text = ""};
    bool changed = false;
    if (strcmp(file, access->file) != 0 || (force && access->refused))
        return change_file(access, file);
    if (cmq_auth_reload(access->newest, force, &changed, &reason) != CMQ_OK) {
        log_kept(&reason);
        return false;
    }
    return changed;
}

void dsp_access_renew(struct dsp_access *access)
{
    pthread_mutex_lock(&access->lock);
    struct cmq_auth *next = access->next;
    access->next = NULL;
    pthread_mutex_unlock(&access->lock);
    if (next == NULL)
        return;
    cmq_auth_free(access->auth);
    access->auth = next;
}

bool dsp_access_is_open(const struct dsp_access *access)
{
    return cmq_auth_is_open(access->auth);
}

/* ---- what is answered ---- */

#define REALM "Bearer realm=\"ciphermq\""

static const struct {
    struct dsp_problem problem;
    const char *word;
} results[] = {
    [CMQ_AUTH_OK] = {{0}, "ok"},
    [CMQ_AUTH_MISSING] = {{401, "unauthorized", "Unauthorized",
                           "no token was sent, and this broker needs one", "www-authenticate:", REALM},
                          "no_token"},
    [CMQ_AUTH_UNKNOWN] = {{401, "unauthorized", "Unauthorized", "this token is unknown, or was revoked",
                           "www-authenticate:", REALM ", error=\"invalid_token\""},
                          "unknown_token"},
    [CMQ_AUTH_EXPIRED] = {{401, "unauthorized", "Unauthorized", "this token has expired",
                           "www-authenticate:", REALM ", error=\"invalid_token\""},
                          "expired_token"},
    [CMQ_AUTH_LIMITED] = {{429, "too-many-failures", "Too Many Requests",
                           "too many tokens of this address were refused; try again in a minute",
                           "retry-after:", "60"},
                          "too_many_failures"},
};

static const struct dsp_problem lacks[] = {
    [CMQ_RIGHT_PUBLISH] = {403, "forbidden", "Forbidden", "this token has no right to publish to this topic",
                           NULL, NULL},
    [CMQ_RIGHT_SUBSCRIBE] = {403, "forbidden", "Forbidden",
                             "this token has no right to subscribe to this topic", NULL, NULL},
    [CMQ_RIGHT_CONSUME] = {403, "forbidden", "Forbidden",
                           "this token has no right to consume from this topic", NULL, NULL},
    [CMQ_RIGHT_ADMIN] = {403, "forbidden", "Forbidden", "this token has no right to administer this broker",
                         NULL, NULL},
};

static const struct dsp_problem twice = {
    400,           "bad-header",
    "Bad Request", "Send one token, in one of Authorization, X-API-Key and a subprotocol.",
    NULL,          NULL};

const struct dsp_problem dsp_access_token_in_url = {
    400,
    "token-in-url",
    "Bad Request",
    "Tokens do not belong in a URL, which ends up in logs. Send the header Authorization: Bearer.",
    NULL,
    NULL};

const char *dsp_access_sentence(enum cmq_auth_result result)
{
    return results[result].problem.detail;
}

const char *dsp_access_word(enum cmq_auth_result result)
{
    return results[result].word;
}

const char *dsp_access_lacks(enum cmq_right right)
{
    return lacks[right].detail;
}

/* ---- tokens of a request ---- */

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t';
}

static struct cmq_span trim(struct cmq_span text)
{
    while (text.bytes > 0 && is_blank(text.data[0]))
        text = cmq_span_make(text.data + 1, text.bytes - 1);
    while (text.bytes > 0 && is_blank(text.data[text.bytes - 1]))
        text.bytes--;
    return text;
}

/* What follows "Bearer"; of another scheme everything, which is no token. */
static struct cmq_span of_authorization(struct cmq_span value)
{
    static const char scheme[] = "Bearer ";
    const size_t bytes = sizeof(scheme) - 1;
    value = trim(value);
    if (value.bytes <= bytes || strncasecmp((const char *)value.data, scheme, bytes) != 0)
        return value;
    return trim(cmq_span_make(value.data + bytes, value.bytes - bytes));
}

/* The next name of a list with commas between. False: there is none. */
static bool next_name(struct cmq_span *list, struct cmq_span *ret_name)
{
    if (list->bytes == 0)
        return false;
    const uint8_t *comma = memchr(list->data, ',', list->bytes);
    size_t bytes = comma == NULL ? list->bytes : (size_t)(comma - list->data);
    size_t step = comma == NULL ? bytes : bytes + 1;
    *ret_name = trim(cmq_span_make(list->data, bytes));
    *list = cmq_span_make(list->data + step, list->bytes - step);
    return true;
}

/* How many tokens are among the subprotocols; *ret_token is the last one. */
static unsigned of_protocols(struct cmq_span list, struct cmq_span *ret_token)
{
    static const char prefix[] = DSP_TOKEN_PROTOCOL;
    const size_t bytes = sizeof(prefix) - 1;
    unsigned count = 0;
    for (struct cmq_span name; next_name(&list, &name);) {
        if (name.bytes < bytes || memcmp(name.data, prefix, bytes) != 0)
            continue;
        *ret_token = cmq_span_make(name.data + bytes, name.bytes - bytes);
        count++;
    }
    return count;
}

/* A header that says nothing is no token, but it was sent. */
static enum cmq_auth_result check(struct dsp_access *access, const struct dsp_credentials *credentials,
                                  struct cmq_span token, struct cmq_grant *ret_grant)
{
    if (token.bytes == 0 && !cmq_auth_is_open(access->auth))
        return CMQ_AUTH_UNKNOWN;
    return cmq_auth_check(access->auth, token, credentials->certificate, credentials->address, ret_grant);
}

const struct dsp_problem *dsp_access_identify(struct dsp_access *access,
                                              const struct dsp_credentials *credentials,
                                              struct cmq_grant *ret_grant)
{
    struct cmq_span token = {0};
    unsigned count = of_protocols(credentials->protocols, &token);
    *ret_grant = (struct cmq_grant){0};
    if (credentials->api_key.data != NULL) {
        token = trim(credentials->api_key);
        count++;
    }
    if (credentials->authorization.data != NULL) {
        token = of_authorization(credentials->authorization);
        count++;
    }
    if (count > 1 || credentials->repeated)
        return &twice;
    if (count == 1) {
        enum cmq_auth_result result = check(access, credentials, token, ret_grant);
        return result == CMQ_AUTH_OK ? NULL : &results[result].problem;
    }
    /* Without a token: whoever the certificate names. One that names nobody is no fault: a token may follow in connect. */
    if (cmq_auth_is_open(access->auth) || credentials->certificate.bytes > 0) {
        const struct cmq_span none = {0};
        struct cmq_grant grant;
        if (cmq_auth_check(access->auth, none, credentials->certificate, credentials->address, &grant) ==
            CMQ_AUTH_OK)
            *ret_grant = grant;
    }
    return NULL;
}

enum cmq_auth_result dsp_access_token(struct dsp_access *access, struct cmq_span token,
                                      struct cmq_span address, struct cmq_grant *ret_grant)
{
    const struct dsp_credentials credentials = {.address = address};
    return check(access, &credentials, token, ret_grant);
}

bool dsp_access_is_nobody(const struct cmq_grant *grant)
{
    return grant->entry == NULL && !grant->open;
}

const struct dsp_problem *dsp_access_somebody(const struct cmq_grant *grant)
{
    return dsp_access_is_nobody(grant) ? &results[CMQ_AUTH_MISSING].problem : NULL;
}

const struct dsp_problem *dsp_access_require(const struct cmq_grant *grant, enum cmq_right right,
                                             struct cmq_span pattern)
{
    if (dsp_access_is_nobody(grant))
        return &results[CMQ_AUTH_MISSING].problem;
    return cmq_grant_allows(grant, right, pattern) ? NULL : &lacks[right];
}

bool dsp_access_is_live(struct dsp_access *access, const struct cmq_grant *grant)
{
    return cmq_grant_is_live(access->auth, grant);
}

/* ---- URLs and origins ---- */

static bool says(struct cmq_span text, const char *word)
{
    return text.bytes == strlen(word) && strncasecmp((const char *)text.data, word, text.bytes) == 0;
}

bool dsp_access_is_token_argument(struct cmq_span argument)
{
    static const char *const names[] = {"token", "access_token", "authorization", "api_key"};
    const uint8_t *equals = argument.bytes == 0 ? NULL : memchr(argument.data, '=', argument.bytes);
    if (equals != NULL)
        argument.bytes = (size_t)(equals - argument.data);
    for (size_t i = 0; i < CMQ_COUNT_OF(names); i++)
        if (says(argument, names[i]))
            return true;
    return false;
}

/* The host of `host[:port]`. */
static struct cmq_span host_of(struct cmq_span text)
{
    size_t bytes = 0;
    bool bracket = text.bytes > 0 && text.data[0] == '[';
    while (bytes < text.bytes && text.data[bytes] != (bracket ? ']' : ':') && text.data[bytes] != '/')
        bytes++;
    return cmq_span_make(text.data, bracket && bytes < text.bytes ? bytes + 1 : bytes);
}

static bool is_listed(const char *list, struct cmq_span origin)
{
    for (const char *next = list; *next != '\0';) {
        size_t bytes = strcspn(next, " \t");
        if ((bytes == 1 && next[0] == '*') ||
            (bytes > 0 && bytes == origin.bytes && strncasecmp(next, (const char *)origin.data, bytes) == 0))
            return true;
        next += bytes;
        next += strspn(next, " \t");
    }
    return false;
}

bool dsp_access_origin(const char *allowed, struct cmq_span origin, struct cmq_span host)
{
    static const char mark[] = "://";
    if (is_listed(allowed, origin))
        return true;
    const uint8_t *scheme_end =
        origin.bytes == 0 ? NULL : memmem(origin.data, origin.bytes, mark, sizeof(mark) - 1);
    if (scheme_end == NULL)
        return false;
    const uint8_t *start = scheme_end + sizeof(mark) - 1;
    struct cmq_span name = host_of(cmq_span_make(start, origin.bytes - (size_t)(start - origin.data)));
    if (says(name, "localhost") || says(name, "127.0.0.1") || says(name, "[::1]"))
        return true;
    host = host_of(host);
    return name.bytes > 0 && name.bytes == host.bytes &&
           strncasecmp((const char *)name.data, (const char *)host.data, name.bytes) == 0;
}
