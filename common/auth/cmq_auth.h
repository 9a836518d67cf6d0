/*
 * cmq_auth: who a client is and what it may do: bearer tokens and certificate names with scopes, from one file of digests.
 * Ownership: struct cmq_auth is heap memory; a grant is a copy and stays valid after a reload or the end of the auth.
 * Units: bytes; milliseconds since 1970 for expiry; messages and bytes a second.
 * Errors: load and reload: a sentence that names file and line, the last good table stays. Checks: enum cmq_auth_result.
 * Callers: check: any thread. load, reload, free: one thread. A grant: one thread at a time.
 *
 * A token is "cmq_" and 43 letters of base64url: 256 random bits (RFC 6750 for its use). The file has its SHA-256 only. Looked
 * up by the first 8 bytes of the digest, compared whole in constant time. Without a file (cmq_auth_new with "") everybody may
 * do everything; the configuration allows that on loopback only.
 */
#ifndef CMQ_AUTH_H
#define CMQ_AUTH_H

#include <stdbool.h>

#include "common/base/cmq_base.h"
#include "common/base/cmq_reason.h"

#define CMQ_TOKEN_BYTES         47u
#define CMQ_AUTH_NAME_BYTES_MAX 63u
#define CMQ_AUTH_PATTERNS_MAX   32u /* of one right */
#define CMQ_AUTH_TOKENS_MAX     100000u

struct cmq_auth;
struct cmq_auth_entry;

enum cmq_right { CMQ_RIGHT_PUBLISH, CMQ_RIGHT_SUBSCRIBE, CMQ_RIGHT_CONSUME, CMQ_RIGHT_ADMIN };

enum cmq_auth_result {
    CMQ_AUTH_OK,
    CMQ_AUTH_MISSING, /* no token and no certificate, but one is needed: 401 */
    CMQ_AUTH_UNKNOWN, /* no such token, or revoked: 401 */
    CMQ_AUTH_EXPIRED, /* 401 */
    CMQ_AUTH_LIMITED  /* too many failures of this address: 429 */
};

/* What a client was found to be. Counted reference to an immutable entry. Zeroed: nobody. */
struct cmq_grant {
    struct cmq_auth_entry *entry; /* NULL: nobody, or everybody when tokens are off */
    bool open;                    /* tokens are off: everything is allowed */
};

/* file "": tokens are off. CMQ_ERR_INVALID, CMQ_ERR_PERMISSION, CMQ_ERR_SYSTEM. */
CMQ_MUST_USE enum cmq_err cmq_auth_new(const char *file, uint32_t failures_max, struct cmq_auth **ret_auth,
                                       struct cmq_reason *reason);
/* NULL is fine. Grants outlive it. */
void cmq_auth_free(struct cmq_auth *auth);
/* Reads the file again if it changed (or force). *ret_changed: grants should be asked again with cmq_grant_is_live. A look at
 * an unchanged file is two stat(2), so every tick may call it; the error of a bad file is returned once, and with force. */
CMQ_MUST_USE enum cmq_err cmq_auth_reload(struct cmq_auth *auth, bool force, bool *ret_changed,
                                          struct cmq_reason *reason);
bool cmq_auth_is_open(const struct cmq_auth *auth);

/* token: without "Bearer "; bytes 0: none was sent. certificate: the name in a verified client certificate; bytes 0: none.
 * Both: the token counts (and may be bound to the certificate). address: of the peer, 4 or 16 bytes or its text, for the limit of failures (IPv6: the /64); bytes 0:
 * none. A good token passes whatever its address did. On CMQ_AUTH_OK the grant must be put. */
CMQ_MUST_USE enum cmq_auth_result cmq_auth_check(struct cmq_auth *auth, struct cmq_span token,
                                                 struct cmq_span certificate, struct cmq_span address,
                                                 struct cmq_grant *ret_grant);
/* Releases it. A zeroed grant is fine. */
void cmq_grant_put(struct cmq_grant *grant);
/* Whether everything that the pattern (or topic) matches is within the right. pattern: checked. ADMIN: pattern is ignored. */
bool cmq_grant_allows(const struct cmq_grant *grant, enum cmq_right right, struct cmq_span pattern);
/* Still in the file, unchanged, and not expired. */
bool cmq_grant_is_live(struct cmq_auth *auth, const struct cmq_grant *grant);
/* Not a secret: what the operator named it. "" for nobody or everybody. */
const char *cmq_grant_name(const struct cmq_grant *grant);

/* Token buckets of the grant, shared by all who hold it in this process; own limits or the given ones (0: none). */
struct cmq_rate {
    bool ok;
    uint64_t limit, remaining; /* of the tighter bucket: a second's worth, what is left; limit 0: no limit */
    uint32_t reset_s;          /* until it is full again; at least 1 when !ok: Retry-After */
};
/* More than a second's worth at once needs a full bucket and leaves it in debt. */
void cmq_grant_take(const struct cmq_grant *grant, uint64_t messages, uint64_t bytes, uint64_t messages_rate,
                    uint64_t bytes_rate, uint64_t now_ns, struct cmq_rate *ret_rate);

/* ---- the file, for ciphermqctl ---- */

/*
 * Lines of fields with single blanks between; '#' begins a comment line:
 *   token NAME sha256:HEX created:MS expires:MS|never publish:P,P subscribe:P consume:P admin messages:N bytes:N
 *   cert  NAME subject:COMMON-NAME created:MS expires:... (the same)
 * A token line may have subject:, too: the token is good only together with that certificate.
 * Written aside, synced, renamed. Mode 0640, group: the stages'.
 */

#endif
