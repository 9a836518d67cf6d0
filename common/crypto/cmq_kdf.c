#include "common/crypto/cmq_kdf.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "common/crypto/cmq_secret.h"

enum cmq_err cmq_kdf_hkdf(const uint8_t key[CMQ_KDF_KEY_BYTES], const char *info, uint8_t *dst, size_t bytes)
{
    enum cmq_err err = CMQ_ERR_SYSTEM;
    char digest[] = "SHA256";
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *ctx = kdf != NULL ? EVP_KDF_CTX_new(kdf) : NULL;
    if (ctx == NULL)
        goto out;
    /* OSSL_PARAM has no const pointers; these are only read. */
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)key, CMQ_KDF_KEY_BYTES),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)(uintptr_t)info, strlen(info)),
        OSSL_PARAM_construct_end()};
    if (EVP_KDF_derive(ctx, dst, bytes, params) == 1)
        err = CMQ_OK;
out:
    if (err != CMQ_OK) {
        ERR_clear_error();
        cmq_secret_cleanse(dst, bytes);
    }
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    return err;
}

enum cmq_err cmq_kdf_sha256(struct cmq_span data, uint8_t ret_digest[CMQ_KDF_SHA256_BYTES])
{
    if (EVP_Digest(data.data, data.bytes, ret_digest, NULL, EVP_sha256(), NULL) == 1)
        return CMQ_OK;
    ERR_clear_error();
    return CMQ_ERR_SYSTEM;
}
