/* grad_check.c: see grad_check.h. */
#include "tests/support/grad_check.h"
#include "base/err.h"
#include "tests/support/made.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 64, OPERANDS = 64, LOOKED_AT = 64, LARGE = 4096 };

/* --- the loss ------------------------------------------------------------------------------------------------------------------ */

/* Σ r · y over the outputs of mask, r a fixed random number for each element. */
static double factor(unsigned output, uint64_t i)
{
    static double *table;
    static uint64_t n;
    if (i >= n) {
        qt_rng r = qt_seed(41);
        n = 2 * i + 64;
        table = realloc(table, n * sizeof *table);
        cr_assert_not_null(table);
        for (uint64_t k = 0; k < n; k++)
            table[k] = qt_normal(&r);
    }
    return (output % 2 ? -1 : 1) * table[i] * (1 + 0.25 * output);
}

static double loss_of(const qn_array *outs, uint32_t n_outs, uint32_t mask)
{
    double sum = 0;
    for (uint32_t o = 0; o < n_outs; o++)
        for (uint64_t i = 0; (mask >> o & 1) && outs[o].dtype == QN_F32 && i < outs[o].n; i++)
            sum += factor(o, i) * (double)((const float *)outs[o].data)[i];
    return sum;
}

struct loss {
    uint32_t n_outs, mask;
};

static qn_code loss(void *ctx, qn_pool *pool, const qn_array *outs, double *value, qn_array *d_outs, qn_err *err)
{
    const struct loss *l = ctx;
    *value = loss_of(outs, l->n_outs, l->mask);
    for (uint32_t o = 0; o < l->n_outs; o++) {
        if (!(l->mask >> o & 1) || outs[o].dtype != QN_F32)
            continue;
        QN_TRY(qn_array_new(pool, &d_outs[o], QN_F32, outs[o].dims, outs[o].rank, err));
        for (uint64_t i = 0; i < outs[o].n; i++)
            ((float *)d_outs[o].data)[i] = (float)factor(o, i);
    }
    return QN_OK;
}

/* --- weights in memory ----------------------------------------------------------------------------------------------------------- */

struct weights {
    const uint32_t *values;
    float *const *data;
    unsigned n;
};

static qn_code read_weight(void *ctx, const qn_graph *g, uint32_t value, uint64_t first, uint64_t n, void *dst, qn_err *err)
{
    const struct weights *w = ctx;
    uint64_t row = 1;
    for (unsigned k = 1; k < g->values[value].rank; k++)
        row *= (uint64_t)g->values[value].dims[k];
    for (unsigned i = 0; i < w->n; i++)
        if (w->values[i] == value) {
            memcpy(dst, w->data[i] + first * row, n * row * sizeof(float));
            return QN_OK;
        }
    return QN_BUG(err, "no such weight");
}

/* *work: elements of the outputs, or NULL. */
static double run_loss(qn_exec *x, const qn_graph *g, const qn_array *feeds, uint32_t mask, uint64_t *work)
{
    qn_err err = {0};
    qn_array outs[MOST];
    cr_assert_eq(qn_exec_run(x, feeds, outs, &err), QN_OK, "%s", err.text);
    const double v = loss_of(outs, g->n_outputs, mask);
    for (uint32_t o = 0; o < g->n_outputs; o++) {
        if (work)
            *work += outs[o].n;
        qn_array_release(&outs[o]);
    }
    return v;
}

/* (f(x + h) − f(x − h)) / 2h for h and h/2, extrapolated to h → 0 (Richardson): the error is of the order of h⁴. */
static double difference(qn_exec *x, const qn_graph *g, const qn_array *feeds, uint32_t mask, uint32_t value, float *element)
{
    const float before = *element;
    double d[2];
    for (unsigned k = 0; k < 2; k++) {
        const float h = 0x1p-5f / (float)(1 + k), up = before + h, down = before - h;
        *element = up;
        qn_exec_forget(x, value);
        const double a = run_loss(x, g, feeds, mask, NULL);
        *element = down;
        qn_exec_forget(x, value);
        d[k] = (a - run_loss(x, g, feeds, mask, NULL)) / ((double)up - (double)down);
    }
    *element = before;
    qn_exec_forget(x, value);
    return (4 * d[1] - d[0]) / 3;
}

static void derive(const qn_graph *g, const struct weights *w, const uint32_t *asked, unsigned n_asked, const qn_array *feeds, uint32_t mask,
                   unsigned n_threads, float **out, double *value)
{
    qn_err err = {0};
    qn_grad *t;
    union {
        const struct weights *in;
        void *out;
    } u = {.in = w};
    const qn_grad_options o = {.read = read_weight, .read_ctx = u.out, .weights = asked, .n_weights = n_asked};
    struct loss l = {.n_outs = g->n_outputs, .mask = mask};
    uint64_t held[3];
    cr_assert_eq(qn_grad_open(qt_made_env(n_threads), g, &o, &t, &err), QN_OK, "%s", err.text);
    for (unsigned round = 0; round < 3; round++) {
        qn_array f[OPERANDS];
        for (uint32_t i = 0; i < g->n_inputs; i++)
            qn_array_share(&feeds[i], &f[i]);
        if (round == 2) /* rounds 0 and 1 are added up: two of the same are twice one */
            for (unsigned i = 0; i < n_asked; i++)
                for (uint64_t k = 0; k < qn_value_elems(&g->values[asked[i]]); k++)
                    out[i][k] = qn_grad_of(t, i)[k] / 2;
        if (round == 2)
            qn_grad_clear(t);
        cr_assert_eq(qn_grad_run(t, f, loss, &l, value, &err), QN_OK, "%s", err.text);
        held[round] = atomic_load(&qn_exec_pool(qn_grad_exec(t))->held_bytes);
    }
    cr_assert_eq(held[0], held[1], "memory is kept");
    cr_assert_eq(held[0], held[2]);
    for (unsigned i = 0; i < n_asked; i++)
        for (uint64_t k = 0; k < qn_value_elems(&g->values[asked[i]]); k++) {
            cr_assert_float_eq(out[i][k], qn_grad_of(t, i)[k], 1e-5 * (1 + fabs((double)out[i][k])), "two batches are not added up");
            out[i][k] = qn_grad_of(t, i)[k];
        }
    qn_grad_close(t);
}

static float **room(const qn_graph *g, const uint32_t *weights, unsigned n)
{
    float **p = qt_made_keep(calloc(n + 1, sizeof *p));
    for (unsigned i = 0; i < n; i++)
        p[i] = qt_made_keep(calloc(qn_value_elems(&g->values[weights[i]]) + 1, sizeof(float)));
    return p;
}

static void compare(const char *what, const qn_graph *g, const struct weights *w, const qn_array *feeds, uint32_t mask, double bar)
{
    qn_err err = {0};
    double value;
    float **d = room(g, w->values, w->n), **again = room(g, w->values, w->n);
    derive(g, w, w->values, w->n, feeds, mask, 1, d, &value);
    derive(g, w, w->values, w->n, feeds, mask, 2, again, &value);
    for (unsigned i = 0; i < w->n; i++) {
        const uint64_t n = qn_value_elems(&g->values[w->values[i]]);
        cr_assert(!memcmp(d[i], again[i], n * sizeof(float)), "%s: derivative %u depends on the number of threads", what, i);
        float **alone = room(g, &w->values[i], 1);
        derive(g, w, &w->values[i], 1, feeds, mask, 1, alone, &value);
        cr_assert(!memcmp(d[i], alone[0], n * sizeof(float)), "%s: derivative %u is another when it is asked for alone", what, i);
    }
    union {
        const struct weights *in;
        void *out;
    } u = {.in = w};
    qn_exec *x;
    cr_assert_eq(qn_exec_open(qt_made_env(1), g, &(qn_exec_options){.read = read_weight, .read_ctx = u.out}, &x, &err), QN_OK);
    uint64_t work = 0;
    cr_assert_eq(value, run_loss(x, g, feeds, mask, &work), "%s: the loss is another one", what);
    const uint64_t looked_at = work > LARGE ? LOOKED_AT / 8 : LOOKED_AT;
    for (unsigned i = 0; i < w->n; i++) {
        const uint64_t n = qn_value_elems(&g->values[w->values[i]]);
        qt_rng r = qt_seed(i);
        double most = 1e-2, worst = 0, is = 0, should = 0;
        uint64_t at = 0;
        for (uint64_t k = 0; k < n; k++)
            most = fmax(most, fabs((double)d[i][k]));
        for (uint64_t k = 0; k < (n < looked_at ? n : looked_at); k++) {
            const uint64_t e = n > looked_at ? qt_below(&r, n) : k;
            const double want = difference(x, g, feeds, mask, w->values[i], &w->data[i][e]), off = fabs((double)d[i][e] - want);
            if (!(off <= worst)) {
                worst = off;
                at = e;
                is = (double)d[i][e];
                should = want;
            }
        }
        cr_assert(worst <= bar * most, "%s: derivative by '%s', element %llu is %g, not %g (largest %g)", what, g->values[w->values[i]].name,
                  (unsigned long long)at, is, should, most);
    }
    qn_exec_close(x);
}

void qt_grad_compare(const char *what, const qn_graph *g, const uint32_t *weights, float *const *data, unsigned n_weights, const qn_array *feeds,
                     double bar)
{
    const struct weights w = {.values = weights, .data = data, .n = n_weights};
    uint32_t floats = 0;
    cr_assert(g->n_outputs <= 32 && g->n_inputs <= OPERANDS);
    for (uint32_t o = 0; o < g->n_outputs; o++)
        floats |= g->values[g->outputs[o]].dtype == QN_F32 || g->values[g->outputs[o]].dtype == QN_BYTES ? 1u << o : 0;
    compare(what, g, &w, feeds, floats, bar);
    for (uint32_t o = 0; o < g->n_outputs && (floats & (floats - 1)); o++)
        if (floats >> o & 1)
            compare(what, g, &w, feeds, 1u << o, bar);
}

/* --- one node ---------------------------------------------------------------------------------------------------------------------- */

qn_source *qt_grad_source(const qn_env *env, const char *const *names, const qt_grad_in *shapes, unsigned n)
{
    qt_made_tensor t[MOST];
    for (unsigned i = 0; i < n; i++) {
        uint64_t count = 1;
        t[i] = (qt_made_tensor){.name = names[i], .dtype = QN_F32, .rank = shapes[i].rank};
        for (unsigned k = 0; k < shapes[i].rank; k++)
            count *= t[i].dims[k] = (uint64_t)shapes[i].dims[k];
        t[i].data = qt_made_keep(calloc(count + 1, sizeof(float)));
    }
    if (!n)
        t[n++] = (qt_made_tensor){.name = "unused", .dtype = QN_F32, .rank = 1, .dims = {1}, .data = qt_made_keep(calloc(1, sizeof(float)))};
    return qt_made_open(env, qt_made_safetensors("weights.safetensors", t, n, NULL));
}

static float *fill(qt_rng *r, qt_grad_fill how, uint64_t n)
{
    float *p = qt_made_keep(malloc((n + 1) * sizeof *p));
    for (uint64_t i = 0; i < n; i++) {
        const double v = qt_normal(r);
        p[i] = (float)(how == QT_POSITIVE ? 0.5 + fabs(v) : how == QT_SPREAD ? 1.8 * ((double)i + 0.5) / (double)n - 0.9 : v);
        if (how == QT_APART || how == QT_BETWEEN)
            p[i] = 0.125f * (float)((double)i - (double)(n / 2)) + (how == QT_APART ? 0.0625f : 0);
    }
    for (uint64_t i = n; (how == QT_APART || how == QT_BETWEEN || how == QT_SPREAD) && i-- > 1;) {
        const uint64_t k = qt_below(r, i + 1);
        const float v = p[i];
        p[i] = p[k];
        p[k] = v;
    }
    return p;
}

void qt_grad_check(const qt_grad_op *op)
{
    static char text[OPERANDS][16];
    const qn_env *env = qt_made_env(1);
    const char *names[OPERANDS];
    qt_grad_in shapes[OPERANDS];
    qn_err err = {0};
    qn_graph *g;
    uint32_t in[OPERANDS], out[OPERANDS], weights[OPERANDS];
    float *data[OPERANDS];
    qn_array feeds[OPERANDS];
    unsigned n_in = 0, n_weights = 0, n_feeds = 0, n_attrs = 0;
    char what[160];
    qt_rng r = qt_seed(7);
    snprintf(what, sizeof what, "%s%s%s", op->type, op->what ? " " : "", op->what ? op->what : "");
    for (unsigned i = 0; i < 10; i++)
        if (op->in[i].fill >= QT_NORMAL && op->in[i].fill <= QT_SPREAD) {
            snprintf(text[n_weights], 16, "w%u", i);
            names[n_weights] = text[n_weights];
            shapes[n_weights++] = op->in[i];
        }
    qn_source *s = qt_grad_source(env, names, shapes, n_weights);
    n_weights = 0;
    cr_assert_eq(qn_graph_new(env, s, "test", &g, &err), QN_OK);
    for (unsigned i = 0; i < 10; i++) {
        const qt_grad_in *p = &op->in[i];
        const qn_dtype t = p->dtype ? p->dtype : QN_F32;
        uint64_t n = 1;
        char name[16];
        for (unsigned k = 0; k < p->rank; k++)
            n *= (uint64_t)p->dims[k];
        in[i] = QN_NO_VALUE;
        if (p->fill == QT_LEFT_OUT)
            continue;
        n_in = i + 1;
        snprintf(name, sizeof name, "%c%u", p->fill <= QT_SPREAD ? 'w' : 'x', i);
        union {
            const void *in;
            void *out;
        } u = {.in = p->fill == QT_FIXED ? fill(&r, QT_NORMAL, n) : p->data};
        if (p->fill <= QT_SPREAD) {
            cr_assert_eq(qn_graph_weight(g, name, &in[i], &err), QN_OK, "%s", err.text);
            data[n_weights] = fill(&r, p->fill, n);
            weights[n_weights++] = in[i];
        } else if (p->fill == QT_CONST) {
            cr_assert_eq(qn_graph_const(g, name, t, p->dims, p->rank, p->data, &in[i], &err), QN_OK, "%s", err.text);
        } else {
            cr_assert_eq(qn_graph_input(g, name, t, p->dims, p->rank, &in[i], &err), QN_OK, "%s", err.text);
            cr_assert_eq(qn_array_wrap(&feeds[n_feeds++], t, p->dims, p->rank, u.out, &err), QN_OK);
        }
    }
    while (n_attrs < 10 && op->attrs[n_attrs].name)
        n_attrs++;
    const unsigned n_out = op->n_out ? op->n_out : 1;
    const bool ours = op->domain && !strcmp(op->domain, "quern");
    cr_assert_eq(qn_graph_node(g, op->domain ? op->domain : "", op->type, ours ? 0 : op->version ? op->version : 18, what, in, n_in, op->attrs, n_attrs,
                               NULL, out, n_out, &err), QN_OK, "%s: %s", what, err.text);
    for (unsigned i = 0; i < n_out; i++)
        cr_assert_eq(qn_graph_output(g, out[i], &err), QN_OK);
    cr_assert_eq(qn_graph_seal(g, &err), QN_OK, "%s: %s", what, err.text);
    cr_assert(qn_backward_find(op->domain ? op->domain : "", op->type), "%s has no row", what);
    qt_grad_compare(what, g, weights, data, n_weights, feeds, op->bar > 0 ? op->bar : 1e-3);
    qn_graph_close(g);
    qn_source_close(s);
}

void qt_grad_check_all(const qt_grad_op *ops)
{
    for (; ops->type; ops++)
        qt_grad_check(ops);
}
