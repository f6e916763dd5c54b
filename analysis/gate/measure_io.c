/* measure_io.c: what a model of any kind does on arrays; see measure.h. */
#include "analysis/eval/evaluate_io.h"
#include "analysis/gate/measure.h"
#include "base/err.h"
#include <string.h>

static const char *keep(qn_report *r, const char *s, qn_err *err)
{
    return qn_arena_str(&r->arena, s, strlen(s), err);
}

static qn_code take(qn_report *r, const qn_io_eval *e, bool labels, qn_err *err)
{
    r->outputs = qn_arena_get(&r->arena, (e->n_outputs + 1u) * sizeof *r->outputs, 16, err);
    r->chunks = r->outputs ? qn_arena_get(&r->arena, (e->n_runs + 1) * sizeof *r->chunks, 16, err) : NULL;
    if (!r->chunks)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < e->n_outputs; i++) {
        const qn_io_output *o = &e->outputs[i];
        r->outputs[i] = (qn_report_output){.name = keep(r, o->name, err), .n_values = o->n_values, .rel_rms = qn_io_rel_rms(o),
                                           .max_rel = qn_io_max_rel(o), .max_abs = o->max_abs, .cosine = qn_io_cosine(o)};
        if (!r->outputs[i].name)
            return QN_E_MEMORY;
    }
    memcpy(r->chunks, e->runs, e->n_runs * sizeof *r->chunks);
    r->n_outputs = e->n_outputs;
    r->n_chunks = r->b.n_chunks = e->n_runs;
    r->b.n_scored = e->n_samples;
    if (!e->n_outputs)
        return QN_OK;
    r->io_same_top = e->outputs[0].same_top;
    if (labels) {
        r->io_right = e->outputs[0].right;
        r->io_right_ref = e->outputs[0].right_ref;
    }
    return QN_OK;
}

qn_code qn_measure_io(const qn_env *env, const qn_graph *g, const qn_graph *ref, qn_io_feed *feed, const int64_t *labels, uint64_t n_labels,
                      const char *data_path, const qn_measure_options *o, qn_report *r, qn_err *err)
{
    qn_io_eval e;
    qn_err why;
    qn_err_clear(&why);
    r->b.data_path = keep(r, data_path, err);
    if (!r->b.data_path)
        return QN_E_MEMORY;
    r->b.data = feed->digest;
    qn_code rc = qn_evaluate_io(env, g, ref, feed, labels, n_labels, o->memory_bytes, &e, &why);
    if (rc == QN_E_INPUT) {
        char line[512];
        qn_err_line(&why, line, sizeof line);
        r->cannot_run = keep(r, line, err);
        return r->cannot_run ? QN_OK : QN_E_MEMORY;
    }
    if (rc != QN_OK) {
        if (err)
            *err = why;
        return rc;
    }
    r->is_io = true;
    rc = take(r, &e, labels != NULL, err);
    qn_io_eval_release(&e);
    return rc;
}
