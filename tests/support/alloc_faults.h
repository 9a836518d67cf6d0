/*
 * alloc_faults: makes the n-th allocation of a test program fail, those of C and of C++.
 * Ownership: none.
 * Units: allocations.
 * Errors: none.
 * Callers: tests, one thread. Link with --wrap=malloc,--wrap=calloc,--wrap=realloc; operators new and delete are replaced.
 */
#ifndef ALLOC_FAULTS_H
#define ALLOC_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* From now on the nth allocation fails (1: the next), and with sticky all behind it. 0: none fails. */
void alloc_faults_arm(uint64_t nth, bool sticky);
/* Ends it; returns whether one failed. */
bool alloc_faults_disarm(void);

#ifdef __cplusplus
}
#endif

#endif
