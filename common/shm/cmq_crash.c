#include "common/shm/cmq_crash.h"

#include "common/base/cmq_base.h"

#ifdef CMQ_CRASH_POINTS

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
    char label[64];
    unsigned long count; /* die at the count-th visit; 0: never */
    unsigned long mean;  /* die with chance 1/mean; 0: never */
    _Atomic unsigned long visits;
    _Atomic unsigned long random;
} plan;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void forget_plan(void)
{
    once = (pthread_once_t)PTHREAD_ONCE_INIT;
}

static void read_plan(void)
{
    (void)pthread_atfork(NULL, NULL, forget_plan); /* a child may have a plan of its own */
    plan.label[0] = '\0';
    const char *text = getenv("CMQ_CRASH");
    const char *colon = text != NULL ? strchr(text, ':') : NULL;
    if (colon == NULL || (size_t)(colon - text) >= sizeof plan.label)
        return;
    memcpy(plan.label, text, (size_t)(colon - text));
    if (strncmp(colon, ":every:", 7) == 0)
        plan.mean = strtoul(colon + 7, NULL, 10);
    else
        plan.count = strtoul(colon + 1, NULL, 10);
}

void cmq_crash_point(const char *label)
{
    (void)pthread_once(&once, read_plan);
    if (plan.label[0] == '\0' || strcmp(label, plan.label) != 0)
        return;
    unsigned long visit = 1 + atomic_fetch_add_explicit(&plan.visits, 1, memory_order_relaxed);
    unsigned long random =
        atomic_fetch_add_explicit(&plan.random, 0x9e3779b97f4a7c15ul, memory_order_relaxed);
    random += (unsigned long)getpid() * 2654435761ul; /* forked siblings differ */
    random = (random ^ random >> 30) * 0xbf58476d1ce4e5b9ul;
    if (visit == plan.count || (plan.mean != 0 && (random >> 33) % plan.mean == 0))
        (void)kill(getpid(), SIGKILL);
}

#endif
