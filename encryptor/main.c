#include "common/log/cmq_log.h"
#include "encryptor/enc_pump.h"

enum { TICK_MS = 250 };

static struct enc_pump *pump;

static enum cmq_err start(void *self, struct cmq_proc *proc, struct cmq_reason *reason)
{
    (void)self;
    return enc_pump_new(proc, &pump, reason);
}

static void tick(void *self)
{
    (void)self;
    enc_pump_tick(pump);
}

static void reload(void *self)
{
    (void)self;
    enc_pump_reload(pump);
}

static void drain(void *self, uint64_t deadline_ns)
{
    (void)self;
    (void)deadline_ns; /* at most one record is in hand */
    enc_pump_drain(pump);
}

static void stop(void *self)
{
    (void)self;
    enc_pump_free(pump);
    pump = NULL;
}

int main(int argc, char **argv)
{
    static const struct cmq_stage stage = {
        .start = start, .tick = tick, .reload = reload, .drain = drain, .stop = stop, .tick_ms = TICK_MS};
    struct cmq_proc proc;
    if (!cmq_proc_init(&proc, "encryptor", "seals accepted records with AES-256-GCM", argc, argv))
        return proc.exit_code;
    return cmq_proc_run(&proc, &stage);
}
