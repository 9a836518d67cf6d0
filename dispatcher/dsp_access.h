/*
 * dsp_access: who a client of this port is and what it may do, without its socket: tokens of requests and of connect, origins
 *             of pages, and the file of tokens while it changes.
 * Ownership: new/free. A grant that was given is the caller's (cmq_grant_put).
 * Units: none.
 * Errors: new: those of cmq_auth_new. Later faults of the file are logged, and the last good table stays.
 * Callers: new, free and refresh: the main thread; the rest: the delivery thread.
 *
 * A token comes in one of four ways: `Authorization: Bearer X`, `X-API-Key: X`, as the subprotocol `ciphermq.token.X` beside the
 * real one (for browsers, which cannot set headers), or in connect. Never in a URL, which ends up in logs and histories.
 */
#ifndef DSP_ACCESS_H
#define DSP_ACCESS_H

#include "common/auth/cmq_auth.h"
#include "dispatcher/dsp_problem.h"

#define DSP_TOKEN_PROTOCOL "ciphermq.token."

struct dsp_access;

CMQ_MUST_USE enum cmq_err dsp_access_new(const char *file, uint32_t failures_max,
                                         struct dsp_access **ret_access, struct cmq_reason *reason);
void dsp_access_free(struct dsp_access *access); /* NULL is fine */
/* Looks at the file, which may be another one now; force: reads it whether or not it changed. True: the delivery thread
 * should call dsp_access_renew, and ask again what is live. */
CMQ_MUST_USE bool dsp_access_refresh(struct dsp_access *access, const char *file, bool force);

/* ---- delivery thread ---- */

/* What refresh found holds from here on. */
void dsp_access_renew(struct dsp_access *access);
/* Nobody needs a token. */
bool dsp_access_is_open(const struct dsp_access *access);

/* What a request brought; 0 bytes: nothing. */
struct dsp_credentials {
    struct cmq_span authorization, api_key; /* headers */
    struct cmq_span protocols;              /* Sec-WebSocket-Protocol */
    struct cmq_span certificate;            /* name in the client's certificate, which was verified */
    struct cmq_span address;                /* of the peer, 4 or 16 bytes */
    bool repeated;                          /* a header is there twice */
};
/* Who sent it. NULL: *ret_grant says, a zeroed one means nobody. Else what to answer. */
CMQ_MUST_USE const struct dsp_problem *dsp_access_identify(struct dsp_access *access,
                                                           const struct dsp_credentials *credentials,
                                                           struct cmq_grant *ret_grant);
/* The token of a connect; *ret_grant with CMQ_AUTH_OK only. */
CMQ_MUST_USE enum cmq_auth_result dsp_access_token(struct dsp_access *access, struct cmq_span token,
                                                   struct cmq_span address, struct cmq_grant *ret_grant);
/* A grant of nobody. */
bool dsp_access_is_nobody(const struct cmq_grant *grant);
/* NULL: it may. Else 401 for nobody, 403 that names the right. pattern: checked. */
CMQ_MUST_USE const struct dsp_problem *dsp_access_require(const struct cmq_grant *grant, enum cmq_right right,
                                                          struct cmq_span pattern);
/* NULL: somebody. Else 401. */
CMQ_MUST_USE const struct dsp_problem *dsp_access_somebody(const struct cmq_grant *grant);
bool dsp_access_is_live(struct dsp_access *access, const struct cmq_grant *grant);

/* Sentences and words for what a check or a right says, for clients and for the log. */
const char *dsp_access_sentence(enum cmq_auth_result result);
const char *dsp_access_word(enum cmq_auth_result result);
const char *dsp_access_lacks(enum cmq_right right);

/* One argument of a query, decoded: does it bring a token? */
bool dsp_access_is_token_argument(struct cmq_span argument);
extern const struct dsp_problem dsp_access_token_in_url;

/* Whether a page of this origin may connect. allowed: dispatcher.origins; host: the Host header. Browsers send the origin, and
 * let any page connect anywhere (RFC 6455, 10.2): a page of another site must not take messages away from the real
 * consumers. The same host, loopback and what the setting lists are fine. */
bool dsp_access_origin(const char *allowed, struct cmq_span origin, struct cmq_span host);

#endif
