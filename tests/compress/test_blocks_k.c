/* test_blocks_k.c: coders of the K types and IQ4_XS: bytes against formulas of the layouts, answers against the decoder and against plain
 * encoders written out here, errors against those measured of llama.cpp on the same source, numbers at the ends of what halves can say. */
#include "base/half.h"
#include "base/num.h"
#include "compress/blocks/coder_k.h"
#include "tests/compress/span_made.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 256, N_TYPES = 6 };

struct type {
    const qn_block_coder *coder;
    const qn_k_layout *layout;
    void (*pack)(const qn_k_fields *f, uint8_t *block);
    uint32_t bytes, parts;
    int scale_lo, scale_hi, min_hi, lo, hi;
    double peer; /* mean square error over variance of llama.cpp v0.5.0 on a normal source, all weights alike */
    double most; /* share of the plain encoder's loss that ours may have where errors are fed back */
};

static const int uneven[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

static const struct type types[N_TYPES] = {
    {&qn_coder_q2_k, &qn_k_layout_q2, qn_k_pack_q2, 84, 16, 0, 15, 15, 0, 3, 0.071924, 0.5},
    {&qn_coder_q3_k, &qn_k_layout_q3, qn_k_pack_q3, 110, 16, -32, 31, 0, -4, 3, 0.020946, 0.5},
    {&qn_coder_q4_k, &qn_k_layout_q4, qn_k_pack_q4, 144, 8, 0, 63, 63, 0, 15, 0.00502, 0.5},
    {&qn_coder_q5_k, &qn_k_layout_q5, qn_k_pack_q5, 176, 8, 0, 63, 63, 0, 31, 0.00125, 0.5},
    {&qn_coder_q6_k, &qn_k_layout_q6, qn_k_pack_q6, 210, 16, -128, 127, 0, -32, 31, 0.000301, 0.5},
    {&qn_coder_iq4_xs, &qn_k_layout_iq4, qn_k_pack_iq4, 136, 8, -32, 31, 0, -127, 113, 0.005723, 0.5},
};

/* --- metrics ------------------------------------------------------------------------------------------------------------------ */

struct made {
    float m[N * N], feed[N * N], weight[N], diag[N];
    uint16_t order[N];
    qn_span_metric full, alone;
};

static struct made *make(uint64_t seed, unsigned dead)
{
    struct made *k = malloc(sizeof *k);
    double *work = malloc(N * N * sizeof *work);
    span_moment(seed, dead, k->m, k->diag);
    cr_assert(qn_span_order(N, k->m, k->diag, k->order, k->feed, k->weight, work));
    k->full = (qn_span_metric){.n = N, .m = k->m, .weight = k->weight, .diag = k->diag, .order = k->order, .feed = k->feed};
    static uint16_t natural[N];
    for (unsigned j = 0; j < N; j++)
        natural[j] = (uint16_t)j;
    k->alone = (qn_span_metric){.n = N, .weight = k->diag, .diag = k->diag, .order = natural};
    free(work);
    return k;
}

static double loss_of(const qn_span_metric *m, const float *t, const float *r)
{
    double sum = 0;
    for (unsigned a = 0; a < N; a++) {
        const double e = (double)t[a] - (double)r[a];
        if (!m->m)
            sum += (double)m->weight[a] * e * e;
        for (unsigned b = 0; m->m && b < N; b++)
            sum += e * (double)m->m[a * N + b] * ((double)t[b] - (double)r[b]);
    }
    return sum;
}

/* --- a plain encoder: a search of scales for each part, weighted; whole numbers of the largest; each value to the nearest ---------- */

static double level_of(const struct type *y, double x)
{
    if (y->lo != -127)
        return fmin(fmax(floor(x + 0.5), y->lo), y->hi);
    int at = 0;
    for (int i = 1; i < 16; i++)
        at = fabs(x - uneven[i]) < fabs(x - uneven[at]) ? i : at;
    return uneven[at];
}

static double part_loss(const struct type *y, const float *t, const float *w, uint32_t n, double a, double b)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        const double off = (double)t[i] - (a * (a != 0 ? level_of(y, ((double)t[i] + b) / a) : 0) - b);
        sum += (double)w[i] * off * off;
    }
    return sum;
}

static void plain(const struct type *y, const float *t, const float *w, float *r)
{
    const uint32_t n = N / y->parts;
    double scale[16], min[16], most_scale = 0, most_min = 0;
    for (uint32_t k = 0; k < y->parts; k++) {
        const float *x = t + k * n;
        double least = 0, most = 0, best = (double)INFINITY;
        for (uint32_t i = 0; i < n; i++) {
            least = fmin(least, (double)x[i]);
            most = fmax(most, (double)x[i]);
        }
        scale[k] = min[k] = 0;
        for (int c = -12; c <= 12; c++)
            for (int sign = -1; sign <= 1; sign += 2) {
                const double size = fmax(most, -least);
                const double a = y->min_hi ? (most - least) / (y->hi + 0.1 * c) : sign * size / (-y->lo * (1 + 0.03 * c));
                const double b = y->min_hi ? -least : 0;
                const double loss = part_loss(y, x, w + k * n, n, a, b);
                if (loss < best) {
                    best = loss;
                    scale[k] = a;
                    min[k] = b;
                }
            }
        most_scale = fabs(scale[k]) > fabs(most_scale) ? scale[k] : most_scale;
        most_min = fmax(most_min, min[k]);
    }
    const double d = (double)qn_f16_to_f32(qn_f32_to_f16((float)(y->scale_lo ? most_scale / y->scale_lo : most_scale / y->scale_hi)));
    const double dmin = y->min_hi ? (double)qn_f16_to_f32(qn_f32_to_f16((float)(most_min / y->min_hi))) : 0;
    for (uint32_t k = 0; k < y->parts; k++) {
        const double s = d != 0 ? fmin(fmax(floor(scale[k] / d + 0.5), y->scale_lo), y->scale_hi) : 0;
        const double m = dmin > 0 ? fmin(floor(min[k] / dmin + 0.5), y->min_hi) : 0;
        for (uint32_t i = 0; i < n; i++) {
            const double a = d * s, b = dmin * m;
            r[k * n + i] = (float)(a * (a != 0 ? level_of(y, ((double)t[k * n + i] + b) / a) : 0) - b);
        }
    }
}

/* --- the tests -------------------------------------------------------------------------------------------------------------- */

static void *scratch_of(const struct type *y)
{
    return aligned_alloc(64, (y->coder->scratch_bytes + 63) / 64 * 64);
}

/* Encodes, checks that r is what the bytes decode to, returns the loss. */
static double encode(const struct type *y, const qn_span_metric *m, const float *t, float *r, void *scratch)
{
    uint8_t *block = malloc(y->bytes); /* of just that size: bytes beyond it would be seen */
    float back[N];
    y->coder->encode(m, t, block, r, scratch);
    cr_assert_eq(qn_ggml_f32(y->coder->dtype, block, N, back, NULL), QN_OK);
    cr_assert_eq(memcmp(back, r, sizeof back), 0, "%s: not what it decodes to", y->coder->name);
    for (unsigned j = 0; j < N; j++)
        cr_assert(isfinite(r[j]), "%s: column %u is %g", y->coder->name, j, (double)r[j]);
    free(block);
    return loss_of(m, t, r);
}

Test(blocks_k, packing_is_the_inverse_of_decoding)
{
    qt_rng g = qt_seed(1);
    for (unsigned k = 0; k < N_TYPES; k++)
        for (unsigned turn = 0; turn < 50; turn++) {
            const struct type *y = &types[k];
            qn_k_fields f;
            uint8_t block[256];
            float got[N];
            memset(&f, 0, sizeof f);
            f.d = (uint16_t)(qt_below(&g, 0x7c00) | qt_below(&g, 2) << 15);
            f.dmin = (uint16_t)(y->min_hi ? qt_below(&g, 0x7c00) : 0);
            for (unsigned p = 0; p < y->parts; p++) {
                f.scale[p] = (int16_t)(y->scale_lo + (int)qt_below(&g, (uint64_t)(y->scale_hi - y->scale_lo + 1)));
                f.min[p] = (uint8_t)qt_below(&g, (uint64_t)y->min_hi + 1);
            }
            for (unsigned j = 0; j < N; j++)
                f.level[j] = (int8_t)(y->lo == -127 ? uneven[qt_below(&g, 16)] : y->lo + (int)qt_below(&g, (uint64_t)(y->hi - y->lo + 1)));
            memset(block, 0xa5, sizeof block);
            y->pack(&f, block);
            cr_assert_eq(block[y->bytes], 0xa5);
            cr_assert_eq(qn_ggml_f32(y->coder->dtype, block, N, got, NULL), QN_OK);
            for (unsigned j = 0; j < N; j++) {
                const unsigned p = j * y->parts / N;
                const float a = qn_f16_to_f32(f.d) * (float)f.scale[p], b = qn_f16_to_f32(f.dmin) * (float)f.min[p];
                const float want = a * (float)f.level[j] - b;
                cr_assert(got[j] == want, "%s, column %u: %g, not %g", y->coder->name, j, (double)got[j], (double)want);
            }
        }
}

/* On a normal source with all weights alike: below what the peer reaches (its figures: 524288 values, as many as here nearly). */
Test(blocks_k, error_on_a_normal_source)
{
    enum { SPANS = 400 };
    struct made *k = make(2, 0);
    for (unsigned j = 0; j < N; j++)
        k->diag[j] = 1;
    for (unsigned i = 0; i < N_TYPES; i++) {
        qt_rng g = qt_seed(3);
        void *scratch = scratch_of(&types[i]);
        double loss = 0, energy = 0;
        for (unsigned s = 0; s < SPANS; s++) {
            float t[N], r[N];
            for (unsigned j = 0; j < N; j++) {
                t[j] = (float)qt_normal(&g);
                energy += (double)t[j] * (double)t[j];
            }
            loss += encode(&types[i], &k->alone, t, r, scratch);
        }
        cr_assert_lt(loss / energy, types[i].peer, "%s: %g, the peer has %g", types[i].coder->name, loss / energy, types[i].peer);
        free(scratch);
    }
    free(k);
}

/* Against the plain encoder: with weights of columns alone better on the whole, with feedback much better. */
Test(blocks_k, better_than_a_plain_encoder)
{
    enum { SPANS = 24 };
    struct made *k = make(4, 0);
    for (unsigned i = 0; i < N_TYPES; i++) {
        qt_rng g = qt_seed(5);
        void *scratch = scratch_of(&types[i]);
        double ours = 0, naive = 0, fed = 0, naive_fed = 0;
        for (unsigned s = 0; s < SPANS; s++) {
            float t[N], r[N], p[N];
            for (unsigned j = 0; j < N; j++)
                t[j] = (float)(0.02 * qt_normal(&g) * (j == 77 ? 4 : 1));
            plain(&types[i], t, k->diag, p);
            ours += encode(&types[i], &k->alone, t, r, scratch);
            naive += loss_of(&k->alone, t, p);
            const double loss = encode(&types[i], &k->full, t, r, scratch), other = loss_of(&k->full, t, p);
            cr_assert_lt(loss, other, "%s, span %u", types[i].coder->name, s);
            fed += loss;
            naive_fed += other;
        }
        cr_assert_lt(ours, naive, "%s: %g and %g", types[i].coder->name, ours, naive);
        cr_assert_lt(fed, types[i].most * naive_fed, "%s: %g and %g", types[i].coder->name, fed, naive_fed);
        free(scratch);
    }
    free(k);
}

static float hard(qt_rng *g, unsigned kind, unsigned j)
{
    switch (kind) {
    case 0: return 0;
    case 1: return j == 100 ? -1e30f : (float)qt_normal(g);        /* one that no half can reach                         */
    case 2: return 0.25f;                                          /* the same everywhere: a minimum cannot be positive    */
    case 3: return -0.25f;
    case 4: return (float)(1e-40 * qt_normal(g));                  /* below every half                                   */
    case 5: return (float)(1e-7 * qt_normal(g));                   /* d would be among the least halves                    */
    case 6: return (float)(1e6 * qt_normal(g));                    /* d would be among the largest                       */
    case 7: return j / 32 == 3 ? 0 : (float)qt_normal(g);          /* a part of nothing                                  */
    case 8: return j % 16 == 5 ? 50.0f : (float)(0.01 * qt_normal(g));
    case 9: return j < 128 ? (float)(1e-4 * qt_normal(g)) : (float)qt_normal(g); /* parts of very different size             */
    default: return j % 2 ? 3e38f : -3e38f;
    }
}

/* Whatever comes: an answer that is finite, and never worse than plain rounding by more than halves are coarse. */
Test(blocks_k, numbers_that_are_hard)
{
    struct made *k[2] = {make(6, 0), make(7, 5)};
    for (unsigned i = 0; i < N_TYPES; i++) {
        void *scratch = scratch_of(&types[i]);
        for (unsigned kind = 0; kind <= 10; kind++)
            for (unsigned c = 0; c < 4; c++) {
                qt_rng g = qt_seed(8);
                float t[N], r[N], p[N], zero[N] = {0};
                const qn_span_metric *m = c / 2 ? &k[c % 2]->alone : &k[c % 2]->full;
                for (unsigned j = 0; j < N; j++)
                    t[j] = hard(&g, kind, j);
                const double loss = encode(&types[i], m, t, r, scratch);
                if (kind == 0)
                    cr_assert_eq(loss, 0);
                plain(&types[i], t, k[c % 2]->diag, p);
                bool finite = true;
                for (unsigned j = 0; j < N; j++)
                    finite &= isfinite(p[j]) != 0;
                const double other = loss_of(m, t, p), all = loss_of(m, t, zero);
                if (finite && kind != 1 && kind != 10)
                    cr_assert_leq(loss, other * 1.001 + 1e-5 * all, "%s, kind %u, metric %u: %g and %g", types[i].coder->name, kind, c, loss, other);
            }
        free(scratch);
    }
    free(k[0]);
    free(k[1]);
}

/* No column was ever seen: still numbers. */
Test(blocks_k, nothing_was_seen)
{
    struct made *k = make(9, 0);
    memset(k->diag, 0, sizeof k->diag);
    for (unsigned i = 0; i < N_TYPES; i++) {
        void *scratch = scratch_of(&types[i]);
        float t[N], r[N];
        qt_rng g = qt_seed(10);
        for (unsigned j = 0; j < N; j++)
            t[j] = (float)qt_normal(&g);
        cr_assert_eq(encode(&types[i], &k->alone, t, r, scratch), 0);
        free(scratch);
    }
    free(k);
}

/* Kernels of all processors: the same bytes. */
Test(blocks_k, processors_agree)
{
    struct made *k = make(11, 7);
    unsigned cpu[4];
    const unsigned n = qt_cpu_variants(cpu);
    for (unsigned i = 0; i < N_TYPES; i++) {
        void *scratch = scratch_of(&types[i]);
        for (unsigned turn = 0; turn < 4; turn++) {
            uint8_t first[256], block[256];
            float t[N], r[N];
            qt_rng g = qt_seed(12 + turn);
            for (unsigned j = 0; j < N; j++)
                t[j] = (float)qt_normal(&g);
            for (unsigned v = 0; v < n; v++) {
                qn_span_kern kern;
                qn_ekern_span_init(&kern, cpu[v]);
                qn_span_metric m = turn % 2 ? k->alone : k->full;
                m.kern = &kern;
                types[i].coder->encode(&m, t, v ? block : first, r, scratch);
                cr_assert(!v || memcmp(first, block, types[i].bytes) == 0, "%s: variant %x", types[i].coder->name, cpu[v]);
            }
        }
        free(scratch);
    }
    free(k);
}
