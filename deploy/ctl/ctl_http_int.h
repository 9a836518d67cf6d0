/*
 * ctl_http_int: what the files of ctl_http share.
 * Ownership: the caller's.
 * Units: bytes.
 * Errors: none.
 * Callers: ctl_http*.c.
 */
#ifndef CTL_HTTP_INT_H
#define CTL_HTTP_INT_H

#include <curl/curl.h>

#include "ctl_http.h"

/* The address of the port as this machine reaches it, with the path. */
void ctl_http_url(const struct ctl *ctl, enum ctl_port port, const char *path, char *url, size_t bytes);
/* How connections are made, clear or TLS. */
void ctl_http_common(const struct ctl *ctl, CURL *curl, const char *url);

#endif
