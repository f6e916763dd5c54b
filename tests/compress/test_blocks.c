/* test_blocks.c: the codec BLOCKS and its quantizer: payloads of every type back and forth, hostile ones, what a span's metric says against the
 * engine, and coders of levels against a plain encoder written out here. */
#include "base/cpu.h"
#include "base/err.h"
#include "base/ggml.h"
#include "base/half.h"
#include "base/num.h"
#include "compress/blocks/metric.h"
#include "compress/blocks/quant_blocks.h"
#include "compress/blocks/span.h"
#include "compress/feedback.h"
#include "runtime/blocks.h"
#include "tests/support/coded.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- a layer --------------------------------------------------------------------------------------------------------- */

struct layer {
    uint32_t rows, cols;
    double *h;
    float *w;
};

/* Inputs of unlike size that share a few directions. */
static struct layer make(uint32_t rows, uint32_t cols, uint64_t seed)
{
    struct layer y = {rows, cols, calloc((size_t)cols * cols, sizeof *y.h), calloc((size_t)rows * cols, sizeof *y.w)};
    float *way = calloc((size_t)6 * cols, sizeof *way), *x = calloc(cols, sizeof *x);
    qt_rng r = qt_seed(seed);
    for (uint32_t j = 0; j < 6 * cols; j++)
        way[j] = (float)qt_normal(&r);
    for (unsigned t = 0; t < 2 * cols; t++) {
        for (uint32_t j = 0; j < cols; j++)
            x[j] = (float)qt_normal(&r);
        for (unsigned k = 0; k < 6; k++) {
            const float by = 0.7f * (float)qt_normal(&r);
            for (uint32_t j = 0; j < cols; j++)
                x[j] += by * way[k * cols + j];
        }
        for (uint32_t j = 0; j < cols; j++)
            x[j] *= j % 11 == 5 ? 4 : 1 + 0.2f * (float)(j % 5);
        for (uint32_t a = 0; a < cols; a++)
            for (uint32_t b = 0; b < cols; b++)
                y.h[(size_t)a * cols + b] += (double)(x[a] * x[b]);
    }
    for (size_t i = 0; i < (size_t)rows * cols; i++)
        y.w[i] = 0.02f * (float)qt_normal(&r);
    free(way);
    free(x);
    return y;
}

static void drop(struct layer *y)
{
    free(y->h);
    free(y->w);
}

static qn_ldl factor(const struct layer *y, bool feed, uint32_t group)
{
    qn_ldl l;
    double *d = calloc(y->cols, sizeof *d);
    for (uint32_t j = 0; j < y->cols; j++)
        d[j] = y->h[(size_t)j * y->cols + j];
    cr_assert_eq(qn_ldl_make(&l, NULL, y->cols, feed ? y->h : NULL, feed ? NULL : d, group, QN_ORDER_ACT, 0, NULL), QN_OK);
    free(d);
    return l;
}

struct packed {
    uint8_t *payload;
    size_t n;
    float *recon;
    qn_feedback_loss loss;
};

static struct packed pack(const char *type, qn_dtype dtype, const struct layer *y, const qn_ldl *l, bool compare)
{
    struct packed p = {.payload = malloc(4 * (size_t)y->rows * y->cols), .recon = malloc(4 * (size_t)y->rows * y->cols)};
    const qn_quantizer *q;
    const void *plan;
    qn_arena a;
    qn_arena_init(&a, NULL);
    cr_assert_eq(qn_quantizer_open(type, &(qn_quant_settings){0}, qn_cpu_detect(), &a, &q, NULL), QN_OK);
    const qn_quant_layer layer = {.name = "w", .rows = y->rows, .cols = y->cols, .dtype = dtype, .weight = l->weight, .ldl = l};
    cr_assert_eq(q->ops->begin(q, &layer, &a, &plan, NULL), QN_OK);
    const qn_feedback_job job = {.q = q, .layer = &layer, .plan = plan, .ldl = l, .rows = y->rows, .w = y->w, .compare = compare, .want_energy = true};
    qn_err err;
    qn_err_clear(&err);
    cr_assert_eq(qn_feedback_segment(&job, p.recon, p.payload, 4 * (size_t)y->rows * y->cols, &p.n, &p.loss, &a, &err), QN_OK, "%s: %s", type, err.text);
    qn_arena_release(&a);
    return p;
}

static void forget(struct packed *p)
{
    free(p->payload);
    free(p->recon);
}

/* tr(E H' Eᵀ), H' scaled and damped as the factor has it. */
static double loss_of(const struct layer *y, const qn_ldl *l, const float *recon)
{
    double sum = 0;
    for (uint32_t i = 0; i < y->rows; i++)
        for (uint32_t a = 0; a < y->cols; a++) {
            const size_t at = (size_t)i * y->cols;
            const double e = (double)y->w[at + a] - (double)recon[at + a];
            for (uint32_t b = 0; b < y->cols; b++)
                sum += e * (y->h[(size_t)a * y->cols + b] / l->scale) * ((double)y->w[at + b] - (double)recon[at + b]);
        }
    return sum;
}

/* Every type: the decoder gives what the engine was told, and what ggml's blocks say; the bytes are the type's; errors fed back pay. */
Test(blocks, every_type)
{
    struct layer y = make(5, 768, 3);
    qn_ldl full = factor(&y, true, QN_SPAN_MAX), diagonal = factor(&y, false, QN_SPAN_MAX);
    static const qn_dtype dtypes[] = {QN_F32, QN_BF16, QN_F16};
    for (unsigned t = 0; t < qn_block_coder_count; t++) {
        const qn_block_coder *c = qn_block_coders[t];
        const qn_dtype dtype = dtypes[t % 3];
        const size_t unit = qn_unit_bytes(dtype), n = (size_t)y.rows * y.cols;
        const qn_block b = {dtype, (uint32_t)n, y.cols};
        uint8_t *back = malloc(4 * n), *narrow = malloc(4 * n);
        float *by_hand = malloc(4 * n);
        struct packed p = pack(c->name, dtype, &y, &full, false), alone = pack(c->name, dtype, &y, &diagonal, false);
        cr_assert_eq(p.n, 1 + n / qn_dtype_block_elems(c->dtype) * qn_dtype_block_bytes(c->dtype), "%s", c->name);
        cr_assert_eq(p.payload[0], c->dtype);
        cr_assert_eq(qt_decode(QN_CODEC_BLOCKS, 0, &b, p.payload, p.n, back, NULL), QN_OK);
        cr_assert_eq(qn_ggml_f32(c->dtype, p.payload + 1, n, by_hand, NULL), QN_OK);
        qn_feedback_round(dtype, by_hand, n);
        for (size_t i = 0; i < n; i++) {
            cr_assert_eq(by_hand[i], p.recon[i], "%s %zu", c->name, i);
            const uint32_t u = qn_f32_bits(by_hand[i]);
            if (unit == 4)
                qn_store32(narrow + 4 * i, u);
            else
                qn_store16(narrow + 2 * i, dtype == QN_BF16 ? (uint16_t)(u >> 16) : qn_f32_to_f16(by_hand[i]));
        }
        cr_assert_eq(memcmp(back, narrow, n * unit), 0, "%s", c->name);
        const double fed = loss_of(&y, &full, p.recon), not = loss_of(&y, &full, alone.recon);
        cr_assert_lt(fed, 0.4 * not, "%s: %g fed back, %g alone", c->name, fed, not);
        cr_assert_float_eq(fed / p.loss.loss, 1, 0.05, "%s: %g, the engine says %g", c->name, fed, p.loss.loss); /* but for the damping */
        free(back);
        free(narrow);
        free(by_hand);
        forget(&p);
        forget(&alone);
    }
    qn_ldl_release(&full);
    qn_ldl_release(&diagonal);
    drop(&y);
}

/* What a span adds by its metric is what the engine adds up, in whatever order. */
Test(blocks, metric)
{
    struct layer y = make(1, 320, 5); /* a span and a short one */
    qn_ldl l = factor(&y, true, QN_SPAN_MAX);
    qn_arena a;
    qn_span_metrics all;
    qt_rng r = qt_seed(9);
    qn_arena_init(&a, NULL);
    cr_assert_eq(qn_span_metrics_fed(&all, &l, QN_SPAN_MAX, NULL, &a, NULL), QN_OK);
    cr_assert_eq(all.n_spans, 2);
    for (uint32_t g = 0; g < 2; g++) {
        const uint32_t v0 = l.begins[g], n = l.begins[g + 1] - v0, col0 = l.visit[v0] / QN_SPAN_MAX * QN_SPAN_MAX;
        const qn_span_metric *m = &all.at[col0 / QN_SPAN_MAX];
        cr_assert_eq(m->n, n);
        double e[QN_SPAN_MAX], want = 0, direct = 0, ordered = 0;
        for (uint32_t j = 0; j < n; j++)
            e[j] = qt_normal(&r);
        for (uint32_t b = 0; b < n; b++) {
            double u = e[l.visit[v0 + b] - col0];
            for (uint32_t c = 0; c < b; c++)
                u += e[l.visit[v0 + c] - col0] * (double)l.feed[(size_t)(v0 + c) * l.n + v0 + b];
            want += l.weight[l.visit[v0 + b]] * u * u;
            u = e[m->order[b]];
            for (uint32_t c = 0; c < b; c++)
                u += e[m->order[c]] * (double)m->feed[(size_t)c * n + b];
            ordered += (double)m->weight[m->order[b]] * u * u;
            for (uint32_t c = 0; c < n; c++)
                direct += e[b] * (double)m->m[(size_t)b * n + c] * e[c];
        }
        cr_assert_float_eq(direct / want, 1, 1e-4);
        cr_assert_float_eq(ordered / want, 1, 1e-3);
    }
    qn_arena_release(&a);
    qn_ldl_release(&l);
    drop(&y);
}

/* --- coders of levels ----------------------------------------------------------------------------------------------- */

struct plain {
    const qn_block_coder *c;
    unsigned block;
    double lo, hi; /* levels lo … hi in steps of 1, or −1 and 1 where lo = hi */
    bool offset;
    double share;  /* of the plain encoder's loss */
};

/* The largest value reaches the last level, each value goes to the nearest: what a first version of an encoder does. */
static void plain_block(const struct plain *y, const float *t, float *r)
{
    double lo = (double)t[0], hi = lo, mean = 0;
    for (unsigned i = 0; i < y->block; i++) {
        lo = fmin(lo, (double)t[i]);
        hi = fmax(hi, (double)t[i]);
        mean += fabs((double)t[i]) / y->block;
    }
    const double most = fmax(-lo, hi);
    double d = y->offset ? (hi - lo) / y->hi : most / fmax(-y->lo, y->hi), m = y->offset ? lo : 0;
    for (unsigned i = 0; i < y->block; i++) {
        double q = d > 0 ? rint(((double)t[i] - m) / d) : 0;
        q = fmin(fmax(q, y->lo), y->hi);
        r[i] = (float)(y->lo == y->hi ? (t[i] < 0 ? -mean : mean) : q * d + m);
    }
}

static double span_loss(const qn_span_metric *m, const float *t, const float *r)
{
    double sum = 0;
    for (uint32_t a = 0; a < m->n; a++)
        for (uint32_t b = 0; b < m->n; b++)
            sum += ((double)t[a] - (double)r[a]) * (m->m ? (double)m->m[(size_t)a * m->n + b] : a == b ? (double)m->weight[a] : 0) *
                   ((double)t[b] - (double)r[b]);
    return sum;
}

static const struct plain simple[] = {
    {&qn_coder_q4_0, 32, -8, 7, false, 0.5},   {&qn_coder_q4_1, 32, 0, 15, true, 0.5},   {&qn_coder_q5_0, 32, -16, 15, false, 0.5},
    {&qn_coder_q5_1, 32, 0, 31, true, 0.5},    {&qn_coder_q8_0, 32, -127, 127, false, 0.5}, {&qn_coder_q1_0, 128, 1, 1, false, 0.4},
    {&qn_coder_q2_0, 64, -1, 2, false, 0.12},  {&qn_coder_tq1_0, 256, -1, 1, false, 0.15}, {&qn_coder_tq2_0, 256, -1, 1, false, 0.15},
};

Test(blocks, better_than_plain)
{
    struct layer y = make(8, 256, 11);
    qn_ldl l = factor(&y, true, QN_SPAN_MAX);
    qn_arena a;
    qn_span_metrics fed, alone;
    qn_arena_init(&a, NULL);
    cr_assert_eq(qn_span_metrics_fed(&fed, &l, QN_SPAN_MAX, NULL, &a, NULL), QN_OK);
    cr_assert_eq(qn_span_metrics_plain(&alone, l.diagonal, 256, QN_SPAN_MAX, NULL, &a, NULL), QN_OK);
    for (unsigned i = 0; i < sizeof simple / sizeof simple[0]; i++) {
        const struct plain *s = &simple[i];
        void *scratch = qn_arena_get(&a, s->c->scratch_bytes, 64, NULL);
        double ours = 0, theirs = 0, ours_alone = 0, theirs_alone = 0;
        for (uint32_t row = 0; row < y.rows; row++) {
            const float *t = y.w + 256 * row;
            float r[256], p[256], back[256];
            uint8_t to[512];
            for (unsigned b = 0; b < 256 / s->block; b++)
                plain_block(s, t + b * s->block, p + b * s->block);
            for (int with = 0; with < 2; with++) {
                const qn_span_metric *m = with ? fed.at : alone.at;
                s->c->encode(m, t, to, r, scratch);
                cr_assert_eq(qn_ggml_f32(s->c->dtype, to, 256, back, NULL), QN_OK);
                for (unsigned j = 0; j < 256; j++)
                    cr_assert_eq(back[j], r[j], "%s", s->c->name);
                *(with ? &ours : &ours_alone) += span_loss(m, t, r);
                *(with ? &theirs : &theirs_alone) += span_loss(m, t, p);
            }
        }
        cr_assert_lt(ours, s->share * theirs, "%s: %g of %g", s->c->name, ours, theirs);
        cr_assert_lt(ours_alone, theirs_alone, "%s alone: %g of %g", s->c->name, ours_alone, theirs_alone);
    }
    qn_arena_release(&a);
    qn_ldl_release(&l);
    drop(&y);
}

/* Whatever is finite has an answer that decodes to what the coder says: nothing, one value, huge and tiny ones, ends of what halves can say. */
Test(blocks, odd_numbers)
{
    struct layer y = make(1, 256, 13);
    qn_ldl l = factor(&y, true, QN_SPAN_MAX);
    qn_arena a;
    qn_span_metrics fed, alone;
    qt_rng g = qt_seed(17);
    qn_arena_init(&a, NULL);
    cr_assert_eq(qn_span_metrics_fed(&fed, &l, QN_SPAN_MAX, NULL, &a, NULL), QN_OK);
    cr_assert_eq(qn_span_metrics_plain(&alone, NULL, 256, QN_SPAN_MAX, NULL, &a, NULL), QN_OK);
    for (unsigned c = 0; c < qn_block_coder_count; c++) {
        void *scratch = qn_arena_get(&a, qn_block_coders[c]->scratch_bytes, 64, NULL);
        if (qn_block_coders[c]->prepare) {
            void *to = qn_arena_get(&a, qn_block_coders[c]->prepared_bytes, 64, NULL);
            memset(to, 0, qn_block_coders[c]->prepared_bytes);
            qn_block_coders[c]->prepare(fed.at, to);
            fed.at->prepared = to;
        }
        static const float size[] = {0, 1e-30f, 1e-9f, 1e5f, 1e20f, 3e38f};
        for (unsigned k = 0; k < 14; k++) {
            float t[256], r[256], back[256];
            uint8_t to[512];
            for (unsigned j = 0; j < 256; j++)
                t[j] = size[k / 2 % 6] * (k >= 12 && j != 77 ? 0 : k % 2 ? 1.0f : (float)(0.3 * qt_normal(&g)));
            const qn_span_metric *m = k % 3 ? fed.at : alone.at;
            qn_block_coders[c]->encode(m, t, to, r, scratch);
            cr_assert_eq(qn_ggml_f32(qn_block_coders[c]->dtype, to, 256, back, NULL), QN_OK);
            for (unsigned j = 0; j < 256; j++)
                cr_assert(back[j] == r[j] && isfinite(r[j]), "%s %u: %g, %g", qn_block_coders[c]->name, k, (double)back[j], (double)r[j]);
        }
        fed.at->prepared = NULL;
    }
    qn_arena_release(&a);
    qn_ldl_release(&l);
    drop(&y);
}

/* --- the codec ------------------------------------------------------------------------------------------------------ */

Test(blocks, hostile)
{
    static uint8_t p[1 + 4 * 2 * 18], dst[4 * 256];
    const qn_block good = {QN_F32, 256, 64};
    p[0] = QN_Q4_0;
    cr_assert_eq(qt_decode(QN_CODEC_BLOCKS, 0, &good, p, sizeof p, dst, NULL), QN_OK);
    cr_assert_eq(qt_decode(QN_CODEC_BLOCKS, 0, &good, p, sizeof p - 1, dst, NULL), QN_E_INPUT);
    cr_assert_eq(qt_decode(QN_CODEC_BLOCKS, 0, &good, p, 0, dst, NULL), QN_E_INPUT);
    static const qn_block bad[] = {{QN_F32, 250, 64}, {QN_F32, 240, 48}, {QN_U8, 256, 64}, {QN_F64, 256, 64}};
    for (unsigned i = 0; i < 4; i++)
        cr_assert_eq(qt_decode(QN_CODEC_BLOCKS, 0, &bad[i], p, sizeof p, dst, NULL), QN_E_INPUT, "%u", i);
    static const uint8_t types[] = {0, 1, 20, 63, 68, 255, QN_Q4_K, QN_Q4_1};
    for (unsigned i = 0; i < sizeof types; i++) {
        p[0] = types[i];
        cr_assert_eq(qt_decode(QN_CODEC_BLOCKS, 0, &good, p, sizeof p, dst, NULL), QN_E_INPUT, "%u", types[i]);
    }
    p[0] = QN_Q4_0;
    qn_store16(p + 1 + 18, 0x7c00); /* the second block's scale is Inf */
    qn_err err;
    qn_err_clear(&err);
    cr_assert_eq(qt_decode(QN_CODEC_BLOCKS, 0, &good, p, sizeof p, dst, &err), QN_E_INPUT);
    cr_assert_eq(err.off, 19);
    cr_assert(strstr(err.text, "not finite"));
}

Test(blocks, settings)
{
    const qn_quantizer *q;
    qn_arena a;
    qn_err err;
    qn_arena_init(&a, NULL);
    qn_err_clear(&err);
    cr_assert_eq(qn_blocks_bits("q4_k"), 4.5);
    cr_assert_eq(qn_blocks_bits("grid"), 0);
    cr_assert_eq(qn_blocks_bits(NULL), 0);
    cr_assert_eq(qn_quantizer_open("q4_0", &(qn_quant_settings){.bits = 3}, 0, &a, &q, &err), QN_E_USAGE);
    cr_assert_str_eq(err.text, "q4_0: 3 bits found, the type has 4.5");
    cr_assert_null(qn_block_coder_find("q4"));
    cr_assert_eq(qn_block_coder_of(QN_F32), NULL);
    for (unsigned i = 0; i < qn_block_coder_count; i++) {
        const qn_block_coder *c = qn_block_coders[i];
        cr_assert_eq(qn_block_coder_find(c->name), c);
        cr_assert_eq(qn_block_coder_of(c->dtype), c);
        cr_assert(QN_SPAN_MAX % qn_dtype_block_elems(c->dtype) == 0);
    }
    qn_arena_release(&a);
}
