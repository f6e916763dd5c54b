/* test_polish.c: sweeps after error feedback against coordinate descent written out in f64; with real quantizers never worse, the
 * loss that is told the one that is defined, and the payload that of the reconstruction. */
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "compress/feedback.h"
#include "compress/grid_joint.h"
#include "tests/compress/moment.h"
#include "tests/support/made.h"

/* ---- a quantizer that shrinks: by a quarter in the pass, by a fiftieth when a column is done again ---- */

struct shrink {
    uint32_t rows, n_again;
    double share[256];
};

static struct shrink last; /* what the last state held */

static qn_code shrink_segment(const qn_quantizer *q, const qn_quant_layer *layer, const void *plan, const qn_quant_segment *s,
                              void **state, qn_err *err)
{
    (void)q, (void)layer, (void)plan, (void)err;
    last = (struct shrink){.rows = s->rows};
    *state = &last;
    return QN_OK;
}

static qn_code shrink_column(void *state, uint32_t j, const float *t, float *recon, qn_err *err)
{
    (void)err, (void)j;
    for (uint32_t i = 0; i < ((struct shrink *)state)->rows; i++)
        recon[i] = 0.75f * t[i];
    return QN_OK;
}

static qn_code shrink_again(void *state, uint32_t j, double share, const float *t, float *recon, qn_err *err)
{
    struct shrink *s = state;
    (void)err;
    s->n_again++;
    s->share[j] = share;
    for (uint32_t i = 0; i < s->rows; i++)
        recon[i] = 0.98f * t[i];
    return QN_OK;
}

static qn_code shrink_finish(void *state, uint8_t *dst, size_t cap, size_t *n_out, qn_err *err)
{
    (void)err;
    cr_assert_gt(cap, 0);
    dst[0] = (uint8_t)((struct shrink *)state)->n_again;
    *n_out = 1;
    return QN_OK;
}

static const qn_quant_ops shrink_ops = {.segment = shrink_segment, .column = shrink_column, .finish = shrink_finish};

static qn_code try(const qn_quantizer *q, const qn_ldl *l, qn_dtype t, const float *w, uint32_t rows, uint32_t sweeps, uint32_t block,
                   qn_feedback_loss *loss, float *recon, uint8_t *payload, size_t cap, size_t *n_out, const qn_alloc *alloc)
{
    qn_arena scratch;
    qn_err err;
    qn_err_clear(&err);
    qn_arena_init(&scratch, alloc);
    const qn_quant_layer layer = {.name = "w", .rows = rows, .cols = l->n, .dtype = t, .weight = l->weight, .sample = w,
                                  .n_sample = rows, .ldl = l};
    const void *plan = NULL;
    qn_arena a;
    qn_arena_init(&a, NULL);
    if (q->ops->begin)
        cr_assert_eq(q->ops->begin(q, &layer, &a, &plan, &err), QN_OK, "%s", err.text);
    const qn_feedback_job j = {.q = q, .layer = &layer, .plan = plan, .ldl = l, .rows = rows, .w = w, .want_energy = true,
                               .sweeps = sweeps, .block = block};
    const qn_code rc = qn_feedback_segment(&j, recon, payload, cap, n_out, loss, &scratch, &err);
    cr_assert(rc == QN_E_MEMORY || scratch.used_bytes == 0, "scratch was not given back");
    qn_arena_release(&scratch);
    qn_arena_release(&a);
    return rc;
}

static double *dense(const double *h, const qn_ldl *l)
{
    const uint32_t n = l->n;
    double *p = malloc((size_t)n * n * sizeof *p);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++)
            p[(size_t)i * n + j] = h[(size_t)i * n + j] / l->scale + (i == j ? l->damping : 0);
    return p;
}

Test(polish, moment_is_what_was_factored)
{
    enum { N = 90 };
    qt_rng r = qt_seed(11);
    double *h = moment(&r, N, 300);
    for (unsigned order = 0; order < 2; order++) {
        qn_ldl l = make_ldl(h, N, 10, (qn_ldl_order)order);
        double *want = dense(h, &l);
        cr_assert_eq(qn_ldl_moment(&l, NULL), QN_OK);
        for (uint32_t a = 0; a < N; a++)
            for (uint32_t b = 0; b < N; b++) {
                const uint32_t i = l.visit[a], j = l.visit[b];
                const double x = want[i * N + j], size = sqrt(want[i * N + i] * want[j * N + j]);
                cr_assert(fabs((double)l.moment[a * N + b] - x) < 1e-5 * size, "%u, %u: %g, %g", i, j, (double)l.moment[a * N + b], x);
            }
        free(want);
        qn_ldl_release(&l);
    }
    qn_ldl none = make_ldl(NULL, N, 10, QN_ORDER_NATURAL);
    cr_assert(qn_ldl_moment(&none, NULL) == QN_OK && !none.moment);
    qn_ldl_release(&none);
    free(h);
}

Test(polish, is_coordinate_descent)
{
    enum { N = 120, ROWS = 7, CAP = 16 };
    qt_rng r = qt_seed(12);
    double *h = moment(&r, N, 300), *want = malloc(N * ROWS * sizeof *want), *e = malloc(N * sizeof *e);
    float *w = weights(&r, ROWS, N), *got = malloc(N * ROWS * sizeof *got), *before = malloc(N * ROWS * sizeof *before);
    const qn_quantizer q = {.ops = &shrink_ops, .name = "shrink", .again = shrink_again};
    for (uint32_t block = 0; block <= 130; block += 43)
        for (unsigned order = 0; order < 2; order++) {
            qn_ldl l = make_ldl(h, N, 8, (qn_ldl_order)order);
            double *hh = dense(h, &l);
            qn_feedback_loss loss0, loss;
            uint8_t p[CAP];
            size_t n_out;
            cr_assert_eq(qn_ldl_moment(&l, NULL), QN_OK);
            cr_assert_eq(try(&q, &l, QN_F32, w, ROWS, 0, block, &loss0, before, p, CAP, &n_out, NULL), QN_OK);
            cr_assert(n_out == 1 && p[0] == 0);
            for (size_t i = 0; i < N * ROWS; i++)
                want[i] = (double)before[i];
            for (uint32_t s = 1; s <= 2; s++) {
                for (uint32_t i = 0; i < ROWS; i++)
                    for (uint32_t v = 0; v < N; v++) {
                        const uint32_t j = l.visit[v];
                        double sum = 0;
                        for (uint32_t k = 0; k < N; k++)
                            sum += ((double)w[i * N + k] - want[i * N + k]) * hh[k * N + j];
                        want[i * N + j] = 0.98 * (want[i * N + j] + sum / hh[j * N + j]);
                    }
                cr_assert_eq(try(&q, &l, QN_F32, w, ROWS, s, block, &loss, got, p, CAP, &n_out, NULL), QN_OK);
                cr_assert_eq(p[0], s * N);
                for (size_t i = 0; i < N * ROWS; i++)
                    cr_assert(fabs((double)got[i] - want[i]) < 2e-5, "block %u sweep %u at %zu: %g, %g", block, s, i, (double)got[i], want[i]);
                const double direct = loss_of(h, N, &l, w, got, ROWS);
                cr_assert(fabs(loss.loss / direct - 1) < 1e-4 && loss.loss < loss0.loss, "%g, %g, before %g", loss.loss, direct, loss0.loss);
            }
            for (uint32_t j = 0; j < N; j++)
                cr_assert(fabs(last.share[j] - l.weight[j] / hh[j * N + j]) < 1e-4);
            free(hh);
            qn_ldl_release(&l);
        }
    free(h);
    free(want);
    free(e);
    free(w);
    free(got);
    free(before);
}

static void decodes_to(const qn_quantizer *q, qn_dtype t, uint32_t rows, uint32_t cols, const uint8_t *p, size_t n, const float *want)
{
    qn_arena a;
    qn_err err;
    qn_err_clear(&err);
    qn_arena_init(&a, NULL);
    const qn_block b = {t, rows * cols, cols};
    const qn_dec_ctx cx = {.kern = &q->kern, .scratch = &a};
    uint8_t *got = malloc((size_t)b.n * 4);
    cr_assert_eq(qn_codec_decode(&cx, q->codec, &b, p, n, got, &err), QN_OK, "%s", err.text);
    for (uint32_t i = 0; i < b.n; i++) {
        const uint32_t u = t == QN_F32 ? qn_load32(got + 4 * (size_t)i) : (uint32_t)qn_load16(got + 2 * (size_t)i) << 16;
        cr_assert_eq(u, qn_f32_bits(want[i]), "at %u", i);
    }
    free(got);
    qn_arena_release(&a);
}

Test(polish, real_quantizers_lose_less_and_decode_to_what_was_judged)
{
    enum { N = 192, ROWS = 96, CAP = 4 * N * ROWS };
    static const struct { const char *name; double bits, most; } cases[] = {{"grid", 2, 0.9}, {"grid", 3, 0.97}, {"grid", 6, 1}, {"pvq", 2, 1}};
    qt_rng r = qt_seed(13);
    double *h = moment(&r, N, 600);
    float *w = weights(&r, ROWS, N), *got = malloc(N * ROWS * sizeof *got);
    uint8_t *p = malloc(CAP);
    for (unsigned c = 0; c < 4; c++)
        for (unsigned d = 0; d < 2; d++) {
            const qn_dtype t = d ? QN_BF16 : QN_F32;
            const qn_quant_settings set = {.bits = cases[c].bits};
            const qn_quantizer *q;
            qn_arena a;
            qn_arena_init(&a, NULL);
            cr_assert_eq(qn_quantizer_open(cases[c].name, &set, 0, &a, &q, NULL), QN_OK);
            qn_ldl l = make_ldl(h, N, q->group_cols ? q->group_cols : N, QN_ORDER_ACT);
            cr_assert_eq(qn_ldl_moment(&l, NULL), QN_OK);
            double before = HUGE_VAL;
            for (uint32_t s = 0; s <= 3; s++) {
                qn_feedback_loss loss;
                size_t n_out;
                cr_assert_eq(try(q, &l, t, w, ROWS, s, 0, &loss, got, p, CAP, &n_out, NULL), QN_OK);
                const double direct = loss_of(h, N, &l, w, got, ROWS);
                cr_assert(fabs(loss.loss / direct - 1) < 1e-4, "%s: %g, %g", q->name, loss.loss, direct);
                cr_assert(loss.loss <= before * (s == 1 ? cases[c].most : 1), "%s %g bits, sweep %u: %g after %g", q->name, cases[c].bits, s,
                          loss.loss, before);
                before = loss.loss;
                decodes_to(q, t, ROWS, N, p, n_out, got);
            }
            qn_ldl_release(&l);
            qn_arena_release(&a);
        }
    free(h);
    free(w);
    free(got);
    free(p);
}

Test(polish, what_cannot_be_swept_is_left_as_it_is)
{
    enum { N = 64, ROWS = 8, CAP = 4 * N * ROWS + 100 };
    qt_rng r = qt_seed(14);
    double *h = moment(&r, N, 200);
    for (unsigned j = 0; j < N; j++)
        for (unsigned k = 10; k < 14; k++)
            h[k * N + j] = h[j * N + k] = 0;
    float *w = weights(&r, ROWS, N), *got = malloc(N * ROWS * sizeof *got), *other = malloc(N * ROWS * sizeof *other);
    uint8_t p[CAP];
    size_t n_out;
    qn_feedback_loss a, b;
    const qn_quantizer q = {.ops = &shrink_ops, .again = shrink_again}, once = {.ops = &shrink_ops};
    qn_ldl l = make_ldl(h, N, 16, QN_ORDER_ACT);
    cr_assert_eq(try(&q, &l, QN_F32, w, ROWS, 0, 0, &a, got, p, CAP, &n_out, NULL), QN_OK);
    cr_assert_eq(try(&q, &l, QN_F32, w, ROWS, 3, 0, &b, other, p, CAP, &n_out, NULL), QN_OK); /* no moment */
    cr_assert(last.n_again == 0 && a.loss == b.loss);
    cr_assert_eq(qn_ldl_moment(&l, NULL), QN_OK);
    cr_assert_eq(try(&once, &l, QN_F32, w, ROWS, 3, 0, &b, other, p, CAP, &n_out, NULL), QN_OK);
    cr_assert(last.n_again == 0 && a.loss == b.loss);
    cr_assert_eq(try(&q, &l, QN_F32, w, ROWS, 1, 0, &b, other, p, CAP, &n_out, NULL), QN_OK);
    cr_assert_eq(last.n_again, N - 4);
    for (unsigned i = 0; i < ROWS; i++) /* dead columns */
        for (unsigned k = 10; k < 14; k++)
            cr_assert_eq(got[i * N + k], other[i * N + k]);
    qn_ldl_release(&l);
    free(h);
    free(w);
    free(got);
    free(other);
}

/* Σ_ab (e_a e_b) H_ab of one row */
static double quadratic(const double *hh, uint32_t n, const double *e)
{
    double sum = 0;
    for (uint32_t a = 0; a < n; a++)
        for (uint32_t b = 0; b < n; b++)
            sum += e[a] * e[b] * hh[a * n + b];
    return sum;
}

Test(polish, a_group_with_its_scale_is_the_change_of_loss_it_says)
{
    enum { N = 40, FIRST = 8, GROUP = 19, L = QN_GRID_LANES };
    qt_rng r = qt_seed(16);
    double *h = moment(&r, N, 100), e[N], g[N], moved[N];
    float hf[GROUP * GROUP], gf[GROUP * L], old[GROUP * L], scale[L], zero2[L], next[L], got[GROUP * L], change[L], room[GROUP * L];
    double err0[L][N];
    for (unsigned i = 0; i < L; i++) {
        scale[i] = 0.25f + 0.0625f * (float)qt_below(&r, 8);
        zero2[i] = i % 3 == 0 ? 15 : 2 * (float)qt_below(&r, 16);
        next[i] = i % 4 == 0 ? scale[i] : i % 4 == 1 ? scale[i] * 1.0625f : i % 4 == 2 ? scale[i] * 0.875f : 0;
        for (unsigned k = 0; k < N; k++)
            err0[i][k] = 0.2 * qt_normal(&r);
        for (unsigned j = 0; j < N; j++) {
            g[j] = 0;
            for (unsigned k = 0; k < N; k++)
                g[j] += err0[i][k] * h[k * N + j];
        }
        for (unsigned c = 0; c < GROUP; c++) {
            gf[c * L + i] = (float)g[FIRST + c];
            old[c * L + i] = 2 * (float)qt_below(&r, 16) - zero2[i];
        }
    }
    for (unsigned a = 0; a < GROUP; a++)
        for (unsigned b = 0; b < GROUP; b++)
            hf[a * GROUP + b] = (float)h[(FIRST + a) * N + FIRST + b];
    const qn_grid_joint j = {.n = GROUP, .top = 15, .h = hf, .ldh = GROUP, .g = gf, .old = old, .scale = scale, .zero2 = zero2};
    qn_grid_joint_try(&j, next, got, change, room);
    for (unsigned i = 0; i < L; i++) {
        memcpy(e, err0[i], sizeof e);
        memset(moved, 0, sizeof moved);
        for (unsigned c = 0; c < GROUP; c++) {
            const double code = 0.5 * ((double)got[c * L + i] + (double)zero2[i]);
            cr_assert(code >= 0 && code <= 15 && code == floor(code), "code %g", code);
            moved[c] = 0.5 * ((double)got[c * L + i] * (double)next[i] - (double)old[c * L + i] * (double)scale[i]);
            e[FIRST + c] -= moved[c];
        }
        const double before = quadratic(h, N, err0[i]), after = quadratic(h, N, e);
        cr_assert(fabs((after - before) - (double)change[i]) < 1e-4 * (before + after), "lane %u: %g, %g", i, after - before, (double)change[i]);
        if (i % 4 == 0)
            cr_assert_leq(change[i], 1e-4f * (float)before, "lane %u: worse with the scale it had", i);
        if (next[i] == 0)
            continue;
        /* the last column that was chosen is the best code for what all others are */
        const unsigned c = GROUP - 1, k = FIRST + c;
        double best = HUGE_VAL, here = 0;
        for (unsigned code = 0; code < 16; code++) {
            double x[N];
            memcpy(x, e, sizeof x);
            x[k] -= 0.5 * (double)next[i] * ((2.0 * code - (double)zero2[i]) - (double)got[c * L + i]);
            const double loss = quadratic(h, N, x);
            best = loss < best ? loss : best;
            here = 2.0 * code - (double)zero2[i] == (double)got[c * L + i] ? loss : here;
        }
        cr_assert(here <= best * (1 + 1e-5), "lane %u: %g, possible %g", i, here, best);
    }
    free(h);
}

Test(polish, out_of_memory)
{
    enum { N = 40, ROWS = 700 };
    qt_rng r = qt_seed(15);
    double *h = moment(&r, N, 100);
    float *w = weights(&r, ROWS, N), *got = malloc(N * ROWS * sizeof *got);
    uint8_t *p = malloc(4 * N * ROWS);
    const qn_quantizer q = {.ops = &shrink_ops, .again = shrink_again};
    qn_ldl l = make_ldl(h, N, 8, QN_ORDER_ACT);
    bool failed = true;
    unsigned n_failed = 0;
    for (uint64_t nth = 1; failed; nth++) {
        l.alloc = qt_made_env_short(nth)->alloc;
        qn_code rc = qn_ldl_moment(&l, NULL);
        failed = qt_made_memory_failed();
        cr_assert_eq(rc, failed ? QN_E_MEMORY : QN_OK);
        if (rc == QN_OK) {
            qn_feedback_loss loss;
            size_t n_out;
            rc = try(&q, &l, QN_F32, w, ROWS, 1, 0, &loss, got, p, 4 * N * ROWS, &n_out, l.alloc);
            failed = qt_made_memory_failed();
            cr_assert_eq(rc, failed ? QN_E_MEMORY : QN_OK);
        }
        n_failed += failed;
        qn_mem_put(l.alloc, l.moment);
        l.moment = NULL;
    }
    cr_assert(n_failed >= 4, "%u", n_failed);
    l.alloc = NULL;
    qn_ldl_release(&l);
    free(h);
    free(w);
    free(got);
    free(p);
}
