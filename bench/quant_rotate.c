/* quant_rotate.c: does rotating weights (Hadamard matrices with random signs) help pyramids? Markdown on stdout.
 *
 *     bench/quant_rotate                        a layer with a made second moment, as bench/quant_ect --layer has
 *     bench/quant_rotate MODEL STATS            all matrices of a model that statistics are of, with 2^k columns
 *
 * "in": W Vᵀ with V H Vᵀ; "both": U W Vᵀ. The loss tr(E H Eᵀ) does not change by rotating, so relative errors can be compared. score:
 * bits stored (all of the payload, no sign vectors) + ½ log2 of the relative error, mean over layers: lower is better, and differences
 * are bits. "along rows": vectors of 16 in a row, error feedback between blocks of columns (LDL with blocks), every vector quantized
 * without regard to the metric inside its block; one scale for the matrix; bits are those of K = 12 or 24 with 1 or 3 of gain. */
#include "bench/must.h"
#include "analysis/stats/file.h"
#include "base/cpu.h"
#include "base/err.h"
#include "compress/feedback.h"
#include "compress/pvq_point.h"
#include "formats/source.h"
#include <lapacke.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct layer {
    uint32_t rows, cols;
    float *w;
    double *h; /* (cols, cols), mean diagonal 1 */
} layer;

typedef struct score {
    double sum;
    unsigned n;
} score;

static uint64_t seed = 3;

static double uniform(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return ((double)(seed >> 11) + 0.5) * 0x1p-53;
}

static double normal(void)
{
    return sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform());
}

static void check(qn_code rc, const qn_err *e)
{
    char line[512];
    if (rc == QN_OK)
        return;
    qn_err_line(e, line, sizeof line);
    (void)fprintf(stderr, "%s\n", line);
    exit(1);
}

/* v[0, step, …) ← signed Hadamard of it, n a power of two. */
static void turn(double *v, size_t step, uint32_t n, const signed char *sign)
{
    const double norm = 1 / sqrt((double)n);
    for (uint32_t i = 0; i < n; i++)
        v[i * step] *= sign[i] * norm;
    for (uint32_t half = 1; half < n; half *= 2)
        for (uint32_t i = 0; i < n; i++)
            if (!(i & half)) {
                const double a = v[i * step], b = v[(i + half) * step];
                v[i * step] = a + b;
                v[(i + half) * step] = a - b;
            }
}

static layer rotated(const layer *l, bool out)
{
    layer r = {.rows = l->rows, .cols = l->cols, .w = must_get((size_t)l->rows * l->cols * 4), .h = must_get((size_t)l->cols * l->cols * 8)};
    const uint32_t most = r.rows > r.cols ? r.rows : r.cols;
    signed char *v = must_get(most), *u = must_get(most);
    double *line = must_get((size_t)r.rows * r.cols * 8);
    for (uint32_t i = 0; i < most; i++) {
        v[i] = uniform() < 0.5 ? -1 : 1;
        u[i] = uniform() < 0.5 ? -1 : 1;
    }
    for (size_t i = 0; i < (size_t)r.rows * r.cols; i++)
        line[i] = (double)l->w[i];
    for (uint32_t i = 0; i < r.rows; i++)
        turn(line + (size_t)i * r.cols, 1, r.cols, v);
    for (uint32_t j = 0; out && j < r.cols; j++)
        turn(line + j, r.cols, r.rows, u);
    for (size_t i = 0; i < (size_t)r.rows * r.cols; i++)
        r.w[i] = (float)line[i];
    memcpy(r.h, l->h, (size_t)r.cols * r.cols * 8);
    for (uint32_t i = 0; i < r.cols; i++)
        turn(r.h + (size_t)i * r.cols, 1, r.cols, v);
    for (uint32_t j = 0; j < r.cols; j++)
        turn(r.h + j, r.cols, r.cols, v);
    free(v);
    free(u);
    free(line);
    return r;
}

static double down_columns(const layer *l, const qn_quant_settings *set)
{
    qn_err e = {0};
    qn_arena a, scratch;
    qn_arena_init(&a, NULL);
    qn_arena_init(&scratch, NULL);
    const qn_quantizer *q;
    const void *plan;
    qn_ldl ldl = QN_LDL_EMPTY;
    const uint32_t n_sample = l->rows < 64 ? l->rows : 64;
    const size_t n = (size_t)l->rows * l->cols;
    double *h = must_get((size_t)l->cols * l->cols * 8);
    float *sample = must_get((size_t)n_sample * l->cols * 4), *recon = must_get(n * 4);
    uint8_t *payload = must_get(n * 4);
    size_t n_out = 0;
    qn_feedback_loss loss;
    memcpy(h, l->h, (size_t)l->cols * l->cols * 8);
    for (uint32_t i = 0; i < n_sample; i++)
        memcpy(sample + (size_t)i * l->cols, l->w + (size_t)i * l->rows / n_sample * l->cols, l->cols * 4);
    check(qn_quantizer_open("pvq", set, qn_cpu_detect(), &a, &q, &e), &e);
    check(qn_ldl_make(&ldl, NULL, l->cols, h, NULL, 1, QN_ORDER_NATURAL, 0, &e), &e);
    const qn_quant_layer y = {.name = "w", .rows = l->rows, .cols = l->cols, .dtype = QN_F32, .weight = ldl.weight, .sample = sample,
                              .n_sample = n_sample, .ldl = &ldl, .segment_rows = l->rows};
    check(q->ops->begin(q, &y, &a, &plan, &e), &e);
    const qn_feedback_job job = {.q = q, .layer = &y, .plan = plan, .ldl = &ldl, .rows = l->rows, .w = l->w, .want_energy = true};
    check(qn_feedback_segment(&job, recon, payload, n * 4, &n_out, &loss, &scratch, &e), &e);
    qn_ldl_release(&ldl);
    qn_arena_release(&a);
    qn_arena_release(&scratch);
    free(h);
    free(sample);
    free(recon);
    free(payload);
    return 8.0 * (double)n_out / (double)n + 0.5 * log2(loss.loss / loss.energy);
}

/* t (16) → e = t − point, K pulses, 2^g levels spread over the lengths that normal numbers have. */
static void row_vector(const double *t, uint32_t k, unsigned gain_bits, double scale, double *e)
{
    float x[16];
    int16_t y[16];
    double best = HUGE_VAL, a = 0, yy = 0;
    for (unsigned i = 0; i < 16; i++)
        x[i] = (float)t[i];
    const double length = (double)qn_pvq_nearest(x, 16, k, 4, y);
    for (unsigned i = 0; i < 16; i++)
        yy += (double)y[i] * y[i];
    for (unsigned i = 0; i < 1u << gain_bits; i++) {
        const double level = scale * qn_pvq_gain_levels(16, gain_bits)[i] / 4096;
        if (fabs(level - length) < best) {
            best = fabs(level - length);
            a = level;
        }
    }
    for (unsigned i = 0; i < 16; i++)
        e[i] = t[i] - a * y[i] / sqrt(yy);
}

static double along_rows(const layer *l, uint32_t k, unsigned gain_bits)
{
    enum { B = 16 };
    const uint32_t n = l->cols;
    double *c = must_get((size_t)n * n * 8), *e = must_get(n * 8), *w = must_get(n * 8), least = HUGE_VAL, square = 0;
    memcpy(c, l->h, (size_t)n * n * 8);
    for (uint32_t i = 0; i < n; i++)
        c[(size_t)i * n + i] += 1e-3;
    if (LAPACKE_dpotrf(LAPACK_ROW_MAJOR, 'L', (lapack_int)n, c, (lapack_int)n) != 0)
        return (double)NAN;
    for (size_t i = 0; i < (size_t)l->rows * n; i++)
        square += (double)l->w[i] * (double)l->w[i] / ((double)l->rows * n);
    for (double factor = 0.9; factor < 1.15; factor *= 1.1) { /* the matrix's one scale */
        double loss = 0, energy = 0;
        for (uint32_t i = 0; i < l->rows; i++) {
            for (uint32_t j = 0; j < n; j++)
                w[j] = (double)l->w[(size_t)i * n + j];
            for (uint32_t b = n; b > 0; b -= B) {
                double g[B], t[B]; /* Σ over later columns of e L[:, block], then times L_BB⁻¹ */
                for (uint32_t j = 0; j < B; j++) {
                    g[j] = 0;
                    for (uint32_t r = b; r < n; r++)
                        g[j] += e[r] * c[(size_t)r * n + b - B + j];
                }
                for (uint32_t j = B; j-- > 0;) { /* z L_BB = g, from the last column */
                    for (uint32_t r = j + 1; r < B; r++)
                        g[j] -= g[r] * c[(size_t)(b - B + r) * n + b - B + j];
                    g[j] /= c[(size_t)(b - B + j) * n + b - B + j];
                }
                for (uint32_t j = 0; j < B; j++)
                    t[j] = w[b - B + j] + g[j];
                row_vector(t, k, gain_bits, factor * sqrt(square), e + b - B);
                for (uint32_t j = 0; j < B; j++)
                    e[b - B + j] -= t[j] - w[b - B + j]; /* of the weight, not of the target */
            }
            for (uint32_t j = 0; j < n; j++) {
                double el = 0, wl = 0;
                for (uint32_t r = j; r < n; r++) {
                    el += e[r] * c[(size_t)r * n + j];
                    wl += w[r] * c[(size_t)r * n + j];
                }
                loss += el * el;
                energy += wl * wl;
            }
        }
        least = fmin(least, loss / energy);
    }
    free(c);
    free(e);
    free(w);
    return (qn_pvq_bits(16, k) + gain_bits) / 16.0 + 0.5 * log2(least);
}

enum { WAYS = 9 };
static const char *const way_name[WAYS] = {"classes", "classes, in", "classes, both", "shells", "shells, in", "shells, both",
                                           "along rows", "along rows, in", "along rows, both"};

static void add(score *s, double v)
{
    s->sum += v;
    s->n++;
}

static void measure(const layer *l, score s[2][WAYS])
{
    layer of[3] = {*l, rotated(l, false), {0}};
    const bool both = (l->rows & (l->rows - 1)) == 0;
    of[2] = both ? rotated(l, true) : of[1];
    for (unsigned r = 0; r < 2; r++)
        for (unsigned t = 0; t < 3; t++) {
            const qn_quant_settings classes = {.bits = 2 + r}, shells = {.bits = 2 + r, .shells = true};
            add(&s[r][t], down_columns(of + t, &classes));
            add(&s[r][3 + t], down_columns(of + t, &shells));
            add(&s[r][6 + t], along_rows(of + t, r ? 24 : 12, r ? 3 : 1));
        }
    for (unsigned t = 1; t < (both ? 3u : 2u); t++) {
        free(of[t].w);
        free(of[t].h);
    }
}

static void print(score s[2][WAYS])
{
    printf("| | score at 2 bits | at 3 bits |\n|---|--:|--:|\n");
    for (unsigned i = 0; i < WAYS; i++)
        printf("| %s | %.3f | %.3f |\n", way_name[i], s[0][i].sum / s[0][i].n, s[1][i].sum / s[1][i].n);
}

/* H = S Q diag((i + 5)^-1.2) Qᵀ S with log-normal S (0.7), mean diagonal 1, and 0.01 of that added; Q: signs and Hadamard, twice. */
static layer made(void)
{
    enum { ROWS = 512, COLS = 512 };
    layer l = {ROWS, COLS, must_get(ROWS * COLS * 4), must_get(COLS * COLS * 8)};
    double *q = must_get(COLS * COLS * 8), scale[COLS], trace = 0;
    signed char sign[2][COLS];
    for (unsigned i = 0; i < COLS; i++) {
        scale[i] = exp(0.7 * normal());
        sign[0][i] = uniform() < 0.5 ? -1 : 1;
        sign[1][i] = uniform() < 0.5 ? -1 : 1;
    }
    memset(q, 0, COLS * COLS * 8);
    for (unsigned i = 0; i < COLS; i++) {
        q[i * COLS + i] = 1;
        double *row = q + (size_t)i * COLS, mixed[COLS];
        turn(row, 1, COLS, sign[0]);
        for (unsigned j = 0; j < COLS; j++)
            mixed[j] = row[(j * 77u + 13) % COLS];
        memcpy(row, mixed, sizeof mixed);
        turn(row, 1, COLS, sign[1]);
    }
    memset(l.h, 0, COLS * COLS * 8);
    for (unsigned k = 0; k < COLS; k++)
        for (unsigned i = 0; i < COLS; i++)
            for (unsigned j = 0; j < COLS; j++)
                l.h[i * COLS + j] += pow(k + 5, -1.2) * q[k * COLS + i] * q[k * COLS + j] * scale[i] * scale[j];
    for (unsigned i = 0; i < COLS; i++)
        trace += l.h[i * (COLS + 1)] / COLS;
    for (unsigned i = 0; i < COLS * COLS; i++)
        l.h[i] = l.h[i] / trace + (i % (COLS + 1) == 0 ? 0.01 : 0);
    for (unsigned i = 0; i < ROWS * COLS; i++)
        l.w[i] = (float)normal();
    free(q);
    return l;
}

static void model(const char *path, const char *stats, score s[2][WAYS])
{
    qn_env env;
    qn_err e = {0};
    qn_source *src;
    qn_stats_file f = QN_STATS_FILE_CLOSED;
    check(qn_env_init(&env, &e), &e);
    check(qn_source_open(&env, path, &src, &e), &e);
    check(qn_stats_file_open(&f, &env, stats, &e), &e);
    for (uint64_t i = 0; i < src->n_objects; i++) {
        const qn_object *o = src->objects + i;
        const qn_stats_item *item = o->name[0] ? qn_stats_find(&f, o->name, UINT32_MAX) : NULL;
        if (!item || o->rank != 2 || o->dtype != QN_F32 || (o->dims[1] & (o->dims[1] - 1)) || o->dims[1] < 16)
            continue;
        layer l = {.rows = (uint32_t)o->dims[0], .cols = (uint32_t)o->dims[1], .w = must_get((size_t)o->n_bytes)};
        double trace = 0;
        l.h = must_get((size_t)l.cols * l.cols * 8);
        check(qn_source_read(src, i, 0, o->n_bytes, l.w, &e), &e);
        check(qn_stats_h_read_f64(&f, item->input, l.h, l.cols, &e), &e);
        for (uint32_t j = 0; j < l.cols; j++)
            trace += l.h[(size_t)j * (l.cols + 1)] / l.cols;
        for (size_t j = 0; j < (size_t)l.cols * l.cols; j++)
            l.h[j] = l.h[j] / trace + (j % (l.cols + 1) == 0 ? 1e-3 : 0);
        measure(&l, s);
        free(l.w);
        free(l.h);
    }
    qn_stats_file_close(&f);
    qn_source_close(src);
}

int main(int argc, char **argv)
{
    static score s[2][WAYS];
    if (argc > 2) {
        model(argv[1], argv[2], s);
    } else {
        layer l = made();
        measure(&l, s);
        free(l.w);
        free(l.h);
    }
    print(s);
    return 0;
}
