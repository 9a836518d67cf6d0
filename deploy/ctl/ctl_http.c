#include "ctl_http_int.h"

#include <stdio.h>
#include <string.h>

#include "common/base/cmq_clock.h"

/* The address to reach a listener at from this machine. */
static const char *reach(const char *listen)
{
    if (strcmp(listen, "0.0.0.0") == 0)
        return "127.0.0.1";
    return strcmp(listen, "::") == 0 ? "::1" : listen;
}

void ctl_http_url(const struct ctl *ctl, enum ctl_port port, const char *path, char *url, size_t bytes)
{
    const struct cmq_conf *conf = &ctl->conf;
    const bool http = port == CTL_PORT_HTTP;
    const char *host = reach(http ? conf->ingest_listen : conf->dispatcher_listen);
    const bool v6 = strchr(host, ':') != NULL;
    (void)snprintf(url, bytes, "%s://%s%s%s:%llu%s", conf->tls_cert_file[0] != '\0' ? "https" : "http",
                   v6 ? "[" : "", host, v6 ? "]" : "",
                   (unsigned long long)(http ? conf->ingest_port : conf->dispatcher_port), path);
}

void ctl_http_common(const struct ctl *ctl, CURL *curl, const char *url)
{
    (void)curl_easy_setopt(curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_PROXY, "");
    if (ctl->conf.tls_cert_file[0] != '\0') {
        /* The address need not be among the certificate's names: it is this very certificate that is trusted. */
        (void)curl_easy_setopt(curl, CURLOPT_CAINFO, ctl->conf.tls_cert_file);
        (void)curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
    }
}

/* A handle of libcurl under another name, so that nobody else needs its header. */
struct ctl_link *ctl_link_new(void)
{
    return (struct ctl_link *)curl_easy_init();
}

void ctl_link_free(struct ctl_link *link)
{
    if (link != NULL)
        curl_easy_cleanup((CURL *)link);
}

struct receiving {
    const struct ctl_request *request;
    struct ctl_answer *answer;
};

static size_t on_body(char *data, size_t size, size_t count, void *context)
{
    struct receiving *receiving = context;
    const size_t bytes = size * count;
    if (receiving->request->on_data != NULL)
        return receiving->request->on_data(receiving->request->context, cmq_span_make(data, bytes)) ? bytes
                                                                                                    : 0;
    return cmq_buf_append(&receiving->answer->body, data, bytes) == CMQ_OK ? bytes : 0;
}

static struct curl_slist *make_headers(const struct ctl *ctl, const struct ctl_request *request)
{
    struct curl_slist *list = NULL;
    char line[256];
    if (request->post) {
        (void)snprintf(line, sizeof line, "Content-Type: %s",
                       request->type != NULL ? request->type : "text/plain");
        list = curl_slist_append(list, line);
        list = curl_slist_append(list, "Expect:");
    }
    if (ctl->bearer[0] != '\0') {
        (void)snprintf(line, sizeof line, "Authorization: Bearer %s", ctl->bearer);
        list = curl_slist_append(list, line);
    }
    for (size_t i = 0; i < CMQ_COUNT_OF(request->headers) && request->headers[i] != NULL; i++)
        list = curl_slist_append(list, request->headers[i]);
    return list;
}

static void set_options(CURL *curl, const struct ctl *ctl, const struct ctl_request *request,
                        struct receiving *receiving, struct curl_slist *headers)
{
    ctl_http_common(ctl, curl, receiving->answer->url);
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, receiving);
    if (request->post) {
        (void)curl_easy_setopt(curl, CURLOPT_POST, 1L);
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS,
                               request->body.bytes != 0 ? (const char *)request->body.data : "");
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.bytes);
    }
}

enum cmq_err ctl_http(const struct ctl *ctl, const struct ctl_request *request, struct ctl_answer *ret_answer,
                      struct cmq_reason *reason)
{
    struct ctl_answer answer = {.status = 0};
    struct receiving receiving = {.request = request, .answer = &answer};
    CURL *curl = request->link != NULL ? (CURL *)request->link : curl_easy_init();
    curl_off_t retry_after_s = 0;
    if (curl == NULL)
        return cmq_reason_set(reason, CMQ_ERR_NOMEM, "libcurl does not start");
    curl_easy_reset(curl); /* its connection stays */
    cmq_buf_init(&answer.body, request->bytes_max);
    ctl_http_url(ctl, request->port, request->path, answer.url, sizeof answer.url);
    struct curl_slist *headers = make_headers(ctl, request);
    set_options(curl, ctl, request, &receiving, headers);
    const uint64_t begin_ns = cmq_clock_mono_ns();
    CURLcode code = curl_easy_perform(curl);
    answer.took_us = (cmq_clock_mono_ns() - begin_ns) / CMQ_NS_PER_US;
    (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &answer.status);
    (void)curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &retry_after_s);
    answer.retry_after_s = retry_after_s > 0 ? (uint64_t)retry_after_s : 0;
    enum cmq_err err = CMQ_OK;
    if (code == CURLE_WRITE_ERROR && request->on_data == NULL)
        err = cmq_reason_set(reason, CMQ_ERR_TOO_BIG, "%s answers with more than %zu bytes", answer.url,
                             request->bytes_max);
    else if (code != CURLE_OK && code != CURLE_WRITE_ERROR)
        err = cmq_reason_set(reason, CMQ_ERR_SYSTEM, "%s: %s", answer.url, curl_easy_strerror(code));
    curl_slist_free_all(headers);
    if (request->link == NULL)
        curl_easy_cleanup(curl);
    if (err == CMQ_OK)
        *ret_answer = answer;
    else
        ctl_answer_fini(&answer);
    return err;
}

void ctl_answer_fini(struct ctl_answer *answer)
{
    cmq_buf_fini(&answer->body);
}
