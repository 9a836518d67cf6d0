#include "common/crypto/cmq_seal.h"

#include <assert.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>

#include "common/crypto/cmq_secret.h"

/*
 * XAES-256-GCM for key K and nonce N (c2sp.org/XAES-256-GCM, "Detailed key derivation algorithm"):
 *   L  = AES-256(K, 0^128);  K1 = L << 1, xor 0x87 into the last byte if the top bit of L was set
 *   Kx = AES-256(K, K1 xor (00 01 58 00 N[0..11]))  ||  AES-256(K, K1 xor (00 02 58 00 N[0..11]))
 *   AES-256-GCM under key Kx with the 96-bit nonce N[12..23]
 * The AES key schedule of K and K1 are kept from call to call: most units of a pump are sealed under one data
 * key.
 */

enum {
    BLOCK_BYTES = 16,
    GCM_NONCE_BYTES = 12,
    PIECE_BYTES = 64 << 20 /* the lengths of EVP are int */
};
static const uint64_t unit_bytes_max = UINT64_C(1) << 32;

/* Lives in memory that a forked child finds zeroed. All zero = no key known. */
struct vault {
    uint32_t key_known;
    uint8_t key[CMQ_SEAL_KEY_BYTES]; /* whose schedule `block` holds */
    uint8_t k1[BLOCK_BYTES];
    uint8_t unit_key[CMQ_SEAL_KEY_BYTES];
};

struct cmq_sealer {
    struct cmq_secret memory;
    struct vault *vault;
    EVP_CIPHER_CTX *block; /* AES-256-ECB: the bare block function */
    EVP_CIPHER_CTX *gcm_seal;
    EVP_CIPHER_CTX *gcm_open;
};

/* A context with its cipher set, so that later calls give key and nonce only (no fetch, no allocation). */
static EVP_CIPHER_CTX *context_new(const char *name, int encrypt)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, name, NULL);
    EVP_CIPHER_CTX *ctx = cipher != NULL ? EVP_CIPHER_CTX_new() : NULL;
    if (ctx != NULL && EVP_CipherInit_ex2(ctx, cipher, NULL, NULL, encrypt, NULL) != 1) {
        EVP_CIPHER_CTX_free(ctx);
        ctx = NULL;
    }
    EVP_CIPHER_free(cipher); /* the context holds its own reference */
    return ctx;
}

enum cmq_err cmq_sealer_new(struct cmq_sealer **ret_sealer)
{
    static_assert(sizeof(struct vault) <= 4096, "one locked page a sealer");
    struct cmq_sealer *sealer = calloc(1, sizeof *sealer);
    if (sealer == NULL)
        return CMQ_ERR_NOMEM;
    enum cmq_err err = cmq_secret_init(&sealer->memory, sizeof(struct vault), CMQ_SECRET_FORK_ZERO, NULL);
    if (err != CMQ_OK)
        goto out;
    sealer->vault = (struct vault *)(void *)sealer->memory.data;
    sealer->block = context_new("AES-256-ECB", 1);
    sealer->gcm_seal = context_new("AES-256-GCM", 1);
    sealer->gcm_open = context_new("AES-256-GCM", 0);
    if (sealer->block == NULL || sealer->gcm_seal == NULL || sealer->gcm_open == NULL ||
        EVP_CIPHER_CTX_set_padding(sealer->block, 0) != 1) {
        err = CMQ_ERR_SYSTEM;
        goto out;
    }
    *ret_sealer = sealer;
    sealer = NULL;
out:
    if (err != CMQ_OK)
        ERR_clear_error();
    cmq_sealer_free(sealer);
    return err;
}

void cmq_sealer_free(struct cmq_sealer *sealer)
{
    if (sealer == NULL)
        return;
    EVP_CIPHER_CTX_free(sealer->gcm_open); /* cleanses its key schedule */
    EVP_CIPHER_CTX_free(sealer->gcm_seal);
    EVP_CIPHER_CTX_free(sealer->block);
    cmq_secret_fini(&sealer->memory);
    free(sealer);
}

enum cmq_err cmq_seal_nonce(uint8_t ret_nonce[CMQ_SEAL_NONCE_BYTES])
{
    return cmq_secret_random(ret_nonce, CMQ_SEAL_NONCE_BYTES);
}

static bool encrypt_blocks(struct cmq_sealer *sealer, uint8_t *dst, const uint8_t *src, int bytes)
{
    int written = 0;
    return EVP_EncryptUpdate(sealer->block, dst, &written, src, bytes) == 1 && written == bytes;
}

/* Steps 1 and 2: they depend on the key only. */
static bool use_key(struct cmq_sealer *sealer, const uint8_t key[CMQ_SEAL_KEY_BYTES])
{
    static const uint8_t zeros[BLOCK_BYTES];
    struct vault *vault = sealer->vault;
    if (vault->key_known != 0 && cmq_secret_equal(vault->key, key, CMQ_SEAL_KEY_BYTES))
        return true;
    vault->key_known = 0;
    if (EVP_EncryptInit_ex2(sealer->block, NULL, key, NULL, NULL) != 1 ||
        !encrypt_blocks(sealer, vault->k1, zeros, BLOCK_BYTES))
        return false;
    const unsigned top = vault->k1[0] >> 7;
    for (size_t i = 0; i + 1 < BLOCK_BYTES; i++)
        vault->k1[i] = (uint8_t)(vault->k1[i] << 1 | vault->k1[i + 1] >> 7);
    vault->k1[BLOCK_BYTES - 1] = (uint8_t)(vault->k1[BLOCK_BYTES - 1] << 1);
    vault->k1[BLOCK_BYTES - 1] ^= (uint8_t)(top * 0x87u); /* no branch on key bits */
    memcpy(vault->key, key, CMQ_SEAL_KEY_BYTES);
    vault->key_known = 1;
    return true;
}

/* Steps 3 to 6: keys ctx for one unit. */
static bool begin_unit(struct cmq_sealer *sealer, EVP_CIPHER_CTX *ctx, const uint8_t *key,
                       const uint8_t *nonce)
{
    struct vault *vault = sealer->vault;
    uint8_t blocks[2][BLOCK_BYTES] = {{0x00, 0x01, 0x58, 0x00}, {0x00, 0x02, 0x58, 0x00}};
    if (!use_key(sealer, key))
        return false;
    for (size_t block = 0; block < 2; block++) {
        memcpy(blocks[block] + 4, nonce, GCM_NONCE_BYTES);
        for (size_t i = 0; i < BLOCK_BYTES; i++)
            blocks[block][i] ^= vault->k1[i];
    }
    bool good = encrypt_blocks(sealer, vault->unit_key, blocks[0], (int)sizeof blocks) &&
                EVP_CipherInit_ex2(ctx, NULL, vault->unit_key, nonce + GCM_NONCE_BYTES, -1, NULL) == 1;
    cmq_secret_cleanse(vault->unit_key, sizeof vault->unit_key);
    cmq_secret_cleanse(blocks, sizeof blocks); /* K1 can be read out of them */
    return good;
}

/* dst NULL: additional data. */
static bool update(EVP_CIPHER_CTX *ctx, uint8_t *dst, struct cmq_span src)
{
    while (src.bytes > 0) {
        int piece = (int)cmq_min_u64(src.bytes, PIECE_BYTES), written = 0;
        if (EVP_CipherUpdate(ctx, dst, &written, src.data, piece) != 1 || written != piece)
            return false;
        dst = dst != NULL ? dst + piece : NULL;
        src = cmq_span_make(src.data + piece, src.bytes - (size_t)piece);
    }
    return true;
}

enum cmq_err cmq_seal(struct cmq_sealer *sealer, const uint8_t key[CMQ_SEAL_KEY_BYTES],
                      const uint8_t nonce[CMQ_SEAL_NONCE_BYTES], struct cmq_span aad,
                      struct cmq_span plaintext, uint8_t *dst)
{
    EVP_CIPHER_CTX *ctx = sealer->gcm_seal;
    int written = 0;
    if (plaintext.bytes > unit_bytes_max || aad.bytes > unit_bytes_max)
        return CMQ_ERR_TOO_BIG;
    uint8_t *tag = dst + plaintext.bytes;
    if (begin_unit(sealer, ctx, key, nonce) && update(ctx, NULL, aad) && update(ctx, dst, plaintext) &&
        EVP_EncryptFinal_ex(ctx, tag, &written) == 1 &&
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, CMQ_SEAL_TAG_BYTES, tag) == 1)
        return CMQ_OK;
    ERR_clear_error();
    cmq_secret_cleanse(dst, plaintext.bytes + CMQ_SEAL_TAG_BYTES);
    return CMQ_ERR_SYSTEM;
}

enum cmq_err cmq_open(struct cmq_sealer *sealer, const uint8_t key[CMQ_SEAL_KEY_BYTES],
                      const uint8_t nonce[CMQ_SEAL_NONCE_BYTES], struct cmq_span aad, struct cmq_span sealed,
                      uint8_t *dst)
{
    EVP_CIPHER_CTX *ctx = sealer->gcm_open;
    uint8_t tag[CMQ_SEAL_TAG_BYTES], none[BLOCK_BYTES];
    int written = 0;
    if (sealed.bytes < CMQ_SEAL_TAG_BYTES)
        return CMQ_ERR_AUTH;
    const struct cmq_span ciphertext = cmq_span_make(sealed.data, sealed.bytes - CMQ_SEAL_TAG_BYTES);
    if (ciphertext.bytes > unit_bytes_max || aad.bytes > unit_bytes_max)
        return CMQ_ERR_TOO_BIG;
    memcpy(tag, sealed.data + ciphertext.bytes, sizeof tag);
    enum cmq_err err = CMQ_ERR_SYSTEM;
    if (begin_unit(sealer, ctx, key, nonce) && update(ctx, NULL, aad) && update(ctx, dst, ciphertext) &&
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, CMQ_SEAL_TAG_BYTES, tag) == 1)
        err = EVP_DecryptFinal_ex(ctx, none, &written) == 1 ? CMQ_OK : CMQ_ERR_AUTH;
    if (err != CMQ_OK) {
        ERR_clear_error();
        cmq_secret_cleanse(dst, ciphertext.bytes);
    }
    return err;
}
