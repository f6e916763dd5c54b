/* onnx_rnn.c: RNN, GRU and LSTM. Gates stand in the order i o f c (LSTM) and z r h (GRU).
 *
 *     X: f32 (steps, batch, in)      W: (directions, gates · hidden, in)    R: (directions, gates · hidden, hidden)
 *     B: (directions, 2 · gates · hidden), W's then R's                     P: (directions, 3 · hidden), peepholes i o f
 *     Y: (steps, directions, batch, hidden)                                 Y_h, Y_c: (directions, batch, hidden)
 * layout 1 has the batch in front. All inputs of a direction are multiplied with W at once, each step then with R. */
#include "analysis/exec/onnx_help.h"
#include "base/num.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

typedef enum cell { CELL_RNN, CELL_GRU, CELL_LSTM } cell;

typedef struct activation {
    const char *name;
    float alpha, beta;
} activation;

typedef struct rnn {
    cell kind;
    unsigned gates, n_dirs, n_acts;
    bool reverse[2], batch_first, linear_before, couple;
    float clip; /* 0: none */
    activation act[2][3];
    int64_t steps, batch, n_in, hidden;
    const qn_array *lens;
    uint32_t w_value, r_value;
    const float *x, *w, *r, *b, *p;
    float *h, *c;                /* state of one direction: (batch, hidden)     */
    float *proj, *gate, *side;   /* (steps · batch, gates · hidden), (batch, gates · hidden), (batch, hidden) */
    float *y, *y_h, *y_c;        /* may be NULL                                 */
} rnn;

/* Names that take an alpha (1) or an alpha and a beta (2), with the defaults of the operators of the same name. */
static const struct {
    const char *name;
    unsigned n_params;
    float alpha, beta;
} known[] = {
    {"Relu", 0, 0, 0}, {"Tanh", 0, 0, 0}, {"Sigmoid", 0, 0, 0}, {"Softsign", 0, 0, 0}, {"Softplus", 0, 0, 0},
    {"LeakyRelu", 1, 0.01f, 0}, {"ThresholdedRelu", 1, 1.0f, 0}, {"Elu", 1, 1.0f, 0},
    {"Affine", 2, 1.0f, 0}, {"ScaledTanh", 2, 1.0f, 1.0f}, {"HardSigmoid", 2, 0.2f, 0.5f},
};

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool same_word(const char *a, const char *b)
{
    for (; *a && lower(*a) == lower(*b); a++, b++)
        ;
    return *a == *b;
}

static float activate(const activation *a, float v)
{
    switch (a->name[0]) {
    case 'T': return a->name[1] == 'a' ? tanhf(v) : v > a->alpha ? v : 0;
    case 'R': return v > 0 ? v : 0;
    case 'L': return v >= 0 ? v : a->alpha * v;
    case 'E': return v >= 0 ? v : a->alpha * expm1f(v);
    case 'A': return a->alpha * v + a->beta;
    case 'H': v = a->alpha * v + a->beta; return v < 0 ? 0 : v > 1 ? 1 : v;
    default: break;
    }
    if (!strcmp(a->name, "Sigmoid"))
        return v >= 0 ? 1 / (1 + expf(-v)) : expf(v) / (1 + expf(v));
    if (!strcmp(a->name, "ScaledTanh"))
        return a->alpha * tanhf(a->beta * v);
    if (!strcmp(a->name, "Softsign"))
        return v / (1 + fabsf(v));
    return v > 0 ? v + log1pf(expf(-v)) : log1pf(expf(v)); /* Softplus */
}

static qn_code read_activations(rnn *r, const qn_node *n, qn_err *err)
{
    static const char *const usual[][3] = {{"Tanh", "", ""}, {"Sigmoid", "Tanh", ""}, {"Sigmoid", "Tanh", "Tanh"}};
    const qn_attr *names = qn_node_attr(n, "activations"), *alpha = qn_node_attr(n, "activation_alpha"),
                  *beta = qn_node_attr(n, "activation_beta");
    const unsigned total = r->n_acts * r->n_dirs;
    unsigned at_alpha = 0, at_beta = 0;
    if (names && names->type == QN_ATTR_STRINGS && names->n && names->n != total)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%u activations; %u are needed", names->n, total);
    const bool given = names && names->type == QN_ATTR_STRINGS && names->n;
    for (unsigned i = 0; i < total; i++) {
        const char *name = given ? names->v.strings[i] : usual[r->kind][i % r->n_acts];
        unsigned k = 0;
        while (k < sizeof known / sizeof known[0] && !same_word(known[k].name, name))
            k++;
        if (k == sizeof known / sizeof known[0])
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "activation '%.40s' is not known", name);
        activation *a = &r->act[i / r->n_acts][i % r->n_acts];
        *a = (activation){known[k].name, known[k].alpha, known[k].beta};
        if (known[k].n_params >= 1 && alpha && alpha->type == QN_ATTR_FLOATS && at_alpha < alpha->n)
            a->alpha = (float)alpha->v.floats[at_alpha++];
        if (known[k].n_params >= 2 && beta && beta->type == QN_ATTR_FLOATS && at_beta < beta->n)
            a->beta = (float)beta->v.floats[at_beta++];
    }
    return QN_OK;
}

static qn_code read_attributes(rnn *r, const qn_node *n, qn_err *err)
{
    const char *d = qn_node_string(n, "direction", "forward");
    r->kind = !strcmp(n->type, "LSTM") ? CELL_LSTM : !strcmp(n->type, "GRU") ? CELL_GRU : CELL_RNN;
    r->gates = r->kind == CELL_LSTM ? 4 : r->kind == CELL_GRU ? 3 : 1;
    r->n_acts = r->kind == CELL_LSTM ? 3 : r->kind == CELL_GRU ? 2 : 1;
    const bool both = same_word(d, "bidirectional");
    r->n_dirs = both ? 2 : 1;
    r->reverse[0] = same_word(d, "reverse");
    r->reverse[1] = true;
    if (!both && !r->reverse[0] && !same_word(d, "forward"))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "direction '%.40s'; allowed are forward, reverse, bidirectional", d);
    r->batch_first = qn_node_int(n, "layout", 0) != 0;
    r->linear_before = qn_node_int(n, "linear_before_reset", 0) != 0;
    r->couple = qn_node_int(n, "input_forget", 0) != 0;
    const double clip = qn_node_float(n, "clip", 0);
    if (!(clip >= 0))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "clip is %g; it must be at least 0", clip);
    r->clip = (float)clip;
    return read_activations(r, n, err);
}

/* Dims of output o from steps, batch, hidden. */
static unsigned output_dims(const rnn *r, unsigned o, int64_t dims[4])
{
    const int64_t d = r->n_dirs;
    if (o == 0) {
        const int64_t seq[] = {r->steps, d, r->batch, r->hidden}, first[] = {r->batch, r->steps, d, r->hidden};
        memcpy(dims, r->batch_first ? first : seq, sizeof seq);
        return 4;
    }
    const int64_t seq[] = {d, r->batch, r->hidden}, first[] = {r->batch, d, r->hidden};
    memcpy(dims, r->batch_first ? first : seq, sizeof seq);
    return 3;
}

qn_code qn_onnx_rnn_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    rnn r = {0};
    QN_TRY(read_attributes(&r, n, err));
    if (in[0].rank != 3 || !qn_onnx_info_has(n, in, 2) || in[2].rank != 3)
        return QN_OK;
    r.steps = in[0].dims[r.batch_first ? 1 : 0];
    r.batch = in[0].dims[r.batch_first ? 0 : 1];
    r.hidden = in[2].dims[2];
    for (unsigned o = 0; o < n->n_out && o < 3; o++) {
        int64_t dims[4];
        const unsigned rank = output_dims(&r, o, dims);
        qn_info_set(&out[o], in[0].dtype, dims, rank);
    }
    return QN_OK;
}

static float clipped(const rnn *r, float v)
{
    if (r->clip <= 0)
        return v;
    return v > r->clip ? r->clip : v < -r->clip ? -r->clip : v;
}

static void lstm_cell(const rnn *r, const activation *act, const float *g, const float *p, float *h, float *c)
{
    const int64_t n = r->hidden;
    for (int64_t k = 0; k < n; k++) {
        const float i = activate(&act[0], clipped(r, g[k] + (p ? p[k] * c[k] : 0)));
        const float f = r->couple ? 1 - i : activate(&act[0], clipped(r, g[2 * n + k] + (p ? p[2 * n + k] * c[k] : 0)));
        c[k] = f * c[k] + i * activate(&act[1], clipped(r, g[3 * n + k]));
        const float o = activate(&act[0], clipped(r, g[n + k] + (p ? p[n + k] * c[k] : 0)));
        h[k] = o * activate(&act[2], c[k]);
    }
}

/* One step of the rows that are still running. proj has W's part and W's bias; for a GRU the third gate's R part comes apart. */
static qn_code step(qn_exec *x, const rnn *r, unsigned d, int64_t s, qn_err *err)
{
    const uint64_t hid = (uint64_t)r->hidden, width = r->gates * hid, batch = (uint64_t)r->batch;
    const float *rw = r->r + d * width * hid, *rb = r->b ? r->b + d * 2 * width + width : NULL;
    const float *p = r->p ? r->p + d * 3 * hid : NULL;
    const activation *act = r->act[d];
    const bool gru = r->kind == CELL_GRU;
    if (qn_exec_listens(x))
        QN_TRY(qn_exec_input(x, r->r_value, d, r->h, batch, hid, hid, err));
    const uint64_t joint = gru && !r->linear_before ? 2 * hid : width; /* what is multiplied with the state as it is */
    QN_TRY(qn_gemm(x, true, batch, joint, hid, r->h, hid, rw, hid, 0.0f, r->gate, width, err));
    for (uint64_t b = 0; b < batch; b++) {
        const int64_t len = r->lens ? qn_elem_int(r->lens, b) : r->steps;
        float *g = r->gate + b * width, *h = r->h + b * hid;
        if (s >= len)
            continue;
        const int64_t t = r->reverse[d] ? len - 1 - s : s;
        const float *q = r->proj + ((uint64_t)t * batch + b) * width;
        const uint64_t sum = gru ? 2 * hid : width;
        for (uint64_t k = 0; k < sum; k++)
            g[k] = g[k] + q[k] + (rb ? rb[k] : 0);
        if (r->kind == CELL_LSTM) {
            lstm_cell(r, act, g, p, h, r->c + b * hid);
        } else if (r->kind == CELL_RNN) {
            for (uint64_t k = 0; k < hid; k++)
                h[k] = activate(&act[0], clipped(r, g[k]));
        } else {
            for (uint64_t k = 0; k < 2 * hid; k++)
                g[k] = activate(&act[0], clipped(r, g[k]));
            for (uint64_t k = 0; k < hid && !r->linear_before; k++)
                r->side[b * hid + k] = g[hid + k] * h[k];
        }
    }
    if (!gru)
        return QN_OK;
    if (!r->linear_before)
        QN_TRY(qn_gemm(x, true, batch, hid, hid, r->side, hid, rw + 2 * hid * hid, hid, 0.0f, r->gate + 2 * hid, width, err));
    for (uint64_t b = 0; b < batch; b++) {
        const int64_t len = r->lens ? qn_elem_int(r->lens, b) : r->steps;
        if (s >= len)
            continue;
        const int64_t t = r->reverse[d] ? len - 1 - s : s;
        float *g = r->gate + b * width, *h = r->h + b * hid;
        const float *q = r->proj + ((uint64_t)t * batch + b) * width + 2 * hid;
        for (uint64_t k = 0; k < hid; k++) {
            float v = g[2 * hid + k] + (rb ? rb[2 * hid + k] : 0);
            v = r->linear_before ? v * g[hid + k] : v;
            const float n = activate(&act[1], clipped(r, v + q[k]));
            h[k] = (1 - g[k]) * n + g[k] * h[k];
        }
    }
    return QN_OK;
}

static void put_step(const rnn *r, unsigned d, int64_t s)
{
    const uint64_t hid = (uint64_t)r->hidden, batch = (uint64_t)r->batch, dirs = r->n_dirs;
    for (uint64_t b = 0; b < batch && r->y; b++) {
        const int64_t len = r->lens ? qn_elem_int(r->lens, b) : r->steps;
        const uint64_t t = (uint64_t)(s < len && r->reverse[d] ? len - 1 - s : s);
        float *y = r->y + (r->batch_first ? ((b * (uint64_t)r->steps + t) * dirs + d) * hid : ((t * dirs + d) * batch + b) * hid);
        if (s < len)
            memcpy(y, r->h + b * hid, hid * sizeof *y);
        else
            memset(y, 0, hid * sizeof *y);
    }
}

/* State of a direction ↔ (directions, batch, hidden), or with the batch in front. */
static uint64_t state_at(const rnn *r, unsigned d, uint64_t b)
{
    return (r->batch_first ? b * r->n_dirs + d : d * (uint64_t)r->batch + b) * (uint64_t)r->hidden;
}

static void begin_state(const rnn *r, unsigned d, const qn_array *from, float *state)
{
    const uint64_t hid = (uint64_t)r->hidden;
    for (uint64_t b = 0; b < (uint64_t)r->batch; b++)
        if (from)
            memcpy(state + b * hid, (const float *)from->data + state_at(r, d, b), hid * sizeof *state);
        else
            memset(state + b * hid, 0, hid * sizeof *state);
}

static void end_state(const rnn *r, unsigned d, const float *state, float *to)
{
    const uint64_t hid = (uint64_t)r->hidden;
    for (uint64_t b = 0; b < (uint64_t)r->batch && to; b++)
        memcpy(to + state_at(r, d, b), state + b * hid, hid * sizeof *state);
}

static qn_code direction(qn_exec *x, rnn *r, unsigned d, const qn_array *h0, const qn_array *c0, qn_err *err)
{
    const uint64_t hid = (uint64_t)r->hidden, width = r->gates * hid, rows = (uint64_t)(r->steps * r->batch), n_in = (uint64_t)r->n_in;
    if (qn_exec_listens(x) && rows)
        QN_TRY(qn_exec_input(x, r->w_value, d, r->x, rows, n_in, n_in, err));
    for (uint64_t i = 0; i < rows; i++)
        for (uint64_t k = 0; k < width; k++)
            r->proj[i * width + k] = r->b ? r->b[d * 2 * width + k] : 0;
    QN_TRY(qn_gemm(x, true, rows, width, n_in, r->x, n_in, r->w + d * width * n_in, n_in, 1.0f, r->proj, width, err));
    begin_state(r, d, h0, r->h);
    if (r->kind == CELL_LSTM)
        begin_state(r, d, c0, r->c);
    memset(r->side, 0, (size_t)r->batch * hid * sizeof *r->side);
    for (int64_t s = 0; s < r->steps; s++) {
        QN_TRY(step(x, r, d, s, err));
        put_step(r, d, s);
    }
    end_state(r, d, r->h, r->y_h);
    end_state(r, d, r->c, r->y_c);
    return QN_OK;
}

static qn_code need(const qn_array *t, const char *what, int64_t a, int64_t b, int64_t c, qn_err *err)
{
    char text[128];
    const unsigned rank = c < 0 ? 2 : 3;
    QN_TRY(qn_onnx_need_f32(t, what, err));
    if (t->rank == rank && t->dims[0] == a && t->dims[1] == b && (rank == 2 || t->dims[2] == c))
        return QN_OK;
    return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, rank == 2 ? "%s is %s; (%" PRId64 ", %" PRId64 ") is needed"
                                                            : "%s is %s; (%" PRId64 ", %" PRId64 ", %" PRId64 ") is needed",
                   what, qn_array_text(t, text), a, b, c);
}

static qn_code check(rnn *r, const qn_node *n, const qn_array *in, const qn_array *h0, const qn_array *c0, qn_err *err)
{
    QN_TRY(qn_onnx_need_f32(&in[0], "X", err));
    QN_TRY(qn_onnx_need_rank(&in[0], "X", 3, 3, err));
    QN_TRY(qn_onnx_need_rank(&in[2], "R", 3, 3, err));
    r->steps = in[0].dims[r->batch_first ? 1 : 0];
    r->batch = in[0].dims[r->batch_first ? 0 : 1];
    r->n_in = in[0].dims[2];
    r->hidden = in[2].dims[2];
    const int64_t dirs = r->n_dirs, hid = r->hidden, gates = r->gates;
    if (hid < 1 || hid > INT32_MAX)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "a hidden size of %" PRId64, hid);
    if (qn_node_int(n, "hidden_size", hid) != hid)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "hidden_size is %" PRId64 ", R has %" PRId64, qn_node_int(n, "hidden_size", hid), hid);
    QN_TRY(need(&in[1], "W", dirs, gates * hid, r->n_in, err));
    QN_TRY(need(&in[2], "R", dirs, gates * hid, hid, err));
    if (qn_onnx_has(n, in, 3))
        QN_TRY(need(&in[3], "B", dirs, 2 * gates * hid, -1, err));
    if (qn_onnx_has(n, in, 4)) {
        r->lens = &in[4];
        if (r->lens->n != (uint64_t)r->batch || (r->lens->dtype != QN_I32 && r->lens->dtype != QN_I64))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRIu64 " sequence_lens for %" PRId64 " sequences", r->lens->n, r->batch);
        for (uint64_t i = 0; i < r->lens->n; i++)
            if (qn_elem_int(r->lens, i) < 0 || qn_elem_int(r->lens, i) > r->steps)
                return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "a sequence of %" PRId64 " steps; X has %" PRId64, qn_elem_int(r->lens, i),
                               r->steps);
    }
    const int64_t a = r->batch_first ? r->batch : dirs, b = r->batch_first ? dirs : r->batch;
    if (h0)
        QN_TRY(need(h0, "initial_h", a, b, hid, err));
    if (c0)
        QN_TRY(need(c0, "initial_c", a, b, hid, err));
    if (r->kind == CELL_LSTM && qn_onnx_has(n, in, 7))
        QN_TRY(need(&in[7], "P", dirs, 3 * hid, -1, err));
    return QN_OK;
}

/* (batch, steps, in) → (steps, batch, in). */
static void steps_first(const rnn *r, const float *src, float *dst)
{
    const uint64_t n = (uint64_t)r->n_in, steps = (uint64_t)r->steps, batch = (uint64_t)r->batch;
    for (uint64_t s = 0; s < steps; s++)
        for (uint64_t b = 0; b < batch; b++)
            memcpy(dst + (s * batch + b) * n, src + (b * steps + s) * n, n * sizeof *dst);
}

qn_code qn_onnx_rnn(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    rnn r = {0};
    QN_TRY(read_attributes(&r, n, err));
    const qn_array *h0 = qn_onnx_has(n, in, 5) ? &in[5] : NULL;
    const qn_array *c0 = r.kind == CELL_LSTM && qn_onnx_has(n, in, 6) ? &in[6] : NULL;
    QN_TRY(check(&r, n, in, h0, c0, err));
    float **const to[] = {&r.y, &r.y_h, &r.y_c};
    for (unsigned o = 0; o < 3 && o < n->n_out; o++)
        if (qn_onnx_wants(n, o) && (o < 2 || r.kind == CELL_LSTM)) {
            int64_t dims[4];
            const unsigned rank = output_dims(&r, o, dims);
            QN_TRY(qn_exec_new(x, &out[o], QN_F32, dims, rank, err));
            *to[o] = out[o].data;
        }
    r.w_value = n->in[1];
    r.r_value = n->in[2];
    r.x = in[0].data;
    r.w = in[1].data;
    r.r = in[2].data;
    r.b = qn_onnx_has(n, in, 3) ? in[3].data : NULL;
    r.p = r.kind == CELL_LSTM && qn_onnx_has(n, in, 7) ? in[7].data : NULL;
    const int64_t width = (int64_t)r.gates * r.hidden;
    const int64_t shapes[][3] = {{r.steps, r.batch, width}, {1, r.batch, width}, {3, r.batch, r.hidden}, {r.steps, r.batch, r.n_in}};
    const unsigned n_scratch = r.batch_first ? 4 : 3;
    qn_array scratch[4] = {{0}};
    qn_code rc = QN_OK;
    for (unsigned i = 0; i < n_scratch && rc == QN_OK; i++)
        rc = qn_exec_new(x, &scratch[i], QN_F32, shapes[i], 3, err);
    if (rc == QN_OK) {
        r.proj = scratch[0].data;
        r.gate = scratch[1].data;
        r.side = scratch[2].data;
        r.h = r.side + r.batch * r.hidden;
        r.c = r.h + r.batch * r.hidden;
        if (r.batch_first) {
            steps_first(&r, in[0].data, scratch[3].data);
            r.x = scratch[3].data;
        }
    }
    for (unsigned d = 0; d < r.n_dirs && rc == QN_OK; d++)
        rc = direction(x, &r, d, h0, c0, err);
    for (unsigned i = 0; i < n_scratch; i++)
        qn_array_release(&scratch[i]);
    return rc;
}
