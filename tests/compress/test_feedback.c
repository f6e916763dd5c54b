/* test_feedback.c: the error-feedback engine against a plain f64 computation of the same, and on second moments that are
 * anything but well behaved. */
#include "base/err.h"
#include "compress/feedback.h"
#include "tests/compress/moment.h"
#include "tests/support/made.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

/* ---- a quantizer that is a straight line: nothing flips when sums are rounded otherwise ---- */

static qn_code line_begin(const qn_quantizer *q, const qn_quant_layer *layer, qn_arena *a, const void **plan, qn_err *err)
{
    (void)q, (void)layer, (void)a, (void)err;
    *plan = NULL;
    return QN_OK;
}

struct line {
    uint32_t rows, n_visits, open; /* columns of the open group that are still to come */
    uint8_t seen[4096];
};

static qn_code line_segment(const qn_quantizer *q, const qn_quant_layer *layer, const void *plan, const qn_quant_segment *s,
                            void **state, qn_err *err)
{
    (void)q, (void)layer, (void)plan;
    struct line *l = qn_arena_get(s->scratch, sizeof *l, 8, err);
    cr_assert_not_null(l);
    *l = (struct line){.rows = s->rows};
    *state = l;
    return QN_OK;
}

static qn_code line_group(void *state, const uint32_t *cols, uint32_t n, const float *t, size_t ld, qn_err *err)
{
    struct line *l = state;
    (void)err;
    cr_assert_eq(l->open, 0, "the group before has %u columns to come", l->open);
    cr_assert(ld >= l->rows);
    for (uint32_t c = 0; c < n; c++) {
        cr_assert_eq(l->seen[cols[c]], 0);
        l->seen[cols[c]] = 1;
        cr_assert(isfinite(t[c * ld]));
    }
    l->open = n;
    return QN_OK;
}

static qn_code line_column(void *state, uint32_t j, const float *t, float *recon, qn_err *err)
{
    struct line *l = state;
    (void)err;
    cr_assert(l->open > 0 && l->seen[j] == 1, "column %u of another group", j);
    l->seen[j] = 2;
    l->open--;
    l->n_visits++;
    for (uint32_t i = 0; i < l->rows; i++)
        recon[i] = 0.75f * t[i] + 0.001f * (float)j;
    return QN_OK;
}

static qn_code line_finish(void *state, uint8_t *dst, size_t cap, size_t *n_out, qn_err *err)
{
    const struct line *l = state;
    (void)err;
    cr_assert(l->open == 0 && cap > 0);
    dst[0] = (uint8_t)l->n_visits;
    *n_out = 1;
    return QN_OK;
}

static const qn_quant_ops line_ops = {line_begin, line_segment, line_group, line_column, line_finish};

static size_t run(const qn_quantizer *q, const qn_ldl *l, const float *w, uint32_t rows, uint32_t block, bool compare,
                  qn_feedback_loss *loss, float *recon, uint8_t *payload, size_t cap)
{
    qn_arena scratch;
    qn_err err;
    size_t n_out = 0;
    qn_err_clear(&err);
    qn_arena_init(&scratch, NULL);
    const qn_quant_layer layer = {.name = "w", .rows = rows, .cols = l->n, .dtype = QN_F32, .weight = l->weight};
    const qn_feedback_job j = {.q = q, .layer = &layer, .ldl = l, .rows = rows, .w = w, .compare = compare, .want_energy = true,
                               .block = block};
    cr_assert_eq(qn_feedback_segment(&j, recon, payload, cap, &n_out, loss, &scratch, &err), QN_OK, "%s", err.text);
    cr_assert_eq(scratch.used_bytes, 0, "scratch was not given back");
    qn_arena_release(&scratch);
    return n_out;
}

/* The definition, column by column, in f64 with a factor of its own. */
static void reference(const double *h, const qn_ldl *l, const float *w, uint32_t rows, double *out)
{
    const uint32_t n = l->n;
    double *a = calloc((size_t)n * n, sizeof *a); /* lower factor, place p holds visit n − 1 − p */
    for (uint32_t p = 0; p < n; p++)
        for (uint32_t q = 0; q <= p; q++) {
            const uint32_t i = l->visit[n - 1 - p], j = l->visit[n - 1 - q];
            double s = h[(size_t)i * n + j] / l->scale + (i == j ? l->damping : 0);
            for (uint32_t k = 0; k < q; k++)
                s -= a[(size_t)p * n + k] * a[(size_t)q * n + k];
            a[(size_t)p * n + q] = p == q ? sqrt(s) : s / a[(size_t)q * n + q];
        }
    for (uint32_t p = 0; p < n; p++) {
        const double d = a[(size_t)p * n + p];
        cr_assert(fabs(l->weight[l->visit[n - 1 - p]] / (d * d) - 1) < 1e-9);
    }
    for (uint32_t i = 0; i < rows; i++)
        for (uint32_t p = n; p-- > 0;) {
            const uint32_t j = l->visit[n - 1 - p];
            double t = (double)w[(size_t)i * n + j];
            for (uint32_t k = p + 1; k < n; k++) {
                const uint32_t jk = l->visit[n - 1 - k];
                t += ((double)w[(size_t)i * n + jk] - out[(size_t)i * n + jk]) * a[(size_t)k * n + p] / a[(size_t)p * n + p];
            }
            out[(size_t)i * n + j] = 0.75 * t + 0.001 * j;
        }
    free(a);
}

Test(feedback, is_its_definition)
{
    static const uint32_t groups[] = {1, 5, 32, 40, 100, 150};
    enum { N = 150, ROWS = 19 };
    qt_rng r = qt_seed(1);
    double *h = moment(&r, N, 300), *want = malloc(N * ROWS * sizeof *want);
    float *w = weights(&r, ROWS, N), *got = malloc(N * ROWS * sizeof *got);
    const qn_quantizer q = {.ops = &line_ops, .name = "line"};
    for (unsigned g = 0; g < 6; g++)
        for (unsigned order = 0; order < 2; order++)
            for (uint32_t block = 0; block <= 200; block += block ? 67 : 1) {
                qn_ldl l = make_ldl(h, N, groups[g], (qn_ldl_order)order);
                qn_feedback_loss loss;
                uint8_t p[4];
                cr_assert_eq(l.kind, QN_LDL_FULL);
                reference(h, &l, w, ROWS, want);
                cr_assert_eq(run(&q, &l, w, ROWS, block, false, &loss, got, p, sizeof p), 1);
                cr_assert_eq(p[0], N);
                for (size_t i = 0; i < N * ROWS; i++)
                    cr_assert(fabs((double)got[i] - want[i]) < 2e-5, "group %u block %u at %zu: %g, %g", groups[g], block, i,
                              (double)got[i], want[i]);
                const double direct = loss_of(h, N, &l, w, got, ROWS), energy = loss_of(h, N, &l, w, NULL, ROWS);
                cr_assert(fabs(loss.fed / direct - 1) < 1e-5, "%g, %g", loss.fed, direct);
                cr_assert(fabs(loss.energy / energy - 1) < 1e-5, "%g, %g", loss.energy, energy);
                qn_ldl_release(&l);
            }
    free(h);
    free(want);
    free(w);
    free(got);
}

Test(feedback, act_order_takes_the_largest_first_and_keeps_groups)
{
    double h[6 * 6] = {0};
    static const double diag[6] = {1, 2, 9, 1, 5, 6}; /* groups of two: means 1.5, 5, 5.5 */
    for (unsigned i = 0; i < 6; i++)
        h[7 * i] = diag[i];
    qn_ldl l = make_ldl(h, 6, 2, QN_ORDER_ACT);
    static const uint32_t want[6] = {5, 4, 2, 3, 1, 0};
    cr_assert_eq(memcmp(l.visit, want, sizeof want), 0);
    cr_assert(l.n_groups == 3 && l.begins[1] == 2 && l.begins[3] == 6);
    cr_assert_eq(l.scale, 4);
    /* no correlation: the weights are the diagonal, and nothing is fed back */
    for (unsigned j = 0; j < 6; j++)
        cr_assert(fabs(l.weight[j] - (diag[j] / 4 + 1e-3)) < 1e-12);
    for (unsigned i = 0; i < 36; i++)
        cr_assert_eq(l.feed[i], 0);
    qn_ldl_release(&l);
    l = make_ldl(h, 6, 4, QN_ORDER_NATURAL);
    for (unsigned v = 0; v < 6; v++)
        cr_assert_eq(l.visit[v], v);
    cr_assert(l.n_groups == 2 && l.begins[1] == 4 && l.begins[2] == 6);
    qn_ldl_release(&l);
}

/* ---- with the grid: the identity again, and that feedback pays ---- */

static const qn_quantizer *grid(unsigned bits, uint32_t group, qn_arena *a)
{
    const qn_quant_settings set = {.bits = bits, .group = group};
    const qn_quantizer *q;
    cr_assert_eq(qn_quantizer_open("grid", &set, 0, a, &q, NULL), QN_OK);
    return q;
}

Test(feedback, identity_and_gain_on_grids)
{
    enum { N = 256, ROWS = 64 };
    qn_arena a;
    qn_arena_init(&a, NULL);
    qt_rng r = qt_seed(2);
    double *h = moment(&r, N, 600);
    float *w = weights(&r, ROWS, N), *got = malloc(N * ROWS * sizeof *got);
    uint8_t *p = malloc(4 * N * ROWS);
    for (unsigned bits = 2; bits <= 8; bits++)
        for (uint32_t group = 32; group <= 256; group *= 8) {
            qn_ldl l = make_ldl(h, N, group, QN_ORDER_ACT);
            qn_feedback_loss loss;
            cr_assert(run(grid(bits, group, &a), &l, w, ROWS, 0, true, &loss, got, p, 4 * N * ROWS) > 0);
            const double direct = loss_of(h, N, &l, w, got, ROWS);
            cr_assert(fabs(loss.loss / direct - 1) < 1e-4, "%u bits: %g, %g", bits, loss.loss, direct);
            cr_assert_lt(loss.fed, 0.7 * loss.nearest, "%u bits, group %u: %g, rounded %g", bits, group, loss.fed, loss.nearest);
            cr_assert(!loss.fell_back);
            qn_ldl_release(&l);
        }
    qn_arena_release(&a);
    free(h);
    free(w);
    free(got);
    free(p);
}

/* ---- hostile second moments: never worse than rounding, never a number that is none ---- */

static qn_feedback_loss survive(const double *h, uint32_t n, qn_ldl_kind kind, const char *what)
{
    enum { ROWS = 24 };
    qn_arena a;
    qn_arena_init(&a, NULL);
    qt_rng r = qt_seed(3);
    float *w = weights(&r, ROWS, n), *got = malloc((size_t)n * ROWS * sizeof *got);
    uint8_t *p = malloc(4 * (size_t)n * ROWS + 1000);
    double *copy = malloc((size_t)n * n * sizeof *copy);
    qn_feedback_loss loss;
    memcpy(copy, h, (size_t)n * n * sizeof *copy);
    qn_ldl l;
    cr_assert_eq(qn_ldl_make(&l, NULL, n, copy, NULL, n < 32 ? n : 32, QN_ORDER_ACT, 0, NULL), QN_OK);
    cr_assert_eq(l.kind, kind, "%s: kind %d", what, (int)l.kind);
    cr_assert(run(grid(4, 32, &a), &l, w, ROWS, 0, true, &loss, got, p, 4 * (size_t)n * ROWS + 1000) > 0, "%s", what);
    for (size_t i = 0; i < (size_t)n * ROWS; i++)
        cr_assert(isfinite(got[i]) && fabsf(got[i] - w[i]) < 1, "%s: %g for %g", what, (double)got[i], (double)w[i]);
    cr_assert(isfinite(loss.loss) && loss.loss <= loss.nearest, "%s: %g, rounded %g", what, loss.loss, loss.nearest);
    cr_assert(isfinite(l.spread) && l.spread >= 1 && isfinite(qn_ldl_unevenness(&l)), "%s", what);
    qn_ldl_release(&l);
    qn_arena_release(&a);
    free(w);
    free(got);
    free(p);
    free(copy);
    return loss;
}

Test(feedback, gauntlet)
{
    enum { N = 96 };
    qt_rng r = qt_seed(4);
    double *h = moment(&r, N, 1);
    survive(h, N, QN_LDL_FULL, "rank 1");
    free(h);
    h = moment(&r, N, 40);
    survive(h, N, QN_LDL_FULL, "rank 40 of 96");
    double *bad = malloc(N * N * sizeof *bad);
    memset(bad, 0, N * N * sizeof *bad);
    survive(bad, N, QN_LDL_REFUSED, "zero");
    memcpy(bad, h, N * N * sizeof *bad);
    bad[5 * N + 7] = (double)NAN;
    survive(bad, N, QN_LDL_REFUSED, "NaN off the diagonal");
    bad[5 * N + 7] = (double)INFINITY;
    survive(bad, N, QN_LDL_REFUSED, "Inf");
    memcpy(bad, h, N * N * sizeof *bad);
    bad[3 * N + 4] = bad[4 * N + 3] = 1e6 * h[0]; /* |H_34| > √(H_33 H_44): not a second moment */
    survive(bad, N, QN_LDL_DIAGONAL, "indefinite");
    memcpy(bad, h, N * N * sizeof *bad);
    bad[9 * N + 9] = -1;
    survive(bad, N, QN_LDL_FULL, "a negative diagonal element");
    memcpy(bad, h, N * N * sizeof *bad);
    for (unsigned j = 0; j < N; j++)
        bad[11 * N + j] = bad[j * N + 11] = 0;
    survive(bad, N, QN_LDL_FULL, "a dead column");
    for (unsigned i = 0; i < N; i++)
        for (unsigned j = 0; j < N; j++)
            bad[i * N + j] = h[i * N + j] * pow(10, -0.1 * (i + j)); /* condition 10^19 and more */
    survive(bad, N, QN_LDL_FULL, "condition");
    for (unsigned i = 0; i < N * N; i++)
        bad[i] = h[i] * 1e-200;
    survive(bad, N, QN_LDL_REFUSED, "tiny"); /* below what counts as seen */
    for (unsigned i = 0; i < N * N; i++)
        bad[i] = h[i] * 1e200;
    survive(bad, N, QN_LDL_FULL, "huge");
    const double one = 2;
    survive(&one, 1, QN_LDL_FULL, "one column");
    free(h);
    free(bad);
}

Test(feedback, dead_columns_do_not_matter)
{
    enum { N = 64, ROWS = 8 };
    qt_rng r = qt_seed(5);
    double *h = moment(&r, N, 200);
    for (unsigned j = 0; j < N; j++)
        for (unsigned k = 10; k < 14; k++)
            h[k * N + j] = h[j * N + k] = 0;
    qn_ldl l = make_ldl(h, N, 16, QN_ORDER_ACT);
    cr_assert_eq(l.n_dead, 4);
    for (unsigned k = 10; k < 14; k++)
        cr_assert_eq(l.weight[k], 0);
    float *w = weights(&r, ROWS, N), *got = malloc(N * ROWS * sizeof *got), *other = malloc(N * ROWS * sizeof *other);
    const qn_quantizer q = {.ops = &line_ops};
    qn_feedback_loss a, b;
    uint8_t p[4];
    (void)run(&q, &l, w, ROWS, 0, false, &a, got, p, sizeof p);
    for (unsigned i = 0; i < ROWS; i++)
        w[i * N + 12] += 100;
    (void)run(&q, &l, w, ROWS, 0, false, &b, other, p, sizeof p);
    cr_assert_eq(a.loss, b.loss);
    for (unsigned i = 0; i < ROWS * N; i++)
        cr_assert(i % N == 12 || got[i] == other[i]);
    qn_ldl_release(&l);
    free(h);
    free(w);
    free(got);
    free(other);
}

Test(feedback, without_statistics_every_column_weighs_the_same)
{
    enum { N = 64, ROWS = 8 };
    qt_rng r = qt_seed(6);
    qn_arena a;
    qn_arena_init(&a, NULL);
    qn_ldl l = make_ldl(NULL, N, 32, QN_ORDER_ACT);
    cr_assert(l.kind == QN_LDL_NONE && !l.weight && !l.feed);
    float *w = weights(&r, ROWS, N), *got = malloc(N * ROWS * sizeof *got);
    uint8_t p[4 * N * ROWS];
    qn_feedback_loss loss;
    cr_assert(run(grid(3, 32, &a), &l, w, ROWS, 0, true, &loss, got, p, sizeof p) > 0);
    cr_assert(isnan(loss.fed) && fabs(loss.loss / loss.error - 1) < 1e-6 && fabs(loss.energy / loss.square - 1) < 1e-6);
    cr_assert(loss.error < 0.06 * loss.square, "%g", loss.error / loss.square); /* a uniform 3-bit quantizer on a bell: 0.037 */
    qn_ldl_release(&l);
    qn_arena_release(&a);
    free(w);
    free(got);
}

Test(feedback, out_of_memory)
{
    enum { N = 40 };
    qt_rng r = qt_seed(7);
    double *h = moment(&r, N, 100), *copy = malloc(N * N * sizeof *copy);
    bool failed = true;
    unsigned n_failed = 0;
    for (uint64_t nth = 1; failed; nth++) {
        qn_ldl l;
        memcpy(copy, h, N * N * sizeof *copy);
        const qn_env *env = qt_made_env_short(nth);
        const qn_code rc = qn_ldl_make(&l, env->alloc, N, copy, NULL, 8, QN_ORDER_ACT, 0, NULL);
        failed = qt_made_memory_failed();
        n_failed += failed;
        cr_assert_eq(rc, failed ? QN_E_MEMORY : QN_OK);
        qn_ldl_release(&l);
    }
    cr_assert_eq(n_failed, 11, "%u", n_failed);
    free(h);
    free(copy);
}
