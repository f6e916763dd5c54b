/* coder_iq3.c: vectors of four out of eight levels, and their signs; the layouts are in base/ggml_iq.c. */
#include "compress/blocks/iq.h"
#include "base/ggml_impl.h"
#include <string.h>

static void pack_xxs(const qn_iq_fields *f, uint8_t *b)
{
    qn_store16(b, f->d);
    for (unsigned i = 0; i < 64; i++)
        b[2 + i] = (uint8_t)f->index[i];
    for (unsigned p = 0; p < 8; p++) {
        uint32_t word = (uint32_t)f->scale[p] << 28;
        for (unsigned l = 0; l < 4; l++)
            word |= (f->signs[4 * p + l] & 127u) << 7 * l;
        qn_store32(b + 66 + 4 * p, word);
    }
}

static void pack_s(const qn_iq_fields *f, uint8_t *b)
{
    qn_store16(b, f->d);
    memset(b + 66, 0, 8);
    memcpy(b + 74, f->signs, 32);
    for (unsigned i = 0; i < 64; i++) {
        b[2 + i] = (uint8_t)f->index[i];
        b[66 + i / 8] = (uint8_t)(b[66 + i / 8] | (unsigned)f->index[i] >> 8 << i % 8);
    }
    for (unsigned p = 0; p < 4; p++)
        b[106 + p] = (uint8_t)(f->scale[2 * p] | (unsigned)f->scale[2 * p + 1] << 4);
}

const qn_iq_kind qn_kind_iq3_xxs = {
    .grid = qn_grid_iq3_xxs, .points = 256, .bits = 3, .values = 4, .unit = 8, .sub = 32, .top = 15, .room = 2, .signs = QN_IQ_EVEN,
    .scale0 = 0.25f, .scale1 = 0.5f, .typical = 0.038f, .level = {4, 12, 20, 28, 36, 44, 52, 62}, .pack = pack_xxs, .decode = qn_block_iq3_xxs,
};

static void encode_iq3_xxs(const qn_span_metric *m, const float *t, uint8_t *blocks, float *r, void *scratch)
{
    qn_iq_encode(&qn_kind_iq3_xxs, m, t, blocks, r, scratch);
}

const qn_block_coder qn_coder_iq3_xxs = {"iq3_xxs", QN_IQ3_XXS, QN_IQ_SCRATCH, encode_iq3_xxs, sizeof(qn_iq_prepared), qn_iq_prepare_8};

const qn_iq_kind qn_kind_iq3_s = {
    .grid = qn_grid_iq3_s, .points = 512, .bits = 3, .values = 4, .unit = 4, .sub = 32, .top = 15, .room = 2, .signs = QN_IQ_FREE,
    .scale0 = 1, .scale1 = 2, .typical = 0.157f, .level = {1, 3, 5, 7, 9, 11, 13, 15}, .pack = pack_s, .decode = qn_block_iq3_s,
};

static void encode_iq3_s(const qn_span_metric *m, const float *t, uint8_t *blocks, float *r, void *scratch)
{
    qn_iq_encode(&qn_kind_iq3_s, m, t, blocks, r, scratch);
}

const qn_block_coder qn_coder_iq3_s = {"iq3_s", QN_IQ3_S, QN_IQ_SCRATCH, encode_iq3_s, sizeof(qn_iq_prepared), qn_iq_prepare_4};
