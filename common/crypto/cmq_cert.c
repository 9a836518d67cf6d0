#include "common/crypto/cmq_cert.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static enum cmq_err open_file(const char *path, const char *what, FILE **ret_file, struct cmq_reason *reason)
{
    *ret_file = fopen(path, "re");
    if (*ret_file != NULL)
        return CMQ_OK;
    enum cmq_err err = errno == ENOENT   ? CMQ_ERR_NOT_FOUND
                       : errno == EACCES ? CMQ_ERR_PERMISSION
                                         : CMQ_ERR_SYSTEM;
    return cmq_reason_set(reason, err, "%s %s: %s", what, path, strerror(errno));
}

static enum cmq_err take_time(const ASN1_TIME *time, uint64_t *ret_ms)
{
    struct tm parts;
    if (ASN1_TIME_to_tm(time, &parts) != 1)
        return CMQ_ERR_INVALID;
    time_t seconds = timegm(&parts);
    *ret_ms = seconds < 0 ? 0 : (uint64_t)seconds * 1000u;
    return CMQ_OK;
}

enum cmq_err cmq_cert_examine(const char *cert_file, const char *key_file, struct cmq_cert_info *ret_info,
                              struct cmq_reason *reason)
{
    FILE *cert_stream = NULL, *key_stream = NULL;
    X509 *cert = NULL;
    EVP_PKEY *key = NULL;
    struct cmq_cert_info info = {.subject = ""};
    enum cmq_err err = open_file(cert_file, "certificate", &cert_stream, reason);
    if (err == CMQ_OK)
        err = open_file(key_file, "private key", &key_stream, reason);
    if (err != CMQ_OK)
        goto out;
    cert = PEM_read_X509(cert_stream, NULL, NULL, NULL);
    if (cert == NULL) {
        err = cmq_reason_set(reason, CMQ_ERR_INVALID, "%s has no certificate in PEM", cert_file);
        goto out;
    }
    /* An empty passphrase: a key that needs one is refused instead of asked for on the terminal. */
    key = PEM_read_PrivateKey(key_stream, NULL, NULL, (void *)(uintptr_t) "");
    if (key == NULL)
        err = cmq_reason_set(reason, CMQ_ERR_INVALID, "%s has no private key in PEM without a passphrase",
                             key_file);
    else if (X509_check_private_key(cert, key) != 1)
        err = cmq_reason_set(reason, CMQ_ERR_INVALID,
                             "the private key %s does not belong to the certificate %s", key_file, cert_file);
    else if (take_time(X509_get0_notBefore(cert), &info.not_before_ms) != CMQ_OK ||
             take_time(X509_get0_notAfter(cert), &info.not_after_ms) != CMQ_OK)
        err = cmq_reason_set(reason, CMQ_ERR_INVALID, "%s has times that cannot be read", cert_file);
    if (err != CMQ_OK)
        goto out;
    (void)X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, info.subject,
                                    sizeof info.subject);
    *ret_info = info;
out:
    ERR_clear_error();
    EVP_PKEY_free(key);
    X509_free(cert);
    if (key_stream != NULL)
        (void)fclose(key_stream);
    if (cert_stream != NULL)
        (void)fclose(cert_stream);
    return err;
}
