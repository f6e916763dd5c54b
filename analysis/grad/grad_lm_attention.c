/* grad_lm_attention.c: derivative of Attention. The probabilities are not kept: per tile of queries a first pass over the keys finds each row's largest score
 * and sum, a second computes P = softmax(S) again, tile by tile (Dao et al. 2022, appendix B.2):
 *     dV += Pᵀ dY;  dP = dY Vᵀ;  dS = P · (dP − Σ_c dY · Y);  dQ += scale · dS K;  dK += scale · dSᵀ Q
 * and where scores are capped, s = cap · tanh(r / cap): dr = dS · (1 − (s / cap)²).
 *
 * A part of the work is (sequence, key head): it alone writes the rows of dK and dV of that head, query heads one after the other, so that sums have one order. */
#include "analysis/exec/lm_parts.h"
#include "analysis/exec/vmath.h"
#include "analysis/grad/backs.h"
#include "base/err.h"
#include "base/num.h"
#include <cblas.h>
#include <math.h>
#include <string.h>

enum { TILE_Q = 64, TILE_K = 512 };

struct attention {
    qn_lm_attention set;
    const float *y, *dy;
    float *dq, *dk, *dv; /* NULL: not wanted                        */
    float *scratch;      /* per slot two tiles of tile_size scores   */
    uint64_t tile_size;
};

/* A tile of queries of one head. */
struct block {
    const float *q, *k, *v, *y, *dy;
    float *dq, *dk, *dv;
    float *s, *ds;       /* (n_q, n_k) */
    uint64_t q0, n_q, len, first, last;
    uint64_t q_ld, k_ld, v_ld, y_ld;
    float slope;
    float most[TILE_Q], sum[TILE_Q], dot[TILE_Q];
};

/* Scores of query i of the block with keys [k0, k0 + n) that count: → [*low, *high), capped and sloped in place. */
static void score_row(const qn_lm_attention *a, const struct block *b, uint64_t i, uint64_t k0, uint64_t n, float *s, uint64_t *low, uint64_t *high)
{
    const uint64_t at = b->q0 + i, from = a->window && at + 1 > a->window ? at + 1 - a->window : 0, to = a->causal ? at + 1 : b->len;
    *low = from > k0 ? qn_min_u64(from - k0, n) : 0;
    *high = to > k0 ? qn_min_u64(to - k0, n) : 0;
    if (*low >= *high) {
        *low = *high = 0;
        return;
    }
    if (a->softcap > 0) {
        const float inverse = 1.0f / a->softcap;
        for (uint64_t j = *low; j < *high; j++)
            s[j] = a->softcap * qn_vtanh(s[j] * inverse);
    }
    if (b->slope != 0)
        for (uint64_t j = *low; j < *high; j++)
            s[j] -= b->slope * (float)((int64_t)at - (int64_t)(k0 + j));
}

static void scores(const qn_lm_attention *a, const struct block *b, uint64_t k0, uint64_t n_k)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)b->n_q, (int)n_k, (int)a->head_dim, a->scale, b->q, (int)b->q_ld, b->k + k0 * b->k_ld,
                (int)b->k_ld, 0, b->s, (int)n_k);
}

/* Largest score and sum of each query; dot: Σ dY · Y. */
static void measure(const qn_lm_attention *a, struct block *b)
{
    for (uint64_t i = 0; i < b->n_q; i++) {
        double dot = 0;
        for (uint64_t c = 0; c < a->v_dim; c++)
            dot += (double)b->dy[i * b->y_ld + c] * (double)b->y[i * b->y_ld + c];
        b->dot[i] = (float)dot;
        b->most[i] = -INFINITY;
        b->sum[i] = 0;
    }
    for (uint64_t k0 = b->first; k0 < b->last; k0 += TILE_K) {
        const uint64_t n_k = qn_min_u64(TILE_K, b->last - k0);
        scores(a, b, k0, n_k);
        for (uint64_t i = 0; i < b->n_q; i++) {
            uint64_t low, high;
            float *s = b->s + i * n_k, most = b->most[i];
            score_row(a, b, i, k0, n_k, s, &low, &high);
            for (uint64_t j = low; j < high; j++)
                most = s[j] > most ? s[j] : most;
            if (low == high)
                continue;
            double sum = 0;
            for (uint64_t j = low; j < high; j++)
                sum += (double)qn_vexp(s[j] - most);
            b->sum[i] = b->sum[i] * qn_vexp(b->most[i] - most) + (float)sum;
            b->most[i] = most;
        }
    }
}

/* P → b->s, scale · dS by raw scores → b->ds, for the keys of a tile; 0 where a key does not count. */
static void probabilities(const qn_lm_attention *a, struct block *b, uint64_t k0, uint64_t n_k)
{
    const float inverse = a->softcap > 0 ? 1.0f / a->softcap : 0;
    for (uint64_t i = 0; i < b->n_q; i++) {
        uint64_t low, high;
        float *s = b->s + i * n_k, *ds = b->ds + i * n_k;
        score_row(a, b, i, k0, n_k, s, &low, &high);
        const float over = 1.0f / b->sum[i];
        for (uint64_t j = low; j < high; j++) {
            const float p = qn_vexp(s[j] - b->most[i]) * over;
            float d = p * (ds[j] - b->dot[i]);
            if (a->softcap > 0) {
                const float t = (s[j] + b->slope * (float)((int64_t)(b->q0 + i) - (int64_t)(k0 + j))) * inverse;
                d *= 1.0f - t * t;
            }
            s[j] = p;
            ds[j] = a->scale * d;
        }
        memset(s, 0, low * sizeof *s);
        memset(ds, 0, low * sizeof *ds);
        memset(s + high, 0, (n_k - high) * sizeof *s);
        memset(ds + high, 0, (n_k - high) * sizeof *ds);
    }
}

static void back_block(const qn_lm_attention *a, struct block *b)
{
    measure(a, b);
    for (uint64_t k0 = b->first; k0 < b->last; k0 += TILE_K) {
        const uint64_t n_k = qn_min_u64(TILE_K, b->last - k0);
        const int nq = (int)b->n_q, nk = (int)n_k;
        scores(a, b, k0, n_k);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, nq, nk, (int)a->v_dim, 1, b->dy, (int)b->y_ld, b->v + k0 * b->v_ld, (int)b->v_ld, 0, b->ds,
                    nk);
        probabilities(a, b, k0, n_k);
        if (b->dv)
            cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, nk, (int)a->v_dim, nq, 1, b->s, nk, b->dy, (int)b->y_ld, 1, b->dv + k0 * b->v_ld,
                        (int)b->v_ld);
        if (b->dq)
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, nq, (int)a->head_dim, nk, 1, b->ds, nk, b->k + k0 * b->k_ld, (int)b->k_ld, 1, b->dq,
                        (int)b->q_ld);
        if (b->dk)
            cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, nk, (int)a->head_dim, nq, 1, b->ds, nk, b->q, (int)b->q_ld, 1, b->dk + k0 * b->k_ld,
                        (int)b->k_ld);
    }
}

static qn_code back_part(void *ctx, uint64_t part, unsigned slot, qn_err *err)
{
    (void)err;
    const struct attention *const w = ctx;
    const qn_lm_attention *const a = &w->set;
    const uint64_t seq = part / a->kv_heads, kv = part % a->kv_heads, share = a->heads / a->kv_heads;
    const uint64_t begin = (uint64_t)a->starts[seq], len = (uint64_t)a->starts[seq + 1] - begin;
    const uint64_t q_ld = a->heads * a->head_dim, k_ld = a->kv_heads * a->head_dim, v_ld = a->kv_heads * a->v_dim, y_ld = a->heads * a->v_dim;
    const uint64_t k_at = begin * k_ld + kv * a->head_dim, v_at = begin * v_ld + kv * a->v_dim;
    struct block b = {.k = a->k + k_at, .v = a->v + v_at, .dk = w->dk ? w->dk + k_at : NULL, .dv = w->dv ? w->dv + v_at : NULL, .len = len,
                      .q_ld = q_ld, .k_ld = k_ld, .v_ld = v_ld, .y_ld = y_ld, .s = w->scratch + 2 * slot * w->tile_size};
    b.ds = b.s + w->tile_size;
    for (uint64_t head = kv * share; head < (kv + 1) * share; head++)
        for (b.q0 = 0; b.q0 < len; b.q0 += TILE_Q) {
            const uint64_t q_at = (begin + b.q0) * q_ld + head * a->head_dim, y_at = (begin + b.q0) * y_ld + head * a->v_dim;
            b.n_q = qn_min_u64(TILE_Q, len - b.q0);
            b.first = a->window && b.q0 + 1 > a->window ? b.q0 + 1 - a->window : 0;
            b.last = a->causal ? b.q0 + b.n_q : len;
            b.q = a->q + q_at;
            b.dq = w->dq ? w->dq + q_at : NULL;
            b.y = w->y + y_at;
            b.dy = w->dy + y_at;
            b.slope = a->slopes ? a->slopes[head] : 0;
            back_block(a, &b);
        }
    return QN_OK;
}

qn_code qn_back_lm_attention(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want,
                             qn_array *d_in, qn_err *err)
{
    struct attention w = {.y = out[0].data, .dy = d_out[0].data};
    const qn_lm_attention *const a = &w.set;
    QN_TRY(qn_lm_attention_get(n, in, &w.set, err));
    if (n->n_in > 4 && want[4])
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "slopes have no derivative here");
    float **const d[3] = {&w.dq, &w.dk, &w.dv};
    for (unsigned i = 0; i < 3; i++) {
        if (!want[i])
            continue;
        QN_TRY(qn_grad_like(x, &in[i], true, &d_in[i], err));
        *d[i] = d_in[i].data;
    }
    uint64_t pairs = 0;
    for (uint64_t s = 0; s < a->n_seq; s++) {
        const uint64_t len = (uint64_t)(a->starts[s + 1] - a->starts[s]);
        pairs += len * (a->window ? qn_min_u64(len, a->window) : len);
    }
    const uint64_t longest = qn_lm_attention_longest(a);
    w.tile_size = qn_min_u64(TILE_Q, longest) * qn_min_u64(TILE_K, longest);
    const int64_t dims[3] = {(int64_t)qn_exec_env(x)->n_threads, 2, (int64_t)w.tile_size};
    qn_array scratch;
    QN_TRY(qn_exec_new(x, &scratch, QN_F32, dims, 3, err));
    w.scratch = scratch.data;
    const qn_code rc = qn_exec_parts(x, a->n_seq * a->kv_heads, 3 * pairs * a->heads * (a->head_dim + a->v_dim), back_part, &w, err);
    qn_array_release(&scratch);
    return rc;
}
