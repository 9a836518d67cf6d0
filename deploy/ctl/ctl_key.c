/* key list, key rotate: the keyring file, with the encryptor's rights. Running stages see a change by themselves. */
#include <stdio.h>
#include <string.h>

#include "common/base/cmq_base.h"
#include "common/crypto/cmq_keyring.h"
#include "common/wire/cmq_topic.h"
#include "ctl.h"

static enum cmq_err open_keyring(const struct ctl *ctl, struct cmq_keyring **ret_keyring,
                                 struct cmq_reason *reason)
{
    const struct cmq_keyring_paths paths = {.kek_file = ctl->conf.encryptor_kek_file,
                                            .keyring_file = ctl->conf.encryptor_keyring_file};
    return cmq_keyring_open_operator(&paths, CMQ_KEYRING_ENCRYPTOR, ret_keyring, reason);
}

static void print_key(const struct ctl *ctl, const struct cmq_key_info *info, bool last)
{
    char id[2 * CMQ_KEYRING_ID_BYTES + 1];
    for (size_t i = 0; i < CMQ_KEYRING_ID_BYTES; i++)
        (void)snprintf(id + 2 * i, 3, "%02x", info->key_id[i]);
    if (ctl->json)
        (void)printf("{\"pattern\":\"%s\",\"epoch\":%u,\"key_id\":\"%s\",\"deliverable\":%s,"
                     "\"seals_reserved\":%llu,\"seals_max\":%llu}%s\n",
                     info->pattern, info->epoch, id, info->deliverable ? "true" : "false",
                     (unsigned long long)info->seals_reserved, (unsigned long long)CMQ_KEY_SEALS_MAX,
                     last ? "" : ",");
    else
        (void)printf("%-24s %6u  %s  %-5s %10.4f %%\n", info->pattern, info->epoch, id,
                     info->deliverable ? "clear" : "-",
                     100.0 * (double)info->seals_reserved / (double)CMQ_KEY_SEALS_MAX);
}

static int list(struct ctl *ctl, struct cmq_keyring *keyring)
{
    const size_t count = cmq_keyring_count(keyring);
    (void)printf(
        "%s", ctl->json
                  ? "[\n"
                  : "PATTERN                   EPOCH  KEY ID                            DELIV   RESERVED\n");
    for (size_t i = 0; i < count; i++) {
        struct cmq_key_info info;
        cmq_keyring_info(keyring, i, &info);
        print_key(ctl, &info, i + 1 == count);
    }
    if (ctl->json)
        (void)printf("]\n");
    return CMQ_EXIT_OK;
}

static int rotate(struct ctl *ctl, struct cmq_keyring *keyring)
{
    struct cmq_reason reason = {{0}};
    const char *pattern = ctl->word_count == 2 ? ctl->words[1] : ">";
    enum cmq_err err = cmq_topic_pattern_check(cmq_span_make(pattern, strlen(pattern)), &reason);
    if (err == CMQ_OK)
        err = cmq_keyring_rotate(keyring, pattern, true, &reason);
    if (err != CMQ_OK)
        return ctl_fail_err(err, &reason);
    struct cmq_key_info info;
    uint32_t epoch = 0;
    for (size_t i = 0; i < cmq_keyring_count(keyring); i++) {
        cmq_keyring_info(keyring, i, &info);
        if (strcmp(info.pattern, pattern) == 0 && info.epoch > epoch)
            epoch = info.epoch;
    }
    (void)printf("%s: epoch %u; new records use it within two seconds, old ones stay readable\n", pattern,
                 epoch);
    return CMQ_EXIT_OK;
}

int ctl_key(struct ctl *ctl)
{
    struct cmq_reason reason = {{0}};
    struct cmq_keyring *keyring = NULL;
    bool is_list = strcmp(ctl->words[0], "list") == 0;
    if ((!is_list && strcmp(ctl->words[0], "rotate") != 0) || (is_list && ctl->word_count != 1))
        return ctl_fail(CMQ_EXIT_USAGE, "usage: ciphermqctl key list | key rotate [PATTERN]");
    enum cmq_err err = open_keyring(ctl, &keyring, &reason);
    if (err != CMQ_OK)
        return ctl_fail_err(err, &reason);
    int exit_code = is_list ? list(ctl, keyring) : rotate(ctl, keyring);
    cmq_keyring_free(keyring);
    return exit_code;
}
