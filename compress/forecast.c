/* forecast.c: see forecast.h. */
#include "compress/forecast.h"
#include "base/err.h"
#include "base/num.h"
#include "runtime/container.h"
#include <cblas.h>
#include <math.h>
#include <string.h>
#include <time.h>

enum { TRIAL_WEIGHTS = 1 << 14, TRIAL_COLS = 64, GEMM = 256 };
#define LOSSLESS_RATE 150e6 /* bytes a second and core: packing, checking, reading back. A middling figure of docs/performance.md */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

uint64_t qn_forecast_row(const qn_lossy_row *r)
{
    const double n = (double)r->rows * r->cols;
    double bits = r->set.bits * n;
    if (strcmp(r->codec, "grid") == 0) { /* a scale for each group, six bits of which stay after coding, and a zero point */
        const double group = r->set.group == UINT32_MAX ? r->cols : r->set.group ? r->set.group : 32;
        bits += n / group * (r->set.asymmetric ? 6 + r->set.bits : 6);
    }
    return (uint64_t)ceil(bits / 8);
}

/* Weights a second that the quantizer of a layer does on values from a bell, without feedback. */
static qn_code encode_rate(const qn_env *env, const qn_lossy_row *r, double *rate, qn_err *err)
{
    qn_arena a;
    qn_arena_init(&a, env->alloc);
    const qn_quantizer *q = NULL;
    const size_t n = TRIAL_WEIGHTS, cap = n * 8;
    qn_code rc = qn_quantizer_open(r->codec, &r->set, env->cpu, &a, &q, err);
    float *w = rc == QN_OK ? qn_arena_get(&a, 2 * n * sizeof *w, 64, err) : NULL;
    uint8_t *payload = w ? qn_arena_get(&a, cap, 64, err) : NULL;
    qn_ldl ldl = QN_LDL_EMPTY;
    if (rc == QN_OK && !payload)
        rc = QN_E_MEMORY;
    const uint32_t cols = rc == QN_OK && q->col_multiple > TRIAL_COLS ? q->col_multiple : TRIAL_COLS, rows = TRIAL_WEIGHTS / cols;
    if (rc == QN_OK) {
        const uint32_t group = q->group_cols && q->group_cols < cols ? q->group_cols : cols;
        rc = qn_ldl_make(&ldl, env->alloc, cols, NULL, NULL, group, QN_ORDER_NATURAL, 0, err);
    }
    if (rc == QN_OK) {
        uint64_t s = 1;
        for (size_t i = 0; i < n; i++) { /* a sum of four uniform values is bell enough */
            float v = 0;
            for (int k = 0; k < 4; k++) {
                s = s * UINT64_C(6364136223846793005) + 1442695040888963407u;
                v += (float)(s >> 40) * 0x1p-24f - 0.5f;
            }
            w[i] = v;
        }
        const qn_quant_layer layer = {.name = "", .rows = rows, .cols = cols, .dtype = QN_F32, .sample = w, .n_sample = rows};
        const void *plan = NULL;
        size_t n_out;
        qn_feedback_loss loss;
        rc = q->ops->begin(q, &layer, &a, &plan, err);
        const qn_feedback_job job = {.q = q, .layer = &layer, .plan = plan, .ldl = &ldl, .rows = rows, .w = w};
        const double began = now();
        if (rc == QN_OK)
            rc = qn_feedback_segment(&job, w + n, payload, cap, &n_out, &loss, &a, err);
        *rate = (double)n / fmax(1e-6, now() - began);
    }
    qn_ldl_release(&ldl);
    qn_arena_release(&a);
    return rc;
}

/* Operations a second of one core in products of matrices. */
static qn_code product_rate(const qn_env *env, double *rate, qn_err *err)
{
    float *m = qn_mem_zeros(env->alloc, 3 * GEMM * GEMM, sizeof *m, err);
    if (!m)
        return QN_E_MEMORY;
    double best = 0;
    for (int i = 0; i < 3; i++) {
        const double began = now();
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, GEMM, GEMM, GEMM, 1, m, GEMM, m + GEMM * GEMM, GEMM, 0,
                    m + 2 * GEMM * GEMM, GEMM);
        best = fmax(best, 2.0 * GEMM * GEMM * GEMM / fmax(1e-7, now() - began));
    }
    qn_mem_put(env->alloc, m);
    *rate = best;
    return QN_OK;
}

static double time_of_layer(const qn_lossy_row *r, double encode, double product)
{
    const double m = r->rows, n = r->cols;
    double t = m * n / encode * 1.3; /* trial runs that find a step come on top */
    if (r->seen)
        t += m * n * n / product * 2 + n * n * n / 3 / (product / 2); /* feedback, and f64 for the factor */
    return t;
}

/* Each codec with each settings is tried once, up to so many of them: recipes alternate between a few. */
enum { KNOWN = 16 };
struct known {
    const char *codec;
    qn_quant_settings set;
    double rate;
};

static qn_code known_rate(const qn_env *env, const qn_lossy_row *r, struct known *known, unsigned *n, double *rate, qn_err *err)
{
    for (unsigned i = 0; i < *n; i++)
        if (strcmp(known[i].codec, r->codec) == 0 && qn_settings_equal(&known[i].set, &r->set)) {
            *rate = known[i].rate;
            return QN_OK;
        }
    QN_TRY(encode_rate(env, r, rate, err));
    known[*n < KNOWN ? (*n)++ : KNOWN - 1] = (struct known){r->codec, r->set, *rate};
    return QN_OK;
}

qn_code qn_forecast_all(const qn_env *env, const qn_source *src, const qn_lossy *l, qn_forecast *f, qn_err *err)
{
    double product = 0, encode = 0;
    struct known known[KNOWN];
    unsigned n_known = 0;
    *f = (qn_forecast){0};
    for (uint64_t i = 0; l && i < qn_lossy_count(l); i++) {
        const qn_lossy_row r = qn_lossy_report(l, i);
        if (r.kept)
            continue;
        if (product <= 0)
            QN_TRY(product_rate(env, &product, err));
        QN_TRY(known_rate(env, &r, known, &n_known, &encode, err));
        f->approximated_bytes += qn_forecast_row(&r);
        f->seconds += time_of_layer(&r, encode, product);
    }
    for (uint64_t i = 0; i < src->n_objects; i++)
        f->lossless_bytes += l && qn_lossy_has(l, i) ? 0 : src->objects[i].n_bytes;
    f->seconds = (f->seconds + (double)f->lossless_bytes / LOSSLESS_RATE) / env->n_threads;
    return QN_OK;
}

double qn_forecast_bits(const qn_source *src, const qn_lossy *l, double bits_now, uint64_t n_bytes)
{
    double follow = 0, fixed = 0;
    for (uint64_t i = 0; i < qn_lossy_count(l); i++) {
        const qn_lossy_row r = qn_lossy_report(l, i);
        if (r.kept)
            continue;
        follow += (double)r.rows * r.cols;
        fixed += (double)qn_forecast_row(&r);
    }
    for (uint64_t i = 0; i < src->n_objects; i++)
        fixed += qn_lossy_has(l, i) ? 0 : (double)src->objects[i].n_bytes;
    const double bits = follow > 0 ? bits_now + 8 * ((double)n_bytes - fixed) / follow : 0;
    return bits > 0 ? bits : 0;
}
