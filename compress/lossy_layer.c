/* lossy_layer.c: the work on one layer after the other. A layer is prepared when its first chunk is asked for and let go after its last;
 * layers with one input (q, k and v) share one factor. Preparing is done under a lock: others wait, as they mostly need the very same. */
#include "base/err.h"
#include "base/num.h"
#include "compress/lossy_impl.h"
#include "compress/rows.h"
#include "runtime/turn.h"
#include "runtime/widths.h"
#include <math.h>
#include <string.h>

enum { SAMPLE_ROWS = 64 };
#define MERGE_SHARE 0.02

/* --- preparing a layer --------------------------------------------------------------------------------------------- */

/* A place for a factor: an empty one, or the one that was not used for longest when QN_LOSSY_FACTORS are idle. */
static qn_lossy_factor *place(qn_lossy *l)
{
    unsigned idle = 0;
    qn_lossy_factor *oldest = NULL, *empty = NULL;
    for (unsigned i = 0; i < l->n_factors; i++) {
        qn_lossy_factor *f = &l->factors[i];
        if (f->ldl.n == 0) {
            empty = empty ? empty : f;
            continue;
        }
        if (f->n_users)
            continue;
        idle++;
        oldest = !oldest || f->used < oldest->used ? f : oldest;
    }
    if (idle >= QN_LOSSY_FACTORS || !empty) {
        if (oldest)
            qn_ldl_release(&oldest->ldl);
        return oldest;
    }
    return empty;
}

/* src, little-endian units of dtype t → f32 */
static bool widen(qn_dtype t, const uint8_t *src, size_t n, float *dst)
{
    bool finite = true;
    for (size_t i = 0; i < n; i++) {
        const uint32_t u = t == QN_F32 ? qn_load32(src + 4 * i)
                         : t == QN_BF16 ? (uint32_t)qn_load16(src + 2 * i) << 16 : qn_f16_wide(qn_load16(src + 2 * i));
        finite &= (u & 0x7f800000) != 0x7f800000;
        dst[i] = qn_bits_f32(u);
    }
    return finite;
}

static void narrow(qn_dtype t, const float *v, size_t n, uint8_t *dst)
{
    for (size_t i = 0; i < n; i++) {
        const uint32_t u = qn_f32_bits(v[i]);
        if (t == QN_F32)
            qn_store32(dst + 4 * i, u);
        else
            qn_store16(dst + 2 * i, t == QN_BF16 ? qn_bf16_narrow(u) : qn_f16_narrow(u));
    }
}

/* The same rows of a turned matrix: a value of each in every stored row. */
static qn_code read_turned(qn_lossy *l, qn_lossy_layer *y, uint32_t n, float *s, qn_err *err)
{
    const qn_dtype t = y->ql.dtype;
    const unsigned unit = qn_unit_bytes(t);
    const uint64_t row_bytes = (uint64_t)y->rows * unit;
    uint8_t *raw = qn_arena_get(&y->arena, row_bytes, 64, err);
    if (!raw)
        return QN_E_MEMORY;
    for (uint32_t c = 0; c < y->cols; c++) {
        QN_TRY(qn_source_read(l->src, y->object, y->unit0 * unit + c * row_bytes, row_bytes, raw, err));
        for (uint32_t i = 0; i < n; i++)
            (void)widen(t, raw + (uint64_t)i * y->rows / n * unit, 1, s + (size_t)i * y->cols + c);
    }
    return QN_OK;
}

static qn_code read_rows(qn_lossy *l, qn_lossy_layer *y, uint32_t n, float *s, qn_err *err)
{
    const qn_dtype t = y->ql.dtype;
    const unsigned unit = qn_unit_bytes(t);
    const uint64_t row_bytes = (uint64_t)y->cols * unit;
    uint8_t *raw = qn_arena_get(&y->arena, row_bytes, 64, err);
    if (!raw)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t row = (uint64_t)i * y->rows / n;
        QN_TRY(qn_source_read(l->src, y->object, y->unit0 * unit + row * row_bytes, row_bytes, raw, err));
        (void)widen(t, raw, y->cols, s + (size_t)i * y->cols);
    }
    return QN_OK;
}

/* Rows from all over the layer; values that are not finite count as zero. */
static qn_code read_sample(qn_lossy *l, qn_lossy_layer *y, qn_err *err)
{
    const uint32_t wanted = (uint32_t)qn_max_u64(SAMPLE_ROWS, qn_ceil_div(y->q->sample_weights, y->cols)), n = y->rows < wanted ? y->rows : wanted;
    const size_t n_values = (size_t)n * y->cols;
    float *s = qn_arena_get(&y->arena, n_values * sizeof *s, 64, err);
    if (!s)
        return QN_E_MEMORY;
    QN_TRY((y->pick.view.turned ? read_turned : read_rows)(l, y, n, s, err));
    for (size_t i = 0; i < n_values; i++)
        s[i] = isfinite(s[i]) ? s[i] : 0;
    y->ql.sample = s;
    y->ql.n_sample = n;
    return QN_OK;
}

/* A matrix that is a head and an embedding too is looked up row by row as well, where every column counts alike. The sum of both
 * relative errors, tr(E H Eᵀ) / tr(W H Wᵀ) + |E|² / |W|², is the head's with tr(W H Wᵀ) / |W|² more on the diagonal of H. Gives
 * that over the diagonal's mean, from the sample. */
static double damping_of_tied(const qn_lossy_layer *y, const double *h, const double *diagonal)
{
    const uint32_t n = y->cols;
    double energy = 0, square = 0, trace = 0;
    for (uint32_t i = 0; i < y->ql.n_sample; i++) {
        const float *w = y->ql.sample + (size_t)i * n;
        for (uint32_t a = 0; a < n; a++) {
            double sum = h ? 0 : diagonal[a] * (double)w[a];
            for (uint32_t b = 0; h && b < n; b++)
                sum += h[(size_t)a * n + b] * (double)w[b];
            energy += sum * (double)w[a];
            square += (double)w[a] * (double)w[a];
        }
    }
    for (uint32_t a = 0; a < n; a++)
        trace += h ? h[(size_t)a * n + a] : diagonal[a];
    const double d = energy / square / (trace / n);
    return isfinite(d) && d > 0 ? d : 0;
}

static qn_code make_factor(qn_lossy *l, qn_lossy_layer *y, qn_ldl *ldl, uint32_t group, qn_ldl_order order, qn_err *err)
{
    double *h = NULL, *diagonal = NULL, damping = l->r->damping;
    qn_code rc = QN_OK;
    if (y->by_readers) {
        damping = fmax(damping, QN_LOSSY_READERS_DAMPING);
        rc = qn_lossy_readers_moment(l, y, &h, &diagonal, err);
    } else if (y->item) {
        rc = qn_lossy_moment(l, y, &h, &diagonal, err);
    }
    if (rc == QN_OK && y->pick.tied && (h || diagonal))
        damping = fmax(damping, damping_of_tied(y, h, diagonal));
    if (rc == QN_OK)
        rc = qn_ldl_take(ldl, l->env->alloc, y->cols, h, diagonal, group, order, damping, err);
    else
        qn_mem_put(l->env->alloc, h);
    qn_mem_put(l->env->alloc, diagonal);
    return rc;
}

static qn_code get_factor(qn_lossy *l, qn_lossy_layer *y, qn_err *err)
{
    const uint32_t input = y->item ? y->item->input : UINT32_MAX;
    const uint32_t group = y->q->group_cols && y->q->group_cols < y->cols ? y->q->group_cols : y->cols;
    const qn_ldl_order order = y->q->order_free ? QN_ORDER_NATURAL : l->r->order;
    const bool own = y->pick.tied || y->by_readers;
    for (unsigned i = 0; i < l->n_factors && !own; i++) {
        qn_lossy_factor *f = &l->factors[i];
        if (f->ldl.n == y->cols && f->input == input && f->col0 == y->col0 && f->group == group && f->order == order && !f->own) {
            y->factor = f;
            f->n_users++;
            return QN_OK;
        }
    }
    qn_lossy_factor *f = place(l);
    if (!f)
        return QN_BUG(err, "lossy: more than %u layers at a time", l->n_factors);
    QN_TRY(make_factor(l, y, &f->ldl, group, order, err));
    f->input = input;
    f->group = group;
    f->col0 = y->col0;
    f->order = order;
    f->own = own;
    f->n_users = 1;
    y->factor = f;
    return QN_OK;
}

static qn_code prepare(qn_lossy *l, qn_lossy_layer *y, qn_err *err)
{
    y->ql = (qn_quant_layer){.name = y->name, .rows = y->rows, .cols = y->cols,
                             .dtype = (qn_dtype)l->src->objects[y->object].dtype, .segment_rows = y->chunk_rows};
    QN_TRY(read_sample(l, y, err));
    QN_TRY(get_factor(l, y, err));
    if (y->set.sweeps)
        QN_TRY(qn_ldl_moment(&y->factor->ldl, err));
    const qn_ldl *d = &y->factor->ldl;
    y->kind = d->kind;
    y->damping = d->damping;
    y->spread = d->spread;
    y->n_dead = d->n_dead;
    y->unevenness = qn_ldl_unevenness(d);
    y->ql.weight = d->weight;
    y->ql.ldl = d;
    return y->q->ops->begin(y->q, &y->ql, &y->arena, &y->plan, err);
}

static void let_go(qn_lossy *l, qn_lossy_layer *y)
{
    if (!y->ready)
        return;
    if (y->factor) {
        y->factor->n_users--;
        y->factor->used = ++l->clock;
    }
    y->factor = NULL;
    qn_arena_release(&y->arena);
    y->ready = false;
}

/* Layers that were not asked for all of their chunks: some were done by an earlier run, or a sample is taken. Chunks come in order,
 * or nearly so: a layer that is let go too early is only prepared again. */
static void let_earlier_go(qn_lossy *l, const qn_lossy_layer *y)
{
    for (qn_lossy_layer *x = l->layers; x < y; x++)
        if (x->ready && x->n_in == 0)
            let_go(l, x);
}

static qn_code enter(qn_lossy *l, qn_lossy_layer *y, qn_err *err)
{
    qn_code rc = QN_OK;
    pthread_mutex_lock(&l->lock);
    if (!y->ready) {
        let_earlier_go(l, y);
        qn_arena_init(&y->arena, l->env->alloc);
        y->ready = true;
        rc = prepare(l, y, err);
        if (rc != QN_OK)
            let_go(l, y);
    }
    if (rc == QN_OK) {
        y->n_in++;
        y->n_left -= y->n_left > 0;
    }
    pthread_mutex_unlock(&l->lock);
    return rc;
}

static void leave(qn_lossy *l, qn_lossy_layer *y)
{
    pthread_mutex_lock(&l->lock);
    if (--y->n_in == 0 && y->n_left == 0)
        let_go(l, y);
    pthread_mutex_unlock(&l->lock);
}

/* --- a chunk ------------------------------------------------------------------------------------------------------- */

/* Whole rows of a chunk through the engine. *n_out = 0: the codec does not fit. */
static qn_code run_engine(qn_lossy_layer *y, uint64_t chunk, const uint8_t *raw, uint32_t rows, uint8_t *decoded, uint8_t *payload,
                          size_t cap, size_t *n_out, qn_arena *scratch, qn_err *err)
{
    const size_t n = (size_t)rows * y->cols;
    float *w = qn_arena_get(scratch, n * sizeof *w, 64, err);
    float *recon = w ? qn_arena_get(scratch, n * sizeof *recon, 64, err) : NULL;
    *n_out = 0;
    if (!recon)
        return QN_E_MEMORY;
    y->state[chunk] = 2;
    if (!widen(y->ql.dtype, raw, n, w))
        return QN_OK;
    const qn_feedback_job job = {.q = y->q, .layer = &y->ql, .plan = y->plan, .ldl = &y->factor->ldl,
                                 .row0 = (uint32_t)(chunk * y->chunk_rows), .rows = rows, .w = w,
                                 .compare = !y->q->costly, .want_energy = true, .sweeps = y->set.sweeps};
    QN_TRY(qn_feedback_segment(&job, recon, payload, cap, n_out, &y->loss[chunk], scratch, err));
    if (*n_out) {
        narrow(y->ql.dtype, recon, n, decoded);
        y->state[chunk] = 1;
    }
    return QN_OK;
}

/* Rows that are equal, as those of words that no text has, are approximated once: a payload of ROWS. */
static qn_code quantize_unique(qn_lossy_layer *y, uint64_t chunk, const uint8_t *raw, const qn_rows *m, uint8_t *decoded, uint8_t *payload,
                               size_t cap, size_t *n_out, qn_arena *scratch, qn_err *err)
{
    const size_t row_bytes = (size_t)y->cols * qn_unit_bytes(y->ql.dtype), n_bytes = m->n_unique * row_bytes;
    const qn_enc_ctx cx = {.ekern = &y->q->ekern, .kern = &y->q->kern, .scratch = scratch, .level = QN_LEVEL_DENSE};
    uint8_t *rows = qn_arena_get(scratch, n_bytes, 64, err), *back = rows ? qn_arena_get(scratch, n_bytes, 64, err) : NULL;
    uint8_t *inner = back ? qn_arena_get(scratch, cap, 64, err) : NULL;
    size_t n_inner = 0;
    *n_out = 0;
    if (!inner)
        return QN_E_MEMORY;
    for (uint32_t u = 0; u < m->n_unique; u++)
        memcpy(rows + u * row_bytes, raw + m->first[u] * row_bytes, row_bytes);
    QN_TRY(run_engine(y, chunk, rows, m->n_unique, back, inner, cap, &n_inner, scratch, err));
    if (!n_inner)
        return QN_OK;
    qn_sink s = qn_sink_over(payload, cap);
    QN_TRY(qn_rows_put_map(&cx, &s, m, err));
    qn_sink_u8(&s, y->q->codec);
    qn_sink_varint(&s, n_inner);
    qn_sink_put(&s, inner, n_inner);
    *n_out = s.full ? 0 : s.n;
    y->state[chunk] = s.full ? 2 : 1;
    for (uint32_t r = 0; r < m->n_rows; r++)
        memcpy(decoded + r * row_bytes, back + m->map[r] * row_bytes, row_bytes);
    return QN_OK;
}

static bool worth_merging(const qn_rows *m)
{
    return m->n_unique <= m->n_rows - m->n_rows / 32 && m->n_unique < m->n_rows;
}

/* Words have rows in heads and embeddings, and many words that no text has had are nearly the same: what merging them costs is a small share
 * of the error that so many bits leave, 2^(−2 bits) at best. */
static qn_code match_rows(const qn_lossy_layer *y, const uint8_t *raw, uint32_t rows, qn_rows *m, qn_arena *scratch, qn_err *err)
{
    const size_t row_bytes = (size_t)y->cols * qn_unit_bytes(y->ql.dtype), n = (size_t)rows * y->cols;
    QN_TRY(qn_rows_match(m, raw, rows, row_bytes, scratch, err));
    if (y->pick.role == QN_ROLE_LINEAR || worth_merging(m))
        return QN_OK;
    const qn_arena_mark mark = qn_arena_tell(scratch);
    float *w = qn_arena_get(scratch, n * sizeof *w, 64, err);
    if (!w)
        return QN_E_MEMORY;
    if (widen(y->ql.dtype, raw, n, w))
        return qn_rows_near(m, w, rows, y->cols, MERGE_SHARE * exp2(-2 * y->set.bits), scratch, err);
    qn_arena_rewind(scratch, mark);
    return QN_OK;
}

static qn_code quantize(qn_lossy_layer *y, uint64_t chunk, const uint8_t *raw, uint64_t n_bytes, uint8_t *decoded, uint8_t *payload,
                        size_t cap, unsigned *codec, size_t *n_out, qn_arena *scratch, qn_err *err)
{
    const size_t row_bytes = (size_t)y->cols * qn_unit_bytes(y->ql.dtype);
    const uint32_t rows = (uint32_t)(n_bytes / row_bytes);
    qn_rows m;
    QN_TRY(match_rows(y, raw, rows, &m, scratch, err));
    *codec = y->q->codec;
    if (!worth_merging(&m))
        return run_engine(y, chunk, raw, rows, decoded, payload, cap, n_out, scratch, err);
    *codec = QN_CODEC_ROWS;
    return quantize_unique(y, chunk, raw, &m, decoded, payload, cap, n_out, scratch, err);
}

/* The chunk as the file has it: TURN around what `quantize` makes, when a decoder does not know the matrix's rows. */
static qn_code quantize_view(qn_lossy *l, qn_lossy_layer *y, uint64_t chunk, const uint8_t *raw, uint64_t n_bytes, uint8_t *decoded,
                             uint8_t *payload, size_t cap, unsigned *codec, size_t *n_out, qn_arena *scratch, qn_err *err)
{
    const bool turned = y->pick.view.turned;
    const unsigned unit = qn_unit_bytes(y->ql.dtype);
    uint8_t *matrix = NULL, *back = decoded;
    *n_out = 0;
    if (qn_lossy_is_plain(y, &l->src->objects[y->object], n_bytes / unit))
        return quantize(y, chunk, raw, n_bytes, decoded, payload, cap, codec, n_out, scratch, err);
    if (cap <= QN_LOSSY_WRAP_BYTES)
        return QN_OK;
    if (turned) {
        matrix = qn_arena_get(scratch, n_bytes, 64, err);
        back = matrix ? qn_arena_get(scratch, n_bytes, 64, err) : NULL;
        if (!back)
            return QN_E_MEMORY;
        qn_turn(unit, raw, y->cols, y->rows, matrix);
    }
    QN_TRY(quantize(y, chunk, turned ? matrix : raw, n_bytes, back, payload + QN_LOSSY_WRAP_BYTES, cap - QN_LOSSY_WRAP_BYTES, codec, n_out,
                    scratch, err));
    if (!*n_out)
        return QN_OK;
    *n_out = qn_lossy_wrap(y, *codec, payload, *n_out);
    *codec = QN_CODEC_TURN;
    if (turned)
        qn_turn(unit, back, y->rows, y->cols, decoded);
    return QN_OK;
}

qn_code qn_lossy_chunk(qn_lossy *l, uint64_t object, uint64_t chunk, const uint8_t *raw, uint64_t n_bytes, uint8_t *decoded,
                       uint8_t *payload, size_t cap, unsigned *codec, size_t *n_out, qn_arena *scratch, qn_err *err)
{
    qn_lossy_layer *first = &l->layers[l->layer_of[object] - 1], *y = first + chunk / first->n_segments;
    const qn_arena_mark mark = qn_arena_tell(scratch);
    chunk %= first->n_segments;
    QN_TRY(enter(l, y, err));
    const qn_code rc = quantize_view(l, y, chunk, raw, n_bytes, decoded, payload, cap, codec, n_out, scratch, err);
    leave(l, y);
    qn_arena_rewind(scratch, mark);
    return rc;
}

void qn_lossy_layers_close(qn_lossy *l)
{
    for (uint64_t i = 0; i < l->n_layers; i++)
        if (l->layers[i].ready)
            qn_arena_release(&l->layers[i].arena);
    for (unsigned i = 0; i < l->n_factors; i++)
        qn_ldl_release(&l->factors[i].ldl);
    for (unsigned i = 0; i < QN_LOSSY_MEANS; i++)
        qn_mem_put(l->env->alloc, l->means[i].sum);
}
