/* test_blocks_iq.c: coders of the i-quants: bytes against formulas of the layouts, the nearest point against all points, answers against the decoder and
 * against a plain encoder written out here, errors against those measured of llama.cpp on the same source, numbers at the ends of what halves can say. */
#include "base/cpu.h"
#include "base/ggml_impl.h"
#include "compress/blocks/iq.h"
#include "tests/compress/span_made.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void qt_iq_encode(const qn_iq_kind *k, const qn_span_metric *m, const float *t, uint8_t *block, float *r, void *scratch);

#define TARGET
#define ENCODE qt_iq_encode
#include "compress/blocks/iq_tmpl.h"

enum { N = 256, N_TYPES = 7 };

struct type {
    const qn_block_coder *coder;
    const qn_iq_kind *kind;
    uint32_t bytes;
    double peer; /* mean square error over variance of llama.cpp v0.5.0 on a normal source, all weights alike       */
    double most; /* share of the plain encoder's loss that ours may have where errors are fed back                 */
};

static const struct type types[N_TYPES] = {
    {&qn_coder_iq1_s, &qn_kind_iq1_s, 50, 0.235853, 0.6},     {&qn_coder_iq1_m, &qn_kind_iq1_m, 56, 0.203585, 0.6},
    {&qn_coder_iq2_xxs, &qn_kind_iq2_xxs, 66, 0.118004, 0.6}, {&qn_coder_iq2_xs, &qn_kind_iq2_xs, 74, 0.089790, 0.6},
    {&qn_coder_iq2_s, &qn_kind_iq2_s, 82, 0.062017, 0.6},     {&qn_coder_iq3_xxs, &qn_kind_iq3_xxs, 98, 0.032993, 0.6},
    {&qn_coder_iq3_s, &qn_kind_iq3_s, 110, 0.018759, 0.6},
};

/* --- what the formats say, in words of this test ----------------------------------------------------------------------------- */

static double level_of(const qn_iq_kind *k, unsigned l)
{
    static const double two[] = {8, 25, 43}, three[] = {4, 12, 20, 28, 36, 44, 52, 62};
    return k->points == 2048 ? (double)l - 1 : k->values == 8 ? two[l] : k->points == 256 ? three[l] : 2.0 * l + 1;
}

static double value_of(const qn_iq_kind *k, unsigned point, unsigned i)
{
    const unsigned bits = k->values == 8 ? 2 : 3;
    return level_of(k, k->grid[point] >> bits * i & ((1u << bits) - 1));
}

static double scale_by(const qn_iq_kind *k, unsigned s)
{
    return k->points == 2048 || k->points == 512 * (k->values == 4) ? 1 + 2.0 * s : k->values == 8 ? (s + 0.5) / 4 : (s + 0.5) / 2;
}

static unsigned even(unsigned seven)
{
    return seven | (unsigned)__builtin_parity(seven) << 7;
}

Test(blocks_iq, packing_is_what_the_decoder_reads)
{
    qt_rng g = qt_seed(1);
    for (unsigned t = 0; t < N_TYPES; t++)
        for (unsigned round = 0; round < 40; round++) {
            const qn_iq_kind *k = types[t].kind;
            qn_iq_fields f = {0};
            uint8_t block[128];
            float r[N];
            qn_err err = {0};
            f.d = (uint16_t)qt_below(&g, 0x7bff + 1u);
            for (unsigned i = 0; i < 16; i++)
                f.scale[i] = (uint8_t)qt_below(&g, k->top + 1u);
            for (unsigned i = 0; i < 64; i++)
                f.index[i] = (uint16_t)qt_below(&g, k->points);
            for (unsigned i = 0; i < 32; i++) {
                f.signs[i] = (uint8_t)(k->points == 2048 ? 0 : k->signs == QN_IQ_EVEN ? even((unsigned)qt_below(&g, 127 + 1u)) : (unsigned)qt_below(&g, 255 + 1u));
                f.below[i] = k->points == 2048 && (k->sub == 16 || i % 4 == 0) ? (uint8_t)qt_below(&g, 1 + 1u) : k->points == 2048 ? f.below[i - 1] : 0;
            }
            k->pack(&f, block);
            cr_assert_eq(qn_ggml_f32(types[t].coder->dtype, block, N, r, &err), QN_OK);
            for (unsigned j = 0; j < N; j++) {
                double c = value_of(k, f.index[j / k->values], j % k->values);
                c = f.signs[j / 8] >> j % 8 & 1 ? -c : c;
                if (k->points == 2048)
                    c += f.below[j / 8] ? -0.125 : 0.125;
                const double want = (double)qn_f16_to_f32(f.d) * scale_by(k, f.scale[j / k->sub]) * c;
                cr_assert_eq((double)r[j], want, "%s, value %u: %g, not %g", types[t].coder->name, j, (double)r[j], want);
            }
        }
}

/* --- the search -------------------------------------------------------------------------------------------------------------- */

/* The cheapest of all points for each sign parity that is wanted of the part: −1 for any. */
static double brute_part(const qn_iq_kind *k, const float *x, const float *a, double shift, int odd, double *c)
{
    double best = (double)INFINITY;
    for (unsigned p = 0; p < k->points; p++) {
        double sum = 0, turn = (double)INFINITY, v[8];
        unsigned minus = 0, at = 0;
        for (unsigned i = 0; i < k->values; i++) {
            const bool neg = k->points != 2048 && x[i] < 0;
            const double m = value_of(k, p, i) + shift, e = (double)x[i] - (neg ? -m : m);
            sum += (double)a[i] * e * e;
            minus += neg;
            v[i] = neg ? -m : m;
            const double cost = 4 * (double)a[i] * fabs((double)x[i]) * m;
            if (cost < turn) {
                turn = cost;
                at = i;
            }
        }
        if (odd >= 0 && (int)(minus & 1) != odd) {
            sum += turn;
            v[at] = -v[at];
        }
        if (sum < best) {
            best = sum;
            memcpy(c, v, sizeof v);
        }
    }
    return best;
}

static double brute(const qn_iq_kind *k, const float *x, const float *a, double shift, double *c)
{
    if (k->signs != QN_IQ_EVEN)
        return brute_part(k, x, a, shift, -1, c);
    if (k->values == 8)
        return brute_part(k, x, a, shift, 0, c);
    double best = (double)INFINITY;
    for (int odd = 0; odd < 2; odd++) {
        double v[16];
        const double sum = brute_part(k, x, a, shift, odd, v) + brute_part(k, x + 4, a + 4, shift, odd, v + 4);
        if (sum < best) {
            best = sum;
            memcpy(c, v, 8 * sizeof *c);
        }
    }
    return best;
}

Test(blocks_iq, the_nearest_of_all_points_is_found)
{
    qt_rng g = qt_seed(2);
    for (unsigned t = 0; t < N_TYPES; t++) {
        const qn_iq_kind *k = types[t].kind;
        const double size = k->points == 2048 ? 0.8 : k->values == 8 ? 22 : k->points == 512 ? 6 : 26;
        for (unsigned round = 0; round < 150; round++) {
            float x[8], a[8];
            double c[16];
            choice o, none;
            const bool below = k->points == 2048 && round & 1;
            for (unsigned i = 0; i < 8; i++) {
                x[i] = (float)(size * qt_normal(&g));
                a[i] = (float)exp(qt_normal(&g));
            }
            cr_assert(nearest(k, qn_iq_index_of(k), x, a, below, FAR, &o));
            const double want = brute(k, x, a, k->points != 2048 ? 0 : below ? -0.125 : 0.125, c);
            double got = 0;
            for (unsigned i = 0; i < k->unit; i++)
                got += (double)a[i] * ((double)x[i] - (double)o.c[i]) * ((double)x[i] - (double)o.c[i]);
            cr_assert_float_eq(got, want, 1e-4 * want, "%s, round %u: %g, the nearest has %g", types[t].coder->name, round, got, want);
            cr_assert_float_eq((double)o.cost, want, 1e-4 * want);
            cr_assert(!nearest(k, qn_iq_index_of(k), x, a, below, (float)(want * 0.999), &none));
            cr_assert(nearest(k, qn_iq_index_of(k), x, a, below, (float)(want * 1.001), &none));
            cr_assert_arr_eq(none.c, o.c, k->unit * sizeof *o.c);
            cr_assert(k->signs != QN_IQ_EVEN || !__builtin_parity(o.signs));
        }
    }
}

/* --- metrics ----------------------------------------------------------------------------------------------------------------- */

struct made {
    float m[N * N], diag[N];
    uint16_t order[N];
    qn_span_metric full, alone;
};

static struct made *make(uint64_t seed, unsigned dead)
{
    struct made *k = malloc(sizeof *k);
    span_moment(seed, dead, k->m, k->diag);
    for (unsigned a = 0; a < N; a++)
        k->order[a] = (uint16_t)a;
    k->full = (qn_span_metric){.n = N, .m = k->m, .weight = k->diag, .diag = k->diag, .order = k->order};
    k->alone = (qn_span_metric){.n = N, .weight = k->diag, .diag = k->diag, .order = k->order};
    return k;
}

static void *aligned(size_t n)
{
    void *p = aligned_alloc(64, (n + 63) / 64 * 64);
    cr_assert(p);
    memset(p, 0, n);
    return p;
}

static double loss_by(const qn_span_metric *m, const float *t, const float *r)
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

/* Encodes; the answer must be what the decoder says. */
static double encode(const struct type *y, const qn_span_metric *m, const float *t, uint8_t *block, float *r)
{
    void *scratch = aligned(y->coder->scratch_bytes);
    float decoded[N];
    qn_err err = {0};
    y->coder->encode(m, t, block, r, scratch);
    free(scratch);
    cr_assert_eq(qn_ggml_f32(y->coder->dtype, block, N, decoded, &err), QN_OK);
    cr_assert_arr_eq(r, decoded, sizeof decoded, "%s", y->coder->name);
    return loss_by(m, t, r);
}

Test(blocks_iq, prepared_factors_give_the_loss)
{
    struct made *k = make(3, 11);
    qt_rng g = qt_seed(4);
    float e[N], zero[N] = {0};
    for (unsigned j = 0; j < N; j++)
        e[j] = (float)qt_normal(&g);
    const double want = loss_by(&k->full, e, zero);
    for (unsigned unit = 4; unit <= 8; unit += 4) {
        qn_iq_prepared *p = aligned(sizeof *p);
        (unit == 8 ? qn_iq_prepare_8 : qn_iq_prepare_4)(&k->full, p);
        double sum = 0;
        for (unsigned u = 0; u < N; u += unit) {
            double z[8];
            for (unsigned i = 0; i < unit; i++) {
                z[i] = (double)e[u + i];
                for (unsigned a = 0; a < N; a++) {
                    cr_assert(a < u || p->feed[a * N + u + i] == 0);
                    z[i] += (double)p->feed[a * N + u + i] * (double)e[a];
                }
            }
            for (unsigned i = 0; i < unit; i++)
                for (unsigned j = 0; j < unit; j++)
                    sum += z[i] * z[j] * (double)p->metric[u * unit + i * unit + j];
        }
        cr_expect_float_eq(sum, want, 1e-3 * want, "units of %u: %g, the loss is %g", unit, sum, want);
        free(p);
    }
    free(k);
}

/* --- a plain encoder: scales of each sub-block from a sweep, whole numbers of the largest, each unit to its nearest point ----------------- */

static double plain_sub(const qn_iq_kind *k, const float *t, const float *w, double scale, float *r)
{
    double loss = 0;
    for (unsigned j = 0; j < k->sub; j += k->unit) {
        float x[8], a[8];
        double c[16], best = (double)INFINITY;
        for (unsigned i = 0; i < k->unit; i++) {
            x[i] = (float)((double)t[j + i] / scale);
            a[i] = w[j + i] > 0 ? w[j + i] : 1e-6f;
        }
        const double sum = brute(k, x, a, k->points == 2048 ? 0.125 : 0, c);
        best = sum;
        for (unsigned i = 0; i < k->unit; i++)
            r[j + i] = (float)(scale * c[i]);
        loss += best * scale * scale;
    }
    return loss;
}

static void plain(const qn_iq_kind *k, const float *t, const float *w, float *r)
{
    double scale[16], most = 0;
    const unsigned n = N / k->sub;
    for (unsigned b = 0; b < n; b++) {
        const float *x = t + b * k->sub;
        double size = 0, best = (double)INFINITY;
        for (unsigned i = 0; i < k->sub; i++)
            size = fmax(size, fabs((double)x[i]));
        scale[b] = 1e-9;
        for (unsigned c = 0; c < 5 && size > 0; c++) {
            const double s = size / level_of(k, k->points == 2048 || k->values == 8 ? 2 : 7) * (0.5 + 0.12 * c), loss = plain_sub(k, x, w + b * k->sub, s, r + b * k->sub);
            if (loss < best) {
                best = loss;
                scale[b] = s;
            }
        }
        most = fmax(most, scale[b]);
    }
    const double d = (double)qn_f16_to_f32(qn_f32_to_f16((float)(most / scale_by(k, k->top))));
    for (unsigned b = 0; b < n; b++) {
        unsigned at = 0;
        for (unsigned s = 1; s <= k->top; s++)
            at = fabs(d * scale_by(k, s) - scale[b]) < fabs(d * scale_by(k, at) - scale[b]) ? s : at;
        plain_sub(k, t + b * k->sub, w + b * k->sub, d * scale_by(k, at), r + b * k->sub);
    }
}

static void draw(qt_rng *g, float *t, double size)
{
    for (unsigned j = 0; j < N; j++)
        t[j] = (float)(size * qt_normal(g));
}

Test(blocks_iq, better_than_plain_rounding)
{
    struct made *k = make(5, 0);
    qt_rng g = qt_seed(6);
    for (unsigned y = 0; y < N_TYPES; y++) {
        double full = 0, alone = 0, plain_full = 0, plain_alone = 0;
        qn_span_metric fed = k->full;
        void *room = aligned(types[y].coder->prepared_bytes);
        types[y].coder->prepare(&fed, room);
        fed.prepared = room;
        for (unsigned row = 0; row < 8; row++) {
            float t[N], r[N];
            uint8_t block[128];
            draw(&g, t, 0.02);
            full += encode(&types[y], &fed, t, block, r);
            alone += encode(&types[y], &k->alone, t, block, r);
            plain(types[y].kind, t, k->diag, r);
            plain_full += loss_by(&fed, t, r);
            plain_alone += loss_by(&k->alone, t, r);
        }
        cr_expect_lt(full, types[y].most * plain_full, "%s: with feedback %g, plain %g", types[y].coder->name, full, plain_full);
        cr_expect_lt(alone, plain_alone, "%s: without feedback %g, plain %g", types[y].coder->name, alone, plain_alone);
        free(room);
    }
    free(k);
}

Test(blocks_iq, errors_on_a_normal_source)
{
    float one[N];
    uint16_t order[N];
    for (unsigned j = 0; j < N; j++) {
        one[j] = 1;
        order[j] = (uint16_t)j;
    }
    const qn_span_metric m = {.n = N, .weight = one, .diag = one, .order = order};
    for (unsigned y = 0; y < N_TYPES; y++) {
        qt_rng g = qt_seed(7);
        double loss = 0, energy = 0;
        for (unsigned row = 0; row < 60; row++) {
            float t[N], r[N], zero[N] = {0};
            uint8_t block[128];
            draw(&g, t, 1);
            loss += encode(&types[y], &m, t, block, r);
            energy += loss_by(&m, t, zero);
        }
        cr_expect_lt(loss / energy, 0.97 * types[y].peer, "%s: %g, llama.cpp has %g", types[y].coder->name, loss / energy, types[y].peer);
    }
}

Test(blocks_iq, every_processor_gives_the_same_bytes)
{
    struct made *k = make(8, 13);
    qt_rng g = qt_seed(9);
    const unsigned have = qn_cpu_detect(), steps[] = {QN_CPU_AVX2, QN_CPU_AVX2 | QN_CPU_AVX512};
    for (unsigned y = 0; y < N_TYPES; y++) {
        void *room = aligned(types[y].coder->prepared_bytes);
        types[y].coder->prepare(&k->full, room);
        for (unsigned row = 0; row < 4; row++) {
            qn_span_metric m = row & 1 ? k->alone : k->full;
            float t[N], r[N];
            uint8_t block[128] = {0}, other[128] = {0};
            m.prepared = row & 1 ? NULL : room;
            draw(&g, t, 0.02);
            encode(&types[y], &m, t, block, r);
            for (unsigned s = 0; s < 2; s++) {
                const qn_span_kern kern = {.cpu = steps[s]};
                if ((have & steps[s]) != steps[s])
                    continue;
                m.kern = &kern;
                encode(&types[y], &m, t, other, r);
                cr_expect_arr_eq(block, other, sizeof block, "%s, row %u, step %u", types[y].coder->name, row, s);
            }
        }
        free(room);
    }
    free(k);
}

/* --- ends -------------------------------------------------------------------------------------------------------------------- */

Test(blocks_iq, any_target_has_an_answer)
{
    struct made *k = make(10, 5);
    float nothing[N] = {0};
    const qn_span_metric unseen = {.n = N, .weight = nothing, .diag = nothing, .order = k->order};
    qt_rng g = qt_seed(11);
    for (unsigned y = 0; y < N_TYPES; y++) {
        void *room = aligned(types[y].coder->prepared_bytes);
        qn_span_metric fed = k->full;
        types[y].coder->prepare(&fed, room);
        fed.prepared = room;
        const qn_span_metric *metrics[] = {&fed, &k->full, &k->alone, &unseen};
        for (unsigned m = 0; m < 4; m++) {
            float t[N] = {0}, r[N], zero[N] = {0};
            uint8_t block[128];
            cr_expect_eq(encode(&types[y], metrics[m], t, block, r), 0, "%s: zeros", types[y].coder->name);
            t[77] = 3;
            cr_expect_leq(encode(&types[y], metrics[m], t, block, r), loss_by(metrics[m], t, zero), "%s: one value", types[y].coder->name);
            draw(&g, t, 0.01);
            t[100] = 1000;
            cr_expect_leq(encode(&types[y], metrics[m], t, block, r), loss_by(metrics[m], t, zero), "%s: one large value", types[y].coder->name);
            draw(&g, t, 1e-9); /* less than a half can say */
            encode(&types[y], metrics[m], t, block, r);
            draw(&g, t, 1e6); /* at its other end */
            cr_expect_leq(encode(&types[y], metrics[m], t, block, r), 0.5 * loss_by(metrics[m], t, zero), "%s: large values", types[y].coder->name);
            for (double size = 1e10; size < 1e38; size *= 1e9) {
                draw(&g, t, size);
                encode(&types[y], metrics[m], t, block, r);
                for (unsigned j = 0; j < N; j++)
                    cr_assert(isfinite(r[j]), "%s: %g became %g", types[y].coder->name, (double)t[j], (double)r[j]);
            }
        }
        free(room);
    }
    free(k);
}
