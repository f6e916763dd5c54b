/* test_sparsity.c: the smallest against sorting; patterns in all shapes; feedback against the optimum solved slowly; whole models. */
#include "compress/prune/sparsity_impl.h"
#include "tests/compress/prune/chain.h"
#include "tests/support/made.h"
#include "tests/support/ok.h"
#include "tests/support/testkit.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static qn_err err;

static const qn_alloc *heap(void)
{
    return qt_made_env(1)->alloc;
}

/* --- masks ------------------------------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

Test(sparsity, smallest_are_those_that_sorting_puts_in_front)
{
    enum { N = 700 };
    qt_rng r = qt_seed(1);
    for (unsigned round = 0; round < 40; round++) {
        float v[N], sorted[N];
        uint8_t zero[N];
        for (unsigned i = 0; i < N; i++) /* many ties in some rounds */
            v[i] = round % 2 ? (float)qt_below(&r, 9) : fabsf((float)qt_normal(&r)) * powf(10, (float)(i % 13) - 6);
        memcpy(sorted, v, sizeof v);
        qsort(sorted, N, sizeof *v, by_value);
        const uint64_t k = round < 2 ? 0 : round < 4 ? N : qt_below(&r, N);
        OK(qn_mark_smallest(heap(), v, N, k, zero, &err));
        uint64_t n = 0;
        bool tie_left = false;
        for (unsigned i = 0; i < N; i++) {
            n += zero[i];
            if (k && zero[i])
                cr_assert(v[i] <= sorted[k - 1]);
            if (k && !zero[i])
                cr_assert(v[i] >= sorted[k - 1]);
            /* of equals the first go */
            if (k && v[i] == sorted[k - 1]) {
                cr_assert(!(tie_left && zero[i]));
                tie_left |= !zero[i];
            }
        }
        cr_assert_eq(n, k, "round %u: %u, not %u", round, (unsigned)n, (unsigned)k);
    }
}

Test(sparsity, patterns_hold_in_every_shape)
{
    qt_rng r = qt_seed(2);
    for (uint32_t of = 2; of <= 16; of *= 2)
        for (uint32_t keep = 1; keep < of; keep += keep)
            for (uint32_t channels = 1; channels <= 21; channels++)
                for (uint32_t per = 1; per <= 9; per += 4) {
                    const qn_nm p = {.n_cols = channels * per, .per = per, .keep = keep, .of = of};
                    float score[21 * 9];
                    uint8_t zero[21 * 9], seen[21 * 9] = {0};
                    uint32_t cols[16];
                    memset(zero, 7, sizeof zero);
                    for (uint32_t i = 0; i < p.n_cols; i++)
                        score[i] = (float)qt_below(&r, 20);
                    for (uint32_t run = 0; run < qn_nm_runs(&p); run++) {
                        const uint32_t n = qn_nm_run(&p, run, cols);
                        cr_assert(n >= 1 && n <= of);
                        qn_nm_mark(&p, score, cols, n, zero);
                        for (uint32_t i = 0; i < n; i++) {
                            cr_assert_eq(qn_nm_run_of(&p, cols[i]), run);
                            seen[cols[i]]++;
                        }
                    }
                    /* channel c at place q: c · per + q; runs of `of` channels at one place, counted here for themselves */
                    for (uint32_t q = 0; q < per; q++)
                        for (uint32_t c = 0; c < channels; c += of) {
                            uint32_t n_kept = 0, n = 0;
                            float least_kept = INFINITY, most_gone = -1;
                            for (uint32_t i = c; i < c + of && i < channels; i++, n++) {
                                const uint32_t col = i * per + q;
                                cr_assert(seen[col] == 1 && zero[col] <= 1);
                                n_kept += !zero[col];
                                if (zero[col])
                                    most_gone = fmaxf(most_gone, score[col]);
                                else
                                    least_kept = fminf(least_kept, score[col]);
                            }
                            cr_assert_eq(n_kept, n < keep ? n : keep);
                            cr_assert(most_gone <= least_kept);
                        }
                }
}

/* --- feedback --------------------------------------------------------------------------------------------------------- */

enum { ROWS = 5, COLS = 22 };

/* x A = b for symmetric A (n × n, destroyed), by elimination with pivots. */
static void solve(double *a, double *b, unsigned n)
{
    for (unsigned k = 0; k < n; k++) {
        unsigned p = k;
        for (unsigned i = k; i < n; i++)
            p = fabs(a[i * COLS + k]) > fabs(a[p * COLS + k]) ? i : p;
        for (unsigned j = 0; j < n; j++) {
            const double swap = a[k * COLS + j];
            a[k * COLS + j] = a[p * COLS + j];
            a[p * COLS + j] = swap;
        }
        const double swap = b[k];
        b[k] = b[p];
        b[p] = swap;
        for (unsigned i = k + 1; i < n; i++) {
            const double f = a[i * COLS + k] / a[k * COLS + k];
            for (unsigned j = k; j < n; j++)
                a[i * COLS + j] -= f * a[k * COLS + j];
            b[i] -= f * b[k];
        }
    }
    for (unsigned k = n; k-- > 0;) {
        for (unsigned j = k + 1; j < n; j++)
            b[k] -= a[k * COLS + j] * b[j];
        b[k] /= a[k * COLS + k];
    }
}

/* With the errors of columns before v as they are, the errors of v and all behind it that are best. */
static double best_error(double h[COLS][COLS], const double *e, unsigned v)
{
    double a[COLS * COLS], b[COLS];
    for (unsigned i = v; i < COLS; i++) {
        b[i - v] = 0;
        for (unsigned k = 0; k < v; k++)
            b[i - v] -= e[k] * h[k][i];
        for (unsigned j = v; j < COLS; j++)
            a[(i - v) * COLS + j - v] = h[i][j];
    }
    solve(a, b, COLS - v);
    return b[0];
}

static double trace(double h[COLS][COLS], const float *w0, const float *w)
{
    double sum = 0;
    for (unsigned r = 0; r < ROWS; r++)
        for (unsigned i = 0; i < COLS; i++)
            for (unsigned j = 0; j < COLS; j++)
                sum += ((double)w0[r * COLS + i] - (double)w[r * COLS + i]) * h[i][j] * ((double)w0[r * COLS + j] - (double)w[r * COLS + j]);
    return sum;
}

Test(sparsity, feedback_is_the_best_answer_to_the_zeros_so_far)
{
    qt_rng r = qt_seed(3);
    for (unsigned way = 0; way < 4; way++) {
        double h[COLS][COLS] = {{0}}, x[COLS], mean = 0;
        float w0[ROWS * COLS], w[ROWS * COLS], plain[ROWS * COLS];
        uint8_t mask[ROWS * COLS];
        bool done;
        /* 1: runs of 4, ragged; 2: two places a channel; 3: 1 of 8 */
        const qn_nm p = {.n_cols = COLS, .per = way == 2 ? 2 : 1, .keep = way == 3 ? 1 : 2, .of = way == 3 ? 8 : 4};
        for (unsigned n = 0; n < 60; n++) {
            for (unsigned i = 0; i < COLS; i++)
                x[i] = qt_normal(&r) + (i ? 0.8 * x[i - 1] : 0);
            for (unsigned i = 0; i < COLS; i++)
                for (unsigned j = 0; j < COLS; j++)
                    h[i][j] += x[i] * x[j];
        }
        for (unsigned i = 0; i < ROWS * COLS; i++)
            w[i] = w0[i] = (float)qt_normal(&r);
        double *taken = qn_mem_get(heap(), sizeof h, &err);
        memcpy(taken, h, sizeof h);
        OK(qn_sparse_feedback(heap(), w, ROWS, COLS, taken, 0.5, way ? &p : NULL, mask, &done, &err));
        cr_assert(done);
        for (unsigned i = 0; i < COLS; i++)
            mean += h[i][i] / COLS;
        for (unsigned i = 0; i < COLS; i++)
            h[i][i] += 1e-3 * mean; /* QN_LDL_DAMPING */
        unsigned n_zero = 0;
        for (unsigned row = 0; row < ROWS; row++) {
            double e[COLS];
            for (unsigned v = 0; v < COLS; v++) {
                const unsigned at = row * COLS + v;
                const double want = mask[at] ? 0 : (double)w0[at] - best_error(h, e, v);
                cr_assert(fabs((double)w[at] - want) < 2e-4 * (1 + fabs(want)), "way %u, row %u, column %u: %g, not %g", way, row, v, (double)w[at], want);
                e[v] = (double)w0[at] - (double)w[at];
                n_zero += mask[at];
                plain[at] = mask[at] ? 0 : w0[at];
            }
        }
        cr_expect_lt(trace(h, w0, w), trace(h, w0, plain));
        if (!way)
            cr_expect_eq(n_zero, ROWS * COLS / 2u);
        uint32_t cols[8];
        for (uint32_t run = 0; way && run < qn_nm_runs(&p); run++) {
            const uint32_t n = qn_nm_run(&p, run, cols);
            for (unsigned row = 0; row < ROWS; row++) {
                uint32_t kept = 0;
                for (uint32_t i = 0; i < n; i++)
                    kept += w[row * COLS + cols[i]] != 0;
                cr_assert_leq(kept, p.keep);
            }
        }
    }
}

Test(sparsity, blocks_of_feedback_are_one_computation)
{
    /* wider than a block: the sums that cross it are a product of matrices */
    enum { R = 3, C = 300 };
    qt_rng r = qt_seed(4);
    float *w = qt_made_keep(malloc(2 * R * C * sizeof *w)), *w0 = w + R * C;
    double *h = qn_mem_get(heap(), C * C * sizeof *h, &err), x[C], *copy = qt_made_keep(malloc(C * C * sizeof *h));
    uint8_t mask[R * C];
    bool done;
    const qn_nm p = {.n_cols = C, .per = 1, .keep = 2, .of = 4};
    memset(h, 0, C * C * sizeof *h);
    for (unsigned n = 0; n < 900; n++) {
        for (unsigned i = 0; i < C; i++)
            x[i] = qt_normal(&r) + (i ? 0.7 * x[i - 1] : 0);
        for (unsigned i = 0; i < C; i++)
            for (unsigned j = 0; j < C; j++)
                h[i * C + j] += x[i] * x[j];
    }
    memcpy(copy, h, C * C * sizeof *h);
    for (unsigned i = 0; i < R * C; i++)
        w0[i] = w[i] = (float)qt_normal(&r);
    OK(qn_sparse_feedback(heap(), w, R, C, h, 0, &p, mask, &done, &err));
    cr_assert(done);
    /* at the end the gradient of what is left is that of the recursion: for the last column, which stays or not, all others given */
    double after = 0, plain = 0;
    for (unsigned row = 0; row < R; row++)
        for (unsigned i = 0; i < C; i++)
            for (unsigned j = 0; j < C; j++) {
                const unsigned a = row * C + i, b = row * C + j;
                after += (double)(w0[a] - w[a]) * copy[i * C + j] * (double)(w0[b] - w[b]);
                plain += (mask[a] ? (double)w0[a] : 0) * copy[i * C + j] * (mask[b] ? (double)w0[b] : 0);
            }
    cr_expect(after < 0.75 * plain, "%g, %g", after, plain);
    for (unsigned i = 0; i < R * C; i++)
        cr_assert(!mask[i] || w[i] == 0);
}

/* --- models -------------------------------------------------------------------------------------------------------------- */

static const uint32_t width[] = {48, 33, 18, 0};

static uint64_t zeros_of(const qn_overlay *w, const char *name, const float **p, uint64_t *n)
{
    const uint32_t v = qn_graph_find(w->graph, name);
    uint64_t k = 0;
    cr_assert_not_null(w->data[v], "%s", name);
    *p = w->data[v];
    *n = qn_value_elems(&w->graph->values[v]);
    for (uint64_t i = 0; i < *n; i++)
        k += w->data[v][i] == 0;
    return k;
}

static const char *const weights[] = {"w0", "w1", "w2", "w3"};
static const uint32_t ins[] = {QT_MLP_IN, 48, 33, 18};

Test(sparsity, shares_are_exact)
{
    qt_chain m;
    const float *p;
    uint64_t n;
    qt_chain_open(&m, 1, width, NULL, 4, 20);
    for (unsigned by = 0; by < 4; by++) {
        qn_overlay *w;
        qn_sparsity_report rep;
        const qn_sparsity_options o = {.kind = QN_SPARSITY_RATIO, .ratio = 0.37, .by = by == 3 ? QN_SPARSITY_MAGNITUDE : (qn_sparsity_by)by, .global = by == 3};
        uint64_t all = 0, gone = 0;
        OK(qn_overlay_new(m.env, m.graph, &w, &err));
        OK(qn_sparsify(m.env, m.graph, &m.feed, NULL, &o, w, &rep, &err));
        cr_assert_eq(rep.n_tensors, 4);
        for (unsigned i = 0; i < 4; i++) {
            const uint64_t k = zeros_of(w, weights[i], &p, &n);
            all += n;
            gone += k;
            cr_expect(rep.tensors[i].n == n && rep.tensors[i].n_zero == k);
            cr_expect_eq(isnan(rep.tensors[i].error), by == 0 || by == 3);
            if (by == QN_SPARSITY_MAGNITUDE)
                cr_expect_eq(k, (uint64_t)(0.37 * (double)n + 0.5));
            for (uint64_t row = 0; by == QN_SPARSITY_WANDA && row < n / ins[i]; row++) {
                uint64_t here = 0;
                for (uint32_t c = 0; c < ins[i]; c++)
                    here += p[row * ins[i] + c] == 0;
                cr_assert_eq(here, (uint64_t)(0.37 * ins[i] + 0.5));
            }
        }
        cr_expect(rep.n == all && rep.n_zero == gone && fabs(rep.ratio - 0.37) < 0.01, "%g", rep.ratio);
        if (by == 3)
            cr_expect_eq(gone, (uint64_t)(0.37 * (double)all + 0.5));
        qn_sparsity_report_release(&rep);
        qn_overlay_free(w);
    }
    qt_chain_close(&m);
}

Test(sparsity, patterns_of_models_and_what_they_cost)
{
    double loss[3][2];
    for (unsigned threads = 1; threads <= 2; threads++) {
        qt_chain m;
        qn_measure *s;
        qt_chain_open(&m, threads, width, NULL, 40, 21);
        OK(qn_measure_open(m.env, m.graph, &m.feed, 0, 0, &s, &err));
        for (unsigned by = 0; by < 3; by++) {
            qn_overlay *w;
            qn_sparsity_report rep;
            const qn_sparsity_options o = {.kind = QN_SPARSITY_PATTERN, .keep = 2, .of = 4, .by = (qn_sparsity_by)by};
            OK(qn_overlay_new(m.env, m.graph, &w, &err));
            OK(qn_sparsify(m.env, m.graph, &m.feed, s, &o, w, &rep, &err));
            for (unsigned i = 0; i < 4; i++) {
                const float *p;
                uint64_t n;
                (void)zeros_of(w, weights[i], &p, &n);
                for (uint64_t row = 0; row < n / ins[i]; row++)
                    for (uint32_t c = 0; c < ins[i]; c += 4) {
                        unsigned kept = 0;
                        for (uint32_t k = c; k < c + 4 && k < ins[i]; k++)
                            kept += p[row * ins[i] + k] != 0;
                        cr_assert_leq(kept, 2u, "%s", weights[i]);
                    }
            }
            loss[by][threads - 1] = rep.distance.loss;
            qn_sparsity_report_release(&rep);
            qn_overlay_free(w);
        }
        qn_measure_close(s);
        qt_chain_close(&m);
    }
    for (unsigned by = 0; by < 3; by++)
        cr_expect_eq(loss[by][0], loss[by][1]);
    cr_expect(loss[QN_SPARSITY_FEEDBACK][0] < loss[QN_SPARSITY_MAGNITUDE][0] && loss[QN_SPARSITY_MAGNITUDE][0] > 0, "%g %g %g", loss[0][0], loss[1][0],
              loss[2][0]);
}

Test(sparsity, knee_is_the_last_share_that_is_good_enough)
{
    static const uint32_t live[] = {16, 33, 18};
    qt_chain m;
    qn_measure *s;
    qt_chain_open(&m, 1, width, live, 8, 22);
    OK(qn_measure_open(m.env, m.graph, &m.feed, 0, 0, &s, &err));
    qn_overlay *w;
    qn_sparsity_report rep;
    qn_sparsity_options o = {.kind = QN_SPARSITY_KNEE, .global = true, .loss = 0.02};
    OK(qn_overlay_new(m.env, m.graph, &w, &err));
    OK(qn_sparsify(m.env, m.graph, NULL, s, &o, w, &rep, &err));
    const double at = rint(rep.ratio * 100) / 100;
    cr_expect(rep.distance.loss <= 0.02 && at > 0.1 && at < 0.9 && rep.n_curve > 4, "%g at %g", rep.distance.loss, at);
    double next = 0;
    for (uint32_t i = 0; i < rep.n_curve; i++)
        next = fabs(rep.curve[i][0] - at - 0.01) < 1e-9 ? rep.curve[i][1] : next;
    cr_expect(next > 0.02, "a hundredth more costs %g", next);
    qn_sparsity_report_release(&rep);
    qn_overlay_free(w);
    qn_measure_close(s);
    qt_chain_close(&m);
}

Test(sparsity, what_is_left_alone_and_what_is_refused)
{
    qt_chain m;
    qn_overlay *w;
    qn_sparsity_report rep;
    qt_chain_open(&m, 1, width, NULL, 2, 23);
    uint8_t *skip = qt_made_keep(calloc(m.graph->n_values, 1));
    skip[qn_graph_find(m.graph, "w1")] = 1;
    OK(qn_overlay_new(m.env, m.graph, &w, &err));
    qn_sparsity_options o = {.kind = QN_SPARSITY_RATIO, .ratio = 0.5, .skip = skip};
    OK(qn_sparsify(m.env, m.graph, NULL, NULL, &o, w, &rep, &err));
    cr_expect(rep.n_tensors == 3 && !w->data[qn_graph_find(m.graph, "w1")] && w->data[qn_graph_find(m.graph, "w2")]);
    qn_sparsity_report_release(&rep);
    static const qn_sparsity_options bad[] = {
        {.kind = QN_SPARSITY_RATIO, .ratio = 0},
        {.kind = QN_SPARSITY_RATIO, .ratio = 1},
        {.kind = QN_SPARSITY_PATTERN, .keep = 4, .of = 4},
        {.kind = QN_SPARSITY_PATTERN, .keep = 0, .of = 4},
        {.kind = QN_SPARSITY_PATTERN, .keep = 2, .of = 4, .global = true},
        {.kind = QN_SPARSITY_RATIO, .ratio = 0.5, .by = QN_SPARSITY_WANDA},
        {.kind = QN_SPARSITY_KNEE},
    };
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        qn_err_clear(&err);
        cr_expect_eq(qn_sparsify(m.env, m.graph, NULL, NULL, &bad[i], w, &rep, &err), QN_E_USAGE, "%u", i);
    }
    qn_overlay_free(w);
    qt_chain_close(&m);
}

Test(sparsity, cubic_schedule)
{
    cr_expect_eq(qn_sparsity_cubic(0.1, 0.9, 5, 10, 20), 0.1);
    cr_expect_eq(qn_sparsity_cubic(0.1, 0.9, 20, 10, 20), 0.9);
    cr_expect(fabs(qn_sparsity_cubic(0, 0.8, 15, 10, 20) - 0.7) < 1e-12); /* 0.8 (1 − 1/8) */
    double before = 0;
    for (uint64_t i = 0; i < 30; i++) {
        const double s = qn_sparsity_cubic(0.1, 0.9, i, 10, 20);
        cr_expect(s >= before);
        before = s;
    }
}
