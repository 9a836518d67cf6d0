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

static enum cmq_err result(int openssl)
{
    if (openssl == 1)
        return CMQ_OK;
    ERR_clear_error();
    return CMQ_ERR_SYSTEM;
}

enum cmq_err cmq_digest_begin(struct cmq_digest *digest)
{
    return result(EVP_DigestInit_ex2(digest->context, digest->algorithm, NULL));
}

enum cmq_err cmq_digest_add(struct cmq_digest *digest, struct cmq_span piece)
{
    return piece.bytes == 0 ? CMQ_OK : result(EVP_DigestUpdate(digest->context, piece.data, piece.bytes));
}

enum cmq_err cmq_digest_end(struct cmq_digest *digest, uint8_t ret_bytes[CMQ_DIGEST_BYTES])
{
    return result(EVP_DigestFinal_ex(digest->context, ret_bytes, NULL));
}

enum cmq_err cmq_digest_sha256(struct cmq_digest *digest, const struct cmq_span *pieces, size_t count,
                               uint8_t ret_bytes[CMQ_DIGEST_BYTES])
{
    enum cmq_err err = cmq_digest_begin(digest);
    for (size_t i = 0; err == CMQ_OK && i < count; i++)
        err = cmq_digest_add(digest, pieces[i]);
    return err == CMQ_OK ? cmq_digest_end(digest, ret_bytes) : err;
}
