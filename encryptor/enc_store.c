#include "encryptor/enc_store.h"

#include "encryptor/enc_logger.h"

struct enc_store {
    struct cmq_conf_path log_dir, idempotency_dir; /* as long as the parts that name them */
    struct cmq_conf conf; /* the running one changes on SIGHUP; what is used here is read at the start */
    struct enc_filter *filter;
    struct enc_logger *logger;
};

static void fail(void *context, int exit_code)
{
    cmq_proc_fail(context, exit_code);
}

static enum cmq_err make_filter(struct enc_store *store, struct cmq_reason *reason)
{
    const struct cmq_conf *conf = &store->conf;
    const struct cmq_keyring_paths paths = {.kek_file = conf->encryptor_kek_file,
                                            .keyring_file = conf->encryptor_keyring_file};
    const struct enc_idem_setup setup = {.directory = cmq_conf_idempotency_dir(conf, &store->idempotency_dir),
                                         .window_ms = conf->encryptor_idempotency_window_ms,
                                         .entries_max = conf->encryptor_idempotency_entries_max};
    return enc_filter_new(&paths, &setup, &store->filter, reason);
}

static enum cmq_err make_logger(struct enc_store *store, struct cmq_proc *proc, struct cmq_ring *ring,
                                struct cmq_reason *reason)
{
    const struct cmq_conf *conf = &store->conf;
    const struct enc_logger_setup setup = {
        .ring = ring,
        .log = {.directory = cmq_conf_log_dir(conf, &store->log_dir),
                .ops = cmq_file_system(),

                .segment_bytes = conf->log_segment_bytes,
                .retention_bytes = cmq_conf_log_bytes_max(conf),
                .retention_ms = conf->log_retention_ms,
                .retention = conf->log_retention == CMQ_CONF_RETENTION_REJECT_NEW ? ENC_LOG_REJECT_NEW
                                                                                  : ENC_LOG_DISCARD_OLD},
        .sync = cmq_conf_log_sync(conf),
        .sync_ms = (uint32_t)conf->log_sync_ms,
        .filter = store->filter,
        .fail = fail,
        .context = proc};
    enum cmq_err err = enc_logger_new(&setup, &store->logger, reason);
    return err == CMQ_OK ? enc_logger_start(store->logger, reason) : err;
}

enum cmq_err enc_store_new(struct cmq_proc *proc, struct cmq_ring *ring, struct enc_store **ret_store,
                           struct cmq_reason *reason)
{
    struct enc_store *store = calloc(1, sizeof *store);
    if (store == NULL)
        return CMQ_ERR_NOMEM;
    store->conf = proc->conf;
    enum cmq_err err = make_filter(store, reason);
    if (err == CMQ_OK)
        err = make_logger(store, proc, ring, reason);
    if (err != CMQ_OK) {
        enc_store_free(store);
        return err;
    }
    *ret_store = store;
    return CMQ_OK;
}

void enc_store_drain(struct enc_store *store)
{
    if (store != NULL)
        enc_logger_drain(store->logger);
}

void enc_store_free(struct enc_store *store)
{
    if (store == NULL)
        return;
    enc_logger_free(store->logger);
    enc_filter_free(store->filter);
    free(store);
}
