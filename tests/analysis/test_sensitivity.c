/* test_sensitivity.c: the error that is put into a weight has the size that was asked for; what it costs is what a whole run with the changed
 * weight diverges by; interrupted runs, merging, weights taken from a copy. */
#include "analysis/calibrate/noise.h"
#include "analysis/calibrate/sensitivity.h"
#include "analysis/stats/merge.h"
#include "analysis/stats/stats.h"
#include "tests/support/lm_made.h"
#include "tests/support/ok.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static qn_err err;

/* --- noise --------------------------------------------------------------------------------------------------------- */

enum { N = 7, OUT = 70, SEEN = 40 };

/* Statistics of inputs of which column 3 is always zero. */
static void write_inputs(const char *name, qn_stats_kind kind)
{
    const qn_env *env = qt_made_env(1);
    float x[SEEN][N];
    for (unsigned r = 0; r < SEEN; r++)
        for (unsigned c = 0; c < N; c++)
            x[r][c] = c == 3 ? 0 : sinf((float)(1 + r * 13 + c * 7)) * (float)(c + 1) + (c == 2 ? x[r][1] : 0);
    const qn_stats_meta meta = {.tokens = SEEN};
    qn_stats *s;
    qn_stats_entry *e;
    qn_stats_writer *w;
    OK(qn_stats_new(env, NULL, &s, &err));
    OK(qn_stats_open(s, "w", QN_STATS_NO_EXPERT, N, kind, &e, &err));
    OK(qn_stats_add(s, e, x[0], SEEN, N, &err));
    OK(qn_stats_writer_open(&w, env, qt_made_path(name), &meta, &(qn_stats_write_options){.overwrite = true}, &err));
    OK(qn_stats_flush(s, w, &err));
    OK(qn_stats_writer_finish(w, NULL, &err));
    qn_stats_writer_close(w);
    qn_stats_free(s);
}

/* tr(A H' Aᵀ), H' with the damping that noise.c has; element (r, c) of A is a[r · sr + c · sc]. */
static double trace(const double h[N][N], const double *a, size_t sr, size_t sc)
{
    double sum = 0;
    for (size_t r = 0; r < OUT; r++)
        for (size_t i = 0; i < N; i++)
            for (size_t j = 0; j < N; j++)
                sum += a[r * sr + i * sc] * h[i][j] * a[r * sr + j * sc];
    return sum;
}

static void check_noise(const char *name, bool full, bool in_out, qn_exec *x)
{
    qn_stats_file f;
    double h[N][N], mean = 0, before[OUT * N], diff[OUT * N];
    float w[OUT * N], again[OUT * N];
    bool added = false;
    OK(qn_stats_file_open(&f, qt_made_env(1), qt_made_path(name), &err));
    if (full)
        OK(qn_stats_h_read_f64(&f, 0, h[0], N, &err));
    else {
        qn_stats_vectors v;
        memset(h, 0, sizeof h);
        OK(qn_stats_vectors_read(&f, 0, &v, &err));
        for (unsigned i = 0; i < N; i++)
            h[i][i] = v.sum_sq[i];
        qn_stats_vectors_release(&f, &v);
    }
    for (unsigned i = 0; i < N; i++)
        mean += h[i][i] / (N - 1);
    for (unsigned i = 0; i < N && full; i++)
        h[i][i] += i == 3 ? 0 : 1e-3 * mean;
    for (unsigned i = 0; i < OUT * N; i++)
        again[i] = w[i] = cosf((float)i * 0.7f), before[i] = (double)w[i];
    qn_noise s = {.env = qt_made_env(1), .input = UINT32_MAX};
    OK(qn_noise_prepare(&s, &f, 0, &err));
    OK(qn_noise_add(&s, x, w, in_out ? N : OUT, in_out ? OUT : N, in_out, 5, 0.04, &added, &err));
    OK(qn_noise_add(&s, x, again, in_out ? N : OUT, in_out ? OUT : N, in_out, 5, 0.04, &added, &err));
    cr_assert(added && memcmp(w, again, sizeof w) == 0);
    const size_t sr = in_out ? 1 : N, sc = in_out ? OUT : 1;
    for (unsigned i = 0; i < OUT * N; i++)
        diff[i] = (double)w[i] - before[i];
    for (size_t r = 0; r < OUT; r++)
        cr_assert_eq(diff[r * sr + 3 * sc], 0, "a column that is never seen has an error");
    const double share = trace(h, diff, sr, sc) / trace(h, before, sr, sc);
    cr_expect(fabs(share - 0.04) < 1e-5, "%s: %g", name, share);
    OK(qn_noise_add(&s, x, again, in_out ? N : OUT, in_out ? OUT : N, in_out, 6, 0.04, &added, &err));
    cr_expect(memcmp(w, again, sizeof w) != 0);
    memset(w, 0, sizeof w);
    OK(qn_noise_add(&s, x, w, in_out ? N : OUT, in_out ? OUT : N, in_out, 5, 0.04, &added, &err));
    cr_expect(!added);
    qn_noise_release(&s);
    qn_stats_file_close(&f);
}

/* --- a model ------------------------------------------------------------------------------------------------------- */

enum { TOKENS = 24, BATCHES = 3 };

struct model {
    qn_source *src;
    qn_graph *graph;
    qn_pool *pool;
    qn_calibrate_feed feed;
    uint32_t fail_from; /* feeding batch 0 fails from this call on; 0: never */
    uint32_t n_fed;
};

static qn_code feed(void *ctx, uint64_t batch, qn_array *in, qn_err *e)
{
    struct model *m = ctx;
    const int64_t n = TOKENS, two = 3;
    if (m->fail_from && ++m->n_fed >= m->fail_from)
        return QN_FAIL(e, QN_E_CANCELLED, QN_NO_OFFSET, "stopped");
    QN_TRY(qn_array_new(m->pool, &in[0], QN_I64, &n, 1, e));
    QN_TRY(qn_array_new(m->pool, &in[1], QN_I64, &two, 1, e));
    for (int64_t i = 0; i < n; i++)
        ((int64_t *)in[0].data)[i] = (int64_t)(((uint64_t)i * 7 + batch * 5 + (uint64_t)(i * i)) % 11);
    ((int64_t *)in[1].data)[0] = 0;
    ((int64_t *)in[1].data)[1] = 10;
    ((int64_t *)in[1].data)[2] = n;
    return QN_OK;
}

static void open_model(struct model *m, const char *path)
{
    *m = (struct model){.src = qt_made_open(qt_made_env(2), path)};
    OK(qn_graph_open(qt_made_env(2), m->src, &m->graph, &err));
    m->feed = (qn_calibrate_feed){.n_batches = BATCHES, .n_tokens = BATCHES * TOKENS, .feed = feed, .ctx = m, .pool = &m->pool};
}

static void close_model(struct model *m)
{
    qn_graph_close(m->graph);
    qn_source_close(m->src);
}

static qn_code calibrate(struct model *m, const char *name, const qn_calibrate_options *o)
{
    const qn_stats_meta meta = {.model = {"model"}, .tokens = BATCHES * TOKENS};
    qn_calibration c;
    qn_err_clear(&err);
    return qn_calibrate(qt_made_env(2), m->graph, &m->feed, &meta, qt_made_path(name), o, &c, &err);
}

/* One weight from elsewhere. */
struct changed {
    qn_graph *graph;
    uint32_t value;
    const float *w;
};

static qn_code read_changed(void *ctx, const qn_graph *g, uint32_t value, uint64_t first, uint64_t n, void *dst, qn_err *e)
{
    const struct changed *c = ctx;
    if (value != c->value)
        return qn_weight_from_source(qt_made_env(2), g->source, g, value, first, n, dst, e);
    const uint64_t row = (uint64_t)g->values[value].dims[1];
    memcpy(dst, c->w + first * row, n * row * sizeof(float));
    return QN_OK;
}

/* All logits by whole runs of the graph, in f64. */
static double *logits_of(struct model *m, const struct changed *c)
{
    double *all = qt_made_keep(malloc(BATCHES * TOKENS * 11 * sizeof *all));
    qn_exec *x;
    const qn_exec_options o = {.read = c ? read_changed : NULL, .read_ctx = (void *)(uintptr_t)c};
    OK(qn_exec_open(qt_made_env(2), m->graph, &o, &x, &err));
    m->pool = qn_exec_pool(x);
    for (uint64_t b = 0; b < BATCHES; b++) {
        qn_array in[2], out[1];
        memset(in, 0, sizeof in);
        OK(feed(m, b, in, &err));
        OK(qn_exec_run(x, in, out, &err));
        for (size_t i = 0; i < TOKENS * 11; i++)
            all[b * TOKENS * 11 + i] = (double)((const float *)out[0].data)[i];
        qn_array_release(&in[0]);
        qn_array_release(&in[1]);
        qn_array_release(&out[0]);
    }
    qn_exec_close(x);
    return all;
}

static double kl_of(const double *p, const double *q)
{
    double sum = 0;
    for (size_t t = 0; t < BATCHES * TOKENS; t++, p += 11, q += 11) {
        double zp = 0, zq = 0;
        for (unsigned i = 0; i < 11; i++)
            zp += exp(p[i]), zq += exp(q[i]);
        for (unsigned i = 0; i < 11; i++)
            sum += exp(p[i]) / zp * (p[i] - log(zp) - q[i] + log(zq));
    }
    return sum / (BATCHES * TOKENS);
}

static const char *made(void)
{
    return qt_lm_made("lm", qt_lm_llama_config, qt_lm_llama_tensors, 2, 1);
}

Test(sensitivity, noise_has_the_size_that_was_asked_for)
{
    struct model m;
    qn_exec *x;
    open_model(&m, made());
    OK(qn_exec_open(qt_made_env(2), m.graph, NULL, &x, &err));
    write_inputs("h", QN_STATS_H);
    write_inputs("d", QN_STATS_DIAG);
    for (unsigned in_out = 0; in_out < 2; in_out++) {
        check_noise("h", true, in_out, x);
        check_noise("d", false, in_out, x);
    }
    qn_exec_close(x);
    close_model(&m);
}

Test(sensitivity, is_what_a_changed_model_diverges_by)
{
    struct model m;
    open_model(&m, made());
    const qn_calibrate_options o = {.sensitivity = &m.feed, .noise = 0.01};
    OK(calibrate(&m, "s", &o));
    qn_stats_file f;
    OK(qn_stats_file_open(&f, qt_made_env(1), qt_made_path("s"), &err));
    cr_assert_eq(f.n_costs, f.n_items, "%u of %u weights", f.n_costs, f.n_items);
    const double *dense = logits_of(&m, NULL);
    qn_exec *x;
    OK(qn_exec_open(qt_made_env(2), m.graph, NULL, &x, &err));
    for (uint32_t i = 0; i < f.n_items; i++) {
        const qn_stats_item *it = &f.items[i];
        struct changed c = {.graph = m.graph, .value = qn_graph_find(m.graph, it->name)};
        const qn_value *v = &m.graph->values[c.value];
        const uint64_t rows = (uint64_t)v->dims[0], cols = (uint64_t)v->dims[1];
        float *w = malloc(rows * cols * sizeof *w);
        bool added;
        qn_noise s = {.env = qt_made_env(1), .input = UINT32_MAX};
        OK(qn_noise_prepare(&s, &f, it->input, &err));
        OK(qn_weight_from_source(qt_made_env(2), m.src, m.graph, c.value, 0, rows, w, &err));
        OK(qn_noise_add(&s, x, w, rows, cols, false, qn_hash64(it->key, strlen(it->key)), 0.01, &added, &err));
        c.w = w;
        const double want = kl_of(dense, logits_of(&m, &c));
        double a;
        cr_assert(added && qn_stats_sensitivity(&f, it, &a));
        cr_expect(fabs(it->cost->kl - want) <= 1e-6 + 1e-4 * want && it->cost->tokens == BATCHES * TOKENS && it->cost->noise == 0.01,
                  "%s: %g, not %g", it->name, it->cost->kl, want);
        cr_expect(want > 0 && fabs(a - it->cost->kl / 0.01) <= 1e-12 * a, "%s: %g", it->name, a);
        qn_noise_release(&s);
        free(w);
    }
    qn_exec_close(x);
    qn_stats_file_close(&f);
    close_model(&m);
}

static uint8_t *slurp(const char *name, size_t *n)
{
    uint8_t *b = qt_made_keep(malloc(1 << 20));
    FILE *f = fopen(qt_made_path(name), "rb");
    cr_assert_not_null(f, "%s", name);
    *n = fread(b, 1, 1 << 20, f);
    fclose(f);
    return b;
}

Test(sensitivity, stopped_and_gone_on_with)
{
    struct model m;
    size_t n, k;
    unsigned n_stops = 0;
    open_model(&m, made());
    qn_calibrate_options o = {.sensitivity = &m.feed, .noise = 0.01, .overwrite = true};
    OK(calibrate(&m, "whole", &o));
    const uint8_t *whole = slurp("whole", &n);
    for (m.fail_from = 2;; m.fail_from += 2) {
        m.n_fed = 0;
        if (calibrate(&m, "part", &o) == QN_OK)
            break;
        n_stops++;
        m.n_fed = 0;
        const uint32_t stop = m.fail_from;
        m.fail_from = 0;
        OK(calibrate(&m, "part", &o));
        m.fail_from = stop;
        const uint8_t *part = slurp("part", &k);
        cr_assert(n == k && memcmp(whole, part, n) == 0, "stopped at %u", stop);
    }
    cr_expect_gt(n_stops, 3u);
    close_model(&m);
}

Test(sensitivity, taken_over_and_merged)
{
    struct model m;
    open_model(&m, made());
    const qn_calibrate_options plain = {0};
    OK(calibrate(&m, "plain", &plain));
    qn_stats_file f, g, whole;
    OK(qn_stats_file_open(&f, qt_made_env(1), qt_made_path("plain"), &err));
    const qn_calibrate_options later = {.sensitivity = &m.feed, .noise = 0.01, .from = &f};
    OK(calibrate(&m, "later", &later));
    const qn_calibrate_options at_once = {.sensitivity = &m.feed, .noise = 0.01};
    OK(calibrate(&m, "at once", &at_once));
    OK(qn_stats_file_open(&g, qt_made_env(1), qt_made_path("later"), &err));
    OK(qn_stats_file_open(&whole, qt_made_env(1), qt_made_path("at once"), &err));
    cr_assert(g.n_items == whole.n_items && g.n_items == f.n_items && g.n_costs == g.n_items);
    for (uint32_t i = 0; i < g.n_items; i++) {
        const qn_stats_input *a = &g.inputs[g.items[i].input], *b = &whole.inputs[whole.items[i].input];
        cr_expect(qn_digest_equal(&a->vectors_digest, &b->vectors_digest) && qn_digest_equal(&a->h_digest, &b->h_digest) && a->count == b->count);
        cr_expect(g.items[i].cost->kl == whole.items[i].cost->kl, "%s", g.items[i].name);
    }
    /* one file has sensitivities, the other none: they stay */
    qn_stats_file *both[2] = {&f, &g}, sum;
    cr_expect_eq(qn_stats_merge(qt_made_env(1), qt_made_path("sum"), both, 2, true, false, &err), QN_E_INPUT, "the same data");
    OK(qn_stats_merge(qt_made_env(1), qt_made_path("sum"), &both[1], 1, true, false, &err));
    OK(qn_stats_file_open(&sum, qt_made_env(1), qt_made_path("sum"), &err));
    cr_assert_eq(sum.n_costs, g.n_costs);
    for (uint32_t i = 0; i < g.n_items; i++)
        cr_expect(sum.items[i].cost->kl == g.items[i].cost->kl && sum.items[i].cost->tokens == g.items[i].cost->tokens);
    qn_stats_file_close(&sum);
    qn_stats_file_close(&f);
    qn_stats_file_close(&g);
    qn_stats_file_close(&whole);
    close_model(&m);
}

/* Means over tokens: (2 · 10 + 5 · 30) / 40, by hand. */
Test(sensitivity, merged_by_tokens)
{
    static const struct {
        const char *name, *data;
        uint64_t tokens;
        double noise, kl;
    } part[2] = {{"p", "one", 10, 0.01, 0.02}, {"q", "two", 30, 0.02, 0.1}};
    qn_stats_file f[2], *list[2] = {&f[0], &f[1]}, sum;
    for (unsigned i = 0; i < 2; i++) {
        const float x[2] = {(float)i + 1, 3};
        qn_stats_source src = {.tokens = 1, .label = part[i].data};
        memcpy(src.digest.b, part[i].data, 4);
        const qn_stats_meta meta = {.tokens = 1, .n_sources = 1, .sources = &src};
        const qn_stats_cost c = {.name = "w", .expert = QN_STATS_NO_EXPERT, .tokens = part[i].tokens, .noise = part[i].noise, .kl = part[i].kl};
        qn_stats *s;
        qn_stats_entry *e;
        qn_stats_writer *w;
        OK(qn_stats_new(qt_made_env(1), NULL, &s, &err));
        OK(qn_stats_open(s, "w", QN_STATS_NO_EXPERT, 2, QN_STATS_H, &e, &err));
        OK(qn_stats_add(s, e, x, 1, 2, &err));
        OK(qn_stats_writer_open(&w, qt_made_env(1), qt_made_path(part[i].name), &meta, &(qn_stats_write_options){.overwrite = true}, &err));
        OK(qn_stats_flush(s, w, &err));
        OK(qn_stats_writer_add_cost(w, &c, &err));
        OK(qn_stats_writer_finish(w, NULL, &err));
        qn_stats_writer_close(w);
        qn_stats_free(s);
        OK(qn_stats_file_open(&f[i], qt_made_env(1), qt_made_path(part[i].name), &err));
    }
    double a = 0;
    OK(qn_stats_merge(qt_made_env(1), qt_made_path("pq"), list, 2, true, false, &err));
    OK(qn_stats_file_open(&sum, qt_made_env(1), qt_made_path("pq"), &err));
    cr_assert(sum.n_costs == 1 && qn_stats_sensitivity(&sum, &sum.items[0], &a));
    cr_expect(fabs(a - 4.25) < 1e-12 && sum.items[0].cost->tokens == 40, "%g", a);
    for (unsigned i = 0; i < 2; i++)
        qn_stats_file_close(&f[i]);
    qn_stats_file_close(&sum);
}
