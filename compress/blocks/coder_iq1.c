/* coder_iq1.c: ternary vectors of eight, all moved by an eighth up or down; the layouts are in base/ggml_iq.c. */
#include "compress/blocks/iq.h"
#include "base/ggml_impl.h"
#include <string.h>

static void pack_s(const qn_iq_fields *f, uint8_t *b)
{
    qn_store16(b, f->d);
    for (unsigned p = 0; p < 8; p++) {
        unsigned high = (unsigned)f->scale[p] << 12 | (unsigned)f->below[4 * p] << 15;
        for (unsigned l = 0; l < 4; l++) {
            b[2 + 4 * p + l] = (uint8_t)f->index[4 * p + l];
            high |= (unsigned)f->index[4 * p + l] >> 8 << 3 * l;
        }
        qn_store16(b + 34 + 2 * p, (uint16_t)high);
    }
}

static void pack_m(const qn_iq_fields *f, uint8_t *b)
{
    memset(b + 32, 0, 24);
    for (unsigned l = 0; l < 32; l++) {
        b[l] = (uint8_t)f->index[l];
        b[32 + l / 2] = (uint8_t)(b[32 + l / 2] | ((unsigned)f->index[l] >> 8 | (unsigned)f->below[l] << 3) << l % 2 * 4);
    }
    for (unsigned k = 0; k < 4; k++) {
        unsigned word = (unsigned)f->d >> 4 * k << 12;
        for (unsigned i = 0; i < 4; i++)
            word |= (unsigned)f->scale[4 * k + i] << 3 * i;
        qn_store16(b + 48 + 2 * k, (uint16_t)word);
    }
}

const qn_iq_kind qn_kind_iq1_s = {
    .grid = qn_grid_iq1, .points = 2048, .bits = 2, .values = 8, .unit = 8, .sub = 32, .top = 7, .room = 1, .shared_shift = true, .signs = QN_IQ_SHIFT,
    .scale0 = 1, .scale1 = 2, .typical = 1.27f, .level = {-1, 0, 1}, .pack = pack_s, .decode = qn_block_iq1_s,
};

static void encode_iq1_s(const qn_span_metric *m, const float *t, uint8_t *blocks, float *r, void *scratch)
{
    qn_iq_encode(&qn_kind_iq1_s, m, t, blocks, r, scratch);
}

const qn_block_coder qn_coder_iq1_s = {"iq1_s", QN_IQ1_S, QN_IQ_SCRATCH, encode_iq1_s, sizeof(qn_iq_prepared), qn_iq_prepare_8};

const qn_iq_kind qn_kind_iq1_m = {
    .grid = qn_grid_iq1, .points = 2048, .bits = 2, .values = 8, .unit = 8, .sub = 16, .top = 7, .room = 1, .signs = QN_IQ_SHIFT,
    .scale0 = 1, .scale1 = 2, .typical = 1.27f, .level = {-1, 0, 1}, .pack = pack_m, .decode = qn_block_iq1_m,
};

static void encode_iq1_m(const qn_span_metric *m, const float *t, uint8_t *blocks, float *r, void *scratch)
{
    qn_iq_encode(&qn_kind_iq1_m, m, t, blocks, r, scratch);
}

const qn_block_coder qn_coder_iq1_m = {"iq1_m", QN_IQ1_M, QN_IQ_SCRATCH, encode_iq1_m, sizeof(qn_iq_prepared), qn_iq_prepare_8};
