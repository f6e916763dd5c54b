/* test_measure.c: divergences of rows against sums in long double; the distance of a changed model against whole runs of the graph; runs that begin in the middle, that
 * keep nothing and that use other numbers of threads give the same figures. */
#include "compress/prune/kl.h"
#include "compress/prune/measure.h"
#include "tests/support/lm_made.h"
#include "tests/support/ok.h"
#include "tests/support/testkit.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static qn_err err;

/* --- rows ---------------------------------------------------------------------------------------------------------- */

/* As it is defined, in long double, of logits that are doubles. */
static double slow_kl(const float *p, const float *q, unsigned n)
{
    long double zp = 0, zq = 0, sum = 0;
    for (unsigned i = 0; i < n; i++)
        zp += expl((long double)p[i]), zq += expl((long double)q[i]);
    for (unsigned i = 0; i < n; i++)
        if (!isinf(p[i]))
            sum += expl((long double)p[i]) / zp * ((long double)p[i] - logl(zp) - (long double)q[i] + logl(zq));
    return (double)sum;
}

Test(kl, is_its_definition)
{
    float p[300], q[300];
    for (unsigned i = 0; i < 300; i++)
        p[i] = 9 * sinf((float)i * 1.7f);
    for (float step = 8; step > 1e-5f; step /= 4) {
        for (unsigned i = 0; i < 300; i++)
            q[i] = p[i] + step * cosf((float)(i * i));
        const double want = slow_kl(p, q, 300), got = qn_kl_logits(p, q, 300);
        /* the sum as it is defined cancels: its own rounding is 1e-19 or so, in all */
        cr_expect(want > 0 && fabs(got - want) <= 1e-11 * want + 1e-18, "step %g: %.17g, not %.17g", (double)step, got, want);
    }
    cr_expect_eq(qn_kl_logits(p, p, 300), 0);
    for (unsigned i = 0; i < 300; i++)
        q[i] = p[i] + 64; /* no other distribution, and exactly so many */
    cr_expect_lt(qn_kl_logits(p, q, 300), 1e-9);
}

Test(kl, ends_of_the_range)
{
    const float inf = INFINITY, p[4] = {1, -inf, 0, 0.5f}, far[4] = {1, 3, 0, 0.5f}, hole[4] = {1, 0, -inf, 0.5f}, bad[4] = {1, 0, NAN, 0};
    const float large[4] = {3000, -3000, 2999, 2990}, other[4] = {-3000, 3000, 2999, 2990};
    cr_expect(fabs(qn_kl_logits(p, far, 4) - slow_kl(p, far, 4)) < 1e-12);
    cr_expect(isinf(qn_kl_logits(p, hole, 4)) && isinf(qn_kl_logits(p, bad, 4)));
    /* Both have e^0, e^-1, e^-10 in one place or another over the same sum z: only the first place differs, by 6000. */
    const double want = 6000 / (1 + exp(-1) + exp(-10));
    cr_expect(fabs(qn_kl_logits(large, other, 4) - want) < 1e-9, "%.12g, not %.12g", qn_kl_logits(large, other, 4), want);
}

Test(kl, of_probabilities)
{
    const float p[3] = {0.5f, 0.25f, 0.25f}, q[3] = {0.25f, 0.5f, 0.25f}, none[3] = {1, 0, 0}, bad[3] = {NAN, 0, 0};
    cr_expect(fabs(qn_kl_probs(p, q, 3) - 0.25 * log(2)) < 1e-15);
    cr_expect(fabs(qn_kl_probs(none, q, 3) - log(4)) < 1e-15);
    cr_expect(fabs(qn_kl_probs(q, none, 3) - (0.25 * log(0.25) + 0.5 * log(0.5) + 0.25 * log(0.25) - 0.75 * log(QN_KL_LEAST))) < 1e-9);
    cr_expect_eq(qn_kl_probs(p, p, 3), 0);
    cr_expect(isinf(qn_kl_probs(p, bad, 3)));
}

/* --- models -------------------------------------------------------------------------------------------------------- */

enum { VOCAB = 11, TOKENS = 512 };

struct model {
    qn_source *src;
    qn_graph *graph;
    qn_pool *pool;
    qn_calibrate_feed feed;
    uint64_t n_fed;
};

static qn_code feed(void *ctx, uint64_t batch, qn_array *in, qn_err *e)
{
    struct model *m = ctx;
    const int64_t n = TOKENS, many = TOKENS / 16 + 1;
    m->n_fed++;
    QN_TRY(qn_array_new(m->pool, &in[0], QN_I64, &n, 1, e));
    QN_TRY(qn_array_new(m->pool, &in[1], QN_I64, &many, 1, e));
    for (int64_t i = 0; i < n; i++)
        ((int64_t *)in[0].data)[i] = (int64_t)(((uint64_t)i * 7 + batch * 5 + (uint64_t)(i * i)) % VOCAB);
    for (int64_t i = 0; i < many; i++)
        ((int64_t *)in[1].data)[i] = i * 16;
    return QN_OK;
}

static void open_model(struct model *m, unsigned threads, uint64_t n_batches)
{
    *m = (struct model){.src = qt_made_open(qt_made_env(threads), qt_lm_made("lm", qt_lm_llama_config, qt_lm_llama_tensors, 2, 1))};
    OK(qn_graph_open(qt_made_env(threads), m->src, &m->graph, &err));
    m->feed = (qn_calibrate_feed){.n_batches = n_batches, .n_tokens = n_batches * TOKENS, .feed = feed, .ctx = m, .pool = &m->pool};
}

static void close_model(struct model *m)
{
    qn_graph_close(m->graph);
    qn_source_close(m->src);
}

/* A weight moved a little by a pattern. */
static void move(qn_overlay *w, const char *name, float step)
{
    float *p;
    const uint32_t v = qn_graph_find(w->graph, name);
    OK(qn_overlay_edit(w, v, &p, &err));
    for (uint64_t i = 0; i < qn_value_elems(&w->graph->values[v]); i++)
        p[i] += step * sinf((float)(i * i + 1));
}

static float *slow_run(struct model *m, const qn_overlay *w, uint64_t batch)
{
    float *all = qt_made_keep(malloc(TOKENS * VOCAB * sizeof *all));
    qn_exec *x;
    const qn_exec_options o = {.read = w ? qn_overlay_read : NULL, .read_ctx = (void *)(uintptr_t)w};
    qn_array in[2] = {{0}}, out[1];
    OK(qn_exec_open(m->graph->env, m->graph, &o, &x, &err));
    m->pool = qn_exec_pool(x);
    OK(feed(m, batch, in, &err));
    OK(qn_exec_run(x, in, out, &err));
    memcpy(all, out[0].data, TOKENS * VOCAB * sizeof *all);
    qn_array_release(&in[0]);
    qn_array_release(&in[1]);
    qn_array_release(&out[0]);
    qn_exec_close(x);
    return all;
}

static qn_distance slow_distance(struct model *m, const qn_overlay *w, uint64_t first, uint64_t n)
{
    qn_distance d = {.n_rows = n * TOKENS};
    double diff = 0, own = 0;
    uint64_t same = 0;
    for (uint64_t b = first; b < first + n; b++) {
        const float *p = slow_run(m, NULL, b), *q = slow_run(m, w, b);
        for (unsigned t = 0; t < TOKENS; t++) {
            d.loss += slow_kl(p + t * VOCAB, q + t * VOCAB, VOCAB) / (double)d.n_rows;
            unsigned i = 0, k = 0;
            for (unsigned j = 0; j < VOCAB; j++) {
                const double e = (double)q[t * VOCAB + j] - (double)p[t * VOCAB + j];
                diff += e * e;
                own += (double)p[t * VOCAB + j] * (double)p[t * VOCAB + j];
                i = p[t * VOCAB + j] > p[t * VOCAB + i] ? j : i;
                k = q[t * VOCAB + j] > q[t * VOCAB + k] ? j : k;
            }
            same += i == k;
        }
    }
    d.rel = sqrt(diff / own);
    d.same_top = (double)same / (double)d.n_rows;
    return d;
}

static void expect_near(const qn_distance *got, const qn_distance *want)
{
    cr_expect(fabs(got->loss - want->loss) <= 1e-9 * want->loss + 1e-15, "loss %.12g, not %.12g", got->loss, want->loss);
    cr_expect(fabs(got->rel - want->rel) <= 1e-9 * want->rel, "rel %.12g, not %.12g", got->rel, want->rel);
    cr_expect(fabs(got->same_top - want->same_top) < 1e-12 && got->n_rows == want->n_rows);
}

static bool equal(const qn_distance *a, const qn_distance *b)
{
    return a->loss == b->loss && a->rel == b->rel && a->same_top == b->same_top && a->n_rows == b->n_rows;
}

static const char *const late = "model.layers.1.mlp.down_proj.weight", *const early = "model.layers.0.self_attn.q_proj.weight";

Test(measure, is_what_whole_runs_say)
{
    struct model m;
    qn_measure *s;
    qn_overlay *w, *both;
    qn_distance d, want;
    open_model(&m, 2, 3);
    OK(qn_measure_open(m.graph->env, m.graph, &m.feed, 0, 0, &s, &err));
    cr_expect(qn_measure_batches(s) == 3 && qn_measure_is_divergence(s));
    OK(qn_overlay_new(m.graph->env, m.graph, &w, &err));
    OK(qn_measure_run(s, w, 0, 3, &d, &err));
    cr_expect(d.loss == 0 && d.rel == 0 && d.same_top == 1 && d.n_rows == 3 * TOKENS);
    move(w, late, 0.3f);
    want = slow_distance(&m, w, 0, 3);
    cr_assert(want.loss > 1e-4 && want.same_top < 1);
    OK(qn_measure_run(s, w, 0, 3, &d, &err));
    expect_near(&d, &want);
    want = slow_distance(&m, w, 1, 1);
    OK(qn_measure_run(s, w, 1, 1, &d, &err));
    expect_near(&d, &want);
    OK(qn_overlay_copy(w, &both, &err));
    move(both, early, 0.5f);
    want = slow_distance(&m, both, 0, 3);
    OK(qn_measure_run(s, both, 0, 99, &d, &err));
    expect_near(&d, &want);
    /* nothing of the earlier ones is left behind; a weight that is edited in place is seen */
    OK(qn_measure_run(s, NULL, 0, 3, &d, &err));
    cr_expect(d.loss == 0 && d.rel == 0);
    qn_overlay_drop(both, qn_graph_find(m.graph, early));
    move(both, late, -0.3f);
    OK(qn_measure_run(s, both, 0, 3, &d, &err));
    cr_expect(d.loss < 1e-9, "%g", d.loss);
    qn_overlay_free(both);
    qn_overlay_free(w);
    qn_measure_close(s);
    close_model(&m);
}

Test(measure, memory_and_threads_change_nothing)
{
    enum { BATCHES = 192 };
    qn_distance first[2] = {{0}};
    for (unsigned way = 0; way < 4; way++) {
        struct model m;
        qn_measure *s;
        qn_overlay *w;
        qn_distance d[2];
        open_model(&m, way % 2 ? 1 : 3, BATCHES);
        /* at 30 MiB neither the outputs nor what flows between the blocks can be kept: they have 4.3 MB each */
        OK(qn_measure_open(m.graph->env, m.graph, &m.feed, 0, way < 2 ? 0 : 30ull << 20, &s, &err));
        OK(qn_overlay_new(m.graph->env, m.graph, &w, &err));
        move(w, late, 0.01f);
        m.n_fed = 0;
        OK(qn_measure_run(s, w, 3, BATCHES, &d[0], &err));
        cr_expect_eq(m.n_fed, (way < 2 ? 1 : 2) * (BATCHES - 3), "way %u: %u", way, (unsigned)m.n_fed);
        move(w, early, 0.01f);
        OK(qn_measure_run(s, w, 3, BATCHES, &d[1], &err));
        if (way == 0)
            memcpy(first, d, sizeof d);
        cr_expect(equal(&first[0], &d[0]) && equal(&first[1], &d[1]), "way %u", way);
        cr_expect(d[1].loss != d[0].loss);
        qn_overlay_free(w);
        qn_measure_close(s);
        close_model(&m);
    }
}

Test(measure, what_is_not_finite_is_infinitely_far)
{
    struct model m;
    qn_measure *s;
    qn_overlay *w;
    qn_distance d;
    open_model(&m, 1, 1);
    OK(qn_measure_open(m.graph->env, m.graph, &m.feed, 0, 0, &s, &err));
    OK(qn_overlay_new(m.graph->env, m.graph, &w, &err));
    move(w, late, INFINITY);
    OK(qn_measure_run(s, w, 0, 1, &d, &err));
    cr_expect(isinf(d.loss) && isinf(d.rel));
    qn_overlay_free(w);
    qn_measure_close(s);
    close_model(&m);
}

Test(measure, bad_calls)
{
    struct model m;
    qn_measure *s;
    open_model(&m, 1, 1);
    cr_expect_eq(qn_measure_open(m.graph->env, m.graph, &m.feed, 0, 20ull << 20, &s, &err), QN_E_MEMORY);
    m.feed.n_batches = 0;
    qn_err_clear(&err);
    cr_expect_eq(qn_measure_open(m.graph->env, m.graph, &m.feed, 0, 0, &s, &err), QN_E_INPUT);
    qn_measure_close(NULL);
    close_model(&m);
}
