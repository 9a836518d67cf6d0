#include "common/crypto/cmq_digest.h"

#include <openssl/err.h>
#include <openssl/evp.h>

struct cmq_digest {
    EVP_MD *algorithm;
    EVP_MD_CTX *context; /* kept: most digests are of a few bytes */
};

enum cmq_err cmq_digest_new(struct cmq_digest **ret_digest)
{
    struct cmq_digest *digest = calloc(1, sizeof *digest);
    if (digest == NULL)
        return CMQ_ERR_NOMEM;
    digest->algorithm = EVP_MD_fetch(NULL, "SHA256", NULL);
    digest->context = EVP_MD_CTX_new();
    if (digest->algorithm == NULL || digest->context == NULL) {
        ERR_clear_error();
        cmq_digest_free(digest);
        return CMQ_ERR_SYSTEM;
    }
    *ret_digest = digest;
    return CMQ_OK;
}

void cmq_digest_free(struct cmq_digest *digest)
{
    if (digest == NULL)
        return;
    EVP_MD_CTX_free(digest->context);
    EVP_MD_free(digest->algorithm);
    free(digest);
}

enum cmq_err cmq_digest_sha256(struct cmq_digest *digest, const struct cmq_span *pieces, size_t count,
                               uint8_t ret_bytes[CMQ_DIGEST_BYTES])
{
    bool good = EVP_DigestInit_ex2(digest->context, digest->algorithm, NULL) == 1;
    for (size_t i = 0; good && i < count; i++)
        good =
            pieces[i].bytes == 0 || EVP_DigestUpdate(digest->context, pieces[i].data, pieces[i].bytes) == 1;
    if (good && EVP_DigestFinal_ex(digest->context, ret_bytes, NULL) == 1)
        return CMQ_OK;
    ERR_clear_error();
    return CMQ_ERR_SYSTEM;
}
