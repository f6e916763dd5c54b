/* prune.c: the pass of structured pruning, step by step. */
#include "compress/prune/prune.h"
#include "base/err.h"
#include "base/num.h"
#include "base/path.h"
#include "compress/prune/proof.h"
#include "compress/prune/record.h"
#include "formats/onnx/onnx.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MEASURE_BATCHES = 64, MEASURE_ROWS = 1024, PROOF_RUNS = 4, ROUNDINGS = 4 };
#define ROUNDING_MOST 1e-3 /* what no model may need, whatever its rounding */

static void say(const qn_prune *p, const char *what)
{
    if (p->env->progress)
        p->env->progress(p->env->progress_ctx, what, 0, 0);
}

qn_prune_options qn_prune_options_of(const qn_prune_wish *w, bool has_data, uint64_t memory_bytes)
{
    qn_prune_options o = {.keep = w->keep, .n_keep = w->n_keep, .inexact = w->inexact, .inner = w->inner, .per_layer = w->per_layer, .any_heads = w->any_heads,
                          .recover = w->recover > 0, .memory_bytes = memory_bytes};
    o.allocate = (qn_allocate_options){.unit = (qn_budget_unit)w->by, .share = w->ratio, .method = (qn_allocation)w->allocate, .most = w->most,
                                       .multiple = w->multiple, .generations = w->generations, .seed = w->seed};
    /* a gradual cut is chosen while it trains: what the budget means is all that is needed before */
    if (!has_data || w->by == QN_BUDGET_GROUPS || w->gradual)
        o.allocate.method = QN_ALLOCATE_UNIFORM;
    o.allocate.repair = (qn_repair_options){.saliency = (qn_saliency)w->saliency, .refit = !w->no_refit, .ridge = w->ridge, .seed = w->seed,
                                            .memory_bytes = memory_bytes};
    o.recovery = (qn_recover_options){.steps = w->recover, .rate = w->rate, .gradual = w->gradual, .seed = w->seed};
    double *share = w->by == QN_BUDGET_GROUPS ? &o.recovery.groups_share : w->by == QN_BUDGET_MACS ? &o.recovery.macs_share : &o.recovery.params_share;
    if (w->gradual)
        *share = w->ratio;
    o.cuts = w->ratio > 0;
    o.drop_layers = w->drop_layers;
    o.drop_experts = w->drop_experts;
    return o;
}

/* What all questions to emission have in common. */
static qn_emit_options emit_options(const qn_prune *p)
{
    return (qn_emit_options){.per_layer = p->options->per_layer, .any_loader = p->options->any_heads};
}

/* ---- opening ---- */

static bool is_onnx(const qn_prune *p)
{
    return qn_onnx_source_model(p->original) != NULL;
}

/* An ONNX file is made ready in the work folder; what is pruned is that file. */
static qn_code prepare(qn_prune *p, qn_err *err)
{
    bool changed;
    if (!is_onnx(p))
        return QN_OK;
    QN_TRY(qn_prepare_onnx(p->env, p->graph, p->work.prepared, &changed, &p->n_folded_norms, err));
    if (!changed)
        return QN_OK;
    qn_graph_close(p->graph);
    p->graph = NULL;
    p->source = NULL;
    QN_TRY(qn_source_open(p->env, p->work.prepared, &p->source, err));
    return qn_graph_open(p->env, p->source, &p->graph, err);
}

/* The groups as the data's shapes show them, else as the declared ones do. */
static qn_code find_groups(qn_prune *p, qn_err *err)
{
    qn_groups_options o = {.inner = p->options->inner, .inexact = p->options->inexact};
    qn_array feeds[64];
    qn_pool pool = {.alloc = p->env->alloc};
    memset(feeds, 0, sizeof feeds);
    if (p->graph->n_inputs > 64)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "the model has %u inputs; at most 64 are supported", p->graph->n_inputs);
    qn_code rc = QN_OK;
    if (p->has_data) {
        *p->feed.pool = &pool;
        rc = p->feed.feed(p->feed.ctx, 0, feeds, err);
        o.feeds = feeds;
    }
    if (rc == QN_OK)
        rc = qn_groups_find(p->env, p->graph, &o, &p->groups, err);
    for (uint32_t i = 0; i < p->graph->n_inputs; i++)
        qn_array_release(&feeds[i]);
    if (p->has_data)
        *p->feed.pool = NULL;
    return rc;
}

/* What must stay: what no runtime could load without, and what the user said. */
static qn_code find_limits(qn_prune *p, qn_err *err)
{
    const qn_groups *s = p->groups;
    const uint64_t n = (uint64_t)s->n_families + 1;
    p->least = qn_mem_zeros(p->env->alloc, n, sizeof *p->least, err);
    p->class_of = qn_mem_zeros(p->env->alloc, n, sizeof *p->class_of, err);
    p->allowed = qn_mem_zeros(p->env->alloc, n, 1, err);
    if (!p->least || !p->class_of || !p->allowed)
        return QN_E_MEMORY;
    const qn_emit_options e = emit_options(p);
    QN_TRY(qn_emit_constraints(p->graph, s, &e, p->class_of, p->allowed, err));
    for (uint32_t f = 0; f < s->n_families; f++)
        p->least[f] = p->allowed[f] ? 1 : s->families[f].n_groups;
    for (unsigned k = 0; k < p->options->n_keep; k++) {
        qn_pattern pattern;
        bool used = false;
        QN_TRY(qn_pattern_open(&pattern, p->options->keep[k], err));
        for (uint32_t f = 0; f < s->n_families; f++)
            for (uint32_t m = 0; m < s->families[f].n_members; m++) {
                const qn_value *v = &p->graph->values[s->families[f].members[m].value];
                if (v->kind != QN_VALUE_WEIGHT || !qn_pattern_match(&pattern, v->name))
                    continue;
                used = true;
                p->least[f] = s->families[f].n_groups;
            }
        qn_pattern_close(&pattern);
        if (!used)
            return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "--keep '%.100s' matches no weight that could be cut", p->options->keep[k]);
    }
    return QN_OK;
}

static qn_code check_needs(const qn_prune *p, qn_err *err)
{
    const qn_prune_options *o = p->options;
    const qn_repair_options *r = &o->allocate.repair;
    if (p->has_data)
        return QN_OK;
    const char *what = NULL;
    if (r->refit && o->cuts)
        what = "a refit";
    else if (o->cuts && r->saliency != QN_SALIENCY_MAGNITUDE && r->saliency != QN_SALIENCY_RANDOM)
        what = "this saliency";
    else if (o->recover)
        what = "recovery";
    else if (o->cuts && o->allocate.method != QN_ALLOCATE_UNIFORM)
        what = "this allocation";
    else if (o->sparsity && (o->sparsity->by != QN_SPARSITY_MAGNITUDE || o->sparsity->kind == QN_SPARSITY_KNEE))
        what = "this sparsity";
    return what ? QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s needs calibration data", what) : QN_OK;
}

/* A dry run leaves the output's folder alone: it may not be ours to write to. */
static qn_code open_work(qn_prune *p, qn_err *err)
{
    char place[300];
    if (!p->options->dry_run)
        return qn_prune_work_open(&p->work, p->env, p->output, err);
    (void)snprintf(place, sizeof place, "%.200s/quern-dry-%ld", p->env->tmp_dir ? p->env->tmp_dir : "/tmp", (long)getpid());
    return qn_prune_work_open(&p->work, p->env, place, err);
}

qn_code qn_prune_open(qn_prune *p, const qn_env *env, const char *input, const char *output, const qn_prune_data *data,
                      const qn_prune_options *o, qn_err *err)
{
    *p = (qn_prune){.env = env, .options = o, .input = input, .output = output, .data = data, .has_data = data != NULL};
    QN_TRY(check_needs(p, err));
    QN_TRY(qn_source_open(env, input, &p->original, err));
    p->source = p->original;
    if (!o->dry_run)
        QN_TRY(qn_prune_work_check(env, output, p->original->is_dir, o->overwrite, err));
    QN_TRY(qn_err_in_path(err, qn_graph_open(env, p->original, &p->graph, err), input));
    QN_TRY(qn_err_in_path(err, qn_graph_check_runs(p->graph, err), input));
    QN_TRY(open_work(p, err));
    say(p, "preparing");
    QN_TRY(qn_err_in_path(err, prepare(p, err), input));
    if (data)
        QN_TRY(data->open(data->ctx, p->graph, &p->feed, err));
    say(p, "finding groups");
    QN_TRY(qn_err_in_path(err, find_groups(p, err), input));
    if (!data)
        qn_made_feed_open(&p->made, p->groups, o->allocate.seed, PROOF_RUNS, &p->feed);
    return qn_err_in_path(err, find_limits(p, err), input);
}

/* ---- planning ---- */

static qn_code open_measure(qn_prune *p, qn_err *err)
{
    /* enough samples also where a graph takes one at a time */
    const uint64_t each = p->feed.n_batches ? qn_ceil_div(p->feed.n_tokens, p->feed.n_batches) : 1;
    const uint64_t enough = qn_max_u64(MEASURE_BATCHES, MEASURE_ROWS / qn_max_u64(each, 1));
    const uint64_t n = qn_min_u64(p->feed.n_batches, p->options->measure_batches ? p->options->measure_batches : enough);
    return qn_measure_open(p->env, p->graph, &p->feed, n, p->options->memory_bytes, &p->measure, err);
}

static bool any_family(const qn_prune *p)
{
    for (uint32_t f = 0; f < p->groups->n_families; f++)
        if (p->least[f] < p->groups->families[f].n_groups)
            return true;
    return false;
}

/* No group goes: the plan of a run that drops layers or makes zeros only. */
static qn_code keep_all(qn_prune *p, qn_err *err)
{
    p->plan = (qn_allocated){.cost = p->cost_before, .reached = true, .loss = (double)NAN};
    p->plan.keep = qn_mem_zeros(p->env->alloc, (uint64_t)p->groups->n_families + 1, sizeof *p->plan.keep, err);
    if (!p->plan.keep)
        return QN_E_MEMORY;
    for (uint32_t f = 0; f < p->groups->n_families; f++)
        p->plan.keep[f] = p->groups->families[f].n_groups;
    return QN_OK;
}

qn_code qn_prune_plan(qn_prune *p, qn_err *err)
{
    qn_allocate_options o = p->options->allocate;
    QN_TRY(qn_cut_new(p->env, p->groups, &p->cut, err));
    QN_TRY(qn_cut_cost(p->cut, &p->cost_before, err));
    if (p->has_data)
        QN_TRY(open_measure(p, err));
    if (!p->options->cuts)
        return keep_all(p, err);
    if (!any_family(p))
        return qn_err_in_path(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "nothing of this model can be cut: 'quern inspect --groups' says why"),
                              p->input);
    o.least = p->least;
    o.class_of = p->class_of;
    say(p, "allocating");
    /* numbers of heads that a runtime would refuse are none of the choices */
    const qn_emit_options e = emit_options(p);
    qn_emit_loader loader = {0};
    qn_code rc = qn_emit_loader_open(&loader, p->env, p->graph, p->groups, &e, err);
    o.allows = qn_emit_allows;
    o.allows_ctx = &loader;
    if (rc == QN_OK)
        rc = qn_allocate(p->env, p->graph, p->groups, &p->feed, p->measure, &o, &p->plan, err);
    qn_emit_loader_close(&loader);
    if (rc == QN_OK && !(p->plan.share > 0))
        p->plan.reached = false; /* a share so small that no group goes is no success */
    return rc;
}

/* ---- running ---- */

static qn_code measure(qn_prune *p, const qn_overlay *w, qn_distance *out, qn_err *err)
{
    return qn_measure_run(p->measure, w, 0, qn_measure_batches(p->measure), out, err);
}

/* What the cut alone does: for the report. */
static qn_code measure_zeroed(qn_prune *p, qn_err *err)
{
    qn_overlay *w;
    QN_TRY(qn_overlay_new(p->env, p->graph, &w, err));
    qn_code rc = qn_cut_zero_overlay(p->cut, w, err);
    if (rc == QN_OK)
        rc = measure(p, w, &p->zeroed, err);
    qn_overlay_free(w);
    return rc;
}

static uint64_t measured_batches(const qn_prune *p)
{
    return p->measure ? qn_measure_batches(p->measure) : 0;
}

static qn_code train(qn_prune *p, qn_err *err)
{
    const qn_prune_options *o = p->options;
    qn_recover_options r = o->recovery;
    char *state = qn_path_cat(p->env->alloc, p->output, ".quern-recover", err);
    if (!state)
        return QN_E_MEMORY;
    r.keep = o->recovery.gradual && (r.groups_share > 0 || r.params_share > 0 || r.macs_share > 0) ? p->least : p->plan.keep;
    r.multiple = o->allocate.multiple;
    r.memory_bytes = o->memory_bytes;
    r.checkpoint = state;
    say(p, "training");
    qn_code rc = qn_recover(p->env, p->graph, &p->feed, p->cut, p->weights, &r, &p->recovery, err);
    qn_mem_put(p->env->alloc, state);
    if (rc == QN_OK)
        rc = measure(p, p->weights, &p->recovered, err);
    return rc;
}

/* A run that was trained to its end need not be resumed any more. */
static void forget_training(const qn_prune *p)
{
    char *state = qn_path_cat(p->env->alloc, p->output, ".quern-recover", NULL);
    if (state)
        (void)p->env->fs->unlink(p->env->fs->ctx, state);
    qn_mem_put(p->env->alloc, state);
}

static qn_code choose_and_train(qn_prune *p, qn_err *err)
{
    const qn_prune_options *o = p->options;
    p->families = qn_mem_zeros(p->env->alloc, (uint64_t)p->groups->n_families + 1, sizeof *p->families, err);
    if (!p->families)
        return QN_E_MEMORY;
    QN_TRY(qn_overlay_new(p->env, p->graph, &p->weights, err));
    if (o->cuts && !(o->recover && o->recovery.gradual)) {
        say(p, "pruning");
        QN_TRY(qn_repair(p->env, p->graph, &p->feed, p->plan.keep, &o->allocate.repair, p->cut, p->weights, p->families, err));
        if (p->measure)
            QN_TRY(measure_zeroed(p, err));
    }
    QN_TRY(qn_prune_depth(p, measured_batches(p), err));
    if (p->measure && !(o->recover && o->recovery.gradual))
        QN_TRY(measure(p, p->weights, &p->repaired, err));
    if (o->recover)
        QN_TRY(train(p, err));
    if (o->sparsity) {
        say(p, "setting weights to zero");
        QN_TRY(qn_sparsify(p->env, p->graph, p->has_data ? &p->feed : NULL, p->measure, o->sparsity, p->weights, &p->sparsity, err));
    }
    p->measured = p->measure != NULL;
    return QN_OK;
}

static qn_code write_zeroed(qn_prune *p, qn_err *err)
{
    qn_cut *none;
    QN_TRY(qn_cut_new(p->env, p->groups, &none, err));
    qn_emit_options e = emit_options(p);
    e.overwrite = p->options->overwrite;
    const qn_code rc = qn_emit(p->env, p->graph, none, NULL, p->weights, p->options->zeroed, &e, err);
    qn_cut_free(none);
    return rc;
}

/* What goes in depth is in no cut: costs are those of the model that was written. */
static qn_code count_written(qn_prune *p, const qn_graph *g, qn_err *err)
{
    const qn_groups_options o = {.inexact = true};
    qn_groups *s;
    qn_cut *none = NULL;
    QN_TRY(qn_groups_find(p->env, g, &o, &s, err));
    qn_code rc = qn_cut_new(p->env, s, &none, err);
    if (rc == QN_OK)
        rc = qn_cut_cost(none, &p->cost_after, err);
    /* of one run of the same inputs: shapes that were made up may differ from the data's */
    const double macs = s->macs;
    qn_cut_free(none);
    qn_groups_free(s);
    qn_groups *dense;
    QN_TRY(rc);
    QN_TRY(qn_groups_find(p->env, p->graph, &o, &dense, err));
    p->cost_after.macs = dense->macs > 0 ? p->cost_before.macs * macs / dense->macs : 0;
    qn_groups_free(dense);
    return QN_OK;
}

/* Opens what was written and runs it against the zeroed model. */
static qn_code prove(qn_prune *p, qn_err *err)
{
    qn_source *s = NULL;
    qn_graph *g = NULL;
    qn_proof proof;
    say(p, "proving the cut");
    qn_code rc = qn_source_open(p->env, p->work.result, &s, err);
    if (rc == QN_OK)
        rc = qn_graph_open(p->env, s, &g, err);
    if (rc == QN_OK)
        rc = qn_prune_proof(p->env, p->graph, p->weights, g, p->mask, &p->feed, PROOF_RUNS, p->options->memory_bytes, &proof, err);
    if (rc == QN_OK && (p->layers_gone || p->experts_gone))
        rc = count_written(p, g, err);
    qn_graph_close(g);
    qn_source_close(s);
    if (rc == QN_E_INPUT) /* what we have written must be readable */
        rc = err ? (err->code = QN_E_VERIFY) : QN_E_VERIFY;
    QN_TRY(rc);
    p->proof = proof.largest;
    p->proof_change = proof.change;
    p->proof_runs = proof.n_runs;
    p->exact = true;
    for (uint32_t f = 0; f < p->groups->n_families; f++)
        p->exact = p->exact && (!p->cut->n_gone[f] || !p->groups->families[f].reason);
    double allowed = QN_PRUNE_EXACT;
    if (p->exact && !(proof.largest <= allowed)) {
        qn_proof rounding;
        QN_TRY(qn_prune_proof(p->env, p->graph, p->weights, NULL, p->mask, &p->feed, PROOF_RUNS, p->options->memory_bytes, &rounding, err));
        p->rounding = rounding.largest;
        allowed = fmin(fmax(allowed, ROUNDINGS * rounding.largest), ROUNDING_MOST);
    }
    if (p->exact && !(proof.largest <= allowed))
        return QN_FAIL(err, QN_E_VERIFY, QN_NO_OFFSET, "the cut model is off by %.3g of output '%s', and at most %.3g is allowed: nothing was written",
                       proof.largest, proof.output ? proof.output : "?", allowed);
    return QN_OK;
}

static qn_code write_result(qn_prune *p, qn_err *err)
{
    char *record = NULL;
    QN_TRY(qn_prune_record(p->env, p->cut, &record, err));
    qn_emit_options e = emit_options(p);
    e.overwrite = true;
    e.record = record;
    say(p, "writing");
    const qn_depth d = qn_prune_depth_of(p);
    const qn_code rc = qn_emit(p->env, p->graph, p->cut, &d, p->weights, p->work.result, &e, err);
    qn_mem_put(p->env->alloc, record);
    return rc;
}

qn_code qn_prune_run(qn_prune *p, qn_err *err)
{
    QN_TRY(choose_and_train(p, err));
    qn_overlay_round(p->weights);
    QN_TRY(qn_cut_zero_overlay(p->cut, p->weights, err));
    QN_TRY(qn_cut_check(p->cut, err));
    QN_TRY(qn_cut_cost(p->cut, &p->cost_after, err));
    QN_TRY(write_result(p, err));
    QN_TRY(prove(p, err));
    QN_TRY(qn_prune_work_bytes(p->env, p->input, &p->bytes_before, err));
    QN_TRY(qn_prune_work_bytes(p->env, p->work.result, &p->bytes_after, err));
    if (p->options->zeroed)
        QN_TRY(write_zeroed(p, err));
    QN_TRY(qn_prune_work_publish(&p->work, p->output, p->original->is_dir, p->options->overwrite, err));
    forget_training(p);
    return QN_OK;
}

void qn_prune_close(qn_prune *p)
{
    if (!p->env)
        return;
    const qn_alloc *a = p->env->alloc;
    qn_measure_close(p->measure);
    qn_sparsity_report_release(&p->sparsity);
    qn_prune_depth_release(p);
    if (p->data && p->data->close)
        p->data->close(p->data->ctx);
    qn_mem_put(a, p->families);
    qn_mem_put(a, p->plan.keep);
    qn_mem_put(a, p->least);
    qn_mem_put(a, p->class_of);
    qn_mem_put(a, p->allowed);
    qn_overlay_free(p->weights);
    qn_cut_free(p->cut);
    qn_groups_free(p->groups);
    qn_graph_close(p->graph);
    if (p->source != p->original)
        qn_source_close(p->source);
    qn_source_close(p->original);
    qn_prune_work_close(&p->work);
    *p = (qn_prune){0};
}
