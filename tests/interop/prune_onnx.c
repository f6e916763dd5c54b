/* prune_onnx.c: what quern does to ONNX files on the way to a pruned one, step by step, for scripts that judge the files with other programs.
 *
 *   prune-onnx same IN OUT           written again, nothing changed
 *   prune-onnx outside IN OUT        the same, data in OUT.data
 *   prune-onnx prepare IN OUT        constants computed, batch norms folded
 *   prune-onnx cut IN OUT ZEROED PERCENT SEED [inner] [inexact]
 *       a random PERCENT of the exact groups of every family goes: OUT is without them, ZEROED has them as zeros. Runs both here, over three kinds of
 *       inputs (unknown dimensions: 1 in front, 64 behind axis 1, 16 else): "diff D", relative to the largest output, "moved M" against the dense model.
 *
 * Prints key and value in pairs. Exit: 0; 4 when the model has what we do not support; 1 otherwise, with a line "error TEXT". */
#include "analysis/graph/build.h"
#include "compress/prune/emit.h"
#include "formats/onnx/rewrite.h"
#include "tests/support/hostile.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { OPERANDS_MAX = 64, KINDS = 3 };

static uint64_t state;

/* splitmix64 */
static uint64_t next(void)
{
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static double uniform(void)
{
    return (double)(next() >> 11) * 0x1p-53;
}

static double normal(void)
{
    double t = -6;
    for (int i = 0; i < 12; i++)
        t += uniform();
    return t;
}

/* Normal numbers, numbers of images, large ones. */
static qn_code fill(const qn_graph *g, qn_array *to, unsigned kind, qn_err *err)
{
    state = kind + 11;
    for (uint32_t i = 0; i < g->n_inputs; i++) {
        const qn_value *v = &g->values[g->inputs[i]];
        int64_t dims[QN_ARRAY_RANK_MAX];
        uint64_t n = 1;
        if (!v->dims || v->dtype == QN_BYTES)
            return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "input '%s' of unknown shape", v->name);
        for (unsigned k = 0; k < v->rank; k++) {
            dims[k] = v->dims[k] > 0 ? v->dims[k] : k == 0 ? 1 : k >= 2 ? 64 : 16;
            n *= (uint64_t)dims[k];
        }
        void *data = calloc(n + 1, 8);
        for (uint64_t k = 0; data && k < n; k++) {
            if (v->dtype == QN_F32)
                ((float *)data)[k] = (float)(kind == 0 ? normal() : kind == 1 ? uniform() : 20 * normal());
            else if (v->dtype == QN_I64)
                ((int64_t *)data)[k] = (int64_t)(next() % 3);
            else if (v->dtype == QN_BOOL || v->dtype == QN_U8)
                ((uint8_t *)data)[k] = (uint8_t)(next() % 2);
        }
        if (!data)
            return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "out of memory");
        QN_TRY(qn_array_wrap(&to[i], (qn_dtype)v->dtype, dims, v->rank, data, err));
    }
    return QN_OK;
}

static qn_code run(const qn_env *env, const qn_graph *g, qn_overlay *w, const qn_array *from, qn_exec **x, qn_array *out, qn_err *err)
{
    const qn_exec_options o = {.read = w ? qn_overlay_read : NULL, .read_ctx = w};
    QN_TRY(qn_exec_open(env, g, &o, x, err));
    return qn_exec_run(*x, from, out, err);
}

/* Largest |a − b| over largest |b|, of all float outputs. */
static double apart(const qn_array *a, const qn_array *b, uint32_t n)
{
    double worst = 0;
    for (uint32_t i = 0; i < n; i++) {
        double most = 0, size = 0;
        if (a[i].n != b[i].n || a[i].dtype != b[i].dtype)
            return INFINITY;
        for (uint64_t k = 0; a[i].dtype == QN_F32 && k < a[i].n; k++) {
            const double p = (double)((const float *)a[i].data)[k], q = (double)((const float *)b[i].data)[k];
            if (isnan(p) != isnan(q))
                return INFINITY;
            most = isnan(p) || p == q ? most : fmax(most, fabs(p - q));
            size = isfinite(q) ? fmax(size, fabs(q)) : size;
        }
        worst = fmax(worst, size > 0 ? most / size : most);
    }
    return worst;
}

/* A random share of every family, as far as something is left of every axis. */
static qn_code choose(qn_cut *c, double share, uint64_t *n_gone, qn_err *err)
{
    const qn_groups *s = c->groups;
    *n_gone = 0;
    for (uint32_t f = 0; f < s->n_families; f++) {
        const qn_family *y = &s->families[f];
        const uint32_t want = (uint32_t)((double)y->n_groups * share);
        qn_err why = {0};
        uint32_t left = y->n_groups;
        for (uint32_t i = 0, gone = 0; i < y->n_groups && gone < want; i++, left--)
            if (uniform() * left < want - gone) {
                qn_cut_set(c, f, i, true);
                gone++;
            }
        if (qn_cut_check(c, &why) != QN_OK) {
            printf("spared %s: %s\n", y->name, why.text);
            for (uint32_t i = 0; i < y->n_groups; i++)
                qn_cut_set(c, f, i, false);
        }
        *n_gone += c->n_gone[f];
    }
    return qn_cut_check(c, err);
}

static qn_code zero(const qn_cut *c, qn_overlay *w, qn_err *err)
{
    const qn_graph *g = c->groups->graph;
    for (uint32_t v = 0; v < g->n_values; v++) {
        float *data;
        if (g->values[v].kind != QN_VALUE_WEIGHT || g->values[v].dtype != QN_F32 || !qn_cut_touches(c, v))
            continue;
        QN_TRY(qn_overlay_edit(w, v, &data, err));
        QN_TRY(qn_cut_zero(c, v, data, err));
    }
    return QN_OK;
}

static qn_array in[OPERANDS_MAX], dense[OPERANDS_MAX], zeroed[OPERANDS_MAX], small[OPERANDS_MAX];

/* Once over each kind of input. */
static qn_code judge(const qn_env *env, const qn_graph *g, qn_overlay *w, const char *path, qn_err *err)
{
    qn_exec *x[3];
    qn_source *s;
    qn_graph *h;
    double diff = 0, moved = 0;
    if (g->n_inputs > OPERANDS_MAX || g->n_outputs > OPERANDS_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "too many inputs or outputs");
    QN_TRY(qn_source_open(env, path, &s, err));
    QN_TRY(qn_graph_of_onnx(env, s, &h, err));
    for (unsigned kind = 0; kind < KINDS; kind++) {
        QN_TRY(fill(g, in, kind, err));
        QN_TRY(run(env, g, NULL, in, &x[0], dense, err));
        QN_TRY(run(env, g, w, in, &x[1], zeroed, err));
        QN_TRY(run(env, h, NULL, in, &x[2], small, err));
        diff = fmax(diff, apart(small, zeroed, g->n_outputs));
        moved = fmax(moved, apart(zeroed, dense, g->n_outputs));
    }
    printf("diff %.3g\nmoved %.3g\n", diff, moved);
    return QN_OK;
}

static qn_code cut(const qn_env *env, const qn_graph *g, char **argv, int argc, qn_err *err)
{
    qn_groups_options o = {0};
    qn_groups *s;
    qn_cut *c, *none;
    qn_overlay *w;
    qn_cost before, after;
    uint64_t n_gone, n_groups = 0;
    for (int i = 6; i < argc; i++) {
        o.inner = o.inner || !strcmp(argv[i], "inner");
        o.inexact = o.inexact || !strcmp(argv[i], "inexact");
    }
    QN_TRY(qn_groups_find(env, g, &o, &s, err));
    QN_TRY(qn_cut_new(env, s, &c, err));
    QN_TRY(qn_cut_new(env, s, &none, err));
    QN_TRY(qn_overlay_new(env, g, &w, err));
    state = strtoull(argv[5], NULL, 10);
    QN_TRY(choose(c, strtod(argv[4], NULL) / 100, &n_gone, err));
    for (uint32_t f = 0; f < s->n_families; f++)
        n_groups += s->families[f].n_groups;
    QN_TRY(qn_cut_cost(none, &before, err));
    QN_TRY(qn_cut_cost(c, &after, err));
    printf("families %" PRIu32 "\ngroups %" PRIu64 "\ngone %" PRIu64 "\nparams %" PRIu64 " %" PRIu64 "\nmacs %.4g %.4g\n", s->n_families, n_groups,
           n_gone, before.params, after.params, before.macs, after.macs);
    QN_TRY(zero(c, w, err));
    const qn_emit_options e = {.overwrite = true, .record = "{}"};
    QN_TRY(qn_emit_onnx(env, g, c, w, argv[2], &e, err));
    QN_TRY(qn_emit_onnx(env, g, none, w, argv[3], &e, err));
    return judge(env, g, w, argv[2], err);
}

static qn_code work(const qn_env *env, int argc, char **argv, qn_err *err)
{
    qn_source *s;
    qn_graph *g = NULL;
    const qn_onnx_edits none = {0};
    const qn_onnx_rewrite_options o = {.external_bytes = strcmp(argv[0], "outside") ? 0 : 1, .overwrite = true};
    QN_TRY(qn_source_open(env, argv[1], &s, err));
    if (!strcmp(argv[0], "same") || !strcmp(argv[0], "outside"))
        return qn_onnx_rewrite(env, s, &none, argv[2], &o, err);
    QN_TRY(qn_graph_of_onnx(env, s, &g, err));
    if (!strcmp(argv[0], "prepare")) {
        bool changed;
        uint32_t n_norms;
        QN_TRY(qn_prepare_onnx(env, g, argv[2], &changed, &n_norms, err));
        printf("changed %d\nnorms %" PRIu32 "\n", changed, n_norms);
        return QN_OK;
    }
    if (strcmp(argv[0], "cut") || argc < 6)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "usage: see the head of prune_onnx.c");
    return cut(env, g, argv, argc, err);
}

int main(int argc, char **argv)
{
    qn_env env;
    qn_err err = {0};
    if (argc < 4) {
        fprintf(stderr, "usage: see the head of prune_onnx.c\n");
        return 2;
    }
    if (qn_env_init(&env, &err) == QN_OK && work(&env, argc - 1, argv + 1, &err) == QN_OK)
        return 0;
    char line[1024];
    qn_err_line(&err, line, sizeof line);
    printf("error %s\n", line);
    return err.code == QN_E_UNSUPPORTED ? 4 : 1;
}
