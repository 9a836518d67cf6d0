/* ciphermq-dispatcher: takes sealed records from the ring, opens them, and delivers their messages over
 * WebSocket. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/base/cmq_clock.h"
#include "common/crypto/cmq_keyring.h"
#include "common/log/cmq_log.h"
#include "common/proc/cmq_proc.h"
#include "common/proc/cmq_stage_ring.h"
#include "dispatcher/dsp_access.h"
#include "dispatcher/dsp_encode.h"
#include "dispatcher/dsp_ledger.h"
#include "dispatcher/dsp_letters.h"
#include "dispatcher/dsp_source.h"
#include "dispatcher/dsp_tls.h"
#include "dispatcher/dsp_ws.h"

enum { TICK_MS = 250 };

struct dispatcher {
    struct cmq_proc *proc;
    struct cmq_keyring *keyring;
    struct cmq_ring *ring;
    struct dsp_source *source;
    struct dsp_ledger *ledger;
    struct dsp_letters *letters;
    struct dsp_tls *tls; /* NULL: clear text */
    struct dsp_access *access;
    struct dsp_ws *ws;
};

static enum cmq_err open_keyring(struct dispatcher *self, struct cmq_reason *reason)
{
    const struct cmq_conf *conf = &self->proc->conf;
    const struct cmq_keyring_paths paths = {.kek_file = conf->dispatcher_kek_file,
                                            .keyring_file = conf->dispatcher_keyring_file};
    if (self->keyring != NULL)
        return CMQ_OK;
    if (access(paths.keyring_file, F_OK) != 0 && errno == ENOENT)
        return cmq_reason_set(reason, CMQ_ERR_AGAIN, "keyring %s is not there yet: ciphermqctl init makes it",
                              paths.keyring_file);
    return cmq_keyring_open(&paths, CMQ_KEYRING_DELIVERY, &self->keyring, reason);
}

static enum cmq_err attach_ring(struct dispatcher *self, struct cmq_reason *reason)
{
    struct cmq_ring_setup setup;
    if (self->ring != NULL)
        return CMQ_OK;
    cmq_stage_ring_setup(&self->proc->conf, self->proc->instance, 0, &setup);
    return cmq_ring_attach(&setup, CMQ_ROLE_DISPATCHER, &self->ring, reason);
}

/* The log's directory is made by the encryptor. */
static enum cmq_err open_source(struct dispatcher *self, struct cmq_reason *reason)
{
    struct cmq_conf_path directory;
    const struct cmq_conf *conf = &self->proc->conf;
    if (self->source != NULL)
        return CMQ_OK;
    const struct dsp_source_setup setup = {.directory = cmq_conf_log_dir(conf, &directory),
                                           .ops = cmq_file_system(),
                                           .cache_bytes = conf->dispatcher_cache_bytes,
                                           .free_encoded = dsp_encode_free};
    return dsp_source_new(&setup, self->ring, self->keyring, &self->source, reason);
}

static bool owner_is_alive(void *context, uint64_t owner)
{
    return cmq_ring_owner_is_alive(context, owner);
}

static enum cmq_err open_ledger(struct dispatcher *self, struct cmq_reason *reason)
{
    const struct cmq_conf *conf = &self->proc->conf;
    struct cmq_conf_path directory;
    const struct dsp_ledger_setup setup = {.directory = cmq_conf_groups_dir(conf, &directory),
                                           .map_bytes = conf->dispatcher_groups_bytes_max,
                                           .owner = cmq_ring_owner(self->ring),
                                           .is_alive = owner_is_alive,
                                           .context = self->ring};
    enum cmq_err err = self->ledger != NULL ? CMQ_OK : dsp_ledger_open(&setup, &self->ledger, reason);
    if (err == CMQ_OK && self->letters == NULL)
        err = dsp_letters_new(conf, self->proc->instance, &self->letters);
    return err;
}

static enum cmq_err open_tls(struct dispatcher *self, struct cmq_reason *reason)
{
    struct cmq_tls_setup setup;
    if (self->tls != NULL || !cmq_tls_setup(&self->proc->conf, &setup))
        return CMQ_OK;
    return dsp_tls_new(&setup, self->ring, &self->tls, reason);
}

/* Certificates that cannot be used change nothing: those of before are shown until better ones come. */
static void refresh_tls(struct dispatcher *self, bool must)
{
    struct cmq_reason reason = {.text = ""};
    struct cmq_log_quoted_sentence quoted;
    bool read = false;
    if (self->tls == NULL)
        return;
    if (dsp_tls_refresh(self->tls, must, cmq_clock_mono_ns(), &read, &reason) != CMQ_OK)
        cmq_log(CMQ_LOG_ERROR, CMQ_EV_REFUSED, "what=tls reason=%s", cmq_log_sentence(&quoted, reason.text));
    else if (read)
        cmq_log(CMQ_LOG_INFO, CMQ_EV_RELOADED, "what=tls");
}

static enum cmq_err open_access(struct dispatcher *self, struct cmq_reason *reason)
{
    const struct cmq_conf *conf = &self->proc->conf;
    if (self->access != NULL)
        return CMQ_OK;
    return dsp_access_new(conf->tokens_file, (uint32_t)conf->tokens_failures_max, &self->access, reason);
}

static enum cmq_err start(void *context, struct cmq_proc *proc, struct cmq_reason *reason)
{
    struct dispatcher *self = context;
    self->proc = proc;
    enum cmq_err err = open_keyring(self, reason);
    if (err == CMQ_OK)
        err = attach_ring(self, reason);
    if (err == CMQ_OK)
        err = open_tls(self, reason);
    if (err == CMQ_OK)
        err = open_source(self, reason);
    if (err == CMQ_OK)
        err = open_ledger(self, reason);
    if (err == CMQ_OK)
        err = open_access(self, reason);
    if (err == CMQ_OK) {
        const struct dsp_parts parts = {.ring = self->ring,
                                        .keyring = self->keyring,
                                        .source = self->source,
                                        .ledger = self->ledger,
                                        .letters = self->letters,
                                        .tls = self->tls,
                                        .access = self->access};
        err = dsp_ws_start(proc, &parts, &self->ws, reason);
    }
    return err;
}

static void refresh_access(struct dispatcher *self, bool force)
{
    if (dsp_access_refresh(self->access, self->proc->conf.tokens_file, force))
        dsp_ws_recheck(self->ws);
}

static void tick(void *context)
{
    struct dispatcher *self = context;
    struct cmq_reason reason = {0};
    struct cmq_log_quoted quoted;
    enum cmq_err err = cmq_ring_tick(self->ring, &reason);
    dsp_letters_tick(self->letters);
    refresh_tls(self, false);
    refresh_access(self, false);
    if (err == CMQ_OK && reason.text[0] != '\0') /* a silent member that this process may not end */
        cmq_log(CMQ_LOG_WARN, CMQ_EV_MEMBER_DEAD, "reason=\"%s\"", reason.text);
    if (err == CMQ_OK || cmq_err_advice(err) == CMQ_ADVICE_REJECT)
        return;
    cmq_log(CMQ_LOG_ERROR, err == CMQ_ERR_LOST ? CMQ_EV_MEMBER_DEAD : CMQ_EV_RING_CORRUPT,
            "err=\"%s\" reason=%s", cmq_err_text(err),
            cmq_log_quote(&quoted, reason.text, strnlen(reason.text, sizeof(reason.text))));
    cmq_proc_fail(self->proc, err == CMQ_ERR_CORRUPT ? CMQ_EXIT_INVARIANT : CMQ_EXIT_TEMPORARY);
}

static void reload(void *context)
{
    struct dispatcher *self = context;
    refresh_tls(self, true);
    refresh_access(self, true);
    dsp_ws_reload(self->ws);
}

static void drain(void *context, uint64_t deadline_ns)
{
    dsp_ws_drain(((struct dispatcher *)context)->ws, deadline_ns);
}

static void stop(void *context)
{
    struct dispatcher *self = context;
    dsp_ws_stop(self->ws);
    dsp_tls_free(self->tls);
    dsp_ledger_close(self->ledger);
    dsp_letters_free(self->letters);
    dsp_access_free(self->access);
    dsp_source_free(self->source);
    cmq_ring_detach(self->ring);
    cmq_keyring_free(self->keyring);
}

int main(int argc, char **argv)
{
    struct dispatcher self = {0};
    struct cmq_proc proc;
    if (!cmq_proc_init(&proc, "dispatcher", "delivers messages to WebSocket clients", argc, argv))
        return proc.exit_code;
    const struct cmq_stage stage = {.start = start,
                                    .tick = tick,
                                    .reload = reload,
                                    .drain = drain,
                                    .stop = stop,
                                    .self = &self,
                                    .tick_ms = TICK_MS};
    return cmq_proc_run(&proc, &stage);
}
