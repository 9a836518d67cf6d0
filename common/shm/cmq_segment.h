/*
 * cmq_segment: POSIX shared-memory objects: create, open, map, remove.
 * Ownership: a mapping belongs to whoever mapped it; cmq_segment_unmap gives it back. Descriptors are closed after
 *            mapping.
 * Units: bytes, whole pages.
 * Errors: CMQ_ERR_NOT_FOUND, CMQ_ERR_EXISTS, CMQ_ERR_PERMISSION, CMQ_ERR_FULL (no room in /dev/shm: found at
 *         creation, never as a SIGBUS later), CMQ_ERR_LAYOUT (size differs), CMQ_ERR_SYSTEM; with a sentence.
 * Callers: any thread.
 */
#ifndef CMQ_SEGMENT_H
#define CMQ_SEGMENT_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_reason.h"

#define CMQ_SEGMENT_NAME_BYTES 80

struct cmq_segment {
    void *data;
    size_t bytes;
};

/* "/cmq.INSTANCE.SUFFIX" */
void cmq_segment_name(char ret_name[CMQ_SEGMENT_NAME_BYTES], const char *instance, const char *suffix);
/* O_EXCL, allocated in full, zeroed, mapped read-write, never dumped. */
CMQ_MUST_USE enum cmq_err cmq_segment_create(const char *name, size_t bytes, unsigned mode,
                                             struct cmq_segment *ret_segment, struct cmq_reason *reason);
/* bytes 0: whatever its size is. */
CMQ_MUST_USE enum cmq_err cmq_segment_map(const char *name, size_t bytes, bool writable,
                                          struct cmq_segment *ret_segment, struct cmq_reason *reason);
/* Accepts a zeroed struct. */
void cmq_segment_unmap(struct cmq_segment *segment);
/* False: it is still there (it is another user's). A missing object is fine. */
bool cmq_segment_remove(const char *name);
/* Removes every object of the instance. */
void cmq_segment_remove_all(const char *instance);

#endif
