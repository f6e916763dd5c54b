/* Training toward the dense model: the optimizer and the loss against their formulas in f64, order of the batches, runs together and alone, resumption,
 * threads, hooks. */
#include "base/err.h"
#include "compress/train/adamw.h"
#include "compress/train/distill.h"
#include "compress/train/order.h"
#include "compress/train/train.h"
#include "tests/support/classifier.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Test(train, adamw_is_its_formula)
{
    enum { N = 40000, STEPS = 5 };
    qt_rng r = qt_seed(3);
    qt_classifier net;
    qn_exec *x;
    qn_err err = {0};
    float *w = calloc(N, sizeof *w), *m = calloc(N, sizeof *m), *v = calloc(N, sizeof *v), *g = calloc(N, sizeof *g);
    double *rw = calloc(N, sizeof *rw), *rm = calloc(N, sizeof *rm), *rv = calloc(N, sizeof *rv);
    uint8_t *keep = calloc(N, 1);
    qt_classifier_open(&net, qt_made_env(2), 4, 1, 2, false);
    cr_assert_eq(qn_exec_open(net.env, net.graph, NULL, &x, &err), QN_OK);
    for (int i = 0; i < N; i++) {
        rw[i] = (double)(w[i] = (float)qt_normal(&r));
        keep[i] = i % 7 != 0;
    }
    for (uint32_t t = 1; t <= STEPS; t++) {
        const qn_adamw a = {.rate = 1e-2 / t, .decay = 0.1, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .t = t};
        for (int i = 0; i < N; i++) {
            const double d = (double)(g[i] = (float)(qt_normal(&r) * 1e-3));
            rm[i] = 0.9 * rm[i] + 0.1 * d;
            rv[i] = 0.999 * rv[i] + 0.001 * d * d;
            if (keep[i])
                rw[i] = rw[i] * (1 - a.rate * 0.1) - a.rate * (rm[i] / (1 - pow(0.9, t))) / (sqrt(rv[i] / (1 - pow(0.999, t))) + 1e-8);
        }
        cr_assert_eq(qn_adamw_step(x, &a, g, keep, w, m, v, N, &err), QN_OK);
    }
    for (int i = 0; i < N; i++)
        cr_assert(fabs((double)w[i] - rw[i]) < 2e-6, "weight %d is %g, not %g", i, (double)w[i], rw[i]);
    qn_exec_close(x);
    qt_classifier_close(&net);
    void *const all[] = {w, m, v, g, rw, rm, rv, keep};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

/* T² KL(softmax(a / Tu) ‖ softmax(b / Tu)) + cross-entropy, in f64. */
static double row_loss(const float *a, const double *b, int n, double t, double unit, int label)
{
    double za = 0, zb = 0, zu = 0, kl = 0;
    for (int i = 0; i < n; i++) {
        za += exp((double)a[i] / t / unit);
        zb += exp(b[i] / t / unit);
        zu += exp(b[i] / unit);
    }
    for (int i = 0; i < n; i++) {
        const double p = exp((double)a[i] / t / unit) / za, q = exp(b[i] / t / unit) / zb;
        kl += p * log(p / q);
    }
    kl *= t * t;
    return label < 0 ? kl : 0.5 * kl - 0.5 * log(exp(b[label] / unit) / zu);
}

Test(train, loss_and_its_derivative)
{
    enum { ROWS = 3, N = 4 };
    static const struct {
        double t;
        bool labels;
    } cases[] = {{1, false}, {2.5, false}, {1, true}, {2.5, true}};
    qt_rng r = qt_seed(9);
    qt_classifier net;
    qn_err err = {0};
    qn_teacher t;
    qt_classifier_open(&net, qt_made_env(1), 8, ROWS, 2, false);
    cr_assert_eq(qn_teacher_open(net.env, net.graph, &net.feed, 0, 1 << 20, &t, &err), QN_OK, "%s", err.text);
    cr_assert_eq(t.kind, QN_DISTILL_LOGITS);
    const int64_t labels[ROWS] = {2, 0, 3};
    qn_pool pool = {.alloc = net.env->alloc};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        qn_distill d = {.teacher = &t, .temperature = cases[c].t, .labels = cases[c].labels ? labels : NULL};
        qn_array y, dy = {0};
        double loss, want = 0, b[N];
        cr_assert_eq(qn_teacher_outputs(&t, 1, &d.dense, &err), QN_OK);
        cr_assert_eq(qn_array_new(&pool, &y, QN_F32, d.dense->dims, 2, &err), QN_OK);
        float *p = y.data;
        const float *a = d.dense->data;
        for (int i = 0; i < ROWS * N; i++)
            p[i] = (float)((double)a[i] + 0.5 * qt_normal(&r));
        cr_assert_eq(qn_distill_loss(&d, &pool, &y, &loss, &dy, &err), QN_OK, "%s", err.text);
        for (int k = 0; k < ROWS; k++) {
            for (int i = 0; i < N; i++)
                b[i] = (double)p[k * N + i];
            const int label = cases[c].labels ? (int)labels[k] : -1;
            want += row_loss(a + k * N, b, N, cases[c].t, t.unit, label);
            for (int i = 0; i < N; i++) {
                const double at = b[i], h = 1e-5;
                b[i] = at + h;
                double slope = row_loss(a + k * N, b, N, cases[c].t, t.unit, label);
                b[i] = at - h;
                slope = (slope - row_loss(a + k * N, b, N, cases[c].t, t.unit, label)) / (2 * h);
                b[i] = at;
                cr_assert(fabs(slope - (double)((const float *)dy.data)[k * N + i]) < 1e-5, "case %zu, row %d, class %d", c, k, i);
            }
        }
        cr_assert(fabs(loss - want) < 1e-9 * fabs(want) + 1e-12, "case %zu: the loss is %g, not %g", c, loss, want);
        qn_array_release(&y);
        qn_array_release(&dy);
    }
    qn_teacher_close(&t);
    qt_classifier_close(&net);
}

Test(train, order_of_the_batches)
{
    enum { N = 23, HELD = 5 };
    qn_train_order o, p;
    qn_err err = {0};
    unsigned seen[N] = {0}, same = 0;
    cr_assert_eq(qn_train_order_open(qt_made_env(1), N, HELD, 42, &o, &err), QN_OK);
    cr_assert_eq(o.n_held, (uint64_t)HELD);
    cr_assert_eq(o.n_trained, (uint64_t)(N - HELD));
    for (uint64_t i = 0; i < HELD; i++)
        seen[o.held[i]] += 100;
    for (uint64_t place = 0; place < 3 * (N - HELD); place++) {
        uint64_t b, again;
        cr_assert_eq(qn_train_order_at(&o, place, &b, &err), QN_OK);
        seen[b]++;
        /* from anywhere: the same */
        cr_assert_eq(qn_train_order_open(qt_made_env(1), N, HELD, 42, &p, &err), QN_OK);
        cr_assert_eq(qn_train_order_at(&p, place, &again, &err), QN_OK);
        qn_train_order_close(&p);
        cr_assert_eq(b, again);
        if (place >= N - HELD) {
            cr_assert_eq(qn_train_order_at(&o, place - (N - HELD), &again, &err), QN_OK);
            same += b == again;
        }
    }
    for (unsigned i = 0; i < N; i++)
        cr_assert(seen[i] == 100 || seen[i] == 3, "batch %u was taken %u times", i, seen[i]);
    cr_assert(same < N, "epochs have one order");
    qn_train_order_close(&o);
}

struct hooks {
    atomic_int cancel;
    uint32_t cancel_at, steps, projected;
    double last;
};

static void on_step(void *ctx, uint32_t step, double loss)
{
    struct hooks *h = ctx;
    h->steps++;
    h->last = loss;
    if (step == h->cancel_at)
        atomic_store(&h->cancel, 1);
}

static void project(void *ctx, uint32_t value, float *w)
{
    struct hooks *h = ctx;
    (void)value;
    h->projected++;
    w[0] = 0.125f;
}

/* The weights start disturbed; → copies of those that come out. */
static float *train(const qn_env *base, bool fixed, uint32_t cancel_at, const char *checkpoint, bool with_project, qn_code want, qn_trained *out)
{
    struct hooks h = {.cancel_at = cancel_at};
    qn_env env = *base;
    qt_classifier net;
    qn_overlay *w;
    qn_err err = {0};
    uint32_t weights[64], n;
    env.cancel = &h.cancel;
    qt_classifier_open(&net, &env, 12, 2, 30, fixed);
    cr_assert_eq(qn_overlay_new(&env, net.graph, &w, &err), QN_OK);
    cr_assert_eq(qn_train_reach(&env, net.graph, weights, &n, &err), QN_OK);
    cr_assert_eq(n, 6u);
    qt_rng r = qt_seed(5);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        float *p;
        cr_assert_eq(qn_overlay_edit(w, weights[i], &p, &err), QN_OK);
        for (uint64_t k = 0; k < qn_value_elems(&net.graph->values[weights[i]]); k++, sum++)
            p[k] += (float)(0.2 * qt_normal(&r));
    }
    const qn_train_options o = {.weights = weights, .n_weights = n, .steps = 60, .batch = 4, .rate = 1e-2, .seed = 7, .on_step = on_step, .step_ctx = &h,
                                .checkpoint = checkpoint, .key.b[0] = with_project, .project = with_project ? project : NULL, .ctx = &h};
    const qn_code rc = qn_train(&env, net.graph, &net.feed, w, &o, out, &err);
    cr_assert_eq(rc, want, "%d: %s", (int)rc, err.text);
    if (rc == QN_OK) {
        cr_assert_eq(out->steps, 60u);
        cr_assert_eq(h.steps, 60 - out->resumed);
        cr_assert(out->held_out_after <= out->held_out_before);
    }
    float *copy = qt_made_keep(malloc((sum + 1) * sizeof *copy)), *to = copy;
    for (uint32_t i = 0; i < n; i++) {
        float *p;
        cr_assert_eq(qn_overlay_edit(w, weights[i], &p, &err), QN_OK);
        const uint64_t k = qn_value_elems(&net.graph->values[weights[i]]);
        if (with_project && rc == QN_OK && out->best_step)
            cr_assert_eq(p[0], 0.125f);
        memcpy(to, p, k * sizeof *p);
        to += k;
    }
    *to = (float)sum;
    qn_overlay_free(w);
    qt_classifier_close(&net);
    return copy;
}

enum { ELEMS = 12 * 6 + 12 + 12 * 12 + 12 + 4 * 12 + 4 };

Test(train, comes_nearer_and_does_not_depend_on_threads)
{
    qn_trained a, b, c;
    const float *x = train(qt_made_env(1), false, 0, NULL, false, QN_OK, &a), *y = train(qt_made_env(3), false, 0, NULL, false, QN_OK, &b);
    cr_assert(a.held_out_after < 0.2 * a.held_out_before, "%g is not much less than %g", a.held_out_after, a.held_out_before);
    cr_assert(a.last_loss < 0.2 * a.first_loss);
    cr_assert_arr_eq(x, y, ELEMS * sizeof *x);
    /* one batch after the other: sums in another order */
    const float *z = train(qt_made_env(1), true, 0, NULL, false, QN_OK, &c);
    cr_assert(fabs(a.first_loss - c.first_loss) < 1e-4 * a.first_loss);
    cr_assert(memcmp(x, z, ELEMS * sizeof *x) != 0, "nothing ran together");
}

Test(train, resumed_as_if_nothing_had_been)
{
    const char *path = qt_made_path("train.state");
    qn_trained a, b, none;
    const float *whole = train(qt_made_env(1), false, 0, NULL, false, QN_OK, &a);
    train(qt_made_env(1), false, 23, path, false, QN_E_CANCELLED, &none);
    train(qt_made_env(2), false, 41, path, false, QN_E_CANCELLED, &none);
    const float *parts = train(qt_made_env(1), false, 0, path, false, QN_OK, &b);
    cr_assert_eq(b.resumed, 41u);
    cr_assert_arr_eq(whole, parts, ELEMS * sizeof *whole);
    cr_assert_eq(a.held_out_after, b.held_out_after);
    cr_assert_eq(a.first_loss, b.first_loss);
    cr_assert_eq(a.last_loss, b.last_loss);
    /* what is done is not done again; what is damaged, or of another run, is not taken */
    train(qt_made_env(1), false, 0, path, false, QN_OK, &b);
    cr_assert_eq(b.resumed, 60u);
    FILE *f = fopen(path, "r+b");
    fseek(f, 900, SEEK_SET);
    fputc(1, f);
    fputc(77, f);
    fclose(f);
    parts = train(qt_made_env(1), false, 0, path, false, QN_OK, &b);
    cr_assert_eq(b.resumed, 0u);
    cr_assert_arr_eq(whole, parts, ELEMS * sizeof *whole);
    train(qt_made_env(1), true, 0, path, false, QN_OK, &b);
    train(qt_made_env(1), false, 0, path, true, QN_OK, &b);
}

Test(train, projects_every_weight_after_every_step)
{
    qn_trained t;
    train(qt_made_env(1), false, 0, NULL, true, QN_OK, &t);
    cr_assert(t.best_step > 0);
}
