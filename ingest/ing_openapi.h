/*
 * ing_openapi: the OpenAPI 3.1 document of this port, made of openapi.json when the broker is built.
 * Ownership: static.
 * Units: bytes.
 * Errors: none.
 * Callers: any thread.
 */
#ifndef ING_OPENAPI_H
#define ING_OPENAPI_H

#include <stddef.h>

extern const unsigned char ing_openapi[];
extern const size_t ing_openapi_bytes;

#endif
