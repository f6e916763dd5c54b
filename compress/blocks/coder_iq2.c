/* coder_iq2.c: vectors of eight out of {8, 25, 43}, and their signs; the layouts are in base/ggml_iq.c. */
#include "compress/blocks/iq.h"
#include "base/ggml_impl.h"
#include <string.h>

static void pack_xxs(const qn_iq_fields *f, uint8_t *b)
{
    qn_store16(b, f->d);
    for (unsigned p = 0; p < 8; p++) {
        uint32_t word = (uint32_t)f->scale[p] << 28;
        for (unsigned l = 0; l < 4; l++) {
            b[2 + 8 * p + l] = (uint8_t)f->index[4 * p + l];
            word |= (f->signs[4 * p + l] & 127u) << 7 * l;
        }
        qn_store32(b + 6 + 8 * p, word);
    }
}

static void pack_scales(const qn_iq_fields *f, uint8_t *b)
{
    for (unsigned p = 0; p < 8; p++)
        b[p] = (uint8_t)(f->scale[2 * p] | (unsigned)f->scale[2 * p + 1] << 4);
}

static void pack_xs(const qn_iq_fields *f, uint8_t *b)
{
    qn_store16(b, f->d);
    for (unsigned l = 0; l < 32; l++)
        qn_store16(b + 2 + 2 * l, (uint16_t)(f->index[l] | (f->signs[l] & 127u) << 9));
    pack_scales(f, b + 66);
}

static void pack_s(const qn_iq_fields *f, uint8_t *b)
{
    qn_store16(b, f->d);
    memcpy(b + 34, f->signs, 32);
    memset(b + 66, 0, 8);
    for (unsigned l = 0; l < 32; l++) {
        b[2 + l] = (uint8_t)f->index[l];
        b[66 + l / 4] = (uint8_t)(b[66 + l / 4] | (unsigned)f->index[l] >> 8 << l % 4 * 2);
    }
    pack_scales(f, b + 74);
}

const qn_iq_kind qn_kind_iq2_xxs = {
    .grid = qn_grid_iq2_xxs, .points = 256, .bits = 2, .values = 8, .unit = 8, .sub = 32, .top = 15, .room = 2, .signs = QN_IQ_EVEN,
    .scale0 = 0.125f, .scale1 = 0.25f, .typical = 0.0445f, .level = {8, 25, 43}, .pack = pack_xxs, .decode = qn_block_iq2_xxs,
};

static void encode_iq2_xxs(const qn_span_metric *m, const float *t, uint8_t *blocks, float *r, void *scratch)
{
    qn_iq_encode(&qn_kind_iq2_xxs, m, t, blocks, r, scratch);
}

const qn_block_coder qn_coder_iq2_xxs = {"iq2_xxs", QN_IQ2_XXS, QN_IQ_SCRATCH, encode_iq2_xxs, sizeof(qn_iq_prepared), qn_iq_prepare_8};

const qn_iq_kind qn_kind_iq2_xs = {
    .grid = qn_grid_iq2_xs, .points = 512, .bits = 2, .values = 8, .unit = 8, .sub = 16, .top = 15, .room = 2, .signs = QN_IQ_EVEN,
    .scale0 = 0.125f, .scale1 = 0.25f, .typical = 0.0445f, .level = {8, 25, 43}, .pack = pack_xs, .decode = qn_block_iq2_xs,
};

static void encode_iq2_xs(const qn_span_metric *m, const float *t, uint8_t *blocks, float *r, void *scratch)
{
    qn_iq_encode(&qn_kind_iq2_xs, m, t, blocks, r, scratch);
}

const qn_block_coder qn_coder_iq2_xs = {"iq2_xs", QN_IQ2_XS, QN_IQ_SCRATCH, encode_iq2_xs, sizeof(qn_iq_prepared), qn_iq_prepare_8};

const qn_iq_kind qn_kind_iq2_s = {
    .grid = qn_grid_iq2_s, .points = 1024, .bits = 2, .values = 8, .unit = 8, .sub = 16, .top = 15, .room = 2, .signs = QN_IQ_FREE,
    .scale0 = 0.125f, .scale1 = 0.25f, .typical = 0.0445f, .level = {8, 25, 43}, .pack = pack_s, .decode = qn_block_iq2_s,
};

static void encode_iq2_s(const qn_span_metric *m, const float *t, uint8_t *blocks, float *r, void *scratch)
{
    qn_iq_encode(&qn_kind_iq2_s, m, t, blocks, r, scratch);
}

const qn_block_coder qn_coder_iq2_s = {"iq2_s", QN_IQ2_S, QN_IQ_SCRATCH, encode_iq2_s, sizeof(qn_iq_prepared), qn_iq_prepare_8};
