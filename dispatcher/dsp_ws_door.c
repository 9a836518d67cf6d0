#include "dispatcher/dsp_ws_door.h"

#include <string.h>

#include "common/base/cmq_clock.h"
#include "common/log/cmq_log.h"
#include "dispatcher/dsp_tls.h"
#include "dispatcher/dsp_ws_int.h"

enum {
    HEAD_BYTES = 4096, /* no header is longer than the library's room for all of them */
    FIELD_BYTES = 256
};

struct dsp_visitor *dsp_door_enter(struct dsp_ws *ws, const struct cmq_address *address)
{
    char text[CMQ_ADDRESS_TEXT_BYTES];
    if (!cmq_address_counts_add(ws->addresses, address, ws->address_clients_max)) {
        cmq_ring_count(ws->ring, CMQ_COUNT_REFUSED_ADDRESS, 1);
        cmq_log(CMQ_LOG_WARN, CMQ_EV_CLIENT_REFUSED, "reason=address_clients_max address=%s",
                cmq_address_text(address, text));
        return NULL;
    }
    struct dsp_visitor *visitor = calloc(1, sizeof(*visitor));
    if (visitor == NULL) {
        cmq_address_counts_remove(ws->addresses, address);
        return NULL;
    }
    visitor->address = *address;
    visitor->since_ms = cmq_clock_wall_ms();
    return visitor;
}

void dsp_door_leave(struct dsp_ws *ws, struct dsp_visitor *visitor)
{
    if (visitor == NULL)
        return;
    cmq_address_counts_remove(ws->addresses, &visitor->address);
    cmq_grant_put(&visitor->grant);
    free(visitor);
}

struct dsp_visitor *dsp_door_visitor(struct lws *wsi)
{
    return lws_get_opaque_user_data(wsi);
}

struct cmq_grant dsp_door_take_grant(struct lws *wsi)
{
    struct dsp_visitor *visitor = dsp_door_visitor(wsi);
    struct cmq_grant grant = visitor->grant;
    visitor->grant = (struct cmq_grant){0};
    return grant;
}

/* ---- what a request shows ---- */

static struct cmq_span copy_header(struct lws *wsi, enum lws_token_indexes header, char memory[HEAD_BYTES])
{
    int bytes = lws_hdr_total_length(wsi, header) == 0 ? 0 : lws_hdr_copy(wsi, memory, HEAD_BYTES, header);
    return bytes > 0 ? cmq_span_make(memory, (size_t)bytes) : (struct cmq_span){0};
}

static bool is_repeated(struct lws *wsi, enum lws_token_indexes header)
{
    char memory[HEAD_BYTES];
    return lws_hdr_copy_fragment(wsi, memory, sizeof(memory), header, 1) >= 0;
}

bool dsp_door_has_token_in_url(struct lws *wsi)
{
    char memory[HEAD_BYTES];
    int bytes;
    for (int i = 0;
         (bytes = lws_hdr_copy_fragment(wsi, memory, sizeof(memory), WSI_TOKEN_HTTP_URI_ARGS, i)) >= 0; i++)
        if (dsp_access_is_token_argument(cmq_span_make(memory, (size_t)bytes)))
            return true;
    return false;
}

/* Counts and logs a refusal for want of a right; the problem goes through. */
static const struct dsp_problem *refuse(struct dsp_ws *ws, struct lws *wsi, const struct dsp_problem *problem)
{
    char text[CMQ_ADDRESS_TEXT_BYTES];
    if (problem == NULL)
        return NULL;
    const struct dsp_visitor *visitor = dsp_door_visitor(wsi);
    struct cmq_log_quoted_sentence sentence;
    struct cmq_log_quoted quoted;
    const char *name = cmq_grant_name(&visitor->grant);
    cmq_ring_count(ws->ring, CMQ_COUNT_REJECTED_AUTH, 1);
    cmq_log(CMQ_LOG_WARN, CMQ_EV_CLIENT_REFUSED, "status=%u reason=%s name=%s address=%s", problem->status,
            cmq_log_sentence(&sentence, problem->detail), cmq_log_quote(&quoted, name, strlen(name)),
            cmq_address_text(&visitor->address, text));
    return problem;
}

static const struct dsp_problem *identify(struct dsp_ws *ws, struct lws *wsi)
{
    static const char api_key[] = "x-api-key:";
    char authorization[HEAD_BYTES], protocols[HEAD_BYTES], key[HEAD_BYTES], name[DSP_TLS_NAME_BYTES_MAX];
    struct dsp_visitor *visitor = dsp_door_visitor(wsi);
    struct dsp_credentials credentials = {.authorization =
                                              copy_header(wsi, WSI_TOKEN_HTTP_AUTHORIZATION, authorization),
                                          .protocols = copy_header(wsi, WSI_TOKEN_PROTOCOL, protocols),
                                          .certificate = dsp_tls_peer_name(wsi, name),
                                          .address = cmq_address_span(&visitor->address),
                                          .repeated = is_repeated(wsi, WSI_TOKEN_HTTP_AUTHORIZATION)};
    int bytes = lws_hdr_custom_copy(wsi, key, sizeof(key), api_key, (int)sizeof(api_key) - 1);
    if (bytes >= 0)
        credentials.api_key = cmq_span_make(key, (size_t)bytes);
    cmq_grant_put(&visitor->grant);
    const struct dsp_problem *problem = dsp_access_identify(ws->access, &credentials, &visitor->grant);
    explicit_bzero(authorization, sizeof(authorization));
    explicit_bzero(protocols, sizeof(protocols));
    explicit_bzero(key, sizeof(key));
    return problem;
}

const struct dsp_problem *dsp_door_identify(struct dsp_ws *ws, struct lws *wsi)
{
    return refuse(ws, wsi, identify(ws, wsi));
}

const struct dsp_problem *dsp_door_check(struct dsp_ws *ws, struct lws *wsi, enum cmq_right right,
                                         struct cmq_span pattern)
{
    const struct dsp_problem *problem = identify(ws, wsi);
    if (problem == NULL)
        problem = dsp_access_require(&dsp_door_visitor(wsi)->grant, right, pattern);
    return refuse(ws, wsi, problem);
}

const struct dsp_problem *dsp_door_somebody(struct dsp_ws *ws, struct lws *wsi)
{
    return refuse(ws, wsi, dsp_access_somebody(&dsp_door_visitor(wsi)->grant));
}

bool dsp_door_origin_is_allowed(struct dsp_ws *ws, struct lws *wsi)
{
    char origin[FIELD_BYTES], host[FIELD_BYTES];
    int host_bytes = 0;
    if (lws_hdr_total_length(wsi, WSI_TOKEN_ORIGIN) == 0)
        return true;
    int bytes = lws_hdr_copy(wsi, origin, sizeof(origin), WSI_TOKEN_ORIGIN);
    if (bytes <= 0)
        return false;
    if (lws_hdr_total_length(wsi, WSI_TOKEN_HOST) != 0)
        host_bytes = lws_hdr_copy(wsi, host, sizeof(host), WSI_TOKEN_HOST);
    return dsp_access_origin(ws->origins, cmq_span_make(origin, (size_t)bytes),
                             cmq_span_make(host, host_bytes > 0 ? (size_t)host_bytes : 0));
}
