/* feedback.c: see feedback.h.
 *
 * A segment is held by columns in the order of visits: T[v] is the row of targets of visit v, over the segment's rows. So
 * quantizers get contiguous columns, and the update of all later columns by a block is one product
 *     T[after] += feed[block, after]ᵀ · E[block].
 * The same walk with another choice of ŵ measures other losses, since the identity of ldl.h holds whatever ŵ is: rounding each
 * w_j for itself (what feedback has to beat), and ŵ = 0 (the layer's energy). */
#include "base/err.h"
#include "base/num.h"
#include "compress/feedback_impl.h"
#include "runtime/widths.h"
#include <cblas.h>
#include <math.h>
#include <string.h>

static const float *feed_row(const qn_feedback_walk *k, uint32_t visit)
{
    return k->j->ldl->feed + (uint64_t)visit * k->n;
}

/* T[from … to) += feed[a0 … a1, from … to)ᵀ E[a0 … a1) */
static void spread(const qn_feedback_walk *k, uint32_t e0, uint32_t a0, uint32_t a1, uint32_t from, uint32_t to)
{
    if (!k->j->ldl->feed || a1 == a0 || to == from)
        return;
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (blasint)(to - from), (blasint)k->rows, (blasint)(a1 - a0), 1,
                feed_row(k, a0) + from, (blasint)k->n, k->e + (size_t)(a0 - e0) * k->rows, (blasint)k->rows, 1,
                k->t + (size_t)from * k->rows, (blasint)k->rows);
}

/* The same for one column b, without a call for each: E has few rows here. */
static void gather(const qn_feedback_walk *k, uint32_t e0, uint32_t a0, uint32_t b)
{
    if (!k->j->ldl->feed)
        return;
    float *t = k->t + (size_t)b * k->rows;
    for (uint32_t a = a0; a < b; a++) {
        const float c = feed_row(k, a)[b], *e = k->e + (size_t)(a - e0) * k->rows;
        for (uint32_t i = 0; i < k->rows; i++)
            t[i] += c * e[i];
    }
}

void qn_feedback_round(qn_dtype t, float *v, size_t n)
{
    if (t == QN_BF16)
        for (size_t i = 0; i < n; i++)
            v[i] = qn_bits_f32((uint32_t)qn_bf16_narrow(qn_f32_bits(v[i])) << 16);
    else if (t == QN_F16)
        for (size_t i = 0; i < n; i++)
            v[i] = qn_bits_f32(qn_f16_wide(qn_f16_narrow(qn_f32_bits(v[i]))));
}

static bool quantizes(const qn_feedback_walk *k)
{
    return k->way == QN_FEEDBACK_FED || k->way == QN_FEEDBACK_NEAREST;
}

static qn_code one_column(qn_feedback_walk *k, uint32_t e0, uint32_t v, double *loss, qn_err *err)
{
    const uint32_t j = k->j->ldl->visit[v];
    const float *w = k->w + (size_t)v * k->rows, *t = k->t + (size_t)v * k->rows;
    float *r = k->r + (size_t)v * k->rows, *e = k->e + (size_t)(v - e0) * k->rows;
    if (k->way == QN_FEEDBACK_ZERO)
        memset(r, 0, k->rows * sizeof *r);
    if (quantizes(k)) {
        QN_TRY(k->j->q->ops->column(k->state, j, k->way == QN_FEEDBACK_FED ? t : w, r, err));
        qn_feedback_round(k->j->layer->dtype, r, k->rows);
    }
    double sum = 0;
    for (uint32_t i = 0; i < k->rows; i++) {
        const double d = (double)t[i] - (double)r[i];
        e[i] = w[i] - r[i];
        sum += d * d;
    }
    *loss += sum * (k->j->layer->weight ? k->j->layer->weight[j] : 1.0);
    return QN_OK;
}

/* Visits v0 … v1 of one block: a group, or a part of a group larger than a block. */
static qn_code columns(qn_feedback_walk *k, uint32_t e0, uint32_t v0, uint32_t v1, double *loss, qn_err *err)
{
    for (uint32_t v = v0; v < v1; v++) {
        gather(k, e0, v0, v);
        QN_TRY(one_column(k, e0, v, loss, err));
    }
    return QN_OK;
}

static qn_code announce(qn_feedback_walk *k, uint32_t g, qn_err *err)
{
    const qn_ldl *l = k->j->ldl;
    const uint32_t v = l->begins[g];
    if (!quantizes(k) || !k->j->q->ops->group)
        return QN_OK;
    return k->j->q->ops->group(k->state, l->visit + v, l->begins[g + 1] - v, (k->way == QN_FEEDBACK_FED ? k->t : k->w) + (size_t)v * k->rows,
                               k->rows, err);
}

/* Groups that fit a block are visited several to a block; larger ones several blocks to a group. */
qn_code qn_feedback_run(qn_feedback_walk *k, double *loss, qn_err *err)
{
    const qn_ldl *l = k->j->ldl;
    const uint32_t most = k->j->block ? k->j->block : QN_FEEDBACK_BLOCK;
    *loss = 0;
    memcpy(k->t, k->w, (size_t)k->n * k->rows * sizeof *k->t);
    for (uint32_t g = 0; g < l->n_groups;) {
        const uint32_t v0 = l->begins[g];
        uint32_t end = l->begins[g + 1];
        if (end - v0 > most) {
            QN_TRY(announce(k, g, err));
            for (uint32_t v = v0; v < end; v += most) {
                const uint32_t stop = v + most < end ? v + most : end;
                QN_TRY(columns(k, v, v, stop, loss, err));
                spread(k, v, v, stop, stop, k->n);
            }
            g++;
            continue;
        }
        for (; g < l->n_groups && l->begins[g + 1] - v0 <= most; g++) {
            end = l->begins[g + 1];
            spread(k, v0, v0, l->begins[g], l->begins[g], end);
            QN_TRY(announce(k, g, err));
            QN_TRY(columns(k, v0, l->begins[g], end, loss, err));
        }
        spread(k, v0, v0, end, end, k->n);
    }
    return QN_OK;
}

/* Rows of the tensor ↔ columns by visit, in tiles that stay in the cache. */
static void by_visit(const qn_feedback_walk *k, const float *rows_major, float *to)
{
    enum { T = 32 };
    const uint32_t n = k->n, m = k->rows, *visit = k->j->ldl->visit;
    for (uint32_t v0 = 0; v0 < n; v0 += T)
        for (uint32_t i0 = 0; i0 < m; i0 += T)
            for (uint32_t v = v0; v < n && v < v0 + T; v++)
                for (uint32_t i = i0; i < m && i < i0 + T; i++)
                    to[(size_t)v * m + i] = rows_major[(size_t)i * n + visit[v]];
}

static void by_row(const qn_feedback_walk *k, float *rows_major)
{
    enum { T = 32 };
    const uint32_t n = k->n, m = k->rows, *visit = k->j->ldl->visit;
    for (uint32_t v0 = 0; v0 < n; v0 += T)
        for (uint32_t i0 = 0; i0 < m; i0 += T)
            for (uint32_t v = v0; v < n && v < v0 + T; v++)
                for (uint32_t i = i0; i < m && i < i0 + T; i++)
                    rows_major[(size_t)i * n + visit[v]] = k->r[(size_t)v * m + i];
}

/* One way of quantizing: payload, loss, and the reconstruction in k->r. */
static qn_code attempt(qn_feedback_walk *k, qn_feedback_way way, uint8_t *payload, size_t cap, size_t *n_out, double *loss, qn_arena *scratch,
                       qn_err *err)
{
    const qn_quant_segment s = {.row0 = k->j->row0, .rows = k->rows, .w = k->j->w, .scratch = scratch};
    k->way = way;
    QN_TRY(k->j->q->ops->segment(k->j->q, way == QN_FEEDBACK_FED ? k->j->layer : &k->plain, k->j->plan, &s, &k->state, err));
    QN_TRY(qn_feedback_run(k, loss, err));
    QN_TRY(k->j->q->ops->finish(k->state, payload, cap, n_out, err));
    if (!isfinite(*loss)) /* beyond the dtype's range */
        *n_out = 0;
    return way == QN_FEEDBACK_FED && k->j->sweeps ? qn_feedback_polish(k, payload, cap, n_out, loss, scratch, err) : QN_OK;
}

static void plain_error(const qn_feedback_job *j, const float *recon, qn_feedback_loss *out)
{
    const size_t n = (size_t)j->rows * j->layer->cols;
    double e2 = 0, w2 = 0;
    for (size_t i = 0; i < n; i++) {
        const double w = (double)j->w[i], e = w - (double)recon[i];
        e2 += e * e;
        w2 += w * w;
    }
    out->error = e2;
    out->square = w2;
}

static qn_code segment(qn_feedback_walk *k, float *recon, uint8_t *payload, size_t cap, size_t *n_out, qn_feedback_loss *out,
                       qn_arena *scratch, qn_err *err)
{
    const bool both = k->j->ldl->feed && k->j->compare;
    *out = (qn_feedback_loss){.fed = (double)NAN, .nearest = (double)NAN, .energy = (double)NAN};
    if (k->j->want_energy) {
        k->way = QN_FEEDBACK_ZERO;
        QN_TRY(qn_feedback_run(k, &out->energy, err));
    }
    const qn_arena_mark mark = qn_arena_tell(scratch);
    if (both || !k->j->ldl->feed) {
        QN_TRY(attempt(k, QN_FEEDBACK_NEAREST, payload, cap, n_out, &out->nearest, scratch, err));
        qn_arena_rewind(scratch, mark);
        by_row(k, recon);
        out->loss = out->nearest;
        if (!both)
            return QN_OK;
    }
    size_t n_fed = 0;
    uint8_t *room = both ? qn_arena_get(scratch, cap, 64, err) : payload;
    if (!room)
        return QN_E_MEMORY;
    QN_TRY(attempt(k, QN_FEEDBACK_FED, room, cap, &n_fed, &out->fed, scratch, err));
    out->fell_back = both && *n_out && !(n_fed && out->fed <= out->nearest);
    if (!out->fell_back) {
        if (both)
            memcpy(payload, room, n_fed);
        by_row(k, recon);
        *n_out = n_fed;
        out->loss = out->fed;
    }
    return QN_OK;
}

qn_code qn_feedback_segment(const qn_feedback_job *j, float *recon, uint8_t *payload, size_t cap, size_t *n_out,
                            qn_feedback_loss *loss, qn_arena *scratch, qn_err *err)
{
    const uint32_t n = j->layer->cols, block = j->block ? j->block : QN_FEEDBACK_BLOCK;
    const qn_arena_mark mark = qn_arena_tell(scratch);
    qn_feedback_walk k = {.j = j, .n = n, .rows = j->rows, .plain = *j->layer};
    if (j->ldl->diagonal)
        k.plain.weight = j->ldl->diagonal;
    const uint64_t bytes = (uint64_t)n * j->rows * sizeof(float);
    if (j->ldl->n != n || j->rows == 0)
        return QN_BUG(err, "feedback: %u columns, prepared for %u", n, j->ldl->n);
    k.w = qn_arena_get(scratch, bytes, 64, err);
    k.t = k.w ? qn_arena_get(scratch, bytes, 64, err) : NULL;
    k.r = k.t ? qn_arena_get(scratch, bytes, 64, err) : NULL;
    k.e = k.r ? qn_arena_get(scratch, (uint64_t)(block < n ? block : n) * j->rows * sizeof(float), 64, err) : NULL;
    if (!k.e)
        return QN_E_MEMORY;
    by_visit(&k, j->w, k.w);
    const qn_code rc = segment(&k, recon, payload, cap, n_out, loss, scratch, err);
    if (rc == QN_OK && *n_out)
        plain_error(j, recon, loss);
    qn_arena_rewind(scratch, mark);
    return rc;
}

qn_code qn_feedback_trial(const qn_quantizer *q, const qn_quant_layer *l, const void *plan, void *tally, size_t n_bytes, qn_arena *scratch,
                          qn_err *err)
{
    const qn_arena_mark mark = qn_arena_tell(scratch);
    float *recon = qn_arena_get(scratch, (uint64_t)l->n_sample * l->cols * sizeof *recon, 64, err);
    if (!recon)
        return QN_E_MEMORY;
    size_t n_out = 0;
    qn_feedback_loss loss;
    const qn_feedback_job job = {.q = q, .layer = l, .plan = plan, .ldl = l->ldl, .rows = l->n_sample, .w = l->sample};
    memset(tally, 0, n_bytes);
    const qn_code rc = qn_feedback_segment(&job, recon, tally, n_bytes, &n_out, &loss, scratch, err);
    qn_arena_rewind(scratch, mark);
    return rc;
}

uint64_t qn_feedback_scratch(uint64_t weights, uint32_t cols, bool sweeps)
{
    const uint64_t rows = cols ? qn_ceil_div(weights, cols) : 0, block = qn_min_u64(QN_FEEDBACK_BLOCK, cols) * rows;
    const uint64_t floats = 3 * weights + block + (sweeps ? 2 * weights + 2 * block : 0);
    return floats * sizeof(float) + (sweeps ? weights * sizeof(float) : 0); /* and a second payload */
}
