/* test_allocate.c: budgets are met, by no more than a step; multiples, caps, least numbers and equal numbers are kept to; curves against every choice there is;
 * evolution is never worse than its start; everything is the same again. */
#include "compress/prune/allocate_impl.h"
#include "tests/compress/prune/chain.h"
#include "tests/support/made.h"
#include "tests/support/ok.h"
#include "tests/support/testkit.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static qn_err err;

/* Parameters of a perceptron of these widths. */
static uint64_t params_of(const uint32_t *keep, uint32_t n)
{
    uint64_t sum = 0, in = QT_MLP_IN;
    for (uint32_t i = 0; i <= n; i++) {
        const uint64_t out = i < n ? keep[i] : QT_MLP_OUT;
        sum += in * out + out;
        in = out;
    }
    return sum;
}

static double macs_of(const uint32_t *keep, uint32_t n)
{
    double sum = 0, in = QT_MLP_IN;
    for (uint32_t i = 0; i <= n; i++) {
        sum += in * (i < n ? keep[i] : QT_MLP_OUT) * QT_MLP_ROWS;
        in = i < n ? keep[i] : 0;
    }
    return sum;
}

static void allocate(qt_chain *m, qn_measure *s, const qn_allocate_options *o, qn_allocated *out)
{
    OK(qn_allocate(m->env, m->graph, &m->groups, &m->feed, s, o, out, &err));
    cr_assert_eq(out->cost.params, params_of(out->keep, m->n_layers));
    cr_assert(fabs(out->cost.macs - macs_of(out->keep, m->n_layers)) < 0.5, "%g, not %g", out->cost.macs, macs_of(out->keep, m->n_layers));
    cr_assert_eq(out->cost.bytes, 4 * out->cost.params);
}

static void put(qt_chain *m, qn_allocated *a)
{
    qn_mem_put(m->env->alloc, a->keep);
}

Test(allocate, one_share_meets_every_budget_within_a_step)
{
    static const uint32_t width[] = {64, 48, 40, 0};
    static const qn_budget_unit units[] = {QN_BUDGET_PARAMS, QN_BUDGET_MACS, QN_BUDGET_BYTES};
    qt_chain m;
    qt_chain_open(&m, 1, width, NULL, 1, 1);
    for (unsigned unit = 0; unit < 3; unit++)
        for (uint32_t multiple = 1; multiple <= 8; multiple *= 2)
            for (double share = 0.05; share < 0.8; share += 0.05) {
                qn_allocate_options o = {.unit = units[unit], .share = share, .multiple = multiple};
                qn_allocated a;
                allocate(&m, NULL, &o, &a);
                const double all = units[unit] == QN_BUDGET_MACS ? macs_of(width, 3) : (double)params_of(width, 3);
                const double left = units[unit] == QN_BUDGET_MACS ? a.cost.macs : (double)a.cost.params;
                cr_expect(a.reached && left <= all * (1 - share) * (1 + 1e-9) && fabs(a.share - (1 - left / all)) < 1e-9);
                double smallest = (double)INFINITY, least = 1, most = 0;
                for (uint32_t i = 0; i < 3; i++) {
                    cr_expect(a.keep[i] % multiple == 0 && a.keep[i] > 0);
                    least = fmin(least, (a.keep[i] - (double)multiple) / width[i]);
                    most = fmax(most, (a.keep[i] - 2.0 * multiple) / width[i]);
                    if (a.keep[i] == width[i])
                        continue;
                    uint32_t more[3] = {a.keep[0], a.keep[1], a.keep[2]};
                    more[i] += multiple;
                    const double then = units[unit] == QN_BUDGET_MACS ? macs_of(more, 3) : (double)params_of(more, 3);
                    smallest = fmin(smallest, then);
                }
                cr_expect(most < least + 3.0 * multiple / 40, "share %g, multiple %u: %u %u %u", share, multiple, a.keep[0], a.keep[1], a.keep[2]);
                /* one layer or another was given its step already */
                cr_expect(all * (1 - share) - left < (72 + 48 + 12) * (units[unit] == QN_BUDGET_MACS ? QT_MLP_ROWS : 1.0) * multiple);
                put(&m, &a);
            }
    qt_chain_close(&m);
}

Test(allocate, shares_of_groups_are_rounded_to_the_nearest_step)
{
    static const uint32_t width[] = {256, 20, 7, 0};
    qt_chain m;
    qn_allocated a;
    qt_chain_open(&m, 1, width, NULL, 1, 2);
    qn_allocate_options o = {.unit = QN_BUDGET_GROUPS, .share = 0.75};
    allocate(&m, NULL, &o, &a);
    cr_expect(a.keep[0] == 64 && a.keep[1] == 5 && a.keep[2] == 2 && a.reached, "%u %u %u", a.keep[0], a.keep[1], a.keep[2]);
    cr_expect(fabs(a.share - (1 - 71.0 / 283)) < 1e-12 && isnan(a.loss));
    put(&m, &a);
    /* 5 of 20 and 1.75 of 7 stay: the nearest multiples of 4; 7 has one */
    o.multiple = 4;
    allocate(&m, NULL, &o, &a);
    cr_expect(a.keep[0] == 64 && a.keep[1] == 4 && a.keep[2] == 4, "%u %u %u", a.keep[0], a.keep[1], a.keep[2]);
    put(&m, &a);
    o = (qn_allocate_options){.unit = QN_BUDGET_GROUPS, .share = 0.75, .most = 0.5};
    allocate(&m, NULL, &o, &a);
    cr_expect(a.keep[0] == 128 && a.keep[1] == 10 && a.keep[2] == 4 && !a.reached);
    put(&m, &a);
    qt_chain_close(&m);
}

Test(allocate, caps_least_numbers_and_classes)
{
    static const uint32_t width[] = {48, 48, 40, 0}, least[] = {1, 30, 40}, class_of[] = {5, 5, UINT32_MAX};
    qt_chain m;
    qn_allocated a;
    qt_chain_open(&m, 1, width, NULL, 1, 3);
    /* a third may go of each: not enough for half of the parameters */
    qn_allocate_options o = {.unit = QN_BUDGET_PARAMS, .share = 0.9, .most = 1.0 / 3};
    allocate(&m, NULL, &o, &a);
    cr_expect(!a.reached && a.keep[0] == 32 && a.keep[1] == 32 && a.keep[2] == 27 && a.share < 0.9);
    put(&m, &a);
    o = (qn_allocate_options){.unit = QN_BUDGET_PARAMS, .share = 0.3, .least = least};
    allocate(&m, NULL, &o, &a);
    cr_expect(a.reached && a.keep[1] >= 30 && a.keep[2] == 40 && a.keep[0] < 48);
    put(&m, &a);
    for (double share = 0.1; share < 0.8; share += 0.1) {
        o = (qn_allocate_options){.unit = QN_BUDGET_MACS, .share = share, .class_of = class_of, .multiple = 2};
        allocate(&m, NULL, &o, &a);
        cr_expect(a.reached && a.keep[0] == a.keep[1] && a.keep[0] % 2 == 0);
        put(&m, &a);
    }
    static const uint32_t wrong[] = {1, UINT32_MAX, 1};
    o.class_of = wrong;
    cr_expect_eq(qn_allocate(m.env, m.graph, &m.groups, &m.feed, NULL, &o, &a, &err), QN_E_UNSUPPORTED);
    o = (qn_allocate_options){.unit = QN_BUDGET_MACS, .share = 1};
    qn_err_clear(&err);
    cr_expect_eq(qn_allocate(m.env, m.graph, &m.groups, &m.feed, NULL, &o, &a, &err), QN_E_USAGE);
    qt_chain_close(&m);
}

/* --- descent along given losses ------------------------------------------------------------------------------------- */

/* An allocator as qn_allocate makes it, for looking inside. */
static void open_allocator(qn_allocator *a, qt_chain *m, qn_measure *s, const qn_allocate_options *o)
{
    *a = (qn_allocator){.env = m->env, .graph = m->graph, .groups = &m->groups, .feed = &m->feed, .measure = s, .o = o};
    qn_arena_init(&a->arena, m->env->alloc);
    OK(qn_allocator_open(a, &err));
}

Test(allocate, descent_is_as_good_as_the_best_of_all_choices)
{
    static const uint32_t width[] = {9, 8, 7, 0};
    qt_chain m;
    qt_chain_open(&m, 1, width, NULL, 1, 4);
    qt_rng r = qt_seed(11);
    double worst = 1;
    for (unsigned round = 0; round < 60; round++) {
        const qn_allocate_options o = {.unit = QN_BUDGET_PARAMS, .share = 0.1 + 0.1 * (round % 6)};
        qn_allocator a;
        double **loss, sum = 0, best = (double)INFINITY, cost;
        uint32_t at[3] = {0, 0, 0};
        open_allocator(&a, &m, NULL, &o);
        OK(qn_allocator_losses(&a, &loss, &err));
        for (uint32_t u = 0; u < 3; u++) /* convex, by its second differences */
            for (uint32_t i = 1; i < a.units[u].n_steps; i++)
                loss[u][i] = loss[u][i - 1] + (i > 1 ? loss[u][i - 1] - loss[u][i - 2] : 0) + (double)(1 + qt_below(&r, 20));
        OK(qn_allocator_descend(&a, loss, at, &err));
        OK(qn_allocator_cost(&a, at, &cost, &err));
        cr_assert(cost <= a.limit);
        for (uint32_t u = 0; u < 3; u++)
            sum += loss[u][at[u]];
        uint32_t t[3];
        for (t[0] = 0; t[0] < a.units[0].n_steps; t[0]++)
            for (t[1] = 0; t[1] < a.units[1].n_steps; t[1]++)
                for (t[2] = 0; t[2] < a.units[2].n_steps; t[2]++) {
                    const uint32_t keep[3] = {a.units[0].keep[t[0]], a.units[1].keep[t[1]], a.units[2].keep[t[2]]};
                    if ((double)params_of(keep, 3) <= a.limit)
                        best = fmin(best, loss[0][t[0]] + loss[1][t[1]] + loss[2][t[2]]);
                }
        worst = fmax(worst, sum / best);
        qn_allocator_close(&a);
    }
    /* steps are coarse here, a ninth of a layer, and descent never comes back but at the end */
    cr_expect_lt(worst, 1.35, "%g", worst);
    qt_chain_close(&m);
}

/* --- measured ---------------------------------------------------------------------------------------------------------- */

Test(allocate, measured_methods_find_the_layer_that_can_go)
{
    /* of the first layer a quarter matters, of the others all */
    static const uint32_t width[] = {32, 32, 32, 0}, live[] = {8, 32, 32};
    static const qn_allocation methods[] = {QN_ALLOCATE_UNIFORM, QN_ALLOCATE_CURVES, QN_ALLOCATE_TABLE, QN_ALLOCATE_EVOLVE};
    double loss[4];
    for (unsigned k = 0; k < 4; k++)
        for (unsigned threads = 1; threads <= 2; threads++) {
            qt_chain m;
            qn_measure *s;
            qn_allocated a, first = {0};
            qt_chain_open(&m, threads, width, live, 8, 5);
            OK(qn_measure_open(m.env, m.graph, &m.feed, 0, 0, &s, &err));
            const qn_allocate_options o = {.unit = QN_BUDGET_PARAMS, .share = 0.3, .method = methods[k], .generations = 6, .offspring = 8,
                                           .repair = {.saliency = QN_SALIENCY_OBS, .refit = true}};
            allocate(&m, s, &o, &a);
            cr_expect(a.reached);
            if (k)
                cr_expect(a.keep[0] < a.keep[1] && a.keep[0] < a.keep[2] && a.keep[0] >= 7, "method %u: %u %u %u", k, a.keep[0], a.keep[1], a.keep[2]);
            cr_expect_eq(isnan(a.loss), k < 2);
            loss[k] = a.loss;
            allocate(&m, s, &o, &first);
            cr_expect(memcmp(a.keep, first.keep, 3 * sizeof *a.keep) == 0 && (a.loss == first.loss || k < 2));
            put(&m, &a);
            put(&m, &first);
            qn_measure_close(s);
            qt_chain_close(&m);
        }
    cr_expect_leq(loss[3], loss[2]);
}

Test(allocate, evolution_is_never_worse_than_its_start)
{
    static const uint32_t width[] = {24, 24, 24, 16, 0}, live[] = {8, 24, 12, 16};
    qt_chain m;
    qn_measure *s;
    unsigned n_better = 0;
    qt_chain_open(&m, 2, width, live, 8, 6);
    OK(qn_measure_open(m.env, m.graph, &m.feed, 0, 0, &s, &err));
    for (uint64_t seed = 0; seed < 3; seed++) {
        const qn_allocate_options o = {.unit = QN_BUDGET_PARAMS, .share = 0.4, .method = QN_ALLOCATE_EVOLVE, .generations = 8, .offspring = 8, .seed = seed,
                                       .repair = {.saliency = QN_SALIENCY_MAGNITUDE}};
        qn_allocator a;
        qn_table t;
        uint8_t levels[4], again[4];
        uint32_t steps[4];
        double fitness[2], then[2], cost;
        open_allocator(&a, &m, s, &o);
        OK(qn_levels_make(&t, &a, 0.3, true, &err));
        for (uint32_t u = 0; u < 4; u++)
            again[u] = levels[u] = (uint8_t)(t.n_levels[u] / 2); /* one share for all */
        OK(qn_levels_cost(&t, levels, steps, &cost, &err));
        a.limit = cost;
        OK(qn_allocate_evolve(&t, levels, fitness, &err));
        OK(qn_levels_cost(&t, levels, steps, &cost, &err));
        cr_expect(fitness[1] <= fitness[0] && cost <= a.limit);
        n_better += fitness[1] < fitness[0];
        OK(qn_allocate_evolve(&t, again, then, &err));
        cr_expect(memcmp(again, levels, 4) == 0 && then[0] == fitness[0] && then[1] == fitness[1]);
        qn_levels_release(&t);
        qn_allocator_close(&a);
    }
    cr_expect_gt(n_better, 0u, "with layers as uneven as that some switch must help");
    qn_measure_close(s);
    qt_chain_close(&m);
}

/* Without a refit pieces only have zeros: put together they are the model that all cuts together leave. */
Test(allocate, pieces_make_the_model_that_the_cuts_make)
{
    static const uint32_t width[] = {16, 16, 16, 0};
    qt_chain m;
    qn_measure *s;
    qt_chain_open(&m, 1, width, NULL, 2, 7);
    OK(qn_measure_open(m.env, m.graph, &m.feed, 0, 0, &s, &err));
    const qn_allocate_options o = {.unit = QN_BUDGET_PARAMS, .share = 0.4, .generations = 1, .offspring = 1, .repair = {.saliency = QN_SALIENCY_MAGNITUDE}};
    qn_allocator a;
    qn_table t;
    uint8_t levels[3] = {3, 2, 4};
    double fitness[2], cost;
    uint32_t steps[3];
    open_allocator(&a, &m, s, &o);
    OK(qn_levels_make(&t, &a, 0.3, true, &err));
    qn_overlay *w;
    qn_cut *cut;
    qn_distance d;
    OK(qn_overlay_new(m.env, m.graph, &w, &err));
    OK(qn_cut_new(m.env, &m.groups, &cut, &err));
    for (uint32_t f = 0; f < 3; f++)
        for (uint32_t k = 0; k < 16; k++)
            qn_cut_set(cut, f, k, t.levels[f * QN_LEVELS_MAX + levels[f]].cut->gone[f][k]);
    for (uint32_t v = 0; v < m.graph->n_values; v++)
        if (qn_cut_touches(cut, v) && m.graph->values[v].kind == QN_VALUE_WEIGHT) {
            float *p;
            OK(qn_overlay_edit(w, v, &p, &err));
            OK(qn_cut_zero(cut, v, p, &err));
        }
    OK(qn_measure_run(s, w, 0, 2, &d, &err));
    OK(qn_levels_cost(&t, levels, steps, &cost, &err));
    a.limit = cost;
    OK(qn_allocate_evolve(&t, levels, fitness, &err));
    cr_expect(fabs(fitness[0] - d.loss) <= 1e-6 * d.loss && d.loss > 1e-4, "%g, not %g", fitness[0], d.loss);
    qn_cut_free(cut);
    qn_overlay_free(w);
    qn_levels_release(&t);
    qn_allocator_close(&a);
    qn_measure_close(s);
    qt_chain_close(&m);
}

Test(allocate, latency_by_the_table)
{
    static const uint32_t width[] = {256, 256, 128, 0};
    qt_chain m;
    qn_allocated a;
    qt_chain_open(&m, 1, width, NULL, 1, 8);
    const qn_allocate_options o = {.unit = QN_BUDGET_LATENCY, .share = 0.3, .multiple = 8};
    qn_allocator x;
    open_allocator(&x, &m, NULL, &o);
    cr_assert(x.latency && x.dense > 0);
    uint32_t at[3] = {0, 0, 0};
    double before = qn_latency_of(x.latency, at);
    cr_expect_eq(before, x.dense);
    while (at[1] + 1 < x.units[1].n_steps) {
        at[1]++;
        const double now = qn_latency_of(x.latency, at);
        cr_expect(now <= before && now > 0);
        before = now;
    }
    cr_expect_lt(before, x.dense, "a tenth of a layer is as slow as all of it");
    qn_allocator_close(&x);
    allocate(&m, NULL, &o, &a);
    cr_expect(a.keep[0] % 8 == 0 && a.keep[1] % 8 == 0 && (!a.reached || a.share >= 0.3 - 1e-9));
    put(&m, &a);
    qt_chain_close(&m);
}
