/* lm_attention.c: causal (or full) attention over a ragged batch, heads shared in groups (Vaswani et al. 2017; Ainslie et al. 2023),
 * with a running softmax over tiles of keys (Milakov and Gimelshein 2018), so that no T × T scores are ever held.
 *
 * A part of the work is (sequence, tile of queries, head); its scratch is one tile of scores. Tiles begin at the sequence's start: a
 * sequence gives the same bits alone and in company. */
#include "analysis/exec/lm_parts.h"
#include "analysis/exec/vmath.h"
#include "base/err.h"
#include "base/num.h"
#include <cblas.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { TILE_Q = 64, TILE_K = 512 };

struct attention {
    qn_lm_attention set;
    float *y, *scratch; /* scratch: per slot slot_size scores: a tile, or less where all sequences are shorter */
    int64_t *first_tile; /* per sequence: how many tiles of queries come before */
    uint64_t slot_size;
};

/* Running state of a row of queries: largest score so far, sum of e^(score − largest). */
struct row {
    float most, sum;
};

static float sum_lanes(const float *p, uint64_t n)
{
    float s[8] = {0};
    uint64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (unsigned k = 0; k < 8; k++)
            s[k] += p[i + k];
    for (; i < n; i++)
        s[i & 7] += p[i];
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

/* Scores of one query against keys [k0, k0 + n), of which [low, high) count → weights in place, zero elsewhere. Returns the factor
 * by which what was summed before shrinks. */
static float softmax_row(const qn_lm_attention *a, struct row *r, float *s, uint64_t query, uint64_t k0, uint64_t n, uint64_t low,
                         uint64_t high, float slope)
{
    low = low > k0 ? low - k0 : 0;
    high = high < k0 + n ? (high > k0 ? high - k0 : 0) : n;
    if (low >= high) {
        memset(s, 0, n * sizeof *s);
        return 1;
    }
    if (a->softcap > 0) {
        const float inverse = 1.0f / a->softcap;
        for (uint64_t i = low; i < high; i++)
            s[i] = a->softcap * qn_vtanh(s[i] * inverse);
    }
    if (slope != 0)
        for (uint64_t i = low; i < high; i++)
            s[i] -= slope * (float)((int64_t)query - (int64_t)(k0 + i));
    float most = r->most;
    for (uint64_t i = low; i < high; i++)
        most = s[i] > most ? s[i] : most;
    const float shrink = qn_vexp(r->most - most);
    memset(s, 0, low * sizeof *s);
    for (uint64_t i = low; i < high; i++)
        s[i] = qn_vexp(s[i] - most);
    memset(s + high, 0, (n - high) * sizeof *s);
    r->sum = r->sum * shrink + sum_lanes(s + low, high - low);
    r->most = most;
    return shrink;
}

static void scale_row(float *y, uint64_t n, float by)
{
    for (uint64_t i = 0; i < n; i++)
        y[i] *= by;
}

static qn_code attend_tile(void *ctx, uint64_t part, unsigned slot, qn_err *err)
{
    (void)err;
    const struct attention *const w = ctx;
    const qn_lm_attention *const a = &w->set;
    const uint64_t head = part % a->heads, tile = part / a->heads;
    uint64_t low = 0, high = a->n_seq;
    while (high - low > 1) {
        const uint64_t mid = low + (high - low) / 2;
        if ((uint64_t)w->first_tile[mid] <= tile)
            low = mid;
        else
            high = mid;
    }
    const uint64_t begin = (uint64_t)a->starts[low], len = (uint64_t)a->starts[low + 1] - begin;
    const uint64_t q0 = (tile - (uint64_t)w->first_tile[low]) * TILE_Q, n_q = qn_min_u64(TILE_Q, len - q0);
    const uint64_t kv = head / (a->heads / a->kv_heads);
    const uint64_t q_ld = a->heads * a->head_dim, k_ld = a->kv_heads * a->head_dim, v_ld = a->kv_heads * a->v_dim, y_ld = a->heads * a->v_dim;
    const float *q = a->q + (begin + q0) * q_ld + head * a->head_dim, *k = a->k + begin * k_ld + kv * a->head_dim;
    const float *v = a->v + begin * v_ld + kv * a->v_dim;
    float *y = w->y + (begin + q0) * y_ld + head * a->v_dim, *scores = w->scratch + slot * w->slot_size;
    const float slope = a->slopes ? a->slopes[head] : 0;
    struct row rows[TILE_Q];
    for (uint64_t i = 0; i < n_q; i++)
        rows[i] = (struct row){-INFINITY, 0};
    const uint64_t last = a->causal ? q0 + n_q : len;
    const uint64_t k_first = a->window && q0 + 1 > a->window ? q0 + 1 - a->window : 0;
    for (uint64_t k0 = k_first; k0 < last; k0 += TILE_K) {
        const uint64_t n_k = qn_min_u64(TILE_K, last - k0);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)n_q, (int)n_k, (int)a->head_dim, a->scale, q, (int)q_ld, k + k0 * k_ld,
                    (int)k_ld, 0, scores, (int)n_k);
        for (uint64_t i = 0; i < n_q; i++) {
            const uint64_t at = q0 + i, from = a->window && at + 1 > a->window ? at + 1 - a->window : 0;
            const float shrink = softmax_row(a, &rows[i], scores + i * n_k, at, k0, n_k, from, a->causal ? at + 1 : len, slope);
            if (k0 != k_first && shrink != 1)
                scale_row(y + i * y_ld, a->v_dim, shrink);
        }
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)n_q, (int)a->v_dim, (int)n_k, 1, scores, (int)n_k, v + k0 * v_ld, (int)v_ld,
                    k0 == k_first ? 0 : 1, y, (int)y_ld);
    }
    for (uint64_t i = 0; i < n_q; i++)
        scale_row(y + i * y_ld, a->v_dim, 1.0f / rows[i].sum);
    return QN_OK;
}

static qn_code parse(const qn_node *n, qn_lm_attention *a, qn_err *err)
{
    QN_TRY(qn_lm_size(n, "heads", 0, &a->heads, err));
    QN_TRY(qn_lm_size(n, "kv_heads", a->heads, &a->kv_heads, err));
    QN_TRY(qn_lm_size(n, "head_dim", 0, &a->head_dim, err));
    QN_TRY(qn_lm_size(n, "v_head_dim", a->head_dim, &a->v_dim, err));
    if (a->heads % a->kv_heads)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRIu64 " heads cannot share %" PRIu64 " key heads", a->heads, a->kv_heads);
    if (a->heads * a->head_dim > 1 << 24 || a->heads * a->v_dim > 1 << 24)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%" PRIu64 " heads of %" PRIu64 ": at most %d values a token are supported", a->heads,
                       a->head_dim, 1 << 24);
    const int64_t window = qn_node_int(n, "window", 0);
    if (window < 0)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "window is %" PRId64, window);
    a->window = (uint64_t)window;
    a->scale = (float)qn_node_float(n, "scale", 1.0 / sqrt((double)a->head_dim));
    a->softcap = (float)qn_node_float(n, "softcap", 0);
    a->causal = qn_node_int(n, "causal", 1) != 0;
    if (a->window && !a->causal)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "a window without causal");
    return QN_OK;
}

qn_code qn_attention_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    qn_lm_attention a = {0};
    QN_TRY(parse(n, &a, err));
    const uint64_t cols[3] = {a.heads * a.head_dim, a.kv_heads * a.head_dim, a.kv_heads * a.v_dim};
    for (unsigned i = 0; i < 3; i++)
        if (in[i].rank == 2 && in[i].dims[1] != QN_DIM_UNKNOWN && (uint64_t)in[i].dims[1] != cols[i])
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%c has rows of %" PRId64 " values: %" PRIu64 " are expected", "qkv"[i], in[i].dims[1],
                           cols[i]);
    qn_lm_like(&in[0], out);
    if (in[0].rank == 2)
        out->dims[1] = (int64_t)(a.heads * a.v_dim);
    return QN_OK;
}

qn_code qn_lm_attention_get(const qn_node *n, const qn_array *in, qn_lm_attention *a, qn_err *err)
{
    *a = (qn_lm_attention){.q = in[0].data, .k = in[1].data, .v = in[2].data, .starts = in[3].data};
    QN_TRY(parse(n, a, err));
    const uint64_t rows = in[0].rank ? (uint64_t)in[0].dims[0] : 0;
    QN_TRY(qn_lm_matrix(&in[0], "q", a->heads * a->head_dim, err));
    QN_TRY(qn_lm_matrix(&in[1], "k", a->kv_heads * a->head_dim, err));
    QN_TRY(qn_lm_matrix(&in[2], "v", a->kv_heads * a->v_dim, err));
    if ((uint64_t)in[1].dims[0] != rows || (uint64_t)in[2].dims[0] != rows)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "q, k and v have %" PRIu64 ", %" PRId64 " and %" PRId64 " rows", rows, in[1].dims[0],
                       in[2].dims[0]);
    QN_TRY(qn_lm_starts(&in[3], rows, err));
    if (n->n_in > 4 && in[4].dtype != QN_BYTES) {
        if (in[4].dtype != QN_F32 || in[4].n != a->heads)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "slopes: f32 (%" PRIu64 ") is expected", a->heads);
        a->slopes = in[4].data;
    }
    a->n_seq = in[3].n - 1;
    return QN_OK;
}

uint64_t qn_lm_attention_longest(const qn_lm_attention *a)
{
    uint64_t most = 1;
    for (uint64_t s = 0; s < a->n_seq; s++)
        most = qn_max_u64(most, (uint64_t)(a->starts[s + 1] - a->starts[s]));
    return most;
}

/* Per sequence the tiles before it → w->first_tile, in all → *n; *pairs: queries × keys, roughly. */
static void count_tiles(struct attention *w, uint64_t *n, uint64_t *pairs)
{
    const qn_lm_attention *const a = &w->set;
    *n = *pairs = 0;
    for (uint64_t s = 0; s < a->n_seq; s++) {
        const uint64_t len = (uint64_t)(a->starts[s + 1] - a->starts[s]);
        w->first_tile[s] = (int64_t)*n;
        *n += qn_ceil_div(len, TILE_Q);
        *pairs += len * (a->window ? qn_min_u64(len, a->window) : len);
    }
    w->first_tile[a->n_seq] = (int64_t)*n;
}

qn_code qn_attention_forward(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    struct attention a = {0};
    QN_TRY(qn_lm_attention_get(n, in, &a.set, err));
    const qn_lm_attention *const set = &a.set;
    qn_array scratch = {0}, tiles = {0};
    const int64_t tile_dims[1] = {(int64_t)set->n_seq + 1}, dims[2] = {in[0].dims[0], (int64_t)(set->heads * set->v_dim)};
    a.slot_size = qn_min_u64(TILE_Q, qn_lm_attention_longest(set)) * qn_min_u64(TILE_K, qn_lm_attention_longest(set));
    const int64_t scratch_dims[2] = {(int64_t)qn_exec_env(x)->n_threads, (int64_t)a.slot_size};
    qn_code rc = qn_exec_new(x, &tiles, QN_I64, tile_dims, 1, err);
    if (rc == QN_OK)
        rc = qn_exec_new(x, &scratch, QN_F32, scratch_dims, 2, err);
    if (rc == QN_OK)
        rc = qn_exec_new(x, out, QN_F32, dims, 2, err);
    if (rc == QN_OK) {
        uint64_t n_tiles, pairs;
        a.first_tile = tiles.data;
        a.scratch = scratch.data;
        a.y = out->data;
        count_tiles(&a, &n_tiles, &pairs);
        rc = qn_exec_parts(x, n_tiles * set->heads, pairs * set->heads * (set->head_dim + set->v_dim), attend_tile, &a, err);
    }
    if (rc != QN_OK)
        qn_array_release(out);
    qn_array_release(&scratch);
    qn_array_release(&tiles);
    return rc;
}
