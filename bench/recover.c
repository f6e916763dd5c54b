/* recover: how much of a pruned classifier training brings back, measured on test data with labels.
 *
 *   recover MODEL CALIB.npz TEST.npz LABELS.npy [--groups S | --params S | --macs S | --uniform S | --cut S] [--steps N] [--batch N] [--rate R] [--seed N] [--images N]
 *           [--feed N] [--labels FILE] [--half-space] [--curve]
 *
 * --groups, --params, --macs: gradual, chosen over the whole network until the share S has gone; --uniform: gradual, S of every family; --cut: S of every
 * family at once by magnitude, then training. Prints the accuracy of the dense model, of what training began with and of what came out. */
#include "analysis/eval/io_feed.h"
#include "analysis/graph/graph.h"
#include "base/err.h"
#include "compress/prune/recover.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static qn_err err;

static void check(qn_code rc)
{
    if (rc == QN_OK)
        return;
    fprintf(stderr, "%s %s: %s\n", err.path, err.tensor, err.text);
    exit((int)rc);
}

struct data {
    qn_io_feed feed;
    qn_calibrate_feed as;
    qn_array *kept; /* inputs of every batch: an array in a file is inflated once */
    qn_pool pool;
};

static qn_code from_memory(void *ctx, uint64_t batch, qn_array *inputs, qn_err *e)
{
    struct data *d = ctx;
    (void)e;
    for (uint32_t i = 0; i < d->feed.graph->n_inputs; i++)
        qn_array_share(&d->kept[batch * d->feed.graph->n_inputs + i], &inputs[i]);
    return QN_OK;
}

static void open_data(struct data *d, const qn_env *env, const qn_graph *g, const char *path, uint64_t batch, uint64_t limit)
{
    check(qn_io_feed_open(&d->feed, env, g, path, batch, limit, &err));
    d->pool = (qn_pool){.alloc = env->alloc};
    d->feed.pool = &d->pool;
    d->kept = qn_mem_zeros(env->alloc, d->feed.n_batches * g->n_inputs, sizeof *d->kept, &err);
    for (uint64_t b = 0; b < d->feed.n_batches; b++)
        check(qn_io_feed_batch(&d->feed, b, d->kept + b * g->n_inputs, &err));
    d->as = (qn_calibrate_feed){.n_batches = d->feed.n_batches, .n_tokens = d->feed.n_samples, .feed = from_memory, .ctx = d, .pool = &d->feed.pool};
}

static int64_t *read_labels(const qn_env *env, const char *path, uint64_t *n)
{
    qn_source *s;
    check(qn_source_open(env, path, &s, &err));
    *n = s->tensors[0].dims[0];
    int64_t *l = qn_mem_zeros(env->alloc, *n + 1, sizeof *l, &err);
    check(qn_source_tensor_read(s, 0, 0, *n * sizeof *l, l, &err));
    qn_source_close(s);
    return l;
}

static double accuracy(const qn_env *env, const qn_graph *g, const qn_overlay *w, struct data *d, const int64_t *labels)
{
    union {
        const qn_overlay *in;
        void *out;
    } u = {.in = w};
    const qn_exec_options o = {.read = w ? qn_overlay_read : NULL, .read_ctx = u.out};
    qn_exec *x;
    uint64_t right = 0, n = 0;
    check(qn_exec_open(env, g, &o, &x, &err));
    for (uint64_t b = 0; b < d->as.n_batches; b++) {
        qn_array in[QN_IO_INPUTS_MAX], out[8];
        check(from_memory(d, b, in, &err));
        check(qn_exec_run(x, in, out, &err));
        const uint64_t k = (uint64_t)out[0].dims[out[0].rank - 1];
        const float *y = out[0].data;
        for (uint64_t i = 0; i < out[0].n; i += k, n++) {
            uint64_t best = 0;
            for (uint64_t c = 1; c < k; c++)
                best = y[i + c] > y[i + best] ? c : best;
            right += (int64_t)best == labels[n];
        }
        for (uint32_t i = 0; i < g->n_outputs; i++)
            qn_array_release(&out[i]);
        for (uint32_t i = 0; i < g->n_inputs; i++)
            qn_array_release(&in[i]);
    }
    qn_exec_close(x);
    return 100.0 * (double)right / (double)n;
}

/* The groups of least norm over all their entries, the same share of every family. */
static void cut_by_magnitude(const qn_env *env, const qn_graph *g, qn_cut *cut, double share)
{
    qn_overlay *w;
    check(qn_overlay_new(env, g, &w, &err));
    const qn_groups *s = cut->groups;
    for (uint32_t f = 0; f < s->n_families; f++) {
        const qn_family *fam = &s->families[f];
        double *norm = qn_mem_zeros(env->alloc, fam->n_groups + 1u, sizeof *norm, &err);
        for (uint32_t k = 0; k < fam->n_members; k++) {
            const qn_member *m = &fam->members[k];
            float *p;
            if (g->values[m->value].kind != QN_VALUE_WEIGHT || qn_overlay_edit(w, m->value, &p, &err) != QN_OK)
                continue;
            uint64_t inner = 1;
            for (unsigned a = m->axis + 1u; a < g->values[m->value].rank; a++)
                inner *= (uint64_t)g->values[m->value].dims[a];
            const uint64_t n = qn_value_elems(&g->values[m->value]), d = (uint64_t)g->values[m->value].dims[m->axis];
            for (uint64_t e = 0; e < n; e++)
                for (uint32_t i = 0; i < fam->n_groups; i++)
                    for (uint32_t j = m->start[i]; j < m->start[i + 1]; j++)
                        if (m->index[j] == e / inner % d)
                            norm[i] += (double)p[e] * (double)p[e];
        }
        for (uint32_t go = (uint32_t)lround(share * fam->n_groups); go > 0; go--) {
            uint32_t best = UINT32_MAX;
            for (uint32_t i = 0; i < fam->n_groups; i++)
                if (!cut->gone[f][i] && (best == UINT32_MAX || norm[i] < norm[best]))
                    best = i;
            qn_cut_set(cut, f, best, true);
        }
        qn_mem_put(env->alloc, norm);
    }
    qn_overlay_free(w);
}

static void zeroed(const qn_graph *g, const qn_cut *cut, qn_overlay *w)
{
    for (uint32_t v = 0; v < g->n_values; v++) {
        float *p;
        if (g->values[v].kind != QN_VALUE_WEIGHT || !qn_cut_touches(cut, v))
            continue;
        check(qn_overlay_edit(w, v, &p, &err));
        check(qn_cut_zero(cut, v, p, &err));
    }
}

static void curve(void *ctx, uint32_t step, double loss)
{
    (void)ctx;
    if (step % 50 == 0)
        printf("  step %5" PRIu32 "  loss %.6f\n", step, loss);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: recover MODEL CALIB.npz TEST.npz LABELS.npy [options]; see the top of bench/recover.c\n");
        return 2;
    }
    qn_env env;
    check(qn_env_init(&env, &err));
    qn_recover_options o = {.seed = 1};
    uint64_t images = 0, feed = 1, n_labels, n_known = 0;
    double uniform = 0, at_once = 0;
    for (int i = 5; i < argc; i++) {
        const char *v = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--half-space"))
            o.half_space = o.gradual = true;
        else if (!strcmp(argv[i], "--curve"))
            o.on_step = curve;
        else if (i++, !strcmp(argv[i - 1], "--groups"))
            o.groups_share = atof(v), o.gradual = true;
        else if (!strcmp(argv[i - 1], "--params"))
            o.params_share = atof(v), o.gradual = true;
        else if (!strcmp(argv[i - 1], "--macs"))
            o.macs_share = atof(v), o.gradual = true;
        else if (!strcmp(argv[i - 1], "--uniform"))
            uniform = atof(v), o.gradual = true;
        else if (!strcmp(argv[i - 1], "--cut"))
            at_once = atof(v);
        else if (!strcmp(argv[i - 1], "--steps"))
            o.steps = (uint32_t)atoi(v);
        else if (!strcmp(argv[i - 1], "--batch"))
            o.batch = (uint32_t)atoi(v);
        else if (!strcmp(argv[i - 1], "--rate"))
            o.rate = atof(v);
        else if (!strcmp(argv[i - 1], "--seed"))
            o.seed = (uint64_t)atoi(v);
        else if (!strcmp(argv[i - 1], "--images"))
            images = (uint64_t)atoi(v);
        else if (!strcmp(argv[i - 1], "--feed"))
            feed = (uint64_t)atoi(v);
        else if (!strcmp(argv[i - 1], "--labels"))
            o.labels = read_labels(&env, v, &n_known);
        else
            return 2;
    }
    qn_source *s;
    qn_graph *g;
    qn_groups *groups;
    qn_cut *cut;
    qn_overlay *w;
    check(qn_source_open(&env, argv[1], &s, &err));
    check(qn_graph_open(&env, s, &g, &err));
    struct data calib, test;
    open_data(&calib, &env, g, argv[2], feed, images);
    open_data(&test, &env, g, argv[3], 64, 0);
    const int64_t *labels = read_labels(&env, argv[4], &n_labels);
    check(qn_groups_find(&env, g, NULL, &groups, &err));
    check(qn_cut_new(&env, groups, &cut, &err));
    check(qn_overlay_new(&env, g, &w, &err));
    o.n_labels = o.labels ? n_known : 0;
    uint32_t *keep = qn_mem_zeros(env.alloc, groups->n_families + 1u, sizeof *keep, &err);
    for (uint32_t f = 0; f < groups->n_families; f++)
        keep[f] = groups->families[f].n_groups - (uint32_t)lround(uniform * groups->families[f].n_groups);
    o.keep = uniform > 0 ? keep : NULL;
    qn_cost before, after;
    check(qn_cut_cost(cut, &before, &err));
    printf("%u families; dense: %.2f %% right, %" PRIu64 " parameters, %.0f macs\n", groups->n_families, accuracy(&env, g, NULL, &test, labels), before.params,
           before.macs);
    if (at_once > 0) {
        cut_by_magnitude(&env, g, cut, at_once);
        zeroed(g, cut, w);
        printf("cut by magnitude: %.2f %%\n", accuracy(&env, g, w, &test, labels));
    }
    qn_recovery r;
    const double t0 = seconds();
    check(qn_recover(&env, g, &calib.as, cut, w, &o, &r, &err));
    check(qn_cut_cost(cut, &after, &err));
    printf("loss %.5f -> %.5f, held out %.5f -> %.5f, %u steps in %.1f s\n", r.first_loss, r.last_loss, r.held_out_before, r.held_out_after, r.steps,
           seconds() - t0);
    for (uint32_t f = 0; f < groups->n_families; f++)
        printf("  %-40s %u of %u stay\n", groups->families[f].name, groups->families[f].n_groups - cut->n_gone[f], groups->families[f].n_groups);
    printf("%s: %.2f %% right, %.1f %% of the parameters, %.1f %% of the macs\n", r.reached ? "reached" : "not reached", accuracy(&env, g, w, &test, labels),
           100 * (double)after.params / (double)before.params, 100 * after.macs / before.macs);
    return 0;
}
