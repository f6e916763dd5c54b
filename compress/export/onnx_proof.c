/* onnx_proof.c: the written model opened again and run beside the one that it was made of, on made-up inputs. Both hold the same weights, so what they
 * compute may differ by rounding of sums only. */
#include "analysis/exec/onnx_kit.h"
#include "base/err.h"
#include "compress/export/onnx_impl.h"
#include "compress/prune/made_feed.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { ENDS_MAX = 32, RUNS = 2 };
#define PARAMS_MOST (UINT64_C(64) << 20) /* larger models are not run: it would take longer than all else */
#define MACS_MOST   2e10
#define APART_MOST  1e-4
#define APART_MOST_F16 2e-3 /* of models with f16 weights: decoded ones are rounded to f16, codes times scales here are not */

typedef struct side {
    const qn_graph *g;
    qn_exec *exec;
    qn_array outs[ENDS_MAX];
} side;

static double at(const qn_array *a, uint64_t i)
{
    return qn_is_float(a->dtype) ? qn_elem_float(a, i) : (double)qn_elem_int(a, i);
}

/* max |a − b| / max |b|, of one output. */
static qn_code compare(const qn_array *a, const qn_array *b, const char *name, double *apart, qn_err *err)
{
    char ta[128], tb[128];
    double most = 0, off = 0;
    bool same = a->rank == b->rank && a->dtype == b->dtype;
    for (unsigned k = 0; same && k < a->rank; k++)
        same = a->dims[k] == b->dims[k];
    if (!same)
        return QN_FAIL(err, QN_E_VERIFY, QN_NO_OFFSET, "output '%s' of what was written is %s, that of the original %s", name, qn_array_text(a, ta),
                       qn_array_text(b, tb));
    for (uint64_t i = 0; i < a->n; i++) {
        const double x = at(a, i), y = at(b, i);
        if (isfinite(y))
            most = fmax(most, fabs(y));
        if (x != y && !(isnan(x) && isnan(y)))
            off = isnan(x - y) ? (double)INFINITY : fmax(off, fabs(x - y));
    }
    *apart = fmax(*apart, off > 0 ? off / (most > 0 ? most : 1) : 0);
    return QN_OK;
}

static qn_code run_side(side *s, const qn_calibrate_feed *feed, uint64_t batch, qn_err *err)
{
    qn_array in[ENDS_MAX];
    memset(in, 0, sizeof in);
    *feed->pool = qn_exec_pool(s->exec);
    qn_code rc = feed->feed(feed->ctx, batch, in, err);
    if (rc == QN_OK)
        rc = qn_exec_run(s->exec, in, s->outs, err);
    for (uint32_t i = 0; i < s->g->n_inputs; i++)
        qn_array_release(&in[i]);
    return rc;
}

static qn_code run_both(side *now, side *was, const qn_calibrate_feed *feed, double *apart, qn_err *err)
{
    qn_code rc = QN_OK;
    for (uint64_t b = 0; b < RUNS && rc == QN_OK; b++) {
        rc = run_side(was, feed, b, err);
        if (rc == QN_OK)
            rc = run_side(now, feed, b, err);
        for (uint32_t i = 0; i < was->g->n_outputs && rc == QN_OK; i++)
            rc = compare(&now->outs[i], &was->outs[i], was->g->values[was->g->outputs[i]].name, apart, err);
        for (uint32_t i = 0; i < was->g->n_outputs; i++) {
            qn_array_release(&now->outs[i]);
            qn_array_release(&was->outs[i]);
        }
    }
    return rc;
}

static qn_code run(qn_to_onnx_export *x, const qn_graph *written, const qn_groups *shapes, double *apart, qn_err *err)
{
    side now = {.g = written}, was = {.g = x->g};
    qn_made_feed made;
    qn_calibrate_feed feed;
    qn_made_feed_open(&made, shapes, 1, RUNS, &feed);
    qn_code rc = qn_exec_open(x->env, now.g, &(qn_exec_options){0}, &now.exec, err);
    if (rc == QN_OK)
        rc = qn_exec_open(x->env, was.g, &(qn_exec_options){0}, &was.exec, err);
    if (rc == QN_OK)
        rc = run_both(&now, &was, &feed, apart, err);
    qn_exec_close(now.exec);
    qn_exec_close(was.exec);
    return rc;
}

static bool same_ends(const qn_graph *a, const qn_graph *b)
{
    bool same = a->n_inputs == b->n_inputs && a->n_outputs == b->n_outputs;
    for (uint32_t i = 0; same && i < a->n_inputs; i++)
        same = !strcmp(a->values[a->inputs[i]].name, b->values[b->inputs[i]].name);
    return same;
}

static uint64_t params_of(const qn_graph *g)
{
    uint64_t n = 0;
    for (uint32_t v = 0; v < g->n_values; v++)
        if (g->values[v].kind == QN_VALUE_WEIGHT)
            n += qn_value_elems(&g->values[v]);
    return n;
}

/* Shapes to run with; *why: there are none. */
static qn_code shapes_of(qn_to_onnx_export *x, qn_groups **shapes, const char **why, qn_err *err)
{
    qn_err ignored = {0};
    if (params_of(x->g) > PARAMS_MOST)
        *why = "it is large";
    else if (x->g->n_inputs > ENDS_MAX || x->g->n_outputs > ENDS_MAX)
        *why = "it has very many inputs or outputs";
    else if (qn_graph_check_runs(x->g, &ignored) != QN_OK)
        *why = "it has operators that cannot be run here";
    if (*why)
        return QN_OK;
    const qn_code rc = qn_groups_find(x->env, x->g, &(qn_groups_options){0}, shapes, &ignored);
    if (rc == QN_E_MEMORY || rc == QN_E_CANCELLED || rc == QN_E_IO) {
        *err = ignored;
        return rc;
    }
    if (rc != QN_OK)
        *why = "the shapes of its inputs are not known";
    else if ((*shapes)->macs > MACS_MOST)
        *why = "it takes long to run";
    return QN_OK;
}

static double most_apart(const qn_to_onnx_export *x)
{
    double most = x->want.form == QN_TO_ONNX_FORM_HALF ? (double)INFINITY : APART_MOST; /* f16 rounds, how much depends on the model */
    for (uint32_t i = 0; i < x->n_picks; i++)
        if (x->picks[i].chosen && x->picks[i].file->data_type == QN_ONNX_FLOAT16)
            most = fmax(most, APART_MOST_F16);
    return most;
}

static qn_code prove(qn_to_onnx_export *x, const qn_graph *written, bool *ran, double *apart, const char **why, qn_err *err)
{
    qn_groups *shapes = NULL;
    if (!same_ends(x->g, written))
        return QN_FAIL(err, QN_E_VERIFY, QN_NO_OFFSET, "what was written has other inputs or outputs");
    qn_code rc = shapes_of(x, &shapes, why, err);
    if (rc == QN_OK && !*why) {
        qn_err failed = {0};
        rc = run(x, written, shapes, apart, &failed);
        if (rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED) { /* shapes that were made up may be none that the model takes */
            *why = qn_arena_str(x->job->arena, failed.text, strlen(failed.text), err);
            rc = *why ? QN_OK : QN_E_MEMORY;
        } else if (rc != QN_OK) {
            *err = failed;
        }
        *ran = rc == QN_OK && !*why;
    }
    qn_groups_free(shapes);
    const double most = most_apart(x);
    if (rc == QN_OK && *ran && !(*apart <= most))
        return QN_FAIL(err, QN_E_VERIFY, QN_NO_OFFSET, "what was written computes something else: outputs are off by %.3g of the largest, at most %g is allowed",
                       *apart, most);
    return rc;
}

qn_code qn_to_onnx_proof(qn_to_onnx_export *x, const char *path, bool *ran, double *apart, const char **why, qn_err *err)
{
    qn_source *s = NULL;
    qn_graph *g = NULL;
    qn_err failed = {0};
    *ran = false;
    *apart = 0;
    *why = NULL;
    qn_code rc = qn_source_open(x->env, path, &s, &failed);
    if (rc == QN_OK && x->g)
        rc = qn_graph_open(x->env, s, &g, &failed);
    if (rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED)
        rc = qn_err_in_tensor(err, QN_FAIL(err, QN_E_VERIFY, QN_NO_OFFSET, "what was written does not open again: %s", failed.text), failed.tensor);
    else if (rc != QN_OK)
        *err = failed;
    if (rc == QN_OK && g)
        rc = prove(x, g, ran, apart, why, err);
    qn_graph_close(g);
    qn_source_close(s);
    return rc;
}
