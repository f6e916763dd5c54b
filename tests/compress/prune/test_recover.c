/* Recovery of a cut model: what is cut stays 0, nothing gets worse, budgets of gradual pruning are met, killed runs go on, half-space pruning with labels. */
#include "base/err.h"
#include "compress/prune/recover.h"
#include "compress/prune/slices.h"
#include "tests/support/classifier.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { HIDDEN = 16, ROWS = 4, BATCHES = 24 };

struct kit {
    qt_classifier net;
    qn_env env;
    qn_groups *groups;
    qn_cut *cut;
    qn_overlay *w;
    atomic_int cancel;
    uint32_t cancel_at;
};

static void on_step(void *ctx, uint32_t step, double loss)
{
    struct kit *k = ctx;
    (void)loss;
    if (step == k->cancel_at)
        atomic_store(&k->cancel, 1);
}

static void open_kit(struct kit *k)
{
    qn_err err = {0};
    memset(k, 0, sizeof *k);
    k->env = *qt_made_env(1);
    k->env.cancel = &k->cancel;
    qt_classifier_open(&k->net, &k->env, HIDDEN, ROWS, BATCHES, false);
    cr_assert_eq(qn_groups_find(&k->env, k->net.graph, NULL, &k->groups, &err), QN_OK, "%s", err.text);
    cr_assert_eq(k->groups->n_families, 2u);
    cr_assert_eq(qn_cut_new(&k->env, k->groups, &k->cut, &err), QN_OK);
    cr_assert_eq(qn_overlay_new(&k->env, k->net.graph, &k->w, &err), QN_OK);
}

static void close_kit(struct kit *k)
{
    qn_overlay_free(k->w);
    qn_cut_free(k->cut);
    qn_groups_free(k->groups);
    qt_classifier_close(&k->net);
}

/* Every weight has zeros exactly where the cut says, as far as it can be told: nothing that stays was 0. */
static void check_zeros(struct kit *k)
{
    qn_err err = {0};
    for (uint32_t v = 0; v < k->net.graph->n_values; v++) {
        float *w;
        if (k->net.graph->values[v].kind != QN_VALUE_WEIGHT)
            continue;
        const uint64_t n = qn_value_elems(&k->net.graph->values[v]);
        float *ones = malloc(n * sizeof *ones);
        cr_assert_eq(qn_overlay_edit(k->w, v, &w, &err), QN_OK);
        for (uint64_t i = 0; i < n; i++)
            ones[i] = 1;
        cr_assert_eq(qn_cut_zero(k->cut, v, ones, &err), QN_OK);
        for (uint64_t i = 0; i < n; i++)
            cr_assert_eq(w[i] == 0, ones[i] == 0, "'%s', element %llu", k->net.graph->values[v].name, (unsigned long long)i);
        free(ones);
    }
}

Test(recover, what_is_cut_stays_cut_and_the_rest_gets_better)
{
    struct kit k;
    qn_err err = {0};
    qn_recovery r;
    open_kit(&k);
    for (uint32_t f = 0; f < 2; f++)
        for (uint32_t g = 0; g < HIDDEN / 2; g++)
            qn_cut_set(k.cut, f, 2 * g, true);
    const qn_recover_options o = {.steps = 200, .batch = 4, .rate = 5e-3, .weight_decay = 0.01, .seed = 3};
    cr_assert_eq(qn_recover(&k.env, k.net.graph, &k.net.feed, k.cut, k.w, &o, &r, &err), QN_OK, "%s", err.text);
    check_zeros(&k);
    cr_assert(r.held_out_after < 0.7 * r.held_out_before, "%g is not much less than %g", r.held_out_after, r.held_out_before);
    cr_assert_eq(k.cut->n_gone[0], (uint32_t)HIDDEN / 2);
    close_kit(&k);
}

Test(recover, gradual_budgets)
{
    const uint32_t keep[2] = {5, 9};
    const qn_recover_options cases[] = {
        {.gradual = true, .steps = 120, .batch = 4, .keep = keep, .rate = 5e-3},
        {.gradual = true, .steps = 120, .batch = 4, .groups_share = 0.5, .rate = 5e-3},
        {.gradual = true, .steps = 120, .batch = 4, .params_share = 0.6, .rate = 5e-3},
        {.gradual = true, .steps = 120, .batch = 4, .macs_share = 0.6, .rate = 5e-3},
        {.gradual = true, .steps = 120, .batch = 4, .groups_share = 0.55, .multiple = 4, .rate = 5e-3},
        {.gradual = true, .steps = 120, .batch = 4, .groups_share = 0.9, .keep = keep, .rate = 5e-3},
    };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct kit k;
        qn_err err = {0};
        qn_recovery r;
        qn_cost before, after;
        open_kit(&k);
        cr_assert_eq(qn_cut_cost(k.cut, &before, &err), QN_OK);
        cr_assert_eq(qn_recover(&k.env, k.net.graph, &k.net.feed, k.cut, k.w, &cases[c], &r, &err), QN_OK, "case %zu: %s", c, err.text);
        cr_assert_eq(qn_cut_cost(k.cut, &after, &err), QN_OK);
        check_zeros(&k);
        const uint32_t left[2] = {HIDDEN - k.cut->n_gone[0], HIDDEN - k.cut->n_gone[1]};
        if (c == 0 || c == 5)
            cr_assert(left[0] == 5 && left[1] == 9);
        if (c == 1)
            cr_assert_eq(left[0] + left[1], (uint32_t)HIDDEN);
        if (c == 2)
            cr_assert((double)after.params <= 0.4 * (double)before.params);
        if (c == 3)
            cr_assert(after.macs <= 0.4 * before.macs && after.macs > 0.2 * before.macs);
        if (c == 4)
            cr_assert(left[0] % 4 == 0 && left[1] % 4 == 0 && left[0] + left[1] >= 12 && left[0] + left[1] <= 20);
        if (c != 4) /* rounded either way */
            cr_assert_eq(r.reached, c != 5, "case %zu", c);
        cr_assert(r.held_out_after <= r.held_out_before);
        close_kit(&k);
    }
}

static void run_gradual(const char *checkpoint, uint32_t cancel_at, qn_code want, float *out, uint8_t *gone, qn_recovery *r)
{
    struct kit k;
    qn_err err = {0};
    open_kit(&k);
    k.cancel_at = cancel_at;
    const qn_recover_options o = {.gradual = true, .steps = 100, .batch = 4, .groups_share = 0.5, .rate = 5e-3, .checkpoint = checkpoint, .on_step = on_step,
                                  .step_ctx = &k};
    cr_assert_eq(qn_recover(&k.env, k.net.graph, &k.net.feed, k.cut, k.w, &o, r, &err), want, "%s", err.text);
    if (want == QN_OK) {
        float *w;
        cr_assert_eq(qn_overlay_edit(k.w, qt_classifier_weight(&k.net, "b.weight"), &w, &err), QN_OK);
        memcpy(out, w, HIDDEN * HIDDEN * sizeof *w);
        memcpy(gone, k.cut->gone[0], 2 * HIDDEN);
    }
    close_kit(&k);
}

Test(recover, gradual_goes_on_where_it_was_killed)
{
    static const uint32_t at[] = {3, 5, 33, 50, 77};
    float whole[HIDDEN * HIDDEN], parts[HIDDEN * HIDDEN];
    uint8_t gone[2 * HIDDEN], again[2 * HIDDEN];
    qn_recovery a, b;
    run_gradual(NULL, 0, QN_OK, whole, gone, &a);
    const char *path = qt_made_path("recover.state");
    for (size_t i = 0; i < sizeof at / sizeof at[0]; i++)
        run_gradual(path, at[i], QN_E_CANCELLED, parts, again, &b);
    run_gradual(path, 0, QN_OK, parts, again, &b);
    cr_assert_eq(b.resumed, 77u);
    cr_assert_arr_eq(gone, again, sizeof gone);
    cr_assert_arr_eq(whole, parts, sizeof whole);
    cr_assert_eq(a.held_out_after, b.held_out_after);
}

Test(recover, half_space_wants_labels)
{
    struct kit k;
    qn_err err = {0};
    qn_recovery r;
    int64_t labels[ROWS * BATCHES];
    qn_exec *x;
    open_kit(&k);
    qn_recover_options o = {.gradual = true, .half_space = true, .steps = 200, .batch = 4, .groups_share = 0.4, .rate = 5e-3};
    cr_assert_eq(qn_recover(&k.env, k.net.graph, &k.net.feed, k.cut, k.w, &o, &r, &err), QN_E_USAGE);
    memset(&err, 0, sizeof err);
    cr_assert_eq(qn_exec_open(&k.env, k.net.graph, NULL, &x, &err), QN_OK);
    for (uint64_t b = 0; b < BATCHES; b++) {
        qn_array in, out;
        k.net.pool = qn_exec_pool(x);
        cr_assert_eq(k.net.feed.feed(k.net.feed.ctx, b, &in, &err), QN_OK);
        cr_assert_eq(qn_exec_run(x, &in, &out, &err), QN_OK);
        for (int i = 0; i < ROWS; i++) {
            const float *y = (const float *)out.data + 4 * i;
            labels[b * ROWS + (uint64_t)i] = 0;
            for (int c = 1; c < 4; c++)
                if (y[c] > y[labels[b * ROWS + (uint64_t)i]])
                    labels[b * ROWS + (uint64_t)i] = c;
        }
        qn_array_release(&in);
        qn_array_release(&out);
    }
    qn_exec_close(x);
    o.labels = labels;
    o.n_labels = ROWS * BATCHES - 1;
    cr_assert_eq(qn_recover(&k.env, k.net.graph, &k.net.feed, k.cut, k.w, &o, &r, &err), QN_E_INPUT);
    memset(&err, 0, sizeof err);
    o.n_labels = ROWS * BATCHES;
    cr_assert_eq(qn_recover(&k.env, k.net.graph, &k.net.feed, k.cut, k.w, &o, &r, &err), QN_OK, "%s", err.text);
    check_zeros(&k);
    cr_assert_eq(k.cut->n_gone[0] + k.cut->n_gone[1], 12u);
    cr_assert(r.reached);
    close_kit(&k);
}

Test(recover, entries_that_stand_for_a_group)
{
    struct kit k;
    qn_err err = {0};
    qn_slices s;
    open_kit(&k);
    const uint32_t weights[2] = {qt_classifier_weight(&k.net, "b.weight"), qt_classifier_weight(&k.net, "c.weight")};
    float *w[2], *before = malloc(HIDDEN * HIDDEN * sizeof *before);
    double dot[2 * HIDDEN], by[2 * HIDDEN];
    for (unsigned i = 0; i < 2; i++)
        cr_assert_eq(qn_overlay_edit(k.w, weights[i], &w[i], &err), QN_OK);
    memcpy(before, w[0], HIDDEN * HIDDEN * sizeof *before);
    cr_assert_eq(qn_slices_open(&k.env, k.groups, weights, 2, &s, &err), QN_OK);
    cr_assert_eq(s.n, 2u * HIDDEN);
    qn_slices_dot(&s, w, w, dot);
    for (uint32_t j = 0; j < HIDDEN; j++) {
        double want = 0;
        for (uint32_t i = 0; i < HIDDEN; i++)
            want += (double)before[i * HIDDEN + j] * (double)before[i * HIDDEN + j];
        cr_assert(fabs(dot[j] - want) < 1e-12 * want, "column %u", j);
        by[j] = j == 3 ? 0.5 : 1;
        by[HIDDEN + j] = 1;
    }
    qn_slices_scale(&s, by, w);
    for (uint32_t i = 0; i < HIDDEN * HIDDEN; i++)
        cr_assert_eq(w[0][i], i % HIDDEN == 3 ? 0.5f * before[i] : before[i]);
    qn_slices_close(&s);
    free(before);
    close_kit(&k);
}
