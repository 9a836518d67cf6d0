/* What the machine gives, and what the libraries that this build was made with are known for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

#include "common/base/cmq_base.h"
#include "ctl_doctor.h"

#define SHM_DIR "/dev/shm"
/* Descriptors of a stage besides connections. */
enum { FDS_SPARE = 128 };

static void check_shm(struct doctor *doctor)
{
    const struct cmq_conf *conf = &doctor->ctl->conf;
    struct statvfs shm;
    struct cmq_ring *ring = NULL;
    if (statvfs(SHM_DIR, &shm) != 0) {
        doctor_say(doctor, DOCTOR_FAIL, "shared-memory", "mount it: mount -t tmpfs tmpfs /dev/shm",
                   SHM_DIR " is not there");
        return;
    }
    const uint64_t free_bytes = (uint64_t)shm.f_bavail * shm.f_frsize;
    uint64_t need =
        conf->ingest_arena_bytes + conf->encryptor_arena_bytes + conf->dispatcher_dead_arena_bytes;
    if (ctl_ring_observe(conf, &ring, NULL) == CMQ_OK)
        need = conf->encryptor_arena_bytes; /* runs already: room for one more instance of the largest kind */
    cmq_ring_detach(ring);
    if (free_bytes < need)
        doctor_say(doctor, DOCTOR_FAIL, "shared-memory",
                   "enlarge it (mount -o remount,size=2G /dev/shm; Docker: --shm-size=2g), or lower the "
                   "arena_bytes settings",
                   SHM_DIR " has %llu MiB free, %llu are needed", (unsigned long long)(free_bytes >> 20),
                   (unsigned long long)(need >> 20));
    else
        doctor_say(doctor, DOCTOR_OK, "shared-memory", NULL, SHM_DIR " has %llu MiB free",
                   (unsigned long long)(free_bytes >> 20));
}

static void check_descriptors(struct doctor *doctor)
{
    const struct cmq_conf *conf = &doctor->ctl->conf;
    const uint64_t need = cmq_max_u64(conf->ingest_connections_max, conf->dispatcher_clients_max) + FDS_SPARE;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < need)
        doctor_say(
            doctor, DOCTOR_FAIL, "descriptors",
            "raise the limit (LimitNOFILE= of the unit, ulimit -n), or lower connections_max and clients_max",
            "%llu descriptors are allowed, the configured connections need %llu",
            (unsigned long long)limit.rlim_max, (unsigned long long)need);
    else
        doctor_say(doctor, DOCTOR_OK, "descriptors", NULL, "enough for the configured connections (%llu)",
                   (unsigned long long)need);
}

/* a.b.c as a number; 0: not to be read. */
static unsigned long version_number(const char *text)
{
    unsigned long number = 0;
    for (unsigned part = 0; part < 3; part++) {
        char *end = NULL;
        number = number * 1000 + strtoul(text, &end, 10);
        text = *end == '.' ? end + 1 : end;
    }
    return number;
}

static void check_libraries(struct doctor *doctor)
{
    static const struct {
        const char *name, *version;
        unsigned long mended_in; /* 0: nothing known */
        const char *hole, *fix;
    } libraries[] = {
        {"libmicrohttpd", CTL_MICROHTTPD_VERSION, 1000010,
         "takes bare LF, folded lines, NUL and lines that begin with a colon in a request's head",
         "put no HTTP proxy in front that takes them too, or use 1.0.10 and newer"},
        {"libwebsockets", CTL_WEBSOCKETS_VERSION, 5000000, "takes frames of clients that are not masked",
         "harmless for clients; proxies in between could be confused: use 5.0 and newer when there is one"},
        {"openssl", CTL_OPENSSL_VERSION, 0, NULL, NULL},
        {"lmdb", CTL_LMDB_VERSION, 0, NULL, NULL},
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(libraries); i++) {
        if (libraries[i].mended_in != 0 && version_number(libraries[i].version) < libraries[i].mended_in)
            doctor_say(doctor, DOCTOR_NOTE, "libraries", libraries[i].fix, "%s %s %s", libraries[i].name,
                       libraries[i].version, libraries[i].hole);
        else
            doctor_say(doctor, DOCTOR_OK, "libraries", NULL, "%s %s", libraries[i].name,
                       libraries[i].version);
    }
}

void doctor_check_machine(struct doctor *doctor)
{
    check_shm(doctor);
    check_descriptors(doctor);
    check_libraries(doctor);
}
