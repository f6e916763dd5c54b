/* lm_experts.c: routed experts (Shazeer et al. 2017; Jiang et al. 2024): each token goes to the top_k experts of its router's softmax; the
 * tokens of an expert are gathered, multiplied as one matrix, and added back with their probability, expert by expert in order. */
#include "analysis/exec/lm_parts.h"
#include "base/err.h"
#include "base/num.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { EXPERTS_MAX = 4096 };

static qn_code parse(const qn_node *n, qn_lm_moe *m, qn_err *err)
{
    const char *name = qn_node_string(n, "layout", "");
    QN_TRY(qn_lm_size(n, "experts", 0, &m->n, err));
    QN_TRY(qn_lm_size(n, "top_k", 0, &m->top_k, err));
    QN_TRY(qn_lm_act_find(n, &m->act, err));
    m->norm = qn_node_int(n, "norm", 0) != 0;
    if (m->n > EXPERTS_MAX || m->top_k > m->n)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRIu64 " of %" PRIu64 " experts: at most all of them, and at most %d, are supported", m->top_k,
                       m->n, EXPERTS_MAX);
    m->layout = !strcmp(name, "separate") ? QN_MOE_SEPARATE : !strcmp(name, "stacked") ? QN_MOE_STACKED : QN_MOE_FUSED;
    const uint64_t want = m->layout == QN_MOE_SEPARATE ? 2 + 3 * m->n : m->layout == QN_MOE_STACKED ? 5 : 4;
    if ((m->layout == QN_MOE_FUSED && strcmp(name, "fused")) || n->n_in != want)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "layout \"%s\" with %u inputs: \"separate\", \"stacked\" or \"fused\" with %" PRIu64
                                                      " is expected", name, n->n_in, want);
    return QN_OK;
}

unsigned qn_lm_moe_input(const qn_lm_moe *m, unsigned role, uint64_t expert)
{
    if (m->layout == QN_MOE_SEPARATE)
        return (unsigned)(2 + role * m->n + expert);
    return m->layout == QN_MOE_STACKED ? 2 + role : (role == 2 ? 3 : 2);
}

qn_code qn_experts_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    qn_lm_moe m;
    QN_TRY(parse(n, &m, err));
    qn_lm_like(in, out);
    if (in[1].rank == 2 && in[1].dims[1] != QN_DIM_UNKNOWN && (uint64_t)in[1].dims[1] != m.n)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the router has %" PRId64 " outputs for %" PRIu64 " experts", in[1].dims[1], m.n);
    const unsigned rank = m.layout == QN_MOE_SEPARATE ? 2 : 3;
    for (unsigned i = 2; i < n->n_in; i++)
        if (in[i].rank != QN_RANK_UNKNOWN && in[i].rank != rank)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "a weight of rank %u: %u is expected", in[i].rank, rank);
    return QN_OK;
}

/* Width of an expert's ffn: columns of its down weight. */
uint64_t qn_lm_moe_ffn(const qn_lm_moe *m, const qn_array *in, uint64_t expert)
{
    const qn_array *down = &in[qn_lm_moe_input(m, 2, expert)];
    return down->rank ? (uint64_t)down->dims[down->rank - 1u] : 0;
}

/* The shapes of what has arrived, against each other. */
qn_code qn_lm_moe_get(const qn_node *n, const qn_array *in, qn_lm_moe *m, qn_err *err)
{
    char text[128];
    *m = (qn_lm_moe){.logits = in[1].data};
    QN_TRY(parse(n, m, err));
    const unsigned rank = m->layout == QN_MOE_SEPARATE ? 2 : 3, o = rank - 2, down = qn_lm_moe_input(m, 2, 0);
    QN_TRY(qn_lm_floats(&in[0], "x", err));
    m->cols = in[0].rank == 2 ? (uint64_t)in[0].dims[1] : 0;
    m->rows = (uint64_t)in[0].dims[0];
    QN_TRY(qn_lm_matrix(&in[0], "x", m->cols, err));
    QN_TRY(qn_lm_matrix(&in[1], "logits", m->n, err));
    if (in[down].rank != rank || (uint64_t)in[1].dims[0] != m->rows)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "weights or logits do not fit the %" PRIu64 " tokens", m->rows);
    for (uint64_t e = 0; e < (m->layout == QN_MOE_SEPARATE ? m->n : 1); e++) {
        m->ffn = qn_lm_moe_ffn(m, in, e);
        m->ffn_most = qn_max_u64(m->ffn_most, m->ffn);
        for (unsigned role = 0; role < 3; role++) {
            const qn_array *w = &in[qn_lm_moe_input(m, role, e)];
            const uint64_t out = role == 2 ? m->cols : m->layout == QN_MOE_FUSED ? 2 * m->ffn : m->ffn;
            if (w->dtype != QN_F32 || w->rank != rank || (rank == 3 && (uint64_t)w->dims[0] != m->n) || (uint64_t)w->dims[o] != out ||
                (uint64_t)w->dims[o + 1] != (role == 2 ? m->ffn : m->cols))
                return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the %s weight of expert %" PRIu64 " is %s: (%" PRIu64 ", %" PRIu64 ") is expected",
                               role == 2 ? "down" : role ? "up" : "gate", e, qn_array_text(w, text), out, role == 2 ? m->ffn : m->cols);
        }
    }
    return QN_OK;
}

/* Softmax over all experts, the top_k largest (of equals the first), and their shares. */
static void rows_route(const void *ctx, uint64_t first, uint64_t n)
{
    const qn_lm_moe *m = ctx;
    for (uint64_t r = first; r < first + n; r++) {
        const float *l = m->logits + r * m->n;
        int64_t *chosen = m->chosen + r * m->top_k;
        float *share = m->share + r * m->top_k;
        float most = l[0];
        for (uint64_t e = 1; e < m->n; e++)
            most = l[e] > most ? l[e] : most;
        double all = 0, some = 0;
        for (uint64_t e = 0; e < m->n; e++)
            all += exp((double)l[e] - (double)most);
        for (uint64_t k = 0; k < m->top_k; k++) {
            int64_t best = -1;
            for (uint64_t e = 0; e < m->n; e++) {
                bool taken = false;
                for (uint64_t i = 0; i < k && !taken; i++)
                    taken = chosen[i] == (int64_t)e;
                if (!taken && (best < 0 || l[e] > l[best]))
                    best = (int64_t)e;
            }
            chosen[k] = best;
            some += exp((double)l[best] - (double)most);
        }
        for (uint64_t k = 0; k < m->top_k; k++)
            share[k] = (float)(exp((double)l[chosen[k]] - (double)most) / (m->norm ? some : all));
    }
}

qn_code qn_lm_moe_route(qn_exec *x, qn_lm_moe *m, qn_array *chosen, qn_array *share, qn_err *err)
{
    const int64_t dims[2] = {(int64_t)m->rows, (int64_t)m->top_k};
    QN_TRY(qn_exec_new(x, chosen, QN_I64, dims, 2, err));
    QN_TRY(qn_exec_new(x, share, QN_F32, dims, 2, err));
    m->chosen = chosen->data;
    m->share = share->data;
    return qn_lm_each_row(x, m->rows, m->n * (m->top_k + 32), rows_route, m, err);
}

/* --- one expert ------------------------------------------------------------------------------------------------------ */

struct scratch {
    qn_array chosen, share, place, x, gate, up, y, weight;
};

static qn_code floats(qn_exec *x, qn_array *a, uint64_t rows, uint64_t cols, qn_err *err)
{
    const int64_t dims[2] = {(int64_t)rows, (int64_t)cols};
    return qn_exec_new(x, a, QN_F32, dims, 2, err);
}

qn_code qn_lm_moe_weight(qn_exec *x, const qn_node *n, const qn_lm_moe *m, const qn_array *in, unsigned role, uint64_t e, qn_array *room,
                         const float **w, qn_err *err)
{
    const unsigned i = qn_lm_moe_input(m, role, e);
    const bool stacked = m->layout != QN_MOE_SEPARATE;
    const uint64_t elems = in[i].n / (stacked ? m->n : 1);
    if (in[i].data) {
        *w = (const float *)in[i].data + (stacked ? e * elems : 0);
        return QN_OK;
    }
    if (room->n < elems) {
        qn_array_release(room);
        QN_TRY(floats(x, room, 1, elems, err));
    }
    *w = room->data;
    return qn_exec_weight_rows(x, n->in[i], stacked ? e : 0, stacked ? 1 : (uint64_t)in[i].dims[0], room->data, err);
}

/* rows × weight of one role; what the weight sees is reported. */
static qn_code multiply(qn_exec *x, const qn_node *n, const qn_lm_moe *m, const qn_array *in, unsigned role, uint64_t e, struct scratch *s,
                        const float *rows, uint64_t n_rows, float *y, qn_err *err)
{
    const float *w;
    const uint64_t cols = role == 2 ? m->ffn : m->cols, out = role == 2 ? m->cols : m->layout == QN_MOE_FUSED ? 2 * m->ffn : m->ffn;
    QN_TRY(qn_exec_input(x, n->in[qn_lm_moe_input(m, role, e)], m->layout == QN_MOE_SEPARATE ? 0 : (uint32_t)e, rows, n_rows, cols, cols, err));
    QN_TRY(qn_lm_moe_weight(x, n, m, in, role, e, &s->weight, &w, err));
    return qn_gemm(x, true, n_rows, out, cols, rows, cols, w, cols, 0, y, out, err);
}

struct gate {
    const float *gate, *up;
    float *y;
    uint64_t ffn, ld;
    const qn_lm_act *act;
};

/* y (rows, ffn) may be where the gates are: a row is never written before it is read. */
static void rows_gate(const void *ctx, uint64_t first, uint64_t n)
{
    const struct gate *g = ctx;
    for (uint64_t r = first; r < first + n; r++)
        g->act->gated(g->gate + r * g->ld, g->up + r * g->ld, g->y + r * g->ffn, g->ffn);
}

uint64_t qn_lm_moe_places(const qn_lm_moe *m, uint64_t e, int64_t *place)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < m->rows * m->top_k; i++)
        if (m->chosen[i] == (int64_t)e)
            place[n++] = (int64_t)i;
    return n;
}

static qn_code run_expert(qn_exec *x, const qn_node *n, const qn_lm_moe *m, const qn_array *in, uint64_t e, struct scratch *s, float *y,
                          qn_err *err)
{
    int64_t *place = s->place.data;
    float *rows = s->x.data;
    const uint64_t n_rows = qn_lm_moe_places(m, e, place);
    if (!n_rows)
        return QN_OK;
    for (uint64_t i = 0; i < n_rows; i++)
        memcpy(rows + i * m->cols, (const float *)in[0].data + (uint64_t)place[i] / m->top_k * m->cols, m->cols * sizeof *rows);
    float *gate = s->gate.data, *up = s->up.data, *made = s->y.data;
    struct gate g = {.gate = gate, .up = up, .y = up, .ffn = m->ffn, .ld = m->ffn, .act = m->act};
    QN_TRY(multiply(x, n, m, in, 0, e, s, rows, n_rows, gate, err));
    if (m->layout == QN_MOE_FUSED) {
        g.up = gate + m->ffn;
        g.ld = 2 * m->ffn;
    } else {
        QN_TRY(multiply(x, n, m, in, 1, e, s, rows, n_rows, up, err));
    }
    QN_TRY(qn_lm_each_row(x, n_rows, 16 * m->ffn, rows_gate, &g, err));
    QN_TRY(multiply(x, n, m, in, 2, e, s, up, n_rows, made, err));
    for (uint64_t i = 0; i < n_rows; i++) {
        float *to = y + (uint64_t)place[i] / m->top_k * m->cols;
        const float share = m->share[place[i]];
        for (uint64_t k = 0; k < m->cols; k++)
            to[k] += share * made[i * m->cols + k];
    }
    return QN_OK;
}

uint64_t qn_lm_moe_most(const qn_lm_moe *m)
{
    uint64_t count[EXPERTS_MAX / 8] = {0}, most = 0;
    for (uint64_t e0 = 0; e0 < m->n; e0 += EXPERTS_MAX / 8) {
        memset(count, 0, sizeof count);
        for (uint64_t i = 0; i < m->rows * m->top_k; i++)
            if ((uint64_t)m->chosen[i] - e0 < EXPERTS_MAX / 8)
                count[(uint64_t)m->chosen[i] - e0]++;
        for (uint64_t e = 0; e < EXPERTS_MAX / 8; e++)
            most = qn_max_u64(most, count[e]);
    }
    return most;
}

static qn_code run_all(qn_exec *x, const qn_node *n, qn_lm_moe *m, const qn_array *in, struct scratch *s, qn_array *out, qn_err *err)
{
    QN_TRY(qn_lm_moe_route(x, m, &s->chosen, &s->share, err));
    const uint64_t most = qn_lm_moe_most(m);
    const int64_t list[1] = {(int64_t)most};
    QN_TRY(qn_exec_new(x, &s->place, QN_I64, list, 1, err));
    QN_TRY(floats(x, &s->x, most, m->cols, err));
    QN_TRY(floats(x, &s->gate, most, m->layout == QN_MOE_FUSED ? 2 * m->ffn_most : m->ffn_most, err));
    QN_TRY(floats(x, &s->up, most, m->ffn_most, err));
    QN_TRY(floats(x, &s->y, most, m->cols, err));
    QN_TRY(qn_exec_new(x, out, QN_F32, in[0].dims, 2, err));
    memset(out->data, 0, qn_array_bytes(out));
    for (uint64_t e = 0; e < m->n; e++) {
        m->ffn = qn_lm_moe_ffn(m, in, e);
        QN_TRY(run_expert(x, n, m, in, e, s, out->data, err));
    }
    return QN_OK;
}

qn_code qn_experts_forward(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    qn_lm_moe m;
    struct scratch s = {0};
    QN_TRY(qn_lm_moe_get(n, in, &m, err));
    const qn_code rc = run_all(x, n, &m, in, &s, out, err);
    if (rc != QN_OK)
        qn_array_release(out);
    qn_array *const all[] = {&s.chosen, &s.share, &s.place, &s.x, &s.gate, &s.up, &s.y, &s.weight};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        qn_array_release(all[i]);
    return rc;
}
